"""report.md: the task's structure, every placeholder filled, and nothing that a log can say breaks out of its place."""

from __future__ import annotations

import re
from collections.abc import Callable
from types import SimpleNamespace

import pytest
from markdown_it import MarkdownIt
from markdown_it.token import Token

from routing_pipeline.feasibility.feasible import NOT_LOGGED, ModelFeasibility
from routing_pipeline.report import printed
from routing_pipeline.report.headlines import headlines
from routing_pipeline.report.markdown import escape, report_markdown
from routing_pipeline.report.model import Report
from routing_pipeline.text import printable

HEADINGS = [
    "# LLM Routing Optimization Report",
    "## Executive Summary",
    "## Current State Analysis",
    "### Performance Metrics",
    "### Cost Analysis",
    "### Quality Metrics",
    "## Optimization Opportunities",
    "### High-Impact Improvements",
    "### Medium-Impact Improvements",
    "### Low-Impact Improvements",
    "## Recommended Routing Rules",
    "### Updated Rule Set",
    "### Model Selection Matrix",
    "## Implementation Plan",
    "### Phase 1: Immediate Changes (Week 1)",
    "### Phase 2: Tactical Improvements (Weeks 2-4)",
    "### Phase 3: Strategic Enhancements (Months 2-3)",
    "## Expected Outcomes",
    "## Monitoring and Validation",
]
OURS = ["## Since the Last Report", "## Data Quality", "## Method", "## Assumptions", "## Validation Checklist", "## How to Reproduce"]
LABELS = [
    *("Analysis Period", "Total Requests Analyzed", "Current Average Cost", "Current Average Quality"),
    *("Optimization Potential", "Recommended Actions"),
    *("Average Routing Latency", "Success Rate", "Model Distribution", "Peak Usage"),
    *("Total Spend", "Cost per Task Type", "Budget Utilization", "Cost Trend"),
    *("Average Quality Score", "Quality by Model", "Task Completion Rate"),
    *("Cost Reduction", "Performance Improvement", "Quality Maintenance", "ROI Timeline"),
]
OPTIMIZATION_LABELS = [
    *("Current State", "Recommended Change", "Expected Impact", "Implementation Effort", "Risk Level", "Validation Criteria"),
]
EVERY_REPORT = ["empty", "refusal", "no change", "rules", "proven rules", "full"]
HOSTILE = [
    "| broken | table |",
    "`code` ``` fence",
    "</script><script>alert(1)</script>",
    "{{ 7 * 7 }} {% raw %} ${HOME} {placeholder}",
    "first line\n\n# A heading\n- item\n\n```\nfence",
    "<img src=x onerror=alert(1)> <!-- comment",
    "[click](javascript:alert(1)) ![x](https://evil.example/x.png)",
    "https://evil.example www.evil.example me@evil.example",
    "**bold** __strong__ _em_ ~~gone~~ \\",
    "1. first",
    "- [x] done",
    "> quoted",
    "a very long name " * 2_000,
    "\u202eright to left\u0000\u001b[31m",
    "&lt;b&gt; &#35; &amp;",
]

Reports = dict[str, Callable[[], Report]]


def parsed(text: str) -> list[Token]:
    return MarkdownIt("gfm-like", {"linkify": False}).parse(text)


def outside_code(text: str) -> str:
    """The report without its code blocks: rules as the gateway reads them have braces of their own."""
    return re.sub(r"^```.*?^```$", "", text, flags=re.MULTILINE | re.DOTALL)


def shape(tokens: list[Token]) -> list[str]:
    """Kinds of all tokens, inline ones included; text may differ, structure may not."""
    return [each.type for token in tokens for each in (token, *(token.children or [])) if each.type != "softbreak"]


def addresses(tokens: list[Token]) -> list[str]:
    """Where links go."""
    links = (child for token in tokens for child in token.children or [] if child.type == "link_open")
    return [str(each.attrs["href"]) for each in links]


@pytest.mark.parametrize("kind", EVERY_REPORT)
def test_the_headings_are_those_of_the_task_in_its_order(reports: Reports, kind: str) -> None:
    lines = report_markdown(reports[kind]()).splitlines()
    end = lines.index("## Appendix")
    assert [line for line in lines[:end] if re.match(r"#{1,3} ", line)] == HEADINGS
    assert [line for line in lines[end + 1 :] if re.match(r"## ", line)] == OURS


