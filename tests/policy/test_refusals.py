"""Inputs of which little or nothing can be said: honest results, never an exception, never a number."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest

from routing_pipeline.estimates import Estimate, Unidentifiable
from routing_pipeline.parameters import Goal
from routing_pipeline.policy.evidence_model import RoutingEvidence
from routing_pipeline.policy.exploration import exploration_rules
from routing_pipeline.recommendation.model_mix import optimize_model_mix
from routing_pipeline.recommendation.routing_rules import RoutingRules, optimize_routing_rules
from routing_pipeline.recommendation.simulation import simulate
from routing_pipeline.recommendation.tradeoff_frontier import tradeoff_frontier
from routing_pipeline.window.engine import open_engine
from tests.simulation import worlds


def rows_of(n: int = 5_000, **world: object) -> pa.Table:
    rng = np.random.default_rng(1)
    drawn = replace(worlds.CONFOUNDED, **world)  # type: ignore[arg-type]
    return worlds.logged(drawn, worlds.contexts(drawn, n, rng), rng)


def nulled(rows: pa.Table, *names: str) -> pa.Table:
    for name in names:
        place = rows.column_names.index(name)
        rows = rows.set_column(place, name, pa.nulls(rows.num_rows, rows.schema.field(name).type))
    return rows


def everything(rows: pa.Table, folder: Path, goal: Goal = "cost") -> tuple[RoutingEvidence, RoutingRules]:
    """Every recommendation that reads the evidence, so that each shows that it can bear it."""
    with open_engine() as engine:
        evidence, scope = worlds.evidence_of(engine, rows, folder, goal=goal)
        rules = optimize_routing_rules(evidence, scope)
        optimize_model_mix(evidence, scope, rules)
        tradeoff_frontier(evidence, scope, rules)
        exploration_rules(evidence, scope, rules.rule_set)
        simulate(rules.rule_set, evidence, engine.read_parquet([folder / "rows.parquet"]), scope, rules.halves)
    return evidence, rules


def is_nothing(rules: RoutingRules) -> bool:
    change = rules.rule_set.expected.change.cost_usd.relative
    assert isinstance(change, Estimate)
    assert (change.low, change.estimate, change.high) == (0.0, 0.0, 0.0)
    assert rules.rule_set.expected.proposed == rules.rule_set.expected.baseline
    return rules.rule_set.status == "no_change" and not rules.rule_set.rules and bool(rules.reasons)


@pytest.mark.parametrize(
    ("rows", "because"),
    [
        (rows_of(500), "too few to judge"),
        (rows_of(5_000).slice(0, 0), "too few to judge"),
        (nulled(rows_of(), "quality"), "no request carries a quality score"),
    ],
    ids=["few", "none", "unlabelled"],
)
def test_too_little_data_is_refused_in_words(rows: pa.Table, because: str, tmp_path: Path) -> None:
    evidence, rules = everything(rows, tmp_path)
    assert because in str(evidence.refusal)
    assert is_nothing(rules)
    for segment in (*evidence.tasks, *evidence.segments):
        assert isinstance(segment.quality, Unidentifiable)
        assert all(isinstance(arm.cost_usd, Unidentifiable) and not arm.supported for arm in segment.arms)


def test_few_sessions_are_refused_however_many_requests_they_made(tmp_path: Path) -> None:
    rows = rows_of()
    place = rows.column_names.index("cluster")
    evidence, rules = everything(rows.set_column(place, "cluster", pa.array(np.arange(rows.num_rows) % 20)), tmp_path)
    assert "20 groups of sessions are too few" in str(evidence.refusal)
    assert is_nothing(rules)


def test_without_any_cost_no_saving_is_claimed(tmp_path: Path) -> None:
    evidence, rules = everything(nulled(rows_of(), "request_cost_usd"), tmp_path)
    assert evidence.refusal is None
    assert is_nothing(rules)
    assert isinstance(rules.rule_set.expected.baseline.cost_usd, Unidentifiable)
    assert isinstance(rules.rule_set.expected.baseline.quality, Estimate)
    assert all(isinstance(task.cost_usd, Unidentifiable) for task in evidence.tasks)


def test_without_latency_the_guard_is_said_to_be_missing_and_speed_has_no_rules(tmp_path: Path) -> None:
    rows = nulled(rows_of(8_000), "request_latency_ms")
    _, rules = everything(rows, tmp_path)
    assert isinstance(rules.rule_set.expected.baseline.latency_ms, Unidentifiable)
    assert rules.rule_set.rules
    assert any("guard on slow requests was not applied" in warning for warning in rules.rule_set.warnings)
    _, speed = everything(rows, tmp_path, goal="speed")
    assert is_nothing(speed)
    assert "latency" in speed.reasons[0]


def test_one_model_has_no_alternative(tmp_path: Path) -> None:
    evidence, rules = everything(rows_of(skills=(0.8,), prices=(1.0,), speeds=(500.0,)), tmp_path)
    assert len(evidence.tasks[0].arms) == 1
    assert is_nothing(rules)


def test_without_task_types_and_complexity_rules_ask_for_length_alone(tmp_path: Path) -> None:
    rows = rows_of(12_000, explored=0.6, logs_complexity=False, demands=(1.0,), labelled=0.6)
    for name, value in (("task_type", "unknown"), ("is_task_type_logged", False)):
        rows = rows.set_column(rows.column_names.index(name), name, pa.array([value] * rows.num_rows))
    evidence, rules = everything(rows, tmp_path)
    assert evidence.grade == "C"
    assert evidence.complexity == "derived"
    assert rules.rule_set.rules
    for rule in rules.rule_set.rules:
        assert rule.when.task_type is None
        assert rule.when.complexity is None


def test_nothing_known_before_routing_still_gives_an_answer(tmp_path: Path) -> None:
    rows = nulled(rows_of(5_000, logs_complexity=False), "prompt_tokens", "complexity")
    evidence, _ = everything(rows, tmp_path)
    assert evidence.complexity == "absent"
    assert len(evidence.segments) == len(evidence.tasks)


def test_names_from_logs_are_data_whatever_they_say(tmp_path: Path) -> None:
    rows = rows_of(8_000, explored=0.5)
    hostile = {name: f"{name}'); DROP TABLE x; -- {{}} %s \" \\ \u202e" for name in set(rows["routed_model"].to_pylist())}
    place = rows.column_names.index("routed_model")
    renamed = rows.set_column(place, "routed_model", pa.array([hostile[name] for name in rows["routed_model"].to_pylist()]))
    evidence, _ = everything(renamed, tmp_path)
    assert {arm.model for arm in evidence.tasks[0].arms} == set(hostile.values())


def test_thousands_of_task_types_stay_bounded(tmp_path: Path) -> None:
    rows = rows_of(6_000)
    place = rows.column_names.index("task_type")
    evidence, rules = everything(rows.set_column(place, "task_type", pa.array([f"t{n % 3000}" for n in range(6_000)])), tmp_path)
    assert len(evidence.tasks) == 64
    assert evidence.requests == 6_000
    assert is_nothing(rules)


def test_requests_answered_from_the_cache_are_never_moved(tmp_path: Path) -> None:
    rows = rows_of(8_000)
    hits = np.random.default_rng(0).random(rows.num_rows) < 0.3
    for name, value in (("is_cache_hit", hits), ("request_cost_usd", np.where(hits, 0.0, rows["request_cost_usd"].to_numpy()))):
        rows = rows.set_column(rows.column_names.index(name), name, pa.array(value))
    _, rules = everything(rows, tmp_path)
    assert rules.moved_share <= 0.7
    baseline = rules.rule_set.expected.baseline.cost_usd
    assert isinstance(baseline, Estimate)
    assert baseline.estimate == pytest.approx(rows["request_cost_usd"].to_numpy().mean(), rel=1e-9)
