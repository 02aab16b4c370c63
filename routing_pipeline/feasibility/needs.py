"""What requests need, as the logs say it: counted by task, and where a task must be cut so that rules can ask for it.

Belongs here: the names of needs, one aggregate over final rows, the cuts. Does not belong here: what models can
(`capabilities`, `learned`), whether a model may serve a request (`feasible`), cells (`policy.cells`).

Null means not logged and never false: where a need is logged for too few requests of a task to cut it, and shows at all, the
whole task counts as having it.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any, Literal, get_args

import ibis

Need = Literal["image", "audio", "tools", "schema"]
NEEDS: tuple[Need, ...] = get_args(Need)
LOGGED_SHARE = 0.9
"""A need counts as logged of a task from this share of its requests on."""
MATERIAL = 0.01
"""A task is cut by a need that every model can meet where so much of it, and of the rest, is there: what is needed may make it harder."""
MOST_EDGES = 3


def column_of(need: str) -> str:
    """The column of the logs that says whether a request has a need."""
    return f"has_{need}"


@dataclass(frozen=True)
class TaskNeeds:
    """Final requests of one task: how many, of how many a need is logged, how many have it, and the longest prompt and answer asked for."""

    requests: int
    logged: Mapping[Need, int]
    needing: Mapping[Need, int]
    longest_prompt: float
    longest_answer: float

    @property
    def told(self) -> tuple[Need, ...]:
        """Needs of which the logs say who has them."""
        return tuple(need for need in NEEDS if self.logged[need] >= LOGGED_SHARE * self.requests)

    def varies(self, need: Need) -> bool:
        """Whether it is logged, and neither all nor none of the requests have it."""
        return need in self.told and 0 < self.needing[need] < self.logged[need]


def needs_by_task(final: ibis.Table) -> dict[str, TaskNeeds]:
    """One small aggregate; columns that are not there are not logged.

    Args:
        final: final requests with task_type.
    """
    there = set(final.columns)
    sums: dict[str, Any] = {"requests": final.count()}
    for need in NEEDS:
        if column_of(need) in there:
            sums[f"logged_{need}"] = final[column_of(need)].notnull().sum()
            sums[f"needing_{need}"] = final[column_of(need)].sum()
    for name, column in (("longest_prompt", "prompt_tokens"), ("longest_answer", "max_output_tokens")):
        if column in there:
            sums[name] = final[column].max()
    rows = final.group_by("task_type").agg(**sums).to_pyarrow().to_pylist()
    return {
        row["task_type"]: TaskNeeds(
            requests=int(row["requests"]),
            logged={need: int(row.get(f"logged_{need}") or 0) for need in NEEDS},
            needing={need: int(row.get(f"needing_{need}") or 0) for need in NEEDS},
            longest_prompt=float(row.get("longest_prompt") or 0),
            longest_answer=float(row.get("longest_answer") or 0),
        )
        for row in rows
    }


def logged_at_all(by_task: Mapping[str, TaskNeeds]) -> tuple[Need, ...]:
    """Needs of which the logs carry any sign."""
    return tuple(need for need in NEEDS if any(each.logged[need] for each in by_task.values()))


@dataclass(frozen=True)
class Cuts:
    """By task the needs that it is cut by, and the lengths of prompt at which tasks with longer ones are cut.

    teams: groups of teams that every task is cut by, because today's routing goes by them.
    """

    needs: Mapping[str, tuple[Need, ...]]
    edges: tuple[float, ...]
    long_tasks: frozenset[str]
    teams: tuple[tuple[str, ...], ...] = ()

    @property
    def is_cut(self) -> bool:
        """Whether any task is."""
        return any(self.needs.values()) or bool(self.long_tasks) or bool(self.teams)


def cuts_of(by_task: Mapping[str, TaskNeeds], unmet: Iterable[Need], prompts_below: Iterable[float | None]) -> Cuts:
    """Where needs vary within a task, as far as it matters.

    Args:
        by_task: what is needed.
        unmet: needs that some model of the window does not meet.
        prompts_below: of each model, the length that its prompts must stay below; None: not known.
    """
    some_cannot = set(unmet)
    needs = {
        task: tuple(
            need
            for need in NEEDS
            if each.varies(need)
            and (need in some_cannot or MATERIAL * each.requests <= each.needing[need] <= (1 - MATERIAL) * each.requests)
        )
        for task, each in by_task.items()
    }
    longest = max((each.longest_prompt for each in by_task.values()), default=0.0)
    edges = tuple(sorted({below for below in prompts_below if below is not None and below <= longest}))[:MOST_EDGES]
    long_tasks = frozenset(task for task, each in by_task.items() if edges and each.longest_prompt >= edges[0])
    return Cuts(needs, edges, long_tasks)
