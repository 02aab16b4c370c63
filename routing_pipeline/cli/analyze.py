"""Commands that analyse, and that show what was found.

Belongs here: run, demo, analyze, simulate, report, ask. Does not belong here: any work.
"""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Iterator, Mapping
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, NoReturn

import typer

from routing_pipeline.cli import completion, jobs
from routing_pipeline.cli.help import DECIDE, START
from routing_pipeline.cli.inputs import (
    Asked,
    check_environment,
    check_out,
    make_home,
    open_home,
    open_record,
    read_asked,
)
from routing_pipeline.cli.options import (
    PARAMETERS,
    AddSource,
    AsJson,
    EngineName,
    Feedback,
    Format,
    Logs,
    Out,
    PublishingConfig,
    Root,
    command,
)
from routing_pipeline.cli.output import show
from routing_pipeline.cli.progress import shown
from routing_pipeline.clock import SECONDS_PER_HOUR
from routing_pipeline.errors import UnusableInputError, did_you_mean
from routing_pipeline.stopping import saying

if TYPE_CHECKING:
    from routing_pipeline.parameters import Parameters
    from routing_pipeline.rules.model import RuleSet
    from routing_pipeline.rules.record import RuleSetRecord
    from routing_pipeline.storage.home import Home

MOST_REQUESTS = 10_000_000
"""Of a made-up week, which is held in memory."""
EARLIEST_S = 946_684_800.0
"""The year 2000, in seconds since 1970: no gateway logged anything before, and calendars end not far from year 1."""
FOLLOWED_EVERY_S = 60.0
"""Between two additions to the demo's traffic."""


@command("run --logs s3://bucket/logs --out report", parameters=PARAMETERS, group=START)
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
) -> None:
    """Read new logs, check and analyse them, write report and rules. Makes the home where there is none."""
    request = read_asked(asked, engine)
    ops = jobs.ingestion(logs, feedback, log_format, add_source=add_source)
    _deliver(lambda: jobs.home_for(home, ops), out, request, ops=ops, as_json=as_json)


@command("demo --requests 20000", group=START)
def demo(
    out: Out = Path("demo/report"),
    home: Annotated[
        Path | None, typer.Option("--home", help="Folder that holds lake, results and runs, and then the logs too [default: demo/home]")
    ] = None,
    requests: Annotated[
        int, typer.Option("--requests", min=1_000, max=MOST_REQUESTS, help="How many requests to make up for a week")
    ] = 200_000,
    until: Annotated[
        datetime | None, typer.Option("--until", formats=["%Y-%m-%dT%H:%M:%SZ"], help="UTC moment at which the traffic ends [default: now]")
    ] = None,
    follow: Annotated[bool, typer.Option("--follow", help="Then go on minute by minute, until Ctrl-C: traffic for the live page")] = False,
    as_json: AsJson = False,
) -> None:
    """Make up a week of traffic up to now in a home of its own, and `run` on it. Called again it adds what has come since."""
    if until is not None and follow:
        raise UnusableInputError("--follow goes on from now; leave out --until")
    ends_s = time.time() if until is None else until.replace(tzinfo=UTC).timestamp()
    if not EARLIEST_S <= ends_s <= time.time() + SECONDS_PER_HOUR:
        # What is stamped in the future is refused when it is read, and then nothing of the demo could be used.
        raise UnusableInputError("--until: give a moment from 2000 to now, as in 2026-11-23T00:00:00Z")
    check_out(out)
    check_environment()
    from routing_pipeline.storage.home import DEMO_HOME

    opened = make_home(home or DEMO_HOME)
    # What was made up goes with the home that it was made up for; by itself it lies where `make dev` looks for it.
    folder = DEMO_HOME.parent if opened.root.absolute() == DEMO_HOME.absolute() else opened.root / "demo"
    known = opened.sources()
    if known and known[0] != str((folder / "logs").absolute()):
        raise UnusableInputError(
            f"--home {opened.root}: holds logs from {known[0]}; a demo never mixes with others, so name another --home"
        )
    with shown() as progress:
        from routing_pipeline.demo.until_now import write_until

        making = "making up traffic"
        progress(making, 0, None)
        write_until(folder, ends_s, requests=requests, progress=lambda done, of: progress(making, done, of))
    ops = jobs.ingestion(str(folder / "logs"), str(folder / "feedback"))
    _deliver(lambda: opened, out, read_asked({}), ops=ops, as_json=as_json)
    if follow:
        with saying("the traffic went on until now"):
            _follow(opened, folder, requests, ops)


