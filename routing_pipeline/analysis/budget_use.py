"""The window's spend against the budgets, of all, by team and by tier of model.

Belongs here: what a window spent of its share, and taking over what a projection says of the month. Does not belong here: projecting
(`budget_projection`), what to do about an exceeded budget (`recommendation`).
"""

from __future__ import annotations

import math
from collections import defaultdict
from collections.abc import Mapping
from typing import TypeVar

import ibis
from pydantic import Field

from routing_pipeline.analysis.budget_projection import BudgetProjection, BudgetVerdict, TeamProjection, TierProjection, UsedIs
from routing_pipeline.analysis.daily_spend import NO_COST, HourSums, date_of
from routing_pipeline.analysis.spend_groupings import rows_of
from routing_pipeline.clock import DAYS_PER_BUDGET_MONTH, SECONDS_PER_DAY
from routing_pipeline.estimates import Estimate, Known, Measured, Result, Unidentifiable, quantity
from routing_pipeline.text import LogName
from routing_pipeline.window.scope import AnalysisScope


class BudgetUse(Result):
    """A budget and how spend stands against it: month and quarter as `budget_projection` has them, and the window."""

    of: LogName | None = Field(description="Team or tier; null is the whole spend")
    budget_usd_per_month: float = quantity("As configured", "USD/month")
    used: Measured = quantity("Of the month's budget, as `used_is` says", "1")
    used_is: UsedIs | None = Field(
        default=None,
        description="`spend so far` over the month's budget where the logs cover the month so far; else the `rate` of the days that they cover "
        "over the budget's share of as many days",
    )
    month_end: Measured = quantity("Projected spend of the month over the month's budget", "1")
    quarter_end: Measured = quantity("Projected spend of the quarter over three months' budget", "1")
    month_end_usd: Measured = quantity("Projected spend of the month", "USD")
    quarter_end_usd: Measured = quantity("Projected spend of the quarter", "USD")
    verdict: BudgetVerdict = Field(
        description="For the month: over budget (already, or with the whole interval), within it, else cannot tell"
    )
    window_usd: Known = quantity("Spend in the window", "USD", default=NO_COST)
    window_allowed_usd: Known = quantity("The budget's share for the time of the window that the logs cover", "USD", default=NO_COST)
    days_over: tuple[str, ...] = Field(default=(), description="UTC days of the window that spent more than a day's share of the budget")

    @property
    def breached(self) -> bool | None:
        """Whether the window spent more than its share of the budget; None where that cannot be told."""
        if isinstance(self.window_usd, Unidentifiable) or isinstance(self.window_allowed_usd, Unidentifiable):
            return None
        return self.window_usd > self.window_allowed_usd


Use = TypeVar("Use", bound=BudgetUse)


def with_projected_use(use: Use, whose: BudgetProjection | TeamProjection | TierProjection | None) -> Use:
    """The same budget with the month and the quarter as `budget_projection` has them of whoever it is for."""
    if whose is None or whose.month.used is None:
        return use
    month, quarter = whose.month, whose.quarter
    budget = use.budget_usd_per_month
    return use.model_copy(
        update={
            "used": month.used,
            "used_is": month.used_is,
            "month_end": _share(month.total_usd, budget),
            "quarter_end": _share(quarter.total_usd, 3 * budget),
            "month_end_usd": month.total_usd,
            "quarter_end_usd": quarter.total_usd,
            "verdict": month.verdict or "cannot tell",
        }
    )


