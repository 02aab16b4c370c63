"""Logs as they should not be: each record ends as ingested, duplicate or quarantined, and nothing stops its batch."""

from __future__ import annotations

import errno
import gzip
import json
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import duckdb
import pytest
import zstandard

from routing_pipeline.errors import UnusableInputError
from routing_pipeline.ingest import objects
from routing_pipeline.ingest.ingestion import IngestResult, ingest_logs
from routing_pipeline.ingest.staging import stager, unpack
from routing_pipeline.lake.table import Lake
from routing_pipeline.storage.home import Home

NOW_S = 1_795_500_000.0
START_S = 1_795_400_000.0


def payload(number: int, **changes: Any) -> dict[str, Any]:
    """A LiteLLM record as the proxy writes it; `changes` replace top-level fields."""
    start = START_S + number
    record = {
        "id": f"chatcmpl-{number}",
        "litellm_call_id": f"call-{number}",
        "trace_id": f"trace-{number}",
        "call_type": "acompletion",
        "status": "success",
        "custom_llm_provider": "openai",
        "startTime": start,
        "endTime": start + 1.5,
        "completionStartTime": start + 1.5,
        "model": "openai/gpt-4o",
        "model_group": "gpt-4o",
        "response_cost": 0.01,
        "prompt_tokens": 100,
        "completion_tokens": 10,
        "request_tags": ["task_type:code"],
        "metadata": {"user_api_key_request_route": "/v1/chat/completions", "requester_metadata": {}},
    }
    return record | changes


def line(number: int, **changes: Any) -> bytes:
    return json.dumps(payload(number, **changes)).encode()


class Logs:
    """A folder of logs and a home to read them into."""

    def __init__(self, root: Path) -> None:
        self.folder = root / "logs"
        self.folder.mkdir()
        self.home = Home(root / "home")
        self.lake = Lake(self.home)

    def write(self, name: str, content: bytes) -> Path:
        path = self.folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(content)
        return path

    def ingest(self, **options: Any) -> IngestResult:
        result = ingest_logs(self.home, str(self.folder), now_s=NOW_S, **options)
        assert result.records == result.ingested + result.quarantined + result.duplicates
        return result

    def rows(self, columns: str = "*") -> list[tuple[Any, ...]]:
        files = list(self.lake.attempt_files(0, NOW_S))
        query = f"SELECT {columns} FROM read_parquet($f) ORDER BY started_at"  # noqa: S608 (the test's own words)
        with duckdb.connect() as connection:
            return connection.execute(query, {"f": files}).fetchall() if files else []

    def quarantine(self) -> list[tuple[str, int | None, str, str | None]]:
        with duckdb.connect() as connection:
            return connection.execute(
                "SELECT source_object, line, reason, excerpt FROM read_parquet($f) ORDER BY ALL", {"f": list(self.lake.quarantine_files())}
            ).fetchall()

    def reasons(self) -> dict[int | None, str]:
        return {at: reason for _, at, reason, _ in self.quarantine()}


@pytest.fixture
def logs(tmp_path: Path) -> Logs:
    return Logs(tmp_path)


