"""What a LiteLLM record reads as: the traps of the format one by one, on records made by hand."""

from __future__ import annotations

import copy
import csv
import json
from pathlib import Path
from typing import Any

import duckdb
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from routing_pipeline.ingest.ingestion import ingest_logs
from routing_pipeline.lake.table import Lake
from routing_pipeline.storage.home import Home
from tests.ingest.reading import read_logs

NOW_S = 1_795_500_000.0
START_S = 1_795_400_000.0

BASE: dict[str, Any] = {
    "id": "chatcmpl-1",
    "litellm_call_id": "call",
    "trace_id": "trace",
    "session_id": "",
    "call_type": "acompletion",
    "cache_hit": None,
    "stream": None,
    "status": "success",
    "custom_llm_provider": "openai",
    "startTime": START_S,
    "endTime": START_S + 2,
    "completionStartTime": START_S + 2,
    "response_time": 0.25,
    "model": "openai/gpt-4o",
    "model_group": "group",
    "response_cost": 0.01,
    "prompt_tokens": 100,
    "completion_tokens": 10,
    "request_tags": [],
    "metadata": {"user_api_key_request_route": "/v1/chat/completions"},
    "hidden_params": {
        "litellm_overhead_time_ms": 9.5,
        "additional_headers": {"x-litellm-attempted-retries": 0, "x-litellm-attempted-fallbacks": 0},
    },
}


def merged(base: dict[str, Any], changes: dict[str, Any]) -> dict[str, Any]:
    result = copy.deepcopy(base)
    for name, value in changes.items():
        is_nested = isinstance(value, dict) and isinstance(result.get(name), dict)
        result[name] = merged(result[name], value) if is_nested else value
    return result


@pytest.fixture(scope="module")
def read(tmp_path_factory: pytest.TempPathFactory) -> Any:
    """Reads records (each a set of changes to BASE) in one go; gives rows in their order."""

    def rows(*changes: dict[str, Any]) -> list[dict[str, Any]]:
        folder = tmp_path_factory.mktemp("litellm")
        records = []
        for number, change in enumerate(changes):
            shift = {name: BASE[name] + 10 * number for name in ("startTime", "endTime", "completionStartTime")}
            records.append(merged(merged(BASE, {"id": f"r{number}", "litellm_call_id": f"call-{number}"} | shift), change))
        (folder / "a.jsonl").write_text("\n".join(map(json.dumps, records)) + "\n", encoding="utf-8")
        home = Home(folder / "home")
        result = ingest_logs(home, str(folder / "a.jsonl"), now_s=NOW_S)
        assert result.ingested == len(changes), Lake(home).totals().reasons
        with duckdb.connect() as connection:
            cursor = connection.execute(
                "SELECT * FROM read_parquet($f) ORDER BY started_at", {"f": list(Lake(home).attempt_files(0, NOW_S))}
            )
            names = [column[0] for column in cursor.description]
            return [dict(zip(names, row, strict=True)) for row in cursor.fetchall()]

    return rows


def column(rows: list[dict[str, Any]], name: str) -> list[Any]:
    return [row[name] for row in rows]


def test_latency_is_end_minus_start_and_never_response_time(read: Any) -> None:
    rows = read({}, {"stream": True, "completionStartTime": START_S + 10.25})
    assert column(rows, "latency_ms") == [2000.0, 2000.0]
    assert column(rows, "ttft_ms") == [None, 250.0]


def test_a_stream_whose_first_token_time_is_its_end_has_no_ttft(read: Any) -> None:
    assert column(read({"stream": True}), "ttft_ms") == [None]


def test_gateway_overhead_counts_only_without_retries_and_fallbacks(read: Any) -> None:
    def headers(retries: Any, fallbacks: Any) -> dict[str, Any]:
        return {"x-litellm-attempted-retries": retries, "x-litellm-attempted-fallbacks": fallbacks}

    rows = read(
        {},
        {"hidden_params": {"litellm_overhead_time_ms": 2174.669, "additional_headers": headers(0, 1)}},
        {"hidden_params": {"additional_headers": headers(2, 0)}},
        {"hidden_params": {"additional_headers": None}},
    )
    assert column(rows, "routing_latency_ms") == [9.5, None, None, None]
    assert column(rows, "retries") == [0, 0, 2, None]


