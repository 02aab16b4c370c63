"""From what was asked to what is analysed: the window on a lake snapshot, and the rows in it as analyses read them.

Belongs here: `AnalysisScope`, resolving parameters to a window (extending it when data are few), and `conform`, which
derives final attempts, request totals, quality from feedback, complexity where it was not logged, tiers and list
prices. Does not belong here: any measurement (see `analysis`), reading the lake (see `ingest.lake`).
"""

from __future__ import annotations

import contextlib
import os
import shutil
import uuid
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Literal

import ibis
from pydantic import Field

from routing_pipeline.catalog import Catalog
from routing_pipeline.engine import Engine
from routing_pipeline.errors import ServiceUnavailableError, UnusableInputError
from routing_pipeline.estimates import Result, quantity
from routing_pipeline.ingest.content import content_of
from routing_pipeline.parameters import TIMEFRAMES, Parameters, Timeframe
from routing_pipeline.results import ResultStore, code_version, key_of
from routing_pipeline.router import RouterHealth
from routing_pipeline.schema import ADDED_LATER, SCOPED_REQUESTS, column_names
from routing_pipeline.storage import is_there

MIN_REQUESTS = 1_000
MIN_LABELLED = 300
"""Labelled successes below which hardly any rule can be proven; what `days_to_collect` aims at, with MIN_REQUESTS."""
CLUSTERS = 256
UNKNOWN_TASK = "unknown"
SECONDS_PER_DAY = 86_400
LOOK_AROUND_S = SECONDS_PER_DAY
"""How far beyond the window attempts of the same request are looked for."""
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
    requests_uri: str = Field(description="Conformed rows of the window (schema.SCOPED_REQUESTS)")
    previous_uri: str = Field(description="Conformed rows of the equal window before; same schema")
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

    `attempts` holds the window and a day around it (schema.REQUEST_LOG). Runs one small query now, for the distinct
    models to price; the result is an unevaluated expression. `held` may evaluate what is joined (`Engine.held`).

    Final: a success, or a failure that no later attempt of the same request follows. Only requests that hold something
    other than a success are looked up, so the cost follows the failures and not the traffic.
    """
    around = with_time(with_all_columns(attempts))
    around = around.filter(around.started_s >= window.start_s - LOOK_AROUND_S, around.started_s < window.end_s + LOOK_AROUND_S)
    around = with_prices(around, catalog)
    failed = around.filter(around.status != "success").select("request_id").distinct()
    siblings = around.semi_join(failed, "request_id")
    # attempt_id breaks ties, so that exactly one attempt is the last of its request on every engine.
    order = ibis.window(group_by="request_id", order_by=[siblings.started_s, siblings.attempt_id])
    ordered = siblings.mutate(
        place=ibis.row_number().over(order), model_before=siblings.model.lag().over(order), status_before=siblings.status.lag().over(order)
    )
    # Told here and not when it was read: the failure may have come in a later object, or in a later ingestion.
    fell_back = (ordered.status == "success") & (ordered.status_before != "success") & (ordered.model != ordered.model_before)
    chains = (
        ordered.group_by("request_id")
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

    rows = around.filter(around.started_s >= window.start_s, around.started_s < window.end_s)
    rows = rows.mutate(is_task_type_logged=rows.task_type.notnull(), task_type=rows.task_type.fill_null(UNKNOWN_TASK))
    if task_types:
        rows = rows.filter(rows.task_type.isin(task_types))
    ranks = held(length_ranks(rows))
    rows = rows.left_join(chains, rows.request_id == chains.chain_request_id)
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
    rows = _with_scores(rows, feedback, quality_name)
    rows = _with_complexity(rows, ranks)
    session = ibis.coalesce(rows.session_id, rows.request_id)
    rows = rows.mutate(cluster=_hex_pair(session.hexdigest("md5")))
    return rows.select(*column_names(SCOPED_REQUESTS))


def with_all_columns(attempts: ibis.Table) -> ibis.Table:
    """Files written before a column was there have none of it: null, as wherever a log does not say."""
    return attempts.mutate(**{name: ibis.null("int64") for name in ADDED_LATER if name not in attempts.columns})


def _hex_pair(digest: ibis.expr.types.StringValue) -> ibis.expr.types.IntegerValue:
    """First two hexadecimal digits as 0..255; position in a string is the same on every engine."""
    digits = ibis.literal("0123456789abcdef")
    # Spark finds 32-bit places that Ibis takes for 64-bit ones: the first cast makes the second one happen.
    return (digits.find(digest.substr(0, 1)) * 16 + digits.find(digest.substr(1, 1))).cast("int32").cast("int64")


def _with_scores(rows: ibis.Table, feedback: ibis.Table | None, quality_name: str) -> ibis.Table:
    """Quality and users' ratings: from the newest feedback, else as logged. A request's scores belong to its final attempt."""
    quality, rating = rows.quality_score, rows.user_rating
    if feedback is not None:
        by_request, by_attempt = newest_scores(feedback, quality_name)
        by_request = by_request.rename(scored_request_id="request_id", quality_by_request="quality", rating_by_request="rating")
        by_attempt = by_attempt.rename(scored_attempt_id="attempt_id", quality_by_attempt="quality", rating_by_attempt="rating")
        rows = rows.left_join(by_request, rows.request_id == by_request.scored_request_id)
        rows = rows.left_join(by_attempt, rows.attempt_id == by_attempt.scored_attempt_id)
        of_request = ibis.ifelse(rows.is_final, rows.rating_by_request, ibis.null("float64"))
        quality = ibis.coalesce(rows.quality_by_attempt, rows.quality_by_request, rows.quality_score)
        rating = ibis.coalesce(rows.rating_by_attempt, of_request, rows.user_rating)
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
        length_rank=(ranks.up_to - ranks.n / 2.0) / ranks.of,
    )


def _with_complexity(rows: ibis.Table, ranks: ibis.Table) -> ibis.Table:
    """Where complexity was not logged: the rank of prompt_tokens within the task type."""
    rows = rows.left_join(ranks, [rows.task_type == ranks.rank_task, rows.prompt_tokens == ranks.rank_tokens])
    return rows.mutate(is_complexity_derived=rows.complexity.isnull(), complexity=ibis.coalesce(rows.complexity, rows.length_rank))


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
    attempt_files: Callable[[float, float], tuple[str, ...]]
    feedback_files: tuple[str, ...]
    share: Callable[[Path], str] = str
    """Makes a file of the window readable for every worker; gives its address."""


def resolve_scope(
    lake: LakeState, parameters: Parameters, *, engine: Engine, engine_name: str, scratch: Path, stored: ResultStore
) -> AnalysisScope:
    """Turn parameters into a window on the lake's snapshot and conform its rows into `scratch`.

    With fewer than MIN_REQUESTS final requests, or none with a quality, the window is extended to the next longer
    timeframe as long as that brings more; what was done is said in `notices`.

    Raises:
        UnusableInputError: no row in the window, not even in the longest; the message names what the lake holds.
    """
    timeframe: Timeframe = parameters.timeframe
    best: AnalysisScope | None = None
    while True:
        found = _scope_of(lake, parameters, timeframe, engine=engine, engine_name=engine_name, scratch=scratch, stored=stored)
        if found is not None and (best is None or (found.requests, found.labelled) > (best.requests, best.labelled)):
            best = found
        is_enough = best is not None and best.requests >= MIN_REQUESTS and best.labelled > 0
        following = longer(timeframe)
        if is_enough or following is None:
            break
        timeframe = following
    if best is None:
        newest = datetime.fromtimestamp(lake.newest_s, UTC)
        asked = f"--task-types {','.join(parameters.task_types)}" if parameters.task_types else f"--timeframe {parameters.timeframe}"
        raise UnusableInputError(
            f"no request in the window ({asked}, as of {_as_of(parameters, newest):%Y-%m-%d %H:%M} UTC); "
            f"the newest request in the lake is of {newest:%Y-%m-%d %H:%M} UTC: give another --as-of, --timeframe or --task-types"
        )
    return best


def last_analysis(stored: ResultStore, parameters: Parameters, why: str) -> AnalysisScope:
    """The scope of the newest report that answered the same question, marked as being no new one because of `why`.

    Raises:
        ServiceUnavailableError: no such report was made here, or its rows are gone.
    """
    runs = stored.runs()
    for run in runs:
        found = stored.load("analysis_scope", run.key, AnalysisScope)
        if found is not None and found.parameters == parameters and is_there(found.estimated_from):
            with contextlib.suppress(OSError):
                os.utime(Path(found.requests_uri).parent)
            # A report that repeats an analysis has its key: the first one made it.
            made = datetime.fromtimestamp(min(each.published_s for each in runs if each.key == run.key), UTC)
            dated = f"Analysed on {made:%Y-%m-%d %H:%M} UTC, from logs up to {found.end:%Y-%m-%d %H:%M} UTC; run again later for a new one."
            return found.model_copy(update={"router": None, "stale_because": f"{why}. {dated}"})
    raise ServiceUnavailableError(f"{why}; this home holds no recent analysis of the same question to fall back on: run again later")


def _as_of(parameters: Parameters, newest: datetime) -> datetime:
    return parameters.as_of or newest


def _scope_of(
    lake: LakeState, parameters: Parameters, timeframe: Timeframe, *, engine: Engine, engine_name: str, scratch: Path, stored: ResultStore
) -> AnalysisScope | None:
    """The scope of one timeframe; None when no row lies in its window."""
    window = window_of(parameters, lake.newest_s, timeframe)
    catalog = Catalog(parameters.models)
    files = lake.attempt_files(window.previous.start_s - LOOK_AROUND_S, window.end_s + LOOK_AROUND_S)
    rows_key = key_of(
        content=content_of(files),
        feedback=lake.feedback_version,
        quality_name=parameters.quality_feedback,
        catalog=catalog.version,
        overrides={name: override.model_dump(mode="json") for name, override in parameters.models.items()},
        task_types=parameters.task_types,
        window=(window.start_s, window.end_s),
        engine=engine_name,
        code=code_version(),
    )
    key = key_of(rows=rows_key, parameters=parameters.model_dump(mode="json"))
    folder = scratch / "windows" / rows_key
    known = stored.load("analysis_scope", key, AnalysisScope)
    if known is not None and folder.exists() and _is_shared(known, lake, folder):
        os.utime(folder)
        return known.model_copy(update={"router": None, "stale_because": None})
    if not files:
        return None
    attempts = engine.read_parquet(files)
    feedback = engine.read_parquet(lake.feedback_files) if lake.feedback_files else None
    if folder.exists():
        os.utime(folder)
    else:
        with _written_whole(folder) as writing:
            for name, part in (("requests", window), ("previous", window.previous)):
                rows = conform(
                    attempts,
                    part,
                    catalog=catalog,
                    feedback=feedback,
                    quality_name=parameters.quality_feedback,
                    task_types=parameters.task_types,
                    held=engine.held,
                )
                engine.write_parquet(rows, writing / f"{name}.parquet")
    requests, previous = (engine.read_parquet([folder / f"{name}.parquet"]) for name in ("requests", "previous"))
    scope = _described(
        lake, parameters, timeframe, window, requests, previous, key=key, rows_key=rows_key, folder=folder, engine_name=engine_name
    )
    if scope.attempts == 0:
        shutil.rmtree(folder, ignore_errors=True)
        return None
    limit = parameters.sample_above
    return scope if limit is None or scope.requests <= limit else _sampled(scope, requests, limit, engine, folder, lake)


def sample_of(requests: ibis.Table, rate: float) -> ibis.Table:
    """Rows of about `rate` (0..1) of the sessions, whole and always the same ones; a request without a session is its own.

    Drawn by the third to tenth digit of the session's md5: `cluster` is the first two, so that a sample has the same
    clusters and halves. A larger rate adds sessions and drops none.
    """
    digits = ibis.coalesce(requests.session_id, requests.request_id).hexdigest("md5").substr(2, 8)
    return requests.filter(digits < f"{min(int(rate * 16**8), 16**8 - 1):08x}")


def _sampled(scope: AnalysisScope, requests: ibis.Table, limit: int, engine: Engine, folder: Path, lake: LakeState) -> AnalysisScope:
    """The scope with a sample of its rows beside them."""
    path = folder / f"sample-{limit}.parquet"
    if not path.exists():
        writing = folder / f"sample-{uuid.uuid4().hex}.writing"
        engine.write_parquet(sample_of(requests, limit / scope.requests), writing)
        with contextlib.suppress(OSError):
            writing.rename(path)
    drawn = int(engine.read_parquet([path]).is_final.sum().fill_null(0).execute())
    notice = (
        f"What other routing rules would do is estimated from {drawn:,} of the {scope.requests:,} requests ({drawn / scope.requests:.1%}), "
        f"whole sessions and the same ones each time, because sample_above is {limit:,}; intervals are as wide as that makes them. "
        "Requests, spend and everything else that is counted or added up cover all of them."
    )
    return scope.model_copy(update={"sampled": drawn / scope.requests, "sample_uri": lake.share(path), "notices": (*scope.notices, notice)})


def _is_shared(known: AnalysisScope, lake: LakeState, folder: Path) -> bool:
    """Whether what a stored scope reads lies in this folder, and every worker can read it."""
    sample = None if known.sample_uri is None else folder / Path(known.sample_uri).name
    if sample is not None and not (sample.exists() and lake.share(sample) == known.sample_uri):
        return False
    return (known.requests_uri, known.previous_uri) == _shared(lake, folder)


def _shared(lake: LakeState, folder: Path) -> tuple[str, str]:
    """Addresses of the window's rows and of those of the window before it."""
    return lake.share(folder / "requests.parquet"), lake.share(folder / "previous.parquet")


