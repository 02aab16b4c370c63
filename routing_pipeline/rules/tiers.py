"""Rules that say a tier: its models in the place of its name.

Belongs here: what a tier's name looks like as a model, which models a tier has by price list and configuration, putting them in its
place in equal parts. Does not belong here: the tiers of a gateway's own router (`gateways.tiers`).
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping

from routing_pipeline.catalog import Catalog
from routing_pipeline.errors import UnusableInputError, did_you_mean
from routing_pipeline.parameters import ModelOverride
from routing_pipeline.rules.model import Rule, RuleSet, WeightedModel
from routing_pipeline.text import LogName, name as shown

TIER = "tier:"
"""A model of this name with a tier after it stands for the models of that tier."""


def plain_models(rule_set: RuleSet) -> list[str]:
    """Every model that routes and fallbacks name, tiers among them."""
    routed = [str(target.model) for rule in rule_set.rules if not isinstance(rule.route, str) for target in rule.route]
    return list(dict.fromkeys([*routed, *(str(each) for rule in rule_set.rules for each in rule.fallbacks)]))


def tiers_named(rule_set: RuleSet) -> list[str]:
    """The tiers that its routes and fallbacks name."""
    return [model.removeprefix(TIER) for model in plain_models(rule_set) if model.startswith(TIER)]


def tiers_of(models: Iterable[str], overrides: Mapping[str, ModelOverride]) -> dict[str, list[str]]:
    """Models of each tier, as the configuration has them, else the price list."""
    catalog, found = Catalog(overrides), dict[str, list[str]]()
    for model in dict.fromkeys(models):
        tier = None if model.startswith(TIER) else catalog.model(model).tier
        if tier is not None:
            found.setdefault(tier, []).append(model)
    return found


def with_models(rule_set: RuleSet, tiers: Mapping[str, Collection[str]]) -> tuple[RuleSet, tuple[str, ...]]:
    """The rules with models in the place of tiers, and a sentence for each tier on what it was taken for.

    Raises:
        UnusableInputError: a tier that they name has no models.
    """
    found = rule_set.model_copy(update={"rules": tuple(without_tiers(rule, tiers) for rule in rule_set.rules)})
    said = (
        f"{TIER}{tier} stands for {', '.join(models_of(rule_set.rules[0].id, tier, tiers))}, in equal parts."
        for tier in tiers_named(rule_set)
    )
    return found, tuple(said)


def without_tiers(rule: Rule, tiers: Mapping[str, Collection[str]]) -> Rule:
    """The rule with the models of each tier that it names, in equal parts.

    Raises:
        UnusableInputError: it names a tier without models.
    """
    if isinstance(rule.route, str):
        return rule
    targets: dict[str, float] = {}
    for target in rule.route:
        models = [str(target.model)]
        if target.model.startswith(TIER):
            models = models_of(rule.id, target.model.removeprefix(TIER), tiers)
        for model in models:
            targets[model] = targets.get(model, 0.0) + target.weight / len(models)
    fallbacks: list[str] = []
    for each in rule.fallbacks:
        fallbacks += models_of(rule.id, each.removeprefix(TIER), tiers) if each.startswith(TIER) else [str(each)]
    return rule.model_copy(
        update={
            "route": tuple(WeightedModel(model=LogName(model), weight=min(weight, 1.0)) for model, weight in targets.items()),
            "fallbacks": tuple(LogName(each) for each in dict.fromkeys(fallbacks)),
        }
    )


def models_of(rule_id: str, tier: str, tiers: Mapping[str, Collection[str]]) -> list[str]:
    """The models of a tier that a rule names.

    Raises:
        UnusableInputError: it has none.
    """
    known = {name.casefold(): sorted(models) for name, models in tiers.items() if models}
    if tier.casefold() not in known:
        near = did_you_mean(tier, tiers) or (
            f"; known are {', '.join(sorted(tiers))}" if tiers else "; name its models in the configuration"
        )
        raise UnusableInputError(f"rule {shown(rule_id)}: no model of tier {shown(tier)} is known{near}")
    return known[tier.casefold()]
