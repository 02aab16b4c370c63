"""How a command ends that is told to stop, by Ctrl-C or by SIGTERM, whatever it is doing.

Belongs here: the two signals, the one line that is said, what is waited for before the process ends. Does not belong here:
how writers withstand that (each by itself), and how other failures end (the command line).

A command works in a thread of its own; the main thread, in which Python runs handlers, does nothing but wait. So no long
call of native code and no handler of a library's stands between the signal and the end, and no exception is thrown into
code that would take it for a broken file. The process ends as if it was killed, which everything that writes withstands:
files are written under another name and renamed, locks are the system's, the lake commits in one step. What cannot be
done in one step is marked as `whole`, and is waited for.
"""

from __future__ import annotations

import contextlib
import contextvars
import os
import signal
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from types import FrameType
from typing import Any, TypeVar

Returned = TypeVar("Returned")

EXIT_CODES = {signal.SIGINT: 130, signal.SIGTERM: 143}
"""As a shell has it: 128 and the number of the signal."""
PATIENCE_S = 1.0
"""For what is `whole` to be finished."""
TIDYING_S = 0.4
WAKES_EVERY_S = 0.2
"""How long a signal that reached another thread may wait for the main one, which alone can heed it."""
RUN_AGAIN = "nothing is lost, run the same command again"
CLEAR_LINE = "\r\x1b[2K\x1b[?25h"
"""Takes a progress bar off a terminal's line, and gives the cursor back."""

_sections = threading.Condition()
_entered = threading.local()
_open_sections = 0
_is_ending = False
_tidying: list[Callable[[], object]] = []
_drawn_on: list[int] = []
_says = RUN_AGAIN


@contextmanager
def whole() -> Iterator[None]:
    """A few steps, short ones, that the process does not end between; once it is about to end, none begin."""
    global _open_sections
    depth = getattr(_entered, "depth", 0)
    if depth == 0:
        with _sections:
            while _is_ending:
                _sections.wait()
            _open_sections += 1
    _entered.depth = depth + 1
    try:
        yield
    finally:
        _entered.depth = depth
        if depth == 0:
            with _sections:
                _open_sections -= 1
                _sections.notify_all()


@contextmanager
def tidying(action: Callable[[], object]) -> Iterator[None]:
    """What is worth trying for a moment before the process ends within; nothing may depend on it."""
    _tidying.append(action)
    try:
        yield
    finally:
        _tidying.remove(action)


@contextmanager
def drawing_on(descriptor: int) -> Iterator[None]:
    """Lets what is drawn there end with the line that is said."""
    _drawn_on.append(descriptor)
    try:
        yield
    finally:
        _drawn_on.remove(descriptor)


@contextmanager
def saying(what: str) -> Iterator[None]:
    """What the line says of a process that ends within, instead of RUN_AGAIN."""
    global _says
    before, _says = _says, what
    try:
        yield
    finally:
        _says = before


def heed() -> dict[signal.Signals, Any]:
    """End the process from now on when it is told to; gives the handlers before, by signal.

    A signal that whoever started the process lets it ignore stays ignored: of a job in the background, Ctrl-C is not meant.
    """
    found = {each: signal.getsignal(each) for each in EXIT_CODES}
    for each, before in found.items():
        if before is not signal.SIG_IGN:
            signal.signal(each, _end)
    return found


def guarded(work: Callable[[], Returned]) -> Returned:
    """Do the work in a thread, and heed signals meanwhile; returns or raises as the work does."""
    if threading.current_thread() is not threading.main_thread():
        return work()
    ended: list[Returned] = []
    failed: list[BaseException] = []

    def working() -> None:
        try:
            ended.append(work())
        except BaseException as error:  # noqa: BLE001 (raised again below)
            failed.append(error)

    before = heed()
    try:
        thread = threading.Thread(target=contextvars.copy_context().run, args=(working,), name="command", daemon=True)
        thread.start()
        # A signal may reach another thread of the process, which wakes nobody who waits here for ever.
        while thread.is_alive():
            thread.join(WAKES_EVERY_S)
    finally:
        for each, handler in before.items():
            if handler is not None:
                signal.signal(each, handler)
    if failed:
        raise failed[0]
    return ended[0]


def _end(number: int, _frame: FrameType | None) -> None:
    global _is_ending
    if _is_ending:
        # Told twice, by a person or by `timeout`: it ends in a moment anyway.
        return
    _is_ending = True
    with contextlib.suppress(OSError):
        _say(signal.Signals(number))
    with _sections:
        _sections.wait_for(lambda: _open_sections == 0, PATIENCE_S)
    _tidy()
    os._exit(EXIT_CODES[signal.Signals(number)])


def _say(number: signal.Signals) -> None:
    nowhere = os.open(os.devnull, os.O_WRONLY)
    for descriptor in _drawn_on:
        os.dup2(nowhere, descriptor)
    word = "interrupted" if number == signal.SIGINT else "terminated"
    clear = CLEAR_LINE if _drawn_on and os.isatty(2) else ""
    os.write(2, f"{clear}routing-pipeline: {word}; {_says}\n".encode())
    for descriptor in (1, 2):
        # What the work says meanwhile is of no use to anybody.
        os.dup2(nowhere, descriptor)


def _tidy() -> None:
    threads = [threading.Thread(target=_quietly, args=(action,), daemon=True) for action in _tidying]
    until = time.monotonic() + TIDYING_S
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(max(until - time.monotonic(), 0.0))


def _quietly(action: Callable[[], object]) -> None:
    with contextlib.suppress(Exception):
        action()
