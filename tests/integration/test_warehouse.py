"""Lake and results in a real S3 store with the catalog in a real Postgres: workers that share nothing else."""

from __future__ import annotations

import json
import math
import os
import shutil
import signal
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import boto3
import duckdb
import killed_ingestion
import pytest
import s3_server
from killed_ingestion import Ingest, write_logs
from postgres_server import PASSWORD, PostgresServer

from assets.running import run_job
from routing_pipeline.cli import main
from routing_pipeline.demo.logs import write_demo
from routing_pipeline.errors import ServiceUnavailableError, UnusableInputError
from routing_pipeline.ingest.compaction import maintain
from routing_pipeline.ingest.erasure import forget
from routing_pipeline.ingest.ingestion import ingest_logs
from routing_pipeline.ingest.reprocessing import mark_for_reading_again
from routing_pipeline.lake.table import Lake
from routing_pipeline.parameters import Parameters
from routing_pipeline.storage.home import HASH_KEY, Home
from routing_pipeline.storage.results import ResultStore
from routing_pipeline.window import day_cache, resolve
from routing_pipeline.window.engine import open_engine
from routing_pipeline.window.resolve import resolve_scope
from routing_pipeline.window.rows import are_there, rows_at
from routing_pipeline.window.scope import Window

NOW_S = 1_795_500_000.0
FILES, LINES = 4, 120
BATCH_BYTES = 40_000
"""Small, so that there are many commits."""
BUCKET = "warehouse"


@dataclass(frozen=True)
class Place:
    """One warehouse and its catalog; `worker` is a machine that has seen neither before."""

    warehouse: str
    catalog: str
    folder: Path

    def worker(self, name: str) -> Home:
        return Home(self.folder / name, self.warehouse, self.catalog)

    def environment(self) -> dict[str, str]:
        return os.environ | {"ROUTING_PIPELINE_WAREHOUSE": self.warehouse, "ROUTING_PIPELINE_CATALOG": self.catalog}

    def objects(self) -> dict[str, bytes]:
        """Everything in the warehouse."""
        client, prefix = boto3.client("s3"), self.warehouse.removeprefix(f"s3://{BUCKET}/")
        listed = client.list_objects_v2(Bucket=BUCKET, Prefix=f"{prefix}/").get("Contents", ())
        return {each["Key"].removeprefix(f"{prefix}/"): client.get_object(Bucket=BUCKET, Key=each["Key"])["Body"].read() for each in listed}


@pytest.fixture(scope="module")
def store(swift_endpoint: str) -> Iterator[None]:
    settings = {
        "AWS_ENDPOINT_URL": swift_endpoint,
        "AWS_ACCESS_KEY_ID": s3_server.OWNER[0],
        "AWS_SECRET_ACCESS_KEY": s3_server.OWNER[1],
        "AWS_DEFAULT_REGION": "us-east-1",
        "AWS_EC2_METADATA_DISABLED": "true",
        "AWS_MAX_ATTEMPTS": "2",
    }
    with pytest.MonkeyPatch.context() as patched:
        for name, value in settings.items():
            patched.setenv(name, value)
        boto3.client("s3").create_bucket(Bucket=BUCKET)
        yield


@pytest.fixture
def place(store: None, postgres: PostgresServer, tmp_path: Path) -> Place:
    return Place(f"s3://{BUCKET}/{tmp_path.name}", postgres.database(), tmp_path)


@pytest.fixture(scope="module")
def ingest(store: None) -> Iterator[Ingest]:
    with killed_ingestion.running() as ask:
        yield ask


