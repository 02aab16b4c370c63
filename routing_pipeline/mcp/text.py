"""An answer in a few lines for people: what the result says first, and where the rest is.

Belongs here: choosing and wording the lines of each tool. Does not belong here: numbers that the result does not hold; its
texts are harmless already (`inert`).
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any

from routing_pipeline.analysis.bottlenecks import Bottlenecks
from routing_pipeline.analysis.cost_drivers import CostDrivers
from routing_pipeline.analysis.model_performance import ModelPerformance
from routing_pipeline.analysis.quality_issues import QualityIssues
from routing_pipeline.analysis.quality_metrics import QualityMetrics
from routing_pipeline.analysis.request_patterns import RequestPatterns
from routing_pipeline.analysis.routing_analytics import RoutingAnalytics
from routing_pipeline.analysis.routing_costs import RoutingCosts
from routing_pipeline.analysis.routing_decisions import RoutingDecisions
from routing_pipeline.estimates import Measured, Result, Unidentifiable
from routing_pipeline.mcp.inert import CLOSE, NOTE, OPEN, harmless_markup
from routing_pipeline.mcp.tools import Question
from routing_pipeline.policy.rule_set import Rule
from routing_pipeline.recommendation.cost_optimization_plan import WEEK_DAYS, CostOptimizationPlan
from routing_pipeline.recommendation.model_mix import ModelMix
from routing_pipeline.recommendation.optimization_plan import OptimizationPlan
from routing_pipeline.recommendation.optimization_risks import OptimizationRisks
from routing_pipeline.recommendation.routing_rules import RoutingRules
from routing_pipeline.report import wording
from routing_pipeline.report.wording import measured
from routing_pipeline.scope import AnalysisScope

SHOWN = 5
LONGEST_LINE = 400

Lines = Iterator[str]


def said(result: Result, scope: AnalysisScope, question: Question, cut: Mapping[str, int]) -> str:
    """The text of one answer, Markdown of short lines; `cut` are lists that the structured content holds in part."""
    window = f"{scope.start:%Y-%m-%d %H:%M} to {scope.end:%Y-%m-%d %H:%M} UTC"
    lines = [f"**{question.tool}**, {scope.timeframe} ({window}), {scope.requests:,} requests"]
    lines += [f"- {_short(line)}" for line in _SAYS[type(result)](result)]
    lines += [f"- Note: {_short(wording.printable(notice))}" for notice in (*scope.notices, *getattr(result, "notices", ()))[:SHOWN]]
    lines += [f"- Left out of `{path}`: {count:,} items" for path, count in cut.items()]
    return harmless_markup("\n".join([*lines, NOTE]))


def _short(line: str) -> str:
    """A line that fits; what was open where it was cut is closed."""
    if len(line) <= LONGEST_LINE:
        return line
    kept = line[:LONGEST_LINE]
    mark = CLOSE if kept.rfind(OPEN) > kept.rfind(CLOSE) else ""
    return kept + "\N{HORIZONTAL ELLIPSIS}" + mark + "`" * (kept.count("`") % 2)


def _name(name: str | None) -> str:
    """A name from logs as code: nothing in it means anything to Markdown. It is short and harmless already."""
    return "(not logged)" if name is None else "`{}`".format(name.replace("`", "'"))


def _names(names: Sequence[str]) -> str:
    return ", ".join(_name(each) for each in names[:SHOWN]) + (f" and {len(names) - SHOWN} more" if len(names) > SHOWN else "")


def _analytics(result: RoutingAnalytics) -> Lines:
    yield f"Success {measured(result.success_rate, wording.percent)}; failure {measured(result.failure_rate, wording.percent)}"
    yield f"Latency p50 {measured(result.latency.p50_ms, wording.ms)}, p95 {measured(result.latency.p95_ms, wording.ms)}"
    yield f"Routing latency p95 {measured(result.routing_latency.p95_ms, wording.ms)}"
    yield (
        f"Retries {measured(result.retry_rate, wording.percent)}, fallbacks {measured(result.fallback_rate, wording.percent)}, "
        f"cache hits {measured(result.cache_hit_rate, wording.percent)}"
    )
    shares = (f"{_name(each.model)} {wording.percent(each.request_share)}" for each in result.models[:SHOWN])
    yield f"Models: {', '.join(shares)}"
    if result.errors:
        yield "Failures: " + ", ".join(f"{_name(each.error_type)} {wording.percent(each.share)}" for each in result.errors[:SHOWN])


def _costs(result: RoutingCosts) -> Lines:
    yield f"Spend {measured(result.total_usd, wording.usd)}; per request {measured(result.per_request_usd, wording.usd)}"
    yield f"Trend: {result.trend.direction}; against the window before {measured(result.trend.change, wording.change)}"
    yield f"Month {result.month.period} ends at {measured(result.month.total_usd, wording.usd)}"
    if result.budget_projection is not None:
        for period in (result.budget_projection.month, result.budget_projection.quarter):
            over = (
                "" if period.chance_over_budget is None else f"; chance to exceed the budget {wording.percent(period.chance_over_budget)}"
            )
            days = f"from {result.budget_projection.history_days} days of spend"
            yield f"{period.period} {days}: {measured(period.total_usd, wording.usd)}{over}"
    for budget in result.budgets[:SHOWN]:
        whose = "the whole budget" if budget.of is None else _name(budget.of)
        yield f"Budget of {whose}: {measured(budget.used, wording.percent)} used; month: {budget.verdict}"
    for grouping in result.groupings:
        shown = (
            f"{' / '.join(_name(each) for each in line.group)} {measured(line.cost_usd, wording.usd, brief=True)}"
            for line in grouping.lines[:SHOWN]
        )
        yield f"By {', '.join(grouping.by)}: {'; '.join(shown)}"


def _quality(result: QualityMetrics) -> Lines:
    overall = result.overall
    yield f"Mean quality {measured(overall.quality, wording.score)} over {overall.labelled:,} scored answers"
    yield f"Corrected for which were scored: {measured(overall.quality_corrected, wording.score)}"
    yield f"Completion {measured(overall.completion, wording.percent)}; users' rating {measured(overall.user_rating, wording.score)}"
    for what, lines in (("model", result.models), ("task type", result.tasks)):
        shown = (f"{_name(line.group)} {measured(line.quality, wording.score, brief=True)}" for line in lines[:SHOWN])
        yield f"By {what}, as they came: {'; '.join(shown)}"
    yield f"Quality against cost: {result.against_cost.explanation}"


def _patterns(result: RequestPatterns) -> Lines:
    for kind in result.kinds[:SHOWN]:
        yield f"{_name(kind.task_type)}, {kind.length}, complexity {kind.complexity}: {wording.percent(kind.share)} of requests"
    peaks = result.peaks
    busiest = "" if peaks.busiest_hour is None else f", busiest {wording.moment(peaks.busiest_hour)}"
    yield f"Peak hours (UTC): {', '.join(map(str, peaks.peak_hours)) or 'none'}{busiest}"
    yield (
        f"Daily pattern {measured(result.seasonality.daily_strength, wording.score)}, "
        f"weekly {measured(result.seasonality.weekly_strength, wording.score)} (0 none, 1 all)"
    )
    if isinstance(result.drift, Unidentifiable):
        yield f"Drift: cannot tell: {result.drift.unidentifiable}"
    else:
        yield "Drift: " + ", ".join(f"{each.dimension} {each.verdict}" for each in result.drift)


def _performance(result: ModelPerformance) -> Lines:
    yield f"{result.contrasts_distinguishable} of {result.contrasts_tested} differences between models are real at a false discovery rate of 5 %"
    for each in result.performances[: 2 * SHOWN]:
        yield (
            f"{_name(each.task_type)} on {_name(each.model)}: adjusted quality {measured(each.quality_adjusted, wording.score, brief=True)}, "
            f"{measured(each.cost_usd_adjusted, wording.usd, brief=True)} per request"
        )
    if result.absent_models:
        yield f"Not in the window: {_names(result.absent_models)}"


def _decisions(result: RoutingDecisions) -> Lines:
    yield (
        f"For {result.goal}: {wording.percent(result.best_share)} of requests went where the evidence says best, "
        f"{wording.percent(result.elsewhere_share)} elsewhere; for {wording.percent(result.undecided_share)} it cannot tell"
    )
    yield f"Regret per request, in {result.goal_unit}: {measured(result.regret_per_request, wording.number)}"
    for each in result.opportunities[:SHOWN]:
        yield f"Missed: {each.label} to {_name(each.model)}, {measured(each.saving_usd, wording.usd)} over the window"
    for rule in result.rules[:SHOWN]:
        yield f"Rule {_name(rule.rule_id)}: {wording.percent(rule.share)} of requests; best alternative {_name(rule.alternative)}"


def _bottlenecks(result: Bottlenecks) -> Lines:
    slow = [rule for rule in result.routing.rules if rule.stands_out]
    yield f"Slow routing decisions: {_names([rule.rule or 'no rule logged' for rule in slow]) or 'no rule stands out'}"
    for each in result.incidents[:SHOWN]:
        yield (
            f"Incident: {_name(each.model)}, {each.kind}, from {wording.moment(each.start)}: "
            f"{each.requests_hit:,} requests hit, {each.requests_lost:,} lost"
        )
    if not result.incidents:
        yield "No incident of availability"
    yield f"Queue ({result.queue.source}): p95 {measured(result.queue.p95, wording.number)}"
    if isinstance(result.latency_spikes, Unidentifiable):
        yield f"Latency spikes: cannot tell: {result.latency_spikes.unidentifiable}"
        return
    for spike in result.latency_spikes.spikes[:SHOWN]:
        yield f"Latency spike: {_name(spike.model)} from {wording.moment(spike.start)}, {wording.number(spike.factor)} times as slow as usual"


def _drivers(result: CostDrivers) -> Lines:
    yield f"Avoidable by cheaper models at the floor ({result.quality_floor}): {measured(result.avoidable_usd, wording.usd)}"
    for each in result.overuse[:SHOWN]:
        yield (
            f"{_name(each.task_type)} on {_name(each.model)}: {wording.usd(each.spend_usd)}; {_name(each.replacement)} would avoid "
            f"{measured(each.avoidable_usd, wording.usd)}"
        )
    for waste in result.waste[:SHOWN]:
        yield f"Waste, {waste.kind.replace('_', ' ')}: {measured(waste.excess_usd, wording.usd)}"
    for spike in result.spikes[:SHOWN]:
        yield f"Spike from {wording.moment(spike.start)}, {spike.hours} h: {measured(spike.excess_usd, wording.usd)} more than usual"
    if not isinstance(result.change, Unidentifiable):
        yield f"Against the window before: {wording.usd(result.change.change_usd)}"


def _issues(result: QualityIssues) -> Lines:
    threshold = "none" if result.threshold is None else wording.score(result.threshold)
    yield f"Below the threshold ({threshold}; {result.threshold_source}): {measured(result.share_below, wording.percent)} of scored answers"
    for low in [each for each in result.low_quality if each.stands_out][:SHOWN]:
        yield f"Stands out: {low.label}, {measured(low.share_below, wording.percent)} below"
    for each in result.mismatches[:SHOWN]:
        yield f"Mismatch: {each.label} on {_name(each.model)} loses {measured(each.loss, wording.score)} against {_name(each.alternative)}"
    for pair in result.incompatibilities[:SHOWN]:
        yield f"Incompatible: {_name(pair.task_type)} on {_name(pair.model)}, {pair.kind} {measured(pair.rate, wording.percent)}"
    for fall in result.degradations[:SHOWN]:
        yield f"Degraded: {_name(fall.model)} from {wording.moment(fall.start)}, {measured(fall.size, wording.points)}"


def _rules(result: RoutingRules) -> Lines:
    rule_set = result.rule_set
    yield f"Rule set `{rule_set.rule_set_id}`: {len(rule_set.rules)} rules, goal {rule_set.goal}"
    yield from result.reasons[:SHOWN]
    yield f"Saving per day: {measured(result.saving_usd_per_day, wording.usd)}; {wording.percent(result.moved_share)} of requests move"
    for rule in rule_set.rules[:SHOWN]:
        yield _rule(rule)
    for conflict in result.conflicts[:SHOWN]:
        yield f"Conflict: {conflict.constraints}; nearest: {conflict.nearest_feasible}"


def _rule(rule: Rule) -> str:
    tasks = _names(rule.when.task_type) if rule.when.task_type else "any task"
    ranges = "".join(
        f", {name.replace('_', ' ')} {between.gte or 0:g} to {'any' if between.lt is None else format(between.lt, 'g')}"
        for name, between in (("complexity", rule.when.complexity), ("prompt_tokens", rule.when.prompt_tokens))
        if between is not None
    )
    to = "unchanged" if rule.route == "unchanged" else _names([target.model for target in rule.route])
    return f"{rule.priority}. {tasks}{ranges} to {to}"


def _mix(result: ModelMix) -> Lines:
    yield result.verdict
    for each in result.shares[:SHOWN]:
        yield f"{_name(each.model)}: {wording.percent(each.now)} now, {wording.percent(each.recommended)} recommended"
    for price in [each for each in result.prices if each.binding][:SHOWN]:
        yield f"{price.constraint}: {price.explanation}"


def _cost_plan(result: CostOptimizationPlan) -> Lines:
    yield result.verdict
    yield f"Target {wording.percent(result.target_reduction)}; planned {measured(result.planned_reduction, wording.percent)}; most {measured(result.reachable_reduction, wording.percent)}"
    for action in result.actions[: 2 * SHOWN]:
        mark = "in the plan" if action.in_plan else "not needed" if action.is_counted else "to be tested"
        yield f"{action.title} ({action.risk} risk, {mark}): {measured(_of_period(action.saving_usd, result), wording.usd)}"
    days = result.days if _knows_a_week(result) else result.window_days
    yield f"Dollars are over {wording.number(days or 0.0)} days at the window's pace; intervals take the number of requests as known"


def _knows_a_week(result: CostOptimizationPlan) -> bool:
    return result.window_days is None or result.window_days >= WEEK_DAYS


def _of_period(saving: Measured, result: CostOptimizationPlan) -> Measured:
    """Over the plan's days, but over the window's own where it is less than a week."""
    if isinstance(saving, Unidentifiable) or result.window_days is None or _knows_a_week(result):
        return saving
    return saving.scaled(result.window_days / result.days)


def _plan(result: OptimizationPlan) -> Lines:
    yield result.verdict
    items = {item.id: item for item in result.items}
    for phase in result.phases:
        titles = [items[each].title for each in phase.items if each in items]
        yield f"Phase {phase.number}, {phase.title} ({phase.timing}): {'; '.join(titles[:SHOWN]) or phase.nothing_because or 'nothing'}"
    if result.approval_needed:
        yield "A stakeholder has to approve it first"


def _risks(result: OptimizationRisks) -> Lines:
    yield f"{result.overall} risk. {result.verdict}"
    for change in result.changes[:SHOWN]:
        chances = ", ".join(
            f"{what} {'cannot tell' if isinstance(chance, Unidentifiable) else wording.chance(chance.probability)}"
            for what, chance in (
                ("quality falls", change.quality_falls),
                ("latency rises", change.latency_rises),
                ("cost rises", change.cost_rises),
            )
        )
        yield f"{change.title}: chances that {chances}; begin with {wording.percent(change.mitigation.canary_share)}"
    for trigger in dict.fromkeys(change.mitigation.rollback_trigger for change in result.changes):
        yield f"Roll back when: {trigger}"
    yield from result.general[:SHOWN]


_SAYS: dict[type[Result], Callable[[Any], Lines]] = {
    RoutingAnalytics: _analytics,
    RoutingCosts: _costs,
    QualityMetrics: _quality,
    RequestPatterns: _patterns,
    ModelPerformance: _performance,
    RoutingDecisions: _decisions,
    Bottlenecks: _bottlenecks,
    CostDrivers: _drivers,
    QualityIssues: _issues,
    RoutingRules: _rules,
    ModelMix: _mix,
    CostOptimizationPlan: _cost_plan,
    OptimizationPlan: _plan,
    OptimizationRisks: _risks,
}
