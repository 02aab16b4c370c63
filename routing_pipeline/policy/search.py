"""Candidate policies, found on the learning half alone, ordered from safest to boldest.

Belongs here: shrinking estimates for learning, the sweep over trade-offs, the integer programme where capacities bind,
the order in which candidates will be proven. Does not belong here: anything that reads an outcome of the proving half
(`policy.proof` does).

A policy gives every segment one action: a model, or KEEP. All outcomes are sums over segments, and quality at least tau
is sum (SQ - tau S) >= 0, which is a sum as well, so each trade-off is solved segment by segment.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray
from scipy import sparse
from scipy.optimize import Bounds, LinearConstraint, milp

from routing_pipeline.parameters import Goal, Weights
from routing_pipeline.policy.cells import Floats, Ints
from routing_pipeline.policy.intervals import Statistic, ratio
from routing_pipeline.policy.scores import COST, LATENCY, LEARN, MIN_LABELS, MIN_SENT, OUTCOMES, QUALITY, SLOW, SUCCESS, ScoreCube

KAPPAS: tuple[float, ...] = (0.25, 0.5, 1.0)
"""How many standard errors a segment's quality is marked down while searching."""
PRICES: Floats = np.concatenate([[0.0], np.logspace(-2.0, 3.5, 67)])
"""What a relative unit of quality is worth in relative units of the goal: the sweep that traces the frontier."""
SLOW_PRICES: tuple[float, ...] = (0.0, 1.0, 5.0, 25.0)
MIN_BENEFIT = 0.001
"""Gain, as a share of today's value of the goal, below which a segment is left as it is."""
MIN_GAIN: dict[Goal, float] = {"cost": 0.01, "speed": 0.01, "quality": 0.002, "balanced": 0.01}
"""Predicted gain below which a candidate is not worth a proof."""
MIN_Z = 0.3
MAX_COMPLETION_DROP = 0.005
MAX_SLOW_SHARE = 0.06
CAP_MARGIN = 0.004
MIN_FLOOR_STEPS: Floats = np.linspace(-0.016, 0.020, 10)


@dataclass(frozen=True)
class Limits:
    """What must hold at the safe end of the intervals. None: no such limit.

    min_quality: absolute floor; else quality may fall by max_quality_drop against today. max_cost: USD per request;
    keeps_cost: not above today's cost. max_slow: share of requests slower than the threshold in the cells. caps: most
    traffic of each model, share.
    """

    min_quality: float | None
    max_quality_drop: float
    max_cost: float | None
    keeps_cost: bool
    max_slow: float | None
    caps: tuple[float | None, ...]

    @property
    def has_caps(self) -> bool:
        """Whether any model's traffic is limited."""
        return any(cap is not None for cap in self.caps)


@dataclass(frozen=True)
class Learned:
    """What the learning half says: sums by (segment, action, outcome), shrunk; the last action is KEEP.

    rest: KEEP's sums of what no rule reaches, by outcome. quality_error: standard error of each action's quality sum
    against KEEP's. eligible: actions that the logs can judge. share: today's share of all requests by (segment, model).
    by_cluster: the same sums by cluster, for resampling.
    """

    sums: Floats
    rest: Floats
    requests: float
    quality_error: Floats
    eligible: NDArray[np.bool_]
    share: Floats
    weight: Floats
    by_cluster: Floats

    @property
    def today(self) -> Floats:
        """Sums under KEEP everywhere, by outcome."""
        total: Floats = self.sums[:, -1].sum(axis=0) + self.rest
        return total

    @property
    def quality_today(self) -> float:
        """Mean quality of successes."""
        return float(self.today[QUALITY] / max(self.today[SUCCESS], 1e-300))

    def predicted(self, actions: Ints) -> Floats:
        """Sums under a policy, by outcome."""
        total: Floats = self.sums[np.arange(len(actions)), actions].sum(axis=0) + self.rest
        return total


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


MAX_SEGMENT_DROP = 0.05
"""The balanced goal asks no kind of request to give up more quality than this for the sake of the others."""


def eligibility(cube: ScoreCube, limits: Limits) -> NDArray[np.bool_]:
    """Models that may be proposed per segment: seen on the learning half, and countable on the other one; KEEP always.

    Of the proving half only numbers of requests and labels are read. Where cost is unknown no change can be proposed.
    """
    learn, both = cube.learn, cube.all
    provable = (both.requests - learn.requests >= MIN_SENT * 0.4) & (both.labelled - learn.labelled >= MIN_LABELS * 0.4)
    allowed = learn.supported & provable & learn.has_cost
    if limits.max_slow is not None:
        allowed &= learn.has_latency
    uncapped = np.array([cap is None or cap > CAP_MARGIN for cap in limits.caps], dtype=bool)
    return np.concatenate([allowed & uncapped, np.ones((len(cube.segments), 1), dtype=bool)], axis=1)


