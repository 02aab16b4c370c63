"""Upkeep changes files and never a row; reading again changes rows and never loses one."""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import duckdb
import pytest
from typer.testing import CliRunner

from assets.running import run_job
from routing_pipeline.cli.main import app
from routing_pipeline.errors import UnusableInputError
from routing_pipeline.ingest.compaction import maintain
from routing_pipeline.ingest.ingestion import ingest_logs
from routing_pipeline.ingest.reprocessing import mark_for_reading_again
from routing_pipeline.lake import overwrite
from routing_pipeline.lake.file_names import content_of
from routing_pipeline.lake.table import Lake
from routing_pipeline.schema import ADDED_LATER
from routing_pipeline.storage.home import Home

NOW_S = 1_795_500_000.0
MORNING_S = 1_795_392_000.0
"""2026-11-23 00:00 UTC."""
ROUNDS = 5


def lines(numbers: range, day: int = 0) -> str:
    made = []
    for number in numbers:
        start = MORNING_S - day * 86_400 + number
        made.append({"id": f"i{day}-{number}", "litellm_call_id": f"c{day}-{number}", "startTime": start, "endTime": start + 1})
    return "".join(json.dumps(each | {"status": "success", "model": "m", "response_cost": 0.01}) + "\n" for each in made)


class Place:
    def __init__(self, root: Path) -> None:
        self.folder = root / "logs"
        self.folder.mkdir(parents=True, exist_ok=True)
        self.home = Home(root / "home")
        self.lake = Lake(self.home)

    def ingest(self) -> Any:
        return ingest_logs(self.home, str(self.folder), now_s=NOW_S)

    def checksum(self) -> tuple[int, int]:
        """Rows, and the sum of their hashes, in every column."""
        with duckdb.connect() as connection:
            query = "SELECT count(*), sum(hash(r::VARCHAR))::HUGEINT FROM (SELECT r FROM read_parquet($f) AS r)"
            found: tuple[int, int] = connection.execute(query, {"f": list(self.lake.all_files())}).fetchone()
            return found

    def distinct(self) -> tuple[int, int]:
        """Rows, and different attempts among them."""
        with duckdb.connect() as connection:
            query = "SELECT count(*), count(DISTINCT attempt_id) FROM read_parquet($f, union_by_name=true)"
            found: tuple[int, int] = connection.execute(query, {"f": list(self.lake.all_files())}).fetchone()
            return found


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Two objects more in each of five ingestions, of two days; the third day came at once. Made once: a home's logs stay where they are."""
    root = tmp_path_factory.mktemp("commits") / "place"
    place = Place(root)
    (place.folder / "old.jsonl").write_text(lines(range(10), day=2))
    for turn in range(ROUNDS):
        (place.folder / f"2026-11-23-{turn}.jsonl").write_text(lines(range(turn * 20, turn * 20 + 20)))
        (place.folder / f"2026-11-22-{turn}.jsonl").write_text(lines(range(turn * 20, turn * 20 + 20), day=1))
        place.ingest()
    shutil.copytree(root, root.with_name("kept"))
    return root


@pytest.fixture
def many_commits(made: Path) -> Place:
    """The same at the same place, whatever the test before did with it."""
    shutil.rmtree(made)
    shutil.copytree(made.with_name("kept"), made)
    return Place(made)


def test_small_files_become_one_a_day_and_no_row_changes(many_commits: Place) -> None:
    place, before = many_commits, many_commits.checksum()
    totals, snapshot = place.lake.totals(), place.lake.snapshot_id()
    readers_files = place.lake.all_files()
    result = maintain(place.home)
    assert (result.days_compacted, result.files_before, result.files_after, result.rows) == (2, 2 * ROUNDS + 1, 3, 200)
    assert place.checksum() == before
    assert (place.lake.totals(), before[0]) == (totals, 210)
    assert place.lake.snapshot_id() != snapshot
    # Who began to read before can read to the end.
    assert all(Path(file).exists() for file in readers_files)
    again = maintain(place.home)
    assert (again.days_compacted, again.snapshots_expired) == (0, 0)
    assert place.ingest().objects_new == 0


