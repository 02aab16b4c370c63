"""What a Langfuse export reads as: the traps of observations, scores and manifests one by one, on records made by hand."""

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

from routing_pipeline.ingest.ingestion import ingest_feedback, ingest_logs
from routing_pipeline.lake.table import Lake
from routing_pipeline.storage.home import Home
from tests.ingest.reading import NOW_S, Read, json_lines, read_logs, read_scores

BASE: dict[str, Any] = {
    "id": "obs",
    "trace_id": "tr",
    "type": "GENERATION",
    "parent_observation_id": "",
    "start_time": "2026-11-20 13:46:19.963000",
    "end_time": "2026-11-20 13:46:21.463000",
    "completion_start_time": None,
    "name": "chat",
    "metadata": {},
    "level": "DEFAULT",
    "status_message": "",
    "provided_model_name": "gpt-4o",
    "usage_details": {"input": 100, "output": 10, "total": 110},
    "cost_details": {"total": 0.01},
    "total_cost": 0.01,
    "latency": 1.5,
    "time_to_first_token": 0.15,
    "user_id": "",
    "session_id": "",
    "tags": [],
}


def generation(number: int = 0, **changes: Any) -> dict[str, Any]:
    times = {name: f"2026-11-20 13:{number:02d}:{BASE[name][17:]}" for name in ("start_time", "end_time")}
    return BASE | {"id": f"obs-{number}", "trace_id": f"tr-{number}"} | times | changes


@pytest.fixture
def read(tmp_path: Path) -> Any:
    def rows(*changes: dict[str, Any]) -> Read:
        place = tmp_path / "observations.jsonl"
        place.write_bytes(json_lines(generation(number, **change) for number, change in enumerate(changes)))
        return read_logs(place, tmp_path / "home")

    return rows


def test_times_come_from_the_timestamps_whatever_unit_latency_is_in(read: Any) -> None:
    units = ((1.5, 0.15), (1500, 150))
    rows = read(
        *(
            {"latency": latency, "time_to_first_token": ttft, "completion_start_time": f"2026-11-20 13:0{number}:20.113000"}
            for number, (latency, ttft) in enumerate(units)
        )
    )
    assert (rows.column("latency_ms"), rows.column("ttft_ms")) == ([1500.0] * 2, [150.0] * 2)
    assert rows.column("started_at") == [datetime(2026, 11, 20, 13, number, 19, 963000) for number in range(2)]


def test_a_first_token_at_the_end_or_out_of_the_generation_is_no_first_token(read: Any) -> None:
    rows = read(
        {"completion_start_time": generation()["end_time"]},
        {"completion_start_time": "2026-11-20 13:01:59.0"},
        {"completion_start_time": ""},
    )
    assert rows.column("ttft_ms") == [None, None, None]
    assert rows.result.nulled == {"ttft_ms": 1}


def test_tokens_are_counted_once_whether_or_not_input_includes_cached_ones(read: Any) -> None:
    counted: list[tuple[Any, int | None, int | None]] = [
        # Apart from each other, as Langfuse prices them.
        ({"input": 176, "input_cached_tokens": 1024, "output": 25, "total": 1225}, 1200, 25),
        ({"input": 176, "input_cached_tokens": 1024, "output": 17, "output_reasoning_tokens": 8, "total": 1225}, 1200, 25),
        # As OpenAI reports them: the details are part of input and output.
        ({"input": 1200, "input_cached_tokens": 1024, "output": 25, "total": 1225}, 1200, 25),
        ({"input": 1200, "input_cached_tokens": 1024, "output": 25, "output_reasoning_tokens": 8, "total": 1225}, 1200, 25),
        # One of the two each way.
        ({"input": 176, "input_cached_tokens": 1024, "output": 25, "output_reasoning_tokens": 8, "total": 1225}, 1200, 25),
        ({"input": 1200, "input_cached_tokens": 1024, "output": 17, "output_reasoning_tokens": 8, "total": 1225}, 1200, 25),
        # Nothing tells: apart.
        ({"input": 176, "input_cached_tokens": 1024, "output": 25}, 1200, 25),
        ({"input": 10, "cache_read_input_tokens": 1000, "cache_creation_input_tokens": 190, "output": 25}, 1200, 25),
        # A span's names, dots and all: within, if they fit.
        ({"input": 1200, "input_tokens.cached": 1024, "output": 25}, 1200, 25),
        ({"input": 1200, "details.cache_read_tokens": 900, "details.cache_write_tokens": 300, "output": 25}, 1200, 25),
        ({"input": 10, "prompt_details.cache_read": 1000, "prompt_details.cache_write": 190, "output": 25}, 1200, 25),
        ({"input": 100, "input_audio_tokens": 20, "output": 5, "output_audio_tokens": 6, "total": 131}, 120, 11),
        ({}, None, None),
        (None, None, None),
        ("not json", None, None),
    ]
    rows = read(*({"usage_details": usage} for usage, _, _ in counted)).rows
    assert [(row["prompt_tokens"], row["completion_tokens"]) for row in rows] == [(prompt, completion) for _, prompt, completion in counted]