def test_the_model_is_the_name_that_the_gateway_routes_by(read: Any) -> None:
    decision = {"router_model_name": "smart", "routed_model": "strong"}
    rows = read(
        {"metadata": {"routing_decision": {"routed_model": "rule/r1"}}},
        {},
        {"model_group": ""},
        {"model_group": None, "custom_llm_provider": None, "model": "mistral"},
        {"model": "openai/org/model", "custom_llm_provider": "openai"},
        # The fallback's record still carries the decision whose model failed.
        {
            "metadata": {"routing_decision": decision},
            "model_group": "cheap",
            "hidden_params": {"additional_headers": {"x-litellm-attempted-fallbacks": 1}},
        },
        {"metadata": {"routing_decision": decision}, "model_group": "smart"},
    )
    assert column(rows, "model") == ["rule/r1", "group", "openai/gpt-4o", "mistral", "group", "cheap", "strong"]
    assert column(rows, "provider_model")[2:5] == ["gpt-4o", "mistral", "org/model"]


def test_a_proxy_groups_attempts_by_call_id_and_an_sdk_by_trace_id(read: Any) -> None:
    sdk = {"metadata": {"user_api_key_request_route": None}}
    rows = read(
        {"trace_id": "S"},
        {"trace_id": "S"},
        merged(sdk, {"trace_id": "T"}),
        merged(sdk, {"trace_id": "T"}),
        merged(sdk, {"trace_id": None}),
        # A call id seen in two attempts means a proxy even where nothing else says so.
        merged(sdk, {"trace_id": "X", "litellm_call_id": "shared"}),
        merged(sdk, {"trace_id": "X", "litellm_call_id": "shared"}),
    )
    assert column(rows, "request_id") == ["call-0", "call-1", "T", "T", "call-4", "shared", "shared"]


def test_a_session_is_what_the_client_said_and_never_a_trace_made_up_by_the_gateway(read: Any) -> None:
    rows = read(
        {"trace_id": "random"},
        {"trace_id": "s-1", "metadata": {"requester_metadata": {"session_id": "s-1"}}},
        {"trace_id": "t-1", "metadata": {"requester_metadata": {"trace_id": "t-1"}}},
        {"session_id": "own"},
    )
    assert column(rows, "session_id") == [None, "s-1", "t-1", "own"]


def test_labels_come_from_the_client_then_the_key_then_a_tag_then_the_router(read: Any) -> None:
    both = {"requester_metadata": {"task_type": "a"}, "spend_logs_metadata": {"task_type": "b"}, "routing_decision": {"request_type": "d"}}
    rows = read(
        {"metadata": both, "request_tags": ["task_type:c"]},
        {"metadata": {**both, "requester_metadata": None}, "request_tags": ["task_type:c"]},
        {"metadata": {"routing_decision": {"request_type": "d"}}, "request_tags": ["User-Agent: x", "task_type:c", "task_type:e"]},
        {"metadata": {"routing_decision": {"request_type": "d"}}, "request_tags": None},
        {"request_tags": ["task_type:"]},
    )
    assert column(rows, "task_type") == ["a", "b", "c", "d", None]


def test_complexity_is_a_number_or_one_of_three_words(read: Any) -> None:
    given = ["low", "Medium", "high", 0.3, "0.4", 1, -0.1, 7, "SIMPLE", None]
    rows = read(*({"metadata": {"requester_metadata": {"complexity": value}}} for value in given), {"request_tags": ["complexity:high"]})
    assert column(rows, "complexity") == [0.25, 0.5, 0.75, 0.3, 0.4, 1.0, None, None, None, None, 0.75]


def test_rules_come_from_a_tag_then_the_client_then_a_tier_that_is_no_built_in_one(read: Any) -> None:
    rows = read(
        {"request_tags": ["rule:r1@v2"], "metadata": {"requester_metadata": {"routing_rule_id": "r2"}}},
        {"metadata": {"requester_metadata": {"routing_rule_id": "r2"}, "routing_decision": {"tier": "r3", "cause": "classifier_plugin"}}},
        {"metadata": {"routing_decision": {"tier": "r3_code_high"}}},
        {"metadata": {"routing_decision": {"tier": "REASONING"}}},
    )
    assert column(rows, "routing_rule_id") == ["r1@v2", "r2", "r3_code_high", None]
    assert column(rows, "routing_reason") == [None, "classifier_plugin", None, None]


def test_what_the_built_in_router_went_by_is_a_column_and_a_rule_of_ours_is_none(read: Any) -> None:
    rows = read(
        {"metadata": {"routing_decision": {"router_type": "complexity", "tier": "COMPLEX", "score": 0.41}}},
        {"metadata": {"routing_decision": {"tier": "r3_code_high", "cause": "classifier_plugin"}}},
        {"metadata": {"routing_decision": {"tier": "SIMPLE", "score": "NaN"}}},
    )
    assert column(rows, "router_tier") == ["COMPLEX", None, "SIMPLE"]
    assert column(rows, "router_score") == [0.41, None, None]


