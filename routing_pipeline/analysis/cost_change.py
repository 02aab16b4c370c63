"""Why spend changed: against the window before, hour by hour, and task type by task type against a threshold.

Belongs here: the change taken apart, spikes and who caused them, tasks above the cost threshold. Does not belong here: what need
not have been spent (`cost_drivers`), the sums by task type and model (`spend_cells`).
"""

from __future__ import annotations

import math
from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from datetime import UTC, datetime

import ibis
import numpy as np
from pydantic import Field

from routing_pipeline.analysis.choices import LISTED, fold_rare
from routing_pipeline.analysis.earlier_hours import EarlierHours, Spender
from routing_pipeline.analysis.spend_cells import SpendCell, SpendCells
from routing_pipeline.clock import SECONDS_PER_HOUR, hour_of
from routing_pipeline.estimates import Estimate, Measured, Result, Unidentifiable, quantity
from routing_pipeline.stats.divisia import Term, effects
from routing_pipeline.stats.inference import NOT_NEGATIVE, Floats, clustered_mean
from routing_pipeline.stats.outliers import HourOfSeries, hours_standing_out, slot
from routing_pipeline.text import LogName
from routing_pipeline.window.scope import CLUSTERS, AnalysisScope

LISTED_DRIVERS = 3
CHANGE_FACTORS = ("volume", "mix", "tokens", "cache", "price", "unattributed")


class DearTask(Result):
    """A task type whose mean cost per request is above the cost threshold."""

    task_type: LogName
    requests: int
    cost_usd: Measured = quantity("Per request, all attempts", "USD")
    certain: bool = Field(description="Above the threshold over the whole interval")


class SpikeDriver(Result):
    """Who spent the excess, on what."""

    team: LogName | None
    model: LogName
    task_type: LogName
    excess_usd: float = quantity("Above the same hours of the other days", "USD")
    share_of_excess: float = quantity("Of the spike's excess over those hours; above 1 when others spent less", "1")


class Spike(Result):
    """Consecutive hours whose spend stands out from the same hours of other days."""

    start: datetime = Field(description="UTC")
    hours: int = quantity("Consecutive hours that stand out", "hours")
    spend_usd: float = quantity("Spent in them", "USD")
    expected_usd: Measured = quantity("Usual for these hours and days", "USD")
    excess_usd: Measured = quantity("spend_usd less expected_usd", "USD")
    robust_z: float = quantity("Of the most extreme hour, on the logarithm of spend", "1")
    adjusted_p: float = quantity("Benjamini-Hochberg adjusted p-value of that hour", "0..1")
    drivers: tuple[SpikeDriver, ...] = Field(description="Largest excess first")


class ChangeParts(Result):
    """The change in spend on chat taken apart by log-mean Divisia; the parts add up to the change."""

    previous_usd: float = quantity("Spend on chat in the equal window before", "USD")
    current_usd: float = quantity("Spend on chat in the window", "USD")
    change_usd: float = quantity("current_usd - previous_usd", "USD")
    volume_usd: float = quantity("From more or fewer requests", "USD")
    mix_usd: float = quantity("From other task types and models, retries and fallbacks included", "USD")
    tokens_usd: float = quantity("From longer or shorter prompts and answers", "USD")
    cache_usd: float = quantity("From the share of prompt tokens served from the provider's cache", "USD")
    price_usd: float = quantity("From what a token of each class costs", "USD")
    unattributed_usd: float = quantity("From cost per call where no tokens are logged: price or length, the logs cannot tell", "USD")


def point(measured: Measured) -> float:
    """The estimate, 0 where it is unknown: to sort by."""
    return measured.estimate if isinstance(measured, Estimate) else 0.0


# --- tasks above the threshold ---------------------------------------------------------------------------------------------------------


def expensive_tasks(requests: ibis.Table, scope: AnalysisScope) -> tuple[DearTask, ...]:
    """Task types whose mean cost per request of chat (USD, clustered by session) is above the threshold asked for; none without one."""
    threshold = scope.parameters.cost_threshold
    if threshold is None:
        return ()
    final = fold_rare(requests.filter(requests.is_final), "task_type", len(scope.task_types))
    rows = final.group_by("task_type", "cluster").agg(n=final.request_cost_usd.count(), spend=final.request_cost_usd.sum())
    counts: dict[str, Floats] = defaultdict(lambda: np.zeros(CLUSTERS))
    spends: dict[str, Floats] = defaultdict(lambda: np.zeros(CLUSTERS))
    for row in rows.to_pyarrow().to_pylist():
        counts[row["task_type"]][row["cluster"]] = row["n"]
        spends[row["task_type"]][row["cluster"]] = row["spend"] or 0.0
    found = []
    for task, n in counts.items():
        mean = clustered_mean(spends[task], n, bounds=NOT_NEGATIVE)
        if n.sum() and spends[task].sum() / n.sum() > threshold:
            certain = isinstance(mean, Estimate) and mean.low > threshold
            found.append(DearTask(task_type=task, requests=int(n.sum()), cost_usd=mean, certain=certain))
    return tuple(sorted(found, key=lambda each: (-point(each.cost_usd), each.task_type)))


