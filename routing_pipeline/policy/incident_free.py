"""Hours of the window that are not like the rest: found, so that limits hold with and without them.

Belongs here: the search for such hours, and the cells without them. Does not belong here: alerts against earlier weeks (`alerts`),
causes of failures (`analysis.availability`), the proof.

A model that fails for some hours makes today's routing look worse than a normal week, and rules that avoid it look better than
they will be. Answers, scores and the logarithm of costs are held against the mean of their model and task; R_k is what a cluster of
sessions adds in an hour. Over stretches of WIDTHS hours the sum of R_k is standardised by the sums of R_k^2 and R_k^3 of the other hours:
sessions fail, please and cost together, and a few failures of a rate near 0 are no normal variable, so the tail is that of the gamma
distribution of the same variance and skewness (Pearson's type III). Where half of all stretches lie further out than chance has it, because
answers differ by time of day or sessions last for hours, all are that much wider. The worst stretches of each model beyond chance
(Bonferroni over all that are looked at) are unusual. What takes up more than MOST of the window is how things are, and no incident.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import replace
from datetime import UTC, datetime
from functools import lru_cache

import ibis
import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from scipy.special import gammaincc, ndtri

from routing_pipeline.clock import SECONDS_PER_HOUR, hour_of
from routing_pipeline.policy.cells import Floats, cells_of, part_of, sum_by
from routing_pipeline.policy.evidence_model import UnusualHours
from routing_pipeline.policy.scores import ScoreCube, score_cube
from routing_pipeline.policy.segments import Segment
from routing_pipeline.storage.bucket import read_shared

WIDTHS: tuple[int, ...] = (1, 2, 3, 6, 12, 24)
FALSE_ALARMS = 0.01
"""Share of even windows in which any stretch is called unusual."""
MOST = 0.2
"""Of the window's hours."""
LEAST_HOURS = 48
LEAST_COUNTED, LEAST_FAILURES = 10, 5
"""Answers, and failures, below which a stretch says nothing."""
MATERIAL = {"failures": 0.05, "quality": 0.03, "spend": 0.5}
"""Share of answers that failed more than usual; fall of mean quality; a request's cost beside what is usual, relative to it."""
WORSE = {"failures": 1.0, "quality": -1.0, "spend": 1.0}
TYPICAL = float(ndtri(0.25) ** 2)
"""Median of a squared standard normal variable."""
MOST_STRETCHES = 20


def unusual_hours(final: ibis.Table) -> tuple[UnusualHours, ...]:
    """Stretches in which a model did worse, or cost more, than in the rest of the window; worst first.

    Args:
        final: final requests; one aggregate of them by hour, model and task is read.
    """
    table = _by_hour(final).order_by("hour", "model").to_pyarrow()
    if table.num_rows == 0:
        return ()
    hour = table["hour"].to_numpy().astype(np.int64)
    first, hours = int(hour.min()), int(hour.max() - hour.min()) + 1
    if hours < LEAST_HOURS:
        return ()
    models, model = np.unique(np.array(table["model"].to_pylist(), dtype=str), return_inverse=True)
    bar = float(-ndtri(FALSE_ALARMS / (len(models) * len(WORSE) * hours * len(WIDTHS))))
    found: list[tuple[float, UnusualHours]] = []
    for what in WORSE:
        names = [f"{what}_{each}" for each in ("n", "usual", "sum", "square", "cube")]
        sums = np.stack(
            [sum_by((model, hour - first), table[name].to_numpy().astype(np.float64), (len(models), hours)) for name in names], axis=1
        )
        for place, name in enumerate(models.tolist()):
            for z, begin, width, size in _stretches(sums[place], bar, what):
                since, until = ((first + at) * SECONDS_PER_HOUR for at in (begin, begin + width))
                found.append((z, UnusualHours(model=name, what=what, start=_moment(since), end=_moment(until), size=size)))
    kept = tuple(each for _, each in sorted(found, key=lambda each: -each[0])[:MOST_STRETCHES])
    return kept if len(_hours_in(kept)) <= MOST * hours else ()


