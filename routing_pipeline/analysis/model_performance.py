"""`evaluate_model_performance`: what each model delivers on each kind of task, and which differences are real.

Belongs here: quality, speed, success, cost and reliability per model and task type, raw and (from the evidence) adjusted
for who was routed where. Does not belong here: which model a request should go to (`routing_decisions`, `policy`).
"""

from __future__ import annotations

import math
from collections import defaultdict
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any, ClassVar, Literal

import ibis
import numpy as np
from pydantic import Field
from scipy.special import ndtri

from routing_pipeline import text
from routing_pipeline.analysis.arms import Arms, arms_of
from routing_pipeline.analysis.choices import LISTED, fold_rare
from routing_pipeline.estimates import LEVEL, Estimate, Measured, Result, Unidentifiable, quantity
from routing_pipeline.policy.evidence_model import ArmEvidence, RoutingEvidence, SegmentEvidence
from routing_pipeline.rules.model import Grade
from routing_pipeline.stats.inference import (
    FALSE_DISCOVERY_RATE,
    NOT_NEGATIVE,
    SHARE,
    Floats,
    chance_not_lower,
    clustered_mean,
    clustered_ratio_of_means,
    difference,
    false_discovery_adjusted,
    p_value,
    proportion_interval,
    ratio,
    standard_error,
)
from routing_pipeline.text import LogName
from routing_pipeline.window.scope import CLUSTERS, AnalysisScope
from routing_pipeline.window.version_changes import VersionChange, version_changes

Outcome = Literal["quality", "cost_usd", "latency_ms"]
OUTCOMES: tuple[Outcome, ...] = ("quality", "cost_usd", "latency_ms")


class ModelOnTask(Result):
    """One model on one task type. Requests count for the model that the router chose first, calls for the model called."""

    model: LogName
    task_type: LogName
    tier: LogName | None = Field(description="Tier from the model catalog; null when the model is not in it")
    requests: int = quantity("Final requests that the router sent to this model first", "requests")
    labelled: int = quantity("Of them, successful and with a quality", "requests")
    calls: int = quantity("Calls to this model, failed ones and fallbacks to it included", "calls")
    quality: Measured = quantity("Mean of the labelled requests as they came: harder requests go to better models", "0..1")
    quality_adjusted: Measured = quantity("Had all requests of the task type gone to it, from the evidence", "0..1")
    latency_p50_ms: Measured = quantity("Median of final calls that the model answered, cache hits left out", "ms")
    latency_p95_ms: Measured = quantity("95th percentile of the same", "ms")
    success: Measured = quantity("Share of requests that ended well, also when a fallback had to help", "0..1")
    cost_usd: Measured = quantity("Per request, all attempts, as they came", "USD")
    cost_usd_adjusted: Measured = quantity("Per request, had all requests of the task type gone to it", "USD")
    quality_per_usd: Measured = quantity("Mean quality over mean cost per request, as they came", "1/USD")
    quality_per_usd_adjusted: Measured = quantity("Adjusted quality over adjusted cost", "1/USD")
    reliability: Measured = quantity("Share of calls that succeed within 4 times the median latency of the same model and task", "0..1")
    better_than: tuple[LogName, ...] = Field(default=(), description="Models whose adjusted quality on this task is distinguishably lower")
    worse_than: tuple[LogName, ...] = Field(default=(), description="Models whose adjusted quality on this task is distinguishably higher")
    against_today: Literal["better", "worse", "cannot tell"] = Field(
        default="cannot tell", description="Adjusted quality against today's routing of the task"
    )


class ModelLatency(Result):
    """How long one model takes, over all task types: final calls that it answered, cache hits left out."""

    model: LogName
    calls: int = quantity("Such calls whose latency is logged", "calls")
    p50_ms: Measured = quantity("Median", "ms")
    p90_ms: Measured = quantity("90th percentile", "ms")
    p95_ms: Measured = quantity("95th percentile", "ms")
    p99_ms: Measured = quantity("99th percentile", "ms")


class Contrast(Result):
    """One difference between two choices for the same requests."""

    task_type: LogName
    outcome: Outcome
    model: LogName
    against: LogName | None = Field(description="The other model; null is today's routing")
    difference: Measured = Field(description="model less against, in the unit of the outcome")
    adjusted_p: float = quantity("Benjamini-Hochberg adjusted p-value within the outcome, times the number of outcomes", "0..1")
    distinguishable: bool = Field(description="At a false discovery rate of 5 %")


