"""Quality over time: stretches of the window in which a model answered worse, mix of requests held fixed.

Belongs here: labelled answers by step of time, and the search for the stretch that stands out. Does not belong here: means over the
whole window (`quality_metrics`), the thresholds of alerts (`alerts.detection`).
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Literal

import ibis
import numpy as np
from pydantic import Field
from scipy.special import ndtr

from routing_pipeline.analysis.choices import fold_rare
from routing_pipeline.clock import SECONDS_PER_HOUR
from routing_pipeline.estimates import Estimate, Result, Unidentifiable, quantity
from routing_pipeline.stats.inference import FALSE_DISCOVERY_RATE, Floats, around, false_discovery_adjusted
from routing_pipeline.stats.outliers import MAD_TO_SD, Places
from routing_pipeline.text import LogName
from routing_pipeline.window.scope import AnalysisScope

BANDS = 4
"""Equal bands of complexity that hold the mix of requests fixed when quality is looked at over time."""
MAX_STEPS = 200
WIDTHS_H = (1, 2, 3, 4, 6, 8, 12, 24)
"""Widths of a step; each divides a day, the smallest with at most `MAX_STEPS` steps in the window is taken."""
MIN_LABELS = 20
"""Labelled answers that a stretch, and the rest, must hold."""
MAX_STRETCHES = 3
"""Stretches looked for in one series."""
NO_QUALITY = "no answer has a quality; log quality_score in the request's metadata, or hand over a --feedback file"


class Degradation(Result):
    """A stretch of time in which a model answered worse than in the rest of the window, mix of requests held fixed.

    Only falls of at least the allowed quality drop. The size is that of the stretch that stands out most, so it errs on the large side.
    """

    model: LogName
    task_type: LogName | None = Field(description="Null: over all its task types")
    kind: Literal["episode", "since", "until"] = Field(description="A stretch in the middle; worse since; worse until, then better")
    start: datetime = Field(description="UTC, to the resolution of the series")
    end: datetime = Field(description="UTC, exclusive")
    size: Estimate = quantity("Quality in the stretch less quality outside; negative is worse", "0..1")
    labelled: int = quantity("Answers with a quality in the stretch", "requests")
    adjusted_p: float = quantity("Benjamini-Hochberg adjusted p-value over all series, corrected for the search over stretches", "0..1")


@dataclass(frozen=True)
class Labels:
    """Labelled answers summed by task, model, band of complexity and step of time; one entry of each array per sum.

    `task` and `model` count into their names. `missed` is the sum of (quality - mean of its task, model and band).
    """

    tasks: list[str]
    models: list[str]
    task: Places
    model: Places
    step: Places
    n: Floats
    total: Floats
    missed: Floats
    squares: Floats


def labels_of(requests: ibis.Table, scope: AnalysisScope, width_h: int) -> Labels:
    """Successful answers with a quality, summed in the engine."""
    rows = requests.filter(requests.quality.notnull())
    rows = fold_rare(fold_rare(rows, "task_type", len(scope.task_types)), "model", len(scope.models))
    band = ibis.least((rows.complexity * BANDS).floor(), BANDS - 1).cast("int64").fill_null(-1)
    rows = rows.mutate(band=band, step=step_of(rows, width_h))
    keys = ("task_type", "model", "band", "step")
    sums = rows.group_by(*keys).agg(n=rows.count(), total=rows.quality.sum(), squares=(rows.quality * rows.quality).sum())
    found = sums.order_by(*keys).to_pyarrow()
    tasks, task = _coded(found["task_type"].to_pylist())
    models, model = _coded(found["model"].to_pylist())
    n, total, squares = (found[name].to_numpy().astype(np.float64) for name in ("n", "total", "squares"))
    _, kind = np.unique(np.stack([task, model, found["band"].to_numpy()]), axis=1, return_inverse=True)
    mean = (np.bincount(kind, total) / np.bincount(kind, n))[kind] if len(n) else n
    return Labels(
        tasks=tasks,
        models=models,
        task=task,
        model=model,
        step=found["step"].to_numpy(),
        n=n,
        total=total,
        missed=total - n * mean,
        squares=squares - 2 * mean * total + n * mean * mean,
    )


def _coded(values: list[str]) -> tuple[list[str], Places]:
    names = sorted(set(values))
    place = {name: code for code, name in enumerate(names)}
    return names, np.array([place[value] for value in values], dtype=np.int64)


def step_of(rows: ibis.Table, width_h: int) -> ibis.expr.types.IntegerValue:
    """Number of the step of time that a row begins in, counted from 1970."""
    return (rows.started_s / (width_h * SECONDS_PER_HOUR)).floor().cast("int64")


def step_width_h(scope: AnalysisScope) -> int:
    """Hours of a step, so that the window has at most `MAX_STEPS` of them."""
    hours = (scope.end_s - scope.start_s) / SECONDS_PER_HOUR
    return next((width for width in WIDTHS_H if hours / width <= MAX_STEPS), WIDTHS_H[-1])


@dataclass
class _Series:
    """One model (on one task) over time: labelled answers per step, and the sum of what they miss of their kind's mean."""

    model: str
    task: str | None
    n: Floats
    missed: Floats
    squares: float


