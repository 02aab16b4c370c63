"""What many tests share: a small made-up week, conformed once per test run."""

from __future__ import annotations

import gc
import math
import os
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import ibis
import pyarrow.parquet as pq
import pytest

from routing_pipeline import beside
from routing_pipeline.beside import LOOKED_FOR_CYCLES
from routing_pipeline.catalog import Catalog
from routing_pipeline.demo import traffic as demo_traffic
from routing_pipeline.parameters import Parameters
from routing_pipeline.window import compiled
from routing_pipeline.window.compiled import CompilingOnce
from routing_pipeline.window.conform import conform
from routing_pipeline.window.engine import Engine, open_engine
from routing_pipeline.window.scope import AnalysisScope, Window, missing_sources
from tests.known_queries import KnownQueries, folder_of

pytest_plugins = ("tests.hand_made", "tests.made_up_report", "tests.delivered_week")

# Commands that tests start would else compile everything that they import each time: a third of their CPU.
os.environ.pop("PYTHONDONTWRITEBYTECODE", None)
sys.dont_write_bytecode = False
# As the command line does before it loads anything.
gc.set_threshold(*LOOKED_FOR_CYCLES)


@pytest.fixture(scope="session")
def known_queries(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Where every process of this test run finds what another one has compiled."""
    return folder_of(tmp_path_factory)


@pytest.fixture(scope="session", autouse=True)
def tables_in_memory(known_queries: Path) -> Iterator[None]:
    """Rows that a test writes by hand are asked through the product's own backend, which compiles each query once."""
    ibis.set_backend(CompilingOnce().connect(":memory:"))
    with pytest.MonkeyPatch.context() as patched:
        patched.setattr(compiled, "_queries", KnownQueries(known_queries))
        yield


@pytest.fixture
def of_a_command(monkeypatch: pytest.MonkeyPatch) -> None:
    """This process is a command's, on a machine of two cores: it may open a second one."""
    monkeypatch.setattr(beside, "_is_command", True)
    monkeypatch.setattr(os, "cpu_count", lambda: 2)


@pytest.hookimpl(optionalhook=True)
def pytest_xdist_auto_num_workers() -> int:
    """Half as many workers again as there are cores: tests wait for servers and processes about a third of their time."""
    return math.ceil(1.5 * (os.cpu_count() or 1))


LONG = ("integration", "simulation", "policy", "window", "recommendation", "glue", "ingest", "test_library.py", "shared", "report")
"""Where files take minutes or half of one, in the order in which they begin."""


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Files that take minutes begin first and those of seconds last, so that workers end together."""
    items.sort(key=lambda item: next((place for place, folder in enumerate(LONG) if folder in item.path.parts), len(LONG)))


@dataclass(frozen=True)
class ConformedWeek:
    """A conformed window, the (empty) window before it, and its scope; tables belong to `engine`."""

    engine: Engine
    requests: ibis.Table
    previous: ibis.Table
    scope: AnalysisScope


def conformed_week(engine: Engine, traffic: demo_traffic.Traffic, folder: Path, parameters: Parameters | None = None) -> ConformedWeek:
    """Conform a made-up week into `folder` and describe it as `analysis_scope` would."""
    parameters = parameters or Parameters()
    pq.write_table(traffic.attempts, folder / "attempts.parquet")
    pq.write_table(traffic.feedback, folder / "feedback.parquet")
    attempts = engine.read_parquet([folder / "attempts.parquet"])
    feedback = engine.read_parquet([folder / "feedback.parquet"])
    start_s = demo_traffic.WEEK_START.timestamp()
    window = Window(start_s, start_s + 7 * 86_400)
    for name, part in (("requests", window), ("previous", window.previous)):
        rows = conform(attempts, part, catalog=Catalog(parameters.models), feedback=feedback, task_types=parameters.task_types)
        engine.write_parquet(rows, folder / f"{name}.parquet")
    requests = engine.read_parquet([folder / "requests.parquet"])
    previous = engine.read_parquet([folder / "previous.parquet"])
    counts = (
        requests.agg(
            attempts=requests.count(),
            requests=requests.is_final.sum(),
            labelled=requests.quality.notnull().sum(),
            sessions=requests.session_id.nunique(),
        )
        .to_pyarrow()
        .to_pylist()[0]
    )
    scope = AnalysisScope(
        key="test",
        parameters=parameters,
        timeframe_asked="7d",
        timeframe="7d",
        start_s=window.start_s,
        end_s=window.end_s,
        previous_start_s=window.previous.start_s,
        snapshot_id="1",
        **counts,
        previous_requests=0,
        models=tuple(sorted(requests.select("model").distinct().model.to_pyarrow().to_pylist())),
        task_types=tuple(sorted(requests.select("task_type").distinct().task_type.to_pyarrow().to_pylist())),
        complexity_derived_share=0.0,
        task_type_unknown_share=0.0,
        sources=missing_sources({"cost_usd": 1.0, "quality": 0.3, "task_type": 1.0, "complexity": 1.0, "session_id": 1.0}),
        requests_uri=str(folder / "requests.parquet"),
        previous_uri=str(folder / "previous.parquet"),
    )
    return ConformedWeek(engine, requests, previous, scope)


@pytest.fixture(scope="session")
def week(tmp_path_factory: pytest.TempPathFactory) -> Iterator[ConformedWeek]:
    """20,000 requests of the demo's world."""
    with open_engine("duckdb") as engine:
        yield conformed_week(engine, demo_traffic.traffic(20_000), tmp_path_factory.mktemp("week"))
