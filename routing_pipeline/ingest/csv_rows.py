"""Rows of a CSV file, of logs and of scores alike: which character separates its fields, and each row by the names of its header.

Belongs here: the separator, limits, rows that do not fit their header. Does not belong here: what the names mean (`formats`,
`feedback`).
"""

from __future__ import annotations

import csv
from collections.abc import Iterator
from pathlib import Path

from routing_pipeline.ingest.python_text import as_json

DELIMITERS = (",", ";", "\t")
LONGEST_FIELD = 64 << 20
"""Longer fields are not read, bytes."""
NOTHING = frozenset({"", "\\N", "NULL", "NaN", "nan"})
"""What is written into a field that holds nothing: by ClickHouse and Postgres, by consoles of others, by scripts that print a number as pandas has it."""


def headers(first_line: bytes) -> Iterator[tuple[str, list[str]]]:
    """What the first line names, by the character that may separate its fields; nothing where it is no CSV."""
    _set_limit()
    text = first_line.decode("utf-8", "replace").rstrip("\r\n")
    for delimiter in DELIMITERS:
        try:
            yield delimiter, [name.strip() for name in next(csv.reader([text], delimiter=delimiter), [])]
        except csv.Error:
            return


def rows(path: Path, delimiter: str) -> Iterator[tuple[int, dict[str, str | None] | str]]:
    """Each row with the line that it begins on: its fields by name, null where empty; as text, why it is none."""
    _set_limit()
    # Text cut in the middle of a character is common, and stands in columns that are never read.
    with path.open(encoding="utf-8-sig", errors="replace", newline="") as file:
        reader = csv.reader(file, delimiter=delimiter)
        line = 1
        try:
            header = [name.strip() for name in next((row for row in reader if row), [])]
            line = reader.line_num + 1
            for values in reader:
                if values and len(values) != len(header):
                    yield line, f"{len(values)} fields where the header names {len(header)}"
                elif values:
                    yield line, {name: _held(value) for name, value in zip(header, values, strict=True)}
                line = reader.line_num + 1
        except csv.Error:
            yield line, f"CSV that cannot be read from here on: a field of more than {LONGEST_FIELD >> 20} MiB, or a quote without end"


def _held(value: str) -> str | None:
    """What a field holds; objects that a script printed as Python does are JSON like those of everybody else."""
    return None if value in NOTHING else as_json(value) or value


def _set_limit() -> None:
    # Of the process: whoever reads sets it, so that no reading depends on what was read before.
    csv.field_size_limit(LONGEST_FIELD)
