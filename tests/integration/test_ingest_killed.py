"""Killed anywhere and run again: nothing lost, nothing repeated, nothing left lying about."""

from __future__ import annotations

import json
import random
import shutil
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import duckdb
import pytest

from routing_pipeline.home import Home
from routing_pipeline.ingest.ingestion import ingest_logs
from routing_pipeline.ingest.lake import Lake

NOW_S = 1_795_500_000.0
FILES, LINES = 6, 400

# Imports once and forks for each run asked for on stdin, because importing takes longer than running. A run reads in many
# small commits and kills itself the second time it gets to the named point; without a point it goes through.
NURSERY = """
import json, os, signal, sys
from pathlib import Path
import duckdb, pyarrow.parquet, pyiceberg.catalog.sql, pyiceberg.table
from routing_pipeline.home import Home
from routing_pipeline.ingest import batch, ingestion, lake, staging

def run(logs, home, now_s, owner, function, when):
    if owner == "moment":
        staging.BATCH_BYTES = 100_000
        ingestion.COMMIT_EVERY_S = 0.0
        # A timer of the kernel's: whatever the process does just then, it ends.
        signal.signal(signal.SIGALRM, signal.SIG_DFL)
        signal.setitimer(signal.ITIMER_REAL, float(when))
    elif owner:
        staging.BATCH_BYTES = 100_000
        ingestion.COMMIT_EVERY_S = 0.0
        holder = getattr(batch, owner, None) or getattr(lake, owner)
        original = getattr(holder, function)
        calls = []
        def dying(*arguments, **options):
            calls.append(1)
            if when == "before" and len(calls) == 2:
                os.kill(os.getpid(), signal.SIGKILL)
            result = original(*arguments, **options)
            if when == "after" and len(calls) == 2:
                os.kill(os.getpid(), signal.SIGKILL)
            return result
        setattr(holder, function, dying)
    ingestion.ingest_logs(Home(Path(home)), logs, now_s=now_s)

for line in sys.stdin:
    children = []
    for asked in json.loads(line):
        child = os.fork()
        if not child:
            try:
                run(*asked)
                os._exit(0)
            except BaseException as error:
                print(repr(error), file=sys.stderr, flush=True)
                os._exit(1)
        children.append(child)
    print(json.dumps([os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) for child in children]), flush=True)
"""

POINTS = [
    ("BatchConformer", "conform", "after"),
    ("BatchConformer", "finish", "after"),
    ("Lake", "commit", "before"),
    ("Lake", "_with_added", "after"),
    ("Lake", "commit", "after"),
    ("Lake", "_drop_unnamed_side_files", "before"),
]


Nursery = Callable[[list[list[Any]]], list[int]]
"""Runs several at once; gives their exit codes."""


