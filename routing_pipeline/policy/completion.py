"""How often a model's requests end well: from few failures, pooled by model, task and kind, as far as the log lets them differ.

Belongs here: what the guard on completion rests on. Does not belong here: the doubly robust scores it starts from (`policy.scores`),
the guard itself (`policy.proof`).

Failures are rare, and weighted by 1 / pi: a half may hold none where the other holds one that counts for hundreds. The regression of
success borrows strength over tasks and levels, and the doubly robust correction tells where it is off. Of the correction so much is
believed as the log shows regressions to be off at all (empirical Bayes, as in `policy.search.pull_of`):

    completion = direct + B (doubly robust - direct),   B = t2 / (t2 + se2),

with se2 the larger of what clusters show and what propensities and rates of failure let expect, and t2 the overdispersion of
corrections over kinds of request and models, at its safe end, on the scale of each model's share of failures. The error that is left
is B se2; and of the regression itself that of as many requests as the model ever had.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from routing_pipeline.policy.cells import Cells, Floats

SAFE_END = 1.0
"""Standard errors that are added to the overdispersion that the log shows."""


@dataclass(frozen=True)
class Completion:
    """Sums of successes by (cluster, place, action), as pooled.

    error: (half of the scores, cluster, segment, action), what each cluster adds through the regressions. variance: (half, segment,
    action), to expect of the sum against KEEP's. borrowed: (half, segment, action), the standard error to expect of the regression's
    part, common to all segments of a model. pull: (half, segment, model), how much of the correction is believed.
    """

    sums: Floats
    error: Floats
    variance: Floats
    borrowed: Floats
    pull: Floats


def completion_of(
    cells: Cells,
    halves: tuple[slice, slice],
    requests: Floats,
    scores: Floats,
    direct: Floats,
    errors: tuple[Floats, Floats],
    variance: Floats,
    supported: NDArray[np.bool_],
) -> Completion:
    """Pool what the score cube has of successes.

    Args:
        cells: of the window.
        halves: the learning and the proving clusters.
        requests: (cluster, place).
        scores: (cluster, place, action), doubly robust.
        direct: the same from the regressions alone.
        errors: (half of the scores, cluster, segment, action), what clusters add through the regressions, to the scores and to `direct`.
        variance: (half, segment, action), to expect of the scores against KEEP's (`policy.expected_errors`).
        supported: (segment, model), what may be told at all.
    """
    segments, keep = variance.shape[1], variance.shape[2] - 1
    sums, error = scores.copy(), errors[0].copy()
    left, borrowed, pulls = variance.copy(), np.zeros_like(variance), np.zeros((2, segments, keep))
    for half, clusters in enumerate(halves):
        known = cells.learning if half == 0 else None
        sent, succeeded = (cells.total(name, cells=known)[..., :keep].sum(axis=(0, 1, 2)) for name in ("n", "success"))
        failing = (sent - succeeded + 1.0) / (sent + 2.0)
        n = requests[clusters, :segments]
        correction = scores[clusters, :segments, :keep] - direct[clusters, :segments, :keep]
        pull = _pull(correction, n, variance[half, :, :keep], failing, supported)
        pulls[half] = pull
        sums[clusters, :segments, :keep] = direct[clusters, :segments, :keep] + pull * correction
        error[half, ..., :keep] = pull * errors[0][half, ..., :keep] + (1.0 - pull) * errors[1][half, ..., :keep]
        left[half, :, :keep] = pull * variance[half, :, :keep]
        rate_error = np.sqrt(failing * (1.0 - failing) / np.maximum(sent, 1.0))
        borrowed[half, :, :keep] = (1.0 - pull) * n.sum(axis=0)[:, None] * rate_error
    return Completion(sums, error, left, borrowed, pulls)


def _pull(correction: Floats, requests: Floats, expected: Floats, failing: Floats, supported: NDArray[np.bool_]) -> Floats:
    """B by (segment, model)."""
    n = np.maximum(requests.sum(axis=0), 1.0)[:, None]
    deviation = correction - correction.sum(axis=0) / n * requests[:, :, None]
    variance = np.maximum((deviation**2).sum(axis=0), expected) / (n * failing) ** 2
    relative = correction.sum(axis=0) / (n * failing)
    weight = supported / np.maximum(variance, 1e-12)
    total = float(weight.sum())
    if total <= 0.0:
        return np.ones_like(variance)
    # Of weights 1 / se2, the mean of (r2 - se2) has the variance 2 sum w2 se4 / (sum w)^2.
    excess = float((weight * (relative**2 - variance)).sum()) / total
    unsure = float(np.sqrt(2.0 * (weight**2 * variance**2).sum())) / total
    spread = max(excess, 0.0) + SAFE_END * unsure
    pull: Floats = spread / np.maximum(spread + variance, 1e-300)
    return pull
