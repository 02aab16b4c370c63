"""A rule set and a home's reports as somebody reads them before deciding."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from routing_pipeline.estimates import Estimate, Unidentifiable
from routing_pipeline.rules.home_status import _next, home_status, status_lines
from routing_pipeline.rules.in_words import proposal_lines, rule_line, rule_lines, saving
from routing_pipeline.rules.model import Rule
from routing_pipeline.rules.past_reports import lines, past_reports
from routing_pipeline.rules.record import RuleSetRecord, record_of
from routing_pipeline.storage.home import Home
from tests.recommendation.test_realized_outcomes import promise

ID = "2026-11-01T00:00:00Z-aaaaaaaa"


def rule(**said: object) -> Rule:
    first = promise(ID).rules[0].model_dump(mode="json")
    return Rule.model_validate({**first, **said})


@pytest.mark.parametrize(
    ("when", "said"),
    [
        ({}, "all requests: -> small"),
        ({"task_type": ["chat", "code"]}, "chat and code: -> small"),
        ({"task_type": ["chat"], "prompt_tokens": {"lt": 2000}}, "chat, under 2,000 tokens: -> small"),
        ({"complexity": {"gte": 0.5}, "has_image": False}, "all requests, complexity from 0.5, without images: -> small"),
        ({"team": ["growth"], "tier": ["cheap"]}, "all requests, of team growth, asking for cheap: -> small"),
        ({"task_type": ["chat"], "team": ["growth", "data"]}, "chat, of teams growth and data: -> small"),
    ],
)
def test_a_rule_is_one_line(when: dict[str, object], said: str) -> None:
    assert rule_line(rule(when=when, route=[{"model": "small", "weight": 1.0}])) == said


def test_shares_of_a_weighted_route_are_told_and_an_unchanged_one_is_as_today() -> None:
    halves = [{"model": "a", "weight": 0.5}, {"model": "b", "weight": 0.5}]
    assert rule_line(rule(when={}, route=halves)) == "all requests: -> a (50 %), b (50 %)"
    assert rule_line(rule(when={}, route="unchanged")) == "all requests: as today"


def test_a_long_rule_set_is_cut_and_says_so() -> None:
    many = [rule(id=f"r{number}", priority=number) for number in range(1, 20)]
    told = list(rule_lines(many))
    assert (len(told), told[-1]) == (13, "and 7 more rules, in rules.json")


def test_what_is_not_known_in_dollars_is_told_as_a_share() -> None:
    rules = promise(ID)
    assert "$300.00 [$270.00, $330.00] in 30 days" in saving(rules, Estimate(estimate=10.0, low=9.0, high=11.0))
    assert saving(rules, Unidentifiable(unidentifiable="why")).startswith("cost per request ")


@pytest.fixture
def home(tmp_path: Path) -> Home:
    return Home(tmp_path).create()


@pytest.fixture
def record(home: Home) -> RuleSetRecord:
    return record_of(home)


def test_whoever_decides_sees_rules_saving_quality_and_size(record: RuleSetRecord) -> None:
    told = "\n".join(proposal_lines(record.propose(promise(ID).model_copy(update={"status": "proposed"}), 0.4, 0.6), None))
    for part in (ID, "r1: ", "saving: ", "quality: ", "evidence: grade ", "it moves 40.0 % of traffic and 60.0 % of spend"):
        assert part in told


def test_a_home_without_anything_says_what_to_do_first(home: Home, record: RuleSetRecord) -> None:
    found = home_status(home, record)
    assert found.next_step == "routing-pipeline run --logs URI --out report"
    told = list(status_lines(found))
    assert len(told) <= 10
    assert "no rule set; gateways choose by themselves" in "\n".join(told)


def test_a_status_counts_the_rules_that_it_does_not_show(home: Home, record: RuleSetRecord) -> None:
    found = home_status(home, record).model_copy(update={"rules": tuple(f"r{each}: -> small" for each in range(13)), "rules_proposed": 16})
    assert [line for line in status_lines(found) if "more" in line] == ["           r2: -> small; and 13 more"]


def test_a_report_of_another_version_is_listed_as_one(home: Home, record: RuleSetRecord) -> None:
    home.runs.keep("0815", promise(ID), None, {"report.md": b""}, key="0" * 16)
    (each,) = past_reports(home.runs, record)
    assert (each.goal, each.state, each.is_latest) == (None, None, True)
    assert "another version" in next(lines([each]))
    assert home_status(home, record).next_step == "routing-pipeline run --logs URI --out report", "nothing was read yet"
    assert _next(1.0, each, None) == "routing-pipeline analyze --out report"
    json.loads(each.model_dump_json())
