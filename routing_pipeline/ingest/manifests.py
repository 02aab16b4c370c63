"""Which new objects their writer has finished: exports that say so in a manifest, as Langfuse's blob export does.

Belongs here: leaving out what no manifest names yet, and an export's tables that hold something else than was asked for.
Does not belong here: what the files hold (`formats`).

An export lies in `{folder}/{table}/{time}.{kind}` and writes `{folder}/manifests/{time}.json` last. Where a folder holds
both, a file counts once a manifest names it; where there are no manifests (older exports), every file counts.
"""

from __future__ import annotations

import json
import tempfile
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from routing_pipeline.ingest.backlog import Backlog
from routing_pipeline.ingest.objects import ObjectChangedError, Source, StoredObject
from routing_pipeline.storage.home import Home

LOG_TABLES = frozenset({"observations_v2", "observations"})
SCORE_TABLES = frozenset({"scores"})
_TABLES = LOG_TABLES | SCORE_TABLES | {"traces"}
_MANIFESTS = "manifests"

_PARTS = "string_split(object, '/')"
_FOLDER = f"array_to_string(({_PARTS})[:-3], '/')"
_TABLE = f"coalesce(({_PARTS})[-2], '')"
_NAME = f"({_PARTS})[-1]"
_TIME = f"split_part({_NAME}, '.', 1)"
_IN_EXPORT = f"{_FOLDER} IN (SELECT folder FROM exports)"  # noqa: S608 (our own SQL)


def leave_out_unfinished(home: Home, backlog: Backlog, tables: frozenset[str]) -> int:
    """Take out of the backlog what cannot be read now, and what is none of these tables; gives how many no manifest names yet.

    Args:
        home: Where manifests are fetched to.
        backlog: What is to be read; its listing holds the manifests.
        tables: Tables of an export that hold what is read; its other tables and the manifests are left out.
    """
    connection = backlog.connection
    connection.execute(
        f"""CREATE OR REPLACE TABLE exports AS SELECT DISTINCT {_FOLDER} AS folder FROM listing WHERE {_TABLE} = $manifests
        INTERSECT SELECT DISTINCT {_FOLDER} FROM listing WHERE {_TABLE} IN (SELECT unnest($every))""",  # noqa: S608 (our own SQL)
        {"manifests": _MANIFESTS, "every": sorted(_TABLES)},
    )
    if not connection.execute("SELECT count(*) FROM exports").fetchone()[0]:
        return 0
    connection.execute(
        f"DELETE FROM unread WHERE {_IN_EXPORT} AND {_TABLE} IN (SELECT unnest($others))",  # noqa: S608 (our own SQL)
        {"others": sorted((_TABLES | {_MANIFESTS}) - tables)},
    )
    is_exported, asked = f"{_IN_EXPORT} AND {_TABLE} IN (SELECT unnest($tables))", {"tables": sorted(tables)}
    # What a new file belongs to was written after it: older manifests need not be read again.
    oldest = connection.execute(f"SELECT min({_TIME}) FROM unread WHERE {is_exported}", asked).fetchone()[0]  # noqa: S608
    if oldest is None:
        return 0
    manifests = backlog.objects(
        f"{_IN_EXPORT} AND {_TABLE} = $manifests AND {_TIME} >= $oldest", {"manifests": _MANIFESTS, "oldest": oldest}, table="listing"
    )
    connection.execute("CREATE OR REPLACE TABLE named (folder VARCHAR, tbl VARCHAR, name VARCHAR)")
    if named := sorted(_named(home, backlog.source, manifests)):
        connection.executemany("INSERT INTO named VALUES ($1, $2, $3)", [list(each) for each in named])
    is_unfinished = f"{is_exported} AND ({_FOLDER}, {_TABLE}, {_NAME}) NOT IN (SELECT (folder, tbl, name) FROM named)"  # noqa: S608
    unfinished = int(connection.execute(f"SELECT count(*) FROM unread WHERE {is_unfinished}", asked).fetchone()[0])  # noqa: S608
    connection.execute(f"DELETE FROM unread WHERE {is_unfinished}", asked)  # noqa: S608 (our own SQL)
    return unfinished


def _folder(listed: StoredObject) -> str:
    return "/".join(listed.key.split("/")[:-2])


def _named(home: Home, source: Source, manifests: Iterable[StoredObject]) -> set[tuple[str, str, str]]:
    """Folder, table and name of every file that the manifests name; manifests that cannot be read name none."""
    found: set[tuple[str, str, str]] = set()
    home.scratch.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(prefix="ingest-", dir=home.scratch, ignore_cleanup_errors=True) as folder:
        copy = Path(folder) / "manifest"
        for each in manifests:
            try:
                source.fetch(each, copy)
                content: Any = json.loads(copy.read_bytes())
            except (ObjectChangedError, ValueError, RecursionError):
                continue
            files = content.get("files") if isinstance(content, dict) else None
            for file in files if isinstance(files, list) else ():
                key = file.get("key") if isinstance(file, dict) else None
                if isinstance(key, str) and key.count("/"):
                    # Keys in a manifest begin at the bucket, ours may begin at a folder.
                    table, name = key.split("/")[-2:]
                    found.add((_folder(each), table, name))
    return found
