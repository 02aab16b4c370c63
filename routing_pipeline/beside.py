"""A second process beside a command's own, for what is not waited for at once: Python computes on one core at a time.

Belongs here: the process, handing it work, waiting for that. Does not belong here: what it does (`operations.ahead`).

Nothing may depend on it: work leaves what it finds in the home's store, where whoever needs it looks first. Where the process could
not be started, failed or was never opened, nothing is there, and what is needed is computed as if there had been no second process.
"""

from __future__ import annotations

import contextlib
import gc
import os
import pickle
import subprocess
import sys
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from contextvars import ContextVar
from importlib import import_module
from typing import IO, Any, cast

from routing_pipeline.stopping import PATIENCE_S, TIDYING_S, guarded, tidying

LEAST_CORES = 2
LOOKED_FOR_CYCLES = (50_000, 20, 100)
"""After how many new objects Python looks for cycles among them. Queries are made of hundreds of thousands of small objects without
cycles: looked through after every 700, as is Python's habit, they take a fifth more time."""

_is_command = False
_open: ContextVar[_Second | None] = ContextVar("second_process", default=None)


class _Second:
    """The process from its owner's side: what was handed over and has not come back, in order."""

    def __init__(self, meanwhile: Sequence[str]) -> None:
        # No module of the folder that a command is called in comes before the installed ones.
        command = (sys.executable, "-P", "-m", "routing_pipeline.beside")
        self._process = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL)  # noqa: S603 - ours
        self._asked, self._done = cast("IO[bytes]", self._process.stdin), cast("IO[bytes]", self._process.stdout)
        self._begun: deque[str] = deque()
        self._meanwhile = list(meanwhile)

    def begin(self, name: str, function: Callable[..., object], *arguments: Any) -> None:
        work = pickle.dumps((name, function, arguments))
        with contextlib.suppress(OSError):
            self._asked.write(work)
            self._asked.flush()
            self._begun.append(name)

    def settle(self, name: str) -> None:
        if name in self._begun:
            while self._meanwhile:
                import_module(self._meanwhile.pop())
        while name in self._begun:
            try:
                # Names alone come back: of our own process, which answers one after the other.
                self._begun.remove(pickle.load(self._done))  # noqa: S301
            except (EOFError, OSError, pickle.UnpicklingError, ValueError):
                self._begun.clear()

    def end(self) -> None:
        self._process.terminate()
        with contextlib.suppress(subprocess.TimeoutExpired):
            self._process.wait(PATIENCE_S + TIDYING_S)


def is_of_a_command() -> None:
    """This process is one command's from start to end: others, which call as a library, are given no second one."""
    global _is_command
    _is_command = True


@contextmanager
def second_process(*modules: str, meanwhile: Sequence[str] = ()) -> Iterator[None]:
    """Open it, where there is a core for it, for as long as the block lasts; it begins with importing these.

    `meanwhile`: what the command itself needs later, imported when it first waits for the other one.
    """
    if not _is_command or (os.cpu_count() or 1) < LEAST_CORES:
        yield
        return
    second = _Second(meanwhile)
    for module in modules:
        second.begin(module, import_module, module)
    token = _open.set(second)
    try:
        with tidying(second.end):
            yield
    finally:
        _open.reset(token)
        second.end()


def begin(name: str, function: Callable[..., object], *arguments: Any) -> None:
    """Let it be done after what was begun before; function and arguments must be ones that another process can be told of."""
    second = _open.get()
    if second is not None:
        second.begin(name, function, *arguments)


def settle(name: str) -> None:
    """Wait until that was done, or has failed; at once where it was not begun."""
    second = _open.get()
    if second is not None:
        second.settle(name)


def _serve() -> None:
    """The process: one after the other until its owner hangs up. The owner tells what fails: it does the same once more."""
    with os.fdopen(os.dup(0), "rb") as asked, os.fdopen(os.dup(1), "wb") as done:
        # What libraries print is nobody's answer.
        nowhere = os.open(os.devnull, os.O_RDWR)
        for descriptor in (0, 1):
            os.dup2(nowhere, descriptor)
        with contextlib.suppress(EOFError, OSError):
            while True:
                name, function, arguments = pickle.load(asked)  # noqa: S301 - its owner's
                with contextlib.suppress(Exception):
                    function(*arguments)
                pickle.dump(name, done)
                done.flush()


if __name__ == "__main__":
    gc.set_threshold(*LOOKED_FOR_CYCLES)
    guarded(_serve)
