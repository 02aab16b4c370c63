"""The `routing-pipeline` command.

Belongs here: options, progress, what is printed, exit codes. Does not belong here: any work; commands that run the job
import `assets.definitions` when called, so that --help answers at once.
"""

from __future__ import annotations

import functools
import inspect
import os
import shlex
import sys
import traceback
from collections.abc import Callable, Collection, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, get_type_hints

import typer

from routing_pipeline.errors import PipelineError, UnusableInputError

if TYPE_CHECKING:
    from routing_pipeline.home import Home
    from routing_pipeline.mcp.answers import Answers
    from routing_pipeline.results import ResultStore
    from routing_pipeline.rule_sets.life_cycle import RuleSetStatus
    from routing_pipeline.rule_sets.record import RuleSetRecord

app = typer.Typer(
    name="routing-pipeline",
    help="What other routing rules would have cost and delivered, estimated from your LLM gateway's own logs.",
    add_completion=False,
    pretty_exceptions_enable=False,
    rich_markup_mode=None,
)

Root = Annotated[Path | None, typer.Option("--home", help="Folder that holds lake, results and runs [default: .routing-pipeline]")]
Debug = Annotated[bool, typer.Option("--debug", help="Show tracebacks")]
AsJson = Annotated[bool, typer.Option("--json", help="Print the result as JSON")]
Logs = Annotated[str, typer.Option("--logs", help="Directory, file:// or s3://bucket/prefix")]
Feedback = Annotated[str | None, typer.Option("--feedback", help="Scores: JSONL, CSV or Parquet, at a URI")]
Out = Annotated[Path, typer.Option("--out", help="Folder that receives report and rules")]
RuleSetId = Annotated[str, typer.Argument(help="rule_set_id of rules.json; latest: of the newest report", show_default=False)]
By = Annotated[str, typer.Option("--by", help="Who decides this")]
Because = Annotated[str, typer.Option("--because", help="Why, for the record")]
CONFIG = "ROUTING_PIPELINE_CONFIG"
ConfigFile = Annotated[Path | None, typer.Option("--config", envvar=CONFIG, help="TOML that says where rule sets are kept: [publishing]")]
ReadingConfig = Annotated[Path | None, typer.Option("--config", envvar=CONFIG, help="TOML: [format], [scales], [alerts]")]
AddSource = Annotated[bool, typer.Option("--add-source", help="Accept logs from a second place into this home")]
Format = Annotated[str, typer.Option("--format", help="auto, a log format by name, or a TOML file that maps one")]
EngineName = Annotated[str, typer.Option("--engine", help="duckdb or spark://HOST:PORT")]

INGESTION = ("request_log", "feedback")
"""Assets that `analyze` leaves as they are."""

PARAMETERS: dict[str, Any] = {
    "timeframe": Annotated[str | None, typer.Option("--timeframe", help="1h, 24h, 7d or 30d [default: 7d]")],
    "as_of": Annotated[str | None, typer.Option("--as-of", help="End of the window, ISO 8601 [default: the newest request]")],
    "task_types": Annotated[str | None, typer.Option("--task-types", help="Only these, comma-separated")],
    "cost_threshold": Annotated[float | None, typer.Option("--cost-threshold", help="Most that a request may cost on average, USD")],
    "quality_threshold": Annotated[float | None, typer.Option("--quality-threshold", help="Least mean quality, 0..1")],
    "goal": Annotated[str | None, typer.Option("--goal", help="cost, speed, quality or balanced [default: balanced]")],
    "max_quality_drop": Annotated[
        float | None, typer.Option("--max-quality-drop", help="Largest fall of quality that is acceptable [default: 0.01]")
    ],
    "budget": Annotated[float | None, typer.Option("--budget", help="USD per month")],
    "config": Annotated[Path | None, typer.Option("--config", envvar=CONFIG, help="TOML: parameters, models, capacities, budgets, alerts")],
}
"""Options of every command that analyses; `with_parameters` hands them over as one dict."""


