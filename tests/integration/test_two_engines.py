"""The same pipeline on both engines: DuckDB in this process, Spark on a standalone cluster of two workers that also read the logs.

Counts, names and times must be equal, floating-point sums to 1e-9 relative (the order of addition differs).
"""

from __future__ import annotations

import json
import math
import os
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
import pytest
import spark_cluster
from in_process import delivered
from killed_ingestion import write_logs

from routing_pipeline.data_quality import suite
from routing_pipeline.data_quality.expectations import BLOCKING, COMPLETENESS
from routing_pipeline.data_quality.row_checks import validate
from routing_pipeline.demo import traffic
from routing_pipeline.demo.logs import write_demo
from routing_pipeline.ingest import shares
from routing_pipeline.ingest.ingestion import ingest_logs
from routing_pipeline.lake.side_tables import arrow_schema
from routing_pipeline.lake.table import Lake
from routing_pipeline.parameters import Parameters
from routing_pipeline.schema import REQUEST_LOG, SCOPED_REQUESTS, column_names
from routing_pipeline.storage.home import Home
from routing_pipeline.window.engine import Engine, open_engine
from routing_pipeline.window.on_workers import SparkWorkers
from routing_pipeline.window.resolve import resolve_scope
from routing_pipeline.window.rows import rows_at
from routing_pipeline.window.scope import AnalysisScope, Window
from routing_pipeline.window.spark import LOG, one_application
from tests.lakes import with_columns

pytestmark = spark_cluster.NEEDS_SPARK

REQUESTS, REQUESTS_BEFORE = 2_400, 600
END_S = traffic.WEEK_START.timestamp() + 7 * 86_400
NOW_S = 1_795_500_000.0
SETTINGS = {
    "spark.executor.memory": "600m",
    "spark.sql.shuffle.partitions": "2",
    # For a few thousand rows, and processes that live for a minute, it is not worth compiling code, nor planning anew between stages.
    "spark.executor.extraJavaOptions": "-XX:TieredStopAtLevel=1 -XX:+UseSerialGC",
    "spark.driver.extraJavaOptions": "-XX:TieredStopAtLevel=1 -XX:+UseSerialGC",
    "spark.sql.codegen.wholeStage": "false",
    "spark.sql.codegen.factoryMode": "NO_CODEGEN",
    "spark.sql.adaptive.enabled": "false",
}
SCOPE_OF_ITS_OWN = ("key", "rows_key", "window_key", "requests_uri", "previous_uri", "engine")
ITS_OWN = (*(f".scope.{name}" for name in SCOPE_OF_ITS_OWN), ".snapshot_id", ".cells_uri", ".rule_set_id", ".rule_set_status.next_step")
"""How places of a report end that say which run and which home it is of, beside all of `run`."""
BY_THE_CLOCK = ".numbers.lag_s"
"""Measured against the moment of the run."""


@dataclass(frozen=True)
class Side:
    """What one engine made of the logs."""

    engine: Engine
    name: str
    home: Home
    report: dict[str, Any]
    scope: AnalysisScope

    def rows(self, location: str) -> pa.Table:
        """Rows of a window, as the analyses read them."""
        return rows_at(self.engine, location).order_by("attempt_id").to_pyarrow()


@dataclass(frozen=True)
class Sides:
    """Both engines over the same logs."""

    duckdb: Side
    spark: Side