BAD_RECORDS: list[tuple[bytes, str]] = [
    (b"this is not json", "not valid JSON"),
    (b'{"id": "cut", "litellm_call_id": "cu', "not valid JSON"),
    (b'{"id": "\xff\xfe"}', "not valid JSON"),
    (b"[1, [2, [3]]]", "not a JSON object"),
    (b'"a string"', "not a JSON object"),
    (b"null", "not a JSON object"),
    (b"{}", "no known log format: it has no fields"),
    (b'{"id": "a", "output": 5}', "no known log format: its fields are id, output; name its format with --format"),
    (line(1, id="", litellm_call_id=None), "no key"),
    (line(1, startTime=None), "startTime is missing"),
    (line(1, startTime="yesterday"), "startTime is missing or not a number"),
    (line(1, startTime=float("nan")), "startTime is missing or not a number"),
    (line(1, startTime=START_S * 1e3), "milliseconds"),
    (line(1, startTime=START_S * 1e6), "microseconds"),
    (line(1, startTime=START_S * 1e9), "nanoseconds"),
    (line(1, startTime=NOW_S + 3_700), "in the future"),
    (line(1, startTime=12.0), "before 2015"),
    (line(1, endTime=START_S - 5), "negative latency"),
    (line(1, endTime=(START_S + 2) * 1e3), "another unit"),
    (line(1, endTime=float("nan")), "endTime is NaN"),
    (line(1, endTime=float("inf")), "endTime is NaN, infinite"),
    (line(1, endTime="later"), "endTime is not a number"),
    (line(1, response_cost=-0.01), "response_cost is negative"),
    (line(1, response_cost="abc"), "response_cost is not a number"),
    (line(1, response_cost={"usd": 1}), "response_cost is not a number"),
    (line(1, response_cost=float("nan")), "response_cost is NaN"),
    (line(1, response_cost=float("inf")), "response_cost is NaN, infinite"),
    (line(1).replace(b'"response_cost": 0.01', b'"response_cost": 1e400'), "response_cost is NaN, infinite"),
    (line(1, prompt_tokens=-1), "prompt_tokens is negative"),
    (line(1, prompt_tokens="many"), "prompt_tokens is not a number"),
    (line(1, completion_tokens=1e300), "completion_tokens is NaN, infinite or absurdly large"),
    (line(1, status="maybe"), "status is neither"),
    (line(1, status=None), "status is neither"),
    (line(1, model=None, model_group=""), "no model"),
]


def test_each_unusable_record_is_quarantined_with_its_line_and_reason_and_the_good_ones_around_it_stay(logs: Logs) -> None:
    lines = [line(1000)]
    for number, (bad, _) in enumerate(BAD_RECORDS):
        lines += [bad, line(2000 + number)]
    logs.write("mixed.jsonl", b"\n".join(lines) + b"\n")
    result = logs.ingest()
    assert (result.records, result.ingested, result.quarantined) == (len(lines), len(BAD_RECORDS) + 1, len(BAD_RECORDS))
    reasons = logs.reasons()
    for number, (bad, why) in enumerate(BAD_RECORDS):
        assert why in reasons[2 * number + 2], (bad[:80], reasons[2 * number + 2])


CUTS = [b'{"id": "x", "response_cost": ', b'{"id": "x", "response_cost":', b'{"id": "x",', b'{"id"', b"{", b"[", b'"']


def test_a_line_that_breaks_off_anywhere_takes_no_other_line_with_it(logs: Logs) -> None:
    for place, cut in enumerate(CUTS):
        first, second, third, negative = (
            line(10 * place + number, **({"response_cost": -1} if number == 4 else {})) for number in (1, 2, 3, 4)
        )
        logs.write(f"{place}.jsonl", b"\n".join([first, cut, second, cut, cut, third, negative, cut]) + b"\n")
    result = logs.ingest()
    assert (result.ingested, result.quarantined) == (3 * len(CUTS), 5 * len(CUTS))
    assert [(name, at) for name, at, *_ in logs.quarantine()] == [
        (f"{place}.jsonl", at) for place in range(len(CUTS)) for at in (2, 4, 5, 7, 8)
    ]


def test_an_excerpt_shows_the_shape_of_a_record_and_none_of_its_text(logs: Logs) -> None:
    secret = b'{"id": "sk-secret-1", "messages": "my password is hunter2", "n": 5, bare words hunter2, "cut: hunter2'
    logs.write("a.jsonl", line(1) + b"\n" + secret + b"\n" + line(2, response_cost=-1, end_user="jane@example.org") + b"\n")
    logs.ingest()
    excerpts = [excerpt for *_, excerpt in logs.quarantine()]
    assert all(excerpt is not None and len(excerpt) <= 200 for excerpt in excerpts)
    assert not any(word in excerpt for excerpt in excerpts for word in ("hunter2", "secret", "jane", "password") if excerpt)
    assert '"messages": "***"' in str(excerpts)


def test_strings_that_are_numbers_are_read_as_numbers(logs: Logs) -> None:
    logs.write("a.jsonl", line(1, response_cost="2.5", prompt_tokens="12", completion_tokens=7.0))
    assert logs.ingest().ingested == 1
    assert logs.rows("cost_usd, prompt_tokens, completion_tokens") == [(2.5, 12, 7)]


