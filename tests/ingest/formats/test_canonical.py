"""Logs that are in our own columns already, and feedback: read, refused and left out by the contract."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import duckdb
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from routing_pipeline.demo import traffic
from routing_pipeline.errors import UnusableInputError
from routing_pipeline.ingest.ingestion import ingest_feedback, ingest_logs
from routing_pipeline.lake import iceberg
from routing_pipeline.lake.table import Lake
from routing_pipeline.schema import ADDED_LATER, FEEDBACK, REQUEST_LOG, column_names
from routing_pipeline.storage.home import Home

NOW_S = 1_795_500_000.0


def query(files: tuple[str, ...], select: str) -> list[tuple[Any, ...]]:
    with duckdb.connect() as connection:
        return connection.execute(f"SELECT {select} FROM read_parquet($f) ORDER BY ALL", {"f": list(files)}).fetchall()  # noqa: S608


def test_a_parquet_file_of_the_contract_comes_back_as_it_went_in(tmp_path: Path) -> None:
    attempts = traffic.traffic(3_000).attempts
    pq.write_table(attempts, tmp_path / "week.parquet")
    home = Home(tmp_path / "home")
    result = ingest_logs(home, str(tmp_path / "week.parquet"), now_s=NOW_S)
    assert (result.ingested, result.quarantined, result.nulled) == (attempts.num_rows, 0, {})
    kept = [name for name in column_names(REQUEST_LOG) if name not in {"user_hash", "source_format", "source_object", "ingested_at"}]
    week = traffic.WEEK_START.timestamp()
    read = pa.concat_tables([pq.read_table(file, columns=kept) for file in Lake(home).attempt_files(week, week + 7 * 86_400)])
    by_id = [("attempt_id", "ascending")]
    for name in kept:
        assert read.sort_by(by_id)[name].to_pylist() == attempts.sort_by(by_id)[name].to_pylist(), name


def test_lines_of_the_contract_take_times_in_two_spellings_and_default_the_request(tmp_path: Path) -> None:
    base = {"model": "m", "status": "success"}
    lines = [
        base | {"attempt_id": "a", "started_at": "2026-11-20T10:00:00.000001Z"},
        base | {"attempt_id": "b", "started_at": "2026-11-20T12:00:00+02:00", "user_id": "jane", "request_id": "r"},
        base | {"attempt_id": "c", "started_at": 1_795_168_800.5, "user_hash": "jane"},
        base | {"attempt_id": "d", "started_at": 1_795_168_800_500},
        base | {"attempt_id": "e", "started_at": "noon"},
        base | {"attempt_id": "f", "started_at": 1_795_168_800, "latency_ms": -1},
        base | {"attempt_id": "g", "started_at": 1_795_168_800, "status": "ok"},
    ]
    (tmp_path / "a.jsonl").write_text("\n".join(map(json.dumps, lines)), encoding="utf-8")
    home = Home(tmp_path / "home")
    result = ingest_logs(home, str(tmp_path / "a.jsonl"), now_s=NOW_S)
    assert (result.ingested, result.quarantined, result.formats) == (3, 4, ("canonical",))
    rows = query(Lake(home).attempt_files(0, NOW_S), "attempt_id, request_id, epoch_us(started_at), user_hash")
    assert [row[:3] for row in rows] == [("a", "a", 1795168800000001), ("b", "r", 1795168800000000), ("c", "c", 1795168800500000)]
    assert rows[1][3] == rows[2][3] != "jane"


def test_the_lake_plans_only_the_days_that_were_asked_for(tmp_path: Path) -> None:
    pq.write_table(traffic.traffic(3_000).attempts, tmp_path / "week.parquet")
    home = Home(tmp_path / "home")
    ingest_logs(home, str(tmp_path / "week.parquet"), now_s=NOW_S)
    lake, week = Lake(home), traffic.WEEK_START.timestamp()
    assert len(lake.attempt_files(week, week + 7 * 86_400 - 1)) == 7
    noon_of_the_second_day = week + 86_400 * 1.5
    (file,) = lake.attempt_files(noon_of_the_second_day, noon_of_the_second_day + 60)
    assert query((file,), "min(started_at)::DATE::VARCHAR, max(started_at)::DATE::VARCHAR") == [("2026-11-17", "2026-11-17")]
    ((oldest, newest),) = query(lake.attempt_files(week, week + 8 * 86_400), "min(epoch_us(started_at)), max(epoch_us(started_at))")
    assert lake.newest_s() == newest / 1e6
    assert lake.ends_s() == (oldest / 1e6, newest / 1e6)
    assert [column[0] for column in duckdb.sql(f"DESCRIBE FROM read_parquet('{file}')").fetchall()] == list(column_names(REQUEST_LOG))


def test_a_home_without_a_lake_reads_as_an_empty_one(tmp_path: Path) -> None:
    lake = Lake(Home(tmp_path / "home"))
    assert (lake.attempt_files(0, NOW_S), lake.feedback_files(), lake.snapshot_id(), lake.newest_s()) == ((), (), None, None)
    assert lake.totals().records == 0
    assert not (tmp_path / "home").exists()


SCORE = {"request_id": "r1", "name": "quality", "value": 0.5, "source": "judge", "scored_at": "2026-11-20T10:00:00Z"}

BAD_SCORES: list[tuple[dict[str, Any], str]] = [
    (SCORE | {"request_id": None}, "neither request_id nor attempt_id"),
    (SCORE | {"name": ""}, "name is missing"),
    (SCORE | {"value": "good"}, "value is missing or not a finite number"),
    (SCORE | {"value": float("nan")}, "value is missing or not a finite number"),
    (SCORE | {"value": 4}, "outside its scale"),
    (SCORE | {"value": 4, "scale_min": 5, "scale_max": 1}, "not above scale_min"),
    (SCORE | {"value": 4, "scale_max": "five"}, "scale_max is not a finite number"),
    (SCORE | {"source": "oracle"}, "source is none of"),
    (SCORE | {"scored_at": None}, "scored_at is missing"),
    (SCORE | {"scored_at": "2031-01-01"}, "in the future"),
    (SCORE | {"scored_at": 1_795_000_000_000}, "not in seconds"),
]


@pytest.mark.parametrize("kind", ["jsonl", "json", "csv", "parquet"])
def test_scores_are_read_from_any_kind_of_file_and_bad_ones_refused_by_line(kind: str, tmp_path: Path) -> None:
    good = [
        SCORE,
        SCORE | {"attempt_id": "a", "value": 5, "scale_min": 1, "scale_max": 5},
        SCORE | {"scored_at": 1_795_000_000, "name": "x"},
    ]
    rows = [good[0], *(bad for bad, _ in BAD_SCORES), *good[1:]]
    texts = [{name: None if row.get(name) is None else str(row[name]) for name in column_names(FEEDBACK)} for row in rows]
    place = tmp_path / f"scores.{kind}"
    first_line = 1
    if kind == "jsonl":
        place.write_text("\n".join(map(json.dumps, rows)), encoding="utf-8")
    elif kind == "json":
        place.write_text(json.dumps(rows, indent=1), encoding="utf-8")
    elif kind == "csv":
        first_line = 2
        lines = [",".join(column_names(FEEDBACK)), *(",".join(value or "" for value in row.values()) for row in texts)]
        place.write_text("\r\n".join(lines), encoding="utf-8-sig")
    else:
        pq.write_table(pa.Table.from_pylist(texts, pa.schema([(name, pa.string()) for name in texts[0]])), place)
    home = Home(tmp_path / "home")
    result = ingest_feedback(home, str(place), now_s=NOW_S)
    assert (result.records, result.ingested, result.quarantined, result.duplicates) == (len(rows), 3, len(BAD_SCORES), 0)
    refused = query(Lake(home).side_files("feedback_quarantine"), "line, reason")
    for number, (_, why) in enumerate(BAD_SCORES):
        line, reason = refused[number]
        assert line == first_line + 1 + number
        assert why in reason
    kept = query(Lake(home).feedback_files(), "name, value, scale_max, epoch_us(scored_at)")
    assert kept == [("quality", 0.5, None, 1795168800000000), ("quality", 5.0, 5.0, 1795168800000000), ("x", 0.5, None, 1795000000000000)]


def test_scores_read_twice_add_nothing_and_change_no_version(tmp_path: Path) -> None:
    (tmp_path / "a.jsonl").write_text(json.dumps(SCORE), encoding="utf-8")
    home = Home(tmp_path / "home")
    first = ingest_feedback(home, str(tmp_path / "a.jsonl"), now_s=NOW_S)
    again = ingest_feedback(home, str(tmp_path / "a.jsonl"), now_s=NOW_S)
    assert (again.objects_new, again.feedback_version) == (0, first.feedback_version)
    (tmp_path / "export.jsonl").write_text(json.dumps(SCORE) + "\n" + json.dumps(SCORE | {"request_id": "r2"}), encoding="utf-8")
    full = ingest_feedback(home, str(tmp_path / "export.jsonl"), now_s=NOW_S)
    assert (full.ingested, full.duplicates) == (1, 1)
    assert full.feedback_version != first.feedback_version
    assert Lake(home).totals().records == 0


@pytest.mark.parametrize("content", [b"no,header,that\n1,2,3\n", b"\x89PNG\x00\x00", b"\x1f\x8bbroken", b"PAR1broken"])
def test_a_feedback_file_that_is_none_is_refused_whole(content: bytes, tmp_path: Path) -> None:
    (tmp_path / "a").write_bytes(content)
    result = ingest_feedback(Home(tmp_path / "home"), str(tmp_path / "a"), now_s=NOW_S)
    assert (result.records, result.quarantined) == (1, 1)


def test_broken_lines_and_short_rows_of_feedback_are_refused_one_by_one(tmp_path: Path) -> None:
    (tmp_path / "a.jsonl").write_text(f"{json.dumps(SCORE)}\nbroken\n[1]\n", encoding="utf-8")
    header = ",".join(column_names(FEEDBACK))
    (tmp_path / "b.csv").write_text(f"{header}\nr1,,quality\nr9,,quality,0.1,,,judge,2026-11-20\n", encoding="utf-8")
    home = Home(tmp_path / "home")
    result = ingest_feedback(home, str(tmp_path), now_s=NOW_S)
    assert (result.ingested, result.quarantined) == (2, 3)


def test_no_feedback_where_some_was_named_cannot_be_used(tmp_path: Path) -> None:
    with pytest.raises(UnusableInputError, match="no feedback files"):
        ingest_feedback(Home(tmp_path / "home"), str(tmp_path), now_s=NOW_S)


def test_a_lake_of_before_a_column_was_there_takes_rows_that_have_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    row = {"attempt_id": "a", "started_at": NOW_S - 9_000, "model": "m", "status": "success", "cache_write_tokens": 7}
    home = Home(tmp_path / "home")
    with monkeypatch.context() as before:
        before.setattr(iceberg, "REQUEST_LOG", tuple(column for column in REQUEST_LOG if column.name not in ADDED_LATER))
        before.setattr(iceberg, "ADDED_LATER", ())
        table = iceberg.IcebergTable(home).made()
        assert not set(ADDED_LATER) & set(table.schema().column_names)
    (tmp_path / "a.jsonl").write_text(json.dumps(row), encoding="utf-8")
    assert ingest_logs(home, str(tmp_path / "a.jsonl"), now_s=NOW_S).ingested == 1
    assert query(Lake(home).attempt_files(0, NOW_S), "cache_write_tokens") == [(7,)]
