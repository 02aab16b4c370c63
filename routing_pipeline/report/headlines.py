"""What a reader should know after half a minute: what, how sure, what next.

Belongs here: choosing and wording the few numbers that lead the report; what evidence of which grade may claim. Does not
belong here: the numbers themselves, and everything after the first half minute (the templates).
"""

from __future__ import annotations

from dataclasses import dataclass

from routing_pipeline.estimates import Estimate, Measured, Unidentifiable
from routing_pipeline.policy.rule_set import Grade, RuleSet
from routing_pipeline.recommendation.routing_rules import RoutingRules
from routing_pipeline.report import periods, wording
from routing_pipeline.report.assembly import Report

GRADE_WORDS: dict[Grade, str] = {
    "A": "routing probabilities are known, so the estimate needs no assumption about why requests went where they went",
    "B": "every input of the router is logged, but routing was not randomised",
    "C": "what steered the routing may not all be logged",
}


@dataclass(frozen=True)
class Summary:
    """The executive summary in words."""

    what: str
    how_sure: str
    next_step: str
    potential: str
    actions: int
    actions_this_week: int


def grade_of(report: Report) -> Grade:
    """Weakest grade among the rules, else that of the evidence."""
    return max((rule.evidence.grade for rule in report.routing_rule_set.rules), default=report.routing_evidence.grade)


def quality_change(rules: RoutingRules) -> Measured:
    """Proven difference of mean quality; exactly none when nothing changes."""
    if not rules.rule_set.rules:
        return Estimate(estimate=0.0, low=0.0, high=0.0)
    proven = next((candidate for candidate in reversed(rules.walk) if candidate.passed), None)
    if proven is not None:
        return proven.quality_change
    expected = rules.rule_set.expected
    relative, baseline = expected.change.quality.relative, expected.baseline.quality
    if isinstance(relative, Unidentifiable):
        return relative
    return relative.scaled(baseline.estimate) if isinstance(baseline, Estimate) else baseline


def cost_reduction(rule_set: RuleSet) -> Measured:
    """Saving as a share of today's cost; positive is a saving."""
    relative = rule_set.expected.change.cost_usd.relative
    return relative if isinstance(relative, Unidentifiable) else relative.scaled(-1.0)


def speed_gain(rule_set: RuleSet) -> Measured:
    """Fall of mean latency as a share of today's; positive is faster."""
    relative = rule_set.expected.change.latency_ms.relative
    return relative if isinstance(relative, Unidentifiable) else relative.scaled(-1.0)


def replay_breaks(report: Report) -> str | None:
    """A sentence where the replay's interval leaves the tolerance that the proof just keeps; None where both agree."""
    proven, tolerance = quality_change(report.routing_rules), report.optimization_risks.quality_tolerance
    expected = report.simulation.expected
    relative, today = expected.change.quality.relative, expected.baseline.quality
    if not report.routing_rule_set.rules or isinstance(proven, Unidentifiable) or proven.low < -tolerance:
        return None
    if isinstance(relative, Unidentifiable) or isinstance(today, Unidentifiable) or relative.low * today.estimate >= -tolerance:
        return None
    return (
        f"At its safe end the proof keeps to the tolerance ({wording.size_of_100(min(proven.low, 0.0))}); the replay, whose range holds for all tasks at "
        f"once, does not ({wording.size_of_100(relative.low * today.estimate)})."
    )


def summary(report: Report) -> Summary:
    """The executive summary of a report."""
    items = report.optimization_plan.items
    return Summary(
        what=_what(report),
        how_sure=_how_sure(report),
        next_step=_next_step(report),
        potential=_potential(report),
        actions=len(items),
        actions_this_week=sum(item.phase == 1 for item in items),
    )