class ModelPerformance(Result):
    """The answer to `evaluate_model_performance`."""

    main_table: ClassVar = "performances"

    performances: tuple[ModelOnTask, ...] = Field(description="Largest first")
    performances_not_listed: int = quantity("Pairs of model and task left out, the smallest ones", "pairs")
    latencies: tuple[ModelLatency, ...] = Field(default=(), description="By model, most calls first")
    contrasts: tuple[Contrast, ...] = Field(description="Quality first, then largest task first")
    contrasts_tested: int = quantity("Differences that the evidence allowed to test", "differences")
    contrasts_distinguishable: int = quantity("Of them, real at a false discovery rate of 5 %", "differences")
    arms: Arms | None = Field(
        default=None, description="Models as they were called: provider, version, tier, effort; and the same model at several providers"
    )
    version_changes: tuple[VersionChange, ...] = Field(
        default=(), description="Names that another version answers under since some moment of the window, with figures before and after"
    )
    absent_models: tuple[LogName, ...] = Field(default=(), description="Asked for, but not in the window")
    grade: Grade | None = Field(description="Grade of the evidence behind everything adjusted; null where there is none")
    method: str = Field(description="How raw and adjusted numbers and the reliability score are computed")
    notices: tuple[str, ...] = Field(default=(), description="What is missing and what to collect")


BIN_RATIO = 1.01
"""Latencies are counted in bins 1 % wide: quantiles and their intervals from one small aggregate, equal on every engine."""
TIMELY = 4.0
"""A call slower than this many medians of its model and task counts as unreliable."""
LISTED_PAIRS = 200
LISTED_CONTRASTS = 60
"""Per outcome."""

METHOD = (
    "Raw: means over the requests that the router sent to the model first, with intervals clustered by session; success and reliability "
    "with Wilson intervals; latency quantiles by order statistics. Adjusted: doubly robust estimates for the whole task type, from the "
    "routing evidence. Reliability: share of calls that succeed within 4 times the median latency of the same model and task. Differences "
    "between models: standard errors added, which holds whatever their correlation; false discovery rate 5 % (Benjamini-Hochberg "
    "within each outcome, Bonferroni over the three)."
)


@dataclass
class _Tally:
    """Sums of one model on one task: by session cluster over final requests, by latency bin over calls."""

    by_cluster: dict[str, Floats] = field(default_factory=lambda: defaultdict(lambda: np.zeros(CLUSTERS)))
    calls: int = 0
    successes_untimed: int = 0
    successes: dict[int, int] = field(default_factory=lambda: defaultdict(int))
    answered: dict[int, int] = field(default_factory=lambda: defaultdict(int))
    tier: str | None = None


Pair = tuple[str, str]
_SUMS = ("requests", "ok", "labelled", "quality", "priced", "cost")


def model_performance(
    requests: ibis.Table, scope: AnalysisScope, evidence: RoutingEvidence, models: tuple[str, ...] | None = None
) -> ModelPerformance:
    """What each model delivers on each task type, raw and adjusted, and which differences are real.

    Args:
        requests: rows of the window, grain one attempt (schema.SCOPED_REQUESTS).
        scope: what they cover.
        evidence: what the logs can tell about choices not made; everything adjusted comes from it.
        models: models to evaluate; None means all.
    """
    asked = None if models is None else set(models)
    tallies = _tallies(requests, scope)
    pairs = [pair for pair in sorted(tallies, key=lambda pair: (-_requests(tallies[pair]), pair)) if asked is None or pair[1] in asked]
    arms: dict[tuple[str, str], ArmEvidence] = {(task.task_type, arm.model): arm for task in evidence.tasks for arm in task.arms}
    contrasts = [contrast for outcome in OUTCOMES for contrast in _contrasts(evidence.tasks, outcome, asked)]
    no_arm = Unidentifiable(unidentifiable=evidence.refusal or "the evidence does not cover this model on this task")
    quality = [contrast for contrast in contrasts if contrast.outcome == "quality" and contrast.distinguishable]
    seen = {model for _, model in tallies}
    return ModelPerformance(
        performances=tuple(_performance(pair, tallies[pair], arms.get(pair), no_arm, quality) for pair in pairs[:LISTED_PAIRS]),
        performances_not_listed=max(len(pairs) - LISTED_PAIRS, 0),
        latencies=_latencies(tallies, asked),
        contrasts=tuple(
            contrast for outcome in OUTCOMES for contrast in [each for each in contrasts if each.outcome == outcome][:LISTED_CONTRASTS]
        ),
        contrasts_tested=len(contrasts),
        contrasts_distinguishable=sum(contrast.distinguishable for contrast in contrasts),
        arms=arms_of(requests, scope),
        version_changes=version_changes(requests),
        absent_models=tuple(sorted((asked or set()) - seen))[:LISTED],
        grade=None if evidence.refusal else evidence.grade,
        method=METHOD,
        notices=_notices(scope, evidence, tallies),
    )


