"""The data contracts: every table's columns, types, units and grain.

Belongs here: what a column is called, what it holds, and what its null means. Does not belong here: how a format is
mapped onto it (`ingest/formats`), which values are acceptable (`expectations`), what is derived at reading (`scope`
derives it, the columns are still described here).
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal, get_args

ColumnType = Literal["text", "double", "bigint", "boolean", "timestamp"]

DUCKDB_TYPE: dict[ColumnType, str] = {
    "text": "VARCHAR",
    "double": "DOUBLE",
    "bigint": "BIGINT",
    "boolean": "BOOLEAN",
    "timestamp": "TIMESTAMP",
}


@dataclass(frozen=True)
class Column:
    """One column: `required` columns are never null; `unit` is what its numbers count."""

    name: str
    type: ColumnType
    description: str
    unit: str = ""
    required: bool = False


def _text(name: str, description: str, *, required: bool = False) -> Column:
    return Column(name, "text", description, required=required)


REQUEST_LOG: tuple[Column, ...] = (
    _text("attempt_id", "Unique key of one attempt: one call to one model", required=True),
    _text("request_id", "Groups the attempts of one client request", required=True),
    _text("session_id", "Conversation or session; null when unknown"),
    Column("started_at", "timestamp", "When the attempt began, UTC (no zone is stored)", "UTC", required=True),
    Column("latency_ms", "double", "From the start of the attempt to its last byte", "ms"),
    Column("ttft_ms", "double", "From the start of the attempt to its first token; streams only", "ms"),
    Column("routing_latency_ms", "double", "Time the gateway itself took; null where a retry or fallback pollutes it", "ms"),
    _text("model", "The name that the gateway routes by", required=True),
    _text("provider", "Who served it"),
    _text("provider_model", "What was called, with its version; a new version is a new arm"),
    _text("task_type", "Kind of task, as logged"),
    Column("complexity", "double", "Difficulty as the router saw it, as logged", "0..1"),
    Column("prompt_tokens", "bigint", "Tokens sent; cached ones, those written to the cache and audio included", "tokens"),
    Column("completion_tokens", "bigint", "Tokens received, reasoning and audio included", "tokens"),
    Column("cached_tokens", "bigint", "Prompt tokens served from the provider's cache", "tokens"),
    Column("cache_write_tokens", "bigint", "Prompt tokens written to the provider's cache", "tokens"),
    Column("reasoning_tokens", "bigint", "Completion tokens spent on reasoning", "tokens"),
    Column("audio_prompt_tokens", "bigint", "Prompt tokens that are audio", "tokens"),
    Column("audio_completion_tokens", "bigint", "Completion tokens that are audio", "tokens"),
    Column("cost_usd", "double", "Cost of the attempt as logged; null means unpriced", "USD"),
    _text("status", "success, failure or cancelled", required=True),
    _text("error_type", "Normalised class of the failure"),
    Column("retries", "bigint", "Retries the gateway reports for the request", "retries"),
    _text("fallback_from", "Model whose failure led to this attempt"),
    Column("is_cache_hit", "boolean", "Answered from the gateway's own response cache"),
    Column("queue_depth", "bigint", "Requests waiting when this one arrived", "requests"),
    Column("quality_score", "double", "Quality as logged with the request", "0..1"),
    Column("user_rating", "double", "A user's own rating: as logged; in a window, the newest that came as feedback first", "0..1"),
    _text("team", "Who pays"),
    _text("user_hash", "Keyed hash of the user; never the identifier itself"),
    _text("routing_rule_id", "Rule of the gateway that decided"),
    _text("routing_reason", "Why the gateway decided so, in its own words"),
    Column("propensity", "double", "Probability with which the router chose this model", "(0,1]"),
    _text("rule_arm", "Arm that the deciding rule drew: a model, `control` or `unchanged`; null where no rule set of ours decided"),
    _text("operation", "Kind of call, one of OPERATIONS; null reads as chat: an earlier version read it, or the log does not say"),
    Column("has_image", "boolean", "The request carries an image; null when not logged"),
    Column("has_audio", "boolean", "The request carries audio; null when not logged"),
    Column("has_tools", "boolean", "The request offers tools or functions; null when not logged"),
    Column("has_schema", "boolean", "The request asks for structured output; null when not logged"),
    Column("max_output_tokens", "bigint", "Most tokens that the answer may have, as asked for", "tokens"),
    _text("reasoning_effort", "Effort asked for, e.g. low, medium, high"),
    _text("service_tier", "The provider's service class: default, flex, batch, priority"),
    _text(
        "model_version",
        "What answered, by the answer's own word (its model, else its fingerprint), where that says more than provider_model",
    ),
    _text("feature", "Part of the product that asked"),
    _text("workflow", "Workflow, agent or chain that the call belongs to"),
    _text("prompt_version", "Version of the prompt, with its name where that is logged"),
    _text("tags", "Tags that say no other column, in the order of the alphabet, with commas between them"),
    _text("router_tier", "Tier that the gateway's own router sorted the request into; null where rules decided, or none is logged"),
    Column("router_score", "double", "The gateway's own router's score of the request, on its own scale", "its own"),
    _text("key_hash", "Keyed hash of the name of the API key, else of the key's own hash; never either of them"),
    _text("source_format", "Which log format the row came from", required=True),
    _text("source_object", "Object the row came from", required=True),
    Column("ingested_at", "timestamp", "When the row was committed to the lake, UTC", "UTC", required=True),
)
"""Grain: one attempt. `attempt_id` is unique. Partitioned by the UTC day of `started_at`."""

TOKEN_PARTS: tuple[str, ...] = ("cached_tokens", "cache_write_tokens", "audio_prompt_tokens", "reasoning_tokens", "audio_completion_tokens")
"""Columns that count a part of prompt_tokens (the first three) or of completion_tokens."""

Operation = Literal["chat", "embedding", "rerank", "image", "transcription", "speech", "moderation", "batch", "tool", "other"]
OPERATIONS: tuple[Operation, ...] = get_args(Operation)
"""Kinds of call. `chat` holds text completion and responses too; rules, quality and models to choose from speak of it alone."""

CHAT: Operation = "chat"

NO_COMPLETION: tuple[Operation, ...] = ("embedding", "rerank", "moderation")
"""Kinds whose answers hold no tokens: a count of them that is not logged is 0."""

DEFAULT_TIER = "default"
"""The service class that list prices are of; null reads as it."""

OWN_COST_ONLY: tuple[Operation, ...] = ("tool", "other")
"""Kinds whose calls no price list is about: retrievals, health checks, tools. They are no spend unless the log gives them a cost."""

ADDED_LATER: tuple[str, ...] = (
    "rule_arm",
    "cache_write_tokens",
    "audio_prompt_tokens",
    "audio_completion_tokens",
    "operation",
    "has_image",
    "has_audio",
    "has_tools",
    "has_schema",
    "max_output_tokens",
    "reasoning_effort",
    "service_tier",
    "model_version",
    "feature",
    "workflow",
    "prompt_version",
    "tags",
    "router_tier",
    "router_score",
    "key_hash",
)
"""Columns of the request log that files of earlier versions lack; they read as null there."""

ScoreSource = Literal["judge", "user", "check", "eval"]
"""Who gave a score: a model, whoever asked, a program that can tell right from wrong, people who were asked to judge."""
TRUSTED: tuple[ScoreSource, ...] = ("eval", "check")
"""Sources whose scores are what quality means, unless told otherwise. A model's are cheap, and users score what moves them to."""

