"""The lake: an Iceberg table of attempts, and beside it the ledger, the quarantine and the feedback as Parquet side files.

Belongs here: which files to read, committing rows and side files in one step. Does not belong here: opening the table (`iceberg`),
the side tables' columns (`side_tables`), counting in them (`totals`), which files nothing needs any more (`upkeep`), what the rows say
(`ingest.batch`), which of them go (`overwrite`, `ingest.erasure`), when files are made larger (`ingest.compaction`), and who may write
(`Home.writing`).

One commit is one metadata file of the table: data files join and leave the snapshot and the table's properties name the
side files, so rows and ledger can never disagree. Writers hold the home's lock; readers need none.

All of it lies in the home's storage and is called by its name there. Files are given out as paths that can be read here: of
a lake in a bucket these are copies, fetched when they are asked for.
"""

from __future__ import annotations

import json
import shutil
import time
import uuid
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple, get_args

from routing_pipeline.clock import SECONDS_PER_DAY
from routing_pipeline.errors import ServiceUnavailableError
from routing_pipeline.lake import upkeep
from routing_pipeline.lake.iceberg import IcebergTable, side_names
from routing_pipeline.lake.side_tables import SIDE_COLUMNS, SideTable, arrow_schema, read_side_table, show_side_table
from routing_pipeline.lake.totals import IngestTotals, ingest_totals
from routing_pipeline.storage.home import Home
from routing_pipeline.storage.results import key_of

if TYPE_CHECKING:
    import pyarrow as pa
    from pyiceberg.manifest import DataFile

MAX_SIDE_FILES = 32
"""A side table of more files than this is rewritten as one at the next commit, while it fits in memory with ease."""
MAX_ROWS_REWRITTEN = 2_000_000


class HeldDay(NamedTuple):
    """A day of the lake: its attempts, and the names of the files they lie in, which change whenever it does."""

    attempts: int
    files: frozenset[str]


class CommitConflictError(ServiceUnavailableError):
    """Somebody else committed to the table first, and nothing of ours was; what was read has to be judged again."""


