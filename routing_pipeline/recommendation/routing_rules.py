"""`optimize_routing_rules`: the rule set that survives its proof, or why there is none.

Belongs here: the result that the report, the rule set artefact and the other recommendations read, and putting the
search (`policy.search`) and the proof (`policy.proof`) together. Does not belong here: the statistics themselves.
"""

from __future__ import annotations

import hashlib
import math
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from pydantic import Field

from routing_pipeline.catalog import Catalog
from routing_pipeline.estimates import Estimate, Measured, Result, Unidentifiable, quantity
from routing_pipeline.parameters import Goal, Weights
from routing_pipeline.policy import evidence as evidence_, proof, rules as rules_, search
from routing_pipeline.policy.cells import Ints
from routing_pipeline.policy.evidence_model import RoutingEvidence
from routing_pipeline.policy.intervals import Statistic, interval, simultaneous
from routing_pipeline.policy.proof import Evaluated, Verdict
from routing_pipeline.policy.rule_set import (
    Change,
    Constraints,
    Expected,
    Grade,
    Level,
    Outcomes,
    RelativeChange,
    Rule,
    RuleEvidence,
    RuleSet,
    RuleWindow,
    WeightedModel,
    cannot_tell,
)
from routing_pipeline.policy.scores import COST, QUALITY, SUCCESS, ScoreCube
from routing_pipeline.policy.search import Found, Learned, Limits, Policy
from routing_pipeline.policy.stability import rule_agreement
from routing_pipeline.recommendation.rule_impact import RuleImpact
from routing_pipeline.scope import AnalysisScope

DAYS_PER_MONTH = 30
MIN_SCORED = 300
"""Scored answers in the window below which no rule is proposed: with fewer, those that pass their proof do so by luck."""
WALK_SHOWN = 40
RISKY_DROP = 0.03
HIDDEN_BIAS: dict[Grade, float] = {"A": 0.0, "B": 0.0, "C": 0.01}
"""By how much unlogged difficulty may flatter moved requests, on average, without undoing the quality limit, by grade of the evidence.

Where the logs lack what routers go by, such flattery is to be expected and not merely possible.
"""


class Candidate(Result):
    """One policy that was considered, safest first."""

    label: str
    rules: int
    moved_share: float = quantity("Share of requests that it routes differently", "0..1")
    outcomes: Outcomes = Field(description="On the half that the search never saw")
    cost_change: Measured = quantity("Relative to today", "1")
    quality_change: Measured = quantity("Difference from today", "0..1")
    passed: bool
    failed_constraint: str | None = Field(default=None, description="First constraint that its safe end broke")


class Conflict(Result):
    """Constraints that cannot all hold, and the nearest that can."""

    constraints: str
    nearest_feasible: str


class UnprovenHypothesis(Result):
    """What looked best but could not be proven, and how much data would decide it."""

    description: str
    cost_change: Measured
    requests_needed: int | None


class RuleStability(Result):
    """Whether other data of the same kind would have given the same rules."""

    resampled: Estimate = quantity("Share of requests sent alike when the search sees resampled sessions: mean, and where 95 % lie", "0..1")
    one_percent: float = quantity("The same with about 1 % of the sessions left out, at worst", "0..1")


class RoutingRules(Result):
    """The answer to `optimize_routing_rules`."""

    rule_set: RuleSet
    reasons: tuple[str, ...] = Field(description="Why these rules, or why none")
    walk: tuple[Candidate, ...] = Field(description="The proof: candidates from safest to boldest, up to the first failure")
    conflicts: tuple[Conflict, ...] = ()
    hypothesis: UnprovenHypothesis | None = None
    moved_share: float = quantity("Share of requests routed differently by the rule set", "0..1")
    moved_spend_share: float = quantity("Share of today's spend that those requests make up", "0..1")
    saving_usd_per_day: Measured = quantity("Over the window's traffic; positive is a saving", "USD/day")
    look: int = quantity("Which question to the same held-out sessions this was", "questions", default=1)
    stability: RuleStability | None = Field(default=None, description="Null where there are no rules")
    impacts: tuple[RuleImpact, ...] = Field(
        default=(), description="What each rule does by itself; empty for rules that were not searched for"
    )
    tipping_point: Measured = quantity("Average hidden overstatement of quality on moved traffic that would undo the claim", "0..1")


@dataclass(frozen=True)
class Question:
    """What was asked of the rules: goal, limits, and the evidence that answers."""

    goal: Goal
    limits: Limits
    weights: Weights
    cube: ScoreCube
    evidence: RoutingEvidence
    scope: AnalysisScope
    has_cost: bool
    has_latency: bool
    look: int = 1

    @property
    def requests_per_day(self) -> float:
        """Of the window."""
        return self.evidence.traffic / max(self.scope.days, 1e-9)


