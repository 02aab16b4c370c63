"""Where heavy queries run: an embedded DuckDB or a Spark cluster, both spoken to through Ibis.

Belongs here: opening an engine, reading Parquet with it, keeping its memory and threads in bounds. Does not belong here:
any query, the Spark application itself (`spark`). Expressions that reach an engine avoid what the two disagree on: time is
arithmetic on `started_s`, hashes are `md5` hexdigests, quantiles are `approx_quantile`-free (see `analysis`).
"""

from __future__ import annotations

import hashlib
import os
import re
import shutil
import threading
import uuid
from collections.abc import Iterator, Sequence
from contextlib import AbstractContextManager, ExitStack, contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from routing_pipeline.errors import UnusableInputError, did_you_mean
from routing_pipeline.stopping import tidying
from routing_pipeline.storage.bucket import COPIES, local_copy
from routing_pipeline.storage.memory_limit import memory_limit as set_limit
from routing_pipeline.window import compiled_before
from routing_pipeline.window.spark import LOG, evaluated_once, given_back, opened_rows, session_of, told_when_java_ends, viewed_rows

if TYPE_CHECKING:
    import ibis
    from ibis.backends import BaseBackend


_LOCAL = re.compile(r"local\[(\*|[1-9][0-9]{0,3})\]")
"""Spark in this process: `local[2]`, or `local[*]` for as many threads as there are processors."""
_ADDRESS = re.compile(r"(?:[^\s/:@]+|\[[0-9A-Fa-f:.]+\]):([0-9]{1,5})")
"""HOST:PORT of a Spark master."""

ROWS_HELD_FOR_PARTS = 65_536
"""Rows that each thread of DuckDB holds while it writes several files at once; its own default is eight times as much, and half a gigabyte."""


@dataclass(frozen=True)
class Engine:
    """An open connection; use `open_engine`, which also closes it."""

    name: str
    backend: BaseBackend
    copies: Path | None = None
    """Folder for copies of what is read from a bucket."""
    persisted: list[Any] = field(default_factory=list)
    """Frames that Spark's workers hold until the engine is closed."""
    opened: dict[str, tuple[tuple[tuple[int, int], ...], ibis.Table]] = field(default_factory=dict)
    """Of DuckDB: tables over Parquet files by their name, with when these were written and how long they are."""
    views: dict[str, ibis.Table] = field(default_factory=dict)
    """Of DuckDB: what was `named`."""

    def read_parquet(self, paths: Sequence[str | Path]) -> ibis.Table:
        """One table over Parquet files of one schema, or of schemas that grew by columns.

        Raises:
            UnusableInputError: no file was given (an empty table has no columns to speak of).
        """
        if not paths:
            raise UnusableInputError("nothing to read: the window holds no data file")
        files = [local_copy(str(path), self.copies) for path in paths]
        # By one name in every engine, so that what was compiled over it can be used again; looked into once while it stays as it is.
        name, written = f"parquet_{_digest(*files)}", tuple((status.st_mtime_ns, status.st_size) for status in map(os.stat, files))
        if self.name != "duckdb":
            return opened_rows(self.backend, files, name, written)
        before = self.opened.get(name)
        if before is not None and before[0] == written:
            return before[1]
        if before is not None:
            # Views over it may have columns that it has no longer.
            self.views.clear()
        table: ibis.Table = self.backend.read_parquet(files, table_name=name, union_by_name=True)
        self.opened[name] = written, table
        return table

    def held(self, table: ibis.Table) -> ibis.Table:
        """Evaluate a table once and hold its rows in the engine until that is closed: DuckDB now, Spark when they are first read."""
        name = f"held_{uuid.uuid4().hex}"
        if self.name != "duckdb":
            self.persisted.append(evaluated_once(self.backend, table, name))
            return self.backend.table(name)
        return filled(self.backend, table, name)

    def named(self, table: ibis.Table, key: str) -> ibis.Table:
        """The same rows under a name, evaluated whenever they are read.

        Whatever reads them is compiled without what they are made of. `key` says that: equal keys over tables of equal names mean
        equal expressions. The tables that are read count as well, as one address of a bucket is another table in an engine that
        keeps its copies elsewhere.
        """
        key = _digest(key, *sorted(_tables_read(table)))
        name = f"named_{key}"
        if self.name != "duckdb":
            return viewed_rows(self.backend, table, name)
        if name not in self.views:
            duckdb: Any = self.backend
            duckdb.con.execute(f'CREATE OR REPLACE TEMP VIEW "{name}" AS {duckdb.compile(table)}')
            self.views[name] = duckdb.table(name)
        return self.views[name]

    def write_parquet(self, table: ibis.Table, path: Path) -> None:
        """Write a table to one Parquet file (DuckDB) or a folder of them (Spark), in place of what lies there."""
        path.parent.mkdir(parents=True, exist_ok=True)
        if self.name == "duckdb":
            self.backend.to_parquet(table, path)
            return
        # Spark refuses to write where something lies.
        if path.is_dir():
            shutil.rmtree(path)
        else:
            path.unlink(missing_ok=True)
        self.backend.to_parquet_dir(table, path)

    def write_parquet_by(self, table: ibis.Table, column: str, folder: Path) -> dict[int, Path]:
        """Write a table in one pass, to one Parquet file (DuckDB) or folder of them (Spark) for each value of a whole number.

        Gives where each value's rows lie, somewhere below `folder`.
        """
        folder.parent.mkdir(parents=True, exist_ok=True)
        # The column that parts are named by leaves the files: the table's own stays.
        table = table.mutate(part=table[column])
        if self.name == "duckdb":
            duckdb: Any = self.backend
            duckdb.con.execute(f"SET partitioned_write_flush_threshold = {ROWS_HELD_FOR_PARTS}")
            self.backend.to_parquet(table, folder, partition_by="part")
        else:
            spark: Any = self.backend
            spark._run_pre_execute_hooks(table)
            spark._session.sql(spark.compile(table)).write.partitionBy("part").parquet(str(folder))
        parts = {int(path.name.partition("=")[2]): path for path in folder.glob("part=*")}
        if self.name != "duckdb":
            return parts
        files = {value: list(path.glob("*.parquet")) for value, path in parts.items()}
        for value, several in files.items():
            if len(several) > 1:
                whole = parts[value] / "whole.parquet"
                self.write_parquet(self.read_parquet(several), whole)
                files[value] = [whole]
        return {value: file for value, (file,) in files.items()}


