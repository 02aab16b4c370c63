"""Debian's chromium, driven by Playwright, for tests that look at pages as people do.

Belongs here: finding the browser, opening a page and noting what goes wrong on it, what axe-core finds. Does not belong
here: any test. Raises `UnavailableError` where there is no browser; `.ci/run` installs Debian's.

The synchronous Playwright keeps an event loop in its thread while it runs, so the fixture `chromium` lasts for one module,
and such a module calls no `asyncio.run`.
"""

from __future__ import annotations

import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any, Literal

from axe_playwright_python.sync_playwright import Axe
from playwright.sync_api import Browser, Dialog, Error, Page, sync_playwright

NAMES = ("chromium", "chromium-browser", "google-chrome")
DESKTOP, PHONE, A4 = (1280, 900), (390, 844), (794, 1123)
"""Widths and heights in CSS pixels; A4 at 96 dots per inch."""
SERIOUS = ("serious", "critical")
# A browser that is tested calls nobody of its own accord.
QUIET = ("--disable-quic", "--disable-background-networking", "--disable-component-update", "--disable-sync", "--no-first-run")


class UnavailableError(Exception):
    """No browser can be had here; the message says why."""


def executable() -> str:
    """Where the browser is; `ROUTING_PIPELINE_CHROMIUM` names another than the one on the path."""
    found = os.environ.get("ROUTING_PIPELINE_CHROMIUM") or next(filter(None, map(shutil.which, NAMES)), None)
    if found is None:
        raise UnavailableError("no chromium on this machine; apt-get install chromium")
    return found


@contextmanager
def running() -> Iterator[Browser]:
    """Start the browser without a window; stop it at the end."""
    path = executable()
    with sync_playwright() as playwright:
        try:
            browser = playwright.chromium.launch(executable_path=path, args=list(QUIET), chromium_sandbox=os.getuid() != 0)
        except Error as error:
            raise UnavailableError(f"{path} does not start: {error.message.splitlines()[0]}") from error
        try:
            yield browser
        finally:
            browser.close()


@dataclass
class Opened:
    """A page, with the errors on its console and every address that it asked for, data: and its own apart."""

    page: Page
    errors: list[str] = field(default_factory=list)
    asked: list[str] = field(default_factory=list)

    def dismissed(self, dialog: Dialog) -> None:
        """A dialog is an error; left open it would hold the page up."""
        self.errors.append(f"dialog: {dialog.message}")
        dialog.dismiss()


@contextmanager
def opened(
    browser: Browser,
    url: str,
    *,
    size: tuple[int, int] = DESKTOP,
    scheme: Literal["light", "dark"] = "light",
    scripts: bool = True,
    password: str | None = None,
) -> Iterator[Opened]:
    """Open a page in a context of its own; with a policy of its own against scripts a page is still open to Playwright's."""
    context = browser.new_context(
        viewport={"width": size[0], "height": size[1]},
        color_scheme=scheme,
        java_script_enabled=scripts,
        bypass_csp=False,
        http_credentials=None if password is None else {"username": "anybody", "password": password},
    )
    try:
        page = context.new_page()
        found = Opened(page)
        page.on("console", lambda message: found.errors.append(message.text) if message.type in {"error", "warning"} else None)
        page.on("pageerror", lambda error: found.errors.append(str(error)))
        page.on("dialog", found.dismissed)
        page.on(
            "request", lambda request: None if request.url.startswith("data:") or request.url == url else found.asked.append(request.url)
        )
        page.goto(url)
        yield found
    finally:
        context.close()


def violations(page: Page, impacts: tuple[str, ...] = SERIOUS) -> list[str]:
    """What axe-core finds wrong, one line each with the first places."""
    found: list[dict[str, Any]] = Axe().run(page).response["violations"]
    return [
        f"{each['impact']}: {each['id']}: {each['help']} at {[node['target'] for node in each['nodes'][:3]]} ({len(each['nodes'])})"
        for each in found
        if each["impact"] in impacts
    ]
