"""Both directions of cross-fitting: each half of the sessions learns once, and is held out once from what the other one learnt.

Belongs here: the score cube with the halves' roles swapped, and sums over the held-out scores of both. Does not belong here: what
is learnt (`policy.search`), whether limits hold (`policy.proof`).

Of two policies, one learnt on each half, every cluster scores the one that it had no part in. The mean of these scores is the value
of the pair, and all clusters tell its error (cross-validated values: Luedtke, van der Laan 2016, Int. J. Biostatistics 12:305;
Bayle et al. 2020, NeurIPS). What a half learns from are scores whose nuisances saw that half alone.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np

from routing_pipeline.policy.cells import Cells, Floats, Ints
from routing_pipeline.policy.scores import BOTH, PROVE, ScoreCube, Sums, score_cube
from routing_pipeline.window.scope import CLUSTERS

HALF_OF_CLUSTERS = CLUSTERS // 2


@dataclass(frozen=True)
class Halves:
    """Two cubes of the same cells.

    first: learns on the first half of the clusters and proves on the second. second: the other way round; its clusters stand in
    swapped order. name: what the cells leave out, for readers; empty where nothing.
    """

    first: ScoreCube
    second: ScoreCube
    name: str = ""

    @property
    def keep(self) -> int:
        """The action that leaves today's routing."""
        return self.first.keep

    def sums(self, by_half: Floats, places: Ints | None = None) -> Sums:
        """Held-out scores of all clusters, by cluster of the window, in its own order.

        Args:
            by_half: (half, place, action), how much each action's scores of the clusters of that half count.
            places: of these alone.
        """
        of_second = self.first.mixed(by_half[1], PROVE, places)
        of_first = self.second.mixed(by_half[0], PROVE, places)
        completed, expected = None, None
        if of_second.completed is not None and of_first.completed is not None:
            one, other = of_second.completed, of_first.completed
            completed = (one[0] + _in_order(other[0]), one[1] + _in_order(other[1]))
        if of_second.expected is not None and of_first.expected is not None:
            expected = of_second.expected + of_first.expected
        return Sums(
            scores=of_second.scores + _in_order(of_first.scores),
            counted=of_second.counted + _in_order(of_first.counted),
            model_error=of_second.model_error + _in_order(of_first.model_error),
            completed=completed,
            expected=expected,
        )

    def kept(self) -> Floats:
        """Weights of the policy that changes nothing, as in `sums`."""
        return always(np.full(len(self.first.segments), self.keep), self.first)

    def requests(self, half: int) -> Floats:
        """By segment, of the clusters of a half."""
        clusters = PROVE if half else slice(0, HALF_OF_CLUSTERS)
        counted: Floats = self.first.requests[clusters, : len(self.first.segments)].sum(axis=0)
        return counted

    def window(self, places: Ints | None = None) -> Sums:
        """Today's routing over all sessions, as the evidence tells it."""
        shares = one_hot(np.full(len(self.first.segments), self.keep), self.first)
        return self.first.mixed(shares, BOTH, places)


def one_hot(actions: Ints, cube: ScoreCube) -> Floats:
    """Shares of each action by (place, action), all of a place to one; what no rule reaches is kept."""
    padded = np.concatenate([actions, np.full(cube.scores.shape[1] - len(actions), cube.keep)])
    shares = np.zeros(cube.scores.shape[1:3])
    shares[np.arange(len(padded)), padded] = 1.0
    return shares


def always(actions: Ints, cube: ScoreCube) -> Floats:
    """Weights of a policy that neither half has found, as in `Halves.sums`."""
    return np.stack([one_hot(actions, cube)] * 2)


def _in_order(by_cluster: Floats) -> Floats:
    return np.roll(by_cluster, HALF_OF_CLUSTERS, axis=0)


def swapped(cells: Cells) -> Cells:
    """The same cells with the halves' roles exchanged; folds stay together."""
    return replace(cells, cluster=(cells.cluster + HALF_OF_CLUSTERS) % CLUSTERS)


def halves_of(cube: ScoreCube, name: str = "") -> Halves:
    """Both directions, from the cube of the first."""
    return Halves(cube, score_cube(swapped(cube.cells), segments=cube.segments), name)


_KEPT: list[Halves] = []
"""The last ones: several questions are put to the same cells, and a cube is kept for its readers as well (`evidence.read_scores`)."""


def both_of(cube: ScoreCube, name: str = "") -> Halves:
    """As `halves_of`, kept for the next who asks of the same cube."""
    found = next((each for each in _KEPT if each.first is cube), None)
    if found is None:
        found = halves_of(cube, name)
        _KEPT[:] = [found, *_KEPT[:3]]
    return found
