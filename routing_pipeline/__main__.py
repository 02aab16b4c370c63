"""`python -m routing_pipeline`, and what the command `routing-pipeline` starts with: heeding signals before anything is loaded."""

from __future__ import annotations

import gc

from routing_pipeline.beside import is_of_a_command
from routing_pipeline.stopping import heed

LOOKED_FOR_CYCLES = (50_000, 20, 100)
"""After how many new objects Python looks for cycles among them. Queries are made of hundreds of thousands of small objects without
cycles: looked through after every 700, as is Python's habit, they take a fifth more time."""


def main() -> None:
    """The command line; what interrupts it while it loads, or while Python ends, ends it in the same way."""
    heed()
    is_of_a_command()
    gc.set_threshold(*LOOKED_FOR_CYCLES)
    from routing_pipeline.cli.main import main as command

    command()


if __name__ == "__main__":
    main()
