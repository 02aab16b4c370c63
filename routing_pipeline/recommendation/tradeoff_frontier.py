"""`tradeoff_frontier`: what can be had for which cost, with intervals that hold for all points at once.

Belongs here: the undominated policies, and where today, the proposal, single models and a random mix lie among them.
Does not belong here: choosing one of them (`recommendation.routing_rules`).
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from itertools import compress
from typing import Literal

import numpy as np
from pydantic import Field

from routing_pipeline.estimates import Estimate, Measured, Result, Unidentifiable, quantity
from routing_pipeline.parameters import Goal
from routing_pipeline.policy import candidates, proof, rule_blocks as rules_, search
from routing_pipeline.policy.cells import Floats, sum_by
from routing_pipeline.policy.evidence_model import RoutingEvidence
from routing_pipeline.policy.flattery import less
from routing_pipeline.policy.halves import one_hot
from routing_pipeline.policy.pairs import Pair, paired
from routing_pipeline.policy.proof import Evaluated
from routing_pipeline.policy.scores import ANSWERED, COST, LEARN, QUALITY, ScoreCube
from routing_pipeline.policy.search import Learned
from routing_pipeline.recommendation.applied_limits import budget_needed
from routing_pipeline.recommendation.half_choices import pair_of
from routing_pipeline.recommendation.joint_intervals import JointIntervals, joint_intervals
from routing_pipeline.recommendation.question import Question, question_of
from routing_pipeline.recommendation.routing_rules import RoutingRules, routing_rules_with_test_count
from routing_pipeline.recommendation.scenarios import Scenario, scenarios
from routing_pipeline.recommendation.within_reach import reach_of
from routing_pipeline.storage.locks import Coordination
from routing_pipeline.text import LogName
from routing_pipeline.window.scope import AnalysisScope

MAX_POINTS = 40
SINGLE_COVERED = 0.95
"""Share of the traffic on which a single model must be judged before it is told as one."""

PointKind = Literal["policy", "today", "proposed", "single_model", "random_mix"]


class ModelPart(Result):
    """A model's part of a policy's traffic."""

    model: LogName
    share: float = quantity("Share of requests", "0..1")


class FrontierPoint(Result):
    """One policy and what it would have given, on sessions that its search never saw."""

    kind: PointKind
    label: str
    cost_usd: Measured = quantity("Per request, all attempts", "USD")
    quality: Measured = quantity("Of successful requests", "0..1")
    latency_ms: Measured = quantity("Mean, per request", "ms")
    moved_share: float = quantity("Share of requests that it routes differently from today", "0..1")
    undominated: bool = Field(description="No other point is estimated at least as cheap and as good, and better in one")
    mix: tuple[ModelPart, ...] = Field(description="Models of its traffic, largest first")


class TradeoffFrontier(Result):
    """The answer to `tradeoff_frontier`."""

    points: tuple[FrontierPoint, ...] = Field(description="Undominated policies, cheapest first; those below included where undominated")
    today: FrontierPoint | None = Field(description="Null when the logs allow no estimate at all")
    proposed: FrontierPoint | None = Field(description="The proven rules; null when nothing is proven")
    best_single_model: FrontierPoint | None = Field(
        description="Best by the goal among models that could serve all; null when none can be evaluated"
    )
    single_models: tuple[FrontierPoint, ...] = Field(description="Each model serving everything")
    random_mix: FrontierPoint | None = Field(
        description="Best random mix of two single models at today's cost or less; null when none can be evaluated"
    )
    upper_bound: Measured = quantity("Quality if every request went to the model that answers it best", "0..1")
    simultaneous: int = quantity("Points whose intervals hold together at 95 %", "points")
    policies_evaluated: int = quantity("Distinct policies that were evaluated", "policies")
    scenarios: tuple[Scenario, ...] = Field(
        default=(), description="What each priority would give, for whoever has to choose; empty when cost or quality is unknown"
    )
    notices: tuple[str, ...] = ()
    verdict: str = Field(description="One sentence for a manager")


NO_BOUND = Unidentifiable(
    unidentifiable="each request was answered by one model, so no log shows which model would have answered it best; "
    "send a sample of requests to several models to find out"
)


@dataclass(frozen=True)
class _Policy:
    """A policy on its way to becoming a point: shares of each action by place, so that mixtures are policies too."""

    kind: PointKind
    label: str
    shares: Floats
    model: str = ""
    why_not: str | None = None
    by_half: Floats | None = None
    """How held-out scores count where each half chose by itself (`policy.halves`); None: nothing was searched for."""

    @property
    def weights(self) -> Floats:
        """How held-out scores count, by half."""
        return np.stack([self.shares] * 2) if self.by_half is None else self.by_half


Ask = Callable[[AnalysisScope], RoutingRules]
"""Optimises and proves under the scope's parameters, at the number that this test has."""


