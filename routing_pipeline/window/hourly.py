"""Sums by hour of the whole lake, so that a look at ten million rows reads only what is new.

Belongs here: what is summed, of which unit, and under which version. Does not belong here: how sums are kept by unit (`roll_up`), which
series are watched (`alerts.series`), what the live page shows (`serving.dashboard`).

Sums of attempts add up whatever lies in other data files, so they are made of each data file by itself. A data file of the lake
never changes: hours that are split over files add up, and what is replaced or forgotten leaves the lake as whole data files, whose
sums are then not read. Scores come late: sums of scores are those of a data file and a state of the feedback.

Whether an attempt is final, and how long its request took, depends on attempts in other data files of the same day and of the
days around. So sums of requests are made of each day and the data files of those three days: an ingestion makes the days anew
that it touches, and no others. They are computed by `conform_days` itself, so that they cannot disagree with an analysis of the same hours.
Where the lake lies does not matter (`content_of`), so that a home that was moved keeps its sums:

    sums/<version>/attempts/<data file>-<prices>.{series,cells}.parquet              ATTEMPT_SUMS
    sums/<version>/scores/<data file>-<state>.{series,cells}.parquet                 SCORE_SUMS
    sums/<version>/days/<day>-<data files, prices>.{requests,errors,latency}.parquet REQUEST_SUMS, ERROR_COUNTS, LATENCY_COUNTS
    sums/<version>/newest/<state>/                                                   the newest score of each request and attempt

Cells are kept apart by team, task and model together, series by one of KINDS at a time. Whoever looks at one thing at a time reads the
series, of which there are as many as there are names. Cells are for those who filter by several at once: of them there may be
nearly as many as requests.
"""

from __future__ import annotations

import contextlib
import math
import shutil
import uuid
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from types import MappingProxyType

import ibis
import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from routing_pipeline.catalog import Catalog
from routing_pipeline.clock import SECONDS_PER_DAY, SECONDS_PER_HOUR, hour_of
from routing_pipeline.lake.file_names import content_of
from routing_pipeline.schema import TRUSTED
from routing_pipeline.storage.code_keys import code_key
from routing_pipeline.storage.home import Home
from routing_pipeline.storage.results import key_of
from routing_pipeline.window.conform import Scores, conform_days, newest_scores, with_all_columns
from routing_pipeline.window.engine import Engine
from routing_pipeline.window.few_names import short_names, with_few_names
from routing_pipeline.window.kinds_of_call import chat_of, is_chat
from routing_pipeline.window.price_columns import prices_of, with_prices
from routing_pipeline.window.repeats import logged_once
from routing_pipeline.window.roll_up import RolledUp, RollUp, Unit
from routing_pipeline.window.scope import Window

NAMES = ("team", "task_type", "model", "routing_rule_id")
"""What sums are kept apart by, beside the hour."""
CELL = NAMES[:3]
"""What cells are kept apart by."""
KINDS: dict[str, tuple[str, ...]] = {
    "all": (),
    "team": ("team",),
    "task": ("task_type",),
    "model": ("model",),
    "rule": ("routing_rule_id",),
    "task and model": ("task_type", "model"),
}
"""Kinds of series, and what each is kept apart by: what is watched, and the pair that costs are taken apart by."""
FILES_AT_ONCE = 8
DAYS_AT_ONCE = 7
LATENCY_STEP = 0.02
"""Latencies are counted in steps of 2 %, so that a quantile is off by 1 % at most."""

_KEY: tuple[tuple[str, pa.DataType], ...] = (("hour", pa.int64()), *((name, pa.string()) for name in CELL))
_FLOAT = pa.float64()

