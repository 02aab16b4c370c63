"""One difference of means looked at over and over: bounds that hold at every look, however often one looks.

Belongs here: the boundary, and the difference of two arms over periods in which they were split differently. Does not belong here: which
requests are in which arm, and what a boundary that is crossed leads to (`recommendation.canary`).

A canary grows in steps, and traffic changes from one to the next. Means are compared within a step, where chance alone split the
sessions, and the differences are added with the weights h = n m / (n + m) of n requests of the one arm and m of the other: their sum
is a random walk over all steps, so that one sequence holds from the first look to the last and no step begins a new one.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

from scipy.special import ndtr

from routing_pipeline.estimates import Estimate, Measured, Unidentifiable
from routing_pipeline.stats.inference import quantile

LEAST_SESSIONS = 30
"""In either arm: with fewer, a mean of skewed outcomes is not near enough to normal for its error to mean what it says."""


@dataclass(frozen=True)
class Sums:
    """Of the sessions of one arm in one step: how many, and sums over them of n, t, t^2, t n and n^2, for n outcomes that add up to t each."""

    sessions: float
    n: float
    total: float
    total_squared: float
    total_n: float
    n_squared: float

    @property
    def mean(self) -> float:
        """Of the outcomes."""
        return self.total / self.n

    @property
    def residual(self) -> float:
        """Sum over sessions of (t - mean n)^2."""
        return max(self.total_squared - 2 * self.mean * self.total_n + self.mean**2 * self.n_squared, 0.0)


@dataclass(frozen=True)
class Split:
    """One step: the sessions that follow the rules, and those that chance left with the gateway's own choice."""

    canary: Sums
    control: Sums

    @property
    def weight(self) -> float:
        """Requests that the two arms are worth: n m / (n + m)."""
        return self.canary.n * self.control.n / (self.canary.n + self.control.n)


@dataclass(frozen=True)
class Difference:
    """Mean of the canary less that of the control, over all steps, with its error clustered by session."""

    value: float
    standard_error: float
    degrees: float
    control: float
    """Mean of the control, in the same weights."""


def difference_of(splits: Sequence[Split]) -> Difference | Unidentifiable:
    """The difference over all steps that have both arms.

    The error of each arm's mean comes from its own sessions, and is no smaller than what the spread of all sessions lets expect of so
    few: a canary of one in a hundred may look even by chance.
    """
    known = [each for each in splits if each.canary.n > 0 and each.control.n > 0]
    for name in ("canary", "control"):
        sessions = math.fsum(getattr(each, name).sessions for each in known)
        if sessions < LEAST_SESSIONS:
            return Unidentifiable(unidentifiable=f"{sessions:.0f} sessions in the {name}; a comparison needs {LEAST_SESSIONS}")
    arms = [arm for each in known for arm in (each.canary, each.control)]
    free = math.fsum(arm.n * (1 - 1 / max(arm.sessions, 1)) for arm in arms)
    pooled = math.fsum(arm.residual for arm in arms) / free
    if pooled <= 0:
        return Unidentifiable(unidentifiable="all outcomes are equal; they do not show how much they vary")
    weight = math.fsum(each.weight for each in known)
    value = math.fsum(each.weight * (each.canary.mean - each.control.mean) for each in known) / weight
    control = math.fsum(each.weight * each.control.mean for each in known) / weight
    parts = [((each.weight / weight) ** 2 * _variance(arm, pooled), arm.sessions) for each in known for arm in (each.canary, each.control)]
    variance = math.fsum(part for part, _ in parts)
    unsure = math.fsum(part**2 / max(sessions - 1, 1) for part, sessions in parts)
    return Difference(value, math.sqrt(variance), variance**2 / unsure, control)


def _variance(arm: Sums, pooled: float) -> float:
    """Of an arm's mean."""
    own = arm.residual / arm.n * arm.sessions / (arm.sessions - 1) if arm.sessions > 1 else 0.0
    return max(own, pooled) / arm.n


def critical(progress: float, alpha: float) -> float:
    """Half-width of an asymptotic confidence sequence in standard errors; each side holds at all looks together but for a chance of alpha.

    sqrt(2 (p c + 1) / (p c) log(sqrt(p c + 1) / 2 alpha)) with c = -2 log 2 alpha + log(-2 log 2 alpha) + 1, which makes it narrowest at
    p = 1 (Waudby-Smith, Arbour, Sinha, Kennedy and Ramdas 2024, "Time-uniform central limit theory and asymptotic confidence sequences").

    Args:
        progress: information seen (1 / standard error^2) against what is planned for.
        alpha: of one side.
    """
    both = 2 * alpha
    spread = progress * (-2 * math.log(both) + math.log(-2 * math.log(both)) + 1)
    return math.sqrt(2 * (spread + 1) / spread * math.log(math.sqrt(spread + 1) / both))


def information_to_tell(distance: float, alpha: float, power: float) -> float:
    """1 / standard error^2 at which a sequence tells two values apart that are `distance` from each other, with a chance of `power`."""
    return ((critical(1.0, alpha) + quantile(power, None)) / distance) ** 2


def bounds(found: Difference | Unidentifiable, planned: float, alpha: float) -> Measured:
    """The difference between the bounds that hold at every look; `planned`: information at which they are narrowest."""
    if isinstance(found, Unidentifiable):
        return found
    wide = critical(1.0 / found.standard_error**2 / planned, alpha)
    # What a normal leaves outside, Student's t has to leave as well; by the lower tail, where so little can still be told from nothing.
    half = -quantile(float(ndtr(-wide)), round(found.degrees, 1)) * found.standard_error
    if not math.isfinite(half):
        return Unidentifiable(unidentifiable="too little was seen yet for any bound")
    return Estimate(estimate=found.value, low=found.value - half, high=found.value + half, level=1 - 2 * alpha)