def test_optional_values_out_of_range_become_null_and_are_counted_by_column(logs: Logs) -> None:
    def asked(**metadata: Any) -> dict[str, Any]:
        return {"user_api_key_request_route": "/v1", "requester_metadata": metadata}

    records = [
        line(1, metadata=asked(quality_score=1.5, propensity=0, complexity="extreme", queue_depth=-2, user_rating="five")),
        line(2, metadata=asked(quality_score=0.5, propensity=1, complexity="LOW", queue_depth=3, user_rating=1)),
        line(3, stream=True, completionStartTime=START_S),
    ]
    logs.write("a.jsonl", b"\n".join(records))
    result = logs.ingest()
    assert result.ingested == 3
    assert result.nulled == {"complexity": 1, "propensity": 1, "quality_score": 1, "queue_depth": 1, "ttft_ms": 1, "user_rating": 1}
    columns = "quality_score, propensity, complexity, queue_depth, user_rating"
    assert logs.rows(columns)[:2] == [(None,) * 5, (0.5, 1.0, 0.25, 3, 1.0)]


def test_byte_order_marks_windows_line_ends_and_blank_lines_are_no_records(logs: Logs) -> None:
    logs.write("bom.jsonl", b"\xef\xbb\xbf" + line(1) + b"\r\n\r\n   \r\n" + line(2) + b"\r\nbroken\r\n")
    result = logs.ingest()
    assert (result.ingested, result.quarantined) == (2, 1)
    assert logs.reasons() == {5: "not valid JSON"}


def test_a_byte_order_mark_before_a_single_document_is_no_part_of_it(logs: Logs) -> None:
    logs.write("a.json", b"\xef\xbb\xbf" + line(1))
    assert logs.ingest().ingested == 1


def test_of_two_equal_keys_the_first_counts(logs: Logs) -> None:
    logs.write("a.jsonl", line(1)[:-1] + b', "model_group": "other"}\n' + line(2))
    logs.ingest()
    assert logs.rows("model") == [("gpt-4o",), ("gpt-4o",)]


def test_a_document_cannot_claim_to_come_from_another_object(logs: Logs) -> None:
    logs.write("a.json", line(1)[:-1] + b', "__object": 1}')
    logs.write("b.json", b'{"__object": 0, ' + line(2)[1:])
    logs.ingest()
    assert logs.rows("attempt_id[:6], source_object") == [("call-1", "a.json"), ("call-2", "b.json")]


def test_a_20_mb_line_is_read_without_its_prompt_and_its_batch_goes_on(logs: Logs) -> None:
    long = line(2, messages=[{"role": "user", "content": "x" * 20_000_000}])
    logs.write("long.jsonl", line(1) + b"\n" + long + b"\nbroken\n" + line(3, response_cost=-1) + b"\n" + line(4) + b"\n")
    logs.write("other.jsonl", line(5) + b"\n" + line(6) + b"\n")
    result = logs.ingest()
    assert (result.ingested, result.quarantined) == (5, 2)
    assert logs.reasons() == {3: "not valid JSON", 4: "response_cost is negative"}


def test_refused_records_are_named_by_their_lines_among_many_wide_ones(logs: Logs) -> None:
    wide = {"metadata": {"user_api_key_request_route": "/v1/chat/completions", "price_map": "p" * 12_000}}
    logs.write("wide.jsonl", b"\n".join(line(number, **wide, **({} if number % 50 else {"startTime": None})) for number in range(4_000)))
    result = logs.ingest()
    assert (result.ingested, result.quarantined) == (3_920, 80)
    assert set(logs.reasons()) == set(range(1, 4_000, 50))


def test_a_line_beyond_64_mb_is_quarantined_by_its_number(logs: Logs) -> None:
    logs.write("long.jsonl", line(1) + b'\n{"x": "' + b"y" * (65 << 20) + b'"}\n' + line(2) + b"\n")
    result = logs.ingest()
    assert (result.ingested, result.quarantined) == (2, 1)
    assert logs.reasons() == {2: "line longer than 64 MiB"}


def test_a_prompt_full_of_markup_is_just_a_prompt_and_is_not_kept(logs: Logs) -> None:
    nasty = "</script><script>alert(1)</script> | table | {{ jinja }} '; DROP TABLE conformed; --"
    logs.write("a.jsonl", line(1, messages=[{"role": "user", "content": nasty}], model_group=nasty))
    logs.ingest()
    assert logs.rows("model") == [(nasty,)]
    assert not any(b"alert" in path.read_bytes() for path in (logs.home.root / "scratch").rglob("*") if path.is_file())


