"""`python -m routing_pipeline`, and what the command `routing-pipeline` starts with: heeding signals before anything is loaded."""

from __future__ import annotations

import gc

from routing_pipeline.beside import LOOKED_FOR_CYCLES, is_of_a_command
from routing_pipeline.stopping import heed


def main() -> None:
    """The command line; what interrupts it while it loads, or while Python ends, ends it in the same way."""
    heed()
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
