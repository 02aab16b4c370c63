"""Policies that let no task's predicted quality fall further than it may.

Belongs here: what the search does about the limit that every task has by itself. Does not belong here: the limits of all requests
together (`policy.search`), whether a task keeps its limit on held-out sessions (`policy.task_floors`).

By Lagrange's rule a limit of one task is one more price of quality, paid there alone: a task that would fall too far is decided at the
least price at which it does not. Leaving its worst parts as they are instead would give up what other models could have saved there.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from routing_pipeline.policy.scores import ANSWERED, QUALITY
from routing_pipeline.policy.search import Found, Learned

Chosen = tuple[tuple[int, int], ...]
"""Of one task: its ranges, each with its action."""


def priced_by_task(learnt: Learned, by_price: Sequence[Found], most: float) -> list[Found]:
    """The policies of rising prices of quality, each task that would fall by more than `most` (0..1) decided as at the next price where it does not."""
    if most >= 1.0 or not learnt.names:
        return list(by_price)
    told: dict[Found, dict[str, Chosen]] = {each: _by_task(learnt, each) for each in dict.fromkeys(by_price)}
    kept: dict[tuple[str, Chosen], bool] = {}
    levels = _levels_today(learnt)
    for of_tasks in told.values():
        for name, chosen in of_tasks.items():
            if (name, chosen) not in kept:
                kept[name, chosen] = _level(learnt, chosen) >= levels[name] - most
    keep = learnt.sums.shape[1] - 1
    dearest: dict[str, Chosen] = {
        name: tuple((place, keep) for place in range(learnt.segments) if learnt.names[place] == name) for name in levels
    }
    found: list[Found] = []
    for each in reversed(by_price):
        own = told[each]
        dearest |= {name: chosen for name, chosen in own.items() if kept[name, chosen]}
        found.append(each if all(dearest[name] == chosen for name, chosen in own.items()) else _joined([dearest[name] for name in own]))
    return found[::-1]


def _by_task(learnt: Learned, found: Found) -> dict[str, Chosen]:
    by_task: dict[str, list[tuple[int, int]]] = {}
    for place, arm in zip(found.ranges, found.arms, strict=True):
        by_task.setdefault(learnt.names[learnt.ranges[place][0]], []).append((place, arm))
    return {name: tuple(chosen) for name, chosen in by_task.items()}


def _joined(tasks: Sequence[Chosen]) -> Found:
    pairs = [pair for chosen in tasks for pair in chosen]
    return Found(tuple(place for place, _ in pairs), tuple(arm for _, arm in pairs))


def _level(learnt: Learned, chosen: Chosen) -> float:
    places, arms = zip(*chosen, strict=True)
    then = learnt.sums[list(places), list(arms)]
    return float(then[:, QUALITY].sum() / max(float(then[:, ANSWERED].sum()), 1e-300))


def _levels_today(learnt: Learned) -> dict[str, float]:
    keep = learnt.sums.shape[1] - 1
    return {
        name: _level(learnt, tuple((place, keep) for place in range(learnt.segments) if learnt.names[place] == name))
        for name in dict.fromkeys(learnt.names)
    }


def gentle_to_tasks(learnt: Learned, found: Found, most: float) -> Found:
    """The policy with parts left as they are, largest loss first, of tasks whose quality is predicted to fall by more than `most`."""
    if most >= 1.0 or not learnt.names:
        return found
    actions = np.array(found.actions(learnt))
    keep = learnt.sums.shape[1] - 1
    single = learnt.sums[: learnt.segments]
    changed = False
    for own in learnt.places_of_task.values():
        now = single[own, keep]
        level = float(now[:, QUALITY].sum() / max(float(now[:, ANSWERED].sum()), 1e-300))
        while (actions[own] != keep).any():
            then = single[own, actions[own]]
            if float(then[:, QUALITY].sum() / max(float(then[:, ANSWERED].sum()), 1e-300)) >= level - most:
                break
            lost = (now[:, QUALITY] - level * now[:, ANSWERED]) - (then[:, QUALITY] - level * then[:, ANSWERED])
            actions[own[int(np.where(actions[own] != keep, lost, -np.inf).argmax())]] = keep
            changed = True
    return Found(tuple(range(learnt.segments)), tuple(int(each) for each in actions)) if changed else found
