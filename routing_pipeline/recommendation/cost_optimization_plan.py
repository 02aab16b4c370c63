"""`generate_cost_optimization_plan`: the actions that reach a saving, cheapest risk first, and how far they reach.

Belongs here: turning proven rules and measured waste into actions with a saving each, and adding them up without
counting a dollar twice. Does not belong here: measuring the waste (`analysis.cost_drivers`), proving the rules
(`recommendation.routing_rules`), who does what when (`recommendation.optimization_plan`).
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import ClassVar, Literal

from pydantic import Field

from routing_pipeline import text
from routing_pipeline.analysis.cost_drivers import CostDrivers, Waste
from routing_pipeline.analysis.routing_costs import RoutingCosts
from routing_pipeline.clock import DAYS_PER_MONTH
from routing_pipeline.estimates import Estimate, Measured, Result, Unidentifiable, quantity
from routing_pipeline.recommendation.optimization_risks import risk_of_set, why_not_to_start
from routing_pipeline.recommendation.routing_rules import RoutingRules
from routing_pipeline.rules.model import Grade, Level
from routing_pipeline.text import LogName
from routing_pipeline.window.scope import AnalysisScope

HEADROOM = 0.10
"""What recommended budgets leave above usual spend, as far as the planned spend allows."""
ONE_OFF = 0.01
"""A team whose usual spend is a smaller share of what it spent has no usual spend to go by."""
MAX_TEAMS = 20
MAX_OVERUSE = 5
RISKS: tuple[Level, ...] = ("Low", "Medium", "High")

ActionCategory = Literal["rules", "retries", "cache", "prompt_length", "budgets", "service_tier"]
Reach = Literal["reached", "out_of_reach", "cannot_tell"]


class CostAction(Result):
    """One thing to do about spend."""

    id: str
    category: ActionCategory
    title: str
    what: str = Field(description="What to change, in one sentence")
    saving_usd: Measured = quantity("Over 30 days at the window's traffic, taken alone; positive is a saving", "USD")
    added_saving_usd: Measured = quantity("Over 30 days, on top of the actions before it in the list", "USD")
    risk: Level = Field(description="Risk to quality, speed and availability")
    basis: str = Field(description="Where the number comes from, and what it assumes")
    is_counted: bool = Field(description="Counts towards the target; otherwise a hypothesis to test, or unknown")
    in_plan: bool = Field(description="Needed to reach the target")


class TeamBudget(Result):
    """A budget for one team over 30 days: what it usually spends, less its part of what the plan saves."""

    team: LogName
    spend_usd: float | None = quantity("30 days at the window's pace; null when unpriced", "USD", default=None)
    usual_usd: float | None = quantity("The same without what it spent above its usual in the window's spikes", "USD", default=None)
    budget_usd: float | None = quantity("Configured, per month; null when none is", "USD", default=None)
    recommended_usd: float | None = quantity(
        "Recommended for 30 days; all teams together not above the planned spend. Null when there is no spend to go by", "USD", default=None
    )
    why: str


class CostOptimizationPlan(Result):
    """The answer to `generate_cost_optimization_plan`."""

    main_table: ClassVar = "actions"

    days: int = quantity("Length of the plan", "days", default=DAYS_PER_MONTH)
    window_days: float | None = quantity(
        "Days of the window that the logs cover, whose pace is taken for all of `days`; below 7 they know no weekly rhythm. Null in plans of earlier versions",
        "days",
        default=None,
    )
    target_reduction: float = quantity("Saving asked for, as a share of spend", "0..1")
    spend_usd: Measured = quantity(
        "30 days at the window's pace, nothing changed; the interval is that of the cost per request, the number of requests is taken as known",
        "USD",
    )
    target_usd: float | None = quantity("Saving asked for, over 30 days; null when spend is unknown", "USD", default=None)
    actions: tuple[CostAction, ...] = Field(description="Cheapest risk first; those not needed for the target stay listed")
    planned_saving_usd: Measured = quantity("Actions in the plan together, no dollar counted twice", "USD")
    planned_reduction: Measured = quantity("The same as a share of spend", "0..1")
    reachable_saving_usd: Measured = quantity("All actions together: the most that the logs support", "USD")
    reachable_reduction: Measured = quantity("The same as a share of spend", "0..1")
    reach: Reach = Field(description="Whether the actions reach the target; by the point estimate, see `reach_is_safe`")
    reach_is_safe: bool = Field(description="The target is met even at the low end of the interval")
    verdict: str = Field(description="One sentence for a manager")
    budgets: tuple[TeamBudget, ...] = ()


def cost_optimization_plan(
    scope: AnalysisScope,
    rules: RoutingRules,
    costs: RoutingCosts,
    drivers: CostDrivers,
    target_reduction: float | None = None,
) -> CostOptimizationPlan:
    """Put what can be saved in order, cheapest risk first, until the target is reached.

    Everything is projected from the window to 30 days at the window's own pace. Savings are shares of spend, and each
    action saves its share of what those before it left, so that no dollar is counted twice: 1 - prod(1 - r_i).

    Args:
        scope: window and parameters.
        rules: proven rules and what they save.
        costs: spend, by team among others.
        drivers: waste, overuse and spikes.
        target_reduction: share of spend to save (0..1); default: the parameter of that name.
    """
    target = scope.parameters.target_reduction if target_reduction is None else target_reduction
    spend = _spend(scope, costs)
    found = [
        *_rules_actions(scope, rules, drivers),
        *_waste_actions(scope, drivers),
        *_tier_actions(scope, costs),
        *_budget_actions(scope, drivers),
    ]
    actions = _in_order(found, spend, target)
    counted = [action for action in actions if action.is_counted]
    planned = _together([action for action in counted if action.in_plan], spend)
    reachable = _together(counted, spend)
    target_usd = spend.estimate * target if isinstance(spend, Estimate) else None
    reach = _reach(reachable, target)
    plan_share, reachable_share = _of(planned, spend), _of(reachable, spend)
    return CostOptimizationPlan(
        window_days=scope.covered_days,
        target_reduction=target,
        spend_usd=spend,
        target_usd=target_usd,
        actions=actions,
        planned_saving_usd=_in_usd(planned, spend),
        planned_reduction=plan_share,
        reachable_saving_usd=_in_usd(reachable, spend),
        reachable_reduction=reachable_share,
        reach=reach,
        reach_is_safe=isinstance(plan_share, Estimate) and plan_share.low >= target,
        verdict=_verdict(reach, target, plan_share, reachable_share, _grade(rules)),
        budgets=_team_budgets(scope, costs, drivers, spend, plan_share),
    )


def _spend(scope: AnalysisScope, costs: RoutingCosts) -> Measured:
    """Spend on chat, which all actions are about, at the window's pace over 30 days; relative width as that of the cost per request."""
    if isinstance(costs.chat_usd, Unidentifiable):
        return costs.chat_usd
    if isinstance(costs.per_request_usd, Unidentifiable):
        return costs.per_request_usd
    if costs.per_request_usd.estimate <= 0 or costs.chat_usd <= 0 or scope.covered_days <= 0:
        return Unidentifiable(unidentifiable="the window holds no spend; check that costs are logged")
    return costs.per_request_usd.scaled(costs.chat_usd * DAYS_PER_MONTH / scope.covered_days / costs.per_request_usd.estimate)


