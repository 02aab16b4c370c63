"""Feedback files that are uploaded again, share scores, or are many: the lake ends as if all, as they are now, had been read once."""

from __future__ import annotations

import json
import random
from pathlib import Path
from typing import Any

import duckdb
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from routing_pipeline.ingest import backlog, feedback
from routing_pipeline.ingest.erasure import forget
from routing_pipeline.ingest.feedback import FeedbackIngestResult, ingest_feedback
from routing_pipeline.lake.table import Lake
from routing_pipeline.schema import FEEDBACK, column_names
from routing_pipeline.storage.home import Home

NOW_S = 1_795_500_000.0


class Folder:
    """A folder of feedback that is uploaded to, and a home that reads it."""

    def __init__(self, root: Path) -> None:
        self.folder = root / "feedback"
        self.folder.mkdir(parents=True)
        self.home = Home(root / "home")
        self.lake = Lake(self.home)

    def upload(self, name: str, *scores: int | str) -> None:
        """Whole numbers are requests with a score each; text stands as it is."""
        lines = [each if isinstance(each, str) else score(each) for each in scores]
        (self.folder / name).write_text("".join(line + "\n" for line in lines), encoding="utf-8")

    def read(self, home: Home | None = None) -> FeedbackIngestResult:
        result = ingest_feedback(home or self.home, str(self.folder), now_s=NOW_S)
        assert result.records == result.ingested + result.quarantined + result.duplicates
        return result

    def requests(self, home: Home | None = None) -> list[int]:
        files = list(Lake(home or self.home).feedback_files())
        with duckdb.connect() as connection:
            found = (
                connection.execute("SELECT request_id FROM read_parquet($f, union_by_name=true)", {"f": files}).fetchall() if files else []
            )
        return sorted(int(each) for (each,) in found)

    def ledger(self, home: Home | None = None) -> list[tuple[Any, ...]]:
        rows = Lake(home or self.home).side_table("feedback_ledger").to_pylist()
        return sorted((row["object"], row["records"], row["quarantined"]) for row in rows)

    def refusals(self) -> list[str]:
        return sorted(row["source_object"].partition(" in ")[0] for row in self.lake.side_table("feedback_quarantine").to_pylist())


def score(request: int, **changes: Any) -> str:
    made = {"request_id": str(request), "name": "quality", "value": 0.5, "source": "judge", "scored_at": NOW_S - 9_000}
    return json.dumps(made | changes)


@pytest.fixture
def place(tmp_path: Path) -> Folder:
    return Folder(tmp_path)


def test_a_corrected_file_replaces_scores_and_refusals(place: Folder) -> None:
    place.upload("a.jsonl", 1, 2, "broken", "broken too")
    place.upload("b.jsonl", 3, "broken")
    place.read()
    assert place.refusals() == ["a.jsonl", "a.jsonl", "b.jsonl"]
    version = place.lake.feedback_version()
    place.upload("a.jsonl", 2, 4)
    result = place.read()
    assert (result.objects_new, result.ingested, result.duplicates, result.replaced) == (1, 2, 0, 2)
    assert place.requests() == [2, 3, 4]
    assert place.refusals() == ["b.jsonl"]
    assert place.ledger() == [("a.jsonl", 2, 0), ("b.jsonl", 2, 1)]
    assert place.lake.feedback_version() != version
    assert place.read().objects_new == 0


def test_a_score_that_another_file_holds_as_well_survives_its_first_owner(place: Folder) -> None:
    place.upload("a.jsonl", 1, 2)
    place.read()
    place.upload("b.jsonl", 2, 3)
    assert place.read().duplicates == 1
    place.upload("a.jsonl", 1)
    place.read()
    assert place.requests() == [1, 2, 3]


def test_a_file_that_cannot_be_used_any_more_leaves_no_scores_of_the_one_before(place: Folder) -> None:
    place.upload("a.jsonl", 1, 2)
    place.read()
    (place.folder / "a.jsonl").write_bytes(b"\x00\x01nothing")
    assert (place.read().replaced, place.requests()) == (2, [])


@pytest.mark.parametrize("seed", range(3))
def test_any_sequence_of_uploads_and_readings_ends_as_one_reading_of_what_is_there(
    seed: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    rng = random.Random(seed)  # noqa: S311 (a test's draw)
    place = Folder(tmp_path)
    monkeypatch.setattr(feedback, "COMMIT_EVERY_S", 0.0 if seed else 60.0)
    monkeypatch.setattr(backlog, "SLICE_OBJECTS", 2)
    for _ in range(4):
        for _ in range(rng.randint(1, 3)):
            scores: list[Any] = [*rng.sample(range(10), rng.randint(1, 5)), *(["broken"] if rng.random() < 0.4 else [])]
            place.upload(f"{rng.choice('abcd')}.jsonl", *scores)
        place.read()
    fresh = Home(tmp_path / "fresh")
    place.read(fresh)
    assert place.requests() == place.requests(fresh)
    assert place.ledger() == place.ledger(fresh)
    assert len(place.requests()) == len(set(place.requests()))


def test_many_files_share_a_commit(place: Folder) -> None:
    for number in range(40):
        place.upload(f"{number}.jsonl", number)
    done: list[tuple[int, int]] = []
    ingest_feedback(place.home, str(place.folder), now_s=NOW_S, progress=lambda _, part, whole: done.append((part, whole)))
    assert place.requests() == list(range(40))
    assert done[-1] == (40, 40)
    assert len(place.lake.side_files("feedback")) == len(done) < 40


def test_scores_of_an_earlier_version_of_the_lake_stay_and_are_not_added_twice(place: Folder) -> None:
    place.upload("a.jsonl", 1, 2)
    place.read()
    (file,) = place.lake.feedback_files()
    pq.write_table(pq.ParquetFile(file).read(columns=list(column_names(FEEDBACK))), file)
    place.upload("b.jsonl", 2, 3)
    assert place.read().duplicates == 1
    assert place.requests() == [1, 2, 3]
    assert isinstance(place.lake.side_table("feedback"), pa.Table)
    place.upload("b.jsonl", 4)
    assert (place.read().replaced, place.requests()) == (1, [1, 2, 4])


def test_a_forgotten_file_of_feedback_is_gone_and_stays_away(place: Folder) -> None:
    place.upload("a.jsonl", 1, 2, "broken")
    place.upload("b.jsonl", 3)
    place.read()
    assert forget(place.home, "object", "a.jsonl").scores == 2
    assert (place.requests(), place.refusals()) == ([3], [])
    place.upload("a.jsonl", 1, 2, 5)
    place.read()
    assert place.requests() == [3]
