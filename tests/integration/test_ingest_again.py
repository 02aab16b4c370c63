"""Objects that are uploaded again, arrive late, or race: the lake ends as if the bucket, as it is now, had been read once."""

from __future__ import annotations

import json
import random
from pathlib import Path
from typing import Any

import duckdb
import pytest
from pyiceberg.exceptions import CommitFailedException

from routing_pipeline.catalog import Catalog
from routing_pipeline.errors import ServiceUnavailableError
from routing_pipeline.ingest import ingestion
from routing_pipeline.ingest.ingestion import IngestResult, ingest_logs
from routing_pipeline.ingest.staging import stager
from routing_pipeline.lake.iceberg import TABLE_SETTINGS
from routing_pipeline.lake.table import CommitConflictError, Lake
from routing_pipeline.storage.home import Home
from routing_pipeline.window.conform import conform
from routing_pipeline.window.engine import open_engine
from routing_pipeline.window.scope import Window

NOW_S = 1_795_500_000.0
DAY_S = 86_400


def record(number: int, **changes: Any) -> dict[str, Any]:
    """Attempt `number`, 7 hours after the one before it."""
    start = 1_793_400_000.0 + number * 7 * 3600
    made = {"id": f"i{number}", "litellm_call_id": f"c{number}", "startTime": start, "endTime": start + 1, "status": "success"}
    return made | {"model": "m", "response_cost": 0.01} | changes


class Bucket:
    """A folder that is uploaded to, and a home that reads it."""

    def __init__(self, root: Path) -> None:
        self.folder = root / "logs"
        self.folder.mkdir(parents=True)
        self.home = Home(root / "home")
        self.lake = Lake(self.home)

    def upload(self, name: str, *records: dict[str, Any] | str | int) -> None:
        lines = [each if isinstance(each, str) else json.dumps(record(each) if isinstance(each, int) else each) for each in records]
        (self.folder / name).write_text("".join(line + "\n" for line in lines), encoding="utf-8")

    def ingest(self, home: Home | None = None) -> IngestResult:
        result = ingest_logs(home or self.home, str(self.folder), now_s=NOW_S)
        assert result.records == result.ingested + result.quarantined + result.duplicates
        return result

    def rows(self, home: Home | None = None, columns: str = "attempt_id, source_object") -> list[tuple[Any, ...]]:
        files = list(Lake(home or self.home).all_files())
        with duckdb.connect() as connection:
            query = f"SELECT {columns} FROM read_parquet($f) ORDER BY ALL"  # noqa: S608 (the test's own words)
            return connection.execute(query, {"f": files}).fetchall() if files else []

    def numbers(self) -> list[int]:
        return sorted(int(row[0].split("/")[0].removeprefix("c")) for row in self.rows())

    def check(self) -> None:
        """Ledger, quarantine and lake agree."""
        totals = self.lake.totals()
        ledger = self.lake.side_table("ledger").to_pylist()
        keys = [(row["source"], row["object"]) for row in ledger]
        by_object: dict[str, int] = {}
        for _, name in self.rows():
            by_object[name] = by_object.get(name, 0) + 1
        assert len(keys) == len(set(keys))
        assert {row["object"]: row["ingested"] for row in ledger if row["ingested"]} == by_object
        assert sum(reason.count for reason in totals.reasons) + totals.other_reasons == totals.quarantined
        ids = [row[0] for row in self.rows()]
        assert len(ids) == len(set(ids))


@pytest.fixture
def bucket(tmp_path: Path) -> Bucket:
    return Bucket(tmp_path)


def test_a_corrected_upload_replaces_rows_refusals_and_counts(bucket: Bucket) -> None:
    bucket.upload("a.jsonl", 1, 2, "broken", record(3, response_cost=5.0))
    bucket.upload("b.jsonl", 4)
    bucket.ingest()
    bucket.upload("a.jsonl", 1, record(3, response_cost=0.5), 5)
    result = bucket.ingest()
    assert (result.objects_new, result.records, result.ingested, result.replaced) == (1, 3, 3, 3)
    assert bucket.numbers() == [1, 3, 4, 5]
    assert bucket.rows(columns="sum(cost_usd)") == [(pytest.approx(0.53),)]
    totals = bucket.lake.totals()
    assert (totals.records, totals.ingested, totals.quarantined, totals.objects) == (4, 4, 0, 2)
    bucket.check()
    assert bucket.ingest().objects_new == 0


def test_an_upload_that_cannot_be_used_any_more_leaves_no_rows_of_the_one_before(bucket: Bucket) -> None:
    bucket.upload("a.jsonl", 1, 2)
    bucket.ingest()
    bucket.upload("a.jsonl", "broken", "broken too")
    assert bucket.ingest().replaced == 2
    assert bucket.rows() == []
    assert (bucket.lake.totals().records, bucket.lake.totals().quarantined) == (1, 1)
    bucket.check()


