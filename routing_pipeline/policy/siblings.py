"""Arms of one model: gateway names that differ in provider, effort, service tier or version lend each other observations.

Belongs here: which names are siblings, how many observations one lends another, and how many serve best. Does not belong here: the
regressions that are fitted on them (`policy.outcome_model`), raw arms side by side (`analysis.arms`).

An arm's regression is fitted on its own observations and on those of its siblings, each of which counts for a share: together for at most
as many as `most`, a power prior (Ibrahim and Chen 2000, Statistical Science 15:46) whose weight is told in requests. So a name that is
rarely tried is expected to do what its model does elsewhere until its own requests say otherwise. How many serve best is chosen by the
learning half, for each model and outcome by itself: what two providers answer may be alike while their prices are not, and 0 is among the
choices. Shares depend on counts alone, so that regressions stay linear in the outcomes. A name's own requests decide as ever whether it is
supported, and correct what was lent amiss.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Sequence

import numpy as np

from routing_pipeline.policy.cells import Floats, Ints

MOST_LENT: tuple[float, ...] = (10.0, 30.0, 100.0, 300.0, 1_000.0)
"""Observations that all siblings of an arm may count for together; beside none at all."""

Fit = Callable[[Floats, Floats], Floats]
"""From (fold, task, level, length, arm) observations and sums of an outcome to predictions of the same shape."""
Loss = Callable[[Floats], Floats]
"""Of such predictions, by arm."""


def families_of(same_as: Sequence[str]) -> tuple[str, ...]:
    """By arm the model behind its name, "" where no other arm has the same; empty where none has."""
    shared = {name for name, arms in Counter(same_as).items() if name and arms > 1}
    return tuple(name if name in shared else "" for name in same_as) if shared else ()


def siblings_of(families: Sequence[str], arms: int) -> Floats:
    """(arm, arm): 1 where the second is another arm of the first one's model. Arms beyond the families have none."""
    found = np.zeros((arms, arms))
    for one, name in enumerate(families):
        for other, of in enumerate(families):
            found[one, other] = float(bool(name) and name == of and one != other)
    return found


def shares(weight: Floats, siblings: Floats, most: float) -> Floats:
    """(fold, arm, arm): for how much an observation of the second counts in the regression of the first; 1 for its own.

    weight: observations that each fold is trained on, (fold, task, level, length, arm).
    """
    of = weight.sum(axis=(1, 2, 3)) @ siblings.T
    share = np.minimum(most / np.maximum(of, 1e-9), 1.0)
    counted: Floats = np.eye(len(siblings)) + siblings * share[:, :, None]
    return counted


def with_lent(values: Floats, share: Floats) -> Floats:
    """Sums of each arm with what its siblings lend, of the same shape."""
    return np.asarray(np.einsum("ftlub,fab->ftlua", values, share))


def lent(weight: Floats, sums: Floats, siblings: Floats, alone: Floats, fit: Fit, loss: Loss) -> tuple[Floats, Floats]:
    """Predictions with as much lent as the learning half finds best for each model, and the shares that made them.

    Args:
        weight: observations that each fold is trained on, (fold, task, level, length, arm).
        sums: of the outcome over them.
        siblings: as `siblings_of` gives them.
        alone: predictions of the same shape from each arm's own.
        fit: gives predictions from sums.
        loss: of predictions, by arm.
    """
    arms = np.flatnonzero(siblings.any(axis=1))
    found, made_by = alone.copy(), np.broadcast_to(np.eye(len(siblings)), (len(weight), *siblings.shape)).copy()
    best = _of_family(loss(alone), siblings)
    for most in MOST_LENT:
        share = shares(weight, siblings, most)[:, arms]
        counts = with_lent(weight, share)
        # A regression on nothing is 0.
        is_untrained = (counts.sum(axis=(1, 2, 3)) == 0)[:, None, None, None, :]
        fitted = alone.copy()
        fitted[..., arms] = np.where(is_untrained, alone[..., arms], fit(counts, with_lent(sums, share)))
        now = _of_family(loss(fitted), siblings)
        better: Ints = arms[(now < best)[arms]]
        found[..., better] = fitted[..., better]
        made_by[:, better] = share[:, np.isin(arms, better)]
        best = np.minimum(now, best)
    return found, made_by


def _of_family(loss: Floats, siblings: Floats) -> Floats:
    """By arm the loss of its model's arms together."""
    together: Floats = (siblings + np.eye(len(siblings))) @ loss
    return together
