"""What an operation takes that is no other operation's result, by the name that its row in the table gives it.

Belongs here: one entry per name, and what of it no scope's key says. Does not belong here: who takes what (`table`).
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from routing_pipeline.analysis.earlier_hours import earlier_hours
from routing_pipeline.analysis.lake_history import history_files, lake_history
from routing_pipeline.lake.file_names import content_of
from routing_pipeline.operations.own_rules import ids_of, own_rules
from routing_pipeline.operations.published_rows import requests_of, sample_of, version_of
from routing_pipeline.storage.home import Home
from routing_pipeline.window.engine import Engine
from routing_pipeline.window.rows import calls_at, rows_at
from routing_pipeline.window.scope import AnalysisScope

AT_HAND: Mapping[str, Callable[[Home, AnalysisScope], Any]] = {
    "scope": lambda _, scope: scope,
    "home": lambda home, _: home,
    "coordination": lambda home, _: home.coordination,
    "own_rules": own_rules,
}
"""Nothing has to be read for these."""

READ: Mapping[str, Callable[[Home, Engine, AnalysisScope], Any]] = {
    "engine": lambda _, engine, __: engine,
    "requests": requests_of,
    "previous": lambda _, engine, scope: rows_at(engine, scope.previous_uri),
    "calls": lambda _, engine, scope: calls_at(engine, scope.requests_uri),
    "previous_calls": lambda _, engine, scope: calls_at(engine, scope.previous_uri),
    "sample": sample_of,
    "earlier_hours": earlier_hours,
    "history": lake_history,
}
"""Read with an engine. Chat alone is `requests`, of the window before `previous`, and of the sessions that estimates rest on
`sample`; calls of every kind are `calls`."""

SAID = frozenset({"models", "promised", "carried", "rule_set"})
"""Said by whoever asks, None where nothing is: models to compare, what was promised earlier, an alert, rules from elsewhere."""

VERSIONS: Mapping[str, Callable[[Home, AnalysisScope], str]] = {
    "history": lambda home, scope: content_of(history_files(home, scope)),
    "own_rules": ids_of,
    "requests": version_of,
    "sample": version_of,
}
"""Of what is read, what the scope's key does not hold: changes whenever that may be another."""


def code_behind(name: str) -> str | None:
    """The module that computes an input; None where it is only looked up."""
    module = READ[name].__module__ if name in READ else __name__
    return None if module == __name__ else module