FEEDBACK: tuple[Column, ...] = (
    _text("request_id", "Request that was scored; null when the attempt is named instead"),
    _text("attempt_id", "Attempt that was scored; null when the request is named instead"),
    _text("name", "What was scored, e.g. quality", required=True),
    Column("value", "double", "The score on its own scale", required=True),
    Column("scale_min", "double", "Lowest value of the scale; null means 0"),
    Column("scale_max", "double", "Highest value of the scale; null means 1"),
    _text("source", "judge, user, check or eval", required=True),
    Column("scored_at", "timestamp", "When the score was given, UTC", "UTC", required=True),
)
"""Grain: one score. A later score of the same request, name and source replaces an earlier one at reading."""

KEPT_FEEDBACK: tuple[Column, ...] = (
    *FEEDBACK,
    _text("source_object", "Object that held the score; null where an earlier version read it"),
)
"""`FEEDBACK` as the lake keeps it, so that an object uploaded again can replace its scores."""

QUARANTINE: tuple[Column, ...] = (
    _text("source_object", "Object that held the record", required=True),
    Column("line", "bigint", "Line in the object, from 1; null when the whole object was refused", "line"),
    Column("record", "bigint", "Record within the line, from 1; null when it is the only one there", "record"),
    Column("records", "bigint", "Records that were refused, more than 1 where a whole table was; null reads as 1", "records"),
    _text("reason", "Why the record cannot be used, and what would make it usable", required=True),
    _text("excerpt", "First 200 characters of the record with every string value masked; null when binary"),
    Column("quarantined_at", "timestamp", "When it was refused, UTC", "UTC", required=True),
)
"""Grain: one refused record, or all of a table that cannot be read."""

