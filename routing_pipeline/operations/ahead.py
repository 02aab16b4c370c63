"""What a run needs in a moment, found ahead in a second process or thread: sums by hour, the gate, the evidence, the rules, what else is checked.

Belongs here: which of it is begun, and when. Does not belong here: where (`beside`), answering (`analyst`).

They take half of a run, and each but the last stands on the one before. Meanwhile the run itself does what rests on none of them;
what should hold is in nobody's way and comes last, beside all that rests on the rules.
"""

from __future__ import annotations

from routing_pipeline import beside
from routing_pipeline.alerts.sensor import sum_up
from routing_pipeline.data_quality.expectations import Severity
from routing_pipeline.data_quality.suite import check_suite, gate
from routing_pipeline.lake.table import Lake
from routing_pipeline.operations.analyst import Analyst
from routing_pipeline.parameters import Parameters
from routing_pipeline.storage.home import Home
from routing_pipeline.window.engine import open_engine
from routing_pipeline.window.scope import AnalysisScope

SUMS = "sums"
AHEAD = ("routing_evidence", "routing_rules")
MOST_ATTEMPTS = 5_000_000
"""Above, an engine by itself keeps all cores busy, and two of them hold twice the memory."""


def begin_sums(home: Home, memory_limit: str, parameters: Parameters, rows: int) -> bool:
    """Begin to sum up a lake of so many rows under `SUMS`, while its window is made ready; False where whoever asks has to do it."""
    return rows <= MOST_ATTEMPTS and beside.begin(SUMS, _sum_up, home, memory_limit, parameters)


def begin(analyst: Analyst, scope: AnalysisScope) -> None:
    """Begin with all that rests on a window, each under its name; who needs one asks `beside.settle` first."""
    if scope.attempts > MOST_ATTEMPTS:
        return
    beside.begin("blocking", _check, "blocking", analyst.home, scope)
    for name in AHEAD:
        beside.begin(name, _answer, analyst.home, analyst.memory_limit, name, scope)
    beside.begin("warning", _check, "warning", analyst.home, scope)


def _check(severity: Severity, home: Home, scope: AnalysisScope) -> None:
    check_suite(severity, home, scope, Lake(home))


def _answer(home: Home, memory_limit: str, name: str, scope: AnalysisScope) -> None:
    # Of rows that may not be spoken about nothing is found, and no question is put to the proof.
    gate(home, scope, Lake(home))
    Analyst(home, scope.engine, memory_limit).answer(name, scope)


def _sum_up(home: Home, memory_limit: str, parameters: Parameters) -> None:
    with open_engine("duckdb", memory_limit=memory_limit, spill_to=home.scratch / "spill") as engine:
        sum_up(home, engine, parameters)
