"""Worlds in which a part of the traffic is never scored, priced or timed: what is told is of the rest, and the part is left alone."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest
from numpy.typing import NDArray

from routing_pipeline.estimates import Estimate, Measured
from routing_pipeline.policy.evidence_model import RoutingEvidence
from routing_pipeline.policy.known_parts import MAX_UNKNOWN
from routing_pipeline.recommendation.routing_rules import RoutingRules, optimize_routing_rules
from routing_pipeline.window.engine import open_engine
from tests.simulation import worlds
from tests.simulation.worlds import Requests, World

DROP = 0.01
N = 15_000
EVEN = replace(worlds.CONFOUNDED, sharpness=0.0)
"""Every model serves every kind of request alike: no kind is free of the one that nobody scores."""
TWO = replace(EVEN, skills=(0.5, 0.9), prices=(0.5, 5.0), speeds=(600.0, 1200.0), explored=1.0)

Where = Callable[[World, pa.Table], NDArray[np.bool_]]


@dataclass(frozen=True)
class Run:
    """One window with a part forgotten: what was answered, and the truth of the world's traffic today and under the rules."""

    evidence: RoutingEvidence
    answer: RoutingRules
    population: Requests
    today: worlds.Truth
    proposed: worlds.Truth
    shares: worlds.Floats


def models(*places: int) -> Where:
    return lambda world, rows: np.isin(np.array(rows["routed_model"].to_pylist()), [world.models[place] for place in places])


def tasks(*places: int) -> Where:
    return lambda world, rows: np.isin(np.array(rows["task_type"].to_pylist()), [world.tasks[place] for place in places])


def model_but_for_one_task(model: int, task: int) -> Where:
    return lambda world, rows: models(model)(world, rows) & ~tasks(task)(world, rows)


def run(world: World, column: str, where: Where, folder: Path, seed: int = 3, goal: str = "cost") -> Run:
    rng = np.random.default_rng(seed)
    rows = worlds.logged(world, worlds.contexts(world, N, rng), rng)
    rows = worlds.forgotten(rows, column, where(world, rows))
    with open_engine() as engine:
        evidence, scope = worlds.evidence_of(engine, rows, folder, goal=goal, max_quality_drop=DROP)
    answer = optimize_routing_rules(evidence, scope)
    population = worlds.contexts(world, 100_000, np.random.default_rng(5))
    shares = worlds.followed(world, population, answer.rule_set)
    return Run(evidence, answer, population, worlds.truth_of(population, population.route), worlds.truth_of(population, shares), shares)


def holds(measured: Measured, truth: float) -> bool:
    assert isinstance(measured, Estimate)
    return measured.low <= truth <= measured.high


def quality_of(requests: Requests, weight: worlds.Floats) -> float:
    """True mean quality of successes, of the requests and models that `weight` (request, model) counts."""
    success = weight * requests.success
    return float((success * requests.quality).sum() / success.sum())


def moved_of(found: Run, models_: list[int]) -> float:
    """Share of the traffic of some models today that the rules send elsewhere."""
    before, after = found.population.route[:, models_].sum(axis=1), found.shares[:, models_].sum(axis=1)
    return float(np.maximum(before - after, 0.0).sum() / len(before))


@pytest.mark.parametrize(
    ("world", "unscored"), [(TWO, 1), (EVEN, 2)], ids=["half of the traffic, everywhere", "a sixth of the traffic, everywhere"]
)
def test_where_every_kind_of_request_is_served_by_a_model_that_nobody_scores_nothing_is_proposed(
    world: World, unscored: int, tmp_path: Path
) -> None:
    found = run(world, "quality", models(unscored), tmp_path)
    assert found.answer.rule_set.status == "no_change"
    assert world.models[unscored] in found.answer.reasons[0]
    [part] = found.evidence.unknown
    assert (part.model, part.observed) == (world.models[unscored], 0)
    assert part.share == pytest.approx(1 / len(world.models), abs=0.02)
    today = found.evidence.today
    assert today is not None
    assert today.quality_share == pytest.approx(1 - part.share, abs=1e-9)
    scored = [place for place in range(len(world.models)) if place != unscored]
    weight = np.zeros_like(found.population.route)
    weight[:, scored] = found.population.route[:, scored]
    assert holds(today.quality, quality_of(found.population, weight))
    # In no segment a change against answers that nobody knows is told.
    assert not any(isinstance(arm.quality_change, Estimate) for segment in found.evidence.segments for arm in segment.arms)


