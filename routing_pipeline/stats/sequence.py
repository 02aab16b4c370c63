"""One difference of means looked at over and over: bounds that hold at every look, however often one looks.

Belongs here: the boundary, and the difference of two arms over periods in which they were split differently. Does not belong here: which
requests are in which arm, and what a boundary that is crossed leads to (`recommendation.canary`).

A canary grows in steps, and traffic changes from one day to the next. Means are compared within a period of one step, where chance alone
split the sessions, and the differences are added with the weights h = n m / (n + m) of n requests of the one arm and m of the other: their
sum is a random walk over all steps, so that one sequence holds from the first look to the last and no step begins a new one.

What falls late is hidden by the sound days before it. So the alarm runs sequences that begin later, too, each with its part of the one
chance of a false alarm; together they hold as one does.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy.special import ndtr

from routing_pipeline.estimates import Estimate, Measured, Unidentifiable
from routing_pipeline.stats.inference import quantile

ROUNDING = 1e-12
FARTHEST = 35.0
"""Standard errors: beyond them a bound says nothing."""
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
        return self.about(self.mean)

    def about(self, mean: float) -> float:
        """Sum over sessions of (t - mean n)^2; what rounding leaves of nothing is nothing."""
        found = self.total_squared - 2 * mean * self.total_n + mean**2 * self.n_squared
        return found if found > ROUNDING * self.total_squared else 0.0

    def __add__(self, other: Sums) -> Sums:
        return Sums(
            self.sessions + other.sessions,
            self.n + other.n,
            self.total + other.total,
            self.total_squared + other.total_squared,
            self.total_n + other.total_n,
            self.n_squared + other.n_squared,
        )


@dataclass(frozen=True)
class Split:
    """One period of a step: the sessions that follow the rules, and those that chance left with the gateway's own choice."""

    canary: Sums
    control: Sums
    step: int = 0
    start_s: float = 0.0
    """Since 1970."""

    @property
    def common_mean(self) -> float:
        """Of the outcomes of both arms."""
        return (self.canary.total + self.control.total) / (self.canary.n + self.control.n)

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


def periods_of(days: Sequence[Split]) -> list[Split]:
    """Days of one step put together until both arms have LEAST_SESSIONS: a mean of fewer leans with the sizes of its sessions.

    Only how many sessions there are decides where a period ends, never how they went.
    """
    found: list[Split] = []
    for day in days:
        last = found[-1] if found else None
        if last is not None and last.step == day.step and min(last.canary.sessions, last.control.sessions) < LEAST_SESSIONS:
            found[-1] = Split(last.canary + day.canary, last.control + day.control, last.step, last.start_s)
        else:
            found.append(day)
    return found


def difference_of(splits: Sequence[Split]) -> Difference | Unidentifiable:
    """The difference over all periods that have both arms."""
    return differences_since(splits)[0]


def differences_since(splits: Sequence[Split]) -> list[Difference | Unidentifiable]:
    """For each period, the difference over it and all that follow, counting those that have both arms.

    The error of each arm's mean comes from its own sessions since then, and is no smaller than what the spread of all sessions lets expect
    of so few: a canary of one in a hundred may look even by chance.
    """
    known = [each for each in splits if each.canary.n > 0 and each.control.n > 0]
    if not known:
        return [Unidentifiable(unidentifiable=f"0 sessions in the canary; a comparison needs {LEAST_SESSIONS}")] * max(len(splits), 1)
    arms = [[each.canary, each.control] for each in known]
    sessions, n, mean, residual = (np.array([[getattr(arm, name) for arm in both] for both in arms]) for name in _OF_AN_ARM)
    free = n * (1 - 1 / np.maximum(sessions, 1))
    pooled = float(residual.sum() / free.sum()) if free.any() else 0.0
    if pooled <= 0 and free.any():
        # Each arm is even in itself: a canary that fails always beside a control that never does. They vary about what is common to them.
        pooled = math.fsum(arm.about(each.common_mean) for each in known for arm in (each.canary, each.control)) / float(free.sum())
    if pooled <= 0:
        return [Unidentifiable(unidentifiable="all outcomes are equal; they do not show how much they vary")] * len(splits)
    weight = np.array([each.weight for each in known])
    of_all = _since(weight)
    value, control = _since(weight * (mean[:, 0] - mean[:, 1])) / of_all, _since(weight * mean[:, 1]) / of_all
    own = np.divide(_since(residual), _since(free), out=np.zeros_like(free), where=_since(free) > 0)
    # Of an arm's mean, in the weights of its periods.
    parts = np.maximum(own, pooled) * _since(weight[:, None] ** 2 / n) / of_all[:, None] ** 2
    seen = _since(sessions)
    # How well an error is known goes by the sessions that it was taken from.
    taken_from = np.where(own > pooled, seen, sessions.sum())
    variance, unsure = parts.sum(axis=1), (parts**2 / np.maximum(taken_from - 1, 1)).sum(axis=1)
    found: list[Difference | Unidentifiable] = []
    at = iter(range(len(known)))
    for each in splits:
        place = next(at) if each.canary.n > 0 and each.control.n > 0 else None
        if place is None:
            found.append(Unidentifiable(unidentifiable="one of the arms is empty there"))
            continue
        few = next((name for arm, name in enumerate(("canary", "control")) if seen[place, arm] < LEAST_SESSIONS), None)
        found.append(
            Difference(float(value[place]), math.sqrt(variance[place]), float(variance[place] ** 2 / unsure[place]), float(control[place]))
            if few is None
            else Unidentifiable(
                unidentifiable=f"{seen[place, ('canary', 'control').index(few)]:.0f} sessions in the {few}; a comparison needs {LEAST_SESSIONS}"
            )
        )
    # A first period without one of the arms must not hide what the others show.
    first = next((place for place, each in enumerate(splits) if each.canary.n > 0 and each.control.n > 0), 0)
    return [*[found[first]] * first, *found[first:]]


