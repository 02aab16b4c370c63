"""Samples of the formats beside LiteLLM's, field by field: what each must read as, written down by hand from the sample."""

from __future__ import annotations

import json
from datetime import datetime
from pathlib import Path
from typing import Any

import pytest

from routing_pipeline.ingest.formats import FORMATS
from routing_pipeline.schema import REQUEST_LOG, column_names
from tests.ingest.reading import read_logs, read_scores

SAMPLES = Path(__file__).parents[2] / ".." / "shared" / "samples"

pytestmark = pytest.mark.skipif(not SAMPLES.is_dir(), reason="the samples are not beside the repository")

WANTED: dict[str, dict[str, Any]] = {
    "otlp_traces.constructed.json": {
        "source_format": "otlp",
        "attempt_id": "5b8efff798038103d269b633813fc60c/eee19b7ec3c1b174",
        "request_id": "chatcmpl-1",
        "session_id": "s-77",
        "started_at": datetime(2026, 11, 23, 0, 4, 40, 270147),
        "latency_ms": 907.847,
        "ttft_ms": 172.0,
        "model": "gpt-4o",
        "provider": "openai",
        "provider_model": "gpt-4o-2024-08-06",
        "prompt_tokens": 1200,
        "completion_tokens": 25,
        "cached_tokens": 1024,
        "reasoning_tokens": 8,
        "status": "success",
        "operation": "chat",
    },
    "langfuse_observations_v2.constructed.jsonl": {
        "source_format": "langfuse",
        "attempt_id": "obs-1",
        "request_id": "tr-1",
        "session_id": "s-77",
        "workflow": "chat",
        "started_at": datetime(2026, 11, 20, 13, 46, 19, 963000),
        "latency_ms": 1500.0,
        "ttft_ms": 150.0,
        "model": "gpt-4o",
        "provider_model": "gpt-4o",
        "task_type": "code",
        "complexity": 0.75,
        # 176 besides the 1024 cached ones: the total of 1225 says that they are apart.
        "prompt_tokens": 1200,
        "completion_tokens": 25,
        "cached_tokens": 1024,
        "cost_usd": 0.00197,
        "status": "success",
        "routing_rule_id": "r1",
        "propensity": 0.9,
        "operation": "chat",
    },
    "openrouter_generation.docs.json": {
        "source_format": "openrouter",
        "attempt_id": "gen-3bhGkxlo4XFrqiabUM7NDtwDzWwG",
        "request_id": "gen-3bhGkxlo4XFrqiabUM7NDtwDzWwG",
        "started_at": datetime(2024, 7, 15, 23, 33, 19, 433273),
        "latency_ms": 1250.0,
        "model": "sao10k/l3-stheno-8b",
        "provider": "Infermatic",
        "provider_model": "sao10k/l3-stheno-8b",
        "prompt_tokens": 10,
        "completion_tokens": 25,
        "cached_tokens": 3,
        "reasoning_tokens": 5,
        "cost_usd": 0.0015,
        "status": "success",
        "retries": 0,
        "routing_reason": "openrouter/auto",
        "service_tier": "priority",
    },
    "kong_ai.docs.json": {
        "source_format": "kong",
        "attempt_id": "9ec9264afbbbad5fe5c64877d92eeb04",
        "request_id": "9ec9264afbbbad5fe5c64877d92eeb04",
        "started_at": datetime(2026, 8, 19, 4, 20, 1, 719000),
        "latency_ms": 2670.0,
        "model": "command",
        "provider": "cohere",
        "provider_model": "command",
        "prompt_tokens": 28,
        "completion_tokens": 20,
        "cost_usd": 0.0038,
        "status": "success",
    },
    "envoy_ai_gateway_accesslog.docs.json": {
        "source_format": "envoy_ai_gateway",
        "attempt_id": "83b63da3-45a9-4196-98b8-1a7f697d6d8d",
        "request_id": "83b63da3-45a9-4196-98b8-1a7f697d6d8d",
        "started_at": datetime(2025, 8, 30, 16, 51, 37, 894000),
        # 451 ms of them passed before the upstream's first byte; the rest is no routing.
        "latency_ms": 1526.0,
        "model": "gpt-4o-mini",
        "provider": "tars",
        "provider_model": "gpt-4o-mini",
        "prompt_tokens": 15,
        "completion_tokens": 7,
        "status": "success",
        "routing_rule_id": "aigw-run/rule/0",
    },
}


@pytest.mark.parametrize("name", WANTED)
def test_each_sample_reads_as_it_says(name: str, tmp_path: Path) -> None:
    read = read_logs(SAMPLES / name, tmp_path / "home")
    assert (read.result.records, read.result.ingested, read.result.nulled) == (1, 1, {}), read.refused
    columns = [column for column in column_names(REQUEST_LOG) if column not in {"user_hash", "source_object", "ingested_at"}]
    want = dict.fromkeys(columns) | WANTED[name]
    for column, value in want.items():
        assert read.row[column] == (pytest.approx(value, abs=1e-9) if isinstance(value, float) else value), column


@pytest.mark.parametrize("name", WANTED)
def test_each_sample_is_of_one_format_only(name: str) -> None:
    record = json.loads((SAMPLES / name).read_text(encoding="utf-8"))
    assert [each.name for each in FORMATS if each.recognises(record)] == [WANTED[name]["source_format"]]


def test_captured_litellm_records_are_of_one_format_only() -> None:
    records = [json.loads(path.read_text(encoding="utf-8")) for path in SAMPLES.glob("litellm_*.json")]
    assert records
    assert {tuple(each.name for each in FORMATS if each.recognises(record)) for record in records} == {("litellm",)}


def test_the_evaluation_in_a_span_is_feedback_on_it(tmp_path: Path) -> None:
    scores, refused = read_scores(SAMPLES / "otlp_traces.constructed.json", tmp_path / "home")
    assert refused == []
    assert scores == [
        {
            "request_id": None,
            "attempt_id": "5b8efff798038103d269b633813fc60c/eee19b7ec3c1b174",
            "name": "helpfulness",
            "value": 0.82,
            "scale_min": None,
            "scale_max": None,
            "source": "eval",
            "scored_at": datetime(2026, 11, 23, 0, 4, 51, 177994),
        }
    ]


def test_a_langfuse_score_is_feedback_on_its_observation(tmp_path: Path) -> None:
    scores, refused = read_scores(SAMPLES / "langfuse_scores.constructed.jsonl", tmp_path / "home")
    assert refused == []
    assert scores == [
        {
            "request_id": None,
            "attempt_id": "obs-1",
            "name": "helpfulness",
            "value": 0.82,
            "scale_min": None,
            "scale_max": None,
            "source": "judge",
            "scored_at": datetime(2026, 11, 20, 14),
        }
    ]
