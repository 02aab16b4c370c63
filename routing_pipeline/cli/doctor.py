"""What works on this machine and what does not.

Belongs here: one check per thing that a run may need, each with what to do when it fails. Does not belong here: repairing.
"""

from __future__ import annotations

import importlib.util
import platform
import shutil
import sys
from importlib import metadata
from pathlib import Path

from pydantic import Field

from routing_pipeline.errors import PipelineError
from routing_pipeline.estimates import Result
from routing_pipeline.extras import how_to_install, is_installed
from routing_pipeline.storage.home import Home

PACKAGES: tuple[tuple[str, str], ...] = (
    ("dagster", "dagster"),
    ("duckdb", "duckdb"),
    ("ibis-framework", "ibis"),
    ("pyiceberg", "pyiceberg"),
    ("great-expectations", "great_expectations"),
    ("vl-convert-python", "vl_convert"),
)
SERVING = {"ui": "the Dagster UI", "dashboard": "the live page", "mcp": "the MCP servers", "metrics": "Prometheus metrics"}
"""Extras that a run needs none of, and what does."""
ENOUGH_DISK_BYTES = 2 * 1024**3


class Finding(Result):
    """One thing that was looked at."""

    name: str
    works: bool
    is_needed: bool = Field(description="Every run needs it; otherwise only some do")
    detail: str

    @property
    def mark(self) -> str:
        """Two letters: works, does not, or is missed by nobody who did not ask for it."""
        return "ok" if self.works else "NO" if self.is_needed else "--"


def examine(home: Path, logs: str | None = None, warehouse: str = "", catalog: str = "") -> tuple[Finding, ...]:
    """Look at everything a run may need; never raises for what it finds."""
    opened = Home(home.absolute(), warehouse, catalog)
    findings = [
        _python(),
        *(_package(name, module) for name, module in PACKAGES),
        *map(_extra, SERVING),
        _disk(opened),
        _spark(),
        _lake(opened),
    ]
    if logs is not None:
        findings.append(_source(logs))
    return tuple(findings)


def _python() -> Finding:
    works = sys.version_info >= (3, 11)
    return Finding(
        name="python", works=works, is_needed=True, detail=f"{platform.python_version()}{'' if works else '; 3.11 or newer is needed'}"
    )


def _package(name: str, module: str) -> Finding:
    try:
        found = metadata.version(name)
        if importlib.util.find_spec(module) is None:
            raise ImportError(module)
    except (metadata.PackageNotFoundError, ImportError):
        return Finding(name=name, works=False, is_needed=True, detail="not installed; run `make run` once, or `uv sync`")
    return Finding(name=name, works=True, is_needed=True, detail=found)


def _extra(name: str) -> Finding:
    works = is_installed(name)
    return Finding(name=SERVING[name], works=works, is_needed=False, detail="ready" if works else f"not installed: {how_to_install(name)}")


def _disk(home: Home) -> Finding:
    if not home.warehouse and not home.root.exists():
        return Finding(name="home", works=True, is_needed=True, detail=f"{home.root} is not there yet; run, ingest or demo make it")
    try:
        opened = home.create()
    except PipelineError as error:
        return Finding(name="home", works=False, is_needed=True, detail=str(error))
    free = shutil.disk_usage(opened.root).free
    enough = free >= ENOUGH_DISK_BYTES
    shared = f", shared with other workers in {opened.warehouse}" if opened.warehouse else ""
    detail = f"{opened.root}{shared}, {free / 1024**3:.1f} GiB free{'' if enough else '; less than 2 GiB, a large ingest may fail'}"
    return Finding(name="home", works=enough, is_needed=True, detail=detail)


def _spark() -> Finding:
    java = shutil.which("java")
    installed = is_installed("spark")
    works = java is not None and installed
    missing = [] if installed else [f"pyspark ({how_to_install('spark')})"]
    missing += [] if java else ["Java 17"]
    return Finding(
        name="spark engine",
        works=works,
        is_needed=False,
        detail="ready" if works else f"only for --engine spark://...: missing {' and '.join(missing)}",
    )


def _lake(home: Home) -> Finding:
    from routing_pipeline.lake.table import Lake

    try:
        totals = Lake(home).totals()
    except Exception as error:  # noqa: BLE001  a doctor reports what it finds
        return Finding(name="lake", works=False, is_needed=False, detail=f"cannot be read ({type(error).__name__})")
    return Finding(name="lake", works=True, is_needed=False, detail=f"{totals.ingested:,} attempts from {totals.objects:,} objects")


def _source(logs: str) -> Finding:
    from routing_pipeline.ingest.objects import open_source

    try:
        count = sum(1 for _ in open_source(logs).list_objects())
    except PipelineError as error:
        return Finding(name="logs", works=False, is_needed=True, detail=str(error))
    return Finding(name="logs", works=count > 0, is_needed=True, detail=f"{count:,} objects at {logs}")
