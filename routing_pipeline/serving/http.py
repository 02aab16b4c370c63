"""How everything is served that this package serves over HTTP: one server, one guard at its door.

Belongs here: the socket, uvicorn, what a request is answered before any application sees it. Does not belong here: who is let in
(`auth`), what is served (`mcp`, `metrics_endpoint`, `dashboard`), how it ends (`stopping`: as every command does).

Starlette and uvicorn take long to load: whoever may not come to serve imports this late.
"""

from __future__ import annotations

import socket
from collections.abc import Callable
from dataclasses import replace

import uvicorn
from starlette.datastructures import Headers
from starlette.responses import PlainTextResponse
from starlette.types import ASGIApp, Receive, Scope, Send

from routing_pipeline.errors import UnusableInputError
from routing_pipeline.serving.auth import Door

HEALTH = "/healthz"
"""For whoever keeps the process alive: answered without a token."""
NOT_KEPT = {"Cache-Control": "no-store", "X-Content-Type-Options": "nosniff"}


class Guard:
    """Stands in front of an application: it sees the requests of those who are let in, and none else."""

    def __init__(self, app: ASGIApp, door: Door) -> None:
        self._app, self._door = app, door

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """One request, or the application's start and end."""
        answer = self._app if scope["type"] == "lifespan" else self._answer(scope)
        await answer(scope, receive, send)

    def _answer(self, scope: Scope) -> ASGIApp:
        headers = Headers(scope=scope)
        refusal = self._door.misdirected(headers)
        if refusal is None and scope["path"] == HEALTH:
            return PlainTextResponse("ok\n", headers=NOT_KEPT)
        refusal = refusal or self._door.unknown(headers)
        if refusal is not None:
            return PlainTextResponse(f"{refusal.text}\n", refusal.status, {**NOT_KEPT, **refusal.headers})
        return self._app


def serve(app: ASGIApp, door: Door, ready: Callable[[str], None]) -> None:
    """Serve until interrupted; `ready` is told the address once requests are answered. Port 0 takes a free one.

    Raises:
        UnusableInputError: the address cannot be listened on.
        RuntimeError: the application did not start; it has said why.
    """
    is_6 = ":" in door.host
    try:
        listening = socket.create_server(
            (door.host, door.port),
            family=socket.AF_INET6 if is_6 else socket.AF_INET,
            # [::] is every address of the machine.
            dualstack_ipv6=is_6 and socket.has_dualstack_ipv6(),
        )
    except OSError as error:
        # The option names the address already.
        said, _, _ = (error.strerror or str(error)).partition(" (while attempting")
        raise UnusableInputError(f"{door.option}: {said}; give another address") from error
    found = replace(door, port=listening.getsockname()[1])
    config = uvicorn.Config(Guard(app, door), log_level="warning", access_log=False, ws="none")
    try:
        _Server(config, lambda: ready(found.url)).run(sockets=[listening])
    except SystemExit as error:
        # uvicorn's own way to end has an exit code that means something else here.
        raise RuntimeError("the server did not start") from error


class _Server(uvicorn.Server):
    """Says when it can answer."""

    def __init__(self, config: uvicorn.Config, ready: Callable[[], None]) -> None:
        super().__init__(config)
        self._ready = ready

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        """As uvicorn's, and then the line."""
        await super().startup(sockets=sockets)
        self._ready()
