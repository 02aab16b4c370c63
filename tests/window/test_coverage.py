"""Which time the logs cover: what is a gap in them, and what is a time in which nothing was asked."""

from __future__ import annotations

import itertools
import random
from collections.abc import Iterable
from datetime import date, datetime
from zoneinfo import ZoneInfo

import pytest

from routing_pipeline.window.coverage import Uncovered, is_weekend, late_starts, uncovered

HOUR = 3_600
MONDAY = (date(2026, 11, 16) - date(1970, 1, 1)).days * 24
OFFICE = range(9, 17)


def clock_round(first_day: float, last_day: float) -> set[int]:
    """Every hour from one day after that Monday to another."""
    return set(range(MONDAY + round(first_day * 24), MONDAY + round(last_day * 24)))


def office(days: Iterable[int]) -> set[int]:
    return {MONDAY + 24 * day + hour for day in days for hour in OFFICE}


def covered(hours: set[int], days: float, end_day: float, *, first: bool = True, last: bool = False) -> float:
    """Days that logs with records in these hours cover of a window of `days` that ends `end_day` days after that Monday."""
    end = (MONDAY + end_day * 24) * HOUR
    start = end - days * 24 * HOUR
    missing = uncovered(hours, start, end, first_s=min(hours) * HOUR if first else None, last_s=(max(hours) + 1) * HOUR if last else None)
    assert all(one.end_s <= other.start_s for one, other in itertools.pairwise(missing))
    return (end - start - sum(each.end_s - each.start_s for each in missing)) / 86_400


@pytest.mark.parametrize("days", [2, 5, 9, 20])
@pytest.mark.parametrize("asked", [7, 30])
def test_logs_cover_what_they_hold_however_long_a_window_is_asked_for(days: int, asked: int) -> None:
    assert covered(clock_round(0, days), asked, days) == pytest.approx(min(days, asked))


def test_before_the_first_record_nothing_is_covered_to_the_second() -> None:
    first = (MONDAY + 10) * HOUR + 1_234.0
    found = uncovered(clock_round(10 / 24, 3), MONDAY * HOUR, (MONDAY + 72) * HOUR, first_s=first)
    assert found == (Uncovered(start_s=MONDAY * HOUR, end_s=first),)


def test_logs_that_begin_before_the_window_cover_it_from_its_start() -> None:
    assert covered(clock_round(0.5, 7), 7, 7, first=False) == pytest.approx(6.5), "half a day of silence in round-the-clock logs is a gap"
    assert covered(office(range(5)), 7, 5, first=False) == pytest.approx(7.0), "a weekend of logs that know closing time is none"


@pytest.mark.parametrize("monday", [date(2026, 3, 30), date(2026, 10, 26)], ids=["spring", "autumn"])
@pytest.mark.parametrize("weeks", [1, 2, 5])
def test_an_hour_that_moved_because_the_clocks_were_changed_makes_no_gap(monday: date, weeks: int) -> None:
    clock, first = ZoneInfo("Europe/Berlin"), (monday - date(1970, 1, 1)).days * 24 - weeks * 7 * 24
    hours = {
        hour
        for hour in range(first, first + (weeks + 2) * 7 * 24)
        if (local := datetime.fromtimestamp(hour * HOUR, clock)).weekday() < 5 and local.hour in OFFICE
    }
    assert uncovered(hours, first * HOUR, (first + (weeks + 2) * 7 * 24) * HOUR) == ()


@pytest.mark.parametrize(("from_day", "to_day"), [(3, 5), (5, 7), (1.6, 5.4), (0.75, 1.25)])
def test_a_gap_in_the_middle_is_not_covered_whichever_days_it_hits(from_day: float, to_day: float) -> None:
    holed = clock_round(0, 9) - clock_round(from_day, to_day)
    assert covered(holed, 30, 9) == pytest.approx(9 - (to_day - from_day), abs=0.05)


def test_an_outage_is_covered_because_nothing_was_asked_or_answered_in_it() -> None:
    assert covered(clock_round(0, 2) - clock_round(0.75, 0.75 + 5 / 24), 7, 2) == pytest.approx(2.0)


