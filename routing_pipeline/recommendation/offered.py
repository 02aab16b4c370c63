"""Each proven rule set that is offered, whole: its rules, what it saves, whom it costs quality, how close it comes to the limit.

Belongs here: the one shape of a choice, and filling it from what was proven; any of them can be approved. Does not belong here: which
sets are offered (`options`), proving them (`policy.proof`), the table that shows them (`report.choice`).

All of them passed the same walk, so that offering them is no further look at the sessions.
"""

from __future__ import annotations

from collections.abc import Sequence

from pydantic import Field

from routing_pipeline.clock import DAYS_PER_MONTH
from routing_pipeline.estimates import Measured, Result, Unidentifiable, quantity
from routing_pipeline.policy import proof
from routing_pipeline.policy.proof import Evaluated, Verdict
from routing_pipeline.policy.search import Learned
from routing_pipeline.recommendation.applied_limits import constraints_of, quality_floor
from routing_pipeline.recommendation.counted_sessions import requests_of_any
from routing_pipeline.recommendation.half_choices import HalfChoice, told_by_half
from routing_pipeline.recommendation.joint_intervals import JointIntervals
from routing_pipeline.recommendation.moved_traffic import moved_shares, strength_of_task, tipping_point
from routing_pipeline.recommendation.options import NAMES, Offer, OptionId, WorstHit, WorstTeam, worst_hit
from routing_pipeline.recommendation.per_session import of_sessions
from routing_pipeline.recommendation.proposed_rules import id_of_rules, rules_of_policy
from routing_pipeline.recommendation.question import Question, rule_window
from routing_pipeline.recommendation.rule_reasons import assumptions_of, reasons_for, warnings_of
from routing_pipeline.recommendation.validation_criteria import of_the_set
from routing_pipeline.rules.impact import RuleImpact
from routing_pipeline.rules.model import Expected, Rule, RuleSet

NO_MONTH = Unidentifiable(unidentifiable="the logs cover less than a week, which tells nothing of a month")


class RoutingOption(Result):
    """One proven rule set that may be chosen."""

    id: OptionId
    name: str
    is_default: bool = Field(description="Whether this one is the rule set that is proposed, that of rules.json")
    rule_set: RuleSet = Field(description="As in rules.json, with an id of its own, by which it is approved")
    reasons: tuple[str, ...] = Field(description="Why these rules")
    moved_share: float = quantity("Share of requests routed differently", "0..1")
    moved_spend_share: float = quantity("Share of today's spend that those requests make up", "0..1")
    saving_usd_per_day: Measured = quantity("Over the window's traffic; positive is a saving", "USD/day")
    saving_usd_per_month: Measured = quantity("Over 30 days of traffic like the window's; positive is a saving", "USD/month")
    cost_change: Measured = quantity("Relative to today", "1")
    quality_change: Measured = quantity("Difference from today", "0..1")
    worst_task: WorstHit | None = Field(default=None, description="Null where no task is moved whose quality is known")
    worst_team: WorstTeam | Unidentifiable | None = Field(default=None, description="Null where no team is logged")
    margin: float = quantity("How far quality is expected to stay above the limit that decides", "0..1")
    safe_margin: float = quantity("The same at the safe end of its interval", "0..1")
    tipping_point: Measured = quantity("Average hidden overstatement of quality on moved traffic that would undo the claim", "0..1")
    strength_of_task: float | None = quantity(
        "By how much quality on moved requests would be off had the task type not been logged", "0..1", default=None
    )
    impacts: tuple[RuleImpact, ...] = Field(default=(), description="What each rule does by itself")
    halves: tuple[HalfChoice, ...] = Field(
        default=(), description="What each half of the sessions would do by itself, which the other one proves"
    )


