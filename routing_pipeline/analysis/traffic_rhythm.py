"""When requests arrive: the week's heat map, peaks, and how far hour and weekday explain the traffic.

Does not belong here: spend by hour (`routing_costs`), hours that stand out as incidents (`alerts`).
"""

from __future__ import annotations

import math
from collections import defaultdict
from collections.abc import Callable, Mapping
from datetime import UTC, datetime

import numpy as np
from numpy.typing import NDArray
from pydantic import Field

from routing_pipeline.analysis.daily_spend import HourSums
from routing_pipeline.clock import HOURS_PER_WEEK, MONDAY_OFFSET_HOURS, SECONDS_PER_HOUR, WEEKDAYS
from routing_pipeline.estimates import Known, Result, Unidentifiable, quantity
from routing_pipeline.stats.inference import Floats
from routing_pipeline.window.scope import NEARLY_ALL, AnalysisScope

MIN_HOURS_FOR_PEAK = 6
LEAST_SEEN_H = 0.25
"""Hours of a kind that the logs have to cover for its rate to be told: an hour of which they hold the last second has none."""
PEAK_TO_MEAN = 1.25


class HourOfWeek(Result):
    """One cell of the week's heat map."""

    hour_of_week: int = quantity("0 is Monday 00:00 to 00:59 UTC", "hour")
    covered: float = quantity("Hours of this kind that the logs cover", "hours")
    requests: int = quantity("Final requests in them", "requests")
    per_hour: Known = quantity("requests / covered", "requests/hour")


class HourOfDay(Result):
    """One hour of the day, over all days."""

    hour: int = quantity("0 is 00:00 to 00:59 UTC", "hour")
    per_hour: float = quantity("Final requests per covered hour of this kind", "requests/hour")
    to_mean: float = quantity("Against the mean of all hours", "1")


class DayOfWeek(Result):
    """One day of the week, over all weeks."""

    day: int = quantity("0 is Monday", "day")
    name: str
    per_hour: float = quantity("Final requests per covered hour", "requests/hour")
    to_mean: float = quantity("Against the mean of all days", "1")


class Peaks(Result):
    """When traffic is heaviest."""

    mean_per_hour: Known = quantity("Final requests per covered hour", "requests/hour")
    busiest_hour: datetime | None = Field(description="Start of the hour with most requests, UTC; the earliest of equals")
    busiest_hour_requests: int = quantity("Final requests in it", "requests")
    peak_to_mean: Known = quantity("Busiest hour against the mean hour", "1")
    hours: tuple[HourOfDay, ...] = Field(description="Hours of the day, heaviest first")
    days: tuple[DayOfWeek, ...] = Field(description="Days of the week, heaviest first")
    peak_hours: tuple[int, ...] = Field(description="Hours of the day at least a quarter above the mean, in order, UTC")


class Seasonality(Result):
    """How far the time of day and of the week foretell an hour's traffic, each hour judged by the other days or weeks."""

    days: float = quantity("Days of hourly counts, those of the window before included", "days")
    daily_strength: Known = quantity("1 - squared error of the hour-of-day mean / squared error of the overall mean; not below 0", "0..1")
    weekly_strength: Known = quantity("1 - squared error of the hour-of-week mean / squared error of the hour-of-day mean", "0..1")


def covered_hours(scope: AnalysisScope, start_s: float) -> dict[int, float]:
    """Share of each hour from a moment to the window's end that the logs cover, hours of which they cover nothing left out."""
    hours = range(math.floor(start_s / SECONDS_PER_HOUR), math.ceil(scope.end_s / SECONDS_PER_HOUR))
    shares = {
        hour: scope.covered_within(max(hour * SECONDS_PER_HOUR, start_s), (hour + 1) * SECONDS_PER_HOUR) / SECONDS_PER_HOUR
        for hour in hours
    }
    return {hour: share for hour, share in shares.items() if share > 0}


def _of_week(hour: int) -> int:
    return (hour + MONDAY_OFFSET_HOURS) % HOURS_PER_WEEK


def _requests(hours: Mapping[int, HourSums], hour: int) -> int:
    return hours[hour].requests if hour in hours else 0


def heat_map(hours: Mapping[int, HourSums], covered: Mapping[int, float]) -> tuple[HourOfWeek, ...]:
    """168 hours of the week, Monday first."""
    seen, requests = defaultdict[int, float](float), defaultdict[int, int](int)
    for hour, share in covered.items():
        seen[_of_week(hour)] += share
        requests[_of_week(hour)] += _requests(hours, hour)
    never = Unidentifiable(unidentifiable="the logs hardly cover this hour of the week; take a timeframe of 7d or more")
    return tuple(
        HourOfWeek(
            hour_of_week=cell,
            covered=seen[cell],
            requests=requests[cell],
            per_hour=requests[cell] / seen[cell] if seen[cell] >= LEAST_SEEN_H else never,
        )
        for cell in range(HOURS_PER_WEEK)
    )


