"""What changed since the last report of the same question in the same home.

Belongs here: finding that report among the stored runs, and setting its figures beside today's. Does not belong here: the
model of it (`model`), why spend changed (`analysis.cost_drivers`), holding promises against what came of them (`recommendation.realized_outcomes`).

The same question: timeframe, goal, task types, thresholds, budget. The last report is the newest of an earlier window, so
that asking twice about the same days does not hide what happened before.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from datetime import UTC, datetime
from typing import Literal

from routing_pipeline import text
from routing_pipeline.clock import SECONDS_PER_DAY
from routing_pipeline.estimates import Estimate, Measured, Unidentifiable
from routing_pipeline.recommendation.routing_rules import quality_change
from routing_pipeline.report.model import ChangeVerdict, Metric, Moved, Promised, Report, RulesMoved, SinceLastReport
from routing_pipeline.rules.model import Rule, RuleSet
from routing_pipeline.stats.inference import difference
from routing_pipeline.storage.runs import RunStore
from routing_pipeline.window.scope import AnalysisScope

RUNS_LOOKED_AT = 30
QUESTION: tuple[str, ...] = (
    "goal",
    "task_types",
    "cost_threshold",
    "quality_threshold",
    "max_quality_drop",
    "max_quality_drop_per_task",
    "prove_per_task",
    "single",
    "budget",
)


def with_last(report: Report, runs: RunStore) -> Report:
    """The report with what changed since the one before it."""
    return report.model_copy(update={"since_last_report": since_last(report, last_report(runs, report))})


def last_report(runs: RunStore, now: Report) -> Report | None:
    """The newest stored report of an earlier window that answers the same question; None when there is none that can be read."""
    for run in runs.all()[:RUNS_LOOKED_AT]:
        if run.run_id == now.run.run_id:
            continue
        found = run.load("report", Report)
        if found is not None and _asks_the_same(found.scope, now.scope) and found.scope.end_s < now.scope.end_s:
            return found
    return None


def _asks_the_same(one: AnalysisScope, other: AnalysisScope) -> bool:
    same = all(getattr(one.parameters, name) == getattr(other.parameters, name) for name in QUESTION)
    return same and one.timeframe_asked == other.timeframe_asked


def since_last(now: Report, before: Report | None) -> SinceLastReport:
    """Two reports side by side."""
    if before is None:
        return SinceLastReport()
    rules = _rules(before.routing_rule_set, now.routing_rule_set)
    moved = tuple(_moved(before, now))
    return SinceLastReport(
        run_id=before.run.run_id,
        start=datetime.fromtimestamp(before.scope.start_s, UTC),
        end=datetime.fromtimestamp(before.scope.end_s, UTC),
        overlap_days=max(min(before.scope.end_s, now.scope.end_s) - max(before.scope.start_s, now.scope.start_s), 0.0) / SECONDS_PER_DAY,
        moved=moved,
        rules=rules,
        grade_before=before.routing_evidence.grade,
        grade_now=now.routing_evidence.grade,
        promised=_promised(before, now),
        notices=tuple(_notices(before.scope, now.scope)),
        verdict=_verdict(moved, rules),
    )


def _moved(before: Report, now: Report) -> list[Moved]:
    def both(metric: Metric, unit: Literal["USD/day", "requests/day", "USD", "0..1", "ms", "share"], values: Sequence[Measured]) -> Moved:
        gap = difference(values[1], values[0])
        return Moved(metric=metric, unit=unit, before=values[0], now=values[1], difference=gap, verdict=_side(gap))

    pair = (before, now)
    return [
        both("spend_per_day", "USD/day", [_counted(each.routing_costs.per_day_usd) for each in pair]),
        both("requests_per_day", "requests/day", [_counted(each.scope.requests / max(each.scope.covered_days, 1e-9)) for each in pair]),
        both("cost_per_request", "USD", [each.routing_costs.per_request_usd for each in pair]),
        both("quality", "0..1", [each.quality_metrics.overall.quality_corrected for each in pair]),
        both("latency", "ms", [each.routing_analytics.latency.mean_ms for each in pair]),
        both("success", "share", [each.routing_analytics.success_rate for each in pair]),
    ]


def _counted(value: float | Unidentifiable) -> Measured:
    """What is counted and not estimated has an interval of no width."""
    return value if isinstance(value, Unidentifiable) else Estimate(estimate=value, low=value, high=value)


def _side(gap: Measured) -> ChangeVerdict:
    if isinstance(gap, Unidentifiable):
        return "cannot tell"
    if gap.low == gap.high == 0.0:
        return "the same"
    return "higher" if gap.low > 0 else "lower" if gap.high < 0 else "no difference shown"


def _notices(before: AnalysisScope, now: AnalysisScope) -> Iterator[str]:
    if before.timeframe != now.timeframe:
        yield f"The windows are of unequal length ({before.timeframe} then, {now.timeframe} now); figures per day allow for that."
    if not (now.knows_a_week and before.knows_a_week):
        yield "Windows shorter than a week cover different weekdays or hours, which alone changes traffic, mix and spend."


def _rules(before: RuleSet, now: RuleSet) -> RulesMoved:
    old, new = _said(before.rules), _said(now.rules)
    return RulesMoved(
        before=before.rule_set_id,
        before_status=before.status,
        now=now.rule_set_id,
        now_status=now.status,
        kept=len(old & new),
        added=len(new - old),
        dropped=len(old - new),
    )


def _said(rules: Sequence[Rule]) -> set[str]:
    return {rule.model_dump_json(include={"when", "route"}) for rule in rules}


def _promised(before: Report, now: Report) -> Promised | None:
    rules = before.routing_rules
    if not rules.rule_set.rules:
        return None
    is_proven = any(candidate.passed for candidate in rules.walk)
    quality: Measured = quality_change(rules) if is_proven else Unidentifiable(unidentifiable="the last report holds no proof")
    return Promised(saving_usd_per_day=rules.saving_usd_per_day, quality_change=quality, came_of_it=_came_of_it(before, now))


def _came_of_it(before: Report, now: Report) -> str:
    set_id = before.routing_rule_set.rule_set_id
    held = next((each for each in now.realized_outcomes.rule_sets if each.rule_set_id == set_id), None)
    if held is None:
        return "No request of this window was decided by these rules yet, so there is no outcome to compare with the promise."
    verdicts = ", ".join(f"{_OUTCOMES[each.outcome]} {each.verdict}" for each in held.outcomes)
    return f"{held.requests:,} requests were decided by them ({text.percent(held.share)} of all): {verdicts}."


_OUTCOMES = {"cost_usd": "cost", "quality": "quality", "latency_ms": "latency"}
_WORDS: dict[Metric, str] = {
    "spend_per_day": "Spend per day",
    "requests_per_day": "traffic",
    "cost_per_request": "cost per request",
    "quality": "quality",
    "latency": "latency",
    "success": "success rate",
}


def _verdict(moved: Sequence[Moved], rules: RulesMoved) -> str:
    parts = [_in_words(each) for each in moved if each.metric in {"spend_per_day", "cost_per_request", "quality"}]
    if rules.before == rules.now or not (rules.added or rules.dropped):
        said = "the rules are the same" if rules.kept else "no rules are proposed, as before"
    else:
        said = f"of the rules, {rules.added} are new, {rules.dropped} removed and {rules.kept} unchanged"
    return f"{', '.join(parts)}; {said}."


def _in_words(each: Moved) -> str:
    name = _WORDS[each.metric]
    if each.verdict not in {"higher", "lower"} or not isinstance(each.difference, Estimate) or not isinstance(each.before, Estimate):
        return f"{name}: {each.verdict}"
    if each.before.estimate == 0:
        return f"{name} {each.verdict}"
    return f"{name} {each.verdict} by {text.percent(abs(each.difference.estimate / each.before.estimate))}"
