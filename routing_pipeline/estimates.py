"""What an analysis may answer with: an estimate with its interval, or why it cannot tell.

Belongs here: the result base class, `Estimate`, `Unidentifiable`, and the classical intervals that need nothing but
counts and sums. Does not belong here: anything that adjusts for who was routed where (see `policy`).
"""

from __future__ import annotations

import math
from typing import Annotated, Any

from pydantic import BaseModel, ConfigDict, Field

LEVEL: float = 0.95


class Result(BaseModel):
    """A finished answer: frozen, finite, with nothing in it that its schema does not describe."""

    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)


class Estimate(Result):
    """A number and the interval that holds the truth in `level` of repetitions."""

    estimate: float = Field(description="Point estimate, in the unit of the field that holds it")
    low: float = Field(description="Lower end of the interval")
    high: float = Field(description="Upper end of the interval")
    level: float = Field(default=LEVEL, description="Coverage the interval is built for")

    def scaled(self, factor: float) -> Estimate:
        """The same estimate in another unit; `factor` may be negative."""
        ends = sorted((self.low * factor, self.high * factor))
        return Estimate(estimate=self.estimate * factor, low=ends[0], high=ends[1], level=self.level)


class Unidentifiable(Result):
    """The honest answer when the logs cannot tell."""

    unidentifiable: str = Field(description="Why the logs cannot tell, and what would let them")


Measured = Annotated[Estimate | Unidentifiable, Field(union_mode="left_to_right")]

Known = Annotated[float | Unidentifiable, Field(union_mode="left_to_right")]
"""A number that is counted and not estimated (a sum over the window's rows); or why it could not be counted."""


def quantity(description: str, unit: str, **kwargs: Any) -> Any:
    """A pydantic field that states what it holds and in which unit; both reach the JSON Schema."""
    return Field(description=description, json_schema_extra={"unit": unit}, **kwargs)


def mean_interval(n: float, total: float, total_of_squares: float, level: float = LEVEL, *, least: float = -math.inf) -> Measured:
    """Student's interval for a mean, from its sufficient statistics (n, sum x, sum x^2).

    mean +- t_{n-1} * s / sqrt(n), with s^2 = (sum x^2 - n mean^2) / (n - 1). No value can lie below `least` (0 for a
    duration or a price), so neither does the interval.
    """
    if n < 2:
        return Unidentifiable(unidentifiable=f"{n:.0f} observation(s); a mean with an interval needs at least 2")
    # Imported here because scipy takes two seconds to load, and results are read back without it.
    from scipy import stats

    mean = total / n
    variance = max(total_of_squares - n * mean * mean, 0.0) / (n - 1)

    half = float(stats.t.ppf(0.5 + level / 2, n - 1)) * math.sqrt(variance / n)
    if half == 0.0 and n < 30:
        return Unidentifiable(unidentifiable=f"all {n:.0f} observations are equal; too few to say how much they vary")
    return Estimate(estimate=mean, low=max(mean - half, min(least, mean)), high=mean + half, level=level)


def proportion_interval(successes: float, n: float, level: float = LEVEL) -> Measured:
    """Wilson's score interval for a proportion (Wilson 1927, JASA 22:209)."""
    if n <= 0:
        return Unidentifiable(unidentifiable="no observations")
    from scipy import stats

    z = float(stats.norm.ppf(0.5 + level / 2))
    p = successes / n
    centre = (p + z * z / (2 * n)) / (1 + z * z / n)
    half = z / (1 + z * z / n) * math.sqrt(p * (1 - p) / n + z * z / (4 * n * n))
    return Estimate(estimate=p, low=min(max(centre - half, 0.0), p), high=max(min(centre + half, 1.0), p), level=level)


def order_statistic_levels(n: int, q: float, level: float = LEVEL) -> tuple[float, float] | None:
    """Levels at which the sample's quantiles bound its q-quantile; None when n observations are too few.

    The number of observations below the true quantile is binomial(n, q); its quantiles l and u - 1 are the ranks of the
    bounding observations (David & Nagaraja, Order Statistics, 7.1), and rank r lies at level (r - 1) / (n - 1).
    """
    if n < 2:
        return None
    from scipy import stats

    low = int(stats.binom.ppf(0.5 - level / 2, n, q))
    high = int(stats.binom.ppf(0.5 + level / 2, n, q)) + 1
    if low < 1 or high > n:
        return None
    return (low - 1) / (n - 1), (high - 1) / (n - 1)