def _by_hour(final: ibis.Table) -> ibis.Table:
    """By hour and model, for each thing measured: how many, what is usual, and the sums over clusters of R, R^2 and R^3; worse is more."""
    rows = final.filter(final.routed_model.notnull()).select(
        "cluster",
        hour=hour_of(final.started_s),
        model=final.routed_model,
        task=final.task_type.fill_null(""),
        failures=(final.status != "success").cast("float64"),
        quality=final.quality.cast("float64"),
        spend=ibis.ifelse(final.request_cost_usd > 0, final.request_cost_usd, ibis.null("float64")).log(),
    )
    usual = rows.group_by(of_model="model", of_task="task").agg(**{f"usual_{what}": rows[what].mean() for what in WORSE})
    held = rows.inner_join(usual, [rows.model == usual.of_model, rows.task == usual.of_task])
    own = held.group_by("hour", "model", "cluster").agg(
        **{f"{what}_n": held[what].count().cast("float64") for what in WORSE},
        **{f"{what}_usual": ibis.ifelse(held[what].notnull(), held[f"usual_{what}"], 0.0).sum() for what in WORSE},
        **{f"{what}_r": (sign * (held[what] - held[f"usual_{what}"])).sum().fill_null(0.0) for what, sign in WORSE.items()},
    )
    return own.group_by("hour", "model").agg(
        **{f"{what}_{each}": own[f"{what}_{each}"].sum() for what in WORSE for each in ("n", "usual")},
        **{f"{what}_sum": own[f"{what}_r"].sum() for what in WORSE},
        **{f"{what}_square": (own[f"{what}_r"] ** 2).sum() for what in WORSE},
        **{f"{what}_cube": (own[f"{what}_r"] ** 3).sum() for what in WORSE},
    )


def _stretches(sums: Floats, bar: float, what: str) -> list[tuple[float, int, int, float]]:
    """(z, first hour, hours, size) of stretches of one model beyond chance, worst first, none over another; sums as named above."""
    left = np.ones(sums.shape[1], dtype=bool)
    found: list[tuple[float, int, int]] = []
    while len(found) < MOST_STRETCHES and left.any():
        z, begin, width = max((_worst(sums * left, width, what) for width in WIDTHS), key=lambda each: each[0])
        if z <= bar:
            break
        # A wider one around hours that were found before makes them longer.
        over = [each for each in found if begin < each[1] + each[2] and each[1] < begin + width]
        end = max([begin + width, *(each[1] + each[2] for each in over)])
        begin = min([begin, *(each[1] for each in over)])
        found = [each for each in found if each not in over]
        found.append((max([z, *(each[0] for each in over)]), begin, end - begin))
        left[begin:end] = False
    return [(*each, _size(sums, each[1], each[2], what)) for each in sorted(found, reverse=True)]


def _size(sums: Floats, begin: int, width: int, what: str) -> float:
    """How much worse than its other hours a stretch is, a request: in parts of a score, of the requests or of the spend."""
    n, usual, residual, _, _ = sums
    weight = usual if what == "failures" else n
    beyond, within = slice(begin, begin + width), max(float(n[begin : begin + width].sum()), 1.0)
    mean = float((residual - weight * float(residual.sum()) / max(float(weight.sum()), 1e-300))[beyond].sum()) / within
    return float(np.expm1(min(mean, 100.0))) if what == "spend" else mean