class Lake:
    """The lake of one home. A home without a lake reads as an empty one."""

    def __init__(self, home: Home) -> None:
        self.home = home
        self.iceberg = IcebergTable(home)
        self._files = self.iceberg.files

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
        return self._readable(f"side/{file}" for file in side_names(self.iceberg.properties(), name))

    def all_files(self) -> tuple[str, ...]:
        """Every Parquet file of the present snapshot."""
        return self._readable(sorted(self._name(file) for file in self.iceberg.data_files()))

    def files_by_day(self) -> list[tuple[int, str]]:
        """Every data file of the present snapshot with its day, in days since 1970."""
        by_day = self.sizes_by_day()
        return sorted(zip((day for day, _, _ in by_day), self.readable(name for _, name, _ in by_day), strict=True))

    def sizes_by_day(self) -> list[tuple[int, str, int]]:
        """Every data file of the present snapshot by name: its day, its name, its bytes. Nothing is fetched."""
        return sorted((file.partition[0], self._name(file), file.file_size_in_bytes) for file in self.iceberg.data_files())

    def held_by_day(self) -> dict[int, HeldDay]:
        """Of each UTC day since 1970 with attempts, what the present snapshot holds. Nothing is fetched."""
        files: dict[int, list[DataFile]] = {}
        for file in self.iceberg.data_files():
            files.setdefault(file.partition[0], []).append(file)
        return {
            day: HeldDay(sum(file.record_count for file in held), frozenset(self._name(file) for file in held))
            for day, held in files.items()
        }

    def readable(self, names: Iterable[str]) -> list[str]:
        """Paths of files of `sizes_by_day`."""
        return list(self._readable(names))

    def size_bytes(self) -> int:
        """Everything that the lake takes up where it lies."""
        return sum(entry.size_bytes for entry in self._files.entries())

    def file_count(self) -> int:
        """Data files of the present snapshot."""
        return len(self.iceberg.data_files())

    def row_count(self) -> int:
        """Attempts of the present snapshot, as its manifests count them. Nothing is fetched."""
        return sum(file.record_count for file in self.iceberg.data_files())

    def snapshot_id(self) -> str | None:
        """The present snapshot of the attempts; None while there are none."""
        return self.iceberg.snapshot_id()

    def version(self) -> str | None:
        """Changes with every commit, of rows or of scores; None without a lake. Takes a millisecond: pyiceberg is not asked."""
        return self.iceberg.version()

    def feedback_version(self) -> str:
        """Changes whenever feedback is added."""
        return key_of(feedback=[Path(file).name for file in self.feedback_files()])

    def newest_s(self) -> float | None:
        """started_at of the newest attempt, seconds since 1970."""
        ends = self.ends_s()
        return None if ends is None else ends[1]

    def ends_s(self) -> tuple[float, float] | None:
        """started_at of the oldest and of the newest attempt, seconds since 1970; read from the table's statistics. None while it is empty."""
        table, files = self.iceberg.opened(), self.iceberg.data_files()
        if table is None or not files:
            return None
        from pyiceberg.conversions import from_bytes
        from pyiceberg.types import TimestampType

        field = table.schema().find_field("started_at").field_id
        oldest: list[Any] = [from_bytes(TimestampType(), file.lower_bounds[field]) for file in files]
        newest: list[Any] = [from_bytes(TimestampType(), file.upper_bounds[field]) for file in files]
        return min(oldest) / 1e6, max(newest) / 1e6

    def side_table(self, name: SideTable) -> pa.Table:
        """A side table as a whole, for a few rows: tests."""
        return read_side_table(name, self.side_files(name))

    def totals(self) -> IngestTotals:
        """Everything this home ever read, and why records were refused."""
        return ingest_totals(self.side_files("ledger"), self.side_files("quarantine"))

    def _files_between(self, start_s: float, before_s: float) -> tuple[str, ...]:
        return self._readable(sorted(name for _, name in self._planned_by_day(start_s, before_s)))

    def _readable(self, names: Iterable[str]) -> tuple[str, ...]:
        return tuple(str(path) for path in self._files.fetched(names))

    def _planned_by_day(self, start_s: float, before_s: float) -> list[tuple[int, str]]:
        """Days since 1970, and names of data files."""
        return [(file.partition[0], self._name(file)) for file in self.iceberg.data_files((start_s, before_s))]

    def _name(self, file: DataFile) -> str:
        return self.iceberg.name_of(file.file_path)

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

        iceberg = self.iceberg
        table = iceberg.opened_or_made()
        intent = f"intents/{uuid.uuid4().hex if data_folder is None else data_folder.name}"
        self._files.mark(intent)
        written = [] if data_folder is None else sorted(data_folder.rglob("*.parquet"))
        files = [self._files.share(path) for path in written]
        names = {name: side_names(table.properties, name) for name in get_args(SideTable) if name in added} | dict(rewritten or {})
        properties = {name: json.dumps(self._with_added(name, before, added.get(name))) for name, before in names.items()}
        try:
            with iceberg.reaching(), table.transaction() as transaction:
                transaction.set_properties(properties)
                if leaving := {iceberg.name_of(file) for file in replaced}:
                    iceberg.overwrite(transaction, table, files, leaving)
                elif files:
                    transaction.add_files(files, check_duplicate_files=False)
                self.home.coordination.check_lock()
        except CommitFailedException as error:
            raise CommitConflictError("another writer committed to the lake at the same time; run again") from error
        if data_folder is not None and not files:
            shutil.rmtree(data_folder, ignore_errors=True)
        self._files.delete([intent])
        upkeep.drop_unnamed_side_files(iceberg, before=time.time() - upkeep.SUPERSEDED_KEPT_S)
        snapshot = table.current_snapshot()
        return None if snapshot is None else str(snapshot.snapshot_id)

    def show(self, connection: Any, name: SideTable, view: str) -> None:
        """Show a side table to a DuckDB connection as a view with all of its columns, whatever files of earlier versions lack."""
        show_side_table(connection, name, self.side_files(name), view)

    def side_rewritten(
        self, connection: Any, name: SideTable, query: str, parameters: Mapping[str, Any] | None = None, **tables: pa.Table
    ) -> list[str]:
        """Write the rows that `query` selects from `side`, and from `tables` by their names, as the side table's only file.

        Gives what `commit(rewritten=...)` takes; until then nothing has changed.
        """
        if not self.side_files(name):
            return []
        for each, rows in tables.items():
            connection.register(each, rows)
        self.show(connection, name, "side")
        written = self.side_added(connection, name, query, parameters or {}, [])
        for each in tables:
            connection.unregister(each)
        return written

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
        """Remove what writers that died have left."""
        upkeep.recover(self.iceberg)

    def drop_history(self, superseded_before_s: float, *, unused_since_s: float) -> tuple[int, int]:
        """Drop old snapshots and what only they held; arguments and result as of `upkeep.drop_history`."""
        return upkeep.drop_history(self.iceberg, superseded_before_s, unused_since_s=unused_since_s)

    def _with_added(self, name: SideTable, names: list[str], rows: pa.Table | None) -> list[str]:
        import pyarrow as pa
        import pyarrow.parquet as pq

        if rows is None or not rows.num_rows:
            return names
        schema = arrow_schema(SIDE_COLUMNS[name])
        if len(names) >= MAX_SIDE_FILES:
            files = self._readable(f"side/{each}" for each in names)
            if sum(pq.read_metadata(each).num_rows for each in files) < MAX_ROWS_REWRITTEN:
                rows, names = pa.concat_tables([read_side_table(name, files), rows]), []
        file = self._new_side_file(name)
        pq.write_table(rows.cast(schema), file, compression="zstd")
        self._files.share(file)
        return [*names, file.name]
