"""Told to stop at any moment a command stops at once, in one line, and the next one comes to what it would have come to."""

from __future__ import annotations

import contextlib
import json
import os
import re
import shutil
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import IO, Any

import dagster as dg
import pytest

from assets.running import instance_of
from routing_pipeline.demo.logs import write_demo
from routing_pipeline.storage.home import Home
from routing_pipeline.window.retention import tidy
from tests.known_queries import lend

REQUESTS = 2_000
AT_ONCE_S = 2.0
LONGEST_WAIT_S = 240.0
OUT_FILES = {"report.md", "report.html", "report.json", "rules.json"}
INTERRUPTED = "routing-pipeline: interrupted; nothing is lost, run the same command again"
TERMINATED = "routing-pipeline: terminated; nothing is lost, run the same command again"


# Has imported everything and forks for each command asked for on stdin, because importing takes longer than most phases. Says the
# child's id, and how it ended.
FORKING = """
import json, os, sys
import assets.definitions, assets.running, routing_pipeline.data_quality.evaluator, routing_pipeline.report.files
from routing_pipeline.__main__ import main

for line in sys.stdin:
    words, steps, out, err = json.loads(line)
    os.environ["ROUTING_PIPELINE_PARALLEL_STEPS"] = steps
    child = os.fork()
    if not child:
        code = 1
        try:
            os.setsid()
            for descriptor, place in enumerate((os.devnull, out, err)):
                os.dup2(os.open(place, os.O_WRONLY if descriptor else os.O_RDONLY), descriptor)
            sys.argv = ["routing-pipeline", *words]
            main()
            code = 0
        except SystemExit as ended:
            code = ended.code or 0
        finally:
            sys.stdout.flush()
            os._exit(code)
    print("began", child, flush=True)
    print("ended", os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]), flush=True)
"""


class Command:
    """A command in a process group of its own, as a terminal starts it, with what it says."""

    def __init__(self, pid: int, wait: Callable[[], int], out: IO[str], err: IO[str]) -> None:
        self.pid, self._wait = pid, wait
        self.out, self.said, self.code = "", [], None
        self._changed = threading.Condition()
        self._readers = [threading.Thread(target=self._read_out, args=(out,)), threading.Thread(target=self._read_err, args=(err,))]
        for reader in self._readers:
            reader.start()

    def _read_out(self, stream: IO[str]) -> None:
        with stream:
            self.out = stream.read()

    def _read_err(self, stream: IO[str]) -> None:
        with stream:
            for line in stream:
                with self._changed:
                    self.said.append(line.rstrip("\n"))
                    self._changed.notify_all()

    def wait_for(self, words: str) -> None:
        """Until a line of standard error holds the words."""
        with self._changed:
            is_said = self._changed.wait_for(lambda: any(words in line for line in self.said), LONGEST_WAIT_S)
        assert is_said, (words, self.said)

    def told(self, number: signal.Signals, *, group: bool) -> float:
        """Sends a signal, to the process alone or, more than once, to its group; how long it took to end, seconds."""
        began = time.monotonic()
        for _ in range(1 + 2 * group):
            with contextlib.suppress(ProcessLookupError):
                (os.killpg if group else os.kill)(self.pid, number)
            time.sleep(0.02 * group)
        return self.ended() - began

    def ended(self) -> float:
        """Waits for the end; when that was."""
        if self.code is None:
            self.code = self._wait()
        at = time.monotonic()
        for reader in self._readers:
            reader.join()
        return at


Start = Callable[..., contextlib.AbstractContextManager[Command]]


@contextlib.contextmanager
def started(*words: object) -> Iterator[Command]:
    """From nothing."""
    process = subprocess.Popen(
        [sys.executable, "-m", "routing_pipeline", *map(str, words)],
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        start_new_session=True,
        env=os.environ | {"PYTHONPATH": os.pathsep.join(sys.path)},
    )
    assert process.stdout is not None
    assert process.stderr is not None
    command = Command(process.pid, process.wait, process.stdout, process.stderr)
    try:
        yield command
    finally:
        process.kill()
        command.ended()


@pytest.fixture(scope="module")
def forked(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Start]:
    """With everything loaded."""
    folder = tmp_path_factory.mktemp("pipes")
    out, err = folder / "out", folder / "err"
    for each in (out, err):
        os.mkfifo(each)
    nursery = subprocess.Popen(
        [sys.executable, "-c", FORKING],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
        env=os.environ | {"PYTHONPATH": os.pathsep.join(sys.path)},
    )
    assert nursery.stdin is not None
    assert nursery.stdout is not None

    def heard(of: str) -> int:
        # An exit code taken for a process would have signals sent to whoever runs the tests.
        said, number = nursery.stdout.readline().split()
        assert said == of
        return int(number)

    @contextlib.contextmanager
    def start(*words: object, has_second: bool = False) -> Iterator[Command]:
        nursery.stdin.write(json.dumps([[str(word) for word in words], "" if has_second else "1", str(out), str(err)]) + "\n")
        nursery.stdin.flush()
        pid = heard("began")
        command = Command(pid, lambda: heard("ended"), out.open(encoding="utf-8"), err.open(encoding="utf-8"))
        try:
            yield command
        finally:
            if command.code is None:
                os.kill(pid, signal.SIGKILL)
            command.ended()

    yield start
    nursery.stdin.close()
    nursery.wait()


