"""What the environment says of how runs are scheduled and executed, refused where it makes no sense.

Belongs here: reading those variables. Nothing here takes long to import: a command sees what cannot be used before it waits
for Dagster. Does not belong here: what the library reads (the command line and `resources`).
"""

import os
from datetime import UTC, date, datetime, timedelta

from routing_pipeline.clock import timezone
from routing_pipeline.errors import UnusableInputError


def parallel_steps(asked: str | None) -> int | None:
    """How many steps run at once, each in a process of its own; None for all in one process."""
    if not asked:
        return None
    if not asked.isdecimal() or int(asked) < 1:
        raise UnusableInputError(f"ROUTING_PIPELINE_PARALLEL_STEPS={asked}: give a number from 1, or leave it out")
    return int(asked)


DAYS_WITHOUT_A_LAKE = 30


def first_day(asked: str | None, noted: str = "") -> str:
    """The first day that `request_log_days` has: the one asked for, else the one that an ingestion noted, else one a month ago. ISO 8601."""
    if asked:
        try:
            return date.fromisoformat(asked).isoformat()
        except ValueError as error:
            raise UnusableInputError(f"ROUTING_PIPELINE_FIRST_DAY={asked}: no day; give one such as 2026-11-24, or leave it out") from error
    today = datetime.now(UTC).date()
    try:
        return min(date.fromisoformat(noted), today).isoformat()
    except ValueError:
        return (today - timedelta(days=DAYS_WITHOUT_A_LAKE)).isoformat()


def check_environment() -> None:
    """Raises UnusableInputError where a variable cannot be used."""
    timezone(os.environ.get("ROUTING_PIPELINE_TIMEZONE"))
    parallel_steps(os.environ.get("ROUTING_PIPELINE_PARALLEL_STEPS"))
    first_day(os.environ.get("ROUTING_PIPELINE_FIRST_DAY"))
