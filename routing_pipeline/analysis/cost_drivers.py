"""`identify_cost_drivers`: where the money goes that need not go there, and why spend changed.

Belongs here: overuse of dear models, waste, budget breaches, spikes, and the change against the window before taken
apart. Does not belong here: totals and trends (`routing_costs`), and what to do about it (`recommendation`).
"""

from __future__ import annotations

import math
from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any, Literal

import ibis
import numpy as np
from pydantic import Field

from routing_pipeline.analysis.choices import Choice, choice, keeps_guards, quality_floor, segment_place
from routing_pipeline.analysis.divisia import Term, effects, unit_prices
from routing_pipeline.analysis.names import LISTED, fold_rare
from routing_pipeline.analysis.standing_out import HourOfSeries, hours_standing_out, slot
from routing_pipeline.comparisons import Floats, clustered_mean, difference, ratio, weighted_sum
from routing_pipeline.estimates import Estimate, Measured, Result, Unidentifiable, quantity
from routing_pipeline.policy.evidence_model import ArmEvidence, RoutingEvidence, SegmentEvidence
from routing_pipeline.policy.rule_set import Grade
from routing_pipeline.scope import CLUSTERS, SECONDS_PER_DAY, AnalysisScope

WasteKind = Literal["failed_paid_attempts", "retries", "fallbacks", "uncached_repeats", "oversized_prompts"]

DAYS_PER_MONTH = 365.25 / 12
SECONDS_PER_HOUR = 3_600
OVERSIZED = 4.0
"""A prompt this many times as long as the task's median counts as oversized."""
STEP_RATIO = 1.1
"""Prompt lengths are counted in bins 10 % wide."""
LATE_START = 0.10
"""Share of the previous window that may lie before the first log line; beyond it, volumes cannot be compared."""
LISTED_DRIVERS = 3
NO_COST = "nothing in the window is priced; enable cost tracking in the gateway, or name the models' prices in the configuration"


class OverusedSegment(Result):
    """A part of the task in which a cheaper model meets the quality floor."""

    segment: str
    label: str = Field(description="For readers")
    replacement: str = Field(description="Cheapest model that meets the floor at the safe end")
    requests: int = quantity("Requests of the segment sent to the dear model", "requests")
    spend_usd: float = quantity("What they cost", "USD")
    avoidable_usd: Measured = quantity("Of it, what the replacement would not have cost", "USD")


class Overuse(Result):
    """Spend on one model for one task type where a cheaper model meets the quality floor at the interval's safe end."""

    model: str
    task_type: str
    tier: str | None
    replacement: str = Field(description="The cheaper model that would take most of the spend")
    requests: int = quantity("Requests sent to the dear model where a cheaper one would do", "requests")
    spend_usd: float = quantity("What they cost in the window", "USD")
    share_of_spend: float = quantity("Of all spend in the window", "0..1")
    avoidable_usd: Measured = quantity("Of it, what the cheaper models would not have cost", "USD")
    segments: tuple[OverusedSegment, ...]


class Waste(Result):
    """Money spent on what no client needed."""

    kind: WasteKind
    count: int | None = quantity("How many attempts; null when the logs cannot tell", "attempts", default=None)
    spend_usd: float | Unidentifiable = quantity("What they cost, counted", "USD")
    excess_usd: Measured = quantity("Of it, what would not have been spent otherwise", "USD")
    explanation: str = Field(description="What is counted, and what would show more")


class OversizedPrompts(Result):
    """Prompts far longer than the task's usual."""

    task_type: str
    limit_tokens: int = quantity("About 4 times the task's median prompt", "tokens")
    calls: int = quantity("Calls with a longer prompt", "calls")
    spend_usd: float = quantity("What they cost", "USD")
    excess_usd: float | Unidentifiable = quantity("Of it, what the prompt tokens above the limit cost", "USD")


class BudgetBreach(Result):
    """A budget, and how the window's spend compares with its share of it."""

    of: str = Field(description="`total`, or the team")
    budget_usd_per_month: float = quantity("As configured", "USD/month")
    allowed_usd: float = quantity("The budget's share for the window's length", "USD")
    spend_usd: float = quantity("Spent in the window", "USD")
    used: float | None = quantity("spend_usd / allowed_usd; null for a budget of 0", "1")
    breached: bool
    days_over: tuple[str, ...] = Field(description="UTC days that spent more than a day's share of the budget")


class DearTask(Result):
    """A task type whose mean cost per request is above the cost threshold."""

    task_type: str
    requests: int
    cost_usd: Measured = quantity("Per request, all attempts", "USD")
    certain: bool = Field(description="Above the threshold over the whole interval")


class SpikeDriver(Result):
    """Who spent the excess, on what."""

    team: str | None
    model: str
    task_type: str
    excess_usd: float = quantity("Above the same hours of the other days", "USD")
    share_of_excess: float = quantity("Of the spike's excess over those hours; above 1 when others spent less", "1")


class Spike(Result):
    """Consecutive hours whose spend stands out from the same hours of other days."""

    start: datetime = Field(description="UTC")
    hours: int = quantity("Consecutive hours that stand out", "hours")
    spend_usd: float = quantity("Spent in them", "USD")
    expected_usd: Measured = quantity("Usual for these hours and days", "USD")
    excess_usd: Measured = quantity("spend_usd less expected_usd", "USD")
    robust_z: float = quantity("Of the most extreme hour, on the logarithm of spend", "1")
    adjusted_p: float = quantity("Benjamini-Hochberg adjusted p-value of that hour", "0..1")
    drivers: tuple[SpikeDriver, ...] = Field(description="Largest excess first")