def test_names_of_objects_that_are_patterns_or_worse_are_only_names(logs: Logs) -> None:
    names = ["a*.jsonl", "b?.jsonl", "[c].jsonl", "it's.jsonl", 'say "hi".jsonl', "two\nlines.jsonl", "sp ace%20.jsonl", "$(touch x).jsonl"]
    for number, name in enumerate(names):
        logs.write(name, line(2 * number) + b"\n" + line(2 * number + 1) + b"\n")
    logs.write("ab.jsonl", line(100) + b"\n" + line(101) + b"\n")
    result = logs.ingest()
    assert (result.objects_new, result.ingested, result.duplicates) == (9, 18, 0)
    assert {row[0] for row in logs.rows("source_object")} == {*names, "ab.jsonl"}


def test_a_home_and_logs_in_folders_with_odd_names_work(tmp_path: Path) -> None:
    root = tmp_path / "it's a home, isn't it %41"
    root.mkdir()
    logs = Logs(root)
    logs.write("a.jsonl", line(1) + b"\n" + line(2))
    assert logs.ingest().ingested == 2
    assert len(logs.rows()) == 2


def test_what_an_object_is_is_told_by_its_content(logs: Logs) -> None:
    packed: dict[str, Callable[[bytes], bytes]] = {"plain": bytes, "gzip": gzip.compress, "zstd": zstandard.compress}
    names = [f"{folder}/{name}" for folder in packed for name in ("misleading.csv", "misleading.parquet", "no-extension")]
    for place, name in enumerate(names):
        logs.write(name, packed[name.partition("/")[0]](line(2 * place) + b"\n" + line(2 * place + 1) + b"\n"))
    assert logs.ingest().ingested == 2 * len(names)
    assert [name for (name,) in logs.rows("source_object")] == [name for name in names for _ in range(2)]


def test_pretty_printed_documents_and_arrays_are_read_element_by_element(logs: Logs) -> None:
    logs.write("pretty.json", json.dumps(payload(1), indent=2).encode())
    array = json.dumps([payload(2), payload(3, response_cost=-1), 5], indent=1).encode()
    logs.write("array.json", array)
    logs.write("flat-array.json", json.dumps([payload(4)]).encode())
    logs.write("two.json", json.dumps(payload(5), indent=2).encode() + b"\n" + json.dumps(payload(6), indent=2).encode())
    logs.write("empty-array.json", b"[]")
    result = logs.ingest()
    assert (result.ingested, result.quarantined) == (5, 2)
    assert logs.reasons() == {
        array[: array.index(b'"chatcmpl-3"')].count(b"\n"): "response_cost is negative",
        array.count(b"\n"): "not a JSON object: one object with the fields of one request is expected per line",
    }


def test_members_of_a_gzip_and_frames_of_a_zstd_follow_each_other(logs: Logs) -> None:
    logs.write("a.gz", gzip.compress(line(1) + b"\n") + gzip.compress(line(2) + b"\n"))
    logs.write("b.zst", zstandard.compress(line(3) + b"\n") + zstandard.compress(line(4) + b"\n"))
    assert logs.ingest().ingested == 4


def incompressible_lines(count: int) -> bytes:
    return b"\n".join(line(number, messages=os.urandom(200).hex()) for number in range(count)) + b"\n"


WHOLE_REFUSALS: dict[str, tuple[Callable[[], bytes], str]] = {
    "truncated.gz": (lambda: gzip.compress(incompressible_lines(200))[:-3000], "damaged or breaks off"),
    "corrupt.gz": (
        lambda: (data := bytearray(gzip.compress(incompressible_lines(200)))) and bytes(data[:900] + b"\0\0\0" + data[903:]),
        "damaged",
    ),
    "truncated.zst": (lambda: zstandard.compress(incompressible_lines(200))[:-3000], "damaged or breaks off"),
    "readme.txt": (lambda: b"Logs of the gateway.\nDo not delete.\n" * 200, "holds no JSON record"),
    "picture.png": (lambda: b"\x89PNG\r\n\x1a\n\x00\x00\x00\rIHDR" + bytes(500), "holds zero bytes"),
    "logs.zip": (lambda: b"PK\x03\x04" + bytes(100), "zip archive"),
    "utf16.json": (lambda: '{"id": "a"}'.encode("utf-16"), "UTF-16"),
    "bad.parquet": (lambda: b"PAR1" + bytes(100) + b"PAR1", "Parquet file that cannot be read"),
}


