"""Scores that come beside the logs: JSON lines, CSV or Parquet with the columns of schema.FEEDBACK, or as tools export them.

Belongs here: reading such files, refusing rows that cannot be used, leaving out rows that are there already. Does not
belong here: what a tool's own names mean (`formats`), which score counts as a request's quality (`scope`).

A score outside its scale is refused, not clipped: a rating of 4 on an undeclared scale would otherwise read as perfect.
A file uploaded again replaces the scores that were read of it before, in one commit; files are committed many at a time.
"""

from __future__ import annotations

import csv
import json
import tempfile
import time
from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from itertools import islice
from pathlib import Path
from typing import Any

from pydantic import Field

from routing_pipeline.errors import UnusableInputError
from routing_pipeline.estimates import Result, quantity
from routing_pipeline.home import Home
from routing_pipeline.ingest.accounts import Account, ledger_rows, quarantine_rows
from routing_pipeline.ingest.backlog import Backlog, known_keys, open_backlog
from routing_pipeline.ingest.batch import connect
from routing_pipeline.ingest.forgetting import forgotten_objects
from routing_pipeline.ingest.formats import scored_by
from routing_pipeline.ingest.formats.log_format import FUTURE_TOLERANCE_S, MAX_TEXT, OLDEST_S, key_text
from routing_pipeline.ingest.lake import Lake, SideTable
from routing_pipeline.ingest.manifests import SCORE_TABLES, leave_out_unfinished
from routing_pipeline.ingest.objects import ObjectChangedError, StoredObject, open_source
from routing_pipeline.ingest.quarantine import NOT_JSON, NOT_OBJECT, Refused, masked
from routing_pipeline.ingest.replacing import READ_AGAIN
from routing_pipeline.ingest.staging import MAX_DOCUMENT_BYTES, RefusedObjectError, plain_file
from routing_pipeline.schema import DUCKDB_TYPE, FEEDBACK, column_names

SOURCES: tuple[str, ...] = ("judge", "user", "check", "eval")
Scales = Mapping[str, tuple[float, float]]
"""Lowest and highest value by name of a score."""

COMMIT_EVERY_S = 15.0
"""How much work a kill can cost."""
MAX_REFUSED_WAITING = 50_000
"""Refused scores wait in memory for the commit; with so many of them it does not wait for its time."""

_CHUNK_ROWS = 50_000
_BOM = b"\xef\xbb\xbf"
_NAMES = column_names(FEEDBACK)
_NO_VALUES = (None,) * len(_NAMES)
_Row = tuple[int | str | None, ...]
"""_line, the columns of schema.FEEDBACK as text, _problem, _excerpt."""

_SCORED_S = "coalesce(TRY_CAST(scored_at AS DOUBLE), epoch_us(TRY_CAST(scored_at AS TIMESTAMPTZ)) / 1e6)"
_SCORED_US = "coalesce(TRY_CAST(TRY_CAST(scored_at AS DOUBLE) * 1e6 AS BIGINT), epoch_us(TRY_CAST(scored_at AS TIMESTAMPTZ)))"
_VALUE, _LOW, _HIGH = (f"TRY_CAST({name} AS DOUBLE)" for name in ("value", "scale_min", "scale_max"))
_REASON = f"""CASE
    WHEN _problem IS NOT NULL THEN _problem
    WHEN coalesce(request_id, '') = '' AND coalesce(attempt_id, '') = '' THEN 'neither request_id nor attempt_id is there'
    WHEN coalesce(name, '') = '' THEN 'name is missing'
    WHEN strlen(name) > {MAX_TEXT} THEN 'name is longer than {MAX_TEXT} bytes'
    WHEN {_VALUE} IS NULL OR NOT isfinite({_VALUE}) THEN 'value is missing or not a finite number'
    WHEN scale_min <> '' AND ({_LOW} IS NULL OR NOT isfinite({_LOW})) THEN 'scale_min is not a finite number'
    WHEN scale_max <> '' AND ({_HIGH} IS NULL OR NOT isfinite({_HIGH})) THEN 'scale_max is not a finite number'
    WHEN coalesce({_LOW}, 0) >= coalesce({_HIGH}, 1) THEN 'scale_max is not above scale_min'
    WHEN {_VALUE} NOT BETWEEN coalesce({_LOW}, 0) AND coalesce({_HIGH}, 1)
        THEN 'value lies outside its scale; it is 0 to 1 unless scale_min and scale_max, or [scales] in the configuration, say otherwise'
    WHEN source IS NULL OR source NOT IN {SOURCES!r} THEN 'source is none of judge, user, check, eval'
    WHEN {_SCORED_S} IS NULL OR isnan({_SCORED_S}) THEN 'scored_at is missing or no time'
    WHEN {_SCORED_S} >= 1e11 THEN 'scored_at is not in seconds since 1970'
    WHEN {_SCORED_S} > $now_s + {FUTURE_TOLERANCE_S} THEN 'scored_at lies more than an hour in the future'
    WHEN {_SCORED_S} < {OLDEST_S} THEN 'scored_at lies before 2015'
END"""
_USABLE = {
    "request_id": f"nullif({key_text('request_id')}, '')",
    "attempt_id": f"nullif({key_text('attempt_id')}, '')",
    "name": "name",
    "value": _VALUE,
    "scale_min": _LOW,
    "scale_max": _HIGH,
    "source": "source",
    "scored_at": f"make_timestamp({_SCORED_US})",
}
_TYPED = ", ".join(f"{column.name} {DUCKDB_TYPE[column.type]}" for column in FEEDBACK)
_HAS_NO_SCALE = "coalesce(scale_min, '') = '' AND coalesce(scale_max, '') = ''"
_SCALED = f"""SELECT _rows.* REPLACE (
        CASE WHEN {_HAS_NO_SCALE} THEN low::VARCHAR ELSE scale_min END AS scale_min,
        CASE WHEN {_HAS_NO_SCALE} THEN high::VARCHAR ELSE scale_max END AS scale_max)
    FROM _rows LEFT JOIN scales ON scales.of = _rows.name"""  # noqa: S608 (our own SQL)
