"""Boundaries that are not worth a rule: what goes, what stays, and that nothing is lost beyond what may be."""

from __future__ import annotations

import itertools
from dataclasses import replace

import numpy as np
import pytest

from routing_pipeline.policy.fewer_rules import TOLERANCE, with_fewer_rules
from routing_pipeline.policy.scores import ANSWERED, COST, QUALITY
from routing_pipeline.policy.search import Learned, utility
from tests.policy.test_search import WEIGHTS, hand_made, limits

KEEP = 3
TASKS = (0, 0, 0, 0)


def world(cost: list[list[float]], quality: list[list[float]]) -> Learned:
    """Four segments with what is said of three models and KEEP."""
    learnt = hand_made(1)
    sums = learnt.sums.copy()
    sums[:4, :, COST], sums[:4, :, QUALITY] = cost, quality
    for place, each in enumerate(learnt.ranges):
        sums[place] = sums[list(each)].sum(axis=0)
    return replace(learnt, sums=sums, by_cluster=sums[None])


def even(cost: list[float], quality: list[float]) -> Learned:
    return world([[*cost, 10.0]] * 4, [[*quality, 0.9]] * 4)


def plainer(learnt: Learned, actions: tuple[int, ...], tasks: tuple[int, ...] = TASKS, few: int = 0) -> tuple[int, ...]:
    return with_fewer_rules(learnt, tasks, actions, utility(learnt, "cost", WEIGHTS), limits(), few=few).arms


def test_neighbours_that_hardly_differ_become_one_rule() -> None:
    assert plainer(even([1.0, 1.01, 1.02], [0.9, 0.9, 0.9]), (0, 1, 2, 0)) == (0, 0, 0, 0)


def test_a_boundary_that_earns_its_rule_stays() -> None:
    dear_first = world([[9.0, 1.0, 5.0, 10.0], *[[1.0, 9.0, 5.0, 10.0]] * 3], [[0.9] * 4] * 4)
    assert plainer(dear_first, (1, 0, 0, 0)) == (1, 0, 0, 0)


def test_gain_does_not_buy_quality_away() -> None:
    """What raises the one and lowers the other counts with what it lowers."""
    learnt = world([[1.0, 2.0, 5.0, 10.0]] * 4, [[0.80, 0.9, 0.9, 0.9], [0.9, 0.9, 0.9, 0.9], [0.9] * 4, [0.9] * 4])
    assert plainer(learnt, (1, 0, 0, 0)) == (1, 0, 0, 0)


def test_a_model_that_cannot_be_judged_there_is_not_put_there() -> None:
    learnt = even([1.0, 1.01, 1.02], [0.9, 0.9, 0.9])
    eligible = learnt.eligible.copy()
    eligible[:4, 0] = [True, False, False, True]
    assert plainer(replace(learnt, eligible=eligible), (0, 1, 1, 0)) == (1, 1, 1, 1)
    eligible[:4, 1] = [False, True, True, False]
    assert plainer(replace(learnt, eligible=eligible), (0, 1, 1, 0)) == (0, 1, 1, 0)


def test_a_few_rules_are_left_as_they_are() -> None:
    alike = even([1.0, 1.01, 1.02], [0.9, 0.9, 0.9])
    assert plainer(alike, (0, 0, 1, 2), few=3) == (0, 0, 1, 2)
    assert len(set(plainer(alike, (0, 0, 1, 2), few=2))) == 2


def test_tasks_that_go_whole_to_one_model_are_one_rule() -> None:
    alike = even([1.0, 1.01, 1.02], [0.9, 0.9, 0.9])
    assert plainer(alike, (0, 0, 1, 2), (0, 1, 2, 2), few=3) == (0, 0, 1, 2)
    assert plainer(alike, (0, 0, 1, 2), (0, 1, 2, 2), few=2) in {(0, 0, 1, 1), (0, 0, 2, 2)}


def test_tasks_stay_apart() -> None:
    assert plainer(even([1.0, 1.01, 1.02], [0.9, 0.9, 0.9]), (0, 0, 1, 1), (0, 0, 1, 1)) == (0, 0, 1, 1)


@pytest.mark.parametrize("seed", range(20))
def test_never_more_rules_and_never_more_lost_than_the_tolerance(seed: int) -> None:
    learnt = hand_made(seed)
    gain = utility(learnt, "cost", WEIGHTS)
    actions = tuple(np.random.default_rng(seed).integers(0, KEEP, size=4).tolist())
    found = plainer(learnt, actions)

    def told(chosen: tuple[int, ...]) -> tuple[float, float, int]:
        quality = sum(float(learnt.sums[place, arm, QUALITY]) for place, arm in enumerate(chosen))
        return (
            sum(float(gain[place, arm]) for place, arm in enumerate(chosen)),
            quality,
            sum(a != b for a, b in itertools.pairwise(chosen)),
        )

    before, after = told(actions), told(found)
    promised = before[0] - sum(float(gain[place, KEEP]) for place in range(4))
    allowed = 0.01 * float(learnt.today[ANSWERED])
    assert after[2] <= before[2]
    if promised > 0:
        assert max(before[0] - after[0], 0.0) / promised + max(before[1] - after[1], 0.0) / allowed <= TOLERANCE + 1e-9
    else:
        assert found == actions
