"""`identify_bottlenecks`: when and where routing was slow, models failed, requests queued, or latency jumped.

Belongs here: slow routing decisions, queues, and putting them together with incidents (`availability`) and latency spikes
(`latency_spikes`). Does not belong here: overall latencies and rates (`routing_analytics`), cost spikes (`cost_drivers`),
quality lapses (`quality_issues`).
"""

from __future__ import annotations

from collections.abc import Sequence
from datetime import UTC, datetime
from typing import Any, ClassVar, Literal

import ibis
import numpy as np
from numpy.typing import NDArray
from pydantic import Field

from routing_pipeline.analysis.availability import Availability, Incident, availability
from routing_pipeline.analysis.latency_spikes import LatencySpikes, latency_spikes
from routing_pipeline.analysis.model_minutes import model_minutes
from routing_pipeline.clock import SECONDS_PER_HOUR, hour_of
from routing_pipeline.estimates import Known, Measured, Result, Unidentifiable, quantity
from routing_pipeline.stats.counted_tests import binomial_tail
from routing_pipeline.stats.inference import FALSE_DISCOVERY_RATE, Floats, false_discovery_adjusted, proportion_interval
from routing_pipeline.text import LogName
from routing_pipeline.window.scope import AnalysisScope

MAX_LISTED = 50
MIN_DECISIONS = 20
SLOWEST_SHARE = 0.05
TIMES_THE_REST = 1.5
"""Half again as many slow decisions as elsewhere: less is no bottleneck, however certain."""
DEPTHS: tuple[int, ...] = (0, 1, 2, 5, 10, 20, 50, 100)
MINUTE_S = 60


class SlowRouting(Result):
    """Routing decisions of one rule, or of one hour of the day."""

    rule: LogName | None = Field(default=None, description="Routing rule as logged; null: not logged, or the line is of an hour")
    hour: int | None = quantity("Hour of the day, UTC; null when the line is of a rule", "hour", default=None)
    decisions: int = quantity("Requests with a clean routing latency", "requests")
    p50_ms: float = quantity("Median", "ms")
    p95_ms: float = quantity("95th percentile", "ms")
    slow_share: Measured = quantity("Share slower than the window's 95th percentile; 0.05 is as slow as the rest", "0..1")
    adjusted_p: float = quantity("Of a share above 0.05, Benjamini-Hochberg adjusted over all rules, or all hours", "0..1")
    stands_out: bool = Field(description="Share of at least 0.075, at a false discovery rate of 5 %")


class RoutingDelays(Result):
    """Where routing decisions are slow."""

    decisions: int = quantity("Requests with a routing latency that no retry or fallback pollutes", "requests")
    slow_above_ms: Known = quantity("95th percentile over all of them: what counts as slow", "ms")
    rules: tuple[SlowRouting, ...] = Field(description="Largest share of slow decisions first")
    rules_not_listed: int = quantity("Rules with too few decisions to be listed", "rules")
    hours: tuple[SlowRouting, ...] = Field(description="In order of the hour")


class QueueBand(Result):
    """Requests that found the queue this long."""

    gte: int = quantity("Requests waiting", "requests")
    lt: int | None = quantity("Exclusive; null is open", "requests", default=None)
    requests: int = quantity("Final requests", "requests")
    latency_p50_ms: Known = quantity("Their median latency", "ms")


class BusyHour(Result):
    """One hour of the day."""

    hour: int = quantity("0 is 00:00 to 00:59 UTC", "hour")
    mean: float = quantity("Mean queue depth, or mean requests in flight", "requests")


class Queue(Result):
    """How many requests were waiting, or being worked on, at a time."""

    source: Literal["logged", "estimated", "absent"] = Field(
        description="logged: queue depth; estimated: requests in flight from overlapping attempts; absent: neither can be said"
    )
    mean: Known = quantity("Over requests when logged, over time when estimated", "requests")
    p95: Known = quantity("95th percentile, over requests or minutes", "requests")
    peak: Known = quantity("Largest: deepest queue, or busiest minute's mean in flight", "requests")
    peak_at: datetime | None = Field(default=None, description="UTC, to the minute")
    peak_to_mean: Known = quantity("peak / mean", "1")
    hours: tuple[BusyHour, ...] = Field(description="By hour of the day, fullest first")
    bands: tuple[QueueBand, ...] = Field(default=(), description="Latency by queue depth, where it is logged")


class Bottlenecks(Result):
    """The answer to `identify_bottlenecks`."""

    main_table: ClassVar = "availability"

    routing: RoutingDelays
    availability: tuple[Availability, ...] = Field(description="Most failures first")
    availability_not_listed: int = quantity("Models too small to be listed", "models")
    incidents: tuple[Incident, ...] = Field(description="Most requests hit first")
    incidents_not_listed: int = quantity("Further incidents, of weaker evidence", "incidents")
    queue: Queue
    latency_spikes: LatencySpikes | Unidentifiable
    notices: tuple[str, ...] = Field(default=(), description="What is missing and what to collect")


