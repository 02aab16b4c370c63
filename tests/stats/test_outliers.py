"""Hours that stand out: found where planted, silent where nothing is, honest where days are few."""

from __future__ import annotations

import numpy as np
import pytest

from routing_pipeline.estimates import Unidentifiable
from routing_pipeline.stats.outliers import hours_standing_out, slot

MONDAY_H = 4 * 24


def rhythm(days: int, seed: int) -> dict[int, tuple[float, float]]:
    """Hours of `days` days from a Monday: busy by day, quiet at the weekend; total and sum of squares of lognormal costs."""
    rng = np.random.default_rng(seed)
    found = {}
    for hour in range(days * 24):
        usual = 200 * (1.2 + np.sin(2 * np.pi * (hour % 24) / 24)) * (0.3 if hour // 24 % 7 >= 5 else 1.0)
        costs = rng.lognormal(-5, 1.0, rng.poisson(usual))
        found[MONDAY_H + hour] = (float(costs.sum()), float((costs**2).sum()))
    return found


def test_hours_of_an_ordinary_week_rarely_stand_out() -> None:
    weeks = 0
    for seed in range(40):
        judged = hours_standing_out(rhythm(7, seed), range(MONDAY_H, MONDAY_H + 168))
        assert not isinstance(judged, Unidentifiable)
        weeks += any(hour.stands_out for hour in judged)
    assert weeks <= 4


@pytest.mark.parametrize("days", [7, 28])
def test_a_doubled_hour_stands_out_alone(days: int) -> None:
    amounts = rhythm(days, 5)
    planted = MONDAY_H + 3 * 24 + 9
    usual, squares = amounts[planted]
    amounts[planted] = (2 * usual, 4 * squares)
    judged = hours_standing_out(amounts, range(MONDAY_H, MONDAY_H + days * 24))
    assert not isinstance(judged, Unidentifiable)
    assert [hour.hour for hour in judged if hour.stands_out] == [planted]


@pytest.mark.parametrize("days", [7, 28])
def test_what_an_hour_would_usually_be_holds_ordinary_hours_in_nineteen_of_twenty_cases(days: int) -> None:
    held = []
    for seed in range(10):
        judged = hours_standing_out(rhythm(days, seed), range(MONDAY_H, MONDAY_H + days * 24))
        assert not isinstance(judged, Unidentifiable)
        held += [hour.expected_low <= hour.amount <= hour.expected_high for hour in judged]
    assert 0.92 <= np.mean(held) <= 0.99


def test_a_quiet_weekend_is_no_reason_to_call_monday_a_spike() -> None:
    judged = hours_standing_out(rhythm(8, 11), range(MONDAY_H + 168, MONDAY_H + 192))
    assert not isinstance(judged, Unidentifiable)
    assert not any(hour.stands_out for hour in judged)


@pytest.mark.parametrize("hours", [1, 2, 4])
def test_a_spike_in_the_first_hours_of_a_day_stands_out_and_an_ordinary_monday_does_not(hours: int) -> None:
    for factor in (1.0, 20.0):
        amounts = {hour: sums for hour, sums in rhythm(8, 6).items() if hour < MONDAY_H + 168 + hours}
        last = max(amounts)
        amounts[last] = (factor * amounts[last][0], factor**2 * amounts[last][1])
        judged = hours_standing_out(amounts, range(last + 1 - hours, last + 1))
        assert not isinstance(judged, Unidentifiable)
        assert [hour.hour for hour in judged if hour.stands_out] == ([last] if factor > 1 else [])


@pytest.mark.parametrize("days", [0, 1, 2])
def test_two_days_do_not_say_what_is_usual(days: int) -> None:
    assert isinstance(hours_standing_out(rhythm(days, 1), range(MONDAY_H, MONDAY_H + 48)), Unidentifiable)


def test_three_weeks_compare_an_hour_with_the_same_hour_of_the_week() -> None:
    assert slot(MONDAY_H + 25, 7) == 1
    assert slot(MONDAY_H + 25, 21) == 25
