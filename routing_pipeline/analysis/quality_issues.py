"""`identify_quality_issues`: where answers are poor, who gives them, what fails together, and what got worse when.

Belongs here: low shares by segment, mismatches of model and segment, failures that belong to one task-model pair, and
degradation over time. Does not belong here: means by model and task (`quality_metrics`), availability (`bottlenecks`).
"""

from __future__ import annotations

import math
from collections import defaultdict
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any, Literal

import ibis
import numpy as np
from pydantic import Field
from scipy import stats

from routing_pipeline.analysis.choices import choice, segment_place
from routing_pipeline.analysis.names import LISTED, fold_rare
from routing_pipeline.analysis.standing_out import MAD_TO_SD, Places
from routing_pipeline.comparisons import FALSE_DISCOVERY_RATE, Floats, around, difference, false_discovery_adjusted, p_value
from routing_pipeline.estimates import Estimate, Measured, Result, Unidentifiable, proportion_interval, quantity
from routing_pipeline.policy.evidence_model import ArmEvidence, RoutingEvidence, SegmentEvidence
from routing_pipeline.policy.rule_set import Grade
from routing_pipeline.scope import AnalysisScope

Kind = Literal["failure", "refusal", "truncation"]

NAMES_OF: dict[Kind, tuple[str, ...]] = {
    "refusal": ("contentpolicy", "content_policy", "content_filter", "contentfilter", "refus", "safety", "moderation", "guardrail"),
    "truncation": ("contextwindow", "context_window", "context_length", "trunc", "max_tokens", "max_output", "too_long"),
}
"""Parts of an error's class, in lower case, by which gateways and providers name it."""
BANDS = 4
"""Equal bands of complexity that hold the mix of requests fixed when quality is looked at over time."""
MAX_STEPS = 200
WIDTHS_H = (1, 2, 3, 4, 6, 8, 12, 24)
"""Widths of a step; each divides a day, the smallest with at most `MAX_STEPS` steps in the window is taken."""
MIN_LABELS = 20
"""Labelled answers that a stretch, and the rest, must hold."""
MAX_STRETCHES = 3
"""Stretches looked for in one series."""
SECONDS_PER_HOUR = 3_600
NO_QUALITY = "no answer has a quality; log quality_score in the request's metadata, or hand over a --feedback file"


class LowQuality(Result):
    """How many answers of one kind of request fall below the threshold."""

    segment: str
    label: str = Field(description="For readers")
    task_type: str
    labelled: int = quantity("Answers with a quality", "requests")
    below: int = quantity("Of them, below the threshold", "requests")
    share_below: Measured = quantity("Of labelled answers", "0..1")
    stands_out: bool = Field(description="Distinguishably above the share of all other requests, false discovery rate 5 %")


class Mismatch(Result):
    """A model that serves a segment distinguishably worse than the best alternative."""

    segment: str
    label: str = Field(description="For readers")
    task_type: str
    model: str
    requests: int = quantity("Requests of the segment sent to it", "requests")
    quality: Measured = quantity("Had the whole segment gone to it", "0..1")
    alternative: str = Field(description="Model with the best safe end")
    alternative_quality: Measured = quantity("Had the whole segment gone there", "0..1")
    loss: Measured = quantity("Alternative less model", "0..1")
    cost_change_usd: Measured = quantity("Alternative less model, per request", "USD")
    cheapest_better: str | None = Field(description="Cheapest model whose quality is surely above this one's; null when costs are unknown")
    adjusted_p: float = quantity("Benjamini-Hochberg adjusted p-value over all segments and models", "0..1")


class Incompatibility(Result):
    """Failures of one kind that concentrate in one pair of task and model."""

    kind: Kind = Field(description="Any failure; refusals and prompts or answers beyond the model's length as their error class names them")
    task_type: str
    model: str
    calls: int = quantity("Calls to the model for the task", "calls")
    affected: int = quantity("Of them, of this kind", "calls")
    rate: Measured = quantity("Of the pair's calls", "0..1")
    same_model_rate: float = quantity("The model on its other tasks", "0..1")
    same_task_rate: float = quantity("The task on its other models", "0..1")
    adjusted_p: float = quantity("Benjamini-Hochberg adjusted p-value of the weaker of both comparisons", "0..1")