@dataclass(frozen=True)
class _Stretch:
    """Steps [first, last) that stand out most, with the search over stretches already paid for in p."""

    first: int
    last: int
    size: float
    se: float
    p: float


def degradations(labels: Labels, scope: AnalysisScope, width_h: int) -> tuple[list[Degradation], Unidentifiable | None]:
    """Stretches of low quality in any series: by model over all tasks, and by model and task."""
    series, first_step = _series(labels)
    scanned = [(each, stretch) for each in series if (stretch := _worst_stretch(each)) is not None]
    if not scanned:
        return [], Unidentifiable(
            unidentifiable=NO_QUALITY
            if not len(labels.n)
            else f"no model has {MIN_LABELS} labelled answers in a stretch of the window and as many outside it; score more answers"
        )
    adjusted = false_discovery_adjusted([stretch.p for _, stretch in scanned])
    found = []
    for (each, stretch), p in zip(scanned, adjusted, strict=True):
        shown: _Stretch | None = stretch
        for _ in range(MAX_STRETCHES):
            if shown is None or p > FALSE_DISCOVERY_RATE:
                break
            if -shown.size >= scope.parameters.max_quality_drop:
                found.append(_degradation(each, shown, p, first_step, width_h))
            each.n[shown.first : shown.last] = 0
            each.missed[shown.first : shown.last] = 0
            shown = _worst_stretch(each)
            # Further stretches of one series pay for all series.
            p = min(shown.p * len(scanned), 1.0) if shown is not None else 1.0
    return sorted(found, key=lambda each: (each.adjusted_p, each.task_type is not None, each.model, each.task_type or "", each.start)), None


def _series(labels: Labels) -> tuple[list[_Series], int]:
    """Series by model, and by model and task, and the step that they begin at."""
    if not len(labels.n):
        return [], 0
    first = int(labels.step.min())
    steps = int(labels.step.max()) - first + 1
    found = []
    for code, model in enumerate(labels.models):
        of_model = labels.model == code
        for task in (None, *np.unique(labels.task[of_model]).tolist()):
            which = of_model if task is None else of_model & (labels.task == task)
            place = labels.step[which] - first
            found.append(
                _Series(
                    model,
                    None if task is None else labels.tasks[task],
                    n=np.bincount(place, labels.n[which], minlength=steps).astype(np.float64),
                    missed=np.bincount(place, labels.missed[which], minlength=steps).astype(np.float64),
                    squares=float(labels.squares[which].sum()),
                )
            )
    return found, first


def _worst_stretch(series: _Series) -> _Stretch | None:
    """The stretch whose mean lies furthest below the rest, over all stretches with enough labels; None when there is none.

    z = (mean inside - mean outside) / (s sqrt(1/n_in + 1/n_out)), s the spread of single answers times the robust spread of steps
    (1.4826 MAD of their standardised sums, at least 1). p is Bonferroni's bound on the least of all z (the search pays for itself).
    """
    n, missed = np.concatenate([[0.0], series.n.cumsum()]), np.concatenate([[0.0], series.missed.cumsum()])
    total = float(n[-1])
    if total < 2 * MIN_LABELS or series.squares <= 0:
        return None
    spread = math.sqrt(series.squares / total)
    filled = series.n >= 5
    if filled.sum() >= 5:
        sums = series.missed[filled] / (spread * np.sqrt(series.n[filled]))
        spread *= max(MAD_TO_SD * float(np.median(np.abs(sums - np.median(sums)))), 1.0)
    inside, below = n[None, :] - n[:, None], missed[None, :] - missed[:, None]
    outside = total - inside
    is_tested = (inside >= MIN_LABELS) & (outside >= MIN_LABELS)
    if not is_tested.any():
        return None
    with np.errstate(divide="ignore", invalid="ignore"):
        size = below / inside - (float(missed[-1]) - below) / outside
        se = spread * np.sqrt(1 / inside + 1 / outside)
        z = np.where(is_tested, size / se, np.inf)
    first, last = (int(place) for place in np.unravel_index(int(np.argmin(z)), z.shape))
    p = min(float(ndtr(z[first, last])) * int(is_tested.sum()), 1.0)
    return _Stretch(first, last, float(size[first, last]), float(se[first, last]), p)


def _degradation(series: _Series, stretch: _Stretch, p: float, first_step: int, width_h: int) -> Degradation:
    def at(step: int) -> datetime:
        return datetime.fromtimestamp((first_step + step) * width_h * SECONDS_PER_HOUR, UTC)

    filled = np.flatnonzero(series.n)
    kind: Literal["episode", "since", "until"] = "episode"
    if stretch.last > filled[-1]:
        kind = "since"
    elif stretch.first <= filled[0]:
        kind = "until"
    return Degradation(
        model=series.model,
        task_type=series.task,
        kind=kind,
        start=at(stretch.first),
        end=at(stretch.last),
        size=around(stretch.size, stretch.se),
        labelled=int(series.n[stretch.first : stretch.last].sum()),
        adjusted_p=p,
    )
