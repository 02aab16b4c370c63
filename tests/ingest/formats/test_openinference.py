"""What a span of OpenInference reads as: in traces of OpenTelemetry, and as Phoenix and Arize export it."""

from __future__ import annotations

import json
from datetime import datetime
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.csv
import pyarrow.parquet as pq
import pytest

from tests.ingest.formats import test_otlp as otlp
from tests.ingest.formats.test_otlp import document, span
from tests.ingest.reading import Read, json_lines, read_logs

LLM = {
    "openinference.span.kind": "LLM",
    "llm.model_name": "gpt-4o-2024-08-06",
    "llm.provider": "azure",
    "llm.system": "openai",
    "llm.token_count.prompt": 1200,
    "llm.token_count.completion": 25,
    "llm.token_count.total": 1225,
    "llm.token_count.prompt_details.cache_read": 1024,
    "llm.cost.total": 0.00197,
}
EMBEDDING = {"openinference.span.kind": "EMBEDDING", "embedding.model_name": "text-embedding-3-small", "llm.token_count.total": 40}
RERANKER = {"openinference.span.kind": "RERANKER", "reranker.model_name": "rerank-v3.5", "llm.provider": "cohere"}
EXPORTED = {
    "id": "U3Bhbjox",
    "name": "llm",
    "context": {"trace_id": "5b8efff798038103d269b633813fc60c", "span_id": "0000000000000000"},
    "span_kind": "LLM",
    "parent_id": None,
    "start_time": "2026-11-23T02:13:20+00:00",
    "end_time": "2026-11-23T02:13:22.5+00:00",
    "status_code": "OK",
    "status_message": "",
    "attributes": LLM,
    "events": [],
}
ROW = {
    "name": "llm",
    "span_kind": "LLM",
    "parent_id": None,
    "start_time": "2026-11-23 02:13:20+00:00",
    "end_time": "2026-11-23 02:13:22.500000+00:00",
    "status_code": "OK",
    "context.trace_id": "5b8efff798038103d269b633813fc60c",
    "context.span_id": "0000000000000000",
    **{f"attributes.{name}": value for name, value in LLM.items()},
}


@pytest.fixture
def read(tmp_path: Path) -> Any:
    def rows(*spans: dict[str, Any], resource: dict[str, Any] | None = None) -> Read:
        (tmp_path / "traces.json").write_text(json.dumps(document(*spans, resource=resource)), encoding="utf-8")
        return read_logs(tmp_path / "traces.json", tmp_path / "home")

    return rows


def spans(*changes: dict[str, Any]) -> list[dict[str, Any]]:
    return [span(number, LLM | change) for number, change in enumerate(changes)]


def test_a_span_that_calls_a_model_is_an_attempt(read: Any) -> None:
    found = read(*spans({}))
    row = found.row
    assert row["attempt_id"] == row["request_id"] == "5b8efff798038103d269b633813fc60c/0000000000000000"
    assert (row["started_at"], row["latency_ms"]) == (datetime(2026, 11, 23, 2, 13, 20), 2000.0)
    assert (row["model"], row["provider_model"], row["provider"]) == ("gpt-4o-2024-08-06", "gpt-4o-2024-08-06", "azure")
    assert (row["prompt_tokens"], row["cached_tokens"], row["completion_tokens"], row["cost_usd"]) == (1200, 1024, 25, 0.00197)
    assert (row["status"], row["operation"], row["source_format"]) == ("success", "chat", "openinference")
    assert found.result.left_out == {}


def test_every_kind_that_calls_a_model_is_read_as_what_it_is_and_all_others_are_left_out_and_counted(read: Any) -> None:
    others = ("CHAIN", "RETRIEVER", "TOOL", "AGENT", "GUARDRAIL", "EVALUATOR", "PROMPT", "DECISION", "")
    found = read(
        span(0, LLM),
        span(1, EMBEDDING),
        span(2, RERANKER),
        *(span(3 + place, LLM | {"openinference.span.kind": kind}) for place, kind in enumerate(others) if kind),
        span(20, {"http.request.method": "GET"}),
    )
    assert found.column("operation") == ["chat", "embedding", "rerank"]
    assert found.column("model") == ["gpt-4o-2024-08-06", "text-embedding-3-small", "rerank-v3.5"]
    assert found.column("prompt_tokens") == [1200, 40, None]
    assert found.result.left_out == {"spans that are no model calls": 9}


