"""Logged cost against cost at list prices, token class by token class: where the two part, and the likely cause.

Belongs here: the sums that the comparison needs, and naming what explains a difference. Does not belong here: the fit of prices
to sums (`stats.unit_prices`), list prices (`catalog`), joining them to requests (`scope`), and deciding what to do about it.

The fit to a model's logged costs recovers the price that the gateway charged for each class of tokens, the same fit to the list
cost the list's. Each hypothesis of what went wrong predicts prices; the one that comes closest to those charged is the cause.
Where calls are too few or too alike to tell the classes apart, hypotheses are held against the total instead.

What no log can show is a token count that is wrong itself: a gateway that takes cached tokens for fresh ones and prices
what it logs agrees with itself. The provider's bill tells.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any, NamedTuple

import ibis
import numpy as np

from routing_pipeline.catalog import Catalog, ListPrice
from routing_pipeline.stats.unit_prices import PricedTokens
from routing_pipeline.window.price_columns import token_classes

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
EARLIER_DAYS: tuple[int, ...] = (30, 90, 180, 365, 730)
"""How far back the catalog is asked for prices that the gateway may still use."""


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


def priced(requests: ibis.Table) -> tuple[ibis.Table, dict[str, ibis.Expr]]:
    """Rows of schema.SCOPED_REQUESTS with a few columns more, and aggregates of these that `reconcile` reads, by name.

    Over calls with a logged cost, a list cost and tokens; for others the columns are null. Columns, and not one condition for each of
    half a hundred sums: every condition is looked at for itself.
    """
    sent, received = token_classes(requests)
    columns = {name: tokens.fill_null(0.0) / TOKENS for name, tokens in (sent | received).items()}
    columns |= {"logged": requests.logged_cost_usd, "list": requests.list_cost_usd}
    # List cost is null for failures and for answers from the gateway's own cache.
    is_priced = ((requests.logged_cost_usd > 0) & (requests.list_cost_usd > 0)).fill_null(False)
    rows = requests.mutate(is_priced=is_priced)
    nothing = ibis.null("float64")
    rows = rows.mutate(**{f"priced_{name}": ibis.ifelse(rows.is_priced, column, nothing) for name, column in columns.items()})
    of = {name: rows[f"priced_{name}"] for name in columns}
    sums: dict[str, ibis.Expr] = {"priced_calls": rows.is_priced.sum()}
    names = list(columns)
    for place, one in enumerate(names):
        sums[one] = of[one].sum()
        for other in names[place:]:
            sums[f"{one}*{other}"] = (of[one] * of[other]).sum()
    return rows, sums


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
        sums: values of `priced` for this model.
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
    charged = _implied_prices(calls, sums, "logged")
    listed = _implied_prices(calls, sums, "list") if charged else {}
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


def _implied_prices(calls: int, sums: Mapping[str, Any], of: str) -> dict[str, float]:
    """Of the classes with tokens; empty when they cannot be told apart."""
    present = [name for name in CLASSES if float(sums[f"{name}*{name}"] or 0.0) > 0.0]
    gram = np.array([[_product(sums, one, other) for other in present] for one in present])
    against = np.array([_product(sums, name, of) for name in present])
    prices = PricedTokens(calls, gram, against, float(sums[f"{of}*{of}"])).prices_apart()
    return {} if prices is None else dict(zip(present, prices.tolist(), strict=True))


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

    def usd(own: float | None, otherwise: float) -> float:
        # Of a class without a price there are no tokens here: calls that have some have no list price to compare with.
        return otherwise if own is None else own

    per_token = {
        "uncached": price.input_usd,
        "cached": price.cached_input_usd,
        "cache_write": usd(price.cache_write_usd, price.input_usd),
        "audio_prompt": usd(price.audio_input_usd, price.input_usd),
        "completion": price.output_usd,
        "reasoning": price.reasoning_usd - price.output_usd,
        "audio_completion": usd(price.audio_output_usd, price.output_usd),
    }
    return {name: each * TOKENS for name, each in per_token.items()}


# --- Causes: the hypothesis that fits best, else what is known

STALE = "stale price: the gateway still charges what the list said earlier"


class Hypothesis(NamedTuple):
    """What may have gone wrong, in words, and the prices that it predicts of the classes that it is about."""

    message: str
    prices: Prices

    def gap(self, charged: Prices, listed: Prices) -> float:
        """The worst relative difference between a predicted price and the one charged; of a price of 0, relative to the list's."""
        return max(
            abs(charged[name] - price) / (max(abs(charged[name]), abs(price)) if price else max(listed.get(name, 0.0), 1e-12))
            for name, price in self.prices.items()
            if name in charged
        )

    def total(self, listed_total: float, listed: Prices, tokens: Mapping[str, float]) -> float:
        """Predicted cost of these tokens (in thousands), USD: the list's with the predicted prices in place of its own."""
        return listed_total + sum(tokens[name] * (price - listed[name]) for name, price in self.prices.items())


def _mistakes(listed: Prices) -> list[Hypothesis]:
    """Known mistakes of gateways; what a class that is not in the list would take part in predicts nothing (NaN)."""
    full, text = listed.get("uncached", np.nan), listed.get("completion", np.nan)
    cached, written = listed.get("cached", np.nan), listed.get("cache_write", np.nan)
    return [
        Hypothesis("cache class: cached tokens are charged at the full price", {"cached": full}),
        Hypothesis("cache class: cached tokens are charged on top of the full prompt", {"cached": full + cached}),
        Hypothesis("cache class: cached tokens are not charged", {"cached": 0.0}),
        Hypothesis("cache class: tokens written to the cache are charged as any of the prompt", {"cache_write": full}),
        Hypothesis("cache class: tokens written to the cache are charged on top of the full prompt", {"cache_write": full + written}),
        Hypothesis("cache class: tokens written to the cache are not charged", {"cache_write": 0.0}),
        Hypothesis("reasoning class: reasoning tokens are charged on top of the completion that holds them", {"reasoning": text}),
        Hypothesis("reasoning class: reasoning tokens are not charged", {"reasoning": -text}),
    ]


