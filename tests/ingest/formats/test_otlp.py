"""What a span reads as: the traps of OpenTelemetry's traces one by one, on documents made by hand."""

from __future__ import annotations

import gzip
import json
from datetime import datetime
from pathlib import Path
from typing import Any

import pytest

from tests.ingest.reading import Read, json_lines, read_logs, read_scores

START_NS = 1_795_400_000_000_000_000
END_NS = START_NS + 2_000_000_000


def value(given: Any) -> dict[str, Any]:
    """As a collector writes it: whole numbers are strings."""
    if isinstance(given, bool):
        return {"boolValue": given}
    if isinstance(given, int):
        return {"intValue": str(given)}
    return {"doubleValue": given} if isinstance(given, float) else {"stringValue": given}


def pairs(attributes: dict[str, Any]) -> list[dict[str, Any]]:
    return [{"key": name, "value": given if isinstance(given, dict) else value(given)} for name, given in attributes.items()]


CALL = {
    "gen_ai.operation.name": "chat",
    "gen_ai.provider.name": "openai",
    "gen_ai.request.model": "gpt-4o",
    "gen_ai.usage.input_tokens": 100,
    "gen_ai.usage.output_tokens": 10,
}


def span(number: int = 0, attributes: dict[str, Any] | None = None, **fields: Any) -> dict[str, Any]:
    made = {
        "traceId": "5b8efff798038103d269b633813fc60c",
        "spanId": f"{number:016x}",
        "name": "chat gpt-4o",
        "kind": 3,
        "startTimeUnixNano": str(START_NS + number * 10_000_000_000),
        "endTimeUnixNano": str(END_NS + number * 10_000_000_000),
        "attributes": pairs(CALL if attributes is None else attributes),
        "status": {},
    }
    return made | fields


def document(*spans: dict[str, Any], resource: dict[str, Any] | None = None) -> dict[str, Any]:
    return {"resourceSpans": [{"resource": {"attributes": pairs(resource or {})}, "scopeSpans": [{"spans": list(spans)}]}]}


@pytest.fixture
def read(tmp_path: Path) -> Any:
    def rows(*spans: dict[str, Any], resource: dict[str, Any] | None = None) -> Read:
        (tmp_path / "traces.json").write_text(json.dumps(document(*spans, resource=resource)), encoding="utf-8")
        return read_logs(tmp_path / "traces.json", tmp_path / "home")

    return rows


def with_attributes(*changes: dict[str, Any]) -> list[dict[str, Any]]:
    return [span(number, CALL | change) for number, change in enumerate(changes)]


def test_a_span_is_an_attempt_and_its_times_are_nanoseconds(read: Any) -> None:
    row = read(span(endTimeUnixNano=str(START_NS + 907_847_123))).row
    assert row["attempt_id"] == "5b8efff798038103d269b633813fc60c/0000000000000000"
    assert row["request_id"] == row["attempt_id"]
    assert row["started_at"] == datetime(2026, 11, 23, 2, 13, 20)
    assert row["latency_ms"] == 907.847
    assert (row["model"], row["provider"], row["status"], row["source_format"]) == ("gpt-4o", "openai", "success", "otlp")


def test_the_trace_is_the_session_where_no_conversation_is_named(read: Any) -> None:
    assert read(span()).row["session_id"] == "5b8efff798038103d269b633813fc60c"
    assert read(span(0, CALL | {"gen_ai.conversation.id": "talk-1"})).row["session_id"] == "talk-1"


def test_whole_numbers_are_read_from_strings_and_from_numbers(read: Any) -> None:
    as_numbers = CALL | {"gen_ai.usage.input_tokens": {"intValue": 100}, "gen_ai.usage.output_tokens": {"doubleValue": 10.0}}
    rows = read(span(0), span(1, as_numbers, startTimeUnixNano=START_NS + 1_000_001, endTimeUnixNano=END_NS + 1_000_001))
    assert rows.column("prompt_tokens") == [100, 100]
    assert rows.column("completion_tokens") == [10, 10]
    assert rows.column("latency_ms") == [2000.0, 2000.0]
    assert rows.rows[1]["started_at"] == datetime(2026, 11, 23, 2, 13, 20, 1000)


