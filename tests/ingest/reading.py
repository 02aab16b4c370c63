"""Reads logs written by hand into a home and gives back what became of them."""

from __future__ import annotations

import json
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import duckdb

from routing_pipeline.ingest.ingestion import IngestResult, ingest_feedback, ingest_logs
from routing_pipeline.lake.table import Lake
from routing_pipeline.storage.home import Home

NOW_S = 1_795_500_000.0
"""2026-11-24 06:00 UTC, after every record in the tests."""


@dataclass(frozen=True)
class Read:
    """What one ingestion into a new home gave: rows by start, refusals as (line, reason)."""

    result: IngestResult
    rows: list[dict[str, Any]]
    refused: list[tuple[int | None, str]]

    @property
    def row(self) -> dict[str, Any]:
        """The only row."""
        assert len(self.rows) == 1, self.refused
        return self.rows[0]

    def column(self, name: str) -> list[Any]:
        return [row[name] for row in self.rows]


def json_lines(records: Iterable[Any]) -> bytes:
    return "".join(json.dumps(record) + "\n" for record in records).encode()


def _select(files: Iterable[str], query: str) -> list[dict[str, Any]]:
    names = list(files)
    if not names:
        return []
    with duckdb.connect() as connection:
        cursor = connection.execute(query, {"files": names})
        columns = [column[0] for column in cursor.description]
        return [dict(zip(columns, row, strict=True)) for row in cursor.fetchall()]


def read_logs(place: Path, home: Path, log_format: str = "auto") -> Read:
    lake = Lake(Home(home))
    result = ingest_logs(lake.home, str(place), log_format=log_format, now_s=NOW_S)
    assert result.records == result.ingested + result.quarantined + result.duplicates
    rows = _select(lake.attempt_files(0, NOW_S), "SELECT * FROM read_parquet($files) ORDER BY started_at, attempt_id")
    refused = _select(lake.side_files("quarantine"), "SELECT line, reason FROM read_parquet($files) ORDER BY source_object, line")
    return Read(result, rows, [(each["line"], each["reason"]) for each in refused])


def read_scores(place: Path, home: Path) -> tuple[list[dict[str, Any]], list[str]]:
    """The scores that were kept, and the reasons of those that were not."""
    lake = Lake(Home(home))
    ingest_feedback(lake.home, str(place), now_s=NOW_S)
    scores = _select(lake.feedback_files(), "SELECT * EXCLUDE (source_object) FROM read_parquet($files) ORDER BY ALL")
    refused = _select(lake.side_files("feedback_quarantine"), "SELECT reason FROM read_parquet($files) ORDER BY line")
    return scores, [each["reason"] for each in refused]
