"""Commands that change what the lake holds.

Belongs here: ingest, reprocess, compact, forget. Does not belong here: any work.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated

import typer

from routing_pipeline.cli import jobs
from routing_pipeline.cli.asking import agree, is_asked
from routing_pipeline.cli.inputs import check_environment, check_file, check_format, open_home
from routing_pipeline.cli.options import AddSource, AsJson, Feedback, Format, Logs, ReadingConfig, Root, Yes, command
from routing_pipeline.cli.output import show
from routing_pipeline.cli.progress import shown
from routing_pipeline.errors import UnusableInputError

if TYPE_CHECKING:
    from routing_pipeline.ingest.erasure import ForgetResult
    from routing_pipeline.ingest.summary import IngestSummary
    from routing_pipeline.storage.home import Home


@command("ingest --logs s3://bucket/logs --format litellm")
def ingest(
    logs: Logs,
    feedback: Feedback = None,
    home: Root = None,
    log_format: Format = "auto",
    add_source: AddSource = False,
    config: ReadingConfig = None,
    as_json: AsJson = False,
) -> None:
    """Read what is new into the home's lake, and analyse nothing. Makes the home where there is none."""
    check_file(config)
    check_environment()
    ops = jobs.ingestion(logs, feedback, log_format, add_source=add_source, stand_if_unavailable=False)
    opened = jobs.home_for(home, ops)
    is_new = not jobs.is_up_to_date(opened, ops["request_log"]["logs"], ops["feedback"]["feedback"], config)
    if is_new:
        jobs.ingest(opened, config, ops)
    summary = _summary(opened, is_new=is_new, asked_for_feedback=feedback is not None)
    from routing_pipeline.report.ingested import lines

    show(summary.model_dump_json(indent=1), lines(summary), as_json=as_json)


def _summary(home: Home, *, is_new: bool, asked_for_feedback: bool) -> IngestSummary:
    """What was read and what there is; what stopped an ingestion stops the next one that finds nothing new, too."""
    from routing_pipeline.ingest.feedback import FeedbackIngestResult
    from routing_pipeline.ingest.ingestion import IngestResult
    from routing_pipeline.ingest.summary import summarised

    read = home.results.load("request_log", "ingest", IngestResult) if is_new else None
    scores = home.results.load("feedback", "ingest", FeedbackIngestResult) if is_new and asked_for_feedback else None
    summary = summarised(home, read, scores, asked_for_feedback=asked_for_feedback)
    # The checks take seconds to load, and a run has made them.
    if not is_new and (summary.quarantined or (summary.feedback is not None and summary.feedback.quarantined)):
        from routing_pipeline.data_quality.suite import ledgers, refuse
        from routing_pipeline.lake.table import Lake

        refuse(ledgers(home, Lake(home)), "nothing was published")
    return summary


@command("reprocess --day 2026-11-24")
def reprocess(
    day: Annotated[str | None, typer.Option("--day", help="Objects that hold this UTC day, as in 2026-11-24")] = None,
    prefix: Annotated[str | None, typer.Option("--prefix", help="Objects whose key starts with this")] = None,
    home: Root = None,
    log_format: Format = "auto",
    config: ReadingConfig = None,
    as_json: AsJson = False,
) -> None:
    """Read objects again that were read before. Their rows are replaced once the new ones are there."""
    check_format(log_format)
    check_file(config)
    check_environment()
    opened = open_home(home)
    from routing_pipeline import text
    from routing_pipeline.ingest.reprocessing import mark_for_reading_again

    marked = mark_for_reading_again(opened, day=day, prefix=prefix)
    jobs.ingest(opened, config, *(jobs.ingestion(each, log_format=log_format, stand_if_unavailable=False) for each in marked.sources))
    told = (
        f"{text.counted(marked.objects, 'object')} read again"
        + (f"; no longer there: {marked.gone:,}, and what was read of that stays" if marked.gone else "")
        + (f"; forgotten, and staying so: {marked.forgotten:,}" if marked.forgotten else "")
    )
    show(marked.model_dump_json(indent=1), [told], as_json=as_json)


