"""Forgetting: rows of a user, a team, an object or a time, out of the lake and out of its history.

Belongs here: which rows, refusals and scores go, what is kept so that they stay away. Does not belong here: rewriting
data files (`lake.overwrite`), dropping snapshots and files (`lake.upkeep`).

The rows leave in one commit; then every older snapshot and every file that only those held is deleted, with the stored
analyses, windows and days, hourly sums and the home's own report, which may name what was forgotten. Where there was nothing
to forget, neither in the lake nor in its history, all of that stays. What was asked is remembered (of a user only the keyed
hash), so that the same logs read again do not bring it back. Of a user's, a team's and an object's requests keyed hashes of
their ids are remembered too: their scores stay away, instead of coming back as scores that no request is there for. An object
stays forgotten under its key, whatever lies there later. The logs themselves are their owner's: they stay where they are.
"""

from __future__ import annotations

import shutil
import time
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Literal

from pydantic import Field

from routing_pipeline.errors import UnusableInputError
from routing_pipeline.estimates import Result, quantity
from routing_pipeline.ingest.batch import connect
from routing_pipeline.ingest.formats.log_format import user_hash
from routing_pipeline.lake.overwrite import ADDRESS, without
from routing_pipeline.lake.side_tables import SideTable, arrow_schema
from routing_pipeline.lake.table import Lake
from routing_pipeline.schema import FORGOTTEN
from routing_pipeline.storage.home import Home

What = Literal["user", "team", "object", "before"]

_ROWS: Mapping[What, str] = {
    "user": "user_hash = $value",
    "team": "team = $value",
    "object": "source_object = $value",
    "before": "started_at < $value::TIMESTAMP",
}
_REFUSALS: Mapping[What, str] = {
    # Excerpts of refused records hold no value of theirs, so they cannot be told by user or team.
    "user": "false",
    "team": "false",
    "object": "source_object = $value",
    "before": "quarantined_at < $value::TIMESTAMP",
}
_SCORES_OBJECT = "concat(object, ' in ', source)"
_OF_FEEDBACK = f"""SELECT DISTINCT {_SCORES_OBJECT} FROM feedback_ledger WHERE $value IN (object, {_SCORES_OBJECT},
    concat(source, '/', object), concat('s3://', split_part(source, '/', 3), '/', object))"""  # noqa: S608 (our own SQL)
_THEIR_SCORES = f"SELECT {_SCORES_OBJECT} FROM feedback_ledger WHERE $value IN ({ADDRESS}, {_SCORES_OBJECT})"  # noqa: S608
"""What the lake calls an object as one of scores; the same object may hold logs too."""
_ASKED = "CREATE OR REPLACE TEMP TABLE asked AS SELECT * FROM read_parquet($files) WHERE what IN ('user', 'team', 'before')"
_IS_BEFORE = "{} < (SELECT max(TRY_CAST(value AS TIMESTAMP)) FROM {} WHERE what = 'before')"
_THEIRS = """CREATE OR REPLACE TEMP TABLE theirs AS
    SELECT DISTINCT conformed.rowid AS place, attempt_id, request_id, _shared_call_id, _lone_id FROM conformed JOIN asked
    ON started_at < forgotten_at AND ((what = 'user' AND user_hash = value) OR (what = 'team' AND team = value))"""
_KEYED = "left(sha256(concat($hash_key, ' ', id)), 16)"
"""Keyed hash of an id: 64 bits tell a hundred million ids from each other with one mistake in thousands of homes."""
_IDS = f"""SELECT DISTINCT 'id' AS what, {_KEYED} AS value, make_timestamp($now_us) AS forgotten_at
    FROM (SELECT unnest([{{ids}}]) AS id FROM {{rows}}) WHERE id IS NOT NULL"""  # noqa: S608 (our own SQL)

PENDING = "forgetting"
"""Lies in the home from before rows leave until nothing is left that may name them: whoever forgets next ends what was begun."""


class _OnlyLookedError(Exception):
    """Ends a dry run before anything is committed."""