def test_a_key_is_known_by_a_hash_of_its_name_so_that_a_renewed_one_stays_the_same(read: Any) -> None:
    rows = read(
        {"metadata": {"user_api_key_alias": "batch-jobs", "user_api_key_hash": "aaa"}},
        {"metadata": {"user_api_key_alias": "batch-jobs", "user_api_key_hash": "bbb"}},
        {"metadata": {"user_api_key_alias": None, "user_api_key_hash": "aaa"}},
    )
    one, renewed, unnamed = column(rows, "key_hash")
    assert one == renewed != unnamed
    assert len(one) == 32
    assert "batch-jobs" not in (one, unnamed)


def test_a_cost_of_zero_is_unknown_on_failures_and_where_the_gateway_says_it_could_not_price(read: Any) -> None:
    rows = read(
        {"response_cost": 0.0, "cost_breakdown": {"total_cost": 0.0}},
        {"response_cost": 0.0, "cache_hit": True},
        {"response_cost": 0.0},
        {"response_cost": 0.0, "cost_breakdown": {"total_cost": 0.0}, "response_cost_failure_debug_info": {"error_str": "not mapped"}},
        {"response_cost": 0.0, "status": "failure"},
        {"response_cost": 0.0, "zero_cost_diagnostic": {"reason": "unknown model"}},
        {"response_cost": None},
        {"response_cost": 0.02, "status": "failure"},
    )
    assert column(rows, "cost_usd") == [0.0, 0.0, None, None, None, None, None, 0.02]


def test_failures_carry_a_normalised_error_and_no_tokens_of_zero(read: Any) -> None:
    failure = {"status": "failure", "prompt_tokens": 0, "completion_tokens": 0}
    rows = read(
        failure | {"error_information": {"normalized_error": "429_RATE_LIMIT_EXCEEDED", "error_class": "RateLimitError"}},
        failure | {"error_information": {"normalized_error": None, "error_class": "Timeout"}},
        failure | {"error_information": {"error_class": "CancelledError", "error_code": "499"}},
        {"error_information": {"normalized_error": "", "error_class": ""}},
    )
    assert column(rows, "status") == ["failure", "failure", "cancelled", "success"]
    assert column(rows, "error_type") == ["429_RATE_LIMIT_EXCEEDED", "Timeout", "CancelledError", None]
    assert column(rows, "prompt_tokens") == [None, None, None, 100]


def test_cached_and_reasoning_tokens_come_from_either_providers_shape(read: Any) -> None:
    rows = read(
        {
            "metadata": {
                "usage_object": {"prompt_tokens_details": {"cached_tokens": 64}, "completion_tokens_details": {"reasoning_tokens": 8}}
            }
        },
        {"metadata": {"usage_object": {"cache_read_input_tokens": 32, "prompt_tokens_details": None}}},
        {"metadata": {"usage_object": {}}},
    )
    assert column(rows, "cached_tokens") == [64, 32, None]
    assert column(rows, "reasoning_tokens") == [8, None, None]


def test_tokens_written_to_a_cache_and_audio_come_from_either_providers_shape(read: Any) -> None:
    usage = {"cache_creation_input_tokens": 40, "prompt_tokens_details": {"cache_creation_tokens": 40, "audio_tokens": 7}}
    rows = read(
        {"metadata": {"usage_object": usage | {"completion_tokens_details": {"audio_tokens": 9}}}},
        {"metadata": {"usage_object": {"prompt_tokens_details": {"cache_write_tokens": 30}}}},
        {"metadata": {"usage_object": {"prompt_tokens_details": {"cached_tokens": 3}}}},
        {"metadata": {"usage_object": {"cache_creation_input_tokens": -1}}},
    )
    assert column(rows, "cache_write_tokens") == [40, 30, None, None]
    assert column(rows, "audio_prompt_tokens") == [7, None, None, None]
    assert column(rows, "audio_completion_tokens") == [9, None, None, None]


def test_teams_pay_and_users_are_hashed(read: Any) -> None:
    rows = read(
        {"metadata": {"user_api_key_team_alias": "search"}, "request_tags": ["team:tag"], "end_user": "u-1"},
        {"request_tags": ["team:tag"], "metadata": {"user_api_key_user_id": "u-1"}},
        {"end_user": ""},
    )
    assert column(rows, "team") == ["search", "tag", None]
    hashes = column(rows, "user_hash")
    assert hashes[0] == hashes[1] != "u-1"
    assert hashes[2] is None


