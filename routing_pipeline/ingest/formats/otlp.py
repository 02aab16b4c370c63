"""OpenTelemetry traces as JSON: the objects that a collector's S3 or file exporter writes, spans with `gen_ai.*` attributes.

A span of a call to a model is an attempt and a request of its own, called by the id of its response where that is given once:
nothing in a trace tells a retry from the next step of an agent. Spans of agents, tools and workflows sum up the calls below them and are no records, as are spans without a model.
Spans that name a kind of OpenInference are read by its conventions (`openinference`), out of the same documents.

Names of the conventions, of the AI SDK, of Pydantic AI, of Strands, of OpenLLMetry, of Langfuse and of their earlier versions are read alike: of several that
mean the same the first that says something counts, of counts the first that is not 0.

Traps: a document holds many spans, one document per object or one per line; whole numbers are strings from the collector
and numbers elsewhere; attributes are lists of key and value; `time_to_first_chunk` is in seconds; the conventions' input
tokens include cached ones, older instrumentations' do not, which the total tells; what an SDK has no name for stands as JSON in
what it passes on from the provider, and what a caller said behind the SDK's own word for metadata; not every error has a type. There is no cost
in the conventions, so it is null unless a vendor's attribute names one. Evaluation events are feedback (`scores`).
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Iterator, Mapping
from typing import Any

from routing_pipeline.ingest.formats.column_map import column_map, elapsed_ms, epoch_of, if_priced
from routing_pipeline.ingest.formats.kinds import kind_of_name
from routing_pipeline.ingest.formats.log_format import ScoreFormat
from routing_pipeline.ingest.formats.needs import PARTS, REDACTED, effort, service_tier
from routing_pipeline.ingest.formats.tokens import CACHE_READS, CACHE_WRITES, REASONING, number, wholes
from routing_pipeline.ingest.formats.work import WORK, named_version, plain_tags
from routing_pipeline.ingest.python_text import as_json

OPERATION = "gen_ai.operation.name"
RESPONSE_ID = "gen_ai.response.id"
LABELS = (
    *("task_type", "complexity", "team", "routing_rule_id", "routing_reason", "propensity", "queue_depth", "retries", "quality_score"),
    *WORK,
)
"""Attributes that carry the name of a column, on the span or on its resource."""
OTHER_NAMES: dict[str, tuple[str, ...]] = {
    "feature": ("app.feature", "feature.name"),
    "workflow": (
        *("gen_ai.workflow.name", "traceloop.workflow.name", "langfuse.trace.name", "gen_ai.agent.name", "ai.telemetry.functionId"),
    ),
    "prompt_version": ("gen_ai.prompt.version", "langfuse.observation.prompt.version", "prompt.version"),
}
"""Other names of labels, in the order in which they count."""
_PLACES = (
    "gen_ai.usage.",
    "gen_ai.usage.details.",
    "gen_ai.usage.prompt_tokens_details.",
    "gen_ai.usage.input_tokens_details.",
    "llm.usage.",
)


def _usage(*names: str) -> tuple[str, ...]:
    return tuple(f"{place}{name}" for name in names for place in _PLACES)


COUNTS: dict[str, tuple[str, ...]] = {
    "input_tokens": (
        "gen_ai.usage.input_tokens",
        "gen_ai.usage.prompt_tokens",
        "llm.usage.prompt_tokens",
        "ai.usage.inputTokens",
        "ai.usage.promptTokens",
        "ai.usage.tokens",
    ),
    "output_tokens": (
        "gen_ai.usage.output_tokens",
        "gen_ai.usage.completion_tokens",
        "llm.usage.completion_tokens",
        "ai.usage.outputTokens",
        "ai.usage.completionTokens",
    ),
    "total_tokens": ("gen_ai.usage.total_tokens", "llm.usage.total_tokens", "ai.usage.totalTokens"),
    "cache_read": (
        *("gen_ai.usage.cache_read.input_tokens", "ai.usage.cachedInputTokens", "ai.usage.inputTokenDetails.cacheReadTokens"),
        *_usage(*CACHE_READS),
    ),
    "cache_write": (
        *("gen_ai.usage.cache_creation.input_tokens", "gen_ai.usage.cache_write.input_tokens"),
        *("ai.usage.inputTokenDetails.cacheWriteTokens", "ai.usage.cacheCreationInputTokens", *_usage(*CACHE_WRITES)),
    ),
    "reasoning": (
        *("gen_ai.usage.reasoning.output_tokens", "ai.usage.reasoningTokens", "ai.usage.outputTokenDetails.reasoningTokens"),
        *(
            "gen_ai.usage.completion_tokens_details.reasoning_tokens",
            "gen_ai.usage.output_tokens_details.reasoning_tokens",
            *_usage(*REASONING),
        ),
    ),
    "audio_input": _usage("input_audio_tokens", "audio_input_tokens", "prompt_audio_tokens"),
    "audio_output": _usage("output_audio_tokens", "audio_output_tokens", "completion_audio_tokens"),
    "image_input": _usage("input_image_tokens", "image_input_tokens"),
}
TEXTS: dict[str, tuple[str, ...]] = {
    "request_model": ("gen_ai.request.model", "langfuse.observation.model.name", "llm.request.model"),
    "response_model": ("gen_ai.response.model", "llm.response.model"),
    "response_id": (RESPONSE_ID,),
    "provider": ("gen_ai.provider.name", "gen_ai.system", "ai.model.provider"),
    "operation": (OPERATION, "llm.request.type"),
    "ttft_s": (
        *("gen_ai.response.time_to_first_chunk", "gen_ai.client.operation.time_to_first_chunk", "gen_ai.server.ttft"),
        "gen_ai.latency.time_to_first_token",
    ),
    # The last is Strands' own; the conventions have a metric of that name, in seconds, and no attribute.
    "ttft_ms": ("ai.response.msToFirstChunk", "gen_ai.server.time_to_first_token"),
    # Not of the conventions; what instrumentations that price calls write, in USD.
    "cost": (
        *("gen_ai.usage.cost", "gen_ai.cost.total_cost", "operation.cost", "gen_ai.usage.total_cost", "llm.usage.cost"),
        *("gen_ai.usage.cost.total", "gen_ai.usage.cost_usd", "gen_ai.cost.total", "gen_ai.cost", "llm.cost.total", "llm.usage.total_cost"),
    ),
    "session": ("gen_ai.conversation.id", "session.id", "gen_ai.session.id", "langfuse.session.id", "langsmith.trace.session_id"),
    "user": ("user.id", "enduser.id", "langfuse.user.id", "llm.user"),
    "error": ("error.type",),
    "max_output_tokens": (
        *(
            "gen_ai.request.max_tokens",
            "gen_ai.request.max_output_tokens",
            "gen_ai.request.max_completion_tokens",
            "llm.request.max_tokens",
        ),
        *("ai.settings.maxOutputTokens", "ai.settings.maxTokens"),
    ),
    "reasoning_effort": (
        *("gen_ai.request.reasoning_effort", "gen_ai.request.reasoning.effort", "gen_ai.request.reasoning.level"),
        *("gen_ai.openai.request.reasoning_effort", "openai.request.reasoning_effort"),
    ),
    "used_tier": ("openai.response.service_tier", "gen_ai.openai.response.service_tier", "gen_ai.response.service_tier"),
    "asked_tier": ("openai.request.service_tier", "gen_ai.openai.request.service_tier", "gen_ai.request.service_tier"),
    **{label: (label, *OTHER_NAMES.get(label, ())) for label in LABELS},
    "prompt_name": ("gen_ai.prompt.name", "langfuse.observation.prompt.name"),
    "fingerprint": ("openai.response.system_fingerprint", "gen_ai.openai.response.system_fingerprint"),
    "tags": ("tags", "langfuse.trace.tags"),
}
_FLAGS = ("has_image", "has_audio", "has_tools", "has_schema")
_TOOLS = ("gen_ai.tool.definitions", "gen_ai.request.tools", "ai.prompt.tools")
_FORMATS = ("gen_ai.output.type", "gen_ai.openai.request.response_format", "gen_ai.request.response_format")
_SCHEMAS = ("gen_ai.request.structured_output_schema", "ai.schema")
_FINISHED = ("gen_ai.response.finish_reasons", "ai.response.finishReason")
_CONTENT = ("gen_ai.input.messages", "ai.prompt.messages")
# Pydantic AI says in one attribute which tools and which output it asks for.
_PARAMETERS = "model_request_parameters"
_SDK_CALL, _SDK_MODEL, _SDK_ANSWER = "ai.operationId", "ai.model.id", "ai.response.providerMetadata"
_LANGFUSE_KIND, _LANGFUSE_USED, _LANGFUSE_COST = (f"langfuse.observation.{name}" for name in ("type", "usage_details", "cost_details"))
_LANGFUSE_COUNTS = {"input": "input_tokens", "output": "output_tokens", "total": "total_tokens"}
_FUNCTIONS = "llm.request.functions."
_METADATA = re.compile(
    r"(?:ai\.telemetry\.metadata|traceloop\.association\.properties|langfuse\.(?:trace|observation)\.metadata|langsmith\.metadata|metadata)\.(.+)"
)
"""What SDKs and gateways put in front of the labels that a caller gives."""
_OF_CALLER = {
    **{label: label for label in LABELS},
    **dict.fromkeys(("user_id", "user", "user_api_key_end_user_id", "user_api_key_user_id"), "user.id"),
    **dict.fromkeys(("session_id", "conversation_id", "thread_id"), "session.id"),
    "user_api_key_team_alias": "team",
    "tags": "tags",
}
"""Names of such labels, and the attributes that they stand for; of several names for one the first counts."""
_RANK = {name: rank for rank, name in enumerate(_OF_CALLER)}
_REQUESTER = "requester_metadata"
"""Under which LiteLLM prints the whole metadata of a request."""
_PRICING = frozenset({"gateway", "openrouter"})
"""Providers whose answers say in USD what a call cost; their own fee, and the bill of a provider with one's own key beside it."""
_DEEPEST, _MOST = 3, 1e15
_HTTP = ("http.response.status_code", "http.status_code")
_UNNAMED_ERROR = "_OTHER"
_OF_ANSWER = {
    "gen_ai.usage.cached_tokens": (*CACHE_READS, "cachedPromptTokens", "promptCacheHitTokens", "cachedTokens"),
    "gen_ai.usage.cache_write_tokens": CACHE_WRITES,
    "gen_ai.usage.reasoning_tokens": REASONING,
}
"""Counts that providers give in their own names, and the attributes that they stand for."""

