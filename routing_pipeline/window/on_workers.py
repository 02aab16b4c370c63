"""Functions of ours called by Spark's workers: as tasks of the one application of this process.

Belongs here: handing out, order, giving up. Does not belong here: the application (`spark`), what the functions do (`ingest.shares`).

Workers need Python with this package for it, of the driver's version. A task that dies is run again by Spark, `spark.task.maxFailures`
times in all; so a function may be called twice with the same argument, also at the same time.
"""

from __future__ import annotations

import contextlib
import uuid
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from itertools import islice
from pathlib import Path
from typing import Any, TypeVar

from routing_pipeline.errors import ServiceUnavailableError
from routing_pipeline.window.spark import session_of

TASKS_A_CORE = 2
"""Handed out at once: what was found is held by this process until it is taken."""
AHEAD = 2
"""How many such hands are out, so that workers have something to do while the first is taken."""

_Given = TypeVar("_Given")
_Found = TypeVar("_Found")


class SparkWorkers:
    """Workers of the cluster at `master`, which is started when they are first asked; `log` as of `spark.session_of`."""

    def __init__(self, master: str, log: Path | None) -> None:
        self.master = master
        self.log = log

    def each(self, work: Callable[[_Given], _Found], given: Sequence[_Given]) -> Iterator[_Found]:
        """What the function gives for each, in their order; a few are worked on ahead of who takes them.

        Raises:
            UnusableInputError: pyspark is not installed.
            ServiceUnavailableError: Spark does not start, or a task failed as often as Spark tries it.
        """
        with session_of(self.master, self.log) as session:
            context, group = session.sparkContext, f"shares-{uuid.uuid4().hex}"

            def found(some: list[_Given]) -> list[_Found]:
                context.setJobGroup(group, "reading logs", interruptOnCancel=True)
                return list(context.parallelize(some, len(some)).map(work).collect())

            remaining, out = iter(given), deque[Any]()
            pool = ThreadPoolExecutor(AHEAD)
            try:
                while True:
                    # Workers may come while others work already.
                    while len(out) < AHEAD and (some := list(islice(remaining, TASKS_A_CORE * context.defaultParallelism))):
                        out.append(pool.submit(found, some))
                    if not out:
                        return
                    yield from self._waited_for(out.popleft())
            finally:
                # Also when whoever takes them gives up half-way, or Spark is gone.
                with contextlib.suppress(Exception):
                    context.cancelJobGroup(group)
                pool.shutdown(cancel_futures=True)

    def _waited_for(self, future: Any) -> Any:
        try:
            return future.result()
        except Exception as error:  # py4j raises many kinds, and quotes what the tasks said
            told = "nowhere" if self.log is None else f"in {self.log}"
            raise ServiceUnavailableError(
                f"--engine {self.master}: its workers did not read the logs ({type(error).__name__}); "
                f"check that they have this package and Python of this version; Spark's words are {told}"
            ) from error
