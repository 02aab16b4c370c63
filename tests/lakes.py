"""Lakes of a few rows, committed as an ingestion commits them, without logs to read them from."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from routing_pipeline.lake.side_tables import arrow_schema
from routing_pipeline.lake.table import Lake
from routing_pipeline.schema import KEPT_FEEDBACK, REQUEST_LOG
from routing_pipeline.storage.home import Home


def lake_of(root: Path, attempts: pa.Table, feedback: pa.Table | None = None) -> Lake:
    """A lake in `root`, filled when it is asked for first: attempts in columns of schema.REQUEST_LOG, feedback in those of schema.FEEDBACK."""
    lake = Lake(Home(root))
    if lake.version() is None:
        put(lake, attempts, feedback)
    return lake


def put(lake: Lake, attempts: pa.Table, feedback: pa.Table | None = None, replaced: Iterable[str] = ()) -> list[str]:
    """Commit rows as one data file a day, in place of the data files named; gives the new ones' names, which never come twice."""
    folder = lake.new_data_folder()
    attempts = with_columns(attempts, arrow_schema(REQUEST_LOG))
    day = pc.floor(pc.divide(pc.cast(attempts["started_at"], pa.int64()), 86_400_000_000.0))
    for each in pc.unique(day).to_pylist():
        pq.write_table(attempts.filter(pc.equal(day, each)), folder / f"{int(each)}.parquet")
    added = {} if feedback is None else {"feedback": with_columns(feedback, arrow_schema(KEPT_FEEDBACK))}
    names = [f"data/{folder.name}/{path.name}" for path in sorted(folder.iterdir())]
    lake.commit(folder, replaced=lake.readable(replaced), **added)
    return names


def with_columns(rows: pa.Table, schema: pa.Schema) -> pa.Table:
    """Rows with nulls in the columns that they lack."""
    missing = [field for field in schema if field.name not in rows.column_names]
    for field in missing:
        rows = rows.append_column(field, pa.nulls(rows.num_rows, field.type))
    return rows.select(schema.names).cast(schema)
