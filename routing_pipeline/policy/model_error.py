"""What the outcome models' own error adds to the error of every score sum, by cluster.

Belongs here: the influence of each cluster on the regressions of others, and through them on sums of scores. Does not
belong here: the regressions (`policy.outcome_model`), the scores (`policy.scores`), intervals (`stats.inference`).

A sum of scores depends on mu in two ways that cancel where weights add up to the requests that they stand for:

    d sum G(a) / d mu_a(x) = r(x) = n(x) - sum 1{a_i = a} / pi_a(x).

Where a model was rarely tried they do not cancel: whole contexts hold none of its requests and are told by the
regression alone. So r is then no small thing, and the regression's error is common to all requests that it predicts,
which a standard error from the scores by themselves does not see. The regressions are linear in the outcomes, so that
what cluster j adds to a sum through them is known in closed form: with b = A^-1 sum x y the coefficients of a fold,

    D_j = sum_f (sum_x r_f(x) x)' A_f^-1 sum_{i in j} x_i (y_i - mu(x_i)),   over the folds f that were fitted on j

(the implied weights of an augmented estimator: Chattopadhyay, Zubizarreta 2023, Biometrika 110:615; Bruns-Smith et al.
2025, JRSS B). Residuals are those of predictions that did not see the cluster, which errs to the safe side. That weights
are estimated, too, is not counted; it makes intervals narrower, if anything (Hirano, Imbens, Ridder 2003, Econometrica
71:1161).
"""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np

from routing_pipeline.policy.cells import Cells, Floats, Ints, sum_by
from routing_pipeline.policy.known_parts import Known, KnownParts
from routing_pipeline.policy.outcome_model import (
    AS_SENT,
    FOLDS,
    FOLDS_PER_HALF,
    REGRESSIONS,
    Nuisances,
    basis,
    by_fold,
    fitted_on,
    fitting_sums,
    fold_of,
    ridge_adjoint,
    trained_on,
)
from routing_pipeline.policy.segments import Segment
from routing_pipeline.policy.siblings import with_lent
from routing_pipeline.window.scope import CLUSTERS

OF_OUTCOME: dict[str, tuple[Known | None, tuple[str, ...]]] = {
    "cost": ("cost", ("cost",)),
    "latency": ("latency", ("latency",)),
    "success": (None, ("success",)),
    "quality": ("quality", ("success", "quality")),
    "slow": ("latency", ("slow",)),
    "answered": ("quality", ("success",)),
    "calls": (None, ("calls",)),
}
"""Of each outcome, in the order of `policy.scores.OUTCOMES`: what must be known of a request for it to count (None: every request
counts), and the regressions that its scores use."""


