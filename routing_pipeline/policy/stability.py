"""How far the rules would be the same on other data of the same kind.

Belongs here: searching again on resampled sessions of the learning half, and how much traffic would go where it goes now.
Does not belong here: whether the rules hold (`policy.proof`), the search itself (`policy.search`).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import numpy as np

from routing_pipeline.parameters import Goal, Weights
from routing_pipeline.policy import search
from routing_pipeline.policy.cells import Floats
from routing_pipeline.policy.search import Learned, Limits, TradeOff

RESAMPLES = 100
SEED = 41


def rule_agreement(learnt: Learned, actions: Sequence[int], limits: Limits, goal: Goal, weights: Weights) -> tuple[Floats, Floats]:
    """Share of requests that go where the rules send them when the search is run again, at the rules' own trade-off.

    The trade-off is the one whose policy agrees most with the rules on the data as they are. Agreement is by traffic, over
    every kind of request that the rules could name.

    Args:
        learnt: what the rules were learnt from.
        actions: of the rules, one per segment.
        limits: what the search was held to.
        goal: what it improved.
        weights: of the balanced goal.

    Returns:
        Agreements, 0..1, over RESAMPLES bootstrap resamples of the sessions, and over data each short of one group of sessions
        (about 1 % of them).
    """
    learnt = search.judged_apart(learnt)
    if goal == "balanced":
        learnt = replace(learnt, eligible=learnt.eligible & search.gentle(learnt))
    slow, by_cost = limits.max_slow is not None, goal == "quality"
    traffic = learnt.weight[: learnt.segments] / max(float(learnt.weight[: learnt.segments].sum()), 1e-300)

    def found(data: Learned, at: TradeOff) -> Sequence[int]:
        return search.sweep(data, search.utility(data, goal, weights), by_cost=by_cost, slow=slow, at=at)[0].actions(data)

    def agreement(one: Sequence[int], other: Sequence[int]) -> float:
        return float(traffic[np.array(one) == np.array(other)].sum())

    at = max(search.trade_offs(slow=slow), key=lambda each: agreement(found(learnt, each), actions))
    now = found(learnt, at)
    clusters = len(learnt.by_cluster)
    random = np.random.default_rng(SEED)
    drawn = random.multinomial(clusters, np.full(clusters, 1 / clusters), size=RESAMPLES).astype(np.float64)
    left_out = (np.ones((clusters, clusters)) - np.eye(clusters)) * clusters / (clusters - 1)

    def agreements(counts: Floats) -> Floats:
        return np.array([agreement(found(replace(learnt, sums=np.tensordot(row, learnt.by_cluster, axes=1)), at), now) for row in counts])

    return agreements(drawn), agreements(left_out)
