"""A receiver of notifications on the loopback, as a chat or a webhook would be."""

from __future__ import annotations

import json
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer


class Receiver(ThreadingHTTPServer):
    """Keeps what is posted; answers 500 under /broken."""

    received: list[dict[str, str]]
    together: threading.Barrier
    """Posts under /together are answered once as many came in."""

    @property
    def url(self) -> str:
        return f"json://127.0.0.1:{self.server_port}"


class _Handler(BaseHTTPRequestHandler):
    server: Receiver

    def do_POST(self) -> None:
        body = self.rfile.read(int(self.headers["Content-Length"]))
        if self.path.startswith("/together"):
            self.server.together.wait(timeout=60)
        self.server.received.append(json.loads(body))
        self.send_response(500 if self.path.startswith("/broken") else 200)
        self.end_headers()

    def log_message(self, *_: object) -> None:
        return


@contextmanager
def running() -> Iterator[Receiver]:
    """One that listens until the end of the block."""
    with Receiver(("127.0.0.1", 0), _Handler) as server:
        server.received = []
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        yield server
        server.shutdown()
        thread.join()