def model_errors(
    cells: Cells,
    nuisances: Nuisances,
    known: KnownParts,
    segments: tuple[Segment, ...],
    reach: Ints,
    weighted: dict[str, Floats],
    share: dict[Known | None, Floats],
) -> tuple[Floats, Floats]:
    """D by (half of the scores, cluster, segment, action, outcome): what a cluster adds to a sum of scores through the regressions.

    And the same by (half, cluster, segment, action) of the sums of predicted successes alone, without the correction.

    Args:
        cells: of the window.
        nuisances: fitted on them.
        known: parts whose outcomes count.
        segments: whose sums are meant.
        reach: places of the cells that lie in segments.
        weighted: their sums with each request weighted by 1 / propensity.
        share: by what must be known, share of each context's requests, (task, level, length), of which it is.

    Clusters of the learning half add to sums of the proving half as well, whose regressions they were fitted on.
    """
    binning = cells.binning
    keep = len(binning.models)
    found = np.zeros((2, CLUSTERS, len(segments), keep + 1, len(OF_OUTCOME) + 1))
    if not segments:
        return found[..., :-1], found[..., -1]
    x = basis(cells)
    by_weight = fitting_sums(cells)
    shape = by_fold(cells, cells.sums["n"]).shape
    keys = (fold_of(cells.cluster[reach]), cells.task[reach], cells.level[reach], cells.length[reach], cells.arm[reach])
    counted = ("n", "n_cost", "n_latency", "success", "scored")
    all_sent = {name: sum_by(keys, weighted[name], shape) for name in counted}
    own, sent = {}, {}
    for counts, known_share in share.items():
        is_known = known.of_cells(cells, counts)
        own[counts] = {name: by_fold(cells, cells.sums[name] * is_known) for name in counted}
        sent[counts] = {name: values * known_share[..., None] for name, values in all_sent.items()}
    clusters = [np.flatnonzero(fold_of(np.arange(CLUSTERS)) == fold) for fold in range(FOLDS)]
    for regression, (observed, total, by_scale) in REGRESSIONS.items():
        fitted_to = cells.sums if regression == AS_SENT else by_weight
        weight, _, scale = trained_on(by_fold(cells, fitted_to[observed]), by_fold(cells, fitted_to[total]), by_scale=by_scale)
        weight = with_lent(weight, nuisances.lending[regression]) if regression in nuisances.lending else weight
        residuals = _residuals(cells, nuisances, x, regression, reach, fitted_to)
        for outcome, derivative in _derivatives(regression, nuisances, own, sent):
            for arm, action, r in _by_action(derivative, keep):
                if not r.any():
                    continue
                moved = _moved(r, weight[..., arm], scale, x, nuisances.penalties[regression], segments)
                added = found[..., action, outcome]
                for counted_for, left in residuals[arm]:
                    by_half = _by_half(moved, counted_for)
                    for fold, of in enumerate(clusters):
                        added[:, of] += left[of].reshape(len(of), -1) @ by_half[:, fold].transpose(0, 2, 1)
    return found[..., :-1], found[..., -1]


def _moved(r: Floats, weight: Floats, scale: Floats, x: Floats, penalty: float, segments: tuple[Segment, ...]) -> Floats:
    """By (fold of a prediction, segment, task x p): how a segment's sum moves with x times a residual that the fold was fitted on.

    r, weight: (fold, task, level, length).
    """
    tasks, p = x.shape[0], x.shape[2]
    task_of = np.array([segment.task for segment in segments], dtype=np.int64)
    each = np.zeros((FOLDS, len(segments), tasks, p))
    for fold in range(FOLDS):
        gradient = _gradient(r[fold] * scale[fold][:, None, None], x, segments)
        by_task = ridge_adjoint(weight[fold].reshape(tasks, -1), x, penalty, task_of, gradient)
        each[fold] = by_task / scale[fold][:, None]
    return each.reshape(FOLDS, len(segments), tasks * p)


def _by_half(moved: Floats, counted_for: Floats) -> Floats:
    """By (half of the scores, fold of a residual, segment, task x p): summed over the half's folds that were fitted on the residual's.

    counted_for: by fold of a prediction, for how much of an observation the residual's counted.
    """
    fits = np.array([[fold in fitted_on(other) for other in range(FOLDS)] for fold in range(FOLDS)], dtype=np.float64) * counted_for
    by_half = fits.reshape(FOLDS, 2, FOLDS_PER_HALF).transpose(1, 0, 2) @ moved.reshape(2, FOLDS_PER_HALF, -1)
    return by_half.reshape(2, FOLDS, *moved.shape[1:])


def _residuals(
    cells: Cells, nuisances: Nuisances, x: Floats, regression: str, reach: Ints, sums: dict[str, Floats]
) -> list[list[tuple[Floats, Floats]]]:
    """By arm that predicts, whose observations its regression was fitted on: its own, then those of each sibling that lent some.

    Of each: for how much one of them counted, by fold of the prediction, and sum x (y - mu) by (cluster, task, p), with predictions that did not
    see the cluster. A sibling's residuals are from the predictions of the arm that it lent to.
    """
    arms = len(cells.binning.models) + 1
    own = _summed(cells, nuisances, x, regression, reach, sums, cells.arm[reach])
    found = [[(np.ones(FOLDS), each)] for each in own]
    lending = nuisances.lending.get(regression)
    if lending is not None:
        for arm, lender in np.argwhere(lending.any(axis=0) & ~np.eye(arms, dtype=bool)).tolist():
            of = reach[cells.arm[reach] == lender]
            lent = _summed(cells, nuisances, x, regression, of, sums, np.full(len(of), arm))[arm]
            found[arm].append((lending[:, arm, lender], lent))
    return found