def test_results_are_addressed_by_rows_so_that_upkeep_computes_nothing_anew(many_commits: Place) -> None:
    place = many_commits
    before = content_of(place.lake.all_files())
    maintain(place.home)
    assert content_of(place.lake.all_files()) == before
    for turn in range(ROUNDS):
        (place.folder / f"more-{turn}.jsonl").write_text(lines(range(600 + turn * 10, 610 + turn * 10)))
        place.ingest()
    grown = content_of(place.lake.all_files())
    assert grown != before
    # What was joined already is joined once more.
    assert maintain(place.home).days_compacted == 1
    assert content_of(place.lake.all_files()) == grown


def test_old_snapshots_go_with_what_only_they_held(many_commits: Place) -> None:
    place, before = many_commits, many_commits.checksum()
    maintain(place.home)
    result = maintain(place.home, kept_days=0)
    assert result.snapshots_expired == ROUNDS
    assert result.files_removed > 2 * ROUNDS
    assert result.bytes_freed > 0
    root, table = place.home.lake.absolute(), place.lake.iceberg.opened()
    assert table is not None
    assert len(table.metadata.snapshots) == 1
    assert {str(path) for path in root.glob("data/**/*.parquet")} == set(place.lake.all_files())
    assert place.checksum() == before
    (place.folder / "next.jsonl").write_text(lines(range(500, 510)))
    assert place.ingest().ingested == 10


def test_a_snapshot_is_kept_as_long_as_it_was_in_use_and_not_by_its_age(many_commits: Place, monkeypatch: pytest.MonkeyPatch) -> None:
    place = many_commits
    in_a_month = time.time() + 30 * 86_400
    for path in place.home.lake.rglob("*"):
        os.utime(path, (time.time() - 86_400, time.time() - 86_400))
    # The newest snapshot is a month old; it was superseded just now.
    (place.folder / "next.jsonl").write_text(lines(range(500, 510)))
    readers_files = place.lake.all_files()
    monkeypatch.setattr(time, "time", lambda: in_a_month)
    place.ingest()
    result = maintain(place.home)
    assert result.snapshots_expired == ROUNDS - 1
    assert all(Path(file).exists() for file in readers_files)


@pytest.mark.parametrize(("owner", "function"), [("Lake", "commit"), ("Lake", "drop_history"), ("upkeep", "drop_unnamed_side_files")])
def test_upkeep_that_is_killed_changes_nothing_or_all(owner: str, function: str, many_commits: Place) -> None:
    place, before = many_commits, many_commits.checksum()
    script = f"""
import os, signal, sys
from pathlib import Path
from routing_pipeline.storage.home import Home
from routing_pipeline.ingest import compaction
from routing_pipeline.lake.table import {owner}
def die(*_, **__): os.kill(os.getpid(), signal.SIGKILL)
{owner}.{function} = die
compaction.maintain(Home(Path(sys.argv[1])), kept_days=0)
"""
    assert subprocess.run([sys.executable, "-c", script, str(place.home.root)], check=False).returncode == -signal.SIGKILL
    assert place.checksum() == before
    result = maintain(place.home, kept_days=0)
    assert (result.files_after, place.checksum()) == (3, before)
    root = place.home.lake.absolute()
    assert {str(path) for path in root.glob("data/**/*.parquet")} == set(place.lake.all_files())
    assert not list((root / "intents").iterdir())


def test_upkeep_of_nothing_is_nothing(tmp_path: Path) -> None:
    assert maintain(Home(tmp_path / "home")).files_after == 0


