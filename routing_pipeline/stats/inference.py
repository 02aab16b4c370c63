"""The one kernel of inference: from sums to estimates with intervals, and from estimates to others, to p-values and to many tests.

Belongs here: intervals of means, shares and quantiles; `Statistic`, from which any smooth function of clustered sums has its
error; arithmetic of finished estimates; many tests or intervals at once. Does not belong here: what is averaged, and who was
routed where (`policy`).

Sessions, and not requests, are independent, so sums come by cluster of sessions. An estimate V of J clusters is carried with
IF_j, what cluster j adds to its error, and (Liang and Zeger 1986, Biometrika 73:13)

    SE^2 = J/(J-1) sum_j IF_j^2.

For a mean of rows that are independent themselves, each row is its own cluster, IF_i = (x_i - mean) / n, and this is s^2 / n.
Few clusters may carry most of an error: where a model was rarely tried, few requests weigh much. SE^2 is then itself uncertain,
and the interval takes Student's t with as many degrees of freedom as its variance is worth (Satterthwaite 1946, Biometrics
Bulletin 2:110): 2 SE^4 / Var SE^2, with Var SE^2 from the fourth powers of the IF_j.

Of estimates over the same clusters a `Statistic` knows how they hang together. Of finished ones (`Estimate`) nobody does: their
errors are added.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache

import numpy as np
from numpy.typing import NDArray

# scipy.stats, which has the same quantiles, takes seconds to load.
from scipy.special import bdtr, bdtrik, ndtr, ndtri, stdtr, stdtrit

from routing_pipeline import text
from routing_pipeline.estimates import LEVEL, Estimate, Measured, Unidentifiable

Floats = NDArray[np.float64]

FALSE_DISCOVERY_RATE = 0.05
MIN_CLUSTERS = 5
"""Below this many sessions a clustered interval says little about what it claims to say."""
ALL_EQUAL_BELOW = 30
"""Observations that are all equal say nothing about how much they vary until there are this many of them."""
DRAWS = 1500
SEED = 20_110
"""Of the multiplier bootstrap: same data, same interval."""
ONE_SIDED = 0.5 + LEVEL / 2
"""Level of either end of an interval by itself."""
POINTWISE = float(ndtri(ONE_SIDED))
"""Critical value of a single interval, before its degrees of freedom count; `simultaneous` has that of a family."""
NOT_NEGATIVE = (0.0, math.inf)
"""What durations and prices cannot lie beyond."""
SHARE = (0.0, 1.0)
"""What shares and scores cannot lie beyond."""
BOUNDS = {"cost_usd": NOT_NEGATIVE, "latency_ms": NOT_NEGATIVE, "quality": SHARE, "success": SHARE}
"""What the outcomes of requests cannot lie beyond, by their names."""
RELATIVE = (-1.0, math.inf)
"""What the relative change of a duration or a price cannot lie beyond."""


# --- quantiles, and the interval around an estimate -----------------------------------------------------------------------------------


@lru_cache(maxsize=1024)
def quantile(level: float, degrees: float | None) -> float:
    """Quantile of Student's t; of the normal without degrees of freedom."""
    return float(ndtri(level) if degrees is None else stdtrit(degrees, level))


def _cdf(z: float, degrees: float | None) -> float:
    return float(ndtr(z) if degrees is None else stdtr(degrees, z))


def around(estimate: float, se: float, level: float = LEVEL, degrees: float | None = None) -> Estimate:
    """Interval estimate +- t SE, with Student's quantile t at (1 + level) / 2; the normal's without degrees of freedom.

    Estimate and standard error in one unit; level: coverage, 0..1; degrees: of freedom of the standard error.
    """
    half = quantile(0.5 + level / 2, degrees) * se
    return Estimate(estimate=estimate, low=estimate - half, high=estimate + half, level=level, degrees=degrees)


def standard_error(estimate: Estimate) -> float:
    """What the interval reaches to its longer side over the quantile that it was taken at, in the estimate's unit.

    The longer side, because the other one may be cut where the scale ends.
    """
    half = max(estimate.high - estimate.estimate, estimate.estimate - estimate.low)
    return half / quantile(0.5 + estimate.level / 2, estimate.degrees)


