"""From a policy to the rules that a gateway reads, and back.

Belongs here: merging segments into few rules, fallbacks, what stands behind each rule, and reading rules back into a
policy. Does not belong here: which policy (`policy.search`), whether it holds (`policy.proof`).
"""

from __future__ import annotations

import itertools
from collections.abc import Iterable
from dataclasses import dataclass

import numpy as np

from routing_pipeline.policy.binning import Binning
from routing_pipeline.policy.cells import Floats
from routing_pipeline.policy.scores import ANSWERED, CALLS, QUALITY, ScoreCube
from routing_pipeline.policy.segments import Segment, named, teams_of, when
from routing_pipeline.rules.model import Rule, When

MAX_FALLBACKS = 2


@dataclass(frozen=True)
class Block:
    """Segments that one rule covers: `places` in the cube, `condition` matches exactly them; `route`: models with their shares."""

    places: tuple[int, ...]
    route: tuple[tuple[int, float], ...]
    condition: When

    @property
    def arms(self) -> list[int]:
        """Models that it may choose."""
        return [arm for arm, _ in self.route]


def _route(shares: Floats) -> tuple[tuple[int, float], ...]:
    """Models with their shares, of one place."""
    return tuple((int(arm), float(shares[arm])) for arm in np.flatnonzero(shares))


def _adjacent(cube: ScoreCube, shares: Floats) -> list[Block]:
    """Neighbouring levels of a task with the same route, joined; KEEP makes no block."""
    blocks = []
    by_task = itertools.groupby(range(len(cube.segments)), key=lambda place: (cube.segments[place].task, _route(shares[place])))
    for (task, route), places in by_task:
        if any(arm == cube.keep for arm, _ in route):
            continue
        held = tuple(places)
        first, last = cube.segments[held[0]].first, cube.segments[held[-1]].last
        blocks.append(Block(held, route, when(cube.cells.binning, task, first, last)))
    return blocks


def _over_teams(cube: ScoreCube, blocks: Iterable[Block]) -> list[Block]:
    """Blocks that differ in nothing but their groups of teams, joined; teams are named where others send such requests."""
    binning = cube.cells.binning
    joined: dict[tuple[object, ...], Block] = {}
    for block in blocks:
        same = block.condition.model_copy(update={"team": None})
        key = (block.route, same)
        if key in joined:
            before, task = joined[key], cube.segments[block.places[0]].task_type
            teams = named(binning, task, sorted({*(before.condition.team or ()), *(block.condition.team or ())}))
            block = Block((*before.places, *block.places), block.route, same.model_copy(update={"team": teams or None}))
        joined[key] = block
    return list(joined.values())


def blocks_of(cube: ScoreCube, shares: Floats) -> list[Block]:
    """As few rules as say the same: neighbours joined, then groups of teams, then tasks of equal route and condition listed together.

    shares: by (place, action); a place that is not left as it is goes to models alone.
    """
    joined: dict[tuple[object, ...], Block] = {}
    adjacent = _adjacent(cube, shares)
    for block in _over_teams(cube, adjacent) if cube.cells.binning.kind_teams else adjacent:
        same = block.condition.model_copy(update={"task_type": None})
        # A rule is per request or per session.
        is_by_request = cube.segments[block.places[0]].task_type in cube.cells.binning.by_request
        key = (block.route, same, is_by_request)
        if key in joined and block.condition.task_type is not None:
            before = joined[key]
            tasks = (*(before.condition.task_type or ()), *block.condition.task_type)
            joined[key] = Block((*before.places, *block.places), block.route, same.model_copy(update={"task_type": tasks}))
        else:
            joined[key] = block
    return sorted(joined.values(), key=lambda block: (-requests_of(cube, block.places), block.places))


def units_of(cube: ScoreCube, places: Iterable[int]) -> float:
    """What is decided about in these segments: requests, or sessions."""
    return float(cube.requests[:, list(places)].sum())


def requests_of(cube: ScoreCube, places: Iterable[int]) -> float:
    """Requests of the window in these segments, today."""
    return float(cube.counted[:, list(places), CALLS].sum())


def fallbacks(cube: ScoreCube, block: Block) -> tuple[str, ...]:
    """The next best models by estimated quality among those that the logs can judge in every segment of the rule."""
    places = list(block.places)
    judged = np.asarray(cube.all.supported[places].all(axis=0))
    sums = cube.scores[:, places].sum(axis=(0, 1))
    quality = sums[:-1, QUALITY] / np.maximum(sums[:-1, ANSWERED], 1e-300)
    order = sorted((arm for arm in range(len(cube.models)) if judged[arm] and arm not in block.arms), key=lambda arm: (-quality[arm], arm))
    return tuple(cube.models[arm] for arm in order[:MAX_FALLBACKS])


def _request(binning: Binning, segment: Segment, level: int) -> dict[str, object]:
    """A request at the lower edge of a level."""
    edges = (0.0, *binning.level_edges[segment.task])
    at = edges[min(level, len(edges) - 1)]
    return {
        "task_type": segment.task_type if binning.tasks_logged else None,
        "complexity": at if binning.axis == "complexity" else None,
        "prompt_tokens": _prompt(binning, segment.task, at if binning.axis == "prompt_tokens" else 0),
        "team": _team(binning, segment.task),
        **dict(binning.needs[segment.task] if binning.needs else ()),
    }


def _team(binning: Binning, task: int) -> str | None:
    """A team that sends requests of this kind and that rules may reach."""
    own = binning.kind_teams[task] if binning.kind_teams else ()
    return next(iter(teams_of(binning, task) or own), None)


def _prompt(binning: Binning, task: int, tokens: float) -> float:
    """At least the shortest prompt of a kind."""
    low = binning.prompts[task][0] if binning.prompts else None
    return tokens if low is None else max(tokens, low)


def shares_of(cube: ScoreCube, rules: Iterable[Rule]) -> Floats | None:
    """The policy that a gateway reading these rules would follow, by (place, action); None when a segment is split."""
    ordered = sorted(rules, key=lambda rule: rule.priority)
    shares = np.zeros(cube.scores.shape[1:3])
    shares[len(cube.segments) :, cube.keep] = 1.0
    for place, segment in enumerate(cube.segments):
        decided: set[tuple[tuple[int, float], ...]] = set()
        for level in range(segment.first, min(segment.last, len(cube.cells.binning.level_edges[segment.task]) + 1)):
            request = _request(cube.cells.binning, segment, level)
            rule = next((rule for rule in ordered if rule.when.matches(request)), None)
            if rule is None or rule.route == "unchanged":
                decided.add(((cube.keep, 1.0),))
            elif any(target.model not in cube.models for target in rule.route):
                return None
            else:
                decided.add(tuple(sorted((cube.models.index(target.model), target.weight) for target in rule.route)))
        if len(decided) > 1:
            return None
        for action, share in decided.pop() if decided else ((cube.keep, 1.0),):
            shares[place, action] += share
    return shares
