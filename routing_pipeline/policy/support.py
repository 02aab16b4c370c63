"""How many data stand behind each kind of request and model, and whether the logs can judge one by the other.

Belongs here: counts, effective sample sizes and overlap, and what is enough of them. Does not belong here: scores (`policy.scores`), which
models may be proposed (`policy.search`).
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from routing_pipeline.policy.cells import CLIP, Cells, Floats, Ints, sum_by
from routing_pipeline.policy.outcome_model import Nuisances
from routing_pipeline.policy.segments import Segment

MIN_SENT = 30
MIN_LABELS = 10
MIN_EFFECTIVE, MIN_EFFECTIVE_LOGGED = 30.0, 100.0
"""Effective sample size that a model must have in a segment: few heavy weights may speak for hundreds of requests.

More where the router's own probabilities are the weights: they follow what the logs do not hold, and answers vary with it.
"""
MIN_COVERED = 0.9
"""Share of a segment's traffic that must lie where the model was seen."""
REQUESTS_PER_STRIP = 150
"""Size of the strips of adjacent levels in which a model must have been seen."""


@dataclass(frozen=True)
class Support:
    """How much data stand behind each (segment, model), in one part of the clusters."""

    requests: Floats
    labelled: Floats
    effective: Floats
    min_propensity: Floats
    covered: Floats
    has_cost: NDArray[np.bool_]
    has_latency: NDArray[np.bool_]
    least_effective: Floats
    """By segment, as a column."""

    @property
    def supported(self) -> NDArray[np.bool_]:
        """Seen often enough, and in every part of the segment."""
        enough: NDArray[np.bool_] = (self.requests >= MIN_SENT) & (self.labelled >= MIN_LABELS) & (self.covered >= MIN_COVERED)
        enough &= self.effective >= self.least_effective
        return enough


def strips(requests: Floats) -> Ints:
    """Adjacent levels joined into strips of at least REQUESTS_PER_STRIP, a short last one joined to its neighbour."""
    strip = np.zeros(len(requests), dtype=np.int64)
    current, filled = 0, 0.0
    remaining = requests.sum() - requests.cumsum()
    for level, n in enumerate(requests):
        strip[level] = current
        filled += n
        if filled >= REQUESTS_PER_STRIP and remaining[level] >= REQUESTS_PER_STRIP:
            current, filled = current + 1, 0.0
    return strip


def support(cells: Cells, nuisances: Nuisances, segments: tuple[Segment, ...], *, learning: bool) -> Support:
    """Counts and overlap by (segment, model), on the learning half or on all; choices alone, no outcome but labels' number."""
    only = cells.learning if learning else None
    binning, keep = cells.binning, len(cells.binning.models)
    n = cells.total("n", cells=only)
    logged = _logged_weights(cells, only)
    counts = {name: cells.total(name, cells=only)[:-1, :-1].sum(axis=2)[..., :keep] for name in ("labelled", "n_cost", "n_latency")}
    by_level = n[:-1, :-1].sum(axis=2)
    propensity = nuisances.propensity[0 if learning else 1][..., :keep]
    weight = 1.0 / propensity
    total_weight = (n[:-1, :-1, :, :keep] * weight).sum(axis=2)
    squared = (n[:-1, :-1, :, :keep] * weight**2).sum(axis=2)
    shape = (len(segments), keep)
    found = {name: np.zeros(shape) for name in ("requests", "labelled", "effective", "min_propensity", "covered", "n_cost", "n_latency")}
    least = np.full((len(segments), 1), MIN_EFFECTIVE)
    for place, segment in enumerate(segments):
        at = (segment.task, slice(segment.first, segment.last))
        own = by_level[at]
        found["requests"][place] = own[:, :keep].sum(axis=0)
        for name in counts:
            found[name][place] = counts[name][at].sum(axis=0)
        found["effective"][place] = total_weight[at].sum(axis=0) ** 2 / np.maximum(squared[at].sum(axis=0), 1e-300)
        if logged is not None and logged[0][at].any():
            # Where the router's own probabilities are the weights of some levels alone, the others' are those of the estimated ones.
            by_own = logged[0][at].sum(axis=1, keepdims=True) > 0
            total, of_squares = (
                np.where(by_own, own_weights[at], estimated[at]).sum(axis=0)
                for own_weights, estimated in zip(logged, (total_weight, squared), strict=True)
            )
            found["effective"][place] = np.minimum(found["effective"][place], total**2 / np.maximum(of_squares, 1e-300))
            least[place] = MIN_EFFECTIVE_LOGGED
        occupied = n[:-1, :-1].sum(axis=3)[at] > 0
        found["min_propensity"][place] = np.where(occupied[..., None], propensity[at], 1.0).min(axis=(0, 1))
        # What a model may not serve is no part of what it can be judged on, whatever it was sent.
        covered = np.minimum(_covered(own, keep), 1.0 if binning.strata is None else covered_strata(n[:-1, :-1][at], keep))
        found["covered"][place] = np.where(binning.feasible[segment.task], covered, 0.0)
    return Support(
        requests=found["requests"],
        labelled=found["labelled"],
        effective=found["effective"],
        min_propensity=found["min_propensity"],
        covered=found["covered"],
        has_cost=found["n_cost"] > 0,
        has_latency=found["n_latency"] > 0,
        least_effective=least,
    )


