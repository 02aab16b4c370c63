"""The home: one folder that holds lake, catalog, results and Dagster's storage, and remembers where its logs come from.

Belongs here: paths, the sources a home accepts, the key that user identifiers are hashed with, the lock that keeps two
writers apart. Does not belong here: what lies in those paths.
"""

from __future__ import annotations

import contextlib
import fcntl
import json
import os
import secrets
import shutil
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from routing_pipeline.errors import UnusableInputError
from routing_pipeline.results import ResultStore, write_whole

WINDOWS_KEPT = 8
WINDOW_UNUSED_S = 2 * 86_400
WINDOW_IN_USE_S = 3_600
"""A window's rows are read while its analyses run: so young, they are never dropped."""


@dataclass(frozen=True)
class Home:
    """Paths under one folder; nothing is created before it is needed."""

    root: Path

    @property
    def lake(self) -> Path:
        """Iceberg catalog, data and side files."""
        return self.root / "lake"

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
        return self.scratch / "windows"

    @property
    def results(self) -> ResultStore:
        """Finished analyses."""
        return ResultStore(self.root / "results")

    def create(self) -> Home:
        """Make the folder; raises UnusableInputError when that is not possible."""
        try:
            self.root.mkdir(parents=True, exist_ok=True)
            probe = self.root / f".write-test-{os.getpid()}"
            probe.touch()
            probe.unlink()
        except OSError as error:
            raise UnusableInputError(f"--home {self.root}: {error.strerror}; name a folder that can be written to") from error
        return self

    def sources(self) -> tuple[str, ...]:
        """Where this home's logs come from."""
        try:
            return tuple(json.loads((self.root / "sources.json").read_text(encoding="utf-8")))
        except FileNotFoundError:
            return ()

    def remember_source(self, uri: str, *, add: bool = False) -> None:
        """Accept logs from `uri` from now on.

        Raises:
            UnusableInputError: the home knows other sources and `add` was not given; a demo never mixes with real spend.
        """
        known = self.sources()
        if uri in known:
            return
        if known and not add:
            raise UnusableInputError(
                f"this home holds logs from {known[0]}; give --home another folder for {uri}, or --add-source to mix the two on purpose"
            )
        write_whole(self.root / "sources.json", json.dumps([*known, uri], indent=1).encode())

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
        return len(dropped) + self.results.prune()

    def hash_key(self) -> str:
        """Key that user identifiers are hashed with; made once per home, readable by its owner only."""
        path = self.root / "hash.key"
        if not path.exists():
            try:
                descriptor = os.open(path, os.O_CREAT | os.O_EXCL | os.O_WRONLY, 0o600)
            except FileExistsError:
                pass
            else:
                with os.fdopen(descriptor, "w", encoding="ascii") as file:
                    file.write(secrets.token_hex(32))
        return path.read_text(encoding="ascii")

    @contextmanager
    def writing(self, on_wait: Callable[[], None] = lambda: None) -> Iterator[None]:
        """Hold the lock of the lake; waits for another writer to finish. Released by the system if the process dies.

        `on_wait` is called when there is another writer.
        """
        self.root.mkdir(parents=True, exist_ok=True)
        with (self.root / "lake.lock").open("w") as file:
            try:
                fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                on_wait()
                fcntl.flock(file, fcntl.LOCK_EX)
            try:
                yield
            finally:
                fcntl.flock(file, fcntl.LOCK_UN)
