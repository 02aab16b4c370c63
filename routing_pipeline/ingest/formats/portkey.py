"""Portkey's log export as JSON lines or CSV. Its columns are chosen at the export, so that any but the time may be missing.

What kind of call it was and what it needs the export says where the request's address and body were chosen too; of bodies only types of
content, settings and counts are read, whether they stand alone or with address and headers around them.

Traps: `cost` is in cents, and in another currency than US dollars it is no cost that we can use; `trace_id` is what the
client set, else made up for each request; a cost of 0 for tokens means that no price was known.
"""

from __future__ import annotations

from routing_pipeline.ingest.formats.column_map import column_map, if_priced, status_of, time_of
from routing_pipeline.ingest.formats.kinds import first_kind, is_nothing_by_path, kind_of_body, kind_of_path
from routing_pipeline.ingest.formats.log_format import json_texts
from routing_pipeline.ingest.formats.needs import of_body
from routing_pipeline.ingest.formats.tokens import number, parts_of_answer, wholes
from routing_pipeline.ingest.formats.work import WORK

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
    "request_url",
    "request",
    "response",
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
    *WORK,
)
_METADATA = json_texts("metadata", (*_LABELS, "session_id", "_user"))
_IS_HIT = "contains(upper(cache_status), 'HIT')"
_STATUS = f"""CASE WHEN lower(is_success) IN ('1', '1.0', 'true') THEN 'success' WHEN lower(is_success) IN ('0', '0.0', 'false')
    THEN CASE WHEN TRY_CAST(response_status_code AS INTEGER) = 499 THEN 'cancelled' ELSE 'failure' END
    ELSE {status_of("response_status_code")} END"""
_USD = "CASE WHEN coalesce(nullif(upper(cost_currency), ''), 'USD') = 'USD' THEN coalesce((TRY_CAST(cost AS DOUBLE) / 100)::VARCHAR, nullif(cost, '')) END"
_SENT = json_texts("request", ("url", "method", "body"))
_BODY = f"coalesce({_SENT['body']}, request)"
_ANSWER = f"coalesce({json_texts('response', ('body',))['body']}, response)"
_ANSWERED = json_texts(_ANSWER, ("model", "system_fingerprint"))
_URL = f"coalesce(nullif(request_url, ''), {_SENT['url']})"
_PARTS = parts_of_answer(_ANSWER)
_PROMPT, _COMPLETION = wholes(
    sent=number("req_units"),
    received=number("res_units"),
    total=number("total_units"),
    of_sent=[_PARTS["cached_tokens"], _PARTS["cache_write_tokens"]],
    of_received=[_PARTS["reasoning_tokens"]],
)

PORTKEY = column_map(
    "portkey",
    structure=dict.fromkeys(_TEXTS, "VARCHAR"),
    keys=(frozenset({"created_at", "ai_model"}), frozenset({"created_at", "ai_org"})),
    started=time_of("created_at", "created_at"),
    ignores=is_nothing_by_path(_URL, _SENT["method"]),
    left_out="requests that spend nothing and answer nothing new",
    given={name: f"nullif({_METADATA[name]}, '')" for name in _LABELS}
    | _PARTS
    | of_body(_BODY, _ANSWER)
    | {
        "attempt_id": "coalesce(nullif(id, ''), CASE WHEN trace_id <> '' THEN concat(trace_id, '/', created_at) END)",
        "session_id": f"coalesce(nullif({_METADATA['session_id']}, ''), trace_id)",
        "latency_ms": "nullif(response_time, '')",
        "model": "ai_model",
        "provider": "ai_org",
        "provider_model": "ai_model",
        "model_version": f"coalesce(nullif(nullif({_ANSWERED['model']}, ''), ai_model), {_ANSWERED['system_fingerprint']})",
        "prompt_tokens": f"coalesce(({_PROMPT})::VARCHAR, nullif(req_units, ''))",
        "completion_tokens": f"coalesce(({_COMPLETION})::VARCHAR, nullif(res_units, ''))",
        "cost_usd": if_priced(
            f"({_USD})", tokens="coalesce(TRY_CAST(total_units AS DOUBLE), TRY_CAST(req_units AS DOUBLE), 0)", is_hit=_IS_HIT
        ),
        "status": _STATUS,
        "error_type": f"CASE WHEN {_STATUS} <> 'success' THEN response_status_code END",
        "retries": "nullif(retry_success_count, '')",
        "is_cache_hit": f"CASE WHEN {_IS_HIT} THEN true WHEN upper(cache_status) = 'MISS' THEN false END",
        "user_id": _METADATA["_user"],
        "operation": first_kind(kind_of_path(_URL), kind_of_body(_BODY)),
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
