"""Whatever is shown twice is the same number: every quantity, collected from every face of one run.

A face that shows a quantity has a line in QUANTITIES: how it reads there. Numbers from JSON must agree to the last digits; what stands in a text
must be the same number as that text writes it.
"""

from __future__ import annotations

import json
import math
import re
import sys
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

import pytest
from in_process import delivered
from prometheus_client.parser import text_string_to_metric_families
from weeks import write_weeks

from routing_pipeline import text as wording
from routing_pipeline.clock import DAYS_PER_MONTH
from routing_pipeline.parameters import Parameters
from routing_pipeline.serving import metrics
from routing_pipeline.serving.dashboard.data import Follower
from routing_pipeline.serving.mcp.answers import Answers
from routing_pipeline.serving.mcp.tools import BY_NAME
from routing_pipeline.storage.home import Home

COMMAND = [sys.executable, "-c", "from routing_pipeline.cli import main; main()"]
ASKED: dict[str, Any] = {"budget": 650.0, "cost_threshold": 0.012}


@dataclass(frozen=True)
class Faces:
    """What one run showed, and where."""

    report: dict[str, Any]
    rules: dict[str, Any]
    text: str
    """report.md."""
    structured: dict[str, Any]
    """Answers of the MCP tools, by tool."""
    said: dict[str, str]
    about: dict[str, Any]
    metrics: dict[str, float]
    live: dict[str, Any]
    """What the live page knows of month and budget."""
    terminal: str


@pytest.fixture(scope="module")
def faces(tmp_path_factory: pytest.TempPathFactory) -> Faces:
    """Three weeks of logs, of which the newest is analysed."""
    folder = tmp_path_factory.mktemp("one")
    write_weeks(folder, (20_000, 2_500, 2_000))
    options = [word for name, value in ASKED.items() for word in (f"--{name.replace('_', '-')}", str(value))]
    words = [
        "run",
        "--logs",
        folder / "logs",
        "--feedback",
        folder / "feedback",
        "--home",
        folder / "home",
        "--out",
        folder / "out",
        *options,
    ]
    done = delivered(*words)
    home, asked = Home(folder / "home"), Parameters(**ASKED)
    answers = Answers(home, asked)
    calls: dict[str, dict[str, Any]] = {
        "get_routing_analytics": {"timeframe": "7d"},
        "get_routing_costs": {"timeframe": "7d", "group_by": "model"},
        "get_quality_metrics": {"timeframe": "7d"},
        "analyze_request_patterns": {"timeframe": "7d"},
        "identify_cost_drivers": {"timeframe": "7d"},
        "optimize_routing_rules": {},
        "generate_cost_optimization_plan": {"timeframe": "7d"},
        "create_optimization_plan": {"recommendations": "latest"},
        "assess_optimization_risks": {"changes": "latest"},
    }
    told = {tool: answers.answer(BY_NAME[tool], {**arguments, "detail": "full"}) for tool, arguments in calls.items()}
    samples = {
        sample.name.removeprefix(metrics.PREFIX) + "".join(f" {value}" for value in sample.labels.values()): sample.value
        for family in text_string_to_metric_families(metrics.exposition(home).decode())
        for sample in family.samples
    }
    follower = Follower(home, asked)
    follower.refresh()
    assert follower.snapshot is not None
    assert follower.snapshot.projection is not None
    return Faces(
        report=json.loads((folder / "out" / "report.json").read_text()),
        rules=json.loads((folder / "out" / "rules.json").read_text()),
        text=(folder / "out" / "report.md").read_text(),
        structured={tool: answer.structured for tool, answer in told.items()},
        said={tool: answer.text for tool, answer in told.items()},
        about=dict(told["get_routing_costs"].about),
        metrics=samples,
        live=follower.snapshot.projection.model_dump(mode="json"),
        terminal=done.stdout,
    )


# How a face tells a number


Reading = Callable[[Faces], Any]


def at(face: str, path: str) -> Reading:
    """What stands at a path of a face's JSON."""

    def read(faces: Faces) -> Any:
        found: Any = getattr(faces, face)
        for name in path.split("."):
            found = found[int(name)] if isinstance(found, list) else found[name]
        return found

    return read


