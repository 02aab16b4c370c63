"""One batch of staged files: conformed, refused, cleared of duplicates, written as Parquet by UTC day.

Belongs here: everything that touches the rows of a batch, in DuckDB. Does not belong here: what fields mean (`formats`),
reasons in words (`quarantine`), the commit (`lake`).

One typed pass reads everything at full speed and in order; a malformed line becomes a row of nulls, which every format
refuses. Where a refused row stands among the rows of its file is where its line stands among the lines: only these lines are
looked at again, to say which record and why, and to take out the records that the fast pass could not see. The two passes must
agree; where they do not, the file is read the slow way.
"""

from __future__ import annotations

import os
import shutil
from collections import Counter
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from routing_pipeline.ingest.formats.log_format import DERIVED_COLUMNS, NULLABLE_WHEN_OUT_OF_RANGE, LogFormat
from routing_pipeline.ingest.packs import Packs, StagedFile
from routing_pipeline.ingest.parquet_files import parquet_source, row_count
from routing_pipeline.ingest.quarantine import (
    READ_JSON,
    Judgement,
    Refused,
    Taken,
    explain,
    read_slowly,
    write_wronged,
)
from routing_pipeline.ingest.staging.stager import SLICE_BYTES, Batch
from routing_pipeline.schema import DUCKDB_TYPE, REQUEST_LOG
from routing_pipeline.storage.memory_limit import megabytes, memory_limit

MAX_THREADS = 8
MB_PER_THREAD = 125.0
"""Each thread holds buffers for the longest line; more of them would not fit into the memory."""

COMPRESSION_LEVEL = 1
"""Of zstd for rows: measured, it takes half the time of its default and less room, as columns of a log repeat themselves near by."""

_COLUMNS = [column for column in REQUEST_LOG if column.name not in DERIVED_COLUMNS]
_CREATE = f"""CREATE OR REPLACE TEMP TABLE conformed (
    {", ".join(f"{column.name} {DUCKDB_TYPE[column.type]}" for column in _COLUMNS)},
    _nulled INTEGER, _shared_call_id VARCHAR, _lone_id VARCHAR, _fallbacks BIGINT, _reason VARCHAR, _is_left_out BOOLEAN, _format VARCHAR, _object INTEGER,
    _file INTEGER)"""

_REPEATED = """SELECT place FROM (
        SELECT rowid AS place, row_number() OVER (PARTITION BY attempt_id ORDER BY _object, _file, rowid) AS nth FROM conformed
        WHERE attempt_id IN (SELECT attempt_id FROM conformed GROUP BY attempt_id HAVING count(*) > 1)) WHERE nth > 1"""
_IN_LAKE = """SELECT conformed.rowid AS place FROM conformed SEMI JOIN (
        SELECT attempt_id FROM read_parquet($files) WHERE started_at BETWEEN $low AND $high{}) AS lake USING (attempt_id)"""
_NOT_SUPERSEDED = " AND source_object NOT IN (SELECT unnest($superseded))"

# An SDK gives every attempt its own call id and groups them by trace; a call id seen in two attempts means a proxy.
_GROUP_BY_CALL = """UPDATE conformed SET request_id = _shared_call_id WHERE _shared_call_id IN (
        SELECT _shared_call_id FROM conformed WHERE _shared_call_id IS NOT NULL GROUP BY 1 HAVING count(*) > 1)"""
# A trace that holds one call is named by it; one that holds several (an agent's) names none of them.
_NAME_BY_LONE_ID = """UPDATE conformed SET request_id = _lone_id WHERE _lone_id IN (
        SELECT _lone_id FROM conformed WHERE _lone_id IS NOT NULL GROUP BY 1 HAVING count(*) = 1)"""
_NOT_NAMED_BEFORE = (
    " AND _lone_id NOT IN (SELECT request_id FROM read_parquet($files) WHERE source_object NOT IN (SELECT unnest($superseded)))"
)
_FAILED = "SELECT request_id, attempt_id, started_at, model, status FROM {} WHERE status <> 'success'"
_FAILED_HERE = _FAILED.format("conformed")
_FAILED_IN_LAKE = _FAILED.format("read_parquet($files)")
_FALLBACK_FROM = """UPDATE conformed SET fallback_from = failed.model FROM (
        SELECT later.rowid AS place, arg_max(earlier.model, (earlier.started_at, earlier.attempt_id)) AS model
        FROM conformed AS later JOIN ({}) AS earlier ON earlier.request_id = later.request_id
            AND earlier.started_at <= later.started_at AND earlier.attempt_id <> later.attempt_id
        WHERE later._fallbacks > 0 OR (later._fallbacks IS NULL AND later.status = 'success' AND earlier.model <> later.model)
        GROUP BY 1) AS failed WHERE conformed.rowid = failed.place AND conformed.fallback_from IS NULL"""


