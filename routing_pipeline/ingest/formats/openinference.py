"""Spans by the conventions of OpenInference (Phoenix, Arize): in OpenTelemetry's traces, or as these tools export them.

Three shapes hold the same span: an export request of OpenTelemetry (its other spans are `otlp`'s), an object of Phoenix's
interface or of an SDK's console exporter (`context`, `attributes`), and a row of a data frame written as JSON, CSV or Parquet
(`context.span_id`, `attributes.llm.model_name`). All are brought to the names of the first.

A span of the kind LLM, EMBEDDING or RERANKER is an attempt and a request of its own; every other kind sums up or calls no
model. A span that carries `gen_ai.*` as well is one record, for which `llm.*` counts first.

Traps: attributes come with dots or nested; a cost of 0 for tokens means that nobody knew a price; prompt tokens include
cached and written ones by the conventions, and where the total says otherwise they do not; reranking has a model of its own
name; parameters of the call are JSON as text. Of messages only the kinds of their contents are looked at.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from dataclasses import replace
from typing import Any

from routing_pipeline.ingest.formats import otlp
from routing_pipeline.ingest.formats.column_map import Time, column_map, elapsed_ms, epoch_of, if_priced, time_of
from routing_pipeline.ingest.formats.log_format import json_tag, json_texts, text, time_reasons
from routing_pipeline.ingest.formats.otlp import (
    LABELS,
    NO_CALL_SPANS,
    OF_RESOURCE,
    OPENINFERENCE_KIND,
    OTHER_NAMES,
    below,
    exception_of,
    labels,
    text_of,
)
from routing_pipeline.ingest.formats.tokens import wholes
from routing_pipeline.ingest.formats.work import json_list_of, plain_tags

OPERATION_OF_KIND = {"LLM": "chat", "EMBEDDING": "embedding", "RERANKER": "rerank"}
"""Kinds of spans that call a model, and the kind of call that they are."""
REQUEST_MODEL = ("llm.request.model_name", "llm.model_name", "embedding.model_name", "reranker.model_name")
RESPONSE_MODEL = ("llm.response.model_name", "llm.model_name", "embedding.model_name", "reranker.model_name")
PROVIDER = ("llm.provider", "llm.system")
PARAMETERS = ("llm.invocation_parameters", "embedding.invocation_parameters")
_COUNTS = {
    "prompt": ("llm.token_count.prompt",),
    "completion": ("llm.token_count.completion",),
    "total": ("llm.token_count.total",),
    "cached": ("llm.token_count.prompt_details.cache_read", "llm.token_count.prompt_details.cache_input"),
    "written": ("llm.token_count.prompt_details.cache_write",),
    "audio_sent": ("llm.token_count.prompt_details.audio",),
    "reasoning": ("llm.token_count.completion_details.reasoning",),
    "audio_received": ("llm.token_count.completion_details.audio",),
}
_GEN_AI = {
    "prompt": otlp.COUNTS["input_tokens"],
    "completion": otlp.COUNTS["output_tokens"],
    "cached": otlp.COUNTS["cache_read"],
    "written": otlp.COUNTS["cache_write"],
}
_COSTS = ("llm.cost.total", "llm.cost.prompt", "llm.cost.completion")
_SAID = ("session.id", "user.id", "metadata", "tag.tags", "llm.prompt_template.version")
_OWN_MODEL = frozenset(REQUEST_MODEL + RESPONSE_MODEL)
_ATTRIBUTES = frozenset(
    {
        *(REQUEST_MODEL + RESPONSE_MODEL + PROVIDER + PARAMETERS + _COSTS + _SAID + OF_RESOURCE),
        *(
            otlp.TEXTS["request_model"]
            + otlp.TEXTS["response_model"]
            + otlp.TEXTS["provider"]
            + otlp.TEXTS["cost"]
            + otlp.TEXTS["session"]
            + otlp.TEXTS["user"]
            + otlp.TEXTS["error"]
        ),
        *(name for names in (*_COUNTS.values(), *_GEN_AI.values(), otlp.COUNTS["reasoning"]) for name in names),
    }
)
_SPAN_FIELDS = ("traceId", "spanId", "startTimeUnixNano", "endTimeUnixNano", "start_time", "end_time", "status", "exception")
_FLAGS = ("kind", "has_image", "has_audio", "has_tools")
STRUCTURE = dict.fromkeys((*_SPAN_FIELDS, *_FLAGS, *sorted(_ATTRIBUTES)), "VARCHAR")

_MESSAGES, _TOOLS, _TYPE = "llm.input_messages", "llm.tools", "message_content.type"
_ENDED_WELL = frozenset({"1", "STATUS_CODE_OK", "OK"})
_DEEPEST = 12
"""Attributes that nest further are nobody's."""


