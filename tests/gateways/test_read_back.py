"""Configurations that people wrote: read as what the gateway does with them, or refused."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from routing_pipeline.errors import UnusableInputError
from routing_pipeline.gateways.planned import plan_of
from routing_pipeline.gateways.table import GATEWAYS, rules_of_configuration
from routing_pipeline.parameters import Parameters
from routing_pipeline.rules.reading import read_given_rules


def read(folder: Path, content: Any) -> list[dict[str, Any]]:
    """Rules of a configuration, as they are without their numbers; it is JSON, or text."""
    path = folder / "configuration"
    path.write_text(content if isinstance(content, str) else json.dumps(content))
    rules = rules_of_configuration(path)
    assert rules is not None
    read_given_rules(rules, Parameters())
    return rules


def portkey(query: Any, *targets: dict[str, Any]) -> dict[str, Any]:
    listed = targets or ({"name": "small", **calls("gpt-4o-mini")},)
    return {"strategy": {"mode": "conditional", "conditions": [{"query": query, "then": "small"}]}, "targets": list(listed)}


def calls(model: str, **more: Any) -> dict[str, Any]:
    return {"provider": "openai", "override_params": {"model": model}, **more}


def bifrost(cel: str, *targets: dict[str, Any]) -> dict[str, Any]:
    listed = list(targets) or [{"provider": "openai", "model": "gpt-4o-mini", "weight": 1}]
    return {"governance": {"routing_rules": [{"id": "a", "name": "a", "cel_expression": cel, "targets": listed}]}}


CODE = {"metadata.task_type": {"$eq": "code"}}


def test_conditions_beside_and_within_each_other_all_hold(tmp_path: Path) -> None:
    query = {"$and": [{"$and": [{"metadata.complexity": {"$gte": 0.5}}]}, {"metadata.complexity": {"$lt": 0.8}}], **CODE}
    assert read(tmp_path, portkey(query))[0]["when"] == {"complexity": {"gte": 0.5, "lt": 0.8}, "task_type": ["code"]}


@pytest.mark.parametrize(
    "content",
    [
        portkey({"$and": [CODE, {"metadata.task_type": {"$in": ["chat"]}}]}),
        portkey({"$and": [{"metadata.complexity": {"$gte": 0.5}}, {"metadata.complexity": {"$gte": 0.8}}]}),
        bifrost('headers["x-tier"] == "a" && headers["x-tier"] in ["b"]'),
        bifrost('double(headers["x-complexity"]) >= 0.5 && double(headers["x-complexity"]) >= 0.8'),
    ],
)
def test_two_conditions_of_one_kind_are_not_read_as_the_last_of_them(tmp_path: Path, content: Any) -> None:
    with pytest.raises(UnusableInputError, match="two conditions on"):
        read(tmp_path, content)


@pytest.mark.parametrize(
    "content",
    [portkey({"metadata.has_image": {"$eq": "yes"}}), bifrost('headers["x-has-image"] == "yes"')],
)
def test_what_is_neither_yes_nor_no_is_not_read_as_no(tmp_path: Path, content: Any) -> None:
    with pytest.raises(UnusableInputError, match="has_image is asked to be yes"):
        read(tmp_path, content)


WEIGHTED = [("gpt-4o", 3), ("gpt-4o-mini", 0), ("gpt-4o", 1), ("gpt-4.1", 4)]


@pytest.mark.parametrize(
    "content",
    [
        {"strategy": {"mode": "loadbalance"}, "targets": [calls(model, weight=weight) for model, weight in WEIGHTED]},
        bifrost("true", *({"provider": "openai", "model": model, "weight": weight} for model, weight in WEIGHTED)),
    ],
)
def test_a_target_that_is_switched_off_gets_nothing_and_one_that_stands_twice_gets_both_parts(tmp_path: Path, content: Any) -> None:
    assert read(tmp_path, content)[0]["route"] == [{"model": "gpt-4o", "weight": 0.5}, {"model": "gpt-4.1", "weight": 0.5}]


@pytest.mark.parametrize("weight", [0, -1, "much", None])
def test_weights_that_split_nothing_are_refused(tmp_path: Path, weight: Any) -> None:
    for content in (
        {"strategy": {"mode": "loadbalance"}, "targets": [calls("gpt-4o", weight=weight)]},
        bifrost("true", {"provider": "openai", "model": "gpt-4o", "weight": weight}),
    ):
        with pytest.raises(UnusableInputError, match="weight"):
            read(tmp_path, content)


def test_fallbacks_within_fallbacks_follow_one_after_another(tmp_path: Path) -> None:
    inner = {"strategy": {"mode": "fallback"}, "targets": [calls("a"), calls("b")]}
    found = read(tmp_path, {"strategy": {"mode": "fallback"}, "targets": [inner, calls("c")]})
    assert (found[0]["route"][0]["model"], found[0]["fallbacks"]) == ("a", ["b", "c"])
    assert read(tmp_path, {"strategy": {"mode": "single"}, "targets": [calls("a")]})[0]["route"][0]["model"] == "a"


def test_a_target_that_chooses_again_within_a_weighted_one_is_refused_as_that(tmp_path: Path) -> None:
    inner = {"strategy": {"mode": "conditional"}, "targets": [calls("a")], "override_params": {"model": "b"}}
    with pytest.raises(UnusableInputError, match=r"chooses again \(conditional\)"):
        read(tmp_path, {"strategy": {"mode": "loadbalance"}, "targets": [inner, calls("c")]})


def test_conditions_that_go_to_one_target_are_rules_of_their_own(tmp_path: Path) -> None:
    content = portkey(CODE)
    content["strategy"]["conditions"].append({"query": {"metadata.team": "growth"}, "then": "small"})
    assert [rule["id"] for rule in read(tmp_path, content)] == ["small", "small-2"]


def test_a_part_that_keeps_the_clients_model_is_not_read_as_if_it_were_not_there(tmp_path: Path) -> None:
    with pytest.raises(UnusableInputError, match="keeps the model that was asked for in a part"):
        read(tmp_path, bifrost("true", {"provider": "openai", "model": "gpt-4o", "weight": 0.2}, {"weight": 0.8}))


def test_arms_of_sessions_that_every_request_may_meet_are_read_back(tmp_path: Path) -> None:
    route = [{"model": "gpt-4o-mini", "weight": 0.9}, {"model": "gpt-4o", "weight": 0.1}]
    rule_set = read_given_rules([{"per": "session", "when": {}, "route": route}], Parameters())
    found = read(tmp_path, GATEWAYS["portkey"].write(plan_of(rule_set, 0.05), None, None).files["portkey.json"])
    assert [(rule["per"], rule["when"], rule["route"]) for rule in found] == [("session", {}, route)]


def test_one_target_by_itself_is_a_config_that_rules_are_added_to() -> None:
    rule_set = read_given_rules([{"when": {"task_type": ["code"]}, "route": "gpt-4o"}], Parameters())
    today = calls("gpt-4o", api_key="k", retry={"attempts": 3})
    written = json.loads(GATEWAYS["portkey"].write(plan_of(rule_set, 1.0), json.dumps(today), None).files["portkey.json"])
    assert written["targets"][0] == {"name": "rules/r1", **today}
    assert written["targets"][1]["targets"] == [today]
    with pytest.raises(UnusableInputError, match="no config of Portkey"):
        GATEWAYS["portkey"].write(plan_of(rule_set, 1.0), '{"model_list": []}', None)


def route(*rules: dict[str, Any]) -> dict[str, Any]:
    return {"kind": "AIGatewayRoute", "spec": {"rules": list(rules)}}


def to(model: str, *matches: dict[str, str], **ref: Any) -> dict[str, Any]:
    """A rule of Envoy's; a value between slashes is an expression."""
    listed = [
        {
            "headers": [
                {"type": "RegularExpression" if value.startswith("/") else "Exact", "name": name, "value": value.strip("/")}
                for name, value in each.items()
            ]
        }
        for each in matches
    ]
    return {"matches": listed, "backendRefs": [{"name": "b", "modelNameOverride": model, **ref}]}