def test_cached_and_reasoning_tokens_are_kept_by_themselves(read: Any) -> None:
    row = read({"usage_details": {"input": 1, "input_cached_tokens": 1024, "output": 2, "output_reasoning_tokens": 8}}).row
    assert (row["cached_tokens"], row["reasoning_tokens"]) == (1024, 8)


def test_a_cost_of_zero_without_details_is_unknown(read: Any) -> None:
    rows = read(
        {},
        {"total_cost": 0, "cost_details": {}},
        {"total_cost": 0, "cost_details": None},
        {"total_cost": 0, "cost_details": {"total": 0}},
        {"total_cost": None},
        {"total_cost": "0.25"},
    )
    # Where the total is not given, the details have it.
    assert rows.column("cost_usd") == [0.01, None, None, 0.0, 0.01, 0.25]


def test_only_generations_are_records(read: Any) -> None:
    rows = read({}, {"type": "SPAN"}, {"type": "EVENT"}, {"type": "TOOL"}, {"type": "EMBEDDING"}, {"type": None, "provided_model_name": ""})
    assert rows.column("attempt_id") == ["obs-0", "obs-4"]
    assert rows.result.records == 3
    assert rows.refused == [(6, "no model: provided_model_name is empty")]


def test_scores_among_the_logs_are_no_records(tmp_path: Path) -> None:
    (tmp_path / "logs").mkdir()
    (tmp_path / "logs" / "o.jsonl").write_bytes(json_lines([generation(0), generation(1)]))
    (tmp_path / "logs" / "s.jsonl").write_bytes(json_lines([score(), score()]))
    assert read_logs(tmp_path / "logs", tmp_path / "home").result.records == 2


def test_a_trace_names_its_only_generation_and_none_of_several(read: Any) -> None:
    rows = read({"trace_id": "alone"}, {"trace_id": "agent"}, {"trace_id": "agent"}, {"trace_id": ""})
    assert rows.column("request_id") == ["alone", "obs-1", "obs-2", "obs-3"]


def test_errors_become_a_class_and_never_carry_the_message(read: Any) -> None:
    messages = ["litellm.RateLimitError: Error code: 429 - secret", "Error code: 503 - secret", "asyncio.CancelledError", "secret", None]
    nothing = {"level": "ERROR", "usage_details": {"input": 0, "output": 0}, "total_cost": 0}
    rows = read({"level": "WARNING", "status_message": "slow"}, *(nothing | {"status_message": message} for message in messages))
    assert rows.column("status") == ["success", "failure", "failure", "cancelled", "failure", "failure"]
    assert rows.column("error_type") == [None, "litellm.RateLimitError", "503", "asyncio.CancelledError", "error", "error"]
    assert rows.column("prompt_tokens")[1:] == [None] * 5


def test_labels_come_from_the_metadata_then_from_tags(read: Any) -> None:
    labels = {"task_type": "code", "complexity": "high", "routing_rule_id": "r1", "propensity": "0.9", "team": "search", "quality_score": 2}
    tags = ["x", "task_type:chat", "task_type:late", "rule:r2", "complexity:0.3"]
    rows = read(
        {"metadata": labels, "tags": tags}, {"tags": tags}, {"metadata": "broken{", "tags": "broken["}, {"metadata": json.dumps(labels)}
    )
    assert rows.column("task_type") == ["code", "chat", None, "code"]
    assert rows.column("complexity") == [0.75, 0.3, None, 0.75]
    assert rows.column("routing_rule_id") == ["r1", "r2", None, "r1"]
    assert rows.column("propensity") == [0.9, None, None, 0.9]
    assert rows.column("team") == ["search", None, None, "search"]
    assert rows.result.nulled == {"quality_score": 2}