def test_a_fallback_names_the_model_that_failed_before_it(read: Any) -> None:
    fell_back = {"hidden_params": {"additional_headers": {"x-litellm-attempted-fallbacks": 1}}}
    rows = read(
        {"litellm_call_id": "a", "status": "failure", "model_group": "first"},
        {"litellm_call_id": "a", "status": "failure", "model_group": "second"},
        {"litellm_call_id": "a", "model_group": "third", **fell_back},
        {"litellm_call_id": "b", "status": "failure", "model_group": "same"},
        {"litellm_call_id": "b", "model_group": "same"},
        # Streams carry no headers; another model after a failure is a fallback all the same.
        {"litellm_call_id": "c", "status": "failure", "model_group": "first"},
        {"litellm_call_id": "c", "model_group": "third", "stream": True, "hidden_params": {"additional_headers": {}, "x": 1}},
    )
    rows_by_number = column(rows, "fallback_from")
    assert rows_by_number[:5] == [None, None, "second", None, None]


def test_attempts_of_other_kinds_than_chat_are_kept(read: Any) -> None:
    assert len(read({"call_type": "aembedding"}, {"call_type": "never heard of"})) == 2


def test_names_of_any_length_and_content_stay_text(read: Any) -> None:
    long = "m" * 10_000
    rows = read({"model_group": long, "litellm_call_id": long}, {"model_group": "</script>'; DROP TABLE x; --\n\x00é😀"})
    assert column(rows, "model")[0] == "m" * 256
    assert len(rows[0]["request_id"]) == 32
    assert rows[1]["model"].startswith("</script>'; DROP")


def test_objects_of_a_google_bucket_are_read_whatever_they_are_called(tmp_path: Path) -> None:
    """Batches end in `.ndjson`; single objects are called after the response or the failure, without any ending."""
    day = tmp_path / "logs" / "2026-11-23"
    day.mkdir(parents=True)
    records = [BASE | {"id": f"r{number}", "litellm_call_id": f"call-{number}"} for number in range(4)]
    (day / "batch-1795400000000-0a1b2c3d.ndjson").write_text("\n".join(map(json.dumps, records[:2])), encoding="utf-8")
    (day / "chatcmpl-1").write_text(json.dumps(records[2]), encoding="utf-8")
    (day / "failure-8c3c").write_text(json.dumps(records[3] | {"status": "failure"}), encoding="utf-8")
    result = ingest_logs(Home(tmp_path / "home"), str(tmp_path / "logs"), now_s=NOW_S)
    assert (result.records, result.ingested, result.formats) == (4, 4, ("litellm",))


def test_each_call_type_is_a_kind_and_reads_are_no_spend(tmp_path: Path) -> None:
    types = {
        "acompletion": "chat",
        "aembedding": "embedding",
        "arerank": "rerank",
        "atranscription": "transcription",
        "amoderation": "moderation",
    }
    types |= {"aimage_generation": "image", "aspeech": "speech", "call_mcp_tool": "tool", "a_new_one": "other", "text_completion": "chat"}
    records = [merged(BASE, {"id": f"r{number}", "litellm_call_id": f"c{number}", "call_type": name}) for number, name in enumerate(types)]
    reads = [
        merged(BASE, {"id": f"g{name}", "litellm_call_id": f"g{name}", "call_type": name}) for name in ("aget_responses", "afile_list")
    ]
    (tmp_path / "a.jsonl").write_text("\n".join(map(json.dumps, [*records, *reads])) + "\n", encoding="utf-8")
    home = Home(tmp_path / "home")
    result = ingest_logs(home, str(tmp_path / "a.jsonl"), now_s=NOW_S)
    assert (result.ingested, result.quarantined, sum(result.left_out.values())) == (len(types), 0, 2)
    rows = duckdb.read_parquet(list(Lake(home).attempt_files(0, NOW_S))).project("request_id, operation, cost_usd").fetchall()
    assert {request: kind for request, kind, _ in rows} == {f"c{number}": kind for number, kind in enumerate(types.values())}
    assert sum(cost for _, _, cost in rows) == pytest.approx(0.01 * len(types))