def at_level(measured: Measured, level: float) -> Measured:
    """The same estimate with the interval of another level (0..1)."""
    if isinstance(measured, Unidentifiable):
        return measured
    return around(measured.estimate, standard_error(measured), level, measured.degrees)


def _to_a_tenth(degrees: float) -> float:
    """More says nothing, and this stands beside every number."""
    return max(round(degrees, 1), 1.0)


def _robust_error(squared_influence: float, clusters: float) -> float:
    """sqrt(J/(J-1) sum IF^2)."""
    return math.sqrt(clusters / (clusters - 1) * squared_influence)


def _all_equal(n: float, squared_influence: float, mean: float) -> Unidentifiable | None:
    """Why there is no interval, where a few observations do not vary beyond rounding."""
    if n >= ALL_EQUAL_BELOW or squared_influence > (1e-9 * max(abs(mean), 1e-300)) ** 2:
        return None
    return Unidentifiable(unidentifiable=f"all {n:.0f} observations are equal; too few to say how much they vary")


# --- independent observations, from counts and sums -----------------------------------------------------------------------------------


def mean_interval(n: float, total: float, total_of_squares: float, level: float = LEVEL, *, least: float = -math.inf) -> Measured:
    """Student's interval for a mean of independent observations: mean +- t_{n-1} s / sqrt(n), s^2 = (sum x^2 - n mean^2) / (n - 1).

    Args:
        n: number of observations.
        total: their sum, in the unit of the mean.
        total_of_squares: sum of their squares. All three add up over disjoint observations.
        level: coverage, 0..1.
        least: what no value can lie below (0 for a duration or a price); neither does the interval.

    Returns:
        `Unidentifiable` for fewer than 2 observations, and for a few that are all equal.
    """
    if n < 2:
        return Unidentifiable(unidentifiable=f"{text.counted(round(n), 'observation')}; a mean with an interval needs at least 2")
    mean = total / n
    squared_influence = max(total_of_squares - n * mean * mean, 0.0) / n**2
    if (equal := _all_equal(n, squared_influence, mean)) is not None:
        return equal
    found = around(mean, _robust_error(squared_influence, n), level, n - 1)
    return found.within(least, math.inf)


def proportion_interval(successes: float, n: float, level: float = LEVEL) -> Measured:
    """Wilson's score interval for a proportion (Wilson 1927, JASA 22:209), z the normal quantile of the level:

    (p + z^2 / 2n +- z sqrt(p (1 - p) / n + z^2 / 4n^2)) / (1 + z^2 / n).

    Args:
        successes: number of successes, 0..n.
        n: number of independent trials; `Unidentifiable` without any.
        level: coverage, 0..1.
    """
    if n <= 0:
        return Unidentifiable(unidentifiable="no observations")
    z = quantile(0.5 + level / 2, None)
    p = successes / n
    centre = (p + z * z / (2 * n)) / (1 + z * z / n)
    half = z / (1 + z * z / n) * math.sqrt(p * (1 - p) / n + z * z / (4 * n * n))
    return Estimate(estimate=p, low=min(max(centre - half, 0.0), p), high=max(min(centre + half, 1.0), p), level=level)


def order_statistic_levels(n: int, q: float, level: float = LEVEL) -> tuple[float, float] | None:
    """Levels (0..1) at which the sample's quantiles bound its q-quantile; None when n observations are too few.

    The number of observations below the true quantile is binomial(n, q); its quantiles l and u - 1 are the ranks of the
    bounding observations (David & Nagaraja, Order Statistics, 7.1), and rank r lies at level (r - 1) / (n - 1).
    """
    if n < 2:
        return None
    low, high = _binomial_quantile(0.5 - level / 2, n, q), _binomial_quantile(0.5 + level / 2, n, q) + 1
    if low < 1 or high > n:
        return None
    return (low - 1) / (n - 1), (high - 1) / (n - 1)


def _binomial_quantile(level: float, n: int, q: float) -> int:
    """Least k with P(binomial(n, q) <= k) >= level."""
    k = math.ceil(bdtrik(level, n, q))
    return k - 1 if k > 0 and bdtr(k - 1, n, q) >= level else k


