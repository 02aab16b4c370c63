"""What lies at a source, beside what the ledger knows of it: a listing of any length, in the engine and not in Python.

Belongs here: holding the listing, leaving out what was read and what was forgotten, handing out the rest a slice at a time.
Does not belong here: listing (`objects`), what an export's manifests say (`manifests`), reading (`ingestion`).

An object that was forgotten is as if it were not listed, whatever lies under its key now: no reader, sensor or command has
to think of it.

A bucket with an object per request grows by millions of names a week. DuckDB keeps them within its memory and on the
home's disk; Python sees one slice.
"""

from __future__ import annotations

import hashlib
import shutil
import tempfile
from collections.abc import Collection, Iterable, Iterator, Sequence
from contextlib import contextmanager
from datetime import date
from functools import partial
from itertools import islice
from pathlib import Path
from typing import Any

from routing_pipeline.ingest.batch import connect
from routing_pipeline.ingest.days_in_keys import DAYS_IN_KEY
from routing_pipeline.ingest.erasure import forgotten_objects
from routing_pipeline.ingest.objects import Source, StoredObject, open_source
from routing_pipeline.lake.side_tables import SideTable
from routing_pipeline.lake.table import Lake
from routing_pipeline.stopping import tidying
from routing_pipeline.storage.home import Home

SLICE_OBJECTS = 50_000
MEMORY_LIMIT = "256MB"

# Not through Arrow, whose arrays load pandas: a second of every start, also when nothing is new.
_SLICE = "SELECT unnest($keys) AS object, unnest($etags) AS etag, unnest($sizes)::BIGINT AS size_bytes, unnest(range($count)) AS number"
_VERSION = "object VARCHAR, etag VARCHAR, size_bytes BIGINT"
_KNOWN = "SELECT object, etag, size_bytes FROM ledger WHERE source = $source"
# A listing that is not consistent may name a key twice.
_UNREAD = f"""CREATE OR REPLACE TABLE unread AS SELECT object, arg_max(etag, place) AS etag, arg_max(size_bytes, place) AS size_bytes
    FROM (SELECT rowid AS place, * FROM listing) ANTI JOIN ({_KNOWN}) AS known USING (object, etag, size_bytes) GROUP BY object"""  # noqa: S608
_MARKED = """CREATE OR REPLACE TABLE unread AS SELECT object, any_value(etag) AS etag, any_value(size_bytes) AS size_bytes
    FROM listing WHERE object IN (SELECT object FROM ledger WHERE source = $source AND etag = $marked) GROUP BY object"""

# What is marked for reading again was picked by the days of its rows; its key may name another.
_OF_OTHER_DAYS = f"""DELETE FROM unread WHERE len({DAYS_IN_KEY}) > 0 AND NOT list_has_any({DAYS_IN_KEY}, $days)
    AND object NOT IN (SELECT object FROM ledger WHERE source = $source AND etag = $marked)"""  # noqa: S608 (our own SQL)