class ForgetResult(Result):
    """What is gone, and what was deleted with it."""

    attempts: int = quantity("Rows that left the lake", "rows")
    objects: int = quantity("Objects that these rows came from", "objects")
    quarantined: int = quantity("Refused records whose entry in the quarantine was removed", "records")
    scores: int = quantity("Scores of the requests that are gone", "scores")
    snapshots: int = quantity("Older snapshots that can no longer be read", "snapshots")
    files: int = quantity("Files deleted", "files")
    reports: int = quantity("Stored reports deleted, with every stored result: they may name what is forgotten", "reports", default=0)
    matches: bool = Field(
        default=True, description="Whether the lake or its history holds anything to forget; where not, nothing is deleted"
    )
    is_dry_run: bool = Field(
        default=False, description="Whether it was a dry run: nothing was changed, snapshots and files are not counted"
    )
    seconds: float = quantity("Wall time", "s")


@dataclass
class _Leaving:
    files: list[str] = field(default_factory=list)
    rows: dict[str, int] = field(default_factory=dict)
    refusals: dict[str, int] = field(default_factory=dict)
    scores: dict[str | None, int] = field(default_factory=dict)
    refused_scores: dict[str, int] = field(default_factory=dict)
    rewritten: dict[SideTable, list[str]] = field(default_factory=dict)

    @property
    def is_nothing(self) -> bool:
        return not (self.rows or self.refusals or self.scores or self.refused_scores)


def forget(
    home: Home,
    what: What,
    value: str,
    *,
    dry_run: bool = False,
    progress: Callable[[str, int, int], None] | None = None,
    now_s: float | None = None,
) -> ForgetResult:
    """Remove rows from the lake and from all its history; waits for another writer.

    Args:
        home: Whose lake.
        what: What kind of thing `value` is.
        value: A user's identifier as the gateway logs it, a team's name, an object's key, or a moment (ISO 8601, UTC).
        dry_run: Only count what would go.
        progress: Told when there is another writer.
        now_s: Now, seconds since 1970; the clock's by default.

    Raises:
        UnusableInputError: the moment is none, or nothing was ever read from such an object.
    """
    began = time.monotonic()
    now = time.time() if now_s is None else now_s
    report = progress or (lambda *_: None)
    check_moment(what, value)
    if home.is_untouched:
        return _nothing(dry_run=dry_run)
    with home.writing(on_wait=lambda: report("waiting for another writer", 0, 1)):
        lake = Lake(home)
        lake.recover()
        leaving, snapshots, files = _Leaving(), 0, 0
        is_pending = home.files.has(PENDING)
        if lake.side_files("ledger") or lake.side_files("feedback_ledger"):
            folder = lake.new_data_folder()
            try:
                with connect(home.scratch / "ingest-forgetting") as connection:
                    connection.execute("SET TimeZone = 'UTC'")
                    named = _named(connection, lake, what, value)
                    leaving = _leaving(connection, lake, what, named, folder)
                    is_pending = is_pending or not leaving.is_nothing or _is_in_history(connection, lake, what, named)
                    if dry_run:
                        raise _OnlyLookedError
                    if what != "before":
                        _remember_ids(connection, lake, leaving, now)
                if is_pending:
                    home.files.mark(PENDING)
                lake.commit(folder, replaced=leaving.files, rewritten=leaving.rewritten, forgotten=_entry(what, named, now))
            except _OnlyLookedError:
                shutil.rmtree(folder, ignore_errors=True)
                # What was written to count it is nobody's: the mark of the folder says so.
                lake.recover()
            except BaseException:
                shutil.rmtree(folder, ignore_errors=True)
                raise
        reports = len(home.runs.all()) if is_pending else 0
        if is_pending and not dry_run:
            snapshots, files = _forget_copies(home, lake)
        return ForgetResult(
            attempts=sum(leaving.rows.values()),
            objects=len(leaving.rows),
            quarantined=sum(leaving.refusals.values()),
            scores=sum(leaving.scores.values()),
            snapshots=snapshots,
            files=files,
            reports=reports,
            matches=is_pending,
            is_dry_run=dry_run,
            seconds=time.monotonic() - began,
        )


def _forget_copies(home: Home, lake: Lake) -> tuple[int, int]:
    """Delete all that may still name what left the lake; gives older snapshots and files."""
    snapshots, files = lake.drop_history(float("inf"), unused_since_s=float("inf"))
    for shared in ("windows", "days", "report"):
        home.files.delete_below(shared)
    home.results.clear()
    for copies in (home.scratch, home.sums):
        shutil.rmtree(copies, ignore_errors=True)
    home.files.delete([PENDING])
    return snapshots, files


