"""The series that are watched and what an alert is due to, worked out from rows: what sums kept for each data file have to agree with."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any

import ibis
import pyarrow as pa

from routing_pipeline.alerts.attribution import Attribution, attributed, with_week
from routing_pipeline.alerts.series import DIMENSIONS, WHOLE, HourlySums, watched_sums
from routing_pipeline.clock import SECONDS_PER_HOUR
from routing_pipeline.window.conform import newest_scores
from routing_pipeline.window.hourly import KINDS
from routing_pipeline.window.kinds_of_call import chat_of
from routing_pipeline.window.scope import UNKNOWN_TASK


def costs(attempts: ibis.Table) -> ibis.Table:
    """Observations: what every attempt cost, of every kind of call, USD; an unpriced one is an observation of 0."""
    return attempts.mutate(value=attempts.cost_usd.fill_null(0.0))


def log_latencies(attempts: ibis.Table) -> ibis.Table:
    """Observations: natural logarithm of the milliseconds of every success of chat; means of them are not ruled by the slowest few."""
    attempts = chat_of(attempts)
    timed = attempts.filter(attempts.status == "success", attempts.latency_ms > 0)
    return timed.mutate(value=timed.latency_ms.ln())


def failures(attempts: ibis.Table) -> ibis.Table:
    """Observations: 1 for a failed attempt of chat, 0 for a successful one; who cancelled says nothing about quality."""
    attempts = chat_of(attempts)
    ended = attempts.filter(attempts.status != "cancelled")
    return ended.mutate(value=(ended.status == "failure").cast("float64"))


def qualities(attempts: ibis.Table, feedback: ibis.Table | None, quality_name: str) -> ibis.Table:
    """Observations: the quality (0..1) of every scored success of chat; the newest feedback goes before what was logged."""
    attempts = chat_of(attempts)
    rows, quality = attempts.filter(attempts.status == "success"), attempts.quality_score
    if feedback is not None:
        by_request, by_attempt = newest_scores(feedback, quality_name)
        by_request = by_request.select(scored_request_id="request_id", quality_by_request="quality")
        by_attempt = by_attempt.select(scored_attempt_id="attempt_id", quality_by_attempt="quality")
        rows = rows.left_join(by_request, rows.request_id == by_request.scored_request_id)
        rows = rows.left_join(by_attempt, rows.attempt_id == by_attempt.scored_attempt_id)
        quality = ibis.coalesce(rows.quality_by_attempt, rows.quality_by_request, rows.quality_score)
    else:
        quality = rows.quality_score
    scored = rows.mutate(value=quality)
    return scored.filter(scored.value.notnull())


def with_hour(attempts: ibis.Table) -> ibis.Table:
    """Add `hour`, counted from 1970."""
    return attempts.mutate(hour=(attempts.started_at.truncate("s").epoch_seconds() / SECONDS_PER_HOUR).floor().cast("int64"))


def hourly_sums(
    observations: ibis.Table, first_hour: int, end_hour: int, dimensions: Iterable[str] = tuple(DIMENSIONS)
) -> HourlySums | None:
    """Count, sum and sum of squares of `value` by hour in [first_hour, end_hour), for the whole and each series worth watching.

    Reads the rows once for the whole and once for each of `dimensions`. None when there is no observation. The hours begin with the first that has one.
    """
    timed = with_hour(observations)
    timed = timed.filter(timed.hour >= first_hour, timed.hour < end_hour)
    watched = [name for name in DIMENSIONS if name in set(dimensions)]
    return watched_sums({kind: _by_hour(timed, kind) for kind in (WHOLE.dimension, *watched)}, end_hour)


def _by_hour(timed: ibis.Table, dimension: str) -> pa.Table:
    label = ibis.literal("") if dimension == WHOLE.dimension else timed[DIMENSIONS[dimension]]
    if dimension == "task":
        label = label.fill_null(UNKNOWN_TASK)
    keyed = timed.mutate(label=label).filter(lambda t: t.label.notnull())
    sums = keyed.group_by("label", "hour").agg(
        count=keyed.count().cast("float64"), total=keyed.value.sum(), squares=(keyed.value * keyed.value).sum()
    )
    found: pa.Table = sums.to_pyarrow()
    return found


def attribution(
    observations: ibis.Table, start_s: float, end_s: float, weeks: int, *, is_sum: bool, direction: int = 1
) -> Attribution | None:
    """Take the window [start_s, end_s) apart against the same hours of up to `weeks` weeks before.

    Args:
        observations: attempts with `value`, the window and the weeks before it (`costs` and its like).
        start_s: begin of the window, on the hour.
        end_s: its end, on the hour.
        weeks: weeks to compare with.
        is_sum: the value adds up (cost); otherwise it is a mean, and only who it comes from is told.
        direction: 1 where more is worse, -1 where less is.

    Returns:
        None when no earlier week holds anything.
    """
    rows = _cells(observations, int(start_s // SECONDS_PER_HOUR), int(end_s // SECONDS_PER_HOUR), weeks)
    return attributed(rows, is_sum=is_sum, direction=direction)


def _cells(observations: ibis.Table, start: int, end: int, weeks: int) -> Sequence[dict[str, Any]]:
    timed = with_week(with_hour(observations), start, end, weeks)
    tokens = timed.prompt_tokens.fill_null(0) + timed.completion_tokens.fill_null(0)
    timed = timed.mutate(tokens=tokens)
    found: list[dict[str, Any]] = []
    for kind, names in KINDS.items():
        sums = timed.group_by("week", *names).agg(
            calls=timed.count(), total=timed.value.sum(), tokens=timed.tokens.sum(), cached=timed.cached_tokens.fill_null(0).sum()
        )
        found += [{"kind": kind, **row} for row in sums.to_pyarrow().to_pylist()]
    return found