@pytest.mark.parametrize("kind", EVERY_REPORT)
def test_every_table_has_the_row_that_makes_it_one(reports: Reports, kind: str) -> None:
    tables = re.findall(r"(?:^\|.*\n)+", outside_code(report_markdown(reports[kind]())), re.MULTILINE)
    assert tables
    for table in tables:
        header, delimiter, *_ = table.splitlines()
        assert re.fullmatch(r"\|(?:-+:?\|)+", delimiter), header
        assert delimiter.count("|") == header.count("|")


@pytest.mark.parametrize("kind", EVERY_REPORT)
def test_every_placeholder_of_the_task_is_filled(reports: Reports, kind: str) -> None:
    text = report_markdown(reports[kind]())
    for label in LABELS:
        (line,) = re.findall(rf"^- \*\*{label}\*\*: (.*)$", text, re.MULTILINE)
        assert line.strip()
    assert not re.search(r"[{}]", outside_code(text))
    assert not re.search(r"\{\{|\{%|\$\{", text), "something for a template engine"
    assert not re.search(r"\bNone\b|\bnan\b|\binf\b|Undefined", text)
    assert not re.search(r"\d\.\d{7,}|\de[+-]\d", text), "a raw float"


def test_what_was_assumed_of_needs_stands_on_page_one_and_what_models_could_not_serve_beside_their_speed(reports: Reports) -> None:
    report = reports[EVERY_REPORT[0]]()
    could_not = ModelFeasibility(model="small", infeasible_requests=1_396, infeasible_share=0.058)
    assert NOT_LOGGED not in report_markdown(report)
    evidence = report.routing_evidence.model_copy(update={"assumptions": (NOT_LOGGED,), "feasibility": (could_not,)})
    text = report_markdown(report.model_copy(update={"routing_evidence": evidence}))
    assert text.index(NOT_LOGGED) < text.index("## Current State Analysis")
    assert re.search(r"Requests that a model could not have served:\s+small 1,396 \(5\.8 %\)\.", text)


@pytest.mark.parametrize("kind", EVERY_REPORT)
def test_each_optimization_has_the_six_lines_of_the_task(reports: Reports, kind: str) -> None:
    report = reports[kind]()
    text = report_markdown(report)
    for label in OPTIMIZATION_LABELS:
        told = len(report.optimization_plan.items) + len(report.routing_rule_set.rules)
        assert len(re.findall(rf"^- \*\*{label}\*\*: \S", text, re.MULTILINE)) == told
    assert set(re.findall(r"\*\*Implementation Effort\*\*: (\w+)", text)) <= {"Low", "Medium", "High"}


def test_a_number_stands_with_its_interval_or_with_why_there_is_none(reports: Reports) -> None:
    full, empty = report_markdown(reports["full"]()), report_markdown(reports["empty"]())
    assert re.search(r"\*\*Cost Reduction\*\*: 34\.0 % \[31\.0, 37\.0\] \(\$308\.00 \[\$266\.00, \$350\.00\] in 7 days\)", full)
    assert re.search(r"\*\*Average Routing Latency\*\*: cannot tell: \S", empty)


@pytest.mark.parametrize(("kind", "says"), [("rules", "worth an A/B test"), ("proven rules", "are expected to lower cost by 34.0 %")])
def test_the_tone_follows_the_grade_of_the_evidence(reports: Reports, kind: str, says: str) -> None:
    text = report_markdown(reports[kind]())
    outcomes = text.split("## Expected Outcomes")[1].split("## Monitoring")[0]
    assert says in outcomes
    assert ("A/B test" in outcomes) == (kind == "rules")
    assert "will save" not in text


def test_no_change_says_what_to_explore_and_promises_nothing(reports: Reports) -> None:
    text = report_markdown(reports["no change"]())
    assert "No change of the routing rules is recommended" in text
    assert "randomly chosen model" in text.split("## Current State Analysis")[0]
    assert re.search(r"\*\*Cost Reduction\*\*: 0 % \(\$0\.00 in 7 days\)", text)
    assert "[Nothing](#updated-rule-set)** that could be shown" in text
    assert "easy chat to gpt-4o-mini" in text