_JUDGE = f"CREATE OR REPLACE TEMP TABLE judged AS SELECT *, {_REASON} AS _reason FROM ({_SCALED})"  # noqa: S608 (our own SQL)
_APPEND = f"""INSERT INTO scores SELECT {", ".join(f"({sql})::{DUCKDB_TYPE[column.type]}" for column in FEEDBACK for sql in [_USABLE[column.name]])},
    $address FROM judged WHERE _reason IS NULL"""  # noqa: S608 (our own SQL)
_ALL_NAMES = ", ".join(_NAMES)
_WAS_THEIRS = "coalesce(source_object IN (SELECT address FROM superseded), false)"
_OF_THE_SAME = (
    "(coalesce(request_id, ''), coalesce(attempt_id, '')) IN (SELECT (coalesce(request_id, ''), coalesce(attempt_id, '')) FROM scores)"
)


class FeedbackIngestResult(Result):
    """What one reading of feedback did; records = ingested + quarantined + duplicates."""

    source: str = Field(description="Where the feedback came from")
    objects_listed: int = quantity("Objects at the source", "objects")
    objects_new: int = quantity("Of these, read now", "objects")
    objects_skipped: int = quantity("Of these, known from an earlier run", "objects")
    records: int = quantity("Scores found in the objects read now", "scores")
    ingested: int = quantity("Scores added", "scores")
    quarantined: int = quantity("Scores refused", "scores")
    duplicates: int = quantity("Scores that were there already, equal in every column", "scores")
    replaced: int = quantity("Scores that left because their objects were uploaded again", "scores", default=0)
    feedback_version: str = Field(description="Changes whenever feedback is added")
    seconds: float = quantity("Wall time", "s")


def ingest_feedback(
    home: Home,
    uri: str,
    *,
    scales: Scales | None = None,
    progress: Callable[[str, int, int], None] | None = None,
    now_s: float | None = None,
) -> FeedbackIngestResult:
    """Read new feedback files from a directory, a file, `file://` or `s3://bucket/prefix`; a file read before adds nothing.

    Args:
        home: where the lake is.
        uri: where the files are.
        scales: of scores that come without one, by name; 0 to 1 where nothing is said.
        progress: told what is done, how many of how many.
        now_s: seconds since 1970, for tests.

    Raises:
        UnusableInputError: no such place, nothing in it, or no permission.
        ServiceUnavailableError: the object store does not answer.
    """
    began = time.monotonic()
    home.create()
    source = open_source(uri, exclude=home.root)
    with home.writing():
        lake = Lake(home)
        lake.recover()
        with open_backlog(lake, "feedback_ledger", source) as backlog:
            if not backlog.listed:
                raise UnusableInputError(f"{source.uri}: holds no feedback files; check the path or prefix")
            leave_out_unfinished(home, backlog, SCORE_TABLES)
            reading = _Reading(home, lake, backlog, time.time() if now_s is None else now_s, scales or {}, progress or (lambda *_: None))
            reading.read()
        return FeedbackIngestResult(
            source=source.uri,
            objects_listed=backlog.listed,
            objects_new=reading.objects,
            objects_skipped=backlog.listed - backlog.new,
            records=reading.totals.total(),
            ingested=reading.totals["ingested"],
            quarantined=reading.totals["quarantined"],
            duplicates=reading.totals["duplicates"],
            replaced=reading.replaced,
            feedback_version=lake.feedback_version(),
            seconds=time.monotonic() - began,
        )


