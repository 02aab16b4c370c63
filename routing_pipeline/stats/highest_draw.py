"""How probable each candidate was to be chosen where chance drew one number for each and the highest won (Thompson sampling).

Belongs here: the integral over the draws, with what a router adds to a draw and what it asks of a candidate that is to replace the
present choice. Does not belong here: what a log says of the candidates.

P(a wins) = ∫ f_a(x) ∏_{b≠a} F_b(x + s_a - s_b) dx, with f and F of a draw and s what is added to it: one integral over one draw
(Thompson 1933, Biometrika 25; Agrawal and Goyal 2012). It is taken by the trapezoid rule over the logit of the draw, where every Beta
density is smooth, has one peak and falls off exponentially, so that the rule converges faster than any power of its step.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from scipy.special import betainc, digamma, polygamma

from routing_pipeline.stats.inference import Floats

NODES = 641
REACH = 12.0
"""Standard deviations to either side of the middle (of the logit) that are looked at; beyond lies less than a millionth of any draw."""
LEAST = 1e-13
"""Nodes of less than this part of the highest density are not worth their rivals' integrals."""


@dataclass(frozen=True)
class Candidate:
    """What is drawn for one candidate: Beta(alpha, beta), plus `added`; it needs `margin` more than the present choice to replace it."""

    alpha: float
    beta: float
    added: float = 0.0
    margin: float = 0.0


def chance_of(chosen: int, candidates: Sequence[Candidate], present: int | None = None) -> float:
    """The probability that one candidate is chosen.

    Args:
        chosen: Place of that candidate.
        candidates: All of which one is chosen.
        present: Place of the choice that stands unless the highest of all exceeds it by its margin; None where the highest always wins.
    """
    if present is None or chosen != present:
        return _wins(chosen, candidates, present)
    # It stays whenever it is the highest, and whenever the highest exceeds it by too little.
    others = (_wins(place, candidates, present) for place in range(len(candidates)) if place != present)
    return min(max(1.0 - math.fsum(others), 0.0), 1.0)


def _wins(place: int, candidates: Sequence[Candidate], present: int | None) -> float:
    one = candidates[place]
    draws, weights = _nodes(one)
    for other, rival in enumerate(candidates):
        if other != place:
            ahead = one.added - rival.added - (one.margin if other == present else 0.0)
            weights = weights * betainc(rival.alpha, rival.beta, np.clip(draws + ahead, 0.0, 1.0))
    return min(float(weights.sum()), 1.0)


def _nodes(candidate: Candidate) -> tuple[Floats, Floats]:
    """Draws of a candidate, and how much of its probability each stands for."""
    middle = float(digamma(candidate.alpha) - digamma(candidate.beta))
    spread = math.sqrt(float(polygamma(1, candidate.alpha) + polygamma(1, candidate.beta)))
    logit = middle + spread * np.linspace(-REACH, REACH, NODES)
    # log x and log(1 - x) from the logit, without loss near 0 and 1.
    log_density = -candidate.alpha * np.logaddexp(0.0, -logit) - candidate.beta * np.logaddexp(0.0, logit)
    weights = np.exp(log_density - log_density.max())
    kept = weights > LEAST
    return 1.0 / (1.0 + np.exp(-logit[kept])), weights[kept] / weights[kept].sum()
