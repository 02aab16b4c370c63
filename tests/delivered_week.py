"""A made-up week that was read and reported on, once per test run: a run costs ten CPU seconds, a copy of what it left none.

For tests of what comes after a first report, or beside it. They take a copy: it has read the same logs, which stay where they are, and computes
its answers anew, as results name the folder of their rows. One file of tests may ask the home itself, where answers are stored: were there two,
the questions that one asks of a proof would count in the other.
"""

from __future__ import annotations

import fcntl
import shutil
from dataclasses import dataclass
from pathlib import Path

import pytest
from in_process import delivered

from routing_pipeline.demo.logs import write_demo
from routing_pipeline.storage.home import Home
from tests.known_queries import lend

REQUESTS = 3_000


@dataclass(frozen=True)
class DeliveredWeek:
    """What `run` was given and what it left, with no option beside."""

    folder: Path

    @property
    def logs(self) -> Path:
        return self.folder / "logs"

    @property
    def feedback(self) -> Path:
        return self.folder / "feedback"

    @property
    def out(self) -> Path:
        return self.folder / "out"

    @property
    def asked(self) -> tuple[object, ...]:
        """The words that ask for the same run, but for home and output."""
        return ("run", "--logs", self.logs, "--feedback", self.feedback)

    @property
    def home(self) -> Path:
        """To be asked, by one file of tests, and not to be written into."""
        return self.folder / "home"

    def copy(self, home: Path) -> Path:
        """The home as the run left it, copied to a folder that is not there yet."""
        # Not from the home itself, into which answers may be being written.
        return Path(shutil.copytree(self.folder / "kept", home, symlinks=True))


@pytest.fixture(scope="session")
def delivered_week(known_queries: Path) -> DeliveredWeek:
    """Made by whichever process of the test run asks first; the others wait for it."""
    # Beside what else belongs to the whole test run.
    folder = known_queries.with_name("delivered-week")
    week = DeliveredWeek(folder)
    with folder.with_suffix(".lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        if not (folder / "done").exists():
            shutil.rmtree(folder, ignore_errors=True)
            write_demo(folder, requests=REQUESTS)
            # Sessions fall into clusters by a home's own key: with this one, into the same in every test run.
            Home(lend(known_queries, week.home)).create().coordination.write_first("hash.key", "0" * 64)
            delivered(*week.asked, "--home", week.home, "--out", week.out)
            shutil.copytree(week.home, folder / "kept", symlinks=True)
            (folder / "done").touch()
    return week