def _hypotheses(
    charged: Prices, listed: Prices, deviating: Mapping[str, float], ratio: float, earlier: list[dict[str, float]]
) -> list[Hypothesis]:
    """What would explain the classes that deviate; of equally good explanations the first is told."""
    about = set(deviating)
    found = []
    if about != {"reasoning"}:
        found += [Hypothesis(STALE, {name: usd for name, usd in price.items() if name != "reasoning"}) for price in earlier]
    of_one_class = [
        *_mistakes(listed),
        # Anthropic asks 1.25 times the prompt's price for five minutes, twice the price for an hour; lists name the former.
        Hypothesis(
            f"{_at_other_price('cache_write', charged, listed)}, that of a cache kept for an hour",
            {"cache_write": 2 * listed.get("uncached", np.nan)},
        ),
        Hypothesis("audio class: audio prompt tokens are charged as text", {"audio_prompt": listed.get("uncached", np.nan)}),
        Hypothesis("audio class: audio completion tokens are charged as text", {"audio_completion": listed.get("completion", np.nan)}),
    ]
    found += [each for each in of_one_class if set(each.prices) == about]
    all_alike = {name: ratio * usd for name, usd in listed.items() if name != "reasoning" and usd}
    if all_alike and "reasoning" not in about and not (len(about) == 1 and about <= set(OWN_WORDS)):
        found.append(Hypothesis(_every_class_at(ratio), all_alike))
    return found


def _cause(
    sums: Mapping[str, Any], charged: Prices, listed: Prices, deviating: Mapping[str, float], today: Prices, earlier: list[dict[str, float]]
) -> str:
    if not charged or not listed:
        return _cause_of_total(sums, today, earlier)
    ratio = float(sums["logged"]) / float(sums["list"])
    gaps = [(each.gap(charged, listed), each.message) for each in _hypotheses(charged, listed, deviating, ratio, earlier)]
    fitting = [each for each in gaps if each[0] <= SAME_PRICE]
    if fitting:
        return min(fitting, key=lambda each: round(each[0], 2))[1]
    for name in OWN_WORDS:
        if set(deviating) == {name}:
            return _at_other_price(name, charged, listed)
    named = ", ".join(f"{_words(name)} tokens at {_times(charged, listed, name)}" for name in deviating) or "no class alone"
    return f"other prices than the list's: {named}"


def _every_class_at(ratio: float) -> str:
    if ratio < 1.0:
        return f"provider discount: every class is charged at {100 * ratio:.0f} % of its list price"
    return f"margin or stale list: every class is charged at {ratio:.2f} times its list price"


OWN_WORDS = {
    "cached": "cache class: cached tokens",
    "cache_write": "cache class: tokens written to the cache",
    "audio_prompt": "audio class: audio prompt tokens",
    "audio_completion": "audio class: audio completion tokens",
    "reasoning": "reasoning class: reasoning tokens",
}
"""Classes that gateways get wrong by themselves."""


def _at_other_price(name: str, charged: Prices, listed: Prices) -> str:
    """One class at a price that no hypothesis predicts."""
    if name not in charged:
        return ""
    said = f"{OWN_WORDS[name]} are charged at {_times(charged, listed, name)}"
    if name == "reasoning":
        return f"{said} beside the completion's"
    if name == "cached":
        return said + _as_if(charged[name] - listed[name], listed.get("uncached", np.nan), listed[name])
    return said


def _words(name: str) -> str:
    return name.replace("_", " ")


def _times(charged: Prices, listed: Prices, name: str) -> str:
    of = listed.get("completion" if name == "reasoning" else name, 0.0)
    return f"{charged[name] / of:.2f} times the list price" if of else "a price that the list does not have"


def _as_if(excess: float, full: float, own: float) -> str:
    """Which share of the cached tokens, mistaken in either of two ways, gives that excess per cached token."""
    ways = [("not taken for cached", excess / (full - own))] if full > own else []
    ways += [("charged twice", excess / full)] if full > 0 else []
    fitting = [f"{100 * share:.0f} % of them were {how}" for how, share in ways if 0.0 < share <= 1.0 + SAME_PRICE]
    return f", as if {' or '.join(fitting)}" if fitting else ""


def _cause_of_total(sums: Mapping[str, Any], listed: Prices, earlier: list[dict[str, float]]) -> str:
    """What explains the total, where the classes cannot be told apart: the hypotheses that come within SAME_TOTAL of it."""
    logged, total = float(sums["logged"]), float(sums["list"])
    said = f"logged cost is {logged / total:.2f} times the list's; too few or too similar calls to say for which tokens"
    if not listed:
        return said
    tokens = {name: float(sums[name] or 0.0) for name in CLASSES}
    stale = any(abs(sum(tokens[name] * price[name] for name in CLASSES) - logged) <= SAME_TOTAL * logged for price in earlier)
    predicted = [(each.message, each.total(total, listed, tokens)) for each in _mistakes(listed)]
    fitting = [STALE] if stale else []
    fitting += [message for message, usd in predicted if usd != total and abs(usd - logged) <= SAME_TOTAL * logged]
    if fitting:
        return f"{' or '.join(fitting)} (inferred from the total alone)"
    if tokens["cached"] and logged > total:
        said += f"{_as_if((logged - total) / tokens['cached'], listed['uncached'], listed['cached'])}".replace(
            "of them", "of the cached tokens"
        )
    return said
