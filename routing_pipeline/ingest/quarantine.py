"""Why a record was refused, where it stands, and what of it may be shown.

Belongs here: the second pass over files in which the fast pass refused something, the slow reading of files that the fast
pass cannot read at all, masking. Does not belong here: the reasons themselves (each format's `reject_reason`).
"""

from __future__ import annotations

import json
import re
from collections.abc import Container, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from routing_pipeline.ingest.formats.log_format import LogFormat
from routing_pipeline.ingest.staging import MAX_DOCUMENT_BYTES, StagedFile

EXCERPT_CHARACTERS = 200
LONGEST_FAST_LINE = 16 << 20
"""What DuckDB's reader is told as the longest line; longer ones go through `screen`."""
NOT_JSON = "not valid JSON"
NOT_OBJECT = "not a JSON object: one object with the fields of one request is expected per line"
BLANK = b" \t\r\n"
"""What DuckDB's reader takes for an empty line."""
_NO_JSON = object()
_CHUNK_LINES = 20_000
_CHUNK_BYTES = 32 << 20
_TOKEN = re.compile(r'"(?:[^"\\]|\\.)*"?(\s*:)?|[^\s"{}\[\],:]+')
_PLAIN = re.compile(r"-?\d+(\.\d+)?([eE][+-]?\d+)?|true|false|null|NaN|-?Infinity")


@dataclass(frozen=True)
class Refused:
    """One refused record; `line` is None when the whole object was refused."""

    object: int
    line: int | None
    reason: str
    excerpt: str | None


@dataclass
class Judgement:
    """What the second pass found: records that are refused, and lines (number, text) that the fast pass refused wrongly.

    `agrees`: each record is refused for the reason that the fast pass gave, or could not be seen by it.
    """

    refused: list[Refused] = field(default_factory=list)
    wronged: list[tuple[int, str]] = field(default_factory=list)
    agrees: bool = True


def explain(connection: Any, staged: StagedFile, now_s: float, refused: dict[int, str] | None = None) -> Judgement:
    """Every record of the file that the fast pass refuses, judged alone by the same rule over the same fields.

    Only these lines are looked at. Some of them are fine: where a line breaks off after a colon, DuckDB's reader takes the
    line after it for broken as well.

    Args:
        connection: Where the file was read.
        staged: The file.
        now_s: Now, seconds since 1970.
        refused: The fast pass's reasons by place, counted from 1 over the lines that are not blank; where it cannot tell,
            the file is read once more in order to find them.
    """
    judgement = Judgement()
    if staged.is_parquet:
        judgement.refused = _explain_parquet(connection, staged, now_s)
        return judgement
    query = f"""
        SELECT _line, _place, _raw, CASE WHEN NOT coalesce(json_valid(_raw), false) THEN $not_json
            WHEN json_type(_raw) <> 'OBJECT' THEN $not_object ELSE _reason END
        FROM (SELECT _line, _place, _raw, {staged.format.reject_reason} AS _reason
              FROM (SELECT _line, _place, _raw, unnest(json_transform(CASE WHEN json_valid(_raw) THEN _raw END, $structure)) FROM _lines))
        ORDER BY _line"""  # noqa: S608 (our own SQL; values are parameters)
    structure = json.dumps(staged.format.structure)
    last_broken = 0
    for lines in _chunks(staged.path, _places(connection, staged, now_s) if refused is None else refused):
        connection.register("_lines", lines)
        parameters = {"not_json": NOT_JSON, "not_object": NOT_OBJECT, "structure": structure, "now_s": now_s}
        for line, place, raw, reason in connection.execute(query, parameters).fetchall():
            if reason is None:
                judgement.wronged.append((line, raw))
                judgement.agrees &= place == last_broken + 1
                continue
            judgement.refused.append(Refused(*staged.origin(line), reason, masked(unpacked(raw) if staged.object is None else raw)))
            if reason == NOT_JSON:
                last_broken = place
            elif reason != NOT_OBJECT and refused is not None:
                judgement.agrees &= reason == refused[place] or place == last_broken + 1
        connection.unregister("_lines")
    return judgement


def write_wronged(staged: StagedFile, wronged: list[tuple[int, str]], to: Path) -> StagedFile:
    """These lines of a file as a file of their own, without the broken ones that hid them."""
    to.write_text("".join(raw.rstrip("\r\n") + "\n" for _, raw in wronged), encoding="utf-8", newline="\n")
    origins = [staged.origin(line) for line, _ in wronged]
    if staged.object is None:
        return StagedFile(to, staged.format, None, objects=tuple(number for number, _ in origins))
    return StagedFile(to, staged.format, staged.object, lines=tuple(line for _, line in origins))


READ_JSON = f"""SELECT * FROM read_json($files, columns=$columns, format='newline_delimited', ignore_errors=true, filename=true,
    maximum_object_size={LONGEST_FAST_LINE}, compression='uncompressed')"""  # noqa: S608 (a number of ours)


def _places(connection: Any, staged: StagedFile, now_s: float) -> set[int]:
    """Which of the file's records are refused, counted from 1 over the lines that are not blank."""
    query = f"""SELECT place FROM (SELECT row_number() OVER () AS place, {staged.format.reject_reason} AS _reason FROM ({READ_JSON}))
        WHERE _reason IS NOT NULL"""  # noqa: S608 (our own SQL; values are parameters)
    connection.execute("SET preserve_insertion_order = true")
    try:
        parameters = {"files": [str(staged.path)], "columns": staged.format.json_columns, "now_s": now_s}
        return {place for (place,) in connection.execute(query, parameters).fetchall()}
    finally:
        connection.execute("SET preserve_insertion_order = false")


