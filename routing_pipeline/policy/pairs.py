"""Pairs of policies, one found on each half of the sessions, and the one policy that a gateway follows for each pair.

Belongs here: the common ladder of predicted gains on which candidates of both halves meet, and what is done where the two differ.
Does not belong here: finding the candidates (`policy.candidates`), whether a pair holds (`policy.proof`).

Where two models stand against each other, each gets half of the requests. No gateway can send half of the requests to "whatever you
would have done", so where one half would leave a kind of request alone and the other would not, the word of one of them holds,
taken in turn task by task in an order that no outcome has a part in. Chosen so, and scored by the sessions that the chosen word
was not learnt from, such parts flatter neither way: whatever selection adds on one half it takes away on the other.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from routing_pipeline.policy.cells import Floats
from routing_pipeline.policy.halves import Halves
from routing_pipeline.policy.scores import ScoreCube
from routing_pipeline.policy.search import Limits, Policy

RUNGS = 60
"""Most pairs that are walked."""
SPACE = 0.004
"""Least difference of predicted gain between two rungs of the ladder."""
TURNS = (True, False, False, True)
"""Whose word holds, task by task, largest first: the first half's, or the second's."""


@dataclass(frozen=True)
class Pair:
    """A policy learnt on the first half of the sessions and one learnt on the second, with what follows of them.

    shares: by (place, action), what a gateway does. by_half: (half, place, action), how the held-out scores of the sessions of
    that half count (`Halves.sums`). gain, z: means of the two predictions.
    """

    first: tuple[int, ...]
    second: tuple[int, ...]
    shares: Floats
    by_half: Floats
    gain: float
    z: float

    @property
    def moves(self) -> NDArray[np.bool_]:
        """Segments that are not left as they are."""
        found: NDArray[np.bool_] = self.shares[: len(self.first), -1] < 1.0
        return found


def turns_of(halves: Halves) -> NDArray[np.bool_]:
    """By segment, whether the first half's word holds where only one of them would leave it alone."""
    return np.array([TURNS[segment.task % len(TURNS)] for segment in halves.first.segments], dtype=bool)


def paired(halves: Halves, first: Sequence[int], second: Sequence[int], *, single: bool, gain: float = 0.0, z: float = 0.0) -> Pair:
    """What a gateway follows for two policies, and what proves it.

    single: never share a kind of request between two models; then the word of one half holds there, too.
    """
    cube, keep = halves.first, halves.keep
    one, other = np.array(first, dtype=np.int64), np.array(second, dtype=np.int64)
    turn = turns_of(halves)
    places, segments = cube.scores.shape[1], len(one)
    shares = np.zeros((places, keep + 1))
    shares[segments:, keep] = 1.0
    by_half = np.stack([shares] * 2)
    requests = [halves.requests(half) for half in (0, 1)]
    for segment in range(segments):
        a, b = int(one[segment]), int(other[segment])
        if a == b:
            shares[segment, a] = by_half[0, segment, a] = by_half[1, segment, a] = 1.0
        elif single or keep in (a, b):
            # What the first half learnt is told by the sessions of the second.
            chosen, half = (a, 1) if turn[segment] else (b, 0)
            shares[segment, chosen] = 1.0
            scale = float((requests[0][segment] + requests[1][segment]) / max(requests[half][segment], 1.0))
            by_half[half, segment, chosen] += scale
            by_half[half, segment, keep] += 1.0 - scale
            by_half[1 - half, segment, keep] += 1.0
        else:
            shares[segment, [a, b]] = 0.5
            by_half[1, segment, a] = by_half[0, segment, b] = 1.0
    return Pair(tuple(first), tuple(second), shares, by_half, gain, z)


def pairs_of(halves: Halves, paths: tuple[Sequence[Policy], Sequence[Policy]], *, single: bool) -> list[Pair]:
    """The ladder: for each predicted gain the safest candidate of each half that promises so much, safest pair first.

    A half whose path ends before stays at its boldest; one without a candidate leaves everything as it is.
    """
    nothing = Policy((halves.keep,) * len(halves.first.segments), 0.0, np.inf)
    own = [list(path) or [nothing] for path in paths]
    rungs = _rungs([policy.gain for path in paths for policy in path])
    found: dict[tuple[tuple[int, ...], tuple[int, ...]], Pair] = {}
    for rung in rungs:
        one, other = (next((policy for policy in path if policy.gain >= rung), path[-1]) for path in own)
        key = (one.actions, other.actions)
        if key not in found:
            pair = paired(halves, *key, single=single, gain=(one.gain + other.gain) / 2, z=min(one.z, other.z))
            if pair.moves.any():
                found[key] = pair
    return list(found.values())


def _rungs(gains: Sequence[float]) -> list[float]:
    """Gains at which the halves meet, ascending: those of the candidates, thinned."""
    kept: list[float] = []
    for gain in sorted(gains):
        if not kept or gain - kept[-1] >= SPACE:
            kept.append(gain)
    if len(kept) <= RUNGS:
        return kept
    return [kept[round(place)] for place in np.linspace(0, len(kept) - 1, RUNGS)]


def within_caps(cube: ScoreCube, shares: Floats, limits: Limits) -> bool:
    """Whether no model and no tier gets more of the window's traffic than its cap."""
    n = len(cube.segments)
    requests = cube.requests[:, :n].sum(axis=0)
    sent = shares[:n, :-1].T @ requests + shares[:n, -1] @ cube.all.requests
    share = sent / max(float(cube.requests.sum()), 1e-300) + cube.unreached_share
    return all(float(share[list(cap.arms)].sum()) <= cap.most for cap in limits.capped)
