"""What the live page says: the last complete hour against what is usual, a window of traffic, models, in one typed result.

Belongs here: the figures, from kept sums, under the filters that were chosen. Does not belong here: keeping the sums up to date
(`data`), how the figures look (`app` and its templates).

Requests and success are of chat, spend is of every kind of call. Both are those of an analysis of the same hours, since the sums were made by its own rows
(`hourly`); what is usual is what the sensors hold an hour against (`alerts.detection`).
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Literal

import ibis
import numpy as np
from numpy.typing import NDArray
from pydantic import Field

from routing_pipeline.alerts.decisions import AlertDecision, cost_measure, failure_measure, latency_measure, quality_measure
from routing_pipeline.alerts.detection import Measure, detect
from routing_pipeline.alerts.series import COLUMNS, WHOLE, HourlySums, Measured as What
from routing_pipeline.analysis.budget_projection import BudgetProjection
from routing_pipeline.analysis.daily_spend import NO_COST
from routing_pipeline.clock import HOURS_PER_WEEK, SECONDS_PER_HOUR
from routing_pipeline.estimates import Known, Measured, Result, quantity
from routing_pipeline.gateways.rollout import RolloutStatus
from routing_pipeline.parameters import TIMEFRAMES, AlertThresholds, Timeframe
from routing_pipeline.recommendation.realized_outcomes import RealizedOutcomes
from routing_pipeline.rules.lifecycle import RuleSetStatus
from routing_pipeline.rules.model import RuleSet
from routing_pipeline.schema import CHAT, Operation
from routing_pipeline.serving.dashboard.costs import ReportedCosts
from routing_pipeline.stats.inference import proportion_interval
from routing_pipeline.text import LogName
from routing_pipeline.window.engine import Engine
from routing_pipeline.window.hourly import KINDS, quantile_ms, series_beside
from routing_pipeline.window.kinds_of_call import chat_of

Floats = NDArray[np.float64]

MAX_MODELS = 20
MAX_ERRORS = 10
BUCKET_H: dict[Timeframe, int] = {"1h": 1, "24h": 1, "7d": 6, "30d": 24}
LEAST_SHOWN_H = 24
"""Charts show a day at least."""
NOISE_WEEKS = 2

Tiled = Literal["requests", "spend", "failed attempts", "latency", "quality"]


@dataclass(frozen=True)
class PageQuery:
    """The filters of the page; None: all."""

    timeframe: Timeframe = "24h"
    task: str | None = None
    model: str | None = None
    team: str | None = None


class LiveAlert(Result):
    """One alert as the sensors tell it."""

    sensor: str
    alert: AlertDecision
    is_going_on: bool = Field(description="The last evaluated hour still alarms")


@dataclass(frozen=True)
class Snapshot:
    """What is known of the lake at one moment; `serial` counts the moments."""

    serial: int
    version: str
    """Of the lake and of what else the page speaks of; the same version, the same figures."""
    seen_s: float
    newest_s: float
    until: int
    """The first hour, from 1970, that is not known to be complete."""
    attempts: tuple[Path, ...]
    scores: tuple[Path, ...]
    requests: Mapping[int, Path]
    errors: Mapping[int, Path]
    latency: Mapping[int, Path]
    days: int
    pending_days: int
    pending_files: int
    names: Mapping[str, tuple[str, ...]]
    alerts: tuple[LiveAlert, ...] | None = None
    projection: BudgetProjection | None = None
    rule_set: RuleSet | None = None
    status: RuleSetStatus | None = None
    outcomes: RealizedOutcomes | None = None
    rollout: RolloutStatus | None = None
    costs: ReportedCosts | None = None


class Tile(Result):
    """One measure of the last complete hour against what is usual then."""

    measured: Tiled
    now: float | None = quantity("In the hour; null: not observed", "requests, USD, 0..1 or ms", default=None)
    usual: float | None = quantity(
        "In the same hour of the week, as the sensors see it; null: nothing to compare with yet", "as now", default=None
    )
    usual_is_of_days: bool = Field(
        default=False, description="`usual` is that of the same hour of the days before: the logs hold no week before to compare with"
    )
    stands_out: bool = Field(description="Beyond chance and beyond the thresholds, as a sensor judges this hour")


class Bucket(Result):
    """One step of the charts."""

    start: datetime = Field(description="UTC")
    is_complete: bool
    requests: int = quantity("Final requests of chat", "requests")
    cost_usd: float = quantity("Of all attempts of every kind of call: as logged, else at list price", "USD")
    usual_usd: float | None = quantity("Usual spend of these hours; null where there is no baseline", "USD", default=None)
    failed: float | None = quantity("Share of final requests that failed", "0..1", default=None)
    p95_ms: float | None = quantity("95th percentile of latency, within 1 %", "ms", default=None)
    quality: float | None = quantity("Mean over scored answers", "0..1", default=None)


class ModelLine(Result):
    """One model in the window."""

    model: LogName
    requests: int = quantity("Final requests", "requests")
    share: float = quantity("Of all final requests", "0..1")
    cost_usd: Known = quantity("Of all its attempts", "USD")
    success_rate: Measured = quantity("Share of its final requests that ended in success", "0..1")
    p50_ms: float | None = quantity("Median latency, within 1 %", "ms", default=None)
    p95_ms: float | None = quantity("95th percentile, within 1 %", "ms", default=None)
    scored: int = quantity("Answers with a score", "answers")
    quality: float | None = quantity("Mean over scored answers", "0..1", default=None)
    usual_quality: float | None = quantity("The same over the same hours of the weeks before", "0..1", default=None)


class OperationLine(Result):
    """One kind of call in the window."""

    operation: Operation = Field(description="Kind of call")
    requests: int = quantity("Calls, each with its failed tries counted once", "requests")
    cost_usd: Known = quantity("Of all its attempts", "USD")
    success_rate: Measured = quantity("Share of the calls that ended in success", "0..1")
    p95_ms: float | None = quantity("95th percentile of latency, within 1 %", "ms", default=None)


class ErrorLine(Result):
    """One class of failure in the window."""

    error_type: LogName | None = Field(description="Null: the log does not say")
    attempts: int = quantity("Failed attempts", "attempts")
    requests: int = quantity("Of them, those whose failure the client saw", "requests")


class LivePage(Result):
    """Everything that the page shows under one set of filters."""

    start: datetime = Field(description="First hour of the window, UTC")
    end: datetime = Field(description="The hour after the window's last, which may still be filling")
    newest: datetime = Field(description="The newest attempt in the lake")
    hour: datetime = Field(description="The last complete hour, which the tiles are about")
    tiles: tuple[Tile, ...]
    requests: int = quantity("Final requests of chat in the window", "requests")
    attempts: int = quantity("Attempts at chat", "attempts")
    cost_usd: Known = quantity("Spend of all attempts of every kind of call: as logged, else at list price", "USD")
    operations: tuple[OperationLine, ...] = Field(
        default=(), description="Each kind of call by itself: chat first, then most expensive first"
    )
    success_rate: Measured = quantity("Share of final requests that ended in success", "0..1")
    p50_ms: float | None = quantity("Median latency of final requests, within 1 %", "ms", default=None)
    p95_ms: float | None = quantity("95th percentile, within 1 %", "ms", default=None)
    scored: int = quantity("Answers with a score", "answers")
    quality: float | None = quantity("Mean over scored answers", "0..1", default=None)
    buckets: tuple[Bucket, ...]
    models: tuple[ModelLine, ...] = Field(description="Most requests first")
    models_not_listed: int = quantity("Models with fewer", "models")
    errors: tuple[ErrorLine, ...] = Field(description="Most frequent first")
    errors_not_listed: int = quantity("Classes with fewer", "classes")


def live_page(snapshot: Snapshot, asked: PageQuery, engine: Engine, thresholds: AlertThresholds) -> LivePage:
    """What the page shows. Reads kept sums alone: the days of the window, and the hours of the baseline."""
    begins, end = hours_of(snapshot, asked)
    hours = end - begins
    shown = max(hours, LEAST_SHOWN_H)
    attempts = _by_hour(engine, snapshot.attempts, asked, snapshot.until, thresholds.baseline_weeks, ())
    scores = _by_hour(engine, snapshot.scores, asked, end, thresholds.baseline_weeks, ("model",))
    calls = _counted(engine, snapshot, asked, end - shown, end)
    all_timed = _timed(engine, snapshot, asked, end - shown, end, BUCKET_H[asked.timeframe])
    rows, timed = _chat(calls), _chat(all_timed)
    errors = _errors(engine, snapshot, asked, end - hours, end)
    since = snapshot.until - (thresholds.baseline_weeks + NOISE_WEEKS) * HOURS_PER_WEEK
    observed = _observed(
        attempts, scores, _chat(_counted(engine, snapshot, asked, since, snapshot.until, ("hour", "operation"))), snapshot.until
    )
    tiles, usual_usd = _tiles(observed, thresholds, snapshot.until)
    within, all_within = _window(rows, end - hours, end), _window(calls, end - hours, end)
    scored = _window(scores, end - hours, end)
    final = _sum(within, "requests")
    models = _models(within, [row for row in timed if row["hour"] >= end - hours], scores, end - hours, end, thresholds.baseline_weeks)
    return LivePage(
        start=_moment(end - hours),
        end=_moment(end),
        newest=datetime.fromtimestamp(snapshot.newest_s, UTC),
        hour=_moment(snapshot.until - 1),
        tiles=tiles,
        requests=round(final),
        attempts=round(_sum(within, "attempts")),
        cost_usd=_cost(all_within),
        operations=_operations(all_within, _window(all_timed, end - hours, end)),
        success_rate=proportion_interval(_sum(within, "successes"), final),
        **_quantiles([row for row in timed if row["hour"] >= end - hours]),
        scored=round(sum(row["scored"] for row in scored)),
        quality=_mean(scored),
        buckets=_buckets(rows, calls, timed, scores, usual_usd, snapshot.until, (end - shown, end), BUCKET_H[asked.timeframe]),
        models=models[:MAX_MODELS],
        models_not_listed=max(len(models) - MAX_MODELS, 0),
        errors=errors[:MAX_ERRORS],
        errors_not_listed=max(len(errors) - MAX_ERRORS, 0),
    )


# Reading

_Row = dict[str, Any]


def _filters(asked: PageQuery) -> tuple[tuple[str, str | None], ...]:
    return (("task_type", asked.task), ("model", asked.model), ("team", asked.team))


def hours_of(snapshot: Snapshot, asked: PageQuery) -> tuple[int, int]:
    """The window that is asked for: its first hour, from 1970, and the one after its last, which may still be filling."""
    end = int(snapshot.newest_s // SECONDS_PER_HOUR) + 1
    return end - int(TIMEFRAMES[asked.timeframe].total_seconds()) // SECONDS_PER_HOUR, end


def filtered(table: ibis.Table, asked: PageQuery) -> ibis.Table:
    """Rows of the filters; a request without a task type is of the task `unknown`, as in every analysis."""
    for column, value in _filters(asked):
        if value is not None:
            named = table[column].fill_null("unknown") if column == "task_type" else table[column]
            table = table.filter(named == value)
    return table


def _grouped(table: ibis.Table, by: Sequence[str]) -> list[_Row]:
    keys = {"hour", "operation", "team", "task_type", "model", "routing_rule_id", "error_type", "step"}
    sums = {name: table[name].sum() for name in table.columns if name not in keys}
    rows: list[_Row] = table.group_by(*by).agg(**sums).order_by(*by).to_pyarrow().to_pylist()
    return rows


def _by_hour(engine: Engine, parts: Sequence[Path], asked: PageQuery, end: int, weeks: int, by: Sequence[str]) -> list[_Row]:
    if not parts:
        return []
    table = _least(engine, parts, asked, by)
    table = table.filter(table.hour >= end - (weeks + NOISE_WEEKS) * HOURS_PER_WEEK, table.hour < end)
    return _grouped(filtered(table, asked), ("hour", *by))


def _least(engine: Engine, parts: Sequence[Path], asked: PageQuery, by: Sequence[str]) -> ibis.Table:
    """The sums to read: series, where some are kept apart by just what is filtered and grouped by, and cells otherwise."""
    needed = {column for column, value in _filters(asked) if value is not None} | set(by)
    kind = next((kind for kind, names in KINDS.items() if set(names) == needed), None)
    if kind is None:
        return engine.read_parquet(parts)
    series = engine.read_parquet([series_beside(part) for part in parts])
    return series.filter(series.kind == kind).drop("kind")


def _files(of_days: Mapping[int, Path], start: int, end: int) -> list[Path]:
    return [path for day, path in of_days.items() if start // 24 <= day <= (end - 1) // 24]


def _counted(
    engine: Engine, snapshot: Snapshot, asked: PageQuery, start: int, end: int, by: Sequence[str] = ("hour", "operation", "model")
) -> list[_Row]:
    files = _files(snapshot.requests, start, end)
    if not files:
        return []
    table = engine.read_parquet(files)
    return _grouped(filtered(table.filter(table.hour >= start, table.hour < end), asked), by)


def _timed(engine: Engine, snapshot: Snapshot, asked: PageQuery, start: int, end: int, bucket_h: int) -> list[_Row]:
    """Latency counts by the last hour of their bucket, kind of call, model and step."""
    files = _files(snapshot.latency, start, end)
    if not files:
        return []
    table = engine.read_parquet(files)
    table = filtered(table.filter(table.hour >= start, table.hour < end), asked)
    back = (ibis.literal(end - 1, "int64") - table.hour) % bucket_h
    return _grouped(table.mutate(hour=table.hour + back), ("hour", "operation", "model", "step"))


def _errors(engine: Engine, snapshot: Snapshot, asked: PageQuery, start: int, end: int) -> tuple[ErrorLine, ...]:
    files = _files(snapshot.errors, start, end)
    if not files:
        return ()
    table = chat_of(engine.read_parquet(files))
    rows = _grouped(filtered(table.filter(table.hour >= start, table.hour < end), asked), ("error_type",))
    lines = [ErrorLine(error_type=row["error_type"], attempts=round(row["attempts"]), requests=round(row["failures"])) for row in rows]
    return tuple(sorted(lines, key=lambda line: (-line.attempts, line.error_type or "")))


def _chat(rows: Sequence[_Row]) -> list[_Row]:
    return [row for row in rows if row["operation"] == CHAT]


# Figures


def _operations(rows: Sequence[_Row], timed: Sequence[_Row]) -> tuple[OperationLine, ...]:
    lines = []
    for operation in {row["operation"] for row in rows}:
        mine, steps = ([row for row in each if row["operation"] == operation] for each in (rows, timed))
        n = _sum(mine, "requests")
        lines.append(
            OperationLine(
                operation=operation,
                requests=round(n),
                cost_usd=_cost(mine),
                success_rate=proportion_interval(_sum(mine, "successes"), n),
                p95_ms=_quantiles(steps)["p95_ms"],
            )
        )
    usd = {line.operation: line.cost_usd if isinstance(line.cost_usd, float) else 0.0 for line in lines}
    return tuple(sorted(lines, key=lambda line: (line.operation != CHAT, -usd[line.operation], line.operation)))


def _observed(attempts: Sequence[_Row], scores: Sequence[_Row], counted: Sequence[_Row], until: int) -> dict[Tiled, HourlySums]:
    """The filtered whole as the sensors' detectors take it, complete hours only."""
    made: dict[Tiled, HourlySums] = {}
    whats: tuple[What, ...] = ("spend", "failed attempts", "latency", "quality")
    for what in whats:
        columns = COLUMNS[what]
        found = [row for row in (scores if what == "quality" else attempts) if row["hour"] < until and row[columns[0]] > 0]
        if found:
            made[what] = _series(found, columns, until)
    if counted:
        made["requests"] = _series(counted, ("requests",) * 3, until)
    return made


