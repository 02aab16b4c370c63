"""What an alert is due to: volume, mix, tokens, cache or price, and whose.

Belongs here: the window of an alert against the same hours of the weeks before, taken apart. Does not belong here: whether
there is an alert (`decisions`), the same question about whole windows of a report (`analysis.cost_drivers`).
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import ibis
import numpy as np
from pydantic import Field

from routing_pipeline.alerts.decisions import AlertDecision, named
from routing_pipeline.alerts.detection import DAYS_BEFORE
from routing_pipeline.alerts.series import COLUMNS, DIMENSIONS
from routing_pipeline.clock import HOURS_PER_DAY, HOURS_PER_WEEK, SECONDS_PER_HOUR, UTC_ZONE
from routing_pipeline.estimates import Result, quantity
from routing_pipeline.local_hours import same_hour
from routing_pipeline.stats.divisia import Term, effects
from routing_pipeline.text import LogName
from routing_pipeline.window.hourly import KINDS
from routing_pipeline.window.scope import UNKNOWN_TASK

FACTORS = ("volume", "mix", "tokens", "cache", "price")
CACHED_COSTS = 0.1
"""A token read from the provider's cache, in uncached ones; what it really costs beyond that shows as price."""
NOTABLE = 0.1
"""Factors with less of the change are not named."""
STANDS_OUT = 1.5
"""Who has less than so many times its part of the calls of an excess may have it because all changed alike, as when a judge became stricter."""


class Share(Result):
    """The value of one dimension that most of an excess comes from."""

    dimension: str
    value: LogName
    share: float = quantity("Of the excess of all that rose (fell, for quality)", "0..1")
    now: float | None = Field(default=None, description="Its own sum (mean, of what is no sum) in the window; null without any")
    usual: float | None = Field(default=None, description="The same of the same hours before, in the mean of the weeks; null without any")
    calls: float = quantity("Its observations in the window", "calls", default=0.0)
    usual_calls: float = quantity("Its observations in the same hours before, in the mean of the weeks", "calls", default=0.0)
    calls_share: float = quantity("Of all observations in the window", "0..1", default=0.0)

    @property
    def beside(self) -> str:
        """Its part of the calls in words, where that may be all that the excess has to do with it; else empty."""
        return "" if self.share >= STANDS_OUT * self.calls_share else f"with {100 * self.calls_share:.0f} % of the calls"


class Attribution(Result):
    """Where the excess of an alert's window comes from. Effects add up to the change; empty for what is no sum."""

    change: float | None = quantity("Window less the mean of the same hours before", "USD", default=None)
    effects: dict[str, float] = quantity("Of volume, mix, tokens, cache and price", "USD", default={})
    shares: tuple[Share, ...] = ()

    def sentences(self) -> tuple[str, ...]:
        """In words, largest first."""
        said = []
        if self.change:
            parts = sorted(((value / self.change, name) for name, value in self.effects.items()), reverse=True)
            notable = [f"{name} {100 * share:.0f} %" for share, name in parts if abs(share) >= NOTABLE]
            sign = "-" if self.change < 0 else "+"
            said.append(f"{sign}${abs(self.change):,.2f} compared with the same hours before, by " + ", ".join(notable))
        if self.shares:
            said.append(
                "most from "
                + ", ".join(
                    f"{each.dimension} {named(each.value)} ({', '.join(filter(None, (f'{100 * each.share:.0f} %', each.beside)))})"
                    for each in self.shares
                )
            )
        return tuple(said)


@dataclass
class _Cell:
    """Sums over one group's observations; of earlier weeks, their mean."""

    calls: float = 0.0
    value: float = 0.0
    tokens: float = 0.0
    billed: float = 0.0

    def add(self, row: Mapping[str, float], weight: float) -> None:
        self.calls += weight * row["calls"]
        self.value += weight * row["total"]
        self.tokens += weight * row["tokens"]
        self.billed += weight * (row["tokens"] - (1 - CACHED_COSTS) * row["cached"])


def cause_from_sums(sums: ibis.Table, decision: AlertDecision, weeks: int, zone: str = UTC_ZONE) -> tuple[str, ...]:
    """What an alert is due to, in words."""
    if decision.start_s is None or decision.end_s is None or decision.measured not in COLUMNS:
        return ()
    found = attribution_from_sums(sums, decision.measured, decision.start_s, decision.end_s, weeks, zone)
    return () if found is None else found.sentences()