def test_both_conventions_stand_in_one_trace_and_a_span_that_has_both_is_one_record(read: Any) -> None:
    both = otlp.CALL | LLM | {"gen_ai.response.model": "gpt-4o-2024-11-20", "gen_ai.usage.reasoning.output_tokens": 7}
    found = read(span(0, LLM), span(1, otlp.CALL), span(2, both), span(3, {"llm.model_name": "m", "llm.token_count.prompt": 5}))
    assert found.column("source_format") == ["openinference", "otlp", "openinference", "openinference"]
    assert found.result.formats == ("openinference", "otlp")
    assert found.column("prompt_tokens") == [1200, 100, 1200, 5]
    assert (found.rows[2]["provider_model"], found.rows[2]["reasoning_tokens"]) == ("gpt-4o-2024-08-06", 7)
    agent = otlp.CALL | {"openinference.span.kind": "AGENT"}
    assert read(span(9, agent)).result.left_out == {"spans that are no model calls": 1}


def test_token_counts_include_cached_ones_unless_the_total_or_they_themselves_say_otherwise(read: Any) -> None:
    counts = "llm.token_count."
    found = read(
        *spans(
            {},
            {counts + "prompt": 176, counts + "total": 201},
            {counts + "prompt": 1200, counts + "total": 2249},
            {
                counts + "prompt_details.cache_write": 90,
                counts + "prompt_details.audio": 30,
                counts + "completion_details.reasoning": 20,
                counts + "completion_details.audio": 4,
            },
            {counts + "prompt_details.cache_write": 800, counts + "total": 2025},
            {counts + "prompt_details.cache_write": 800, counts + "total": None},
        )
    )
    assert found.column("prompt_tokens") == [1200, 1200, 2224, 1200, 2000, 2000]
    last = found.rows[3]
    assert (last["cache_write_tokens"], last["audio_prompt_tokens"]) == (90, 30)
    assert (last["reasoning_tokens"], last["audio_completion_tokens"], last["has_audio"]) == (20, 4, True)


def test_a_cost_is_the_total_or_the_sum_of_its_parts_and_0_for_tokens_means_that_nobody_knew_a_price(read: Any) -> None:
    parts = {"llm.cost.total": {"stringValue": ""}, "llm.cost.prompt": 0.25, "llm.cost.completion": 0.5}
    assert read(*spans({}, parts, {"llm.cost.total": 0.0})).column("cost_usd") == [0.00197, 0.75, None]


def test_failures_are_told_from_the_status_and_the_exception_that_was_recorded(read: Any) -> None:
    event = {"name": "exception", "attributes": otlp.pairs({"exception.type": "openai.RateLimitError", "exception.message": "secret"})}
    gone = {"name": "exception", "attributes": otlp.pairs({"exception.type": "asyncio.CancelledError"})}
    found = read(
        span(0, LLM, status={"code": 2}),
        span(1, LLM, status={"code": 2}, events=[event]),
        span(2, LLM, events=[gone]),
        span(3, LLM, status={"code": 1}, events=[event]),
    )
    assert found.column("status") == ["failure", "failure", "cancelled", "success"]
    assert found.column("error_type") == [None, "openai.RateLimitError", "asyncio.CancelledError", None]


