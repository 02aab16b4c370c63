"""From pieces of JSON to records of formats, whatever a log shipper, an interface or a container runtime has put around them.

Belongs here: what is a record, what only wraps records, what is left out, in which words the rest is refused. Does not belong
here: where an object begins and ends (`json_values`), what a record's fields mean (`formats`), files (`staging`).

One rule covers every wrapper: an object that no format knows is opened, and where a record that a format knows stands in it,
this is read; so no wrapper can take away what a format recognises by itself. Of an object in which nothing is known, the names
below say how many records it holds, so that each is refused by itself. Messages that a runtime cut into parts are put together.
"""

from __future__ import annotations

import base64
import binascii
import json
import re
import zlib
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import IO, Any

from routing_pipeline.ingest.formats import readers, recognised
from routing_pipeline.ingest.formats.log_format import LogFormat
from routing_pipeline.ingest.formats.otlp import messages
from routing_pipeline.ingest.json_values import EXCERPT, Piece, Stream, pieces, pieces_of_lines, pieces_of_text
from routing_pipeline.ingest.unknown import unknown_record

NOT_JSON = "not valid JSON"
NOT_OBJECT = "not a JSON object: one object with the fields of one request is expected per line"
CUT_DOCUMENT = "not valid JSON: the document breaks off or holds an error; one record per line would lose only that record"
CUT_MESSAGE = "a message in parts of which the last is missing"
TEXT = "lines of text"
CONTROL = "control messages of CloudWatch"

PAGES = (
    "data",
    "result",
    "results",
    "logs",
    "items",
    "records",
    "Records",
    "events",
    "logEvents",
    "entries",
    "hits",
    "streams",
    "values",
    "rows",
)
"""Names under which interfaces and shippers put many records; `values` are pairs of a time and a line (Loki)."""
MESSAGES = (
    *("message", "log", "msg", "line", "body", "event", "payload", "jsonPayload", "textPayload", "Message", "@message", "_raw", "raw"),
    *("_source", "attributes", "content", "fields", "value", "data", "awslogs", "log_processed"),
)
"""Names under which shippers put one record, as an object or as text."""
TEXTS = ("message", "log", "msg", "line", "textPayload", "Message", "@message", "_raw", "raw")
"""Of these, the ones that hold a line of text where they hold no record."""
AROUND_PAGES = frozenset(
    {
        *(
            "meta",
            "metadata",
            "pagination",
            "paging",
            "page",
            "pages",
            "page_size",
            "pageSize",
            "per_page",
            "limit",
            "offset",
            "size",
            "total",
        ),
        *(
            "count",
            "totalItems",
            "totalPages",
            "has_more",
            "hasMore",
            "next",
            "next_cursor",
            "nextCursor",
            "cursor",
            "prev",
            "previous",
            "links",
        ),
        *(
            "first_id",
            "last_id",
            "next_page",
            "nextToken",
            "object",
            "status",
            "success",
            "code",
            "error",
            "errors",
            "message",
            "took",
            "timed_out",
        ),
        *(
            "_shards",
            "request_id",
            "version",
            "stats",
            "resultType",
            "messageType",
            "owner",
            "logGroup",
            "logStream",
            "subscriptionFilters",
        ),
    }
)
"""What stands beside the records of a page; an object with other names may be a record of its own."""
MOST_OTHERS = 3
DEEPEST = 10
LOOKED_AT = 1_000
"""Elements of a list that are looked at to tell whether it holds records."""
MOST_PARTS = 1_000
"""Messages of which parts are waited for at a time."""
LONGEST_UNPACKED = 64 << 20
LONGEST_RECORD = 15 << 20
"""Of a record, what DuckDB's reader takes (`quarantine`), with room for what is put in front."""
_MOST_BYTES = 4
"""Of a character."""

_CRI = re.compile(r"\S+ (?P<stream>stdout|stderr) (?P<tag>[PF])(?::\S*)? (?P<text>.*)", re.DOTALL)
# What gzip, an object and a list begin with in Base64, of either alphabet.
_PACKED = re.compile(r"(?:H4sI|[eW][w-z0-9+/_-])[A-Za-z0-9+/=_\s-]+")
_OTHER_ALPHABET = str.maketrans("-_", "+/")
_GZIP = b"\x1f\x8b"
_OF_CALLS = re.compile(r"model|llm|token|usage|prompt|completion|cost|spend", re.IGNORECASE)
_OPENS = ("{", "[")


@dataclass(frozen=True)
class Found:
    """A record of a format: as it stands in the log, or the fields of it that the format reads."""

    line: int
    format: LogFormat
    text: str


@dataclass(frozen=True)
class Lost:
    """What is refused, as text."""

    line: int
    reason: str
    text: str


