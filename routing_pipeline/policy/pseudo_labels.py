"""Scores that are cheap and on many answers, put to use by those that are dear, trusted and on few.

Belongs here: what a judge's score says of the trusted one, and the sums of cells that follow. Does not belong here: which source is
trusted (`window.conform`), what readers are told of the judge (`policy.judge_check`), estimates (`policy.scores`).

A judge may favour a model, and a proof that takes its word sells that favour as quality. So its score is never taken for quality. With j
the judge's score of an answer, q the trusted one, R = 1 where there is q, e the probability of that, an answer that the judge scored counts as

    q~ = m(j, x, a) + R / e (q - m(j, x, a)),        m = r_a(x) + b_a j

whose mean is that of q whatever m is, and whose variance is smaller the better m tells q (control variates; Robins, Rotnitzky, Zhao 1994,
JASA 89:846; prediction-powered inference: Angelopoulos et al. 2023, Science 382:669). b is the slope within
contexts; r, what the judge leaves open, is a ridge regression of q - b j on the level for each model and task, since a judge that cannot tell
a weak model's answers to hard questions leaves just that open: what m misses there no window corrects in full, where it holds few trusted scores.
Both are fitted on answers with both scores and cross-fitted as outcomes are (`policy.outcome_model`): nothing of the half that proves
reaches the half that learns. m is linear in j, so that sums by cell are all that it takes.

How many scores stand behind a number (`labelled`) stays the number of trusted ones: a model that a judge alone has seen is one that nobody has.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np

from routing_pipeline.policy.cells import Cells, Floats, sum_by
from routing_pipeline.policy.outcome_model import (
    FOLDS,
    FOLDS_PER_HALF,
    basis,
    by_fold,
    fitted_on,
    fold_of,
    observed_rate,
    predicted,
    regressed,
    trained_on,
)

MIN_BOTH = 200
"""Answers with both scores from which on the judge's are put to use."""
MIN_GAIN = 1.5
"""Answers that the judge scored, over those with a trusted score, from which on its scores are worth their noise."""
MIN_SHARED = 0.8
"""Share of the trusted scores that must stand beside a judge's: the others would be lost."""
LEAST_RATE = 0.002
"""Least probability of a trusted score that is ever divided by."""
SLOPE_PRIOR = 30.0
"""Answers that a model's own slope must outweigh before it leaves that of all models."""
PLAIN = [0, 1]
"""Regressors of what the judge leaves open: 1 and the level. Trusted scores are few, and what the judge says already bends where quality does."""


@dataclass(frozen=True)
class JudgeModel:
    """m and e by cell: what an answer counts for is offset + slope j, and (q - that) / rate more where q is known."""

    offset: Floats
    slope: Floats
    rate: Floats


def with_pseudo_labels(cells: Cells) -> Cells:
    """The cells with `scored` and `quality` those of pseudo-labels; as they are where no judge helps. Made anew from what was counted each time."""
    model = judge_model(cells)
    if model is None:
        return cells
    offset, slope, rate = by_cell(cells, model)

    def made(sums: dict[str, Floats]) -> dict[str, Floats]:
        left = sums["both_quality"] - offset * sums["both"] - slope * sums["both_judge"]
        return sums | {"scored": sums["judged"], "quality": offset * sums["judged"] + slope * sums["judge"] + left / rate}

    return replace(cells, sums=made(cells.sums), weighted=None if cells.weighted is None else made(cells.weighted))


def is_used(cells: Cells) -> bool:
    """Whether a judge's scores are many enough, and enough of them stand beside trusted ones. Counts alone decide, of the whole window."""
    if not cells.binning.has_judge:
        return False
    judged, both, labelled = (float(cells.sums[name].sum()) for name in ("judged", "both", "labelled"))
    return both >= MIN_BOTH and judged >= MIN_GAIN * labelled and both >= MIN_SHARED * labelled