_USAGE_OF = ("gen_ai.usage.", "llm.usage.", "ai.usage.")
_WRITES = frozenset({"write", "writes", "written", "creation", "created"})
_NO_COUNT = frozenset({"miss", "misses", "audio", "image", "video", "cost", "usd", "price", "rate", "ratio"})

_FIELD = {name: (field, place) for field, names in (COUNTS | TEXTS).items() for place, name in enumerate(names)}
"""What an attribute fills, and how many names for it come first."""
_LISTS = frozenset(_TOOLS + _FINISHED + TEXTS["tags"])
_ATTRIBUTES = frozenset(
    {
        *(*_FIELD, *_LISTS, *_FORMATS, *_SCHEMAS, *_CONTENT, *_HTTP, _PARAMETERS),
        *(_SDK_CALL, _SDK_MODEL, _SDK_ANSWER, _LANGFUSE_KIND, _LANGFUSE_USED, _LANGFUSE_COST),
    }
)
OF_RESOURCE = (*LABELS, *(name for label in LABELS for name in OTHER_NAMES.get(label, ())))
_SPAN_FIELDS = ("traceId", "spanId", "startTimeUnixNano", "endTimeUnixNano")
_STATUS = "status.code"
STRUCTURE = dict.fromkeys((*_SPAN_FIELDS, _STATUS, *TEXTS, *COUNTS, *_FLAGS), "VARCHAR")

