"""Which numbers of a report become which chart or table row.

Belongs here: picking finished numbers out of the results and putting them side by side. Does not belong here: drawing
(`charts`), computing new numbers, wording sentences (`headlines`).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from routing_pipeline.analysis.request_patterns import RequestPatterns
from routing_pipeline.analysis.routing_costs import RoutingCosts
from routing_pipeline.estimates import Estimate
from routing_pipeline.policy.rule_set import Between, Rule, When
from routing_pipeline.recommendation.model_mix import ModelMix, ModelShare
from routing_pipeline.recommendation.tradeoff_frontier import FrontierPoint, TradeoffFrontier
from routing_pipeline.report import charts, wording
from routing_pipeline.report.assembly import Report
from routing_pipeline.scope import AnalysisScope

MAX_POINTS = 60
HOURS_SHOWN_ONE_BY_ONE = 48
SECONDS_PER_HOUR = 3_600


@dataclass(frozen=True)
class Figures:
    """The report's charts; None where there is too little to draw."""

    spend: charts.Chart | None
    frontier: charts.Chart | None
    mix: charts.Chart | None
    peaks: charts.Chart | None


def figures(report: Report) -> Figures:
    """All charts of a report."""
    return Figures(
        spend=spend(report.routing_costs, report.scope),
        frontier=frontier(report.tradeoff_frontier),
        mix=mix(report.model_mix),
        peaks=peaks(report.request_patterns),
    )


def spend(costs: RoutingCosts, scope: AnalysisScope) -> charts.Chart | None:
    """Cost over time."""
    step, points = spend_points(costs, scope)
    return charts.spend_over_time(points, step)


def spend_points(costs: RoutingCosts, scope: AnalysisScope) -> tuple[str, list[charts.SpendPoint]]:
    """Spend per hour of a short window, per UTC day of a long one."""
    if len(costs.hours) <= HOURS_SHOWN_ONE_BY_ONE:
        return "hour", [charts.SpendPoint(f"{hour.hour:%a %H:%M}", hour.hour.timestamp(), hour.cost_usd) for hour in costs.hours]
    inside = [day for day in costs.days if scope.start.date() <= day.day <= scope.end.date()]
    return "day", [
        charts.SpendPoint(
            f"{day.day:%a} {day.day.day} {day.day:%b}" + ("" if day.complete else " *"), day.day.toordinal() * 86_400.0, day.cost_usd
        )
        for day in inside
        if day.cost_usd > 0 or day.complete
    ]


def mix(found: ModelMix) -> charts.Chart | None:
    """Share of requests per model, now and proposed."""
    return charts.model_mix([charts.MixBar(share.model, share.now, share.recommended) for share in found.shares])


def peaks(patterns: RequestPatterns) -> charts.Chart | None:
    """Requests per hour, 168 hours of the week; an hour that no log covers counts as none."""
    by_hour = {cell.hour_of_week: cell.per_hour for cell in patterns.heat_map}
    found = [by_hour.get(hour, 0.0) for hour in range(168)]
    return charts.peak_heat_map([value if isinstance(value, float) else 0.0 for value in found])


def frontier(found: TradeoffFrontier) -> charts.Chart | None:
    """The frontier with today, the proposal and single models."""
    named = [(point, kind) for point, kind in ((found.today, "today"), (found.proposed, "proposed")) if point is not None]
    shown = [(point, "frontier") for point in found.points[:MAX_POINTS] if point.kind == "policy"]
    shown += [(point, "single") for point in found.single_models[:12]]
    drawn = (_drawn(point, kind) for point, kind in (*shown, *named))
    return charts.frontier([point for point in drawn if point is not None])


def _drawn(point: FrontierPoint, kind: str) -> charts.FrontierPoint | None:
    if not isinstance(point.cost_usd, Estimate) or not isinstance(point.quality, Estimate):
        return None
    return charts.FrontierPoint({"today": "Today", "proposed": "Proposed"}.get(kind, point.label), kind, point.cost_usd, point.quality)


@dataclass(frozen=True)
class TaskChoice:
    """One line of the model selection matrix."""

    task_type: str
    requests: int
    today: tuple[str, ...]
    recommended: tuple[str, ...]
    changes: bool
    rules: tuple[str, ...]


def selection_matrix(report: Report) -> tuple[TaskChoice, ...]:
    """Task type to models, today and recommended."""
    return tuple(
        TaskChoice(
            task_type=task.task_type,
            requests=task.requests,
            today=_models([(share.model, share.now) for share in task.shares]),
            recommended=_models([(share.model, share.recommended) for share in task.shares]),
            changes=any(_moves(share) for share in task.shares),
            rules=tuple(
                rule.id for rule in report.routing_rule_set.rules if rule.when.task_type is None or task.task_type in rule.when.task_type
            ),
        )
        for task in report.model_mix.by_task
    )


def _moves(share: ModelShare) -> bool:
    return abs(share.recommended - share.now) >= 0.005


def _models(shares: Sequence[tuple[str, float]]) -> tuple[str, ...]:
    """Models with at least a twentieth of the traffic and their shares, largest first."""
    largest = sorted((each for each in shares if each[1] >= 0.05), key=lambda each: (-each[1], each[0]))
    return tuple(f"{wording.name(model)} {100 * share:.0f} %" for model, share in largest[:4]) or (wording.NONE,)


def condition(when: When) -> str:
    """A rule's conditions in words."""
    told = [
        f"{label} {wording.listed(values, 4)}"
        for label, values in (("task type", when.task_type), ("team", when.team), ("tier", when.tier))
        if values is not None
    ]
    if when.complexity is not None:
        told.append(f"complexity {_range(when.complexity)}")
    if when.prompt_tokens is not None:
        told.append(f"prompt {_range(when.prompt_tokens)} tokens")
    return "; ".join(told) or "any request"


def _range(between: Between) -> str:
    if between.gte is not None and between.lt is not None:
        return f"{between.gte:,g} to below {between.lt:,g}"
    if between.gte is not None:
        return f"from {between.gte:,g}"
    return f"below {between.lt:,g}" if between.lt is not None else "logged"


def route(rule: Rule) -> str:
    """Where a rule sends its requests, in words."""
    if rule.route == "unchanged":
        return "unchanged"
    if len(rule.route) == 1:
        return wording.name(rule.route[0].model)
    return ", ".join(f"{wording.name(target.model)} {wording.percent(target.weight)}" for target in rule.route)