@pytest.mark.parametrize("unit", [1e9, 1e6, 1e3])
def test_a_time_in_another_unit_than_nanoseconds_is_refused_not_guessed(unit: float, read: Any) -> None:
    refused = read(span(startTimeUnixNano=str(int(START_NS / unit)), endTimeUnixNano=str(int(END_NS / unit)))).refused
    assert "not in nanoseconds" in refused[0][1]


def test_old_names_of_attributes_are_read_and_new_ones_win(read: Any) -> None:
    old = {
        "gen_ai.system": "anthropic",
        "gen_ai.response.model": "claude-sonnet-4-5-20250929",
        "gen_ai.usage.prompt_tokens": 7,
        "gen_ai.usage.completion_tokens": 3,
        "gen_ai.server.ttft": 0.5,
    }
    rows = read(span(0, old), span(1, CALL | old))
    assert rows.column("provider") == ["anthropic", "openai"]
    assert rows.column("model") == ["claude-sonnet-4-5-20250929", "gpt-4o"]
    assert rows.column("provider_model") == ["claude-sonnet-4-5-20250929"] * 2
    assert rows.column("prompt_tokens") == [7, 100]
    assert rows.column("completion_tokens") == [3, 10]
    assert rows.column("ttft_ms") == [500.0, 500.0]


def test_the_time_to_the_first_chunk_is_in_seconds_and_milliseconds_in_its_place_are_dropped_and_counted(read: Any) -> None:
    read_back = read(*with_attributes({"gen_ai.response.time_to_first_chunk": 0.172}, {"gen_ai.response.time_to_first_chunk": 172.0}, {}))
    assert read_back.column("ttft_ms") == [172.0, None, None]
    assert read_back.result.nulled == {"ttft_ms": 1}


def test_input_tokens_include_cached_ones_unless_that_is_impossible(read: Any) -> None:
    rows = read(
        *with_attributes(
            {"gen_ai.usage.input_tokens": 1200, "gen_ai.usage.cache_read.input_tokens": 1024},
            {"gen_ai.usage.input_tokens": 176, "gen_ai.usage.cache_read.input_tokens": 1024},
            {"gen_ai.usage.input_tokens": 10, "gen_ai.usage.cache_read_input_tokens": 5, "gen_ai.usage.cache_creation_input_tokens": 90},
        )
    )
    assert rows.column("prompt_tokens") == [1200, 1200, 105]
    assert rows.column("cached_tokens") == [1024, 1024, 5]


def test_output_tokens_include_reasoning(read: Any) -> None:
    row = read(*with_attributes({"gen_ai.usage.reasoning.output_tokens": 8})).row
    assert (row["completion_tokens"], row["reasoning_tokens"]) == (10, 8)


def test_there_is_no_cost_unless_a_vendor_names_one(read: Any) -> None:
    assert read(*with_attributes({}, {"gen_ai.usage.cost": 0.0125}, {"gen_ai.usage.cost": 0.0})).column("cost_usd") == [None, 0.0125, None]


def test_failures_are_told_from_errors_and_cancellations(read: Any) -> None:
    nothing = {"gen_ai.usage.input_tokens": 0, "gen_ai.usage.output_tokens": 0}
    rows = read(
        span(0, status={"code": 1}),
        span(1, CALL | nothing, status={"code": 2, "message": "secret"}),
        span(2, CALL | nothing | {"error.type": "429"}),
        span(3, CALL | {"error.type": "asyncio.CancelledError"}, status={"code": "STATUS_CODE_ERROR"}),
        span(4, status=None),
    )
    assert rows.column("status") == ["success", "failure", "failure", "cancelled", "success"]
    assert rows.column("error_type") == [None, None, "429", "asyncio.CancelledError", None]
    assert rows.column("prompt_tokens") == [100, None, None, 100, 100]


def test_only_calls_to_models_are_records(read: Any) -> None:
    rows = read(
        span(0, {"http.request.method": "GET"}),
        span(1, CALL | {"gen_ai.operation.name": "invoke_agent"}),
        span(2, CALL | {"gen_ai.operation.name": "execute_tool"}),
        span(3, CALL | {"gen_ai.operation.name": "embeddings"}),
        span(4, {"gen_ai.request.model": "m"}),
        span(5, {"gen_ai.operation.name": "chat"}),
    )
    assert rows.column("model") == ["gpt-4o", "m"]
    assert (rows.result.records, rows.refused[0][1]) == (3, "no model: gen_ai.request.model and gen_ai.response.model are both empty")


