"""OpenTelemetry traces as JSON: the objects that a collector's S3 or file exporter writes, spans with `gen_ai.*` attributes.

A span of a call to a model is an attempt and a request of its own, called by the id of its response where that is given once:
nothing in a trace tells a retry from the next step of an agent. Spans of agents, tools and workflows sum up the calls below them and are no records, as are spans without a model.

Traps: a document holds many spans, one document per object or one per line; whole numbers are strings from the collector
and numbers elsewhere; attributes are lists of key and value; `time_to_first_chunk` is in seconds; the conventions' input
tokens include cached ones, older instrumentations' do not; names have changed and logs hold old and new. There is no cost
in the conventions, so it is null unless a vendor's attribute names one. Evaluation events are feedback (`scores`).
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from routing_pipeline.ingest.formats.column_map import column_map, elapsed_ms, epoch_of, if_priced
from routing_pipeline.ingest.formats.log_format import ScoreFormat

OPERATION = ("gen_ai.operation.name",)
REQUEST_MODEL = ("gen_ai.request.model",)
RESPONSE_MODEL = ("gen_ai.response.model",)
RESPONSE_ID = ("gen_ai.response.id",)
PROVIDER = ("gen_ai.provider.name", "gen_ai.system")
TTFT_S = ("gen_ai.response.time_to_first_chunk", "gen_ai.server.ttft")
INPUT_TOKENS = ("gen_ai.usage.input_tokens", "gen_ai.usage.prompt_tokens")
OUTPUT_TOKENS = ("gen_ai.usage.output_tokens", "gen_ai.usage.completion_tokens")
CACHE_READ = ("gen_ai.usage.cache_read.input_tokens", "gen_ai.usage.cache_read_input_tokens")
CACHE_WRITE = ("gen_ai.usage.cache_creation.input_tokens", "gen_ai.usage.cache_creation_input_tokens")
REASONING = ("gen_ai.usage.reasoning.output_tokens", "gen_ai.usage.reasoning_tokens")
COST = ("gen_ai.usage.cost", "gen_ai.cost.total_cost")
"""Not of the conventions; what instrumentations that price calls write, in USD."""
SESSION = ("gen_ai.conversation.id", "session.id")
USER = ("user.id", "enduser.id")
ERROR = ("error.type",)
LABELS = ("task_type", "complexity", "team", "routing_rule_id", "routing_reason", "propensity", "queue_depth", "retries", "quality_score")
"""Attributes that carry the name of a column, on the span or on its resource."""

_ATTRIBUTES = frozenset(
    {
        *(OPERATION + REQUEST_MODEL + RESPONSE_MODEL + RESPONSE_ID + PROVIDER + TTFT_S + INPUT_TOKENS + OUTPUT_TOKENS),
        *(CACHE_READ + CACHE_WRITE + REASONING + COST + SESSION + USER + ERROR + LABELS),
    }
)
_SPAN_FIELDS = ("traceId", "spanId", "startTimeUnixNano", "endTimeUnixNano")
_STATUS = "status.code"
STRUCTURE = dict.fromkeys((*_SPAN_FIELDS, _STATUS, *sorted(_ATTRIBUTES)), "VARCHAR")

NO_CALLS = frozenset({"invoke_agent", "create_agent", "execute_tool", "invoke_workflow", "plan", "retrieval"})
"""Operations whose spans sum up, or do not call a model at all."""
EVALUATION = "gen_ai.evaluation.result"


def spans(document: Mapping[str, Any]) -> Iterator[dict[str, Any]]:
    """The calls to models in an export request, each as a flat record of its fields and attributes, values as text."""
    for resource, span in _below(document, "resourceSpans", "scopeSpans", "spans"):
        attributes = _attributes(resource, LABELS) | _attributes(span.get("attributes"), _ATTRIBUTES)
        if not _is_call(attributes):
            continue
        status = span.get("status")
        record = {name: _text(span.get(name)) for name in _SPAN_FIELDS} | attributes
        record[_STATUS] = _text(status.get("code")) if isinstance(status, dict) else None
        yield record


def scores(document: Mapping[str, Any]) -> Iterator[dict[str, Any]]:
    """Evaluation events, on spans and as log records, with the names of schema.FEEDBACK.

    An event on a span is about that span. A log record is about the response that it names, else about its span: an
    evaluator that runs later writes it from a span of its own.
    """
    for _, span in _below(document, "resourceSpans", "scopeSpans", "spans"):
        for event in _dicts(span.get("events")):
            if event.get("name") == EVALUATION:
                yield _score(event, event.get("timeUnixNano")) | {"attempt_id": _attempt(span)}
    for _, log in _below(document, "resourceLogs", "scopeLogs", "logRecords"):
        said = _attributes(log.get("attributes"), frozenset({"event.name"})).get("event.name")
        if EVALUATION in (log.get("eventName"), said):
            response = _attributes(log.get("attributes"), RESPONSE_ID).get(RESPONSE_ID[0])
            about = {"request_id": response} if response else {"attempt_id": _attempt(log)}
            yield _score(log, log.get("timeUnixNano") or log.get("observedTimeUnixNano")) | about


def _attempt(of: Mapping[str, Any]) -> str | None:
    trace, span = _text(of.get("traceId")), _text(of.get("spanId"))
    return f"{trace}/{span}" if trace and span else None


def _score(event: Mapping[str, Any], nanoseconds: Any) -> dict[str, Any]:
    said = _attributes(event.get("attributes"), frozenset({"gen_ai.evaluation.name", "gen_ai.evaluation.score.value"}))
    try:
        scored_at: str | None = f"{int(nanoseconds) / 1e9:.6f}"
    except (TypeError, ValueError, OverflowError):
        scored_at = None
    return {
        "name": said.get("gen_ai.evaluation.name"),
        "value": said.get("gen_ai.evaluation.score.value"),
        "source": "eval",
        "scored_at": scored_at,
    }


def _below(document: Mapping[str, Any], resources: str, scopes: str, items: str) -> Iterator[tuple[Any, dict[str, Any]]]:
    """What lies in the three levels of an export request, each with its resource's attributes."""
    for resource in _dicts(document.get(resources)):
        described = resource.get("resource")
        attributes = described.get("attributes") if isinstance(described, dict) else None
        for scope in _dicts(resource.get(scopes)):
            for item in _dicts(scope.get(items)):
                yield attributes, item


