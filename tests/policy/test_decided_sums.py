"""Rules are replayed from sums: several rule sets in one pass, requests without a length, choices with their probability, judges' scores."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import fields, replace
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pytest

from routing_pipeline.parameters import Parameters
from routing_pipeline.policy.decided_sums import decided_sums
from routing_pipeline.policy.evidence import read_scores
from routing_pipeline.policy.halves import one_hot
from routing_pipeline.policy.proof import kept
from routing_pipeline.policy.replay import Replay, replay
from routing_pipeline.policy.rule_blocks import shares_of
from routing_pipeline.policy.scores import PROVE, ScoreCube
from routing_pipeline.rules.model import RuleSet
from routing_pipeline.rules.reading import read_given_rules
from routing_pipeline.window.engine import open_engine
from tests.simulation import worlds
from tests.simulation.judged_worlds import Judge, judged
from tests.simulation.worlds import forgotten

WORLD = worlds.CONFOUNDED
MODELS = WORLD.models


def by_hand(*rules: dict[str, Any]) -> RuleSet:
    return read_given_rules({"rules": list(rules)}, Parameters())


EVERYTHING = by_hand({"when": {}, "route": MODELS[1]})
LONG_ONES = by_hand({"when": {"prompt_tokens": {"gte": 700}}, "route": MODELS[2]})
BETWEEN_LEVELS = by_hand({"when": {"complexity": {"lt": 0.437}}, "route": MODELS[0]}, {"when": {}, "route": MODELS[3]})
THE_OTHER_RULE_FIRST = by_hand(
    {"when": {"complexity": {"lt": 0.437}}, "route": MODELS[0], "priority": 2}, {"when": {}, "route": MODELS[3], "priority": 1}
)


def drawn(**world: Any) -> pa.Table:
    rng = np.random.default_rng(4)
    made = replace(WORLD, **world)
    return worlds.logged(made, worlds.contexts(made, 12_000, rng), rng)


def replayed(rows: pa.Table, folder: Path, *rule_sets: RuleSet) -> tuple[ScoreCube, list[Replay]]:
    with open_engine() as engine:
        evidence, _ = worlds.evidence_of(engine, rows, folder)
        cube = read_scores(str(evidence.cells_uri))
        with decided_sums(engine.read_parquet([folder / "rows.parquet"]), cube.cells, rule_sets, "prove") as sums:
            return cube, [replay(rule_set, sums, cube) for rule_set in rule_sets]


def test_rule_sets_that_are_replayed_together_are_told_as_each_alone(tmp_path: Path) -> None:
    rows = drawn()
    several = (EVERYTHING, LONG_ONES, BETWEEN_LEVELS, THE_OTHER_RULE_FIRST)
    _, together = replayed(rows, tmp_path, *several)
    for rule_set, found in zip(several, together, strict=True):
        _, (alone,) = replayed(rows, tmp_path, rule_set)
        assert found.moved.sum() > 0
        for field in fields(Replay):
            np.testing.assert_allclose(getattr(found, field.name), getattr(alone, field.name), rtol=1e-9, atol=1e-9)


def some_without(column: str) -> pa.Table:
    rows = drawn()
    return forgotten(rows, column, np.random.default_rng(6).random(len(rows)) < 0.3)


def of_a_judge() -> pa.Table:
    rng = np.random.default_rng(3)
    return judged(WORLD, worlds.contexts(WORLD, 12_000, rng), Judge(correlation=0.8, people=0.2), rng)


WINDOWS: dict[str, Callable[[], pa.Table]] = {
    "all that can be logged": drawn,
    "lengths missing": partial(some_without, "prompt_tokens"),
    "scores missing": partial(some_without, "quality"),
    "costs missing": partial(some_without, "request_cost_usd"),
    "with probabilities": partial(drawn, logs_propensity=True),
    "with probabilities of all but a few": lambda: worlds.partly_known(WORLD, 12_000, 0.97, np.random.default_rng(9))[0],
    "a judge beside people": of_a_judge,
}


@pytest.mark.parametrize("window", WINDOWS)
def test_a_replay_of_sums_is_what_the_cells_say(tmp_path: Path, window: str) -> None:
    cube, (found,) = replayed(WINDOWS[window](), tmp_path, EVERYTHING)
    shares = shares_of(cube, EVERYTHING.rules)
    assert shares is not None
    for sums, chosen in ((found.now, one_hot(kept(cube), cube)), (found.then, shares)):
        expected = cube.mixed(chosen, PROVE)
        np.testing.assert_allclose(sums.sum(axis=0), expected.scores.sum(axis=0), rtol=1e-6)
        np.testing.assert_allclose(found.counted.sum(axis=0), expected.counted.sum(axis=0), rtol=1e-9)
