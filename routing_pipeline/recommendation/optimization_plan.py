"""`create_optimization_plan`: what to do in which order, who has to act, and how one knows that it worked.

Belongs here: sorting items into phases, who is needed, and when the work pays. Does not belong here: which items apply (`plan_kinds`), their
words (`plan_texts`), their risks (`optimization_risks`).
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import ClassVar

from pydantic import Field

from routing_pipeline import text
from routing_pipeline.analysis.bottlenecks import Bottlenecks
from routing_pipeline.analysis.cost_drivers import CostDrivers
from routing_pipeline.analysis.quality_issues import QualityIssues
from routing_pipeline.estimates import Estimate, Measured, Result, Unidentifiable, quantity
from routing_pipeline.recommendation.cost_optimization_plan import CostOptimizationPlan
from routing_pipeline.recommendation.monitoring_plan import Exploration
from routing_pipeline.recommendation.optimization_risks import why_not_to_start
from routing_pipeline.recommendation.plan_item import PhaseNumber, PlanItem
from routing_pipeline.recommendation.plan_kinds import KINDS, Findings, counted_rules, grade_of
from routing_pipeline.recommendation.routing_rules import RoutingRules
from routing_pipeline.rules.lifecycle import is_significant
from routing_pipeline.rules.model import Level
from routing_pipeline.window.scope import AnalysisScope


class Phase(Result):
    """One stretch of the roadmap."""

    number: PhaseNumber
    title: str
    timing: str
    items: tuple[str, ...] = Field(description="Ids of the items to start in it, in order")
    nothing_because: str | None = Field(default=None, description="Why the phase is empty; null when it is not")


class Payback(Result):
    """When the work has paid for itself."""

    days_per_1000_usd: Measured = quantity("Days of saving that pay for 1,000 USD of effort", "days")
    explanation: str


class OptimizationPlan(Result):
    """The answer to `create_optimization_plan`."""

    main_table: ClassVar = "items"

    items: tuple[PlanItem, ...]
    phases: tuple[Phase, Phase, Phase]
    high_impact: tuple[str, ...] = Field(description="Ids of items")
    medium_impact: tuple[str, ...]
    low_impact: tuple[str, ...]
    resources: tuple[str, ...] = Field(description="Who is needed for how many items")
    payback: Payback
    approval_needed: bool = Field(description="The change moves more than 5 % of traffic or spend")
    verdict: str = Field(description="One sentence for a manager")
    notices: tuple[str, ...] = Field(
        default=(), description="What the rules name and the window does not know, and rules that match nothing"
    )


def optimization_plan(
    scope: AnalysisScope,
    rules: RoutingRules,
    cost_plan: CostOptimizationPlan,
    drivers: CostDrivers,
    quality_issues: QualityIssues,
    bottlenecks: Bottlenecks,
    exploration: Exploration | None,
) -> OptimizationPlan:
    """Sort everything that was found into this week, this month and this quarter.

    Nothing is measured here: each item's numbers are those of the result that `source` names. `exploration` is the one of the monitoring plan.
    """
    found = Findings(scope, rules, cost_plan, drivers, quality_issues, bottlenecks, exploration)
    items = tuple(_with_own_ids(item for kind in KINDS for item in kind(found)))
    is_worth_trying = found.has_rules and why_not_to_start(rules) is None
    approval = is_worth_trying and is_significant(rules.moved_share, rules.moved_spend_share)
    return OptimizationPlan(
        items=items,
        phases=(_phase(1, items), _phase(2, items), _phase(3, items)),
        high_impact=_ids(items, "High"),
        medium_impact=_ids(items, "Medium"),
        low_impact=_ids(items, "Low"),
        resources=_resources(items),
        payback=_payback(cost_plan, scope),
        approval_needed=approval,
        verdict=_verdict(rules, items, approval=approval),
        notices=rules.notices,
    )


def _with_own_ids(items: Iterator[PlanItem]) -> Iterator[PlanItem]:
    """Two names may read the same in an id; a number then keeps the items apart."""
    seen: dict[str, int] = {}
    for item in items:
        seen[item.id] = seen.get(item.id, 0) + 1
        yield item if seen[item.id] == 1 else item.model_copy(update={"id": f"{item.id}-{seen[item.id]}"})


_TITLES: dict[PhaseNumber, tuple[str, str]] = {
    1: ("Immediate Changes", "Week 1"),
    2: ("Tactical Improvements", "Weeks 2-4"),
    3: ("Strategic Enhancements", "Months 2-3"),
}


def _phase(number: PhaseNumber, items: Sequence[PlanItem]) -> Phase:
    title, timing = _TITLES[number]
    mine = tuple(item.id for item in items if item.phase == number)
    return Phase(
        number=number, title=title, timing=timing, items=mine, nothing_because=None if mine else "no finding calls for an action here"
    )


def _ids(items: Sequence[PlanItem], level: Level) -> tuple[str, ...]:
    return tuple(item.id for item in items if item.impact_level == level)


def _resources(items: Sequence[PlanItem]) -> tuple[str, ...]:
    by_who: dict[str, list[Level]] = {}
    for item in items:
        by_who.setdefault(item.who, []).append(item.effort)
    levels: tuple[Level, ...] = ("Low", "Medium", "High")
    return tuple(
        f"{who}: {text.counted(len(efforts), 'item')}, "
        + ", ".join(f"{efforts.count(level)} of {level.lower()} effort" for level in levels if efforts.count(level))
        for who, efforts in sorted(by_who.items(), key=lambda each: -len(each[1]))
    )


def _payback(plan: CostOptimizationPlan, scope: AnalysisScope) -> Payback:
    """1,000 USD over the planned saving per day; the ends of the interval change places."""
    saving = plan.planned_saving_usd
    if isinstance(saving, Unidentifiable):
        return Payback(days_per_1000_usd=saving, explanation="No planned saving has a known size, so there is no payback time.")
    if saving.low <= 0:
        why = "the planned saving may be 0 at the low end of its interval; run the canary first"
        return Payback(
            days_per_1000_usd=Unidentifiable(unidentifiable=why),
            explanation="The payback time can be given once the whole interval of the saving is above 0.",
        )
    days = tuple(1000 * plan.days / end for end in (saving.estimate, saving.high, saving.low))
    return Payback(
        days_per_1000_usd=Estimate(estimate=days[0], low=days[1], high=days[2], level=saving.level),
        explanation=(
            f"Days of planned saving, at the pace of {_length(scope)}, that pay for $1,000 of work. The work is settings and rules; "
            "each item states its effort."
        ),
    )


def _length(scope: AnalysisScope) -> str:
    return "the window" if scope.knows_a_week else f"{24 * scope.covered_days:.0f} hours of logs, which show no weekly cycle"


def _verdict(rules: RoutingRules, items: Sequence[PlanItem], *, approval: bool) -> str:
    first = sum(item.phase == 1 for item in items)
    if not rules.rule_set.rules:
        return f"No routing change is recommended yet. The plan has {text.counted(first, 'item')} for week 1; the first step is to collect more evidence."
    why_not = why_not_to_start(rules)
    if why_not is not None:
        return f"Do not start the {counted_rules(len(rules.rule_set.rules))}: {why_not}."
    start = "Start the canary" if grade_of(rules) == "A" else "Start an A/B test"
    return f"{start} of the {counted_rules(len(rules.rule_set.rules))} in week 1" + (
        ", once a stakeholder has approved it." if approval else "."
    )
