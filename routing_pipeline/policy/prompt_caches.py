"""What providers' prompt caches save today, and what a call would have cost had its whole session stayed with its model.

Belongs here: what cached tokens are charged, how many a model serves to a session that stays, and costs restated by that. Does not
belong here: which unit a window has (`policy.units`), cells and estimates, which take the restated rows like any others.

Where each request is decided by itself, what a call cost depends on who served the call before: a model that did holds the conversation
in its cache. Moving single requests breaks the cache of the rest, so rules decide for whole sessions there. Under such a rule every call
finds the one before in its model's cache. So of a call to model m

    cached tokens = as logged                                where m served the call before, or it is the session's first
                    h(m, time since) min(prompt, prompt of the call before)  elsewhere, not above the prompt
    cost          = as logged + (tokens that were cached - those that would be) (u - c)

with h the share of the earlier prompt that m's cache served when it did serve the call before, by the time between them (so the cache's
lifetime is what the logs show of it), and u and c what m charges for a fresh and a cached token: the regression of logged costs on tokens
by class. Costs that follow from tokens give it without an error; where it has one that matters, the logs cannot tell. Today's cost stays
as logged.
"""

from __future__ import annotations

import itertools
import math
from dataclasses import dataclass
from typing import Any, Literal

import ibis
import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from routing_pipeline.feasibility.needs import NEEDS, column_of
from routing_pipeline.policy.cells import COST_TODAY
from routing_pipeline.policy.evidence_model import SessionCache
from routing_pipeline.policy.units import SESSION, in_order, with_sessions

MATTERS = 0.02
"""Share of spend that calls save because their model served their session before, from which on costs are restated."""
MATTERS_UNPRICED = 0.05
"""The same as a share of prompt tokens, where it is not known what a cached token costs."""
SPOKEN_OF = 0.01
"""Share of prompt tokens from providers' caches from which on it is spoken of."""
GAPS_S: tuple[float, ...] = (300.0, 3600.0)
"""Times between two calls that are told apart: the usual lifetimes of caches."""
LEAST_STAYS = 30
"""Calls of a model after one of its own from which on it has a rate of its own."""
PRICE_ERROR = 0.1
"""Standard error of what a cached token saves, relative to a fresh token's price, up to which it is known."""
UNPRICED_SHARE = 0.05
"""Share of the cached tokens that may come from models of which it is not known."""
PLACES_TOLD_APART = 8
Floats = NDArray[np.float64]
Verdict = Literal["nothing", "something", "cannot tell"]


@dataclass(frozen=True)
class ModelCache:
    """rates: h by time since the call before (GAPS_S); fresh_usd, cached_usd, written_usd: what a token of the class is charged."""

    model: str
    rates: tuple[float, ...]
    fresh_usd: float
    cached_usd: float
    written_usd: float


@dataclass(frozen=True)
class Caching:
    """The caches of a window.

    saved_usd: what cached tokens cost less than fresh ones; spend_usd: of the same calls. carried: share of spend that calls save because
    their model served their session before, None where cached tokens have no known price.
    """

    models: tuple[ModelCache, ...]
    cached_share: float
    saved_usd: float | None
    spend_usd: float
    carried: float | None
    verdict: Verdict

    def told(self, per: Literal["request", "session", "whole session"]) -> SessionCache:
        """What readers are told, by how the window is decided."""
        said = f"{100 * self.cached_share:.0f} % of prompt tokens come from providers' caches."
        if self.saved_usd is None or self.carried is None:
            said += " What a cached token costs cannot be told from the logs."
            if self.verdict == "cannot tell":
                said += (
                    " A rule for single requests would move them away from their conversation's cache, and what that costs cannot be told; log "
                    "what cached tokens cost, or name their prices in the configuration."
                )
            return SessionCache(verdict=self.verdict, saved_usd=None, saved_share=None, lost_by_a_move=None, told=said)
        full = self.spend_usd + self.saved_usd
        share = self.saved_usd / full if full > 0 else 0.0
        said += f" They save ${self.saved_usd:,.2f} in this window, {100 * share:.1f} % of what the same calls would cost without a cache."
        if self.verdict == "something":
            said += (
                f" ${self.carried * self.spend_usd:,.2f} of that hang on the model that answers having served the session before: without it, spend "
                f"would be {100 * self.carried:.1f} % higher."
            )
            if per == "session":
                said += " A session that another model serves builds its own cache from its first request on, and its costs hold that."
            else:
                said += (
                    " A request that is moved out of its conversation loses that, and so does the next one that comes back. So rules decide for "
                    "whole sessions, and their costs hold the cache that a session has which stays with one model."
                )
        elif per == "request":
            said += " How much is cached does not depend on which model served the session before, so a move changes none of it."
        return SessionCache(
            verdict=self.verdict, saved_usd=self.saved_usd, saved_share=share, lost_by_a_move=max(self.carried, 0.0), told=said
        )


