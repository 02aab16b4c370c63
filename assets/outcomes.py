"""What Dagster remembers of runs that nobody watched: how the newest ended, and why.

Belongs here: reading Dagster's history. Does not belong here: what of it is news, and its words (routing_pipeline.alerts).

Why the state of each job is read at every tick, and `dg.run_failure_sensor` is not used: that one is told of a run once, when
Dagster may not have noted yet whether it tries the run again, and cannot ask to be told later; it watches one status, so that
a recovery would need a second sensor; and it has no cursor of its own in which to remember what was told.
"""

import re
import time
from typing import Any

import dagster as dg

from assets.automation import is_automatic
from assets.waiting import IMPATIENT
from routing_pipeline.alerts.failed_runs import Outcome

NEWEST_RUNS = 25
DECIDED_AFTER_S = 60.0
"""Dagster notes that a run failed, and a moment later whether it tries again; where it never does, it does not."""
TELLING = {dg.DagsterEventType.ASSET_CHECK_EVALUATION, dg.DagsterEventType.STEP_FAILURE, dg.DagsterEventType.RUN_FAILURE}


def outcome_of(instance: dg.DagsterInstance, job: str) -> Outcome | None:
    """How the newest run of a job ended that will not be tried again; None when there is none.

    Failures count of runs that a schedule or a sensor started, or that Dagster started in their place: who starts one by hand
    sees how it ends. Runs of the command line do not count.
    """
    ended = dg.RunsFilter(job_name=job, statuses=[dg.DagsterRunStatus.SUCCESS, dg.DagsterRunStatus.FAILURE])
    newest = [record for record in instance.get_run_records(ended, limit=NEWEST_RUNS) if _counts(instance, record)]
    if not newest:
        return None
    last = max(newest, key=_ended_s)
    return Outcome(run_id=last.dagster_run.run_id, is_failure=last.dagster_run.is_failure, ended_s=_ended_s(last))


def _counts(instance: dg.DagsterInstance, record: dg.RunRecord) -> bool:
    run = record.dagster_run
    if not run.is_failure:
        return IMPATIENT not in run.tags
    if not is_automatic(run):
        return False
    will_retry = run.tags.get("dagster/will_retry")
    if will_retry is None and instance.run_retries_enabled:
        return time.time() - _ended_s(record) > DECIDED_AFTER_S
    return will_retry != "true"


def _ended_s(record: dg.RunRecord) -> float:
    return record.end_time or record.update_timestamp.timestamp()


def why_failed(instance: dg.DagsterInstance, run_id: str) -> str:
    """The blocking checks that a run failed, else the error of the first step that did, else what ended it."""
    checks, errors = [], []
    for entry in instance.all_logs(run_id, of_type=TELLING):
        event = entry.get_dagster_event()
        match event.event_type:
            case dg.DagsterEventType.ASSET_CHECK_EVALUATION:
                check = event.asset_check_evaluation_data
                if not check.passed and check.severity == dg.AssetCheckSeverity.ERROR:
                    checks.append(f"{check.asset_key.to_user_string()}: {check.check_name}: {check.description or 'no detail'}")
            case dg.DagsterEventType.STEP_FAILURE:
                errors.append(f"{event.step_key}: {_said(event.step_failure_data.error)}")
            case _:
                errors.append(event.message or "")
    if checks:
        return f"data-quality check failed: {'; '.join(checks)}"
    return next(filter(None, errors), "Dagster does not say why")


def _said(error: Any) -> str:
    """What an asset raised, and not how Dagster wrapped it; of our own errors, which say what to do, the message alone.

    `error` is that of a step's failure, None where there is none; Dagster exports no name for its type.
    """
    while error is not None and error.cause is not None and (error.cls_name or "").startswith("Dagster"):
        error = error.cause
    return "no error" if error is None else re.sub(r"^routing_pipeline\.[\w.]+: ", "", str(error.message).strip())
