"""Calls that were logged twice: a wrapper and the call that it made, written down by both.

Belongs here: which rows are certainly one call, and leaving all but the first of them out. Does not belong here: calls that only
look alike, of which a check tells (`baseline_checks`), records with the same attempt id (`ingest.batch`), failures and
what stands in for them (`chains`).

A gateway that serves one interface by another logs one client call under both, a few milliseconds apart. Two answers are one call
where all of this holds: the same request id and, where the log gives a call an id of its own, the same call id; the same kind of
call, tokens and cost, or no cost at one of them; the later began within APART_S of the earlier or ended with it, before that had ended. A
call tried again begins when the one before has ended, and calls side by side in a trace have ids of their own: neither is left out.
"""

from __future__ import annotations

from collections.abc import Callable

import ibis

from routing_pipeline.schema import CHAT

APART_S = 0.25
ENDS_APART_S = 0.05
"""What waits before its call, for a guardrail or a hook, ends with it."""
SAME_USD = 1e-9
"""Costs that differ by less went through another number of digits."""
_LOOKED_AT = ("attempt_id", "request_id", "started_at", "latency_ms", "operation", "prompt_tokens", "completion_tokens", "cost_usd")


def logged_once(attempts: ibis.Table, *within: str, held: Callable[[ibis.Table], ibis.Table] = lambda table: table) -> ibis.Table:
    """Attempts without those that are in the log a second time; the earliest stays, or the one that has a cost.

    Args:
        attempts: schema.REQUEST_LOG, all of its columns.
        within: columns that rows of one call have in common, as where the rows of several files are told apart.
        held: may evaluate the few rows that are left out (`Engine.held`).
    """
    again = held(repeats_of(attempts, *within).select("attempt_id"))
    return attempts.anti_join(again, "attempt_id")


def repeats_of(attempts: ibis.Table, *within: str) -> ibis.Table:
    """The attempts that are in the log a second time, by what tells so: their ids, time, kind, tokens and cost."""
    # Every step over all of a log's columns takes Ibis and the engine as long as ten over these.
    answered = attempts.filter(attempts.status == "success", attempts.prompt_tokens.notnull()).select(*within, *_LOOKED_AT)
    # By whole numbers, because most ids occur once and need not be kept in memory to tell so.
    answered = answered.mutate(id_hash=answered.request_id.hash())
    several = answered.group_by(*within, "id_hash").agg(n=answered.count())
    several = several.filter(several.n > 1).drop("n")
    few = answered.semi_join(several, (*within, "id_hash")).drop("id_hash")
    few = few.mutate(
        us=few.started_at.truncate("s").epoch_seconds().cast("int64") * 1_000_000 + few.started_at.strftime("%f").cast("int64"),
        kind=few.operation.fill_null(CHAT),
        # Formats that know a call's own id begin the attempt's with it.
        call=ibis.ifelse(few.attempt_id.contains("/"), few.attempt_id.split("/")[0], few.request_id),
    )
    same = (*within, "request_id", "call", "kind", "prompt_tokens", "completion_tokens")
    order = ibis.window(group_by=same, order_by=[few.us, few.attempt_id])
    few = few.mutate(usd=few.cost_usd.nullif(0.0))
    columns = ("us", "latency_ms", "usd")
    few = few.mutate(**{f"last_{name}": few[name].lag().over(order) for name in columns})
    apart_s = (few.us - few.last_us).cast("float64") / 1e6
    is_during = (apart_s * 1e3 < few.last_latency_ms).fill_null(True)
    ends_apart_s = (apart_s + (few.latency_ms - few.last_latency_ms) / 1e3).abs()
    is_close = (apart_s <= APART_S) | (ends_apart_s <= ENDS_APART_S).fill_null(False)
    is_as_dear = ((few.usd - few.last_usd).abs() <= SAME_USD).fill_null(True)
    few = few.mutate(is_again=(few.last_us.notnull() & is_close & is_during & is_as_dear).fill_null(False))
    # Of two of which one has a cost, that one stays.
    is_first = ~few.is_again & few.is_again.lead().over(order).fill_null(False)
    gives_way = is_first & few.usd.isnull() & few.usd.lead().over(order).notnull()
    few = few.mutate(gives_way=gives_way)
    # Spark takes no window function in what rows are chosen by.
    few = few.mutate(stands_in=few.gives_way.lag().over(order).fill_null(False))
    return few.filter(few.gives_way | (few.is_again & ~few.stands_in))
