"""What a row is: attempts of the lake with everything derived that analyses read (schema.SCOPED_REQUESTS).

Belongs here: request totals, quality and ratings from feedback, complexity where it was not logged, the halves of sessions. Does not
belong here: which attempts make up a request (`chains`), which are one call logged twice (`repeats`), what a call costs
(`price_columns`), how rows are kept (`day_cache`), any measurement (`analysis`).
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import Literal

import ibis

from routing_pipeline.catalog import Catalog
from routing_pipeline.clock import MONDAY_OFFSET_HOURS, SECONDS_PER_DAY, day_of, hour_of
from routing_pipeline.schema import ADDED_LATER, REQUEST_LOG, SCOPED_REQUESTS, TRUSTED, ColumnType, column_names
from routing_pipeline.window.chains import chains_of
from routing_pipeline.window.kinds_of_call import chat_of, kind_of
from routing_pipeline.window.price_columns import prices_of, with_prices
from routing_pipeline.window.repeats import logged_once
from routing_pipeline.window.scope import CLUSTERS, UNKNOWN_TASK, Window

DAYS_AROUND = 1
"""How many UTC days before and after that of an attempt others of the same request are looked for."""
LOOK_AROUND_S = DAYS_AROUND * SECONDS_PER_DAY
"""Files of a window and of so much before and after it hold all that its rows depend on."""
Scores = tuple[ibis.Table, ibis.Table]
"""Newest quality, rating and judge's score by request, and by attempt (`newest_scores`)."""
_IBIS_TYPE: dict[ColumnType, str] = {
    "text": "string",
    "double": "float64",
    "bigint": "int64",
    "boolean": "boolean",
    "timestamp": "timestamp",
}


def with_time(attempts: ibis.Table) -> ibis.Table:
    """Add started_s, day and hour_of_week, so that no later expression needs a timestamp function."""
    # Truncated first: DuckDB's epoch keeps the fraction and Ibis' cast to a whole number would round it up.
    # The fraction as text, because Ibis has no microsecond() on Spark.
    fraction_s = attempts.started_at.strftime("%f").cast("float64") / 1e6
    started_s = attempts.started_at.truncate("s").epoch_seconds().cast("float64") + fraction_s
    timed = attempts.mutate(started_s=started_s)
    hours = hour_of(timed.started_s)
    return timed.mutate(day=day_of(timed.started_s), hour_of_week=(hours + MONDAY_OFFSET_HOURS) % 168)


def with_day(attempts: ibis.Table) -> ibis.Table:
    """Add `day` as `with_time` does, without the fraction of a second, which takes most of its time."""
    return attempts.mutate(day=(attempts.started_at.truncate("s").epoch_seconds() / SECONDS_PER_DAY).floor().cast("int64"))


NEWEST = ("quality", "rating", "judge", "quality_source")
"""What `newest_scores` has of a request or an attempt."""
IN_THE_ROW = "log"
"""Source of a quality that stands in the log's own row."""
MIN_TRUSTED = 300
"""Scores of trusted sources from which on they alone are the quality of an answer, and those of other sources stand beside it."""


