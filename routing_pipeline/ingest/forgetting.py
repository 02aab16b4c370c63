"""Forgetting: rows of a user, a team, an object or a time, out of the lake and out of its history.

Belongs here: which rows, refusals and scores go, what is kept so that they stay away. Does not belong here: rewriting
data files (`replacing`), dropping snapshots and files (`lake`).

The rows leave in one commit; then every older snapshot and every file that only those held is deleted, with the stored
analyses, windows and days, hourly sums and the home's own report, which may name what was forgotten. Where there was nothing
to forget, neither in the lake nor in its history, all of that stays. What was asked is remembered (of a user only the keyed
hash), so that the same logs read again do not bring it back. The logs themselves are their owner's: they stay where they are.
"""

from __future__ import annotations

import shutil
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Literal

from routing_pipeline.errors import UnusableInputError
from routing_pipeline.estimates import Result, quantity
from routing_pipeline.home import Home
from routing_pipeline.ingest.batch import connect
from routing_pipeline.ingest.formats.log_format import user_hash
from routing_pipeline.ingest.lake import Lake, SideTable, arrow_schema
from routing_pipeline.ingest.replacing import ADDRESS, without
from routing_pipeline.schema import FORGOTTEN

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
_STAYS_AWAY = """rowid IN (SELECT conformed.rowid FROM conformed JOIN _forgotten
    ON (what = 'user' AND user_hash = value AND started_at < forgotten_at)
    OR (what = 'team' AND team = value AND started_at < forgotten_at)
    OR (what = 'before' AND started_at < TRY_CAST(value AS TIMESTAMP)))"""


PENDING = "forgetting"
"""Lies in the home from before rows leave until nothing is left that may name them: whoever forgets next ends what was begun."""


class ForgetResult(Result):
    """What is gone, and what was deleted with it."""

    attempts: int = quantity("Rows that left the lake", "rows")
    objects: int = quantity("Objects that these rows came from", "objects")
    quarantined: int = quantity("Refused records whose entry in the quarantine was removed", "records")
    scores: int = quantity("Scores of the requests that are gone", "scores")
    snapshots: int = quantity("Older snapshots that can no longer be read", "snapshots")
    files: int = quantity("Files deleted", "files")
    seconds: float = quantity("Wall time", "s")


@dataclass
class _Leaving:
    files: list[str] = field(default_factory=list)
    rows: dict[str, int] = field(default_factory=dict)
    refusals: dict[str, int] = field(default_factory=dict)
    scores: int = 0
    refused_scores: int = 0
    rewritten: dict[SideTable, list[str]] = field(default_factory=dict)

    @property
    def is_nothing(self) -> bool:
        return not (self.rows or self.refusals or self.scores or self.refused_scores)


def forget(
    home: Home, what: What, value: str, *, progress: Callable[[str, int, int], None] | None = None, now_s: float | None = None
) -> ForgetResult:
    """Remove rows from the lake and from all its history; waits for another writer.

    Args:
        home: Whose lake.
        what: What kind of thing `value` is.
        value: A user's identifier as the gateway logs it, a team's name, an object's key, or a moment (ISO 8601, UTC).
        progress: Told when there is another writer.
        now_s: Now, seconds since 1970; the clock's by default.

    Raises:
        UnusableInputError: the moment is none, or nothing was ever read from such an object.
    """
    began = time.monotonic()
    now = time.time() if now_s is None else now_s
    report = progress or (lambda *_: None)
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
                if is_pending:
                    home.files.mark(PENDING)
                lake.commit(folder, replaced=leaving.files, rewritten=leaving.rewritten, forgotten=_entry(what, named, now))
            except BaseException:
                shutil.rmtree(folder, ignore_errors=True)
                raise
        if is_pending:
            snapshots, files = lake.drop_history(float("inf"), unused_since_s=float("inf"))
            for shared in ("windows", "days", "report"):
                home.files.delete_below(shared)
            home.results.clear()
            for copies in (home.scratch, home.sums):
                shutil.rmtree(copies, ignore_errors=True)
            home.files.delete([PENDING])
        return ForgetResult(
            attempts=sum(leaving.rows.values()),
            objects=len(leaving.rows),
            quarantined=sum(leaving.refusals.values()),
            scores=leaving.scores,
            snapshots=snapshots,
            files=files,
            seconds=time.monotonic() - began,
        )


def leave_out_forgotten(connection: Any, lake: Lake) -> None:
    """Delete from the table `conformed` what was forgotten; it is not counted, as if the logs did not hold it.

    Of users and teams: what began before they were forgotten. Later traffic of theirs is traffic.
    """
    files = lake.side_files("forgotten")
    if not files:
        return
    connection.read_parquet(list(files)).create_view("_forgotten")
    connection.execute(f"DELETE FROM conformed WHERE {_STAYS_AWAY}")  # noqa: S608 (our own SQL)