def caching_of(requests: ibis.Table) -> Caching | None:
    """What the window's logs show of caches: one small aggregate; None where no cached tokens or no costs are logged."""
    if not {"cached_tokens", "session_id", "request_id", "started_s", "prompt_tokens"} <= set(requests.columns):
        return None
    rows = _beside_the_call_before(requests.filter(requests.is_final))
    known = rows.filter(rows.cached.notnull(), rows.prompt_tokens.notnull(), ~rows.is_cache_hit.fill_null(False))
    # One pass: calls stand in the order of their sessions, which takes longer than all sums over them.
    known, products = _with_products(known)
    keys = ["routed_model", "gap", "is_next", "is_first", "is_charged"]
    counted = known.group_by(keys).agg(
        **products,
        n=known.count().cast("float64"),
        cached=known.cached.sum(),
        prompt=known.prompt_tokens.cast("float64").sum(),
        overlap=known.overlap.sum().fill_null(0.0),
        of_overlap=known.cached.sum(where=known.overlap.notnull()).fill_null(0.0),
    )
    groups = sorted(counted.to_pyarrow().to_pylist(), key=lambda row: tuple(str(row[key]) for key in keys))
    cached, prompt = (sum(row[name] for row in groups) for name in ("cached", "prompt"))
    if not prompt or cached < SPOKEN_OF * prompt:
        return None
    charged, spend = _charged([row for row in groups if row["is_charged"]])
    # Where no cost is known at all, that is what is told.
    return _found(groups, charged, spend, cached, prompt) if spend > 0 else None


def _found(groups: list[dict[str, Any]], charged: dict[str, Floats], spend: float, cached: float, prompt: float) -> Caching:
    models = sorted({row["routed_model"] for row in groups})
    of_model = {model: [row for row in groups if row["routed_model"] == model] for model in models}
    carried = {model: _carried(rows) for model, rows in of_model.items()}
    by_model = {model: sum(row["cached"] for row in rows) for model, rows in of_model.items()}
    unpriced = sum(n for model, n in by_model.items() if model not in charged)
    if unpriced > UNPRICED_SHARE * cached:
        matters = sum(carried.values()) > MATTERS_UNPRICED * prompt
        return Caching((), cached / prompt, None, spend, None, "cannot tell" if matters else "nothing")
    less = {model: float(prices[0] - prices[1]) for model, prices in charged.items()}
    saved = sum(less[model] * by_model[model] for model in less if model in by_model)
    lost = sum(less[model] * carried[model] for model in less if model in carried) / spend
    pooled = [_rate(groups, gap) for gap in range(len(GAPS_S) + 1)]
    caches = tuple(
        ModelCache(
            model,
            tuple(found if (found := _rate(rows, gap, LEAST_STAYS)) is not None else pooled[gap] or 0.0 for gap in range(len(GAPS_S) + 1)),
            *map(float, charged.get(model, np.zeros(3))),
        )
        for model, rows in of_model.items()
    )
    return Caching(caches, cached / prompt, saved, spend, lost, "something" if lost > MATTERS else "nothing")


def _rate(groups: list[dict[str, Any]], gap: int, least: float = 1) -> float | None:
    stays = [row for row in groups if row["gap"] == gap and row["is_next"]]
    overlap = sum(row["overlap"] for row in stays)
    return sum(row["of_overlap"] for row in stays) / overlap if overlap > 0 and sum(row["n"] for row in stays) >= least else None


def _carried(groups: list[dict[str, Any]]) -> float:
    """Cached tokens of calls after one of the same model, beyond the share that a model's first call in a session has."""
    first = [row for row in groups if row["is_first"]]
    prompt = sum(row["prompt"] for row in first)
    share = sum(row["cached"] for row in first) / prompt if prompt else 0.0
    return float(sum(row["cached"] - share * row["prompt"] for row in groups if row["is_next"]))