def _follow(home: Home, folder: Path, requests: int, ops: Mapping[str, Any]) -> NoReturn:
    """Make up a minute of traffic every minute, and read it."""
    from routing_pipeline.demo.until_now import write_until

    typer.echo("going on minute by minute, for the live page; Ctrl-C ends it", err=True)
    while True:
        now_s = time.time()
        if written := write_until(folder, now_s, requests=requests):
            jobs.ingest(home, None, ops, is_quiet=True)
        typer.echo(f"{datetime.fromtimestamp(now_s, UTC):%Y-%m-%d %H:%M} UTC: {written:,} calls more", err=True)
        time.sleep(FOLLOWED_EVERY_S)


@command("analyze --out report --timeframe 30d --goal cost", parameters=PARAMETERS, group=DECIDE)
def analyze(asked: dict[str, Any], out: Out, home: Root = None, engine: EngineName = "duckdb", as_json: AsJson = False) -> None:
    """Analyse again what the home holds, reading no logs. Other options make it an experiment: `latest` stays what it was."""
    _deliver(lambda: open_home(home), out, read_asked(asked, engine), ops={}, leave_out=jobs.INGESTION, as_json=as_json)


def _deliver(
    home: Callable[[], Home], out: Path, asked: Asked, *, ops: Mapping[str, Any], leave_out: tuple[str, ...] = (), as_json: bool
) -> None:
    check_out(out)
    delivering = {"analysis_scope": asked.values, "optimization_report": {"out": str(out.absolute())}}
    again = jobs.optimize(home(), asked, {**ops, **delivering}, out, leave_out=leave_out)
    if again is not None:
        typer.echo(again.notice, err=True)
        show(again.report, [*again.lines, str((out / "report.html").absolute())], as_json=as_json)
        return
    report = (out / "report.json").read_text(encoding="utf-8")
    show(report, _printed(report, out), as_json=as_json)


def _printed(report: str, out: Path) -> Iterator[str]:
    from routing_pipeline.report.model import Report
    from routing_pipeline.report.printed import lines

    yield from lines(Report.model_validate_json(report))
    yield str((out / "report.html").absolute())


@command("simulate --rules rules.json", parameters=PARAMETERS, group=DECIDE)
def simulate(
    asked: dict[str, Any],
    rules: Annotated[str, typer.Option("--rules", help="rules.json, ours or by hand: [{when, route}]; or a rule_set_id; or latest")],
    home: Root = None,
    engine: EngineName = "duckdb",
    as_json: AsJson = False,
) -> None:
    """Say what these rules would have done, with intervals. They are replayed on sessions that no search has seen."""
    request = read_asked(asked, engine)
    opened, record = open_record(home, request.config)
    rule_set, notice = _rules_named(opened, record, rules, request.parameters)
    if notice:
        typer.echo(notice, err=True)
    rule_set = _as_rolled_out(rule_set, request.config)
    result = jobs.simulate(opened, request.config, engine, rule_set, request.values)
    from routing_pipeline.report.simulated import lines

    show(result.model_dump_json(indent=1), lines(result), as_json=as_json)


def _rules_named(opened: Home, record: RuleSetRecord, rules: str, parameters: Parameters) -> tuple[RuleSet, str | None]:
    """Rules by name or from a file, which may be what a gateway runs with; and what to say of it."""
    path = Path(rules)
    if path.is_file():
        from routing_pipeline.gateways.table import rules_of_configuration

        found = rules_of_configuration(path)
        if found is not None:
            from routing_pipeline.rules.reading import read_given_rules

            return read_given_rules(found, parameters), f"{path.name} is a gateway's configuration: its {len(found)} rules are evaluated"
    from routing_pipeline.rules.delivery import named_or_read

    return named_or_read(opened, record, rules, parameters)


