"""Logged cost against cost at list prices, token class by token class: where the two part, and the likely cause.

Belongs here: the sums that the comparison needs, the unit prices that they imply, and naming what explains a difference.
Does not belong here: list prices (`catalog`), joining them to requests (`scope`), and deciding what to do about it.

Logged cost is close to linear in tokens, cost = sum over classes of price * tokens, so least squares over a model's calls
recovers the price that the gateway charged for each class; the same fit to the list cost recovers the list's. Both come
from sums of products alone: rows stay in the engine.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import ibis
import numpy as np
from numpy.typing import NDArray

from routing_pipeline.catalog import Catalog

Floats = NDArray[np.float64]

CLASSES: tuple[str, ...] = ("uncached", "cached", "completion", "reasoning")
"""Tokens sent and not cached, sent and cached, received (reasoning included), and of those the reasoning ones.

The last has no price of its own in the list: it is part of what was received.
"""
TOKENS = 1_000.0
"""Prices are per thousand tokens within this module: it keeps the sums of squares within reach of a double."""
SAME_PRICE = 0.03
"""Two prices within three percent of one another count as the same."""
MIN_CLASS_SHARE = 0.02
"""A class that moves less than this share of a model's list cost is not worth a word."""
MIN_CALLS = 30
"""Prices per class are not told apart from fewer calls."""
WORST_CONDITION = 1e8
EARLIER_DAYS: tuple[int, ...] = (30, 90, 180, 365, 730)
"""How far back the catalog is asked for prices that the gateway may still use."""


@dataclass(frozen=True)
class Reconciliation:
    """Logged against list cost of one model: `ratio` is logged / list; `deviating` the classes beyond tolerance."""

    model: str
    calls: int
    logged_usd: float
    list_usd: float
    deviating: Mapping[str, float]
    cause: str

    @property
    def ratio(self) -> float:
        """Logged cost per dollar of list cost."""
        return self.logged_usd / self.list_usd

    def is_beyond(self, tolerance: float) -> bool:
        """Whether the total or a token class is off by more than `tolerance`."""
        return abs(self.ratio - 1.0) > tolerance or bool(self.deviating)


def priced_sums(requests: ibis.Table) -> dict[str, ibis.Expr]:
    """Aggregates of schema.SCOPED_REQUESTS that `reconcile` reads, by name; over calls with a cost, a list cost and tokens."""
    prompt, cached = (requests[name].fill_null(0).cast("float64") / TOKENS for name in ("prompt_tokens", "cached_tokens"))
    cached = ibis.least(cached, prompt)
    columns = {
        "uncached": prompt - cached,
        "cached": cached,
        "completion": requests.completion_tokens.fill_null(0).cast("float64") / TOKENS,
        "reasoning": requests.reasoning_tokens.fill_null(0).cast("float64") / TOKENS,
        "logged": requests.cost_usd,
        "list": requests.list_cost_usd,
    }
    # List cost is null for failures and for answers from the gateway's own cache.
    is_priced = (requests.cost_usd > 0) & (requests.list_cost_usd > 0)
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
        catalog: asked for earlier prices.
        provider: who served it, as logged.
        provider_model: what was called, as logged.
        on_day: days since 1970 of the window's end.
    """
    calls = int(sums["priced_calls"] or 0)
    if calls == 0:
        return None
    logged_usd, list_usd = float(sums["logged"]), float(sums["list"])
    charged = _implied_prices(sums, "logged") if calls >= MIN_CALLS else {}
    listed = _implied_prices(sums, "list") if calls >= MIN_CALLS else {}
    deviating = _deviating(sums, charged, listed, tolerance)
    cause = ""
    if deviating or abs(logged_usd / list_usd - 1.0) > tolerance:
        earlier = [] if on_day is None else [_prices(catalog, model, provider, provider_model, on_day - days) for days in EARLIER_DAYS]
        cause = _cause(charged, listed, deviating, logged_usd / list_usd, [price for price in earlier if price])
    return Reconciliation(model, calls, logged_usd, list_usd, deviating, cause)


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


def _deviating(sums: Mapping[str, Any], charged: Mapping[str, float], listed: Mapping[str, float], tolerance: float) -> dict[str, float]:
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


def _prices(catalog: Catalog, model: str, provider: str | None, provider_model: str | None, on_day: int) -> dict[str, float]:
    price = catalog.model(model, provider=provider, provider_model=provider_model, on_day=on_day).price
    if price is None:
        return {}
    return {
        "uncached": price.input_usd * TOKENS,
        "cached": price.cached_input_usd * TOKENS,
        "completion": price.output_usd * TOKENS,
    }


def _same(one: float, other: float) -> bool:
    return abs(one - other) <= SAME_PRICE * max(abs(one), abs(other), 1e-12)


def _cause(
    charged: Mapping[str, float], listed: Mapping[str, float], deviating: Mapping[str, float], ratio: float, earlier: list[dict[str, float]]
) -> str:
    """The simplest explanation that fits, else what is known."""
    if not charged or not listed:
        return f"logged cost is {ratio:.2f} times the list's; too few or too similar calls to say for which tokens"
    priced = [name for name in charged if name != "reasoning"]
    if set(deviating) == {"reasoning"}:
        return _reasoning_cause(charged, listed)
    if any(all(_same(charged[name], price[name]) for name in priced) for price in earlier):
        return "stale price: the gateway still charges what the list said earlier"
    if set(deviating) == {"cached"}:
        return _cache_cause(charged, listed)
    ratios = [charged[name] / listed[name] for name in priced if listed.get(name)]
    if ratios and max(ratios) - min(ratios) <= SAME_PRICE * max(ratios) and "reasoning" not in deviating:
        if ratio < 1.0:
            return f"provider discount: every class is charged at {ratio:.0%} of its list price"
        return f"margin or stale list: every class is charged at {ratio:.2f} times its list price"
    named = ", ".join(f"{name} tokens at {_times(charged, listed, name)}" for name in deviating) or "no class alone"
    return f"other prices than the list's: {named}"


def _times(charged: Mapping[str, float], listed: Mapping[str, float], name: str) -> str:
    of = listed.get("completion" if name == "reasoning" else name, 0.0)
    return f"{charged[name] / of:.2f} times the list price" if of else "a price that the list does not have"


def _cache_cause(charged: Mapping[str, float], listed: Mapping[str, float]) -> str:
    price = charged["cached"]
    if _same(price, listed["uncached"]):
        return "cache class: cached tokens are charged at the full price"
    if _same(price, listed["uncached"] + listed["cached"]):
        return "cache class: cached tokens are charged on top of the full prompt"
    if abs(price) <= SAME_PRICE * listed["cached"]:
        return "cache class: cached tokens are not charged"
    return f"cache class: cached tokens are charged at {_times(charged, listed, 'cached')}"


def _reasoning_cause(charged: Mapping[str, float], listed: Mapping[str, float]) -> str:
    price = charged["reasoning"]
    if _same(price, listed["completion"]):
        return "reasoning class: reasoning tokens are charged on top of the completion that holds them"
    if _same(price, -listed["completion"]):
        return "reasoning class: reasoning tokens are not charged"
    return f"reasoning class: reasoning tokens are charged at {_times(charged, listed, 'reasoning')} beside the completion's"