@dataclass(frozen=True)
class Written:
    """A number as a text writes it: what stands in the brackets of a pattern, and how such numbers are written."""

    face: Callable[[Faces], str]
    pattern: str
    form: Callable[[float], str]

    def __call__(self, faces: Faces) -> str:
        found = re.search(self.pattern, self.face(faces), re.MULTILINE)
        assert found is not None, f"nothing reads like {self.pattern!r}"
        return found[1]


def md(pattern: str, form: Callable[[float], str]) -> Written:
    return Written(lambda faces: faces.text, pattern, form)


def said(tool: str, pattern: str, form: Callable[[float], str]) -> Written:
    return Written(lambda faces: faces.said[tool], pattern, form)


def printed(pattern: str, form: Callable[[float], str]) -> Written:
    return Written(lambda faces: faces.terminal, pattern, form)


def times(reading: Reading, factor: float | Reading) -> Reading:
    return lambda faces: reading(faces) * (factor if isinstance(factor, int | float) else factor(faces))


def waste(face: str, kind: str) -> Reading:
    where = (lambda faces: faces.report["cost_drivers"]) if face == "report" else (lambda faces: faces.structured["identify_cost_drivers"])
    return lambda faces: next(each["count"] for each in where(faces)["waste"] if each["kind"] == kind)


def last_proven(of: Callable[[Faces], dict[str, Any]]) -> Reading:
    return lambda faces: next(each for each in reversed(of(faces)["walk"]) if each["passed"])["quality_change"]["estimate"]


def kpi_high(name: str) -> Reading:
    """Upper end of today's interval of one KPI."""
    return lambda faces: next(each["baseline"]["high"] for each in faces.report["monitoring_plan"]["kpis"] if each["name"] == name)


def impact(of: Callable[[Faces], dict[str, Any]], metric: str) -> Reading:
    def read(faces: Faces) -> Any:
        item = next(each for each in of(faces)["items"] if each["id"] == "rules-canary")
        return next(each for each in item["expected_impact"] if each["metric"] == metric)["value"]["estimate"]

    return read


def of_rules(rules: Reading, field: str) -> Reading:
    """A field of each rule, by its id."""
    return lambda faces: {each["id"]: each[field] for each in rules(faces)}


def of_changes(risks: Reading) -> Reading:
    return lambda faces: {each["id"]: each["risk"] for each in risks(faces) if each["id"] != "rule_set"}


def canary(items: Reading) -> Reading:
    return lambda faces: next(each for each in items(faces) if each["id"] == "rules-canary")["validation_criteria"]


def each_rule(face: Callable[[Faces], str], pattern: str) -> Reading:
    """What a text says of each rule: its number, or its place, and the word or clauses in the brackets."""

    def read(faces: Faces) -> dict[str, str]:
        found = re.findall(pattern, face(faces), re.MULTILINE)
        return {
            f"r{number}": value
            for number, value in (each if isinstance(each, tuple) else (place, each) for place, each in enumerate(found, 1))
        }

    return read


def clauses(reading: Reading) -> Reading:
    """Criteria, one rule's or each rule's, as the report writes them."""

    def read(faces: Faces) -> Any:
        found = reading(faces)
        return {rule: _clauses(each) for rule, each in found.items()} if isinstance(found, dict) else _clauses(found)

    return read


def _clauses(criteria: list[str]) -> str:
    return wording.clauses(tuple(criteria))


def plain(faces: Faces) -> str:
    """report.md without the characters that Markdown needs."""
    return faces.text.replace("\\", "")


COVERED = at("report", "scope.covered_s")
DAYS = times(COVERED, 1 / 86_400)
ANALYTICS, COSTS, QUALITY, DRIVERS = "get_routing_analytics", "get_routing_costs", "get_quality_metrics", "identify_cost_drivers"
RULES, COST_PLAN, PLAN = "optimize_routing_rules", "generate_cost_optimization_plan", "create_optimization_plan"
RISKS = "assess_optimization_risks"
REQUESTS = at("report", "scope.requests")
NUMBER = r"([^\s;,]+)"
USD = rf"({wording.MINUS}?\$[\d.,]*\d)"
PERCENT = rf"({wording.MINUS}?<?[\d.,]+ %|{wording.MINUS}?[\d.,]+)"