@pytest.fixture(scope="module")
def nursery() -> Iterator[Nursery]:
    process = subprocess.Popen([sys.executable, "-c", NURSERY], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
    assert process.stdin is not None
    assert process.stdout is not None

    def ask(runs: list[list[Any]]) -> list[int]:
        process.stdin.write(json.dumps(runs) + "\n")
        process.stdin.flush()
        codes: list[int] = json.loads(process.stdout.readline())
        return codes

    yield ask
    process.stdin.close()
    process.wait()


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


@pytest.mark.parametrize("point", POINTS, ids=[f"{when}-{function.strip('_')}" for _, function, when in POINTS])
def test_a_kill_and_a_second_run_end_where_one_run_ends(
    point: tuple[str, str, str], nursery: Nursery, logs: Path, undisturbed: tuple[tuple[int, ...], int, int, int], tmp_path: Path
) -> None:
    home = Home(tmp_path / "home")
    assert nursery([[str(logs), str(home.root), NOW_S, *point]]) == [-signal.SIGKILL]
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


def rows_of(home: Home) -> list[tuple[object, ...]]:
    """Rows without the object that gave them, where several hold the same attempt."""
    with duckdb.connect() as connection:
        query = "SELECT * EXCLUDE (ingested_at, source_object) FROM read_parquet($f) ORDER BY attempt_id"
        return connection.execute(query, {"f": list(Lake(home).all_files())}).fetchall()


@pytest.fixture
def home_of_earlier_versions(logs: Path, tmp_path: Path, undisturbed: tuple[tuple[int, ...], int, int, int]) -> tuple[Path, Home]:
    """A home that holds half of each of the first three objects, at other costs; their logs as they are now."""
    folder, home = tmp_path / "logs", Home(tmp_path / "home")
    folder.mkdir()
    for path in sorted(logs.iterdir())[:3]:
        lines = path.read_text(encoding="utf-8").splitlines()
        (folder / path.name).write_text("\n".join(lines[: LINES // 2]).replace("0.01", "0.99") + "\n", encoding="utf-8")
    ingest_logs(home, str(folder), now_s=NOW_S)
    shutil.copytree(logs, folder, dirs_exist_ok=True)
    return folder, home


def no_strays(home: Home) -> bool:
    """No data file that no snapshot knows, no manifest that no snapshot names, nothing that a dead writer wanted."""
    table = Lake(home)._open()
    assert table is not None
    manifests = [manifest for snapshot in table.metadata.snapshots for manifest in snapshot.manifests(table.io)]
    data = {entry.data_file.file_path for manifest in manifests for entry in manifest.fetch_manifest_entry(table.io)}
    metadata = {manifest.manifest_path for manifest in manifests} | {snapshot.manifest_list for snapshot in table.metadata.snapshots}
    root = home.lake.absolute()
    left = [*home.scratch.glob("ingest-*"), *(home.lake / "intents").iterdir()]
    return (
        {str(path) for path in root.glob("data/**/*.parquet")} == {path.removeprefix("file://") for path in data}
        and {str(path) for path in root.rglob("*.avro")} == {path.removeprefix("file://") for path in metadata}
        and not left
    )


@pytest.mark.parametrize("point", [POINTS[1], POINTS[2], POINTS[4]], ids=["after-finish", "before-commit", "after-commit"])
def test_a_kill_while_objects_are_replaced_loses_neither_the_old_nor_the_new(
    point: tuple[str, str, str],
    nursery: Nursery,
    home_of_earlier_versions: tuple[Path, Home],
    undisturbed: tuple[tuple[int, ...], int, int, int],
    undisturbed_rows: list[tuple[object, ...]],
) -> None:
    logs, home = home_of_earlier_versions
    assert nursery([[str(logs), str(home.root), NOW_S, *point]]) == [-signal.SIGKILL]
    interim, rows = Lake(home).totals(), rows_of(home)
    assert interim.ingested == len(rows) == len({row[0] for row in rows})
    ingest_logs(home, str(logs), now_s=NOW_S)
    assert accounts(home) == undisturbed
    assert rows_of(home) == undisturbed_rows
    assert no_strays(home)


@pytest.fixture(scope="module")
def undisturbed_rows(logs: Path, tmp_path_factory: pytest.TempPathFactory) -> list[tuple[object, ...]]:
    home = Home(tmp_path_factory.mktemp("undisturbed-rows"))
    ingest_logs(home, str(logs), now_s=NOW_S)
    return rows_of(home)


def test_kills_at_random_moments_end_where_one_run_ends(
    nursery: Nursery,
    home_of_earlier_versions: tuple[Path, Home],
    undisturbed: tuple[tuple[int, ...], int, int, int],
    undisturbed_rows: list[tuple[object, ...]],
) -> None:
    rng = random.Random(7)  # noqa: S311 (when to kill)
    logs, home = home_of_earlier_versions
    codes = [nursery([[str(logs), str(home.root), NOW_S, "moment", "", str(rng.uniform(0.01, 0.6))]])[0] for _ in range(15)]
    assert set(codes) <= {0, -signal.SIGALRM}
    assert -signal.SIGALRM in codes
    ingest_logs(home, str(logs), now_s=NOW_S)
    assert accounts(home) == undisturbed
    assert rows_of(home) == undisturbed_rows
    assert no_strays(home)


def test_two_ingestions_of_the_same_logs_at_once_count_them_once(
    nursery: Nursery, logs: Path, undisturbed: tuple[tuple[int, ...], int, int, int], tmp_path: Path
) -> None:
    home = Home(tmp_path / "home")
    assert nursery([[str(logs), str(home.root), NOW_S, "", "", ""]] * 2) == [0, 0]
    assert accounts(home) == undisturbed
