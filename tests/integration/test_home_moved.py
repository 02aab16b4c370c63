"""A home is one folder: moved, or restored elsewhere, it goes on; forgetting can be tried before."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytest

from routing_pipeline.demo.logs import write_demo
from routing_pipeline.ingest.compaction import maintain
from routing_pipeline.ingest.erasure import forget
from routing_pipeline.ingest.ingestion import ingest_logs
from routing_pipeline.lake.table import Lake
from routing_pipeline.storage.home import Home
from routing_pipeline.window.engine import open_engine
from routing_pipeline.window.hourly import SumsStore


@pytest.fixture(scope="module")
def logs(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("gateway")
    write_demo(folder, requests=1_000)
    return folder / "logs"


@pytest.fixture
def home(logs: Path, tmp_path: Path) -> Home:
    made = Home(tmp_path / "lake" / "home").create()
    ingest_logs(made, str(logs))
    return made


def more(logs: Path) -> None:
    record = json.loads(next(logs.rglob("*.jsonl")).read_text().splitlines()[0])
    (logs / "more.jsonl").write_text(json.dumps({**record, "id": "another", "litellm_call_id": "another"}) + "\n")


@pytest.mark.parametrize("is_copied", [True, False])
def test_a_home_that_was_moved_is_read_written_and_tidied_where_it_is(home: Home, logs: Path, tmp_path: Path, is_copied: bool) -> None:
    before, there = Lake(home).totals(), tmp_path / "elsewhere"
    shutil.copytree(home.root, there) if is_copied else shutil.move(home.root, there)
    files = sorted(path.relative_to(home.root) for path in home.root.rglob("*") if path.is_file()) if is_copied else []
    moved = Home(there)
    assert Lake(moved).totals() == before
    assert all(file.startswith(str(there)) for file in Lake(moved).all_files())
    more(logs)
    assert ingest_logs(moved, str(logs)).ingested == 1
    maintain(moved, kept_days=0)
    assert forget(moved, "before", "2000-01-01").attempts == 0
    again = Home(tmp_path / "third")
    shutil.move(there, again.root)
    assert Lake(again).totals().ingested == before.ingested + 1
    assert Lake(again).ends_s() is not None
    (logs / "more.jsonl").unlink()
    if is_copied:
        assert sorted(path.relative_to(home.root) for path in home.root.rglob("*") if path.is_file()) == files
        assert Lake(home).totals() == before


def test_sums_by_hour_stand_in_a_home_that_was_moved(home: Home, tmp_path: Path) -> None:
    def pending(of: Home, at_most: int | None) -> tuple[int, int]:
        lake = Lake(of)
        with open_engine() as engine:
            store = SumsStore(of, engine)
            files_by_day = lake.files_by_day()
            return store.attempts(lake.all_files(), at_most=at_most).pending, store.days(files_by_day, at_most=at_most).pending

    assert min(pending(home, 0)) > 0
    assert pending(home, None) == (0, 0)
    moved = Home(tmp_path / "elsewhere")
    shutil.move(home.root, moved.root)
    assert pending(moved, 0) == (0, 0)


def test_forgetting_can_be_tried_before(home: Home) -> None:
    lake = Lake(home)
    before = lake.totals(), lake.version(), sorted(path for path in home.root.rglob("*") if path.is_file())
    tried = forget(home, "team", "growth", dry_run=True)
    after = lake.totals(), lake.version(), sorted(path for path in home.root.rglob("*") if path.is_file())
    assert tried.is_dry_run
    assert tried.attempts > 0
    assert set(after[2]) - set(before[2]) <= {home.root / "hash.key"}
    assert after[:2] == before[:2]
    done = forget(home, "team", "growth")
    assert (done.attempts, done.objects, done.scores) == (tried.attempts, tried.objects, tried.scores)
    again = forget(home, "team", "growth", dry_run=True)
    assert (tried.matches, again.matches, again.attempts) == (True, False, 0)