# --- clustered sums: a value with its influence by cluster ----------------------------------------------------------------------------


@dataclass(frozen=True)
class Statistic:
    """A value and its influence by cluster, shape (clusters of the window,), both in one unit; `clusters` counts those with data.

    Statistics over the same clusters add up, with the correlation that the clusters show. expected_error: a standard error to
    expect even where the data happen to show less, of events so rare and heavy that most windows hold none of them.
    """

    value: float
    influence: Floats
    clusters: int
    expected_error: float = 0.0

    @property
    def standard_error(self) -> float:
        """Cluster-robust, in the value's unit; 0 for what is known exactly, infinite for a single cluster."""
        if self.clusters < 2:
            return math.inf
        return max(_robust_error(float(self.influence @ self.influence), self.clusters), self.expected_error)

    @property
    def degrees(self) -> float:
        """Degrees of freedom of the standard error: J - 1 where clusters are alike, few where few of them carry it.

        2 (sum IF^2)^2 / (sum IF^4 - (sum IF^2)^2 / J); for normal influences of one size it is about J. J - 1 where no more than
        the error that was to be expected is seen: that rests on many events, and not on the few that the data hold; where more is
        seen, what is unsure is the part beyond it.
        """
        squares = self.influence**2
        total = float(squares.sum())
        excess = float((squares**2).sum()) - total * total / max(self.clusters, 1)
        most = max(self.clusters - 1.0, 1.0)
        if total == 0.0 or excess <= 0.0:
            return most
        beyond = 1.0 - self.expected_error**2 / max(_robust_error(total, max(self.clusters, 2)) ** 2, 1e-300)
        if beyond <= 0.0:
            return most
        return min(max(2.0 * total * total / excess / beyond**2, 1.0), most)

    @property
    def is_known(self) -> bool:
        """Finite, with an error that can be told."""
        return math.isfinite(self.value) and math.isfinite(self.standard_error)

    def __add__(self, other: Statistic) -> Statistic:
        """Sum, paired by cluster: IF = IF_self + IF_other. Expected errors are independent."""
        expected = math.hypot(self.expected_error, other.expected_error)
        return Statistic(self.value + other.value, self.influence + other.influence, self.clusters, expected)

    def __sub__(self, other: Statistic) -> Statistic:
        """Difference, paired by cluster: IF = IF_self - IF_other."""
        return self + other.scaled(-1.0)

    def relative_to(self, base: Statistic) -> Statistic:
        """(self - base) / base; IF = IF_self / base - self IF_base / base^2. NaN on a base of 0."""
        if base.value == 0.0:
            return Statistic(math.nan, np.zeros_like(self.influence), self.clusters)
        # In this order, what does not change differs by exactly nothing.
        influence = (self.influence - self.value / base.value * base.influence) / base.value
        expected = math.hypot(self.expected_error, self.value / base.value * base.expected_error) / abs(base.value)
        return Statistic(self.value / base.value - 1.0, influence, self.clusters, expected)

    def scaled(self, factor: float) -> Statistic:
        """In another unit."""
        return Statistic(self.value * factor, self.influence * factor, self.clusters, self.expected_error * abs(factor))

    def low(self, level: float = ONE_SIDED) -> float:
        """One-sided lower bound by Student's t."""
        return self.value - quantile(level, self.degrees) * self.standard_error

    def high(self, level: float = ONE_SIDED) -> float:
        """One-sided upper bound."""
        return self.value + quantile(level, self.degrees) * self.standard_error


def ratio_of_sums(
    numerator: Floats, denominator: Floats, numerator_error: Floats | float = 0.0, denominator_error: Floats | float = 0.0
) -> Statistic:
    """V = sum_j num_j / sum_j den_j; IF_j = (num_j - V den_j) / sum den. A mean when the denominator counts requests.

    Args:
        numerator: sums by cluster, shape (clusters,).
        denominator: same shape; a cluster where it is 0 has no data. NaN where all are.
        numerator_error: what a cluster adds to the error of the numerator's sum beyond its own part of it (`policy.model_error`).
        denominator_error: the same of the denominator's.
    """
    total = float(denominator.sum())
    clusters = int((denominator != 0).sum())
    if total == 0.0:
        return Statistic(math.nan, np.zeros_like(numerator), clusters)
    value = float(numerator.sum()) / total
    own, of_models = numerator - value * denominator, numerator_error - value * denominator_error
    return Statistic(value, (own + of_models) / total, clusters)