QUANTITIES: dict[str, tuple[Reading, ...]] = {
    "window start, s": (
        at("report", "scope.start_s"),
        at("metrics", "window_start_timestamp_seconds"),
    ),
    "window end, as text": (at("rules", "window.end"), at("report", "routing_rules.rule_set.window.end"), at("about", "end")),
    "covered time, s": (
        COVERED,
        at("metrics", "window_covered_seconds"),
        times(at("report", "cost_optimization_plan.window_days"), 86_400),
        times(at("structured", f"{COST_PLAN}.window_days"), 86_400),
    ),
    "requests": (
        REQUESTS,
        at("report", "routing_analytics.requests"),
        at("report", "routing_costs.requests"),
        at("report", "request_patterns.requests"),
        at("structured", f"{ANALYTICS}.requests"),
        at("structured", f"{COSTS}.requests"),
        at("about", "requests"),
        at("metrics", "requests"),
        md(r"Total Requests Analyzed\*\*: ([\d,]+)", wording.count),
        md(r"for ([\d,]+) requests \(counted", wording.count),
        said(ANALYTICS, r"([\d,]+) requests", wording.count),
        printed(r"Today: ([\d,]+) requests", wording.count),
    ),
    "spend, USD": (
        at("report", "routing_costs.total_usd"),
        at("report", "cost_drivers.spend_usd"),
        at("report", "cost_drivers.budgets.0.spend_usd"),
        at("report", "routing_costs.budgets.0.window_usd"),
        at("structured", f"{COSTS}.total_usd"),
        at("structured", f"{DRIVERS}.spend_usd"),
        times(at("report", "routing_costs.per_day_usd"), DAYS),
        at("metrics", "spend_usd"),
        md(rf"\*\*Total Spend\*\*: {USD}", wording.usd),
        md(rf"What we spent: \[{USD}\]", wording.usd),
        md(rf"^- Spend: {USD} in 7 days", wording.usd),
        said(COSTS, rf"Spend {USD}", wording.usd),
        said(DRIVERS, rf"the window spent {USD}", wording.usd),
        printed(rf"{USD} in all", wording.usd),
    ),
    "cost per request, USD": (
        at("report", "routing_costs.per_request_usd.estimate"),
        at("structured", f"{COSTS}.per_request_usd.estimate"),
        at("metrics", "request_cost_usd estimate"),
        md(rf"\*\*Current Average Cost\*\*: {USD}", wording.usd),
        said(COSTS, rf"per request {USD}", wording.usd),
        printed(rf"{USD} \[[^\]]*\] per request", wording.usd),
    ),
    "success rate": (
        at("report", "routing_analytics.success_rate.estimate"),
        at("report", "quality_metrics.overall.completion.estimate"),
        at("structured", f"{ANALYTICS}.success_rate.estimate"),
        at("structured", f"{QUALITY}.overall.completion.estimate"),
        at("metrics", "success_ratio estimate"),
        md(rf"\*\*Success Rate\*\*: {PERCENT}", wording.percent),
        said(ANALYTICS, rf"Success {PERCENT}", wording.percent),
    ),
    "range of the cost per request, USD": (
        at("report", "routing_costs.per_request_usd.high"),
        kpi_high("Cost per request"),
    ),
    "range of the success rate": (
        at("report", "routing_analytics.success_rate.high"),
        kpi_high("Completion rate"),
    ),
    "range of the mean latency, ms": (
        at("report", "routing_analytics.latency.mean_ms.high"),
        kpi_high("Mean latency"),
    ),
    "quality today": (
        at("report", "quality_metrics.overall.quality_corrected.estimate"),
        at("structured", f"{QUALITY}.overall.quality_corrected.estimate"),
        at("metrics", "quality_ratio estimate"),
        md(rf"\*\*Current Average Quality\*\*: {NUMBER}", wording.score),
        md(rf"\*\*Average Quality Score\*\*: {NUMBER}", wording.score),
        said(QUALITY, rf"Corrected for which were scored: {NUMBER}", wording.score),
        printed(rf"mean quality {NUMBER}", wording.score),
    ),
    "requests that fell back": (
        waste("report", "fallbacks"),
        waste("structured", "fallbacks"),
        times(at("report", "routing_analytics.fallback_rate.estimate"), REQUESTS),
        times(at("structured", f"{ANALYTICS}.fallback_rate.estimate"), REQUESTS),
        times(at("metrics", "fallback_ratio estimate"), REQUESTS),
        md(r"^- Fallbacks: ([\d,]*\d)", wording.count),
    ),
    "requests that were tried again": (
        waste("report", "retries"),
        waste("structured", "retries"),
        times(at("report", "routing_analytics.retry_rate.estimate"), REQUESTS),
        times(at("structured", f"{ANALYTICS}.retry_rate.estimate"), REQUESTS),
        md(r"^- Retries: ([\d,]*\d)", wording.count),
    ),
    "budget of a month, USD": (
        at("report", "scope.parameters.budget"),
        at("report", "budget_projection.month.budget_usd"),
        at("report", "routing_costs.budgets.0.budget_usd_per_month"),
        at("report", "cost_drivers.budgets.0.budget_usd_per_month"),
        at("live", "month.budget_usd"),
        at("metrics", "month_budget_usd"),
        md(rf"of {USD} is spent", wording.usd),
    ),
    "budget used": (
        at("report", "budget_projection.month.used.estimate"),
        at("report", "routing_costs.budgets.0.used.estimate"),
        at("report", "routing_costs.month.used.estimate"),
        at("structured", f"{COSTS}.budgets.0.used.estimate"),
        at("structured", f"{COSTS}.budget_projection.month.used.estimate"),
        lambda faces: next(value for name, value in faces.metrics.items() if name.startswith("month_budget_used_ratio ")),
        at("live", "month.used.estimate"),
        md(rf"\*\*Budget Utilization\*\*:.*?{PERCENT} of \$", wording.percent),
        said(COSTS, rf"The whole budget:.*?{PERCENT} of \$", wording.percent),
    ),
    "budget used, named as": (
        at("report", "budget_projection.month.used_is"),
        at("report", "routing_costs.budgets.0.used_is"),
        at("live", "month.used_is"),
    ),
    "verdict on the budget": (
        at("report", "budget_projection.month.verdict"),
        at("report", "routing_costs.budgets.0.verdict"),
        at("structured", f"{COSTS}.budgets.0.verdict"),
        at("structured", f"{COSTS}.month.verdict"),
        at("live", "month.verdict"),
    ),
    "the window's part of the budget": (
        at("report", "cost_drivers.budgets.0.used"),
        at("structured", f"{DRIVERS}.budgets.0.used"),
        lambda faces: (
            faces.report["routing_costs"]["budgets"][0]["window_usd"] / faces.report["routing_costs"]["budgets"][0]["window_allowed_usd"]
        ),
        md(rf"its share of \$[\d.,]+ for that time \({PERCENT}\)", wording.percent),
    ),
    "the month so far, USD": (
        at("report", "budget_projection.month.observed_usd"),
        at("report", "routing_costs.month.observed_usd"),
        at("structured", f"{COSTS}.month.observed_usd"),
        at("live", "month.observed_usd"),
        at("metrics", "month_spend_usd"),
        said(COSTS, rf"2026-11: {USD} so far", wording.usd),
    ),
    "the month's end, USD": (
        at("report", "budget_projection.month.total_usd.estimate"),
        at("report", "routing_costs.month.total_usd.estimate"),
        at("report", "routing_costs.budgets.0.month_end_usd.estimate"),
        times(at("report", "routing_costs.budgets.0.month_end.estimate"), ASKED["budget"]),
        at("structured", f"{COSTS}.month.total_usd.estimate"),
        at("structured", f"{COSTS}.budget_projection.month.total_usd.estimate"),
        at("live", "month.total_usd.estimate"),
        at("metrics", "month_projected_usd estimate"),
        md(rf"November 2026 comes to {USD}", wording.usd),
        md(rf"^\| all \| 2026-11 \| [^|]* \| {USD}", wording.usd),
        said(COSTS, rf"2026-11: .*?by its end, from \d+ days of spend: {USD}", wording.usd),
    ),
    "the quarter's end, USD": (
        at("report", "budget_projection.quarter.total_usd.estimate"),
        at("report", "routing_costs.quarter.total_usd.estimate"),
        at("structured", f"{COSTS}.quarter.total_usd.estimate"),
        at("live", "quarter.total_usd.estimate"),
        at("metrics", "quarter_projected_usd estimate"),
    ),
    "complete days of spend": (
        at("report", "budget_projection.history_days"),
        at("live", "history_days"),
        md(r"Month and quarter, from (\d+) days of spend", wording.count),
    ),
    "rule set": (
        at("rules", "rule_set_id"),
        at("report", "routing_rule_set.rule_set_id"),
        at("report", "routing_rules.rule_set.rule_set_id"),
        at("structured", f"{RULES}.rule_set.rule_set_id"),
        lambda faces: re.search(r"Rule set (\S+), status", faces.text.replace("\\", ""))[1],  # type: ignore[index]
        lambda faces: re.search(r"Rule set `(\S+)`", faces.said[RULES])[1],  # type: ignore[index]
    ),
    "rules": (
        lambda faces: len(faces.rules["rules"]),
        lambda faces: len(faces.report["routing_rules"]["impacts"]),
        at("metrics", "rule_set_rules"),
        said(RULES, r"`: (\d+) rules", wording.count),
    ),
    "change of cost": (
        at("rules", "expected.change.cost_usd.relative.estimate"),
        at("structured", f"{RULES}.rule_set.expected.change.cost_usd.relative.estimate"),
        at("metrics", "rule_set_cost_change_ratio estimate"),
        at("report", "routing_rule_set.expected.change.cost_usd.relative.estimate"),
    ),
    "saving in the window, USD": (
        times(at("report", "routing_rules.saving_usd_per_day.estimate"), DAYS),
        times(at("structured", f"{RULES}.saving_usd_per_day.estimate"), DAYS),
        times(times(impact(lambda faces: faces.report["optimization_plan"], "cost"), 1 / DAYS_PER_MONTH), DAYS),
        times(times(impact(lambda faces: faces.structured[PLAN], "cost"), 1 / DAYS_PER_MONTH), DAYS),
        md(rf"What we could save: \[{USD}\]", wording.usd),
        md(rf"\*\*Cost Reduction\*\*: .*?\({USD}", wording.usd),
        md(rf"\*\*Optimization Potential\*\*: {USD}", wording.usd),
    ),
    "change of quality": (
        last_proven(lambda faces: faces.report["routing_rules"]),
        last_proven(lambda faces: faces.structured[RULES]),
        impact(lambda faces: faces.report["optimization_plan"], "quality"),
        impact(lambda faces: faces.structured[PLAN], "quality"),
        at("report", "optimization_risks.changes.0.quality_falls.estimate"),
        at("structured", "assess_optimization_risks.changes.0.quality_falls.estimate"),
        md(r"\*\*Quality Maintenance\*\*: (.\d+\.\d+)", wording.of_100),
    ),
    "requests that move": (
        at("report", "routing_rules.moved_share"),
        at("structured", f"{RULES}.moved_share"),
        at("report", "optimization_risks.changes.0.blast_radius.traffic_share"),
        md(rf"At the end {PERCENT} of requests", wording.percent),
    ),
    "risk of the rule set": (
        at("report", "optimization_risks.overall"),
        at("report", "optimization_risks.changes.0.risk"),
        at("structured", "assess_optimization_risks.overall"),
        lambda faces: next(each["risk"] for each in faces.report["optimization_plan"]["items"] if each["id"] == "rules-canary"),
        lambda faces: next(each["risk"] for each in faces.report["cost_optimization_plan"]["actions"] if each["id"] == "rules"),
    ),
    "spend in 30 days, USD": (
        at("report", "cost_optimization_plan.spend_usd.estimate"),
        at("structured", f"{COST_PLAN}.spend_usd.estimate"),
        times(at("report", "routing_costs.per_day_usd"), DAYS_PER_MONTH),
        md(rf"30 days at the window's pace: {USD} of spend", wording.usd),
    ),
    "planned saving in 30 days, USD": (
        at("report", "cost_optimization_plan.planned_saving_usd.estimate"),
        at("structured", f"{COST_PLAN}.planned_saving_usd.estimate"),
        md(rf"of spend, {USD} of planned saving", wording.usd),
    ),
    "planned reduction": (
        at("report", "cost_optimization_plan.planned_reduction.estimate"),
        at("structured", f"{COST_PLAN}.planned_reduction.estimate"),
        md(rf"^- Planned saving: .*?\({PERCENT} \[", wording.percent),
        said(COST_PLAN, rf"planned {PERCENT} \[", wording.percent),
    ),
    "payback, days per 1,000 USD": (
        at("report", "optimization_plan.payback.days_per_1000_usd.estimate"),
        at("structured", f"{PLAN}.payback.days_per_1000_usd.estimate"),
        lambda faces: 1_000 * DAYS_PER_MONTH / faces.report["cost_optimization_plan"]["planned_saving_usd"]["estimate"],
        md(r"\*\*ROI Timeline\*\*: ([\d.,]+)", lambda days: wording.days(days).split()[0]),
    ),
    "days of the rollout": (
        lambda faces: math.fsum(step["planned_days"] for step in faces.report["monitoring_plan"]["steps"]),
        md(r"grows in \d+ steps over about ([\d.,]+) days?", lambda days: wording.days(days).split()[0]),
        printed(r"over about (\d+) days", wording.number),
    ),
    "days of exploration": (
        at("report", "monitoring_plan.exploration.days"),
        md(r"Needs about ([\d.,]+) days", lambda days: wording.days(days).split()[0]),
    ),
    "share explored": (
        at("report", "monitoring_plan.exploration.share"),
        md(r"Send a random (\d+) %", lambda share: f"{100 * share:.0f}"),
    ),
    # None on every face where no model alone serves the goal within the limits.
    "best single model": (
        lambda faces: (faces.report["tradeoff_frontier"]["best_single_model"] or {"mix": [{"model": None}]})["mix"][0]["model"],
        lambda faces: (re.search(r"Of single models (\S+) serves the goal best", faces.text.replace("\\", "")) or [None, None])[1],
        lambda faces: (re.search(r"^\| Best single model: (\S+)", faces.text.replace("\\", ""), re.MULTILINE) or [None, None])[1],
    ),
    "risk of each rule": (
        of_rules(at("rules", "rules"), "risk"),
        of_rules(at("report", "routing_rule_set.rules"), "risk"),
        of_rules(at("report", "routing_rules.rule_set.rules"), "risk"),
        of_rules(at("structured", f"{RULES}.rule_set.rules"), "risk"),
        of_changes(at("report", "optimization_risks.changes")),
        of_changes(at("structured", f"{RISKS}.changes")),
        each_rule(plain, r"^\| \[(\d+)\]\(#rule-\d+\).*\| (\w+) \|$"),
        each_rule(plain, r"\*\*Risk Level\*\*: (\w+) \(grade"),
        # The lines for people name the first few.
        lambda faces: (
            of_rules(at("rules", "rules"), "risk")(faces)
            | each_rule(lambda of: of.said[RISKS], r"Rule r(\d+): [^\n]*?: (\w+) risk;")(faces)
        ),
    ),
    "criteria of each rule": (
        of_rules(at("rules", "rules"), "validation_criteria"),
        of_rules(at("report", "routing_rule_set.rules"), "validation_criteria"),
        of_rules(at("structured", f"{RULES}.rule_set.rules"), "validation_criteria"),
    ),
    "criteria of each rule, as clauses": (
        clauses(of_rules(at("rules", "rules"), "validation_criteria")),
        each_rule(plain, r"\*\*Risk Level\*\*: \w+ \(grade .*\n- \*\*Validation Criteria\*\*: (.*)$"),
    ),
    "criteria of the rule set": (
        at("rules", "validation_criteria"),
        at("report", "routing_rule_set.validation_criteria"),
        at("structured", f"{RULES}.rule_set.validation_criteria"),
        canary(at("report", "optimization_plan.items")),
        canary(at("structured", f"{PLAN}.items")),
    ),
    "criteria of the rule set, as clauses": (
        lambda faces: wording.clauses(tuple(faces.rules["validation_criteria"]), 3),
        lambda faces: re.search(r"\*\*Validation Criteria\*\*: (Mean quality over all requests .*)$", plain(faces), re.MULTILINE)[1],  # type: ignore[index]
    ),
    "grade of the evidence": (
        at("report", "routing_evidence.grade"),
        lambda faces: re.search(r"[Ee]vidence grade (\w)", plain(faces))[1],  # type: ignore[index]
        lambda faces: re.search(r"[Ee]vidence grade (\w)", faces.terminal)[1],  # type: ignore[index]
    ),
    "scores read": (
        at("report", "feedback.records"),
        md(r"Feedback: ([\d,]+) scores? read", wording.count),
        said(QUALITY, r"Feedback: ([\d,]+) scores? read", wording.count),
    ),
    "scores that found their request": (
        at("report", "feedback.matched"),
        md(r"Feedback: .*?read, ([\d,]+) matched", wording.count),
        said(QUALITY, r"Feedback: .*?read, ([\d,]+) matched", wording.count),
    ),
    "scores refused": (
        at("report", "feedback.quarantined"),
        md(r"Feedback: .*?, ([\d,]+) refused", wording.count),
        said(QUALITY, r"Feedback: .*?, ([\d,]+) refused", wording.count),
    ),
    "scored answers": (
        at("report", "scope.labelled"),
        at("report", "quality_metrics.overall.labelled"),
        at("structured", f"{QUALITY}.overall.labelled"),
        said(QUALITY, r"over ([\d,]+) scored answers", wording.count),
    ),
    "throughput, requests per minute": (
        at("report", "routing_analytics.throughput.mean_per_minute"),
        at("structured", f"{ANALYTICS}.throughput.mean_per_minute"),
        times(at("report", "request_patterns.peaks.mean_per_hour"), 1 / 60),
        lambda faces: faces.report["scope"]["requests"] / faces.report["scope"]["covered_s"] * 60,
    ),
}


