"""`get_quality_metrics`: how good answers were, by model and task, and what quality has to do with cost.

Belongs here: means of quality as labelled and corrected for which requests got labelled, completion, users' ratings, and
the correlation with cost. Does not belong here: what another model would have given (`policy`), where answers are poor
(`quality_issues`).
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any, ClassVar, Literal

import ibis
import numpy as np
from numpy.typing import NDArray
from pydantic import Field
from scipy.special import ndtri

from routing_pipeline import text
from routing_pipeline.estimates import LEVEL, Estimate, Measured, Result, Unidentifiable, quantity
from routing_pipeline.policy.evidence_model import RoutingEvidence, SegmentEvidence, TodayEvidence
from routing_pipeline.stats.inference import Floats, around, clustered_mean, proportion_interval
from routing_pipeline.text import LogName
from routing_pipeline.window.scope import AnalysisScope

Ints = NDArray[np.int64]

MAX_LISTED = 50
BANDS = 5
"""Equal bands of complexity within which labelled answers stand for unlabelled ones."""
GROUPS = 32
"""Random groups of sessions between which variance is measured: enough for Student's quantile to be near the normal one."""
MIN_OWN_LABELS = 5
"""Labels with which a kind of answer speaks for itself; below, it borrows from an additive model of all kinds."""
MIN_LABELS = 30
"""Labels below which a corrected mean is not attempted."""
PENALTY = 0.3
"""Ridge penalty of the additive model, in labels: just enough to make every effect estimable."""
MIN_CORRELATED = 10
QUALITY_BINS = 50
COST_BINS_PER_E = 4
"""Ranks come from bins: 0.02 of quality, a quarter of a natural logarithm of cost."""

NO_LABELS = Unidentifiable(unidentifiable="no answer carries a quality; log quality_score with the request or hand over a feedback file")
NO_RATINGS = Unidentifiable(
    unidentifiable="no user's rating in the logs; collect ratings, as user_rating or as feedback whose source is `user`"
)

METHOD = (
    "Quality is the mean over scored answers, with Student's interval over 32 random groups of sessions. Corrected quality, in all and by "
    "task type, is that of the routing evidence. By model, and where the evidence refuses, scored answers stand for all answers of their "
    "task type, complexity band (fifths) and model; kinds with fewer than 5 scores borrow from an additive model. Models, tasks and teams "
    "that nobody scores are left out. This assumes that within a kind, which answers get scored does not depend on their quality. "
    "Correlations: Spearman's, with Fisher's z (Bonett and Wright 2000). Ratings are those of users who chose to rate."
)


class QualityLine(Result):
    """One model, or one task type, or everything."""

    group: LogName | None = Field(description="Model or task type; null is everything")
    requests: int = quantity("Final requests", "requests")
    answered: int = quantity("Of them, successful", "requests")
    labelled: int = quantity("Of the successful, with a quality", "requests")
    label_coverage: Measured = quantity("labelled / answered", "0..1")
    quality: Measured = quantity("Mean over labelled answers, as they came; interval over sessions", "0..1")
    quality_corrected: Measured = quantity("Mean over all answers: labelled ones weighted to stand for all of their kind", "0..1")
    quality_share: float = quantity(
        "Share of answers that the corrected mean speaks of; the others are of models, tasks or teams that nobody scores",
        "0..1",
        default=1.0,
    )
    corrected_from: float = quantity(
        "Share of answers whose own kind (task, complexity, model) holds enough labels; the rest borrows", "0..1"
    )
    completion: Measured = quantity("answered / requests", "0..1")
    rated: int = quantity("Requests that a user rated", "requests")
    user_rating: Measured = quantity("Mean of users' own ratings; never mixed with quality", "0..1")


class Correlation(Result):
    """Spearman's rank correlation of quality and cost per request."""

    labelled: int = quantity("Requests with both", "requests")
    rho: Measured = quantity("Spearman's rank correlation", "-1..1")


class TaskCorrelation(Correlation):
    """The same within one task type."""

    task_type: LogName


class QualityAgainstCost(Result):
    """Do dearer answers go with better ones? Overall, and among comparable requests."""

    overall: Correlation
    within_task: Correlation = Field(description="Within task types, pooled")
    within_task_and_complexity: Correlation = Field(description="Within task types and complexity bands, pooled")
    tasks: tuple[TaskCorrelation, ...] = Field(description="Largest first")
    simpsons_paradox: Literal["yes", "no", "cannot tell"] = Field(
        description="yes: the sign overall and among comparable requests differ, both distinguishable from 0"
    )
    explanation: str


