"""What is refused, left out or kept when rules go to a gateway."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from routing_pipeline.errors import UnusableInputError
from routing_pipeline.gateways.planned import plan_of
from routing_pipeline.gateways.table import GATEWAYS
from routing_pipeline.gateways.tiers import tiers_for
from routing_pipeline.parameters import Parameters
from routing_pipeline.rules.reading import read_given_rules

CODE = {"when": {"task_type": ["code"]}, "route": "gpt-4o-mini", "fallbacks": ["gpt-4o"]}
LITELLM_TODAY = """\
# What we run.
model_list:
  - model_name: gpt-4o # the good one
    litellm_params:
      model: openai/gpt-4o
      api_key: os.environ/OPENAI_API_KEY
  - model_name: gpt-4o-mini
    litellm_params: {model: openai/gpt-4o-mini, api_key: os.environ/OPENAI_API_KEY}

router_settings:
  num_retries: 2 # not more
  fallbacks:
    - {gpt-4o: [gpt-4o-mini]}
"""
HEURISTIC = """\
  - model_name: smart
    litellm_params:
      model: auto_router/complexity_router
      complexity_router_default_model: gpt-4o
      complexity_router_config:
        tiers: {SIMPLE: gpt-4o-mini, MEDIUM: gpt-4o, COMPLEX: gpt-4o, REASONING: gpt-4o}

router_settings:"""


def exported(gateway: str, rules: list[dict[str, Any]], share: float = 1.0, current: str | None = None, **tiers: list[str]) -> Any:
    return GATEWAYS[gateway].write(plan_of(read_given_rules(rules, Parameters()), share, tiers), current, None)


@pytest.mark.parametrize(
    ("rules", "why"),
    [
        ([CODE, CODE], "r2 can never decide: r1 before it"),
        ([{"when": {}, "route": "m"}, CODE], "r2 can never decide: r1"),
        (
            [
                {"when": {"has_image": True}, "route": "m"},
                {"when": {"has_image": False}, "route": "m"},
                {"when": {"has_image": True}, "route": "n"},
            ],
            "r3 ",
        ),
        ([{"when": {"prompt_tokens": {"gte": 5, "lt": 5}}, "route": "m"}], "can never hold"),
        ([{**CODE, "id": "a/b"}], "goes into configurations and logs"),
        ([{**CODE, "route": [{"model": " ", "weight": 1}]}], "has no name"),
        ([{**CODE, "fallbacks": ["gpt-4o\n"]}], "characters that do not show"),
        ([{**CODE, "route": "unchanged"}], "changes nothing"),
        ([{**CODE, "route": "tier:economy"}], "no model of tier economy"),
    ],
)
def test_rules_that_no_gateway_should_follow_are_refused(rules: list[dict[str, Any]], why: str) -> None:
    with pytest.raises(UnusableInputError, match=why):
        exported("litellm", rules)


@pytest.mark.parametrize("rule_set_id", ["", "a/b", "a\nb", "x" * 101])
def test_an_id_that_would_be_another_one_in_the_logs_is_refused(rule_set_id: str) -> None:
    rule_set = read_given_rules([CODE], Parameters()).model_copy(update={"rule_set_id": rule_set_id})
    with pytest.raises(UnusableInputError, match="goes into configurations and logs"):
        plan_of(rule_set, 1.0)


def test_two_halves_of_a_field_leave_those_of_whom_it_is_not_known() -> None:
    halves = [{"when": {"has_image": each}, "route": "m"} for each in (True, False)]
    assert exported("json-logic", [*halves, {"when": {}, "route": "n"}]).files


@pytest.mark.parametrize("share", [0.0, -1.0, 1.5, float("nan")])
def test_a_share_is_a_part(share: float) -> None:
    with pytest.raises(UnusableInputError, match="--share"):
        exported("litellm", [CODE], share)


def test_a_tier_stands_for_its_models() -> None:
    content = json.loads(exported("litellm", [{"when": {}, "route": "tier:Economy"}], economy=["b", "a"]).files["routing_rules.json"])
    assert content["rules"][0]["route"] == [{"model": "a", "weight": 0.5}, {"model": "b", "weight": 0.5}]


def test_what_is_not_ours_stays_with_its_comments_and_a_second_export_changes_nothing() -> None:
    first = exported("litellm", [CODE], 0.05, LITELLM_TODAY).files["config.yaml"]
    kept = [line for line in LITELLM_TODAY.splitlines() if line.strip()]
    assert [line for line in kept if line not in first.splitlines()] == []
    assert exported("litellm", [CODE], 0.05, first).files["config.yaml"] == first


def test_a_part_that_stands_without_a_value_is_as_if_it_were_missing() -> None:
    today = LITELLM_TODAY.partition("router_settings:")[0] + "router_settings:  # nothing yet\ngeneral_settings:\n"
    written = exported("litellm", [CODE], 0.05, today).files["config.yaml"]
    assert "router_settings:  # nothing yet\n  fallbacks:\n" in written
    assert written.endswith("general_settings:\n")
    router = today.replace(
        "router_settings:  # nothing yet",
        "  - model_name: smart\n    litellm_params:\n      model: auto_router/complexity_router\n      complexity_router_config:\n",
    )
    assert "classifier_plugin" in exported("litellm", [CODE], 0.05, router).files["config.yaml"]


SHARED = """\
x-openai: &openai
  api_key: &key os.environ/OPENAI_API_KEY
  timeout: 6_00 # seconds