def _beside_the_call_before(final: ibis.Table) -> ibis.Table:
    """Final rows, each with the call before in its session.

    gap: place of the time since in GAPS_S; overlap: tokens that both prompts can share; is_next: the same model served it; is_first: the
    model's first call of the session. call_place: the call's own place, as text.
    """
    rows = with_sessions(final)
    before = in_order()
    own = ibis.window(group_by=[SESSION, "routed_model"], order_by=["started_s", "request_id"])
    rows = rows.mutate(
        at=ibis.row_number().over(before),
        is_first=ibis.row_number().over(own) == 0,
        model_before=rows.routed_model.lag().over(before),
        prompt_before=rows.prompt_tokens.lag().over(before),
        since=rows.started_s - rows.started_s.lag().over(before),
    )
    gap = sum(((rows.since > edge).fill_null(False).cast("int64") for edge in GAPS_S), ibis.literal(0, "int64"))
    prompt = rows.prompt_tokens.cast("float64")
    return rows.mutate(
        gap=gap,
        is_next=(rows.model_before == rows.routed_model).fill_null(False),
        overlap=ibis.ifelse(
            rows.prompt_before.notnull() & prompt.notnull(), ibis.least(prompt, rows.prompt_before.cast("float64")), ibis.null("float64")
        ),
        cached=ibis.ifelse(rows.cached_tokens.notnull(), ibis.least(rows.cached_tokens.cast("float64"), prompt), ibis.null("float64")),
        call_place=ibis.least(rows["at"], ibis.literal(PLACES_TOLD_APART - 1)).cast("string"),
    )


_CLASSES = ("fresh", "cached", "written", "completion")


_NAMES = ("one", *_CLASSES, "cost")
_PAIRS = tuple(itertools.combinations_with_replacement(_NAMES, 2))


def _with_products(known: ibis.Table) -> tuple[ibis.Table, dict[str, ibis.expr.types.FloatingScalar]]:
    """Rows that say whether their cost tells what their tokens cost, and the sums of products that `_charged` reads."""
    zero = ibis.literal(0.0)
    written = (
        ibis.least(known.cache_write_tokens.fill_null(0).cast("float64"), known.prompt_tokens - known.cached)
        if ("cache_write_tokens" in known.columns)
        else zero
    )
    completion = known.completion_tokens.fill_null(0).cast("float64") if "completion_tokens" in known.columns else zero
    rows = known.mutate(one=ibis.literal(1.0), written=written, completion=completion, cost=known.request_cost_usd)
    # A failure's tokens are often not charged; what is charged shows where one attempt succeeded.
    rows = rows.mutate(
        fresh=rows.prompt_tokens - rows.cached - rows.written,
        is_charged=rows.cost.notnull() & (rows.status == "success") & (rows.attempts.fill_null(1) == 1),
    )
    return rows, {f"{one}_{other}": (rows[one] * rows[other]).sum() for one, other in _PAIRS}


def _charged(groups: list[dict[str, Any]]) -> tuple[dict[str, Floats], float]:
    """USD per fresh, cached and written token by model, where costs tell them; and what the calls cost."""
    found, spend = {}, 0.0
    for model in sorted({row["routed_model"] for row in groups}, key=str):
        of_model = [row for row in groups if row["routed_model"] == model]
        products = np.zeros((len(_NAMES), len(_NAMES)))
        for one, other in _PAIRS:
            at, beside = _NAMES.index(one), _NAMES.index(other)
            products[at, beside] = products[beside, at] = math.fsum(row[f"{one}_{other}"] or 0.0 for row in of_model)
        spend += float(products[0, -1])
        prices = _regressed(products)
        if prices is not None:
            found[model] = prices
    return found, spend


