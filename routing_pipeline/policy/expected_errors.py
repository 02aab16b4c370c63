"""Errors to expect of score sums from propensities alone, whatever the few heavy answers of a window happen to show.

Belongs here: variances of completion and quality by segment and model, and adding them up over halves. Does not belong here: errors
that clusters show (`stats.inference`), what the regressions add (`policy.model_error`), pooling (`policy.completion`).
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from routing_pipeline.policy.cells import Cells, Floats, sum_by
from routing_pipeline.policy.outcome_model import FOLDS_PER_HALF, Nuisances, fold_of
from routing_pipeline.policy.segments import Segment


@dataclass(frozen=True)
class Expected:
    """Standard errors to expect of a policy's sums from propensities alone; those of independent sessions add up by their squares.

    failures: variance of the sum of successes. borrowed: by model, standard error of what a regression lends (`policy.completion`).
    quality: variance of the sum of success x quality.
    """

    failures: float
    borrowed: Floats
    quality: float

    @property
    def of_completion(self) -> float:
        """Variance of the sum of successes as pooled."""
        return self.failures + float((self.borrowed**2).sum())

    def __add__(self, other: Expected) -> Expected:
        """Of two halves of the sessions; what a regression lends is common to both."""
        return Expected(self.failures + other.failures, self.borrowed + other.borrowed, self.quality + other.quality)


def uneven(cells: Cells, nuisances: Nuisances, half: int) -> Floats:
    """By model, how much larger sum (1 - p) / p over requests is than with the mean probability of each context in place of p.

    Routers that see what the logs do not hold choose a model here and hardly ever there, within one context: the mean of 1 / p is larger
    than 1 / the mean of p. A model's own requests tell it, E sum w (w - 1) = sum (1 - p) / p with w = 1 / p, those of the learning half in
    the learning half and of both in the other. 1 where no probability is logged.
    """
    keep = len(cells.binning.models)
    if cells.weighted is None or cells.distrusts_weights or not cells.is_weighted.any():
        return np.ones(keep)
    reach = cells.is_weighted & (cells.level < cells.binning.levels) & (cells.task < len(cells.binning.tasks)) & (cells.arm < keep)
    reach &= cells.learning if half == 0 else True
    seen = sum_by((cells.arm[reach],), (cells.weighted["weight_squared"] - cells.weighted["n"])[reach], (keep,))
    n = cells.total("n", cells=cells.learning if half == 0 else None)[:-1, :-1].sum(axis=3)
    logged = cells.total("n", cells=cells.is_weighted & (cells.learning if half == 0 else True))[:-1, :-1].sum(axis=(2, 3)) > 0
    propensity = nuisances.propensity[half][..., :keep]
    by_mean = ((n * logged[..., None])[..., None] * (1.0 - propensity) / propensity).sum(axis=(0, 1, 2))
    found: Floats = np.where(seen > 0, np.maximum(seen / np.maximum(by_mean, 1e-300), 1.0), 1.0)
    return found


def failure_variance(cells: Cells, nuisances: Nuisances, segments: tuple[Segment, ...]) -> Floats:
    """By (half, segment, action): variance to expect of the sum of successes against KEEP's, from propensities and rates of failure alone.

    Failures are rare and weighted by 1 / pi: one half may hold none where the other holds one that counts for hundreds.
    Var sum (G(a) - y) = sum_x n_x f_a (1 - f_a) (1 - pi_a(x)) / pi_a(x), with f_a the model's share of failures, on the
    learning half in the learning half and on both in the other.
    """
    keep = len(cells.binning.models)
    found = np.zeros((2, len(segments), keep + 1))
    for half, (own, known) in enumerate(((cells.learning, cells.learning), (~cells.learning, None))):
        sent, succeeded = (cells.total(name, cells=known)[..., :keep].sum(axis=(0, 1, 2)) for name in ("n", "success"))
        rate = (sent - succeeded + 1.0) / (sent + 2.0)
        propensity = nuisances.propensity[half][..., :keep]
        n = cells.total("n", cells=own)[:-1, :-1].sum(axis=3)
        by_level = (n[..., None] * (1.0 - propensity) / propensity).sum(axis=2)
        factor = uneven(cells, nuisances, half)
        for place, segment in enumerate(segments):
            found[half, place, :keep] = by_level[segment.task, segment.first : segment.last].sum(axis=0) * rate * (1.0 - rate) * factor
    return found


def quality_variance(cells: Cells, nuisances: Nuisances, segments: tuple[Segment, ...]) -> Floats:
    """By (half, segment, action): variance to expect of the sum of success x quality against KEEP's, from propensities.

    Where a model is rarely tried, the few heavy answers that a window holds may happen to differ little.
    Var sum (G(a) - y) = sum_x n_x s_a(x) v_a (1 - pi_a(x)) / (pi_a(x) e_a(x)), with s_a the share of successes, e_a that of scored ones
    among them, and v_a how much single scores of the model vary about what is predicted, over the window.
    """
    keep = len(cells.binning.models)
    reach = np.flatnonzero((cells.level < cells.binning.levels) & (cells.task < len(cells.binning.tasks)) & (cells.arm < keep))
    fold = fold_of(cells.cluster[reach])
    predicted = nuisances.quality[fold, cells.task[reach], cells.level[reach], cells.length[reach], cells.arm[reach]]
    labelled = cells.sums["scored"][reach]
    squares = (cells.sums["quality"][reach] - predicted * labelled) ** 2
    if cells.weighted is not None and not cells.distrusts_weights:
        # How answers vary that stand for many counts as many times.
        heavy = np.where(cells.is_weighted, cells.weighted["n"] / np.maximum(cells.sums["n"], 1e-300), 1.0)[reach]
        squares, labelled = squares * heavy, labelled * heavy
    found = np.zeros((2, len(segments), keep + 1))
    for half, own in enumerate((cells.learning, ~cells.learning)):
        # What is learnt from may see nothing of the half that proves.
        of = cells.learning[reach] if half == 0 else np.ones(len(reach), dtype=bool)
        spread = sum_by((cells.arm[reach][of],), squares[of], (keep,)) / np.maximum(
            sum_by((cells.arm[reach][of],), labelled[of], (keep,)), 1.0
        )
        folds = slice(half * FOLDS_PER_HALF, (half + 1) * FOLDS_PER_HALF)
        success = nuisances.success[folds, ..., :keep].mean(axis=0)
        propensity, rate = nuisances.propensity[half][..., :keep], nuisances.labelled[half][..., :keep]
        n = cells.total("n", cells=own)[:-1, :-1].sum(axis=3)
        by_level = (n[..., None] * success * (1.0 - propensity) / (propensity * rate)).sum(axis=2)
        factor = uneven(cells, nuisances, half)
        for place, segment in enumerate(segments):
            found[half, place, :keep] = by_level[segment.task, segment.first : segment.last].sum(axis=0) * spread * factor
    return found
