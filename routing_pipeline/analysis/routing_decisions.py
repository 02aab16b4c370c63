"""`analyze_routing_decisions`: how much of the traffic went where the evidence says best, and what the rest left behind.

Belongs here: judging today's choices, segment by segment and rule by rule, by the goal that the user named. Does not
belong here: proposing rules (`policy.search`) or proving them (`policy.proof`); what is shown here was not held out.
"""

from __future__ import annotations

from pydantic import Field

from routing_pipeline.estimates import Measured, Result, quantity
from routing_pipeline.parameters import Goal
from routing_pipeline.policy.rule_set import Grade, Outcomes, When


class SegmentDecision(Result):
    """One kind of request: where it went, and where the evidence says it should have gone."""

    segment: str
    label: str = Field(description="For readers")
    task_type: str
    requests: int = quantity("Final requests in the window", "requests")
    best: str | None = Field(description="Best model that meets every guard at the safe end; null when none does")
    best_share: float = quantity("Share of the segment's requests sent to the best model", "0..1")
    elsewhere_share: float = quantity("Share sent to models that are distinguishably worse for the goal, or break a guard", "0..1")
    undecided_share: float = quantity("Share sent where the evidence cannot tell", "0..1")
    why_undecided: str | None = Field(default=None, description="Why the evidence cannot tell, where it cannot")


class MissedOpportunity(Result):
    """A segment that one model would have served better for the goal than today's routing, at the safe end."""

    segment: str
    label: str = Field(description="For readers")
    task_type: str
    when: When
    model: str = Field(description="Where the segment should have gone")
    requests: int = quantity("Final requests in the window", "requests")
    gain_per_request: Measured = Field(description="Better than today by, in the goal's unit")
    gain_total: Measured = Field(description="gain_per_request x requests: what the window left on the table, in the goal's unit")
    cost_change_usd: Measured = quantity("Against today, per request", "USD")
    quality_change: Measured = quantity("Against today", "0..1")
    latency_change_ms: Measured = quantity("Against today", "ms")


class RuleEffect(Result):
    """One rule of today's gateway: what passes through it and what the best single alternative would have given."""

    rule_id: str
    requests: int = quantity("Final requests that it decided", "requests")
    share: float = quantity("Of all final requests", "0..1")
    models: dict[str, float] = Field(description="Share of its requests by the model it chose first, largest first")
    spend_usd: float | None = quantity("Spend of its requests; null when none is priced", "USD")
    today: Outcomes = Field(description="What its requests got, as they came")
    success: Measured = quantity("Share of its requests that ended well", "0..1")
    covered_share: float = quantity("Share of its requests that fall into a segment of the evidence", "0..1")
    alternative: str | None = Field(
        description="Best single model for its mix of segments that meets every guard; null when none is shown to"
    )
    alternative_outcomes: Outcomes = Field(description="What that model would have given for its mix of segments")
    gain_per_request: Measured = Field(description="Alternative against today's routing of the same segments, in the goal's unit")


class RoutingDecisions(Result):
    """The answer to `analyze_routing_decisions`."""

    goal: Goal
    goal_unit: str = Field(description="Unit of regret and gains: USD, ms, 0..1, or today's means (balanced)")
    guards: tuple[str, ...] = Field(description="What a better choice must also keep, at the safe end of its interval")
    best_share: float = quantity("Share of requests sent where the evidence says best", "0..1")
    elsewhere_share: float = quantity("Share sent to a distinguishably worse choice, or one that breaks a guard", "0..1")
    undecided_share: float = quantity("Share of requests of which the evidence cannot tell", "0..1")
    regret_per_request: Measured = Field(description="What today's routing gives away per request, in the goal's unit")
    regret_total: Measured = Field(description="regret_per_request x final requests, in the goal's unit")
    segments: tuple[SegmentDecision, ...] = Field(description="Largest first")
    opportunities: tuple[MissedOpportunity, ...] = Field(description="Most left on the table first")
    rules: tuple[RuleEffect, ...] = Field(description="Today's rules, most traffic first")
    rules_not_listed: int = quantity("Rules left out, the smallest ones", "rules")
    without_rule_share: float = quantity("Share of requests without a logged rule", "0..1")
    grade: Grade | None = Field(description="Grade of the evidence; null where there is none")
    notices: tuple[str, ...] = Field(default=(), description="What is missing, what to collect, and how to read the numbers")
