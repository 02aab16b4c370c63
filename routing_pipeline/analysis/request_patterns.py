"""`analyze_request_patterns`: which kinds of request arrive, when, how hard they are, and whether that changes.

Belongs here: kinds and their shares, the week's rhythm, peaks, complexity, drift of the mix. Does not belong here: who
answers them (`routing_analytics`), and what they cost over time (`routing_costs`).
"""

from __future__ import annotations

import math
from collections import defaultdict
from collections.abc import Callable, Collection, Mapping, Sequence
from datetime import UTC, datetime
from typing import Any, Literal

import ibis
import numpy as np
from numpy.typing import NDArray
from pydantic import Field
from scipy import stats

from routing_pipeline.analysis.daily_spend import NEARLY_ALL, NO_COST, HourSums, hour_sums, overlap
from routing_pipeline.comparisons import false_discovery_adjusted
from routing_pipeline.estimates import Known, Measured, Result, Unidentifiable, mean_interval, quantity
from routing_pipeline.scope import MONDAY_OFFSET_HOURS, AnalysisScope

DriftDimension = Literal["kind", "task_type", "length", "complexity", "model"]
DriftVerdict = Literal["stable", "shifted", "shifted much", "cannot tell"]

MAX_LISTED = 50
MAX_MOVERS = 5
LENGTH_EDGES: tuple[int, ...] = (500, 2_000, 8_000)
"""Prompt tokens: a question, a page, a document, a collection."""
BINS = 10
EASY_BELOW, HARD_FROM = 3, 7
"""Tenths of the complexity scale."""
MIN_HOURS_FOR_PEAK = 6
PEAK_TO_MEAN = 1.25
HOURS_PER_WEEK = 168
WEEKDAYS = ("Monday", "Tuesday", "Wednesday", "Thursday", "Friday", "Saturday", "Sunday")
SHIFTED, SHIFTED_MUCH = 0.10, 0.25
"""Usual marks of the population stability index (Siddiqi, Credit Risk Scorecards, 2006)."""
SIGNIFICANT = 0.05
MIN_EXPECTED = 5.0
"""Cochran's rule for a chi-square test: rarer categories are pooled."""
MIN_PREVIOUS = 100
NOT_LOGGED = "not logged"

Row = dict[str, Any]
Floats = NDArray[np.float64]


class RequestKind(Result):
    """Requests of one task type, length and complexity."""

    task_type: str
    length: str = Field(description="Band of prompt tokens, e.g. `500 to 2,000 tokens`; `not logged`")
    complexity: str = Field(description="Band of complexity, e.g. `0.3 to 0.7`; `not logged`")
    requests: int = quantity("Final requests", "requests")
    share: float = quantity("Of all final requests", "0..1")
    cost_usd: Known = quantity("All attempts of these requests", "USD")
    cost_share: Known = quantity("Of all spend", "0..1")


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


class ComplexityBin(Result):
    """A tenth of the complexity scale."""

    gte: float
    lt: float = Field(description="The last bin holds 1 as well")
    requests: int = quantity("Final requests", "requests")
    share: float = quantity("Of final requests with a complexity", "0..1")


class TaskComplexity(Result):
    """How hard one task type is."""

    task_type: str
    requests: int = quantity("Final requests with a complexity", "requests")
    mean: Measured = quantity("Mean complexity", "0..1")
    hard_share: float = quantity("Share with a complexity of at least 0.7", "0..1")


class Complexity(Result):
    """Distribution of complexity."""

    requests: int = quantity("Final requests with a complexity", "requests")
    unknown: int = quantity("Final requests without", "requests")
    derived_share: float = quantity("Share derived from prompt length: a rank, flat by construction", "0..1")
    mean: Measured = quantity("Mean complexity", "0..1")
    bins: tuple[ComplexityBin, ...]
    tasks: tuple[TaskComplexity, ...] = Field(description="Largest first")


class Mover(Result):
    """A share that moved."""

    name: str
    previous_share: float = quantity("In the window before", "0..1")
    share: float = quantity("In this window", "0..1")


class MixDrift(Result):
    """How far one mix moved since the window before."""

    dimension: DriftDimension
    population_stability_index: float = quantity("sum (p - q) ln(p / q); 0.1 is a shift, 0.25 a large one", "1")
    jensen_shannon: float = quantity("Jensen-Shannon divergence to base 2", "0..1")
    p_value: Known = quantity("Chi-square test of equal mixes, Benjamini-Hochberg adjusted over the dimensions", "0..1")
    verdict: DriftVerdict
    movers: tuple[Mover, ...] = Field(description="Largest changes of share first")


