"""The code location of the tests: ours, with a schedule that is due every minute instead of every night."""

import dagster as dg

import assets.definitions  # not its `defs`: a module has one
from assets.automation import maintain_lake, nightly_upkeep


@dg.schedule(job=maintain_lake, cron_schedule="* * * * *", name="every_minute")
def every_minute(context: dg.ScheduleEvaluationContext) -> dg.RunRequest:
    """What the nightly schedule would do now."""
    return nightly_upkeep(context)


defs = dg.Definitions.merge(assets.definitions.defs, dg.Definitions(schedules=[every_minute]))
