"""Which attempts make up one request: failures, and the attempt that stands in for them.

Belongs here: the rule, and what follows from it for each attempt of a request of several. Does not belong here: what an attempt
costs, or anything else that is derived of a row (`scope`), calls that were logged twice (`repeats`).

Attempts share a request id where a gateway tried again for one client request. An SDK's trace id is shared by all the calls of an
agent's run, so the id alone does not say what was tried again. Per id and kind of call, in the order in which they began:

* A success answers. It ends its request, and what comes after it is another one.
* A failure (or a cancelled call) is stood in for by the attempt that begins next, or by none; then it is a request that failed.
* Where at most one attempt under the id succeeded and none before, the id is that of one client request: the next attempt stands
  in, unless it is a call of its own (by the id that its log gives it) which says that it was no retry.
* Where several succeeded, the id is that of a trace. There the next attempt stands in only if the failure had ended, the task is
  the same, and the log says that it is a retry or a fallback; where the log does not say, if it came within RETRY_WITHIN_S. Of
  calls side by side nothing else tells a retry from the next step.

Attempts further apart than half a day are not of one request, and a request that goes on past midnight began in the afternoon:
so it lies on two days, and what is said of an attempt depends on its own day and on those next to it alone.
"""

from __future__ import annotations

from collections.abc import Callable

import ibis

from routing_pipeline.clock import SECONDS_PER_DAY

HALF_DAY_S = SECONDS_PER_DAY / 2
RETRY_WITHIN_S = 2.0
"""SDKs and gateways wait half a second, then a second, before they try again; an agent's next step takes longer."""
CLOCK_ROUNDING_S = 0.01
"""A retry may be stamped this much before the end of what it stands in for."""
_GROUP = ("request_id", "operation")


def chains_of(attempts: ibis.Table, priced: Callable[[ibis.Table], ibis.Table] = lambda table: table) -> ibis.Table:
    """Attempts of requests of several, one row each.

    Only ids under which something failed are looked at, so that the cost follows the failures and not the traffic.

    Args:
        attempts: schema.REQUEST_LOG with `started_s` and `day`, `operation` never null; whole UTC days.
        priced: gives attempts the costs that they have; asked of those alone that are looked at.

    Returns:
        chained_attempt_id; final_attempt_id, the attempt whose outcome the client saw; first_model and first_started_s (seconds
        since 1970) of the request's first attempt; chain_attempts; chain_cost_usd of all of them, 0 for failures that nobody
        charged for; chain_unpriced, answers without a price; stood_in_for, the failed model where another one answered.
    """
    failed = attempts.filter(attempts.status != "success").select(*_GROUP).distinct()
    rows = _linked(_known(priced(attempts.semi_join(failed, _GROUP))))
    rows = rows.mutate(chain=(~rows.stands_in).cast("int64").sum().over(_up_to_here(rows, _GROUP)))
    chain = ibis.window(group_by=(*_GROUP, "chain"))
    rows = rows.mutate(
        chain_attempts=rows.count().over(chain),
        first_place=rows.place.min().over(chain),
        last_place=rows.place.max().over(chain),
        first_started_s=rows.started_s.min().over(chain),
        chain_cost_usd=rows.cost_usd.fill_null(0.0).sum().over(chain),
        chain_unpriced=((rows.status == "success") & rows.cost_usd.isnull()).cast("int64").sum().over(chain),
    )
    rows = rows.filter(rows.chain_attempts > 1)
    null = ibis.null("string")
    rows = rows.mutate(
        final_attempt_id=ibis.ifelse(rows.place == rows.last_place, rows.attempt_id, null).max().over(chain),
        first_model=ibis.ifelse(rows.place == rows.first_place, rows.model, null).max().over(chain),
        # Told here and not when it was read: the failure may have come in a later object, or in a later ingestion.
        stood_in_for=ibis.ifelse(rows.stands_in & (rows.status == "success") & (rows.model != rows.last_model), rows.last_model, null),
    )
    return rows.select(
        *("final_attempt_id", "first_model", "first_started_s", "chain_attempts", "chain_cost_usd", "chain_unpriced", "stood_in_for"),
        chained_attempt_id=rows.attempt_id,
    )


