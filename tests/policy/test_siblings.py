"""Names of one model lend each other what they know: as much as helps, and never what decides whether a name is supported."""

from __future__ import annotations

from dataclasses import replace

import ibis
import numpy as np
import pytest

from routing_pipeline.policy import cells as cells_, scores
from routing_pipeline.policy.binning import Binning, binning_of
from routing_pipeline.policy.cells import Cells
from routing_pipeline.policy.kinds import binning_by_needs, window_needs
from routing_pipeline.policy.scores import QUALITY
from routing_pipeline.policy.siblings import families_of, lent, shares, siblings_of, with_lent
from tests.simulation import worlds
from tests.simulation.worlds import World

TWICE = World(skills=(0.3, 0.3, 0.9), prices=(0.5, 0.8, 8.0), speeds=(500.0, 700.0, 2_000.0), demands=(1.2, 1.6, 2.0), explored=0.15)
"""The first two names are one model at two providers: alike in what they answer, not in price and speed."""
OTHERS = replace(TWICE, skills=(0.1, 0.6, 0.9))
"""Names that look like one model and are not."""


def cells_in(world: World, n: int, seed: int = 1, rare: float = 1.0, families: tuple[int, ...] = (0, 1)) -> tuple[worlds.Requests, Cells]:
    """Cells of a window in which the first name keeps only a share of its traffic, with the names of `families` as one model."""
    rng = np.random.default_rng(seed)
    requests = worlds.contexts(world, n, rng)
    rows = worlds.logged(world, requests, rng)
    names = np.array(rows["routed_model"].to_pylist())
    kept = (names != world.models[0]) | (rng.random(n) < rare)
    table = ibis.memtable(rows.filter(kept))
    binning = binning_of(table)
    same = [world.models.index(name) in families for name in binning.models]
    binning = replace(binning, families=tuple("one" if each else "" for each in same) if families else ())
    return requests, cells_.cells_of(cells_.aggregate(table, binning))


def error_of(world: World, cells: Cells) -> float:
    """Mean squared error of the first name's expected quality over contexts as they come, against the truth."""
    arm = cells.binning.models.index(world.models[0])
    fitted = scores.score_cube(cells).nuisances.quality
    rng = np.random.default_rng(9)
    requests = worlds.contexts(world, 20_000, rng)
    level = np.minimum((requests.complexity * cells.binning.levels).astype(int), cells.binning.levels - 1)
    task = np.array([cells.binning.tasks.index(world.tasks[each]) for each in requests.task])
    told = fitted.mean(axis=(0, 3))[task, level, arm]
    return float(np.mean((told - requests.quality[:, 0]) ** 2))


def test_names_are_of_one_model_where_another_name_has_the_same() -> None:
    assert families_of(["gpt-4o", "mini", "gpt-4o"]) == ("gpt-4o", "", "gpt-4o")
    assert families_of(["gpt-4o", "mini", ""]) == ()
    assert siblings_of(("a", "", "a"), 4).tolist() == [[0, 0, 1, 0], [0, 0, 0, 0], [1, 0, 0, 0], [0, 0, 0, 0]]


def test_all_that_siblings_lend_counts_for_no_more_than_was_asked() -> None:
    weight = np.zeros((1, 1, 1, 1, 4))
    weight[..., :3] = 5.0, 400.0, 600.0
    share = shares(weight, siblings_of(("a", "a", "a"), 4), 100.0)
    assert with_lent(weight, share)[0, 0, 0, 0].tolist() == pytest.approx([105.0, 500.0, 700.0, 0.0])
    # Less than was asked is not made more.
    assert shares(weight, siblings_of(("a", "a", "a"), 4), 10_000.0)[0].tolist() == [[1, 1, 1, 0], [1, 1, 1, 0], [1, 1, 1, 0], [0, 0, 0, 1]]


def test_a_name_that_is_rarely_called_is_expected_to_do_what_its_model_does_elsewhere() -> None:
    errors = np.array(
        [[error_of(TWICE, cells_in(TWICE, 8_000, seed, 0.05, families)[1]) for families in ((), (0, 1))] for seed in range(5)]
    )
    assert errors[:, 1].mean() < 0.5 * errors[:, 0].mean()