class ChangeParts(Result):
    """The change in spend taken apart by log-mean Divisia; the parts add up to the change."""

    previous_usd: float = quantity("Spend in the equal window before", "USD")
    current_usd: float = quantity("Spend in the window", "USD")
    change_usd: float = quantity("current_usd - previous_usd", "USD")
    volume_usd: float = quantity("From more or fewer requests", "USD")
    mix_usd: float = quantity("From other task types and models, retries and fallbacks included", "USD")
    tokens_usd: float = quantity("From longer or shorter prompts and answers", "USD")
    cache_usd: float = quantity("From the share of prompt tokens served from the provider's cache", "USD")
    price_usd: float = quantity("From what a token of each class costs", "USD")
    unattributed_usd: float = quantity("From cost per call where no tokens are logged: price or length, the logs cannot tell", "USD")


class CostDrivers(Result):
    """The answer to `identify_cost_drivers`."""

    spend_usd: float | None = quantity("Total in the window; null when nothing is priced", "USD")
    unpriced_attempts: int = quantity("Successful attempts without a cost, cache hits left out: spend is a lower bound", "attempts")
    quality_floor: str = Field(description="The floor that a cheaper model has to meet")
    overuse: tuple[Overuse, ...] = Field(description="Most avoidable dollars first")
    overuse_unknown: Unidentifiable | None = Field(default=None, description="Why overuse cannot be judged, where it cannot")
    avoidable_usd: Measured = quantity("Of all overuse together", "USD")
    waste: tuple[Waste, ...] = Field(description="Most dollars first")
    oversized_prompts: tuple[OversizedPrompts, ...] = Field(description="By task type, most dollars first")
    cached_prompt_share: float | None = quantity("Share of prompt tokens served from the provider's cache; null: not logged", "0..1")
    budgets: tuple[BudgetBreach, ...] = Field(description="Every configured budget, most used first")
    dear_tasks: tuple[DearTask, ...] = Field(description="Task types above the cost threshold per request")
    spikes: tuple[Spike, ...] = Field(description="Largest excess first")
    spikes_unknown: Unidentifiable | None = Field(default=None, description="Why spikes cannot be looked for, where they cannot")
    change: ChangeParts | Unidentifiable = Field(description="Against the equal window before")
    grade: Grade | None = Field(description="Grade of the evidence behind overuse; null where there is none")
    notices: tuple[str, ...] = Field(default=(), description="What is missing and what to collect")


def cost_drivers(requests: ibis.Table, previous: ibis.Table, scope: AnalysisScope, evidence: RoutingEvidence) -> CostDrivers:
    """Where the money goes that need not go there, and why spend changed.

    Args:
        requests: rows of the window, grain one attempt (schema.SCOPED_REQUESTS); cost is summed over all attempts.
        previous: rows of the equal window before, same schema; may be empty.
        scope: what they cover, and the budgets and thresholds asked for.
        evidence: what the logs can tell about choices not made.
    """
    books = _books(requests, scope)
    before = _books(previous, scope)
    hours, hours_before = _spend_by_hour(requests), _spend_by_hour(previous)
    overuse, avoidable = _overuse(requests, scope, evidence, books)
    oversized = _oversized(books)
    spikes = _spikes(requests, scope, hours_before | hours) if books.priced else Unidentifiable(unidentifiable=NO_COST)
    return CostDrivers(
        spend_usd=books.spend if books.priced else None,
        unpriced_attempts=books.unpriced,
        quality_floor=quality_floor(scope.parameters),
        overuse=tuple(overuse[:LISTED]),
        overuse_unknown=avoidable if isinstance(avoidable, Unidentifiable) and not overuse else None,
        avoidable_usd=avoidable,
        waste=_waste(requests, scope, evidence, books, oversized),
        oversized_prompts=tuple(oversized[:LISTED]),
        cached_prompt_share=books.cached_share,
        budgets=_budgets(requests, scope, hours),
        dear_tasks=_dear_tasks(requests, scope),
        spikes=() if isinstance(spikes, Unidentifiable) else tuple(spikes[:LISTED]),
        spikes_unknown=spikes if isinstance(spikes, Unidentifiable) else None,
        change=_change(books, before, hours, hours_before, scope),
        grade=None if evidence.refusal else evidence.grade,
        notices=_notices(scope, evidence, books),
    )


def _notices(scope: AnalysisScope, evidence: RoutingEvidence, books: _Books) -> tuple[str, ...]:
    notices: list[str] = []
    if not books.priced:
        notices.append(NO_COST)
    elif books.unpriced:
        notices.append(
            f"{books.unpriced} successful attempts have no cost: every dollar figure is a lower bound; name their models' prices"
        )
    if evidence.refusal is None and evidence.grade != "A":
        notices.append(f"evidence grade {evidence.grade}: avoidable spend is worth an A/B test, it is no promise. {evidence.grade_reason}")
    if scope.parameters.budget is None and not scope.parameters.budgets_by_team:
        notices.append("no budget was given, so none can be breached; give --budget, or budgets_by_team in the configuration")
    if scope.parameters.cost_threshold is None:
        notices.append("no cost threshold was given; give --cost-threshold to see which task types cost more per request")
    return tuple(notices)


