"""Which rule decides for a row: by its own fields, or by those of its session's first request.

Belongs here: a row as a rule meets it. Does not belong here: what a condition says (`rules.model`), what follows from the decision
(`policy.replay`, `recommendation.rule_traffic`).
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import ibis

from routing_pipeline.policy.units import SESSION, in_order, with_sessions
from routing_pipeline.rules.model import NEEDS, Rule

FIELDS: tuple[str, ...] = ("task_type", "complexity", "prompt_tokens", "team", "tier", *NEEDS)
"""What a condition may ask for."""
FIRST = "first_"


def as_logged(rows: ibis.Table) -> ibis.Table:
    """Rows as a rule meets them: it never matches a field that was not logged."""
    return rows.mutate(
        task_type=ibis.ifelse(rows.is_task_type_logged, rows.task_type, ibis.null("string")),
        complexity=ibis.ifelse(rows.is_complexity_derived, ibis.null("float64"), rows.complexity),
    )


def with_first_fields(rows: ibis.Table, rules: Sequence[Rule]) -> ibis.Table:
    """Final rows as logged with the fields of their session's first request beside their own, where a rule decides by those.

    Rows of sessions, and of logs without sessions, are their own first ones.
    """
    has_sessions = {"session_id", "request_id", "started_s"} <= set(rows.columns) and "calls" not in rows.columns
    if not has_sessions or all(rule.per == "request" for rule in rules):
        return rows
    rows = with_sessions(rows)
    first = {f"{FIRST}{name}": rows[name].first(include_null=True).over(in_order()) for name in FIELDS if name in rows.columns}
    return rows.mutate(**first).drop(SESSION)


class _AtFirst:
    """A table's columns as they were at the session's first request."""

    def __init__(self, rows: ibis.Table) -> None:
        self.rows = rows

    def __getitem__(self, name: str) -> Any:
        return self.rows[f"{FIRST}{name}"]


def holds(rule: Rule, rows: ibis.Table, *, without: tuple[str, ...] = ()) -> ibis.expr.types.BooleanValue:
    """Whether a rule's conditions hold for a row, those on fields of `without` left out; rows from `with_first_fields`."""
    condition = rule.when.model_copy(update=dict.fromkeys(without))
    seen: Any = _AtFirst(rows) if rule.per == "session" and f"{FIRST}task_type" in rows.columns else rows
    return condition.holds(seen)
