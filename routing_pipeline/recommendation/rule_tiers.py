"""Rules that were handed over and say a tier: the models that this stands for in the window.

Belongs here: choosing these models, and saying so. Does not belong here: what a gateway's own router calls a tier (`gateways.tiers`).
"""

from __future__ import annotations

from routing_pipeline.rules.model import RuleSet
from routing_pipeline.rules.tiers import plain_models, tiers_named, tiers_of, with_models
from routing_pipeline.window.scope import AnalysisScope


def resolved(rule_set: RuleSet, scope: AnalysisScope) -> tuple[RuleSet, tuple[str, ...]]:
    """The rules with models in the place of tiers, and what each tier was taken for; as they are where none is named.

    A tier is that of the configuration and of the price list; its models are those of the configuration, of the rules and of the window.

    Raises:
        UnusableInputError: no such tier is known.
    """
    if not tiers_named(rule_set):
        return rule_set, ()
    overrides = scope.parameters.models
    return with_models(rule_set, tiers_of([*overrides, *plain_models(rule_set), *scope.models], overrides))