def _series(rows: Sequence[_Row], columns: tuple[str, str, str], until: int) -> HourlySums:
    first = min(row["hour"] for row in rows)
    count, total, squares = (np.zeros((1, until - first)) for _ in range(3))
    for row in rows:
        for array, name in zip((count, total, squares), columns, strict=True):
            array[0, row["hour"] - first] += row[name]
    return HourlySums(first, (WHOLE,), count, total, squares)


def _tiles(observed: Mapping[Tiled, HourlySums], thresholds: AlertThresholds, until: int) -> tuple[tuple[Tile, ...], dict[int, float]]:
    measures: dict[Tiled, Measure] = {
        # Requests are held against nothing by themselves: more of them is no harm.
        "requests": Measure("requests", "sum", 1, ratio=1e9, floor=1e18, noise=0.04, drift_limit=0.25),
        "spend": cost_measure(thresholds),
        "failed attempts": failure_measure(thresholds),
        "latency": latency_measure(thresholds),
        "quality": quality_measure(thresholds),
    }
    tiles, usual_usd = [], {}
    for name, measure in measures.items():
        sums = observed.get(name)
        if sums is None:
            tiles.append(Tile(measured=name, stands_out=False))
            continue
        found = detect(sums, measure, thresholds.baseline_weeks, thresholds.false_alerts_per_month, thresholds.timezone)
        if name == "spend":
            judged = np.flatnonzero(found.is_tested[0, 0])
            usual_usd = {sums.first_hour + int(place): float(found.usual[0, 0, place]) for place in judged}
        at = (0, 0, until - 1 - sums.first_hour)
        now, usual = float(found.now[at]), float(found.usual[at])
        is_seen = bool(sums.count[0, at[2]] > 0) or measure.kind == "sum"
        tiles.append(
            Tile(
                measured=name,
                now=_plain(now, is_log=measure.is_log) if is_seen else None,
                usual=_plain(usual, is_log=measure.is_log) if found.is_tested[at] else None,
                usual_is_of_days=bool(found.is_tested[at] and found.by_days[at]),
                stands_out=bool(found.is_alarm[:, :, at[2]].any()),
            )
        )
    return tuple(tiles), usual_usd


