"""Telling people: one message to every channel of the configuration, by apprise (extra `alerts`).

Belongs here: channels and sending. Does not belong here: what is said (`decisions`, `attribution`). A channel that fails is
named in the log and forgotten: nothing that sends may fail for it. Addresses hold secrets: they are read here and not with the
parameters, which go into every report, and no message of ours repeats them.
"""

from __future__ import annotations

import os
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from pathlib import Path
from typing import Any

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from routing_pipeline.errors import UnusableInputError
from routing_pipeline.extras import how_to_install
from routing_pipeline.parameters import read_table, refusal

ENVIRONMENT = "ROUTING_PIPELINE_NOTIFY"
MAX_TITLE, MAX_BODY = 150, 2_000
MAX_AT_ONCE = 16


class Channels(BaseModel):
    """Table `[notifications]`: apprise addresses, of which `env:NAME` stands for an environment variable that holds one, and what is told."""

    model_config = ConfigDict(frozen=True, extra="forbid", hide_input_in_errors=True)

    urls: tuple[str, ...] = Field(default=(), description="As slack://..., msteams://..., mailto://..., json://...; env:NAME")
    failed_runs: bool = Field(default=True, description="Whether to notify of a job that fails unattended")
    dagster_url: str = Field(default="", pattern=r"^(https?://[^\s@]+)?$", description="Where Dagster's UI is; messages link to runs there")


def read_notifications(config: Path | None) -> Channels:
    """The table of the configuration file.

    Raises:
        UnusableInputError: it is not as described.
    """
    try:
        return Channels.model_validate(read_table(config, "notifications"))
    except ValidationError as error:
        said = refusal(error, Channels, "notifications")
        raise UnusableInputError(f"{said}; give urls = [...], see docs/configuration.md") from error


def read_channels(config: Path | None) -> tuple[str, ...]:
    """Addresses of the configuration file, and those of ROUTING_PIPELINE_NOTIFY (separated by spaces).

    Raises:
        UnusableInputError: the table is not as described, or names a variable that is not set.
    """
    found = []
    for url in read_notifications(config).urls:
        name = url.removeprefix("env:")
        if name != url and not os.environ.get(name):
            raise UnusableInputError(f"notifications.urls: the environment variable {name[:80]} is not set")
        found.append(url if name == url else os.environ[name])
    return (*found, *_of_environment())


def _of_environment() -> tuple[str, ...]:
    return tuple(os.environ.get(ENVIRONMENT, "").split())


def notify(channels: Sequence[str], title: str, body: str) -> tuple[str, ...]:
    """Send to each channel; gives one line for each that failed. Never raises.

    Text is sent as text: names from logs are no markup, and mention nobody.
    """
    if not channels:
        return ()
    try:
        import apprise
    except ImportError:
        return (f"no channel was notified: notifications need more than the basic installation: {how_to_install('alerts')}",)
    send = partial(_failure, title=_escaped(title)[:MAX_TITLE], body=_escaped(body)[:MAX_BODY], apprise=apprise)
    # All at once: a channel that never answers is given up after seconds, and a sensor has a minute for its look.
    with ThreadPoolExecutor(MAX_AT_ONCE) as pool:
        failures = pool.map(send, range(1, len(channels) + 1), channels)
        return tuple(failure for failure in failures if failure is not None)


def _failure(number: int, url: str, *, title: str, body: str, apprise: Any) -> str | None:
    """Send to one channel; gives a line when that fails."""
    try:
        sender = apprise.Apprise()
        is_sent = sender.add(url) and sender.notify(title=title, body=body, body_format=apprise.NotifyFormat.TEXT)
        why = "it was not accepted"
    except Exception as error:  # noqa: BLE001 (whatever a channel does, the pipeline goes on)
        is_sent, why = False, type(error).__name__
    return None if is_sent else f"notification channel {number} ({_scheme(url)}) was not notified: {why}"


def tell(config: Path | None, title: str, body: str) -> tuple[str, ...]:
    """`notify` over the configured channels. Never raises: a configuration that cannot be read is a line as well.

    Those of the environment are told all the same: a broken configuration makes runs fail, which somebody should hear of.
    """
    try:
        return notify(read_channels(config), title, body)
    except UnusableInputError as error:
        return (f"no channel of the configuration file was notified: {error}", *notify(_of_environment(), title, body))


def _escaped(text: str) -> str:
    """No mention of everybody, no control characters but line ends."""
    kept = "".join(letter if letter.isprintable() or letter == "\n" else " " for letter in text)
    return kept.replace("@", "@\u200b").replace("<!", "<\u200b!")


def _scheme(url: str) -> str:
    scheme, found, _ = url.partition("://")
    return scheme[:20] if found and scheme.isalnum() else "no address"