def test_tokens_written_to_the_cache_beside_the_prompt_are_told_by_the_total(read: Any) -> None:
    usage = {"prompt_tokens_details": {"cached_tokens": 700}, "cache_read_input_tokens": 700, "cache_creation_input_tokens": 500}
    counts = {"prompt_tokens": 702, "completion_tokens": 40, "metadata": {"usage_object": usage}}
    rows = read(counts | {"total_tokens": 1_242}, counts | {"total_tokens": 1_342, "prompt_tokens": 1_302})
    assert column(rows, "prompt_tokens") == [1_202, 1_302]
    assert column(rows, "cached_tokens") == [700, 700]
    assert column(rows, "cache_write_tokens") == [500, 500]


def test_messages_tell_by_the_types_of_their_parts_whether_there_is_an_image(read: Any) -> None:
    told: list[tuple[Any, bool | None]] = [
        ([{"role": "user", "content": "a text"}], False),
        ([{"role": "user", "content": 'a text that quotes "type": "image_url" and "content":[ '}], False),
        ([{"role": "user", "content": [{"type": "text", "text": 'one that quotes "type": "image"'}]}], False),
        ([{"role": "system", "content": "s"}, {"role": "user", "content": [{"type": "image_url", "image_url": {"url": "x"}}]}], True),
        ([{"role": "user", "content": [{"type": "image", "source": {"type": "base64", "media_type": "image/png"}}]}], True),
        ([{"role": "user", "content": "redacted-by-litellm"}] * 2, None),
        ([{"role": "user", "content": None}], None),
        ("redacted-by-litellm", None),
        ([], None),
        (None, None),
    ]
    assert column(read(*({"messages": messages} for messages, _ in told)), "has_image") == [has_image for _, has_image in told]


def test_counts_that_stand_in_the_answer_alone_are_read_there(read: Any) -> None:
    chat = {"prompt_tokens_details": {"cached_tokens": 64, "audio_tokens": 3}, "completion_tokens_details": {"reasoning_tokens": 8}}
    responses = {"input_tokens_details": {"cached_tokens": 64}, "output_tokens_details": {"reasoning_tokens": 8}}
    rows = read(
        {"metadata": {"usage_object": None}, "response": {"usage": chat}},
        {"metadata": {"usage_object": None}, "response": {"usage": responses}},
        {"metadata": {"usage_object": None}, "response": {"usage": {"cache_read_input_tokens": 64, "cache_creation_input_tokens": 5}}},
        # Both say the same.
        {"metadata": {"usage_object": chat}, "response": {"usage": chat}},
        {"metadata": {"usage_object": None}, "response": "redacted-by-litellm"},
    )
    assert column(rows, "cached_tokens") == [64, 64, 64, 64, None]
    assert column(rows, "reasoning_tokens") == [8, 8, None, 8, None]
    assert column(rows, "audio_prompt_tokens") == [3, None, None, 3, None]
    assert column(rows, "cache_write_tokens") == [None, None, 5, None, None]
    assert column(rows, "prompt_tokens") == [100] * 5


@pytest.mark.parametrize("kind", ["jsonl", "csv", "parquet"])
def test_objects_that_a_warehouse_keeps_as_text_are_read_as_what_they_are(kind: str, tmp_path: Path) -> None:
    changes: dict[str, Any] = {
        "request_tags": ["feature:search", "beta"],
        "metadata": {"user_api_key_team_alias": "growth", "usage_object": {"prompt_tokens_details": {"cached_tokens": 64}}},
    }
    records = [merged(BASE, changes | {"id": f"r{number}", "litellm_call_id": f"call-{number}"}) for number in range(3)]
    kept = [{name: json.dumps(each) if isinstance(each, (dict, list)) else each for name, each in record.items()} for record in records]
    place = tmp_path / f"logs.{kind}"
    if kind == "jsonl":
        place.write_text("\n".join(map(json.dumps, kept)), encoding="utf-8")
    elif kind == "parquet":
        pq.write_table(pa.Table.from_pylist(kept), place)
    else:
        with place.open("w", encoding="utf-8", newline="") as file:
            writer = csv.writer(file)
            writer.writerows([list(kept[0]), *(list(each.values()) for each in kept)])
    found = read_logs(place, tmp_path / "home")
    assert found.refused == []
    # A single one stands by itself, as objects of the gateway's own do.
    (tmp_path / "one.json").write_text(json.dumps(kept[0]), encoding="utf-8")
    assert read_logs(tmp_path / "one.json", tmp_path / "other").row["cached_tokens"] == 64
    names = ("request_id", "team", "feature", "tags", "cached_tokens", "prompt_tokens")
    assert [tuple(row[name] for name in names) for row in found.rows] == [
        (f"call-{number}", "growth", "search", "beta", 64, 100) for number in range(3)
    ]