def _known(attempts: ibis.Table) -> ibis.Table:
    """What is known of an attempt by itself, and of the others under its id on its own day and the next."""
    answered = (attempts.status == "success").cast("int64")
    two_days = ibis.range_window(group_by=_GROUP, order_by=attempts.day, preceding=0, following=1)
    rows = attempts.mutate(
        answers=answered.sum().over(two_days),
        answers_so_far=answered.sum().over(_up_to_here(attempts, (*_GROUP, "day"))),
        ended_s=attempts.started_s + attempts.latency_ms.fill_null(0.0) / 1e3,
        # Formats that know a call's own id begin the attempt's with it.
        call=ibis.ifelse(attempts.attempt_id.contains("/"), attempts.attempt_id.split("/")[0], attempts.request_id),
    )
    return rows.select(
        *("attempt_id", *_GROUP, "day", "started_s", "ended_s", "status", "model", "task_type", "cost_usd", "retries", "fallback_from"),
        *("answers", "answers_so_far", "call"),
    )


def _linked(rows: ibis.Table) -> ibis.Table:
    """Rows with their `place` under their id, the model before theirs, and whether they stand in for the attempt before them."""
    order = ibis.window(group_by=_GROUP, order_by=[rows.started_s, rows.attempt_id])
    before = ("status", "started_s", "ended_s", "day", "model", "task_type", "answers", "answers_so_far", "call")
    rows = rows.mutate(place=ibis.row_number().over(order), **{f"last_{name}": rows[name].lag().over(order) for name in before})
    says_no = (rows.retries == 0).fill_null(False) & rows.fallback_from.isnull()
    says_so = (rows.retries > 0).fill_null(False) | (rows.retries.notnull() & rows.fallback_from.notnull())
    is_own_call = (rows.call != rows.request_id) & (rows.call != rows.last_call)
    is_of_one_request = (rows.last_answers <= 1) & (rows.last_answers_so_far == 0)
    waited_s = rows.started_s - rows.last_ended_s
    is_after = (waited_s >= -CLOCK_ROUNDING_S) & (rows.task_type.fill_null("") == rows.last_task_type.fill_null(""))
    is_again = says_so | (rows.retries.isnull() & (waited_s <= RETRY_WITHIN_S))
    follows = (
        (rows.last_status != "success")
        & (rows.started_s - rows.last_started_s <= HALF_DAY_S)
        & ((is_of_one_request & ~(says_no & is_own_call)) | (is_after & is_again))
    ).fill_null(False)
    rows = rows.mutate(follows=follows, follows_today=follows & (rows.last_day == rows.day).fill_null(False))
    rows = rows.mutate(since_midnight=(~rows.follows_today).cast("int64").sum().over(_up_to_here(rows, _GROUP)))
    begun_s = rows.started_s.min().over(ibis.window(group_by=(*_GROUP, "since_midnight")))
    rows = rows.mutate(begun_s=begun_s)
    order = ibis.window(group_by=_GROUP, order_by=[rows.started_s, rows.attempt_id])
    rows = rows.mutate(last_begun_s=rows.begun_s.lag().over(order))
    began_in_the_afternoon = rows.last_begun_s >= rows.last_day.cast("float64") * SECONDS_PER_DAY + HALF_DAY_S
    return rows.mutate(stands_in=rows.follows_today | (rows.follows & began_in_the_afternoon.fill_null(False)))


def _up_to_here(rows: ibis.Table, group: tuple[str, ...]) -> ibis.expr.builders.WindowBuilder:
    """Rows under an id up to and with one of them, in the order in which they began; their ids break ties on every engine."""
    return ibis.window(group_by=group, order_by=[rows.started_s, rows.attempt_id], preceding=None, following=0)
