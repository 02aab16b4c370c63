"""What an OpenRouter generation reads as: the traps of the format one by one, on records made by hand."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from tests.ingest.reading import Read, json_lines, read_logs

BASE: dict[str, Any] = {
    "id": "gen",
    "created_at": "2026-11-20T13:46:19+00:00",
    "model": "meta/llama",
    "provider_name": "Infermatic",
    "latency": 1250,
    "generation_time": 1200,
    "tokens_prompt": 9,
    "tokens_completion": 20,
    "native_tokens_prompt": 10,
    "native_tokens_completion": 25,
    "native_tokens_reasoning": 5,
    "native_tokens_cached": 3,
    "total_cost": 0.0015,
    "upstream_inference_cost": 0.0012,
    "is_byok": False,
    "cancelled": False,
    "finish_reason": "stop",
    "provider_responses": [{"status": 200}],
}


@pytest.fixture
def read(tmp_path: Path) -> Any:
    def rows(*changes: dict[str, Any]) -> Read:
        (tmp_path / "logs.jsonl").write_bytes(
            json_lines(
                BASE | {"id": f"gen-{number}", "created_at": f"2026-11-20T13:{number:02d}:19+00:00"} | change
                for number, change in enumerate(changes)
            )
        )
        read = read_logs(tmp_path / "logs.jsonl", tmp_path / "home")
        assert read.result.formats == ("openrouter",)
        return read

    return rows


def test_tokens_are_the_native_ones_and_normalised_ones_stand_in(read: Any) -> None:
    rows = read({}, {"native_tokens_prompt": None, "native_tokens_completion": None})
    assert rows.column("prompt_tokens") == [10, 9]
    assert rows.column("completion_tokens") == [25, 20]
    assert rows.column("cached_tokens") == [3, 3]


def test_with_ones_own_key_the_providers_bill_comes_on_top(read: Any) -> None:
    rows = read({}, {"is_byok": True}, {"is_byok": True, "upstream_inference_cost": None}, {"total_cost": None, "usage": 0.5})
    assert rows.column("cost_usd") == [0.0015, pytest.approx(0.0027), None, 0.5]


def test_the_longer_of_two_times_is_the_latency_in_milliseconds(read: Any) -> None:
    rows = read(
        {},
        {"latency": 300, "generation_time": 5000},
        {"latency": None},
        {"generation_time": None},
        {"latency": None, "generation_time": None},
    )
    assert rows.column("latency_ms") == [1250.0, 5000.0, 1200.0, 1250.0, None]


def test_how_it_ended_and_after_how_many_tries(read: Any) -> None:
    tries = [{"status": 429}, {"status": 503}]
    rows = read(
        {"provider_responses": [{"status": 429}, {"status": 200}]},
        {"finish_reason": "error", "provider_responses": tries, "total_cost": 0},
        {"cancelled": True},
        {"provider_responses": None},
        {"finish_reason": "error", "provider_responses": None},
    )
    assert rows.column("status") == ["success", "failure", "cancelled", "success", "failure"]
    assert rows.column("error_type") == [None, "503", None, None, "error"]
    assert rows.column("retries") == [1, 1, 0, None, None]
    assert rows.column("cost_usd")[1] is None


def test_answers_of_the_interface_are_read_like_lines(tmp_path: Path) -> None:
    (tmp_path / "logs").mkdir()
    for number in range(3):
        answer = {"data": BASE | {"id": f"gen-{number}"}}
        (tmp_path / "logs" / f"{number}.json").write_text(json.dumps(answer, indent=number or None), encoding="utf-8")
    (tmp_path / "logs" / "lines.jsonl").write_bytes(json_lines({"data": BASE | {"id": f"line-{number}"}} for number in range(2)))
    (tmp_path / "logs" / "broken.jsonl").write_bytes(json_lines([{"data": BASE | {"id": "b"}}, {"data": [1]}, {"data": BASE | {"id": ""}}]))
    read = read_logs(tmp_path / "logs", tmp_path / "home")
    assert (read.result.ingested, read.result.formats) == (6, ("openrouter",))
    assert [(line, reason.partition(":")[0]) for line, reason in read.refused] == [(2, "no known log format"), (3, "no key")]


def test_an_envelope_of_something_else_is_not_openrouters(tmp_path: Path) -> None:
    (tmp_path / "a.json").write_text(json.dumps({"data": {"id": "x"}}), encoding="utf-8")
    assert read_logs(tmp_path / "a.json", tmp_path / "home").result.formats == ("unknown",)


def test_kind_media_and_tier_are_told_and_nothing_else_of_the_request_is(read: Any) -> None:
    rows = read(
        {"api_type": "completions", "num_media_prompt": 1, "num_input_audio_prompt": 0, "service_tier": "flex"},
        {"api_type": "embeddings", "num_media_prompt": 0, "num_input_audio_prompt": 2},
        {"api_type": "tts"},
        {},
    )
    assert rows.column("operation") == ["chat", "embedding", "speech", None]
    assert rows.column("has_image") == [True, False, None, None]
    assert rows.column("has_audio") == [False, True, None, None]
    assert rows.column("service_tier") == ["flex", None, None, None]
    assert {row[name] for row in rows.rows for name in ("has_tools", "has_schema", "max_output_tokens", "reasoning_effort")} == {None}
