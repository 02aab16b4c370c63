"""The side tables: ledger, quarantine and feedback, as Parquet files beside the Iceberg table.

Belongs here: which there are, their columns, reading their files. Does not belong here: which files a commit names (`table`), what is
counted in them (`totals`).
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING, Any, Literal

from routing_pipeline.schema import (
    DUCKDB_TYPE,
    FORGOTTEN,
    KEPT_FEEDBACK,
    LEDGER,
    QUARANTINE,
    REFUSED_FEEDBACK,
    Column,
    ColumnType,
)

if TYPE_CHECKING:
    import pyarrow as pa

SideTable = Literal["ledger", "quarantine", "feedback", "feedback_ledger", "feedback_quarantine", "forgotten"]

SIDE_COLUMNS: dict[SideTable, tuple[Column, ...]] = {
    "ledger": LEDGER,
    "quarantine": QUARANTINE,
    "feedback": KEPT_FEEDBACK,
    "feedback_ledger": LEDGER,
    "feedback_quarantine": REFUSED_FEEDBACK,
    "forgotten": FORGOTTEN,
}


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


def read_side_table(name: SideTable, files: Iterable[str]) -> pa.Table:
    """The rows of a side table's files, with all of its columns."""
    import pyarrow as pa
    import pyarrow.parquet as pq

    schema = arrow_schema(SIDE_COLUMNS[name])
    # Not read_table, which loads pandas: half a second of every start.
    read = [pq.ParquetFile(file).read() for file in files]
    return pa.concat_tables([schema.empty_table(), *read], promote_options="default").cast(schema)


def show_side_table(connection: Any, name: SideTable, files: Sequence[str], view: str) -> None:
    """Show a side table's files to a DuckDB connection as a view with all of its columns, whatever files of earlier versions lack."""
    columns = ", ".join(f"NULL::{DUCKDB_TYPE[column.type]} AS {column.name}" for column in SIDE_COLUMNS[name])
    every = f"SELECT {columns} WHERE false"
    if files:
        connection.read_parquet(list(files), union_by_name=True).create_view(f"{view}_files", replace=True)
        every = f"{every} UNION ALL BY NAME SELECT * FROM {view}_files"  # noqa: S608 (our own SQL)
    connection.execute(f"CREATE OR REPLACE TEMP VIEW {view} AS {every}")
