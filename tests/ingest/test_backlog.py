"""What is to be read of a source: everything that is new, once, however much there is, and a slice at a time."""

from __future__ import annotations

import json
import os
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from routing_pipeline.errors import UnusableInputError
from routing_pipeline.ingest import backlog
from routing_pipeline.ingest.backlog import open_backlog
from routing_pipeline.ingest.ingestion import ingest_logs
from routing_pipeline.ingest.objects import LocalSource, StoredObject
from routing_pipeline.lake.table import Lake
from routing_pipeline.storage.home import Home

NOW_S = 1_795_500_000.0


class Listed:
    """A source that lists what it is given."""

    uri = "s3://bucket/logs"

    def __init__(self, *objects: StoredObject) -> None:
        self.objects = objects

    def list_objects(self) -> Iterator[StoredObject]:
        yield from self.objects


def line(number: int) -> str:
    made = {"id": f"i{number}", "litellm_call_id": f"c{number}", "startTime": NOW_S - 9_000, "endTime": NOW_S - 8_999}
    return json.dumps(made | {"status": "success", "model": "m", "response_cost": 0.01}) + "\n"


def test_a_listing_is_handed_out_by_key_and_in_slices(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(backlog, "SLICE_OBJECTS", 3)
    source: Any = Listed(*(StoredObject(f"k{number:02}", "e", number + 1) for number in reversed(range(10))))
    with open_backlog(Lake(Home(tmp_path)), "ledger", source) as found:
        assert (found.listed, found.new, found.size_bytes()) == (10, 10, 55)
        slices = list(found.slices())
        assert [len(each) for each in slices] == [3, 3, 3, 1]
        assert [each.key for part in slices for each in part] == [f"k{number:02}" for number in range(10)]
    assert not list((tmp_path / "scratch").iterdir())


def test_a_key_that_a_listing_names_twice_is_read_once_as_it_was_named_last(tmp_path: Path) -> None:
    source: Any = Listed(StoredObject("a", "old", 1), StoredObject("b", "e", 1), StoredObject("a", "new", 2))
    with open_backlog(Lake(Home(tmp_path)), "ledger", source) as found:
        assert list(found.objects()) == [StoredObject("a", "new", 2), StoredObject("b", "e", 1)]


def test_the_digest_of_what_is_unread_changes_with_a_version(tmp_path: Path) -> None:
    def digest(*objects: StoredObject) -> str:
        source: Any = Listed(*objects)
        with open_backlog(Lake(Home(tmp_path)), "ledger", source) as found:
            return found.digest()

    a, b = StoredObject("a", "e", 1), StoredObject("b", "e", 1)
    assert digest(a, b) == digest(b, a)
    assert len({digest(), digest(a), digest(b), digest(StoredObject("a", "other", 1))}) == 4


def test_slices_and_commits_of_one_object_read_the_same_as_one_of_all(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    folder = tmp_path / "logs"
    folder.mkdir()
    for number in range(7):
        (folder / f"{number}.jsonl").write_text(line(number) + line((number + 1) % 7))
    monkeypatch.setattr(backlog, "SLICE_OBJECTS", 2)
    done: list[tuple[int, int]] = []
    result = ingest_logs(Home(tmp_path / "home"), str(folder), now_s=NOW_S, progress=lambda _, part, whole: done.append((part, whole)))
    assert (result.objects_new, result.ingested, result.duplicates) == (7, 7, 7)
    assert done == sorted(done)
    assert len({whole for _, whole in done}) == 1
    assert done[-1][0] == done[-1][1]


@pytest.mark.skipif(os.name != "posix", reason="names of files are bytes on POSIX only")
def test_a_file_whose_name_is_no_text_is_read_and_named(tmp_path: Path) -> None:
    folder = tmp_path / "logs"
    folder.mkdir()
    try:
        with open(os.fsencode(folder) + b"/caf\xe9.jsonl", "w", encoding="utf-8") as file:
            file.write(line(1) + "broken\n")
    except OSError:
        pytest.skip("this file system takes no such name")
    home = Home(tmp_path / "home")
    result = ingest_logs(home, str(folder), now_s=NOW_S)
    assert (result.ingested, result.quarantined) == (1, 1)
    assert ingest_logs(home, str(folder), now_s=NOW_S).objects_new == 0
    (key,) = Lake(home).side_table("ledger")["object"].to_pylist()
    assert LocalSource(folder).describe(key) is not None


def test_a_folder_that_is_gone_since_it_was_listed_is_left_out(tmp_path: Path) -> None:
    for name in ("a", "b", "c"):
        (tmp_path / name).mkdir()
        (tmp_path / name / "log.jsonl").write_text("{}")
    found = LocalSource(tmp_path).list_objects()
    keys = [next(found).key]
    shutil.rmtree(tmp_path / "b")
    assert [*keys, *(each.key for each in found)] == ["a/log.jsonl", "c/log.jsonl"]


def test_a_pipe_or_a_device_is_refused_with_what_to_do() -> None:
    with pytest.raises(UnusableInputError, match=r"/dev/null: is neither a file nor a directory.*; save the logs as a file first"):
        LocalSource(Path("/dev/null"))