class Degradation(Result):
    """A stretch of time in which a model answered worse than in the rest of the window, mix of requests held fixed.

    Only falls of at least the allowed quality drop. The size is that of the stretch that stands out most, so it errs on the large side.
    """

    model: str
    task_type: str | None = Field(description="Null: over all its task types")
    kind: Literal["episode", "since", "until"] = Field(description="A stretch in the middle; worse since; worse until, then better")
    start: datetime = Field(description="UTC, to the resolution of the series")
    end: datetime = Field(description="UTC, exclusive")
    size: Estimate = quantity("Quality in the stretch less quality outside; negative is worse", "0..1")
    labelled: int = quantity("Answers with a quality in the stretch", "requests")
    adjusted_p: float = quantity("Benjamini-Hochberg adjusted p-value over all series, corrected for the search over stretches", "0..1")


class QualityIssues(Result):
    """The answer to `identify_quality_issues`."""

    threshold: float | None = quantity("Answers below it count as low; null without any quality", "0..1")
    threshold_source: str = Field(description="Where the threshold comes from")
    share_below: Measured = quantity("Of all labelled answers", "0..1")
    low_quality: tuple[LowQuality, ...] = Field(description="Highest share first")
    mismatches: tuple[Mismatch, ...] = Field(description="Most quality lost (loss x requests) first")
    mismatches_not_listed: int = quantity("Mismatches left out, the smallest ones", "pairs")
    mismatches_unknown: Unidentifiable | None = Field(default=None, description="Why mismatches cannot be judged, where they cannot")
    incompatibilities: tuple[Incompatibility, ...] = Field(description="Most calls affected first")
    error_kinds_unknown: Unidentifiable | None = Field(
        default=None, description="Why refusals and truncations cannot be told from other failures, where they cannot"
    )
    degradations: tuple[Degradation, ...] = Field(description="Strongest evidence first")
    degradation_unknown: Unidentifiable | None = Field(
        default=None, description="Why no change over time can be looked for, where it cannot"
    )
    resolution_hours: int = quantity("Width of the steps in which quality over time was looked at", "hours")
    grade: Grade | None = Field(description="Grade of the evidence behind mismatches; null where there is none")
    notices: tuple[str, ...] = Field(default=(), description="What is missing and what to collect")


def quality_issues(requests: ibis.Table, scope: AnalysisScope, evidence: RoutingEvidence) -> QualityIssues:
    """Where answers are poor, who gives them, what fails together, and what got worse when.

    Args:
        requests: rows of the window, grain one attempt (schema.SCOPED_REQUESTS); quality is over successful final rows.
        scope: what they cover, and the threshold asked for.
        evidence: what the logs can tell about choices not made; mismatches come from it.
    """
    width_h = _width(scope)
    labels = _labels(requests, scope, width_h)
    threshold, source = _threshold(scope, labels)
    low, overall = _low_quality(requests, scope, evidence, threshold)
    mismatches, why_no_mismatch = _mismatches(evidence)
    incompatible, why_no_kinds = _incompatibilities(requests, scope, width_h)
    degraded, why_no_time = _degradations(labels, scope, width_h)
    return QualityIssues(
        threshold=threshold,
        threshold_source=source,
        share_below=overall,
        low_quality=tuple(low[:LISTED]),
        mismatches=tuple(mismatches[:LISTED]),
        mismatches_not_listed=max(len(mismatches) - LISTED, 0),
        mismatches_unknown=why_no_mismatch,
        incompatibilities=tuple(incompatible[:LISTED]),
        error_kinds_unknown=why_no_kinds,
        degradations=tuple(degraded[:LISTED]),
        degradation_unknown=why_no_time,
        resolution_hours=width_h,
        grade=None if evidence.refusal else evidence.grade,
        notices=(NO_QUALITY,) if threshold is None else (),
    )


# --- answers below the threshold ------------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class _Labels:
    """Labelled answers summed by task, model, band of complexity and step of time; one entry of each array per sum.

    `task` and `model` count into their names. `missed` is the sum of (quality - mean of its task, model and band).
    """

    tasks: list[str]
    models: list[str]
    task: Places
    model: Places
    step: Places
    n: Floats
    total: Floats
    missed: Floats
    squares: Floats


