"""Candidate policies, found on the learning half alone, ordered from safest to boldest.

Belongs here: shrinking estimates for learning, the sweep over trade-offs, the integer programme where capacities bind,
the order in which candidates will be proven. Does not belong here: anything that reads an outcome of the proving half
(`policy.proof` does).

A policy gives every segment one action: a model, or KEEP. All outcomes are sums over segments, and quality at least tau
is sum (SQ - tau S) >= 0, which is a sum as well, so each trade-off is solved segment by segment.
"""

from __future__ import annotations

import itertools
import math
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray
from scipy.optimize import linprog

from routing_pipeline.parameters import Goal, Weights
from routing_pipeline.policy.cells import Floats, Ints
from routing_pipeline.policy.intervals import Statistic
from routing_pipeline.policy.scores import (
    COST,
    LATENCY,
    LEARN,
    MIN_COVERED,
    MIN_LABELS,
    MIN_SENT,
    OUTCOMES,
    QUALITY,
    SLOW,
    SUCCESS,
    ScoreCube,
    support,
)

HALF = 0.4
"""Of what a model needs to be judged over the window, each half of the sessions must hold so much."""
KAPPAS: tuple[float, ...] = (0.25, 0.5, 1.0)
"""How many standard errors a segment's quality is marked down while searching."""
PRICES: Floats = np.concatenate([[0.0], np.logspace(-2.0, 3.5, 67)])
"""What a relative unit of quality is worth in relative units of the goal: the sweep that traces the frontier."""
SLOW_PRICES: tuple[float, ...] = (0.0, 1.0, 5.0, 25.0)
MIN_BENEFIT = 0.0005
"""Gain, as a share of today's value of the goal, below which a segment is left as it is."""
MIN_GAIN: dict[Goal, float] = {"cost": 0.01, "speed": 0.01, "quality": 0.002, "balanced": 0.01}
"""Predicted gain below which a candidate is not worth a proof."""
MIN_Z = 0.3
MAX_COMPLETION_DROP = 0.005
MAX_SLOW_SHARE = 0.06
CAP_MARGIN = 0.004
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
NODES = 60
GAP = 0.004
"""Where an integer programme may stop: so many nodes of its tree, or so near its bound."""
WHOLE = 1e-6
FLOOR_STEPS: Floats = np.linspace(-0.016, 0.020, 6)


@dataclass(frozen=True)
class Limits:
    """What must hold at the safe end of the intervals. None: no such limit.

    min_quality: absolute floor; else quality may fall by max_quality_drop against today. max_cost: USD per request;
    keeps_cost: not above today's cost. max_slow: share of requests slower than the threshold in the cells. caps: most
    traffic of each model, share. hidden_bias: how much unlogged difficulty may flatter the quality of moved requests, on
    average; the quality limit must hold even then.
    """

    min_quality: float | None
    max_quality_drop: float
    max_cost: float | None
    keeps_cost: bool
    max_slow: float | None
    caps: tuple[float | None, ...]
    hidden_bias: float = 0.0

    @property
    def has_caps(self) -> bool:
        """Whether any model's traffic is limited."""
        return any(cap is not None for cap in self.caps)


@dataclass(frozen=True)
class Learned:
    """What the learning half says: sums by (range, action, outcome), shrunk; the last action is KEEP.

    A range is one segment or several neighbours of a task: a model too rarely tried in each may be judged over all of
    them. The first ranges are the segments themselves. partitions: ways to cut a task into ranges, as (partition, range)
    membership; task_of: the task of each partition. rest: KEEP's sums of what no rule reaches. quality_error: standard error of
    each action's sum against KEEP's; success_error: the same, but what the other half must expect (`scores.failure_variance`). eligible: actions that the logs can judge. share: today's share of
    all requests by (range, model); weight: by range. by_cluster: the sums by cluster, for resampling.
    """

    ranges: tuple[tuple[int, ...], ...]
    partitions: Floats
    task_of: Ints
    sums: Floats
    rest: Floats
    requests: float
    quality_error: Floats
    success_error: Floats
    eligible: NDArray[np.bool_]
    share: Floats
    weight: Floats
    by_cluster: Floats

    @property
    def segments(self) -> int:
        """How many segments there are."""
        return sum(len(each) == 1 for each in self.ranges)

    @property
    def today(self) -> Floats:
        """Sums under KEEP everywhere, by outcome."""
        total: Floats = self.sums[: self.segments, -1].sum(axis=0) + self.rest
        return total

    @property
    def quality_today(self) -> float:
        """Mean quality of successes."""
        return float(self.today[QUALITY] / max(self.today[SUCCESS], 1e-300))

    def predicted(self, found: Found) -> Floats:
        """Sums under a policy, by outcome."""
        total: Floats = self.sums[list(found.ranges), list(found.arms)].sum(axis=0) + self.rest
        return total