class _Reading:
    """One run over the new objects of one source, committed group by group."""

    def __init__(
        self, home: Home, lake: Lake, backlog: Backlog, now_s: float, scales: Scales, progress: Callable[[str, int, int], None]
    ) -> None:
        self.home = home
        self.lake = lake
        self.backlog = backlog
        self.source = backlog.source
        self.now_s = now_s
        self.scales = scales
        self.progress = progress
        self.forgotten = forgotten_objects(lake)
        self.totals: Counter[str] = Counter()
        self.objects = 0
        self.replaced = 0
        self.has_vanished = False

    def read(self) -> None:
        """Read the backlog, and what has to be read again because of it."""
        while total := self.backlog.unread():
            self.has_vanished = False
            done = 0
            for objects in self.backlog.slices():
                known = known_keys(self.backlog.connection, self.lake, "feedback_ledger", self.source, objects)
                remaining = iter(objects)
                while taken := self._group(remaining, known):
                    done += taken
                    self.progress("reading feedback", done, total)
            if not self.has_vanished:
                return
            self.backlog.turn_to_marked(READ_AGAIN)

    def _group(self, objects: Iterator[StoredObject], known: set[str]) -> int:
        """Read and commit as many as fit into one commit; gives how many."""
        began, taken = time.monotonic(), 0
        self.home.scratch.mkdir(parents=True, exist_ok=True)
        with (
            tempfile.TemporaryDirectory(prefix="ingest-", dir=self.home.scratch, ignore_cleanup_errors=True) as folder,
            connect(Path(folder) / "spill") as connection,
        ):
            group = _Group(self, connection, Path(folder))
            for each in objects:
                group.read(each, is_known=each.key in known)
                taken += 1
                if time.monotonic() - began > COMMIT_EVERY_S or len(group.refused) > MAX_REFUSED_WAITING:
                    break
            if group.objects:
                group.commit()
        return taken