# --- spikes ---------------------------------------------------------------------------------------------------------------------------


def _hour(rows: ibis.Table) -> ibis.expr.types.IntegerValue:
    return hour_of(rows.started_s)


def spend_by_hour(requests: ibis.Table) -> dict[int, tuple[float, float]]:
    """By hour since 1970: spend and sum of squared costs."""
    timed = requests.mutate(hour=_hour(requests))
    rows = timed.group_by("hour").agg(spend=timed.cost_usd.sum(), squares=(timed.cost_usd * timed.cost_usd).sum())
    return {row["hour"]: (row["spend"] or 0.0, row["squares"] or 0.0) for row in rows.to_pyarrow().to_pylist()}


def find_spikes(
    requests: ibis.Table, scope: AnalysisScope, hours: Mapping[int, tuple[float, float]], earlier: EarlierHours | None
) -> list[Spike] | Unidentifiable:
    """Runs of consecutive hours of the window whose spend stands out (`stats.outliers`), and who spent the excess.

    Args:
        requests: rows of the window, of every kind of call.
        scope: what they cover.
        hours: as `spend_by_hour`, of the window and of what is known before it.
        earlier: the lake's hours before a short window, if it is one.
    """
    tested = range(int(scope.start_s // SECONDS_PER_HOUR), math.ceil(scope.end_s / SECONDS_PER_HOUR))
    judged = hours_standing_out(hours, tested)
    if isinstance(judged, Unidentifiable):
        return judged
    episodes: list[list[HourOfSeries]] = []
    for hour in judged:
        if not hour.stands_out:
            continue
        if episodes and episodes[-1][-1].hour == hour.hour - 1:
            episodes[-1].append(hour)
        else:
            episodes.append([hour])
    if not episodes:
        return []
    days = (max(hours) - min(hours) + 1) / 24
    slots = {slot(hour.hour, days) for episode in episodes for hour in episode}
    spenders = _spenders(requests, scope, slots, days)
    if earlier is not None:
        spenders = spenders | earlier.spenders({hour for hour in hours if slot(hour, days) in slots})
    spiking = {hour.hour for episode in episodes for hour in episode}
    spikes = [_spike(episode, spenders, spiking, days) for episode in episodes]
    return sorted(spikes, key=lambda each: (-point(each.excess_usd), each.start))


def _spenders(requests: ibis.Table, scope: AnalysisScope, slots: set[int], days: float) -> dict[int, dict[Spender, float]]:
    """By hour of the given slots: spend by team, model and task type."""
    cycle = len({slot(hour, days) for hour in range(168)})
    timed = requests.mutate(hour=_hour(requests))
    # 1970-01-01 was a Thursday; `slot` counts from Monday.
    rows = timed.filter(((timed.hour + slot(0, days)) % cycle).isin(sorted(slots)))
    # How many teams there are nobody has counted, nor what models serve other kinds of call, so it is asked.
    others = LISTED + 1 if scope.other_calls else 0
    for column, names in (("team", LISTED + 1), ("model", len(scope.models) + others), ("task_type", len(scope.task_types) + others)):
        rows = fold_rare(rows, column, names)
    found: dict[int, dict[Spender, float]] = defaultdict(dict)
    for row in rows.group_by("hour", "team", "model", "task_type").agg(spend=rows.cost_usd.sum()).to_pyarrow().to_pylist():
        if row["spend"]:
            found[row["hour"]][row["team"], row["model"], row["task_type"]] = row["spend"]
    return found


def _spike(episode: Sequence[HourOfSeries], spenders: Mapping[int, Mapping[Spender, float]], spiking: set[int], days: float) -> Spike:
    spend = math.fsum(hour.amount for hour in episode)
    expected = math.fsum(hour.expected for hour in episode)
    # Ends are added hour by hour, as if all hours erred together: wide, and right whatever hangs together.
    usual = Estimate(
        estimate=expected,
        low=math.fsum(hour.expected_low for hour in episode),
        high=math.fsum(hour.expected_high for hour in episode),
    )
    worst = max(episode, key=lambda hour: (hour.z, -hour.hour))
    return Spike(
        start=datetime.fromtimestamp(episode[0].hour * SECONDS_PER_HOUR, UTC),
        hours=len(episode),
        spend_usd=spend,
        expected_usd=usual,
        excess_usd=usual.scaled(-1.0).shifted(spend),
        robust_z=worst.z,
        adjusted_p=worst.adjusted_p,
        drivers=_drivers(episode, spenders, spiking, days, expected, spend - expected),
    )


def _drivers(
    episode: Sequence[HourOfSeries],
    spenders: Mapping[int, Mapping[Spender, float]],
    spiking: set[int],
    days: float,
    expected: float,
    excess: float,
) -> tuple[SpikeDriver, ...]:
    """Who spent more than their usual share of the expected spend: usual shares come from the same slots of other days."""
    slots = {slot(hour.hour, days) for hour in episode}
    during: dict[Spender, float] = defaultdict(float)
    usually: dict[Spender, float] = defaultdict(float)
    inside = {hour.hour for hour in episode}
    for hour, by_spender in spenders.items():
        if hour in inside:
            _add(during, by_spender)
        elif hour not in spiking and slot(hour, days) in slots:
            _add(usually, by_spender)
    usual_total = math.fsum(usually.values())
    above = {who: paid - (expected * usually[who] / usual_total if usual_total else 0.0) for who, paid in during.items()}
    largest = sorted(above.items(), key=lambda item: (-item[1], tuple(str(part) for part in item[0])))[:LISTED_DRIVERS]
    return tuple(
        SpikeDriver(team=team, model=model, task_type=task, excess_usd=paid, share_of_excess=paid / excess)
        for (team, model, task), paid in largest
        if paid > 0
    )


def _add(totals: dict[Spender, float], more: Mapping[Spender, float]) -> None:
    for who, paid in more.items():
        totals[who] += paid


# --- the change against the window before ---------------------------------------------------------------------------------------------


def change_parts(sums: SpendCells, before: SpendCells, scope: AnalysisScope) -> ChangeParts | Unidentifiable:
    """The change in spend on chat between two equal windows (USD) taken apart; or why it cannot be."""
    if not before.requests:
        return Unidentifiable(
            unidentifiable="the logs have no requests in the previous window; keep collecting, or choose a shorter timeframe"
        )
    if not sums.requests:
        return Unidentifiable(unidentifiable="no requests in the window")
    if not sums.priced_attempts or not before.priced_attempts:
        return Unidentifiable(unidentifiable="one of the two windows has no cost at all")
    if scope.incomparable is not None:
        return Unidentifiable(unidentifiable=scope.incomparable)
    parts = effects(_terms(sums, before), CHANGE_FACTORS)
    return ChangeParts(
        previous_usd=before.spend_usd,
        current_usd=sums.spend_usd,
        change_usd=sums.spend_usd - before.spend_usd,
        **{f"{name}_usd": parts[name] for name in CHANGE_FACTORS},
    )


def _terms(sums: SpendCells, before: SpendCells) -> Iterable[Term]:
    """Spend as a sum over task type, model and token class: requests x share x tokens per call x cache share x price.

    A cell whose tokens do not explain its cost on either side, and calls without tokens, are requests x share x cost per call.
    """
    for task, model in sorted({*sums.cells, *before.cells}):
        sides = [(side.cell(task, model), side.prices[model], side.requests) for side in (before, sums)]
        paid = [cell.prices_paid(prices) for cell, prices, _ in sides]
        if all(prices is not None or not cell.calls for (cell, *_), prices in zip(sides, paid, strict=True)):
            old, new = (_by_class(cell, prices, n) for (cell, _, n), prices in zip(sides, paid, strict=True))
            yield from (Term(*pair) for pair in zip(old, new, strict=True))
        else:
            yield Term(*(_unexplained(cell.calls, cell.spend_usd, n) for cell, _, n in sides))
        yield Term(*(_unexplained(cell.rest_calls, cell.rest_usd, n) for cell, _, n in sides))


def _by_class(cell: SpendCell, prices: Floats | None, requests: int) -> list[dict[str, float]]:
    """Factors of a cell's spend on each token class; their product adds up to it."""
    if prices is None:
        absent = {"volume": float(requests), "mix": 0.0, "tokens": 1.0, "cache": 1.0, "price": 1.0}
        return [absent, absent, absent]
    uncached, cached, output = (float(value) for value in cell.tokens)
    prompt = uncached + cached
    shared = {"volume": float(requests), "mix": cell.calls / requests}
    return [
        shared | {"tokens": prompt / cell.calls, "cache": 1.0 - cell.cached_share, "price": float(prices[0])},
        shared | {"tokens": prompt / cell.calls, "cache": cell.cached_share, "price": float(prices[1])},
        shared | {"tokens": output / cell.calls, "cache": 1.0, "price": float(prices[2])},
    ]


def _unexplained(calls: int, spend_usd: float, requests: int) -> dict[str, float]:
    return {"volume": float(requests), "mix": calls / requests, "unattributed": spend_usd / calls if calls else 1.0}
