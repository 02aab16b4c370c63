"""Which results of a report become which chart or table row.

Belongs here: handing each chart its results, and picking out the rows of tables. Does not belong here: drawing (`charts`), computing new numbers, wording sentences (`headlines`).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from routing_pipeline.policy.rule_set import Between, Rule, When
from routing_pipeline.recommendation.model_mix import ModelShare
from routing_pipeline.report import wording
from routing_pipeline.report.assembly import Report
from routing_pipeline.report.charts.cost_change import cost_change
from routing_pipeline.report.charts.daily_cost import Step, daily_cost, is_hourly, steps
from routing_pipeline.report.charts.drawing import Chart
from routing_pipeline.report.charts.frontier import frontier
from routing_pipeline.report.charts.latency import latency
from routing_pipeline.report.charts.mix_flow import mix_flow
from routing_pipeline.report.charts.overlap_map import overlap_map
from routing_pipeline.report.charts.peak_hours import peak_hours
from routing_pipeline.report.charts.quality_map import quality_map


@dataclass(frozen=True)
class Figures:
    """The report's charts; None where there is too little to draw."""

    spend: Chart | None
    change: Chart | None
    peaks: Chart | None
    latency: Chart | None
    quality: Chart | None
    frontier: Chart | None
    mix: Chart | None
    overlap: Chart | None


def figures(report: Report) -> Figures:
    """All charts of a report."""
    return Figures(
        spend=daily_cost(report.routing_costs, report.scope, report.cost_drivers, report.bottlenecks, report.quality_issues),
        change=cost_change(report.cost_drivers),
        peaks=peak_hours(report.request_patterns),
        latency=latency(report.model_performance),
        quality=quality_map(report.routing_evidence),
        frontier=frontier(report.tradeoff_frontier),
        mix=mix_flow(report.model_mix),
        overlap=overlap_map(report.routing_evidence),
    )


def spend_points(report: Report) -> tuple[str, list[Step]]:
    """What a step is called, and spend in each step of the window."""
    unit = "hour" if is_hourly(report.routing_costs) else "day"
    return unit, [step for step in steps(report.routing_costs, report.scope) if step.is_inside]


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
