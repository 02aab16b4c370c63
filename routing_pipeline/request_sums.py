"""Hourly sums of requests as analyses count them, kept once for each day of the lake.

Belongs here: requests, spend and latency of conformed rows (`scope.conform`) by hour, team, task type and model. Does not belong
here: sums of attempts, which add up over data files whatever lies in the others (`hourly_sums`).

Whether an attempt is final, and how long its request took, depends on attempts in other data files of the same day and of
the days around. So a day's sums are kept under the data files of those three days: an ingestion makes the days anew that it
touches, and no others. They are computed by `conform` itself, so that they cannot disagree with an analysis of the same hours.

    sums/<version>/days/<day>-<what it was made of>.requests.parquet    REQUEST_SUMS
    sums/<version>/days/<day>-<what it was made of>.latency.parquet     LATENCY_COUNTS
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import ibis
import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from routing_pipeline.catalog import Catalog
from routing_pipeline.engine import Engine
from routing_pipeline.home import Home
from routing_pipeline.hourly_sums import HOUR_S, few_names, sums_folder, write_sums
from routing_pipeline.parameters import Parameters
from routing_pipeline.results import key_of
from routing_pipeline.scope import SECONDS_PER_DAY, Window, conform

NAMES = ("team", "task_type", "model")
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

LATENCY_COUNTS = pa.schema([*_KEY, ("step", pa.int64()), ("requests", _FLOAT)])
"""Final requests by latency from the first attempt's start: `step` s holds exp(LATENCY_STEP s) up to exp(LATENCY_STEP (s + 1)) ms."""


@dataclass(frozen=True)
class DaysKept:
    """Parquet files by day since 1970, and how many days are missing or were made before the last ingestion that touched them."""

    requests: Mapping[int, Path]
    latency: Mapping[int, Path]
    pending: int


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
        """Sums of all days; makes at most so many of those missing, newest first. Days not made yet keep their former sums.

        Args:
            files_by_day: as `Lake.files_by_day` gives them.
            at_most: days to make in this call; None makes all.
        """
        by_day: dict[int, list[str]] = {}
        for day, file in files_by_day:
            by_day.setdefault(day, []).append(file)
        stems = {day: self._stem(day, _around(by_day, day)) for day in by_day}
        present = {path.name.removesuffix(_ENDINGS[1]) for path in self._folder.glob(f"*{_ENDINGS[1]}")}
        missing = sorted((day for day, stem in stems.items() if stem not in present), reverse=True)
        for day in missing[:at_most]:
            self._make(day, _around(by_day, day), stems[day])
            present.add(stems[day])
        left = len(missing) - len(missing[:at_most])
        self._drop_former(stems, present)
        chosen = {day: stem if stem in present else _former(day, present) for day, stem in stems.items()}
        requests, latency = ({day: self._folder / f"{stem}{end}" for day, stem in chosen.items() if stem} for end in _ENDINGS)
        return DaysKept(requests, latency, left)

    def _stem(self, day: int, files: Sequence[str]) -> str:
        return f"{day}-{key_of(files=sorted(files), prices=self._prices)}"

    def _make(self, day: int, files: Sequence[str], stem: str) -> None:
        window = Window(float(day * SECONDS_PER_DAY), float((day + 1) * SECONDS_PER_DAY))
        rows = conform(self.engine.read_parquet(files), window, catalog=self.catalog)
        hour = (rows.started_s / HOUR_S).floor().cast("int64")
        step = (rows.request_latency_ms.clip(lower=1e-3).ln() / LATENCY_STEP).floor().cast("int64")
        rows = rows.mutate(hour=hour, step=step, file=ibis.literal(0, "int64"))
        finest = rows.group_by("file", "hour", *NAMES, "step").agg(
            requests=rows.is_final.sum().cast("float64"),
            successes=(rows.is_final & (rows.status == "success")).sum().cast("float64"),
            failures=(rows.is_final & (rows.status == "failure")).sum().cast("float64"),
            attempts=rows.count().cast("float64"),
            cost_usd=rows.cost_usd.sum().fill_null(0.0),
            priced=rows.cost_usd.count().cast("float64"),
        )
        made = few_names(finest, NAMES, "attempts", keep=("step",)).to_pyarrow()
        sums = made.group_by(["hour", *NAMES]).aggregate([(name, "sum") for name in REQUEST_SUMS.names if name not in dict(_KEY)])
        sums = sums.rename_columns([name.removesuffix("_sum") for name in sums.column_names])
        timed = made.filter(pa.compute.and_(pa.compute.is_valid(made["step"]), pa.compute.greater(made["requests"], 0)))
        for (schema, table), end in zip(((REQUEST_SUMS, sums), (LATENCY_COUNTS, timed)), _ENDINGS, strict=True):
            write_sums(table.select(schema.names).cast(schema), self._folder / f"{stem}{end}")

    def _drop_former(self, stems: Mapping[int, str], present: set[str]) -> None:
        """Sums of days that are made anew, or gone from the lake."""
        for stem in present:
            day = int(stem.partition("-")[0])
            if stems.get(day) != stem and (day not in stems or stems[day] in present):
                for end in _ENDINGS:
                    (self._folder / f"{stem}{end}").unlink(missing_ok=True)


# The latency file is written last: where it is, both are.
_ENDINGS = (".requests.parquet", ".latency.parquet")


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
