"""The operations on one home, each answered from the results store where the same was asked before.

Belongs here: looking up, computing, keeping. Does not belong here: which operations there are and what they take (`table`),
what is computed (`analysis`, `policy`, `recommendation`), who asks (`assets`; `mcp`).

A result is kept under its rows with the parameters that its operation reads, and the digest of its operation's code and of the
results that it rests on: as long as those say the same, it stands.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator, Mapping
from contextlib import AbstractContextManager, contextmanager, nullcontext
from functools import reduce
from typing import Any

from pydantic_core import to_json

from routing_pipeline.data_quality.suite import gate
from routing_pipeline.estimates import Result
from routing_pipeline.lake.table import Lake
from routing_pipeline.operations.declared import only_declared
from routing_pipeline.operations.inputs import AT_HAND, READ, VERSIONS
from routing_pipeline.operations.table import OPERATIONS, Operation, Operations
from routing_pipeline.parameters import Parameters
from routing_pipeline.recommendation.routing_rules import RoutingRules, as_chosen
from routing_pipeline.storage.home import Home
from routing_pipeline.storage.results import key_of
from routing_pipeline.window.engine import Engine, open_engine
from routing_pipeline.window.resolve import resolve_scope
from routing_pipeline.window.scope import AnalysisScope

Progress = Callable[[str], None]
"""Called with what begins now, for whoever waits."""


class Analyst:
    """Answers about one home. May be asked from several threads: what is not stored yet is computed by one at a time."""

    def __init__(self, home: Home, engine_name: str = "duckdb", memory_limit: str = "", operations: Operations = OPERATIONS) -> None:
        home.check_engine(engine_name)
        self.home, self.engine_name, self.memory_limit, self.operations = home, engine_name, memory_limit, operations
        self._computing = threading.RLock()

    def scope(self, parameters: Parameters, progress: Progress | None = None) -> AnalysisScope:
        """The window that these parameters ask for, its rows made ready and found sound.

        Raises:
            UnusableInputError: there is no row to speak of.
            DataQualityError: a blocking check failed on the rows.
        """
        lake, results = Lake(self.home), self.home.results
        with self._computing:
            _say(progress, "making the window's rows ready")
            with self.engine() as engine:
                scope = resolve_scope(lake, parameters, engine=engine, engine_name=self.engine_name)
            results.save("analysis_scope", scope.key, scope)
            _say(progress, "checking the data")
            gate(self.home, scope, lake)
        return scope

    def answer(self, operation: str, scope: AnalysisScope, progress: Progress | None = None, given: Mapping[str, Any] | None = None) -> Any:
        """The result of an operation of the table, of the type that its row names.

        Args:
            operation: its name.
            scope: of the window that it is about.
            progress: hears what is computed, and nothing of what is only looked up.
            given: what whoever asks says (`inputs.SAID`), and results of other operations to take in place of their own, by name.
        """
        with self._computing:
            return _Answering(self, scope, progress, given or {}).result(operation)

    def rules_of(self, rule_set_id: str) -> tuple[AnalysisScope, RoutingRules] | None:
        """The optimisation that a rule set of this home came from, with that one proposed; None when no such id is known, or it was dropped."""
        results = self.home.results
        key = results.key_of_rule_set(rule_set_id)
        scope = None if key is None else results.load("analysis_scope", key, AnalysisScope)
        rules = None if scope is None else results.load("routing_rules", scope.key, RoutingRules)
        found = None if rules is None else as_chosen(rules, rule_set_id)
        return None if scope is None or found is None else (scope, found)

    @contextmanager
    def engine(self) -> Iterator[Engine]:
        """An open engine that spills into the home."""
        with open_engine(self.engine_name, memory_limit=self.memory_limit, spill_to=self.home.scratch / "spill") as engine:
            yield engine


class _Answering:
    """One question with all that it rests on; nothing is looked up twice."""

    def __init__(self, analyst: Analyst, scope: AnalysisScope, progress: Progress | None, given: Mapping[str, Any]) -> None:
        self.analyst, self.home, self.scope, self.progress = analyst, analyst.home, scope, progress
        self.found = dict(given)

    def result(self, name: str) -> Any:
        if name not in self.found:
            self.found[name] = self._stored_or_made(self.analyst.operations[name])
        return self.found[name]

    def _stored_or_made(self, operation: Operation) -> Result:
        results, key = self.home.results, self._key(operation)
        rests_on = [self._digest(each) for each in operation.inputs]
        kept_as = f"{operation.name}-{key_of(code=operation.code, rests_on=rests_on)}"
        found = results.load(kept_as, key, operation.result)
        if found is None or not self._has_its_file(operation, found):
            _say(self.progress, operation.name.replace("_", " "))
            found = self._made(operation)
            results.save(kept_as, key, found)
        if operation.name == "routing_rules" and isinstance(found, RoutingRules):
            self._remember(found)
        return found

    def _key(self, operation: Operation) -> str:
        if operation.of_rows_alone:
            return self.scope.evidence_key
        return self.scope.key if operation.asks is None else self.scope.key_for(operation.asks)

    def _made(self, operation: Operation) -> Result:
        # What it rests on was looked up for its digest, so that no engine is opened within an engine.
        reading: AbstractContextManager[Engine | None] = self.analyst.engine() if READ.keys() & set(operation.inputs) else nullcontext()
        scope = only_declared(self.scope, operation.asks, operation.name)
        with reading as engine:
            return operation.compute(
                *(
                    READ[each](self.home, engine, scope) if engine is not None and each in READ else self._value(each, scope)
                    for each in operation.inputs
                )
            )

    def _value(self, name: str, scope: AnalysisScope) -> Any:
        """Of an input that needs no reading."""
        first, *fields = name.split(".")
        if first in AT_HAND:
            value = AT_HAND[first](self.home, scope)
        else:
            value = self.result(first) if first in self.analyst.operations else self.found.get(first)
        return reduce(getattr, fields, value)

    def _digest(self, name: str) -> str | None:
        """Of what an input says; None where the scope's key says it."""
        first = name.partition(".")[0]
        if first in VERSIONS:
            return VERSIONS[first](self.home, self.scope)
        if first in READ or first in AT_HAND:
            return None
        row = self.analyst.operations.get(name)
        # Where a file lies says nothing.
        return key_of(value=to_json(self._value(name, self.scope), exclude={row.file} if row is not None and row.file else None).decode())

    def _has_its_file(self, operation: Operation, found: Result) -> bool:
        file = getattr(found, operation.file) if operation.file else None
        return file is None or self.home.results.has(file)

    def _remember(self, rules: RoutingRules) -> None:
        """Its rule set is found by id from now on."""
        known = self.analyst.rules_of(rules.rule_set.rule_set_id)
        if known is None or known[0].key != self.scope.key:
            self.home.results.save("routing_rules", self.scope.key, rules)
            for rule_set_id in (rules.rule_set.rule_set_id, *(each.rule_set.rule_set_id for each in rules.options)):
                self.home.results.remember_rule_set(rule_set_id, self.scope.key)


def _say(progress: Progress | None, what: str) -> None:
    if progress is not None:
        progress(what)
