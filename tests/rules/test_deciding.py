"""Which rule decides and which arm is drawn: the same in memory, in the engine and in what LiteLLM loads."""

from __future__ import annotations

from typing import Any

import hypothesis.strategies as st
import ibis
import pyarrow as pa
import pytest
from hypothesis import HealthCheck, assume, given, settings

from routing_pipeline.gateways.litellm import write
from routing_pipeline.gateways.litellm_classifier import Classifier
from routing_pipeline.gateways.planned import plan_of
from routing_pipeline.parameters import Parameters
from routing_pipeline.rules.deciding import CONTROL, Decision, decided, deciding, decisions
from routing_pipeline.rules.model import NEEDS, RuleSet
from routing_pipeline.rules.reading import read_given_rules
from tests.random_rules import requests, rule_sets

OWN = "gpt-4o"
"""What the gateway chooses by itself; rules name it as well."""
TYPES = {"complexity": pa.float64(), "prompt_tokens": pa.int64(), **{name: pa.bool_() for name in NEEDS}}


def in_engine(rule_set: RuleSet, asked: list[dict[str, Any]], units: list[str], share: float) -> list[tuple[Any, ...]]:
    """Rule, arm and propensity of each request, in order, the sessions as given and the requests a second apart."""
    names = list(asked[0])
    columns: dict[str, pa.Array] = {name: pa.array([each[name] for each in asked], TYPES.get(name, pa.string())) for name in names}
    columns["session_id"] = pa.array(units, pa.string())
    columns["request_id"] = pa.array([f"q{place:05d}" for place in range(len(asked))])
    columns["started_s"] = pa.array([float(place) for place in range(len(asked))])
    rows = decisions(ibis.memtable(pa.table(columns)), rule_set, share=share, own=OWN)
    told = rows.order_by("request_id").select("decided_rule", "decided_arm", "decided_propensity").to_pyarrow()
    return [tuple(row.values()) for row in told.to_pylist()]


def in_memory(rule_set: RuleSet, asked: list[dict[str, Any]], units: list[str], share: float) -> list[tuple[Any, ...]]:
    firsts: dict[str, dict[str, Any]] = {}
    found = []
    for request, unit in zip(asked, units, strict=True):
        firsts.setdefault(unit, request)
        each = decided(rule_set, request, unit, share=share, first=firsts[unit], own=OWN)
        found.append((each.rule_id, each.arm, each.propensity))
    return found


def in_gateway(rule_set: RuleSet, asked: list[dict[str, Any]], units: list[str], share: float) -> list[tuple[Any, ...]]:
    import json

    files = write(plan_of(rule_set, share), None, OWN).files
    classifier = Classifier(content=json.loads(files["routing_rules.json"]))
    found = []
    for request, unit in zip(asked, units, strict=True):
        tier, names = classifier.decide(request, unit)
        rule_id = names.get("routing_rule_id")
        said = None if rule_id is None else rule_id.split("/")[1]
        assert tier == ("unchanged" if said is None else f"{rule_set.rule_set_id}/{said}/{names['arm']}")
        found.append((said, names.get("arm"), names.get("propensity")))
    return found


@settings(max_examples=15, deadline=None, suppress_health_check=[HealthCheck.too_slow, HealthCheck.filter_too_much])
@given(
    rule_sets(pers=("request", "session")),
    st.lists(requests(), min_size=30, max_size=60),
    st.sampled_from((1.0, 0.5, 0.05)),
    st.integers(2, 20),
)
def test_memory_engine_and_gateway_agree_on_every_request(
    rule_set: RuleSet, asked: list[dict[str, Any]], share: float, sessions: int
) -> None:
    assume(any(rule.route != "unchanged" for rule in rule_set.rules))
    units = [f"s{place % sessions}" for place in range(len(asked))]
    expected = in_memory(rule_set, asked, units, share)
    assert in_engine(rule_set, asked, units, share) == [pytest.approx(each) if each[2] else each for each in expected]
    assert in_gateway(rule_set, asked, units, share) == [pytest.approx(each) if each[2] else each for each in expected]


def split(*weights: float) -> RuleSet:
    route = [{"model": f"m{place}", "weight": weight} for place, weight in enumerate(weights)]
    return read_given_rules([{"when": {}, "route": route}], Parameters())


def test_arms_get_their_weights_and_the_share_its_part() -> None:
    rule_set = split(0.7, 0.3)
    arms = [decided(rule_set, {}, f"s{n}", share=0.2).arm for n in range(20_000)]
    assert abs(arms.count("m1") - 20_000 * 0.06) < 4 * (20_000 * 0.06 * 0.94) ** 0.5
    assert abs(arms.count(CONTROL) - 16_000) < 4 * (20_000 * 0.8 * 0.2) ** 0.5


def test_two_ways_to_a_model_count_together() -> None:
    rule_set = read_given_rules([{"when": {}, "route": [{"model": "new", "weight": 0.9}, {"model": "old", "weight": 0.1}]}], Parameters())
    drawn = [decided(rule_set, {}, f"s{n}", share=0.5, own="old") for n in range(2_000)]
    told = {(each.arm, round(each.propensity or 0, 9)) for each in drawn}
    assert told == {("new", 0.45), ("old", 0.55), (CONTROL, 0.55)}


def test_a_share_that_grows_keeps_every_session_on_its_arm() -> None:
    rule_set = split(0.5, 0.5)
    small = {n: decided(rule_set, {}, f"s{n}", share=0.05).arm for n in range(4_000)}
    large = {n: decided(rule_set, {}, f"s{n}", share=0.5).arm for n in range(4_000)}
    assert all(large[n] == arm for n, arm in small.items() if arm != CONTROL)


def test_a_rule_per_session_holds_as_the_session_began() -> None:
    rule_set = read_given_rules(
        [{"per": "session", "when": {"prompt_tokens": {"lt": 100}}, "route": "small"}, {"when": {}, "route": "large"}], Parameters()
    )
    began_short = deciding(rule_set.rules, {"prompt_tokens": 5000}, {"prompt_tokens": 50})
    began_long = deciding(rule_set.rules, {"prompt_tokens": 50}, {"prompt_tokens": 5000})
    assert [rule and rule.id for rule in (began_short, began_long)] == ["r1", "r2"]


def test_no_rule_decides_nothing() -> None:
    rule_set = read_given_rules([{"when": {"task_type": "code"}, "route": "m"}], Parameters())
    assert decided(rule_set, {"task_type": None}, "s") == Decision()
