"""LiteLLM's StandardLoggingPayload, as its s3, s3_v2, GCS and Azure callbacks write it: one JSON object per attempt.

Traps, all met in captured logs: times are epoch seconds; `response_time` is the time to the first token for streams, so
latency is endTime - startTime; `completionStartTime` equals `endTime` without streaming; `id` alone is no key; the proxy
shares one `litellm_call_id` among the attempts of a client request while the SDK gives each attempt its own and
groups them by `trace_id`, which in the proxy is the client's session; `litellm_overhead_time_ms` includes failed attempts;
failures say cost 0 and tokens 0, and so does a call to a model without a known price say cost 0; `model_group` stays the router's name under an auto-router.
Prompts, responses and the price table of each record (`messages`, `response`, `model_map_information`) are never read.
"""

from __future__ import annotations

from routing_pipeline.ingest.formats.log_format import (
    LONGEST_ATTEMPT_S,
    LogFormat,
    Optional,
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

_REQUESTER = {
    "task_type": "VARCHAR",
    "complexity": "VARCHAR",
    "quality_score": "VARCHAR",
    "user_rating": "VARCHAR",
    "propensity": "VARCHAR",
    "queue_depth": "VARCHAR",
    "routing_rule_id": "VARCHAR",
    "session_id": "VARCHAR",
    "trace_id": "VARCHAR",
}

STRUCTURE = {
    "id": "VARCHAR",
    "litellm_call_id": "VARCHAR",
    "trace_id": "VARCHAR",
    "session_id": "VARCHAR",
    "status": "VARCHAR",
    "stream": "BOOLEAN",
    "cache_hit": "BOOLEAN",
    "custom_llm_provider": "VARCHAR",
    "model": "VARCHAR",
    "model_group": "VARCHAR",
    "startTime": "DOUBLE",
    "endTime": "VARCHAR",
    "completionStartTime": "DOUBLE",
    # As text, so that "abc" is told from absent: a cost that silently became null would lie.
    "response_cost": "VARCHAR",
    "prompt_tokens": "VARCHAR",
    "completion_tokens": "VARCHAR",
    "zero_cost_diagnostic": "VARCHAR",
    "response_cost_failure_debug_info": "VARCHAR",
    "cost_breakdown": {"total_cost": "VARCHAR"},
    "request_tags": ["VARCHAR"],
    "end_user": "VARCHAR",
    "metadata": {
        "user_api_key_hash": "VARCHAR",
        "user_api_key_user_id": "VARCHAR",
        "user_api_key_end_user_id": "VARCHAR",
        "user_api_key_team_alias": "VARCHAR",
        "user_api_key_request_route": "VARCHAR",
        "attempted_retries": "BIGINT",
        "requester_metadata": _REQUESTER,
        "spend_logs_metadata": {"task_type": "VARCHAR", "complexity": "VARCHAR"},
        "routing_decision": {
            "router_model_name": "VARCHAR",
            "routed_model": "VARCHAR",
            "cause": "VARCHAR",
            "tier": "VARCHAR",
            "request_type": "VARCHAR",
        },
        "usage_object": {
            "prompt_tokens_details": {
                "cached_tokens": "VARCHAR",
                "cache_creation_tokens": "VARCHAR",
                "cache_write_tokens": "VARCHAR",
                "audio_tokens": "VARCHAR",
            },
            "cache_read_input_tokens": "VARCHAR",
            "cache_creation_input_tokens": "VARCHAR",
            "completion_tokens_details": {"reasoning_tokens": "VARCHAR", "audio_tokens": "VARCHAR"},
        },
    },
    "hidden_params": {
        "litellm_overhead_time_ms": "VARCHAR",
        "additional_headers": {"x-litellm-attempted-retries": "VARCHAR", "x-litellm-attempted-fallbacks": "VARCHAR"},
    },
    "error_information": {"error_class": "VARCHAR", "error_code": "VARCHAR", "normalized_error": "VARCHAR"},
}

BUILT_IN_TIERS = ("SIMPLE", "MEDIUM", "COMPLEX", "REASONING")
"""Tiers of LiteLLM's own complexity router; any other tier is the name that a user's classifier gave to a rule."""

_START_US = "TRY_CAST(startTime * 1e6 AS BIGINT)"
_END_S = "TRY_CAST(endTime AS DOUBLE)"
_RETRIES = 'hidden_params.additional_headers."x-litellm-attempted-retries"'
_FALLBACKS = 'TRY_CAST(hidden_params.additional_headers."x-litellm-attempted-fallbacks" AS BIGINT)'
_IS_PROXY = "(metadata.user_api_key_request_route IS NOT NULL OR metadata.user_api_key_hash IS NOT NULL)"
_CALL = key_text("coalesce(nullif(litellm_call_id, ''), nullif(id, ''))")
_ROUTED = "nullif(metadata.routing_decision.routed_model, '')"
_IS_FAILURE = "status = 'failure'"
_COST = "TRY_CAST(response_cost AS DOUBLE)"
# A cost of 0 says that nobody knew a price, unless it comes with a calculation or out of the gateway's own cache.
_IS_UNPRICED = """(zero_cost_diagnostic IS NOT NULL OR response_cost_failure_debug_info IS NOT NULL
        OR (TRY_CAST(prompt_tokens AS DOUBLE) > 0 AND cost_breakdown IS NULL AND NOT coalesce(cache_hit, false)))"""
_SENT, _RECEIVED = "metadata.usage_object.prompt_tokens_details", "metadata.usage_object.completion_tokens_details"


def _tag(prefix: str) -> str:
    """The first request tag that starts with `prefix`, without it."""
    return f"list_filter(request_tags, lambda tag: starts_with(tag, '{prefix}'))[1][{len(prefix) + 1}:]"


def _labelled(name: str) -> str:
    """What the client said, then what the key's owner said, then what a tag says."""
    return (
        f"coalesce(nullif(metadata.requester_metadata.{name}, ''), nullif(metadata.spend_logs_metadata.{name}, ''), "
        f"nullif({_tag(name + ':')}, ''))"
    )


# After a fallback the routing decision still names the model that failed; the group then says who served.
_MODEL = f"""coalesce(
    CASE WHEN NOT coalesce({_FALLBACKS} > 0 AND nullif(model_group, '') <> metadata.routing_decision.router_model_name, false)
         THEN {_ROUTED} END,
    nullif(model_group, ''), nullif(model, ''))"""

_LATENCY = f"CASE WHEN {_END_S} >= startTime THEN (TRY_CAST({_END_S} * 1e6 AS BIGINT) - {_START_US}) / 1e3 END"
_TTFT_GIVEN = f"CASE WHEN stream AND completionStartTime <> {_END_S} THEN completionStartTime END"
_OVERHEAD_GIVEN = f"CASE WHEN TRY_CAST({_RETRIES} AS BIGINT) = 0 AND {_FALLBACKS} = 0 THEN hidden_params.litellm_overhead_time_ms END"

_COLUMNS = {
    "attempt_id": f"""concat_ws('/', {_CALL},
        CASE WHEN id <> litellm_call_id AND litellm_call_id <> '' THEN nullif({key_text("id")}, '') END, {_START_US}::VARCHAR)""",
    "request_id": f"CASE WHEN {_IS_PROXY} THEN {_CALL} ELSE coalesce(nullif({key_text('trace_id')}, ''), {_CALL}) END",
    "session_id": text(
        """coalesce(nullif(metadata.requester_metadata.session_id, ''), nullif(session_id, ''),
        CASE WHEN metadata.requester_metadata.trace_id = trace_id THEN nullif(trace_id, '') END)"""
    ),
    "started_at": f"make_timestamp(CASE WHEN startTime BETWEEN 0 AND 1e11 THEN {_START_US} END)",
    "model": text(_MODEL),
    "provider": text("custom_llm_provider"),
    "provider_model": text(
        """CASE WHEN custom_llm_provider <> '' AND starts_with(model, concat(custom_llm_provider, '/'))
        THEN model[strlen(custom_llm_provider) + 2:] ELSE model END"""
    ),
    "task_type": text(f"coalesce({_labelled('task_type')}, metadata.routing_decision.request_type)"),
    "prompt_tokens": f"CASE WHEN {_IS_FAILURE} THEN nullif(TRY_CAST(prompt_tokens AS DOUBLE), 0) ELSE TRY_CAST(prompt_tokens AS DOUBLE) END",
    "completion_tokens": f"""CASE WHEN {_IS_FAILURE} THEN nullif(TRY_CAST(completion_tokens AS DOUBLE), 0)
        ELSE TRY_CAST(completion_tokens AS DOUBLE) END""",
    "cost_usd": f"CASE WHEN {_COST} = 0 AND ({_IS_FAILURE} OR {_IS_UNPRICED}) THEN NULL ELSE {_COST} END",
    "status": f"""CASE WHEN {_IS_FAILURE} AND
        (error_information.error_code = '499' OR contains(error_information.error_class, 'Cancelled')) THEN 'cancelled' ELSE status END""",
    "error_type": f"""CASE WHEN {_IS_FAILURE} THEN
        {text("coalesce(nullif(error_information.normalized_error, ''), error_information.error_class)")} END""",
    "is_cache_hit": "cache_hit",
    "team": text(f"coalesce(nullif(metadata.user_api_key_team_alias, ''), {_tag('team:')})"),
    "user_hash": user_hash(
        """coalesce(nullif(end_user, ''), nullif(metadata.user_api_key_end_user_id, ''), nullif(metadata.user_api_key_user_id, ''))"""
    ),
    "routing_rule_id": text(
        f"""coalesce(nullif({_tag("rule:")}, ''), nullif(metadata.requester_metadata.routing_rule_id, ''),
        CASE WHEN metadata.routing_decision.tier NOT IN {BUILT_IN_TIERS!r} THEN metadata.routing_decision.tier END)"""
    ),
    "routing_reason": text("metadata.routing_decision.cause"),
}

_OPTIONAL = {
    "latency_ms": Optional("endTime", _LATENCY),
    "ttft_ms": Optional(
        _TTFT_GIVEN,
        f"""CASE WHEN {_TTFT_GIVEN} BETWEEN startTime AND {_END_S}
        THEN (TRY_CAST(completionStartTime * 1e6 AS BIGINT) - {_START_US}) / 1e3 END""",
    ),
    "routing_latency_ms": within(_OVERHEAD_GIVEN, 0, LONGEST_ATTEMPT_S * 1e3),
    "complexity": complexity(_labelled("complexity")),
    "cached_tokens": count_of(f"coalesce({_SENT}.cached_tokens, metadata.usage_object.cache_read_input_tokens)"),
    "cache_write_tokens": count_of(
        f"coalesce(metadata.usage_object.cache_creation_input_tokens, {_SENT}.cache_creation_tokens, {_SENT}.cache_write_tokens)"
    ),
    "audio_prompt_tokens": count_of(f"{_SENT}.audio_tokens"),
    "reasoning_tokens": count_of(f"{_RECEIVED}.reasoning_tokens"),
    "audio_completion_tokens": count_of(f"{_RECEIVED}.audio_tokens"),
    "retries": count_of(f"coalesce({_RETRIES}, metadata.attempted_retries::VARCHAR)"),
    "queue_depth": count_of("metadata.requester_metadata.queue_depth"),
    "quality_score": within("metadata.requester_metadata.quality_score", 0, 1),
    "user_rating": within("metadata.requester_metadata.user_rating", 0, 1),
    "propensity": probability("metadata.requester_metadata.propensity"),
}

_REJECT = f"""CASE
    WHEN coalesce(litellm_call_id, '') = '' AND coalesce(id, '') = '' THEN 'no key: neither litellm_call_id nor id is there'
    {time_reasons("startTime", "startTime")}
    WHEN endTime IS NOT NULL AND {_END_S} IS NULL THEN 'endTime is not a number of seconds since 1970'
    WHEN {_END_S} < startTime THEN 'negative latency: endTime lies before startTime'
    WHEN {_END_S} > startTime + {LONGEST_ATTEMPT_S} THEN 'endTime is NaN, infinite, in another unit than seconds, or a week after startTime'
    {amount_reasons("response_cost", "response_cost")}
    {amount_reasons("prompt_tokens", "prompt_tokens")}
    {amount_reasons("completion_tokens", "completion_tokens")}
    WHEN status IS NULL OR status NOT IN ('success', 'failure') THEN 'status is neither success nor failure'
    WHEN {_MODEL} IS NULL THEN 'no model: routed_model, model_group and model are all empty'
END"""

LITELLM = LogFormat(
    name="litellm",
    structure=STRUCTURE,
    reject_reason=_REJECT,
    columns=_COLUMNS,
    keys=(
        frozenset({"litellm_call_id", "startTime"}),
        frozenset({"id", "startTime", "model"}),
        frozenset({"call_type", "startTime"}),
        frozenset({"litellm_call_id", "response_cost"}),
    ),
    optional=_OPTIONAL,
    shared_call_id=f"CASE WHEN NOT {_IS_PROXY} THEN {_CALL} END",
    fallbacks=_FALLBACKS,
    lacks=frozenset({"spend"}),
)