class _ActionDraft(Result):
    """An action before it has its place in the order."""

    id: str
    category: ActionCategory
    title: str
    what: str
    saving_usd: Measured
    risk: Level
    basis: str
    is_counted: bool = True


def _grade(rules: RoutingRules) -> Grade:
    grades: tuple[Grade, ...] = tuple(rule.evidence.grade for rule in rules.rule_set.rules)
    return max(grades, default="A")


def _rules_actions(scope: AnalysisScope, rules: RoutingRules, drivers: CostDrivers) -> list[_ActionDraft]:
    found = rules.rule_set.rules
    if found:
        saving = rules.saving_usd_per_day
        grade, why_not = _grade(rules), why_not_to_start(rules)
        if why_not is not None:
            return [_left_out(rules, why_not)]
        return [
            _ActionDraft(
                id="rules",
                category="rules",
                title=f"Route by the {len(found)} proven rules" if grade == "A" else f"A/B test the {len(found)} proposed rules",
                what=f"Apply rules.json in the gateway, in canary steps; {100 * rules.moved_share:.0f} % of requests move.",
                saving_usd=saving if isinstance(saving, Unidentifiable) else saving.scaled(DAYS_PER_MONTH),
                risk=risk_of_set(rules).level,
                basis=f"Tested on sessions held out from the search; evidence of grade {grade}.",
            )
        ]
    return [
        _ActionDraft(
            id=f"overuse-{place}",
            category="rules",
            title=f"Test {overuse.replacement} in place of {overuse.model} for {overuse.task_type}",
            what=f"A/B test on the {overuse.requests:,} requests of the window where {overuse.replacement} appears good enough.",
            saving_usd=_per_plan(overuse.avoidable_usd, scope),
            risk="High",
            basis="A hypothesis from these logs; no rule passed the held-out test. It does not count towards the target.",
            is_counted=False,
        )
        for place, overuse in enumerate(drivers.overuse[:MAX_OVERUSE], 1)
    ]


