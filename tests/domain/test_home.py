"""What a home remembers, and how results are kept."""

from __future__ import annotations

import stat
from pathlib import Path

import pytest

from routing_pipeline.errors import UnusableInputError
from routing_pipeline.estimates import Estimate, Result
from routing_pipeline.home import Home
from routing_pipeline.results import ResultStore, key_of, write_whole


def test_a_home_refuses_logs_from_another_place_unless_told_to_add_them(tmp_path: Path) -> None:
    home = Home(tmp_path)
    home.remember_source("s3://real/logs")
    home.remember_source("s3://real/logs")
    with pytest.raises(UnusableInputError, match="--add-source"):
        home.remember_source("demo/logs")
    assert home.sources() == ("s3://real/logs",)
    home.remember_source("demo/logs", add=True)
    assert home.sources() == ("s3://real/logs", "demo/logs")


def test_the_key_of_user_hashes_is_made_once_and_only_its_owner_reads_it(tmp_path: Path) -> None:
    home = Home(tmp_path)
    assert home.hash_key() == home.hash_key()
    assert len(home.hash_key()) == 64
    assert stat.S_IMODE((tmp_path / "hash.key").stat().st_mode) == 0o600
    assert Home(tmp_path / "other").create().hash_key() != home.hash_key()


def test_a_home_that_cannot_be_written_is_refused(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(UnusableInputError, match="--home"):
        Home(tmp_path / "file" / "home").create()


class Answer(Result):
    value: Estimate


class OtherAnswer(Result):
    name: str


def test_a_result_comes_back_as_it_was_saved(tmp_path: Path) -> None:
    store = ResultStore(tmp_path)
    answer = Answer(value=Estimate(estimate=0.1, low=0.0, high=0.3))
    store.save("answer", "key", answer)
    assert store.load("answer", "key", Answer) == answer


def test_a_result_of_another_shape_is_no_result(tmp_path: Path) -> None:
    store = ResultStore(tmp_path)
    store.save("answer", "key", OtherAnswer(name="a"))
    assert store.load("answer", "key", Answer) is None
    assert store.load("nothing", "key", Answer) is None


def test_a_write_that_fails_leaves_the_old_file_and_no_debris(tmp_path: Path) -> None:
    target = tmp_path / "report.json"
    write_whole(target, b"old")
    with pytest.raises(TypeError):
        write_whole(target, "not bytes")  # type: ignore[arg-type]
    assert target.read_bytes() == b"old"
    assert list(tmp_path.iterdir()) == [target]


def test_a_key_depends_on_every_input_and_on_no_order() -> None:
    assert key_of(a=1, b=2) == key_of(b=2, a=1) != key_of(a=1, b=3)