@dataclass(frozen=True)
class Found:
    """A policy as found: ranges that cover every segment once, each with its action."""

    ranges: tuple[int, ...]
    arms: tuple[int, ...]

    def actions(self, learnt: Learned) -> tuple[int, ...]:
        """One action per segment."""
        by_segment = {segment: arm for place, arm in zip(self.ranges, self.arms, strict=True) for segment in learnt.ranges[place]}
        return tuple(by_segment[segment] for segment in range(learnt.segments))


@dataclass(frozen=True)
class Policy:
    """One action per segment; `gain` and `z` are predictions of the learning half."""

    actions: tuple[int, ...]
    gain: float
    z: float

    @property
    def array(self) -> Ints:
        """The actions as an array."""
        return np.array(self.actions, dtype=np.int64)


def ranges_of(cube: ScoreCube) -> tuple[tuple[int, ...], ...]:
    """Every segment, then every run of two or more neighbouring segments of a task."""
    singles = [(place,) for place in range(len(cube.segments))]
    runs = []
    for _, grouped in itertools.groupby(range(len(cube.segments)), key=lambda place: cube.segments[place].task):
        places = list(grouped)
        runs += [tuple(places[a:b]) for a in range(len(places)) for b in range(a + 2, len(places) + 1)]
    return (*singles, *runs)


def partitions_of(ranges: tuple[tuple[int, ...], ...], tasks: list[int]) -> tuple[Floats, Ints]:
    """All ways to cut each task's segments into ranges: (partition, range) membership, and the task of each partition."""
    place_of = {each: place for place, each in enumerate(ranges)}
    rows, task_of = [], []
    for task, grouped in itertools.groupby(range(len(tasks)), key=lambda segment: tasks[segment]):
        own = list(grouped)
        for cuts in itertools.product((False, True), repeat=len(own) - 1):
            bounds = [0, *(place + 1 for place, cut in enumerate(cuts) if cut), len(own)]
            row = np.zeros(len(ranges))
            row[[place_of[tuple(own[a:b])] for a, b in itertools.pairwise(bounds)]] = 1.0
            rows.append(row)
            task_of.append(task)
    return np.array(rows).reshape(len(rows), len(ranges)), np.array(task_of, dtype=np.int64)


MAX_SEGMENT_DROP = 0.05
"""The balanced goal asks no kind of request to give up more quality than this for the sake of the others."""


def eligibility(cube: ScoreCube, limits: Limits) -> NDArray[np.bool_]:
    """Models that may be proposed per range: seen on the learning half, and countable on the other one; KEEP always.

    Of the proving half only numbers of requests and labels are read. Where cost is unknown no change can be proposed.
    """
    ranges = ranges_of(cube)
    spans = tuple(replace(cube.segments[each[0]], last=cube.segments[each[-1]].last) for each in ranges)
    learn, both = (support(cube.cells, cube.nuisances, spans, learning=learning) for learning in (True, False))
    halves = (
        (learn.requests, learn.labelled),
        (both.requests - learn.requests, both.labelled - learn.labelled),
    )
    shared = np.logical_and.reduce([(n >= MIN_SENT * HALF) & (labelled >= MIN_LABELS * HALF) for n, labelled in halves])
    allowed = both.supported & shared & (learn.covered >= MIN_COVERED) & learn.has_cost
    if limits.max_slow is not None:
        allowed &= learn.has_latency
    uncapped = np.array([cap is None or cap > CAP_MARGIN for cap in limits.caps], dtype=bool)
    return np.concatenate([allowed & uncapped, np.ones((len(ranges), 1), dtype=bool)], axis=1)


