"""The decisions behind the sensors: did spend jump, did the feed fall silent, and was that said already?

Belongs here: pure functions from hourly spend and a cursor to a decision. Does not belong here: reading the lake on a
clock and starting runs (`assets.automation`).
"""

from __future__ import annotations

import statistics
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Literal

import ibis
from pydantic import BaseModel, ConfigDict, Field, ValidationError

from routing_pipeline.estimates import Result, quantity
from routing_pipeline.parameters import AlertThresholds
from routing_pipeline.scope import with_time

HOUR_S = 3_600
WEEK_H = 168
DAY_H = 24
SETTLE_S = 600
"""Gateways deliver logs minutes late; an hour is judged when it has been over for this long, or when later requests arrived."""
SAME_INCIDENT_H = 3
"""Alarming hours at most this far apart belong to one incident."""
MIN_MISSED = 10.0
"""Requests that earlier weeks let expect, and that did not come: fewer may be chance (none of 10 expected is 1 in 20,000)."""
MIN_DAYS_OF_BASELINE = 3
MAX_HOURS_PER_TICK = 72


@dataclass(frozen=True)
class HourlySpend:
    """One hour of the log: `hour` counts from 1970-01-01 00:00 UTC."""

    hour: int
    cost_usd: float
    requests: int


class CostDecision(Result):
    """What a sensor should do now."""

    kind: Literal["spike", "silence", "quiet", "no baseline", "no data"]
    run_key: str | None = Field(description="Start one run under this key; null: start none")
    reason: str = Field(description="For the run's tags, or for the skipped tick")
    cursor: str = Field(description="Hand it back at the next tick")
    spend_usd: float | None = quantity("Spend that was judged", "USD", default=None)
    baseline_usd: float | None = quantity("Usual spend of the same hours", "USD", default=None)


