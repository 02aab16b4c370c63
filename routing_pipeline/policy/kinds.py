"""What gathering evidence asks of feasibility: where tasks are cut, which models may serve which part, what to say of it.

Belongs here: putting needs, capabilities, lessons and policy together for one window. Does not belong here: any of them
(`feasibility`), cells (`policy.cells`), estimates.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Any

import ibis

from routing_pipeline.feasibility.allowed import spared_teams
from routing_pipeline.feasibility.feasible import (
    NEED_IN_WORDS,
    NOT_LOGGED,
    PARTLY_LOGGED,
    Kind,
    ModelFeasibility,
    Target,
    feasibility_of,
    targets_of,
    unmet,
    why_not,
    with_limits_shown,
)
from routing_pipeline.feasibility.learned import ShownByErrors, lessons_of, shown_by_errors
from routing_pipeline.feasibility.needs import NEEDS, Cuts, Need, TaskNeeds, column_of, cuts_of, logged_at_all, needs_by_task
from routing_pipeline.parameters import Parameters
from routing_pipeline.policy.binning import Binning, binning_of
from routing_pipeline.policy.siblings import families_of
from routing_pipeline.policy.tasks import Kinds, with_tasks
from routing_pipeline.text import counted

MODELS_NAMED = 3


def join_names(models: list[str]) -> str:
    """The first of them, and how many more."""
    rest = len(models) - MODELS_NAMED
    return ", ".join(models[:MODELS_NAMED]) + (f" and {rest} more" if rest > 0 else "")


@dataclass(frozen=True)
class WindowNeeds:
    """What the requests of a window need and what its models can."""

    by_task: Mapping[str, TaskNeeds]
    targets: Mapping[str, Target]
    cuts: Cuts
    errors: ShownByErrors
    parameters: Parameters

    @property
    def is_logged(self) -> bool:
        """Whether the logs carry any sign of needs."""
        return bool(logged_at_all(self.by_task))

    @cached_property
    def _told(self) -> tuple[dict[str, tuple[Need, ...]], frozenset[str]]:
        """By task the needs of which the logs tell, and the models of which it is known how long their prompts may be."""
        limited = frozenset(model for model, each in self.targets.items() if each.prompts_below is not None)
        return {task: each.told for task, each in self.by_task.items()}, limited

    @cached_property
    def refusing(self) -> Mapping[tuple[str, str], str]:
        """(task, model) that errors show to refuse what is needed, and why, where the logs do not say what is."""
        return self.errors.refusing(*self._told)

    @property
    def assumptions(self) -> tuple[str, ...]:
        """What is taken for granted."""
        logged = logged_at_all(self.by_task)
        silent = [NEED_IN_WORDS[need] for need in NEEDS if need not in logged]
        if not silent:
            return ()
        return (PARTLY_LOGGED.format(needs=join_names(silent)),) if logged else (NOT_LOGGED,)

    @property
    def warnings(self) -> tuple[str, ...]:
        """What errors show and the logs do not say."""
        if not self.refusing:
            return ()
        models = sorted({model for _, model in self.refusing})
        named = ", ".join(f"{counted(count, 'failure')} over {need}" for need, count in sorted(self.errors.by_need(*self._told).items()))
        warning = (
            f"{join_names(models)} refused requests for what they needed{f' ({named})' if named else ''}, and the logs do not say which requests "
            "need it: no rule can keep such requests away. Where a model refused them, it is not proposed; log what requests carry to open it."
        )
        return (warning,)


def window_needs(requests: ibis.Table, parameters: Parameters) -> WindowNeeds:
    """Four small aggregates over the window's rows (schema.SCOPED_REQUESTS)."""
    by_task = needs_by_task(requests.filter(requests.is_final))
    longest_answer = max((each.longest_answer for each in by_task.values()), default=0.0)
    errors = shown_by_errors(requests)
    longest_prompt = max((each.longest_prompt for each in by_task.values()), default=0.0)
    targets = with_limits_shown(targets_of(requests, parameters, lessons_of(requests), longest_answer), requests, errors, longest_prompt)
    cuts = cuts_of(by_task, unmet(targets.values()), (each.prompts_below for each in targets.values()))
    return WindowNeeds(by_task, targets, cuts, errors, parameters)


def binning_by_needs(requests: ibis.Table, needs: WindowNeeds, teams: tuple[tuple[str, ...], ...] = ()) -> Binning:
    """The binning, with tasks cut by needs, and by groups of teams where today's routing goes by them, and what may not be."""
    binning = binning_of(requests, replace(needs.cuts, teams=teams), spared_teams(needs.parameters.policy))
    families = families_of([needs.targets[model].same_as if model in needs.targets else "" for model in binning.models])
    return replace(binning, infeasible=_infeasible(binning, needs, _of_whole_sessions(requests, binning)), families=families)


def feasibility_told(requests: ibis.Table, needs: WindowNeeds) -> tuple[ModelFeasibility, ...]:
    """By model what it could not have served; nothing where nothing shows what requests need."""
    if not needs.is_logged and not needs.cuts.edges:
        return ()
    return feasibility_of(requests.filter(requests.is_final), needs.targets, needs.by_task)


def _of_whole_sessions(rows: ibis.Table, binning: Binning) -> dict[int, dict[str, Any]]:
    """By task, what any request of its sessions needs: a session's target has to serve the later ones too. Nothing where rows are requests."""
    ever = [name for name in rows.columns if name.startswith(("ever_", "longest_"))]
    if not ever:
        return {}
    placed = with_tasks(rows, Kinds(binning.tasks, binning.needs, binning.prompts, binning.kind_teams))
    counted = placed.group_by("task_place").agg(**{name: placed[name].max() for name in ever})
    return {int(row["task_place"]): row for row in counted.to_pyarrow().to_pylist() if row["task_place"] is not None}


def _infeasible(binning: Binning, needs: WindowNeeds, whole: Mapping[int, Mapping[str, Any]]) -> tuple[tuple[int, int, str], ...]:
    kinds = [_with_later(_kind(binning, task, needs), whole.get(task)) for task in range(len(binning.tasks))]
    found = []
    for task, kind in enumerate(kinds):
        for arm, model in enumerate(binning.models):
            target = needs.targets.get(model, Target(model, dict.fromkeys(NEEDS, "what it can is not known")))
            why = why_not(target, kind, needs.parameters.policy) or needs.refusing.get((kind.task_type, model))
            if why is not None:
                found.append((task, arm, why))
    return tuple(found)


def _with_later(kind: Kind, whole: Mapping[str, Any] | None) -> Kind:
    """What the later requests of the sessions need beside the first."""
    if whole is None:
        return kind
    return replace(
        kind,
        needs=tuple(need for need in NEEDS if need in kind.needs or whole.get(f"ever_{column_of(need)}")),
        longest_prompt=max(kind.longest_prompt, float(whole.get("longest_prompt") or 0)),
        longest_answer=max(kind.longest_answer, float(whole.get("longest_answer") or 0)),
    )


def _kind(binning: Binning, task: int, needs: WindowNeeds) -> Kind:
    """A part of a task as `feasible` judges it: needs that it is not cut by count where any of its requests shows them."""
    name = binning.tasks[task]
    own, cut = needs.by_task[name], dict(binning.needs[task]) if binning.needs else {}
    low, high = binning.prompts[task] if binning.prompts else (None, None)
    return Kind(
        task_type=name,
        needs=tuple(need for need in NEEDS if cut.get(column_of(need), own.needing[need] > 0)),
        longest_prompt=own.longest_prompt if high is None else high - 1.0,
        longest_answer=own.longest_answer,
        long_from=low,
    )