@contextmanager
def _written_whole(folder: Path) -> Iterator[Path]:
    """A folder to write into that takes its place at once when all is written.

    Two who ask for the same window at the same time both write; the second finds the place taken, by the same rows.
    """
    writing = folder.with_name(f"{folder.name}.writing-{uuid.uuid4().hex}")
    writing.mkdir(parents=True)
    try:
        yield writing
        with contextlib.suppress(OSError):
            writing.rename(folder)
    finally:
        shutil.rmtree(writing, ignore_errors=True)


_FILLED: tuple[str, ...] = (
    "cost_usd",
    "quality",
    "complexity",
    "session_id",
    "routing_latency_ms",
    "ttft_ms",
    "queue_depth",
    "user_rating",
    "propensity",
    "routing_rule_id",
)


def _described(
    lake: LakeState,
    parameters: Parameters,
    timeframe: Timeframe,
    window: Window,
    requests: ibis.Table,
    previous: ibis.Table,
    *,
    key: str,
    rows_key: str,
    folder: Path,
    engine_name: str,
) -> AnalysisScope:
    final = requests.is_final
    counted: dict[str, Any] = (
        requests.agg(
            attempts=requests.count(),
            requests=final.sum().fill_null(0),
            labelled=requests.quality.notnull().sum().fill_null(0),
            sessions=ibis.coalesce(requests.session_id, requests.request_id).nunique(),
            derived=(final & requests.is_complexity_derived).sum().fill_null(0),
            untyped=(final & ~requests.is_task_type_logged).sum().fill_null(0),
            first_s=requests.started_s.min(),
            last_s=requests.started_s.max(),
            **{f"has_{name}": requests[name].notnull().sum().fill_null(0) for name in _FILLED},
        )
        .to_pyarrow()
        .to_pylist()[0]
    )
    names = requests.select("model", "task_type").distinct().to_pyarrow().to_pylist()
    requests_n, labelled = int(counted["requests"]), int(counted["labelled"])
    filled = {name: float(counted[f"has_{name}"]) for name in _FILLED}
    filled["complexity"] = float(requests_n - counted["derived"])
    filled["task_type"] = float(requests_n - counted["untyped"])
    requests_uri, previous_uri = _shared(lake, folder)
    span_days = max(((counted["last_s"] or 0.0) - (counted["first_s"] or 0.0)) / SECONDS_PER_DAY, 1 / 24)
    return AnalysisScope(
        key=key,
        rows_key=rows_key,
        parameters=parameters,
        timeframe_asked=parameters.timeframe,
        timeframe=timeframe,
        start_s=window.start_s,
        end_s=window.end_s,
        previous_start_s=window.previous.start_s,
        snapshot_id=lake.snapshot_id,
        requests=requests_n,
        attempts=int(counted["attempts"]),
        labelled=labelled,
        previous_requests=int(previous.is_final.sum().fill_null(0).execute()),
        sessions=int(counted["sessions"]),
        models=tuple(sorted({row["model"] for row in names})),
        task_types=tuple(sorted({row["task_type"] for row in names})),
        complexity_derived_share=0.0 if requests_n == 0 else counted["derived"] / requests_n,
        task_type_unknown_share=0.0 if requests_n == 0 else counted["untyped"] / requests_n,
        sources=missing_sources(filled),
        notices=_notices(parameters, timeframe, requests_n, labelled),
        days_to_collect=_days_to_collect(requests_n, labelled, span_days),
        requests_uri=requests_uri,
        previous_uri=previous_uri,
        engine=engine_name,
    )


