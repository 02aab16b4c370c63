"""Spend day by day: where it is heading, what the budget allows, what went wrong when.

Belongs here: this one picture. Does not belong here: the slope (`daily_spend`), spikes, failures and falls of quality
(`cost_drivers`, `bottlenecks`, `quality_issues`).
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, date, datetime
from statistics import median
from typing import TYPE_CHECKING

from routing_pipeline.analysis.bottlenecks import Bottlenecks
from routing_pipeline.analysis.cost_drivers import DAYS_PER_MONTH, CostDrivers
from routing_pipeline.analysis.daily_spend import CostTrend, DayCost
from routing_pipeline.analysis.quality_issues import QualityIssues
from routing_pipeline.analysis.routing_costs import RoutingCosts
from routing_pipeline.estimates import Estimate
from routing_pipeline.report import wording
from routing_pipeline.report.charts.drawing import LABEL_LENGTH, WIDTH, Chart, Row, layered, rows_of
from routing_pipeline.report.charts.palette import INK, MAIN, MARK, PAPER, QUIET
from routing_pipeline.scope import AnalysisScope

if TYPE_CHECKING:
    import altair as alt

HOURS_SHOWN_ONE_BY_ONE = 48
MARKED = 5
"""Most incidents of one kind that are marked."""
LABELLED_BARS = 16
BUDGET_IN_SIGHT = 3.0
"""A budget line this many times above the dearest day would press the bars flat; the words name it instead."""
SECONDS_PER_DAY = 86_400.0
SECONDS_PER_HOUR = 3_600.0

THIS, BEFORE, PARTIAL = "This window", "Window before", "Logs do not cover all of it"


@dataclass(frozen=True)
class Step:
    """Spend in one day or one hour."""

    label: str
    start_s: float
    spend_usd: float
    kind: str


@dataclass(frozen=True)
class Incident:
    """Something that an analysis found at a moment of the window."""

    kind: str
    at_s: float
    text: str


SPIKE, FAILURE, QUALITY = "Cost spike", "Failures", "Fall of quality"
SHAPES = {SPIKE: "triangle-up", FAILURE: "cross", QUALITY: "triangle-down"}


def is_hourly(costs: RoutingCosts) -> bool:
    """A short window is shown hour by hour."""
    return len(costs.hours) <= HOURS_SHOWN_ONE_BY_ONE


def steps(costs: RoutingCosts, scope: AnalysisScope) -> list[Step]:
    """Hours of a short window; UTC days of a long one and of the window before it, as far as there are logs."""
    if is_hourly(costs):
        return [
            Step(f"{hour.hour:%a %H:%M}", hour.hour.timestamp(), hour.cost_usd, THIS if hour.covered > 0.99 else PARTIAL)
            for hour in costs.hours
        ]
    return [
        Step(_day(day.day) + ("" if day.complete else " *"), _start_s(day.day), day.cost_usd, _kind(day, scope))
        for day in costs.days
        if day.cost_usd > 0 or day.complete
    ]


def _kind(day: DayCost, scope: AnalysisScope) -> str:
    if not day.complete:
        return PARTIAL
    return THIS if _start_s(day.day) + SECONDS_PER_DAY > scope.start_s + 60 else BEFORE


def _day(day: date) -> str:
    return f"{day:%a} {day.day} {day:%b}"


def _start_s(day: date) -> float:
    return datetime(day.year, day.month, day.day, tzinfo=UTC).timestamp()


def incidents(drivers: CostDrivers | None, jams: Bottlenecks | None, issues: QualityIssues | None) -> list[Incident]:
    """The strongest cost spikes, failures and falls of quality, in order of time."""
    found: list[Incident] = []
    for spike in drivers.spikes[:MARKED] if drivers else ():
        spent = f"{wording.usd(spike.spend_usd)} in {spike.hours} hour(s) instead of {wording.measured(spike.expected_usd, wording.usd, brief=True)}"
        found.append(Incident(SPIKE, spike.start.timestamp(), f"{wording.moment(spike.start)} {spent}"))
    for each in jams.incidents[:MARKED] if jams else ():
        failed = (
            f"{wording.measured(each.error_rate, wording.percent, brief=True)} of calls to {wording.name(each.model, LABEL_LENGTH)} failed"
        )
        found.append(Incident(FAILURE, each.start.timestamp(), f"{wording.moment(each.start)} {failed}"))
    for fall in _falls(issues)[:MARKED]:
        lost = f"quality of {wording.name(fall[0], LABEL_LENGTH)} changed by {wording.measured(fall[2], wording.points)}"
        found.append(Incident(QUALITY, fall[1], f"{wording.moment(fall[1])} {lost}"))
    return sorted(found, key=lambda each: (each.at_s, each.kind, each.text))


def _falls(issues: QualityIssues | None) -> list[tuple[str, float, Estimate]]:
    """Falls of quality, strongest evidence first: one of a model over all its tasks stands for those on single tasks."""
    found: dict[tuple[str, float], Estimate] = {}
    worse = [each for each in issues.degradations if each.kind != "until" and each.size.high < 0] if issues else []
    for each in sorted(worse, key=lambda fall: fall.task_type is not None):
        found.setdefault((each.model, each.start.timestamp()), each.size)
    return [(model, at_s, size) for (model, at_s), size in found.items()]


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
    allowed = None if budget is None else budget / DAYS_PER_MONTH * length / SECONDS_PER_DAY
    in_sight = allowed is not None and allowed <= BUDGET_IN_SIGHT * top
    ceiling = max(top, allowed if in_sight and allowed is not None else 0.0) * (1.3 if marked else 1.12)
    layers = [_bars(found, length, ceiling)]
    if not is_hourly(costs):
        layers += _trend(costs.trend, costs.days, ceiling)
    if in_sight and allowed is not None:
        layers += _budget(allowed, begin, end)
    if len(found) <= LABELLED_BARS:
        layers.append(_values(found, length))
    if marked:
        layers += _marked(marked, found, length, ceiling)
    return Chart("Cost over time", _text(found, costs, scope, allowed, marked), layered(layers, 250))


def _x(length: float, found: Sequence[Step]) -> alt.X:
    import altair as alt

    every = max(1, -(-len(found) // 9))
    # An hour is named by its beginning, a day by its middle.
    at = 0.0 if length == SECONDS_PER_HOUR else length / 2
    named = [(step.start_s + at) * 1000 for step in found[::every]]
    form = "%H:%M" if length == SECONDS_PER_HOUR else "%a %-d %b"
    domain = [found[0].start_s * 1000, (found[-1].start_s + length) * 1000]
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


def _bars(found: Sequence[Step], length: float, ceiling: float) -> alt.Chart:
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
            x=_x(length, found),
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


def _trend(trend: CostTrend, days: Sequence[DayCost], ceiling: float) -> list[alt.Chart]:
    """The slope and the wedge of its interval through the middle of the days that it rests on; nothing where it cannot be told."""
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

    rows = [at(day.day) for day in used]
    band = rows_of(rows).mark_area(color=INK, opacity=0.14).encode(x="from:T", y="low:Q", y2="high:Q")
    rim = rows_of(rows).mark_line(color=PAPER, strokeWidth=5).encode(x="from:T", y="usd:Q")
    line = rows_of(rows).mark_line(color=INK, strokeWidth=2).encode(x="from:T", y="usd:Q")
    said = [{**rows[-1], "shown": f"trend {_signed_usd(slope.estimate)} a day"}]
    name = (
        rows_of(said).mark_text(align="right", dx=-4, dy=-9, fontSize=11, fontWeight="bold").encode(x="from:T", y="usd:Q", text="shown:N")
    )
    return [band, rim, line, name]


def _signed_usd(value: float) -> str:
    return f"+{wording.usd(value)}" if value > 0 else wording.usd(value)


def _budget(allowed: float, begin: float, end: float) -> list[alt.Chart]:
    rows = [{"from": begin * 1000, "to": end * 1000, "usd": allowed, "shown": f"budget {_rounded(allowed)}"}]
    base = rows_of(rows)
    return [
        base.mark_rule(color=PAPER, strokeWidth=4.5).encode(x="from:T", x2="to:T", y="usd:Q"),
        base.mark_rule(color=INK, strokeWidth=1.8, strokeDash=[7, 4]).encode(x="from:T", x2="to:T", y="usd:Q"),
        base.mark_text(align="right", dx=-4, dy=-9, fontSize=11, fontWeight="bold").encode(x="to:T", y="usd:Q", text="shown:N"),
    ]


def _rounded(usd: float) -> str:
    """Dollars for a label: without cents where they are less than a hundredth of it."""
    return f"${usd:,.0f}" if usd >= 100 else wording.usd(usd)


def _marked(marked: Sequence[Incident], found: Sequence[Step], length: float, ceiling: float) -> list[alt.Chart]:
    """Symbols above the bars, numbered as the words name them; those too close to stand side by side stand one above another."""
    import altair as alt

    rows: list[Row] = []
    levels: list[float] = []
    close = 26 / WIDTH * (marked[-1].at_s - marked[0].at_s)
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
    inside = [step for step in found if step.kind != BEFORE]
    whole = [step for step in inside if step.kind == THIS] or inside
    dearest, cheapest = max(whole, key=lambda step: step.spend_usd), min(whole, key=lambda step: step.spend_usd)
    told = [
        f"Spend came to {wording.usd(math.fsum(step.spend_usd for step in inside))} over {len(inside)} {unit}s:",
        f"most on {dearest.label} with {wording.usd(dearest.spend_usd)}, least on {cheapest.label} with {wording.usd(cheapest.spend_usd)}.",
    ]
    if allowed is not None and scope.parameters.budget is not None:
        over = sum(step.spend_usd > allowed for step in whole)
        told.append(
            f"{over} of {len(whole)} {unit}s spent more than the budget's {wording.usd(allowed)} per {unit} "
            f"({wording.usd(scope.parameters.budget)} per month)."
        )
    if unit == "day":
        told.append(_trend_in_words(costs.trend))
    if marked:
        told.append("Marked: " + "; ".join(f"{number}: {each.text}" for number, each in enumerate(marked, 1)) + ".")
    return " ".join(told)


def _trend_in_words(trend: CostTrend) -> str:
    if trend.direction == "cannot tell":
        return f"No trend is drawn: {wording.printable(trend.explanation)}."
    slope = trend.slope_usd_per_day
    return f"Weekday spend is {trend.direction}, by {wording.measured(slope, _signed_usd)} a day."