class _Memory(BaseModel):
    """What the cursor carries: hours judged so far, and the incident that is open."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    seen: int | None = None
    last_alarm: int | None = None
    last_day_alarm: int | None = None
    silent_since: int | None = None


def hourly_spend(attempts: ibis.Table) -> tuple[HourlySpend, ...]:
    """Spend and attempts of every hour that has any, oldest first, from rows of schema.REQUEST_LOG."""
    timed = with_time(attempts)
    hours = timed.mutate(hour=(timed.started_s / HOUR_S).floor().cast("int64"))
    rows = hours.group_by("hour").agg(cost_usd=hours.cost_usd.sum().fill_null(0.0), requests=hours.count()).order_by("hour")
    return tuple(HourlySpend(**row) for row in rows.to_pyarrow().to_pylist())


def cost_spike(spend: Sequence[HourlySpend] | None, thresholds: AlertThresholds, cursor: str | None, now_s: float) -> CostDecision:
    """Judge every hour that was completed since the last tick, and the day that ends with the newest of them.

    An hour alarms when its spend is at least `cost_ratio` times the median of the same hour in up to `baseline_weeks`
    weeks before, and at least `cost_floor_usd` above it; with less than a week of history, the same hour of at least
    three earlier days stands in. Alarming hours close together are one incident, and one incident is one run_key.

    Args:
        spend: hours that have any traffic; None when they could not be read, which is never taken for "no spend".
        thresholds: ratio, floor and weeks.
        cursor: as returned by the tick before; None at the first, anything unreadable counts as none.
        now_s: the present, seconds since 1970.
    """
    memory = _remembered(cursor)
    if spend is None:
        return _decided("no data", None, "spend could not be read; that is not an hour without spend", memory)
    if not spend:
        return _decided("no data", None, "the lake holds no request yet", memory)
    by_hour = {each.hour: each.cost_usd for each in spend}
    first, newest = min(by_hour), max(by_hour)
    silence = _silence({each.hour: float(each.requests) for each in spend}, memory, thresholds, now_s)
    if silence is not None:
        return silence
    complete = newest if now_s >= (newest + 1) * HOUR_S + SETTLE_S else newest - 1
    since = complete if memory.seen is None else max(memory.seen + 1, complete - MAX_HOURS_PER_TICK)
    return _judged(by_hour, first, range(since, complete + 1), thresholds, memory.model_copy(update={"silent_since": None}))


def _judged(by_hour: Mapping[int, float], first: int, hours: range, thresholds: AlertThresholds, memory: _Memory) -> CostDecision:
    found: CostDecision | None = None
    baseline: float | None = None
    for hour in hours:
        now, baseline, of = by_hour.get(hour, 0.0), *_baseline(by_hour, first, hour, 1, thresholds)
        if baseline is not None and _alarms(now, baseline, thresholds):
            is_new = memory.last_alarm is None or hour - memory.last_alarm > SAME_INCIDENT_H
            memory = memory.model_copy(update={"last_alarm": hour})
            if is_new:
                found = _decided("spike", f"cost_spike:{_iso(hour)}", _said("hour", hour, now, baseline, of), memory, now, baseline)
        memory = memory.model_copy(update={"seen": hour})
    if found is None and hours:
        found, memory = _day(by_hour, first, hours[-1], thresholds, memory)
    if found is not None:
        return found.model_copy(update={"cursor": memory.model_dump_json()})
    if not hours:
        return _decided("quiet", None, "no hour was completed since the last look", memory)
    if baseline is None:
        return _decided("no baseline", None, "less than three days of history: nothing to compare spend with yet", memory)
    now = by_hour.get(hours[-1], 0.0)
    said = f"{_iso(hours[-1])}: ${now:,.2f} against a usual ${baseline:,.2f}"
    return _decided("quiet", None, said, memory, now, baseline)


def _day(
    by_hour: Mapping[int, float], first: int, hour: int, thresholds: AlertThresholds, memory: _Memory
) -> tuple[CostDecision | None, _Memory]:
    """The 24 hours that end with `hour`: a rise too slow for any single hour. Quiet for a day after any other alarm."""
    alarms = [each for each in (memory.last_alarm, memory.last_day_alarm) if each is not None]
    now = sum(by_hour.get(each, 0.0) for each in range(hour - DAY_H + 1, hour + 1))
    baseline, of = _baseline(by_hour, first, hour, DAY_H, thresholds)
    if baseline is None or not _alarms(now, baseline, thresholds):
        return None, memory
    told_lately = any(hour - each < DAY_H for each in alarms)
    memory = memory.model_copy(update={"last_day_alarm": hour})
    if told_lately:
        return None, memory
    return _decided("spike", f"cost_spike_day:{_iso(hour)}", _said("24 hours to", hour, now, baseline, of), memory, now, baseline), memory


def _baseline(by_hour: Mapping[int, float], first: int, hour: int, length: int, thresholds: AlertThresholds) -> tuple[float | None, str]:
    """Median spend of the same hours in earlier weeks, else in earlier days; None when history does not reach back.

    The hour before the first one seen counts as not covered: a gap inside the history is an hour without spend.
    """

    def spent(back: int) -> float | None:
        begin = hour - back - length + 1
        return sum(by_hour.get(each, 0.0) for each in range(begin, hour - back + 1)) if begin > first else None

    weeks = [value for week in range(1, thresholds.baseline_weeks + 1) if (value := spent(week * WEEK_H)) is not None]
    if weeks:
        return statistics.median(weeks), f"the same hours of {len(weeks)} week(s) before"
    days = [value for day in range(1, 7) if (value := spent(day * DAY_H)) is not None]
    if len(days) >= MIN_DAYS_OF_BASELINE:
        return statistics.median(days), f"the same hours of {len(days)} days before (less than a week of history)"
    return None, ""


def _alarms(now: float, baseline: float, thresholds: AlertThresholds) -> bool:
    return now >= thresholds.cost_ratio * baseline and now - baseline >= thresholds.cost_floor_usd and now > baseline


def _silence(requests: Mapping[int, float], memory: _Memory, thresholds: AlertThresholds, now_s: float) -> CostDecision | None:
    newest = max(requests)
    overdue = int((now_s - thresholds.silent_hours * HOUR_S) // HOUR_S)
    missed = _expected(requests, range(newest + 1, overdue), thresholds)
    if overdue <= newest + 1 or missed < MIN_MISSED:
        return None
    if memory.silent_since == newest:
        return _decided("quiet", None, f"still nothing new since {_iso(newest)}", memory)
    told = memory.model_copy(update={"silent_since": newest})
    reason = (
        f"no request newer than {_iso(newest)} for {now_s / HOUR_S - newest - 1:,.0f} hours, about {missed:,.0f} expected: "
        "the gateway is silent, or its logs do not arrive"
    )
    return _decided("silence", f"silent_feed:{_iso(newest)}", reason, told)


def _expected(requests: Mapping[int, float], hours: range, thresholds: AlertThresholds) -> float:
    """Requests that the same hours of earlier weeks let expect; with less than a week of history, the mean hour does."""
    first, newest = min(requests), max(requests)
    mean = sum(requests.values()) / (newest - first + 1)
    expected = 0.0
    for hour in hours[: thresholds.baseline_weeks * WEEK_H]:
        weeks = [hour - week * WEEK_H for week in range(1, thresholds.baseline_weeks + 1) if first <= hour - week * WEEK_H <= newest]
        expected += sum(requests.get(each, 0.0) for each in weeks) / len(weeks) if weeks else mean
    return expected


def _decided(
    kind: Literal["spike", "silence", "quiet", "no baseline", "no data"],
    run_key: str | None,
    reason: str,
    memory: _Memory,
    spend_usd: float | None = None,
    baseline_usd: float | None = None,
) -> CostDecision:
    return CostDecision(
        kind=kind, run_key=run_key, reason=reason, cursor=memory.model_dump_json(), spend_usd=spend_usd, baseline_usd=baseline_usd
    )


def _said(what: str, hour: int, now: float, baseline: float, of: str) -> str:
    return f"${now:,.2f} in the {what} {_iso(hour)}, usually ${baseline:,.2f} ({of})"


def _iso(hour: int) -> str:
    return f"{datetime.fromtimestamp(hour * HOUR_S, UTC):%Y-%m-%dT%H:%MZ}"


def _remembered(cursor: str | None) -> _Memory:
    try:
        return _Memory.model_validate_json(cursor or "{}")
    except ValidationError:
        return _Memory()