def _labels(requests: ibis.Table, scope: AnalysisScope, width_h: int) -> _Labels:
    rows = requests.filter(requests.quality.notnull())
    rows = fold_rare(fold_rare(rows, "task_type", len(scope.task_types)), "model", len(scope.models))
    band = ibis.least((rows.complexity * BANDS).floor(), BANDS - 1).cast("int64").fill_null(-1)
    rows = rows.mutate(band=band, step=_step(rows, width_h))
    keys = ("task_type", "model", "band", "step")
    sums = rows.group_by(*keys).agg(n=rows.count(), total=rows.quality.sum(), squares=(rows.quality * rows.quality).sum())
    found = sums.order_by(*keys).to_pyarrow()
    tasks, task = _coded(found["task_type"].to_pylist())
    models, model = _coded(found["model"].to_pylist())
    n, total, squares = (found[name].to_numpy().astype(np.float64) for name in ("n", "total", "squares"))
    _, kind = np.unique(np.stack([task, model, found["band"].to_numpy()]), axis=1, return_inverse=True)
    mean = (np.bincount(kind, total) / np.bincount(kind, n))[kind] if len(n) else n
    return _Labels(
        tasks=tasks,
        models=models,
        task=task,
        model=model,
        step=found["step"].to_numpy(),
        n=n,
        total=total,
        missed=total - n * mean,
        squares=squares - 2 * mean * total + n * mean * mean,
    )


def _coded(values: list[str]) -> tuple[list[str], Places]:
    names = sorted(set(values))
    place = {name: code for code, name in enumerate(names)}
    return names, np.array([place[value] for value in values], dtype=np.int64)


def _step(rows: ibis.Table, width_h: int) -> ibis.expr.types.IntegerValue:
    return (rows.started_s / (width_h * SECONDS_PER_HOUR)).floor().cast("int64")


def _width(scope: AnalysisScope) -> int:
    hours = (scope.end_s - scope.start_s) / SECONDS_PER_HOUR
    return next((width for width in WIDTHS_H if hours / width <= MAX_STEPS), WIDTHS_H[-1])


def _threshold(scope: AnalysisScope, labels: _Labels) -> tuple[float | None, str]:
    asked = scope.parameters
    n = float(labels.n.sum())
    if n == 0:
        return None, NO_QUALITY
    if asked.quality_threshold is not None:
        return asked.quality_threshold, "the quality threshold that was asked for"
    mean = math.fsum(labels.total.tolist()) / n
    return mean - asked.max_quality_drop, (
        f"no threshold was asked for: today's mean quality less the allowed drop of {asked.max_quality_drop:g}, so that about half of all "
        "answers fall below it and segments compare with each other"
    )


def _low_quality(
    requests: ibis.Table, scope: AnalysisScope, evidence: RoutingEvidence, threshold: float | None
) -> tuple[list[LowQuality], Measured]:
    """By segment of the evidence, by task type where there is none."""
    if threshold is None:
        return [], Unidentifiable(unidentifiable=NO_QUALITY)
    segments = evidence.segments or evidence.tasks
    rows = fold_rare(requests.filter(requests.quality.notnull()), "task_type", len(scope.task_types))
    rows = rows.mutate(place=segment_place(rows, [segment.when for segment in segments]))
    by = "place" if segments else "task_type"
    counted = rows.group_by(by).agg(n=rows.count(), below=(rows.quality < threshold).sum()).to_pyarrow().to_pylist()
    n, below = sum(row["n"] for row in counted), sum(row["below"] for row in counted)
    kinds = [row for row in counted if row[by] is not None]
    # Hypergeometric: this many low answers or more, were low answers spread over all segments alike.
    tails = [float(stats.hypergeom.sf(row["below"] - 1, n, below, row["n"])) for row in kinds]
    found = []
    for row, p in zip(kinds, false_discovery_adjusted(tails), strict=True):
        segment = segments[row[by]] if segments else None
        found.append(
            LowQuality(
                segment=segment.id if segment else row[by],
                label=segment.label if segment else row[by],
                task_type=segment.task_type if segment else row[by],
                labelled=row["n"],
                below=row["below"],
                share_below=proportion_interval(row["below"], row["n"]),
                stands_out=p <= FALSE_DISCOVERY_RATE,
            )
        )
    return sorted(found, key=lambda each: (-each.below / each.labelled, each.segment)), proportion_interval(below, n)


# --- models that do not fit a segment -------------------------------------------------------------------------------------------------


