"""The kernel of inference against what can be worked out on paper, textbook methods, simulation, and what it has told before."""

from __future__ import annotations

import math

import numpy as np
import pytest
from scipy import stats

from routing_pipeline.estimates import Estimate, Measured, Unidentifiable
from routing_pipeline.stats import inference
from routing_pipeline.stats.inference import (
    NOT_NEGATIVE,
    POINTWISE,
    Statistic,
    interval,
    mean_interval,
    proportion_interval,
    quantile,
    ratio_of_sums,
    simultaneous,
)


def test_the_error_of_a_difference_is_the_sum_of_both_errors_because_their_correlation_is_unknown() -> None:
    found = inference.difference(inference.around(0.9, 0.01), inference.around(0.8, 0.02))
    assert isinstance(found, Estimate)
    assert found.estimate == pytest.approx(0.1)
    assert inference.standard_error(found) == pytest.approx(0.03)


def test_one_unknown_part_makes_the_sum_unknown() -> None:
    unknown = Unidentifiable(unidentifiable="never seen")
    assert inference.weighted_sum([(0.9, inference.around(1, 0.1)), (0.1, unknown)]) == unknown
    assert inference.ratio(inference.around(1, 0.1), unknown) == unknown


def test_an_interval_that_just_touches_zero_has_a_p_value_of_five_percent() -> None:
    assert inference.p_value(Estimate(estimate=1.0, low=0.0, high=2.0)) == pytest.approx(0.05)


def test_a_p_value_is_read_at_the_degrees_of_freedom_of_its_interval() -> None:
    contrast = inference.around(6.87, 1.0, degrees=5)
    assert inference.p_value(contrast) == pytest.approx(2 * stats.t.sf(6.87, 5))
    assert inference.p_value(contrast) == pytest.approx(0.001, rel=0.02)
    assert inference.p_value(inference.around(-6.87, 1.0)) < 1e-9
    assert inference.standard_error(contrast) == pytest.approx(1.0)
    assert inference.chance_above(inference.around(0.0, 1.0, degrees=3), 2.0) == pytest.approx(stats.t.sf(2.0, 3))
    assert inference.chance_above(inference.around(1.0, 0.0), 0.5) == 1.0


def test_an_interval_cut_at_the_end_of_its_scale_does_not_look_surer_for_it() -> None:
    whole = inference.around(0.98, 0.02, degrees=9)
    assert inference.standard_error(whole.within(0.0, 1.0)) == pytest.approx(0.02)


def test_a_sum_knows_its_error_as_well_as_the_parts_that_make_it_up() -> None:
    alone = inference.around(1.0, 0.1, degrees=4)
    assert inference.weighted_sum([(1.0, alone), (1.0, inference.around(1.0, 1e-6, degrees=1))]).degrees == pytest.approx(4.0)
    assert inference.weighted_sum([(2.0, alone), (-1.0, alone)]).degrees == pytest.approx(4.0)
    assert inference.weighted_sum([(1.0, inference.around(1.0, 0.1))]).degrees is None
    both = inference.independent_sum([(1.0, alone), (1.0, alone)])
    assert both.degrees == pytest.approx(8.0)
    assert inference.standard_error(both) == pytest.approx(0.1 * math.sqrt(2))


def test_sums_of_one_level_keep_it() -> None:
    part = inference.around(1.0, 0.1, level=0.999)
    assert inference.weighted_sum([(-1.0, part)]).level == 0.999
    assert inference.weighted_sum([(-1.0, part), (1.0, inference.around(0.0, 0.1))]).level == 0.95


def test_falls_of_skewed_means_are_judged_on_the_logarithm() -> None:
    # Means of 60 costs of one lognormal distribution: of what seems to have fallen by chance, the logarithm clears a third away.
    rng = np.random.default_rng(4)
    costs = rng.lognormal(-0.245, 0.7, size=(4_000, 60))
    plain, on_log = [], []
    for each in costs:
        change = inference.around(float(each.mean()) - 1.0, float(each.std(ddof=1)) / math.sqrt(60), degrees=59)
        plain.append(inference.chance_above(change, 0.0) < 0.005)
        on_log.append(inference.chance_not_lower(1.0, change) < 0.005)
    assert np.mean(plain) > 0.02
    assert np.mean(on_log) < 0.7 * np.mean(plain)