class RequestPatterns(Result):
    """The answer to `analyze_request_patterns`."""

    requests: int = quantity("Final requests", "requests")
    kinds: tuple[RequestKind, ...] = Field(description="Most requests first")
    kinds_not_listed: int = quantity("Requests of rarer kinds", "requests")
    heat_map: tuple[HourOfWeek, ...] = Field(description="168 hours of the week, Monday first")
    peaks: Peaks
    seasonality: Seasonality
    complexity: Complexity
    drift: tuple[MixDrift, ...] | Unidentifiable = Field(description="Against the equal window before")
    notices: tuple[str, ...] = Field(default=(), description="What is missing and what to collect")


def request_patterns(requests: ibis.Table, previous: ibis.Table, scope: AnalysisScope) -> RequestPatterns:
    """Kinds of request, the week's rhythm, complexity, and drift against the window before.

    Args:
        requests: conformed rows of the window (schema.SCOPED_REQUESTS), one per attempt.
        previous: the same of the equal window before; may be empty.
        scope: the window.
    """
    cells, before = _cells(requests), _cells(previous)
    hours, hours_before = hour_sums(requests), hour_sums(previous)
    n = _sum(cells, "n")
    kinds = _kinds(cells, n)
    covered = _covered(hours, scope.start_s, scope.end_s)
    return RequestPatterns(
        requests=n,
        kinds=kinds[:MAX_LISTED],
        kinds_not_listed=sum(kind.requests for kind in kinds[MAX_LISTED:]),
        heat_map=_heat_map(hours, covered),
        peaks=_peaks(hours, covered),
        seasonality=_seasonality(hours, hours_before, scope),
        complexity=_complexity(cells),
        drift=_drift(cells, before),
        notices=tuple(
            f"{source.name} is missing: {source.consequence}"
            for source in scope.sources
            if not source.present and source.name in {"task type", "complexity"}
        ),
    )


def _cells(requests: ibis.Table) -> list[Row]:
    """Final requests by task type, length band (-1: not logged), tenth of complexity (-1: unknown) and model."""
    t = requests.filter(requests.is_final)
    band = ibis.literal(0, "int64")
    for edge in LENGTH_EDGES:
        band = band + (t.prompt_tokens >= edge).cast("int64")
    tenth = (t.complexity * BINS).floor().cast("int64").clip(0, BINS - 1)
    rows: list[Row] = (
        t.group_by(task=t.task_type, length=band.fill_null(-1), tenth=tenth.fill_null(-1), model=t.model)
        .agg(
            n=t.count(),
            cost=t.request_cost_usd.sum(),
            priced=t.request_cost_usd.count(),
            complexity=t.complexity.sum(),
            squares=(t.complexity * t.complexity).sum(),
            derived=(t.is_complexity_derived & t.complexity.notnull()).sum(),
        )
        .to_pyarrow()
        .to_pylist()
    )
    return rows


def _sum(rows: Sequence[Row], name: str) -> int:
    return int(sum(row[name] or 0 for row in rows))


def _total(rows: Sequence[Row], name: str) -> float:
    return math.fsum(row[name] or 0.0 for row in rows)


def _grouped(cells: Sequence[Row], key: Callable[[Row], Any]) -> dict[Any, list[Row]]:
    groups: dict[Any, list[Row]] = defaultdict(list)
    for cell in cells:
        groups[key(cell)].append(cell)
    return groups


# --- Kinds


def _length(cell: Row) -> str:
    edges = (0, *LENGTH_EDGES)
    band = cell["length"]
    if band < 0:
        return NOT_LOGGED
    return f"{edges[band]:,} to {edges[band + 1]:,} tokens" if band + 1 < len(edges) else f"{edges[band]:,} tokens and more"


def _difficulty(cell: Row) -> str:
    if cell["tenth"] < 0:
        return NOT_LOGGED
    if cell["tenth"] < EASY_BELOW:
        return f"0 to {EASY_BELOW / BINS}"
    return f"{EASY_BELOW / BINS} to {HARD_FROM / BINS}" if cell["tenth"] < HARD_FROM else f"{HARD_FROM / BINS} to 1"


