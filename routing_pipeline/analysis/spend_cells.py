"""What was called in a window and what it cost, by task type and model: one pass over the rows, sums that two analyses read.

Belongs here: counting calls, tokens and spend of chat, and what follows from these sums alone. Does not belong here: what the
sums mean: waste (`cost_drivers`), a change against the window before (`cost_change`).
"""

from __future__ import annotations

import math
from collections import defaultdict
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any, NamedTuple

import ibis
import numpy as np

from routing_pipeline.analysis.choices import fold_rare
from routing_pipeline.analysis.second_tries import asked_again, fell_back
from routing_pipeline.stats.inference import Floats
from routing_pipeline.stats.unit_prices import PricedTokens
from routing_pipeline.window.scope import AnalysisScope

TOKEN_CLASSES = ("uncached", "cached", "output")
"""Prompt tokens read afresh, prompt tokens from the provider's cache, tokens of the answer: the order of every array here."""
STEP_RATIO = 1.1
"""Prompt lengths are counted in steps 10 % wide: step k holds prompts of 1.1^k tokens and more."""


class LengthStep(NamedTuple):
    """Calls whose prompts are about equally long."""

    calls: int
    spend_usd: float
    prompt_tokens: float


@dataclass
class SpendCell:
    """Calls of one task type to one model: those with tokens and a cost, and the rest (cache hits, failures that cost nothing, no tokens).

    tokens: by TOKEN_CLASSES, shape (3,). by_length: of the calls with tokens, by step of prompt length.
    """

    calls: int = 0
    spend_usd: float = 0.0
    tokens: Floats = field(default_factory=lambda: np.zeros(len(TOKEN_CLASSES)))
    by_length: dict[int, LengthStep] = field(default_factory=dict)
    rest_calls: int = 0
    rest_usd: float = 0.0

    @property
    def cached_share(self) -> float:
        """Of the prompt tokens, 0..1; 0 without any."""
        uncached, cached, _ = self.tokens
        return float(cached / (uncached + cached)) if uncached + cached else 0.0

    def prices_paid(self, prices: Floats | None) -> Floats | None:
        """A model's unit prices, USD per token, scaled so that this cell's tokens cost exactly what they cost: discounts stay in the price."""
        if prices is None or not self.calls:
            return None
        fitted = float(prices @ self.tokens)
        return prices * (self.spend_usd / fitted) if fitted > 0 and self.spend_usd > 0 else None

    def prompt_usd(self, prices: Floats) -> float:
        """What one of its prompt tokens costs on average at a model's unit prices, USD; 0 without any."""
        uncached, cached, _ = self.tokens
        return float((uncached * prices[0] + cached * prices[1]) / (uncached + cached)) if uncached + cached else 0.0


@dataclass
class SpendCells:
    """One window's calls of chat.

    requests: final attempts. cells: by (task type, model). priced_tokens: sums by model that its unit prices come from. tiers: by model.
    """

    requests: int = 0
    spend_usd: float = 0.0
    priced_attempts: int = 0
    cells: dict[tuple[str, str], SpendCell] = field(default_factory=dict)
    priced_tokens: dict[str, PricedTokens] = field(default_factory=dict)
    tiers: dict[str, str | None] = field(default_factory=dict)
    paid_failures: int = 0
    paid_failures_usd: float = 0.0
    asked_again: int = 0
    retries_logged: int = 0
    fell_back: int = 0
    cached_tokens_logged: int = 0

    def cell(self, task_type: str, model: str) -> SpendCell:
        """The calls of one task type to one model; an empty cell where there are none."""
        return self.cells.get((task_type, model)) or SpendCell()

    @cached_property
    def prices(self) -> Mapping[str, Floats | None]:
        """USD per token by model, each in the order of TOKEN_CLASSES; None where tokens do not explain the cost."""
        return defaultdict(lambda: None, {model: sums.prices() for model, sums in self.priced_tokens.items()})

    @property
    def cached_share(self) -> float | None:
        """Share of prompt tokens served from the provider's cache, 0..1; None where that is not logged."""
        uncached, cached, _ = sum((cell.tokens for cell in self.cells.values()), np.zeros(len(TOKEN_CLASSES)))
        return float(cached / (uncached + cached)) if self.cached_tokens_logged and uncached + cached > 0 else None


def spend_cells(requests: ibis.Table, scope: AnalysisScope) -> SpendCells:
    """Add up a window's attempts of chat (schema.SCOPED_REQUESTS); rare task types and models fall together as `(others)`."""
    # Before names fall together: a rare model that was chosen first is not called `(others)` there, and is no other model.
    told = requests.mutate(asked_again=asked_again(requests), fell_back=fell_back(requests))
    rows = fold_rare(fold_rare(told, "task_type", len(scope.task_types)), "model", len(scope.models))
    found = SpendCells()
    for row in _sums(rows).to_pyarrow().to_pylist():
        _enter(found, row)
    return found