class Backlog:
    """The listing of a source and the part of it that is to be read: tables `listing` and `unread` (object, etag, size_bytes).

    Args:
        connection: A DuckDB connection; the tables are temporary in it.
        lake: Whose ledger says what was read.
        ledger: Which of its ledgers.
        source: What is listed.

    Raises:
        UnusableInputError: no such place, or no permission.
        ServiceUnavailableError: the store does not answer.
    """

    def __init__(self, connection: Any, lake: Lake, ledger: SideTable, source: Source) -> None:
        self.connection = connection
        self.source = source
        self._lake = lake
        self._ledger = ledger
        connection.execute(f"CREATE TABLE listing ({_VERSION})")
        self.listed = 0
        for objects in _slices(source.list_objects()):
            self.listed += len(objects)
            connection.execute(f"INSERT INTO listing SELECT object, etag, size_bytes FROM ({_SLICE})", _columns(objects))  # noqa: S608
        self.forgotten = self._leave_out_forgotten()
        self._lake.show(self.connection, self._ledger, "ledger")
        connection.execute(_UNREAD, {"source": source.uri})
        self.new = self.unread()

    def _leave_out_forgotten(self) -> int:
        """Take out of the listing what was forgotten; gives how many objects."""
        forgotten, ending = forgotten_objects(self._lake), f" in {self.source.uri}"
        is_first = self.source.uri in self._lake.home.sources()[:1]
        keys = forgotten if is_first else set()
        # Scores name their source always, logs only where it is not the home's first (`Home.address`).
        if self._ledger == "feedback_ledger" or not is_first:
            keys = keys | {value.removesuffix(ending) for value in forgotten if value.endswith(ending)}
        if not keys:
            return 0
        gone = self.connection.execute("DELETE FROM listing WHERE object IN (SELECT unnest($keys))", {"keys": sorted(keys)})
        return int(gone.fetchone()[0])

    def unread(self) -> int:
        """How many objects are to be read."""
        return int(self.connection.execute("SELECT count(*) FROM unread").fetchone()[0])

    def size_bytes(self) -> int:
        """How large the objects are together that are to be read."""
        return int(self.connection.execute("SELECT coalesce(sum(size_bytes), 0) FROM unread").fetchone()[0])

    def leave_out_other_days(self, days: Collection[date], marked: str) -> None:
        """From now on, nothing is to be read whose key names days and none of these, but what the ledger holds under the ETag `marked`."""
        asked = [day.isoformat() for day in days]
        self.connection.execute(_OF_OTHER_DAYS, {"days": asked, "source": self.source.uri, "marked": marked})

    def turn_to_marked(self, etag: str) -> None:
        """From now on, what is to be read is what the ledger holds under this ETag."""
        self._lake.show(self.connection, self._ledger, "ledger")
        self.connection.execute(_MARKED, {"source": self.source.uri, "marked": etag})

    def objects(
        self, condition: str = "true", parameters: dict[str, Any] | None = None, *, table: str = "unread"
    ) -> Iterator[StoredObject]:
        """By key; `condition` is SQL in words of ours."""
        for each in self.slices(condition, parameters, table=table):
            yield from each

    def slices(
        self, condition: str = "true", parameters: dict[str, Any] | None = None, *, table: str = "unread"
    ) -> Iterator[list[StoredObject]]:
        """As `objects`, many at a time; what is taken from `unread` in between is not handed out."""
        last: str | None = None
        while True:
            # Each slice asks anew: a result that is being read would block the connection for everything else.
            after = "true" if last is None else "object > $last"
            rows = self.connection.execute(
                f"SELECT object, etag, size_bytes FROM {table} WHERE {after} AND ({condition}) ORDER BY object LIMIT {SLICE_OBJECTS}",  # noqa: S608
                {**(parameters or {}), **({} if last is None else {"last": last})},
            ).fetchall()
            if not rows:
                return
            yield [StoredObject(*row) for row in rows]
            last = rows[-1][0]

    def digest(self) -> str:
        """Of the objects that are to be read, in this version."""
        digest = hashlib.sha256(self.source.uri.encode())
        for each in self.objects():
            digest.update(repr((each.key, each.etag, each.size_bytes)).encode())
        return digest.hexdigest()


@contextmanager
def open_backlog(lake: Lake, ledger: SideTable, source: Source) -> Iterator[Backlog]:
    """List a source; raises what `Backlog` raises."""
    lake.home.scratch.mkdir(parents=True, exist_ok=True)
    with (
        tempfile.TemporaryDirectory(prefix="listing-", dir=lake.home.scratch, ignore_cleanup_errors=True) as folder,
        tidying(partial(shutil.rmtree, folder, ignore_errors=True)),
        connect(Path(folder), memory=MEMORY_LIMIT) as connection,
    ):
        yield Backlog(connection, lake, ledger, source)


def holds_nothing_new(home: Home, ledger: SideTable, uri: str) -> bool:
    """Whether a source that this home has read before holds what it held then; raises what listing raises."""
    source = open_source(uri, exclude=home.root)
    lake = Lake(home)
    if not lake.side_files(ledger):
        return False
    with open_backlog(lake, ledger, source) as backlog:
        return backlog.listed > 0 and not backlog.new


def unknown_objects(connection: Any, lake: Lake, ledger: SideTable, source: Source, listed: Sequence[StoredObject]) -> list[StoredObject]:
    """Those of a slice that the ledger does not hold in this version."""
    known = _in_ledger(connection, lake, ledger, source, listed, "object, etag, size_bytes")
    return [each for number, each in enumerate(listed) if number not in known]


def known_keys(connection: Any, lake: Lake, ledger: SideTable, source: Source, listed: Sequence[StoredObject]) -> set[str]:
    """Keys of a slice that the ledger holds, in whatever version."""
    known = _in_ledger(connection, lake, ledger, source, listed, "object")
    return {each.key for number, each in enumerate(listed) if number in known}


def _in_ledger(connection: Any, lake: Lake, ledger: SideTable, source: Source, listed: Sequence[StoredObject], by: str) -> set[int]:
    if not listed:
        return set()
    lake.show(connection, ledger, "ledger")
    query = f"SELECT number FROM ({_SLICE}) SEMI JOIN ({_KNOWN}) AS known USING ({by})"  # noqa: S608 (our own SQL)
    rows = connection.execute(query, {"source": source.uri, **_columns(listed)}).fetchall()
    return {number for (number,) in rows}


def _slices(objects: Iterable[StoredObject]) -> Iterator[list[StoredObject]]:
    every = iter(objects)
    while part := list(islice(every, SLICE_OBJECTS)):
        yield part


def _columns(objects: Sequence[StoredObject]) -> dict[str, Any]:
    return {
        "keys": [each.key for each in objects],
        "etags": [each.etag for each in objects],
        "sizes": [each.size_bytes for each in objects],
        "count": len(objects),
    }