# --- what was called and what it cost, one pass over a window -------------------------------------------------------------------------


@dataclass
class _Cell:
    """Calls of one task type to one model: those with tokens and a cost, and the rest (cache hits, failures, no tokens)."""

    calls: int = 0
    spend: float = 0.0
    tokens: Floats = field(default_factory=lambda: np.zeros(3))
    rest_calls: int = 0
    rest_spend: float = 0.0
    steps: dict[int, tuple[int, float, float]] = field(default_factory=dict)


@dataclass
class _Fit:
    """Sums over one model's calls from which its unit prices can be recovered: uncached, cached and output tokens."""

    calls: int = 0
    gram: Floats = field(default_factory=lambda: np.zeros((3, 3)))
    against: Floats = field(default_factory=lambda: np.zeros(3))
    squared: float = 0.0

    def prices(self) -> Floats | None:
        return unit_prices(self.calls, self.gram, self.against, self.squared)


@dataclass
class _Books:
    """One window's calls and spend by task type and model."""

    cells: dict[tuple[str, str], _Cell] = field(default_factory=lambda: defaultdict(_Cell))
    fits: dict[str, _Fit] = field(default_factory=lambda: defaultdict(_Fit))
    tiers: dict[str, str | None] = field(default_factory=dict)
    requests: int = 0
    priced: int = 0
    spend: float = 0.0
    unpriced: int = 0
    failed_paid: int = 0
    failed_usd: float = 0.0
    further_attempts: int = 0
    fallbacks: int = 0
    retries_reported: int | None = None
    cache_logged: int = 0

    @property
    def cached_share(self) -> float | None:
        """Share of prompt tokens served from the provider's cache."""
        uncached, cached, _ = sum((cell.tokens for cell in self.cells.values()), np.zeros(3))
        return float(cached / (uncached + cached)) if self.cache_logged and uncached + cached > 0 else None


_CLASSES = ("uncached", "cached", "output")


def _books(requests: ibis.Table, scope: AnalysisScope) -> _Books:
    rows = fold_rare(fold_rare(requests, "task_type", len(scope.task_types)), "model", len(scope.models))
    books = _Books()
    for row in _calls(rows).to_pyarrow().to_pylist():
        _enter(books, row)
    return books


def _calls(rows: ibis.Table) -> ibis.Table:
    """Sums over attempts by task type, model and prompt length; the length is null where tokens or cost are missing."""
    is_hit = rows.is_cache_hit.fill_null(False)
    has_tokens = rows.cost_usd.notnull() & rows.prompt_tokens.notnull() & rows.completion_tokens.notnull() & ~is_hit
    step = (ibis.greatest(rows.prompt_tokens, 1).cast("float64").ln() / math.log(STEP_RATIO)).floor().cast("int64")
    cached = ibis.least(rows.cached_tokens.fill_null(0), rows.prompt_tokens).cast("float64")
    rows = rows.mutate(
        step=ibis.ifelse(has_tokens, step, ibis.null("int64")),
        is_hit=is_hit,
        has_tokens=has_tokens,
        uncached=rows.prompt_tokens.cast("float64") - cached,
        cached=cached,
        output=rows.completion_tokens.cast("float64"),
    )
    counted = rows.has_tokens
    moments = {name: rows[name].sum(where=counted) for name in _CLASSES}
    moments |= {
        f"{one}_{other}": (rows[one] * rows[other]).sum(where=counted) for place, one in enumerate(_CLASSES) for other in _CLASSES[place:]
    }
    moments |= {f"{name}_cost": (rows[name] * rows.cost_usd).sum(where=counted) for name in _CLASSES}
    is_paid_failure = (rows.status != "success") & (rows.cost_usd.fill_null(0.0) > 0)
    return rows.group_by("task_type", "model", "step").agg(
        calls=rows.count(),
        final=rows.is_final.sum(),
        priced=rows.cost_usd.count(),
        spend=rows.cost_usd.sum(),
        squared=(rows.cost_usd * rows.cost_usd).sum(where=counted),
        unpriced=((rows.status == "success") & rows.cost_usd.isnull() & ~rows.is_hit).sum(),
        failed_paid=is_paid_failure.sum(),
        failed_usd=rows.cost_usd.sum(where=is_paid_failure),
        further=(rows.attempts - 1).sum(where=rows.is_final),
        fallbacks=rows.fallback_from.count(),
        retries=rows.retries.sum(),
        cache_logged=rows.cached_tokens.count(),
        tier=rows.tier.max(),
        **moments,
    )


