"""What is expected of each model in each context, and how likely today's router is to choose it: fitted from cells.

Belongs here: ridge regressions of outcomes, router propensities, labelling probabilities, and which cells each may be
fitted on. Does not belong here: estimates of policies (`policy.scores`), which correct whatever is wrong here.

Cross-fitting (Chernozhukov et al. 2018, Econometrics Journal 21:C1): outcomes of a cluster are predicted by models that
never saw its fold. The learning half is fitted inside itself; the proving half is fitted on the learning half and its
own other folds. Nothing that is learnt from flows back from the half that proves.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import NamedTuple

import numpy as np

from routing_pipeline.policy.cells import CLIP, Cells, Floats, Ints, sum_by
from routing_pipeline.policy.known_parts import COUNTED, Known, KnownParts
from routing_pipeline.policy.siblings import lent, siblings_of
from routing_pipeline.window.scope import CLUSTERS

FOLDS_PER_HALF = 4
FOLDS = 2 * FOLDS_PER_HALF
TASK_PENALTIES: tuple[float, ...] = (1.0, 3.0, 10.0, 30.0, 100.0)
"""Requests that a task's own coefficients must outweigh before they leave the pooled ones; the learning half chooses."""
POOLED_PENALTY = 0.05
PROPENSITY_PRIOR = 20.0
"""Requests that the smooth propensity counts for against the shares observed in a cell."""
LABEL_PRIOR = 10.0
LABEL_CLIP = 0.02
NEWTON_STEPS = 12


