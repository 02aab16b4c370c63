"""`tradeoff_frontier`: what can be had for which cost, with intervals that hold for all points at once.

Belongs here: the undominated policies, and where today, the proposal, single models and a random mix lie among them.
Does not belong here: choosing one of them (`recommendation.routing_rules`).
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import numpy as np
from pydantic import Field

from routing_pipeline.catalog import Catalog
from routing_pipeline.estimates import Estimate, Measured, Result, Unidentifiable, quantity
from routing_pipeline.parameters import Goal
from routing_pipeline.policy import proof, rules as rules_, search
from routing_pipeline.policy.cells import Floats, Ints, sum_by
from routing_pipeline.policy.evidence_model import RoutingEvidence
from routing_pipeline.policy.proof import Evaluated
from routing_pipeline.policy.scores import COST, LEARN, QUALITY, SUCCESS, ScoreCube
from routing_pipeline.policy.search import Learned
from routing_pipeline.recommendation.routing_rules import Question, RoutingRules, Told, question_of, told_together
from routing_pipeline.recommendation.scenarios import Point, Scenario, scenarios
from routing_pipeline.scope import AnalysisScope

MAX_POINTS = 40
SINGLE_COVERED = 0.95
"""Share of the traffic on which a single model must be judged before it is told as one."""

PointKind = Literal["policy", "today", "proposed", "single_model", "random_mix"]


class ModelPart(Result):
    """A model's part of a policy's traffic."""

    model: str
    share: float = quantity("Share of requests", "0..1")


class FrontierPoint(Result):
    """One policy and what it would have given, on the half of the sessions that the search never saw."""

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
        description="Best by the goal among models that could serve all; null when none can be judged"
    )
    single_models: tuple[FrontierPoint, ...] = Field(description="Each model serving everything")
    random_mix: FrontierPoint | None = Field(
        description="Best random mix of two single models at today's cost or less; null when none can be judged"
    )
    upper_bound: Measured = quantity("Quality if every request went to the model that answers it best", "0..1")
    simultaneous: int = quantity("Points whose intervals hold together at 95 %", "points")
    policies_evaluated: int = quantity("Distinct policies that were evaluated", "policies")
    scenarios: tuple[Scenario, ...] = Field(
        default=(), description="What each priority would give, for whoever has to choose; empty when cost or quality cannot be told"
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


def tradeoff_frontier(evidence: RoutingEvidence, scope: AnalysisScope, catalog: Catalog, rules: RoutingRules) -> TradeoffFrontier:
    """Policies from cheapest to best, today, the proposal, single models and a random mix of two.

    Policies are found on the learning half (a sweep over what quality is worth, no limit applied) and evaluated on the
    proving half, with intervals that hold for all that were evaluated at once: picking any of them is covered.

    Args:
        evidence: of the window; its cells are read.
        scope: goal, weights and floor are its parameters.
        catalog: unused; costs are those logged.
        rules: what was proposed.
    """
    del catalog
    if evidence.refusal is not None or evidence.cells_uri is None:
        return _refused(evidence.refusal or "no evidence was gathered")
    question = question_of(evidence, scope, None)
    cube = question.cube
    learnt = search.learned(cube, question.limits)
    swept = [_Policy("policy", "", one_hot(cube, np.array(actions))) for actions in _swept(question, learnt)]
    today = _Policy("today", "Today", one_hot(cube, proof.kept(cube)))
    proposal = _proposal(cube, rules)
    singles = [_single(cube, arm) for arm in range(len(cube.models))]
    best = _best_single(question, learnt, singles)
    mix = _random_mix(cube, singles)
    others = [each for each in (today, proposal, *singles, mix) if each is not None]
    family = [*swept, *others]
    outcomes = proof.proven_mixtures(cube, [each.shares for each in family])
    judged = [each.why_not is None for each in family]
    now = outcomes[len(swept)]
    told = told_together(question, [outcome for outcome, is_judged in zip(outcomes, judged, strict=True) if is_judged], now)
    undominated = _undominated(outcomes, judged)
    points = [
        _point(question, policy, outcome, told, is_undominated)
        for policy, outcome, is_undominated in zip(family, outcomes, undominated, strict=True)
    ]
    shown = sorted(
        (place for place, is_undominated in enumerate(undominated) if is_undominated), key=lambda place: outcomes[place].cost.value
    )
    by_policy = {id(policy): point for policy, point in zip(family, points, strict=True)}
    return TradeoffFrontier(
        points=tuple(_named(points[place], rank) for rank, place in enumerate(_thinned(shown), start=1)),
        today=by_policy[id(today)],
        proposed=None if proposal is None else by_policy[id(proposal)],
        best_single_model=None if best is None else by_policy[id(best)],
        single_models=tuple(by_policy[id(single)] for single in singles),
        random_mix=None if mix is None else by_policy[id(mix)],
        upper_bound=NO_BOUND,
        simultaneous=sum(judged),
        policies_evaluated=len(family),
        scenarios=scenarios(
            [_choice(points[place]) for place in shown], _choice(by_policy[id(today)]), scope.parameters, *_limits(question, learnt)
        ),
        notices=_notices(question, shown),
        verdict=_verdict(points, shown, by_policy[id(today)], by_policy.get(id(proposal))),
    )


def _choice(point: FrontierPoint) -> Point:
    most = ", ".join(f"{part.model} {part.share:.0%}" for part in point.mix[:2])
    return Point(label=point.label or most, cost_usd=point.cost_usd, quality=point.quality, latency_ms=point.latency_ms)


def _limits(question: Question, learnt: Learned) -> tuple[float, float | None]:
    """Least quality and most cost that was asked for."""
    limits = question.limits
    floor = limits.min_quality if limits.min_quality is not None else learnt.quality_today - limits.max_quality_drop
    return floor, limits.max_cost


def one_hot(cube: ScoreCube, actions: Ints) -> Floats:
    """Shares of each action by place, all of a place to one action; what no rule reaches is kept."""
    padded = np.concatenate([actions, np.full(cube.scores.shape[1] - len(actions), cube.keep)])
    shares = np.zeros(cube.scores.shape[1:3])
    shares[np.arange(len(padded)), padded] = 1.0
    return shares


def _swept(question: Question, learnt: Learned) -> list[tuple[int, ...]]:
    """The convex frontier of cost and quality on the learning half, from cheapest to best, plus the goal's own sweep."""
    found: dict[tuple[int, ...], None] = {}
    goals: tuple[Goal, ...] = ("cost", "speed") if not question.has_cost and question.has_latency else ("cost", question.goal)
    for goal in goals:
        gain = search.utility(learnt, goal, question.weights)
        for each in search.sweep(learnt, gain, by_cost=goal == "quality", slow=False):
            found.setdefault(each.actions(learnt))
    keep = (question.cube.keep,) * len(question.cube.segments)
    return [actions for actions in found if actions != keep]