_OF_AN_ARM = ("sessions", "n", "mean", "residual")


def _since(values: NDArray[np.float64]) -> NDArray[np.float64]:
    """Sums from each place to the end."""
    return values[::-1].cumsum(axis=0)[::-1]


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


def critical_of_distances(information: float, alpha: float, distances: Sequence[float]) -> float:
    """Half-width, in standard errors, of the sequence that tells these distances soonest; one side holds at all looks but for alpha.

    The mean of exp(d sqrt(I) z - d^2 I / 2) over the distances d is a martingale that starts at 1 where there is no difference, and so
    reaches 1 / alpha with a chance of at most alpha (Ville 1939; a mixture of Robbins 1970 with its weight on a few points).
    """
    steps = [each * math.sqrt(information) for each in distances]
    low, high = 0.0, 1.0
    while _evidence(steps, high) < 1 / alpha:
        low, high = high, 2 * high
        if high > FARTHEST:
            return math.inf
    for _ in range(40):
        middle = (low + high) / 2
        low, high = (middle, high) if _evidence(steps, middle) < 1 / alpha else (low, middle)
    return high


def _evidence(steps: Sequence[float], z: float) -> float:
    return math.fsum(math.exp(min(step * z - step * step / 2, 700.0)) for step in steps) / len(steps)


def parts_of_alpha(periods: int) -> list[float]:
    """Parts of the chance of a false alarm, by the period in which a sequence begins: half for the first, the others less and less.

    1/2 + sum of 5 / ((j + 9) (j + 10)) over j = 1, 2, ... is 1, however many periods there will be.
    """
    return [0.5, *(5 / ((later + 9) * (later + 10)) for later in range(1, periods))]


def information_to_tell(distance: float, alpha: float, power: float) -> float:
    """1 / standard error^2 at which a sequence tells two values apart that are `distance` from each other, with a chance of `power`."""
    return ((critical(1.0, alpha) + quantile(power, None)) / distance) ** 2


def bounds(found: Difference | Unidentifiable, planned: float, alpha: float) -> Measured:
    """The difference between the bounds that hold at every look; `planned`: information at which they are narrowest."""
    if isinstance(found, Unidentifiable):
        return found
    return _between(found, critical(1.0 / found.standard_error**2 / planned, alpha), alpha)


def with_earlier(found: Difference, earlier: Difference) -> Difference:
    """A difference together with what independent data said of it before the first look, each with the weight of its information.

    What came before is then the first stretch of the same random walk, so that one sequence holds for both.
    """
    first, then = (1.0 / each.standard_error**2 for each in (earlier, found))
    whole = first + then
    unsure = (first / whole) ** 2 / earlier.degrees + (then / whole) ** 2 / found.degrees
    value = (first * earlier.value + then * found.value) / whole
    return Difference(value, math.sqrt(1.0 / whole), 1.0 / unsure, found.control)


def alarm_of(periods: Sequence[Split], limit: float, beyond: Sequence[float], alpha: float, *, below: bool) -> tuple[Measured, int]:
    """The difference between bounds that hold at every look, and the period since which it is taken.

    That is the first, unless what lies on the other side of the limit is sure only of what began later.

    Args:
        periods: as of `periods_of`.
        limit: the difference that may not be.
        beyond: distances beyond the limit that are to be seen soonest.
        alpha: of one side, over all periods and looks.
        below: whether it is below the limit that harm lies.
    """
    whole: tuple[Measured, int] | None = None
    side = -1.0 if below else 1.0
    for place, (found, part) in enumerate(zip(differences_since(periods), parts_of_alpha(len(periods)), strict=False)):
        if isinstance(found, Unidentifiable):
            whole = whole or (found, place)
            continue
        if whole is not None and side * (found.value - limit) < 2 * found.standard_error:
            # Nowhere near; spares the search for the bound.
            continue
        told = _between(found, critical_of_distances(1.0 / found.standard_error**2, alpha * part, beyond), alpha * part)
        whole = whole or (told, place)
        if isinstance(told, Estimate) and (told.low > limit if side > 0 else told.high < limit):
            return told, place
    return whole or (Unidentifiable(unidentifiable="nothing was seen yet"), 0)


def _between(found: Difference, wide: float, alpha: float) -> Measured:
    # What a normal leaves outside, Student's t has to leave as well; by the lower tail, where so little can still be told from nothing.
    half = -quantile(float(ndtr(-wide)), round(found.degrees, 1)) * found.standard_error
    if not math.isfinite(half):
        return Unidentifiable(unidentifiable="too little was seen yet for any bound")
    return Estimate(estimate=found.value, low=found.value - half, high=found.value + half, level=1 - 2 * alpha)
