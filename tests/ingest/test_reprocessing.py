"""Days of a source, read by themselves: which objects are of them, and that nothing is lost or counted twice."""

from __future__ import annotations

import json
from datetime import date
from pathlib import Path

import duckdb
import pytest

from routing_pipeline.ingest.days_in_keys import DAYS_IN_KEY
from routing_pipeline.ingest.ingestion import IngestResult, ingest_logs
from routing_pipeline.ingest.reprocessing import ingest_days
from routing_pipeline.lake.table import Lake
from routing_pipeline.storage.home import Home

FRIDAY, SATURDAY = date(2026, 11, 20), date(2026, 11, 21)


@pytest.mark.parametrize(
    ("key", "days"),
    [
        ("2026-11-24/time-10-22-33-000000_chatcmpl-1.json", ["2026-11-24"]),
        ("litellm/2026/11/24/10/batch.jsonl.gz", ["2026-11-24"]),
        ("logs/year=2026/month=11/day=24/part-0.parquet", ["2026-11-24"]),
        ("from-2026-11-23-to-2026-11-24.jsonl", ["2026-11-23", "2026-11-24"]),
        ("batch-20261124.jsonl", []),
        ("b71f2026-11ab.jsonl", []),
    ],
)
def test_days_are_read_off_keys_as_gateways_write_them(key: str, days: list[str]) -> None:
    assert duckdb.execute(f"SELECT {DAYS_IN_KEY} FROM (SELECT ? AS object)", [key]).fetchone() == (days,)  # noqa: S608 (our own SQL)


class Source:
    """A folder of objects with two attempts each, and a home that reads it."""

    def __init__(self, root: Path) -> None:
        self.folder, self.home = root / "logs", Home(root / "home")
        self.log("2026-11-20/a.jsonl", "2026-11-20T10:00:00Z")
        self.log("2026-11-21/a.jsonl", "2026-11-21T00:00:10Z", "2026-11-20T23:59:50Z")
        self.log("2026-11-22/a.jsonl", "2026-11-22T10:00:00Z")

    def log(self, name: str, *began: str, model: str = "m") -> None:
        path = self.folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        lines = [
            {"attempt_id": f"{name}-{each}", "request_id": f"{name}-{each}", "started_at": each, "model": model, "status": "success"}
            for each in began
        ]
        path.write_text("".join(json.dumps(line) + "\n" for line in lines), encoding="utf-8")

    def fill(self, *days: date) -> IngestResult:
        return ingest_days(self.home, str(self.folder), days)

    def rows(self) -> dict[int, int]:
        return {day - 20_777: held.attempts for day, held in Lake(self.home).held_by_day().items()}


def test_of_what_was_not_read_a_day_is_what_is_called_after_it_or_after_no_day(tmp_path: Path) -> None:
    source = Source(tmp_path)
    source.log("batch.jsonl", "2026-11-22T15:00:00Z")
    assert source.fill(FRIDAY).objects_new == 2
    assert source.rows() == {0: 1, 2: 1}
    everything = ingest_logs(source.home, str(source.folder))
    assert (everything.objects_new, everything.ingested) == (2, 3), "the rest is the next ingestion's"


def test_what_was_read_is_of_the_days_of_its_rows_as_well_and_replaces_them(tmp_path: Path) -> None:
    source = Source(tmp_path)
    ingest_logs(source.home, str(source.folder))
    before = Lake(source.home).totals()
    for _ in range(2):
        result = source.fill(FRIDAY)
        assert (result.objects_new, result.ingested, result.replaced) == (2, 3, 3), "Saturday's object began on Friday"
        assert (source.rows(), Lake(source.home).totals()) == ({0: 2, 1: 1, 2: 1}, before)
    assert ingest_logs(source.home, str(source.folder)).objects_new == 0, "nothing is left marked"


def test_what_is_gone_from_the_source_keeps_its_rows(tmp_path: Path) -> None:
    source = Source(tmp_path)
    ingest_logs(source.home, str(source.folder))
    (source.folder / "2026-11-20" / "a.jsonl").unlink()
    assert source.fill(FRIDAY, SATURDAY).objects_new == 1
    assert source.rows() == {0: 2, 1: 1, 2: 1}
