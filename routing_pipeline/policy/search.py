"""What the learning half says of every kind of request and model, shrunk, and what a policy may do with it.

Belongs here: limits, policies as they are found, doubly robust sums pulled towards the regressions, which models may be
proposed where, what a goal is worth. Does not belong here: finding policies (`policy.candidates`, `policy.programme`), and
anything that reads an outcome of the half that proves (`policy.proof`).

A policy gives every segment one action: a model, or KEEP. All outcomes are sums over segments, and quality at least tau
is sum (SQ - tau S) >= 0, which is a sum as well, so each trade-off is solved segment by segment.
"""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import cached_property

import numpy as np
from numpy.typing import NDArray

from routing_pipeline.parameters import Goal, Weights
from routing_pipeline.policy.cells import Floats, Ints
from routing_pipeline.policy.known_parts import Known
from routing_pipeline.policy.scores import ANSWERED, COST, LATENCY, LEARN, QUALITY, SUCCESS, ScoreCube
from routing_pipeline.policy.support import MIN_COVERED, MIN_LABELS, MIN_SENT, support

HALF = 0.4
"""Of what a model needs to be judged over the window, each half of the sessions must hold so much."""
MIN_BENEFIT = 0.0005
"""Gain, as a share of today's value of the goal, below which a segment is left as it is."""
MAX_COMPLETION_DROP = 0.005
MAX_SLOW_SHARE = 0.06
CAP_MARGIN = 0.004


@dataclass(frozen=True)
class Cap:
    """Models (by place) that may get at most so much of all requests together; of one tier, or one model alone."""

    arms: tuple[int, ...]
    most: float
    tier: str | None = None

    def named(self, models: Sequence[str]) -> str:
        """For readers."""
        return models[self.arms[0]] if self.tier is None else f"models of tier {self.tier}"


@dataclass(frozen=True)
class Limits:
    """What must hold at the safe end of the intervals. None: no such limit.

    Both limits of quality hold: it may fall by max_quality_drop against today, and never below min_quality, the absolute floor. max_cost: USD per
    request; keeps_cost: not above today's cost. max_slow: share of requests slower than the threshold in the cells. caps: most
    traffic of each model, share; tier_caps: of the models of a tier together. hidden_bias: how much unlogged difficulty may flatter the quality of moved requests, on
    average; the quality limit must hold even then. needs: outcomes that must be known of today's answers to what is moved.
    max_task_drop: by how much the mean quality of any one task may be expected to fall, 1: by any; prove_per_task: at the safe end.
    """

    min_quality: float | None
    max_quality_drop: float
    max_cost: float | None
    keeps_cost: bool
    max_slow: float | None
    caps: tuple[float | None, ...]
    hidden_bias: float = 0.0
    needs: tuple[Known, ...] = ("cost", "quality")
    max_task_drop: float = 1.0
    prove_per_task: bool = False
    tier_caps: tuple[Cap, ...] = ()

    @property
    def capped(self) -> tuple[Cap, ...]:
        """Everything whose traffic is limited: models first, then tiers."""
        return (*(Cap((arm,), most) for arm, most in enumerate(self.caps) if most is not None), *self.tier_caps)

    @property
    def has_caps(self) -> bool:
        """Whether the traffic of any model or tier is limited."""
        return bool(self.capped)

    def floor(self, today: float) -> float:
        """Least mean quality (0..1), given today's: the tighter of the two limits, so that neither ever replaces the other."""
        least = today - self.max_quality_drop
        return least if self.min_quality is None else max(self.min_quality, least)


