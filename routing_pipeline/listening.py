"""Who may connect to what this package serves over HTTP: this machine alone, or whoever knows a token.

Belongs here: addresses as options give them, and the token that others have to send. Does not belong here: what is served
(`mcp`, `metrics`, `dashboard`).
"""

from __future__ import annotations

import base64
import binascii
import ipaddress
import secrets

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


def shown(host: str) -> str:
    """A host as it stands in a URL."""
    return f"[{host}]" if ":" in host else host


def is_loopback(host: str) -> bool:
    """Whether only this machine can reach the host."""
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"


def checked_token(host: str, token: str | None, variable: str, option: str = "--http") -> str | None:
    """The token to demand, from the environment variable `variable`; none is needed where only this machine can connect.

    Raises:
        UnusableInputError: others can connect and there is no token, or it is too short to keep them out.
    """
    if token is not None and len(token) < SHORTEST_TOKEN:
        raise UnusableInputError(f"{variable} has {len(token)} characters; give at least {SHORTEST_TOKEN}")
    if token is None and not is_loopback(host):
        raise UnusableInputError(f"{option} {host}: others can reach it; set {variable} to a token that clients have to send")
    return token


def is_demanded(authorization: str, token: str) -> bool:
    """Whether an Authorization header carries the token; compared in constant time."""
    scheme, _, sent = authorization.partition(" ")
    return scheme.lower() == "bearer" and secrets.compare_digest(sent.strip().encode("utf-8", "replace"), token.encode())


def is_password(authorization: str, token: str) -> bool:
    """The same for browsers, which ask for a name and a password (RFC 7617): the token is the password, whatever the name."""
    scheme, _, sent = authorization.partition(" ")
    if scheme.lower() != "basic":
        return False
    try:
        _, _, password = base64.b64decode(sent.strip(), validate=True).partition(b":")
    except (binascii.Error, ValueError):
        return False
    return secrets.compare_digest(password, token.encode())