def _kinds(cells: list[Row], n: int) -> tuple[RequestKind, ...]:
    spend, priced = _total(cells, "cost"), _sum(cells, "priced")
    kinds = []
    for (task, length, difficulty), rows in _grouped(cells, lambda cell: (cell["task"], _length(cell), _difficulty(cell))).items():
        requests, cost = _sum(rows, "n"), _total(rows, "cost")
        kinds.append(
            RequestKind(
                task_type=task,
                length=length,
                complexity=difficulty,
                requests=requests,
                share=requests / n,
                cost_usd=cost if _sum(rows, "priced") else NO_COST,
                cost_share=cost / spend if priced and spend > 0 else NO_COST,
            )
        )
    return tuple(sorted(kinds, key=lambda kind: (-kind.requests, kind.task_type, kind.length, kind.complexity)))


# --- The week's rhythm


def _covered(hours: Collection[int], start_s: float, end_s: float) -> dict[int, float]:
    """Share of each hour that the logs cover, from the first hour with a request to the last."""
    if not hours:
        return {}
    return {hour: overlap(hour * 3600, (hour + 1) * 3600, start_s, end_s) / 3600 for hour in range(min(hours), max(hours) + 1)}


def _of_week(hour: int) -> int:
    return (hour + MONDAY_OFFSET_HOURS) % HOURS_PER_WEEK


def _requests(hours: Mapping[int, HourSums], hour: int) -> int:
    return hours[hour].requests if hour in hours else 0


def _heat_map(hours: Mapping[int, HourSums], covered: Mapping[int, float]) -> tuple[HourOfWeek, ...]:
    seen, requests = defaultdict[int, float](float), defaultdict[int, int](int)
    for hour, share in covered.items():
        seen[_of_week(hour)] += share
        requests[_of_week(hour)] += _requests(hours, hour)
    never = Unidentifiable(unidentifiable="the logs do not cover this hour of the week; take a timeframe of 7d or more")
    return tuple(
        HourOfWeek(
            hour_of_week=cell, covered=seen[cell], requests=requests[cell], per_hour=requests[cell] / seen[cell] if seen[cell] else never
        )
        for cell in range(HOURS_PER_WEEK)
    )


def _peaks(hours: Mapping[int, HourSums], covered: Mapping[int, float]) -> Peaks:
    length = math.fsum(covered.values())
    total = sum(_requests(hours, hour) for hour in covered)
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
        busiest_hour=datetime.fromtimestamp(busiest * 3600, UTC),
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
    return {each: (requests[each] / seen[each], seen[each]) for each in sorted(seen) if seen[each] > 0}


def _seasonality(hours: Mapping[int, HourSums], before: Mapping[int, HourSums], scope: AnalysisScope) -> Seasonality:
    """Strength of a pattern as in Wang, Smith & Hyndman (2006), with each hour left out of the mean that foretells it.

    Leaving it out keeps a pattern from explaining its own noise: with few days an ordinary fit always looks strong.
    """
    counts: dict[int, int] = defaultdict(int)
    for part in (before, hours):
        for hour, sums in part.items():
            counts[hour] += sums.requests
    start_s = scope.previous_start_s if before else scope.start_s
    whole = [hour for hour, share in _covered(counts, start_s, scope.end_s).items() if share >= NEARLY_ALL]
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


# --- Complexity


def _complexity(cells: list[Row]) -> Complexity:
    known = [cell for cell in cells if cell["tenth"] >= 0]
    n = _sum(known, "n")
    by_tenth = {tenth: _sum(rows, "n") for tenth, rows in _grouped(known, lambda cell: cell["tenth"]).items()}
    tasks = [
        TaskComplexity(
            task_type=task,
            requests=_sum(rows, "n"),
            mean=mean_interval(_sum(rows, "n"), _total(rows, "complexity"), _total(rows, "squares")),
            hard_share=_sum([row for row in rows if row["tenth"] >= HARD_FROM], "n") / _sum(rows, "n"),
        )
        for task, rows in _grouped(known, lambda cell: cell["task"]).items()
    ]
    return Complexity(
        requests=n,
        unknown=_sum(cells, "n") - n,
        derived_share=_sum(known, "derived") / n if n else 0.0,
        mean=mean_interval(n, _total(known, "complexity"), _total(known, "squares")),
        bins=tuple(
            ComplexityBin(gte=tenth / BINS, lt=(tenth + 1) / BINS, requests=by_tenth.get(tenth, 0), share=by_tenth.get(tenth, 0) / n)
            for tenth in range(BINS)
            if n
        ),
        tasks=tuple(sorted(tasks, key=lambda each: (-each.requests, each.task_type))[:MAX_LISTED]),
    )


# --- Drift