def test_every_quantity_reads_the_same_on_every_face(faces: Faces) -> None:
    assert faces.rules["rules"], "a run without rules shows half of the quantities"
    differ = [each for name, readings in QUANTITIES.items() for each in _differences(name, readings, faces)]
    assert not differ, "\n".join(differ)


def _differences(name: str, readings: tuple[Reading, ...], faces: Faces) -> Iterator[str]:
    """Each reading that is not the first one's number."""
    first = readings[0](faces)
    for place, reading in enumerate(readings[1:], 1):
        try:
            found = reading(faces)
        except (AssertionError, KeyError, IndexError, TypeError) as error:
            yield f"{name}: reading {place} finds nothing ({error!r})"
            continue
        if isinstance(reading, Written):
            shown = reading.form(first)
            is_same = found.removesuffix(" %") == shown.removesuffix(" %")
        elif isinstance(first, int | float) and isinstance(found, int | float):
            shown, is_same = str(first), found == pytest.approx(first, rel=1e-9)
        else:
            shown, is_same = str(first), found == first
        if not is_same:
            yield f"{name}: {shown} in reading 0, {found} in reading {place}"


def test_nothing_says_the_month_twice(faces: Faces) -> None:
    assert "from the window alone" not in faces.text
    assert faces.said[COSTS].count("2026-11: ") == 1
    assert faces.report["routing_costs"]["month"] == faces.report["budget_projection"]["month"]
    assert faces.report["routing_costs"]["quarter"] == faces.report["budget_projection"]["quarter"]
