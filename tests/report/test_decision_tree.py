"""The picture of a rule set decides as the rules do, and no name in it is anything but text."""

from __future__ import annotations

import re
from collections.abc import Callable
from types import SimpleNamespace
from typing import Any
from xml.etree import ElementTree as ET

import pytest
from hypothesis import given, strategies as st

from routing_pipeline.report import decision_tree
from routing_pipeline.report.decision_tree import OWN_CHOICE, Node
from routing_pipeline.report.model import Report
from routing_pipeline.rules.model import Between, Rule, RuleEvidence, WeightedModel, When, cannot_tell

Reports = dict[str, Callable[[], Report]]
TASKS = ("chat", "code", "classify")
EDGES = (0.2, 0.4, 0.6)


def made(number: int, when: When, model: str) -> Rule:
    return Rule(
        id=f"r{number}",
        priority=number,
        when=when,
        route=(WeightedModel(model=model, weight=1.0),),
        rationale="",
        evidence=RuleEvidence(requests=1, labelled=1, effective_sample_size=1.0, min_propensity=0.1, grade="B"),
        expected=cannot_tell("made up"),
        effort="Low",
        risk="Low",
        validation_criteria=(),
    )


@st.composite
def rules(draw: Any) -> tuple[Rule, ...]:
    found = []
    for number in range(1, draw(st.integers(1, 6)) + 1):
        tasks = draw(st.none() | st.lists(st.sampled_from(TASKS), min_size=1, max_size=3, unique=True).map(tuple))
        edges = draw(st.none() | st.tuples(st.sampled_from((None, *EDGES)), st.sampled_from((None, *EDGES))))
        between = None if edges is None else Between(gte=edges[0], lt=edges[1])
        found.append(made(number, When(task_type=tasks, complexity=between), f"model {number}"))
    return tuple(found)


def decided(node: Node, task: str, complexity: float) -> str:
    """Follow the tree for one request."""
    for answer, below in node.branches:
        if node.label == "task type?" and (task in re.split(r", | and ", answer) or answer == "any other"):
            return decided(below, task, complexity)
        if node.label == "complexity?":
            low = re.match(r"([\d.]+) (?:to|or more)", answer)
            high = re.search(r"under ([\d.]+)", answer)
            if (low is None or complexity >= float(low[1])) and (high is None or complexity < float(high[1])):
                return decided(below, task, complexity)
    assert not node.branches, f"no way on at {node.label}"
    return node.label


@given(rules(), st.sampled_from((*TASKS, "other")), st.sampled_from((0.0, 0.1, 0.2, 0.3, 0.4, 0.5, 0.6, 0.9)))
def test_the_tree_decides_as_the_rules_do(found: tuple[Rule, ...], task: str, complexity: float) -> None:
    tree = decision_tree._by_task(sorted(found, key=lambda rule: rule.priority), "complexity")
    request = {"task_type": task, "complexity": complexity}
    first = next((rule for rule in found if rule.when.matches(request)), None)
    assert decided(tree, task, complexity) == (OWN_CHOICE if first is None else first.route[0].model)


def test_rules_on_teams_or_on_two_numbers_are_a_list_of_questions(worlds: SimpleNamespace) -> None:
    one = made(1, When(team=("growth",)), "a")
    two = made(2, When(complexity=Between(lt=0.5)), "b")
    tree = decision_tree.tree_of(worlds.rule_set((one, two)))
    assert tree.label == "requests of team growth?"
    assert [answer for answer, _ in tree.branches] == ["yes", "no"]
    assert tree.branches[1][1].label == "requests of complexity under 0.5?"


def test_no_rules_no_picture_and_too_many_neither(worlds: SimpleNamespace) -> None:
    assert decision_tree.picture(worlds.rule_set(())) is None
    many = tuple(made(number, When(task_type=(f"task {number}",)), f"model {number}") for number in range(1, 40))
    assert decision_tree.picture(worlds.rule_set(many)) is None


def test_the_words_name_every_way(reports: Reports) -> None:
    found = decision_tree.picture(reports["rules"]().routing_rule_set)
    assert "task type chat and complexity under 0.5 goes to gpt-4o-mini" in found.text
    assert "task type any other goes to the gateway's own choice" in found.text


def tags(svg: str) -> list[str]:
    """Elements of a drawing of ours in their order; fails on what is not well-formed."""
    return [each.tag for each in ET.fromstring(svg).iter()]  # noqa: S314


@pytest.mark.parametrize(
    "name",
    [
        "<script>alert(1)</script>",
        '"]; click n0 "javascript:alert(1)" %%',
        "%%{init: {'theme': 'dark'}}%%",
        "-->|x| n1 `**md**` $$x$$",
        "a\n  n9[injected]\nend",
        "\u202egnp.exe\x1b[31m",
        "#quot;#35; &lt;b&gt; ]]>",
        "L" * 1_000_000,
    ],
)
def test_a_hostile_name_is_text_in_both_drawings(worlds: SimpleNamespace, name: str) -> None:
    plain = decision_tree.picture(worlds.rule_set((worlds.rule(1, "a task", "a model", Between(lt=0.5)),)))
    found = decision_tree.picture(worlds.rule_set((worlds.rule(1, name, name, Between(lt=0.5)),)))
    assert tags(found.svg) == tags(plain.svg)
    skeleton = re.compile(r'"[^"\n]*"')
    assert skeleton.sub('""', found.mermaid) == skeleton.sub('""', plain.mermaid)
    assert re.fullmatch(r"[\w\s.,?()\[\]\"|;#:>-]*", found.mermaid), "nothing but letters, digits and the signs of the drawing"
    assert not re.search(r"[%`${}<]", found.mermaid)
    assert found.mermaid.isprintable() or "\n" in found.mermaid
    assert len(found.svg) + len(found.mermaid) + len(found.text) < 10_000
