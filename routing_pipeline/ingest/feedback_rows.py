"""Files of scores as tables of text: JSON lines, a JSON document, CSV or Parquet, with names of ours or of another tool.

Belongs here: telling what such a file is, its rows, what is no row. Does not belong here: which columns it may have meant
(`feedback_columns`), what a tool's own names mean (`formats`), whether a score can be used (`feedback`).
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from itertools import islice
from pathlib import Path
from typing import Any

from routing_pipeline.ingest import csv_rows
from routing_pipeline.ingest.feedback_columns import Columns, problem_of
from routing_pipeline.ingest.formats import scored_by
from routing_pipeline.ingest.quarantine import LONGEST_DOCUMENT, RefusedObjectError
from routing_pipeline.ingest.shapes import NOT_JSON, NOT_OBJECT
from routing_pipeline.ingest.staging.unpack import BOM, PARQUET, refuse_foreign
from routing_pipeline.schema import FEEDBACK, column_names

_CHUNK_ROWS = 50_000
_PAGES = ("data", "scores", "feedback", "results", "items")
"""Names under which interfaces put a page of scores."""
_HEAD_BYTES = 64 << 10
_NAMES = column_names(FEEDBACK)
_NO_VALUES = (None,) * len(_NAMES)
_Row = tuple[int | str | None, ...]
"""_line, the columns of schema.FEEDBACK as text, _problem, _excerpt."""


def score_tables(path: Path, columns: Columns) -> Iterator[Any]:
    """The object's rows as Arrow tables of text, with _line, _problem (why it is no row at all) and _excerpt; `columns` are told of."""
    with path.open("rb") as file:
        head = file.read(_HEAD_BYTES)
    refuse_foreign(head)
    if head.startswith(PARQUET):
        yield from _parquet_chunks(path, columns)
        return
    if b"\x00" in head:
        raise RefusedObjectError("not text: JSON lines, CSV or Parquet are expected")
    text = head.removeprefix(BOM).lstrip()
    # A first line that broke off spoils itself alone.
    is_json = text.startswith((b"{", b"[")) or any(line.startswith(b"{") for line in text.split(b"\n")[1:])
    yield from _tables(_json_rows(path, columns) if is_json else _csv_rows(path, text, columns))


def _tables(rows: Iterator[_Row]) -> Iterator[Any]:
    import pyarrow as pa

    schema = pa.schema([("_line", pa.int64()), *((name, pa.string()) for name in (*_NAMES, "_problem", "_excerpt"))])
    while chunk := list(islice(rows, _CHUNK_ROWS)):
        arrays = list(zip(*chunk, strict=True))
        yield pa.table([pa.array(array, each.type) for array, each in zip(arrays, schema, strict=True)], schema=schema)


def _rows_of(line: int, values: dict[str, Any], columns: Columns, excerpt: str | None = None) -> Iterator[_Row]:
    """A record's scores: itself, unless it is another tool's."""
    known = scored_by(values)
    if known is None:
        columns.add(values)
        problem = problem_of(values)
        yield _row(line, values, excerpt) if problem is None else _no_row(line, problem, excerpt)
        return
    columns.is_complete = True
    for score in known.scores(values):
        yield _no_row(line, score["refused"], excerpt) if "refused" in score else _row(line, score, excerpt)


def _row(line: int, values: dict[str, Any], excerpt: str | None = None) -> _Row:
    return (line, *(_text(values.get(name)) for name in _NAMES), None, excerpt)


def _no_row(line: int, problem: str, excerpt: str | None = None) -> _Row:
    return (line, *_NO_VALUES, problem, excerpt)


def _text(value: Any) -> str | None:
    if value is None or isinstance(value, str):
        return value
    return json.dumps(value, default=str) if isinstance(value, (dict, list, bool)) else str(value)