def budget_uses(requests: ibis.Table, hours: Mapping[int, HourSums], scope: AnalysisScope) -> tuple[BudgetUse, ...]:
    """The whole budget first, then teams by name; empty when none is configured."""
    asked = scope.parameters
    found: list[BudgetUse] = []
    is_priced = any(sums.priced for sums in hours.values())
    if asked.budget is not None:
        by_day: dict[int, float] = defaultdict(float)
        for hour, sums in hours.items():
            if sums.priced:
                by_day[hour // 24] += sums.cost
        found.append(_budget_use(None, asked.budget, by_day, scope, is_priced=is_priced))
    if asked.budgets_by_team:
        spend = _days_by(requests, "team", tuple(asked.budgets_by_team))
        unpriced = _teams_without_a_price(requests, tuple(asked.budgets_by_team))
        found += [
            _budget_use(team, budget, spend.get(team, {}), scope, is_priced=is_priced and team not in unpriced)
            for team, budget in sorted(asked.budgets_by_team.items())
        ]
    return tuple(found)


class TierUse(BudgetUse):
    """The same of the models of one tier, which `of` names, with their part of all spend."""

    share: float | None = quantity("Of all priced spend in the window; null where nothing is priced", "0..1", default=None)


def tier_uses(requests: ibis.Table, hours: Mapping[int, HourSums], scope: AnalysisScope) -> tuple[TierUse, ...]:
    """Tiers with a budget, by name; empty when none is configured."""
    asked = scope.parameters.budgets_by_tier
    spend = _days_by(requests, "tier", tuple(asked)) if asked else {}
    whole = math.fsum(sums.cost for sums in hours.values() if sums.priced)
    found = []
    is_priced = any(sums.priced for sums in hours.values())
    for tier, budget in sorted(asked.items()):
        use = _budget_use(tier, budget, spend.get(tier, {}), scope, is_priced=is_priced, nothing=NO_TIER)
        mine = math.fsum(spend.get(tier, {}).values())
        seen = {} if tier in spend or isinstance(use.window_usd, Unidentifiable) else {"window_usd": NO_TIER}
        found.append(TierUse(**use.model_dump() | seen, share=mine / whole if tier in spend and whole > 0 else None))
    return tuple(found)


def _days_by(requests: ibis.Table, column: str, names: tuple[str, ...]) -> dict[str, dict[int, float]]:
    """Spend by team or tier and day; one of which nothing is priced is absent."""
    spend: dict[str, dict[int, float]] = defaultdict(dict)
    own = requests.filter(requests[column].isin(names), requests.cost_usd.notnull())
    for row in rows_of(own.group_by(column, "day").agg(cost=own.cost_usd.sum())):
        spend[row[column]][row["day"]] = row["cost"]
    return spend


def _teams_without_a_price(requests: ibis.Table, names: tuple[str, ...]) -> frozenset[str]:
    """Teams that answers went to, none of which has a cost: what they spent is unknown, not nothing."""
    own = requests.filter(requests.team.isin(names))
    counted = own.group_by("team").agg(priced=own.cost_usd.count(), answers=(own.status == "success").sum())
    return frozenset(row["team"] for row in rows_of(counted) if row["answers"] and not row["priced"])


NO_TEAM = Unidentifiable(unidentifiable="no priced attempt of this team in the window; check how the gateway spells it")
NO_TIER = Unidentifiable(unidentifiable="no priced attempt of a model of this tier in the window; check how it is spelled")
NOT_PROJECTED = Unidentifiable(unidentifiable="month and quarter were not projected")


def _budget_use(
    of: str | None,
    budget: float,
    by_day: Mapping[int, float],
    scope: AnalysisScope,
    *,
    is_priced: bool,
    nothing: Unidentifiable = NO_TEAM,
) -> BudgetUse:
    """`nothing`: why nothing is told where nobody of that name spent anything."""
    unknown = _why_not_used(NO_COST if of is None else nothing, budget, by_day, scope)
    use = BudgetUse(
        of=of,
        budget_usd_per_month=budget,
        used=unknown or NOT_PROJECTED,
        month_end=unknown or NOT_PROJECTED,
        quarter_end=unknown or NOT_PROJECTED,
        month_end_usd=unknown or NOT_PROJECTED,
        quarter_end_usd=unknown or NOT_PROJECTED,
        verdict="cannot tell",
    )
    if scope.parameters.task_types:
        partial = Unidentifiable(unidentifiable="this analysis is of some task types alone, and a budget is for all of them")
        return use.model_copy(update={"window_usd": partial, "window_allowed_usd": partial})
    per_day = budget / DAYS_PER_BUDGET_MONTH
    return use.model_copy(
        update={
            "window_usd": math.fsum(by_day.values()) if is_priced else NO_COST,
            "window_allowed_usd": per_day * scope.covered_days,
            "days_over": tuple(
                date_of(day).isoformat() for day, usd in sorted(by_day.items()) if usd > per_day * _covered_days(day, scope)
            ),
        }
    )


def _covered_days(day: int, scope: AnalysisScope) -> float:
    """Of one UTC day, what lies in the window and what the logs cover, in days."""
    return scope.covered_within(max(day * SECONDS_PER_DAY, scope.start_s), (day + 1) * SECONDS_PER_DAY) / SECONDS_PER_DAY


def _why_not_used(nothing: Unidentifiable, budget: float, by_day: Mapping[int, float], scope: AnalysisScope) -> Unidentifiable | None:
    if budget <= 0:
        return Unidentifiable(unidentifiable="a budget has to be above 0")
    if by_day or scope.parameters.task_types:
        return None
    return nothing


def _share(spend: Measured, budget: float) -> Measured:
    return spend.scaled(1 / budget) if isinstance(spend, Estimate) and budget > 0 else spend
