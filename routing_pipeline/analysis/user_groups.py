"""Groups of users that money is told by: new and returning ones, heavy and light ones.

Belongs here: to which group a row's user belongs, as a column. Does not belong here: what groups cost (`unit_costs`, `spend_groupings`).

Users without a name in the log are in no group: null.
"""

from __future__ import annotations

from typing import Any

import ibis

from routing_pipeline.window.kinds_of_call import is_chat
from routing_pipeline.window.scope import AnalysisScope

HEAVY_SHARE = 0.10
"""Share of the users that counts as heavy; of users with equally many requests at the border none is."""
DEFINITIONS: dict[str, str] = {
    "user_cohort": "A returning user has a call in the equal window before this one; a new user has none.",
    "user_volume": f"Heavy users are the {HEAVY_SHARE:.0%} with the most requests in the window; all others are light.",
}
NO_WINDOW_BEFORE = "new and returning users are distinguished by the previous window, which the logs do not cover fully"


def cohorts_unknown(scope: AnalysisScope) -> str | None:
    """Why new and returning users cannot be told apart; None where they can."""
    return None if scope.incomparable is None and scope.previous_requests else NO_WINDOW_BEFORE


def with_user_groups(requests: ibis.Table, previous: ibis.Table, scope: AnalysisScope, wanted: tuple[str, ...]) -> ibis.Table:
    """Rows of every kind of call with the `wanted` of DEFINITIONS as columns; `user_cohort` is null where it cannot be told."""
    if "user_cohort" in wanted:
        requests = _with_cohort(requests, previous, scope)
    return _with_volume(requests) if "user_volume" in wanted else requests


def _with_cohort(requests: ibis.Table, previous: ibis.Table, scope: AnalysisScope) -> ibis.Table:
    if cohorts_unknown(scope) is not None:
        return requests.mutate(user_cohort=ibis.null("string"))
    seen = previous.filter(previous.user_hash.notnull()).select(seen_user="user_hash").distinct()
    rows = requests.left_join(seen, requests.user_hash == seen.seen_user)
    cohort = ibis.ifelse(rows.seen_user.notnull(), "returning", "new")
    return rows.mutate(user_cohort=ibis.ifelse(rows.user_hash.notnull(), cohort, ibis.null("string"))).drop("seen_user")


def _with_volume(requests: ibis.Table) -> ibis.Table:
    """Runs one small query now: how many users have how many requests."""
    named = requests.filter(requests.user_hash.notnull())
    users = named.group_by(counted_user="user_hash").agg(n=(named.is_final & is_chat(named)).sum())
    counts: list[dict[str, Any]] = users.group_by("n").agg(users=users.count()).order_by(ibis.desc("n")).to_pyarrow().to_pylist()
    room = HEAVY_SHARE * sum(row["users"] for row in counts)
    # The busiest user is heavy even where there are fewer than ten.
    heavy_from, taken = (counts[0]["n"] if len(counts) > 1 else float("inf")), 0
    for row in counts:
        taken += row["users"]
        if taken > room:
            break
        heavy_from = row["n"]
    rows = requests.left_join(users, requests.user_hash == users.counted_user)
    volume = ibis.ifelse(rows.n >= heavy_from, "heavy", "light")
    return rows.mutate(user_volume=ibis.ifelse(rows.user_hash.notnull(), volume, ibis.null("string"))).drop("counted_user", "n")
