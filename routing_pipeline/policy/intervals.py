"""Statistics with their influence on each cluster of sessions, and the intervals that follow.

Belongs here: means, ratios, differences by the delta method; cluster-robust errors; simultaneous intervals. Does not
belong here: what is averaged (`policy.scores`).

An estimate V of a window of J clusters is carried with IF_j, what cluster j adds to its error, so that any smooth
function of estimates has an error by the chain rule: SE^2 = J/(J-1) sum_j IF_j^2 (Liang and Zeger 1986, Biometrika
73:13). Sessions, and not requests, are independent.

Few clusters may carry most of an error: where a model was rarely tried, few requests weigh much. SE^2 is then itself
uncertain, and the interval takes Student's t with as many degrees of freedom as its variance is worth (Satterthwaite
1946, Biometrics Bulletin 2:110): 2 SE^4 / Var SE^2, with Var SE^2 from the fourth powers of the IF_j.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from scipy.special import ndtr, ndtri, stdtrit

from routing_pipeline.estimates import LEVEL, Estimate, Measured, Unidentifiable
from routing_pipeline.policy.cells import Floats

DRAWS = 1500
SEED = 20_110
"""Of the multiplier bootstrap: same data, same interval."""
PROOF_LEVEL = 0.975
"""One-sided."""
ONE = float(ndtri(0.5 + LEVEL / 2))
"""Critical value of a single interval, before its degrees of freedom count."""


@dataclass(frozen=True)
class Statistic:
    """A value and its influence by cluster; `clusters` counts those with data.

    expected_error: a standard error to expect even where the data happen to show less, of events so rare and heavy that most
    windows hold none of them.
    """

    value: float
    influence: Floats
    clusters: int
    expected_error: float = 0.0

    @property
    def standard_error(self) -> float:
        """Cluster-robust; 0 for what is known exactly."""
        if self.clusters < 2:
            return math.inf
        return max(math.sqrt(self.clusters / (self.clusters - 1) * float(self.influence @ self.influence)), self.expected_error)

    @property
    def degrees(self) -> float:
        """Degrees of freedom of the standard error: J - 1 where clusters are alike, few where few of them carry it.

        2 (sum IF^2)^2 / (sum IF^4 - (sum IF^2)^2 / J); for normal influences of one size it is about J. J - 1 where an error
        was to be expected: that rests on many events, and not on the few that the data hold.
        """
        squares = self.influence**2
        total = float(squares.sum())
        excess = float((squares**2).sum()) - total * total / max(self.clusters, 1)
        most = max(self.clusters - 1.0, 1.0)
        if total == 0.0 or excess <= 0.0 or self.expected_error > 0.0:
            return most
        return min(max(2.0 * total * total / excess, 1.0), most)

    @property
    def is_known(self) -> bool:
        """Finite, with an error that can be told."""
        return math.isfinite(self.value) and math.isfinite(self.standard_error)

    def minus(self, other: Statistic) -> Statistic:
        """Paired difference."""
        expected = math.hypot(self.expected_error, other.expected_error)
        return Statistic(self.value - other.value, self.influence - other.influence, self.clusters, expected)

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

    def low(self, level: float = PROOF_LEVEL) -> float:
        """One-sided lower bound by Student's t."""
        return self.value - student(level, self.degrees) * self.standard_error

    def high(self, level: float = PROOF_LEVEL) -> float:
        """One-sided upper bound."""
        return self.value + student(level, self.degrees) * self.standard_error


def student(level: float, degrees: float) -> float:
    """Quantile of Student's t."""
    return float(stdtrit(degrees, level))


def ratio(
    numerator: Floats, denominator: Floats, numerator_error: Floats | float = 0.0, denominator_error: Floats | float = 0.0
) -> Statistic:
    """Ratio of two sums over clusters; IF_j = (num_j - V den_j) / sum den. A mean when the denominator counts requests.

    The errors are what a cluster adds to the error of a sum beyond its own part of it (`policy.model_error`).
    """
    total = float(denominator.sum())
    clusters = int((denominator != 0).sum())
    if total == 0.0:
        return Statistic(math.nan, np.zeros_like(numerator), clusters)
    value = float(numerator.sum()) / total
    own, of_models = numerator - value * denominator, numerator_error - value * denominator_error
    return Statistic(value, (own + of_models) / total, clusters)


def weighted_sum(parts: Sequence[tuple[float, Statistic]]) -> Statistic:
    """Linear combination of statistics over the same clusters."""
    return Statistic(
        sum(weight * part.value for weight, part in parts),
        np.sum([weight * part.influence for weight, part in parts], axis=0),
        parts[0][1].clusters,
        math.hypot(*(weight * part.expected_error for weight, part in parts)),
    )


def simultaneous(family: Sequence[Statistic], level: float = LEVEL) -> float:
    """Critical value for intervals that hold together for a whole family: sup-t by the cluster multiplier bootstrap.

    c is the `level` quantile of max_k |sum_j e_j IF_jk| / |IF_k| over Rademacher e_j (Montiel Olea and
    Plagborg-Moller 2019, J. Applied Econometrics 34:1), never below the normal quantile for one.
    """
    known = [each for each in family if each.is_known and each.standard_error > 0]
    if not known:
        return float(ndtri(0.5 + level / 2))
    influence = np.stack([each.influence for each in known], axis=1)
    influence = influence / np.linalg.norm(influence, axis=0)
    signs = np.random.default_rng(SEED).integers(0, 2, size=(DRAWS, len(influence))) * 2.0 - 1.0
    largest = np.abs(signs @ influence).max(axis=1)
    return max(float(np.quantile(largest, level)), float(ndtri(0.5 + level / 2)))


def interval(statistic: Statistic, critical: float, *, bounds: tuple[float, float] | None = None, n: float = 0.0) -> Measured:
    """The interval value +- t SE, cut to `bounds`; t leaves as much outside, at the error's degrees of freedom, as `critical` does of a normal.

    A bounded outcome that never varied over n requests says no more than the rule of three: the other outcome has a
    chance of at most 3/n (Hanley and Lippman-Hand 1983, JAMA 249:1743).
    """
    if not statistic.is_known:
        return Unidentifiable(unidentifiable="too few sessions carry data to say how much this varies")
    half = student(float(ndtr(critical)), statistic.degrees) * statistic.standard_error
    low, high = statistic.value - half, statistic.value + half
    if bounds is not None:
        value = min(max(statistic.value, bounds[0]), bounds[1])
        if half < 1e-12 and n > 0:
            low, high = value - 3.0 / n, value + 3.0 / n
        return Estimate(estimate=value, low=min(max(low, bounds[0]), value), high=max(min(high, bounds[1]), value))
    return Estimate(estimate=statistic.value, low=low, high=high)
