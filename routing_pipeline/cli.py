"""The `routing-pipeline` command.

Belongs here: options, progress, what is printed, exit codes. Does not belong here: any work; commands that run the job
import `assets.definitions` when called, so that --help answers at once.
"""

from __future__ import annotations

import os
import sys
import traceback
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from routing_pipeline.errors import PipelineError, UnusableInputError

if TYPE_CHECKING:
    from routing_pipeline.home import Home
    from routing_pipeline.report.assembly import Report

app = typer.Typer(
    name="routing-pipeline",
    help="What other routing rules would have cost and delivered, estimated from your LLM gateway's own logs.",
    no_args_is_help=True,
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
AddSource = Annotated[bool, typer.Option("--add-source", help="Accept logs from a second place into this home")]
Format = Annotated[str, typer.Option("--format", help="auto, or the log format by name")]
EngineName = Annotated[str, typer.Option("--engine", help="duckdb or spark://HOST:PORT")]
TimeframeAsked = Annotated[str | None, typer.Option("--timeframe", help="1h, 24h, 7d or 30d [default: 7d]")]
AsOf = Annotated[str | None, typer.Option("--as-of", help="End of the window, ISO 8601 [default: the newest request]")]
TaskTypes = Annotated[str | None, typer.Option("--task-types", help="Only these, comma-separated")]
CostThreshold = Annotated[float | None, typer.Option("--cost-threshold", help="Most that a request may cost on average, USD")]
QualityThreshold = Annotated[float | None, typer.Option("--quality-threshold", help="Least mean quality, 0..1")]
GoalAsked = Annotated[str | None, typer.Option("--goal", help="cost, speed, quality or balanced [default: balanced]")]
MaxQualityDrop = Annotated[
    float | None, typer.Option("--max-quality-drop", help="Largest fall of quality that is acceptable [default: 0.01]")
]
Budget = Annotated[float | None, typer.Option("--budget", help="USD per month")]
Config = Annotated[Path | None, typer.Option("--config", help="TOML: parameters, models, capacities, budgets, alerts")]

SCOPE_AND_ON = (
    "analysis_scope",
    "routing_evidence",
    "routing_analytics",
    "routing_costs",
    "quality_metrics",
    "request_patterns",
    "model_performance",
    "routing_decisions",
    "bottlenecks",
    "cost_drivers",
    "quality_issues",
    "routing_rules",
    "tradeoff_frontier",
    "model_mix",
    "simulation",
    "cost_optimization_plan",
    "optimization_plan",
    "optimization_risks",
    "monitoring_plan",
    "routing_rule_set",
    "optimization_report",
)


def main() -> None:
    """Entry point: every failure ends as one line on stderr and the exit code of the contract."""
    debug = "--debug" in sys.argv
    try:
        app()
    except PipelineError as error:
        _fail(str(error), error.exit_code, debug=debug)
    except KeyboardInterrupt:
        _fail("interrupted; nothing is lost, run the same command again", 130, debug=debug)
    except Exception as error:  # noqa: BLE001  the last line of defence: a bug of ours, said in one line
        _fail(f"internal error ({type(error).__name__}: {_first_line(error)}); run again with --debug and report it", 1, debug=debug)


def _first_line(error: Exception) -> str:
    return (str(error).strip().splitlines() or ["no message"])[0][:300]


def _fail(message: str, exit_code: int, *, debug: bool) -> None:
    print(f"routing-pipeline: {' '.join(message.split())}", file=sys.stderr)
    if debug:
        traceback.print_exc()
    raise SystemExit(exit_code)


@app.command()
def run(
    logs: Logs,
    out: Out,
    feedback: Feedback = None,
    home: Root = None,
    timeframe: TimeframeAsked = None,
    as_of: AsOf = None,
    task_types: TaskTypes = None,
    cost_threshold: CostThreshold = None,
    quality_threshold: QualityThreshold = None,
    goal: GoalAsked = None,
    max_quality_drop: MaxQualityDrop = None,
    budget: Budget = None,
    config: Config = None,
    engine: EngineName = "duckdb",
    log_format: Format = "auto",
    add_source: AddSource = False,
    as_json: AsJson = False,
    debug: Debug = False,
) -> None:
    """Ingest what is new, check it, analyse it, and write report and rules."""
    del debug
    asked = _asked(
        config,
        timeframe=timeframe,
        as_of=as_of,
        task_types=task_types,
        cost_threshold=cost_threshold,
        quality_threshold=quality_threshold,
        goal=goal,
        max_quality_drop=max_quality_drop,
        budget=budget,
    )
    opened = _open_home(home)
    ingest_ops = _ingest_ops(logs, feedback, log_format, add_source=add_source)
    _deliver(opened, out, config=config, engine=engine, ops=ingest_ops | {"analysis_scope": asked}, selection=None, as_json=as_json)


@app.command()
def analyze(
    out: Out,
    home: Root = None,
    timeframe: TimeframeAsked = None,
    as_of: AsOf = None,
    task_types: TaskTypes = None,
    cost_threshold: CostThreshold = None,
    quality_threshold: QualityThreshold = None,
    goal: GoalAsked = None,
    max_quality_drop: MaxQualityDrop = None,
    budget: Budget = None,
    config: Config = None,
    engine: EngineName = "duckdb",
    as_json: AsJson = False,
    debug: Debug = False,
) -> None:
    """Analyse what the home already holds; reads no logs."""
    del debug
    asked = _asked(
        config,
        timeframe=timeframe,
        as_of=as_of,
        task_types=task_types,
        cost_threshold=cost_threshold,
        quality_threshold=quality_threshold,
        goal=goal,
        max_quality_drop=max_quality_drop,
        budget=budget,
    )
    opened = _open_home(home)
    _deliver(opened, out, config=config, engine=engine, ops={"analysis_scope": asked}, selection=SCOPE_AND_ON, as_json=as_json)


@app.command()
def ingest(
    logs: Logs,
    feedback: Feedback = None,
    home: Root = None,
    log_format: Format = "auto",
    add_source: AddSource = False,
    as_json: AsJson = False,
    debug: Debug = False,
) -> None:
    """Read what is new into the home's lake; analyse nothing."""
    del debug
    opened = _open_home(home)
    with _progress() as progress:
        from assets.running import run_job

        run_job(
            opened,
            "ingest_logs",
            resources=_resources(opened, None, "duckdb"),
            ops=_ingest_ops(logs, feedback, log_format, add_source=add_source),
            progress=progress,
        )
    from routing_pipeline.ingest.lake import Lake

    totals = Lake(opened).totals()
    if as_json:
        print(totals.model_dump_json(indent=1))
        return
    print(
        f"{totals.records:,} records from {totals.objects:,} objects: {totals.ingested:,} ingested, "
        f"{totals.quarantined:,} quarantined, {totals.duplicates:,} duplicates"
    )


@app.command()
def demo(
    out: Out = Path("demo/report"),
    home: Root = None,
    requests: Annotated[int, typer.Option("--requests", min=1_000, help="How many requests to make up")] = 200_000,
    as_json: AsJson = False,
    debug: Debug = False,
) -> None:
    """Make up a week of gateway traffic in a home of its own, then `run` on it."""
    del debug
    from routing_pipeline.demo_logs import write_demo

    folder = Path("demo")
    opened = _open_home(home or folder / "home")
    with _progress() as progress:
        progress("making up a week of traffic", 0, 1)
        write_demo(folder, requests=requests)
        progress("making up a week of traffic", 1, 1)
    ops = _ingest_ops(str(folder / "logs"), str(folder / "feedback"), "auto", add_source=False)
    _deliver(opened, out, config=None, engine="duckdb", ops=ops | {"analysis_scope": {}}, selection=None, as_json=as_json)


@app.command()
def doctor(
    home: Root = None,
    logs: Annotated[str | None, typer.Option("--logs", help="Also check that logs can be listed")] = None,
    as_json: AsJson = False,
    debug: Debug = False,
) -> None:
    """Say what works here and what does not: packages, home, lake, Java for Spark, credentials, the log source."""
    del debug
    from routing_pipeline.doctor import examine

    findings = examine(_home_path(home), logs)
    if as_json:
        import json

        print(json.dumps([finding.model_dump() for finding in findings], indent=1))
    else:
        for finding in findings:
            print(f"{'ok ' if finding.works else 'NO '} {finding.name}: {finding.detail}")
    if any(finding.is_needed and not finding.works for finding in findings):
        raise UnusableInputError("something that every run needs does not work; see the lines that begin with NO")


def _home_path(home: Path | None) -> Path:
    return home or Path(os.environ.get("ROUTING_PIPELINE_HOME") or ".routing-pipeline")


def _open_home(home: Path | None) -> Home:
    from routing_pipeline.home import Home

    return Home(_home_path(home).absolute()).create()


def _asked(config: Path | None, **asked: Any) -> dict[str, Any]:
    """Check the parameters before anything is read, and give those that were asked to the job."""
    from routing_pipeline.parameters import read_parameters

    if asked["task_types"] is not None:
        asked["task_types"] = [name.strip() for name in asked["task_types"].split(",") if name.strip()]
    given = {name: value for name, value in asked.items() if value is not None}
    read_parameters(config, **given)
    return given


def _ingest_ops(logs: str, feedback: str | None, log_format: str, *, add_source: bool) -> dict[str, Any]:
    return {
        "request_log": {"logs": _uri(logs), "log_format": log_format, "add_source": add_source},
        "feedback": {"feedback": _uri(feedback) if feedback else ""},
    }


def _uri(place: str) -> str:
    """Absolute for folders, so that a home recognises its source from wherever the command is run."""
    return place if "://" in place else str(Path(place).absolute())


def _resources(home: Home, config: Path | None, engine: str) -> dict[str, str]:
    return {"root": str(home.root), "config": "" if config is None else str(config.absolute()), "engine": engine}


def _deliver(
    home: Home, out: Path, *, config: Path | None, engine: str, ops: dict[str, Any], selection: tuple[str, ...] | None, as_json: bool
) -> None:
    from routing_pipeline.report.assembly import Report, check_writable

    check_writable(out)
    with _progress() as progress:
        from assets.running import run_job

        run_job(
            home,
            "optimize_routing",
            resources=_resources(home, config, engine),
            ops=ops | {"optimization_report": {"out": str(out.absolute())}},
            selection=selection,
            progress=progress,
        )
    report = Report.model_validate_json((out / "report.json").read_bytes())
    if as_json:
        print(report.model_dump_json(indent=1))
        return
    _print_headlines(report, out)


def _print_headlines(report: Report, out: Path) -> None:
    from routing_pipeline.report.headlines import headlines

    for line in headlines(report):
        print(line)
    print((out / "report.html").absolute())


@contextmanager
def _progress() -> Iterator[Any]:
    """A progress bar on stderr; nothing is drawn where stderr is not a terminal, except that steps are named."""
    from rich.console import Console
    from rich.progress import BarColumn, Progress, TextColumn, TimeElapsedColumn

    console = Console(stderr=True)
    columns = (TextColumn("{task.description}"), BarColumn(bar_width=24), TextColumn("{task.completed}/{task.total}"), TimeElapsedColumn())
    with Progress(*columns, console=console, transient=True, disable=not console.is_terminal) as bar:
        task = bar.add_task("starting", total=None)

        def show(what: str, done: int, of: int) -> None:
            bar.update(task, description=what.replace("_", " "), completed=done, total=of)

        yield show
