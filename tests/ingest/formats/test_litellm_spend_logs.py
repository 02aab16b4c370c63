"""What a dump of LiteLLM's spend table reads as: its traps one by one, as CSV, Parquet and JSON lines."""

from __future__ import annotations

import csv
import io
import json
from datetime import datetime
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from tests.ingest.reading import Read, json_lines, read_logs

METADATA: dict[str, Any] = {
    "status": "success",
    "user_api_key_team_alias": "search",
    "attempted_retries": 0,
    "max_retries": 2,
    "attempted_fallbacks": 0,
    "litellm_overhead_time_ms": 9.5,
    "cost_breakdown": {"total_cost": 0.01},
    "usage_object": {"prompt_tokens_details": {"cached_tokens": 64}, "completion_tokens_details": {"reasoning_tokens": 8}},
}
BASE: dict[str, Any] = {
    "request_id": "chatcmpl",
    "call_type": "acompletion",
    "api_key": "hash",
    "spend": 0.01,
    "total_tokens": 110,
    "prompt_tokens": 100,
    "completion_tokens": 10,
    "startTime": "2026-11-20 13:46:19.963",
    "endTime": "2026-11-20 13:46:21.463",
    "request_duration_ms": None,
    "completionStartTime": "2026-11-20 13:46:21.463",
    "model": "openai/gpt-4o",
    "model_id": "d1",
    "model_group": "group",
    "custom_llm_provider": "openai",
    "user": "",
    "metadata": METADATA,
    "cache_hit": "None",
    "request_tags": [],
    "team_id": "t-1",
    "end_user": "",
    "session_id": "s",
    "status": "success",
    "litellm_call_id": "call",
}


def spent(number: int = 0, **changes: Any) -> dict[str, Any]:
    times = {name: BASE[name].replace("13:46", f"13:{number:02d}") for name in ("startTime", "endTime", "completionStartTime")}
    metadata = METADATA | changes.pop("metadata", {})
    return BASE | {"request_id": f"r-{number}", "litellm_call_id": f"call-{number}"} | times | changes | {"metadata": metadata}


def as_csv(records: list[dict[str, Any]]) -> bytes:
    out = io.StringIO()
    writer = csv.writer(out)
    writer.writerow(records[0])
    for record in records:
        writer.writerow([json.dumps(value) if isinstance(value, (dict, list)) else value for value in record.values()])
    return out.getvalue().encode()


def as_parquet(records: list[dict[str, Any]]) -> bytes:
    times = dict.fromkeys(("startTime", "endTime", "completionStartTime"), pa.timestamp("ms"))
    numbers = {"spend": pa.float32()} | dict.fromkeys(
        ("total_tokens", "prompt_tokens", "completion_tokens", "request_duration_ms"), pa.int32()
    )

    def of(name: str, value: Any) -> Any:
        if name in times and value:
            return datetime.fromisoformat(value)
        return json.dumps(value) if isinstance(value, (dict, list)) else value

    rows = [{name: of(name, value) for name, value in record.items()} for record in records]
    out = io.BytesIO()
    pq.write_table(pa.Table.from_pylist(rows, pa.schema([(name, (times | numbers).get(name, pa.string())) for name in BASE])), out)
    return out.getvalue()


WRITERS = {"csv": as_csv, "parquet": as_parquet, "jsonl": json_lines}


@pytest.fixture(params=WRITERS)
def read(request: Any, tmp_path: Path) -> Any:
    """Reads rows, each a set of changes to BASE, from each kind of file."""

    def rows(*changes: dict[str, Any]) -> Read:
        place = tmp_path / f"spend.{request.param}"
        place.write_bytes(WRITERS[request.param]([spent(number, **change) for number, change in enumerate(changes)]))
        read = read_logs(place, tmp_path / "home")
        assert read.result.formats == ("litellm_spend_logs",)
        return read

    return rows


def test_a_row_is_an_attempt_with_times_in_utc(read: Any) -> None:
    row = read({}).row
    assert (row["attempt_id"], row["request_id"], row["session_id"]) == ("r-0", "call-0", "s")
    assert (row["started_at"], row["latency_ms"]) == (datetime(2026, 11, 20, 13, 0, 19, 963000), 1500.0)
    assert (row["model"], row["provider"], row["provider_model"]) == ("group", "openai", "gpt-4o")
    assert (row["prompt_tokens"], row["cached_tokens"], row["completion_tokens"], row["reasoning_tokens"]) == (100, 64, 10, 8)
    assert row["cost_usd"] == pytest.approx(0.01, rel=1e-6)
    assert (row["retries"], row["routing_latency_ms"], row["team"], row["status"]) == (0, 9.5, "search", "success")


def test_only_streams_have_a_first_token(read: Any) -> None:
    rows = read({}, {"completionStartTime": "2026-11-20 13:01:20.213"}, {"completionStartTime": None})
    assert rows.column("ttft_ms") == [None, 250.0, None]


def test_a_missing_end_leaves_the_duration_in_milliseconds(read: Any) -> None:
    rows = read({"endTime": None, "request_duration_ms": 750}, {"endTime": None})
    assert rows.column("latency_ms") == [750.0, None]


