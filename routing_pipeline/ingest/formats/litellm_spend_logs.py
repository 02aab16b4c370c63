"""A dump of LiteLLM's table `LiteLLM_SpendLogs` as CSV, Parquet or JSON lines: one row per attempt.

It knows retries and fallbacks better than the S3 logs do. A home reads one of the two, not both: they share no key.

Traps: column names are in camel case; `metadata` and `request_tags` are JSON as text; times are timestamps in UTC;
`cache_hit` is the text True, False or None; `spend` is 0 where nothing was priced; `session_id` is the trace's id where
the client named no session, so most sessions then hold one request.
"""

from __future__ import annotations

from dataclasses import replace

from routing_pipeline.ingest.formats.column_map import column_map, elapsed_ms, time_of
from routing_pipeline.ingest.formats.litellm import BUILT_IN_TIERS
from routing_pipeline.ingest.formats.log_format import json_tag, json_texts

_TEXTS = (
    "request_id",
    "litellm_call_id",
    "call_type",
    "spend",
    "prompt_tokens",
    "completion_tokens",
    "startTime",
    "endTime",
    "completionStartTime",
    "request_duration_ms",
    "model",
    "model_group",
    "custom_llm_provider",
    "user",
    "end_user",
    "team_id",
    "session_id",
    "status",
    "cache_hit",
    "request_tags",
    "metadata",
)
_LABELS = ("task_type", "complexity", "quality_score", "user_rating", "propensity", "queue_depth", "routing_rule_id", "session_id")
_CACHED = ("prompt_tokens_details.cached_tokens", "cache_read_input_tokens")
_WRITTEN = ("cache_creation_input_tokens", "prompt_tokens_details.cache_creation_tokens", "prompt_tokens_details.cache_write_tokens")
_USAGE = ("usage_object", "additional_usage_values")
_METADATA = json_texts(
    "metadata",
    (
        "status",
        "attempted_retries",
        "attempted_fallbacks",
        "original_model_group",
        "litellm_overhead_time_ms",
        "cost_breakdown",
        "user_api_key_team_alias",
        "user_api_key_end_user_id",
        "user_api_key_user_id",
        "error_information.error_class",
        "error_information.error_code",
        "error_information.normalized_error",
        "routing_decision.routed_model",
        "routing_decision.request_type",
        "routing_decision.cause",
        "routing_decision.tier",
        *(f"{place}.{name}" for name in (*_CACHED, *_WRITTEN) for place in _USAGE),
        "usage_object.prompt_tokens_details.audio_tokens",
        "usage_object.completion_tokens_details.reasoning_tokens",
        "usage_object.completion_tokens_details.audio_tokens",
        *(f"{place}.{name}" for place in ("requester_metadata", "spend_logs_metadata") for name in _LABELS),
    ),
)


def _said(*paths: str) -> str:
    return "coalesce(" + ", ".join(f"nullif({_METADATA[path]}, '')" for path in paths) + ")"


def _labelled(name: str, *others: str) -> str:
    """What the client said, then what the key's owner said, then what a tag says, then other places."""
    said = [f"nullif({_METADATA[f'{place}.{name}']}, '')" for place in ("requester_metadata", "spend_logs_metadata")]
    return f"coalesce({', '.join([*said, f'''nullif({json_tag('request_tags', name)}, '')''', *others])})"


_STARTED, _ENDED = time_of('"startTime"', "startTime"), time_of('"endTime"', "endTime")
_FIRST = time_of('"completionStartTime"', "completionStartTime")
_ENDED_GIVEN, _FIRST_TOKEN = "nullif(\"endTime\", '')", "nullif(\"completionStartTime\", '')"
_FIRST_GIVEN = f"CASE WHEN {_FIRST_TOKEN} IS DISTINCT FROM {_ENDED_GIVEN} THEN {_FIRST_TOKEN} END"
# Rows from before there was a status are of successes: failures were not written.
_STATUS = f"coalesce(nullif(status, ''), {_METADATA['status']}, 'success')"
_FALLBACKS = f"TRY_CAST({_METADATA['attempted_fallbacks']} AS BIGINT)"
_RETRIES = f"TRY_CAST({_METADATA['attempted_retries']} AS BIGINT)"
_ERROR_CLASS = _said("error_information.error_class")
_IS_HIT = "lower(cache_hit) = 'true'"
_RULE_TIER = (
    f"CASE WHEN {_METADATA['routing_decision.tier']} NOT IN {BUILT_IN_TIERS!r} THEN nullif({_METADATA['routing_decision.tier']}, '') END"
)

