"""The lake: an Iceberg table of attempts, and beside it the ledger, the quarantine and the feedback as Parquet side files.

Belongs here: opening the table, planning which files to read, committing rows and side files in one step, dropping
history, clearing up after a writer that died. Does not belong here: what the rows say (`batch`), which of them go
(`replacing`, `forgetting`), when files are made larger (`maintenance`), and who may write (`Home.writing`).

One commit is one metadata file of the table: data files join and leave the snapshot and the table's properties name the
side files, so rows and ledger can never disagree. Writers hold the home's lock; readers need none.

All of it lies in the home's storage and is called by its name there. Files are given out as paths that can be read here: of
a lake in a bucket these are copies, fetched when they are asked for.
"""

from __future__ import annotations

import contextlib
import json
import shutil
import sqlite3
import time
import uuid
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from datetime import UTC, datetime
from itertools import pairwise
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, get_args
from urllib.parse import quote

from pydantic import Field

from routing_pipeline.coordination import InPostgres
from routing_pipeline.errors import ServiceUnavailableError, UnusableInputError
from routing_pipeline.estimates import Result, quantity
from routing_pipeline.home import Home
from routing_pipeline.results import key_of
from routing_pipeline.schema import ADDED_LATER, DUCKDB_TYPE, FORGOTTEN, KEPT_FEEDBACK, LEDGER, QUARANTINE, REQUEST_LOG, Column, ColumnType
from routing_pipeline.storage import BucketStorage, Entry

if TYPE_CHECKING:
    import pyarrow as pa
    from pyiceberg.table import Table

SideTable = Literal["ledger", "quarantine", "feedback", "feedback_ledger", "feedback_quarantine", "forgotten"]

SIDE_COLUMNS: dict[SideTable, tuple[Column, ...]] = {
    "ledger": LEDGER,
    "quarantine": QUARANTINE,
    "feedback": KEPT_FEEDBACK,
    "feedback_ledger": LEDGER,
    "feedback_quarantine": QUARANTINE,
    "forgotten": FORGOTTEN,
}
MAX_SIDE_FILES = 32
"""A side table of more files than this is rewritten as one at the next commit, while it fits in memory with ease."""
MAX_ROWS_REWRITTEN = 2_000_000
SUPERSEDED_KEPT_S = 86_400
"""Side files that were rewritten stay for a day: an analysis may be reading them."""
TABLE_SETTINGS = {
    # A silent retry would let two writers of one object both land; the second must fail and read the ledger again.
    "commit.retry.num-retries": "0",
    # A commit adds a manifest, and planning reads them all.
    "commit.manifest-merge.enabled": "true",
    "write.metadata.delete-after-commit.enabled": "true",
    "write.metadata.previous-versions-max": "20",
}
TOP_REASONS = 20
TABLE = "routing.request_log"
CATALOG_IN_HOME, CATALOG_IN_POSTGRES = "home", "routing_pipeline"
CLOCKS_DIFFER_S = 1.0, 86_400.0
"""By how much the clock that dates files and the one that dates snapshots may differ: on one machine, and between a bucket and its writers."""
SECONDS_PER_DAY = 86_400
_EARLIEST_S, _LATEST_S = 0.0, 253_370_764_800.0


class CommitConflictError(ServiceUnavailableError):
    """Somebody else committed to the table first, and nothing of ours was; what was read has to be judged again."""


class QuarantineReason(Result):
    """One reason for which records were refused."""

    reason: str
    count: int = quantity("Records refused for it", "records")
    object: str = Field(description="An object that holds one of them")
    line: int | None = Field(description="Its line in that object, from 1; null when the whole object was refused")


class IngestTotals(Result):
    """The ledger's totals for this home; records = ingested + quarantined + duplicates."""

    records: int = quantity("Records found in the logs", "records")
    ingested: int = quantity("Records that became rows", "records")
    quarantined: int = quantity("Records refused", "records")
    duplicates: int = quantity("Records whose attempt was in the lake already", "records")
    objects: int = quantity("Objects read, each as it was read last", "objects")
    reasons: tuple[QuarantineReason, ...] = Field(default=(), description="Most frequent reasons for refusal, at most 20")
    other_reasons: int = quantity("Records refused for a reason not listed", "records", default=0)