@pytest.fixture(scope="module")
def cluster(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """Where the cluster is; all that this file asks of it is one application."""
    with pytest.MonkeyPatch.context() as patch, spark_cluster.running(tmp_path_factory.mktemp("cluster")) as master:
        patch.setenv("SPARK_LOCAL_IP", "127.0.0.1")
        # A few lines are enough to be read in shares.
        patch.setattr(shares, "SHARE_BYTES", 4 << 20)
        # Nor is anything too little to be checked by workers.
        patch.setattr(suite, "CHECKED_HERE_BYTES", 0)
        with one_application(lambda: SETTINGS):
            yield master


@pytest.fixture(scope="module")
def logs(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A week as LiteLLM logs it, and the week before, of which every fifth attempt lacks what a gateway may fail to log."""
    folder = tmp_path_factory.mktemp("logs")
    write_demo(folder, requests=REQUESTS)
    before = traffic.traffic(REQUESTS_BEFORE, seed=7).attempts
    place = pa.array(range(before.num_rows))
    lacks = pc.equal(pc.subtract(place, pc.multiply(pc.divide(place, 5), 5)), 0)
    for name in ("complexity", "task_type", "cost_usd", "cached_tokens", "session_id", "team", "is_cache_hit"):
        column = pc.if_else(lacks, pa.scalar(None, before[name].type), before[name])
        before = before.set_column(before.schema.get_field_index(name), name, column)
    moved = pc.subtract(before["started_at"], pa.scalar(timedelta(days=7)))
    pq.write_table(before.set_column(before.schema.get_field_index("started_at"), "started_at", moved), folder / "logs" / "before.parquet")
    return folder


@pytest.fixture(scope="module")
def sides(cluster: str, logs: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Sides]:
    folder = tmp_path_factory.mktemp("homes")
    (config := folder / "routing.toml").write_text("cost_threshold = 0.01\n[spark]\ningest = true\n", encoding="utf-8")
    found = {}
    with open_engine("duckdb") as duckdb, open_engine(cluster) as spark:
        for name, engine in (("duckdb", duckdb), (cluster, spark)):
            home, out = Home(folder / engine.name), folder / f"{engine.name}-report"
            given = {"--logs": logs / "logs", "--feedback": logs / "feedback", "--home": home.root, "--out": out, "--config": config}
            # One key, so that hashes of users are equal.
            home.create().coordination.write_first("hash.key", "0" * 64)
            delivered("run", *(word for pair in given.items() for word in pair), "--engine", name)
            report = json.loads((out / "report.json").read_text(encoding="utf-8"))
            asked = Parameters(as_of=datetime.fromtimestamp(END_S, UTC))
            scope = resolve_scope(Lake(home), asked, engine=engine, engine_name=name)
            found[engine.name] = Side(engine, name, home, report, scope)
        yield Sides(**found)


def differences(one: Any, other: Any, at: str = "") -> list[str]:
    """Every place in which two results differ."""
    if isinstance(one, dict) and isinstance(other, dict):
        if list(one) != list(other):
            return [f"{at}: {list(one)} != {list(other)}"]
        return [found for key in one for found in differences(one[key], other[key], f"{at}.{key}")]
    if isinstance(one, list | tuple) and isinstance(other, list | tuple):
        if len(one) != len(other):
            return [f"{at}: {len(one)} entries != {len(other)} entries"]
        return [found for place, pair in enumerate(zip(one, other, strict=True)) for found in differences(*pair, f"{at}[{place}]")]
    if isinstance(one, float) and isinstance(other, float):
        return [] if math.isclose(one, other, rel_tol=1e-9, abs_tol=1e-12) else [f"{at}: {one!r} != {other!r}"]
    return [] if one == other and type(one) is type(other) else [f"{at}: {one!r} != {other!r}"]


def test_a_difference_in_any_place_is_noticed() -> None:
    assert differences({"a": [1.0, {"b": 2}]}, {"a": [1.0 + 1e-12, {"b": 2}]}) == []
    assert differences({"a": [1.0, {"b": 2}]}, {"a": [1.0 + 1e-6, {"b": 3}]}) == [".a[0]: 1.0 != 1.000001", ".a[1].b: 2 != 3"]
    assert differences([1, 2], [1]) == [": 2 entries != 1 entries"]
    assert differences(1, 1.0) == [": 1 != 1.0"]


def test_both_engines_deliver_the_same_report(sides: Sides) -> None:
    one, other = sides.duckdb.report, sides.spark.report
    assert (one["run"]["engine"], other["run"]["engine"]) == ("duckdb", sides.spark.name)
    found = [each for each in differences(one, other) if not each.startswith(".run.")]
    assert [each for each in found if not each.partition(":")[0].endswith((*ITS_OWN, BY_THE_CLOCK))] == []
    assert values(one) > 15_000


def values(part: Any) -> int:
    """How many values a part of a report has."""
    if isinstance(part, dict | list):
        return sum(map(values, part.values() if isinstance(part, dict) else part))
    return 1


def test_workers_read_the_logs_and_the_lake_is_the_same(sides: Sides) -> None:
    one, other = (Lake(side.home) for side in (sides.duckdb, sides.spark))
    batches = [{Path(file).parent for file in lake.all_files()} for lake in (one, other)]
    assert len(batches[0]) == 1 < len(batches[1])
    assert one.totals() == other.totals()
    assert min(one.totals().quarantined, one.totals().duplicates) > 0
    for name in ("ledger", "quarantine"):
        apart = [
            sorted(json.dumps({**row, "committed_at": 0, "quarantined_at": 0}, default=str) for row in lake.side_table(name).to_pylist())
            for lake in (one, other)
        ]
        assert apart[0] == apart[1]


ENDS_WITHIN = """
import sys
from pathlib import Path

from pyspark import SparkContext

from routing_pipeline.errors import ServiceUnavailableError
from routing_pipeline.window.engine import open_engine

home = Path(sys.argv[1])
try:
    with open_engine("local[1]", spill_to=home / "spill") as engine:
        rows = engine.backend.sql("SELECT 1 AS one")
        engine.held(rows).execute()
        SparkContext._gateway.proc.kill()
        rows.execute()
except ServiceUnavailableError as error:
    print(error)
"""


def test_a_java_process_that_ends_meanwhile_is_told_as_a_service_that_is_gone(cluster: str, tmp_path: Path) -> None:
    done = subprocess.run([sys.executable, "-c", ENDS_WITHIN, str(tmp_path)], capture_output=True, text=True, timeout=120, check=True)
    assert done.stdout == f"--engine local[1]: Spark's Java process has ended; its words are in {tmp_path / LOG}\n"


@pytest.mark.parametrize("window", ["requests_uri", "previous_uri"])
def test_both_engines_conform_a_window_to_the_same_rows(sides: Sides, window: str) -> None:
    assert [side.engine.backend.name for side in (sides.duckdb, sides.spark)] == ["duckdb", "pyspark"]
    one, other = (side.rows(getattr(side.scope, window)) for side in (sides.duckdb, sides.spark))
    assert one.num_rows == other.num_rows >= REQUESTS_BEFORE
    assert tuple(one.column_names) == tuple(other.column_names) == column_names(SCOPED_REQUESTS)
    assert [str(field.type) for field in one.schema] == [str(field.type) for field in other.schema]
    for name in one.column_names:
        assert differences(one[name].to_pylist(), other[name].to_pylist(), name)[:5] == []


def test_workers_count_every_breach_that_one_process_counts(cluster: str, tmp_path: Path) -> None:
    rows = with_columns(traffic.traffic(300).attempts, arrow_schema(REQUEST_LOG)).slice(0, 300).to_pylist()
    for place, breach in enumerate(
        (
            {"cost_usd": -1.0},
            {"cost_usd": math.nan, "latency_ms": math.inf},
            {"cost_usd": 1e9, "prompt_tokens": -1},
            {"status": "late", "quality_score": 1.5},
            {"attempt_id": rows[99]["attempt_id"], "model": None, "propensity": 0.0},
            {"started_at": datetime(2031, 1, 1), "ingested_at": datetime(2030, 1, 1)},
            {"operation": "embedding", "session_id": None},
        )
    ):
        rows[place * 10] |= breach
    pq.write_table(pa.Table.from_pylist(rows, arrow_schema(REQUEST_LOG)), file := str(tmp_path / "rows.parquet"))
    window = Window(traffic.WEEK_START.timestamp(), END_S)
    with open_engine(cluster) as engine:
        for rules in (BLOCKING, COMPLETENESS):
            here = validate(rules, [file], window)
            assert validate(rules, [file], window, engine=engine) == here
            assert any(not each.passed for each in here)


def test_both_engines_keep_days_and_make_another_window_of_them(sides: Sides) -> None:
    attempts = set()
    for side in (sides.duckdb, sides.spark):
        kept = {path: path.stat().st_ino for path in side.home.days.iterdir()}
        assert len(kept) >= 14
        asked = Parameters(as_of=datetime.fromtimestamp(END_S - 86_400, UTC))
        earlier = resolve_scope(Lake(side.home), asked, engine=side.engine, engine_name=side.name)
        assert kept.items() <= {path: path.stat().st_ino for path in side.home.days.iterdir()}.items()
        assert rows_at(side.engine, earlier.requests_uri).count().to_pyarrow().as_py() == earlier.attempts != side.scope.attempts
        attempts.add(earlier.attempts)
    assert len(attempts) == 1


def test_engines_opened_meanwhile_share_the_application_and_give_back_what_they_held(sides: Sides) -> None:
    context: Any = sides.spark.engine.backend._session.sparkContext  # type: ignore[attr-defined]
    kept = set(context._jsc.getPersistentRDDs())
    with open_engine(sides.spark.name) as other:
        assert other.backend._session.sparkContext.applicationId == context.applicationId  # type: ignore[attr-defined]
        held = other.held(rows_at(other, sides.spark.scope.requests_uri).select("model"))
        assert [held.count().to_pyarrow().as_py() for _ in range(2)] == [sides.duckdb.scope.attempts] * 2
        assert len(set(context._jsc.getPersistentRDDs()) - kept) == 1
    assert set(context._jsc.getPersistentRDDs()) <= kept


def test_writing_twice_replaces_what_lies_there(sides: Sides, tmp_path: Path) -> None:
    for side in (sides.duckdb, sides.spark):
        path, requests = tmp_path / side.engine.name, rows_at(side.engine, side.scope.requests_uri)
        for rows in (3, 2):
            side.engine.write_parquet(requests.order_by("attempt_id").limit(rows), path)
        assert side.engine.read_parquet([path]).count().to_pyarrow().as_py() == 2


def test_what_was_written_anew_is_read_anew_also_under_its_name(sides: Sides, tmp_path: Path) -> None:
    for side in (sides.duckdb, sides.spark):
        path, requests = tmp_path / side.engine.name, rows_at(side.engine, side.scope.requests_uri)
        for columns in (("attempt_id", "model"), ("attempt_id", "team")):
            side.engine.write_parquet(requests.select(*columns).order_by("attempt_id").limit(2), path)
            named = side.engine.named(side.engine.read_parquet([path]), "read twice")
            assert tuple(named.to_pyarrow().column_names) == columns


class DyingOnce:
    """Workers each of which dies when it has done its first share, before it can say so."""

    def __init__(self, workers: SparkWorkers, marks: Path) -> None:
        self.workers = workers
        self.marks = marks

    def each(self, work: Callable[[Any], Any], given: Sequence[Any]) -> Iterator[Any]:
        marks = self.marks

        def dies_first(share: Any) -> Any:
            found, mark = work(share), marks / str(share.objects[0][0])
            if not mark.exists():
                mark.touch()
                os.kill(os.getpid(), signal.SIGKILL)
            return found

        return self.workers.each(dies_first, given)


def test_workers_that_die_and_are_started_again_leave_no_row_twice_and_nothing_lying_about(
    cluster: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(shares, "SHARE_BYTES", 1)
    logs, marks, home = (tmp_path / name for name in ("logs", "marks", "home"))
    logs.mkdir()
    marks.mkdir()
    write_logs(logs, 3, 100, broken_every=100)
    here = ingest_logs(Home(tmp_path / "here"), str(logs), now_s=NOW_S)
    there = ingest_logs(Home(home), str(logs), now_s=NOW_S, workers=DyingOnce(SparkWorkers(cluster, tmp_path / "spark.log"), marks))
    assert len(list(marks.iterdir())) == 3
    apart = {"seconds", "snapshot_id"}
    assert there.model_dump(exclude=apart) == here.model_dump(exclude=apart)
    lake = Lake(Home(home))
    ids = [row for file in lake.all_files() for row in pq.ParquetFile(file).read(["attempt_id"])["attempt_id"].to_pylist()]
    assert len(ids) == len(set(ids)) == there.ingested
    assert {str(path) for path in (home / "lake" / "data").rglob("*.parquet")} == set(lake.all_files())
    assert list((home / "scratch").glob("ingest-*")) == []
