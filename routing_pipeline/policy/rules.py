"""From a policy to the rules that a gateway reads, and back.

Belongs here: merging segments into few rules, fallbacks, what stands behind each rule, and reading rules back into a
policy. Does not belong here: which policy (`policy.search`), whether it holds (`policy.proof`).
"""

from __future__ import annotations

import itertools
from collections.abc import Iterable
from dataclasses import dataclass

import numpy as np

from routing_pipeline.policy.cells import Binning, Ints
from routing_pipeline.policy.rule_set import Rule, When
from routing_pipeline.policy.scores import QUALITY, SUCCESS, ScoreCube
from routing_pipeline.policy.segments import Segment, when

MAX_FALLBACKS = 2


@dataclass(frozen=True)
class Block:
    """Segments that one rule covers: `places` in the cube, `condition` matches exactly them."""

    places: tuple[int, ...]
    arm: int
    condition: When


def _adjacent(cube: ScoreCube, actions: Ints) -> list[Block]:
    """Neighbouring levels of a task with the same model, joined; KEEP makes no block."""
    blocks = []
    by_task = itertools.groupby(range(len(cube.segments)), key=lambda place: (cube.segments[place].task, int(actions[place])))
    for (task, arm), places in by_task:
        if arm == cube.keep:
            continue
        held = tuple(places)
        first, last = cube.segments[held[0]].first, cube.segments[held[-1]].last
        blocks.append(Block(held, arm, when(cube.cells.binning, task, first, last)))
    return blocks


def blocks_of(cube: ScoreCube, actions: Ints) -> list[Block]:
    """As few rules as say the same: neighbours joined, then tasks of equal model and condition listed together."""
    joined: dict[tuple[object, ...], Block] = {}
    for block in _adjacent(cube, actions):
        same = block.condition.model_copy(update={"task_type": None})
        key = (block.arm, same)
        if key in joined and block.condition.task_type is not None:
            before = joined[key]
            tasks = (*(before.condition.task_type or ()), *block.condition.task_type)
            joined[key] = Block((*before.places, *block.places), block.arm, same.model_copy(update={"task_type": tasks}))
        else:
            joined[key] = block
    return sorted(joined.values(), key=lambda block: (-requests_of(cube, block.places), block.places))


def requests_of(cube: ScoreCube, places: Iterable[int]) -> float:
    """Requests of the window in these segments."""
    return float(cube.requests[:, list(places)].sum())


def fallbacks(cube: ScoreCube, block: Block) -> tuple[str, ...]:
    """The next best models by estimated quality among those that the logs can judge in every segment of the rule."""
    places = list(block.places)
    judged = np.asarray(cube.all.supported[places].all(axis=0))
    sums = cube.scores[:, places].sum(axis=(0, 1))
    quality = sums[:-1, QUALITY] / np.maximum(sums[:-1, SUCCESS], 1e-300)
    order = sorted((arm for arm in range(len(cube.models)) if judged[arm] and arm != block.arm), key=lambda arm: (-quality[arm], arm))
    return tuple(cube.models[arm] for arm in order[:MAX_FALLBACKS])


def _request(binning: Binning, segment: Segment, level: int) -> dict[str, object]:
    """A request at the lower edge of a level."""
    edges = (0.0, *binning.level_edges[segment.task])
    at = edges[min(level, len(edges) - 1)]
    return {
        "task_type": segment.task_type if binning.tasks_logged else None,
        "complexity": at if binning.axis == "complexity" else None,
        "prompt_tokens": at if binning.axis == "prompt_tokens" else 0,
    }


def actions_of(cube: ScoreCube, rules: Iterable[Rule]) -> Ints | None:
    """The policy that a gateway reading these rules would follow; None when a segment is split or a route is weighted."""
    ordered = sorted(rules, key=lambda rule: rule.priority)
    actions = np.full(len(cube.segments), cube.keep)
    for place, segment in enumerate(cube.segments):
        decided = set()
        for level in range(segment.first, min(segment.last, len(cube.cells.binning.level_edges[segment.task]) + 1)):
            request = _request(cube.cells.binning, segment, level)
            rule = next((rule for rule in ordered if rule.when.matches(request)), None)
            if rule is None or rule.route == "unchanged":
                decided.add(cube.keep)
            elif len(rule.route) > 1 or rule.route[0].model not in cube.models:
                return None
            else:
                decided.add(cube.models.index(rule.route[0].model))
        if len(decided) > 1:
            return None
        actions[place] = decided.pop() if decided else cube.keep
    return actions
