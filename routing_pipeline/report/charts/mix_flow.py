"""Where each model's traffic goes: shares of requests today, flowing into those under the proposed rules.

Belongs here: the geometry of the bands, which Vega has no mark for. Does not belong here: who moves where (`model_mix`).
"""

from __future__ import annotations

import math
from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

from routing_pipeline import text
from routing_pipeline.recommendation.model_mix import ModelMix, ModelMove
from routing_pipeline.report.charts.drawing import Chart, Row, labels, layered, rows_of
from routing_pipeline.report.charts.palette import INK, MAIN, QUIET

if TYPE_CHECKING:
    import altair as alt

MAX_MODELS = 8
"""Models with a stack of their own; the smallest become one."""
NAMED_MOVES = 4
LEAST_MOVE = 0.0005
"""Share of requests below which a band would be thinner than a hair."""
HEIGHT_OF_ALL = 240.0
"""Pixels of 100 % of the requests."""
GAP = 19.0
"""Pixels between stacks, so that the names beside thin ones do not touch."""
HEAD = 26.0
"""Pixels above the stacks."""
SIDE = 0.72
"""Room for names on either side, in widths of the bands."""
LONGEST = 20
CURVE = 6
"""Stretches along a band; the renderer rounds between them."""
STAYS, MOVES = "Keeps its model", "Changes model"


@dataclass(frozen=True)
class _Band:
    now: int
    then: int
    share: float


def mix_flow(mix: ModelMix) -> Chart | None:
    """Bands from each model today to each model proposed; None when nothing moves."""
    moved = [move for move in mix.moves if move.model != move.goes_to and move.share >= LEAST_MOVE]
    if not moved:
        return None
    names, bands = _bands(mix.moves)
    now = [math.fsum(band.share for band in bands if band.now == place) for place in range(len(names))]
    then = [math.fsum(band.share for band in bands if band.then == place) for place in range(len(names))]

    def drawn() -> alt.LayerChart:
        shown = labels(names, LONGEST)
        height = HEAD + HEIGHT_OF_ALL + GAP * (len(names) - 1)
        layers = [
            _ribbons(_curves(bands, _tops(now), _tops(then)), height),
            *_stacks(shown, now, 0.0, "right"),
            *_stacks(shown, then, 1.0, "left"),
            _heads(),
        ]
        return layered(layers, height)

    return Chart("Model mix", _text(moved, names, now, then), (mix,), drawn)


def _bands(moves: Sequence[ModelMove]) -> tuple[list[str], list[_Band]]:
    """Models by their larger share, and what flows between them, those beyond the largest as one."""
    size: dict[str, float] = defaultdict(float)
    now: dict[str, float] = defaultdict(float)
    for move in moves:
        now[move.model] += move.share
        size[move.goes_to] += move.share
    ordered = sorted({*now, *size}, key=lambda name: (-max(now[name], size[name]), name))
    keep = ordered if len(ordered) <= MAX_MODELS else ordered[: MAX_MODELS - 1]
    place = {name: number for number, name in enumerate(keep)}
    rest = len(ordered) - len(keep)
    joint: dict[tuple[int, int], float] = defaultdict(float)
    for move in moves:
        joint[place.get(move.model, len(keep)), place.get(move.goes_to, len(keep))] += move.share
    names = [*keep, f"{rest} others"] if rest else list(keep)
    return names, [_Band(start, end, share) for (start, end), share in sorted(joint.items()) if share > 0]


def _tops(shares: Sequence[float]) -> list[float]:
    """Where each stack begins, pixels from the top."""
    tops, y = [], HEAD
    for share in shares:
        tops.append(y)
        y += share * HEIGHT_OF_ALL + GAP
    return tops


