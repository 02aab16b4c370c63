"""Which hours stand out from what is usual at that hour: median polish on logarithms, robust z, false discovery rate.

Belongs here: the arithmetic on one number per hour. Does not belong here: what the number counts, and who caused it.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy.special import ndtri, stdtr

from routing_pipeline.clock import HOURS_PER_DAY, HOURS_PER_WEEK, MONDAY_OFFSET_HOURS
from routing_pipeline.estimates import Unidentifiable
from routing_pipeline.stats.inference import FALSE_DISCOVERY_RATE, Floats, false_discovery_adjusted

Places = NDArray[np.int64]

MIN_DAYS = 3
WEEKLY_FROM_DAYS = 21
"""From three weeks on an hour is compared with the same hour of the week, before that with the same hour of the day."""
POLISHES = 20
YOUNG = 0.25
"""Share of its hours below which a day (or week) at the series' ends does not say what is usual of it."""
TAIL_DF = 20
"""Hour totals have heavier tails than a normal: a few dear calls carry an hour. Student's t with this many degrees stands for them."""
MAD_TO_SD = float(1 / ndtri(0.75))
"""A normal's standard deviation in median absolute deviations: 1.4826."""


@dataclass(frozen=True)
class HourOfSeries:
    """One hour against what is usual; `hour` counts whole hours since 1970, amounts are in the series' unit."""

    hour: int
    amount: float
    expected: float
    """What this hour would usually be; low and high hold it in 95 % of hours."""
    expected_low: float
    expected_high: float
    z: float
    adjusted_p: float

    @property
    def stands_out(self) -> bool:
        """Above the usual, at a false discovery rate of 5 %."""
        return self.adjusted_p <= FALSE_DISCOVERY_RATE


def slot(hour: int, days: float) -> int:
    """What an hour is compared within: hour of the week when `days` of data allow, else hour of the day."""
    return (hour + MONDAY_OFFSET_HOURS) % (HOURS_PER_WEEK if days >= WEEKLY_FROM_DAYS else HOURS_PER_DAY)


def hours_standing_out(amounts: Mapping[int, tuple[float, float]], tested: range) -> list[HourOfSeries] | Unidentifiable:
    """Compare each hour's total with the usual of its slot and its day (or week).

    log amount = slot + day + residual, by median polish (Tukey 1977, Exploratory Data Analysis, ch. 11). A residual is divided by
    its sampling error, sqrt(sum x^2) / sum x for a total of independent x (compound Poisson), and by the spread of these
    ratios over all hours, 1.4826 x their median absolute deviation, at least 1. One-sided p-values (Student's t, `TAIL_DF`) over the tested hours.

    Args:
        amounts: by hour since 1970, the total and the sum of squares of what it adds up.
        tested: hours that may stand out; the others only say what is usual.
    """
    hours = np.array(sorted(hour for hour, (total, _) in amounts.items() if total > 0), dtype=np.int64)
    days = (int(hours[-1]) - int(hours[0]) + 1) / HOURS_PER_DAY if len(hours) else 0.0
    if days < MIN_DAYS:
        return Unidentifiable(
            unidentifiable=f"{days:.1f} days of spend; what is usual at an hour needs at least {MIN_DAYS}; ask for a longer timeframe"
        )
    totals = np.array([amounts[int(hour)][0] for hour in hours])
    noise = np.sqrt([amounts[int(hour)][1] for hour in hours]) / totals
    slots = np.array([slot(int(hour), days) for hour in hours])
    cycle = HOURS_PER_WEEK if days >= WEEKLY_FROM_DAYS else HOURS_PER_DAY
    rounds = (hours + MONDAY_OFFSET_HOURS) // cycle
    usual = _usual(np.log(totals), slots, rounds, cycle)
    ratio = (np.log(totals) - usual) / noise
    # Fitted effects use up freedom, so residuals are smaller than errors.
    freedom = max(len(hours) - len(set(slots.tolist())) - len(set(rounds.tolist())) + 1, 1)
    spread = max(MAD_TO_SD * float(np.median(np.abs(ratio))) * (len(hours) / freedom) ** 0.5, 1.0)
    z = ratio / spread
    is_tested = np.array([int(hour) in tested for hour in hours])
    adjusted = np.ones(len(hours))
    adjusted[is_tested] = false_discovery_adjusted(stdtr(TAIL_DF, -z[is_tested]).tolist())
    # What an hour would usually be: its own chance, and the error of two medians (pi/2 as variable as means).
    uncertain = np.sqrt(1 + np.pi / 2 * (1 / _slot_sizes(slots) + 1 / _slot_sizes(rounds)))
    half = float(ndtri(0.975)) * spread * _slot_medians(noise, slots) * uncertain
    return [
        HourOfSeries(
            hour=int(hours[i]),
            amount=float(totals[i]),
            expected=float(np.exp(usual[i])),
            expected_low=float(np.exp(usual[i] - half[i])),
            expected_high=float(np.exp(usual[i] + half[i])),
            z=float(z[i]),
            adjusted_p=float(adjusted[i]),
        )
        for i in np.flatnonzero(is_tested)
    ]


def _usual(values: Floats, slots: Places, rounds: Places, cycle: int) -> Floats:
    """Slot plus day (or week), by median polish.

    Of a day at either end that holds less than a quarter of its hours nothing is known: a spike in its first hour would be what
    is usual that day. It is taken for as busy as the busiest of the others, so that no ordinary day stands out for it.
    """
    names, sizes = np.unique(rounds, return_counts=True)
    ends = [names[place] for place in (0, -1) if sizes[place] < cycle * YOUNG]
    young = np.isin(rounds, ends)
    if not young.any() or young.all():
        row, column = _polished(values, slots, rounds)
        return row + column
    old = ~young
    row, column = _polished(values[old], slots[old], rounds[old])
    by_slot = dict(zip(slots[old].tolist(), row.tolist(), strict=True))
    usual = np.empty_like(values)
    usual[old] = row + column
    usual[young] = [by_slot.get(each, float(np.median(row))) for each in slots[young].tolist()] + column.max()
    return usual


def _polished(values: Floats, rows: Places, columns: Places) -> tuple[Floats, Floats]:
    """Row and column effects of a two-way table with holes, by median polish."""
    row_effect, column_effect = np.zeros(len(values)), np.zeros(len(values))
    for _ in range(POLISHES):
        row_effect = _slot_medians(values - column_effect, rows)
        column_effect = _slot_medians(values - row_effect, columns)
    return row_effect, column_effect


def _slot_medians(values: Floats, slots: Places) -> Floats:
    """For each value the median of its slot."""
    names, place = np.unique(slots, return_inverse=True)
    return np.array([np.median(values[place == each]) for each in range(len(names))])[place]


def _slot_sizes(slots: Places) -> Floats:
    """For each value how many values its slot holds."""
    _, place, sizes = np.unique(slots, return_inverse=True, return_counts=True)
    return np.asarray(sizes[place], dtype=np.float64)
