"""Spend of the hours before a short window, from the sums that are kept of the whole lake: what is usual there, a day alone cannot say.

Belongs here: reading those sums as analyses want them. Does not belong here: making and keeping them
(`routing_pipeline.window.hourly`), what stands out of them (`outliers`, `alerts`).
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Collection
from dataclasses import dataclass

import ibis

from routing_pipeline.catalog import Catalog
from routing_pipeline.clock import SECONDS_PER_DAY, SECONDS_PER_HOUR
from routing_pipeline.lake.table import Lake
from routing_pipeline.storage.home import Home
from routing_pipeline.window.engine import Engine
from routing_pipeline.window.hourly import SumsStore
from routing_pipeline.window.scope import UNKNOWN_TASK, AnalysisScope

WEEKS = 6
"""How far back is read: as far as the sensors look."""
SHORT_DAYS = 3.0
"""Windows shorter than this know too few like hours by themselves."""

Spender = tuple[str | None, str, str]
"""Team, model, task type."""


@dataclass(frozen=True)
class EarlierHours:
    """Hours [first, end) since 1970, with the window's own among them.

    series, cells: ATTEMPT_SUMS of the lake by kind, and by team, task type and model together (`hourly.Kept`).
    """

    series: ibis.Table
    cells: ibis.Table
    first: int
    end: int

    def spend(self) -> dict[int, tuple[float, float]]:
        """By hour: spend and sum of squared costs."""
        whole = self.series.filter(self.series.kind == "all", self.series.hour >= self.first, self.series.hour < self.end)
        rows = whole.group_by("hour").agg(spend=whole.cost_usd.sum(), squares=whole.cost_squares.sum()).to_pyarrow().to_pylist()
        return {row["hour"]: (row["spend"], row["squares"]) for row in rows}

    def spenders(self, hours: Collection[int]) -> dict[int, dict[Spender, float]]:
        """Of some hours: spend by team, model and task type."""
        cells = self.cells.filter(self.cells.hour.isin(sorted(hours)), self.cells.cost_usd > 0)
        found: dict[int, dict[Spender, float]] = defaultdict(dict)
        for row in cells.group_by("hour", "team", "model", "task_type").agg(spend=cells.cost_usd.sum()).to_pyarrow().to_pylist():
            found[row["hour"]][row["team"], row["model"], row["task_type"] or UNKNOWN_TASK] = row["spend"]
        return found


def earlier_hours(home: Home, engine: Engine, scope: AnalysisScope) -> EarlierHours | None:
    """The hours of a short window and of the WEEKS before it; None for a longer window, and for a part of the traffic.

    The sums know no part of the traffic by task types.
    """
    if scope.days >= SHORT_DAYS or scope.parameters.task_types:
        return None
    start_s = scope.start_s - WEEKS * 7 * SECONDS_PER_DAY
    files = Lake(home).attempt_files(start_s, scope.end_s)
    cached = SumsStore(home, engine, Catalog(scope.parameters.models)).attempts(files)
    if cached.series is None or cached.cells is None:
        return None
    return EarlierHours(cached.series, cached.cells, int(start_s // SECONDS_PER_HOUR), int(scope.end_s // SECONDS_PER_HOUR))
