"""The report's charts: SVG without a browser or a network, each with its text alternative.

Belongs here: how a few dozen finished numbers become a picture. Does not belong here: where the numbers come from
(`figures` picks them out of the results), where the picture stands (the templates).

Labels come from logs. They reach Vega as data, never as an expression or a format string, shortened and without control
characters; its SVG writer escapes them.
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from routing_pipeline.estimates import Estimate
from routing_pipeline.report import wording

if TYPE_CHECKING:
    import altair as alt

WIDTH = 640
_CLIP = re.compile(r'((?:id="|url\(#)clip)(\d+)(?=["\)])')
MAX_BARS = 12
LABEL_LENGTH = 28

INK = "#3d4654"
GRID = "#d9dee7"
NOW = "#8b97a8"
PROPOSED = "#2563c9"
TODAY = "#c2571a"
COLOURS: dict[str, str] = {INK: "ink", GRID: "grid", NOW: "now", PROPOSED: "proposed", TODAY: "today"}
"""Colours of a chart by what they stand for; a page may replace them by its own (see `html`)."""


@dataclass(frozen=True)
class Chart:
    """A picture, and what it shows in words for those who do not see it."""

    title: str
    text: str
    svg: str


@dataclass(frozen=True)
class SpendPoint:
    """Spend in one step of time."""

    label: str
    start_s: float
    spend_usd: float


@dataclass(frozen=True)
class FrontierPoint:
    """One policy; `kind` is frontier, today, proposed or single."""

    label: str
    kind: str
    cost_usd: Estimate
    quality: Estimate


@dataclass(frozen=True)
class MixBar:
    """Share of requests of one model, now and recommended."""

    model: str
    now: float
    proposed: float


def _configured(chart: alt.TopLevelMixin) -> str:
    """Render with the house style; fonts are the reader's own, and nothing is fetched."""
    import vl_convert

    spec: dict[str, Any] = chart.to_dict()
    spec["config"] = {
        "background": "transparent",
        "font": "sans-serif",
        "view": {"stroke": None},
        "axis": {
            "labelColor": INK,
            "titleColor": INK,
            "labelFontSize": 12,
            "titleFontSize": 12,
            "titleFontWeight": "normal",
            "gridColor": GRID,
            "domainColor": GRID,
            "tickColor": GRID,
            "labelLimit": 220,
        },
        "legend": {
            "labelColor": INK,
            "titleColor": INK,
            "labelFontSize": 12,
            "orient": "top",
            "title": None,
            "symbolSize": 90,
            "symbolOpacity": 1,
        },
        "text": {"color": INK, "fontSize": 12},
        # Each chart has one text alternative; a label per bar would only be read out on top of it.
        "aria": False,
    }
    return _with_own_ids(vl_convert.vegalite_to_svg(spec, allowed_base_urls=[]))


def _with_own_ids(svg: str) -> str:
    """The renderer counts clipping paths over its lifetime; the same chart shall be the same bytes, alone on its page or not."""
    numbers: dict[str, int] = {}
    plain = _CLIP.sub(lambda found: f"{found[1]}{numbers.setdefault(found[2], len(numbers) + 1)}", svg)
    name = hashlib.md5(plain.encode(), usedforsecurity=False).hexdigest()[:8]
    return _CLIP.sub(rf"\g<1>-{name}-\2", plain)


def _data(rows: list[dict[str, Any]]) -> alt.InlineData:
    import altair as alt

    return alt.InlineData(values=rows)


def _label(text: str) -> str:
    return wording.name(text, LABEL_LENGTH)


def spend_over_time(points: Sequence[SpendPoint], step: str) -> Chart | None:
    """Bars of spend per step; None when fewer than two steps have a price."""
    import altair as alt

    if len(points) < 2:
        return None
    steps = [point.label for point in points]
    rows = [{"step": point.label, "usd": point.spend_usd} for point in points]
    bars = (
        alt.Chart(_data(rows), width=WIDTH, height=190)
        .mark_bar(color=PROPOSED, cornerRadiusEnd=2)
        .encode(
            x=alt.X(
                "step:N",
                sort=steps,
                title=None,
                axis=alt.Axis(labelAngle=0 if len(rows) <= 10 else -60, grid=False),
            ),
            y=alt.Y("usd:Q", title=f"USD per {step}", axis=alt.Axis(format="$,.4~r", tickCount=5)),
        )
    )
    top = max(points, key=lambda point: point.spend_usd)
    total = sum(point.spend_usd for point in points)
    text = (
        f"Spend per {step} over {len(points)} {step}s, {wording.usd(total)} in all; highest on {top.label} with {wording.usd(top.spend_usd)}, "
        f"lowest {wording.usd(min(point.spend_usd for point in points))}."
    )
    return Chart("Spend over time", text, _configured(bars))


