"""`optimize_model_mix`: share of traffic per model now and recommended, and what each binding constraint costs.

Belongs here: the linear programme over traffic shares, its dual values, and the shares that the proven rules imply.
Does not belong here: rules (`recommendation.routing_rules`), estimates (`policy`).
"""

from __future__ import annotations

from pydantic import Field

from routing_pipeline.estimates import Measured, Result, quantity
from routing_pipeline.policy.rule_set import Outcomes


class ModelShare(Result):
    """One model's part of the traffic."""

    model: str
    now: float = quantity("Share of requests routed to it first, today", "0..1")
    recommended: float = quantity("Share under the proven rules; equals `now` when nothing is proven", "0..1")


class TaskMix(Result):
    """The mix within one task type."""

    task_type: str
    requests: int
    shares: tuple[ModelShare, ...] = Field(description="Largest change first")


class ConstraintPrice(Result):
    """What one more unit of a constraint would be worth."""

    constraint: str
    limit: float = quantity("Where the constraint stands, in `limit_unit`", "limit_unit")
    limit_unit: str
    binding: bool = Field(description="The optimum of the linear programme lies on it")
    dual_value: Measured = Field(description="Gain in `unit` when the limit is relaxed by one step; 0 when it does not bind")
    unit: str
    explanation: str = Field(description="The price in words; an estimate, not a proven saving")


class ModelMix(Result):
    """The answer to `optimize_model_mix`."""

    shares: tuple[ModelShare, ...] = Field(description="All traffic, largest change first")
    by_task: tuple[TaskMix, ...]
    expected: Outcomes = Field(description="Of the recommended mix: what the rules' proof showed, nothing beyond it")
    prices: tuple[ConstraintPrice, ...] = Field(description="Dual values of the linear programme over traffic shares")
    moved_share: float = quantity("Share of requests that change model", "0..1")
    reasons: tuple[str, ...]
    verdict: str = Field(description="One sentence for a manager")
