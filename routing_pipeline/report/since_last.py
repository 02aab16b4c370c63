"""What changed since the last report of the same question in the same home.

Belongs here: finding that report among the stored runs, and setting its figures beside today's. Does not belong here: why
spend changed (`analysis.cost_drivers`), holding promises against what came of them (`recommendation.realized_outcomes`).

The same question: timeframe, goal, task types, thresholds, budget. The last report is the newest of an earlier window, so
that asking twice about the same days does not hide what happened before.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Literal

from pydantic import Field

from routing_pipeline.comparisons import difference
from routing_pipeline.estimates import Estimate, Measured, Result, Unidentifiable, quantity
from routing_pipeline.policy.rule_set import Grade, Rule, RuleSet, Status
from routing_pipeline.report import wording
from routing_pipeline.results import ResultStore
from routing_pipeline.scope import AnalysisScope

if TYPE_CHECKING:
    from routing_pipeline.report.assembly import Report

RUNS_LOOKED_AT = 30
WEEK_DAYS = 6.99
QUESTION: tuple[str, ...] = ("goal", "task_types", "cost_threshold", "quality_threshold", "max_quality_drop", "budget")
FIRST = "This is the first report of this question in this home: there is nothing to compare with."

Metric = Literal["spend_per_day", "requests_per_day", "cost_per_request", "quality", "latency", "success"]
Verdict = Literal["higher", "lower", "the same", "no difference shown", "cannot tell"]


class Moved(Result):
    """One figure, then and now."""

    metric: Metric
    unit: Literal["USD/day", "requests/day", "USD", "0..1", "ms", "share"]
    before: Measured
    now: Measured
    difference: Measured = Field(description="Now less before, in `unit`; the interval is on the wide side, as the windows may overlap")
    verdict: Verdict = Field(description="`no difference shown`: the interval of the difference holds 0")


class RulesMoved(Result):
    """The rule set, then and now; a rule is the same when condition and route are."""

    before: str = Field(description="Id of the rule set of the last report")
    before_status: Status
    now: str
    now_status: Status
    kept: int = quantity("Rules in both", "rules")
    added: int = quantity("Rules that are new", "rules")
    dropped: int = quantity("Rules of the last report that are gone", "rules")


class Promised(Result):
    """What the last report said its rules would do, and what is known of it by now."""

    saving_usd_per_day: Measured = quantity("Promised, at full roll-out", "USD/day")
    quality_change: Measured = quantity("Promised, all requests", "0..1")
    came_of_it: str = Field(description="Measured since, or why there is nothing to measure yet")


class SinceLastReport(Result):
    """What changed since the last report."""

    run_id: str | None = Field(default=None, description="Run of the last report; null when this is the first")
    start: datetime | None = Field(default=None, description="Its window, UTC")
    end: datetime | None = None
    overlap_days: float = quantity("Days that both windows hold", "days", default=0.0)
    moved: tuple[Moved, ...] = ()
    rules: RulesMoved | None = None
    grade_before: Grade | None = None
    grade_now: Grade | None = None
    promised: Promised | None = Field(default=None, description="Null where the last report proposed no rules")
    notices: tuple[str, ...] = Field(default=(), description="What to keep in mind when comparing")
    verdict: str = Field(default=FIRST, description="One sentence for a manager")


def with_last(report: Report, store: ResultStore) -> Report:
    """The report with what changed since the one before it."""
    return report.model_copy(update={"since_last_report": since_last(report, last_report(store, report))})


def last_report(store: ResultStore, now: Report) -> Report | None:
    """The newest stored report of an earlier window that answers the same question; None when there is none that can be read."""
    from routing_pipeline.report.assembly import Report as StoredReport

    for run in store.runs()[:RUNS_LOOKED_AT]:
        if run.run_id == now.run.run_id:
            continue
        found = run.load("report", StoredReport)
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
        overlap_days=max(min(before.scope.end_s, now.scope.end_s) - max(before.scope.start_s, now.scope.start_s), 0.0) / 86_400,
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
        both("requests_per_day", "requests/day", [_counted(each.scope.requests / max(each.scope.days, 1e-9)) for each in pair]),
        both("cost_per_request", "USD", [each.routing_costs.per_request_usd for each in pair]),
        both("quality", "0..1", [each.quality_metrics.overall.quality_corrected for each in pair]),
        both("latency", "ms", [each.routing_analytics.latency.mean_ms for each in pair]),
        both("success", "share", [each.routing_analytics.success_rate for each in pair]),
    ]


def _counted(value: float | Unidentifiable) -> Measured:
    """What is counted and not estimated has an interval of no width."""
    return value if isinstance(value, Unidentifiable) else Estimate(estimate=value, low=value, high=value)


def _side(gap: Measured) -> Verdict:
    if isinstance(gap, Unidentifiable):
        return "cannot tell"
    if gap.low == gap.high == 0.0:
        return "the same"
    return "higher" if gap.low > 0 else "lower" if gap.high < 0 else "no difference shown"


def _notices(before: AnalysisScope, now: AnalysisScope) -> Iterator[str]:
    if before.timeframe != now.timeframe:
        yield f"The windows are of unequal length ({before.timeframe} then, {now.timeframe} now); figures per day allow for that."
    if now.days < WEEK_DAYS or before.days < WEEK_DAYS:
        yield "Windows shorter than a week hold other days of the week or other hours; that alone changes traffic, mix and spend."


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
    proven = next((candidate for candidate in reversed(rules.walk) if candidate.passed), None)
    quality: Measured = Unidentifiable(unidentifiable="the last report holds no proof") if proven is None else proven.quality_change
    return Promised(saving_usd_per_day=rules.saving_usd_per_day, quality_change=quality, came_of_it=_came_of_it(before, now))


def _came_of_it(before: Report, now: Report) -> str:
    set_id = before.routing_rule_set.rule_set_id
    held = next((each for each in now.realized_outcomes.rule_sets if each.rule_set_id == set_id), None)
    if held is None:
        return "No request of this window was decided by these rules yet, so nothing can be held against the promise."
    verdicts = ", ".join(f"{_OUTCOMES[each.outcome]} {each.verdict}" for each in held.outcomes)
    return f"{held.requests:,} requests were decided by them ({wording.percent(held.share)} of all): {verdicts}."


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
    told = [_in_words(each) for each in moved if each.metric in {"spend_per_day", "cost_per_request", "quality"}]
    if rules.before == rules.now or not (rules.added or rules.dropped):
        said = "the rules are the same" if rules.kept else "no rules are proposed, as before"
    else:
        said = f"of the rules {rules.added} are new, {rules.dropped} gone, {rules.kept} kept"
    return f"{', '.join(told)}; {said}."


def _in_words(each: Moved) -> str:
    name = _WORDS[each.metric]
    if each.verdict not in {"higher", "lower"} or not isinstance(each.difference, Estimate) or not isinstance(each.before, Estimate):
        return f"{name}: {each.verdict}"
    if each.before.estimate == 0:
        return f"{name} {each.verdict}"
    return f"{name} {each.verdict} by {wording.percent(abs(each.difference.estimate / each.before.estimate))}"
