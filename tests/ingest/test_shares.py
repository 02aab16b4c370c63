"""Objects that are read in shares: cut, told to whoever reads them, and put together as if one process had read them all."""

from __future__ import annotations

import json
import pickle
from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import duckdb
import pytest
from killed_ingestion import write_logs

from routing_pipeline.errors import UnusableInputError
from routing_pipeline.ingest import shares
from routing_pipeline.ingest.batch import BatchConformer
from routing_pipeline.ingest.erasure import forget
from routing_pipeline.ingest.ingestion import IngestResult, ingest_logs
from routing_pipeline.ingest.objects import StoredObject
from routing_pipeline.ingest.shares import Share, Workers, conformed_by, cut, read_share
from routing_pipeline.lake.table import Lake
from routing_pipeline.storage.home import Home

NOW_S = 1_795_500_000.0
FILES, LINES = 4, 100


class Elsewhere:
    """Calls functions here, as if it were elsewhere: nothing goes there or comes back but what can be pickled. Keeps what went there."""

    def __init__(self) -> None:
        self.told: list[bytes] = []

    def each(self, work: Callable[[Any], Any], given: Sequence[Any]) -> Iterator[Any]:
        for one in given:
            self.told.append(pickle.dumps((work, one)))
            called, argument = pickle.loads(self.told[-1])  # noqa: S301 (ours)
            yield pickle.loads(pickle.dumps(called(argument)))  # noqa: S301 (ours)


