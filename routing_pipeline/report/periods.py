"""The period that a dollar in the report speaks of: the window as far as the logs cover it, and a month only where they can tell of one.

Belongs here: results over 30 days brought back to the window, the sentences on a month and on its budget, the same on every
face, and which part of the spend is on chat, of which alone anything can be saved. Does not belong here: projecting (`analysis.budget_projection`), where a figure is printed (`summary`, `headlines`, the templates).

Spend is counted in the window, so a saving is printed for the same window: one is part of the other. 30 days at the window's
pace is arithmetic and not an estimate; an interval around it would be that of the requests measured, as if their number were known.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING

from routing_pipeline import text
from routing_pipeline.analysis.budget_projection import PeriodProjection, UnknownBudget
from routing_pipeline.clock import DAYS_PER_MONTH
from routing_pipeline.estimates import Estimate, Measured, Unidentifiable
from routing_pipeline.window.scope import AnalysisScope

if TYPE_CHECKING:
    from routing_pipeline.report.model import Report

WHAT_INTERVALS_COVER = "They cover this window, not later weeks."
WORTH_TELLING = 0.98
"""Share of the window from which the logs count as covering it, where a sentence says how long it is."""


def length(days: float) -> str:
    """7 days, or 24 hours where it is less than two days."""
    if days >= 2:
        return text.days(days)
    hours = text.terse(days * 24)
    return f"{hours} hour{'' if hours == '1' else 's'}"


def span(scope: AnalysisScope) -> str:
    """The time that figures of the window speak of: what the logs cover of it."""
    return length(scope.covered_days)


def shortfall(scope: AnalysisScope) -> str | None:
    """That the window is longer than what the logs cover of it; None where they cover it."""
    if scope.covered_days >= WORTH_TELLING * scope.days:
        return None
    return f"The logs cover {length(scope.covered_days)} of the {length(scope.days)} requested."


def in_window(report: Report, over_plan: Measured) -> Measured:
    """What stands in report.json over 30 days at the window's pace, for the window itself."""
    return over_plan if isinstance(over_plan, Unidentifiable) else over_plan.scaled(report.scope.covered_days / DAYS_PER_MONTH)


def saving(report: Report) -> Measured:
    """Dollars that the rules would have saved in the window, of those that were spent in it."""
    rules = report.routing_rules
    if not rules.rule_set.rules:
        return Estimate(estimate=0.0, low=0.0, high=0.0)
    per_day = rules.saving_usd_per_day
    return per_day if isinstance(per_day, Unidentifiable) else per_day.scaled(report.scope.covered_days)


def on_chat(report: Report) -> str:
    """What a figure on requests is to be called where other kinds of call are logged beside them."""
    return " on chat" if report.scope.other_calls else ""


def month(report: Report) -> PeriodProjection | None:
    """The projection of the month, where it speaks of the same requests as the report."""
    projection = report.budget_projection
    return None if projection is None or report.scope.parameters.task_types else projection.month


def by_the_month(report: Report) -> Iterator[str]:
    """What whoever plans by the month gets: the run rate, called so, and the forecast where there is one."""
    spend = report.cost_optimization_plan.spend_usd
    if not report.scope.knows_a_week:
        yield f"No figure for a month: the logs cover {span(report.scope)}, less than a week."
    elif isinstance(spend, Estimate):
        yield f"Run rate: {text.usd(spend.estimate)} a month of {DAYS_PER_MONTH} days{on_chat(report)}. That is these days' pace, not a forecast."
    found = month(report)
    if found is not None and isinstance(found.total_usd, Estimate):
        yield f"Forecast: {named(found)} comes to {text.plainly(found.total_usd, text.usd)} if routing stays as it is."


def budget_use(month: PeriodProjection) -> str | None:
    """How much of a month's budget is used, named as what it is, and whether it will be kept; None without a budget."""
    if month.budget_usd is None or month.used is None:
        return None
    budget, used = text.usd(month.budget_usd), text.measured(month.used, text.percent)
    if isinstance(month.used, Unidentifiable):
        return f"Share of {budget} used: {used}."
    if month.used_is == "rate":
        covered, rate = text.days(month.observed_days), text.measured(month.usd_per_day, text.usd)
        sentence = f"At {rate} a day, the rate of the {covered} of {named(month)} that the logs cover, a month uses {used} of {budget}."
    else:
        gone = text.percent(month.elapsed_days / max((month.end - month.start).days, 1))
        sentence = f"{used} of {budget} is spent, {gone} of {named(month)} is over."
    if month.chance_over_budget is not None:
        sentence += f" The chance to exceed it is {text.chance(month.chance_over_budget)}."
    return f"{sentence} {_VERDICTS[month.verdict or 'cannot tell']}"


def _in_quotes(name: str) -> str:
    return f"'{text.name(name)}'"


def unknown_budget(budget: UnknownBudget, named: Callable[[str], str] = _in_quotes) -> str:
    """That a budget's name is in no request, so that nothing is held against it, and which name may have been meant."""
    carries = "names the team" if budget.kind == "team" else "was answered by a model of tier"
    near = "." if budget.nearest is None else f"; did you mean {named(budget.nearest)}?"
    per_month = text.usd(budget.budget_usd_per_month)
    return f"No request {carries} {named(budget.of)}, so nothing is held against its budget of {per_month} a month{near}"


_VERDICTS = {
    "over budget": "The budget will be exceeded.",
    "within budget": "Spend stays within the budget if routing does not change.",
    "cannot tell": "Whether the budget is enough is not known yet.",
}


def named(period: PeriodProjection) -> str:
    """November 2026."""
    return f"{period.start:%B %Y}"


def plan_period(report: Report) -> str:
    """What 30 days at the window's pace come to, as the arithmetic that it is; for less than a week it is not done."""
    plan = report.cost_optimization_plan
    if not report.scope.knows_a_week:
        return f"{text.CANNOT_TELL}: the logs cover {span(report.scope)}, less than a full week"
    if isinstance(plan.spend_usd, Unidentifiable):
        return f"{text.CANNOT_TELL}: {text.name(plan.spend_usd.unidentifiable, text.LONGEST_TEXT)}"
    sentence = f"{text.usd(plan.spend_usd.estimate)} of spend"
    if isinstance(plan.planned_saving_usd, Estimate):
        sentence += f", {text.usd(plan.planned_saving_usd.estimate)} of planned saving"
    return f"{sentence}, if every day were like the average logged day. There is no interval because the number of requests is assumed"
