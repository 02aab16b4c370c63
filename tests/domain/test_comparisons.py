"""Differences, ratios and clustered means, against what can be worked out on paper."""

from __future__ import annotations

import math

import numpy as np
import pytest
from scipy import stats

from routing_pipeline import comparisons
from routing_pipeline.estimates import Estimate, Unidentifiable, mean_interval


def test_the_error_of_a_difference_is_the_sum_of_both_errors_because_their_correlation_is_unknown() -> None:
    found = comparisons.difference(comparisons.around(0.9, 0.01), comparisons.around(0.8, 0.02))
    assert isinstance(found, Estimate)
    assert found.estimate == pytest.approx(0.1)
    assert comparisons.standard_error(found) == pytest.approx(0.03)


def test_one_unknown_part_makes_the_sum_unknown() -> None:
    unknown = Unidentifiable(unidentifiable="never seen")
    assert comparisons.weighted_sum([(0.9, comparisons.around(1, 0.1)), (0.1, unknown)]) == unknown
    assert comparisons.ratio(comparisons.around(1, 0.1), unknown) == unknown


def test_an_interval_that_just_touches_zero_has_a_p_value_of_five_percent() -> None:
    assert comparisons.p_value(Estimate(estimate=1.0, low=0.0, high=2.0)) == pytest.approx(0.05)


def test_intervals_of_another_level_are_read_at_that_level() -> None:
    se = comparisons.standard_error(comparisons.around(0.0, 0.5, level=0.80))
    assert se == pytest.approx(0.5)


def test_a_ratio_needs_a_denominator_that_is_surely_positive() -> None:
    assert isinstance(comparisons.ratio(comparisons.around(1, 0.1), Estimate(estimate=1, low=-0.1, high=2)), Unidentifiable)
    found = comparisons.ratio(comparisons.around(2.0, 0.02), comparisons.around(4.0, 0.04))
    assert isinstance(found, Estimate)
    assert math.log(found.high / found.estimate) == pytest.approx(stats.norm.ppf(0.975) * 0.02)


def test_adjusted_p_values_are_those_of_benjamini_and_hochberg() -> None:
    assert comparisons.false_discovery_adjusted([0.01, 0.04, 0.03, 0.005]) == pytest.approx([0.02, 0.04, 0.04, 0.02])
    assert comparisons.false_discovery_adjusted([]) == []


def test_a_clustered_mean_with_one_observation_per_cluster_is_students() -> None:
    values = np.random.default_rng(1).normal(5, 2, 200)
    clustered, plain = comparisons.clustered_mean(values, np.ones(200)), mean_interval(200, values.sum(), (values**2).sum())
    assert isinstance(clustered, Estimate)
    assert isinstance(plain, Estimate)
    assert (clustered.estimate, clustered.low, clustered.high) == pytest.approx((plain.estimate, plain.low, plain.high))


def test_observations_that_repeat_within_a_cluster_do_not_narrow_the_interval() -> None:
    values = np.random.default_rng(2).normal(5, 2, 50)
    once = comparisons.clustered_mean(values, np.ones(50))
    tenfold = comparisons.clustered_mean(values * 10, np.full(50, 10.0))
    assert isinstance(once, Estimate)
    assert isinstance(tenfold, Estimate)
    assert tenfold.high - tenfold.low == pytest.approx(once.high - once.low)


@pytest.mark.parametrize("counts", [[0.0, 0.0], [100.0, 0.0]])
def test_a_single_cluster_has_no_interval(counts: list[float]) -> None:
    assert isinstance(comparisons.clustered_mean(np.array([5.0, 0.0]), np.array(counts)), Unidentifiable)


def test_a_ratio_of_means_over_the_same_clusters_covers_its_truth() -> None:
    rng = np.random.default_rng(3)
    covered = 0
    for _ in range(300):
        n = rng.integers(5, 20, 100).astype(float)
        shared = rng.normal(0, 0.1, 100)
        quality, cost = n * (0.8 + shared) + rng.normal(0, 0.3, 100), n * (0.02 + 0.02 * shared) + rng.normal(0, 0.01, 100)
        found = comparisons.clustered_ratio_of_means(quality, n, cost, n)
        assert isinstance(found, Estimate)
        covered += found.low <= 40 <= found.high
    assert 0.91 <= covered / 300 <= 0.99
