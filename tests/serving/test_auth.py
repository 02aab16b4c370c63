"""Who is let in: this machine under its own name, or whoever knows the token."""

from __future__ import annotations

import base64

import pytest

from routing_pipeline.errors import UnusableInputError
from routing_pipeline.serving.auth import Door, Refusal, address_of, door, door_of_option, is_loopback

TOKEN = "a-token-of-enough-length"
EVERYWHERE = "0.0.0.0"  # noqa: S104  (what the token is for)


@pytest.mark.parametrize(
    ("text", "address"),
    [("127.0.0.1:80", ("127.0.0.1", 80)), (":8000", ("127.0.0.1", 8000)), ("8000", ("127.0.0.1", 8000)), ("[::1]:8000", ("::1", 8000))],
)
def test_an_address_without_a_host_is_this_machine_alone(text: str, address: tuple[str, int]) -> None:
    assert address_of(text) == address
    assert is_loopback(address[0])


@pytest.mark.parametrize("text", ["", "host", "host:", "host:0", "host:99999", "host:http"])
def test_an_address_that_is_none_is_refused(text: str) -> None:
    with pytest.raises(UnusableInputError, match="HOST:PORT"):
        address_of(text)


def test_where_others_can_connect_a_token_is_needed_and_a_short_one_keeps_nobody_out() -> None:
    with pytest.raises(UnusableInputError, match="THE_TOKEN has 5 characters; give at least 16"):
        door("127.0.0.1", 1, "short", variable="THE_TOKEN", option="--port 1")
    assert door("localhost", 1, None, variable="THE_TOKEN", option="--port 1").token is None
    for host in (EVERYWHERE, "[::]", "example.org", "192.168.1.4"):
        with pytest.raises(UnusableInputError, match="others can reach it; set THE_TOKEN") as refused:
            door_of_option(f"{host}:80", None, variable="THE_TOKEN")
        assert str(refused.value).startswith(f"--http {host}:80: ")
        opened = door_of_option(f"{host}:80", TOKEN, variable="THE_TOKEN")
        assert (opened.token, TOKEN in repr(opened)) == (TOKEN, False)


@pytest.mark.parametrize("host", ["127.0.0.1", "::1", "localhost"])
def test_a_page_of_others_cannot_make_a_browser_on_this_machine_ask(host: str) -> None:
    here = Door(host, 80, None, "--http")
    for name in ("127.0.0.1:80", "localhost", "LOCALHOST:1", "[::1]:80"):
        assert here.misdirected({"host": name}) is None
        assert here.misdirected({"host": name, "origin": f"http://{name}"}) is None
        for origin in ("http://evil.example", "null", "http://127.0.0.1@evil.example", "http://[", "https://localhost"):
            assert status(here.misdirected({"host": name, "origin": origin})) == 403
    for name in ("", "evil.example", "127.evil.example", "127.0.0.1@evil.example", "localhost.evil.example:80", "["):
        assert status(here.misdirected({"host": name})) == 421
    assert Door(EVERYWHERE, 80, TOKEN, "--http").misdirected({"host": "evil.example", "origin": "http://evil.example"}) is None


def test_the_token_is_sent_as_bearer_token_and_by_browsers_as_password() -> None:
    programs, browsers = Door(EVERYWHERE, 80, TOKEN, "--http"), Door(EVERYWHERE, 80, TOKEN, "--host", for_browsers=True)
    for wrong in (
        "",
        "Bearer",
        f"Bearer {TOKEN[:-1]}",
        f"Basic {TOKEN}",
        "Basic !",
        "Bearer \xff",
        TOKEN,
        f"Digest {TOKEN}",
        password(TOKEN[:-1]),
    ):
        for asked, challenge in ((programs, "Bearer"), (browsers, "Basic")):
            refusal = asked.unknown({"authorization": wrong})
            assert refusal is not None
            assert (refusal.status, refusal.headers["WWW-Authenticate"].split()[0]) == (401, challenge)
            assert TOKEN not in refusal.text
    for right in (f"Bearer {TOKEN}", f"bearer  {TOKEN} "):
        assert programs.unknown({"authorization": right}) is browsers.unknown({"authorization": right}) is None
    assert browsers.unknown({"authorization": password(TOKEN)}) is None
    assert status(programs.unknown({"authorization": password(TOKEN)})) == 401
    assert Door("127.0.0.1", 80, None, "--http").unknown({}) is None
    assert status(Door("127.0.0.1", 80, TOKEN, "--http").unknown({})) == 401, "a token that is set is demanded on this machine, too"


def password(token: str) -> str:
    return f"Basic {base64.b64encode(f'anybody:{token}'.encode()).decode()}"


def status(refusal: Refusal | None) -> int | None:
    return None if refusal is None else refusal.status