class QualityMetrics(Result):
    """The answer to `get_quality_metrics`."""

    main_table: ClassVar = "models"

    overall: QualityLine
    models: tuple[QualityLine, ...] = Field(description="Most requests first")
    models_not_listed: int = quantity("Models too small to be listed", "models")
    tasks: tuple[QualityLine, ...] = Field(description="Most requests first")
    tasks_not_listed: int = quantity("Task types too small to be listed", "task types")
    against_cost: QualityAgainstCost
    method: str = Field(description="How the correction works and what it assumes")
    notices: tuple[str, ...] = Field(default=(), description="What is missing and what to collect")


def quality_metrics(requests: ibis.Table, scope: AnalysisScope, evidence: RoutingEvidence | None = None) -> QualityMetrics:
    """Quality by model and task, raw and corrected for labelling, its relation to cost, completion and satisfaction.

    Args:
        requests: conformed rows of the window (schema.SCOPED_REQUESTS), one per attempt.
        scope: the window; its sources say what the logs miss.
        evidence: of the same window; today's quality is its number, so that it is the same wherever it stands.
    """
    cells = _cells(requests)
    models, models_left = _lines(cells, cells.model)
    tasks, tasks_left = _lines(cells, cells.task)
    known = None if evidence is None or evidence.refusal else evidence
    return QualityMetrics(
        overall=_as_in_evidence(_line(None, cells, np.ones(len(cells.model), dtype=bool)), None if known is None else known.today),
        models=models,
        models_not_listed=models_left,
        tasks=_tasks_as_in_evidence(tasks, known),
        tasks_not_listed=tasks_left,
        against_cost=_against_cost(requests),
        method=METHOD,
        notices=tuple(
            f"{source.name} is missing: {source.consequence}"
            for source in scope.sources
            if not source.present and source.name in {"quality", "user rating", "complexity", "task type"}
        ),
    )


def _as_in_evidence(line: QualityLine, found: TodayEvidence | SegmentEvidence | None) -> QualityLine:
    return line if found is None else line.model_copy(update={"quality_corrected": found.quality, "quality_share": found.quality_share})


def _tasks_as_in_evidence(lines: tuple[QualityLine, ...], evidence: RoutingEvidence | None) -> tuple[QualityLine, ...]:
    found: dict[str, SegmentEvidence] = {} if evidence is None else {task.task_type: task for task in evidence.tasks}
    return tuple(_as_in_evidence(line, found.get(line.group or "")) for line in lines)


# --- Means


@dataclass(frozen=True)
class _Cells:
    """Counts and sums by task, complexity band, model and random group of sessions; one entry each."""

    task: NDArray[np.object_]
    band: Ints
    model: NDArray[np.object_]
    group: Ints
    requests: Floats
    answered: Floats
    labelled: Floats
    quality: Floats
    rated: Floats
    rating: Floats


def _band(t: ibis.Table) -> ibis.expr.types.IntegerValue:
    """0 to BANDS - 1, and -1 where complexity is unknown."""
    return (t.complexity * BANDS).floor().cast("int64").clip(0, BANDS - 1).fill_null(-1)


def _cells(requests: ibis.Table) -> _Cells:
    t = requests.filter(requests.is_final)
    table = (
        t.group_by(task=t.task_type, band=_band(t), model=t.model, group=t.cluster % GROUPS)
        .agg(
            requests=t.count(),
            answered=(t.status == "success").sum(),
            labelled=t.quality.count(),
            quality=t.quality.sum(),
            rated=t.user_rating.count(),
            rating=t.user_rating.sum(),
        )
        .to_pyarrow()
    )
    column = {name: table[name].to_numpy(zero_copy_only=False) for name in table.column_names}
    sums = {
        name: np.nan_to_num(column[name].astype(np.float64)) for name in ("requests", "answered", "labelled", "quality", "rated", "rating")
    }
    return _Cells(column["task"], column["band"].astype(np.int64), column["model"], column["group"].astype(np.int64), **sums)


def _lines(cells: _Cells, names: NDArray[np.object_]) -> tuple[tuple[QualityLine, ...], int]:
    """Lines of the largest groups, and how many are left out."""
    distinct, place = np.unique(names.astype(str), return_inverse=True)
    requests = np.bincount(place, weights=cells.requests, minlength=len(distinct))
    largest = sorted(range(len(distinct)), key=lambda index: (-requests[index], distinct[index]))
    lines = tuple(_line(str(distinct[index]), cells, place == index) for index in largest[:MAX_LISTED])
    return lines, max(len(distinct) - MAX_LISTED, 0)


