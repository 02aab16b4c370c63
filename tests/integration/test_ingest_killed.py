"""Killed anywhere and run again: nothing lost, nothing repeated, nothing left lying about."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from pathlib import Path

import duckdb
import pytest

from routing_pipeline.home import Home
from routing_pipeline.ingest.ingestion import ingest_logs
from routing_pipeline.ingest.lake import Lake

NOW_S = 1_795_500_000.0
FILES, LINES = 6, 400

# The child reads in many small commits and kills itself the second time it gets to the named point.
CHILD = """
import os, signal, sys
from pathlib import Path
from routing_pipeline.home import Home
from routing_pipeline.ingest import batch, ingestion, lake, staging

logs, home, module, owner, function, when = sys.argv[1:]
staging.BATCH_BYTES = 100_000
ingestion.COMMIT_EVERY_S = 0.0
holder = getattr({"batch": batch, "lake": lake, "staging": staging, "ingestion": ingestion}[module], owner)
original = getattr(holder, function)
calls = 0

def dying(*arguments, **options):
    global calls
    calls += 1
    if when == "before" and calls == 2:
        os.kill(os.getpid(), signal.SIGKILL)
    result = original(*arguments, **options)
    if when == "after" and calls == 2:
        os.kill(os.getpid(), signal.SIGKILL)
    return result

setattr(holder, function, dying)
ingestion.ingest_logs(Home(Path(home)), logs, now_s=float(os.environ["NOW_S"]))
"""

POINTS = [
    ("batch", "BatchConformer", "conform", "after"),
    ("batch", "BatchConformer", "finish", "after"),
    ("lake", "Lake", "commit", "before"),
    ("lake", "Lake", "_with_added", "after"),
    ("lake", "Lake", "commit", "after"),
    ("lake", "Lake", "_drop_unnamed_side_files", "before"),
]


@pytest.fixture(scope="module")
def logs(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("logs")
    for file in range(FILES):
        lines = []
        for number in range(LINES):
            # The last tenth of each file repeats the beginning of the next one; every hundredth line is broken.
            n = file * 360 + number
            start = 1_795_400_000.0 + n
            record = {
                "id": f"r{n}",
                "litellm_call_id": f"c{n}",
                "startTime": start,
                "endTime": start + 1,
                "status": "success",
                "model": "m",
            }
            lines.append("broken" if number % 100 == 50 else json.dumps(record | {"response_cost": 0.01, "padding": "x" * 200}))
        (folder / f"{file}.jsonl").write_text("\n".join(lines) + "\n", encoding="utf-8")
    return folder


def accounts(home: Home) -> tuple[tuple[int, ...], int, int, int]:
    lake = Lake(home)
    totals = lake.totals()
    with duckdb.connect() as connection:
        rows, distinct = connection.execute(
            "SELECT count(*), count(DISTINCT attempt_id) FROM read_parquet($f)", {"f": list(lake.attempt_files(0, NOW_S))}
        ).fetchone()
        refused = connection.execute("SELECT count(*) FROM read_parquet($f)", {"f": list(lake.quarantine_files())}).fetchone()[0]
    return (totals.records, totals.ingested, totals.quarantined, totals.duplicates, totals.objects), rows, distinct, refused


@pytest.fixture(scope="module")
def undisturbed(logs: Path, tmp_path_factory: pytest.TempPathFactory) -> tuple[tuple[int, ...], int, int, int]:
    home = Home(tmp_path_factory.mktemp("undisturbed"))
    ingest_logs(home, str(logs), now_s=NOW_S)
    return accounts(home)


def test_the_undisturbed_run_adds_up(undisturbed: tuple[tuple[int, ...], int, int, int]) -> None:
    (records, ingested, quarantined, duplicates, objects), rows, distinct, refused = undisturbed
    assert (records, objects, quarantined) == (FILES * LINES, FILES, FILES * 4)
    assert duplicates > 0
    assert ingested == rows == distinct == records - quarantined - duplicates
    assert refused == quarantined


@pytest.mark.parametrize("point", POINTS, ids=[f"{when}-{function.strip('_')}" for _, _, function, when in POINTS])
def test_a_kill_and_a_second_run_end_where_one_run_ends(
    point: tuple[str, str, str, str], logs: Path, undisturbed: tuple[tuple[int, ...], int, int, int], tmp_path: Path
) -> None:
    home = Home(tmp_path / "home")
    killed = subprocess.run(
        [sys.executable, "-c", CHILD, str(logs), str(home.root), *point],
        check=False,
        capture_output=True,
        env={**os.environ, "NOW_S": str(NOW_S)},
    )
    assert killed.returncode == -signal.SIGKILL, killed.stderr.decode()
    interim = Lake(home).totals()
    assert interim.records == interim.ingested + interim.quarantined + interim.duplicates
    assert interim.objects < FILES

    ingest_logs(home, str(logs), now_s=NOW_S)
    assert accounts(home) == undisturbed

    lake = Lake(home)
    on_disk = {str(path) for path in home.lake.absolute().glob("data/**/*.parquet")}
    assert on_disk == set(lake.attempt_files(0, NOW_S))
    named = {file for name in ("ledger", "quarantine") for file in lake.side_files(name)}
    assert {str(path) for path in home.lake.absolute().glob("side/*")} == named
    assert not list(home.scratch.glob("ingest-*"))
    assert not list((home.lake / "intents").iterdir())


def test_two_ingestions_of_the_same_logs_at_once_count_them_once(
    logs: Path, undisturbed: tuple[tuple[int, ...], int, int, int], tmp_path: Path
) -> None:
    home = Home(tmp_path / "home")
    program = f"""
from pathlib import Path
from routing_pipeline.home import Home
from routing_pipeline.ingest.ingestion import ingest_logs
ingest_logs(Home(Path({str(home.root)!r})), {str(logs)!r}, now_s={NOW_S})
"""
    both = [subprocess.Popen([sys.executable, "-c", program]) for _ in range(2)]
    assert [each.wait() for each in both] == [0, 0]
    assert accounts(home) == undisturbed
