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

from routing_pipeline.alerts.decisions import named
from routing_pipeline.alerts.hourly import DIMENSIONS, HOUR_S, WEEK_H, with_hour
from routing_pipeline.analysis.divisia import Term, effects
from routing_pipeline.estimates import Result, quantity
from routing_pipeline.hourly_sums import KINDS
from routing_pipeline.scope import UNKNOWN_TASK

FACTORS = ("volume", "mix", "tokens", "cache", "price")
CACHED_COSTS = 0.1
"""A token read from the provider's cache, in uncached ones; what it really costs beyond that shows as price."""
NOTABLE = 0.1
"""Factors with less of the change are not named."""


class Share(Result):
    """The value of one dimension that most of an excess comes from."""

    dimension: str
    value: str
    share: float = quantity("Of the excess of all that rose (fell, for quality)", "0..1")


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
            notable = [f"{name} {share:.0%}" for share, name in parts if abs(share) >= NOTABLE]
            said.append(f"{self.change:+,.2f} USD against the same hours before, by " + ", ".join(notable))
        if self.shares:
            said.append("most from " + ", ".join(f"{each.dimension} {named(each.value)} ({each.share:.0%})" for each in self.shares))
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


def attribution(
    observations: ibis.Table, start_s: float, end_s: float, weeks: int, *, is_sum: bool, direction: int = 1
) -> Attribution | None:
    """Take the window [start_s, end_s) apart against the same hours of up to `weeks` weeks before.

    Args:
        observations: attempts with `value`, the window and the weeks before it (`hourly.costs` and its like).
        start_s: begin of the window, on the hour.
        end_s: its end, on the hour.
        weeks: weeks to compare with.
        is_sum: the value adds up (cost); otherwise it is a mean, and only who it comes from is told.
        direction: 1 where more is worse, -1 where less is.

    Returns:
        None when no earlier week holds anything.
    """
    rows = _cells(observations, int(start_s // HOUR_S), int(end_s // HOUR_S), weeks)
    return attributed(rows, is_sum=is_sum, direction=direction)


def attributed(rows: Sequence[Mapping[str, Any]], *, is_sum: bool, direction: int = 1) -> Attribution | None:
    """The same from sums: `calls`, `total`, `tokens` and `cached` by `week`, 0 for the window, `kind` and names of that kind (KINDS)."""
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


def with_week(timed: ibis.Table, start: int, end: int, weeks: int) -> ibis.Table:
    """Rows of the hours [start, end) and of the same hours of the weeks before, and which `week` that is, 0 for the window."""
    timed = timed.mutate(back=ibis.literal(end - 1, "int64") - timed.hour)
    timed = timed.filter(timed.back >= 0, timed.back < (weeks + 1) * WEEK_H, timed.back % WEEK_H < end - start)
    return timed.mutate(week=(timed.back / WEEK_H).floor().cast("int64"))


def _cells(observations: ibis.Table, start: int, end: int, weeks: int) -> Sequence[dict[str, Any]]:
    timed = with_week(with_hour(observations), start, end, weeks)
    tokens = timed.prompt_tokens.fill_null(0) + timed.completion_tokens.fill_null(0)
    timed = timed.mutate(tokens=tokens)
    found: list[dict[str, Any]] = []
    for kind, names in KINDS.items():
        sums = timed.group_by("week", *names).agg(
            calls=timed.count(), total=timed.value.sum(), tokens=timed.tokens.sum(), cached=timed.cached_tokens.fill_null(0).sum()
        )
        found += [{"kind": kind, **row} for row in sums.to_pyarrow().to_pylist()]
    return found


def _most(dimension: str, values: Mapping[tuple[str, ...], tuple[_Cell, _Cell]], *, is_sum: bool, direction: int) -> Share | None:
    """The value with most of the excess; None where the dimension has one value only, or nothing rose."""

    def excess(old: _Cell, new: _Cell) -> float:
        if is_sum:
            return direction * (new.value - old.value)
        return direction * (new.value - new.calls * old.value / old.calls) if old.calls else 0.0

    rising = {key[0]: more for key, pair in values.items() if (more := excess(*pair)) > 0}
    if len(values) < 2 or not rising:
        return None
    value = max(sorted(rising), key=lambda each: rising[each])
    return Share(dimension=dimension, value=value, share=rising[value] / sum(rising.values())) if value else None


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
