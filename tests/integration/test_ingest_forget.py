"""What was forgotten is nowhere: not in the lake, not in its history, and not back after the next reading."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import dagster as dg
import duckdb
import pytest

from assets.resources import ResultsIOManager
from routing_pipeline.errors import UnusableInputError
from routing_pipeline.estimates import Result
from routing_pipeline.ingest.erasure import ForgetResult, What, forget
from routing_pipeline.ingest.ingestion import IngestResult, ingest_feedback, ingest_logs
from routing_pipeline.ingest.reprocessing import mark_for_reading_again
from routing_pipeline.lake.table import Lake
from routing_pipeline.parameters import Parameters
from routing_pipeline.storage.home import Home
from routing_pipeline.window.engine import open_engine
from routing_pipeline.window.resolve import resolve_scope
from routing_pipeline.window.rows import rows_at

NOW_S = 1_795_500_000.0
START_S = 1_793_400_000.0
"""2026-10-30 22:40 UTC; a record every 8 hours from here."""


def record(number: int) -> str:
    start = START_S + number * 8 * 3600
    made = {"id": f"i{number}", "litellm_call_id": f"c{number}", "startTime": start, "endTime": start + 1, "status": "success"}
    metadata = {"user_api_key_request_route": "/v1", "user_api_key_team_alias": f"squad-of-{'ab'[number % 2]}"}
    return json.dumps(made | {"model": "m", "end_user": f"user-{number % 3}", "metadata": metadata})


class Place:
    """Logs, scores, and a home that has read them."""

    def __init__(self, root: Path) -> None:
        self.folder, self.scores = root / "logs", root / "scores"
        self.folder.mkdir()
        self.scores.mkdir()
        for name, numbers in {"a.jsonl": range(6), "b.jsonl": range(6, 12), "c.jsonl": (11, 12)}.items():
            (self.folder / name).write_text("".join(f"{record(number)}\n" for number in numbers) + "broken\n", encoding="utf-8")
        score = {"name": "quality", "value": 0.5, "source": "judge"}
        rows = [score | {"request_id": f"c{number}", "scored_at": START_S + number * 8 * 3600 + 60} for number in range(13)]
        (self.scores / "s.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
        self.home = Home(root / "home")
        self.lake = Lake(self.home)
        self.ingest()
        ingest_feedback(self.home, str(self.scores), now_s=NOW_S)

    def ingest(self) -> IngestResult:
        return ingest_logs(self.home, str(self.folder), now_s=NOW_S)

    def forget(self, what: What, value: str) -> ForgetResult:
        return forget(self.home, what, value, now_s=NOW_S)

    def numbers(self) -> list[int]:
        with duckdb.connect() as connection:
            found = connection.execute("SELECT attempt_id FROM read_parquet($f)", {"f": list(self.lake.all_files())}).fetchall()
        return sorted(int(each.split("/")[0].removeprefix("c")) for (each,) in found)

    def scored(self) -> list[int]:
        with duckdb.connect() as connection:
            found = connection.execute("SELECT request_id FROM read_parquet($f)", {"f": list(self.lake.feedback_files())}).fetchall()
        return sorted(int(each.removeprefix("c")) for (each,) in found)

    def check(self) -> None:
        """Nothing on disk that the present lake does not need; ledger, quarantine and lake agree."""
        root, table = self.home.lake.absolute(), self.lake.iceberg.opened()
        assert table is not None
        assert len(table.metadata.snapshots) == 1
        assert {str(path) for path in root.glob("data/**/*.parquet")} == set(self.lake.all_files())
        (snapshot,) = table.metadata.snapshots
        manifests = {Path(manifest.manifest_path.removeprefix("file://")).name for manifest in snapshot.manifests(table.io)}
        lists = {Path(snapshot.manifest_list).name}
        assert {path.name for path in root.rglob("*.avro")} == manifests | lists
        named = {
            file for name in ("ledger", "quarantine", "feedback", "feedback_ledger", "forgotten") for file in self.lake.side_files(name)
        }  # type: ignore[arg-type]
        assert {str(path) for path in root.glob("side/*")} == named
        totals = self.lake.totals()
        assert totals.records == totals.ingested + totals.quarantined + totals.duplicates
        assert totals.ingested == len(self.numbers())
        assert totals.quarantined == sum(reason.count for reason in totals.reasons)
        assert not list(self.home.scratch.glob("*"))


@pytest.fixture
def place(tmp_path: Path) -> Place:
    return Place(tmp_path)


def test_kept_rows_of_windows_and_days_go_with_what_was_forgotten(place: Place) -> None:
    def read() -> list[str]:
        with open_engine("duckdb") as engine:
            scope = resolve_scope(place.lake, Parameters(timeframe="7d"), engine=engine, engine_name="duckdb")
            teams: list[str] = rows_at(engine, scope.requests_uri).select("team").distinct().team.to_pyarrow().to_pylist()
            return sorted(teams)

    assert read() == ["squad-of-a", "squad-of-b"]
    assert list(place.home.days.iterdir())
    place.forget("team", "squad-of-b")
    place.check()
    assert read() == ["squad-of-a"]


def everywhere(home: Home) -> Iterator[bytes]:
    for path in home.root.rglob("*"):
        if path.is_file():
            yield path.read_bytes()


def test_a_user_is_forgotten_with_scores_and_history_and_the_rest_stays(place: Place) -> None:
    with duckdb.connect() as connection:
        ((hashed,),) = connection.execute(
            "SELECT DISTINCT user_hash FROM read_parquet($f) WHERE starts_with(attempt_id, 'c1/')", {"f": list(place.lake.all_files())}
        ).fetchall()
    result = place.forget("user", "user-1")
    assert (result.attempts, result.objects, result.scores, result.quarantined) == (4, 2, 4, 0)
    assert place.numbers() == [number for number in range(13) if number % 3 != 1]
    assert place.scored() == [number for number in range(13) if number % 3 != 1]
    place.check()
    held = [path for path in place.home.lake.rglob("*") if path.is_file() and hashed.encode() in path.read_bytes()]
    assert [path.name.split("-")[0] for path in held] == ["forgotten"]


def test_a_team_is_forgotten_to_the_last_byte_on_disk(place: Place) -> None:
    assert any(b"squad-of-b" in content for content in everywhere(place.home))

    class Report(Result):
        team: str

    place.home.results.save("report", "k", Report(team="squad-of-b"))
    place.home.scratch.mkdir(exist_ok=True)
    (place.home.scratch / "window.parquet").write_bytes(b"squad-of-b")
    assert place.forget("team", "squad-of-b").attempts == 6
    assert place.numbers() == list(range(0, 13, 2))
    place.check()
    named = [path for path in place.home.root.rglob("*") if path.is_file() and b"squad-of-b" in path.read_bytes()]
    assert [path.name.split("-")[0] for path in named] == ["forgotten"]


def test_an_object_is_forgotten_with_what_was_refused_of_it_and_is_not_read_again(place: Place) -> None:
    result = place.forget("object", str(place.folder / "a.jsonl"))
    assert (result.attempts, result.objects, result.quarantined) == (6, 1, 1)
    assert place.numbers() == list(range(6, 13))
    place.check()
    assert place.ingest().objects_new == 0
    marked = mark_for_reading_again(place.home, prefix="")
    assert (marked.objects, marked.forgotten) == (2, 1)
    place.ingest()
    assert place.numbers() == list(range(6, 13))


def test_everything_before_a_moment_is_forgotten(place: Place) -> None:
    # Record 4 begins on 2026-11-01 at 06:40.
    result = place.forget("before", "2026-11-01T08:40:00+02:00")
    assert (result.attempts, result.scores) == (4, 4)
    assert place.numbers() == list(range(4, 13))
    assert place.scored() == list(range(4, 13))
    place.check()
    again = place.forget("before", "2030-01-01")
    assert (again.attempts, again.quarantined, again.scores) == (9, 3, 9)
    assert place.lake.all_files() == ()
    assert place.lake.totals().records == place.lake.totals().duplicates == 1
    assert place.ingest().objects_new == 0


def test_what_was_forgotten_does_not_come_back_when_its_logs_are_read_again(place: Place) -> None:
    place.forget("user", "user-1")
    place.forget("team", "squad-of-b")
    place.forget("before", "2026-11-01")
    left = [number for number in range(4, 13) if number % 3 != 1 and number % 2 == 0]
    assert place.numbers() == left
    mark_for_reading_again(place.home, prefix="")
    (place.folder / "again.jsonl").write_text("".join(f"{record(number)}\n" for number in range(13)), encoding="utf-8")
    result = place.ingest()
    assert place.numbers() == left
    assert result.records == result.ingested + result.quarantined + result.duplicates
    totals = place.lake.totals()
    assert (totals.ingested, totals.quarantined) == (len(left), 3)


def test_traffic_after_a_user_was_forgotten_is_traffic(place: Place) -> None:
    forget(place.home, "user", "user-1", now_s=START_S + 3 * 8 * 3600)
    mark_for_reading_again(place.home, prefix="")
    place.ingest()
    assert place.numbers() == [0, *range(2, 13)]


def test_nothing_found_is_said_and_what_makes_no_sense_is_refused(place: Place, tmp_path: Path) -> None:
    rows = place.numbers()
    assert place.forget("user", "nobody").attempts == 0
    assert place.numbers() == rows
    with pytest.raises(UnusableInputError, match="nothing was ever read from it"):
        place.forget("object", "z.jsonl")
    with pytest.raises(UnusableInputError, match="ISO 8601"):
        place.forget("before", "yesterday")
    with pytest.raises(UnusableInputError, match="--user"):
        place.forget("user", "")
    assert place.numbers() == rows
    assert forget(Home(tmp_path / "empty"), "team", "x").attempts == 0


def test_forgetting_nobody_drops_no_result_and_no_history(place: Place) -> None:
    class Report(Result):
        team: str

    place.home.results.save("report", "k", Report(team="squad-of-b"))
    for what, value in (("user", "nobody"), ("team", "no-squad"), ("before", "2026-01-01")):
        assert place.forget(what, value).snapshots == 0  # type: ignore[arg-type]
    assert place.home.results.load("report", "k", Report) is not None
    for name, number in {"a.jsonl": 0, "b.jsonl": 6, "c.jsonl": 12}.items():
        (place.folder / name).write_text(f"{record(number)}\n", encoding="utf-8")
    place.ingest()
    assert place.numbers() == [0, 6, 12]
    gone = place.forget("team", "squad-of-b")
    assert (gone.attempts, gone.snapshots > 0) == (0, True), "an older snapshot held them, and results of it may name them"
    assert place.home.results.load("report", "k", Report) is None


def test_an_analysis_finds_what_it_reads_after_everything_stored_was_dropped(place: Place) -> None:
    place.home.results.save("request_log", "ingest", place.ingest())
    place.forget("team", "squad-of-b")
    manager = ResultsIOManager(root=str(place.home.root))
    context = dg.build_input_context(asset_key=dg.AssetKey("request_log"), dagster_type=dg.PythonObjectDagsterType(IngestResult))
    standing = manager.load_input(context)
    assert (standing.records, standing.ingested, standing.unavailable) == (0, 0, None)
    assert (standing.source, standing.snapshot_id) == (place.home.sources()[0], place.lake.snapshot_id())


def test_a_kill_between_rows_and_history_is_mended_by_asking_again(place: Place) -> None:
    place.home.results.save("ingest", "k", place.ingest())
    script = """
