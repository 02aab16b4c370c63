"""What Helicone's export reads as: the traps of the format one by one, on records made by hand."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from tests.ingest.reading import Read, json_lines, read_logs

BASE: dict[str, Any] = {
    "request_id": "h",
    "request_created_at": "2026-11-20T13:46:19Z",
    "response_created_at": None,
    "response_status": 200,
    "request_model": "gpt-4o",
    "response_model": "gpt-4o-2024-08-06",
    "provider": "OPENAI",
    "delay_ms": 1500,
    "time_to_first_token": 150,
    "prompt_tokens": 1200,
    "completion_tokens": 25,
    "total_tokens": 1225,
    "prompt_cache_read_tokens": 0,
    "prompt_cache_write_tokens": 0,
    "cost": 0.01,
    "feedback_rating": None,
    "scores": None,
    "properties": {},
    "request_user_id": "jane",
    "cache_reference_id": "00000000-0000-0000-0000-000000000000",
}


@pytest.fixture
def read(tmp_path: Path) -> Any:
    def rows(*changes: dict[str, Any]) -> Read:
        (tmp_path / "logs.jsonl").write_bytes(
            json_lines(
                BASE | {"request_id": f"h-{number}", "request_created_at": f"2026-11-20T13:{number:02d}:19Z"} | change
                for number, change in enumerate(changes)
            )
        )
        read = read_logs(tmp_path / "logs.jsonl", tmp_path / "home")
        assert read.result.formats == ("helicone",)
        return read

    return rows


def test_times_are_in_milliseconds_and_costs_in_dollars(read: Any) -> None:
    row = read({}).row
    assert (row["latency_ms"], row["ttft_ms"], row["cost_usd"]) == (1500.0, 150.0, 0.01)
    assert (row["model"], row["provider_model"], row["provider"], row["status"]) == ("gpt-4o", "gpt-4o-2024-08-06", "OPENAI", "success")
    assert (row["is_cache_hit"], len(row["user_hash"])) == (False, 32)


def test_a_missing_delay_is_computed_from_the_times(read: Any) -> None:
    assert read({"delay_ms": None, "response_created_at": "2026-11-20T13:00:21.500Z"}, {"delay_ms": None}).column("latency_ms") == [
        2500.0,
        None,
    ]


def test_cached_tokens_are_counted_once(read: Any) -> None:
    rows = read(
        {"prompt_cache_read_tokens": 1024},
        {"prompt_tokens": 176, "prompt_cache_read_tokens": 1024},
        {"prompt_tokens": 1100, "prompt_cache_read_tokens": 50, "prompt_cache_write_tokens": 50},
        {"prompt_tokens": None, "total_tokens": None},
        {"prompt_tokens": 700, "prompt_cache_read_tokens": 650, "prompt_cache_write_tokens": 500},
    )
    assert rows.column("prompt_tokens") == [1200, 1200, 1200, None, 1200]
    assert rows.column("cached_tokens") == [1024, 1024, 50, 0, 650]


def test_a_cost_of_zero_for_tokens_is_unknown_unless_the_cache_answered(read: Any) -> None:
    rows = read({"cost": 0}, {"cost": 0, "cache_reference_id": "8c3c"}, {"costUSD": 0.02}, {"cost": None})
    assert rows.column("cost_usd") == [None, 0.0, 0.02, None]
    assert rows.column("is_cache_hit") == [False, True, False, False]


def test_statuses_below_zero_are_helicones_own(read: Any) -> None:
    rows = read(
        {"response_status": 429}, {"response_status": -1}, {"response_status": -3}, {"response_status": -2}, {"response_status": None}
    )
    assert rows.column("status") == ["failure", "failure", "cancelled"]
    assert rows.column("error_type") == ["429", "-1", "-3"]
    assert [reason for _, reason in rows.refused] == ["response_status is missing, or the request is pending"] * 2


def test_labels_are_properties_with_or_without_their_prefix(read: Any) -> None:
    given = {"Helicone-Property-task_type": "code", "complexity": "low", "Helicone-Session-Id": "s", "team": "search"}
    rows = read({"properties": given}, {"properties": json.dumps(given)})
    assert rows.column("task_type") == ["code", "code"]
    assert rows.column("complexity") == [0.25, 0.25]
    assert rows.column("session_id") == ["s", "s"]
    assert rows.column("team") == ["search", "search"]


def test_ratings_are_thumbs_and_quality_is_a_score_between_0_and_1(read: Any) -> None:
    rows = read(
        {"feedback_rating": True, "scores": {"quality": 0.8}}, {"feedback_rating": False, "scores": {"quality": 80}}, {"scores": {"x": 1}}
    )
    assert rows.column("user_rating") == [1.0, 0.0, None]
    assert rows.column("quality_score") == [0.8, None, None]
    assert rows.result.nulled == {"quality_score": 1}


def test_what_a_request_needs_is_in_its_body_and_its_assets_where_they_are_exported(read: Any) -> None:
    body = {"messages": [{"role": "user", "content": [{"type": "input_audio"}]}], "tools": [{"name": "f"}], "max_tokens": 7}
    rows = read(
        {}, {"request_body": body, "response_body": {"service_tier": "priority"}}, {"request_body": {"messages": []}, "assets": ["a-1"]}
    )
    names = ("has_image", "has_audio", "has_tools", "has_schema", "max_output_tokens", "service_tier")
    assert [[row[name] for name in names] for row in rows.rows] == [
        [None] * 6,
        [False, True, True, False, 7, "priority"],
        [True, None, None, None, None, None],
    ]


def test_the_kind_is_told_by_the_path_else_the_address_else_the_body(read: Any) -> None:
    rows = read(
        {"request_path": "/v1/embeddings"},
        {"target_url": "https://api.openai.com/v1/moderations"},
        {"request_body": {"messages": [{"role": "user", "content": "hi"}]}, "request_model": "my-embed"},
        {},
    )
    assert rows.column("operation") == ["embedding", "moderation", "chat", None]


def test_reasoning_tokens_are_kept_by_themselves(read: Any) -> None:
    assert read({"reasoning_tokens": 12}).row["reasoning_tokens"] == 12


def test_labels_are_read_as_headers_spell_them(read: Any) -> None:
    spelt = ("Task-Type", "task-type", "Helicone-Property-Task-Type", "helicone-property", "Tasktype")
    rows = read(*({"properties": {name: "code", "Team": "search"}} for name in spelt))
    assert rows.column("task_type") == ["code", "code", "code", None, None]
    assert rows.column("team") == ["search"] * 5
