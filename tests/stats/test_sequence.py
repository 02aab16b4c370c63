"""Bounds that hold at every look, and differences that a changing split does not move."""

from __future__ import annotations

import numpy as np
import pytest
from scipy import stats

from routing_pipeline.estimates import Unidentifiable
from routing_pipeline.stats.sequence import Difference, Split, Sums, bounds, critical, difference_of, information_to_tell


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


def test_more_power_takes_more_information() -> None:
    assert information_to_tell(0.01, 0.05, 0.9) > information_to_tell(0.01, 0.05, 0.8)
    assert information_to_tell(0.005, 0.05, 0.8) == pytest.approx(4 * information_to_tell(0.01, 0.05, 0.8))