import os, signal, sys
from pathlib import Path
from routing_pipeline.storage.home import Home
from routing_pipeline.ingest.erasure import forget
from routing_pipeline.lake.table import Lake
def die(*_, **__): os.kill(os.getpid(), signal.SIGKILL)
Lake.drop_history = die
forget(Home(Path(sys.argv[1])), "team", "squad-of-b")
"""
    done = subprocess.run([sys.executable, "-c", script, str(place.home.root)], check=False, env=os.environ)
    assert done.returncode == -signal.SIGKILL
    assert place.numbers() == list(range(0, 13, 2))
    again = place.forget("user", "nobody")
    assert again.attempts == 0
    assert again.snapshots > 0
    assert place.home.results.load("ingest", "k", IngestResult) is None
    place.check()


def command(*arguments: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [str(Path(sys.executable).with_name("routing-pipeline")), *arguments], capture_output=True, text=True, check=False
    )


def test_the_command_says_how_many(place: Place) -> None:
    said = command("forget", "--team", "squad-of-b", "--home", str(place.home.root), "--json")
    assert said.returncode == 0, said.stderr
    answer: dict[str, Any] = json.loads(said.stdout)
    assert (answer["attempts"], answer["scores"]) == (6, 6)
    both = command("forget", "--team", "a", "--user", "b", "--home", str(place.home.root))
    assert (both.returncode, both.stdout) == (2, "")
    assert "exactly one" in both.stderr
