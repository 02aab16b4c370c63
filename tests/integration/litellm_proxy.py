"""The real LiteLLM proxy with its own S3 logger, before a made-up provider: started from a configuration, stopped at the end.

Belongs here: the provider, the proxy's process, asking it. Does not belong here: installing LiteLLM (`make loop`), any test.
"""

from __future__ import annotations

import json
import os
import secrets
import signal
import subprocess
import threading
import time
import urllib.error
import urllib.request
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import s3_server

FLUSH_S = 1
STARTS_WITHIN_S = 180.0
AT_ONCE = 16
DIRECT = urllib.request.build_opener(urllib.request.ProxyHandler({}))


@dataclass
class Upstream:
    """Answers as any model that is asked for; `worse` names those whose answers are bad."""

    url: str
    worse: set[str] = field(default_factory=set)
    asked: list[str] = field(default_factory=list)


@contextmanager
def upstream() -> Iterator[Upstream]:
    """The provider."""
    told = Upstream("")

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def do_POST(self) -> None:
            model = str(json.loads(self.rfile.read(int(self.headers["Content-Length"])))["model"])
            told.asked.append(model)
            message = {"role": "assistant", "content": "bad" if model in told.worse else "good"}
            content = {
                "id": f"chatcmpl-{secrets.token_hex(8)}",
                "object": "chat.completion",
                "created": int(time.time()),
                "model": model,
                "choices": [{"index": 0, "message": message, "finish_reason": "stop"}],
                "usage": {"prompt_tokens": 200, "completion_tokens": 40, "total_tokens": 240},
            }
            body = json.dumps(content).encode()
            self.send_response(200)
            self.send_header("Content-Type", "application/json")
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, *_: Any) -> None:
            """Nothing is said."""

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    told.url = f"http://127.0.0.1:{server.server_address[1]}/v1"
    try:
        yield told
    finally:
        server.shutdown()


@dataclass(frozen=True)
class Answer:
    """What a client got."""

    call_id: str
    content: str


@dataclass(frozen=True)
class Proxy:
    """A running proxy."""

    url: str
    key: str

    def ask(self, model: str, requests: list[dict[str, Any]]) -> list[Answer]:
        """Chat completions, several at once; each request is its metadata."""

        def one(metadata: dict[str, Any]) -> Answer:
            body = {"model": model, "messages": [{"role": "user", "content": "hello"}], "metadata": metadata}
            headers = {"Authorization": f"Bearer {self.key}", "Content-Type": "application/json"}
            request = urllib.request.Request(f"{self.url}/v1/chat/completions", json.dumps(body).encode(), headers)  # noqa: S310
            try:
                with DIRECT.open(request, timeout=60) as answer:
                    return Answer(answer.headers["x-litellm-call-id"], json.load(answer)["choices"][0]["message"]["content"])
            except urllib.error.HTTPError as error:
                raise AssertionError(error.read().decode(errors="replace")[:2000]) from error

        with ThreadPoolExecutor(AT_ONCE) as pool:
            return list(pool.map(one, requests))


@contextmanager
def proxy(python: str, folder: Path, key: str, environment: dict[str, str]) -> Iterator[Proxy]:
    """The proxy with the configuration of a folder, in that folder.

    Raises:
        AssertionError: it ended, or did not answer in time; with the end of what it said.
    """
    (port,) = s3_server.free_ports(1)
    said = folder / "proxy.log"
    with said.open("wb") as log:
        process = subprocess.Popen(
            [str(Path(python).with_name("litellm")), "--config", str(folder / "config.yaml"), "--host", "127.0.0.1", "--port", str(port)],
            stdin=subprocess.DEVNULL,
            stdout=log,
            stderr=log,
            cwd=folder,
            env={
                **{name: value for name, value in os.environ.items() if name not in {"PYTHONPATH", "VIRTUAL_ENV"}},
                **environment,
                "LITELLM_MASTER_KEY": key,
                "LITELLM_LOCAL_MODEL_COST_MAP": "True",
                "DEFAULT_S3_FLUSH_INTERVAL_SECONDS": str(FLUSH_S),
                "NO_PROXY": "127.0.0.1",
            },
        )
    url = f"http://127.0.0.1:{port}"
    try:
        deadline = time.monotonic() + STARTS_WITHIN_S
        while not _answers(f"{url}/health/readiness"):
            assert process.poll() is None, said.read_text(errors="replace")[-4000:]
            assert time.monotonic() < deadline, said.read_text(errors="replace")[-4000:]
            time.sleep(0.3)
        yield Proxy(url, key)
    finally:
        # What was not written yet is lost when it ends.
        time.sleep(2 * FLUSH_S)
        process.send_signal(signal.SIGTERM)
        try:
            process.wait(timeout=20)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()


def _answers(url: str) -> bool:
    try:
        with DIRECT.open(url, timeout=2) as answer:
            return bool(answer.status == 200)
    except OSError:
        return False
