"""The Dagster jobs that commands run in this process.

Belongs here: what a job is configured with, and starting it with progress. Does not belong here: running (`assets.running`), what
is printed at the end (the commands).
"""

from __future__ import annotations

import os
from collections.abc import Mapping
from contextlib import AbstractContextManager, nullcontext, suppress
from pathlib import Path
from typing import TYPE_CHECKING, Any

from routing_pipeline.beside import second_process, second_thread
from routing_pipeline.cli.inputs import check_format, home_at, uri_of
from routing_pipeline.cli.progress import shown
from routing_pipeline.errors import PipelineError, UnusableInputError

if TYPE_CHECKING:
    from routing_pipeline.cli.inputs import Asked
    from routing_pipeline.recommendation.simulation import Simulation
    from routing_pipeline.report.unchanged import Again
    from routing_pipeline.rules.model import RuleSet
    from routing_pipeline.storage.home import Home

INGESTION = ("request_log", "feedback")
"""Assets that read logs."""
EVALUATES_THE_GATE = ("routing_pipeline.data_quality.row_checks", "routing_pipeline.data_quality.evaluator")
ANSWERS_AHEAD = ("routing_pipeline.operations.ahead", "ibis.backends.duckdb")
"""What takes long to import: the second process does so while logs are read."""
DRAWS_THE_REPORT = ("vl_convert", "altair")
"""What takes long as well, and is needed last: the command does so while it waits for the second process."""


def ingestion(
    logs: str, feedback: str | None = None, log_format: str = "auto", *, add_source: bool = False, stand_if_unavailable: bool = True
) -> dict[str, Any]:
    """The configuration of what reads logs, by asset.

    Raises:
        UnusableInputError: there is nothing at one of the places, or the format is not known.
    """
    check_format(log_format)
    return {
        "request_log": {
            "logs": uri_of(logs),
            "log_format": str(Path(log_format).absolute()) if log_format.endswith(".toml") else log_format,
            "add_source": add_source,
            "stand_if_unavailable": stand_if_unavailable,
        },
        "feedback": {"feedback": uri_of(feedback) if feedback else ""},
    }


def check_source(home: Home, ops: Mapping[str, Any]) -> None:
    """Refuse logs of another place than those that a home holds, and a new place where there is nothing: Dagster alone takes seconds to start.

    Raises:
        UnusableInputError: they are of another place, or it holds nothing, or these credentials may not list it.
        ServiceUnavailableError: the store does not answer.
    """
    from routing_pipeline.ingest.objects import nothing_there, open_source

    uri, known = ops["request_log"]["logs"], home.sources()
    try:
        home.check_source(uri, add=ops["request_log"]["add_source"])
    except UnusableInputError as error:
        # What never came as far as an analysis was most likely the wrong folder.
        if home.warehouse or home.runs.key_of() is not None:
            raise
        raise UnusableInputError(f"{error}; if {known[0]} was a mistake, remove {home.root} and begin again") from error
    if uri not in known:
        source = open_source(uri, exclude=home.root)
        if next(iter(source.list_objects()), None) is None:
            raise nothing_there(source)


def home_for(home: Path | None, ops: Mapping[str, Any]) -> Home:
    """A home for these logs, made where there is none. One that is made for logs which are then refused goes again; raises as `check_source`."""
    opened = home_at(home)
    is_new = not opened.root.exists()
    opened.create()
    try:
        check_source(opened, ops)
    except PipelineError:
        if is_new:
            with suppress(OSError):
                opened.root.rmdir()
        raise
    return opened


def resources(home: Home, config: Path | None, engine: str = "duckdb") -> dict[str, Any]:
    """The configuration of what every asset uses."""
    home.check_engine(engine)
    return {
        "root": str(home.root),
        "warehouse": home.warehouse,
        # By the name of its variable: what a run was configured with is remembered, and shown.
        "catalog": {"env": "ROUTING_PIPELINE_CATALOG"} if home.catalog else "",
        "config": "" if config is None else str(config.absolute()),
        "engine": engine,
    }


