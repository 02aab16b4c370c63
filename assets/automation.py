"""What runs together, and by the clock: the jobs, the weekly review, the quarterly projection, the nightly upkeep; and by when.

Belongs here: jobs, schedules, and the freshness that they promise. Does not belong here: what runs because something happened (`sensors`).
"""

import os
from collections.abc import Mapping
from datetime import timedelta

import dagster as dg

from assets.environment import parallel_steps
from routing_pipeline.clock import timezone

TIMEZONE = timezone(os.environ.get("ROUTING_PIPELINE_TIMEZONE"))

ALERT = "alert"
"""Tag of runs that a sensor starts because traffic changed: its name. They tell of a day, and decide nothing."""


def is_of_alert(run: dg.DagsterRun) -> bool:
    """Whether the run, or the one that it tries again, was started by an alert."""
    return ALERT in run.tags


def is_automatic(run: dg.DagsterRun) -> bool:
    """Whether a schedule or a sensor started the run, and nobody by hand."""
    return bool({"dagster/schedule_name", "dagster/sensor_name"} & set(run.tags))


ingest_logs = dg.define_asset_job(
    "ingest_logs",
    selection=dg.AssetSelection.assets("request_log", "feedback"),
    description="Read what is new into the lake, and check it.",
)

optimize_routing = dg.define_asset_job(
    "optimize_routing",
    selection=dg.AssetSelection.all() - dg.AssetSelection.assets("lake_upkeep", "rollout", "request_log_days"),
    description="Everything: ingest, check, analyse, recommend, report. Rules are published by a person, or by [publishing] automatic.",
)

project_budget = dg.define_asset_job(
    "project_budget",
    selection=dg.AssetSelection.assets("analysis_scope", "budget_projection"),
    description="Projected spend of the month and the quarter.",
)

maintain_lake = dg.define_asset_job(
    "maintain_lake",
    selection=dg.AssetSelection.assets("lake_upkeep"),
    description="Join the lake's small files, drop its old snapshots.",
)


LOADED_LATE = ("ibis.backends.duckdb", "pyiceberg.catalog.sql", "routing_pipeline.data_quality.evaluator", "altair", "vl_convert")
"""What steps import when they first need it: seconds, which a process that is forked for one step would pay each time."""


def executor(asked: str | None) -> dg.ExecutorDefinition:
    """One process unless asked otherwise: assets hand small results to the next, and the engine uses the cores by itself.

    With a number, so many steps run at once, each in a process of its own: for machines with more cores than one analysis
    keeps busy. Results, windows and sums are written whole under names that say what they are, so that steps share them.
    """
    at_once = parallel_steps(asked)
    if at_once is None:
        return dg.in_process_executor
    return dg.multiprocess_executor.configured(
        {
            "max_concurrent": at_once,
            # Started once with everything loaded, which takes longer than most steps.
            "start_method": {"forkserver": {"preload_modules": ["assets.definitions", *LOADED_LATE]}},
        },
        name="parallel_steps",
    )


def over(timeframe: str, also: Mapping[str, object] | None = None) -> dict[str, object]:
    """Run configuration of an analysis over the newest such window, with that of other assets."""
    return {"ops": {"analysis_scope": {"config": {"timeframe": timeframe}}, **(also or {})}}


@dg.schedule(
    job=optimize_routing,
    cron_schedule="0 6 * * 1",
    execution_timezone=TIMEZONE,
    description="Monday 06:00: the week that just ended.",
)
def weekly_review(context: dg.ScheduleEvaluationContext) -> dg.RunRequest:
    """One run per Monday; set the zone with ROUTING_PIPELINE_TIMEZONE."""
    monday = context.scheduled_execution_time
    return dg.RunRequest(run_key=f"weekly_review:{monday:%Y-%m-%d}", run_config=over("7d"), tags={"reason": "weekly review"})


@dg.schedule(
    job=project_budget,
    cron_schedule="0 7 1 1,4,7,10 *",
    execution_timezone=TIMEZONE,
    description="First day of a quarter, 07:00: where spend of the month and of the quarter is heading.",
)
def quarterly_projection(context: dg.ScheduleEvaluationContext) -> dg.RunRequest:
    """One run per quarter; every weekly review renews the projection besides."""
    day = context.scheduled_execution_time
    return dg.RunRequest(
        run_key=f"quarterly_projection:{day:%Y-%m-%d}", run_config=over("30d"), tags={"reason": "quarterly budget projection"}
    )


@dg.schedule(
    job=maintain_lake,
    cron_schedule="30 3 * * *",
    execution_timezone=TIMEZONE,
    description="03:30: what the day's ingestions left in small files is joined.",
)
def nightly_upkeep(context: dg.ScheduleEvaluationContext) -> dg.RunRequest:
    """One run per night; waits for an ingestion under way."""
    night = context.scheduled_execution_time
    return dg.RunRequest(run_key=f"nightly_upkeep:{night:%Y-%m-%d}", tags={"reason": "upkeep of the lake"})


# Six hours: more than a run takes that waits for a store, or is tried again.
TO_FINISH = timedelta(hours=6)
AFTER_REVIEW = dg.FreshnessPolicy.cron("0 12 * * 1", lower_bound_delta=TO_FINISH, timezone=TIMEZONE)
AFTER_UPKEEP = dg.FreshnessPolicy.cron("30 9 * * *", lower_bound_delta=TO_FINISH, timezone=TIMEZONE)


def with_freshness(spec: dg.AssetSpec) -> dg.AssetSpec:
    """An asset with the time by which its schedule has renewed it: Dagster marks what is overdue, and starts nothing for it."""
    renewed = AFTER_UPKEEP if spec.key == dg.AssetKey("lake_upkeep") else AFTER_REVIEW
    return spec.replace_attributes(freshness_policy=renewed)
