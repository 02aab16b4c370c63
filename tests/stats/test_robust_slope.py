"""The slope of Theil and Sen against scipy's, and the points that it is for."""

import numpy as np
import pytest
from scipy import stats

from routing_pipeline.stats.robust_slope import theil_sen


def test_slope_and_interval_are_those_of_scipy_with_ties_and_without() -> None:
    rng = np.random.default_rng(8)
    for n in (2, 3, 5, 14, 60):
        for y in (rng.normal(size=n), rng.integers(0, 4, n).astype(float), np.zeros(n)):
            x = np.cumsum(rng.integers(1, 4, n))
            found, theirs = theil_sen(y.tolist(), x.tolist()), stats.theilslopes(y, x, 0.95)
            expected = (theirs.slope, theirs.low_slope, theirs.high_slope)
            assert (found.estimate, found.low, found.high) == pytest.approx(expected, abs=1e-12)


def test_one_day_that_costs_a_hundred_times_as_much_does_not_turn_the_slope() -> None:
    days = list(range(20))
    cost = [10.0 + 0.5 * day for day in days]
    cost[3] = 1_000.0
    assert theil_sen(cost, days).estimate == pytest.approx(0.5)


@pytest.mark.parametrize(("y", "x"), [([1.0], [1.0]), ([1.0, 2.0], [1.0]), ([1.0, 2.0], [2.0, 2.0])])
def test_what_is_no_line_is_refused(y: list[float], x: list[float]) -> None:
    with pytest.raises(ValueError, match="two points or more"):
        theil_sen(y, x)
