"""What assets need from outside: the home with its sources, and the store that carries results between assets.

Belongs here: resources and the IO manager. Connections are opened when used, never at import.
"""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

import dagster as dg
import ibis

from routing_pipeline.engine import Engine, open_engine
from routing_pipeline.errors import UnusableInputError
from routing_pipeline.estimates import Result
from routing_pipeline.home import Home
from routing_pipeline.ingest.lake import Lake
from routing_pipeline.scope import AnalysisScope, LakeState

AnyResult = TypeVar("AnyResult", bound=Result)


@dataclass(frozen=True)
class ScopedRows:
    """Conformed rows of the window, and of the equal window before it."""

    requests: ibis.Table
    previous: ibis.Table


class HomeResource(dg.ConfigurableResource):
    """The home, where its logs come from, and the engine that reads them; empty text means not given."""

    root: str = ".routing-pipeline"
    logs: str = ""
    feedback: str = ""
    config: str = ""
    engine: str = "duckdb"

    def open(self) -> Home:
        """The home, created when it is not there yet."""
        return Home(Path(self.root).absolute()).create()

    def log_sources(self) -> tuple[str, ...]:
        """The configured source, else those that the home remembers."""
        return (self.logs,) if self.logs else self.open().sources()

    def config_file(self) -> Path | None:
        """The configuration file, None when none was named."""
        return Path(self.config) if self.config else None

    @contextmanager
    def reading(self) -> Iterator[Engine]:
        """An open engine that spills into the home."""
        with open_engine(self.engine, spill_to=self.open().scratch / "spill") as engine:
            yield engine

    def lake_state(self) -> LakeState:
        """What the lake holds now; raises UnusableInputError when it holds nothing."""
        lake = Lake(self.open())
        newest_s, snapshot_id = lake.newest_s(), lake.snapshot_id()
        if newest_s is None or snapshot_id is None:
            raise UnusableInputError("the lake is empty; ingest logs first (routing-pipeline ingest --logs URI)")
        return LakeState(
            snapshot_id=snapshot_id,
            feedback_version=lake.feedback_version(),
            newest_s=newest_s,
            attempt_files=lake.attempt_files,
            feedback_files=lake.feedback_files(),
        )

    def analysed(self, name: str, scope: AnalysisScope, kind: type[AnyResult], analyse: Callable[[ScopedRows], AnyResult]) -> AnyResult:
        """The stored result of the same inputs and the same code, else a fresh one over the scope's rows."""
        found = self.open().results.load(name, scope.key, kind)
        if found is not None:
            return found
        with self.reading() as engine:
            return analyse(ScopedRows(engine.read_parquet([scope.requests_uri]), engine.read_parquet([scope.previous_uri])))


class ResultsIOManager(dg.ConfigurableIOManager):
    """A thin layer over routing_pipeline.results: an asset's value is stored under the key of the scope it was computed in.

    The run that computed a scope remembers its key; a run that materialises single assets takes the newest one.
    """

    # A resource inside a resource keeps the values it was built with: a run that names another home says so twice.
    root: str = ".routing-pipeline"

    def open(self) -> Home:
        """The home whose results these are."""
        return Home(Path(self.root).absolute()).create()

    def handle_output(self, context: dg.OutputContext, obj: Any) -> None:
        """Store a result; ingestion's results belong to the home and not to a scope."""
        if obj is None:
            return
        home = self.open()
        name = context.asset_key.path[-1]
        if isinstance(obj, AnalysisScope):
            for pointer in (context.run_id, "latest"):
                pointed = home.results.root / "runs" / pointer
                pointed.parent.mkdir(parents=True, exist_ok=True)
                pointed.write_text(obj.key, encoding="ascii")
        key = "ingest" if name in {"request_log", "feedback"} else self._key(context.run_id)
        path = home.results.save(name, key, obj)
        context.add_output_metadata({"result": dg.MetadataValue.path(str(path))})

    def load_input(self, context: dg.InputContext) -> Any:
        """Load what an upstream asset stored, in this run or in the newest."""
        home = self.open()
        name = context.asset_key.path[-1]
        key = "ingest" if name in {"request_log", "feedback"} else self._key(context.step_context.run_id)
        value = home.results.load(name, key, context.dagster_type.typing_type)
        if value is None:
            raise dg.Failure(f"no stored result of {name}; materialise it first (the job optimize_routing does all)")
        return value

    def _key(self, run_id: str | None) -> str:
        runs = self.open().results.root / "runs"
        for pointer in (run_id or "", "latest"):
            path = runs / pointer
            if pointer and path.exists():
                return path.read_text(encoding="ascii")
        raise dg.Failure("no analysis scope yet; materialise analysis_scope first")