def _notices(scope: AnalysisScope, evidence: RoutingEvidence, tallies: Mapping[Pair, _Tally]) -> tuple[str, ...]:
    notices: list[str] = []
    if not tallies:
        notices.append("no requests in the window")
    if evidence.refusal:
        notices.append(f"nothing is adjusted for who was routed where: {evidence.refusal}")
    notices += [
        source.consequence for source in scope.sources if not source.present and source.name in {"cost", "quality", "task type", "session"}
    ]
    if tallies and not any(tally.answered for tally in tallies.values()):
        notices.append("no latency is logged: response times are unknown and reliability counts failures alone; log latency_ms")
    return tuple(notices)


def _tallies(requests: ibis.Table, scope: AnalysisScope) -> dict[Pair, _Tally]:
    """Two passes: final requests by task, model chosen first and session cluster; calls by task, model called and latency bin."""
    rows = fold_rare(requests, "task_type", len(scope.task_types))
    rows = fold_rare(fold_rare(rows, "model", len(scope.models)), "routed_model", len(scope.models))
    found: dict[Pair, _Tally] = defaultdict(_Tally)
    for row in _final_requests(rows):
        tally = found[row["task_type"], row["routed_model"]]
        for name in _SUMS:
            tally.by_cluster[name][row["cluster"]] += row[name] or 0.0
    for row in _calls(rows):
        tally = found[row["task_type"], row["model"]]
        tally.calls += row["calls"]
        tally.tier = row["tier"]
        if row["step"] is None:
            tally.successes_untimed += row["successes"]
        else:
            tally.successes[row["step"]] += row["successes"]
            tally.answered[row["step"]] += row["answered"]
    return found


def _final_requests(rows: ibis.Table) -> list[dict[str, Any]]:
    final = rows.filter(rows.is_final)
    return list(
        final.group_by("task_type", "routed_model", "cluster")
        .agg(
            requests=final.count(),
            ok=(final.status == "success").sum(),
            labelled=final.quality.count(),
            quality=final.quality.sum(),
            priced=final.request_cost_usd.count(),
            cost=final.request_cost_usd.sum(),
        )
        .to_pyarrow()
        .to_pylist()
    )


def _calls(rows: ibis.Table) -> list[dict[str, Any]]:
    # A hit in the gateway's cache is no call to a model.
    calls = rows.filter(~rows.is_cache_hit.fill_null(False))
    step = (ibis.greatest(calls.latency_ms, 0.01).ln() / math.log(BIN_RATIO)).floor().cast("int64")
    calls = calls.mutate(step=ibis.ifelse(calls.latency_ms.isnull(), ibis.null("int64"), step))
    is_success = calls.status == "success"
    return list(
        calls.group_by("task_type", "model", "step")
        .agg(calls=calls.count(), successes=is_success.sum(), answered=(is_success & calls.is_final).sum(), tier=calls.tier.max())
        .to_pyarrow()
        .to_pylist()
    )


def _requests(tally: _Tally) -> int:
    return int(tally.by_cluster["requests"].sum())