def learned(cube: ScoreCube, limits: Limits) -> Learned:
    """Doubly robust sums of the learning half, pulled towards the regression's: see `pull_of`."""
    places = len(cube.segments)
    ranges = ranges_of(cube)
    member = np.zeros((places, len(ranges)))
    for place, each in enumerate(ranges):
        member[list(each), place] = 1.0
    scores, direct = (np.einsum("jsao,sr->jrao", values[LEARN, :places], member, optimize=True) for values in (cube.scores, cube.direct))
    requests = cube.requests[LEARN, :places] @ member
    eligible = eligibility(cube, limits)
    by_cluster = scores.copy()
    for outcome in range(len(OUTCOMES)):
        correction = scores[:, :, :-1, outcome] - direct[:, :, :-1, outcome]
        pull = pull_of(
            correction, requests, scores[:, :, -1, outcome].sum(axis=0), eligible[:, :-1] & (np.arange(len(ranges)) < places)[:, None]
        )
        by_cluster[:, :, :-1, outcome] = direct[:, :, :-1, outcome] + pull * correction
    keep = scores[:, :places, -1]
    tau = float(keep[..., QUALITY].sum()) / max(float(keep[..., SUCCESS].sum()), 1e-300)
    margin = scores[..., QUALITY] - tau * scores[..., SUCCESS]
    total = float(cube.requests[LEARN].sum())
    partitions, task_of = partitions_of(ranges, [segment.task for segment in cube.segments])
    return Learned(
        ranges=ranges,
        partitions=partitions,
        task_of=task_of,
        sums=by_cluster.sum(axis=0),
        rest=cube.scores[LEARN, places:, cube.keep].sum(axis=(0, 1)),
        requests=total,
        quality_error=_cluster_error(margin - margin[:, :, -1:], requests),
        success_error=np.maximum(
            _cluster_error(scores[..., SUCCESS] - scores[:, :, -1:, SUCCESS], requests),
            member_error(np.sqrt(cube.failure_variance[0]), member),
        ),
        eligible=eligible,
        share=member.T @ cube.learn.requests / max(total, 1.0),
        weight=requests.sum(axis=0) / max(total, 1.0),
        by_cluster=by_cluster,
    )


def member_error(error: Floats, member: Floats) -> Floats:
    """Of ranges, from that of their segments, which are independent."""
    joined: Floats = np.sqrt(member.T @ error**2)
    return joined


def _cluster_error(sums: Floats, requests: Floats) -> Floats:
    """Standard error of totals by (segment, action) from (cluster, segment, action), given the requests of each cluster."""
    n = requests.sum(axis=0)
    mean = sums.sum(axis=0) / np.maximum(n, 1e-300)[:, None]
    clusters = np.maximum((requests > 0).sum(axis=0), 2)
    deviation = sums - mean * requests[:, :, None]
    error: Floats = np.sqrt((clusters / (clusters - 1))[:, None] * (deviation**2).sum(axis=0))
    return error


def pull_of(correction: Floats, requests: Floats, keep: Floats, eligible: NDArray[np.bool_]) -> Floats:
    """How much of the doubly robust correction is believed, by (segment, model): B = t2 / (t2 + se2), empirical Bayes.

    Learning uses direct + B (doubly robust - direct). t2, how far the regression is truly off, is the mean of
    (correction^2 - se^2) over eligible pairs, weighted by requests and never negative, on the scale of the segment's sum
    today (Efron and Morris 1973, JASA 68:117). Learning from raw scores would chase their noise.
    """
    n = np.maximum(requests.sum(axis=0), 1e-300)[:, None]
    scale = np.where(np.abs(keep)[:, None] > 0, np.abs(keep)[:, None], 1.0)
    relative = correction.sum(axis=0) / scale
    error = _cluster_error(correction, requests) / scale
    pairs = eligible * n
    spread = max(float((pairs * (relative**2 - error**2)).sum() / max(float(pairs.sum()), 1e-300)), 0.0)
    pull: Floats = spread / np.maximum(spread + error**2, 1e-300)
    return pull


