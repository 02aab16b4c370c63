"""What runs because something happened: new logs, and traffic that became more expensive, slower, worse or silent; and who hears of runs that fail.

Belongs here: sensors: read, decide, tell, start a run. Does not belong here: the decisions (routing_pipeline.alerts).
"""

import contextlib
import time
from typing import get_args

import dagster as dg

from assets.automation import ALERT, ingest_logs, maintain_lake, optimize_routing, over, project_budget
from assets.outcomes import outcome_of, why_failed
from assets.resources import HomeResource
from routing_pipeline.alerts.decisions import CARRIED, AlertDecision
from routing_pipeline.alerts.examination import Sensor
from routing_pipeline.alerts.failed_runs import failed_runs as decide_failed_runs, message
from routing_pipeline.alerts.log_lag import new_logs as decide_new_logs
from routing_pipeline.alerts.notifications import Channels, read_notifications, tell
from routing_pipeline.alerts.sensor import tick, unread_objects
from routing_pipeline.alerts.state import SensorState, save_state
from routing_pipeline.errors import PipelineError, UnusableInputError
from routing_pipeline.parameters import read_parameters

MAX_TAG = 200
UNATTENDED = (ingest_logs, optimize_routing, project_budget, maintain_lake)
"""Jobs that start by themselves."""

DESCRIPTIONS: dict[Sensor, str] = {
    "cost_spike": "Spend of the last hour, six hours and day against the same hours of the weeks before.",
    "latency_spike": "Typical latency of successes against the same hours of the weeks before.",
    "quality_drop": "Mean quality and share of failed attempts against the same hours of the weeks before.",
    "silent_feed": "Hours without a request where the weeks before let expect some, in all or for a team.",
}


@dg.sensor(
    job=ingest_logs,
    minimum_interval_seconds=60,
    description="Objects in the store that the lake does not hold yet; one ingestion for one set of them.",
)
def new_logs(context: dg.SensorEvaluationContext, home: HomeResource) -> dg.SensorResult | dg.SkipReason:
    """Lists the sources; a source that cannot be listed is a skip that says why, and is asked again."""
    opened, now_s, unread = home.open(), time.time(), []
    for source in home.log_sources():
        try:
            unread.append(unread_objects(opened, source, now_s))
        except Exception as error:
            context.log.exception("a source could not be listed")
            return dg.SensorResult(skip_reason=f"{source} could not be listed: {error}"[:400], cursor=context.cursor)
    decision = decide_new_logs(unread, context.cursor, now_s)
    if decision.run_key is None:
        return dg.SensorResult(skip_reason=decision.reason, cursor=decision.cursor)
    request = dg.RunRequest(run_key=decision.run_key, tags={"reason": decision.reason})
    return dg.SensorResult(run_requests=[request], cursor=decision.cursor)


def _alerting(sensor: Sensor) -> dg.SensorDefinition:
    @dg.sensor(
        name=sensor,
        job=optimize_routing,
        minimum_interval_seconds=300,
        description=f"{DESCRIPTIONS[sensor]} One analysis over 24h, and one message, per incident.",
    )
    def look_and_tell(context: dg.SensorEvaluationContext, home: HomeResource) -> dg.SensorResult | dg.SkipReason:
        """Reads the lake, not the bucket: ingestion is a job of its own and may run more often."""
        decision = _decision(sensor, context, home)
        if decision is None:
            reason = "the lake could not be read; that is not an hour without requests"
            return dg.SensorResult(skip_reason=reason, cursor=context.cursor)
        if decision.run_key is None:
            return dg.SensorResult(skip_reason=decision.reason, cursor=decision.cursor)
        for failure in tell(home.config_file(), sensor.replace("_", " "), "\n".join((decision.reason, *decision.due_to))):
            context.log.warning(failure)
        return dg.SensorResult(run_requests=[_request(sensor, decision)], cursor=decision.cursor)

    return look_and_tell


def _decision(sensor: Sensor, context: dg.SensorEvaluationContext, home: HomeResource) -> AlertDecision | None:
    """None when anything could not be read: a failed read is not an hour without spend."""
    try:
        with home.reading() as engine:
            return tick(sensor, home.open(), engine, read_parameters(home.config_file()), context.cursor, time.time())
    except Exception:
        context.log.exception("the lake could not be read")
        return None


def _request(sensor: Sensor, decision: AlertDecision) -> dg.RunRequest:
    tags = {ALERT: sensor, "reason": decision.reason[:MAX_TAG], "series": f"{decision.dimension} {decision.value}".strip()[:MAX_TAG]}
    if decision.due_to:
        tags["due_to"] = "; ".join(decision.due_to)[:MAX_TAG]
    carried = {name: value for name in CARRIED if (value := getattr(decision, name)) is not None}
    about = {"incidents": {"config": {"sensor": sensor, "reason": decision.reason, **carried}}}
    return dg.RunRequest(run_key=decision.run_key, run_config=over("24h", about), tags=tags)


ALERTING: list[dg.SensorDefinition] = [_alerting(sensor) for sensor in get_args(Sensor)]
cost_spike, latency_spike, quality_drop, silent_feed = ALERTING


@dg.sensor(
    minimum_interval_seconds=60,
    description="Jobs whose scheduled or sensor-started run failed and is not tried again; one message then, one when it recovers.",
)
def failed_runs(context: dg.SensorEvaluationContext, home: HomeResource) -> dg.SensorResult:
    """Reads Dagster's own history: whatever a run failed of, this does not need."""
    config, now_s = home.config_file(), time.time()
    try:
        settings = read_notifications(config)
    except UnusableInputError as error:
        context.log.warning(str(error))
        settings = Channels()
    if not settings.failed_runs:
        return dg.SensorResult(skip_reason="switched off: [notifications] failed_runs", cursor="")
    decision = decide_failed_runs({job.name: outcome_of(context.instance, job.name) for job in UNATTENDED}, context.cursor)
    for news in decision.news:
        why = why_failed(context.instance, news.run_id) if news.is_failure else ""
        for failure in tell(config, *message(news, why, settings.dagster_url)):
            context.log.warning(failure)
    if not decision.news:
        # A home that does not answer may use up the tick's time: then nothing is told again, for nothing was told.
        with contextlib.suppress(PipelineError):
            save_state(home.open(), "failed_runs", SensorState(looked_s=now_s, is_open=bool(decision.failing), began_s=decision.since_s))
    return dg.SensorResult(skip_reason=decision.reason, cursor=decision.cursor)