REFUSED_FEEDBACK: tuple[Column, ...] = (
    *QUARANTINE,
    _text("name", "What was scored; null where the record does not say"),
    Column("value", "double", "The score, where it is a number"),
    Column("scale_min", "double", "Lowest value of the scale that it was held against"),
    Column("scale_max", "double", "Highest value of that scale"),
    Column("has_scale", "boolean", "Whether the record itself names an end of its scale"),
)
"""`QUARANTINE` for scores: enough to tell which scale was meant, and what to read again once it is declared."""

LEDGER: tuple[Column, ...] = (
    _text("object", "Key of the object within its source", required=True),
    _text("source", "Source it was listed from", required=True),
    _text("etag", "ETag, or modification time for local files", required=True),
    Column("size_bytes", "bigint", "Size when read", "bytes", required=True),
    _text("format", "Log format found in it", required=True),
    Column("records", "bigint", "Records found", "records", required=True),
    Column("ingested", "bigint", "Rows committed", "rows", required=True),
    Column("quarantined", "bigint", "Records refused", "records", required=True),
    Column("duplicates", "bigint", "Records whose attempt was in the lake already", "records", required=True),
    Column(
        "left_out",
        "bigint",
        "What was found beside the records and is none: spans that are no calls, lines of text; null reads as 0",
        "items",
    ),
    _text("left_out_as", "What that is called; null when nothing was left out"),
    Column("committed_at", "timestamp", "When its rows were committed, UTC", "UTC", required=True),
)
"""Grain: one object, as it was read last; an empty etag: to be read again. records = ingested + quarantined + duplicates."""

FORGOTTEN: tuple[Column, ...] = (
    _text("what", "user, team, object, before or id", required=True),
    _text(
        "value",
        "Keyed hash of the user, name of the team, what the lake calls the object, a moment in UTC, or keyed hash of an attempt's or a request's id",
        required=True,
    ),
    Column("forgotten_at", "timestamp", "When; what a user or team did before it stays away", "UTC", required=True),
)
"""Grain: one request to forget, or one id of what was forgotten, whose scores stay away."""

_NOT_SCOPED = {"cost_usd", "quality_score", "source_format", "source_object", "ingested_at"}

SCOPED_REQUESTS: tuple[Column, ...] = (
    *(column for column in REQUEST_LOG if column.name not in _NOT_SCOPED),
    Column("cost_usd", "double", "Cost of the attempt: as logged, else list_cost_usd; null means that nobody knows a price", "USD"),
    Column("logged_cost_usd", "double", "Cost of the attempt as logged; null where the log holds none", "USD"),
    Column("started_s", "double", "started_at as seconds since 1970; all arithmetic on time uses it", "s", required=True),
    Column("day", "bigint", "floor(started_s / 86400): days since 1970-01-01", "days", required=True),
    Column("hour_of_week", "bigint", "0 = Monday 00:00 to 00:59 UTC, 167 = Sunday 23:00", "hour", required=True),
    _text("tier", "Tier from the model catalog; null when the model is not in it"),
    Column("list_cost_usd", "double", "Cost of the attempt at the day's list prices by token class; null without a price or tokens", "USD"),
    Column("is_final", "boolean", "The client saw this attempt's outcome (`chains`)", required=True),
    _text("routed_model", "Model of the request's first attempt: what the router chose", required=True),
    Column("request_cost_usd", "double", "On final rows: cost of all attempts of the request; null if its answer is unpriced", "USD"),
    Column("request_latency_ms", "double", "On final rows: from the first attempt's start to the final one's end", "ms"),
    Column("attempts", "bigint", "On final rows: attempts of the request in the log", "attempts"),
    Column("quality", "double", "Newest feedback of the quality name, else the logged score; successful final rows only", "0..1"),
    _text("quality_source", "Who gave that quality: judge, user, check or eval; log: the log's own row held it; null without a quality"),
    Column(
        "judge_quality",
        "double",
        "Newest score of the quality name by a source that is not trusted, where trusted ones score it too",
        "0..1",
    ),
    Column("is_complexity_derived", "boolean", "complexity was not logged: rank of prompt_tokens within the task type", required=True),
    Column("is_task_type_logged", "boolean", "task_type was logged; otherwise it reads `unknown`", required=True),
    Column("cluster", "bigint", "md5 of the session (else the request) into 0..255; the unit of resampling", required=True),
)
"""Grain: one attempt within the scope's window; `operation` is never null. What every analysis reads, those of the kind `chat` alone
unless it says otherwise. Volumes, success and latency: `is_final` rows."""


def column_names(columns: tuple[Column, ...]) -> tuple[str, ...]:
    """Names in their order."""
    return tuple(column.name for column in columns)
