"""`audit`: the first page about one file, without a home.

Belongs here: the command and its lines. Does not belong here: reading and adding up (`analysis.file_audit`).
"""

from __future__ import annotations

import shlex
from collections.abc import Iterator
from typing import TYPE_CHECKING, Annotated

import typer

from routing_pipeline.cli.help import START
from routing_pipeline.cli.inputs import check_format, uri_of
from routing_pipeline.cli.options import AsJson, Format, command
from routing_pipeline.cli.output import show
from routing_pipeline.cli.progress import shown

if TYPE_CHECKING:
    from routing_pipeline.analysis.file_audit import Comparison, FileAudit

SHOWN = 8
WIDTH = 28


@command("audit spend.jsonl", group=START)
def audit(
    file: Annotated[str, typer.Argument(help="JSON lines, JSON, CSV or Parquet, plain or compressed", show_default=False)],
    log_format: Format = "auto",
    as_json: AsJson = False,
) -> None:
    """Say what one file of logs holds, on one page; no home is made or needed.

    Spend by model and task, the pace of a month, what could be tested, how to go on. Only the file is read.
    """
    check_format(log_format)
    uri = uri_of(file)
    with shown() as progress:
        from routing_pipeline.analysis.file_audit import audit as audited

        found = audited(uri, log_format=log_format, progress=progress)
    show(found.model_dump_json(indent=1), lines(found, file), as_json=as_json)


def lines(found: FileAudit, file: str) -> Iterator[str]:
    """One page."""
    from routing_pipeline import text

    yield f"{text.name(file, 200)}: {', '.join(found.formats)}, {text.counted(found.calls, 'call')}, {text.moment(found.start)} to {text.moment(found.end)}"
    yield from _account(found)
    yield ""
    yield from _spend(found)
    yield ""
    yield f"{'By model':{WIDTH}} {'spend':>10} {'share':>7} {'calls':>10} {'per 1,000':>10} {'quality':>8}"
    for model in found.models[:SHOWN]:
        quality = "" if model.quality is None else text.score(model.quality)
        per = "not priced" if model.cost_per_call_usd is None else text.usd_per_1000(model.cost_per_call_usd)
        yield (
            f"{text.name(model.model, WIDTH):{WIDTH}} {text.usd(model.spend_usd):>10} {_share(model.spend_usd, found):>7} "
            f"{text.count(model.calls):>10} {per:>10} {quality:>8}"
        )
    yield from _rest(len(found.models), "models")
    yield ""
    yield f"{'By task':{WIDTH}} {'spend':>10} {'share':>7} {'calls':>10} {'scored':>10}"
    for task in found.tasks[:SHOWN]:
        yield (
            f"{text.name(task.task_type, WIDTH):{WIDTH}} {text.usd(task.spend_usd):>10} {_share(task.spend_usd, found):>7} "
            f"{text.count(task.calls):>10} {text.count(task.scored):>10}"
        )
    yield from _rest(len(found.tasks), "tasks")
    yield ""
    yield from _tests(found)
    yield ""
    yield from _how_to_go_on(found, file)


def _account(found: FileAudit) -> Iterator[str]:
    from routing_pipeline import text

    if found.quarantined or found.duplicates:
        yield f"Of {text.counted(found.records, 'record')}, {found.quarantined:,} could not be used and {found.duplicates:,} were there twice."
    for reason, count in list(found.reasons.items())[:3]:
        yield f"  {count:,}: {text.name(reason, 200)}"
    if found.left_out:
        yield f"Left out: {', '.join(f'{count:,} {what}' for what, count in found.left_out.items())}."


def _spend(found: FileAudit) -> Iterator[str]:
    from routing_pipeline import text
    from routing_pipeline.estimates import Unidentifiable

    per = "" if found.cost_per_call_usd is None else f", {text.usd(found.cost_per_call_usd)} per call"
    # One call, or several at one moment, cover no time.
    within = f" in {text.days(found.covered_days)} of logs" if found.covered_days else ""
    yield f"Spend     {text.usd(found.spend_usd)}{within}{per}"
    pace = found.run_rate_usd
    if isinstance(pace, Unidentifiable):
        yield f"Run rate  {text.CANNOT_TELL}: {pace.unidentifiable}"
    else:
        yield f"Run rate  {text.usd(pace)} in 30 days, if these logs are all of your traffic and it goes on like this"
    if found.unpriced:
        yield f"Not priced: {text.counted(found.unpriced, 'call')}; neither the log nor the price list knows what they cost"
    if found.failed:
        share = text.percent(found.failed / found.calls)
        yield f"Failed    {text.counted(found.failed, 'call')} ({share}), for {text.usd(found.failed_usd)}"
    if found.scored:
        yield f"Scored    {text.counted(found.scored, 'answer')} ({text.percent(found.scored / found.calls)}); quality is their mean as they came"
    else:
        yield "Scored    no answer in this file, so nothing can be said about quality"


def _share(spend: float, found: FileAudit) -> str:
    from routing_pipeline import text

    return text.percent(spend / found.spend_usd) if found.spend_usd else ""


def _rest(count: int, noun: str) -> Iterator[str]:
    if count > SHOWN:
        yield f"and {count - SHOWN} more {noun}; --json has them all"


def _tests(found: FileAudit) -> Iterator[str]:
    if not found.comparisons:
        yield "What could be tested: no task was answered by two models at clearly different cost, so these logs compare nothing."
        yield "Send a small random share of a task to another model, and ask again."
        return
    yield "What could be tested, largest spend first (no promise: the two did not answer the same requests):"
    yield from (f"  {_comparison(each)}" for each in found.comparisons)
    if not all(each.is_scored for each in found.comparisons):
        yield "  Whether the cheaper one is good enough, only scores of both models' answers can tell."


def _comparison(each: Comparison) -> str:
    from routing_pipeline import text

    return (
        f"{text.name(each.task_type, WIDTH)}: {text.name(each.cheap, WIDTH)} costs {text.percent(each.cost_ratio)} of "
        f"{text.name(each.dear, WIDTH)} per call ({text.usd(each.dear_spend_usd)} spent on the latter)"
    )


def _how_to_go_on(found: FileAudit, file: str) -> Iterator[str]:
    yield "How to go on: what other rules would have cost and delivered, with intervals and proof:"
    scores = "" if found.scored else " --feedback SCORES"
    yield f"  routing-pipeline run --logs {shlex.quote(file)}{scores} --out report"
    if not found.scored:
        yield "  SCORES: JSON lines, CSV or Parquet with request_id, name, value (docs/formats.md); a few hundred answers are enough to begin."