@pytest.fixture(scope="module")
def logs(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_logs(tmp_path_factory.mktemp("logs"), FILES, LINES, broken_every=60)


Accounts = tuple[tuple[int, ...], list[tuple[object, ...]], int]


def accounts(home: Home) -> Accounts:
    """The ledger's totals, every row but for what tells one home or object from another, and refused records."""
    lake = Lake(home)
    totals = lake.totals()
    with duckdb.connect() as connection:
        query = "SELECT * EXCLUDE (ingested_at, source_object, user_hash) FROM read_parquet($f) ORDER BY attempt_id"
        rows = connection.execute(query, {"f": list(lake.all_files())}).fetchall()
        refused = connection.execute("SELECT count(*) FROM read_parquet($f)", {"f": list(lake.quarantine_files())}).fetchone()[0]
    return (totals.records, totals.ingested, totals.quarantined, totals.duplicates, totals.objects), rows, refused


@pytest.fixture(scope="module")
def on_one_machine(logs: Path, tmp_path_factory: pytest.TempPathFactory) -> Accounts:
    home = Home(tmp_path_factory.mktemp("one-machine"))
    ingest_logs(home, str(logs), now_s=NOW_S)
    return accounts(home)


def assert_no_strays(place: Place) -> None:
    """No object that the lake does not refer to, and nothing that a dead writer wanted."""
    lake = Lake(place.worker("looking"))
    table = lake.iceberg.opened()
    assert table is not None
    manifests = [manifest for snapshot in table.metadata.snapshots for manifest in snapshot.manifests(table.io)]
    wanted = {entry.data_file.file_path for manifest in manifests for entry in manifest.fetch_manifest_entry(table.io)}
    wanted |= {manifest.manifest_path for manifest in manifests} | {snapshot.manifest_list for snapshot in table.metadata.snapshots}
    there = {f"{place.warehouse}/{name}" for name in place.objects() if name.endswith(".avro") or name.startswith("lake/data/")}
    assert there == wanted
    assert not any(name.startswith("lake/intents/") for name in place.objects())


def test_every_worker_goes_on_where_another_ended_with_an_empty_disk(place: Place, logs: Path, on_one_machine: Accounts) -> None:
    first = place.worker("first")
    assert ingest_logs(first, str(logs), now_s=NOW_S).objects_new == FILES
    shutil.rmtree(first.root)

    assert accounts(place.worker("second")) == on_one_machine
    assert ingest_logs(place.worker("third"), str(logs), now_s=NOW_S).objects_new == 0
    with pytest.raises(UnusableInputError, match="--add-source"):
        ingest_logs(place.worker("fourth"), str(logs / "0.jsonl"), now_s=NOW_S)
    # One key for all, and not in the bucket beside the hashes that it makes.
    key = place.worker("fifth").hash_key()
    assert key == place.worker("sixth").hash_key()
    assert not any(key.encode() in content for content in place.objects().values())

    assert mark_for_reading_again(place.worker("seventh"), prefix="1").objects == 1
    again = ingest_logs(place.worker("eighth"), str(logs), now_s=NOW_S)
    assert (again.objects_new, again.replaced > 0) == (1, True)
    assert accounts(place.worker("ninth")) == on_one_machine
    assert_no_strays(place)


def test_upkeep_and_forgetting_leave_nothing_behind_in_the_bucket(
    place: Place, logs: Path, ingest: Ingest, on_one_machine: Accounts
) -> None:
    home = place.worker("first")
    assert ingest([[[str(home.root), place.warehouse, place.catalog], str(logs), NOW_S, BATCH_BYTES, "", "", ""]]) == [0]
    done = maintain(place.worker("second"), kept_days=0)
    assert (done.files_before, done.files_after) == (FILES, 1)
    assert done.snapshots_expired > 0
    assert accounts(place.worker("third")) == on_one_machine

    ResultStore(home.files.below("results")).remember_rule_set("of-squad-of-b", "0" * 16)
    assert any(b"squad-of-b" in content for content in place.objects().values())
    gone = forget(place.worker("fourth"), "team", "squad-of-b")
    assert gone.attempts > 0
    left = {name: content for name, content in place.objects().items() if b"squad-of-b" in content}
    # What was asked is remembered, so that the same logs do not bring it back.
    assert {name.partition("-")[0] for name in left} == {"lake/side/forgotten"}
    assert not any(name.startswith("results/") for name in place.objects())
    assert ingest_logs(place.worker("fifth"), str(logs), now_s=NOW_S).ingested == 0
    assert_no_strays(place)


def test_days_that_one_worker_kept_are_found_by_another_with_an_empty_disk(
    place: Place, logs: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    ingest_logs(place.worker("first"), str(logs), now_s=NOW_S)
    monkeypatch.setattr(resolve, "MIN_REQUESTS", 1)
    made: list[Window] = []
    conform_days = day_cache.conform_days

    def noted(attempts: Any, window: Window, **options: Any) -> Any:
        made.append(window)
        return conform_days(attempts, window, **options)

    monkeypatch.setattr(day_cache, "conform_days", noted)

    def rows_of(worker: str, timeframe: str) -> tuple[int, str]:
        home = place.worker(worker)
        with open_engine("duckdb", spill_to=home.scratch / "spill") as engine:
            scope = resolve_scope(Lake(home), Parameters(timeframe=timeframe), engine=engine, engine_name="duckdb")  # type: ignore[arg-type]
            home.results.save("analysis_scope", scope.key, scope)
        reader = place.worker(f"reader of {worker}")
        with open_engine("duckdb", spill_to=reader.scratch / "spill") as engine:
            assert are_there(scope.requests_uri)
            return int(rows_at(engine, scope.requests_uri).count().execute()), scope.requests_uri

    daily = rows_of("second", "24h")
    assert len(made) == 1
    weekly = rows_of("third", "7d")
    assert (len(made), weekly[0]) == (1, daily[0])
    assert weekly[1] != daily[1]
    assert rows_of("fourth", "7d") == weekly
    assert any(name.startswith("days/") for name in place.objects())
    forget(place.worker("fifth"), "team", "squad-of-b")
    assert not any(name.startswith(("days/", "windows/")) for name in place.objects())
    assert 0 < rows_of("sixth", "7d")[0] < weekly[0]


@pytest.mark.parametrize(
    "point",
    [("BatchConformer", "finish"), ("Lake", "_with_added"), ("Lake", "commit")],
    ids=["before-anything-is-uploaded", "uploaded-and-not-committed", "committed"],
)
def test_a_killed_ingest_is_finished_by_another_worker(
    point: tuple[str, str], place: Place, logs: Path, ingest: Ingest, on_one_machine: Accounts
) -> None:
    dying = place.worker("dying")
    assert ingest([[[str(dying.root), place.warehouse, place.catalog], str(logs), NOW_S, BATCH_BYTES, *point, "after"]]) == [
        -signal.SIGKILL
    ]
    interim = Lake(place.worker("looking")).totals()
    assert interim.objects < FILES
    assert interim.records == interim.ingested + interim.quarantined + interim.duplicates

    ingest_logs(place.worker("next"), str(logs), now_s=NOW_S)
    assert accounts(place.worker("looking")) == on_one_machine
    assert_no_strays(place)


def test_two_machines_that_ingest_at_once_count_everything_once(place: Place, logs: Path, ingest: Ingest, on_one_machine: Accounts) -> None:
    runs = [
        [[str(place.folder / name), place.warehouse, place.catalog], str(logs), NOW_S, BATCH_BYTES, "", "", ""]
        for name in ("left", "right")
    ]
    assert ingest(runs) == [0, 0]
    assert accounts(place.worker("looking")) == on_one_machine
    assert_no_strays(place)


def test_a_writer_that_lost_its_lock_commits_nothing(place: Place, logs: Path, postgres: PostgresServer) -> None:
    home = place.worker("cut off")
    ingest_logs(home, str(logs / "0.jsonl"), now_s=NOW_S)
    lake, before = Lake(home), accounts(home)
    ledger = lake.side_table("ledger")
    with home.writing():
        # As when the network between them is gone: the server lets go of the lock, and another may hold it.
        postgres.run("SELECT pg_terminate_backend(pid) FROM pg_locks WHERE locktype = 'advisory'")
        with pytest.raises(ServiceUnavailableError, match="lock of the lake") as told:
            lake.commit(ledger=ledger)
    assert PASSWORD not in str(told.value)
    assert accounts(place.worker("looking")) == before


def test_the_whole_job_over_three_workers_delivers_what_one_machine_delivers(
    place: Place, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    demo = write_demo(tmp_path / "demo", requests=2_000)
    ingest = {"request_log": {"logs": str(demo.logs)}, "feedback": {"feedback": str(demo.feedback)}}
    alone = Home(tmp_path / "alone").create()
    # Whether users steer the router is asked by what their names are hashed to: with one key the homes must agree on it.
    alone.coordination.write_first(HASH_KEY, place.worker("keys").create().hash_key())
    compared = ("routing_analytics", "budget_projection", "routing_costs", "routing_evidence", "routing_rules")
    only = ("request_log", "feedback", "analysis_scope", *compared)
    run_job(alone, "optimize_routing", resources={"root": str(alone.root)}, ops=ingest, only=only)

    shared = {"warehouse": place.warehouse, "catalog": {"env": "TEST_CATALOG"}}
    later = ("routing_analytics", "routing_costs", "quality_metrics", "request_patterns", "model_performance", "routing_decisions")
    later = (*later, "bottlenecks", "cost_drivers", "quality_issues", "budget_projection")
    early = ("request_log", "feedback", "analysis_scope", "routing_evidence")
    with pytest.MonkeyPatch.context() as patched:
        patched.setenv("TEST_CATALOG", place.catalog)
        for name, only, leave_out in (("reads", early, ()), ("analyses", later, ()), ("delivers", (), (*early, *later))):
            worker = place.worker(name).create()
            assert [path.name for path in worker.root.iterdir()] == []
            resources = {"root": str(worker.root), **shared}
            run_job(worker, "optimize_routing", resources=resources, ops=ingest if name == "reads" else {}, only=only, leave_out=leave_out)

    ours = json.loads((place.folder / "delivers/report/report.json").read_text())
    for section in compared:
        theirs = next((alone.root / "results").glob(f"*/{section}.json"))
        assert differing(ours[section], json.loads(theirs.read_text()), section) == []
    assert place.objects()["report/report.json"] == (place.folder / "delivers/report/report.json").read_bytes()
    # The password is nowhere: not in what runs are remembered by, not in the report, not in the bucket.
    remembered = [
        path.read_bytes() for name in ("reads", "analyses", "delivers") for path in (place.folder / name).rglob("*") if path.is_file()
    ]
    assert not any(PASSWORD.encode() in content for content in (*remembered, *place.objects().values()))

    # A command on one more machine makes the same files again, and answers from what was found.
    with pytest.MonkeyPatch.context() as patched:
        for name, value in place.environment().items():
            patched.setenv(name, value)
        code, told = spoken(capfd, "report", "--out", str(tmp_path / "again"), "--home", str(tmp_path / "fifth"))
    assert code == 0, told
    assert PASSWORD not in told
    assert (tmp_path / "again/report.html").read_bytes() == place.objects()["report/report.html"]


def differing(ours: Any, theirs: Any, at: str) -> list[str]:
    """Where two results differ by more than the last digits, in which sums of several threads do; addresses and moments apart."""
    if isinstance(ours, dict) and isinstance(theirs, dict) and ours.keys() == theirs.keys():
        names = ours.keys() - {"cells_uri", "snapshot_id", "rule_set_id"}
        return [each for name in names for each in differing(ours[name], theirs[name], f"{at}.{name}")]
    if isinstance(ours, list) and isinstance(theirs, list) and len(ours) == len(theirs):
        return [each for place, pair in enumerate(zip(ours, theirs, strict=True)) for each in differing(*pair, f"{at}[{place}]")]
    if isinstance(ours, float) and isinstance(theirs, float) and math.isclose(ours, theirs, rel_tol=1e-9, abs_tol=1e-9):
        return []
    return [] if ours == theirs else [f"{at}: {ours} here, {theirs} there"]


def spoken(capfd: pytest.CaptureFixture[str], *words: str, **settings: str) -> tuple[int, str]:
    capfd.readouterr()
    code = 0
    with pytest.MonkeyPatch.context() as patched:
        patched.setattr(sys, "argv", ["routing-pipeline", *words])
        for name, value in settings.items():
            patched.setenv(name, value)
        try:
            main()
        except SystemExit as ended:
            code = int(ended.code or 0)
    return code, "".join(capfd.readouterr())


def test_what_cannot_be_reached_is_named_in_one_line_without_a_secret(
    place: Place, postgres: PostgresServer, logs: Path, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    words = ("ingest", "--logs", str(logs), "--home", str(tmp_path / "home"))
    warehouse, catalog, secret = place.warehouse, place.catalog, "other-secret-4711"
    name = catalog.rpartition("/")[2]
    cases = [
        (4, "Postgres at 127.0.0.1:1/x does not answer", warehouse, f"postgresql://u:{secret}@127.0.0.1:1/x"),
        (2, "refused the user or the password", warehouse, postgres.uri(name, secret)),
        (2, "no such database", warehouse, postgres.uri("nothing")),
        (2, "postgresql://user:password@host", warehouse, f"mysql://u:{secret}@h/x"),
        (2, "cannot be read", warehouse, f"postgresql://u:{secret}@127.0.0.1:not-a-port/x?oops={secret}"),
        (2, "together", warehouse, ""),
        (2, "together", "", catalog),
        (2, "no bucket nowhere", "s3://nowhere/lake", catalog),
        (2, "give s3://bucket/prefix", "gs://bucket/lake", catalog),
        (2, "credentials do not belong", f"s3://key:{secret}@bucket/lake", catalog),
    ]
    for expected, said, *given in cases:
        code, told = spoken(capfd, *words, ROUTING_PIPELINE_WAREHOUSE=given[0], ROUTING_PIPELINE_CATALOG=given[1])
        assert (code, said in told) == (expected, True), told
        assert told.strip().count("\n") == 0
        assert secret not in told
        assert PASSWORD not in told

    # A store that is down is asked for by its client, which is made once per process.
    down = place.environment() | {"AWS_ENDPOINT_URL": "http://127.0.0.1:1"}
    done = subprocess.run(
        [Path(sys.executable).with_name("routing-pipeline"), *words], env=down, capture_output=True, text=True, check=False, timeout=120
    )
    assert (done.returncode, "the endpoint does not answer" in done.stderr, done.stderr.strip().count("\n")) == (4, True, 0), done.stderr


def test_a_cluster_is_refused_where_its_workers_could_read_nothing(place: Place, capfd: pytest.CaptureFixture[str], logs: Path) -> None:
    words = (
        "run",
        "--logs",
        str(logs),
        "--out",
        str(place.folder / "out"),
        "--home",
        str(place.folder / "home"),
        "--engine",
        "spark://h:7077",
    )
    code, told = spoken(capfd, *words, ROUTING_PIPELINE_WAREHOUSE=place.warehouse, ROUTING_PIPELINE_CATALOG=place.catalog)
    assert (code, "Spark reads no warehouse" in told, told.strip().removeprefix("starting\n").count("\n")) == (2, True, 0), told