def test_a_ratio_below_one_is_as_sure_as_its_logarithm_is_below_nought() -> None:
    found = inference.ratio(inference.around(1.0, 0.05, degrees=20), inference.around(2.0, 0.1, degrees=20))
    assert isinstance(found, Estimate)
    assert inference.chance_not_below_one(found) == pytest.approx(stats.t.sf(math.log(2.0) / 0.1, 20.0), rel=1e-6)
    assert inference.chance_not_below_one(Estimate(estimate=0.5, low=0.5, high=0.5)) == 0.0


def test_intervals_of_another_level_are_read_at_that_level() -> None:
    se = inference.standard_error(inference.around(0.0, 0.5, level=0.80))
    assert se == pytest.approx(0.5)


def test_a_ratio_needs_a_denominator_that_is_surely_positive() -> None:
    assert isinstance(inference.ratio(inference.around(1, 0.1), Estimate(estimate=1, low=-0.1, high=2)), Unidentifiable)
    found = inference.ratio(inference.around(2.0, 0.02), inference.around(4.0, 0.04))
    assert isinstance(found, Estimate)
    assert math.log(found.high / found.estimate) == pytest.approx(stats.norm.ppf(0.975) * 0.02)


def test_adjusted_p_values_are_those_of_benjamini_and_hochberg() -> None:
    assert inference.false_discovery_adjusted([0.01, 0.04, 0.03, 0.005]) == pytest.approx([0.02, 0.04, 0.04, 0.02])
    assert inference.false_discovery_adjusted([]) == []


def test_a_clustered_mean_with_one_observation_per_cluster_is_students() -> None:
    values = np.random.default_rng(1).normal(5, 2, 200)
    clustered, plain = inference.clustered_mean(values, np.ones(200)), mean_interval(200, values.sum(), (values**2).sum())
    assert isinstance(clustered, Estimate)
    assert isinstance(plain, Estimate)
    assert clustered.estimate == pytest.approx(plain.estimate)
    # As much as 200 degrees of freedom that are counted and 165 that are found differ.
    assert (clustered.low, clustered.high) == pytest.approx((plain.low, plain.high), abs=1e-3)


def test_a_clustered_mean_has_the_interval_of_the_same_statistic_and_none_that_cannot_be() -> None:
    rng = np.random.default_rng(5)
    totals, counts = rng.pareto(1.2, 80), np.ones(80)
    found = inference.clustered_mean(totals, counts)
    assert found == interval(ratio_of_sums(totals, counts), POINTWISE)
    assert isinstance(found, Estimate)
    assert found.degrees is not None
    assert found.degrees < 40
    heavy = inference.clustered_mean(np.array([100.0, *np.full(39, 0.01)]), np.ones(40), bounds=inference.NOT_NEGATIVE)
    assert isinstance(heavy, Estimate)
    assert heavy.low == 0.0
    assert heavy.low < heavy.estimate < heavy.high


def test_observations_that_repeat_within_a_cluster_do_not_narrow_the_interval() -> None:
    values = np.random.default_rng(2).normal(5, 2, 50)
    once = inference.clustered_mean(values, np.ones(50))
    tenfold = inference.clustered_mean(values * 10, np.full(50, 10.0))
    assert isinstance(once, Estimate)
    assert isinstance(tenfold, Estimate)
    assert tenfold.high - tenfold.low == pytest.approx(once.high - once.low)


@pytest.mark.parametrize("counts", [[0.0, 0.0], [100.0, 0.0]])
def test_a_single_cluster_has_no_interval(counts: list[float]) -> None:
    assert isinstance(inference.clustered_mean(np.array([5.0, 0.0]), np.array(counts)), Unidentifiable)


def test_a_ratio_of_means_over_the_same_clusters_covers_its_truth() -> None:
    rng = np.random.default_rng(3)
    covered = 0
    for _ in range(300):
        n = rng.integers(5, 20, 100).astype(float)
        shared = rng.normal(0, 0.1, 100)
        quality, cost = n * (0.8 + shared) + rng.normal(0, 0.3, 100), n * (0.02 + 0.02 * shared) + rng.normal(0, 0.01, 100)
        found = inference.clustered_ratio_of_means(quality, n, cost, n)
        assert isinstance(found, Estimate)
        covered += found.low <= 40 <= found.high
    assert 0.91 <= covered / 300 <= 0.99


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


