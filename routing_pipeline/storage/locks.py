"""What all writers and readers of one lake must agree on: who writes now, and a few words that are fixed once.

Belongs here: the lock, and small texts by name (sources, the key of user hashes, when sources were looked at), in the home's
folder or, where workers come and go, in Postgres. Does not belong here: files (`storage`), what the texts mean (`home`,
`alerts.watermark`).

An address of Postgres holds a password. Messages name host and database and nothing else, and what the driver said is
dropped, because it may quote the address.
"""

from __future__ import annotations

import contextlib
import fcntl
import os
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Protocol
from urllib.parse import urlsplit

from routing_pipeline.errors import ServiceUnavailableError, UnusableInputError
from routing_pipeline.extras import check_installed
from routing_pipeline.storage.files import write_whole

LAKE_LOCK = "lake.lock"
"""Made by the first who writes to the lake of a folder, and left there: taken away, two could hold it at once."""
LOCK = 0x726F7574_696E67
"""Number of the advisory lock in the catalog's database: 'routing'."""
ASK_AGAIN_S = 0.3
CONNECT_TIMEOUT_S = 10
SCHEMES = ("postgresql://", "postgres://")

_CREATE = "CREATE TABLE IF NOT EXISTS routing_pipeline_state (name text PRIMARY KEY, value text NOT NULL)"
_READ = "SELECT value FROM routing_pipeline_state WHERE name = %s"
_WRITE_FIRST = "INSERT INTO routing_pipeline_state VALUES (%s, %s) ON CONFLICT (name) DO NOTHING"
_LOCKED = "SELECT value FROM routing_pipeline_state WHERE name = %s FOR UPDATE"
_WRITE = "INSERT INTO routing_pipeline_state VALUES (%s, %s) ON CONFLICT (name) DO UPDATE SET value = EXCLUDED.value"
# Where a machine dies without a word, the server would hold its lock for two hours.
_WATCHED = "SET tcp_keepalives_idle = 30; SET tcp_keepalives_interval = 10; SET tcp_keepalives_count = 3"

_held: dict[tuple[int, str], Any] = {}
"""Connections that hold the lock, by process and address."""


class Coordination(Protocol):
    """Texts by name, and one lock."""

    def read(self, name: str) -> str | None:
        """The text; None when there is none."""

    def write(self, name: str, text: str) -> None:
        """Replace a text."""

    def write_first(self, name: str, text: str) -> str:
        """Write a text unless there is one; gives the one that stands."""

    def change(self, name: str, changed: Callable[[str | None], str]) -> None:
        """Replace a text by what `changed` makes of it; of two who do so at once, the second is given what the first wrote."""

    def lock(self, on_wait: Callable[[], None]) -> contextlib.AbstractContextManager[None]:
        """Hold the lock; calls `on_wait` when somebody else does, and waits. A process that dies lets go of it."""

    def check_lock(self) -> None:
        """Raises ServiceUnavailableError when a lock that this process took was lost on the way."""


class InFolder:
    """Files of one machine."""

    def __init__(self, root: Path) -> None:
        self.root = root

    def read(self, name: str) -> str | None:
        """A file's text."""
        try:
            return (self.root / name).read_text(encoding="utf-8")
        except FileNotFoundError:
            return None

    def write(self, name: str, text: str) -> None:
        """Whole."""
        write_whole(self.root / name, text.encode())

    def write_first(self, name: str, text: str) -> str:
        """Readable by its owner only: it may be a key."""
        path = self.root / name
        with self._texts_locked():
            if not path.exists():
                write_whole(path, text.encode(), mode=0o600)
        return path.read_text(encoding="utf-8")

    def change(self, name: str, changed: Callable[[str | None], str]) -> None:
        """Not under the lake's lock, which an ingestion may hold for an hour."""
        with self._texts_locked():
            self.write(name, changed(self.read(name)))

    @contextmanager
    def _texts_locked(self) -> Iterator[None]:
        self.root.mkdir(parents=True, exist_ok=True)
        with (self.root / "first.lock").open("w") as file:
            fcntl.flock(file, fcntl.LOCK_EX)
            yield

    @contextmanager
    def lock(self, on_wait: Callable[[], None]) -> Iterator[None]:
        """A lock of the system's, which it takes back when the process dies."""
        self.root.mkdir(parents=True, exist_ok=True)
        with (self.root / LAKE_LOCK).open("w") as file:
            try:
                fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                on_wait()
                fcntl.flock(file, fcntl.LOCK_EX)
            try:
                yield
            finally:
                fcntl.flock(file, fcntl.LOCK_UN)

    def check_lock(self) -> None:
        """It cannot be lost."""


