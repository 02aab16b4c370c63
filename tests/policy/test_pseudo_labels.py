"""A judge's scores on every answer, trusted ones on few: what they add, and what they never do."""

from __future__ import annotations

from dataclasses import replace
from functools import lru_cache

import ibis
import numpy as np
import pyarrow as pa
import pytest

from routing_pipeline.estimates import Estimate
from routing_pipeline.policy import cells as cells_
from routing_pipeline.policy.binning import binning_of
from routing_pipeline.policy.cells import Cells, sum_by
from routing_pipeline.policy.judge_check import family_of, judge_check
from routing_pipeline.policy.pseudo_labels import by_cell, is_used, judge_model, with_pseudo_labels
from routing_pipeline.policy.scores import BOTH, PROVE, score_cube
from routing_pipeline.policy.search import eligibility
from tests.policy.test_search import limits
from tests.simulation import worlds
from tests.simulation.judged_worlds import Judge, judged

WORLD = replace(worlds.CONFOUNDED, skills=(0.15, 0.6, 1.0), prices=(0.2, 2.0, 20.0), speeds=(400.0, 900.0, 2600.0), demands=(0.6, 1.2, 1.8))


@lru_cache
def rows_of(seed: int = 1, people: float = 0.1, loved: int | None = None, correlation: float = 0.85) -> pa.Table:
    rng = np.random.default_rng(seed)
    return judged(WORLD, worlds.contexts(WORLD, 8_000, rng), Judge(correlation=correlation, people=people, loved=loved), rng)


def cells_of(rows: pa.Table) -> Cells:
    requests = ibis.memtable(rows)
    return cells_.cells_of(cells_.aggregate(requests, binning_of(requests)))


@lru_cache
def usual_cells() -> Cells:
    return cells_of(rows_of())


def test_a_judge_narrows_the_interval_and_hardly_moves_the_mean_that_trusted_scores_tell() -> None:
    with_judge, alone = (score_cube(each) for each in (usual_cells(), cells_of(rows_of().drop_columns(["judge_quality"]))))
    sharp, plain = (cube.chosen(np.full(cube.scores.shape[1], cube.keep), BOTH).quality() for cube in (with_judge, alone))
    assert sharp.standard_error < 0.75 * plain.standard_error
    assert abs(sharp.value - plain.value) < 3 * plain.standard_error


def test_where_a_judge_cannot_tell_models_apart_by_difficulty_its_pseudo_labels_still_do() -> None:
    cells = cells_of(rows_of(people=0.5, correlation=0.01))
    model = judge_model(cells)
    assert model is not None
    offset, slope, _ = by_cell(cells, model)
    left = cells.sums["both_quality"] - offset * cells.sums["both"] - slope * cells.sums["both_judge"]
    group = (cells.arm, np.minimum(3 * cells.level // cells.binning.levels, 2))
    n, total = (sum_by(group, values, (len(WORLD.models) + 1, 3)) for values in (cells.sums["both"], left))
    assert np.abs(total[n >= 100] / n[n >= 100]).max() < 0.02


def test_what_a_judge_says_in_favour_of_a_model_is_told_and_taken_out() -> None:
    cells = usual_cells()
    found = judge_check(cells)
    assert found is not None
    bias = {each.name: each.bias for each in found.by_model}
    weak, strong = bias[WORLD.models[0]], bias[WORLD.models[2]]
    assert isinstance(weak, Estimate)
    assert isinstance(strong, Estimate)
    assert weak.low > 0.01 > strong.estimate
    assert WORLD.models[0] in found.told
    made = with_pseudo_labels(cells)
    rows = rows_of()
    of_weak = np.array(rows["routed_model"].to_pylist()) == WORLD.models[0]
    told = float(np.nanmean(rows["judge_quality"].to_numpy(zero_copy_only=False)[of_weak]))
    arm = made.arm == made.binning.models.index(WORLD.models[0])
    counted = made.sums["quality"][arm].sum() / made.sums["scored"][arm].sum()
    assert counted < told - 0.02


def test_a_constant_answer_that_the_judge_loves_is_worth_what_trusted_scores_say() -> None:
    rows = rows_of(loved=0)
    made = with_pseudo_labels(cells_of(rows))
    of_loved = np.array(rows["routed_model"].to_pylist()) == WORLD.models[0]
    trusted = rows["quality"].to_numpy(zero_copy_only=False)[of_loved]
    arm = made.arm == made.binning.models.index(WORLD.models[0])
    counted = made.sums["quality"][arm].sum() / made.sums["scored"][arm].sum()
    assert counted == pytest.approx(float(np.nanmean(trusted)), abs=0.03)
    assert counted < 0.95


def test_a_model_that_only_the_judge_has_scored_is_one_that_nobody_has() -> None:
    rows = rows_of()
    is_weak = np.array(rows["routed_model"].to_pylist()) == WORLD.models[0]
    cube = score_cube(cells_of(worlds.forgotten(rows, "quality", is_weak)))
    arm = cube.models.index(WORLD.models[0])
    assert not eligibility(cube, limits())[:, arm].any()
    assert not cube.all.supported[:, arm].any()


def test_nothing_of_the_proving_half_s_trusted_scores_reaches_the_half_that_learns() -> None:
    rows = rows_of()
    proves = rows["cluster"].to_numpy() >= PROVE.start
    quality = rows["quality"].to_numpy(zero_copy_only=False)
    other = worlds.with_column(rows, "quality", np.where(proves, 1.0 - quality, quality), np.isnan(quality))
    one, two = (with_pseudo_labels(each) for each in (usual_cells(), cells_of(other)))
    learn = one.learning
    np.testing.assert_array_equal(one.sums["quality"][learn], two.sums["quality"][learn])
    assert np.abs(one.sums["quality"][~learn] - two.sums["quality"][~learn]).max() > 0


def test_pseudo_labels_made_twice_are_made_once() -> None:
    once = with_pseudo_labels(usual_cells())
    np.testing.assert_array_equal(once.sums["quality"], with_pseudo_labels(once).sums["quality"])


def test_with_too_few_of_either_kind_only_trusted_scores_count() -> None:
    few = cells_of(rows_of(people=0.01))
    assert not is_used(few)
    assert with_pseudo_labels(few) is few
    found = judge_check(few)
    assert found is not None
    assert "only trusted scores count" in found.told


@pytest.mark.parametrize(
    ("model", "family"), [("gpt-4o-mini", "gpt"), ("openai/gpt-4.1", "gpt"), ("bedrock/eu/Claude-3", "claude"), ("123", "123")]
)
def test_a_family_is_what_a_model_s_name_begins_with(model: str, family: str) -> None:
    assert family_of(model) == family