def test_an_object_that_holds_no_records_is_refused_whole_and_its_neighbours_are_read(logs: Logs) -> None:
    for name, (make, _) in WHOLE_REFUSALS.items():
        logs.write(name, make())
    logs.write("good.jsonl", line(1000) + b"\n" + line(1001) + b"\n")
    result = logs.ingest()
    assert (result.ingested, result.quarantined) == (2, len(WHOLE_REFUSALS))
    refused = {name: (at, reason) for name, at, reason, _ in logs.quarantine()}
    assert refused.keys() == WHOLE_REFUSALS.keys()
    for name, (_, why) in WHOLE_REFUSALS.items():
        at, reason = refused[name]
        assert at is None
        assert why in reason


@pytest.mark.parametrize("kind", ["gzip", "zstd"])
def test_a_decompression_bomb_is_refused_before_it_fills_the_disk(logs: Logs, kind: str) -> None:
    nothing = bytes(1 << 20)
    if kind == "gzip":
        content = gzip.compress(nothing * 300, compresslevel=9)
    else:
        compressor = zstandard.ZstdCompressor(level=19).compressobj()
        content = b"".join([*(compressor.compress(nothing) for _ in range(300)), compressor.flush()])
    logs.write("bomb", content)
    logs.write("good.jsonl", line(1) + b"\n" + line(2) + b"\n")
    result = logs.ingest()
    assert (result.ingested, result.quarantined) == (2, 1)
    assert "times its size" in logs.quarantine()[0][2]


def test_records_of_no_known_format_are_refused_one_by_one(logs: Logs) -> None:
    logs.write("other.jsonl", b'{"timestamp": 1, "message": "x"}\n{"timestamp": 2, "message": "y"}\n')
    result = logs.ingest()
    assert (result.records, result.quarantined) == (2, 2)


def test_a_readable_input_of_which_nothing_can_be_used_still_leaves_its_accounts(logs: Logs) -> None:
    logs.write("a.jsonl", line(1, response_cost=-1) + b"\n" + line(2, startTime=None) + b"\n")
    assert logs.ingest().quarantined == 2
    assert logs.lake.snapshot_id() is None
    totals = logs.lake.totals()
    assert (totals.records, totals.quarantined, totals.objects) == (2, 2, 1)
    assert [(reason.count, reason.object) for reason in totals.reasons] == [(1, "a.jsonl"), (1, "a.jsonl")]
    assert logs.ingest().objects_new == 0


def test_hidden_files_audit_logs_and_empty_markers_are_not_logs(logs: Logs) -> None:
    logs.write("a.jsonl", line(1))
    logs.write(".hidden.jsonl", line(2))
    logs.write(".cache/b.jsonl", line(3))
    logs.write("audit_logs/c.jsonl", line(4))
    logs.write("folder_marker", b"")
    assert logs.ingest().objects_listed == 1


def test_a_home_inside_the_logs_folder_is_not_read_as_logs(tmp_path: Path) -> None:
    (tmp_path / "a.jsonl").write_bytes(line(1))
    home = Home(tmp_path / "home")
    for _ in range(2):
        result = ingest_logs(home, str(tmp_path), now_s=NOW_S)
        assert (result.objects_listed, result.quarantined) == (1, 0)


def test_an_empty_folder_and_a_missing_one_cannot_be_used(tmp_path: Path) -> None:
    with pytest.raises(UnusableInputError, match="no log objects"):
        ingest_logs(Home(tmp_path / "home"), str(tmp_path), now_s=NOW_S)
    with pytest.raises(UnusableInputError, match="no such file"):
        ingest_logs(Home(tmp_path / "home"), str(tmp_path / "nowhere"), now_s=NOW_S)
    with pytest.raises(UnusableInputError, match="gs:// is not supported"):
        ingest_logs(Home(tmp_path / "home"), "gs://bucket/logs", now_s=NOW_S)
    with pytest.raises(UnusableInputError, match="--format csv"):
        ingest_logs(Home(tmp_path / "home"), str(tmp_path), log_format="csv", now_s=NOW_S)


