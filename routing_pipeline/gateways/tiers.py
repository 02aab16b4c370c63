"""Models of each tier, for rules that name one.

Belongs here: where tiers are known from. Does not belong here: putting models in their place (`planned`).
"""

from __future__ import annotations

from pathlib import Path

from routing_pipeline.catalog import Catalog
from routing_pipeline.gateways import litellm
from routing_pipeline.gateways.exported import read_yaml
from routing_pipeline.gateways.planned import TIER, plain_models
from routing_pipeline.parameters import read_parameters
from routing_pipeline.rules.model import RuleSet


def tiers_for(rule_set: RuleSet, current: str | None, config: Path | None) -> dict[str, list[str]]:
    """Models of each tier: those of the gateway's own router, and those of the configuration and of the price list."""
    named = plain_models(rule_set)
    found: dict[str, list[str]] = {}
    if not any(model.startswith(TIER) for model in named):
        return found
    content = read_yaml(current, "--current") if current is not None else None
    overrides = read_parameters(config).models
    models = [*overrides, *(model for model in named if not model.startswith(TIER))]
    if litellm.recognises(content):
        found.update(litellm.tiers_of(content))
        models += litellm.models_of(content)
    catalog = Catalog(overrides)
    for model in dict.fromkeys(models):
        tier = catalog.model(model).tier
        if tier is not None:
            found.setdefault(tier, []).append(model)
    return found
