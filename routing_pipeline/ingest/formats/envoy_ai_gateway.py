"""The access log of Envoy AI Gateway as JSON lines, with the names that its documentation gives the fields, now and before.

Traps: calls to tools (MCP) stand in the same log and are no records; which fields there are is the operator's choice, and a value that is not there is null or `-`; `duration` is in
milliseconds; `x-envoy-upstream-service-time` is the upstream's first byte, so the rest of the duration is no routing latency;
backend and rule are paths; a client that goes away leaves the flag DC, whatever the code says. There is no cost,
and nothing of what a request asks for.
"""

from __future__ import annotations

from routing_pipeline.ingest.formats.column_map import column_map, status_of, time_of
from routing_pipeline.ingest.formats.kinds import first_kind, is_nothing_by_path, kind_of_name, kind_of_path
from routing_pipeline.ingest.formats.tokens import number, wholes
from routing_pipeline.ingest.formats.work import WORK

MODEL = ("gen_ai.request.model", "genai_model_name")
MODEL_OVERRIDE = ("gen_ai.request.model_override", "genai_model_name_override")
BACKEND = ("gen_ai.provider.name", "genai_backend_name")
INPUT_TOKENS = ("gen_ai.usage.input_tokens", "genai_tokens_input", "llm_input_token")
OUTPUT_TOKENS = ("gen_ai.usage.output_tokens", "genai_tokens_output", "llm_output_token")
TOTAL_TOKENS = ("gen_ai.usage.total_tokens", "genai_tokens_total", "llm_total_token")
_TOOL = ("mcp_method", "mcp.method.name")
_LABELS = ("task_type", "complexity", "team", "routing_rule_id", "routing_reason", "propensity", "queue_depth", *WORK)
_CACHED = (
    "gen_ai.usage.cached_input_tokens",
    "gen_ai.usage.cache_read.input_tokens",
    "genai_tokens_cached_input",
    "llm_cached_input_token",
)
_WRITTEN = (
    "gen_ai.usage.cache_creation_input_tokens",
    "gen_ai.usage.cache_creation.input_tokens",
    "genai_tokens_cache_creation_input",
    "llm_cache_creation_input_token",
)
_REASONED = (
    *("gen_ai.usage.reasoning_tokens", "gen_ai.usage.reasoning.output_tokens", "genai_tokens_reasoning"),
    "llm_reasoning_token",
)
_SESSION = ("session_id", "session.id", "gen_ai.conversation.id", "x-session-id")
_USER = ("user_id", "user.id", "x-user-id")
_TEXTS = (
    "x-request-id",
    "start_time",
    "duration",
    "gen_ai.response.model",
    "response_code",
    "response_flags",
    "route_name",
    "gen_ai.operation.name",
    "x-envoy-origin-path",
    ":path",
    "path",
    "method",
    *(MODEL + MODEL_OVERRIDE + BACKEND + INPUT_TOKENS + OUTPUT_TOKENS + TOTAL_TOKENS + _TOOL),
    *(_CACHED + _WRITTEN + _REASONED + _SESSION + _USER + _LABELS),
    *(f"x-{name.replace('_', '-')}" for name in _LABELS),
)


def _any(*names: str) -> str:
    """The first of the fields that says something."""
    return "coalesce(" + ", ".join(f"nullif(nullif(\"{name}\", ''), '-')" for name in names) + ")"


_BACKEND = _any(*BACKEND)
_FLAGS = _any("response_flags")
_STATUS = status_of(_any("response_code"), is_cancelled=f"list_contains(string_split({_FLAGS}, ','), 'DC')")
_PATH = _any("x-envoy-origin-path", ":path", "path")
_PROMPT, _COMPLETION = wholes(
    sent=number(_any(*INPUT_TOKENS)),
    received=number(_any(*OUTPUT_TOKENS)),
    total=number(_any(*TOTAL_TOKENS)),
    of_sent=[number(_any(*_CACHED)), number(_any(*_WRITTEN))],
    of_received=[number(_any(*_REASONED))],
)

ENVOY_AI_GATEWAY = column_map(
    "envoy_ai_gateway",
    structure=dict.fromkeys(_TEXTS, "VARCHAR"),
    keys=tuple(frozenset({"start_time", "duration", "response_code", name}) for name in (*MODEL, *_TOOL)),
    ignores=f"(({_any(*_TOOL)} IS NOT NULL AND {_any(*MODEL, 'gen_ai.response.model')} IS NULL)"
    f" OR ({is_nothing_by_path(_PATH, _any('method'))} AND {_any(*INPUT_TOKENS)} IS NULL))",
    left_out="calls to tools, and requests that answer nothing new",
    started=time_of('"start_time"', "start_time"),
    given={name: _any(name, f"x-{name.replace('_', '-')}") for name in _LABELS}
    | {
        "attempt_id": _any("x-request-id"),
        "session_id": _any(*_SESSION),
        "latency_ms": _any("duration"),
        "model": _any(*MODEL, "gen_ai.response.model"),
        # namespace/backend/route/...: the backend is who served.
        "provider": f"CASE WHEN contains({_BACKEND}, '/route/') THEN split_part({_BACKEND}, '/', 2) ELSE {_BACKEND} END",
        "provider_model": _any("gen_ai.response.model", *MODEL_OVERRIDE, *MODEL),
        "prompt_tokens": f"coalesce(({_PROMPT})::VARCHAR, {_any(*INPUT_TOKENS)})",
        "completion_tokens": f"coalesce(({_COMPLETION})::VARCHAR, {_any(*OUTPUT_TOKENS)})",
        "cached_tokens": _any(*_CACHED),
        "cache_write_tokens": _any(*_WRITTEN),
        "reasoning_tokens": _any(*_REASONED),
        "status": _STATUS,
        "error_type": f"CASE WHEN {_STATUS} <> 'success' THEN coalesce({_FLAGS}, {_any('response_code')}) END",
        "routing_rule_id": f"coalesce({_any('routing_rule_id', 'x-routing-rule-id')}, "
        f"nullif(regexp_extract({_any('route_name')}, '[^/]+/rule/[0-9]+'), ''))",
        "user_id": _any(*_USER),
        "operation": first_kind(kind_of_name(_any("gen_ai.operation.name")), kind_of_path(_PATH)),
    },
    called={
        "attempt_id": "x-request-id",
        "latency_ms": "duration",
        "prompt_tokens": "gen_ai.usage.input_tokens",
        "completion_tokens": "gen_ai.usage.output_tokens",
        "status": "response_code is no status",
        "model": ": gen_ai.request.model is empty",
    },
)
