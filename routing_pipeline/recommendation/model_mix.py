"""`optimize_model_mix`: share of traffic per model now and recommended, and what each binding constraint costs.

Belongs here: the linear programme over traffic shares, its dual values, and the shares that the proven rules imply.
Does not belong here: rules (`recommendation.routing_rules`), estimates (`policy`).
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from pydantic import Field
from scipy.optimize import linprog

from routing_pipeline.catalog import Catalog
from routing_pipeline.estimates import Estimate, Measured, Result, Unidentifiable, quantity
from routing_pipeline.policy import rules as rules_, search
from routing_pipeline.policy.cells import Floats, Ints, sum_by
from routing_pipeline.policy.evidence_model import RoutingEvidence
from routing_pipeline.policy.rule_set import Outcomes
from routing_pipeline.policy.scores import COST, LATENCY, QUALITY, SLOW, SUCCESS, ScoreCube
from routing_pipeline.policy.search import Learned
from routing_pipeline.recommendation.routing_rules import Question, RoutingRules, question_of
from routing_pipeline.scope import AnalysisScope

RESAMPLES = 40
SEED = 7
QUALITY_STEP = 0.01
SHARE_STEP = 0.01
TASKS_SHOWN = 50

GOAL_SHARE = "share of today's weighted goal"


class ModelShare(Result):
    """One model's part of the traffic."""

    model: str
    now: float = quantity("Share of requests routed to it first, today", "0..1")
    recommended: float = quantity("Share under the proven rules; equals `now` when nothing is proven", "0..1")


class ModelMove(Result):
    """Traffic that one model carries today and another one, or the same, would carry."""

    model: str = Field(description="Model that it is routed to first, today")
    goes_to: str = Field(description="Model under the proven rules; the same where nothing moves")
    share: float = quantity("Of all requests", "0..1")


class TaskMix(Result):
    """The mix within one task type."""

    task_type: str
    requests: int
    shares: tuple[ModelShare, ...] = Field(description="Largest change first")


class ConstraintPrice(Result):
    """What one more unit of a constraint would be worth."""

    constraint: str
    limit: float = quantity("Where the constraint stands, in `limit_unit`", "limit_unit")
    limit_unit: str
    binding: bool = Field(description="The optimum of the linear programme lies on it")
    dual_value: Measured = Field(description="Gain in `unit` when the limit is relaxed by one step; 0 when it does not bind")
    unit: str
    explanation: str = Field(description="The price in words; an estimate, not a proven saving")


class ModelMix(Result):
    """The answer to `optimize_model_mix`."""

    shares: tuple[ModelShare, ...] = Field(description="All traffic, largest change first")
    by_task: tuple[TaskMix, ...]
    moves: tuple[ModelMove, ...] = Field(default=(), description="Where each model's traffic goes, largest first; adds up to all requests")
    expected: Outcomes = Field(description="Of the recommended mix: what the rules' proof showed, nothing beyond it")
    prices: tuple[ConstraintPrice, ...] = Field(description="Dual values of the linear programme over traffic shares")
    moved_share: float = quantity("Share of requests that change model", "0..1")
    reasons: tuple[str, ...]
    verdict: str = Field(description="One sentence for a manager")


@dataclass(frozen=True)
class _Row:
    """One limit of the programme: coefficients x <= bound, per request. `step`: by how much its price is quoted."""

    constraint: str
    limit: float
    limit_unit: str
    coefficients: Floats
    bound: float
    step: float
    step_text: str
    per_step: float
    """How far `bound` moves when the limit is relaxed by one step."""


def optimize_model_mix(evidence: RoutingEvidence, scope: AnalysisScope, catalog: Catalog, rules: RoutingRules) -> ModelMix:
    """Shares per model now and under the proven rules, and dual values of the linear programme over traffic shares.

    The programme lets every segment split its traffic over the models that the logs can judge, and maximises the goal
    under the same limits as the rules, on the learning half. Its optimum is not proven and not recommended: the
    recommended mix is that of the rules, whose proof is `expected`. What the programme adds is prices: by duality (Dantzig
    1963), the gain per unit by which a binding limit is relaxed.

    Args:
        evidence: of the window; its cells are read.
        scope: goal, thresholds, capacities.
        catalog: unused; costs are those logged.
        rules: the proven rules.
    """
    del catalog
    expected = rules.rule_set.expected.proposed
    if evidence.refusal is not None or evidence.cells_uri is None:
        why = evidence.refusal or "no evidence was gathered"
        return ModelMix(
            shares=(),
            by_task=(),
            expected=expected,
            prices=(),
            moved_share=0.0,
            reasons=rules.reasons,
            verdict=f"No other mix can be judged: {why}.",
        )
    question = question_of(evidence, scope, rules.rule_set.goal)
    cube = question.cube
    actions = rules_.actions_of(cube, rules.rule_set.rules)
    if actions is None:
        actions = np.full(len(cube.segments), cube.keep)
    shares, by_task, moves = _shares(cube, actions)
    return ModelMix(
        shares=shares,
        by_task=by_task,
        moves=moves,
        expected=expected,
        prices=prices(question, search.learned(cube, question.limits)),
        moved_share=rules.moved_share,
        reasons=rules.reasons,
        verdict=_verdict(shares, rules, evidence),
    )