def test_kinds_of_request_that_an_unscored_model_hardly_serves_can_still_be_moved(tmp_path: Path) -> None:
    found = run(worlds.CONFOUNDED, "quality", models(0), tmp_path)
    assert found.answer.rule_set.rules
    assert found.proposed.quality >= found.today.quality - DROP
    assert 0.0 < moved_of(found, [0]) <= MAX_UNKNOWN
    weight = found.population.route.copy()
    weight[:, 0] = 0.0
    assert holds(found.answer.rule_set.expected.baseline.quality, quality_of(found.population, weight))
    assert any(worlds.CONFOUNDED.models[0] in warning for warning in found.answer.rule_set.warnings)


def test_a_task_that_nobody_scores_is_left_as_it_is_and_the_others_are_not(tmp_path: Path) -> None:
    found = run(worlds.CONFOUNDED, "quality", tasks(3), tmp_path)
    named = {task for rule in found.answer.rule_set.rules for task in rule.when.task_type or ()}
    assert named
    assert "task-3" not in named
    assert found.proposed.quality >= found.today.quality - DROP
    assert [part.task_type for part in found.evidence.unknown] == ["task-3"]
    weight = found.population.route * (found.population.task != 3)[:, None]
    assert holds(found.answer.rule_set.expected.baseline.quality, quality_of(found.population, weight))


def test_a_model_scored_on_one_task_alone_is_known_on_that_task_alone(tmp_path: Path) -> None:
    found = run(worlds.CONFOUNDED, "quality", model_but_for_one_task(3, 2), tmp_path)
    assert found.proposed.quality >= found.today.quality - DROP
    assert {part.model for part in found.evidence.unknown} == {worlds.CONFOUNDED.models[3]}
    assert "task-2" not in {part.task_type for part in found.evidence.unknown}
    weight = found.population.route.copy()
    weight[found.population.task != 2, 3] = 0.0
    assert holds(found.answer.rule_set.expected.baseline.quality, quality_of(found.population, weight))
    assert moved_of(found, [3]) <= MAX_UNKNOWN + float((found.population.task == 2).mean())


def test_a_team_that_nobody_scores_is_left_to_todays_routing_by_every_rule(tmp_path: Path) -> None:
    world = worlds.CONFOUNDED
    rng = np.random.default_rng(3)
    rows = worlds.logged(world, worlds.contexts(world, N, rng), rng)
    quiet = rng.random(N) < 0.25
    rows = worlds.with_column(rows, "team", np.where(quiet, "quiet", np.where(rng.random(N) < 0.5, "red", "blue")))
    rows = worlds.forgotten(rows, "quality", quiet)
    with open_engine() as engine:
        evidence, scope = worlds.evidence_of(engine, rows, tmp_path, goal="cost", max_quality_drop=DROP)
    answer = optimize_routing_rules(evidence, scope)
    assert answer.rule_set.rules
    assert {tuple(sorted(rule.when.team or ())) for rule in answer.rule_set.rules} == {("blue", "red")}
    assert [(part.team, part.observed) for part in evidence.unknown] == [("quiet", 0)]
    assert evidence.today is not None
    assert evidence.today.quality_share == pytest.approx(0.75, abs=0.01)
    assert answer.moved_share < 0.75


def test_what_a_model_of_unknown_cost_serves_is_left_and_savings_are_of_the_rest(tmp_path: Path) -> None:
    found = run(worlds.CONFOUNDED, "request_cost_usd", models(5), tmp_path)
    assert [(part.outcome, part.model) for part in found.evidence.unknown] == [("cost", worlds.CONFOUNDED.models[5])]
    priced = found.population.route.copy()
    priced[:, 5] = 0.0
    cost = float((priced * found.population.cost).sum() / priced.sum())
    assert holds(found.answer.rule_set.expected.baseline.cost_usd, cost)
    assert found.answer.rule_set.rules
    assert moved_of(found, [5]) <= MAX_UNKNOWN
    # Dollars a day are those of the priced part: N requests in 7 days.
    saved = float(((found.population.route - found.shares)[:, :5] * found.population.cost[:, :5]).sum() / len(found.population.task))
    assert holds(found.answer.saving_usd_per_day, saved * N / worlds.DAYS)


def test_latency_that_one_model_never_logs_is_that_of_the_others(tmp_path: Path) -> None:
    found = run(worlds.CONFOUNDED, "request_latency_ms", models(4), tmp_path, goal="speed")
    timed = found.population.route.copy()
    timed[:, 4] = 0.0
    latency = float((timed * found.population.latency).sum() / timed.sum())
    assert holds(found.answer.rule_set.expected.baseline.latency_ms, latency)
    assert moved_of(found, [4]) <= MAX_UNKNOWN
    assert found.proposed.quality >= found.today.quality - DROP