ATTEMPT_SUMS = pa.schema(
    [
        *_KEY,
        ("attempts", _FLOAT),
        ("cost_usd", _FLOAT),
        ("cost_squares", _FLOAT),
        ("tokens", _FLOAT),
        ("cached_tokens", _FLOAT),
        ("ended", _FLOAT),
        ("failures", _FLOAT),
        ("timed", _FLOAT),
        ("log_latency", _FLOAT),
        ("log_latency_squares", _FLOAT),
        ("scored", _FLOAT),
        ("quality", _FLOAT),
        ("quality_squares", _FLOAT),
    ]
)
"""One row per hour (from 1970-01-01 00:00 UTC), team, task type and model; null names: not logged.

`attempts` all of them, of every kind of call; `cost_usd` as analyses count it: as logged, else at list prices, and 0 for what nobody
priced; `tokens` prompt and completion. The rest is of chat: an embedding takes a tenth of the time, and nobody scores it. `ended` without the
cancelled ones, `failures` of these; `timed` successes with a latency and `log_latency` the natural logarithm of its milliseconds; `scored`
successes with a quality as logged. `*_squares`: sums of squares. All add up over rows and data files. Calls that are in one data file twice
are summed once (`repeats`).
"""

SCORE_SUMS = pa.schema([*_KEY, ("scored", _FLOAT), ("quality", _FLOAT), ("quality_squares", _FLOAT)])
"""The same with the newest feedback before what was logged (`conform.newest_scores`)."""

_REQUEST_KEY: tuple[tuple[str, pa.DataType], ...] = (("hour", pa.int64()), ("operation", pa.string()), *_KEY[1:])

REQUEST_SUMS = pa.schema(
    [
        *_REQUEST_KEY,
        ("requests", _FLOAT),
        ("successes", _FLOAT),
        ("failures", _FLOAT),
        ("attempts", _FLOAT),
        ("cost_usd", _FLOAT),
        ("priced", _FLOAT),
    ]
)
"""`requests`, `successes`, `failures`: final attempts; `cost_usd` of all attempts, as logged, else at list price; `priced`: those with one."""

ERROR_COUNTS = pa.schema([*_REQUEST_KEY, ("error_type", pa.string()), ("failures", _FLOAT), ("attempts", _FLOAT)])
"""Failed attempts by class of error, and `failures` of them that the client saw."""

LATENCY_COUNTS = pa.schema([*_REQUEST_KEY, ("step", pa.int64()), ("requests", _FLOAT)])
"""Final requests by latency from the first attempt's start: `step` s holds exp(LATENCY_STEP s) up to exp(LATENCY_STEP (s + 1)) ms."""


TIER_SPEND = pa.schema([("hour", pa.int64()), ("tier", pa.string()), ("cost_usd", _FLOAT)])
"""What the models of each tier cost, at the prices of ATTEMPT_SUMS; a null tier: in no catalog."""


def series_of(cells: pa.Schema) -> pa.Schema:
    """The columns of series: one row per hour, `kind` (KINDS) and names of that kind; the other names are null."""
    sums = [field for field in cells if field.name not in {"hour", *CELL}]
    return pa.schema([("hour", pa.int64()), ("kind", pa.string()), *((name, pa.string()) for name in NAMES), *sums])


@dataclass(frozen=True)
class Kept:
    """Sums over some data files."""

    cells: ibis.Table | None
    """ATTEMPT_SUMS or SCORE_SUMS; None when nothing is kept yet, or there is no data file."""
    series: ibis.Table | None
    """The same sums as `series_of` says."""
    parts: tuple[Path, ...]
    """The Parquet files that hold the cells."""
    pending: int
    """Data files that are missing from it, or whose scores are those of an earlier state of the feedback."""
    tiers: ibis.Table | None = None
    """TIER_SPEND, of attempts."""


@dataclass(frozen=True)
class DaysKept:
    """Parquet files by day since 1970; days `pending` are to be made (anew), those `missing` of them have no sums at all yet."""

    requests: Mapping[int, Path]
    errors: Mapping[int, Path]
    latency: Mapping[int, Path]
    pending: int
    missing: int