def by_cell(cells: Cells, model: JudgeModel) -> tuple[Floats, Floats, Floats]:
    """Offset, slope and rate of each cell."""
    fold = fold_of(cells.cluster)
    at = (cells.task, cells.level, cells.length, cells.arm)
    return model.offset[(fold, *at)], model.slope[fold, cells.arm], model.rate[(fold // FOLDS_PER_HALF, cells.task, cells.level, cells.arm)]


def judge_model(cells: Cells) -> JudgeModel | None:
    """Offset by (fold, task, level, length, arm), slope by (fold, arm), rate by (half, task, level, arm); None where no judge is used."""
    if not is_used(cells):
        return None
    x = basis(cells)
    of = {name: by_fold(cells, cells.sums[name]) for name in ("judged", "judge", *BOTH)}
    expected = predicted(of["judged"], of["judge"], x, by_scale=False).fitted
    slope = _slopes(of, expected)
    n, q, j, left = of["both"], of["both_quality"], of["both_judge"], slope[:, None, None, None, :]
    weight, of_q, _ = trained_on(n, q, by_scale=False)
    of_j = trained_on(n, j, by_scale=False)[1]
    within, _ = regressed(weight, of_q - left * of_j, x[..., PLAIN], (n, q - left * j))
    offset = np.broadcast_to(_beyond_reach(cells, slope)[:, None, None, None, :], _everywhere(cells)).copy()
    offset[:, :-1, :-1] = within
    return JudgeModel(offset, slope, _rates(cells))


BOTH = ("both", "both_judge", "both_judge_squares", "both_quality", "both_product")


def _everywhere(cells: Cells) -> tuple[int, ...]:
    binning = cells.binning
    return FOLDS, len(binning.tasks) + 1, binning.levels + 1, binning.lengths, len(binning.models) + 1


def _train(values: Floats) -> Floats:
    """Sums by fold, over the folds that may be used for it."""
    return np.stack([values[list(fitted_on(fold))].sum(axis=0) for fold in range(FOLDS)])


def _slopes(of: dict[str, Floats], expected: Floats) -> Floats:
    """Within a context, how much more trusted score comes with how much more of the judge's, by (fold, arm).

    b_a = sum r (q - mean q_a) / sum r^2 with r = j - E(j | x, a), each model's pulled towards that of all by SLOPE_PRIOR answers.
    """
    n, j, jj, q, jq = (of[name] for name in BOTH)
    spread = jj - 2 * expected * j + expected**2 * n

    def by_arm(values: Floats) -> Floats:
        return _train(values.sum(axis=(1, 2, 3)))

    mean = by_arm(q) / np.maximum(by_arm(n), 1.0)
    rr = by_arm(spread)
    rq = by_arm(jq - expected * q) - mean * by_arm(j - expected * n)
    common = rq.sum(axis=1, keepdims=True) / np.maximum(rr.sum(axis=1, keepdims=True), 1e-300)
    prior = SLOPE_PRIOR * rr.sum(axis=1, keepdims=True) / np.maximum(by_arm(n).sum(axis=1, keepdims=True), 1.0)
    found: Floats = (rq + prior * common) / np.maximum(rr + prior, 1e-300)
    return found


def _beyond_reach(cells: Cells, slope: Floats) -> Floats:
    """By (fold, arm), the mean of q - b j: what stands in for a regression where no rule reaches."""
    shape = slope.shape
    n, q, j = (
        _train(sum_by((fold_of(cells.cluster), cells.arm), cells.sums[name], shape)) for name in ("both", "both_quality", "both_judge")
    )
    total = q - slope * j
    common = total.sum(axis=1, keepdims=True) / np.maximum(n.sum(axis=1, keepdims=True), 1.0)
    found: Floats = (total + SLOPE_PRIOR * common) / (n + SLOPE_PRIOR)
    return found


def _rates(cells: Cells) -> Floats:
    """Probability of a trusted score, given a judge's: (half, task, level, arm)."""
    _, tasks, levels, _, arms = _everywhere(cells)
    keys = ((~cells.learning).astype(np.int64), cells.task, cells.level, cells.arm)
    n, judged = (sum_by(keys, cells.sums[name], (2, tasks, levels, arms))[:, :, :, None] for name in ("both", "judged"))
    found = [observed_rate(*(each[of].sum(axis=0) for each in (n, judged)), least=LEAST_RATE) for of in (slice(0, 1), slice(0, 2))]
    return np.stack(found)[:, :, :, 0]