def learned(cube: ScoreCube, limits: Limits) -> Learned:
    """Doubly robust sums of the learning half, pulled towards the regression's: see `pull_of`."""
    places = len(cube.segments)
    scores, direct = cube.scores[LEARN, :places], cube.direct[LEARN, :places]
    requests = cube.requests[LEARN]
    weight = requests[:, :places].sum(axis=0)
    eligible = eligibility(cube, limits)
    by_cluster = scores.copy()
    for outcome in range(len(OUTCOMES)):
        pull = pull_of(
            scores[:, :, :-1, outcome] - direct[:, :, :-1, outcome],
            requests[:, :places],
            scores[:, :, -1, outcome].sum(axis=0),
            eligible[:, :-1],
        )
        by_cluster[:, :, :-1, outcome] = direct[:, :, :-1, outcome] + pull * (scores[:, :, :-1, outcome] - direct[:, :, :-1, outcome])
    sums = by_cluster.sum(axis=0)
    tau = sums[:, -1, QUALITY].sum() / max(float(sums[:, -1, SUCCESS].sum()), 1e-300)
    margin = scores[..., QUALITY] - tau * scores[..., SUCCESS]
    against_keep = margin - margin[:, :, -1:]
    error = _cluster_error(against_keep, requests[:, :places])
    total = float(requests.sum())
    return Learned(
        sums=sums,
        rest=cube.scores[LEARN, places:, cube.keep].sum(axis=(0, 1)),
        requests=total,
        quality_error=error,
        eligible=eligible,
        share=cube.learn.requests / max(total, 1.0),
        weight=weight / max(total, 1.0),
        by_cluster=by_cluster,
    )


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


def sweep(learnt: Learned, gain: Floats, *, by_cost: bool, slow: bool) -> list[tuple[int, ...]]:
    """Every policy that is best for some price of quality (of cost, for the quality goal), mark-down and price of slowness.

    By Lagrange's rule these are the policies on the convex frontier; a segment leaves KEEP for MIN_BENEFIT or more.
    """
    today = learnt.today
    base = _quality_margin(learnt, learnt.quality_today)
    error = learnt.quality_error / max(float(learnt.quality_today * today[SUCCESS]), 1e-300)
    slowness = learnt.sums[..., SLOW] / max(learnt.requests, 1.0) - learnt.sums[..., SUCCESS] / max(learnt.requests, 1.0)
    cost = learnt.sums[..., COST] / max(float(today[COST]), 1e-300)
    found: dict[tuple[int, ...], None] = {}
    for kappa in KAPPAS:
        marked = base - kappa * error
        for slow_price in SLOW_PRICES if slow else SLOW_PRICES[:1]:
            for price in PRICES:
                worth = marked - price * cost if by_cost else gain + price * marked
                worth = np.where(learnt.eligible, worth - slow_price * slowness, -np.inf)
                worth[:, -1] += MIN_BENEFIT
                # Ties go to KEEP, the last action.
                best = worth.shape[1] - 1 - worth[:, ::-1].argmax(axis=1)
                found.setdefault(tuple(int(action) for action in best))
    return list(found)


def programme(
    learnt: Learned, gain: Floats, limits: Limits, *, floor: float, kappa: float, max_cost: float | None
) -> tuple[int, ...] | None:
    """The best policy under linear limits as an integer programme (HiGHS); None when no policy meets them.

    max sum gain x, x in {0, 1}, one action per segment, sum (SQ - floor S - kappa se) x >= 0, sum cost x <= max_cost n,
    and for each capped model its own traffic plus what KEEP sends it <= cap - CAP_MARGIN.
    """
    segments, actions = gain.shape
    size = segments * actions
    keep_bonus = np.zeros_like(gain)
    keep_bonus[:, -1] = MIN_BENEFIT
    one = sparse.kron(sparse.eye_array(segments), np.ones((1, actions)))
    rows = [LinearConstraint(sparse.csr_array(one), 1.0, 1.0)]
    margin = learnt.sums[..., QUALITY] - floor * learnt.sums[..., SUCCESS] - kappa * learnt.quality_error
    rows.append(LinearConstraint(margin.reshape(1, size) / learnt.requests, -_rest_margin(learnt, floor) / learnt.requests, np.inf))
    if max_cost is not None:
        ceiling = max_cost * learnt.requests - learnt.rest[COST]
        scale = max(float(learnt.today[COST]), 1e-300)
        rows.append(LinearConstraint(learnt.sums[..., COST].reshape(1, size) / scale, -np.inf, ceiling / scale))
    for arm, cap in enumerate(limits.caps):
        if cap is not None:
            rows.append(LinearConstraint(traffic_of(learnt, arm).reshape(1, size), -np.inf, cap - CAP_MARGIN))
    solved = milp(
        -(gain + keep_bonus).reshape(size),
        constraints=rows,
        integrality=np.ones(size),
        bounds=Bounds(0.0, learnt.eligible.reshape(size).astype(np.float64)),
        options={"time_limit": 1.0, "mip_rel_gap": 0.002},
    )
    if solved.x is None:
        return None
    return tuple(int(action) for action in np.asarray(solved.x).reshape(segments, actions).argmax(axis=1))