def test_a_provider_in_front_of_the_model_is_told_apart(read: Any) -> None:
    rows = read({"provided_model_name": "openai/gpt-4o"}, {"provided_model_name": "openrouter/meta/llama"}, {})
    assert rows.column("provider") == ["openai", "openrouter", None]
    assert rows.column("provider_model") == ["gpt-4o", "meta/llama", "gpt-4o"]
    assert rows.column("model") == ["openai/gpt-4o", "openrouter/meta/llama", "gpt-4o"]


def test_generations_that_cannot_be_used_are_refused_with_the_reason(read: Any) -> None:
    refused: list[tuple[dict[str, Any], str]] = [
        ({"id": ""}, "no key: id"),
        ({"start_time": "yesterday"}, "start_time is missing or not"),
        ({"end_time": "never"}, "end_time is no time"),
        ({"end_time": "2026-11-20 12:00:00"}, "latency (end_time less start_time) is negative"),
        ({"total_cost": -1}, "total_cost is negative"),
        ({"usage_details": {"input": -5}}, "usage_details.input is negative"),
        ({"usage_details": {"input": 1e300}}, "absurdly large"),
    ]
    rows = read({}, *(changes for changes, _ in refused))
    assert rows.result.ingested == 1
    for (line, reason), (number, (_, why)) in zip(rows.refused, enumerate(refused, 2), strict=True):
        assert line == number
        assert why in reason


RICH = [
    generation(
        0,
        metadata={"task_type": 'code, or "so"\nand on', "complexity": "high"},
        usage_details={"input": 176, "input_cached_tokens": 1024, "output": 25, "total": 1225},
        tags=["rule:r1"],
        user_id="jane",
        session_id="s",
    ),
    generation(1, level="ERROR", status_message="Timeout", end_time=None, total_cost=None),
    generation(2, type="SPAN"),
    generation(3, start_time="never"),
]


def as_csv(records: list[dict[str, Any]], delimiter: str = ",") -> bytes:
    out = io.StringIO()
    writer = csv.writer(out, delimiter=delimiter)
    writer.writerow(records[0])
    for record in records:
        writer.writerow([json.dumps(value) if isinstance(value, (dict, list)) else value for value in record.values()])
    return out.getvalue().encode()


def as_parquet(records: list[dict[str, Any]], *, is_nested: bool) -> bytes:
    def of(name: str, value: Any) -> Any:
        if name == "start_time" and value == "never":
            return None
        if name in {"start_time", "end_time", "completion_start_time"} and value:
            return datetime.fromisoformat(value)
        return value if is_nested or not isinstance(value, (dict, list)) else json.dumps(value)

    types = dict.fromkeys(("start_time", "end_time", "completion_start_time"), pa.timestamp("us"))
    types |= dict.fromkeys(("latency", "time_to_first_token", "total_cost"), pa.float64())
    if is_nested:
        types |= {"metadata": pa.map_(pa.string(), pa.string()), "usage_details": pa.map_(pa.string(), pa.int64())}
        types |= {"cost_details": pa.map_(pa.string(), pa.float64()), "tags": pa.list_(pa.string())}
    rows = [{name: of(name, value) for name, value in record.items()} for record in records]
    rows = [row | {name: list(row[name].items()) for name in types if isinstance(row[name], dict)} for row in rows]
    out = io.BytesIO()
    pq.write_table(pa.Table.from_pylist(rows, pa.schema([(name, types.get(name, pa.string())) for name in records[0]])), out)
    return out.getvalue()


CONTENTS = {
    "a.csv": as_csv(RICH),
    "semicolons.csv": b"\xef\xbb\xbf" + as_csv(RICH, ";"),
    "texts.parquet": as_parquet(RICH, is_nested=False),
    "maps.parquet": as_parquet(RICH, is_nested=True),
}


@pytest.fixture(scope="module")
def lines(tmp_path_factory: pytest.TempPathFactory) -> Read:
    folder = tmp_path_factory.mktemp("lines")
    (folder / "lines.jsonl").write_bytes(json_lines(RICH))
    return read_logs(folder / "lines.jsonl", folder / "home")


@pytest.mark.parametrize("name", CONTENTS)
def test_csv_and_parquet_read_as_json_lines_do(name: str, lines: Read, tmp_path: Path) -> None:
    (tmp_path / name).write_bytes(CONTENTS[name])
    other = read_logs(tmp_path / name, tmp_path / "other")
    apart = {"source_object", "user_hash"}
    assert [{key: row[key] for key in row.keys() - apart} for row in other.rows] == [
        {key: row[key] for key in row.keys() - apart} for row in lines.rows
    ]
    assert (other.result.records, len(other.rows[0]["user_hash"])) == (3, 32)
    assert [reason for _, reason in other.refused] == [reason for _, reason in lines.refused]


