"""Made-up attempts and scores as tables in the columns of the contract.

Belongs here: filling in what a kind of traffic leaves out. Does not belong here: what any kind of traffic is like, and how a gateway writes it
down (`demo.logs`).
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from routing_pipeline.clock import SECONDS_PER_HOUR
from routing_pipeline.schema import REQUEST_LOG, ColumnType

_ARROW: Mapping[ColumnType, pa.DataType] = {
    "text": pa.string(),
    "double": pa.float64(),
    "bigint": pa.int64(),
    "boolean": pa.bool_(),
    "timestamp": pa.timestamp("us"),
}


def attempts_table(columns: Mapping[str, Any], missing: Mapping[str, NDArray[np.bool_]] | None = None) -> pa.Table:
    """A table of attempts in the order of their starts; columns that are not given are null, and so are cells that are missing."""
    count, masks = len(columns["started_at"]), missing or {}

    def column(name: str, kind: pa.DataType) -> pa.Array:
        if name not in columns:
            return pa.array(["demo"] * count) if name in {"source_format", "source_object"} else pa.nulls(count, kind)
        # From a list, because pyarrow loads pandas to look at an array of objects.
        values = columns[name].tolist() if kind == pa.string() else columns[name]
        return pa.array(values, type=kind, mask=masks.get(name))

    columns = {"ingested_at": np.full(count, columns["started_at"].max() + SECONDS_PER_HOUR * 1_000_000), **columns}
    table = pa.table({each.name: column(each.name, _ARROW[each.type]) for each in REQUEST_LOG})
    return table.take(pa.array(np.argsort(columns["started_at"], kind="stable")))


def scores_table(request_ids: NDArray[np.object_], values: NDArray[np.float64], scored_us: NDArray[np.int64]) -> pa.Table:
    """Scores of a judge, from 0 to 1."""
    count = len(values)
    return pa.table(
        {
            "request_id": pa.array(request_ids.tolist(), type=pa.string()),
            "attempt_id": pa.nulls(count, pa.string()),
            "name": pa.array(["quality"] * count, type=pa.string()),
            "value": pa.array(values.round(3), type=pa.float64()),
            "scale_min": pa.array(np.zeros(count)),
            "scale_max": pa.array(np.ones(count)),
            "source": pa.array(["judge"] * count, type=pa.string()),
            "scored_at": pa.array(scored_us, type=pa.timestamp("us")),
        }
    )