LITELLM_SPEND_LOGS = replace(
    column_map(
        "litellm_spend_logs",
        structure=dict.fromkeys(_TEXTS, "VARCHAR"),
        keys=(frozenset({"request_id", "spend", "startTime"}),),
        started=_STARTED,
        given={name: _labelled(name) for name in ("complexity", "quality_score", "user_rating", "propensity", "queue_depth")}
        | {
            "attempt_id": "request_id",
            "request_id": "coalesce(nullif(litellm_call_id, ''), request_id)",
            "session_id": f"coalesce({_said('requester_metadata.session_id')}, session_id)",
            "latency_ms": f"CASE WHEN {_ENDED_GIVEN} IS NOT NULL THEN ({elapsed_ms(_STARTED, _ENDED)})::VARCHAR "
            "ELSE nullif(request_duration_ms, '') END",
            "ttft_ms": f"CASE WHEN {_FIRST_GIVEN} IS NOT NULL THEN "
            f"CASE WHEN {_FIRST.seconds} <= {_ENDED.seconds} THEN {elapsed_ms(_STARTED, _FIRST)} ELSE -1 END END",
            "routing_latency_ms": f"CASE WHEN {_RETRIES} = 0 AND {_FALLBACKS} = 0 THEN {_METADATA['litellm_overhead_time_ms']} END",
            # After a fallback the routing decision still names the model that failed; the group then says who served.
            "model": f"coalesce(CASE WHEN NOT coalesce({_FALLBACKS} > 0, false) THEN {_said('routing_decision.routed_model')} END, "
            "nullif(model_group, ''), nullif(model, ''))",
            "provider": "custom_llm_provider",
            "provider_model": "CASE WHEN custom_llm_provider <> '' AND starts_with(model, concat(custom_llm_provider, '/')) "
            "THEN model[strlen(custom_llm_provider) + 2:] ELSE model END",
            "task_type": _labelled("task_type", _said("routing_decision.request_type")),
            "prompt_tokens": "nullif(prompt_tokens, '')",
            "completion_tokens": "nullif(completion_tokens, '')",
            "cached_tokens": _said(*(f"{place}.{name}" for name in _CACHED for place in _USAGE)),
            "cache_write_tokens": _said(*(f"{place}.{name}" for name in _WRITTEN for place in _USAGE)),
            "audio_prompt_tokens": _said("usage_object.prompt_tokens_details.audio_tokens"),
            "audio_completion_tokens": _said("usage_object.completion_tokens_details.audio_tokens"),
            "reasoning_tokens": _said("usage_object.completion_tokens_details.reasoning_tokens"),
            "cost_usd": f"CASE WHEN TRY_CAST(spend AS DOUBLE) = 0 AND {_METADATA['cost_breakdown']} IS NULL AND NOT coalesce({_IS_HIT}, false) "
            "THEN NULL ELSE nullif(spend, '') END",
            "status": f"CASE WHEN {_STATUS} = 'failure' AND ({_METADATA['error_information.error_code']} = '499' "
            f"OR contains({_ERROR_CLASS}, 'Cancelled')) THEN 'cancelled' ELSE {_STATUS} END",
            "error_type": f"CASE WHEN {_STATUS} = 'failure' THEN {_said('error_information.normalized_error', 'error_information.error_class')} END",
            "retries": _said("attempted_retries"),
            "fallback_from": f"CASE WHEN {_FALLBACKS} > 0 THEN {_said('original_model_group')} END",
            "is_cache_hit": f"CASE WHEN lower(cache_hit) IN ('true', 'false') THEN {_IS_HIT} END",
            "team": f"coalesce({_said('user_api_key_team_alias')}, nullif({json_tag('request_tags', 'team')}, ''), team_id)",
            "user_id": f"coalesce(nullif(end_user, ''), {_said('user_api_key_end_user_id', 'user_api_key_user_id')}, \"user\")",
            "routing_rule_id": f"coalesce(nullif({json_tag('request_tags', 'rule')}, ''), "
            f"{_said('requester_metadata.routing_rule_id')}, {_RULE_TIER})",
            "routing_reason": _said("routing_decision.cause"),
        },
        called={
            "attempt_id": "request_id",
            "latency_ms": "latency (endTime less startTime)",
            "cost_usd": "spend",
            "status": "status is neither success nor failure",
            "model": ": routed_model, model_group and model are all empty",
        },
        refused=f"WHEN {_ENDED_GIVEN} IS NOT NULL AND {_ENDED.microseconds} IS NULL THEN 'endTime is no time'",
    ),
    fallbacks=_FALLBACKS,
)
