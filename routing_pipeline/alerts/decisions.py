"""What each sensor does now: from hourly sums and a cursor to an alert, or to why there is none.

Belongs here: the four decisions, one function each, and the words of an alert. Does not belong here: reading the lake on a
clock and starting runs (`assets.automation`), telling people (`notifications`).
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from datetime import UTC, datetime
from typing import Literal, NamedTuple

import numpy as np
from pydantic import Field

from routing_pipeline.alerts.detection import MIN_DAYS_OF_BASELINE, WINDOWS_H, Detection, Measure, detect
from routing_pipeline.alerts.incidents import Memory, remembered
from routing_pipeline.alerts.missing_traffic import Silence, remembered_silence, silences
from routing_pipeline.alerts.series import WHOLE, HourlySums, Series
from routing_pipeline.clock import HOURS_PER_DAY, SECONDS_PER_HOUR
from routing_pipeline.estimates import Result, quantity
from routing_pipeline.parameters import AlertThresholds
from routing_pipeline.text import LogName

MAX_HOURS_PER_TICK = 72
MAX_NAME = 60
NO_NEW_HOUR = "no new complete hour since the last check"
NO_REQUEST = "the lake has no requests yet"

CARRIED = ("dimension", "value", "start_s", "end_s", "since_s", "now", "usual", "measured")
"""What of an alert goes with the run that it starts."""

Kind = Literal["alert", "quiet", "no baseline", "no data"]


class AlertDecision(Result):
    """What a sensor should do now."""

    kind: Kind
    run_key: str | None = Field(default=None, description="Start one run, and tell people once, under this key; null: do neither")
    reason: str = Field(description="For the run's tags and for people, or for the skipped tick")
    cursor: str = Field(description="Hand it back at the next tick")
    dimension: str = Field(default="all", description="What the series that stands out most is narrowed to")
    value: LogName = Field(default=LogName(""), description="Its value")
    start_s: float | None = quantity("Start of the evaluated window, since 1970", "s", default=None)
    end_s: float | None = quantity("End of it", "s", default=None)
    since_s: float | None = quantity("When the incident began that this tells of", "s", default=None)
    now: float | None = Field(default=None, description="What was measured, in the measure's unit")
    usual: float | None = Field(default=None, description="What is usual in the same hours")
    measured: str = Field(default="", description="spend, latency, quality, failed attempts or requests")
    due_to: tuple[str, ...] = Field(default=(), description="What the alert is due to, in words, largest first")


class _Alarm(NamedTuple):
    hour: int
    series: Series
    window: int
    now: float
    usual: float
    size: float
    size_low: float


def cost_measure(thresholds: AlertThresholds) -> Measure:
    """Spend per window, USD; hours vary by a fifth until more is known."""
    return Measure("cost", "sum", 1, thresholds.cost_ratio, thresholds.cost_floor_usd, noise=0.04, drift_limit=0.25)


def latency_measure(thresholds: AlertThresholds) -> Measure:
    """Mean log latency of successes."""
    return Measure("latency", "mean", 1, thresholds.latency_ratio, thresholds.latency_floor_ms, noise=0.01, drift_limit=0.22, is_log=True)


def quality_measure(thresholds: AlertThresholds) -> Measure:
    """Mean quality of scored successes."""
    return Measure("quality", "mean", -1, 1.0, thresholds.quality_drop, noise=0.0004, drift_limit=0.05)


def failure_measure(thresholds: AlertThresholds) -> Measure:
    """Share of attempts that failed."""
    return Measure("failures", "mean", 1, 1.0, thresholds.failure_rise, noise=0.0004, drift_limit=0.05)


def cost_spike(sums: HourlySums | None, thresholds: AlertThresholds, cursor: str | None, end_hour: int) -> AlertDecision:
    """Did spend jump? Judges the hours before `end_hour` that were not judged yet; sums None: there is no request at all."""
    return _decided("cost_spike", {"spend": (sums, cost_measure(thresholds))}, thresholds, cursor, end_hour)


def latency_spike(sums: HourlySums | None, thresholds: AlertThresholds, cursor: str | None, end_hour: int) -> AlertDecision:
    """Did answers become slow? As `cost_spike`, over log latencies."""
    return _decided("latency_spike", {"latency": (sums, latency_measure(thresholds))}, thresholds, cursor, end_hour)


def quality_drop(
    qualities: HourlySums | None, failures: HourlySums | None, thresholds: AlertThresholds, cursor: str | None, end_hour: int
) -> AlertDecision:
    """Did answers become worse, or fail? As `cost_spike`, over quality scores and over failures; without scores, failures alone."""
    measures = {"failed attempts": (failures, failure_measure(thresholds))}
    if qualities is not None:
        measures["quality"] = (qualities, quality_measure(thresholds))
    return _decided("quality_drop", measures, thresholds, cursor, end_hour)


def silent_feed(sums: HourlySums | None, thresholds: AlertThresholds, cursor: str | None, end_hour: int, now_s: float) -> AlertDecision:
    """Did the traffic, or a team's, stop, or do its logs not arrive?

    Hours before `end_hour` are known to be complete: nothing in them is silence. Where the lake was not brought up to date
    for longer than `silent_hours`, the clock decides: nothing arrives, whatever the reason.
    """
    memory = remembered_silence(cursor)
    if sums is None:
        return AlertDecision(kind="no data", reason=NO_REQUEST, cursor=memory.model_dump_json())
    overdue = int((now_s - thresholds.silent_hours * SECONDS_PER_HOUR) // SECONDS_PER_HOUR)
    found = silences(sums, max(end_hour, overdue), thresholds.baseline_weeks, thresholds.false_alerts_per_month, thresholds.timezone)
    after, news = memory.after(found)
    if not news:
        reason = f"still no requests{_listed(found)}" if found else "requests arrive as usual"
        return AlertDecision(kind="quiet", reason=reason, cursor=after.model_dump_json())
    first = news[0]
    reason = (
        f"no requests{_listed(news)} since {iso(first.since)} (about {first.expected:,.0f} expected): "
        "the gateway is down or its logs are delayed"
    )
    return AlertDecision(
        kind="alert",
        run_key=f"silent_feed:{iso(first.since)}:{len(after.told)}",
        reason=reason,
        cursor=after.model_dump_json(),
        dimension=first.series.dimension,
        value=first.series.value,
        start_s=float(first.since * SECONDS_PER_HOUR),
        end_s=float(max(end_hour, overdue) * SECONDS_PER_HOUR),
        since_s=float(first.since * SECONDS_PER_HOUR),
        now=0.0,
        usual=first.expected,
        measured="requests",
    )


def _decided(
    sensor: str,
    measures: Mapping[str, tuple[HourlySums | None, Measure]],
    thresholds: AlertThresholds,
    cursor: str | None,
    end_hour: int,
) -> AlertDecision:
    memory = remembered(cursor)
    if any(sums is None for sums, _ in measures.values()):
        return AlertDecision(kind="no data", reason=NO_REQUEST, cursor=memory.model_dump_json())
    since = end_hour - 1 if memory.seen is None else max(memory.seen + 1, end_hour - MAX_HOURS_PER_TICK)
    if since >= end_hour:
        return AlertDecision(kind="quiet", reason=NO_NEW_HOUR, cursor=memory.model_dump_json())
    detections = _detections(measures, thresholds)
    news: tuple[str, _Alarm] | None = None
    for known, told in _after_each_hour(detections, memory, since, end_hour):
        memory, news = known, told or news
    if news is not None:
        return _alert(sensor, *news, memory)
    return _quiet(detections, end_hour - 1, memory)


def alerts_since(
    sensor: str,
    measures: Mapping[str, tuple[HourlySums | None, Measure]],
    thresholds: AlertThresholds,
    since: int,
    end_hour: int,
) -> tuple[tuple[AlertDecision, ...], int | None]:
    """Every alert that a sensor which looks after each hour tells of the hours [since, end_hour), and the last hour that alarmed."""
    detections = _detections(measures, thresholds)
    memory, alerts = Memory(seen=since - 1), []
    for known, told in _after_each_hour(detections, memory, since, end_hour):
        memory = known
        if told is not None:
            alerts.append(_alert(sensor, *told, memory))
    return tuple(alerts), None if memory.incident is None else memory.incident.last_alarm


def _detections(
    measures: Mapping[str, tuple[HourlySums | None, Measure]], thresholds: AlertThresholds
) -> dict[str, tuple[HourlySums, Detection]]:
    return {
        name: (sums, detect(sums, measure, thresholds.baseline_weeks, thresholds.false_alerts_per_month, thresholds.timezone))
        for name, (sums, measure) in measures.items()
        if sums is not None
    }


def _after_each_hour(
    detections: Mapping[str, tuple[HourlySums, Detection]], memory: Memory, since: int, end_hour: int
) -> Iterator[tuple[Memory, tuple[str, _Alarm] | None]]:
    """The memory after each hour, and the alarm where it is news."""
    for hour in range(since, end_hour):
        alarms = [(name, alarm) for name, (sums, found) in detections.items() if (alarm := _largest(sums, found, hour)) is not None]
        largest = max(alarms, key=lambda each: each[1].size, default=None)
        size, low = (None, 0.0) if largest is None else (largest[1].size, largest[1].size_low)
        memory, is_news = memory.after(hour, size, low)
        yield memory, largest if is_news else None


def _largest(sums: HourlySums, found: Detection, hour: int) -> _Alarm | None:
    """The alarm of that hour that matters most; of windows of equal weight, the most recent hours."""
    place = hour - found.first_hour
    if not 0 <= place < found.is_alarm.shape[2] or not found.is_alarm[:, :, place].any():
        return None
    size = np.where(found.is_alarm[:, :, place], found.size[:, :, place], -np.inf)
    series, window = np.unravel_index(int(np.argmax(size)), size.shape)
    at = (series, window, place)
    return _Alarm(
        hour,
        sums.series[int(series)],
        WINDOWS_H[int(window)],
        float(found.now[at]),
        float(found.usual[at]),
        float(found.size[at]),
        float(found.size_low[at]),
    )


def _alert(sensor: str, measured: str, alarm: _Alarm, memory: Memory) -> AlertDecision:
    incident = memory.incident
    began, told = (alarm.hour, 1) if incident is None else (incident.began, incident.told)
    grown = "" if told == 1 else f" (larger than when first reported, for {iso(began)})"
    return AlertDecision(
        kind="alert",
        run_key=f"{sensor}:{iso(began)}" + ("" if told == 1 else f":{told}"),
        reason=_said(measured, alarm.now, alarm.usual, alarm.series, alarm.window, alarm.hour) + grown,
        cursor=memory.model_dump_json(),
        dimension=alarm.series.dimension,
        value=alarm.series.value,
        start_s=float((alarm.hour + 1 - alarm.window) * SECONDS_PER_HOUR),
        end_s=float((alarm.hour + 1) * SECONDS_PER_HOUR),
        since_s=float(began * SECONDS_PER_HOUR),
        now=math.exp(min(alarm.now, 30.0)) if measured == "latency" else alarm.now,
        usual=math.exp(min(alarm.usual, 30.0)) if measured == "latency" else alarm.usual,
        measured=measured,
    )


def _quiet(detections: Mapping[str, tuple[HourlySums, Detection]], hour: int, memory: Memory) -> AlertDecision:
    said, untold = [], []
    for name, (sums, found) in detections.items():
        at = (0, 0, hour - found.first_hour)
        if 0 <= at[2] < found.now.shape[2] and found.is_tested[at]:
            said.append(_said(name, float(found.now[at]), float(found.usual[at]), WHOLE, 1, hour))
        elif (began := _began(sums)) is not None and 0 <= hour - began <= MIN_DAYS_OF_BASELINE * HOURS_PER_DAY:
            # Scores of another source than before are such: while the other measures are compared, this one is not watched.
            untold.append(f"{name} is known only since {iso(began)}, too little for a comparison")
    if said:
        return AlertDecision(kind="quiet", reason="; ".join([*said, *untold]), cursor=memory.model_dump_json())
    first = min(found.first_hour for _, found in detections.values())
    reason = (
        "less than three days of history, too little for a comparison"
        if hour - first <= MIN_DAYS_OF_BASELINE * HOURS_PER_DAY
        else f"too few requests in the hour {iso(hour)} to compare"
    )
    return AlertDecision(kind="no baseline", reason=reason, cursor=memory.model_dump_json())


def _began(sums: HourlySums) -> int | None:
    """The first hour of which something is known of all traffic."""
    known = np.flatnonzero(sums.count[0] > 0)
    return sums.first_hour + int(known[0]) if len(known) else None


def _said(measured: str, now: float, usual: float, series: Series, window: int, hour: int) -> str:
    of = "" if series == WHOLE else f" of {series.dimension} {named(series.value)}"
    span = f"the hour {iso(hour)}" if window == 1 else f"the {window} hours to {iso(hour + 1)}"
    return f"{measured}{of} in {span}: {_shown(measured, now)}, usually {_shown(measured, usual)}"


def _shown(measured: str, x: float) -> str:
    match measured:
        case "spend":
            return f"${x:,.2f}"
        case "latency":
            return f"{math.exp(min(x, 30.0)):,.0f} ms"
        case "quality":
            return f"{x:.3f}"
        case _:
            return f"{100 * x:.1f} %"


def _listed(silent: tuple[Silence, ...]) -> str:
    """Whose requests are missing, to follow "no requests"; of all traffic nobody need be named."""
    if any(each.series == WHOLE for each in silent):
        return " at all"
    return " of " + ", ".join(f"{each.series.dimension} {named(each.series.value)}" for each in silent[:5])


def named(value: str) -> str:
    """A name from logs inside a sentence of ours: one line, printable, of bounded length, in quotes."""
    printable = "".join(letter if letter.isprintable() else " " for letter in value)
    return f"'{printable[:MAX_NAME]}'"


def iso(hour: int) -> str:
    """An hour counted from 1970 as text."""
    return f"{datetime.fromtimestamp(hour * SECONDS_PER_HOUR, UTC):%Y-%m-%dT%H:%MZ}"