def _dicts(value: Any) -> list[dict[str, Any]]:
    return [each for each in value if isinstance(each, dict)] if isinstance(value, list) else []


def _attributes(pairs: Any, wanted: frozenset[str] | tuple[str, ...]) -> dict[str, str]:
    """The wanted attributes that have a scalar value; the first of two that share a name."""
    found: dict[str, str] = {}
    for pair in _dicts(pairs):
        name, value = pair.get("key"), pair.get("value")
        if isinstance(name, str) and name in wanted and isinstance(value, dict):
            text = next((text for kind in value.values() if (text := _text(kind)) is not None), None)
            if text is not None:
                found.setdefault(name, text)
    return found


def _text(value: Any) -> str | None:
    if isinstance(value, str):
        return value or None
    if isinstance(value, bool):
        return str(value).lower()
    return repr(value) if isinstance(value, (int, float)) else None


def _is_call(attributes: Mapping[str, str]) -> bool:
    operation = attributes.get(OPERATION[0])
    if operation in NO_CALLS:
        return False
    has_model = any(name in attributes for name in REQUEST_MODEL + RESPONSE_MODEL)
    return has_model or operation in {"chat", "text_completion", "generate_content", "embeddings"}


def _any(names: tuple[str, ...]) -> str:
    return "coalesce(" + ", ".join(f"nullif(\"{name}\", '')" for name in names) + ")"


