"""Files in a folder: written whole, created once, replaced on a condition."""

from __future__ import annotations

from pathlib import Path

import pytest

from routing_pipeline.storage.files import FolderStorage, write_whole


def test_a_write_that_fails_leaves_the_old_file_and_no_debris(tmp_path: Path) -> None:
    target = tmp_path / "report.json"
    write_whole(target, b"old")
    with pytest.raises(TypeError):
        write_whole(target, "not bytes")  # type: ignore[arg-type]
    assert target.read_bytes() == b"old"
    assert list(tmp_path.iterdir()) == [target]


def test_what_is_created_is_never_overwritten_and_what_was_not_seen_is_not_replaced(tmp_path: Path) -> None:
    storage = FolderStorage(tmp_path)
    assert storage.create("a/one", b"1")
    assert not storage.create("a/one", b"2")
    seen = storage.read_version("a/one")
    assert seen is not None
    assert seen.content == b"1"
    assert storage.replace("a/one", b"3", seen)
    assert not storage.replace("a/one", b"4", seen)
    assert not storage.replace("a/one", b"4", None)
    assert storage.read("a/one") == b"3"
    assert [path.name for path in (tmp_path / "a").iterdir()] == ["one"], "no debris of what was refused"