def records(document: Mapping[str, Any]) -> Iterator[dict[str, Any]]:
    """The calls to models in a document of any of the three shapes, each flat, values as text."""
    for pairs, span in below(document, "resourceSpans", "scopeSpans", "spans"):
        resource, own = _of_pairs(pairs), _of_pairs(span.get("attributes"))
        status = span.get("status")
        yield from _record(
            {name: text_of(span.get(name)) for name in ("traceId", "spanId", "startTimeUnixNano", "endTimeUnixNano")}
            | {"status": text_of(status.get("code")) if isinstance(status, dict) else None, "exception": exception_of(span.get("events"))},
            {name: value for name, value in resource.items() if name in OF_RESOURCE} | labels(span.get("attributes")) | own,
        )
    if "attributes" in document or "context" in document or any(str(name).startswith(("attributes.", "context.")) for name in document):
        yield from _of_export(document)


def held(document: Mapping[str, Any]) -> dict[str, int]:
    """As in an export request; any other document is a span."""
    counts = otlp.held(document)
    return counts if any(counts.values()) or not _is_export(document) else {NO_CALL_SPANS: 1}


def _is_export(document: Mapping[str, Any]) -> bool:
    """Whether a span that an SDK's exporter wrote is one of OpenInference: others write the same fields."""
    attributes = document.get("attributes")
    if "span_kind" in document or not isinstance(attributes, Mapping):
        return True
    return OPENINFERENCE_KIND in attributes or not _OWN_MODEL.isdisjoint(attributes)


def _of_export(row: Mapping[str, Any]) -> Iterator[dict[str, Any]]:
    flat = _flattened(row)
    attributes = {name.removeprefix("attributes."): value for name, value in flat.items() if name.startswith("attributes.")}
    kind = text_of(flat.get("span_kind"))
    if kind is not None:
        attributes.setdefault(OPENINFERENCE_KIND, kind)
    # SDKs write identifiers as hexadecimal numbers.
    identifiers = {f"{what}Id": (text_of(flat.get(f"context.{what}_id")) or "").removeprefix("0x") for what in ("trace", "span")}
    fields = {name: text_of(flat.get(name)) for name in ("start_time", "end_time")}
    status = text_of(flat.get("status_code")) or text_of(flat.get("status.status_code"))
    yield from _record(identifiers | fields | {"status": status, "exception": exception_of(row.get("events"))}, attributes)


def _record(fields: dict[str, Any], attributes: dict[str, Any]) -> Iterator[dict[str, Any]]:
    kind = text_of(attributes.get(OPENINFERENCE_KIND))
    if kind is None:
        # Whatever else carries both conventions is `otlp`'s.
        is_ours = not _OWN_MODEL.isdisjoint(attributes) and attributes.keys().isdisjoint(
            otlp.TEXTS["request_model"] + otlp.TEXTS["response_model"]
        )
        kind = "LLM" if is_ours else ""
    if kind.upper() in OPERATION_OF_KIND:
        # What was caught on the way did not end the call.
        if (fields["status"] or "").upper() in _ENDED_WELL:
            fields = fields | {"exception": None}
        said = {name: _as_text(value) for name, value in attributes.items() if name in _ATTRIBUTES}
        yield fields | said | {"kind": kind.upper()} | _needs(attributes)


def _needs(attributes: Mapping[str, Any]) -> dict[str, str | None]:
    """What the messages and tools of the call show, where these were logged."""
    messages = {name: value for name, value in attributes.items() if name.startswith(_MESSAGES)}
    kinds = {text_of(value) for name, value in messages.items() if name.endswith(_TYPE)}
    has_tools = any(name.startswith(_TOOLS) for name in attributes)
    return {
        "has_image": text_of("image" in kinds) if messages else None,
        "has_audio": text_of("audio" in kinds) if messages else None,
        "has_tools": "true" if has_tools else None,
    }


def _of_pairs(pairs: Any) -> dict[str, Any]:
    """Attributes as a collector writes them, by name; the first of two that share one."""
    found: dict[str, Any] = {}
    for pair in pairs if isinstance(pairs, list) else []:
        if isinstance(pair, dict) and isinstance(pair.get("key"), str) and isinstance(pair.get("value"), dict):
            found.setdefault(pair["key"], _unpacked(pair["value"]))
    return found


def _unpacked(value: Mapping[str, Any]) -> Any:
    array = value.get("arrayValue")
    if isinstance(array, dict):
        items = array.get("values")
        return [_unpacked(item) for item in items if isinstance(item, dict)] if isinstance(items, list) else []
    return next((each for each in value.values() if text_of(each) is not None), None)