def _as_rolled_out(rule_set: RuleSet, config: Path | None) -> RuleSet:
    """Tiers as the gateway of `[rollout]` has them, where one is named; else they are found in the window."""
    from routing_pipeline.gateways.rollout_settings import read_rollout
    from routing_pipeline.gateways.tiers import tiers_for
    from routing_pipeline.rules.tiers import tiers_named, with_models

    if not tiers_named(rule_set) or not (settings := read_rollout(config)).current:
        return rule_set
    found, said = with_models(rule_set, tiers_for(rule_set, settings.current_text(), config))
    for line in said:
        typer.echo(line, err=True)
    return found


@command("report --out report", group=DECIDE)
def report(
    run: Annotated[str | None, typer.Argument(help="Id of a run, or how it begins [default: the latest]", show_default=False)] = None,
    out: Annotated[Path | None, typer.Option("--out", help="Folder that receives report and rules")] = None,
    listed: Annotated[bool, typer.Option("--list", help="Show the reports that can be made again, and what they found")] = False,
    home: Root = None,
    config: PublishingConfig = None,
    as_json: AsJson = False,
) -> None:
    """Write the report of an earlier run again, or list the reports. It comes out byte for byte, from what the run kept."""
    if out is None and not listed:
        raise UnusableInputError("name a folder with --out, or see with --list what there is")
    if listed and (run is not None or out is not None):
        raise UnusableInputError(
            f"--list shows every report and writes none; leave out {'--out' if run is None else run[:60]}, or leave out --list"
        )
    opened, record = open_record(home, config)
    if out is None:
        from routing_pipeline.rules.past_reports import lines, past_reports

        found = past_reports(opened.runs, record)
        if not found:
            typer.echo("no report has been made in this home yet", err=True)
        show(json.dumps([each.model_dump(mode="json") for each in found], indent=1), lines(found), as_json=as_json)
        return
    from routing_pipeline.report.rebuilding import find_run, rebuild

    rebuilt = rebuild(find_run(opened.runs, run), out)
    differing = ", ".join(rebuilt.differing)
    if differing and not rebuilt.is_other_code:
        raise RuntimeError(f"{differing} came out differently")
    if differing:
        typer.echo(f"made by another version of the code; these files differ: {differing}", err=True)
    show((out / "report.json").read_text(encoding="utf-8"), [str((out / "report.html").absolute())], as_json=as_json)


@command("ask get_routing_costs timeframe=24h group_by=team", parameters=PARAMETERS, group=DECIDE)
def ask(
    asked: dict[str, Any],
    tool: Annotated[
        str, typer.Argument(help="A tool of the task, such as get_routing_costs", show_default=False, autocompletion=completion.TOOLS)
    ],
    arguments: Annotated[list[str] | None, typer.Argument(help="Its arguments, such as timeframe=24h", show_default=False)] = None,
    home: Root = None,
    engine: EngineName = "duckdb",
    as_json: AsJson = False,
) -> None:
    """Ask one of the fourteen tools from the shell, as an agent would. With detail=brief, --json is cut as well; whole otherwise."""
    from routing_pipeline.serving.mcp.tools import BY_NAME

    if tool not in BY_NAME:
        raise UnusableInputError(f"{tool[:60]}: there is no such tool{did_you_mean(tool, BY_NAME)}; the tools are {', '.join(BY_NAME)}")
    pairs = [word.partition("=")[::2] for word in arguments or ()]
    given = dict(pairs)
    if twice := [name for at, (name, _) in enumerate(pairs) if name in dict(pairs[:at])]:
        raise UnusableInputError(f"{twice[0][:60]}: given twice; give it once")
    request = read_asked(asked, engine)
    detail: dict[str, Any] = {name: given.pop(name) for name in ("detail", "page") if name in given}
    BY_NAME[tool].question(given, request.parameters)
    from routing_pipeline.serving.mcp.answers import Answers

    answers = Answers(open_home(home), request.parameters, request.engine, lambda: open_record(home, request.config)[1])
    with shown() as progress:
        answer = answers.answer(BY_NAME[tool], {**given, **detail}, lambda what: progress(what, 0, None))
    show(json.dumps(answer.structured, indent=1, ensure_ascii=False), [answer.text], as_json=as_json)
