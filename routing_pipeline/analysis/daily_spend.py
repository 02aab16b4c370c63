"""Spend over time: hours, days that the logs cover whole, where spend is heading.

Belongs here: the window's money by hour and by day, and its slope. Does not belong here: what a month or a quarter will come to
(`budget_projection`), what the money is spent on (`routing_costs`), why it changed (`cost_drivers`).
"""

from __future__ import annotations

import math
from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import date, timedelta
from typing import Literal

import ibis
import numpy as np
from pydantic import Field

from routing_pipeline import text
from routing_pipeline.clock import SECONDS_PER_DAY, hour_of
from routing_pipeline.estimates import Known, Measured, Result, Unidentifiable, quantity
from routing_pipeline.stats.robust_slope import theil_sen
from routing_pipeline.window.kinds_of_call import is_chat
from routing_pipeline.window.scope import NEARLY_ALL, AnalysisScope

Direction = Literal["rising", "falling", "flat", "cannot tell"]

MIN_TREND_DAYS = 5
"""Fewest weekdays on which a rank-based slope can exclude 0 at 95 %: one order in 5! = 120 is monotone."""
FLAT_PER_DAY = 0.005
"""A slope within this share of the median day, up or down, over the whole interval counts as flat."""
SATURDAY = 5

NO_COST = Unidentifiable(unidentifiable="no attempt has a cost; enable cost tracking in the gateway, or name the models' prices")


class DayCost(Result):
    """One UTC day."""

    day: date
    cost_usd: float = quantity("Of all attempts that began in it, as logged", "USD")
    complete: bool = Field(description="The logs cover the whole day; others are left out of trend and projection")


class CostTrend(Result):
    """Where daily cost is heading, over complete Mondays to Fridays: weekends keep a level of their own."""

    days: int = quantity("Complete weekdays used, those of the window before included", "days")
    slope_usd_per_day: Measured = quantity("Theil-Sen slope of daily cost", "USD/day")
    relative_slope_per_day: Measured = quantity("Slope over the median daily cost", "1/day")
    direction: Direction
    explanation: str = Field(description="What the direction rests on")
    previous_usd: Known = quantity("Spend in the equal window before", "USD")
    change: Known = quantity("(this window - the one before) / the one before", "1")


@dataclass(frozen=True)
class HourSums:
    """One hour: final requests of chat, cost in USD of all attempts of every kind, attempts with a cost."""

    requests: int
    cost: float
    priced: int


def hour_sums(calls: ibis.Table) -> dict[int, HourSums]:
    """Sums by hour since 1970, of rows of every kind of call."""
    t = calls
    hour = hour_of(t.started_s)
    by_hour = t.group_by(hour=hour).agg(requests=(t.is_final & is_chat(t)).sum(), cost=t.cost_usd.sum(), priced=t.cost_usd.count())
    rows = by_hour.to_pyarrow().to_pylist()
    return {row["hour"]: HourSums(int(row["requests"] or 0), row["cost"] or 0.0, row["priced"]) for row in rows}


@dataclass(frozen=True)
class Ledger:
    """Daily spend in both windows together."""

    days: tuple[DayCost, ...]
    is_priced: bool

    def complete(self) -> list[DayCost]:
        """Days that the logs cover whole."""
        return [day for day in self.days if day.complete]


