"""Spend by model, task type, team, day and kind of call.

Belongs here: sums that add up over groups, and lines of a grouping made of them. Does not belong here: totals and what is said of
them (`routing_costs`), groups that explain a change of spend (`cost_change`).
"""

from __future__ import annotations

import math
from collections import defaultdict
from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING, Any, ClassVar, Literal

import ibis
from pydantic import Field

from routing_pipeline.analysis.daily_spend import NO_COST, date_of
from routing_pipeline.estimates import Known, Result, Unidentifiable, quantity
from routing_pipeline.schema import CHAT, OWN_COST_ONLY, Operation
from routing_pipeline.text import LogName
from routing_pipeline.window.kinds_of_call import is_chat, kind_of

if TYPE_CHECKING:
    from routing_pipeline.frames import Frame
# fmt: off
Dimension = Literal["model", "tier", "task_type", "team", "provider", "day", "operation", "feature", "workflow", "prompt_version", "tags",
                    "user_cohort", "user_volume", "model_version", "service_tier", "reasoning_effort"]
# fmt: on
MAX_LISTED = 50
DIMENSIONS: tuple[Dimension, ...] = ("model", "tier", "task_type", "provider")
"""Dimensions whose values the catalog or the scope bound; teams and days are grouped on their own."""
NO_TOKENS = Unidentifiable(unidentifiable="no priced attempt has token counts; log the usage that the provider returns")
NO_REQUEST = Unidentifiable(unidentifiable="no chat request is among these calls")
Row = dict[str, Any]


class CostLine(Result):
    """One group of attempts of every kind of call. What is said per request or per token is of chat, and of each kind where it is grouped by."""

    group: tuple[LogName | None, ...] = Field(
        description="One value per dimension of the grouping; null: not logged, or not in the catalog"
    )
    requests: int = quantity("Final requests", "requests")
    attempts: int = quantity("Attempts", "attempts")
    tokens: int = quantity("Prompt and completion tokens", "tokens")
    cost_usd: Known = quantity("Of all attempts: as logged, else at list price", "USD")
    share: Known = quantity("Of all spend", "0..1")
    per_request_usd: Known = quantity("All attempts of a request, mean over final requests with a price", "USD")
    per_1000_tokens_usd: Known = quantity("Over attempts with both cost and tokens", "USD")
    unpriced_attempts: int = quantity("Successful attempts that neither the log nor the list prices", "attempts")


class OperationCost(Result):
    """What one kind of call costs."""

    operation: Operation = Field(description="Kind of call")
    requests: int = quantity("Calls, each with its failed tries counted once", "requests")
    attempts: int = quantity("Attempts", "attempts")
    cost_usd: Known = quantity("Of all attempts: as logged, else at list price", "USD")
    share: Known = quantity("Of all spend", "0..1")
    per_request_usd: Known = quantity("All attempts of a call, mean over calls with a price", "USD")
    unpriced_attempts: int = quantity("Successful attempts that neither the log nor the list prices", "attempts")


class CostGrouping(Result):
    """Spend by one dimension, or by several crossed."""

    main_table: ClassVar = "lines"

    by: tuple[Dimension, ...]
    lines: tuple[CostLine, ...] = Field(description="Dearest first; by day in order of time")
    groups_not_listed: int = quantity("Groups too small to be listed", "groups")
    cost_not_listed_usd: float = quantity("What they cost together", "USD")

    def to_pandas(self, table: str | None = None) -> Frame:
        """One row per group, with one column per dimension."""
        lines = super().to_pandas(table)
        groups = lines.pop("group")
        for place, dimension in enumerate(self.by):
            lines.insert(place, dimension, [group[place] for group in groups])
        return lines


def rows_of(table: ibis.Table) -> list[Row]:
    """A small table as rows."""
    rows: list[Row] = table.to_pyarrow().to_pylist()
    return rows


def spend_sums(t: ibis.Table, counted: ibis.expr.types.BooleanValue) -> dict[str, ibis.expr.types.NumericScalar]:
    """What every line of a grouping is made of; all of it adds up over groups. Per request and per token: of the calls `counted`."""
    tokens = t.prompt_tokens + t.completion_tokens
    is_answer = (t.status == "success") & ~t.is_cache_hit.fill_null(False) & ~kind_of(t).isin(OWN_COST_ONLY)
    unlogged = is_answer & t.logged_cost_usd.isnull()
    unpriced = is_answer & t.cost_usd.isnull()
    free = is_answer & (t.logged_cost_usd == 0).fill_null(False) & (t.list_cost_usd > 0).fill_null(False)
    return {
        "requests": (t.is_final & counted).sum(),
        "attempts": t.count(),
        "tokens": (t.prompt_tokens.fill_null(0) + t.completion_tokens.fill_null(0)).sum(),
        "cost": t.cost_usd.sum(),
        "priced": t.cost_usd.count(),
        "request_cost": t.request_cost_usd.sum(where=counted),
        "priced_requests": t.request_cost_usd.count(where=counted),
        "cost_of_tokens": t.cost_usd.sum(where=tokens.notnull() & counted),
        "tokens_with_cost": tokens.sum(where=t.cost_usd.notnull() & counted),
        "answers": is_answer.sum(),
        "unlogged": unlogged.sum(),
        "unlogged_list": t.list_cost_usd.sum(where=unlogged),
        "unpriced": unpriced.sum(),
        "unpriced_sent": t.prompt_tokens.sum(where=unpriced),
        "unpriced_received": t.completion_tokens.sum(where=unpriced),
        "free": free.sum(),
        "free_list": t.list_cost_usd.sum(where=free),
    }


