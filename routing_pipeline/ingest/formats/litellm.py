"""LiteLLM's StandardLoggingPayload, as its s3, s3_v2, GCS and Azure callbacks write it: one JSON object per attempt.

Traps, all met in captured logs: times are epoch seconds; `response_time` is the time to the first token for streams, so
latency is endTime - startTime; `completionStartTime` equals `endTime` without streaming; `id` alone is no key; the proxy
shares one `litellm_call_id` among the attempts of a client request while the SDK gives each attempt its own and
groups them by `trace_id`, which in the proxy is the client's session; `litellm_overhead_time_ms` includes failed attempts;
failures say cost 0 and tokens 0, and so does a call to a model without a known price say cost 0; `model_group` stays the router's name under an auto-router.
Reads of stored responses carry the cost of the call that made them, and a batch that is done its whole cost each time it is read; tokens written
to a cache stand within `prompt_tokens` or beside, which `total_tokens` tells; parameters are logged as the provider takes them.
Of prompts, responses and the price table of each record (`messages`, `response`, `model_map_information`) only types of content, reasons of
ending and the name of the base model are read.
"""

from __future__ import annotations

from routing_pipeline.ingest.formats.kinds import (
    first_kind,
    is_batch_read,
    is_named,
    is_nothing_by_name,
    is_nothing_by_path,
    kind_of_model,
    kind_of_name,
    kind_of_path,
)
from routing_pipeline.ingest.formats.log_format import (
    LONGEST_ATTEMPT_S,
    MOST_SCORE,
    OLDEST_S,
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
from routing_pipeline.ingest.formats.needs import REDACTED, any_of, carried, effort, is_structured, service_tier, shown
from routing_pipeline.ingest.formats.tokens import count_of_any, most_of, number
from routing_pipeline.ingest.formats.work import WORK, plain_tags

# As the proxy writes them, and as it passes them on from providers.
READS = (
    *("cache_read_input_tokens", "cached_tokens", "prompt_cache_hit_tokens", "cachedContentTokenCount", "cached_content_token_count"),
    "cacheReadInputTokens",
)
WRITES = ("cache_creation_input_tokens", "cache_write_input_tokens", "cacheWriteInputTokens")

_PARAMETERS = {
    **dict.fromkeys(("stream", "user", "temperature", "max_tokens", "max_completion_tokens", "max_output_tokens"), "VARCHAR"),
    "reasoning_effort": "VARCHAR",
    "service_tier": "VARCHAR",
    "reasoning": {"effort": "VARCHAR"},
    "tools": [{"type": "VARCHAR"}],
    "functions": [{"name": "VARCHAR"}],
    "response_format": {"type": "VARCHAR"},
    "text": {"format": {"type": "VARCHAR"}},
    "output_format": {"type": "VARCHAR"},
    "output_config": {"effort": "VARCHAR", "format": {"type": "VARCHAR"}},
    "modalities": ["VARCHAR"],
}

_REQUESTER = {
    "task_type": "VARCHAR",
    "complexity": "VARCHAR",
    "quality_score": "VARCHAR",
    "user_rating": "VARCHAR",
    "propensity": "VARCHAR",
    "queue_depth": "VARCHAR",
    "routing_rule_id": "VARCHAR",
    "arm": "VARCHAR",
    "session_id": "VARCHAR",
    "trace_id": "VARCHAR",
    "trace_name": "VARCHAR",
    **dict.fromkeys(WORK, "VARCHAR"),
}

_USED = {
    **{
        name: dict.fromkeys(("cached_tokens", "cache_creation_tokens", "cache_write_tokens", "audio_tokens", "image_tokens"), "VARCHAR")
        for name in ("prompt_tokens_details", "input_tokens_details")
    },
    **dict.fromkeys((*READS, *WRITES), "VARCHAR"),
    "service_tier": "VARCHAR",
    **{name: {"reasoning_tokens": "VARCHAR", "audio_tokens": "VARCHAR"} for name in ("completion_tokens_details", "output_tokens_details")},
}
"""What was used, in the words of either of OpenAI's interfaces and of Anthropic's."""

STRUCTURE = {
    "id": "VARCHAR",
    "litellm_call_id": "VARCHAR",
    "call_type": "VARCHAR",
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
    "total_tokens": "VARCHAR",
    "zero_cost_diagnostic": "VARCHAR",
    "response_cost_failure_debug_info": "VARCHAR",
    "cost_breakdown": {"total_cost": "VARCHAR", "service_tier": "VARCHAR"},
    "model_parameters": _PARAMETERS,
    "messages": "VARCHAR",
    "response": {
        "created_at": "DOUBLE",
        "background": "BOOLEAN",
        "service_tier": "VARCHAR",
        "model": "VARCHAR",
        "system_fingerprint": "VARCHAR",
        "choices": [{"finish_reason": "VARCHAR"}],
        "output": [{"type": "VARCHAR"}],
        "usage": _USED,
    },
    "model_map_information": {"model_map_key": "VARCHAR"},
    "request_tags": ["VARCHAR"],
    "end_user": "VARCHAR",
    "metadata": {
        "user_api_key_hash": "VARCHAR",
        "user_api_key_alias": "VARCHAR",
        "user_api_key_user_id": "VARCHAR",
        "user_api_key_end_user_id": "VARCHAR",
        "user_api_key_team_alias": "VARCHAR",
        "user_api_key_request_route": "VARCHAR",
        "attempted_retries": "BIGINT",
        "requester_metadata": _REQUESTER,
        "spend_logs_metadata": dict.fromkeys(("task_type", "complexity", *WORK), "VARCHAR"),
        "routing_decision": {
            "router_model_name": "VARCHAR",
            "routed_model": "VARCHAR",
            "cause": "VARCHAR",
            "tier": "VARCHAR",
            "score": "VARCHAR",
            "request_type": "VARCHAR",
        },
        "usage_object": _USED,
        "model_info": {"base_model": "VARCHAR"},
    },
    "hidden_params": {
        "litellm_overhead_time_ms": "VARCHAR",
        "additional_headers": {"x-litellm-attempted-retries": "VARCHAR", "x-litellm-attempted-fallbacks": "VARCHAR"},
    },
    "error_information": {"error_class": "VARCHAR", "error_code": "VARCHAR", "normalized_error": "VARCHAR"},
}

BUILT_IN_TIERS = ("SIMPLE", "MEDIUM", "COMPLEX", "REASONING")
"""Tiers of LiteLLM's own complexity router; any other tier is the name that a user's classifier gave to a rule."""

_START_US, _END_S = "_start_us", "_end_s"
_RETRIES = 'hidden_params.additional_headers."x-litellm-attempted-retries"'
_FALLBACKS = 'TRY_CAST(hidden_params.additional_headers."x-litellm-attempted-fallbacks" AS BIGINT)'
_IS_PROXY = "(metadata.user_api_key_request_route IS NOT NULL OR metadata.user_api_key_hash IS NOT NULL)"
_CALL = key_text("_call")
_ROUTED = "nullif(metadata.routing_decision.routed_model, '')"
_IS_FAILURE = "status = 'failure'"
_COST = "_cost"
# A cost of 0 says that nobody knew a price, unless it comes with a calculation or out of the gateway's own cache.
_IS_UNPRICED = """(zero_cost_diagnostic IS NOT NULL OR response_cost_failure_debug_info IS NOT NULL
        OR (_prompt > 0 AND cost_breakdown IS NULL AND NOT coalesce(cache_hit, false)))"""
# Earlier versions keep the counts in the answer alone.
_USAGE = ("metadata.usage_object", "response.usage")


def _counts(*paths: str) -> list[str]:
    return [f"{usage}.{path}" for usage in _USAGE for path in paths]


def _of_sent(*names: str) -> list[str]:
    return _counts(*(f"{place}.{name}" for place in ("prompt_tokens_details", "input_tokens_details") for name in names))


def _of_received(*names: str) -> list[str]:
    return _counts(*(f"{place}.{name}" for place in ("completion_tokens_details", "output_tokens_details") for name in names))


_CACHED = [*_of_sent("cached_tokens"), *_counts(*READS)]
_WRITTEN = [*_counts(*WRITES), *_of_sent("cache_creation_tokens", "cache_write_tokens")]
_PROMPT, _COMPLETION, _READ, _WROTE, _REASONED = "_prompt", "_completion", "_read", "_wrote", "_reasoned"
_EXCESS = f"(_total - {_PROMPT} - {_COMPLETION})"
# The prompt holds what was read from a cache, and what was written unless the total counts it on top or it does not fit in.
_PROMPT_BESIDE = f"""CASE WHEN {_READ} > {_PROMPT} THEN {_READ} + coalesce({_WROTE}, 0)
    WHEN {_WROTE} > 0 AND ({_EXCESS} = {_WROTE} OR {_EXCESS} = {_WROTE} + {_REASONED} OR coalesce({_READ}, 0) + {_WROTE} > {_PROMPT})
    THEN {_WROTE} ELSE 0 END"""
_COMPLETION_BESIDE = f"""CASE WHEN {_REASONED} > 0 AND ({_REASONED} > {_COMPLETION}
    OR {_EXCESS} > 0 AND (({_EXCESS} = {_REASONED} AND {_EXCESS} IS DISTINCT FROM {_WROTE}) OR {_EXCESS} = {_WROTE} + {_REASONED}))
    THEN {_REASONED} ELSE 0 END"""

# --- Kinds of call

_IS_PAID = f"({_COST} > 0 OR _total > 0 OR {_PROMPT} > 0)"
_IS_BATCH = f"({is_batch_read('call_type')} AND {_IS_PAID})"
# What was answered in the background costs when it is read.
_IS_BACKGROUND = f"({is_named('call_type', 'get_responses')} AND coalesce(response.background, false) AND coalesce({_IS_PAID}, false))"
_IS_SETTLED = "_is_settled"
_ROUTE = "metadata.user_api_key_request_route"
# What a gateway passes through unseen is of a kind only where the provider's own path says so.
_IS_PASSED = is_named("call_type", "pass_through_endpoint", "llm_passthrough_route")
_PASSED = f"""CASE WHEN regexp_matches({_ROUTE}, '^/(anthropic|azure|azure_ai|bedrock|cohere|gemini|mistral|openai_passthrough|vertex[-_]ai|vllm)/')
    AND nullif(model, '') IS NOT NULL AND model <> 'unknown' THEN {kind_of_path(_ROUTE)} END"""
_IS_HEALTH_CHECK = "_is_health_check"
# Nearly all records are of one call type: the first look tells.
_IS_COMPLETION = "_is_completion"
_KIND = f"""CASE WHEN {_IS_HEALTH_CHECK} THEN 'other' WHEN {_IS_COMPLETION} OR {_IS_BACKGROUND} THEN 'chat'
    WHEN {_IS_PASSED} THEN coalesce({_PASSED}, 'other')
    ELSE {first_kind(kind_of_name("call_type"), kind_of_path(_ROUTE), kind_of_model("model"))} END"""
_IS_IGNORED = f"""(CASE WHEN {_IS_HEALTH_CHECK} THEN coalesce({_COST}, 0) = 0 WHEN {_IS_COMPLETION} OR {_IS_BACKGROUND} THEN false
    WHEN {_IS_PASSED} OR coalesce(call_type, '') = '' THEN {is_nothing_by_path(_ROUTE)}
    ELSE {is_nothing_by_name("call_type", _IS_PAID)} END)"""

# --- What a request needs

_ASKED = "model_parameters"
_ENDED_BY = "list_transform(response.choices, lambda choice: choice.finish_reason)"
_CALLED = "list_transform(response.output, lambda item: item.type)"
_IS_ASKED = f"""({_ASKED} IS NOT NULL AND (status = 'success' OR coalesce(
    {_ASKED}.stream, {_ASKED}.user, {_ASKED}.temperature, {_ASKED}.max_tokens, {_ASKED}.max_completion_tokens) IS NOT NULL))"""
_SCHEMA_TYPES = [
    f"{_ASKED}.{path}" for path in ("response_format.type", "text.format.type", "output_format.type", "output_config.format.type")
]
# For these the gateway turns the format asked for into parameters that it does not log.
_IS_FORMAT_SHOWN = f"({_IS_ASKED} AND NOT coalesce(regexp_matches(custom_llm_provider, '^(anthropic|bedrock|vertex_ai|gemini)'), false))"
# Messages are one text, which nobody takes apart: what is text alone need not be looked at. Within a list, so that two columns share it.
_CONTENT = f"""list_value(CASE WHEN strlen(messages) < 500 AND contains(messages, '{REDACTED}') THEN NULL
    WHEN contains(messages, '"content":[') THEN messages WHEN contains(messages, '"content":"') THEN '' END)[1]"""
_HEARD = most_of([*_of_sent("audio_tokens"), *_of_received("audio_tokens")])


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
_SERVED = f"""coalesce(
    CASE WHEN NOT coalesce({_FALLBACKS} > 0 AND nullif(model_group, '') <> metadata.routing_decision.router_model_name, false)
         THEN {_ROUTED} END,
    nullif(model_group, ''), nullif(model, ''))"""
_TIER = "metadata.routing_decision.tier"


def built_in_tier(tier: str) -> str:
    """The tier that LiteLLM's own complexity router sorted a request into: what it decided by, and no rule of a user's."""
    return f"CASE WHEN {tier} IN {BUILT_IN_TIERS!r} THEN {tier} END"


def rule_of_tier(tier: str, arm: str) -> str:
    """The rule that a router's tier stands for: a tier of ours is `<rule set>/<rule>/<arm>`, any that is not built in is a user's own rule.

    Null where the classifier itself has logged the `arm`, and with it the rule.
    """
    return f"""CASE WHEN {tier} IN {(*BUILT_IN_TIERS, "unchanged")!r} OR {arm} IS NOT NULL THEN NULL
    WHEN regexp_matches({tier}, '^[^/]+/[^/]+/.') AND NOT ends_with({tier}, '/control') THEN regexp_extract({tier}, '^[^/]+/[^/]+')
    ELSE {tier} END"""


def arm_of_tier(tier: str, arm: str) -> str:
    """The arm that a rule of ours drew, as the classifier or the tier says."""
    return f"coalesce(nullif({arm}, ''), nullif(regexp_extract({tier}, '^[^/]+/[^/]+/(.+)$', 1), ''))"


# Deployments are called anything; the name that they are priced by says what they are.
_BASE = "coalesce(nullif(metadata.model_info.base_model, ''), nullif(model_map_information.model_map_key, ''))"
_IS_DEPLOYMENT = "coalesce(starts_with(custom_llm_provider, 'azure') OR contains(model, 'arn:aws:'), false)"

# A proxy may give the answer the name that the client asked for.
_VERSION = """coalesce(CASE WHEN NOT coalesce(response.model IN (model, model_group) OR ends_with(model, concat('/', response.model)), false)
    THEN nullif(response.model, '') END, response.system_fingerprint)"""

# How long it took to read what was settled earlier says nothing.
_LATENCY = f"CASE WHEN NOT {_IS_SETTLED} AND {_END_S} >= startTime THEN (TRY_CAST({_END_S} * 1e6 AS BIGINT) - {_START_US}) / 1e3 END"
_TTFT_GIVEN = f"CASE WHEN stream AND completionStartTime <> {_END_S} THEN completionStartTime END"
_OVERHEAD_GIVEN = f"CASE WHEN TRY_CAST({_RETRIES} AS BIGINT) = 0 AND {_FALLBACKS} = 0 THEN hidden_params.litellm_overhead_time_ms END"

_COLUMNS = {
    # What is settled when it is read carries its cost each time: it is one attempt, called by its own id and of its own time.
    "attempt_id": f"""CASE WHEN {_IS_SETTLED} AND id <> '' THEN concat('settled/', {key_text("id")}) ELSE concat_ws('/', {_CALL},
        CASE WHEN id <> litellm_call_id AND litellm_call_id <> '' THEN nullif({key_text("id")}, '') END, {_START_US}::VARCHAR) END""",
    "request_id": f"CASE WHEN {_IS_PROXY} THEN {_CALL} ELSE coalesce(nullif({key_text('trace_id')}, ''), {_CALL}) END",
    "session_id": text(
        """coalesce(nullif(metadata.requester_metadata.session_id, ''), nullif(session_id, ''),
        CASE WHEN metadata.requester_metadata.trace_id = trace_id THEN nullif(trace_id, '') END)"""
    ),
    "started_at": f"""make_timestamp(CASE WHEN {_IS_SETTLED} AND response.created_at BETWEEN {OLDEST_S} AND startTime
        THEN TRY_CAST(response.created_at * 1e6 AS BIGINT) WHEN startTime BETWEEN 0 AND 1e11 THEN {_START_US} END)""",
    "model": text("_model"),
    "provider": text("custom_llm_provider"),
    "provider_model": text(
        f"""CASE WHEN {_IS_DEPLOYMENT} AND {_BASE} IS NOT NULL THEN regexp_extract({_BASE}, '[^/]*$')
        WHEN custom_llm_provider <> '' AND starts_with(model, concat(custom_llm_provider, '/'))
        THEN model[strlen(custom_llm_provider) + 2:] ELSE model END"""
    ),
    "task_type": text(f"coalesce({_labelled('task_type')}, metadata.routing_decision.request_type)"),
    "prompt_tokens": f"CASE WHEN {_IS_FAILURE} THEN nullif({_PROMPT}, 0) ELSE {_PROMPT} + {_PROMPT_BESIDE} END",
    "completion_tokens": f"CASE WHEN {_IS_FAILURE} THEN nullif({_COMPLETION}, 0) ELSE {_COMPLETION} + {_COMPLETION_BESIDE} END",
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
    # Keys are renewed under the same name.
    "key_hash": user_hash("coalesce(nullif(metadata.user_api_key_alias, ''), nullif(metadata.user_api_key_hash, ''))"),
    "router_tier": built_in_tier(_TIER),
    "routing_rule_id": text(
        f"""coalesce(nullif({_tag("rule:")}, ''), nullif(metadata.requester_metadata.routing_rule_id, ''),
        {rule_of_tier(_TIER, "metadata.requester_metadata.arm")})"""
    ),
    "rule_arm": text(arm_of_tier(_TIER, "metadata.requester_metadata.arm")),
    "routing_reason": text("metadata.routing_decision.cause"),
    "operation": _KIND,
    "model_version": text(_VERSION),
    "feature": text(_labelled("feature")),
    "workflow": text(f"coalesce({_labelled('workflow')}, metadata.requester_metadata.trace_name)"),
    "prompt_version": text(_labelled("prompt_version")),
    "tags": text(plain_tags("request_tags")),
    "has_image": carried(_CONTENT, "image", most_of(_of_sent("image_tokens"))),
    "has_audio": carried(_CONTENT, "audio", _HEARD, f"list_contains({_ASKED}.modalities, 'audio')"),
    "has_tools": shown(
        any_of(
            f"len({_ASKED}.tools) > 0",
            f"len({_ASKED}.functions) > 0",
            f"list_has_any({_ENDED_BY}, ['tool_calls', 'function_call', 'tool_use'])",
            f"list_contains({_CALLED}, 'function_call')",
        ),
        _IS_ASKED,
    ),
    "has_schema": shown(any_of(*map(is_structured, _SCHEMA_TYPES)), _IS_FORMAT_SHOWN),
    "reasoning_effort": text(effort(f"coalesce({_ASKED}.reasoning_effort, {_ASKED}.reasoning.effort, {_ASKED}.output_config.effort)")),
    "service_tier": text(
        f"""CASE WHEN {_IS_BATCH} THEN 'batch' ELSE
        {service_tier("response.service_tier", *_counts("service_tier"), "cost_breakdown.service_tier", f"{_ASKED}.service_tier")} END"""
    ),
}

_OPTIONAL = {
    "latency_ms": Optional(f"CASE WHEN NOT {_IS_SETTLED} THEN endTime END", _LATENCY),
    "ttft_ms": Optional(
        _TTFT_GIVEN,
        f"""CASE WHEN {_TTFT_GIVEN} BETWEEN startTime AND {_END_S}
        THEN (TRY_CAST(completionStartTime * 1e6 AS BIGINT) - {_START_US}) / 1e3 END""",
    ),
    "routing_latency_ms": within(_OVERHEAD_GIVEN, 0, LONGEST_ATTEMPT_S * 1e3),
    "complexity": complexity(_labelled("complexity")),
    "cached_tokens": count_of_any(_CACHED),
    "cache_write_tokens": count_of_any(_WRITTEN),
    "audio_prompt_tokens": count_of_any(_of_sent("audio_tokens")),
    "reasoning_tokens": count_of_any(_of_received("reasoning_tokens")),
    "audio_completion_tokens": count_of_any(_of_received("audio_tokens")),
    "max_output_tokens": count_of(f"coalesce({_ASKED}.max_completion_tokens, {_ASKED}.max_output_tokens, {_ASKED}.max_tokens)"),
    "retries": count_of(f"coalesce({_RETRIES}, metadata.attempted_retries::VARCHAR)"),
    "queue_depth": count_of("metadata.requester_metadata.queue_depth"),
    "quality_score": within("metadata.requester_metadata.quality_score", 0, 1),
    "user_rating": within("metadata.requester_metadata.user_rating", 0, 1),
    "propensity": probability("metadata.requester_metadata.propensity"),
    "router_score": within("metadata.routing_decision.score", -MOST_SCORE, MOST_SCORE),
}

_REJECT = f"""CASE WHEN _is_ignored THEN NULL
    WHEN coalesce(litellm_call_id, '') = '' AND coalesce(id, '') = '' THEN 'no key: neither litellm_call_id nor id is there'
    {time_reasons("startTime", "startTime")}
    WHEN endTime IS NOT NULL AND {_END_S} IS NULL THEN 'endTime is not a number of seconds since 1970'
    WHEN {_END_S} < startTime THEN 'negative latency: endTime lies before startTime'
    WHEN {_END_S} > startTime + {LONGEST_ATTEMPT_S} THEN 'endTime is NaN, infinite, in another unit than seconds, or a week after startTime'
    {amount_reasons("response_cost", "response_cost")}
    {amount_reasons("prompt_tokens", "prompt_tokens")}
    {amount_reasons("completion_tokens", "completion_tokens")}
    WHEN status IS NULL OR status NOT IN ('success', 'failure') THEN 'status is neither success nor failure'
    WHEN _model IS NULL THEN 'no model: routed_model, model_group and model are all empty'
END"""

# Within CASE an engine works out each mention anew, and most of what is mentioned twice stands within one.
_WORKED_OUT = (
    {
        "_start_us": "TRY_CAST(startTime * 1e6 AS BIGINT)",
        "_end_s": number("endTime"),
        "_cost": number("response_cost"),
        "_prompt": number("prompt_tokens"),
        "_completion": number("completion_tokens"),
        "_total": number("total_tokens"),
        "_read": most_of(_CACHED),
        "_wrote": most_of(_WRITTEN),
        "_reasoned": most_of(_of_received("reasoning_tokens")),
        "_call": "coalesce(nullif(litellm_call_id, ''), nullif(id, ''))",
        "_is_completion": "coalesce(call_type = 'acompletion', false)",
        "_is_health_check": """(coalesce(list_contains(request_tags, 'litellm-internal-health-check'), false)
            OR coalesce(metadata.user_api_key_team_alias = 'litellm-internal-health-check', false))""",
        "_served": _SERVED,
    },
    {
        "_is_settled": f"(NOT {_IS_COMPLETION} AND coalesce({_IS_BATCH} OR {_IS_BACKGROUND}, false))",
        "_is_ignored": _IS_IGNORED,
        # A group that an export of ours made for one rule ends in the model that it serves.
        "_model": "CASE WHEN starts_with(_served, 'rules/') THEN regexp_replace(_served, '^rules/[^/]+/', '') ELSE _served END",
    },
)

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
    # What Langfuse's interface answers has the names of the second set as well.
    lacks=frozenset({"spend", "traceId"}),
    ignores="_is_ignored",
    worked_out=_WORKED_OUT,
    left_out="calls that spend nothing and answer nothing new",
)
