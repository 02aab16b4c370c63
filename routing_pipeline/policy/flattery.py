"""By how much passing a proof flatters the quality of what passed.

Belongs here: what is taken off the told quality of pairs that passed. Does not belong here: whether they pass (`policy.proof`), intervals
for many at once (`stats.inference`).

A pair that is told about is one that passed, and it passes more easily where chance favours it: the same sessions that let it pass tell
its quality. Where the limit is far that matters little; where errors are about as large as the room that the limit leaves, as with few
heavy weights, most of what passes was lucky. How lucky, the walk itself tells: repeated with the errors drawn anew (signs of clusters of
sessions, the same for all pairs), what the boldest pair that passes has above its truth, in its own standard errors, is

    f = E( (estimate - truth) / SE of the boldest pair that passes, given that one passes ),

and f SE is taken off. As unsure as that is, it widens the interval: SE sqrt(1 + f^2). The truth that the draws start from is the estimate less f SE of the round before (bootstrap of a selection:
Efron 1992, JRSS B 54:83; Sun and Bull 2005, Genetic Epidemiology 28:352).
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import replace

import numpy as np

from routing_pipeline.policy.proof import Evaluated, Verdict, margins, quality_margins
from routing_pipeline.policy.search import Limits
from routing_pipeline.stats.inference import Statistic, quantile

DRAWS = 1_000
SEED = 31_415
ROUNDS = 3


def luck_of(walked: Sequence[Sequence[Statistic]], *, stops: bool, level: float) -> float:
    """F of the module's formula; 0 where nothing passes.

    Args:
        walked: by pair, in the order of the walk, its margins of quality, which must be above 0 at their lower bounds.
        stops: the last of them failed for another reason, and would have however the draws fall.
        level: one-sided, of the proof.
    """
    if len(walked) - stops < 1:
        return 0.0
    statistics = [each for margins_ in walked for each in margins_]
    error = np.array([each.standard_error for each in statistics])
    if not np.isfinite(error).all() or (error <= 0.0).any():
        return 0.0
    influence = np.stack([each.influence for each in statistics], axis=1)
    influence = influence * (error / np.maximum(np.linalg.norm(influence, axis=0), 1e-300))
    signs = np.random.default_rng(SEED).integers(0, 2, size=(DRAWS, len(influence))) * 2.0 - 1.0
    # By draw, pair and margin, in standard errors.
    shape = (DRAWS, len(walked), len(walked[0]))
    noise = (signs @ influence / error).reshape(shape)
    value = (np.array([each.value for each in statistics]) / error).reshape(shape[1:])
    bar = np.array([quantile(level, each.degrees) for each in statistics]).reshape(shape[1:])
    luck = 0.0
    for _ in range(ROUNDS):
        passes = (value - luck + noise >= bar).all(axis=2)
        if stops:
            passes[:, -1] = False
        length = passes.cumprod(axis=1).sum(axis=1)
        some = length > 0
        if not some.any():
            return luck
        luck = max(float(noise[some, length[some] - 1, 0].mean()), 0.0)
    return luck


def luck_in(verdicts: Sequence[Verdict], now: Evaluated, limits: Limits, level: float) -> float:
    """The same of a walk.

    Args:
        verdicts: up to and including its first failure.
        now: today's routing, over the same sessions.
        limits: as they were held.
        level: as they were held.
    """
    if not verdicts or not verdicts[0].passed:
        return 0.0
    walked = [[margin for _, margin in quality_margins(each.outcome, now, limits)] for each in verdicts]
    last = verdicts[-1]
    others = margins(last.outcome, now, limits)[len(walked[0]) :]
    stops = not last.passed and any(not margin.is_known or margin.low(level) < 0 for _, margin in others)
    return luck_of(walked, stops=stops, level=level)


def unflattered(verdicts: Sequence[Verdict], luck: float, now: Evaluated) -> list[Verdict]:
    """The walk with the quality of what passed less its luck; what failed is as it was."""
    return [replace(each, outcome=less(each.outcome, luck, now), lucky=each.outcome) if each.passed else each for each in verdicts]


def less(outcome: Evaluated, luck: float, now: Evaluated) -> Evaluated:
    """The quality of what passed less what that flatters it by, with a wider interval; as it is where luck is 0."""
    if luck == 0.0:
        return outcome
    found, change = outcome.quality, outcome.quality - now.quality
    wider = math.hypot(1.0, luck)
    quality = replace(
        found,
        value=found.value - luck * change.standard_error,
        influence=found.influence + (wider - 1.0) * change.influence,
        expected_error=found.expected_error * wider,
    )
    return replace(outcome, quality=quality)
