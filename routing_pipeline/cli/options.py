"""What commands declare: their options, what the help says of them, an example.

Belongs here: options that several commands have, and what turns a function into a command. Does not belong here: what the
options name (`inputs`).
"""

from __future__ import annotations

import functools
import inspect
from collections.abc import Callable, Collection
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any, get_type_hints

import typer

from routing_pipeline.cli import completion
from routing_pipeline.cli.help import OPERATE

CONFIG = "ROUTING_PIPELINE_CONFIG"

Root = Annotated[
    Path | None, typer.Option("--home", help="The home: folder that holds lake, results and runs [default: .routing-pipeline]")
]
AsJson = Annotated[bool, typer.Option("--json", help="Print the result as JSON")]
Yes = Annotated[bool, typer.Option("--yes", "-y", help="Do not ask; without a terminal nobody is asked")]
Logs = Annotated[str, typer.Option("--logs", help="Directory, file:// or s3://bucket/prefix")]
Feedback = Annotated[str | None, typer.Option("--feedback", help="Scores: JSONL, CSV or Parquet, at a URI")]
Out = Annotated[Path, typer.Option("--out", help="Folder that receives report and rules")]
RuleSetId = Annotated[
    str,
    typer.Argument(
        help="rule_set_id of rules.json; latest: of the newest report that answers the home's own question, never of an experiment",
        show_default=False,
        autocompletion=completion.RULE_SETS,
    ),
]
By = Annotated[str, typer.Option("--by", help="Who decides this")]
Because = Annotated[str, typer.Option("--because", help="Why, for the record")]
PublishingConfig = Annotated[
    Path | None, typer.Option("--config", envvar=CONFIG, help="TOML that says where rule sets are stored: [publishing]")
]
ReadingConfig = Annotated[Path | None, typer.Option("--config", envvar=CONFIG, help="TOML: [format], [scales], [alerts]")]
AddSource = Annotated[bool, typer.Option("--add-source", help="Accept logs from a second place into this home")]
Format = Annotated[
    str, typer.Option("--format", help="auto, a log format by name, or a TOML file that maps one", autocompletion=completion.FORMATS)
]
EngineName = Annotated[str, typer.Option("--engine", help="duckdb or spark://HOST:PORT", autocompletion=completion.ENGINES)]

PARAMETERS: dict[str, Any] = {
    "timeframe": Annotated[
        str | None, typer.Option("--timeframe", help="1h, 24h, 7d or 30d [default: 7d]", autocompletion=completion.TIMEFRAMES)
    ],
    "as_of": Annotated[str | None, typer.Option("--as-of", help="End of the window, ISO 8601 [default: the newest request]")],
    "task_types": Annotated[str | None, typer.Option("--task-types", help="Only these, comma-separated")],
    "cost_threshold": Annotated[float | None, typer.Option("--cost-threshold", help="Most that a request may cost on average, USD")],
    "quality_threshold": Annotated[
        float | None, typer.Option("--quality-threshold", help="Least mean quality, 0..1; holds beside --max-quality-drop")
    ],
    "goal": Annotated[
        str | None, typer.Option("--goal", help="cost, speed, quality or balanced [default: balanced]", autocompletion=completion.GOALS)
    ],
    "max_quality_drop": Annotated[
        float | None, typer.Option("--max-quality-drop", help="Largest fall of quality below today's that is acceptable [default: 0.01]")
    ],
    "max_quality_drop_per_task": Annotated[
        float | None,
        typer.Option("--max-quality-drop-per-task", help="The same of any one task [default: three times that; 1: no such limit]"),
    ],
    "prove_per_task": Annotated[bool | None, typer.Option("--prove-per-task", help="Hold it at the safe end, for all tasks at once")],
    "single": Annotated[bool | None, typer.Option("--single", help="One model for each kind of request, never two that share it")],
    "budget": Annotated[float | None, typer.Option("--budget", help="USD per month")],
    "explore_only": Annotated[
        bool | None, typer.Option("--explore-only", help="Leave the held-out half unseen: no proof, and no question of the proof is spent")
    ],
    "capabilities": Annotated[
        Path | None, typer.Option("--capabilities", help="What models can: api.json of models.dev [default: a bundled list]")
    ],
    "config": Annotated[Path | None, typer.Option("--config", envvar=CONFIG, help="TOML: parameters, models, capacities, budgets, alerts")],
}
"""Options of every command that analyses."""

DEBUG = inspect.Parameter(
    "debug", inspect.Parameter.KEYWORD_ONLY, default=False, annotation=Annotated[bool, typer.Option("--debug", help="Show tracebacks")]
)
"""Of every command; it is read before Typer starts, because reading options can fail as well."""


@dataclass(frozen=True)
class Command:
    """A command as the application registers it."""

    name: str
    example: str
    """A whole command line."""
    call: Callable[..., None]
    group: str = OPERATE
    """Of the first page of the help."""


def command(example: str, *, parameters: Collection[str] = (), group: str = OPERATE) -> Callable[[Callable[..., None]], Command]:
    """Make a function a command: its docstring is the help, its arguments are the options, `--debug` is added.

    Args:
        example: what follows `routing-pipeline`, beginning with the command's name.
        parameters: which options of PARAMETERS it takes; the function gets those that were given as the dict `asked`, its first argument.
        group: under which heading of the help it stands (`help.GROUPS`).
    """

    def declared(function: Callable[..., None]) -> Command:
        return Command(example.split()[0], f"routing-pipeline {example}", _gathering(function, parameters), group)

    return declared


def _gathering(function: Callable[..., None], names: Collection[str]) -> Callable[..., None]:
    """The function with a signature that Typer can read."""

    @functools.wraps(function)
    def gathered(*, debug: bool = False, **options: Any) -> None:
        del debug
        if names:
            asked = {name: options.pop(name) for name in names}
            options["asked"] = {name: value for name, value in asked.items() if value is not None}
        function(**options)

    hints = get_type_hints(function, include_extras=True)
    own = [
        each.replace(kind=inspect.Parameter.KEYWORD_ONLY, annotation=hints[each.name])
        for each in inspect.signature(function).parameters.values()
        if not (names and each.name == "asked")
    ]
    shared = [inspect.Parameter(name, inspect.Parameter.KEYWORD_ONLY, default=None, annotation=PARAMETERS[name]) for name in names]
    everything = [*own, DEBUG, *shared]
    gathered.__annotations__ = {each.name: each.annotation for each in everything}
    gathered.__signature__ = inspect.Signature(everything)  # type: ignore[attr-defined]
    return gathered
