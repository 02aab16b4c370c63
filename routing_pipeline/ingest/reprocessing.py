"""Reading a day or a prefix again: after a format was mended, or a mapping corrected.

Belongs here: which objects. Does not belong here: the reading, which is an ingestion's, and what becomes of the rows
that the lake holds of them (`lake.overwrite`): they stay until the new ones are committed.
"""

from __future__ import annotations

from collections.abc import Collection, Sequence
from datetime import date, datetime, time, timedelta
from typing import Any

from pydantic import Field

from routing_pipeline.errors import UnusableInputError
from routing_pipeline.estimates import Result, quantity
from routing_pipeline.ingest.batch import connect
from routing_pipeline.ingest.days_in_keys import DAYS_IN_KEY
from routing_pipeline.ingest.erasure import forgotten_objects
from routing_pipeline.ingest.ingestion import IngestResult, Progress, ingest_logs
from routing_pipeline.ingest.objects import open_source
from routing_pipeline.ingest.shares import Workers
from routing_pipeline.lake.overwrite import ADDRESS, READ_AGAIN
from routing_pipeline.lake.table import Lake
from routing_pipeline.storage.home import Home

_OF_PREFIX = """starts_with(object, $prefix) OR starts_with(concat(source, '/', object), $prefix)
    OR starts_with(concat('s3://', split_part(source, '/', 3), '/', object), $prefix)
    OR starts_with(object, concat(array_to_string(split(source, '/')[4:], '/'), '/', $prefix))"""
# Records that were refused have no day; LiteLLM and most others put it into the key.
_OF_DAYS = f"list_has_any({DAYS_IN_KEY}, $days) OR {ADDRESS} IN (SELECT address FROM of_days)"  # noqa: S608 (our own SQL)


class Marked(Result):
    """What the next ingestion reads again."""

    sources: tuple[str, ...] = Field(description="Where these objects lie")
    objects: int = quantity("Objects that will be read again", "objects")
    gone: int = quantity("Objects that match and are not at their source any more; what was read of them stays", "objects")
    forgotten: int = quantity("Objects that match and were forgotten; they stay so", "objects")


def mark_for_reading_again(home: Home, *, day: str | None = None, prefix: str | None = None) -> Marked:
    """Let the next ingestion read objects again: those of a UTC day, or those whose key starts with `prefix`.

    Of a day are objects whose rows began on it, and objects that are called after it (`days_in_keys`).

    Raises:
        UnusableInputError: not exactly one of the two was given, the day is none, or nothing that was read matches.
        ServiceUnavailableError: the object store does not answer; nothing was marked.
    """
    if (day is None) == (prefix is None):
        raise UnusableInputError("give either --day or --prefix")
    days = () if day is None else (_day(day),)
    unmatched = UnusableInputError(f"nothing that was read matches --{'prefix' if day is None else 'day'} {prefix or day}")
    if home.create().is_untouched:
        raise unmatched
    with home.writing():
        lake = Lake(home)
        lake.recover()
        matching = _matching(home, lake, days, prefix)
        if not matching:
            raise unmatched
        return _marked(home, lake, matching)


def ingest_days(
    home: Home,
    uri: str,
    days: Collection[date],
    *,
    log_format: str = "auto",
    progress: Progress | None = None,
    workers: Workers | None = None,
) -> IngestResult:
    """Read UTC days of a source, and no others: what was read of them again, and what is new of them.

    What was read is of a day as `mark_for_reading_again` says. What was not is of a day if its key names it, or names no day at all. Killed
    anywhere and run again, or run twice, the totals are the same.

    Raises:
        UnusableInputError: as `ingest_logs`.
        ServiceUnavailableError: as `ingest_logs`.
    """
    source = open_source(uri, exclude=home.create().root).uri
    with home.writing():
        lake = Lake(home)
        lake.recover()
        _marked(home, lake, {each for each in _matching(home, lake, sorted(days), None) if each[0] == source})
    return ingest_logs(home, uri, log_format=log_format, days=days, progress=progress, workers=workers)


def _marked(home: Home, lake: Lake, matching: set[tuple[str, str]]) -> Marked:
    """Mark what of it can be read again."""
    forgotten = forgotten_objects(lake)
    kept = {(source, key) for source, key in matching if home.address(source, key) not in forgotten}
    there = {
        (source, listed.key)
        for source in sorted({source for source, _ in kept})
        for listed in open_source(source, exclude=home.root).list_objects()
        if (source, listed.key) in kept
    }
    marked = sorted(kept & there)
    if marked:
        _mark(lake, marked)
    return Marked(
        sources=tuple(sorted({source for source, _ in marked})),
        objects=len(marked),
        gone=len(kept - there),
        forgotten=len(matching) - len(kept),
    )


def _matching(home: Home, lake: Lake, days: Sequence[date], prefix: str | None) -> set[tuple[str, str]]:
    """Source and key of what was read of a prefix, or of days where none is given."""
    ledger = list(lake.side_files("ledger"))
    if not ledger:
        return set()
    with connect(home.scratch / "ingest-marking") as connection:
        query = "SELECT source, object FROM read_parquet($ledger) WHERE "
        given: dict[str, Any] = {"ledger": ledger}
        if prefix is not None:
            return set(connection.execute(query + _OF_PREFIX, given | {"prefix": prefix}).fetchall())
        connection.execute("CREATE TEMP TABLE of_days (address VARCHAR)")
        for each in days:
            begins = datetime.combine(each, time())
            begins_s = (begins - datetime(1970, 1, 1)).total_seconds()
            files = lake.attempt_files(begins_s, begins_s)
            if files:
                connection.execute(
                    "INSERT INTO of_days SELECT DISTINCT source_object FROM read_parquet($files) WHERE started_at >= $begins AND started_at < $ends",
                    {"files": list(files), "begins": begins, "ends": begins + timedelta(days=1)},
                )
        given |= {"days": [each.isoformat() for each in days], "first": (*home.sources(), "")[0]}
        return set(connection.execute(query + _OF_DAYS, given).fetchall())


def _day(day: str) -> date:
    try:
        return date.fromisoformat(day)
    except ValueError as error:
        raise UnusableInputError(f"--day {day}: give a date, as in 2026-11-24") from error


def _mark(lake: Lake, objects: list[tuple[str, str]]) -> None:
    import pyarrow as pa

    marked = pa.table({"source": pa.array([source for source, _ in objects]), "object": pa.array([key for _, key in objects])})
    with connect(lake.home.scratch / "ingest-marking") as connection:
        ledger = lake.side_rewritten(
            connection,
            "ledger",
            f"""SELECT * REPLACE (CASE WHEN (source, object) IN (SELECT (source, object) FROM marked) THEN '{READ_AGAIN}' ELSE etag END AS etag)
            FROM side""",  # noqa: S608 (our own SQL)
            marked=marked,
        )
    lake.commit(rewritten={"ledger": ledger})
