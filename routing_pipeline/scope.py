"""What is analysed: the window on a lake snapshot, and the rows in it as analyses read them.

Belongs here: `AnalysisScope`, and `conform`, which derives final attempts, request totals, quality from feedback, complexity
where it was not logged, tiers and list prices. Does not belong here: which window is asked for (`resolving`), how rows are kept
between windows (`window_rows`), any measurement (see `analysis`), reading the lake (see `ingest.lake`).
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Literal

import ibis
from pydantic import Field

from routing_pipeline.catalog import Catalog
from routing_pipeline.estimates import Result, quantity
from routing_pipeline.parameters import TIMEFRAMES, Parameters, Timeframe
from routing_pipeline.results import key_of
from routing_pipeline.router import RouterHealth
from routing_pipeline.schema import ADDED_LATER, SCOPED_REQUESTS, column_names
from routing_pipeline.storage import FolderStorage

MIN_REQUESTS = 1_000
MIN_LABELLED = 300
"""Labelled successes below which hardly any rule can be proven; what `days_to_collect` aims at, with MIN_REQUESTS."""
CLUSTERS = 256
UNKNOWN_TASK = "unknown"
SECONDS_PER_DAY = 86_400
DAYS_AROUND = 1
"""How many UTC days before and after that of an attempt others of the same request are looked for."""
LOOK_AROUND_S = DAYS_AROUND * SECONDS_PER_DAY
"""Files of a window and of so much before and after it hold all that its rows depend on."""
MONDAY_OFFSET_HOURS = 3 * 24
"""1970-01-01 was a Thursday; hour 0 of the week is Monday 00:00 UTC."""


class Source(Result):
    """One source of data that the report's numbers need, and whether it was there."""

    name: str
    present: bool
    consequence: str = Field(description="What cannot be said without it, and what to collect")


class AnalysisScope(Result):
    """The window, the task types and the data that every number of one analysis covers."""

    key: str = Field(description="Changes whenever any input of the analysis changes; results are stored under it")
    rows_key: str = Field(
        default="",
        description="Changes whenever the rows may change; what comes from the rows alone, whatever is asked of them, is stored under it",
    )
    parameters: Parameters
    timeframe_asked: Timeframe
    timeframe: Timeframe = Field(description="As analysed: longer than asked when data were few")
    start_s: float = quantity("Start of the window, inclusive, since 1970-01-01 UTC", "s")
    end_s: float = quantity("End of the window, exclusive", "s")
    previous_start_s: float = quantity("Start of the equal window before it", "s")
    snapshot_id: str = Field(description="Snapshot of the lake that was read first; later ones may hold the same rows, in other files")
    requests: int = quantity("Final requests in the window", "requests")
    attempts: int = quantity("Attempts in the window", "attempts")
    labelled: int = quantity("Successful final requests with a quality", "requests")
    previous_requests: int = quantity("Final requests in the equal window before", "requests")
    sessions: int = quantity("Distinct sessions; requests without one count as their own", "sessions")
    models: tuple[str, ...] = Field(description="Models seen in the window")
    task_types: tuple[str, ...] = Field(description="Task types in the window")
    complexity_derived_share: float = quantity("Share of requests whose complexity was derived from prompt length", "0..1")
    task_type_unknown_share: float = quantity("Share of requests without a task type", "0..1")
    sources: tuple[Source, ...] = Field(description="What the logs hold and what they miss")
    notices: tuple[str, ...] = Field(default=(), description="What a reader should know before the first number")
    router: RouterHealth | None = Field(default=None, description="What the router said before the analysis; null when nobody asked it")
    stale_because: str | None = Field(
        default=None, description="Why this is the last analysis again and not a new one, and of when it is; null when it is a new one"
    )
    days_to_collect: float | None = quantity("More days of logs needed for a firm answer; null when there are enough", "days", default=None)
    requests_uri: str = Field(description="Where the conformed rows of the window are listed (window_rows.WindowRows)")
    previous_uri: str = Field(description="The same of the equal window before")
    engine: str = Field(default="duckdb", description="Engine that reads them")
    sampled: float = quantity("Share of the final requests in `sample_uri`; 1: all", "0..1", default=1.0)
    sample_uri: str | None = Field(default=None, description="Rows of whole sessions drawn from the window's; null where all are read")

    @property
    def start(self) -> datetime:
        """Start of the window, inclusive."""
        return datetime.fromtimestamp(self.start_s, UTC)

    @property
    def end(self) -> datetime:
        """End of the window, exclusive."""
        return datetime.fromtimestamp(self.end_s, UTC)

    @property
    def days(self) -> float:
        """Length of the window in days."""
        return (self.end_s - self.start_s) / SECONDS_PER_DAY

    @property
    def estimated_from(self) -> str:
        """The rows that estimates of other routing rest on."""
        return self.sample_uri or self.requests_uri

    @property
    def evidence_key(self) -> str:
        """Changes whenever those rows may change."""
        rows = self.rows_key or self.key
        return rows if self.sample_uri is None else key_of(rows=rows, sample_above=self.parameters.sample_above)

    @property
    def quality_floor_is_absolute(self) -> bool:
        """Whether the user named a quality threshold; otherwise the floor is today's less the allowed drop."""
        return self.parameters.quality_threshold is not None