@dataclass(frozen=True)
class Feedback:
    """The scores of the lake: its feedback files and their version (`Lake`), and what a quality is called."""

    files: tuple[str, ...]
    version: str
    quality_name: str
    trusted: tuple[str, ...] = TRUSTED

    @property
    def state(self) -> str:
        """Changes whenever a score may change."""
        return key_of(version=self.version, quality_name=self.quality_name, trusted=self.trusted)


def with_hour(attempts: ibis.Table) -> ibis.Table:
    """Add `hour`, counted from 1970: `conform.with_time` without the fraction of a second, which takes most of its time."""
    return attempts.mutate(hour=(attempts.started_at.truncate("s").epoch_seconds() / SECONDS_PER_HOUR).floor().cast("int64"))


def priced(attempts: ibis.Table, catalog: Catalog) -> ibis.Table:
    """Attempts with their cost as analyses count it: as logged, else at the list prices of the day."""
    timed = with_hour(attempts)
    timed = timed.mutate(day=(timed.hour / 24).floor().cast("int64"))
    return with_prices(timed, prices_of(timed, catalog))


def attempt_sums(attempts: ibis.Table, *by: str) -> ibis.Table:
    """ATTEMPT_SUMS of attempts (schema.REQUEST_LOG, priced), by further columns if need be."""
    t = with_hour(attempts)
    cost = t.cost_usd.fill_null(0.0)
    of_chat = is_chat(t)
    is_timed = of_chat & (t.status == "success") & (t.latency_ms > 0).fill_null(False)
    log_latency = ibis.ifelse(is_timed, t.latency_ms, 1.0).ln()
    is_scored = of_chat & (t.status == "success") & t.quality_score.notnull()
    return t.group_by(*by, "hour", *NAMES).agg(
        attempts=t.count().cast("float64"),
        cost_usd=cost.sum(),
        cost_squares=(cost * cost).sum(),
        tokens=(t.prompt_tokens.fill_null(0) + t.completion_tokens.fill_null(0)).sum().cast("float64"),
        cached_tokens=t.cached_tokens.fill_null(0).sum().cast("float64"),
        ended=(of_chat & (t.status != "cancelled")).sum().cast("float64"),
        failures=(of_chat & (t.status == "failure")).sum().cast("float64"),
        timed=is_timed.sum().cast("float64"),
        log_latency=log_latency.sum(),
        log_latency_squares=(log_latency * log_latency).sum(),
        scored=is_scored.sum().cast("float64"),
        quality=t.quality_score.sum(where=is_scored).fill_null(0.0),
        quality_squares=(t.quality_score * t.quality_score).sum(where=is_scored).fill_null(0.0),
    )


def score_sums(attempts: ibis.Table, by_request: ibis.Table, by_attempt: ibis.Table, *by: str) -> ibis.Table:
    """SCORE_SUMS of attempts; the other two as `conform.newest_scores` gives them."""
    t = chat_of(attempts).filter(lambda each: each.status == "success")
    by_request = by_request.select(scored_request_id="request_id", quality_by_request="quality")
    by_attempt = by_attempt.select(scored_attempt_id="attempt_id", quality_by_attempt="quality")
    t = t.left_join(by_request, t.request_id == by_request.scored_request_id)
    t = t.left_join(by_attempt, t.attempt_id == by_attempt.scored_attempt_id)
    t = t.mutate(value=ibis.coalesce(t.quality_by_attempt, t.quality_by_request, t.quality_score))
    t = with_hour(t.filter(t.value.notnull()))
    return t.group_by(*by, "hour", *NAMES).agg(
        scored=t.count().cast("float64"), quality=t.value.sum(), quality_squares=(t.value * t.value).sum()
    )