def _plain(value: float, *, is_log: bool) -> float:
    return math.exp(min(value, 30.0)) if is_log else value


def _models(rows: Sequence[_Row], timed: Sequence[_Row], scores: Sequence[_Row], start: int, end: int, weeks: int) -> list[ModelLine]:
    of_all = max(_sum(rows, "requests"), 1.0)
    scored = _window(scores, start, end)
    if end - start <= HOURS_PER_WEEK:
        before = [
            row for week in range(1, weeks + 1) for row in _window(scores, start - week * HOURS_PER_WEEK, end - week * HOURS_PER_WEEK)
        ]
    else:
        before = _window(scores, start - weeks * HOURS_PER_WEEK, start)
    lines = []
    for model in sorted({row["model"] for row in rows}):
        mine, my_scores = ([row for row in each if row["model"] == model] for each in (rows, scored))
        n = _sum(mine, "requests")
        lines.append(
            ModelLine(
                model=model,
                requests=round(n),
                share=n / of_all,
                cost_usd=_cost(mine),
                success_rate=proportion_interval(_sum(mine, "successes"), n),
                **_quantiles([row for row in timed if row["model"] == model]),
                scored=round(sum(row["scored"] for row in my_scores)),
                quality=_mean(my_scores),
                usual_quality=_mean([row for row in before if row["model"] == model]),
            )
        )
    return sorted(lines, key=lambda line: (-line.requests, line.model))


