"""Who may connect to what this package serves over HTTP: this machine alone, or whoever knows a token.

Belongs here: addresses as options give them, the token that others have to send, and why a request is refused. Does not belong
here: the server (`http`) and what is served (`mcp`, `metrics_endpoint`, `dashboard`).
"""

from __future__ import annotations

import base64
import binascii
import ipaddress
import secrets
from collections.abc import Mapping
from dataclasses import dataclass, field
from urllib.parse import urlsplit

from routing_pipeline.errors import UnusableInputError

SHORTEST_TOKEN = 16


def address_of(text: str) -> tuple[str, int]:
    """Host and port from HOST:PORT, :PORT or PORT; without a host, this machine alone.

    Raises:
        UnusableInputError: it is none of these.
    """
    host, _, port = text.rpartition(":")
    host = host.removeprefix("[").removesuffix("]") or "127.0.0.1"
    if not port.isdecimal() or not 0 < int(port) < 65_536:
        raise UnusableInputError(f"--http {text}: give HOST:PORT, such as 127.0.0.1:8000")
    return host, int(port)


def is_loopback(host: str) -> bool:
    """Whether only this machine can reach the host."""
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"


@dataclass(frozen=True)
class Refusal:
    """What a request is answered with that is not let in."""

    status: int
    text: str
    headers: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True)
class Door:
    """One address that is listened on, and who is let in there."""

    host: str
    port: int
    token: str | None = field(repr=False)
    option: str
    """How the user named the address, for messages."""
    for_browsers: bool = False
    """Browsers ask their user for a name and a password: the token is the password, whatever the name (RFC 7617)."""

    @property
    def url(self) -> str:
        """Where it is found, without a path."""
        return f"http://{f'[{self.host}]' if ':' in self.host else self.host}:{self.port}"

    def misdirected(self, headers: Mapping[str, str]) -> Refusal | None:
        """Whether a page of others makes a browser on this machine ask, under a name of its own or from its own origin.

        Where others can connect, the token keeps them out; there is no such check.
        """
        if not is_loopback(self.host):
            return None
        if not is_loopback(_host_in(f"//{headers.get('host', '')}")):
            return Refusal(421, "ask by the address that the command named")
        origin = headers.get("origin")
        if origin and not (origin.startswith("http://") and is_loopback(_host_in(origin))):
            return Refusal(403, "pages of other origins may not ask")
        return None

    def unknown(self, headers: Mapping[str, str]) -> Refusal | None:
        """Whether a token is demanded, and the Authorization header does not carry it."""
        sent = headers.get("authorization", "")
        if self.token is None or _carries(sent, self.token) or (self.for_browsers and _is_password(sent, self.token)):
            return None
        if self.for_browsers:
            challenge = 'Basic realm="routing-pipeline: any name, the token as password", charset="UTF-8"'
            return Refusal(401, "a token is needed: as password with any name, or as bearer token", {"WWW-Authenticate": challenge})
        return Refusal(401, "a token is needed: as bearer token", {"WWW-Authenticate": "Bearer"})


def door(host: str, port: int, token: str | None, *, variable: str, option: str, for_browsers: bool = False) -> Door:
    """The door at an address; `token` is what the environment variable `variable` holds, none where only this machine can connect.

    Raises:
        UnusableInputError: others can connect and there is no token, or it is too short to keep them out.
    """
    if token is not None and len(token) < SHORTEST_TOKEN:
        raise UnusableInputError(f"{variable} has {len(token)} characters; give at least {SHORTEST_TOKEN}")
    if token is None and not is_loopback(host):
        raise UnusableInputError(f"{option}: others can reach it; set {variable} to a token that clients have to send")
    return Door(host, port, token, option, for_browsers)


def door_of_option(http: str, token: str | None, *, variable: str) -> Door:
    """The door that `--http` names.

    Raises:
        UnusableInputError: as `address_of` and `door`.
    """
    return door(*address_of(http), token, variable=variable, option=f"--http {http}")


def _host_in(url: str) -> str:
    try:
        return urlsplit(url).hostname or ""
    except ValueError:
        return ""


def _carries(authorization: str, token: str) -> bool:
    scheme, _, sent = authorization.partition(" ")
    return scheme.lower() == "bearer" and _is_same(sent.strip().encode("utf-8", "replace"), token)


def _is_password(authorization: str, token: str) -> bool:
    scheme, _, sent = authorization.partition(" ")
    if scheme.lower() != "basic":
        return False
    try:
        _, _, password = base64.b64decode(sent.strip(), validate=True).partition(b":")
    except (binascii.Error, ValueError):
        return False
    return _is_same(password, token)


def _is_same(sent: bytes, token: str) -> bool:
    """Compared in constant time."""
    return secrets.compare_digest(sent, token.encode())
