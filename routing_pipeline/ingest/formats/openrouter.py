"""OpenRouter's generation records, as its interface answers them (`{"data": {...}}`) or one per line.

Traps: tokens are counted natively (`native_tokens_*`, by which it bills) and normalised; with one's own key (`is_byok`) the
total is OpenRouter's fee alone, and the provider's bill comes on top; `latency` is the total by the documentation, but the
time to the first token in some answers, so the longer of it and `generation_time` counts; `created_at` is taken for the start.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from routing_pipeline.ingest.formats.column_map import column_map, time_of
from routing_pipeline.ingest.formats.kinds import kind_of_name
from routing_pipeline.ingest.formats.needs import service_tier
from routing_pipeline.ingest.formats.tokens import number

_TEXTS = (
    "id",
    "request_id",
    "session_id",
    "created_at",
    "model",
    "provider_name",
    "latency",
    "generation_time",
    "tokens_prompt",
    "tokens_completion",
    "native_tokens_prompt",
    "native_tokens_completion",
    "native_tokens_reasoning",
    "native_tokens_cached",
    "total_cost",
    "usage",
    "upstream_inference_cost",
    "is_byok",
    "cancelled",
    "finish_reason",
    "external_user",
    "router",
    "provider_responses",
    "api_type",
    "num_media_prompt",
    "num_input_audio_prompt",
    "service_tier",
)


def records(document: Mapping[str, Any]) -> Iterator[dict[str, Any]]:
    """The record itself, out of the answer that holds it."""
    held = document.get("data") if document.keys() == {"data"} else document
    if isinstance(held, dict):
        yield {name: held[name] for name in _TEXTS if name in held}


_COST = "coalesce(total_cost, usage)"
_TRIES = "CASE WHEN json_valid(provider_responses) THEN provider_responses END"

OPENROUTER = column_map(
    "openrouter",
    structure=dict.fromkeys(_TEXTS, "VARCHAR"),
    keys=(frozenset({"id", "native_tokens_prompt", "total_cost"}),),
    envelope="data",
    records=records,
    started=time_of("created_at", "created_at"),
    given={
        "attempt_id": "id",
        "request_id": "request_id",
        "session_id": "session_id",
        "latency_ms": "CASE WHEN TRY_CAST(generation_time AS DOUBLE) > TRY_CAST(latency AS DOUBLE) THEN generation_time "
        "ELSE coalesce(latency, generation_time) END",
        "model": "model",
        "provider": "provider_name",
        "provider_model": "model",
        "prompt_tokens": "coalesce(native_tokens_prompt, tokens_prompt)",
        "completion_tokens": "coalesce(native_tokens_completion, tokens_completion)",
        "cached_tokens": "native_tokens_cached",
        "reasoning_tokens": "native_tokens_reasoning",
        "cost_usd": f"""CASE WHEN is_byok = 'true' THEN (TRY_CAST({_COST} AS DOUBLE) + TRY_CAST(upstream_inference_cost AS DOUBLE))::VARCHAR
            ELSE {_COST} END""",
        "status": "CASE WHEN cancelled = 'true' THEN 'cancelled' WHEN finish_reason = 'error' THEN 'failure' ELSE 'success' END",
        "error_type": f"CASE WHEN finish_reason = 'error' THEN coalesce(json_extract_string({_TRIES}, '$[#-1].status'), 'error') END",
        "retries": f"CASE WHEN json_array_length({_TRIES}) > 0 THEN json_array_length({_TRIES}) - 1 END",
        "routing_reason": "router",
        "operation": kind_of_name("api_type"),
        "has_image": f"{number('num_media_prompt')} > 0",
        "has_audio": f"{number('num_input_audio_prompt')} > 0",
        "service_tier": service_tier("service_tier"),
        "user_id": "external_user",
    },
    called={"attempt_id": "id", "latency_ms": "latency", "cost_usd": "total_cost", "prompt_tokens": "native_tokens_prompt"},
)
