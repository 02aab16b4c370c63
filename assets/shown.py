"""How results and tables look in the Dagster UI: headline numbers, first rows, charts, columns.

Belongs here: turning a finished result, or the contract of a table, into metadata. Does not belong here: numbers that are not in the result.
"""

import base64
import re
from collections.abc import Callable, Sequence
from datetime import date, datetime

import dagster as dg

from routing_pipeline.estimates import Estimate, Result, Unidentifiable
from routing_pipeline.report.charts.drawing import Chart
from routing_pipeline.schema import Column

MAX_ROWS = 25
MAX_TABLES = 12
LEFT_OUT = "not_listed"
"""In names of fields that count what a list leaves out."""
DIGITS = 6
"""Significant ones; a person compares, and a program reads the result itself."""

Cell = str | int | float | bool
SCALARS = (Estimate, Unidentifiable, str, int, float, date)
NUMBERS = (Estimate, Unidentifiable, int, float)
HEADLINE = "headline"
HEADLINES: dict[str, tuple[str, ...]] = {
    "RoutingAnalytics": ("requests", "success_rate", "latency.mean_ms", "latency.p95_ms"),
    "RoutingCosts": ("total_usd", "per_request_usd", "per_day_usd"),
    "BudgetProjection": ("month.total_usd", "quarter.total_usd", "month.observed_usd"),
    "QualityMetrics": ("overall.quality_corrected", "overall.completion"),
    "RequestPatterns": ("requests", "peaks.mean_per_hour", "peaks.busiest_hour_requests"),
    "ModelPerformance": ("contrasts_distinguishable", "contrasts_tested"),
    "RoutingDecisions": ("best_share", "regret_per_request"),
    "Bottlenecks": ("queue.mean", "queue.peak"),
    "CostDrivers": ("spend_usd", "avoidable_usd"),
    "QualityIssues": ("share_below",),
    "RoutingRules": ("saving_usd_per_day", "moved_share", "rule_set.rule_set_id"),
    "ModelMix": ("verdict",),
    "TradeoffFrontier": ("verdict",),
    "Simulation": ("saving_usd", "moved_share"),
    "CostOptimizationPlan": ("planned_saving_usd", "planned_reduction"),
    "OptimizationPlan": ("verdict", "payback.days_per_1000_usd"),
    "OptimizationRisks": ("overall",),
    "MonitoringPlan": ("verdict",),
    "RealizedOutcomes": ("verdict",),
}
"""Of each result, what a person looks at first, by its path."""


def result(value: Result) -> dict[str, dg.MetadataValue]:
    """Headline numbers, those of parts included, and the first rows of each list in a result."""
    shown: dict[str, dg.MetadataValue] = {
        f"{HEADLINE}: {path.replace('.', ' ')}": _scalar(_at(value, path)) for path in HEADLINES.get(type(value).__name__, ())
    }
    tables = 0
    for name in type(value).model_fields:
        content = getattr(value, name)
        if LEFT_OUT in name and not content:
            continue
        if isinstance(content, SCALARS):
            shown[name] = _scalar(content)
        elif isinstance(content, Result):
            shown |= {f"{name}: {field}": _scalar(part) for field, part in content if isinstance(part, SCALARS) and LEFT_OUT not in field}
        elif isinstance(content, Sequence) and content and isinstance(content[0], Result):
            for title, rows in _tables(name, content)[: MAX_TABLES - tables]:
                tables += 1
                shown[title] = _table(rows)
        elif isinstance(content, tuple) and content and isinstance(content[0], str):
            shown[name] = dg.MetadataValue.md("\n".join(f"- {_plain(line)}" for line in content[:MAX_ROWS]))
    return shown


def _at(value: Result, path: str) -> object:
    """What stands at a path of a result; None where a part of it is missing."""
    part: object = value
    for name in path.split("."):
        part = getattr(part, name, None)
    return part


def columns(table: Sequence[Column], grain: str, key: str | None = None) -> dict[str, dg.TableSchema]:
    """The contract of a table as metadata of its asset: columns with type, unit and nulls, and what one row is."""
    return {
        "dagster/column_schema": dg.TableSchema(
            columns=[
                dg.TableColumn(
                    column.name,
                    column.type,
                    description=f"{column.description} ({column.unit})" if column.unit else column.description,
                    constraints=dg.TableColumnConstraints(nullable=not column.required, unique=column.name == key),
                )
                for column in table
            ],
            constraints=dg.TableConstraints(other=[grain]),
        )
    }


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
    if isinstance(value, date):
        return value.isoformat()
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
    cells = [_cells(row) for row in rows[:MAX_ROWS]]
    columns = [name for name in dict.fromkeys(name for row in cells for name in row) if any(row.get(name, "") != "" for row in cells)]
    records = [dg.TableRecord({name: row.get(name, "") for name in columns}) for row in cells]
    schema = dg.TableSchema(columns=[dg.TableColumn(name, _kind([row.get(name, "") for row in cells])) for name in columns])
    return dg.MetadataValue.table(records, schema=schema)


def _cells(row: Result) -> dict[str, Cell]:
    """A row's cells by column; a part that is a result of its own has a column for each of its numbers."""
    found: dict[str, Cell] = {}
    for name, content in row:
        if isinstance(content, Result) and not isinstance(content, SCALARS):
            found |= {f"{name} {field}": text(part) for field, part in content if isinstance(part, NUMBERS)}
        else:
            found[name] = text(content)
    return found


def _kind(values: Sequence[Cell]) -> str:
    if all(isinstance(value, bool) for value in values):
        return "bool"
    if all(isinstance(value, int) and not isinstance(value, bool) for value in values):
        return "int"
    return "float" if all(isinstance(value, int | float) and not isinstance(value, bool) for value in values) else "string"