def _enter(books: _Books, row: Mapping[str, Any]) -> None:
    cell = books.cells[row["task_type"], row["model"]]
    spend = float(row["spend"] or 0.0)
    books.tiers[row["model"]] = row["tier"] or books.tiers.get(row["model"])
    books.requests += row["final"]
    books.priced += row["priced"]
    books.spend += spend
    books.unpriced += row["unpriced"]
    books.failed_paid += row["failed_paid"]
    books.failed_usd += float(row["failed_usd"] or 0.0)
    books.further_attempts += int(row["further"] or 0)
    books.fallbacks += row["fallbacks"]
    books.cache_logged += row["cache_logged"]
    if row["retries"] is not None:
        books.retries_reported = (books.retries_reported or 0) + int(row["retries"])
    if row["step"] is None:
        cell.rest_calls += row["calls"]
        cell.rest_spend += spend
        return
    tokens = np.array([row[name] for name in _CLASSES], dtype=np.float64)
    cell.calls += row["calls"]
    cell.spend += spend
    cell.tokens += tokens
    cell.steps[row["step"]] = (row["calls"], spend, float(tokens[0] + tokens[1]))
    fit = books.fits[row["model"]]
    fit.calls += row["calls"]
    fit.squared += row["squared"]
    fit.against += [row[f"{name}_cost"] for name in _CLASSES]
    for i, one in enumerate(_CLASSES):
        for j, other in enumerate(_CLASSES):
            fit.gram[i, j] += row[f"{one}_{other}" if i <= j else f"{other}_{one}"]


# --- overuse of dear models -----------------------------------------------------------------------------------------------------------


def _overuse(requests: ibis.Table, scope: AnalysisScope, evidence: RoutingEvidence, books: _Books) -> tuple[list[Overuse], Measured]:
    """Spend by task type and dear model where a cheaper one meets the floor, and what all of it together would have saved."""
    if not books.priced:
        return [], Unidentifiable(unidentifiable=NO_COST)
    if evidence.refusal:
        return [], Unidentifiable(unidentifiable=evidence.refusal)
    segments = evidence.segments or evidence.tasks
    found: dict[tuple[str, str], list[OverusedSegment]] = defaultdict(list)
    for (place, model), (n, spend) in sorted(_spend_by_segment(requests, scope, segments).items()):
        segment = segments[place]
        part = _cheaper(segment, model, n, spend, scope)
        if part is not None:
            found[segment.task_type, model].append(part)
    overuse = [_overused(task, model, parts, books) for (task, model), parts in found.items()]
    overuse.sort(key=lambda each: (-_point(each.avoidable_usd), each.task_type, each.model))
    if not overuse:
        return [], Unidentifiable(unidentifiable="in no segment a cheaper model is shown to meet the quality floor; score more answers")
    return overuse, weighted_sum([(1.0, each.avoidable_usd) for each in overuse])


def _point(measured: Measured) -> float:
    return measured.estimate if isinstance(measured, Estimate) else 0.0


def _spend_by_segment(
    requests: ibis.Table, scope: AnalysisScope, segments: Sequence[SegmentEvidence]
) -> dict[tuple[int, str], tuple[int, float]]:
    """Requests and spend by place of the segment and model chosen first."""
    final = requests.filter(requests.is_final)
    final = fold_rare(final.mutate(place=segment_place(final, [segment.when for segment in segments])), "routed_model", len(scope.models))
    rows = final.group_by("place", "routed_model").agg(n=final.count(), spend=final.request_cost_usd.sum())
    return {
        (row["place"], row["routed_model"]): (row["n"], row["spend"])
        for row in rows.to_pyarrow().to_pylist()
        if row["place"] is not None and row["spend"]
    }


def _cheaper(segment: SegmentEvidence, model: str, n: int, spend: float, scope: AnalysisScope) -> OverusedSegment | None:
    """The cheapest model that surely costs less than this one and keeps completion and the quality floor, if any.

    Avoidable: the model's spend x (1 - cost of the cheaper model / cost of the model), both had the whole segment gone there,
    so that the model's own longer or shorter requests stay in the spend.
    """
    arms = {arm.model: arm for arm in segment.arms}
    dear = arms.get(model)
    if dear is None or not dear.supported:
        return None
    best: tuple[float, str, Measured] | None = None
    for arm in segment.arms:
        instead = choice(segment, arm)
        if arm.model == model or not _meets_floor(dear, arm, instead, scope):
            continue
        saving = weighted_sum([(-spend, ratio(arm.cost_usd, dear.cost_usd))])
        if not isinstance(saving, Estimate) or not isinstance(arm.cost_usd, Estimate):
            continue
        saving = Estimate(estimate=spend + saving.estimate, low=spend + saving.low, high=min(spend + saving.high, spend))
        if saving.low > 0 and (best is None or (arm.cost_usd.estimate, arm.model) < best[:2]):
            best = (arm.cost_usd.estimate, arm.model, saving)
    if best is None:
        return None
    return OverusedSegment(segment=segment.id, label=segment.label, replacement=best[1], requests=n, spend_usd=spend, avoidable_usd=best[2])


def _meets_floor(dear: ArmEvidence, cheaper: ArmEvidence, instead: Choice, scope: AnalysisScope) -> bool:
    """Whether the cheaper model keeps the guards for the whole segment, and moving the dear model's share alone keeps them too."""
    asked = scope.parameters
    if keeps_guards(instead, "cost", asked) != "holds":
        return False
    if asked.quality_threshold is not None and isinstance(instead.quality, Estimate) and instead.quality.low >= asked.quality_threshold:
        return True
    moved = weighted_sum([(dear.share, difference(cheaper.quality, dear.quality))])
    return isinstance(moved, Estimate) and moved.low >= -asked.max_quality_drop


