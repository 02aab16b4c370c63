"""Rules in plain words beside the words of the gateway, each with its own estimate."""

from __future__ import annotations

import json
import re
from collections.abc import Callable
from types import SimpleNamespace

import pytest

from routing_pipeline.report.html import report_html
from routing_pipeline.report.markdown import report_markdown
from routing_pipeline.report.model import Report
from routing_pipeline.report.rule_sentences import LONGEST_LINE, as_text, machine_form, plain_rules, requests, sentence
from routing_pipeline.rules.model import Between, Rule, WeightedModel, When

Reports = dict[str, Callable[[], Report]]


def test_a_rule_reads_as_one_would_say_it(worlds: SimpleNamespace) -> None:
    rule = worlds.rule(1, "classify", "claude-haiku-4-5", None).model_copy(
        update={"when": When(task_type=("classify",), prompt_tokens=Between(lt=2_000))}
    )
    said = as_text(sentence(rule, worlds.impact(1, "gpt-4o")))
    assert said == "Send classify requests under 2,000 tokens to claude-haiku-4-5 instead of gpt-4o"


@pytest.mark.parametrize(
    ("when", "words"),
    [
        (When(), "all requests"),
        (When(task_type=("chat", "code")), "chat and code requests"),
        (When(task_type=tuple("abcdefg")), "a, b, c, d and 3 others requests"),
        (When(prompt_tokens=Between(gte=500, lt=2_000)), "requests from 500 to under 2,000 tokens"),
        (When(prompt_tokens=Between(gte=2_000)), "requests of 2,000 tokens or more"),
        (When(task_type=("chat",), complexity=Between(lt=0.35)), "chat requests of complexity under 0.35"),
        (When(task_type=("chat",), has_image=False, has_tools=True), "chat requests without images and with tools"),
        (When(complexity=Between(gte=0.2, lt=0.6)), "requests of complexity from 0.2 to under 0.6"),
        (When(task_type=("chat",), team=("growth",), tier=("fast", "cheap")), "chat requests of team growth asking for tier fast or cheap"),
    ],
)
def test_a_condition_reads_as_one_would_say_it(when: When, words: str) -> None:
    assert as_text(requests(when)) == words


def test_a_split_and_an_unchanged_route_are_said_as_such(worlds: SimpleNamespace) -> None:
    split = worlds.rule(1, "chat", "a", None).model_copy(
        update={"route": (WeightedModel(model="a", weight=0.75), WeightedModel(model="b", weight=0.25))}
    )
    assert as_text(sentence(split)) == "Send chat requests to a (75.0 %), b (25.0 %)"
    unchanged = split.model_copy(update={"route": "unchanged"})
    assert as_text(sentence(unchanged)) == "Leave chat requests with the gateway's own choice"


@pytest.mark.parametrize("name", ['a "quoted" {{ name }}', "br{ac}es \\ and \u202e\x00", "plain"])
def test_the_machine_form_reads_back_as_the_rule_and_gives_no_template_engine_anything(worlds: SimpleNamespace, name: str) -> None:
    rule: Rule = worlds.rule(1, name, name, Between(lt=0.5))
    line = machine_form(rule)
    assert line.isascii()
    assert "{{" not in line
    assert "{%" not in line
    read = json.loads(line)
    assert read["when"] == {"task_type": [name], "complexity": {"lt": 0.5}}
    assert read["route"] == [{"model": name, "weight": 1.0}]


def test_names_of_a_megabyte_are_left_to_rules_json(worlds: SimpleNamespace) -> None:
    assert len(machine_form(worlds.rule(1, "L" * 1_000_000, "gpt-4o", None))) < LONGEST_LINE


def test_each_rule_has_its_own_estimate_or_says_that_there_is_none(worlds: SimpleNamespace, reports: Reports) -> None:
    told = plain_rules(reports["rules"]().routing_rules, days=7.0)
    assert [rule.saving_usd.estimate for rule in told] == [154.0, 154.0], "$22 a day, over the window"
    unknown = plain_rules(worlds.proposing("C", impacts=()), days=7.0)
    assert all("not estimated" in rule.saving_usd.unidentifiable for rule in unknown)


def test_every_rule_stands_in_both_documents_with_words_machine_form_and_six_lines(reports: Reports) -> None:
    report = reports["rules"]()
    markdown, page = report_markdown(report), report_html(report)
    part = markdown.split("##### Rule 1\n")[1].split("##### Rule 2\n")[0]
    assert "Send *chat* requests of complexity under 0.5 to gpt-4o-mini instead of gpt-4o." in part
    assert re.search(r"```json\n\{.*\"task_type\": \[\"chat\"\].*\}\n```", part)
    assert re.search(r"\*\*Expected Impact\*\*: Saving in 7 days, once at 100 %: \$154\.00 \[\$133\.00, \$175\.00\]", part)
    assert "Today these requests go to gpt-4o (50.0 %), gpt-4o-mini (50.0 %)." in part
    assert 'id="rule-1"' in page
    assert "Send <em>" in page
