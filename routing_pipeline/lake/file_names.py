"""Which rows a set of data files holds, told from the files' names alone.

Belongs here: the identity of data files, and how joining files keeps it. Does not belong here: which files there are
(`iceberg`), which of them are joined (`ingest.compaction`).

A data file never changes, and its folder, or the one that holds it, is named at random, so its path stands for its rows. Identities add up: a file
that was joined from others carries the sum of theirs in its name, and a set of files has the same sum before and after.
Results are addressed by it, so that upkeep, which changes the snapshot and no row, makes nothing compute anew, nor do
logs of days that an analysis does not read.
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Iterable
from pathlib import PurePosixPath

_JOINED = re.compile(r"joined-([0-9a-f]{32})\.parquet$")
_MODULUS = 1 << 128


def content_of(files: Iterable[str]) -> str:
    """The identity of the rows in these data files, 32 hexadecimal digits; order does not matter."""
    return f"{sum(map(_identity, files)) % _MODULUS:032x}"


def joined_name(day: object, files: Iterable[str]) -> str:
    """What a file is called into which these are joined."""
    return f"{day}-joined-{content_of(files)}.parquet"


def _identity(file: str) -> int:
    path = PurePosixPath(file)
    joined = _JOINED.search(path.name)
    # Where the lake lies does not matter: a home may be moved.
    name = "/".join(path.parts[-3:])
    return int(joined[1], 16) if joined else int.from_bytes(hashlib.md5(name.encode(), usedforsecurity=False).digest())
