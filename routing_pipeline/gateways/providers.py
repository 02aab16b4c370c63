"""Who serves a model, as gateways call them, where no present configuration says it.

Belongs here: names of providers and of the variables that hold their keys. Does not belong here: prices (`catalog`).
"""

from __future__ import annotations

from routing_pipeline.catalog import Catalog

SPELT = {"google": "gemini", "aws": "bedrock", "x-ai": "xai", "mistralai": "mistral"}
"""Providers of the price list by the names that gateways give them."""


def provider_of(model: str) -> str:
    """The provider by its name in the model's, else as the price list knows the model; openai's protocol where nobody knows."""
    if "/" in model:
        return model.partition("/")[0]
    found = Catalog().model(model).provider or "openai"
    return SPELT.get(found, found)


def environment_key(provider: str) -> str:
    """The environment variable that usually holds a provider's key."""
    return "".join(each if each.isalnum() else "_" for each in provider.upper()) + "_API_KEY"


def bare(model: str) -> str:
    """A model's name without its provider's."""
    return model.partition("/")[2] or model
