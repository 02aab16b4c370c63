"""Exact tests of counts against scipy.stats, which computes them in another way."""

import math

import numpy as np
import pytest
from scipy import stats

from routing_pipeline.stats.counted_tests import binomial_tail, contingency_p, hypergeometric_tail


@pytest.mark.parametrize(("n", "p"), [(1, 0.5), (30, 0.05), (5_000, 0.01), (2_000_000, 0.05)])
def test_a_binomial_tail_is_that_of_scipy(n: int, p: float) -> None:
    for count in {0, 1, n, n + 1, int(n * p), int(n * p + 4 * math.sqrt(n * p))}:
        assert binomial_tail(count, n, p) == pytest.approx(float(stats.binom.sf(count - 1, n, p)), rel=1e-9, abs=1e-300)


def test_a_hypergeometric_tail_is_that_of_scipy() -> None:
    rng = np.random.default_rng(6)
    for _ in range(300):
        population = int(10 ** rng.uniform(0, 5))
        marked, drawn = (int(each) for each in rng.integers(0, population + 1, 2))
        mean = marked * drawn / population
        for count in {0, marked, drawn, min(marked, drawn) + 1, int(mean), int(mean + rng.exponential(2 * math.sqrt(mean) + 1))}:
            expected = float(stats.hypergeom.sf(count - 1, population, marked, drawn))
            assert hypergeometric_tail(count, population, marked, drawn) == pytest.approx(expected, rel=1e-7, abs=1e-150), (
                count,
                population,
                marked,
                drawn,
            )


def test_a_tail_of_fifty_million_holds_no_long_list_and_is_right() -> None:
    population, marked, drawn = 50_000_000, 5_000_000, 9_000_000
    mean, sd = 900_000, math.sqrt(900_000 * 0.9 * 41_000_000 / 50_000_000)
    assert hypergeometric_tail(mean, population, marked, drawn) == pytest.approx(0.5, abs=0.001)
    assert hypergeometric_tail(math.ceil(mean + 2 * sd), population, marked, drawn) == pytest.approx(0.0228, abs=0.0002)
    assert hypergeometric_tail(marked, population, marked, drawn) == 0.0


def test_whether_two_mixes_differ_is_what_scipy_finds() -> None:
    rng = np.random.default_rng(7)
    for rows in range(2, 9):
        table = rng.integers(1, 400, (rows, 2)).astype(float)
        assert contingency_p(table) == pytest.approx(float(stats.chi2_contingency(table, correction=False).pvalue), rel=1e-9)