KINDS = {"frontier": "Best trade-offs", "single": "One model for all", "today": "Today", "proposed": "Proposed"}


def frontier(points: Sequence[FrontierPoint]) -> Chart | None:
    """Quality against cost with intervals as crosses; None when there is nothing but today."""
    import altair as alt

    drawn = [point for point in points if point.kind in KINDS]
    if len(drawn) < 2:
        return None
    rows = [
        {
            "kind": KINDS[point.kind],
            "label": _label(point.label),
            "cost": point.cost_usd.estimate * 1000,
            "cost_low": max(point.cost_usd.low, 0.0) * 1000,
            "cost_high": point.cost_usd.high * 1000,
            "quality": point.quality.estimate,
            "quality_low": point.quality.low,
            "quality_high": point.quality.high,
        }
        for point in drawn
    ]
    rows.sort(key=lambda row: (list(KINDS.values()).index(str(row["kind"])), row["cost"]))
    kinds = [kind for kind in KINDS.values() if any(row["kind"] == kind for row in rows)]
    colour = dict(zip(KINDS.values(), (PROPOSED, NOW, TODAY, PROPOSED), strict=True))
    shape = dict(zip(KINDS.values(), ("circle", "triangle-up", "diamond", "square"), strict=True))
    base = alt.Chart(_data(rows), width=WIDTH, height=340)
    costs, qualities = "USD per 1,000 requests", "Mean quality of successful answers"
    x = alt.X("cost:Q", title=costs, scale=alt.Scale(zero=False, nice=True), axis=alt.Axis(format="$,.4~r", tickCount=6))
    y = alt.Y("quality:Q", title=qualities, scale=alt.Scale(zero=False, nice=True), axis=alt.Axis(tickCount=6))
    colours = alt.Color("kind:N", scale=alt.Scale(domain=kinds, range=[colour[kind] for kind in kinds]), sort=kinds)
    shapes = alt.Shape("kind:N", scale=alt.Scale(domain=kinds, range=[shape[kind] for kind in kinds]), sort=kinds)
    across = base.mark_rule(opacity=0.35).encode(x=alt.X("cost_low:Q", title=costs), x2="cost_high:Q", y=y, color=colours)
    up = base.mark_rule(opacity=0.35).encode(x=x, y=alt.Y("quality_low:Q", title=qualities), y2="quality_high:Q", color=colours)
    line = (
        base.transform_filter(alt.datum.kind == KINDS["frontier"])
        .mark_line(color=PROPOSED, opacity=0.5, strokeWidth=1.5)
        .encode(x=x, y=y, order="cost:Q")
    )
    dots = base.mark_point(filled=True, size=80, opacity=1).encode(x=x, y=y, color=colours, shape=shapes)
    named = base.transform_filter(alt.FieldOneOfPredicate("kind", [KINDS["single"], KINDS["today"], KINDS["proposed"]]))
    names = named.mark_text(align="left", dx=8, dy=-7, fontSize=11).encode(x=x, y=y, text="label:N")
    return Chart("Cost against quality", _frontier_text(drawn), _configured(line + across + up + dots + names))


def _frontier_text(points: Sequence[FrontierPoint]) -> str:
    told = [
        f"{sum(point.kind == 'frontier' for point in points)} policies that no other beats, by cost per 1,000 requests and mean quality."
    ]
    told += [
        f"{KINDS[point.kind]}: {wording.usd(point.cost_usd.estimate * 1000)} at quality {wording.score(point.quality.estimate)}."
        for point in points
        if point.kind in {"today", "proposed"}
    ]
    return " ".join(told)


