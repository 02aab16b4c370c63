"""`identify_bottlenecks`: when and where routing was slow, models failed, requests queued, or latency jumped.

Belongs here: slow routing decisions, availability and its incidents, queues, latency spikes. Does not belong here: overall
latencies and rates (`routing_analytics`), cost spikes (`cost_drivers`), quality lapses (`quality_issues`).
"""

from __future__ import annotations

from datetime import datetime
from typing import Literal

from pydantic import Field

from routing_pipeline.estimates import Known, Measured, Result, Unidentifiable, quantity


class SlowRouting(Result):
    """Routing decisions of one rule, or of one hour of the day."""

    rule: str | None = Field(default=None, description="Routing rule as logged; null: not logged, or the line is of an hour")
    hour: int | None = quantity("Hour of the day, UTC; null when the line is of a rule", "hour", default=None)
    decisions: int = quantity("Requests with a clean routing latency", "requests")
    p50_ms: float = quantity("Median", "ms")
    p95_ms: Known = quantity("95th percentile", "ms")
    slow_share: Measured = quantity("Share slower than the window's 95th percentile; 0.05 is as slow as the rest", "0..1")
    adjusted_p: float = quantity("Of a share above 0.05, Benjamini-Hochberg adjusted over all rules, or all hours", "0..1")
    stands_out: bool = Field(description="Slower than the rest at a false discovery rate of 5 %")


class RoutingDelays(Result):
    """Where routing decisions are slow."""

    decisions: int = quantity("Requests with a routing latency that no retry or fallback pollutes", "requests")
    slow_above_ms: Known = quantity("95th percentile over all of them: what counts as slow", "ms")
    rules: tuple[SlowRouting, ...] = Field(description="Largest share of slow decisions first")
    rules_not_listed: int = quantity("Rules with too few decisions to be listed", "rules")
    hours: tuple[SlowRouting, ...] = Field(description="In order of the hour")


class Availability(Result):
    """How reliably one model answered, over all attempts; calls that the client cancelled count as answered."""

    model: str
    attempts: int = quantity("Attempts", "attempts")
    error_rate: Measured = quantity("Share that failed", "0..1")
    rate_limit_rate: Measured = quantity("Share refused for a rate limit (429)", "0..1")
    base_error_rate: Known = quantity("Share that failed outside incidents", "0..1")
    worst_error_rate: Known = quantity("Largest share that failed in five minutes with at least 10 attempts", "0..1")
    incident_minutes: float = quantity("Time in incidents", "minutes")


class Incident(Result):
    """A stretch of time in which a model failed far above its own base rate."""

    model: str
    kind: Literal["rate limit", "errors"] = Field(description="`rate limit` when most of the failures are")
    start: datetime = Field(description="UTC, to five minutes")
    end: datetime = Field(description="UTC, exclusive, to five minutes")
    attempts: int = quantity("Attempts at the model in it", "attempts")
    failures: int = quantity("Of them, failed", "attempts")
    error_rate: Measured = quantity("failures / attempts", "0..1")
    rate_limited: int = quantity("Of the failures, rate limits", "attempts")
    base_rate: float = quantity("The model's failure rate outside incidents", "0..1")
    false_alarm_bound: float = quantity("Upper bound of the chance to see as strong an incident in any model of a healthy window", "0..1")
    requests_hit: int = quantity("Client requests with a failed attempt in it", "requests")
    requests_lost: int = quantity("Of them, those whose client saw no success", "requests")
    cost_usd: Known = quantity("Spend on the requests hit, fallbacks included", "USD")
    usual_cost_usd: Known = quantity("What as many requests routed to this model cost outside incidents", "USD")
    examples: tuple[str, ...] = Field(default=(), description="Some of the requests hit: request_id, earliest first")


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


class LatencySpike(Result):
    """Consecutive stretches in which one model was slower than it usually is at that time."""

    model: str
    start: datetime = Field(description="UTC")
    end: datetime = Field(description="UTC, exclusive")
    requests: int = quantity("Successful calls in it, cache hits left out", "requests")
    typical_ms: float = quantity("Their geometric mean latency", "ms")
    usual_ms: float = quantity("Median over the comparable stretches of the window", "ms")
    factor: float = quantity("typical_ms / usual_ms", "1")
    robust_z: float = quantity("Of the most extreme stretch, on the logarithm of latency", "1")
    adjusted_p: float = quantity("Of that stretch, Benjamini-Hochberg adjusted over all models and stretches", "0..1")
    task_type: str | None = Field(description="Largest task type in it; null when it could not be looked up")
    task_share: float = quantity("Its share of the calls", "0..1")
    examples: tuple[str, ...] = Field(default=(), description="The slowest of the requests behind it: request_id")


class LatencySpikes(Result):
    """What was looked for and what was found."""

    stretch_minutes: int = quantity("Length of a stretch", "minutes")
    baseline: str = Field(description="What a stretch is compared with")
    tested: int = quantity("Pairs of model and stretch with enough calls", "stretches")
    spikes: tuple[LatencySpike, ...] = Field(description="Most extreme first")
    spikes_not_listed: int = quantity("Further spikes", "spikes")


class Bottlenecks(Result):
    """The answer to `identify_bottlenecks`."""

    routing: RoutingDelays
    availability: tuple[Availability, ...] = Field(description="Most failures first")
    availability_not_listed: int = quantity("Models too small to be listed", "models")
    incidents: tuple[Incident, ...] = Field(description="Most requests hit first")
    incidents_not_listed: int = quantity("Further incidents", "incidents")
    queue: Queue
    latency_spikes: LatencySpikes | Unidentifiable
    notices: tuple[str, ...] = Field(default=(), description="What is missing and what to collect")
