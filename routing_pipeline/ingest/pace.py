"""How fast logs are read and how long the rest will take, in words for people who wait.

Belongs here: the words and how often they come. Does not belong here: where they are shown.
"""

from __future__ import annotations

import time
from collections.abc import Callable

EVERY_S = 2.0
_UNITS = ((1e9, "GB"), (1e6, "MB"), (1e3, "kB"))


class Pace:
    """A `Progress` of ingestion that tells `say` now and then: `reading logs: 1.2 GB of 4.0 GB, 31.0 MB/s, 1:30 left`."""

    def __init__(self, say: Callable[[str], object], clock: Callable[[], float] = time.monotonic) -> None:
        self._say, self._clock = say, clock
        self._began = self._told = clock()

    def __call__(self, what: str, done: int, of: int) -> None:
        """`done` and `of` in bytes."""
        now = self._clock()
        if now - self._told < EVERY_S or not done:
            return
        self._told = now
        rate = done / (now - self._began)
        self._say(f"{what}: {_amount(done)} of {_amount(of)}, {_amount(rate)}/s, {_duration((of - done) / rate)} left")


def _amount(size_bytes: float) -> str:
    # What reads as 1,000 of a unit is one of the next.
    return next((f"{size_bytes / unit:.1f} {name}" for unit, name in _UNITS if round(size_bytes / unit, 4) >= 1), f"{size_bytes:.0f} B")


def _duration(seconds: float) -> str:
    minutes, rest = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}:{minutes:02d}:{rest:02d}" if hours else f"{minutes}:{rest:02d}"