_SPAN = frozenset({"traceId", "spanId", "startTimeUnixNano"})
NO_CALLS = frozenset({"invoke_agent", "create_agent", "execute_tool", "invoke_workflow", "plan", "retrieval"})
"""Operations whose spans sum up, or do not call a model at all."""
FAILED = ("2", "STATUS_CODE_ERROR")
"""Statuses of spans that ended in an error."""
EVALUATION = "gen_ai.evaluation.result"
OPENINFERENCE_KIND = "openinference.span.kind"
NO_CALL_SPANS = "spans that are no model calls"
DETAILS = "gen_ai.client.inference.operation.details"
"""The event that carries what a call was asked, where the span does not."""


def spans(document: Mapping[str, Any]) -> Iterator[dict[str, Any]]:
    """The calls to models in an export request, each as a flat record of its fields and attributes, values as text."""
    for resource, span in below(document, "resourceSpans", "scopeSpans", "spans"):
        attributes = _attributes(resource, OF_RESOURCE)
        for event in _dicts(span.get("events")):
            if event.get("name") == DETAILS:
                attributes |= _attributes(event.get("attributes"), _ATTRIBUTES)
        attributes |= labels(span.get("attributes"))
        attributes |= _attributes(span.get("attributes"), _ATTRIBUTES)
        _name_counts(attributes, span.get("attributes"))
        _name_kind(attributes)
        _open_details(attributes)
        _open_answer(attributes)
        if not _is_call(attributes) or _attributes(span.get("attributes"), (OPENINFERENCE_KIND,)):
            continue
        status = span.get("status")
        record: dict[str, Any] = {name: text_of(span.get(name)) for name in _SPAN_FIELDS}
        record[_STATUS] = text_of(status.get("code")) if isinstance(status, dict) else None
        record |= _fields(attributes)
        record["error"] = _error(attributes, span.get("events"), record[_STATUS])
        functions = any(isinstance(pair.get("key"), str) and pair["key"].startswith(_FUNCTIONS) for pair in _dicts(span.get("attributes")))
        yield record | _needs(attributes, record, functions=functions)


