"""Models of each tier, for rules that name one.

Belongs here: where tiers are known from. Does not belong here: putting models in their place (`rules.tiers`).
"""

from __future__ import annotations

from pathlib import Path

from routing_pipeline.gateways import litellm
from routing_pipeline.gateways.exported import laid_out, read_yaml
from routing_pipeline.parameters import read_parameters
from routing_pipeline.rules.model import RuleSet
from routing_pipeline.rules.tiers import plain_models, tiers_named, tiers_of


def tiers_for(rule_set: RuleSet, current: str | None, config: Path | None) -> dict[str, list[str]]:
    """Models of each tier: those of the gateway's own router, and those of the configuration and of the price list.

    Raises:
        UnusableInputError: what runs, or the configuration, cannot be read.
    """
    found: dict[str, list[str]] = {}
    if not tiers_named(rule_set):
        return found
    content = read_yaml(current, "--current") if current is not None else None
    overrides = read_parameters(config).models
    models = [*overrides, *plain_models(rule_set)]
    if litellm.recognises(content):
        with laid_out("--current"):
            found.update(litellm.tiers_of(content))
            models += litellm.models_of(content)
    for tier, of_tier in tiers_of(models, overrides).items():
        found.setdefault(tier, []).extend(of_tier)
    return found
