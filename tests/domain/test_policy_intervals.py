"""Cluster-robust errors and simultaneous intervals against what is known of them."""

from __future__ import annotations

import numpy as np
import pytest

from routing_pipeline.estimates import Estimate, Unidentifiable
from routing_pipeline.policy.intervals import ONE, Statistic, interval, ratio, simultaneous, student


def test_a_mean_over_equal_clusters_has_the_error_of_their_means() -> None:
    sums = np.random.default_rng(0).normal(10, 2, size=40)
    mean = ratio(sums, np.full(40, 5.0))
    assert mean.value == pytest.approx(sums.mean() / 5)
    assert mean.standard_error == pytest.approx((sums / 5).std(ddof=1) / np.sqrt(40))


def test_the_delta_method_agrees_with_the_jackknife() -> None:
    rng = np.random.default_rng(1)
    size = rng.uniform(5, 20, size=80)
    up, down = size * rng.normal(2.0, 0.3, size=80), size * rng.normal(5.0, 0.5, size=80)
    found = ratio(up, size).relative_to(ratio(down, size))
    left = [(up.sum() - u) / (down.sum() - d) for u, d in zip(up, down, strict=True)]
    jackknife = np.sqrt(79 / 80 * ((left - np.mean(left)) ** 2).sum())
    assert found.value == pytest.approx(up.sum() / down.sum() - 1)
    assert found.standard_error == pytest.approx(jackknife, rel=0.05)


def test_a_whole_family_needs_wider_intervals_than_one() -> None:
    rng = np.random.default_rng(2)
    family = [Statistic(0.0, rng.normal(size=128), 128) for _ in range(20)]
    assert simultaneous(family[:1]) == pytest.approx(ONE, rel=0.05)
    assert simultaneous(family) > 2.8
    assert simultaneous([family[0]] * 20) == pytest.approx(simultaneous(family[:1]))


def test_simultaneous_intervals_hold_together_as_often_as_they_say() -> None:
    rng = np.random.default_rng(3)
    held = 0
    for _ in range(300):
        draws = rng.normal(size=(100, 6)) @ np.linalg.cholesky(0.5 * np.eye(6) + 0.5)
        family = [ratio(draws[:, place], np.ones(100)) for place in range(6)]
        critical = simultaneous(family)
        held += all(abs(each.value) <= critical * each.standard_error for each in family)
    assert 0.92 <= held / 300 <= 0.99


def test_an_outcome_that_never_varied_says_no_more_than_the_rule_of_three() -> None:
    always = ratio(np.full(50, 4.0), np.full(50, 4.0))
    found = interval(always, 2.0, bounds=(0.0, 1.0), n=200)
    assert isinstance(found, Estimate)
    assert (found.low, found.estimate, found.high) == (1 - 3 / 200, 1.0, 1.0)


def test_nothing_to_divide_by_is_unidentifiable() -> None:
    assert isinstance(interval(ratio(np.zeros(10), np.zeros(10)), 2.0), Unidentifiable)
    one = ratio(np.array([3.0, 0.0]), np.array([2.0, 0.0]))
    assert isinstance(interval(one, 2.0), Unidentifiable)


def test_an_error_is_worth_as_many_degrees_of_freedom_as_clusters_carry_it() -> None:
    rng = np.random.default_rng(4)
    alike = [Statistic(0.0, rng.normal(size=100), 100).degrees for _ in range(50)]
    assert 75 < np.median(alike) <= 99
    four = np.zeros(100)
    four[:4] = 1.0
    assert Statistic(0.0, four, 100).degrees == pytest.approx(2 * 4 / (1 - 4 / 100), rel=1e-9)
    assert Statistic(0.0, np.zeros(100), 100).degrees == 99
    assert Statistic(0.0, four, 100, expected_error=0.1).degrees == 99


def test_intervals_hold_where_few_clusters_carry_the_error() -> None:
    rng = np.random.default_rng(5)
    weight = np.where(np.arange(100) < 6, 30.0, 1.0)
    found = [ratio(weight * values, weight) for values in rng.normal(size=(2_000, 100))]
    told = [interval(each, ONE) for each in found]
    held = np.mean([isinstance(each, Estimate) and each.low <= 0.0 <= each.high for each in told])
    by_clusters = np.mean([abs(each.value) <= student(0.975, 99) * each.standard_error for each in found])
    assert by_clusters < 0.91
    assert 0.93 < held < 0.98


def test_what_is_to_be_expected_is_told_where_the_data_happen_to_show_nothing() -> None:
    quiet = Statistic(0.99, np.zeros(50), 50, expected_error=0.02)
    assert quiet.standard_error == 0.02
    other = Statistic(0.5, np.zeros(50), 50, expected_error=0.01)
    assert quiet.minus(other).standard_error == pytest.approx(np.hypot(0.02, 0.01))
    assert quiet.relative_to(other).standard_error == pytest.approx(np.hypot(0.02, 0.99 / 0.5 * 0.01) / 0.5)
    assert quiet.scaled(-3.0).standard_error == pytest.approx(0.06)
    assert quiet.low() < 0.99 < quiet.high()