class _Group:
    """Objects on their way into one commit; their usable scores are in the connection's table `scores`."""

    def __init__(self, reading: _Reading, connection: Any, folder: Path) -> None:
        self.reading = reading
        self.connection = connection
        self.folder = folder
        self.objects: list[StoredObject] = []
        self.accounts: list[Account] = []
        self.refused: list[Refused] = []
        self.superseded: list[str] = []
        connection.execute("SET TimeZone = 'UTC'")
        connection.execute(f"CREATE TABLE scores ({_TYPED}, source_object VARCHAR)")
        connection.execute("CREATE TABLE superseded (address VARCHAR)")
        connection.execute("CREATE TABLE scales (of VARCHAR, low DOUBLE, high DOUBLE)")
        if reading.scales:
            connection.executemany("INSERT INTO scales VALUES ($1, $2, $3)", [(name, *ends) for name, ends in reading.scales.items()])

    def read(self, listed: StoredObject, *, is_known: bool) -> None:
        """Add an object; one that changes while it is read is left for the next run, one that was forgotten counts as empty."""
        address = self._address(listed)
        account, number, refused_before = Account("feedback"), len(self.objects), len(self.refused)
        copy, plain = self.folder / "object", self.folder / "plain"
        try:
            if not {address, self.reading.home.address(self.reading.source.uri, listed.key)} & self.reading.forgotten:
                self.reading.source.fetch(listed, copy)
                self._judge(plain_file(copy, plain), number, address)
        except ObjectChangedError:
            return
        except RefusedObjectError as refusal:
            self.connection.execute("DELETE FROM scores WHERE source_object = $address", {"address": address})
            del self.refused[refused_before:]
            self.refused.append(Refused(number, None, str(refusal), None))
        finally:
            copy.unlink(missing_ok=True)
            plain.unlink(missing_ok=True)
        account.counts["quarantined"] = len(self.refused) - refused_before
        self.objects.append(listed)
        self.accounts.append(account)
        if is_known:
            self.superseded.append(address)

    def _judge(self, path: Path, number: int, address: str) -> None:
        for rows in _chunks(path):
            self.connection.register("_rows", rows)
            self.connection.execute(_JUDGE, {"now_s": self.reading.now_s})
            self.connection.execute(_APPEND, {"address": address})
            for line, reason, excerpt in self.connection.execute(
                "SELECT _line, _reason, _excerpt FROM judged WHERE _reason IS NOT NULL ORDER BY _line"
            ).fetchall():
                self.refused.append(Refused(number, line, reason, masked(excerpt)))
            self.connection.unregister("_rows")

    def commit(self) -> None:
        """Scores that are new, and what they replace, in one step."""
        reading, lake, connection = self.reading, self.reading.lake, self.connection
        if self.superseded:
            connection.executemany("INSERT INTO superseded VALUES ($1)", [[each] for each in self.superseded])
        lake.show(connection, "feedback", "held")
        connection.execute(
            f"""CREATE TABLE fresh AS SELECT {_ALL_NAMES}, min(source_object) AS source_object FROM (SELECT * FROM scores
                UNION ALL SELECT {_ALL_NAMES}, NULL FROM held WHERE NOT {_WAS_THEIRS} AND {_OF_THE_SAME})
            GROUP BY {_ALL_NAMES} HAVING count(*) = count(source_object)"""  # noqa: S608 (our own SQL)
        )
        self._count()
        rewritten = self._without_superseded() if self.superseded else {}
        before = rewritten.get("feedback", [Path(file).name for file in lake.feedback_files()])
        rewritten["feedback"] = lake.side_added(connection, "feedback", f"SELECT * FROM fresh ORDER BY {_ALL_NAMES}", {}, before)  # noqa: S608
        lake.commit(
            rewritten=rewritten,
            feedback_ledger=ledger_rows(reading.source, zip(self.objects, self.accounts, strict=True), reading.now_s),
            feedback_quarantine=quarantine_rows(self.objects, self.refused, reading.now_s, self._address),
        )
        reading.objects += len(self.objects)
        for account in self.accounts:
            reading.totals.update(account.counts)

    def _address(self, listed: StoredObject) -> str:
        # Not `Home.address`, which goes by the sources of logs.
        return f"{listed.key} in {self.reading.source.uri}"

    def _count(self) -> None:
        found, kept = (
            dict(self.connection.execute(f"SELECT source_object, count(*) FROM {table} GROUP BY 1").fetchall())  # noqa: S608
            for table in ("scores", "fresh")
        )
        for listed, account in zip(self.objects, self.accounts, strict=True):
            ingested = kept.get(self._address(listed), 0)
            account.counts.update(ingested=ingested, duplicates=found.get(self._address(listed), 0) - ingested)

    def _without_superseded(self) -> dict[SideTable, list[str]]:
        """The side tables without what was read of these objects before; whose duplicates may have been of it is marked."""
        reading, lake, connection = self.reading, self.reading.lake, self.connection
        theirs = f"SELECT {_ALL_NAMES} FROM held WHERE {_WAS_THEIRS}"  # noqa: S608 (our own SQL)
        leaving, vanished = (
            int(connection.execute(f"SELECT count(*) FROM ({query})").fetchone()[0])  # noqa: S608 (our own SQL)
            for query in (theirs, f"{theirs} EXCEPT SELECT {_ALL_NAMES} FROM scores")  # noqa: S608 (our own SQL)
        )
        reading.replaced += leaving
        reading.has_vanished |= vanished > 0
        connection.execute("CREATE TABLE gone (object VARCHAR)")
        connection.executemany("INSERT INTO gone VALUES ($1)", [[each.key] for each in self.objects])
        is_gone = "source = $source AND object IN (SELECT object FROM gone)"
        return {
            "feedback": lake.side_rewritten(connection, "feedback", f"SELECT * FROM side WHERE NOT {_WAS_THEIRS}"),  # noqa: S608
            "feedback_ledger": lake.side_rewritten(
                connection,
                "feedback_ledger",
                f"""SELECT * REPLACE (CASE WHEN $vanished AND duplicates > 0 THEN '{READ_AGAIN}' ELSE etag END AS etag)
                FROM side WHERE NOT ({is_gone})""",  # noqa: S608 (our own SQL)
                {"source": reading.source.uri, "vanished": vanished > 0},
            ),
            "feedback_quarantine": lake.side_rewritten(
                connection, "feedback_quarantine", "SELECT * FROM side WHERE source_object NOT IN (SELECT address FROM superseded)"
            ),
        }


def _chunks(path: Path) -> Iterator[Any]:
    """The object's rows as Arrow tables of text, with _line, _problem (why it is no row at all) and _excerpt."""
    with path.open("rb") as file:
        head = file.read(4096)
    if head.startswith(b"PAR1"):
        yield from _parquet_chunks(path)
        return
    if b"\x00" in head:
        raise RefusedObjectError("not text: JSON lines, CSV or Parquet are expected")
    text = head.removeprefix(_BOM).lstrip()
    yield from _tables(_json_rows(path) if text.startswith((b"{", b"[")) else _csv_rows(path))