def _overused(task: str, model: str, parts: list[OverusedSegment], books: _Books) -> Overuse:
    by_replacement: dict[str, float] = defaultdict(float)
    for part in parts:
        by_replacement[part.replacement] += part.spend_usd
    spend = math.fsum(part.spend_usd for part in parts)
    return Overuse(
        model=model,
        task_type=task,
        tier=books.tiers.get(model),
        replacement=min(by_replacement, key=lambda name: (-by_replacement[name], name)),
        requests=sum(part.requests for part in parts),
        spend_usd=spend,
        share_of_spend=spend / books.spend if books.spend else 0.0,
        avoidable_usd=weighted_sum([(1.0, part.avoidable_usd) for part in parts]),
        segments=tuple(sorted(parts, key=lambda part: (-part.spend_usd, part.segment))),
    )


# --- waste ----------------------------------------------------------------------------------------------------------------------------


def _waste(
    requests: ibis.Table, scope: AnalysisScope, evidence: RoutingEvidence, books: _Books, oversized: Sequence[OversizedPrompts]
) -> tuple[Waste, ...]:
    found = [
        _failures(books),
        _retries(books),
        _fallbacks(requests, scope, evidence, books),
        _repeats(),
        _oversized_in_all(books, oversized),
    ]
    return tuple(sorted(found, key=lambda each: (-each.spend_usd if isinstance(each.spend_usd, float) else 1.0, each.kind)))


def _failures(books: _Books) -> Waste:
    unpriced = Unidentifiable(unidentifiable=NO_COST)
    return Waste(
        kind="failed_paid_attempts",
        count=books.failed_paid if books.priced else None,
        spend_usd=books.failed_usd if books.priced else unpriced,
        excess_usd=Unidentifiable(unidentifiable="how many of the failures could have been avoided is not in the logs")
        if books.priced
        else unpriced,
        explanation="Attempts that failed or were cancelled and cost money all the same.",
    )


def _retries(books: _Books) -> Waste:
    # A try that is logged as an attempt may be in the gateway's own count as well.
    tried_again = max(books.further_attempts - books.fallbacks, books.retries_reported or 0)
    if tried_again == 0:
        said = "No retry is in the logs." if books.retries_reported is not None else "The gateway reports no number of retries; log it."
        count = 0 if books.retries_reported is not None else None
        unseen = Unidentifiable(unidentifiable=said)
        return Waste(kind="retries", count=count, spend_usd=0.0 if count == 0 else unseen, excess_usd=unseen, explanation=said)
    unknown = Unidentifiable(
        unidentifiable="tries that the gateway made again within one logged attempt have no cost of their own; log every try as an attempt"
    )
    return Waste(
        kind="retries",
        count=tried_again,
        spend_usd=unknown,
        excess_usd=unknown,
        explanation="Tries beyond the first of the same model. A failed try that is logged with a cost counts under failed paid attempts.",
    )


def _fallbacks(requests: ibis.Table, scope: AnalysisScope, evidence: RoutingEvidence, books: _Books) -> Waste:
    """What answers of a second choice cost above what the first choice would have cost for the same task type."""
    count = books.fallbacks
    explanation = (
        "Attempts that stand in for a failed model, against what that model costs for the same task type; negative: they were cheaper."
    )
    rows = requests.filter(requests.fallback_from.notnull(), requests.cost_usd.notnull())
    for column, names in (("task_type", scope.task_types), ("model", scope.models), ("fallback_from", scope.models)):
        rows = fold_rare(rows, column, len(names))
    spends = rows.group_by("task_type", "fallback_from", "model").agg(spend=rows.cost_usd.sum()).to_pyarrow().to_pylist()
    spend = math.fsum(row["spend"] for row in spends)
    if not spends:
        nothing = Unidentifiable(unidentifiable="no fallback with a cost is in the logs; log which model an attempt stands in for")
        return Waste(kind="fallbacks", count=count, spend_usd=0.0, excess_usd=nothing, explanation=explanation)
    costs = {(task.task_type, arm.model): choice(task, arm).cost_usd for task in evidence.tasks for arm in task.arms}
    unseen = Unidentifiable(unidentifiable=evidence.refusal or "the evidence does not cover the models involved")
    parts = [
        (
            row["spend"],
            ratio(costs.get((row["task_type"], row["fallback_from"]), unseen), costs.get((row["task_type"], row["model"]), unseen)),
        )
        for row in spends
    ]
    known = [(float(paid), share) for paid, share in parts if isinstance(share, Estimate)]
    compared = math.fsum(paid for paid, _ in known)
    if not known:
        return Waste(kind="fallbacks", count=count, spend_usd=spend, excess_usd=parts[0][1], explanation=explanation)
    usual = weighted_sum(known)
    if spend and compared / spend < 1:
        explanation += f" Could be compared: {compared / spend:.0%} of the spend."
    return Waste(kind="fallbacks", count=count, spend_usd=spend, excess_usd=_above(compared, usual), explanation=explanation)


def _above(paid: float, usual: Measured) -> Measured:
    if isinstance(usual, Unidentifiable):
        return usual
    return Estimate(estimate=paid - usual.estimate, low=paid - usual.high, high=paid - usual.low, level=usual.level)


def _repeats() -> Waste:
    unseen = Unidentifiable(unidentifiable="the logs hold no hash of the prompt, so repeats cannot be seen; log one (no text is needed)")
    return Waste(
        kind="uncached_repeats",
        spend_usd=unseen,
        excess_usd=unseen,
        explanation="Prompts sent again that a response cache would have answered.",
    )


