"""The command line called in this process: all but what only a process of its own can show, in half the time."""

from __future__ import annotations

import contextlib
import io
import os
import sys
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from unittest.mock import patch

from routing_pipeline.cli import main


@dataclass(frozen=True)
class Ended:
    """How a command ended and what it said, as of a process."""

    returncode: int
    stdout: str
    stderr: str


def called(*words: object, cwd: Path | None = None, environment: Mapping[str, str] | None = None) -> Ended:
    """Call `routing-pipeline` with these words, in this folder, with these variables beside those that are set."""
    out, err, code = io.StringIO(), io.StringIO(), 0
    with contextlib.ExitStack() as stack:
        stack.enter_context(patch.object(sys, "argv", ["routing-pipeline", *map(str, words)]))
        stack.enter_context(patch.dict(os.environ, environment or {}))
        stack.enter_context(contextlib.chdir(cwd or Path.cwd()))
        stack.enter_context(contextlib.redirect_stdout(out))
        stack.enter_context(contextlib.redirect_stderr(err))
        try:
            main()
        except SystemExit as ended:
            code = int(ended.code or 0)
    return Ended(code, out.getvalue(), err.getvalue())


def delivered(*words: object, cwd: Path | None = None, environment: Mapping[str, str] | None = None) -> Ended:
    """The same of a command that must end well."""
    ended = called(*words, cwd=cwd, environment=environment)
    assert ended.returncode == 0, ended.stderr
    return ended