def median_step(cells: Iterable[SpendCell]) -> int:
    """The step of length (STEP_RATIO) that holds the median prompt of calls with tokens; there must be some."""
    counts: dict[int, int] = defaultdict(int)
    for cell in cells:
        for k, step in cell.by_length.items():
            counts[k] += step.calls
    steps = sorted(counts)
    return steps[int(np.searchsorted(np.cumsum([counts[k] for k in steps]), sum(counts.values()) / 2))]


def _sums(rows: ibis.Table) -> ibis.Table:
    """Sums over attempts by task type, model and prompt length; the length is null where tokens or cost are missing."""
    is_hit = rows.is_cache_hit.fill_null(False)
    # A failure that nobody charged for says nothing of what tokens cost.
    is_uncharged = (rows.status != "success") & (rows.cost_usd == 0).fill_null(False)
    has_tokens = rows.cost_usd.notnull() & rows.prompt_tokens.notnull() & rows.completion_tokens.notnull() & ~is_hit & ~is_uncharged
    step = (ibis.greatest(rows.prompt_tokens, 1).cast("float64").ln() / math.log(STEP_RATIO)).floor().cast("int64")
    cached = ibis.least(rows.cached_tokens.fill_null(0), rows.prompt_tokens).cast("float64")
    rows = rows.mutate(
        step=ibis.ifelse(has_tokens, step, ibis.null("int64")),
        has_tokens=has_tokens,
        uncached=rows.prompt_tokens.cast("float64") - cached,
        cached=cached,
        output=rows.completion_tokens.cast("float64"),
    )
    counted = rows.has_tokens
    moments = {name: rows[name].sum(where=counted) for name in TOKEN_CLASSES}
    moments |= {
        f"{one}_{other}": (rows[one] * rows[other]).sum(where=counted)
        for place, one in enumerate(TOKEN_CLASSES)
        for other in TOKEN_CLASSES[place:]
    }
    moments |= {f"{name}_cost": (rows[name] * rows.cost_usd).sum(where=counted) for name in TOKEN_CLASSES}
    is_paid_failure = (rows.status != "success") & (rows.cost_usd.fill_null(0.0) > 0)
    return rows.group_by("task_type", "model", "step").agg(
        calls=rows.count(),
        final=rows.is_final.sum(),
        priced=rows.cost_usd.count(),
        spend=rows.cost_usd.sum(),
        squared=(rows.cost_usd * rows.cost_usd).sum(where=counted),
        paid_failures=is_paid_failure.sum(),
        paid_failures_usd=rows.cost_usd.sum(where=is_paid_failure),
        asked_again=rows.asked_again.sum(),
        retries_logged=rows.retries.count(where=rows.is_final),
        fell_back=rows.fell_back.sum(),
        cached_tokens_logged=rows.cached_tokens.count(),
        tier=rows.tier.max(),
        **moments,
    )


def _enter(into: SpendCells, row: Mapping[str, Any]) -> None:
    model, spend = row["model"], float(row["spend"] or 0.0)
    cell = into.cells.setdefault((row["task_type"], model), SpendCell())
    into.tiers[model] = row["tier"] or into.tiers.get(model)
    into.requests += row["final"]
    into.priced_attempts += row["priced"]
    into.spend_usd += spend
    into.paid_failures += row["paid_failures"]
    into.paid_failures_usd += float(row["paid_failures_usd"] or 0.0)
    into.asked_again += int(row["asked_again"] or 0)
    into.retries_logged += row["retries_logged"]
    into.fell_back += int(row["fell_back"] or 0)
    into.cached_tokens_logged += row["cached_tokens_logged"]
    if row["step"] is None:
        cell.rest_calls += row["calls"]
        cell.rest_usd += spend
        return
    tokens = np.array([row[name] for name in TOKEN_CLASSES], dtype=np.float64)
    cell.calls += row["calls"]
    cell.spend_usd += spend
    cell.tokens += tokens
    cell.by_length[row["step"]] = LengthStep(row["calls"], spend, float(tokens[0] + tokens[1]))
    sums = _priced_tokens(row)
    into.priced_tokens[model] = into.priced_tokens[model] + sums if model in into.priced_tokens else sums


def _priced_tokens(row: Mapping[str, Any]) -> PricedTokens:
    gram = [[row.get(f"{one}_{other}", row.get(f"{other}_{one}")) for other in TOKEN_CLASSES] for one in TOKEN_CLASSES]
    against = [row[f"{name}_cost"] for name in TOKEN_CLASSES]
    return PricedTokens(row["calls"], np.array(gram, dtype=np.float64), np.array(against, dtype=np.float64), float(row["squared"]))