def request_sums(rows: ibis.Table, *by: str) -> ibis.Table:
    """What REQUEST_SUMS, ERROR_COUNTS and LATENCY_COUNTS are rolled up from: rows of `conform_days` by hour, kind, names, error and latency."""
    rows = short_names(rows, (*CELL, "error_type"))
    step = (rows.request_latency_ms.clip(lower=1e-3).ln() / LATENCY_STEP).floor().cast("int64")
    rows = rows.mutate(hour=hour_of(rows.started_s), step=step)
    return rows.group_by(*by, "hour", "operation", *CELL, "error_type", "step").agg(
        requests=rows.is_final.sum().cast("float64"),
        successes=(rows.is_final & (rows.status == "success")).sum().cast("float64"),
        failures=(rows.is_final & (rows.status == "failure")).sum().cast("float64"),
        attempts=rows.count().cast("float64"),
        failed=(rows.status == "failure").sum().cast("float64"),
        cost_usd=rows.cost_usd.sum().fill_null(0.0),
        priced=rows.cost_usd.count().cast("float64"),
    )


def sums_folder(home: Home) -> Path:
    """Where the sums that this code makes are kept."""
    return home.sums / code_key(__name__)


class SumsStore:
    """The sums of one home at the prices of one catalog. Several may use it at once."""

    def __init__(self, home: Home, engine: Engine, catalog: Catalog | None = None) -> None:
        self.engine = engine
        self.catalog = Catalog() if catalog is None else catalog
        self._root = sums_folder(home)
        self._every = self._root.parent
        overrides = {name: each.model_dump(mode="json") for name, each in self.catalog.overrides.items()}
        self._prices = key_of(catalog=self.catalog.version, models=overrides)
        # Prices are those of whoever asks, and two may ask by turns; scores and days go on.
        self._attempts = RollUp(
            self._root / "attempts", {"tiers": TIER_SPEND} | _by_file(ATTEMPT_SUMS), _files_at_once, is_one_version=False
        )
        self._scores = RollUp(self._root / "scores", _by_file(SCORE_SUMS), _files_at_once, is_one_version=True)
        self._days = RollUp(self._root / "days", _BY_DAY, _days_at_once, is_one_version=True)

    def attempts(self, files: Sequence[str], *, at_most: int | None = None) -> Kept:
        """ATTEMPT_SUMS of these data files of the lake; reads those that are new, the last named first.

        Args:
            files: as `Lake.attempt_files` gives them.
            at_most: make so many steps, of FILES_AT_ONCE files each; none with 0, all with None.
        """
        by_name = {content_of([file]): file for file in files}

        def sums(step: Sequence[Unit]) -> dict[str, ibis.Table]:
            attempts = priced(self._tagged([by_name[unit.name] for unit in step]), self.catalog)
            return self._of_files(attempt_sums(attempts, "unit", "tier"), ATTEMPT_SUMS, "attempts", more={"tiers": TIER_SPEND})

        return self._read(self._attempts.keep([Unit(name, self._prices) for name in by_name], sums, at_most))

    def scores(self, files: Sequence[str], feedback: Feedback | None, *, at_most: int | None = None) -> Kept:
        """SCORE_SUMS of these data files, as `attempts`; sums of an earlier state of the feedback stand in for those still to be made.

        Without feedback the scores are those logged, which ATTEMPT_SUMS hold as well.
        """
        if feedback is None or not feedback.files:
            kept = self.attempts(files, at_most=at_most)
            cells = None if kept.cells is None else kept.cells.select(*SCORE_SUMS.names)
            series = None if kept.series is None else kept.series.select(*series_of(SCORE_SUMS).names)
            return Kept(cells, series, kept.parts, kept.pending)
        by_name = {content_of([file]): file for file in files}

        def sums(step: Sequence[Unit]) -> dict[str, ibis.Table]:
            attempts = self._tagged([by_name[unit.name] for unit in step])
            return self._of_files(score_sums(attempts, *self._newest(feedback), "unit"), SCORE_SUMS, "scored")

        return self._read(self._scores.keep([Unit(name, feedback.state) for name in by_name], sums, at_most))

    def days(self, files_by_day: Sequence[tuple[int, str]], *, at_most: int | None = None) -> DaysKept:
        """REQUEST_SUMS, ERROR_COUNTS and LATENCY_COUNTS of all days; makes those missing, newest first. Others keep their former sums.

        Args:
            files_by_day: as `Lake.files_by_day` gives them.
            at_most: make so many steps, of a week each at most; none with 0, all with None.
        """
        by_day: dict[int, list[str]] = {}
        for day, file in files_by_day:
            by_day.setdefault(day, []).append(file)
        around = {day: [file for each in (day - 1, day, day + 1) for file in by_day.get(each, ())] for day in by_day}
        units = [Unit(str(day), key_of(files=content_of(around[day]), prices=self._prices)) for day in sorted(by_day)]

        def sums(step: Sequence[Unit]) -> dict[str, ibis.Table]:
            days = [int(unit.name) for unit in step]
            return self._of_days(days, sorted({file for day in days for file in around[day]}))

        found = self._days.keep(units, sums, at_most)
        requests, errors, latency = ({int(day): path for day, path in found.files[table].items()} for table in _BY_DAY)
        return DaysKept(requests, errors, latency, pending=found.pending, missing=found.missing)

    def prune(self, files_by_day: Sequence[tuple[int, str]]) -> int:
        """Drop sums of what is not in the lake any more (`Lake.files_by_day`), and of other versions of this code; gives how many."""
        for version in self._every.iterdir() if self._every.is_dir() else ():
            if version != self._root:
                shutil.rmtree(version, ignore_errors=True)
        files, days = {content_of([file]) for _, file in files_by_day}, {str(day) for day, _ in files_by_day}
        return self._attempts.prune(files) + self._scores.prune(files) + self._days.prune(days)

    def _read(self, found: RolledUp) -> Kept:
        cells, series = (tuple(found.files[table].values()) for table in ("cells", "series"))
        if not cells:
            return Kept(None, None, (), found.pending)
        tiers = tuple(found.files.get("tiers", {}).values())
        read = self.engine.read_parquet
        return Kept(read(cells), read(series), cells, found.pending, tiers=read(tiers) if tiers else None)

    def _tagged(self, files: Sequence[str]) -> ibis.Table:
        """Attempts of several data files, each with its place among them as `unit`."""
        tables = [
            with_all_columns(self.engine.read_parquet([file])).select(*_READ, *NAMES).mutate(unit=ibis.literal(place, "int64"))
            for place, file in enumerate(files)
        ]
        attempts = ibis.union(*tables) if len(tables) > 1 else tables[0]
        return logged_once(attempts, "unit", held=self.engine.held)

    def _of_files(
        self, sums: ibis.Table, schema: pa.Schema, weight: str, *, more: Mapping[str, pa.Schema] = MappingProxyType({})
    ) -> dict[str, ibis.Table]:
        """Cells and series, and `more` tables of what the sums are kept apart by beside these."""
        held = with_few_names(self.engine, sums, NAMES, weight)
        series = ibis.union(*(_of_kind(held, schema, kind, names) for kind, names in KINDS.items()))
        return {"series": series, "cells": _rolled_up(held, schema)} | {name: _rolled_up(held, each) for name, each in more.items()}

    def _of_days(self, days: Sequence[int], files: Sequence[str]) -> dict[str, ibis.Table]:
        """Days that follow each other, newest first, all at once: putting the query together takes longer than a small day's rows."""
        window = Window(float(days[-1] * SECONDS_PER_DAY), float((days[0] + 1) * SECONDS_PER_DAY))
        rows = conform_days(self.engine.read_parquet(files), window, catalog=self.catalog, held=self.engine.held)
        finest = request_sums(rows.mutate(unit=days[0] - rows.day), "unit")
        held = with_few_names(self.engine, finest, (*CELL, "error_type"), "attempts")
        failed = held.filter(held.failed > 0).drop("attempts").rename(attempts="failed")
        timed = held.filter(held.step.notnull(), held.requests > 0)
        return {table: _rolled_up(of, _BY_DAY[table]) for table, of in zip(_BY_DAY, (held, failed, timed), strict=True)}

    def _newest(self, feedback: Feedback) -> Scores:
        """Newest scores, worked out once for a state of the feedback."""
        folder = self._root / "newest" / feedback.state
        if not folder.exists():
            making = folder.with_name(f"{feedback.state}.{uuid.uuid4().hex}")
            try:
                newest = newest_scores(self.engine.read_parquet(feedback.files), feedback.quality_name, feedback.trusted)
                for name, table in zip(_BY, newest, strict=True):
                    self.engine.write_parquet(table, making / f"{name}.parquet")
                for other in folder.parent.iterdir():
                    if "." not in other.name:
                        shutil.rmtree(other, ignore_errors=True)
                with contextlib.suppress(OSError):
                    making.rename(folder)
            finally:
                shutil.rmtree(making, ignore_errors=True)
        by_request, by_attempt = (self.engine.read_parquet([folder / f"{name}.parquet"]) for name in _BY)
        return by_request, by_attempt


