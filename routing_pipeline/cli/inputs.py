"""What options name: parameters, the configuration file, the home, the place of logs.

Belongs here: opening what was named, or refusing it. Everything is refused before anything is loaded that takes long; that is why
this package imports so much inside functions. Does not belong here: jobs (`jobs`), declaring options (`options`).
"""

from __future__ import annotations

import os
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from routing_pipeline.errors import UnusableInputError

if TYPE_CHECKING:
    from routing_pipeline.parameters import Parameters
    from routing_pipeline.rules.record import RuleSetRecord
    from routing_pipeline.storage.home import Home


@dataclass(frozen=True)
class Asked:
    """What the options of an analysis ask for, found to make sense."""

    parameters: Parameters
    """With what the configuration file says."""
    values: dict[str, Any]
    """Those that were given on the command line, by name, as a run is configured with them."""
    config: Path | None
    engine: str


def read_asked(given: dict[str, Any], engine: str = "duckdb") -> Asked:
    """The options of `options.PARAMETERS` that were given.

    Raises:
        UnusableInputError: they, the configuration file, the engine or the environment make no sense.
    """
    from routing_pipeline.parameters import read_parameters
    from routing_pipeline.window.engine import check_engine

    values = dict(given)
    config = values.pop("config", None)
    if "task_types" in values:
        values["task_types"] = [name.strip() for name in values["task_types"].split(",") if name.strip()]
        if not values["task_types"]:
            raise UnusableInputError("--task-types: names no task type; leave it out for all of them")
    if "capabilities" in values:
        values["capabilities"] = str(values["capabilities"].absolute())
    parameters = read_parameters(config, **values)
    check_file(config)
    check_engine(engine)
    check_environment()
    return Asked(parameters, values, config, engine)


def check_environment() -> None:
    """Refuse environment variables that a run would refuse."""
    from assets.environment import check_environment as check

    check()


def check_out(out: Path) -> None:
    """Refuse a folder that a report could not be written to."""
    from routing_pipeline.report.out_folder import check_writable

    check_writable(out)


def check_file(config: Path | None) -> None:
    """Refuse a configuration file any table of which makes no sense: whoever reads it does so much later."""
    if config is None:
        return
    from routing_pipeline.alerts.notifications import read_notifications
    from routing_pipeline.gateways.rollout_settings import read_rollout
    from routing_pipeline.parameters import read_parameters, read_scales
    from routing_pipeline.rules.record import read_publishing
    from routing_pipeline.window.router_health import read_router
    from routing_pipeline.window.spark import spark_settings

    for read in (read_parameters, read_scales, read_router, read_notifications, read_publishing, read_rollout, spark_settings):
        read(config)
    from routing_pipeline.ingest.formats.mapping import describes_format, read_mapping

    if describes_format(config):
        read_mapping(config)


def check_format(log_format: str) -> None:
    """Refuse a log format that is not known."""
    if log_format != "auto":
        from routing_pipeline.ingest.formats import named

        named(log_format)


def uri_of(place: str) -> str:
    """Absolute for folders, so that a home recognises its source from wherever the command is run; refused where nothing is there."""
    from routing_pipeline.ingest.objects import check_address, open_source

    if not place.strip():
        # It would be the current folder.
        raise UnusableInputError("the place of the logs is empty; give a directory, a file, or s3://bucket/prefix")
    if place.startswith("s3://"):
        if not place.removeprefix("s3://").strip("/"):
            raise UnusableInputError(f"{place}: name a bucket, as in s3://bucket/prefix")
        check_address(place)
        return place.rstrip("/")
    return open_source(place if "://" in place else str(Path(place).absolute())).uri


# Homes


def home_path(home: Path | None) -> Path:
    """The folder of the home, which need not be there."""
    return home or Path(os.environ.get("ROUTING_PIPELINE_HOME") or ".routing-pipeline")


def open_home(home: Path | None) -> Home:
    """A home that is there; refused where there is none."""
    return home_at(home).found()


def make_home(home: Path | None) -> Home:
    """A home for logs, made where there is none."""
    return home_at(home).create()


def open_record(home: Path | None, config: Path | None) -> tuple[Home, RuleSetRecord]:
    """A home that is there, with the record of who decided what about its rule sets."""
    from routing_pipeline.rules.record import read_publishing, record_of

    publishing = read_publishing(config, os.environ.get("ROUTING_PIPELINE_PUBLISH", ""))
    opened = open_home(home)
    return opened, record_of(opened, publishing.to)


def shared_place() -> tuple[str, str]:
    """Warehouse and catalog; from the environment alone, because a command line is seen by everybody on the machine."""
    return os.environ.get("ROUTING_PIPELINE_WAREHOUSE") or "", os.environ.get("ROUTING_PIPELINE_CATALOG") or ""


def home_at(home: Path | None) -> Home:
    """The home of a command, whether it is there or not."""
    from routing_pipeline.storage.home import Home

    return Home(home_path(home).absolute(), *shared_place())
