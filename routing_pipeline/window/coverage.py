"""Which time the logs cover: from their first record on, without the gaps in them.

Belongs here: telling a gap in the logs from a time in which nothing was asked, from the hours that hold a record. Does not
belong here: who divides by it (`scope.AnalysisScope` carries it), warnings about silent hours (`baseline_checks`).

A rate is dollars or requests over this time. Nights and weekends without a record are covered where they usually hold none: nothing
was asked in them. So is an outage: a silence of fewer than LEAST_GAP_H hours that usually hold records. A longer one is a gap,
because logs go missing for days and gateways fail for hours. Any record covers its time, whichever source it came from. What comes before the first record, or after the last one of all,
is not covered unless other days are silent at that time too.
"""

from __future__ import annotations

import math
from collections.abc import Collection, Iterator, Mapping, Sequence
from itertools import groupby, pairwise

from routing_pipeline.clock import HOURS_PER_DAY, SECONDS_PER_DAY, SECONDS_PER_HOUR
from routing_pipeline.estimates import Result, quantity

THURSDAY = 3
"""1970-01-01 was one."""
LEAST_GAP_H = 6.0
"""Hours in a row, counted by how usual a record is in each, from which their silence is a gap; an outage is seldom as long."""
WEEKS_SEEN = 2
"""Same hours of other weeks from which on these alone say what is usual; with fewer, other days do."""
ROUND_THE_CLOCK = 18
"""Hours of the day that usually hold records, from which on logs know no closing time and no closed day."""


LATE_S = SECONDS_PER_DAY
"""Time after a window's start from which a source begins late."""


class Uncovered(Result):
    """A stretch of time of which the logs hold nothing though they should."""

    start_s: float = quantity("Its beginning, inclusive, since 1970-01-01 UTC", "s")
    end_s: float = quantity("Its end, exclusive", "s")

    def within(self, start_s: float, end_s: float) -> float:
        """How much of it lies between two moments, in seconds."""
        return max(min(self.end_s, end_s) - max(self.start_s, start_s), 0.0)


def uncovered(
    hours: Collection[int], start_s: float, end_s: float, *, first_s: float | None = None, last_s: float | None = None
) -> tuple[Uncovered, ...]:
    """What the logs do not cover between two moments, in order of time.

    Args:
        hours: hours since 1970 in which at least one record of any kind began.
        start_s: first moment asked about, seconds since 1970.
        end_s: the moment after the last.
        first_s: when the first record of all began; None where the logs begin earlier than `start_s`.
        last_s: when the last record of all began; None where the logs go on after `end_s`.
    """
    if not hours:
        return (Uncovered(start_s=start_s, end_s=end_s),) if end_s > start_s else ()
    present = frozenset(hours)
    begin = math.floor((start_s if first_s is None else first_s) / SECONDS_PER_HOUR)
    end = math.ceil((end_s if last_s is None else last_s) / SECONDS_PER_HOUR)
    known = range(begin, max(end, max(present) + 1))
    found: list[tuple[float, float]] = []
    if first_s is not None:
        found += _before(first_s, start_s, present, known)
    found += [(hour * SECONDS_PER_HOUR, until * SECONDS_PER_HOUR) for hour, until in _gaps(present, known)]
    if last_s is not None:
        found += _after(last_s, end_s, present, known)
    clipped = ((max(from_s, start_s), min(until_s, end_s)) for from_s, until_s in found)
    return tuple(Uncovered(start_s=from_s, end_s=until_s) for from_s, until_s in clipped if until_s > from_s)


def _before(first_s: float, start_s: float, present: frozenset[int], known: range) -> Iterator[tuple[float, float]]:
    """What lies before the first record; the first day counts from midnight where other days are silent so early too."""
    midnight = first_s // (HOURS_PER_DAY * SECONDS_PER_HOUR) * HOURS_PER_DAY * SECONDS_PER_HOUR
    early = range(math.floor(max(midnight, start_s) / SECONDS_PER_HOUR), known.start)
    yield (start_s, midnight if _is_silent_elsewhere(early, present, known) else first_s)


def _after(last_s: float, end_s: float, present: frozenset[int], known: range) -> Iterator[tuple[float, float]]:
    """What lies after the last record."""
    late = range(math.floor(last_s / SECONDS_PER_HOUR) + 1, math.ceil(end_s / SECONDS_PER_HOUR))
    if not _is_silent_elsewhere(late, present, known):
        yield (last_s, end_s)