_BY = ("request", "attempt")
# The last table is written last: where it is, all are.
_BY_DAY: dict[str, pa.Schema] = {"requests": REQUEST_SUMS, "errors": ERROR_COUNTS, "latency": LATENCY_COUNTS}
_READ = (
    *("request_id", "attempt_id", "started_at", "status", "latency_ms", "cost_usd", "quality_score"),
    *("prompt_tokens", "completion_tokens", "cached_tokens", "cache_write_tokens", "reasoning_tokens"),
    *("audio_prompt_tokens", "audio_completion_tokens", "provider", "provider_model", "is_cache_hit", "operation", "service_tier"),
)


def _by_file(schema: pa.Schema) -> dict[str, pa.Schema]:
    return {"series": series_of(schema), "cells": schema}


def _files_at_once(missing: Sequence[Unit], _: bool) -> Iterator[Sequence[Unit]]:
    for first in range(0, len(missing), FILES_AT_ONCE):
        yield missing[first : first + FILES_AT_ONCE]


def _days_at_once(missing: Sequence[Unit], has_some: bool) -> Iterator[Sequence[Unit]]:
    """Days that follow each other, a week at once; where nothing is there yet, the newest by itself."""
    step: list[Unit] = []
    longest = DAYS_AT_ONCE if has_some else 1
    for unit in missing:
        if step and (int(unit.name) != int(step[-1].name) - 1 or len(step) >= longest):
            yield step
            step, longest = [], DAYS_AT_ONCE
        step.append(unit)
    if step:
        yield step