def main() -> None:
    """Entry point: every failure ends as one line on stderr and the exit code of the contract."""
    debug = "--debug" in sys.argv
    try:
        # Not standalone: Typer's own way to end takes several lines.
        app(args=sys.argv[1:] or ["--help"], standalone_mode=False)
    except typer.TyperException as error:
        said = error.format_message() if hasattr(error, "format_message") else str(error)
        asked = [word for word in sys.argv[1:2] if word in _commands()]
        _fail(f"{said} ({' '.join(['routing-pipeline', *asked])} --help shows what there is)", UnusableInputError.exit_code, debug=debug)
    except PipelineError as error:
        _fail(str(error), error.exit_code, debug=debug)
    except KeyboardInterrupt:
        _fail("interrupted; nothing is lost, run the same command again", 130, debug=debug)
    except Exception as error:  # noqa: BLE001  the last line of defence: a bug of ours, said in one line
        _fail(f"internal error ({type(error).__name__}: {_first_line(error)}); run again with --debug and report it", 1, debug=debug)


def _commands() -> set[str]:
    named = (command.name or (command.callback.__name__ if command.callback else "") for command in app.registered_commands)
    return {name.replace("_", "-") for name in named}


def _first_line(error: Exception) -> str:
    return (str(error).strip().splitlines() or ["no message"])[0][:300]


def _fail(message: str, exit_code: int, *, debug: bool) -> None:
    from routing_pipeline.report.wording import name

    # Names from logs and from requests may stand in it: one line, no control characters, no megabytes.
    typer.echo(f"routing-pipeline: {name(message, 4_000)}", err=True)
    if debug:
        traceback.print_exc()
    raise SystemExit(exit_code)


def with_parameters(command: Callable[..., None], names: Collection[str] = tuple(PARAMETERS)) -> Callable[..., None]:
    """Give a command the options of PARAMETERS, collected in its first argument `asked`; those not given are left out."""
    offered = {name: PARAMETERS[name] for name in names}
    own = [each for name, each in inspect.signature(command).parameters.items() if name != "asked"]

    @functools.wraps(command)
    def gathered(**options: Any) -> None:
        asked = {name: options.pop(name) for name in offered}
        command(asked={name: value for name, value in asked.items() if value is not None}, **options)

    hints = get_type_hints(command, include_extras=True)
    gathered.__annotations__ = {each.name: hints[each.name] for each in own} | offered
    gathered.__signature__ = inspect.Signature(  # type: ignore[attr-defined]
        [each.replace(kind=inspect.Parameter.KEYWORD_ONLY, annotation=hints[each.name]) for each in own]
        + [inspect.Parameter(name, inspect.Parameter.KEYWORD_ONLY, default=None, annotation=kind) for name, kind in offered.items()]
    )
    return gathered


@app.command()
@with_parameters
def run(
    asked: dict[str, Any],
    logs: Logs,
    out: Out,
    feedback: Feedback = None,
    home: Root = None,
    engine: EngineName = "duckdb",
    log_format: Format = "auto",
    add_source: AddSource = False,
    as_json: AsJson = False,
    debug: Debug = False,
) -> None:
    """Ingest what is new, check it, analyse it, and write report and rules."""
    opened = _open_home(home)
    ingest_ops = _ingest_ops(logs, feedback, log_format, add_source=add_source)
    _deliver(opened, out, asked, engine=engine, ops=ingest_ops, leave_out=(), as_json=as_json)


@app.command()
@with_parameters
def analyze(
    asked: dict[str, Any],
    out: Out,
    home: Root = None,
    engine: EngineName = "duckdb",
    as_json: AsJson = False,
    debug: Debug = False,
) -> None:
    """Analyse what the home already holds; reads no logs."""
    opened = _open_home(home)
    _deliver(opened, out, asked, engine=engine, ops={}, leave_out=INGESTION, as_json=as_json)