def _left_out(rules: RoutingRules, why_not: str) -> _ActionDraft:
    """Rules from elsewhere that should not be tried as they are: what they would save counts towards nothing."""
    saving = rules.saving_usd_per_day
    return _ActionDraft(
        id="rules",
        category="rules",
        title="Do not start the given rules unchanged",
        what="Change them and run the analysis again. Do not start a trial of them unchanged.",
        saving_usd=saving if isinstance(saving, Unidentifiable) else saving.scaled(DAYS_PER_MONTH),
        risk="High",
        basis=f"Replayed on held-out sessions: {why_not}.",
        is_counted=False,
    )


def _per_plan(window_usd: Measured, scope: AnalysisScope) -> Measured:
    """Dollars of the window at its own pace over 30 days."""
    return window_usd if isinstance(window_usd, Unidentifiable) else window_usd.scaled(DAYS_PER_MONTH / scope.covered_days)


_WASTE: dict[str, tuple[ActionCategory, str, str, Level]] = {
    "failed_paid_attempts": (
        "retries",
        "Stop paying for calls that fail",
        "Shorten timeouts, do not retry errors that a retry cannot fix, and take a failing model out of rotation.",
        "Low",
    ),
    "retries": (
        "retries",
        "Cap retries",
        "Allow at most one retry per request, with a pause, before the fallback.",
        "Low",
    ),
    "fallbacks": (
        "retries",
        "Shorten fallback chains",
        "Send requests straight to the fallback while a model is failing.",
        "Low",
    ),
    "uncached_repeats": (
        "cache",
        "Cache repeated requests",
        "Turn on the gateway's response cache, or the provider's prompt cache, for the repeats found.",
        "Low",
    ),
    "oversized_prompts": (
        "prompt_length",
        "Shorten oversized prompts",
        "Trim history and retrieved context of prompts far above their task's median.",
        "Medium",
    ),
}


def _waste_actions(scope: AnalysisScope, drivers: CostDrivers) -> list[_ActionDraft]:
    return [_waste_action(scope, waste) for waste in drivers.waste if _is_there(waste)]


def _is_there(waste: Waste) -> bool:
    return isinstance(waste.excess_usd, Unidentifiable) or waste.excess_usd.estimate > 0


def _waste_action(scope: AnalysisScope, waste: Waste) -> _ActionDraft:
    category, title, what, risk = _WASTE[waste.kind]
    saving = _per_plan(waste.excess_usd, scope)
    return _ActionDraft(
        id=waste.kind,
        category=category,
        title=title,
        what=what,
        saving_usd=saving,
        risk=risk,
        basis=waste.explanation,
        is_counted=isinstance(saving, Estimate),
    )


def _tier_actions(scope: AnalysisScope, costs: RoutingCosts) -> list[_ActionDraft]:
    """A slower tier for work that nobody waits for; nothing where there is none, or the logs cannot tell."""
    patient = costs.patient
    if patient is None or not patient.groups:
        return []
    named = ", ".join(f"{each.task_type} of {each.team or 'no team'}" for each in patient.groups[:3])
    more = len(patient.groups) - 3
    return [
        _ActionDraft(
            id="service_tier",
            category="service_tier",
            title="Send work that nobody waits for as batch or flex",
            what=f"Send {named}{f' and {more} more' if more > 0 else ''} in a slower service tier of the same model.",
            saving_usd=_per_plan(patient.saving_usd, scope),
            risk="Low",
            basis=(
                f"{sum(each.calls for each in patient.groups):,} calls for ${patient.cost_usd:,.2f} in the window stream to nobody and name no user, "
                "while other calls do. What they cost in the slower tier is what the same models charged for the same tasks there. "
                "Ask their owners whether hours matter before you change them."
            ),
            is_counted=False,
        )
    ]


