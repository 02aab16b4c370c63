"""The rows that checks look at, as frames of Spark: what `row_checks` shows to DuckDB as views, for windows that one machine takes long over.

Belongs here: the same columns in Spark's SQL. Does not belong here: rules, and what Great Expectations says of them (`row_checks`).
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from routing_pipeline.data_quality.expectations import AHEAD_OF_INGESTION, COST_BEYOND_PRICES
from routing_pipeline.schema import ADDED_LATER, CHAT, REQUEST_LOG, ColumnType
from routing_pipeline.window.engine import Engine
from routing_pipeline.window.scope import Window

_TYPES: dict[ColumnType, str] = {
    "text": "string",
    "double": "double",
    "bigint": "bigint",
    "boolean": "boolean",
    "timestamp": "timestamp_ntz",
}


def frames(engine: Engine, files: Sequence[str], window: Window, most_usd: str) -> tuple[Any, Any]:
    """All rows of the files with what checks add to them, and the window's rows of chat.

    Args:
        engine: Spark, open.
        files: Parquet files in schema.REQUEST_LOG; those of earlier versions lack columns.
        window: half-open, seconds since 1970.
        most_usd: SQL for what a request can cost at most.
    """
    spark: Any = engine.backend._session
    rows = spark.read.option("mergeSchema", "true").parquet(*files)
    later = [column for column in REQUEST_LOG if column.name in ADDED_LATER and column.name not in rows.columns]
    rows = rows.selectExpr("*", *(f"CAST(NULL AS {_TYPES[column.type]}) AS {column.name}" for column in later))
    visible = [
        # As infinity, as DuckDB shows it.
        f"CASE WHEN isnan({column.name}) THEN double('infinity') ELSE {column.name} END AS {column.name}"
        if column.type == "double"
        else column.name
        for column in REQUEST_LOG
    ]
    seconds = "(unix_micros(CAST({0} AS timestamp)) / 1e6D)"
    days = rows.selectExpr(
        *visible,
        f"{seconds.format('started_at')} - {seconds.format('ingested_at')} AS {AHEAD_OF_INGESTION}",
        f"cost_usd - ({most_usd}) AS {COST_BEYOND_PRICES}",
    )
    started = seconds.format("started_at")
    within = rows.where(
        f"{started} >= {window.start_s!r}D AND {started} < {window.end_s!r}D AND (operation = '{CHAT}' OR operation IS NULL)"
    )
    return days, within
