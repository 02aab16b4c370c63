"""What a pair does to each task: whom a mean hides, and whether the allowed fall of each task is kept.

Belongs here: changes of quality by task, what of them is to be expected, their limit. Does not belong here: the limits over all
requests (`policy.proof`), reverting parts of candidates that are predicted to break it (`policy.candidates`).

Of many tasks the one that looks worst looks worse than it is. What is expected of a task is therefore its own held-out change pulled
towards what moving as much of it would do on average, as far as the tasks do not show that they differ (empirical Bayes); its
interval is that of its own change alone.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from routing_pipeline.policy.cells import Ints
from routing_pipeline.policy.halves import Halves
from routing_pipeline.policy.pairs import Pair
from routing_pipeline.policy.proof import proven_weights
from routing_pipeline.policy.scores import ScoreCube
from routing_pipeline.policy.search import Limits
from routing_pipeline.stats.inference import ONE_SIDED, Statistic

MIN_SCORED = 100
"""Scored answers of a task, over all held-out sessions, from which on its fall is limited."""


@dataclass(frozen=True)
class TaskChange:
    """One task: its requests, how many of their answers are scored, the share that is moved, and the change of its mean quality."""

    task: str
    requests: float
    scored: float
    moved: float
    change: Statistic
    expected: float

    @property
    def counts(self) -> bool:
        """Whether its fall is limited."""
        return self.scored >= MIN_SCORED and self.moved > 0.0


def places_by_task(cube: ScoreCube) -> dict[str, Ints]:
    """By name, segments of a task and what of it no rule reaches; tasks that are cut by needs are one."""
    names = cube.cells.binning.tasks
    found: dict[str, list[int]] = {name: [] for name in names}
    for place, segment in enumerate(cube.segments):
        found[segment.task_type].append(place)
    for task, name in enumerate(names):
        found[name].append(len(cube.segments) + task)
    return {name: np.array(places, dtype=np.int64) for name, places in found.items()}


def task_changes(halves: Halves, pair: Pair) -> list[TaskChange]:
    """Of every task that is moved and of which quality is known, the largest fall first."""
    cube, keep = halves.first, halves.keep
    cells = cube.cells
    scored_by_task = cells.total("labelled").sum(axis=(1, 2, 3))
    found = []
    for name, places in places_by_task(cube).items():
        segments = places[places < len(cube.segments)]
        if not (pair.shares[segments, keep] < 1.0).any():
            continue
        then, now = proven_weights(halves, [pair.by_half, halves.kept()], places)
        change = then.quality - now.quality
        if not change.is_known:
            continue
        requests = float(cube.requests[:, places].sum())
        shares = pair.shares[segments, :-1]
        sent = cube.requests[:, segments].sum(axis=0)
        moved = float((shares.sum(axis=1) * sent - (shares * cube.all.requests[segments]).sum(axis=1)).sum())
        scored = float(sum(scored_by_task[task] for task, each in enumerate(cells.binning.tasks) if each == name))
        found.append((name, requests, scored, min(max(moved / max(requests, 1e-300), 0.0), 1.0), change))
    expected = _expected([(change, moved) for *_, moved, change in found])
    told = [TaskChange(*each, expected=of) for each, of in zip(found, expected, strict=True)]
    return sorted(told, key=lambda each: (each.expected, each.task))


def _expected(changes: list[tuple[Statistic, float]]) -> list[float]:
    """Each change pulled towards that of moving as much on average."""
    if not changes:
        return []
    value = np.array([change.value for change, _ in changes])
    variance = np.maximum(np.array([change.standard_error for change, _ in changes]) ** 2, 1e-12)
    moved = np.array([share for _, share in changes])
    weight = 1.0 / variance
    slope = float((weight * moved * value).sum() / max(float((weight * moved**2).sum()), 1e-300))
    beside = value - slope * moved
    total = float(weight.sum())
    spread = max(float((weight * (beside**2 - variance)).sum()) / total, 0.0) + np.sqrt(2.0 * len(value)) / total
    pull = spread / (spread + variance)
    found: list[float] = (slope * moved + pull * beside).tolist()
    return found


def kept(changes: list[TaskChange], limits: Limits, level: float = ONE_SIDED) -> bool:
    """Whether no task that counts falls by more than allowed: as expected, or where it is to be proven at the safe end of all at once."""
    if limits.max_task_drop >= 1.0:
        return True
    counted = [each for each in changes if each.counts]
    if any(each.expected < -limits.max_task_drop for each in counted):
        return False
    if not limits.prove_per_task:
        return True
    own = 1.0 - (1.0 - level) / max(len(counted), 1)
    return all(each.change.low(own) >= -limits.max_task_drop for each in counted)
