"""An answer in a few lines for people: what the result says first, and where the rest is.

Belongs here: choosing and wording the lines of each tool. Does not belong here: numbers that the result does not hold; its
texts are harmless already (`mark_untrusted`).
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from datetime import datetime
from typing import Any

from routing_pipeline import text
from routing_pipeline.alerts.examination import FACTORS, shown
from routing_pipeline.analysis.bottlenecks import Bottlenecks
from routing_pipeline.analysis.cost_drivers import CostDrivers
from routing_pipeline.analysis.model_performance import ModelPerformance
from routing_pipeline.analysis.quality_issues import QualityIssues
from routing_pipeline.analysis.quality_metrics import QualityMetrics
from routing_pipeline.analysis.request_patterns import RequestPatterns
from routing_pipeline.analysis.routing_analytics import RoutingAnalytics
from routing_pipeline.analysis.routing_costs import RoutingCosts
from routing_pipeline.analysis.routing_decisions import RoutingDecisions
from routing_pipeline.analysis.rule_effects import RuleEffect
from routing_pipeline.analysis.unit_costs import UnitCosts
from routing_pipeline.data_quality import feedback_lines
from routing_pipeline.estimates import Measured, Result, Unidentifiable
from routing_pipeline.ingest.feedback_totals import FeedbackTotals
from routing_pipeline.recommendation.cost_optimization_plan import CostOptimizationPlan
from routing_pipeline.recommendation.model_mix import ModelMix
from routing_pipeline.recommendation.optimization_plan import OptimizationPlan
from routing_pipeline.recommendation.optimization_risks import OptimizationRisks
from routing_pipeline.recommendation.routing_rules import RoutingRules
from routing_pipeline.report import periods
from routing_pipeline.rules.model import NEEDS_IN_WORDS, Rule
from routing_pipeline.serving.mcp.tools import Question
from routing_pipeline.serving.mcp.untrusted import CLOSE, NOTE, OPEN, harmless_markup, marked
from routing_pipeline.text import measured
from routing_pipeline.window.scope import WEEK_DAYS, AnalysisScope

SHOWN = 5
LONGEST_LINE = 400

Lines = Iterator[str]


def said(
    result: Result,
    scope: AnalysisScope,
    question: Question,
    cut: Mapping[str, int],
    incidents: Sequence[Mapping[str, Any]] = (),
    further: Sequence[str] = (),
) -> str:
    """The text of one answer, Markdown of short lines.

    `cut` are lists that the structured content holds in part, `incidents` what stood out of the window's hours, harmless already,
    `further` lines about what the result itself does not hold.
    """
    window = f"{scope.start:%Y-%m-%d %H:%M} to {scope.end:%Y-%m-%d %H:%M} UTC"
    lines = [f"**{question.tool}**, {scope.timeframe} ({window}), {text.counted(scope.requests, 'request')}"]
    lines += [f"- {_short(_incident(each))}" for each in incidents]
    lines += [f"- {_short(line)}" for line in (*_SAYS[type(result)](result), *further)]
    lines += [f"- Note: {_short(text.printable(notice))}" for notice in (*scope.notices, *getattr(result, "notices", ()))[:SHOWN]]
    lines += [f"- Left out of `{path}`: {count:,} items" for path, count in cut.items()]
    return harmless_markup("\n".join([*lines, NOTE]))


def _short(line: str) -> str:
    """A line that fits; what was open where it was cut is closed."""
    if len(line) <= LONGEST_LINE:
        return line
    kept = line[:LONGEST_LINE]
    mark = CLOSE if kept.rfind(OPEN) > kept.rfind(CLOSE) else ""
    return kept + "\N{HORIZONTAL ELLIPSIS}" + mark + "`" * (kept.count("`") % 2)


def _incident(incident: Mapping[str, Any]) -> str:
    of = "" if incident["dimension"] == "all" else f" of {incident['dimension']} {_name(incident['value'])}"
    measured_ = incident["measured"]
    since = f"{datetime.fromisoformat(incident['since']):%Y-%m-%d %H:%M} UTC"
    line = f"Incident: {measured_}{of} {shown(measured_, incident['now'])}, usually {shown(measured_, incident['usual'])}, since {since}"
    if incident["goes_on"]:
        line += ", goes on"
    whose = sorted(incident["due_to"], key=lambda share: -share["share"])
    if whose:
        line += "; due to " + ", ".join(
            f"{each['dimension']} {_name(each['value'])} ({text.whole_percent(each['share'])})" for each in whose
        )
    effects = sorted(incident["effects_usd"].items(), key=lambda each: -each[1])
    if effects:
        line += f"; cause: {FACTORS[effects[0][0]]}"
    return line


def _name(name: str | None) -> str:
    """A name from logs as code: nothing in it means anything to Markdown. It is short and harmless already."""
    return "(not logged)" if name is None else "`{}`".format(name.replace("`", "'"))


def feedback(totals: FeedbackTotals, scope: AnalysisScope) -> tuple[str, ...]:
    """What became of the feedback; names of scores and files, and ids, are marked as data."""
    name = None if scope.labelled else scope.parameters.quality_feedback
    return feedback_lines.lines(totals, name, lambda name: _name(marked(name)))


def _names(names: Sequence[str]) -> str:
    return ", ".join(_name(each) for each in names[:SHOWN]) + (f" and {len(names) - SHOWN} more" if len(names) > SHOWN else "")


def _analytics(result: RoutingAnalytics) -> Lines:
    if len(result.operations) > 1:
        counts = (f"{text.KINDS[each.operation]} {text.count(each.requests)}" for each in result.operations)
        yield f"Calls by kind: {', '.join(counts)}; what follows is about chat"
    yield f"Success {measured(result.success_rate, text.percent)}; failure {measured(result.failure_rate, text.percent)}"
    yield f"Latency p50 {measured(result.latency.p50_ms, text.ms)}, p95 {measured(result.latency.p95_ms, text.ms)}"
    yield f"Routing latency p95 {measured(result.routing_latency.p95_ms, text.ms)}"
    yield (
        f"Retries {measured(result.retry_rate, text.percent)}, fallbacks {measured(result.fallback_rate, text.percent)}, "
        f"cache hits {measured(result.cache_hit_rate, text.percent)}"
    )
    shares = (f"{_name(each.model)} {text.percent(each.request_share)}" for each in result.models[:SHOWN])
    yield f"Models: {', '.join(shares)}"
    if result.errors:
        yield "Failures: " + ", ".join(f"{_name(each.error_type)} {text.percent(each.share)}" for each in result.errors[:SHOWN])


def _costs(result: RoutingCosts) -> Lines:
    yield f"Spend {measured(result.total_usd, text.usd)}; per request {measured(result.per_request_usd, text.usd)}"
    if len(result.operations) > 1:
        kinds = (f"{text.KINDS[each.operation]} {measured(each.cost_usd, text.usd, brief=True)}" for each in result.operations)
        yield f"By kind of call: {', '.join(kinds)}; per request is of chat"
    why = f" ({result.trend.explanation})" if result.trend.direction == "cannot tell" else ""
    yield f"Trend: {result.trend.direction}{why}; against the window before {measured(result.trend.change, text.change)}"
    for period in (result.month, result.quarter):
        if period is not None:
            days = (
                "" if result.budget_projection is None else f", from {text.counted(result.budget_projection.history_days, 'day')} of spend"
            )
            yield f"{period.period}: {measured(period.observed_usd, text.usd)} so far; by its end{days}: {measured(period.total_usd, text.usd)}"
    unknown = () if result.budget_projection is None else result.budget_projection.unknown_budgets
    for each in unknown[:SHOWN]:
        yield periods.unknown_budget(each, _name)
    known = {kind: {each.of for each in unknown if each.kind == kind} for kind in ("team", "tier")}
    for budget in [each for each in result.budgets if each.of not in known["team"]][:SHOWN]:
        whose = "The whole budget" if budget.of is None else f"Budget of {_name(budget.of)}"
        projected = None if result.budget_projection is None else result.budget_projection.of(budget.of)
        used = None if projected is None else periods.budget_use(projected.month)
        yield f"{whose}: {used or f'{measured(budget.used, text.percent)}; month: {budget.verdict}'}"
    for tier in [each for each in result.tier_budgets if each.of not in known["tier"]][:SHOWN]:
        stands = "" if tier.breached is None else f", {'above' if tier.breached else 'within'} its share"
        found = None if result.budget_projection is None or tier.of is None else result.budget_projection.of_tier(tier.of)
        used = None if found is None else periods.budget_use(found.month)
        month = f"; {used}" if used else f"; month: {tier.verdict}"
        yield f"Budget of tier {_name(tier.of or '')}: the window spent {measured(tier.window_usd, text.usd)}{stands}{month}"
    for grouping in result.groupings:
        shown = (
            f"{' / '.join(_name(each) for each in line.group)} {measured(line.cost_usd, text.usd, brief=True)}"
            for line in grouping.lines[:SHOWN]
        )
        yield f"By {', '.join(grouping.by)}: {'; '.join(shown)}"
    for units in result.units:
        yield from _units(units)


def _units(units: UnitCosts) -> Lines:
    for line in units.lines[:SHOWN] if units.by else units.lines:
        of = " / ".join(_name(each) for each in line.group) or "Everything"
        parts = (
            ("request", line.per_request_usd),
            ("session", line.per_session_usd),
            ("solved task", line.per_solved_task_usd),
            ("user", line.per_user_usd),
        )
        told = [f"per {what} {measured(value, text.usd, brief=True)}" for what, value in parts if not isinstance(value, Unidentifiable)]
        if told:
            yield f"{of}: {', '.join(told)}"
    if units.lines and units.by in {(), ("user_cohort",), ("user_volume",)}:
        yield units.definition
    yield from units.notices


def _quality(result: QualityMetrics) -> Lines:
    overall = result.overall
    over = "" if isinstance(overall.quality, Unidentifiable) else f" over {text.counted(overall.labelled, 'scored answer')}"
    yield f"Mean quality {measured(overall.quality, text.score)}{over}"
    share = text.of_scored(overall.quality_share)
    yield f"Corrected for which were scored: {measured(overall.quality_corrected, text.score)}{share}"
    yield f"Completion {measured(overall.completion, text.percent)}; users' rating {measured(overall.user_rating, text.score)}"
    for what, lines in (("model", result.models), ("task type", result.tasks)):
        shown = (f"{_name(line.group)} {measured(line.quality, text.score, brief=True)}" for line in lines[:SHOWN])
        yield f"By {what}, as they came: {'; '.join(shown)}"
    cost = result.against_cost
    yield f"Quality against cost: {cost.explanation}"
    yield (
        f"Rank correlation of quality and cost: overall {measured(cost.overall.rho, text.number)}, "
        f"within task types {measured(cost.within_task.rho, text.number)}"
    )


def _patterns(result: RequestPatterns) -> Lines:
    for kind in result.kinds[:SHOWN]:
        yield f"{_name(kind.task_type)}, {kind.length}, complexity {kind.complexity}: {text.percent(kind.share)} of requests"
    hard = [f"{each.gte:g} to {each.lt:g} {text.percent(each.share)}" for each in result.complexity.bins if each.requests]
    yield f"Complexity: mean {measured(result.complexity.mean, text.score)}; shares: {', '.join(hard) or 'none logged'}"
    peaks = result.peaks
    busiest = "" if peaks.busiest_hour is None else f", busiest {text.moment(peaks.busiest_hour)}"
    yield f"Peak hours (UTC): {', '.join(map(str, peaks.peak_hours)) or 'none'}{busiest}"
    yield (
        f"Daily pattern {measured(result.seasonality.daily_strength, text.score)}, "
        f"weekly {measured(result.seasonality.weekly_strength, text.score)} (0 none, 1 all)"
    )
    if isinstance(result.drift, Unidentifiable):
        yield f"Drift: cannot tell: {result.drift.unidentifiable}"
    else:
        yield "Drift: " + ", ".join(f"{each.dimension} {each.verdict}" for each in result.drift)


def _performance(result: ModelPerformance) -> Lines:
    if result.contrasts_tested:
        yield f"{result.contrasts_distinguishable} of {result.contrasts_tested} differences between models are real at a false discovery rate of 5 %"
    for each in result.performances[: 2 * SHOWN]:
        yield (
            f"{_name(each.task_type)} on {_name(each.model)}: adjusted quality {measured(each.quality_adjusted, text.score, brief=True)}, "
            f"{measured(each.cost_usd_adjusted, text.usd, brief=True)} per request, "
            f"{measured(each.quality_per_usd, text.number, brief=True)} quality per dollar, "
            f"reliability {measured(each.reliability, text.percent, brief=True)}"
        )
    for line in result.latencies[:SHOWN]:
        times = f"p50 {measured(line.p50_ms, text.ms, brief=True)}, p95 {measured(line.p95_ms, text.ms, brief=True)}"
        yield f"Response time of {_name(line.model)}: {times}"
    if result.absent_models:
        yield f"Not in the window: {_names(result.absent_models)}"


def _decisions(result: RoutingDecisions) -> Lines:
    yield (
        f"For {result.goal}: {text.percent(result.best_share)} of requests went where the evidence says best, "
        f"{text.percent(result.elsewhere_share)} elsewhere; for {text.percent(result.undecided_share)} it cannot tell"
    )
    yield f"Regret per request, in {result.goal_unit}: {measured(result.regret_per_request, text.number)}"
    for each in result.opportunities[:SHOWN]:
        yield f"Missed: {each.label} to {_name(each.model)}, {measured(each.saving_usd, text.usd)} over the window"
    for rule in result.rules[:SHOWN]:
        yield f"Rule {_name(rule.rule_id)}: {text.percent(rule.share)} of requests; {_alternative(rule, result.goal_unit)}"


def _alternative(rule: RuleEffect, unit: str) -> str:
    if rule.alternative is None:
        return (
            "no model that is shown to keep the guards is estimated better than today's routing"
            if rule.today_is_best
            else "cannot tell of an alternative"
        )
    return f"best alternative {_name(rule.alternative)}, better by {measured(rule.gain_per_request, text.number)} per request, in {unit}"


def _bottlenecks(result: Bottlenecks) -> Lines:
    slow = [rule for rule in result.routing.rules if rule.stands_out]
    yield f"Slow routing decisions: {_names([rule.rule or 'no rule logged' for rule in slow]) or 'no rule stands out'}"
    for each in result.incidents[:SHOWN]:
        yield (
            f"Incident: {_name(each.model)}, {each.kind}, from {text.moment(each.start)}: "
            f"{each.requests_hit:,} requests hit, {each.requests_lost:,} lost"
        )
    if not result.incidents:
        yield "No incident of availability"
    for model in result.availability[:SHOWN]:
        refused = measured(model.rate_limit_rate, text.percent, brief=True)
        yield f"Errors of {_name(model.model)}: {measured(model.error_rate, text.percent, brief=True)} of calls failed, {refused} by a rate limit"
    yield f"Queue ({result.queue.source}): p95 {measured(result.queue.p95, text.number)}"
    if isinstance(result.latency_spikes, Unidentifiable):
        yield f"Latency spikes: cannot tell: {result.latency_spikes.unidentifiable}"
        return
    for spike in result.latency_spikes.spikes[:SHOWN]:
        yield f"Latency spike: {_name(spike.model)} from {text.moment(spike.start)}, {text.number(spike.factor)} times as slow as usual"


def _drivers(result: CostDrivers) -> Lines:
    yield f"Avoidable by cheaper models at the floor ({result.quality_floor}): {measured(result.avoidable_usd, text.usd)}"
    for each in result.overuse[:SHOWN]:
        yield (
            f"{_name(each.task_type)} on {_name(each.model)}: {text.usd(each.spend_usd)}; {_name(each.replacement)} would avoid "
            f"{measured(each.avoidable_usd, text.usd)}"
        )
    for budget in result.budgets[:SHOWN]:
        share = "" if budget.used is None else f" ({text.percent(budget.used)})"
        stands = "above" if budget.breached else "within"
        yield (
            f"Budget of {_name(budget.of)}: the window spent {text.usd(budget.spend_usd)}, {stands} its share of "
            f"{text.usd(budget.allowed_usd)} for that time{share}"
        )
    for task in result.dear_tasks[:SHOWN]:
        yield f"Above the cost threshold: {_name(task.task_type)} at {measured(task.cost_usd, text.usd)} per request"
    for waste in result.waste[:SHOWN]:
        yield f"Waste, {waste.kind.replace('_', ' ')}: {measured(waste.excess_usd, text.usd)}"
    for spike in result.spikes[:SHOWN]:
        yield f"Spike from {text.moment(spike.start)}, {spike.hours} h: {measured(spike.excess_usd, text.usd)} more than usual"
    if not isinstance(result.change, Unidentifiable):
        yield f"Against the window before: {text.usd(result.change.change_usd)}"


def _issues(result: QualityIssues) -> Lines:
    threshold = "none" if result.threshold is None else text.score(result.threshold)
    yield f"Below the threshold ({threshold}; {result.threshold_source}): {measured(result.share_below, text.percent)} of scored answers"
    for low in [each for each in result.low_quality if each.stands_out][:SHOWN]:
        yield f"Stands out: {low.label}, {measured(low.share_below, text.percent)} below"
    for each in result.mismatches[:SHOWN]:
        yield f"Mismatch: {each.label} on {_name(each.model)} loses {measured(each.loss, text.score)} against {_name(each.alternative)}"
    for pair in result.incompatibilities[:SHOWN]:
        yield f"Incompatible: {_name(pair.task_type)} on {_name(pair.model)}, {pair.kind} {measured(pair.rate, text.percent)}"
    for fall in result.degradations[:SHOWN]:
        where = "" if fall.task_type is None else f" on {_name(fall.task_type)}"
        yield f"Degraded: {_name(fall.model)}{where} from {text.moment(fall.start)}, {measured(fall.size, text.points)}"


def _rules(result: RoutingRules) -> Lines:
    rule_set = result.rule_set
    yield f"Rule set `{rule_set.rule_set_id}`: {len(rule_set.rules)} rules, goal {rule_set.goal}"
    yield from result.reasons[:SHOWN]
    yield f"Saving per day: {measured(result.saving_usd_per_day, text.usd)}; {text.percent(result.moved_share)} of requests move"
    for rule in rule_set.rules[:SHOWN]:
        yield _rule(rule)
    for conflict in result.conflicts[:SHOWN]:
        yield f"Conflict: {conflict.constraints}; nearest: {conflict.nearest_feasible}"
    decides = " ".join(limit.text for limit in result.limits if limit.decides and limit.kind in {"quality", "cost"})
    if decides:
        yield f"Limits that decide: {decides}"


def _rule(rule: Rule) -> str:
    tasks = _names(rule.when.task_type) if rule.when.task_type else "any task"
    ranges = "".join(
        f", {name.replace('_', ' ')} {between.gte or 0:g} to {'any' if between.lt is None else format(between.lt, 'g')}"
        for name, between in (("complexity", rule.when.complexity), ("prompt_tokens", rule.when.prompt_tokens))
        if between is not None
    )
    needs = ((said, getattr(rule.when, name)) for name, said in NEEDS_IN_WORDS.items())
    ranges += "".join(f", {'with' if holds else 'without'} {said}" for said, holds in needs if holds is not None)
    to = "unchanged" if rule.route == "unchanged" else _names([target.model for target in rule.route])
    return f"{rule.priority}. {tasks}{ranges} to {to}"


def _mix(result: ModelMix) -> Lines:
    yield result.verdict
    for each in result.shares[:SHOWN]:
        yield f"{_name(each.model)}: {text.percent(each.now)} now, {text.percent(each.recommended)} recommended"
    for price in [each for each in result.prices if each.binding][:SHOWN]:
        yield f"{price.constraint}: {price.explanation}"


def _cost_plan(result: CostOptimizationPlan) -> Lines:
    yield result.verdict
    yield f"Target {text.percent(result.target_reduction)}; planned {measured(result.planned_reduction, text.percent)}; most {measured(result.reachable_reduction, text.percent)}"
    for action in result.actions[: 2 * SHOWN]:
        mark = "in the plan" if action.in_plan else "not needed" if action.is_counted else "to be tested"
        yield f"{action.title} ({action.risk} risk, {mark}): {measured(_of_period(action.saving_usd, result), text.usd)}"
    days = result.days if _knows_a_week(result) else result.window_days
    pace = "" if result.window_days is None else f" of the {periods.length(result.window_days)} that the logs cover"
    yield f"Dollars are over {periods.length(days or 0.0)} at the pace{pace}; intervals take the number of requests as known"


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
    yield f"{result.overall} risk. {result.verdict}" if result.overall else result.verdict
    for change in result.changes[:SHOWN]:
        if change.risk is None:
            yield f"{change.title}: {change.why}"
            continue
        chances = ", ".join(
            f"{what} {'cannot tell' if isinstance(chance, Unidentifiable) else text.chance(chance.probability)}"
            for what, chance in (
                ("quality falls", change.quality_falls),
                ("latency rises", change.latency_rises),
                ("cost rises", change.cost_rises),
            )
        )
        yield f"{change.title}: {change.risk} risk; chances that {chances}; begin with {text.percent(change.mitigation.canary_share)}"
    for trigger in dict.fromkeys(change.mitigation.rollback_trigger for change in result.changes if change.risk):
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
