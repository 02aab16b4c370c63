"""Files for DuckDB, and where each of their lines came from.

Belongs here: writing records of many objects into a file per format. Does not belong here: which records (`shapes`,
`staging`), what becomes of them (`batch`).

Names of objects never become names of files, because DuckDB reads `*`, `?` and `[` in them as patterns.
"""

from __future__ import annotations

from array import array
from dataclasses import dataclass, field
from pathlib import Path
from typing import IO, NamedTuple

from routing_pipeline.ingest.formats.log_format import LogFormat

_BUFFER = 1 << 20


class Place(NamedTuple):
    """Where a record stands: number of its object, line from 1, and record within the line from 1, None where it is the only one."""

    object: int
    line: int
    record: int | None


Places = tuple["array[int]", "array[int]", "array[int]"]
"""Objects, lines and records by line of a pack; record 0: the line's only one."""


@dataclass(frozen=True)
class StagedFile:
    """One file for DuckDB, and how its lines map back onto objects.

    Attributes:
        path: The file, named by us.
        format: How its records read.
        object: Number of the object it came from; None for a pack, whose lines name theirs in `__object`.
        places: For a pack: where each of its lines comes from.
        first_line: Line of the object that the file's first line is.
        is_parquet: Parquet instead of JSON lines.
        is_shaped: Each line is a record of the format already, taken out of whatever it stood in: no other shape is looked for.
    """

    path: Path
    format: LogFormat
    object: int | None
    places: Places = (array("q"), array("q"), array("q"))
    first_line: int = 1
    is_parquet: bool = False
    is_shaped: bool = False

    def origin(self, line: int) -> Place:
        """Where a line of this file comes from; lines count from 1."""
        if self.object is not None:
            return Place(self.object, self.first_line + line - 1, None)
        objects, lines, records = self.places
        return Place(objects[line - 1], lines[line - 1], records[line - 1] or None)

    def objects(self) -> set[int]:
        """Numbers of the objects that it came from."""
        return set(self.places[0]) if self.object is None else {self.object}


@dataclass
class _Pack:
    path: Path
    file: IO[bytes]
    format: LogFormat
    is_shaped: bool
    places: Places = field(default_factory=lambda: (array("q"), array("q"), array("q")))
    size: int = 0


class Packs:
    """Records of any objects, a file per format: opening a file costs more than reading one of them.

    Args:
        folder: Where the files go.
        name: How their names begin.
        most_bytes: Size from which a format begins another file.
    """

    def __init__(self, folder: Path, name: str, most_bytes: int) -> None:
        self._folder, self._name, self._most = folder, name, most_bytes
        self._open: dict[tuple[str, bool], _Pack] = {}
        self._full: list[StagedFile] = []
        self.bytes = 0

    def add(self, log_format: LogFormat, place: Place, record: bytes, *, is_shaped: bool) -> None:
        """One record, as JSON; what is none will be refused. `is_shaped` as in StagedFile."""
        key = log_format.name, is_shaped
        pack = self._open.get(key)
        if pack is None:
            path = self._folder / f"{self._name}-{len(self._full)}-{len(self._open)}"
            pack = self._open[key] = _Pack(path, path.open("wb", buffering=_BUFFER), log_format, is_shaped)
        size = pack.file.write(_as_packed(record, place.object))
        for kept, value in zip(pack.places, (place.object, place.line, place.record or 0), strict=True):
            kept.append(value)
        pack.size += size
        self.bytes += size
        if pack.size >= self._most:
            self._close(key)

    def closed(self) -> list[StagedFile]:
        """Everything that was written."""
        for key in list(self._open):
            self._close(key)
        return self._full

    def _close(self, key: tuple[str, bool]) -> None:
        pack = self._open.pop(key)
        pack.file.close()
        self._full.append(StagedFile(pack.path, pack.format, None, pack.places, is_shaped=pack.is_shaped))


def _as_packed(document: bytes, number: int) -> bytes:
    """One line that names its object. DuckDB takes the first of two equal keys, so the document cannot claim another."""
    # Raw line ends in a JSON document can only be white space.
    line = document.replace(b"\r", b" ").replace(b"\n", b" ").strip()
    body = line[1:].lstrip()
    comma = b"" if body.startswith(b"}") else b", "
    return b'{"__object": %d%b%b\n' % (number, comma, body) if line.startswith(b"{") else line + b"\n"