def _nothing(*, dry_run: bool) -> ForgetResult:
    """Of a home that was never written to: no lock is made for it."""
    counts = dict.fromkeys(("attempts", "objects", "quarantined", "scores", "snapshots", "files"), 0)
    return ForgetResult(**counts, matches=False, is_dry_run=dry_run, seconds=0.0)


def leave_out_forgotten(connection: Any, lake: Lake, remembered: list[str], now_s: float) -> list[str]:
    """Delete from the table `conformed` what was forgotten; it is not counted, as if the logs did not hold it.

    Of users and teams: what began before they were forgotten. Later traffic of theirs is traffic.

    Args:
        connection: Where the table is.
        lake: Which remembers what was forgotten.
        remembered: What this gave for the batch before, empty for the first one of a commit.
        now_s: Now, seconds since 1970.

    Returns:
        Files of the side table `forgotten` with the ids of what was left out now, for `Lake.commit(rewritten=...)`; else `remembered`.
    """
    files = lake.side_files("forgotten")
    if not files:
        return remembered
    connection.execute(_ASKED, {"files": list(files)})
    connection.execute(_THEIRS)
    if connection.execute("SELECT count(*) FROM theirs").fetchone()[0]:
        ids = _IDS.format(ids="attempt_id, request_id, _shared_call_id, _lone_id", rows="theirs")
        query = f"SELECT * FROM ({ids}) ANTI JOIN (SELECT value FROM read_parquet($files) WHERE what = 'id') USING (value)"  # noqa: S608
        given = {"files": list(files), "hash_key": lake.home.hash_key(), "now_us": int(now_s * 1e6)}
        remembered = lake.side_added(connection, "forgotten", query, given, remembered or _names(files))
    connection.execute(
        f"DELETE FROM conformed WHERE rowid IN (SELECT place FROM theirs) OR {_IS_BEFORE.format('started_at', 'asked')}"  # noqa: S608
    )
    return remembered


def leave_out_forgotten_scores(connection: Any, lake: Lake) -> None:
    """Delete from the table `scores` (schema.FEEDBACK) what was forgotten: scores given before a moment, or of requests that are gone.

    A request that is in the lake again, by another object or by later traffic, keeps its scores.
    """
    if not lake.side_files("forgotten"):
        return
    lake.show(connection, "forgotten", "forgotten")
    connection.execute(f"DELETE FROM scores WHERE {_IS_BEFORE.format('scored_at', 'forgotten')}")  # noqa: S608 (our own SQL)
    connection.execute(
        f"""CREATE OR REPLACE TEMP TABLE gone AS SELECT id FROM (SELECT DISTINCT unnest([request_id, attempt_id]) AS id FROM scores)
        WHERE id IS NOT NULL AND {_KEYED} IN (SELECT value FROM forgotten WHERE what = 'id')""",  # noqa: S608 (our own SQL)
        {"hash_key": lake.home.hash_key()},
    )
    if files := list(lake.all_files()) if connection.execute("SELECT count(*) FROM gone").fetchone()[0] else []:
        connection.execute(
            """DELETE FROM gone WHERE id IN (SELECT unnest([request_id, attempt_id]) FROM read_parquet($files, union_by_name=true)
            WHERE request_id IN (SELECT id FROM gone) OR attempt_id IN (SELECT id FROM gone))""",
            {"files": files},
        )
    there = "coalesce({0} IS NOT NULL AND {0} NOT IN (SELECT id FROM gone), false)"
    connection.execute(
        f"""DELETE FROM scores WHERE (request_id IN (SELECT id FROM gone) OR attempt_id IN (SELECT id FROM gone))
        AND NOT {there.format("request_id")} AND NOT {there.format("attempt_id")}"""  # noqa: S608 (our own SQL)
    )


def forgotten_objects(lake: Lake) -> set[str]:
    """What the lake called the objects that were forgotten."""
    files = lake.side_files("forgotten")
    if not files:
        return set()
    import duckdb

    with duckdb.connect() as connection:
        found = connection.execute("SELECT value FROM read_parquet($files) WHERE what = 'object'", {"files": list(files)}).fetchall()
    return {value for (value,) in found}


def _names(files: Iterable[str]) -> list[str]:
    return [Path(file).name for file in files]


def _named(connection: Any, lake: Lake, what: What, value: str) -> str:
    """The value as the lake knows it."""
    if what == "user":
        named: str | None = connection.execute(
            f"SELECT {user_hash('$value')}", {"value": value, "hash_key": lake.home.hash_key()}
        ).fetchone()[0]
        if named is None:
            raise UnusableInputError("--user: give the user's identifier as the gateway logs it")
        return named
    if what == "before":
        return _moment(value)
    if what == "object":
        return _address(connection, lake, value)
    return value


