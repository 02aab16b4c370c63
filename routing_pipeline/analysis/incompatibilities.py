"""Failures, refusals and cut-off answers that belong to one pair of task and model.

Does not belong here: outages, which hit all tasks of a model (`availability`).
"""

from __future__ import annotations

import math
from collections import defaultdict
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Literal

import ibis
from pydantic import Field

from routing_pipeline.analysis.choices import fold_rare
from routing_pipeline.analysis.quality_over_time import step_of
from routing_pipeline.estimates import Measured, Result, Unidentifiable, quantity
from routing_pipeline.stats.counted_tests import hypergeometric_tail
from routing_pipeline.stats.inference import FALSE_DISCOVERY_RATE, false_discovery_adjusted, proportion_interval
from routing_pipeline.text import LogName
from routing_pipeline.window.scope import AnalysisScope

FailureKind = Literal["failure", "refusal", "truncation"]
NAMES_OF: dict[FailureKind, tuple[str, ...]] = {
    "refusal": ("contentpolicy", "content_policy", "content_filter", "contentfilter", "refus", "safety", "moderation", "guardrail"),
    "truncation": ("contextwindow", "context_window", "context_length", "trunc", "max_tokens", "max_output", "too_long"),
}
"""Parts of an error's class, in lower case, by which gateways and providers name it."""


class Incompatibility(Result):
    """Failures of one kind that concentrate in one pair of task and model."""

    kind: FailureKind = Field(
        description="Any failure; refusals and prompts or answers beyond the model's length as their error class names them"
    )
    task_type: LogName
    model: LogName
    calls: int = quantity("Calls to the model for the task", "calls")
    affected: int = quantity("Of them, of this kind", "calls")
    rate: Measured = quantity("Of the pair's calls", "0..1")
    same_model_rate: float = quantity("The model on its other tasks", "0..1")
    same_task_rate: float = quantity("The task on its other models", "0..1")
    adjusted_p: float = quantity("Benjamini-Hochberg adjusted p-value of the weaker of both comparisons", "0..1")


@dataclass
class _Calls:
    """Calls by step of time, and how many of them were of each kind."""

    calls: dict[int, int] = field(default_factory=lambda: defaultdict(int))
    affected: dict[FailureKind, dict[int, int]] = field(default_factory=lambda: defaultdict(lambda: defaultdict(int)))

    def count(self, kind: FailureKind) -> tuple[int, int]:
        """Calls and affected calls over the window."""
        return sum(self.calls.values()), sum(self.affected[kind].values())

    def thinned(self, kind: FailureKind) -> tuple[int, int]:
        """The same, divided by the design effect of time: how much more the rate varies than with independent calls.

        deff = sum_b (k_b - p n_b)^2 / (n p (1 - p)) over steps b, at least 1 (Kish 1965, Survey Sampling, 8.2). An outage hits
        whatever runs in its hours; its calls hang together and count for few.
        """
        n, k = self.count(kind)
        if k == 0 or k == n or len(self.calls) < 2:
            return n, k
        rate = k / n
        missed = math.fsum((self.affected[kind].get(step, 0) - rate * calls) ** 2 for step, calls in self.calls.items())
        factor = max(missed / (n * rate * (1 - rate)), 1.0)
        return round(n / factor), round(k / factor)


def incompatibilities(requests: ibis.Table, scope: AnalysisScope, width_h: int) -> tuple[list[Incompatibility], Unidentifiable | None]:
    """Pairs whose rate is above that of the model's other tasks and above that of the task's other models, both at once."""
    pairs = _calls(requests, scope, width_h)
    by_model, by_task = _sums(pairs, 1), _sums(pairs, 0)
    kinds: tuple[FailureKind, ...] = ("failure", "refusal", "truncation")
    tested: list[tuple[FailureKind, str, str, float]] = []
    for (task, model), pair in sorted(pairs.items()):
        for kind in kinds:
            if pair.count(kind)[1] == 0:
                continue
            elsewhere = (_less(by_model[model], pair), _less(by_task[task], pair))
            if all(other.count(kind)[0] for other in elsewhere):
                tested.append((kind, task, model, max(_more_often(pair, other, kind) for other in elsewhere)))
    adjusted = false_discovery_adjusted([p for *_, p in tested])
    found = []
    for (kind, task, model, _), p in zip(tested, adjusted, strict=True):
        if p > FALSE_DISCOVERY_RATE:
            continue
        calls, affected = pairs[task, model].count(kind)
        found.append(
            Incompatibility(
                kind=kind,
                task_type=task,
                model=model,
                calls=calls,
                affected=affected,
                rate=proportion_interval(affected, calls),
                same_model_rate=_rate(_less(by_model[model], pairs[task, model]), kind),
                same_task_rate=_rate(_less(by_task[task], pairs[task, model]), kind),
                adjusted_p=p,
            )
        )
    named = any(pair.count(kind)[1] for pair in pairs.values() for kind in kinds if kind != "failure")
    unknown = Unidentifiable(
        unidentifiable="no error class names a refusal or a cut-off answer, and one that the provider returned as a success cannot be seen; "
        "log the finish reason as the error type"
    )
    return sorted(found, key=lambda each: (-each.affected, each.kind, each.task_type, each.model)), None if named else unknown


def _calls(requests: ibis.Table, scope: AnalysisScope, width_h: int) -> dict[tuple[str, str], _Calls]:
    rows = requests.filter(~requests.is_cache_hit.fill_null(False))
    rows = fold_rare(fold_rare(rows, "task_type", len(scope.task_types)), "model", len(scope.models))
    error = rows.error_type.fill_null("").lower()
    conditions: dict[FailureKind, Any] = {"failure": rows.status == "failure"}
    for kind, names in NAMES_OF.items():
        named = error.contains(names[0])
        for name in names[1:]:
            named = named | error.contains(name)
        conditions[kind] = named
    rows = rows.mutate(step=step_of(rows, width_h), **conditions)
    sums = rows.group_by("task_type", "model", "step").agg(calls=rows.count(), **{kind: rows[kind].sum() for kind in conditions})
    pairs: dict[tuple[str, str], _Calls] = defaultdict(_Calls)
    for row in sums.to_pyarrow().to_pylist():
        pair = pairs[row["task_type"], row["model"]]
        pair.calls[row["step"]] += row["calls"]
        for kind in conditions:
            if row[kind]:
                pair.affected[kind][row["step"]] += row[kind]
    return pairs


def _sums(pairs: Mapping[tuple[str, str], _Calls], by: int) -> dict[str, _Calls]:
    found: dict[str, _Calls] = defaultdict(_Calls)
    for names, pair in pairs.items():
        _add(found[names[by]], pair, 1)
    return found


def _less(whole: _Calls, part: _Calls) -> _Calls:
    rest = _Calls()
    _add(rest, whole, 1)
    _add(rest, part, -1)
    rest.calls = {step: calls for step, calls in rest.calls.items() if calls}
    return rest


def _add(to: _Calls, more: _Calls, sign: int) -> None:
    for step, calls in more.calls.items():
        to.calls[step] += sign * calls
    for kind, by_step in more.affected.items():
        for step, affected in by_step.items():
            to.affected[kind][step] += sign * affected


def _more_often(pair: _Calls, other: _Calls, kind: FailureKind) -> float:
    """One-sided p-value of Fisher's exact test that the pair's rate is not above the other's."""
    (n, k), (others, affected) = pair.thinned(kind), other.thinned(kind)
    return hypergeometric_tail(k, n + others, k + affected, n)


def _rate(calls: _Calls, kind: FailureKind) -> float:
    n, k = calls.count(kind)
    return k / n if n else 0.0
