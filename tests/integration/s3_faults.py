"""A proxy in front of an S3 server that misbehaves as real stores and networks do, from a seed.

Belongs here: 503 SlowDown, resets, bodies that break off, stalls, stale listings. Does not belong here: the store behind it
(`s3_server`), any test. Signatures hold, because the Host header is passed on as it came.
"""

from __future__ import annotations

import http.client
import random
import socket
import struct
import threading
import time
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from urllib.parse import parse_qs, urlsplit

SLOW_DOWN = b'<?xml version="1.0"?><Error><Code>SlowDown</Code><Message>Please reduce your request rate. AKIA-OF-SOMEBODY</Message></Error>'


class FaultyProxy(ThreadingHTTPServer):
    """`share` of the calls fail, each in one of the ways in `kinds`; `stall_s` long where it stalls.

    `stale`: listings are answered as they were when they were first asked for. `down`: every call is refused with 503.
    `happened` counts what was done to calls, by kind, and the calls let through as "passed".
    """

    daemon_threads = True
    request_queue_size = 128

    def __init__(self, upstream: str, *, share: float = 0.0, kinds: tuple[str, ...] = (), stall_s: float = 20.0, seed: int = 1) -> None:
        parts = urlsplit(upstream)
        self.upstream = (parts.hostname or "", parts.port or 80)
        self.share, self.kinds, self.stall_s = share, kinds, stall_s
        self.stale = self.down = False
        self.down_after: int | None = None
        self.happened: Counter[str] = Counter()
        self._random = random.Random(seed)  # noqa: S311 (no secret)
        self._lock = threading.Lock()
        self._listings: dict[str, tuple[int, list[tuple[str, str]], bytes]] = {}
        super().__init__(("127.0.0.1", 0), _Handler)

    @property
    def endpoint(self) -> str:
        """Where it answers."""
        return f"http://127.0.0.1:{self.server_port}"

    def fate(self) -> str:
        """What happens to the next call."""
        with self._lock:
            is_down = self.down or (self.down_after is not None and self.happened["passed"] >= self.down_after)
            kind = "slow_down" if is_down else self._random.choice(self.kinds) if self._random.random() < self.share else "passed"
            self.happened[kind] += 1
            return kind

    def asked(self, method: str, path: str, headers: dict[str, str]) -> tuple[int, list[tuple[str, str]], bytes]:
        """The answer of the store, or of its listing's past."""
        is_listing = "list-type" in parse_qs(urlsplit(path).query)
        if is_listing and self.stale and path in self._listings:
            return self._listings[path]
        connection = http.client.HTTPConnection(*self.upstream, timeout=60)
        try:
            connection.putrequest(method, path, skip_host=True, skip_accept_encoding=True)
            for name, value in headers.items():
                connection.putheader(name, value)
            connection.endheaders()
            answer = connection.getresponse()
            kept = [(name, value) for name, value in answer.getheaders() if name.lower() not in {"connection", "transfer-encoding"}]
            found = answer.status, kept, answer.read()
        finally:
            connection.close()
        if is_listing:
            self._listings.setdefault(path, found)
        return found

    def handle_error(self, request: object, client_address: object) -> None:
        """Clients that hang up are expected here."""


class _Handler(BaseHTTPRequestHandler):
    server: FaultyProxy
    protocol_version = "HTTP/1.1"

    def do_GET(self) -> None:
        kind = self.server.fate()
        if kind == "reset":
            # With a linger of zero the socket closes with RST.
            self.connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
            self.connection.close()
            self.close_connection = True
            return
        if kind == "slow_down":
            self._send(503, [("Content-Type", "application/xml"), ("Content-Length", str(len(SLOW_DOWN)))], SLOW_DOWN)
            return
        if kind == "stall":
            time.sleep(self.server.stall_s)
        status, headers, body = self.server.asked(self.command, self.path, dict(self.headers))
        self._send(status, headers, body[: len(body) // 2] if kind == "truncated" else body)
        if kind == "truncated":
            self.close_connection = True

    def do_HEAD(self) -> None:
        self.do_GET()

    def _send(self, status: int, headers: list[tuple[str, str]], body: bytes) -> None:
        self.send_response_only(status)
        for name, value in headers:
            self.send_header(name, value)
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(body)

    def log_message(self, *_: object) -> None:
        pass


@contextmanager
def in_front_of(upstream: str, **faults: object) -> Iterator[FaultyProxy]:
    """A proxy on a free port, stopped at the end."""
    proxy = FaultyProxy(upstream, **faults)  # type: ignore[arg-type]
    threading.Thread(target=proxy.serve_forever, daemon=True).start()
    try:
        yield proxy
    finally:
        proxy.shutdown()
        proxy.server_close()
