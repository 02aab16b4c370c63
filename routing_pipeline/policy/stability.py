"""How far the rules would be the same on other data of the same kind.

Belongs here: searching again on resampled sessions of both halves, and how much traffic would go where it goes now.
Does not belong here: whether the rules hold (`policy.proof`), the search itself (`policy.candidates`).

Other data would differ from these as much as these differ from what is true. So two resamples are compared with each other, and not
one of them with the data, and on each the search chooses its trade-off anew: the one that promises what the rules promise.
"""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from routing_pipeline.parameters import Goal, Weights
from routing_pipeline.policy import search
from routing_pipeline.policy.candidates import MARKS, PRICES, SLOW_PRICES, sweep
from routing_pipeline.policy.cells import Floats
from routing_pipeline.policy.halves import Halves
from routing_pipeline.policy.pairs import Pair, paired
from routing_pipeline.policy.search import Found, Learned

RESAMPLES = 16
GROUPS = 12
"""So many groups of about 1 % of the sessions are left out, one at a time."""
SEED = 41
_TRIED: Floats = PRICES[::3]


def rule_agreement(halves: Halves, learnt: tuple[Learned, Learned], pair: Pair, goal: Goal, weights: Weights) -> tuple[Floats, Floats]:
    """Share of requests that go the same way when the search is run again.

    Args:
        halves: of the window.
        learnt: what the rules were learnt from, by half.
        pair: the rules.
        goal: what it improved.
        weights: of the balanced goal.

    Returns:
        Agreements, 0..1, by traffic over every kind of request that rules could name: of RESAMPLES pairs of bootstrap resamples of
        the sessions, and of the data with GROUPS groups of sessions left out, one at a time, with the data as they are.
    """
    open_ = [_open(each, goal) for each in learnt]
    single = not bool((pair.shares.max(axis=1) < 1.0).any())
    aims = [_promised(each, actions, goal, weights) for each, actions in zip(open_, (pair.first, pair.second), strict=True)]
    random = np.random.default_rng(SEED)
    clusters = len(learnt[0].by_cluster)

    def found(counts: tuple[Floats, Floats]) -> Floats:
        again = [replace(each, sums=np.tensordot(row, each.by_cluster, axes=1)) for each, row in zip(open_, counts, strict=True)]
        actions = [_at(each, aim, goal, weights) for each, aim in zip(again, aims, strict=True)]
        return paired(halves, actions[0], actions[1], single=single).shares

    def drawn() -> Floats:
        return random.multinomial(clusters, np.full(clusters, 1 / clusters)).astype(np.float64)

    traffic = np.asarray(halves.first.requests.sum(axis=0))[: len(halves.first.segments)]
    traffic = traffic / max(float(traffic.sum()), 1e-300)

    def agreement(one: Floats, other: Floats) -> float:
        return float(traffic @ np.minimum(one, other)[: len(traffic)].sum(axis=1))

    resampled = [agreement(found((drawn(), drawn())), found((drawn(), drawn()))) for _ in range(RESAMPLES)]
    whole = np.ones(clusters)
    now = found((whole, whole))
    short = []
    for group in range(GROUPS):
        left = np.ones(clusters)
        left[group::clusters][:1] = 0.0
        left *= clusters / left.sum()
        short.append(agreement(found((left, left)), now))
    return np.array(resampled), np.array(short)


def _open(learnt: Learned, goal: Goal) -> Learned:
    """As the search has it."""
    apart = search.judged_apart(learnt)
    return replace(apart, eligible=apart.eligible & search.gentle(apart)) if goal == "balanced" else apart


def _gain(learnt: Learned, found: Found, goal: Goal, weights: Weights) -> float:
    gain = search.utility(learnt, goal, weights)
    return float(gain[list(found.ranges), list(found.arms)].sum() - gain[: learnt.segments, -1].sum())


def _promised(learnt: Learned, actions: tuple[int, ...], goal: Goal, weights: Weights) -> float:
    return _gain(learnt, Found(tuple(range(learnt.segments)), actions), goal, weights)


def _at(learnt: Learned, aim: float, goal: Goal, weights: Weights) -> tuple[int, ...]:
    """What the search finds where it is to promise as much as `aim`: of what comes nearest, the best quality."""
    gain = search.utility(learnt, goal, weights)
    base = float(gain[: learnt.segments, -1].sum())
    tried = [sweep(learnt, gain, by_cost=goal == "quality", slow=False, at=(MARKS[1], SLOW_PRICES[0], float(price)))[0] for price in _TRIED]
    promised = np.array([float(gain[list(each.ranges), list(each.arms)].sum()) - base for each in tried])
    return tried[int(np.abs(promised - aim).argmin())].actions(learnt)