def _summed(cells: Cells, nuisances: Nuisances, x: Floats, regression: str, of: Ints, sums: dict[str, Floats], arm: Ints) -> Floats:
    """Sum x (y - mu) over some cells by (arm that predicts, cluster, task, p)."""
    binning = cells.binning
    cluster, task, level, length = (each[of] for each in (cells.cluster, cells.task, cells.level, cells.length))
    observed, total, _ = REGRESSIONS[regression]
    fitted = getattr(nuisances, regression)[fold_of(cluster), task, level, length, arm]
    left = sums[total][of] - fitted * sums[observed][of]
    at = x[task, level * binning.lengths + length]
    shape = (len(binning.models) + 1, CLUSTERS, len(binning.tasks))
    return np.stack([sum_by((arm, cluster, task), left * at[:, column], shape) for column in range(x.shape[2])], axis=-1)


Derivative = tuple[Floats, Floats]
"""(fold, task, level, length, arm): of a model's own score by its prediction there, and of KEEP's."""


def _derivatives(
    regression: str, nuisances: Nuisances, all_own: dict[Known | None, dict[str, Floats]], all_sent: dict[Known | None, dict[str, Floats]]
) -> Iterator[tuple[int, Derivative]]:
    """By outcome that the regression predicts: derivative of score sums by its predictions (the formulas of `policy.scores`)."""
    half = np.arange(FOLDS) // FOLDS_PER_HALF
    for outcome, (name, (counts, used)) in enumerate(OF_OUTCOME.items()):
        if regression not in used and not (regression == AS_SENT and name == "quality"):
            continue
        own, sent = all_own[counts], all_sent[counts]
        n = own["n"].sum(axis=4, keepdims=True)
        if regression in {"cost", "latency", "slow"}:
            observed = REGRESSIONS[regression][0]
            rate = (nuisances.priced if regression == "cost" else nuisances.timed)[half]
            yield outcome, (n - sent[observed] / rate, own["n"] - own[observed] / rate)
        elif regression == "calls":
            sent_of = n - sent["n"]
            yield outcome, (sent_of, np.zeros_like(sent_of))
        elif regression == "success":
            by = nuisances.quality if name == "quality" else np.ones_like(nuisances.quality)
            yield outcome, (by * (n - sent["n"]), np.zeros_like(by))
            if name == "success":
                yield len(OF_OUTCOME), (n + np.zeros_like(by), np.zeros_like(by))
        elif regression == AS_SENT:
            kept = own["success"] - own["scored"] / nuisances.labelled[half]
            yield outcome, (np.zeros_like(kept), kept)
        else:
            rate = nuisances.labelled[half]
            moved = nuisances.success * (n - sent["n"]) + sent["success"] - sent["scored"] / rate
            yield outcome, (moved, np.zeros_like(moved))


def _by_action(derivative: Derivative, keep: int) -> Iterator[tuple[int, int, Floats]]:
    """(arm of the regression, action, derivative by (fold, task, level, length)): a model's own regression, and all of them for KEEP."""
    of_models, of_keep = derivative
    for arm in range(keep):
        yield arm, arm, of_models[..., arm]
    for arm in range(keep + 1):
        yield arm, keep, of_keep[..., arm]


def _gradient(r: Floats, x: Floats, segments: tuple[Segment, ...]) -> Floats:
    """Sum r(x) x over the contexts of each segment, from r by (task, level, length): (segment, p)."""
    tasks, levels, lengths = r.shape
    by_level = (r[..., None] * x.reshape(tasks, levels, lengths, -1)).sum(axis=2)
    below = np.concatenate([np.zeros_like(by_level[:, :1]), by_level.cumsum(axis=1)], axis=1)
    task, first, last = np.array([(each.task, each.first, each.last) for each in segments]).T
    found: Floats = below[task, last] - below[task, first]
    return found