_MONEY = ("cost", "request_cost", "cost_of_tokens", "unlogged_list", "free_list")
_COUNTS = (
    "requests",
    "attempts",
    "tokens",
    "priced",
    "priced_requests",
    "tokens_with_cost",
    "answers",
    "unlogged",
    "unpriced",
    "unpriced_sent",
    "unpriced_received",
    "free",
)
_OF_CHAT = frozenset({"requests", "request_cost", "priced_requests", "cost_of_tokens", "tokens_with_cost"})


def rolled_up(rows: Sequence[Row], *, of_chat: bool = True) -> Row:
    """Sums over groups; what is said per request or per token is of chat, unless the groups are of one kind."""

    def each(name: str) -> Iterator[Any]:
        return (row[name] or 0 for row in rows if not of_chat or name not in _OF_CHAT or row.get("operation", CHAT) == CHAT)

    money: Row = {name: math.fsum(each(name)) for name in _MONEY}
    return money | {name: sum(map(int, each(name))) for name in _COUNTS}


def cost_of(sums: Row) -> Known:
    """Spend in USD; unidentifiable where nothing is priced."""
    return sums["cost"] if sums["priced"] else NO_COST


def per_1000_tokens(sums: Row) -> Known:
    """USD per 1,000 tokens, over attempts with both."""
    if not sums["priced"]:
        return NO_COST
    if not sums["tokens_with_cost"]:
        return NO_TOKENS if sums["requests"] else NO_REQUEST
    return float(1000 * sums["cost_of_tokens"] / sums["tokens_with_cost"])


def _per_priced_request(sums: Row) -> Known:
    if not sums["requests"]:
        return NO_REQUEST
    return float(sums["request_cost"] / sums["priced_requests"]) if sums["priced_requests"] else NO_COST


def operation_costs(cells: list[Row], whole: Row) -> tuple[OperationCost, ...]:
    """Spend by kind of call, chat first, then most expensive first."""
    by_kind: dict[Operation, list[Row]] = defaultdict(list)
    for cell in cells:
        by_kind[cell["operation"]].append(cell)
    lines = []
    for operation, rows in by_kind.items():
        sums = rolled_up(rows, of_chat=False)
        lines.append(
            OperationCost(
                operation=operation,
                requests=sums["requests"],
                attempts=sums["attempts"],
                cost_usd=cost_of(sums),
                share=sums["cost"] / whole["cost"] if whole["cost"] > 0 else NO_COST,
                per_request_usd=_per_priced_request(sums),
                unpriced_attempts=sums["unpriced"],
            )
        )
    return tuple(sorted(lines, key=lambda each: (each.operation != CHAT, -_usd(each.cost_usd), each.operation)))


def _usd(cost: Known) -> float:
    return 0.0 if isinstance(cost, Unidentifiable) else cost


def _line(group: tuple[str | None, ...], sums: Row, whole: Row) -> CostLine:
    return CostLine(
        group=group,
        requests=sums["requests"],
        attempts=sums["attempts"],
        tokens=sums["tokens"],
        cost_usd=cost_of(sums),
        share=sums["cost"] / whole["cost"] if whole["cost"] > 0 else NO_COST,
        per_request_usd=_per_priced_request(sums),
        per_1000_tokens_usd=per_1000_tokens(sums),
        unpriced_attempts=sums["unpriced"],
    )


def rolled_up_by(by: tuple[Dimension, ...], cells: list[Row], whole: Row) -> CostGrouping:
    """Roll cells up by some of their dimensions."""
    groups: dict[tuple[str | None, ...], list[Row]] = defaultdict(list)
    for cell in cells:
        groups[tuple(cell[dimension] for dimension in by)].append(cell)
    lines = sorted(
        ((group, rolled_up(rows)) for group, rows in groups.items()),
        key=lambda line: (-line[1]["cost"], tuple(str(part) for part in line[0])),
    )
    return CostGrouping(
        by=by,
        lines=tuple(_line(group, sums, whole) for group, sums in lines[:MAX_LISTED]),
        groups_not_listed=max(len(lines) - MAX_LISTED, 0),
        cost_not_listed_usd=math.fsum(sums["cost"] for _, sums in lines[MAX_LISTED:]),
    )


def spend_by(requests: ibis.Table, by: tuple[Dimension, ...], whole: Row | None = None) -> CostGrouping:
    """Spend by any dimensions crossed, dearest first (days alone: in order of time); cut off in the engine.

    Args:
        requests: conformed rows, one per attempt, of every kind of call.
        by: one dimension or several.
        whole: sums over all rows where they are known already.
    """
    requests = requests.mutate(operation=kind_of(requests))
    is_by_kind = "operation" in by
    sums = spend_sums(requests, ibis.literal(True) if is_by_kind else is_chat(requests))
    whole = whole or rolled_up(rows_of(requests.agg(**sums)))
    grouped = requests.group_by(*by).agg(**sums)
    ties = [grouped[name].cast("string").fill_null("").asc() for name in by]
    in_time = by == ("day",)
    order = [grouped.day.asc()] if in_time else [grouped.cost.fill_null(0.0).desc(), *ties]
    rows = rows_of(grouped.order_by(order).limit(MAX_LISTED))
    groups = len(rows) if len(rows) < MAX_LISTED else int(grouped.count().execute())
    lines = tuple(_line(tuple(_label(row[name]) for name in by), rolled_up([row], of_chat=not is_by_kind), whole) for row in rows)
    listed = math.fsum(row["cost"] or 0.0 for row in rows)
    return CostGrouping(
        by=by,
        lines=lines,
        groups_not_listed=groups - len(rows),
        cost_not_listed_usd=max(whole["cost"] - listed, 0.0) if groups > len(rows) else 0.0,
    )


def _label(value: str | int | None) -> str | None:
    """Days are counted since 1970 and shown as dates."""
    return date_of(value).isoformat() if isinstance(value, int) else value
