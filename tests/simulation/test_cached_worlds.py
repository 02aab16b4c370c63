"""Conversations with prompt caches whose requests are routed one by one: what is promised of whole sessions holds."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from routing_pipeline.estimates import Estimate
from routing_pipeline.parameters import Parameters
from routing_pipeline.recommendation.routing_rules import optimize_routing_rules
from routing_pipeline.recommendation.simulation import simulate
from routing_pipeline.rules.reading import read_given_rules
from routing_pipeline.window.engine import open_engine
from tests.simulation import cached_worlds as made
from tests.simulation.worlds import evidence_of

RANDOM = made.Conversations()
STICKY = made.Conversations(stays=0.85, turns=12, logs_propensity=False)
"""A conversation leaves its first model seldom, but few stay with it to the end."""


@pytest.mark.parametrize("world", [RANDOM, STICKY], ids=["random", "sticky"])
def test_what_whole_sessions_would_cost_holds_where_requests_are_routed_one_by_one(world: made.Conversations, tmp_path: Path) -> None:
    rng = np.random.default_rng(5)
    sessions = made.drawn(world, 8000 // world.turns, rng)
    rows = made.rows_of(world, sessions, rng)
    with open_engine(threads=1) as engine:
        evidence, scope = evidence_of(engine, rows, tmp_path, goal="cost")
        answer = optimize_routing_rules(evidence, scope)
        replayed = simulate(answer.rule_set, evidence, engine.read_parquet([tmp_path / "rows.parquet"]), scope, answer.halves)
        by_hand = read_given_rules([{"id": "c", "when": {"complexity": {"lt": 0.4}}, "route": "model-0"}], Parameters())
        refused = simulate(by_hand, evidence, engine.read_parquet([tmp_path / "rows.parquet"]), scope)
    assert evidence.sessions is not None
    assert evidence.sessions.cache is not None
    cache = evidence.sessions.cache
    assert cache.verdict == "something"
    assert cache.saved_usd is not None
    assert cache.lost_by_a_move is not None
    assert cache.lost_by_a_move > 0.05
    assert answer.rule_set.rules
    assert all(rule.per == "session" for rule in answer.rule_set.rules)
    promised = answer.rule_set.expected.change.cost_usd.relative
    assert isinstance(promised, Estimate)
    true = made.true_change(world, sessions, answer.rule_set, rng)
    assert promised.low <= true <= promised.high, (promised, true)
    again = replayed.expected.change.cost_usd.relative
    assert isinstance(again, Estimate)
    assert again.estimate == pytest.approx(promised.estimate, abs=0.01)
    assert "through its cache" in refused.verdict
