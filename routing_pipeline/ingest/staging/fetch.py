"""Objects on their way here: ahead of who reads them, many at a time.

Belongs here: how much is fetched ahead, by how many threads, what goes through a file and what through memory. Does not belong
here: how a store is spoken to (`objects`, `bodies`), what an object is (`detect`).
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path

from routing_pipeline.ingest.objects import ObjectChangedError, Source, StoredObject
from routing_pipeline.ingest.quarantine import RefusedObjectError

MAX_OBJECT_BYTES = 64 << 30
"""Largest object that is fetched: it has to fit onto the disk."""
FETCH_THREADS = 32
FETCH_AHEAD_BYTES = 256 << 20
FETCH_AHEAD_OBJECTS = 4_096
"""Small objects pile up while a batch is conformed, so that the store is never waited for."""
SMALL_BYTES = 64 << 10
"""Objects up to this size are fetched into memory, FETCH_AHEAD_OBJECTS of them at most: a file each costs more than they do."""
HANDFUL_OBJECTS = 16
"""Small objects that one thread fetches one after another: handing each over by itself costs more than its bytes do."""

Numbered = tuple[int, StoredObject]
"""An object and its number in this run."""


def refuse_too_large(listed: StoredObject) -> None:
    """Raises RefusedObjectError for an object that was never fetched because of its size."""
    if listed.size_bytes > MAX_OBJECT_BYTES:
        raise RefusedObjectError(
            f"{listed.size_bytes >> 30} GiB in one object; more than {MAX_OBJECT_BYTES >> 30} GiB are not read, split it"
        )


class Fetcher:
    """Fetches the objects of a source into `folder`, or into memory where they are small.

    `on_bytes` is told the listed size of each object once its reader is done with it.
    """

    def __init__(self, source: Source, folder: Path, on_bytes: Callable[[int], None]) -> None:
        self.source = source
        self.folder = folder
        self.on_bytes = on_bytes
        self._waiting: deque[tuple[list[Numbered], Future[list[Path | bytes | None]]]] = deque()

    def fetched(self, objects: Sequence[Numbered]) -> Iterator[tuple[int, StoredObject, Path | bytes | None]]:
        """Each object as the file that holds it or its content; None when it changed since it was listed. Fetches ahead."""
        waiting = self._waiting
        waiting.clear()
        ahead_bytes = ahead_objects = 0
        remaining = _handfuls(objects)
        upcoming = next(remaining, None)
        pool = ThreadPoolExecutor(FETCH_THREADS)
        try:
            while upcoming is not None or waiting:
                while upcoming and (not waiting or (ahead_bytes < FETCH_AHEAD_BYTES and ahead_objects < FETCH_AHEAD_OBJECTS)):
                    waiting.append((upcoming, pool.submit(self._fetch_each, upcoming)))
                    ahead_bytes += sum(listed.size_bytes for _, listed in upcoming)
                    ahead_objects += len(upcoming)
                    upcoming = next(remaining, None)
                handful, fetching = waiting.popleft()
                ahead_bytes -= sum(listed.size_bytes for _, listed in handful)
                ahead_objects -= len(handful)
                for (number, listed), found in zip(handful, fetching.result(), strict=True):
                    yield number, listed, found
                    if isinstance(found, Path) and found.parent == self.folder:
                        found.unlink(missing_ok=True)
                    self.on_bytes(listed.size_bytes)
        finally:
            # Also when the caller gives up half-way: what is still queued must not be fetched for nobody.
            pool.shutdown(cancel_futures=True)

    def is_waiting(self) -> bool:
        """Whether the store has not yet given what is read next."""
        if not self._waiting:
            return False
        handful, fetching = self._waiting[0]
        return not fetching.done() and self.source.local_path(handful[0][1]) is None

    def _fetch_each(self, handful: Sequence[Numbered]) -> list[Path | bytes | None]:
        return [self._fetch(number, listed) for number, listed in handful]

    def _fetch(self, number: int, listed: StoredObject) -> Path | bytes | None:
        if (here := self.source.local_path(listed)) is not None:
            return here
        try:
            if listed.size_bytes <= SMALL_BYTES:
                return self.source.read(listed)
            to = self.folder / f"fetched-{number}"
            if listed.size_bytes <= MAX_OBJECT_BYTES:
                self.source.fetch(listed, to)
        except ObjectChangedError:
            (self.folder / f"fetched-{number}").unlink(missing_ok=True)
            return None
        return to


def _handfuls(objects: Sequence[Numbered]) -> Iterator[list[Numbered]]:
    """Neighbours that are small together, all others alone."""
    handful: list[Numbered] = []
    for each in objects:
        is_small = each[1].size_bytes <= SMALL_BYTES
        if handful and (not is_small or len(handful) == HANDFUL_OBJECTS):
            yield handful
            handful = []
        handful.append(each)
        if not is_small:
            yield handful
            handful = []
    if handful:
        yield handful