def bottlenecks(requests: ibis.Table, scope: AnalysisScope) -> Bottlenecks:
    """Slow routing, availability and its incidents, queues, latency spikes.

    Args:
        requests: conformed rows of the window (schema.SCOPED_REQUESTS), one per attempt.
        scope: the window; its length decides what a stretch of time is compared with.
    """
    minutes = model_minutes(requests)
    models, incidents, incidents_left = availability(requests, minutes)
    routing, queue = _routing(requests), _queue(requests, scope)
    return Bottlenecks(
        routing=routing,
        availability=tuple(models[:MAX_LISTED]),
        availability_not_listed=max(len(models) - MAX_LISTED, 0),
        incidents=tuple(incidents),
        incidents_not_listed=incidents_left,
        queue=queue,
        latency_spikes=latency_spikes(requests, minutes, scope),
        notices=_notices(routing, queue),
    )


def _notices(routing: RoutingDelays, queue: Queue) -> tuple[str, ...]:
    notices = []
    if routing.decisions == 0:
        notices.append("Routing latency is not logged; log the gateway's own overhead per request.")
    elif not routing.rules:
        notices.append("No routing rule has enough timed decisions, or none is logged; log the rule that decided.")
    if queue.source == "estimated":
        notices.append("Queue depth is not logged; requests in flight, estimated from overlapping attempts, stand in for it. Log it.")
    elif queue.source == "absent":
        notices.append("Neither queue depth nor latency is logged: nothing can be said of queues; log either.")
    return tuple(notices)


# --- Slow routing decisions


def _routing(requests: ibis.Table) -> RoutingDelays:
    t = requests
    clean = (t.attempts == 1) & (t.retries.fill_null(0) == 0) & t.fallback_from.isnull() & t.routing_latency_ms.notnull()
    timed = t.filter(t.is_final, clean).select("routing_latency_ms", "routing_rule_id", "started_s")
    overall = timed.agg(n=timed.count(), slow_above=timed.routing_latency_ms.quantile(1 - SLOWEST_SHARE)).to_pyarrow().to_pylist()[0]
    if overall["n"] < MIN_DECISIONS:
        why = f"{overall['n']} requests with a clean routing latency; at least {MIN_DECISIONS} are needed: log the gateway's own overhead"
        return RoutingDelays(
            decisions=overall["n"], slow_above_ms=Unidentifiable(unidentifiable=why), rules=(), rules_not_listed=0, hours=()
        )
    bound = float(overall["slow_above"])
    by_rule = _delays(timed.filter(timed.routing_rule_id.notnull()), "routing_rule_id", bound)
    rules = [SlowRouting(rule=row["key"], **fields) for row, fields in _judged(by_rule)]
    hour = (hour_of(timed.started_s) % 24).name("hour")
    hours = [SlowRouting(hour=int(row["key"]), **fields) for row, fields in _judged(_delays(timed.mutate(hour), "hour", bound))]
    rules.sort(key=lambda each: (-_share(each), each.rule or ""))
    return RoutingDelays(
        decisions=overall["n"],
        slow_above_ms=bound,
        rules=tuple(rules[:MAX_LISTED]),
        rules_not_listed=max(len(rules) - MAX_LISTED, 0),
        hours=tuple(sorted(hours, key=lambda each: each.hour or 0)),
    )


def _delays(timed: ibis.Table, key: str, bound: float) -> list[dict[str, Any]]:
    """Decisions by rule or hour, those with enough of them."""
    ms = timed.routing_latency_ms
    grouped = timed.group_by(key=timed[key]).agg(n=timed.count(), slow=(ms > bound).sum(), quantiles=ms.quantile([0.5, 0.95]))
    rows: list[dict[str, Any]] = grouped.filter(grouped.n >= MIN_DECISIONS).to_pyarrow().to_pylist()
    return rows


def _judged(rows: Sequence[dict[str, Any]]) -> list[tuple[dict[str, Any], dict[str, Any]]]:
    """Fields of each line; whether a share of slow decisions above that of the window could be chance."""
    adjusted = false_discovery_adjusted([binomial_tail(row["slow"], row["n"], SLOWEST_SHARE) for row in rows])
    return [
        (
            row,
            {
                "decisions": row["n"],
                "p50_ms": row["quantiles"][0],
                "p95_ms": row["quantiles"][1],
                "slow_share": proportion_interval(row["slow"], row["n"]),
                "adjusted_p": p,
                "stands_out": p <= FALSE_DISCOVERY_RATE and row["slow"] >= TIMES_THE_REST * SLOWEST_SHARE * row["n"],
            },
        )
        for row, p in zip(rows, adjusted, strict=True)
    ]


def _share(line: SlowRouting) -> float:
    return 0.0 if isinstance(line.slow_share, Unidentifiable) else line.slow_share.estimate


# --- Queues


