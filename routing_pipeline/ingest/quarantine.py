"""Why a record was refused, where it stands, and what of it may be shown.

Belongs here: the second look at lines that the fast pass refused, the slow reading of files that the fast pass cannot read at
all, masking. Does not belong here: the reasons themselves (each format's `reject_reason`, `shapes`).

A line that the fast pass refuses is not always one record that is of no use: several may stand on it, or something may be
wrapped around them. What the second look takes out of such lines is read again.
"""

from __future__ import annotations

import io
import json
import re
from collections import Counter
from collections.abc import Container, Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from routing_pipeline.ingest.formats.log_format import LogFormat
from routing_pipeline.ingest.packs import Packs, Place, StagedFile
from routing_pipeline.ingest.parquet_files import parquet_source
from routing_pipeline.ingest.shapes import CUT_DOCUMENT, NOT_JSON, NOT_OBJECT, Found, Item, LeftOut, Lost, Shapes

EXCERPT_CHARACTERS = 200
LONGEST_FAST_LINE = 16 << 20
"""What DuckDB's reader is told as the longest line; longer ones are read the slow way."""
LONGEST_DOCUMENT = 64 << 20
"""Longest object or line that is read at all."""
BLANK = b" \t\r\n"
"""What DuckDB's reader takes for an empty line."""
_CHUNK_LINES = 20_000
_CHUNK_BYTES = 32 << 20
_TOKEN = re.compile(r'"(?:[^"\\]|\\.)*"?(\s*:)?|[^\s"{}\[\],:]+')
_PLAIN = re.compile(r"-?\d+(\.\d+)?([eE][+-]?\d+)?|true|false|null|NaN|-?Infinity")


class RefusedObjectError(Exception):
    """The object as a whole cannot be used; the message is the reason that goes into quarantine, `records` how many are lost with it."""

    def __init__(self, reason: str, records: int = 1) -> None:
        super().__init__(reason)
        self.records = records


@dataclass(frozen=True)
class Refused:
    """One refused record.

    Attributes:
        object: Number of the object that holds it.
        line: Line in it, from 1; None when the whole object was refused.
        reason: Why.
        excerpt: What of it may be shown.
        record: Record within the line, from 1; None when it is the only one there.
        records: How many records were refused, where a whole table was.
    """

    object: int
    line: int | None
    reason: str
    excerpt: str | None
    record: int | None = None
    records: int = 1


@dataclass
class Taken:
    """What a look at lines gave: records to be read, records that are refused, and what is left out by object and what it is called."""

    found: list[tuple[Place, Found]] = field(default_factory=list)
    refused: list[Refused] = field(default_factory=list)
    left_out: Counter[tuple[int, str]] = field(default_factory=Counter)

    def pack(self, packs: Packs) -> None:
        """Hand the records on."""
        for place, each in self.found:
            packs.add(each.format, place, each.text.encode("utf-8", "replace"), is_shaped=True)


@dataclass
class Judgement(Taken):
    """What the second pass found; `wronged` are lines (number, text) that the fast pass refused wrongly.

    `agrees`: each record is refused for the reason that the fast pass gave, or could not be seen by it.
    """

    wronged: list[tuple[int, str]] = field(default_factory=list)
    looked_at: int = 0
    agrees: bool = True


def placed(items: Iterable[Item], number: int, first_line: int = 1) -> Iterator[tuple[Place, Item]]:
    """Items with their places in an object; records on one line are counted, unless there is only one."""
    before: tuple[Place, Item] | None = None
    for item in items:
        line = first_line if isinstance(item, LeftOut) else first_line + item.line - 1
        if isinstance(item, LeftOut):
            yield Place(number, line, None), item
            continue
        nth = None
        if before is not None:
            is_same_line = before[0].line == line
            nth = (before[0].record or 1) + 1 if is_same_line else None
            yield (before[0]._replace(record=before[0].record or 1) if is_same_line else before[0]), before[1]
        before = Place(number, line, nth), item
    if before is not None:
        yield before


def take(items: Iterable[tuple[Place, Item]], into: Taken) -> None:
    """Sort what was found."""
    for place, item in items:
        if isinstance(item, Found):
            into.found.append((place, item))
        elif isinstance(item, Lost):
            into.refused.append(Refused(place.object, place.line, item.reason, masked(item.text or None), place.record))
        else:
            into.left_out[place.object, item.what] += item.count