def _line(name: str | None, cells: _Cells, part: NDArray[np.bool_]) -> QualityLine:
    requests, answered, labelled, rated = (
        int(column[part].sum()) for column in (cells.requests, cells.answered, cells.labelled, cells.rated)
    )
    is_scored = _is_scored(cells)
    corrected, own = _corrected(cells, part & is_scored)
    counted = float(cells.answered[part & is_scored].sum())
    return QualityLine(
        group=name,
        requests=requests,
        answered=answered,
        labelled=labelled,
        label_coverage=proportion_interval(labelled, answered),
        quality=_within_scale(_grouped_mean(cells.group[part], cells.quality[part], cells.labelled[part])) if labelled else NO_LABELS,
        quality_corrected=_within_scale(corrected),
        quality_share=counted / answered if answered else 1.0,
        corrected_from=own * counted / answered if answered else own,
        completion=proportion_interval(answered, requests),
        rated=rated,
        user_rating=_within_scale(_grouped_mean(cells.group[part], cells.rating[part], cells.rated[part])) if rated else NO_RATINGS,
    )


def _is_scored(cells: _Cells) -> NDArray[np.bool_]:
    """Whether any answer of the model on the task is labelled; of the others nobody knows how good they are."""
    pairs, pair = np.unique(np.stack([cells.task.astype(str), cells.model.astype(str)], axis=1), axis=0, return_inverse=True)
    labels = np.bincount(pair.ravel(), weights=cells.labelled, minlength=len(pairs))
    found: NDArray[np.bool_] = labels[pair.ravel()] > 0
    return found


def _by_group(group: Ints, values: Floats) -> Floats:
    return np.bincount(group, weights=values, minlength=GROUPS).astype(np.float64)


def _grouped_mean(group: Ints, totals: Floats, counts: Floats) -> Measured:
    return clustered_mean(_by_group(group, totals), _by_group(group, counts))


def _within_scale(mean: Measured) -> Measured:
    """Scores lie within 0 and 1, and so does their mean."""
    if isinstance(mean, Unidentifiable):
        return mean
    return mean.within(0.0, 1.0)


def _corrected(cells: _Cells, part: NDArray[np.bool_]) -> tuple[Measured, float]:
    """Post-stratified mean over all answers, and the share of answers whose own kind has enough labels.

    The estimator is linear in the labels: mean = sum_c w_c t_c, with t_c the sum of labelled quality of kind c. Its spread is
    measured between random groups g of sessions: u_g = sum_c w_c (t_cg - n_cg m_c), SE^2 = G / (G - 1) sum u_g^2, with m_c what
    was fitted for kind c (Sarndal, Swensson & Wretman 1992, 6.6 and 7.6).
    """
    labelled, quality, group = cells.labelled[part], cells.quality[part], cells.group[part]
    if labelled.sum() == 0:
        return NO_LABELS, 0.0
    task, model = (np.unique(names[part].astype(str), return_inverse=True)[1] for names in (cells.task, cells.model))
    kinds, kind = np.unique(np.stack([task, cells.band[part], model], axis=1), axis=0, return_inverse=True)
    kind = kind.ravel()
    answered, n, sums = (
        np.bincount(kind, weights=values, minlength=len(kinds)).astype(np.float64) for values in (cells.answered[part], labelled, quality)
    )
    found = _weights(kinds, answered, n, sums)
    influence = _by_group(group, found.weights[kind] * (quality - labelled * found.fitted[kind]))
    groups = int((_by_group(group, labelled) > 0).sum())
    return _corrected_interval(float(found.weights @ sums), influence, groups, found, float(n.sum())), found.own


@dataclass(frozen=True)
class _Weights:
    """By kind: what one of its labels counts for, and what was fitted; then the share of answers served by their own kind."""

    weights: Floats
    fitted: Floats
    own: float
    freedom: float


