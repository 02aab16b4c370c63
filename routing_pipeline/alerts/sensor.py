"""One look of a sensor at the lake: which hours are complete, their sums, the decision, and what an alert is due to.

Belongs here: what is read for which sensor. Does not belong here: the decisions themselves (`decisions`), runs (`assets.sensors`).
"""

from __future__ import annotations

from dataclasses import dataclass

import ibis

from routing_pipeline.alerts import decisions
from routing_pipeline.alerts.attribution import cause_from_sums
from routing_pipeline.alerts.decisions import AlertDecision
from routing_pipeline.alerts.examination import Sensor
from routing_pipeline.alerts.incidents import not_ahead, remembered
from routing_pipeline.alerts.log_lag import UnreadObjects
from routing_pipeline.alerts.missing_traffic import WATCHED
from routing_pipeline.alerts.series import HourlySums, Measured, series_from_sums
from routing_pipeline.alerts.state import save_state, state_of
from routing_pipeline.alerts.unscored_hours import still_coming_in
from routing_pipeline.alerts.watermark import complete_until, lake_watermark_s, note_poll
from routing_pipeline.catalog import Catalog
from routing_pipeline.clock import HOURS_PER_WEEK, SECONDS_PER_HOUR
from routing_pipeline.ingest.backlog import open_backlog
from routing_pipeline.ingest.objects import open_source
from routing_pipeline.lake.table import Lake
from routing_pipeline.parameters import AlertThresholds, Parameters
from routing_pipeline.storage.home import Home
from routing_pipeline.window.engine import Engine
from routing_pipeline.window.hourly import Feedback, SumsStore

FAR_S = 253_370_764_800.0
"""Later than any request, seconds since 1970."""
NOISE_WEEKS = 2
"""Weeks beyond the baseline's: how much hours deviate from their baseline is told from these."""


@dataclass(frozen=True)
class _Hours:
    """Hours [first, end) are looked at; the feed is complete until `until`, which lies further on where it is silent."""

    first: int
    end: int
    until: int


@dataclass(frozen=True)
class _WindowSums:
    """Kept sums of those hours."""

    hours: _Hours
    attempts: ibis.Table
    scores: ibis.Table

    def of(self, measured: str) -> ibis.Table:
        """The sums that hold what is measured."""
        return self.scores if measured == "quality" else self.attempts

    def series(self, measured: Measured) -> HourlySums | None:
        """What is measured, by series and hour."""
        if measured == "requests":
            return series_from_sums(self.of(measured), measured, self.hours.first, self.hours.until, WATCHED)
        return series_from_sums(self.of(measured), measured, self.hours.first, self.hours.end)


def tick(sensor: Sensor, home: Home, engine: Engine, parameters: Parameters, cursor: str | None, now_s: float) -> AlertDecision:
    """What a sensor should do now; where it stands is noted in the home.

    Raises:
        PipelineError, OSError: the lake cannot be read; that is no hour without requests, and the cursor stays as it was.
    """
    kept, ahead = not_ahead(cursor, now_s)
    decision = _decided(sensor, home, engine, parameters, kept, now_s)
    if ahead is not None and decision.kind != "alert":
        decision = decision.model_copy(update={"reason": f"{ahead}; {decision.reason}"})
    save_state(home, sensor, state_of(decision.cursor, now_s))
    return decision