@dataclass(frozen=True)
class LeftOut:
    """What is no record at all, by what it is called."""

    what: str
    count: int


Item = Found | Lost | LeftOut


class Shapes:
    """The records of one object.

    Args:
        asked: The format that was asked for; what it does not know and nothing wraps is refused in its words.
        longest: Characters of an object or a line beyond which it is not read.
        is_wrapped: Whether records were seen in wrappers already: then lines of text beside them are left out.
    """

    def __init__(self, asked: LogFormat | None, longest: int, *, is_wrapped: bool = False) -> None:
        self.asked, self.longest, self.is_wrapped = asked, longest, is_wrapped
        self._parts: dict[str, tuple[int, str]] = {}

    def read(self, stream: Stream) -> Iterator[Item]:
        """Everything that a text holds."""
        yield from self._of_pieces(pieces(stream, self.holds, self.longest))

    def read_lines(self, file: IO[bytes]) -> Iterator[Item]:
        """Everything that a file of lines holds, of which none goes on in the next."""
        yield from self._of_pieces(pieces_of_lines(file, self.holds, self.longest))

    def _of_pieces(self, found: Iterable[Piece]) -> Iterator[Item]:
        for piece in found:
            yield from self.items(piece)
        # What waits for a part that never came.
        for line, text in self._parts.values():
            yield Lost(line, CUT_MESSAGE, text[:EXCERPT])
        self._parts.clear()

    def items(self, piece: Piece) -> Iterator[Item]:
        """What a piece of a text comes to."""
        if piece.value is not None:
            yield from self._of_object(piece.line, piece.value, piece.text)
        elif piece.kind == "line":
            yield from self._of_line(piece.line, piece.text)
        elif piece.kind == "too long":
            yield Lost(piece.line, f"line longer than {self.longest >> 20} MiB", piece.text)
        else:
            reason = CUT_DOCUMENT if "\n" in piece.text.strip() else NOT_JSON
            yield Lost(piece.line, NOT_OBJECT if piece.kind == "scalar" else reason, piece.text)

    def row(self, line: int, row: dict[str, Any]) -> Iterator[Item]:
        """What the row of a table comes to, whose columns hold what wraps or makes up a record."""
        yield from self._of_object(line, row, None)

    def known(self, record: Mapping[str, Any]) -> LogFormat | None:
        """The format of a record; None when none knows it."""
        if self.asked is None:
            return recognised(record)
        return self.asked if self.asked.recognises(record) else None

    def holds(self, value: Any, depth: int = 0) -> bool:
        """Whether a record that a format knows stands somewhere in a value, or is the value."""
        if isinstance(value, dict):
            if self.known(value) is not None:
                return True
            return depth < DEEPEST and any(self.holds(each, depth + 1) for below in (_below, _texts) for _, each in below(value))
        if isinstance(value, list):
            return depth < DEEPEST and any(self.holds(each, depth + 1) for each in value[:LOOKED_AT])
        return isinstance(value, str) and depth < DEEPEST and any(self.holds(each.value, depth + 1) for each in _inner(value, self))

    # One object

    def _of_object(self, line: int, value: dict[str, Any], text: str | None) -> Iterator[Item]:
        log_format = self.known(value)
        if log_format is not None:
            said = list(messages(value)) if log_format.records is not None else []
            if self.holds(said):
                yield from self._opened(line, {"logs": said}, None)
            else:
                yield from records_of(line, log_format, value, text)
            return
        joined = self._joined(line, value)
        if joined is not None:
            yield from joined
        elif value.get("messageType") == "CONTROL_MESSAGE":
            yield LeftOut(CONTROL, 1)
        else:
            yield from self._opened(line, value, text)

    def _opened(self, line: int, value: dict[str, Any], text: str | None, depth: int = 0) -> Iterator[Item]:
        """An object that no format knows: what of it holds records, else the page that it is, else itself."""
        holding = self._holding(_below(value), depth) or self._holding(_texts(value), depth)
        # A shipper that took a message apart keeps it too: both are the same record.
        message = next((name for name in MESSAGES if name in holding), None)
        if holding:
            self.is_wrapped = True
            for name, each in holding.items():
                if name == message or name not in MESSAGES:
                    yield from self._inside(line, each, depth + 1)
        elif not self._is_near(value) and (page := _page(value)) is not None:
            for each in page:
                yield from self._inside(line, each, depth + 1)
        elif self.is_wrapped and (said := _line_of(value)) is not None:
            yield from self._of_text(line, said)
        else:
            yield self._refused(line, value, text)

    def _holding(self, below: Iterable[tuple[str, Any]], depth: int) -> dict[str, Any]:
        return {name: each for name, each in below if self.holds(each, depth + 1)} if depth < DEEPEST else {}

    def _inside(self, line: int, value: Any, depth: int) -> Iterator[Item]:
        """What stands inside an object: a record, another wrapper, a list of them, or text that is one."""
        if isinstance(value, dict):
            log_format = self.known(value)
            if log_format is not None:
                yield from records_of(line, log_format, value)
            else:
                yield from self._opened(line, value, None, depth)
        elif isinstance(value, list) and depth < DEEPEST:
            # A pair of a time and a line holds one record.
            for each in [value[1]] if _is_pair(value) else value:
                yield from self._inside(line, each, depth + 1)
        elif isinstance(value, str):
            yield from self._of_text(line, value, depth)
        elif value is not None:
            yield Lost(line, NOT_OBJECT, _shown(value))

    def _of_text(self, line: int, text: str, depth: int = 0) -> Iterator[Item]:
        """A message: records one after another, or a line of text."""
        said = _unpacked(text).strip()
        start = _start(said)
        if start is None:
            yield from self._plain(line, said)
            return
        for piece in pieces_of_text(said[start:], self.holds, self.longest):
            if piece.value is None:
                yield from self.items(Piece(piece.kind, line, piece.text))
            else:
                yield from self._inside(line, piece.value, depth)

    def _plain(self, line: int, text: str) -> Iterator[Item]:
        if not text:
            return
        # What is left of a record is no line of text.
        if self.is_wrapped and not re.search(r'"\s*[:,}\]]', text):
            yield LeftOut(TEXT, 1)
        else:
            yield Lost(line, NOT_OBJECT if _is_json(text) else NOT_JSON, text[:EXCERPT])

    def _is_near(self, value: Mapping[str, Any]) -> bool:
        """Whether an object has fields of the format that was asked for, so that it cannot be a page of others."""
        return self.asked is not None and len(self.asked.columns_read & value.keys()) > 1

    def _refused(self, line: int, value: dict[str, Any], text: str | None) -> Item:
        if self.asked is not None:
            return _found(line, self.asked, value, text)
        return Lost(line, unknown_record(value), _shown(value) if text is None else text[:EXCERPT])

    # One line

    def _of_line(self, line: int, text: str) -> Iterator[Item]:
        """A line that begins with something else than an object: a runtime's, a shipper's, or nothing that could be read."""
        cri = _CRI.fullmatch(text.rstrip("\r"))
        if cri is not None:
            yield from self._part(line, cri["stream"], cri["text"], is_last=cri["tag"] == "F")
            return
        start = text.find("{")
        if start >= 0:
            found = list(pieces_of_text(text[start:], self.holds, self.longest))
            if any(each.value is not None and self.holds(each.value) for each in found):
                self.is_wrapped = True
                for piece in found:
                    yield from self.items(Piece(piece.kind, line, piece.text, piece.value))
                return
        yield from self._plain(line, text.strip())

    # Messages in parts

    def _joined(self, line: int, value: Mapping[str, Any]) -> Iterator[Item] | None:
        """What a part of a message comes to; None where the object is none."""
        text = value.get("log")
        if not isinstance(text, str):
            return None
        if "partial_id" in value:
            return self._part(line, str(value["partial_id"]), text, is_last=str(value.get("partial_last")).lower() == "true")
        stream = str(value.get("stream") or value.get("source") or "")
        if value.get("logtag") in {"P", "F"}:
            return self._part(line, stream, text, is_last=value["logtag"] == "F")
        if {"log", "stream", "time"} <= value.keys() and (stream in self._parts or _start(text) is not None):
            return self._part(line, stream, text, is_last=text.endswith("\n"))
        return None

    def _part(self, line: int, stream: str, text: str, *, is_last: bool) -> Iterator[Item]:
        first, before = self._parts.pop(stream, (line, ""))
        whole = before + text
        # Not everybody who copies these lines copies the line end by which the last part is told.
        is_whole = is_last or (whole.rstrip().endswith(("}", "]")) and _is_json(whole))
        if is_whole or len(whole) > self.longest:
            self.is_wrapped = self.is_wrapped or _start(whole.strip()) is not None
            yield from self._of_text(first, whole)
        else:
            self._parts[stream] = first, whole
            if len(self._parts) > MOST_PARTS:
                began, lost = self._parts.pop(next(iter(self._parts)))
                yield Lost(began, CUT_MESSAGE, lost[:EXCERPT])


