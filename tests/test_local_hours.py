"""The same hour by the clock that people work by, days and weeks before."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from zoneinfo import ZoneInfo

import numpy as np
import pytest

from routing_pipeline.clock import HOURS_PER_DAY, HOURS_PER_WEEK, SECONDS_PER_HOUR
from routing_pipeline.local_hours import same_hour, shown_hour

EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
YEARS = np.arange(365 * 2 * HOURS_PER_DAY) + int(datetime(2025, 1, 1, tzinfo=UTC).timestamp()) // SECONDS_PER_HOUR


def hour(moment: datetime) -> int:
    return int(moment.timestamp()) // SECONDS_PER_HOUR


def at(zone: str, day: str, local_hour: int, fold: int = 0) -> int:
    return hour(datetime.fromisoformat(day).replace(hour=local_hour, tzinfo=ZoneInfo(zone), fold=fold))


@pytest.mark.parametrize("zone", ["UTC", "Asia/Kolkata", "Australia/Lord_Howe", "Etc/GMT+5"])
@pytest.mark.parametrize("back_h", [HOURS_PER_WEEK, 4 * HOURS_PER_WEEK, HOURS_PER_DAY, -HOURS_PER_DAY])
def test_where_clocks_are_never_changed_or_by_half_an_hour_the_same_hour_is_whole_days_before(zone: str, back_h: int) -> None:
    assert (same_hour(zone, YEARS, back_h) == YEARS - back_h).all()


@pytest.mark.parametrize("zone", ["Europe/Berlin", "America/New_York", "America/Santiago", "Africa/Casablanca", "Pacific/Chatham"])
@pytest.mark.parametrize("weeks", [1, 2, 3, 4])
def test_the_same_hour_of_a_week_before_shows_the_same_time(zone: str, weeks: int) -> None:
    def shown(hours: np.ndarray) -> list[datetime]:
        return [(EPOCH + timedelta(hours=each)).astimezone(ZoneInfo(zone)).replace(tzinfo=None) for each in hours.tolist()]

    then = same_hour(zone, YEARS, weeks * HOURS_PER_WEEK)
    moved = [late - early - timedelta(weeks=weeks) for late, early in zip(shown(YEARS), shown(then), strict=True)]
    # Where the time of that day was left out, the hour after it stands in.
    assert {each for each in moved if each} <= {timedelta(hours=-1)}
    changes_forward = int((np.diff(shown_hour(zone, YEARS)) == 2).sum())
    assert changes_forward > 0
    assert sum(map(bool, moved)) == changes_forward


def test_nine_in_the_morning_stays_nine_over_both_changes() -> None:
    week = np.arange(1, 5) * HOURS_PER_WEEK
    for monday, before in (("2026-03-30", ["2026-03-23", "2026-03-16"]), ("2026-10-26", ["2026-10-19", "2026-10-12"])):
        assert same_hour("Europe/Berlin", at("Europe/Berlin", monday, 9), week)[:2].tolist() == [
            at("Europe/Berlin", each, 9) for each in before
        ]


def test_an_hour_left_out_has_the_next_and_both_of_a_doubled_one_the_same() -> None:
    berlin = "Europe/Berlin"
    assert same_hour(berlin, at(berlin, "2026-04-05", 2), HOURS_PER_WEEK) == at(berlin, "2026-03-29", 3)
    doubled = [at(berlin, "2026-10-25", 2, fold) for fold in (0, 1)]
    assert doubled[1] - doubled[0] == 1
    assert same_hour(berlin, doubled, HOURS_PER_WEEK).tolist() == [at(berlin, "2026-10-18", 2)] * 2
    assert same_hour(berlin, at(berlin, "2026-11-01", 2), HOURS_PER_WEEK) == doubled[1]
