"""Asking whoever sits at a terminal before something is done that others will notice.

Belongs here: when it is asked, and what counts as yes. Does not belong here: what is shown before (the commands).
"""

from __future__ import annotations

import sys
from collections.abc import Iterable

import typer

from routing_pipeline.errors import UnusableInputError


def is_asked(*, yes: bool) -> bool:
    """Whether there is somebody to ask, who has not agreed already. Programs are not asked: they have nobody to answer."""
    return not yes and sys.stdin.isatty() and sys.stderr.isatty()


def agree(question: str, about: Iterable[str], *, yes: bool) -> None:
    """Show what a question is about, and ask it where somebody can answer.

    Both go to standard error: what a command found goes to standard output.

    Raises:
        UnusableInputError: the answer was not yes.
    """
    for line in about:
        typer.echo(line, err=True)
    if not is_asked(yes=yes):
        return
    typer.echo(f"{question} [y/N] ", err=True, nl=False)
    if sys.stdin.readline().strip().lower() not in {"y", "yes"}:
        raise UnusableInputError("not agreed to, so nothing was changed")