def frontier_with_scenarios(
    evidence: RoutingEvidence, scope: AnalysisScope, rules: RoutingRules, coordination: Coordination
) -> TradeoffFrontier:
    """`tradeoff_frontier`, its scenarios asked of the same evidence, each at the number that the question has."""
    return tradeoff_frontier(evidence, scope, rules, lambda asked: routing_rules_with_test_count(evidence, asked, coordination))


def tradeoff_frontier(evidence: RoutingEvidence, scope: AnalysisScope, rules: RoutingRules, ask: Ask | None = None) -> TradeoffFrontier:
    """Policies from cheapest to best, today, the proposal, single models and a random mix of two.

    Policies are found on each half of the sessions (a sweep over what quality is worth, no limit applied) and evaluated on the
    other one, with intervals that hold for all that were evaluated at once: picking any of them is covered.

    Args:
        evidence: of the window; its cells are read.
        scope: goal, weights and floor are its parameters.
        rules: what was proposed.
        ask: answers the questions of the scenarios, where the limits are in conflict; without it there are none.
    """
    if evidence.refusal is not None or evidence.cells_uri is None:
        return _refused(evidence.refusal or "no evidence was gathered")
    question = question_of(evidence, scope, None)
    cube = question.cube
    learnt = search.learned(cube, question.limits)
    other = search.learned(question.halves.second, question.limits)
    swept = [_Policy("policy", "", pair.shares, by_half=pair.by_half) for pair in _swept(question, learnt, other)]
    today = _Policy("today", "Today", one_hot(proof.kept(cube), cube))
    proposal = _proposal(question, rules)
    singles = [_single(cube, arm) for arm in range(len(cube.models))]
    best = _best_single(question, learnt, singles)
    mix = _random_mix(cube, singles)
    others = [each for each in (today, proposal, *singles, mix) if each is not None]
    family = [*swept, *others]
    outcomes = proof.proven_weights(question.halves, [each.weights for each in family])
    evaluated = [each.why_not is None for each in family]
    now = outcomes[len(swept)]
    # What was proposed is told as it was promised.
    outcomes = [less(outcome, rules.luck, now) if each is proposal else outcome for each, outcome in zip(family, outcomes, strict=True)]
    intervals = joint_intervals(question, list(compress(outcomes, evaluated)), now)
    undominated = _undominated(outcomes, evaluated)
    points = [
        _point(question, policy, outcome, intervals, is_undominated)
        for policy, outcome, is_undominated in zip(family, outcomes, undominated, strict=True)
    ]
    shown = sorted(compress(range(len(family)), undominated), key=lambda place: outcomes[place].cost.value)
    by_policy = {id(policy): point for policy, point in zip(family, points, strict=True)}
    return TradeoffFrontier(
        points=tuple(_named(points[place], rank) for rank, place in enumerate(_thinned(shown), start=1)),
        today=by_policy[id(today)],
        proposed=None if proposal is None else by_policy[id(proposal)],
        best_single_model=None if best is None else by_policy[id(best)],
        single_models=tuple(by_policy[id(single)] for single in singles),
        random_mix=None if mix is None else by_policy[id(mix)],
        upper_bound=NO_BOUND,
        simultaneous=sum(evaluated),
        policies_evaluated=len(family),
        scenarios=() if ask is None or not rules.conflicts else _scenarios(question, learnt, ask),
        notices=_notices(question, shown),
        verdict=_verdict(points, shown, by_policy[id(today)], by_policy.get(id(proposal))),
    )


def _scenarios(question: Question, learnt: Learned, ask: Ask) -> tuple[Scenario, ...]:
    """What each priority gives when the limits cannot all hold."""
    scope, limits = question.scope, question.limits
    if not question.has_cost:
        return ()
    return scenarios(
        scope.parameters,
        limits,
        reach_of(question.cube, learnt, limits, question.weights),
        lambda per_request: budget_needed(per_request * question.evidence.traffic, scope),
        lambda parameters: ask(scope.model_copy(update={"parameters": parameters})),
    )


def _swept(question: Question, one: Learned, other: Learned) -> list[Pair]:
    """The convex frontier of cost and quality as each half learns it, trade-off by trade-off, plus the goal's own sweep."""
    found: dict[tuple[tuple[int, ...], tuple[int, ...]], None] = {}
    goals: tuple[Goal, ...] = ("cost", "speed") if not question.has_cost and question.has_latency else ("cost", question.goal)
    for goal in dict.fromkeys(goals):
        gains = [search.utility(learnt, goal, question.weights) for learnt in (one, other)]
        for at in candidates.trade_offs(slow=False):
            both = [
                candidates.sweep(learnt, gain, by_cost=goal == "quality", slow=False, at=at)[0].actions(learnt)
                for learnt, gain in zip((one, other), gains, strict=True)
            ]
            found.setdefault((both[0], both[1]))
    single = question.scope.parameters.single
    pairs = [paired(question.halves, *each, single=single) for each in found]
    return [pair for pair in pairs if pair.moves.any()]