_DIMENSIONS: dict[DriftDimension, Callable[[Row], str]] = {
    "kind": lambda cell: f"{cell['task']}, {_length(cell)}, complexity {_difficulty(cell)}",
    "task_type": lambda cell: str(cell["task"]),
    "length": _length,
    "complexity": _difficulty,
    "model": lambda cell: str(cell["model"]),
}


def _drift(cells: list[Row], before: list[Row]) -> tuple[MixDrift, ...] | Unidentifiable:
    if _sum(before, "n") < MIN_PREVIOUS or _sum(cells, "n") < MIN_PREVIOUS:
        return Unidentifiable(
            unidentifiable=f"{_sum(before, 'n')} requests in the equal window before and {_sum(cells, 'n')} in this one; "
            f"a comparison of mixes needs {MIN_PREVIOUS} in each"
        )
    mixes = {dimension: _mix(cells, before, key) for dimension, key in _DIMENSIONS.items()}
    p_values = {dimension: _chi_square_p(mix) for dimension, mix in mixes.items()}
    if any(_sum(part, "derived") > 0 for part in (cells, before)):
        p_values["complexity"] = Unidentifiable(
            unidentifiable="complexity was derived from prompt length, as a rank within the window: its mix cannot drift; log the router's own"
        )
    tested = {dimension: value for dimension, value in p_values.items() if isinstance(value, float)}
    adjusted = dict(zip(tested, false_discovery_adjusted(list(tested.values())), strict=True))
    return tuple(_mix_drift(dimension, mix, adjusted.get(dimension, p_values[dimension])) for dimension, mix in mixes.items())


def _mix(cells: list[Row], before: list[Row], key: Callable[[Row], str]) -> dict[str, tuple[int, int]]:
    """Requests by category: in the window before, in this one."""
    old, new = ({name: _sum(rows, "n") for name, rows in _grouped(part, key).items()} for part in (before, cells))
    return {name: (old.get(name, 0), new.get(name, 0)) for name in sorted(old.keys() | new.keys())}


def _chi_square_p(mix: Mapping[str, tuple[int, int]]) -> Known:
    table = np.array(list(mix.values()), dtype=np.float64)
    expected = table.sum(axis=1, keepdims=True) * table.sum(axis=0) / table.sum()
    rare = (expected < MIN_EXPECTED).any(axis=1)
    pooled = np.vstack([table[~rare], table[rare].sum(axis=0, keepdims=True)]) if rare.any() else table
    pooled = pooled[pooled.sum(axis=1) > 0]
    if len(pooled) < 2:
        return Unidentifiable(unidentifiable="all requests are of one category; there is no mix to drift")
    return float(stats.chi2_contingency(pooled, correction=False).pvalue)


def _mix_drift(dimension: DriftDimension, mix: Mapping[str, tuple[int, int]], p_value: Known) -> MixDrift:
    counts = np.array(list(mix.values()), dtype=np.float64)
    old, new = (counts / counts.sum(axis=0)).T
    # Half a request is added to every category, so that one that is new or gone does not make the index infinite.
    smooth = (counts + 0.5) / (counts + 0.5).sum(axis=0)
    index = float(((smooth[:, 1] - smooth[:, 0]) * np.log(smooth[:, 1] / smooth[:, 0])).sum())
    names = list(mix)
    largest = sorted(range(len(mix)), key=lambda place: (-abs(new[place] - old[place]), names[place]))[:MAX_MOVERS]
    return MixDrift(
        dimension=dimension,
        population_stability_index=index,
        jensen_shannon=_jensen_shannon(old, new),
        p_value=p_value,
        verdict=_drift_verdict(index, p_value),
        movers=tuple(
            Mover(name=names[place], previous_share=float(old[place]), share=float(new[place]))
            for place in largest
            if old[place] != new[place]
        ),
    )


def _jensen_shannon(one: Floats, other: Floats) -> float:
    """Mean Kullback-Leibler divergence from the middle of both, to base 2 (Lin 1991)."""
    middle = (one + other) / 2
    return float((stats.entropy(one, middle, base=2) + stats.entropy(other, middle, base=2)) / 2)


def _drift_verdict(index: float, p_value: Known) -> DriftVerdict:
    """A shift has to be both large enough to matter and too large for chance."""
    if isinstance(p_value, Unidentifiable):
        return "cannot tell"
    if index < SHIFTED:
        return "stable"
    if p_value >= SIGNIFICANT:
        return "cannot tell"
    return "shifted much" if index >= SHIFTED_MUCH else "shifted"