def _budget_actions(scope: AnalysisScope, drivers: CostDrivers) -> list[_ActionDraft]:
    found: list[_ActionDraft] = []
    if drivers.spikes:
        excess: list[Estimate] = [spike.excess_usd for spike in drivers.spikes if isinstance(spike.excess_usd, Estimate)]
        total = Estimate(
            estimate=sum(each.estimate for each in excess),
            low=max(sum(each.low for each in excess), 0.0),
            high=sum(each.high for each in excess),
        )
        teams = sorted({driver.team or "unknown" for spike in drivers.spikes for driver in spike.drivers[:1]})
        found.append(
            _ActionDraft(
                id="hourly_cap",
                category="budgets",
                title="Cap hourly spend per team",
                what=f"Set an hourly budget in the gateway for {', '.join(teams[:3]) or 'every team'}, so that a runaway job is stopped.",
                saving_usd=_per_plan(total, scope) if excess else Unidentifiable(unidentifiable="the excess of the spikes is unknown"),
                risk="Medium",
                basis=f"Spend above the usual level of the same hours in {text.counted(len(drivers.spikes), 'spike')}, assuming as many in later weeks.",
                is_counted=bool(excess),
            )
        )
    breached = [budget for budget in drivers.budgets if budget.breached and budget.of != "total"]
    if breached:
        over = sum(budget.spend_usd - budget.allowed_usd for budget in breached)
        found.append(
            _ActionDraft(
                id="team_budgets",
                category="budgets",
                title="Hold teams to their budgets",
                what=f"Enforce the configured budgets of {', '.join(budget.of for budget in breached[:5])} in the gateway.",
                saving_usd=_per_plan(Estimate(estimate=over, low=0.0, high=over), scope),
                risk="High",
                basis="At most the spend above budget; nothing at the low end, if teams raise their budgets instead. Requests beyond the budget are refused or queued, so this saving affects users most.",
            )
        )
    return found


Shares = tuple[float, float, float]
"""Share of spend saved: low, estimate, high."""


def _share(saving: Measured, spend: Measured) -> Shares | None:
    if isinstance(saving, Unidentifiable) or isinstance(spend, Unidentifiable) or spend.estimate <= 0:
        return None
    low, middle, high = (min(each / spend.estimate, 1.0) for each in (saving.low, saving.estimate, saving.high))
    return low, middle, high


def _in_order(found: Sequence[_ActionDraft], spend: Measured, target: float) -> tuple[CostAction, ...]:
    """Cheapest risk first, then the larger saving; in the plan until the target is reached."""

    def place(action: _ActionDraft) -> tuple[bool, int, float, str]:
        saving = action.saving_usd.estimate if isinstance(action.saving_usd, Estimate) else 0.0
        return (not action.is_counted, RISKS.index(action.risk), -saving, action.id)

    left: Shares = (1.0, 1.0, 1.0)
    actions: list[CostAction] = []
    for action in sorted(found, key=place):
        share = _share(action.saving_usd, spend)
        counts = action.is_counted and share is not None and share[1] > 0
        is_needed = counts and 1 - left[1] < target
        added: Measured = Unidentifiable(unidentifiable="not counted towards the target")
        if counts and share is not None and isinstance(spend, Estimate):
            # The end that is pessimistic for this action goes with the optimistic end of those before it.
            ends = (left[2] * share[0], left[1] * share[1], left[0] * share[2])
            added = Estimate(estimate=ends[1] * spend.estimate, low=min(ends) * spend.estimate, high=max(ends) * spend.estimate)
            if is_needed:
                left = (left[0] * (1 - share[0]), left[1] * (1 - share[1]), left[2] * (1 - share[2]))
        actions.append(
            CostAction(**action.model_dump(exclude={"is_counted"}), is_counted=counts, added_saving_usd=added, in_plan=is_needed)
        )
    return tuple(actions)


def _together(actions: Sequence[CostAction], spend: Measured) -> Shares | None:
    """1 - prod(1 - r_i) at each end: the interval is that of all actions ending badly, or well, together."""
    if isinstance(spend, Unidentifiable):
        return None
    left = [1.0, 1.0, 1.0]
    for action in actions:
        share = _share(action.saving_usd, spend)
        if share is not None:
            left = [remaining * (1 - each) for remaining, each in zip(left, share, strict=True)]
    return 1 - left[0], 1 - left[1], 1 - left[2]


def _of(share: Shares | None, spend: Measured) -> Measured:
    if share is None:
        return spend if isinstance(spend, Unidentifiable) else Unidentifiable(unidentifiable="no saving can be estimated")
    return Estimate(estimate=share[1], low=share[0], high=share[2])


def _in_usd(share: Shares | None, spend: Measured) -> Measured:
    found = _of(share, spend)
    return found.scaled(spend.estimate) if isinstance(found, Estimate) and isinstance(spend, Estimate) else found


def _reach(reachable: Shares | None, target: float) -> Reach:
    if reachable is None:
        return "cannot_tell"
    return "reached" if reachable[1] >= target else "out_of_reach"


