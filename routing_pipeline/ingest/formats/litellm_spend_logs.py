"""A dump of LiteLLM's table `LiteLLM_SpendLogs` as CSV, Parquet or JSON lines: one row per attempt.

It knows retries and fallbacks better than the S3 logs do. A home reads one of the two, not both: they share no key.

Traps: column names are in camel case; `metadata` and `request_tags` are JSON as text; times are timestamps in UTC;
`cache_hit` is the text True, False or None; `spend` is 0 where nothing was priced; `session_id` is the trace's id where
the client named no session, so most sessions then hold one request.
"""

from __future__ import annotations

from dataclasses import replace

from routing_pipeline.ingest.formats.column_map import column_map, elapsed_ms, time_of
from routing_pipeline.ingest.formats.kinds import first_kind, is_batch_read, is_nothing_by_name, kind_of_name, kind_of_path
from routing_pipeline.ingest.formats.litellm import READS, WRITES, arm_of_tier, built_in_tier, rule_of_tier
from routing_pipeline.ingest.formats.log_format import json_tag, json_texts
from routing_pipeline.ingest.formats.needs import is_listed, of_body, service_tier
from routing_pipeline.ingest.formats.tokens import most_within, number, wholes
from routing_pipeline.ingest.formats.work import WORK, json_list_of, plain_tags

_TEXTS = (
    "request_id",
    "litellm_call_id",
    "call_type",
    "spend",
    "prompt_tokens",
    "completion_tokens",
    "total_tokens",
    "startTime",
    "endTime",
    "completionStartTime",
    "request_duration_ms",
    "model",
    "model_group",
    "custom_llm_provider",
    "user",
    "api_key",
    "end_user",
    "team_id",
    "session_id",
    "status",
    "cache_hit",
    "request_tags",
    "metadata",
    "messages",
    "response",
    "proxy_server_request",
)
_LABELS = (
    *("task_type", "complexity", "quality_score", "user_rating", "propensity", "queue_depth", "routing_rule_id", "arm", "session_id"),
    *("trace_name", *WORK),
)
_CACHED = ("prompt_tokens_details.cached_tokens", *READS)
_WRITTEN = (*WRITES, "prompt_tokens_details.cache_creation_tokens", "prompt_tokens_details.cache_write_tokens")
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
        "user_api_key_alias",
        "user_api_key",
        "user_api_key_end_user_id",
        "user_api_key_user_id",
        "user_api_key_request_route",
        "model_map_information.model_map_key",
        "error_information.error_class",
        "error_information.error_code",
        "error_information.normalized_error",
        "routing_decision.routed_model",
        "routing_decision.request_type",
        "routing_decision.cause",
        "routing_decision.tier",
        "routing_decision.score",
        "usage_object.service_tier",
        "cost_breakdown.service_tier",
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
_TIER, _ARM = f"nullif({_METADATA['routing_decision.tier']}, '')", _METADATA["requester_metadata.arm"]
_READ, _WROTE = (most_within("metadata", [f"{place}.{name}" for name in names for place in _USAGE]) for names in (_CACHED, _WRITTEN))
_REASONED = most_within("metadata", ["usage_object.completion_tokens_details.reasoning_tokens"])
_PROMPT, _COMPLETION = wholes(
    sent=number("prompt_tokens"),
    received=number("completion_tokens"),
    total=number("total_tokens"),
    of_sent=[_READ, _WROTE],
    of_received=[_REASONED],
    # What was read from a cache stands within the prompt unless it does not fit; what was written may not.
    otherwise=[_WROTE],
)
# The gateway keeps bodies where it is told to, and messages by themselves in older versions.
_BODY = f"""CASE WHEN {is_listed("proxy_server_request")} THEN proxy_server_request
    WHEN {is_listed("messages")} AND json_valid(messages) THEN concat('{{"messages":', messages, '}}') END"""