@dataclass
class Outcome:
    """What became of a batch. `rows` and `duplicates` count by number of the object, `left_out` also by what it is; `nulled` by column."""

    rows: Counter[int] = field(default_factory=Counter)
    duplicates: Counter[int] = field(default_factory=Counter)
    refused: list[Refused] = field(default_factory=list)
    nulled: Counter[str] = field(default_factory=Counter)
    left_out: Counter[tuple[int, str]] = field(default_factory=Counter)
    formats: dict[int, set[str]] = field(default_factory=dict)
    span_us: tuple[int, int] | None = None


def connect(spill_to: Path, *, memory: str = "", threads: int | None = None) -> Any:
    """An embedded DuckDB that reaches for no network and stays within its memory (`storage.memory_limit` unless given); as many `threads` as cores unless given."""
    import duckdb

    spill_to.mkdir(parents=True, exist_ok=True)
    memory = memory or memory_limit()
    return duckdb.connect(
        ":memory:",
        config={
            "memory_limit": memory,
            "threads": threads or max(min(os.cpu_count() or 1, MAX_THREADS, int(megabytes(memory) / MB_PER_THREAD)), 1),
            "temp_directory": str(spill_to),
            "autoinstall_known_extensions": False,
            "autoload_known_extensions": False,
            "preserve_insertion_order": False,
        },
    )


