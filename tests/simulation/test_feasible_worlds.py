"""Worlds in which some requests need what a cheap model cannot do: none of them is moved there, and the rest saves what there is."""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path
from typing import Literal

import ibis
import numpy as np
import pyarrow as pa
import pytest
from numpy.typing import NDArray

from routing_pipeline.policy.evidence_model import RoutingEvidence
from routing_pipeline.policy.exploration import exploration_rules
from routing_pipeline.recommendation.routing_rules import RoutingRules, optimize_routing_rules
from routing_pipeline.rules.model import RuleSet
from routing_pipeline.window.engine import open_engine
from tests.simulation import worlds
from tests.simulation.worlds import Floats, Requests, World

WORLD = World(
    skills=(0.82, 0.86, 0.9), prices=(0.5, 2.0, 5.0), speeds=(600.0, 900.0, 1200.0), demands=(0.4, 0.8, 1.2), explored=0.3, labelled=0.5
)
N = 24_000
CANNOT = 0
IMAGES = 0.06
DROP = 0.05
SENT = 0.2
LONGEST = 1_000
"""Tokens of a prompt that the cheap model cannot take; about one request in sixteen has as many."""
Need = Literal["image", "length"]


@dataclass(frozen=True)
class Split:
    """The world with each task cut by the need, as a seer sees it."""

    models: tuple[str, ...]
    tasks: tuple[str, ...]


def drawn(
    n: int, seed: int, share: float = IMAGES, *, need: Need = "image", sent: float = SENT
) -> tuple[Requests, NDArray[np.bool_], np.random.Generator]:
    """Requests of which some need an image, or are too long; the router all but knows it, and the cheap model fails on every one.

    sent: how likely such a request goes there, of how likely others do.
    """
    rng = np.random.default_rng(seed)
    requests = worlds.contexts(WORLD, n, rng)
    needs = rng.random(n) < share if need == "image" else requests.tokens >= LONGEST
    route, success = requests.route.copy(), requests.success.copy()
    route[needs, CANNOT] *= sent
    route /= route.sum(axis=1, keepdims=True)
    success[needs, CANNOT] = 0.0
    return replace(requests, route=route, success=success), needs, rng


def table_of(requests: Requests, needs: NDArray[np.bool_]) -> ibis.Table:
    return ibis.memtable(
        pa.table(
            {
                "row": np.arange(len(needs)),
                "task_type": np.array(WORLD.tasks)[requests.task],
                "complexity": requests.complexity,
                "prompt_tokens": requests.tokens,
                "has_image": needs,
                # Logged or not, some requests offer tools, which every model takes.
                "has_tools": np.arange(len(needs)) % 10 < 3,
            }
        )
    )


def followed(rules: RuleSet, requests: Requests, needs: NDArray[np.bool_]) -> Floats:
    """As `worlds.followed`, by rules that may ask for images."""
    rows, shares, undecided = table_of(requests, needs), requests.route.copy(), np.ones(len(needs), dtype=bool)
    for rule in sorted(rules.rules, key=lambda each: each.priority):
        held = rows.select("row", holds=rule.when.holds(rows)).order_by("row").to_pyarrow()["holds"].to_numpy(zero_copy_only=False)
        target = np.zeros(len(WORLD.models))
        for each in rule.route if rule.route != "unchanged" else ():
            target[WORLD.models.index(each.model)] = each.weight
        shares[held & undecided] = target
        undecided &= ~held
    return shares


def seer(requests: Requests, needs: NDArray[np.bool_], floor: float) -> Floats:
    """The cheapest table of task and need that truly keeps the floor and sends nothing where it cannot be served."""
    split = Split(WORLD.models, tuple(f"{task}{suffix}" for task in WORLD.tasks for suffix in ("", " with images")))
    cost = requests.cost.copy()
    cost[needs, CANNOT] = 1e3
    return worlds.task_table(split, replace(requests, task=2 * requests.task + needs, cost=cost), floor)


def logs(
    requests: Requests,
    needs: NDArray[np.bool_],
    rng: np.random.Generator,
    *,
    is_logged: bool,
    need: Need = "image",
    has_tools: bool = False,
) -> pa.Table:
    rows = worlds.logged(WORLD, requests, rng)
    refused = needs & (np.array(rows["model"].to_pylist()) == WORLD.models[CANNOT])
    error = np.where(refused, "BadRequestError" if need == "image" else "ContextWindowExceededError", "Timeout")
    failed = np.array(rows["status"].to_pylist()) == "failure"
    rows = rows.append_column("error_type", pa.array(error, mask=~failed))
    if has_tools:
        rows = rows.append_column("has_tools", pa.array(rng.random(len(needs)) < 0.3))
    return rows.append_column("has_image", pa.array(needs, mask=np.full(len(needs), not is_logged)))


