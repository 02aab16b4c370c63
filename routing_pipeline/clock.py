"""Hours, days, weeks and months, once: how long they are, and in which one a moment falls.

Belongs here: constants of the calendar, the two expressions that put rows into hours and days, and whether a time zone is one. Does not
belong here: how moments are written (`text`), which hour shows the same time in a zone (`local_hours`), which time the logs cover
(`window.coverage`), how long anything is kept (where it is kept).
"""

from __future__ import annotations

import zoneinfo
from typing import Any

from routing_pipeline.errors import UnusableInputError

SECONDS_PER_HOUR = 3_600
SECONDS_PER_DAY = 86_400
HOURS_PER_DAY = 24
HOURS_PER_WEEK = 168
DAYS_PER_MONTH = 30
"""Of savings and of spend at the pace of a window."""
DAYS_PER_BUDGET_MONTH = 365.25 / 12
"""Budgets are of calendar months, which are a twelfth of a year on average."""
MONDAY_OFFSET_HOURS = 3 * 24
"""Hours since 1970, a Thursday, plus this, modulo 168: the hour of the week, 0 on Monday 00:00 UTC."""
WEEKDAYS = ("Monday", "Tuesday", "Wednesday", "Thursday", "Friday", "Saturday", "Sunday")
UTC_ZONE = "UTC"
NO_ZONE = "no time zone; give one such as Europe/Berlin"


def is_zone(name: str) -> bool:
    """Whether there is a time zone of that name."""
    try:
        zoneinfo.ZoneInfo(name)
    except (ValueError, OSError, zoneinfo.ZoneInfoNotFoundError):
        return False
    return True


def timezone(asked: str | None) -> str:
    """The zone that ROUTING_PIPELINE_TIMEZONE asks for, UTC where it asks for none.

    Raises:
        UnusableInputError: there is none of that name; Monday 06:00 must not come at another hour.
    """
    if not is_zone(asked or UTC_ZONE):
        raise UnusableInputError(f"ROUTING_PIPELINE_TIMEZONE={asked}: {NO_ZONE}, or leave it out")
    return asked or UTC_ZONE


def hour_of(seconds: Any) -> Any:
    """Hours since 1970 of a column of seconds since 1970, as a whole number (Ibis expression, bigint)."""
    return (seconds / SECONDS_PER_HOUR).floor().cast("int64")


def day_of(seconds: Any) -> Any:
    """Days since 1970 of a column of seconds since 1970, as a whole number (Ibis expression, bigint)."""
    return (seconds / SECONDS_PER_DAY).floor().cast("int64")