def labels(pairs: Any) -> dict[str, str]:
    """What the caller said of the call in its metadata, by the attributes that say the same."""
    given: dict[str, Any] = {}
    for pair in _dicts(pairs):
        found = _METADATA.fullmatch(pair["key"]) if isinstance(pair.get("key"), str) else None
        if found is None:
            continue
        if found[1] == _REQUESTER:
            for name, said in _printed(pair.get("value")).items():
                given.setdefault("_".join(_words(name)), {"stringValue": text_of(said)})
        else:
            given["_".join(_words(found[1]))] = pair.get("value")
    ranked = sorted(given.keys() & _RANK.keys(), key=lambda name: _RANK[name])
    return _attributes([{"key": _OF_CALLER[name], "value": given[name]} for name in ranked], _ATTRIBUTES)


def _printed(value: Any) -> dict[str, Any]:
    """An object in text, as JSON or as Python prints it."""
    text = value.get("stringValue") if isinstance(value, dict) else None
    found = _parsed(as_json(text) or text) if isinstance(text, str) else None
    return {name: each for name, each in found.items() if isinstance(name, str)} if isinstance(found, dict) else {}


def _words(name: str) -> list[str]:
    """The words of a name in any spelling: userId, user-id and user.id are one."""
    return re.split(r"[._-]", re.sub(r"([a-z0-9])([A-Z])", r"\1_\2", name).lower())


def _error(attributes: Mapping[str, str], events: Any, status: str | None) -> str | None:
    """What kind of error a call ended with: as its maker calls it, else by its HTTP status, else by the exception that ended it."""
    named = attributes.get("error.type")
    if named is not None and named != _UNNAMED_ERROR:
        return named
    if named is None and status not in FAILED:
        return None
    code = next((attributes[name] for name in _HTTP if attributes.get(name, "")[:1] in {"4", "5"}), None)
    return code or exception_of(events) or named


def exception_of(events: Any) -> str | None:
    """What kind of exception a span records."""
    for event in _dicts(events):
        if event.get("name") == "exception":
            said = event.get("attributes")
            found = text_of(said.get("exception.type")) if isinstance(said, dict) else None
            found = found or _attributes(said, ("exception.type",)).get("exception.type")
            if found is not None:
                return found
    return None