def _queue(requests: ibis.Table, scope: AnalysisScope) -> Queue:
    logged = requests.filter(requests.is_final, requests.queue_depth.notnull())
    if int(logged.count().execute()) > 0:
        return _logged_queue(logged)
    minute, in_flight = _in_flight(requests, scope)
    if not len(minute):
        none = Unidentifiable(unidentifiable="neither queue depth nor latency is logged; log either")
        return Queue(source="absent", mean=none, p95=none, peak=none, peak_to_mean=none, hours=())
    mean, place = float(in_flight.mean()), int(in_flight.argmax())
    return Queue(
        source="estimated",
        mean=mean,
        p95=float(np.quantile(in_flight, 0.95)),
        peak=float(in_flight[place]),
        peak_at=datetime.fromtimestamp(int(minute[place]) * MINUTE_S, UTC),
        peak_to_mean=_ratio(float(in_flight[place]), mean),
        hours=_busy_hours(minute, in_flight, np.ones_like(in_flight)),
    )


def _ratio(peak: float, mean: float) -> Known:
    return peak / mean if mean > 0 else Unidentifiable(unidentifiable="the mean is 0")


def _busy_hours(minute: NDArray[np.int64], total: Floats, weight: Floats) -> tuple[BusyHour, ...]:
    hour = minute * MINUTE_S // SECONDS_PER_HOUR % 24
    sums, weights = np.bincount(hour, weights=total, minlength=24), np.bincount(hour, weights=weight, minlength=24)
    busy = [BusyHour(hour=each, mean=float(sums[each] / weights[each])) for each in range(24) if weights[each] > 0]
    return tuple(sorted(busy, key=lambda each: (-each.mean, each.hour)))


def _logged_queue(logged: ibis.Table) -> Queue:
    depth = logged.queue_depth.cast("float64")
    minute = (logged.started_s / MINUTE_S).floor().cast("int64")
    minutes = logged.group_by(minute=minute).agg(n=logged.count(), depth=depth.sum(), deepest=depth.max()).order_by("minute").to_pyarrow()
    place, n, total, deepest = (minutes[name].to_numpy().astype(np.float64) for name in ("minute", "n", "depth", "deepest"))
    mean, peak = float(total.sum() / n.sum()), int(deepest.argmax())
    return Queue(
        source="logged",
        mean=mean,
        p95=float(logged.agg(p95=depth.quantile(0.95)).to_pyarrow().to_pylist()[0]["p95"]),
        peak=float(deepest[peak]),
        peak_at=datetime.fromtimestamp(int(place[peak]) * MINUTE_S, UTC),
        peak_to_mean=_ratio(float(deepest[peak]), mean),
        hours=_busy_hours(place.astype(np.int64), total, n),
        bands=_queue_bands(logged),
    )


def _queue_bands(logged: ibis.Table) -> tuple[QueueBand, ...]:
    band = ibis.literal(0, "int64")
    for edge in DEPTHS[1:]:
        band = band + (logged.queue_depth >= edge).cast("int64")
    rows = logged.group_by(band=band).agg(n=logged.count(), p50=logged.request_latency_ms.quantile(0.5)).to_pyarrow().to_pylist()
    missing = Unidentifiable(unidentifiable="latency is not logged; log when each attempt ends")
    return tuple(
        QueueBand(
            gte=DEPTHS[row["band"]],
            lt=DEPTHS[row["band"] + 1] if row["band"] + 1 < len(DEPTHS) else None,
            requests=row["n"],
            latency_p50_ms=missing if row["p50"] is None else row["p50"],
        )
        for row in sorted(rows, key=lambda row: row["band"])
    )


def _in_flight(requests: ibis.Table, scope: AnalysisScope) -> tuple[NDArray[np.int64], Floats]:
    """Mean number of attempts in flight in each minute, exact up to attempts that began before the window.

    Every attempt adds one from its start and takes it away at its end. Summed per minute, with where in the minute they
    fall, these events give the integral: attempts open at the minute's start, plus for each event the part of the minute
    that is left after it.
    """
    t = requests.filter(requests.latency_ms.notnull())
    end_s = t.started_s + t.latency_ms / 1e3
    starts = _events(t, t.started_s)
    if not starts:
        return np.empty(0, dtype=np.int64), np.empty(0)
    ended = t.mutate(end_s=end_s).filter(lambda each: each.end_s < scope.end_s)
    ends = _events(ended, ended.end_s)
    first, last = min(starts), max(starts)
    minute = np.arange(first, last + 1, dtype=np.int64)
    none = (0, 0.0)
    begun, finished = (np.array([events.get(int(each), none) for each in minute]) for events in (starts, ends))
    change = begun[:, 0] - finished[:, 0]
    open_before = change.cumsum() - change
    within = (begun[:, 1] - finished[:, 1]) / MINUTE_S
    return minute, np.maximum(open_before + within, 0.0)


def _events(t: ibis.Table, at_s: ibis.expr.types.NumericValue) -> dict[int, tuple[int, float]]:
    """By minute: events, and the seconds of the minute that are left after them, summed."""
    minute = (at_s / MINUTE_S).floor()
    left = (minute + 1) * MINUTE_S - at_s
    rows = t.group_by(minute=minute.cast("int64")).agg(n=t.count(), left=left.sum()).to_pyarrow().to_pylist()
    return {row["minute"]: (row["n"], row["left"]) for row in rows}
