"""A DuckDB backend that compiles each query once, whatever the tables it reads are called and whatever numbers it compares with.

Belongs here: what makes two expressions one query, and the SQL that was compiled for it. Does not belong here: queries, opening a
connection (`engine`), files of SQL (`compiled_before`).

Compiling takes Ibis longer than DuckDB needs to run a query over a small window: a third of a short run. Every window asks the same
queries of other files, which have other names, and from another hour on.
"""

from __future__ import annotations

import datetime
import decimal
import enum
import hashlib
import math
import re
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from contextvars import ContextVar
from pathlib import Path
from typing import Any, NamedTuple

import ibis
import ibis.expr.datatypes as dt
import ibis.expr.operations as ops
import ibis.expr.schema as sch
import ibis.expr.types as ir
import sqlglot.expressions as sge
from ibis.backends.duckdb import Backend
from ibis.backends.sql.compilers.duckdb import DuckDBCompiler
from ibis.common.graph import Graph, Node

from routing_pipeline.window import compiled_before, first_queries

QUERIES_KEPT = 2_000
"""Compiled queries that a process remembers; each is some kilobytes."""

_GENERATED = re.compile(r"_[0-9a-z]{20,}$")
"""How names of tables end that a program made up: of Parquet files and views by their content, of tables held for a moment at random."""
_QUOTED = re.compile(r"""'(?:[^']|'')*'|"((?:[^"]|"")*)\"""")
"""Texts, so that they are passed over, and identifiers."""
_PLAIN = (str, int, float, bool, bytes, type(None), enum.Enum, decimal.Decimal, datetime.date, datetime.time, datetime.timedelta)
_DESCRIBED = (dt.DataType, sch.Schema, ops.Namespace, slice)

_NUMBERS_MAY_VARY = (
    *(ops.Greater, ops.GreaterEqual, ops.Less, ops.LessEqual, ops.Equals, ops.NotEquals, ops.Between),
    *(ops.Add, ops.Subtract, ops.Multiply, ops.Divide, ops.FloorDivide, ops.Modulus, ops.Least, ops.Greatest),
)
"""What is compiled in the same way whatever number stands in it; what cuts texts or takes quantiles is not."""
_DISTINCTIVE = 5
"""How many characters a number has at least that may vary: shorter ones may also stand where the compiler itself puts them."""

_WORTH_HOLDING = (sge.Group, sge.AggFunc, sge.Window, sge.Distinct, sge.SetOperation, sge.Order)
"""What a part of a query has that is fewer than the rows it is made of, or took work: computed once, however often it is read."""

# Ibis puts queries within queries together where it finds that simple enough, which takes it longer than all else; DuckDB does so itself.
ibis.options.sql.fuse_selects = False

_queries: dict[str, str] = {}


class UnknownShapeError(TypeError):
    """Part of an expression that this module cannot describe in full."""


class _Marking(DuckDBCompiler):  # type: ignore[misc]  # Ibis is not typed
    """Writes a mark in place of each number that may vary, and keeps rows out of memory that are quicker read again."""

    __slots__ = ()

    def translate(self, op: ops.Node, *, params: Mapping[Any, Any]) -> Any:
        """As Ibis does. DuckDB holds whatever is read twice, all rows of it, unless it is told not to."""
        query = super().translate(op, params=params)
        for part in query.ctes:
            if part.this.find(*_WORTH_HOLDING) is None:
                part.set("materialized", False)
        return query

    def visit_Literal(self, op: ops.Literal, **parts: Any) -> Any:  # noqa: N802 - Ibis's
        place = _marks.get().get(op)
        return super().visit_Literal(op, **parts) if place is None else sge.Literal(this=_number_mark(place), is_string=False)


_marks: ContextVar[Mapping[ops.Literal, int]] = ContextVar("marks", default={})  # noqa: B039 - nobody writes into it


@contextmanager
def _marked(numbers: tuple[ops.Literal, ...]) -> Iterator[None]:
    token = _marks.set({number: place for place, number in enumerate(numbers)})
    try:
        yield
    finally:
        _marks.reset(token)