def _notices(parameters: Parameters, timeframe: Timeframe, requests: int, labelled: int) -> tuple[str, ...]:
    notices: list[str] = []
    if timeframe != parameters.timeframe:
        notices.append(f"The window asked for ({parameters.timeframe}) held too little; it was extended to {timeframe}.")
    if requests < MIN_REQUESTS:
        notices.append(f"{requests:,} requests are too few to judge other routing rules; at least {MIN_REQUESTS:,} are needed.")
    if labelled == 0:
        notices.append(
            "No request carries a quality score, so no rule can be proven safe. Log quality_score, or hand over a feedback file."
        )
    elif labelled < MIN_LABELLED:
        notices.append(f"Only {labelled:,} requests carry a quality score; about {MIN_LABELLED:,} are the least that proofs need.")
    return tuple(notices)


def _days_to_collect(requests: int, labelled: int, span_days: float) -> float | None:
    """Days until both MIN_REQUESTS and MIN_LABELLED are reached at the rate observed; None when there are enough, or no rate."""
    if requests >= MIN_REQUESTS and labelled >= MIN_LABELLED:
        return None
    if requests == 0:
        return None
    days = (MIN_REQUESTS - requests) / (requests / span_days)
    if labelled > 0:
        days = max(days, (MIN_LABELLED - labelled) / (labelled / span_days))
    return max(days, 0.0) or None
