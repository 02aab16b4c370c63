"""The question that rules answer: goal, limits as numbers, and the evidence that is asked.

Belongs here: turning the user's thresholds, budget and capacities into limits of the search, and what makes two questions the same one.
Does not belong here: answering it (`routing_rules`, `model_mix`, `tradeoff_frontier`), limits in words (`applied_limits`).
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any

from routing_pipeline.catalog import Catalog
from routing_pipeline.parameters import Goal, Weights
from routing_pipeline.policy import evidence as evidence_, search
from routing_pipeline.policy.audit import NAME as KNOWN_ALONE, known_scores
from routing_pipeline.policy.evidence_model import RoutingEvidence
from routing_pipeline.policy.grade import hidden_bias
from routing_pipeline.policy.halves import Halves, both_of
from routing_pipeline.policy.incident_free import calm_scores
from routing_pipeline.policy.proof import Evaluated
from routing_pipeline.policy.scores import CALLS, COST, ScoreCube
from routing_pipeline.policy.search import Cap, Limits
from routing_pipeline.recommendation.applied_limits import AppliedLimit, applied_limits, budget_left
from routing_pipeline.rules.model import Outcomes, RuleWindow, cannot_tell
from routing_pipeline.window.scope import AnalysisScope

BY_ALL = "by all traffic"
WITHOUT_UNUSUAL = "without the window's unusual hours"


@dataclass(frozen=True)
class Question:
    """What was asked of the rules: goal, limits, and the evidence that answers."""

    goal: Goal
    limits: Limits
    weights: Weights
    halves: Halves
    evidence: RoutingEvidence
    scope: AnalysisScope
    has_cost: bool
    has_latency: bool
    test_number: int = 1
    further: tuple[Halves, ...] = ()
    """What all limits must hold on besides, with the same segments."""

    @property
    def cube(self) -> ScoreCube:
        """Scores of the first direction; counts, support and what is known are those of the whole window."""
        return self.halves.first

    @property
    def proofs(self) -> tuple[Halves, ...]:
        """All that limits must hold on, the window first."""
        return (self.halves, *self.further)

    @property
    def requests_per_day(self) -> float:
        """Of the window, over the time that the logs cover."""
        return self.evidence.traffic / max(self.scope.covered_days, 1e-9)

    @property
    def priced_share(self) -> float:
        """Share of the window's requests that costs per request are of."""
        return float(self.cube.counted[..., COST].sum() / max(float(self.cube.counted[..., CALLS].sum()), 1e-300))

    @property
    def baseline(self) -> Outcomes:
        """Today, as the evidence tells it."""
        today = self.evidence.today
        return cannot_tell("the evidence holds no means of today") if today is None else today.outcomes

    @property
    def slow_above_ms(self) -> float | None:
        """From where a request counts as slow; None where latency is not logged."""
        return self.cube.cells.binning.slow_above_ms if self.has_latency else None


def is_refuted(evidence: RoutingEvidence) -> bool:
    """Whether an audit has found that something hidden steers the router, so that the requests decide that it cannot touch."""
    return evidence.audit is not None and evidence.audit.verdict == "differ"


def limits_of(evidence: RoutingEvidence, scope: AnalysisScope, goal: Goal, cube: ScoreCube, *, has_latency: bool) -> Limits:
    """The user's constraints as numbers: thresholds, budget as a mean cost, capacities and what a tier may get as shares of traffic."""
    asked = scope.parameters
    ceilings = [] if asked.cost_threshold is None else [asked.cost_threshold]
    if asked.budget is not None and evidence.requests:
        ceilings.append(budget_left(asked.budget, scope) / evidence.traffic)
    busiest = cube.cells.binning.busiest_hour_requests / evidence.sampled
    caps: list[float | None] = []
    for model in cube.models:
        capacity = asked.capacities.get(model)
        shares = [] if capacity is None or capacity.max_share is None else [capacity.max_share]
        if capacity is not None and capacity.requests_per_minute is not None and busiest > 0:
            shares.append(min(capacity.requests_per_minute * 60 / busiest, 1.0))
        caps.append(min(shares, default=None))
    catalog = Catalog(asked.models)
    tiers = [catalog.model(model).tier for model in cube.models]
    max_cost = min(ceilings, default=None)
    return Limits(
        min_quality=asked.quality_threshold,
        max_quality_drop=asked.max_quality_drop,
        max_cost=max_cost,
        keeps_cost=goal == "quality" and max_cost is None,
        max_slow=search.MAX_SLOW_SHARE if has_latency else None,
        caps=tuple(caps),
        tier_caps=tuple(
            Cap(tuple(place for place, of in enumerate(tiers) if of == tier), most, tier)
            for tier, most in sorted(asked.max_share_by_tier.items())
        ),
        # What is hidden does not touch the requests that decide where an audit has found it.
        hidden_bias=0.0 if is_refuted(evidence) else hidden_bias(evidence.grade, evidence.steering),
        # Latency is a guard beside the other goals, held on what is timed.
        needs=("cost", "quality", "latency") if goal == "speed" else ("cost", "quality"),
        max_task_drop=asked.task_tolerance,
        prove_per_task=asked.prove_per_task,
    )