def _oversized(books: _Books) -> list[OversizedPrompts]:
    """Prompts beyond about 4 times their task's median, from counts in bins of length; the limit is the edge of a bin."""
    prices = {model: fit.prices() for model, fit in books.fits.items()}
    found = []
    for task in sorted({task for task, _ in books.cells}):
        cells = {model: cell for (name, model), cell in books.cells.items() if name == task and cell.calls}
        counts: dict[int, int] = defaultdict(int)
        for cell in cells.values():
            for step, (calls, _, _) in cell.steps.items():
                counts[step] += calls
        if not counts:
            continue
        steps = sorted(counts)
        median = steps[int(np.searchsorted(np.cumsum([counts[step] for step in steps]), sum(counts.values()) / 2))]
        first = median + math.ceil(math.log(OVERSIZED) / math.log(STEP_RATIO))
        limit = STEP_RATIO**first
        above = {
            model: [entry for step, entry in cell.steps.items() if step >= first]
            for model, cell in cells.items()
            if any(step >= first for step in cell.steps)
        }
        if above:
            found.append(_oversized_on(task, limit, above, cells, prices))
    return sorted(found, key=lambda each: (-each.spend_usd, each.task_type))


def _oversized_on(
    task: str,
    limit: float,
    above: Mapping[str, list[tuple[int, float, float]]],
    cells: Mapping[str, _Cell],
    prices: Mapping[str, Floats | None],
) -> OversizedPrompts:
    excess: list[float] = []
    for model, entries in above.items():
        price = prices[model]
        if price is None:
            continue
        uncached, cached, _ = cells[model].tokens
        per_prompt_token = float((uncached * price[0] + cached * price[1]) / (uncached + cached)) if uncached + cached else 0.0
        excess.append(per_prompt_token * math.fsum(max(tokens - limit * calls, 0.0) for calls, _, tokens in entries))
    unknown = Unidentifiable(unidentifiable="tokens do not explain what some of these calls cost, so the excess has no price")
    entries = [entry for model in above.values() for entry in model]
    return OversizedPrompts(
        task_type=task,
        limit_tokens=math.ceil(limit),
        calls=sum(calls for calls, _, _ in entries),
        spend_usd=math.fsum(spend for _, spend, _ in entries),
        excess_usd=math.fsum(excess) if len(excess) == len(above) else unknown,
    )


def _oversized_in_all(books: _Books, oversized: Sequence[OversizedPrompts]) -> Waste:
    explanation = (
        "Prompts beyond about 4 times the median of their task type, and what their tokens above that cost: worth a look, not all waste."
    )
    if not any(cell.calls for cell in books.cells.values()):
        unseen = Unidentifiable(unidentifiable="no attempt has both tokens and a cost; log the usage that the provider returns")
        return Waste(kind="oversized_prompts", spend_usd=unseen, excess_usd=unseen, explanation=explanation)
    known = [each.excess_usd for each in oversized if isinstance(each.excess_usd, float)]
    spend = math.fsum(each.spend_usd for each in oversized)
    counted = Unidentifiable(
        unidentifiable=f"{math.fsum(known):.2f} USD were spent on prompt tokens above the limits; how many of them were needed is not in the logs"
    )
    return Waste(
        kind="oversized_prompts",
        count=sum(each.calls for each in oversized),
        spend_usd=spend,
        excess_usd=counted,
        explanation=explanation,
    )


# --- budgets --------------------------------------------------------------------------------------------------------------------------


