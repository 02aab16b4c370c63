"""Comparing what was estimated: differences between estimates, clustered means and ratios, many tests at once.

Belongs here: inference that starts from finished estimates, or from sums by cluster. Does not belong here: intervals from
counts alone (`estimates`), and adjusting for who was routed where (`policy`).
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from functools import lru_cache

import numpy as np
from numpy.typing import NDArray
from scipy import stats

from routing_pipeline.estimates import LEVEL, Estimate, Measured, Unidentifiable

Floats = NDArray[np.float64]

FALSE_DISCOVERY_RATE = 0.05
MIN_CLUSTERS = 5
"""Below this many sessions a clustered interval says little about what it claims to say."""


@lru_cache(maxsize=16)
def _z(level: float) -> float:
    return float(stats.norm.ppf(0.5 + level / 2))


def standard_error(estimate: Estimate) -> float:
    """Half the interval's width over the normal quantile of its level, in the estimate's unit."""
    return (estimate.high - estimate.low) / 2 / _z(estimate.level)


def around(estimate: float, se: float, level: float = LEVEL) -> Estimate:
    """The normal interval around an estimate with a standard error."""
    return Estimate(estimate=estimate, low=estimate - _z(level) * se, high=estimate + _z(level) * se, level=level)


def weighted_sum(parts: Sequence[tuple[float, Measured]]) -> Measured:
    """Sum of weight x estimate, with an interval that holds however the estimates hang together.

    The standard error of a sum is at most the sum of the standard errors (triangle inequality), whatever their correlation:
    estimates from the same sessions are correlated and nobody hands the correlation over. One unknown part makes the sum unknown.
    """
    known: list[tuple[float, Estimate]] = []
    for weight, part in parts:
        if isinstance(part, Unidentifiable):
            return part
        known.append((weight, part))
    return around(sum(weight * part.estimate for weight, part in known), sum(abs(weight) * standard_error(part) for weight, part in known))


def difference(one: Measured, other: Measured) -> Measured:
    """One - other, with the interval of `weighted_sum`."""
    return weighted_sum(((1.0, one), (-1.0, other)))


def ratio(numerator: Measured, denominator: Measured) -> Measured:
    """Numerator / denominator of two positive estimates, however they hang together.

    On the logarithm (delta method), with the two relative standard errors added.
    """
    if isinstance(numerator, Unidentifiable):
        return numerator
    if isinstance(denominator, Unidentifiable):
        return denominator
    if numerator.estimate <= 0 or denominator.low <= 0:
        return Unidentifiable(unidentifiable="a ratio needs a positive numerator and a denominator that is surely above 0")
    relative = standard_error(numerator) / numerator.estimate + standard_error(denominator) / denominator.estimate
    return _on_log_scale(numerator.estimate / denominator.estimate, relative, _z(LEVEL))


def _on_log_scale(value: float, relative_error: float, quantile: float) -> Measured:
    if relative_error > 1:
        return Unidentifiable(unidentifiable="the standard error is as large as the ratio itself; collect more requests")
    factor = math.exp(quantile * relative_error)
    return Estimate(estimate=value, low=value / factor, high=value * factor)


def p_value(contrast: Estimate) -> float:
    """Two-sided p-value of a difference of 0, read off the interval."""
    se = standard_error(contrast)
    if se <= 0:
        return 1.0 if contrast.estimate == 0 else 0.0
    return float(2 * stats.norm.sf(abs(contrast.estimate) / se))


def false_discovery_adjusted(p_values: Sequence[float]) -> list[float]:
    """Adjusted p-values; those up to q are the discoveries at a false discovery rate of q (Benjamini & Hochberg 1995, JRSS B 57:289)."""
    if not p_values:
        return []
    return [float(value) for value in stats.false_discovery_control(np.clip(p_values, 0.0, 1.0), method="bh")]


def clustered_mean(totals: Floats, counts: Floats) -> Measured:
    """Mean of observations that hang together within clusters: sum of totals over sum of counts, clusters as rows.

    SE^2 = J/(J-1) sum_j (t_j - mean n_j)^2 / n^2 with Student's quantile on J-1 degrees of freedom, J clusters with data.
    """
    found = _clusters(counts)
    if isinstance(found, Unidentifiable):
        return found
    totals, counts = totals[found], counts[found]
    n, clusters = float(counts.sum()), len(counts)
    mean = float(totals.sum()) / n
    spread = float(((totals - mean * counts) ** 2).sum())
    if spread <= (1e-9 * max(abs(mean), 1e-300) * n) ** 2 and n < 30:
        return Unidentifiable(unidentifiable=f"all {n:.0f} observations are equal; too few to say how much they vary")
    half = float(stats.t.ppf(0.5 + LEVEL / 2, clusters - 1)) * math.sqrt(clusters / (clusters - 1) * spread) / n
    return Estimate(estimate=mean, low=mean - half, high=mean + half)


def clustered_ratio_of_means(totals: Floats, counts: Floats, by_totals: Floats, by_counts: Floats) -> Measured:
    """(mean of one outcome) / (mean of another), both over the same clusters; delta method on the logarithm.

    Influence of cluster j: (t_j - mean n_j) / t - (u_j - mean' m_j) / u.
    """
    found = _clusters(counts)
    if isinstance(found, Unidentifiable):
        return found
    total, by_total = float(totals.sum()), float(by_totals.sum())
    n, by_n = float(counts.sum()), float(by_counts.sum())
    if total <= 0 or by_total <= 0:
        return Unidentifiable(unidentifiable="a ratio needs both means above 0")
    influence = (totals / total - counts / n) - (by_totals / by_total - by_counts / by_n)
    clusters = int(((counts > 0) | (by_counts > 0)).sum())
    se = math.sqrt(clusters / (clusters - 1) * float((influence**2).sum()))
    return _on_log_scale((total / n) / (by_total / by_n), se, float(stats.t.ppf(0.5 + LEVEL / 2, clusters - 1)))


def _clusters(counts: Floats) -> NDArray[np.bool_] | Unidentifiable:
    found = counts > 0
    clusters = int(found.sum())
    if clusters == 0:
        return Unidentifiable(unidentifiable="no observations")
    if clusters < MIN_CLUSTERS:
        return Unidentifiable(unidentifiable=f"{clusters} session group(s); an interval needs at least {MIN_CLUSTERS}")
    return found
