"""Queries of one shape are compiled once; what differs in anything but a generated name is another query."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import ibis
import pyarrow as pa
import pytest

from routing_pipeline.window import compiled
from routing_pipeline.window.compiled import CompilingOnce, shape

ROWS = "SELECT * FROM (VALUES ('a', 1.0::DOUBLE, 1), ('b', 2.0, 2), ('b', 3.0, 3)) AS rows (model, cost_usd, started_s)"
SUFFIX = "0123456789abcdef" * 2
"""As names end that the engine makes up."""


@pytest.fixture
def backend(monkeypatch: pytest.MonkeyPatch) -> Iterator[Any]:
    monkeypatch.setattr(compiled, "_queries", {})
    found = CompilingOnce().connect(":memory:")
    yield found
    found.disconnect()


def table_of(backend: Any, name: str, columns: str = "*") -> ibis.Table:
    backend.con.execute(f'CREATE TEMP TABLE "{name}" AS SELECT {columns} FROM ({ROWS})')  # noqa: S608
    table: ibis.Table = backend.table(name)
    return table


def held(backend: Any, name: str, columns: str = "*") -> ibis.Table:
    return table_of(backend, f"{name}_{SUFFIX}", columns)


def spend(table: ibis.Table, least: float = 0.0, text: str = 'it\'s "a"') -> ibis.Table:
    kept = table.filter(table.cost_usd >= least).mutate(note=ibis.literal(text))
    sums = kept.group_by("model").aggregate(spend_usd=kept.cost_usd.sum(), note=kept.note.max())
    return sums.join(table.distinct(), "model").order_by("model", "cost_usd")


def test_the_same_query_of_another_table_is_compiled_once_and_reads_its_own_table(backend: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    first, second = held(backend, "first"), held(backend, "second")
    expected = ibis.duckdb.connect(":memory:").compile(spend(first)).replace(first.get_name(), second.get_name())
    backend.compile(spend(first))
    monkeypatch.setattr(compiled.Backend, "compile", lambda *_, **__: pytest.fail("compiled again"))
    assert backend.compile(spend(second)) == expected
    backend.con.execute(f'DELETE FROM "{first.get_name()}"')  # noqa: S608
    assert len(spend(second).to_pyarrow()) == 3


@pytest.mark.parametrize("other", [{"least": 1.0}, {"text": "it's"}])
def test_another_value_is_another_query(backend: Any, other: dict[str, Any]) -> None:
    table = held(backend, "rows")
    assert shape(spend(table).op())[0] != shape(spend(table, **other).op())[0]
    assert backend.compile(spend(table)) != backend.compile(spend(table, **other))


def since(table: ibis.Table, start_s: float, until_day: int, times: float = 0.2512) -> ibis.Table:
    """As windows are cut: the same numbers elsewhere in it as well, where they are compared, reckoned with, shown and looked up."""
    kept = table.filter(table.started_s >= start_s, (table.started_s // 86_400) < until_day)
    kept = kept.mutate(cost_usd=kept.cost_usd * times, start_s=ibis.literal(start_s), asked=kept.started_s.isin([int(start_s), until_day]))
    return kept.filter(kept.start_s - start_s < times)


NUMBERS = [(1_790_000_000.5, 20_717), (1_790_086_400.5, 20_718), (20_718.0, 20_718), (86_400.0, 86_401)]


@pytest.mark.parametrize(("start_s", "until_day"), NUMBERS)
def test_a_query_of_another_hour_is_what_ibis_would_write(backend: Any, start_s: float, until_day: int) -> None:
    table = held(backend, "rows")
    backend.compile(since(table, 1_700_000_000.25, 19_675))
    assert backend.compile(since(table, start_s, until_day)) == ibis.duckdb.connect(":memory:").compile(since(table, start_s, until_day))


def test_numbers_that_are_compared_or_reckoned_with_need_no_other_query(backend: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    def window(start_s: float, day: int) -> ibis.Table:
        return table.filter(table.started_s.between(start_s, start_s + 3_600.5), table.started_s // 86_400 < day).select("model")

    table = held(backend, "rows")
    expected = ibis.duckdb.connect(":memory:").compile(window(1_790_086_400.5, 20_718))
    backend.compile(window(1_700_000_000.25, 19_675))
    monkeypatch.setattr(compiled.Backend, "compile", lambda *_, **__: pytest.fail("compiled again"))
    assert backend.compile(window(1_790_086_400.5, 20_718)) == expected


@pytest.mark.parametrize(
    "written",
    [
        pytest.param(lambda table, number: table.cost_usd.quantile(number / 1e6), id="quantile"),
        pytest.param(lambda table, number: table.cost_usd.round(int(number) - 99_990), id="digits"),
        pytest.param(lambda table, number: table.model.substr(int(number)), id="cut"),
        pytest.param(lambda table, number: table.cost_usd > -number, id="sign"),
        pytest.param(lambda _, number: ibis.literal(number), id="shown"),
        pytest.param(lambda table, number: table.started_s.as_timestamp("s") + ibis.interval(seconds=int(number)), id="span"),
    ],
)
def test_a_number_that_a_query_is_made_by_belongs_to_it(backend: Any, written: Any) -> None:
    table = held(backend, "rows")
    one, other = (table.select(found=written(table, number)) for number in (99_991.0, 99_992.0))
    assert shape(one.op())[0] != shape(other.op())[0]
    plain = ibis.duckdb.connect(":memory:")
    assert [backend.compile(each) for each in (one, other)] == [plain.compile(each) for each in (one, other)]


def test_rows_that_are_read_twice_are_not_held_and_their_sums_are(backend: Any) -> None:
    rows = held(backend, "rows").mutate(cents=ibis._.cost_usd * 100)
    dear, cheap = rows.filter(rows.cents > 150), rows.filter(rows.cents <= 150)
    assert "AS NOT MATERIALIZED (" in backend.compile(dear.union(cheap))
    sums = rows.group_by("model").agg(cents=rows.cents.sum())
    several = sums.filter(sums.cents > 150).union(sums.filter(sums.cents <= 150))
    assert "NOT MATERIALIZED" not in backend.compile(several)
    assert dear.union(cheap).count().execute() == 3
    assert several.count().execute() == 2


def test_a_name_that_somebody_chose_belongs_to_the_query(backend: Any) -> None:
    one, two = (table_of(backend, name) for name in ("model", "requests"))
    assert shape(one.op())[0] != shape(two.op())[0]
    assert '"requests"' in backend.compile(two.select("model"))


def test_other_columns_or_types_are_another_query(backend: Any) -> None:
    whole, fewer = held(backend, "whole"), held(backend, "fewer", "model")
    assert shape(whole.op())[0] != shape(fewer.op())[0]


def test_a_table_read_twice_is_not_two_tables(backend: Any) -> None:
    first, second = held(backend, "first"), held(backend, "second")
    with_itself, with_other = first.union(first), first.union(second)
    assert shape(with_itself.op())[0] != shape(with_other.op())[0]


def test_rows_from_memory_keep_their_values_apart(backend: Any) -> None:
    tables = [ibis.memtable(pa.table({"name": [name]})) for name in ("a", "b")]
    assert [backend.to_pyarrow(table)["name"].to_pylist() for table in tables] == [["a"], ["b"]]


def test_what_one_process_has_compiled_the_next_one_finds_unless_the_file_breaks_off(
    backend: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    backend.kept_in = tmp_path / "queries"
    first, second = held(backend, "first"), held(backend, "second")
    expected = backend.compile(spend(first)).replace(first.get_name(), second.get_name())
    compiled._queries.clear()
    monkeypatch.setattr(compiled.Backend, "compile", lambda *_, **__: "compiled again")
    assert backend.compile(spend(second)) == expected
    (file,) = backend.kept_in.iterdir()
    file.write_bytes(file.read_bytes()[:-1])
    compiled._queries.clear()
    assert backend.compile(spend(second)) == "compiled again"
