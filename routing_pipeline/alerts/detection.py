"""Which hours stand out of the same hours of the weeks before, beyond chance and beyond what anybody would mind.

Belongs here: baseline, noise, p-values, and the control of false alerts over all series watched at once. Does not belong
here: whether it was said already (`incidents`), and why it happened (`attribution`).

Every series is looked at over its last hour, six hours and day. For one window of one series, with x the sum (cost) or the
mean (log latency, failures, quality) and x_k the same window k weeks before, whose last hour showed the same time on the clock that
people work by:

    usual  = median_k x_k, moved by the drift: the median deviation from it over the last week
    spread = sampling variance (from the sums of squares) + a, the variance of whole hours beyond sampling, from the
             deviations of two weeks: a = median(r^2) / 0.455 - sampling, for the busier half of the hours
    z      = (x - usual) / sqrt(spread + variance of the median)

p-values of all windows of all series at one hour go through Benjamini and Hochberg's procedure (1995, JRSS B 57:289; sums of
sums depend positively, where it holds). Its level is `false_alerts_per_month` over the hours of a month, so that chance
speaks no more often than that. What is significant must also exceed a ratio and a floor.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from routing_pipeline.alerts.series import ROUTED, Floats, HourlySums
from routing_pipeline.clock import HOURS_PER_DAY, HOURS_PER_WEEK, UTC_ZONE
from routing_pipeline.local_hours import Hours, same_hour

Bools = NDArray[np.bool_]

WINDOWS_H: tuple[int, ...] = (1, 6, 24)
MONTH_H = 730
NOISE_H = 2 * HOURS_PER_WEEK
POOLED_H = 4 * HOURS_PER_WEEK
MIN_RESIDUALS = 60
MIN_OBSERVATIONS = 10
"""A window of fewer observations is not judged: its variance cannot be told from the observations."""
MIN_DAYS_OF_BASELINE = 3
DAYS_BEFORE = 6
"""Days that stand in for weeks while the logs are younger than a week."""
MEDIAN_OF_SQUARE = 0.4549
"""Median of chi-squared with one degree of freedom."""
MEDIAN_VARIANCE = math.pi / 2
"""Variance of a median over that of a mean, for normal values."""
GROWTH_CERTAINTY = 2.0
"""Standard errors that the size of an incident is taken smaller by before it counts as grown."""


@dataclass(frozen=True)
class Measure:
    """What is compared: `sum` or `mean` of the observations, alarming when `up` or down.

    `ratio` is the least of x / usual (of exp(x - usual) for `log` observations), `floor` the least difference in `unit`;
    `noise` is the variance of whole hours beyond sampling while it cannot be measured yet, relative for sums.
    """

    name: str
    kind: Literal["sum", "mean"]
    direction: Literal[1, -1]
    ratio: float
    floor: float
    noise: float
    drift_limit: float
    is_log: bool = False


@dataclass(frozen=True)
class Detection:
    """Series x windows x hours: how each window that ends with an hour compares with its usual.

    `size` is the excess as a share of the whole traffic's usual, so that sizes of different series and hours compare;
    `size_low` is what remains of it after two standard errors. `is_judged` is False where there is no baseline.
    """

    first_hour: int
    now: Floats
    usual: Floats
    p: Floats
    size: Floats
    size_low: Floats
    is_tested: Bools
    is_alarm: Bools
    by_days: Bools
    """Where `usual` is that of the same hours of the days before, because no week before holds them."""


def detect(sums: HourlySums, measure: Measure, weeks: int, false_alerts_per_month: float, zone: str = UTC_ZONE) -> Detection:
    """Compare every hour covered with the same hours by a zone's clock; memory and time grow with series x hours."""
    by_week = [_places(sums, zone, week * HOURS_PER_WEEK) for week in range(1, weeks + 1)]
    by_day = [_places(sums, zone, day * HOURS_PER_DAY) for day in range(1, DAYS_BEFORE + 1)]
    parts = [_compared(sums, measure, window, by_week, by_day) for window in WINDOWS_H]
    now, usual, z, size, size_low, tested, minded, by_days = (np.stack(arrays, axis=1) for arrays in zip(*parts, strict=True))
    p = np.where(tested, _upper_tail(z), 1.0)
    found = _discoveries(p, tested, false_alerts_per_month / MONTH_H) & minded
    if measure.kind == "sum":
        found &= _not_just_moved(sums, now, usual)
    return Detection(sums.first_hour, now, usual, p, size, size_low, tested, found, by_days)


