"""What the search does about the limit of each task."""

from __future__ import annotations

import numpy as np

from routing_pipeline.parameters import Weights
from routing_pipeline.policy import candidates, search
from routing_pipeline.policy.scores import ANSWERED, COST, LATENCY, OUTCOMES, QUALITY, SLOW, SUCCESS
from routing_pipeline.policy.search import Found, Learned

CHEAP, MIDDLE, KEEP = range(3)
COSTS = np.array([[1.0, 4.0, 10.0], [1.0, 4.0, 10.0]])
QUALITIES = np.array([[0.70, 0.88, 0.90], [0.89, 0.90, 0.90]])
TIMES = np.array([[5.0, 1.0, 3.0], [5.0, 1.0, 3.0]])


def two_tasks() -> Learned:
    """A hard task and an easy one of 100 requests each: the cheap model is bad at the hard one, the middle one is nearly as good as today's."""
    sums = np.zeros((2, 3, len(OUTCOMES)))
    sums[..., COST], sums[..., QUALITY], sums[..., LATENCY] = 100 * COSTS, 100 * QUALITIES, 100 * TIMES
    sums[..., SUCCESS] = sums[..., ANSWERED] = 100.0
    sums[..., SLOW] = 2.0
    ranges = ((0,), (1,))
    partitions, task_of = search.partitions_of(ranges, [0, 1])
    return Learned(
        ranges=ranges,
        partitions=partitions,
        task_of=task_of,
        sums=sums,
        rest=np.zeros(len(OUTCOMES)),
        requests=200.0,
        counted=np.full(len(OUTCOMES), 200.0),
        quality_error=np.zeros((2, 3)),
        success_error=np.zeros((2, 3)),
        eligible=np.ones((2, 3), dtype=bool),
        share=np.full((2, 2), 0.0),
        weight=np.full(2, 0.5),
        by_cluster=np.zeros((1, *sums.shape)),
        names=("hard", "easy"),
    )


def actions(found: list[Found], learnt: Learned) -> set[tuple[int, ...]]:
    return {each.actions(learnt) for each in found}


def swept(most: float) -> set[tuple[int, ...]]:
    learnt = two_tasks()
    gain = search.utility(learnt, "cost", Weights())
    return actions(candidates.sweep(learnt, gain, by_cost=False, slow=False, most=most), learnt)


def test_a_task_that_would_fall_too_far_gets_the_next_better_model_and_the_others_what_they_had() -> None:
    assert (CHEAP, CHEAP) in swept(1.0)
    limited = swept(0.03)
    assert (MIDDLE, CHEAP) in limited
    assert all(hard != CHEAP for hard, _ in limited)
    assert max(COSTS[1, easy] for hard, easy in limited if hard == MIDDLE) <= 4.0


def test_a_task_that_every_other_model_would_let_fall_is_left_alone_and_does_not_stop_the_others() -> None:
    limited = swept(0.015)
    assert (KEEP, CHEAP) in limited
    assert all(hard == KEEP for hard, _ in limited)