@app.command()
@with_parameters
def simulate(
    asked: dict[str, Any],
    rules: Annotated[str, typer.Option("--rules", help="rules.json, ours or by hand: [{when, route}]; or a rule_set_id; or latest")],
    home: Root = None,
    engine: EngineName = "duckdb",
    as_json: AsJson = False,
    debug: Debug = False,
) -> None:
    """What these rules would have done, with intervals, on sessions that no search has seen."""
    values, config = _checked(asked)
    opened, record = _record(home, config)
    from routing_pipeline.parameters import read_parameters
    from routing_pipeline.rule_sets.record import named_or_read

    rule_set, notice = named_or_read(opened, record, rules, read_parameters(config, **values))
    if notice:
        typer.echo(notice, err=True)
    with _progress() as progress:
        from assets.running import simulated

        result = simulated(opened, rule_set, resources=_resources(opened, config, engine), scope=values, progress=progress)
    if as_json:
        from routing_pipeline.report.wording import visible

        typer.echo(visible(result.model_dump_json(indent=1)))
        return
    from routing_pipeline.report.simulated import lines

    for line in lines(result):
        typer.echo(line)


@app.command()
def approve(
    rule_set_id: RuleSetId,
    by: By,
    because: Because = "",
    home: Root = None,
    config: ConfigFile = None,
    as_json: AsJson = False,
    debug: Debug = False,
) -> None:
    """Record a stakeholder's approval; a change of more than 5 % of traffic or spend is not published without."""
    opened, record = _record(home, config)
    from routing_pipeline.rule_sets.record import resolved

    _show_status(record.approve(resolved(opened, record, rule_set_id), by, because), home, config, as_json=as_json)


@app.command()
def publish(
    rule_set_id: RuleSetId,
    by: By,
    because: Because = "",
    home: Root = None,
    config: ConfigFile = None,
    as_json: AsJson = False,
    debug: Debug = False,
) -> None:
    """Publish a rule set, whole and for good, and let `latest.json` name it."""
    opened, record = _record(home, config)
    from routing_pipeline.rule_sets.record import resolved

    _show_status(record.publish(resolved(opened, record, rule_set_id), by, because), home, config, as_json=as_json)
    if not as_json:
        typer.echo(record.place.uri)


@app.command(name="roll-back")
def roll_back(
    by: By,
    because: Because = "",
    home: Root = None,
    config: ConfigFile = None,
    as_json: AsJson = False,
    debug: Debug = False,
) -> None:
    """Take back the rule set that is live; the one before it is live again, or the gateway's own choice."""
    _, record = _record(home, config)
    _show_status(record.roll_back(by, because), home, config, as_json=as_json)


def _record(home: Path | None, config: Path | None) -> tuple[Home, RuleSetRecord]:
    from routing_pipeline.rule_sets.record import read_publishing, record_of

    opened = _open_home(home)
    return opened, record_of(opened, read_publishing(config, os.environ.get("ROUTING_PIPELINE_PUBLISH", "")).to)


def _show_status(status: RuleSetStatus, home: Path | None, config: Path | None, *, as_json: bool) -> None:
    if as_json:
        typer.echo(status.model_dump_json(indent=1))
        return
    live = "no rule set is live" if status.live is None else f"{status.live} is live"
    typer.echo(f"{status.rule_set_id}: {status.verdict} ({live})")
    if status.next_step:
        # As it was given, so that the line can be pasted.
        where = [word for option, given in (("--home", home), ("--config", config)) if given is not None for word in (option, str(given))]
        typer.echo(f"next: {' '.join([status.next_step, shlex.join(where)]).rstrip()}")


@app.command()
def report(
    run: Annotated[str | None, typer.Argument(help="Id of a run, or how it begins [default: the latest]", show_default=False)] = None,
    out: Annotated[Path | None, typer.Option("--out", help="Folder that receives report and rules")] = None,
    listed: Annotated[bool, typer.Option("--list", help="Show the runs that can be made again")] = False,
    home: Root = None,
    as_json: AsJson = False,
    debug: Debug = False,
) -> None:
    """Write the report of an earlier run again, byte for byte, from what the run kept."""
    store = _open_home(home).results
    if listed:
        _show_runs(store, as_json=as_json)
        return
    if out is None:
        raise UnusableInputError("name a folder with --out, or see with --list what there is")
    from routing_pipeline.report.rebuilding import find_run, rebuild

    rebuilt = rebuild(find_run(store, run), out)
    if rebuilt.differing and not rebuilt.is_other_code:
        raise RuntimeError(f"{', '.join(rebuilt.differing)} came out differently")
    if rebuilt.differing:
        typer.echo(f"made by another version of the code; these read differently now: {', '.join(rebuilt.differing)}", err=True)
    if as_json:
        from routing_pipeline.report.wording import visible

        typer.echo(visible((out / "report.json").read_text(encoding="utf-8")))
        return
    typer.echo((out / "report.html").absolute())