def test_retries_and_fallbacks_are_the_tables_own(read: Any) -> None:
    rows = read(
        {"metadata": {"attempted_retries": 2}},
        {"metadata": {"attempted_fallbacks": 1, "original_model_group": "first", "routing_decision": {"routed_model": "first"}}},
        {"metadata": {"routing_decision": {"routed_model": "routed", "cause": "classifier_plugin", "tier": "r3"}}},
        {"metadata": {"attempted_retries": None, "attempted_fallbacks": None}},
    )
    assert rows.column("retries") == [2, 0, 0, None]
    assert rows.column("fallback_from") == [None, "first", None, None]
    assert rows.column("model") == ["group", "group", "routed", "group"]
    assert rows.column("routing_latency_ms") == [None, None, 9.5, None]
    assert rows.column("routing_rule_id") == [None, None, "r3", None]
    assert rows.column("routing_reason")[2] == "classifier_plugin"


def test_what_the_built_in_router_went_by_and_whose_key_it_was_are_columns(read: Any) -> None:
    routed = {"routing_decision": {"tier": "COMPLEX", "score": 0.41}}
    rows = read({"metadata": routed | {"user_api_key_alias": "batch"}}, {"metadata": routed, "api_key": "aaa"}, {"api_key": "bbb"})
    assert rows.column("router_tier") == ["COMPLEX", "COMPLEX", None]
    assert rows.column("router_score") == [0.41, 0.41, None]
    assert len(set(rows.column("key_hash")) - {None, "batch", "aaa", "bbb"}) == 3


def test_the_failure_and_its_fallback_are_one_request(read: Any) -> None:
    failed = {"litellm_call_id": "c", "status": "failure", "model_group": "first", "spend": 0, "prompt_tokens": 0, "completion_tokens": 0}
    rows = read(failed, {"litellm_call_id": "c", "metadata": {"attempted_fallbacks": 1}})
    assert rows.column("request_id") == ["c", "c"]
    assert rows.column("fallback_from") == [None, "first"]
    assert rows.column("cost_usd")[0] is None
    assert rows.column("prompt_tokens") == [None, 100]


def test_nothing_spent_is_unknown_unless_it_was_priced_or_came_from_the_cache(read: Any) -> None:
    unpriced = {"cost_breakdown": None}
    rows = read(
        {"spend": 0},
        {"spend": 0, "metadata": unpriced},
        {"spend": 0, "metadata": unpriced, "cache_hit": "True"},
        {"spend": 0, "metadata": {**unpriced, "status": None}, "cache_hit": "False"},
    )
    assert rows.column("cost_usd") == [0.0, None, 0.0, None]
    assert rows.column("is_cache_hit") == [None, None, True, False]


def test_failures_carry_a_normalised_error(read: Any) -> None:
    rows = read(
        {"status": "failure", "metadata": {"error_information": {"normalized_error": "429_RATE_LIMIT_EXCEEDED", "error_class": "X"}}},
        {"status": None, "metadata": {"status": "failure", "error_information": {"error_class": "Timeout"}}},
        {"status": "failure", "metadata": {"error_information": {"error_class": "CancelledError", "error_code": "499"}}},
        {"status": None, "metadata": {"status": None}},
    )
    assert rows.column("status") == ["failure", "failure", "cancelled", "success"]
    assert rows.column("error_type") == ["429_RATE_LIMIT_EXCEEDED", "Timeout", "CancelledError", None]


def test_cached_tokens_lie_in_one_of_four_places(read: Any) -> None:
    def usage(place: str, details: dict[str, Any]) -> dict[str, Any]:
        return {"metadata": {"usage_object": None, place: details}}

    rows = read(
        usage("usage_object", {"cache_read_input_tokens": 1}),
        usage("additional_usage_values", {"cache_read_input_tokens": 2}),
        usage("additional_usage_values", {"prompt_tokens_details": {"cached_tokens": 3}}),
        usage("additional_usage_values", {}),
    )
    assert rows.column("cached_tokens") == [1, 2, 3, None]


def test_labels_come_from_metadata_and_tags(read: Any) -> None:
    rows = read(
        {"metadata": {"spend_logs_metadata": {"task_type": "code", "complexity": "low"}}, "request_tags": ["task_type:chat", "rule:r1"]},
        {"request_tags": ["User-Agent: x", "task_type:chat", "team:tag"], "metadata": {"user_api_key_team_alias": None}},
        {"metadata": {"user_api_key_team_alias": None, "user_api_key_user_id": "jane"}},
        {"end_user": "jane"},
    )
    assert rows.column("task_type") == ["code", "chat", None, None]
    assert rows.column("complexity") == [0.25, None, None, None]
    assert rows.column("routing_rule_id") == ["r1", None, None, None]
    assert rows.column("team") == ["search", "tag", "t-1", "search"]
    hashes = rows.column("user_hash")
    assert hashes[:2] == [None, None]
    assert hashes[2] == hashes[3] != "jane"


