"""Models: provider, tier, context window, dated prices.

Belongs here: looking a model up in the bundled price list, and the user's overrides. Does not belong here: what a model
was observed to cost or deliver (`analysis`), and joining prices onto requests (`scope`).
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from functools import lru_cache
from importlib import metadata

from routing_pipeline.parameters import ModelOverride

SECONDS_PER_DAY = 86_400
PREMIUM_USD_PER_MILLION = 6.0
"""Blended list price (3 parts input, 1 part output) from which a model counts as premium."""
ECONOMY_USD_PER_MILLION = 1.0
"""Blended list price below which a model counts as economy."""

SAMPLE_TOKENS = 1_000
"""Unit prices are read off a request of this length: short enough to stay below every long-context price step."""

TIERS: tuple[str, ...] = ("economy", "standard", "premium")


@dataclass(frozen=True)
class ListPrice:
    """USD per token of each class, on one day; a class that the list does not price is None."""

    input_usd: float
    output_usd: float
    cached_input_usd: float

    @property
    def blended_usd_per_million(self) -> float:
        """Three parts input to one part output: the mix by which models are put into tiers."""
        return (3 * self.input_usd + self.output_usd) / 4 * 1e6


@dataclass(frozen=True)
class Model:
    """What the catalog knows of a model; None where it knows nothing."""

    name: str
    provider: str | None = None
    tier: str | None = None
    context_window: int | None = None
    price: ListPrice | None = None


@dataclass(frozen=True)
class Catalog:
    """The bundled price list under the user's overrides."""

    overrides: Mapping[str, ModelOverride] = field(default_factory=dict)

    @property
    def version(self) -> str:
        """Changes whenever a price may change: part of every result's key."""
        return f"genai-prices {metadata.version('genai-prices')}"

    def model(self, name: str, *, provider: str | None = None, provider_model: str | None = None, on_day: int | None = None) -> Model:
        """What is known of `name` (as the gateway calls it), priced as `provider_model` on a day since 1970."""
        override = self.overrides.get(name, ModelOverride())
        priced_as = override.provider_model or provider_model or name
        found = _bundled(priced_as, override.provider or provider, on_day)
        price = found.price
        if override.input_usd_per_million is not None and override.output_usd_per_million is not None:
            cached = override.cached_input_usd_per_million
            price = ListPrice(
                input_usd=override.input_usd_per_million / 1e6,
                output_usd=override.output_usd_per_million / 1e6,
                cached_input_usd=(override.input_usd_per_million if cached is None else cached) / 1e6,
            )
        tier = override.tier or (None if price is None else _tier(price))
        return Model(name, override.provider or found.provider or provider, tier, override.context_window or found.context_window, price)

    def models(self, names: Iterable[str]) -> dict[str, Model]:
        """`model` for each name, at today's prices."""
        return {name: self.model(name) for name in sorted(set(names))}


def _tier(price: ListPrice) -> str:
    if price.blended_usd_per_million >= PREMIUM_USD_PER_MILLION:
        return "premium"
    return "economy" if price.blended_usd_per_million < ECONOMY_USD_PER_MILLION else "standard"


@lru_cache(maxsize=4096)
def _bundled(priced_as: str, provider: str | None, on_day: int | None) -> Model:
    # Imported here because the price data takes half a second to load.
    from genai_prices import Usage, calc_price

    day = None if on_day is None else datetime(1970, 1, 1, tzinfo=UTC) + timedelta(days=on_day)
    candidates = [(priced_as, provider), (priced_as, None), (re.sub(r"[@:].*$", "", priced_as.rsplit("/", 1)[-1]), None)]
    for reference, provider_id in candidates:
        try:
            asked = calc_price(Usage(input_tokens=1, output_tokens=1), reference, provider_id=provider_id, genai_request_timestamp=day)

            def usd_per_token(usage: Usage, model: str = reference, of: str | None = provider_id) -> float:
                return float(calc_price(usage, model, provider_id=of, genai_request_timestamp=day).total_price) / SAMPLE_TOKENS

            price = ListPrice(
                input_usd=usd_per_token(Usage(input_tokens=SAMPLE_TOKENS)),
                output_usd=usd_per_token(Usage(output_tokens=SAMPLE_TOKENS)),
                cached_input_usd=usd_per_token(Usage(input_tokens=SAMPLE_TOKENS, cache_read_tokens=SAMPLE_TOKENS)),
            )
        except (LookupError, ValueError):
            continue
        return Model(priced_as, asked.provider.id, None, asked.model.context_window, price)
    return Model(priced_as)