def test_envoys_rule_with_more_headers_goes_first_wherever_it_stands(tmp_path: Path) -> None:
    code, growth = to("small", {"x-task-type": "code"}), to("large", {"x-task-type": "code", "x-team": "growth"})
    assert [rule["route"][0]["model"] for rule in read(tmp_path, route(code, growth))] == ["large", "small"]
    chat = to("large", {"x-task-type": "chat", "x-team": "growth"})
    assert [rule["route"][0]["model"] for rule in read(tmp_path, route(code, chat))] == ["small", "large"], "none takes the other's"


@pytest.mark.parametrize(
    ("matches", "why"),
    [
        ([{"x-task-type": "code"}, {"x-task-type": "chat", "x-team": "growth"}], "no combination"),
        ([{"x-task-type": "code", "x-team": "a"}, {"x-task-type": "chat", "x-team": "b"}], "no combination"),
        ([{"x-task-type": "/.*/"}], "matches x-task-type"),
        ([{"x-has-image": "true"}, {"x-has-image": "false"}], "has_image is asked to be true or false"),
        ([{"x-has-image": "yes"}], "has_image is asked to be yes"),
    ],
)
def test_matches_of_envoy_that_are_no_one_rule_are_refused(tmp_path: Path, matches: Any, why: str) -> None:
    with pytest.raises(UnusableInputError, match=why):
        read(tmp_path, route(to("small", *matches)))