def check_moment(what: str, value: str) -> None:
    """Raises UnusableInputError where a moment is to be given and is none: told before anything begins."""
    if what == "before":
        _moment(value)


def _moment(value: str) -> str:
    try:
        moment = datetime.fromisoformat(value)
        in_utc = moment.astimezone(UTC) if moment.tzinfo else moment
    except (ValueError, OverflowError) as error:
        raise UnusableInputError(f"--before {value}: give a date or a time in ISO 8601, as in 2026-10-01") from error
    return in_utc.replace(tzinfo=None).isoformat(timespec="microseconds")


def _address(connection: Any, lake: Lake, value: str) -> str:
    """The one object of the ledger that goes by this key, address or URI."""
    query = f"""SELECT DISTINCT {ADDRESS} FROM ledger WHERE $value IN (object, {ADDRESS}, concat(source, '/', object),
        concat('s3://', split_part(source, '/', 3), '/', object))"""  # noqa: S608 (our own SQL)
    lake.show(connection, "ledger", "ledger")
    lake.show(connection, "feedback_ledger", "feedback_ledger")
    found = [each for (each,) in connection.execute(query, {"value": value, **_first(lake)}).fetchall()]
    found = found or [each for (each,) in connection.execute(_OF_FEEDBACK, {"value": value}).fetchall()]
    if not found:
        raise UnusableInputError(f"--object {value}: nothing was ever read from it; name it by its key, as quarantine and ledger do")
    if len(found) > 1:
        raise UnusableInputError(f"--object {value}: {len(found)} sources hold one of that name; say which, as in '{min(found)}'")
    return str(found[0])


def _first(lake: Lake) -> dict[str, str]:
    return {"first": (*lake.home.sources(), "")[0]}


def _entry(what: What, value: str, now_s: float) -> Any:
    import pyarrow as pa

    return pa.Table.from_pylist([{"what": what, "value": value, "forgotten_at": int(now_s * 1e6)}], arrow_schema(FORGOTTEN))


def _leaving(connection: Any, lake: Lake, what: What, value: str, folder: Path) -> _Leaving:
    """Everything that goes, and what stays of the files that hold it, written anew."""
    given, files = {"value": value}, lake.all_files()
    removal = without(connection, files, _ROWS[what], given, folder)
    leaving = _Leaving(removal.files, removal.rows)
    if lake.quarantine_files():
        lake.show(connection, "quarantine", "refused")
        query = f"SELECT source_object, sum(coalesce(records, 1))::BIGINT FROM refused WHERE {_REFUSALS[what]} GROUP BY 1"  # noqa: S608
        leaving.refusals = dict(connection.execute(query, given if "$value" in query else {}).fetchall())
    stays = f"SELECT * FROM side WHERE NOT ({_REFUSALS[what]})"  # noqa: S608 (our own SQL)
    if leaving.refusals:
        leaving.rewritten["quarantine"] = lake.side_rewritten(connection, "quarantine", stays, given)
    if what in {"before", "object"} and lake.side_files("feedback_quarantine"):
        lake.show(connection, "feedback_quarantine", "refused_scores")
        goes, named = _REFUSALS[what], given
        if what == "object":
            goes, named = f"coalesce(source_object IN ({_THEIR_SCORES}), false)", {**given, **_first(lake)}
        query = f"SELECT source_object, count(*) FROM refused_scores WHERE {goes} GROUP BY 1"  # noqa: S608 (our own SQL)
        leaving.refused_scores = dict(connection.execute(query, named).fetchall())
        if leaving.refused_scores:
            query = f"SELECT * FROM side WHERE NOT ({goes})"  # noqa: S608 (our own SQL)
            leaving.rewritten["feedback_quarantine"] = lake.side_rewritten(connection, "feedback_quarantine", query, named)
    _drop_scores(connection, lake, what, value, leaving)
    _take_off(connection, lake, leaving, "ledger", ADDRESS, leaving.rows, leaving.refusals)
    of_objects = {address: count for address, count in leaving.scores.items() if address is not None}
    _take_off(connection, lake, leaving, "feedback_ledger", _SCORES_OBJECT, of_objects, leaving.refused_scores)
    return leaving


