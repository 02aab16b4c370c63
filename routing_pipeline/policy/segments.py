"""Kinds of request that a rule can name: task types cut by level.

Belongs here: where the cuts lie and how they read as conditions. Does not belong here: which model suits which segment
(`policy.search`). Cuts follow volumes alone, no outcome, those of both halves alike: what is learnt on either half speaks of the same
kinds of request.
"""

from __future__ import annotations

import itertools
from collections.abc import Collection
from dataclasses import dataclass

import numpy as np

from routing_pipeline.policy.binning import Binning, quantile_cuts
from routing_pipeline.policy.cells import Cells
from routing_pipeline.policy.tasks import NO_OTHER_TEAM
from routing_pipeline.rules.model import NEEDS_IN_WORDS, Between, When
from routing_pipeline.text import counted

MAX_PARTS = 4
REQUESTS_PER_PART = 400
LABELS_PER_PART = 100
"""A task is cut only as far as its parts keep so many requests and labels in each half of the sessions."""


@dataclass(frozen=True)
class Segment:
    """Levels first..last (exclusive) of one task; `task` is its place in the binning."""

    id: str
    task: int
    task_type: str
    first: int
    last: int


def parts_of(requests: float, labelled: float) -> int:
    """How many parts a task's data bear."""
    return max(1, min(MAX_PARTS, int(requests // REQUESTS_PER_PART), int(labelled // LABELS_PER_PART)))


def segments_of(cells: Cells) -> tuple[Segment, ...]:
    """All segments, largest task first, levels ascending."""
    halves = (cells.learning, ~cells.learning)
    n = cells.total("n")[:, :-1].sum(axis=(2, 3))
    requests = np.min([cells.total("n", cells=half)[:, :-1].sum(axis=(1, 2, 3)) for half in halves], axis=0)
    labelled = np.min([cells.total("labelled", cells=half)[:, :-1].sum(axis=(1, 2, 3)) for half in halves], axis=0)
    found: list[Segment] = []
    for task, name in enumerate(cells.binning.tasks):
        cuts = quantile_cuts(n[task], parts_of(requests[task], labelled[task]))
        bounds = (0, *cuts, cells.binning.levels)
        found.extend(
            Segment(f"t{task + 1}.{place + 1}", task, name, first, last) for place, (first, last) in enumerate(itertools.pairwise(bounds))
        )
    return tuple(found)


def segment_map(cells: Cells, segments: tuple[Segment, ...]) -> np.ndarray[tuple[int, ...], np.dtype[np.int64]]:
    """(task + 1, level + 1) to the segment's place; what no rule reaches goes to len(segments) + task."""
    binning = cells.binning
    places = np.tile(len(segments) + np.arange(len(binning.tasks) + 1)[:, None], (1, binning.levels + 1)).astype(np.int64)
    for place, segment in enumerate(segments):
        places[segment.task, segment.first : segment.last] = place
    return places


def when(binning: Binning, task: int, first: int, last: int) -> When:
    """The condition that matches exactly these levels of a task."""
    edges = binning.level_edges[task]
    low = edges[first - 1] if 0 < first <= len(edges) else None
    high = edges[last - 1] if last <= len(edges) else None
    between = None if low is None and high is None else Between(gte=low, lt=high)
    if between is None and binning.has_gaps:
        between = Between(gte=0.0)
    prompts = _within(between if binning.axis == "prompt_tokens" else None, *(binning.prompts[task] if binning.prompts else (None, None)))
    return When(
        task_type=(binning.tasks[task],) if binning.tasks_logged else None,
        complexity=between if binning.axis == "complexity" else None,
        prompt_tokens=prompts,
        team=teams_of(binning, task) or None,
        **dict(binning.needs[task] if binning.needs else ()),
    )


def teams_of(binning: Binning, task: int) -> tuple[str, ...]:
    """The teams that a rule for a kind must name; none where it need not ask for the team."""
    own = binning.kind_teams[task] if binning.kind_teams else binning.teams
    if not binning.teams:
        return named(binning, binning.tasks[task], own)
    return tuple(team for team in own if team in binning.teams) or NO_OTHER_TEAM


def named(binning: Binning, task_type: str, teams: Collection[str]) -> tuple[str, ...]:
    """These teams, or none where they are all that send such requests: then the condition would decide nothing."""
    if not binning.kind_teams:
        return tuple(teams)
    senders = {team for name, own in zip(binning.tasks, binning.kind_teams, strict=True) if name == task_type for team in own}
    matters = task_type not in binning.in_groups or not senders <= set(teams)
    return tuple(teams) if matters else ()


def _within(between: Between | None, low: float | None, high: float | None) -> Between | None:
    """A range of prompts within that of the kind."""
    if low is None and high is None:
        return between
    gte = [each for each in (low, None if between is None else between.gte) if each is not None]
    lt = [each for each in (high, None if between is None else between.lt) if each is not None]
    return Between(gte=max(gte, default=None), lt=min(lt, default=None))


TEAMS_NAMED = 2


def label(task_type: str, condition: When) -> str:
    """A segment in words, e.g. `code, complexity 0.5 to 0.8`."""
    words = [task_type]
    for name, said in NEEDS_IN_WORDS.items():
        holds = getattr(condition, name)
        if holds is not None:
            words.append(f"{'with' if holds else 'without'} {said}")
    for name, between in (("complexity", condition.complexity), ("prompt tokens", condition.prompt_tokens)):
        if between is None or (between.gte in {None, 0.0} and between.lt is None):
            continue
        if between.gte is None:
            words.append(f"{name} below {between.lt:g}")
        elif between.lt is None:
            words.append(f"{name} from {between.gte:g}")
        else:
            words.append(f"{name} {between.gte:g} to {between.lt:g}")
    if condition.team is not None:
        words.append(
            f"of {' and '.join(condition.team)}" if len(condition.team) <= TEAMS_NAMED else f"of {counted(len(condition.team), 'team')}"
        )
    return ", ".join(words)