def left_in(group: int) -> list[str]:
    """Processes of the group that are still there."""
    found = subprocess.run(["ps", "-o", "stat=,args=", "-g", str(group)], check=False, capture_output=True, text=True).stdout
    return [line for line in found.splitlines() if not line.startswith("Z")]


@dataclass(frozen=True)
class Places:
    logs: Path
    feedback: Path
    home: Path
    out: Path

    @property
    def run(self) -> tuple[object, ...]:
        return ("run", "--logs", self.logs, "--feedback", self.feedback, "--out", self.out, "--home", self.home)


@pytest.fixture(scope="module")
def week(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("gateway")
    write_demo(folder, requests=REQUESTS)
    return folder


@pytest.fixture(scope="module")
def disturbed(week: Path, known_queries: Path, tmp_path_factory: pytest.TempPathFactory) -> Places:
    """A home whose runs are stopped one after another."""
    folder = tmp_path_factory.mktemp("disturbed")
    return Places(week / "logs", week / "feedback", lend(known_queries, folder / "home"), folder / "out")


LOADING = (
    ("starting", 0.0, signal.SIGINT, True),
    ("starting", 1.0, signal.SIGTERM, False),
)
WORKING = (
    ("request log", 0.3, signal.SIGINT, True),
    ("feedback", 0.05, signal.SIGTERM, True),
    ("what must hold", 0.2, signal.SIGINT, True),
    ("request patterns", 0.05, signal.SIGTERM, False),
    ("routing rules", 0.05, signal.SIGINT, True),
    ("optimization report", 0.1, signal.SIGINT, False),
)
"""What it was doing, for how many seconds, what it is told, and whether its whole group is told."""
Moment = tuple[str, float, signal.Signals, bool]


def moments(listed: tuple[Moment, ...]) -> Any:
    ids = [f"{doing}+{since_s}s".replace(" ", "_") for doing, since_s, *_ in listed]
    return pytest.mark.parametrize("moment", listed, ids=ids)


def stopped(start: Start, places: Places, moment: Moment) -> None:
    doing, since_s, number, group = moment
    with start(*places.run) as command:
        command.wait_for(doing)
        time.sleep(since_s)
        took_s = command.told(number, group=group)
        progress = [line for line in command.said if re.fullmatch(r"starting|\[ *\d+/\d+\] .*", line)]
        assert command.said == [*progress, INTERRUPTED if number == signal.SIGINT else TERMINATED]
        assert command.code == 128 + number
        assert took_s < AT_ONCE_S
        assert left_in(command.pid) == []
    # A quick machine may have answered before it is told: then all of the answer is there, and the files before it.
    assert command.out == "" or command.out.splitlines()[-1] == str(places.out / "report.html")
    if command.out:
        assert {path.name for path in places.out.iterdir()} - {"exploration.json"} == OUT_FILES
    if doing == WORKING[-1][0]:
        shutil.rmtree(places.out, ignore_errors=True)
    assert not places.out.exists()


@moments(LOADING)
def test_a_command_that_is_told_to_stop_while_it_loads_ends_at_once_in_one_line(moment: Moment, disturbed: Places) -> None:
    stopped(started, disturbed, moment)


@moments(WORKING)
def test_a_run_that_is_told_to_stop_ends_at_once_in_one_line(moment: Moment, disturbed: Places, forked: Start) -> None:
    # The gate is evaluated in a second process, which ends with the first.
    stopped(partial(forked, has_second=moment[0] == "what must hold"), disturbed, moment)


def test_after_all_that_a_run_comes_to_what_one_run_comes_to_and_no_run_looks_alive(
    disturbed: Places, week: Path, known_queries: Path, tmp_path: Path, forked: Start
) -> None:
    with forked(*disturbed.run) as killed:
        killed.wait_for("routing costs")
        os.kill(killed.pid, signal.SIGKILL)
    undisturbed = Places(week / "logs", week / "feedback", lend(known_queries, tmp_path / "home"), tmp_path / "out")
    # Users are told apart by what a home's own key makes of them, and routing is tested against them.
    shutil.copy(disturbed.home / "hash.key", undisturbed.home)
    for places in (undisturbed, disturbed):
        # The one in one process, the other in two: that makes no difference either.
        with forked(*places.run, has_second=places is disturbed) as command:
            command.ended()
            assert command.code == 0, command.said
        assert {path.name for path in places.out.iterdir()} - {"exploration.json"} == OUT_FILES
    first, last = (json.loads((places.out / "report.json").read_text()) for places in (undisturbed, disturbed))
    assert dict(figures(last)) == pytest.approx(dict(figures(first)), rel=1e-9, abs=1e-12, nan_ok=True)
    home = Home(disturbed.home)
    # A command that ends at once may have no time for its own list of objects: that goes when nobody has used it for a day.
    for listing in home.scratch.glob("listing-*"):
        os.utime(listing, (0, 0))
    tidy(home)
    assert not [path for path in disturbed.home.rglob("*") if path.name.startswith((".report", ".write-test", "ingest-", "listing-"))]
    with instance_of(home) as instance:
        states = [record.dagster_run.status for record in instance.get_run_records()]
    assert states[0] == dg.DagsterRunStatus.SUCCESS
    assert set(states[1:]) == {dg.DagsterRunStatus.CANCELED}
    assert not list((home.dagster / "held").iterdir())


OF_THE_RUN = {
    "run",
    "lag_s",
    "snapshot_id",
    "rule_set_id",
    "generated_at",
    "seconds",
    "requests_uri",
    "previous_uri",
    "sample_uri",
    "cells_uri",
}
"""Whose values tell of when and where a report was made."""


def figures(content: Any, place: str = "") -> Iterator[tuple[str, float]]:
    """Every number of a report by its path; how many items each list has among them."""
    if isinstance(content, dict):
        for key, value in content.items():
            if key not in OF_THE_RUN:
                yield from figures(value, f"{place}.{key}")
    elif isinstance(content, list):
        yield f"{place}#", float(len(content))
        for number, value in enumerate(content):
            yield from figures(value, f"{place}[{number}]")
    elif isinstance(content, int | float):
        yield place, float(content)


@pytest.mark.parametrize(
    ("words", "ready", "number"),
    [
        (("dashboard", "--port", "0"), "live page at", signal.SIGINT),
        (("metrics", "--http", "127.0.0.1:{port}"), "metrics at", signal.SIGTERM),
        (("mcp", "cost-tracker", "--http", "127.0.0.1:{port}"), "listens on", signal.SIGINT),
    ],
    ids=["dashboard", "metrics", "mcp"],
)
def test_what_serves_stops_at_once_as_well(
    words: tuple[str, ...], ready: str, number: signal.Signals, tmp_path: Path, forked: Start
) -> None:
    with forked(*(word.format(port=free_port()) for word in words), "--home", tmp_path) as command:
        command.wait_for(ready)
        # In the middle of starting up or of serving.
        time.sleep(0.3)
        took_s = command.told(number, group=True)
        word = "interrupted" if number == signal.SIGINT else "terminated"
        assert command.said[-1] == f"routing-pipeline: {word}; it served until now"
        assert (len(command.said), command.code, command.out) == (2, 128 + number, "")
        assert took_s < AT_ONCE_S


def free_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as listening:
        return int(listening.getsockname()[1])


def test_a_server_on_standard_input_stops_although_it_waits_there(tmp_path: Path) -> None:
    process = subprocess.Popen(
        [sys.executable, "-m", "routing_pipeline", "mcp", "cost-tracker", "--home", str(tmp_path)],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        env=os.environ | {"PYTHONPATH": os.pathsep.join(sys.path)},
    )
    assert process.stdin is not None
    assert process.stdout is not None
    assert process.stderr is not None
    process.stdin.write(json.dumps({"jsonrpc": "2.0", "id": 1, "method": "ping"}) + "\n")
    process.stdin.flush()
    assert json.loads(process.stdout.readline())["id"] == 1
    process.send_signal(signal.SIGINT)
    assert process.wait(AT_ONCE_S) == 130
    assert process.stderr.read() == "routing-pipeline: interrupted; it served until now\n"


def test_a_signal_that_a_background_job_ignores_stays_ignored(week: Path, tmp_path: Path) -> None:
    command = subprocess.Popen(
        [sys.executable, "-m", "routing_pipeline", "doctor", "--home", str(tmp_path)],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        env=os.environ | {"PYTHONPATH": os.pathsep.join(sys.path)},
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_IGN),
    )
    for _ in range(10):
        time.sleep(0.05)
        if command.poll() is None:
            command.send_signal(signal.SIGINT)
    _, err = command.communicate(timeout=LONGEST_WAIT_S)
    assert (command.returncode, err) == (0, b"")