def test_a_mean_over_equal_clusters_has_the_error_of_their_means() -> None:
    sums = np.random.default_rng(0).normal(10, 2, size=40)
    mean = ratio_of_sums(sums, np.full(40, 5.0))
    assert mean.value == pytest.approx(sums.mean() / 5)
    assert mean.standard_error == pytest.approx((sums / 5).std(ddof=1) / np.sqrt(40))


def test_the_delta_method_agrees_with_the_jackknife() -> None:
    rng = np.random.default_rng(1)
    size = rng.uniform(5, 20, size=80)
    up, down = size * rng.normal(2.0, 0.3, size=80), size * rng.normal(5.0, 0.5, size=80)
    found = ratio_of_sums(up, size).relative_to(ratio_of_sums(down, size))
    left = [(up.sum() - u) / (down.sum() - d) for u, d in zip(up, down, strict=True)]
    jackknife = np.sqrt(79 / 80 * ((left - np.mean(left)) ** 2).sum())
    assert found.value == pytest.approx(up.sum() / down.sum() - 1)
    assert found.standard_error == pytest.approx(jackknife, rel=0.05)


def test_a_whole_family_needs_wider_intervals_than_one() -> None:
    rng = np.random.default_rng(2)
    family = [Statistic(0.0, rng.normal(size=128), 128) for _ in range(20)]
    assert simultaneous(family[:1]) == pytest.approx(POINTWISE, rel=0.05)
    assert simultaneous(family) > 2.8
    assert simultaneous([family[0]] * 20) == pytest.approx(simultaneous(family[:1]))


def test_simultaneous_intervals_hold_together_as_often_as_they_say() -> None:
    rng = np.random.default_rng(3)
    held = 0
    for _ in range(300):
        draws = rng.normal(size=(100, 6)) @ np.linalg.cholesky(0.5 * np.eye(6) + 0.5)
        family = [ratio_of_sums(draws[:, place], np.ones(100)) for place in range(6)]
        critical = simultaneous(family)
        held += all(abs(each.value) <= critical * each.standard_error for each in family)
    assert 0.92 <= held / 300 <= 0.99


def test_the_rule_of_three_is_for_shares_and_not_for_money() -> None:
    never = Statistic(0.25, np.zeros(256), 256)
    paid = interval(never, POINTWISE, bounds=NOT_NEGATIVE, n=30)
    assert (paid.low, paid.high) == (0.25, 0.25)


def test_an_outcome_that_never_varied_says_no_more_than_the_rule_of_three() -> None:
    always = ratio_of_sums(np.full(50, 4.0), np.full(50, 4.0))
    found = interval(always, 2.0, bounds=(0.0, 1.0), n=200)
    assert isinstance(found, Estimate)
    assert (found.low, found.estimate, found.high) == (1 - 3 / 200, 1.0, 1.0)


def test_nothing_to_divide_by_is_unidentifiable() -> None:
    assert isinstance(interval(ratio_of_sums(np.zeros(10), np.zeros(10)), 2.0), Unidentifiable)
    one = ratio_of_sums(np.array([3.0, 0.0]), np.array([2.0, 0.0]))
    assert isinstance(interval(one, 2.0), Unidentifiable)


def test_an_error_is_worth_as_many_degrees_of_freedom_as_clusters_carry_it() -> None:
    rng = np.random.default_rng(4)
    alike = [Statistic(0.0, rng.normal(size=100), 100).degrees for _ in range(50)]
    assert 75 < np.median(alike) <= 99
    four = np.zeros(100)
    four[:4] = 1.0
    assert Statistic(0.0, four, 100).degrees == pytest.approx(2 * 4 / (1 - 4 / 100), rel=1e-9)
    assert Statistic(0.0, np.zeros(100), 100).degrees == 99
    # An error that was to be expected is not what those few clusters say; what they say beyond it is.
    assert Statistic(0.0, four, 100, expected_error=2.1).degrees == 99
    beyond = 1 - 0.1**2 / (4 * 100 / 99)
    assert Statistic(0.0, four, 100, expected_error=0.1).degrees == pytest.approx(2 * 4 / (1 - 4 / 100) / beyond**2, rel=1e-9)


