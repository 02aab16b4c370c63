"""Whoever waits sees how far a command is: a bar on a terminal, a line for each step where there is none."""

from __future__ import annotations

import json
import os
import pty
import re
import select
import subprocess
import sys
import time
from pathlib import Path

import pytest

from routing_pipeline.cli import progress
from tests.delivered_week import DeliveredWeek

SOON_S = 2.0
LONGEST_WAIT_S = 240.0


def command(*words: object) -> list[str]:
    return [sys.executable, "-m", "routing_pipeline", *map(str, words)]


def environment() -> dict[str, str]:
    taken = {"TTY_COMPATIBLE", "FORCE_COLOR", "NO_COLOR"}
    return {name: value for name, value in os.environ.items() if name not in taken} | {
        "PYTHONPATH": os.pathsep.join(sys.path),
        "TERM": "xterm-256color",
        "COLUMNS": "100",
    }


def test_on_a_terminal_the_bar_names_the_steps_while_they_run(delivered_week: DeliveredWeek, tmp_path: Path) -> None:
    ours, theirs = pty.openpty()
    # Another question than the one that was answered, so that every step is taken.
    words = (*delivered_week.asked, "--out", tmp_path / "out", "--home", delivered_week.copy(tmp_path / "home"), "--goal", "cost")
    began = time.monotonic()
    process = subprocess.Popen(command(*words), stdin=theirs, stdout=theirs, stderr=theirs, env=environment(), start_new_session=True)
    os.close(theirs)
    seen, first_s = b"", 0.0
    while time.monotonic() - began < LONGEST_WAIT_S:
        readable, _, _ = select.select([ours], [], [], 1.0)
        try:
            seen += os.read(ours, 65_536) if readable else b""
        except OSError:
            break
        first_s = first_s or (time.monotonic() - began if b"starting" in seen else 0.0)
    os.close(ours)
    assert process.wait() == 0, seen.decode()
    assert 0 < first_s < SOON_S
    said = re.sub(r"\x1b\[[0-9;?]*[A-Za-z]", "", seen.decode())
    counts = [int(count) for count in re.findall(r"\b(\d+)/31\b", said)]
    assert counts == sorted(counts)
    assert len(set(counts)) > 15, "it moved"
    for step in ("request log", "analysis scope", "routing evidence", "optimization report"):
        assert step in said
    # The bar is gone, the cursor is back, and what was found stands below nothing.
    assert seen.rindex(b"\x1b[?25h") > seen.rindex(b"\x1b[?25l")
    assert said.rstrip().splitlines()[-1].endswith("report.html")


def test_in_a_pipe_each_step_is_a_line_and_results_are_not_among_them(tmp_path: Path) -> None:
    call = {"attempt_id": "a", "request_id": "r", "started_at": "2026-11-16T12:00:00Z", "model": "m", "status": "success"}
    score = {"request_id": "r", "name": "quality", "value": 0.5, "source": "judge", "scored_at": "2026-11-16T13:00:00Z"}
    for name, given in (("logs", call), ("feedback", score)):
        (tmp_path / name).mkdir()
        (tmp_path / name / "a.jsonl").write_text(json.dumps(given) + "\n")
    began = time.monotonic()
    process = subprocess.Popen(
        command("ingest", "--logs", tmp_path / "logs", "--feedback", tmp_path / "feedback", "--home", tmp_path / "home"),
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        env=environment(),
    )
    assert process.stderr is not None
    assert process.stderr.readline() == "starting\n"
    assert time.monotonic() - began < SOON_S
    out, err = process.communicate(timeout=LONGEST_WAIT_S)
    assert process.returncode == 0
    assert out.startswith("read now: ")
    assert "[" not in out
    assert err.splitlines() == ["[1/4] request log", "[2/4] ledger", "[3/4] feedback", "[4/4] feedback ledger"]


def test_a_failure_is_the_last_line_and_no_step_that_was_not_done_is_named(tmp_path: Path) -> None:
    (tmp_path / "logs").mkdir()
    (tmp_path / "logs" / "broken.jsonl").write_text("not JSON\n" * 20)
    done = subprocess.run(
        command("run", "--logs", tmp_path / "logs", "--out", tmp_path / "out", "--home", tmp_path / "home"),
        capture_output=True,
        text=True,
        check=False,
        env=environment(),
    )
    *steps, last = done.stderr.splitlines()
    assert done.returncode == 3
    assert last.startswith("routing-pipeline: blocking data-quality check failed")
    assert steps[0] == "starting"
    assert all(re.fullmatch(r"\[ *\d+/31\] [a-z ]+", step) for step in steps[1:]), steps


class Clock:
    """Stands still unless told."""

    def __init__(self) -> None:
        self.now_s = 100.0

    def monotonic(self) -> float:
        return self.now_s


def test_a_long_step_is_told_about_now_and_then(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    clock = Clock()
    monkeypatch.setattr(progress, "time", clock)
    with (tmp_path / "err").open("w+", encoding="utf-8") as stream:
        monkeypatch.setattr(sys, "stderr", stream)
        with progress.shown() as show:
            for second in range(25):
                clock.now_s += 1.0
                show(f"reading logs: {second} MB of 25 MB", 0, 12)
            show("", 1, 12)
            show("feedback", 1, 12)
            show("feedback", 1, 12)
            show("waiting for\x1b[2J another writer", 1, None)
    assert (tmp_path / "err").read_text().splitlines() == [
        "starting",
        "[ 1/12] reading logs: 0 MB of 25 MB",
        "[ 1/12] reading logs: 10 MB of 25 MB",
        "[ 1/12] reading logs: 20 MB of 25 MB",
        "[ 2/12] feedback",
        "waiting for [2J another writer",
    ]