@dataclass(frozen=True)
class Window:
    """Half-open [start_s, end_s), seconds since 1970."""

    start_s: float
    end_s: float

    @property
    def previous(self) -> Window:
        """The equal window just before."""
        return Window(2 * self.start_s - self.end_s, self.start_s)


def window_of(parameters: Parameters, newest_s: float, timeframe: Timeframe | None = None) -> Window:
    """The window that ends at as_of, or just after the newest request (a microsecond: the log's resolution)."""
    end_s = newest_s + 1e-6 if parameters.as_of is None else parameters.as_of.timestamp()
    return Window(end_s - TIMEFRAMES[timeframe or parameters.timeframe].total_seconds(), end_s)


def longer(timeframe: Timeframe) -> Timeframe | None:
    """The next longer timeframe, None after the longest."""
    names = list(TIMEFRAMES)
    place = names.index(timeframe) + 1
    return names[place] if place < len(names) else None


def missing_sources(filled: Mapping[str, float]) -> tuple[Source, ...]:
    """What the report cannot say, from the share of requests in which each column is filled (0..1)."""
    needs: tuple[tuple[str, str, str], ...] = (
        (
            "cost_usd",
            "cost",
            "no cost can be reported; enable cost tracking in the gateway, or name the models' prices in the configuration",
        ),
        ("quality", "quality", "no rule can be proven safe; log quality_score in the request's metadata or hand over a --feedback file"),
        ("task_type", "task type", "all traffic is one task; tag requests with task_type"),
        ("complexity", "complexity", "prompt length stands in for difficulty; log the router's own complexity"),
        ("session_id", "session", "each request counts as independent, which makes intervals too narrow; send a session id"),
        ("routing_latency_ms", "routing latency", "the gateway's own delay is unknown; log its overhead"),
        ("ttft_ms", "time to first token", "only streams have it; log it for them"),
        ("queue_depth", "queue depth", "estimated from requests in flight; log it"),
        ("user_rating", "user rating", "satisfaction of users is unknown; collect ratings"),
        (
            "propensity",
            "routing probability",
            "choices are assumed explained by what the logs hold; route a small share at random and log the probability",
        ),
        ("routing_rule_id", "routing rule", "existing rules cannot be judged one by one; log the rule that decided"),
    )
    return tuple(Source(name=name, present=filled.get(column, 0.0) > 0, consequence=consequence) for column, name, consequence in needs)


PriceKey = tuple[str, str | None, str | None, int]


def list_prices(keys: list[PriceKey], catalog: Catalog) -> ibis.Table:
    """Tier and unit prices of each distinct (model, provider, provider_model, day), as a small table to join.

    One row for each length of prompt from which the list has another price: prompts of more than `above_tokens` tokens and
    not more than `up_to_tokens`.
    """
    columns: dict[str, list[Any]] = {name: [] for name in _PRICES.names}
    for model, provider, provider_model, day in keys:
        found = catalog.model(model, provider=provider, provider_model=provider_model, on_day=day)
        steps = found.prices or (None,)
        for step, following in zip(steps, (*steps[1:], None), strict=True):
            row = {
                "model": model,
                "price_provider": provider or "",
                "price_provider_model": provider_model or "",
                "day": day,
                "catalog_tier": found.tier,
                "above_tokens": -1 if step is None else step.above_tokens,
                "up_to_tokens": _NO_LIMIT if following is None else following.above_tokens,
                **{name: None if step is None else getattr(step, name) for name in _USD},
            }
            for name, value in row.items():
                columns[name].append(value)
    import pyarrow as pa

    return ibis.memtable(pa.table(columns, schema=_PRICES.to_pyarrow()), schema=_PRICES)


