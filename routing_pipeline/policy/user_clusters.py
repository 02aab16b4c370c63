"""Whether a user's sessions hang together more than chance has it, so that users and not sessions are independent.

Belongs here: the test. Does not belong here: what follows for the rows (`policy.counting`), errors by cluster (`stats.inference`).

With R_s what a session's scores add to their deviation from the mean of task and model, errors by session rest on sum_s R_s^2, errors by user on
sum_u (sum_{s in u} R_s)^2. Their difference is the sum of R_s R_s' over pairs of one user's sessions: 0 on average where sessions are
independent, with variance 2 sum_u ((sum_s R_s^2)^2 - sum_s R_s^4). Few heavy users make a small correlation count: what matters is the ratio
of the two, the design effect (Kish 1965, ch. 5), and not the correlation.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import ibis

LEAST_USERS = 40
"""Of fewer, errors by user would say little about themselves."""
LEAST_SCORED = 300
LOGGED = 0.5
"""Share of the scored answers that must name a user."""
BEYOND_CHANCE = 3.0
RATIO = 1.15
"""Variance by user over that by session, from which on users are the clusters."""


@dataclass(frozen=True)
class UserEffect:
    """What users add: users, the variance of a mean by user over that by session, the correlation within a user, and standard errors beyond chance."""

    users: int
    ratio: float
    correlation: float
    z: float

    @property
    def matters(self) -> bool:
        """Users are to be the clusters."""
        return self.z > BEYOND_CHANCE and self.ratio > RATIO and self.users >= LEAST_USERS


def user_effect(final: ibis.Table) -> UserEffect | None:
    """From the scores of final requests; None where users or sessions are not logged, or too few are scored."""
    if not {"user_hash", "session_id"} <= set(final.columns):
        return None
    scored = final.filter(final.quality.notnull())
    counted = scored.agg(n=scored.count(), named=scored.user_hash.count()).to_pyarrow().to_pylist()[0]
    if counted["n"] < LEAST_SCORED or counted["named"] < LOGGED * counted["n"]:
        return None
    rows = scored.filter(scored.user_hash.notnull()).mutate(of=scored.routed_model.fill_null(""))
    # Joined rather than by a window function, which would hold every row.
    usual = rows.group_by(usual_task="task_type", usual_of="of").agg(usual=rows.quality.mean())
    rows = rows.join(usual, [rows.task_type == usual.usual_task, rows.of == usual.usual_of])
    rows = rows.select("user_hash", "session_id", off=rows.quality - rows.usual)
    square = rows.off * rows.off
    # An answer without a session is one by itself: most of many logs, and nothing to be put together. All in one pass, sums of both kinds
    # beside each other, because rows that are read twice within a query cost as much again.
    sessions = rows.group_by("user_hash", "session_id").agg(
        off=rows.off.sum(), squares=square.sum(), fourth=(square * square).sum(), n=rows.count()
    )
    is_one = sessions.session_id.notnull()
    square = sessions.off * sessions.off
    users = sessions.group_by("user_hash").agg(
        off=sessions.off.sum(),
        by_session=ibis.ifelse(is_one, square, sessions.squares).sum(),
        fourth=ibis.ifelse(is_one, square * square, sessions.fourth).sum(),
        squares=sessions.squares.sum(),
        n=sessions.n.sum(),
        pairs=ibis.ifelse(is_one, sessions.n * sessions.n, sessions.n).sum(),
    )
    sums = users.agg(
        users=users.count(),
        by_user=(users.off * users.off).sum(),
        by_session=users.by_session.sum(),
        chance=(users.by_session * users.by_session - users.fourth).sum(),
        squares=users.squares.sum(),
        n=users.n.sum(),
        pairs=(users.n * users.n - users.pairs).sum(),
    )
    found = {name: float(value or 0.0) for name, value in sums.to_pyarrow().to_pylist()[0].items()}
    if found["by_session"] <= 0 or found["chance"] <= 0 or found["pairs"] <= 0:
        return None
    more = found["by_user"] - found["by_session"]
    return UserEffect(
        users=round(found["users"]),
        ratio=found["by_user"] / found["by_session"],
        correlation=more / found["pairs"] / max(found["squares"] / found["n"], 1e-300),
        z=more / math.sqrt(2.0 * found["chance"]),
    )