def _weights(kinds: Ints, answered: Floats, n: Floats, sums: Floats) -> _Weights:
    """The weights that make labels stand for all answers.

    Kinds with enough labels are served by their own mean. The others are served by an additive model of task, complexity
    (with a slope per task) and model, corrected by its mean residual over all labels: a generalised regression estimator.

    Args:
        kinds: one row per kind: task, complexity band, model, as whole numbers.
        answered: answers of the kind.
        n: labels of the kind.
        sums: sum of their quality.
    """
    design = _design(kinds)
    penalty = np.full(design.shape[1], PENALTY)
    penalty[0] = 1e-9
    solve = np.linalg.inv(design.T @ (n[:, None] * design) + np.diag(penalty)) @ design.T
    model = design @ (solve @ sums)
    is_own = n >= MIN_OWN_LABELS
    total = answered.sum()
    borrowed = np.where(is_own, 0.0, answered) / total
    # Per label: own kinds their answers over their labels; the rest spread over all labels.
    direct = np.where(is_own, answered / np.maximum(n, 1.0), 0.0) / total + borrowed.sum() / n.sum()
    # What the direct part leaves over, the model's predictions take up.
    lever = answered / total - n * direct
    weights = direct + lever @ design @ solve
    residual = float((sums - n * model).sum() / n.sum())
    fitted = np.where(is_own, sums / np.maximum(n, 1.0), model + residual)
    # Residuals of what was fitted are smaller than errors: by one degree of freedom per own mean, and the model's trace.
    spent = float(is_own.sum()) + (0.0 if is_own.all() else float(np.trace(solve @ (n[:, None] * design))))
    return _Weights(weights, fitted, own=float(answered[is_own].sum() / total), freedom=float(n.sum()) - spent)


def _design(kinds: Ints) -> Floats:
    """Intercept, task, complexity band, slope of complexity by task, model."""
    task, band, model = kinds.T
    tasks = (task[:, None] == np.unique(task)).astype(np.float64)
    bands = (band[:, None] == np.unique(band)).astype(np.float64)
    models = (model[:, None] == np.unique(model)).astype(np.float64)
    slope = np.where(band < 0, 0.0, (band + 0.5) / BANDS - 0.5)
    return np.hstack([np.ones((len(kinds), 1)), tasks, bands, tasks * slope[:, None], models])


def _corrected_interval(estimate: float, influence: Floats, groups: int, found: _Weights, labels: float) -> Measured:
    if labels < MIN_LABELS or groups < GROUPS // 2 or found.freedom < labels / 2:
        return Unidentifiable(
            unidentifiable=f"{labels:.0f} labels from {groups} of {GROUPS} groups of sessions are too few for the kinds of answers there are; "
            "label more answers, at random"
        )
    variance = groups / (groups - 1) * float((influence**2).sum()) * labels / found.freedom
    return around(estimate, math.sqrt(variance), degrees=groups - 1)


# --- Quality against cost


@dataclass(frozen=True)
class _Ranked:
    """Labelled, priced requests counted by task, complexity band, bin of quality and bin of cost."""

    task: NDArray[np.object_]
    band: Ints
    quality: Ints
    cost: Ints
    n: Floats


def _ranked(requests: ibis.Table) -> _Ranked:
    t = requests.filter(requests.quality.notnull(), requests.request_cost_usd.notnull())
    cost = t.request_cost_usd
    # Nothing paid is its own bin, below every other.
    cost_bin = ibis.ifelse(
        cost > 0, (ibis.greatest(cost, 1e-12).ln() * COST_BINS_PER_E).floor().cast("int64"), ibis.literal(-1_000_000, "int64")
    )
    quality_bin = (t.quality * QUALITY_BINS).floor().cast("int64")
    table = t.group_by(task=t.task_type, band=_band(t), quality_bin=quality_bin, cost_bin=cost_bin).agg(n=t.count()).to_pyarrow()
    column: dict[str, NDArray[Any]] = {name: table[name].to_numpy(zero_copy_only=False) for name in table.column_names}
    return _Ranked(
        column["task"],
        column["band"].astype(np.int64),
        column["quality_bin"].astype(np.int64),
        column["cost_bin"].astype(np.int64),
        column["n"].astype(np.float64),
    )


def _against_cost(requests: ibis.Table) -> QualityAgainstCost:
    ranked = _ranked(requests)
    everything = np.ones(len(ranked.n), dtype=bool)
    tasks = sorted(set(ranked.task.tolist()))
    by_task = [TaskCorrelation(task_type=task, **dict(_correlation(ranked, ranked.task == task))) for task in tasks]
    banded = [_correlation(ranked, (ranked.task == task) & (ranked.band == band)) for task in tasks for band in range(-1, BANDS)]
    overall, within, comparable = _correlation(ranked, everything), _pooled(by_task), _pooled(banded)
    paradox, explanation = _simpson(overall, within, comparable)
    return QualityAgainstCost(
        overall=overall,
        within_task=within,
        within_task_and_complexity=comparable,
        tasks=tuple(sorted(by_task, key=lambda each: (-each.labelled, each.task_type))[:MAX_LISTED]),
        simpsons_paradox=paradox,
        explanation=explanation,
    )


