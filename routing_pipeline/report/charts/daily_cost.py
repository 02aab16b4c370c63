"""Spend day by day: where it is heading, what the budget allows, what went wrong when.

Belongs here: this one picture. Does not belong here: the slope (`daily_spend`), what counts as an incident (`incidents`).
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, date, datetime
from statistics import median
from typing import TYPE_CHECKING

from routing_pipeline import text
from routing_pipeline.analysis.bottlenecks import Bottlenecks
from routing_pipeline.analysis.cost_drivers import CostDrivers
from routing_pipeline.analysis.daily_spend import CostTrend, DayCost
from routing_pipeline.analysis.quality_issues import QualityIssues
from routing_pipeline.analysis.routing_costs import RoutingCosts
from routing_pipeline.clock import DAYS_PER_BUDGET_MONTH, SECONDS_PER_DAY, SECONDS_PER_HOUR
from routing_pipeline.estimates import Estimate
from routing_pipeline.report.charts.drawing import WIDTH, Chart, Row, layered, rows_of
from routing_pipeline.report.charts.incidents import SHAPES, Incident, incidents
from routing_pipeline.report.charts.palette import INK, MAIN, MARK, PAPER, QUIET
from routing_pipeline.window.scope import AnalysisScope

if TYPE_CHECKING:
    import altair as alt

HOURS_SHOWN_ONE_BY_ONE = 48
LABELLED_BARS = 10
BUDGET_IN_SIGHT = 3.0
"""A budget line this many times above the most expensive day would press the bars flat; the words name it instead."""
NAMES_OF_LINES = 0.11
"""Room for the names of lines, in widths of the bars."""

THIS, BEFORE, PARTIAL = "This window", "Window before", "Partly logged"


@dataclass(frozen=True)
class Line:
    """A line with its name at its end."""

    usd: float
    name: str


@dataclass(frozen=True)
class Step:
    """Spend in one day or one hour."""

    label: str
    start_s: float
    spend_usd: float
    kind: str
    is_inside: bool
    """Of the window, not of the one before."""


def is_hourly(costs: RoutingCosts) -> bool:
    """A short window is shown hour by hour."""
    return len(costs.hours) <= HOURS_SHOWN_ONE_BY_ONE


def steps(costs: RoutingCosts, scope: AnalysisScope) -> list[Step]:
    """Hours of a short window; UTC days of a long one and of the window before it, as far as there are logs."""
    if is_hourly(costs):
        return [
            Step(f"{hour.hour:%a %H:%M}", hour.hour.timestamp(), hour.cost_usd, THIS if hour.covered > 0.99 else PARTIAL, is_inside=True)
            for hour in costs.hours
        ]
    return [
        Step(_day(day.day) + ("" if day.complete else " *"), _start_s(day.day), day.cost_usd, _kind(day, scope), _is_inside(day, scope))
        for day in costs.days
        if day.cost_usd > 0 or day.complete
    ]


def _kind(day: DayCost, scope: AnalysisScope) -> str:
    if not day.complete:
        return PARTIAL
    return THIS if _is_inside(day, scope) else BEFORE


def _is_inside(day: DayCost, scope: AnalysisScope) -> bool:
    # A window that begins a second before midnight has no day more.
    return _start_s(day.day) + SECONDS_PER_DAY > scope.start_s + 60


def is_cut(step: Step, scope: AnalysisScope) -> bool:
    """Whether a day begins before the window does."""
    return step.start_s + 60 < scope.start_s


def _day(day: date) -> str:
    return f"{day:%a} {day.day} {day:%b}"


def _start_s(day: date) -> float:
    return datetime(day.year, day.month, day.day, tzinfo=UTC).timestamp()


def daily_cost(
    costs: RoutingCosts,
    scope: AnalysisScope,
    drivers: CostDrivers | None = None,
    jams: Bottlenecks | None = None,
    issues: QualityIssues | None = None,
) -> Chart | None:
    """Spend per day (per hour in a short window) with trend, budget and incidents; None below two steps with a price."""
    found = steps(costs, scope)
    if len(found) < 2 or not any(step.spend_usd > 0 for step in found):
        return None
    length = SECONDS_PER_HOUR if is_hourly(costs) else SECONDS_PER_DAY
    begin, end = found[0].start_s, found[-1].start_s + length
    marked = [each for each in incidents(drivers, jams, issues) if begin <= each.at_s < end]
    top = max(step.spend_usd for step in found)
    budget = scope.parameters.budget
    allowed = None if budget is None else budget / DAYS_PER_BUDGET_MONTH * length / SECONDS_PER_DAY
    in_sight = allowed is not None and allowed <= BUDGET_IN_SIGHT * top
    ceiling = max(top, allowed if in_sight and allowed is not None else 0.0) * (1.36 if marked else 1.12)
    trend = [] if is_hourly(costs) else _trend(costs.trend, costs.days, ceiling)
    lines = [Line(float(trend[-1]["usd"]), f"trend\n{text.signed_usd(_slope(costs.trend))}\na day")] if trend else []
    if in_sight and allowed is not None:
        lines.append(Line(allowed, f"budget\n{_rounded(allowed)}"))
    # The names of the lines stand to the right of the bars.
    room = NAMES_OF_LINES * (end - begin) if lines else 0.0

    def drawn() -> alt.LayerChart:
        layers = [_bars(found, length, ceiling, end + room)]
        if trend:
            layers += _wedge(trend)
        if in_sight and allowed is not None:
            layers += _budget(allowed, begin, end)
        if lines:
            layers.append(_names(lines, end, ceiling))
        if len(found) <= LABELLED_BARS and not trend:
            layers.append(_values(found, length))
        if marked:
            layers += _marked(marked, found, length, ceiling)
        return layered(layers, 250)

    return Chart("Cost over time", _text(found, costs, scope, allowed, marked), (costs, scope, drivers, jams, issues), drawn)


def _x(length: float, found: Sequence[Step], end: float) -> alt.X:
    import altair as alt

    every = max(1, -(-len(found) // 9))
    # An hour is named by its beginning, a day by its middle.
    at = 0.0 if length == SECONDS_PER_HOUR else length / 2
    named = [(step.start_s + at) * 1000 for step in found[::every]]
    form = "%H:%M" if length == SECONDS_PER_HOUR else "%a %-d %b"
    domain = [found[0].start_s * 1000, end * 1000]
    return alt.X(
        "from:T",
        scale=alt.Scale(type="utc", domain=domain, nice=False),
        axis=alt.Axis(
            values=named, format=form, grid=False, title="Hour, UTC" if length == SECONDS_PER_HOUR else "Day, UTC", labelFlush=False
        ),
    )


def _y(ceiling: float, unit: str) -> alt.Y:
    import altair as alt

    return alt.Y(
        "usd:Q",
        scale=alt.Scale(domain=[0, ceiling], nice=False),
        axis=alt.Axis(format="$,.4~r", tickCount=5, title=f"USD per {unit}"),
    )


def _bars(found: Sequence[Step], length: float, ceiling: float, end: float) -> alt.Chart:
    import altair as alt

    gap = 0.12 * length
    rows = [
        {
            "from": (step.start_s + gap) * 1000,
            "to": (step.start_s + length - gap) * 1000,
            "usd": step.spend_usd,
            "zero": 0,
            "kind": step.kind,
        }
        for step in found
    ]
    kinds = [kind for kind in (THIS, BEFORE, PARTIAL) if any(step.kind == kind for step in found)]
    fills, strokes = {THIS: MAIN, BEFORE: QUIET, PARTIAL: PAPER}, {THIS: MAIN, BEFORE: QUIET, PARTIAL: INK}
    legend = alt.Legend() if len(kinds) > 1 else None
    made: alt.Chart = (
        rows_of(rows)
        .mark_rect(strokeWidth=1, strokeJoin="round")
        .encode(
            x=_x(length, found, end),
            x2="to:T",
            y=_y(ceiling, "hour" if length == SECONDS_PER_HOUR else "day"),
            y2="zero:Q",
            fill=alt.Fill("kind:N", scale=alt.Scale(domain=kinds, range=[fills[kind] for kind in kinds]), legend=legend),
            stroke=alt.Stroke("kind:N", scale=alt.Scale(domain=kinds, range=[strokes[kind] for kind in kinds]), legend=legend),
            strokeDash=alt.StrokeDash(
                "kind:N", scale=alt.Scale(domain=kinds, range=[[3, 3] if kind == PARTIAL else [1, 0] for kind in kinds]), legend=legend
            ),
        )
    )
    return made


def _values(found: Sequence[Step], length: float) -> alt.Chart:
    rows = [{"from": (step.start_s + length / 2) * 1000, "usd": step.spend_usd, "shown": _rounded(step.spend_usd)} for step in found]
    size = 11 if len(found) <= 10 else 9
    made: alt.Chart = rows_of(rows).mark_text(dy=-6, fontSize=size).encode(x="from:T", y="usd:Q", text="shown:N")
    return made


def _slope(trend: CostTrend) -> float:
    return trend.slope_usd_per_day.estimate if isinstance(trend.slope_usd_per_day, Estimate) else 0.0


def _trend(trend: CostTrend, days: Sequence[DayCost], ceiling: float) -> list[Row]:
    """The slope and the ends of its interval through the middle of the days that it rests on; nothing where it cannot be told."""
    slope = trend.slope_usd_per_day
    used = [day for day in days if day.complete and day.day.weekday() < 5]
    if trend.direction == "cannot tell" or not isinstance(slope, Estimate) or len(used) < 2:
        return []
    centre, level = median(day.day.toordinal() for day in used), median(day.cost_usd for day in used)

    def at(day: date) -> Row:
        away = day.toordinal() - centre
        low, high = sorted((level + slope.low * away, level + slope.high * away))
        ends = {"usd": level + slope.estimate * away, "low": low, "high": high}
        return {"from": (_start_s(day) + SECONDS_PER_DAY / 2) * 1000} | {name: min(max(usd, 0.0), ceiling) for name, usd in ends.items()}

    return [at(day.day) for day in used]


def _wedge(rows: Sequence[Row]) -> list[alt.Chart]:
    base = rows_of(rows)
    return [
        base.mark_area(color=INK, opacity=0.16).encode(x="from:T", y="low:Q", y2="high:Q"),
        base.mark_line(color=PAPER, strokeWidth=5).encode(x="from:T", y="usd:Q"),
        base.mark_line(color=INK, strokeWidth=2).encode(x="from:T", y="usd:Q"),
    ]


def _names(lines: Sequence[Line], end: float, ceiling: float) -> alt.Chart:
    """What each line is, at its height unless another name stands there."""
    rows: list[Row] = []
    lowest = ceiling
    for line in sorted(lines, key=lambda each: -each.usd):
        usd = min(line.usd, lowest)
        rows.append({"from": end * 1000, "usd": usd, "shown": line.name})
        lowest = usd - 0.17 * ceiling
    made: alt.Chart = (
        rows_of(rows)
        .mark_text(align="left", baseline="middle", dx=6, fontSize=11, fontWeight="bold", lineBreak="\n")
        .encode(x="from:T", y="usd:Q", text="shown:N")
    )
    return made


def _budget(allowed: float, begin: float, end: float) -> list[alt.Chart]:
    rows = [{"from": begin * 1000, "to": end * 1000, "usd": allowed}]
    base = rows_of(rows)
    return [
        base.mark_rule(color=PAPER, strokeWidth=4.5).encode(x="from:T", x2="to:T", y="usd:Q"),
        base.mark_rule(color=INK, strokeWidth=1.8, strokeDash=[7, 4]).encode(x="from:T", x2="to:T", y="usd:Q"),
    ]


def _rounded(usd: float) -> str:
    """Dollars for a label: without cents where they are less than a hundredth of it."""
    return f"${usd:,.0f}" if usd >= 100 else text.usd(usd)


def _marked(marked: Sequence[Incident], found: Sequence[Step], length: float, ceiling: float) -> list[alt.Chart]:
    """Symbols above the bars, numbered as the words name them; those too close to stand side by side stand one above another."""
    import altair as alt

    rows: list[Row] = []
    levels: list[float] = []
    close = 28 / WIDTH * (found[-1].start_s + length - found[0].start_s)
    for number, each in enumerate(marked, 1):
        free = next((place for place, until in enumerate(levels) if each.at_s - until > close), len(levels))
        levels[free : free + 1] = [each.at_s]
        usd = ceiling * (0.96 - 0.075 * min(free, 3))
        bar = next(step.spend_usd for step in found if each.at_s < step.start_s + length)
        # The line ends above the bar's own number.
        foot = min(bar + 0.07 * ceiling, usd)
        rows.append({"from": each.at_s * 1000, "usd": usd, "foot": foot, "kind": each.kind, "number": str(number)})
    kinds = [kind for kind in SHAPES if any(each.kind == kind for each in marked)]
    down = rows_of(rows).mark_rule(color=MARK, strokeWidth=1, strokeDash=[2, 3]).encode(x="from:T", y="foot:Q", y2="usd:Q")
    dots = (
        rows_of(rows)
        .mark_point(filled=True, size=110, opacity=1, color=MARK)
        .encode(
            x="from:T",
            y="usd:Q",
            shape=alt.Shape(
                "kind:N",
                scale=alt.Scale(domain=kinds, range=[SHAPES[kind] for kind in kinds]),
                legend=alt.Legend(symbolFillColor=MARK, symbolStrokeColor=MARK),
            ),
        )
    )
    numbers = rows_of(rows).mark_text(dx=10, align="left", fontSize=11, fontWeight="bold").encode(x="from:T", y="usd:Q", text="number:N")
    return [down, dots, numbers]


def _text(found: Sequence[Step], costs: RoutingCosts, scope: AnalysisScope, allowed: float | None, marked: Sequence[Incident]) -> str:
    unit = "hour" if is_hourly(costs) else "day"
    inside = [step for step in found if step.is_inside]
    whole = [step for step in inside if step.kind == THIS] or inside
    dearest, cheapest = max(whole, key=lambda step: step.spend_usd), min(whole, key=lambda step: step.spend_usd)
    # A bar is a whole day; of the first one a part may belong to the window before, and the total of the window is without it.
    early = f", the hours of {inside[0].label} before the window included" if is_cut(inside[0], scope) and inside[0].kind == THIS else ""
    sentences = [
        f"Spend came to {text.usd(math.fsum(step.spend_usd for step in inside))} over {text.counted(len(inside), unit)}{early}:",
        f"most on {dearest.label} with {text.usd(dearest.spend_usd)}, least on {cheapest.label} with {text.usd(cheapest.spend_usd)}.",
    ]
    if allowed is not None and scope.parameters.budget is not None:
        over = sum(step.spend_usd > allowed for step in whole)
        sentences.append(
            f"{over} of {len(whole)} {unit}s spent more than the budget's {text.usd(allowed)} per {unit} "
            f"({text.usd(scope.parameters.budget)} per month)."
        )
    if unit == "day":
        sentences.append(_trend_in_words(costs.trend))
    if marked:
        sentences.append("Marked: " + "; ".join(f"{number}: {each.text}" for number, each in enumerate(marked, 1)) + ".")
    return " ".join(sentences)


def _trend_in_words(trend: CostTrend) -> str:
    if trend.direction == "cannot tell":
        return f"No trend is drawn: {text.printable(trend.explanation)}."
    slope = trend.slope_usd_per_day
    return f"Weekday spend is {trend.direction}, by {text.measured(slope, text.signed_usd)} a day."
