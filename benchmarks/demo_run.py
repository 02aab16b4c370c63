"""`routing-pipeline run` on 200,000 made-up requests: wall time and peak memory of the whole command.

Run: python benchmarks/demo_run.py [requests]
"""

from __future__ import annotations

import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path


def measure(requests: int) -> tuple[float, float]:
    """Seconds and peak resident GB of the command, in a process of its own; writing the logs is not counted."""
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        # In a process of its own: a child's peak memory starts at its parent's.
        writer = (
            f"from pathlib import Path; from routing_pipeline.demo.logs import write_demo; write_demo(Path({name!r}), requests={requests})"
        )
        subprocess.run([sys.executable, "-c", writer], check=True)
        words = [
            "run",
            "--logs",
            f"{folder}/logs",
            "--feedback",
            f"{folder}/feedback",
            "--out",
            f"{folder}/out",
            "--home",
            f"{folder}/home",
        ]
        begin = time.perf_counter()
        child = os.posix_spawn(
            sys.executable,
            [sys.executable, "-c", "from routing_pipeline.cli import main; main()", *words],
            os.environ,
            file_actions=[(os.POSIX_SPAWN_OPEN, 1, os.devnull, os.O_WRONLY, 0)],
        )
        _, status, used = os.wait4(child, 0)
        seconds = time.perf_counter() - begin
        if os.waitstatus_to_exitcode(status) != 0:
            raise SystemExit("the run failed")
        return seconds, used.ru_maxrss / 1e6


if __name__ == "__main__":
    asked = int(sys.argv[1]) if len(sys.argv) > 1 else 200_000
    seconds, gigabytes = measure(asked)
    print(f"run on {asked:,} requests: {seconds:.1f} s wall (to reach: 40), {gigabytes:.2f} GB peak (to reach: 1.5)")