@dataclass(frozen=True)
class Told:
    """Outcomes with intervals that hold for the whole walk at once; levels and changes (`cost`, `cost change`) each by themselves."""

    question: Question
    critical: dict[str, float]

    def outcomes(self, outcome: Evaluated) -> Outcomes:
        """Per request."""
        return Outcomes(
            cost_usd=self._cost(outcome.cost),
            quality=interval(outcome.quality, self.critical["quality"], bounds=(0.0, 1.0), n=self.question.evidence.labelled),
            latency_ms=self._latency(outcome.latency),
        )

    def change(self, outcome: Evaluated, today: Evaluated) -> Change:
        """Relative to today; exactly 0 where nothing changes."""
        return Change(
            cost_usd=RelativeChange(relative=self.cost_change(outcome, today)),
            quality=RelativeChange(relative=interval(outcome.quality.relative_to(today.quality), self.critical["quality change"])),
            latency_ms=RelativeChange(relative=self._latency(outcome.latency.relative_to(today.latency), " change")),
        )

    def quality_change(self, outcome: Evaluated, today: Evaluated) -> Measured:
        """Difference from today, in points of quality."""
        return interval(outcome.quality.minus(today.quality), self.critical["quality change"])

    def cost_change(self, outcome: Evaluated, today: Evaluated) -> Measured:
        """Relative to today."""
        return self._cost(outcome.cost.relative_to(today.cost), " change")

    def _cost(self, statistic: Statistic, kind: str = "") -> Measured:
        if not self.question.has_cost:
            return Unidentifiable(unidentifiable="too many requests have no known cost; log cost, or name the models' prices")
        return interval(statistic, self.critical[f"cost{kind}"])

    def _latency(self, statistic: Statistic, kind: str = "") -> Measured:
        if not self.question.has_latency:
            return Unidentifiable(unidentifiable="latency is not logged")
        return interval(statistic, self.critical[f"latency{kind}"])


def told_together(question: Question, family: list[Evaluated], today: Evaluated) -> Told:
    """Critical values under which the levels of every policy in the family hold together, and so the changes, by outcome."""
    critical = {}
    for name in ("cost", "quality", "latency"):
        now: Statistic = getattr(today, name)
        then: list[Statistic] = [getattr(outcome, name) for outcome in family]
        critical[name] = simultaneous([now, *then])
        critical[f"{name} change"] = simultaneous([change for each in then for change in (each.relative_to(now), each.minus(now))])
    return Told(question, critical)


def limits_of(evidence: RoutingEvidence, scope: AnalysisScope, goal: Goal, cube: ScoreCube, *, has_latency: bool) -> Limits:
    """The user's constraints as numbers: thresholds, budget as a mean cost, capacities as shares of traffic."""
    asked = scope.parameters
    ceilings = [] if asked.cost_threshold is None else [asked.cost_threshold]
    if asked.budget is not None and evidence.requests:
        ceilings.append(asked.budget / (evidence.traffic / max(scope.days, 1e-9) * DAYS_PER_MONTH))
    busiest = cube.cells.binning.busiest_hour_requests / evidence.sampled
    caps: list[float | None] = []
    for model in cube.models:
        capacity = asked.capacities.get(model)
        shares = [] if capacity is None or capacity.max_share is None else [capacity.max_share]
        if capacity is not None and capacity.requests_per_minute is not None and busiest > 0:
            shares.append(min(capacity.requests_per_minute * 60 / busiest, 1.0))
        caps.append(min(shares, default=None))
    max_cost = min(ceilings, default=None)
    return Limits(
        min_quality=asked.quality_threshold,
        max_quality_drop=asked.max_quality_drop,
        max_cost=max_cost,
        keeps_cost=goal == "quality" and max_cost is None,
        max_slow=search.MAX_SLOW_SHARE if has_latency else None,
        caps=tuple(caps),
        hidden_bias=HIDDEN_BIAS[evidence.grade],
    )


def asked_of_the_proof(scope: AnalysisScope) -> dict[str, Any]:
    """What makes a question another look at the held-out half: goal, limits, and what grades the evidence."""
    names = ("goal", "cost_threshold", "quality_threshold", "max_quality_drop", "budget", "capacities", "weights", "router_inputs")
    return {name: value for name, value in scope.parameters.model_dump(mode="json").items() if name in names}