@pytest.fixture(autouse=True)
def small_shares(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(shares, "SHARE_BYTES", 1)


@pytest.fixture
def logs(tmp_path: Path) -> Path:
    """Some lines are broken; the last tenth of each file repeats the beginning of the next one."""
    folder = tmp_path / "logs"
    folder.mkdir()
    return write_logs(folder, FILES, LINES, broken_every=100)


@pytest.fixture
def finished_anew(monkeypatch: pytest.MonkeyPatch) -> list[Path]:
    """Batches of which what their workers made could not stay: fills up as they come."""
    found: list[Path] = []
    read_conformed = BatchConformer.read_conformed

    def noted(conformer: BatchConformer, path: Path) -> None:
        found.append(path)
        read_conformed(conformer, path)

    monkeypatch.setattr(BatchConformer, "read_conformed", noted)
    return found


def homes(folder: Path) -> tuple[Home, Home]:
    """Two of one key, so that hashes of users can be compared."""
    found = Home(folder / "here").create(), Home(folder / "there").create()
    for home in found:
        home.coordination.write_first("hash.key", "0" * 64)
    return found


def read(home: Home, logs: Path, workers: Workers | None) -> IngestResult:
    return ingest_logs(home, str(logs), now_s=NOW_S, workers=workers).model_copy(update={"seconds": 0.0, "snapshot_id": None})


def rows(home: Home) -> list[tuple[Any, ...]]:
    with duckdb.connect() as connection:
        found: list[tuple[Any, ...]] = connection.execute(
            "SELECT * FROM read_parquet($files) ORDER BY attempt_id", {"files": list(Lake(home).all_files())}
        ).fetchall()
    return found


def attempts(home: Home) -> list[dict[str, Any]]:
    names = "attempt_id", "request_id", "fallback_from", "model"
    with duckdb.connect() as connection:
        found = connection.execute(f"SELECT {', '.join(names)} FROM read_parquet($f)", {"f": list(Lake(home).all_files())}).fetchall()  # noqa: S608
    return [dict(zip(names, row, strict=True)) for row in found]


def side(home: Home, name: Any) -> list[dict[str, Any]]:
    return sorted(Lake(home).side_table(name).to_pylist(), key=str)


def test_neighbours_are_cut_into_shares_and_small_objects_count_for_the_time_of_a_request(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(shares, "SHARE_BYTES", 10 * shares.OBJECT_BYTES)
    small = [(number, StoredObject(str(number), "", 1)) for number in range(25)]
    assert [len(share) for share in cut(small)] == [10, 10, 5]
    assert [each for share in cut(small) for each in share] == small
    large = [(0, StoredObject("a", "", 1 << 40)), (1, StoredObject("b", "", 1))]
    assert [len(share) for share in cut(large)] == [1, 1]
    assert cut([]) == []


def test_shares_read_elsewhere_end_as_one_process_would_have_ended(logs: Path, tmp_path: Path, finished_anew: list[Path]) -> None:
    (here, there), workers = homes(tmp_path), Elsewhere()
    result = read(there, logs, workers)
    # All but the first hold attempts of the one before.
    assert (len(workers.told), len(finished_anew)) == (FILES, FILES - 1)
    assert result == read(here, logs, None)
    assert (result.records, result.quarantined) == (FILES * LINES, FILES)
    assert result.duplicates > 0
    assert rows(there) == rows(here)
    assert [side(there, name) for name in ("ledger", "quarantine")] == [side(here, name) for name in ("ledger", "quarantine")]
    assert read(there, logs, workers).objects_new == 0
    assert len(workers.told) == FILES


def test_what_was_uploaded_again_replaces_what_was_read_of_it_and_what_is_forgotten_stays_so(logs: Path, tmp_path: Path) -> None:
    here, there = homes(tmp_path)
    for home, workers in ((here, None), (there, Elsewhere())):
        read(home, logs, workers)
        forget(home, "team", "squad-of-b")
    for number in (0, 1):
        path = logs / f"{number}.jsonl"
        path.write_text("\n".join(path.read_text(encoding="utf-8").splitlines()[: LINES // 2]) + "\n", encoding="utf-8")
    again, as_here = read(there, logs, Elsewhere()), read(here, logs, None)
    # A forgotten line that two objects hold counts as a duplicate where one batch holds both.
    assert (again.ingested, again.quarantined, again.replaced) == (as_here.ingested, as_here.quarantined, as_here.replaced)
    assert again.replaced > 0
    assert rows(there) == rows(here)
    with duckdb.connect() as connection:
        teams = connection.execute("SELECT DISTINCT team FROM read_parquet($f)", {"f": list(Lake(there).all_files())}).fetchall()
    assert teams == [("a",)]


def test_attempts_of_one_request_find_each_other_whoever_read_them(tmp_path: Path, finished_anew: list[Path]) -> None:
    """A fallback names the model that failed before it; a trace that goes on elsewhere names none of its calls."""
    (folder := tmp_path / "logs").mkdir()
    base = {"startTime": 1_795_400_000.0, "endTime": 1_795_400_001.0, "litellm_trace_id": "t"}
    fell_back = {"hidden_params": {"additional_headers": {"x-litellm-attempted-fallbacks": 1}}}
    failed = base | {"id": "1", "litellm_call_id": "c", "status": "failure", "model": "first"}
    served = base | fell_back | {"id": "2", "litellm_call_id": "c", "status": "success", "model": "second", "endTime": 1_795_400_002.0}
    times = {"start_time": "2026-11-23 10:00:00.000000", "end_time": "2026-11-23 10:00:01.000000"}
    observed = {"type": "GENERATION", "provided_model_name": "m", "trace_id": "lone", "name": "chat", "usage_details": {}} | times
    written: dict[str, list[dict[str, Any]]] = {
        "0": [failed],
        "1": [served],
        "2": [observed | {"id": "o1"}],
        "3": [observed | {"id": "o2"}],
        "4": [base | {"id": "3", "litellm_call_id": "d", "status": "success", "model": "third"}],
    }
    for name, records in written.items():
        (folder / f"{name}.jsonl").write_text("".join(json.dumps(record) + "\n" for record in records), encoding="utf-8")
    (here, there), workers = homes(tmp_path), Elsewhere()
    assert read(there, folder, workers).ingested == read(here, folder, None).ingested == 5
    assert (len(workers.told), len(finished_anew)) == (5, 2)
    found = {(row["request_id"], row["model"]): row["fallback_from"] for row in attempts(there)}
    assert found == {("c", "first"): None, ("c", "second"): "first", ("d", "third"): None, ("lone", "m"): None, ("o2", "m"): None}


def test_nothing_secret_is_told_to_who_reads_elsewhere(logs: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", "an-access-key")
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "a-secret-key")
    home, workers = Home(tmp_path / "home"), Elsewhere()
    read(home, logs, workers)
    told = b"".join(workers.told)
    assert b"0.jsonl" in told
    for secret in (home.hash_key(), "an-access-key", "a-secret-key"):
        assert secret.encode() not in told


def test_a_worker_without_the_home_says_so_and_makes_none(logs: Path, tmp_path: Path) -> None:
    listed = StoredObject("0.jsonl", "", 1)
    share = Share(((0, listed),), ("0.jsonl",), str(logs), "auto", tmp_path / "elsewhere", tmp_path / "elsewhere" / "scratch", NOW_S)
    assert "a worker finds no such folder" in str(read_share(share))
    with pytest.raises(UnusableInputError, match="a worker finds no such folder"):
        list(conformed_by(Elsewhere(), [share], lambda _: None))
    assert not (tmp_path / "elsewhere").exists()


def test_a_share_that_is_read_twice_is_written_to_two_places(logs: Path, tmp_path: Path) -> None:
    """A task that was given up may still be running while another one does the same."""
    home = Home(tmp_path / "home").create()
    path = logs / "0.jsonl"
    listed = StoredObject("0.jsonl", str(path.stat().st_mtime_ns), path.stat().st_size)
    (folder := tmp_path / "scratch").mkdir()
    share = Share(((7, listed),), ("0.jsonl",), str(logs), "auto", home.root, folder, NOW_S)
    found = [read_share(share) for _ in range(2)]
    assert all(isinstance(each, list) for each in found)
    (one,), (other,) = found  # type: ignore[misc]
    assert not {one.written.rows, *one.written.files} & {other.written.rows, *other.written.files}
    assert replace(one, written=None) == replace(other, written=None)
    assert (one.finished, one.read, one.is_complete) == ((7,), frozenset({7}), True)