def _proposal(question: Question, rules: RoutingRules) -> _Policy | None:
    """As it was proven; rules that were not searched for, as they are."""
    if not rules.rule_set.rules:
        return None
    pair = pair_of(question.halves, rules.halves, single=question.scope.parameters.single)
    if pair is not None:
        return _Policy("proposed", "Proposed rules", pair.shares, by_half=pair.by_half)
    shares = rules_.shares_of(question.cube, rules.rule_set.rules)
    return None if shares is None else _Policy("proposed", "Proposed rules", shares)


def _single(cube: ScoreCube, arm: int) -> _Policy:
    """One model for all that it can be judged on; unidentifiable when that is less than SINGLE_COVERED of the traffic.

    Nothing was searched here, so support on both halves counts. What is left as it is is not compared with today.
    """
    left = cube.left(("cost", "quality"))
    evaluated = cube.all.supported[:, arm] & cube.all.has_cost[:, arm] & ~left
    traffic = cube.requests[:, : len(cube.segments)].sum(axis=0)
    covered = float(traffic[evaluated].sum() / max(float(traffic.sum()), 1e-300))
    why_not = None
    if covered < SINGLE_COVERED:
        names = sorted({segment.task_type for place, segment in enumerate(cube.segments) if not evaluated[place]})
        more = f" and {len(names) - 3} more" if len(names) > 3 else ""
        tried = "too rarely tried" if not left.any() else "too rarely tried, or today's answers are not scored,"
        why_not = f"{tried} on {', '.join(names[:3])}{more}; there is evidence for {100 * covered:.0f} % of requests"
    label = (
        f"{cube.models[arm]} for everything"
        if covered > 0.9999
        else f"{cube.models[arm]} wherever there is evidence ({100 * covered:.0f} %)"
    )
    actions = np.where(evaluated, arm, cube.keep)
    return _Policy("single_model", label, one_hot(actions, cube), cube.models[arm], why_not)


def _best_single(question: Question, learnt: Learned, singles: list[_Policy]) -> _Policy | None:
    """By the goal among those whose predicted quality meets the floor; the best quality where none does."""
    evaluated = [single for single in singles if single.why_not is None]
    if not evaluated:
        return None
    gain = search.utility(learnt, question.goal, question.weights)
    limits = question.limits
    floor = limits.floor(learnt.quality_today)

    def predicted(policy: _Policy) -> tuple[float, float]:
        shares = policy.shares[: len(question.cube.segments)]
        sums = np.einsum("pao,pa->o", learnt.sums[: learnt.segments], shares) + learnt.rest
        return float(sums[QUALITY] / max(float(sums[ANSWERED]), 1e-300)), float((gain[: learnt.segments] * shares).sum())

    good = [single for single in evaluated if predicted(single)[0] >= floor]
    if good:
        return max(good, key=lambda single: predicted(single)[1])
    return max(evaluated, key=lambda single: predicted(single)[0])


def _random_mix(cube: ScoreCube, singles: list[_Policy]) -> _Policy | None:
    """Of all random mixes of two judged models that cost no more than today, the one of best quality, on the learning half."""
    evaluated = [single for single in singles if single.why_not is None]
    if not evaluated:
        return None
    budget = float(cube.scores[LEARN, :, cube.keep, COST].sum())
    sums = {id(each): np.einsum("jpao,pa->o", cube.scores[LEARN], each.shares) for each in evaluated}
    best: tuple[float, _Policy] | None = None
    for one in evaluated:
        for other in evaluated:
            low, high = sums[id(one)], sums[id(other)]
            if low[COST] > budget:
                continue
            part = 1.0 if high[COST] <= budget else float((budget - low[COST]) / (high[COST] - low[COST]))
            mixed = (1 - part) * low + part * high
            quality = float(mixed[QUALITY] / max(float(mixed[ANSWERED]), 1e-300))
            if best is None or quality > best[0] + 1e-12:
                label = f"{100 * part:.0f} % {other.model}, the rest {one.model}, at random"
                best = (quality, _Policy("random_mix", label, (1 - part) * one.shares + part * other.shares))
    return None if best is None else best[1]


