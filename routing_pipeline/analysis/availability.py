"""How reliably each model answered, and when it did not.

Belongs here: failure rates per model, and incidents: stretches in which a model failed far above its own base rate. Does
not belong here: failures that belong to a task (`incompatibilities`), overall success (`routing_analytics`).
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any, Literal

import ibis
import numpy as np
from pydantic import Field

from routing_pipeline.analysis.daily_spend import NO_COST
from routing_pipeline.analysis.model_minutes import BUCKET_S, Ints, ModelMinutes, Stretch, within
from routing_pipeline.estimates import Known, Measured, Result, Unidentifiable, quantity
from routing_pipeline.stats.inference import Floats, proportion_interval
from routing_pipeline.text import LogName

MAX_INCIDENTS = 50
MAX_EXAMPLES = 5
FALSE_ALARMS = 0.05
"""Chance that a healthy window shows any incident at all, over all models and all stretches of time."""
TIMES_BASE, ABOVE_BASE = 4.0, 0.10
"""An incident is looked for at four times the base rate, at least ten points above it."""
BACK_TO_NORMAL = math.log(20)
"""An incident is over when what follows says 20 to 1 that the model is back at its base rate."""
SILENCE_S = 3_600
"""An hour without an attempt ends an incident: nothing is known of it."""
BASE_ROUNDS = 5
PRIOR_ATTEMPTS = 20.0
"""The gateway's overall failure rate counts as this many attempts in a model's base rate."""
WORST_OF = 10

Row = dict[str, Any]


class Availability(Result):
    """How reliably one model answered, over all attempts; calls that the client cancelled count as answered."""

    model: LogName
    attempts: int = quantity("Attempts", "attempts")
    error_rate: Measured = quantity("Share that failed", "0..1")
    rate_limit_rate: Measured = quantity("Share refused for a rate limit (429)", "0..1")
    base_error_rate: Known = quantity("Share that failed outside incidents", "0..1")
    worst_error_rate: Known = quantity("Largest share that failed in five minutes with at least 10 attempts", "0..1")
    incident_minutes: float = quantity("Time in incidents", "minutes")


class Incident(Result):
    """A stretch of time in which a model failed far above its own base rate."""

    model: LogName
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
    usual_cost_usd: Known = quantity("What as many requests, lost ones left out, cost when this model answers at the first attempt", "USD")
    examples: tuple[LogName, ...] = Field(default=(), description="Some of the requests hit: request_id, earliest first")


@dataclass(frozen=True)
class _Segment:
    """Buckets first to last of one model, and the log-likelihood ratio of an incident against the base rate over them."""

    first: int
    last: int
    score: float


def availability(requests: ibis.Table, minutes: Sequence[ModelMinutes]) -> tuple[list[Availability], list[Incident], int]:
    """Rates of every model, most failures first; incidents, most requests hit first; incidents left out.

    Incidents maximise a likelihood ratio over stretches of time. By Ville's inequality the ratio of a stretch that begins
    in a given bucket exceeds c with probability at most 1/c while the model is healthy; with N buckets over all models,
    ratios above N / 0.05 keep the chance of any false alarm in the window at 5 % (false discovery is then controlled too).
    """
    attempts = sum(float(each.attempts.sum()) for each in minutes)
    overall = sum(float(each.failures.sum()) for each in minutes) / attempts if attempts else 0.0
    buckets = sum(len(each.bucket) for each in minutes)
    bar = math.log(max(buckets, 1) / FALSE_ALARMS)
    found = [(each, *_incidents_of(each, overall, bar)) for each in minutes]
    lines = [_line(each, segments) for each, _, segments in found]
    pairs = [(each, base, segment) for each, base, segments in found for segment in segments]
    pairs = sorted(pairs, key=lambda pair: (-pair[2].score, pair[0].model, pair[2].first))
    incidents = _described(requests, pairs[:MAX_INCIDENTS], buckets)
    lines.sort(key=lambda line: (-_failures(line), line.model))
    return lines, incidents, max(len(pairs) - MAX_INCIDENTS, 0)


def _failures(line: Availability) -> float:
    return line.attempts * line.error_rate.estimate if not isinstance(line.error_rate, Unidentifiable) else 0.0


def _incidents_of(minutes: ModelMinutes, overall: float, bar: float) -> tuple[float, list[_Segment]]:
    """The base rate and the incidents against it, found in turns: each round leaves the incidents of the last one out."""
    healthy = np.ones(len(minutes.bucket), dtype=bool)
    base, segments = 0.0, list[_Segment]()
    for _ in range(BASE_ROUNDS):
        failures, attempts = float(minutes.failures[healthy].sum()), float(minutes.attempts[healthy].sum())
        base = (failures + PRIOR_ATTEMPTS * overall) / (attempts + PRIOR_ATTEMPTS)
        segments = _segments(minutes.bucket, minutes.attempts, minutes.failures, base, bar)
        before, healthy = healthy, np.ones(len(minutes.bucket), dtype=bool)
        for segment in segments:
            healthy[segment.first : segment.last + 1] = False
        if (before == healthy).all():
            break
    return base, segments


def _segments(bucket: Ints, attempts: Floats, failures: Floats, base: float, bar: float) -> list[_Segment]:
    """Stretches whose log-likelihood ratio reaches the bar: cumulative sums, cut where the sum falls to 0 or far below its top."""
    base = max(base, 1e-4)
    if base + ABOVE_BASE >= 1:
        return []
    incident = min(max(TIMES_BASE * base, base + ABOVE_BASE), 0.99)
    score = failures * math.log(incident / base) + (attempts - failures) * math.log((1 - incident) / (1 - base))
    silent = np.diff(bucket, prepend=bucket[:1]) * BUCKET_S > SILENCE_S
    segments: list[_Segment] = []
    total, top, first, last = 0.0, 0.0, 0, -1

    def close() -> None:
        if top >= bar:
            segments.append(_Segment(first, last, top))

    for place, (value, is_silent) in enumerate(zip(score.tolist(), silent.tolist(), strict=True)):
        if is_silent or total <= 0 or top - total >= BACK_TO_NORMAL:
            close()
            total, top, first = 0.0, 0.0, place
        total += value
        if total > top:
            top, last = total, place
    close()
    return segments


def _line(minutes: ModelMinutes, segments: Sequence[_Segment]) -> Availability:
    attempts, failures, limited = (int(column.sum()) for column in (minutes.attempts, minutes.failures, minutes.rate_limited))
    many = minutes.attempts >= WORST_OF
    too_few = Unidentifiable(unidentifiable=f"no five minutes with {WORST_OF} attempts")
    healthy = np.ones(len(minutes.bucket), dtype=bool)
    for segment in segments:
        healthy[segment.first : segment.last + 1] = False
    outside = float(minutes.attempts[healthy].sum())
    return Availability(
        model=minutes.model,
        attempts=attempts,
        error_rate=proportion_interval(failures, attempts),
        rate_limit_rate=proportion_interval(limited, attempts),
        base_error_rate=float(minutes.failures[healthy].sum()) / outside
        if outside
        else Unidentifiable(unidentifiable="the whole window is an incident; take a longer timeframe"),
        worst_error_rate=float((minutes.failures[many] / minutes.attempts[many]).max()) if many.any() else too_few,
        incident_minutes=sum((_end(minutes, each) - _start(minutes, each)) / 60 for each in segments),
    )


def _start(minutes: ModelMinutes, segment: _Segment) -> float:
    return float(minutes.bucket[segment.first]) * BUCKET_S


def _end(minutes: ModelMinutes, segment: _Segment) -> float:
    return float(minutes.bucket[segment.last] + 1) * BUCKET_S


def _described(requests: ibis.Table, pairs: Sequence[tuple[ModelMinutes, float, _Segment]], buckets: int) -> list[Incident]:
    if not pairs:
        return []
    stretches = [Stretch(minutes.model, _start(minutes, segment), _end(minutes, segment)) for minutes, _, segment in pairs]
    hit, examples, usual = _hit(requests, stretches), _examples(requests, stretches), _usual_costs(requests)
    incidents = []
    for place, (minutes, base, segment) in enumerate(pairs):
        own = slice(segment.first, segment.last + 1)
        attempts, failures, limited = (int(column[own].sum()) for column in (minutes.attempts, minutes.failures, minutes.rate_limited))
        row = hit.get(place, {"hit": 0, "answered": 0, "cost": None, "priced": 0})
        kind: Literal["rate limit", "errors"] = "rate limit" if limited > failures / 2 else "errors"
        mean = usual.get(minutes.model)
        incidents.append(
            Incident(
                model=minutes.model,
                kind=kind,
                start=datetime.fromtimestamp(stretches[place].start_s, UTC),
                end=datetime.fromtimestamp(stretches[place].end_s, UTC),
                attempts=attempts,
                failures=failures,
                error_rate=proportion_interval(failures, attempts),
                rate_limited=limited,
                base_rate=base,
                false_alarm_bound=min(buckets * math.exp(-segment.score), 1.0),
                requests_hit=row["hit"],
                requests_lost=row["hit"] - row["answered"],
                cost_usd=row["cost"] if row["priced"] else NO_COST,
                usual_cost_usd=NO_COST if mean is None else mean * row["answered"],
                examples=examples.get(place, ()),
            )
        )
    return sorted(incidents, key=lambda each: (-each.requests_hit, each.start, each.model))


def _failed_in(requests: ibis.Table, stretches: Sequence[Stretch]) -> ibis.Table:
    return within(requests.filter(requests.status == "failure"), stretches)


def _hit(requests: ibis.Table, stretches: Sequence[Stretch]) -> dict[int, Row]:
    """By incident: requests with a failed attempt in it, how many of them were answered in the end, what they cost.

    Several requests may share an id, as those of a trace do: one ends with each final attempt, in the order in which they began.
    """
    failed = _failed_in(requests, stretches).select("stretch", "attempt_id", "request_id")
    ids = failed.select("request_id").distinct()
    t = requests.semi_join(ids, "request_id")
    order = ibis.window(group_by="request_id", order_by=[t.started_s, t.attempt_id], preceding=None, following=0)
    ended = t.is_final.cast("int64")
    t = t.mutate(number=ended.sum().over(order) - ended)
    hit = failed.inner_join(t.select("attempt_id", "number"), "attempt_id").select("stretch", "request_id", "number").distinct()
    final = t.filter(t.is_final).select("status", "request_cost_usd", final_id=t.request_id, final_number=t.number)
    joined = hit.left_join(final, [hit.request_id == final.final_id, hit.number == final.final_number])
    rows = (
        joined.group_by("stretch")
        .agg(
            hit=joined.count(),
            answered=(joined.status == "success").fill_null(False).sum(),
            cost=joined.request_cost_usd.sum(),
            priced=joined.request_cost_usd.count(),
        )
        .to_pyarrow()
        .to_pylist()
    )
    return {row["stretch"]: row | {"answered": int(row["answered"])} for row in rows}


def _examples(requests: ibis.Table, stretches: Sequence[Stretch]) -> dict[int, tuple[str, ...]]:
    failed = _failed_in(requests, stretches)
    first = failed.group_by("stretch", "request_id").agg(at_s=failed.started_s.min())
    order = ibis.window(group_by="stretch", order_by=[first.at_s, first.request_id])
    few = first.mutate(place=ibis.row_number().over(order)).filter(lambda t: t.place < MAX_EXAMPLES)
    found: dict[int, list[tuple[int, str]]] = {}
    for row in few.select("stretch", "place", "request_id").to_pyarrow().to_pylist():
        found.setdefault(row["stretch"], []).append((row["place"], row["request_id"]))
    return {stretch: tuple(name for _, name in sorted(names)) for stretch, names in found.items()}


def _usual_costs(requests: ibis.Table) -> dict[str, float]:
    """Mean cost per request by model, where it answered at the first attempt."""
    plain = requests.filter(requests.is_final, requests.status == "success", requests.attempts == 1, requests.request_cost_usd.notnull())
    rows = plain.group_by("model").agg(cost=plain.request_cost_usd.mean()).to_pyarrow().to_pylist()
    return {row["model"]: row["cost"] for row in rows}
