"""The Dagster jobs that commands run in this process.

Belongs here: what a job is configured with, and starting it with progress. Does not belong here: running (`assets.running`), what
is printed at the end (the commands).
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from routing_pipeline.cli.inputs import check_format, uri_of
from routing_pipeline.cli.progress import shown

if TYPE_CHECKING:
    from routing_pipeline.recommendation.simulation import Simulation
    from routing_pipeline.rules.model import RuleSet
    from routing_pipeline.storage.home import Home

INGESTION = ("request_log", "feedback")
"""Assets that read logs."""


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
    """Refuse logs of another place than those that a home holds."""
    home.check_source(ops["request_log"]["logs"], add=ops["request_log"]["add_source"])


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


def ingest(home: Home, config: Path | None, *every: Mapping[str, Any]) -> None:
    """Read logs, once for each configuration."""
    with shown() as progress:
        from assets.running import run_job

        for ops in every:
            run_job(home, "ingest_logs", resources=resources(home, config), ops=ops, progress=progress)


def optimize(home: Home, config: Path | None, engine: str, ops: Mapping[str, Any], *, leave_out: tuple[str, ...] = ()) -> None:
    """Analyse and deliver, and read logs before unless that is left out."""
    with shown() as progress:
        from assets.running import run_job

        used = resources(home, config, engine)
        run_job(home, "optimize_routing", resources=used, ops=ops, leave_out=leave_out, progress=progress)


def simulate(home: Home, config: Path | None, engine: str, rules: RuleSet, scope: Mapping[str, Any]) -> Simulation:
    """Replay rules on the rows of a scope."""
    with shown() as progress:
        from assets.running import simulated

        return simulated(home, rules, resources=resources(home, config, engine), scope=scope, progress=progress)
