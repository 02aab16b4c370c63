"""Spend over time: hours, days that the logs cover whole, where spend is heading, what a calendar period will come to.

Belongs here: everything about money that needs a calendar. Does not belong here: what the money is spent on
(`routing_costs`), why it changed (`cost_drivers`).
"""

from __future__ import annotations

import math
from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import date, timedelta
from typing import Literal

import ibis
import numpy as np
from pydantic import Field
from scipy import stats

from routing_pipeline.estimates import LEVEL, Estimate, Known, Measured, Result, Unidentifiable, quantity
from routing_pipeline.scope import SECONDS_PER_DAY, AnalysisScope

Direction = Literal["rising", "falling", "flat", "cannot tell"]

MIN_TREND_DAYS = 5
"""Fewest weekdays on which a rank-based slope can exclude 0 at 95 %: one order in 5! = 120 is monotone."""
FLAT_PER_DAY = 0.005
"""A slope within this share of the median day, up or down, over the whole interval counts as flat."""
NEARLY_ALL = 0.95
"""A day, or a window, covered to this share counts as covered."""
SATURDAY = 5

NO_COST = Unidentifiable(unidentifiable="no attempt has a cost; enable cost tracking in the gateway, or name the models' prices")


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


@dataclass(frozen=True)
class HourSums:
    """One hour: final requests, cost in USD of all attempts, attempts with a cost."""

    requests: int
    cost: float
    priced: int


def hour_sums(requests: ibis.Table) -> dict[int, HourSums]:
    """Sums by hour since 1970."""
    t = requests
    hour = (t.started_s / 3600).floor().cast("int64")
    by_hour = t.group_by(hour=hour).agg(requests=t.is_final.sum(), cost=t.cost_usd.sum(), priced=t.cost_usd.count())
    rows = by_hour.to_pyarrow().to_pylist()
    return {row["hour"]: HourSums(int(row["requests"] or 0), row["cost"] or 0.0, row["priced"]) for row in rows}


def overlap(start: float, end: float, other_start: float, other_end: float) -> float:
    """Length of what two stretches have in common."""
    return max(min(end, other_end) - max(start, other_start), 0.0)


@dataclass(frozen=True)
class Ledger:
    """Daily spend in both windows together, and the time that the logs cover, seconds since 1970."""

    days: tuple[DayCost, ...]
    start_s: float
    end_s: float
    is_priced: bool

    def complete(self) -> list[DayCost]:
        """Days that the logs cover whole."""
        return [day for day in self.days if day.complete]