@dataclass(frozen=True)
class Run:
    """One window: what was found, and what it truly does."""

    evidence: RoutingEvidence
    answer: RoutingRules
    explored: RuleSet | None
    population: Requests
    needs: NDArray[np.bool_]
    shares: Floats

    def saving(self, shares: Floats) -> float:
        return 1 - worlds.truth_of(self.population, shares).cost / worlds.truth_of(self.population, self.population.route).cost


def run(
    folder: Path,
    *,
    is_logged: bool,
    seed: int = 11,
    share: float = IMAGES,
    need: Need = "image",
    sent: float = SENT,
    has_tools: bool = False,
) -> Run:
    requests, needs, rng = drawn(N, seed, share, need=need, sent=sent)
    rows = logs(requests, needs, rng, is_logged=is_logged, need=need, has_tools=has_tools)
    with open_engine() as engine:
        evidence, scope = worlds.evidence_of(engine, rows, folder, goal="cost", max_quality_drop=DROP)
    answer = optimize_routing_rules(evidence, scope)
    population, theirs, _ = drawn(60_000, seed + 1, share, need=need, sent=sent)
    return Run(
        evidence,
        answer,
        exploration_rules(evidence, scope, answer.rule_set),
        population,
        theirs,
        followed(answer.rule_set, population, theirs),
    )


@pytest.fixture(scope="module")
def told(tmp_path_factory: pytest.TempPathFactory) -> Run:
    return run(tmp_path_factory.mktemp("told"), is_logged=True)


def test_no_request_is_moved_where_it_cannot_be_served(told: Run) -> None:
    assert told.answer.rule_set.rules
    assert not (told.shares[told.needs, CANNOT] > told.population.route[told.needs, CANNOT]).any()
    for rules in filter(None, (told.answer.rule_set, told.explored)):
        for rule in rules.rules:
            named = {target.model for target in rule.route if rule.route != "unchanged"} | set(rule.fallbacks)  # type: ignore[union-attr]
            assert WORLD.models[CANNOT] not in named or rule.when.has_image is False


def test_the_rest_saves_what_a_seer_saves_that_knows_feasibility(told: Run) -> None:
    floor = worlds.truth_of(told.population, told.population.route).quality - DROP
    assert told.saving(told.shares) >= 0.9 * told.saving(seer(told.population, told.needs, floor))
    now = worlds.truth_of(told.population, told.population.route)
    assert worlds.truth_of(told.population, told.shares).success >= now.success - 0.005


def test_the_evidence_says_how_many_requests_a_model_could_not_have_served(told: Run) -> None:
    by_model = {each.model: each for each in told.evidence.feasibility}
    assert by_model[WORLD.models[CANNOT]].infeasible_share == pytest.approx(IMAGES, abs=0.01)
    assert all(by_model[model].infeasible_requests == 0 for model in WORLD.models[1:])
    (silent,) = told.evidence.assumptions
    assert "needs audio, tools, structured output: the logs do not say which do" in silent
    assert len(told.evidence.tasks) == len(WORLD.tasks)
    assert len({each.id for each in told.evidence.segments}) == len(told.evidence.segments) >= 2 * len(WORLD.tasks)


def test_prompts_that_a_model_was_seen_to_refuse_for_their_length_stay_and_the_rest_saves(tmp_path: Path) -> None:
    found = run(tmp_path, is_logged=False, need="length")
    assert not (found.shares[found.needs, CANNOT] > found.population.route[found.needs, CANNOT]).any()
    floor = worlds.truth_of(found.population, found.population.route).quality - DROP
    assert found.saving(found.shares) >= 0.9 * found.saving(seer(found.population, found.needs, floor))


@pytest.mark.parametrize(("sent", "has_tools"), [(SENT, False), (0.03, True)], ids=["nothing logged", "tools logged, images seldom sent"])
def test_where_only_errors_show_the_need_it_is_warned_of_and_completion_holds(sent: float, has_tools: bool, tmp_path: Path) -> None:
    found = run(tmp_path, is_logged=False, sent=sent, has_tools=has_tools)
    assert any(WORLD.models[CANNOT] in each and "refused requests" in each for each in found.evidence.warnings)
    assert found.evidence.assumptions != ()
    now = worlds.truth_of(found.population, found.population.route)
    assert worlds.truth_of(found.population, found.shares).success >= now.success - 0.005
    assert all(each.when.has_image is None for each in found.answer.rule_set.rules)
