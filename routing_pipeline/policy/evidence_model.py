"""What the logs can tell about choices not made: the result of gathering evidence.

Belongs here: the shape of the evidence that analyses, recommendations and the report read. Does not belong here: how it
is computed (`policy.evidence`).
"""

from __future__ import annotations

from typing import Literal

from pydantic import Field

from routing_pipeline.estimates import Measured, Result, quantity
from routing_pipeline.policy.rule_set import Grade, When


class ArmEvidence(Result):
    """What sending all requests of one segment to one model would have given (doubly robust, session-clustered)."""

    model: str
    requests: int = quantity("Requests of the segment that went to this model first", "requests")
    labelled: int = quantity("Of them, successful and with a quality", "requests")
    share: float = quantity("Share of the segment's requests that went to it", "0..1")
    effective_sample_size: float = quantity("(sum of weights)^2 / sum of squared weights", "requests")
    min_propensity: float = quantity("Smallest probability of this model over the segment's cells", "0..1")
    supported: bool = Field(description="Seen often enough in every part of the segment to say anything")
    cost_usd: Measured = quantity("Per request, all attempts", "USD")
    quality: Measured = quantity("Of successful requests", "0..1")
    latency_ms: Measured = quantity("Mean, per request", "ms")
    success: Measured = quantity("Share of requests that end well", "0..1")
    cost_change_usd: Measured = quantity("Against today's routing of the same requests, per request", "USD")
    quality_change: Measured = quantity("Against today's routing of the same requests", "0..1")
    latency_change_ms: Measured = quantity("Against today's routing of the same requests", "ms")


class SegmentEvidence(Result):
    """One kind of request: how it is routed today and what each model would have given."""

    id: str
    label: str = Field(description="For readers, e.g. `code, complexity 0.5 to 0.8`")
    task_type: str
    when: When
    requests: int
    labelled: int
    share: float = quantity("Share of the window's final requests", "0..1")
    cost_usd: Measured = quantity("Today, per request", "USD")
    quality: Measured = quantity("Today, of successful requests, corrected for which were labelled", "0..1")
    latency_ms: Measured = quantity("Today, mean", "ms")
    success: Measured = quantity("Today", "0..1")
    arms: tuple[ArmEvidence, ...]


class PropensityCheck(Result):
    """Whether logged propensities match what happened: observed share against mean logged propensity, by model."""

    model: str
    observed_share: float
    mean_propensity: float
    matches: bool


class RoutingEvidence(Result):
    """The sufficient statistics of the window, summed up for readers; the cells themselves lie in `cells_uri`."""

    grade: Grade
    grade_reason: str
    requests: int
    labelled: int
    clusters: int
    propensities: Literal["logged", "estimated"]
    propensity_check: tuple[PropensityCheck, ...] = ()
    complexity: Literal["logged", "derived", "absent"] = Field(
        description="`derived` complexity may not appear in a rule; prompt_tokens takes its place"
    )
    tasks: tuple[SegmentEvidence, ...] = Field(description="One entry per task type")
    segments: tuple[SegmentEvidence, ...] = Field(description="Task types cut by complexity (else by prompt length)")
    unsupported_share: float = quantity("Share of (segment, model) pairs of which the logs cannot tell, by traffic", "0..1")
    warnings: tuple[str, ...] = ()
    refusal: str | None = Field(default=None, description="Why nothing at all can be estimated; null when something can")
    cells_uri: str | None = Field(default=None, description="Parquet of the cells")
    sampled: float = quantity("Share of the window's final requests that it rests on, in whole sessions; 1: all", "0..1", default=1.0)

    @property
    def traffic(self) -> float:
        """Final requests of the whole window, of which `requests` are those that this rests on."""
        return self.requests / self.sampled

    def over_all(self) -> RoutingEvidence:
        """The same with requests counted as in the whole window: exactly in all, as the sample has it in each segment."""
        if self.sampled == 1.0:
            return self

        def scaled(segment: SegmentEvidence) -> SegmentEvidence:
            arms = tuple(arm.model_copy(update={"requests": round(arm.requests / self.sampled)}) for arm in segment.arms)
            return segment.model_copy(update={"requests": round(segment.requests / self.sampled), "arms": arms})

        whole = {"requests": round(self.traffic), "tasks": tuple(map(scaled, self.tasks)), "segments": tuple(map(scaled, self.segments))}
        return self.model_copy(update={**whole, "sampled": 1.0})
