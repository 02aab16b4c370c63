"""A real Postgres for tests: one process tree on loopback, from the machine's own packages.

Belongs here: finding it, making a cluster, starting, stopping. Does not belong here: any test. Raises `UnavailableError`
where the machine has none.
"""

from __future__ import annotations

import itertools
import os
import shutil
import signal
import subprocess
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from s3_server import free_ports

USER, PASSWORD = "owner", "pg-secret-0815"
INITDB = ("--auth=scram-sha-256", "--encoding=UTF8", "--locale=C", "--no-sync")
UNPRIVILEGED = "nobody"
"""Postgres refuses to run as root."""


class UnavailableError(Exception):
    """Postgres cannot run here; the message says why."""


@dataclass
class PostgresServer:
    """A running server; every test takes a database of its own."""

    port: int
    folder: Path
    programs: Path
    process: subprocess.Popen[bytes]
    numbers: Iterator[int] = field(default_factory=itertools.count)

    def uri(self, database: str, password: str = PASSWORD) -> str:
        return f"postgresql://{USER}:{password}@127.0.0.1:{self.port}/{database}"

    def database(self) -> str:
        """Address of a new and empty database."""
        name = f"test_{next(self.numbers)}"
        self.run(f"CREATE DATABASE {name}")
        return self.uri(name)

    def run(self, statement: str, database: str = "postgres") -> list[tuple[Any, ...]]:
        """Run one statement; gives its rows."""
        import psycopg2

        connection = psycopg2.connect(self.uri(database))
        try:
            connection.autocommit = True
            with connection.cursor() as cursor:
                cursor.execute(statement)
                return [] if cursor.description is None else list(cursor.fetchall())
        finally:
            connection.close()


def programs() -> Path:
    """The folder with initdb and postgres; Debian keeps it out of the way."""
    for found in sorted(Path("/usr/lib/postgresql").glob("*/bin/postgres"), reverse=True):
        return found.parent
    on_path = shutil.which("postgres")
    if on_path is None:
        raise UnavailableError("there is no Postgres on this machine; apt-get install postgresql")
    return Path(on_path).resolve().parent


@contextmanager
def running() -> Iterator[PostgresServer]:
    """Make a cluster in a folder of its own and start it; both are gone at the end."""
    found, (port,) = programs(), free_ports(1)
    folder = Path(tempfile.mkdtemp(prefix="postgres-"))
    # Not below pytest's folders, into which nobody but their owner may look.
    as_user: dict[str, Any] = {}
    if os.geteuid() == 0:
        shutil.chown(folder, UNPRIVILEGED)
        as_user = {"user": UNPRIVILEGED, "group": folder.stat().st_gid, "extra_groups": []}
    (folder / "password").write_text(PASSWORD)
    (folder / "password").chmod(0o644)
    process: subprocess.Popen[bytes] | None = None
    try:
        made = subprocess.run(
            [found / "initdb", "-D", folder / "data", "-U", USER, f"--pwfile={folder / 'password'}", *INITDB],
            cwd=folder,
            capture_output=True,
            text=True,
            timeout=120,
            check=False,
            **as_user,
        )
        if made.returncode:
            raise UnavailableError(f"initdb failed: {made.stderr.strip()[-300:]}")
        settings = {"listen_addresses": "127.0.0.1", "unix_socket_directories": "", "fsync": "off", "shared_buffers": "32MB"}
        with (folder / "log").open("wb") as log:
            process = subprocess.Popen(
                [found / "postgres", "-D", folder / "data", "-p", str(port), *(f"--{name}={value}" for name, value in settings.items())],
                cwd=folder,
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                **as_user,
            )
        server = PostgresServer(port, folder, found, process)
        _wait(server)
        yield server
    finally:
        if process is not None:
            process.send_signal(signal.SIGINT)
            try:
                process.wait(timeout=20)
            except subprocess.TimeoutExpired:
                process.send_signal(signal.SIGQUIT)
                process.wait()
        shutil.rmtree(folder, ignore_errors=True)


def _wait(server: PostgresServer) -> None:
    import psycopg2

    for _ in range(300):
        if server.process.poll() is not None:
            raise UnavailableError(f"postgres ended: {(server.folder / 'log').read_text()[-300:]}")
        try:
            server.run("SELECT 1")
            return
        except psycopg2.OperationalError:
            time.sleep(0.1)
    raise UnavailableError("postgres did not answer within 30 s")
