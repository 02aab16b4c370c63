"""Candidate policies of one half of the sessions, ordered from safest to boldest.

Belongs here: the sweep over trade-offs, parts of policies where data are few, the order in which they will be proven. Does not
belong here: anything that reads an outcome of the half that proves (`policy.proof`), what is learnt (`policy.search`), making
pairs of the candidates of both halves (`policy.pairs`).
"""

from __future__ import annotations

import itertools
import math
from dataclasses import replace

import numpy as np

from routing_pipeline.parameters import Goal, Weights
from routing_pipeline.policy.cells import Floats, Ints
from routing_pipeline.policy.fewer_rules import with_fewer_rules
from routing_pipeline.policy.halves import one_hot
from routing_pipeline.policy.programme import programme
from routing_pipeline.policy.scores import ANSWERED, COST, LATENCY, LEARN, QUALITY, SLOW, SUCCESS, ScoreCube
from routing_pipeline.policy.search import (
    MAX_COMPLETION_DROP,
    MIN_BENEFIT,
    Found,
    Learned,
    Limits,
    Policy,
    ceiling_of,
    gentle,
    judged_apart,
    moved_share,
    quality_margin,
    today_breaks,
    utility,
    within_caps,
)
from routing_pipeline.policy.task_tolerance import gentle_to_tasks, priced_by_task
from routing_pipeline.stats.inference import Statistic

MARKS: tuple[tuple[float, float], ...] = ((0.25, 0.0), (0.5, 0.0), (1.0, 0.0), (0.25, 250.0), (0.0, 600.0))
"""How far a segment's quality is marked down while searching: by so many standard errors, and by so many of its variances.

Variances add up over segments, standard errors do not: a policy's own error is the root of a sum of variances, and what a segment adds
to its margin at z errors is z se^2 / (2 SE), with SE relative to today's quality, some thousandths. Marking down by standard errors
alone costs many small segments too much and few uncertain ones too little.
"""
KAPPAS: tuple[float, ...] = (0.25, 0.5, 1.0)
"""The same in integer programmes, by standard errors."""
PRICES: Floats = np.concatenate([[0.0], np.logspace(-2.0, 3.5, 67)])
"""What a relative unit of quality is worth in relative units of the goal: the sweep that traces the frontier."""
SLOW_PRICES: tuple[float, ...] = (0.0, 1.0, 5.0, 25.0)
MIN_GAIN: dict[Goal, float] = {"cost": 0.01, "speed": 0.01, "quality": 0.002, "balanced": 0.01}
"""Predicted gain below which a candidate is not worth a proof."""
MIN_Z = -0.5
"""Least predicted distance of a limit, in standard errors of one half; the proof has both, and stops where it must."""
SHORT_PATH = 8
"""Below so many candidates, models judged over joined segments and parts of policies become candidates too.

Always adding them makes walks fail early: thinly seen models look safer than they are.
"""
SAFE_Z = 3.0
"""A walk whose first candidate is less safe than this starts with parts of policies that are safer."""
LADDERS = 8
"""Policies of the sweep whose parts are candidates too."""
WIDE_GAP = 0.005
"""Neighbours on a path whose gains differ by more are too far apart."""
HEAVY = 0.03
MAX_HEAVY = 4
"""A segment is heavy that could by itself gain such a share of today's value of the goal; so many are considered."""
FLOOR_STEPS: Floats = np.linspace(-0.016, 0.020, 6)

TradeOff = tuple[tuple[float, float], float, float]


def sweep(learnt: Learned, gain: Floats, *, by_cost: bool, slow: bool, at: TradeOff | None = None, most: float = 1.0) -> list[Found]:
    """Every policy that is best for some price of quality (of cost, for the quality goal), mark-down and price of slowness.

    By Lagrange's rule these are the policies on the convex frontier. Every range that leaves KEEP pays MIN_BENEFIT, so a
    rule that adds less is not written, and neighbours join unless cutting them apart is worth it. `at`: this trade-off alone.
    `most`: by how much the quality of any one task may be predicted to fall, 0..1; it has no hold on a single trade-off.
    """
    today = learnt.today
    base = quality_margin(learnt, learnt.quality_today)
    error = learnt.quality_error / max(float(learnt.quality_today * today[ANSWERED]), 1e-300)
    slowness = (learnt.sums[..., SLOW] - learnt.sums[..., SUCCESS]) / max(learnt.requests, 1.0)
    cost = learnt.sums[..., COST] / max(float(today[COST]), 1e-300)
    fee = np.full(gain.shape[1], MIN_BENEFIT)
    fee[-1] = 0.0
    found: dict[Found, None] = {}
    tried = trade_offs(slow=slow) if at is None else [at]
    for ((by_error, by_variance), slow_price), same in itertools.groupby(tried, key=lambda each: each[:2]):
        marked = base - by_error * error - by_variance * error**2
        of_prices = []
        for _, _, price in same:
            worth = marked - price * cost if by_cost else gain + price * marked
            of_prices.append(_best(learnt, np.where(learnt.eligible, worth - slow_price * slowness - fee, -np.inf)))
        # The higher the price of cost, the worse the answers.
        found |= dict.fromkeys(of_prices if at is not None or by_cost else priced_by_task(learnt, of_prices, most))
    return list(found)