def _worst(sums: Floats, width: int, what: str) -> tuple[float, int, int]:
    """(z, first hour, hours) of the worst stretch of one width."""
    n, usual, residual, square, cube = sums
    # Failures spread as their expected number does; scores and costs as their number.
    weight = usual if what == "failures" else n
    total = max(float(weight.sum()), 1e-300)
    residual = residual - weight * float(residual.sum()) / total
    of, weighs, base, size = (np.convolve(each, np.ones(width), "valid") for each in (residual, weight, usual, n))
    variance = np.maximum(float(square.sum()) / total * weighs, 1e-12)
    enough = size >= LEAST_COUNTED
    wider = max(float(np.median((of**2 / variance)[enough])) / TYPICAL, 1.0) if enough.any() else 1.0
    third = max(float(cube.sum()), 0.0) / total * weighs * wider**1.5
    z = np.where(enough, _normal(of / np.sqrt(wider * variance), third / (wider * variance) ** 1.5), 0.0)
    if what == "failures":
        z = np.where(of + base >= LEAST_FAILURES, z, 0.0)
    mean = of / np.maximum(size, 1.0)
    relative = np.expm1(np.minimum(mean, 100.0)) if what == "spend" else mean
    z = np.where(relative >= MATERIAL[what], z, 0.0)
    at = int(z.argmax())
    return float(z[at]), at, width


def _normal(z: Floats, skewness: Floats) -> Floats:
    """The normal variable as far out as z of a gamma variable with this skewness."""
    shape = 4.0 / np.maximum(skewness, 1e-3) ** 2
    beyond: Floats = np.maximum(gammaincc(shape, np.maximum(shape + z * np.sqrt(shape), 0.0)), 1e-300)
    return np.asarray(-ndtri(beyond), dtype=np.float64)


def _moment(seconds: float) -> datetime:
    return datetime.fromtimestamp(seconds, UTC)


def _hours_in(found: Sequence[UnusualHours]) -> set[int]:
    return {
        hour
        for each in found
        for hour in range(int(each.start.timestamp()) // SECONDS_PER_HOUR, math.ceil(each.end.timestamp() / SECONDS_PER_HOUR))
    }


def without(requests: ibis.Table, found: Sequence[UnusualHours]) -> ibis.Table:
    """The rows of all other hours."""
    for since, until in intervals_of(found):
        requests = requests.filter((requests.started_s < since) | (requests.started_s >= until))
    return requests


def intervals_of(found: Sequence[UnusualHours]) -> tuple[tuple[float, float], ...]:
    """Their times, joined."""
    joined: list[tuple[float, float]] = []
    for hour in sorted(_hours_in(found)):
        start, end = float(hour * SECONDS_PER_HOUR), float((hour + 1) * SECONDS_PER_HOUR)
        if joined and joined[-1][1] == start:
            joined[-1] = (joined[-1][0], end)
        else:
            joined.append((start, end))
    return tuple(joined)


def in_words(found: Sequence[UnusualHours]) -> str:
    """What they are, for page one."""
    said = {"failures": "failed more often", "quality": "answered worse", "spend": "cost more"}
    parts = [
        f"{each.model} {said[each.what]} than usual from {each.start:%Y-%m-%d %H:%M} to {each.end:%Y-%m-%d %H:%M} UTC" for each in found[:3]
    ]
    return "; ".join(parts) + (f"; and {len(found) - 3} more such stretches" if len(found) > 3 else "")


def warnings_of(found: Sequence[UnusualHours]) -> list[str]:
    """That the window holds such hours, and how they are dealt with."""
    if not found:
        return []
    return [
        f"The window holds unusual hours: {in_words(found)}. A change is proposed only where it keeps every limit with these hours and without them."
    ]


@lru_cache(maxsize=2)
def _calm(cells_uri: str, segments: tuple[Segment, ...], distrusts: bool) -> ScoreCube | None:
    content = read_shared(cells_uri)
    if content is None:
        return None
    table: pa.Table = pq.read_table(pa.BufferReader(content))
    if "cell_calm" not in table.column_names:
        return None
    return score_cube(replace(cells_of(part_of(table, calm=True)), distrusts_weights=distrusts), segments=segments)


def calm_scores(cells_uri: str, cube: ScoreCube) -> tuple[ScoreCube, ...]:
    """The scores of the window without its unusual hours, with the same segments; none where there are no such hours."""
    found = _calm(cells_uri, cube.segments, cube.cells.distrusts_weights)
    return () if found is None else (found,)
