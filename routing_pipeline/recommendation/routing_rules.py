"""`optimize_routing_rules`: the rule set that survives its proof, or why there is none.

Belongs here: the result that the report, the rule set artefact and the other recommendations read, and putting the
search (`policy.search`) and the proof (`policy.proof`) together. Does not belong here: the statistics themselves.
"""

from __future__ import annotations

import math
from typing import Any, ClassVar

import numpy as np
from pydantic import Field

from routing_pipeline import text
from routing_pipeline.estimates import Estimate, Measured, Result, Unidentifiable, quantity
from routing_pipeline.parameters import Goal
from routing_pipeline.policy import proof, rule_blocks as rules_, search
from routing_pipeline.policy.candidates import candidates
from routing_pipeline.policy.evidence_model import RoutingEvidence
from routing_pipeline.policy.flattery import luck_in, unflattered
from routing_pipeline.policy.pairs import Pair, pairs_of, within_caps
from routing_pipeline.policy.proof import Evaluated, Verdict
from routing_pipeline.policy.search import Learned
from routing_pipeline.policy.stability import rule_agreement
from routing_pipeline.policy.test_count import look
from routing_pipeline.recommendation.applied_limits import AppliedLimit, constraints_of
from routing_pipeline.recommendation.half_choices import HalfChoice
from routing_pipeline.recommendation.joint_intervals import JointIntervals, joint_intervals
from routing_pipeline.recommendation.moved_traffic import moved_shares
from routing_pipeline.recommendation.offered import RoutingOption, offered
from routing_pipeline.recommendation.options import Offer, WorstHit, chosen, offers
from routing_pipeline.recommendation.per_session import of_sessions_today
from routing_pipeline.recommendation.proposed_rules import id_of_rules
from routing_pipeline.recommendation.question import Question, asked_of_the_proof, goal_weights, limits_held, question_of, rule_window
from routing_pipeline.recommendation.rule_reasons import (
    assumptions_of,
    hypothesis_warnings,
    reasons_against,
    repeated_test_warning,
)
from routing_pipeline.recommendation.within_reach import Conflict, conflicts_of
from routing_pipeline.rules.impact import RuleImpact
from routing_pipeline.rules.model import (
    Change,
    Constraints,
    Expected,
    Outcomes,
    RelativeChange,
    RuleSet,
    cannot_tell,
)
from routing_pipeline.stats.inference import Statistic, quantile
from routing_pipeline.storage.locks import Coordination
from routing_pipeline.window.scope import AnalysisScope

MIN_SCORED = 300
"""Scored answers in the window below which no rule is proposed: with fewer, those that pass their proof do so by luck."""
WALK_SHOWN = 40
POWER = 0.8
"""Chance with which the requests that are asked for decide."""
Learnt = tuple[Learned, Learned]
"""Of the first half of the sessions and of the second."""


class Candidate(Result):
    """One policy that was considered, safest first."""

    label: str
    rules: int
    moved_share: float = quantity("Share of requests that it routes differently", "0..1")
    outcomes: Outcomes = Field(description="On sessions that the search never saw")
    cost_change: Measured = quantity("Relative to today", "1")
    quality_change: Measured = quantity("Difference from today", "0..1")
    passed: bool
    failed_constraint: str | None = Field(default=None, description="First constraint that its safe end broke")
    broken_constraint: str | None = Field(default=None, description="Constraints that its estimate itself breaks")


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

    main_table: ClassVar = "impacts"

    rule_set: RuleSet
    reasons: tuple[str, ...] = Field(description="Why these rules, or why none")
    walk: tuple[Candidate, ...] = Field(description="The proof: candidates from safest to boldest, up to the first failure")
    limits: tuple[AppliedLimit, ...] = Field(
        default=(), description="Every limit that was held, and which one decides of those that speak of the same"
    )
    conflicts: tuple[Conflict, ...] = ()
    hypothesis: UnprovenHypothesis | None = None
    moved_share: float = quantity("Share of requests routed differently by the rule set", "0..1")
    moved_spend_share: float = quantity("Share of today's spend that those requests make up", "0..1")
    saving_usd_per_day: Measured = quantity("Over the window's traffic; positive is a saving", "USD/day")
    look: int = quantity("Which question to the same held-out sessions this was; 0: none, it was only explored", "questions", default=1)
    luck: float = quantity(
        "Taken off the quality of what passed, because what chance favours passes more easily", "standard errors", default=0.0
    )
    stability: RuleStability | None = Field(
        default=None, description="Null where there are no rules, and for an option that is not the one proposed"
    )
    impacts: tuple[RuleImpact, ...] = Field(
        default=(), description="What each rule does by itself; empty for rules that were not searched for"
    )
    halves: tuple[HalfChoice, ...] = Field(
        default=(),
        description="What each half of the sessions would do by itself, which the other one proves; empty for rules that were not searched for",
    )
    options: tuple[RoutingOption, ...] = Field(
        default=(),
        description="Proven rule sets to choose from, all of one walk; the default one is `rule_set`. Empty where there are no rules",
    )
    strength_of_task: float | None = quantity(
        "By how much quality on moved requests would be off had the task type not been logged: a yardstick for the tipping point",
        "0..1",
        default=None,
    )
    worst_task: WorstHit | None = Field(default=None, description="The task whose quality the rule set is expected to lower most")
    tipping_point: Measured = quantity("Average hidden overstatement of quality on moved traffic that would undo the claim", "0..1")
    notices: tuple[str, ...] = Field(
        default=(), description="Names in rules that were handed over which the window does not know, and rules that match nothing"
    )