def _buckets(
    rows: Sequence[_Row],
    calls: Sequence[_Row],
    timed: Sequence[_Row],
    scores: Sequence[_Row],
    usual_usd: Mapping[int, float],
    until: int,
    span: tuple[int, int],
    bucket_h: int,
) -> tuple[Bucket, ...]:
    made = []
    counted, spent, steps = (_by_bucket(each, span[0], bucket_h) for each in (rows, calls, timed))
    for start in range(*span, bucket_h):
        hours = range(start, start + bucket_h)
        mine = counted.get(start, [])
        n = _sum(mine, "requests")
        usual = [usual_usd[hour] for hour in hours if hour in usual_usd]
        made.append(
            Bucket(
                start=_moment(start),
                is_complete=start + bucket_h <= until,
                requests=round(n),
                cost_usd=_sum(spent.get(start, []), "cost_usd"),
                usual_usd=math.fsum(usual) if len(usual) == bucket_h else None,
                failed=_sum(mine, "failures") / n if n else None,
                p95_ms=_quantiles(steps.get(start, []))["p95_ms"],
                quality=_mean(_window(scores, start, start + bucket_h)),
            )
        )
    return tuple(made)


def _by_bucket(rows: Sequence[_Row], first: int, bucket_h: int) -> dict[int, list[_Row]]:
    found: dict[int, list[_Row]] = {}
    for row in rows:
        found.setdefault(row["hour"] - (row["hour"] - first) % bucket_h, []).append(row)
    return found


def _window(rows: Sequence[_Row], start: int, end: int) -> list[_Row]:
    return [row for row in rows if start <= row["hour"] < end]


def _sum(rows: Sequence[_Row], name: str) -> float:
    return math.fsum(row[name] for row in rows)


def _cost(rows: Sequence[_Row]) -> Known:
    return _sum(rows, "cost_usd") if _sum(rows, "priced") else NO_COST


def _mean(rows: Sequence[_Row]) -> float | None:
    n = _sum(rows, "scored")
    return _sum(rows, "quality") / n if n else None


def _quantiles(rows: Sequence[_Row]) -> dict[str, float | None]:
    step = np.array([row["step"] for row in rows], dtype=np.int64)
    count = np.array([row["requests"] for row in rows], dtype=np.float64)
    return {"p50_ms": quantile_ms(step, count, 0.5), "p95_ms": quantile_ms(step, count, 0.95)}


def _moment(hour: int) -> datetime:
    return datetime.fromtimestamp(hour * SECONDS_PER_HOUR, UTC)