def offered(
    question: Question,
    learnt: tuple[Learned, Learned],
    found: Sequence[Offer],
    proposed: Offer,
    verdicts: list[Verdict],
    intervals: JointIntervals,
    today: Evaluated,
) -> tuple[RoutingOption, ...]:
    """What page one shows, most careful first; of two pairs that a gateway follows alike, the one that is proposed, else the first.

    Args:
        question: what was asked.
        learnt: what each half of the sessions has learnt.
        found: sets that may be offered.
        proposed: the one of them that is proposed.
        verdicts: the whole walk that they passed.
        intervals: of the whole walk.
        today: outcomes today.
    """
    by_id: dict[str, RoutingOption] = {}
    for offer in sorted(found, key=lambda each: each is not proposed):
        option = _option(question, learnt, offer, offer is proposed, verdicts, intervals, today)
        by_id.setdefault(option.rule_set.rule_set_id, option)
    order = list(NAMES)
    return tuple(sorted(by_id.values(), key=lambda each: order.index(each.id)))


def _option(
    question: Question,
    learnt: tuple[Learned, Learned],
    offer: Offer,
    is_default: bool,
    verdicts: list[Verdict],
    intervals: JointIntervals,
    today: Evaluated,
) -> RoutingOption:
    outcome, pair = offer.verdict.outcome, offer.verdict.pair
    moved, spend = moved_shares(question.cube, pair.shares)
    rules, impacts = rules_of_policy(question, pair)
    tipping = tipping_point(question, outcome, today, moved, intervals)
    strength = strength_of_task(question.cube, pair.shares)
    warnings = warnings_of(question, moved, tipping, strength)
    per_day = (today.cost - outcome.cost).scaled(question.requests_per_day * question.priced_share)
    margins, tested = (
        [margin for _, margin in proof.quality_margins(each, today, question.limits)] for each in (outcome, offer.verdict.as_tested)
    )
    return RoutingOption(
        id=offer.id,
        name=NAMES[offer.id],
        is_default=is_default,
        rule_set=_rule_set(question, rules, warnings, outcome, intervals, today),
        reasons=reasons_for(question, learnt, offer, verdicts, intervals, today),
        moved_share=moved,
        moved_spend_share=spend,
        saving_usd_per_day=intervals.saving(per_day),
        saving_usd_per_month=intervals.saving(per_day.scaled(DAYS_PER_MONTH)) if question.scope.knows_a_week else NO_MONTH,
        cost_change=intervals.cost_change(outcome, today),
        quality_change=intervals.quality_change(outcome, today, has_passed=True),
        worst_task=worst_hit(offer.tasks),
        margin=min(margin.value for margin in margins),
        safe_margin=min(margin.low(proof.level_of(question.test_number)) for margin in tested),
        tipping_point=tipping,
        strength_of_task=strength,
        impacts=impacts,
        halves=told_by_half(question.cube, pair),
    )


def _rule_set(
    question: Question, rules: tuple[Rule, ...], warnings: tuple[str, ...], outcome: Evaluated, intervals: JointIntervals, today: Evaluated
) -> RuleSet:
    expected = Expected(
        baseline=question.baseline, proposed=intervals.outcomes(outcome), change=intervals.change(outcome, today, has_passed=True)
    )
    found = RuleSet(
        rule_set_id=id_of_rules(question.scope, question.goal, rules),
        status="proposed",
        goal=question.goal,
        constraints=constraints_of(question.scope.parameters, question.limits, question.cube.models),
        window=rule_window(question.scope),
        unit=question.evidence.unit,
        rules=rules,
        expected=of_sessions(question, expected, outcome, today),
        assumptions=assumptions_of(question),
        warnings=warnings,
    )
    criteria = of_the_set(
        quality_floor(found),
        question.limits,
        outcome,
        today,
        has_cost=question.has_cost,
        slow_above_ms=question.slow_above_ms,
        session=requests_of_any(found) if any(rule.per == "session" for rule in rules) else None,
    )
    return found.model_copy(update={"validation_criteria": criteria})