def _is_silent_elsewhere(hours: range, present: frozenset[int], known: range) -> bool:
    """Whether other days are known to hold less than a record or so at this time."""
    usual = [_usual(hour, hours, present, known) for hour in hours]
    return bool(usual) and all(each is not None for each in usual) and math.fsum(each or 0.0 for each in usual) < 1.0


def _gaps(present: frozenset[int], known: range) -> Iterator[tuple[int, int]]:
    """Half-open runs of hours that are gaps; of a run, those days on which records are usual at this time."""
    for run in _silences(present, known):
        usual = [_usual(hour, run, present, known) for hour in run]
        if any(each is None for each in usual) and _knows_no_closing_time(run, present, known):
            usual = [
                _share(_same_time(hour, known, 1), run, present) if each is None else each for hour, each in zip(run, usual, strict=True)
            ]
        if math.fsum(each or 0.0 for each in usual) < LEAST_GAP_H:
            continue
        days = [tuple(of_day) for _, of_day in groupby(run, lambda hour: hour // HOURS_PER_DAY)]
        yield from _merged((day[0], day[-1] + 1) for day in days if any(usual[hour - run.start] for hour in day))


def _silences(present: frozenset[int], known: range) -> Iterator[range]:
    """Stretches of hours without a record that are long enough to be a gap."""
    ends = [known.start - 1, *sorted(hour for hour in present if hour in known), known.stop]
    for before, after in pairwise(ends):
        if after - before - 1 >= LEAST_GAP_H:
            yield range(before + 1, after)


def _usual(hour: int, run: range, present: frozenset[int], known: range) -> float | None:
    """How usual a record is at such an hour: share (0..1) of comparable hours outside the run that hold one.

    Comparable: the same hour of the week where it was seen often enough, else the same hour of other weekdays or of other
    weekend days; None where no such day was seen.
    """
    same_week = [each for each in _same_time(hour, known, 7) if each not in run]
    if len(same_week) >= WEEKS_SEEN:
        return _share(same_week, run, present)
    return _share([each for each in _same_time(hour, known, 1) if is_weekend(each) == is_weekend(hour)], run, present)


def _same_time(hour: int, known: range, days: int) -> range:
    """The same hour of every day (days = 1), or of every week (7)."""
    step = days * HOURS_PER_DAY
    return range(known.start + (hour - known.start) % step, known.stop, step)


def _share(hours: Sequence[int], run: range, present: frozenset[int]) -> float | None:
    seen = [hour in present for hour in hours if hour not in run]
    return sum(seen) / len(seen) if seen else None


def _knows_no_closing_time(run: range, present: frozenset[int], known: range) -> bool:
    shares = [_share(_same_time(hour, known, 1), run, present) for hour in range(HOURS_PER_DAY)]
    return sum(share is not None and share >= 0.5 for share in shares) >= ROUND_THE_CLOCK


def _merged(runs: Iterator[tuple[int, int]]) -> Iterator[tuple[int, int]]:
    """Runs that follow each other, as one."""
    last: tuple[int, int] | None = None
    for run in runs:
        if last is not None and run[0] == last[1]:
            last = (last[0], run[1])
            continue
        if last is not None:
            yield last
        last = run
    if last is not None:
        yield last


def late_starts(began: Mapping[str, Mapping[int, float]], start_s: float, end_s: float) -> Iterator[tuple[str, float]]:
    """Sources whose first record lies LATE_S or more after a window's start, at which another source logs, and when that is; the latest first.

    A source that logs on fewer than half of the days from its first record on is rare, and not late.

    Args:
        began: by source and day since 1970, when its first record of that day began, of the window and of time before it.
        start_s: first moment of the window, seconds since 1970.
        end_s: the moment after the last.
    """
    firsts = {source: min((at for at in days.values() if at < end_s), default=end_s) for source, days in began.items()}
    if min(firsts.values(), default=end_s) >= start_s + LATE_S:
        return
    for source, first_s in sorted(firsts.items(), key=lambda each: (-each[1], each[0])):
        if start_s + LATE_S <= first_s < end_s:
            logged = sum(first_s <= at < end_s for at in began[source].values())
            if 2 * logged * SECONDS_PER_DAY >= end_s - first_s:
                yield source, first_s


def is_weekend(hour: int) -> bool:
    """Whether an hour since 1970 lies on a Saturday or a Sunday, UTC."""
    return (hour // HOURS_PER_DAY + THURSDAY) % 7 >= 5
