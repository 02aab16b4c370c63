"""Logged cost against cost at list prices, token class by token class: where the two part, and the likely cause.

Belongs here: the sums that the comparison needs, the unit prices that they imply, and naming what explains a difference.
Does not belong here: list prices (`catalog`), joining them to requests (`scope`), and deciding what to do about it.

Logged cost is close to linear in tokens, cost = sum over classes of price * tokens, so least squares over a model's calls
recovers the price that the gateway charged for each class; the same fit to the list cost recovers the list's. Both come
from sums of products alone: rows stay in the engine. Where calls are too few or too alike to tell the classes apart, known
mistakes are held against the total instead.

What no log can show is a token count that is wrong itself: a gateway that takes cached tokens for fresh ones and prices
what it logs agrees with itself. The provider's bill tells.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import ibis
import numpy as np
from numpy.typing import NDArray

from routing_pipeline.catalog import Catalog, ListPrice
from routing_pipeline.scope import token_classes

Floats = NDArray[np.float64]
Prices = Mapping[str, float]
"""By token class, USD per thousand tokens."""

SENT: tuple[str, ...] = ("uncached", "cached", "cache_write", "audio_prompt")
RECEIVED: tuple[str, ...] = ("completion", "reasoning", "audio_completion")
CLASSES = SENT + RECEIVED
"""Tokens of the prompt, apart from each other; of the completion (reasoning included), of those the reasoning ones, and spoken.

The price of `reasoning` is what these tokens cost beside their price as a completion: 0 where the list has none of their own.
"""
TOKENS = 1_000.0
"""Prices are per thousand tokens within this module: it keeps the sums of squares within reach of a double."""
SAME_PRICE = 0.03
"""Two prices within three percent of one another count as the same."""
SAME_TOTAL = 0.005
"""A mistake explains a total when it comes this close to it."""
MIN_CLASS_SHARE = 0.02
"""A class that moves less than this share of a model's list cost is not worth a word."""
MIN_CALLS = 30
"""Prices per class are not told apart from fewer calls."""
WORST_CONDITION = 1e8
EARLIER_DAYS: tuple[int, ...] = (30, 90, 180, 365, 730)
"""How far back the catalog is asked for prices that the gateway may still use."""
STALE = "stale price: the gateway still charges what the list said earlier"


@dataclass(frozen=True)
class ClassCost:
    """Tokens of one class and what they cost by either reckoning; prices in USD per token, None where they cannot be told.

    `charged_usd` is what the logged costs of all calls imply; `listed_usd` is the list's.
    """

    name: str
    tokens: int
    charged_usd: float | None
    listed_usd: float | None


@dataclass(frozen=True)
class Reconciliation:
    """Logged against list cost of one model: `ratio` is logged / list; `deviating` the classes beyond tolerance.

    `classes` are those with tokens, in the order of CLASSES.
    """

    model: str
    calls: int
    logged_usd: float
    list_usd: float
    deviating: Mapping[str, float]
    cause: str
    classes: tuple[ClassCost, ...] = ()

    @property
    def ratio(self) -> float:
        """Logged cost per dollar of list cost."""
        return self.logged_usd / self.list_usd

    def is_beyond(self, tolerance: float) -> bool:
        """Whether the total or a token class is off by more than `tolerance`."""
        return abs(self.ratio - 1.0) > tolerance or bool(self.deviating)


def priced_sums(requests: ibis.Table) -> dict[str, ibis.Expr]:
    """Aggregates of schema.SCOPED_REQUESTS that `reconcile` reads, by name; over calls with a logged cost, a list cost and tokens."""
    sent, received = token_classes(requests)
    columns = {name: tokens.fill_null(0.0) / TOKENS for name, tokens in (sent | received).items()}
    columns |= {"logged": requests.logged_cost_usd, "list": requests.list_cost_usd}
    # List cost is null for failures and for answers from the gateway's own cache.
    is_priced = (requests.logged_cost_usd > 0) & (requests.list_cost_usd > 0)
    sums: dict[str, ibis.Expr] = {"priced_calls": is_priced.fill_null(False).sum()}
    names = list(columns)
    for place, one in enumerate(names):
        sums[one] = columns[one].sum(where=is_priced)
        for other in names[place:]:
            sums[f"{one}*{other}"] = (columns[one] * columns[other]).sum(where=is_priced)
    return sums


