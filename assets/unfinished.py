"""Runs of the command line that their process did not live to end: Dagster would show them as going on for ever.

Belongs here: knowing which process holds a run, and closing the books on those that nobody holds. Does not belong here: runs
that a daemon or a code server started; Dagster's own run monitoring looks after those (`launching`).

Whoever runs a job in this home holds a lock on a file named after the run, and the system takes the lock back with the process.
"""

import contextlib
import fcntl
import functools
from collections.abc import Iterator
from pathlib import Path

import dagster as dg

from routing_pipeline.stopping import tidying
from routing_pipeline.storage.home import Home

WHY = "the process ended before the run did"


@contextlib.contextmanager
def held(home: Home, instance: dg.DagsterInstance, run_id: str) -> Iterator[None]:
    """Hold a run; what is interrupted within is recorded as cancelled, there and then where there is time for it."""
    folder = _folder(home)
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / run_id
    with path.open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        try:
            with tidying(functools.partial(_cancel, instance, run_id)):
                yield
        finally:
            path.unlink(missing_ok=True)


def close(home: Home, instance: dg.DagsterInstance) -> None:
    """Record as cancelled what earlier processes left behind."""
    for path in _folder(home).glob("*"):
        try:
            lock = path.open("r+")
        except FileNotFoundError:
            continue
        with lock:
            try:
                fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                continue
            _cancel(instance, path.name)
            path.unlink(missing_ok=True)


def _folder(home: Home) -> Path:
    return home.dagster / "held"


def _cancel(instance: dg.DagsterInstance, run_id: str) -> None:
    run = instance.get_run_by_id(run_id)
    if run is not None and not run.is_finished:
        instance.report_run_canceled(run, WHY)
