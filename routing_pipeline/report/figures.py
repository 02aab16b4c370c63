"""Which results of a report become which chart or table row.

Belongs here: handing each chart its results, and picking out the rows of tables. Does not belong here: drawing (`charts`), computing new numbers, wording sentences (`headlines`).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from datetime import UTC, datetime

from routing_pipeline import text
from routing_pipeline.estimates import Estimate
from routing_pipeline.recommendation.model_mix import ModelShare
from routing_pipeline.recommendation.offered import RoutingOption
from routing_pipeline.recommendation.tradeoff_frontier import FrontierPoint, TradeoffFrontier
from routing_pipeline.report.charts.cell_map import overlap_map, quality_map
from routing_pipeline.report.charts.choice import choice as choice_picture
from routing_pipeline.report.charts.cost_change import cost_change
from routing_pipeline.report.charts.daily_cost import Step, daily_cost, is_cut, is_hourly, steps
from routing_pipeline.report.charts.drawing import Chart
from routing_pipeline.report.charts.frontier import frontier
from routing_pipeline.report.charts.latency import latency
from routing_pipeline.report.charts.mix_flow import mix_flow
from routing_pipeline.report.charts.peak_hours import peak_hours
from routing_pipeline.report.model import Report
from routing_pipeline.rules.model import NEEDS_IN_WORDS, Between, Rule, When


@dataclass(frozen=True)
class Figures:
    """The report's charts; None where there is too little to draw."""

    choice: Chart | None
    spend: Chart | None
    change: Chart | None
    peaks: Chart | None
    latency: Chart | None
    quality: Chart | None
    frontier: Chart | None
    mix: Chart | None
    overlap: Chart | None


def figures(report: Report, options: Sequence[RoutingOption] = ()) -> Figures:
    """All charts of a report; `options` are what page one offers."""
    return Figures(
        choice=choice_picture(report.tradeoff_frontier, options),
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
    """What a step is called, and spend in each step of the window; of a day that the window cuts, what lies in it, and a star."""
    costs, scope = report.routing_costs, report.scope
    inside = [step for step in steps(costs, scope) if step.is_inside]
    by_day = costs.by("day")
    if is_hourly(costs) or by_day is None:
        return "hour" if is_hourly(costs) else "day", inside
    spent = {str(line.group[0]): line.cost_usd for line in by_day.lines}

    def own(step: Step) -> Step:
        usd = spent.get(f"{datetime.fromtimestamp(step.start_s, UTC):%Y-%m-%d}")
        return replace(step, spend_usd=usd if isinstance(usd, float) else 0.0, label=f"{step.label.removesuffix(' *')} *")

    return "day", [own(step) if is_cut(step, scope) else step for step in inside]


def trade_offs(found: TradeoffFrontier) -> tuple[FrontierPoint, ...]:
    """What the frontier's policies are compared with: today, the proposal, every single model that can be judged, a random mix."""
    best = found.best_single_model
    singles = [each for each in found.single_models if isinstance(each.cost_usd, Estimate) and isinstance(each.quality, Estimate)]
    if best is not None:
        named = best.model_copy(update={"label": f"Best single model: {best.label}"})
        singles = [named, *(each for each in singles if each != best)]
    return tuple(each for each in (found.today, found.proposed, *singles, found.random_mix) if each is not None)


@dataclass(frozen=True)
class TaskChoice:
    """One line of the model selection matrix."""

    task_type: str
    requests: int
    today: tuple[str, ...]
    recommended: tuple[str, ...]
    most_today: str
    """The model that most of its requests go to."""
    most_recommended: str
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
            most_today=_most([(share.model, share.now) for share in task.shares]),
            most_recommended=_most([(share.model, share.recommended) for share in task.shares]),
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
    return tuple(f"{text.name(model)} {100 * share:.0f} %" for model, share in largest[:2]) or (text.NONE,)


def _most(shares: Sequence[tuple[str, float]]) -> str:
    return min(shares, key=lambda each: (-each[1], each[0]))[0] if shares else text.NONE


def condition(when: When) -> str:
    """A rule's conditions in words."""
    parts = [
        f"{label} {text.listed(values, 4)}"
        for label, values in (("task type", when.task_type), ("team", when.team), ("tier", when.tier))
        if values is not None
    ]
    if when.complexity is not None:
        parts.append(f"complexity {_range(when.complexity)}")
    if when.prompt_tokens is not None:
        parts.append(f"prompt {_range(when.prompt_tokens)} tokens")
    needs = ((said, getattr(when, name)) for name, said in NEEDS_IN_WORDS.items())
    parts += [f"{'with' if holds else 'without'} {said}" for said, holds in needs if holds is not None]
    return "; ".join(parts) or "any request"


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
        return text.name(rule.route[0].model)
    return ", ".join(f"{text.name(target.model)} {text.percent(target.weight)}" for target in rule.route)
