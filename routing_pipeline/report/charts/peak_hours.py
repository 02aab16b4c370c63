"""Requests by weekday and hour of the day.

Belongs here: this one picture. Does not belong here: the counts (`traffic_rhythm`).
"""

from __future__ import annotations

from routing_pipeline import text
from routing_pipeline.analysis.request_patterns import RequestPatterns
from routing_pipeline.clock import WEEKDAYS
from routing_pipeline.report.charts.drawing import HATCHED, Chart, Row, bare, hatching, layered, rows_of
from routing_pipeline.report.charts.palette import MAIN, MARK, PAPER

CELL = (24.0, 25.0)
"""Width and height of an hour, pixels."""
LEAST_HOURS = 24
WEEK = range(168)


def peak_hours(patterns: RequestPatterns) -> Chart | None:
    """Weekdays by hours, hatched where no log covers the hour; None below a day of covered hours."""
    import altair as alt

    rate = {
        cell.hour_of_week: cell.per_hour for cell in patterns.heat_map if isinstance(cell.per_hour, float) and cell.hour_of_week in WEEK
    }
    if len(rate) < LEAST_HOURS or sum(rate.values()) <= 0:
        return None
    days = [day[:3] for place, day in enumerate(WEEKDAYS) if any(hour // 24 == place for hour in rate)]
    busiest, quietest = max(rate, key=lambda hour: (rate[hour], -hour)), min(rate, key=lambda hour: (rate[hour], hour))

    def drawn() -> alt.LayerChart:
        x = alt.X(
            "hour:O", scale=alt.Scale(domain=[f"{hour:02d}" for hour in range(24)], padding=0.05), axis=bare(title="Hour of the day, UTC")
        )
        y = alt.Y("day:O", scale=alt.Scale(domain=days, padding=0.05), axis=bare())
        # Opacity and not colour, so that the map fits a dark page as well.
        opacity = alt.Opacity(
            "requests:Q",
            scale=alt.Scale(range=[0.05, 1.0], domain=[0, rate[busiest]]),
            legend=alt.Legend(
                title="Requests per hour",
                orient="top",
                titleOrient="left",
                format=",.0f",
                gradientLength=160,
                titleFontWeight="normal",
                titleFontSize=12,
            ),
        )
        covered = [_place(hour) | {"requests": requests} for hour, requests in sorted(rate.items())]
        layers = [rows_of(covered).mark_rect(color=MAIN).encode(x=x, y=y, opacity=opacity)]
        uncovered = [place for place in (_place(hour) for hour in WEEK if hour not in rate) if place["day"] in days]
        if uncovered:
            layers.append(rows_of(uncovered).mark_point(shape=hatching(*CELL, apart=8.0), **HATCHED).encode(x=x, y=y))
        # A pale rim around the outline keeps it visible on a dark cell, in grey too.
        for colour, stroke_width in ((PAPER, 5), (MARK, 2)):
            layers.append(rows_of([_place(busiest)]).mark_rect(filled=False, stroke=colour, strokeWidth=stroke_width).encode(x=x, y=y))
        return layered(layers, CELL[1] * len(days))

    return Chart("Peak hours", _text(rate, busiest, quietest), (patterns,), drawn)


def _place(hour: int) -> Row:
    return {"day": WEEKDAYS[hour // 24][:3], "hour": f"{hour % 24:02d}"}


def _text(rate: dict[int, float], busiest: int, quietest: int) -> str:
    sentence = (
        f"Busiest hour of the week (outlined): {text.hour_of_week(busiest)} with {text.count(rate[busiest])} requests; "
        f"quietest: {text.hour_of_week(quietest)} with {text.count(rate[quietest])}."
    )
    missing = len(WEEK) - len(rate)
    return sentence + (f" {missing} of 168 hours are not covered by the logs." if missing else "")
