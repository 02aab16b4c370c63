"""Langfuse's blob export: observations (`observations_v2`) as logs and scores as feedback, as JSON lines, CSV or Parquet.

A generation is an attempt. Spans, events and the export's other tables are no records. As long as a trace holds a single
generation, the request is called by the trace, so that scores of the trace reach it; in a trace of several each is a
request of its own, because nothing tells a retry from the next step of an agent, and a score of the trace reaches none.

Traps: `latency` and `time_to_first_token` are in seconds, or in milliseconds for integrations made before April 2026, so
both are computed from the timestamps; whether `usage_details.input` includes cached tokens depends on who instrumented,
and is told from `total`; a cost of 0 without details means that no price was known; text and categorical scores carry a
number that means nothing; updated scores are exported again. Which files are complete the export's manifests say
(`ingest.manifests`).
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from typing import Any

from routing_pipeline.ingest.formats.column_map import column_map, elapsed_ms, time_of
from routing_pipeline.ingest.formats.log_format import ScoreFormat, json_tag, json_texts

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
    "user_id",
    "session_id",
    "data_type",
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
)
_CACHED = ("input_cached_tokens", "input_cache_read", "cache_read_input_tokens", "cache_read")
_CACHE_WRITES = ("input_cache_creation", "cache_creation_input_tokens", "input_cache_write")
_USAGE = ("input", "output", "total", *_CACHED, *_CACHE_WRITES, "input_audio_tokens", "output_reasoning_tokens", "output_audio_tokens")
NO_GENERATIONS = ("SPAN", "EVENT", "AGENT", "TOOL", "CHAIN", "RETRIEVER", "EVALUATOR", "GUARDRAIL")
_BY_USERS = re.compile(r"user|thumb|rating|feedback", re.IGNORECASE)


def scores(record: Mapping[str, Any]) -> Iterator[dict[str, Any]]:
    """A row of the table `scores` with the names of schema.FEEDBACK. The newest version of a score counts."""
    kind, name, value = record.get("data_type"), record.get("name"), record.get("value")
    if kind in {"TEXT", "CATEGORICAL"}:
        yield {"refused": "a score in words has no scale; numeric and boolean scores are read"}
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
_USED = {name: f"TRY_CAST({text} AS DOUBLE)" for name, text in json_texts("usage_details", _USAGE).items()}


def _sum(*names: str) -> str:
    return "(" + " + ".join(f"coalesce({_USED[name]}, 0)" for name in names) + ")"


_IN, _OUT = _sum("input"), _sum("output")
_IN_APART = f"(coalesce({', '.join(_USED[name] for name in _CACHED)}, 0) + {_sum(*_CACHE_WRITES, 'input_audio_tokens')})"
_OUT_APART = _sum("output_reasoning_tokens", "output_audio_tokens")
_TOTAL = _USED["total"]
# Langfuse prices every entry of usage_details once, so they are apart from each other unless the total says otherwise.
_IS_APART = f"({_TOTAL} IS NOT DISTINCT FROM {_IN} + {_IN_APART} + {_OUT} + {_OUT_APART})"
_IN_INCLUDES = f"(NOT {_IS_APART} AND coalesce({_TOTAL} IN ({_IN} + {_OUT}, {_IN} + {_OUT} + {_OUT_APART}), false))"
_OUT_INCLUDES = f"(NOT {_IS_APART} AND coalesce({_TOTAL} IN ({_IN} + {_OUT}, {_IN} + {_IN_APART} + {_OUT}), false))"

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

LANGFUSE = column_map(
    "langfuse",
    structure=dict.fromkeys(_TEXTS, "VARCHAR"),
    keys=(frozenset({"id", "trace_id", "type", "start_time"}), frozenset({"trace_id", "data_type", "value", "timestamp"})),
    ignores=f"(data_type IS NOT NULL OR type IN {NO_GENERATIONS!r})",
    started=_STARTED,
    lone_id="nullif(trace_id, '')",
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
        "prompt_tokens": f"CASE WHEN {_USED['input']} IS NOT NULL OR {_IN_APART} > 0 THEN {_IN} + CASE WHEN {_IN_INCLUDES} THEN 0 ELSE {_IN_APART} END END",
        "completion_tokens": f"""CASE WHEN {_USED["output"]} IS NOT NULL OR {_OUT_APART} > 0
            THEN {_OUT} + CASE WHEN {_OUT_INCLUDES} THEN 0 ELSE {_OUT_APART} END END""",
        "cached_tokens": f"coalesce({', '.join(_USED[name] for name in _CACHED)})",
        "cache_write_tokens": f"coalesce({', '.join(_USED[name] for name in _CACHE_WRITES)})",
        "audio_prompt_tokens": _USED["input_audio_tokens"],
        "reasoning_tokens": _USED["output_reasoning_tokens"],
        "audio_completion_tokens": _USED["output_audio_tokens"],
        "cost_usd": f"CASE WHEN TRY_CAST(total_cost AS DOUBLE) = 0 AND {_NO_PRICE} THEN NULL ELSE nullif(total_cost, '') END",
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
LANGFUSE_SCORES = ScoreFormat((frozenset({"trace_id", "data_type", "value", "timestamp"}),), scores)