def newest_scores(feedback: ibis.Table, quality_name: str, trusted: Sequence[str] = TRUSTED) -> tuple[ibis.Table, ibis.Table]:
    """Newest quality, newest user's rating and newest judge's score by request and by attempt, each on 0..1 by its declared scale.

    Quality is the feedback called `quality_name`; every other score by a user is a rating. The two never mix: where anybody
    but users gives that name, users' scores under it are ratings too, unless users are trusted. Of scores given at the same moment the lowest counts.

    Where at least MIN_TRUSTED scores of that name come from trusted sources, and some from others, the trusted ones alone are the
    quality, and the others a judge's. With fewer of them all sources count alike, as if there were one kind of score.
    quality_source: who gave the quality; of several at the same moment the first by name.
    """
    low, high = feedback.scale_min.fill_null(0.0), feedback.scale_max.fill_null(1.0)
    scores = feedback.filter(high > low).mutate(score=((feedback.value - low) / (high - low)).clip(0.0, 1.0))
    is_named, is_users = scores.name == quality_name, scores.source == "user"
    is_trusted = is_named & scores.source.isin(trusted)
    counted = scores.agg(
        others=(is_named & ~is_users).sum().fill_null(0),
        trusted=is_trusted.sum().fill_null(0),
        judged=(is_named & ~is_users & ~scores.source.isin(trusted)).sum().fill_null(0),
    )
    found = counted.to_pyarrow().to_pylist()[0]
    is_quality = is_named & ~is_users if found["others"] else is_named
    if found["trusted"] >= MIN_TRUSTED and found["judged"] > 0:
        is_quality = is_trusted
    kind = ibis.cases((is_quality, "quality"), (is_named & ~is_users, "judge"), (is_users, "rating"))
    scores = scores.mutate(kind=kind).filter(kind.notnull())

    def newest(by: str) -> ibis.Table:
        keyed = scores.filter(scores[by].notnull())
        last = keyed.scored_at.max().over(ibis.window(group_by=[by, "kind"]))
        keyed = keyed.mutate(newest_at=last)
        keyed = keyed.filter(keyed.scored_at == keyed.newest_at)
        kinds = {name: keyed.score.min(where=keyed.kind == name) for name in ("quality", "rating", "judge")}
        return keyed.group_by(by).agg(**kinds, quality_source=keyed.source.min(where=keyed.kind == "quality"))

    return newest("request_id"), newest("attempt_id")


def conform(
    attempts: ibis.Table,
    window: Window,
    *,
    catalog: Catalog,
    feedback: ibis.Table | None = None,
    quality_name: str = "quality",
    trusted: Sequence[str] = TRUSTED,
    task_types: tuple[str, ...] = (),
    held: Callable[[ibis.Table], ibis.Table] = lambda table: table,
) -> ibis.Table:
    """Rows of the window with everything derived (schema.SCOPED_REQUESTS), calls of the kind `chat` alone.

    `attempts` holds the days of the window and the day before and after (schema.REQUEST_LOG). Runs one small query now, for the
    distinct models to price; the result is an unevaluated expression. `held` may evaluate what is joined (`Engine.held`).
    """
    scores = None if feedback is None else newest_scores(feedback, quality_name, trusted)
    rows = conform_days(attempts, window, catalog=catalog, scores=scores, task_types=task_types, held=held)
    rows = chat_of(rows)
    return with_complexity(rows, held(length_ranks(rows)))


