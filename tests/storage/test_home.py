"""What a home remembers."""

from __future__ import annotations

import stat
from pathlib import Path

import pytest

import routing_pipeline
from routing_pipeline.errors import UnusableInputError
from routing_pipeline.storage.home import Home


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


def test_the_map_of_the_package_names_every_module() -> None:
    folder = Path(routing_pipeline.__file__).parent
    modules = {path.stem for path in folder.glob("*.py")} | {path.parent.name for path in folder.glob("*/__init__.py")}
    words = set((routing_pipeline.__doc__ or "").replace(",", " ").split())
    assert modules - {"__init__"} <= words