def trade_offs(*, slow: bool) -> list[TradeOff]:
    """All that a sweep tries: mark-down of quality, price of slowness, price of quality (of cost)."""
    plain = list(itertools.product(MARKS, SLOW_PRICES[:1], PRICES.tolist()))
    if not slow:
        return plain
    by_error = [mark for mark in MARKS if mark[1] == 0.0]
    return plain + list(itertools.product(by_error, SLOW_PRICES[1:], PRICES.tolist()))


def _best(learnt: Learned, worth: Floats) -> Found:
    """The best cut of every task into ranges, and the best action of each range."""
    # Ties go to KEEP, the last action.
    arm = worth.shape[1] - 1 - worth[:, ::-1].argmax(axis=1)
    value = learnt.partitions @ worth[np.arange(len(arm)), arm]
    # Cuts of a task stand beside each other; of equally good ones the first.
    starts, group = learnt.cuts
    best = np.flatnonzero(value == np.maximum.reduceat(value, starts)[group])
    task = group[best]
    first = np.ones(len(task), dtype=bool)
    first[1:] = task[1:] != task[:-1]
    chosen = learnt.partitions[best[first]].nonzero()[1]
    return Found(tuple(chosen.tolist()), tuple(arm[chosen].tolist()))


def policies(learnt: Learned, limits: Limits, goal: Goal, weights: Weights) -> list[Found]:
    """All policies that some trade-off recommends."""
    if goal == "balanced":
        learnt = replace(learnt, eligible=learnt.eligible & gentle(learnt))
    gain = utility(learnt, goal, weights)
    slow, by_cost = limits.max_slow is not None, goal == "quality"
    found = sweep(learnt, gain, by_cost=by_cost, slow=slow, most=limits.max_task_drop)
    for left_alone in heavy_segments(learnt, gain):
        found += sweep(left_alone, gain, by_cost=by_cost, slow=False, most=limits.max_task_drop)
    if limits.has_caps:
        floor = limits.floor(learnt.quality_today)
        ceiling = ceiling_of(learnt, limits)
        for kappa in KAPPAS:
            for step in FLOOR_STEPS:
                solved = programme(learnt, gain, limits, floor=floor + float(step), kappa=kappa, max_cost=ceiling)
                if solved is not None:
                    found.append(solved)
        found = [each for each in found if within_caps(learnt, each, limits)]
    keep = learnt.sums.shape[1] - 1
    return [each for each in dict.fromkeys(found) if any(arm != keep for arm in each.arms)]


def everywhere(learnt: Learned) -> list[Found]:
    """For each model: whole tasks to it wherever the logs can judge it over the whole task, the others as they are.

    Where one model is best, one rule says it all, and thinly tried corners need not be cut out.
    """
    keep = learnt.sums.shape[1] - 1
    whole = [int(np.flatnonzero(row)[0]) for row in learnt.partitions if row.sum() == 1.0]
    found = [Found(tuple(whole), tuple(arm if learnt.eligible[place, arm] else keep for place in whole)) for arm in range(keep)]
    return [each for each in found if any(arm != keep for arm in each.arms)]


def heavy_segments(learnt: Learned, gain: Floats) -> list[Learned]:
    """What was learnt, each time with one of the segments left as it is that promise most by themselves.

    A sweep over prices finds the convex frontier alone. Where one segment holds much of what there is to gain, that frontier
    has a hole as wide as the segment: the policies in between leave it alone and move smaller ones.
    """
    single = np.where(learnt.eligible, gain, -np.inf)[: learnt.segments]
    promise = single.max(axis=1) - gain[: learnt.segments, -1]
    found = []
    for segment in np.argsort(-promise, kind="stable")[:MAX_HEAVY]:
        if promise[segment] < HEAVY:
            break
        holds = np.array([segment in each for each in learnt.ranges])
        eligible = learnt.eligible.copy()
        eligible[holds, :-1] = False
        found.append(replace(learnt, eligible=eligible))
    return found


