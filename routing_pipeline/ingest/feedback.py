"""Scores that come beside the logs: JSON lines, CSV or Parquet with the columns of schema.FEEDBACK, or as tools export them.

Belongs here: which files are read, refusing rows that cannot be used, leaving out rows that are there already. Does not
belong here: what a tool's own names mean (`formats`), reading the files (`feedback_rows`), which columns one may have meant (`feedback_columns`), what became of
all scores that were ever read (`feedback_totals`), which score counts as a request's quality (`scope`).

A score outside its scale is refused, not clipped: a rating of 4 on an undeclared scale would otherwise read as perfect. Where
its scale is declared later, the files that hold scores of that name are read again.
A file uploaded again replaces the scores that were read of it before, in one commit; files are committed many at a time.
"""

from __future__ import annotations

import json
import shlex
import tempfile
import time
from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

from pydantic import Field

from routing_pipeline.errors import UnusableInputError
from routing_pipeline.estimates import Result, quantity
from routing_pipeline.ingest.backlog import Backlog, known_keys, open_backlog
from routing_pipeline.ingest.batch import connect
from routing_pipeline.ingest.erasure import leave_out_forgotten_scores
from routing_pipeline.ingest.feedback_columns import Columns
from routing_pipeline.ingest.feedback_rows import score_tables
from routing_pipeline.ingest.formats.log_format import FUTURE_TOLERANCE_S, MAX_TEXT, OLDEST_S, key_text
from routing_pipeline.ingest.ledger import Account, RefusedScore, ledger_rows, refused_scores
from routing_pipeline.ingest.manifests import SCORE_TABLES, leave_out_unfinished
from routing_pipeline.ingest.objects import ObjectChangedError, StoredObject, open_source
from routing_pipeline.ingest.quarantine import RefusedObjectError, masked
from routing_pipeline.ingest.staging.unpack import plain_file
from routing_pipeline.lake.overwrite import READ_AGAIN
from routing_pipeline.lake.side_tables import SideTable
from routing_pipeline.lake.table import Lake
from routing_pipeline.lake.totals import QuarantineReason
from routing_pipeline.schema import DUCKDB_TYPE, FEEDBACK, column_names
from routing_pipeline.storage.home import Home

SOURCES: tuple[str, ...] = ("judge", "user", "check", "eval")
Scales = Mapping[str, tuple[float, float]]
"""Lowest and highest value by name of a score."""

COMMIT_EVERY_S = 15.0
"""How much work a kill can cost."""
MAX_REFUSED_WAITING = 50_000
"""Refused scores wait in memory for the commit; with so many of them it does not wait for its time."""

SCALES = "scales.json"
"""Declared scales that scores of this home were read with, by name."""
MOST_UNREADABLE = 20
"""Unusable files that are named; one is enough to stop."""
OUTSIDE_SCALE = "value lies outside its scale"