def _budgets(requests: ibis.Table, scope: AnalysisScope, hours: Mapping[int, tuple[float, float]]) -> tuple[BudgetBreach, ...]:
    asked = scope.parameters
    found = []
    if asked.budget is not None:
        by_day: dict[int, float] = defaultdict(float)
        for hour, (spend, _) in hours.items():
            by_day[hour // 24] += spend
        found.append(_budget("total", asked.budget, by_day, scope))
    teams = sorted(asked.budgets_by_team)
    if teams:
        spend_of: dict[str, dict[int, float]] = {team: {} for team in teams}
        rows = requests.filter(requests.team.isin(teams))
        for row in rows.group_by("team", "day").agg(spend=rows.cost_usd.sum()).to_pyarrow().to_pylist():
            spend_of[row["team"]][row["day"]] = row["spend"] or 0.0
        found += [_budget(team, asked.budgets_by_team[team], spend_of[team], scope) for team in teams]
    return tuple(sorted(found, key=lambda each: (-math.inf if each.used is None else -each.used, each.of)))


def _budget(of: str, per_month: float, by_day: Mapping[int, float], scope: AnalysisScope) -> BudgetBreach:
    allowed = per_month * scope.days / DAYS_PER_MONTH
    spend = math.fsum(by_day.values())
    over = []
    for day, spent in sorted(by_day.items()):
        inside = min(scope.end_s, (day + 1) * SECONDS_PER_DAY) - max(scope.start_s, day * SECONDS_PER_DAY)
        if spent > per_month / DAYS_PER_MONTH * inside / SECONDS_PER_DAY:
            over.append(datetime.fromtimestamp(day * SECONDS_PER_DAY, UTC).date().isoformat())
    return BudgetBreach(
        of=of,
        budget_usd_per_month=per_month,
        allowed_usd=allowed,
        spend_usd=spend,
        used=spend / allowed if allowed else None,
        breached=spend > allowed,
        days_over=tuple(over),
    )


def _dear_tasks(requests: ibis.Table, scope: AnalysisScope) -> tuple[DearTask, ...]:
    threshold = scope.parameters.cost_threshold
    if threshold is None:
        return ()
    final = fold_rare(requests.filter(requests.is_final), "task_type", len(scope.task_types))
    rows = final.group_by("task_type", "cluster").agg(n=final.request_cost_usd.count(), spend=final.request_cost_usd.sum())
    counts: dict[str, Floats] = defaultdict(lambda: np.zeros(CLUSTERS))
    spends: dict[str, Floats] = defaultdict(lambda: np.zeros(CLUSTERS))
    for row in rows.to_pyarrow().to_pylist():
        counts[row["task_type"]][row["cluster"]] = row["n"]
        spends[row["task_type"]][row["cluster"]] = row["spend"] or 0.0
    found = []
    for task, n in counts.items():
        mean = clustered_mean(spends[task], n)
        if n.sum() and spends[task].sum() / n.sum() > threshold:
            certain = isinstance(mean, Estimate) and mean.low > threshold
            found.append(DearTask(task_type=task, requests=int(n.sum()), cost_usd=mean, certain=certain))
    return tuple(sorted(found, key=lambda each: (-_point(each.cost_usd), each.task_type)))


# --- spikes ---------------------------------------------------------------------------------------------------------------------------


def _hour(rows: ibis.Table) -> ibis.expr.types.IntegerValue:
    return (rows.started_s / SECONDS_PER_HOUR).floor().cast("int64")


def _spend_by_hour(requests: ibis.Table) -> dict[int, tuple[float, float]]:
    """By hour since 1970: spend and sum of squared costs."""
    timed = requests.mutate(hour=_hour(requests))
    rows = timed.group_by("hour").agg(spend=timed.cost_usd.sum(), squares=(timed.cost_usd * timed.cost_usd).sum())
    return {row["hour"]: (row["spend"] or 0.0, row["squares"] or 0.0) for row in rows.to_pyarrow().to_pylist()}


def _spikes(requests: ibis.Table, scope: AnalysisScope, hours: Mapping[int, tuple[float, float]]) -> list[Spike] | Unidentifiable:
    tested = range(int(scope.start_s // SECONDS_PER_HOUR), math.ceil(scope.end_s / SECONDS_PER_HOUR))
    judged = hours_standing_out(hours, tested)
    if isinstance(judged, Unidentifiable):
        return judged
    episodes: list[list[HourOfSeries]] = []
    for hour in judged:
        if not hour.stands_out:
            continue
        if episodes and episodes[-1][-1].hour == hour.hour - 1:
            episodes[-1].append(hour)
        else:
            episodes.append([hour])
    if not episodes:
        return []
    days = (max(hours) - min(hours) + 1) / 24
    spenders = _spenders(requests, scope, {slot(hour.hour, days) for episode in episodes for hour in episode}, days)
    spiking = {hour.hour for episode in episodes for hour in episode}
    spikes = [_spike(episode, spenders, spiking, days) for episode in episodes]
    return sorted(spikes, key=lambda each: (-_point(each.excess_usd), each.start))


Spender = tuple[str | None, str, str]


def _spenders(requests: ibis.Table, scope: AnalysisScope, slots: set[int], days: float) -> dict[int, dict[Spender, float]]:
    """By hour of the given slots: spend by team, model and task type."""
    cycle = len({slot(hour, days) for hour in range(168)})
    timed = requests.mutate(hour=_hour(requests))
    # 1970-01-01 was a Thursday; `slot` counts from Monday.
    rows = timed.filter(((timed.hour + slot(0, days)) % cycle).isin(sorted(slots)))
    # How many teams there are nobody has counted, so it is asked.
    for column, names in (("team", LISTED + 1), ("model", len(scope.models)), ("task_type", len(scope.task_types))):
        rows = fold_rare(rows, column, names)
    found: dict[int, dict[Spender, float]] = defaultdict(dict)
    for row in rows.group_by("hour", "team", "model", "task_type").agg(spend=rows.cost_usd.sum()).to_pyarrow().to_pylist():
        if row["spend"]:
            found[row["hour"]][row["team"], row["model"], row["task_type"]] = row["spend"]
    return found


def _spike(episode: Sequence[HourOfSeries], spenders: Mapping[int, Mapping[Spender, float]], spiking: set[int], days: float) -> Spike:
    spend = math.fsum(hour.amount for hour in episode)
    expected = math.fsum(hour.expected for hour in episode)
    # Ends are added hour by hour, as if all hours erred together: wide, and right whatever hangs together.
    usual = Estimate(
        estimate=expected,
        low=math.fsum(hour.expected_low for hour in episode),
        high=math.fsum(hour.expected_high for hour in episode),
    )
    worst = max(episode, key=lambda hour: (hour.z, -hour.hour))
    return Spike(
        start=datetime.fromtimestamp(episode[0].hour * SECONDS_PER_HOUR, UTC),
        hours=len(episode),
        spend_usd=spend,
        expected_usd=usual,
        excess_usd=_above(spend, usual),
        robust_z=worst.z,
        adjusted_p=worst.adjusted_p,
        drivers=_drivers(episode, spenders, spiking, days, expected, spend - expected),
    )


def _drivers(
    episode: Sequence[HourOfSeries],
    spenders: Mapping[int, Mapping[Spender, float]],
    spiking: set[int],
    days: float,
    expected: float,
    excess: float,
) -> tuple[SpikeDriver, ...]:
    """Who spent more than their usual share of the expected spend: usual shares come from the same slots of other days."""
    slots = {slot(hour.hour, days) for hour in episode}
    during: dict[Spender, float] = defaultdict(float)
    usually: dict[Spender, float] = defaultdict(float)
    inside = {hour.hour for hour in episode}
    for hour, by_spender in spenders.items():
        if hour in inside:
            _add(during, by_spender)
        elif hour not in spiking and slot(hour, days) in slots:
            _add(usually, by_spender)
    usual_total = math.fsum(usually.values())
    above = {who: paid - (expected * usually[who] / usual_total if usual_total else 0.0) for who, paid in during.items()}
    largest = sorted(above.items(), key=lambda item: (-item[1], tuple(str(part) for part in item[0])))[:LISTED_DRIVERS]
    return tuple(
        SpikeDriver(team=team, model=model, task_type=task, excess_usd=paid, share_of_excess=paid / excess)
        for (team, model, task), paid in largest
        if paid > 0
    )


def _add(totals: dict[Spender, float], more: Mapping[Spender, float]) -> None:
    for who, paid in more.items():
        totals[who] += paid


# --- the change against the window before ---------------------------------------------------------------------------------------------

_FACTORS = ("volume", "mix", "tokens", "cache", "price", "unattributed")


def _change(
    books: _Books,
    before: _Books,
    hours: Mapping[int, tuple[float, float]],
    hours_before: Mapping[int, tuple[float, float]],
    scope: AnalysisScope,
) -> ChangeParts | Unidentifiable:
    if not before.requests:
        return Unidentifiable(
            unidentifiable="the logs hold no request in the equal window before; keep collecting, or ask for a shorter timeframe"
        )
    if not books.requests:
        return Unidentifiable(unidentifiable="no requests in the window")
    if not books.priced or not before.priced:
        return Unidentifiable(unidentifiable="one of the two windows has no cost at all")
    length_h = (scope.end_s - scope.start_s) / SECONDS_PER_HOUR
    missing = min(hours_before) - scope.previous_start_s / SECONDS_PER_HOUR
    usually_silent = min(hours) - scope.start_s / SECONDS_PER_HOUR
    if missing > max(usually_silent, 0.0) + max(LATE_START * length_h, 1.0):
        start = datetime.fromtimestamp(min(hours_before) * SECONDS_PER_HOUR, UTC)
        return Unidentifiable(
            unidentifiable=f"the logs begin at {start:%Y-%m-%d %H:%M} UTC, inside the window before: volumes cannot be compared; ask for a shorter timeframe"
        )
    parts = effects(_terms(books, before), _FACTORS)
    return ChangeParts(
        previous_usd=before.spend,
        current_usd=books.spend,
        change_usd=books.spend - before.spend,
        **{f"{name}_usd": parts[name] for name in _FACTORS},
    )


def _terms(books: _Books, before: _Books) -> Iterable[Term]:
    """Spend as a sum over task type, model and token class: requests x share x tokens per call x cache share x price."""
    prices = {model: (before.fits[model].prices(), books.fits[model].prices()) for _, model in {*books.cells, *before.cells}}
    for task, model in sorted({*books.cells, *before.cells}):
        old, new = before.cells[task, model], books.cells[task, model]
        priced = [_priced(cell, price) for cell, price in zip((old, new), prices[model], strict=True)]
        is_priced = [price is not None or not cell.calls for cell, price in zip((old, new), priced, strict=True)]
        if all(is_priced):
            sides = [
                _by_class(cell, price, n) for cell, price, n in zip((old, new), priced, (before.requests, books.requests), strict=True)
            ]
            yield from (Term(*pair) for pair in zip(*sides, strict=True))
        else:
            yield Term(_lump(old.calls, old.spend, before.requests), _lump(new.calls, new.spend, books.requests))
        yield Term(_lump(old.rest_calls, old.rest_spend, before.requests), _lump(new.rest_calls, new.rest_spend, books.requests))


def _priced(cell: _Cell, price: Floats | None) -> Floats | None:
    """The model's prices scaled so that this cell's tokens cost exactly what they cost: discounts stay in the price."""
    if price is None or not cell.calls:
        return None
    fitted = float(price @ cell.tokens)
    return price * (cell.spend / fitted) if fitted > 0 and cell.spend > 0 else None


def _by_class(cell: _Cell, price: Floats | None, requests: int) -> list[dict[str, float]]:
    if price is None:
        absent = {"volume": float(requests), "mix": 0.0, "tokens": 1.0, "cache": 1.0, "price": 1.0}
        return [absent, absent, absent]
    uncached, cached, output = (float(value) for value in cell.tokens)
    prompt = uncached + cached
    cached_share = cached / prompt if prompt else 0.0
    shared = {"volume": float(requests), "mix": cell.calls / requests}
    return [
        shared | {"tokens": prompt / cell.calls, "cache": 1.0 - cached_share, "price": float(price[0])},
        shared | {"tokens": prompt / cell.calls, "cache": cached_share, "price": float(price[1])},
        shared | {"tokens": output / cell.calls, "cache": 1.0, "price": float(price[2])},
    ]


def _lump(calls: int, spend: float, requests: int) -> dict[str, float]:
    return {"volume": float(requests), "mix": calls / requests, "unattributed": spend / calls if calls else 1.0}