def _name_kind(attributes: dict[str, str]) -> None:
    """The AI SDK gives calls no kind by the conventions, and calls that embed no model either."""
    call = attributes.get(_SDK_CALL, "").rpartition(".")[2]
    if call in {"doGenerate", "doStream"}:
        attributes.setdefault(OPERATION, "chat")
    elif call in {"doEmbed", "doRerank"} and _SDK_MODEL in attributes:
        attributes.setdefault(OPERATION, "embeddings" if call == "doEmbed" else "rerank")
        attributes.setdefault("gen_ai.request.model", attributes[_SDK_MODEL])


def _name_counts(attributes: dict[str, str], pairs: Any) -> None:
    """Counts of cached and reasoning tokens under names that nobody has listed: every instrumentation spells them in its own way."""
    for pair in _dicts(pairs):
        name = pair.get("key")
        if not isinstance(name, str) or name in _ATTRIBUTES or not name.startswith(_USAGE_OF):
            continue
        words = set(_words(name.split("usage.", 1)[1]))
        count = next(iter(_attributes([pair], (name,)).values()), "")
        if not count.isdigit() or words & _NO_COUNT:
            continue
        if any(word.startswith("cach") for word in words):
            attributes.setdefault("gen_ai.usage.cache_write_tokens" if words & _WRITES else "gen_ai.usage.cached_tokens", count)
        elif words & {"reasoning", "thinking", "thoughts"}:
            attributes.setdefault("gen_ai.usage.reasoning_tokens", count)


def _open_details(attributes: dict[str, str]) -> None:
    """Langfuse's SDK writes tokens and costs as JSON, under the names that it has for them."""
    if attributes.get(_LANGFUSE_KIND) in {"generation", "embedding"}:
        attributes.setdefault(OPERATION, "chat" if attributes[_LANGFUSE_KIND] == "generation" else "embeddings")
    used, cost = _parsed(attributes.get(_LANGFUSE_USED)), _parsed(attributes.get(_LANGFUSE_COST))
    for name, count in used.items() if isinstance(used, dict) else ():
        if (text := text_of(count)) is not None:
            attributes.setdefault(f"gen_ai.usage.{_LANGFUSE_COUNTS.get(name, name)}", text)
    if isinstance(cost, dict) and (text := text_of(cost.get("total"))) is not None:
        attributes.setdefault("gen_ai.usage.cost", text)


def _open_answer(attributes: dict[str, str]) -> None:
    """The AI SDK passes on what a provider says of the call, as JSON: counts for which its versions had no name yet, and a gateway's cost."""
    answer = _parsed(attributes.get(_SDK_ANSWER))
    for provider, said in answer.items() if isinstance(answer, dict) else ():
        held = _leaves(said)
        counts = {ours: next((held[name] for name in names if name in held), 0.0) for ours, names in _OF_ANSWER.items()}
        for ours, count in counts.items():
            if count:
                attributes.setdefault(ours, f"{count:.0f}")
        kept = counts["gen_ai.usage.cached_tokens"] + counts["gen_ai.usage.cache_write_tokens"]
        sent, received = (_count(_first(attributes, COUNTS[whole])) for whole in ("input_tokens", "output_tokens"))
        # Anthropic counts the cache beside the prompt. Later versions of the SDK add it, and show the provider's own number too.
        if provider == "anthropic" and kept and sent is not None and held.get("input_tokens", sent) == sent:
            attributes["gen_ai.usage.total_tokens"] = f"{sent + (received or 0) + kept:.0f}"
        if provider in _PRICING and "cost" in held:
            attributes.setdefault("gen_ai.usage.cost", repr(held["cost"] + held.get("upstreamInferenceCost", 0.0)))


def _leaves(value: Any, depth: int = 0) -> dict[str, float]:
    """Numbers by name, at whatever depth they stand; the uppermost of a name counts."""
    if not isinstance(value, dict) or depth > _DEEPEST:
        return {}
    found: dict[str, float] = {}
    for below_it in value.values():
        found |= _leaves(below_it, depth + 1)
    return found | {name: number for name, each in value.items() if (number := _count(text_of(each))) is not None}


def _count(text: str | None) -> float | None:
    try:
        found = float(text) if text is not None else -1.0
    except ValueError:
        return None
    return found if 0 <= found < _MOST else None