def _shares(cube: ScoreCube, actions: Ints) -> tuple[tuple[ModelShare, ...], tuple[TaskMix, ...], tuple[ModelMove, ...]]:
    cells = cube.cells
    names = (*cube.models, "other models")
    padded = np.concatenate([actions, np.full(cube.scores.shape[1] - len(actions), cube.keep)])
    target = padded[cube.place_of_cell]
    then = np.where(target == cube.keep, cells.arm, target)
    shape = (len(cells.binning.tasks) + 1, len(names))
    n = cells.sums["n"]
    before, after = sum_by((cells.task, cells.arm), n, shape), sum_by((cells.task, then), n, shape)

    def told(now: Floats, later: Floats) -> tuple[ModelShare, ...]:
        total = max(float(now.sum()), 1e-300)
        found = [
            ModelShare(model=name, now=float(a) / total, recommended=float(b) / total)
            for name, a, b in zip(names, now, later, strict=True)
            if a > 0 or b > 0
        ]
        return tuple(sorted(found, key=lambda each: (-abs(each.recommended - each.now), -each.now, each.model)))

    tasks = tuple(
        TaskMix(task_type=task, requests=round(float(before[place].sum())), shares=told(before[place], after[place]))
        for place, task in enumerate(cells.binning.tasks[:TASKS_SHOWN])
    )
    joint = sum_by((cells.arm, then), n, (len(names), len(names)))
    total = max(float(joint.sum()), 1e-300)
    moves = [
        ModelMove(model=names[start], goes_to=names[end], share=float(joint[start, end]) / total)
        for start, end in zip(*joint.nonzero(), strict=True)
    ]
    return (
        told(before.sum(axis=0), after.sum(axis=0)),
        tasks,
        tuple(sorted(moves, key=lambda each: (-each.share, each.model, each.goes_to))),
    )


def _rows(question: Question, learnt: Learned, sums: Floats) -> list[_Row]:
    """The limits as linear rows, per request of the learning half."""
    limits, n, now, rest = question.limits, learnt.requests, learnt.today, learnt.rest
    floor = limits.min_quality if limits.min_quality is not None else learnt.quality_today - limits.max_quality_drop
    successes = float(now[SUCCESS]) / n
    rows = [
        _Row(
            "mean quality",
            floor,
            "0..1",
            -(sums[..., QUALITY] - floor * sums[..., SUCCESS]) / n,
            float(rest[QUALITY] - floor * rest[SUCCESS]) / n,
            QUALITY_STEP,
            f"a floor lower by {QUALITY_STEP:g}",
            QUALITY_STEP * successes,
        ),
        _Row(
            "completion",
            successes - search.MAX_COMPLETION_DROP,
            "0..1",
            -sums[..., SUCCESS] / n,
            float(rest[SUCCESS]) / n - successes + search.MAX_COMPLETION_DROP,
            SHARE_STEP,
            f"a floor lower by {SHARE_STEP:g}",
            SHARE_STEP,
        ),
    ]
    if limits.max_slow is not None:
        left = limits.max_slow - float(rest[SLOW]) / n
        rows.append(
            _Row(
                "share of slow requests",
                limits.max_slow,
                "0..1",
                sums[..., SLOW] / n,
                left,
                SHARE_STEP,
                "one more request in 100 slow",
                SHARE_STEP,
            )
        )
    ceiling = search.ceiling_of(learnt, limits)
    if ceiling is not None:
        step = 0.01 * ceiling
        rows.append(
            _Row(
                "cost per request",
                ceiling,
                "USD",
                sums[..., COST] / n,
                ceiling - float(rest[COST]) / n,
                step,
                "a ceiling higher by 1 %",
                step,
            )
        )
    for arm, cap in enumerate(limits.caps):
        if cap is not None:
            rows.append(
                _Row(
                    f"capacity of {question.cube.models[arm]}",
                    cap,
                    "share of requests",
                    search.traffic_of(learnt, arm),
                    cap,
                    SHARE_STEP,
                    "one more request in 100",
                    SHARE_STEP,
                )
            )
    return rows


