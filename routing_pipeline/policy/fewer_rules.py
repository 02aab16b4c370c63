"""Fewer rules that say almost the same: neighbouring kinds of a task sent to one model where telling them apart brings next to nothing.

Belongs here: which boundaries inside a task a candidate gives up before anything is proven. Does not belong here: finding candidates
(`policy.candidates`), writing a policy as rules (`policy.rule_blocks`).

The search cuts a task wherever the learning half sees the least gain, noise included; somebody has to read, approve and run every rule that
comes of it. Most such cuts differ between the halves as well, which splits kinds between two models. Like pruning a tree
(Breiman, Friedman, Olshen, Stone 1984, ch. 3): the cheapest boundary goes first, as long as all that went cost little.
"""

from __future__ import annotations

import itertools
from collections.abc import Iterator, Sequence

import numpy as np

from routing_pipeline.policy.cells import Floats
from routing_pipeline.policy.scores import ANSWERED, QUALITY
from routing_pipeline.policy.search import Found, Learned, Limits

TOLERANCE = 0.05
"""What all boundaries that go may cost together: lost gain as a share of what the candidate promises, and lost quality as a share of
what the limit allows. What raises the one and lowers the other counts with what it lowers alone."""
FEW = 8
"""So many rules are read at a glance; nothing is given up for fewer."""
LEAST_ALLOWANCE = 0.005
"""Of quality, relative; where the limit allows no fall at all, shares are of this."""


def with_fewer_rules(
    learnt: Learned, tasks: Sequence[int], actions: Sequence[int], gain: Floats, limits: Limits, *, few: int = FEW
) -> Found:
    """A candidate with the boundaries gone that are not worth a rule, as long as it has more than a few.

    Args:
        learnt: what one half says, with joined segments open to models that can be judged in each (`search.judged_apart`).
        tasks: of each segment; neighbours of one task may become one rule.
        actions: of each segment, the candidate.
        gain: the goal's contribution by (range, action).
        limits: how far quality may fall.
        few: rules at which it is left as it is.
    """
    n, chosen = learnt.segments, list(actions)
    margin = learnt.sums[:n, :, QUALITY] - learnt.quality_today * learnt.sums[:n, :, ANSWERED]
    allowed = max(limits.max_quality_drop, LEAST_ALLOWANCE) * float(learnt.today[ANSWERED])
    promised = float((gain[np.arange(n), chosen] - gain[:n, -1]).sum())
    left = TOLERANCE
    while promised > 0.0 and _rules(tasks, chosen, keep=gain.shape[1] - 1) > few:
        cheapest: tuple[float, list[int], int] | None = None
        for joining, arm in _joins(learnt, tasks, chosen):
            lost_gain = sum(float(gain[place, chosen[place]] - gain[place, arm]) for place in joining)
            lost_quality = sum(float(margin[place, chosen[place]] - margin[place, arm]) for place in joining)
            cost = max(lost_gain, 0.0) / promised + max(lost_quality, 0.0) / allowed
            if cheapest is None or cost < cheapest[0]:
                cheapest = (cost, joining, arm)
        if cheapest is None or cheapest[0] > left:
            break
        cost, joining, arm = cheapest
        left -= cost
        for place in joining:
            chosen[place] = arm
    return Found(tuple(range(n)), tuple(chosen))


def _rules(tasks: Sequence[int], chosen: Sequence[int], keep: int) -> int:
    """How many rules say it, about: whole tasks of one action share a rule, parts of tasks have one each."""
    whole: set[int] = set()
    parts = 0
    for _, of_task in itertools.groupby(range(len(chosen)), key=lambda place: tasks[place]):
        actions = [action for action, _ in itertools.groupby(chosen[place] for place in of_task)]
        if len(actions) == 1:
            whole.update(actions)
        else:
            parts += sum(action != keep for action in actions)
    return len(whole - {keep}) + parts


def _joins(learnt: Learned, tasks: Sequence[int], chosen: Sequence[int]) -> Iterator[tuple[list[int], int]]:
    """Runs of segments of one action, each with the action of a neighbouring run of the same task that may be had in all of them."""
    for _, of_task in itertools.groupby(range(len(chosen)), key=lambda place: tasks[place]):
        runs = [list(run) for _, run in itertools.groupby(of_task, key=lambda place: chosen[place])]
        for one, other in itertools.pairwise(runs):
            for joining, arm in ((one, chosen[other[0]]), (other, chosen[one[0]])):
                if learnt.eligible[joining, arm].all():
                    yield joining, arm