def is_up_to_date(home: Home, logs: str, feedback: str, config: Path | None) -> bool:
    """Whether these places hold nothing new, `feedback` only if it is named: Dagster alone takes seconds to start. What cannot be listed is the run's to report."""
    from routing_pipeline.ingest import feedback as scores
    from routing_pipeline.ingest.backlog import holds_nothing_new
    from routing_pipeline.parameters import read_scales

    try:
        return holds_nothing_new(home, "ledger", logs) and (not feedback or scores.is_up_to_date(home, feedback, read_scales(config)))
    except PipelineError:
        return False


def _unchanged(home: Home, asked: Asked, ops: Mapping[str, Any]) -> Again | None:
    """The report that answers the question already, where logs, scores and all else are what they were; None where a run has to see.

    A deployment that keeps its runs in Dagster (DAGSTER_HOME) has one of each, as has a home whose files are shared over a bucket.
    """
    if os.environ.get("DAGSTER_HOME") or home.warehouse:
        return None
    from routing_pipeline.report.unchanged import delivered_before
    from routing_pipeline.rules.record import read_publishing, record_of

    record = record_of(home, read_publishing(asked.config, os.environ.get("ROUTING_PIPELINE_PUBLISH", "")).to)
    again = delivered_before(home, asked.parameters, asked.engine, asked.config, record)
    if again is None or "request_log" not in ops:
        return again
    logs = ops["request_log"]["logs"]
    is_known = logs in home.sources() and is_up_to_date(home, logs, ops["feedback"]["feedback"], asked.config)
    return again if is_known else None


def ingest(home: Home, config: Path | None, *every: Mapping[str, Any], is_quiet: bool = False) -> None:
    """Read logs, once for each configuration; quietly where it is done again and again."""
    with nullcontext(lambda *_: None) if is_quiet else shown() as progress:
        from assets.running import run_job

        for ops in every:
            run_job(home, "ingest_logs", resources=resources(home, config), ops=ops, progress=progress)


def optimize(home: Home, asked: Asked, ops: Mapping[str, Any], out: Path, *, leave_out: tuple[str, ...] = ()) -> Again | None:
    """Analyse and deliver, and read logs before unless that is left out; gives the report that stood already, where nothing had to be run."""
    with shown() as progress:
        again = _unchanged(home, asked, ops)
        if again is not None:
            again.deliver(home, out)
            return again
        if "request_log" not in ops:
            _check_rows(home)
        # Where logs are read the gate has new rows to look at, and what evaluates it can be imported meanwhile. Who says how many
        # processes a run may have is given no more.
        modules = (*(EVALUATES_THE_GATE if "request_log" in ops else ()), *ANSWERS_AHEAD)
        second: AbstractContextManager[None]
        if os.environ.get("ROUTING_PIPELINE_PARALLEL_STEPS"):
            second = nullcontext()
        elif asked.engine == "duckdb":
            second = second_process(*modules, meanwhile=DRAWS_THE_REPORT)
        else:
            second = second_thread()
        with second:
            from assets.running import run_job

            used = resources(home, asked.config, asked.engine)
            run_job(home, "optimize_routing", resources=used, ops=ops, leave_out=leave_out, progress=progress)
        return None


def simulate(home: Home, config: Path | None, engine: str, rules: RuleSet, scope: Mapping[str, Any]) -> Simulation:
    """Replay rules on the rows of a scope."""
    with shown() as progress:
        _check_rows(home)
        from assets.running import simulated

        return simulated(home, rules, resources=resources(home, config, engine), scope=scope, progress=progress)


def _check_rows(home: Home) -> None:
    """Refuse a home without rows while Dagster has put nothing there."""
    from routing_pipeline.lake.table import Lake
    from routing_pipeline.window.resolve import check_rows

    check_rows(Lake(home))