def test_several_gaps_are_none_of_them_taken_for_a_rhythm() -> None:
    assert covered(clock_round(0, 20) - clock_round(4, 5) - clock_round(11, 12), 30, 20) == pytest.approx(18.0)
    assert covered(set().union(*(clock_round(day, day + 1) for day in range(0, 9, 2))), 30, 9) == pytest.approx(5.0)
    assert covered(clock_round(0, 1) | clock_round(8, 9), 30, 9) == pytest.approx(2.0)
    assert covered(clock_round(0, 3) | clock_round(27, 30), 30, 30) == pytest.approx(6.0)


def test_nights_and_weekends_that_are_always_silent_are_covered() -> None:
    closing = 17 / 24
    assert covered(office(range(5)), 30, 4 + closing) == pytest.approx(4 + closing), "one week of office hours"
    assert covered(office([0, 1, 2, 3, 4, 7, 8, 9, 10, 11]), 30, 11 + closing) == pytest.approx(11 + closing)
    assert covered(office([0, 1, 2, 3, 4, 7, 8, 9, 10, 11]), 14, 14, last=True) == pytest.approx(14.0), "asked on Sunday night"


def test_a_lost_day_of_office_hours_is_a_whole_day() -> None:
    closing = 17 / 24
    assert covered(office([0, 1, 3, 4, 7, 8, 9, 10, 11]), 30, 11 + closing) == pytest.approx(10 + closing)
    assert covered(office([0, 1, 3, 4]), 30, 4 + closing) == pytest.approx(3 + closing)


def test_a_batch_that_runs_once_a_week_or_at_any_hour_of_the_day_leaves_no_gap() -> None:
    weekly = set().union(*(clock_round(7 * week, 7 * week + 1) for week in range(4)))
    assert covered(weekly, 22, 22) == pytest.approx(22.0)
    rolled = random.Random(3)  # noqa: S311
    daily = {MONDAY + 24 * day + rolled.randrange(24) for day in range(20)}
    assert covered(daily, 20, 20, first=False) == pytest.approx(20.0)


@pytest.mark.parametrize("per_day", [20, 60, 200])
def test_with_few_records_a_gap_shows_and_chance_makes_none(per_day: int) -> None:
    rolled = random.Random(per_day)  # noqa: S311
    hours = {hour for hour in clock_round(0, 9) if rolled.random() < 1 - (1 - 1 / 24) ** per_day} | {MONDAY, MONDAY + 9 * 24 - 1}
    assert covered(hours, 30, 9) == pytest.approx(9.0)
    assert covered(hours - clock_round(3, 6), 30, 9) == pytest.approx(6.0, abs=0.4)


def test_after_the_last_record_of_all_nothing_is_covered() -> None:
    assert covered(clock_round(0, 5.5), 7, 7, last=True) == pytest.approx(5.5)
    assert covered(clock_round(0, 5.5), 7, 7) == pytest.approx(5.5), "nor where logs go on much later"


def test_without_a_record_nothing_is_covered() -> None:
    assert uncovered((), 0.0, 10.0) == (Uncovered(start_s=0.0, end_s=10.0),)


def test_the_weekend_is_saturday_and_sunday() -> None:
    assert [is_weekend(MONDAY + 24 * day) for day in range(7)] == [False] * 5 + [True] * 2


def logging(days: Iterable[int]) -> dict[int, float]:
    """When a source's first record of these days after that Monday began: at noon."""
    return {MONDAY // 24 + day: (MONDAY + 24 * day + 12) * HOUR for day in days}


def late(**days: Iterable[int]) -> list[str]:
    """Sources that begin late in the week from that Monday on."""
    found = late_starts({source: logging(each) for source, each in days.items()}, MONDAY * HOUR, (MONDAY + 7 * 24) * HOUR)
    return [source for source, _ in found]


def test_a_source_that_begins_days_after_the_window_while_another_covers_it_is_late() -> None:
    assert late(old=range(7), new=range(3, 7)) == ["new"]
    assert late(old=range(-3, 7), new=range(5, 7), newer=[6]) == ["newer", "new"]


def test_sources_that_begin_together_early_or_seldom_log_are_not() -> None:
    assert late(one=range(3, 7), other=range(3, 7)) == [], "the logs as a whole begin then, which is told otherwise"
    assert late(one=range(7), other=range(-2, 7)) == []
    assert late(one=range(7), weekly=[2]) == []
    assert late(one=range(7), over=range(8, 10)) == []