def quality_change(rules: RoutingRules) -> Measured:
    """Change of mean quality over all requests (0..1): that of the proof, else of the replay; exactly none where nothing changes."""
    if not rules.rule_set.rules:
        return Estimate(estimate=0.0, low=0.0, high=0.0)
    proven = next((option for option in rules.options if option.is_default), None)
    if proven is not None:
        return proven.quality_change
    replayed = next((candidate for candidate in reversed(rules.walk) if candidate.passed), None)
    return difference_of_quality(rules.rule_set.expected) if replayed is None else replayed.quality_change


def difference_of_quality(expected: Expected) -> Measured:
    """The relative change of quality as a difference (0..1)."""
    relative, today = expected.change.quality.relative, expected.baseline.quality
    if isinstance(relative, Unidentifiable):
        return relative
    return relative.scaled(today.estimate) if isinstance(today, Estimate) else today


def optimize_routing_rules(
    evidence: RoutingEvidence, scope: AnalysisScope, *, goal: Goal | None = None, test_number: int = 1
) -> RoutingRules:
    """Learn rules on each half of the sessions, prove them on the other one, and keep the boldest that pass.

    Args:
        evidence: of the window; its cells are read, no request row is.
        scope: thresholds, capacities, budget and weights are its parameters.
        goal: what to improve; default the scope's.
        test_number: which question this is to the same held-out half (`policy.test_count`); later ones are held to a stricter level.

    Returns:
        `rule_set` with status `proposed`, or `no_change` with reasons. All estimates are of held-out sessions, with
        intervals that hold for every pair walked at once.
    """
    if evidence.refusal is not None or evidence.cells_uri is None:
        why = evidence.refusal or "no evidence was gathered"
        return _refused(evidence, scope, goal or scope.parameters.goal, why)
    question = question_of(evidence, scope, goal, test_number)
    missing = _missing(question)
    if missing is not None:
        return _unchanged(question, [missing], [], [], None)
    learnt, path = _searched(question)
    level = proof.level_of(test_number)
    today = proof.today_of(question.halves)
    verdicts = proof.walk(question.proofs, path, question.limits, level)
    luck = luck_in(verdicts, today, question.limits, level)
    verdicts = unflattered(verdicts, luck, today)
    found = offers(question, _improving(question, learnt, verdicts, today), today)
    best = chosen(question, found)
    if best is not None:
        # Rules that keep every limit show that the limits can hold together.
        return _proposed(question, learnt, verdicts, best, found).model_copy(update={"luck": luck})
    conflicts = conflicts_of(question.cube, learnt[0], question.limits, question.weights, has_cost=question.has_cost)
    return _unchanged(
        question, reasons_against(question, path, verdicts, conflicts), verdicts, conflicts, _hypothesis(question, path, verdicts)
    )


def _searched(question: Question) -> tuple[Learnt, list[Pair]]:
    """What each half has learnt, and the pairs of what they found, safest first."""
    cubes = (question.halves.first, question.halves.second)
    one, other = (search.learned(cube, question.limits) for cube in cubes)
    paths = tuple(
        candidates(cube, learnt, question.limits, question.goal, question.weights) for cube, learnt in zip(cubes, (one, other), strict=True)
    )
    found = pairs_of(question.halves, (paths[0], paths[1]), single=question.scope.parameters.single)
    return (one, other), [pair for pair in found if within_caps(question.cube, pair.shares, question.limits)]


