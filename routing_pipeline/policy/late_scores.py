"""The last hours of a window, whose answers are not all scored yet.

Belongs here: telling from how many answers are scored, hour by hour, from when on scores are still missing. Does not belong here: what is
done about it (`policy.counting`).

Scores come after answers, the quick ones first: a user's thumb before a reviewer's verdict, a failed check before a passed one. What is
scored of the last hours is then not like what will be. Weights by the chance of being scored by now do not help where who is scored by
now depends on the answer. So scores of such hours do not count; their requests, costs and times do.
"""

from __future__ import annotations

import itertools
import math
from dataclasses import dataclass

import ibis
import numpy as np

from routing_pipeline.clock import SECONDS_PER_HOUR, hour_of
from routing_pipeline.stats.inference import Floats

AGES_H: tuple[int, ...] = (0, 2, 4, 8, 12, 18, 24, 36, 48, 60, 72)
"""Ages between which answers are held against the older ones."""
MOST = 1 / 3
"""Of the window's hours, that may count as too young."""
BLOCK_H = 6
LEAST_HOURS = 24
LEAST_SCORED = 300
LEAST_EXPECTED = 10.0
"""Scores to be expected of a stretch, below which it says nothing by itself."""
FEWER = 0.9
BELOW = 3.0
"""A stretch is scored less where it has so small a share of the scores to expect, and lies so many standard errors below."""


@dataclass(frozen=True)
class LateScores:
    """From when on answers are scored less, and the shares that are scored before and after."""

    from_s: float
    usual: float
    late: float
    scores: int
    """Scores of answers from then on."""


def late_scores(final: ibis.Table) -> LateScores | None:
    """The tail of a window that is scored less than the rest; None where there is none, or too little to tell.

    Args:
        final: final requests; one aggregate of them by hour is read.
    """
    answered = final.filter(final.status == "success")
    hours = answered.group_by(hour=hour_of(answered.started_s)).agg(n=answered.count(), scored=answered.quality.count())
    table = hours.to_pyarrow()
    if table.num_rows == 0:
        return None
    hour, n, scored = (table[name].to_numpy().astype(np.float64) for name in ("hour", "n", "scored"))
    return tail_of(hour, n, scored)


def tail_of(hour: Floats, n: Floats, scored: Floats) -> LateScores | None:
    """From answers and scored answers by hour since 1970.

    Stretches of growing age are held against the older hours, whose own spread between blocks of hours is the yardstick (a binomial with
    overdispersion). The tail reaches to the oldest stretch that is scored less, as long as none between is scored as usual; few scores,
    which cannot tell, do not end it.
    """
    age = hour.max() - hour
    span = float(age.max()) + 1.0
    oldest = max((edge for edge in AGES_H if edge <= span * MOST), default=0)
    body = age >= oldest
    if span < LEAST_HOURS or oldest == 0 or scored[body].sum() < LEAST_SCORED:
        return None
    usual = float(scored[body].sum() / n[body].sum())
    if usual >= 1.0:
        spread = 1.0
    else:
        block = (age[body] // BLOCK_H).astype(np.int64)
        of, seen = np.bincount(block, n[body]), np.bincount(block, scored[body])
        has = of * usual >= LEAST_EXPECTED
        off = (seen[has] - usual * of[has]) ** 2 / (of[has] * usual * (1.0 - usual))
        # The median, since a day on which the judge was down is no usual spread.
        spread = max(float(np.median(off)) / 0.455, 1.0) if has.any() else 1.0
    reached, expected, seen_now = 0, 0.0, 0.0
    for young, old in itertools.pairwise(AGES_H):
        if old > oldest:
            break
        own = (age >= young) & (age < old)
        own_expected, own_seen = float(n[own].sum()) * usual, float(scored[own].sum())
        # A stretch with too few scores to expect says nothing by itself: it is held together with those after it.
        expected, seen_now = expected + own_expected, seen_now + own_seen
        error = math.sqrt(max(expected * (1.0 - usual), 1.0) * spread)
        if expected >= LEAST_EXPECTED and seen_now < FEWER * expected and seen_now < expected - BELOW * error:
            reached, expected, seen_now = old, 0.0, 0.0
        elif own_expected >= LEAST_EXPECTED and own_seen >= FEWER * own_expected:
            break
    if reached == 0:
        return None
    tail = age < reached
    return LateScores(
        from_s=float((hour.max() - reached + 1) * SECONDS_PER_HOUR),
        usual=usual,
        late=float(scored[tail].sum() / max(float(n[tail].sum()), 1.0)),
        scores=int(scored[tail].sum()),
    )
