"""One variable says what every DuckDB of a process may hold, and says no where it could not work."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

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