def routing_rules_with_test_count(evidence: RoutingEvidence, scope: AnalysisScope, coordination: Coordination) -> RoutingRules:
    """`optimize_routing_rules` for goal and limits of the scope, at the number that this question has among those put to the same rows.

    What is only explored has no number: its evidence holds nothing of the half that proves.
    """
    if scope.parameters.explore_only:
        return _explored(optimize_routing_rules(evidence, scope))
    number = look(coordination, scope.rows_key or scope.key, asked_of_the_proof(scope))
    return optimize_routing_rules(evidence, scope, test_number=number)


EXPLORED_ONLY = (
    "Explored only: found and tried within the half that rules are learnt on. This is no proof, and cannot be approved. "
    "Ask the same without --explore-only to have it proven."
)


def _explored(found: RoutingRules) -> RoutingRules:
    """Marked wherever the rules go."""
    options = tuple(each.model_copy(update=_marked(each)) for each in found.options)
    return found.model_copy(update={**_marked(found), "options": options, "look": 0})


def _marked(found: RoutingRules | RoutingOption) -> dict[str, Any]:
    rule_set = found.rule_set.model_copy(update={"warnings": (EXPLORED_ONLY, *found.rule_set.warnings)})
    return {"rule_set": rule_set, "reasons": (EXPLORED_ONLY, *found.reasons)}


def _missing(question: Question) -> str | None:
    """What the goal needs and the logs lack."""
    sessions = question.evidence.sessions
    if sessions is not None and sessions.forbids is not None:
        return sessions.forbids
    if question.goal == "speed" and not question.has_latency:
        return "latency is not logged for enough requests, so nothing can be said about speed"
    if question.goal != "speed" and not question.has_cost:
        return "cost is not known for enough requests; log it, or name the models' prices in the configuration"
    if question.evidence.labelled < MIN_SCORED:
        return f"{question.evidence.labelled:,} scored answers are too few to prove a rule; at least {MIN_SCORED} are needed"
    return None


def _improving(question: Question, learnt: Learnt, verdicts: list[Verdict], today: Evaluated) -> list[Verdict]:
    """Those that passed and whose goal is better than today at the safe end; where today breaks a limit, all that passed."""
    parts, level = goal_weights(question), proof.level_of(question.test_number)
    mends = all(search.today_breaks(each, question.limits) for each in learnt)
    return [each for each in verdicts if each.passed and (mends or proof.improvement(each.outcome, today, parts).low(level) > 0)]


def _constraints(question: Question) -> Constraints:
    return constraints_of(question.scope.parameters, question.limits, question.cube.models)


NO_CHANGE = RelativeChange(relative=Estimate(estimate=0.0, low=0.0, high=0.0))
NOTHING_CHANGES = Change(cost_usd=NO_CHANGE, quality=NO_CHANGE, latency_ms=NO_CHANGE)