def test_intervals_hold_where_few_clusters_carry_the_error() -> None:
    rng = np.random.default_rng(5)
    weight = np.where(np.arange(100) < 6, 30.0, 1.0)
    found = [ratio_of_sums(weight * values, weight) for values in rng.normal(size=(2_000, 100))]
    told = [interval(each, POINTWISE) for each in found]
    held = np.mean([isinstance(each, Estimate) and each.low <= 0.0 <= each.high for each in told])
    by_clusters = np.mean([abs(each.value) <= quantile(0.975, 99) * each.standard_error for each in found])
    assert by_clusters < 0.91
    assert 0.93 < held < 0.98


def test_what_is_to_be_expected_is_told_where_the_data_happen_to_show_nothing() -> None:
    quiet = Statistic(0.99, np.zeros(50), 50, expected_error=0.02)
    assert quiet.standard_error == 0.02
    other = Statistic(0.5, np.zeros(50), 50, expected_error=0.01)
    assert (quiet - other).standard_error == pytest.approx(np.hypot(0.02, 0.01))
    assert quiet.relative_to(other).standard_error == pytest.approx(np.hypot(0.02, 0.99 / 0.5 * 0.01) / 0.5)
    assert quiet.scaled(-3.0).standard_error == pytest.approx(0.06)
    assert quiet.low() < 0.99 < quiet.high()


def told(measured: Measured) -> list[float]:
    """Estimate, ends, degrees of freedom (infinite for a normal)."""
    assert isinstance(measured, Estimate)
    return [measured.estimate, measured.low, measured.high, math.inf if measured.degrees is None else measured.degrees]


def test_what_has_been_told_before_is_told_again() -> None:
    """Numbers of the three kernels that this one replaced: of counts and sums, of finished estimates, of influences by cluster."""
    rng = np.random.default_rng(7)
    n = rng.integers(1, 30, 40).astype(float)
    t, u = n * rng.lognormal(0, 0.4, 40), n * rng.lognormal(1, 0.3, 40)
    n[5] = t[5] = u[5] = 0.0
    m = n * (rng.random(40) < 0.8)
    w = u * (m > 0)
    x = rng.lognormal(0, 1, 57)
    a, b, c = inference.around(2.0, 0.3, degrees=7.5), inference.around(1.2, 0.1), inference.around(0.7, 0.2, level=0.9, degrees=30)
    parts = [(2.0, a), (-1.0, b), (0.5, c)]
    one, other = ratio_of_sums(t, n), ratio_of_sums(u, n)
    estimates: list[tuple[Measured, list[float]]] = [
        (mean_interval(57, x.sum(), (x * x).sum(), 0.9, least=0.0), [1.2729447992481746, 1.0267250859765866, 1.5191645125197626, 56.0]),
        (proportion_interval(13, 77), [0.16883116883116883, 0.10140668708276009, 0.2677288932991118, math.inf]),
        (proportion_interval(0, 77, 0.99), [0.0, 0.0, 0.07933167697537633, math.inf]),
        (a, [2.0, 1.3000881119405077, 2.6999118880594923, 7.5]),
        (inference.at_level(c, 0.99), [0.7, 0.15000086928655465, 1.2499991307134453, 30.0]),
        (inference.weighted_sum(parts), [3.15, 1.3967204050378506, 4.903279594962149, 11.4]),
        (inference.independent_sum(parts), [3.15, 1.7401804092389197, 4.55981959076108, 8.4]),
        (inference.ratio(a, b), [1.6666666666666667, 1.0210224667996555, 2.720584382912342, 18.1]),
        (inference.clustered_mean(t, n), [1.0176039006880828, 0.8789594230452481, 1.1562483783309176, 31.7]),
        (inference.clustered_ratio_of_means(t, n, w, m), [0.3839125055844923, 0.32201773958776503, 0.4577040138622314, 38.0]),
        (interval(one, 2.5), [1.0176039006880828, 0.8372296164933367, 1.1979781848828288, 31.7]),
        (
            interval(one.scaled(0.3), POINTWISE, bounds=(0.0, 0.4), n=100),
            [0.3052811702064248, 0.2636878269135744, 0.3468745134992752, 31.7],
        ),
    ]
    for found, expected in estimates:
        assert told(found) == pytest.approx(expected, rel=1e-9)
    numbers = {
        inference.chance_above(a, 1.5): 0.9316721867887156,
        inference.chance_not_lower(4.0, inference.around(-0.4, 0.2, degrees=12.0)): 0.041111046553875256,
        told_chance(inference.ratio(b, a)): 0.020960329907627074,
        told_p(inference.difference(a, c)): 0.02363714616390365,
        one.standard_error: 0.06804003676855304,
        one.degrees: 31.654075543823833,
        one.low(): 0.8789514564138541,
        one.high(0.9): 1.1066597646807703,
        (one - other).value: -1.6915757314409283,
        (one - other).standard_error: 0.14055586487793406,
        (one - other).degrees: 38.0,
        one.relative_to(other).value: -0.6243867004535251,
        one.relative_to(other).standard_error: 0.029893146154907055,
        (one.scaled(0.3) + other.scaled(-2.0)).standard_error: 0.2527697417631485,
        simultaneous([one, other, one - other]): 2.2642315624040856,
    }
    assert list(numbers) == pytest.approx(list(numbers.values()), rel=1e-9)
    assert inference.order_statistic_levels(200, 0.5) == pytest.approx((0.4271356783919598, 0.5728643216080402), rel=1e-9)
    assert inference.order_statistic_levels(2000, 0.99) == pytest.approx((0.9854927463731866, 0.9944972486243121), rel=1e-9)
    assert inference.order_statistic_levels(50, 0.95) is None


