"""`create_optimization_plan`: what to do in which order, who has to act, and how one knows that it worked.

Belongs here: sorting recommendations into phases, their effort, prerequisites and validation criteria. Does not belong
here: the recommendations' numbers (each names the result it came from), their risks (`recommendation.optimization_risks`).
"""

from __future__ import annotations

from typing import Literal

from pydantic import Field

from routing_pipeline.estimates import Measured, Result, quantity
from routing_pipeline.policy.rule_set import Level

PhaseNumber = Literal[1, 2, 3]
ImpactMetric = Literal["cost", "quality", "latency", "availability", "evidence"]


class Impact(Result):
    """What one item would bring for one metric."""

    metric: ImpactMetric
    label: str = Field(description="For readers, e.g. `Saving over 30 days`")
    unit: Literal["USD", "points", "ms", "share", "requests"]
    value: Measured


class PlanItem(Result):
    """One recommendation, in the seed's format."""

    id: str
    category: str
    title: str
    phase: PhaseNumber
    impact_level: Level
    current_state: str
    recommended_change: str
    expected_impact: tuple[Impact, ...]
    effort: Level
    effort_reason: str
    risk: Level
    risk_reason: str
    who: str = Field(description="Who has to act")
    prerequisites: tuple[str, ...]
    validation_criteria: tuple[str, ...]
    source: str = Field(description="Section of report.json that its numbers come from")


class Phase(Result):
    """One stretch of the roadmap."""

    number: PhaseNumber
    title: str
    timing: str
    items: tuple[str, ...] = Field(description="Ids of the items to start in it, in order")
    nothing_because: str | None = Field(default=None, description="Why the phase is empty; null when it is not")


class Payback(Result):
    """When the work has paid for itself."""

    days_per_1000_usd: Measured = quantity("Days of saving that pay for 1,000 USD of effort", "days")
    explanation: str


class OptimizationPlan(Result):
    """The answer to `create_optimization_plan`."""

    items: tuple[PlanItem, ...]
    phases: tuple[Phase, Phase, Phase]
    high_impact: tuple[str, ...] = Field(description="Ids of items")
    medium_impact: tuple[str, ...]
    low_impact: tuple[str, ...]
    resources: tuple[str, ...] = Field(description="Who is needed for how many items")
    payback: Payback
    approval_needed: bool = Field(description="The change moves more than 5 % of traffic or spend")
    verdict: str = Field(description="One sentence for a manager")
