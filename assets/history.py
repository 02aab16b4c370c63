"""Dagster's history in the home, written by a process that runs one job and ends: what the command line does.

Belongs here: SQLite files that stay open. The files are Dagster's own, and `dagster dev` with the same DAGSTER_HOME reads them.
Does not belong here: what is written.

Dagster's own storage opens and closes a database, sets up SQLAlchemy for it and waits for the disk, several times for each
of some four hundred events of a run: most of the time of a run that finds nothing new. Held open, and with its log written
ahead, `synchronous = NORMAL` keeps a database whole; a power cut may cost the last events.

What is private to Dagster here, and only here: its event log in SQLite has no public name, and no setting that keeps connections
open. Its other storages do not fit: that in memory leaves no history behind, and Postgres asks for a server.
`tests/glue/test_history.py` holds this one to what Dagster itself writes and reads.
"""

import contextlib
import os
from collections.abc import Callable, Iterator
from typing import Any

import sqlalchemy
from dagster._core.storage.event_log import SqliteEventLogStorage
from dagster._core.storage.event_log.sqlite.sqlite_event_log import INDEX_SHARD_NAME

WAIT_S = 30
"""For another process to finish writing."""


class HeldHistory(SqliteEventLogStorage):
    """Dagster's event log in SQLite, with the databases of the index and of the last run held open."""

    def __init__(self, base_dir: str, inst_data: Any = None) -> None:
        self._engines: dict[str, sqlalchemy.Engine] = {}
        self._seen: set[tuple[str, str]] = set()
        super().__init__(base_dir, inst_data)

    @classmethod
    def from_config_value(cls, inst_data: Any, config_value: Any) -> "HeldHistory":
        """As Dagster makes it from an instance's configuration."""
        return cls(inst_data=inst_data, **config_value)

    @contextlib.contextmanager
    def _connect(self, shard: str) -> Iterator[sqlalchemy.Connection]:
        with self._db_lock:
            if shard not in self._engines:
                for other in set(self._engines) - {INDEX_SHARD_NAME}:
                    self._engines.pop(other).dispose()
                self._engines[shard] = self._opened(shard)
            with self._engines[shard].connect() as connection, connection.begin():
                yield connection

    def _opened(self, shard: str) -> sqlalchemy.Engine:
        engine = sqlalchemy.create_engine(
            self.conn_string_for_shard(shard),
            poolclass=sqlalchemy.StaticPool,
            connect_args={"timeout": WAIT_S, "check_same_thread": False},
        )
        sqlalchemy.event.listen(engine, "connect", lambda connection, _: connection.execute("PRAGMA synchronous = NORMAL"))
        if shard not in self._initialized_dbs:
            self._initdb(engine)
            self._initialized_dbs.add(shard)
        return engine

    def store_event(self, event: Any) -> None:
        """Store an event, and let those who watch the run's file know: written ahead, the file itself does not change."""
        super().store_event(event)
        os.utime(self.path_for_shard(event.run_id))

    # Tables, columns and indexes that are there do not go away while a run writes into them.

    def has_table(self, table_name: str) -> bool:
        """As Dagster asks, several times for each event."""
        return self._is_there("table", table_name, lambda: super(HeldHistory, self).has_table(table_name))

    def has_secondary_index(self, name: str) -> bool:
        """As Dagster asks, twice for each asset."""
        return self._is_there("index", name, lambda: super(HeldHistory, self).has_secondary_index(name))

    def _has_asset_key_col_on_connection(self, conn: sqlalchemy.Connection, column_name: str) -> bool:
        return self._is_there("column", column_name, lambda: super(HeldHistory, self)._has_asset_key_col_on_connection(conn, column_name))

    def _is_there(self, kind: str, name: str, ask: Callable[[], bool]) -> bool:
        if (kind, name) not in self._seen and ask():
            self._seen.add((kind, name))
        return (kind, name) in self._seen

    def dispose(self) -> None:
        """Close what is open."""
        super().dispose()
        while self._engines:
            self._engines.popitem()[1].dispose()
