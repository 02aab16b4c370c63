"""What the logs teach of what models can serve: successes with a need, and refusals.

Belongs here: one aggregate over attempts, and when it decides. Does not belong here: what lists say (`capabilities`), how the
two are weighed (`feasible`).
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import ibis

from routing_pipeline.feasibility.needs import NEEDS, Need, column_of

MIN_SUCCESSES = 30
MAX_REFUSED = 0.01
"""A model is able that answered so many requests with the need and refused fewer than this share of them."""
MIN_REFUSALS = 10
MOSTLY_REFUSED = 0.5
"""A model is unable that refused so many of them, and this share or more."""
CONTEXT_CLASSES: tuple[str, ...] = ("contextwindow", "context_window", "context_length", "contextlength", "too_long", "toolong", "413")
NEED_CLASSES: Mapping[Need, tuple[str, ...]] = {
    "image": ("image", "vision", "multimodal"),
    "audio": ("audio",),
    "tools": ("tool_use", "tooluse", "toolsnot", "function_call"),
    "schema": ("response_format", "responseformat", "json_schema", "jsonschema"),
}
REFUSING_CLASSES: tuple[str, ...] = (
    *(
        "badrequest",
        "bad_request",
        "invalid_request",
        "invalidrequest",
        "unsupported",
        "not_supported",
        "notsupported",
        "400",
        "415",
        "422",
    ),
    *CONTEXT_CLASSES,
    *(part for parts in NEED_CLASSES.values() for part in parts),
)
"""Parts of error classes, in small letters, that say that the request itself was refused."""


@dataclass(frozen=True)
class Lesson:
    """Attempts of one model at requests with one need."""

    successes: int = 0
    refusals: int = 0

    @property
    def able(self) -> bool | None:
        """Whether the model meets the need; None where so many attempts cannot tell."""
        tried = self.successes + self.refusals
        if self.successes >= MIN_SUCCESSES and self.refusals < MAX_REFUSED * tried:
            return True
        return False if self.refusals >= MIN_REFUSALS and self.refusals >= MOSTLY_REFUSED * tried else None


Lessons = Mapping[tuple[str, Need], Lesson]


def is_of(error_type: ibis.expr.types.StringValue, parts: tuple[str, ...]) -> ibis.expr.types.BooleanValue:
    """Whether an error class holds one of these parts; false where it is not logged."""
    low = error_type.fill_null("").lower()
    found: ibis.expr.types.BooleanValue = ibis.literal(False)
    for part in parts:
        found = found | low.contains(part)
    return found


def lessons_of(attempts: ibis.Table) -> Lessons:
    """By model and need; one aggregate over attempts, none where no need is there as a column.

    A failure whose class is not logged counts as a refusal: it may have been one.
    """
    there = [need for need in NEEDS if column_of(need) in attempts.columns]
    if not there:
        return {}
    has_class = "error_type" in attempts.columns
    refused = attempts.status == "failure"
    if has_class:
        refused = refused & (attempts.error_type.isnull() | is_of(attempts.error_type, REFUSING_CLASSES))
    sums: dict[str, Any] = {}
    for need in there:
        needing = attempts[column_of(need)].fill_null(False)
        sums[f"{need}_answered"] = (needing & (attempts.status == "success")).sum().fill_null(0)
        sums[f"{need}_refused"] = (needing & refused).sum().fill_null(0)
    rows = attempts.group_by("model").agg(**sums).to_pyarrow().to_pylist()
    return {(row["model"], need): Lesson(int(row[f"{need}_answered"]), int(row[f"{need}_refused"])) for row in rows for need in there}


MIN_SPECIFIC = 3
MIN_GENERAL = 10
UNUSUAL = 3.0
"""A model refuses what a task needs where so many errors of it say so; or where so many requests were refused without a reason, and
so many times the share that all other models refused. Of a model of which that is seen over all tasks, few are enough in one."""
_SPECIFIC: Mapping[str, tuple[str, ...]] = {
    **{str(need): parts for need, parts in NEED_CLASSES.items()},
    "long prompts": CONTEXT_CLASSES,
    "other needs": ("unsupported", "not_supported", "notsupported"),
}


@dataclass(frozen=True)
class Refusals:
    """Attempts at one task by one model: how many, refused for any reason, and by the need that the error's class names."""

    attempts: int
    refused: int
    by_need: Mapping[str, int]


class ShownByErrors:
    """What error classes show of needs, by (task, model)."""

    def __init__(self, by_pair: Mapping[tuple[str, str], Refusals]) -> None:
        self.by_pair = by_pair

    @property
    def by_need(self) -> dict[str, int]:
        """Failures over all, by need."""
        found: dict[str, int] = {}
        for each in self.by_pair.values():
            for need, count in each.by_need.items():
                found[need] = found.get(need, 0) + count
        return found

    def refusing(self) -> dict[tuple[str, str], str]:
        """(task, model) where requests were refused for what they need, and what shows it."""
        by_task: dict[str, dict[str, Refusals]] = {}
        over_all: dict[str, Refusals] = {}
        for (task, model), own in self.by_pair.items():
            by_task.setdefault(task, {})[model] = own
            before = over_all.get(model, Refusals(0, 0, {}))
            over_all[model] = Refusals(before.attempts + own.attempts, before.refused + own.refused, {})
        is_seen = {model: _unusual(over_all, model, MIN_GENERAL) is not None for model in over_all}
        found = {}
        for (task, model), own in self.by_pair.items():
            if (specific := sum(own.by_need.values())) >= MIN_SPECIFIC:
                needs = ", ".join(sorted(own.by_need))
                found[task, model] = f"{specific:,} of its errors here say that it cannot do what was asked ({needs})"
            elif (unusual := _unusual(by_task[task], model, MIN_SPECIFIC if is_seen[model] else MIN_GENERAL)) is not None:
                found[task, model] = unusual
        return found


def _unusual(of: Mapping[str, Refusals], model: str, least: int) -> str | None:
    """How many requests a model refused, `least` or more and far more than the others did; None where it did not."""
    own, others = of[model], [each for other, each in of.items() if other != model]
    rate = sum(each.refused for each in others) / max(sum(each.attempts for each in others), 1)
    if own.refused < least or own.refused <= UNUSUAL * max(rate, 1e-4) * own.attempts:
        return None
    return f"it refused {own.refused:,} of {own.attempts:,} requests here, other models {100 * rate:.2g} %"


def shown_by_errors(attempts: ibis.Table) -> ShownByErrors:
    """One aggregate over attempts; nothing where error classes are not there."""
    if "error_type" not in attempts.columns:
        return ShownByErrors({})
    failed = attempts.status == "failure"
    sums: dict[str, Any] = {"refused": (failed & is_of(attempts.error_type, REFUSING_CLASSES)).sum().fill_null(0)}
    told = ibis.literal(False)
    for place, parts in enumerate(_SPECIFIC.values()):
        # The first need that a class names counts.
        names_it = is_of(attempts.error_type, parts)
        sums[f"n_{place}"] = (failed & names_it & ~told).sum().fill_null(0)
        told = told | names_it
    rows = attempts.group_by("task_type", "model").agg(attempts=attempts.count(), **sums).to_pyarrow().to_pylist()
    return ShownByErrors(
        {
            (row["task_type"], row["model"]): Refusals(
                int(row["attempts"]),
                int(row["refused"]),
                {need: int(row[f"n_{place}"]) for place, need in enumerate(_SPECIFIC) if row[f"n_{place}"]},
            )
            for row in rows
        }
    )
