"""What every server of the package does before what it serves gets to see a request, over real HTTP."""

from __future__ import annotations

import queue
import socket
import threading
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import pytest
import requests
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import PlainTextResponse, Response
from starlette.routing import Route

from routing_pipeline.errors import UnusableInputError
from routing_pipeline.serving import http
from routing_pipeline.serving.auth import Door

TOKEN = "a-token-of-enough-length"


def application(seen: list[str]) -> Starlette:
    async def answer(request: Request) -> Response:
        seen.append(request.url.path)
        return PlainTextResponse("what is served")

    return Starlette(routes=[Route("/{path:path}", answer)])


def served(app: Starlette, token: str | None = None, host: str = "127.0.0.1") -> str:
    """The address of a server that lives as long as the tests."""
    ready: queue.Queue[str] = queue.Queue()
    door = Door(host, 0, token, "--port 0")
    threading.Thread(target=http.serve, args=(app, door, ready.put), daemon=True).start()
    return ready.get(timeout=60)


def test_what_is_served_sees_only_requests_of_those_who_are_let_in() -> None:
    seen: list[str] = []
    url = served(application(seen), TOKEN)
    known = {"Authorization": f"Bearer {TOKEN}"}
    for headers, status in (
        ({}, 401),
        ({"Host": "evil.example"}, 421),
        ({"Origin": "http://evil.example"}, 403),
        ({"Host": "evil.example", **known}, 421),
    ):
        refused = requests.get(f"{url}/spend", headers=headers, timeout=60)
        assert (refused.status_code, refused.headers["Cache-Control"], refused.text.count("\n")) == (status, "no-store", 1)
    assert requests.get(f"{url}/spend", timeout=60).headers["WWW-Authenticate"] == "Bearer"
    assert seen == []
    assert requests.get(f"{url}/spend", headers=known, timeout=60).text == "what is served"
    assert seen == ["/spend"]


def test_whoever_keeps_the_process_alive_needs_no_token_and_learns_nothing() -> None:
    seen: list[str] = []
    url = served(application(seen), TOKEN)
    assert requests.get(f"{url}/healthz", timeout=60).text == "ok\n"
    assert requests.get(f"{url}/healthz", headers={"Host": "evil.example"}, timeout=60).status_code == 421
    assert seen == []


@pytest.mark.skipif(not socket.has_ipv6, reason="needs IPv6")
def test_an_address_of_version_6_is_named_so_that_it_can_be_opened() -> None:
    try:
        url = served(application([]), host="::1")
    except queue.Empty:
        pytest.skip("no IPv6 here")
    assert url.startswith("http://[::1]:")
    assert requests.get(f"{url}/", timeout=60).text == "what is served"


def test_an_address_that_is_taken_is_one_line_that_names_the_option() -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = int(taken.getsockname()[1])
        with pytest.raises(UnusableInputError, match=f"^--http 127.0.0.1:{port}: Address already in use; give another address$"):
            http.serve(application([]), Door("127.0.0.1", port, None, f"--http 127.0.0.1:{port}"), pytest.fail)


def test_what_does_not_start_is_no_failed_check_of_data() -> None:
    @asynccontextmanager
    async def failing(_: Starlette) -> AsyncIterator[None]:
        raise OSError("no room")
        yield

    with pytest.raises(RuntimeError, match="did not start"):
        http.serve(Starlette(lifespan=failing), Door("127.0.0.1", 0, None, "--port 0"), pytest.fail)