def test_logs_from_another_place_are_refused_unless_asked_for(logs: Logs, tmp_path: Path) -> None:
    logs.write("a.jsonl", line(1))
    logs.ingest()
    other = tmp_path / "other"
    other.mkdir()
    (other / "b.jsonl").write_bytes(line(2))
    with pytest.raises(UnusableInputError, match="--add-source"):
        ingest_logs(logs.home, str(other), now_s=NOW_S)
    assert ingest_logs(logs.home, str(other), add_source=True, now_s=NOW_S).ingested == 1


def test_a_file_uri_names_the_same_source_as_its_path(logs: Logs) -> None:
    logs.write("a.jsonl", line(1))
    logs.ingest()
    again = ingest_logs(logs.home, logs.folder.as_uri(), now_s=NOW_S)
    assert (again.objects_skipped, again.records) == (1, 0)


def test_a_growing_file_is_read_again_and_replaces_what_was_read_of_it(logs: Logs) -> None:
    path = logs.write("a.jsonl", line(1) + b"\n" + line(2) + b"\n")
    logs.ingest()
    path.write_bytes(path.read_bytes() + line(3) + b"\n")
    result = logs.ingest()
    assert (result.ingested, result.duplicates, result.replaced) == (3, 0, 2)
    assert len(logs.rows()) == 3


def test_an_object_that_changes_while_it_is_read_is_read_again_as_it_is_now(logs: Logs) -> None:
    path = logs.write("a.jsonl", b"".join(line(number) + b"\n" for number in range(10)))
    logs.write("b.jsonl", line(100) + b"\n" + line(101) + b"\n")
    source_changed: list[bool] = []

    original = stager.Stager._flush

    def flush_and_change(self: stager.Stager, *, is_complete: bool) -> Any:
        if not source_changed:
            source_changed.append(True)
            path.write_bytes(path.read_bytes() + line(50) + b"\n")
        yield from original(self, is_complete=is_complete)

    stager.Stager._flush = flush_and_change  # type: ignore[method-assign]
    try:
        result = logs.ingest()
    finally:
        stager.Stager._flush = original  # type: ignore[method-assign]
    assert (result.ingested, result.duplicates, result.objects_changing) == (13, 0, 0)
    assert len(logs.rows()) == 13