def filled(duckdb: Any, table: ibis.Table, name: str) -> ibis.Table:
    """A temporary table of DuckDB with the rows of an expression, which is compiled once as any query is: `create_table` would do so anew."""
    from routing_pipeline.window.unused_memory import give_back_memory

    duckdb._run_pre_execute_hooks(table)
    # What is inserted may take all that DuckDB may hold.
    give_back_memory()
    # With the types that Ibis knows: DuckDB takes 0.1 for a decimal.
    found: ibis.Table = duckdb.create_table(name, schema=table.schema(), temp=True)
    duckdb.con.execute(f'INSERT INTO "{name}" {duckdb.compile(table)}')
    return found


@contextmanager
def held_rows(table: ibis.Table) -> Iterator[ibis.Table]:
    """The rows, evaluated once and kept by the engine of their table as long as this lasts."""
    backend: Any = table.get_backend()
    name = f"held_{uuid.uuid4().hex}"
    if backend.name != "duckdb":
        frame = evaluated_once(backend, table, name)
        try:
            yield backend.table(name)
        finally:
            frame.unpersist()
        return
    try:
        yield filled(backend, table, name)
    finally:
        # Dropped by hand: Ibis leaves the name out of what it sends.
        backend.raw_sql(f"DROP TABLE IF EXISTS {name}")


def _tables_read(table: ibis.Table) -> set[str]:
    import ibis.expr.operations as ops

    return {each.name for each in table.op().find(ops.PhysicalTable)}


def _digest(*texts: str) -> str:
    return hashlib.md5("\n".join(texts).encode(), usedforsecurity=False).hexdigest()


def check_engine(name: str) -> None:
    """Raises UnusableInputError for a name that is no engine's; Spark itself would start first, and then say that it could not be reached."""
    # Of several masters one leads.
    masters = name.removeprefix("spark://").split(",") if name.startswith("spark://") else []
    if name == "duckdb" or _LOCAL.fullmatch(name) or (masters and all(_is_address(each) for each in masters)):
        return
    raise UnusableInputError(f"--engine {name}: give duckdb or spark://HOST:PORT{did_you_mean(name, ['duckdb'])}")


def _is_address(master: str) -> bool:
    found = _ADDRESS.fullmatch(master)
    return found is not None and 0 < int(found[1]) < 65_536