class InPostgres:
    """A table of the catalog's database, and a session's advisory lock. A pool that shares sessions must not stand between.

    Raises, in every method:
        UnusableInputError: the address is none of Postgres, or the server refuses it.
        ServiceUnavailableError: the server does not answer.
    """

    def __init__(self, uri: str) -> None:
        if not uri.startswith(SCHEMES):
            raise UnusableInputError("ROUTING_PIPELINE_CATALOG: give postgresql://user:password@host:port/database")
        self._uri = uri

    @property
    def place(self) -> str:
        """Host and database, for people to read; never who asks, nor how they prove it."""
        parts = urlsplit(self._uri)
        return f"{parts.netloc.rpartition('@')[2]}{parts.path}"

    @property
    def sqlalchemy_uri(self) -> str:
        """The same address for SQLAlchemy, whose default driver is another one."""
        return f"postgresql+psycopg2://{self._uri.partition('://')[2]}"

    def prepare(self) -> None:
        """Make the table; raises when the database cannot be used."""
        with self._session() as cursor:
            cursor.execute("SELECT pg_advisory_xact_lock(%s)", (LOCK + 1,))  # CREATE IF NOT EXISTS may collide with itself
            cursor.execute(_CREATE)

    def read(self, name: str) -> str | None:
        """One row."""
        with self._session() as cursor:
            cursor.execute(_READ, (name,))
            found = cursor.fetchone()
        return None if found is None else str(found[0])

    def write(self, name: str, text: str) -> None:
        """One row."""
        with self._session() as cursor:
            cursor.execute(_WRITE, (name, text))

    def write_first(self, name: str, text: str) -> str:
        """One row, and whose it is."""
        with self._session() as cursor:
            cursor.execute(_WRITE_FIRST, (name, text))
            cursor.execute(_READ, (name,))
            return str(cursor.fetchone()[0])

    def change(self, name: str, changed: Callable[[str | None], str]) -> None:
        """The row is locked until it is written; one that is not there yet is made first, so that there is something to lock."""
        with self._session() as cursor:
            cursor.execute(_WRITE_FIRST, (name, ""))
            cursor.execute(_LOCKED, (name,))
            cursor.execute(_WRITE, (name, changed(str(cursor.fetchone()[0]) or None)))

    def metadata_location(self, catalog: str, namespace: str, table: str) -> str | None:
        """Where Iceberg's catalog says that a table's newest metadata lie; None without such a table."""
        with self._session() as cursor:
            cursor.execute("SELECT to_regclass('iceberg_tables') IS NOT NULL")
            if not cursor.fetchone()[0]:
                return None
            cursor.execute(
                "SELECT metadata_location FROM iceberg_tables WHERE catalog_name = %s AND table_namespace = %s AND table_name = %s",
                (catalog, namespace, table),
            )
            found = cursor.fetchone()
        return None if found is None else str(found[0])

    @contextmanager
    def lock(self, on_wait: Callable[[], None]) -> Iterator[None]:
        """A lock of the session: it is gone with the connection. Asked for again and again, so that a wait can be interrupted."""
        connection = self._connected()
        try:
            connection.autocommit = True
            with self.explained(), connection.cursor() as cursor:
                cursor.execute(_WATCHED)
                waiting = False
                while not _locked(cursor):
                    if not waiting:
                        on_wait()
                    waiting = True
                    time.sleep(ASK_AGAIN_S)
            _held[os.getpid(), self._uri] = connection
            yield
        finally:
            _held.pop((os.getpid(), self._uri), None)
            connection.close()

    def check_lock(self) -> None:
        """Asks over the connection that holds it."""
        connection = _held.get((os.getpid(), self._uri))
        if connection is None:
            return
        import psycopg2

        try:
            with connection.cursor() as cursor:
                cursor.execute("SELECT 1")
        except psycopg2.Error:
            raise ServiceUnavailableError(
                f"the connection to Postgres at {self.place} broke off, and with it the lock of the lake; nothing more was written: run again"
            ) from None

    @contextmanager
    def _session(self) -> Iterator[Any]:
        """A cursor in a transaction on a connection of its own: a handful a minute, and none survives a fork."""
        with self.explained(), contextlib.closing(self._connected()) as connection, connection, connection.cursor() as cursor:
            yield cursor

    def _connected(self) -> Any:
        check_installed("postgres", "ROUTING_PIPELINE_CATALOG")
        import psycopg2

        with self.explained():
            return psycopg2.connect(
                self._uri,
                connect_timeout=CONNECT_TIMEOUT_S,
                application_name="routing-pipeline",
                keepalives_idle=30,
                keepalives_interval=10,
                keepalives_count=3,
            )

    @contextmanager
    def explained(self) -> Iterator[None]:
        """Let errors of the database end in one line without a secret, psycopg2's own or inside SQLAlchemy's."""
        try:
            yield
        except Exception as error:
            explained = self._explained(error)
            if explained is None:
                raise
        else:
            return
        # Outside of the handler: not even as a context does the driver's error go along, it may quote the address.
        raise explained

    def _explained(self, error: Exception) -> ServiceUnavailableError | UnusableInputError | None:
        cause: Any = getattr(error, "orig", None) or error
        if not type(cause).__module__.startswith("psycopg2"):
            return None
        said = str(cause)
        if "authentication failed" in said or "no password supplied" in said or "no pg_hba.conf entry" in said:
            return UnusableInputError(
                f"Postgres at {self.place} refused the user or the password; check ROUTING_PIPELINE_CATALOG and pg_hba.conf"
            )
        if 'database "' in said and "does not exist" in said:
            return UnusableInputError(f"Postgres at {self.place}: there is no such database; create it")
        if type(cause).__name__ == "InsufficientPrivilege":
            return UnusableInputError(f"Postgres at {self.place}: the user may not create or write tables; grant it CREATE on the schema")
        if type(cause).__name__ == "ProgrammingError" and cause.pgcode is None:
            return UnusableInputError("ROUTING_PIPELINE_CATALOG cannot be read; give postgresql://user:password@host:port/database")
        if (
            type(cause).__name__ in {"OperationalError", "InterfaceError"}
            or isinstance(cause, OSError)
            or (cause.pgcode or "")[:2] in _DOWN
        ):
            return ServiceUnavailableError(f"Postgres at {self.place} does not answer; check that it is up and ROUTING_PIPELINE_CATALOG")
        return None


_DOWN = {"08", "53", "57"}
"""SQLSTATE classes: connection lost, out of resources, shutting down."""


def _locked(cursor: Any) -> bool:
    cursor.execute("SELECT pg_try_advisory_lock(%s)", (LOCK,))
    return bool(cursor.fetchone()[0])
