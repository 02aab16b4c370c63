"""What Langfuse's public interface and its pages give out: observations in camel case, page by page or within their trace, and scores.

They are the observations of `langfuse` under other names, and all that is said there of times, tokens, costs and traces holds here.

Traps: `model` is what the export calls `provided_model_name`; older versions say `usage` and `promptTokens` where newer ones say
`usageDetails`; a cost is `totalCost` or `calculatedTotalCost`. User, session and tags stand with the observation in the second
version of the interface only.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import replace
from typing import Any

from routing_pipeline.ingest.formats import langfuse
from routing_pipeline.ingest.formats.log_format import ScoreFormat

NAMES: dict[str, tuple[str, ...]] = {
    "id": ("id",),
    "type": ("type",),
    "metadata": ("metadata",),
    "tags": ("tags",),
    "level": ("level",),
    "input": ("input",),
    "trace_id": ("traceId",),
    "start_time": ("startTime",),
    "end_time": ("endTime",),
    "completion_start_time": ("completionStartTime",),
    "status_message": ("statusMessage",),
    "provided_model_name": ("providedModelName", "model"),
    "usage_details": ("usageDetails", "usage"),
    "cost_details": ("costDetails",),
    "total_cost": ("totalCost", "calculatedTotalCost"),
    "model_parameters": ("modelParameters",),
    "tool_definitions": ("toolDefinitions",),
    "tool_calls": ("toolCalls",),
    "user_id": ("userId",),
    "session_id": ("sessionId",),
    "trace_name": ("traceName",),
    "prompt_name": ("promptName",),
    "prompt_version": ("promptVersion",),
    "data_type": ("dataType",),
}
"""Names here by the name in `langfuse`; of several the first that says something counts."""
_OF_SCORES = {
    **{name: name for name in ("name", "value", "source", "timestamp")},
    "trace_id": "traceId",
    "observation_id": "observationId",
    "data_type": "dataType",
    "updated_at": "updatedAt",
}


def records(document: Mapping[str, Any]) -> Iterator[dict[str, Any]]:
    """The observation under the export's names."""
    yield {
        name: next((document[other] for other in others if document.get(other) not in (None, "", {})), None)
        for name, others in NAMES.items()
    }


def scores(record: Mapping[str, Any]) -> Iterator[dict[str, Any]]:
    """A score with the names of schema.FEEDBACK; an observation holds none."""
    return langfuse.scores({name: record[other] for name, other in _OF_SCORES.items() if other in record})


_KEYS = (frozenset({"id", "traceId", "type", "startTime"}), frozenset({"traceId", "dataType", "value", "source"}))

LANGFUSE_API = replace(
    langfuse.LANGFUSE,
    name="langfuse_api",
    keys=_KEYS,
    records=records,
    table_columns=frozenset(other for others in NAMES.values() for other in others),
)
LANGFUSE_API_SCORES = ScoreFormat(_KEYS, scores)