def reconcile(
    model: str,
    sums: Mapping[str, Any],
    *,
    tolerance: float,
    catalog: Catalog,
    provider: str | None = None,
    provider_model: str | None = None,
    on_day: int | None = None,
) -> Reconciliation | None:
    """Compare one model's costs; None when none of its calls has both.

    Args:
        model: the name that the gateway routes by.
        sums: values of `priced_sums` for this model.
        tolerance: relative difference of a class's cost that counts, e.g. 0.1.
        catalog: asked for the prices of that day and of earlier ones.
        provider: who served it, as logged.
        provider_model: what was called, as logged.
        on_day: days since 1970 of the window's end.
    """
    calls = int(sums["priced_calls"] or 0)
    if calls == 0:
        return None

    def prices(days_before: int = 0) -> dict[str, float]:
        day = None if on_day is None else on_day - days_before
        return _prices(catalog.model(model, provider=provider, provider_model=provider_model, on_day=day).price)

    logged_usd, list_usd = float(sums["logged"]), float(sums["list"])
    charged = _implied_prices(sums, "logged") if calls >= MIN_CALLS else {}
    listed = _implied_prices(sums, "list") if charged else {}
    deviating = _deviating(sums, charged, listed, tolerance)
    cause = ""
    if deviating or abs(logged_usd / list_usd - 1.0) > tolerance:
        earlier = [] if on_day is None else [price for days in EARLIER_DAYS if (price := prices(days))]
        cause = _cause(sums, charged, listed, deviating, prices(), earlier)
    classes = tuple(_classes(sums, charged, listed or prices()))
    return Reconciliation(model, calls, logged_usd, list_usd, deviating, cause, classes)


def _classes(sums: Mapping[str, Any], charged: Prices, listed: Prices) -> Iterator[ClassCost]:
    for name in CLASSES:
        tokens = round(float(sums[name] or 0.0) * TOKENS)
        if tokens:
            prices = [None if name not in of else of[name] / TOKENS for of in (charged, listed)]
            yield ClassCost(name, tokens, *prices)


def _implied_prices(sums: Mapping[str, Any], of: str) -> dict[str, float]:
    """Least squares without intercept, from the normal equations; empty when the classes cannot be told apart."""
    present = [name for name in CLASSES if float(sums[f"{name}*{name}"] or 0.0) > 0.0]
    if not present:
        return {}
    scale = np.sqrt([float(sums[f"{name}*{name}"]) for name in present])
    gram: Floats = np.array([[_product(sums, one, other) for other in present] for one in present]) / np.outer(scale, scale)
    if np.linalg.cond(gram) > WORST_CONDITION:
        return {}
    target: Floats = np.array([_product(sums, name, of) for name in present]) / scale
    prices = np.linalg.solve(gram, target) / scale
    return dict(zip(present, prices.tolist(), strict=True))


def _product(sums: Mapping[str, Any], one: str, other: str) -> float:
    value = sums.get(f"{one}*{other}")
    return float(sums[f"{other}*{one}"] if value is None else value)


def _deviating(sums: Mapping[str, Any], charged: Prices, listed: Prices, tolerance: float) -> dict[str, float]:
    """Classes whose cost is off by more than `tolerance`, with the difference as a share of the model's list cost."""
    total = float(sums["list"])
    found = {}
    for name in charged:
        tokens = float(sums[name])
        of_class = listed.get("completion" if name == "reasoning" else name, 0.0) * tokens
        difference = (charged[name] - listed.get(name, 0.0)) * tokens
        if abs(difference) > tolerance * of_class and abs(difference) > MIN_CLASS_SHARE * total:
            found[name] = difference / total
    return found


def _prices(price: ListPrice | None) -> dict[str, float]:
    if price is None:
        return {}
    per_token = {
        "uncached": price.input_usd,
        "cached": price.cached_input_usd,
        "cache_write": price.cache_write_usd,
        "audio_prompt": price.audio_input_usd,
        "completion": price.output_usd,
        "reasoning": price.reasoning_usd - price.output_usd,
        "audio_completion": price.audio_output_usd,
    }
    return {name: usd * TOKENS for name, usd in per_token.items()}


def _same(one: float, other: float) -> bool:
    return abs(one - other) <= SAME_PRICE * max(abs(one), abs(other), 1e-12)


# --- Causes: the simplest explanation that fits, else what is known


def _cause(
    sums: Mapping[str, Any], charged: Prices, listed: Prices, deviating: Mapping[str, float], today: Prices, earlier: list[dict[str, float]]
) -> str:
    if not charged or not listed:
        return _cause_of_total(sums, today, earlier)
    priced = [name for name in charged if name != "reasoning"]
    if set(deviating) == {"reasoning"}:
        return _reasoning_cause(charged, listed)
    if any(all(_same(charged[name], price[name]) for name in priced) for price in earlier):
        return STALE
    if len(deviating) == 1:
        (name,) = deviating
        if name == "cached":
            return _cache_cause(charged, listed)
        if name == "cache_write":
            return _write_cause(charged, listed)
        if name.startswith("audio"):
            return _audio_cause(name, charged, listed)
    ratios = [charged[name] / listed[name] for name in priced if listed.get(name)]
    if ratios and max(ratios) - min(ratios) <= SAME_PRICE * max(ratios) and "reasoning" not in deviating:
        ratio = float(sums["logged"]) / float(sums["list"])
        if ratio < 1.0:
            return f"provider discount: every class is charged at {ratio:.0%} of its list price"
        return f"margin or stale list: every class is charged at {ratio:.2f} times its list price"
    named = ", ".join(f"{_words(name)} tokens at {_times(charged, listed, name)}" for name in deviating) or "no class alone"
    return f"other prices than the list's: {named}"


def _words(name: str) -> str:
    return name.replace("_", " ")


