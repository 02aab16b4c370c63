"""`generate_cost_optimization_plan`: the actions that reach a saving, cheapest risk first, and how far they reach.

Belongs here: turning proven rules and measured waste into actions with a saving each, and adding them up without
counting a dollar twice. Does not belong here: measuring the waste (`analysis.cost_drivers`), proving the rules
(`recommendation.routing_rules`), who does what when (`recommendation.optimization_plan`).
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal

from pydantic import Field

from routing_pipeline.analysis.cost_drivers import CostDrivers, Waste
from routing_pipeline.analysis.routing_costs import RoutingCosts
from routing_pipeline.estimates import Estimate, Measured, Result, Unidentifiable, quantity
from routing_pipeline.policy.rule_set import Grade, Level
from routing_pipeline.recommendation.optimization_risks import risk_of_set
from routing_pipeline.recommendation.routing_rules import RoutingRules
from routing_pipeline.scope import AnalysisScope

PLAN_DAYS = 30
WEEK_DAYS = 6.99
"""A window that holds less knows nothing of the rhythm of a week, so nothing of a month."""
HEADROOM = 0.10
"""What a recommended budget leaves above today's pace."""
MAX_TEAMS = 20
MAX_OVERUSE = 5
RISKS: tuple[Level, ...] = ("Low", "Medium", "High")

ActionCategory = Literal["rules", "retries", "cache", "prompt_length", "budgets"]
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
    """A monthly budget for one team, from what it spends at today's pace."""

    team: str
    spend_usd: float | None = quantity("30 days at the window's pace; null when unpriced", "USD", default=None)
    budget_usd: float | None = quantity("Configured, per month; null when none is", "USD", default=None)
    recommended_usd: float | None = quantity("Recommended for 30 days; null when there is no spend to go by", "USD", default=None)
    why: str