def told_chance(found: Measured) -> float:
    assert isinstance(found, Estimate)
    return inference.chance_not_below_one(found)


def told_p(found: Measured) -> float:
    assert isinstance(found, Estimate)
    return inference.p_value(found)


def test_quantiles_and_ranks_are_those_of_scipys_distributions() -> None:
    for degrees in (1.0, 3.0, 7.5, 200.0):
        assert quantile(0.975, degrees) == pytest.approx(stats.t.ppf(0.975, degrees), rel=1e-12)
        assert inference.chance_above(inference.around(-2.0, 1.0, degrees=degrees), 0.0) == pytest.approx(
            stats.t.cdf(-2.0, degrees), rel=1e-9
        )
    assert quantile(0.975, None) == pytest.approx(stats.norm.ppf(0.975), rel=1e-12)
    for n in (30, 77, 200, 1_999):
        for q in (0.5, 0.95, 0.99):
            low, high = stats.binom.ppf(0.025, n, q), stats.binom.ppf(0.975, n, q) + 1
            expected = None if low < 1 or high > n else ((low - 1) / (n - 1), (high - 1) / (n - 1))
            assert inference.order_statistic_levels(n, q) == expected


def test_adjusted_p_values_are_scipys() -> None:
    p = np.random.default_rng(8).random(50) ** 3
    assert inference.false_discovery_adjusted(p.tolist()) == pytest.approx(stats.false_discovery_control(p), rel=1e-12)


def test_a_clustered_error_is_the_sandwich_of_a_regression_on_a_constant() -> None:
    """Liang and Zeger's variance as it is written down: bread and meat over the rows, not over sums by cluster."""
    rng = np.random.default_rng(9)
    cluster = rng.integers(0, 25, 400)
    y = rng.normal(size=400) + rng.normal(size=25)[cluster]
    x = np.ones((400, 1))
    bread = np.linalg.inv(x.T @ x)
    residual = y - x[:, 0] * float((bread @ x.T @ y)[0])
    meat = sum((x[cluster == j].T @ residual[cluster == j]) ** 2 for j in range(25))
    sandwich = math.sqrt(25 / 24 * float(np.squeeze(bread * meat * bread)))
    found = ratio_of_sums(np.bincount(cluster, y), np.bincount(cluster).astype(float))
    assert found.value == pytest.approx(y.mean())
    assert found.standard_error == pytest.approx(sandwich, rel=1e-12)


def test_statistics_of_the_same_clusters_add_up_with_the_correlation_that_they_show() -> None:
    rng = np.random.default_rng(10)
    n = np.full(60, 4.0)
    up, down = rng.normal(10, 1, 60), rng.normal(3, 1, 60)
    one, other = ratio_of_sums(up, n), ratio_of_sums(down, n)
    together = ratio_of_sums(up + down, n)
    assert ((one + other).value, (one + other).standard_error) == pytest.approx((together.value, together.standard_error))
    assert (one - one).standard_error == 0.0