def model_mix(bars: Sequence[MixBar]) -> Chart | None:
    """Share of requests per model, now beside proposed; the smallest models become one bar."""
    import altair as alt

    if not bars:
        return None
    ordered = sorted(bars, key=lambda bar: (-max(bar.now, bar.proposed), bar.model))
    shown = [(_label(bar.model), bar.now, bar.proposed) for bar in ordered[:MAX_BARS]]
    rest = ordered[MAX_BARS:]
    if rest:
        shown.append((f"{len(rest)} others", sum(bar.now for bar in rest), sum(bar.proposed for bar in rest)))
    # Two names may read the same once shortened; the place keeps their bars apart.
    labels = [
        f"{label} ({place})" if [each[0] for each in shown].count(label) > 1 else label for place, (label, _, _) in enumerate(shown, 1)
    ]
    rows = [
        {"model": label, "when": when, "share": share, "shown": wording.percent(share)}
        for label, (_, now, proposed) in zip(labels, shown, strict=True)
        for when, share in (("Now", now), ("Proposed", proposed))
    ]
    base = alt.Chart(_data(rows), width=WIDTH - 160, height=alt.Step(15))
    y = alt.Y("model:N", sort=labels, title=None, axis=alt.Axis(grid=False, ticks=False, domain=False), scale=alt.Scale(paddingInner=0.35))
    offset = alt.YOffset("when:N", sort=["Now", "Proposed"])
    top = max((row["share"] for row in rows if isinstance(row["share"], float)), default=1.0)
    x = alt.X(
        "share:Q",
        title="Share of requests",
        scale=alt.Scale(domain=[0, min(top * 1.12, 1.08) or 1.0], nice=False),
        axis=alt.Axis(format=".0%", tickCount=5),
    )
    colour = alt.Color("when:N", scale=alt.Scale(domain=["Now", "Proposed"], range=[NOW, PROPOSED]), sort=["Now", "Proposed"])
    drawn = base.mark_bar(cornerRadiusEnd=2).encode(x=x, y=y, yOffset=offset, color=colour)
    texts = base.mark_text(align="left", dx=4, fontSize=11).encode(x=x, y=y, yOffset=offset, text="shown:N")
    told = "; ".join(f"{label} {wording.percent(now)} now, {wording.percent(proposed)} proposed" for label, now, proposed in shown)
    return Chart("Model mix", f"Share of requests per model. {told}.", _configured(drawn + texts))


def peak_heat_map(requests_by_hour_of_week: Sequence[float]) -> Chart | None:
    """Requests by weekday and hour (168 values, Monday 00:00 UTC first); None when there are none."""
    import altair as alt

    if len(requests_by_hour_of_week) != 168 or sum(requests_by_hour_of_week) <= 0:
        return None
    rows = [
        {"day": wording.WEEKDAYS[hour // 24][:3], "hour": f"{hour % 24:02d}", "requests": value}
        for hour, value in enumerate(requests_by_hour_of_week)
    ]
    map_ = (
        alt.Chart(_data(rows), width=WIDTH, height=170)
        .mark_rect(cornerRadius=2, color=PROPOSED)
        .encode(
            x=alt.X("hour:O", title="Hour of the day, UTC", axis=alt.Axis(labelAngle=0, grid=False, ticks=False, domain=False)),
            y=alt.Y(
                "day:O", sort=[each[:3] for each in wording.WEEKDAYS], title=None, axis=alt.Axis(grid=False, ticks=False, domain=False)
            ),
            # Opacity and not colour, so that the map fits a dark page as well.
            opacity=alt.Opacity(
                "requests:Q",
                scale=alt.Scale(range=[0.05, 1.0], domainMin=0),
                legend=alt.Legend(title="Requests per hour", orient="right", gradientLength=120, format=",.0f"),
            ),
        )
    )
    busiest = max(range(168), key=lambda hour: requests_by_hour_of_week[hour])
    quietest = min(range(168), key=lambda hour: requests_by_hour_of_week[hour])
    text = (
        f"Requests by weekday and hour. Busiest: {wording.hour_of_week(busiest)} with {wording.number(round(requests_by_hour_of_week[busiest]))}; "
        f"quietest: {wording.hour_of_week(quietest)} with {wording.number(round(requests_by_hour_of_week[quietest]))}."
    )
    return Chart("Peak hours", text, _configured(map_))