def _show_runs(store: ResultStore, *, as_json: bool) -> None:
    import json
    from datetime import UTC, datetime

    runs = [
        {
            "run_id": run.run_id,
            "published": datetime.fromtimestamp(run.published_s, UTC).isoformat(timespec="seconds"),
            "key": run.key,
            "is_of_alert": run.is_of_alert,
        }
        for run in store.runs()
    ]
    if as_json:
        typer.echo(json.dumps(runs, indent=1))
        return
    for each in runs:
        typer.echo(f"{each['run_id']}  {each['published']}{'  alert' if each['is_of_alert'] else ''}")


@app.command()
def ingest(
    logs: Logs,
    feedback: Feedback = None,
    home: Root = None,
    log_format: Format = "auto",
    add_source: AddSource = False,
    config: ReadingConfig = None,
    as_json: AsJson = False,
    debug: Debug = False,
) -> None:
    """Read what is new into the home's lake; analyse nothing."""
    opened = _open_home(home)
    if not _is_up_to_date(opened, logs, feedback):
        with _progress() as progress:
            from assets.running import run_job

            run_job(
                opened,
                "ingest_logs",
                resources=_resources(opened, config, "duckdb"),
                ops=_ingest_ops(logs, feedback, log_format, add_source=add_source, stand_if_unavailable=False),
                progress=progress,
            )
    from routing_pipeline.ingest.lake import Lake

    totals = Lake(opened).totals()
    if as_json:
        typer.echo(totals.model_dump_json(indent=1))
        return
    typer.echo(
        f"{totals.records:,} records from {totals.objects:,} objects: {totals.ingested:,} ingested, "
        f"{totals.quarantined:,} quarantined, {totals.duplicates:,} duplicates"
    )


def _is_up_to_date(home: Home, logs: str, feedback: str | None) -> bool:
    """Whether there is nothing to run for: Dagster alone takes seconds to start. What cannot be listed is the run's to report."""
    from routing_pipeline.errors import PipelineError
    from routing_pipeline.ingest.backlog import holds_nothing_new

    try:
        return holds_nothing_new(home, "ledger", logs) and (feedback is None or holds_nothing_new(home, "feedback_ledger", feedback))
    except PipelineError:
        return False


@app.command(name="mcp")
@with_parameters
def serve_mcp(
    asked: dict[str, Any],
    server: Annotated[str, typer.Argument(help="intelligence-router or cost-tracker", show_default=False)],
    http: Annotated[str | None, typer.Option("--http", help="HOST:PORT for streamable HTTP [default: standard input and output]")] = None,
    home: Root = None,
    engine: EngineName = "duckdb",
    debug: Debug = False,
) -> None:
    """Serve agents: the task's tools over the home's results. Options say what is assumed where a call says nothing."""
    from routing_pipeline.mcp.tools import SERVERS

    if server not in SERVERS:
        raise UnusableInputError(f"{server}: the servers are {' and '.join(SERVERS)}")
    answers = _answers(home, asked, engine)
    from routing_pipeline.mcp.server import TOKEN_VARIABLE, serve_http, serve_stdio

    name = next(each for each in SERVERS if each == server)
    if http is None:
        serve_stdio(name, answers)
    else:
        token = os.environ.get(TOKEN_VARIABLE) or None
        serve_http(name, answers, http, token=token, ready=lambda line: typer.echo(line, err=True))


@app.command()
@functools.partial(with_parameters, names=("budget", "config"))
def dashboard(
    asked: dict[str, Any],
    host: Annotated[str, typer.Option("--host", help="Address to listen on; any but this machine's own demands a token")] = "127.0.0.1",
    port: Annotated[int, typer.Option("--port", min=0, max=65_535, help="Port to listen on; 0 takes a free one")] = 8501,
    home: Root = None,
    debug: Debug = False,
) -> None:
    """The live page: what the gateway does now against what is usual, while logs arrive in the home."""
    from routing_pipeline.parameters import read_parameters

    values, config = _checked(asked)
    opened = _open_home(home)
    from routing_pipeline.dashboard.following import Follower
    from routing_pipeline.dashboard.serving import TOKEN_VARIABLE, serve

    _, record = _record(home, config)
    serve(
        Follower(opened, read_parameters(config, **values), record),
        host,
        port,
        token=os.environ.get(TOKEN_VARIABLE) or None,
        ready=lambda url: typer.echo(f"live page at {url}", err=True),
    )