def _times(charged: Prices, listed: Prices, name: str) -> str:
    of = listed.get("completion" if name == "reasoning" else name, 0.0)
    return f"{charged[name] / of:.2f} times the list price" if of else "a price that the list does not have"


CACHED_AT_FULL_PRICE = "cache class: cached tokens are charged at the full price"
CACHED_TWICE = "cache class: cached tokens are charged on top of the full prompt"
CACHED_FREE = "cache class: cached tokens are not charged"
WRITTEN_AS_PROMPT = "cache class: tokens written to the cache are charged as any of the prompt"
WRITTEN_TWICE = "cache class: tokens written to the cache are charged on top of the full prompt"
WRITTEN_FREE = "cache class: tokens written to the cache are not charged"
REASONING_TWICE = "reasoning class: reasoning tokens are charged on top of the completion that holds them"
REASONING_FREE = "reasoning class: reasoning tokens are not charged"


def _cache_cause(charged: Prices, listed: Prices) -> str:
    price, full, own = charged["cached"], listed["uncached"], listed["cached"]
    if _same(price, full):
        return CACHED_AT_FULL_PRICE
    if _same(price, full + own):
        return CACHED_TWICE
    if abs(price) <= SAME_PRICE * own:
        return CACHED_FREE
    said = f"cache class: cached tokens are charged at {_times(charged, listed, 'cached')}"
    return said + _as_if(price - own, full, own)


def _as_if(excess: float, full: float, own: float) -> str:
    """Which share of the cached tokens, mistaken in either of two ways, gives that excess per cached token."""
    ways = [("not taken for cached", excess / (full - own))] if full > own else []
    ways += [("charged twice", excess / full)] if full > 0 else []
    fitting = [f"{share:.0%} of them were {how}" for how, share in ways if 0.0 < share <= 1.0 + SAME_PRICE]
    return f", as if {' or '.join(fitting)}" if fitting else ""


def _write_cause(charged: Prices, listed: Prices) -> str:
    price, full, own = charged["cache_write"], listed["uncached"], listed["cache_write"]
    if _same(price, full):
        return WRITTEN_AS_PROMPT
    if _same(price, full + own):
        return WRITTEN_TWICE
    if abs(price) <= SAME_PRICE * own:
        return WRITTEN_FREE
    # Anthropic asks 1.25 times the prompt's price for five minutes, twice the price for an hour; lists name the former.
    kept = ", that of a cache kept for an hour" if _same(price, 2 * full) else ""
    return f"cache class: tokens written to the cache are charged at {_times(charged, listed, 'cache_write')}{kept}"


def _audio_cause(name: str, charged: Prices, listed: Prices) -> str:
    text = "uncached" if name == "audio_prompt" else "completion"
    if text in listed and _same(charged[name], listed[text]):
        return f"audio class: {_words(name)} tokens are charged as text"
    return f"audio class: {_words(name)} tokens are charged at {_times(charged, listed, name)}"


def _reasoning_cause(charged: Prices, listed: Prices) -> str:
    price, text = charged["reasoning"], listed["completion"]
    if _same(price, text):
        return REASONING_TWICE
    if _same(price, -text):
        return REASONING_FREE
    return f"reasoning class: reasoning tokens are charged at {_times(charged, listed, 'reasoning')} beside the completion's"


def _cause_of_total(sums: Mapping[str, Any], listed: Prices, earlier: list[dict[str, float]]) -> str:
    """What explains the total, where the classes cannot be told apart: the mistakes that come within SAME_TOTAL of it."""
    logged, total = float(sums["logged"]), float(sums["list"])
    said = f"logged cost is {logged / total:.2f} times the list's; too few or too similar calls to say for which tokens"
    if not listed:
        return said
    tokens = {name: float(sums[name] or 0.0) for name in CLASSES}
    full, text = listed["uncached"], listed["completion"]
    mistakes = {
        CACHED_AT_FULL_PRICE: tokens["cached"] * (full - listed["cached"]),
        CACHED_TWICE: tokens["cached"] * full,
        CACHED_FREE: -tokens["cached"] * listed["cached"],
        WRITTEN_AS_PROMPT: tokens["cache_write"] * (full - listed["cache_write"]),
        WRITTEN_TWICE: tokens["cache_write"] * full,
        WRITTEN_FREE: -tokens["cache_write"] * listed["cache_write"],
        REASONING_TWICE: tokens["reasoning"] * text,
        REASONING_FREE: -tokens["reasoning"] * text,
    }
    stale = any(abs(sum(tokens[name] * price[name] for name in CLASSES) - logged) <= SAME_TOTAL * logged for price in earlier)
    fitting = [STALE] if stale else []
    fitting += [name for name, usd in mistakes.items() if usd and abs(total + usd - logged) <= SAME_TOTAL * logged]
    if fitting:
        return f"{' or '.join(fitting)} (told from the total alone)"
    if tokens["cached"] and logged > total:
        said += f"{_as_if((logged - total) / tokens['cached'], full, listed['cached'])}".replace("of them", "of the cached tokens")
    return said