def conform_days(
    attempts: ibis.Table,
    window: Window,
    *,
    catalog: Catalog,
    scores: tuple[ibis.Table, ibis.Table] | None = None,
    task_types: tuple[str, ...] = (),
    held: Callable[[ibis.Table], ibis.Table] = lambda table: table,
) -> ibis.Table:
    """The same but for what depends on the window as a whole: complexity that was not logged is null. Calls of every kind are in it.

    There are two columns more, so that later scores can take the place of these (`scored_anew`): logged_quality and logged_rating.
    `scores` as `newest_scores` gives them.

    A row depends on the attempts of its UTC day, of the day before and of the day after, and on nothing else: it is the same in
    every window that holds it, and whole days can be kept (`rows`).
    """
    logged = logged_once(_around(attempts, window), held=held)
    prices = prices_of(logged, catalog)
    around = with_prices(logged, prices)
    # Evaluated by themselves, over the few columns that they need: as parts of the whole they make DuckDB keep every column of every row.
    chains = held(chains_of(logged, lambda rows: with_prices(rows, prices)))
    rows = _within(around, window, task_types)
    rows = rows.left_join(chains, rows.attempt_id == chains.chained_attempt_id)
    is_chained = rows.chained_attempt_id.notnull()
    is_final = ~is_chained | (rows.attempt_id == rows.final_attempt_id).fill_null(False)
    chain_usd = ibis.ifelse(rows.chain_unpriced > 0, ibis.null("float64"), rows.chain_cost_usd)
    # A failure that nobody charged for costs nothing; an answer that nobody priced does not become free.
    own_usd = ibis.ifelse(rows.status == "success", rows.cost_usd, rows.cost_usd.fill_null(0.0))
    since_first_ms = ibis.ifelse(is_chained, (rows.started_s - rows.first_started_s) * 1e3, ibis.literal(0.0))
    rows = rows.mutate(
        is_final=is_final,
        routed_model=ibis.coalesce(rows.first_model, rows.model),
        fallback_from=ibis.coalesce(rows.fallback_from, rows.stood_in_for),
        request_cost_usd=ibis.ifelse(is_final, ibis.ifelse(is_chained, chain_usd, own_usd), ibis.null("float64")),
        request_latency_ms=ibis.ifelse(is_final, since_first_ms + rows.latency_ms, ibis.null("float64")),
        attempts=ibis.ifelse(is_final, ibis.coalesce(rows.chain_attempts, ibis.literal(1, "int64")), ibis.null("int64")),
    )
    rows = rows.mutate(logged_quality=rows.quality_score, logged_rating=rows.user_rating, is_complexity_derived=rows.complexity.isnull())
    session = ibis.coalesce(rows.session_id, rows.request_id)
    rows = rows.mutate(cluster=hex_pair(session.hexdigest("md5")))
    return scored_anew(rows, scores)


def scored_anew(rows: ibis.Table, scores: tuple[ibis.Table, ibis.Table] | None) -> ibis.Table:
    """Rows of `conform_days` with these scores in place of those that they have."""
    return _with_scores(rows, scores).select(*column_names(SCOPED_REQUESTS), "logged_quality", "logged_rating")


def _around(attempts: ibis.Table, window: Window) -> ibis.Table:
    """Attempts of the window's UTC days, of the day before and of the day after, with their time and their kind."""
    timed = with_time(with_all_columns(attempts))
    timed = timed.mutate(operation=kind_of(timed))
    first, last = math.floor(window.start_s / SECONDS_PER_DAY), math.ceil(window.end_s / SECONDS_PER_DAY) - 1
    return timed.filter(timed.day >= first - DAYS_AROUND, timed.day <= last + DAYS_AROUND)


def _within(around: ibis.Table, window: Window, task_types: tuple[str, ...]) -> ibis.Table:
    """The window's own attempts, of these task types; none named means all."""
    rows = around.filter(around.started_s >= window.start_s, around.started_s < window.end_s)
    rows = rows.mutate(is_task_type_logged=rows.task_type.notnull(), task_type=rows.task_type.fill_null(UNKNOWN_TASK))
    return rows.filter(rows.task_type.isin(task_types)) if task_types else rows


def with_all_columns(attempts: ibis.Table) -> ibis.Table:
    """Files written before a column was there have none of it: null, as wherever a log does not say."""
    later = (column for column in REQUEST_LOG if column.name in ADDED_LATER and column.name not in attempts.columns)
    return attempts.mutate(**{column.name: ibis.null(_IBIS_TYPE[column.type]) for column in later})


def hex_pair(digest: ibis.expr.types.StringValue) -> ibis.expr.types.IntegerValue:
    """First two hexadecimal digits as 0..255; position in a string is the same on every engine."""
    digits = ibis.literal("0123456789abcdef")
    # Spark finds 32-bit places that Ibis takes for 64-bit ones: the first cast makes the second one happen.
    return (digits.find(digest.substr(0, 1)) * 16 + digits.find(digest.substr(1, 1))).cast("int32").cast("int64")