def forgotten_objects(lake: Lake) -> set[str]:
    """What the lake called the objects that were forgotten."""
    return {row["value"] for row in lake.side_table("forgotten").to_pylist() if row["what"] == "object"}


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


def _moment(value: str) -> str:
    try:
        moment = datetime.fromisoformat(value)
    except ValueError as error:
        raise UnusableInputError(f"--before {value}: give a date or a time in ISO 8601, as in 2026-10-01") from error
    return (moment.astimezone(UTC) if moment.tzinfo else moment).replace(tzinfo=None).isoformat(timespec="microseconds")


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
    import pyarrow as pa

    given, files = {"value": value}, lake.all_files()
    removal = without(connection, files, _ROWS[what], given, folder)
    leaving = _Leaving(removal.files, removal.rows)
    if quarantine := list(lake.quarantine_files()):
        query = f"SELECT source_object, count(*) FROM read_parquet($files) WHERE {_REFUSALS[what]} GROUP BY 1"  # noqa: S608
        leaving.refusals = dict(connection.execute(query, {"files": quarantine, **(given if "$value" in query else {})}).fetchall())
    stays = f"SELECT * FROM side WHERE NOT ({_REFUSALS[what]})"  # noqa: S608 (our own SQL)
    if leaving.refusals:
        leaving.rewritten["quarantine"] = lake.side_rewritten(connection, "quarantine", stays, given)
    if what in {"before", "object"} and lake.side_files("feedback_quarantine"):
        lake.show(connection, "feedback_quarantine", "refused_scores")
        query = f"SELECT count(*) FROM refused_scores WHERE {_REFUSALS[what]}"  # noqa: S608 (our own SQL)
        leaving.refused_scores = connection.execute(query, given).fetchone()[0]
        if leaving.refused_scores:
            leaving.rewritten["feedback_quarantine"] = lake.side_rewritten(connection, "feedback_quarantine", stays, given)
    _drop_scores(connection, lake, what, value, leaving)
    touched = sorted({*leaving.rows, *leaving.refusals})
    if touched:
        lost = pa.table(
            {
                "address": pa.array(touched, pa.string()),
                "attempts": pa.array([leaving.rows.get(each, 0) for each in touched], pa.int64()),
                "refusals": pa.array([leaving.refusals.get(each, 0) for each in touched], pa.int64()),
            }
        )
        # Its line stays, or the next ingestion would take the object for a new one.
        leaving.rewritten["ledger"] = lake.side_rewritten(
            connection,
            "ledger",
            f"""SELECT side.* REPLACE (records - coalesce(attempts, 0) - coalesce(refusals, 0) AS records,
                ingested - coalesce(attempts, 0) AS ingested, quarantined - coalesce(refusals, 0) AS quarantined)
            FROM side LEFT JOIN lost ON address = {ADDRESS}""",  # noqa: S608 (our own SQL)
            _first(lake),
            lost=lost,
        )
    return leaving


def _is_in_history(connection: Any, lake: Lake, what: What, value: str) -> bool:
    """Whether a file that only older snapshots hold has such rows: what was computed from it may still be stored."""
    names = [entry.name for entry in lake.home.files.below("lake").entries("data") if entry.name.endswith(".parquet")]
    older = sorted(set(lake.readable(names)) - set(lake.all_files()))
    query = f"SELECT count(*) FROM read_parquet($files, union_by_name=true) WHERE {_ROWS[what]}"  # noqa: S608 (our own SQL)
    return bool(older) and connection.execute(query, {"files": older, "value": value}).fetchone()[0] > 0


def _drop_scores(connection: Any, lake: Lake, what: What, value: str, leaving: _Leaving) -> None:
    """Scores of attempts that go, and of requests none of whose attempts stays; with a moment, all that are older."""
    if not lake.feedback_files() or not (leaving.files or what in {"before", "object"}):
        return
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
    goes = """coalesce(attempt_id IN (SELECT attempt_id FROM gone), false)
        OR coalesce(request_id IN (SELECT request_id FROM gone WHERE request_id IS NOT NULL), false)"""
    given = {}
    if what == "before":
        goes, given = f"{goes} OR scored_at < $value::TIMESTAMP", {"value": value}
    if what == "object":
        theirs = f"SELECT {_SCORES_OBJECT} FROM feedback_ledger WHERE $value IN ({ADDRESS}, {_SCORES_OBJECT})"  # noqa: S608
        goes, given = f"{goes} OR coalesce(source_object IN ({theirs}), false)", {"value": value, **_first(lake)}
    lake.show(connection, "feedback", "scores")
    leaving.scores = connection.execute(f"SELECT count(*) FROM scores WHERE {goes}", given).fetchone()[0]  # noqa: S608 (our own SQL)
    if leaving.scores:
        stays = f"SELECT * FROM side WHERE NOT ({goes})"  # noqa: S608 (our own SQL)
        leaving.rewritten["feedback"] = lake.side_rewritten(connection, "feedback", stays, given)