def records_of(line: int, log_format: LogFormat, value: dict[str, Any], text: str | None = None) -> Iterator[Item]:
    """The records of an object that a format knows; of a document of many what is none of them is left out."""
    if log_format.records is None:
        yield _found(line, log_format, value, text)
        return
    read = 0
    for reader in readers(log_format):
        for record in reader.records(value) if reader.records is not None else ():
            yield _found(line, reader, record, None)
            read += 1
    for what, held in (log_format.held(value) if log_format.held is not None else {}).items():
        # Records are what is named first.
        if held > read:
            yield LeftOut(what, held - read)
        read = max(read - held, 0)


def _below(value: Mapping[str, Any]) -> Iterator[tuple[str, Any]]:
    """What in an object holds records if anything does: objects and lists of any name, text under the names of messages."""
    for name, each in value.items():
        if isinstance(each, (dict, list)) or (isinstance(each, str) and name in MESSAGES):
            yield name, each


def _texts(value: Mapping[str, Any]) -> Iterator[tuple[str, str]]:
    """Text under names that are nobody's: looked at where nothing else holds a record."""
    return ((name, each) for name, each in value.items() if isinstance(each, str) and name not in MESSAGES)


def _inner(text: str, shapes: Shapes) -> Iterator[Piece]:
    """The objects in a message that begins with one."""
    said = _unpacked(text).lstrip()
    start = _start(said)
    if start is not None:
        yield from (each for each in pieces_of_text(said[start:], lambda _: False, shapes.longest) if each.value is not None)


