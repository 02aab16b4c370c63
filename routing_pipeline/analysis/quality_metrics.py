"""`get_quality_metrics`: how good answers were, by model and task, and what quality has to do with cost.

Belongs here: means of quality as labelled and corrected for which requests got labelled, completion, users' ratings, and
the correlation with cost. Does not belong here: what another model would have given (`policy`), where answers are poor
(`quality_issues`).
"""

from __future__ import annotations

from typing import Literal

from pydantic import Field

from routing_pipeline.estimates import Measured, Result, quantity


class QualityLine(Result):
    """One model, or one task type, or everything."""

    group: str | None = Field(description="Model or task type; null is everything")
    requests: int = quantity("Final requests", "requests")
    answered: int = quantity("Of them, successful", "requests")
    labelled: int = quantity("Of the successful, with a quality", "requests")
    label_coverage: Measured = quantity("labelled / answered", "0..1")
    quality: Measured = quantity("Mean over labelled answers, as they came; interval over sessions", "0..1")
    quality_corrected: Measured = quantity("Mean over all answers: labelled ones weighted to stand for all of their kind", "0..1")
    corrected_from: float = quantity("Share of answers whose own kind (task, complexity, model) holds enough labels", "0..1")
    completion: Measured = quantity("answered / requests", "0..1")
    rated: int = quantity("Requests that a user rated", "requests")
    user_rating: Measured = quantity("Mean of users' own ratings; never mixed with quality", "0..1")


class Correlation(Result):
    """Spearman's rank correlation of quality and cost per request."""

    labelled: int = quantity("Requests with both", "requests")
    rho: Measured = quantity("Spearman's rank correlation", "-1..1")


class TaskCorrelation(Correlation):
    """The same within one task type."""

    task_type: str


class QualityAgainstCost(Result):
    """Do dearer answers go with better ones? Overall, and among comparable requests."""

    overall: Correlation
    within_task: Correlation = Field(description="Within task types, pooled")
    within_task_and_complexity: Correlation = Field(description="Within task types and complexity bands, pooled")
    tasks: tuple[TaskCorrelation, ...] = Field(description="Largest first")
    simpsons_paradox: Literal["yes", "no", "cannot tell"] = Field(
        description="yes: the sign overall and among comparable requests differ, both distinguishable from 0"
    )
    explanation: str


class QualityMetrics(Result):
    """The answer to `get_quality_metrics`."""

    overall: QualityLine
    models: tuple[QualityLine, ...] = Field(description="Most requests first")
    models_not_listed: int = quantity("Models too small to be listed", "models")
    tasks: tuple[QualityLine, ...] = Field(description="Most requests first")
    tasks_not_listed: int = quantity("Task types too small to be listed", "task types")
    against_cost: QualityAgainstCost
    method: str = Field(description="How the correction works and what it assumes")
    notices: tuple[str, ...] = Field(default=(), description="What is missing and what to collect")
