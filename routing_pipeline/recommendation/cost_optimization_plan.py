"""`generate_cost_optimization_plan`: the actions that reach a saving, cheapest risk first, and how far they reach.

Belongs here: turning proven rules and measured waste into actions with a saving each, and adding them up without
counting a dollar twice. Does not belong here: measuring the waste (`analysis.cost_drivers`), proving the rules
(`recommendation.routing_rules`), who does what when (`recommendation.optimization_plan`).
"""

from __future__ import annotations

from typing import Literal

from pydantic import Field

from routing_pipeline.estimates import Measured, Result, quantity
from routing_pipeline.policy.rule_set import Level

PLAN_DAYS = 30

ActionCategory = Literal["rules", "retries", "cache", "prompt_length", "budgets"]
Reach = Literal["reached", "out_of_reach", "cannot_tell"]


class CostAction(Result):
    """One thing to do about spend."""

    id: str
    category: ActionCategory
    title: str
    what: str = Field(description="What to change, in one sentence")
    saving_usd: Measured = quantity("Over 30 days at the window's traffic, taken alone; positive is a saving", "USD")
    added_saving_usd: Measured = quantity("Over 30 days, on top of the actions before it in the list", "USD")
    risk: Level = Field(description="Risk to quality, speed and availability")
    basis: str = Field(description="Where the number comes from, and what it assumes")
    in_plan: bool = Field(description="Needed to reach the target")


class TeamBudget(Result):
    """A monthly budget for one team: what it spends at today's pace, and after the plan."""

    team: str
    spend_usd: float | None = quantity("30 days at the window's pace; null when unpriced", "USD", default=None)
    budget_usd: float | None = quantity("Configured, per month; null when none is", "USD", default=None)
    recommended_usd: float | None = quantity("Recommended for 30 days; null when there is no spend to go by", "USD", default=None)
    why: str


class CostOptimizationPlan(Result):
    """The answer to `generate_cost_optimization_plan`."""

    days: int = quantity("Length of the plan", "days", default=PLAN_DAYS)
    target_reduction: float = quantity("Saving asked for, as a share of spend", "0..1")
    spend_usd: Measured = quantity("30 days at the window's pace, nothing changed", "USD")
    target_usd: float | None = quantity("Saving asked for, over 30 days; null when spend is unknown", "USD", default=None)
    actions: tuple[CostAction, ...] = Field(description="Cheapest risk first; those not needed for the target stay listed")
    planned_saving_usd: Measured = quantity("Actions in the plan together, no dollar counted twice", "USD")
    planned_reduction: Measured = quantity("The same as a share of spend", "0..1")
    reachable_saving_usd: Measured = quantity("All actions together: the most that the logs support", "USD")
    reachable_reduction: Measured = quantity("The same as a share of spend", "0..1")
    reach: Reach = Field(description="Whether the actions reach the target; by the point estimate, see `reach_is_safe`")
    reach_is_safe: bool = Field(description="The target is met even at the low end of the interval")
    verdict: str = Field(description="One sentence for a manager")
    budgets: tuple[TeamBudget, ...] = ()
