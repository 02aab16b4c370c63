"""What the logs teach of what models can serve: successes with a need, and refusals.

Belongs here: one aggregate over attempts, and when it decides. Does not belong here: what lists say (`capabilities`), how the
two are weighed (`feasible`).
"""

from __future__ import annotations

from collections.abc import Collection, Mapping
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

    A failure whose class is not logged counts as a refusal: it may have been one. One whose class names another need, or the prompt's length,
    is none of this need. A request that was refused may have been so for another of its needs: what a model refuses by itself is found first, and
    the others are judged by requests without it, where these tell.
    """
    there = [need for need in NEEDS if column_of(need) in attempts.columns]
    if not there:
        return {}
    alike = _alike(attempts, ("model",), there)
    named_for: dict[Need, Any] = {need: is_of(alike.error_type, NEED_CLASSES[need]) for need in there}
    is_named = is_of(alike.error_type, (*CONTEXT_CLASSES, *(part for parts in NEED_CLASSES.values() for part in parts)))
    without_reason = ~is_named & (alike.error_type.isnull() | is_of(alike.error_type, REFUSING_CLASSES))
    counted = alike.group_by(model=alike.model, **{need: alike[column_of(need)] for need in there}).agg(
        answered=alike.answered.sum(),
        without_reason=alike.failed.sum(where=without_reason).fill_null(0),
        **{f"named_{need}": alike.failed.sum(where=is_named_so).fill_null(0) for need, is_named_so in named_for.items()},
    )
    by_model: dict[str, list[dict[str, Any]]] = {}
    for row in counted.to_pyarrow().to_pylist():
        by_model.setdefault(row["model"], []).append(row)
    return {(model, need): lesson for model, rows in by_model.items() for need, lesson in _lessons(rows, there).items()}


def _alike(attempts: ibis.Table, by: Collection[str], needs: Collection[Need]) -> ibis.Table:
    """Attempts counted by all that is asked of them here: a text is then looked through once for each error class, and not for each attempt."""
    asked = {column_of(need): attempts[column_of(need)].fill_null(False) for need in needs}
    error_type = attempts.error_type if "error_type" in attempts.columns else ibis.null("string")
    return attempts.group_by(*by, **asked, error_type=error_type).agg(
        n=attempts.count(),
        answered=(attempts.status == "success").sum().fill_null(0),
        failed=(attempts.status == "failure").sum().fill_null(0),
    )


def _lessons(rows: list[dict[str, Any]], there: Collection[Need]) -> dict[Need, Lesson]:
    """Of one model, from its attempts by what they need."""

    def lesson(need: Need, without: Collection[Need]) -> Lesson:
        of = [row for row in rows if row[need] and not any(row[other] for other in without if other != need)]
        return Lesson(sum(int(row["answered"]) for row in of), sum(int(row["without_reason"]) + int(row[f"named_{need}"]) for row in of))

    by_all = {need: lesson(need, ()) for need in there}
    refused = [need for need, each in by_all.items() if each.able is False]
    apart = {need: lesson(need, refused) for need in there}
    return {need: by_all[need] if apart[need].able is None else apart[need] for need in there}


MIN_SPECIFIC = 3
MIN_GENERAL = 5
UNUSUAL = 3.0
"""A model is seen to refuse what is asked where so many errors of it say so, over all tasks; or where so many requests were refused without a
reason, and so many times the share that all other models refused. Then one refusal in a task is enough: a router that knows what it sends
keeps such requests away, so that few errors stand for many requests that a rule would move."""
EXPECTED = 8.0
"""A task in which such a model refused nothing is open to it where its rate elsewhere would have brought so many refusals."""
LONG = "long prompts"
_SPECIFIC: Mapping[str, tuple[str, ...]] = {
    **{str(need): parts for need, parts in NEED_CLASSES.items()},
    LONG: CONTEXT_CLASSES,
    "other needs": ("unsupported", "not_supported", "notsupported"),
}


@dataclass(frozen=True)
class Refusals:
    """Attempts at one task by one model: how many; refused without a reason, nor a need that the log tells of; by the need that the class names."""

    attempts: int
    refused: int
    by_need: Mapping[str, int]


class ShownByErrors:
    """What error classes show of needs, by (task, model)."""

    def __init__(self, by_pair: Mapping[tuple[str, str], Refusals]) -> None:
        self.by_pair = by_pair

    def by_need(self, told: Mapping[str, Collection[str]], limited: Collection[str]) -> dict[str, int]:
        """Failures over all by need, of needs that the logs do not tell of (`refusing`)."""
        found: dict[str, int] = {}
        for key, each in self.by_pair.items():
            for need, count in _untold(key, each, told, limited).items():
                found[need] = found.get(need, 0) + count
        return found

    def over_length(self, model: str) -> int:
        """Failures of a model that its prompts' lengths are named for."""
        return sum(each.by_need.get(LONG, 0) for (_, name), each in self.by_pair.items() if name == model)

    def refusing(self, told: Mapping[str, Collection[str]], limited: Collection[str]) -> dict[tuple[str, str], str]:
        """(task, model) where requests were refused for what they need, and what shows it.

        Args:
            told: by task, the needs of which the logs tell: rules keep such requests away, and their errors show nothing more.
            limited: models of which it is known how long their prompts may be.
        """
        by_task: dict[str, dict[str, Refusals]] = {}
        over_all: dict[str, Refusals] = {}
        named: dict[str, int] = {}
        for (task, model), own in self.by_pair.items():
            untold = _untold((task, model), own, told, limited)
            by_task.setdefault(task, {})[model] = own = Refusals(own.attempts, own.refused + sum(untold.values()), untold)
            before = over_all.get(model, Refusals(0, 0, {}))
            over_all[model] = Refusals(before.attempts + own.attempts, before.refused + own.refused, {})
            named[model] = named.get(model, 0) + sum(untold.values())
        seen = {model: _unusual(over_all, model, MIN_GENERAL) is not None for model in over_all}
        found = {}
        for task, model in self.by_pair:
            why = _shown(by_task[task], model, over_all[model], is_named=named[model] >= MIN_SPECIFIC, is_seen=seen[model])
            if why is not None and (by_task[task][model].by_need or not set(NEEDS) <= set(told.get(task, ()))):
                found[task, model] = why
        return found