def _flattened(value: Any, name: str = "", depth: int = 0) -> dict[str, Any]:
    """Everything below by its path; what is called tags or metadata stays whole."""
    whole = name.removeprefix("attributes.") in _ATTRIBUTES
    if depth > _DEEPEST or whole or not isinstance(value, (dict, list)):
        return {name: value}
    found: dict[str, Any] = {}
    for key, below_it in value.items() if isinstance(value, dict) else enumerate(value):
        found |= _flattened(below_it, f"{name}.{key}" if name else str(key), depth + 1)
    return found


def _as_text(value: Any) -> str | None:
    return json.dumps(value, default=str) if isinstance(value, (dict, list)) else text_of(value)


def _any(*names: str) -> str:
    return "coalesce(" + ", ".join(f"nullif(\"{name}\", '')" for name in names) + ")"


def _number(expression: str) -> str:
    return f"TRY_CAST({expression} AS DOUBLE)"


def _time(nanoseconds: str, iso: str) -> Time:
    """Nanoseconds since 1970 where a collector wrote the span, ISO 8601 where an export did."""
    counted, written = epoch_of(f'"{nanoseconds}"', nanoseconds, "nanoseconds"), time_of(f'"{iso}"', iso)
    seconds, us = (f'CASE WHEN "{nanoseconds}" IS NOT NULL THEN {one} ELSE {other} END' for one, other in _both(counted, written))
    number = _number(f'"{nanoseconds}"')
    is_other_unit = f"WHEN {number} < 1e17 OR {number} >= 1e20 THEN '{nanoseconds} is not in nanoseconds since 1970'"
    return Time(f"({seconds})", f"({us})", f"{is_other_unit} {time_reasons(f'({seconds})', f'{nanoseconds} or {iso}')}")


def _both(one: Time, other: Time) -> Iterator[tuple[str, str]]:
    yield one.seconds, other.seconds
    yield one.microseconds, other.microseconds


_STARTED, _ENDED = _time("startTimeUnixNano", "start_time"), _time("endTimeUnixNano", "end_time")
_ENDED_GIVEN = "coalesce(nullif(\"endTimeUnixNano\", '0'), nullif(\"end_time\", '')) IS NOT NULL"
_COUNTED = {what: _any(*names, *_GEN_AI.get(what, ())) for what, names in _COUNTS.items()}
_PROMPT, _COMPLETION, _TOTAL, _CACHED, _WRITTEN = (
    _number(_COUNTED[what]) for what in ("prompt", "completion", "total", "cached", "written")
)
_WHOLE, _ = wholes(sent=_PROMPT, received=_COMPLETION, total=_TOTAL, of_sent=[_CACHED, _WRITTEN], otherwise=[_WRITTEN])
_PARTS = " + ".join(_number(_any(name)) for name in ("llm.cost.prompt", "llm.cost.completion"))
_COST = f"coalesce({_any('llm.cost.total')}, ({_PARTS})::VARCHAR, {_any(*otlp.TEXTS['cost'])})"
_ERROR = _any("exception", *otlp.TEXTS["error"])
_ASKED = json_texts(
    _any(*PARAMETERS),
    (
        *("max_tokens", "max_completion_tokens", "max_output_tokens", "maxOutputTokens", "max_tokens_to_sample"),
        *("reasoning_effort", "reasoning.effort", "service_tier", "response_format.type", "response_format", "text.format.type", "tools"),
    ),
)
_METADATA = json_texts('"metadata"', LABELS)
_MOST = f"coalesce({', '.join(_number(_ASKED[name]) for name in _ASKED if name.startswith('max'))})"
_FORMAT = f"coalesce({_ASKED['response_format.type']}, {_ASKED['text.format.type']}, {_ASKED['response_format']})"
_HAS_PARAMETERS = f"json_valid({_any(*PARAMETERS)})"
_AUDIO = f"(coalesce({_number(_COUNTED['audio_sent'])}, 0) + coalesce({_number(_COUNTED['audio_received'])}, 0) > 0)"


def _labelled(name: str) -> str:
    """What the span or its resource says, then its metadata, then a tag."""
    others = [*OTHER_NAMES.get(name, ()), *(["llm.prompt_template.version"] if name == "prompt_version" else [])]
    said = (f'"{name}"', _METADATA[name], json_tag('"tag.tags"', name), *(f'"{each}"' for each in others))
    return "coalesce(" + ", ".join(f"nullif({each}, '')" for each in said) + ")"