def _places(sums: HourlySums, zone: str, back_h: int) -> Hours:
    """Where the same hour lies that much before each; -1 where that is before the first."""
    places = same_hour(zone, sums.first_hour + np.arange(sums.hours), back_h) - sums.first_hour
    # A zone that crossed the date line has days that are the next one's.
    return np.where((places >= 0) & (places < np.arange(sums.hours)), places, -1)


def _compared(sums: HourlySums, measure: Measure, window: int, by_week: list[Hours], by_day: list[Hours]) -> tuple[Any, ...]:
    count, total, squares = (_rolling(each, window) for each in (sums.count, sums.total, sums.squares))
    x, observed = _value(measure, count, total, squares)
    begun = np.argmax(sums.count > 0, axis=1)[:, None]
    age = np.arange(sums.hours)[None, :] - begun - window
    is_whole = _rolling(_missing(sums.count, by_week).astype(float), window) == 0
    usual, usual_count, seen, by_days = _baseline(measure, x, count, is_whole, age, by_week, by_day)
    unit = _unit_variance(sums, measure)
    sampling = unit * usual_count if measure.kind == "sum" else unit / np.maximum(count, 1.0)
    drift, noise = _drift_and_noise(measure, x, usual, sampling, count, seen)
    usual = usual * (1.0 + drift) if measure.kind == "sum" else usual + drift
    beyond = noise * usual**2 if measure.kind == "sum" else noise
    of_usual = sampling if measure.kind == "sum" else unit / np.maximum(usual_count, 1.0)
    of_median = (of_usual + beyond) * np.where(seen >= 3, MEDIAN_VARIANCE, 1.0) / np.maximum(seen, 1)
    if measure.kind == "sum":
        observed = _observed(count, total, squares, usual, usual_count)
    # A few dear requests make a sum large, and two failures a share, but what they vary by as well: no reason to speak up.
    sd = np.sqrt(np.maximum(sampling, observed) + beyond + of_median)
    difference = measure.direction * (x - usual)
    with np.errstate(invalid="ignore", divide="ignore"):
        z = np.where(sd > 0, difference / sd, 0.0)
        size, low = _sizes(measure, difference, sd, usual, count)
    tested = (seen >= 1) & (count >= MIN_OBSERVATIONS)
    return x, usual, z, size, low, tested, _minded(measure, x, usual, difference), by_days


def _missing(count: Floats, by_week: list[Hours]) -> Bools:
    """Hours in which a series was silent where the weeks before let expect it: what they hold is not usual."""
    # The largest, because two silent weeks of four would make silence usual.
    expected = np.zeros_like(count)
    for places in by_week:
        expected = np.maximum(expected, np.where(places >= 0, count[:, places], 0.0))
    missing: Bools = (count == 0) & (expected >= MIN_OBSERVATIONS)
    return missing


def _unit_variance(sums: HourlySums, measure: Measure) -> Floats:
    """Of four weeks until a day ago: mean square of an observation for sums, variance within hours for means.

    Pooled, because the squares of one hour are too few to tell how much such hours vary.
    """
    n = np.maximum(sums.count, 1.0)
    within = sums.squares if measure.kind == "sum" else np.maximum(sums.squares - sums.total**2 / n, 0.0)
    freedom = sums.count if measure.kind == "sum" else np.maximum(sums.count - 1.0, 0.0)
    spread, degrees = (_rolling(each, POOLED_H) for each in (within, freedom))
    unit = np.where(degrees > 0, spread / np.maximum(degrees, 1.0), 0.0)
    unit[:, HOURS_PER_DAY:] = np.where(
        degrees[:, :-HOURS_PER_DAY] > MIN_OBSERVATIONS, unit[:, :-HOURS_PER_DAY].copy(), unit[:, HOURS_PER_DAY:]
    )
    return unit


