"""Kong's log plugins with the analytics of its AI plugins: JSON lines (file-log, tcp-log) or arrays (http-log batches).

Traps: `started_at` is in milliseconds; requests that no AI plugin saw stand in the same log and are no records; the part
below `ai` is named after the plugin; older plugins say `prompt_token` in the singular; `upstream_status` lists the status of
every try; a cost of 0 for tokens means that no price was set;
payloads are there only where the plugin was told to log them, and only types of content and settings of them are read.
"""

from __future__ import annotations

from routing_pipeline.ingest.formats.column_map import column_map, epoch_of, if_priced, status_of
from routing_pipeline.ingest.formats.kinds import first_kind, is_nothing_by_path, kind_of_body, kind_of_path
from routing_pipeline.ingest.formats.log_format import json_list, json_texts
from routing_pipeline.ingest.formats.needs import is_listed, of_body
from routing_pipeline.ingest.formats.tokens import most_within, number, wholes

_PLUGINS = ("proxy", "ai-proxy", "ai-proxy-advanced")
_READS = ("usage.prompt_tokens_details.cached_tokens", "usage.cache_read_input_tokens", "usage.cached_tokens")
_WRITES = (
    *("usage.prompt_tokens_details.cache_creation_tokens", "usage.prompt_tokens_details.cache_write_tokens"),
    *("usage.cache_creation_input_tokens", "usage.cache_write_input_tokens"),
)
_COUNTS: dict[str, tuple[str, ...]] = {"prompt": ("usage.prompt_token",), "completion": ("usage.completion_token",), "total": ()}
_REQUEST = json_texts("request", ("id", "uri", "method"))
_LATENCIES = json_texts("latencies", ("request", "kong"))


def _said(*parts: str) -> str:
    """What the first plugin says that was there."""
    paths = [f"{plugin}.{part}" for part in parts for plugin in _PLUGINS]
    return f"list_filter({json_list('ai', paths)}, lambda each: each <> '')[1]"


def _most(*parts: str) -> str:
    """The largest of counts that mean the same."""
    return most_within("ai", [f"{plugin}.{part}" for part in parts for plugin in _PLUGINS])


_STARTED = epoch_of("started_at", "started_at", "milliseconds")
_CODE = (
    f"""coalesce(nullif(regexp_extract(upstream_status, '([0-9]{{3}})\\s*$', 1), ''), {json_texts("response", ("status",))["status"]})"""
)
_STATUS = status_of(_CODE)
_TRIES = "CASE WHEN json_valid(tries) THEN json_array_length(tries) END"
_CACHE = f"lower({_said('cache.cache_status')})"
_SENT, _RECEIVED, _TOTAL = (_said(f"usage.{name}_tokens", *older) for name, older in _COUNTS.items())
_CACHED, _WRITTEN = _most(*_READS), _most(*_WRITES)
_PROMPT, _COMPLETION = wholes(
    sent=number(_SENT),
    received=number(_RECEIVED),
    total=number(_TOTAL),
    of_sent=[_CACHED, _WRITTEN],
    of_received=[number(_said("usage.completion_tokens_details.reasoning_tokens"))],
)
_BODY = _said("payload.request")

KONG = column_map(
    "kong",
    structure=dict.fromkeys(
        ("started_at", "upstream_status", "request", "response", "ai", "latencies", "tries", "consumer", "route"), "VARCHAR"
    ),
    keys=(frozenset({"started_at", "ai", "request"}),),
    # A route may be called anything; whoever counts tokens has answered something.
    ignores=f"((NOT coalesce({is_listed('ai')}, false) AND request IS NOT NULL) OR ({is_nothing_by_path(_REQUEST['uri'], _REQUEST['method'])} AND {_SENT} IS NULL))",
    left_out="requests that no AI plugin saw, or that answer nothing new",
    started=_STARTED,
    given=of_body(_BODY, _said("payload.response"))
    | {
        "attempt_id": _REQUEST["id"],
        "latency_ms": f"coalesce({_LATENCIES['request']}, {_said('meta.llm_latency')})",
        # What was not streamed came at once, whatever is counted to its first token.
        "ttft_ms": f"CASE WHEN {_said('meta.request_mode')} IS DISTINCT FROM 'oneshot' THEN {_said('usage.time_to_first_token')} END",
        "routing_latency_ms": f"CASE WHEN coalesce({_TRIES}, 1) <= 1 THEN {_LATENCIES['kong']} END",
        "model": _said("meta.request_model", "meta.response_model"),
        "provider": _said("meta.provider_name"),
        "provider_model": _said("meta.response_model", "meta.request_model"),
        "prompt_tokens": f"coalesce(({_PROMPT})::VARCHAR, {_SENT})",
        "completion_tokens": f"coalesce(({_COMPLETION})::VARCHAR, {_RECEIVED})",
        "cached_tokens": _CACHED,
        "cache_write_tokens": _WRITTEN,
        "audio_prompt_tokens": _said("usage.prompt_tokens_details.audio_tokens"),
        "reasoning_tokens": _said("usage.completion_tokens_details.reasoning_tokens"),
        "audio_completion_tokens": _said("usage.completion_tokens_details.audio_tokens"),
        "cost_usd": if_priced(
            _said("usage.cost"), tokens=_said("usage.total_tokens", "usage.prompt_tokens", "usage.prompt_token"), is_hit=f"{_CACHE} = 'hit'"
        ),
        "status": _STATUS,
        "error_type": f"CASE WHEN {_STATUS} <> 'success' THEN {_CODE} END",
        "retries": f"CASE WHEN {_TRIES} > 0 THEN {_TRIES} - 1 END",
        "is_cache_hit": f"CASE {_CACHE} WHEN 'hit' THEN true WHEN 'miss' THEN false END",
        "routing_rule_id": json_texts("route", ("name",))["name"],
        "operation": first_kind(kind_of_path(_REQUEST["uri"]), kind_of_body(_BODY)),
        "user_id": json_texts("consumer", ("username",))["username"],
    },
    called={
        "attempt_id": "request.id",
        "latency_ms": "latencies.request",
        "prompt_tokens": "usage.prompt_tokens",
        "completion_tokens": "usage.completion_tokens",
        "cost_usd": "usage.cost",
        "status": "neither upstream_status nor response.status is a status",
        "model": ": ai.proxy.meta.request_model is empty",
    },
)
