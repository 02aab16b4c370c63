"""Hourly sums of the series that are watched: the whole traffic, and each team, task, model and rule.

Belongs here: from attempts to count, sum and sum of squares by series and hour, in one shape for every measure. Does not
belong here: what stands out of them (`detection`).
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import NamedTuple

import ibis
import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from routing_pipeline.scope import UNKNOWN_TASK, newest_scores

Floats = NDArray[np.float64]

HOUR_S = 3_600
DAY_H = 24
WEEK_H = 168

DIMENSIONS: dict[str, str] = {"team": "team", "task": "task_type", "model": "model", "rule": "routing_rule_id"}
"""What a series may be narrowed to, and the column that says it."""
ROUTED = frozenset({"model", "rule"})
"""Dimensions along which routing itself moves traffic."""
SERIES_PER_DIMENSION = 12
MIN_SHARE = 0.01
"""A series with less of the traffic is not watched for itself: it is part of the whole."""


class Series(NamedTuple):
    """What is watched: the whole ("all", ""), or one value of a dimension."""

    dimension: str
    value: str


WHOLE = Series("all", "")


@dataclass(frozen=True)
class HourlySums:
    """Sums over the observations of each series in each hour; hours without any are zeros.

    Columns run over consecutive hours from `first_hour`, counted from 1970-01-01 00:00 UTC. The first series is the whole.
    """

    first_hour: int
    series: tuple[Series, ...]
    count: Floats
    total: Floats
    squares: Floats

    @property
    def hours(self) -> int:
        """Number of hours covered."""
        return int(self.count.shape[1])

    @property
    def end_hour(self) -> int:
        """The hour after the last one."""
        return self.first_hour + self.hours


def costs(attempts: ibis.Table) -> ibis.Table:
    """Observations: what every attempt cost, USD; an unpriced one is an observation of 0."""
    return attempts.mutate(value=attempts.cost_usd.fill_null(0.0))


def log_latencies(attempts: ibis.Table) -> ibis.Table:
    """Observations: natural logarithm of the milliseconds of every success; means of them are not ruled by the slowest few."""
    timed = attempts.filter(attempts.status == "success", attempts.latency_ms > 0)
    return timed.mutate(value=timed.latency_ms.ln())


def failures(attempts: ibis.Table) -> ibis.Table:
    """Observations: 1 for a failed attempt, 0 for a successful one; who cancelled says nothing about quality."""
    ended = attempts.filter(attempts.status != "cancelled")
    return ended.mutate(value=(ended.status == "failure").cast("float64"))


def qualities(attempts: ibis.Table, feedback: ibis.Table | None, quality_name: str) -> ibis.Table:
    """Observations: the quality (0..1) of every scored success; the newest feedback goes before what was logged."""
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
    """Add `hour`, counted from 1970: `scope.with_time` without the fraction of a second, which takes most of its time."""
    return attempts.mutate(hour=(attempts.started_at.truncate("s").epoch_seconds() / HOUR_S).floor().cast("int64"))


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


def watched_sums(by_kind: Mapping[str, pa.Table], end_hour: int) -> HourlySums | None:
    """The whole, and of each dimension the names worth watching; None without an observation.

    Args:
        by_kind: by "all" and by dimension: `label`, `hour`, `count`, `total`, `squares`.
        end_hour: the hour after the last, counted from 1970.
    """
    whole = by_kind[WHOLE.dimension]
    if not len(whole):
        return None
    found, observed = {WHOLE: whole}, math.fsum(whole["count"].to_pylist())
    for dimension in DIMENSIONS:
        if dimension in by_kind:
            found |= _frequent(by_kind[dimension], dimension, observed)
    first = min(whole["hour"].to_pylist())
    count, total, squares = (np.zeros((len(found), end_hour - first)) for _ in range(3))
    for place, sums in enumerate(found.values()):
        hours = sums["hour"].to_numpy() - first
        for array, name in ((count, "count"), (total, "total"), (squares, "squares")):
            array[place, hours] = sums[name].to_numpy()
    return HourlySums(first, tuple(found), count, total, squares)


def _frequent(sums: pa.Table, dimension: str, observed: float) -> dict[Series, pa.Table]:
    """The most frequent values; a dimension that only ever had one value says nothing that the whole does not say."""
    by_label = sums.group_by("label").aggregate([("count", "sum")])
    counts = dict(zip(by_label["label"].to_pylist(), by_label["count_sum"].to_pylist(), strict=True))
    if max(counts.values(), default=0) >= observed:
        return {}
    frequent = sorted((value for value in counts if counts[value] >= MIN_SHARE * observed), key=lambda value: (-counts[value], value))
    return {Series(dimension, value): sums.filter(pc.equal(sums["label"], value)) for value in frequent[:SERIES_PER_DIMENSION]}