def test_labels_come_from_the_span_then_from_its_resource(read: Any) -> None:
    labels = {"task_type": "code", "complexity": "high", "routing_rule_id": "r1", "propensity": 0.9, "gen_ai.conversation.id": "s"}
    rows = read(*with_attributes(labels, {"session.id": "old", "user.id": "jane"}), resource={"team": "search", "task_type": "other"})
    assert rows.column("task_type") == ["code", "other"]
    assert rows.column("team") == ["search", "search"]
    assert rows.column("complexity") == [0.75, None]
    assert rows.column("propensity") == [0.9, None]
    assert rows.column("session_id") == ["s", "old"]
    assert rows.rows[0]["user_hash"] is None
    assert len(rows.rows[1]["user_hash"]) == 32


@pytest.mark.parametrize(
    ("changes", "why"),
    [
        ({"traceId": ""}, "traceId or spanId"),
        ({"startTimeUnixNano": None}, "startTimeUnixNano"),
        ({"startTimeUnixNano": "soon"}, "startTimeUnixNano"),
        ({"startTimeUnixNano": "1" * 40}, "startTimeUnixNano"),
        ({"endTimeUnixNano": "later"}, "endTimeUnixNano"),
        ({"endTimeUnixNano": str(START_NS - 1_000_000)}, "latency (endTimeUnixNano less startTimeUnixNano) is negative"),
        ({"endTimeUnixNano": str(START_NS + 8 * 86_400 * 10**9)}, "longer than a week"),
        ({"attributes": pairs(CALL | {"gen_ai.usage.input_tokens": -1})}, "gen_ai.usage.input_tokens is negative"),
        ({"attributes": pairs(CALL | {"gen_ai.usage.output_tokens": "many"})}, "gen_ai.usage.output_tokens is not a number"),
    ],
)
def test_spans_that_cannot_be_used_are_refused_with_the_reason(changes: dict[str, Any], why: str, read: Any) -> None:
    rows = read(span(0), span(1) | changes)
    assert rows.result.ingested == 1
    assert why in rows.refused[0][1]


def test_an_unset_end_is_no_latency(read: Any) -> None:
    assert read(span(0, endTimeUnixNano="0"), span(1, endTimeUnixNano=None)).column("latency_ms") == [None, None]


def test_a_file_exporters_lines_are_read_and_refused_by_their_line(tmp_path: Path) -> None:
    logs = tmp_path / "traces.jsonl"
    lines = [document(span(0), span(1)), document(span(2)), document(span(3, traceId="")), {"resourceMetrics": []}, document(span(4))]
    content = json_lines(lines[:2]) + b"\nbroken {\n[1]\n" + json_lines(lines[2:])
    logs.write_bytes(gzip.compress(content))
    read = read_logs(logs, tmp_path / "home")
    assert (read.result.ingested, read.result.formats) == (4, ("otlp",))
    assert [line for line, _ in read.refused] == [4, 5, 6]
    assert read.refused[0][1] == "not valid JSON"


def test_a_pretty_printed_object_and_an_array_of_documents_are_read(tmp_path: Path) -> None:
    (tmp_path / "logs").mkdir()
    (tmp_path / "logs" / "a.json").write_text(json.dumps(document(span(0), span(1)), indent=2), encoding="utf-8")
    (tmp_path / "logs" / "b.json").write_text(json.dumps([document(span(2)), document(span(3))], indent=1), encoding="utf-8")
    (tmp_path / "logs" / "c.json").write_text(json.dumps(document()), encoding="utf-8")
    assert read_logs(tmp_path / "logs", tmp_path / "home").result.ingested == 4


@pytest.mark.parametrize(
    "hostile",
    [
        {"resourceSpans": None},
        {"resourceSpans": {"a": 1}},
        {"resourceSpans": [None, 1, "x", {"scopeSpans": [{"spans": [None, {"attributes": {"key": 1}}, {"attributes": [{"key": []}]}]}]}]},
        document(span(0, {"gen_ai.request.model": {"arrayValue": {"values": []}}})),
    ],
)
def test_documents_of_another_shape_hold_no_records(hostile: dict[str, Any], tmp_path: Path) -> None:
    (tmp_path / "a.json").write_text(json.dumps(hostile), encoding="utf-8")
    assert read_logs(tmp_path / "a.json", tmp_path / "home").result.records == 0