@app.command()
@with_parameters
def ask(
    asked: dict[str, Any],
    tool: Annotated[str, typer.Argument(help="A tool of the task, such as get_routing_costs", show_default=False)],
    arguments: Annotated[list[str] | None, typer.Argument(help="Its arguments, such as timeframe=24h", show_default=False)] = None,
    home: Root = None,
    engine: EngineName = "duckdb",
    as_json: AsJson = False,
    debug: Debug = False,
) -> None:
    """Ask one of the fourteen tools from the shell: the answer that an agent would get."""
    from routing_pipeline.mcp.tools import BY_NAME

    if tool not in BY_NAME:
        raise UnusableInputError(f"{tool[:60]}: the tools are {', '.join(BY_NAME)}")
    given = dict(word.partition("=")[::2] for word in arguments or ())
    answers = _answers(home, asked, engine)
    with _progress() as progress:
        answer = answers.answer(BY_NAME[tool], given, lambda what: progress(what, 0, None))
    if as_json:
        import json

        typer.echo(json.dumps(answer.structured, indent=1, ensure_ascii=False))
        return
    typer.echo(answer.text)


def _answers(home: Path | None, asked: dict[str, Any], engine: str) -> Answers:
    from routing_pipeline.mcp.answers import Answers
    from routing_pipeline.parameters import read_parameters

    values, config = _checked(asked)
    opened, record = _record(home, config)
    return Answers(opened, read_parameters(config, **values), engine, record)


@app.command()
def metrics(
    http: Annotated[str | None, typer.Option("--http", help="HOST:PORT to serve them at, under /metrics")] = None,
    textfile: Annotated[Path | None, typer.Option("--textfile", help="File to write, *.prom, for the node exporter's collector")] = None,
    home: Root = None,
    config: ConfigFile = None,
    debug: Debug = False,
) -> None:
    """What Prometheus may know of the home: printed, written to a file, or served; no row is read for it."""
    if http is not None and textfile is not None:
        raise UnusableInputError("give --http or --textfile, not both")
    from routing_pipeline import metrics as of_home

    opened, record = _record(home, config)
    if textfile is not None:
        of_home.write_textfile(opened, textfile, record)
    elif http is not None:
        token = os.environ.get(of_home.TOKEN_VARIABLE) or None
        of_home.serve(opened, http, token=token, ready=lambda line: typer.echo(line, err=True), record=record)
    else:
        typer.echo(of_home.exposition(opened, record).decode(), nl=False)


@app.command()
def reprocess(
    day: Annotated[str | None, typer.Option("--day", help="Objects that hold this UTC day, as in 2026-11-24")] = None,
    prefix: Annotated[str | None, typer.Option("--prefix", help="Objects whose key starts with this")] = None,
    home: Root = None,
    log_format: Format = "auto",
    config: ReadingConfig = None,
    as_json: AsJson = False,
    debug: Debug = False,
) -> None:
    """Read objects again that were read before; their rows are replaced once the new ones are there."""
    from routing_pipeline.ingest.reprocessing import mark_for_reading_again

    opened = _open_home(home)
    marked = mark_for_reading_again(opened, day=day, prefix=prefix)
    with _progress() as progress:
        from assets.running import run_job

        for source in marked.sources:
            ops = _ingest_ops(source, None, log_format, add_source=False, stand_if_unavailable=False)
            run_job(opened, "ingest_logs", resources=_resources(opened, config, "duckdb"), ops=ops, progress=progress)
    if as_json:
        typer.echo(marked.model_dump_json(indent=1))
        return
    typer.echo(
        f"{marked.objects:,} objects read again"
        + (f"; {marked.gone:,} are not there any more, and what was read of them stays" if marked.gone else "")
        + (f"; {marked.forgotten:,} were forgotten and stay so" if marked.forgotten else "")
    )


