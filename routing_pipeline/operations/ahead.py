"""What a run needs in a moment, found ahead in a second process or thread: the checks, the evidence, the rules.

Belongs here: which answers are begun, for whom. Does not belong here: where (`beside`), answering (`analyst`).

They take half of a run and stand on each other. Meanwhile the run itself does what rests on none of them.
"""

from __future__ import annotations

from routing_pipeline import beside
from routing_pipeline.data_quality.expectations import Severity
from routing_pipeline.data_quality.suite import check_suite, gate
from routing_pipeline.lake.table import Lake
from routing_pipeline.operations.analyst import Analyst
from routing_pipeline.storage.home import Home
from routing_pipeline.window.scope import AnalysisScope

CHECKS: tuple[Severity, ...] = ("blocking", "warning")
AHEAD = ("routing_evidence", "routing_rules")
MOST_ATTEMPTS = 5_000_000
"""Above, an engine by itself keeps all cores busy, and two of them hold twice the memory."""


def begin(analyst: Analyst, scope: AnalysisScope) -> None:
    """Begin with all of them, each under its name; who needs one asks `beside.settle` first."""
    if scope.attempts > MOST_ATTEMPTS:
        return
    for severity in CHECKS:
        beside.begin(severity, _check, severity, analyst.home, scope)
    for name in AHEAD:
        beside.begin(name, _answer, analyst.home, analyst.memory_limit, name, scope)


def _check(severity: Severity, home: Home, scope: AnalysisScope) -> None:
    check_suite(severity, home, scope, Lake(home))


def _answer(home: Home, memory_limit: str, name: str, scope: AnalysisScope) -> None:
    # Of rows that may not be spoken about nothing is found, and no question is put to the proof.
    gate(home, scope, Lake(home))
    Analyst(home, scope.engine, memory_limit).answer(name, scope)
