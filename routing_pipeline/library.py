"""The library's face: one home, asked from Python.

Belongs here: opening a home, and the tools of `ask` as methods of it. Does not belong here: anything that they compute, and what
agents and the command line see; they go the same way (`serving.mcp.answers`).
"""

from __future__ import annotations

import inspect
import os
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

from pydantic import BaseModel

from routing_pipeline.errors import UnusableInputError, did_you_mean
from routing_pipeline.estimates import Result
from routing_pipeline.parameters import Parameters, read_parameters
from routing_pipeline.serving.mcp.answers import Answers
from routing_pipeline.serving.mcp.tools import TOOLS, Tool
from routing_pipeline.storage.home import Home
from routing_pipeline.window.engine import check_engine


def open_home(path: str | Path, engine: str = "duckdb", config: str | Path | None = None) -> OpenedHome:
    """A home that `run`, `ingest` or `demo` filled; the library makes none.

    Args:
        path: The folder. Where there is a warehouse, `ROUTING_PIPELINE_WAREHOUSE` and `ROUTING_PIPELINE_CATALOG` name it, as everywhere.
        engine: `duckdb`, or `spark://HOST:PORT`.
        config: TOML file with parameters, models, capacities and budgets; None: the one that `ROUTING_PIPELINE_CONFIG` names, if any.

    Raises:
        UnusableInputError: there is no such home or engine, or the file cannot be used.
        ServiceUnavailableError: the warehouse or its catalog does not answer.
    """
    check_engine(engine)
    named = config or os.environ.get("ROUTING_PIPELINE_CONFIG")
    file = Path(named) if named else None
    read_parameters(file)
    shared = (os.environ.get("ROUTING_PIPELINE_WAREHOUSE") or "", os.environ.get("ROUTING_PIPELINE_CATALOG") or "")
    home = Home(Path(path).absolute(), *shared).found()
    home.check_engine(engine)
    return OpenedHome(home, engine, file)


class OpenedHome:
    """Answers about one home; each tool of `ask` is a method, under its name without the verb: `get_routing_costs` is `routing_costs`.

    A method takes the tool's own arguments and every field of `Parameters`, all by keyword, and returns the tool's result: a frozen
    pydantic model whose `to_pandas()` gives its main table. The same question on the same data is answered from the results store.
    """

    def __init__(self, home: Home, engine: str, config: Path | None) -> None:
        self._home, self._engine, self._config = home, engine, config

    def __repr__(self) -> str:
        return f"open_home({self._home.place!r}, engine={self._engine!r})"

    if TYPE_CHECKING:

        def __getattr__(self, name: str) -> Callable[..., Any]: ...

    def _result(self, tool: Tool, asked: dict[str, Any]) -> Result:
        own = {each.name for each in tool.parameters}
        known = own | set(Parameters.model_fields)
        for name in asked:
            if name not in known:
                raise UnusableInputError(f"{tool.operation} takes no {name[:60]}{did_you_mean(name, known)}")
        base = read_parameters(self._config, **{name: value for name, value in asked.items() if name not in own})
        arguments = {name: _as_json(value) for name, value in asked.items() if name in own}
        return Answers(self._home, base, self._engine).result(tool, arguments)


def _as_json(value: Any) -> Any:
    """Rules may be handed over as the models that a result holds."""
    if isinstance(value, BaseModel):
        return value.model_dump(mode="json", exclude_none=True)
    return [_as_json(each) for each in value] if isinstance(value, list | tuple) else value


def _method(tool: Tool) -> Callable[..., Result]:
    def ask(self: OpenedHome, **asked: Any) -> Result:
        return self._result(tool, asked)

    ask.__name__, ask.__qualname__ = tool.operation, f"{OpenedHome.__name__}.{tool.operation}"
    ask.__doc__ = f"{tool.title}. {tool.description}"
    keywords = [inspect.Parameter(each.name, inspect.Parameter.KEYWORD_ONLY, default=None) for each in tool.parameters]
    ask.__signature__ = inspect.Signature(  # type: ignore[attr-defined]  # what help() and completion show
        [
            inspect.Parameter("self", inspect.Parameter.POSITIONAL_OR_KEYWORD),
            *keywords,
            inspect.Parameter("parameters", inspect.Parameter.VAR_KEYWORD),
        ],
        return_annotation=Result,
    )
    return ask


for _tool in TOOLS:
    setattr(OpenedHome, _tool.operation, _method(_tool))
