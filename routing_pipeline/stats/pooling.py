"""Several means of what may be the same thing, each drawn towards what they have in common.

Belongs here: empirical Bayes over finished estimates. Does not belong here: which of them belong together.
"""

from __future__ import annotations

from collections.abc import Sequence

from routing_pipeline.estimates import Estimate
from routing_pipeline.stats.inference import around, standard_error


def pooled(means: Sequence[Estimate]) -> list[Estimate]:
    """Each mean weighted with the common one: w_i x_i + (1 - w_i) m, w_i = t^2 / (t^2 + s_i^2).

    m is the mean weighted by 1 / (t^2 + s_i^2), and t^2 the variance between them by moments (DerSimonian and Laird 1986), with its own
    error of one standard error on top: of two or three means it is hardly known, and too little of it would make them equal by decree.
    The error of m and of t^2 is in the interval; with t^2 large nothing is changed.
    """
    errors = [standard_error(each) for each in means]
    if len(means) < 2 or min(errors) <= 0:
        return list(means)
    weights = [1 / error**2 for error in errors]
    total = sum(weights)
    centre = sum(weight * each.estimate for weight, each in zip(weights, means, strict=True)) / total
    spread = sum(weight * (each.estimate - centre) ** 2 for weight, each in zip(weights, means, strict=True))
    scale = total - sum(weight**2 for weight in weights) / total
    degrees = len(means) - 1
    between = max((spread - degrees + (2 * degrees) ** 0.5) / scale, 0.0)
    weights = [1 / (between + error**2) for error in errors]
    centre = sum(weight * each.estimate for weight, each in zip(weights, means, strict=True)) / sum(weights)
    found = []
    for each, error in zip(means, errors, strict=True):
        own = between / (between + error**2)
        variance = own * error**2 + (1 - own) ** 2 / sum(weights)
        found.append(around(own * each.estimate + (1 - own) * centre, variance**0.5, each.level, each.degrees))
    return found
