"""Models: provider, tier, context window, dated prices.

Belongs here: looking a model up in the bundled price list, and the user's overrides. Does not belong here: what a model
was observed to cost or deliver (`analysis`), and joining prices onto requests (`window.price_columns`).

Prices are those of noon UTC: a provider that is cheaper at night is taken at its price by day. The list has those of the default
service tier alone: calls in another one have no list price (`window.price_columns`).
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from functools import lru_cache
from importlib import metadata
from typing import TYPE_CHECKING

from routing_pipeline.parameters import ModelOverride

if TYPE_CHECKING:
    from genai_prices.types import PriceCalculation

PREMIUM_USD_PER_MILLION = 6.0
"""Blended list price (3 parts input, 1 part output) from which a model counts as premium."""
ECONOMY_USD_PER_MILLION = 1.0
"""Blended list price below which a model counts as economy."""

SAMPLE_TOKENS = 1_000
"""Unit prices are read off a request that is this much longer than where a price step begins."""

SELF_HOSTED = frozenset(
    {"vllm", "hosted_vllm", "ollama", "ollama_chat", "lm_studio", "lmstudio", "llamafile", "triton", "xinference", "infinity"}
)
"""Providers that send no bill: what somebody else asks for the same weights is not what a call costs."""


@dataclass(frozen=True)
class ListPrice:
    """USD per token of each class, on one day, for prompts of more than `above_tokens` tokens.

    None: the list does not price the class by itself. Reasoning is billed as what it is part of, the completion; tokens read from the
    cache of a provider that gives no discount for it as any others.
    """

    input_usd: float
    output_usd: float
    cached_input_usd: float
    cache_write_usd: float | None
    reasoning_usd: float
    audio_input_usd: float | None
    audio_output_usd: float | None
    request_usd: float = 0.0
    above_tokens: int = -1

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
    prices: tuple[ListPrice, ...] = ()
    """By length of the prompt, shortest first; empty where the list has no price by token, which is not the same as free."""

    @property
    def price(self) -> ListPrice | None:
        """The price of short prompts."""
        return self.prices[0] if self.prices else None


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
        served_by = override.provider or provider
        found = _bundled(priced_as, served_by, on_day)
        prices = _overridden(override) or found.prices
        is_own = served_by is not None and _maker(served_by).lower() in SELF_HOSTED
        if is_own and not (override.provider_model or _overridden(override)):
            prices = ()
        tier = override.tier or (_tier(prices[0]) if prices else None)
        named = override.provider or (provider if is_own else found.provider or provider)
        return Model(name, named, tier, override.context_window or found.context_window, prices)

    def models(self, names: Iterable[str]) -> dict[str, Model]:
        """`model` for each name, at today's prices."""
        return {name: self.model(name) for name in sorted(set(names))}


def _tier(price: ListPrice) -> str:
    if price.blended_usd_per_million >= PREMIUM_USD_PER_MILLION:
        return "premium"
    return "economy" if price.blended_usd_per_million < ECONOMY_USD_PER_MILLION else "standard"


def _overridden(override: ModelOverride) -> tuple[ListPrice, ...]:
    """The price that the configuration gives; empty when it does not give those of prompt and completion."""
    sent, received = override.input_usd_per_million, override.output_usd_per_million
    if sent is None or received is None:
        return ()

    def usd(given: float | None, otherwise: float) -> float:
        return (otherwise if given is None else given) / 1e6

    price = ListPrice(
        input_usd=sent / 1e6,
        output_usd=received / 1e6,
        cached_input_usd=usd(override.cached_input_usd_per_million, sent),
        cache_write_usd=usd(override.cache_write_usd_per_million, sent),
        reasoning_usd=usd(override.reasoning_usd_per_million, received),
        audio_input_usd=usd(override.audio_input_usd_per_million, sent),
        audio_output_usd=usd(override.audio_output_usd_per_million, received),
    )
    return (price,)


FREE_OF_CHARGE = ":free"
"""What OpenRouter adds to the names of models that it serves for nothing."""
_OWNED = (
    (re.compile(r"(?:[a-z-]+\.)?(?:anthropic|amazon|meta|mistral|cohere|ai21|deepseek|qwen|openai)\."), "aws"),
    (re.compile(r"text-embedding-(?:3|ada)|omni-moderation|gpt-|o[134](?:-|$)|whisper-1|dall-e-|tts-1"), "openai"),
    (re.compile(r"gemini-"), "google"),
)
"""Names that are one provider's alone, whatever the log calls who served them: ids of Bedrock, with or without a region, for one."""