_NO_LIMIT = 2**62
_USD = (
    "input_usd",
    "output_usd",
    "cached_input_usd",
    "cache_write_usd",
    "reasoning_usd",
    "audio_input_usd",
    "audio_output_usd",
    "request_usd",
)
_PRICES = ibis.schema(
    {
        "model": "string",
        "price_provider": "string",
        "price_provider_model": "string",
        "day": "int64",
        "catalog_tier": "string",
        "above_tokens": "int64",
        "up_to_tokens": "int64",
        **dict.fromkeys(_USD, "float64"),
    }
)


def with_time(attempts: ibis.Table) -> ibis.Table:
    """Add started_s, day and hour_of_week, so that no later expression needs a timestamp function."""
    # Truncated first: DuckDB's epoch keeps the fraction and Ibis' cast to a whole number would round it up.
    # The fraction as text, because Ibis has no microsecond() on Spark.
    fraction_s = attempts.started_at.strftime("%f").cast("float64") / 1e6
    started_s = attempts.started_at.truncate("s").epoch_seconds().cast("float64") + fraction_s
    timed = attempts.mutate(started_s=started_s)
    hours = (timed.started_s / 3600).floor().cast("int64")
    return timed.mutate(day=(timed.started_s / SECONDS_PER_DAY).floor().cast("int64"), hour_of_week=(hours + MONDAY_OFFSET_HOURS) % 168)


def with_day(attempts: ibis.Table) -> ibis.Table:
    """Add `day` as `with_time` does, without the fraction of a second, which takes most of its time."""
    return attempts.mutate(day=(attempts.started_at.truncate("s").epoch_seconds() / SECONDS_PER_DAY).floor().cast("int64"))


def newest_scores(feedback: ibis.Table, quality_name: str) -> tuple[ibis.Table, ibis.Table]:
    """Newest quality and newest user's rating by request and by attempt, each on 0..1 by its declared scale.

    Quality is the feedback called `quality_name`; every other score by a user is a rating. The two never mix: where anybody
    but users gives that name, users' scores under it are ratings too. Of scores given at the same moment the lowest counts.
    """
    low, high = feedback.scale_min.fill_null(0.0), feedback.scale_max.fill_null(1.0)
    scores = feedback.filter(high > low).mutate(score=((feedback.value - low) / (high - low)).clip(0.0, 1.0))
    is_named, is_users = scores.name == quality_name, scores.source == "user"
    others = scores.filter(is_named & ~is_users).limit(1).count().execute()
    is_quality = is_named & ~is_users if others else is_named
    scores = scores.mutate(is_quality=is_quality).filter(is_quality | is_users)

    def newest(by: str) -> ibis.Table:
        keyed = scores.filter(scores[by].notnull())
        last = keyed.scored_at.max().over(ibis.window(group_by=[by, "is_quality"]))
        keyed = keyed.mutate(newest_at=last)
        keyed = keyed.filter(keyed.scored_at == keyed.newest_at)
        return keyed.group_by(by).agg(quality=keyed.score.min(where=keyed.is_quality), rating=keyed.score.min(where=~keyed.is_quality))

    return newest("request_id"), newest("attempt_id")


def conform(
    attempts: ibis.Table,
    window: Window,
    *,
    catalog: Catalog,
    feedback: ibis.Table | None = None,
    quality_name: str = "quality",
    task_types: tuple[str, ...] = (),
    held: Callable[[ibis.Table], ibis.Table] = lambda table: table,
) -> ibis.Table:
    """Rows of the window with everything derived (schema.SCOPED_REQUESTS).

    `attempts` holds the days of the window and the day before and after (schema.REQUEST_LOG). Runs one small query now, for the
    distinct models to price; the result is an unevaluated expression. `held` may evaluate what is joined (`Engine.held`).
    """
    scores = None if feedback is None else newest_scores(feedback, quality_name)
    rows = conform_days(attempts, window, catalog=catalog, scores=scores, task_types=task_types, held=held)
    ranks = held(length_ranks(_within(_around(attempts, window), window, task_types)))
    return with_complexity(rows, ranks)


