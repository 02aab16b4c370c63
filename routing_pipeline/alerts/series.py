"""Hourly sums of the series that are watched: the whole traffic, and each team, task, model and rule.

Belongs here: count, sum and sum of squares by series and hour, in one shape for every measure, and which columns of the sums kept
for each data file are whose. Does not belong here: keeping those (`window.hourly`), what stands out of them (`detection`).
"""

from __future__ import annotations

import math
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from typing import Literal, NamedTuple

import ibis
import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from routing_pipeline.window.scope import UNKNOWN_TASK

Floats = NDArray[np.float64]
Measured = Literal["spend", "latency", "failed attempts", "quality", "requests"]

DIMENSIONS: dict[str, str] = {"team": "team", "task": "task_type", "model": "model", "rule": "routing_rule_id"}
"""What a series may be narrowed to, and the column that says it."""
ROUTED = frozenset({"model", "rule"})
"""Dimensions along which routing itself moves traffic."""
SERIES_PER_DIMENSION = 12
MIN_SHARE = 0.01
"""A series with less of the traffic is not watched for itself: it is part of the whole."""
COLUMNS: dict[str, tuple[str, str, str]] = {
    "spend": ("attempts", "cost_usd", "cost_squares"),
    "latency": ("timed", "log_latency", "log_latency_squares"),
    "failed attempts": ("ended", "failures", "failures"),
    "quality": ("scored", "quality", "quality_squares"),
    "requests": ("attempts", "cost_usd", "cost_squares"),
}
"""Count, sum and sum of squares of each measure's observations; quality: of SCORE_SUMS where there is feedback."""


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


def series_from_sums(
    sums: ibis.Table, measured: Measured, first_hour: int, end_hour: int, dimensions: Collection[str] = tuple(DIMENSIONS)
) -> HourlySums | None:
    """Sums by series and hour in [first_hour, end_hour), from sums kept for each data file; no row is read.

    Args:
        sums: series of attempts or of scores (`window.hourly`) of data files that cover these hours.
        measured: what is observed.
        first_hour: counted from 1970.
        end_hour: the hour after the last.
        dimensions: what series are narrowed to, beside the whole.

    Returns:
        None when there is no observation. The hours begin with the first that has one.
    """
    watched = [name for name in DIMENSIONS if name in dimensions]
    within = sums.filter(sums.hour >= first_hour, sums.hour < end_hour)
    return watched_sums(_by_kind(within, COLUMNS[measured], (WHOLE.dimension, *watched)), end_hour)


def _by_kind(series: ibis.Table, columns: tuple[str, str, str], kinds: Sequence[str]) -> dict[str, pa.Table]:
    """Sums of each kind by name (`label`) and hour; those without a name are left out, but for the unknown task."""
    count, total, squares = (series[name] for name in columns)
    unnamed = ibis.cases((series.kind == WHOLE.dimension, ""), (series.kind == "task", UNKNOWN_TASK))
    named = series.mutate(label=ibis.coalesce(*(series[name] for name in DIMENSIONS.values()), unnamed))
    named = named.filter(count > 0, named.kind.isin(list(kinds)), named.label.notnull())
    sums = named.group_by("kind", "label", "hour").agg(count=count.sum(), total=total.sum(), squares=squares.sum())
    found = sums.to_pyarrow()
    return {kind: found.filter(pc.equal(found["kind"], kind)) for kind in kinds}


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