def asked_of_the_proof(scope: AnalysisScope) -> dict[str, Any]:
    """What makes a question another test on the held-out half: goal, limits, and what grades the evidence."""
    names = ("goal", "cost_threshold", "quality_threshold", "max_quality_drop", "budget", "capacities", "weights", "router_inputs")
    further = ("max_quality_drop_per_task", "prove_per_task", "single", "max_share_by_tier")
    asked = {name: value for name, value in scope.parameters.model_dump(mode="json").items() if name in names}
    policy = scope.parameters.policy.model_dump(mode="json", exclude_defaults=True)
    listed = scope.parameters.capabilities
    # What was not asked for is no part of the question, so that its number stays what it was.
    asked |= {name: getattr(scope.parameters, name) for name in further if getattr(scope.parameters, name)}
    return asked | ({"policy": policy} if policy else {}) | ({} if listed is None else {"capabilities": listed.md5})


def question_of(evidence: RoutingEvidence, scope: AnalysisScope, goal: Goal | None, test_number: int = 1) -> Question:
    """Goal, limits and evidence of one optimisation.

    Raises:
        ValueError: the evidence carries no cells, so there is nothing to answer from.
    """
    if evidence.cells_uri is None:
        raise ValueError("the evidence has no cells")
    cube = evidence_.read_scores(evidence.cells_uri)
    has_cost, has_latency = (evidence_.untold(cube, outcome) is None for outcome in ("cost", "latency"))
    goal = goal or scope.parameters.goal
    limits = limits_of(evidence, scope, goal, cube, has_latency=has_latency)
    further = tuple(both_of(calm, WITHOUT_UNUSUAL) for calm in calm_scores(evidence.cells_uri, cube))
    halves = both_of(cube)
    if is_refuted(evidence):
        # What is hidden flatters what all traffic tells, for better or worse: whatever is told is told by the requests that it cannot touch.
        halves, further = both_of(known_scores(cube), KNOWN_ALONE), (replace(halves, name=BY_ALL), *further)
    return Question(goal, limits, scope.parameters.weights, halves, evidence, scope, has_cost, has_latency, test_number, further)


def goal_weights(question: Question) -> dict[str, float]:
    """What counts for how much, in relative change."""
    weights = question.weights
    if question.goal == "balanced":
        return {"cost": weights.cost, "quality": weights.quality, "speed": weights.speed if question.has_latency else 0.0}
    return {question.goal: 1.0}


def limits_held(question: Question, today: Evaluated) -> tuple[AppliedLimit, ...]:
    """Every limit of a question in words and numbers."""
    return applied_limits(
        question.limits,
        question.scope.parameters,
        question.cube.models,
        quality=today.quality.value,
        cost_usd=today.cost.value if question.has_cost else None,
        slow_above_ms=question.slow_above_ms,
        scope=question.scope,
    )


def rule_window(scope: AnalysisScope) -> RuleWindow:
    """The window as a rule set names it."""
    return RuleWindow(start=f"{scope.start:%Y-%m-%dT%H:%M:%SZ}", end=f"{scope.end:%Y-%m-%dT%H:%M:%SZ}", snapshot_id=scope.snapshot_id)
