"""Rules that were handed over and say a tier: the models that this stands for in the window.

Belongs here: choosing these models, and saying so. Does not belong here: what a gateway's own router calls a tier (`gateways.tiers`).
"""

from __future__ import annotations

from routing_pipeline.rules.model import RuleSet
from routing_pipeline.rules.tiers import TIER, models_of, plain_models, tiers_named, tiers_of, without_tiers
from routing_pipeline.window.scope import AnalysisScope


def with_models(rule_set: RuleSet, scope: AnalysisScope) -> tuple[RuleSet, tuple[str, ...]]:
    """The rules with models in the place of tiers, and what each tier was taken for; as they are where none is named.

    A tier is that of the configuration and of the price list; its models are those of the configuration, of the rules and of the window.

    Raises:
        UnusableInputError: no such tier is known.
    """
    named = tiers_named(rule_set)
    if not named:
        return rule_set, ()
    overrides = scope.parameters.models
    tiers = tiers_of([*overrides, *plain_models(rule_set), *scope.models], overrides)
    found = rule_set.model_copy(update={"rules": tuple(without_tiers(rule, tiers) for rule in rule_set.rules)})
    said = (f"{TIER}{tier} stands for {', '.join(models_of(rule_set.rules[0].id, tier, tiers))}, in equal parts." for tier in named)
    return found, tuple(said)
