"""Which feeds fell silent: hours without a single request where the weeks before let expect some.

Belongs here: the silence of the whole traffic and of each team. Models and rules may fall silent because routing changed.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from pydantic import BaseModel, ConfigDict, ValidationError

from routing_pipeline.alerts.detection import DAYS_BEFORE, MONTH_H
from routing_pipeline.alerts.series import WHOLE, Floats, HourlySums, Series
from routing_pipeline.clock import HOURS_PER_DAY, HOURS_PER_WEEK, UTC_ZONE
from routing_pipeline.local_hours import same_hour

WATCHED = frozenset({"all", "team"})
DISPERSION = 0.1
"""Squared coefficient of variation of traffic around what the weeks before let expect."""


@dataclass(frozen=True)
class Silence:
    """A series without requests: since which hour (counted from 1970), and how many were expected meanwhile."""

    series: Series
    since: int
    expected: float


class SilenceMemory(BaseModel):
    """Series that were said to be silent and did not speak since."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    told: tuple[Series, ...] = ()

    def after(self, silent: tuple[Silence, ...]) -> tuple[SilenceMemory, tuple[Silence, ...]]:
        """The memory now, and what of it is news. Where everything is silent, no team's silence is."""
        now = {each.series for each in silent}
        still = {series for series in self.told if series in now or WHOLE in now}
        news = tuple(each for each in silent if each.series not in still and WHOLE not in still)
        news = tuple(each for each in news if each.series == WHOLE) or news
        return SilenceMemory(told=tuple(sorted(still | {each.series for each in news}))), news


def remembered_silence(cursor: str | None) -> SilenceMemory:
    """The memory in a cursor; an empty or unreadable one is none."""
    try:
        return SilenceMemory.model_validate_json(cursor or "{}")
    except ValidationError:
        return SilenceMemory()


def silences(sums: HourlySums, end_hour: int, weeks: int, false_alerts_per_month: float, zone: str = UTC_ZONE) -> tuple[Silence, ...]:
    """Series silent at `end_hour` (exclusive): those whose run of empty hours chance does not explain.

    With mu requests expected over the run and traffic that varies by gamma with squared coefficient of variation d, none
    come with probability (1 + d mu)^(-1/d), the negative binomial's at 0. It is held against `false_alerts_per_month` spread
    over the hours of a month and the series watched. mu sums the mean of the same hours, by the zone's clock, in earlier weeks; where these are
    not covered, of the days before; on the first day, the mean hour of the series.
    """
    watched = [place for place, series in enumerate(sums.series) if series.dimension in WATCHED]
    level = false_alerts_per_month / MONTH_H / len(watched)
    found = []
    for place in watched:
        count = sums.count[place, : max(end_hour - sums.first_hour, 0)]
        active = np.flatnonzero(count)
        if not len(active):
            continue
        since = sums.first_hour + int(active[-1]) + 1
        expected = _expected(count[active[0] : active[-1] + 1], since, end_hour - since, weeks, zone)
        if expected > 0 and (1.0 + DISPERSION * expected) ** (-1.0 / DISPERSION) <= level:
            found.append(Silence(sums.series[place], since, expected))
    return tuple(found)


def _expected(history: Floats, since: int, hours: int, weeks: int, zone: str) -> float:
    """Requests expected in the `hours` from `since` on, which `history` ends before."""
    mean, known = float(history.mean()), len(history)
    silent = since + np.arange(min(hours, weeks * HOURS_PER_WEEK))
    by_week, by_day = (
        same_hour(zone, silent, np.arange(1, cycles + 1)[:, None] * cycle_h) - since + known
        for cycle_h, cycles in ((HOURS_PER_WEEK, weeks), (HOURS_PER_DAY, DAYS_BEFORE))
    )
    expected = 0.0
    for ahead in range(len(silent)):
        covered: list[float] = []
        for places in (by_week[:, ahead], by_day[:, ahead]):
            covered = covered or [float(history[place]) for place in places if 0 <= place < known]
        expected += sum(covered) / len(covered) if covered else mean
    return expected
