"""The lake: an Iceberg table of attempts, and beside it the ledger, the quarantine and the feedback as Parquet side files.

Belongs here: opening the table, planning which files to read, committing rows and side files in one step, clearing up
after a writer that died. Does not belong here: what the rows say (`batch`), and who may write (`Home.writing`).

One commit is one metadata file of the table: data files join the snapshot and the table's properties name the side files,
so rows and ledger can never disagree. Writers hold the home's lock; readers need none.
"""

from __future__ import annotations

import contextlib
import json
import shutil
import sqlite3
import time
import uuid
from collections.abc import Iterable, Mapping
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, get_args
from urllib.parse import quote

from pydantic import Field

from routing_pipeline.errors import ServiceUnavailableError
from routing_pipeline.estimates import Result, quantity
from routing_pipeline.home import Home
from routing_pipeline.results import key_of
from routing_pipeline.schema import ADDED_LATER, FEEDBACK, LEDGER, QUARANTINE, REQUEST_LOG, Column, ColumnType

if TYPE_CHECKING:
    import pyarrow as pa
    from pyiceberg.table import Table

SideTable = Literal["ledger", "quarantine", "feedback", "feedback_ledger", "feedback_quarantine"]

SIDE_COLUMNS: dict[SideTable, tuple[Column, ...]] = {
    "ledger": LEDGER,
    "quarantine": QUARANTINE,
    "feedback": FEEDBACK,
    "feedback_ledger": LEDGER,
    "feedback_quarantine": QUARANTINE,
}
MAX_SIDE_FILES = 32
"""A side table of more files than this is rewritten as one at the next commit, while it fits in memory with ease."""
MAX_ROWS_REWRITTEN = 2_000_000
SUPERSEDED_KEPT_S = 86_400
"""Side files that were rewritten stay for a day: an analysis may be reading them."""
TOP_REASONS = 20
TABLE = "routing.request_log"
SECONDS_PER_DAY = 86_400
_EARLIEST_S, _LATEST_S = 0.0, 253_370_764_800.0


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
    objects: int = quantity("Objects read, each version of an object once", "objects")
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

    # Reading

    def attempt_files(self, start_s: float, end_s: float) -> tuple[str, ...]:
        """Parquet files that may hold attempts of the UTC days that overlap [start_s, end_s], seconds since 1970."""
        first = start_s // SECONDS_PER_DAY * SECONDS_PER_DAY
        last = (end_s // SECONDS_PER_DAY + 1) * SECONDS_PER_DAY
        return self._files_between(first, last)

    def files_holding(self, start_s: float, end_s: float) -> tuple[str, ...]:
        """Parquet files whose own range of started_at overlaps [start_s, end_s]."""
        return self._files_between(start_s, end_s + 1e-6)

    def feedback_files(self) -> tuple[str, ...]:
        """Parquet files in schema.FEEDBACK."""
        return self.side_files("feedback")

    def quarantine_files(self) -> tuple[str, ...]:
        """Parquet files in schema.QUARANTINE."""
        return self.side_files("quarantine")

    def side_files(self, name: SideTable) -> tuple[str, ...]:
        """Files of one side table, oldest first."""
        table = self._open()
        return () if table is None else tuple(str(self._side / file) for file in _names(table, name))

    def snapshot_id(self) -> str | None:
        """The present snapshot of the attempts; None while there are none."""
        table = self._open()
        snapshot = None if table is None else table.current_snapshot()
        return None if snapshot is None else str(snapshot.snapshot_id)

    def version(self) -> str | None:
        """Changes with every commit, of rows or of scores; None without a lake. Takes a millisecond: pyiceberg is not asked."""
        catalog = self._root / "catalog.db"
        if not catalog.exists():
            return None
        with contextlib.closing(sqlite3.connect(f"file:{quote(str(catalog))}?mode=ro", uri=True, timeout=30)) as connection:
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
        newest: list[Any] = [from_bytes(TimestampType(), task.file.upper_bounds[field]) for task in table.scan().plan_files()]
        return max(newest) / 1e6 if newest else None

    def side_table(self, name: SideTable) -> pa.Table:
        """A side table as a whole: for the ledger, which is small; never for feedback or quarantine."""
        import pyarrow as pa
        import pyarrow.parquet as pq

        schema = arrow_schema(SIDE_COLUMNS[name])
        return pa.concat_tables([schema.empty_table(), *(pq.read_table(file, schema=schema) for file in self.side_files(name))])

    def totals(self) -> IngestTotals:
        """Everything this home ever read, and why records were refused."""
        import pyarrow.compute as pc

        ledger = self.side_table("ledger")
        sums = {name: pc.sum(ledger[name]).as_py() or 0 for name in ("records", "ingested", "quarantined", "duplicates")}
        reasons = self._reasons()
        listed = sum(reason.count for reason in reasons)
        return IngestTotals(**sums, objects=ledger.num_rows, reasons=reasons, other_reasons=sums["quarantined"] - listed)

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
        table = self._open()
        if table is None or table.current_snapshot() is None:
            return ()
        from pyiceberg import expressions

        make: Any = expressions  # its classes take their arguments in ways that mypy cannot follow
        in_range = make.And(make.GreaterThanOrEqual("started_at", _iso(start_s)), make.LessThan("started_at", _iso(before_s)))
        tasks = table.scan(row_filter=in_range).plan_files()
        return tuple(sorted(str(task.file.file_path).removeprefix("file://") for task in tasks))

    # Writing: under Home.writing() only

    def new_data_folder(self) -> Path:
        """A folder for the data files of one commit; what is in it and never committed is removed by `recover`."""
        name = uuid.uuid4().hex
        self._intents.mkdir(parents=True, exist_ok=True)
        (self._intents / name).touch()
        folder = self._root / "data" / name
        folder.mkdir(parents=True)
        return folder

    def commit(self, data_folder: Path | None = None, **added: pa.Table) -> str | None:
        """Commit the Parquet files in `data_folder` and rows for side tables in one step; gives the snapshot id.

        Raises:
            ServiceUnavailableError: somebody else committed at the same time without holding the home's lock.
        """
        from pyiceberg.exceptions import CommitFailedException

        table = self._widened(self._open() or self._create())
        files = [] if data_folder is None else sorted(str(path) for path in data_folder.rglob("*.parquet"))
        properties = {name: json.dumps(self._with_added(table, name, added[name])) for name in get_args(SideTable) if name in added}
        try:
            with table.transaction() as transaction:
                transaction.set_properties(properties)
                if files:
                    transaction.add_files(files, check_duplicate_files=False)
        except CommitFailedException as error:
            raise ServiceUnavailableError("another writer committed to the lake at the same time; run again") from error
        if data_folder is not None:
            if not files:
                shutil.rmtree(data_folder, ignore_errors=True)
            (self._intents / data_folder.name).unlink(missing_ok=True)
        self._drop_unnamed_side_files(before=time.time() - SUPERSEDED_KEPT_S)
        snapshot = table.current_snapshot()
        return None if snapshot is None else str(snapshot.snapshot_id)

    def recover(self) -> None:
        """Remove what writers that died have left: data files never committed, side files never named, scratch."""
        for leftover in self.home.scratch.glob("ingest-*"):
            shutil.rmtree(leftover, ignore_errors=True)
        intents = list(self._intents.glob("*")) if self._intents.exists() else []
        if not intents:
            return
        died_after = min(intent.stat().st_mtime for intent in intents)
        table = self._open()
        committed = set() if table is None else {str(task.file.file_path).removeprefix("file://") for task in table.scan().plan_files()}
        for intent in intents:
            folder = self._root / "data" / intent.name
            for path in folder.rglob("*.parquet"):
                if str(path) not in committed:
                    path.unlink()
            if not any(folder.rglob("*.parquet")):
                shutil.rmtree(folder, ignore_errors=True)
            intent.unlink()
        self._drop_unnamed_side_files(since=died_after)

    def _with_added(self, table: Table, name: SideTable, rows: pa.Table) -> list[str]:
        import pyarrow as pa
        import pyarrow.parquet as pq

        names = _names(table, name)
        if not rows.num_rows:
            return names
        if len(names) >= MAX_SIDE_FILES and sum(pq.read_metadata(self._side / each).num_rows for each in names) < MAX_ROWS_REWRITTEN:
            rows, names = pa.concat_tables([self.side_table(name), rows]), []
        self._side.mkdir(parents=True, exist_ok=True)
        file = f"{name}-{uuid.uuid4().hex}.parquet"
        pq.write_table(rows.cast(arrow_schema(SIDE_COLUMNS[name])), self._side / file, compression="zstd")
        return [*names, file]

    def _drop_unnamed_side_files(self, *, since: float = 0.0, before: float = float("inf")) -> None:
        """Remove side files that the table does not name, of an age: what a dead writer left, or what readers are done with."""
        table = self._open()
        if table is None or not self._side.exists():
            return
        named = {file for name in get_args(SideTable) for file in _names(table, name)}
        for path in self._side.iterdir():
            if path.name not in named and since <= path.stat().st_mtime < before:
                path.unlink(missing_ok=True)

    # The table

    @property
    def _root(self) -> Path:
        return self.home.lake.absolute()

    @property
    def _side(self) -> Path:
        return self._root / "side"

    @property
    def _intents(self) -> Path:
        return self._root / "intents"

    def _catalog(self) -> Any:
        # Imported here because pyiceberg takes two seconds to load.
        from pyiceberg.catalog.sql import SqlCatalog

        return SqlCatalog("home", uri=f"sqlite:///{quote(str(self._root / 'catalog.db'))}", warehouse=f"file://{self._root}")

    def _open(self) -> Table | None:
        if not (self._root / "catalog.db").exists():
            return None
        from pyiceberg.exceptions import NoSuchTableError

        catalog = self._catalog()
        try:
            table: Table = catalog.load_table(TABLE)
            return table
        except NoSuchTableError:
            return None
        finally:
            catalog.close()

    def _widened(self, table: Table) -> Table:
        """The table with the columns that were added since it was made."""
        if any(name not in table.schema().column_names for name in ADDED_LATER):
            with table.update_schema() as update:
                update.union_by_name(_iceberg_schema())
        return table

    def _create(self) -> Table:
        from pyiceberg.partitioning import PartitionField, PartitionSpec
        from pyiceberg.transforms import DayTransform

        schema = _iceberg_schema()
        day = PartitionField(schema.find_field("started_at").field_id, 1000, DayTransform(), "day")
        self._root.mkdir(parents=True, exist_ok=True)
        catalog = self._catalog()
        catalog.create_namespace_if_not_exists(TABLE.split(".")[0])
        # A silent retry would let two writers of one object both land; the second must fail and read the ledger again.
        table: Table = catalog.create_table_if_not_exists(
            TABLE, schema=schema, partition_spec=PartitionSpec(day), properties={"commit.retry.num-retries": "0"}
        )
        return table


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