def test_a_refusal_says_why_and_how_many_days_to_collect(reports: Reports) -> None:
    text = report_markdown(reports["refusal"]())
    assert "These logs cannot tell what other routing would do: fewer than 1,000 requests" in text
    assert "12 more days of logs" in text


def test_the_checklists_name_the_six_steps_and_the_six_criteria(reports: Reports) -> None:
    text = report_markdown(reports["rules"]())
    found = re.findall(r"^- \[([ x])\] ([^.:]+)", text.split("## Validation Checklist")[1], re.MULTILINE)
    steps = [
        "Data Accuracy",
        "Baseline Establishment",
        "Optimization Modeling",
        "Impact Estimation",
        "Risk Assessment",
        "Stakeholder Review",
    ]
    assert [label for _, label in found[:6]] == steps
    assert len(found) == 12
    assert (found[5][1], found[5][0]) == ("Stakeholder Review", " "), "a change that moves 60 % of traffic is not approved yet"


@pytest.mark.parametrize("name", HOSTILE)
def test_no_name_from_a_log_changes_the_structure(full_of: Callable[[str], Report], name: str) -> None:
    harmless = parsed(report_markdown(full_of("a model")))
    broken = parsed(report_markdown(full_of(name)))
    assert shape(broken) == shape(harmless)
    assert not {"html_block", "html_inline", "image"} & set(shape(broken))
    assert all(address.startswith("#") for address in addresses(broken))


@pytest.mark.parametrize("name", HOSTILE)
def test_escaped_text_renders_as_that_very_text(name: str) -> None:
    (paragraph,) = (token for token in parsed(f"- {escape(printable(name))}") if token.type == "inline")
    rendered = "".join(child.content for child in paragraph.children or [] if child.type in {"text", "text_special"})
    assert rendered == printable(name)


@pytest.mark.parametrize("name", ["https://evil.example", "www.evil.example", "me@evil.example"])
def test_a_name_is_never_turned_into_a_link(name: str) -> None:
    linkifying = MarkdownIt("commonmark").enable("table").render(str(escape(name)))
    assert "<a" not in linkifying
    assert not re.search(r"://|www\.|@", str(escape(name)))


def test_a_report_stays_short_whatever_the_names(full_of: Callable[[str], Report]) -> None:
    assert len(report_markdown(full_of("x" * 100_000))) < 200_000


def test_the_command_that_makes_the_report_again_is_in_it(reports: Reports) -> None:
    text = report_markdown(reports["rules"]())
    assert (
        "```\nrouting-pipeline analyze --home /data/home --timeframe 7d --as-of 2026-11-23T00:00:00Z --goal balanced --out OUT\n```" in text
    )


@pytest.mark.parametrize("kind", EVERY_REPORT)
def test_the_headlines_are_a_few_plain_lines(reports: Reports, kind: str) -> None:
    lines = headlines(reports[kind]())
    assert [line.split(":")[0] for line in lines if not line.startswith("Incident")] == ["Today", "Finding", "How sure", "Next"]
    assert all(line.isprintable() and len(line) <= 600 for line in lines)


def test_that_nothing_is_recommended_is_said_once_in_the_headlines(worlds: SimpleNamespace) -> None:
    why = "No change is recommended: even the safest candidate failed its proof."
    report: Report = worlds.assembled(worlds.scope_of(), worlds.evidence_of("A"), worlds.proposing_nothing(reasons=(why,)))
    (finding,) = [line for line in headlines(report) if line.startswith("Finding")]
    assert finding.endswith("could be proven on these logs. Even the safest candidate failed its proof.")


def test_whoever_has_no_scores_is_told_to_hand_them_over_first_and_of_no_proof(worlds: SimpleNamespace) -> None:
    evidence = worlds.evidence_of("C", refusal="no request carries a quality score")
    report: Report = worlds.assembled(worlds.scope_of(), evidence, worlds.proposing_nothing(reasons=()))
    nobody = report.quality_metrics.overall.model_copy(update={"quality_share": 0.0})
    report = report.model_copy(update={"quality_metrics": report.quality_metrics.model_copy(update={"overall": nobody})})
    told = list(printed.lines(report))
    (following,) = [line for line in told if line.startswith("Next: ")]
    assert following.startswith("Next: First hand over scores of answers with --feedback")
    assert not [line for line in told if line.startswith("Proof: ") or "0 %" in line]
