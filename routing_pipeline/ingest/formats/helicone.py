"""Helicone's requests as its export tool writes them: JSON, JSON lines or CSV.

Traps: `cost` and `costUSD` are both US dollars; `response_status` below 0 is Helicone's own (-1 timed out, -2 pending, -3
cancelled, -4 blocked); a `cache_reference_id` of zeros means that the answer did not come from the cache; cached prompt
tokens are counted apart from the others by some providers, which the total tells; scores are on scales of their own; bodies are there only
where they were exported, and images in them stand in `assets`. Of bodies only types of content and settings are read.
"""

from __future__ import annotations

from routing_pipeline.ingest.formats.column_map import column_map, elapsed_ms, if_priced, status_of, time_of
from routing_pipeline.ingest.formats.kinds import first_kind, is_nothing_by_path, kind_of_body, kind_of_path
from routing_pipeline.ingest.formats.log_format import json_texts
from routing_pipeline.ingest.formats.needs import is_listed, of_body
from routing_pipeline.ingest.formats.tokens import wholes
from routing_pipeline.ingest.formats.work import WORK

_TEXTS = (
    "request_id",
    "request_created_at",
    "response_created_at",
    "response_status",
    "request_model",
    "response_model",
    "provider",
    "delay_ms",
    "time_to_first_token",
    "prompt_tokens",
    "completion_tokens",
    "total_tokens",
    "prompt_cache_read_tokens",
    "prompt_cache_write_tokens",
    "prompt_audio_tokens",
    "completion_audio_tokens",
    "cost",
    "costUSD",
    "feedback_rating",
    "scores",
    "properties",
    "request_user_id",
    "cache_reference_id",
    "request_path",
    "target_url",
    "reasoning_tokens",
    "request_body",
    "response_body",
    "assets",
)
_LABELS = ("task_type", "complexity", "team", "routing_rule_id", "routing_reason", "propensity", "queue_depth", *WORK)
_PREFIX = "Helicone-Property-"
_SPELT = {
    name: [
        before + each for before in ("", _PREFIX) for each in dict.fromkeys((name, name.replace("_", "-"), name.replace("_", "-").title()))
    ]
    for name in _LABELS
}
"""Labels are sent as headers, and these have no underscores and are written as one likes."""
_PROPERTIES = json_texts("properties", (*(each for names in _SPELT.values() for each in names), "Helicone-Session-Id"))
_NO_REFERENCE = "00000000-0000-0000-0000-000000000000"
_IS_HIT = f"(cache_reference_id <> '' AND cache_reference_id <> '{_NO_REFERENCE}')"
_CODE = "TRY_CAST(response_status AS INTEGER)"
_STATUS = f"CASE WHEN {_CODE} = -2 THEN NULL ELSE {status_of('response_status', is_cancelled=f'{_CODE} = -3')} END"
_PROMPT, _COMPLETION, _TOTAL, _READ, _WRITTEN = (
    f"TRY_CAST({name} AS DOUBLE)"
    for name in ("prompt_tokens", "completion_tokens", "total_tokens", "prompt_cache_read_tokens", "prompt_cache_write_tokens")
)
_WHOLE, _ = wholes(sent=_PROMPT, received=_COMPLETION, total=_TOTAL, of_sent=[_READ, _WRITTEN])
_STARTED, _ENDED = time_of("request_created_at", "request_created_at"), time_of("response_created_at", "response_created_at")
_COST = "coalesce(nullif(costUSD, ''), nullif(cost, ''))"
_PATH = "coalesce(nullif(request_path, ''), target_url)"
_NEEDS = of_body("request_body", "response_body")

HELICONE = column_map(
    "helicone",
    structure=dict.fromkeys(_TEXTS, "VARCHAR"),
    keys=(frozenset({"request_id", "request_created_at"}),),
    started=_STARTED,
    ignores=is_nothing_by_path(_PATH),
    left_out="requests that spend nothing and answer nothing new",
    given={
        name: f"coalesce({', '.join(f'nullif({_PROPERTIES[each]}, {chr(39) * 2})' for each in names)})" for name, names in _SPELT.items()
    }
    | _NEEDS
    | {
        "attempt_id": "request_id",
        # Images are taken out of the body and kept as assets.
        "has_image": f"greatest({_NEEDS['has_image']}, nullif({is_listed('assets')}, false))",
        "session_id": _PROPERTIES["Helicone-Session-Id"],
        "latency_ms": f"coalesce(nullif(delay_ms, ''), ({elapsed_ms(_STARTED, _ENDED)})::VARCHAR)",
        "ttft_ms": "nullif(time_to_first_token, '')",
        "model": "coalesce(nullif(request_model, ''), response_model)",
        "provider": "provider",
        "provider_model": "coalesce(nullif(response_model, ''), request_model)",
        "prompt_tokens": f"CASE WHEN {_PROMPT} >= 0 THEN ({_WHOLE})::VARCHAR ELSE nullif(prompt_tokens, '') END",
        "completion_tokens": "nullif(completion_tokens, '')",
        "cached_tokens": "nullif(prompt_cache_read_tokens, '')",
        "cache_write_tokens": "nullif(prompt_cache_write_tokens, '')",
        "audio_prompt_tokens": "nullif(prompt_audio_tokens, '')",
        "reasoning_tokens": "nullif(reasoning_tokens, '')",
        "audio_completion_tokens": "nullif(completion_audio_tokens, '')",
        "cost_usd": if_priced(_COST, tokens="total_tokens", is_hit=_IS_HIT),
        "status": _STATUS,
        "error_type": f"CASE WHEN {_STATUS} <> 'success' THEN response_status END",
        "is_cache_hit": f"CASE WHEN cache_reference_id IS NOT NULL THEN {_IS_HIT} END",
        "quality_score": json_texts("scores", ("quality",))["quality"],
        "user_rating": "CASE lower(feedback_rating) WHEN 'true' THEN 1 WHEN 'false' THEN 0 END",
        "user_id": "request_user_id",
        "operation": first_kind(kind_of_path(_PATH), kind_of_body("request_body")),
    },
    called={
        "attempt_id": "request_id",
        "latency_ms": "delay_ms",
        "cost_usd": "costUSD",
        "status": "response_status is missing, or the request is pending",
        "model": ": request_model and response_model are both empty",
    },
)