def test_what_a_call_needs_comes_from_its_parameters_messages_and_tools_and_is_null_where_these_are_not_logged(read: Any) -> None:
    parameters = {
        "max_completion_tokens": 500,
        "reasoning_effort": "high",
        "service_tier": "flex",
        "response_format": {"type": "json_schema", "json_schema": {}},
    }
    content = "llm.input_messages.0.message.contents."
    found = read(
        *spans(
            {},
            {"llm.invocation_parameters": json.dumps(parameters), "llm.tools.0.tool.json_schema": "{}"},
            {f"{content}0.message_content.type": "text", f"{content}1.message_content.type": "image"},
            {f"{content}0.message_content.type": "audio", "llm.invocation_parameters": '{"max_tokens": null, "tools": [{"a": 1}]}'},
            {"llm.input_messages.0.message.content": "hello", "llm.invocation_parameters": "no json"},
        )
    )
    columns = ("max_output_tokens", "reasoning_effort", "service_tier", "has_schema", "has_tools", "has_image", "has_audio")
    assert [tuple(row[name] for name in columns) for row in found.rows] == [
        (None,) * 7,
        (500, "high", "flex", True, True, None, None),
        (None, None, None, None, None, True, False),
        (None, None, None, False, True, False, True),
        (None, None, None, None, None, False, False),
    ]


def test_labels_come_from_the_span_its_resource_its_metadata_and_its_tags(read: Any) -> None:
    tags = {"arrayValue": {"values": [{"stringValue": "task_type:code"}, {"stringValue": "team:search"}]}}
    metadata = json.dumps({"task_type": "chat", "complexity": "low", "routing_rule_id": "r1"})
    found = read(
        *spans(
            {"tag.tags": tags, "session.id": "s", "user.id": "jane"},
            {"metadata": metadata},
            {"task_type": "sql", "metadata": metadata},
            {"ai.telemetry.metadata.taskType": "rag", "metadata": metadata},
        ),
        resource={"team": "growth"},
    )
    assert found.column("task_type") == ["code", "chat", "sql", "rag"]
    assert found.column("team") == ["growth"] * 4
    assert found.column("complexity") == [None, 0.25, 0.25, 0.25]
    assert (found.rows[0]["session_id"], len(found.rows[0]["user_hash"])) == ("s", 32)