def _mismatches(evidence: RoutingEvidence) -> tuple[list[Mismatch], Unidentifiable | None]:
    """Each model in use against the one with the best safe end in its segment, tested together."""
    if evidence.refusal:
        return [], Unidentifiable(unidentifiable=evidence.refusal)
    pairs, evidence = [], evidence.over_all()
    for segment in evidence.segments or evidence.tasks:
        known = [(arm, quality) for arm in segment.arms if isinstance(quality := choice(segment, arm).quality, Estimate)]
        if len(known) < 2:
            continue
        best, _ = min(known, key=lambda pair: (-pair[1].low, pair[0].model))
        for arm, _ in known:
            gap = difference(best.quality, arm.quality)
            if arm is not best and arm.requests > 0 and isinstance(gap, Estimate):
                pairs.append((segment, arm, best, gap))
    if not pairs:
        return [], Unidentifiable(unidentifiable="in no segment two models were seen often enough to compare; route a small random share")
    adjusted = false_discovery_adjusted([p_value(gap) for *_, gap in pairs])
    found = [
        Mismatch(
            segment=segment.id,
            label=segment.label,
            task_type=segment.task_type,
            model=arm.model,
            requests=arm.requests,
            quality=arm.quality,
            alternative=best.model,
            alternative_quality=best.quality,
            loss=gap,
            cost_change_usd=difference(best.cost_usd, arm.cost_usd),
            cheapest_better=_cheapest_better(segment, arm),
            adjusted_p=p,
        )
        for (segment, arm, best, gap), p in zip(pairs, adjusted, strict=True)
        if p <= FALSE_DISCOVERY_RATE and gap.estimate > 0
    ]
    return sorted(found, key=_points_lost), None


def _cheapest_better(segment: SegmentEvidence, model: ArmEvidence) -> str | None:
    better = [
        (arm.cost_usd.estimate, arm.model)
        for arm in segment.arms
        if isinstance(gap := difference(choice(segment, arm).quality, model.quality), Estimate)
        and gap.low > 0
        and isinstance(arm.cost_usd, Estimate)
    ]
    return min(better)[1] if better else None


def _points_lost(mismatch: Mismatch) -> tuple[float, str, str]:
    loss = mismatch.loss.estimate if isinstance(mismatch.loss, Estimate) else 0.0
    return -loss * mismatch.requests, mismatch.segment, mismatch.model


# --- failures that belong to one task-model pair --------------------------------------------------------------------------------------


@dataclass
class _Calls:
    """Calls by step of time, and how many of them were of each kind."""

    calls: dict[int, int] = field(default_factory=lambda: defaultdict(int))
    affected: dict[Kind, dict[int, int]] = field(default_factory=lambda: defaultdict(lambda: defaultdict(int)))

    def count(self, kind: Kind) -> tuple[int, int]:
        """Calls and affected calls over the window."""
        return sum(self.calls.values()), sum(self.affected[kind].values())

    def thinned(self, kind: Kind) -> tuple[int, int]:
        """The same, divided by the design effect of time: how much more the rate varies than with independent calls.

        deff = sum_b (k_b - p n_b)^2 / (n p (1 - p)) over steps b, at least 1 (Kish 1965, Survey Sampling, 8.2). An outage hits
        whatever runs in its hours; its calls hang together and count for few.
        """
        n, k = self.count(kind)
        if k == 0 or k == n or len(self.calls) < 2:
            return n, k
        rate = k / n
        missed = math.fsum((self.affected[kind].get(step, 0) - rate * calls) ** 2 for step, calls in self.calls.items())
        factor = max(missed / (n * rate * (1 - rate)), 1.0)
        return round(n / factor), round(k / factor)


