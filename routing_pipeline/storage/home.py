"""The home: one folder that holds lake, catalog, results and Dagster's storage, and remembers where its logs come from.

Belongs here: paths, the sources a home accepts, the key that user identifiers are hashed with, the lock that keeps two
writers apart. Does not belong here: what lies in those paths, and when it goes (`window.retention`).

Where workers come and go, `warehouse` (a prefix of a bucket) and `catalog` (Postgres) hold everything that they share: lake,
results, rows of windows, promises, sources, the key, the lock. The folder then is one worker's own, and may begin empty.
"""

from __future__ import annotations

import json
import os
import secrets
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import lru_cache
from pathlib import Path

from routing_pipeline.errors import UnusableInputError
from routing_pipeline.stopping import whole
from routing_pipeline.storage.bucket import COPIES, warehouse_at
from routing_pipeline.storage.files import FolderStorage, Storage
from routing_pipeline.storage.locks import LAKE_LOCK, Coordination, InFolder, InPostgres
from routing_pipeline.storage.results import ResultStore
from routing_pipeline.storage.runs import RunStore

SOURCES, HASH_KEY = "sources.json", "hash.key"
DEMO_HOME = Path("demo/home")
"""Where `demo` and `make run` put theirs, seen from where they were called."""


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
        return warehouse_at(self.warehouse, root / "scratch" / COPIES) if self.warehouse else FolderStorage(root)

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
        """Conformed rows of whole days, which windows share (`rows`); each can be made again."""
        return self.window_scratch / "days"

    @property
    def window_scratch(self) -> Path:
        """The folder that `windows` and `days` are made in: where there is a warehouse, the one from which files are shared."""
        return self.files.root if self.warehouse else self.scratch

    @property
    def results(self) -> ResultStore:
        """Finished analyses."""
        return ResultStore(self.files.below("results"))

    @property
    def runs(self) -> RunStore:
        """What each run published; goes with the results when these are cleared."""
        return RunStore(self.files.below("results/runs"))

    @property
    def is_untouched(self) -> bool:
        """Whether nobody has ever written to its lake, nor is about to; of a catalog that others share, that is not asked."""
        return not self.catalog and not self.lake.exists() and not (self.root / LAKE_LOCK).exists()

    def found(self) -> Home:
        """The same home, `create`d in so far as it is there; where there is a warehouse, the folder may begin empty.

        Raises:
            UnusableInputError: there is no such folder, or as `create`.
            ServiceUnavailableError: as `create`.
        """
        if not self.warehouse and not self.root.is_dir():
            what = "is a file" if self.root.exists() else "there is no such home"
            demo = "; the demo's is --home demo/home" if DEMO_HOME.is_dir() else ""
            raise UnusableInputError(
                f"--home {self.root}: {what}{demo}; name the folder that `run`, `ingest` or `demo` filled, or let one of them make it"
            )
        return self.create()

    def create(self) -> Home:
        """Make the folder, and see once per process that warehouse and catalog can be used.

        Raises:
            UnusableInputError: that is not possible, or the addresses of warehouse and catalog cannot be used.
            ServiceUnavailableError: the bucket or Postgres does not answer.
        """
        try:
            self.root.mkdir(parents=True, exist_ok=True)
            with whole():
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
            raise _of_another(known[0], uri)
        self.coordination.write(SOURCES, json.dumps([*known, uri], indent=1))

    def check_source(self, uri: str, *, add: bool = False) -> None:
        """Raises UnusableInputError where `remember_source` would; remembers nothing."""
        known = self.sources()
        if known and uri not in known and not add:
            raise _of_another(known[0], uri)

    def address(self, uri: str, key: str) -> str:
        """What an object is called in the lake: its key, which names the source as well where it is not the home's first."""
        return key if uri in self.sources()[:1] else f"{key} in {uri}"

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


def _of_another(known: str, uri: str) -> UnusableInputError:
    return UnusableInputError(
        f"this home holds logs from {known}; give --home another folder for {uri}, or --add-source to mix the two on purpose"
    )


@lru_cache(maxsize=8)
def _reach(home: Home) -> None:
    """Only what succeeds is remembered."""
    InPostgres(home.catalog).prepare()
    warehouse_at(home.warehouse, home.scratch / COPIES).check()