def _explain_parquet(connection: Any, staged: StagedFile, now_s: float) -> list[Refused]:
    query = f"""SELECT file_row_number + 1, {staged.format.reject_reason} AS _reason
        FROM ({parquet_source(staged.path, staged.format)}) WHERE _reason IS NOT NULL ORDER BY 1"""  # noqa: S608
    rows = connection.execute(query, {"files": [str(staged.path)], "now_s": now_s}).fetchall()
    return [Refused(*staged.origin(line), reason, None) for line, reason in rows]


def parquet_source(path: Path, log_format: LogFormat) -> str:
    """A query that reads a Parquet file with exactly the format's fields, as text; fields the file lacks are null."""
    import pyarrow as pa
    import pyarrow.parquet as pq

    types = {field.name: field.type for field in pq.read_schema(path)}
    fields = []
    for name in log_format.structure:
        # What is nested reads as in JSON lines.
        value = "NULL" if name not in types else f'to_json("{name}")' if pa.types.is_nested(types[name]) else f'"{name}"'
        fields.append(f'{value}::VARCHAR AS "{name}"')
    return f"SELECT {', '.join(fields)}, filename, file_row_number FROM read_parquet($files, filename=true, file_row_number=true)"  # noqa: S608


def _chunks(path: Path, places: Container[int]) -> Iterator[Any]:
    """The lines at these places as Arrow tables (_line, _place from 1, _raw); blank lines have no place, bytes that are not UTF-8 are null."""
    numbers: list[tuple[int, int]] = []
    lines: list[str | None] = []
    size = place = 0
    with path.open("rb") as file:
        for number, line in enumerate(file, 1):
            if line[0] in BLANK and not line.strip(BLANK):
                continue
            place += 1
            if place not in places:
                continue
            numbers.append((number, place))
            lines.append(_decoded(line))
            size += len(line)
            if len(lines) >= _CHUNK_LINES or size >= _CHUNK_BYTES:
                yield _table(numbers, lines)
                numbers, lines, size = [], [], 0
    if lines:
        yield _table(numbers, lines)


def _table(numbers: list[tuple[int, int]], lines: list[str | None]) -> Any:
    import pyarrow as pa

    places = [pa.array(each, pa.int64()) for each in zip(*numbers, strict=True)]
    return pa.table({"_line": places[0], "_place": places[1], "_raw": pa.array(lines, pa.string())})


def _decoded(line: bytes) -> str | None:
    try:
        return line.decode("utf-8")
    except UnicodeDecodeError:
        return None


def screen(staged: StagedFile, to: Path) -> tuple[StagedFile, list[Refused]]:
    """Rewrite a file so that the fast pass can read it: one record per line, only the fields that its format reads.

    For what DuckDB's reader cannot take (a line beyond its limit, for one): slow, and bounded by the longest document.
    Lines that Python cannot read either are refused here.
    """
    fields = set(staged.format.structure)
    kept: list[tuple[int, int]] = []
    refused: list[Refused] = []
    with staged.path.open("rb") as source, to.open("wb") as out:
        for number, line in _bounded_lines(source):
            record = _NO_JSON if line is None else _record(line)
            origin = staged.origin(number)
            if isinstance(record, dict):
                of_object = {"__object": origin[0]} if staged.object is None else {}
                out.write(json.dumps(of_object | {name: value for name, value in record.items() if name in fields}).encode() + b"\n")
                kept.append(origin)
            else:
                refused.append(Refused(*origin, *_screened_out(line, record)))
    objects, lines = (tuple(object_ for object_, _ in kept), ()) if staged.object is None else ((), tuple(line for _, line in kept))
    return StagedFile(to, staged.format, staged.object, objects=objects, lines=lines), refused


def _screened_out(line: bytes | None, record: Any) -> tuple[str, str | None]:
    if line is None:
        return f"line longer than {MAX_DOCUMENT_BYTES >> 20} MiB", None
    return NOT_JSON if record is _NO_JSON else NOT_OBJECT, masked(_decoded(line[: 20 * EXCERPT_CHARACTERS]))


def _bounded_lines(source: Any) -> Iterator[tuple[int, bytes | None]]:
    """Lines that are not blank with their numbers; None for a line beyond the limit, which is skipped without being held."""
    number = 0
    while line := source.readline(MAX_DOCUMENT_BYTES + 1):
        number += 1
        if len(line) > MAX_DOCUMENT_BYTES and not line.endswith(b"\n"):
            while line and not line.endswith(b"\n"):
                line = source.readline(MAX_DOCUMENT_BYTES)
            yield number, None
        elif line.strip(BLANK):
            yield number, line


def _record(line: bytes) -> Any:
    try:
        # The first of two equal keys wins, as in DuckDB's reader.
        return json.loads(line, object_pairs_hook=lambda pairs: dict(reversed(pairs)))
    except (ValueError, RecursionError):
        return _NO_JSON


def unpacked(raw: str | None) -> str | None:
    """A packed line without the number of its object that staging put in front."""
    return None if raw is None else re.sub(r'^\{"__object": \d+(, )?', "{", raw, count=1)


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
