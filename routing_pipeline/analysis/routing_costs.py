"""`get_routing_costs`: what routing costs, who and what it is spent on, where it is heading, and whether the bill is right.

Belongs here: totals, groupings, trend, budgets and their projection, logged against recomputed cost. Does not belong here:
why spend changed and what is wasted (`cost_drivers`), and what to do about it (`recommendation`).
"""

from __future__ import annotations

from datetime import date, datetime
from typing import Literal

from pydantic import Field

from routing_pipeline.estimates import Known, Measured, Result, quantity

Dimension = Literal["model", "tier", "task_type", "team", "provider", "day"]
Direction = Literal["rising", "falling", "flat", "cannot tell"]
Verdict = Literal["within budget", "over budget", "cannot tell"]


class CostLine(Result):
    """One group of attempts."""

    group: tuple[str | None, ...] = Field(description="One value per dimension of the grouping; null: not logged, or not in the catalog")
    requests: int = quantity("Final requests", "requests")
    attempts: int = quantity("Attempts", "attempts")
    tokens: int = quantity("Prompt and completion tokens", "tokens")
    cost_usd: Known = quantity("Of all attempts, as logged", "USD")
    share: Known = quantity("Of all spend", "0..1")
    per_request_usd: Known = quantity("All attempts of a request, mean over final requests with a price", "USD")
    per_1000_tokens_usd: Known = quantity("Over attempts with both cost and tokens", "USD")
    unpriced_attempts: int = quantity("Successful attempts without a cost", "attempts")


class CostGrouping(Result):
    """Spend by one dimension, or by several crossed."""

    by: tuple[Dimension, ...]
    lines: tuple[CostLine, ...] = Field(description="Dearest first; by day in order of time")
    groups_not_listed: int = quantity("Groups too small to be listed", "groups")
    cost_not_listed_usd: float = quantity("What they cost together", "USD")


class HourCost(Result):
    """One hour of the window, in order of time, quiet hours included."""

    hour: datetime = Field(description="Start of the hour, UTC")
    requests: int = quantity("Final requests", "requests")
    cost_usd: float = quantity("Of all attempts that began in it, as logged", "USD")
    covered: float = quantity("Share of the hour that lies in the window", "0..1")


class DayCost(Result):
    """One UTC day."""

    day: date
    cost_usd: float = quantity("Of all attempts that began in it, as logged", "USD")
    complete: bool = Field(description="The logs cover the whole day; others are left out of trend and projection")


class CostTrend(Result):
    """Where daily cost is heading, over complete Mondays to Fridays: weekends keep a level of their own."""

    days: int = quantity("Complete weekdays looked at, those of the window before included", "days")
    slope_usd_per_day: Measured = quantity("Theil-Sen slope of daily cost", "USD/day")
    relative_slope_per_day: Measured = quantity("Slope over the median daily cost", "1/day")
    direction: Direction
    explanation: str = Field(description="What the direction rests on")
    previous_usd: Known = quantity("Spend in the equal window before", "USD")
    change: Known = quantity("(this window - the one before) / the one before", "1")


class Projection(Result):
    """Spend of a calendar period, the unobserved days filled in from observed ones of the same kind."""

    period: str = Field(description="2026-11, or 2026-Q4")
    start: date
    end: date = Field(description="Exclusive")
    observed_usd: float = quantity("Spend in those of its days and hours that the logs cover", "USD")
    observed_days: float = quantity("Days covered", "days")
    elapsed_usd: Measured = quantity("Spend from its start to the end of the window; exact when all of it is observed", "USD")
    total_usd: Measured = quantity("Spend by its end", "USD")


class BudgetUse(Result):
    """A budget and how the spend stands against it."""

    of: str | None = Field(description="Team; null is the whole spend")
    budget_usd_per_month: float = quantity("As configured", "USD/month")
    used: Measured = quantity("Spend of the month so far over the month's budget", "1")
    month_end: Measured = quantity("Projected spend of the month over the month's budget", "1")
    quarter_end: Measured = quantity("Projected spend of the quarter over three months' budget", "1")
    month_end_usd: Measured = quantity("Projected spend of the month", "USD")
    quarter_end_usd: Measured = quantity("Projected spend of the quarter", "USD")
    verdict: Verdict = Field(description="For the month: over or within budget with its whole interval, else cannot tell")


class UnpricedSpend(Result):
    """Successful attempts whose cost the log does not hold; they are missing from every total."""

    attempts: int = quantity("Successful attempts without a cost, cache hits left out", "attempts")
    share: Known = quantity("Of successful attempts, cache hits left out", "0..1")
    list_cost_usd: float = quantity("What those with a list price would cost at it", "USD")
    attempts_without_list_price: int = quantity("Of them, without a list price or tokens: nothing can be said", "attempts")
    free_attempts: int = quantity("Successful attempts logged at 0 USD though they have a list price", "attempts")
    free_list_cost_usd: float = quantity("What those would cost at list price", "USD")


class CostCheck(Result):
    """Logged cost of one model against the same calls at dated list prices."""

    model: str
    attempts: int = quantity("Attempts with both", "attempts")
    logged_usd: float = quantity("As logged", "USD")
    list_usd: float = quantity("At list prices by token class", "USD")
    difference: Known = quantity("(logged - list) / list", "1")
    within_tolerance: bool | None = Field(description="Within 10 %; null when there is nothing to compare")
    unchecked_attempts: int = quantity("Priced attempts without a list price", "attempts")


class RoutingCosts(Result):
    """The answer to `get_routing_costs`."""

    total_usd: Known = quantity("Spend in the window, all attempts, as logged", "USD")
    requests: int = quantity("Final requests", "requests")
    per_request_usd: Measured = quantity("All attempts of a request; interval over sessions", "USD")
    per_1000_tokens_usd: Known = quantity("Over attempts with both cost and tokens", "USD")
    per_day_usd: Known = quantity("Spend over the length of the window", "USD/day")
    groupings: tuple[CostGrouping, ...] = Field(description="By each dimension, and by model and task type crossed")
    hours: tuple[HourCost, ...] = Field(description="Cost over time")
    days: tuple[DayCost, ...] = Field(description="This window and the one before, as far as there are logs")
    trend: CostTrend
    month: Projection = Field(description="The calendar month in which the window ends")
    quarter: Projection = Field(description="The calendar quarter in which the window ends")
    budgets: tuple[BudgetUse, ...] = Field(description="The whole budget first, then teams; empty when none is configured")
    unpriced: UnpricedSpend
    checks: tuple[CostCheck, ...] = Field(description="Logged against recomputed cost by model, dearest first")
    checks_not_listed: int = quantity("Models too small to be listed", "models")
    notices: tuple[str, ...] = Field(default=(), description="What is missing and what to collect")

    def by(self, *dimensions: Dimension) -> CostGrouping | None:
        """The grouping by these dimensions, None when it is not among those computed."""
        return next((grouping for grouping in self.groupings if grouping.by == dimensions), None)
