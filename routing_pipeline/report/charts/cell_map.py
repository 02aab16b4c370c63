"""Kinds of request by models: what quality each model would give, and how much evidence there is for it; hatched where the logs cannot tell.

Belongs here: these two pictures and the grid that they share. Does not belong here: the estimates, and what counts as support
(`policy.evidence`).
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING

from routing_pipeline import text
from routing_pipeline.estimates import Estimate
from routing_pipeline.policy.evidence_model import ArmEvidence, RoutingEvidence, SegmentEvidence
from routing_pipeline.report.charts.drawing import HATCHED, LABEL_LENGTH, WIDTH, Chart, Row, bare, hatching, labels, layered, rows_of
from routing_pipeline.report.charts.palette import MAIN, MARK, PAPER, STRONGEST

if TYPE_CHECKING:
    import altair as alt

MAX_MODELS = 8
MAX_TASKS = 12
MAX_SEGMENTS = 16
FULL = 3.5
"""log10 of the effective sample size from which a cell of the overlap has its strongest tint."""


@dataclass(frozen=True)
class Cell:
    """One pair. `strength` is 0..1, None where the logs cannot tell; `outlined` marks what is done today."""

    row: int
    column: int
    lines: tuple[str, ...]
    strength: float | None
    outlined: bool = False


def quality_map(evidence: RoutingEvidence) -> Chart | None:
    """Task types by models, quality had all requests of the task gone to the model; None where no pair can be told."""
    tasks = evidence.tasks[:MAX_TASKS]
    models = models_of(tasks)
    pairs = [(row, column, _arm(task, model)) for row, task in enumerate(tasks) for column, model in enumerate(models)]
    known = [(row, column, arm, arm.quality) for row, column, arm in pairs if arm is not None and isinstance(arm.quality, Estimate)]
    if not known:
        return None
    low, high = min(quality.estimate for *_, quality in known), max(quality.estimate for *_, quality in known)
    cells = []
    for row, column, arm in pairs:
        quality = None if arm is None else arm.quality
        is_main = arm is not None and arm is max(tasks[row].arms, key=lambda each: each.share)
        if isinstance(quality, Estimate):
            interval = f"{quality.low:.3f} to {quality.high:.3f}"
            strength = (quality.estimate - low) / (high - low) if high > low else 0.5
            cells.append(Cell(row, column, (text.score(quality.estimate), interval), strength, is_main))
        else:
            cells.append(Cell(row, column, (), None, is_main))
    drawn = partial(_grid, cells, [task.task_type for task in tasks], models, 42.0)
    return Chart("Quality by task and model", _qualities_in_words(evidence, len(pairs), models), (evidence,), drawn)


def _arm(task: SegmentEvidence, model: str) -> ArmEvidence | None:
    return next((arm for arm in task.arms if arm.model == model), None)


def _qualities_in_words(evidence: RoutingEvidence, pairs: int, models: list[str]) -> str:
    shown = [(task, arm) for task in evidence.tasks[:MAX_TASKS] for arm in task.arms if arm.model in models]
    known = [(task, arm, arm.quality) for task, arm in shown if isinstance(arm.quality, Estimate)]
    worst, best = min(known, key=lambda each: each[2].estimate), max(known, key=lambda each: each[2].estimate)
    lines = [
        "Mean quality had every request of the task gone to the model: "
        + " and ".join(
            f"{end} {text.measured(quality, text.score)} for {text.name(arm.model, LABEL_LENGTH)} on {text.name(task.task_type, LABEL_LENGTH)}"
            for end, (task, arm, quality) in (("best", best), ("worst", worst))
        )
        + "."
    ]
    unknown = [f"{arm.model} on {task.task_type}" for task, arm in shown if not isinstance(arm.quality, Estimate)]
    if len(known) < pairs:
        lines.append(
            f"{pairs - len(known)} of {pairs} pairs are hatched: the logs cannot tell"
            + (f" ({text.listed(unknown, 3)})." if unknown else ".")
        )
    lines.append("Outlined: the model that gets most of the task's requests today.")
    left_out = len(evidence.tasks) - MAX_TASKS
    if left_out > 0:
        lines.append(f"{left_out} smaller task types are not drawn.")
    return " ".join(lines)


def overlap_map(evidence: RoutingEvidence) -> Chart | None:
    """Kinds of request by models: effective sample size and least propensity; None when there is no kind of request."""
    segments = drawn_segments(evidence)
    models = models_of(evidence.segments)
    if not segments or not models:
        return None
    cells = []
    for row, segment in enumerate(segments):
        arms: dict[str, ArmEvidence] = {arm.model: arm for arm in segment.arms}
        for column, model in enumerate(models):
            arm = arms.get(model)
            if arm is not None and arm.supported:
                strength = min(max(math.log10(max(arm.effective_sample_size, 1.0)) / FULL, 0.0), 1.0)
                line = f"{text.count(arm.effective_sample_size)} · {_least(arm.min_propensity)}"
                cells.append(Cell(row, column, (line,), strength))
            else:
                cells.append(Cell(row, column, (), None))
    drawn = partial(_grid, cells, [segment.label for segment in segments], models, 27.0)
    return Chart("Where the logs can tell", _overlap_in_words(evidence, len(segments)), (evidence,), drawn)


def drawn_segments(evidence: RoutingEvidence) -> list[SegmentEvidence]:
    """The largest kinds of request, half of the places kept for those with a gap; in the evidence's own order, by task type."""
    by_share = sorted(evidence.segments, key=lambda segment: -segment.share)
    gaps = [segment for segment in by_share if not all(arm.supported for arm in segment.arms)][: MAX_SEGMENTS // 2]
    chosen = [*gaps, *(segment for segment in by_share if segment not in gaps)][:MAX_SEGMENTS]
    return [segment for segment in evidence.segments if segment in chosen]


def _least(propensity: float) -> str:
    return text.percent(propensity) if propensity < 0.0995 else text.whole_percent(propensity)


def _overlap_in_words(evidence: RoutingEvidence, drawn: int) -> str:
    pairs = [(segment, arm) for segment in evidence.segments for arm in segment.arms]
    known = [(segment, arm) for segment, arm in pairs if arm.supported]
    unknown = [f"{arm.model} on {segment.label}" for segment, arm in pairs if not arm.supported]
    unjudged = text.percent(evidence.unsupported_share)
    lines = [
        f"The logs can tell what the model would give in {len(known)} of {len(pairs)} pairs of kind of request and model",
        f"({unjudged} of pairs by traffic they cannot). In each cell: effective sample size, least propensity.",
    ]
    if known:
        thinnest, arm = min(known, key=lambda each: each[1].effective_sample_size)
        lines.append(
            f"Thinnest evidence that counts: {text.name(arm.model, LABEL_LENGTH)} on {text.name(thinnest.label, 40)}, "
            f"effectively {text.count(arm.effective_sample_size)} requests."
        )
    if unknown:
        lines.append(f"Hatched, cannot tell: {text.listed(unknown, 3)}.")
    if drawn < len(evidence.segments):
        lines.append(f"Drawn: {drawn} of {len(evidence.segments)} kinds of request, those with gaps and the largest.")
    return " ".join(lines)


def models_of(segments: tuple[SegmentEvidence, ...]) -> list[str]:
    """Models by the traffic that they have in these segments, most first."""
    traffic: dict[str, float] = {}
    for segment in segments:
        for arm in segment.arms:
            traffic[arm.model] = traffic.get(arm.model, 0.0) + arm.share * segment.share
    return sorted(traffic, key=lambda model: (-traffic[model], model))[:MAX_MODELS]


def _grid(cells: Sequence[Cell], rows: Sequence[str], models: Sequence[str], row_height: float) -> alt.LayerChart:
    """Cells as tiles, darker where `strength` is greater; names are shortened here."""
    import altair as alt

    down, across = labels(rows, 40), labels(models, 28)
    label_width = 6.7 * max(len(label) for label in down) + 8
    width = (WIDTH - label_width) / len(across)
    at = [{"x": across[cell.column], "y": down[cell.row], "strength": cell.strength or 0.0} for cell in cells]
    known = [row for row, cell in zip(at, cells, strict=True) if cell.strength is not None]
    unknown = [row for row, cell in zip(at, cells, strict=True) if cell.strength is None]
    outlined = [row for row, cell in zip(at, cells, strict=True) if cell.outlined]
    x = alt.X("x:N", scale=alt.Scale(domain=across, padding=0.04), axis=bare(labels=False))
    y = alt.Y("y:N", scale=alt.Scale(domain=down, padding=0.06), axis=bare(labelLimit=300, labelOverlap=False))
    layers = [
        rows_of(known)
        .mark_rect(color=MAIN)
        .encode(x=x, y=y, opacity=alt.Opacity("strength:Q", scale=alt.Scale(domain=[0, 1], range=[0.04, STRONGEST]), legend=None))
    ]
    heads = [{"x": label, "label": in_two_lines(label, int(width / 5.9))} for label in across]
    layers.append(
        rows_of(heads)
        .mark_text(lineBreak="\n", baseline="bottom", fontSize=11, dy=-4 - 13 * any("\n" in str(head["label"]) for head in heads))
        .encode(x="x:N", y=alt.value(0), text="label:N")
    )
    if unknown:
        path = hatching(width * 0.94, row_height * 0.92)
        layers.append(rows_of(unknown).mark_point(shape=path, **HATCHED).encode(x=x, y=y))
        tile = rows_of(unknown).mark_point(shape=_plate(66, 15), size=4, color=PAPER, filled=True, opacity=1)
        layers.append(tile.encode(x=x, y=y))
        layers.append(_written([row | {"label": "cannot tell"} for row in unknown], 0.0, 11))
    if outlined:
        layers.append(rows_of(outlined).mark_rect(filled=False, stroke=MARK, strokeWidth=2).encode(x=x, y=y))
    for place in range(max((len(cell.lines) for cell in cells), default=0)):
        written = [row | {"label": cell.lines[place]} for row, cell in zip(at, cells, strict=True) if cell.strength is not None]
        lines = max(len(cell.lines) for cell in cells)
        layers.append(_written(written, (place - (lines - 1) / 2) * 14.0, 12 if place == 0 else 10))
    return layered(layers, row_height * len(down))


def _written(rows: Sequence[Row], dy: float, size: int) -> alt.Chart:
    base = rows_of([{"x": row["x"], "y": row["y"], "label": row["label"]} for row in rows])
    made: alt.Chart = base.mark_text(dy=dy, fontSize=size).encode(x="x:N", y="y:N", text="label:N")
    return made


def in_two_lines(label: str, most: int) -> str:
    """A name that is too long for its column, broken where it reads best and cut where even that is too long."""
    if len(label) <= most:
        return label
    breaks = [place for place in range(1, len(label)) if label[place - 1] in " -_/:@"] or [len(label) // 2]
    middle = min(breaks, key=lambda place: (abs(place - len(label) / 2), place))
    return "\n".join(
        part if len(part) <= most else part[: most - 1] + "\N{HORIZONTAL ELLIPSIS}" for part in (label[:middle], label[middle:])
    )


def _plate(width: float, height: float) -> str:
    """The path of a box around the origin, behind words on hatching."""
    across, up = width / 2, height / 2
    return f"M{-across},{-up}H{across}V{up}H{-across}Z"
