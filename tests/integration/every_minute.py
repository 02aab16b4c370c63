"""The code location of the tests: ours, with a schedule that is due every minute instead of every quarter."""

import dagster as dg

import assets.definitions  # not its `defs`: a module has one
from assets.automation import project_budget, quarterly_projection


@dg.schedule(job=project_budget, cron_schedule="* * * * *", name="every_minute")
def every_minute(context: dg.ScheduleEvaluationContext) -> dg.RunRequest:
    """What the quarterly schedule would do now."""
    return quarterly_projection(context)


defs = dg.Definitions.merge(assets.definitions.defs, dg.Definitions(schedules=[every_minute]))