def conform_days(
    attempts: ibis.Table,
    window: Window,
    *,
    catalog: Catalog,
    scores: tuple[ibis.Table, ibis.Table] | None = None,
    task_types: tuple[str, ...] = (),
    held: Callable[[ibis.Table], ibis.Table] = lambda table: table,
) -> ibis.Table:
    """The same but for what depends on the window as a whole: complexity that was not logged is null. `scores` as `newest_scores` gives them.

    There are two columns more, so that later scores can take the place of these (`scored_anew`): logged_quality and logged_rating.

    A row depends on the attempts of its UTC day, of the day before and of the day after, and on nothing else: it is the same in
    every window that holds it, and whole days can be kept (`window_rows`).

    Final: a success, or a failure that no later attempt of the same request follows on the same day or the next. Only requests that
    hold something other than a success are looked up, so the cost follows the failures and not the traffic.
    """
    around = with_prices(_around(attempts, window), catalog)
    failed = around.filter(around.status != "success").select("request_id").distinct()
    siblings = around.semi_join(failed, "request_id")
    # Each attempt is looked at from its own day and from the days next to it.
    siblings = siblings.cross_join(ibis.memtable({"days_away": [-1, 0, 1]}, schema={"days_away": "int64"}))
    siblings = siblings.mutate(chain_day=siblings.day + siblings.days_away)
    # attempt_id breaks ties, so that exactly one attempt is the last of its request on every engine.
    order = ibis.window(group_by=["request_id", "chain_day"], order_by=[siblings.started_s, siblings.attempt_id])
    ordered = siblings.mutate(
        place=ibis.row_number().over(order), model_before=siblings.model.lag().over(order), status_before=siblings.status.lag().over(order)
    )
    # Told here and not when it was read: the failure may have come in a later object, or in a later ingestion.
    fell_back = (ordered.status == "success") & (ordered.status_before != "success") & (ordered.model != ordered.model_before)
    chains = (
        ordered.group_by("request_id", "chain_day")
        .having(((ordered.days_away == 0).sum() > 0) & ((ordered.status != "success").sum() > 0))
        .agg(
            chain_attempts=ordered.count(),
            last_attempt_id=ordered.attempt_id.argmax(ordered.place),
            first_model=ordered.model.argmin(ordered.place),
            first_started_s=ordered.started_s.min(),
            fallback_attempt_id=ordered.attempt_id.argmax(ordered.place, where=fell_back),
            fallback_model=ordered.model_before.argmax(ordered.place, where=fell_back),
            chain_cost_usd=ordered.cost_usd.fill_null(0.0).sum(),
            chain_unpriced=(ordered.cost_usd.isnull() & (ordered.status == "success")).sum(),
        )
        .rename(chain_request_id="request_id")
    )
    # Evaluated by themselves, over the few columns that they need: as parts of the whole they make DuckDB keep every column of every row.
    chains = held(chains)

    rows = _within(around, window, task_types)
    rows = rows.left_join(chains, [rows.request_id == chains.chain_request_id, rows.day == chains.chain_day])
    is_last = rows.chain_request_id.isnull() | (rows.attempt_id == rows.last_attempt_id)
    rows = rows.mutate(is_final=is_last | (rows.status == "success"), is_last=is_last)
    closes_chain = rows.is_last & rows.chain_request_id.notnull()
    rows = rows.mutate(
        routed_model=ibis.coalesce(rows.first_model, rows.model),
        fallback_from=ibis.coalesce(
            rows.fallback_from, ibis.ifelse(rows.attempt_id == rows.fallback_attempt_id, rows.fallback_model, ibis.null("string"))
        ),
        request_cost_usd=ibis.ifelse(
            closes_chain, ibis.ifelse(rows.chain_unpriced > 0, ibis.null("float64"), rows.chain_cost_usd), rows.cost_usd
        ),
        request_latency_ms=ibis.ifelse(closes_chain, (rows.started_s - rows.first_started_s) * 1e3 + rows.latency_ms, rows.latency_ms),
        attempts=ibis.ifelse(closes_chain, rows.chain_attempts, ibis.literal(1, "int64")),
    )
    rows = rows.mutate(
        request_cost_usd=ibis.ifelse(rows.is_final, rows.request_cost_usd, ibis.null("float64")),
        request_latency_ms=ibis.ifelse(rows.is_final, rows.request_latency_ms, ibis.null("float64")),
        attempts=ibis.ifelse(rows.is_final, rows.attempts, ibis.null("int64")),
    )
    rows = rows.mutate(logged_quality=rows.quality_score, logged_rating=rows.user_rating, is_complexity_derived=rows.complexity.isnull())
    session = ibis.coalesce(rows.session_id, rows.request_id)
    rows = rows.mutate(cluster=_hex_pair(session.hexdigest("md5")))
    return scored_anew(rows, scores)


