"""Queries that come with the package, so that a first run compiles next to none."""

import gzip
from pathlib import Path

import pytest

from routing_pipeline.window import compiled_before, first_queries


@pytest.fixture(autouse=True)
def _read_anew() -> object:
    first_queries._all.cache_clear()
    yield
    first_queries._all.cache_clear()


def test_those_that_come_along_were_compiled_by_this_code_and_these_versions() -> None:
    prefix = compiled_before.name_of("")[: -len("-.sql")]
    names = list(first_queries._all())
    assert len(names) > 150
    assert all(name.startswith(prefix) for name in names), "make them anew: python -m routing_pipeline.window.first_queries"


def test_the_same_queries_give_the_same_bytes_and_are_found_by_name(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    compiled_before.keep(tmp_path / "one", "a" * 32, "SELECT 1")
    compiled_before.keep(tmp_path / "two", "b" * 32, "SELECT 2")
    written = []
    for number in range(2):
        to = tmp_path / f"{number}.gz"
        assert first_queries.write([tmp_path / "one", tmp_path / "two"], to) == 2
        written.append(to.read_bytes())
    assert written[0] == written[1]
    monkeypatch.setattr(first_queries, "FILE", tmp_path / "0.gz")
    assert first_queries.find(compiled_before.name_of("b" * 32)) == "SELECT 2"
    assert first_queries.find(compiled_before.name_of("c" * 32)) is None


@pytest.mark.parametrize("content", [None, b"", b"rubbish", gzip.compress(b"{")[:-5], gzip.compress(b"{")])
def test_a_package_without_them_or_with_a_broken_file_compiles_as_ever(
    content: bytes | None, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    file = tmp_path / "queries.gz"
    if content is not None:
        file.write_bytes(content)
    monkeypatch.setattr(first_queries, "FILE", file)
    assert first_queries.find(compiled_before.name_of("a" * 32)) is None
