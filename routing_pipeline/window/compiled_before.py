"""SQL that earlier processes of a home have compiled, a file each, so that the next one need not.

Belongs here: where it lies, and when it is believed. Does not belong here: what makes two expressions one query (`compiled`), when it
goes (`retention`).

A file says the digest of its content first: one that breaks off, as after a power cut, is compiled anew. Its name says by which code
and which versions it was compiled.
"""

from __future__ import annotations

import contextlib
import hashlib
import os
import time
from functools import cache
from importlib.metadata import version
from pathlib import Path

from routing_pipeline.clock import SECONDS_PER_DAY
from routing_pipeline.storage.code_keys import code_key

QUERIES = "queries"
"""Folder beside what DuckDB spills, for the SQL of queries that were asked before."""
USED_AGAIN_S = SECONDS_PER_DAY
"""How old a file's last use may be before another one is noted."""


def find(folder: Path, key: str) -> str | None:
    """The SQL kept under a key; None when there is none that is whole."""
    path = folder / name_of(key)
    with contextlib.suppress(OSError, UnicodeDecodeError):
        digest, _, query = path.read_text(encoding="utf-8").partition("\n")
        if digest == _digest(query):
            if time.time() - path.stat().st_mtime > USED_AGAIN_S:
                os.utime(path)
            return query
    return None


def keep(folder: Path, key: str, query: str) -> None:
    """Keep it, where that can be done: a full disk is nothing that a query should end by. Nobody waits for the disk: what is not whole is not believed."""
    with contextlib.suppress(OSError, UnicodeEncodeError):
        path, content = folder / name_of(key), f"{_digest(query)}\n{query}".encode()
        try:
            path.write_bytes(content)
        except FileNotFoundError:
            folder.mkdir(parents=True, exist_ok=True)
            path.write_bytes(content)


def name_of(key: str) -> str:
    """The name of a shape's file: by which code and which versions it was compiled, and its key."""
    return f"{_compiler()}-{key}.sql"


@cache
def _compiler() -> str:
    """What the SQL of an expression depends on beside the expression."""
    versions = map(version, ("duckdb", "ibis-framework", "sqlglot"))
    return _digest(" ".join((*versions, code_key("routing_pipeline.window.compiled"))))[:16]


def _digest(text: str) -> str:
    return hashlib.md5(text.encode("utf-8", "surrogatepass"), usedforsecurity=False).hexdigest()
