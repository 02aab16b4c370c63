"""The same report on both engines: DuckDB in this process, Spark on two threads of this machine.

Counts, names and times must be equal, floating-point sums to 1e-9 relative (the order of addition differs).
"""

from __future__ import annotations

import importlib
import importlib.util
import math
import shutil
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import ibis
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
import pytest

from routing_pipeline.catalog import Catalog
from routing_pipeline.demo import traffic
from routing_pipeline.estimates import Result
from routing_pipeline.parameters import Parameters
from routing_pipeline.policy.evidence import gather_evidence
from routing_pipeline.policy.evidence_model import RoutingEvidence
from routing_pipeline.schema import SCOPED_REQUESTS, column_names
from routing_pipeline.window.conform import conform
from routing_pipeline.window.engine import Engine, open_engine
from routing_pipeline.window.resolve import resolve_scope
from routing_pipeline.window.rows import rows_at
from routing_pipeline.window.scope import AnalysisScope, Window, missing_sources
from tests.lakes import lake_of

pytestmark = [
    pytest.mark.skipif(shutil.which("java") is None, reason="Spark needs Java 17, and there is no `java` here"),
    pytest.mark.skipif(importlib.util.find_spec("pyspark") is None, reason="pyspark is not installed; the extra `spark` brings it"),
]

START_S = traffic.WEEK_START.timestamp()
WINDOW = Window(START_S, START_S + 7 * 86_400)
PARAMETERS = Parameters(budget=500.0, budgets_by_team={"growth": 50.0}, cost_threshold=0.01)


@dataclass(frozen=True)
class Side:
    """One engine with the conformed rows of the week and of the week before."""

    engine: Engine
    requests: ibis.Table
    previous: ibis.Table


@dataclass(frozen=True)
class Sides:
    """Both engines over the same log."""

    duckdb: Side
    spark: Side
    scope: AnalysisScope
    evidence: RoutingEvidence
    folder: Path


def two_weeks() -> tuple[pa.Table, pa.Table]:
    """20,000 requests, and 5,000 of the week before in which every fifth attempt lacks what a gateway may fail to log."""
    week, before = traffic.traffic(20_000), traffic.traffic(5_000, seed=7)
    back = pa.scalar(timedelta(days=7))
    earlier = before.attempts
    place = pa.array(range(earlier.num_rows))
    lacks = pc.equal(pc.subtract(place, pc.multiply(pc.divide(place, 5), 5)), 0)
    for name in ("complexity", "task_type", "cost_usd", "cached_tokens", "session_id", "team", "is_cache_hit"):
        column = pc.if_else(lacks, pa.scalar(None, earlier[name].type), earlier[name])
        earlier = earlier.set_column(earlier.schema.get_field_index(name), name, column)
    moved = pc.subtract(earlier["started_at"], back)
    earlier = earlier.set_column(earlier.schema.get_field_index("started_at"), "started_at", moved)
    return pa.concat_tables([earlier, week.attempts]), pa.concat_tables([before.feedback, week.feedback])


def conformed(engine: Engine, folder: Path) -> Side:
    """Conform both weeks on one engine, write them with it, and read them back as the analyses do."""
    attempts, feedback = (engine.read_parquet([folder / f"{name}.parquet"]) for name in ("attempts", "feedback"))
    tables = []
    for name, window in (("requests", WINDOW), ("previous", WINDOW.previous)):
        rows = conform(attempts, window, catalog=Catalog(), feedback=feedback)
        path = folder / engine.name / f"{name}.parquet"
        engine.write_parquet(rows, path)
        tables.append(engine.read_parquet([path]))
    return Side(engine, *tables)


def described(side: Side) -> AnalysisScope:
    """The scope of the week."""
    rows = side.requests
    counts = rows.agg(
        attempts=rows.count(), requests=rows.is_final.sum(), labelled=rows.quality.count(), sessions=rows.session_id.nunique()
    )
    names = {name: tuple(sorted(rows[name].value_counts()[name].to_pyarrow().to_pylist())) for name in ("model", "task_type")}
    return AnalysisScope(
        key="two-engines",
        parameters=PARAMETERS,
        timeframe_asked="7d",
        timeframe="7d",
        start_s=WINDOW.start_s,
        end_s=WINDOW.end_s,
        previous_start_s=WINDOW.previous.start_s,
        snapshot_id="1",
        **counts.to_pyarrow().to_pylist()[0],
        previous_requests=5_000,
        models=names["model"],
        task_types=names["task_type"],
        complexity_derived_share=0.0,
        task_type_unknown_share=0.0,
        sources=missing_sources({"cost_usd": 1.0, "quality": 0.3, "task_type": 1.0, "complexity": 1.0, "session_id": 1.0}),
        requests_uri="requests",
        previous_uri="previous",
    )


@pytest.fixture(scope="module")
def sides(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Sides]:
    folder = tmp_path_factory.mktemp("engines")
    for name, table in zip(("attempts", "feedback"), two_weeks(), strict=True):
        pq.write_table(table, folder / f"{name}.parquet")
    with open_engine("duckdb") as duckdb, open_engine("local[2]") as spark:
        first = conformed(duckdb, folder)
        scope = described(first)
        evidence = gather_evidence(first.requests, scope, cells_path=folder / "cells.parquet")
        yield Sides(first, conformed(spark, folder), scope, evidence, folder)


