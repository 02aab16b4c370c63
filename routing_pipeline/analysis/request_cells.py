"""Final requests summed by task type, length, complexity and model: what kinds, complexity and drift are counted from."""

from __future__ import annotations

import math
from collections import defaultdict
from collections.abc import Callable, Sequence
from typing import Any

import ibis

LENGTH_EDGES: tuple[int, ...] = (500, 2_000, 8_000)
"""Prompt tokens: a question, a page, a document, a collection."""
BINS = 10
EASY_BELOW, HARD_FROM = 3, 7
"""Tenths of the complexity scale."""
NOT_LOGGED = "not logged"
Row = dict[str, Any]


def cells_of(requests: ibis.Table) -> list[Row]:
    """Final requests by task type, length band (-1: not logged), tenth of complexity (-1: unknown) and model."""
    t = requests.filter(requests.is_final)
    band = ibis.literal(0, "int64")
    for edge in LENGTH_EDGES:
        band = band + (t.prompt_tokens >= edge).cast("int64")
    tenth = (t.complexity * BINS).floor().cast("int64").clip(0, BINS - 1)
    rows: list[Row] = (
        t.group_by(task=t.task_type, length=band.fill_null(-1), tenth=tenth.fill_null(-1), model=t.model)
        .agg(
            n=t.count(),
            cost=t.request_cost_usd.sum(),
            priced=t.request_cost_usd.count(),
            complexity=t.complexity.sum(),
            squares=(t.complexity * t.complexity).sum(),
            derived=(t.is_complexity_derived & t.complexity.notnull()).sum(),
        )
        .to_pyarrow()
        .to_pylist()
    )
    return rows


def sum_of(rows: Sequence[Row], name: str) -> int:
    """A count over cells."""
    return int(sum(row[name] or 0 for row in rows))


def total_of(rows: Sequence[Row], name: str) -> float:
    """An amount over cells."""
    return math.fsum(row[name] or 0.0 for row in rows)


def grouped(cells: Sequence[Row], key: Callable[[Row], Any]) -> dict[Any, list[Row]]:
    """Cells by a property of theirs."""
    groups: dict[Any, list[Row]] = defaultdict(list)
    for cell in cells:
        groups[key(cell)].append(cell)
    return groups


def length_band(cell: Row) -> str:
    """Band of prompt tokens, in words."""
    edges = (0, *LENGTH_EDGES)
    band = cell["length"]
    if band < 0:
        return NOT_LOGGED
    return f"{edges[band]:,} to {edges[band + 1]:,} tokens" if band + 1 < len(edges) else f"{edges[band]:,} tokens and more"


def complexity_band(cell: Row) -> str:
    """Band of complexity, in words."""
    if cell["tenth"] < 0:
        return NOT_LOGGED
    if cell["tenth"] < EASY_BELOW:
        return f"0 to {EASY_BELOW / BINS}"
    return f"{EASY_BELOW / BINS} to {HARD_FROM / BINS}" if cell["tenth"] < HARD_FROM else f"{HARD_FROM / BINS} to 1"