def _verdict(reach: Reach, target: float, planned: Measured, reachable: Measured, grade: Grade) -> str:
    if reach == "cannot_tell" or isinstance(planned, Unidentifiable) or isinstance(reachable, Unidentifiable):
        return f"Whether {100 * target:.0f} % can be saved is unknown, because spend is unknown."
    hedge = "" if grade == "A" else f" The rules' part is worth an A/B test, not yet a promise (evidence of grade {grade})."
    if reach == "reached":
        return f"The target of {100 * target:.0f} % is within reach: the planned actions add up to {100 * planned.estimate:.1f} %.{hedge}"
    if reachable.estimate <= 0:
        return f"No saving towards the target of {100 * target:.0f} % is supported by these logs yet."
    return f"The target of {100 * target:.0f} % is out of reach: these logs support {100 * reachable.estimate:.1f} % at most.{hedge}"


def _team_budgets(
    scope: AnalysisScope, costs: RoutingCosts, drivers: CostDrivers, spend: Measured, saved: Measured
) -> tuple[TeamBudget, ...]:
    """Usual spend of each team times a factor under which all spend together, that of no team included, stays within the planned spend.

    Who saves how much is not known by team, so every team gives the same share; what a tighter configured budget leaves goes to the others,
    up to the headroom.
    """
    by_team = costs.by("team")
    per_plan = DAYS_PER_MONTH / scope.covered_days
    spends: dict[str, float | None] = {}
    for line in by_team.lines if by_team is not None else ():
        if line.group[0] is not None:
            spends[line.group[0]] = line.cost_usd * per_plan if isinstance(line.cost_usd, float) else None
    once = _above_usual(drivers, per_plan)
    usual = {team: max(usd - once.get(team, 0.0), 0.0) for team, usd in spends.items() if usd is not None}
    configured = scope.parameters.budgets_by_team
    reduction = saved.estimate if isinstance(saved, Estimate) else 0.0
    factor = 1 + HEADROOM
    if isinstance(spend, Estimate):
        in_all = spend.estimate - math.fsum((spends[team] or 0.0) - usd for team, usd in usual.items())
        factor = _factor(usual, configured, in_all, spend.estimate * (1 - reduction))
    names = [*spends, *(team for team in sorted(configured) if team not in spends)][:MAX_TEAMS]
    return tuple(_team_budget(team, spends.get(team), usual.get(team), configured.get(team), factor) for team in names)


def _factor(usual: Mapping[str, float], configured: Mapping[str, float], in_all: float, planned: float) -> float:
    """By how much of their usual spend those without a tighter budget of their own can be given, so that all keep to the planned spend."""
    tight: set[str] = set()
    while True:
        left = in_all - math.fsum(usual[team] for team in tight)
        factor = min(1 + HEADROOM, (planned - math.fsum(configured[team] for team in tight)) / left) if left > 0 else 1 + HEADROOM
        found = {team for team, usd in usual.items() if configured.get(team, math.inf) < usd * factor}
        if found <= tight:
            return factor
        tight |= found


def _above_usual(drivers: CostDrivers, per_plan: float) -> dict[str, float]:
    """By team, what it spent in spikes above its usual; over the plan's days."""
    found: dict[str, float] = {}
    for driver in (driver for spike in drivers.spikes for driver in spike.drivers):
        if driver.team is not None:
            found[driver.team] = found.get(driver.team, 0.0) + driver.excess_usd * per_plan
    return found


def _team_budget(team: str, spend: float | None, usual: float | None, budget: float | None, factor: float) -> TeamBudget:
    if spend is None or usual is None:
        return TeamBudget(team=team, budget_usd=budget, why="no spend of this team has a price in the window")
    if usual < ONE_OFF * spend and budget is None:
        return TeamBudget(
            team=team, spend_usd=spend, usual_usd=usual, why="all of its spend was one-off spikes, which tell nothing of what is usual"
        )
    recommended = usual * factor
    if budget is not None and budget < recommended:
        why = "the configured budget is lower and applies"
        return TeamBudget(team=team, spend_usd=spend, usual_usd=usual, budget_usd=budget, recommended_usd=budget, why=why)
    parts = ["its usual spend" if usual >= spend else "its spend without one-off spikes"]
    if factor < 1 and recommended < usual:
        parts.append(f"less {100 * (1 - factor):.1f} % for the planned saving, to be applied as the saving is confirmed")
    elif factor > 1:
        parts.append(f"plus {100 * (factor - 1):.0f} %")
    return TeamBudget(team=team, spend_usd=spend, usual_usd=usual, budget_usd=budget, recommended_usd=recommended, why=", ".join(parts))
