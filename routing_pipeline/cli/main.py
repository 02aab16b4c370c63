"""The `routing-pipeline` command: which commands there are, and how each ends.

Belongs here: the application, exit codes, what is said of errors, and the commands about the installation itself (`--version`,
`doctor`). Does not belong here: other commands (`analyze`, `data`, `decide`, `export`, `serve`).
"""

from __future__ import annotations

import errno
import json
import sys
import traceback
from itertools import pairwise
from typing import Annotated, NoReturn

import typer

from routing_pipeline import suggested
from routing_pipeline.cli import analyze, audit, data, decide, export, recommendation, rollout, serve
from routing_pipeline.cli.help import START, WHAT_IT_IS, WORDS, GroupedHelp
from routing_pipeline.cli.inputs import home_path, shared_place
from routing_pipeline.cli.options import AsJson, Root, command
from routing_pipeline.cli.output import show
from routing_pipeline.errors import PipelineError, UnusableInputError, complaint
from routing_pipeline.stopping import RUN_AGAIN, guarded
from routing_pipeline.storage.memory_limit import OUT_OF_MEMORY, VARIABLE, memory_limit

app = typer.Typer(
    name="routing-pipeline",
    cls=GroupedHelp,
    help=WHAT_IT_IS,
    epilog=WORDS,
    pretty_exceptions_enable=False,
    rich_markup_mode=None,
    context_settings={"help_option_names": ["-h", "--help"]},
)


_ROOM, _RIGHT = "free some space", "make sure that it may be read and written"
NOT_OURS: dict[int | None, str] = {
    **dict.fromkeys((errno.ENOSPC, errno.EDQUOT), _ROOM),
    **dict.fromkeys((errno.EROFS, errno.EACCES, errno.EPERM), _RIGHT),
}
"""What the machine refuses, by its number, with what to do: no bug of ours."""


def main() -> None:
    """Entry point: every failure ends as one line on stderr and the exit code of the contract, every interruption as well."""
    guarded(_command)


def _command() -> None:
    debug = "--debug" in sys.argv
    try:
        _refuse_blank(sys.argv[1:])
        # Not standalone: Typer's own way to end takes several lines.
        code = app(args=sys.argv[1:] or ["--help"], prog_name="routing-pipeline", standalone_mode=False)
    except typer.TyperException as error:
        said = error.format_message() if hasattr(error, "format_message") else str(error)
        what, colon, why = said.partition(": ")
        said = f"{what}{colon}{complaint(why)}" if colon else said
        asked = [word for word in sys.argv[1:2] if word in {each.name for each in COMMANDS}]
        _fail(f"{said} ({' '.join(['routing-pipeline', *asked])} --help shows what there is)", UnusableInputError.exit_code, debug=debug)
    except PipelineError as error:
        _fail(_pasteable(str(error)), error.exit_code, debug=debug)
    except OSError as error:
        if error.errno not in NOT_OURS:
            _internal(error, debug=debug)
        what = str(error.filename) if error.filename else "what the command prints or writes"
        _fail(
            f"{what}: {error.strerror}; {NOT_OURS[error.errno]}, and run the same command again", UnusableInputError.exit_code, debug=debug
        )
    except Exception as error:  # noqa: BLE001  the last line of defence: a bug of ours, said in one line
        _internal(error, debug=debug)
    # What Typer takes care of by itself, it returns.
    if isinstance(code, int) and code:
        raise SystemExit(code)


def _refuse_blank(words: list[str]) -> None:
    """Refuse an option without a value, as a shell passes a variable that is not set: an empty path would be the current folder."""
    if all(word.strip() and not word.endswith("=") for word in words):
        return
    asked = typer.main.get_command(app).commands.get(words[0])  # type: ignore[attr-defined]
    valued = {name for each in (asked.params if asked else ()) if not getattr(each, "is_flag", False) for name in each.opts}
    given = [*pairwise(words), *(word.split("=", 1) for word in words if "=" in word)]
    for name, value in given:
        if name in valued and not value.strip():
            raise UnusableInputError(f"{name}: nothing is given; give a value, or leave the option out")


def _pasteable(message: str) -> str:
    """The commands that a message suggests, about the home that this one was about."""
    words = sys.argv[1:]
    given = [word.removeprefix("--home=") for word in words if word.startswith("--home=")]
    given += [after for word, after in pairwise(words) if word == "--home"]
    return suggested.about(message, given[-1]) if given else message


def _internal(error: Exception, *, debug: bool) -> NoReturn:
    # In what a run tells of a step it stands among other words.
    if OUT_OF_MEMORY in f"{type(error).__name__}: {error}":
        more = f"a higher {VARIABLE} (now {memory_limit()}), or fewer steps at once, gives it more"
        _fail(f"DuckDB came to the end of its memory; {more}; {RUN_AGAIN}", UnusableInputError.exit_code, debug=debug)
    _fail(f"internal error ({type(error).__name__}: {_first_line(error)}); run again with --debug and report it", 1, debug=debug)


def _first_line(error: Exception) -> str:
    return (str(error).strip().splitlines() or ["no message"])[0][:300]


def _fail(message: str, exit_code: int, *, debug: bool) -> NoReturn:
    from routing_pipeline.text import name

    # Names from logs and from requests may stand in it: one line, no control characters, no megabytes.
    typer.echo(f"routing-pipeline: {name(message, 4_000)}", err=True)
    if debug:
        traceback.print_exc()
    raise SystemExit(exit_code)


def _show_version(asked: bool) -> None:
    if asked:
        from importlib import metadata

        typer.echo(f"routing-pipeline {metadata.version('routing-pipeline')}")
        raise typer.Exit


@app.callback()
def _all_commands(
    version: Annotated[bool, typer.Option("--version", callback=_show_version, is_eager=True, help="Say which version this is")] = False,
) -> None:
    pass


@command("doctor --logs s3://bucket/logs", group=START)
def doctor(
    home: Root = None,
    logs: Annotated[str | None, typer.Option("--logs", help="Also check that logs can be listed")] = None,
    as_json: AsJson = False,
) -> None:
    """Say what works here and what does not, and what to do about it. Packages, home, lake, Java for Spark, credentials, the log source."""
    from routing_pipeline.cli.doctor import examine

    findings = examine(home_path(home), logs, *shared_place())
    lines = (f"{finding.mark}  {finding.name}: {finding.detail}" for finding in findings)
    show(json.dumps([finding.model_dump() for finding in findings], indent=1), lines, as_json=as_json)
    if any(finding.is_needed and not finding.works for finding in findings):
        raise UnusableInputError("something that every run needs does not work; see the lines that begin with NO")


COMMANDS = (
    analyze.demo,
    audit.audit,
    analyze.run,
    decide.status,
    doctor,
    analyze.analyze,
    analyze.simulate,
    decide.approve,
    decide.publish,
    decide.roll_back,
    recommendation.recommendation,
    export.export,
    rollout.rollout,
    analyze.report,
    data.ingest,
    serve.mcp,
    serve.dashboard,
    analyze.ask,
    serve.metrics,
    data.reprocess,
    data.compact,
    data.forget,
)
"""In the order of the help, which puts them under the headings of `help.GROUPS`."""

for each in COMMANDS:
    app.command(each.name, epilog=f"\b\nExample:\n  {each.example}", rich_help_panel=each.group)(each.call)
