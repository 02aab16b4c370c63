"""`python -m routing_pipeline`, and what the command `routing-pipeline` starts with: heeding signals before anything is loaded."""

from __future__ import annotations

import atexit
import contextlib
import gc
import os
import sys

from routing_pipeline.beside import LOOKED_FOR_CYCLES, is_of_a_command
from routing_pipeline.stopping import heed


def main() -> None:
    """The command line; what interrupts it while it loads, or while Python ends, ends it in the same way."""
    heed()
    is_of_a_command()
    gc.set_threshold(*LOOKED_FOR_CYCLES)
    exit_codes: list[int] = []
    # What is registered first is called last: after threads have ended and libraries have put away what is theirs.
    atexit.register(_leave, exit_codes)
    from routing_pipeline.cli.main import main as command

    try:
        command()
    except SystemExit as end:
        exit_codes += [end.code or 0] if isinstance(end.code, int | None) else []
        raise
    exit_codes.append(0)


def _leave(exit_codes: list[int]) -> None:
    """End here, where the exit code is known: Python would take a query apart object by object first, for seconds."""
    if exit_codes:
        # What cannot be written, or is written nowhere, is left to Python's own end.
        with contextlib.suppress(OSError, ValueError, AttributeError):
            sys.stdout.flush()
            sys.stderr.flush()
            os._exit(exit_codes[0])


if __name__ == "__main__":
    main()
