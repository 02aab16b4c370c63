"""What a gateway is told reads back as the rules, wherever it can say them all."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings

from routing_pipeline.errors import UnusableInputError
from routing_pipeline.gateways.planned import plan_of
from routing_pipeline.gateways.table import GATEWAYS, rules_of_configuration
from routing_pipeline.parameters import Parameters
from routing_pipeline.rules.model import RuleSet
from routing_pipeline.rules.reading import read_given_rules
from tests.random_rules import rule_sets

SAYS_ALL = ("litellm", "json-logic")


def said(rule_set: RuleSet) -> list[tuple[Any, ...]]:
    """What rules do: everything but their names and numbers."""
    ordered = sorted(rule_set.rules, key=lambda rule: rule.priority)
    return [(rule.per, rule.when, _route(rule.route), rule.fallbacks) for rule in ordered]


def _route(route: Any) -> Any:
    return route if isinstance(route, str) else [(str(target.model), round(target.weight, 9)) for target in route]


def round_trip(name: str, rule_set: RuleSet, folder: Path) -> RuleSet:
    out = folder / name
    exported = GATEWAYS[name].write(plan_of(rule_set, 1.0), None, None)
    paths = exported.written(out)
    rules = rules_of_configuration(paths[0])
    assert rules is not None
    return read_given_rules(rules, Parameters())


@settings(max_examples=60, deadline=None, suppress_health_check=list(HealthCheck))
@given(rule_sets(pers=("request", "session")))
def test_what_says_everything_reads_back_as_the_same_rules(tmp_path_factory: pytest.TempPathFactory, rule_set: RuleSet) -> None:
    if all(rule.route == "unchanged" for rule in rule_set.rules):
        return
    for name in SAYS_ALL:
        assert said(round_trip(name, rule_set, tmp_path_factory.mktemp("out"))) == said(rule_set)


@pytest.mark.parametrize("name", ["portkey", "bifrost", "envoy", "vllm-sr"])
@settings(max_examples=40, deadline=None, suppress_health_check=list(HealthCheck))
@given(rule_sets())
def test_rules_per_request_read_back_as_far_as_the_gateway_was_told_them(
    tmp_path_factory: pytest.TempPathFactory, name: str, rule_set: RuleSet
) -> None:
    try:
        plan = plan_of(rule_set, 1.0)
        exported = GATEWAYS[name].write(plan, None, None)
    except UnusableInputError:
        return
    paths = exported.written(tmp_path_factory.mktemp("out") / "x")
    rules = rules_of_configuration(paths[0])
    assert rules is not None
    left_out = {note.split()[1] for note in exported.notes if "is left out" in note}
    kept = rule_set.model_copy(update={"rules": tuple(rule for rule in rule_set.rules if rule.id not in left_out)})
    found = said(read_given_rules(rules, Parameters()))
    expected = said(kept)
    if name == "vllm-sr":
        expected = [(*each[:3], ()) for each in expected]
    if name in ("portkey", "bifrost"):
        # Fallbacks of a rule that leaves the choice to the client are the client's.
        expected = [(*each[:3], () if each[2] == "unchanged" else each[3]) for each in expected]
    assert _merged(found) == _merged(expected)


def _merged(rules: list[tuple[Any, ...]]) -> list[tuple[Any, ...]]:
    """No prompt is shorter than 0 tokens, so that a range from 0 says the same as one that is open."""
    whens = [{**each[1].model_dump(), "prompt_tokens": _open_at_0(each[1].prompt_tokens)} for each in rules]
    return [(each[0], when, *each[2:]) for each, when in zip(rules, whens, strict=True)]


def _open_at_0(tokens: Any) -> Any:
    return tokens and (tokens.gte or None, tokens.lt)


@pytest.mark.parametrize("name", sorted(GATEWAYS))
def test_the_same_rules_give_the_same_bytes(name: str) -> None:
    rule_set = read_given_rules([{"when": {"task_type": ["code"]}, "route": "gpt-4o-mini", "fallbacks": ["gpt-4o"]}], Parameters())
    first, again = (GATEWAYS[name].write(plan_of(rule_set, 1.0), None, None) for _ in range(2))
    assert first == again


@pytest.mark.parametrize("name", ["portkey", "bifrost", "envoy", "vllm-sr"])
def test_sessions_are_split_by_what_the_client_drew_and_read_back_whole(name: str, tmp_path: Path) -> None:
    route = [{"model": "gpt-4o-mini", "weight": 0.9}, {"model": "gpt-4o", "weight": 0.1}]
    rule_set = read_given_rules([{"per": "session", "when": {"task_type": ["code", "chat"]}, "route": route}], Parameters())
    exported = GATEWAYS[name].write(plan_of(rule_set, 0.05), None, None)
    rules = rules_of_configuration(exported.written(tmp_path)[0])
    assert rules is not None
    assert said(read_given_rules(rules, Parameters())) == said(rule_set)


@pytest.mark.parametrize("name", ["litellm", "portkey", "bifrost", "json-logic"])
def test_a_request_at_the_end_of_a_range_is_on_the_same_side_of_it_everywhere(name: str, tmp_path: Path) -> None:
    # Rounded to twelve digits, two thirds would begin above itself.
    ends = {"gte": 2 / 3, "lt": 0.1 + 0.2 + 0.6}
    rule_set = read_given_rules([{"when": {"complexity": ends}, "route": "gpt-4o-mini"}], Parameters())
    assert said(round_trip(name, rule_set, tmp_path)) == said(rule_set)