def explain(
    connection: Any, files: Mapping[int, StagedFile], now_s: float, refused: Mapping[int, dict[int, str]], asked: LogFormat | None = None
) -> dict[int, Judgement]:
    """Every record of the files that the fast pass refuses, judged alone by the same rule over the same fields.

    Only these lines are looked at. Some of them are fine: where a line breaks off after a colon, DuckDB's reader takes the
    line after it for broken as well. Lines of many files are judged by one statement: each has its own cost, however few they are.

    Args:
        connection: Where the files were read.
        files: The files by number.
        now_s: Now, seconds since 1970.
        refused: By file, the fast pass's reasons by place, counted from 1 over the lines that are not blank.
        asked: The format that was asked for.

    Returns:
        What was found by number of the file, one for each of `refused`.
    """
    judged = {number: Judgement() for number in refused}
    by_format: dict[str, list[int]] = {}
    for number in refused:
        if files[number].is_parquet:
            judged[number].refused = _explain_parquet(connection, files[number], now_s)
            judged[number].looked_at = len(judged[number].refused)
        else:
            by_format.setdefault(files[number].format.name, []).append(number)
    for numbers in by_format.values():
        _explain_lines(connection, {number: files[number] for number in numbers}, now_s, refused, asked, judged)
    return judged


def _explain_lines(
    connection: Any,
    files: dict[int, StagedFile],
    now_s: float,
    refused: Mapping[int, dict[int, str]],
    asked: LogFormat | None,
    into: dict[int, Judgement],
) -> None:
    """Lines of files of one format."""
    log_format = next(iter(files.values())).format
    query = f"""
        SELECT _number, _line, _place, _raw, CASE WHEN NOT coalesce(json_valid(_raw), false) THEN $not_json
            WHEN json_type(_raw) <> 'OBJECT' THEN $not_object ELSE _reason END
        FROM (SELECT _number, _line, _place, _raw, {log_format.reject_reason} AS _reason FROM ({log_format.prepared(_FIELDS)}))
        ORDER BY _number, _line"""  # noqa: S608 (our own SQL; values are parameters)
    parameters = {"not_json": NOT_JSON, "not_object": NOT_OBJECT, "structure": json.dumps(log_format.structure), "now_s": now_s}
    last_broken = dict.fromkeys(files, 0)
    for lines, undecoded in _chunks({number: (staged.path, refused[number]) for number, staged in files.items()}):
        connection.register("_lines", lines)
        for number, line, place, raw, reason in connection.execute(query, parameters).fetchall():
            judgement = into[number]
            judgement.looked_at += 1
            if reason is None:
                judgement.wronged.append((line, raw))
                judgement.agrees &= place == last_broken[number] + 1
                continue
            _take_line(files[number], line, undecoded.get((number, line), raw), reason, asked, judgement)
            if reason == NOT_JSON:
                last_broken[number] = place
            elif reason != NOT_OBJECT:
                judgement.agrees &= reason == refused[number][place] or place == last_broken[number] + 1
        connection.unregister("_lines")


_FIELDS = "SELECT _number, _line, _place, _raw, unnest(json_transform(CASE WHEN json_valid(_raw) THEN _raw END, $structure)) FROM _lines"


def _take_line(staged: StagedFile, line: int, raw: str | bytes, reason: str, asked: LogFormat | None, into: Taken) -> None:
    """A refused line: the records that it holds where it is something else than one record of the file's format, else one refusal."""
    place = staged.origin(line)
    text = unpacked(raw) if staged.object is None and isinstance(raw, str) else raw
    items = None if staged.is_shaped else _reshaped(text, reason, staged.format, asked)
    if items is None:
        excerpt = masked(text) if isinstance(text, str) else None
        into.refused.append(Refused(place.object, place.line, reason, excerpt, place.record))
    else:
        take(placed(items, place.object, place.line), into)


def _reshaped(text: str | bytes, reason: str, log_format: LogFormat, asked: LogFormat | None) -> list[Item] | None:
    shapes = Shapes(asked, LONGEST_DOCUMENT)
    if reason not in {NOT_JSON, NOT_OBJECT}:
        try:
            value = json.loads(text)
        except (ValueError, RecursionError):
            return None
        known = shapes.known(value)
        if (known is not None and known.name == log_format.name) or (known is None and asked is not None and not shapes.holds(value)):
            return None
    items = list(shapes.read(io.BytesIO(text.encode() if isinstance(text, str) else text)))
    whole = [each for each in items if not (isinstance(each, Lost) and each.reason in {NOT_JSON, NOT_OBJECT, CUT_DOCUMENT})]
    # A damaged record may well begin with a small object: two of them are records that follow each other.
    if reason in {NOT_JSON, NOT_OBJECT} and len(whole) < 2 and not any(isinstance(each, (Found, LeftOut)) for each in whole):
        return None
    return [Lost(1, each.reason, each.text) if isinstance(each, Lost) else each for each in items]


def write_wronged(staged: StagedFile, wronged: list[tuple[int, str]], packs: Packs) -> None:
    """These lines of a file, without the broken ones that hid them."""
    for line, raw in wronged:
        text = unpacked(raw) if staged.object is None else raw
        packs.add(staged.format, staged.origin(line), text.encode(), is_shaped=staged.is_shaped)