_FORMAT_OF_SPANS = column_map(
    "openinference",
    structure=STRUCTURE,
    keys=(
        frozenset({"context", "attributes", "start_time"}),
        *(frozenset({"context.span_id", name}) for name in ("span_kind", f"attributes.{OPENINFERENCE_KIND}", "attributes.llm.model_name")),
    ),
    records=records,
    held=held,
    started=_STARTED,
    given={
        "attempt_id": """CASE WHEN "traceId" <> '' AND "spanId" <> '' THEN concat("traceId", '/', "spanId") END""",
        "session_id": f"""coalesce({_any("session.id", *otlp.TEXTS["session"])}, nullif("traceId", ''))""",
        "latency_ms": f"CASE WHEN {_ENDED_GIVEN} THEN {elapsed_ms(_STARTED, _ENDED)} END",
        "model": _any(*REQUEST_MODEL, *otlp.TEXTS["request_model"], *RESPONSE_MODEL, *otlp.TEXTS["response_model"]),
        "provider": _any(*PROVIDER, *otlp.TEXTS["provider"]),
        "provider_model": _any(*RESPONSE_MODEL, *otlp.TEXTS["response_model"], *REQUEST_MODEL, *otlp.TEXTS["request_model"]),
        "prompt_tokens": f"""CASE WHEN {_PROMPT} >= 0 THEN ({_WHOLE})::VARCHAR WHEN {_PROMPT} IS NULL AND "kind" <> 'LLM' THEN {_COUNTED["total"]}
            ELSE {_COUNTED["prompt"]} END""",
        "completion_tokens": _COUNTED["completion"],
        "cached_tokens": _COUNTED["cached"],
        "cache_write_tokens": _COUNTED["written"],
        "audio_prompt_tokens": _COUNTED["audio_sent"],
        "reasoning_tokens": f"coalesce({_COUNTED['reasoning']}, {_any(*otlp.COUNTS['reasoning'])})",
        "audio_completion_tokens": _COUNTED["audio_received"],
        "cost_usd": if_priced(_COST, tokens=f"coalesce({_COUNTED['prompt']}, {_COUNTED['total']})"),
        "status": f"""CASE WHEN contains(lower({_ERROR}), 'cancel') OR {_ERROR} = '499' THEN 'cancelled'
            WHEN {_ERROR} IS NOT NULL OR upper("status") IN ('2', 'STATUS_CODE_ERROR', 'ERROR') THEN 'failure' ELSE 'success' END""",
        "error_type": _ERROR,
        "user_id": _any("user.id", *otlp.TEXTS["user"]),
    }
    | {name: _labelled(name) for name in LABELS}
    | {"tags": plain_tags(json_list_of('"tag.tags"'))},
    called={
        "attempt_id": "the identifier of the trace or of the span",
        "latency_ms": "latency (end less start)",
        "cost_usd": "llm.cost.total",
        "prompt_tokens": "llm.token_count.prompt",
        "completion_tokens": "llm.token_count.completion",
        "model": ": llm.model_name (embedding.model_name, reranker.model_name) is empty",
    },
    refused=f"WHEN {_ENDED_GIVEN} AND {_ENDED.microseconds} IS NULL THEN 'the end of the span is no time'",
)
_OPERATIONS = " ".join(f"WHEN '{kind}' THEN '{operation}'" for kind, operation in OPERATION_OF_KIND.items())
OPENINFERENCE = replace(
    _FORMAT_OF_SPANS,
    columns={
        **_FORMAT_OF_SPANS.columns,
        "operation": f'CASE "kind" {_OPERATIONS} END',
        "has_image": '"has_image"',
        "has_audio": f"""CASE WHEN {_AUDIO} THEN 'true' ELSE "has_audio" END""",
        "has_tools": f"""CASE WHEN {_ASKED["tools"]} NOT IN ('[]', 'null') THEN 'true' ELSE "has_tools" END""",
        # The parameters are those of the call: what they do not ask for was not asked for.
        "has_schema": f"CASE WHEN {_HAS_PARAMETERS} THEN coalesce({_FORMAT}, 'text') NOT IN ('text', 'null') END",
        "max_output_tokens": f"CASE WHEN {_MOST} BETWEEN 1 AND 9e15 THEN {_MOST} END",
        "reasoning_effort": text(f"coalesce({_ASKED['reasoning_effort']}, {_ASKED['reasoning.effort']})"),
        "service_tier": text(_ASKED["service_tier"]),
    },
    table_columns=frozenset(
        {
            *("context.trace_id", "context.span_id", "span_kind", "start_time", "end_time", "status_code", "events", "attributes"),
            *(f"attributes.{name}" for name in (*_ATTRIBUTES, OPENINFERENCE_KIND, _MESSAGES, _TOOLS)),
        }
    ),
    is_one=_is_export,
)
