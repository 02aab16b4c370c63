"""What an operation sees of its scope: the parameters that its row declares, and no others.

Belongs here: hiding the rest. Does not belong here: who declares what (`table`), the key that follows from it (`AnalysisScope.key_for`).

A result is kept under what its operation declares. One that read more would be taken for the answer to another question, so what is
not declared is not there: reading it is an error, and never a wrong number.
"""

from __future__ import annotations

from collections.abc import Collection
from typing import Any, NoReturn, TypeVar

from pydantic import BaseModel

from routing_pipeline.parameters import Parameters
from routing_pipeline.window.scope import PARAMETERS_OF_ROWS, AnalysisScope

AnyModel = TypeVar("AnyModel", bound=BaseModel)

OF_THE_QUESTION = frozenset({"key", "timeframe_asked", "notices", "snapshot_id", "router", "stale_because"})
"""Fields of a scope that another question of the same rows may have otherwise, or another moment."""


class UndeclaredError(RuntimeError):
    """An operation reads what its row does not declare."""


def _hidden(model: BaseModel, name: str) -> NoReturn:
    raise UndeclaredError(
        f"{model.__dict__.get('_operation', 'an operation')} reads {name}, which its row in operations.table does not declare"
    )


class _Declared(Parameters):
    """Parameters without those that are hidden."""

    def __getattr__(self, name: str) -> Any:
        if name in Parameters.model_fields:
            _hidden(self, name)
        return super().__getattr__(name)  # type: ignore[misc]  # pydantic hides it from type checkers

    def model_dump(self, **_: Any) -> NoReturn:
        """Whoever writes all of them down reads all of them."""
        _hidden(self, "all parameters")

    def model_dump_json(self, **_: Any) -> NoReturn:
        """As `model_dump`."""
        _hidden(self, "all parameters")


class _DeclaredScope(AnalysisScope):
    """A scope without what is of its question."""

    def __getattr__(self, name: str) -> Any:
        if name in AnalysisScope.model_fields:
            _hidden(self, name)
        return super().__getattr__(name)  # type: ignore[misc]  # as above


def only_declared(scope: AnalysisScope, asks: Collection[str] | None, operation: str) -> AnalysisScope:
    """The scope as an operation sees it that declares these parameters; None: all, and then the scope is shown as it is."""
    if asks is None:
        return scope
    parameters = _without(scope.parameters, _Declared, set(Parameters.model_fields) - set(asks) - PARAMETERS_OF_ROWS, operation)
    seen = _without(scope, _DeclaredScope, OF_THE_QUESTION, operation)
    seen.__dict__["parameters"] = parameters
    return seen


def _without(model: BaseModel, kind: type[AnyModel], hidden: Collection[str], operation: str) -> AnyModel:
    seen = kind.model_construct(**dict(model))
    for name in hidden:
        del seen.__dict__[name]
    seen.__dict__["_operation"] = operation
    return seen
