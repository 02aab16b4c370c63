"""What a reader should know after half a minute: what, how sure, what next.

Belongs here: choosing and wording the few numbers that lead the report; what evidence of which grade may claim. Does not
belong here: the numbers themselves, and everything after the first half minute (the templates).
"""

from __future__ import annotations

from dataclasses import dataclass

from routing_pipeline import text
from routing_pipeline.estimates import Measured, Unidentifiable
from routing_pipeline.policy.grade import tested_in_words
from routing_pipeline.recommendation.optimization_risks import OptimizationRisks
from routing_pipeline.recommendation.routing_rules import quality_change
from routing_pipeline.report import periods
from routing_pipeline.report.model import Report
from routing_pipeline.rules.model import Grade, RuleSet

GRADE_WORDS: dict[Grade, str] = {
    "A": "routing probabilities are known, so the estimate needs no assumption about why requests went where they went",
    "B": "what decides the routing is corrected for as far as the logs can tell, but routing was not randomised",
    "C": "not everything that influenced the routing may be logged or corrected for",
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
        f"The low end of the proof is within the tolerance ({text.size_of_100(min(proven.low, 0.0))}). That of the replay, whose interval covers all tasks "
        f"at once, is not ({text.size_of_100(relative.low * today.estimate)})."
    )


SCORES_FIRST = "First hand over scores of answers with --feedback, or log quality_score, and run this again."
NO_PROOF = "Explored only, which is no proof: the rules were tried on sessions that they were learnt beside."


def is_proven(report: Report) -> bool:
    """Whether the proposed rules were put to sessions held out for that; what is only explored was not."""
    return report.routing_rules.look > 0


def harm(risks: OptimizationRisks) -> str:
    """What counts as harm to quality, after "chance that"."""
    if risks.quality_tolerance < 0 and risks.quality_floor is not None:
        return f"quality stays below {100 * risks.quality_floor:.1f} of 100"
    return f"quality falls by more than {text.size_of_100(risks.quality_tolerance)}"


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
        if rules.conflicts:
            said = "; ".join(conflict.said for conflict in rules.conflicts)
            return f"No change of the routing rules is recommended, because the limits are in conflict: {said}."
        why = f" {_capital(rules.reasons[0].removeprefix('No change is recommended: '))}" if rules.reasons else ""
        return f"No change of the routing rules is recommended: nothing better than today could be proven on these logs.{why}"
    count, effect = len(rules.rule_set.rules), _effect(report)
    found, they = ("1 routing rule is", "it") if count == 1 else (f"{count} routing rules are", "they")
    if grade_of(report) == "A":
        return f"{found} expected to {effect}."
    return f"{found} worth an A/B test: according to these logs {they} would {effect}."


def _capital(sentence: str) -> str:
    return sentence[:1].upper() + sentence[1:]


def _effect(report: Report) -> str:
    """The goal's own outcome first."""
    rules = report.routing_rules
    cost = _said(cost_reduction(rules.rule_set), "lower cost by {}", "raise cost by {}", text.percent, "change cost by an unknown amount")
    cost += " for the same sessions" if rules.rule_set.unit == "session" else ""
    speed = _said(speed_gain(rules.rule_set), "cut latency by {}", "add {} of latency", text.percent, "change latency by an unknown amount")
    quality = quality_change(rules)
    effect_on_quality = (
        "with an unknown effect on quality"
        if isinstance(quality, Unidentifiable)
        else f"with a change of quality of {text.measured(quality, text.points)}"
    )
    goal = rules.rule_set.goal
    if goal == "quality":
        return f"change mean quality by {text.measured(quality, text.points)} and {cost}"
    return f"{speed}, {effect_on_quality}, and {cost}" if goal == "speed" else f"{cost}, {effect_on_quality}"


def _said(value: Measured, up: str, down: str, form: text.Format, unknown: str) -> str:
    if isinstance(value, Unidentifiable):
        return unknown
    if value.estimate >= 0:
        return up.format(text.measured(value, form))
    return down.format(text.measured(value.scaled(-1.0), form))


def _how_sure(report: Report) -> str:
    grade = grade_of(report)
    tested = tested_in_words(report.routing_evidence.steering)
    evidence = " ".join(part for part in (f"Evidence grade {grade}: {GRADE_WORDS[grade]}.", tested) if part)
    if report.routing_evidence.refusal is not None:
        return f"{evidence} The figures on today's traffic do not depend on it."
    if not report.routing_rule_set.rules:
        return f"{evidence} The figures on today's traffic do not depend on it."
    tested = "Tested on sessions held out from the search." if is_proven(report) else NO_PROOF
    return f"{evidence} {tested} {report.optimization_risks.verdict}"


def _next_step(report: Report) -> str:
    plan, monitoring = report.optimization_plan, report.monitoring_plan
    if not report.routing_rule_set.rules:
        # Whatever else is missing: of answers that nobody has scored nothing can be shown.
        return monitoring.verdict if report.quality_metrics.overall.quality_share > 0 else f"{SCORES_FIRST} {monitoring.verdict}"
    return f"{plan.verdict} {monitoring.verdict}"


def _potential(report: Report) -> str:
    rules = report.routing_rules
    if report.routing_evidence.refusal is not None:
        return f"{text.CANNOT_TELL}: {report.routing_evidence.refusal}"
    if rules.rule_set.rules:
        saving = text.measured(periods.saving(report), text.usd)
        share = text.measured(cost_reduction(rules.rule_set), text.percent)
        sentence = f"{saving} in the {periods.span(report.scope)} analysed ({share} of spend{periods.on_chat(report)})"
        return sentence if grade_of(report) == "A" else f"{sentence}, if a trial confirms it"
    hypothesis = rules.hypothesis
    if hypothesis is None:
        return "none proven"
    needed = f"; about {hypothesis.requests_needed:,} requests would settle it" if hypothesis.requests_needed is not None else ""
    guess = text.measured(hypothesis.cost_change, text.change, brief=True)
    return f"none proven; best hypothesis: {hypothesis.description} (change of cost {guess}{needed})"


def headlines(report: Report) -> tuple[str, ...]:
    """A few plain lines for a terminal or a notification."""
    found = summary(report)
    costs, quality = report.routing_costs, report.quality_metrics.overall
    of_it = f" ({_brief(costs.chat_usd, text.usd)} on chat)" if report.scope.other_calls else ""
    today = (
        f"{text.count(report.scope.requests)} requests in {_how_long(report)}, "
        f"{_brief(costs.total_usd, text.usd)} in all{of_it}, {_brief(costs.per_request_usd, text.usd)} per request, "
        f"mean quality {_brief(quality.quality_corrected, text.score)}{text.of_scored(quality.quality_share)}"
    )
    about = () if report.incident is None else (f"Incident: {report.incident.headline}. {' '.join(report.incident.in_short)}",)
    lines = (*about, f"Today: {today}", f"Finding: {found.what}", f"How sure: {found.how_sure}", f"Next: {found.next_step}")
    return tuple(text.name(line, 600) for line in lines)


def _how_long(report: Report) -> str:
    """The timeframe, and what the logs cover where that is less."""
    if periods.shortfall(report.scope) is None:
        return report.scope.timeframe
    return f"{periods.span(report.scope)} of logs ({report.scope.timeframe} asked for)"


def _brief(value: text.Value, form: text.Format) -> str:
    return text.measured(value, form, brief=True)