def names_of(priced_as: str, provider: str | None) -> list[tuple[str, str | None]]:
    """Names under which lists may know a model, each with the provider to ask for (None: any), the likeliest first."""
    last = priced_as.rsplit("/", 1)[-1]
    bare = re.sub(r"[@:].*$", "", last)
    owner = next((of for names, of in _OWNED if names.match(last)), None)
    makers = [] if provider is None else list(dict.fromkeys((provider, _maker(provider))))
    return [*((priced_as, each) for each in makers), (priced_as, None), *([(last, owner)] if owner else []), (bare, None)]


def _maker(provider: str) -> str:
    """Who serves, without the kind of call that SDKs put behind it: `groq.chat`, `azure.responses`."""
    return provider.partition(".")[0]


_VERSION = re.compile(
    # A date by the day with the revision that Bedrock adds, or that alone; what follows @ (Vertex); a moving name; month and day, or year and month.
    r"(?:-20\d{2}-?\d{2}-?\d{2}(?:-v\d+)?|-v\d+:\d+|:\d+|@.*|-latest|-preview(?:-\d{2}-(?:20)?\d{2})?|-(?:0[1-9]|1[0-2])\d{2}|-2\d(?:0[1-9]|1[0-2])|-00\d)+$"
)
_PLACE = re.compile(r"^(?:[a-z]{2,6}\.)?(?:anthropic|amazon|meta|mistral|cohere|ai21|deepseek|qwen|openai)\.")


def family_of(priced_as: str) -> str:
    """The model behind a name, whoever serves it and whichever version: `us.anthropic.claude-haiku-4-5-20251001-v1:0` is `claude-haiku-4-5`."""
    bare = _PLACE.sub("", priced_as.lower().rsplit("/", 1)[-1].removesuffix(FREE_OF_CHARGE))
    return _VERSION.sub("", bare) or bare


@lru_cache(maxsize=4096)
def _bundled(priced_as: str, provider: str | None, on_day: int | None) -> Model:
    # Imported here because the price data takes half a second to load.
    from genai_prices import Usage, calc_price

    noon = None if on_day is None else datetime(1970, 1, 1, 12, tzinfo=UTC) + timedelta(days=on_day)
    if priced_as.endswith(FREE_OF_CHARGE):
        return Model(priced_as, provider, None, None, (ListPrice(0.0, 0.0, 0.0, 0.0, 0.0, 0.0, 0.0),))
    for reference, provider_id in names_of(priced_as, provider):
        try:
            found = calc_price(Usage(), reference, provider_id=provider_id, genai_request_timestamp=noon)
            prices = _by_length(found)
        except (LookupError, ValueError):
            continue
        return Model(priced_as, found.provider.id, None, found.model.context_window, prices)
    return Model(priced_as)


def _by_length(found: PriceCalculation) -> tuple[ListPrice, ...]:
    """A model's prices below and above each length at which the list changes them; empty when it has none by token."""
    from genai_prices import Usage
    from genai_prices.types import TieredPrices

    if found.model_price.input_mtok is None:
        return ()
    steps = {tier.start for each in vars(found.model_price).values() if isinstance(each, TieredPrices) for tier in each.tiers}

    def is_priced(part: str) -> bool:
        return getattr(found.model_price, part, None) is not None

    def step(above: int) -> ListPrice:
        n = max(above, 0) + SAMPLE_TOKENS

        def usd(**used: int) -> Decimal:
            return found.model_price.calc_price(Usage(input_tokens=n, **used))["total_price"]

        def per_token(of: Decimal, beside: Decimal) -> float:
            return float((of - beside) / n)

        # What a request costs whatever its length, and what it costs without an answer.
        once, sent = found.total_price, usd()
        return ListPrice(
            input_usd=per_token(sent, once),
            output_usd=per_token(usd(output_tokens=n), sent),
            cached_input_usd=per_token(usd(cache_read_tokens=n), once),
            cache_write_usd=per_token(usd(cache_write_tokens=n), once) if is_priced("cache_write_mtok") else None,
            reasoning_usd=per_token(usd(output_tokens=n, output_reasoning_tokens=n), sent),
            audio_input_usd=per_token(usd(input_audio_tokens=n), once) if is_priced("input_audio_mtok") else None,
            audio_output_usd=per_token(usd(output_tokens=n, output_audio_tokens=n), sent) if is_priced("output_audio_mtok") else None,
            request_usd=float(once),
            above_tokens=above,
        )

    return tuple(step(above) for above in (-1, *sorted(steps)))
