"""Hours, days, weeks and months, once: how long they are, and in which one a moment falls.

Belongs here: constants of the calendar, and the two expressions that put rows into hours and days. Does not belong here: how
moments are written (`text`), which time the logs cover (`window.coverage`), how long anything is kept (where it is kept).
"""

from __future__ import annotations

from typing import Any

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


def hour_of(seconds: Any) -> Any:
    """Hours since 1970 of a column of seconds since 1970, as a whole number (Ibis expression, bigint)."""
    return (seconds / SECONDS_PER_HOUR).floor().cast("int64")


def day_of(seconds: Any) -> Any:
    """Days since 1970 of a column of seconds since 1970, as a whole number (Ibis expression, bigint)."""
    return (seconds / SECONDS_PER_DAY).floor().cast("int64")