def _correlation(ranked: _Ranked, part: NDArray[np.bool_]) -> Correlation:
    """Pearson's correlation of mid-ranks, from counts."""
    n = ranked.n[part]
    total = int(n.sum())
    if total < MIN_CORRELATED:
        why = f"{text.counted(total, 'request')} with both quality and cost; a correlation needs at least {MIN_CORRELATED}"
        return Correlation(labelled=total, rho=Unidentifiable(unidentifiable=why))
    x, y = _mid_ranks(ranked.quality[part], n), _mid_ranks(ranked.cost[part], n)
    x, y = x - (n * x).sum() / total, y - (n * y).sum() / total
    spread = math.sqrt(float((n * x * x).sum()) * float((n * y * y).sum()))
    if spread == 0:
        return Correlation(labelled=total, rho=Unidentifiable(unidentifiable="quality or cost never varies; a correlation has no meaning"))
    return Correlation(labelled=total, rho=_from_fisher(math.atanh(_inside(float((n * x * y).sum()) / spread)), total))


def _inside(rho: float) -> float:
    """Fisher's z of a perfect correlation is infinite."""
    return min(max(rho, -1 + 1e-9), 1 - 1e-9)


def _mid_ranks(values: Ints, n: Floats) -> Floats:
    _, place = np.unique(values, return_inverse=True)
    counts = np.bincount(place, weights=n)
    ranks: Floats = (counts.cumsum() - (counts - 1) / 2)[place].astype(np.float64)
    return ranks


def _standard_error(z: float, n: float) -> float:
    return math.sqrt((1 + math.tanh(z) ** 2 / 2) / (n - 3))


def _from_fisher(z: float, n: float, se: float | None = None) -> Estimate:
    half = float(ndtri(0.5 + LEVEL / 2)) * (_standard_error(z, n) if se is None else se)
    return Estimate(estimate=math.tanh(z), low=math.tanh(z - half), high=math.tanh(z + half))


def _pooled(parts: list[Correlation] | list[TaskCorrelation]) -> Correlation:
    """Mean of Fisher's z over parts, weighted by n - 3."""
    known = [(part.labelled, math.atanh(_inside(part.rho.estimate))) for part in parts if isinstance(part.rho, Estimate)]
    weight = sum(n - 3 for n, _ in known)
    total = sum(n for n, _ in known)
    if not known:
        why = f"no kind of request has {MIN_CORRELATED} requests with both quality and cost; label more answers"
        return Correlation(labelled=total, rho=Unidentifiable(unidentifiable=why))
    z = sum((n - 3) * each for n, each in known) / weight
    se = math.sqrt(sum(((n - 3) * _standard_error(each, n)) ** 2 for n, each in known)) / weight
    return Correlation(labelled=total, rho=_from_fisher(z, total, se))


def _sign(correlation: Correlation) -> int:
    """+1 or -1 where the whole interval is on one side of 0, else 0."""
    rho = correlation.rho
    if isinstance(rho, Unidentifiable):
        return 0
    return (rho.low > 0) - (rho.high < 0)


def _simpson(overall: Correlation, within: Correlation, comparable: Correlation) -> tuple[Literal["yes", "no", "cannot tell"], str]:
    signs = _sign(overall), _sign(within), _sign(comparable)
    words = {1: "better", -1: "worse"}
    for sign, among in ((signs[1], "of one task type"), (signs[2], "of one task type and complexity")):
        if signs[0] * sign < 0:
            return "yes", (
                f"Overall, more expensive answers are {words[signs[0]]}; among requests {among} they are {words[sign]}. The overall figure shows "
                "which requests go to expensive models, not what expensive models do for a request."
            )
    if all(isinstance(each.rho, Unidentifiable) for each in (overall, within, comparable)):
        return "cannot tell", "Too few requests have both a quality and a cost."
    if 0 in signs:
        return "cannot tell", "At least one of the correlations cannot be distinguished from 0."
    return "no", f"More expensive answers are {words[signs[0]]} overall and among comparable requests."
