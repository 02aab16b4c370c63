"""When a model was slower than it usually is at that time.

Belongs here: robust comparison of stretches of time with like ones. Does not belong here: overall latencies
(`routing_analytics`), slow routing decisions (`bottlenecks`).
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

import ibis
import numpy as np
from pydantic import Field
from scipy.special import gammaincinv, ndtr

from routing_pipeline.analysis.model_minutes import BUCKET_S, Ints, ModelMinutes, Stretch, timed_calls, within
from routing_pipeline.clock import MONDAY_OFFSET_HOURS, SECONDS_PER_HOUR
from routing_pipeline.estimates import Result, Unidentifiable, quantity
from routing_pipeline.stats.inference import FALSE_DISCOVERY_RATE, Floats, false_discovery_adjusted
from routing_pipeline.text import LogName
from routing_pipeline.window.scope import AnalysisScope

MAX_SPIKES = 50
MAX_EXAMPLES = 5
MIN_CALLS = 10
MIN_STRETCHES = 8
"""Stretches of a model below which its usual spread cannot be told."""
MIN_COMPARABLE = 3
"""Other stretches of the same hour below which all stretches of the model are the baseline."""
MIN_FACTOR = 1.25
"""A slowdown smaller than this is no spike, however certain."""
HOUR_OF_WEEK_DAYS, HOUR_OF_DAY_DAYS, HALF_HOUR_DAYS = 28.0, 3.0, 0.5
MEDIAN_CHI_SQUARE = float(2 * gammaincinv(0.5, 0.5))


class LatencySpike(Result):
    """Consecutive stretches in which one model was slower than it usually is at that time."""

    model: LogName
    start: datetime = Field(description="UTC")
    end: datetime = Field(description="UTC, exclusive")
    requests: int = quantity("Successful calls in it, cache hits left out", "requests")
    typical_ms: float = quantity("Their geometric mean latency", "ms")
    usual_ms: float = quantity("Median over the comparable stretches of the window", "ms")
    factor: float = quantity("typical_ms / usual_ms", "1")
    robust_z: float = quantity("Of the most extreme stretch, on the logarithm of latency", "1")
    adjusted_p: float = quantity("Of that stretch, Benjamini-Hochberg adjusted over all models and stretches", "0..1")
    task_type: LogName | None = Field(description="Largest task type in it; null when it could not be looked up")
    task_share: float = quantity("Its share of the calls", "0..1")
    examples: tuple[LogName, ...] = Field(default=(), description="The slowest of the requests behind it: request_id")


class LatencySpikes(Result):
    """What was looked for and what was found."""

    stretch_minutes: int = quantity("Length of a stretch", "minutes")
    baseline: str = Field(description="What a stretch is compared with")
    tested: int = quantity("Pairs of model and stretch with enough calls", "stretches")
    spikes: tuple[LatencySpike, ...] = Field(description="Most extreme first")
    spikes_not_listed: int = quantity("Further spikes", "spikes")


@dataclass(frozen=True)
class _Clock:
    """How time is cut: buckets of five minutes per stretch, and what stretches are compared with each other."""

    buckets: int
    baseline: str
    hours: int | None

    def kind(self, stretch: Ints) -> Ints:
        """Stretches of one kind are compared with each other."""
        if self.hours is None:
            return np.zeros_like(stretch)
        kinds: Ints = (stretch + MONDAY_OFFSET_HOURS) % self.hours
        return kinds


@dataclass(frozen=True)
class _Slowness:
    """One model's stretches: calls, sum and mean of ln(ms), the median of like stretches, and the robust z."""

    model: str
    stretch: Ints
    calls: Floats
    log_ms: Floats
    usual: Floats
    z: Floats