def _rest_margin(learnt: Learned, floor: float) -> float:
    return float(learnt.rest[QUALITY] - floor * learnt.rest[SUCCESS])


def traffic_of(learnt: Learned, arm: int) -> Floats:
    """Share of all requests that each (segment, action) sends to a model."""
    sent = np.zeros((len(learnt.weight), learnt.share.shape[1] + 1))
    sent[:, arm] = learnt.weight
    sent[:, -1] = learnt.share[:, arm]
    return sent


def within_caps(learnt: Learned, actions: Ints, limits: Limits) -> bool:
    """Whether no model gets more traffic than its cap."""
    where = np.arange(len(actions))
    return all(
        cap is None or float(traffic_of(learnt, arm)[where, actions].sum()) <= cap - CAP_MARGIN + 1e-9
        for arm, cap in enumerate(limits.caps)
    )


def policies(cube: ScoreCube, learnt: Learned, limits: Limits, goal: Goal, weights: Weights) -> list[tuple[int, ...]]:
    """All distinct policies that some trade-off recommends."""
    if goal == "balanced":
        learnt = replace(learnt, eligible=learnt.eligible & gentle(learnt))
    gain = utility(learnt, goal, weights)
    slow = limits.max_slow is not None
    found = sweep(learnt, gain, by_cost=goal == "quality", slow=slow)
    if goal != "quality" and limits.keeps_cost:
        found += sweep(learnt, gain, by_cost=True, slow=slow)
    if limits.has_caps:
        floor = limits.min_quality if limits.min_quality is not None else learnt.quality_today - limits.max_quality_drop
        ceiling = ceiling_of(learnt, limits)
        for kappa in KAPPAS:
            for step in MIN_FLOOR_STEPS:
                solved = programme(learnt, gain, limits, floor=floor + float(step), kappa=kappa, max_cost=ceiling)
                if solved is not None:
                    found.append(solved)
        found = [actions for actions in found if within_caps(learnt, np.array(actions), limits)]
    keep = (cube.keep,) * len(cube.segments)
    return [actions for actions in dict.fromkeys(found) if actions != keep]


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
    keep = np.full(len(cube.segments), cube.keep)
    base = gain[np.arange(len(keep)), keep].sum()
    today = _statistics(cube, keep)
    found = []
    for actions in policies(cube, learnt, limits, goal, weights):
        array = np.array(actions)
        promised = float(gain[np.arange(len(array)), array].sum() - base)
        if promised < MIN_GAIN[goal]:
            continue
        z = _distance(learnt, array, _statistics(cube, array), today, limits)
        if z >= MIN_Z:
            found.append(Policy(actions, promised, z))
    found.sort(key=lambda each: (-each.z, each.actions))
    path: list[Policy] = []
    for policy in found:
        if not path or policy.gain > path[-1].gain:
            path.append(policy)
    return path


def _statistics(cube: ScoreCube, actions: Ints) -> dict[int, Statistic]:
    scores, n = cube.chosen(np.concatenate([actions, np.full(cube.scores.shape[1] - len(actions), cube.keep)]), LEARN)
    found = {outcome: ratio(scores[:, outcome], n) for outcome in (COST, LATENCY, SUCCESS, SLOW)}
    return found | {QUALITY: ratio(scores[:, QUALITY], scores[:, SUCCESS])}


def _distance(learnt: Learned, actions: Ints, chosen: dict[int, Statistic], today: dict[int, Statistic], limits: Limits) -> float:
    """Smallest predicted margin over its standard error, over all limits."""
    sums, now, n = learnt.predicted(actions), learnt.today, learnt.requests
    quality = float(sums[QUALITY] / sums[SUCCESS])
    if limits.min_quality is None:
        margins = [(quality - learnt.quality_today + limits.max_quality_drop, chosen[QUALITY].minus(today[QUALITY]))]
    else:
        margins = [(quality - limits.min_quality, chosen[QUALITY])]
    margins.append((float(sums[SUCCESS] - now[SUCCESS]) / n + MAX_COMPLETION_DROP, chosen[SUCCESS].minus(today[SUCCESS])))
    if limits.max_slow is not None:
        # At today's own share the guard leaves MAX_SLOW_SHARE less that; see policy.proof.
        margins.append((limits.max_slow - float(sums[SLOW]) / n, chosen[SLOW].minus(today[SLOW])))
    if limits.max_cost is not None:
        margins.append(((limits.max_cost - float(sums[COST]) / n), chosen[COST]))
    if limits.keeps_cost:
        margins.append((float(now[COST] - sums[COST]) / n, chosen[COST].minus(today[COST])))
    return min(margin / max(statistic.standard_error, 1e-300) for margin, statistic in margins)