class CompilingOnce(Backend):  # type: ignore[misc]  # Ibis is not typed
    """DuckDB through Ibis; queries of one shape are compiled once."""

    name = "duckdb"
    compiler = _Marking()
    kept_in: Path | None = None
    """Folder in which what was compiled outlives the process; None where it does not."""

    def compile(self, expr: ir.Expr, /, *, limit: Any = None, params: Mapping[Any, Any] | None = None, pretty: bool = False) -> str:
        """SQL of an expression, as Ibis would write it."""
        if limit is not None or params or pretty:
            return str(super().compile(expr, limit=limit, params=params, pretty=pretty))
        try:
            shaped = shape(expr.as_table().op())
        except UnknownShapeError:
            return str(super().compile(expr))
        found = _queries.get(shaped.key)
        if found is None:
            found = first_queries.find(compiled_before.name_of(shaped.key))
            if found is None and self.kept_in is not None:
                found = compiled_before.find(self.kept_in, shaped.key)
            if found is None:
                places = {name: place for place, name in enumerate(shaped.tables)}
                with _marked(shaped.numbers):
                    found = _QUOTED.sub(lambda quoted: _place(quoted, places), str(super().compile(expr)))
                if self.kept_in is not None:
                    compiled_before.keep(self.kept_in, shaped.key, found)
            if len(_queries) >= QUERIES_KEPT:
                _queries.clear()
            _queries[shaped.key] = found
        for place, name in enumerate(shaped.tables):
            found = found.replace(_mark(place), f'"{name}"')
        for place, number in enumerate(shaped.numbers):
            found = found.replace(_number_mark(place), str(number.value))
        return found


class Shape(NamedTuple):
    """What a query is, without what may differ from one time to the next: that as a digest, and what may differ in its order."""

    key: str
    tables: tuple[str, ...]
    """Names that were generated."""
    numbers: tuple[ops.Literal, ...]
    """Numbers that are compared or reckoned with."""


def shape(op: ops.Node) -> Shape:
    """What makes an expression one query with another.

    Raises:
        UnknownShapeError: a part of it has no description that says all of it.
    """
    graph, _ = Graph.from_bfs(op).toposort()
    description = _Description(
        {below for node, all_below in graph.items() if not isinstance(node, _NUMBERS_MAY_VARY) for below in all_below}
    )
    lines = [description.line(node) for node in graph]
    whole = "\n".join(lines).encode("utf-8", "surrogatepass")
    digest = hashlib.md5(whole, usedforsecurity=False).hexdigest()
    return Shape(digest, tuple(description.tables), tuple(description.numbers))


class _Description:
    """Nodes of an expression, each as a line that names the nodes before it by number."""

    def __init__(self, fixed: set[Any]) -> None:
        self.tables: dict[str, int] = {}
        self.numbers: list[ops.Literal] = []
        self._fixed = fixed
        self._nodes: dict[Any, int] = {}
        self._references: dict[int, int] = {}

    def line(self, node: Any) -> str:
        if _is_number(node) and node not in self._fixed:
            self.numbers.append(node)
            self._nodes[node] = len(self._nodes)
            return f"number {len(self.numbers) - 1}|{node.dtype!r}"
        said = [f"{type(node).__module__}.{type(node).__qualname__}"]
        said += [self._argument(node, name, part) for name, part in zip(node.__argnames__, node.__args__, strict=True)]
        if isinstance(node, ops.ScalarUDF | ops.AggUDF):
            said.append(f"{node.__func_name__} {node.__input_type__}")
        self._nodes[node] = len(self._nodes)
        return "|".join(said)

    def _argument(self, node: Any, name: str, part: Any) -> str:
        if isinstance(node, ops.PhysicalTable):
            if name in {"source", "data"}:
                return ""
            if name == "name" and _GENERATED.search(part):
                return f"table {self.tables.setdefault(part, len(self.tables))}"
        if name == "identifier" and isinstance(part, int):
            # Counted up over the life of the process, and no part of the SQL.
            return f"reference {self._references.setdefault(part, len(self._references))}"
        return self._written(part)

    def _written(self, part: Any) -> str:
        if isinstance(part, Node):
            return f"#{self._nodes[part]}"
        if isinstance(part, _PLAIN):
            return f"{type(part).__name__}:{part!r}"
        if isinstance(part, _DESCRIBED):
            return repr(part)
        if isinstance(part, tuple | list):
            return f"({','.join(map(self._written, part))})"
        if isinstance(part, frozenset):
            return f"<{','.join(sorted(map(self._written, part)))}>"
        if isinstance(part, Mapping):
            return f"{{{','.join(f'{self._written(key)}={self._written(value)}' for key, value in part.items())}}}"
        if isinstance(part, type):
            return f"{part.__module__}.{part.__qualname__}"
        raise UnknownShapeError(type(part).__name__)


def _place(quoted: re.Match[str], places: Mapping[str, int]) -> str:
    place = places.get(quoted.group(1)) if quoted.group(1) is not None else None
    return quoted.group() if place is None else _mark(place)


def _mark(place: int) -> str:
    return f"\x00{place}\x00"


def _is_number(node: Any) -> bool:
    """Without a sign, which may stand in brackets; spans of time are numbers to Ibis as well, and are written otherwise."""
    if not isinstance(node, ops.Literal) or not (node.dtype.is_integer() or node.dtype.is_floating()) or node.value is None:
        return False
    return 0 < node.value < math.inf and len(str(node.value)) >= _DISTINCTIVE


def _number_mark(place: int) -> str:
    return f"\x01{place}\x01"