def _incompatibilities(requests: ibis.Table, scope: AnalysisScope, width_h: int) -> tuple[list[Incompatibility], Unidentifiable | None]:
    """Pairs whose rate is above that of the model's other tasks and above that of the task's other models, both at once."""
    pairs = _calls(requests, scope, width_h)
    by_model, by_task = _sums(pairs, 1), _sums(pairs, 0)
    kinds: tuple[Kind, ...] = ("failure", "refusal", "truncation")
    tested: list[tuple[Kind, str, str, float]] = []
    for (task, model), pair in sorted(pairs.items()):
        for kind in kinds:
            if pair.count(kind)[1] == 0:
                continue
            elsewhere = (_less(by_model[model], pair), _less(by_task[task], pair))
            if all(other.count(kind)[0] for other in elsewhere):
                tested.append((kind, task, model, max(_more_often(pair, other, kind) for other in elsewhere)))
    adjusted = false_discovery_adjusted([p for *_, p in tested])
    found = []
    for (kind, task, model, _), p in zip(tested, adjusted, strict=True):
        if p > FALSE_DISCOVERY_RATE:
            continue
        calls, affected = pairs[task, model].count(kind)
        found.append(
            Incompatibility(
                kind=kind,
                task_type=task,
                model=model,
                calls=calls,
                affected=affected,
                rate=proportion_interval(affected, calls),
                same_model_rate=_rate(_less(by_model[model], pairs[task, model]), kind),
                same_task_rate=_rate(_less(by_task[task], pairs[task, model]), kind),
                adjusted_p=p,
            )
        )
    named = any(pair.count(kind)[1] for pair in pairs.values() for kind in kinds if kind != "failure")
    unknown = Unidentifiable(
        unidentifiable="no error class names a refusal or a cut-off answer, and one that the provider returned as a success cannot be seen; "
        "log the finish reason as the error type"
    )
    return sorted(found, key=lambda each: (-each.affected, each.kind, each.task_type, each.model)), None if named else unknown


def _calls(requests: ibis.Table, scope: AnalysisScope, width_h: int) -> dict[tuple[str, str], _Calls]:
    rows = requests.filter(~requests.is_cache_hit.fill_null(False))
    rows = fold_rare(fold_rare(rows, "task_type", len(scope.task_types)), "model", len(scope.models))
    error = rows.error_type.fill_null("").lower()
    conditions: dict[Kind, Any] = {"failure": rows.status == "failure"}
    for kind, names in NAMES_OF.items():
        named = error.contains(names[0])
        for name in names[1:]:
            named = named | error.contains(name)
        conditions[kind] = named
    rows = rows.mutate(step=_step(rows, width_h), **conditions)
    sums = rows.group_by("task_type", "model", "step").agg(calls=rows.count(), **{kind: rows[kind].sum() for kind in conditions})
    pairs: dict[tuple[str, str], _Calls] = defaultdict(_Calls)
    for row in sums.to_pyarrow().to_pylist():
        pair = pairs[row["task_type"], row["model"]]
        pair.calls[row["step"]] += row["calls"]
        for kind in conditions:
            if row[kind]:
                pair.affected[kind][row["step"]] += row[kind]
    return pairs


def _sums(pairs: Mapping[tuple[str, str], _Calls], by: int) -> dict[str, _Calls]:
    found: dict[str, _Calls] = defaultdict(_Calls)
    for names, pair in pairs.items():
        _add(found[names[by]], pair, 1)
    return found


def _less(whole: _Calls, part: _Calls) -> _Calls:
    rest = _Calls()
    _add(rest, whole, 1)
    _add(rest, part, -1)
    rest.calls = {step: calls for step, calls in rest.calls.items() if calls}
    return rest


def _add(to: _Calls, more: _Calls, sign: int) -> None:
    for step, calls in more.calls.items():
        to.calls[step] += sign * calls
    for kind, by_step in more.affected.items():
        for step, affected in by_step.items():
            to.affected[kind][step] += sign * affected


def _more_often(pair: _Calls, other: _Calls, kind: Kind) -> float:
    """One-sided p-value of Fisher's exact test that the pair's rate is not above the other's."""
    (n, k), (others, affected) = pair.thinned(kind), other.thinned(kind)
    return float(stats.hypergeom.sf(k - 1, n + others, k + affected, n))


def _rate(calls: _Calls, kind: Kind) -> float:
    n, k = calls.count(kind)
    return k / n if n else 0.0


# --- quality over time ----------------------------------------------------------------------------------------------------------------


@dataclass
class _Series:
    """One model (on one task) over time: labelled answers per step, and the sum of what they miss of their kind's mean."""

    model: str
    task: str | None
    n: Floats
    missed: Floats
    squares: float


@dataclass(frozen=True)
class _Stretch:
    """Steps [first, last) that stand out most, with the search over stretches already paid for in p."""

    first: int
    last: int
    size: float
    se: float
    p: float