@pytest.mark.parametrize(
    ("changes", "why"),
    [
        ({"spanId": ""}, "the identifier of the trace or of the span"),
        ({"startTimeUnixNano": str(otlp.START_NS // 1000)}, "not in nanoseconds"),
        ({"startTimeUnixNano": None}, "startTimeUnixNano or start_time is missing"),
        ({"endTimeUnixNano": str(otlp.START_NS - 10**9)}, "latency (end less start) is negative"),
        ({"attributes": otlp.pairs(LLM | {"llm.token_count.prompt": -1})}, "llm.token_count.prompt is negative"),
        ({"attributes": otlp.pairs(LLM | {"llm.cost.total": "much"})}, "llm.cost.total is not a number"),
        ({"attributes": otlp.pairs(LLM | {"llm.model_name": ""})}, "no model: llm.model_name"),
    ],
)
def test_spans_that_cannot_be_used_are_refused_with_the_reason(changes: dict[str, Any], why: str, read: Any) -> None:
    found = read(span(0, LLM), span(1, LLM) | changes)
    assert found.result.ingested == 1
    assert why in found.refused[0][1]


def nested(attributes: dict[str, Any]) -> dict[str, Any]:
    whole: dict[str, Any] = {}
    for name, value in attributes.items():
        *above, last = name.split(".")
        place = whole
        for each in above:
            place = place.setdefault(each, {})
        place[last] = value
    return whole


CONSOLE = {
    "name": "llm",
    "context": {"trace_id": "0x5b8efff798038103d269b633813fc60c", "span_id": "0x0000000000000000", "trace_state": "[]"},
    "kind": "SpanKind.INTERNAL",
    "parent_id": None,
    "start_time": "2026-11-23T02:13:20.000000Z",
    "end_time": "2026-11-23T02:13:22.500000Z",
    "status": {"status_code": "OK"},
    "attributes": LLM,
    "resource": {"attributes": {"service.name": "app"}},
}


@pytest.mark.parametrize(
    "content",
    [
        json.dumps({"data": [EXPORTED], "next_cursor": None}, indent=1).encode(),
        json_lines([EXPORTED]),
        json_lines([EXPORTED | {"attributes": nested(LLM)}]),
        json.dumps([ROW]).encode(),
        json_lines([ROW]),
        json.dumps(CONSOLE, indent=4).encode(),
    ],
    ids=[
        "a page of the interface",
        "a span a line",
        "nested attributes",
        "a data frame's records",
        "a data frame's lines",
        "an SDK's console",
    ],
)
def test_what_tools_export_reads_as_the_span_it_was(content: bytes, tmp_path: Path) -> None:
    (tmp_path / "a").write_bytes(content)
    check(read_logs(tmp_path / "a", tmp_path / "home"))


def check(found: Read) -> None:
    row = found.row
    assert row["attempt_id"] == "5b8efff798038103d269b633813fc60c/0000000000000000"
    assert (row["started_at"], row["latency_ms"]) == (datetime(2026, 11, 23, 2, 13, 20), 2500.0)
    assert (row["model"], row["prompt_tokens"], row["cached_tokens"], row["cost_usd"]) == ("gpt-4o-2024-08-06", 1200, 1024, 0.00197)
    assert (row["status"], row["operation"], row["source_format"]) == ("success", "chat", "openinference")


@pytest.mark.parametrize("kind", ["parquet", "csv"])
def test_a_data_frame_reads_as_its_spans_from_a_table_too(kind: str, tmp_path: Path) -> None:
    chain = ROW | {"span_kind": "CHAIN", "context.span_id": "b", "attributes.openinference.span.kind": "CHAIN"}
    table = pa.Table.from_pylist([ROW | {"parent_id": "p"}, chain | {"parent_id": "p"}])
    if kind == "csv":
        pyarrow.csv.write_csv(table, tmp_path / "a")
    else:
        times = {name: pa.array([datetime.fromisoformat(ROW[name])] * 2, pa.timestamp("ns", "UTC")) for name in ("start_time", "end_time")}
        for name, values in times.items():
            table = table.set_column(table.column_names.index(name), name, values)
        messages = pa.array([[{"message.role": "user", "message.contents": [{"message_content.type": "image"}]}], None])
        pq.write_table(table.append_column("attributes.llm.input_messages", messages), tmp_path / "a")
    found = read_logs(tmp_path / "a", tmp_path / "home")
    check(found)
    assert found.result.left_out == {"spans that are no model calls": 1}
    assert found.row["has_image"] is (True if kind == "parquet" else None)


def test_what_other_sdks_write_with_the_same_fields_is_no_span_of_openinference(tmp_path: Path) -> None:
    (tmp_path / "a").write_bytes(json_lines([CONSOLE | {"attributes": {"http.method": "GET"}}]))
    found = read_logs(tmp_path / "a", tmp_path / "home")
    assert (found.result.records, found.result.quarantined) == (1, 1)
    assert "no known log format" in found.refused[0][1]


@pytest.mark.parametrize(
    "hostile",
    [
        {"context": 5, "attributes": {"openinference.span.kind": ["LLM"]}, "start_time": None},
        {
            "context": {"span_id": {}},
            "attributes": {"openinference": {"span": {"kind": "LLM"}}, "llm": [1, [2, {"model_name": 5}]]},
            "start_time": 1,
        },
        {
            "context": {},
            "attributes": {"openinference.span.kind": "LLM", "llm.model_name": {"a": 1}, "tag.tags": 7},
            "start_time": "x",
            "events": [1],
        },
        document(span(0, LLM | {"tag.tags": {"arrayValue": {"values": 5}}}, events=5)),
    ],
)
def test_values_of_other_types_than_they_should_be_stop_nothing(hostile: dict[str, Any], tmp_path: Path) -> None:
    (tmp_path / "a").write_text(json.dumps(hostile), encoding="utf-8")
    found = read_logs(tmp_path / "a", tmp_path / "home")
    assert found.result.records + sum(found.result.left_out.values()) == 1
