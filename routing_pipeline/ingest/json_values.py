"""Text that holds JSON objects one after another, taken apart without holding more of it than one object.

Belongs here: where an object begins and ends, and where the next one begins after one that is broken. Does not belong here:
what an object means (`shapes`).

Objects may follow each other with line ends, blanks, commas or nothing in between, on one line or over several; arrays at the
top are opened. What is broken is given back once, as the text that cannot be read, and never takes along an object that is
whole: behind it, reading goes on with the next object that is a record by itself, or else with the next line. A document that
breaks off, or is too long to be held, is entered in the same way.
"""

from __future__ import annotations

import codecs
import io
import json
import re
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import IO, Any, Literal, Protocol

Kind = Literal["object", "line", "scalar", "broken", "too long"]
EXCERPT = 4_000
"""Characters kept of what is broken."""
MOST_TRIES = 10_000
"""How many objects inside something broken are looked at, at most, for a record to go on with."""

_CHUNK = 1 << 20
_DECODER = json.JSONDecoder()
# The separators of RFC 7464 and of people who write arrays by hand count too, as does a byte order mark in front of a line.
_BETWEEN = re.compile(r"[\s,\[\]\ufeff\x1e]*")
_SPEAKS = re.compile(r"\w")
_NEXT_IN_STRING = re.compile(r'["\\\n]')
_NEXT_OUTSIDE = re.compile(r'["{}\[\]]')
_BLANKS = 64
_LITERAL = 12
"""A literal, an escape or a byte order mark that the text cut is no longer than this."""


IsRecord = Callable[[dict[str, Any]], bool]


class Stream(Protocol):
    """Something to read bytes from."""

    def read(self, size: int = -1, /) -> bytes: ...  # noqa: D102


@dataclass(frozen=True)
class Piece:
    """One piece of a text.

    Attributes:
        kind: `object`; `line`: a line, or the rest of one, that begins with something else; `scalar`: another JSON value among
            objects; `broken`: what cannot be read; `too long`: an object or a line beyond the limit.
        line: Line that it begins on, from 1.
        text: As it stands there; of what is broken or too long the first EXCERPT characters.
        value: What an object holds.
    """

    kind: Kind
    line: int
    text: str
    value: dict[str, Any] | None = None


def pieces_of_lines(file: IO[bytes], is_record: IsRecord, longest: int) -> Iterator[Piece]:
    """As `pieces`, of lines that are each a text of their own: nothing goes on from one to the next."""
    number = 0
    while begun := file.readline(_CHUNK):
        number += 1
        whole = _whole(begun)
        if whole is not None:
            yield Piece("object", number, *whole)
            continue
        line = _Line(file, begun)
        yield from pieces(line, is_record, longest, first_line=number)
        while line.read(_CHUNK):
            pass


def pieces_of_text(text: str, is_record: IsRecord, longest: int) -> Iterator[Piece]:
    """As `pieces`, of a text that is held already."""
    raw = text.encode("utf-8", "replace")
    whole = _whole(raw)
    if whole is not None:
        yield Piece("object", 1, *whole)
    else:
        yield from pieces(io.BytesIO(raw), is_record, longest)


def _whole(line: bytes) -> tuple[str, dict[str, Any]] | None:
    """The text and the object of a line that is one and nothing else, as most are."""
    try:
        text = line.decode().strip()
        value = _DECODER.decode(text)
    except (ValueError, RecursionError):
        return None
    return (text, value) if isinstance(value, dict) else None


def pieces(stream: Stream, is_record: IsRecord, longest: int, *, first_line: int = 1) -> Iterator[Piece]:
    """Everything that the text holds, in order.

    Args:
        stream: Text in UTF-8; an object with other bytes in it is broken.
        is_record: Whether an object by itself is a record, or holds some.
        longest: Characters of an object or a line beyond which it is not read.
        first_line: Number of the line with which the text begins.
    """
    window = _Window(stream, longest, first_line)
    # After something broken, its rest is the same loss; what breaks off between two records of a page is told at the end of it.
    is_in_broken, owed = False, None
    while window.skip():
        if is_in_broken and window.is_line_start and not (window.is_over_lines and window.goes_on()):
            if owed is not None:
                yield owed
            is_in_broken, owed = False, None
        if window.text[window.at] == "{":
            found = window.object()
            if found is None:
                found, page = window.lost(is_record)
                is_in_broken, owed = True, owed or page
        elif window.is_line_start and not is_in_broken:
            found = window.line()
        else:
            found = window.rest(is_record)
            if found is not None and is_in_broken:
                found, owed = owed, None
        if found is not None:
            owed = owed if found.kind == "object" else None
            yield found
    if owed is not None:
        yield owed


