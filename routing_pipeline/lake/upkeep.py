"""Files that nothing needs any more: what a writer that died has left, and what only dropped snapshots held.

Belongs here: telling from the table which files it needs, removing the others. Does not belong here: which snapshots are old enough
(`ingest.compaction`), what a commit marks before it writes (`table`).

Under `Home.writing()` only.
"""

from __future__ import annotations

import shutil
from collections.abc import Iterable
from itertools import pairwise
from pathlib import Path
from typing import TYPE_CHECKING, Any, get_args

from routing_pipeline.clock import SECONDS_PER_DAY
from routing_pipeline.lake.iceberg import IcebergTable, side_names
from routing_pipeline.lake.side_tables import SideTable
from routing_pipeline.storage.bucket import BucketStorage
from routing_pipeline.storage.files import Entry

if TYPE_CHECKING:
    from pyiceberg.table import Table

SUPERSEDED_KEPT_S = SECONDS_PER_DAY
"""Side files that were rewritten stay for a day: an analysis may be reading them."""
CLOCKS_DIFFER_S = 1.0, SECONDS_PER_DAY
"""By how much the clock that dates files and the one that dates snapshots may differ: on one machine, and between a bucket and its writers."""


def recover(iceberg: IcebergTable) -> None:
    """Remove what writers that died have left: files never committed, side files never named, scratch."""
    for leftover in iceberg.home.scratch.glob("ingest-*"):
        shutil.rmtree(leftover, ignore_errors=True)
    files = iceberg.files
    intents = files.entries("intents")
    if not intents:
        return
    died_after = min(intent.modified_s for intent in intents)
    table = iceberg.opened()
    committed = {iceberg.name_of(file.file_path) for file in iceberg.data_files()}
    for intent in intents:
        folder = f"data/{Path(intent.name).name}"
        held = [entry.name for entry in files.entries(folder)]
        files.delete(name for name in held if name not in committed)
        if not committed.intersection(held):
            shutil.rmtree(files.path(folder), ignore_errors=True)
    if table is not None:
        _remove_all(iceberg, _metadata_files(iceberg, table), referenced_metadata(iceberg, table, since=died_after), since=died_after)
    drop_unnamed_side_files(iceberg, since=died_after)
    # Last, so that a kill while clearing up leaves the reason to clear up.
    files.delete(intent.name for intent in intents)


def drop_history(iceberg: IcebergTable, superseded_before_s: float, *, unused_since_s: float) -> tuple[int, int]:
    """Expire snapshots and remove the files that only they held; gives how many snapshots and how many files.

    Args:
        iceberg: The table.
        superseded_before_s: Snapshots that were followed by another one before this moment go, seconds since 1970.
        unused_since_s: Files that nothing refers to go when they are older than this.
    """
    table = iceberg.opened()
    if table is None:
        return 0, 0
    history = sorted(table.metadata.snapshots, key=lambda snapshot: snapshot.sequence_number or 0)
    expired = [older.snapshot_id for older, newer in pairwise(history) if newer.timestamp_ms < superseded_before_s * 1e3]
    if expired:
        with iceberg.reaching():
            table.maintenance.expire_snapshots().by_ids(expired).commit()
        table = iceberg.opened() or table
    held = referenced_metadata(iceberg, table) | referenced_data(iceberg, table)
    data = [entry for entry in iceberg.files.entries("data") if entry.name.endswith(".parquet")]
    removed = _remove_all(iceberg, [*_metadata_files(iceberg, table), *data], held, before=unused_since_s)
    drop_unnamed_side_files(iceberg, before=unused_since_s)
    return len(expired), removed


def drop_unnamed_side_files(iceberg: IcebergTable, *, since: float = 0.0, before: float = float("inf")) -> None:
    """Remove side files that the table does not name, of an age: what a dead writer left, or what readers are done with."""
    table = iceberg.opened()
    if table is not None:
        named = {f"side/{file}" for name in get_args(SideTable) for file in side_names(table.properties, name)}
        _remove_all(iceberg, iceberg.files.entries("side"), named, since=since, before=before)


def referenced_data(iceberg: IcebergTable, table: Table) -> set[str]:
    """Data files of all snapshots that are left."""
    with iceberg.reaching():
        return {
            iceberg.name_of(entry.data_file.file_path)
            for manifest in _manifests(table).values()
            for entry in manifest.fetch_manifest_entry(table.io, discard_deleted=True)
        }


def referenced_metadata(iceberg: IcebergTable, table: Table, since: float = 0.0) -> set[str]:
    """The table's own files that its present state needs: itself, and lists and manifests of snapshots made since then."""
    since -= CLOCKS_DIFFER_S[isinstance(iceberg.files, BucketStorage)]
    lists = [snapshot.manifest_list for snapshot in table.metadata.snapshots if snapshot.timestamp_ms >= since * 1e3]
    logged = [entry.metadata_file for entry in table.metadata.metadata_log]
    with iceberg.reaching():
        return {iceberg.name_of(path) for path in (table.metadata_location, *logged, *lists, *_manifests(table, since))}


def _metadata_files(iceberg: IcebergTable, table: Table) -> list[Entry]:
    return iceberg.files.entries(iceberg.name_of(table.metadata_location).rpartition("/")[0])


def _remove_all(
    iceberg: IcebergTable, present: Iterable[Entry], held: set[str], *, since: float = 0.0, before: float = float("inf")
) -> int:
    """Remove those of an age that nothing refers to; gives how many."""
    gone = [entry.name for entry in present if entry.name not in held and since <= entry.modified_s < before]
    iceberg.files.delete(gone)
    return len(gone)


def _manifests(table: Table, since: float = 0.0) -> dict[str, Any]:
    """Manifests by path of the snapshots made since then."""
    return {
        manifest.manifest_path: manifest
        for snapshot in table.metadata.snapshots
        if snapshot.timestamp_ms >= since * 1e3
        for manifest in snapshot.manifests(table.io)
    }
