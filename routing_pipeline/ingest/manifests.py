"""Which new objects their writer has finished: exports that say so in a manifest, as Langfuse's blob export does.

Belongs here: leaving out what no manifest names yet, and an export's tables that hold something else than was asked for.
Does not belong here: what the files hold (`formats`).

An export lies in `{folder}/{table}/{time}.{kind}` and writes `{folder}/manifests/{time}.json` last. Where a folder holds
both, a file counts once a manifest names it; where there are no manifests (older exports), every file counts.
"""

from __future__ import annotations

import json
import tempfile
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

from routing_pipeline.home import Home
from routing_pipeline.ingest.objects import ObjectChangedError, Source, StoredObject

LOG_TABLES = frozenset({"observations_v2", "observations"})
SCORE_TABLES = frozenset({"scores"})
_TABLES = LOG_TABLES | SCORE_TABLES | {"traces"}
_MANIFESTS = "manifests"


def finished(
    home: Home, source: Source, listed: Sequence[StoredObject], new: Sequence[StoredObject], tables: frozenset[str]
) -> tuple[list[StoredObject], int]:
    """Those of `new` that can be read now, and how many of `tables` no manifest names yet.

    Args:
        home: Where manifests are fetched to.
        source: Where the objects lie.
        listed: All objects there, which hold the manifests.
        new: Objects not read so far.
        tables: Tables of an export that hold what is read; its other tables and the manifests are left out.
    """
    folders = {_folder(each) for each in listed if _table(each) == _MANIFESTS} & {
        _folder(each) for each in listed if _table(each) in _TABLES
    }
    if not folders:
        return list(new), 0
    others = [each for each in new if _folder(each) not in folders or _table(each) not in _TABLES | {_MANIFESTS}]
    exported = [each for each in new if _folder(each) in folders and _table(each) in tables]
    if not exported:
        return others, 0
    # What a new file belongs to was written after it: older manifests need not be read again.
    oldest = min(_time(each) for each in exported)
    manifests = [each for each in listed if _folder(each) in folders and _table(each) == _MANIFESTS and _time(each) >= oldest]
    named = _named(home, source, manifests)
    complete = {id(each) for each in exported if (_folder(each), *_place(each)) in named}
    kept = {id(each) for each in others} | complete
    return [each for each in new if id(each) in kept], len(exported) - len(complete)


def _place(listed: StoredObject) -> tuple[str, str]:
    parts = listed.key.split("/")
    return (parts[-2] if len(parts) > 1 else "", parts[-1])


def _table(listed: StoredObject) -> str:
    return _place(listed)[0]


def _folder(listed: StoredObject) -> str:
    return "/".join(listed.key.split("/")[:-2])


def _time(listed: StoredObject) -> str:
    return _place(listed)[1].partition(".")[0]


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