def test_rows_of_a_csv_file_are_refused_by_their_line(tmp_path: Path) -> None:
    good = as_csv([generation(0, status_message="two\nlines"), generation(1, start_time="never"), generation(2)]).decode()
    (tmp_path / "a.csv").write_text(good + "short,row\n" + '"quote without end', encoding="utf-8")
    read = read_logs(tmp_path / "a.csv", tmp_path / "home")
    assert read.column("attempt_id") == ["obs-0", "obs-2"]
    assert [line for line, _ in read.refused] == [4, 6, 7]
    assert "2 fields where the header names" in read.refused[1][1]


def score(**changes: Any) -> dict[str, Any]:
    return {
        "id": "sc",
        "timestamp": "2026-11-20 14:00:00.000000",
        "trace_id": "tr-0",
        "observation_id": "obs-0",
        "session_id": None,
        "name": "quality",
        "value": 0.82,
        "source": "EVAL",
        "data_type": "NUMERIC",
        "string_value": None,
    } | changes


def test_an_embedding_beside_a_generation_does_not_take_its_trace_s_score(read: Any) -> None:
    rows = read({"trace_id": "rag"}, {"trace_id": "rag", "type": "EMBEDDING", "provided_model_name": "text-embedding-3-large"})
    assert rows.column("operation") == ["chat", "embedding"]
    assert rows.column("request_id")[0] == "rag"


@pytest.mark.parametrize("kind", ["jsonl", "csv", "parquet"])
def test_scores_are_feedback_on_the_observation_else_on_the_trace(kind: str, tmp_path: Path) -> None:
    given = [
        score(),
        score(observation_id=None, name="user_feedback", value=1.0, source="API", data_type="BOOLEAN"),
        score(name="reviewed", source="ANNOTATION", updated_at="2026-11-21 00:00:00"),
        score(name="category", value=2.0, data_type="CATEGORICAL", string_value="good"),
        score(name="said", value=0.0, data_type="TEXT", string_value="good"),
        score(name="stars", value=4.0),
        score(trace_id=None, observation_id=None, session_id="s"),
    ]
    given = [{"updated_at": None, **record} for record in given]
    place = tmp_path / f"scores.{kind}"
    if kind == "parquet":
        types = {"value": pa.float64()}
        pq.write_table(pa.Table.from_pylist(given, pa.schema([(name, types.get(name, pa.string())) for name in given[0]])), place)
    else:
        place.write_bytes(as_csv(given) if kind == "csv" else json_lines(given))
    kept, refused = read_scores(place, tmp_path / "home")
    found = {row["name"]: (row["attempt_id"], row["request_id"], row["value"], row["source"], row["scored_at"]) for row in kept}
    at = datetime(2026, 11, 20, 14)
    assert found == {
        "quality": ("obs-0", None, 0.82, "judge", at),
        "user_feedback": (None, "tr-0", 1.0, "user", at),
        "reviewed": ("obs-0", None, 0.82, "eval", datetime(2026, 11, 21)),
    }
    assert [reason.partition(";")[0] for reason in refused] == [
        "a score in words has no scale",
        "a score in words has no scale",
        "value lies outside its scale",
        "a score of a session or of an experiment's run is about no single request",
    ]


class Export:
    """A blob export in a folder: tables, and manifests that begin their keys at the bucket."""

    def __init__(self, root: Path) -> None:
        self.root = root / "bucket"
        self.home = Home(root / "home")

    def write(self, table: str, time: str, records: list[dict[str, Any]]) -> None:
        place = self.root / "proj" / table / f"{time}.jsonl"
        place.parent.mkdir(parents=True, exist_ok=True)
        place.write_bytes(json_lines(records))

    def finish(self, time: str, *tables: str, content: bytes | None = None) -> None:
        files = [{"key": f"langfuse/proj/{table}/{time}.jsonl", "table": table, "rowCount": None} for table in tables]
        manifest = {"version": 1, "window": {"minTimestamp": time, "maxTimestamp": time}, "files": files}
        place = self.root / "proj" / "manifests" / f"{time}.json"
        place.parent.mkdir(parents=True, exist_ok=True)
        place.write_bytes(json.dumps(manifest).encode() if content is None else content)

    def read(self) -> Any:
        return ingest_logs(self.home, str(self.root), now_s=NOW_S)


