"""A real S3-compatible store for tests: OpenStack Swift with its S3 interface, four processes on loopback.

Belongs here: installing it into a virtual environment of its own (cached between runs), configuring, starting, stopping.
Does not belong here: any test. Raises `UnavailableError` where the package index or the machine does not allow it.
"""

from __future__ import annotations

import fcntl
import getpass
import os
import signal
import socket
import subprocess
import sys
import time
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

VERSION = "2.38.3"
CACHE = Path(os.environ.get("XDG_CACHE_HOME", Path.home() / ".cache")) / "routing-pipeline" / f"swift-{VERSION}"
OWNER = ("logs:owner", "owner-secret-4711")
STRANGER = ("logs:stranger", "stranger-secret")
"""A user of the same account without the right to read its buckets."""

# Buckets are looked up on every request; a dict in the one proxy process saves a memcached.
_CACHE_FILTER = """
class Cache:
    def __init__(self):
        self.values = {}

    def get(self, key, raise_on_error=False):
        return self.values.get(key)

    def set(self, key, value, serialize=True, time=0, min_compress_len=0, raise_on_error=False):
        self.values[key] = value

    def delete(self, key, server_key=None):
        self.values.pop(key, None)


def filter_factory(global_conf, **local_conf):
    cache = Cache()

    def wrap(app):
        def call(env, start_response):
            env["swift.cache"] = cache
            return app(env, start_response)

        return call

    return wrap
"""

_RINGS = """
import sys
from swift.common.ring import RingBuilder
folder, ports = sys.argv[1], sys.argv[2:]
for name, port in zip(("account", "container", "object"), ports):
    builder = RingBuilder(4, 1, 0)
    builder.add_dev({"id": 0, "region": 1, "zone": 1, "weight": 1.0, "device": "disk", "meta": "", "ip": "127.0.0.1",
                     "port": int(port), "replication_ip": "127.0.0.1", "replication_port": int(port)})
    builder.rebalance(seed=1)
    builder.get_ring().save(f"{folder}/{name}.ring.gz")
"""

_PIPELINE = (
    "catch_errors gatekeeper healthcheck proxy-logging incache listing_formats bulk s3api tempauth copy slo dlo "
    "versioned_writes symlink proxy-logging proxy-server"
)


class UnavailableError(Exception):
    """The store cannot run here; the message says why."""


@dataclass(frozen=True)
class S3Server:
    """A running store: where it answers."""

    endpoint: str


def installed() -> Path:
    """The virtual environment with Swift in it; made on first use, by one process at a time."""
    CACHE.parent.mkdir(parents=True, exist_ok=True)
    with (CACHE.parent / "swift.lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        if not (CACHE / "ready").exists():
            try:
                subprocess.run([sys.executable, "-m", "venv", "--clear", CACHE], check=True, capture_output=True, timeout=120)
                install = [str(CACHE / "bin/python"), "-m", "pip", "install", "--quiet", f"swift=={VERSION}"]
                subprocess.run(install, check=True, capture_output=True, timeout=300)
            except (OSError, subprocess.SubprocessError) as error:
                raise UnavailableError(f"swift {VERSION} cannot be installed from the package index ({type(error).__name__})") from error
            (CACHE / "ready").touch()
    return CACHE


@contextmanager
def running(folder: Path) -> Iterator[S3Server]:
    """Start the four servers with all their data below `folder`; stop them at the end."""
    environment = installed()
    settings = folder / "etc"
    (folder / "data" / "disk").mkdir(parents=True)
    settings.mkdir()
    ports = dict(zip(("account", "container", "object", "proxy"), free_ports(4), strict=True))
    _configure(settings, folder / "data", ports)
    backends = [str(ports[name]) for name in ("account", "container", "object")]
    subprocess.run([environment / "bin/python", "-c", _RINGS, settings, *backends], check=True, capture_output=True, timeout=60)
    processes = [_started(environment, settings, name, folder) for name in ports]
    try:
        _wait(ports, processes)
        yield S3Server(f"http://127.0.0.1:{ports['proxy']}")
    finally:
        for process in processes:
            process.send_signal(signal.SIGTERM)
        for process in processes:
            try:
                process.wait(timeout=10)
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait()


def _started(environment: Path, settings: Path, name: str, folder: Path) -> subprocess.Popen[bytes]:
    with (folder / f"{name}.log").open("wb") as log:
        return subprocess.Popen(
            [environment / f"bin/swift-{name}-server", settings / f"{name}-server.conf", "-v"],
            stdin=subprocess.DEVNULL,
            stdout=log,
            stderr=log,
            env={**os.environ, "PYTHONPATH": str(settings)},
        )


def free_ports(count: int) -> list[int]:
    """Ports of this machine that nobody listens on now, all different."""
    sockets = [socket.socket() for _ in range(count)]
    for each in sockets:
        each.bind(("127.0.0.1", 0))
    ports = [each.getsockname()[1] for each in sockets]
    for each in sockets:
        each.close()
    return ports


def _configure(settings: Path, data: Path, ports: dict[str, int]) -> None:
    common = f"bind_ip = 127.0.0.1\nworkers = 0\nuser = {getpass.getuser()}\nswift_dir = {settings}\nnode_timeout = 60\nconn_timeout = 10\n"
    (settings / "swift.conf").write_text(
        "[swift-hash]\nswift_hash_path_prefix = p\nswift_hash_path_suffix = s\n[storage-policy:0]\nname = default\ndefault = yes\n"
    )
    for name in ("account", "container", "object"):
        (settings / f"{name}-server.conf").write_text(
            f"[DEFAULT]\nbind_port = {ports[name]}\n{common}devices = {data}\nmount_check = false\nfallocate_reserve = 0\n"
            f"disable_fallocate = true\ncontainer_update_timeout = 60\n[pipeline:main]\npipeline = {name}-server\n"
            f"[app:{name}-server]\nuse = egg:swift#{name}\n"
        )
    filters = {name: f"use = egg:swift#{name.replace('-', '_')}" for name in set(_PIPELINE.split()) - {"proxy-server", "incache"}}
    filters["incache"] = "paste.filter_factory = incache:filter_factory"
    filters["s3api"] += "\nlocation = us-east-1"
    filters["tempauth"] += f"\nuser_{OWNER[0].replace(':', '_')} = {OWNER[1]} .admin\nuser_{STRANGER[0].replace(':', '_')} = {STRANGER[1]}"
    (settings / "proxy-server.conf").write_text(
        f"[DEFAULT]\nbind_port = {ports['proxy']}\n{common}[pipeline:main]\npipeline = {_PIPELINE}\n"
        "[app:proxy-server]\nuse = egg:swift#proxy\naccount_autocreate = true\nerror_suppression_limit = 1000000\n"
        + "".join(f"[filter:{name}]\n{text}\n" for name, text in sorted(filters.items()))
    )
    (settings / "incache.py").write_text(_CACHE_FILTER)


def _wait(ports: dict[str, int], processes: list[subprocess.Popen[bytes]]) -> None:
    deadline = time.monotonic() + 60
    while time.monotonic() < deadline:
        if any(process.poll() is not None for process in processes):
            raise UnavailableError("one of Swift's servers ended at its start")
        try:
            for port in ports.values():
                socket.create_connection(("127.0.0.1", port), timeout=1).close()
            with urllib.request.urlopen(f"http://127.0.0.1:{ports['proxy']}/healthcheck", timeout=5) as answer:
                if answer.status == 200:
                    return
        except OSError:
            time.sleep(0.1)
    raise UnavailableError("Swift did not answer within a minute")
