"""Our own schema as a log format: records whose keys are the columns of schema.REQUEST_LOG, as JSON lines or Parquet.

For gateways that no other module speaks of: a few lines of the user's own SQL or Python produce it. `started_at` is
ISO 8601 (UTC unless it names a zone) or seconds since 1970; `request_id` defaults to `attempt_id`; `user_id` may stand in
for `user_hash`, and either is hashed again with the home's key.
"""

from __future__ import annotations

from routing_pipeline.ingest.formats.log_format import (
    DERIVED_COLUMNS,
    LONGEST_ATTEMPT_S,
    LogFormat,
    amount_reasons,
    complexity,
    count_of,
    key_text,
    probability,
    text,
    time_reasons,
    user_hash,
    within,
)
from routing_pipeline.schema import REQUEST_LOG

# Everything as text: one meaning of "given but unusable" for JSON and Parquet alike.
STRUCTURE = {column.name: "VARCHAR" for column in REQUEST_LOG if column.name not in DERIVED_COLUMNS} | {"user_id": "VARCHAR"}

_START_S = "coalesce(TRY_CAST(started_at AS DOUBLE), epoch_us(TRY_CAST(started_at AS TIMESTAMPTZ)) / 1e6)"
_START_US = "coalesce(TRY_CAST(TRY_CAST(started_at AS DOUBLE) * 1e6 AS BIGINT), epoch_us(TRY_CAST(started_at AS TIMESTAMPTZ)))"
_MAX_MS = LONGEST_ATTEMPT_S * 1e3
_TEXTS = (
    "session_id",
    "model",
    "provider",
    "provider_model",
    "task_type",
    "status",
    "error_type",
    "fallback_from",
    "team",
    "routing_rule_id",
    "routing_reason",
)

_COLUMNS = {name: text(name) for name in _TEXTS} | {
    "attempt_id": key_text("attempt_id"),
    "request_id": key_text("coalesce(nullif(request_id, ''), attempt_id)"),
    "started_at": f"make_timestamp(CASE WHEN {_START_S} BETWEEN 0 AND 1e11 THEN {_START_US} END)",
    "latency_ms": "TRY_CAST(latency_ms AS DOUBLE)",
    "prompt_tokens": "TRY_CAST(prompt_tokens AS DOUBLE)",
    "completion_tokens": "TRY_CAST(completion_tokens AS DOUBLE)",
    "cost_usd": "TRY_CAST(cost_usd AS DOUBLE)",
    "is_cache_hit": "TRY_CAST(is_cache_hit AS BOOLEAN)",
    "user_hash": user_hash("coalesce(nullif(user_id, ''), user_hash)"),
}

_OPTIONAL = {
    "ttft_ms": within("ttft_ms", 0, _MAX_MS),
    "routing_latency_ms": within("routing_latency_ms", 0, _MAX_MS),
    "complexity": complexity("complexity"),
    "cached_tokens": count_of("cached_tokens"),
    "reasoning_tokens": count_of("reasoning_tokens"),
    "retries": count_of("retries"),
    "queue_depth": count_of("queue_depth"),
    "quality_score": within("quality_score", 0, 1),
    "user_rating": within("user_rating", 0, 1),
    "propensity": probability("propensity"),
}

_REJECT = f"""CASE
    WHEN coalesce(attempt_id, '') = '' THEN 'no key: attempt_id is not there'
    {time_reasons(_START_S, "started_at")}
    {amount_reasons("latency_ms", "latency_ms")}
    WHEN TRY_CAST(latency_ms AS DOUBLE) > {_MAX_MS} THEN 'latency_ms is longer than a week'
    {amount_reasons("cost_usd", "cost_usd")}
    {amount_reasons("prompt_tokens", "prompt_tokens")}
    {amount_reasons("completion_tokens", "completion_tokens")}
    WHEN status IS NULL OR status NOT IN ('success', 'failure', 'cancelled') THEN 'status is none of success, failure, cancelled'
    WHEN coalesce(model, '') = '' THEN 'no model'
END"""

CANONICAL = LogFormat(
    name="canonical",
    structure=STRUCTURE,
    reject_reason=_REJECT,
    columns=_COLUMNS,
    keys=(frozenset({"attempt_id", "started_at"}),),
    optional=_OPTIONAL,
)
