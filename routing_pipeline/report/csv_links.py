"""A table of the report as a CSV file that stands in its link, so that it can be saved without anything from outside.

Belongs here: cells to CSV with all digits, and making names from logs harmless to a spreadsheet. Does not belong here: the table on the page.
"""

from __future__ import annotations

import csv
import io
import re
from collections.abc import Sequence
from urllib.parse import quote

from markupsafe import Markup

from routing_pipeline import text as wording
from routing_pipeline.estimates import Estimate, Unidentifiable
from routing_pipeline.report.rendering import Figure

_TAG = re.compile(r"<[^>]*>")
_FORMULA = ("=", "+", "-", "@", "\t", "\r")
"""What a spreadsheet would take for a formula at the start of a cell."""


def csv_link(columns: Sequence[str], rows: Sequence[Sequence[object]]) -> str:
    """The address of a file that is nothing but the table; an estimate has three columns: itself and the ends of its interval."""
    return "data:text/csv;charset=utf-8," + quote(csv_text(columns, rows), safe=",:;-_.!~*'()/?")


def csv_text(columns: Sequence[str], rows: Sequence[Sequence[object]]) -> str:
    """The table, numbers with their digits and no units: these are as in report.json."""
    wide = [any(_is_estimate(row[place]) for row in rows if place < len(row)) for place in range(len(columns))]
    titles = [column.lstrip(">~") for column in columns]
    head: list[str] = []
    for title, is_wide in zip(titles, wide, strict=True):
        head += [title, f"{title}, low", f"{title}, high"] if is_wide else [title]
    out = io.StringIO()
    writer = csv.writer(out, lineterminator="\n")
    writer.writerow([harmless(each) for each in head])
    for row in rows:
        cells: list[str] = []
        for cell, is_wide in zip(row, wide, strict=False):
            cells += _cells(cell, is_wide=is_wide)
        writer.writerow(cells)
    return out.getvalue()


def _is_estimate(cell: object) -> bool:
    return isinstance(cell, Figure) and isinstance(cell.value, Estimate)


def _cells(cell: object, *, is_wide: bool) -> list[str]:
    value = cell.value if isinstance(cell, Figure) else None
    if isinstance(value, Estimate):
        return [_digits(value.estimate), _digits(value.low), _digits(value.high)]
    if isinstance(value, int | float) and not isinstance(value, bool):
        found = _digits(value)
    elif isinstance(value, Unidentifiable):
        found = wording.CANNOT_TELL
    else:
        found = harmless(_plain(cell))
    return [found, "", ""] if is_wide else [found]


def _digits(number: float) -> str:
    return f"{number:.6g}" if isinstance(number, float) else str(number)


def _plain(cell: object) -> str:
    said = Markup(_TAG.sub(" ", cell)).unescape() if isinstance(cell, Markup) else str(cell)  # noqa: S704 - made plain, and encoded by the caller
    return wording.name(said, wording.LONGEST_TEXT)


def harmless(text: str) -> str:
    """Text that no spreadsheet takes for a formula."""
    return f"'{text}" if text.startswith(_FORMULA) else text