def interval(statistic: Statistic, critical: float, *, bounds: tuple[float, float] | None = None, n: float = 0.0) -> Measured:
    """Value +- t SE, cut to `bounds`; t leaves as much outside, at the error's degrees of freedom, as `critical` does of a normal.

    A bounded outcome that never varied over n requests says no more than the rule of three: the other outcome has a
    chance of at most 3/n (Hanley and Lippman-Hand 1983, JAMA 249:1743).

    Args:
        statistic: in any unit; `Unidentifiable` where its error cannot be told.
        critical: a normal's critical value, `POINTWISE` or that of `simultaneous`.
        bounds: what the value cannot lie beyond, in its unit.
        n: requests that a share is of, for the rule of three.
    """
    if not statistic.is_known:
        return Unidentifiable(unidentifiable="too few sessions carry data to say how much this varies")
    degrees = _to_a_tenth(statistic.degrees)
    half = quantile(float(ndtr(critical)), degrees) * statistic.standard_error
    low, high = statistic.value - half, statistic.value + half
    if bounds is not None:
        value = min(max(statistic.value, bounds[0]), bounds[1])
        if half < 1e-12 and n > 0 and math.isfinite(bounds[1]):
            low, high = value - 3.0 / n, value + 3.0 / n
        return Estimate(estimate=value, low=low, high=high, degrees=degrees).within(*bounds)
    return Estimate(estimate=statistic.value, low=low, high=high, degrees=degrees)


def clustered_mean(totals: Floats, counts: Floats, *, bounds: tuple[float, float] | None = None) -> Measured:
    """Mean of observations that hang together within clusters, with the `interval` that every other statistic of them has.

    mean = sum t_j / sum n_j; SE^2 = J/(J-1) sum_j (t_j - mean n_j)^2 / n^2 (`ratio_of_sums`).

    Args:
        totals: sum of the observations by cluster, shape (clusters,), in the unit of the mean.
        counts: number of observations by cluster, same shape; J clusters have any.
        bounds: what no value can lie beyond, in its unit (`NOT_NEGATIVE` for a duration or a price).

    Returns:
        `Unidentifiable` for fewer than MIN_CLUSTERS clusters with data, and for a few observations that are all equal.
    """
    has_data = counts > 0
    if (few := _too_few(int(has_data.sum()))) is not None:
        return few
    mean = ratio_of_sums(totals[has_data], counts[has_data])
    if (equal := _all_equal(float(counts.sum()), float(mean.influence @ mean.influence), mean.value)) is not None:
        return equal
    return interval(mean, POINTWISE, bounds=bounds)


def clustered_ratio_of_means(totals: Floats, counts: Floats, by_totals: Floats, by_counts: Floats) -> Measured:
    """(mean of one outcome) / (mean of another), both over the same clusters; delta method on the logarithm.

    Influence of cluster j: IF_j / mean - IF'_j / mean' = (t_j / t - n_j / n) - (u_j / u - m_j / m).

    Args:
        totals: sum of the one outcome by cluster, shape (clusters,).
        counts: its observations by cluster.
        by_totals: sum of the other outcome by cluster.
        by_counts: its observations by cluster.

    Returns:
        `Unidentifiable` for too few clusters, a mean that is not above 0, and a relative error above 1.
    """
    if (few := _too_few(int((counts > 0).sum()))) is not None:
        return few
    if float(totals.sum()) <= 0 or float(by_totals.sum()) <= 0:
        return Unidentifiable(unidentifiable="a ratio needs both means above 0")
    one, other = ratio_of_sums(totals, counts), ratio_of_sums(by_totals, by_counts)
    clusters = int(((counts > 0) | (by_counts > 0)).sum())
    on_log = Statistic(0.0, one.influence / one.value - other.influence / other.value, clusters)
    return _on_log_scale(one.value / other.value, on_log.standard_error, clusters - 1)