def test_rows_that_cannot_be_used_are_refused_with_the_reason(read: Any) -> None:
    refused: list[tuple[dict[str, Any], str]] = [
        ({"request_id": ""}, "no key: request_id"),
        ({"startTime": None}, "startTime is missing"),
        ({"endTime": "2026-11-20 12:00:00"}, "latency (endTime less startTime) is negative"),
        ({"spend": -0.5}, "spend is negative"),
        ({"status": "odd"}, "status is neither success nor failure"),
        ({"model": None, "model_group": ""}, "no model"),
    ]
    rows = read({}, *(changes for changes, _ in refused))
    assert rows.result.ingested == 1
    for (_, reason), (_, why) in zip(rows.refused, refused, strict=True):
        assert why in reason


def test_metadata_that_is_no_json_leaves_the_row(tmp_path: Path) -> None:
    record = spent() | {"metadata": "{broken", "request_tags": "{a,b}"}
    (tmp_path / "a.csv").write_bytes(as_csv([record]))
    assert read_logs(tmp_path / "a.csv", tmp_path / "home").row["team"] == "t-1"


def lines(place: Path, *changes: dict[str, Any]) -> Read:
    (place / "spend.jsonl").write_bytes(json_lines([spent(number, **change) for number, change in enumerate(changes)]))
    return read_logs(place / "spend.jsonl", place / "home")


def test_what_a_request_needs_is_in_its_body_where_the_gateway_keeps_it(tmp_path: Path) -> None:
    body = {
        "messages": [{"role": "user", "content": [{"type": "image"}]}],
        "tools": [{"name": "f"}],
        "max_tokens": 5,
        "reasoning_effort": "high",
    }
    rows = lines(
        tmp_path,
        {"messages": {}, "proxy_server_request": {}},
        {"proxy_server_request": body, "response": {"service_tier": "flex"}},
        {"messages": [{"role": "user", "content": "hi"}], "proxy_server_request": "{}"},
        {"metadata": {"usage_object": {"prompt_tokens_details": {"image_tokens": 4, "audio_tokens": 0}, "service_tier": "priority"}}},
    )
    names = ("has_image", "has_audio", "has_tools", "max_output_tokens", "reasoning_effort", "service_tier")
    assert [[row[name] for name in names] for row in rows.rows] == [
        [None] * 6,
        [True, False, True, 5, "high", "flex"],
        [False, False, False, None, None, None],
        [True, False, None, None, None, "priority"],
    ]


def test_tokens_written_beside_the_prompt_are_counted_as_the_total_says(tmp_path: Path) -> None:
    usage = {"usage_object": {"cache_creation_input_tokens": 90, "cache_read_input_tokens": 60}}
    rows = lines(
        tmp_path,
        {"total_tokens": 200, "metadata": usage},
        {"total_tokens": 110, "metadata": usage | {"usage_object": {"cache_write_input_tokens": 30}}},
    )
    assert (rows.column("prompt_tokens"), rows.column("cache_write_tokens")) == ([190, 100], [90, 30])


def test_kinds_come_from_the_call_type_else_the_route_and_health_checks_that_cost_nothing_are_left_out(tmp_path: Path) -> None:
    rows = lines(
        tmp_path,
        {"call_type": "aembedding"},
        {"call_type": "", "metadata": {"user_api_key_request_route": "/v1/rerank"}},
        {"call_type": "acompletion", "spend": 0, "request_tags": ["litellm-internal-health-check"]},
        {
            "custom_llm_provider": "azure",
            "model": "azure/our-deployment",
            "metadata": {"model_map_information": {"model_map_key": "azure/gpt-4o"}},
        },
    )
    assert rows.column("operation") == ["embedding", "rerank", "chat"]
    assert rows.column("provider_model")[-1] == "gpt-4o"
    assert rows.result.left_out == {"calls that spend nothing and answer nothing new": 1}


def test_a_table_that_a_script_or_a_database_wrote_reads_as_its_own_dump_does(tmp_path: Path) -> None:
    row = spent(
        metadata={"user_api_key_team_alias": "it's", "task_type": None}, request_tags=["feature:search", "beta"], completionStartTime=None
    )
    dumped = as_csv([row])
    (tmp_path / "dump.csv").write_bytes(dumped)
    kept = read_logs(tmp_path / "dump.csv", tmp_path / "home").row
    assert (kept["team"], kept["feature"], kept["tags"], kept["ttft_ms"], kept["cached_tokens"]) == ("it's", "search", "beta", None, 64)
    for number, nothing in enumerate(("\\N", "NULL", "NaN", "nan")):
        out = io.StringIO()
        writer = csv.writer(out)
        # Objects as Python prints them, as by pandas.
        writer.writerows([row, [nothing if value in (None, "") else value for value in row.values()]])
        (tmp_path / "other.csv").write_text(out.getvalue(), encoding="utf-8")
        found = read_logs(tmp_path / "other.csv", tmp_path / f"home-{number}")
        where_from = {"source_object", "ingested_at", "key_hash", "user_hash"}
        assert (found.refused, found.result.nulled) == ([], {})
        assert {name: value for name, value in found.row.items() if name not in where_from} == {
            name: value for name, value in kept.items() if name not in where_from
        }
