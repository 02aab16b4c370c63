"""Our estimators against published ones: Open Bandit Pipeline (`obp`, zr-obp; Saito et al. 2021, NeurIPS Datasets) on one synthetic bandit.

`obp` is not installed with us, as its pins and ours do not go together. The numbers below were computed once, outside of this
repository, on the bandit that `bandit` draws, by InverseProbabilityWeighting, DirectMethod and DoublyRobust of obp 0.4.1, loaded from its
wheel with a stand-in for torch (they only ask whether an array is a tensor).
"""

from __future__ import annotations

from dataclasses import dataclass, replace

import ibis
import numpy as np
import pyarrow as pa
import pytest
from numpy.typing import NDArray

from routing_pipeline.estimates import Estimate
from routing_pipeline.policy import cells as cells_, scores
from routing_pipeline.policy.binning import binning_of
from routing_pipeline.policy.scores import BOTH, COST, ScoreCube
from routing_pipeline.stats.inference import POINTWISE, Statistic, interval
from tests.simulation import worlds
from tests.simulation.worlds import World

N = 4_000
TASKS, MODELS = 3, 4
ROUTED = np.array([[0.55, 0.25, 0.15, 0.05], [0.1, 0.4, 0.3, 0.2], [0.05, 0.15, 0.3, 0.5]])
"""Of the router that wrote the logs: its probabilities by task and model."""
EVALUATED = np.array([[0.0, 1.0, 0.0, 0.0], [0.25, 0.25, 0.25, 0.25], [0.6, 0.0, 0.4, 0.0]])
"""Of the policy that is asked for."""
PREDICTED = np.array([[0.012, 0.018, 0.031, 0.05], [0.02, 0.02, 0.045, 0.07], [0.011, 0.02, 0.06, 0.05]])
"""Cost in USD by a regression that is wrong in places."""


@dataclass(frozen=True)
class Bandit:
    """By request: task, model that served, its propensity, cost in USD."""

    task: NDArray[np.int64]
    action: NDArray[np.int64]
    propensity: NDArray[np.float64]
    cost: NDArray[np.float64]


def bandit() -> Bandit:
    rng = np.random.default_rng(2011)
    task = rng.integers(0, TASKS, N)
    action = (ROUTED[task].cumsum(axis=1) < rng.random(N)[:, None]).sum(axis=1).clip(0, MODELS - 1)
    cost = 0.01 * (1 + task) * 1.6**action * (0.5 + rng.random(N))
    return Bandit(task, action, ROUTED[task, action], cost)


def cube_of(logged: Bandit, predicted: NDArray[np.float64]) -> ScoreCube:
    """The bandit as a gateway's log, scored with these predictions in place of fitted ones."""
    world = World(skills=(0.5,) * MODELS, prices=(1.0,) * MODELS, speeds=(500.0,) * MODELS, demands=(0.5,) * TASKS, logs_propensity=True)
    rng = np.random.default_rng(1)
    rows = worlds.logged(world, worlds.contexts(world, N, rng), rng)
    for name, values in {
        "task_type": [f"task-{task}" for task in logged.task],
        "routed_model": [f"model-{action}" for action in logged.action],
        "propensity": logged.propensity,
        "request_cost_usd": logged.cost,
        "cluster": np.arange(N) % 256,
    }.items():
        place = rows.column_names.index(name)
        rows = rows.set_column(place, name, pa.array(values, rows.schema.field(name).type))
    table = ibis.memtable(rows)
    cells = cells_.cells_of(cells_.aggregate(table, binning_of(table)))
    fitted = scores.score_cube(cells).nuisances
    by_task = np.array([predicted[int(name.removeprefix("task-"))] for name in cells.binning.tasks])
    by_task = by_task[:, [int(name.removeprefix("model-")) for name in cells.binning.models]]
    cost = np.zeros_like(fitted.cost)
    cost[:, :TASKS, :, :, :MODELS] = by_task[None, :, None, None, :]
    return scores.score_cube(cells, replace(fitted, cost=cost))


def told(cube: ScoreCube) -> Statistic:
    """The evaluated policy's cost per request, without the error of the regression, which obp does not know either."""
    shares = np.zeros((cube.scores.shape[1], MODELS + 1))
    shares[:, cube.keep] = 1.0
    models = [int(name.removeprefix("model-")) for name in cube.models]
    for place, segment in enumerate(cube.segments):
        task = int(cube.cells.binning.tasks[segment.task].removeprefix("task-"))
        shares[place] = [*EVALUATED[task, models], 0.0]
    return replace(cube, model_error=np.zeros_like(cube.model_error)).mixed(shares, BOTH).mean(COST)


NOTHING = np.zeros_like(PREDICTED)


def test_without_a_regression_ours_is_inverse_propensity_weighting() -> None:
    assert told(cube_of(bandit(), NOTHING)).value == pytest.approx(0.03943992932835825, rel=1e-9)


def test_predictions_alone_are_the_direct_method() -> None:
    cube = cube_of(bandit(), PREDICTED)
    assert told(replace(cube, scores=cube.direct)).value == pytest.approx(0.02897215, rel=1e-9)


def test_ours_is_the_doubly_robust_estimator() -> None:
    assert told(cube_of(bandit(), PREDICTED)).value == pytest.approx(0.037799204328358246, rel=1e-9)


@pytest.mark.parametrize(
    ("predicted", "low", "high"),
    [(NOTHING, 0.037449713590184903, 0.041393570743526224), (PREDICTED, 0.03654746108737386, 0.03904154518987173)],
    ids=["inverse propensity weighting", "doubly robust"],
)
def test_where_requests_are_independent_our_interval_is_as_wide_as_the_bootstraps(
    predicted: NDArray[np.float64], low: float, high: float
) -> None:
    """Of obp: percentiles of 4,000 bootstrap samples of requests (`estimate_interval`, random_state=1)."""
    found = interval(told(cube_of(bandit(), predicted)), POINTWISE)
    assert isinstance(found, Estimate)
    assert (found.low, found.high) == pytest.approx((low, high), abs=0.05 * (high - low))
