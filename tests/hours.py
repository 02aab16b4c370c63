"""The hours that tests of alerts are about, by the clock that the alerts look at.

Belongs here: which hour is the newest that is over, for one file of tests. Does not belong here: what happened in it.
"""

from __future__ import annotations

import time
from functools import cached_property

HOUR_S = 3_600


class Hours:
    """Read when a file's first test asks: the whole suite is imported first, which may be longer ago than the half hour."""

    @cached_property
    def began_s(self) -> float:
        return time.time()

    @property
    def hold_back_s(self) -> float:
        """Held back so that the clock stands half an hour from the next hour's completion: no test may run across it."""
        return HOUR_S / 2 + (self.began_s - HOUR_S) % HOUR_S

    @property
    def last(self) -> int:
        """The newest hour that is over and held back long enough."""
        return int(self.began_s - self.hold_back_s) // HOUR_S - 1
