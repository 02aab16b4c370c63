"""Which rule decides for a request, in memory and in the engine."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import hypothesis.strategies as st
import ibis
import pyarrow as pa
import pytest
from hypothesis import given, settings
from pydantic import ValidationError

from routing_pipeline.errors import UnusableInputError
from routing_pipeline.estimates import Estimate
from routing_pipeline.parameters import Parameters
from routing_pipeline.rules.model import (
    Between,
    Change,
    Constraints,
    Expected,
    RelativeChange,
    Rule,
    RuleEvidence,
    RuleSet,
    RuleWindow,
    WeightedModel,
    When,
    cannot_tell,
    rules_json,
)
from routing_pipeline.rules.reading import read_given_rules, read_rules_file
from tests.recommendation.test_realized_outcomes import promise

NOTHING = cannot_tell("no data in this test")
ZERO = RelativeChange(relative=Estimate(estimate=0, low=0, high=0))


def rule(priority: int, when: When, model: str = "m") -> Rule:
    return Rule(
        id=f"r{priority}",
        priority=priority,
        when=when,
        route=(WeightedModel(model=model, weight=1.0),),
        rationale="test",
        evidence=RuleEvidence(requests=1, labelled=1, effective_sample_size=1.0, min_propensity=0.1, grade="C"),
        expected=NOTHING,
        effort="Low",
        risk="Low",
        validation_criteria=("test",),
    )


def rule_set(*rules: Rule, status: str = "proposed") -> RuleSet:
    return RuleSet.model_validate(
        {
            "rule_set_id": "2026-03-02T00:00:00Z-0000",
            "status": status,
            "goal": "cost",
            "constraints": Constraints(),
            "window": RuleWindow(start="a", end="b", snapshot_id="1"),
            "rules": rules,
            "expected": Expected(baseline=NOTHING, proposed=NOTHING, change=Change(cost_usd=ZERO, quality=ZERO, latency_ms=ZERO)),
            "assumptions": (),
            "warnings": (),
        }
    )


def test_ranges_are_half_open() -> None:
    when = When(complexity=Between(gte=0.5, lt=0.8))
    assert [when.matches({"complexity": value}) for value in (0.4999, 0.5, 0.7999, 0.8)] == [False, True, True, False]


def test_a_rule_set_that_changes_nothing_may_hold_no_rule() -> None:
    with pytest.raises(ValidationError, match="has no rules"):
        rule_set(rule(1, When()), status="no_change")


def test_two_rules_of_one_priority_are_refused() -> None:
    with pytest.raises(ValidationError, match="share a priority"):
        rule_set(rule(1, When()), rule(1, When()))


def test_weights_that_do_not_add_up_are_refused() -> None:
    content = rule(1, When()).model_dump()
    content["route"] = [{"model": "a", "weight": 0.5}, {"model": "b", "weight": 0.4}]
    with pytest.raises(ValidationError, match="do not add up"):
        Rule.model_validate(content)


BOUNDS = st.one_of(st.none(), st.sampled_from([0.0, 0.25, 0.5, 1.0]))
RANGES = st.one_of(st.none(), st.builds(Between, gte=BOUNDS, lt=BOUNDS))
NAMES = st.one_of(st.none(), st.lists(st.sampled_from(["code", "chat", "it's; --"]), max_size=2).map(tuple))
FLAGS = st.sampled_from([None, True, False])
CONDITIONS = st.builds(When, task_type=NAMES, complexity=RANGES, prompt_tokens=RANGES, team=NAMES, has_image=FLAGS, has_tools=FLAGS)
REQUESTS: list[dict[str, Any]] = [
    {
        "task_type": task,
        "complexity": complexity,
        "prompt_tokens": tokens,
        "team": team,
        "tier": None,
        "has_image": image,
        "has_tools": tools,
    }
    for task in ("code", "chat", None)
    for complexity in (0.0, 0.3, 0.5, 1.0, None)
    for tokens in (0, 1, None)
    for team in ("it's; --", None)
    for image in (True, False, None)
    for tools in (True, None)
]
SCHEMA = pa.schema(
    [
        *(
            ("task_type", pa.string()),
            ("complexity", pa.float64()),
            ("prompt_tokens", pa.int64()),
            ("team", pa.string()),
            ("tier", pa.string()),
        ),
        *(("has_image", pa.bool_()), ("has_tools", pa.bool_())),
    ]
)


@settings(max_examples=40, deadline=None)
@given(when=CONDITIONS)
def test_the_engine_and_the_reference_agree_on_every_condition(when: When) -> None:
    table = ibis.memtable(pa.Table.from_pylist(REQUESTS, schema=SCHEMA))
    held = table.mutate(held=when.holds(table)).to_pyarrow().to_pylist()
    assert [row["held"] for row in held] == [when.matches(row) for row in held]


@pytest.mark.parametrize("needed", [True, False])
def test_a_need_that_is_not_logged_matches_no_condition_on_it(needed: bool) -> None:
    when = When(has_image=needed)
    assert [when.matches({"has_image": value}) for value in (needed, not needed, None)] == [True, False, False]
    assert not when.matches({})


def test_a_file_of_version_1_is_read_as_before(tmp_path: Path) -> None:
    content = json.loads(rules_json(promise("ours-1")))
    old = {name: value for name, value in content.items() if name != "unit"} | {"schema_version": 1}
    old["rules"] = [{name: value for name, value in each.items() if name != "per"} for each in content["rules"]]
    (tmp_path / "rules.json").write_text(json.dumps(old))
    read = read_rules_file(tmp_path / "rules.json", Parameters())
    assert (read.schema_version, read.unit, [each.per for each in read.rules]) == (1, "request", ["request"] * len(read.rules))
    assert read.model_copy(update={"schema_version": 2}) == promise("ours-1")
    assert (content["schema_version"], content["unit"]) == (2, "request")


def test_a_need_is_asked_for_by_true_or_false() -> None:
    (read,) = read_given_rules([{"when": {"has_image": False, "has_schema": True}, "route": "small"}], Parameters()).rules
    assert (read.when.has_image, read.when.has_schema, read.when.has_tools) == (False, True, None)
    with pytest.raises(UnusableInputError, match=r"when.has_image: must be true or false"):
        read_given_rules([{"when": {"has_image": "perhaps"}, "route": "small"}], Parameters())


@pytest.mark.parametrize(
    "content",
    [
        [{"when": {"task_type": ["code"]}, "route": "small"}],
        {"rules": [{"when": {"task_type": ["code"]}, "route": [{"model": "small", "weight": 1}]}]},
        {"rule_set": {"rules": [{"when": {"task_type": ["code"]}, "route": "small", "rationale": "a hunch"}]}},
    ],
)
def test_a_file_by_hand_takes_every_form_that_agents_may_give(tmp_path: Path, content: Any) -> None:
    (tmp_path / "mine.json").write_text(json.dumps(content))
    (rule,) = read_rules_file(tmp_path / "mine.json", Parameters()).rules
    assert (rule.when.task_type, rule.route) == (("code",), (WeightedModel(model="small", weight=1.0),))


def test_a_file_of_ours_keeps_its_id_and_a_broken_one_says_where(tmp_path: Path) -> None:
    ours = promise("ours-1")
    (tmp_path / "rules.json").write_bytes(rules_json(ours))
    assert read_rules_file(tmp_path / "rules.json", Parameters()) == ours
    (tmp_path / "rules.json").write_text('[{"when": {"task_type": ["code"]}}]')
    with pytest.raises(UnusableInputError, match=r"--rules .*rules.json: rule 1: route: is missing; give a list of rules such as"):
        read_rules_file(tmp_path / "rules.json", Parameters())


def test_how_likely_today_s_routing_is_to_do_what_given_rules_ask_is_not_known_and_no_share_stands_in_for_it() -> None:
    given = read_given_rules([{"when": {"task_type": ["code"]}, "route": "small"}], Parameters())
    assert given.rules[0].evidence.min_propensity is None
    assert "min_propensity" not in json.loads(rules_json(rule_set(given.rules[0])))["rules"][0]["evidence"]
    assert json.loads(rules_json(rule_set(rule(1, When()))))["rules"][0]["evidence"]["min_propensity"] == 0.1
