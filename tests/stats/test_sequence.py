"""Bounds that hold at every look, and differences that a changing split does not move."""

from __future__ import annotations

import numpy as np
import pytest
from scipy import stats

from routing_pipeline.estimates import Estimate, Unidentifiable
from routing_pipeline.stats.sequence import (
    Difference,
    Split,
    Sums,
    alarm_of,
    bounds,
    critical,
    critical_of_distances,
    difference_of,
    information_to_tell,
    parts_of_alpha,
    periods_of,
)


def sums(values: np.ndarray) -> Sums:
    """Of sessions of one outcome each."""
    n = float(len(values))
    return Sums(n, n, float(values.sum()), float((values**2).sum()), float(values.sum()), n)


def test_looking_every_day_raises_false_alarms_by_z_and_not_by_the_boundary() -> None:
    rng = np.random.default_rng(11)
    runs, days, alpha = 4_000, 60, 0.05
    z = np.cumsum(rng.normal(size=(runs, days)), axis=1) / np.sqrt(np.arange(1, days + 1))
    limits = np.array([critical(day / days, alpha) for day in range(1, days + 1)])
    assert (z < -limits).any(axis=1).mean() <= alpha
    assert (z < -stats.norm.ppf(1 - alpha)).any(axis=1).mean() > 2 * alpha, "the test has teeth"


def test_the_boundary_is_narrowest_in_steps_of_the_mean_where_it_was_planned() -> None:
    at = {progress: critical(progress, 0.05) / progress**0.5 for progress in (0.25, 1.0, 4.0)}
    assert at[0.25] > at[1.0] > at[4.0]
    assert critical(1.0, 0.05) < critical(0.05, 0.05)


def test_traffic_that_changes_between_steps_is_no_difference() -> None:
    rng = np.random.default_rng(3)
    easy, hard = rng.normal(0.9, 0.05, 4_000), rng.normal(0.5, 0.05, 4_000)
    splits = [Split(sums(easy[:40]), sums(easy[40:])), Split(sums(hard[:2_000]), sums(hard[2_000:]))]
    found = difference_of(splits)
    assert isinstance(found, Difference)
    assert abs(found.value) < 3 * found.standard_error < 0.01
    naive = np.r_[easy[:40], hard[:2_000]].mean() - np.r_[easy[40:], hard[2_000:]].mean()
    assert naive < -0.2, "means over all steps would see a fall"


def test_a_canary_that_is_even_by_chance_is_not_taken_for_sure() -> None:
    rng = np.random.default_rng(5)
    control = sums(rng.normal(0.8, 0.2, 5_000))
    found = difference_of([Split(sums(np.full(40, 0.7)), control)])
    assert isinstance(found, Difference)
    assert found.standard_error == pytest.approx(0.2 / 40**0.5, rel=0.05)


@pytest.mark.parametrize(("canary", "control"), [(29, 500), (500, 29), (0, 500)])
def test_too_few_sessions_cannot_tell(canary: int, control: int) -> None:
    rng = np.random.default_rng(1)
    found = difference_of([Split(sums(rng.random(canary)), sums(rng.random(control)))])
    assert isinstance(found, Unidentifiable)
    assert bounds(found, 1.0, 0.05) == found


def test_outcomes_that_never_vary_cannot_tell() -> None:
    assert isinstance(difference_of([Split(sums(np.ones(100)), sums(np.ones(100)))]), Unidentifiable)


def test_a_canary_that_always_fails_beside_a_control_that_never_does_is_surely_worse() -> None:
    splits = [Split(sums(np.zeros(40)), sums(np.ones(400)))]
    told, _ = alarm_of(splits, -0.05, (0.05, 0.4), 0.015, below=True)
    assert isinstance(told, Estimate)
    assert told.high < -0.5


def test_more_power_takes_more_information() -> None:
    assert information_to_tell(0.01, 0.05, 0.9) > information_to_tell(0.01, 0.05, 0.8)
    assert information_to_tell(0.005, 0.05, 0.8) == pytest.approx(4 * information_to_tell(0.01, 0.05, 0.8))


def test_the_parts_of_the_chance_of_a_false_alarm_add_up_to_all_of_it() -> None:
    assert sum(parts_of_alpha(1_000)) == pytest.approx(1, abs=0.01)
    assert sum(parts_of_alpha(100_000)) < 1


def test_a_boundary_for_a_few_distances_holds_at_all_looks_and_is_near_for_each_of_them() -> None:
    rng = np.random.default_rng(12)
    runs, looks, alpha, distances = 4_000, 80, 0.05, (0.1, 0.4)
    information = np.arange(1.0, looks + 1)
    z = np.cumsum(rng.normal(size=(runs, looks)), axis=1) / np.sqrt(information)
    limits = np.array([critical_of_distances(each, alpha, distances) for each in information])
    assert (z > limits).any(axis=1).mean() <= alpha
    for distance in distances:
        at = round(2 * np.log(2 / alpha) / distance**2)
        assert critical_of_distances(at, alpha, distances) < np.sqrt(2 * np.log(2 / alpha)) + 0.01


def days(rng: np.random.Generator, falls: list[float], sessions: int = 200) -> list[Split]:
    return [
        Split(sums(rng.normal(0.8 - fall, 0.2, sessions)), sums(rng.normal(0.8, 0.2, sessions)), start_s=86_400.0 * day)
        for day, fall in enumerate(falls)
    ]


def test_a_fall_that_begins_late_is_told_of_the_days_since_then() -> None:
    splits = days(np.random.default_rng(4), [0.0] * 20 + [0.12] * 3)
    whole = bounds(difference_of(splits), information_to_tell(0.03, 0.05, 0.8) / 9, 0.0125)
    assert isinstance(whole, Estimate)
    assert whole.high > -0.03, "the sound days hide it from one sequence over all"
    told, since = alarm_of(splits, -0.03, (0.03, 0.09), 0.025, below=True)
    assert isinstance(told, Estimate)
    assert told.high < -0.03
    assert since >= 17


def test_a_difference_within_the_limit_is_told_of_all_days() -> None:
    told, since = alarm_of(days(np.random.default_rng(6), [0.0] * 30), -0.03, (0.03, 0.09), 0.025, below=True)
    assert isinstance(told, Estimate)
    assert (since, told.low < 0 < told.high) == (0, True)


def test_days_of_few_sessions_are_one_period_and_steps_never_are() -> None:
    rng = np.random.default_rng(7)
    thin = [Split(sums(rng.random(12)), sums(rng.random(900)), step=step, start_s=day) for day, step in enumerate((0, 0, 0, 0, 1))]
    found = periods_of(thin)
    assert [(each.step, each.canary.n, each.start_s) for each in found] == [(0, 36, 0), (0, 12, 3), (1, 12, 4)]
    assert sum(each.control.total for each in found) == pytest.approx(sum(each.control.total for each in thin))