def question_of(evidence: RoutingEvidence, scope: AnalysisScope, goal: Goal | None, look: int = 1) -> Question:
    """Goal, limits and evidence of one optimisation.

    Raises:
        ValueError: the evidence carries no cells, so there is nothing to answer from.
    """
    if evidence.cells_uri is None:
        raise ValueError("the evidence has no cells")
    cube = evidence_.read_scores(evidence.cells_uri)
    sums = cube.cells.sums
    n = max(float(sums["n"].sum()), 1.0)
    has_cost = float(sums["n_cost"].sum()) >= evidence_.PRICED_SHARE * n
    has_latency = float(sums["n_latency"].sum()) >= evidence_.PRICED_SHARE * n
    goal = goal or scope.parameters.goal
    limits = limits_of(evidence, scope, goal, cube, has_latency=has_latency)
    return Question(goal, limits, scope.parameters.weights, cube, evidence, scope, has_cost, has_latency, look)


def optimize_routing_rules(
    evidence: RoutingEvidence, scope: AnalysisScope, catalog: Catalog, *, goal: Goal | None = None, look: int = 1
) -> RoutingRules:
    """Learn rules on one half of the sessions, prove them on the other, and keep the boldest that passes.

    Args:
        evidence: of the window; its cells are read, no request row is.
        scope: thresholds, capacities, budget and weights are its parameters.
        catalog: unused by the proof; prices enter through the logged costs.
        goal: what to improve; default the scope's.
        look: which question this is to the same held-out half (`results.ResultStore.look`); later ones are held to a stricter level.

    Returns:
        `rule_set` with status `proposed`, or `no_change` with reasons. All estimates are of the proving half, with
        intervals that hold for every candidate walked at once.
    """
    del catalog
    if evidence.refusal is not None or evidence.cells_uri is None:
        why = evidence.refusal or "no evidence was gathered"
        return _refused(evidence, scope, goal or scope.parameters.goal, why)
    question = question_of(evidence, scope, goal, look)
    missing = _missing(question)
    if missing is not None:
        return _unchanged(question, [missing], [], [], None)
    learnt = search.learned(question.cube, question.limits)
    path = search.candidates(question.cube, learnt, question.limits, question.goal, question.weights)
    conflicts = conflicts_of(question, learnt)
    verdicts = proof.walk(question.cube, path, question.limits, proof.level_of(look))
    best = last_improving(question, verdicts)
    if best is None:
        return _unchanged(
            question, _why_none(question, path, verdicts, conflicts), verdicts, conflicts, _hypothesis(question, path, verdicts)
        )
    return _proposed(question, learnt, verdicts, best, conflicts)


def _missing(question: Question) -> str | None:
    """What the goal needs and the logs lack."""
    if question.goal == "speed" and not question.has_latency:
        return "latency is not logged for enough requests, so nothing can be said about speed"
    if question.goal != "speed" and not question.has_cost:
        return "cost is not known for enough requests; log it, or name the models' prices in the configuration"
    if question.evidence.labelled < MIN_SCORED:
        return f"{question.evidence.labelled:,} scored answers are too few to prove a rule; at least {MIN_SCORED} are needed"
    return None


def goal_weights(question: Question) -> dict[str, float]:
    """What counts for how much, in relative change."""
    weights = question.weights
    if question.goal == "balanced":
        return {"cost": weights.cost, "quality": weights.quality, "speed": weights.speed if question.has_latency else 0.0}
    return {question.goal: 1.0}


def last_improving(question: Question, verdicts: list[Verdict]) -> Verdict | None:
    """The boldest candidate that passed and whose goal is better than today at the safe end."""
    today = proof.proven(question.cube, proof.kept(question.cube))
    parts = goal_weights(question)
    for verdict in reversed(verdicts):
        if verdict.passed and proof.improvement(verdict.outcome, today, parts).low(proof.level_of(question.look)) > 0:
            return verdict
    return None


# --- telling


def _window(scope: AnalysisScope) -> RuleWindow:
    return RuleWindow(start=f"{scope.start:%Y-%m-%dT%H:%M:%SZ}", end=f"{scope.end:%Y-%m-%dT%H:%M:%SZ}", snapshot_id=scope.snapshot_id)


def _id(scope: AnalysisScope, goal: Goal, rules: tuple[Rule, ...]) -> str:
    said = [rule.model_dump_json(include={"when", "route", "fallbacks"}) for rule in rules]
    text = "\n".join([scope.key, scope.parameters.model_dump_json(), goal, *said])
    return f"{scope.end:%Y-%m-%dT%H:%M:%SZ}-{hashlib.md5(text.encode(), usedforsecurity=False).hexdigest()[:4]}"


def _constraints(scope: AnalysisScope) -> Constraints:
    asked = scope.parameters
    return Constraints(
        max_cost_usd=asked.cost_threshold,
        min_quality=asked.quality_threshold,
        max_quality_drop=asked.max_quality_drop if asked.quality_threshold is None else None,
    )


