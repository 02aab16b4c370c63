"""The incidents of an analysed window, as the sensors would have told them, and the one that a run was started for.

Belongs here: which hours of the lake are looked at for which window. Does not belong here: what is found out about one
incident (`examination`), sensors on a clock (`sensor`).
"""

from __future__ import annotations

import math
from collections.abc import Callable

import ibis
from pydantic import Field

from routing_pipeline.alerts.examination import Incident, ReportedAlert, examined, reported_alerts
from routing_pipeline.alerts.missing_traffic import WATCHED
from routing_pipeline.alerts.sensor import NOISE_WEEKS, cached_sums
from routing_pipeline.alerts.series import HourlySums, Measured, series_from_sums
from routing_pipeline.alerts.watermark import complete_until, lake_watermark_s
from routing_pipeline.clock import HOURS_PER_WEEK, SECONDS_PER_HOUR
from routing_pipeline.estimates import Result
from routing_pipeline.lake.table import Lake
from routing_pipeline.storage.home import Home
from routing_pipeline.window.engine import Engine
from routing_pipeline.window.scope import AnalysisScope

LOOKBACK_H = HOURS_PER_WEEK
"""Incidents longer ago than this before the window's end are not looked for."""


class Incidents(Result):
    """What stood out of the hours of a window against the weeks before it."""

    incidents: tuple[Incident, ...] = Field(description="The one that the run was started for first, then the newest first")

    @property
    def about(self) -> Incident | None:
        """What the run is about: the incident that it was started for, else the newest that goes on."""
        return next((each for each in self.incidents if each.started_this_run), None) or next(
            (each for each in self.incidents if each.goes_on), None
        )


def window_incidents(
    home: Home, engine: Engine, scope: AnalysisScope, requests: ibis.Table | None, carried: ReportedAlert | None = None
) -> Incidents:
    """Look at every complete hour of the window, at most LOOKBACK_H, as the sensors do.

    Args:
        home: whose lake holds the weeks before.
        engine: reads the kept sums; files that nobody has summed up yet are read.
        scope: the window.
        requests: its rows, to name those behind an incident; None: none is named.
        carried: the alert that the run was started for; it is told whatever the sums say now.
    """
    thresholds = scope.parameters.alerts
    until = _complete(home, scope)
    since = max(math.floor(scope.start_s / SECONDS_PER_HOUR), until - LOOKBACK_H)
    first = until - (thresholds.baseline_weeks + NOISE_WEEKS) * HOURS_PER_WEEK
    cached = cached_sums(Lake(home), engine, scope.parameters, first * SECONDS_PER_HOUR, with_scores=True)
    if cached is None:
        return Incidents(incidents=())
    attempts, scores = cached

    def series(measured: Measured) -> HourlySums | None:
        table = scores if measured == "quality" else attempts
        return series_from_sums(table, measured, first, until, *((WATCHED,) if measured == "requests" else ()))

    found = _newest_of_each(reported_alerts(series, thresholds, since, until)) if since < until else ()
    reported = found if carried is None else (_going(carried, found), *(each for each in found if not _is_same(each, carried)))
    memo = _once(series)
    return Incidents(
        incidents=tuple(
            examined(
                each,
                scores if each.alert.measured == "quality" else attempts,
                memo(each.alert.measured),
                thresholds,
                requests,
                started_this_run=carried is not None and place == 0,
            )
            for place, each in enumerate(reported)
        )
    )


def _complete(home: Home, scope: AnalysisScope) -> int:
    """The first hour that is not judged: of the window's last one it must be known that no more of it comes."""
    watermark = lake_watermark_s(home)
    last = math.ceil(scope.end_s / SECONDS_PER_HOUR)
    if watermark is None:
        return math.floor(scope.end_s / SECONDS_PER_HOUR)
    return min(last, complete_until(watermark, scope.parameters.alerts.hold_back_minutes * 60))


def _newest_of_each(reported: tuple[ReportedAlert, ...]) -> tuple[ReportedAlert, ...]:
    """Of an incident that was told again because it grew, the last; newest first."""
    last = {(each.sensor, each.alert.since_s): each for each in reported}
    return tuple(sorted(last.values(), key=lambda each: (-(each.alert.end_s or 0.0), each.sensor)))


def _is_same(one: ReportedAlert, other: ReportedAlert) -> bool:
    """Whether both tell of one incident: the same sensor, and windows that touch."""
    apart = max(one.alert.start_s or 0.0, other.alert.start_s or 0.0) - min(one.alert.end_s or 0.0, other.alert.end_s or 0.0)
    return one.sensor == other.sensor and apart <= 0.0


def _going(carried: ReportedAlert, found: tuple[ReportedAlert, ...]) -> ReportedAlert:
    """What was carried, with what is known now of whether it goes on."""
    same = [each for each in found if _is_same(each, carried)]
    return carried._replace(is_going_on=any(each.is_going_on for each in same)) if same else carried


def _once(series: Callable[[Measured], HourlySums | None]) -> Callable[[str], HourlySums | None]:
    """The same series without summing twice."""
    cached: dict[str, HourlySums | None] = {}

    def of(measured: str) -> HourlySums | None:
        if measured not in cached:
            cached[measured] = series(measured)  # type: ignore[arg-type]
        return cached[measured]

    return of
