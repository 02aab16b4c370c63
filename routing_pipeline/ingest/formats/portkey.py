"""Portkey's log export as JSON lines or CSV. Its columns are chosen at the export, so that any but the time may be missing.

Traps: `cost` is in cents, and in another currency than US dollars it is no cost that we can use; `trace_id` is what the
client set, else made up for each request; a cost of 0 for tokens means that no price was known.
"""

from __future__ import annotations

from routing_pipeline.ingest.formats.column_map import column_map, if_priced, status_of, time_of
from routing_pipeline.ingest.formats.log_format import json_texts

_TEXTS = (
    "id",
    "trace_id",
    "created_at",
    "is_success",
    "ai_org",
    "ai_model",
    "req_units",
    "res_units",
    "total_units",
    "cost",
    "cost_currency",
    "response_time",
    "response_status_code",
    "cache_status",
    "retry_success_count",
    "metadata",
)
_LABELS = (
    "task_type",
    "complexity",
    "team",
    "routing_rule_id",
    "routing_reason",
    "propensity",
    "queue_depth",
    "quality_score",
    "user_rating",
)
_METADATA = json_texts("metadata", (*_LABELS, "session_id", "_user"))
_IS_HIT = "contains(upper(cache_status), 'HIT')"
_STATUS = f"""CASE WHEN lower(is_success) IN ('1', '1.0', 'true') THEN 'success' WHEN lower(is_success) IN ('0', '0.0', 'false')
    THEN CASE WHEN TRY_CAST(response_status_code AS INTEGER) = 499 THEN 'cancelled' ELSE 'failure' END
    ELSE {status_of("response_status_code")} END"""
_USD = "CASE WHEN coalesce(nullif(upper(cost_currency), ''), 'USD') = 'USD' THEN coalesce((TRY_CAST(cost AS DOUBLE) / 100)::VARCHAR, nullif(cost, '')) END"

PORTKEY = column_map(
    "portkey",
    structure=dict.fromkeys(_TEXTS, "VARCHAR"),
    keys=(frozenset({"created_at", "ai_model"}), frozenset({"created_at", "ai_org"})),
    started=time_of("created_at", "created_at"),
    given={name: f"nullif({_METADATA[name]}, '')" for name in _LABELS}
    | {
        "attempt_id": "coalesce(nullif(id, ''), CASE WHEN trace_id <> '' THEN concat(trace_id, '/', created_at) END)",
        "session_id": f"coalesce(nullif({_METADATA['session_id']}, ''), trace_id)",
        "latency_ms": "nullif(response_time, '')",
        "model": "ai_model",
        "provider": "ai_org",
        "provider_model": "ai_model",
        "prompt_tokens": "nullif(req_units, '')",
        "completion_tokens": "nullif(res_units, '')",
        "cost_usd": if_priced(
            f"({_USD})", tokens="coalesce(TRY_CAST(total_units AS DOUBLE), TRY_CAST(req_units AS DOUBLE), 0)", is_hit=_IS_HIT
        ),
        "status": _STATUS,
        "error_type": f"CASE WHEN {_STATUS} <> 'success' THEN response_status_code END",
        "retries": "nullif(retry_success_count, '')",
        "is_cache_hit": f"CASE WHEN {_IS_HIT} THEN true WHEN upper(cache_status) = 'MISS' THEN false END",
        "user_id": _METADATA["_user"],
    },
    called={
        "attempt_id": "id or trace_id",
        "latency_ms": "response_time",
        "prompt_tokens": "req_units",
        "completion_tokens": "res_units",
        "cost_usd": "cost",
        "status": "neither is_success nor response_status_code says how it ended",
        "model": ": ai_model is empty",
    },
)
