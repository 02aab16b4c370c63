"""Killed anywhere and run again: nothing lost, nothing repeated, nothing left lying about."""

from __future__ import annotations

import random
import shutil
import signal
from collections.abc import Iterator
from pathlib import Path

import duckdb
import killed_ingestion
import pytest
from killed_ingestion import Ingest, write_logs

from routing_pipeline.ingest.ingestion import ingest_logs
from routing_pipeline.lake.table import Lake
from routing_pipeline.storage.home import Home

NOW_S = 1_795_500_000.0
FILES, LINES = 6, 400
BATCH_BYTES = 100_000
"""Small, so that there are many commits."""

POINTS = [
    ("BatchConformer", "conform", "after"),
    ("BatchConformer", "finish", "after"),
    ("Lake", "commit", "before"),
    ("Lake", "_with_added", "after"),
    ("Lake", "commit", "after"),
    ("upkeep", "drop_unnamed_side_files", "before"),
]
IN_SHARES = [("BatchConformer", "read_conformed", "after", "in shares"), ("Lake", "commit", "before", "in shares")]
"""Of who commits what workers have read."""


@pytest.fixture(scope="module")
def ingest() -> Iterator[Ingest]:
    with killed_ingestion.running() as ask:
        yield ask


@pytest.fixture(scope="module")
def logs(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_logs(tmp_path_factory.mktemp("logs"), FILES, LINES, broken_every=100)


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


@pytest.mark.parametrize("point", [*POINTS, *IN_SHARES], ids=lambda point: "-".join(point[1:]).replace(" ", "-").strip("_"))
def test_a_kill_and_a_second_run_end_where_one_run_ends(
    point: tuple[str, ...], ingest: Ingest, logs: Path, undisturbed: tuple[tuple[int, ...], int, int, int], tmp_path: Path
) -> None:
    home = Home(tmp_path / "home")
    assert ingest([[[str(home.root)], str(logs), NOW_S, BATCH_BYTES, *point]]) == [-signal.SIGKILL]
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
    table = Lake(home).iceberg.opened()
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
    ingest: Ingest,
    home_of_earlier_versions: tuple[Path, Home],
    undisturbed: tuple[tuple[int, ...], int, int, int],
    undisturbed_rows: list[tuple[object, ...]],
) -> None:
    logs, home = home_of_earlier_versions
    assert ingest([[[str(home.root)], str(logs), NOW_S, BATCH_BYTES, *point]]) == [-signal.SIGKILL]
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
    ingest: Ingest,
    home_of_earlier_versions: tuple[Path, Home],
    undisturbed: tuple[tuple[int, ...], int, int, int],
    undisturbed_rows: list[tuple[object, ...]],
) -> None:
    rng = random.Random(7)  # noqa: S311 (when to kill)
    logs, home = home_of_earlier_versions
    codes = [ingest([[[str(home.root)], str(logs), NOW_S, BATCH_BYTES, "moment", "", str(rng.uniform(0.01, 0.6))]])[0] for _ in range(15)]
    assert set(codes) <= {0, -signal.SIGALRM}
    assert -signal.SIGALRM in codes
    ingest_logs(home, str(logs), now_s=NOW_S)
    assert accounts(home) == undisturbed
    assert rows_of(home) == undisturbed_rows
    assert no_strays(home)


def test_two_ingestions_of_the_same_logs_at_once_count_them_once(
    ingest: Ingest, logs: Path, undisturbed: tuple[tuple[int, ...], int, int, int], tmp_path: Path
) -> None:
    home = Home(tmp_path / "home")
    assert ingest([[[str(home.root)], str(logs), NOW_S, None, "", "", ""]] * 2) == [0, 0]
    assert accounts(home) == undisturbed