@app.command()
def compact(
    kept_days: Annotated[float, typer.Option("--keep-days", min=0, help="How long older snapshots stay readable")] = 7.0,
    home: Root = None,
    as_json: AsJson = False,
    debug: Debug = False,
) -> None:
    """Join the lake's small files, drop old snapshots and what only they held; the asset lake_upkeep does so every night."""
    from routing_pipeline.ingest.maintenance import maintain

    with _progress() as progress:
        result = maintain(_open_home(home), kept_days=kept_days, progress=progress)
    if as_json:
        typer.echo(result.model_dump_json(indent=1))
        return
    typer.echo(
        f"{result.files_before:,} files became {result.files_after:,}; {result.snapshots_expired:,} snapshots dropped, "
        f"{result.files_removed:,} files removed, {result.bytes_freed / 1e6:,.1f} MB freed"
    )


@app.command()
def forget(
    user: Annotated[str | None, typer.Option("--user", help="A user's identifier, as the gateway logs it")] = None,
    team: Annotated[str | None, typer.Option("--team", help="A team's name")] = None,
    key: Annotated[str | None, typer.Option("--object", help="An object's key")] = None,
    before: Annotated[str | None, typer.Option("--before", help="Everything that began before, ISO 8601, UTC")] = None,
    home: Root = None,
    as_json: AsJson = False,
    debug: Debug = False,
) -> None:
    """Remove rows from the lake and from all its history, and say how many; the logs themselves are left as they are."""
    asked = {"user": user, "team": team, "object": key, "before": before}
    given = [(what, value) for what, value in asked.items() if value is not None]
    if len(given) != 1:
        raise UnusableInputError("give exactly one of --user, --team, --object, --before")
    from routing_pipeline.ingest.forgetting import forget as forget_rows

    ((what, value),) = given
    with _progress() as progress:
        result = forget_rows(_open_home(home), what, value, progress=progress)  # type: ignore[arg-type]
    if as_json:
        typer.echo(result.model_dump_json(indent=1))
        return
    typer.echo(
        f"{result.attempts:,} rows from {result.objects:,} objects forgotten, with {result.quarantined:,} refused records and "
        f"{result.scores:,} scores; {result.snapshots:,} older snapshots and {result.files:,} files deleted"
    )


@app.command()
def demo(
    out: Out = Path("demo/report"),
    home: Annotated[
        Path | None, typer.Option("--home", help="Folder that holds lake, results and runs, and then the logs too [default: demo/home]")
    ] = None,
    requests: Annotated[int, typer.Option("--requests", min=1_000, help="How many requests to make up")] = 200_000,
    as_json: AsJson = False,
    debug: Debug = False,
) -> None:
    """Make up a week of gateway traffic in a home of its own, then `run` on it."""
    from routing_pipeline.demo_logs import write_demo

    opened = _open_home(home or Path("demo/home"))
    # What was made up goes with the home that it was made up for; by itself it lies where `make dev` looks for it.
    folder = Path("demo") if home is None else opened.root / "demo"
    with _progress() as progress:
        progress("making up a week of traffic", 0, 1)
        write_demo(folder, requests=requests)
        progress("making up a week of traffic", 1, 1)
    ops = _ingest_ops(str(folder / "logs"), str(folder / "feedback"), "auto", add_source=False)
    _deliver(opened, out, {}, engine="duckdb", ops=ops, leave_out=(), as_json=as_json)


@app.command()
def doctor(
    home: Root = None,
    logs: Annotated[str | None, typer.Option("--logs", help="Also check that logs can be listed")] = None,
    as_json: AsJson = False,
    debug: Debug = False,
) -> None:
    """Say what works here and what does not: packages, home, lake, Java for Spark, credentials, the log source."""
    from routing_pipeline.doctor import examine

    findings = examine(_home_path(home), logs, *_shared_place())
    if as_json:
        import json

        typer.echo(json.dumps([finding.model_dump() for finding in findings], indent=1))
    else:
        for finding in findings:
            typer.echo(f"{'ok ' if finding.works else 'NO '} {finding.name}: {finding.detail}")
    if any(finding.is_needed and not finding.works for finding in findings):
        raise UnusableInputError("something that every run needs does not work; see the lines that begin with NO")