NO_CHANGE = RelativeChange(relative=Estimate(estimate=0.0, low=0.0, high=0.0))
NOTHING_CHANGES = Change(cost_usd=NO_CHANGE, quality=NO_CHANGE, latency_ms=NO_CHANGE)
ASSUMPTIONS: tuple[str, ...] = (
    "Traffic stays as it was in the window: same kinds of request, same models behind the same names.",
    "Models do not slow down or fail more when they get more traffic.",
    "Requests answered from the cache stay answered from the cache.",
)


def _assumptions(question: Question) -> tuple[str, ...]:
    found = list(ASSUMPTIONS)
    if question.evidence.grade != "A":
        found.insert(0, "What decided today's routing is in the logs: nothing unlogged made the router send harder requests elsewhere.")
    found.append("Which answers were scored depends on task, complexity, length, model and success, and not on the score itself.")
    if any(each.requests_per_minute is not None for each in question.scope.parameters.capacities.values()):
        found.append("The mix of requests in the busiest hour is that of the whole window.")
    return tuple(found)


def _refused(evidence: RoutingEvidence, scope: AnalysisScope, goal: Goal, why: str) -> RoutingRules:
    unknown = cannot_tell(why)
    rule_set = RuleSet(
        rule_set_id=_id(scope, goal, ()),
        status="no_change",
        goal=goal,
        constraints=_constraints(scope),
        window=_window(scope),
        rules=(),
        expected=Expected(baseline=unknown, proposed=unknown, change=NOTHING_CHANGES),
        assumptions=(),
        warnings=evidence.warnings,
    )
    return RoutingRules(
        rule_set=rule_set,
        reasons=(f"No change is recommended: {why}.",),
        walk=(),
        moved_share=0.0,
        moved_spend_share=0.0,
        saving_usd_per_day=Estimate(estimate=0.0, low=0.0, high=0.0),
        tipping_point=Unidentifiable(unidentifiable="nothing is moved"),
    )


def _unchanged(
    question: Question,
    reasons: list[str],
    verdicts: list[Verdict],
    conflicts: list[Conflict],
    hypothesis: UnprovenHypothesis | None,
) -> RoutingRules:
    today = proof.proven(question.cube, proof.kept(question.cube))
    told = told_together(question, [each.outcome for each in verdicts], today)
    baseline = told.outcomes(today)
    rule_set = RuleSet(
        rule_set_id=_id(question.scope, question.goal, ()),
        status="no_change",
        goal=question.goal,
        constraints=_constraints(question.scope),
        window=_window(question.scope),
        rules=(),
        expected=Expected(baseline=baseline, proposed=baseline, change=NOTHING_CHANGES),
        assumptions=_assumptions(question),
        warnings=(*question.evidence.warnings, *_unproven_warning(question, verdicts, told, today), *_look_warning(question)),
    )
    return RoutingRules(
        rule_set=rule_set,
        reasons=tuple(reasons),
        walk=_walked(question, verdicts, told, today),
        conflicts=tuple(conflicts),
        hypothesis=hypothesis,
        moved_share=0.0,
        moved_spend_share=0.0,
        saving_usd_per_day=Estimate(estimate=0.0, low=0.0, high=0.0),
        tipping_point=Unidentifiable(unidentifiable="nothing is moved"),
        look=question.look,
    )