def _performance(
    pair: Pair, tally: _Tally, arm: ArmEvidence | None, no_arm: Unidentifiable, distinguishable: Iterable[Contrast]
) -> ModelOnTask:
    task, model = pair
    sums = tally.by_cluster
    adjusted_quality, adjusted_cost = _adjusted(arm, no_arm)
    on_task = [contrast for contrast in distinguishable if contrast.task_type == task and model in {contrast.model, contrast.against}]
    against_today, better_than, worse_than = _standing(model, on_task)
    return ModelOnTask(
        model=model,
        task_type=task,
        tier=tally.tier,
        requests=_requests(tally),
        labelled=int(sums["labelled"].sum()),
        calls=tally.calls,
        quality=_explained(
            clustered_mean(sums["quality"], sums["labelled"], bounds=SHARE), "no labelled quality; log quality_score or hand over feedback"
        ),
        quality_adjusted=adjusted_quality,
        latency_p50_ms=_quantile(tally.answered, 0.50),
        latency_p95_ms=_quantile(tally.answered, 0.95),
        success=proportion_interval(float(sums["ok"].sum()), float(sums["requests"].sum())),
        cost_usd=_explained(
            clustered_mean(sums["cost"], sums["priced"], bounds=NOT_NEGATIVE), "no request has a cost; enable cost tracking in the gateway"
        ),
        cost_usd_adjusted=adjusted_cost,
        quality_per_usd=clustered_ratio_of_means(sums["quality"], sums["labelled"], sums["cost"], sums["priced"]),
        quality_per_usd_adjusted=ratio(adjusted_quality, adjusted_cost),
        reliability=_reliability(tally),
        better_than=better_than,
        worse_than=worse_than,
        against_today=against_today,
    )


def _explained(measured: Measured, when_nothing: str) -> Measured:
    if isinstance(measured, Unidentifiable) and measured.unidentifiable == "no observations":
        return Unidentifiable(unidentifiable=when_nothing)
    return measured


def _adjusted(arm: ArmEvidence | None, no_arm: Unidentifiable) -> tuple[Measured, Measured]:
    if arm is None:
        return no_arm, no_arm
    if not arm.supported:
        why = Unidentifiable(
            unidentifiable=f"{arm.model} was not seen often enough in every part of this task to say; route a small random share to it"
        )
        return why, why
    return arm.quality, arm.cost_usd


def _standing(
    model: str, contrasts: Iterable[Contrast]
) -> tuple[Literal["better", "worse", "cannot tell"], tuple[str, ...], tuple[str, ...]]:
    """Where the model stands against today and against the others, from contrasts that are distinguishable."""
    today: Literal["better", "worse", "cannot tell"] = "cannot tell"
    above: list[str] = []
    below: list[str] = []
    for contrast in contrasts:
        if not isinstance(contrast.difference, Estimate):
            continue
        is_higher = contrast.difference.estimate > 0
        if contrast.against is None:
            today = "better" if is_higher else "worse"
        elif contrast.model == model:
            (above if is_higher else below).append(contrast.against)
        else:
            (below if is_higher else above).append(contrast.model)
    return today, tuple(sorted(above)), tuple(sorted(below))


def _latencies(tallies: Mapping[Pair, _Tally], asked: set[str] | None) -> tuple[ModelLatency, ...]:
    """The tallies' latencies with the task types of each model put together."""
    by_model: dict[str, dict[int, int]] = defaultdict(lambda: defaultdict(int))
    for (_, model), tally in tallies.items():
        if asked is None or model in asked:
            for step, count in tally.answered.items():
                by_model[model][step] += count
    calls = {model: sum(counts.values()) for model, counts in by_model.items()}
    return tuple(
        ModelLatency(
            model=model,
            calls=calls[model],
            p50_ms=_quantile(by_model[model], 0.50),
            p90_ms=_quantile(by_model[model], 0.90),
            p95_ms=_quantile(by_model[model], 0.95),
            p99_ms=_quantile(by_model[model], 0.99),
        )
        for model in sorted(by_model, key=lambda model: (-calls[model], model))[:LISTED]
        if calls[model]
    )