model_list:
- model_name: gpt-4o
  litellm_params: &big
    <<: *openai
    model: openai/gpt-4o
- model_name: gpt-4o-mini
  litellm_params: {<<: *big, model: openai/gpt-4o-mini}
router_settings:
  fallbacks: [{"gpt-4o": ["gpt-4o-mini"]}]
general_settings: {master_key: *key}
"""


def test_parts_that_share_anchors_are_copied_as_plain_values_and_stay_as_they_are_themselves() -> None:
    for fallbacks in ([], ["gpt-4o-mini"]):
        rules = [{**CODE, "route": "gpt-4o", "fallbacks": fallbacks}]
        written = exported("litellm", rules, current=SHARED).files["config.yaml"]
        kept = [line for line in SHARED.splitlines() if not (fallbacks and "fallbacks" in line)]
        assert [line for line in kept if line not in written.splitlines()] == []
        assert [written.count(f"&{name}") for name in ("openai", "key", "big")] == [1, 1, 1]
        assert exported("litellm", rules, current=written).files["config.yaml"] == written
    group = written.partition("- model_name: rules/r1/gpt-4o\n")[2].partition("router_settings:")[0].split()
    assert group[:1] == ["litellm_params:"]
    assert sorted(group[1::2]) == ["api_key:", "model:", "timeout:"]
    assert 'fallbacks: [{"gpt-4o": ["gpt-4o-mini"]}, {rules/r1/gpt-4o: [gpt-4o-mini]}]' in written


LAST = {
    "block": "  - model_name: gpt-4o-mini\n    litellm_params:\n      model: openai/gpt-4o-mini # the small one\n",
    "flow": "  - model_name: gpt-4o-mini\n    litellm_params: {model: openai/gpt-4o-mini} # the small one\n",
    "router": HEURISTIC.removesuffix("\nrouter_settings:").replace("gpt-4o-mini, MEDIUM", "gpt-4o, MEDIUM").replace("4o}", "4o} # tiers"),
}


@pytest.mark.parametrize("last", sorted(LAST))
def test_comments_after_the_models_stay_where_they_are_once_however_often_rules_are_exported(last: str) -> None:
    behind = "\n# What follows is of the platform team.\nrouter_settings:\n  num_retries: 2\n"
    today = LITELLM_TODAY.partition("\nrouter_settings:")[0] + "\n" + LAST[last] + behind
    # A last rule without conditions lets the tiers of a router be replaced.
    both = [CODE, {"when": {}, "route": "gpt-4o"}]
    for rules in (both, [{**rule, "fallbacks": []} for rule in both]):
        first = exported("litellm", rules, current=today).files["config.yaml"]
        assert first.count("# What follows is of the platform team.") == 1
        assert "\n\n# What follows is of the platform team.\nrouter_settings:" in first
        assert exported("litellm", rules, current=first).files["config.yaml"] == first
        other = [{"when": {}, "route": "gpt-4o-mini"}]
        over = exported("litellm", other, current=first).files["config.yaml"]
        assert over.count("# What follows is of the platform team.") == 1


@pytest.mark.parametrize(
    ("name", "today"),
    [
        ("litellm", "model_list: [gpt-4o]"),
        ("litellm", "model_list: [{model_name: gpt-4o, litellm_params: [x]}]"),
        ("litellm", "model_list: []\nrouter_settings: {fallbacks: [3]}"),
        ("portkey", '{"strategy": [], "targets": [{"override_params": "gpt-4o"}]}'),
        ("vllm-sr", "version: v0.3\nproviders: {models: [gpt-4o]}\nrouting: {}"),
        ("envoy", "kind: AIGatewayRoute\nspec: {rules: [{backendRefs: [null]}]}"),
        ("bifrost", '{"governance": {"routing_rules": ["x"]}}'),
    ],
)
def test_a_configuration_that_is_laid_out_otherwise_is_refused_and_not_taken_for_a_fault_of_ours(name: str, today: str) -> None:
    with pytest.raises(UnusableInputError, match="--current: is not laid out as"):
        exported(name, [CODE], current=today)


def test_tiers_of_a_router_that_is_laid_out_otherwise_are_refused() -> None:
    tier = read_given_rules([{**CODE, "route": "tier:SIMPLE"}], Parameters())
    with pytest.raises(UnusableInputError, match="--current: is not laid out as"):
        tiers_for(tier, "model_list: [gpt-4o]", None)


def test_a_model_that_does_not_run_is_refused_with_the_nearest() -> None:
    with pytest.raises(UnusableInputError, match=r"no model gpt-4o-mimi.*did you mean 'gpt-4o-mini'"):
        exported("litellm", [{"when": {}, "route": "gpt-4o-mimi"}], current=LITELLM_TODAY)


def test_a_heuristic_goes_on_where_its_tiers_can_stay() -> None:
    today = LITELLM_TODAY.replace("router_settings:", HEURISTIC)
    result = exported("litellm", [CODE], current=today)
    rules = json.loads(result.files["routing_rules.json"])
    assert rules["own"] is None
    assert rules["rules"][0]["tiers"] == {"gpt-4o-mini": "SIMPLE"}
    assert "classifier_fallback: heuristic" in result.files["config.yaml"]
    two = today.replace("SIMPLE: gpt-4o-mini", "SIMPLE: [gpt-4o-mini, gpt-4o]")
    with pytest.raises(UnusableInputError, match="heuristic"):
        exported("litellm", [CODE], current=two)


def test_what_cannot_be_said_is_left_out_where_nothing_follows_and_refused_where_something_would_take_it() -> None:
    long = {"when": {"prompt_tokens": {"gte": 2000}}, "route": "gpt-4o"}
    result = exported("envoy", [CODE, long])
    assert any("r2 is left out" in note for note in result.notes)
    with pytest.raises(UnusableInputError, match="without it rule r2 would take its requests"):
        exported("envoy", [long, CODE])
    with pytest.raises(UnusableInputError, match="no rule is left"):
        exported("envoy", [long])


def test_envoy_is_not_told_an_order_that_it_would_turn_round() -> None:
    longer = {"when": {"task_type": ["code"], "team": ["a"], "tier": ["b"], "has_image": True}, "route": "gpt-4o"}
    with pytest.raises(UnusableInputError, match="more headers first"):
        exported("envoy", [CODE, {**longer, "when": {"team": ["a"], "tier": ["b"], "has_image": True, "has_tools": True}}])
    assert exported("envoy", [longer, CODE]).files


def test_keys_do_not_reach_the_terminal(tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    from routing_pipeline.cli.main import main

    (tmp_path / "today.yaml").write_text(LITELLM_TODAY.replace("os.environ/OPENAI_API_KEY", "sk-secret"))
    (tmp_path / "rules.json").write_text(json.dumps([CODE]))
    given = ["export", "--gateway", "litellm", "--rules", "rules.json", "--out", "out", "--current", "today.yaml", "--home", "none"]
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr("sys.argv", ["routing-pipeline", *given])
    main()
    said = capsys.readouterr()
    assert "+  - model_name: rules/r1/gpt-4o-mini" in said.out
    assert "sk-secret" not in said.out + said.err
    assert "sk-secret" in (tmp_path / "out" / "config.yaml").read_text()


def test_a_refusal_is_one_line_and_writes_nothing(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    from routing_pipeline.cli.main import main

    (tmp_path / "rules.json").write_text(json.dumps([CODE]))
    monkeypatch.setattr(
        "sys.argv",
        ["routing-pipeline", "export", "--gateway", "kong", "--rules", str(tmp_path / "rules.json"), "--out", str(tmp_path / "o")],
    )
    with pytest.raises(SystemExit) as ended:
        main()
    said = capsys.readouterr()
    assert (ended.value.code, said.out, said.err.count("\n")) == (2, "", 1)
    assert not (tmp_path / "o").exists()


def test_conditions_that_portkey_has_of_its_own_are_not_replaced_unseen() -> None:
    target = {"provider": "openai", "virtual_key": "v", "override_params": {"model": "gpt-4o-mini"}}
    condition = {"query": {"metadata.team": {"$eq": "a"}}, "then": "theirs"}
    today = {
        "strategy": {"mode": "conditional", "conditions": [condition], "default": "rest"},
        "targets": [{"name": "theirs", **target}, {"name": "rest", **target, "override_params": {"model": "gpt-4o"}}],
    }
    with pytest.raises(UnusableInputError, match="conditions of its own"):
        exported("portkey", [CODE], current=json.dumps(today))
    today["strategy"]["conditions"] = []
    first = exported("portkey", [CODE], current=json.dumps(today)).files["portkey.json"]
    assert "virtual_key" in first
    assert exported("portkey", [CODE], current=first).files["portkey.json"] == first


def test_a_range_without_ends_is_not_met_by_who_does_not_say_the_number() -> None:
    rules = [{"when": {"prompt_tokens": {}}, "route": "gpt-4o"}]
    written = json.loads(exported("portkey", rules).files["portkey.json"])
    # A comparison of what is missing fails in Portkey, but it is other than any text.
    assert written["strategy"]["conditions"][0]["query"] == {"$and": [{"metadata.prompt_tokens": {"$gte": -1e308}}]}