class _Line:
    """A stream that ends with the line of which so much was read already."""

    def __init__(self, file: IO[bytes], begun: bytes) -> None:
        self._file, self._begun = file, begun
        self._has_ended = False

    def read(self, size: int = -1, /) -> bytes:
        found, self._begun = self._begun or (b"" if self._has_ended else self._file.readline(size)), b""
        self._has_ended |= not found or found.endswith(b"\n")
        return found


class _Error(Exception):
    """An object cannot be read; `place` is where in the text, `is_too_long` whether it only went on for too long."""

    def __init__(self, place: int, *, is_too_long: bool = False) -> None:
        super().__init__(place)
        self.place, self.is_too_long = place, is_too_long


class _Window:
    """The part of the text that is held: what is before `at` is done. Offsets count from `at`, because `more` moves it."""

    def __init__(self, stream: Stream, longest: int, first_line: int) -> None:
        self._stream, self._longest = stream, longest
        self._decode = codecs.getincrementaldecoder("utf-8")("surrogateescape").decode
        self.text, self.at = "", 0
        self.has_ended = False
        self.is_line_start, self.indent = True, ""
        self.is_over_lines, self._is_after_comma = False, False
        self._error = _Error(0)
        self._line, self._counted = first_line, 0

    # Moving

    def more(self) -> bool:
        """Read on, as much again as is held; whether anything came."""
        if self.has_ended:
            return False
        self._count()
        held = len(self.text) - self.at
        raw = self._stream.read(max(_CHUNK, min(held, self._longest - held)))
        self.has_ended = not raw
        self.text, self.at, self._counted = self.text[self.at :] + self._decode(raw, self.has_ended), 0, 0
        return not self.has_ended

    def skip(self) -> bool:
        """Go to the next piece; False where there is none."""
        self._is_after_comma = False
        while True:
            found = _BETWEEN.match(self.text, self.at)
            end = self.at if found is None else found.end()
            skipped = self.text[self.at : end]
            self._is_after_comma |= "," in skipped
            after_line_end = skipped.rpartition("\n")
            if after_line_end[1]:
                self.is_line_start, self.indent = True, ""
            if self.is_line_start:
                self.indent += after_line_end[2].replace("\ufeff", "")
            self.at = end
            if end < len(self.text):
                self.indent = self.indent[: len(self.indent) - len(self.indent.lstrip(" \t"))]
                return True
            if not self.more() and self.at >= len(self.text):
                return False

    def _take(self, length: int) -> str:
        taken = self.text[self.at : self.at + length]
        self.at += length
        self.is_line_start = False
        return taken

    def goes_on(self) -> bool:
        """Whether the line that begins here may belong to an object that began on another one."""
        return bool(self.indent) or self._is_after_comma or self.text[self.at] in "}])"

    def line_number(self) -> int:
        """Of what comes next."""
        self._count()
        return self._line

    def _count(self) -> None:
        self._line += self.text.count("\n", self._counted, self.at)
        self._counted = self.at

    # Pieces

    def object(self) -> Piece | None:
        """The object that begins here; None where it cannot be read."""
        line = self.line_number()
        try:
            value, length = self._decoded(0)
        except _Error as error:
            self._error = error
            return None
        text = self._take(length)
        return Piece("object", line, text, value) if _is_text(text) else Piece("broken", line, _excerpt(text))

    def line(self) -> Piece:
        """The line that begins here, without its end."""
        line, end = self.line_number(), self._line_end()
        if end is None:
            return self._too_long(line, self._drop_line)
        return Piece("line", line, _clean(self._take(end)))

    def rest(self, is_record: IsRecord) -> Piece | None:
        """What stands between objects of a line and is none: a scalar, or text up to the next record or the line's end."""
        line, end = self.line_number(), self._line_end()
        if end is None:
            return self._too_long(line, self._drop_line)
        try:
            _, after = _DECODER.raw_decode(self.text, self.at)
        except (ValueError, RecursionError):
            after = 0
        following = self.text[after : self.at + end].lstrip()
        if after and (not following or following[0] in ",]"):
            return Piece("scalar", line, _excerpt(self._take(after - self.at)))
        record = self._next_record(is_record, end)
        text = self._take(end if record is None else record)
        # Semicolons, a closing bracket too many: nothing that could have been a record.
        return Piece("broken", line, _excerpt(text)) if _SPEAKS.search(text) else None

    def lost(self, is_record: IsRecord) -> tuple[Piece | None, Piece | None]:
        """Step over an object that cannot be read, to where reading goes on; gives what is lost.

        Where the object holds the record with which it goes on, it is a page of records and no record: then the second value says
        what was lost if nothing more of it turns out to be. A page that is merely long has lost nothing.
        """
        line, error = self.line_number(), self._error
        self.is_over_lines = error.is_too_long
        limit = None if error.is_too_long else self._extent(error.place)
        record = self._next_record(is_record, limit)
        if record is not None:
            text = self._take(record)
            piece = Piece("too long" if error.is_too_long else "broken", line, _excerpt(text))
            if text.rstrip()[-1:] in "[:,":
                return None, None if error.is_too_long else piece
            return piece, None
        if limit is None:
            return self._too_long(line, self._drop_object if error.is_too_long else self._drop_line), None
        return Piece("broken", line, _excerpt(self._take(limit))), None

    def _too_long(self, line: int, drop: Callable[[], None]) -> Piece:
        text = _excerpt(self.text[self.at : self.at + EXCERPT])
        drop()
        self.is_line_start = False
        return Piece("too long", line, text)

    # Looking ahead

    def _decoded(self, offset: int) -> tuple[dict[str, Any], int]:
        """The object at this offset, and the offset of its end; reads on as far as it takes."""
        while True:
            try:
                value, end = _DECODER.raw_decode(self.text, self.at + offset)
                if end - self.at - offset > self._longest:
                    raise _Error(offset, is_too_long=True)
                return value, end - self.at
            except json.JSONDecodeError as error:
                place, is_cut = error.pos, error.msg.startswith("Unterminated string") or error.pos >= len(self.text) - _LITERAL
            except (ValueError, RecursionError):
                raise _Error(offset) from None
            if not is_cut or self.has_ended:
                raise _Error(place - self.at)
            if len(self.text) - self.at - offset > self._longest:
                raise _Error(place - self.at, is_too_long=True)
            self.more()

    def _line_end(self) -> int | None:
        """Offset of the end of the line; None where it is too long."""
        searched = 0
        while True:
            end = self.text.find("\n", self.at + searched)
            if end >= 0:
                return end - self.at
            searched = len(self.text) - self.at
            if self.has_ended:
                return searched
            if searched > self._longest:
                return None
            self.more()

    def _extent(self, error: int) -> int | None:
        """How far what is broken may reach: to the end of its line or, of an object over several lines, to the next line like its first."""
        end = self._line_end()
        self.is_over_lines = end is not None and error > end
        if end is None or not self.is_over_lines:
            return end
        begins = re.compile(rf"\n{self.indent}([^\s}}\])])")
        searched = end
        while True:
            for found in begins.finditer(self.text, self.at + searched):
                # An object that follows an opening bracket, a comma or a colon belongs to it.
                before = self.text[max(found.start() - _BLANKS, self.at) : found.start()].rstrip()[-1:]
                if found[1] not in "{[" or before not in {"[", ",", ":"}:
                    return found.start() - self.at
            if self.has_ended:
                return len(self.text) - self.at
            searched = max(end, len(self.text) - self.at - len(self.indent) - 1)
            if searched > self._longest:
                return searched
            self.more()

    def _next_record(self, is_record: IsRecord, limit: int | None) -> int | None:
        """Offset of the next object that is a record by itself, before the limit or within what may be held."""
        offset = 1 if self.text[self.at] == "{" else 0
        for _ in range(MOST_TRIES):
            found = self.text.find("{", self.at + offset)
            while found < 0 and limit is None and len(self.text) - self.at <= self._longest and self.more():
                found = self.text.find("{", self.at + offset)
            offset = found - self.at
            if found < 0 or (limit is not None and offset >= limit):
                return None
            try:
                value, end = self._decoded(offset)
            except _Error:
                offset += 1
                continue
            if is_record(value):
                return offset
            offset = end
        return None

    # Leaving out

    def _drop_line(self) -> None:
        while True:
            end = self.text.find("\n", self.at)
            self.at = len(self.text) if end < 0 else end
            if end >= 0 or not self.more():
                return

    def _drop_object(self) -> None:
        """To the end of the object that begins here, by its brackets; a line end inside a string ends it too, for there is none in JSON."""
        depth, in_string = 0, False
        while True:
            found = (_NEXT_IN_STRING if in_string else _NEXT_OUTSIDE).search(self.text, self.at)
            if found is None:
                self.at = len(self.text)
                if not self.more():
                    return
                continue
            sign = found.group()
            if sign == "\n":
                self.at = found.start()
                return
            if sign == "\\" and found.end() == len(self.text):
                self.at = found.start()
                if not self.more():
                    self.at = len(self.text)
                    return
                continue
            self.at = found.end() + (sign == "\\")
            if sign == '"':
                in_string = not in_string
            elif sign != "\\":
                depth += 1 if sign in "{[" else -1
                if not depth:
                    return


def _is_text(text: str) -> bool:
    try:
        text.encode()
    except UnicodeEncodeError:
        return False
    return True


def _clean(text: str) -> str:
    """Without what is no character: bytes that are not UTF-8."""
    return text if _is_text(text) else text.encode("utf-8", "replace").decode()


def _excerpt(text: str) -> str:
    return _clean(text[:EXCERPT])
