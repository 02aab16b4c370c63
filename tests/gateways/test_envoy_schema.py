"""What Envoy AI Gateway is told is what a cluster takes: by the schema of its custom resource, restated beside this file."""

from __future__ import annotations

import copy
import json
from pathlib import Path
from typing import Any

import jsonschema
import pytest
import yaml
from hypothesis import HealthCheck, given, settings, strategies as st

from routing_pipeline.errors import UnusableInputError
from routing_pipeline.gateways import envoy
from routing_pipeline.gateways.planned import plan_of
from routing_pipeline.parameters import Parameters
from routing_pipeline.rules.model import RuleSet
from routing_pipeline.rules.reading import read_given_rules
from tests.random_rules import rule_sets

SCHEMA = jsonschema.Draft202012Validator(json.loads((Path(__file__).parent / "envoy_route.schema.json").read_text()))
TODAY = """\
apiVersion: aigateway.envoyproxy.io/v1beta1
kind: AIGatewayRoute
metadata: {name: today, namespace: default}
spec:
  parentRefs: [{name: ai-gateway, kind: Gateway, group: gateway.networking.k8s.io}]
  rules:
    - matches: [{headers: [{type: Exact, name: x-ai-eg-model, value: gpt-4o}]}]
      backendRefs: [{name: openai}]
"""


def complaints(route: dict[str, Any]) -> list[str]:
    """What a cluster would refuse, the keys of its lists included."""
    found = [f"{each.json_path}: {each.message}" for each in SCHEMA.iter_errors(route)]
    matches = [match for rule in route["spec"]["rules"] for match in rule.get("matches", [{}])]
    for match in matches:
        names = [header["name"].lower() for header in match.get("headers", [])]
        found += [f"{names}: a header twice"] if len(set(names)) < len(names) else []
    return found + (["more than 128 matches"] if len(matches) > 128 else [])


def route_of(rule_set: RuleSet, share: float, current: str | None = None, default: str | None = None) -> dict[str, Any]:
    return dict(yaml.safe_load(envoy.write(plan_of(rule_set, share), current, default).files["route.yaml"]))


@settings(max_examples=60, deadline=None, suppress_health_check=list(HealthCheck))
@given(rule_sets(pers=("request", "session")), st.sampled_from((0.01, 0.5, 1.0)), st.booleans())
def test_any_rules_that_are_written_are_a_route_that_a_cluster_takes(rule_set: RuleSet, share: float, is_default: bool) -> None:
    try:
        route = route_of(rule_set, share, None, "gpt-4o" if is_default else None)
    except UnusableInputError:
        return
    assert complaints(route) == []


def test_the_schema_refuses_what_a_cluster_refuses() -> None:
    rule_set = read_given_rules([{"when": {"task_type": ["code"]}, "route": "gpt-4o"}], Parameters())
    route = route_of(rule_set, 0.05)
    assert complaints(route) == []

    def spoilt(change: Any) -> dict[str, Any]:
        found = copy.deepcopy(route)
        change(found["spec"]["rules"])
        return found

    header = {"name": "x-task-type", "value": "again"}
    for change in (
        lambda rules: rules[0].update(name="r1"),
        lambda rules: rules[0]["backendRefs"][0].update(weight=0.5),
        lambda rules: rules[0]["matches"][0]["headers"].append(header),
        lambda rules: rules.extend(rules[:1] * 15),
        lambda rules: rules[0].update(matches=rules[0]["matches"] * 65),
    ):
        assert complaints(spoilt(change)) != []


def test_rules_of_before_give_way_and_those_of_others_stay() -> None:
    first = read_given_rules([{"id": "a", "when": {"task_type": ["code"]}, "route": "gpt-4o"}], Parameters())
    then = read_given_rules([{"id": "b", "when": {"team": ["ops"]}, "route": "gpt-4o"}], Parameters())
    before = envoy.write(plan_of(first, 1.0), TODAY).files["route.yaml"]
    after = yaml.safe_load(envoy.write(plan_of(then, 1.0), before).files["route.yaml"])
    ours, others = after["spec"]["rules"]
    assert ours["backendRefs"][0]["headerMutation"]["set"][0]["value"].endswith("/b")
    assert others == yaml.safe_load(TODAY)["spec"]["rules"][0]
    assert complaints(after) == []


def test_more_rules_than_a_route_may_have_are_refused_before_a_cluster_has_to() -> None:
    many = [{"id": f"r{n}", "when": {"task_type": [f"t{n}"]}, "route": "gpt-4o"} for n in range(16)]
    with pytest.raises(UnusableInputError, match="takes 15 rules and 128 matches in a route, and this one would have 16 and 16"):
        route_of(read_given_rules(many, Parameters()), 1.0)
    route_of(read_given_rules(many[:15], Parameters()), 1.0)
