"""What an access log of Envoy AI Gateway reads as: the traps of the format one by one, on records made by hand."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from tests.ingest.reading import Read, json_lines, read_logs

BASE: dict[str, Any] = {
    "start_time": "2026-11-20T13:46:19.894Z",
    "duration": 1526,
    "gen_ai.provider.name": "default/tars/route/aigw-run/rule/0/ref/0",
    "gen_ai.request.model": "gpt-4o-mini",
    "gen_ai.request.model_override": None,
    "gen_ai.usage.input_tokens": 15,
    "gen_ai.usage.output_tokens": 7,
    "response_code": 200,
    "response_flags": "-",
    "route_name": "httproute/default/aigw-run/rule/0/match/0/*",
    "x-envoy-upstream-service-time": "451",
    "x-request-id": "e",
}


@pytest.fixture
def read(tmp_path: Path) -> Any:
    def rows(*changes: dict[str, Any]) -> Read:
        (tmp_path / "logs.jsonl").write_bytes(
            json_lines(
                BASE | {"x-request-id": f"e-{number}", "start_time": f"2026-11-20T13:{number:02d}:19.894Z"} | change
                for number, change in enumerate(changes)
            )
        )
        read = read_logs(tmp_path / "logs.jsonl", tmp_path / "home")
        assert read.result.formats == ("envoy_ai_gateway",)
        return read

    return rows


def test_the_duration_is_in_milliseconds_and_the_upstreams_time_is_no_routing_latency(read: Any) -> None:
    row = read({}).row
    assert (row["latency_ms"], row["routing_latency_ms"], row["cost_usd"]) == (1526.0, None, None)
    assert (row["provider"], row["routing_rule_id"], row["status"], row["error_type"]) == ("tars", "aigw-run/rule/0", "success", None)


def test_the_names_of_older_documentation_are_read_too(read: Any) -> None:
    new, old = {name for name in BASE if name.startswith("gen_ai.")}, {}
    old |= {"genai_model_name": "gpt-4o", "genai_model_name_override": "gpt-4o-mini", "genai_tokens_input": 15, "genai_tokens_output": 7}
    old |= {"genai_backend_name": "default/tars/route/aigw-run/rule/0/ref/0", "genai_tokens_cache_creation_input": 4}
    row = read(dict.fromkeys(new, "-") | old).row
    assert (row["model"], row["provider_model"], row["provider"]) == ("gpt-4o", "gpt-4o-mini", "tars")
    assert (row["prompt_tokens"], row["completion_tokens"], row["cache_write_tokens"]) == (15, 7, 4)


def test_calls_to_tools_in_the_same_log_are_no_records(tmp_path: Path) -> None:
    tool = {"genai_model_name": None, "genai_backend_name": None, "mcp_method": "tools/call", "mcp_backend": "context7", "duration": 653}
    tool |= {"response_code": 200, "start_time": "2026-11-20T13:46:19.894Z", "x-request-id": "t"}
    (tmp_path / "logs.jsonl").write_bytes(json_lines([tool, BASE]))
    read = read_logs(tmp_path / "logs.jsonl", tmp_path / "home")
    assert (read.result.records, read.row["attempt_id"], read.refused) == (1, "e", [])


def test_a_dash_is_nothing(read: Any) -> None:
    nothing = {"gen_ai.usage.input_tokens": "-", "gen_ai.usage.output_tokens": "-", "route_name": "-", "gen_ai.provider.name": "-"}
    row = read(nothing | {"duration": "-", "task_type": "-", "x-session-id": "-"}).row
    names = ("prompt_tokens", "completion_tokens", "routing_rule_id", "provider", "latency_ms", "task_type", "session_id")
    assert [row[name] for name in names] == [None] * 7


def test_codes_and_flags_say_how_it_ended(read: Any) -> None:
    rows = read({"response_code": 503, "response_flags": "UF,URX"}, {"response_flags": "DC"}, {"response_code": 429}, {"response_code": 0})
    assert rows.column("status") == ["failure", "cancelled", "failure", "failure"]
    assert rows.column("error_type") == ["UF,URX", "DC", "429", "0"]


def test_models_and_labels_are_what_the_operator_captured(read: Any) -> None:
    rows = read(
        {"gen_ai.request.model_override": "mini-2024", "x-task-type": "code", "x-session-id": "s", "gen_ai.usage.cached_input_tokens": 5},
        {
            "gen_ai.response.model": "seen",
            "task_type": "chat",
            "x-user-id": "jane",
            "llm_cached_input_token": "6",
            "gen_ai.provider.name": "openai",
        },
    )
    assert rows.column("provider_model") == ["mini-2024", "seen"]
    assert rows.column("task_type") == ["code", "chat"]
    assert rows.column("session_id") == ["s", None]
    assert rows.column("cached_tokens") == [5, 6]
    assert rows.column("provider") == ["tars", "openai"]
    assert rows.rows[1]["user_hash"] not in {None, "jane"}


@pytest.mark.parametrize(
    ("changes", "why"),
    [
        ({"x-request-id": "-"}, "no key: x-request-id"),
        ({"gen_ai.request.model": "-"}, "gen_ai.request.model is empty"),
        ({"response_code": None}, "response_code is no status"),
        ({"duration": -1}, "duration is negative"),
        ({"start_time": "-"}, "start_time is missing"),
    ],
)
def test_lines_that_cannot_be_used_are_refused_with_the_reason(changes: dict[str, Any], why: str, read: Any) -> None:
    rows = read({}, changes)
    assert rows.result.ingested == 1
    assert why in rows.refused[0][1]


def test_tokens_by_the_names_of_the_route_s_costs_are_counted_once(read: Any) -> None:
    named = {"gen_ai.usage.input_tokens": None, "gen_ai.usage.output_tokens": None, "llm_input_token": 100, "llm_output_token": 10}
    beside = named | {"llm_cached_input_token": 900, "llm_total_token": 1010}
    rows = read(named | {"llm_cached_input_token": 40, "llm_total_token": 110}, beside, {"llm_reasoning_token": 3})
    assert rows.column("prompt_tokens") == [100, 1000, 15]
    assert rows.column("cached_tokens") == [40, 900, None]
    assert rows.column("reasoning_tokens") == [None, None, 3]


def test_the_kind_is_told_by_the_operation_or_the_path_and_needs_never(read: Any) -> None:
    rows = read(
        {"gen_ai.operation.name": "embeddings"},
        {":path": "/cohere/v2/rerank"},
        {"x-envoy-origin-path": "/v1/models", "method": "GET", "gen_ai.usage.input_tokens": "-"},
        {},
    )
    assert rows.column("operation") == ["embedding", "rerank", None]
    assert rows.result.left_out == {"calls to tools, and requests that answer nothing new": 1}
    assert {row[name] for row in rows.rows for name in ("has_image", "has_tools", "has_schema", "service_tier", "max_output_tokens")} == {
        None
    }