def _fields(attributes: Mapping[str, str]) -> dict[str, str | None]:
    """By field the attribute whose name comes first; of counts the first that is not 0, if there is one."""
    fields: dict[str, str | None] = dict.fromkeys((*TEXTS, *COUNTS))
    ranks: dict[str, tuple[bool, int]] = {}
    for name, value in attributes.items():
        field, place = _FIELD.get(name, ("", 0))
        if field and value:
            rank = (field in COUNTS and _is_none(value), place)
            if field not in ranks or rank < ranks[field]:
                ranks[field], fields[field] = rank, value
    return fields


def _first(attributes: Mapping[str, str], names: Iterable[str]) -> str | None:
    return next((attributes[name] for name in names if attributes.get(name)), None)


def _is_none(count: str) -> bool:
    return count in {"0", "0.0"}


def _needs(attributes: Mapping[str, str], record: Mapping[str, Any], *, functions: bool) -> dict[str, str | None]:
    """What the call needs, as text: of what was said only the types of its parts are looked at."""
    asked = _parsed(attributes.get(_PARAMETERS))
    tools = [attributes[name] not in {"[]", "{}"} for name in _TOOLS if attributes.get(name)]
    schema = ["json" in attributes[name].lower() for name in _FORMATS if attributes.get(name)]
    if isinstance(asked, dict):
        tools.append(bool(asked.get("function_tools")) or bool(asked.get("builtin_tools")))
        schema.append(bool(asked.get("output_object")) or bool(asked.get("output_tools")))
    ended = (_first(attributes, _FINISHED) or "").replace("-", "_")
    tools += [True] * (functions or re.search("tool_call|tool_use|function_call", ended) is not None)
    schema += [True] * (_first(attributes, _SCHEMAS) is not None or "Object" in attributes.get(_SDK_CALL, ""))
    said = [text for name in _CONTENT if (text := attributes.get(name)) and REDACTED not in text]
    held = {
        what: [re.search(PARTS.format(what), text) is not None or re.search(f'"modality": *"{what}"', text) is not None for text in said]
        for what in ("image", "audio")
    }
    for what, counts in (("image", ("image_input",)), ("audio", ("audio_input", "audio_output"))):
        held[what] += [not _is_none(value) for name in counts if (value := record[name]) is not None]
    return {"has_image": _any(held["image"]), "has_audio": _any(held["audio"]), "has_tools": _any(tools), "has_schema": _any(schema)}


def _any(signs: list[bool]) -> str | None:
    return str(any(signs)).lower() if signs else None


def _parsed(text: str | None) -> Any:
    try:
        return json.loads(text) if text else None
    except (ValueError, RecursionError):
        return None


def held(document: Mapping[str, Any]) -> dict[str, int]:
    """Spans, log records and metrics of an export request."""
    levels = {
        NO_CALL_SPANS: ("resourceSpans", "scopeSpans", "spans"),
        "log records": ("resourceLogs", "scopeLogs", "logRecords"),
        "metrics": ("resourceMetrics", "scopeMetrics", "metrics"),
    }
    return {what: sum(1 for _ in below(document, *names)) for what, names in levels.items()}


def messages(document: Mapping[str, Any]) -> Iterator[Any]:
    """What log records say, where a collector hands on the lines that a gateway wrote."""
    for _, log in below(document, "resourceLogs", "scopeLogs", "logRecords"):
        yield _plain(log.get("body"))


def _plain(value: Any) -> Any:
    """A value of OpenTelemetry as JSON would have it."""
    if not isinstance(value, dict):
        return None
    if isinstance(listed := value.get("kvlistValue"), dict):
        return {str(pair.get("key")): _plain(pair.get("value")) for pair in _dicts(listed.get("values"))}
    if isinstance(listed := value.get("arrayValue"), dict):
        return [_plain(each) for each in _dicts(listed.get("values"))]
    name, held = next(iter(value.items()), ("", None))
    return int(held) if name == "intValue" and isinstance(held, str) and held.lstrip("-").isdigit() else held


