"""Months of spend out of the lake, as `budget_projection` takes them: more than the rows of any window.

Belongs here: which files of the lake that history is read from. Does not belong here: what is made of it (`budget_projection`).
"""

from __future__ import annotations

from routing_pipeline.analysis.budget_projection import HISTORY_DAYS, SpendHistory, spend_history
from routing_pipeline.catalog import Catalog
from routing_pipeline.clock import SECONDS_PER_DAY
from routing_pipeline.lake.table import Lake
from routing_pipeline.storage.home import Home
from routing_pipeline.window.conform import with_all_columns
from routing_pipeline.window.engine import Engine
from routing_pipeline.window.hourly import priced
from routing_pipeline.window.repeats import logged_once
from routing_pipeline.window.scope import AnalysisScope


def history_files(home: Home, scope: AnalysisScope) -> tuple[str, ...]:
    """The Parquet files that the history before the end of this scope's window lies in."""
    return Lake(home).attempt_files(scope.end_s - (HISTORY_DAYS + 1) * SECONDS_PER_DAY, scope.end_s)


def lake_history(home: Home, engine: Engine, scope: AnalysisScope) -> SpendHistory:
    """What was spent by day before the end of this scope's window, at the scope's prices."""
    attempts = logged_once(with_all_columns(engine.read_parquet(history_files(home, scope))), held=engine.held)
    ends = Lake(home).ends_s()
    paid, oldest_s = priced(attempts, Catalog(scope.parameters.models)), None if ends is None else ends[0]
    return spend_history(paid, scope.end_s, oldest_s, scope.parameters.budgets_by_tier, scope.parameters.budgets_by_team)
