"""Cells of a window's units, and what the evidence says of them.

Belongs here: taking requests or sessions, and whether a promise about sessions can be made. Does not belong here: what a unit is
(`policy.units`), the test of what is carried over (`policy.carry_over`), cells (`policy.cells`).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import astuple, dataclass, replace
from typing import Any

import ibis
import pyarrow as pa

from routing_pipeline.policy import cells as cells_
from routing_pipeline.policy.binning import SLOW_FACTOR, Binning
from routing_pipeline.policy.carry_over import carried_over
from routing_pipeline.policy.context import context_of, with_strata
from routing_pipeline.policy.counting import NOT_CHANGED, Counting
from routing_pipeline.policy.evidence_model import CarriedOver, SteeringTest, UnusualHours
from routing_pipeline.policy.incident_free import without
from routing_pipeline.policy.kinds import WindowNeeds, binning_by_needs, join_names
from routing_pipeline.policy.prompt_caches import Caching, caching_of, whole_session_rows
from routing_pipeline.policy.strata import PLACE, Strata
from routing_pipeline.policy.units import WindowUnit, session_rows, unit_of_window
from routing_pipeline.window.engine import held_rows


@dataclass(frozen=True)
class Decided:
    """How a window is decided, and what its caches do to that.

    is_whole: requests were decided one by one, and rules decide for whole sessions because their costs hang together through a cache.
    """

    unit: WindowUnit
    caching: Caching | None
    carried: CarriedOver | None
    is_whole: bool

    @property
    def is_uncounted(self) -> bool:
        """Whether requests that are decided one by one, beside sessions that are not, lose of a cache what is not counted."""
        return bool(self.unit.by_request) and self.caching is not None and self.caching.verdict == "something"


SWITCHES = 0.2
"""Share of sessions that change model from which on counting them by their first one says little of those that would stay."""


def decided_in(requests: ibis.Table) -> Decided:
    """How the window's requests are decided, from small aggregates over its rows."""
    unit = unit_of_window(requests)
    if not unit.has_sessions:
        return Decided(unit, None, None, is_whole=False)
    if unit.by_request:
        own = requests.filter(requests.task_type.isin(unit.by_request))
        return Decided(unit, caching_of(own), carried_over(own, unit.requests), is_whole=False)
    caching = caching_of(requests)
    matters = caching is not None and caching.verdict == "something"
    switches = unit.per == "request" or (matters and unit.switching > SWITCHES)
    carried = carried_over(requests, unit.requests) if switches else None
    is_whole = matters and carried is not None and (unit.per == "request" or carried.verdict == "nothing")
    return Decided(unit, caching, carried if is_whole or unit.per == "request" else None, is_whole)


def told_of_units(decided: Decided) -> dict[str, Any]:
    """What is promised and decided about: sessions, where one model serves them, or nothing is carried over from one request to the next."""
    unit, found = decided.unit, decided.carried
    told = unit.told
    if told is None:
        return {"unit": unit.per, "per": unit.per, "sessions": None}
    words = [told.told]
    if found is not None:
        words.append(found.told)
    cache = None if decided.caching is None else decided.caching.told("whole session" if decided.is_whole else unit.per)
    if cache is not None:
        words.append(cache.told)
    if decided.is_uncounted:
        words.append(
            f"What {join_names(list(unit.by_request))} would lose of it by single moves is not counted, so its costs are per call only."
        )
    told = told.model_copy(update={"carried_over": found, "cache": cache, "told": " ".join(words)})
    if decided.is_whole:
        # Its answers are judged one by one, as they were routed.
        told = told.model_copy(update={"quality_of_a_session": "mean of its scores"})
    promised = "session" if (found is None or found.verdict == "nothing") and not decided.is_uncounted else "request"
    return {"unit": promised, "per": "session" if decided.is_whole else unit.per, "sessions": told, "by_request": unit.by_request}


Gathered = tuple[pa.Table | None, tuple[SteeringTest, ...]]


def cells_of_units(
    requests: ibis.Table, decided: Decided, needs: WindowNeeds, unusual: Sequence[UnusualHours] = (), counting: Counting = NOT_CHANGED
) -> Gathered:
    """The aggregate over requests, or over sessions, None where there are none; and which columns steer their choice.

    Args:
        requests: rows of the window.
        decided: what is decided about.
        needs: what tasks are cut by.
        unusual: hours whose units are left out in a second set of cells, written after the first.
        counting: what was done to the rows' scores, for whoever reads rows again.
    """
    unit = decided.unit
    if decided.is_whole and decided.caching is not None:
        caches = decided.caching.models
        with held_rows(whole_session_rows(requests, caches)) as rows:
            return _cells_of(rows, needs, unusual, strata=BY_PLACE, caches=tuple(map(astuple, caches)), counting=counting)
    if unit.per == "session":
        return _cells_of_sessions(requests, unit, needs, unusual, counting)
    return _cells_of(requests, needs, unusual, counting=counting)


BY_PLACE = Strata(PLACE, tuple((str(place),) if place < 2 else (str(place), str(place + 1)) for place in (0, 1, 2, 4, 6)))
"""Calls of a growing conversation cost more the later they come, whichever model serves them."""


def _cells_of(
    rows: ibis.Table, needs: WindowNeeds, unusual: Sequence[UnusualHours], strata: Strata | None = None, **units: Any
) -> Gathered:
    def binned(teams: tuple[tuple[str, ...], ...]) -> Binning:
        binning = binning_by_needs(rows, needs, teams)
        return binning if strata is None or not binning.tasks else with_strata(binning, strata)

    context = context_of(rows, binned)
    if not context.binning.tasks:
        return None, context.tests
    binning = replace(context.binning, **units)
    table = cells_.aggregate(rows, binning)
    if unusual:
        table = cells_.with_calm(table, cells_.aggregate(without(rows, unusual), binning))
    return table, context.tests


def _cells_of_sessions(
    requests: ibis.Table, unit: WindowUnit, needs: WindowNeeds, unusual: Sequence[UnusualHours], counting: Counting
) -> Gathered:
    slow_above_ms = None if unit.slow_above_ms is None else unit.slow_above_ms * SLOW_FACTOR
    counted: dict[str, Any] = {"is_scored_one_by_one": unit.is_scored_one_by_one, "by_request": unit.by_request}
    with held_rows(session_rows(requests, slow_above_ms, **counted)) as rows:
        return _cells_of(rows, needs, unusual, of_sessions=True, slow_above_ms=slow_above_ms, counting=counting, **counted)