def joined(found: Support, groups: list[list[int]], cells: Cells) -> Support:
    """Support of tasks from that of their parts: numbers add up, coverage is their mean by requests, overlap that of the weakest."""
    if all(len(group) == 1 for group in groups):
        return found
    n = cells.total("n")[:-1].sum(axis=(1, 2, 3))

    def over(values: Floats, join: Callable[[Floats], Floats]) -> Floats:
        return np.stack([join(values[group]) for group in groups])

    share = np.stack([sum((n[part] * found.covered[part] for part in group), np.zeros(found.covered.shape[1])) for group in groups])
    of = np.array([max(float(n[group].sum()), 1e-300) for group in groups])
    return replace(
        found,
        requests=over(found.requests, lambda parts: parts.sum(axis=0)),
        labelled=over(found.labelled, lambda parts: parts.sum(axis=0)),
        effective=over(found.effective, lambda parts: parts.sum(axis=0)),
        min_propensity=over(found.min_propensity, lambda parts: parts.min(axis=0)),
        covered=share / of[:, None],
        has_cost=np.stack([found.has_cost[group].any(axis=0) for group in groups]),
        has_latency=np.stack([found.has_latency[group].any(axis=0) for group in groups]),
        least_effective=over(found.least_effective, lambda parts: parts.max(axis=0)),
    )


def _logged_weights(cells: Cells, only: NDArray[np.bool_] | None) -> tuple[Floats, Floats] | None:
    """Sums of w and w^2 by (task, level, model) with w = 1 / logged propensity; None where none is used."""
    if cells.weighted is None or cells.distrusts_weights:
        return None
    binning = cells.binning
    of = cells.is_weighted & (True if only is None else only)
    shape = (len(binning.tasks) + 1, binning.levels + 1, len(binning.models) + 1)
    keys = (cells.task[of], cells.level[of], cells.arm[of])
    total, squared = (sum_by(keys, cells.weighted[name][of], shape)[..., :-1] for name in ("n", "weight_squared"))
    return total, squared


def _covered(by_level: Floats, keep: int) -> Floats:
    """Share of a segment's traffic in strips of levels where the model was chosen at least with probability CLIP."""
    total = by_level.sum(axis=1)
    strip = strips(total)
    size = np.bincount(strip, total)
    covered = np.zeros(keep)
    for arm in range(keep):
        seen = np.bincount(strip, by_level[:, arm])
        covered[arm] = size[(seen >= 1) & (seen >= CLIP * size)].sum() / max(total.sum(), 1e-300)
    return covered


def covered_strata(counts: Floats, keep: int) -> Floats:
    """Share of a segment's traffic in strata where the model was chosen at least with probability CLIP; counts: (level, stratum, arm)."""
    by_stratum = counts.sum(axis=0)
    size = by_stratum.sum(axis=1, keepdims=True)
    seen = (by_stratum[:, :keep] >= 1) & (by_stratum[:, :keep] >= CLIP * size)
    found: Floats = (size * seen).sum(axis=0) / max(float(size.sum()), 1e-300)
    return found


def seen_levels(cells: Cells) -> NDArray[np.bool_]:
    """(task, level, model): the model was chosen, at least with probability CLIP, in the level's strip of the window."""
    keep = len(cells.binning.models)
    by_level = cells.total("n")[:-1, :-1].sum(axis=2)
    seen = np.zeros((*by_level.shape[:2], keep), dtype=bool)
    for task, counts in enumerate(by_level):
        strip = strips(counts.sum(axis=1))
        size = np.bincount(strip, counts.sum(axis=1))
        for arm in range(keep):
            chosen = np.bincount(strip, counts[:, arm])
            seen[task, :, arm] = ((chosen >= 1) & (chosen >= CLIP * size))[strip]
    return seen