def test_names_of_attributes_in_a_span_cannot_pose_as_its_fields(read: Any) -> None:
    assert read(span(0, CALL | {"traceId": "x", "status.code": 2, "__object": 7})).row["status"] == "success"


def evaluation(name: str | None, score: Any, **fields: Any) -> dict[str, Any]:
    said = {"gen_ai.evaluation.name": name, "gen_ai.evaluation.score.value": score}
    attributes = pairs({key: given for key, given in said.items() if given is not None})
    return {"name": "gen_ai.evaluation.result", "timeUnixNano": str(END_NS), "attributes": attributes} | fields


def test_evaluation_events_are_feedback_on_their_span(tmp_path: Path) -> None:
    events = [evaluation("helpfulness", 0.82), evaluation("quality", 1), {"name": "exception"}, evaluation("label_only", None)]
    (tmp_path / "a.json").write_text(json.dumps(document(span(0, events=events), span(1, events=[evaluation("quality", 4.0)]))), "utf-8")
    scores, refused = read_scores(tmp_path / "a.json", tmp_path / "home")
    assert [(score["name"], score["value"], score["source"]) for score in scores] == [
        ("helpfulness", 0.82, "eval"),
        ("quality", 1.0, "eval"),
    ]
    assert {score["attempt_id"] for score in scores} == {read_logs(tmp_path / "a.json", tmp_path / "home").rows[0]["attempt_id"]}
    assert {score["scored_at"] for score in scores} == {datetime(2026, 11, 23, 2, 13, 22)}
    assert "value is missing" in refused[0]
    assert "outside its scale" in refused[1]


def test_evaluations_that_come_as_log_records_name_their_span(tmp_path: Path) -> None:
    event = evaluation("quality", 0.5) | {"traceId": "t", "spanId": "s"}
    named = event | {"eventName": event.pop("name")}
    old = named | {
        "eventName": "",
        "spanId": "s2",
        "attributes": [*named["attributes"], *pairs({"event.name": "gen_ai.evaluation.result"})],
    }
    loose = named | {"spanId": ""}
    later = named | {"spanId": "evaluator", "attributes": [*named["attributes"], *pairs({"gen_ai.response.id": "chatcmpl-1"})]}
    other = named | {"eventName": "gen_ai.client.inference.operation.details"}
    logs = {"resourceLogs": [{"scopeLogs": [{"logRecords": [named, old, loose, later, other]}]}]}
    (tmp_path / "a.jsonl").write_bytes(json_lines([logs, document(span(0))]))
    scores, refused = read_scores(tmp_path / "a.jsonl", tmp_path / "home")
    assert [(score["attempt_id"], score["request_id"]) for score in scores] == [(None, "chatcmpl-1"), ("t/s", None), ("t/s2", None)]
    assert refused == ["neither request_id nor attempt_id is there"]


def test_a_call_is_a_request_by_the_name_of_its_response_unless_two_share_it(read: Any) -> None:
    rows = read(*with_attributes({"gen_ai.response.id": "one"}, {"gen_ai.response.id": "two"}, {"gen_ai.response.id": "two"}, {}))
    assert rows.column("request_id")[0] == "one"
    assert rows.column("request_id")[1:] == rows.column("attempt_id")[1:]


