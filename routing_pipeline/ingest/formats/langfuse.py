"""Langfuse's blob export: observations (`observations_v2`) as logs and scores as feedback, as JSON lines, CSV or Parquet.

A generation is an attempt, as is an embedding. Spans, events and the export's other tables are no records. As long as a trace holds a
single generation that answers, the request is called by the trace, so that scores of the trace reach it; in a trace of several each is a
request of its own, and what embeds for them always is, because nothing tells a retry from the next step of an agent, and a score of the trace reaches none.

Traps: `latency` and `time_to_first_token` are in seconds, or in milliseconds for integrations made before April 2026, so
both are computed from the timestamps; whether `usage_details.input` includes cached tokens depends on who instrumented,
and is told from `total`; instrumentations keep their providers' names in it; of `input` only types of content and whether there are tools is read; a cost of 0 without details means that no price was known; text and categorical scores carry a
number that means nothing; updated scores are exported again. Which files are complete the export's manifests say
(`ingest.manifests`).
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from typing import Any

from routing_pipeline.ingest.formats.column_map import column_map, elapsed_ms, time_of
from routing_pipeline.ingest.formats.kinds import first_kind, kind_of_model, kind_of_name
from routing_pipeline.ingest.formats.log_format import IN_WORDS, OF_NO_REQUEST, ScoreFormat, json_list, json_tag, json_texts, where
from routing_pipeline.ingest.formats.needs import EFFORTS, LIMITS, any_of, carried, contains_any, effort, is_listed, service_tier, shown
from routing_pipeline.ingest.formats.tokens import (
    CACHE_READS,
    CACHE_WRITES,
    REASONING,
    SPAN_READS,
    SPAN_REASONING,
    SPAN_WRITES,
    most_of,
    number,
    wholes,
)
from routing_pipeline.ingest.formats.work import WORK, json_list_of, named_version, plain_tags

_TEXTS = (
    "id",
    "trace_id",
    "type",
    "start_time",
    "end_time",
    "completion_start_time",
    "metadata",
    "tags",
    "level",
    "status_message",
    "provided_model_name",
    "usage_details",
    "cost_details",
    "total_cost",
    "calculated_total_cost",
    "model_parameters",
    "tool_definitions",
    "tool_calls",
    "input",
    "user_id",
    "session_id",
    "trace_name",
    "prompt_name",
    "prompt_version",
    "data_type",
    "bookmarked",
)
_LABELS = (
    "task_type",
    "complexity",
    "team",
    "routing_rule_id",
    "routing_reason",
    "propensity",
    "queue_depth",
    "quality_score",
    "user_rating",
    *WORK,
)
_INPUT = ("input", "input_tokens", "prompt_tokens", "promptTokens", "promptTokenCount", "prompt_token_count")
_OUTPUT = ("output", "output_tokens", "completion_tokens", "completionTokens", "candidatesTokenCount", "candidates_token_count")
_TOTALS = ("total", "total_tokens", "totalTokens", "totalTokenCount", "total_token_count")
_KEPT = ("input_cache_creation_5m", "input_cache_creation_1h")
"""Written to the cache for so long; the second stands beside a count of all that was written, or of what is kept for five minutes."""
_HEARD = ("input_audio_tokens", "input_audio", "input_audio_token")
_SPOKEN = ("output_audio_tokens", "output_audio", "output_audio_token")
_SEEN = ("input_image_tokens", "input_image")
_READS, _WRITES, _REASONS = (*CACHE_READS, *SPAN_READS), (*CACHE_WRITES, *SPAN_WRITES), (*REASONING, *SPAN_REASONING)
_USAGE = (*_INPUT, *_OUTPUT, *_TOTALS, *_READS, *_WRITES, *_KEPT, *_REASONS, *_HEARD, *_SPOKEN, *_SEEN)
NO_GENERATIONS = ("SPAN", "EVENT", "AGENT", "TOOL", "CHAIN", "RETRIEVER", "EVALUATOR", "GUARDRAIL")
_BY_USERS = re.compile(r"user|thumb|rating|feedback", re.IGNORECASE)


def scores(record: Mapping[str, Any]) -> Iterator[dict[str, Any]]:
    """A row of the table `scores` with the names of schema.FEEDBACK; an observation holds none. The newest version of a score counts."""
    if "data_type" not in record:
        return
    kind, name, value = record.get("data_type"), record.get("name"), record.get("value")
    if kind in {"TEXT", "CATEGORICAL"}:
        yield {"refused": IN_WORDS}
        return
    if not record.get("observation_id") and not record.get("trace_id"):
        yield {"refused": OF_NO_REQUEST}
        return
    by_users = record.get("source") in {"API", "ANNOTATION"} and isinstance(name, str) and _BY_USERS.search(name) is not None
    yield {
        "attempt_id": record.get("observation_id"),
        "request_id": None if record.get("observation_id") else record.get("trace_id"),
        "name": name,
        "value": value,
        "source": "judge" if record.get("source") == "EVAL" else "user" if by_users else "eval",
        "scored_at": record.get("updated_at") or record.get("timestamp"),
    }


_METADATA = json_texts("metadata", _LABELS)
_DETAILS = json_list("usage_details", _USAGE)


def _used(*names: str) -> str:
    """The count under these names, as a number."""
    counts = most_of([f"used[{_USAGE.index(name) + 1}]" for name in names])
    return where("used", _DETAILS, counts)


def _first(*names: str) -> str:
    """The first of these names, as text."""
    counts = ", ".join(f"used[{_USAGE.index(name) + 1}]" for name in names)
    return where("used", _DETAILS, f"coalesce({counts})")


_CACHED, _REASONED, _HEARD_N, _SPOKEN_N, _SEEN_N = (_used(*names) for names in (_READS, _REASONS, _HEARD, _SPOKEN, _SEEN))
_SHORT, _LONG = (_used(name) for name in _KEPT)
_WRITTEN = f"coalesce(greatest({_used(*_WRITES)} + CASE WHEN {_SHORT} IS NULL THEN coalesce({_LONG}, 0) ELSE 0 END, {_SHORT} + coalesce({_LONG}, 0)), {_LONG})"
# What a span names so lies within the prompt, by the conventions, if it fits.
_OF_SPAN = f"CASE WHEN {_used(*SPAN_READS, *SPAN_WRITES)} IS NOT NULL AND coalesce({_CACHED}, 0) + coalesce({_WRITTEN}, 0) <= {number(_first(*_INPUT))} THEN {number(_first(*_INPUT))} + coalesce({number(_first(*_OUTPUT))}, 0) END"
# Langfuse prices every entry of usage_details once, so they are apart from each other unless the total says otherwise.
_PROMPT, _COMPLETION = wholes(
    sent=number(_first(*_INPUT)),
    received=number(_first(*_OUTPUT)),
    total=f"coalesce({number(_first(*_TOTALS))}, {_OF_SPAN})",
    of_sent=[_CACHED, _WRITTEN, _HEARD_N],
    of_received=[_REASONED, _SPOKEN_N],
    is_apart=True,
)
_KIND = f"CASE WHEN upper(type) = 'GENERATION' THEN {first_kind(kind_of_model('provided_model_name'), chr(39) + 'chat' + chr(39))} ELSE {kind_of_name('type')} END"
_ASKED = json_texts("model_parameters", (*LIMITS, *EFFORTS, "service_tier", "tools", "functions", "response_format"))
# What was sent is looked at where it is messages, for the types of their parts: within them, or as Langfuse keeps what it took out of them.
_CONTENT = """CASE WHEN regexp_matches("input", '"(role|contents)" *:') THEN "input" END"""
_SENT = json_texts('"input"', ("tools", "functions"))
_COST_DETAILS = json_texts("cost_details", ("total",))
_COST = f"coalesce(nullif(total_cost, ''), nullif(calculated_total_cost, ''), {_COST_DETAILS['total']})"


def _has(what: str, tokens: str) -> str:
    return carried(_CONTENT, what, tokens, f"contains({_CONTENT}, '@@@langfuseMedia:type={what}/')")


def _said(*names: str) -> str:
    return f"coalesce({', '.join(_ASKED[name] for name in names)})"


_STARTED = time_of("start_time", "start_time")
_ENDED = time_of("end_time", "end_time")
_FIRST = time_of("completion_start_time", "completion_start_time")
_ENDED_GIVEN = "nullif(end_time, '')"
_FIRST_GIVEN = (
    f"CASE WHEN completion_start_time <> '' AND completion_start_time IS DISTINCT FROM {_ENDED_GIVEN} THEN completion_start_time END"
)
_TTFT = elapsed_ms(_STARTED, _FIRST)
_ERROR = r"""coalesce(nullif(regexp_extract(status_message, '[A-Za-z_.]+(Error|Exception)|[A-Za-z_.]*(Timeout|Cancelled)[A-Za-z]*'), ''),
    nullif(regexp_extract(status_message, '\b[45][0-9][0-9]\b'), ''), 'error')"""
_NO_PRICE = "coalesce(nullif(cost_details, ''), '{}') IN ('{}', 'null')"

_KEYS = (
    frozenset({"id", "trace_id", "type", "start_time"}),
    frozenset({"trace_id", "data_type", "value", "timestamp"}),
    frozenset({"id", "timestamp", "user_id", "session_id", "bookmarked"}),
)
"""Observations, scores and traces: an export without manifests mixes them, and whoever reads one leaves the others."""

LANGFUSE = column_map(
    "langfuse",
    structure=dict.fromkeys(_TEXTS, "VARCHAR"),
    keys=_KEYS,
    ignores=f"(data_type IS NOT NULL OR (bookmarked IS NOT NULL AND type IS NULL) OR type IN {NO_GENERATIONS!r})",
    left_out="observations that are no generations, traces and scores",
    started=_STARTED,
    # What embeds, ranks or moderates for an answer does not make two of it.
    lone_id=f"CASE WHEN {_KIND} = 'chat' THEN nullif(trace_id, '') END",
    given={name: f"nullif({text}, '')" for name, text in _METADATA.items()}
    | {
        "attempt_id": "id",
        "session_id": "session_id",
        "latency_ms": f"CASE WHEN {_ENDED_GIVEN} IS NOT NULL THEN {elapsed_ms(_STARTED, _ENDED)} END",
        "ttft_ms": f"CASE WHEN {_FIRST_GIVEN} IS NOT NULL THEN CASE WHEN {_FIRST.seconds} <= {_ENDED.seconds} THEN {_TTFT} ELSE -1 END END",
        "model": "provided_model_name",
        "provider": "CASE WHEN contains(provided_model_name, '/') THEN split_part(provided_model_name, '/', 1) END",
        "provider_model": "CASE WHEN contains(provided_model_name, '/') THEN provided_model_name[strpos(provided_model_name, '/') + 1:] "
        "ELSE provided_model_name END",
        "task_type": f"coalesce(nullif({_METADATA['task_type']}, ''), nullif({json_tag('tags', 'task_type')}, ''))",
        "complexity": f"coalesce(nullif({_METADATA['complexity']}, ''), nullif({json_tag('tags', 'complexity')}, ''))",
        "team": f"coalesce(nullif({_METADATA['team']}, ''), nullif({json_tag('tags', 'team')}, ''))",
        "routing_rule_id": f"coalesce(nullif({_METADATA['routing_rule_id']}, ''), nullif({json_tag('tags', 'rule')}, ''))",
        "feature": f"coalesce(nullif({_METADATA['feature']}, ''), nullif({json_tag('tags', 'feature')}, ''))",
        "workflow": f"coalesce(nullif({_METADATA['workflow']}, ''), nullif({json_tag('tags', 'workflow')}, ''), trace_name)",
        "prompt_version": f"coalesce({named_version('prompt_name', 'prompt_version')}, nullif({_METADATA['prompt_version']}, ''), "
        f"nullif({json_tag('tags', 'prompt_version')}, ''))",
        "tags": plain_tags(json_list_of("tags")),
        "prompt_tokens": f"coalesce(({_PROMPT})::VARCHAR, {_first(*_INPUT)})",
        "completion_tokens": f"coalesce(({_COMPLETION})::VARCHAR, {_first(*_OUTPUT)})",
        "cached_tokens": _CACHED,
        "cache_write_tokens": _WRITTEN,
        "audio_prompt_tokens": _HEARD_N,
        "reasoning_tokens": _REASONED,
        "audio_completion_tokens": _SPOKEN_N,
        "cost_usd": f"CASE WHEN TRY_CAST({_COST} AS DOUBLE) = 0 AND {_NO_PRICE} THEN NULL ELSE {_COST} END",
        "operation": _KIND,
        "has_image": _has("image", _SEEN_N),
        "has_audio": _has("audio", f"greatest({_HEARD_N}, {_SPOKEN_N})"),
        # Tools stand anywhere, so that parameters without any say nothing.
        "has_tools": shown(
            any_of(*map(is_listed, ("tool_definitions", "tool_calls", *_SENT.values(), _ASKED["tools"], _ASKED["functions"]))),
            f"{_said('tools', 'functions')} IS NOT NULL",
        ),
        "has_schema": shown(contains_any(_ASKED["response_format"], "json"), f"{_ASKED['response_format']} IS NOT NULL"),
        "max_output_tokens": _said(*LIMITS),
        "reasoning_effort": effort(_said(*EFFORTS)),
        "service_tier": service_tier(_ASKED["service_tier"]),
        "status": f"CASE WHEN level <> 'ERROR' OR level IS NULL THEN 'success' WHEN contains({_ERROR}, 'Cancel') THEN 'cancelled' ELSE 'failure' END",
        "error_type": f"CASE WHEN level = 'ERROR' THEN {_ERROR} END",
        "user_id": "user_id",
    },
    called={
        "attempt_id": "id",
        "latency_ms": "latency (end_time less start_time)",
        "cost_usd": "total_cost",
        "prompt_tokens": "usage_details.input",
        "completion_tokens": "usage_details.output",
        "model": ": provided_model_name is empty",
    },
    refused=f"WHEN {_ENDED_GIVEN} IS NOT NULL AND {_ENDED.microseconds} IS NULL THEN 'end_time is no time'",
)
LANGFUSE_SCORES = ScoreFormat(_KEYS, scores)
