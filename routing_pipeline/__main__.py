"""`python -m routing_pipeline`, and what the command `routing-pipeline` starts with: heeding signals before anything is loaded."""

from __future__ import annotations

import gc
import os

from routing_pipeline.beside import LOOKED_FOR_CYCLES, is_of_a_command
from routing_pipeline.stopping import heed


def main() -> None:
    """The command line; what interrupts it while it loads, or while Python ends, ends it in the same way."""
    heed()
    # Before it makes a model Pydantic reads the entry points of all that is installed, a tenth of a short command: of no use to models of ours.
    os.environ.setdefault("PYDANTIC_DISABLE_PLUGINS", "__all__")
    is_of_a_command()
    gc.set_threshold(*LOOKED_FOR_CYCLES)
    from routing_pipeline.cli.main import main as command

    try:
        command()
    finally:
        # Python would look through all queries for cycles once more before it ends, for a second or two.
        gc.freeze()
        gc.disable()


if __name__ == "__main__":
    main()