def _json_rows(path: Path, columns: Columns) -> Iterator[_Row]:
    with path.open("rb") as file:
        whole = _whole_document(path)
        lines = [json.dumps(each).encode() for each in whole] if whole is not None else file
        for number, raw in enumerate(lines, 1):
            line = raw.removeprefix(BOM).strip()
            if not line:
                continue
            excerpt = line[:4096].decode("utf-8", "replace")
            try:
                value = json.loads(line)
            except (ValueError, RecursionError):
                yield _no_row(number, NOT_JSON, excerpt)
                continue
            if isinstance(value, dict):
                yield from _rows_of(number, value, columns, excerpt)
            else:
                yield _no_row(number, NOT_OBJECT, excerpt)


def _whole_document(path: Path) -> list[Any] | None:
    """Elements of a file that is one array, one page of an interface, or one document over several lines; None when it is lines."""
    if path.stat().st_size > LONGEST_DOCUMENT:
        return None
    try:
        value = json.loads(path.read_bytes().removeprefix(BOM))
    except (ValueError, RecursionError):
        return None
    page = next((value[name] for name in _PAGES if isinstance(value.get(name), list)), None) if isinstance(value, dict) else None
    return value if isinstance(value, list) else [value] if page is None else page


def _csv_rows(path: Path, text: bytes, columns: Columns) -> Iterator[_Row]:
    for line, row in csv_rows.rows(path, _csv_delimiter(text, columns)):
        if isinstance(row, str):
            yield _no_row(line, row)
        else:
            yield from _rows_of(line, row, columns)


def _csv_delimiter(text: bytes, columns: Columns) -> str:
    """What separates the fields: with it the header names most that is known, else most of all; raises RefusedObjectError for no header of scores."""

    def known(found: tuple[str, list[str]]) -> tuple[bool, int, int]:
        names = found[1]
        return scored_by(dict.fromkeys(names)) is not None, len(set(_NAMES).intersection(names)), len(names)

    delimiter, header = max(csv_rows.headers(text.partition(b"\n")[0]), key=known, default=(",", [""]))
    if scored_by(dict.fromkeys(header)) is None:
        columns.add(header)
    if (complaint := columns.complaint) is not None:
        raise RefusedObjectError(complaint)
    return delimiter


def _parquet_chunks(path: Path, columns: Columns) -> Iterator[Any]:
    import pyarrow as pa
    import pyarrow.parquet as pq

    try:
        file = pq.ParquetFile(path)
        names = file.schema_arrow.names
        if scored_by(dict.fromkeys(names)) is not None:
            yield from _tables(_parquet_rows(file, columns))
            return
        columns.add(names)
        if (complaint := columns.complaint) is not None:
            raise RefusedObjectError(complaint)
        present = [name for name in _NAMES if name in names]
        _refuse_nested(file.schema_arrow, present)
        line = 1
        for batch in file.iter_batches(columns=present, batch_size=_CHUNK_ROWS):
            nothing = pa.nulls(batch.num_rows, pa.string())
            given = {name: batch[name].cast(pa.string()) if name in present else nothing for name in _NAMES}
            numbers = pa.array(range(line, line + batch.num_rows), pa.int64())
            yield pa.table({"_line": numbers, **given, "_problem": nothing, "_excerpt": nothing})
            line += batch.num_rows
    except (OSError, pa.ArrowException) as error:
        raise RefusedObjectError("Parquet file that cannot be read; write it again") from error


def _refuse_nested(schema: Any, present: list[str]) -> None:
    """Raises RefusedObjectError for columns that hold more than one value in a row."""
    import pyarrow.types as kinds

    nested = [f"`{name}`" for name in present if kinds.is_nested(schema.field(name).type)]
    if nested:
        which = f"column {nested[0]} holds lists or structs" if len(nested) == 1 else f"columns {', '.join(nested)} hold lists or structs"
        raise RefusedObjectError(f"{which}, and a score has one plain value in each; write one row for each score")


def _parquet_rows(file: Any, columns: Columns) -> Iterator[_Row]:
    line = 0
    for batch in file.iter_batches(batch_size=_CHUNK_ROWS):
        for values in batch.to_pylist():
            line += 1
            yield from _rows_of(line, values, columns)