def _decided(sensor: Sensor, home: Home, engine: Engine, parameters: Parameters, cursor: str | None, now_s: float) -> AlertDecision:
    thresholds = parameters.alerts
    hours = _hours(sensor, home, parameters, now_s)
    if hours is None:
        return AlertDecision(kind="no data", reason=decisions.NO_REQUEST, cursor=cursor or "{}")
    judged = remembered(cursor).seen
    if sensor != "silent_feed" and judged is not None and judged >= hours.end - 1:
        # Most looks fall between two hours, and read nothing.
        return AlertDecision(kind="quiet", reason=decisions.NO_NEW_HOUR, cursor=cursor or "{}")
    cached = cached_sums(Lake(home), engine, parameters, hours.first * SECONDS_PER_HOUR, with_scores=sensor == "quality_drop")
    if cached is None:
        return AlertDecision(kind="no data", reason=decisions.NO_REQUEST, cursor=cursor or "{}")
    sums = _WindowSums(hours, *cached)
    match sensor:
        case "cost_spike":
            decision = decisions.cost_spike(sums.series("spend"), thresholds, cursor, hours.end)
        case "latency_spike":
            decision = decisions.latency_spike(sums.series("latency"), thresholds, cursor, hours.end)
        case "quality_drop":
            decision = decisions.quality_drop(sums.series("quality"), sums.series("failed attempts"), thresholds, cursor, hours.end)
        case "silent_feed":
            return decisions.silent_feed(sums.series("requests"), thresholds, cursor, hours.until, now_s)
    return _with_cause(decision, sums, thresholds)


def _hours(sensor: Sensor, home: Home, parameters: Parameters, now_s: float) -> _Hours | None:
    lake, thresholds = Lake(home), parameters.alerts
    newest_s, watermark = lake.newest_s(), lake_watermark_s(home)
    if newest_s is None or watermark is None:
        return None
    hold_back_s = thresholds.hold_back_minutes * 60
    if sensor == "quality_drop":
        hold_back_s = max(hold_back_s, thresholds.score_hold_back_hours * SECONDS_PER_HOUR)
    # A clock that ran ahead when logs were read makes no hour complete that has not been.
    until = complete_until(min(watermark, now_s), hold_back_s)
    end = min(until, int(newest_s // SECONDS_PER_HOUR) + 1)
    first = end - (thresholds.baseline_weeks + NOISE_WEEKS) * HOURS_PER_WEEK
    # A feed that has been dead for months needs no table of its empty hours.
    return _Hours(first, end, min(max(until, end), end + thresholds.baseline_weeks * HOURS_PER_WEEK))


def cached_sums(
    lake: Lake, engine: Engine, parameters: Parameters, start_s: float, *, with_scores: bool
) -> tuple[ibis.Table, ibis.Table] | None:
    """Series of attempts and of their scores from `start_s` on; only data files that nobody has summed up yet are read."""
    files = lake.attempt_files(start_s, FAR_S)
    store = SumsStore(lake.home, engine, Catalog(parameters.models))
    attempts = scores = store.attempts(files).series
    if with_scores:
        scores = store.scores(
            files, Feedback(lake.feedback_files(), lake.feedback_version(), parameters.quality_feedback, parameters.trusted_scores)
        ).series
    return None if attempts is None or scores is None else (attempts, scores)


def sum_up(home: Home, engine: Engine, parameters: Parameters) -> None:
    """Sum up what was ingested, so that no look has to."""
    lake = Lake(home)
    newest_s = lake.newest_s()
    if newest_s is not None:
        weeks = parameters.alerts.baseline_weeks + NOISE_WEEKS
        cached_sums(lake, engine, parameters, newest_s - weeks * HOURS_PER_WEEK * SECONDS_PER_HOUR, with_scores=True)


def _with_cause(decision: AlertDecision, sums: _WindowSums, thresholds: AlertThresholds) -> AlertDecision:
    if decision.run_key is None:
        return decision
    cause = cause_from_sums(sums.of(decision.measured), decision, thresholds.baseline_weeks, thresholds.timezone)
    if decision.measured == "quality":
        cause += still_coming_in(decision, sums.series("quality"), sums.series("latency"))
    return decision.model_copy(update={"due_to": cause})


def unread_objects(home: Home, uri: str, now_s: float) -> UnreadObjects:
    """Objects of a source that the lake does not hold in this version. Notes a look that found none.

    Raises:
        UnusableInputError: no such place, or no permission.
        ServiceUnavailableError: the store does not answer.
    """
    source = open_source(uri, exclude=home.root)
    with open_backlog(Lake(home), "ledger", source) as backlog:
        if not backlog.new:
            note_poll(home, source.uri, now_s)
        return UnreadObjects(count=backlog.new, digest=backlog.digest())