class CostOptimizationPlan(Result):
    """The answer to `generate_cost_optimization_plan`."""

    days: int = quantity("Length of the plan", "days", default=PLAN_DAYS)
    window_days: float | None = quantity(
        "Length of the window whose pace is taken for all of `days`; below 7 it knows no weekly rhythm. Null in plans of earlier versions",
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
    found = [*_rules_actions(scope, rules, drivers), *_waste_actions(scope, drivers), *_budget_actions(scope, drivers)]
    actions = _in_order(found, spend, target)
    counted = [action for action in actions if action.is_counted]
    planned = _together([action for action in counted if action.in_plan], spend)
    reachable = _together(counted, spend)
    target_usd = spend.estimate * target if isinstance(spend, Estimate) else None
    reach = _reach(reachable, target)
    plan_share, reachable_share = _of(planned, spend), _of(reachable, spend)
    return CostOptimizationPlan(
        window_days=scope.days,
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
        budgets=_team_budgets(scope, costs),
    )


def _spend(scope: AnalysisScope, costs: RoutingCosts) -> Measured:
    """Total of the window at its own pace over 30 days; relative width as that of the cost per request."""
    if isinstance(costs.total_usd, Unidentifiable):
        return costs.total_usd
    if isinstance(costs.per_request_usd, Unidentifiable):
        return costs.per_request_usd
    if costs.per_request_usd.estimate <= 0 or costs.total_usd <= 0 or scope.days <= 0:
        return Unidentifiable(unidentifiable="the window holds no spend; check that costs are logged")
    return costs.per_request_usd.scaled(costs.total_usd * PLAN_DAYS / scope.days / costs.per_request_usd.estimate)


class _Found(Result):
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


def _rules_actions(scope: AnalysisScope, rules: RoutingRules, drivers: CostDrivers) -> list[_Found]:
    found = rules.rule_set.rules
    if found:
        saving = rules.saving_usd_per_day
        grade = _grade(rules)
        return [
            _Found(
                id="rules",
                category="rules",
                title=f"Route by the {len(found)} proven rules" if grade == "A" else f"A/B test the {len(found)} proposed rules",
                what=f"Carry rules.json over into the gateway's routing, in canary steps; {100 * rules.moved_share:.0f} % of requests move.",
                saving_usd=saving if isinstance(saving, Unidentifiable) else saving.scaled(PLAN_DAYS),
                risk=risk_of_set(scope, rules)[0],
                basis=f"Proven on sessions that the search never saw; evidence of grade {grade}.",
            )
        ]
    return [
        _Found(
            id=f"overuse-{place}",
            category="rules",
            title=f"Test {overuse.replacement} in place of {overuse.model} for {overuse.task_type}",
            what=f"A/B test on the {overuse.requests:,} requests of the window where {overuse.replacement} looks good enough.",
            saving_usd=_per_plan(overuse.avoidable_usd, scope),
            risk="High",
            basis="A hypothesis: it looks so in these logs, and no rule survived the proof. It does not count towards the target.",
            is_counted=False,
        )
        for place, overuse in enumerate(drivers.overuse[:MAX_OVERUSE], 1)
    ]


def _per_plan(window_usd: Measured, scope: AnalysisScope) -> Measured:
    """Dollars of the window at its own pace over 30 days."""
    return window_usd if isinstance(window_usd, Unidentifiable) else window_usd.scaled(PLAN_DAYS / scope.days)


_WASTE: dict[str, tuple[ActionCategory, str, str, Level]] = {
    "failed_paid_attempts": (
        "retries",
        "Stop paying for calls that fail",
        "Shorter timeouts, no retry on errors that a retry cannot mend, and a model that is down taken out of rotation.",
        "Low",
    ),
    "retries": (
        "retries",
        "Cap retries",
        "At most one retry per request, with a pause; then the fallback.",
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
        "Cache what is asked again",
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


def _waste_actions(scope: AnalysisScope, drivers: CostDrivers) -> list[_Found]:
    return [_waste_action(scope, waste) for waste in drivers.waste if _is_there(waste)]


def _is_there(waste: Waste) -> bool:
    return isinstance(waste.excess_usd, Unidentifiable) or waste.excess_usd.estimate > 0


def _waste_action(scope: AnalysisScope, waste: Waste) -> _Found:
    category, title, what, risk = _WASTE[waste.kind]
    saving = _per_plan(waste.excess_usd, scope)
    return _Found(
        id=waste.kind,
        category=category,
        title=title,
        what=what,
        saving_usd=saving,
        risk=risk,
        basis=waste.explanation,
        is_counted=isinstance(saving, Estimate),
    )


def _budget_actions(scope: AnalysisScope, drivers: CostDrivers) -> list[_Found]:
    found: list[_Found] = []
    if drivers.spikes:
        excess: list[Estimate] = [spike.excess_usd for spike in drivers.spikes if isinstance(spike.excess_usd, Estimate)]
        total = Estimate(
            estimate=sum(each.estimate for each in excess),
            low=max(sum(each.low for each in excess), 0.0),
            high=sum(each.high for each in excess),
        )
        teams = sorted({driver.team or "unknown" for spike in drivers.spikes for driver in spike.drivers[:1]})
        found.append(
            _Found(
                id="hourly_cap",
                category="budgets",
                title="Cap hourly spend per team",
                what=f"An hourly budget in the gateway for {', '.join(teams[:3]) or 'every team'}, so that a runaway job stops itself.",
                saving_usd=_per_plan(total, scope) if excess else Unidentifiable(unidentifiable="the excess of the spikes is unknown"),
                risk="Medium",
                basis=f"Spend above the usual of the same hours in {len(drivers.spikes)} spike{'s' if len(drivers.spikes) > 1 else ''}, as if later weeks had as many.",
                is_counted=bool(excess),
            )
        )
    breached = [budget for budget in drivers.budgets if budget.breached and budget.of != "total"]
    if breached:
        over = sum(budget.spend_usd - budget.allowed_usd for budget in breached)
        found.append(
            _Found(
                id="team_budgets",
                category="budgets",
                title="Hold teams to their budgets",
                what=f"Enforce the configured budgets of {', '.join(budget.of for budget in breached[:5])} in the gateway.",
                saving_usd=_per_plan(Estimate(estimate=over, low=0.0, high=over), scope),
                risk="High",
                basis="Spend above budget, at most; the low end is none, should teams raise their budgets instead. Requests beyond it are refused or queued, so this is the dearest saving for users.",
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


def _in_order(found: Sequence[_Found], spend: Measured, target: float) -> tuple[CostAction, ...]:
    """Cheapest risk first, then the larger saving; in the plan until the target is reached."""

    def place(action: _Found) -> tuple[bool, int, float, str]:
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
        return spend if isinstance(spend, Unidentifiable) else Unidentifiable(unidentifiable="no saving can be told")
    return Estimate(estimate=share[1], low=share[0], high=share[2])


def _in_usd(share: Shares | None, spend: Measured) -> Measured:
    told = _of(share, spend)
    return told.scaled(spend.estimate) if isinstance(told, Estimate) and isinstance(spend, Estimate) else told


def _reach(reachable: Shares | None, target: float) -> Reach:
    if reachable is None:
        return "cannot_tell"
    return "reached" if reachable[1] >= target else "out_of_reach"


def _verdict(reach: Reach, target: float, planned: Measured, reachable: Measured, grade: Grade) -> str:
    if reach == "cannot_tell" or isinstance(planned, Unidentifiable) or isinstance(reachable, Unidentifiable):
        return f"Whether {100 * target:.0f} % can be saved cannot be told: spend is unknown."
    hedge = "" if grade == "A" else f" The rules' part is worth an A/B test, not yet a promise (evidence of grade {grade})."
    if reach == "reached":
        return f"The target of {100 * target:.0f} % is within reach: the planned actions come to {100 * planned.estimate:.1f} %.{hedge}"
    if reachable.estimate <= 0:
        return f"No saving towards the target of {100 * target:.0f} % is supported by these logs yet."
    return f"The target of {100 * target:.0f} % is out of reach: these logs support {100 * reachable.estimate:.1f} % at most.{hedge}"


def _team_budgets(scope: AnalysisScope, costs: RoutingCosts) -> tuple[TeamBudget, ...]:
    by_team = costs.by("team")
    spends: dict[str, float | None] = {}
    for line in by_team.lines if by_team is not None else ():
        if line.group[0] is not None:
            spends[line.group[0]] = line.cost_usd * PLAN_DAYS / scope.days if isinstance(line.cost_usd, float) else None
    configured = scope.parameters.budgets_by_team
    names = [*spends, *(team for team in sorted(configured) if team not in spends)][:MAX_TEAMS]
    return tuple(_team_budget(team, spends.get(team), configured.get(team)) for team in names)


def _team_budget(team: str, spend: float | None, budget: float | None) -> TeamBudget:
    """What the plan saves falls unevenly on teams; a budget is lowered when a team's spend shows it, not before."""
    if spend is None:
        return TeamBudget(team=team, budget_usd=budget, why="no spend of this team is priced in the window")
    pace = spend * (1 + HEADROOM)
    if budget is not None and budget < pace:
        why = "the configured budget is tighter than today's pace and stays"
        return TeamBudget(team=team, spend_usd=spend, budget_usd=budget, recommended_usd=budget, why=why)
    why = f"today's pace plus {100 * HEADROOM:.0f} %; lower it as the plan's saving shows"
    return TeamBudget(team=team, spend_usd=spend, budget_usd=budget, recommended_usd=pace, why=why)