def _with_scores(rows: ibis.Table, scores: tuple[ibis.Table, ibis.Table] | None) -> ibis.Table:
    """Quality and users' ratings: from the newest feedback, else as logged. A request's scores belong to its final attempt."""
    quality, rating, judge = rows.logged_quality, rows.logged_rating, ibis.null("float64")
    source = ibis.ifelse(quality.notnull(), IN_THE_ROW, ibis.null("string"))
    if scores is not None:
        by_request, by_attempt = scores
        by_request = keyed_by(by_request, "request")
        by_attempt = keyed_by(by_attempt, "attempt")
        rows = rows.left_join(by_request, rows.request_id == by_request.scored_request_id)
        rows = rows.left_join(by_attempt, rows.attempt_id == by_attempt.scored_attempt_id)
        of_request = ibis.ifelse(rows.is_final, rows.rating_by_request, ibis.null("float64"))
        quality = ibis.coalesce(rows.quality_by_attempt, rows.quality_by_request, rows.logged_quality)
        rating = ibis.coalesce(rows.rating_by_attempt, of_request, rows.logged_rating)
        judge = ibis.coalesce(rows.judge_by_attempt, rows.judge_by_request)
        source = ibis.coalesce(rows.quality_source_by_attempt, rows.quality_source_by_request, source)
    is_scored = rows.is_final & (rows.status == "success")
    nothing = ibis.null("float64")
    return rows.mutate(
        quality=ibis.ifelse(is_scored, quality, nothing),
        quality_source=ibis.ifelse(is_scored, source, ibis.null("string")),
        judge_quality=ibis.ifelse(is_scored, judge, nothing),
        user_rating=rating,
    )


def keyed_by(scores: ibis.Table, by: str) -> ibis.Table:
    """One of `newest_scores`, for a join: scored_request_id, quality_by_request and so on, or the same of attempts."""
    return scores.rename({f"scored_{by}_id": f"{by}_id"} | {f"{name}_by_{by}": name for name in NEWEST})


def length_ranks(rows: ibis.Table) -> ibis.Table:
    """Rank (0..1) of each length of prompt within its task type, from counts per distinct length: mid-rank of ties, no sort of all rows."""
    lengths = rows.filter(rows.prompt_tokens.notnull()).group_by("task_type", "prompt_tokens").agg(n=lambda t: t.count())
    below = ibis.window(group_by="task_type", order_by="prompt_tokens", preceding=None, following=0)
    ranks = lengths.mutate(up_to=lengths.n.sum().over(below), of=lengths.n.sum().over(ibis.window(group_by="task_type")))
    return ranks.select(
        rank_task=ranks.task_type,
        rank_tokens=ranks.prompt_tokens,
        # As a number throughout: an engine may give sums of whole numbers a type of their own.
        length_rank=(ranks.up_to.cast("float64") - ranks.n.cast("float64") / 2.0) / ranks.of.cast("float64"),
    )


def with_complexity(rows: ibis.Table, ranks: ibis.Table) -> ibis.Table:
    """Rows of `conform_days` with complexity where it was not logged: the rank of prompt_tokens within the task type (`length_ranks`)."""
    rows = rows.left_join(ranks, [rows.task_type == ranks.rank_task, rows.prompt_tokens == ranks.rank_tokens])
    return rows.mutate(complexity=ibis.coalesce(rows.complexity, rows.length_rank)).select(*column_names(SCOPED_REQUESTS))


Half = Literal["learn", "prove"]


def half_of(requests: ibis.Table, half: Half) -> ibis.Table:
    """The half of the sessions that rules are learnt on, or the half that they are proven on; never both."""
    is_learning = requests.cluster < CLUSTERS // 2
    return requests.filter(is_learning if half == "learn" else ~is_learning)


def learning_half_as_whole(requests: ibis.Table) -> ibis.Table:
    """The half that rules are learnt on, as if it were all there is: parted into halves of its own, by the last digits of the md5."""
    digest = ibis.coalesce(requests.session_id, requests.request_id).hexdigest("md5")
    return half_of(requests, "learn").mutate(cluster=hex_pair(digest.substr(30, 2)))