def _rolling(values: Floats, window: int) -> Floats:
    """Sum over the `window` hours that end with each hour; less where the history begins."""
    run = np.cumsum(values, axis=1)
    run[:, window:] -= run[:, :-window].copy()
    # Differences of running sums leave dust where there was nothing.
    return np.where(np.abs(run) < 1e-9, 0.0, run)


def _value(measure: Measure, count: Floats, total: Floats, squares: Floats) -> tuple[Floats, Floats]:
    """The value of each window and its sampling variance."""
    if measure.kind == "sum":
        return total, squares
    n = np.maximum(count, 1.0)
    mean = np.where(count > 0, total / n, np.nan)
    return mean, np.maximum(squares / n - np.nan_to_num(mean) ** 2, 0.0) / n


def _observed(count: Floats, total: Floats, squares: Floats, usual: Floats, usual_count: Floats) -> Floats:
    """Variance of a sum as its own observations show it: of their values, and of their number at the usual value of one."""
    of_values = np.maximum(squares - total**2 / np.maximum(count, 1.0), 0.0)
    of_number = np.maximum(count, usual_count) * (usual / np.maximum(usual_count, 1.0)) ** 2
    return np.where(usual_count > 0, of_values + of_number, squares)


def _baseline(
    measure: Measure, x: Floats, count: Floats, is_whole: Bools, age: Floats, by_week: list[Hours], by_day: list[Hours]
) -> tuple[Floats, Floats, Floats, Bools]:
    """(usual, usual observations, windows they rest on) from the weeks before, else from the days before, and where it is from days."""
    weeks, days = (_earlier(measure, x, count, is_whole, age, before) for before in (by_week, by_day))
    use_days = (weeks[2] == 0) & (days[2] >= MIN_DAYS_OF_BASELINE)
    usual, observations, seen = (np.where(use_days, day, week) for day, week in zip(days, weeks, strict=True))
    return usual, observations, seen, use_days


def _earlier(
    measure: Measure, x: Floats, count: Floats, is_whole: Bools, age: Floats, before: list[Hours]
) -> tuple[Floats, Floats, Floats]:
    values, counts = (np.full((len(before), *x.shape), np.nan) for _ in range(2))
    for place, at in enumerate(before):
        if not (at >= 0).any():
            continue
        # The window that ends there must lie within the series' life.
        is_usable = (at >= 0) & (age[:, at] >= 0) & is_whole[:, at]
        if measure.kind == "mean":
            is_usable &= count[:, at] >= MIN_OBSERVATIONS
        values[place] = np.where(is_usable, x[:, at], np.nan)
        counts[place] = np.where(is_usable, count[:, at], np.nan)
    return _median(values), _median(counts), np.isfinite(values).sum(axis=0).astype(float)


