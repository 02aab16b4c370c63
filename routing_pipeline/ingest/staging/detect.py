"""What a text is, told from its beginning: lines of a format, one document, or something that has to be taken apart.

Belongs here: formats by names and by trial, lines against documents. Does not belong here: tables (`tables`), how records stand in
what wraps them (`shapes`).
"""

from __future__ import annotations

import io
import json
import re
from collections.abc import Iterator
from functools import cache
from itertools import islice
from pathlib import Path
from typing import Any

from routing_pipeline.ingest.formats import FORMATS
from routing_pipeline.ingest.formats.log_format import LogFormat
from routing_pipeline.ingest.quarantine import LONGEST_DOCUMENT, LONGEST_FAST_LINE
from routing_pipeline.ingest.shapes import Shapes
from routing_pipeline.ingest.staging import unpack
from routing_pipeline.ingest.staging.unpack import BOM

_HEAD_LINES = 1_000
_LOOKED_INTO = 20
SEPARATOR = b"\x1e"
"""What stands in front of every record of a JSON text sequence (RFC 7464)."""
_NAMES = [(each, [[b'"%b"' % key.encode() for key in keys] for keys in each.keys]) for each in FORMATS]


def beginning_of(path: Path) -> bytes:
    """The beginning of a file, with a whole line in it where one fits into what is read at full speed."""
    with path.open("rb") as file:
        head = file.read(unpack.HEAD_BYTES)
        while (
            head
            and b"\n" not in head
            and len(head) < LONGEST_FAST_LINE
            and not unpack.is_compressed(head)
            and not head.startswith(unpack.PARQUET)
        ):
            more = file.read(len(head))
            if not more:
                break
            head += more
        return head


def one_line(content: bytes) -> bytes | None:
    """What stands on the only line of a text that begins as an object does; None where there are more lines, or bytes that are no text."""
    document = content.removeprefix(BOM).strip()
    return document if document.startswith(b"{") and b"\n" not in document and b"\x00" not in document else None


def parsed_lines(text: bytes) -> Iterator[dict[str, Any] | None]:
    """The first lines that are not blank: the object that each is by itself, None where it is none."""
    lines = (line for line in text.split(b"\n") if line.strip())
    for line, _ in zip(lines, range(_HEAD_LINES), strict=False):
        try:
            record = json.loads(line)
        except (ValueError, RecursionError):
            record = None
        yield record if isinstance(record, dict) else None


def format_by_names(document: bytes) -> LogFormat | None:
    """The format of a document by the names in it, where these leave no doubt and its objects stand in it as such."""
    candidates = [each for each, needles in _NAMES if any(all(name in document for name in names) for names in needles)]
    return candidates[0] if len(candidates) == 1 and not _keeps_text(candidates[0].name).search(document) else None


@cache
def _keeps_text(name: str) -> re.Pattern[bytes]:
    """What shows that a field of the format which is an object stands in a document as JSON text."""
    structure = next(each.structure for each in FORMATS if each.name == name)
    nested = "|".join(re.escape(field) for field, held in structure.items() if not isinstance(held, str))
    return re.compile(rf'"(?:{nested})"\s*:\s*"[{{\[]'.encode() if nested else rb"(?!)")


def shapes_of(head: bytes, asked: LogFormat | None) -> Shapes:
    """What takes the object apart, once its beginning has shown whether its records are wrapped."""
    tried = Shapes(asked, LONGEST_DOCUMENT)
    for _ in tried.read(io.BytesIO(head[: unpack.HEAD_BYTES])):
        if tried.is_wrapped:
            break
    return Shapes(asked, LONGEST_DOCUMENT, is_wrapped=tried.is_wrapped)


def known_lines(text: bytes, asked: LogFormat | None) -> Iterator[LogFormat | None]:
    """For the first lines that are not blank: the format that each is a record of by itself."""
    shapes = Shapes(asked, LONGEST_DOCUMENT)
    for record in parsed_lines(text):
        known = None if record is None else shapes.known(record)
        # In another one's words, unless something is wrapped around what was asked for.
        yield asked if known is None and record and asked and not shapes.holds(record) else known


def is_of_lines(text: bytes, asked: LogFormat | None) -> bool:
    """Whether a text that has to be taken apart is still one of lines: the first is something whole, or some line is a record."""
    if text.startswith((b"[", SEPARATOR)):
        return False
    return not text.startswith(b"{") or next(parsed_lines(text), None) is not None or any(known_lines(text, asked))


def format_of_lines(text: bytes, asked: LogFormat | None, *, is_whole: bool) -> LogFormat | None:
    """The format of a text of lines at least half of which are a record each, as they stand; None where it has to be taken apart."""
    lines = text.split(b"\n")
    whole = lines if is_whole else lines[:-1]
    if text.startswith((b"[", BOM)) or sum(1 for line in whole if line.strip()) < 2:
        return None
    known = list(known_lines(b"\n".join(whole), asked))
    formats = [each for each in known if each is not None and each.records is None]
    if not formats or 2 * len(formats) < len(known):
        return None
    # Who keeps objects as text does so on every line.
    first = islice(filter(None, parsed_lines(b"\n".join(whole))), _LOOKED_INTO)
    return None if any(formats[0].opened(record) for record in first) else formats[0]
