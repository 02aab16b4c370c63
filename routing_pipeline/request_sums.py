"""Hourly sums of requests as analyses count them, kept once for each day of the lake.

Belongs here: requests, spend and latency of conformed rows (`scope.conform_days`) by hour, team, task type and model. Does not belong
here: sums of attempts, which add up over data files whatever lies in the others (`hourly_sums`).

Whether an attempt is final, and how long its request took, depends on attempts in other data files of the same day and of
the days around. So a day's sums are kept under the data files of those three days: an ingestion makes the days anew that it
touches, and no others. They are computed by `conform_days` itself, so that they cannot disagree with an analysis of the same hours.

    sums/<version>/days/<day>-<what it was made of>.requests.parquet    REQUEST_SUMS
    sums/<version>/days/<day>-<what it was made of>.errors.parquet      ERROR_COUNTS
    sums/<version>/days/<day>-<what it was made of>.latency.parquet     LATENCY_COUNTS
"""

from __future__ import annotations

import math
from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import islice
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from routing_pipeline.catalog import Catalog
from routing_pipeline.engine import Engine
from routing_pipeline.home import Home
from routing_pipeline.hourly_sums import HOUR_S, few_names, short_names, sums_folder, write_sums
from routing_pipeline.parameters import Parameters
from routing_pipeline.results import key_of
from routing_pipeline.scope import SECONDS_PER_DAY, Window, conform_days

NAMES = ("team", "task_type", "model")
DAYS_AT_ONCE = 7
LATENCY_STEP = 0.02
"""Latencies are counted in steps of 2 %, so that a quantile is off by 1 % at most."""
_KEY: tuple[tuple[str, pa.DataType], ...] = (("hour", pa.int64()), *((name, pa.string()) for name in NAMES))
_FLOAT = pa.float64()

REQUEST_SUMS = pa.schema(
    [
        *_KEY,
        ("requests", _FLOAT),
        ("successes", _FLOAT),
        ("failures", _FLOAT),
        ("attempts", _FLOAT),
        ("cost_usd", _FLOAT),
        ("priced", _FLOAT),
    ]
)
"""`requests`, `successes`, `failures`: final attempts; `cost_usd` of all attempts, as logged, else at list price; `priced`: those with one."""

ERROR_COUNTS = pa.schema([*_KEY, ("error_type", pa.string()), ("failures", _FLOAT), ("attempts", _FLOAT)])
"""Failed attempts by class of error, and `failures` of them that the client saw."""

LATENCY_COUNTS = pa.schema([*_KEY, ("step", pa.int64()), ("requests", _FLOAT)])
"""Final requests by latency from the first attempt's start: `step` s holds exp(LATENCY_STEP s) up to exp(LATENCY_STEP (s + 1)) ms."""


@dataclass(frozen=True)
class DaysKept:
    """Parquet files by day since 1970; days `pending` are to be made (anew), those `missing` of them have no sums at all yet."""

    requests: Mapping[int, Path]
    errors: Mapping[int, Path]
    latency: Mapping[int, Path]
    pending: int
    missing: int


