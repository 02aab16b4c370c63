"""`optimize_routing_rules`: the rule set that survives its proof, or why there is none.

Belongs here: the result that the report, the rule set artefact and the other recommendations read, and putting the
search (`policy.search`) and the proof (`policy.proof`) together. Does not belong here: the statistics themselves.
"""

from __future__ import annotations

from pydantic import Field

from routing_pipeline.estimates import Measured, Result, quantity
from routing_pipeline.policy.rule_set import Outcomes, RuleSet


class Candidate(Result):
    """One policy that was considered, safest first."""

    label: str
    rules: int
    moved_share: float = quantity("Share of requests that it routes differently", "0..1")
    outcomes: Outcomes = Field(description="On the half that the search never saw")
    cost_change: Measured = quantity("Relative to today", "1")
    quality_change: Measured = quantity("Difference from today", "0..1")
    passed: bool
    failed_constraint: str | None = Field(default=None, description="First constraint that its safe end broke")


class Conflict(Result):
    """Constraints that cannot all hold, and the nearest that can."""

    constraints: str
    nearest_feasible: str


class UnprovenHypothesis(Result):
    """What looked best but could not be proven, and how much data would decide it."""

    description: str
    cost_change: Measured
    requests_needed: int | None


class RoutingRules(Result):
    """The answer to `optimize_routing_rules`."""

    rule_set: RuleSet
    reasons: tuple[str, ...] = Field(description="Why these rules, or why none")
    walk: tuple[Candidate, ...] = Field(description="The proof: candidates from safest to boldest, up to the first failure")
    conflicts: tuple[Conflict, ...] = ()
    hypothesis: UnprovenHypothesis | None = None
    moved_share: float = quantity("Share of requests routed differently by the rule set", "0..1")
    moved_spend_share: float = quantity("Share of today's spend that those requests make up", "0..1")
    saving_usd_per_day: Measured = quantity("Over the window's traffic; positive is a saving", "USD/day")
    tipping_point: Measured = quantity("Average hidden overstatement of quality on moved traffic that would undo the claim", "0..1")
