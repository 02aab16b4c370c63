"""What is held under a name of the engine, and what of it is compiled again."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import ibis
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from routing_pipeline.window.engine import Engine, check_engine, one_database, open_engine


@pytest.fixture
def file(tmp_path: Path) -> Path:
    path = tmp_path / "rows.parquet"
    pq.write_table(pa.table({"model": ["a", "b", "b"], "cost_usd": [1.0, 2.0, 3.0]}), path)
    return path


def test_rows_under_a_name_are_the_same_rows_and_compile_to_that_name_alone(file: Path) -> None:
    with open_engine() as engine:
        rows = engine.read_parquet([file])
        dear = rows.filter(rows.cost_usd > 1.5).mutate(twice=rows.cost_usd * 2)
        named = engine.named(dear, f"dear {file}")
        assert named.to_pyarrow().to_pylist() == dear.to_pyarrow().to_pylist()
        compiled = str(ibis.to_sql(named.agg(spend=named.twice.sum()), dialect="duckdb"))
        assert ("named_" in compiled, "1.5" in compiled) == (True, False)


def test_what_was_compiled_in_one_engine_reads_the_same_files_in_the_next(file: Path) -> None:
    said = []
    for _ in range(2):
        with open_engine() as engine:
            rows = engine.read_parquet([file])
            said.append(engine.named(rows.filter(rows.model == "b"), f"of b {file}").cost_usd.sum().execute())
    assert said == [5.0, 5.0]


def test_two_keys_are_two_tables(file: Path) -> None:
    with open_engine() as engine:
        rows = engine.read_parquet([file])
        one, other = (engine.named(rows.filter(rows.model == model), f"{model} {file}") for model in "ab")
        assert (one.cost_usd.sum().execute(), other.cost_usd.sum().execute()) == (1.0, 5.0)
        assert one.left_join(other, one.model == other.model).count().execute() == 1


def test_one_key_over_copies_in_two_folders_is_two_tables_in_one_engine_and_in_two(file: Path, tmp_path: Path) -> None:
    copy = tmp_path / "other" / file.name
    copy.parent.mkdir()
    pq.write_table(pa.table({"model": ["b"], "cost_usd": [7.0]}), copy)

    def named(engine: Engine, path: Path) -> ibis.Table:
        rows = engine.read_parquet([path])
        return engine.named(rows.filter(rows.model == "b"), "of b, wherever the copy lies")

    with open_engine() as engine, open_engine() as elsewhere:
        here, there, beside = named(engine, file), named(elsewhere, copy), named(engine, copy)
        assert [table.cost_usd.sum().execute() for table in (here, there, beside)] == [5.0, 7.0, 7.0]


def test_engines_of_one_run_share_a_database_without_what_each_held(file: Path, tmp_path: Path) -> None:
    with one_database():
        with open_engine(spill_to=tmp_path / "spill") as first:
            held: Any = first.held(first.read_parquet([file]))
            assert held.count().execute() == 3
        with open_engine(spill_to=tmp_path / "spill") as second:
            assert second.backend is first.backend
            assert held.get_name() not in second.backend.list_tables()
            with open_engine(spill_to=tmp_path / "spill") as beside:
                assert beside.backend is not second.backend
            # What was read is looked at anew once it is another file.
            pq.write_table(pa.table({"one": [1], "two": [2]}), file)
            assert second.read_parquet([file]).columns == ("one", "two")
        assert list((tmp_path / "spill").iterdir())
    assert not list((tmp_path / "spill").iterdir())
    with open_engine(spill_to=tmp_path / "spill") as after:
        assert after.backend is not first.backend


def test_an_engine_that_an_error_went_through_is_no_others(tmp_path: Path) -> None:
    with one_database():
        with pytest.raises(ZeroDivisionError), open_engine(spill_to=tmp_path / "spill") as first:
            raise ZeroDivisionError
        with open_engine(spill_to=tmp_path / "spill") as second:
            assert second.backend is not first.backend


@pytest.mark.parametrize(
    "name", ["duckdb", "local[*]", "local[12]", "spark://spark-master:7077", "spark://10.0.0.1:7077,10.0.0.2:7077", "spark://[::1]:7077"]
)
def test_whatever_names_an_engine_is_taken(name: str) -> None:
    check_engine(name)
