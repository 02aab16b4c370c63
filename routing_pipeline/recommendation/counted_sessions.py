"""For how much a request counts where costs and times of what rules decided are told: those of rules per session are sums over sessions.

Belongs here: what a rule's sessions count for, as a column. Does not belong here: what is told of them (`realized_outcomes`,
`against_control`, `canary`), what is decided about sessions (`policy.units`).

A cheaper model may need more calls for the same task, and a cost per call would not show it. So every session counts for as many requests as
one of its kind held in the window of the promise, in either arm, however many it takes now: (its costs) / (requests of a session then).
"""

from __future__ import annotations

from collections.abc import Sequence

import ibis

from routing_pipeline.estimates import Estimate
from routing_pipeline.policy.units import SESSION, with_sessions
from routing_pipeline.rules.model import Rule, RuleSet

THEN = "requests_then"
"""Column: `requests_then` of the rule that decided; null where each request is decided by itself."""
COUNTS_FOR = "counts_for"
"""Column: for how many requests a row counts in means of costs and times."""


def requests_then(rule: Rule, rule_set: RuleSet) -> float | None:
    """Requests of one of the rule's sessions in the window of its promise, of any session where its own were not counted; None of a rule per request."""
    if rule.per != "session":
        return None
    if rule.evidence.sessions:
        return rule.evidence.requests / rule.evidence.sessions
    return requests_of_any(rule_set)


def requests_of_any(rule_set: RuleSet) -> float | None:
    """Requests of a session in the window of the promise, whichever rule decides it; None where the promise is per call only."""
    of_all = rule_set.expected.per_session
    return of_all.baseline.requests.estimate if of_all is not None and isinstance(of_all.baseline.requests, Estimate) else None


def with_counts(rows: ibis.Table, by: Sequence[str]) -> ibis.Table:
    """Rows with COUNTS_FOR and the session that each belongs to.

    Args:
        rows: final rows with THEN.
        by: columns within whose values a session is one session: the rule that decided, and the arm.
    """
    rows = with_sessions(rows)
    of_session = rows.count().over(ibis.window(group_by=[SESSION, *by]))
    return rows.mutate(**{COUNTS_FOR: ibis.ifelse(rows[THEN].isnull(), ibis.literal(1.0), rows[THEN] / of_session)})


def counted(rows: ibis.Table, column: str) -> ibis.expr.types.FloatingScalar:
    """For how many requests those count of which a column is known."""
    return ibis.ifelse(rows[column].notnull(), rows[COUNTS_FOR], 0.0).sum()