def scored_anew(rows: ibis.Table, scores: tuple[ibis.Table, ibis.Table] | None) -> ibis.Table:
    """Rows of `conform_days` with these scores in place of those that they have."""
    return _with_scores(rows, scores).select(*column_names(SCOPED_REQUESTS), "logged_quality", "logged_rating")


def _around(attempts: ibis.Table, window: Window) -> ibis.Table:
    """Attempts of the window's UTC days, of the day before and of the day after, with their time."""
    timed = with_time(with_all_columns(attempts))
    first, last = math.floor(window.start_s / SECONDS_PER_DAY), math.ceil(window.end_s / SECONDS_PER_DAY) - 1
    return timed.filter(timed.day >= first - DAYS_AROUND, timed.day <= last + DAYS_AROUND)


def _within(around: ibis.Table, window: Window, task_types: tuple[str, ...]) -> ibis.Table:
    """The window's own attempts, of these task types; none named means all."""
    rows = around.filter(around.started_s >= window.start_s, around.started_s < window.end_s)
    rows = rows.mutate(is_task_type_logged=rows.task_type.notnull(), task_type=rows.task_type.fill_null(UNKNOWN_TASK))
    return rows.filter(rows.task_type.isin(task_types)) if task_types else rows


def with_all_columns(attempts: ibis.Table) -> ibis.Table:
    """Files written before a column was there have none of it: null, as wherever a log does not say."""
    return attempts.mutate(**{name: ibis.null("int64") for name in ADDED_LATER if name not in attempts.columns})


def _hex_pair(digest: ibis.expr.types.StringValue) -> ibis.expr.types.IntegerValue:
    """First two hexadecimal digits as 0..255; position in a string is the same on every engine."""
    digits = ibis.literal("0123456789abcdef")
    # Spark finds 32-bit places that Ibis takes for 64-bit ones: the first cast makes the second one happen.
    return (digits.find(digest.substr(0, 1)) * 16 + digits.find(digest.substr(1, 1))).cast("int32").cast("int64")


def _with_scores(rows: ibis.Table, scores: tuple[ibis.Table, ibis.Table] | None) -> ibis.Table:
    """Quality and users' ratings: from the newest feedback, else as logged. A request's scores belong to its final attempt."""
    quality, rating = rows.logged_quality, rows.logged_rating
    if scores is not None:
        by_request, by_attempt = scores
        by_request = by_request.rename(scored_request_id="request_id", quality_by_request="quality", rating_by_request="rating")
        by_attempt = by_attempt.rename(scored_attempt_id="attempt_id", quality_by_attempt="quality", rating_by_attempt="rating")
        rows = rows.left_join(by_request, rows.request_id == by_request.scored_request_id)
        rows = rows.left_join(by_attempt, rows.attempt_id == by_attempt.scored_attempt_id)
        of_request = ibis.ifelse(rows.is_final, rows.rating_by_request, ibis.null("float64"))
        quality = ibis.coalesce(rows.quality_by_attempt, rows.quality_by_request, rows.logged_quality)
        rating = ibis.coalesce(rows.rating_by_attempt, of_request, rows.logged_rating)
    is_scored = rows.is_final & (rows.status == "success")
    return rows.mutate(quality=ibis.ifelse(is_scored, quality, ibis.null("float64")), user_rating=rating)


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


