"""What assets need from outside: the home with its sources, and the store that carries results between assets.

Belongs here: resources and the IO manager. Connections are opened when used, never at import.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import dagster as dg

from assets.automation import is_of_alert
from routing_pipeline.alerts.sensor import sum_up
from routing_pipeline.ingest.ingestion import IngestResult, nothing_read
from routing_pipeline.lake.table import Lake
from routing_pipeline.operations import ahead
from routing_pipeline.operations.analyst import Analyst
from routing_pipeline.operations.table import OPERATIONS, Operations
from routing_pipeline.parameters import read_parameters
from routing_pipeline.report.charts.drawing import Chart, kept
from routing_pipeline.rules.record import Publishing, RuleSetRecord, read_publishing, record_of
from routing_pipeline.storage.home import Home
from routing_pipeline.window.engine import Engine, one_database, open_engine
from routing_pipeline.window.on_workers import SparkWorkers
from routing_pipeline.window.scope import AnalysisScope
from routing_pipeline.window.spark import LOG, ingests_on_workers, one_application, settings_for

SUMMED_HERE_BYTES = 1 << 30
"""Lakes of less, some 40 million requests, are summed up by DuckDB: a cluster takes longer to be told of that many small files."""


class HomeResource(dg.ConfigurableResource[Any]):
    """The home, where its logs come from, and the engine that reads them; empty text means not given."""

    root: str = ".routing-pipeline"
    logs: str = ""
    feedback: str = ""
    config: str = ""
    engine: str = "duckdb"
    warehouse: str = ""
    catalog: str = ""
    publish: str = ""
    # Of DuckDB in each process, else as `storage.memory_limit` says; times the steps that run at once, it must fit the machine.
    memory_limit: str = ""

    @contextmanager
    def yield_for_execution(self, context: dg.InitResourceContext) -> Iterator["HomeResource"]:  # noqa: ARG002 (Dagster's name)
        """For as long as a run lasts in one process, so that its steps share one DuckDB, and one Spark application where they use any."""
        with one_database(), one_application(lambda: settings_for(self.config_file(), Lake(self.open()).row_count())):
            yield self

    def open(self) -> Home:
        """The home, created when it is not there yet."""
        return Home(Path(self.root).absolute(), self.warehouse, self.catalog).create()

    def log_sources(self) -> tuple[str, ...]:
        """The configured source, else those that the home remembers."""
        return (self.logs,) if self.logs else self.open().sources()

    def config_file(self) -> Path | None:
        """The configuration file, None when none was named."""
        return Path(self.config) if self.config else None

    def publishing(self) -> Publishing:
        """Where rule sets are kept and published, as configured."""
        return read_publishing(self.config_file(), self.publish)

    def record(self) -> RuleSetRecord:
        """What was proposed and decided."""
        return record_of(self.open(), self.publishing().to)

    @contextmanager
    def reading(self) -> Iterator[Engine]:
        """An open engine that spills into the home."""
        with self._reading_with(self.engine) as engine:
            yield engine

    @contextmanager
    def _reading_with(self, name: str) -> Iterator[Engine]:
        self.open().check_engine(name)
        with open_engine(name, memory_limit=self.memory_limit, spill_to=self.open().scratch / "spill") as engine:
            yield engine

    def workers(self) -> SparkWorkers | None:
        """Who reads logs beside this process, where the configuration wants that; nothing is started."""
        if self.engine == "duckdb" or not ingests_on_workers(self.config_file()):
            return None
        self.open().check_engine(self.engine)
        return SparkWorkers(self.engine, self.open().scratch / LOG)

    def sum_up(self) -> None:
        """Sum up by hour what was ingested, for whoever looks at the whole lake within a second."""
        home, parameters = self.open(), read_parameters(self.config_file())
        lake = Lake(home)
        is_summed_here = sum(size_bytes for _, _, size_bytes in lake.sizes_by_day()) < SUMMED_HERE_BYTES
        if is_summed_here and ahead.begin_sums(home, self.memory_limit, parameters, lake.row_count()):
            return
        with self._reading_with("duckdb" if is_summed_here else self.engine) as engine:
            sum_up(home, engine, parameters)

    def analyst(self, operations: Operations = OPERATIONS) -> Analyst:
        """Answers from the home's store, where the same was asked before."""
        return Analyst(self.open(), self.engine, self.memory_limit, operations)

    def svg_of(self, chart: Chart) -> str:
        """A chart's picture, drawn once for all who show it."""
        return kept(self.open().results)(chart)


class ResultsIOManager(dg.ConfigurableIOManager):
    """A thin layer over routing_pipeline.storage.results: what an asset found, under the key of the scope it was computed in.

    This is what a run hands on to its report and leaves behind; what may be used again (`Analyst`) is kept under its code too.

    The run that computed a scope remembers its key; a run that materialises single assets takes the newest one.
    """

    # A resource inside a resource keeps the values it was built with: a run that names another home says so twice.
    root: str = ".routing-pipeline"
    warehouse: str = ""
    catalog: str = ""

    def open(self) -> Home:
        """The home whose results these are."""
        return Home(Path(self.root).absolute(), self.warehouse, self.catalog).create()

    def handle_output(self, context: dg.OutputContext, obj: Any) -> None:
        """Store a result; ingestion's results belong to the home and not to a scope."""
        if obj is None:
            return
        home = self.open()
        name = context.asset_key.path[-1]
        if isinstance(obj, AnalysisScope):
            home.runs.begin(context.run_id, obj.key, is_of_alert=is_of_alert(context.step_context.dagster_run))
        key = "ingest" if name in {"request_log", "feedback"} else self._key(context)
        context.add_output_metadata({"result": dg.MetadataValue.path(home.results.save(name, key, obj))})

    def load_input(self, context: dg.InputContext) -> Any:
        """Load what an upstream asset stored, in this run or in the newest."""
        home = self.open()
        name = context.asset_key.path[-1]
        key = "ingest" if name in {"request_log", "feedback"} else self._key(context)
        value = home.results.load(name, key, context.dagster_type.typing_type)
        if value is None and context.dagster_type.typing_type is IngestResult:
            # Forgetting drops it with all results; the lake, which is what analyses read, still stands.
            return nothing_read(home)
        if value is None:
            raise dg.Failure(f"no stored result of {name}; materialise it first (the job optimize_routing does all)")
        return value

    def _key(self, context: dg.InputContext | dg.OutputContext) -> str:
        run = context.step_context.dagster_run
        # A retry that begins after the scope reads what the run before it resolved, whatever else ran in between.
        key = self.open().runs.key_of(run.run_id, run.parent_run_id, run.root_run_id)
        if key is None:
            raise dg.Failure("no analysis scope yet; materialise analysis_scope first")
        return key