def _median(values: Floats) -> Floats:
    """Median along the first axis over what is finite; 0 where nothing is."""
    ordered, n = np.sort(values, axis=0), np.isfinite(values).sum(axis=0)
    low = np.take_along_axis(ordered, np.maximum((n - 1) // 2, 0)[None], axis=0)[0]
    high = np.take_along_axis(ordered, np.maximum(n // 2, 0)[None].clip(max=len(values) - 1), axis=0)[0]
    return np.where(n > 0, (low + high) / 2, 0.0)


def _drift_and_noise(measure: Measure, x: Floats, usual: Floats, sampling: Floats, count: Floats, seen: Floats) -> tuple[Floats, Floats]:
    """By series and hour, told at the midnight before it from what was before that: an hour is never measured by itself."""
    is_known = (seen >= 1) & (count >= MIN_OBSERVATIONS) & ((usual > 0) | (measure.kind == "mean"))
    scale = np.where(usual > 0, usual, 1.0) if measure.kind == "sum" else 1.0
    residual = np.where(is_known, (x - usual) / scale, np.nan)
    relative = np.where(is_known, sampling / scale**2, np.nan)
    inflation = 1.0 + MEDIAN_VARIANCE / np.maximum(seen, 1)
    drift, noise = np.zeros_like(x), np.full_like(x, measure.noise)
    hours = x.shape[1]
    for midnight in range(HOURS_PER_DAY, hours + HOURS_PER_DAY, HOURS_PER_DAY):
        if midnight >= hours:
            break
        recent, until = slice(max(midnight - HOURS_PER_WEEK, 0), midnight), slice(midnight, midnight + HOURS_PER_DAY)
        drift[:, until] = _typical(residual[:, recent], MIN_RESIDUALS, 0.0)[:, None]
        long = slice(max(midnight - NOISE_H, 0), midnight)
        busy = count[:, long] >= np.median(count[:, long], axis=1, keepdims=True)
        squared = np.where(busy, (residual[:, long] - drift[:, midnight][:, None]) ** 2 / inflation[:, long], np.nan)
        beyond = _typical(squared, MIN_RESIDUALS, np.nan) / MEDIAN_OF_SQUARE
        beyond -= _typical(np.where(busy, relative[:, long], np.nan), MIN_RESIDUALS, 0.0)
        noise[:, until] = np.where(np.isnan(beyond), measure.noise, np.maximum(beyond, 0.0))[:, None]
    return np.clip(drift, -measure.drift_limit, measure.drift_limit), noise


def _typical(values: Floats, least: int, otherwise: float) -> Floats:
    """Median of each row over what is finite; `otherwise` where fewer than `least` are."""
    n = np.isfinite(values).sum(axis=1)
    return np.where(n >= least, _median(values.T), otherwise)


def _sizes(measure: Measure, difference: Floats, sd: Floats, usual: Floats, count: Floats) -> tuple[Floats, Floats]:
    """Excess, and what remains of it after two standard errors, over the whole's usual."""
    low = difference - GROWTH_CERTAINTY * sd
    if measure.kind == "sum":
        whole = np.where(usual[:1] > 0, usual[:1], np.inf)
        return difference / whole, low / whole
    share = count / np.maximum(count[:1], 1.0)
    if measure.is_log:
        return np.expm1(difference) * share, np.expm1(low) * share
    return difference * share, low * share


def _minded(measure: Measure, x: Floats, usual: Floats, difference: Floats) -> Bools:
    """Beyond ratio and floor."""
    if measure.is_log:
        ms = np.exp(np.clip(np.nan_to_num(usual), None, 30.0)) * np.expm1(np.clip(np.nan_to_num(difference), None, 30.0))
        far: Bools = (np.nan_to_num(difference) >= math.log(measure.ratio)) & (ms >= measure.floor)
        return far
    enough = difference >= max(measure.floor, 1e-12)
    if measure.direction == 1:
        enough &= x >= measure.ratio * usual
    return np.asarray(enough, dtype=bool)


def _upper_tail(z: Floats) -> Floats:
    from scipy.special import ndtr

    tail: Floats = ndtr(-np.nan_to_num(z))
    return tail


def _discoveries(p: Floats, tested: Bools, level: float) -> Bools:
    """Benjamini and Hochberg over series and windows, hour by hour."""
    flat, is_tested = p.reshape(-1, p.shape[2]), tested.reshape(-1, p.shape[2])
    tests = np.maximum(is_tested.sum(axis=0), 1)
    ordered = np.sort(np.where(is_tested, flat, 1.0), axis=0)
    ranks = np.arange(1, len(ordered) + 1)[:, None]
    below = ordered <= level * ranks / tests
    cut = np.max(np.where(below, ordered, -1.0), axis=0)
    found: Bools = ((flat <= cut) & is_tested).reshape(p.shape)
    return found


def _not_just_moved(sums: HourlySums, now: Floats, usual: Floats) -> Bools:
    """A model or a rule that took over spend from others is no spike: the whole must have grown by half as much at least."""
    excess = now - usual
    is_routed = np.array([series.dimension in ROUTED for series in sums.series])[:, None, None]
    explained: Bools = ~is_routed | (excess[:1] >= 0.5 * excess)
    return explained