def _walked(question: Question, verdicts: list[Verdict], told: Told, today: Evaluated) -> tuple[Candidate, ...]:
    shown = verdicts if len(verdicts) <= WALK_SHOWN else [*verdicts[: WALK_SHOWN // 2], *verdicts[-WALK_SHOWN // 2 :]]
    found = []
    for verdict in shown:
        blocks = rules_.blocks_of(question.cube, verdict.policy.array)
        moved, _ = moved_shares(question.cube, verdict.policy.array)
        found.append(
            Candidate(
                label=f"{_rules(len(blocks))}, {100 * moved:.0f} % of requests moved",
                rules=len(blocks),
                moved_share=moved,
                outcomes=told.outcomes(verdict.outcome),
                cost_change=told.cost_change(verdict.outcome, today),
                quality_change=told.quality_change(verdict.outcome, today),
                passed=verdict.passed,
                failed_constraint=verdict.failed,
            )
        )
    return tuple(found)


def _rules(count: int) -> str:
    return "1 rule" if count == 1 else f"{count} rules"


def moved_shares(cube: ScoreCube, actions: Ints) -> tuple[float, float]:
    """Share of requests that change model, and the share of today's spend that they make up."""
    cells = cube.cells
    by_place = np.concatenate([actions, np.full(cube.scores.shape[1] - len(actions), cube.keep)])
    target = by_place[cube.place_of_cell]
    moves = (target != cube.keep) & (target != cells.arm)
    spend = cells.sums["cost"]
    return search.moved_share(cube, actions), float(spend[moves].sum() / max(spend.sum(), 1e-300))


def _proposed(question: Question, learnt: Learned, verdicts: list[Verdict], best: Verdict, conflicts: list[Conflict]) -> RoutingRules:
    today = proof.proven(question.cube, proof.kept(question.cube))
    told = told_together(question, [each.outcome for each in verdicts], today)
    moved, spend = moved_shares(question.cube, best.policy.array)
    rules, impacts = write_rules(question, best.policy.array)
    tipping = tipping_point(question, best.outcome, today, moved, told)
    rule_set = RuleSet(
        rule_set_id=_id(question.scope, question.goal, rules),
        status="proposed",
        goal=question.goal,
        constraints=_constraints(question.scope),
        window=_window(question.scope),
        rules=rules,
        expected=Expected(baseline=told.outcomes(today), proposed=told.outcomes(best.outcome), change=told.change(best.outcome, today)),
        assumptions=_assumptions(question),
        warnings=_warnings(question, moved, tipping),
    )
    per_day = best.outcome.cost.minus(today.cost).scaled(-question.requests_per_day)
    return RoutingRules(
        rule_set=rule_set,
        reasons=_why(question, best, verdicts, told, today),
        walk=_walked(question, verdicts, told, today),
        conflicts=tuple(conflicts),
        hypothesis=None,
        moved_share=moved,
        moved_spend_share=spend,
        saving_usd_per_day=told.cost_change(best.outcome, today)
        if not question.has_cost
        else interval(per_day, told.critical["cost change"]),
        tipping_point=tipping,
        look=question.look,
        stability=_stability(question, learnt, best),
        impacts=impacts,
    )


def _stability(question: Question, learnt: Learned, best: Verdict) -> RuleStability:
    resampled, left_out = rule_agreement(learnt, best.policy.actions, question.limits, question.goal, question.weights)
    low, high = np.quantile(resampled, [0.025, 0.975])
    mean = float(resampled.mean())
    return RuleStability(
        resampled=Estimate(estimate=mean, low=min(float(low), mean), high=max(float(high), mean)), one_percent=float(left_out.min())
    )


def tipping_point(question: Question, outcome: Evaluated, today: Evaluated, moved: float, told: Told) -> Measured:
    """How much hidden overstatement of quality on moved requests, on average, would break the quality limit.

    (quality - floor) / share of requests moved, with the interval of the numerator.
    """
    if moved <= 0:
        return Unidentifiable(unidentifiable="nothing is moved")
    _, margin = proof.margins(outcome, today, replace(question.limits, hidden_bias=0.0))[0]
    kind = "quality change" if question.limits.min_quality is None else "quality"
    return interval(margin.scaled(1.0 / moved), told.critical[kind])


def _warnings(question: Question, moved: float, tipping: Measured) -> tuple[str, ...]:
    found = list(question.evidence.warnings)
    if question.evidence.grade != "A" and isinstance(tipping, Estimate):
        found.append(_hidden_warning(question, moved, tipping))
    if question.limits.hidden_bias:
        found.append(
            f"Because of that grade, the quality limit was held with {question.limits.hidden_bias:g} to spare on every moved request."
        )
    found += _look_warning(question)
    if moved > 0.2:
        found.append(f"{moved:.0%} of requests change model: latency and failures under that load are extrapolated; roll out in steps.")
    if not question.has_latency:
        found.append("Latency is not logged for enough requests; the guard on slow requests was not applied.")
    return tuple(found)


def _unproven_warning(question: Question, verdicts: list[Verdict], told: Told, today: Evaluated) -> list[str]:
    """What a hypothesis would bear, for whoever acts on it without a proof."""
    if question.evidence.grade == "A" or not verdicts:
        return []
    moved, _ = moved_shares(question.cube, verdicts[0].policy.array)
    tipping = tipping_point(question, verdicts[0].outcome, today, moved, told)
    return [_hidden_warning(question, moved, tipping)] if isinstance(tipping, Estimate) else []


def _hidden_warning(question: Question, moved: float, tipping: Estimate) -> str:
    return (
        f"Evidence of grade {question.evidence.grade}: worth an A/B test, not yet a promise. {question.evidence.grade_reason} If something unlogged "
        f"made the answers of the {moved:.0%} moved requests look better by more than {100 * max(tipping.low, 0.0):.2g} points of 100 on average, the quality "
        "limit would not hold."
    )


def _look_warning(question: Question) -> list[str]:
    if question.look == 1:
        return []
    return [
        (
            f"This is question {question.look} to the same held-out sessions; so that all answers together stay honest, it was held to a level of "
            f"{proof.level_of(question.look):.2%} instead of {proof.level_of(1):.2%}. Fresh logs start anew."
        )
    ]


VERB: dict[Grade, str] = {
    "A": "are estimated to",
    "B": "are worth an A/B test; from these logs one would expect them to",
    "C": "are worth an A/B test at most; from these logs one would expect them to",
}


def _why(question: Question, best: Verdict, verdicts: list[Verdict], told: Told, today: Evaluated) -> tuple[str, ...]:
    quality = told.quality_change(best.outcome, today)
    parts = []
    for name, change in (("cost", told.cost_change(best.outcome, today)),):
        if isinstance(change, Estimate):
            parts.append(f"change {name} by {change.estimate:+.1%} (between {change.low:+.1%} and {change.high:+.1%})")
    if isinstance(quality, Estimate):
        parts.append(f"quality by {quality.estimate:+.4f} (between {quality.low:+.4f} and {quality.high:+.4f})")
    passed = sum(each.passed for each in verdicts)
    said = [
        f"The rules {VERB[question.evidence.grade]} {' and '.join(parts)}, measured on sessions that the search never saw.",
        (
            f"{passed} of {len(verdicts)} candidate rule set{'' if len(verdicts) == 1 else 's'} tested, from safest to boldest, met every limit at the safe end of its interval; "
            "this is the boldest of them that improves the goal."
        ),
    ]
    if not verdicts[-1].passed:
        said.append(f"The next bolder candidate failed: {verdicts[-1].failed} could not be shown.")
    return tuple(said)


def _why_none(question: Question, path: list[Policy], verdicts: list[Verdict], conflicts: list[Conflict]) -> list[str]:
    found = [f"No change is recommended: {each.constraints} cannot all hold; {each.nearest_feasible}." for each in conflicts]
    if not path:
        if not search.eligibility(question.cube, question.limits)[:, :-1].any():
            found.append(
                "No change is recommended: no model was tried widely enough, with scored answers, where another one serves today. "
                "Route a small share at random to find out."
            )
        else:
            found.append("No change is recommended: no alternative promised enough within the limits.")
    elif not verdicts[0].passed:
        found.append(f"No change is recommended: even the safest candidate failed its proof; {verdicts[0].failed} could not be shown.")
    else:
        found.append("No change is recommended: candidates met the limits, but none was shown to improve the goal.")
    return found


def _hypothesis(question: Question, path: list[Policy], verdicts: list[Verdict]) -> UnprovenHypothesis | None:
    """The safest candidate, and how many requests like these would decide it: n (t SE / margin)^2 for the limit that failed."""
    if not path:
        return None
    today = proof.proven(question.cube, proof.kept(question.cube))
    verdict = verdicts[0]
    told = told_together(question, [verdict.outcome], today)
    statistic, margin = verdict.shortfall or _shortfall_of_goal(question, verdict.outcome, today)
    needed = None
    if margin > 0 and math.isfinite(statistic.standard_error):
        ratio = (statistic.value - statistic.low()) / margin
        needed = math.ceil(question.evidence.requests * max(ratio**2, 1.0))
    moved, _ = moved_shares(question.cube, verdict.policy.array)
    rules = len(rules_.blocks_of(question.cube, verdict.policy.array))
    return UnprovenHypothesis(
        description=f"{_rules(rules)} that {'moves' if rules == 1 else 'move'} {100 * moved:.0f} % of requests looked best and safest, "
        f"but {verdict.failed or 'an improvement'} could not be shown.",
        cost_change=told.cost_change(verdict.outcome, today),
        requests_needed=needed,
    )


def _shortfall_of_goal(question: Question, outcome: Evaluated, today: Evaluated) -> tuple[Statistic, float]:
    gain = proof.improvement(outcome, today, goal_weights(question))
    return gain, gain.value


# --- conflicts


def conflicts_of(question: Question, learnt: Learned) -> list[Conflict]:
    """Limits that the learning half says cannot all hold, whatever the rules, and the nearest that can.

    The reachable extremes are over actions that the logs can judge; beyond them nothing is known.
    """
    limits, found = question.limits, []
    reach = reachable_quality(question, learnt, None)
    if limits.min_quality is not None and reach < limits.min_quality:
        found.append(
            Conflict(
                constraints=f"quality at least {limits.min_quality:g}",
                nearest_feasible=f"the most that the logs show within reach is about {reach:.3f}, at any cost",
            )
        )
    cheapest = cheapest_at(question, learnt, _floor(question, learnt))
    if (
        limits.max_cost is not None
        and question.has_cost
        and cheapest is not None
        and cheapest > limits.max_cost
        and reach >= _floor(question, learnt)
    ):
        best = reachable_quality(question, learnt, limits.max_cost)
        nearest = f"quality {_floor(question, learnt):.3f} costs about {cheapest:.6f} USD per request"
        if math.isfinite(best):
            nearest += f"; {limits.max_cost:g} USD buy a quality of about {best:.3f}"
        found.append(
            Conflict(
                constraints=f"quality at least {_floor(question, learnt):.3f} and cost at most {limits.max_cost:g} USD per request",
                nearest_feasible=nearest,
            )
        )
    found += _capacity_conflicts(question, learnt)
    return found


def _floor(question: Question, learnt: Learned) -> float:
    limits = question.limits
    return limits.min_quality if limits.min_quality is not None else learnt.quality_today - limits.max_quality_drop


def _priced(question: Question, learnt: Learned, *, goal: Goal) -> list[Found]:
    """The convex frontier of cost and quality as the learning half predicts it, no mark-down, no guard."""
    gain = search.utility(learnt, goal, question.weights)
    bare = replace(learnt, quality_error=np.zeros_like(learnt.quality_error))
    return search.sweep(bare, gain, by_cost=False, slow=False)


def _cost_and_quality(learnt: Learned, found: Found) -> tuple[float, float]:
    sums = learnt.predicted(found)
    return float(sums[COST]) / learnt.requests, float(sums[QUALITY] / max(sums[SUCCESS], 1e-300))


def reachable_quality(question: Question, learnt: Learned, max_cost: float | None) -> float:
    """Highest predicted quality under a ceiling of cost; -inf when no policy is that cheap."""
    points = [_cost_and_quality(learnt, found) for found in _priced(question, learnt, goal="cost")]
    return max((quality for cost, quality in points if max_cost is None or cost <= max_cost), default=-math.inf)


def cheapest_at(question: Question, learnt: Learned, floor: float) -> float | None:
    """Least predicted cost per request at a quality floor; None when no policy reaches it."""
    points = [_cost_and_quality(learnt, found) for found in _priced(question, learnt, goal="cost")]
    return min((cost for cost, quality in points if quality >= floor), default=None)


def _capacity_conflicts(question: Question, learnt: Learned) -> list[Conflict]:
    limits = question.limits
    if not limits.has_caps:
        return []
    gain = search.utility(learnt, question.goal, question.weights)
    if search.programme(learnt, gain, limits, floor=-1.0, kappa=0.0, max_cost=None) is None:
        capped = ", ".join(model for model, cap in zip(question.cube.models, limits.caps, strict=True) if cap is not None)
        return [
            Conflict(
                constraints=f"the capacities of {capped}",
                nearest_feasible="no routing that the logs can judge fits them; raise them, or explore other models",
            )
        ]
    floor = _floor(question, learnt)
    if search.programme(learnt, gain, limits, floor=floor, kappa=0.0, max_cost=None) is not None:
        return []
    low, high = 0.0, floor
    for _ in range(12):
        middle = (low + high) / 2
        fits = search.programme(learnt, gain, limits, floor=middle, kappa=0.0, max_cost=None) is not None
        low, high = (middle, high) if fits else (low, middle)
    return [
        Conflict(
            constraints=f"the capacities and quality at least {floor:.3f}",
            nearest_feasible=f"within the capacities a quality of about {low:.3f} is within reach",
        )
    ]


# --- rules


def write_rules(question: Question, actions: Ints) -> tuple[tuple[Rule, ...], tuple[RuleImpact, ...]]:
    """The policy as rules, most traffic first, with what each does; reading them back gives the same policy."""
    cube = question.cube
    blocks = rules_.blocks_of(cube, actions)
    pairs = []
    for block in blocks:
        places = np.array(block.places)
        pairs.append((proof.proven(cube, actions, places), proof.proven(cube, proof.kept(cube), places)))
    # Rules are told one beside the other, so their intervals hold together too, each rule with its own today.
    critical = {}
    for name in ("cost", "quality", "latency"):
        both = [(getattr(then, name), getattr(now, name)) for then, now in pairs]
        critical[name] = simultaneous([each for pair in both for each in pair])
        critical[f"{name} change"] = simultaneous([change for then, now in both for change in (then.minus(now), then.relative_to(now))])
    told = Told(question, critical)
    found = list(enumerate(zip(blocks, pairs, strict=True), start=1))
    return (
        tuple(_rule(question, place, block, then, now, told) for place, (block, (then, now)) in found),
        tuple(_impact(question, place, block, then, now, told) for place, (block, (then, now)) in found),
    )


def _impact(question: Question, priority: int, block: rules_.Block, then: Evaluated, now: Evaluated, told: Told) -> RuleImpact:
    cube, places = question.cube, list(block.places)
    by_model = cube.all.requests[places].sum(axis=0)
    requests = rules_.requests_of(cube, places)
    total = max(float(by_model.sum()), 1e-300)
    change = told.change(then, now)
    per_day = now.cost.minus(then.cost).scaled(requests / max(question.scope.days, 1e-9))
    return RuleImpact(
        rule_id=f"r{priority}",
        requests=round(requests),
        share=min(requests / max(question.evidence.requests, 1), 1.0),
        moved_share=min(max(1.0 - float(by_model[block.arm]) / max(requests, 1.0), 0.0), 1.0),
        today=tuple(
            WeightedModel(model=cube.models[arm], weight=min(float(by_model[arm]) / total, 1.0))
            for arm in np.argsort(-by_model, kind="stable").tolist()
            if by_model[arm] > 0
        ),
        baseline=told.outcomes(now),
        saving_usd_per_day=interval(per_day, told.critical["cost change"]) if question.has_cost else told.cost_change(then, now),
        cost_change=change.cost_usd.relative,
        quality_change=told.quality_change(then, now),
        latency_change=change.latency_ms.relative,
    )


def _rule(question: Question, priority: int, block: rules_.Block, then: Evaluated, now: Evaluated, told: Told) -> Rule:
    cube, places = question.cube, list(block.places)
    share = rules_.requests_of(cube, places) / max(question.evidence.requests, 1)
    model = cube.models[block.arm]
    sent = float(cube.all.requests[places, block.arm].sum())
    already = sent / max(rules_.requests_of(cube, places), 1.0)
    quality = told.quality_change(then, now)
    return Rule(
        id=f"r{priority}",
        priority=priority,
        when=block.condition,
        route=(WeightedModel(model=model, weight=1.0),),
        fallbacks=rules_.fallbacks(cube, block),
        rationale=_rationale(question, block, share, already, told, then, now),
        evidence=RuleEvidence(
            requests=round(rules_.requests_of(cube, places)),
            labelled=round(float(cube.all.labelled[places].sum())),
            effective_sample_size=float(cube.all.effective[places, block.arm].sum()),
            min_propensity=float(cube.all.min_propensity[places, block.arm].min()),
            grade=question.evidence.grade,
        ),
        expected=told.outcomes(then),
        effort="Low" if already >= 0.05 else "Medium",
        risk=_risk(question, quality, share),
        validation_criteria=_criteria(question, now),
    )


def _risk(question: Question, quality: Measured, share: float) -> Level:
    low = quality.low if isinstance(quality, Estimate) else -math.inf
    if low < -RISKY_DROP or question.evidence.grade == "C":
        return "High"
    return "Low" if low >= -question.limits.max_quality_drop and share <= 0.2 else "Medium"


def _criteria(question: Question, now: Evaluated) -> tuple[str, ...]:
    found = [
        (
            f"Mean quality of these requests stays at or above {now.quality.value - question.limits.max_quality_drop:.3f} "
            f"(today {now.quality.value:.3f}) in an A/B test."
        ),
        f"Completion stays at or above {max(now.success.value - search.MAX_COMPLETION_DROP, 0.0):.1%}.",
    ]
    if question.has_cost and question.goal in {"cost", "balanced"}:
        found.append(f"Cost per request falls below today's {now.cost.value:.6f} USD.")
    if question.has_latency:
        found.append(
            f"At most {search.MAX_SLOW_SHARE:.0%} of all requests take longer than {(question.cube.cells.binning.slow_above_ms or 0.0) / 1000:.1f} s."
        )
    return tuple(found)


def _rationale(question: Question, block: rules_.Block, share: float, already: float, told: Told, then: Evaluated, now: Evaluated) -> str:
    cube = question.cube
    sent = cube.all.requests[list(block.places)].sum(axis=0)
    most = int(sent.argmax())
    total = max(rules_.requests_of(cube, block.places), 1.0)
    model = cube.models[block.arm]
    elsewhere = "" if most == block.arm else f" and {already:.0%} to {model}"
    text = f"{share:.1%} of requests; today {sent[most] / total:.0%} of them go to {cube.models[most]}{elsewhere}."
    if question.has_cost:
        text += f" Sent to {model} they would cost about {then.cost.value * 1000:.3f} USD per 1,000 instead of {now.cost.value * 1000:.3f}"
    else:
        text += f" Sent to {model}"
    text += f", at a quality of about {then.quality.value:.3f} instead of {now.quality.value:.3f}"
    quality = told.quality_change(then, now)
    if isinstance(quality, Estimate):
        text += f" (change between {quality.low:+.3f} and {quality.high:+.3f})"
    if question.has_latency:
        text += f" and {then.latency.value / 1000:.2f} s instead of {now.latency.value / 1000:.2f} s"
    if question.evidence.grade != "A":
        text += ". Worth an A/B test"
    return text + "."