def _duals(learnt: Learned, gain: Floats, eligible: Floats, rows: list[_Row]) -> Floats | None:
    """Gain per step of each limit at the optimum; None when no mix meets the limits."""
    one = search.covering(learnt, gain.shape[1])
    solved = linprog(
        (-gain).ravel(),
        A_ub=np.stack([row.coefficients.ravel() for row in rows]),
        b_ub=np.array([row.bound for row in rows]),
        A_eq=one,
        b_eq=np.ones(len(one)),
        bounds=[(0.0, float(most)) for most in eligible.ravel()],
        method="highs",
    )
    if solved.status != 0:
        return None
    found: Floats = -np.asarray(solved.ineqlin.marginals) * np.array([row.per_step for row in rows])
    return found


def prices(question: Question, learnt: Learned) -> tuple[ConstraintPrice, ...]:
    """Dual value of every limit, with the interval of RESAMPLES resamples of the learning half's clusters."""
    eligible = learnt.eligible.astype(np.float64)
    gain = search.utility(learnt, question.goal, question.weights)
    rows = _rows(question, learnt, learnt.sums)
    at = _duals(learnt, gain, eligible, rows)
    unit, per_unit = _unit(question, learnt)
    if at is None:
        why = Unidentifiable(unidentifiable="no mix of models that the logs can judge meets all limits on the learning half")
        return tuple(
            ConstraintPrice(
                constraint=row.constraint,
                limit=row.limit,
                limit_unit=row.limit_unit,
                binding=False,
                dual_value=why,
                unit=unit,
                explanation=why.unidentifiable,
            )
            for row in rows
        )
    random = np.random.default_rng(SEED)
    clusters = len(learnt.by_cluster)
    draws = []
    for _ in range(RESAMPLES):
        weight = random.multinomial(clusters, np.full(clusters, 1 / clusters)).astype(np.float64)
        sums = np.tensordot(weight, learnt.by_cluster, axes=1)
        again = _resampled(learnt, sums)
        drawn = _duals(again, search.utility(again, question.goal, question.weights), eligible, _rows(question, again, sums))
        if drawn is not None:
            draws.append(drawn)
    spread = np.stack(draws) if draws else at[None]
    low, high = np.quantile(spread, [0.025, 0.975], axis=0)
    return tuple(
        _price(row, float(value) * per_unit, float(a) * per_unit, float(b) * per_unit, unit)
        for row, value, a, b in zip(rows, at, low, high, strict=True)
    )


def _resampled(learnt: Learned, sums: Floats) -> Learned:
    fields = {name: getattr(learnt, name) for name in learnt.__dataclass_fields__}
    return Learned(**fields | {"sums": sums})


def _unit(question: Question, learnt: Learned) -> tuple[str, float]:
    """What the goal's relative gain is worth in its own unit."""
    per_request = {"cost": float(learnt.today[COST]), "speed": float(learnt.today[LATENCY])}
    if question.goal == "cost":
        return "USD/day", per_request["cost"] / learnt.requests * question.requests_per_day
    if question.goal == "speed":
        return "ms per request", per_request["speed"] / learnt.requests
    if question.goal == "quality":
        return "points of mean quality", learnt.quality_today
    return GOAL_SHARE, 1.0


def _price(row: _Row, value: float, low: float, high: float, unit: str) -> ConstraintPrice:
    binding = value > 1e-12
    worth = f"be worth about {value:.4g} {unit}" if unit != GOAL_SHARE else f"improve the weighted goal by about {100 * value:.1f} %"
    told = f"{row.step_text} would {worth}; an estimate, not proven" if binding else "does not bind: relaxing it gains nothing"
    return ConstraintPrice(
        constraint=row.constraint,
        limit=row.limit,
        limit_unit=row.limit_unit,
        binding=binding,
        dual_value=Estimate(estimate=value, low=min(low, value), high=max(high, value)),
        unit=unit,
        explanation=told,
    )


def _verdict(shares: tuple[ModelShare, ...], rules: RoutingRules, evidence: RoutingEvidence) -> str:
    if not rules.rule_set.rules:
        return "No other mix could be proven to meet the limits; keep today's."
    up = max(shares, key=lambda each: each.recommended - each.now)
    down = min(shares, key=lambda each: each.recommended - each.now)
    test = "" if evidence.grade == "A" else " Worth an A/B test."
    return (
        f"Move {rules.moved_share:.0%} of requests: {up.model} from {up.now:.0%} to {up.recommended:.0%} of traffic, "
        f"{down.model} from {down.now:.0%} to {down.recommended:.0%}.{test}"
    )
