"""Logs of several made-up weeks, the newest in the demo's own week, as Parquet in the canonical columns."""

from __future__ import annotations

from datetime import timedelta
from pathlib import Path

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from routing_pipeline.demo import traffic


def write_weeks(folder: Path, requests: tuple[int, ...]) -> None:
    """`logs` and `feedback` in a folder, a file a week: so many requests in the newest week, in the one before it, and so on."""
    for name in ("logs", "feedback"):
        (folder / name).mkdir(parents=True, exist_ok=True)
    for back, count in enumerate(requests):
        # Another seed gives other ids, too.
        week = traffic.traffic(count, seed=20261116 + back)
        pq.write_table(_earlier(week.attempts, "started_at", back), folder / "logs" / f"week-{back}.parquet")
        pq.write_table(_earlier(week.feedback, "scored_at", back), folder / "feedback" / f"week-{back}.parquet")


def _earlier(table: pa.Table, column: str, weeks: int) -> pa.Table:
    moved = pc.subtract(table[column], pa.scalar(timedelta(days=7 * weeks), pa.duration("us")))
    return table.set_column(table.column_names.index(column), column, moved)
