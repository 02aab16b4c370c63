"""How far a command is, for whoever waits at a terminal or reads its standard error later.

Belongs here: the bar on a terminal, the lines elsewhere. Does not belong here: how far it is (whoever does the work says so).

Both are written to a duplicate of the descriptor that standard error had at the start: what libraries do with descriptors 1
and 2 while they work (Dagster points them at files of its own) does not hide them.
"""

from __future__ import annotations

import contextlib
import os
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from typing import TYPE_CHECKING, TextIO

from routing_pipeline.stopping import drawing_on

if TYPE_CHECKING:
    from rich.console import Console

Show = Callable[[str, int, int | None], None]
"""Called with what has begun, or nothing where something has ended; how many steps are done; of how many, where that is known."""

STARTING = "starting"
EVERY_S = 10.0
"""Between two lines about the same step, where there is no terminal."""


@contextmanager
def shown() -> Iterator[Show]:
    """Says at once that something has started, then what it is told."""
    with ExitStack() as stack:
        stream, is_file = _own(stack)
        console = _console(stream)
        if console is not None and console.is_terminal:
            yield stack.enter_context(_bar(console))
        elif is_file:
            yield _Lines(stream)
        else:
            # Whoever put an object in the place of standard error reads what a command says, not how far it is.
            yield lambda *_: None


def _console(stream: TextIO) -> Console | None:
    """What draws; None where a file is written to and nobody says that it is to be taken for a terminal."""
    if not stream.isatty() and not any(os.environ.get(name) for name in ("FORCE_COLOR", "TTY_COMPATIBLE")):
        return None
    # Imported here because it takes as long as the answer to a question that was asked before.
    from rich.console import Console

    return Console(file=stream)


def _own(stack: ExitStack) -> tuple[TextIO, bool]:
    """A stream of our own to where standard error goes, and whether that is a file of the system's."""
    try:
        descriptor = os.dup(sys.stderr.fileno())
    except (AttributeError, OSError, ValueError):
        return sys.stderr, False
    stream = stack.enter_context(os.fdopen(descriptor, "w", encoding="utf-8", errors="replace", buffering=1))
    stack.enter_context(drawing_on(descriptor))
    return stream, True


@contextmanager
def _bar(console: Console) -> Iterator[Show]:
    from rich.progress import BarColumn, Progress, TextColumn, TimeElapsedColumn

    columns = (
        TextColumn("{task.description}", markup=False),
        BarColumn(bar_width=24),
        TextColumn("{task.fields[counted]}"),
        TimeElapsedColumn(),
    )
    with Progress(*columns, console=console, transient=True, redirect_stdout=False, redirect_stderr=False) as bar:
        task = bar.add_task(STARTING, total=None, counted="")

        def show(what: str, done: int, of: int | None) -> None:
            # Of how many is not known before a run was put together.
            bar.update(task, completed=done, total=of, counted=f"{done}/{of}" if of else "")
            if what:
                bar.update(task, description=what.replace("_", " "))

        yield show


class _Lines:
    """One line for each step when it begins, and now and then one about how far it is."""

    def __init__(self, stream: TextIO) -> None:
        self._stream, self._at, self._said, self._said_s = stream, (0, 0), "", 0.0
        self._say(STARTING)

    def __call__(self, what: str, done: int, of: int | None) -> None:
        from routing_pipeline.text import printable

        # Names from logs may stand in it.
        at, text = (done, of or 0), printable(what.replace("_", " "))
        is_same_step = of is not None and at == self._at
        if not text or text == self._said or (is_same_step and time.monotonic() - self._said_s < EVERY_S):
            return
        self._at, self._said = at, text
        self._say(f"[{min(done + 1, of):{len(str(of))}}/{of}] {text}" if of else text)

    def _say(self, text: str) -> None:
        self._said_s = time.monotonic()
        # Whoever read the first lines may have gone.
        with contextlib.suppress(OSError):
            self._stream.write(f"{text}\n")
