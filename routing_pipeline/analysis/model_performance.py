"""`evaluate_model_performance`: what each model delivers on each kind of task, and which differences are real.

Belongs here: quality, speed, success, cost and reliability per model and task type, raw and (from the evidence) adjusted
for who was routed where. Does not belong here: which model a request should go to (`routing_decisions`, `policy`).
"""

from __future__ import annotations

from typing import Literal

from pydantic import Field

from routing_pipeline.estimates import Measured, Result, quantity
from routing_pipeline.policy.rule_set import Grade

Outcome = Literal["quality", "cost_usd", "latency_ms"]


class ModelOnTask(Result):
    """One model on one task type. Requests count for the model that the router chose first, calls for the model called."""

    model: str
    task_type: str
    tier: str | None = Field(description="Tier from the model catalog; null when the model is not in it")
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
    better_than: tuple[str, ...] = Field(default=(), description="Models whose adjusted quality on this task is distinguishably lower")
    worse_than: tuple[str, ...] = Field(default=(), description="Models whose adjusted quality on this task is distinguishably higher")
    against_today: Literal["better", "worse", "cannot tell"] = Field(
        default="cannot tell", description="Adjusted quality against today's routing of the task"
    )


class Contrast(Result):
    """One difference between two choices for the same requests."""

    task_type: str
    outcome: Outcome
    model: str
    against: str | None = Field(description="The other model; null is today's routing")
    difference: Measured = Field(description="model less against, in the unit of the outcome")
    adjusted_p: float = quantity("Benjamini-Hochberg adjusted p-value within the outcome", "0..1")
    distinguishable: bool = Field(description="At a false discovery rate of 5 %")


class ModelPerformance(Result):
    """The answer to `evaluate_model_performance`."""

    performances: tuple[ModelOnTask, ...] = Field(description="Largest first")
    performances_not_listed: int = quantity("Pairs of model and task left out, the smallest ones", "pairs")
    contrasts: tuple[Contrast, ...] = Field(description="Quality first, then largest task first")
    contrasts_tested: int = quantity("Differences that the evidence allowed to test", "differences")
    contrasts_distinguishable: int = quantity("Of them, real at a false discovery rate of 5 %", "differences")
    absent_models: tuple[str, ...] = Field(default=(), description="Asked for, but not in the window")
    grade: Grade | None = Field(description="Grade of the evidence behind everything adjusted; null where there is none")
    method: str = Field(description="How raw and adjusted numbers and the reliability score are computed")
    notices: tuple[str, ...] = Field(default=(), description="What is missing and what to collect")