def open_engine(
    name: str = "duckdb", *, memory_limit: str = "", threads: int | None = None, spill_to: Path | None = None
) -> AbstractContextManager[Engine]:
    """Open `duckdb` (in memory, spilling to `spill_to`), `spark://HOST:PORT`, or `local[N]`, which share one application (`spark`).

    memory_limit: what DuckDB may hold before it spills; empty: as `storage.memory_limit` says.

    Copies of files of a bucket lie beside `spill_to`. Spark reads none: its workers have no part in the copies.

    Raises:
        UnusableInputError: the engine's name is not one of these, its package is not installed, or the limit is no size.
        ServiceUnavailableError: the Spark master does not answer.
    """
    if name == "duckdb":
        return _taken_duckdb(memory_limit, threads, spill_to)
    check_engine(name)
    return _open_spark(name, spill_to)


@contextmanager
def bounded(memory_limit: str, threads: int | None, spill_to: Path | None) -> Iterator[dict[str, Any]]:
    """What a DuckDB is opened with, so that it spills before it holds more than it may; what it spilled is gone at the end."""
    settings: dict[str, Any] = {"memory_limit": memory_limit or set_limit(), "preserve_insertion_order": False}
    if threads is not None:
        settings["threads"] = threads
    # A folder of its own: DuckDB's names for what it spills are the same in every process.
    spill = None if spill_to is None else spill_to / f"{os.getpid()}-{uuid.uuid4().hex}"
    if spill is not None:
        spill.mkdir(parents=True, exist_ok=True)
        settings["temp_directory"] = str(spill)

    def drop_spill() -> None:
        if spill is not None:
            shutil.rmtree(spill, ignore_errors=True)

    try:
        with tidying(drop_spill):
            yield settings
    finally:
        drop_spill()


@dataclass
class _Run:
    """How many runs go on in this process, and the DuckDB that the last step has put back, by what it was opened with."""

    users: int = 0
    idle: dict[tuple[Any, ...], tuple[ExitStack, Engine]] = field(default_factory=dict)
    lock: threading.Lock = field(default_factory=threading.Lock)


_RUN = _Run()


@contextmanager
def one_database() -> Iterator[None]:
    """Let engines that are opened one after the other meanwhile share one DuckDB: what they read is looked into once."""
    with _RUN.lock:
        _RUN.users += 1
    try:
        yield
    finally:
        with _RUN.lock:
            _RUN.users -= 1
            left = list(_RUN.idle.values()) if _RUN.users == 0 else []
            if left:
                _RUN.idle.clear()
        for stack, _ in left:
            stack.close()


@contextmanager
def _taken_duckdb(*asked: Any) -> Iterator[Engine]:
    """The DuckDB that lies idle, else a new one; put back where a run goes on, unless an error has left it in whatever state."""
    with _RUN.lock:
        taken = _RUN.idle.pop(asked, None)
    if taken is None:
        stack = ExitStack()
        taken = stack, stack.enter_context(_open_duckdb(*asked))
    stack, engine = taken
    with stack:
        yield engine
        _drop_tables(engine)
        with _RUN.lock:
            if _RUN.users and asked not in _RUN.idle:
                _RUN.idle[asked] = stack.pop_all(), engine


def _drop_tables(engine: Engine) -> None:
    duckdb: Any = engine.backend
    for (name,) in duckdb.con.execute("SELECT table_name FROM duckdb_tables() WHERE temporary").fetchall():
        duckdb.con.execute(f'DROP TABLE temp."{name}"')


@contextmanager
def _open_duckdb(memory_limit: str, threads: int | None, spill_to: Path | None) -> Iterator[Engine]:
    from routing_pipeline.window.compiled import CompilingOnce

    with bounded(memory_limit, threads, spill_to) as settings:
        backend: Any = CompilingOnce().connect(":memory:", **settings)
        backend.kept_in = None if spill_to is None else spill_to.parent / compiled_before.QUERIES
        backend.con.sql("SET enable_progress_bar = false")
        try:
            yield Engine("duckdb", backend, None if spill_to is None else spill_to.parent / COPIES)
        finally:
            backend.disconnect()


@contextmanager
def _open_spark(master: str, spill_to: Path | None) -> Iterator[Engine]:
    import ibis

    if spill_to is not None:
        spill_to.parent.mkdir(parents=True, exist_ok=True)
    log = None if spill_to is None else spill_to.parent / LOG
    with session_of(master, log) as session, told_when_java_ends(master, log):
        engine = Engine("spark", ibis.pyspark.connect(session))
        try:
            yield engine
        finally:
            given_back(engine.persisted)
