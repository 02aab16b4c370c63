"""Kinds of call: chat, which rules, quality and models to choose from speak of, and the others, which only cost.

Belongs here: telling the kind of a row, and rows of chat from the rest. Does not belong here: which kinds there are (`schema.OPERATIONS`).
"""

from __future__ import annotations

import ibis

from routing_pipeline.schema import CHAT, OPERATIONS


def kind_of(rows: ibis.Table) -> ibis.expr.types.StringValue:
    """The kind of each call, one of schema.OPERATIONS: `chat` where the log does not say, `other` for a word that is none of ours."""
    if "operation" not in rows.columns:
        return ibis.literal(CHAT)
    said = rows.operation.fill_null(CHAT)
    return ibis.ifelse(said.isin(OPERATIONS), said, "other")


def is_chat(rows: ibis.Table) -> ibis.expr.types.BooleanValue:
    """Whether a call is one of those that rules, quality and models to choose from speak of."""
    return kind_of(rows) == CHAT


def chat_of(rows: ibis.Table) -> ibis.Table:
    """Rows of the kind `chat` alone."""
    return rows.filter(is_chat(rows))