def _curves(bands: Sequence[_Band], left: Sequence[float], right: Sequence[float]) -> list[Row]:
    """Points along each band, which leaves and enters its stacks in the order of the stacks at its other end."""
    left_free, right_free = list(left), list(right)
    starts: dict[tuple[int, int], float] = {}
    ends: dict[tuple[int, int], float] = {}
    for band in sorted(bands, key=lambda each: (each.now, each.then)):
        starts[band.now, band.then] = left_free[band.now]
        left_free[band.now] += band.share * HEIGHT_OF_ALL
    for band in sorted(bands, key=lambda each: (each.then, each.now)):
        ends[band.now, band.then] = right_free[band.then]
        right_free[band.then] += band.share * HEIGHT_OF_ALL
    rows: list[Row] = []
    # What moves is drawn last, over what stays.
    for number, band in enumerate(sorted(bands, key=lambda each: (each.now != each.then, -each.share))):
        start, end = starts[band.now, band.then], ends[band.now, band.then]
        for point in range(CURVE + 1):
            x = point / CURVE
            y = start + (end - start) * x * x * (3 - 2 * x)
            kind = STAYS if band.now == band.then else MOVES
            rows.append({"band": number, "kind": kind, "x": x, "top": y, "foot": y + band.share * HEIGHT_OF_ALL})
    return rows


def _ribbons(rows: Sequence[Row], height: float) -> alt.Chart:
    import altair as alt

    kinds = [kind for kind in (STAYS, MOVES) if any(row["kind"] == kind for row in rows)]
    colours = [QUIET if kind == STAYS else MAIN for kind in kinds]
    strengths = [0.35 if kind == STAYS else 0.5 for kind in kinds]
    made: alt.Chart = (
        rows_of(rows)
        .mark_area(strokeWidth=0.7, interpolate="monotone")
        .encode(
            x=alt.X("x:Q", scale=alt.Scale(domain=[-SIDE, 1 + SIDE], nice=False), axis=None),
            y=alt.Y("top:Q", scale=alt.Scale(domain=[height, 0], nice=False, zero=False), axis=None),
            y2="foot:Q",
            detail="band:N",
            fill=alt.Fill("kind:N", scale=alt.Scale(domain=kinds, range=colours)),
            stroke=alt.Stroke("kind:N", scale=alt.Scale(domain=kinds, range=colours)),
            fillOpacity=alt.FillOpacity("kind:N", scale=alt.Scale(domain=kinds, range=strengths)),
        )
    )
    return made


def _stacks(shown: Sequence[str], shares: Sequence[float], x: float, align: Literal["left", "right"]) -> list[alt.Chart]:
    """The stacks of one side, and beside each its model with its share."""
    outside = -0.022 if x == 0 else 1.022
    rows = [
        {
            "x": min(x, outside),
            "x2": max(x, outside),
            "top": top,
            "foot": top + max(share * HEIGHT_OF_ALL, 1.0),
            "beside": outside,
            "middle": top + share * HEIGHT_OF_ALL / 2,
            "label": f"{label}  {text.percent(share)}",
        }
        for label, share, top in zip(shown, shares, _tops(shares), strict=True)
        if share > 0
    ]
    base = rows_of(rows)
    return [
        base.mark_rect(color=INK).encode(x="x:Q", x2="x2:Q", y="top:Q", y2="foot:Q"),
        base.mark_text(align=align, dx=6 if align == "left" else -6).encode(x="beside:Q", y="middle:Q", text="label:N"),
    ]


def _heads() -> alt.Chart:
    rows = [{"x": 0.0, "y": 8, "label": "Share of requests today"}, {"x": 1.0, "y": 8, "label": "proposed"}]
    made: alt.Chart = rows_of(rows).mark_text(fontWeight="bold").encode(x="x:Q", y="y:Q", text="label:N")
    return made


def _text(moved: Sequence[ModelMove], names: Sequence[str], now: Sequence[float], then: Sequence[float]) -> str:
    largest = [
        f"{text.percent(move.share)} from {text.name(move.model, LONGEST)} to {text.name(move.goes_to, LONGEST)}"
        for move in moved[:NAMED_MOVES]
    ]
    more = len(moved) - len(largest)
    flows = "; ".join(largest) + (f"; and {more} smaller flows" if more > 0 else "")
    changes = sorted(zip(names, now, then, strict=True), key=lambda each: (-abs(each[2] - each[1]), each[0]))
    sentence = ", ".join(
        f"{text.name(name, LONGEST)} {text.percent(a)} today, {text.percent(b)} then" for name, a, b in changes[:NAMED_MOVES]
    )
    return f"{text.percent(math.fsum(move.share for move in moved))} of requests would change model: {flows}. Largest changes of share: {sentence}."