_NEEDS = of_body(_BODY, "response")
_IS_HEALTH_CHECK = """(coalesce(contains(request_tags, '"litellm-internal-health-check"'), false))"""
_SEEN, _HEARD, _SPOKEN = (
    most_within("metadata", [f"usage_object.{path}"])
    for path in ("prompt_tokens_details.image_tokens", "prompt_tokens_details.audio_tokens", "completion_tokens_details.audio_tokens")
)
_IS_PAID = "TRY_CAST(spend AS DOUBLE) > 0"
_KIND = first_kind(kind_of_name("call_type"), kind_of_path(_METADATA["user_api_key_request_route"]))
# Deployments are called anything; the name that they are priced by says what they are.
_BASE = f"nullif({_METADATA['model_map_information.model_map_key']}, '')"
_IS_DEPLOYMENT = "coalesce(starts_with(custom_llm_provider, 'azure') OR contains(model, 'arn:aws:'), false)"
_ANSWER = json_texts("response", ("model", "system_fingerprint"))
_VERSION = f"""coalesce(CASE WHEN NOT coalesce({_ANSWER["model"]} IN (model, model_group) OR ends_with(model, concat('/', {_ANSWER["model"]})), false)
    THEN nullif({_ANSWER["model"]}, '') END, {_ANSWER["system_fingerprint"]})"""

LITELLM_SPEND_LOGS = replace(
    column_map(
        "litellm_spend_logs",
        structure=dict.fromkeys(_TEXTS, "VARCHAR"),
        keys=(frozenset({"request_id", "spend", "startTime"}),),
        started=_STARTED,
        ignores=f"""(CASE WHEN {_IS_HEALTH_CHECK} THEN NOT coalesce({_IS_PAID}, false)
            ELSE {is_nothing_by_name("call_type", _IS_PAID)} END)""",
        left_out="calls that spend nothing and answer nothing new",
        given={name: _labelled(name) for name in ("complexity", "quality_score", "user_rating", "propensity", "queue_depth", *WORK)}
        | _NEEDS
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
            "provider_model": f"CASE WHEN {_IS_DEPLOYMENT} AND {_BASE} IS NOT NULL THEN regexp_extract({_BASE}, '[^/]*$') WHEN custom_llm_provider <> '' AND starts_with(model, concat(custom_llm_provider, '/')) "
            "THEN model[strlen(custom_llm_provider) + 2:] ELSE model END",
            "task_type": _labelled("task_type", _said("routing_decision.request_type")),
            "prompt_tokens": f"coalesce(CASE WHEN {_STATUS} <> 'failure' THEN ({_PROMPT})::VARCHAR END, nullif(prompt_tokens, ''))",
            "completion_tokens": f"coalesce(CASE WHEN {_STATUS} <> 'failure' THEN ({_COMPLETION})::VARCHAR END, nullif(completion_tokens, ''))",
            "cached_tokens": _READ,
            "cache_write_tokens": _WROTE,
            "audio_prompt_tokens": _HEARD,
            "audio_completion_tokens": _SPOKEN,
            "reasoning_tokens": _REASONED,
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
            "api_key": f"coalesce({_said('user_api_key_alias', 'user_api_key')}, nullif(api_key, ''))",
            "router_tier": built_in_tier(_TIER),
            "router_score": _METADATA["routing_decision.score"],
            "routing_rule_id": f"coalesce(nullif({json_tag('request_tags', 'rule')}, ''), "
            f"{_said('requester_metadata.routing_rule_id')}, {rule_of_tier(_TIER, _ARM)})",
            "rule_arm": arm_of_tier(_TIER, _ARM),
            "routing_reason": _said("routing_decision.cause"),
            "model_version": _VERSION,
            "workflow": _labelled("workflow", _said("requester_metadata.trace_name")),
            "tags": plain_tags(json_list_of("request_tags")),
            "operation": f"CASE WHEN {_IS_HEALTH_CHECK} THEN 'other' ELSE {_KIND} END",
            "has_image": f"greatest({_NEEDS['has_image']}, {_SEEN} > 0)",
            "has_audio": f"greatest({_NEEDS['has_audio']}, greatest({_HEARD}, {_SPOKEN}) > 0)",
            "service_tier": f"CASE WHEN {is_batch_read('call_type')} THEN 'batch' ELSE coalesce("
            f"{service_tier(*(_METADATA[f'{place}.service_tier'] for place in ('usage_object', 'cost_breakdown')))}, {_NEEDS['service_tier']}) END",
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
