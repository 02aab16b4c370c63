"""What a Kong log reads as: the traps of the format one by one, on records made by hand."""

from __future__ import annotations

import json
from datetime import datetime
from pathlib import Path
from typing import Any

import pytest

from tests.ingest.reading import Read, json_lines, read_logs

BASE: dict[str, Any] = {
    "upstream_status": 200,
    "ai": {"proxy": {}},
    "latencies": {"request": 2700, "kong": 30, "proxy": 2670},
    "tries": [{"code": 200}],
    "route": {"name": "chat"},
    "consumer": {"username": "jane"},
}
START_MS = 1_795_400_000_123

USAGE = {"prompt_tokens": 28, "completion_tokens": 20, "total_tokens": 48, "cost": 0.0038, "time_per_token": 133}
META = {"request_model": "command", "response_model": "command-r", "provider_name": "cohere", "llm_latency": 2600}


def ai(plugin: str = "proxy", usage: dict[str, Any] | None = None, **others: Any) -> dict[str, Any]:
    return {"ai": {plugin: {"usage": USAGE if usage is None else usage, "meta": META, **others}}}


@pytest.fixture
def read(tmp_path: Path) -> Any:
    def rows(*changes: dict[str, Any]) -> Read:
        (tmp_path / "logs.jsonl").write_bytes(
            json_lines(
                {
                    **BASE,
                    "request": {"id": f"k-{number}"},
                    "started_at": START_MS + 10_000 * number,
                    **change,
                }
                for number, change in enumerate(changes)
            )
        )
        read = read_logs(tmp_path / "logs.jsonl", tmp_path / "home")
        assert read.result.formats == ("kong",)
        return read

    return rows


def test_the_start_and_the_latencies_are_in_milliseconds(read: Any) -> None:
    row = read(ai()).row
    assert row["started_at"] == datetime(2026, 11, 23, 2, 13, 20, 123000)
    assert (row["latency_ms"], row["routing_latency_ms"]) == (2700.0, 30.0)
    assert (row["model"], row["provider_model"], row["provider"], row["cost_usd"]) == ("command", "command-r", "cohere", 0.0038)
    assert (row["prompt_tokens"], row["completion_tokens"], row["retries"], row["routing_rule_id"]) == (28, 20, 0, "chat")


@pytest.mark.parametrize("factor", [1e-3, 1e3, 1e6])
def test_a_start_in_another_unit_is_refused_not_guessed(factor: float, read: Any) -> None:
    assert "started_at is not in milliseconds" in read(ai() | {"started_at": int(START_MS * factor)}).refused[0][1]


def test_without_its_own_latencies_the_models_stands_in(read: Any) -> None:
    rows = read(ai() | {"latencies": None})
    assert (rows.row["latency_ms"], rows.row["routing_latency_ms"]) == (2600.0, None)


def test_tries_are_retries_and_pollute_the_routing_latency(read: Any) -> None:
    rows = read(ai() | {"tries": [{"code": 503}, {"code": 200}], "upstream_status": "503, 200"}, ai() | {"tries": None})
    assert rows.column("retries") == [1, None]
    assert rows.column("routing_latency_ms") == [None, 30.0]
    assert rows.column("status") == ["success", "success"]


def test_plugins_have_other_names_and_older_ones_other_words(read: Any) -> None:
    rows = read(
        ai("ai-proxy-advanced"),
        ai("ai-proxy", {"prompt_token": 5, "completion_token": 6}),
        ai(usage=USAGE | {"prompt_tokens_details": {"cached_tokens": 8}}),
    )
    assert rows.column("prompt_tokens") == [28, 5, 28]
    assert rows.column("completion_tokens") == [20, 6, 20]
    assert rows.column("cached_tokens") == [None, None, 8]


def test_a_cost_of_zero_for_tokens_is_unknown_unless_the_cache_answered(read: Any) -> None:
    rows = read(
        ai(usage=USAGE | {"cost": 0}), ai(usage=USAGE | {"cost": 0}, cache={"cache_status": "Hit"}), ai(cache={"cache_status": "Miss"})
    )
    assert rows.column("cost_usd") == [None, 0.0, 0.0038]
    assert rows.column("is_cache_hit") == [None, True, False]


def test_failures_are_told_by_the_last_status(read: Any) -> None:
    rows = read(
        ai() | {"upstream_status": "429"}, ai() | {"upstream_status": None, "response": {"status": 500}}, ai() | {"upstream_status": 499}
    )
    assert rows.column("status") == ["failure", "failure", "cancelled"]
    assert rows.column("error_type") == ["429", "500", "499"]


def test_requests_that_no_ai_plugin_saw_are_no_records(read: Any) -> None:
    # An empty table of Lua is written as either.
    rows = read(ai(), {"ai": None}, ai() | {"request": {}}, {"ai": {}}, {"ai": []})
    assert (rows.result.records, rows.result.ingested) == (2, 1)
    assert rows.refused == [(3, "no key: request.id is not there")]


def test_a_batch_of_the_http_log_is_an_array(tmp_path: Path) -> None:
    batch = [{**BASE, "started_at": START_MS, "request": {"id": str(number)}, **ai()} for number in range(3)]
    (tmp_path / "a.json").write_text(json.dumps(batch), encoding="utf-8")
    assert read_logs(tmp_path / "a.json", tmp_path / "home").result.ingested == 3


def test_what_a_request_needs_is_in_the_payload_where_the_plugin_logs_it(read: Any) -> None:
    asked = {"messages": [{"role": "user", "content": "hi"}], "tools": [{"name": "f"}], "max_tokens": 5, "service_tier": "flex"}
    rows = read(ai(), ai(payload={"request": json.dumps(asked)}), ai("ai-proxy-advanced", payload={"request": asked}))
    names = ("operation", "has_image", "has_audio", "has_tools", "has_schema", "max_output_tokens", "service_tier")
    needs = ["chat", False, False, True, False, 5, "flex"]
    assert [[row[name] for name in names] for row in rows.rows] == [[None] * 7, needs, needs]


def test_tokens_of_a_cache_are_counted_once_by_every_name(read: Any) -> None:
    within = USAGE | {"prompt_tokens_details": {"cached_tokens": 20}}
    beside = USAGE | {"cache_read_input_tokens": 900, "cache_creation_input_tokens": 100}
    rows = read(ai(usage=within), ai(usage=beside))
    assert rows.column("prompt_tokens") == [28, 1028]
    assert (rows.column("cached_tokens"), rows.column("cache_write_tokens")) == ([20, 900], [None, 100])


def test_a_reading_of_files_answers_nothing_new_unless_it_counts_tokens(read: Any) -> None:
    listing = {"request": {"id": "l", "uri": "/openai/v1/files", "method": "GET"}}
    rows = read(ai(usage={}) | listing, ai() | {"request": {"id": "c", "uri": "/my/files"}})
    assert rows.column("attempt_id") == ["c"]
    assert rows.result.left_out == {"requests that no AI plugin saw, or that answer nothing new": 1}


def test_a_first_token_is_one_of_a_stream(read: Any) -> None:
    usage = USAGE | {"time_to_first_token": 250}
    rows = read(*(ai(usage=usage, meta=META | mode) for mode in ({"request_mode": "stream"}, {}, {"request_mode": "oneshot"})), ai())
    assert rows.column("ttft_ms") == [250.0, 250.0, None, None]