class RequestSumsStore:
    """The sums of one home at the prices of one catalog."""

    def __init__(self, home: Home, engine: Engine, parameters: Parameters) -> None:
        self.engine = engine
        self.catalog = Catalog(parameters.models)
        self._folder = sums_folder(home) / "days"
        self._prices = key_of(
            catalog=self.catalog.version, models={name: each.model_dump(mode="json") for name, each in parameters.models.items()}
        )

    def days(self, files_by_day: Sequence[tuple[int, str]], *, at_most: int | None = None) -> DaysKept:
        """Sums of all days; makes those missing, newest first. Days not made yet keep their former sums.

        Args:
            files_by_day: as `Lake.files_by_day` gives them.
            at_most: steps to make in this call, of a week each at most; None makes all.
        """
        by_day: dict[int, list[str]] = {}
        for day, file in files_by_day:
            by_day.setdefault(day, []).append(file)
        stems = {day: self._stem(day, _around(by_day, day)) for day in by_day}
        present = {path.name.removesuffix(_ENDINGS[-1]) for path in self._folder.glob(f"*{_ENDINGS[-1]}")}
        # Before others take their place, so that whoever reads what was named last still finds it.
        self._drop_former(stems, present)
        missing = sorted((day for day, stem in stems.items() if stem not in present), reverse=True)
        steps = list(islice(_steps(missing, present), at_most))
        made = [day for step in steps for day in step]
        for step in steps:
            self._make(step, sorted({file for day in step for file in _around(by_day, day)}), stems)
        present |= {stems[day] for day in made}
        chosen = {day: stem if stem in present else _former(day, present) for day, stem in stems.items()}
        requests, errors, latency = ({day: self._folder / f"{stem}{end}" for day, stem in chosen.items() if stem} for end in _ENDINGS)
        return DaysKept(requests, errors, latency, pending=len(missing) - len(made), missing=len(stems) - len(requests))

    def _stem(self, day: int, files: Sequence[str]) -> str:
        return f"{day}-{key_of(files=sorted(files), prices=self._prices)}"

    def _make(self, days: Sequence[int], files: Sequence[str], stems: Mapping[int, str]) -> None:
        """Make days that follow each other, all at once: putting the query together takes longer than a small day's rows."""
        window = Window(float(min(days) * SECONDS_PER_DAY), float((max(days) + 1) * SECONDS_PER_DAY))
        rows = conform_days(self.engine.read_parquet(files), window, catalog=self.catalog)
        rows = short_names(rows, (*NAMES, "error_type"))
        hour = (rows.started_s / HOUR_S).floor().cast("int64")
        step = (rows.request_latency_ms.clip(lower=1e-3).ln() / LATENCY_STEP).floor().cast("int64")
        rows = rows.mutate(hour=hour, step=step, file=rows.day)
        finest = rows.group_by("file", "hour", *NAMES, "error_type", "step").agg(
            requests=rows.is_final.sum().cast("float64"),
            successes=(rows.is_final & (rows.status == "success")).sum().cast("float64"),
            failures=(rows.is_final & (rows.status == "failure")).sum().cast("float64"),
            attempts=rows.count().cast("float64"),
            failed=(rows.status == "failure").sum().cast("float64"),
            cost_usd=rows.cost_usd.sum().fill_null(0.0),
            priced=rows.cost_usd.count().cast("float64"),
        )
        made = few_names(self.engine, finest, (*NAMES, "error_type"), "attempts", keep=("step",))
        for day in days:
            mine = made.filter(pc.equal(made["file"], day))
            errors = mine.filter(pc.greater(mine["failed"], 0)).drop_columns("attempts").rename_columns({"failed": "attempts"})
            timed = mine.filter(pc.and_(pc.is_valid(mine["step"]), pc.greater(mine["requests"], 0)))
            for schema, table, end in zip((REQUEST_SUMS, ERROR_COUNTS, LATENCY_COUNTS), (mine, errors, timed), _ENDINGS, strict=True):
                write_sums(_rolled_up(table, schema), self._folder / f"{stems[day]}{end}")

    def _drop_former(self, stems: Mapping[int, str], present: set[str]) -> None:
        """Sums of days that are made anew, or gone from the lake."""
        for stem in present:
            day = int(stem.partition("-")[0])
            if stems.get(day) != stem and (day not in stems or stems[day] in present):
                for end in _ENDINGS:
                    (self._folder / f"{stem}{end}").unlink(missing_ok=True)


# The latency file is written last: where it is, all are.
_ENDINGS = (".requests.parquet", ".errors.parquet", ".latency.parquet")


def _rolled_up(table: pa.Table, schema: pa.Schema) -> pa.Table:
    """Summed over all columns that the schema does not name."""
    by = [field.name for field in schema if field.type != _FLOAT]
    added = [field.name for field in schema if field.type == _FLOAT]
    summed = table.group_by(by).aggregate([(name, "sum") for name in added])
    return summed.rename_columns({f"{name}_sum": name for name in added}).select(schema.names).cast(schema)


def _steps(missing: Sequence[int], present: Collection[str]) -> Iterator[list[int]]:
    """Days that follow each other, newest first, a week at once; where nothing is there yet, the newest by itself."""
    step: list[int] = []
    longest = DAYS_AT_ONCE if present else 1
    for day in missing:
        if step and (day != step[-1] - 1 or len(step) >= longest):
            yield step
            step, longest = [], DAYS_AT_ONCE
        step.append(day)
    if step:
        yield step


def _around(by_day: Mapping[int, list[str]], day: int) -> list[str]:
    return [file for each in (day - 1, day, day + 1) for file in by_day.get(each, ())]


def _former(day: int, present: set[str]) -> str | None:
    return next((stem for stem in sorted(present) if stem.startswith(f"{day}-")), None)


def quantile_ms(step: NDArray[np.int64], requests: NDArray[np.float64], q: float) -> float | None:
    """Quantile of latencies counted in steps, in the middle of its step; None without any."""
    if not len(step) or requests.sum() <= 0:
        return None
    order = np.argsort(step)
    below = np.cumsum(requests[order])
    place = int(np.searchsorted(below, q * below[-1], side="left"))
    return math.exp((float(step[order][min(place, len(order) - 1)]) + 0.5) * LATENCY_STEP)