def _regressed(products: Floats) -> Floats | None:
    """Least squares of costs on tokens from their products; None where what a cached token saves has too large an error."""
    scale = np.sqrt(np.maximum(np.diag(products), 1e-300))
    there = np.flatnonzero(np.diag(products)[:-1] > 0)
    if not {1, 2} <= set(there.tolist()):
        return None
    gram = products[np.ix_(there, there)] / np.outer(scale[there], scale[there])
    inverse = np.linalg.pinv(gram, rcond=1e-9, hermitian=True)
    of = inverse @ (products[there, -1] / scale[there])
    left = max(float(products[-1, -1] - of @ (products[there, -1] / scale[there])), 1e-9 * float(products[-1, -1]))
    freedom = float(products[0, 0]) - len(there)
    if freedom <= 0:
        return None
    prices = np.zeros(len(products) - 1)
    prices[there] = of / scale[there]
    # A direction that the tokens do not vary in has no price of its own.
    contrast = np.zeros(len(products) - 1)
    contrast[[1, 2]] = 1.0, -1.0
    scaled = contrast[there] / scale[there]
    missing = scaled - gram @ (inverse @ scaled)
    error = float(np.sqrt(left / freedom * (scaled @ inverse @ scaled)))
    fresh, cached = float(prices[1]), float(prices[2])
    if np.abs(missing).max() > 1e-6 * np.abs(scaled).max() or fresh <= 0 or error > PRICE_ERROR * fresh:
        return None
    return np.array([fresh, min(max(cached, 0.0), fresh), float(prices[3]) if 3 in there else fresh])


_KNOWN_FIRST: tuple[str, ...] = (
    *("task_type", "is_task_type_logged", "complexity", "is_complexity_derived", "prompt_tokens", "max_output_tokens", "team"),
    *(column_of(need) for need in NEEDS),
)


def whole_session_rows(requests: ibis.Table, caches: tuple[ModelCache, ...]) -> ibis.Table:
    """Final requests as a rule for their whole session would have them: with what was known at its first one, and its cache's cost.

    request_cost_usd: had the session been with the request's own model; COST_TODAY: as logged. call_complexity, call_tokens: the request's own.
    ever_*, longest_*: what any request of the session needs (as `units.session_rows`).
    """
    rows = _beside_the_call_before(requests.filter(requests.is_final))
    prices = _table_of(caches)
    rows = rows.left_join(prices, (rows.routed_model == prices.cache_model) & (rows.gap == prices.cache_gap))
    prompt = rows.prompt_tokens.cast("float64")
    is_as_logged = rows.is_next | rows.overlap.isnull() | rows.is_cache_hit.fill_null(False)
    staying = ibis.ifelse(is_as_logged, rows.cached, ibis.least(rows.cache_rate * rows.overlap, prompt))
    fresh = prompt - rows.cached
    written = rows.cache_write_tokens.fill_null(0) if "cache_write_tokens" in rows.columns else ibis.literal(0)
    part = ibis.ifelse(fresh > 0, ibis.least(written / fresh, ibis.literal(1.0)), ibis.literal(0.0))
    less = rows.fresh_usd + part * (rows.written_usd - rows.fresh_usd) - rows.cached_usd
    change = ((rows.cached - staying) * less).fill_null(0.0)
    whole = ibis.window(group_by=SESSION)
    needs = [column_of(need) for need in NEEDS if column_of(need) in rows.columns]
    ever: dict[str, Any] = {f"ever_{name}": rows[name].fill_null(False).cast("int64").max().over(whole) > 0 for name in needs}
    ever["longest_prompt"] = rows.prompt_tokens.max().over(whole)
    if "max_output_tokens" in rows.columns:
        ever["longest_answer"] = rows.max_output_tokens.max().over(whole)
    rows = rows.mutate(
        **ever,
        call_complexity=ibis.ifelse(rows.is_complexity_derived, ibis.null("float64"), rows.complexity),
        call_tokens=rows.prompt_tokens,
        **{COST_TODAY: rows.request_cost_usd},
        request_cost_usd=ibis.greatest(rows.request_cost_usd + change, ibis.literal(0.0)),
    )
    first = {name: rows[name].first(include_null=True).over(in_order()) for name in _KNOWN_FIRST if name in rows.columns}
    beside = ("at", "is_first", "model_before", "prompt_before", "since", "gap", "is_next", "overlap", "cached", SESSION)
    return rows.mutate(**first).drop(*beside, *prices.columns)


def _table_of(caches: tuple[ModelCache, ...]) -> ibis.Table:
    columns: dict[str, list[Any]] = {
        "cache_model": [each.model for each in caches for _ in each.rates],
        "cache_gap": [gap for each in caches for gap in range(len(each.rates))],
        "cache_rate": [rate for each in caches for rate in each.rates],
        **{name: [getattr(each, name) for each in caches for _ in each.rates] for name in ("fresh_usd", "cached_usd", "written_usd")},
    }
    return ibis.memtable(pa.table(columns))