def _is_in_history(connection: Any, lake: Lake, what: What, value: str) -> bool:
    """Whether a file that only older snapshots hold has such rows: what was computed from it may still be stored."""
    names = [entry.name for entry in lake.home.files.below("lake").entries("data") if entry.name.endswith(".parquet")]
    older = sorted(set(lake.readable(names)) - set(lake.all_files()))
    query = f"SELECT count(*) FROM read_parquet($files, union_by_name=true) WHERE {_ROWS[what]}"  # noqa: S608 (our own SQL)
    return bool(older) and connection.execute(query, {"files": older, "value": value}).fetchone()[0] > 0


def _drop_scores(connection: Any, lake: Lake, what: What, value: str, leaving: _Leaving) -> None:
    """Scores of attempts that go, and of requests none of whose attempts stays; with a moment, all that are older."""
    connection.execute("CREATE OR REPLACE TEMP TABLE gone (attempt_id VARCHAR, request_id VARCHAR)")
    if leaving.files:
        connection.execute(
            f"INSERT INTO gone SELECT attempt_id, request_id FROM read_parquet($files, union_by_name=true) WHERE {_ROWS[what]}",  # noqa: S608
            {"files": leaving.files, "value": value},
        )
        connection.execute(
            f"""UPDATE gone SET request_id = NULL WHERE request_id IN (SELECT request_id FROM read_parquet($files, union_by_name=true)
            WHERE NOT coalesce({_ROWS[what]}, false))""",  # noqa: S608 (our own SQL)
            {"files": list(lake.all_files()), "value": value},
        )
    if not lake.feedback_files() or not (leaving.files or what in {"before", "object"}):
        return
    goes = """coalesce(attempt_id IN (SELECT attempt_id FROM gone), false)
        OR coalesce(request_id IN (SELECT request_id FROM gone WHERE request_id IS NOT NULL), false)"""
    given = {}
    if what == "before":
        goes, given = f"{goes} OR scored_at < $value::TIMESTAMP", {"value": value}
    if what == "object":
        goes, given = f"{goes} OR coalesce(source_object IN ({_THEIR_SCORES}), false)", {"value": value, **_first(lake)}
    lake.show(connection, "feedback", "scores")
    leaving.scores = dict(connection.execute(f"SELECT source_object, count(*) FROM scores WHERE {goes} GROUP BY 1", given).fetchall())  # noqa: S608
    if leaving.scores:
        stays = f"SELECT * FROM side WHERE NOT ({goes})"  # noqa: S608 (our own SQL)
        leaving.rewritten["feedback"] = lake.side_rewritten(connection, "feedback", stays, given)


def _remember_ids(connection: Any, lake: Lake, leaving: _Leaving, now_s: float) -> None:
    """Let the scores of what is in the table `gone` stay away; a request that keeps an attempt is not in it."""
    given = {"hash_key": lake.home.hash_key(), "now_us": int(now_s * 1e6)}
    query = _IDS.format(ids="attempt_id, request_id", rows="gone")
    leaving.rewritten["forgotten"] = lake.side_added(connection, "forgotten", query, given, _names(lake.side_files("forgotten")))


def _take_off(
    connection: Any, lake: Lake, leaving: _Leaving, ledger: SideTable, address: str, gone: Mapping[str, int], refused: Mapping[str, int]
) -> None:
    """Take what goes, and what was refused and goes, by object, off its lines of a ledger; `address` is SQL for what the lake calls it.

    The lines stay, or the next ingestion would take the objects for new ones.
    """
    import pyarrow as pa

    touched = sorted({*gone, *refused})
    if not touched:
        return
    counts = {"gone": [gone.get(each, 0) for each in touched], "refused": [refused.get(each, 0) for each in touched]}
    lost = pa.table({"address": pa.array(touched, pa.string()), **{name: pa.array(each, pa.int64()) for name, each in counts.items()}})
    leaving.rewritten[ledger] = lake.side_rewritten(
        connection,
        ledger,
        f"""SELECT side.* REPLACE (records - coalesce(gone, 0) - coalesce(refused, 0) AS records,
            ingested - coalesce(gone, 0) AS ingested, quarantined - coalesce(refused, 0) AS quarantined)
        FROM side LEFT JOIN lost ON address = {address}""",  # noqa: S608 (our own SQL)
        _first(lake) if "$first" in address else {},
        lost=lost,
    )
