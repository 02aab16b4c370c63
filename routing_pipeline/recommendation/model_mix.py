"""`optimize_model_mix`: share of traffic per model now and recommended, and what each binding constraint costs.

Belongs here: the linear programme over traffic shares, its dual values, and the shares that the proven rules imply.
Does not belong here: rules (`recommendation.routing_rules`), estimates (`policy`).
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace
from typing import ClassVar

import numpy as np
import scipy
from pydantic import Field

from routing_pipeline.estimates import Estimate, Measured, Result, Unidentifiable, quantity
from routing_pipeline.policy import proof, rule_blocks as rules_, search
from routing_pipeline.policy.cells import Floats, sum_by
from routing_pipeline.policy.evidence_model import RoutingEvidence
from routing_pipeline.policy.halves import one_hot
from routing_pipeline.policy.scores import ANSWERED, COST, LATENCY, QUALITY, SLOW, SUCCESS, ScoreCube
from routing_pipeline.policy.search import Learned
from routing_pipeline.recommendation.question import Question, question_of
from routing_pipeline.recommendation.routing_rules import RoutingRules
from routing_pipeline.rules.model import Outcomes
from routing_pipeline.text import LogName
from routing_pipeline.window.scope import AnalysisScope

RESAMPLES = 40
SEED = 7
QUALITY_STEP = 0.01
SHARE_STEP = 0.01
TASKS_SHOWN = 50

GOAL_SHARE = "share of today's weighted goal"


class ModelShare(Result):
    """One model's part of the traffic."""

    model: LogName
    now: float = quantity("Share of requests routed to it first, today", "0..1")
    recommended: float = quantity("Share under the proven rules; equals `now` when nothing is proven", "0..1")


class ModelMove(Result):
    """Traffic that one model carries today and another one, or the same, would carry."""

    model: LogName = Field(description="Model that it is routed to first, today")
    goes_to: LogName = Field(description="Model under the proven rules; the same where nothing moves")
    share: float = quantity("Of all requests", "0..1")


class TaskMix(Result):
    """The mix within one task type."""

    task_type: LogName
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

    main_table: ClassVar = "shares"

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


def optimize_model_mix(evidence: RoutingEvidence, scope: AnalysisScope, rules: RoutingRules) -> ModelMix:
    """Shares per model now and under the proven rules, and dual values of the linear programme over traffic shares.

    The programme lets every segment split its traffic over the models that the logs can judge, and maximises the goal
    under the same limits as the rules, on the learning half. Its optimum is not proven and not recommended: the
    recommended mix is that of the rules, whose proof is `expected`. What the programme adds is prices: by duality (Dantzig
    1963), the gain per unit by which a binding limit is relaxed.

    Args:
        evidence: of the window; its cells are read.
        scope: goal, thresholds, capacities.
        rules: the proven rules.
    """
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
            verdict=f"No other mix can be evaluated: {why}.",
        )
    question = question_of(evidence, scope, rules.rule_set.goal)
    cube = question.cube
    followed = rules_.shares_of(cube, rules.rule_set.rules)
    shares, by_task, moves = _shares(cube, one_hot(proof.kept(cube), cube) if followed is None else followed)
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


