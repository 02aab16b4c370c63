"""One variable says what every DuckDB of a process may hold, and says no where it could not work."""

from __future__ import annotations

from importlib import import_module
from pathlib import Path
from typing import Any

import pytest
from duckdb import OutOfMemoryException

from routing_pipeline.errors import UnusableInputError
from routing_pipeline.ingest import batch
from routing_pipeline.storage.memory_limit import MEMORY_LIMIT, VARIABLE, megabytes, memory_limit
from routing_pipeline.window.engine import bounded, open_engine

LIMIT = "SELECT current_setting('memory_limit')"


@pytest.fixture(autouse=True)
def unset(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv(VARIABLE, raising=False)


def test_unless_it_is_set_it_is_a_gigabyte(monkeypatch: pytest.MonkeyPatch) -> None:
    assert memory_limit() == MEMORY_LIMIT == "1GB"
    monkeypatch.setenv(VARIABLE, " ")
    assert memory_limit() == MEMORY_LIMIT


@pytest.mark.parametrize(("said", "mb"), [("500MB", 500), ("0.75GB", 750), ("2gb", 2_000), ("1 GiB", 1_073.741824), ("1TB", 1e6)])
def test_sizes_are_taken_as_duckdb_writes_them(monkeypatch: pytest.MonkeyPatch, said: str, mb: float) -> None:
    monkeypatch.setenv(VARIABLE, said)
    assert memory_limit() == said
    assert megabytes(said) == pytest.approx(mb)


@pytest.mark.parametrize("said", ["plenty", "80%", "-1GB", "1", "499MB", "0GB", "1GB; SELECT 1"])
def test_what_is_no_size_or_too_little_is_refused_with_how_to_say_it(monkeypatch: pytest.MonkeyPatch, said: str) -> None:
    monkeypatch.setenv(VARIABLE, said)
    with pytest.raises(UnusableInputError, match="at least 500 MB, such as 1GB"):
        memory_limit()
    with pytest.raises(UnusableInputError), open_engine():
        pass


def test_engines_checks_and_ingestion_keep_to_it(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv(VARIABLE, "524.288MB")
    with open_engine() as engine:
        duckdb: Any = engine.backend
        assert duckdb.con.execute(LIMIT).fetchone() == ("500.0 MiB",)
    with bounded("", None, None) as settings:
        assert settings["memory_limit"] == "524.288MB"
    monkeypatch.setattr(batch.os, "cpu_count", lambda: 16)
    with batch.connect(tmp_path) as connection:
        assert connection.execute(LIMIT).fetchone() == ("500.0 MiB",)
        assert connection.execute("SELECT current_setting('threads')").fetchone() == (4,)


def test_who_says_how_much_gets_that(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv(VARIABLE, "700MB")
    with open_engine(memory_limit="1GiB") as engine:
        duckdb: Any = engine.backend
        assert duckdb.con.execute(LIMIT).fetchone() == ("1.0 GiB",)
    with batch.connect(tmp_path, memory="1GiB") as connection:
        assert connection.execute(LIMIT).fetchone() == ("1.0 GiB",)


@pytest.mark.parametrize("told_by_a_step", [False, True])
def test_a_command_that_comes_to_the_end_of_its_memory_says_which_variable_gives_more(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], told_by_a_step: bool
) -> None:
    monkeypatch.setenv(VARIABLE, "500MB")

    def ends(**_: object) -> None:
        try:
            with open_engine(memory_limit="2MB") as engine:
                duckdb: Any = engine.backend
                duckdb.con.execute("SELECT list(range) FROM range(10_000_000)").fetchall()
        except OutOfMemoryException as error:
            # As Dagster words what ended a step.
            raise (RuntimeError(f"{type(error).__module__}.{type(error).__name__}: {error}") if told_by_a_step else error) from None

    # The folder has a function of the module's name.
    main = import_module("routing_pipeline.cli.main")
    monkeypatch.setattr(main, "app", ends)
    monkeypatch.setattr("sys.argv", ["routing-pipeline", "run"])
    with pytest.raises(SystemExit) as ended:
        main._command()
    assert ended.value.code == 2
    said = capsys.readouterr().err
    assert f"a higher {VARIABLE} (now 500MB)" in said
    assert said.count("\n") == 1
