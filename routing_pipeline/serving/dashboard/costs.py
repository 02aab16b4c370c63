"""Money per request, session, solved task and user on the live page: as the newest report counted it, and of which days.

Belongs here: reading it out of a stored report. Does not belong here: counting it (`analysis.unit_costs`), which takes every request of a
window and would keep a page waiting.
"""

from __future__ import annotations

from datetime import datetime

from pydantic import ConfigDict, Field

from routing_pipeline import text
from routing_pipeline.analysis.unit_costs import UnitCosts
from routing_pipeline.estimates import Result
from routing_pipeline.storage.runs import StoredRun

MOST_GROUPS = 5
"""Of each dimension, dearest first; the report has the others."""


class ReportedCosts(Result):
    """Money per unit, of the window of one report."""

    run_id: str
    start: datetime = Field(description="Of its window, UTC")
    end: datetime = Field(description="Of its window, UTC")
    units: tuple[UnitCosts, ...] = Field(description="Of everything together, then by team, tag and group of users where logged")


class _Scope(Result):
    model_config = ConfigDict(extra="ignore")

    start_s: float
    end_s: float


class _Costs(Result):
    model_config = ConfigDict(extra="ignore")

    units: tuple[UnitCosts, ...] = ()


class _Stored(Result):
    """Of report.json, what is shown."""

    model_config = ConfigDict(extra="ignore")

    scope: _Scope
    routing_costs: _Costs


def reported_costs(run: StoredRun | None) -> ReportedCosts | None:
    """None without a report, where another version wrote it, and where nothing in it has a cost."""
    stored = None if run is None else run.load("report", _Stored)
    if run is None or stored is None or not any(each.lines for each in stored.routing_costs.units):
        return None
    units = tuple(each.model_copy(update={"lines": each.lines[:MOST_GROUPS]}) for each in stored.routing_costs.units)
    return ReportedCosts(
        run_id=run.run_id, start=text.from_seconds(stored.scope.start_s), end=text.from_seconds(stored.scope.end_s), units=units
    )