@command("compact --keep-days 30")
def compact(
    kept_days: Annotated[float, typer.Option("--keep-days", min=0, help="How long older snapshots stay readable")] = 7.0,
    home: Root = None,
    as_json: AsJson = False,
) -> None:
    """Join the lake's small files and drop old snapshots. The asset lake_upkeep does so every night."""
    opened = open_home(home)
    with shown() as progress:
        from routing_pipeline.ingest.compaction import maintain

        result = maintain(opened, kept_days=kept_days, progress=progress)
    from routing_pipeline.text import counted

    told = (
        f"{counted(result.files_before, 'file')} became {result.files_after:,}; {counted(result.snapshots_expired, 'snapshot')} dropped, "
        f"{counted(result.files_removed, 'file')} removed, {result.bytes_freed / 1e6:,.1f} MB freed"
    )
    show(result.model_dump_json(indent=1), [told], as_json=as_json)


@command("forget --team growth --dry-run")
def forget(
    user: Annotated[str | None, typer.Option("--user", help="A user's identifier, as the gateway logs it")] = None,
    team: Annotated[str | None, typer.Option("--team", help="A team's name")] = None,
    key: Annotated[str | None, typer.Option("--object", help="An object's key")] = None,
    before: Annotated[str | None, typer.Option("--before", help="Everything that began before, ISO 8601, UTC")] = None,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Only say what would go")] = False,
    home: Root = None,
    yes: Yes = False,
    as_json: AsJson = False,
) -> None:
    """Remove rows from the lake and all its history, counted, for good.

    Older snapshots go as well, and every stored result and report, because they may name what is forgotten; decisions about rule sets and the
    logs themselves stay. On a terminal it is first counted, and asked whether that is meant.
    """
    asked = {"user": user, "team": team, "object": key, "before": before}
    given = [(what, value) for what, value in asked.items() if value is not None]
    if len(given) != 1:
        raise UnusableInputError("give exactly one of --user, --team, --object, --before")
    ((what, value),) = given
    if what == "before":
        from routing_pipeline.ingest.erasure import check_moment

        check_moment(what, value)
    opened = open_home(home)
    if is_asked(yes=yes or dry_run):
        agree("Forget this for good?", [_told(_forget(opened, what, value, dry_run=True))], yes=False)
    result = _forget(opened, what, value, dry_run=dry_run)
    show(result.model_dump_json(indent=1), [_told(result)], as_json=as_json)


def _forget(home: Home, what: str, value: str, *, dry_run: bool) -> ForgetResult:
    with shown() as progress:
        from routing_pipeline.ingest.erasure import forget as forget_rows

        return forget_rows(home, what, value, dry_run=dry_run, progress=progress)  # type: ignore[arg-type]


def _told(result: ForgetResult) -> str:
    from routing_pipeline.text import counted

    rows = f"{counted(result.attempts, 'row')} from {counted(result.objects, 'object')}"
    beside = f"with {counted(result.quarantined, 'refused record')} and {counted(result.scores, 'score')}"
    reports = counted(result.reports, "stored report") + (" (report --list will be empty until the next run)" if result.reports else "")
    if result.is_dry_run and not result.matches:
        return "nothing matches, neither in the lake nor in its older snapshots, so nothing would be deleted; nothing was changed"
    if result.is_dry_run:
        return f"would forget {rows}, {beside}; would delete older snapshots, all stored results and {reports}; nothing was changed"
    if not any((result.attempts, result.quarantined, result.scores, result.snapshots, result.files, result.reports)):
        return f"{rows} forgotten, {beside}; nothing else was deleted"
    return (
        f"{rows} forgotten, {beside}; {counted(result.snapshots, 'older snapshot')} and {counted(result.files, 'file')} deleted, "
        f"all stored results and {reports} as well"
    )