def differences(one: Any, other: Any, at: str = "") -> list[str]:
    """Every place in which two results differ."""
    if isinstance(one, Result):
        one, other = one.model_dump(), other.model_dump()
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


@pytest.mark.parametrize("table", ["requests", "previous"])
def test_both_engines_conform_a_log_to_the_same_rows(sides: Sides, table: str) -> None:
    assert [side.requests.get_backend().name for side in (sides.duckdb, sides.spark)] == ["duckdb", "pyspark"]
    one, other = (getattr(side, table).order_by("attempt_id").to_pyarrow() for side in (sides.duckdb, sides.spark))
    assert one.num_rows == other.num_rows > 5_000
    assert tuple(one.column_names) == tuple(other.column_names) == column_names(SCOPED_REQUESTS)
    assert [str(field.type) for field in one.schema] == [str(field.type) for field in other.schema]
    for name in one.column_names:
        assert differences(one[name].to_pylist(), other[name].to_pylist(), name)[:5] == []


def test_both_engines_keep_days_and_put_the_same_windows_together(sides: Sides) -> None:
    attempts, feedback = (pq.read_table(sides.folder / f"{name}.parquet") for name in ("attempts", "feedback"))
    for side in (sides.duckdb, sides.spark):
        lake = lake_of(sides.folder / f"home-{side.engine.name}", attempts, feedback)
        options: dict[str, Any] = {"engine": side.engine, "engine_name": side.engine.name}
        scope = resolve_scope(lake, Parameters(as_of=datetime.fromtimestamp(WINDOW.end_s, UTC)), **options)
        kept = {path: path.stat().st_ino for path in lake.home.days.iterdir()}
        assert len(kept) == 14
        day_of = resolve_scope(lake, Parameters(timeframe="24h", as_of=datetime.fromtimestamp(WINDOW.end_s, UTC)), **options)
        assert {path: path.stat().st_ino for path in lake.home.days.iterdir()} == kept
        assert rows_at(side.engine, day_of.requests_uri).count().to_pyarrow().as_py() == day_of.attempts < scope.attempts
        for location, whole in ((scope.requests_uri, side.requests), (scope.previous_uri, side.previous)):
            one, other = (table.order_by("attempt_id").to_pyarrow() for table in (rows_at(side.engine, location), whole))
            assert tuple(one.column_names) == tuple(other.column_names)
            assert one.num_rows == other.num_rows
            for name in one.column_names:
                assert differences(one[name].to_pylist(), other[name].to_pylist(), name)[:5] == []


def test_engines_opened_meanwhile_share_the_application_and_give_back_what_they_held(sides: Sides) -> None:
    context: Any = sides.spark.engine.backend._session.sparkContext  # type: ignore[attr-defined]
    kept = set(context._jsc.getPersistentRDDs())
    with open_engine("local[2]") as other:
        assert other.backend._session.sparkContext.applicationId == context.applicationId  # type: ignore[attr-defined]
        held = other.held(other.read_parquet([sides.folder / "spark" / "requests.parquet"]).select("model"))
        assert [held.count().to_pyarrow().as_py() for _ in range(2)] == [sides.duckdb.requests.count().to_pyarrow().as_py()] * 2
        assert len(set(context._jsc.getPersistentRDDs()) - kept) == 1
    assert set(context._jsc.getPersistentRDDs()) <= kept
    assert sides.spark.requests.count().to_pyarrow().as_py() > 5_000


def test_writing_twice_replaces_what_lies_there(sides: Sides) -> None:
    for side in (sides.duckdb, sides.spark):
        path = sides.folder / "again" / side.engine.name
        for rows in (3, 2):
            side.engine.write_parquet(side.requests.order_by("attempt_id").limit(rows), path)
        assert side.engine.read_parquet([path]).count().to_pyarrow().as_py() == 2


ANALYSES = {
    "routing_analytics": (),
    "routing_costs": ("previous",),
    "quality_metrics": ("evidence",),
    "request_patterns": ("previous",),
    "bottlenecks": (),
    "model_performance": ("evidence",),
    "routing_decisions": ("evidence",),
    "cost_drivers": ("previous", "evidence"),
    "quality_issues": ("evidence",),
}
"""Every analysis, and what it reads besides the requests and their scope."""


@pytest.mark.parametrize("name", ANALYSES)
def test_both_engines_report_the_same(sides: Sides, name: str) -> None:
    analysis = getattr(importlib.import_module(f"routing_pipeline.analysis.{name}"), name)
    found = []
    for side in (sides.duckdb, sides.spark):
        previous = [side.previous] if "previous" in ANALYSES[name] else []
        evidence = [sides.evidence] if "evidence" in ANALYSES[name] else []
        found.append(analysis(side.requests, *previous, sides.scope, *evidence))
    assert differences(*found)[:10] == []


def test_both_engines_gather_the_same_evidence(sides: Sides) -> None:
    found = gather_evidence(sides.spark.requests, sides.scope, cells_path=sides.folder / "spark-cells.parquet")
    assert differences(sides.evidence.model_copy(update={"cells_uri": None}), found.model_copy(update={"cells_uri": None}))[:10] == []