class BatchConformer:
    """Conforms batches one after another on one connection.

    Args:
        connection: From `connect`.
        now_s: Now, seconds since 1970: what is later than an hour from it is refused; also `ingested_at`.
        hash_key: The home's key for user identifiers.
        asked: The format that was asked for; None where it is told by content.
    """

    def __init__(self, connection: Any, *, now_s: float, hash_key: str, asked: LogFormat | None = None) -> None:
        self.connection = connection
        self.asked = asked
        self.now_s = now_s
        self.hash_key = hash_key
        connection.execute("SET enable_progress_bar = false")
        connection.execute("SET TimeZone = 'UTC'")

    def conform(self, batch: Batch, scratch: Path) -> Outcome:
        """Read the batch into the connection's table `conformed`, without what is refused or repeated within it."""
        self.connection.execute(_CREATE)
        outcome = Outcome(refused=list(batch.refused), left_out=batch.left_out.copy())
        # What the second look writes.
        again = scratch / "again"
        again.mkdir()
        files = dict(enumerate(batch.files))
        regained = Packs(again, "regained", SLICE_BYTES)
        for group in _groups(list(files.items())):
            if self._read(group) is not None:
                for number, staged in group:
                    self._read_alone(number, staged, regained, outcome)
        for number in sorted(self._settle(files, again, regained, outcome)):
            self.connection.execute("DELETE FROM conformed WHERE _file = $file", {"file": number})
            self._read_slowly(files[number], regained, outcome)
        taken = dict(enumerate(regained.closed(), len(files)))
        self._read_taken(taken, again, outcome)
        self._take_left_out([*files.values(), *taken.values()], outcome)
        shutil.rmtree(again)
        if self._one("SELECT count(*) - count(DISTINCT attempt_id) FROM conformed"):
            self._drop(_REPEATED, {}, outcome)
        for staged in (*files.values(), *taken.values()):
            for number in staged.objects():
                outcome.formats.setdefault(number, set()).add(staged.format.name)
        low, high = self.connection.execute("SELECT epoch_us(min(started_at)), epoch_us(max(started_at)) FROM conformed").fetchone()
        outcome.span_us = None if low is None else (low, high)
        return outcome

    def write_conformed(self, path: Path) -> None:
        """What `conform` left in the table, for `read_conformed` of another one."""
        self.connection.sql("FROM conformed").write_parquet(str(path), compression="zstd")

    def read_conformed(self, path: Path) -> None:
        """In place of `conform`: the table as another one wrote it."""
        self.connection.execute(_CREATE)
        self.connection.execute("INSERT INTO conformed SELECT * FROM read_parquet($file)", {"file": str(path)})

    def has_open_relations(self) -> bool:
        """Whether `finish` might have done otherwise with attempts of the same requests in other batches."""
        condition = "_lone_id IS NOT NULL OR (_fallbacks > 0 AND fallback_from IS NULL)"
        return bool(self._one(f"SELECT count(*) FROM conformed WHERE {condition}"))  # noqa: S608 (our own SQL)

    def meets(self, column: str, written: Sequence[str], files: Sequence[str]) -> bool:
        """Whether a value of `attempt_id` or `request_id` in files that `finish` wrote stands in other ones."""
        query = f"FROM read_parquet($written) SEMI JOIN (SELECT {column} FROM read_parquet($files)) AS others USING ({column})"  # noqa: S608
        return bool(files and written) and bool(
            self._one(f"SELECT count(*) FROM ({query})", {"written": list(written), "files": list(files)})  # noqa: S608 (our own SQL)
        )

    def drop_known(self, files: Sequence[str], outcome: Outcome, superseded: Collection[str] = ()) -> None:
        """Take out the attempts that `files`, of the lake or waiting to be committed, hold already.

        `superseded`: what the lake calls objects whose rows in it are about to leave; these do not count.
        """
        if not files or outcome.span_us is None:
            return
        low, high = (self._one("SELECT make_timestamp($us)", {"us": us}) for us in outcome.span_us)
        parameters: dict[str, Any] = {"files": list(files), "low": low, "high": high}
        if superseded:
            parameters["superseded"] = list(superseded)
        self._drop(_IN_LAKE.format(_NOT_SUPERSEDED if superseded else ""), parameters, outcome)

    def finish(self, outcome: Outcome, keys: dict[int, str], folder: Path, around: Sequence[str], superseded: Collection[str] = ()) -> None:
        """Relate attempts of one request to each other, count, and write what is left below `folder`, by UTC day.

        `around`: files that may hold other attempts of the same requests or traces; `superseded` as in `drop_known`.
        """
        if self._one("SELECT count(_shared_call_id) FROM conformed"):
            self.connection.execute(_GROUP_BY_CALL)
        if self._one("SELECT count(_lone_id) FROM conformed"):
            known = {"files": list(around), "superseded": list(superseded)} if around else {}
            self.connection.execute(_NAME_BY_LONE_ID + (_NOT_NAMED_BEFORE if around else ""), known)
        if self._one("SELECT count(*) FROM conformed WHERE status <> 'success'"):
            self.connection.execute(_FALLBACK_FROM.format(_FAILED_HERE))
        if around and self._one("SELECT count(*) FROM conformed WHERE _fallbacks > 0 AND fallback_from IS NULL"):
            self.connection.execute(_FALLBACK_FROM.format(_FAILED_IN_LAKE), {"files": list(around)})
        outcome.rows.update(dict(self._rows("SELECT _object, count(*) FROM conformed GROUP BY 1")))
        for mask, count in self._rows("SELECT _nulled, count(*) FROM conformed WHERE _nulled <> 0 GROUP BY 1"):
            for bit, name in enumerate(NULLABLE_WHEN_OUT_OF_RANGE):
                if mask >> bit & 1:
                    outcome.nulled[name] += count
        if outcome.rows:
            self._write(keys, folder)

    def _write(self, keys: dict[int, str], folder: Path) -> None:
        import pyarrow as pa

        names = pa.table({"_number": pa.array(list(keys), pa.int32()), "_key": pa.array(list(keys.values()), pa.string())})
        self.connection.register("_keys", names)
        # One statement: a relation with parameters is evaluated into memory before it is written.
        self.connection.execute(
            f"""COPY (SELECT {", ".join(column.name for column in _COLUMNS)}, _format AS source_format, _key AS source_object,
                make_timestamp({int(self.now_s * 1e6)}) AS ingested_at, strftime(started_at, '%Y-%m-%d') AS day
            FROM conformed JOIN _keys ON _number = _object) TO {_quoted(folder)}
            (FORMAT parquet, COMPRESSION zstd, COMPRESSION_LEVEL {COMPRESSION_LEVEL}, PARTITION_BY (day))"""  # noqa: S608 (names from our schema)
        )
        self.connection.unregister("_keys")
        # Out of the day=... folders: readers would take their names for a column.
        for place, path in enumerate(sorted(folder.glob("day=*/*.parquet"))):
            path.rename(folder / f"{path.parent.name.removeprefix('day=')}-{place}.parquet")
        for emptied in folder.glob("day=*"):
            emptied.rmdir()

    def _read(self, group: list[tuple[int, StagedFile]]) -> Exception | None:
        """Append files of one kind; the error, and nothing appended, when DuckDB cannot read one of them."""
        import duckdb
        import pyarrow as pa

        first = group[0][1]
        log_format = first.format
        columns = dict(log_format.json_columns)
        if first.object is None:
            columns["__object"] = "INTEGER"
        parameters: dict[str, Any] = {"files": [str(staged.path) for _, staged in group], "now_s": self.now_s}
        if "$hash_key" in log_format.select_list():
            parameters["hash_key"] = self.hash_key
        if first.is_parquet:
            source = parquet_source(first.path, log_format)
        else:
            source = READ_JSON
            parameters["columns"] = columns
        self.connection.register("_files", pa.table({"_name": pa.array(parameters["files"], pa.string())}))
        # Numbered by the places of their names in a type, and not by a join: that may take rows out of their order, by which the
        # second pass finds those that are refused.
        self.connection.execute("CREATE OR REPLACE TEMP TYPE _file_name AS ENUM (SELECT _name FROM _files)")
        place = "enum_code(filename::_file_name) + 1"
        parameters |= {"numbers": [number for number, _ in group], "format": log_format.name}
        object_column = "__object"
        if first.object is not None:
            object_column = f"$objects[{place}]"
            parameters["objects"] = [staged.object for _, staged in group]
        self.connection.execute("SET preserve_insertion_order = true")
        try:
            self.connection.execute(
                f"""INSERT INTO conformed SELECT {log_format.select_list()}, {log_format.reject_reason},
                    coalesce({log_format.ignores}, false), $format, {object_column}, $numbers[{place}] FROM ({log_format.prepared(source)})""",  # noqa: S608 (our own SQL)
                parameters,
            )
        except duckdb.Error as error:
            return error
        finally:
            self.connection.execute("SET preserve_insertion_order = false")
            self.connection.unregister("_files")
        return None

    def _read_alone(self, number: int, staged: StagedFile, regained: Packs, outcome: Outcome) -> None:
        if self._read([(number, staged)]) is not None:
            self._read_slowly(staged, regained, outcome)

    def _read_slowly(self, staged: StagedFile, regained: Packs, outcome: Outcome) -> None:
        """The slow way for a file that the fast one cannot read, or reads otherwise than the second look."""
        if staged.is_parquet and staged.object is not None:
            reason = "Parquet file that cannot be read; upload the object again"
            outcome.refused.append(Refused(staged.object, None, reason, None, records=row_count(staged.path)))
            return
        for taken in read_slowly(staged, self.asked):
            self._account(taken, regained, outcome)

    def _read_taken(self, files: dict[int, StagedFile], again: Path, outcome: Outcome) -> None:
        """What was taken out of other files: nothing else can be in it any more."""
        for group in _groups(list(files.items())):
            error = self._read(group)
            if error is not None:
                raise RuntimeError(f"records cannot be read back ({group[0][1].format.name})") from error
        if disagreed := self._settle(files, again, Packs(again, "nothing", SLICE_BYTES), outcome):
            raise RuntimeError(f"the two passes disagree on what to refuse ({files[min(disagreed)].format.name})")

    def _account(self, taken: Taken, regained: Packs, outcome: Outcome) -> None:
        taken.pack(regained)
        outcome.refused += taken.refused
        outcome.left_out.update(taken.left_out)

    def _settle(self, files: dict[int, StagedFile], again: Path, regained: Packs, outcome: Outcome) -> set[int]:
        """Put reasons in the place of the files' refused rows; gives the files on which the passes disagree, of which nothing is accounted."""
        judged = self._judged(files)
        if doubtful := [number for number, each in judged.items() if each.wronged or not each.agrees]:
            judged = {number: each for number, each in judged.items() if number not in doubtful}
            judged |= self._judged(self._read_in_order({number: files[number] for number in doubtful}))
        if not judged:
            return set()
        agreed = [number for number, each in judged.items() if each.agrees]
        self.connection.execute("DELETE FROM conformed WHERE _reason IS NOT NULL AND _file IN (SELECT unnest($files))", {"files": agreed})
        wronged = []
        for number in agreed:
            if judged[number].wronged:
                packs = Packs(again, f"wronged-{number}", SLICE_BYTES)
                write_wronged(files[number], judged[number].wronged, packs)
                wronged += [(number, staged) for staged in packs.closed()]
        disagreed = judged.keys() - set(agreed)
        for group in _groups(wronged):
            if self._read(group) is not None:
                disagreed |= {number for number, _ in group}
        disagreed |= self._refused(dict(wronged)).keys()
        for number, each in judged.items():
            if number not in disagreed:
                self._account(each, regained, outcome)
        return disagreed

    def _judged(self, files: Mapping[int, StagedFile]) -> dict[int, Judgement]:
        """A second look at what was refused of each file of which something was."""
        refused = self._refused(files)
        judged = explain(self.connection, files, self.now_s, refused, self.asked)
        for number, each in judged.items():
            each.agrees &= each.looked_at == len(refused[number])
        return judged

    def _read_in_order(self, files: dict[int, StagedFile]) -> dict[int, StagedFile]:
        """Read files again by one thread; gives them back.

        Several threads may take a file's last line, or lines where pieces of a file meet, out of their place, whatever DuckDB is
        told of order; the second look then looks at other lines than those that were refused.
        """
        threads = self._one("SELECT current_setting('threads')")
        self.connection.execute("DELETE FROM conformed WHERE _file IN (SELECT unnest($files))", {"files": list(files)})
        self.connection.execute("SET threads = 1")
        try:
            for group in _groups(list(files.items())):
                error = self._read(group)
                if error is not None:
                    raise RuntimeError(f"records cannot be read again ({group[0][1].format.name})") from error
        finally:
            self.connection.execute(f"SET threads = {int(threads)}")
        return files

    def _take_left_out(self, files: Iterable[StagedFile], outcome: Outcome) -> None:
        called = {staged.format.name: staged.format.left_out for staged in files if staged.format.ignores != "false"}
        if called:
            rows = self._rows("SELECT _object, _format, count(*) FROM conformed WHERE _is_left_out GROUP BY ALL")
            for number, name, count in rows:
                outcome.left_out[number, called[name]] += count
            self.connection.execute("DELETE FROM conformed WHERE _is_left_out")

    def _refused(self, files: Collection[int]) -> dict[int, dict[int, str]]:
        """By file, the reasons of the fast pass by the place of their rows in it, counted from 1."""
        found: dict[int, dict[int, str]] = {}
        rows = self.connection.execute(
            """SELECT _file, place, _reason FROM (
                SELECT _file, _reason, rowid - min(rowid) OVER (PARTITION BY _file) + 1 AS place FROM conformed
                WHERE _file IN (SELECT _file FROM conformed WHERE _reason IS NOT NULL) AND _file IN (SELECT unnest($files)))
            WHERE _reason IS NOT NULL ORDER BY 1, 2""",
            {"files": list(files)},
        ).fetchall()
        for number, place, reason in rows:
            found.setdefault(number, {})[place] = reason
        return found

    def _drop(self, places: str, parameters: dict[str, Any], outcome: Outcome) -> None:
        """Delete the rows that the query names by rowid, and count them as duplicates."""
        self.connection.execute(f"CREATE OR REPLACE TEMP TABLE dropped AS {places}", parameters)
        outcome.duplicates.update(
            dict(self._rows("SELECT _object, count(*) FROM conformed WHERE rowid IN (SELECT place FROM dropped) GROUP BY 1"))
        )
        self.connection.execute("DELETE FROM conformed WHERE rowid IN (SELECT place FROM dropped)")

    def _rows(self, query: str) -> list[tuple[Any, ...]]:
        found: list[tuple[Any, ...]] = self.connection.execute(query).fetchall()
        return found

    def _one(self, query: str, parameters: dict[str, Any] | None = None) -> Any:
        return self.connection.execute(query, parameters or {}).fetchone()[0]


def _quoted(path: Path) -> str:
    return "'" + str(path).replace("'", "''") + "'"


def _groups(files: list[tuple[int, StagedFile]]) -> list[list[tuple[int, StagedFile]]]:
    """Files that one statement can read: same format, packs apart, each Parquet file alone (its columns are its own)."""
    groups: dict[tuple[LogFormat | str, bool, int], list[tuple[int, StagedFile]]] = {}
    for number, staged in files:
        groups.setdefault((staged.format.name, staged.object is None, number if staged.is_parquet else -1), []).append((number, staged))
    return list(groups.values())