def _shares(cube: ScoreCube, followed: Floats) -> tuple[tuple[ModelShare, ...], tuple[TaskMix, ...], tuple[ModelMove, ...]]:
    cells = cube.cells
    names = (*cube.models, "other models")
    shape = (len(cells.binning.tasks) + 1, len(names))
    n = cells.sums["n"]
    of_cell = followed[cube.place_of_cell]
    # Parts of a task that is cut by what its requests need are one mix.
    tasks_named = tuple(dict.fromkeys(cells.binning.tasks))
    place_of = np.array([*(tasks_named.index(each) for each in cells.binning.tasks), len(cells.binning.tasks)])
    task = place_of[cells.task]
    stays = n * of_cell[:, cube.keep]
    before, after = sum_by((task, cells.arm), n, shape), sum_by((task, cells.arm), stays, shape)
    joint = sum_by((cells.arm, cells.arm), stays, (len(names), len(names)))
    for arm in range(cube.keep):
        sent = n * of_cell[:, arm]
        after[:, arm] += np.bincount(task, sent, minlength=shape[0])
        joint[:, arm] += np.bincount(cells.arm, sent, minlength=len(names))

    def told(now: Floats, later: Floats) -> tuple[ModelShare, ...]:
        total = max(float(now.sum()), 1e-300)
        found = [
            ModelShare(model=name, now=float(a) / total, recommended=float(b) / total)
            for name, a, b in zip(names, now, later, strict=True)
            if a > 0 or b > 0
        ]
        return tuple(sorted(found, key=lambda each: (-abs(each.recommended - each.now), -each.now, each.model)))

    tasks = tuple(
        TaskMix(task_type=name, requests=round(float(before[place].sum())), shares=told(before[place], after[place]))
        for place, name in enumerate(tasks_named[:TASKS_SHOWN])
    )
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
    floor = limits.floor(learnt.quality_today)
    successes = float(now[SUCCESS]) / n
    rows = [
        _Row(
            "mean quality",
            floor,
            "0..1",
            -(sums[..., QUALITY] - floor * sums[..., ANSWERED]) / n,
            float(rest[QUALITY] - floor * rest[ANSWERED]) / n,
            QUALITY_STEP,
            f"a floor lower by {QUALITY_STEP:g}",
            QUALITY_STEP * float(now[ANSWERED]) / n,
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
    return [*rows, *_optional_rows(question, learnt, sums)]


def _optional_rows(question: Question, learnt: Learned, sums: Floats) -> Iterator[_Row]:
    """Latency, cost and capacities, as far as they are limited."""
    limits, rest, counted = question.limits, learnt.rest, learnt.counted
    if limits.max_slow is not None:
        left = limits.max_slow - float(rest[SLOW] / counted[SLOW])
        coefficients = sums[..., SLOW] / counted[SLOW]
        more = "one more request in 100 slow"
        yield _Row("share of slow requests", limits.max_slow, "0..1", coefficients, left, SHARE_STEP, more, SHARE_STEP)
    ceiling = search.ceiling_of(learnt, limits)
    if ceiling is not None:
        step = 0.01 * ceiling
        left = ceiling - float(rest[COST] / counted[COST])
        yield _Row("cost per request", ceiling, "USD", sums[..., COST] / counted[COST], left, step, "a ceiling higher by 1 %", step)
    for cap in limits.capped:
        name, traffic = (
            f"{'capacity' if cap.tier is None else 'share'} of {cap.named(question.cube.models)}",
            search.traffic_of(learnt, cap.arms),
        )
        left = search.left_of(learnt, cap)
        yield _Row(name, cap.most, "share of requests", traffic, left, SHARE_STEP, "one more request in 100", SHARE_STEP)


def _duals(learnt: Learned, gain: Floats, eligible: Floats, rows: list[_Row]) -> Floats | None:
    """Gain per step of each limit at the optimum; None when no mix meets the limits."""
    one = search.covering(learnt, gain.shape[1])
    solved = scipy.optimize.linprog(
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
        rows = _as_proven(question, rows)
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
    rows = _as_proven(question, rows)
    spread = np.stack(draws) if draws else at[None]
    low, high = np.quantile(spread, [0.025, 0.975], axis=0)
    return tuple(
        _price(row, float(value) * per_unit, float(a) * per_unit, float(b) * per_unit, unit)
        for row, value, a, b in zip(rows, at, low, high, strict=True)
    )


def _as_proven(question: Question, rows: list[_Row]) -> list[_Row]:
    """The same rows with their limits where the proof has them, at today's level of the whole window and not of the learning half."""
    today, limits = proof.today_of(question.halves), question.limits
    shown = {
        "mean quality": limits.floor(today.quality.value),
        "completion": today.success.value - search.MAX_COMPLETION_DROP,
        "cost per request": today.cost.value if limits.max_cost is None else limits.max_cost,
    }
    return [replace(row, limit=shown.get(row.constraint, row.limit)) for row in rows]


def _resampled(learnt: Learned, sums: Floats) -> Learned:
    fields = {name: getattr(learnt, name) for name in learnt.__dataclass_fields__}
    return Learned(**fields | {"sums": sums})


def _unit(question: Question, learnt: Learned) -> tuple[str, float]:
    """What the goal's relative gain is worth in its own unit."""
    per_request = {"cost": float(learnt.today[COST]), "speed": float(learnt.today[LATENCY])}
    if question.goal == "cost":
        return "USD/day", per_request["cost"] / learnt.requests * question.requests_per_day
    if question.goal == "speed":
        return "ms per request", per_request["speed"] / float(learnt.counted[LATENCY])
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
        f"Move {100 * rules.moved_share:.0f} % of requests: {up.model} from {100 * up.now:.0f} % to {100 * up.recommended:.0f} % of traffic, "
        f"{down.model} from {100 * down.now:.0f} % to {100 * down.recommended:.0f} %.{test}"
    )