def scores(document: Mapping[str, Any]) -> Iterator[dict[str, Any]]:
    """Evaluation events, on spans and as log records, with the names of schema.FEEDBACK.

    An event on a span is about that span. A log record is about the response that it names, else about its span: an
    evaluator that runs later writes it from a span of its own.
    """
    for _, span in below(document, "resourceSpans", "scopeSpans", "spans"):
        for event in _dicts(span.get("events")):
            if event.get("name") == EVALUATION:
                yield _score(event, event.get("timeUnixNano")) | {"attempt_id": _attempt(span)}
    for _, log in below(document, "resourceLogs", "scopeLogs", "logRecords"):
        said = _attributes(log.get("attributes"), frozenset({"event.name"})).get("event.name")
        if EVALUATION in (log.get("eventName"), said):
            response = _attributes(log.get("attributes"), (RESPONSE_ID,)).get(RESPONSE_ID)
            about = {"request_id": response} if response else {"attempt_id": _attempt(log)}
            yield _score(log, log.get("timeUnixNano") or log.get("observedTimeUnixNano")) | about


def _attempt(of: Mapping[str, Any]) -> str | None:
    trace, span = text_of(of.get("traceId")), text_of(of.get("spanId"))
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


def below(document: Mapping[str, Any], resources: str, scopes: str, items: str) -> Iterator[tuple[Any, dict[str, Any]]]:
    """What lies in the three levels of an export request, each with its resource's attributes as they stand there."""
    # One resource, or one span, by itself is what a document beyond all limits is taken apart into.
    if resources == "resourceSpans" and document.keys() >= _SPAN:
        yield None, dict(document)
    for resource in [document] if scopes in document else _dicts(document.get(resources)):
        described = resource.get("resource")
        attributes = described.get("attributes") if isinstance(described, dict) else None
        # What collectors before version 1 call scopes.
        for scope in _dicts(resource.get(scopes) or resource.get("instrumentationLibrarySpans" if scopes == "scopeSpans" else scopes)):
            for item in _dicts(scope.get(items)):
                yield attributes, item


def _dicts(value: Any) -> list[dict[str, Any]]:
    return [each for each in value if isinstance(each, dict)] if isinstance(value, list) else []


def _attributes(pairs: Any, wanted: frozenset[str] | tuple[str, ...]) -> dict[str, str]:
    """The wanted attributes as text, lists as their words or as what is not `[]`; the first of two that share a name."""
    found: dict[str, str] = {}
    for pair in _dicts(pairs):
        name, value = pair.get("key"), pair.get("value")
        if isinstance(name, str) and name in wanted and isinstance(value, dict):
            as_text = _list_text if name in _LISTS else text_of
            text = next((text for kind in value.values() if (text := as_text(kind)) is not None), None)
            if text is not None:
                found.setdefault(name, text)
    return found


def text_of(value: Any) -> str | None:
    """A scalar as text; null where it is none, or says nothing."""
    if isinstance(value, str):
        return value or None
    if isinstance(value, bool):
        return str(value).lower()
    return repr(value) if isinstance(value, (int, float)) else None


def _list_text(value: Any) -> str | None:
    """A list by its words, `[]` where it is empty; what it holds beside words counts and is not shown."""
    if not isinstance(value, dict) or not isinstance(value.get("values"), list):
        return text_of(value)
    held = [next(iter(each.values()), None) for each in _dicts(value["values"])]
    return ",".join(each if isinstance(each, str) else "..." for each in held) or "[]"


def _is_call(attributes: Mapping[str, str]) -> bool:
    operation = attributes.get(OPERATION)
    if operation in NO_CALLS:
        return False
    has_model = any(name in attributes for name in TEXTS["request_model"] + TEXTS["response_model"])
    return has_model or operation in {"chat", "text_completion", "generate_content", "embeddings"}


