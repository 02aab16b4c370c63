"""How commands print what they found.

Belongs here: standard output. Does not belong here: progress (`progress`), errors (`main`).
"""

from __future__ import annotations

from collections.abc import Iterable

import typer

from routing_pipeline.stopping import whole


def show(json: str, lines: Iterable[str], *, as_json: bool) -> None:
    """Print a result: as JSON, or as lines, which are not made otherwise. An interruption leaves all of it or nothing."""
    if as_json:
        from routing_pipeline.text import visible

        lines = (visible(json),)
    said = list(lines)
    with whole():
        for line in said:
            typer.echo(line)
