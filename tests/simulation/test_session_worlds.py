"""Agents whose cheap model needs more calls: what is promised is about the same sessions, and the sign is right."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest

from routing_pipeline.estimates import Estimate
from routing_pipeline.parameters import Parameters
from routing_pipeline.policy.evidence_model import RoutingEvidence
from routing_pipeline.recommendation.routing_rules import RoutingRules, optimize_routing_rules
from routing_pipeline.recommendation.simulation import Simulation, simulate
from routing_pipeline.rules.model import RuleSet
from routing_pipeline.rules.reading import read_given_rules
from routing_pipeline.window.engine import open_engine
from routing_pipeline.window.scope import AnalysisScope
from tests.simulation import session_worlds as made
from tests.simulation.worlds import evidence_of

SAVES = made.Agents(factors=(1.6, 1.0))
DEARER = made.Agents(factors=(3.2, 1.0))
N = 3000


def analysed(
    world: made.Agents, folder: Path, seed: int = 3, *, with_sessions: bool = True
) -> tuple[made.Sessions, pa.Table, RoutingEvidence, AnalysisScope, RoutingRules]:
    rng = np.random.default_rng(seed)
    sessions = made.drawn(world, N, rng)
    rows = made.logged(world, made.calls_of(world, sessions, rng), with_sessions=with_sessions)
    with open_engine(threads=1) as engine:
        evidence, scope = evidence_of(engine, rows, folder, goal="cost")
        rules = optimize_routing_rules(evidence, scope)
    return sessions, rows, evidence, scope, rules


def holds(promised: object, true: float) -> bool:
    return isinstance(promised, Estimate) and promised.low <= true <= promised.high


@pytest.mark.parametrize("switching", [0.0, 0.1])
def test_a_saving_per_task_is_found_and_what_is_promised_of_the_same_sessions_holds(switching: float, tmp_path: Path) -> None:
    world = replace(SAVES, switching=switching)
    sessions, rows, evidence, scope, answer = analysed(world, tmp_path)
    rules = answer.rule_set
    assert (evidence.unit, evidence.per, rules.unit, rules.status) == ("session", "session", "session", "proposed")
    assert evidence.requests == rows.num_rows
    assert all(rule.per == "session" and rule.evidence.sessions for rule in rules.rules)
    now, then = made.truth_of(sessions, sessions.route), made.truth_of(sessions, made.followed(world, sessions, rules))
    assert then.cost < now.cost
    assert holds(rules.expected.change.cost_usd.relative, then.cost / now.cost - 1)
    of_sessions = rules.expected.per_session
    assert of_sessions is not None
    assert of_sessions.change.cost_usd == rules.expected.change.cost_usd
    assert holds(of_sessions.change.requests.relative, then.calls / now.calls - 1)
    assert not any("per call only" in each for each in rules.warnings)
    assert any("for the same sessions" in each for each in answer.reasons)
    assert evidence.sessions is not None
    assert ("counted by their first model" in evidence.sessions.told) is (switching > 0)
    # The rows say what the cells say.
    replay = simulate_of(rules, evidence, scope, tmp_path)
    assert replay.expected.change.cost_usd.relative.estimate == pytest.approx(rules.expected.change.cost_usd.relative.estimate, abs=0.005)


def simulate_of(rules: RuleSet, evidence: RoutingEvidence, scope: AnalysisScope, folder: Path) -> Simulation:
    with open_engine(threads=1) as engine:
        return simulate(rules, evidence, engine.read_parquet([folder / "rows.parquet"]), scope)


def test_a_saving_per_call_that_is_a_loss_per_task_is_not_promised(tmp_path: Path) -> None:
    sessions, _, evidence, scope, answer = analysed(DEARER, tmp_path)
    now, then = made.truth_of(sessions, sessions.route), made.truth_of(sessions, made.followed(DEARER, sessions, answer.rule_set))
    assert then.cost <= now.cost
    # All to the cheap model: a loss, and told as one.
    by_hand = read_given_rules([{"id": "all", "per": "session", "when": {}, "route": "model-0"}], Parameters())
    told = simulate_of(by_hand, evidence, scope, tmp_path).expected
    cheap = np.zeros_like(sessions.route)
    cheap[:, 0] = 1.0
    under = made.truth_of(sessions, cheap)
    assert holds(told.change.cost_usd.relative, under.cost / now.cost - 1)
    assert isinstance(told.change.cost_usd.relative, Estimate)
    assert told.change.cost_usd.relative.low > 0
    assert told.per_session is not None
    assert holds(told.per_session.change.requests.relative, under.calls / now.calls - 1)


def test_rules_per_request_that_would_split_sessions_are_not_judged_where_each_has_one_model(tmp_path: Path) -> None:
    _, _, evidence, scope, _ = analysed(SAVES, tmp_path)
    by_task = read_given_rules([{"id": "t", "when": {"task_type": ["support"]}, "route": "model-0"}], Parameters())
    assert isinstance(simulate_of(by_task, evidence, scope, tmp_path).expected.change.cost_usd.relative, Estimate)
    by_complexity = read_given_rules([{"id": "c", "when": {"complexity": {"lt": 0.4}}, "route": "model-0"}], Parameters())
    assert "give per: session" in simulate_of(by_complexity, evidence, scope, tmp_path).verdict


def test_without_sessions_the_promise_is_per_call_only_and_says_so(tmp_path: Path) -> None:
    _, _, evidence, _, answer = analysed(DEARER, tmp_path, with_sessions=False)
    assert (evidence.unit, evidence.per, evidence.sessions) == ("request", "request", None)
    assert answer.rule_set.unit == "request"
    assert answer.rule_set.expected.per_session is None
    assert any("per call only" in each for each in answer.rule_set.warnings)


CHAT = made.Agents(tasks=("chat",), calls=(0.7,), factors=(1.0, 1.0), qualities=(0.84, 0.85), prices=(0.001, 0.004))


def test_agents_beside_a_chat_that_is_routed_request_by_request_are_each_counted_as_they_are_decided(tmp_path: Path) -> None:
    rng = np.random.default_rng(5)
    agents, chat = made.drawn(SAVES, 3000, rng), made.drawn(CHAT, 12_000, rng)
    chatter = made.regrouped(made.logged(CHAT, made.calls_of(CHAT, chat, rng)), 5)
    rows = pa.concat_tables([made.logged(SAVES, made.calls_of(SAVES, agents, rng)), chatter])
    with open_engine(threads=1) as engine:
        evidence, scope = evidence_of(engine, rows, tmp_path, goal="cost")
        answer = optimize_routing_rules(evidence, scope)
    rules = answer.rule_set
    assert (evidence.per, evidence.by_request, rules.status) == ("session", ("chat",), "proposed")
    assert {task: rule.per for rule in rules.rules for task in rule.when.task_type or ()} == {
        "chat": "request",
        **dict.fromkeys(SAVES.tasks, "session"),
    }
    now, then = (
        sum(float((shares * sessions.cost).sum()) for sessions, shares in ((agents, of_agents), (chat, of_chat)))
        for of_agents, of_chat in (
            (agents.route, chat.route),
            (made.followed(SAVES, agents, rules), made.followed(CHAT, chat, rules)),
        )
    )
    assert holds(rules.expected.change.cost_usd.relative, then / now - 1)
    replayed = simulate_of(rules, evidence, scope, tmp_path).expected.change.cost_usd.relative
    assert isinstance(replayed, Estimate)
    assert replayed.estimate == pytest.approx(rules.expected.change.cost_usd.relative.estimate, abs=0.01)
