"""A report made again from a stored run, byte for byte.

Belongs here: from what a run kept to the same files, and seeing that they are the same. Does not belong here: what is kept
(`results`), how files are written (`publishing`).
"""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from pathlib import Path

from routing_pipeline.errors import UnusableInputError
from routing_pipeline.policy.rule_set import RuleSet
from routing_pipeline.report.assembly import Report
from routing_pipeline.report.publishing import publish
from routing_pipeline.results import ResultStore, StoredRun, code_version


@dataclass(frozen=True)
class Rebuilt:
    """The files, and those of them whose bytes are not the ones that the run published."""

    run: StoredRun
    files: tuple[Path, ...]
    differing: tuple[str, ...]

    @property
    def is_other_code(self) -> bool:
        """Whether the run was made by other code than this; then its report may read differently."""
        return self.run.code != code_version()


def find_run(store: ResultStore, run_id: str | None) -> StoredRun:
    """The run of this id, or of the only id that begins so; the latest for None.

    Raises:
        UnusableInputError: there is none, or more than one.
    """
    runs = store.runs()
    if not runs:
        raise UnusableInputError("no report has been made in this home yet; routing-pipeline run or analyze makes one")
    if run_id is None:
        return store.latest_run() or runs[0]
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
    report = run.load("report", Report)
    if report is None:
        raise UnusableInputError(
            f"run {run.run_id} was stored by another version of routing-pipeline; install that one, or analyse the window again"
        )
    return report


def rebuild(run: StoredRun, out: Path) -> Rebuilt:
    """Write the run's files into `out` again.

    Raises:
        UnusableInputError: as `report_of`, or `out` cannot be written to.
    """
    report = report_of(run)
    files = publish(out, report, report.routing_rule_set, run.load("exploration", RuleSet))
    differing = [path.name for path in files if hashlib.sha256(path.read_bytes()).hexdigest() != run.files.get(path.name)]
    differing += sorted(set(run.files) - {path.name for path in files})
    return Rebuilt(run, files, tuple(differing))
