"""What Portkey's export reads as: the traps of the format one by one, on records made by hand."""

from __future__ import annotations

import csv
import io
import json
from datetime import datetime
from pathlib import Path
from typing import Any

import pytest

from tests.ingest.reading import Read, json_lines, read_logs

BASE: dict[str, Any] = {
    "id": "p",
    "trace_id": "t",
    "created_at": "2026-11-20T13:46:19.963Z",
    "is_success": 1,
    "ai_org": "openai",
    "ai_model": "gpt-4o",
    "req_units": 1200,
    "res_units": 25,
    "total_units": 1225,
    "cost": 0.197,
    "cost_currency": "USD",
    "response_status_code": 200,
    "response_time": 1500,
    "cache_status": "MISS",
    "retry_success_count": 0,
    "metadata": {"_user": "jane", "task_type": "code", "complexity": "high"},
}


@pytest.fixture
def read(tmp_path: Path) -> Any:
    def rows(*changes: dict[str, Any]) -> Read:
        (tmp_path / "logs.jsonl").write_bytes(
            json_lines(
                BASE | {"id": f"p-{number}", "created_at": f"2026-11-20T13:{number:02d}:19.963Z"} | change
                for number, change in enumerate(changes)
            )
        )
        read = read_logs(tmp_path / "logs.jsonl", tmp_path / "home")
        assert read.result.formats == ("portkey",)
        return read

    return rows


def test_costs_are_in_cents_and_times_in_milliseconds(read: Any) -> None:
    row = read({}).row
    assert row["cost_usd"] == pytest.approx(0.00197, abs=1e-12)
    assert row["latency_ms"] == 1500.0
    assert row["started_at"] == datetime(2026, 11, 20, 13, 0, 19, 963000)
    assert (row["model"], row["provider"], row["prompt_tokens"], row["completion_tokens"]) == ("gpt-4o", "openai", 1200, 25)
    assert (row["attempt_id"], row["session_id"], row["task_type"], row["complexity"]) == ("p-0", "t", "code", 0.75)
    assert (row["retries"], row["is_cache_hit"], len(row["user_hash"])) == (0, False, 32)


def test_a_cost_in_another_currency_or_of_nothing_for_tokens_is_unknown(read: Any) -> None:
    rows = read(
        {"cost_currency": "EUR"},
        {"cost_currency": None},
        {"cost": 0},
        {"cost": 0, "cache_status": "SEMANTIC HIT"},
        {"cost": 0, "is_success": 0, "response_status_code": 500},
        {"cost": None},
    )
    assert rows.column("cost_usd") == [None, pytest.approx(0.00197), None, 0.0, None, None]
    assert rows.column("is_cache_hit")[3] is True


def test_success_is_said_in_two_ways(read: Any) -> None:
    rows = read(
        {"is_success": True},
        {"is_success": 0, "response_status_code": 429},
        {"is_success": None, "response_status_code": 503},
        {"is_success": "false", "response_status_code": 499},
    )
    assert rows.column("status") == ["success", "failure", "failure", "cancelled"]
    assert rows.column("error_type") == [None, "429", "503", "499"]


def test_columns_that_were_not_chosen_are_null(tmp_path: Path) -> None:
    chosen = {"created_at": "2026-11-20 13:46:19", "trace_id": "t", "ai_model": "m", "response_status_code": 200}
    (tmp_path / "a.jsonl").write_bytes(json_lines([chosen]))
    row = read_logs(tmp_path / "a.jsonl", tmp_path / "home").row
    assert (row["attempt_id"], row["cost_usd"], row["latency_ms"]) == ("t/2026-11-20 13:46:19", None, None)