@pytest.mark.parametrize(
    ("counts", "want"),
    [
        # Within the input.
        ({"gen_ai.usage.details.cache_read_tokens": 700, "gen_ai.usage.details.cache_write_tokens": 200}, (1_000, 700, 200)),
        ({"ai.usage.cachedInputTokens": 640}, (1_000, 640, None)),
        ({"ai.usage.inputTokenDetails.cacheReadTokens": 640, "ai.usage.inputTokenDetails.cacheWriteTokens": 30}, (1_000, 640, 30)),
        ({"gen_ai.usage.cache_read.input_tokens": 10, "gen_ai.usage.cache_write.input_tokens": 20}, (1_000, 10, 20)),
        # A name that is not filled says 0.
        ({"gen_ai.usage.cached_tokens": 0, "gen_ai.usage.details.prompt_cache_hit_tokens": 512}, (1_000, 512, None)),
        ({"gen_ai.usage.details.cachedContentTokenCount": 256}, (1_000, 256, None)),
        # Names that nobody has listed.
        ({"gen_ai.usage.input_tokens.cached": 300, "gen_ai.usage.input_tokens.cache_write": 40}, (1_000, 300, 40)),
        (
            {"gen_ai.usage.prompt_token_details.cached_read_tokens": 300, "gen_ai.usage.prompt_token_details.cached_write_tokens": 40},
            (1_000, 300, 40),
        ),
        ({"ai.usage.somebodysDetails.cachedTokens": 300, "gen_ai.usage.cache_miss_tokens": 700}, (1_000, 300, None)),
        ({"gen_ai.usage.details.cached_content_tokens": 300, "gen_ai.usage.cached_cost": 4}, (1_000, 300, None)),
        # Beside it: they do not fit in, or the total says so.
        ({"gen_ai.usage.cache_read_input_tokens": 0, "gen_ai.usage.cache_write_input_tokens": 9_000}, (10_000, 0, 9_000)),
        ({"gen_ai.usage.cache_write_input_tokens": 400, "gen_ai.usage.total_tokens": 1_410}, (1_400, None, 400)),
        ({"gen_ai.usage.cache_read_input_tokens": 400, "gen_ai.usage.total_tokens": 1_410}, (1_400, 400, None)),
        ({"gen_ai.usage.cache_read_input_tokens": 400, "gen_ai.usage.total_tokens": 1_010}, (1_000, 400, None)),
    ],
)
def test_cached_and_written_tokens_are_read_under_every_name_and_counted_once(counts: dict[str, int], want: Any, read: Any) -> None:
    row = read(*with_attributes({"gen_ai.usage.input_tokens": 1_000} | counts)).row
    assert (row["prompt_tokens"], row["cached_tokens"], row["cache_write_tokens"]) == want


def test_older_collectors_and_instrumentations_are_read(tmp_path: Path) -> None:
    old = {"llm.request.model": "gpt-4o", "llm.usage.prompt_tokens": 70, "llm.usage.completion_tokens": 30, "llm.request.type": "chat"}
    resource = {"instrumentationLibrarySpans": [{"spans": [span(0, old)]}]}
    (tmp_path / "traces.json").write_text(json.dumps({"resourceSpans": [resource]}), encoding="utf-8")
    row = read_logs(tmp_path / "traces.json", tmp_path / "home").row
    assert (row["model"], row["prompt_tokens"], row["completion_tokens"]) == ("gpt-4o", 70, 30)


def test_an_embedding_may_count_its_tokens_in_all_alone(read: Any) -> None:
    embedded = {"gen_ai.operation.name": "embeddings", "gen_ai.request.model": "text-embedding-3-small", "llm.usage.total_tokens": 60}
    assert read(span(0, embedded)).row["prompt_tokens"] == 60
    assert read(span(0, embedded | {"gen_ai.operation.name": "chat"})).row["prompt_tokens"] is None


def test_thoughts_that_the_total_counts_beside_the_answer_belong_to_the_completion(read: Any) -> None:
    thoughts = {"gen_ai.usage.output_tokens": 40, "gen_ai.usage.details.thoughts_token_count": 60}
    rows = read(*with_attributes(thoughts | {"gen_ai.usage.total_tokens": 200}, thoughts, {"gen_ai.usage.reasoning_tokens": 6}))
    assert rows.column("completion_tokens") == [100, 100, 10]
    assert rows.column("reasoning_tokens") == [60, 60, 6]


def test_a_cost_and_a_first_chunk_are_read_under_their_makers_names(read: Any) -> None:
    rows = read(
        *with_attributes(
            {"operation.cost": 0.04},
            {"ai.response.msToFirstChunk": 210.5},
            {"ai.response.msToFirstChunk": 9e5},
            {"gen_ai.server.time_to_first_token": 321},
            {"gen_ai.client.operation.time_to_first_chunk": 0.25},
        )
    )
    assert rows.column("cost_usd") == [0.04, None, None, None, None]
    assert rows.column("ttft_ms") == [None, 210.5, None, 321.0, 250.0]


