"""A report made again from a stored run, byte for byte.

Belongs here: from what a run kept to the same files, and seeing that they are the same. Does not belong here: what is kept
(`storage.runs`), how files are written (`files`).
"""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from routing_pipeline.errors import UnusableInputError
from routing_pipeline.report.out_folder import check_writable, put
from routing_pipeline.storage.code_keys import code_key
from routing_pipeline.storage.runs import LATEST, RunStore, StoredRun

if TYPE_CHECKING:
    # Takes seconds to load, and whoever mistypes a run's id should not wait for it.
    from routing_pipeline.report.model import Report


@dataclass(frozen=True)
class Rebuilt:
    """The files, and those of them whose bytes are not the ones that the run published."""

    run: StoredRun
    files: tuple[Path, ...]
    differing: tuple[str, ...]

    @property
    def is_other_code(self) -> bool:
        """Whether the run's files were made by other code than this; then they may read differently."""
        return self.run.code != report_code()


def report_code() -> str:
    """Changes with whatever turns results into the files of a report."""
    return code_key("routing_pipeline.report.files")


def find_run(store: RunStore, run_id: str | None) -> StoredRun:
    """The run of this id, or of the only id that begins so; the latest for None and for `latest`.

    Raises:
        UnusableInputError: there is none, or more than one.
    """
    runs = store.all()
    if not runs:
        raise UnusableInputError("no report has been made in this home yet; make one with routing-pipeline run or routing-pipeline analyze")
    if run_id in {None, LATEST}:
        return store.latest() or runs[0]
    found = [run for run in runs if run.run_id == run_id] or [run for run in runs if run.run_id.startswith(run_id)]
    if len(found) != 1:
        said = f"{len(found)} runs begin with {run_id[:60]}" if found else f"no run {run_id[:60]} has made a report in this home"
        raise UnusableInputError(f"{said}; routing-pipeline report --list shows what there is")
    return found[0]


def report_of(run: StoredRun) -> Report:
    """What a run found.

    Raises:
        UnusableInputError: it was stored by a version whose reports had another shape.
    """
    from routing_pipeline.report.model import Report

    report = run.load("report", Report)
    if report is None:
        raise UnusableInputError(
            f"run {run.run_id} was stored by another version of routing-pipeline; install that one, or analyse the window again"
        )
    return report


def rebuild(run: StoredRun, out: Path) -> Rebuilt:
    """Write the run's files into `out` again: those that it kept, else, and where other code made them, rendered from what it found.

    Raises:
        UnusableInputError: as `report_of`, or `out` cannot be written to.
    """
    kept = run.published() if run.code == report_code() else None
    if kept is not None:
        return Rebuilt(run, put(check_writable(out), kept), ())
    from routing_pipeline.report.files import publish
    from routing_pipeline.rules.model import RuleSet

    report = report_of(run)
    files = publish(out, report, report.routing_rule_set, run.load("exploration", RuleSet))
    differing = [path.name for path in files if hashlib.sha256(path.read_bytes()).hexdigest() != run.files.get(path.name)]
    differing += sorted(set(run.files) - {path.name for path in files})
    return Rebuilt(run, files, tuple(differing))
