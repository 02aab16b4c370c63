"""Quality against cost: what could be had for what, and where today, the proposal and single models stand.

Belongs here: this one picture. Does not belong here: which policies there are and what they cost (`tradeoff_frontier`).
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

from routing_pipeline import text
from routing_pipeline.estimates import Estimate, Unidentifiable
from routing_pipeline.recommendation.tradeoff_frontier import FrontierPoint, TradeoffFrontier
from routing_pipeline.report.charts.drawing import WIDTH, Chart, Row, at_most, layered, rows_of
from routing_pipeline.report.charts.palette import INK, MAIN, MARK, PAPER, QUIET

if TYPE_CHECKING:
    import altair as alt

MAX_POLICIES = 60
MAX_SINGLES = 12
HEIGHT = 360
LOGARITHMIC_FROM = 6.0
"""Ratio of the most expensive to the cheapest point from which the cost axis is logarithmic."""

POLICY, SINGLE, RANDOM, TODAY, PROPOSED = "Best trade-offs", "One model for all", "Models at random", "Today", "Proposed"
OPTION = "To choose from"
COLOURS = {POLICY: MAIN, SINGLE: QUIET, RANDOM: QUIET, TODAY: MARK, PROPOSED: MAIN, OPTION: MAIN}
SHAPES = {POLICY: "circle", SINGLE: "triangle-up", RANDOM: "cross", TODAY: "diamond", PROPOSED: "square", OPTION: "square"}
SIZES = {POLICY: 26, SINGLE: 110, RANDOM: 90, TODAY: 170, PROPOSED: 150, OPTION: 150}


@dataclass(frozen=True)
class Point:
    """A policy that both axes can place; cost in USD per 1,000 requests."""

    kind: str
    label: str
    cost: Estimate
    quality: Estimate


def points(found: TradeoffFrontier) -> list[Point]:
    """All policies that the logs can place, those drawn on top last."""
    kinds: list[tuple[str, Iterable[FrontierPoint | None]]] = [
        (POLICY, [point for point in found.points if point.kind == "policy"][:MAX_POLICIES]),
        (SINGLE, found.single_models[:MAX_SINGLES]),
        (RANDOM, [found.random_mix]),
        (TODAY, [found.today]),
        (PROPOSED, [found.proposed]),
    ]
    return [
        Point(kind, _label(kind, point), point.cost_usd.scaled(1000), point.quality)
        for kind, given in kinds
        for point in given
        if point is not None and isinstance(point.cost_usd, Estimate) and isinstance(point.quality, Estimate)
    ]


def _label(kind: str, point: FrontierPoint) -> str:
    """Of a single model its name alone, which is what tells it from the others."""
    if kind in {TODAY, PROPOSED}:
        return kind
    if kind == RANDOM:
        return "two models at random"
    if kind == SINGLE and point.mix:
        return text.name(point.mix[0].model, 24)
    return text.name(point.label, 24)


def unplaced(found: TradeoffFrontier) -> list[str]:
    """Single models of which the logs cannot tell what they would cost or deliver."""
    return [
        point.mix[0].model if point.mix else point.label
        for point in found.single_models
        if isinstance(point.cost_usd, Unidentifiable) or isinstance(point.quality, Unidentifiable)
    ]


def frontier(found: TradeoffFrontier) -> Chart | None:
    """Quality against cost with intervals as crosses; None when there is nothing but today."""
    shown = points(found)
    if len(shown) < 2:
        return None
    return Chart("Cost against quality", _text(found, shown), (found,), lambda: drawn_on(shown))


def drawn_on(drawn: Sequence[Point], height: float = HEIGHT) -> alt.LayerChart:
    """Points in the plane of cost and quality, those last on top."""
    plane = _plane(drawn, height)
    rows = [_row(point, plane) for point in drawn]
    kinds = [kind for kind in COLOURS if any(row["kind"] == kind for row in rows)]
    policies, others = [row for row in rows if row["kind"] == POLICY], [row for row in rows if row["kind"] != POLICY]
    layers = [*_curve(policies), *_crosses(policies, 0.3), *_crosses(others, 0.9)]
    layers += [_dots([row for row in rows if row["kind"] == kind], kinds, plane) for kind in kinds]
    layers += _names([point for point in drawn if point.kind != POLICY], drawn, plane)
    return layered(layers, height)


@dataclass(frozen=True)
class _Plane:
    """What the axes span; cost in USD per 1,000 requests, quality 0..1."""

    cost: tuple[float, float]
    quality: tuple[float, float]
    logarithmic: bool
    height: float

    def place(self, point: Point) -> tuple[float, float]:
        """Pixels from the lower left corner, roughly: the axis takes some of the width."""
        low, high = (math.log(end) for end in self.cost) if self.logarithmic else self.cost
        cost = math.log(point.cost.estimate) if self.logarithmic else point.cost.estimate
        up = (point.quality.estimate - self.quality[0]) / (self.quality[1] - self.quality[0])
        return (cost - low) / (high - low) * (WIDTH - 60), up * self.height


def _plane(drawn: Sequence[Point], height: float) -> _Plane:
    least, most = min(point.cost.estimate for point in drawn), max(point.cost.estimate for point in drawn)
    logarithmic = least > 0 and most / least > LOGARITHMIC_FROM
    dearest = max(point.cost.high for point in drawn)
    if logarithmic:
        cost = max(min(point.cost.low for point in drawn), least * 0.7) / 1.15, dearest * 1.25
    else:
        cheapest = max(min(point.cost.low for point in drawn), 0.0)
        margin = 0.06 * (dearest - cheapest) or 0.5
        cost = max(cheapest - margin, 0.0), dearest + 2 * margin
    worst, best = min(point.quality.low for point in drawn), max(point.quality.high for point in drawn)
    margin = 0.06 * (best - worst) or 0.01
    return _Plane(cost, (max(worst - margin, 0.0), min(best + margin, 1.0)), logarithmic, height)


def _row(point: Point, plane: _Plane) -> Row:
    return {
        "kind": point.kind,
        "cost": point.cost.estimate,
        "cost_low": max(point.cost.low, plane.cost[0]),
        "cost_high": point.cost.high,
        "quality": point.quality.estimate,
        "quality_low": max(point.quality.low, plane.quality[0]),
        "quality_high": min(point.quality.high, plane.quality[1]),
    }


def _curve(policies: Sequence[Row]) -> list[alt.Chart]:
    """The frontier as a line in the band of its intervals of quality."""
    if len(policies) < 2:
        return []
    by_cost = rows_of(sorted(policies, key=lambda row: float(row["cost"])))
    return [
        by_cost.mark_area(color=MAIN, opacity=0.13).encode(x="cost:Q", y="quality_low:Q", y2="quality_high:Q"),
        by_cost.mark_line(color=MAIN, opacity=0.7, strokeWidth=1.5).encode(x="cost:Q", y="quality:Q"),
    ]


def _crosses(rows: Sequence[Row], strength: float) -> list[alt.Chart]:
    if not rows:
        return []
    base = rows_of(rows)
    return [
        base.mark_rule(opacity=strength, color=INK, strokeWidth=1).encode(x="cost_low:Q", x2="cost_high:Q", y="quality:Q"),
        base.mark_rule(opacity=strength, color=INK, strokeWidth=1).encode(x="cost:Q", y="quality_low:Q", y2="quality_high:Q"),
    ]


def _dots(rows: Sequence[Row], kinds: Sequence[str], plane: _Plane) -> alt.Chart:
    import altair as alt

    ticks = {"values": _round_values(*plane.cost)} if plane.logarithmic else {"tickCount": 6}
    unit = "Cost, USD per 1,000 requests" + (" (logarithmic)" if plane.logarithmic else "")
    made: alt.Chart = (
        rows_of(rows)
        .mark_point(filled=True, size=SIZES[str(rows[0]["kind"])], opacity=1, stroke=PAPER, strokeWidth=0.8)
        .encode(
            x=alt.X(
                "cost:Q",
                scale=alt.Scale(domain=list(plane.cost), nice=False, type="log" if plane.logarithmic else "linear"),
                axis=alt.Axis(format="$,.4~r", title=unit, **ticks),
            ),
            y=alt.Y(
                "quality:Q",
                scale=alt.Scale(domain=list(plane.quality), nice=False, zero=False),
                axis=alt.Axis(tickCount=6, title="Mean quality of successful answers, 0 to 1"),
            ),
            fill=alt.Fill("kind:N", scale=alt.Scale(domain=list(kinds), range=[COLOURS[kind] for kind in kinds])),
            shape=alt.Shape("kind:N", scale=alt.Scale(domain=list(kinds), range=[SHAPES[kind] for kind in kinds])),
        )
    )
    return made


def _round_values(low: float, high: float) -> list[float]:
    """1, 2 and 5 times powers of ten between two ends."""
    exponents = range(math.floor(math.log10(low)), math.ceil(math.log10(high)) + 1)
    return [step * 10.0**exponent for exponent in exponents for step in (1, 2, 5) if low <= step * 10.0**exponent <= high]


def _names(named: Sequence[Point], drawn: Sequence[Point], plane: _Plane) -> list[alt.Chart]:
    """A name beside each point, on the side where it covers neither another name nor a point."""
    taken = [(x - 5, y - 5, x + 5, y + 5) for x, y in (plane.place(point) for point in drawn)]
    by_side: dict[Side, list[Row]] = {}
    for point in sorted(named, key=lambda each: each.kind not in {TODAY, PROPOSED, OPTION}):
        x, y = plane.place(point)
        long = 6.4 * len(point.label)
        boxes = {
            (align, dx, dy): (x + dx - (long if align == "right" else 0), y - dy - 6, x + dx + (long if align == "left" else 0), y - dy + 6)
            for align, dx, dy in SIDES
        }
        free = {side: sum(_meet(box, other) for other in taken) + 9 * (box[0] < 0 or box[2] > WIDTH - 60) for side, box in boxes.items()}
        side = min(free, key=lambda each: free[each])
        taken.append(boxes[side])
        row = {"cost": point.cost.estimate, "quality": point.quality.estimate, "label": point.label}
        by_side.setdefault(side, []).append(row)
    return [
        rows_of(rows).mark_text(align=align, dx=dx, dy=dy, fontSize=11).encode(x="cost:Q", y="quality:Q", text="label:N")
        for (align, dx, dy), rows in by_side.items()
    ]


Side = tuple[Literal["left", "right"], int, int]
SIDES: tuple[Side, ...] = tuple(
    (align, away if align == "left" else -away, down)
    for down, away in ((-10, 9), (12, 9), (-24, 6), (26, 6))
    for align in ("left", "right")
)


def _meet(one: tuple[float, float, float, float], other: tuple[float, float, float, float]) -> bool:
    return one[0] < other[2] and other[0] < one[2] and one[1] < other[3] and other[1] < one[3]


def _text(found: TradeoffFrontier, drawn: Sequence[Point]) -> str:
    by_kind = {point.kind: point for point in drawn}
    sentences = [f"{kind}: {_said(by_kind[kind])}." for kind in (TODAY, PROPOSED) if kind in by_kind]
    policies = sum(point.kind == POLICY for point in drawn)
    if policies:
        sentences.append(f"{policies} policies are drawn that no other is estimated to beat in both cost and quality.")
    best = found.best_single_model
    if best is not None and isinstance(best.cost_usd, Estimate) and isinstance(best.quality, Estimate):
        point = Point(SINGLE, _label(SINGLE, best), best.cost_usd.scaled(1000), best.quality)
        sentences.append(f"Of single models {point.label} serves the goal best: {_said(point)}.")
    missing = unplaced(found)
    if missing:
        sentences.append(f"Not drawn, because the logs cannot tell: {at_most(missing, 4)} for everything.")
    return " ".join(sentences)


def _said(point: Point) -> str:
    cost, quality = text.measured(point.cost, text.usd), text.measured(point.quality, text.score)
    return f"{cost} per 1,000 requests at quality {quality}"
