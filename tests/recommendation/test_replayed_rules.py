"""Rules that somebody hands over: what is typed wrong is told with the nearest name, and plans and risks rest on the replay."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from routing_pipeline.errors import UnusableInputError, nearest
from routing_pipeline.estimates import Estimate, Unidentifiable
from routing_pipeline.parameters import Parameters
from routing_pipeline.recommendation.optimization_plan import _verdict
from routing_pipeline.recommendation.optimization_risks import optimization_risks, why_not_to_start
from routing_pipeline.recommendation.plan_kinds import _rule_items
from routing_pipeline.recommendation.replayed_rules import evaluated, replayed
from routing_pipeline.recommendation.routing_rules import RoutingRules, optimize_routing_rules, quality_change
from routing_pipeline.recommendation.simulation import simulate
from routing_pipeline.rules.model import WeightedModel
from routing_pipeline.rules.reading import read_given_rules
from routing_pipeline.window.engine import open_engine
from tests.simulation import worlds

WORLD = worlds.CONFOUNDED
CHEAPEST, BEST = WORLD.models[0], WORLD.models[-1]
WEAK = {"when": {"task_type": ["task-0", "task-1", "task-2"]}, "route": CHEAPEST}
DEAR = {"when": {"task_type": ["task-5", "task-6", "task-7"]}, "route": BEST}


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory) -> Any:
    """Rows, evidence and scope of one window."""
    rng = np.random.default_rng(4)
    rows = worlds.logged(WORLD, worlds.contexts(WORLD, 12_000, rng), rng)
    folder: Path = tmp_path_factory.mktemp("cells")
    with open_engine() as engine:
        evidence, scope = worlds.evidence_of(engine, rows, folder)
        yield engine.read_parquet([folder / "rows.parquet"]), evidence, scope


@pytest.fixture(scope="module")
def ours(world: Any) -> RoutingRules:
    """The rules that are proposed for the window."""
    _, evidence, scope = world
    return optimize_routing_rules(evidence, scope)


def judge(world: Any, rules: list[dict[str, Any]], **asked: Any) -> RoutingRules:
    requests, evidence, scope = world
    other = scope.model_copy(update={"parameters": Parameters.model_validate(asked)})
    return evaluated(read_given_rules(rules, other.parameters), evidence, requests, other)


# Reading


def test_a_single_name_may_stand_for_a_list_of_one() -> None:
    (rule,) = read_given_rules([{"when": {"task_type": "code", "team": "red"}, "route": "small"}], Parameters()).rules
    assert (rule.when.task_type, rule.when.team) == (("code",), ("red",))


@pytest.mark.parametrize(
    ("rule", "said"),
    [
        ({"when": {"task": ["code"]}, "route": "m"}, "rule 1: when.task: is not known here; did you mean 'task_type'?"),
        ({"when": {"complexty": {"lt": 1}}, "route": "m"}, "when.complexty: is not known here; did you mean 'complexity'?"),
        (
            {"when": {"colour": "red"}, "route": "m"},
            "when.colour: is not known here; when takes task_type, complexity, prompt_tokens, team, tier",
        ),
        ({"when": {"complexity": {"lte": 0.5}}, "route": "m"}, "when.complexity.lte: is not known here; did you mean 'lt'?"),
        ({"wen": {"task_type": ["code"]}, "route": "m"}, "rule 1: wen: is not known here; did you mean 'when'?"),
        ({"conditions": {}, "route": "m"}, "rule 1: conditions: is not known here;"),
        ({"when": {"task_type": 5}, "route": "m"}, 'when.task_type: must be a name, or a list of names such as ["code", "chat"]'),
        ({"when": {"complexity": "high"}, "route": "m"}, 'when.complexity: must be a range such as {"gte": 0.2, "lt": 0.8}'),
        ({"when": ["code"], "route": "m"}, "rule 1: when: must be conditions such as"),
        ({"route": {"model": "m"}}, "route: must be the name of a model, or a list such as"),
        ({"route": ["m"]}, 'route.0: must be an object such as {"model": "gpt-4o-mini", "weight": 1.0}'),
        ({"route": "m", "fallbacks": "n"}, "fallbacks: must be a list of names of models"),
        ("code", "rule 1: must be an object with when and route"),
    ],
)
def test_what_cannot_be_read_is_told_in_plain_words(rule: Any, said: str) -> None:
    with pytest.raises(UnusableInputError) as refused:
        read_given_rules([rule], Parameters())
    assert said in str(refused.value)
    assert not {"tuple", "dictionary", "instance", "pydantic"} & set(str(refused.value).replace(";", " ").split())


def test_a_goal_that_is_none_and_an_id_that_is_there_twice_are_refused() -> None:
    with pytest.raises(UnusableInputError, match="goal: one of cost, speed, quality, balanced"):
        read_given_rules({"goal": "cheap", "rules": [{"route": "m"}]}, Parameters())
    with pytest.raises(UnusableInputError, match='two rules have the id "r2"'):
        read_given_rules([{"id": "r2", "route": "m"}, {"route": "n"}], Parameters())


@pytest.mark.parametrize(
    ("name", "known", "near"),
    [
        ("summarisation", ("summarization", "code"), "summarization"),
        ("Code", ("code", "chat"), "code"),
        ("gpt4o", ("gpt-4o", "gpt-4.1-nano"), "gpt-4o"),
        ("zzz", ("code", "chat"), None),
        ("code", (), None),
    ],
)
def test_the_nearest_name_is_offered_where_one_is_near(name: str, known: tuple[str, ...], near: str | None) -> None:
    assert nearest(name, known) == near


# Names that the window does not know


def test_unknown_tasks_teams_and_models_are_told_with_the_nearest_name(world: Any) -> None:
    rules = [
        {"when": {"task_type": ["task-0", "taks-1"]}, "route": CHEAPEST},
        {"when": {"team": "rde"}, "route": BEST},
        {"when": {"task_type": "task-2"}, "route": "gpt-9", "fallbacks": [CHEAPEST + "x"]},
    ]
    said = judge(world, rules).notices
    assert "Rule r1: no request of the window has task_type 'taks-1'; did you mean 'task-1'?" in said
    assert "Rule r2: no request of the window has team 'rde'; did you mean 'red'?" in said
    assert "Rule r3: the model 'gpt-9' was never seen in the window." in said
    assert f"Rule r3: the model '{CHEAPEST}x' was never seen in the window; did you mean '{CHEAPEST}'?" in said
    assert "Rule r2 matches no request of the window: none meets its conditions." in said
    requests, evidence, scope = world
    assert replayed(read_given_rules(rules, Parameters()), evidence, requests, scope).notices == said


def test_a_rule_behind_one_that_takes_everything_is_told(world: Any) -> None:
    said = judge(world, [{"route": BEST}, {"when": {"task_type": "task-1"}, "route": CHEAPEST}]).notices
    assert said == ("Rule r2 matches no request of the window: rules before it decide for every request that meets its conditions.",)


def test_rules_that_match_nothing_get_no_risk_and_no_trial(world: Any) -> None:
    requests, evidence, scope = world
    found = judge(world, [{"when": {"task_type": "taks-1"}, "route": CHEAPEST}])
    risks = optimization_risks(scope, evidence, found, requests)
    assert (risks.overall, [change.risk for change in risks.changes]) == (None, [None, None])
    assert risks.notices == found.notices
    assert "did you mean 'task-1'" in (why_not_to_start(found) or "")
    assert _verdict(found, [], approval=False).startswith("Do not start the rule: no request of the window matches")
    (item,) = _rule_items(scope, found)
    assert (item.id, item.risk) == ("rules-not-started", "High")


def test_rules_that_send_nothing_elsewhere_are_no_change_worth_a_trial(world: Any) -> None:
    assert "no request of the window would go to another model" in (why_not_to_start(judge(world, [{"route": "unchanged"}])) or "")


def test_names_that_are_known_are_not_told(world: Any) -> None:
    assert judge(world, [{"when": {"task_type": "task-1", "team": "blue"}, "route": CHEAPEST}]).notices == ()


# Estimates of the replay


def test_rules_that_break_the_floor_by_their_estimate_are_not_started(world: Any) -> None:
    _, evidence, scope = world
    found = judge(world, [WEAK])
    change = quality_change(found)
    assert isinstance(change, Estimate)
    assert change.estimate < -0.015
    whole, rule = optimization_risks(scope, evidence, found).changes
    assert whole.quality_falls.probability > 0.7
    assert (whole.risk, rule.risk, found.rule_set.rules[0].risk) == ("High", "High", "High")
    canary, *more = _rule_items(scope, found)
    assert (canary.id, more) == ("rules-not-started", [])
    effects = {effect.metric: effect.value for effect in canary.expected_impact}
    assert effects["quality"] == change, "the replay's estimate"
    assert isinstance(effects["cost"], Estimate)
    said = _verdict(found, [], approval=False)
    assert said.startswith("Do not start the rule: mean quality is estimated to change by -")
    assert "below the floor of" in said
    assert "A/B" not in said


def test_the_same_rules_may_be_tried_where_such_a_fall_was_asked_for(world: Any) -> None:
    _, _, scope = world
    found = judge(world, [WEAK], max_quality_drop=0.5)
    assert why_not_to_start(found) is None
    assert [item.id for item in _rule_items(scope, found)] == ["rules-canary", "rules-rollout"]
    assert judge(world, [WEAK], max_quality_drop=0.5, quality_threshold=0.1).walk[0].passed
    above = judge(world, [WEAK], max_quality_drop=0.5, quality_threshold=0.86)
    assert "below the floor of 0.860" in (why_not_to_start(above) or "")


def test_a_ceiling_of_cost_and_a_capacity_that_rules_break_are_named(world: Any) -> None:
    dear = judge(world, [DEAR], cost_threshold=0.005)
    assert "cost at most $0.005 per request" in (why_not_to_start(dear) or "")
    full = judge(world, [DEAR], capacities={BEST: {"max_share": 0.2}})
    assert f"{BEST} at most 20.0 % of requests, its capacity; it would get " in (why_not_to_start(full) or "")
    assert full.rule_set.constraints.max_share == {BEST: 0.2}


def test_rules_that_say_a_tier_are_judged_by_its_models(world: Any) -> None:
    tiers = {"models": {BEST: {"tier": "big"}, CHEAPEST: {"tier": "small"}}}
    said = judge(world, [{"when": {"task_type": "task-0"}, "route": "tier:small"}], **tiers)
    plain = judge(world, [{"when": {"task_type": "task-0"}, "route": CHEAPEST}], **tiers)
    assert said.rule_set.expected == plain.rule_set.expected
    assert said.notices == (f"tier:small stands for {CHEAPEST}, in equal parts.", *plain.notices)
    with pytest.raises(UnusableInputError, match="no model of tier huge is known"):
        judge(world, [{"when": {}, "route": "tier:huge"}], **tiers)
    full = judge(world, [DEAR], **tiers, max_share_by_tier={"big": 0.2})
    assert "models of tier big at most 20.0 % of requests, together; they would get " in (why_not_to_start(full) or "")


def test_each_given_rule_is_estimated_by_itself_on_the_held_out_half(world: Any) -> None:
    requests, evidence, scope = world
    rules = [
        {"when": {"task_type": "task-0"}, "route": WORLD.models[2]},
        {"when": {"task_type": "task-1"}, "route": CHEAPEST},
        {"when": {"task_type": "task-3"}, "route": "gpt-9"},
    ]
    found = judge(world, rules, max_quality_drop=0.01)
    easy, hard, unseen = found.impacts
    assert isinstance(easy.quality_change, Estimate)
    assert easy.quality_change.estimate > hard.quality_change.estimate
    assert isinstance(unseen.quality_change, Unidentifiable)
    risks = {change.id: change for change in optimization_risks(scope, evidence, found, requests).changes}
    for rule, impact in zip(found.rule_set.rules, found.impacts, strict=True):
        assert rule.risk == risks[rule.id].risk
        assert rule.evidence.requests == impact.requests
        if isinstance(rule.expected.quality, Estimate):
            assert rule.expected.quality.estimate == pytest.approx(
                impact.baseline.quality.estimate + impact.quality_change.estimate, abs=2e-3
            )
    assert (risks["r2"].risk, risks["r3"].risk) == ("High", "High")
    assert found.moved_share == pytest.approx(sum(impact.share * impact.moved_share for impact in found.impacts))
    assert found.moved_spend_share == pytest.approx(sum(impact.moved_spend_share for impact in found.impacts))
    assert set(risks["r1"].blast_radius.teams) <= {"red", "blue"}


def test_a_replay_says_which_limits_rules_break(world: Any) -> None:
    requests, evidence, scope = world
    weighted = [{"route": [{"model": CHEAPEST, "weight": 0.5}, {"model": BEST, "weight": 0.5}]}]
    simulation = replayed(read_given_rules(json.dumps(weighted), Parameters()), evidence, requests, scope)
    assert any(limit.startswith("quality not more than 0.01 below today's") for limit in simulation.unproven_limits)
    # What is not proven holds even if what nobody scored was perfect; what is broken is broken without that.
    assert set(simulation.broken_limits) <= {limit.partition(" even if")[0] for limit in simulation.unproven_limits}
    (rule,) = simulation.by_rule
    assert rule.expected.change.cost_usd == simulation.expected.change.cost_usd or rule.requests == simulation.requests
    none = replayed(read_given_rules([{"route": "unchanged"}], Parameters()), evidence, requests, scope)
    assert (none.broken_limits, none.unproven_limits, none.by_rule) == ((), (), ())


def test_rules_of_ours_are_replayed_as_they_were_proven_by_whatever_way_they_come_back(world: Any, ours: RoutingRules) -> None:
    requests, evidence, scope = world
    assert ours.rule_set.rules
    as_proven = simulate(ours.rule_set, evidence, requests, scope, ours.halves)
    by_hand = read_given_rules(json.loads(ours.rule_set.model_dump_json(exclude_none=True)), Parameters())
    for handed in (ours.rule_set, by_hand):
        again = replayed(handed, evidence, requests, scope, ours.options)
        assert not again.flatters
        assert again.expected.change.quality == as_proven.expected.change.quality
        assert again.saving_usd == as_proven.saving_usd


def test_what_is_left_of_our_rules_is_judged_by_the_half_that_did_not_learn_it(world: Any, ours: RoutingRules) -> None:
    requests, evidence, scope = world
    rules = json.loads(ours.rule_set.model_dump_json(exclude_none=True))["rules"]
    changed = [*({"when": each["when"], "route": each["route"]} for each in rules[:1]), DEAR]
    found = replayed(read_given_rules(changed, Parameters()), evidence, requests, scope, ours.options)
    assert not found.flatters
    assert [each.rule_id for each in found.by_rule] == ["r1", "r2"]
    replayed_change, promised = found.by_rule[0].quality_change, ours.impacts[0].quality_change
    assert isinstance(replayed_change, Estimate)
    assert isinstance(promised, Estimate)
    # What is promised has the luck of passing taken off (at most two standard errors); the replay tells what the sessions show.
    assert 0 <= ours.luck < 2
    assert -1e-6 <= replayed_change.estimate - promised.estimate <= ours.luck * (promised.high - promised.low) / 2 + 1e-6


def test_rules_of_ours_that_cannot_be_told_apart_by_halves_are_called_flattered(world: Any, ours: RoutingRules) -> None:
    requests, evidence, scope = world
    rules = json.loads(ours.rule_set.model_dump_json(exclude_none=True))["rules"]
    narrowed = [{"when": {**each["when"], "team": ["red"]}, "route": each["route"]} for each in rules]
    found = replayed(read_given_rules(narrowed, Parameters()), evidence, requests, scope, ours.options)
    assert found.flatters
    assert found.verdict.startswith("Learnt partly")
    assert found.unproven_limits[0].startswith("any limit")
    own = read_given_rules([{"when": {"task_type": "task-0"}, "route": BEST}], Parameters())
    assert not replayed(own, evidence, requests, scope, ours.options).flatters, "nobody learnt that here"


def test_a_model_by_its_name_is_a_route_of_its_own() -> None:
    (rule,) = read_given_rules([{"route": "small"}], Parameters()).rules
    assert rule.route == (WeightedModel(model="small", weight=1.0),)
