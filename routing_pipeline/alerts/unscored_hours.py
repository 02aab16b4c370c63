"""Whether the hours of an alert about quality are scored as usual, or their scores are still coming in.

Belongs here: telling of it beside the alert. Does not belong here: holding hours back until their scores are there (`sensor`, as
`score_hold_back_hours` asks), which scores of a window count in an analysis (`policy.late_scores`).

Scores come after answers, and failed checks and complaints often before the rest. The alert stands all the same: nobody can tell a fall from
bad news that came first, and waiting for all scores would keep quiet of real falls for days.
"""

from __future__ import annotations

from routing_pipeline.alerts.decisions import AlertDecision
from routing_pipeline.alerts.series import HourlySums
from routing_pipeline.clock import SECONDS_PER_HOUR

FEWER = 0.7
"""Of the usual share of scored answers, below which it is told."""
LEAST_EXPECTED = 10.0
"""Scores to be expected of these hours, below which their share says nothing."""


def still_coming_in(alert: AlertDecision, qualities: HourlySums | None, answers: HourlySums | None) -> tuple[str, ...]:
    """In words, to follow what an alert is due to; empty for another alert, and where answers of these hours are scored as usual.

    Args:
        alert: what is told.
        qualities: scored answers by hour, the whole first.
        answers: all answers by hour, the whole first.
    """
    if alert.measured != "quality" or alert.start_s is None or alert.end_s is None or qualities is None or answers is None:
        return ()
    start, end = int(alert.start_s // SECONDS_PER_HOUR), int(alert.end_s // SECONDS_PER_HOUR)
    first = max(qualities.first_hour, answers.first_hour)
    scored, scored_before = _within(qualities, start, end), _within(qualities, first, start)
    given, given_before = _within(answers, start, end), _within(answers, first, start)
    if given_before <= 0 or given <= 0:
        return ()
    usual, now = scored_before / given_before, scored / given
    if given * usual < LEAST_EXPECTED or now >= FEWER * usual:
        return ()
    told = f"{100 * now:.0f} % of the answers of these hours are scored so far, usually {100 * usual:.0f} %"
    return (f"{told}: scores that come first may be lower than the rest (score_hold_back_hours waits for them)",)


def _within(sums: HourlySums, start: int, end: int) -> float:
    return float(sums.count[0, max(start - sums.first_hour, 0) : max(end - sums.first_hour, 0)].sum())