def _proposal(cube: ScoreCube, rules: RoutingRules) -> _Policy | None:
    if not rules.rule_set.rules:
        return None
    actions = rules_.actions_of(cube, rules.rule_set.rules)
    return None if actions is None else _Policy("proposed", "Proposed rules", one_hot(cube, actions))


def _single(cube: ScoreCube, arm: int) -> _Policy:
    """One model for all that it can be judged on; unidentifiable when that is less than SINGLE_COVERED of the traffic.

    Nothing was searched here, so support on both halves counts.
    """
    judged = cube.all.supported[:, arm] & cube.all.has_cost[:, arm]
    traffic = cube.requests[:, : len(cube.segments)].sum(axis=0)
    covered = float(traffic[judged].sum() / max(float(traffic.sum()), 1e-300))
    why_not = None
    if covered < SINGLE_COVERED:
        names = sorted({segment.task_type for place, segment in enumerate(cube.segments) if not judged[place]})
        more = f" and {len(names) - 3} more" if len(names) > 3 else ""
        why_not = f"too rarely tried on {', '.join(names[:3])}{more}; it can be judged on {covered:.0%} of requests"
    label = f"{cube.models[arm]} for everything" if covered > 0.9999 else f"{cube.models[arm]} wherever it can be judged ({covered:.0%})"
    actions = np.where(judged, arm, cube.keep)
    return _Policy("single_model", label, one_hot(cube, actions), cube.models[arm], why_not)


