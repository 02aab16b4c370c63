"""The period that a dollar in the report speaks of: the window that was analysed, and a month only where the logs can tell of one.

Belongs here: results over 30 days brought back to the window's own length, and the sentences on a month. Does not belong here:
projecting (`analysis.budget_projection`), where a figure is printed (`page_one`, `headlines`, the templates).

Spend is counted in the window, so a saving is printed for the same window: one is part of the other. 30 days at the window's
pace is arithmetic and not an estimate; an interval around it would be that of the requests measured, as if their number were known.
"""

from __future__ import annotations

from routing_pipeline.analysis.budget_projection import PeriodProjection
from routing_pipeline.estimates import Estimate, Measured, Unidentifiable
from routing_pipeline.recommendation.cost_optimization_plan import PLAN_DAYS, WEEK_DAYS
from routing_pipeline.report import wording
from routing_pipeline.report.assembly import Report

WHAT_INTERVALS_COVER = "They speak of the window's requests, not of how many later weeks bring."


def span(days: float) -> str:
    """7 days, or 24 hours where it is less than two days."""
    if days >= 2:
        return wording.days(days)
    hours = wording.number(round(days * 24, 1))
    return f"{hours} hour{'' if hours == '1' else 's'}"


def in_window(report: Report, over_plan: Measured) -> Measured:
    """What stands in report.json over 30 days at the window's pace, for the window itself."""
    return over_plan if isinstance(over_plan, Unidentifiable) else over_plan.scaled(report.scope.days / PLAN_DAYS)


def saving(report: Report) -> Measured:
    """Dollars that the rules would have saved in the window, of those that were spent in it."""
    rules = report.routing_rules
    if not rules.rule_set.rules:
        return Estimate(estimate=0.0, low=0.0, high=0.0)
    per_day = rules.saving_usd_per_day
    return per_day if isinstance(per_day, Unidentifiable) else per_day.scaled(report.scope.days)


def month(report: Report) -> PeriodProjection | None:
    """The projection of the month, where it speaks of the same requests as the report."""
    projection = report.budget_projection
    return None if projection is None or report.scope.parameters.task_types else projection.month


def month_spend(report: Report) -> str | None:
    """What the calendar month comes to, or why that cannot be told."""
    found = month(report)
    if found is None:
        return _why_no_month(report)
    if isinstance(found.total_usd, Unidentifiable):
        return f"{_named(found)} cannot be told yet: {wording.name(found.total_usd.unidentifiable, wording.LONGEST_TEXT)}."
    return f"{_named(found)} comes to {wording.plainly(found.total_usd, wording.usd)} if routing stays as it is."


def month_saving(report: Report, share: Measured) -> str | None:
    """What a saving of this share comes to in such a month; each end of the interval takes both at their worst, or both at their best."""
    found = month(report)
    if found is None or isinstance(found.total_usd, Unidentifiable) or isinstance(share, Unidentifiable) or share.estimate <= 0:
        return None
    total = found.total_usd
    ends = sorted(one * other for one in (share.low, share.high) for other in (total.low, total.high))
    saved = Estimate(estimate=share.estimate * total.estimate, low=ends[0], high=ends[-1])
    return f"Of a whole month like {_named(found)} that share would be {wording.plainly(saved, wording.usd)}."


def _named(period: PeriodProjection) -> str:
    return f"{period.start:%B %Y}"


def _why_no_month(report: Report) -> str | None:
    days = report.scope.days
    return f"What a month comes to cannot be told: the window holds {span(days)}, less than a week." if days < WEEK_DAYS else None


def plan_period(report: Report) -> str:
    """What 30 days at the window's pace come to, as the arithmetic that it is; for less than a week it is not done."""
    plan = report.cost_optimization_plan
    if report.scope.days < WEEK_DAYS:
        return f"{wording.CANNOT_TELL}: the window holds {span(report.scope.days)}, less than a full week"
    if isinstance(plan.spend_usd, Unidentifiable):
        return f"{wording.CANNOT_TELL}: {wording.name(plan.spend_usd.unidentifiable, wording.LONGEST_TEXT)}"
    told = f"{wording.usd(plan.spend_usd.estimate)} of spend"
    if isinstance(plan.planned_saving_usd, Estimate):
        told += f", {wording.usd(plan.planned_saving_usd.estimate)} of planned saving"
    return f"{told}, were every day like the window's mean day; so many requests are taken as given, hence no interval"


def knows_a_week(report: Report) -> bool:
    """Whether the window holds every day of the week."""
    return report.scope.days >= WEEK_DAYS
