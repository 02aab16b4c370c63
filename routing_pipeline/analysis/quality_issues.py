"""`identify_quality_issues`: where answers are poor, who gives them, what fails together, and what got worse when.

Belongs here: low shares by segment, mismatches of model and segment. Does not belong here: failures that belong to one task-model pair
(`incompatibilities`), degradation over time (`quality_over_time`), means by model and task (`quality_metrics`), availability (`bottlenecks`).
"""

from __future__ import annotations

import math
from typing import ClassVar

import ibis
from pydantic import Field

from routing_pipeline.analysis.choices import LISTED, choice, fold_rare, segment_place
from routing_pipeline.analysis.incompatibilities import Incompatibility, incompatibilities
from routing_pipeline.analysis.quality_over_time import NO_QUALITY, Degradation, Labels, degradations, labels_of, step_width_h
from routing_pipeline.estimates import Estimate, Measured, Result, Unidentifiable, quantity
from routing_pipeline.policy.evidence_model import ArmEvidence, RoutingEvidence, SegmentEvidence
from routing_pipeline.rules.model import Grade
from routing_pipeline.stats.counted_tests import hypergeometric_tail
from routing_pipeline.stats.inference import FALSE_DISCOVERY_RATE, difference, false_discovery_adjusted, p_value, proportion_interval
from routing_pipeline.text import LogName
from routing_pipeline.window.scope import AnalysisScope


class LowQuality(Result):
    """How many answers of one kind of request fall below the threshold."""

    segment: str
    label: str = Field(description="For readers")
    task_type: LogName
    labelled: int = quantity("Answers with a quality", "requests")
    below: int = quantity("Of them, below the threshold", "requests")
    share_below: Measured = quantity("Of labelled answers", "0..1")
    stands_out: bool = Field(description="Distinguishably above the share of all other requests, false discovery rate 5 %")


class Mismatch(Result):
    """A model that serves a segment distinguishably worse than the best alternative."""

    segment: str
    label: str = Field(description="For readers")
    task_type: LogName
    model: LogName
    requests: int = quantity("Requests of the segment sent to it", "requests")
    quality: Measured = quantity("Had the whole segment gone to it", "0..1")
    alternative: LogName = Field(description="Model with the best safe end")
    alternative_quality: Measured = quantity("Had the whole segment gone there", "0..1")
    loss: Measured = quantity("Alternative less model", "0..1")
    cost_change_usd: Measured = quantity("Alternative less model, per request", "USD")
    cheapest_better: LogName | None = Field(
        description="Cheapest model whose quality is surely above this one's; null when costs are unknown"
    )
    adjusted_p: float = quantity("Benjamini-Hochberg adjusted p-value over all segments and models", "0..1")


class QualityIssues(Result):
    """The answer to `identify_quality_issues`."""

    main_table: ClassVar = "low_quality"

    threshold: float | None = quantity("Answers below it count as low; null without any quality", "0..1")
    threshold_source: str = Field(description="Where the threshold comes from")
    share_below: Measured = quantity("Of all labelled answers", "0..1")
    low_quality: tuple[LowQuality, ...] = Field(description="Highest share first")
    mismatches: tuple[Mismatch, ...] = Field(description="Most quality lost (loss x requests) first")
    mismatches_not_listed: int = quantity("Mismatches left out, the smallest ones", "pairs")
    mismatches_unknown: Unidentifiable | None = Field(default=None, description="Why mismatches cannot be evaluated, where they cannot")
    incompatibilities: tuple[Incompatibility, ...] = Field(description="Most calls affected first")
    error_kinds_unknown: Unidentifiable | None = Field(
        default=None, description="Why refusals and truncations cannot be distinguished from other failures, where they cannot"
    )
    degradations: tuple[Degradation, ...] = Field(description="Strongest evidence first")
    degradation_unknown: Unidentifiable | None = Field(
        default=None, description="Why changes over time cannot be detected, where they cannot"
    )
    resolution_hours: int = quantity("Width of the steps in which quality over time was examined", "hours")
    grade: Grade | None = Field(description="Grade of the evidence behind mismatches; null where there is none")
    notices: tuple[str, ...] = Field(default=(), description="What is missing and what to collect")


def quality_issues(requests: ibis.Table, scope: AnalysisScope, evidence: RoutingEvidence) -> QualityIssues:
    """Where answers are poor, who gives them, what fails together, and what got worse when.

    Args:
        requests: rows of the window, grain one attempt (schema.SCOPED_REQUESTS); quality is over successful final rows.
        scope: what they cover, and the threshold asked for.
        evidence: what the logs can tell about choices not made; mismatches come from it.
    """
    width_h = step_width_h(scope)
    labels = labels_of(requests, scope, width_h)
    threshold, source = _threshold(scope, labels)
    low, overall = _low_quality(requests, scope, evidence, threshold)
    mismatches, why_no_mismatch = _mismatches(evidence)
    incompatible, why_no_kinds = incompatibilities(requests, scope, width_h)
    degraded, why_no_time = degradations(labels, scope, width_h)
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


def _threshold(scope: AnalysisScope, labels: Labels) -> tuple[float | None, str]:
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
    tails = [hypergeometric_tail(row["below"], n, below, row["n"]) for row in kinds]
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