def _shown(of_task: Mapping[str, Refusals], model: str, over_all: Refusals, *, is_named: bool, is_seen: bool) -> str | None:
    """What shows that a model refuses what requests of a task need; None where nothing does.

    is_named: errors of the model name needs often enough, over all tasks; is_seen: it refuses unusually often, over all tasks.
    """
    own = of_task[model]
    if is_named and own.by_need:
        return f"{sum(own.by_need.values()):,} of its errors here say that it cannot do what was asked ({', '.join(sorted(own.by_need))})"
    unusual = _unusual(of_task, model, 1 if is_seen else MIN_GENERAL)
    if unusual is not None or own.refused or not (is_named or is_seen):
        return unusual
    elsewhere = over_all.refused / max(over_all.attempts - own.attempts, 1)
    if elsewhere * own.attempts >= EXPECTED:
        return None
    return f"it refused {over_all.refused:,} requests of other tasks for what they needed, and served too few here to tell"


def _untold(key: tuple[str, str], own: Refusals, told: Mapping[str, Collection[str]], limited: Collection[str]) -> dict[str, int]:
    """Failures by need, of needs of which the logs do not tell."""
    task, model = key
    known = {
        *told.get(task, ()),
        *((LONG,) if model in limited else ()),
        *(("other needs",) if set(NEEDS) <= set(told.get(task, ())) else ()),
    }
    return {need: count for need, count in own.by_need.items() if need not in known}


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
    there = [need for need in NEEDS if column_of(need) in attempts.columns]
    alike = _alike(attempts, ("task_type", "model"), there)
    sums: dict[str, Any] = {}
    told = ibis.literal(False)
    for place, parts in enumerate(_SPECIFIC.values()):
        # The first need that a class names counts.
        names_it = is_of(alike.error_type, parts)
        sums[f"n_{place}"] = alike.failed.sum(where=names_it & ~told).fill_null(0)
        told = told | names_it
    for need in there:
        # A need that the log tells of explains a refusal.
        told = told | alike[column_of(need)]
    sums["refused"] = alike.failed.sum(where=is_of(alike.error_type, REFUSING_CLASSES) & ~told).fill_null(0)
    rows = alike.group_by("task_type", "model").agg(attempts=alike.n.sum(), **sums).to_pyarrow().to_pylist()
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


def lengths_answered(attempts: ibis.Table, models: Collection[str]) -> dict[str, float]:
    """By model, a length of prompt that it is seen to take: MIN_SUCCESSES of those that it answered are as long or longer.

    Below the shortest prompt that it refused for its length, where the log has it. Models that answered fewer are left out.

    Args:
        attempts: with model, status, prompt_tokens and error_type.
        models: those that are asked about.
    """
    if not models or "prompt_tokens" not in attempts.columns:
        return {}
    known = attempts.filter(attempts.model.isin(sorted(models)), attempts.prompt_tokens > 0)
    answered = known.filter(known.status == "success").select("model", "prompt_tokens")
    ranked = answered.mutate(rank=ibis.row_number().over(ibis.window(group_by="model", order_by=ibis.desc("prompt_tokens"))))
    found = {
        row["model"]: float(row["prompt_tokens"])
        for row in ranked.filter(ranked["rank"] == MIN_SUCCESSES - 1).select("model", "prompt_tokens").to_pyarrow().to_pylist()
    }
    if "error_type" in attempts.columns:
        refused = known.filter(known.status == "failure", is_of(known.error_type, CONTEXT_CLASSES))
        for row in refused.group_by("model").agg(shortest=refused.prompt_tokens.min()).to_pyarrow().to_pylist():
            if row["model"] in found:
                found[row["model"]] = min(found[row["model"]], float(row["shortest"]) - 1.0)
    return found