def ledger_of(hours: Mapping[int, HourSums], before: Mapping[int, HourSums], scope: AnalysisScope) -> Ledger:
    """Days from the hours of the window and of the one before.

    A day at the edge of the data counts as complete when its traffic begins no later, or ends no earlier, than on every
    other day: office hours alone do not make it incomplete, logging that began at noon does.
    """
    cost: dict[int, float] = defaultdict(float)
    active: dict[int, list[int]] = defaultdict(list)
    for part in (before, hours):
        for hour, sums in part.items():
            cost[hour // 24] += sums.cost
            active[hour // 24].append(hour % 24)
    if not active:
        return Ledger((), scope.end_s, scope.end_s, is_priced=False)
    first, last = min(active), max(active)
    begins_late = not _starts_like_the_others(first, active)
    start_s = (first * 24 + min(active[first])) * 3600.0 if begins_late else float(first * SECONDS_PER_DAY)
    start_s = max(start_s, scope.previous_start_s if before else scope.start_s)
    ends_early = not _ends_like_the_others(last, active)

    def is_complete(day: int) -> bool:
        covered = overlap(day * SECONDS_PER_DAY, (day + 1) * SECONDS_PER_DAY, start_s, scope.end_s) / SECONDS_PER_DAY
        return covered >= NEARLY_ALL and not (day == last and ends_early)

    days = tuple(DayCost(day=date_of(day), cost_usd=cost.get(day, 0.0), complete=is_complete(day)) for day in range(first, last + 1))
    return Ledger(days, start_s, scope.end_s, is_priced=any(sums.priced for part in (before, hours) for sums in part.values()))


def _starts_like_the_others(day: int, active: Mapping[int, list[int]]) -> bool:
    others = [min(hours) for other, hours in active.items() if other != day]
    return not others or min(active[day]) <= max(others)


def _ends_like_the_others(day: int, active: Mapping[int, list[int]]) -> bool:
    others = [max(hours) for other, hours in active.items() if other != day]
    return not others or max(active[day]) >= min(others)


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
            unidentifiable=f"{len(days)} complete weekday(s) in the logs; a slope needs at least {MIN_TREND_DAYS}: take a longer timeframe"
        )
        return why, why
    cost = np.array([day.cost_usd for day in days])
    found = stats.theilslopes(cost, [day.day.toordinal() for day in days], LEVEL)
    slope = Estimate(estimate=float(found.slope), low=float(found.low_slope), high=float(found.high_slope))
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
        return "flat", f"the whole interval of the slope is within {FLAT_PER_DAY:.1%} a day ({basis})"
    return "cannot tell", f"days differ too much to tell a rise from a fall ({basis}); a longer timeframe would narrow it"


def _against_previous(hours: Mapping[int, HourSums], before: Mapping[int, HourSums], scope: AnalysisScope) -> tuple[Known, Known]:
    if not before:
        none = Unidentifiable(unidentifiable="the logs hold nothing of the equal window before; collect one more window")
        return none, none
    if not any(sums.priced for sums in before.values()):
        return NO_COST, NO_COST
    previous = math.fsum(sums.cost for sums in before.values())
    length = scope.end_s - scope.start_s
    lag = min(hours, default=0) * 3600 - scope.start_s if hours else 0.0
    lag_before = min(before) * 3600 - scope.previous_start_s
    if lag_before - lag > (1 - NEARLY_ALL) * length:
        why = f"the logs begin only {lag_before / SECONDS_PER_DAY:.1f} days into the window before; its spend is not comparable"
        return Unidentifiable(unidentifiable=why), Unidentifiable(unidentifiable=why)
    if not any(sums.priced for sums in hours.values()):
        return previous, NO_COST
    if previous <= 0:
        return previous, Unidentifiable(unidentifiable="the window before cost nothing; a relative change has no meaning")
    return previous, (math.fsum(sums.cost for sums in hours.values()) - previous) / previous


def _month(scope: AnalysisScope) -> tuple[str, date, date]:
    end = _last_day(scope)
    start = end.replace(day=1)
    return f"{start:%Y-%m}", start, _months_later(start, 1)


def _quarter(scope: AnalysisScope) -> tuple[str, date, date]:
    end = _last_day(scope)
    start = date(end.year, (end.month - 1) // 3 * 3 + 1, 1)
    return f"{start:%Y}-Q{(start.month + 2) // 3}", start, _months_later(start, 3)


def _last_day(scope: AnalysisScope) -> date:
    """Day of the window's last moment: a window that ends at midnight belongs to the day before."""
    return date_of(math.ceil(scope.end_s / SECONDS_PER_DAY) - 1)


def _months_later(start: date, months: int) -> date:
    month = start.month - 1 + months
    return date(start.year + month // 12, month % 12 + 1, 1)


def projections(ledger: Ledger, scope: AnalysisScope) -> tuple[Projection, Projection]:
    """The calendar month and the calendar quarter in which the window ends."""
    return _projected(*_month(scope), ledger), _projected(*_quarter(scope), ledger)


def _projected(period: str, start: date, end: date, ledger: Ledger) -> Projection:
    """Observed spend plus, for what the logs do not cover, the mean of complete days of the same kind (weekday, weekend)."""
    observed = math.fsum(day.cost_usd for day in ledger.days if start <= day.day < end)
    uncovered = {date_of(day): 1.0 - _covered(day, ledger) for day in range(day_of(start), day_of(end))}
    last = date_of(math.ceil(ledger.end_s / SECONDS_PER_DAY) - 1)
    # Of the day in which the window ends, only what lies ahead is uncovered.
    elapsed = {day: share for day, share in uncovered.items() if day < last}
    return Projection(
        period=period,
        start=start,
        end=end,
        observed_usd=observed,
        observed_days=len(uncovered) - math.fsum(uncovered.values()),
        elapsed_usd=_filled(observed, elapsed, ledger),
        total_usd=_filled(observed, uncovered, ledger),
    )


def date_of(day: int) -> date:
    """The date of a day counted since 1970-01-01."""
    return date(1970, 1, 1) + timedelta(days=day)


def day_of(day: date) -> int:
    """Days since 1970-01-01."""
    return (day - date(1970, 1, 1)).days


def _covered(day: int, ledger: Ledger) -> float:
    share = overlap(day * SECONDS_PER_DAY, (day + 1) * SECONDS_PER_DAY, ledger.start_s, ledger.end_s) / SECONDS_PER_DAY
    # Microseconds short of midnight are no missing part of a day.
    return round(share, 6)


def _filled(observed: float, uncovered: Mapping[date, float], ledger: Ledger) -> Measured:
    """Observed spend plus the prediction of the uncovered days, with a prediction interval.

    Days of one kind (weekday, weekend) vary independently around their mean m with a common relative variance c^2. For K
    uncovered days of a kind of which n were seen: variance c^2 m^2 (sum of squared shares + K^2 / n); Student's quantile
    on sum (n - 1) degrees of freedom. Future days are taken to be like those observed: no trend, no new customer.
    """
    if not ledger.is_priced:
        return NO_COST
    if not any(uncovered.values()):
        return Estimate(estimate=observed, low=observed, high=observed)
    means, relative_variance, freedom = _day_kinds(ledger.complete())
    needed = {_is_weekend(day) for day, share in uncovered.items() if share > 0}
    if freedom < 2 or not needed <= set(means):
        kinds = " and ".join("weekend days" if kind else "weekdays" for kind in sorted(needed - set(means))) or "days"
        return Unidentifiable(unidentifiable=f"too few complete {kinds} in the logs to fill in the rest; take a longer timeframe")
    ahead = variance = 0.0
    for kind in needed:
        shares = [share for day, share in uncovered.items() if _is_weekend(day) == kind]
        mean, seen = means[kind]
        ahead += math.fsum(shares) * mean
        variance += relative_variance * mean**2 * (math.fsum(share**2 for share in shares) + math.fsum(shares) ** 2 / seen)
    half = float(stats.t.ppf(0.5 + LEVEL / 2, freedom)) * math.sqrt(variance)
    return Estimate(estimate=observed + ahead, low=max(observed + ahead - half, observed), high=observed + ahead + half)


def _day_kinds(days: Iterable[DayCost]) -> tuple[dict[bool, tuple[float, int]], float, int]:
    """(mean, number) by kind of day, the pooled relative variance, its degrees of freedom."""
    by_kind: dict[bool, list[float]] = defaultdict(list)
    for day in days:
        by_kind[_is_weekend(day.day)].append(day.cost_usd)
    means = {kind: (float(np.mean(costs)), len(costs)) for kind, costs in by_kind.items()}
    freedom = sum(len(costs) - 1 for costs in by_kind.values())
    squares = math.fsum((cost / means[kind][0] - 1) ** 2 for kind, costs in by_kind.items() if means[kind][0] > 0 for cost in costs)
    return means, squares / freedom if freedom else 0.0, freedom
