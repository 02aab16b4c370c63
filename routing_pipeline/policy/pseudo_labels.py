"""Scores that are cheap and on many answers, put to use by those that are dear, trusted and on few.

Belongs here: what a judge's score says of the trusted one, and the sums of cells that follow. Does not belong here: which source is
trusted (`window.conform`), what readers are told of the judge (`policy.judge_check`), estimates (`policy.scores`).

A judge may favour a model, and a proof that takes its word sells that favour as quality. So its score is never taken for quality. With j
the judge's score of an answer, q the trusted one, R = 1 where there is q, e the probability of that, an answer that the judge scored counts as

    q~ = m(j, x, a) + R / e (q - m(j, x, a)),        m = c_task + c_model + c z + (b + b_model) j

whose mean is that of q whatever m is, and whose variance is smaller the better m tells q (control variates; Robins, Rotnitzky, Zhao 1994,
JASA 89:846; prediction-powered inference: Angelopoulos et al. 2023, Science 382:669). m is fitted by ridge regression on answers with both
scores, cross-fitted as outcomes are (`policy.outcome_model`): nothing of the half that proves reaches the half that learns. It is linear in
j, so that sums by cell are all that it takes.

How many scores stand behind a number (`labelled`) stays the number of trusted ones: a model that a judge alone has seen is one that nobody has.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np

from routing_pipeline.policy.cells import Cells, Floats, sum_by
from routing_pipeline.policy.outcome_model import FOLDS, FOLDS_PER_HALF, fitted_on, fold_of, observed_rate

MIN_BOTH = 200
"""Answers with both scores from which on the judge's are put to use."""
MIN_GAIN = 1.5
"""Answers that the judge scored, over those with a trusted score, from which on its scores are worth their noise."""
MIN_SHARED = 0.8
"""Share of the trusted scores that must stand beside a judge's: the others would be lost."""
LEAST_RATE = 0.002
"""Least probability of a trusted score that is ever divided by."""
PENALTY = {"common": 0.01, "offset": 3.0, "slope": 1.0}
"""Of the ridge regression: answers that a task's or a model's own coefficients must outweigh."""
CENTRE = 0.7
"""Judges' scores are taken from here, so that offsets and slopes hardly correlate."""


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
    at = (cells.task, cells.level, cells.arm)
    return model.offset[(fold, *at)], model.slope[fold, cells.arm], model.rate[(fold // FOLDS_PER_HALF, *at)]


def judge_model(cells: Cells) -> JudgeModel | None:
    """Offset by (fold, task, level, arm), slope by (fold, arm), rate by (half, task, level, arm); None where no judge is used."""
    if not is_used(cells):
        return None
    binning = cells.binning
    tasks, levels, arms = len(binning.tasks) + 1, binning.levels + 1, len(binning.models) + 1
    shape = (FOLDS, tasks, levels, arms)
    keys = (fold_of(cells.cluster), cells.task, cells.level, cells.arm)
    names = ("both", "both_judge", "both_judge_squares", "both_quality", "both_product", "judged")
    n, j, jj, q, jq, judged = (sum_by(keys, cells.sums[name], shape) for name in names)
    jj, jq, j = jj - 2 * CENTRE * j + CENTRE**2 * n, jq - CENTRE * q, j - CENTRE * n
    offsets = _offsets(tasks, levels, arms)
    slopes = np.concatenate([np.ones((arms, 1)), np.eye(arms)], axis=1)
    penalty = np.concatenate(
        [
            np.full(2, PENALTY["common"]),
            np.full(tasks + arms, PENALTY["offset"]),
            np.full(1, PENALTY["common"]),
            np.full(arms, PENALTY["slope"]),
        ]
    )
    offset, slope = np.zeros(shape), np.zeros((FOLDS, arms))
    for fold in range(FOLDS):
        own = list(fitted_on(fold))
        seen, *sums = (each[own].sum(axis=0).ravel() for each in (n, j, jj, q, jq))
        at = np.flatnonzero(seen)
        count, of_j, of_jj, of_q, of_jq = (each[at, None] for each in (seen, *sums))
        x, s = offsets[at], slopes[at % arms]
        gram = np.block([[x.T @ (count * x), x.T @ (of_j * s)], [s.T @ (of_j * x), s.T @ (of_jj * s)]])
        moment = np.concatenate([(x * of_q).sum(axis=0), (s * of_jq).sum(axis=0)])
        found = np.linalg.solve(gram + np.diag(penalty), moment)
        slope[fold] = slopes @ found[offsets.shape[1] :]
        offset[fold] = (offsets @ found[: offsets.shape[1]]).reshape(shape[1:]) - CENTRE * slope[fold]
    rate = [
        observed_rate(n[of].sum(axis=0)[:, :, None], judged[of].sum(axis=0)[:, :, None], least=LEAST_RATE)[:, :, 0]
        for of in (slice(0, FOLDS_PER_HALF), slice(0, FOLDS))
    ]
    return JudgeModel(offset, slope, np.stack(rate))


def _offsets(tasks: int, levels: int, arms: int) -> Floats:
    """Regressors of each (task, level, arm) that are none of the judge's: 1, z, task, model."""
    task, level, arm = (each.ravel() for each in np.indices((tasks, levels, arms)))
    z = (level + 0.5) / levels - 0.5
    return np.concatenate([np.ones((len(task), 1)), z[:, None], np.eye(tasks)[task], np.eye(arms)[arm]], axis=1)
