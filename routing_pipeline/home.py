"""The home: one folder that holds lake, catalog, results and Dagster's storage, and remembers where its logs come from.

Belongs here: paths, the sources a home accepts, the key that user identifiers are hashed with, the lock that keeps two
writers apart. Does not belong here: what lies in those paths.

Where workers come and go, `warehouse` (a prefix of a bucket) and `catalog` (Postgres) hold everything that they share: lake,
results, rows of windows, promises, sources, the key, the lock. The folder then is one worker's own, and may begin empty.
"""

from __future__ import annotations

import contextlib
import json
import os
import secrets
import shutil
import time
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import lru_cache
from pathlib import Path

from routing_pipeline.coordination import Coordination, InFolder, InPostgres
from routing_pipeline.errors import UnusableInputError
from routing_pipeline.results import ResultStore
from routing_pipeline.storage import COPIES, SHARED_AGAIN_S, BucketStorage, FolderStorage, Storage

WINDOWS_KEPT = 8
WINDOW_UNUSED_S = 2 * 86_400
WINDOW_IN_USE_S = 3_600
"""A window's rows are read while its analyses run: so young, they are never dropped."""
DAYS_KEPT = 70
"""Kept days of conformed rows, most recently used first: two windows of 30 days with room to spare."""
DAY_UNUSED_S = 10 * 86_400
"""A weekly analysis finds the days of the one before."""
SOURCES, HASH_KEY = "sources.json", "hash.key"