def _too_few(clusters: int) -> Unidentifiable | None:
    if clusters == 0:
        return Unidentifiable(unidentifiable="no observations")
    if clusters < MIN_CLUSTERS:
        return Unidentifiable(unidentifiable=f"{text.counted(clusters, 'group')} of sessions; an interval needs at least {MIN_CLUSTERS}")
    return None


# --- finished estimates: their correlation is unknown, unless they are independent ----------------------------------------------------


def weighted_sum(parts: Sequence[tuple[float, Measured]]) -> Measured:
    """Sum of weight x estimate, with an interval that holds however the estimates hang together.

    The standard error of a sum is at most the sum of the standard errors (triangle inequality), whatever their correlation:
    estimates from the same sessions are correlated and nobody hands the correlation over. One unknown part makes the sum unknown.
    Parts of one level give a sum of that level.
    """
    known: list[tuple[float, Estimate]] = []
    for weight, part in parts:
        if isinstance(part, Unidentifiable):
            return part
        known.append((weight, part))
    errors = [(abs(weight) * standard_error(part), part.degrees) for weight, part in known]
    total = math.fsum(error for error, _ in errors)
    levels = {part.level for _, part in known}
    level = levels.pop() if len(levels) == 1 else LEVEL
    return around(sum(weight * part.estimate for weight, part in known), total, level, joint_degrees(errors))


def joint_degrees(parts: Sequence[tuple[float, float | None]]) -> float | None:
    """Degrees of freedom of a sum of standard errors, from each error with its own: (sum s)^2 / (sum s / sqrt(df))^2.

    A standard error on df degrees of freedom is known to 1 part in sqrt(2 df); errors of errors are added as if they hung
    together, as the errors themselves are, so that a part that hardly counts does not make the whole unknown (after
    Satterthwaite 1946, Biometrics Bulletin 2:110, who adds squares of what is independent). None: normal throughout.
    """
    total = math.fsum(error for error, _ in parts)
    unsure = math.fsum(error / math.sqrt(degrees) for error, degrees in parts if degrees is not None)
    return _to_a_tenth((total / unsure) ** 2) if total > 0 and unsure > 0 else None


def independent_sum(parts: Sequence[tuple[float, Estimate]]) -> Estimate:
    """Sum of weight x estimate of what is independent: variances add up, with Satterthwaite's degrees of freedom.

    SE^2 = sum w^2 s^2, df = SE^4 / sum(w^4 s^4 / df) (Satterthwaite 1946, Biometrics Bulletin 2:110).
    """
    errors = [(weight * standard_error(part), part.degrees) for weight, part in parts]
    variance = math.fsum(error**2 for error, _ in errors)
    unsure = math.fsum(error**4 / degrees for error, degrees in errors if degrees is not None)
    degrees = _to_a_tenth(variance**2 / unsure) if unsure > 0 else None
    return around(math.fsum(weight * part.estimate for weight, part in parts), math.sqrt(variance), degrees=degrees)


def difference(one: Measured, other: Measured) -> Measured:
    """One - other, with the interval of `weighted_sum`."""
    return weighted_sum(((1.0, one), (-1.0, other)))


def ratio(numerator: Measured, denominator: Measured) -> Measured:
    """Numerator / denominator of two positive estimates, however they hang together.

    On the logarithm (delta method), with the two relative standard errors added. `Unidentifiable` where one of them is, the
    denominator may be 0, or the relative error is above 1.
    """
    if isinstance(numerator, Unidentifiable):
        return numerator
    if isinstance(denominator, Unidentifiable):
        return denominator
    if numerator.estimate <= 0 or denominator.low <= 0:
        return Unidentifiable(unidentifiable="a ratio needs a positive numerator and a denominator that is surely above 0")
    relative = [(standard_error(each) / each.estimate, each.degrees) for each in (numerator, denominator)]
    return _on_log_scale(numerator.estimate / denominator.estimate, sum(error for error, _ in relative), joint_degrees(relative))