_SCORED_S = "coalesce(TRY_CAST(scored_at AS DOUBLE), epoch_us(TRY_CAST(scored_at AS TIMESTAMPTZ)) / 1e6)"
_SCORED_US = "coalesce(TRY_CAST(TRY_CAST(scored_at AS DOUBLE) * 1e6 AS BIGINT), epoch_us(TRY_CAST(scored_at AS TIMESTAMPTZ)))"
_LOW, _HIGH = (f"TRY_CAST({name} AS DOUBLE)" for name in ("scale_min", "scale_max"))
# A thumb or a check that passed is yes or no.
_VALUE = "CASE lower(value) WHEN 'true' THEN 1 WHEN 'false' THEN 0 ELSE TRY_CAST(value AS DOUBLE) END"
_REASON = f"""CASE
    WHEN _problem IS NOT NULL THEN _problem
    WHEN coalesce(request_id, '') = '' AND coalesce(attempt_id, '') = '' THEN 'neither request_id nor attempt_id is there'
    WHEN coalesce(name, '') = '' THEN 'name is missing'
    WHEN strlen(name) > {MAX_TEXT} THEN 'name is longer than {MAX_TEXT} bytes'
    WHEN {_VALUE} IS NULL AND regexp_full_match(trim(value), '[-+]?[0-9]+([.,][0-9]+)? ?%') THEN 'value is a percentage; write 85% as 0.85'
    WHEN {_VALUE} IS NULL AND regexp_full_match(trim(value), '[-+]?[0-9]*,[0-9]+') THEN 'value has a comma; write 0,5 as 0.5'
    WHEN {_VALUE} IS NULL OR NOT isfinite({_VALUE}) THEN 'value is missing or not a finite number'
    WHEN scale_min <> '' AND ({_LOW} IS NULL OR NOT isfinite({_LOW})) THEN 'scale_min is not a finite number'
    WHEN scale_max <> '' AND ({_HIGH} IS NULL OR NOT isfinite({_HIGH})) THEN 'scale_max is not a finite number'
    WHEN coalesce({_LOW}, 0) >= coalesce({_HIGH}, 1) THEN 'scale_max is not above scale_min'
    WHEN {_VALUE} NOT BETWEEN coalesce({_LOW}, 0) AND coalesce({_HIGH}, 1)
        THEN concat('{OUTSIDE_SCALE}; it is 0 to 1 unless scale_min and scale_max, or [scales] in the configuration, say otherwise', $hint)
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
# An end that a score does not name is that of its declared scale.
_SCALED = """SELECT _rows.* REPLACE (
        coalesce(nullif(scale_min, ''), low::VARCHAR) AS scale_min, coalesce(nullif(scale_max, ''), high::VARCHAR) AS scale_max,
        lower(trim(source)) AS source),
        coalesce(nullif(scale_min, ''), nullif(scale_max, '')) IS NOT NULL AS _has_scale
    FROM _rows LEFT JOIN scales ON scales.of = _rows.name"""
_JUDGE = f"CREATE OR REPLACE TEMP TABLE judged AS SELECT *, {_REASON} AS _reason FROM ({_SCALED})"  # noqa: S608 (our own SQL)
_APPEND = f"""INSERT INTO scores SELECT {", ".join(f"({sql})::{DUCKDB_TYPE[column.type]}" for column in FEEDBACK for sql in [_USABLE[column.name]])},
    $address FROM judged WHERE _reason IS NULL"""  # noqa: S608 (our own SQL)
_REFUSED = f"""SELECT _line, _reason, _excerpt, left(name, {MAX_TEXT}), CASE WHEN isfinite({_VALUE}) THEN {_VALUE} END,
        CASE WHEN starts_with(_reason, '{OUTSIDE_SCALE}') THEN coalesce({_LOW}, 0) END,
        CASE WHEN starts_with(_reason, '{OUTSIDE_SCALE}') THEN coalesce({_HIGH}, 1) END, _has_scale
    FROM judged WHERE _reason IS NOT NULL ORDER BY _line"""  # noqa: S608 (our own SQL)
_ALL_NAMES = ", ".join(column_names(FEEDBACK))
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
    objects_forgotten: int = quantity("Of these, forgotten earlier, so never read again", "objects", default=0)
    records: int = quantity("Scores found in the objects read now", "scores")
    ingested: int = quantity("Scores added", "scores")
    quarantined: int = quantity("Scores refused", "scores")
    duplicates: int = quantity("Scores that were there already, equal in every column", "scores")
    replaced: int = quantity("Scores that left because their objects were uploaded again", "scores", default=0)
    feedback_version: str = Field(description="Changes whenever feedback is added")
    seconds: float = quantity("Wall time", "s")
    unreadable: tuple[QuarantineReason, ...] = Field(
        default=(),
        description=f"Objects at the source that as a whole cannot be read as feedback, read now or earlier, at most {MOST_UNREADABLE}",
    )

    def check_readable(self) -> None:
        """Raises UnusableInputError, naming file and reason, when there is an object that is no feedback; what could be read was read."""
        if not self.unreadable:
            return
        first, more = self.unreadable[0], len(self.unreadable) - 1
        others = f" ({more}{' or more' if more == MOST_UNREADABLE - 1 else ''} more of its files cannot be read either)" if more else ""
        raise UnusableInputError(
            f"feedback {first.object}: {first.reason}{others}; mend it and upload it again, take it out of --feedback, or leave it out for good: "
            f"routing-pipeline forget --object {shlex.quote(first.object)}"
        )


def is_up_to_date(home: Home, uri: str, scales: Scales | None = None) -> bool:
    """Whether `ingest_feedback` would read nothing and find nothing to complain of; raises what listing raises."""
    lake, source = Lake(home), open_source(uri, exclude=home.root)
    if not lake.side_files("feedback_ledger") or _scaled_anew(home, scales or {}):
        return False
    with open_backlog(lake, "feedback_ledger", source) as backlog:
        return backlog.listed > 0 and not backlog.new and not _refused_whole(lake, backlog)


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
        _mark_scaled_anew(home, lake, scales or {})
        with open_backlog(lake, "feedback_ledger", source) as backlog:
            if not backlog.listed:
                raise UnusableInputError(f"{source.uri}: holds no feedback files; check the path or prefix")
            leave_out_unfinished(home, backlog, SCORE_TABLES)
            reading = _Reading(home, lake, backlog, time.time() if now_s is None else now_s, scales or {}, progress or (lambda *_: None))
            reading.read()
            unreadable = _refused_whole(lake, backlog)
        return FeedbackIngestResult(
            source=source.uri,
            objects_listed=backlog.listed,
            objects_new=reading.objects,
            objects_skipped=backlog.listed - backlog.new,
            objects_forgotten=backlog.forgotten,
            records=reading.totals.total(),
            ingested=reading.totals["ingested"],
            quarantined=reading.totals["quarantined"],
            duplicates=reading.totals["duplicates"],
            replaced=reading.replaced,
            feedback_version=lake.feedback_version(),
            seconds=time.monotonic() - began,
            unreadable=unreadable,
        )


def _refused_whole(lake: Lake, backlog: Backlog) -> tuple[QuarantineReason, ...]:
    """Objects that lie at the source and of which nothing could be read."""
    lake.show(backlog.connection, "feedback_quarantine", "refused")
    found = backlog.connection.execute(
        f"""SELECT source_object, reason FROM refused WHERE line IS NULL
        AND source_object IN (SELECT concat(object, ' in ', $source) FROM listing) ORDER BY ALL LIMIT {MOST_UNREADABLE}""",  # noqa: S608
        {"source": backlog.source.uri},
    ).fetchall()
    return tuple(QuarantineReason(reason=reason, count=1, object=address, line=None) for address, reason in found)


def _scaled_anew(home: Home, scales: Scales) -> list[str]:
    """Names whose declared scale is not the one that their scores were read with; what is no longer declared stays as it was read."""
    noted = json.loads(home.coordination.read(SCALES) or "{}")
    return sorted(name for name, scale in scales.items() if tuple(noted.get(name, (0.0, 1.0))) != tuple(scale))


def _mark_scaled_anew(home: Home, lake: Lake, scales: Scales) -> None:
    """Let the files be read again that hold scores of a name whose scale is declared, or declared otherwise, since they were read."""
    names = _scaled_anew(home, scales)
    if not names:
        return
    if lake.side_files("feedback_ledger"):
        with connect(home.scratch / "ingest-marking") as connection:
            lake.show(connection, "feedback", "held")
            lake.show(connection, "feedback_quarantine", "refused")
            theirs = "SELECT source_object FROM {} WHERE name IN (SELECT unnest($names))"
            marked = lake.side_rewritten(
                connection,
                "feedback_ledger",
                f"""SELECT * REPLACE (CASE WHEN concat(object, ' in ', source) IN ({theirs.format("held")} UNION {theirs.format("refused")})
                THEN '{READ_AGAIN}' ELSE etag END AS etag) FROM side""",  # noqa: S608 (our own SQL)
                {"names": names},
            )
        lake.commit(rewritten={"feedback_ledger": marked})
    # Noted last: killed before, they are marked once more.
    home.coordination.change(SCALES, lambda noted: json.dumps(json.loads(noted or "{}") | {name: scales[name] for name in names}))


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
        self.refused: list[RefusedScore] = []
        self.superseded: list[str] = []
        connection.execute("SET TimeZone = 'UTC'")
        connection.execute(f"CREATE TABLE scores ({_TYPED}, source_object VARCHAR)")
        connection.execute("CREATE TABLE superseded (address VARCHAR)")
        connection.execute("CREATE TABLE scales (of VARCHAR, low DOUBLE, high DOUBLE)")
        if reading.scales:
            connection.executemany("INSERT INTO scales VALUES ($1, $2, $3)", [(name, *ends) for name, ends in reading.scales.items()])

    def read(self, listed: StoredObject, *, is_known: bool) -> None:
        """Add an object; one that changes while it is read is left for the next run."""
        address = self._address(listed)
        account, number, refused_before = Account({"feedback"}), len(self.objects), len(self.refused)
        copy, plain = self.folder / "object", self.folder / "plain"
        try:
            self.reading.source.fetch(listed, copy)
            self._judge(plain_file(copy, plain), number, address)
        except ObjectChangedError:
            return
        except RefusedObjectError as refusal:
            self.connection.execute("DELETE FROM scores WHERE source_object = $address", {"address": address})
            del self.refused[refused_before:]
            # Names that begin with an underline are a writer's own (`_SUCCESS`, `_committed_1`): what is no feedback there is nobody's mistake.
            if not listed.key.rpartition("/")[2].startswith("_"):
                self.refused.append(RefusedScore(number, None, str(refusal), None))
        finally:
            copy.unlink(missing_ok=True)
            plain.unlink(missing_ok=True)
        account.counts["quarantined"] = len(self.refused) - refused_before
        self.objects.append(listed)
        self.accounts.append(account)
        if is_known:
            self.superseded.append(address)

    def _judge(self, path: Path, number: int, address: str) -> None:
        columns = Columns()
        for rows in score_tables(path, columns):
            if (complaint := columns.complaint) is not None:
                raise RefusedObjectError(complaint)
            self.connection.register("_rows", rows)
            self.connection.execute(_JUDGE, {"now_s": self.reading.now_s, "hint": columns.scale_hint})
            self.connection.execute(_APPEND, {"address": address})
            for line, reason, excerpt, *said in self.connection.execute(_REFUSED).fetchall():
                self.refused.append(RefusedScore(number, line, reason, masked(excerpt), None, 1, *said))
            self.connection.unregister("_rows")

    def commit(self) -> None:
        """Scores that are new, and what they replace, in one step."""
        reading, lake, connection = self.reading, self.reading.lake, self.connection
        if self.superseded:
            connection.executemany("INSERT INTO superseded VALUES ($1)", [[each] for each in self.superseded])
        leave_out_forgotten_scores(connection, lake)
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
            feedback_quarantine=refused_scores(self.objects, self.refused, reading.now_s, self._address),
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
