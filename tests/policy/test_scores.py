"""Scores where the answer can be worked out: exact cases, invariances, and what breaks when a nuisance is wrong."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import ibis
import numpy as np
import pyarrow as pa
import pytest

from routing_pipeline.policy import cells as cells_, outcome_model, proof, scores
from routing_pipeline.policy.binning import binning_of
from routing_pipeline.policy.evidence import propensity_check, read_scores
from routing_pipeline.policy.halves import always, halves_of
from routing_pipeline.policy.scores import BOTH, COST, QUALITY, SUCCESS, ScoreCube
from routing_pipeline.window.conform import half_of
from routing_pipeline.window.engine import open_engine
from tests.simulation import worlds
from tests.simulation.worlds import World


def cube_of(rows: pa.Table) -> ScoreCube:
    requests = ibis.memtable(rows)
    return scores.score_cube(cells_.cells_of(cells_.aggregate(requests, binning_of(requests))))


def drawn(world: World, n: int, seed: int = 1) -> tuple[worlds.Requests, pa.Table]:
    rng = np.random.default_rng(seed)
    requests = worlds.contexts(world, n, rng)
    return requests, worlds.logged(world, requests, rng)


def with_column(rows: pa.Table, name: str, values: object) -> pa.Table:
    return rows.set_column(rows.column_names.index(name), name, pa.array(values))


def value_of(cube: ScoreCube, arm: int, outcome: int) -> float:
    total = cube.scores[:, :, arm].sum(axis=(0, 1))
    return float(total[outcome] / cube.requests.sum())


def test_with_true_shares_as_propensities_one_cell_gives_the_mean_of_those_sent() -> None:
    world = World(demands=(0.5,), logs_propensity=True)
    _, rows = drawn(world, 4_000)
    n = rows.num_rows
    model = np.array(rows["routed_model"].to_pylist())
    share = {name: (model == name).mean() for name in set(model)}
    rows = with_column(rows, "complexity", np.full(n, 0.5))
    rows = with_column(rows, "prompt_tokens", np.full(n, 100))
    rows = with_column(rows, "propensity", [share[name] for name in model])
    table = ibis.memtable(rows)
    cells = cells_.cells_of(cells_.aggregate(table, binning_of(table)))
    cost = rows["request_cost_usd"].to_numpy()
    for constant in (0.0, 5.0):
        fitted = scores.score_cube(cells).nuisances
        cube = scores.score_cube(cells, replace(fitted, cost=np.full_like(fitted.cost, constant)))
        for arm, name in enumerate(cube.models):
            # Post-stratified mean = IPW = plain mean of those sent, whatever the regression said.
            assert value_of(cube, arm, COST) == pytest.approx(cost[model == name].mean(), rel=1e-9)


def test_leaving_everything_as_it_is_gives_the_sample_mean() -> None:
    world = World(skills=(0.7,), prices=(1.0,), speeds=(500.0,), explored=0.0, labelled=1.0)
    _, rows = drawn(world, 3_000)
    quality = np.random.default_rng(0).random(rows.num_rows)
    success = np.array(rows["status"].to_pylist()) == "success"
    rows = with_column(rows, "quality", [float(value) if good else None for value, good in zip(quality, success, strict=True)])
    today = proof.evaluated(cube_of(rows), np.zeros(0, dtype=np.int64), BOTH)
    assert today.cost.value == pytest.approx(rows["request_cost_usd"].to_numpy().mean(), rel=1e-12)
    assert today.latency.value == pytest.approx(rows["request_latency_ms"].to_numpy().mean(), rel=1e-12)
    assert today.success.value == pytest.approx(success.mean(), rel=1e-12)
    assert today.quality.value == pytest.approx(quality[success].mean(), rel=1e-9)


def test_outcomes_that_are_always_one_are_one_for_every_model_under_any_overlap() -> None:
    _, rows = drawn(World(), 6_000)
    rows = with_column(rows, "request_cost_usd", np.ones(rows.num_rows))
    cube = cube_of(rows)
    supported = cube.all.supported
    per_segment = cube.scores[:, : len(cube.segments), :-1, COST].sum(axis=0) / cube.requests[:, : len(cube.segments)].sum(axis=0)[:, None]
    assert np.abs(per_segment[supported] - 1).max() < 0.02
    today = proof.evaluated(cube, proof.kept(cube))
    assert today.cost.value == pytest.approx(1.0, abs=1e-12)
    assert today.cost.standard_error < 1e-12


def test_a_policy_that_changes_nothing_differs_by_exactly_nothing() -> None:
    _, rows = drawn(World(), 5_000)
    cube = cube_of(rows)
    today = proof.evaluated(cube, proof.kept(cube))
    for name in ("cost", "latency", "quality", "success", "slow"):
        difference = getattr(today, name) - getattr(today, name)
        assert difference.value == 0.0
        assert difference.standard_error == 0.0


def test_segments_left_alone_cancel_from_a_paired_difference() -> None:
    _, rows = drawn(World(), 8_000)
    cube = cube_of(rows)
    actions = proof.kept(cube)
    actions[0] = int(cube.all.requests[0].argmax())
    change = proof.evaluated(cube, actions).cost - proof.evaluated(cube, proof.kept(cube)).cost
    moved = cube.scores[scores.PROVE, 0, actions[0], COST] - cube.scores[scores.PROVE, 0, cube.keep, COST]
    assert change.value == pytest.approx(moved.sum() / cube.requests[scores.PROVE].sum(), rel=1e-9)


def test_levels_carry_the_held_out_change_over_to_today_s_level_of_the_whole_window() -> None:
    cube = cube_of(drawn(World(), 8_000)[1])
    actions = np.zeros(len(cube.segments), dtype=np.int64)
    halves = halves_of(cube)
    then, now = (proof.outcomes_of(halves.sums(weights)) for weights in (always(actions, cube), halves.kept()))
    window = proof.evaluated(cube, proof.kept(cube), BOTH)
    told, today = proof.proven_weights(halves, [always(actions, cube)])[0], proof.today_of(halves)
    assert today.cost.value == pytest.approx(window.cost.value, rel=1e-12)
    assert told.cost.value == pytest.approx(window.cost.value * then.cost.value / now.cost.value, rel=1e-12)
    # What is told of the change rests on held-out scores alone.
    change, seen = told.cost.relative_to(today.cost), then.cost.relative_to(now.cost)
    assert change.value == pytest.approx(seen.value, rel=1e-12)
    np.testing.assert_allclose(change.influence, seen.influence, atol=1e-15)


def test_the_order_of_rows_does_not_matter(tmp_path: Path) -> None:
    _, rows = drawn(World(), 5_000)
    shuffled = rows.take(pa.array(np.random.default_rng(3).permutation(rows.num_rows)))
    with open_engine() as engine:
        found = []
        for name, table in (("a", rows), ("b", shuffled)):
            (tmp_path / name).mkdir()
            evidence, _ = worlds.evidence_of(engine, table, tmp_path / name)
            found.append(read_scores(str(evidence.cells_uri)).scores)
    np.testing.assert_allclose(found[0], found[1], rtol=1e-9, atol=1e-9)


def test_averages_rank_two_models_wrongly_and_scores_rank_them_rightly() -> None:
    # Simpson: the strong model gets the hard requests.
    world = World(skills=(0.6, 0.68), prices=(1.0, 2.0), speeds=(500.0, 600.0), demands=(2.0,), sharpness=25.0, explored=0.1, labelled=0.8)
    requests, rows = drawn(world, 30_000)
    cube = cube_of(rows)
    weak, strong = (cube.models.index(name) for name in world.models)
    quality = rows["quality"].to_numpy(zero_copy_only=False)
    model = np.array(rows["routed_model"].to_pylist())
    naive = [np.nanmean(quality[model == name]) for name in world.models]
    total = cube.scores.sum(axis=(0, 1))
    corrected = total[[weak, strong], QUALITY] / total[[weak, strong], SUCCESS]
    truth = [worlds.truth_of(requests, np.eye(2)[np.full(len(requests.task), arm)]).quality for arm in range(2)]
    assert naive[0] > naive[1]
    assert truth[0] < truth[1]
    np.testing.assert_allclose(corrected, truth, atol=0.015)


def test_either_the_regression_or_the_propensities_may_be_wrong_but_not_both() -> None:
    world = World(skills=(0.4, 0.9), prices=(1.0, 5.0), speeds=(500.0, 600.0), demands=(1.8,), sharpness=4.0, explored=0.1, labelled=0.9)
    requests, rows = drawn(world, 60_000)
    table = ibis.memtable(rows)
    cells = cells_.cells_of(cells_.aggregate(table, binning_of(table)))
    fitted = scores.score_cube(cells).nuisances
    weak = cells.binning.models.index(world.models[0])
    truth = worlds.truth_of(requests, np.eye(2)[np.zeros(len(requests.task), dtype=int)]).quality

    def error(nuisances: outcome_model.Nuisances) -> float:
        total = scores.score_cube(cells, nuisances).scores[:, :, weak].sum(axis=(0, 1))
        return abs(float(total[QUALITY] / total[SUCCESS]) - truth)

    flat = np.full_like(fitted.quality, 0.8)
    uniform = np.full_like(fitted.propensity, 0.5)
    assert error(fitted) < 0.01
    assert error(replace(fitted, quality=flat)) < 0.015
    assert error(replace(fitted, propensity=uniform)) < 0.015
    assert error(replace(fitted, quality=flat, propensity=uniform)) > 0.03


def test_a_failure_without_prompt_length_does_not_form_a_context_of_its_own() -> None:
    # Models fail differently, and failures carry no length: were the missing length a context, every model would seem equally reliable.
    world = World(skills=(0.2, 0.9), prices=(1.0, 2.0), speeds=(500.0, 600.0), demands=(1.0,), explored=0.5, labelled=0.5)
    requests, rows = drawn(world, 30_000)
    rng = np.random.default_rng(2)
    model = np.array(rows["routed_model"].to_pylist())
    fails = rng.random(rows.num_rows) < np.where(model == world.models[0], 0.2, 0.02)
    rows = with_column(rows, "status", np.where(fails, "failure", "success"))
    rows = with_column(rows, "prompt_tokens", [None if failed else int(n) for failed, n in zip(fails, requests.tokens, strict=True)])
    rows = with_column(
        rows, "quality", [None if failed else value for failed, value in zip(fails, rows["quality"].to_pylist(), strict=True)]
    )
    cube = cube_of(rows)
    for name, truth in zip(world.models, (0.8, 0.98), strict=True):
        assert value_of(cube, cube.models.index(name), SUCCESS) == pytest.approx(truth, abs=0.01)


def test_logged_propensities_that_contradict_the_choices_are_found_out() -> None:
    _, rows = drawn(World(logs_propensity=True), 20_000)
    good = ibis.memtable(rows)
    lies = ibis.memtable(with_column(rows, "propensity", np.full(rows.num_rows, 0.9)))
    for table, honest in ((good, True), (lies, False)):
        cells = cells_.cells_of(cells_.aggregate(table, binning_of(table)))
        check = propensity_check(cells)
        assert len(check) == 6
        assert all(each.matches for each in check) is honest


def test_predictions_for_a_cluster_never_saw_its_fold_and_learning_never_saw_the_proving_half() -> None:
    for fold in range(outcome_model.FOLDS):
        assert fold not in outcome_model.fitted_on(fold)
    for fold in range(outcome_model.FOLDS_PER_HALF):
        assert max(outcome_model.fitted_on(fold)) < outcome_model.FOLDS_PER_HALF
    table = ibis.memtable({"cluster": list(range(256))})
    learning = set(half_of(table, "learn").cluster.to_pyarrow().to_pylist())
    assert {int(fold) for fold in outcome_model.fold_of(np.array(sorted(learning)))} == set(range(outcome_model.FOLDS_PER_HALF))


def test_ridge_from_cell_sums_equals_the_dense_solution() -> None:
    rng = np.random.default_rng(5)
    tasks, contexts, p = 3, 7, 4
    weight = rng.integers(0, 30, size=(1, tasks, contexts)).astype(float)
    total = weight * rng.normal(size=weight.shape)
    x = rng.normal(size=(tasks, contexts, p))
    design = np.zeros((tasks * contexts, p * (tasks + 1)))
    for task in range(tasks):
        rows = slice(task * contexts, (task + 1) * contexts)
        design[rows, :p] = x[task]
        design[rows, p * (task + 1) : p * (task + 2)] = x[task]
    penalty = np.diag([outcome_model.POOLED_PENALTY] * p + [3.0] * (p * tasks))
    w = weight.ravel()
    beta = np.linalg.solve(design.T @ (w[:, None] * design) + penalty, design.T @ total.ravel())
    np.testing.assert_allclose(outcome_model.ridge(weight, total, x, 3.0).ravel(), design @ beta, rtol=1e-8, atol=1e-10)


def test_smooth_shares_are_probabilities_and_follow_a_logit() -> None:
    z = np.linspace(0.05, 0.95, 20)
    x = np.stack([np.ones(20), z], axis=1)[None]
    truth = 1 / (1 + np.exp(-(4 * z - 2)))
    counts = 500.0 * np.stack([truth, 1 - truth], axis=1)[None]
    found = outcome_model.smooth_shares(counts, x)
    np.testing.assert_allclose(found.sum(axis=2), 1.0, atol=1e-12)
    np.testing.assert_allclose(found[0, :, 0], truth, atol=0.01)


def test_what_a_cluster_adds_through_the_regressions_is_what_other_clusters_scores_move_by() -> None:
    # Middling qualities, so that hardly a prediction is cut off at 0 or 1, which the formula leaves out of account.
    world = World(
        demands=(1.7, 2.1), skills=(0.3, 0.4, 0.5), prices=(1.0, 2.0, 3.0), speeds=(500.0, 600.0, 700.0), explored=0.1, labelled=0.6
    )
    table = ibis.memtable(drawn(world, 12_000)[1])
    cells = cells_.cells_of(cells_.aggregate(table, binning_of(table)))
    before = scores.score_cube(cells)
    for cluster in (40, 200):
        cell = int(np.flatnonzero((cells.cluster == cluster) & (cells.sums["labelled"] > 0) & (cells.level < cells.binning.levels))[3])
        quality = cells.sums["quality"].copy()
        quality[cell] += 0.25
        after = scores.score_cube(replace(cells, sums=cells.sums | {"quality": quality}))
        arm = int(cells.arm[cell])
        moved = (after.scores - before.scores)[:, : len(before.segments), arm, QUALITY]
        told = (after.model_error - before.model_error)[:, cluster, :, arm, QUALITY]
        # Residuals of the cluster itself do not depend on its own outcomes, so what it adds changes by exactly what it moves.
        moved[cluster] = 0.0
        assert np.abs(moved).sum() > 0
        for half, clusters in enumerate((scores.LEARN, scores.PROVE)):
            np.testing.assert_allclose(told[half], moved[clusters].sum(axis=0), rtol=0.02, atol=1e-4)
        if cluster >= 128:
            assert np.abs(told[0]).max() == 0.0


def test_a_model_that_was_not_seen_to_fail_may_still_fail() -> None:
    _, rows = drawn(World(), 10_000)
    rows = with_column(rows, "status", ["success"] * rows.num_rows)
    cube = cube_of(rows)
    rare = int(cube.all.requests.sum(axis=0).argmin())
    actions = np.where(cube.all.supported[:, rare], rare, cube.keep)
    halves = halves_of(cube)
    change = proof.proven_weights(halves, [always(actions, cube)])[0].success - proof.today_of(halves).success
    assert change.value == pytest.approx(0.0, abs=1e-3)
    # One failure more among all that the model ever answered would be no surprise.
    moved = float(cube.requests[:, : len(cube.segments)].sum(axis=0)[actions != cube.keep].sum() / cube.requests.sum())
    assert change.standard_error > 0.7 * moved / (float(cube.all.requests[:, rare].sum()) + 2.0)
    assert proof.today_of(halves).success.standard_error < 1e-9
