"""A grid of kinds of request by models: numbers in each cell, hatched where the logs cannot tell.

Belongs here: what the maps of quality and of overlap share. Does not belong here: what stands in a cell (`quality_map`,
`overlap_map`).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from routing_pipeline.report.charts.drawing import HATCHED, WIDTH, Row, bare, hatching, labels, layered, rows_of
from routing_pipeline.report.charts.palette import MAIN, MARK, PAPER, STRONGEST

if TYPE_CHECKING:
    import altair as alt

MAX_MODELS = 8


@dataclass(frozen=True)
class Cell:
    """One pair. `strength` is 0..1, None where the logs cannot tell; `outlined` marks what is done today."""

    row: int
    column: int
    lines: tuple[str, ...]
    strength: float | None
    outlined: bool = False


def cell_map(cells: Sequence[Cell], rows: Sequence[str], models: Sequence[str], row_height: float) -> alt.LayerChart:
    """Cells as tiles, darker where `strength` is greater; names are shortened here."""
    import altair as alt

    down, across = labels(rows, 40), labels(models, 28)
    label_width = 6.7 * max(len(label) for label in down) + 8
    width = (WIDTH - label_width) / len(across)
    at = [{"x": across[cell.column], "y": down[cell.row], "strength": cell.strength or 0.0} for cell in cells]
    told = [row for row, cell in zip(at, cells, strict=True) if cell.strength is not None]
    untold = [row for row, cell in zip(at, cells, strict=True) if cell.strength is None]
    outlined = [row for row, cell in zip(at, cells, strict=True) if cell.outlined]
    x = alt.X("x:N", scale=alt.Scale(domain=across, padding=0.04), axis=bare(labels=False))
    y = alt.Y("y:N", scale=alt.Scale(domain=down, padding=0.06), axis=bare(labelLimit=300, labelOverlap=False))
    layers = [
        rows_of(told)
        .mark_rect(color=MAIN)
        .encode(x=x, y=y, opacity=alt.Opacity("strength:Q", scale=alt.Scale(domain=[0, 1], range=[0.04, STRONGEST]), legend=None))
    ]
    heads = [{"x": label, "label": in_two_lines(label, int(width / 5.9))} for label in across]
    layers.append(
        rows_of(heads)
        .mark_text(lineBreak="\n", baseline="bottom", fontSize=11, dy=-4 - 13 * any("\n" in str(head["label"]) for head in heads))
        .encode(x="x:N", y=alt.value(0), text="label:N")
    )
    if untold:
        path = hatching(width * 0.94, row_height * 0.92)
        layers.append(rows_of(untold).mark_point(shape=path, **HATCHED).encode(x=x, y=y))
        tile = rows_of(untold).mark_point(shape=_plate(66, 15), size=4, color=PAPER, filled=True, opacity=1)
        layers.append(tile.encode(x=x, y=y))
        layers.append(_written([row | {"label": "cannot tell"} for row in untold], 0.0, 11))
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