_STARTED = epoch_of('"startTimeUnixNano"', "startTimeUnixNano", "nanoseconds")
_ENDED = epoch_of('"endTimeUnixNano"', "endTimeUnixNano", "nanoseconds")
_ENDED_GIVEN = '"endTimeUnixNano" IS NOT NULL AND "endTimeUnixNano" <> \'0\''
_LATENCY_MS = elapsed_ms(_STARTED, _ENDED)
_PROMPT, _COMPLETION = wholes(
    sent=number("input_tokens"),
    received=number("output_tokens"),
    total=number("total_tokens"),
    of_sent=[number("cache_read"), number("cache_write")],
    of_received=[number("reasoning")],
)
# What answers in no words may count its tokens in all alone.
_ALL_SENT = (
    f"CASE WHEN output_tokens IS NULL AND {kind_of_name('operation')} IN ('embedding', 'rerank', 'moderation') THEN total_tokens END"
)
_TTFT_GIVEN = "coalesce(ttft_s, ttft_ms)"
_TTFT_MS = f"coalesce({number('ttft_s')} * 1e3, {number('ttft_ms')})"

_KEYS = (frozenset({"resourceSpans"}), frozenset({"resourceLogs"}), frozenset({"resourceMetrics"}), frozenset({"scopeSpans"}), _SPAN)

OTLP_SCORES = ScoreFormat(_KEYS, scores)
OTLP = column_map(
    "otlp",
    structure=STRUCTURE,
    keys=_KEYS,
    records=spans,
    held=held,
    started=_STARTED,
    # By it the client, and an evaluator that saw no span, knows the call.
    lone_id="response_id",
    given={
        "attempt_id": """CASE WHEN "traceId" <> '' AND "spanId" <> '' THEN concat("traceId", '/', "spanId") END""",
        # Where nobody names a conversation, what one trace holds is one task.
        "session_id": """coalesce(nullif(session, ''), nullif("traceId", ''))""",
        "latency_ms": f"CASE WHEN {_ENDED_GIVEN} THEN {_LATENCY_MS} END",
        # Milliseconds given for seconds would lie beyond the end of the span.
        "ttft_ms": f"CASE WHEN {_TTFT_GIVEN} IS NOT NULL THEN CASE WHEN {_TTFT_MS} <= {_LATENCY_MS} THEN {_TTFT_MS} ELSE -1 END END",
        "model": "coalesce(request_model, response_model)",
        "provider": "provider",
        "provider_model": "coalesce(response_model, request_model)",
        "prompt_tokens": f"coalesce(({_PROMPT})::VARCHAR, input_tokens, {_ALL_SENT})",
        "completion_tokens": f"coalesce(({_COMPLETION})::VARCHAR, output_tokens)",
        "cached_tokens": "cache_read",
        "cache_write_tokens": "cache_write",
        "audio_prompt_tokens": "audio_input",
        "reasoning_tokens": "reasoning",
        "audio_completion_tokens": "audio_output",
        "cost_usd": if_priced("cost", tokens="input_tokens"),
        "status": f"""CASE WHEN contains(lower(error), 'cancel') OR error = '499' THEN 'cancelled'
            WHEN error IS NOT NULL OR "{_STATUS}" IN {FAILED!r} THEN 'failure' ELSE 'success' END""",
        "error_type": "error",
        "user_id": '"user"',
        "operation": kind_of_name("operation"),
        "max_output_tokens": "max_output_tokens",
        "reasoning_effort": effort("reasoning_effort"),
        "service_tier": service_tier("used_tier", "asked_tier"),
    }
    | {name: name for name in _FLAGS}
    | {name: name for name in LABELS}
    | {
        "model_version": "fingerprint",
        "prompt_version": named_version("prompt_name", "prompt_version"),
        "tags": plain_tags(
            "CASE WHEN json_valid(tags) THEN json_extract_string(tags, '$[*]') ELSE string_split(nullif(tags, '[]'), ',') END"
        ),
    },
    called={
        "attempt_id": "traceId or spanId",
        "latency_ms": "latency (endTimeUnixNano less startTimeUnixNano)",
        "prompt_tokens": "gen_ai.usage.input_tokens",
        "completion_tokens": "gen_ai.usage.output_tokens",
        "model": ": gen_ai.request.model and gen_ai.response.model are both empty",
    },
    refused=f"""WHEN {_ENDED_GIVEN} AND {_ENDED.microseconds} IS NULL THEN 'endTimeUnixNano is not a number of nanoseconds since 1970'""",
)