@dataclass(frozen=True)
class Learned:
    """What the learning half says: sums by (range, action, outcome), shrunk; the last action is KEEP.

    A range is one segment or several neighbours of a task: a model too rarely tried in each may be judged over all of
    them. The first ranges are the segments themselves. partitions: ways to cut a task into ranges, as (partition, range)
    membership; task_of: the task of each partition. rest: KEEP's sums of what no rule reaches; counted: by outcome, the requests
    of which it is known. quality_error: standard error of
    each action's sum against KEEP's; success_error: the same, but what the other half must expect (`scores.failure_variance`). eligible: actions that the logs can judge. share: today's share of
    all requests by (range, model); weight: by range. by_cluster: the sums by cluster, for resampling.
    """

    ranges: tuple[tuple[int, ...], ...]
    partitions: Floats
    task_of: Ints
    sums: Floats
    rest: Floats
    requests: float
    counted: Floats
    quality_error: Floats
    success_error: Floats
    eligible: NDArray[np.bool_]
    share: Floats
    weight: Floats
    by_cluster: Floats
    names: tuple[str, ...] = ()
    """Task of each segment, by name."""
    unreached: Floats | None = None
    """Of all requests, what each model gets where no rule reaches."""

    # Asked tens of thousands of times in one search.
    @cached_property
    def segments(self) -> int:
        """How many segments there are."""
        return sum(len(each) == 1 for each in self.ranges)

    @cached_property
    def today(self) -> Floats:
        """Sums under KEEP everywhere, by outcome."""
        total: Floats = self.sums[: self.segments, -1].sum(axis=0) + self.rest
        return total

    @cached_property
    def quality_today(self) -> float:
        """Mean quality of successes."""
        return float(self.today[QUALITY] / max(self.today[ANSWERED], 1e-300))

    @cached_property
    def cuts(self) -> tuple[Ints, Ints]:
        """Of the partitions, which stand task by task: where each task's begin, and the place of its task for each of them."""
        begins = np.r_[True, np.diff(self.task_of) != 0]
        return np.flatnonzero(begins), np.cumsum(begins) - 1

    @cached_property
    def places_of_task(self) -> dict[str, Ints]:
        """Segments of each named task."""
        names = np.array(self.names)
        return {name: np.flatnonzero(names == name) for name in dict.fromkeys(self.names)}

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

    Of the proving half only numbers of requests and labels are read, and no probability: where the router's own are logged they follow
    what the answers follow, and choosing by the half that proves would choose what looks good there. Where cost is unknown no change can be proposed, nor where
    today's answers are of models that nobody scores (`policy.known_parts`).
    """
    ranges = ranges_of(cube)
    spans = tuple(replace(cube.segments[each[0]], last=cube.segments[each[-1]].last) for each in ranges)
    learn, both = (support(cube.cells, cube.nuisances, spans, learning=learning) for learning in (True, False))
    halves = (
        (learn.requests, learn.labelled),
        (both.requests - learn.requests, both.labelled - learn.labelled),
    )
    shared = np.logical_and.reduce([(n >= MIN_SENT * HALF) & (labelled >= MIN_LABELS * HALF) for n, labelled in halves])
    enough = (both.requests >= MIN_SENT) & (both.labelled >= MIN_LABELS) & (learn.effective >= learn.least_effective * HALF)
    allowed = enough & shared & (learn.covered >= MIN_COVERED) & learn.has_cost
    if limits.max_slow is not None:
        allowed &= learn.has_latency
    left = cube.left(limits.needs)
    allowed &= ~np.array([left[list(each)].any() for each in ranges], dtype=bool)[:, None]
    uncapped = np.ones(len(cube.models), dtype=bool)
    for cap in limits.capped:
        uncapped[list(cap.arms)] &= cap.most > CAP_MARGIN
    return np.concatenate([allowed & uncapped, np.ones((len(ranges), 1), dtype=bool)], axis=1)


def learned(cube: ScoreCube, limits: Limits) -> Learned:
    """Doubly robust sums of the learning half, pulled towards the regressions' (`pulled`), with errors no smaller than propensities let expect."""
    places = len(cube.segments)
    ranges = ranges_of(cube)
    member = np.zeros((places, len(ranges)))
    for place, each in enumerate(ranges):
        member[list(each), place] = 1.0
    scores, direct = (np.einsum("jsao,sr->jrao", values[LEARN, :places], member, optimize=True) for values in (cube.scores, cube.direct))
    requests = cube.requests[LEARN, :places] @ member
    eligible = eligibility(cube, limits)
    by_cluster = pulled(scores, direct, requests, eligible[:, :-1] & (np.arange(len(ranges)) < places)[:, None])
    keep = scores[:, :places, -1]
    tau = float(keep[..., QUALITY].sum()) / max(float(keep[..., ANSWERED].sum()), 1e-300)
    margin = scores[..., QUALITY] - tau * scores[..., ANSWERED]
    completed = np.einsum("jsa,sr->jra", cube.completion.sums[LEARN, :places], member, optimize=True)
    by_cluster[..., SUCCESS] = completed
    total = float(cube.requests[LEARN].sum())
    partitions, task_of = partitions_of(ranges, [segment.task for segment in cube.segments])
    return Learned(
        ranges=ranges,
        partitions=partitions,
        task_of=task_of,
        sums=by_cluster.sum(axis=0),
        rest=cube.scores[LEARN, places:, cube.keep].sum(axis=(0, 1)),
        requests=total,
        counted=np.maximum(cube.counted[LEARN].sum(axis=(0, 1)), 1.0),
        quality_error=np.maximum(
            _cluster_error(margin - margin[:, :, -1:], requests), member_error(np.sqrt(cube.quality_variance[0]), member)
        ),
        success_error=np.maximum(
            _cluster_error(completed - completed[:, :, -1:], requests),
            member_error(np.sqrt(cube.completion.variance[0] + cube.completion.borrowed[0] ** 2), member),
        ),
        eligible=eligible,
        share=member.T @ cube.learn.requests / max(total, 1.0),
        weight=requests.sum(axis=0) / max(total, 1.0),
        by_cluster=by_cluster,
        names=tuple(segment.task_type for segment in cube.segments),
        unreached=cube.unreached_share,
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


def pulled(scores: Floats, direct: Floats, requests: Floats, eligible: NDArray[np.bool_]) -> Floats:
    """Sums whose differences from KEEP's are the regressions', corrected as far as `pull_of` believes it; KEEP's are what happened.

    Predictions stand on both sides of the difference that is decided about. Held against what happened, a prediction would make any
    move look good where today's answers were unlucky.

    Args:
        scores: by (cluster, range, action, outcome), doubly robust, KEEP's last.
        direct: the same from the regressions alone.
        requests: (cluster, range).
        eligible: (range, model), pairs that tell how far regressions are off.
    """
    found = scores.copy()
    for outcome in range(scores.shape[3]):
        happened = scores[:, :, -1:, outcome]
        expected = direct[:, :, :-1, outcome] - direct[:, :, -1:, outcome]
        correction = scores[:, :, :-1, outcome] - happened - expected
        pull = pull_of(correction, requests, happened[..., 0].sum(axis=0), eligible)
        found[:, :, :-1, outcome] = happened + expected + pull * correction
    return found


def pull_of(correction: Floats, requests: Floats, keep: Floats, eligible: NDArray[np.bool_]) -> Floats:
    """How much of the doubly robust correction is believed, by (segment, model): B = t2 / (t2 + se2), empirical Bayes.

    Learning uses the regressions' difference from KEEP + B (doubly robust difference - that). t2, how far the regression is truly off, is the mean of
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
    quality = quality_margin(learnt, learnt.quality_today)
    if goal == "cost":
        return cost
    if goal == "speed":
        return speed
    if goal == "quality":
        return quality
    combined: Floats = weights.cost * cost + weights.quality * quality + weights.speed * speed * float(today[LATENCY] > 0)
    return combined


def quality_margin(learnt: Learned, floor: float) -> Floats:
    """Quality above a floor by (range, action), as a share of all quality at that floor today."""
    today = learnt.today
    margin: Floats = (learnt.sums[..., QUALITY] - floor * learnt.sums[..., ANSWERED]) / max(float(floor * today[ANSWERED]), 1e-300)
    return margin


def covering(learnt: Learned, actions: int) -> Floats:
    """(segment, range x action): 1 where the range holds the segment."""
    member = np.zeros((learnt.segments, len(learnt.ranges)))
    for place, each in enumerate(learnt.ranges):
        member[list(each), place] = 1.0
    covers: Floats = np.repeat(member, actions, axis=1)
    return covers


def traffic_of(learnt: Learned, arms: tuple[int, ...]) -> Floats:
    """Share of all requests that each (segment, action) sends to any of these models."""
    sent = np.zeros((len(learnt.weight), learnt.share.shape[1] + 1))
    sent[:, list(arms)] = learnt.weight[:, None]
    sent[:, -1] = learnt.share[:, list(arms)].sum(axis=1)
    return sent


def left_of(learnt: Learned, cap: Cap) -> float:
    """What a cap leaves for the traffic that rules reach."""
    return cap.most - (0.0 if learnt.unreached is None else float(learnt.unreached[list(cap.arms)].sum()))


def within_caps(learnt: Learned, found: Found, limits: Limits) -> bool:
    """Whether no model and no tier gets more traffic than its cap."""
    places, actions = list(found.ranges), list(found.arms)
    return all(
        float(traffic_of(learnt, cap.arms)[places, actions].sum()) <= left_of(learnt, cap) - CAP_MARGIN + 1e-9 for cap in limits.capped
    )


def judged_apart(learnt: Learned) -> Learned:
    """The same, with joined segments open only to models that can be judged in each of them."""
    apart = np.stack([learnt.eligible[list(each)].all(axis=0) for each in learnt.ranges])
    return replace(learnt, eligible=apart)


def gentle(learnt: Learned) -> NDArray[np.bool_]:
    """Actions whose predicted quality is within MAX_SEGMENT_DROP of today's in their own segment."""
    quality = learnt.sums[..., QUALITY] / np.maximum(learnt.sums[..., ANSWERED], 1e-300)
    kept: NDArray[np.bool_] = quality >= quality[:, -1:] - MAX_SEGMENT_DROP
    return kept


def ceiling_of(learnt: Learned, limits: Limits) -> float | None:
    """Most that a request may cost, from the user's ceiling and today's cost."""
    ceilings = [limits.max_cost] if limits.max_cost is not None else []
    if limits.keeps_cost:
        ceilings.append(float(learnt.today[COST] / learnt.counted[COST]))
    return min(ceilings, default=None)


def today_breaks(learnt: Learned, limits: Limits) -> bool:
    """Whether today's routing itself breaks a limit, as the learning half has it: then rules that keep them all need not improve the goal."""
    is_dear = limits.max_cost is not None and float(learnt.today[COST]) > limits.max_cost * float(learnt.counted[COST])
    is_poor = limits.min_quality is not None and learnt.quality_today < limits.min_quality
    shares = learnt.share[: learnt.segments].sum(axis=0)
    return is_dear or is_poor or any(float(shares[list(cap.arms)].sum()) > left_of(learnt, cap) for cap in limits.capped)


def moved_share(cube: ScoreCube, shares: Floats) -> float:
    """Share of requests that a policy, given as shares by (place, action), sends to another model than today."""
    of = shares[: len(cube.segments)]
    sent = cube.requests[:, : len(cube.segments)].sum(axis=0)
    moved = (of[:, :-1].sum(axis=1) * sent - (of[:, :-1] * cube.all.requests).sum(axis=1)).sum()
    return float(moved / max(float(cube.requests.sum()), 1e-300))