def _rolled_up(sums: ibis.Table, schema: pa.Schema) -> ibis.Table:
    """Summed by unit and by the columns of a schema that are no sums."""
    by = [field.name for field in schema if field.type != _FLOAT]
    return sums.group_by("unit", *by).agg(**{field.name: sums[field.name].sum() for field in schema if field.type == _FLOAT})


def _of_kind(sums: ibis.Table, schema: pa.Schema, kind: str, by: Sequence[str]) -> ibis.Table:
    """Summed by unit, hour and some of NAMES; the others are null."""
    added = [field.name for field in schema if field.type == _FLOAT]
    summed = sums.group_by("unit", "hour", *by).agg(**{name: sums[name].sum() for name in added})
    names = {name: summed[name] if name in by else ibis.null("string") for name in NAMES}
    return summed.select("unit", "hour", **names, **{name: summed[name] for name in added}, kind=ibis.literal(kind))


def series_beside(part: Path) -> Path:
    """Where the series of a file of cells lie."""
    return part.with_name(part.name.replace(".cells.", ".series."))


def quantile_ms(step: NDArray[np.int64], requests: NDArray[np.float64], q: float) -> float | None:
    """Quantile of latencies counted in steps, in the middle of its step; None without any."""
    if not len(step) or requests.sum() <= 0:
        return None
    order = np.argsort(step)
    below = np.cumsum(requests[order])
    place = int(np.searchsorted(below, q * below[-1], side="left"))
    return math.exp((float(step[order][min(place, len(order) - 1)]) + 0.5) * LATENCY_STEP)
