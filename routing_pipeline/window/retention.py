"""Clearing up a home: what can be made again and nobody has asked for in a while.

Belongs here: how long rows of windows and of days, runs and results are kept, and which days a window still needs. Does not
belong here: the decision itself (`storage.retention`), sums by hour, which go with the lake's files (`hourly`), the lake
(`ingest.compaction`).
"""

from __future__ import annotations

import shutil
import time
from pathlib import Path

from routing_pipeline.clock import SECONDS_PER_DAY
from routing_pipeline.storage.bucket import SHARED_AGAIN_S, BucketStorage
from routing_pipeline.storage.files import FolderStorage
from routing_pipeline.storage.home import Home
from routing_pipeline.storage.retention import Limits, unused
from routing_pipeline.window.compiled_before import QUERIES
from routing_pipeline.window.rows import WindowRows

WINDOWS_KEPT = 8
WINDOW_UNUSED_S = 2 * SECONDS_PER_DAY
WINDOW_IN_USE_S = 3_600
"""A window's rows are read while its analyses run: so young, they are never dropped."""
DAYS_KEPT = 70
"""Kept days of conformed rows: two windows of 30 days with room to spare."""
DAY_UNUSED_S = 10 * SECONDS_PER_DAY
"""A weekly analysis finds the days of the one before."""
QUERIES_KEPT = 1_000
"""A run asks some 160; a file of each is some kilobytes."""

_WINDOWS = Limits(unused_s=WINDOW_UNUSED_S, most=WINDOWS_KEPT, spare_s=WINDOW_IN_USE_S)
_DAYS = Limits(unused_s=DAY_UNUSED_S, most=DAYS_KEPT, spare_s=WINDOW_IN_USE_S)
_QUERIES = Limits(unused_s=DAY_UNUSED_S, most=QUERIES_KEPT, spare_s=WINDOW_IN_USE_S)
_DEBRIS = Limits(unused_s=WINDOW_UNUSED_S)
"""What a process that was killed left in the scratch folder; also how long windows stay in a bucket."""
# What a window lists is not older than the window by more than a day (`BucketStorage.share`).
_DAYS_IN_BUCKET = Limits(unused_s=DAY_UNUSED_S, most=DAYS_KEPT, spare_s=WINDOW_UNUSED_S + SHARED_AGAIN_S)


def tidy(home: Home) -> int:
    """Drop runs, results, answers, pictures and rows of windows that nobody has asked for in a while; gives how many."""
    now_s = time.time()
    runs, reachable = home.runs.prune(now_s)
    return _tidy_folder(home, now_s) + _tidy_bucket(home, now_s) + runs + home.results.prune(now_s, reachable)


def _tidy_folder(home: Home, now_s: float) -> int:
    made, scratch = FolderStorage(home.window_scratch), FolderStorage(home.scratch)
    debris = [*scratch.children("spill"), *(each for each in scratch.children() if each.name.startswith("listing-"))]
    dropped = _dropped(made, unused(made.children("windows"), _WINDOWS, now_s=now_s))
    dropped += _dropped(scratch, unused(debris, _DEBRIS, now_s=now_s))
    dropped += _dropped(scratch, unused(scratch.children(QUERIES), _QUERIES, now_s=now_s))
    # Only now: a window that went needs no days.
    needed = {name for listed in home.windows.glob("*/*.json") for name in _parts(listed)}
    return dropped + _dropped(made, unused(made.children("days"), _DAYS, now_s=now_s, reachable=needed, same=_day))


def _tidy_bucket(home: Home, now_s: float) -> int:
    files = home.files
    if not isinstance(files, BucketStorage):
        return 0
    gone = unused(files.entries("windows"), _DEBRIS, now_s=now_s)
    gone += unused(files.entries("days"), _DAYS_IN_BUCKET, now_s=now_s, same=_day)
    files.delete(gone)
    files.drop_copies()
    return len(gone)


def _dropped(folder: FolderStorage, names: list[str]) -> int:
    for path in map(folder.path, names):
        shutil.rmtree(path, ignore_errors=True) if path.is_dir() else path.unlink(missing_ok=True)
    return len(names)


def _day(name: str) -> str:
    """The day that a kept day's file or folder is about, whatever it was made from."""
    return name.rpartition("/")[2].partition("-")[0]


def _parts(listed: Path) -> tuple[str, ...]:
    """The parts that a window lists; none where it goes just now, or another version of the code wrote it."""
    try:
        return WindowRows.model_validate_json(listed.read_bytes()).parts
    except (OSError, ValueError):
        return ()