def _undominated(outcomes: list[Evaluated], evaluated: list[bool]) -> list[bool]:
    cost = np.array([outcome.cost.value for outcome in outcomes])
    quality = np.array([outcome.quality.value for outcome in outcomes])
    valid = np.array(evaluated) & np.isfinite(cost) & np.isfinite(quality)
    found = []
    for place in range(len(outcomes)):
        beats = valid & (cost <= cost[place]) & (quality >= quality[place]) & ((cost < cost[place]) | (quality > quality[place]))
        # Of equals the first stands for all.
        equal = valid & (cost == cost[place]) & (quality == quality[place]) & (np.arange(len(outcomes)) < place)
        found.append(bool(valid[place]) and not bool((beats | equal).any()))
    return found


def _thinned(places: list[int]) -> list[int]:
    if len(places) <= MAX_POINTS:
        return places
    return [places[round(step)] for step in np.linspace(0, len(places) - 1, MAX_POINTS)]


def mix_of(cube: ScoreCube, shares: Floats) -> dict[str, float]:
    """Share of all requests by model under a policy; KEEP sends what it sent."""
    cells = cube.cells
    names = (*cube.models, "other models")
    today = sum_by((cube.place_of_cell, cells.arm), cells.sums["n"], (cube.scores.shape[1], len(names)))
    sent = shares[:, -1:] * today
    sent[:, :-1] += shares[:, :-1] * today.sum(axis=1, keepdims=True)
    total = max(float(today.sum()), 1e-300)
    return {name: float(value) / total for name, value in zip(names, sent.sum(axis=0), strict=True) if value > 0}


def moved_share(cube: ScoreCube, shares: Floats) -> float:
    """Share of requests whose model changes."""
    cells = cube.cells
    known = np.minimum(cells.arm, len(cube.models) - 1)
    stays = shares[cube.place_of_cell, -1] + np.where(cells.arm < len(cube.models), shares[cube.place_of_cell, known], 0.0)
    n = cells.sums["n"]
    return float((n * (1.0 - np.minimum(stays, 1.0))).sum() / max(float(n.sum()), 1e-300))


def _point(question: Question, policy: _Policy, outcome: Evaluated, intervals: JointIntervals, undominated: bool) -> FrontierPoint:
    mix = mix_of(question.cube, policy.shares)
    unknown = None if policy.why_not is None else Unidentifiable(unidentifiable=policy.why_not)
    outcomes = question.baseline if policy.kind == "today" else intervals.outcomes(outcome)
    return FrontierPoint(
        kind=policy.kind,
        label=policy.label,
        cost_usd=unknown or outcomes.cost_usd,
        quality=unknown or outcomes.quality,
        latency_ms=unknown or outcomes.latency_ms,
        moved_share=moved_share(question.cube, policy.shares),
        undominated=undominated,
        mix=tuple(ModelPart(model=model, share=share) for model, share in sorted(mix.items(), key=lambda each: (-each[1], each[0]))),
    )


def _named(point: FrontierPoint, rank: int) -> FrontierPoint:
    if point.label:
        return point
    most = ", ".join(f"{part.model} {100 * part.share:.0f} %" for part in point.mix[:2])
    return point.model_copy(update={"label": f"Policy {rank}: {most}"})


def _notices(question: Question, shown: list[int]) -> tuple[str, ...]:
    found = ["Points are estimates on the sessions held out from the search; their intervals hold for all points at once."]
    if len(shown) < 15:
        found.append(f"{len(shown)} undominated policies are all that these logs distinguish.")
    if question.evidence.grade != "A":
        found.append(f"Evidence of grade {question.evidence.grade}: a point other than today is worth an A/B test, not a promise.")
    return tuple(found)


def _verdict(points: list[FrontierPoint], shown: list[int], today: FrontierPoint, proposed: FrontierPoint | None) -> str:
    if today.undominated:
        return f"Of {len(points)} policies none is estimated both cheaper and better than today's routing."
    better = len([place for place in shown if points[place].kind == "policy"])
    said = f"Today's routing is not on the frontier: of {better} undominated policies at least one is estimated both cheaper and better."
    if proposed is not None and isinstance(proposed.cost_usd, Estimate) and isinstance(today.cost_usd, Estimate):
        said += f" The proposed rules cost {100 * proposed.cost_usd.estimate / max(today.cost_usd.estimate, 1e-300):.0f} % of today's cost."
    return said


def _refused(why: str) -> TradeoffFrontier:
    return TradeoffFrontier(
        points=(),
        today=None,
        proposed=None,
        best_single_model=None,
        single_models=(),
        random_mix=None,
        upper_bound=NO_BOUND,
        simultaneous=0,
        policies_evaluated=0,
        notices=(why,),
        verdict=f"No frontier can be drawn: {why}.",
    )
