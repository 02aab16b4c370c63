"""What runs together, and by the clock: the jobs, the weekly review, the quarterly projection, the nightly upkeep.

Belongs here: jobs and schedules. Does not belong here: what runs because something happened (`sensors`).
"""

import os
import zoneinfo

import dagster as dg

from routing_pipeline.errors import UnusableInputError


def timezone(asked: str | None) -> str:
    """The zone that schedules keep to, refused where there is none of that name: Monday 06:00 must not come at another hour."""
    try:
        zoneinfo.ZoneInfo(asked or "UTC")
    except (ValueError, OSError, zoneinfo.ZoneInfoNotFoundError) as error:
        raise UnusableInputError(
            f"ROUTING_PIPELINE_TIMEZONE={asked}: no time zone; give one such as Europe/Berlin, or leave it out"
        ) from error
    return asked or "UTC"


TIMEZONE = timezone(os.environ.get("ROUTING_PIPELINE_TIMEZONE"))

ALERT = "alert"
"""Tag of runs that a sensor starts because traffic changed: its name. They tell of a day, and decide nothing."""


def is_of_alert(run: dg.DagsterRun) -> bool:
    """Whether the run, or the one that it tries again, was started by an alert."""
    return ALERT in run.tags


ingest_logs = dg.define_asset_job(
    "ingest_logs",
    selection=dg.AssetSelection.assets("request_log", "feedback"),
    description="Read what is new into the lake, and check it.",
)

optimize_routing = dg.define_asset_job(
    "optimize_routing",
    selection=dg.AssetSelection.all() - dg.AssetSelection.assets("lake_upkeep"),
    description="Everything: ingest, check, analyse, recommend, report. Rules are published by a person, or by [publishing] automatic.",
)

project_budget = dg.define_asset_job(
    "project_budget",
    selection=dg.AssetSelection.assets("analysis_scope", "budget_projection"),
    description="What the month and the quarter will come to.",
)

maintain_lake = dg.define_asset_job(
    "maintain_lake",
    selection=dg.AssetSelection.assets("lake_upkeep"),
    description="Join the lake's small files, drop its old snapshots.",
)


def executor(parallel_steps: str | None) -> dg.ExecutorDefinition:
    """One process unless asked otherwise: assets hand small results to the next, and the engine uses the cores by itself.

    With a number, so many steps run at once, each in a process of its own: for machines with more cores than one analysis
    keeps busy. Results, windows and sums are written whole under names that say what they are, so that steps share them.
    """
    if not parallel_steps:
        return dg.in_process_executor
    if not parallel_steps.isdecimal() or int(parallel_steps) < 1:
        raise UnusableInputError(f"ROUTING_PIPELINE_PARALLEL_STEPS={parallel_steps}: give a number from 1, or leave it out")
    return dg.multiprocess_executor.configured(
        {
            "max_concurrent": int(parallel_steps),
            # Started once with everything loaded, which takes longer than most steps.
            "start_method": {"forkserver": {"preload_modules": ["assets.definitions"]}},
        },
        name="parallel_steps",
    )


def over(timeframe: str) -> dict[str, object]:
    """Run configuration of an analysis over the newest such window."""
    return {"ops": {"analysis_scope": {"config": {"timeframe": timeframe}}}}


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