def test_a_backend_of_envoy_that_is_drained_gets_nothing(tmp_path: Path) -> None:
    rule = to("small", {"x-task-type": "code"}, weight=0)
    rule["backendRefs"].append({"name": "b", "modelNameOverride": "large", "weight": 5})
    assert read(tmp_path, route(rule))[0]["route"] == [{"model": "large", "weight": 1.0}]


def semantic_router(predicate: Any, **decision: Any) -> dict[str, Any]:
    signals = {"metadata": [{"name": "s", "key": "task_type", "predicate": predicate}], "context": [{"name": "c", "max_tokens": "4K"}]}
    written = {"name": "d", "rules": {"conditions": [{"type": "metadata", "name": "s"}]}, "modelRefs": [{"model": "gpt-4o"}], **decision}
    return {"version": "v0.3", "routing": {"signals": signals, "decisions": [written]}}


TWO = [{"model": "gpt-4o", "weight": 0.9}, {"model": "gpt-4o-mini", "weight": 0.1}]


@pytest.mark.parametrize(
    ("content", "why"),
    [
        (semantic_router({"exists": True}), "asks for exists"),
        (semantic_router({"equals": "code"}, modelRefs=TWO), "names 2 models"),
        (semantic_router({"equals": "code"}, rules={"conditions": [{"type": "context", "name": "c"}]}), "write tokens as digits"),
        (semantic_router({"equals": "code"}, rules={"conditions": [{"type": "metadata", "name": "s"}] * 2}), "two conditions on task_type"),
    ],
)
def test_decisions_of_the_semantic_router_that_are_no_rules_are_refused(tmp_path: Path, content: Any, why: str) -> None:
    with pytest.raises(UnusableInputError, match=why):
        read(tmp_path, content)


def test_decisions_that_do_not_go_by_priority_are_refused(tmp_path: Path) -> None:
    content = semantic_router({"in": ["code", "chat"]})
    assert read(tmp_path, content)[0]["when"] == {"task_type": ["code", "chat"]}
    content["routing"]["strategy"] = "confidence"
    with pytest.raises(UnusableInputError, match="taken by confidence"):
        read(tmp_path, content)
