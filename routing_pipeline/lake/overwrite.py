"""Rows that leave the lake: the data files that hold them, and the same files without them.

Belongs here: what has to be written anew when an object is read again, and what that does to ledger and quarantine. Does
not belong here: reading the object (`ingestion`), which rows a person wants gone (`ingest.erasure`), the commit (`lake`).

An object that was uploaded again, or is to be read again, keeps its rows until those of its new reading are committed;
old ones leave in the same step. Its ledger entry under the ETag `READ_AGAIN`, which no object has, is all there is to it.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from routing_pipeline.lake.side_tables import SideTable
from routing_pipeline.lake.table import Lake

ADDRESS = "CASE WHEN source = $first THEN object ELSE concat(object, ' in ', source) END"
"""`Home.address` as SQL over schema.LEDGER; `$first` is the home's first source."""
READ_AGAIN = ""
"""ETag of an object in the ledger whose next reading replaces what the lake holds of it."""


@dataclass
class Removal:
    """Data files that leave, and the rows that leave with them by source_object; the rest of their rows was written anew."""

    files: list[str] = field(default_factory=list)
    rows: dict[str, int] = field(default_factory=dict)


def without(connection: Any, files: Sequence[str], condition: str, parameters: Mapping[str, Any], folder: Path) -> Removal:
    """Write the data files that hold rows of `condition`, without these rows, into `folder`.

    Args:
        connection: A DuckDB connection.
        files: Data files of the lake.
        condition: SQL over schema.REQUEST_LOG, in words of ours; its values are `parameters`.
        parameters: Named values.
        folder: From `Lake.new_data_folder`.
    """
    if not files:
        return Removal()
    found = connection.execute(
        f"SELECT filename, source_object, count(*) FROM read_parquet($files, filename=true, union_by_name=true) WHERE {condition} GROUP BY ALL",  # noqa: S608
        {"files": list(files), **parameters},
    ).fetchall()
    removal = Removal(sorted({name for name, _, _ in found}))
    for _, address, count in found:
        removal.rows[address] = removal.rows.get(address, 0) + count
    for number, name in enumerate(removal.files):
        query = f"SELECT * FROM read_parquet($file) WHERE NOT coalesce({condition}, false)"  # noqa: S608
        held = {"file": name, **parameters}
        # An empty Parquet file belongs to no day.
        if connection.execute(f"SELECT count(*) FROM ({query})", held).fetchone()[0]:  # noqa: S608
            connection.sql(query, params=held).write_parquet(str(folder / f"kept-{number}.parquet"), compression="zstd")
    return removal


@dataclass
class Replacement:
    """What a commit has to take along so that earlier readings of its objects are gone."""

    files: list[str] = field(default_factory=list)
    rows: int = 0
    rewritten: dict[SideTable, list[str]] = field(default_factory=dict)
    has_vanished: bool = False


def replacement(connection: Any, lake: Lake, source: str, keys: Mapping[str, str], folder: Path) -> Replacement:
    """Everything that the lake holds of these objects, on its way out.

    Where an attempt vanishes with it that no row in `folder` brings back, another object may hold it as well, counted as a
    duplicate then: objects that were read since and counted duplicates are marked to be read again.

    Args:
        connection: A DuckDB connection.
        lake: Where the rows are.
        source: The objects' source.
        keys: Their addresses in the lake, by key.
        folder: From `Lake.new_data_folder`; holds the rows of the new reading.
    """
    import pyarrow as pa

    is_theirs, addresses = "source_object IN (SELECT unnest($addresses))", {"addresses": list(keys.values())}
    new = [str(path) for path in sorted(folder.rglob("*.parquet"))]
    removal = without(connection, lake.all_files(), is_theirs, addresses, folder)
    vanished = removal.files and _one(
        connection,
        f"""SELECT count(*) FROM (SELECT attempt_id FROM read_parquet($files, union_by_name=true) WHERE {is_theirs}) AS gone
        {"ANTI JOIN read_parquet($new) AS new USING (attempt_id)" if new else ""}""",  # noqa: S608 (our own SQL)
        {"files": removal.files, **addresses, **({"new": new} if new else {})},
    )
    gone = pa.table({"object": pa.array(list(keys), pa.string())})
    is_gone = "source = $source AND object IN (SELECT object FROM gone)"
    ledger = lake.side_rewritten(
        connection,
        "ledger",
        f"""SELECT * REPLACE (CASE WHEN $vanished AND duplicates > 0 AND committed_at >= (SELECT min(committed_at) FROM side WHERE {is_gone})
            THEN '{READ_AGAIN}' ELSE etag END AS etag) FROM side WHERE NOT ({is_gone})""",  # noqa: S608 (our own SQL)
        {"source": source, "vanished": bool(vanished)},
        gone=gone,
    )
    quarantine = lake.side_rewritten(connection, "quarantine", f"SELECT * FROM side WHERE NOT ({is_theirs})", addresses)  # noqa: S608
    return Replacement(removal.files, sum(removal.rows.values()), {"ledger": ledger, "quarantine": quarantine}, bool(vanished))


def _one(connection: Any, query: str, parameters: Mapping[str, Any]) -> Any:
    return connection.execute(query, dict(parameters)).fetchone()[0]