def _best_single(question: Question, learnt: Learned, singles: list[_Policy]) -> _Policy | None:
    """By the goal among those whose predicted quality meets the floor; the best quality where none does."""
    judged = [single for single in singles if single.why_not is None]
    if not judged:
        return None
    gain = search.utility(learnt, question.goal, question.weights)
    limits = question.limits
    floor = limits.min_quality if limits.min_quality is not None else learnt.quality_today - limits.max_quality_drop

    def predicted(policy: _Policy) -> tuple[float, float]:
        shares = policy.shares[: len(question.cube.segments)]
        sums = np.einsum("pao,pa->o", learnt.sums[: learnt.segments], shares) + learnt.rest
        return float(sums[QUALITY] / max(float(sums[SUCCESS]), 1e-300)), float((gain[: learnt.segments] * shares).sum())

    good = [single for single in judged if predicted(single)[0] >= floor]
    if good:
        return max(good, key=lambda single: predicted(single)[1])
    return max(judged, key=lambda single: predicted(single)[0])


def _random_mix(cube: ScoreCube, singles: list[_Policy]) -> _Policy | None:
    """Of all random mixes of two judged models that cost no more than today, the one of best quality, on the learning half."""
    judged = [single for single in singles if single.why_not is None]
    if not judged:
        return None
    budget = float(cube.scores[LEARN, :, cube.keep, COST].sum())
    sums = {id(each): np.einsum("jpao,pa->o", cube.scores[LEARN], each.shares) for each in judged}
    best: tuple[float, _Policy] | None = None
    for one in judged:
        for other in judged:
            low, high = sums[id(one)], sums[id(other)]
            if low[COST] > budget:
                continue
            part = 1.0 if high[COST] <= budget else float((budget - low[COST]) / (high[COST] - low[COST]))
            mixed = (1 - part) * low + part * high
            quality = float(mixed[QUALITY] / max(float(mixed[SUCCESS]), 1e-300))
            if best is None or quality > best[0] + 1e-12:
                label = f"{part:.0%} {other.model}, the rest {one.model}, at random"
                best = (quality, _Policy("random_mix", label, (1 - part) * one.shares + part * other.shares))
    return None if best is None else best[1]


def _undominated(outcomes: list[Evaluated], judged: list[bool]) -> list[bool]:
    cost = np.array([outcome.cost.value for outcome in outcomes])
    quality = np.array([outcome.quality.value for outcome in outcomes])
    valid = np.array(judged) & np.isfinite(cost) & np.isfinite(quality)
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


def _point(question: Question, policy: _Policy, outcome: Evaluated, told: Told, undominated: bool) -> FrontierPoint:
    mix = mix_of(question.cube, policy.shares)
    unknown = None if policy.why_not is None else Unidentifiable(unidentifiable=policy.why_not)
    outcomes = told.outcomes(outcome)
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
    most = ", ".join(f"{part.model} {part.share:.0%}" for part in point.mix[:2])
    return point.model_copy(update={"label": f"Policy {rank}: {most}"})


def _notices(question: Question, shown: list[int]) -> tuple[str, ...]:
    found = ["Points are estimates on the half of the sessions that the search never saw; intervals hold for all of them at once."]
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
        said += f" The proposed rules stand at {proposed.cost_usd.estimate / max(today.cost_usd.estimate, 1e-300):.0%} of today's cost."
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