def fold_of(cluster: Ints) -> Ints:
    """0..3 in the learning half, 4..7 in the proving half."""
    fold: Ints = (cluster >= CLUSTERS // 2) * FOLDS_PER_HALF + cluster % FOLDS_PER_HALF
    return fold


def fitted_on(fold: int) -> tuple[int, ...]:
    """Folds whose outcomes may be used to predict those of `fold`."""
    return tuple(other for other in range(FOLDS) if other != fold and (other < FOLDS_PER_HALF or fold >= FOLDS_PER_HALF))


@dataclass(frozen=True)
class Nuisances:
    """Arrays over (fold, task, level, length, arm); `propensity` and the observation rates have 2 halves in place of folds.

    cost, latency, calls: mean per unit; success, slow: probabilities; quality: mean of labelled successes. Each of all requests of a
    context, whichever were sent to the model (`fitting_sums`); kept: quality of those that were.
    propensity: of the model in the context; labelled: probability that a success is labelled; priced, timed: that a
    request has a cost, a latency. penalties: by outcome, how strongly tasks were pulled to each other. lending: by outcome, what an
    observation of another arm of the same model counts for, (fold, arm, arm); empty where no two arms are of one model.
    """

    cost: Floats
    latency: Floats
    success: Floats
    slow: Floats
    calls: Floats
    quality: Floats
    kept: Floats
    propensity: Floats
    labelled: Floats
    priced: Floats
    timed: Floats
    penalties: dict[str, float]
    lending: dict[str, Floats]


REGRESSIONS: dict[str, tuple[str, str, bool]] = {
    "cost": ("n_cost", "cost", True),
    "latency": ("n_latency", "latency", True),
    "success": ("n", "success", False),
    "slow": ("n_latency", "slow", False),
    "quality": ("scored", "quality", False),
    "kept": ("scored", "quality", False),
    "calls": ("n", "calls", True),
}
"""Of each regression: the sums that count its observations, that add up its outcome, and whether it is relative to the task's mean."""
AS_SENT = "kept"
"""The regression of answers as they were sent: what stands in for those of today that nobody scored."""


def fitting_sums(cells: Cells) -> dict[str, Floats]:
    """Sums by cell that all regressions but AS_SENT are fitted on: requests count 1 / p where the router logs p, else as they were sent.

    A router that sees what the logs do not hold sends a model what suits it. What it answers well there says little of the
    requests of the same context that went elsewhere; its few answers to such requests, each of which stands for many, do.
    Of each task and model the weights add up to the requests that they are worth, (sum w)^2 / sum w^2 (Kish 1965), since penalties
    are counted in requests.
    """
    if cells.weighted is None or cells.distrusts_weights or not cells.is_weighted.any():
        return cells.sums
    shape = (len(cells.binning.tasks) + 1, len(cells.binning.models) + 1)
    keys = (cells.task, cells.arm)
    # By half, so that none of them reads the other's numbers.
    half = (~cells.learning).astype(np.int64)
    weight, squared = (sum_by((half, *keys), cells.weighted[name] * cells.is_weighted, (2, *shape)) for name in ("n", "weight_squared"))
    scale = (weight / np.maximum(squared, 1e-300))[(half, *keys)]
    return {name: np.where(cells.is_weighted, cells.weighted.get(name, values) * scale, values) for name, values in cells.sums.items()}


def by_fold(cells: Cells, values: Floats) -> Floats:
    """Values of cells summed over the clusters of each fold: (fold, task, level, length, arm), contexts that rules can reach alone."""
    binning = cells.binning
    folds = fold_of(cells.cluster)
    shape = (FOLDS, len(binning.tasks) + 1, binning.levels + 1, binning.lengths, len(binning.models) + 1)
    sums = sum_by((folds, cells.task, cells.level, cells.length, cells.arm), values, shape)
    return sums[:, :-1, :-1]


def basis(cells: Cells) -> Floats:
    """Regressors of each context, (task, level x length, p): 1, z, hinges of z at 1/4, 1/2, 3/4, u, u z.

    z: level, 0..1; u: the bin's mean prompt length relative to the task's, less 1.
    """
    binning = cells.binning
    tasks, levels, lengths = len(binning.tasks), binning.levels, binning.lengths
    z = np.zeros((tasks, levels))
    u = np.zeros((tasks, levels, lengths))
    n = cells.total("n", cells=cells.learning)[:-1, :-1].sum(axis=3)
    for task, tokens in enumerate(binning.mean_tokens()):
        own = len(binning.level_edges[task]) + 1
        z[task] = np.minimum((np.arange(levels) + 0.5) / own, 1.0)
        mean = (tokens * n[task]).sum() / max(n[task].sum(), 1e-9)
        u[task] = 0.0 if mean <= 0 or len(binning.bin_tokens[task]) <= 1 else tokens / mean - 1.0
    zz = np.broadcast_to(z[:, :, None], u.shape)
    parts = [np.ones_like(u), zz, *(np.maximum(zz - knot, 0.0) for knot in (0.25, 0.5, 0.75)), u, u * zz]
    if binning.strata is not None:
        # Each value of a column that steers has a level of its own.
        parts += [np.broadcast_to(np.arange(lengths) == stratum, u.shape).astype(np.float64) for stratum in range(1, lengths)]
    return np.stack(parts, axis=-1).reshape(tasks, levels * lengths, len(parts))


def ridge(weight: Floats, total: Floats, x: Floats, task_penalty: float) -> Floats:
    """Ridge regression from cell sums, partially pooled over tasks; predictions of the same shape as `weight`.

    weight (requests) and total (sum of the outcome): (batch, task, context); x: (task, context, p).
    Minimises sum_tc w (ybar - x'(b0 + b_t))^2 + POOLED_PENALTY |b0|^2 + task_penalty sum_t |b_t|^2. Its normal
    equations form an arrow, solved by the Schur complement of the task blocks, so cost is linear in tasks.
    """
    batch, tasks, contexts = weight.shape
    p = x.shape[2]
    products = (x[:, :, :, None] * x[:, :, None, :]).reshape(tasks, contexts, p * p)
    gram = (weight.transpose(1, 0, 2) @ products).transpose(1, 0, 2).reshape(batch, tasks, p, p)
    moment = (total.transpose(1, 0, 2) @ x).transpose(1, 0, 2)[..., None]
    own = gram + task_penalty * np.eye(p)
    solved = np.linalg.solve(own, np.concatenate([gram, moment], axis=3))
    schur = gram.sum(axis=1) + POOLED_PENALTY * np.eye(p) - (gram @ solved[..., :p]).sum(axis=1)
    right = moment.sum(axis=1) - (gram @ solved[..., p:]).sum(axis=1)
    pooled = np.linalg.solve(schur, right)[:, None]
    coefficients = pooled + solved[..., p:] - solved[..., :p] @ pooled
    fitted: Floats = np.einsum("tcp,btp->btc", x, coefficients[..., 0])
    return fitted


def ridge_adjoint(weight: Floats, x: Floats, task_penalty: float, task_of: Ints, gradient: Floats) -> Floats:
    """What each observation adds to a linear function of the coefficients of `ridge`, here called by its transpose.

    weight: (task, context); gradient: (function, p), the function's derivative by the coefficients of its task, task_of[function].
    Returns c: (function, task, p); an observation in context x of task t with residual r moves the function by x'c[:, t] r.
    """
    p = x.shape[2]
    gram = (x * weight[:, :, None]).transpose(0, 2, 1) @ x
    own = gram + task_penalty * np.eye(p)
    lent = np.linalg.solve(own, gram)
    schur = gram.sum(axis=0) + POOLED_PENALTY * np.eye(p) - (gram @ lent).sum(axis=0)
    alone = np.linalg.solve(own[task_of], gradient[..., None])
    pooled = np.linalg.solve(schur, (gradient - (gram[task_of] @ alone)[..., 0]).T).T
    found: Floats = pooled[:, None] - (pooled @ lent.reshape(-1, p).T).reshape(len(task_of), -1, p)
    found[np.arange(len(task_of)), task_of] += alone[..., 0]
    return found


def smooth_shares(counts: Floats, x: Floats) -> Floats:
    """Multinomial logit of the chosen model on the context, per task: (task, context, arm) to probabilities.

    p(a|x) proportional to share_a exp(x'b_a), penalised |b|^2, by Newton's method on the cells' counts (Agresti 2013,
    ch. 8). Starts at the task's shares, where an empty context stays.
    """
    tasks, contexts, arms = counts.shape
    p = x.shape[2]
    n = counts.sum(axis=2)
    share = (counts.sum(axis=1) + 0.5 / arms) / (n.sum(axis=1) + 0.5)[:, None]
    offset = np.log(share)[:, None, :]
    coefficients = np.zeros((tasks, p, arms))
    penalty = np.tile(np.r_[0.1, np.ones(p - 1)], arms)
    products = (x[:, :, :, None] * x[:, :, None, :]).reshape(tasks, contexts, p * p)
    probability = np.broadcast_to(share[:, None, :], counts.shape)
    for _ in range(NEWTON_STEPS):
        residual = counts - n[:, :, None] * probability
        gradient = (x.transpose(0, 2, 1) @ residual).transpose(0, 2, 1).reshape(tasks, -1) - penalty * coefficients.transpose(
            0, 2, 1
        ).reshape(tasks, -1)
        spread = -probability[:, :, :, None] * probability[:, :, None, :]
        spread[..., np.arange(arms), np.arange(arms)] += probability
        blocks = (n[:, :, None] * spread.reshape(tasks, contexts, arms * arms)).transpose(0, 2, 1) @ products
        hessian = blocks.reshape(tasks, arms, arms, p, p).transpose(0, 1, 3, 2, 4).reshape(tasks, arms * p, arms * p)
        hessian[:, np.arange(arms * p), np.arange(arms * p)] += penalty
        step = np.linalg.solve(hessian, gradient[..., None])[..., 0].reshape(tasks, arms, p).transpose(0, 2, 1)
        coefficients = coefficients + np.clip(step, -2.0, 2.0)
        logits = offset + x @ coefficients
        odds = np.exp(logits - logits.max(axis=2, keepdims=True))
        probability = odds / odds.sum(axis=2, keepdims=True)
    return np.asarray(probability)


def propensities(counts: Floats, x: Floats) -> Floats:
    """Share of each model in each context: (n_ga + k p_ga) / (n_g + k) with p_ga the smooth share, clipped at CLIP.

    counts: (task, level, length, arm). Choices alone are counted, no outcome.
    """
    tasks, levels, lengths, arms = counts.shape
    flat = counts.reshape(tasks, levels * lengths, arms)
    smooth = smooth_shares(flat, x)
    share = (flat + PROPENSITY_PRIOR * smooth) / (flat.sum(axis=2, keepdims=True) + PROPENSITY_PRIOR)
    clipped: Floats = np.maximum(share, CLIP).reshape(counts.shape)
    return clipped


def observed_rate(observed: Floats, of: Floats, *, least: float = LABEL_CLIP) -> Floats:
    """Probability that an outcome is observed, by (task, level, length, arm); each stage is pulled to the one before.

    Stages: task, task and level, task, level and model, the cell; each counts its parent for LABEL_PRIOR requests.
    Where everything is observed the rate is exactly 1. `least`: what no rate is below.
    """
    rate = np.where(of.sum() > 0, observed.sum() / max(float(of.sum()), 1e-300), 1.0)
    for axes in ((1, 2, 3), (2, 3), (2,), ()):
        seen, base = observed.sum(axis=axes, keepdims=True), of.sum(axis=axes, keepdims=True)
        rate = (seen + LABEL_PRIOR * rate) / (base + LABEL_PRIOR)
    clipped: Floats = np.maximum(rate, least)
    return clipped


def trained_on(observed: Floats, total: Floats, *, by_scale: bool) -> tuple[Floats, Floats, Floats]:
    """What the predictions of each fold are fitted on: observations, sums of the outcome, and the scale it is taken in (fold, task).

    `by_scale`: the outcome is taken relative to the task's mean, so that tasks of other size can lend to each other.
    """
    train = [list(fitted_on(fold)) for fold in range(len(observed))]
    weight = np.stack([observed[each].sum(axis=0) for each in train])
    sums = np.stack([total[each].sum(axis=0) for each in train])
    scale = np.ones(observed.shape[:2])
    if by_scale:
        overall = sums.sum(axis=(1, 2, 3, 4)) / np.maximum(weight.sum(axis=(1, 2, 3, 4)), 1e-9)
        own = sums.sum(axis=(2, 3, 4)) / np.maximum(weight.sum(axis=(2, 3, 4)), 1e-9)
        scale = np.where(own > 0, own, np.where(overall > 0, overall, 1.0)[:, None])
    return weight, sums, scale


class Predictions(NamedTuple):
    """Cross-fitted predictions (fold, task, level, length, arm), the penalty that cross-validation chose, and what siblings lent."""

    fitted: Floats
    penalty: float
    lending: Floats | None = None


def predicted(observed: Floats, total: Floats, x: Floats, *, by_scale: bool, siblings: Floats | None = None) -> Predictions:
    """Cross-fitted ridge of one outcome. siblings: which arms are of one model (`policy.siblings`); None where none are."""
    weight, sums, scale = trained_on(observed, total, by_scale=by_scale)
    size = scale[:, :, None, None, None]
    best, penalty = regressed(weight, sums / size, x, (observed, total / size))
    if siblings is None:
        return Predictions(best * size, penalty)
    best, lending = lent(
        weight,
        sums / size,
        siblings,
        best,
        lambda n, y: _by_arm(n, y, x, penalty),
        lambda fitted: _held_out_losses(fitted, observed, total / size),
    )
    return Predictions(best * size, penalty, lending)


def regressed(weight: Floats, sums: Floats, x: Floats, held_out: tuple[Floats, Floats]) -> tuple[Floats, float]:
    """Ridge of what each fold is trained on (`trained_on`), and the one of TASK_PENALTIES that fits the learning folds' own sums best.

    A model of which a fold's training holds nothing is predicted as all models together are: a regression on nothing is 0.

    Args:
        weight: observations by (fold, task, level, length, arm), of other folds.
        sums: of the outcome over them.
        x: regressors (`basis`).
        held_out: the same two of each fold itself.
    """
    folds, tasks, levels, lengths, _ = weight.shape
    is_untrained = (weight.sum(axis=(1, 2, 3)) == 0)[:, None, None, None, :]

    def fitted(penalty: float) -> Floats:
        own = _by_arm(weight, sums, x, penalty)
        if not is_untrained.any():
            return own
        pooled, of = (each.sum(axis=-1).reshape(folds, tasks, levels * lengths) for each in (weight, sums))
        lent = ridge(pooled, of, x, penalty)
        return np.where(is_untrained, lent.reshape(folds, tasks, levels, lengths, 1), own)

    found = [(fitted(penalty), penalty) for penalty in TASK_PENALTIES]
    return min(found, key=lambda each: float(_held_out_losses(each[0], *held_out).sum()))


def _by_arm(weight: Floats, sums: Floats, x: Floats, penalty: float) -> Floats:
    """`ridge` of each fold and arm by itself; all of the shape (fold, task, level, length, arm)."""
    folds, tasks, levels, lengths, arms = weight.shape

    def flat(values: Floats) -> Floats:
        return values.transpose(0, 4, 1, 2, 3).reshape(folds * arms, tasks, levels * lengths)

    shaped = ridge(flat(weight), flat(sums), x, penalty).reshape(folds, arms, tasks, levels, lengths)
    return shaped.transpose(0, 2, 3, 4, 1)


def _held_out_losses(fitted: Floats, observed: Floats, total: Floats) -> Floats:
    """By arm, squared error of the learning folds' cross-fitted predictions, from cell sums, less what no prediction changes."""
    learn = slice(0, FOLDS_PER_HALF)
    losses: Floats = (observed[learn] * fitted[learn] ** 2 - 2.0 * fitted[learn] * total[learn]).sum(axis=(0, 1, 2, 3))
    return losses


def fit(cells: Cells, known: KnownParts) -> Nuisances:
    """All nuisances of a window; a second of numpy on a million cells. Rates of observation are those of the parts that are known."""
    x = basis(cells)
    sums = {name: by_fold(cells, values) for name, values in cells.sums.items()}
    fitted_to = fitting_sums(cells)
    weighs = fitted_to is not cells.sums
    by_weight = {name: by_fold(cells, values) for name, values in fitted_to.items()} if weighs else sums
    learn, both = list(range(FOLDS_PER_HALF)), list(range(FOLDS))

    def halves(outcome: Known) -> Floats:
        is_known = known.of_cells(cells, outcome)
        observed, of = COUNTED[outcome]
        seen, base = (by_fold(cells, cells.sums[name] * is_known) for name in ("scored" if outcome == "quality" else observed, of))
        return np.stack([observed_rate(seen[each].sum(axis=0), base[each].sum(axis=0)) for each in (learn, both)])

    families = cells.binning.families
    siblings = siblings_of(families, sums["n"].shape[-1]) if families else None
    found = {}
    for name, (observed, total, by_scale) in REGRESSIONS.items():
        if weighs or name != AS_SENT:
            of = sums if name == AS_SENT else by_weight
            found[name] = predicted(of[observed], of[total], x, by_scale=by_scale, siblings=siblings)
    found.setdefault(AS_SENT, found["quality"])
    highest = dict.fromkeys(("success", "slow", "quality", AS_SENT), 1.0)
    return Nuisances(
        **{name: np.clip(each.fitted, 0.0, highest.get(name)) for name, each in found.items()},
        propensity=np.stack([propensities(sums["n"][each].sum(axis=0), x) for each in (learn, both)]),
        labelled=halves("quality"),
        priced=halves("cost"),
        timed=halves("latency"),
        penalties={name: each.penalty for name, each in found.items()},
        lending={name: each.lending for name, each in found.items() if each.lending is not None},
    )
