"""One module per log format; the first that recognises a record wins."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from routing_pipeline.errors import UnusableInputError
from routing_pipeline.ingest.formats.canonical import CANONICAL
from routing_pipeline.ingest.formats.litellm import LITELLM
from routing_pipeline.ingest.formats.log_format import LogFormat

FORMATS: tuple[LogFormat, ...] = (CANONICAL, LITELLM)


def named(name: str) -> LogFormat | None:
    """The format of that name; None for `auto`.

    Raises:
        UnusableInputError: no format has that name.
    """
    if name == "auto":
        return None
    for each in FORMATS:
        if each.name == name:
            return each
    raise UnusableInputError(f"--format {name}: give auto, {', '.join(sorted(each.name for each in FORMATS))}")


def recognised(record: Mapping[str, Any]) -> LogFormat | None:
    """The format that a record's keys speak of; None when no format knows them."""
    return next((each for each in FORMATS if each.recognises(record)), None)
