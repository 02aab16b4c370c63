"""Pairs of policies: what is deployed, and what proves it."""

from __future__ import annotations

import numpy as np
import pytest

from routing_pipeline.policy import cells as cells_, proof, scores
from routing_pipeline.policy.binning import binning_of
from routing_pipeline.policy.halves import Halves, always, halves_of
from routing_pipeline.policy.pairs import paired, pairs_of, turns_of
from routing_pipeline.policy.search import Policy
from routing_pipeline.policy.task_floors import task_changes
from tests.simulation import worlds


@pytest.fixture(scope="module")
def halves() -> Halves:
    import ibis

    rng = np.random.default_rng(3)
    rows = ibis.memtable(worlds.logged(worlds.CONFOUNDED, worlds.contexts(worlds.CONFOUNDED, 6_000, rng), rng))
    return halves_of(scores.score_cube(cells_.cells_of(cells_.aggregate(rows, binning_of(rows)))))


def everywhere(halves: Halves, arm: int) -> list[int]:
    return [arm] * len(halves.first.segments)


def test_two_halves_that_agree_are_one_policy_told_by_all_sessions(halves: Halves) -> None:
    pair = paired(halves, everywhere(halves, 2), everywhere(halves, 2), single=False)
    assert (pair.shares[: len(pair.first), 2] == 1.0).all()
    np.testing.assert_allclose(pair.by_half, always(np.array(pair.first), halves.first))


def test_where_two_models_stand_against_each_other_each_gets_half_and_is_scored_by_the_other_half(halves: Halves) -> None:
    pair = paired(halves, everywhere(halves, 1), everywhere(halves, 2), single=False)
    assert (pair.shares[: len(pair.first), [1, 2]] == 0.5).all()
    # What the first half has learnt is scored by the second, and the other way round.
    one = halves.first.mixed(always(np.array(pair.first), halves.first)[1], scores.PROVE).scores.sum(axis=0)
    other = halves.second.mixed(always(np.array(pair.second), halves.first)[0], scores.PROVE).scores.sum(axis=0)
    np.testing.assert_allclose(halves.sums(pair.by_half).scores.sum(axis=0), one + other, rtol=1e-9)


@pytest.mark.parametrize("single", [False, True])
def test_where_one_half_leaves_requests_alone_their_word_holds_in_turn(halves: Halves, single: bool) -> None:
    pair = paired(halves, everywhere(halves, halves.keep), everywhere(halves, 2), single=single)
    turn = turns_of(halves)
    assert (pair.shares[: len(turn)].max(axis=1) == 1.0).all()
    assert (pair.shares[: len(turn), halves.keep] == turn).all()
    # Weights stand for every request once.
    requests = np.stack([halves.requests(half) for half in (0, 1)])
    counted = (pair.by_half[:, : len(turn)].sum(axis=2) * requests).sum(axis=0)
    np.testing.assert_allclose(counted, requests.sum(axis=0))
    moved = pair.by_half[0, : len(turn), 2] * requests[0] + pair.by_half[1, : len(turn), 2] * requests[1]
    np.testing.assert_allclose(moved, np.where(turn, 0.0, requests.sum(axis=0)))


def test_one_model_for_each_kind_of_request_where_that_is_asked_for(halves: Halves) -> None:
    pair = paired(halves, everywhere(halves, 1), everywhere(halves, 2), single=True)
    assert (pair.shares.max(axis=1) == 1.0).all()


def test_a_policy_that_changes_nothing_changes_exactly_nothing(halves: Halves) -> None:
    pair = paired(halves, everywhere(halves, halves.keep), everywhere(halves, halves.keep), single=False)
    then, now = proof.proven(halves, pair), proof.today_of(halves)
    assert (then.quality - now.quality).value == 0.0
    assert (then.cost - now.cost).standard_error == 0.0
    assert task_changes(halves, pair) == []


def test_the_ladder_meets_at_the_same_gain_and_a_half_without_candidates_leaves_all_as_it_is(halves: Halves) -> None:
    small, large = (Policy(tuple(everywhere(halves, arm)), gain, 1.0) for arm, gain in ((1, 0.1), (0, 0.3)))
    both = pairs_of(halves, ([small, large], [large]), single=False)
    assert [(pair.first, pair.second) for pair in both] == [(small.actions, large.actions), (large.actions, large.actions)]
    alone = pairs_of(halves, ([small], []), single=False)
    assert [set(pair.second) for pair in alone] == [{halves.keep}]
    assert pairs_of(halves, ([], []), single=False) == []


def test_halves_swapped_twice_are_the_halves(halves: Halves) -> None:
    again = halves_of(halves.second).second
    np.testing.assert_array_equal(again.scores, halves.first.scores)