def test_a_day_is_read_again_by_its_rows_and_by_its_name(many_commits: Place) -> None:
    place, before = many_commits, many_commits.checksum()
    (place.folder / "mixed.jsonl").write_text(lines(range(900, 901)) + lines(range(900, 901), day=1))
    place.ingest()
    marked = mark_for_reading_again(place.home, day="2026-11-23")
    assert (marked.objects, marked.sources) == (ROUNDS + 1, (str(place.folder),))
    # Until they are read, what they gave before is there.
    assert place.checksum()[0] == before[0] + 2
    result = place.ingest()
    assert (result.objects_new, result.ingested, result.replaced, result.duplicates) == (ROUNDS + 1, 102, 102, 0)
    assert place.ingest().objects_new == 0
    assert place.lake.totals().ingested == before[0] + 2


def test_a_prefix_is_read_again_and_what_is_gone_from_its_source_stays(many_commits: Place) -> None:
    place = many_commits
    (place.folder / "2026-11-22-0.jsonl").unlink()
    marked = mark_for_reading_again(place.home, prefix="2026-11-22")
    assert (marked.objects, marked.gone) == (ROUNDS - 1, 1)
    assert place.ingest().replaced == 20 * (ROUNDS - 1)
    assert place.lake.totals().ingested == 210
    by_uri = mark_for_reading_again(place.home, prefix=f"{place.folder}/2026-11-22")
    assert (by_uri.objects, by_uri.gone) == (ROUNDS - 1, 1)


def test_what_makes_no_sense_is_not_marked(many_commits: Place, tmp_path: Path) -> None:
    with pytest.raises(UnusableInputError, match="either --day or --prefix"):
        mark_for_reading_again(many_commits.home, day="2026-11-23", prefix="a")
    with pytest.raises(UnusableInputError, match="give a date"):
        mark_for_reading_again(many_commits.home, day="last tuesday")
    with pytest.raises(UnusableInputError, match="nothing that was read matches"):
        mark_for_reading_again(many_commits.home, prefix="z")
    with pytest.raises(UnusableInputError, match="nothing that was read matches"):
        mark_for_reading_again(Home(tmp_path / "empty"), day="2026-11-23")
    etags = many_commits.lake.side_table("ledger")["etag"].to_pylist()
    assert overwrite.READ_AGAIN not in etags


def test_the_commands_and_the_nightly_job_do_the_same(many_commits: Place) -> None:
    def command(*arguments: str) -> str:
        done = CliRunner().invoke(app, [*arguments, "--home", str(many_commits.home.root)])
        assert done.exception is None, done.output
        return done.stdout

    assert command("compact", "--keep-days", "0").startswith(f"{2 * ROUNDS + 1} files became 3;")
    (many_commits.folder / "next.jsonl").write_text(lines(range(500, 510)))
    many_commits.ingest()
    run_job(many_commits.home, "maintain_lake", resources={"root": str(many_commits.home.root)}, ops={"lake_upkeep": {"kept_days": 0}})
    table = many_commits.lake.iceberg.opened()
    assert table is not None
    assert len(table.metadata.snapshots) == 1
    (many_commits.folder / "2026-11-22-1.jsonl").unlink()
    assert command("reprocess", "--day", "2026-11-22").startswith(
        f"{ROUNDS - 1} objects read again; no longer there: 1, and what was read of that stays"
    )


def test_files_of_before_a_column_was_there_join_with_files_that_have_it(many_commits: Place) -> None:
    place, before = many_commits, many_commits.checksum()
    for file in place.lake.all_files()[::2]:
        with duckdb.connect() as connection:
            held = connection.sql(f"SELECT * EXCLUDE ({', '.join(ADDED_LATER)}) FROM read_parquet($f)", params={"f": file})  # noqa: S608
            held.write_parquet(file + ".new", compression="zstd")
        Path(file + ".new").replace(file)
    result = maintain(place.home)
    assert (result.days_compacted, result.rows) == (2, 200)
    (place.folder / "next.jsonl").write_text(lines(range(500, 510)))
    assert place.ingest().ingested == 10
    attempts, ids = place.distinct()
    assert (attempts, ids) == (before[0] + 10, before[0] + 10)