@dataclass(frozen=True)
class Home:
    """Paths under one folder; nothing is created before it is needed.

    Args:
        root: The folder.
        warehouse: `s3://bucket/prefix` for what workers share; empty for the folder.
        catalog: `postgresql://user:password@host:port/database`, given together with `warehouse`.
    """

    root: Path
    warehouse: str = ""
    catalog: str = field(default="", repr=False)

    @property
    def files(self) -> Storage:
        """What every worker must reach."""
        root = self.root.absolute()
        return BucketStorage(self.warehouse, root / "scratch" / COPIES) if self.warehouse else FolderStorage(root)

    @property
    def coordination(self) -> Coordination:
        """What every worker must agree on."""
        return InPostgres(self.catalog) if self.catalog else InFolder(self.root)

    def check_engine(self, name: str) -> None:
        """Raises UnusableInputError for an engine whose workers could not read what is shared."""
        if self.warehouse and name != "duckdb":
            raise UnusableInputError(
                f"--engine {name}: Spark reads no warehouse in a bucket yet; use duckdb, or a home on a file system that all workers share"
            )

    @property
    def place(self) -> str:
        """Where what is shared lies, for people to read."""
        return self.warehouse or str(self.root)

    @property
    def lake(self) -> Path:
        """Iceberg catalog, data and side files; copies of them where there is a warehouse."""
        return self.files.path("lake")

    @property
    def sums(self) -> Path:
        """Hourly sums of the lake's data files: all of it can be made again."""
        return self.root / "sums"

    @property
    def scratch(self) -> Path:
        """Conformed windows, downloads, spill files: all of it can be deleted."""
        return self.root / "scratch"

    @property
    def dagster(self) -> Path:
        """DAGSTER_HOME: runs and events."""
        return self.root / "dagster"

    @property
    def windows(self) -> Path:
        """Conformed rows, one folder per window; each can be made again."""
        return self.window_scratch / "windows"

    @property
    def days(self) -> Path:
        """Conformed rows of whole days, which windows share (`window_rows`); each can be made again."""
        return self.window_scratch / "days"

    @property
    def window_scratch(self) -> Path:
        """The folder that `windows` and `days` are made in: where there is a warehouse, the one from which files are shared."""
        return self.files.root if self.warehouse else self.scratch

    @property
    def results(self) -> ResultStore:
        """Finished analyses."""
        return ResultStore(self.files.below("results"))

    def create(self) -> Home:
        """Make the folder, and see once per process that warehouse and catalog can be used.

        Raises:
            UnusableInputError: that is not possible, or the addresses of warehouse and catalog cannot be used.
            ServiceUnavailableError: the bucket or Postgres does not answer.
        """
        try:
            self.root.mkdir(parents=True, exist_ok=True)
            probe = self.root / f".write-test-{os.getpid()}"
            probe.touch()
            probe.unlink()
        except OSError as error:
            raise UnusableInputError(f"--home {self.root}: {error.strerror}; name a folder that can be written to") from error
        if bool(self.warehouse) != bool(self.catalog):
            raise UnusableInputError("give ROUTING_PIPELINE_WAREHOUSE and ROUTING_PIPELINE_CATALOG together, or neither")
        if self.warehouse:
            _reach(self)
        return self

    def sources(self) -> tuple[str, ...]:
        """Where this home's logs come from."""
        return tuple(json.loads(self.coordination.read(SOURCES) or "[]"))

    def remember_source(self, uri: str, *, add: bool = False) -> None:
        """Accept logs from `uri` from now on.

        Raises:
            UnusableInputError: the home knows other sources and `add` was not given; a demo never mixes with real spend.
        """
        known = self.sources()
        if uri in known:
            return
        if not known:
            # Of two who come first at the same time, one finds the other's.
            known = tuple(json.loads(self.coordination.write_first(SOURCES, json.dumps([uri], indent=1))))
        if uri in known:
            return
        if not add:
            raise UnusableInputError(
                f"this home holds logs from {known[0]}; give --home another folder for {uri}, or --add-source to mix the two on purpose"
            )
        self.coordination.write(SOURCES, json.dumps([*known, uri], indent=1))

    def address(self, uri: str, key: str) -> str:
        """What an object is called in the lake: its key, which names the source as well where it is not the home's first."""
        return key if uri in self.sources()[:1] else f"{key} in {uri}"

    def tidy(self) -> int:
        """Drop what can be made again and nobody has asked for in a while: results, answers, rows of windows; gives how many."""
        now_s, found = time.time(), []
        for path in self.windows.iterdir() if self.windows.is_dir() else ():
            with contextlib.suppress(FileNotFoundError):
                found.append((now_s - path.stat().st_mtime, path))
        dropped = [
            path
            for place, (unused_s, path) in enumerate(sorted(found))
            if unused_s > WINDOW_IN_USE_S and (place >= WINDOWS_KEPT or unused_s > WINDOW_UNUSED_S)
        ]
        spilled = self.scratch / "spill"
        for path in spilled.iterdir() if spilled.is_dir() else ():
            with contextlib.suppress(FileNotFoundError):
                if now_s - path.stat().st_mtime > WINDOW_UNUSED_S:
                    dropped.append(path)
        for path in dropped:
            shutil.rmtree(path, ignore_errors=True)
        return len(dropped) + self._tidy_days(now_s) + self._tidy_bucket(now_s) + self.results.prune()

    def _tidy_days(self, now_s: float) -> int:
        """Drop kept days that no window needs and that are old, too many, or made anew since; gives how many."""
        needed = {name for listed in self.windows.glob("*/*.json") for name in _parts_in(listed)}
        found = []
        for path in self.days.iterdir() if self.days.is_dir() else ():
            with contextlib.suppress(FileNotFoundError):
                found.append((now_s - path.stat().st_mtime, path))
        found.sort()
        dropped = 0
        for (unused_s, path), is_spare in zip(found, _spare(path.name for _, path in found), strict=True):
            is_over = is_spare or unused_s > DAY_UNUSED_S
            if is_over and unused_s > WINDOW_IN_USE_S and f"days/{path.name}" not in needed:
                shutil.rmtree(path, ignore_errors=True) if path.is_dir() else path.unlink(missing_ok=True)
                dropped += 1
        return dropped

    def _tidy_bucket(self, now_s: float) -> int:
        files = self.files
        if not isinstance(files, BucketStorage):
            return 0
        unused = [entry.name for entry in files.entries("windows") if entry.modified_s < now_s - WINDOW_UNUSED_S]
        # What a window lists is not older than the window by more than a day (`BucketStorage.share`).
        days = sorted(files.entries("days"), key=lambda entry: -entry.modified_s)
        for entry, is_spare in zip(days, _spare(entry.name.rpartition("/")[2] for entry in days), strict=True):
            if entry.modified_s < now_s - (WINDOW_UNUSED_S + SHARED_AGAIN_S if is_spare else DAY_UNUSED_S):
                unused.append(entry.name)
        files.delete(unused)
        files.drop_copies()
        return len(unused)

    def hash_key(self) -> str:
        """Key that user identifiers are hashed with; made once per home, and never where the rows are when that is a bucket."""
        return self.coordination.read(HASH_KEY) or self.coordination.write_first(HASH_KEY, secrets.token_hex(32))

    @contextmanager
    def writing(self, on_wait: Callable[[], None] = lambda: None) -> Iterator[None]:
        """Hold the lock of the lake; waits for another writer to finish. Released by the system if the process dies.

        `on_wait` is called when there is another writer.
        """
        with self.coordination.lock(on_wait):
            yield


def _spare(newest_first: Iterable[str]) -> Iterator[bool]:
    """Of kept days by name, newest first: whether each was made anew since, or stands behind DAYS_KEPT others."""
    seen: set[str] = set()
    for name in newest_first:
        day = name.partition("-")[0]
        yield day in seen or len(seen) >= DAYS_KEPT
        seen.add(day)


def _parts_in(listed: Path) -> list[str]:
    """The parts that a window lists; its module takes a second to load."""
    try:
        return list(json.loads(listed.read_text(encoding="utf-8"))["parts"])
    except (OSError, ValueError, KeyError):
        return []


@lru_cache(maxsize=8)
def _reach(home: Home) -> None:
    """Only what succeeds is remembered."""
    InPostgres(home.catalog).prepare()
    BucketStorage(home.warehouse, home.scratch / COPIES).check()