def test_large_files_are_cut_at_line_ends_and_their_lines_keep_their_numbers(logs: Logs, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(stager, "SLICE_BYTES", 100_000)
    monkeypatch.setattr(stager, "BATCH_BYTES", 150_000)
    lines = [line(number) for number in range(2_000)]
    lines[1_500] = b"broken"
    lines[7] = b"{"
    logs.write("large.jsonl", b"\n".join(lines) + b"\n")
    logs.write("small.jsonl", line(5_000) + b"\n" + line(5_001) + b"\n")
    result = logs.ingest()
    assert (result.ingested, result.quarantined, result.duplicates) == (2_000, 2, 0)
    assert logs.reasons() == {8: "not valid JSON", 1_501: "not valid JSON"}


def test_duplicates_are_found_within_a_batch_across_batches_and_across_runs(logs: Logs, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(stager, "BATCH_BYTES", 2_000)
    logs.write("1.jsonl", line(1) + b"\n" + line(2) + b"\n" + line(1) + b"\n")
    logs.write("2.jsonl", line(2) + b"\n" + line(3) + b"\n")
    first = logs.ingest()
    assert (first.ingested, first.duplicates) == (3, 2)
    logs.write("3.jsonl", line(3) + b"\n" + line(4) + b"\n")
    second = logs.ingest()
    assert (second.ingested, second.duplicates) == (1, 1)
    assert len({row[0] for row in logs.rows("attempt_id")}) == len(logs.rows()) == 4


@pytest.mark.parametrize("pack", [gzip.compress, zstandard.compress], ids=["gzip", "zstd"])
def test_large_packed_files_are_cut_as_they_are_unpacked_and_never_lie_whole_on_the_disk(
    pack: Callable[[bytes], bytes], logs: Logs, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(stager, "SLICE_BYTES", 100_000)
    monkeypatch.setattr(stager, "BATCH_BYTES", 150_000)
    monkeypatch.setattr(unpack, "HEAD_BYTES", 20_000)
    monkeypatch.setattr(stager, "_CHUNK", 10_000)
    monkeypatch.setattr(unpack, "_CHUNK", 10_000)
    lines = [line(number, messages=os.urandom(20).hex()) for number in range(2_000)]
    lines[1_500] = b"broken"
    logs.write("large", pack(b"\n".join(lines) + b"\n"))
    largest: list[int] = []
    flush = stager.Stager._flush

    def weigh(self: stager.Stager, *, is_complete: bool) -> Any:
        largest.append(sum(path.stat().st_size for path in self.folder.rglob("*") if path.is_file()))
        yield from flush(self, is_complete=is_complete)

    monkeypatch.setattr(stager.Stager, "_flush", weigh)
    result = logs.ingest()
    assert (result.ingested, result.quarantined) == (1_999, 1)
    assert logs.reasons() == {1_501: "not valid JSON"}
    assert len(largest) > 5
    assert max(largest) < 300_000


def test_a_large_packed_file_that_breaks_off_is_refused_whole_though_its_beginning_is_sound(
    logs: Logs, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(stager, "SLICE_BYTES", 100_000)
    monkeypatch.setattr(stager, "BATCH_BYTES", 150_000)
    logs.write("large.gz", gzip.compress(incompressible_lines(3_000))[:-5_000])
    logs.write("small.jsonl", line(5_000) + b"\n" + line(5_001) + b"\n")
    result = logs.ingest()
    assert (result.ingested, result.quarantined) == (2, 1)
    assert "breaks off" in str(logs.reasons()[None])


def test_a_full_disk_ends_the_run_and_condemns_no_object(logs: Logs, monkeypatch: pytest.MonkeyPatch) -> None:
    logs.write("a.gz", gzip.compress(incompressible_lines(100)))

    def no_space(*_: Any) -> tuple[int, int]:
        raise OSError(errno.ENOSPC, "No space left on device")

    with monkeypatch.context() as patch:
        patch.setattr(stager, "_copy_lines", no_space)
        with pytest.raises(UnusableInputError, match="disk is full"):
            logs.ingest()
    assert logs.lake.totals().records == 0
    assert logs.ingest().ingested == 100


def test_more_objects_than_can_be_listed_are_refused_with_a_way_out(logs: Logs, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(objects, "MAX_OBJECTS", 2)
    for number in range(3):
        logs.write(f"{number}.json", line(number))
    with pytest.raises(UnusableInputError, match="more than 2 objects; read one folder"):
        logs.ingest()


@pytest.mark.parametrize("uri", ["s3://key:very-secret@bucket/logs", "https://user:very-secret@host/logs", "file://u:very-secret@host/x"])
def test_credentials_in_an_address_are_refused_without_being_repeated(uri: str, logs: Logs) -> None:
    with pytest.raises(UnusableInputError, match="do not belong into an address") as caught:
        ingest_logs(logs.home, uri, now_s=NOW_S)
    assert "very-secret" not in str(caught.value)


def test_a_zero_byte_or_a_bare_brace_spoils_its_own_line_alone(logs: Logs) -> None:
    logs.write("a.jsonl", b"{\n" + line(1) + b"\n{\x00\n" + line(2) + b"\n")
    logs.write("b.jsonl", b"\x00\x01\n" + line(3) + b"\n" + line(4) + b"\n")
    result = logs.ingest()
    assert (result.ingested, result.quarantined) == (4, 3)
    assert sorted((name, at) for name, at, _, _ in logs.quarantine()) == [("a.jsonl", 1), ("a.jsonl", 3), ("b.jsonl", 1)]


def test_a_line_end_inside_the_header_of_a_table_stops_nothing(logs: Logs) -> None:
    logs.write("a.csv", b"request_id,spend\rmodel,startTime\n" * 3)
    logs.write("b.jsonl", line(1) + b"\n" + line(2) + b"\n")
    result = logs.ingest()
    assert (result.ingested, result.objects_new) == (2, 2)
    assert result.quarantined >= 1