def utility(learnt: Learned, goal: Goal, weights: Weights) -> Floats:
    """The goal's contribution by (segment, action), as a share of today's total; larger is better.

    cost: -cost; speed: -latency; quality: quality; balanced: all three by their weights.
    """
    today = learnt.today
    cost = -learnt.sums[..., COST] / max(float(today[COST]), 1e-300)
    speed = -learnt.sums[..., LATENCY] / max(float(today[LATENCY]), 1e-300)
    quality = _quality_margin(learnt, learnt.quality_today)
    if goal == "cost":
        return cost
    if goal == "speed":
        return speed
    if goal == "quality":
        return quality
    combined: Floats = weights.cost * cost + weights.quality * quality + weights.speed * speed * float(today[LATENCY] > 0)
    return combined


def _quality_margin(learnt: Learned, floor: float) -> Floats:
    today = learnt.today
    margin: Floats = (learnt.sums[..., QUALITY] - floor * learnt.sums[..., SUCCESS]) / max(float(floor * today[SUCCESS]), 1e-300)
    return margin


TradeOff = tuple[float, float, float]


def sweep(learnt: Learned, gain: Floats, *, by_cost: bool, slow: bool, at: TradeOff | None = None) -> list[Found]:
    """Every policy that is best for some price of quality (of cost, for the quality goal), mark-down and price of slowness.

    By Lagrange's rule these are the policies on the convex frontier. Every range that leaves KEEP pays MIN_BENEFIT, so a
    rule that adds less is not written, and neighbours join unless cutting them apart is worth it. `at`: this trade-off alone.
    """
    today = learnt.today
    base = _quality_margin(learnt, learnt.quality_today)
    error = learnt.quality_error / max(float(learnt.quality_today * today[SUCCESS]), 1e-300)
    slowness = (learnt.sums[..., SLOW] - learnt.sums[..., SUCCESS]) / max(learnt.requests, 1.0)
    cost = learnt.sums[..., COST] / max(float(today[COST]), 1e-300)
    fee = np.full(gain.shape[1], MIN_BENEFIT)
    fee[-1] = 0.0
    found: dict[Found, None] = {}
    for kappa, slow_price, price in trade_offs(slow=slow) if at is None else (at,):
        marked = base - kappa * error
        worth = marked - price * cost if by_cost else gain + price * marked
        worth = np.where(learnt.eligible, worth - slow_price * slowness - fee, -np.inf)
        found.setdefault(_best(learnt, worth))
    return list(found)


def trade_offs(*, slow: bool) -> list[TradeOff]:
    """All that a sweep tries: mark-down of quality, price of slowness, price of quality (of cost)."""
    return list(itertools.product(KAPPAS, SLOW_PRICES if slow else SLOW_PRICES[:1], PRICES.tolist()))


def _best(learnt: Learned, worth: Floats) -> Found:
    """The best cut of every task into ranges, and the best action of each range."""
    # Ties go to KEEP, the last action.
    arm = worth.shape[1] - 1 - worth[:, ::-1].argmax(axis=1)
    value = learnt.partitions @ worth[np.arange(len(arm)), arm]
    chosen: list[int] = []
    for task in np.unique(learnt.task_of):
        own = np.flatnonzero(learnt.task_of == task)
        chosen += np.flatnonzero(learnt.partitions[own[value[own].argmax()]]).tolist()
    return Found(tuple(chosen), tuple(int(arm[place]) for place in chosen))