def test_the_kind_of_a_call_is_its_operation_else_what_its_model_is_called(read: Any) -> None:
    names = ["chat", "text_completion", "generate_content", "embeddings", "rerank", "image_generation", "transcription", "speech"]
    rows = read(
        *with_attributes(*({"gen_ai.operation.name": name} for name in [*names, "moderation", "something new"])),
        span(
            10,
            {name: value for name, value in CALL.items() if name != "gen_ai.operation.name"}
            | {"gen_ai.request.model": "text-embedding-3-large"},
        ),
        span(11, {name: value for name, value in CALL.items() if name != "gen_ai.operation.name"}),
    )
    kinds = ["chat", "chat", "chat", "embedding", "rerank", "image", "transcription", "speech", "moderation", "other", "embedding", None]
    assert rows.column("operation") == kinds


def test_calls_of_the_ai_sdk_that_embed_are_read_and_what_wraps_them_is_not(read: Any) -> None:
    inner = {"ai.operationId": "ai.embedMany.doEmbed", "ai.model.id": "text-embedding-3-small", "ai.model.provider": "openai.embedding"}
    row = read(span(0, inner | {"ai.usage.tokens": 77}), span(1, inner | {"ai.operationId": "ai.embedMany", "ai.usage.tokens": 77})).row
    assert (row["operation"], row["model"], row["prompt_tokens"]) == ("embedding", "text-embedding-3-small", 77)


def test_calls_of_the_ai_sdk_that_generate_are_chat_though_nothing_of_the_conventions_says_so(read: Any) -> None:
    call = {"gen_ai.request.model": "gpt-4o", "ai.operationId": "ai.generateText.doGenerate"}
    rows = read(span(0, call), span(1, call | {"ai.operationId": "ai.streamObject.doStream"}), span(2, {"gen_ai.request.model": "gpt-4o"}))
    assert rows.column("operation") == ["chat", "chat", None]


def test_what_a_call_needs_is_true_false_or_not_logged(read: Any) -> None:
    def texts(*values: str) -> dict[str, Any]:
        return {"arrayValue": {"values": [{"stringValue": each} for each in values]}}

    plain = '[{"role":"user","parts":[{"type":"text","content":"the words \\"type\\":\\"image\\""}]}]'
    picture = '[{"role":"user","content":[{"type":"image","image":"..."}]}]'
    blob = '[{"role":"user","parts":[{"type":"blob","modality":"audio","content":"..."}]}]'
    rows = read(
        *with_attributes(
            {},
            {"gen_ai.input.messages": plain, "gen_ai.output.type": "text"},
            {"ai.prompt.messages": picture, "ai.prompt.tools": texts('{"type":"function"}')},
            {"gen_ai.input.messages": blob, "gen_ai.response.finish_reasons": texts("tool_calls")},
            {"ai.operationId": "ai.generateObject.doGenerate", "ai.response.finishReason": "tool-calls"},
            {"model_request_parameters": '{"function_tools": [], "output_tools": [], "output_object": null}'},
            {"model_request_parameters": '{"function_tools": [{"name": "f"}], "output_object": {"json_schema": {}}}'},
            {"gen_ai.usage.details.input_audio_tokens": 5},
            {"llm.request.functions.0.name": "f", "gen_ai.tool.definitions": texts()},
        )
    )
    assert rows.column("has_image") == [None, False, True, False, None, None, None, None, None]
    assert rows.column("has_audio") == [None, False, False, True, None, None, None, True, None]
    assert rows.column("has_tools") == [None, None, True, True, True, False, True, None, True]
    assert rows.column("has_schema") == [None, False, None, None, True, False, True, None, None]


def test_limits_effort_and_the_tier_that_was_used_before_the_one_asked_for(read: Any) -> None:
    rows = read(
        *with_attributes(
            {"gen_ai.request.max_tokens": 800, "gen_ai.request.reasoning_effort": "High", "openai.request.service_tier": "auto"},
            {"ai.settings.maxOutputTokens": 9, "openai.request.service_tier": "flex", "openai.response.service_tier": "default"},
            {"gen_ai.openai.request.service_tier": "priority"},
        )
    )
    assert rows.column("max_output_tokens") == [800, 9, None]
    assert rows.column("reasoning_effort") == ["high", None, None]
    assert rows.column("service_tier") == [None, "default", "priority"]


@pytest.mark.parametrize(
    "name", ["gen_ai.usage.cost.total", "gen_ai.usage.cost_usd", "gen_ai.cost.total", "llm.cost.total", "gen_ai.usage.total_cost"]
)
def test_a_cost_is_read_under_every_name_in_use(name: str, read: Any) -> None:
    assert read(*with_attributes({name: 0.04})).column("cost_usd") == [0.04]


