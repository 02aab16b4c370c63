"""The series that are watched, from sums kept for each data file: what `hourly.hourly_sums` finds in the rows, without reading them.

Belongs here: which columns of the kept sums are the observations of which measure. Does not belong here: keeping them
(`routing_pipeline.hourly_sums`), which series are watched (`hourly`).
"""

from __future__ import annotations

from collections.abc import Collection, Sequence
from typing import Literal

import ibis
import pyarrow as pa
import pyarrow.compute as pc

from routing_pipeline.alerts.attribution import attributed, with_week
from routing_pipeline.alerts.decisions import AlertDecision
from routing_pipeline.alerts.hourly import DIMENSIONS, HOUR_S, WHOLE, HourlySums, watched_sums
from routing_pipeline.scope import UNKNOWN_TASK

Measured = Literal["spend", "latency", "failed attempts", "quality", "requests"]

COLUMNS: dict[str, tuple[str, str, str]] = {
    "spend": ("attempts", "cost_usd", "cost_squares"),
    "latency": ("timed", "log_latency", "log_latency_squares"),
    "failed attempts": ("ended", "failures", "failures"),
    "quality": ("scored", "quality", "quality_squares"),
    "requests": ("attempts", "cost_usd", "cost_squares"),
}
"""Count, sum and sum of squares of each measure's observations; quality: of SCORE_SUMS where there is feedback."""


def kept_series(
    sums: ibis.Table, measured: Measured, first_hour: int, end_hour: int, dimensions: Collection[str] = tuple(DIMENSIONS)
) -> HourlySums | None:
    """Sums by series and hour in [first_hour, end_hour), equal to `hourly.hourly_sums` of the measure's observations.

    Args:
        sums: series of attempts or of scores (`hourly_sums.series_of`) of data files that cover these hours.
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


def kept_cause(sums: ibis.Table, decision: AlertDecision, weeks: int) -> tuple[str, ...]:
    """What an alert is due to, in words: `attribution.attribution` of the measure's observations, from sums."""
    if decision.start_s is None or decision.end_s is None or decision.measured not in COLUMNS:
        return ()
    count, total, _ = COLUMNS[decision.measured]
    cells = with_week(sums.filter(sums[count] > 0), int(decision.start_s // HOUR_S), int(decision.end_s // HOUR_S), weeks)
    tokens = {name: cells[name].sum() if name in cells.columns else ibis.literal(0.0) for name in ("tokens", "cached_tokens")}
    grouped = cells.group_by("week", "kind", *DIMENSIONS.values()).agg(
        calls=cells[count].sum(), total=cells[total].sum(), tokens=tokens["tokens"], cached=tokens["cached_tokens"]
    )
    found = attributed(
        grouped.to_pyarrow().to_pylist(), is_sum=decision.measured == "spend", direction=-1 if decision.measured == "quality" else 1
    )
    return () if found is None else found.sentences()


def _by_kind(series: ibis.Table, columns: tuple[str, str, str], kinds: Sequence[str]) -> dict[str, pa.Table]:
    """Sums of each kind by name (`label`) and hour; those without a name are left out, but for the unknown task."""
    count, total, squares = (series[name] for name in columns)
    unnamed = ibis.cases((series.kind == WHOLE.dimension, ""), (series.kind == "task", UNKNOWN_TASK))
    named = series.mutate(label=ibis.coalesce(*(series[name] for name in DIMENSIONS.values()), unnamed))
    named = named.filter(count > 0, named.kind.isin(list(kinds)), named.label.notnull())
    sums = named.group_by("kind", "label", "hour").agg(count=count.sum(), total=total.sum(), squares=squares.sum())
    found = sums.to_pyarrow()
    return {kind: found.filter(pc.equal(found["kind"], kind)) for kind in kinds}