def programme(learnt: Learned, gain: Floats, limits: Limits, *, floor: float, kappa: float, max_cost: float | None) -> Found | None:
    """The best policy under linear limits as an integer programme; None when no policy was found that meets them.

    max sum gain x, x in {0, 1} by range and action, every segment in one chosen range, sum (SQ - floor S - kappa se) x >= 0,
    sum cost x <= max_cost n, and for each capped model its own traffic plus what KEEP sends it <= cap - CAP_MARGIN.
    """
    ranges, actions = gain.shape
    size = ranges * actions
    fee = np.full_like(gain, MIN_BENEFIT)
    fee[:, -1] = 0.0
    margin = learnt.sums[..., QUALITY] - floor * learnt.sums[..., SUCCESS] - kappa * learnt.quality_error
    rows = [-margin.reshape(size) / learnt.requests]
    most = [_rest_margin(learnt, floor) / learnt.requests]
    if max_cost is not None:
        scale = max(float(learnt.today[COST]), 1e-300)
        rows.append(learnt.sums[..., COST].reshape(size) / scale)
        most.append((max_cost * learnt.requests - learnt.rest[COST]) / scale)
    for arm, cap in enumerate(limits.caps):
        if cap is not None:
            rows.append(traffic_of(learnt, arm).reshape(size))
            most.append(cap - CAP_MARGIN)
    allowed = np.flatnonzero(learnt.eligible.reshape(size))
    covers = covering(learnt, actions)[:, allowed]
    cost = (fee - gain).reshape(size)[allowed]
    chosen = whole_programme(cost, np.array(rows)[:, allowed], np.array(most), covers, allowed % actions)
    if chosen is None:
        return None
    picked = allowed[chosen]
    return Found(tuple(int(place) for place in picked // actions), tuple(int(arm) for arm in picked % actions))


def whole_programme(cost: Floats, rows: Floats, most: Floats, covers: Floats, arm: Ints) -> Ints | None:
    """Which x in {0, 1} minimise cost x with rows x <= most and covers x = 1: branch and bound over HiGHS' linear programmes.

    Branches on which action (`arm`, by column) a segment takes, then on columns; the most promising branch first, once a dive
    has found an answer (Land and Doig 1960, Econometrica 28:497). Few rows couple the segments, so a linear programme's corner
    is whole in all but as many of them. SciPy's `milp` is not used: HiGHS' integer solver writes to standard output, whatever
    it is told, and its limit in seconds makes answers depend on how busy the machine is. Stops after NODES, or where no
    branch can be better by more than GAP.
    """
    best: Ints | None = None
    value = math.inf
    ones = np.ones(covers.shape[0])
    open_: list[tuple[float, Floats]] = [(-math.inf, np.ones(len(cost)))]
    for _ in range(NODES):
        place = len(open_) - 1 if best is None else int(np.argmin([bound for bound, _ in open_]))
        _, high = open_.pop(place)
        solved = linprog(cost, rows, most, covers, ones, bounds=[(0.0, float(each)) for each in high], method="highs-ds")
        reached = math.inf if solved.status != 0 or solved.fun is None else float(solved.fun)
        if reached < value - (GAP * abs(value) if best is not None else 0.0):
            x = np.asarray(solved.x, dtype=np.float64)
            split = _split(x, covers, arm)
            if split is None:
                best, value = np.flatnonzero(x > 0.5), reached
                bound = reached - GAP * abs(reached)
                open_ = [branch for branch in open_ if branch[0] < bound]
            else:
                open_ += [(reached, high * ~without) for without in split]
        if not open_:
            break
    return best


def _split(x: Floats, covers: Floats, arm: Ints) -> tuple[NDArray[np.bool_], NDArray[np.bool_]] | None:
    """Columns to forbid in each of two branches, the more promising last; None when x is whole."""
    by_action = np.stack([covers @ (x * (arm == action)) for action in range(int(arm.max()) + 1)], axis=1)
    unsure = np.where((by_action > WHOLE) & (by_action < 1 - WHOLE), by_action, 0.0)
    segment, action = np.unravel_index(int(unsure.argmax()), unsure.shape)
    if unsure[segment, action] > 0.0:
        touches = covers[int(segment)] > 0
        return touches & (arm == action), touches & (arm != action)
    fraction = np.where((x > WHOLE) & (x < 1 - WHOLE), x, 0.0)
    column = int(fraction.argmax())
    if fraction[column] == 0.0:
        return None
    this = np.arange(len(x)) == column
    overlaps = covers.T @ covers[:, column] > 0
    return this, overlaps & ~this


def covering(learnt: Learned, actions: int) -> Floats:
    """(segment, range x action): 1 where the range holds the segment."""
    member = np.zeros((learnt.segments, len(learnt.ranges)))
    for place, each in enumerate(learnt.ranges):
        member[list(each), place] = 1.0
    covers: Floats = np.repeat(member, actions, axis=1)
    return covers


def _rest_margin(learnt: Learned, floor: float) -> float:
    return float(learnt.rest[QUALITY] - floor * learnt.rest[SUCCESS])


def traffic_of(learnt: Learned, arm: int) -> Floats:
    """Share of all requests that each (segment, action) sends to a model."""
    sent = np.zeros((len(learnt.weight), learnt.share.shape[1] + 1))
    sent[:, arm] = learnt.weight
    sent[:, -1] = learnt.share[:, arm]
    return sent


def within_caps(learnt: Learned, found: Found, limits: Limits) -> bool:
    """Whether no model gets more traffic than its cap."""
    return all(
        cap is None or float(traffic_of(learnt, arm)[list(found.ranges), list(found.arms)].sum()) <= cap - CAP_MARGIN + 1e-9
        for arm, cap in enumerate(limits.caps)
    )


def policies(learnt: Learned, limits: Limits, goal: Goal, weights: Weights) -> list[Found]:
    """All policies that some trade-off recommends."""
    if goal == "balanced":
        learnt = replace(learnt, eligible=learnt.eligible & gentle(learnt))
    gain = utility(learnt, goal, weights)
    slow, by_cost = limits.max_slow is not None, goal == "quality"
    found = sweep(learnt, gain, by_cost=by_cost, slow=slow)
    for left_alone in heavy_segments(learnt, gain):
        found += sweep(left_alone, gain, by_cost=by_cost, slow=slow)
    if limits.has_caps:
        floor = limits.min_quality if limits.min_quality is not None else learnt.quality_today - limits.max_quality_drop
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


def judged_apart(learnt: Learned) -> Learned:
    """The same, with joined segments open only to models that can be judged in each of them."""
    apart = np.stack([learnt.eligible[list(each)].all(axis=0) for each in learnt.ranges])
    return replace(learnt, eligible=apart)


def ladders(learnt: Learned, found: list[Found], gain: Floats, limits: Limits) -> list[Found]:
    """Parts of some of the policies: their moves one by one, most gain per risk first, the rest left as it is.

    Between today and a bold policy the sweep may know nothing; where data are few, a part of the moves can still be
    proven. Risk: variance of quality and of completion, each on the scale of its allowance.
    """
    keep = learnt.sums.shape[1] - 1
    allowance = max(limits.max_quality_drop, 0.005) * float(learnt.today[SUCCESS])
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


def gentle(learnt: Learned) -> NDArray[np.bool_]:
    """Actions whose predicted quality is within MAX_SEGMENT_DROP of today's in their own segment."""
    quality = learnt.sums[..., QUALITY] / np.maximum(learnt.sums[..., SUCCESS], 1e-300)
    kept: NDArray[np.bool_] = quality >= quality[:, -1:] - MAX_SEGMENT_DROP
    return kept


def ceiling_of(learnt: Learned, limits: Limits) -> float | None:
    """Most that a request may cost, from the user's ceiling and today's cost."""
    ceilings = [limits.max_cost] if limits.max_cost is not None else []
    if limits.keeps_cost:
        ceilings.append(float(learnt.today[COST]) / max(learnt.requests, 1.0))
    return min(ceilings, default=None)


def candidates(cube: ScoreCube, learnt: Learned, limits: Limits, goal: Goal, weights: Weights) -> list[Policy]:
    """Policies worth proving, safest first: each bolder one promises more.

    Ordered by z, the smallest distance of a limit in standard errors of the learning half; those below MIN_Z or with too
    little to gain are dropped, and so is whatever is bolder without promising more.
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
    return _ordered(cube, learnt, limits, goal, gain, [*filled, *(_as_found(learnt, policy) for policy in path)])


def _as_found(learnt: Learned, policy: Policy) -> Found:
    """Segment by segment."""
    return Found(tuple(range(learnt.segments)), policy.actions)


def between(learnt: Learned, path: list[Policy], gain: Floats) -> list[Found]:
    """Policies in the gaps of a path: from each one to the next bolder, their differences one by one, most gain per quality first.

    The sweep's neighbours may lie far apart, and a walk that fails at the bolder one would have to stop far short of the limit.
    """
    margin = learnt.sums[..., QUALITY] - learnt.quality_today * learnt.sums[..., SUCCESS]
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
    today = _statistics(cube, np.full(len(cube.segments), cube.keep))
    best: dict[tuple[int, ...], Policy] = {}
    for found in policies_:
        actions = found.actions(learnt)
        promised = float(gain[list(found.ranges), list(found.arms)].sum()) - base
        if actions in best or promised < MIN_GAIN[goal]:
            continue
        array = np.array(actions)
        hidden = limits.hidden_bias * moved_share(cube, array)
        places, arms = list(found.ranges), list(found.arms)
        completion_error = math.sqrt(float((learnt.success_error[places, arms] ** 2).sum())) / learnt.requests
        z = _distance(learnt, learnt.predicted(found), _statistics(cube, array), today, limits, hidden, completion_error)
        if z >= MIN_Z:
            best[actions] = Policy(actions, promised, z)
    path: list[Policy] = []
    for policy in sorted(best.values(), key=lambda each: (-each.z, each.actions)):
        if not path or policy.gain > path[-1].gain:
            path.append(policy)
    return path


def moved_share(cube: ScoreCube, actions: Ints) -> float:
    """Share of requests that a policy sends to another model than today."""
    places = np.arange(len(actions))
    sent = cube.requests[:, : len(actions)].sum(axis=0)
    moves = actions != cube.keep
    stays = cube.all.requests[places, np.minimum(actions, cube.keep - 1)]
    return float((sent - stays)[moves].sum() / max(float(cube.requests.sum()), 1e-300))


def _statistics(cube: ScoreCube, actions: Ints) -> dict[int, Statistic]:
    sums = cube.chosen(np.concatenate([actions, np.full(cube.scores.shape[1] - len(actions), cube.keep)]), LEARN)
    return {outcome: sums.mean(outcome) for outcome in (COST, LATENCY, SUCCESS, SLOW)} | {QUALITY: sums.quality()}


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
    now, n = learnt.today, learnt.requests
    quality = float(sums[QUALITY] / sums[SUCCESS])
    if limits.min_quality is None:
        margins = [(quality - hidden - learnt.quality_today + limits.max_quality_drop, chosen[QUALITY].minus(today[QUALITY]))]
    else:
        margins = [(quality - hidden - limits.min_quality, chosen[QUALITY])]
    if limits.max_slow is not None:
        # At today's own share the guard leaves MAX_SLOW_SHARE less that; see policy.proof.
        margins.append((limits.max_slow - float(sums[SLOW]) / n, chosen[SLOW].minus(today[SLOW])))
    if limits.max_cost is not None:
        margins.append(((limits.max_cost - float(sums[COST]) / n), chosen[COST]))
    if limits.keeps_cost:
        margins.append((float(now[COST] - sums[COST]) / n, chosen[COST].minus(today[COST])))
    completion = chosen[SUCCESS].minus(today[SUCCESS]).standard_error
    spare = float(sums[SUCCESS] - now[SUCCESS]) / n + MAX_COMPLETION_DROP
    distances = [margin / max(statistic.standard_error, 1e-300) for margin, statistic in margins]
    return min([*distances, spare / max(completion, completion_error, 1e-300)])