def test_a_span_that_langfuse_wrote_is_read_by_its_own_names(read: Any) -> None:
    used = {"input": 1_000, "output": 100, "total": 9_100, "cache_read_input_tokens": 8_000}
    said = {
        "langfuse.observation.type": "generation",
        "langfuse.observation.model.name": "claude-sonnet-4-5",
        "langfuse.observation.usage_details": json.dumps(used),
        "langfuse.observation.cost_details": json.dumps({"input": 0.01, "output": 0.02, "total": 0.03}),
    }
    row = read(span(attributes=said)).row
    assert [row[name] for name in ("model", "prompt_tokens", "cached_tokens", "completion_tokens", "cost_usd")] == [
        *("claude-sonnet-4-5", 9_000, 8_000, 100, 0.03)
    ]


def test_details_that_are_no_json_say_nothing(read: Any) -> None:
    row = read(*with_attributes({"langfuse.observation.usage_details": "[1]", "langfuse.observation.cost_details": "{"})).row
    assert (row["prompt_tokens"], row["cost_usd"]) == (100, None)


SDK = {
    "ai.operationId": "ai.generateText.doGenerate",
    "gen_ai.request.model": "claude-sonnet-4-5",
    "gen_ai.system": "anthropic.messages",
    "gen_ai.usage.input_tokens": 3_000,
    "gen_ai.usage.output_tokens": 20,
    "ai.usage.promptTokens": 3_000,
    "ai.usage.completionTokens": 20,
}
OWN = {"input_tokens": 3_000, "output_tokens": 20, "cache_read_input_tokens": 2_000, "cache_creation_input_tokens": 500}


@pytest.mark.parametrize(
    ("said", "counted", "want"),
    [
        # Versions 4 and 5 pass on Anthropic's count, beside which the cache lies; version 6 adds it.
        ({"anthropic": {"cacheReadInputTokens": 2_000, "cacheCreationInputTokens": 500}}, {}, (5_500, 20, 2_000, 500, None)),
        (
            {"anthropic": {"usage": OWN, "cacheCreationInputTokens": 500}},
            {"ai.usage.cachedInputTokens": 2_000, "ai.usage.totalTokens": 3_020},
            (5_500, 20, 2_000, 500, None),
        ),
        (
            {"anthropic": {"usage": OWN | {"input_tokens": 500}}},
            {"ai.usage.cachedInputTokens": 2_000, "ai.usage.totalTokens": 3_020},
            (3_000, 20, 2_000, 500, None),
        ),
        (
            {"anthropic": {"usage": OWN | {"cache_read_input_tokens": 0, "cache_creation_input_tokens": 0}}},
            {},
            (3_000, 20, None, None, None),
        ),
        ({"openai": {"cachedPromptTokens": 2_048, "reasoningTokens": 12}}, {}, (3_000, 20, 2_048, None, 12)),
        ({"deepseek": {"promptCacheHitTokens": 2_048, "promptCacheMissTokens": 952}}, {}, (3_000, 20, 2_048, None, None)),
        (
            {"google": {"usageMetadata": {"cachedContentTokenCount": 1_024, "thoughtsTokenCount": 7, "promptTokenCount": 3_000}}},
            {},
            (3_000, 20, 1_024, None, 7),
        ),
        # Where the span has counts of its own these count.
        ({"openai": {"cachedPromptTokens": 9}}, {"ai.usage.cachedInputTokens": 8}, (3_000, 20, 8, None, None)),
        ({"openai": {"cachedPromptTokens": "many"}, "other": [1], "third": {"usage": True}}, {}, (3_000, 20, None, None, None)),
    ],
)
def test_what_a_provider_says_through_the_ai_sdk_is_counted_once(said: Any, counted: Any, want: Any, read: Any) -> None:
    row = read(*with_attributes(SDK | counted | {"ai.response.providerMetadata": json.dumps(said)})).row
    names = ("prompt_tokens", "completion_tokens", "cached_tokens", "cache_write_tokens", "reasoning_tokens")
    assert tuple(row[name] for name in names) == want


