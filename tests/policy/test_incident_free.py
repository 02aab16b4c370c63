"""Unusual hours: chance alone makes none, whatever sessions do; an incident is found, and limits are then held with it and without it."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import ibis
import numpy as np
import pyarrow as pa
import pytest

from routing_pipeline.clock import SECONDS_PER_HOUR
from routing_pipeline.policy.evidence_model import UnusualHours
from routing_pipeline.policy.incident_free import intervals_of, unusual_hours
from routing_pipeline.policy.proof import today_of
from routing_pipeline.recommendation.question import WITHOUT_UNUSUAL, question_of
from routing_pipeline.recommendation.routing_rules import optimize_routing_rules
from routing_pipeline.window.engine import open_engine
from tests.simulation import worlds

MODELS, TASKS, HOURS = 4, 6, 168
BEGINS, LASTS = 60, 6
START_S = float(int(worlds.START_S) // SECONDS_PER_HOUR * SECONDS_PER_HOUR)


def window(seed: int, n: int = 6_000, *, sessions: bool = False, tail: float = 0.7, incident: str = "") -> pa.Table:
    """Models and tasks that fail in .5 to 2 % of requests; sessions fail, please and cost together; an incident befalls model-0."""
    rng = np.random.default_rng(seed)
    session = np.sort(rng.integers(0, n // 8, size=n)) if sessions else np.arange(n)
    many = int(session.max()) + 1
    begins, bad, dear = rng.random(many) * HOURS, rng.gamma(0.25, 4.0, size=many), rng.lognormal(-0.125, 0.5, size=many)
    mood = rng.normal(0.0, 0.1, size=many)
    if not sessions:
        bad, dear, mood = np.ones(many), np.ones(many), np.zeros(many)
    hour = begins[session] + rng.random(n) / 3
    model, task = rng.integers(0, MODELS, size=many)[session], rng.integers(0, TASKS, size=many)[session]
    hit = (model == 0) & (hour >= BEGINS) & (hour < BEGINS + LASTS)
    rate = rng.uniform(0.005, 0.02, size=(MODELS, TASKS))[model, task] * bad[session]
    failed = rng.random(n) < np.where(hit & (incident == "failures"), 0.5, rate)
    quality = 0.75 - 0.01 * task + mood[session] + rng.normal(0.0, 0.12, size=n) - 0.3 * (hit & (incident == "quality"))
    cost = (1.0 + model) * (1.0 + task) * dear[session] * rng.lognormal(-tail * tail / 2, tail, size=n)
    return pa.table(
        {
            "started_s": START_S + hour * SECONDS_PER_HOUR,
            "routed_model": [f"model-{each}" for each in model],
            "task_type": [f"task-{each}" for each in task],
            "status": np.where(failed, "failure", "success"),
            "quality": pa.array(np.clip(quality, 0.0, 1.0), mask=failed | (rng.random(n) > 0.3)),
            "request_cost_usd": np.where(hit & (incident == "spend"), 4.0, 1.0) * cost * 1e-3,
            "cluster": session * 2_654_435_761 % 2**32 >> 24,
        }
    )


def found_in(rows: pa.Table) -> tuple[UnusualHours, ...]:
    return unusual_hours(ibis.memtable(rows))


def hours_found(found: tuple[UnusualHours, ...]) -> float:
    """Of the incident."""
    begin, end = START_S + BEGINS * SECONDS_PER_HOUR, START_S + (BEGINS + LASTS) * SECONDS_PER_HOUR
    return sum(max(min(until, end) - max(since, begin), 0.0) for since, until in intervals_of(found)) / SECONDS_PER_HOUR


@pytest.mark.parametrize("asked", [{}, {"sessions": True}, {"tail": 1.6}], ids=["even", "sessions fail together", "heavy-tailed cost"])
def test_chance_alone_makes_no_hour_unusual(asked: dict[str, Any]) -> None:
    assert sum(bool(found_in(window(seed, **asked))) for seed in range(8)) <= 1


@pytest.mark.parametrize("what", ["failures", "quality", "spend"])
@pytest.mark.parametrize("sessions", [False, True], ids=["requests", "sessions"])
def test_an_incident_of_one_model_is_found_and_nothing_else(what: str, sessions: bool) -> None:
    found = found_in(window(3, 20_000, sessions=sessions, incident=what))
    assert {(each.model, each.what) for each in found} == {("model-0", what)}
    assert hours_found(found) >= LASTS - 1
    assert sum(until - since for since, until in intervals_of(found)) <= (LASTS + 2) * SECONDS_PER_HOUR


def test_an_incident_that_is_worst_in_its_middle_is_one_stretch() -> None:
    rows = window(3, n=20_000)
    hour = (rows["started_s"].to_numpy() - START_S) / SECONDS_PER_HOUR
    ill = np.array([model == "model-0" for model in rows["routed_model"].to_pylist()])
    fall = 0.12 * (ill & (hour >= BEGINS) & (hour < BEGINS + 6)) + 0.25 * (ill & (hour >= BEGINS + 1) & (hour < BEGINS + 4))
    worse = pa.array([None if value is None else value - down for value, down in zip(rows["quality"].to_pylist(), fall, strict=True)])
    found = found_in(rows.set_column(rows.schema.get_field_index("quality"), "quality", worse))
    assert [(each.model, each.what) for each in found] == [("model-0", "quality")]
    assert (found[0].start.timestamp() - START_S) / SECONDS_PER_HOUR == BEGINS
    assert (found[0].end.timestamp() - START_S) / SECONDS_PER_HOUR == BEGINS + 6
    assert found[0].size == pytest.approx(0.12 + 0.25 / 2, abs=0.05)


def test_what_a_model_does_half_of_the_time_is_how_things_are() -> None:
    rows = window(4)
    hours = np.floor((rows["started_s"].to_numpy() - START_S) / SECONDS_PER_HOUR)
    failed = (hours % 48 < 24) & (np.random.default_rng(1).random(len(hours)) < 0.5)
    assert found_in(rows.set_column(rows.column_names.index("status"), "status", pa.array(np.where(failed, "failure", "success")))) == ()


def test_two_days_of_logs_are_needed_and_an_empty_window_holds_nothing() -> None:
    rows = window(5, incident="failures")
    assert found_in(rows.slice(0, 0)) == ()
    assert found_in(rows.filter(pa.array(rows["started_s"].to_numpy() < START_S + 40 * SECONDS_PER_HOUR))) == ()


def test_limits_are_held_with_an_incident_and_without_it(tmp_path: Path) -> None:
    rng = np.random.default_rng(8)
    world = worlds.CONFOUNDED
    rows = worlds.logged(world, worlds.contexts(world, 20_000, rng), rng)
    began = worlds.START_S + BEGINS * SECONDS_PER_HOUR
    started = rows["started_s"].to_numpy()
    hit = (
        (started >= began) & (started < began + LASTS * SECONDS_PER_HOUR) & (np.array(rows["routed_model"].to_pylist()) == world.models[-1])
    )
    failed = hit & (rng.random(len(started)) < 0.6)
    rows = worlds.with_column(rows, "status", np.where(failed, "failure", np.array(rows["status"].to_pylist())))
    rows = worlds.forgotten(rows, "quality", failed)
    with open_engine() as engine:
        evidence, scope = worlds.evidence_of(engine, rows, tmp_path, goal="cost")
    assert {(each.model, each.what) for each in evidence.unusual} == {(world.models[-1], "failures")}
    question = question_of(evidence, scope, "cost")
    assert [each.name for each in question.further] == [WITHOUT_UNUSUAL]
    with_it, without_it = (today_of(each).success.value for each in question.proofs)
    assert without_it > with_it + 0.001
    answer = optimize_routing_rules(evidence, scope)
    assert any("unusual hours" in warning for warning in (*evidence.warnings, *answer.rule_set.warnings))