def _tables(rows: Iterator[_Row]) -> Iterator[Any]:
    import pyarrow as pa

    schema = pa.schema([("_line", pa.int64()), *((name, pa.string()) for name in (*_NAMES, "_problem", "_excerpt"))])
    while chunk := list(islice(rows, _CHUNK_ROWS)):
        columns = list(zip(*chunk, strict=True))
        yield pa.table([pa.array(column, each.type) for column, each in zip(columns, schema, strict=True)], schema=schema)


def _rows_of(line: int, values: dict[str, Any], excerpt: str | None = None) -> Iterator[_Row]:
    """A record's scores: itself, unless it is another tool's."""
    known = scored_by(values)
    if known is None:
        yield _row(line, values, excerpt)
        return
    for score in known.scores(values):
        yield _no_row(line, score["refused"], excerpt) if "refused" in score else _row(line, score, excerpt)


def _row(line: int, values: dict[str, Any], excerpt: str | None = None) -> _Row:
    return (line, *(_text(values.get(name)) for name in _NAMES), None, excerpt)


def _no_row(line: int, problem: str, excerpt: str | None = None) -> _Row:
    return (line, *_NO_VALUES, problem, excerpt)


def _text(value: Any) -> str | None:
    if value is None or isinstance(value, str):
        return value
    return json.dumps(value, default=str) if isinstance(value, (dict, list, bool)) else str(value)


def _json_rows(path: Path) -> Iterator[_Row]:
    with path.open("rb") as file:
        whole = _whole_document(path)
        lines = [json.dumps(each).encode() for each in whole] if whole is not None else file
        for number, raw in enumerate(lines, 1):
            line = raw.removeprefix(_BOM).strip()
            if not line:
                continue
            excerpt = line[:4096].decode("utf-8", "replace")
            try:
                value = json.loads(line)
            except (ValueError, RecursionError):
                yield _no_row(number, NOT_JSON, excerpt)
                continue
            if isinstance(value, dict):
                yield from _rows_of(number, value, excerpt)
            else:
                yield _no_row(number, NOT_OBJECT, excerpt)


def _whole_document(path: Path) -> list[Any] | None:
    """Elements of a file that is one array, or one document over several lines; None when it is lines."""
    if path.stat().st_size > MAX_DOCUMENT_BYTES:
        return None
    try:
        value = json.loads(path.read_bytes().removeprefix(_BOM))
    except (ValueError, RecursionError):
        return None
    return value if isinstance(value, list) else [value]


def _csv_rows(path: Path) -> Iterator[_Row]:
    try:
        with path.open(encoding="utf-8-sig", newline="") as file:
            reader = csv.reader(file)
            header = [name.strip() for name in next(reader, [])]
            if not {"name", "value"} <= set(header):
                raise RefusedObjectError(f"CSV without a header of the columns {', '.join(_NAMES)}")
            for values in reader:
                if not values:
                    continue
                if len(values) != len(header):
                    yield _no_row(reader.line_num, f"{len(values)} fields where the header names {len(header)}")
                else:
                    yield from _rows_of(reader.line_num, {name: value or None for name, value in zip(header, values, strict=True)})
    except (UnicodeDecodeError, csv.Error) as error:
        raise RefusedObjectError("CSV that cannot be read: not UTF-8, or a field without end") from error


def _parquet_chunks(path: Path) -> Iterator[Any]:
    import pyarrow as pa
    import pyarrow.parquet as pq

    try:
        file = pq.ParquetFile(path)
        if scored_by(dict.fromkeys(file.schema_arrow.names)) is not None:
            yield from _tables(_parquet_rows(file))
            return
        present = [name for name in _NAMES if name in file.schema_arrow.names]
        line = 1
        for batch in file.iter_batches(columns=present, batch_size=_CHUNK_ROWS):
            nothing = pa.nulls(batch.num_rows, pa.string())
            columns = {name: batch[name].cast(pa.string()) if name in present else nothing for name in _NAMES}
            numbers = pa.array(range(line, line + batch.num_rows), pa.int64())
            yield pa.table({"_line": numbers, **columns, "_problem": nothing, "_excerpt": nothing})
            line += batch.num_rows
    except (OSError, pa.ArrowException) as error:
        raise RefusedObjectError("Parquet file that cannot be read; write it again") from error


def _parquet_rows(file: Any) -> Iterator[_Row]:
    line = 0
    for batch in file.iter_batches(batch_size=_CHUNK_ROWS):
        for values in batch.to_pylist():
            line += 1
            yield from _rows_of(line, values)