def _refused(evidence: RoutingEvidence, scope: AnalysisScope, goal: Goal, why: str) -> RoutingRules:
    unknown = cannot_tell(why)
    rule_set = RuleSet(
        rule_set_id=id_of_rules(scope, goal),
        status="no_change",
        goal=goal,
        constraints=constraints_of(scope.parameters),
        window=rule_window(scope),
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
    today = proof.today_of(question.halves)
    intervals = joint_intervals(question, [each.outcome for each in verdicts], today)
    baseline = question.baseline
    rule_set = RuleSet(
        rule_set_id=id_of_rules(question.scope, question.goal),
        status="no_change",
        goal=question.goal,
        constraints=_constraints(question),
        window=rule_window(question.scope),
        unit=question.evidence.unit,
        rules=(),
        expected=Expected(baseline=baseline, proposed=baseline, change=NOTHING_CHANGES, per_session=of_sessions_today(question)),
        assumptions=assumptions_of(question),
        warnings=(
            *question.evidence.warnings,
            *hypothesis_warnings(question, verdicts, intervals, today),
            *repeated_test_warning(question),
        ),
    )
    return RoutingRules(
        rule_set=rule_set,
        reasons=tuple(reasons),
        walk=_walked(question, verdicts, intervals, today),
        limits=limits_held(question, today),
        conflicts=tuple(conflicts),
        hypothesis=hypothesis,
        moved_share=0.0,
        moved_spend_share=0.0,
        saving_usd_per_day=Estimate(estimate=0.0, low=0.0, high=0.0),
        tipping_point=Unidentifiable(unidentifiable="nothing is moved"),
        look=question.test_number,
    )


def _walked(question: Question, verdicts: list[Verdict], intervals: JointIntervals, today: Evaluated) -> tuple[Candidate, ...]:
    shown = verdicts if len(verdicts) <= WALK_SHOWN else [*verdicts[: WALK_SHOWN // 2], *verdicts[-WALK_SHOWN // 2 :]]
    found = []
    for verdict in shown:
        blocks = rules_.blocks_of(question.cube, verdict.pair.shares)
        moved, _ = moved_shares(question.cube, verdict.pair.shares)
        found.append(
            Candidate(
                label=f"{text.counted(len(blocks), 'rule')}, {100 * moved:.0f} % of requests moved",
                rules=len(blocks),
                moved_share=moved,
                outcomes=intervals.outcomes(verdict.outcome),
                cost_change=intervals.cost_change(verdict.outcome, today),
                quality_change=intervals.quality_change(verdict.outcome, today, has_passed=verdict.passed),
                passed=verdict.passed,
                failed_constraint=verdict.failed,
            )
        )
    return tuple(found)


def _proposed(question: Question, learnt: Learnt, verdicts: list[Verdict], offer: Offer, found: list[Offer]) -> RoutingRules:
    today = proof.today_of(question.halves)
    intervals = joint_intervals(question, [each.outcome for each in verdicts], today)
    options = offered(question, learnt, found, offer, verdicts, intervals, today)
    return RoutingRules(
        **_of_option(next(each for each in options if each.is_default)),
        walk=_walked(question, verdicts, intervals, today),
        limits=limits_held(question, today),
        look=question.test_number,
        stability=_stability(question, learnt, offer.verdict),
        options=options,
    )


def _of_option(option: RoutingOption) -> dict[str, Any]:
    """What an optimisation says of the rule set that it proposes."""
    return {name: getattr(option, name) for name in sorted(RoutingOption.model_fields.keys() & RoutingRules.model_fields.keys())}


def as_chosen(rules: RoutingRules, rule_set_id: str) -> RoutingRules | None:
    """The optimisation as it would be had the option of this id been proposed; None where it offers none of that id."""
    if rules.rule_set.rule_set_id == rule_set_id:
        return rules
    option = next((each for each in rules.options if each.rule_set.rule_set_id == rule_set_id), None)
    if option is None:
        return None
    options = tuple(each.model_copy(update={"is_default": each is option}) for each in rules.options)
    return rules.model_copy(update={**_of_option(option), "stability": None, "options": options})


def _stability(question: Question, learnt: Learnt, best: Verdict) -> RuleStability:
    resampled, left_out = rule_agreement(question.halves, learnt, best.pair, question.goal, question.weights)
    low, high = np.quantile(resampled, [0.025, 0.975])
    mean = float(resampled.mean())
    return RuleStability(
        resampled=Estimate(estimate=mean, low=min(float(low), mean), high=max(float(high), mean)), one_percent=float(left_out.min())
    )


def _hypothesis(question: Question, path: list[Pair], verdicts: list[Verdict]) -> UnprovenHypothesis | None:
    """The safest candidate, and how many requests like these would decide it with a chance of POWER: n ((t + z) SE / margin)^2.

    SE and margin are those of the limit that failed.
    """
    if not path:
        return None
    today = proof.today_of(question.halves)
    verdict = verdicts[0]
    intervals = joint_intervals(question, [verdict.outcome], today)
    statistic, margin = verdict.shortfall or _shortfall_of_goal(question, verdict.outcome, today)
    needed = None
    if margin > 0 and math.isfinite(statistic.standard_error):
        ratio = (statistic.value - statistic.low() + quantile(POWER, None) * statistic.standard_error) / margin
        needed = math.ceil(question.evidence.requests * max(ratio**2, 1.0))
    moved, _ = moved_shares(question.cube, verdict.pair.shares)
    rules = len(rules_.blocks_of(question.cube, verdict.pair.shares))
    return UnprovenHypothesis(
        description=f"{text.counted(rules, 'rule')} that {'moves' if rules == 1 else 'move'} {100 * moved:.0f} % of requests looked best and safest, "
        f"but {verdict.failed or 'an improvement'} could not be shown",
        cost_change=intervals.cost_change(verdict.outcome, today),
        requests_needed=needed,
    )


def _shortfall_of_goal(question: Question, outcome: Evaluated, today: Evaluated) -> tuple[Statistic, float]:
    gain = proof.improvement(outcome, today, goal_weights(question))
    return gain, gain.value
