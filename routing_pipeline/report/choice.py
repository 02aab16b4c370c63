"""Pages one and two in short: the options with their rules a line each, why by task, the plan and what to watch.

Belongs here: picking the few rows that whoever decides reads, and their plain words. Does not belong here: the numbers themselves
(`recommendation.offered`, the plans), the sentences around them (`summary`), how they are laid out (`templates/sections/summary.j2`).
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from routing_pipeline import text as wording
from routing_pipeline.estimates import Estimate, Measured
from routing_pipeline.recommendation import kpis
from routing_pipeline.recommendation.kpis import Kpi
from routing_pipeline.recommendation.offered import RoutingOption
from routing_pipeline.recommendation.options import WorstHit
from routing_pipeline.recommendation.plan_item import PlanItem
from routing_pipeline.recommendation.routing_rules import difference_of_quality
from routing_pipeline.report import figures, headlines, rule_sentences
from routing_pipeline.report.model import Report
from routing_pipeline.report.rule_sentences import WORTH_NAMING, Fragment
from routing_pipeline.rules.impact import RuleImpact
from routing_pipeline.rules.model import Rule, RuleSet, When

MOST = 3
"""Options; more than that is no choice but a list."""
RULES_OF_ONE, RULES_OF_EACH = 5, 2
"""Rules that page one tells of an option that stands alone, and of each of several: a column is narrow and the page one sheet."""
TEAMS = 2
"""More are counted: the appendix names them."""
TASK_TYPES = 8
"""Task types of a rule that its line names."""
TASKS = 5
ITEMS = 2
"""Steps of a phase that page two names."""
WATCHED: dict[str, str] = {
    kpis.COST.name: "Cost per request",
    kpis.QUALITY.name: "Quality of answers",
    kpis.LATENCY.name: "Time to answer",
    kpis.COMPLETION.name: "Requests that end well",
}
"""What whoever decides watches, and what it is called there."""


@dataclass(frozen=True)
class Offered:
    """An option as page one shows it."""

    option: RoutingOption
    rules: tuple[str, ...]
    """The first of them, in a line each."""
    more_rules: int
    approve: str | None
    """Command that records an approval; null where nothing was proven."""


def options(report: Report) -> tuple[Offered, ...]:
    """What can be chosen on page one; empty where nothing was found."""
    is_proven = headlines.is_proven(report)
    shown = report.routing_rules.options[:MOST]
    most = RULES_OF_ONE if len(shown) == 1 else RULES_OF_EACH
    return tuple(
        Offered(
            option=each,
            rules=lines(each.rule_set, each.impacts)[:most],
            more_rules=max(len(each.rule_set.rules) - most, 0),
            approve=report.approval_of(each.rule_set) if is_proven else None,
        )
        for each in shown
    )


def has_few_data(report: Report) -> bool:
    """Whether the logs say nothing of other routing: then the report is one page on what is there and what is missing."""
    return report.routing_evidence.refusal is not None


def lines(rule_set: RuleSet, impacts: Sequence[RuleImpact]) -> tuple[str, ...]:
    """Each rule in a line: claude-opus → claude-haiku for chat."""
    known = {impact.rule_id: impact for impact in impacts}
    ordered = sorted(rule_set.rules, key=lambda rule: rule.priority)
    return tuple(rule_sentences.as_text(tuple(_line(rule, known.get(rule.id)))) for rule in ordered)


def _line(rule: Rule, impact: RuleImpact | None) -> Iterator[Fragment]:
    if rule.route == "unchanged":
        yield Fragment("as today")
    else:
        targets = {target.model for target in rule.route}
        today = [] if impact is None else [each for each in impact.today if each.model not in targets and each.weight >= WORTH_NAMING]
        if today:
            yield Fragment(today[0].model, "model")
            yield Fragment(" → " if len(today) == 1 else " and others → ")
        else:
            yield Fragment("→ ")
        for place, target in enumerate(rule.route):
            weight = "" if len(rule.route) == 1 else f"{wording.whole_percent(target.weight)} "
            yield Fragment(f"{', ' if place else ''}{weight}")
            yield Fragment(target.model, "model")
    yield Fragment(" for ")
    yield from _which(rule.when)


def _which(when: When) -> Iterator[Fragment]:
    """Its task types, then the conditions of the sentence that the appendix has."""
    if when.task_type is None:
        yield from rule_sentences.requests(when)
        return
    for place, each in enumerate(when.task_type[:TASK_TYPES]):
        yield Fragment(", " if place else "")
        yield Fragment(each, "name")
    if len(when.task_type) > TASK_TYPES:
        yield Fragment(f" and {len(when.task_type) - TASK_TYPES} more")
    is_long = when.team is not None and len(when.team) > TEAMS
    left = when.model_copy(update={"task_type": None} | ({"team": None} if is_long else {}))
    if left != When():
        rest = rule_sentences.requests(left)
        yield Fragment(rest[0].text.removeprefix("requests"))
        yield from rest[1:]
    if is_long:
        yield Fragment(f" of {len(when.team or ())} teams")


@dataclass(frozen=True)
class TaskLine:
    """Why, for one task type."""

    task_type: str
    spend_share: Measured | float | None
    today: str
    proposed: str
    cost_change: Measured
    quality_change: Measured


def by_task(report: Report) -> tuple[TaskLine, ...]:
    """Task types that the proposal moves, largest spend first."""
    costs = report.routing_costs.by("task_type")
    shares = {line.group[0]: line.share for line in costs.lines} if costs else {}
    order = {name: place for place, name in enumerate(shares)}
    # The task that page one names keeps the range it has there: a table of more figures has wider ones.
    named = report.routing_rules.worst_task
    models = {line.task_type: line for line in figures.selection_matrix(report)}
    moved = [task for task in report.simulation.by_task if task.moved_share > 0]
    found = []
    for task in sorted(moved, key=lambda each: order.get(each.task_type, len(order))):
        line = models.get(task.task_type)
        found.append(
            TaskLine(
                task_type=task.task_type,
                spend_share=shares.get(task.task_type),
                today=line.most_today if line else wording.NONE,
                proposed=line.most_recommended if line else wording.NONE,
                cost_change=task.expected.change.cost_usd.relative,
                quality_change=named.quality_change
                if named and named.task_type == task.task_type
                else difference_of_quality(task.expected),
            )
        )
    return tuple(found[:TASKS])


@dataclass(frozen=True)
class PhaseLine:
    """What happens in one stretch of the plan."""

    timing: str
    steps: tuple[PlanItem, ...]
    more: int


def plan_in_short(report: Report) -> tuple[PhaseLine, ...]:
    """The first steps of each phase; what somebody dismissed is not among them."""
    plan = report.optimization_plan
    items = {item.id: item for item in plan.items}
    dismissed = {each.id for each in report.recommendations if each.state == "dismissed"}
    found = []
    for phase in plan.phases:
        steps = [items[each] for each in phase.items if each not in dismissed]
        found.append(PhaseLine(phase.timing, tuple(steps[:ITEMS]), max(len(steps) - ITEMS, 0)))
    return tuple(found)


def answer_to(report: Report, item: str) -> str:
    """What people made of a recommendation before this report."""
    found = next((each for each in report.recommendations if each.id == item), None)
    if found is None:
        return "open"
    by, because = f" by {found.by}" if found.by else "", f": {found.because}" if found.because else ""
    return f"{'made a ticket' if found.state == 'ticket' else found.state}{by} on {wording.moment(found.at)}{because}"


def watched(report: Report) -> tuple[tuple[str, Kpi], ...]:
    """What to watch, in the order of the monitoring plan."""
    return tuple((WATCHED[kpi.name], kpi) for kpi in report.monitoring_plan.kpis if kpi.name in WATCHED)


def missing(report: Report) -> tuple[str, ...]:
    """What the logs lack and what cannot be said without it."""
    return tuple(f"{source.name.capitalize()}: {source.consequence}" for source in report.scope.sources if not source.present)


def days_more(report: Report) -> str:
    """How long to go on collecting, as far as that is known."""
    more = report.scope.days_to_collect
    if more:
        return f"Collect about {wording.days(more)} more of logs like these, then run the analysis again."
    if not report.scope.requests:
        return "There is no request in this time. Check where the logs are read from, then run the analysis again."
    return "More days alone do not help. First log what is missing below, then run the analysis again."


def worst(report: Report) -> WorstHit | None:
    """The task that the proposed rules cost the most quality; None where none loses."""
    hit = report.routing_rules.worst_task
    is_lost = hit is not None and isinstance(hit.quality_change, Estimate) and hit.quality_change.estimate < 0
    return hit if is_lost else None
