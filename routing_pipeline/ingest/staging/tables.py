"""Tables, in CSV and in Parquet: which format their columns are of, and their rows.

Belongs here: headers of formats and of no format, records that a table holds as text. Does not belong here: how CSV and Parquet are
read (`csv_rows`, `parquet_files`), text that is no table (`detect`).
"""

from __future__ import annotations

import csv
import json
import re
from collections.abc import Iterable, Iterator
from itertools import islice
from pathlib import Path
from typing import Any

from routing_pipeline.ingest import csv_rows
from routing_pipeline.ingest.formats import recognised
from routing_pipeline.ingest.formats.log_format import LogFormat
from routing_pipeline.ingest.parquet_files import row_count, rows, schema_of
from routing_pipeline.ingest.quarantine import LONGEST_DOCUMENT, RefusedObjectError
from routing_pipeline.ingest.shapes import TEXTS, Found, Item, Lost, Shapes, records_of
from routing_pipeline.ingest.unknown import unknown_table

_LEAST_COLUMNS = 2
_LIKE_A_TABLE = 20
"""Lines after the first that have to have as many fields for a text to be a table with a header that no format knows."""
_COLUMN = re.compile(r"[@\w][\w .:/@-]{0,99}")
_MESSAGE_COLUMNS = frozenset(TEXTS)
"""Columns of a table that may hold records as text, as consoles export what they found."""


def csv_format(text: bytes, asked: LogFormat | None) -> tuple[LogFormat, str] | None:
    """The format whose columns the first line names, and what separates them; None when it is no header of a known table."""
    for delimiter, header in csv_rows.headers(text.partition(b"\n")[0]):
        names = dict.fromkeys(header)
        found = asked if asked is not None and len(names.keys() & asked.columns_read) > 1 else recognised(names)
        if found is not None and found.is_tabular and (asked is None or found.name == asked.name):
            return found, delimiter
    return None


def csv_items(path: Path, log_format: LogFormat, delimiter: str) -> Iterator[Item]:
    """Records of a CSV file of a known format; what is no row is lost, with the reason."""
    for line, row in _csv_rows(path, delimiter, log_format.columns_read):
        if isinstance(row, str):
            yield Lost(line, row, "")
        elif log_format.records is not None:
            yield from records_of(line, log_format, row)
        else:
            yield Found(line, log_format, json.dumps(row))


def unknown_text_items(path: Path, text: bytes, asked: LogFormat | None) -> Iterator[Item]:
    """Text without a JSON object at its beginning: a table of unknown columns, or nothing that is read here.

    Raises:
        RefusedObjectError: no column may hold records, or it is no table.
    """
    table = _unknown_header(text)
    if table is None:
        raise RefusedObjectError("holds no JSON record; JSON lines, a JSON document or Parquet are expected, plain or as gzip or zstd")
    names, delimiter = table
    columns = frozenset(names)
    if not _MESSAGE_COLUMNS.isdisjoint(names) or _holds_records(_csv_rows(path, delimiter, columns), asked):
        yield from _row_items(_csv_rows(path, delimiter, columns), asked)
    elif count := sum(1 for _ in _csv_rows(path, delimiter, frozenset())):
        raise RefusedObjectError(unknown_table(names, "CSV", asked), count)


def parquet_format(path: Path, asked: LogFormat | None) -> tuple[LogFormat | None, list[str]]:
    """The format of a Parquet file, None where its columns are those of none, and the columns."""
    import pyarrow as pa

    try:
        names = list(schema_of(path).names)
    except (OSError, pa.ArrowException) as error:
        raise RefusedObjectError("Parquet file that cannot be read; upload the object again") from error
    found = recognised(dict.fromkeys(names)) if asked is None else asked
    return (found if found is not None and found.is_tabular and found.columns_read & set(names) else None), names


def parquet_items(path: Path, log_format: LogFormat | None, names: list[str], asked: LogFormat | None) -> Iterator[Item]:
    """Records of a Parquet file of these columns whose rows are none by themselves; `log_format` as `parquet_format` gave it.

    Raises:
        RefusedObjectError: no column may hold records.
    """
    if log_format is not None:
        for line, row in enumerate(rows(path, log_format.columns_read), 1):
            yield from records_of(line, log_format, row)
    elif not _MESSAGE_COLUMNS.isdisjoint(names) or _holds_records(enumerate(rows(path, names), 1), asked):
        yield from _row_items(enumerate(rows(path, names), 1), asked)
    elif count := row_count(path):
        raise RefusedObjectError(unknown_table(names, "Parquet", asked), count)


def _holds_records(found: Iterable[tuple[int, dict[str, Any] | str]], asked: LogFormat | None) -> bool:
    """Whether a record that a format knows stands in one of the first rows, under whatever name."""
    shapes = Shapes(asked, LONGEST_DOCUMENT)
    return any(isinstance(row, dict) and shapes.holds(row) for _, row in islice(found, _LIKE_A_TABLE))


def _row_items(found: Iterable[tuple[int, dict[str, Any] | str]], asked: LogFormat | None) -> Iterator[Item]:
    """Rows of a table one of whose columns may hold records."""
    shapes = Shapes(asked, LONGEST_DOCUMENT)
    for line, row in found:
        if isinstance(row, str):
            yield Lost(line, row, "")
        else:
            yield from shapes.row(line, row)


def _header(text: bytes, delimiter: str) -> list[str] | None:
    first = text.partition(b"\n")[0].decode("utf-8", "replace")
    try:
        return [name.strip() for name in next(csv.reader([first], delimiter=delimiter), [])]
    except csv.Error:
        return None


def _unknown_header(text: bytes) -> tuple[list[str], str] | None:
    """The columns that the first line names, and what separates them, of a table that no format knows; None when it is no table."""
    lines = text.split(b"\n")[1 : 1 + _LIKE_A_TABLE]
    for delimiter in csv_rows.DELIMITERS:
        names = _header(text, delimiter)
        if names is None or len(names) < _LEAST_COLUMNS or len({*names}) < len(names) or not all(map(_COLUMN.fullmatch, names)):
            continue
        rows_below = [_header(line, delimiter) for line in lines if line.strip()]
        # A field may go on over several lines, and the last one is cut.
        alike = sum(1 for row in rows_below if row is not None and len(row) == len(names))
        if rows_below and 2 * alike >= len(rows_below):
            return names, delimiter
    return None


def _csv_rows(path: Path, delimiter: str, columns: frozenset[str]) -> Iterator[tuple[int, dict[str, Any] | str]]:
    """The rows of a CSV file with these columns, each with its first line, as text why it is none; empty is left out."""
    for line, row in csv_rows.rows(path, delimiter):
        yield line, row if isinstance(row, str) else {name: value for name, value in row.items() if value and name in columns}
