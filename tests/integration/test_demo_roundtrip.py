"""The made-up week, written as a proxy writes it and read as any other log: nothing is lost, changed, or let in."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import duckdb
import pytest

from routing_pipeline.demo import traffic
from routing_pipeline.demo.logs import DemoFiles, write_demo
from routing_pipeline.ingest.ingestion import ingest_feedback, ingest_logs
from routing_pipeline.lake.table import Lake
from routing_pipeline.lake.totals import IngestTotals
from routing_pipeline.schema import FEEDBACK, REQUEST_LOG
from routing_pipeline.storage.home import Home

REQUESTS = 3_000
KEY = ("request_id", "started_at")
MADE_BY_INGESTION = {"attempt_id", "user_hash", "key_hash", "source_format", "source_object", "ingested_at"}
COMPARED = [column for column in REQUEST_LOG if column.name not in MADE_BY_INGESTION and column.name not in KEY]


@dataclass(frozen=True)
class Roundtrip:
    files: DemoFiles
    home: Home
    totals: IngestTotals
    database: duckdb.DuckDBPyConnection


@pytest.fixture(scope="module")
def roundtrip(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Roundtrip]:
    """`told` is what was made up, `read` what the lake holds of it."""
    folder = tmp_path_factory.mktemp("roundtrip")
    files = write_demo(folder / "demo", requests=REQUESTS)
    home = Home(folder / "home").create()
    ingest_logs(home, str(files.logs))
    ingest_feedback(home, str(files.feedback))
    lake = Lake(home)
    week = traffic.traffic(REQUESTS)
    with duckdb.connect() as database:
        database.register("told", week.attempts)
        database.register("told_feedback", week.feedback)
        database.read_parquet(list(lake.attempt_files(0, 4e9))).create_view("read")
        database.read_parquet(list(lake.feedback_files())).create_view("read_feedback")
        database.execute(f"CREATE VIEW paired AS SELECT told, read FROM told JOIN read USING ({', '.join(KEY)})")  # noqa: S608
        yield Roundtrip(files, home, lake.totals(), database)


def one(roundtrip: Roundtrip, statement: str) -> object:
    (value,) = roundtrip.database.sql(statement).fetchone() or (None,)
    return value


def test_every_record_is_accounted_for_as_the_files_say(roundtrip):
    files, totals = roundtrip.files, roundtrip.totals
    assert (totals.records, totals.ingested, totals.quarantined, totals.duplicates, totals.objects) == (
        files.records,
        files.attempts,
        files.broken,
        files.duplicates,
        files.objects,
    )


def test_no_spoilt_record_becomes_a_row(roundtrip):
    assert one(roundtrip, "SELECT count(*) FROM read WHERE request_id LIKE '%spoilt%'") == 0


def test_every_attempt_is_found_again_once(roundtrip):
    assert one(roundtrip, "SELECT count(*) FROM paired") == one(roundtrip, "SELECT count(*) FROM read") == roundtrip.files.attempts
    assert one(roundtrip, "SELECT count(DISTINCT attempt_id) FROM read") == roundtrip.files.attempts


@pytest.mark.parametrize("column", COMPARED, ids=lambda column: column.name)
def test_a_column_reads_as_it_was_told(roundtrip, column):
    told, read = f"told.{column.name}", f"read.{column.name}"
    differs = f"{told} IS DISTINCT FROM {read}"
    if column.unit == "ms":
        # Seconds since 1970 in a double are exact to a quarter of a microsecond.
        differs = f"({told} IS NULL) <> ({read} IS NULL) OR abs({told} - {read}) > 0.0015"
    if column.name == "is_cache_hit":
        # The proxy says null where it has nothing to say of a cache.
        differs = f"{told} <> coalesce({read}, false)"
    assert one(roundtrip, f"SELECT count(*) FROM paired WHERE {differs}") == 0  # noqa: S608


def test_users_are_told_apart_without_their_names(roundtrip):
    pairs = roundtrip.database.sql("SELECT DISTINCT told.user_hash, read.user_hash FROM paired").fetchall()
    names, hashes = zip(*pairs, strict=True)
    assert len(set(names)) == len(set(hashes)) == len(pairs)
    assert not set(names) & set(hashes)


def test_scores_read_as_they_were_told(roundtrip):
    columns = ", ".join(column.name for column in FEEDBACK)
    statement = f"(SELECT {columns} FROM told_feedback) EXCEPT ALL (SELECT {columns} FROM read_feedback)"  # noqa: S608
    left = roundtrip.database.sql(statement)
    assert left.fetchall() == []
    assert one(roundtrip, "SELECT count(*) FROM read_feedback") == roundtrip.files.scores


def test_reading_the_same_week_written_again_changes_nothing(roundtrip, tmp_path):
    write_demo(roundtrip.files.logs.parent, requests=REQUESTS)
    again = ingest_logs(roundtrip.home, str(roundtrip.files.logs))
    assert again.objects_new == 0
    assert Lake(roundtrip.home).totals() == roundtrip.totals
