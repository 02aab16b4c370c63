"""The slope of a line through points of which some lie far off: Theil's and Sen's.

Belongs here: the estimate and its interval. Does not belong here: what rises or falls (`analysis.daily_spend`).
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np
from scipy.special import ndtri

from routing_pipeline.estimates import LEVEL, Estimate


def theil_sen(y: Sequence[float], x: Sequence[float]) -> Estimate:
    """The median of the slopes between all pairs, with the 95 % interval of Sen (1968, JASA 63:1379, eq. 2.6); x rises from point to point.

    Of the N sorted slopes the interval takes those at (N -/+ z sigma) / 2, where 18 sigma^2 = n (n - 1)(2 n + 5) less
    t (t - 1)(2 t + 5) for each t equal values of y. `scipy.stats.theilslopes` gives the same, and takes over a second to load.

    Raises:
        ValueError: fewer than two points, not as many x as y, or x does not rise.
    """
    values, places = np.asarray(y, dtype=np.float64), np.asarray(x, dtype=np.float64)
    if len(values) != len(places) or len(values) < 2 or (np.diff(places) <= 0).any():
        raise ValueError("a slope takes two points or more, each further on than the one before")
    one, other = np.triu_indices(len(values), 1)
    slopes = np.sort((values[other] - values[one]) / (places[other] - places[one]))
    n, ties = len(values), np.unique(values, return_counts=True)[1].astype(np.float64)
    sigma = math.sqrt((n * (n - 1) * (2 * n + 5) - float((ties * (ties - 1) * (2 * ties + 5)).sum())) / 18)
    reach = float(ndtri((1.0 + LEVEL) / 2)) * sigma
    low, high = max(round((len(slopes) - reach) / 2) - 1, 0), min(round((len(slopes) + reach) / 2), len(slopes) - 1)
    return Estimate(estimate=float(np.median(slopes)), low=float(slopes[low]), high=float(slopes[high]))