def _clock(scope: AnalysisScope) -> _Clock:
    """Stretches long enough to hold calls, short enough to leave dozens of them to compare with."""
    if scope.covered_days >= HOUR_OF_WEEK_DAYS:
        return _Clock(SECONDS_PER_HOUR // BUCKET_S, "the model's other hours of the same hour of the week", 168)
    if scope.covered_days >= HOUR_OF_DAY_DAYS:
        return _Clock(
            SECONDS_PER_HOUR // BUCKET_S,
            "the model's other hours of the same hour of the day: the window is too short for hours of the week",
            24,
        )
    buckets = 1800 // BUCKET_S if scope.covered_days >= HALF_HOUR_DAYS else 1
    return _Clock(buckets, "all other stretches of the model: the window is too short for hours of the day", None)


def latency_spikes(requests: ibis.Table, minutes: Sequence[ModelMinutes], scope: AnalysisScope) -> LatencySpikes | Unidentifiable:
    """Stretches of at least a quarter slower calls, at a false discovery rate of 5 %.

    The statistic of a stretch is the mean of ln(latency): half of a few wild calls do not move it. It is compared with the
    median of like stretches (itself left out). z = difference / sqrt(tau^2 + s^2 / n), where s^2 is the variance between calls
    and tau^2, the variance between stretches, is matched to the median of the squared differences: a robust z that knows
    how many calls stand behind a stretch.
    """
    if not any(each.calls.any() for each in minutes):
        return Unidentifiable(unidentifiable="latency is not logged; log when each attempt ends")
    clock = _clock(scope)
    slowness = [found for each in minutes if (found := _slowness(each, clock)) is not None]
    tested = sum(len(each.stretch) for each in slowness)
    if tested == 0:
        return Unidentifiable(unidentifiable=f"no model has {MIN_STRETCHES} stretches with {MIN_CALLS} calls; take a longer timeframe")
    adjusted = false_discovery_adjusted([float(p) for each in slowness for p in ndtr(-each.z)])
    spikes: list[tuple[_Slowness, list[int], float]] = []
    offset = 0
    for each in slowness:
        own = np.array(adjusted[offset : offset + len(each.stretch)])
        offset += len(each.stretch)
        spikes += [(each, run, float(own[run].min())) for run in _runs(each, own)]
    spikes.sort(key=lambda spike: (-float(spike[0].z[spike[1]].max()), spike[0].model, spike[1][0]))
    return LatencySpikes(
        stretch_minutes=clock.buckets * BUCKET_S // 60,
        baseline=clock.baseline,
        tested=tested,
        spikes=_described(requests, spikes[:MAX_SPIKES], clock),
        spikes_not_listed=max(len(spikes) - MAX_SPIKES, 0),
    )


def _slowness(minutes: ModelMinutes, clock: _Clock) -> _Slowness | None:
    stretch, place = np.unique(minutes.bucket // clock.buckets, return_inverse=True)
    calls, log_ms, squares = (
        np.bincount(place, weights=column).astype(np.float64) for column in (minutes.calls, minutes.log_ms, minutes.log_ms_squares)
    )
    enough = calls >= MIN_CALLS
    if enough.sum() < MIN_STRETCHES:
        return None
    stretch, calls, log_ms, squares = stretch[enough], calls[enough], log_ms[enough], squares[enough]
    mean = log_ms / calls
    between_calls = max(float((squares - calls * mean**2).sum() / (calls - 1).sum()), 0.0)
    usual = _usual(mean, clock.kind(stretch))
    difference = mean - usual
    noise = between_calls / calls
    z = difference / np.sqrt(np.maximum(_between_stretches(difference, noise) + noise, 1e-6))
    return _Slowness(minutes.model, stretch, calls, log_ms, usual, z)


def _usual(mean: Floats, kind: Ints) -> Floats:
    """Median of the other stretches of the same kind; of all others where there are too few."""
    usual = np.empty_like(mean)
    for place in range(len(mean)):
        alike = kind == kind[place]
        alike[place] = False
        if alike.sum() < MIN_COMPARABLE:
            alike = np.ones(len(mean), dtype=bool)
            alike[place] = False
        usual[place] = np.median(mean[alike])
    return usual


def _between_stretches(difference: Floats, noise: Floats) -> float:
    """tau^2 at which the median of difference^2 / (tau^2 + noise) is that of a chi-square with one degree of freedom."""
    low, high = 0.0, float((difference**2).max()) / MEDIAN_CHI_SQUARE + 1e-9
    for _ in range(60):
        middle = (low + high) / 2
        too_small = float(np.median(difference**2 / np.maximum(middle + noise, 1e-12))) > MEDIAN_CHI_SQUARE
        low, high = (middle, high) if too_small else (low, middle)
    return high


def _runs(slowness: _Slowness, adjusted: Floats) -> list[list[int]]:
    """Places of consecutive stretches that stand out."""
    mean = slowness.log_ms / slowness.calls
    stands_out = (adjusted <= FALSE_DISCOVERY_RATE) & (mean - slowness.usual >= math.log(MIN_FACTOR))
    runs: list[list[int]] = []
    for place in np.flatnonzero(stands_out).tolist():
        if runs and slowness.stretch[place] == slowness.stretch[runs[-1][-1]] + 1:
            runs[-1].append(place)
        else:
            runs.append([place])
    return runs


def _described(requests: ibis.Table, spikes: Sequence[tuple[_Slowness, list[int], float]], clock: _Clock) -> tuple[LatencySpike, ...]:
    if not spikes:
        return ()
    length = clock.buckets * BUCKET_S
    stretches = [
        Stretch(each.model, float(each.stretch[run[0]]) * length, float(each.stretch[run[-1]] + 1) * length) for each, run, _ in spikes
    ]
    behind = within(requests.filter(timed_calls(requests)), stretches)
    tasks, examples = _tasks(behind), _slowest(behind)
    return tuple(
        _spike(each, run, p, stretches[place], tasks.get(place, {}), examples.get(place, ())) for place, (each, run, p) in enumerate(spikes)
    )


def _spike(
    slowness: _Slowness, run: list[int], adjusted_p: float, stretch: Stretch, tasks: dict[str, int], examples: tuple[str, ...]
) -> LatencySpike:
    calls = float(slowness.calls[run].sum())
    typical = math.exp(float(slowness.log_ms[run].sum()) / calls)
    usual = math.exp(float((slowness.usual[run] * slowness.calls[run]).sum()) / calls)
    task = min(tasks, key=lambda name: (-tasks[name], name), default=None)
    return LatencySpike(
        model=slowness.model,
        start=datetime.fromtimestamp(stretch.start_s, UTC),
        end=datetime.fromtimestamp(stretch.end_s, UTC),
        requests=int(calls),
        typical_ms=typical,
        usual_ms=usual,
        factor=typical / usual,
        robust_z=float(slowness.z[run].max()),
        adjusted_p=adjusted_p,
        task_type=task,
        task_share=0.0 if task is None else tasks[task] / sum(tasks.values()),
        examples=examples,
    )


def _tasks(behind: ibis.Table) -> dict[int, dict[str, int]]:
    rows: list[dict[str, Any]] = behind.group_by("stretch", "task_type").agg(n=behind.count()).to_pyarrow().to_pylist()
    tasks: dict[int, dict[str, int]] = {}
    for row in rows:
        tasks.setdefault(row["stretch"], {})[row["task_type"]] = row["n"]
    return tasks


def _slowest(behind: ibis.Table) -> dict[int, tuple[str, ...]]:
    order = ibis.window(group_by="stretch", order_by=[behind.latency_ms.desc(), behind.attempt_id.asc()])
    few = behind.mutate(place=ibis.row_number().over(order)).filter(lambda t: t.place < MAX_EXAMPLES)
    found: dict[int, list[tuple[int, str]]] = {}
    for row in few.select("stretch", "place", "request_id").to_pyarrow().to_pylist():
        found.setdefault(row["stretch"], []).append((row["place"], row["request_id"]))
    return {stretch: tuple(name for _, name in sorted(names)) for stretch, names in found.items()}
