"""A second process or thread beside a command's own, for what is not waited for at once.

Belongs here: both, handing them work, waiting for that. Does not belong here: what they do (`operations.ahead`).

Python computes on one core at a time, so what this machine computes takes a process. What a cluster computes takes a thread: it waits,
and shares the one application that a process has.

Nothing may depend on it: work leaves what it finds in the home's store, where whoever needs it looks first. Where neither could
be started, failed or was ever opened, nothing is there, and what is needed is computed as if there had been only the command.
"""

from __future__ import annotations

import contextlib
import gc
import os
import pickle
import subprocess
import sys
import threading
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from contextvars import ContextVar
from functools import partial
from importlib import import_module
from queue import SimpleQueue
from typing import IO, Any, cast

from routing_pipeline.stopping import PATIENCE_S, TIDYING_S, guarded, tidying

LEAST_CORES = 2
LOOKED_FOR_CYCLES = (50_000, 20, 100)
"""After how many new objects Python looks for cycles among them. Queries are made of hundreds of thousands of small objects without
cycles: looked through after every 700, as is Python's habit, they take a fifth more time."""

_is_command = False
_open: ContextVar[_Process | _Thread | None] = ContextVar("second", default=None)


class _Process:
    """The process from its owner's side: what was handed over and has not come back, in order."""

    def __init__(self, meanwhile: Sequence[str]) -> None:
        # No module of the folder that a command is called in comes before the installed ones.
        command = (sys.executable, "-P", "-m", "routing_pipeline.beside")
        self._process = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL)  # noqa: S603 - ours
        self._asked, self._done = cast("IO[bytes]", self._process.stdin), cast("IO[bytes]", self._process.stdout)
        self._begun: deque[str] = deque()
        self._meanwhile = list(meanwhile)

    def begin(self, name: str, function: Callable[..., object], *arguments: Any) -> bool:
        work = pickle.dumps((name, function, arguments))
        try:
            self._asked.write(work)
            self._asked.flush()
        except OSError:
            return False
        self._begun.append(name)
        return True

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


class _Thread:
    """The thread from its owner's side. It ends with the process, whatever it does then: what it writes withstands that."""

    def __init__(self) -> None:
        self._asked: SimpleQueue[tuple[Callable[[], object], threading.Event] | None] = SimpleQueue()
        self._begun: dict[str, threading.Event] = {}
        self._is_over = False
        threading.Thread(target=self._serve, name="beside", daemon=True).start()

    def begin(self, name: str, function: Callable[..., object], *arguments: Any) -> bool:
        self._begun[name] = threading.Event()
        self._asked.put((partial(function, *arguments), self._begun[name]))
        return True

    def settle(self, name: str) -> None:
        if name in self._begun:
            self._begun.pop(name).wait()

    def end(self) -> None:
        self._is_over = True
        self._asked.put(None)

    def _serve(self) -> None:
        while (asked := self._asked.get()) is not None and not self._is_over:
            work, is_done = asked
            # The owner tells what fails: it does the same once more.
            with contextlib.suppress(BaseException):
                work()
            is_done.set()


def is_of_a_command() -> None:
    """This process is one command's from start to end: others, which call as a library, are given neither."""
    global _is_command
    _is_command = True


@contextmanager
def second_process(*modules: str, meanwhile: Sequence[str] = ()) -> Iterator[None]:
    """Open it, where there is a core for it, for as long as the block lasts; it begins with importing these.

    `meanwhile`: what the command itself needs later, imported when it first waits for the other one.
    """
    if not _may_open():
        yield
        return
    second = _Process(meanwhile)
    for module in modules:
        second.begin(module, import_module, module)
    with tidying(second.end), _opened(second):
        yield


@contextmanager
def second_thread() -> Iterator[None]:
    """Open it, where `second_process` would open a process, for as long as the block lasts."""
    if not _may_open():
        yield
        return
    with _opened(_Thread()):
        yield


def _may_open() -> bool:
    return _is_command and (os.cpu_count() or 1) >= LEAST_CORES


@contextmanager
def _opened(second: _Process | _Thread) -> Iterator[None]:
    token = _open.set(second)
    try:
        yield
    finally:
        _open.reset(token)
        second.end()


def begin(name: str, function: Callable[..., object], *arguments: Any) -> bool:
    """Let it be done after what was begun before; False where nothing is open, or what was open is gone. Another process must be able to be told of it."""
    second = _open.get()
    return second is not None and second.begin(name, function, *arguments)


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
