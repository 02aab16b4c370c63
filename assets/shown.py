"""How results look in the Dagster UI: headline numbers, tables, charts.

Belongs here: turning a finished result into metadata. Does not belong here: numbers that are not in the result.
"""

import base64
import re
from collections.abc import Callable, Sequence
from datetime import datetime

import dagster as dg

from routing_pipeline.estimates import Estimate, Result, Unidentifiable
from routing_pipeline.report.charts.drawing import Chart

MAX_ROWS = 25
MAX_TABLES = 12
LEFT_OUT = "not_listed"
"""In names of fields that count what a list leaves out."""
DIGITS = 6
"""Significant ones; a person compares, and a program reads the result itself."""

Cell = str | int | float | bool


def result(value: Result) -> dict[str, dg.MetadataValue]:
    """Headline numbers and the first rows of each list in a result."""
    shown: dict[str, dg.MetadataValue] = {}
    tables = 0
    for name in type(value).model_fields:
        content = getattr(value, name)
        if LEFT_OUT in name and not content:
            continue
        if isinstance(content, (Estimate, Unidentifiable, str, int, float)):
            shown[name] = _scalar(content)
        elif isinstance(content, Sequence) and content and isinstance(content[0], Result):
            for title, rows in _tables(name, content)[: MAX_TABLES - tables]:
                tables += 1
                shown[title] = _table(rows)
        elif isinstance(content, tuple) and content and isinstance(content[0], str):
            shown[name] = dg.MetadataValue.md("\n".join(f"- {_plain(line)}" for line in content[:MAX_ROWS]))
    return shown


def chart(name: str, drawn: Chart | None, svg_of: Callable[[Chart], str]) -> dict[str, dg.MetadataValue]:
    """A chart as a picture that the UI shows inside Markdown; nothing where there is too little to draw.

    SVG in an image runs no script and loads nothing; its ground is white because the UI may be dark.
    """
    if drawn is None:
        return {}
    svg = svg_of(drawn).replace("<svg ", '<svg style="background:#fff" ', 1)
    return {
        name: dg.MetadataValue.md(f"![{_alternative(drawn.text)}](data:image/svg+xml;base64,{base64.b64encode(svg.encode()).decode()})")
    }


def _alternative(words: str) -> str:
    """Words of a chart between square brackets, which nothing in a name from logs can close."""
    return re.sub(r"([\\\[\]<>`*_&])", r"\\\1", words[:400])


def text(value: object) -> Cell:
    """One value as a table cell: an estimate with its interval, a reason where there is none."""
    if isinstance(value, Estimate):
        return f"{value.estimate:.4g} [{value.low:.4g}, {value.high:.4g}]"
    if isinstance(value, Unidentifiable):
        return f"cannot tell: {value.unidentifiable}"[:160]
    if isinstance(value, float):
        return rounded(value)
    if isinstance(value, bool | int):
        return value
    if isinstance(value, datetime):
        return f"{value:%Y-%m-%d %H:%M}"
    if value is None:
        return ""
    if isinstance(value, Result):
        return "; ".join(f"{name} {text(content)}" for name, content in value if content is not None)[:160]
    if isinstance(value, tuple | list):
        return ", ".join(str(text(each)) for each in value[:5])[:160]
    return _plain(str(value))


def rounded(value: float) -> float:
    """A number as a person reads it."""
    return float(round(value)) if abs(value) >= 10**DIGITS else float(f"{value:.{DIGITS}g}")


def _plain(line: str) -> str:
    """Text from logs is data: no markup of its own reaches the UI's Markdown."""
    return line.replace("<", "&lt;").replace("|", "\\|").replace("`", "'").replace("[", "\\[")[:400]


def _scalar(value: object) -> dg.MetadataValue:
    shown = text(value)
    if isinstance(shown, bool):
        return dg.MetadataValue.bool(shown)
    if isinstance(shown, int):
        return dg.MetadataValue.int(shown)
    if isinstance(shown, float):
        return dg.MetadataValue.float(shown)
    return dg.MetadataValue.text(shown)


def _tables(name: str, rows: Sequence[Result]) -> list[tuple[str, Sequence[Result]]]:
    """The list as one table; where its rows hold lists of their own, those, each under what its row is about."""
    first, *others = type(rows[0]).model_fields
    inner = [field for field in others if _holds_results(getattr(rows[0], field))]
    if not inner or any(field not in inner and LEFT_OUT not in field for field in others):
        return [(name, rows)]
    return [(f"{name}: {text(getattr(row, first))}", getattr(row, field)) for row in rows for field in inner if getattr(row, field)]


def _holds_results(value: object) -> bool:
    return isinstance(value, tuple) and bool(value) and isinstance(value[0], Result)


def _table(rows: Sequence[Result]) -> dg.MetadataValue:
    columns = list(type(rows[0]).model_fields)
    records = [dg.TableRecord({name: text(getattr(row, name)) for name in columns}) for row in rows[:MAX_ROWS]]
    schema = dg.TableSchema(columns=[dg.TableColumn(name, _kind([record.data[name] for record in records])) for name in columns])
    return dg.MetadataValue.table(records, schema=schema)


def _kind(values: Sequence[Cell]) -> str:
    if all(isinstance(value, bool) for value in values):
        return "bool"
    if all(isinstance(value, int) and not isinstance(value, bool) for value in values):
        return "int"
    return "float" if all(isinstance(value, int | float) and not isinstance(value, bool) for value in values) else "string"
