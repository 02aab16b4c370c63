"""Exact tests of counts: tails of the binomial and the hypergeometric distribution, and Pearson's test of a table of counts.

Belongs here: probabilities of counts under a null hypothesis, as `scipy.stats` has them, which takes a second and a half to load.
Does not belong here: many tests at once and intervals (`inference`), what is counted.
"""

from __future__ import annotations

import math

import numpy as np
from numpy.typing import NDArray
from scipy.special import bdtrc, chdtrc

FAR_SD = 40.0
"""Standard deviations from the mean beyond which no probability is left that a double could add."""
FAR_COUNTS = 200
"""The same where a standard deviation is a fraction of one count, and a tail heavier than the normal's."""


def binomial_tail(count: int, n: int, p: float) -> float:
    """P(X >= count) for X ~ Binomial(n, p)."""
    return 1.0 if count <= 0 else 0.0 if count > n else float(bdtrc(count - 1, n, p))


def hypergeometric_tail(count: int, population: int, marked: int, drawn: int) -> float:
    """P(X >= count), where X of `drawn` are marked and `marked` of `population` are: one side of Fisher's exact test.

    Sums f(k) over k by its ratio f(k + 1) / f(k) = (marked - k)(drawn - k) / ((k + 1)(population - marked - drawn + k + 1)), from the
    mean outwards and over the sum of all, so that no factorial of a large number is taken.
    """
    least, most = max(0, drawn - (population - marked)), min(marked, drawn)
    if count <= least:
        return 1.0
    if count > most:
        return 0.0
    share = marked / population
    mean = drawn * share
    far = FAR_SD * math.sqrt(mean * (1.0 - share) * (population - drawn) / max(population - 1, 1)) + FAR_COUNTS
    first, last = max(least, math.floor(mean - far)), min(most, math.ceil(mean + far))
    if count > last:
        return 0.0
    k = np.arange(first, last, dtype=np.float64)
    steps = np.log(marked - k) + np.log(drawn - k) - np.log(k + 1.0) - np.log(population - marked - drawn + k + 1.0)
    logs = np.concatenate([[0.0], np.cumsum(steps)])
    weights = np.exp(logs - logs.max())
    return float(min(weights[max(count - first, 0) :].sum() / weights.sum(), 1.0))


def contingency_p(table: NDArray[np.float64]) -> float:
    """Pearson's chi-square test that rows and columns of a table of counts have nothing to do with each other; every sum above 0."""
    expected = table.sum(axis=1, keepdims=True) * table.sum(axis=0) / table.sum()
    freedom = (table.shape[0] - 1) * (table.shape[1] - 1)
    return float(chdtrc(freedom, ((table - expected) ** 2 / expected).sum()))
