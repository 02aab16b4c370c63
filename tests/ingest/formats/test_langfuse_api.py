"""What an answer of Langfuse's interface reads as: the names that differ from the export's, one by one, on records made by hand."""

from __future__ import annotations

import json
from datetime import datetime
from pathlib import Path
from typing import Any

import pytest

from tests.ingest.formats import test_langfuse as export
from tests.ingest.reading import Read, json_lines, read_logs, read_scores

BASE: dict[str, Any] = {
    "id": "obs",
    "traceId": "tr",
    "type": "GENERATION",
    "parentObservationId": None,
    "startTime": "2026-11-20T13:46:19.963Z",
    "endTime": "2026-11-20T13:46:21.463Z",
    "completionStartTime": "2026-11-20T13:46:20.113Z",
    "name": "chat",
    "metadata": {"task_type": "code"},
    "level": "DEFAULT",
    "statusMessage": None,
    "model": "gpt-4o",
    "modelParameters": {"max_tokens": 500},
    "usage": {"unit": "TOKENS", "input": 100, "output": 10, "total": 110},
    "usageDetails": {"input": 60, "input_cached_tokens": 40, "output": 10, "total": 110},
    "costDetails": {"total": 0.01},
    "calculatedTotalCost": 0.01,
    "promptName": "summary",
    "promptVersion": 3,
    "latency": 1.5,
}


@pytest.fixture
def read(tmp_path: Path) -> Any:
    def rows(document: Any) -> Read:
        (tmp_path / "answer.json").write_text(json.dumps(document), encoding="utf-8")
        return read_logs(tmp_path / "answer.json", tmp_path / "home")

    return rows


def test_an_observation_reads_as_that_of_the_export_does(tmp_path: Path) -> None:
    theirs = export.BASE | {
        "metadata": BASE["metadata"],
        "completion_start_time": "2026-11-20 13:46:20.113000",
        "model_parameters": json.dumps(BASE["modelParameters"]),
        "usage_details": BASE["usageDetails"],
        "prompt_name": "summary",
        "prompt_version": 3,
    }
    (tmp_path / "ours.jsonl").write_bytes(json_lines([BASE, BASE | {"id": "other", "traceId": "other"}]))
    (tmp_path / "theirs.jsonl").write_bytes(json_lines([theirs]))
    ours = read_logs(tmp_path / "ours.jsonl", tmp_path / "home").rows[0]
    row = read_logs(tmp_path / "theirs.jsonl", tmp_path / "other").row
    where_from = {"source_format", "source_object", "ingested_at"}
    assert {name: value for name, value in ours.items() if name not in where_from} == {
        name: value for name, value in row.items() if name not in where_from
    }
    assert (ours["prompt_tokens"], ours["cached_tokens"], ours["ttft_ms"], ours["cost_usd"]) == (100, 40, 150.0, 0.01)
    assert ours["started_at"] == datetime(2026, 11, 20, 13, 46, 19, 963000)


def test_pages_and_traces_are_opened_and_what_is_no_generation_is_left_out(read: Any) -> None:
    trace = {"id": "tr", "name": "chat", "userId": "jane", "sessionId": "s", "tags": [], "htmlPath": "/x"}
    span = BASE | {"id": "span", "type": "SPAN", "model": None}
    score = {"id": "sc", "traceId": "tr", "name": "quality", "value": 1, "dataType": "NUMERIC", "source": "API", "timestamp": "2026-11-20"}
    page = read({"data": [BASE, span], "meta": {"page": 1, "limit": 50, "totalItems": 2, "totalPages": 1}})
    assert (page.row["request_id"], page.refused) == ("tr", [])
    whole = read(trace | {"observations": [BASE | {"id": "obs-2"}, span], "scores": [score]})
    assert ([row["attempt_id"] for row in whole.rows], whole.refused) == (["obs-2"], [])


@pytest.mark.parametrize(
    ("changes", "want"),
    [
        ({"usageDetails": None}, (100, 10, 0.01)),
        ({"usageDetails": {}, "usage": {"promptTokens": 7, "completionTokens": 3, "totalTokens": 10}}, (7, 3, 0.01)),
        ({"calculatedTotalCost": None, "totalCost": 0.02, "model": None, "providedModelName": "gpt-4o"}, (100, 10, 0.02)),
        # No price was known.
        ({"calculatedTotalCost": 0, "costDetails": {}}, (100, 10, None)),
    ],
)
def test_every_version_of_the_interface_counts_alike(changes: Any, want: Any, read: Any) -> None:
    row = read({"data": [BASE | changes]}).row
    assert (row["prompt_tokens"], row["completion_tokens"], row["cost_usd"], row["model"]) == (*want, "gpt-4o")


def test_scores_of_the_interface_are_feedback(tmp_path: Path) -> None:
    score = {"id": "1", "traceId": "tr", "observationId": None, "name": "quality", "value": 0.5, "dataType": "NUMERIC", "source": "EVAL"}
    score |= {"timestamp": "2026-11-20T13:46:19Z", "createdAt": "2026-11-20T13:46:19Z", "updatedAt": "2026-11-20T14:46:19Z"}
    thumb = score | {
        "observationId": "obs",
        "name": "user-thumb",
        "value": 0,
        "stringValue": "False",
        "dataType": "BOOLEAN",
        "source": "API",
    }
    words = score | {"value": 0, "stringValue": "good", "dataType": "CATEGORICAL"}
    (tmp_path / "scores.json").write_text(json.dumps({"data": [score, thumb, words], "meta": {"page": 1}}), encoding="utf-8")
    kept, refused = read_scores(tmp_path / "scores.json", tmp_path / "home")
    assert sorted((each["request_id"], each["attempt_id"], each["value"], each["source"]) for each in kept if each["request_id"]) == [
        ("tr", None, 0.5, "judge")
    ]
    assert [(each["attempt_id"], each["value"], each["source"]) for each in kept if each["attempt_id"]] == [("obs", 0.0, "user")]
    assert {each["scored_at"] for each in kept} == {datetime(2026, 11, 20, 14, 46, 19)}
    assert refused == ["a score in words has no scale; numeric and boolean scores are read"]