def _what(report: Report) -> str:
    rules = report.routing_rules
    if report.routing_evidence.refusal is not None:
        return f"These logs cannot tell what other routing would do: {report.routing_evidence.refusal}"
    if not rules.rule_set.rules:
        why = f" {rules.reasons[0]}" if rules.reasons else ""
        return f"No change of the routing rules is recommended: nothing better than today could be proven on these logs.{why}"
    count, effect = len(rules.rule_set.rules), _effect(report)
    found, they = ("1 routing rule is", "it") if count == 1 else (f"{count} routing rules are", "they")
    if grade_of(report) == "A":
        return f"{found} expected to {effect}."
    return f"{found} worth an A/B test: by these logs {they} would {effect}."


def _effect(report: Report) -> str:
    """The goal's own outcome first."""
    rules = report.routing_rules
    cost = _said(
        cost_reduction(rules.rule_set), "lower cost by {}", "raise cost by {}", wording.percent, "change cost by an unknown amount"
    )
    speed = _said(
        speed_gain(rules.rule_set), "cut latency by {}", "add {} of latency", wording.percent, "change latency by an unknown amount"
    )
    quality = quality_change(rules)
    kept = (
        "with an unknown effect on quality"
        if isinstance(quality, Unidentifiable)
        else f"with a change of quality of {wording.measured(quality, wording.points)}"
    )
    goal = rules.rule_set.goal
    if goal == "quality":
        return f"change mean quality by {wording.measured(quality, wording.points)} and {cost}"
    return f"{speed}, {kept}, and {cost}" if goal == "speed" else f"{cost}, {kept}"


def _said(value: Measured, up: str, down: str, form: wording.Format, unknown: str) -> str:
    if isinstance(value, Unidentifiable):
        return unknown
    if value.estimate >= 0:
        return up.format(wording.measured(value, form))
    return down.format(wording.measured(value.scaled(-1.0), form))


def _how_sure(report: Report) -> str:
    grade = grade_of(report)
    told = f"Evidence grade {grade}: {GRADE_WORDS[grade]}."
    if report.routing_evidence.refusal is not None:
        return f"{told} What is measured of today's traffic stands on its own."
    if not report.routing_rule_set.rules:
        return f"{told} What was measured of today's traffic does not depend on it."
    return f"{told} Proven on sessions that the search never saw. {report.optimization_risks.verdict}"


def _next_step(report: Report) -> str:
    plan, monitoring = report.optimization_plan, report.monitoring_plan
    if not report.routing_rule_set.rules:
        return monitoring.verdict
    return f"{plan.verdict} {monitoring.verdict}"


def _potential(report: Report) -> str:
    rules = report.routing_rules
    if report.routing_evidence.refusal is not None:
        return f"{wording.CANNOT_TELL}: {report.routing_evidence.refusal}"
    if rules.rule_set.rules:
        saving = wording.measured(periods.saving(report), wording.usd)
        share = wording.measured(cost_reduction(rules.rule_set), wording.percent)
        told = f"{saving} in the {periods.span(report.scope.days)} analysed ({share} of spend)"
        return told if grade_of(report) == "A" else f"{told}, if a trial confirms it"
    hypothesis = rules.hypothesis
    if hypothesis is None:
        return "none proven"
    needed = f"; about {hypothesis.requests_needed:,} requests would decide it" if hypothesis.requests_needed is not None else ""
    guess = wording.measured(hypothesis.cost_change, wording.change, brief=True)
    return f"none proven; best hypothesis: {hypothesis.description} (change of cost {guess}{needed})"


def headlines(report: Report) -> tuple[str, ...]:
    """A few plain lines for a terminal or a notification."""
    found = summary(report)
    costs, quality = report.routing_costs, report.quality_metrics.overall
    today = (
        f"{wording.count(report.scope.requests)} requests in {report.scope.timeframe}, "
        f"{_brief(costs.total_usd, wording.usd)} in all, {_brief(costs.per_request_usd, wording.usd)} per request, "
        f"mean quality {_brief(quality.quality_corrected, wording.score)}"
    )
    lines = (f"Today: {today}", f"Finding: {found.what}", f"How sure: {found.how_sure}", f"Next: {found.next_step}")
    return tuple(wording.name(line, 600) for line in lines)


def _brief(value: wording.Value, form: wording.Format) -> str:
    return wording.measured(value, form, brief=True)
