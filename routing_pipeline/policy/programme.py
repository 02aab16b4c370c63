"""The best policy under linear limits, as an integer programme: for capacities, and for what is within reach.

Does not belong here: what the limits are, and what is known of each action (`policy.search`).
"""

from __future__ import annotations

import math

import numpy as np
import scipy
from numpy.typing import NDArray

from routing_pipeline.policy.cells import Floats, Ints
from routing_pipeline.policy.scores import ANSWERED, COST, QUALITY
from routing_pipeline.policy.search import CAP_MARGIN, MIN_BENEFIT, Found, Learned, Limits, covering, left_of, traffic_of

NODES = 60
GAP = 0.004
"""Where an integer programme may stop: so many nodes of its tree, or so near its bound."""
WHOLE = 1e-6


def programme(learnt: Learned, gain: Floats, limits: Limits, *, floor: float, kappa: float, max_cost: float | None) -> Found | None:
    """The best policy under linear limits as an integer programme; None when no policy was found that meets them.

    max sum gain x, x in {0, 1} by range and action, every segment in one chosen range, sum (SQ - floor S - kappa se) x >= 0,
    sum cost x <= max_cost n, and for each capped model or tier its own traffic plus what KEEP sends it <= cap - CAP_MARGIN.
    """
    ranges, actions = gain.shape
    size = ranges * actions
    fee = np.full_like(gain, MIN_BENEFIT)
    fee[:, -1] = 0.0
    margin = learnt.sums[..., QUALITY] - floor * learnt.sums[..., ANSWERED] - kappa * learnt.quality_error
    rows = [-margin.reshape(size) / learnt.requests]
    most = [_rest_margin(learnt, floor) / learnt.requests]
    if max_cost is not None:
        scale = max(float(learnt.today[COST]), 1e-300)
        rows.append(learnt.sums[..., COST].reshape(size) / scale)
        most.append((max_cost * learnt.counted[COST] - learnt.rest[COST]) / scale)
    for cap in limits.capped:
        rows.append(traffic_of(learnt, cap.arms).reshape(size))
        most.append(left_of(learnt, cap) - CAP_MARGIN)
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
        solved = scipy.optimize.linprog(cost, rows, most, covers, ones, bounds=[(0.0, float(each)) for each in high], method="highs-ds")
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


def _rest_margin(learnt: Learned, floor: float) -> float:
    return float(learnt.rest[QUALITY] - floor * learnt.rest[ANSWERED])