@pytest.mark.parametrize(
    ("said", "cost"),
    [
        ({"gateway": {"routing": {"resolvedProvider": "openai"}, "cost": "0.00123"}}, 0.00123),
        ({"openrouter": {"usage": {"promptTokens": 3_000, "cost": 0.0001, "costDetails": {"upstreamInferenceCost": 0.002}}}}, 0.0021),
        # Nobody knew a price; and what else is called a cost is in nobody's currency.
        ({"gateway": {"cost": "0"}}, None),
        ({"another": {"cost": 5}}, None),
    ],
)
def test_a_gateway_behind_the_ai_sdk_says_what_a_call_cost(said: Any, cost: Any, read: Any) -> None:
    assert read(*with_attributes(SDK | {"ai.response.providerMetadata": json.dumps(said)})).row["cost_usd"] == pytest.approx(cost)


@pytest.mark.parametrize(
    "names",
    [
        ("ai.telemetry.metadata.taskType", "ai.telemetry.metadata.userId", "ai.telemetry.metadata.sessionId"),
        (
            "traceloop.association.properties.task_type",
            "traceloop.association.properties.user_id",
            "traceloop.association.properties.session_id",
        ),
        ("langfuse.trace.metadata.task-type", "langfuse.user.id", "langfuse.session.id"),
        ("langsmith.metadata.task_type", "langsmith.metadata.user_id", "langsmith.metadata.thread_id"),
    ],
)
def test_labels_are_read_from_what_each_sdk_calls_metadata(names: tuple[str, ...], read: Any) -> None:
    said = CALL | dict(zip(names, ("code", "jane", "s-1"), strict=True))
    plain = CALL | {"task_type": "code", "user.id": "jane", "session.id": "s-1"}
    rows = read(*with_attributes(said, plain | {"ai.telemetry.metadata.task_type": "chat", "metadata.user_id": "joe"})).rows
    assert [(row["task_type"], row["session_id"]) for row in rows] == [("code", "s-1")] * 2
    assert rows[0]["user_hash"] == rows[1]["user_hash"] is not None


def test_metadata_that_litellm_prints_on_its_spans_is_read(read: Any) -> None:
    said = {
        "metadata.user_api_key_user_id": "owner",
        "metadata.user_api_key_end_user_id": "jane",
        "metadata.user_api_key_team_alias": "search",
        "metadata.requester_metadata": "{'task_type': 'code', 'complexity': 0.5, 'session_id': \"it's\", 'headers': {'a': None}}",
    }
    broken = {"metadata.requester_metadata": "{'task_type': open('x')}"}
    first, second, third = read(*with_attributes(CALL | said, CALL | broken, CALL | {"user.id": "jane"})).rows
    assert (first["task_type"], first["complexity"], first["session_id"], first["team"]) == ("code", 0.5, "it's", "search")
    assert first["user_hash"] == third["user_hash"]
    assert second["task_type"] is None


def exception(kind: str) -> list[dict[str, Any]]:
    return [{"name": "exception", "timeUnixNano": str(END_NS), "attributes": pairs({"exception.type": kind, "exception.message": "no"})}]


@pytest.mark.parametrize(
    ("attributes", "fields", "want"),
    [
        ({}, {"status": {"code": 2}, "events": exception("openai.RateLimitError")}, ("failure", "openai.RateLimitError")),
        ({"http.response.status_code": 429}, {"status": {"code": 2}, "events": exception("AI_APICallError")}, ("failure", "429")),
        ({"error.type": "_OTHER"}, {"status": {"code": 2}, "events": exception("APIError")}, ("failure", "APIError")),
        ({"error.type": "timeout"}, {"status": {"code": 2}, "events": exception("APIError")}, ("failure", "timeout")),
        (
            {},
            {"status": {"code": "STATUS_CODE_ERROR"}, "events": exception("asyncio.CancelledError")},
            ("cancelled", "asyncio.CancelledError"),
        ),
        # What was caught on the way did not end the call.
        ({"http.response.status_code": 200}, {"status": {"code": 1}, "events": exception("openai.RateLimitError")}, ("success", None)),
        ({}, {"status": {"code": 2}, "events": [None, {"name": "exception"}]}, ("failure", None)),
    ],
)
def test_an_error_without_a_type_is_told_by_its_status_or_by_its_exception(attributes: Any, fields: Any, want: Any, read: Any) -> None:
    row = read(span(0, CALL | attributes, **fields)).row
    assert (row["status"], row["error_type"]) == want
