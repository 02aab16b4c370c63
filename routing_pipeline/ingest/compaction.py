"""Upkeep of the lake: small files made into large ones, old snapshots and what only they held removed.

Belongs here: which files are worth rewriting, how long history is kept. Does not belong here: how a commit works (`lake`).

Every ingestion adds a file per day that it touches, and every reader opens them all. Rows, ledger and results stay the same;
only the snapshot changes. Killed anywhere, the files are as before or as after.
"""

from __future__ import annotations

import shutil
import time
from collections import defaultdict
from collections.abc import Callable
from pathlib import Path
from typing import Any

from routing_pipeline.clock import SECONDS_PER_DAY
from routing_pipeline.estimates import Result, quantity
from routing_pipeline.ingest.batch import connect
from routing_pipeline.lake.file_names import joined_name
from routing_pipeline.lake.table import Lake
from routing_pipeline.lake.upkeep import SUPERSEDED_KEPT_S
from routing_pipeline.storage.home import Home

SMALL_BYTES = 64 << 20
"""Data files below this are worth joining with others of their day."""
MIN_SMALL_FILES = 4
"""A day with fewer small files is left alone: rewriting costs more than it saves."""
KEPT_DAYS = 7.0
"""How long a snapshot can be read after another one followed it."""


class MaintenanceResult(Result):
    """What upkeep did."""

    days_compacted: int = quantity("Days whose small files were joined", "days")
    files_before: int = quantity("Data files of the lake before", "files")
    files_after: int = quantity("Data files of the lake afterwards", "files")
    rows: int = quantity("Rows in the files that were joined", "rows")
    snapshots_expired: int = quantity("Snapshots that can no longer be read", "snapshots")
    files_removed: int = quantity("Files removed because nothing refers to them any more", "files")
    bytes_freed: int = quantity("By how much the lake became smaller on disk; negative while old files are still kept", "bytes")
    seconds: float = quantity("Wall time", "s")


_NOTHING = MaintenanceResult(
    days_compacted=0, files_before=0, files_after=0, rows=0, snapshots_expired=0, files_removed=0, bytes_freed=0, seconds=0.0
)
"""Of a home that was never written to: no lock is made for it."""


def maintain(home: Home, *, kept_days: float = KEPT_DAYS, progress: Callable[[str, int, int], None] | None = None) -> MaintenanceResult:
    """Join small files day by day, then drop snapshots that were superseded more than `kept_days` ago.

    Waits for another writer. Readers that are under way keep their files: nothing goes that was in use within `kept_days`.

    Raises:
        CommitConflictError: somebody else committed without holding the home's lock; nothing was changed.
    """
    began = time.monotonic()
    report = progress or (lambda *_: None)
    if home.is_untouched:
        return _NOTHING
    with home.writing(on_wait=lambda: report("waiting for another writer", 0, 1)):
        lake = Lake(home)
        lake.recover()
        size_before, files_before = lake.size_bytes(), lake.file_count()
        days, rows = _compact(home, lake, report)
        now = time.time()
        expired, removed = lake.drop_history(
            now - kept_days * SECONDS_PER_DAY, unused_since_s=now - min(kept_days * SECONDS_PER_DAY, SUPERSEDED_KEPT_S)
        )
        return MaintenanceResult(
            days_compacted=days,
            files_before=files_before,
            files_after=lake.file_count(),
            rows=rows,
            snapshots_expired=expired,
            files_removed=removed,
            bytes_freed=size_before - lake.size_bytes(),
            seconds=time.monotonic() - began,
        )


def _compact(home: Home, lake: Lake, report: Callable[[str, int, int], None]) -> tuple[int, int]:
    """Join the small files of each day that has many, in one commit; gives days and rows."""
    small: dict[Any, list[str]] = defaultdict(list)
    for day, file, size_bytes in lake.sizes_by_day():
        if size_bytes < SMALL_BYTES:
            small[day].append(file)
    many = {day: files for day, files in small.items() if len(files) >= MIN_SMALL_FILES}
    if not many:
        return 0, 0
    folder, spill, total = lake.new_data_folder(), home.scratch / "ingest-compaction", 0
    try:
        with connect(spill) as connection:
            for done, (day, files) in enumerate(many.items()):
                report("joining small files", done, len(many))
                total += _join(connection, lake.readable(files), folder / joined_name(day, files))
        lake.commit(folder, replaced=[str(lake.home.lake / file) for files in many.values() for file in files])
    except BaseException:
        shutil.rmtree(folder, ignore_errors=True)
        raise
    finally:
        shutil.rmtree(spill, ignore_errors=True)
    return len(many), total


def _join(connection: Any, files: list[str], to: Path) -> int:
    import pyarrow.parquet as pq

    # In order of time, so that readers of an hour skip the rest of the day.
    rows = connection.sql("SELECT * FROM read_parquet($files, union_by_name=true) ORDER BY started_at", params={"files": files})
    rows.write_parquet(str(to), compression="zstd")
    count: int = pq.read_metadata(to).num_rows
    if count != sum(pq.read_metadata(file).num_rows for file in files):
        raise RuntimeError(f"{count} rows were written for those of {len(files)} files that hold another number; nothing was changed")
    return count