READ_JSON = f"""SELECT * FROM read_json($files, columns=$columns, format='newline_delimited', ignore_errors=true, filename=true,
    maximum_object_size={LONGEST_FAST_LINE}, compression='uncompressed')"""  # noqa: S608 (a number of ours)


def _explain_parquet(connection: Any, staged: StagedFile, now_s: float) -> list[Refused]:
    query = f"""SELECT file_row_number + 1, {staged.format.reject_reason} AS _reason
        FROM ({staged.format.prepared(parquet_source(staged.path, staged.format))}) WHERE _reason IS NOT NULL ORDER BY 1"""  # noqa: S608
    rows = connection.execute(query, {"files": [str(staged.path)], "now_s": now_s}).fetchall()
    return [Refused(*staged.origin(line)[:2], reason, None) for line, reason in rows]


def _chunks(wanted: Mapping[int, tuple[Path, Container[int]]]) -> Iterator[tuple[Any, dict[tuple[int, int], bytes]]]:
    """The lines at these places of files as Arrow tables (_number of the file, _line, _place from 1, _raw); blank lines have no place.

    With each come the lines that are not UTF-8 as they are, by file and line; in the table they are null.
    """
    numbers: list[tuple[int, int, int]] = []
    undecoded: dict[tuple[int, int], bytes] = {}
    lines: list[str | None] = []
    size = 0
    for file_number, (path, places) in wanted.items():
        place = 0
        with path.open("rb") as file:
            for number, line in enumerate(file, 1):
                if line[0] in BLANK and not line.strip(BLANK):
                    continue
                place += 1
                if place not in places:
                    continue
                numbers.append((file_number, number, place))
                lines.append(_decoded(line))
                if lines[-1] is None:
                    undecoded[file_number, number] = line
                size += len(line)
                if len(lines) >= _CHUNK_LINES or size >= _CHUNK_BYTES:
                    yield _table(numbers, lines), undecoded
                    numbers, lines, undecoded, size = [], [], {}, 0
    if lines:
        yield _table(numbers, lines), undecoded


def _table(numbers: list[tuple[int, int, int]], lines: list[str | None]) -> Any:
    import pyarrow as pa

    columns = [pa.array(each, pa.int64()) for each in zip(*numbers, strict=True)]
    return pa.table(dict(zip(("_number", "_line", "_place"), columns, strict=True)) | {"_raw": pa.array(lines, pa.string())})


def _decoded(line: bytes) -> str | None:
    try:
        return line.decode("utf-8")
    except UnicodeDecodeError:
        return None


def read_slowly(staged: StagedFile, asked: LogFormat | None) -> Iterator[Taken]:
    """What a file holds that DuckDB's reader cannot take (a line beyond its limit, for one), or reads otherwise than the second look.

    Slow, and bounded by the longest document; comes in parts of bounded size.
    """
    taken, size = Taken(), 0
    for place, item in _read_slowly(staged, asked):
        take([(place, item)], taken)
        size += len(item.text) if isinstance(item, Found) else 0
        if size > _CHUNK_BYTES:
            yield taken
            taken, size = Taken(), 0
    yield taken


def _read_slowly(staged: StagedFile, asked: LogFormat | None) -> Iterator[tuple[Place, Item]]:
    with staged.path.open("rb") as file:
        if staged.object is not None:
            yield from placed(Shapes(asked, LONGEST_DOCUMENT).read_lines(file), staged.object, staged.first_line)
            return
        for number, raw in enumerate(file, 1):
            place = staged.origin(number)
            text = unpacked(raw.decode("utf-8", "replace"))
            if staged.is_shaped:
                yield place, _rewritten(text, staged.format)
            else:
                yield from placed(Shapes(asked, LONGEST_DOCUMENT).read(io.BytesIO(text.encode())), place.object, place.line)


def _rewritten(text: str, log_format: LogFormat) -> Item:
    try:
        record = json.loads(text)
    except (ValueError, RecursionError):
        return Lost(1, NOT_JSON, text)
    if not isinstance(record, dict):
        return Lost(1, NOT_OBJECT, text)
    return Found(1, log_format, json.dumps({name: value for name, value in record.items() if name in log_format.structure}))


def unpacked(raw: str) -> str:
    """A packed line without the number of its object that staging put in front."""
    return re.sub(r'^\{"__object": \d+(, )?', "{", raw, count=1)


def masked(raw: str | None) -> str | None:
    """The first 200 characters with every string value masked and every word that is not JSON; keys and numbers stay."""
    if raw is None:
        return None

    def mask(token: re.Match[str]) -> str:
        text = token.group()
        if text.startswith('"'):
            return text if token.group(1) else '"***"'
        return text if _PLAIN.fullmatch(text) else "***"

    # Masking can only be cut after it: cut before, half a string value would read as a bare word and still be masked.
    return _TOKEN.sub(mask, raw[: 20 * EXCERPT_CHARACTERS].strip())[:EXCERPT_CHARACTERS]