def _on_log_scale(value: float, relative_error: float, degrees: float | None) -> Measured:
    if relative_error > 1:
        return Unidentifiable(unidentifiable="the standard error is as large as the ratio itself; collect more requests")
    factor = math.exp(quantile(ONE_SIDED, degrees) * relative_error)
    return Estimate(estimate=value, low=value / factor, high=value * factor, degrees=degrees)


# --- tests, read off the intervals ----------------------------------------------------------------------------------------------------


def chance_above(estimate: Estimate, threshold: float) -> float:
    """P(truth > threshold) as the interval has it: T((estimate - threshold) / standard error), T of the interval's degrees of freedom."""
    se = standard_error(estimate)
    if se <= 0:
        return 1.0 if estimate.estimate > threshold else 0.0
    return _cdf((estimate.estimate - threshold) / se, estimate.degrees)


def chance_not_lower(today: float, change: Estimate) -> float:
    """P(a positive mean does not fall below today's), from its change: on the logarithm, T(log(then / today) then / standard error).

    Costs and times are skewed: where few dear requests are missing by chance, a mean is low and its error small at once, and on
    their own scale far too many means seem to fall. On the logarithm errors are about even (the delta method's ratio).
    """
    then, se = today + change.estimate, standard_error(change)
    if today <= 0 or then <= 0 or se <= 0:
        return chance_above(change, 0.0)
    return _cdf(math.log(then / today) * then / se, change.degrees)


def chance_not_below_one(ratio_: Estimate) -> float:
    """P(a ratio is 1 or more), from an interval that is even on the logarithm, as that of `ratio`."""
    if ratio_.high <= ratio_.estimate:
        return float(ratio_.estimate >= 1.0)
    se = math.log(ratio_.high / ratio_.estimate) / quantile(0.5 + ratio_.level / 2, ratio_.degrees)
    return chance_above(around(math.log(ratio_.estimate), se, degrees=ratio_.degrees), 0.0)


def p_value(contrast: Estimate) -> float:
    """Two-sided p-value of a difference of 0, read off the interval at its own degrees of freedom: 2 T(-|estimate| / standard error)."""
    if contrast.estimate == 0:
        return 1.0
    return min(2.0 * chance_above(contrast.scaled(-1.0 if contrast.estimate > 0 else 1.0), 0.0), 1.0)


# --- many at once ---------------------------------------------------------------------------------------------------------------------


def false_discovery_adjusted(p_values: Sequence[float]) -> list[float]:
    """Adjusted p-values; those up to q are the discoveries at a false discovery rate of q (Benjamini & Hochberg 1995, JRSS B 57:289).

    Of m sorted p-values, adjusted p_(i) = min over k >= i of m p_(k) / k.
    """
    if not len(p_values):
        return []
    p = np.clip(np.asarray(p_values, dtype=np.float64), 0.0, 1.0)
    order = np.argsort(p)
    steps = p[order] * len(p) / np.arange(1, len(p) + 1)
    adjusted = np.empty_like(p)
    adjusted[order] = np.minimum.accumulate(steps[::-1])[::-1]
    found: list[float] = np.clip(adjusted, 0.0, 1.0).tolist()
    return found


def simultaneous(family: Sequence[Statistic], level: float = LEVEL) -> float:
    """Critical value for intervals that hold together for a whole family: sup-t by the cluster multiplier bootstrap.

    c is the `level` quantile of max_k |sum_j e_j IF_jk| / |IF_k| over Rademacher e_j (Montiel Olea and
    Plagborg-Moller 2019, J. Applied Econometrics 34:1), never below the normal quantile for one.
    """
    least = quantile(0.5 + level / 2, None)
    known = [each for each in family if each.is_known and each.standard_error > 0]
    if not known:
        return least
    influence = np.stack([each.influence for each in known], axis=1)
    influence = influence / np.linalg.norm(influence, axis=0)
    signs = np.random.default_rng(SEED).integers(0, 2, size=(DRAWS, len(influence))) * 2.0 - 1.0
    largest = np.abs(signs @ influence).max(axis=1)
    return max(float(np.quantile(largest, level)), least)