def ladders(learnt: Learned, found: list[Found], gain: Floats, limits: Limits) -> list[Found]:
    """Parts of some of the policies: their moves one by one, most gain per risk first, the rest left as it is.

    Between today and a bold policy the sweep may know nothing; where data are few, a part of the moves can still be
    proven. Risk: variance of quality and of completion, each on the scale of its allowance.
    """
    keep = learnt.sums.shape[1] - 1
    allowance = max(limits.max_quality_drop, 0.005) * float(learnt.today[ANSWERED])
    risk = (learnt.quality_error / allowance) ** 2 + (learnt.success_error / (MAX_COMPLETION_DROP * learnt.requests)) ** 2
    promising = sorted(found, key=lambda each: float(gain[list(each.ranges), list(each.arms)].sum()))
    steps = sorted({round(step) for step in np.linspace(0, len(promising) - 1, LADDERS)}) if promising else []
    parts: list[Found] = []
    for policy in (promising[step] for step in steps):
        moves = [
            (float((gain[place, arm] - gain[place, keep]) / max(risk[place, arm], 1e-12)), index)
            for index, (place, arm) in enumerate(zip(policy.ranges, policy.arms, strict=True))
            if arm != keep and gain[place, arm] > gain[place, keep]
        ]
        moves.sort(key=lambda each: (-each[0], each[1]))
        for length in range(1, len(moves) + 1):
            taken = {index for _, index in moves[:length]}
            parts.append(Found(policy.ranges, tuple(arm if index in taken else keep for index, arm in enumerate(policy.arms))))
    return [each for each in parts if within_caps(learnt, each, limits)]


def candidates(cube: ScoreCube, learnt: Learned, limits: Limits, goal: Goal, weights: Weights) -> list[Policy]:
    """Policies worth proving, safest first: each bolder one promises more.

    Ordered by z, the smallest distance of a limit in standard errors of the learning half; those below MIN_Z or with too
    little to gain are dropped, and so is whatever is bolder without promising more. Where today's routing breaks a limit
    itself, keeping it is worth a loss.
    """
    gain = utility(learnt, goal, weights)
    apart = judged_apart(learnt)
    found = policies(apart, limits, goal, weights) + [each for each in everywhere(learnt) if within_caps(learnt, each, limits)]
    path = _ordered(cube, learnt, limits, goal, gain, found)
    if len(path) < SHORT_PATH:
        found = policies(learnt, limits, goal, weights)
        return _ordered(cube, learnt, limits, goal, gain, found + ladders(learnt, found, gain, limits))
    if path[0].z < SAFE_Z:
        rungs = _ordered(cube, learnt, limits, goal, gain, ladders(apart, found, gain, limits))
        path = [rung for rung in rungs if rung.z > path[0].z and rung.gain < path[0].gain] + path
    filled = [step for step in between(learnt, path, gain) if within_caps(learnt, step, limits)]
    own = [_as_found(learnt, policy) for policy in path]
    path = _ordered(cube, learnt, limits, goal, gain, [*filled, *own])
    tasks = [segment.task for segment in cube.segments]
    plainer = [with_fewer_rules(apart, tasks, policy.actions, gain, limits) for policy in path]
    plain = _ordered(cube, learnt, limits, goal, gain, [each for each in plainer if within_caps(learnt, each, limits)])
    # A walk begins with the safest, and what has given boundaries up may have given safety up as well.
    return [each for each in path if not plain or (each.z > plain[0].z and each.gain < plain[0].gain)] + plain


def _as_found(learnt: Learned, policy: Policy) -> Found:
    """Segment by segment."""
    return Found(tuple(range(learnt.segments)), policy.actions)


def between(learnt: Learned, path: list[Policy], gain: Floats) -> list[Found]:
    """Policies in the gaps of a path: from each one to the next bolder, their differences one by one, most gain per quality first.

    The sweep's neighbours may lie far apart, and a walk that fails at the bolder one would have to stop far short of the limit.
    """
    margin = learnt.sums[..., QUALITY] - learnt.quality_today * learnt.sums[..., ANSWERED]
    steps: list[Found] = []
    for safe, bold in itertools.pairwise(path):
        differ = [place for place, pair in enumerate(zip(safe.actions, bold.actions, strict=True)) if pair[0] != pair[1]]
        if bold.gain - safe.gain < WIDE_GAP or len(differ) < 2:
            continue

        def worth(place: int, safe: Policy = safe, bold: Policy = bold) -> tuple[bool, float, int]:
            before, after = safe.actions[place], bold.actions[place]
            gained = float(gain[place, after] - gain[place, before])
            lost = float(margin[place, before] - margin[place, after])
            return (gained <= 0, lost / max(abs(gained), 1e-12), place)

        actions = list(safe.actions)
        for place in sorted(differ, key=worth)[:-1]:
            actions[place] = bold.actions[place]
            steps.append(Found(tuple(range(learnt.segments)), tuple(actions)))
    return steps