def _home_path(home: Path | None) -> Path:
    return home or Path(os.environ.get("ROUTING_PIPELINE_HOME") or ".routing-pipeline")


def _open_home(home: Path | None) -> Home:
    from routing_pipeline.home import Home

    return Home(_home_path(home).absolute(), *_shared_place()).create()


def _shared_place() -> tuple[str, str]:
    """Warehouse and catalog; from the environment alone, because a command line is seen by everybody on the machine."""
    return os.environ.get("ROUTING_PIPELINE_WAREHOUSE") or "", os.environ.get("ROUTING_PIPELINE_CATALOG") or ""


def _checked(asked: dict[str, Any]) -> tuple[dict[str, Any], Path | None]:
    """What was asked, refused before anything is read when it makes no sense; the configuration file apart."""
    from routing_pipeline.parameters import read_parameters

    values = dict(asked)
    config = values.pop("config", None)
    if "task_types" in values:
        values["task_types"] = [name.strip() for name in values["task_types"].split(",") if name.strip()]
    read_parameters(config, **values)
    return values, config


def _ingest_ops(logs: str, feedback: str | None, log_format: str, *, add_source: bool, stand_if_unavailable: bool = True) -> dict[str, Any]:
    return {
        "request_log": {
            "logs": _uri(logs),
            "log_format": str(Path(log_format).absolute()) if log_format.endswith(".toml") else log_format,
            "add_source": add_source,
            "stand_if_unavailable": stand_if_unavailable,
        },
        "feedback": {"feedback": _uri(feedback) if feedback else ""},
    }


def _uri(place: str) -> str:
    """Absolute for folders, so that a home recognises its source from wherever the command is run."""
    return place if "://" in place else str(Path(place).absolute())


def _resources(home: Home, config: Path | None, engine: str) -> dict[str, Any]:
    home.check_engine(engine)
    return {
        "root": str(home.root),
        "warehouse": home.warehouse,
        # By the name of its variable: what a run was configured with is remembered, and shown.
        "catalog": {"env": "ROUTING_PIPELINE_CATALOG"} if home.catalog else "",
        "config": "" if config is None else str(config.absolute()),
        "engine": engine,
    }


def _deliver(
    home: Home, out: Path, asked: dict[str, Any], *, engine: str, ops: dict[str, Any], leave_out: tuple[str, ...], as_json: bool
) -> None:
    values, config = _checked(asked)
    from routing_pipeline.report.publishing import check_writable

    check_writable(out)
    with _progress() as progress:
        from assets.running import run_job

        run_job(
            home,
            "optimize_routing",
            resources=_resources(home, config, engine),
            ops=ops | {"analysis_scope": values, "optimization_report": {"out": str(out.absolute())}},
            leave_out=leave_out,
            progress=progress,
        )
    report = (out / "report.json").read_text(encoding="utf-8")
    if as_json:
        from routing_pipeline.report.wording import visible

        typer.echo(visible(report))
        return
    from routing_pipeline.report.assembly import Report
    from routing_pipeline.report.headlines import headlines

    for line in headlines(Report.model_validate_json(report)):
        typer.echo(line)
    typer.echo((out / "report.html").absolute())


@contextmanager
def _progress() -> Iterator[Any]:
    """A progress bar on stderr; nothing is drawn where stderr is not a terminal, except that steps are named."""
    from rich.console import Console
    from rich.progress import BarColumn, Progress, TextColumn, TimeElapsedColumn

    console = Console(stderr=True)
    columns = (
        TextColumn("{task.description}", markup=False),
        BarColumn(bar_width=24),
        TextColumn("{task.fields[counted]}"),
        TimeElapsedColumn(),
    )
    with Progress(*columns, console=console, transient=True, disable=not console.is_terminal) as bar:
        task = bar.add_task("starting", total=None, counted="")

        def show(what: str, done: int, of: int | None) -> None:
            # Of how many is not known before a run was put together.
            bar.update(task, description=what.replace("_", " "), completed=done, total=of, counted=f"{done}/{of}" if of else "")

        yield show