def test_an_attempt_that_another_object_holds_as_well_survives_its_first_owner(bucket: Bucket) -> None:
    bucket.upload("a.jsonl", 1, 2, 3)
    bucket.ingest()
    bucket.upload("b.jsonl", 3, 4)
    assert bucket.ingest().duplicates == 1
    bucket.upload("a.jsonl", 1, 2)
    bucket.ingest()
    assert bucket.numbers() == [1, 2, 3, 4]
    assert ("b.jsonl",) in bucket.rows(columns="DISTINCT source_object")
    assert bucket.lake.totals().duplicates == 0
    bucket.check()


def test_two_objects_that_swap_their_records_lose_none(bucket: Bucket) -> None:
    bucket.upload("a.jsonl", 1, 2, 3)
    bucket.upload("c.jsonl", 4, 5)
    bucket.ingest()
    bucket.upload("a.jsonl", 1, 2, 4)
    bucket.upload("c.jsonl", 3, 5)
    bucket.ingest()
    assert bucket.numbers() == [1, 2, 3, 4, 5]
    bucket.check()


@pytest.mark.parametrize("seed", range(2))
def test_any_sequence_of_uploads_and_readings_ends_as_one_reading_of_what_is_there(
    seed: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    rng = random.Random(seed)  # noqa: S311 (a test's draw)
    bucket = Bucket(tmp_path)
    # Small batches, each committed alone: objects of one reading meet in the lake and not in memory.
    monkeypatch.setattr(stager, "BATCH_BYTES", 400)
    monkeypatch.setattr(ingestion, "COMMIT_EVERY_S", 0.0)
    for _ in range(4):
        for _ in range(rng.randint(1, 3)):
            records: list[Any] = [*rng.sample(range(12), rng.randint(1, 5)), *(["broken"] if rng.random() < 0.4 else [])]
            bucket.upload(f"{rng.choice('abcd')}.jsonl", *records)
        bucket.ingest()
        bucket.check()
    fresh = Home(tmp_path / "fresh")
    bucket.ingest(fresh)
    everything = "* EXCLUDE (source_object, ingested_at)"
    assert bucket.rows(columns=everything) == bucket.rows(fresh, everything)
    assert bucket.lake.totals().records == Lake(fresh).totals().records
    assert bucket.lake.totals().ingested == Lake(fresh).totals().ingested


def test_objects_of_one_name_in_two_places_are_two_objects(bucket: Bucket, tmp_path: Path) -> None:
    other = Bucket(tmp_path / "other")
    bucket.upload("a.jsonl", 1)
    other.upload("a.jsonl", 2, 3, "broken")
    bucket.ingest()
    ingest_logs(bucket.home, str(other.folder), add_source=True, now_s=NOW_S)
    assert {row[1] for row in bucket.rows()} == {"a.jsonl", f"a.jsonl in {other.folder}"}
    bucket.upload("a.jsonl", 1, 4)
    assert bucket.ingest().replaced == 1
    assert bucket.numbers() == [1, 2, 3, 4]
    other.upload("a.jsonl", 3)
    ingest_logs(bucket.home, str(other.folder), now_s=NOW_S)
    assert bucket.numbers() == [1, 3, 4]
    assert bucket.lake.totals().quarantined == 0


def test_late_records_land_in_the_day_on_which_they_began(bucket: Bucket) -> None:
    bucket.upload("new.jsonl", 40, 41)
    bucket.ingest()
    bucket.upload("late.jsonl", 0, 41, 20)
    assert bucket.ingest().duplicates == 1
    for number in (0, 20, 40, 41):
        start = record(number)["startTime"]
        files = bucket.lake.attempt_files(start, start)
        with duckdb.connect() as connection:
            days = connection.execute("SELECT DISTINCT started_at::DATE FROM read_parquet($f)", {"f": list(files)}).fetchall()
            ids = connection.execute("SELECT attempt_id FROM read_parquet($f)", {"f": list(files)}).fetchall()
        assert len(days) == 1
        assert any(each.startswith(f"c{number}/") for (each,) in ids)


class Intruder:
    """Lets another writer commit first, one that takes no lock, as an engine that tidies the table would."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch, times: int) -> None:
        commit = Lake.commit
        self.left = times

        def disturbed(lake: Lake, *arguments: Any, **options: Any) -> str | None:
            if self.left:
                self.left -= 1
                table = lake.iceberg.opened_or_made()
                folder = lake.new_data_folder()
                with duckdb.connect() as connection:
                    connection.sql(
                        "SELECT 'x' || $n AS attempt_id, TIMESTAMP '2026-11-01' AS started_at, 'x' AS source_object",
                        params={"n": self.left},
                    ).write_parquet(str(folder / "x.parquet"))
                original = type(table.catalog).commit_table

                def late(catalog: Any, *rest: Any) -> Any:
                    monkeypatch.setattr(type(table.catalog), "commit_table", original)
                    table.add_files([str(folder / "x.parquet")], check_duplicate_files=False)
                    return original(catalog, *rest)

                monkeypatch.setattr(type(table.catalog), "commit_table", late)
            return commit(lake, *arguments, **options)

        monkeypatch.setattr(Lake, "commit", disturbed)


def test_a_commit_that_came_second_is_read_again_and_nothing_of_either_is_lost(bucket: Bucket, monkeypatch: pytest.MonkeyPatch) -> None:
    bucket.upload("a.jsonl", 1, 2)
    bucket.ingest()
    bucket.upload("a.jsonl", 1, 2, 3)
    bucket.upload("b.jsonl", 4)
    Intruder(monkeypatch, times=2)
    result = bucket.ingest()
    assert (result.ingested, result.replaced) == (4, 2)
    assert [row[0].split("/")[0] for row in bucket.rows()] == ["c1", "c2", "c3", "c4", "x0", "x1"]
    assert len(bucket.lake.side_table("ledger")) == 2


def test_a_writer_that_is_never_first_gives_up_with_a_clear_end_and_commits_nothing(
    bucket: Bucket, monkeypatch: pytest.MonkeyPatch
) -> None:
    def always(*_: Any, **__: Any) -> None:
        raise CommitConflictError("another writer")

    bucket.upload("a.jsonl", 1)
    monkeypatch.setattr(Lake, "commit", always)
    with pytest.raises(ServiceUnavailableError, match="another writer"):
        bucket.ingest()
    assert bucket.rows() == []
    assert not list(bucket.home.lake.glob("data/**/*.parquet"))


def test_the_table_never_retries_a_commit_by_itself(bucket: Bucket) -> None:
    bucket.upload("a.jsonl", 1)
    bucket.ingest()
    first, second = Lake(bucket.home).iceberg.opened(), Lake(bucket.home).iceberg.opened()
    assert first is not None
    assert second is not None
    assert first.properties.items() >= TABLE_SETTINGS.items()
    for table in (first, second):
        (task,) = table.scan().plan_files()
        transaction = table.transaction()
        with transaction.update_snapshot().overwrite() as snapshot:
            snapshot.delete_data_file(task.file)
        if table is first:
            transaction.commit_transaction()
        else:
            with pytest.raises(CommitFailedException):
                transaction.commit_transaction()


MIDNIGHT_S = 1_795_392_000.0
FAILURE = record(0, litellm_call_id="split", id="f", startTime=MIDNIGHT_S - 2, endTime=MIDNIGHT_S - 1, status="failure", model_group="dear")
SUCCESS = record(0, litellm_call_id="split", id="s", startTime=MIDNIGHT_S + 1, endTime=MIDNIGHT_S + 2, model_group="cheap")


@pytest.mark.parametrize(
    "pieces", [[[FAILURE, SUCCESS]], [[FAILURE], [SUCCESS]], [[SUCCESS], [FAILURE]]], ids=["one", "failure first", "success first"]
)
def test_a_request_split_over_objects_days_and_ingestions_is_read_as_one(pieces: list[list[dict[str, Any]]], bucket: Bucket) -> None:
    by_proxy = {"metadata": {"user_api_key_request_route": "/v1/chat/completions"}}
    for number, piece in enumerate(pieces):
        bucket.upload(f"{number}.jsonl", *(each | by_proxy for each in piece))
        bucket.ingest()
    files = bucket.lake.attempt_files(MIDNIGHT_S - 10, MIDNIGHT_S + 10)
    with open_engine("duckdb") as engine:
        rows = conform(engine.read_parquet(files), Window(MIDNIGHT_S - 10, MIDNIGHT_S + 10), catalog=Catalog())
        failed, final = engine.backend.to_pyarrow(rows.order_by("started_s")).to_pylist()
    assert (failed["is_final"], failed["fallback_from"]) == (False, None)
    assert (final["is_final"], final["attempts"], final["routed_model"], final["fallback_from"]) == (True, 2, "dear", "dear")
    assert final["request_latency_ms"] == pytest.approx(4000.0)
    assert failed["request_id"] == final["request_id"] == "split"


def test_a_trace_that_comes_in_pieces_names_one_call_at_most(bucket: Bucket) -> None:
    call = {
        "trace_id": "agent",
        "type": "GENERATION",
        "end_time": None,
        "provided_model_name": "m",
        "usage_details": {},
        "cost_details": {},
    }
    for number in (2, 1, 3):
        bucket.upload(f"{number}.jsonl", call | {"id": f"obs-{number}", "start_time": f"2026-11-20 13:0{number}:00.000000"})
        bucket.ingest()
    assert bucket.rows(columns="attempt_id, request_id") == [("obs-1", "obs-1"), ("obs-2", "agent"), ("obs-3", "obs-3")]
