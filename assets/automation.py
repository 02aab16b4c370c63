"""When things run: the jobs, the weekly review, the nightly upkeep, and the sensor that a jump in spend wakes.

Belongs here: jobs, schedules, sensors. Does not belong here: the decision whether spend jumped (routing_pipeline.alerts).
"""

import os
import time

import dagster as dg

from assets.resources import HomeResource
from routing_pipeline.alerts import HourlySpend, cost_spike as decide_cost_spike, hourly_spend
from routing_pipeline.parameters import read_parameters

WEEK_S = 7 * 86_400
TIMEZONE = os.environ.get("ROUTING_PIPELINE_TIMEZONE") or "UTC"

ingest_logs = dg.define_asset_job(
    "ingest_logs",
    selection=dg.AssetSelection.assets("request_log", "feedback"),
    description="Read what is new into the lake, and check it.",
)

optimize_routing = dg.define_asset_job(
    "optimize_routing",
    selection=dg.AssetSelection.all() - dg.AssetSelection.assets("lake_upkeep"),
    description="Everything: ingest, check, analyse, recommend, publish.",
)

maintain_lake = dg.define_asset_job(
    "maintain_lake",
    selection=dg.AssetSelection.assets("lake_upkeep"),
    description="Join the lake's small files, drop its old snapshots.",
)


def _over(timeframe: str) -> dict[str, object]:
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
    return dg.RunRequest(run_key=f"weekly_review:{monday:%Y-%m-%d}", run_config=_over("7d"), tags={"reason": "weekly review"})


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


@dg.sensor(
    job=optimize_routing,
    minimum_interval_seconds=300,
    description="Spend of the last hour or day against the same hours of the weeks before; one run per incident, over 24h.",
)
def cost_spike(context: dg.SensorEvaluationContext, home: HomeResource) -> dg.SensorResult | dg.SkipReason:
    """Reads the lake, not the bucket: ingestion is a job of its own and may be scheduled more often."""
    thresholds = read_parameters(home.config_file()).alerts
    now_s = time.time()
    decision = decide_cost_spike(_spend(context, home, thresholds.baseline_weeks), thresholds, context.cursor, now_s)
    if decision.run_key is None:
        return dg.SensorResult(skip_reason=decision.reason, cursor=decision.cursor)
    request = dg.RunRequest(
        run_key=decision.run_key, run_config=_over("24h"), tags={"reason": decision.reason[:200], "alert": "cost_spike"}
    )
    return dg.SensorResult(run_requests=[request], cursor=decision.cursor)


def _spend(context: dg.SensorEvaluationContext, home: HomeResource, weeks: int) -> tuple[HourlySpend, ...] | None:
    """Hourly spend of the baseline's weeks, None when it could not be read: a failed read is not an hour without spend."""
    try:
        lake = home.lake_state()
        with home.reading() as engine:
            return hourly_spend(engine.read_parquet(lake.attempt_files(lake.newest_s - (weeks + 1) * WEEK_S, lake.newest_s + 1)))
    except Exception:
        context.log.exception("spend could not be read")
        return None
