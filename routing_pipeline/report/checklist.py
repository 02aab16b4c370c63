"""The task's own validation steps and success criteria, each with its evidence from the report.

Belongs here: whether a step is done, and what shows it. Does not belong here: doing it.
"""

from __future__ import annotations

from dataclasses import dataclass

from routing_pipeline import text
from routing_pipeline.data_quality import feedback_lines
from routing_pipeline.data_quality.expectations import CheckResult
from routing_pipeline.estimates import Estimate
from routing_pipeline.report import headlines, sections
from routing_pipeline.report.model import Report
from routing_pipeline.rules.lifecycle import APPROVAL_SHARE


@dataclass(frozen=True)
class Check:
    """One line of a checklist."""

    label: str
    done: bool
    evidence: str
    section: str
    """Title of the section of the report that shows it."""


@dataclass(frozen=True)
class QualityLine:
    """One data-quality check as the report lists it; `result` is failed, warning, not checked or passed."""

    claim: str
    severity: str
    result: str
    observed: str


def quality_lines(report: Report) -> tuple[QualityLine, ...]:
    """What needs a reader's eye first, what passed last."""
    order = ("failed", "warning", "not checked", "passed")
    lines = [QualityLine(check.claim, check.severity, _result(check), check.observed) for check in report.data_quality.checks]
    return tuple(sorted(lines, key=lambda line: order.index(line.result)))


def _result(check: CheckResult) -> str:
    if check.outcome == "failed":
        return "failed" if check.severity == "blocking" else "warning"
    return check.outcome.replace("_", " ")


def validation_steps(report: Report) -> tuple[Check, ...]:
    """The six validation steps of the task."""
    return (
        _data_accuracy(report),
        _baseline(report),
        _modelling(report),
        _impact(report),
        Check(
            "Risk Assessment: review potential negative impacts",
            True,
            f"{len(report.optimization_risks.changes)} changes assessed. {report.optimization_risks.verdict}",
            sections.RISKS,
        ),
        _review(report),
    )


def _data_accuracy(report: Report) -> Check:
    ingest = report.ingest
    results = [line.result for line in quality_lines(report)]
    adds_up = ingest.records == ingest.ingested + ingest.quarantined + ingest.duplicates
    counts = (
        f"{text.count(ingest.records)} records = {text.count(ingest.ingested)} ingested + {text.count(ingest.quarantined)} "
        f"quarantined + {text.count(ingest.duplicates)} duplicates"
    )
    if report.feedback is not None and report.feedback.records:
        counts += f"; feedback: {feedback_lines.counts(report.feedback)}"
    return Check(
        "Data Accuracy: verify historical data completeness and accuracy",
        adds_up and report.data_quality.is_publishable,
        f"{results.count('passed')} of {len(results)} checks passed, {results.count('failed')} failed, {results.count('warning')} gave a warning, "
        f"{results.count('not checked')} had nothing to compare with; {counts}.",
        sections.DATA,
    )


def _baseline(report: Report) -> Check:
    cost, overall = report.routing_costs.per_request_usd, report.quality_metrics.overall
    quality = overall.quality_corrected
    known = isinstance(cost, Estimate) and isinstance(quality, Estimate)
    sentence = f"cost {text.measured(cost, text.usd)} per request, mean quality {text.measured(quality, text.score)}{text.of_scored(overall.quality_share)}"
    return Check(
        "Baseline Establishment: document current performance benchmarks", known, f"Current State Analysis: {sentence}.", sections.COSTS
    )


def _modelling(report: Report) -> Check:
    simulation = report.simulation
    return Check(
        "Optimization Modeling: test recommended changes in simulation",
        simulation.requests > 0,
        f"Replayed on {text.count(simulation.requests)} requests held out from the search. {simulation.verdict}",
        sections.OUTCOMES,
    )


def _impact(report: Report) -> Check:
    walk, refusal = report.routing_rules.walk, report.routing_evidence.refusal
    if refusal is not None:
        return Check("Impact Estimation: validate expected improvement calculations", False, f"Not possible: {refusal}", sections.PROOF)
    passed = sum(candidate.passed for candidate in walk)
    if not headlines.is_proven(report):
        return Check("Impact Estimation: validate expected improvement calculations", False, headlines.NO_PROOF, sections.PROOF)
    sentence = f"{len(walk)} candidates tested on held-out sessions from safest to boldest, {passed} passed; evidence grade {report.routing_evidence.grade}."
    return Check("Impact Estimation: validate expected improvement calculations", True, sentence, sections.PROOF)


def _review(report: Report) -> Check:
    label = "Stakeholder Review: get approval for significant routing changes"
    rule_set, status = report.routing_rule_set, report.rule_set_status
    if not rule_set.rules:
        return Check(label, True, "No change of routing is proposed, so there is nothing to approve.", sections.RULES)
    if status is not None and status.moved_share is not None:
        open_now = f"Open: {report.run.here(status.next_step)}" if status.needs_approval and status.next_step else ""
        return Check(label, not status.needs_approval, f"{status.verdict} {open_now}".strip(), sections.RULES)
    if rule_set.status in {"approved", "published"}:
        return Check(label, True, f"Rule set {rule_set.rule_set_id} is {rule_set.status}.", sections.RULES)
    if not report.optimization_plan.approval_needed:
        return Check(
            label, True, f"Not needed: the change moves at most {text.percent(APPROVAL_SHARE)} of traffic and of spend.", sections.PLAN
        )
    return Check(label, False, f"Open: {report.approval}", sections.PLAN)


def success_criteria(report: Report) -> tuple[Check, ...]:
    """The six success criteria of the task."""
    rules, frontier, plan = report.routing_rules, report.tradeoff_frontier, report.optimization_plan
    quantified = sum(any(isinstance(each.value, Estimate) for each in item.expected_impact) for item in plan.items)
    undominated = len(frontier.points)
    return (
        Check(
            "Current routing performance accurately analyzed",
            report.data_quality.is_publishable and report.scope.requests > 0,
            f"{text.count(report.scope.requests)} requests, {text.count(report.scope.labelled)} of them with a quality.",
            sections.PERFORMANCE,
        ),
        Check(
            "Optimization opportunities clearly identified and quantified",
            bool(plan.items),
            f"{len(plan.items)} opportunities, {quantified} of them with an effect and its interval; the others state why there is none.",
            sections.OPPORTUNITIES,
        ),
        Check(
            "Actionable recommendations provided with implementation plans",
            bool(plan.items),
            f"{len(rules.rule_set.rules)} routing rules in rules.json; three phases with owners, effort and validation criteria.",
            sections.PLAN,
        ),
        Check(
            "Cost-quality trade-offs clearly presented",
            undominated > 0,
            f"{undominated} undominated policies on the frontier. {frontier.verdict}",
            sections.TRADE_OFFS,
        ),
        Check(
            "Implementation risk assessment completed",
            True,
            f"Overall risk {report.optimization_risks.overall}; {len(report.optimization_risks.changes)} changes with probabilities and mitigation.",
            sections.RISKS,
        ),
        Check(
            "Monitoring strategy defined for validation",
            bool(report.monitoring_plan.kpis),
            f"{len(report.monitoring_plan.kpis)} KPIs with thresholds, {len(report.monitoring_plan.steps)} canary steps.",
            sections.MONITORING,
        ),
    )
