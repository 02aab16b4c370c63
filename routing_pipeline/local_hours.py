"""The same hour days or weeks before, by the clock that people work by.

Belongs here: which hour since 1970 showed the same time on a zone's clock. Does not belong here: what is compared with it
(`alerts`, `data_quality`), which zone that is (`parameters`).

Hours are counted in UTC, and sums are kept by them, so nine in the morning is another hour of UTC after the clocks were changed. A week
before is 168 hours, and what they were changed by in between:

    same(h) = h - back + offset(h) - offset(h - back)

An hour that a change left out (02:00 in spring) has the one after it in its place. Of an hour that it doubled, both show the same time;
later weeks are compared with the second. Hours stay whole: where a change is by half an hour (Lord Howe Island) both hours that come
into question are half an hour off, and nothing is moved.
"""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from functools import lru_cache
from zoneinfo import ZoneInfo

import numpy as np
from numpy.typing import ArrayLike, NDArray

from routing_pipeline.clock import SECONDS_PER_HOUR, UTC_ZONE

Hours = NDArray[np.int64]

_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_HOURS_KNOWN = 1 << 16
"""Offsets that are remembered: seven years of them, a few megabytes."""


def same_hour(zone: str, hours: ArrayLike, back_h: ArrayLike) -> Hours:
    """The hours that showed the same time on a zone's clock as these do, whole days before.

    Args:
        zone: name of the zone, as in Europe/Berlin.
        hours: counted in UTC from 1970, any shape.
        back_h: length of those days in hours, 24 each; negative: days after. Of any shape that goes with that of the hours.
    """
    now = np.asarray(hours, dtype=np.int64)
    then = now - np.asarray(back_h, dtype=np.int64)
    return then + ((_offset_s(zone, now) - _offset_s(zone, then)) / SECONDS_PER_HOUR).astype(np.int64)


def shown_hour(zone: str, hours: ArrayLike) -> Hours:
    """Hours counted from 1970 as a zone's clock shows them at their beginning; of UTC they are the hours themselves."""
    now = np.asarray(hours, dtype=np.int64)
    return now + _offset_s(zone, now) // SECONDS_PER_HOUR


def _offset_s(zone: str, hours: Hours) -> Hours:
    """How far a zone's clock is ahead of UTC at the beginning of each hour, in seconds."""
    if zone == UTC_ZONE:
        return np.zeros_like(hours)
    return np.array([_offset_at(zone, hour) for hour in hours.ravel().tolist()], dtype=np.int64).reshape(hours.shape)


@lru_cache(maxsize=_HOURS_KNOWN)
def _offset_at(zone: str, hour: int) -> int:
    ahead = (_EPOCH + timedelta(hours=hour)).astimezone(ZoneInfo(zone)).utcoffset()
    return 0 if ahead is None else round(ahead.total_seconds())
