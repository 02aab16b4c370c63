"""Kong's log plugins with the analytics of its AI plugins: JSON lines (file-log, tcp-log) or arrays (http-log batches).

Traps: `started_at` is in milliseconds; requests that no AI plugin saw stand in the same log and are no records; the part
below `ai` is named after the plugin; older plugins say `prompt_token` in the singular; `upstream_status` lists the status of
every try; a cost of 0 for tokens means that no price was set.
"""

from __future__ import annotations

from routing_pipeline.ingest.formats.column_map import column_map, epoch_of, if_priced, status_of
from routing_pipeline.ingest.formats.log_format import json_texts

_PLUGINS = ("proxy", "ai-proxy", "ai-proxy-advanced")
_USAGE = ("prompt_tokens", "prompt_token", "completion_tokens", "completion_token", "total_tokens", "cost")
_PARTS = (
    *(f"usage.{name}" for name in _USAGE),
    "usage.prompt_tokens_details.cached_tokens",
    "usage.prompt_tokens_details.audio_tokens",
    "usage.completion_tokens_details.reasoning_tokens",
    "usage.completion_tokens_details.audio_tokens",
    *(f"meta.{name}" for name in ("request_model", "response_model", "provider_name", "llm_latency")),
    "cache.cache_status",
)
_AI = json_texts("ai", [f"{plugin}.{part}" for part in _PARTS for plugin in _PLUGINS])
_LATENCIES = json_texts("latencies", ("request", "kong"))


def _said(*parts: str) -> str:
    """What the first plugin says that was there."""
    return "coalesce(" + ", ".join(f"nullif({_AI[f'{plugin}.{part}']}, '')" for part in parts for plugin in _PLUGINS) + ")"


_STARTED = epoch_of("started_at", "started_at", "milliseconds")
_CODE = (
    f"""coalesce(nullif(regexp_extract(upstream_status, '([0-9]{{3}})\\s*$', 1), ''), {json_texts("response", ("status",))["status"]})"""
)
_STATUS = status_of(_CODE)
_TRIES = "CASE WHEN json_valid(tries) THEN json_array_length(tries) END"
_CACHE = f"lower({_said('cache.cache_status')})"

KONG = column_map(
    "kong",
    structure=dict.fromkeys(
        ("started_at", "upstream_status", "request", "response", "ai", "latencies", "tries", "consumer", "route"), "VARCHAR"
    ),
    keys=(frozenset({"started_at", "ai", "request"}),),
    ignores="(ai IS NULL AND request IS NOT NULL)",
    started=_STARTED,
    given={
        "attempt_id": json_texts("request", ("id",))["id"],
        "latency_ms": f"coalesce({_LATENCIES['request']}, {_said('meta.llm_latency')})",
        "routing_latency_ms": f"CASE WHEN coalesce({_TRIES}, 1) <= 1 THEN {_LATENCIES['kong']} END",
        "model": _said("meta.request_model", "meta.response_model"),
        "provider": _said("meta.provider_name"),
        "provider_model": _said("meta.response_model", "meta.request_model"),
        "prompt_tokens": _said("usage.prompt_tokens", "usage.prompt_token"),
        "completion_tokens": _said("usage.completion_tokens", "usage.completion_token"),
        "cached_tokens": _said("usage.prompt_tokens_details.cached_tokens"),
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