_STARTED = epoch_of('"startTimeUnixNano"', "startTimeUnixNano", "nanoseconds")
_ENDED = epoch_of('"endTimeUnixNano"', "endTimeUnixNano", "nanoseconds")
_ENDED_GIVEN = '"endTimeUnixNano" IS NOT NULL AND "endTimeUnixNano" <> \'0\''
_LATENCY_MS = elapsed_ms(_STARTED, _ENDED)
_INPUT, _CACHED, _WRITTEN = (f"TRY_CAST({_any(names)} AS DOUBLE)" for names in (INPUT_TOKENS, CACHE_READ, CACHE_WRITE))
_TTFT_MS = f"(TRY_CAST({_any(TTFT_S)} AS DOUBLE) * 1e3)"
_ERROR = _any(ERROR)

_KEYS = (frozenset({"resourceSpans"}), frozenset({"resourceLogs"}), frozenset({"resourceMetrics"}))

OTLP_SCORES = ScoreFormat(_KEYS, scores)
OTLP = column_map(
    "otlp",
    structure=STRUCTURE,
    keys=_KEYS,
    records=spans,
    started=_STARTED,
    # By it the client, and an evaluator that saw no span, knows the call.
    lone_id=_any(RESPONSE_ID),
    given={
        "attempt_id": """CASE WHEN "traceId" <> '' AND "spanId" <> '' THEN concat("traceId", '/', "spanId") END""",
        "session_id": _any(SESSION),
        "latency_ms": f"CASE WHEN {_ENDED_GIVEN} THEN {_LATENCY_MS} END",
        # Milliseconds given for seconds would lie beyond the end of the span.
        "ttft_ms": f"CASE WHEN {_any(TTFT_S)} IS NOT NULL THEN CASE WHEN {_TTFT_MS} <= {_LATENCY_MS} THEN {_TTFT_MS} ELSE -1 END END",
        "model": _any(REQUEST_MODEL + RESPONSE_MODEL),
        "provider": _any(PROVIDER),
        "provider_model": _any(RESPONSE_MODEL + REQUEST_MODEL),
        # More cached tokens than input tokens: the instrumentation counts the two apart.
        "prompt_tokens": f"""CASE WHEN coalesce({_CACHED}, 0) + coalesce({_WRITTEN}, 0) > {_INPUT}
            THEN ({_INPUT} + coalesce({_CACHED}, 0) + coalesce({_WRITTEN}, 0))::VARCHAR ELSE {_any(INPUT_TOKENS)} END""",
        "completion_tokens": _any(OUTPUT_TOKENS),
        "cached_tokens": _any(CACHE_READ),
        "cache_write_tokens": _any(CACHE_WRITE),
        "reasoning_tokens": _any(REASONING),
        "cost_usd": if_priced(_any(COST), tokens=_any(INPUT_TOKENS)),
        "status": f"""CASE WHEN contains(lower({_ERROR}), 'cancel') OR {_ERROR} = '499' THEN 'cancelled'
            WHEN {_ERROR} IS NOT NULL OR "{_STATUS}" IN ('2', 'STATUS_CODE_ERROR') THEN 'failure' ELSE 'success' END""",
        "error_type": _ERROR,
        "user_id": _any(USER),
    }
    | {name: f"nullif(\"{name}\", '')" for name in LABELS},
    called={
        "attempt_id": "traceId or spanId",
        "latency_ms": "latency (endTimeUnixNano less startTimeUnixNano)",
        "prompt_tokens": "gen_ai.usage.input_tokens",
        "completion_tokens": "gen_ai.usage.output_tokens",
        "model": ": gen_ai.request.model and gen_ai.response.model are both empty",
    },
    refused=f"""WHEN {_ENDED_GIVEN} AND {_ENDED.microseconds} IS NULL THEN 'endTimeUnixNano is not a number of nanoseconds since 1970'""",
)