def test_files_count_once_a_manifest_names_them(tmp_path: Path) -> None:
    export = Export(tmp_path)
    export.write("observations_v2", "2026-11-20T14-00-00", [generation(0)])
    export.write("scores", "2026-11-20T14-00-00", [score()])
    export.finish("2026-11-20T14-00-00", "observations_v2", "scores")
    export.write("observations_v2", "2026-11-20T15-00-00", [generation(0), generation(1)])
    first = export.read()
    assert (first.ingested, first.objects_new, first.objects_changing, first.quarantined) == (1, 1, 1, 0)
    export.finish("2026-11-20T15-00-00", "observations_v2")
    second = export.read()
    # The windows of two exports share their boundary, so a row may come twice.
    assert (second.ingested, second.duplicates, second.objects_changing) == (1, 1, 0)
    assert ingest_feedback(export.home, str(export.root), now_s=NOW_S).ingested == 1


def test_a_broken_manifest_names_nothing(tmp_path: Path) -> None:
    export = Export(tmp_path)
    export.write("observations_v2", "2026-11-20T14-00-00", [generation(0)])
    for content in (b"{broken", b"[]", b'{"files": [{"key": 5}, 7, {"key": "x"}]}', b'{"files": {}}'):
        export.finish("2026-11-20T14-00-00", content=content)
        assert (export.read().records, export.read().objects_changing) == (0, 1)


def test_exports_without_manifests_and_logs_beside_folders_of_that_name_are_read_whole(tmp_path: Path) -> None:
    export = Export(tmp_path)
    export.write("observations_v2", "2026-11-20T14-00-00", [generation(0)])
    export.write("other", "2026-11-20T14-00-00", [generation(1)])
    assert export.read().ingested == 2
    beside = Export(tmp_path / "beside")
    beside.write("gateway", "a", [generation(0)])
    beside.write("manifests", "b", [generation(1)])
    assert beside.read().ingested == 2
    assert Lake(beside.home).totals().quarantined == 0


def test_what_a_request_needs_is_told_by_types_in_its_input(read: Any) -> None:
    image = [{"role": "user", "content": [{"type": "text", "text": "?"}, {"type": "image_url", "image_url": {"url": "x"}}]}]
    taken_out = [{"role": "user", "content": "@@@langfuseMedia:type=audio/wav|id=1|source=base64_data_uri@@@"}]
    asked = {"messages": [{"role": "user", "content": "hi"}], "tools": [{"name": "f"}]}
    rows = read({}, {"input": image}, {"input": taken_out}, {"input": asked}, {"input": 'a text about "type": "image"'})
    assert rows.column("has_image") == [None, True, False, False, None]
    assert rows.column("has_audio") == [None, False, True, False, None]
    assert rows.column("has_tools") == [None, None, None, True, None]


def test_the_older_tables_are_read_and_their_traces_are_left_out(tmp_path: Path) -> None:
    trace = {"id": "tr-0", "timestamp": "2026-11-20 13:46:19.963000", "name": "chat", "environment": "default", "project_id": "p"}
    trace |= {"metadata": {}, "user_id": "jane", "session_id": "s", "release": None, "public": False, "bookmarked": False, "tags": []}
    for table, records in (("observations", [generation()]), ("traces", [trace] * 3)):
        (tmp_path / "logs" / table).mkdir(parents=True)
        (tmp_path / "logs" / table / "2026-11-20T14-00-00.jsonl").write_bytes(json_lines(records))
    found = read_logs(tmp_path / "logs", tmp_path / "home")
    assert (len(found.rows), found.refused, found.result.left_out) == (
        1,
        [],
        {"observations that are no generations, traces and scores": 3},
    )
    kept, refused = read_scores(tmp_path / "logs" / "traces", tmp_path / "other")
    assert (kept, refused) == ([], [])


def test_an_observation_that_holds_the_fields_of_its_trace_is_no_trace(read: Any) -> None:
    of_its_trace = {"trace_name": "chat", "user_id": "jane", "session_id": "s", "release": "", "bookmarked": False, "public": False}
    assert len(read(of_its_trace | {"timestamp": "2026-11-20 13:46:19.963000"}, of_its_trace).column("attempt_id")) == 2