def _ordered(cube: ScoreCube, learnt: Learned, limits: Limits, goal: Goal, gain: Floats, policies_: list[Found]) -> list[Policy]:
    base = float(gain[: learnt.segments, -1].sum())
    least = -math.inf if today_breaks(learnt, limits) else MIN_GAIN[goal]
    today = _statistics(cube, np.full(len(cube.segments), cube.keep))
    best: dict[tuple[int, ...], Policy] = {}
    for each in policies_:
        found = gentle_to_tasks(learnt, each, limits.max_task_drop)
        actions = found.actions(learnt)
        promised = float(gain[list(found.ranges), list(found.arms)].sum()) - base
        if actions in best or promised < least:
            continue
        z = _safety(cube, learnt, found, actions, limits, today)
        if z >= MIN_Z:
            best[actions] = Policy(actions, promised, z)
    path: list[Policy] = []
    for policy in sorted(best.values(), key=lambda each: (-each.z, each.actions)):
        if not path or policy.gain > path[-1].gain:
            path.append(policy)
    return path


def _safety(cube: ScoreCube, learnt: Learned, found: Found, actions: tuple[int, ...], limits: Limits, today: dict[int, Statistic]) -> float:
    """The smallest distance of a limit in standard errors of the learning half; `actions`: those of `found`, one per segment."""
    array = np.array(actions)
    shares = one_hot(array, cube)
    hidden = limits.hidden_bias * moved_share(cube, shares) + cube.unseen_loss(shares, LEARN)
    places, arms = list(found.ranges), list(found.arms)
    completion_error = math.sqrt(float((learnt.success_error[places, arms] ** 2).sum())) / learnt.requests
    return _distance(learnt, learnt.predicted(found), _statistics(cube, array), today, limits, hidden, completion_error)


def guards_kept(cube: ScoreCube, learnt: Learned, found: Found, limits: Limits) -> float:
    """How safely a policy keeps the guards alone, those of completion and of slow requests; as `_safety`, below 0 where it is predicted to break one."""
    alone = replace(limits, min_quality=None, max_quality_drop=1.0, max_cost=None, keeps_cost=False, hidden_bias=0.0)
    return _safety(cube, learnt, found, found.actions(learnt), alone, _statistics(cube, np.full(len(cube.segments), cube.keep)))


def _statistics(cube: ScoreCube, actions: Ints) -> dict[int, Statistic]:
    sums = cube.chosen(np.concatenate([actions, np.full(cube.scores.shape[1] - len(actions), cube.keep)]), LEARN)
    return {outcome: sums.mean(outcome) for outcome in (COST, LATENCY, SLOW)} | {QUALITY: sums.quality(), SUCCESS: sums.completion()}


def _distance(
    learnt: Learned,
    sums: Floats,
    chosen: dict[int, Statistic],
    today: dict[int, Statistic],
    limits: Limits,
    hidden: float,
    completion_error: float,
) -> float:
    """Smallest predicted margin over its standard error, over all limits."""
    now, n, counted = learnt.today, learnt.requests, learnt.counted
    quality = float(sums[QUALITY] / max(float(sums[ANSWERED]), 1e-300))
    margins = [(quality - hidden - learnt.quality_today + limits.max_quality_drop, chosen[QUALITY] - today[QUALITY])]
    if limits.min_quality is not None:
        margins.append((quality - hidden - limits.min_quality, chosen[QUALITY]))
    if limits.max_slow is not None:
        # At today's own share the guard leaves MAX_SLOW_SHARE less that; see policy.proof.
        margins.append((limits.max_slow - float(sums[SLOW] / counted[SLOW]), chosen[SLOW] - today[SLOW]))
    if limits.max_cost is not None:
        margins.append((limits.max_cost - float(sums[COST] / counted[COST]), chosen[COST]))
    if limits.keeps_cost:
        margins.append((float((now[COST] - sums[COST]) / counted[COST]), chosen[COST] - today[COST]))
    completion = (chosen[SUCCESS] - today[SUCCESS]).standard_error
    spare = float(sums[SUCCESS] - now[SUCCESS]) / n + MAX_COMPLETION_DROP
    distances = [margin / max(statistic.standard_error, 1e-300) for margin, statistic in margins]
    return min([*distances, spare / max(completion, completion_error, 1e-300)])