def _start(text: str) -> int | None:
    """Where the first object of a message begins: at its beginning, or behind what a runtime put there."""
    if text.startswith(_OPENS):
        return 0
    cri = _CRI.fullmatch(text)
    return cri.start("text") if cri is not None and cri["text"].startswith(_OPENS) else None


def _unpacked(text: str) -> str:
    """What a message holds that was written as Base64, as streams and queues hand records on, and maybe compressed; else the message."""
    if not _PACKED.fullmatch(text):
        return text
    try:
        bare = "".join(text.split()).translate(_OTHER_ALPHABET).rstrip("=")
        raw = base64.b64decode(bare + "=" * (-len(bare) % 4))
        is_packed = raw.startswith(_GZIP)
        said = zlib.decompressobj(wbits=31).decompress(raw, LONGEST_UNPACKED) if is_packed else raw
        found = said.decode("utf-8", "replace" if is_packed else "strict")
        # Every record has names in quotes; a word of letters that is read as Base64 has none.
        return found if is_packed or '"' in found else text
    except (binascii.Error, ValueError, zlib.error):
        return text


def _page(value: Mapping[str, Any]) -> list[Any] | None:
    """The elements of a page of records, none of which is known; None where the object is no page."""
    for name in PAGES:
        page = value.get(name)
        if isinstance(page, dict):
            page = _page(page)
        if isinstance(page, list) and all(isinstance(each, (dict, str)) or _is_pair(each) for each in page):
            others = value.keys() - AROUND_PAGES - {name}
            if not others or (len(page) > 1 and len(others) <= MOST_OTHERS):
                return page
    return None


def _is_pair(value: Any) -> bool:
    return (
        isinstance(value, list) and 2 <= len(value) <= 3 and isinstance(value[0], str) and value[0].isdigit() and isinstance(value[1], str)
    )


def _line_of(value: Mapping[str, Any]) -> str | None:
    """The line of text that a wrapper holds; None where the object is none, or has names as records of calls have them."""
    if any(_OF_CALLS.search(name) for name in value):
        return None
    return next((value[name] for name in TEXTS if isinstance(value.get(name), str)), None)


def _is_json(text: str) -> bool:
    try:
        json.loads(text)
    except (ValueError, RecursionError):
        return False
    return True


CONTENT = frozenset({"messages", "response", "input", "output", "prompt"})
"""Fields in which logs keep what was said and answered."""


def _found(line: int, log_format: LogFormat, value: Mapping[str, Any], text: str | None) -> Found | Lost:
    """A record as it stands in the log where it may, else the fields of it that are read."""
    opened = log_format.opened(value)
    if opened is not None:
        value, text = opened, None
    if text is not None and len(text) <= LONGEST_RECORD // _MOST_BYTES:
        return Found(line, log_format, text)
    try:
        kept = {name: value[name] for name in log_format.structure if name in value}
        read = json.dumps(kept)
        if len(read) > LONGEST_RECORD:
            # What was said tells only which kinds of content a request carries: a record is not lost for it.
            read = json.dumps({name: each for name, each in kept.items() if name not in CONTENT})
    except RecursionError:
        return Lost(line, "the fields that are read nest too deep", "")
    if len(read) > LONGEST_RECORD:
        return Lost(line, f"the fields that are read are longer than {LONGEST_RECORD >> 20} MiB", read[:EXCERPT])
    return Found(line, log_format, read)


def _shown(value: Any) -> str:
    """What an excerpt is made of."""
    try:
        return json.dumps(value)[:EXCERPT]
    except RecursionError:
        return ""