def with_prices(rows: ibis.Table, catalog: Catalog) -> ibis.Table:
    """Tier, cost at the list prices of the `day`, and cost: as logged, else at list prices. Nothing priced stays null, never 0."""
    keys = rows.select("model", "provider", "provider_model", "day").distinct().to_pyarrow().to_pylist()
    prices = list_prices(
        sorted(
            ((k["model"], k["provider"], k["provider_model"], k["day"]) for k in keys), key=lambda key: tuple(str(part) for part in key)
        ),
        catalog,
    ).rename(price_model="model", price_day="day")
    length = rows.prompt_tokens.fill_null(0)
    rows = rows.left_join(
        prices,
        [
            rows.model == prices.price_model,
            rows.provider.fill_null("") == prices.price_provider,
            rows.provider_model.fill_null("") == prices.price_provider_model,
            rows.day == prices.price_day,
            length > prices.above_tokens,
            length <= prices.up_to_tokens,
        ],
    )
    sent, received = token_classes(rows)
    cost = (
        sent["uncached"] * rows.input_usd
        + sent["cached"] * rows.cached_input_usd
        + sent["cache_write"] * rows.cache_write_usd
        + sent["audio_prompt"] * rows.audio_input_usd
        + (received["completion"] - received["reasoning"]) * rows.output_usd
        + received["reasoning"] * rows.reasoning_usd
        + received["audio_completion"] * rows.audio_output_usd
        + rows.request_usd
    )
    is_hit = rows.is_cache_hit.fill_null(False)
    rows = rows.mutate(
        tier=rows.catalog_tier,
        logged_cost_usd=rows.cost_usd,
        list_cost_usd=ibis.ifelse(is_hit | (rows.status != "success"), ibis.null("float64"), cost),
    )
    # The gateway's own cache costs nothing; everything else that nobody priced does not become free.
    unlogged = ibis.ifelse(is_hit, ibis.literal(0.0), rows.list_cost_usd)
    return rows.mutate(cost_usd=ibis.coalesce(rows.logged_cost_usd, unlogged))


def token_classes(rows: ibis.Table) -> tuple[dict[str, ibis.expr.types.FloatingValue], dict[str, ibis.expr.types.FloatingValue]]:
    """Tokens by the class that they are priced in, as numbers: of the prompt, and of the completion.

    The parts of a prompt add up to prompt_tokens; `completion` holds `reasoning`, and with `audio_completion` adds up to
    completion_tokens. A part that the log makes larger than what holds it is cut.
    """

    def tokens(name: str) -> ibis.expr.types.FloatingValue:
        return rows[name].fill_null(0).cast("float64")

    prompt, completion = rows.prompt_tokens.cast("float64"), rows.completion_tokens.cast("float64")
    cached = ibis.least(tokens("cached_tokens"), prompt)
    written = ibis.least(tokens("cache_write_tokens"), prompt - cached)
    heard = ibis.least(tokens("audio_prompt_tokens"), prompt - cached - written)
    spoken = ibis.least(tokens("audio_completion_tokens"), completion)
    sent = {"uncached": prompt - cached - written - heard, "cached": cached, "cache_write": written, "audio_prompt": heard}
    text = completion - spoken
    return sent, {"completion": text, "reasoning": ibis.least(tokens("reasoning_tokens"), text), "audio_completion": spoken}


Half = Literal["learn", "prove"]


def half_of(requests: ibis.Table, half: Half) -> ibis.Table:
    """The half of the sessions that rules are learnt on, or the half that they are proven on; never both."""
    is_learning = requests.cluster < CLUSTERS // 2
    return requests.filter(is_learning if half == "learn" else ~is_learning)


@dataclass(frozen=True)
class LakeState:
    """What the lake holds, as `ingest.lake.Lake` reports it."""

    snapshot_id: str
    feedback_version: str
    newest_s: float
    files_by_day: Callable[[float, float], Mapping[int, tuple[str, ...]]]
    """Names of the data files of the UTC days that overlap two moments, by day since 1970; nothing is fetched."""
    feedback_files: tuple[str, ...]
    readable: Callable[[Iterable[str]], Sequence[str]] = list
    """Paths of files by their names."""
    share: Callable[[Path], str] = str
    """Makes a file of the window readable for every worker; gives its address."""
    names_in: Callable[[Path], Sequence[str]] = FolderStorage(Path()).names_in
    """Names of what lies in a folder and can be `found`."""
    found: Callable[[Path], str | None] = FolderStorage(Path()).found
    """Address of a file that somebody shared, and that can be read here now; None when there is none."""
