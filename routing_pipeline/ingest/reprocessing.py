"""Reading a day or a prefix again: after a format was mended, or a mapping corrected.

Belongs here: which objects. Does not belong here: the reading, which is the next ingestion's, and what becomes of the rows
that the lake holds of them (`replacing`): they stay until the new ones are committed.
"""

from __future__ import annotations

from datetime import date, datetime, time, timedelta
from typing import Any

from pydantic import Field

from routing_pipeline.errors import UnusableInputError
from routing_pipeline.estimates import Result, quantity
from routing_pipeline.ingest.batch import connect
from routing_pipeline.ingest.erasure import forgotten_objects
from routing_pipeline.ingest.objects import open_source
from routing_pipeline.lake.overwrite import ADDRESS, READ_AGAIN
from routing_pipeline.lake.table import Lake
from routing_pipeline.storage.home import Home

_OF_PREFIX = """starts_with(object, $prefix) OR starts_with(concat(source, '/', object), $prefix)
    OR starts_with(concat('s3://', split_part(source, '/', 3), '/', object), $prefix)
    OR starts_with(object, concat(array_to_string(split(source, '/')[4:], '/'), '/', $prefix))"""
# Records that were refused have no day; LiteLLM and most others put it into the key.
_OF_DAY = f"contains(object, $dashed) OR contains(object, $slashed) OR {ADDRESS} IN (SELECT address FROM of_day)"  # noqa: S608 (our own SQL)


class Marked(Result):
    """What the next ingestion reads again."""

    sources: tuple[str, ...] = Field(description="Where these objects lie")
    objects: int = quantity("Objects that will be read again", "objects")
    gone: int = quantity("Objects that match and are not at their source any more; what was read of them stays", "objects")
    forgotten: int = quantity("Objects that match and were forgotten; they stay so", "objects")


def mark_for_reading_again(home: Home, *, day: str | None = None, prefix: str | None = None) -> Marked:
    """Let the next ingestion read objects again: those of a UTC day, or those whose key starts with `prefix`.

    Of a day are objects whose rows began on it, and objects that are called after it (2026-11-24 or 2026/11/24).

    Raises:
        UnusableInputError: not exactly one of the two was given, the day is none, or nothing that was read matches.
        ServiceUnavailableError: the object store does not answer; nothing was marked.
    """
    if (day is None) == (prefix is None):
        raise UnusableInputError("give either --day or --prefix")
    home.create()
    with home.writing():
        lake = Lake(home)
        lake.recover()
        matching = _matching(home, lake, day, prefix)
        if not matching:
            raise UnusableInputError(f"nothing that was read matches --{'prefix' if day is None else 'day'} {prefix or day}")
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


def _matching(home: Home, lake: Lake, day: str | None, prefix: str | None) -> set[tuple[str, str]]:
    ledger = list(lake.side_files("ledger"))
    if not ledger:
        return set()
    with connect(home.scratch / "ingest-marking") as connection:
        query = "SELECT source, object FROM read_parquet($ledger) WHERE "
        given: dict[str, Any] = {"ledger": ledger}
        if day is None:
            return set(connection.execute(query + _OF_PREFIX, given | {"prefix": prefix}).fetchall())
        asked = _day(day)
        begins = datetime.combine(asked, time())
        ends = begins + timedelta(days=1)
        files = lake.attempt_files((begins - datetime(1970, 1, 1)).total_seconds(), (begins - datetime(1970, 1, 1)).total_seconds())
        connection.execute("CREATE TEMP TABLE of_day (address VARCHAR)")
        if files:
            connection.execute(
                "INSERT INTO of_day SELECT DISTINCT source_object FROM read_parquet($files) WHERE started_at >= $begins AND started_at < $ends",
                {"files": list(files), "begins": begins, "ends": ends},
            )
        given |= {"dashed": f"{asked:%Y-%m-%d}", "slashed": f"{asked:%Y/%m/%d}", "first": (*home.sources(), "")[0]}
        return set(connection.execute(query + _OF_DAY, given).fetchall())


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
