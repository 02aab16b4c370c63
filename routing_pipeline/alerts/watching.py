"""One look of a sensor at the lake: which hours are complete, their sums, the decision, and what an alert is due to.

Belongs here: what is read for which sensor. Does not belong here: the decisions themselves (`decisions`), runs (`assets.sensors`).
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal

import ibis

from routing_pipeline.alerts import decisions, hourly
from routing_pipeline.alerts.attribution import attribution
from routing_pipeline.alerts.decisions import AlertDecision
from routing_pipeline.alerts.hourly import HOUR_S, WEEK_H, HourlySums, hourly_sums
from routing_pipeline.alerts.incidents import remembered
from routing_pipeline.alerts.new_logs import UnreadObjects
from routing_pipeline.alerts.silence import WATCHED
from routing_pipeline.alerts.standing import note
from routing_pipeline.alerts.watermark import complete_until, lake_watermark_s, note_look
from routing_pipeline.engine import Engine
from routing_pipeline.home import Home
from routing_pipeline.ingest.backlog import open_backlog
from routing_pipeline.ingest.lake import Lake
from routing_pipeline.ingest.objects import open_source
from routing_pipeline.parameters import Parameters

Sensor = Literal["cost_spike", "latency_spike", "quality_drop", "silent_feed"]

NOISE_WEEKS = 2
"""Weeks beyond the baseline's: how much hours deviate from their baseline is told from these."""


@dataclass(frozen=True)
class _Seen:
    """Attempts of hours [first, end); the feed is complete until `until`, which lies further on where it is silent."""

    attempts: ibis.Table
    feedback: ibis.Table | None
    quality_name: str
    first: int
    end: int
    until: int

    def observations(self, measured: str) -> ibis.Table:
        """Attempts with the `value` that is measured."""
        if measured == "quality":
            return hourly.qualities(self.attempts, self.feedback, self.quality_name)
        of: dict[str, Callable[[ibis.Table], ibis.Table]] = {"latency": hourly.log_latencies, "failed attempts": hourly.failures}
        return of.get(measured, hourly.costs)(self.attempts)

    def sums(self, measured: str) -> HourlySums | None:
        """Its sums by series and hour."""
        if measured == "requests":
            return hourly_sums(self.observations(measured), self.first, self.until, WATCHED)
        return hourly_sums(self.observations(measured), self.first, self.end)


def look(sensor: Sensor, home: Home, engine: Engine, parameters: Parameters, cursor: str | None, now_s: float) -> AlertDecision:
    """What a sensor should do now; where it stands is noted in the home.

    Raises:
        PipelineError, OSError: the lake cannot be read; that is no hour without requests, and the cursor stays as it was.
    """
    decision = _decided(sensor, home, engine, parameters, cursor, now_s)
    note(home, sensor, decision.cursor, now_s)
    return decision


def _decided(sensor: Sensor, home: Home, engine: Engine, parameters: Parameters, cursor: str | None, now_s: float) -> AlertDecision:
    thresholds = parameters.alerts
    seen = _seen(sensor, home, engine, parameters)
    if seen is None:
        return AlertDecision(kind="no data", reason=decisions.NO_REQUEST, cursor=cursor or "{}")
    judged = remembered(cursor).seen
    if sensor != "silent_feed" and judged is not None and judged >= seen.end - 1:
        # Most looks fall between two hours, and read nothing.
        return AlertDecision(kind="quiet", reason=decisions.NO_NEW_HOUR, cursor=cursor or "{}")
    match sensor:
        case "cost_spike":
            decision = decisions.cost_spike(seen.sums("spend"), thresholds, cursor, seen.end)
        case "latency_spike":
            decision = decisions.latency_spike(seen.sums("latency"), thresholds, cursor, seen.end)
        case "quality_drop":
            decision = decisions.quality_drop(seen.sums("quality"), seen.sums("failed attempts"), thresholds, cursor, seen.end)
        case "silent_feed":
            return decisions.silent_feed(seen.sums("requests"), thresholds, cursor, seen.until, now_s)
    return _with_cause(decision, seen, thresholds.baseline_weeks)


def _seen(sensor: Sensor, home: Home, engine: Engine, parameters: Parameters) -> _Seen | None:
    lake, thresholds = Lake(home), parameters.alerts
    newest_s, watermark = lake.newest_s(), lake_watermark_s(home)
    if newest_s is None or watermark is None:
        return None
    hold_back_s = thresholds.hold_back_minutes * 60
    if sensor == "quality_drop":
        hold_back_s = max(hold_back_s, thresholds.score_hold_back_hours * HOUR_S)
    until = complete_until(watermark, hold_back_s)
    end = min(until, int(newest_s // HOUR_S) + 1)
    first = end - (thresholds.baseline_weeks + NOISE_WEEKS) * WEEK_H
    files = lake.attempt_files(first * HOUR_S, newest_s + 1)
    if not files:
        return None
    feedback = lake.feedback_files() if sensor == "quality_drop" else ()
    return _Seen(
        engine.read_parquet(files),
        engine.read_parquet(feedback) if feedback else None,
        parameters.quality_feedback,
        first,
        end,
        # A feed that has been dead for months needs no table of its empty hours.
        min(max(until, end), end + thresholds.baseline_weeks * WEEK_H),
    )


def _with_cause(decision: AlertDecision, seen: _Seen, weeks: int) -> AlertDecision:
    if decision.run_key is None or decision.start_s is None or decision.end_s is None:
        return decision
    found = attribution(
        seen.observations(decision.measured),
        decision.start_s,
        decision.end_s,
        weeks,
        is_sum=decision.measured == "spend",
        direction=-1 if decision.measured == "quality" else 1,
    )
    return decision if found is None else decision.model_copy(update={"due_to": found.sentences()})


def unread_objects(home: Home, uri: str, now_s: float) -> UnreadObjects:
    """Objects of a source that the lake does not hold in this version. Notes a look that found none.

    Raises:
        UnusableInputError: no such place, or no permission.
        ServiceUnavailableError: the store does not answer.
    """
    source = open_source(uri, exclude=home.root)
    with open_backlog(Lake(home), "ledger", source) as backlog:
        if not backlog.new:
            note_look(home, source.uri, now_s)
        return UnreadObjects(count=backlog.new, digest=backlog.digest())