def test_csv_reads_as_json_lines_do(read: Any, tmp_path: Path) -> None:
    out = io.StringIO()
    writer = csv.writer(out)
    record = BASE | {"id": "p-0", "created_at": "2026-11-20T13:00:19.963Z"}
    writer.writerow(record)
    writer.writerow([json.dumps(value) if isinstance(value, dict) else value for value in record.values()])
    (tmp_path / "a.csv").write_text(out.getvalue(), encoding="utf-8")
    apart = {"source_object", "user_hash"}
    lines, table = read({}).row, read_logs(tmp_path / "a.csv", tmp_path / "other").row
    assert {name: table[name] for name in table.keys() - apart} == {name: lines[name] for name in lines.keys() - apart}


@pytest.mark.parametrize(
    ("changes", "why"),
    [
        ({"id": None, "trace_id": ""}, "no key: id or trace_id"),
        ({"cost": -1}, "cost is negative"),
        ({"cost": "much"}, "cost is not a number"),
        ({"created_at": 1_795_400_000_000}, "created_at is in milliseconds"),
        ({"is_success": None, "response_status_code": None}, "neither is_success nor"),
        ({"ai_model": None}, "ai_model is empty"),
    ],
)
def test_rows_that_cannot_be_used_are_refused_with_the_reason(changes: dict[str, Any], why: str, read: Any) -> None:
    rows = read({}, changes)
    assert rows.result.ingested == 1
    assert why in rows.refused[0][1]


ASKED = {
    "model": "gpt-4o",
    "messages": [{"role": "user", "content": [{"type": "image_url", "image_url": {"url": "https://a/b.png"}}]}],
    "tools": [{"type": "function", "function": {"name": "look_up"}}],
    "response_format": {"type": "json_schema", "json_schema": {}},
    "max_completion_tokens": 900,
    "reasoning_effort": "low",
    "service_tier": "auto",
}
NEEDS = ("has_image", "has_audio", "has_tools", "has_schema", "max_output_tokens", "reasoning_effort", "service_tier")


def test_what_a_request_needs_is_in_its_body_where_the_export_holds_it(read: Any) -> None:
    answered = {"service_tier": "flex", "usage": {"completion_tokens_details": {"reasoning_tokens": 9}}}
    plain = {"messages": [{"role": "user", "content": 'what is "type": "image" in JSON?'}]}
    rows = read(
        {}, {"request": ASKED, "response": answered}, {"request": {"url": "/v1/chat/completions", "body": ASKED}}, {"request": plain}
    )
    full = [True, False, True, True, 900, "low"]
    assert [[row[name] for name in NEEDS] for row in rows.rows] == [
        [None] * 7,
        [*full, "flex"],
        [*full, None],
        [False, False, False, False, None, None, None],
    ]
    assert rows.column("reasoning_tokens") == [None, 9, None, None]


def test_a_call_is_of_the_kind_that_its_address_or_body_says_before_its_models_name(read: Any) -> None:
    rows = read(
        {},
        {"request_url": "https://api.openai.com/v1/embeddings", "ai_model": "ours"},
        {"request": {"messages": []}, "ai_model": "our-embedding"},
        {"request": {"query": "q", "documents": ["a"]}, "ai_model": "ours"},
        {"request": {"url": "/v1/audio/speech", "body": {"input": "hello"}}, "ai_model": "ours"},
        {"ai_model": "text-embedding-3-small"},
        {"request_url": "/v1/files/file-1", "ai_model": ""},
    )
    assert rows.column("operation") == [None, "embedding", "chat", "rerank", "speech", "embedding"]
    assert rows.result.left_out == {"requests that spend nothing and answer nothing new": 1}


def test_tokens_of_a_cache_are_in_the_answer_and_are_counted_once(read: Any) -> None:
    rows = read(
        {"response": {"usage": {"prompt_tokens_details": {"cached_tokens": 1024}}}},
        {
            "req_units": 100,
            "total_units": 125,
            "response": {"body": {"usage": {"cache_read_input_tokens": 900, "cache_creation_input_tokens": 50}}},
        },
    )
    assert rows.column("prompt_tokens") == [1200, 1050]
    assert (rows.column("cached_tokens"), rows.column("cache_write_tokens")) == ([1024, 900], [None, 50])