def ledger_of(hours: Mapping[int, HourSums], before: Mapping[int, HourSums], scope: AnalysisScope) -> Ledger:
    """Days from the hours of the window and of the one before; complete where the logs cover them (`scope.covered_within`)."""
    cost: dict[int, float] = defaultdict(float)
    for part in (before, hours):
        for hour, sums in part.items():
            cost[hour // 24] += sums.cost
    days = tuple(
        DayCost(day=date_of(day), cost_usd=cost.get(day, 0.0), complete=_is_complete(day, scope))
        for day in (range(min(cost), max(cost) + 1) if cost else ())
    )
    return Ledger(days, is_priced=any(sums.priced for part in (before, hours) for sums in part.values()))


def _is_complete(day: int, scope: AnalysisScope) -> bool:
    return scope.covered_within(day * SECONDS_PER_DAY, (day + 1) * SECONDS_PER_DAY) >= NEARLY_ALL * SECONDS_PER_DAY


def _is_weekend(day: date) -> bool:
    return day.weekday() >= SATURDAY


def trend_of(ledger: Ledger, hours: Mapping[int, HourSums], before: Mapping[int, HourSums], scope: AnalysisScope) -> CostTrend:
    """Theil-Sen slope over complete weekdays (Sen 1968, JASA 63:1379).

    Weekends are left out instead of modelled: in a window of one week a weekend at its end looks like a fall, and two
    weeks hold too few of each weekday to estimate a weekly cycle beside a trend.
    """
    days = [day for day in ledger.complete() if not _is_weekend(day.day)]
    previous, change = _against_previous(hours, before, scope)
    if not ledger.is_priced:
        return CostTrend(
            days=len(days),
            slope_usd_per_day=NO_COST,
            relative_slope_per_day=NO_COST,
            direction="cannot tell",
            explanation=NO_COST.unidentifiable,
            previous_usd=previous,
            change=change,
        )
    slope, relative = _slope(days)
    direction, explanation = _direction(relative, len(days))
    return CostTrend(
        days=len(days),
        slope_usd_per_day=slope,
        relative_slope_per_day=relative,
        direction=direction,
        explanation=explanation,
        previous_usd=previous,
        change=change,
    )


def _slope(days: Sequence[DayCost]) -> tuple[Measured, Measured]:
    """Slope in USD per day, and over the median day."""
    if len(days) < MIN_TREND_DAYS:
        why = Unidentifiable(
            unidentifiable=f"{text.counted(len(days), 'complete weekday')} in the logs; a slope needs at least {MIN_TREND_DAYS}: take a longer timeframe"
        )
        return why, why
    cost = np.array([day.cost_usd for day in days])
    slope = theil_sen(cost.tolist(), [day.day.toordinal() for day in days])
    median = float(np.median(cost))
    if median <= 0:
        return slope, Unidentifiable(unidentifiable="the median day costs nothing; a relative slope has no meaning")
    return slope, slope.scaled(1 / median)


def _direction(relative: Measured, days: int) -> tuple[Direction, str]:
    if isinstance(relative, Unidentifiable):
        return "cannot tell", relative.unidentifiable
    basis = f"{days} complete weekdays"
    if relative.low > 0:
        return "rising", f"the whole interval of the slope is above 0 ({basis})"
    if relative.high < 0:
        return "falling", f"the whole interval of the slope is below 0 ({basis})"
    if relative.low >= -FLAT_PER_DAY and relative.high <= FLAT_PER_DAY:
        return "flat", f"the whole interval of the slope is within {100 * FLAT_PER_DAY:.1f} % a day ({basis})"
    return "cannot tell", f"days vary too much to distinguish a rise from a fall ({basis}); a longer timeframe would narrow it"


def _against_previous(hours: Mapping[int, HourSums], before: Mapping[int, HourSums], scope: AnalysisScope) -> tuple[Known, Known]:
    if not before:
        none = Unidentifiable(unidentifiable="the logs do not cover the previous window; collect one more window")
        return none, none
    if not any(sums.priced for sums in before.values()):
        return NO_COST, NO_COST
    if scope.incomparable is not None:
        why = Unidentifiable(unidentifiable=scope.incomparable)
        return why, why
    previous = math.fsum(sums.cost for sums in before.values())
    if not any(sums.priced for sums in hours.values()):
        return previous, NO_COST
    if previous <= 0:
        return previous, Unidentifiable(unidentifiable="the window before cost nothing; a relative change has no meaning")
    return previous, (math.fsum(sums.cost for sums in hours.values()) - previous) / previous


def date_of(day: int) -> date:
    """The date of a day counted since 1970-01-01."""
    return date(1970, 1, 1) + timedelta(days=day)


def day_of(day: date) -> int:
    """Days since 1970-01-01."""
    return (day - date(1970, 1, 1)).days