def test_names_that_answer_differently_are_not_made_alike() -> None:
    errors = np.array(
        [[error_of(OTHERS, cells_in(OTHERS, 12_000, seed, 1.0, families)[1]) for families in ((), (0, 1))] for seed in range(5)]
    )
    assert errors[:, 1].mean() < 1.1 * errors[:, 0].mean()


def test_a_model_without_siblings_is_fitted_as_if_the_others_had_none() -> None:
    _, alone = cells_in(TWICE, 8_000, families=())
    _, paired = cells_in(TWICE, 8_000)
    one, other = (scores.score_cube(each).nuisances for each in (alone, paired))
    third = alone.binning.models.index(TWICE.models[2])
    for outcome in ("quality", "cost", "latency", "success"):
        np.testing.assert_array_equal(getattr(one, outcome)[..., third], getattr(other, outcome)[..., third])
    assert one.lending == {}
    assert (other.lending["quality"][:, third] == np.eye(4)[third]).all()


def test_what_is_supported_goes_by_a_names_own_requests() -> None:
    _, alone = cells_in(TWICE, 8_000, rare=0.02, families=())
    _, paired = cells_in(TWICE, 8_000, rare=0.02)
    np.testing.assert_array_equal(*(scores.score_cube(each).all.supported for each in (alone, paired)))


def test_nothing_is_lent_where_nothing_is_known_of_any() -> None:
    weight = np.zeros((8, 1, 2, 1, 3))
    weight[..., 2] = 50.0
    alone = np.full(weight.shape, 0.7)
    found, share = lent(
        weight, weight * 0.5, siblings_of(("a", "a"), 3), alone, lambda n, _: np.zeros_like(n), lambda fitted: fitted.sum(axis=(0, 1, 2, 3))
    )
    np.testing.assert_array_equal(found, alone)
    assert (share == np.eye(3)).all()


def test_what_a_sibling_adds_to_the_error_is_what_scores_move_by() -> None:
    # Middling qualities, so that hardly a prediction is cut off at 0 or 1, which the formula leaves out of account.
    world = World(
        demands=(1.7, 2.1), skills=(0.4, 0.4, 0.5), prices=(1.0, 2.0, 3.0), speeds=(500.0, 600.0, 700.0), explored=0.1, labelled=0.6
    )
    _, cells = cells_in(world, 12_000, rare=0.2)
    borrower, lender = (cells.binning.models.index(name) for name in world.models[:2])
    before = scores.score_cube(cells)
    assert (before.nuisances.lending["quality"][:, borrower, lender] > 0).all()
    for cluster in (40, 200):
        is_lender = (cells.cluster == cluster) & (cells.sums["labelled"] > 0) & (cells.level < cells.binning.levels) & (cells.arm == lender)
        quality = cells.sums["quality"].copy()
        quality[int(np.flatnonzero(is_lender)[2])] += 0.25
        after = scores.score_cube(replace(cells, sums=cells.sums | {"quality": quality}))
        assert after.nuisances.penalties == before.nuisances.penalties
        moved = (after.scores - before.scores)[:, : len(before.segments), borrower, QUALITY]
        told = (after.model_error - before.model_error)[:, cluster, :, borrower, QUALITY]
        moved[cluster] = 0.0
        assert np.abs(moved).sum() > 0
        for half, clusters in enumerate((scores.LEARN, scores.PROVE)):
            np.testing.assert_allclose(told[half], moved[clusters].sum(axis=0), rtol=0.02, atol=1e-4)


def test_gateway_names_of_one_model_are_found_in_the_logs_by_what_was_called() -> None:
    rng = np.random.default_rng(3)
    world = replace(TWICE, called=("azure/gpt-4o-2024-08-06", "gpt-4o", "claude-opus-4-5"))
    rows = worlds.logged(world, worlds.contexts(world, 3_000, rng), rng)
    table = ibis.memtable(rows)
    binning = binning_by_needs(table, window_needs(table, worlds.scope_of(rows).parameters))
    assert dict(zip(binning.models, binning.families, strict=True)) == {
        TWICE.models[0]: "gpt-4o",
        TWICE.models[1]: "gpt-4o",
        TWICE.models[2]: "",
    }
    assert Binning.from_json(binning.to_json()) == binning