def arrow_schema(columns: tuple[Column, ...]) -> pa.Schema:
    """A contract's columns as an Arrow schema."""
    import pyarrow as pa

    types: dict[ColumnType, Any] = {
        "text": pa.string(),
        "double": pa.float64(),
        "bigint": pa.int64(),
        "boolean": pa.bool_(),
        "timestamp": pa.timestamp("us"),
    }
    return pa.schema([(column.name, types[column.type]) for column in columns])


class Lake:
    """The lake of one home. A home without a lake reads as an empty one."""

    def __init__(self, home: Home) -> None:
        self.home = home
        self._files = home.files.below("lake")
        self._opened: Table | None = None

    # Reading

    def attempt_files(self, start_s: float, end_s: float) -> tuple[str, ...]:
        """Parquet files that may hold attempts of the UTC days that overlap [start_s, end_s], seconds since 1970."""
        first = start_s // SECONDS_PER_DAY * SECONDS_PER_DAY
        last = (end_s // SECONDS_PER_DAY + 1) * SECONDS_PER_DAY
        return self._files_between(first, last)

    def names_by_day(self, start_s: float, end_s: float) -> dict[int, tuple[str, ...]]:
        """Names (`readable`) of the data files of the UTC days that overlap [start_s, end_s], by day since 1970. Nothing is fetched."""
        first = start_s // SECONDS_PER_DAY * SECONDS_PER_DAY
        found: dict[int, list[str]] = {}
        for day, name in self._planned_by_day(first, (end_s // SECONDS_PER_DAY + 1) * SECONDS_PER_DAY):
            found.setdefault(day, []).append(name)
        return {day: tuple(sorted(names)) for day, names in found.items()}

    def files_holding(self, start_s: float, end_s: float) -> tuple[str, ...]:
        """Parquet files whose own range of started_at overlaps [start_s, end_s]."""
        return self._files_between(start_s, end_s + 1e-6)

    def feedback_files(self) -> tuple[str, ...]:
        """Parquet files in schema.KEPT_FEEDBACK; those of earlier versions lack its last column."""
        return self.side_files("feedback")

    def quarantine_files(self) -> tuple[str, ...]:
        """Parquet files in schema.QUARANTINE."""
        return self.side_files("quarantine")

    def side_files(self, name: SideTable) -> tuple[str, ...]:
        """Files of one side table, oldest first."""
        table = self._open()
        return () if table is None else self._readable(f"side/{file}" for file in _names(table, name))

    def all_files(self) -> tuple[str, ...]:
        """Every Parquet file of the present snapshot."""
        return self._files_between(_EARLIEST_S, _LATEST_S)

    def files_by_day(self) -> list[tuple[int, str]]:
        """Every data file of the present snapshot with its day, in days since 1970."""
        by_day = self.sizes_by_day()
        return sorted(zip((day for day, _, _ in by_day), self.readable(name for _, name, _ in by_day), strict=True))

    def sizes_by_day(self) -> list[tuple[int, str, int]]:
        """Every data file of the present snapshot by name: its day, its name, its bytes. Nothing is fetched."""
        table = self._open()
        if table is None or table.current_snapshot() is None:
            return []
        with self._reaching():
            files = [task.file for task in table.scan().plan_files()]
        return sorted((file.partition[0], self._name(file.file_path), file.file_size_in_bytes) for file in files)

    def readable(self, names: Iterable[str]) -> list[str]:
        """Paths of files of `sizes_by_day`."""
        return list(self._readable(names))

    def size_bytes(self) -> int:
        """Everything that the lake takes up where it lies."""
        return sum(entry.size_bytes for entry in self._files.entries())

    def file_count(self) -> int:
        """Data files of the present snapshot."""
        return len(self._planned(_EARLIEST_S, _LATEST_S))

    def snapshot_id(self) -> str | None:
        """The present snapshot of the attempts; None while there are none."""
        table = self._open()
        snapshot = None if table is None else table.current_snapshot()
        return None if snapshot is None else str(snapshot.snapshot_id)

    def version(self) -> str | None:
        """Changes with every commit, of rows or of scores; None without a lake. Takes a millisecond: pyiceberg is not asked."""
        coordination = self.home.coordination
        if isinstance(coordination, InPostgres):
            return coordination.metadata_location(CATALOG_IN_POSTGRES, *TABLE.split("."))
        catalog = self._root / "catalog.db"
        if not catalog.exists():
            return None
        with contextlib.closing(sqlite3.connect(f"file:{quote(str(catalog))}?mode=ro", uri=True, timeout=30)) as connection:
            # A writer that died while it made the catalog left no table, or an empty one.
            if not connection.execute("SELECT 1 FROM sqlite_master WHERE name = 'iceberg_tables'").fetchone():
                return None
            found = connection.execute(
                "SELECT metadata_location FROM iceberg_tables WHERE table_namespace || '.' || table_name = ?", (TABLE,)
            ).fetchone()
        return None if found is None else str(found[0])

    def feedback_version(self) -> str:
        """Changes whenever feedback is added."""
        return key_of(feedback=[Path(file).name for file in self.feedback_files()])

    def newest_s(self) -> float | None:
        """started_at of the newest attempt, seconds since 1970; read from the table's statistics."""
        table = self._open()
        if table is None or table.current_snapshot() is None:
            return None
        from pyiceberg.conversions import from_bytes
        from pyiceberg.types import TimestampType

        field = table.schema().find_field("started_at").field_id
        with self._reaching():
            newest: list[Any] = [from_bytes(TimestampType(), task.file.upper_bounds[field]) for task in table.scan().plan_files()]
        return max(newest) / 1e6 if newest else None

    def side_table(self, name: SideTable) -> pa.Table:
        """A side table as a whole, for a few rows: tests and what was forgotten."""
        return _read(name, self.side_files(name))

    def totals(self) -> IngestTotals:
        """Everything this home ever read, and why records were refused."""
        names = ("records", "ingested", "quarantined", "duplicates")
        sums = dict.fromkeys((*names, "objects"), 0)
        if files := self.side_files("ledger"):
            import duckdb

            with duckdb.connect() as connection:
                rows = connection.read_parquet(list(files))
                found = rows.aggregate(", ".join([*(f"sum({name})::BIGINT" for name in names), "count(*)"])).fetchone()
            sums = {name: value or 0 for name, value in zip(sums, found or (), strict=True)}
        reasons = self._reasons()
        listed = sum(reason.count for reason in reasons)
        return IngestTotals(**sums, reasons=reasons, other_reasons=sums["quarantined"] - listed)

    def _reasons(self) -> tuple[QuarantineReason, ...]:
        files = self.quarantine_files()
        if not files:
            return ()
        import duckdb

        with duckdb.connect() as connection:
            rows = connection.execute(
                """SELECT reason, count(*), min(struct_pack(o := source_object, l := line)) FROM read_parquet($files)
                GROUP BY reason ORDER BY 2 DESC, 1 LIMIT $top""",
                {"files": list(files), "top": TOP_REASONS},
            ).fetchall()
        return tuple(QuarantineReason(reason=reason, count=count, object=at["o"], line=at["l"]) for reason, count, at in rows)

    def _files_between(self, start_s: float, before_s: float) -> tuple[str, ...]:
        return self._readable(self._planned(start_s, before_s))

    def _readable(self, names: Iterable[str]) -> tuple[str, ...]:
        return tuple(str(path) for path in self._files.fetched(names))

    def _planned(self, start_s: float, before_s: float) -> list[str]:
        """Names of data files."""
        return sorted(name for _, name in self._planned_by_day(start_s, before_s))

    def _planned_by_day(self, start_s: float, before_s: float) -> list[tuple[int, str]]:
        """Days since 1970, and names of data files."""
        table = self._open()
        if table is None or table.current_snapshot() is None:
            return []
        from pyiceberg import expressions

        make: Any = expressions  # its classes take their arguments in ways that mypy cannot follow
        in_range = make.And(make.GreaterThanOrEqual("started_at", _iso(start_s)), make.LessThan("started_at", _iso(before_s)))
        with self._reaching():
            files = [task.file for task in table.scan(row_filter=in_range).plan_files()]
        return [(file.partition[0], self._name(file.file_path)) for file in files]

    def _name(self, location: str) -> str:
        """What the storage calls a file that the table names by its address."""
        name = self._files.name_of(location)
        if name is None:
            raise UnusableInputError(f"the lake's table names files outside of {self._files.uri()}; was it moved?")
        return name

    # Writing: under Home.writing() only

    def new_data_folder(self) -> Path:
        """A folder for the data files of one commit; what is in it and never committed is removed by `recover`."""
        name = uuid.uuid4().hex
        self._files.mark(f"intents/{name}")
        folder = self._files.path(f"data/{name}")
        folder.mkdir(parents=True)
        return folder

    def commit(
        self,
        data_folder: Path | None = None,
        *,
        replaced: Iterable[str] = (),
        rewritten: Mapping[SideTable, list[str]] | None = None,
        **added: pa.Table,
    ) -> str | None:
        """Commit everything in one step; gives the snapshot id.

        Args:
            data_folder: From `new_data_folder`; its Parquet files join the table.
            replaced: Data files that leave the table.
            rewritten: Side tables that `side_rewritten` wrote anew.
            added: Rows for side tables, after what was rewritten.

        Raises:
            CommitConflictError: somebody else committed at the same time without holding the home's lock.
            ServiceUnavailableError: the lock was lost on the way, or bucket or catalog do not answer.
        """
        from pyiceberg.exceptions import CommitFailedException

        table = self._widened(self._open() or self._create())
        intent = f"intents/{uuid.uuid4().hex if data_folder is None else data_folder.name}"
        self._files.mark(intent)
        written = [] if data_folder is None else sorted(data_folder.rglob("*.parquet"))
        files = [self._files.share(path) for path in written]
        names = {name: _names(table, name) for name in get_args(SideTable) if name in added} | dict(rewritten or {})
        properties = {name: json.dumps(self._with_added(name, before, added.get(name))) for name, before in names.items()}
        try:
            with self._reaching(), table.transaction() as transaction:
                transaction.set_properties(properties)
                if leaving := {self._name(file) for file in replaced}:
                    self._overwrite(transaction, table, files, leaving)
                elif files:
                    transaction.add_files(files, check_duplicate_files=False)
                self.home.coordination.check_lock()
        except CommitFailedException as error:
            raise CommitConflictError("another writer committed to the lake at the same time; run again") from error
        if data_folder is not None and not files:
            shutil.rmtree(data_folder, ignore_errors=True)
        self._files.delete([intent])
        self._drop_unnamed_side_files(before=time.time() - SUPERSEDED_KEPT_S)
        snapshot = table.current_snapshot()
        return None if snapshot is None else str(snapshot.snapshot_id)

    def show(self, connection: Any, name: SideTable, view: str) -> None:
        """Show a side table to a DuckDB connection as a view with all of its columns, whatever files of earlier versions lack."""
        columns = ", ".join(f"NULL::{DUCKDB_TYPE[column.type]} AS {column.name}" for column in SIDE_COLUMNS[name])
        every = f"SELECT {columns} WHERE false"
        if files := self.side_files(name):
            connection.read_parquet(list(files), union_by_name=True).create_view(f"{view}_files", replace=True)
            every = f"{every} UNION ALL BY NAME SELECT * FROM {view}_files"  # noqa: S608 (our own SQL)
        connection.execute(f"CREATE OR REPLACE TEMP VIEW {view} AS {every}")

    def side_rewritten(
        self, connection: Any, name: SideTable, query: str, parameters: Mapping[str, Any] | None = None, **tables: pa.Table
    ) -> list[str]:
        """Write the rows that `query` selects from `side`, and from `tables` by their names, as the side table's only file.

        Gives what `commit(rewritten=...)` takes; until then nothing has changed.
        """
        import pyarrow.parquet as pq

        if not self.side_files(name):
            return []
        file = self._new_side_file(name)
        for each, rows in tables.items():
            connection.register(each, rows)
        self.show(connection, name, "side")
        connection.sql(query, params=dict(parameters or {})).write_parquet(str(file), compression="zstd")
        for each in tables:
            connection.unregister(each)
        if pq.read_metadata(file).num_rows:
            self._files.share(file)
            return [file.name]
        file.unlink()
        return []

    def side_added(self, connection: Any, name: SideTable, query: str, parameters: Mapping[str, Any], before: list[str]) -> list[str]:
        """Write the rows that `query` selects as a further file of the side table, without ever holding them in memory.

        Gives what `commit(rewritten=...)` takes: `before`, names of the side table's files or what `side_rewritten` gave, and this one.
        """
        import pyarrow.parquet as pq

        file = self._new_side_file(name)
        connection.sql(query, params=dict(parameters)).write_parquet(str(file), compression="zstd")
        if pq.read_metadata(file).num_rows:
            self._files.share(file)
            return [*before, file.name]
        file.unlink()
        return before

    def _new_side_file(self, name: SideTable) -> Path:
        file = self._files.path(f"side/{name}-{uuid.uuid4().hex}.parquet")
        file.parent.mkdir(parents=True, exist_ok=True)
        return file

    def recover(self) -> None:
        """Remove what writers that died have left: files never committed, side files never named, scratch."""
        for leftover in self.home.scratch.glob("ingest-*"):
            shutil.rmtree(leftover, ignore_errors=True)
        intents = self._files.entries("intents")
        if not intents:
            return
        died_after = min(intent.modified_s for intent in intents)
        table = self._open()
        committed = set(self._planned(_EARLIEST_S, _LATEST_S))
        for intent in intents:
            folder = f"data/{Path(intent.name).name}"
            held = [entry.name for entry in self._files.entries(folder)]
            self._files.delete(name for name in held if name not in committed)
            if not committed.intersection(held):
                shutil.rmtree(self._files.path(folder), ignore_errors=True)
        if table is not None:
            self._remove_all(self._metadata_files(table), self._referenced_metadata(table, since=died_after), since=died_after)
        self._drop_unnamed_side_files(since=died_after)
        # Last, so that a kill while clearing up leaves the reason to clear up.
        self._files.delete(intent.name for intent in intents)

    def drop_history(self, superseded_before_s: float, *, unused_since_s: float) -> tuple[int, int]:
        """Expire snapshots and remove the files that only they held; gives how many snapshots and how many files.

        Args:
            superseded_before_s: Snapshots that were followed by another one before this moment go, seconds since 1970.
            unused_since_s: Files that nothing refers to go when they are older than this.
        """
        table = self._open()
        if table is None:
            return 0, 0
        history = sorted(table.metadata.snapshots, key=lambda snapshot: snapshot.sequence_number or 0)
        expired = [older.snapshot_id for older, newer in pairwise(history) if newer.timestamp_ms < superseded_before_s * 1e3]
        if expired:
            with self._reaching():
                table.maintenance.expire_snapshots().by_ids(expired).commit()
            table = self._open() or table
        with self._reaching():
            held = self._referenced_metadata(table) | {
                self._name(entry.data_file.file_path)
                for manifest in _manifests(table).values()
                for entry in manifest.fetch_manifest_entry(table.io, discard_deleted=True)
            }
        data = [entry for entry in self._files.entries("data") if entry.name.endswith(".parquet")]
        removed = self._remove_all([*self._metadata_files(table), *data], held, before=unused_since_s)
        self._drop_unnamed_side_files(before=unused_since_s)
        return len(expired), removed

    def _metadata_files(self, table: Table) -> list[Entry]:
        return self._files.entries(self._name(table.metadata_location).rpartition("/")[0])

    def _referenced_metadata(self, table: Table, since: float = 0.0) -> set[str]:
        """The table's own files that its present state needs: itself, and lists and manifests of snapshots made since then."""
        since -= CLOCKS_DIFFER_S[isinstance(self._files, BucketStorage)]
        lists = [snapshot.manifest_list for snapshot in table.metadata.snapshots if snapshot.timestamp_ms >= since * 1e3]
        logged = [entry.metadata_file for entry in table.metadata.metadata_log]
        with self._reaching():
            return {self._name(path) for path in (table.metadata_location, *logged, *lists, *_manifests(table, since))}

    def _remove_all(self, present: Iterable[Entry], held: set[str], *, since: float = 0.0, before: float = float("inf")) -> int:
        """Remove those of an age that nothing refers to; gives how many."""
        gone = [entry.name for entry in present if entry.name not in held and since <= entry.modified_s < before]
        self._files.delete(gone)
        return len(gone)

    def _with_added(self, name: SideTable, names: list[str], rows: pa.Table | None) -> list[str]:
        import pyarrow as pa
        import pyarrow.parquet as pq

        if rows is None or not rows.num_rows:
            return names
        schema = arrow_schema(SIDE_COLUMNS[name])
        if len(names) >= MAX_SIDE_FILES:
            files = self._readable(f"side/{each}" for each in names)
            if sum(pq.read_metadata(each).num_rows for each in files) < MAX_ROWS_REWRITTEN:
                rows, names = pa.concat_tables([_read(name, files), rows]), []
        file = self._new_side_file(name)
        pq.write_table(rows.cast(schema), file, compression="zstd")
        self._files.share(file)
        return [*names, file.name]

    def _drop_unnamed_side_files(self, *, since: float = 0.0, before: float = float("inf")) -> None:
        """Remove side files that the table does not name, of an age: what a dead writer left, or what readers are done with."""
        table = self._open()
        if table is not None:
            named = {f"side/{file}" for name in get_args(SideTable) for file in _names(table, name)}
            self._remove_all(self._files.entries("side"), named, since=since, before=before)

    # The table

    @property
    def _root(self) -> Path:
        return self._files.root

    @contextmanager
    def _reaching(self) -> Iterator[None]:
        """What goes wrong with the catalog's database ends in one line without a secret."""
        coordination = self.home.coordination
        with coordination.explained() if isinstance(coordination, InPostgres) else contextlib.nullcontext():
            yield

    def _catalog(self) -> Any:
        # Imported here because pyiceberg takes two seconds to load.
        from pyiceberg.catalog.sql import SqlCatalog

        coordination = self.home.coordination
        if not isinstance(coordination, InPostgres):
            place = quote(str(self._root / "catalog.db"))
            return SqlCatalog(CATALOG_IN_HOME, uri=f"sqlite:///{place}", warehouse=f"file://{self._root}")
        from routing_pipeline.ingest import lake_io

        if not isinstance(self._files, BucketStorage):
            raise UnusableInputError("ROUTING_PIPELINE_CATALOG needs ROUTING_PIPELINE_WAREHOUSE=s3://bucket/prefix")
        return SqlCatalog(
            CATALOG_IN_POSTGRES,
            uri=coordination.sqlalchemy_uri,
            pool_pre_ping="true",
            **{
                "py-io-impl": f"{lake_io.__name__}.{lake_io.BucketIO.__name__}",
                lake_io.WAREHOUSE: self._files.uri(),
                lake_io.COPIES: str(self._files.copies),
            },
        )

    def _open(self) -> Table | None:
        location = self.version()
        if location is None:
            return None
        self._name(location)
        if self._opened is not None and self._opened.metadata_location == location:
            return self._opened
        from pyiceberg.exceptions import NoSuchTableError

        with self._reaching():
            catalog = self._catalog()
            try:
                table: Table = catalog.load_table(TABLE)
            except NoSuchTableError:
                return None
            finally:
                catalog.close()
        # Opening costs a dozen questions; of one version there is one table.
        self._opened = table
        return table

    def _widened(self, table: Table) -> Table:
        """The table with the columns that were added since it was made."""
        if any(name not in table.schema().column_names for name in ADDED_LATER):
            with self._reaching(), table.update_schema() as update:
                update.union_by_name(_iceberg_schema())
        return table

    def _create(self) -> Table:
        from pyiceberg.partitioning import PartitionField, PartitionSpec
        from pyiceberg.transforms import DayTransform

        schema = _iceberg_schema()
        day = PartitionField(schema.find_field("started_at").field_id, 1000, DayTransform(), "day")
        self._root.mkdir(parents=True, exist_ok=True)
        with self._reaching():
            catalog = self._catalog()
            catalog.create_namespace_if_not_exists(TABLE.split(".")[0])
            table: Table = catalog.create_table_if_not_exists(
                TABLE, schema=schema, partition_spec=PartitionSpec(day), properties=TABLE_SETTINGS
            )
        return table

    def _overwrite(self, transaction: Any, table: Table, files: list[str], leaving: set[str]) -> None:
        """One snapshot in which data files join and others leave."""
        from pyiceberg.io.pyarrow import parquet_files_to_data_files

        names = {"schema.name-mapping.default": table.schema().name_mapping.model_dump_json()}
        if table.name_mapping() is None:
            transaction.set_properties(names)
        with transaction.update_snapshot().overwrite() as snapshot:
            for task in table.scan().plan_files():
                if self._name(task.file.file_path) in leaving:
                    snapshot.delete_data_file(task.file)
            for joining in parquet_files_to_data_files(table.io, transaction.table_metadata, iter(files)):
                snapshot.append_data_file(joining)


def _manifests(table: Table, since: float = 0.0) -> dict[str, Any]:
    """Manifests by path of the snapshots made since then."""
    return {
        manifest.manifest_path: manifest
        for snapshot in table.metadata.snapshots
        if snapshot.timestamp_ms >= since * 1e3
        for manifest in snapshot.manifests(table.io)
    }


def _read(name: SideTable, files: Iterable[str]) -> pa.Table:
    import pyarrow as pa
    import pyarrow.parquet as pq

    schema = arrow_schema(SIDE_COLUMNS[name])
    # Not read_table, which loads pandas: half a second of every start.
    read = [pq.ParquetFile(file).read() for file in files]
    return pa.concat_tables([schema.empty_table(), *read], promote_options="default").cast(schema)


def _iceberg_schema() -> Any:
    from pyiceberg.schema import Schema
    from pyiceberg.types import BooleanType, DoubleType, LongType, NestedField, StringType, TimestampType

    types: dict[ColumnType, Any] = {
        "text": StringType(),
        "double": DoubleType(),
        "bigint": LongType(),
        "boolean": BooleanType(),
        "timestamp": TimestampType(),
    }
    # Optional throughout: DuckDB writes every Parquet column as nullable, and `add_files` takes none that is laxer than the table.
    fields = [NestedField(number, column.name, types[column.type], doc=column.description) for number, column in enumerate(REQUEST_LOG, 1)]
    return Schema(*fields)


def _names(table: Table, name: SideTable) -> list[str]:
    properties: Mapping[str, str] = table.properties
    names: Iterable[str] = json.loads(properties.get(name, "[]"))
    return list(names)


def _iso(seconds: float) -> str:
    kept = min(max(seconds, _EARLIEST_S), _LATEST_S)
    return datetime.fromtimestamp(kept, UTC).replace(tzinfo=None).isoformat(timespec="microseconds")
