"""What one request, one session, one solved task and one user cost, for everything and by group, each with its interval.

Belongs here: money over units that a business counts. Does not belong here: sums that add up over groups (`spend_groupings`), what a
session would have cost elsewhere (`policy`).

A session is what carries one session id. A group's part of a session is what its calls in the group cost, so that parts add up. A task
is a session, or the request where no session is named. It counts as solved by the last score that it has.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Sequence
from typing import ClassVar

import ibis
import numpy as np
from pydantic import Field

from routing_pipeline.analysis.choices import LISTED, fold_rare
from routing_pipeline.analysis.daily_spend import date_of
from routing_pipeline.analysis.spend_groupings import Dimension, Row, rows_of
from routing_pipeline.analysis.user_groups import DEFINITIONS, cohorts_unknown, with_user_groups
from routing_pipeline.estimates import Measured, Result, Unidentifiable, quantity
from routing_pipeline.schema import OWN_COST_ONLY
from routing_pipeline.stats.inference import NOT_NEGATIVE, Floats, clustered_mean, clustered_ratio_of_means, mean_interval
from routing_pipeline.text import LogName, counted
from routing_pipeline.window.kinds_of_call import is_chat, kind_of
from routing_pipeline.window.scope import CLUSTERS, AnalysisScope

SOLVED_FROM = 0.5
"""Least score of a solved task, where no quality threshold is asked for."""
TOLD: tuple[Dimension, ...] = ("team", "feature", "workflow", "prompt_version", "tags", "user_cohort", "user_volume")
"""Dimensions by which units are told unasked, where the logs have them."""
NO_SESSIONS = Unidentifiable(unidentifiable="no request names a session; send a session id with every request")
NO_USERS = Unidentifiable(unidentifiable="no request names a user; send a user id with every request")
NO_SCORES = Unidentifiable(unidentifiable="no task has a score; log quality_score with the last request of a task, or hand over feedback")
NONE_SOLVED = Unidentifiable(unidentifiable="none of the scored tasks was solved")


_NOBODY: Row = {"n": 0, "total": 0.0, "squares": 0.0}


class UnitCost(Result):
    """One group, or everything together."""

    group: tuple[LogName | None, ...] = Field(description="One value per dimension; null: not logged. Empty: everything together")
    requests: int = quantity("Final requests of chat with a cost", "requests")
    sessions: int = quantity("Sessions with a call in the group, every call of which has a cost", "sessions")
    tasks_scored: int = quantity("Of the tasks those with a score: sessions, or requests where no session is named", "tasks")
    tasks_solved: int = quantity("Of them those whose last score is high enough", "tasks")
    users: int = quantity("Users with a call in the group", "users")
    per_request_usd: Measured = quantity("Chat: all attempts of a request; interval over sessions", "USD")
    per_session_usd: Measured = quantity("All calls of a session in the group, of every kind; interval over sessions", "USD")
    per_solved_task_usd: Measured = quantity("Spend on the scored tasks over the number of solved ones; interval over sessions", "USD")
    per_user_usd: Measured = quantity("Spend on calls that name a user, over the users; interval over users", "USD")


class UnitCosts(Result):
    """Money per unit by one dimension, or by several crossed."""

    main_table: ClassVar = "lines"

    by: tuple[Dimension, ...] = Field(description="Empty: everything together")
    lines: tuple[UnitCost, ...] = Field(
        description="Dearest group first; by day in order of time; beyond 50 names of a dimension the rarest are one"
    )
    definition: str = Field(description="What a solved task is, and what groups of users are")
    notices: tuple[str, ...] = Field(default=(), description="What is missing and what to collect")


def unit_costs_told(requests: ibis.Table, previous: ibis.Table, scope: AnalysisScope) -> tuple[UnitCosts, ...]:
    """Of everything together, and by each dimension of TOLD that the logs have."""
    logged = rows_of(requests.agg(**{name: requests[name].notnull().any() for name in (*TOLD[:-2], "user_hash")}))[0]
    has_users = bool(logged["user_hash"])
    is_told = {"user_cohort": has_users and cohorts_unknown(scope) is None, "user_volume": has_users}
    found = [by for by in TOLD if is_told.get(by, logged.get(by))]
    return tuple(unit_costs(requests, previous, scope, by) for by in ((), *((each,) for each in found)))


def unit_costs(requests: ibis.Table, previous: ibis.Table, scope: AnalysisScope, by: tuple[Dimension, ...]) -> UnitCosts:
    """Money per unit by these dimensions crossed.

    Args:
        requests: conformed rows of the window (schema.SCOPED_REQUESTS), of every kind of call.
        previous: the same of the equal window before; who has a call there is a returning user.
        scope: the window.
        by: dimensions; none: everything together.
    """
    solved_from = SOLVED_FROM if scope.parameters.quality_threshold is None else scope.parameters.quality_threshold
    rows = with_user_groups(requests.mutate(operation=kind_of(requests)), previous, scope, by)
    for name in by:
        # Groups of users are few by their definition, and to count them is to put them together once more.
        rows = rows if name == "day" or name in DEFINITIONS else _few_names(rows, name)
    rows = rows.mutate(**{f"by_{place}": rows[name].cast("string") for place, name in enumerate(by)})
    keys = tuple(f"by_{place}" for place in range(len(by)))
    sums = _sums(rows, keys, solved_from)
    users = {tuple(row[key] for key in keys): row for row in rows_of(_users(rows, keys))}
    in_time = by == ("day",)
    ordered = sorted(sums.items(), key=lambda item: (0.0 if in_time else -item[1]("cost").sum(), tuple(str(part) for part in item[0])))
    lines = tuple(_line(_labels(group, by), of, users.get(group, _NOBODY)) for group, of in ordered[:LISTED])
    definition = f"A task counts as solved when its last score is {solved_from:g} or higher."
    return UnitCosts(
        by=by,
        lines=lines,
        definition=" ".join([definition, *(DEFINITIONS[name] for name in by if name in DEFINITIONS)]),
        notices=tuple(filter(None, [cohorts_unknown(scope) if "user_cohort" in by else None, _not_listed(len(ordered) - len(lines))])),
    )


def _not_listed(groups: int) -> str | None:
    return f"{counted(groups, 'group')} that cost less {'is' if groups == 1 else 'are'} not listed" if groups else None


def _few_names(rows: ibis.Table, column: str) -> ibis.Table:
    """Of a column with more than LISTED names, what is not logged among them, the rarest as one: its lines are LISTED at most, and hold everything."""
    sizes = rows.group_by(column).agg(n=lambda t: t.count())
    names = sizes.order_by(ibis.desc("n"), column).limit(LISTED + 1).to_pyarrow().num_rows
    return rows if names <= LISTED else fold_rare(rows, column, LISTED + 1, keep=LISTED - 2)


def _labels(group: tuple[str | None, ...], by: tuple[Dimension, ...]) -> tuple[str | None, ...]:
    """Names of a group as every other grouping has them: a day as its date, not as the number that it is counted by."""
    return tuple(
        date_of(int(value)).isoformat() if name == "day" and value is not None else value for name, value in zip(by, group, strict=True)
    )


def _sums(rows: ibis.Table, keys: Sequence[str], solved_from: float) -> dict[tuple[str | None, ...], Callable[[str], Floats]]:
    """By group: sums over units by session cluster, by the name of a sum."""
    found: dict[tuple[str | None, ...], dict[str, Floats]] = defaultdict(lambda: defaultdict(lambda: np.zeros(CLUSTERS)))
    for row in rows_of(_by_cluster(rows, keys, solved_from)):
        sums = found[tuple(row[key] for key in keys)]
        for name, value in row.items():
            if name not in keys and name != "cluster":
                sums[name][row["cluster"]] += float(value or 0.0)
    return {group: sums.__getitem__ for group, sums in found.items()}


def _by_cluster(rows: ibis.Table, keys: Sequence[str], solved_from: float) -> ibis.Table:
    is_answer = (rows.status == "success") & ~rows.is_cache_hit.fill_null(False) & ~rows.operation.isin(OWN_COST_ONLY)
    # The last score decides; of two at the same moment the lower. As one number, because ties would otherwise fall by chance.
    moment = (rows.started_s * 1e6).round().cast("int64") * 2
    scored = ibis.ifelse(rows.quality.notnull(), moment + (rows.quality < solved_from).cast("int64"), ibis.null("int64"))
    rows = rows.mutate(
        unit=ibis.coalesce(rows.session_id, rows.request_id),
        is_session=rows.session_id.notnull(),
        is_unpriced=is_answer & rows.cost_usd.isnull(),
        chat=is_chat(rows) & rows.is_final,
        scored=scored,
    )
    # A request of one attempt that names no session is a unit by itself: most rows of many logs, and nothing to be put together.
    # All in one pass, because rows that are read twice within a query cost as much again.
    is_alone = (rows.session_id.isnull() & rows.is_final & (rows.attempts == 1)).fill_null(False)
    is_task_alone = is_alone & rows.chat & ~rows.is_unpriced & rows.scored.notnull()
    rows = rows.mutate(is_alone=is_alone, unit=ibis.ifelse(is_alone, ibis.null("string"), rows.unit), is_task_alone=is_task_alone)
    parts = _parts(rows, keys)
    is_priced = ~parts.is_alone & (parts.unpriced == 0)
    of_task = (parts.chats > 0) & is_priced & parts.scored_at.notnull()
    parts = parts.mutate(of_session=parts.is_session & is_priced, of_task=of_task, is_solved=of_task & (parts.scored_at % 2 == 0))
    return parts.group_by(*keys, "cluster").agg(
        cost=parts.cost.sum(),
        requests=parts.requests.sum(),
        request_cost=parts.request_cost.sum(),
        sessions=parts.of_session.sum(),
        session_cost=parts.cost.sum(where=parts.of_session),
        scored=parts.of_task.sum() + parts.scored_alone.sum(),
        scored_cost=parts.cost.sum(where=parts.of_task).fill_null(0.0) + parts.scored_alone_cost.sum(),
        solved=parts.is_solved.sum() + parts.solved_alone.sum(),
    )


def _parts(rows: ibis.Table, keys: Sequence[str]) -> ibis.Table:
    """Parts of units by group; what is missing, scored and asked of the whole unit stands on each of them. Units of one row are one part together."""
    unit = ("unit", "is_alone", "is_session")
    parts = rows.group_by(*unit, "cluster", *keys).agg(
        cost=rows.cost_usd.sum().fill_null(0.0),
        unpriced=rows.is_unpriced.sum(),
        chats=rows.chat.sum(),
        requests=rows.request_cost_usd.count(where=rows.chat),
        request_cost=rows.request_cost_usd.sum(where=rows.chat).fill_null(0.0),
        scored_at=rows.scored.max(),
        scored_alone=rows.is_task_alone.sum(),
        scored_alone_cost=rows.cost_usd.sum(where=rows.is_task_alone).fill_null(0.0),
        solved_alone=(rows.is_task_alone & (rows.scored % 2 == 0)).sum(),
    )
    # Without groups a unit has one part, which is the whole.
    if not keys:
        return parts
    whole = ibis.window(group_by=unit)
    return parts.mutate(
        unpriced=parts.unpriced.sum().over(whole), chats=parts.chats.sum().over(whole), scored_at=parts.scored_at.max().over(whole)
    )


def _users(rows: ibis.Table, keys: Sequence[str]) -> ibis.Table:
    named = rows.filter(rows.user_hash.notnull(), rows.cost_usd.notnull())
    spent = named.group_by("user_hash", *keys).agg(cost=named.cost_usd.sum())
    return (spent.group_by(*keys) if keys else spent).agg(n=spent.count(), total=spent.cost.sum(), squares=(spent.cost * spent.cost).sum())


def _line(group: tuple[str | None, ...], of: Callable[[str], Floats], users: Row) -> UnitCost:
    def count(name: str) -> int:
        return int(of(name).sum())

    per_solved: Measured = NO_SCORES
    if count("scored"):
        per_solved = (
            clustered_ratio_of_means(of("scored_cost"), of("scored"), of("solved"), of("scored")) if count("solved") else NONE_SOLVED
        )
    return UnitCost(
        group=group,
        requests=count("requests"),
        sessions=count("sessions"),
        tasks_scored=count("scored"),
        tasks_solved=count("solved"),
        users=users["n"],
        per_request_usd=clustered_mean(of("request_cost"), of("requests"), bounds=NOT_NEGATIVE),
        per_session_usd=clustered_mean(of("session_cost"), of("sessions"), bounds=NOT_NEGATIVE) if count("sessions") else NO_SESSIONS,
        per_solved_task_usd=per_solved,
        per_user_usd=mean_interval(users["n"], users["total"], users["squares"], least=0.0) if users["n"] else NO_USERS,
    )