def peaks_of(hours: Mapping[int, HourSums], covered: Mapping[int, float], scope: AnalysisScope) -> Peaks:
    """The busiest hour, and hours and days of the week against the mean."""
    length = scope.covered_days * 24
    total = sum(sums.requests for sums in hours.values())
    if not length or not total:
        none = Unidentifiable(unidentifiable="no request in the window")
        return Peaks(mean_per_hour=none, busiest_hour=None, busiest_hour_requests=0, peak_to_mean=none, hours=(), days=(), peak_hours=())
    mean = total / length
    busiest = min(hours, key=lambda hour: (-hours[hour].requests, hour))
    by_hour = [
        HourOfDay(hour=hour, per_hour=rate, to_mean=rate / mean)
        for hour, (rate, _) in _rates(hours, covered, lambda hour: hour % 24).items()
    ]
    by_day = [
        DayOfWeek(day=day, name=WEEKDAYS[day], per_hour=rate, to_mean=rate / mean)
        for day, (rate, seen) in _rates(hours, covered, lambda hour: _of_week(hour) // 24).items()
        # A few hours of a day say more about the time of day than about the day.
        if seen >= NEARLY_ALL * 24
    ]
    return Peaks(
        mean_per_hour=mean,
        busiest_hour=datetime.fromtimestamp(busiest * SECONDS_PER_HOUR, UTC),
        busiest_hour_requests=hours[busiest].requests,
        peak_to_mean=hours[busiest].requests / mean
        if length >= MIN_HOURS_FOR_PEAK
        else Unidentifiable(unidentifiable=f"{length:.1f} hours of logs; a peak stands out of at least {MIN_HOURS_FOR_PEAK}"),
        hours=tuple(sorted(by_hour, key=lambda each: (-each.per_hour, each.hour))),
        days=tuple(sorted(by_day, key=lambda each: (-each.per_hour, each.day))),
        peak_hours=tuple(sorted(each.hour for each in by_hour if each.to_mean >= PEAK_TO_MEAN)),
    )


def _rates(hours: Mapping[int, HourSums], covered: Mapping[int, float], key: Callable[[int], int]) -> dict[int, tuple[float, float]]:
    """Requests per covered hour, and covered hours, by a property of the hour."""
    seen, requests = defaultdict[int, float](float), defaultdict[int, int](int)
    for hour, share in covered.items():
        seen[key(hour)] += share
        requests[key(hour)] += _requests(hours, hour)
    return {each: (requests[each] / seen[each], seen[each]) for each in sorted(seen) if seen[each] >= LEAST_SEEN_H}


def seasonality_of(hours: Mapping[int, HourSums], before: Mapping[int, HourSums], scope: AnalysisScope) -> Seasonality:
    """Strength of a pattern as in Wang, Smith & Hyndman (2006), with each hour left out of the mean that foretells it.

    Leaving it out keeps a pattern from explaining its own noise: with few days an ordinary fit always looks strong.
    """
    counts: dict[int, int] = defaultdict(int)
    for part in (before, hours):
        for hour, sums in part.items():
            counts[hour] += sums.requests
    start_s = scope.previous_start_s if before else scope.start_s
    whole = [hour for hour, share in covered_hours(scope, start_s).items() if share >= NEARLY_ALL]
    y = np.array([float(counts.get(hour, 0)) for hour in whole])
    place = np.array(whole, dtype=np.int64)
    days = len(whole) / 24
    of_day, of_week = place % 24, (place + MONDAY_OFFSET_HOURS) % HOURS_PER_WEEK
    return Seasonality(
        days=days,
        daily_strength=_strength(y, of_day, np.zeros_like(place), days, needed=2),
        weekly_strength=_strength(y, of_week, of_day, days, needed=14),
    )


def _strength(y: Floats, season: NDArray[np.int64], coarser: NDArray[np.int64], days: float, needed: int) -> Known:
    """1 - squared error of the season's mean / squared error of the coarser mean, both without the hour itself."""
    # The hours at the window's edges are seldom whole.
    if days < NEARLY_ALL * needed:
        return Unidentifiable(unidentifiable=f"{days:.1f} days of hourly counts; at least {needed} are needed: take a longer timeframe")
    foretold, has_season = _left_out_mean(y, season)
    plain, has_plain = _left_out_mean(y, coarser)
    both = has_season & has_plain
    error = float(((y - plain)[both] ** 2).sum())
    if error == 0:
        return Unidentifiable(unidentifiable="traffic never varies beyond the coarser pattern; there is nothing left to explain")
    return max(1 - float(((y - foretold)[both] ** 2).sum()) / error, 0.0)


def _left_out_mean(y: Floats, group: NDArray[np.int64]) -> tuple[Floats, NDArray[np.bool_]]:
    n = np.bincount(group)[group]
    total = np.bincount(group, weights=y)[group]
    return (total - y) / np.maximum(n - 1, 1), n > 1