def attribution_from_sums(
    sums: ibis.Table, measured: str, start_s: float, end_s: float, weeks: int, zone: str = UTC_ZONE
) -> Attribution | None:
    """Take the window [start_s, end_s) apart against the same hours, by a zone's clock, of up to `weeks` weeks before, from sums kept for each data file.

    Where no earlier week holds any, against the same hours of the days before; None when they hold none either.
    """
    count, total, _ = COLUMNS[measured]
    if measured == "requests":
        total = count
    start, end = int(start_s // SECONDS_PER_HOUR), int(end_s // SECONDS_PER_HOUR)
    for earlier, cycle_h in ((weeks, HOURS_PER_WEEK), (DAYS_BEFORE, HOURS_PER_DAY)):
        cells = with_week(sums.filter(sums[count] > 0), start, end, earlier, cycle_h, zone)
        found = _attributed(cells, measured, count, total)
        if found is not None:
            return found
    return None


def _attributed(cells: ibis.Table, measured: str, count: str, total: str) -> Attribution | None:
    tokens = {name: cells[name].sum() if name in cells.columns else ibis.literal(0.0) for name in ("tokens", "cached_tokens")}
    grouped = cells.group_by("week", "kind", *DIMENSIONS.values()).agg(
        calls=cells[count].sum(), total=cells[total].sum(), tokens=tokens["tokens"], cached=tokens["cached_tokens"]
    )
    is_sum = measured in {"spend", "requests"}
    return attributed(grouped.to_pyarrow().to_pylist(), is_sum=is_sum, direction=-1 if measured in {"quality", "requests"} else 1)


def attributed(rows: Sequence[Mapping[str, Any]], *, is_sum: bool, direction: int = 1) -> Attribution | None:
    """The window against the weeks before, from sums: `calls`, `total`, `tokens` and `cached` by `week`, 0 for the window, `kind` and names of that kind (KINDS)."""
    earlier = {row["week"] for row in rows} - {0}
    if not earlier:
        return None
    sides: dict[str, dict[tuple[str, ...], tuple[_Cell, _Cell]]] = {kind: defaultdict(lambda: (_Cell(), _Cell())) for kind in KINDS}
    for row in rows:
        key = tuple(row[name] or (UNKNOWN_TASK if name == "task_type" else "") for name in KINDS[row["kind"]])
        sides[row["kind"]][key][0 if row["week"] else 1].add(row, 1 / len(earlier) if row["week"] else 1.0)
    shares = tuple(
        share for dimension in DIMENSIONS if (share := _most(dimension, sides[dimension], is_sum=is_sum, direction=direction)) is not None
    )
    if not is_sum:
        return Attribution(shares=shares)
    change = sum(new.value - old.value for old, new in sides["all"].values())
    return Attribution(change=change, effects=effects(list(_terms(sides["task and model"].values())), FACTORS), shares=shares)


def with_week(timed: ibis.Table, start: int, end: int, weeks: int, cycle_h: int = HOURS_PER_WEEK, zone: str = UTC_ZONE) -> ibis.Table:
    """Rows of the hours [start, end) and of the same hours of the weeks before, and which `week` that is, 0 for the window.

    The windows before are as long, and end when a zone's clock showed the same time; of one longer than a cycle, its last cycle is
    compared. With another cycle: of the same hours so many hours before, twice as many, and so on.
    """
    length = min(end - start, cycle_h)
    lasts = same_hour(zone, end - 1, np.arange(weeks + 1) * cycle_h).tolist()
    # After a change of the clocks two days may share an hour: it belongs to the later one.
    week = ibis.cases(*((timed.hour.between(last - length + 1, last), week) for week, last in enumerate(lasts)), else_=None)
    timed = timed.filter(timed.hour > lasts[-1] - length, timed.hour < end).mutate(week=week.cast("int64"))
    return timed.filter(timed.week.notnull())


def _most(dimension: str, values: Mapping[tuple[str, ...], tuple[_Cell, _Cell]], *, is_sum: bool, direction: int) -> Share | None:
    """The value with most of the excess; None where the dimension has one value only, or nothing rose.

    A sum's excess is what it grew by. A mean moves because some values got worse and because others make up more of the calls,
    those that were not there before among them. With M the mean of everything before and k the growth of all calls, what a value
    adds to the excess of the whole is (sum - M calls) - k (sum before - M calls before); over all values that is the whole's.
    """
    olds, news = zip(*values.values(), strict=True) if values else ((), ())
    calls = sum(cell.calls for cell in olds)
    mean, growth = _over(sum(cell.value for cell in olds), calls), _over(sum(cell.calls for cell in news), calls)

    def excess(old: _Cell, new: _Cell) -> float:
        if is_sum:
            return direction * (new.value - old.value)
        return direction * ((new.value - mean * new.calls) - growth * (old.value - mean * old.calls))

    rising = {key[0]: more for key, pair in values.items() if (more := excess(*pair)) > 0}
    if len(values) < 2 or not rising:
        return None
    total = sum(rising.values())

    def weight(value: str) -> tuple[float, float]:
        """Of two values, one is more of the calls by as much as the other is less: named is the one that grew."""
        old, new = values[value,]
        return round(rising[value] / total, 9), new.calls - growth * old.calls

    value = max(sorted(rising), key=weight)
    if not value:
        return None
    old, new = values[value,]
    return Share(
        dimension=dimension,
        value=value,
        share=rising[value] / total,
        now=new.value if is_sum else new.value / new.calls if new.calls else None,
        usual=old.value if is_sum else old.value / old.calls if old.calls else None,
        calls=new.calls,
        usual_calls=old.calls,
        calls_share=min(_over(new.calls, sum(cell.calls for cell in news)), 1.0),
    )


def _terms(cells: Iterable[tuple[_Cell, _Cell]]) -> Iterable[Term]:
    """Spend of each task and model: requests x share x tokens per request x billed share of the tokens x price of a billed one."""
    pairs = list(cells)
    calls = [sum(pair[side].calls for pair in pairs) for side in (0, 1)]
    for pair in pairs:
        sides = [_factors(cell, of) for cell, of in zip(pair, calls, strict=True)]
        if all(cell.billed > 0 or not cell.calls for cell in pair):
            yield Term(*sides)
        else:  # without tokens, what a request costs is its price
            yield Term(
                *(
                    {"volume": of, "mix": cell.calls / of if of else 0.0, "price": _over(cell.value, cell.calls)}
                    for cell, of in zip(pair, calls, strict=True)
                )
            )


def _factors(cell: _Cell, calls: float) -> dict[str, float]:
    return {
        "volume": calls,
        "mix": _over(cell.calls, calls),
        "tokens": _over(cell.tokens, cell.calls),
        "cache": _over(cell.billed, cell.tokens),
        "price": _over(cell.value, cell.billed),
    }


def _over(a: float, b: float) -> float:
    return a / b if b else 0.0
