"""Models that differ in nothing: differences, regret and missed opportunities that chance alone makes are told in few windows.

Small and seeded: enough to notice a broken method. `benchmarks/null_windows.py` counts hundreds of fresh windows.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import ibis
import numpy as np
import pytest

from routing_pipeline.analysis.model_performance import OUTCOMES, _contrasts
from routing_pipeline.analysis.quality_issues import _mismatches
from routing_pipeline.analysis.routing_decisions import RoutingDecisions, routing_decisions
from routing_pipeline.estimates import Estimate
from routing_pipeline.parameters import Goal
from routing_pipeline.policy.evidence_model import RoutingEvidence
from routing_pipeline.window.engine import Engine, open_engine
from tests.simulation import worlds
from tests.simulation.worlds import World

GOALS: tuple[Goal, ...] = ("cost", "quality", "speed", "balanced")
WINDOWS = 12


@dataclass(frozen=True)
class Window:
    """What one window was told."""

    evidence: RoutingEvidence
    decisions: dict[Goal, RoutingDecisions]


def window(world: World, n: int, seed: int, engine: Engine, folder: Path, goals: tuple[Goal, ...] = GOALS) -> Window:
    rng = np.random.default_rng(seed)
    rows = worlds.logged(world, worlds.contexts(world, n, rng), rng)
    evidence, _ = worlds.evidence_of(engine, rows, folder)
    requests = engine.read_parquet([folder / "rows.parquet"]).mutate(routing_rule_id=ibis.null("string"))
    return Window(evidence, {goal: routing_decisions(requests, worlds.scope_of(rows, goal=goal), evidence) for goal in goals})


def is_above_zero(decisions: RoutingDecisions) -> bool:
    return isinstance(decisions.regret_per_request, Estimate) and decisions.regret_per_request.low > 0


@pytest.fixture(scope="module")
def alike(tmp_path_factory: pytest.TempPathFactory) -> list[Window]:
    with open_engine() as engine:
        return [window(worlds.ALIKE, 16_000, 700 + place, engine, tmp_path_factory.mktemp("alike")) for place in range(WINDOWS)]


def test_models_that_are_alike_seem_different_in_hardly_any_window(alike: list[Window]) -> None:
    different = [
        any(contrast.distinguishable for outcome in OUTCOMES for contrast in _contrasts(each.evidence.tasks, outcome, None))
        for each in alike
    ]
    assert sum(different) <= 1
    assert sum(bool(_mismatches(each.evidence)[0]) for each in alike) <= 1
    # There was something to tell: in every window many pairs were compared.
    assert min(len(_contrasts(each.evidence.tasks, "quality", None)) for each in alike) > 50


@pytest.mark.parametrize("goal", GOALS)
def test_nothing_is_regretted_and_nothing_missed_where_all_choices_are_alike(alike: list[Window], goal: Goal) -> None:
    decided = [each.decisions[goal] for each in alike]
    assert sum(is_above_zero(each) for each in decided) <= 1
    assert sum(bool(each.opportunities) for each in decided) <= 2
    assert sum(each.elsewhere_share > 0 for each in decided) <= 2


def test_regret_and_opportunities_that_there_are_are_found(tmp_path: Path) -> None:
    with open_engine() as engine:
        found = window(worlds.CONFOUNDED, 40_000, 9, engine, tmp_path, ("cost",)).decisions["cost"]
    assert is_above_zero(found)
    assert len(found.opportunities) >= 2
    assert found.elsewhere_share > 0
    for each in found.opportunities:
        assert isinstance(each.gain_per_request, Estimate)
        assert each.gain_per_request.estimate > 0
