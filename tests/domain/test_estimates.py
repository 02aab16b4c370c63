"""Intervals from counts and sums, and when there is none."""

from __future__ import annotations

import numpy as np
import pytest
from pydantic import ValidationError
from scipy import stats

from routing_pipeline.estimates import Estimate, Unidentifiable, mean_interval, proportion_interval


def test_a_mean_agrees_with_scipys_student_interval() -> None:
    values = np.array([1.0, 2.0, 4.0, 8.0])
    found = mean_interval(4, values.sum(), (values**2).sum())
    low, high = stats.t.interval(0.95, 3, values.mean(), stats.sem(values))
    assert isinstance(found, Estimate)
    assert (found.low, found.high) == pytest.approx((low, high))


@pytest.mark.parametrize(("n", "total", "squares"), [(0, 0, 0), (1, 3, 9), (5, 5, 5)])
def test_too_little_to_vary_is_said_and_never_a_zero_width_interval(n: int, total: float, squares: float) -> None:
    assert isinstance(mean_interval(n, total, squares), Unidentifiable)


def test_no_failure_in_ten_still_leaves_room_for_one() -> None:
    found = proportion_interval(10, 10)
    assert isinstance(found, Estimate)
    assert (found.estimate, found.high) == (1.0, 1.0)
    assert 0.7 < found.low < 0.75


def test_a_proportion_of_nothing_cannot_be_told() -> None:
    assert isinstance(proportion_interval(0, 0), Unidentifiable)


@pytest.mark.parametrize("value", [float("nan"), float("inf")])
def test_a_result_holds_no_nan_and_no_infinity(value: float) -> None:
    with pytest.raises(ValidationError):
        Estimate(estimate=value, low=0, high=1)


def test_the_wilson_interval_covers_at_least_nominally_in_simulation() -> None:
    rng = np.random.default_rng(1)
    draws = rng.binomial(200, 0.03, size=2000)
    covered = sum(isinstance(e, Estimate) and e.low <= 0.03 <= e.high for e in (proportion_interval(k, 200) for k in draws))
    assert covered / 2000 > 0.93


def test_the_interval_of_a_duration_does_not_reach_below_zero() -> None:
    found = mean_interval(2, 100.0, 9_000.0, least=0.0)
    assert isinstance(found, Estimate)
    assert found.low == 0.0
    assert found.high > 100.0