def _degradations(labels: _Labels, scope: AnalysisScope, width_h: int) -> tuple[list[Degradation], Unidentifiable | None]:
    """Stretches of low quality in any series: by model over all tasks, and by model and task."""
    series, first_step = _series(labels)
    scanned = [(each, stretch) for each in series if (stretch := _worst_stretch(each)) is not None]
    if not scanned:
        return [], Unidentifiable(
            unidentifiable=NO_QUALITY
            if not len(labels.n)
            else f"no model has {MIN_LABELS} labelled answers in a stretch of the window and as many outside it; score more answers"
        )
    adjusted = false_discovery_adjusted([stretch.p for _, stretch in scanned])
    found = []
    for (each, stretch), p in zip(scanned, adjusted, strict=True):
        shown: _Stretch | None = stretch
        for _ in range(MAX_STRETCHES):
            if shown is None or p > FALSE_DISCOVERY_RATE:
                break
            if -shown.size >= scope.parameters.max_quality_drop:
                found.append(_degradation(each, shown, p, first_step, width_h))
            each.n[shown.first : shown.last] = 0
            each.missed[shown.first : shown.last] = 0
            shown = _worst_stretch(each)
            # Further stretches of one series pay for all series.
            p = min(shown.p * len(scanned), 1.0) if shown is not None else 1.0
    return sorted(found, key=lambda each: (each.adjusted_p, each.task_type is not None, each.model, each.task_type or "", each.start)), None


def _series(labels: _Labels) -> tuple[list[_Series], int]:
    """Series by model, and by model and task, and the step that they begin at."""
    if not len(labels.n):
        return [], 0
    first = int(labels.step.min())
    steps = int(labels.step.max()) - first + 1
    found = []
    for code, model in enumerate(labels.models):
        of_model = labels.model == code
        for task in (None, *np.unique(labels.task[of_model]).tolist()):
            which = of_model if task is None else of_model & (labels.task == task)
            place = labels.step[which] - first
            found.append(
                _Series(
                    model,
                    None if task is None else labels.tasks[task],
                    n=np.bincount(place, labels.n[which], minlength=steps).astype(np.float64),
                    missed=np.bincount(place, labels.missed[which], minlength=steps).astype(np.float64),
                    squares=float(labels.squares[which].sum()),
                )
            )
    return found, first


def _worst_stretch(series: _Series) -> _Stretch | None:
    """The stretch whose mean lies furthest below the rest, over all stretches with enough labels; None when there is none.

    z = (mean inside - mean outside) / (s sqrt(1/n_in + 1/n_out)), s the spread of single answers times the robust spread of steps
    (1.4826 MAD of their standardised sums, at least 1). p is Bonferroni's bound on the least of all z (the search pays for itself).
    """
    n, missed = np.concatenate([[0.0], series.n.cumsum()]), np.concatenate([[0.0], series.missed.cumsum()])
    total = float(n[-1])
    if total < 2 * MIN_LABELS or series.squares <= 0:
        return None
    spread = math.sqrt(series.squares / total)
    filled = series.n >= 5
    if filled.sum() >= 5:
        sums = series.missed[filled] / (spread * np.sqrt(series.n[filled]))
        spread *= max(MAD_TO_SD * float(np.median(np.abs(sums - np.median(sums)))), 1.0)
    inside, below = n[None, :] - n[:, None], missed[None, :] - missed[:, None]
    outside = total - inside
    is_tested = (inside >= MIN_LABELS) & (outside >= MIN_LABELS)
    if not is_tested.any():
        return None
    with np.errstate(divide="ignore", invalid="ignore"):
        size = below / inside - (float(missed[-1]) - below) / outside
        se = spread * np.sqrt(1 / inside + 1 / outside)
        z = np.where(is_tested, size / se, np.inf)
    first, last = (int(place) for place in np.unravel_index(int(np.argmin(z)), z.shape))
    p = min(float(stats.norm.cdf(z[first, last])) * int(is_tested.sum()), 1.0)
    return _Stretch(first, last, float(size[first, last]), float(se[first, last]), p)


def _degradation(series: _Series, stretch: _Stretch, p: float, first_step: int, width_h: int) -> Degradation:
    def at(step: int) -> datetime:
        return datetime.fromtimestamp((first_step + step) * width_h * SECONDS_PER_HOUR, UTC)

    filled = np.flatnonzero(series.n)
    kind: Literal["episode", "since", "until"] = "episode"
    if stretch.last > filled[-1]:
        kind = "since"
    elif stretch.first <= filled[0]:
        kind = "until"
    return Degradation(
        model=series.model,
        task_type=series.task,
        kind=kind,
        start=at(stretch.first),
        end=at(stretch.last),
        size=around(stretch.size, stretch.se),
        labelled=int(series.n[stretch.first : stretch.last].sum()),
        adjusted_p=p,
    )
