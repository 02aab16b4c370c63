"""`identify_quality_issues`: where answers are poor, who gives them, what fails together, and what got worse when.

Belongs here: low shares by segment, mismatches of model and segment, failures that belong to one task-model pair, and
degradation over time. Does not belong here: means by model and task (`quality_metrics`), availability (`bottlenecks`).
"""

from __future__ import annotations

from datetime import datetime
from typing import Literal

from pydantic import Field

from routing_pipeline.estimates import Estimate, Measured, Result, Unidentifiable, quantity
from routing_pipeline.policy.rule_set import Grade


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
    adjusted_p: float = quantity("Benjamini-Hochberg adjusted p-value over all segments and models", "0..1")


class Incompatibility(Result):
    """Failures of one kind that concentrate in one pair of task and model."""

    kind: Literal["failure", "refusal", "truncation"]
    task_type: str
    model: str
    calls: int = quantity("Calls to the model for the task", "calls")
    affected: int = quantity("Of them, of this kind", "calls")
    rate: Measured = quantity("Of the pair's calls", "0..1")
    same_model_rate: float = quantity("The model on its other tasks", "0..1")
    same_task_rate: float = quantity("The task on its other models", "0..1")
    adjusted_p: float = quantity("Benjamini-Hochberg adjusted p-value of the weaker of both comparisons", "0..1")


class Degradation(Result):
    """A stretch of time in which a model answered worse than in the rest of the window, mix of requests held fixed."""

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