def _quantile(counts: Mapping[int, int], q: float) -> Measured:
    """Quantile of a latency counted in bins, with its distribution-free interval by order statistics.

    Ranks n q +- z sqrt(n q (1-q)) (Conover 1999, Practical Nonparametric Statistics, 3.2); the ends are the edges of their bins.
    """
    steps = np.array(sorted(step for step, count in counts.items() if count), dtype=np.float64)
    if len(steps) == 0:
        return Unidentifiable(unidentifiable="no answered call has a latency")
    cumulative = np.cumsum([counts[int(step)] for step in steps])
    n = int(cumulative[-1])
    half = float(ndtri(0.5 + LEVEL / 2)) * math.sqrt(n * q * (1 - q))
    if n * q - half < 1 or n * q + half > n - 1:
        return Unidentifiable(unidentifiable=f"{text.counted(n, 'answered call')}; too few for an interval of this quantile")

    def step_at(rank: float) -> float:
        return float(steps[int(np.searchsorted(cumulative, rank))])

    return Estimate(
        estimate=BIN_RATIO ** (step_at(n * q) + 0.5),
        low=BIN_RATIO ** step_at(math.floor(n * q - half)),
        high=BIN_RATIO ** (step_at(math.ceil(n * q + half)) + 1),
    )


def _reliability(tally: _Tally) -> Measured:
    if tally.calls == 0:
        return Unidentifiable(unidentifiable="no call to this model")
    timed = sorted(step for step, count in tally.successes.items() if count)
    if not timed:
        return proportion_interval(tally.successes_untimed, tally.calls)
    cumulative = np.cumsum([tally.successes[step] for step in timed])
    median = timed[int(np.searchsorted(cumulative, cumulative[-1] / 2))]
    limit = median + math.log(TIMELY) / math.log(BIN_RATIO)
    in_time = sum(count for step, count in tally.successes.items() if step <= limit)
    return proportion_interval(in_time + tally.successes_untimed, tally.calls)


def _contrasts(tasks: Iterable[SegmentEvidence], outcome: Outcome, asked: set[str] | None) -> list[Contrast]:
    """Each supported model against today and against each other one, largest task first, tested together."""
    found: list[tuple[str, str, str | None, Estimate, float]] = []
    for task in sorted(tasks, key=lambda each: (-each.requests, each.task_type)):
        arms = [arm for arm in task.arms if arm.supported and (asked is None or arm.model in asked)]
        for place, arm in enumerate(arms):
            rivals: list[tuple[str | None, Measured]] = [(None, _change(arm, outcome))]
            rivals += [(other.model, _between(arm, other, outcome)) for other in arms[place + 1 :]]
            found += [
                (task.task_type, arm.model, against, gap, p_value(gap) if against is not None else _chance_of_none(task, gap, outcome))
                for against, gap in rivals
                if isinstance(gap, Estimate)
            ]
    # The three outcomes are one family: of identical models none is to seem different in more than 5 % of windows.
    adjusted = [min(len(OUTCOMES) * p, 1.0) for p in false_discovery_adjusted([chance for *_, chance in found])]
    return [
        Contrast(
            task_type=task_type,
            outcome=outcome,
            model=model,
            against=against,
            difference=gap,
            adjusted_p=p,
            distinguishable=p <= FALSE_DISCOVERY_RATE,
        )
        for (task_type, model, against, gap, _), p in zip(found, adjusted, strict=True)
    ]


def _chance_of_none(task: SegmentEvidence, change: Estimate, outcome: Outcome) -> float:
    """Two-sided p-value of a change against today: of a cost, a time, or what is missing to the best quality, which are skewed."""
    today = {"quality": task.quality, "cost_usd": task.cost_usd, "latency_ms": task.latency_ms}[outcome]
    if isinstance(today, Unidentifiable):
        return p_value(change)
    is_quality = outcome == "quality"
    chance = chance_not_lower(1.0 - today.estimate if is_quality else today.estimate, change.scaled(-1.0) if is_quality else change)
    return 2.0 * min(chance, 1.0 - chance)


def _change(arm: ArmEvidence, outcome: Outcome) -> Measured:
    return {"quality": arm.quality_change, "cost_usd": arm.cost_change_usd, "latency_ms": arm.latency_change_ms}[outcome]


def _level(arm: ArmEvidence, outcome: Outcome) -> Measured:
    return {"quality": arm.quality, "cost_usd": arm.cost_usd, "latency_ms": arm.latency_ms}[outcome]


def _between(one: ArmEvidence, other: ArmEvidence, outcome: Outcome) -> Measured:
    """One model less the other: both bounds on the error hold, from levels and from changes against today; the tighter is taken."""
    gaps = [difference(_level(one, outcome), _level(other, outcome)), difference(_change(one, outcome), _change(other, outcome))]
    known = [gap for gap in gaps if isinstance(gap, Estimate)]
    return min(known, key=standard_error) if known else gaps[0]
