"""What counts as a retry and what as a fallback: once, for rates and for money.

Belongs here: the two conditions on final rows. Does not belong here: rates (`routing_analytics`), what they cost (`cost_drivers`).

A retry asks the same model again, a fallback another one. Both are told by request, from its final attempt: where the log holds all
attempts of a request, from them; else from what the gateway says of it. A request that was tried again at its first model and then fell
back counts as a retry only where the gateway says so.
"""

from __future__ import annotations

import ibis


def fell_back(rows: ibis.Table) -> ibis.expr.types.BooleanValue:
    """Whether a row (schema.SCOPED_REQUESTS) is the outcome of a request that another model answered than the one chosen first."""
    return rows.is_final & (rows.fallback_from.notnull() | (rows.model != rows.routed_model))


def asked_again(rows: ibis.Table) -> ibis.expr.types.BooleanValue:
    """Whether a row is the outcome of a request that the same model was asked again for; false where the log cannot tell."""
    more_attempts = (rows.attempts > 1) & ~fell_back(rows)
    return rows.is_final & ((rows.retries.fill_null(0) > 0) | more_attempts).fill_null(False)
