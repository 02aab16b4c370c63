"""What a command takes before it works: help, a refusal, a stored answer, a run in which nothing changed; medians of five.

Beside seconds of the clock stand seconds of the processor, which a busy machine leaves alone, and both are ratios to a floor measured
in the same run: Python with what no command does without (Typer and pydantic). After each command come the imports that took longest.

Run: python benchmarks/start_up.py [requests]
"""

from __future__ import annotations

import os
import re
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

REPEATS = 5
SHOWN = 6
FLOOR = ("-c", "import typer, pydantic; class_ = type('A', (pydantic.BaseModel,), {})")
TO_REACH_S = {
    "--version": 0.2,
    "--help": 0.2,
    "refused": 0.4,
    "ask, stored": 0.4,
    "report, kept": 0.8,
    "run, unchanged": 1.5,
    "analyze, unchanged": 1.5,
}
HEAVY = ("dagster", "great_expectations", "ibis", "pyiceberg", "altair", "scipy", "pandas", "pyarrow", "sqlalchemy", "duckdb", "rich")
_IMPORT = re.compile(r"import time:\s+(\d+) \|\s+(\d+) \|( *)(\S+)")


def measured(words: tuple[str, ...]) -> tuple[float, float]:
    """Medians of wall seconds and of processor seconds of `python WORDS`."""
    walls, processors = [], []
    for _ in range(REPEATS):
        begin = time.perf_counter()
        child = os.posix_spawn(
            sys.executable,
            [sys.executable, *words],
            os.environ,
            file_actions=[(os.POSIX_SPAWN_OPEN, to, os.devnull, os.O_WRONLY, 0) for to in (1, 2)],
        )
        used = os.wait4(child, 0)[2]
        walls.append(time.perf_counter() - begin)
        processors.append(used.ru_utime + used.ru_stime)
    return statistics.median(walls), statistics.median(processors)


def imports(words: tuple[str, ...]) -> tuple[list[tuple[str, float]], list[str]]:
    """The packages whose import takes longest by themselves, in milliseconds; and which of HEAVY were loaded."""
    told = subprocess.run([sys.executable, "-X", "importtime", *words], check=False, capture_output=True, text=True).stderr
    by_package: dict[str, float] = {}
    for match in _IMPORT.finditer(told):
        package = match[4].partition(".")[0]
        by_package[package] = by_package.get(package, 0.0) + int(match[1]) / 1e3
    longest = sorted(by_package.items(), key=lambda each: -each[1])[:SHOWN]
    return longest, [name for name in HEAVY if name in by_package]


def main(requests: int) -> bool:
    with tempfile.TemporaryDirectory() as name:
        place = Path(name)
        command = ("-m", "routing_pipeline")
        home = ("--home", f"{place}/home")
        run = (*command, "run", "--logs", f"{place}/logs", "--feedback", f"{place}/feedback", "--out", f"{place}/out", *home)
        analyze = (*command, "analyze", "--out", f"{place}/out", *home)
        ask = (*command, "ask", "get_routing_costs", *home)
        writer = (
            f"from pathlib import Path; from routing_pipeline.demo.logs import write_demo; write_demo(Path({name!r}), requests={requests})"
        )
        subprocess.run([sys.executable, "-c", writer], check=True)
        cases = {
            "--version": (*command, "--version"),
            "--help": (*command, "--help"),
            "refused": (*analyze, "--timeframe", "8d"),
            "ask, stored": ask,
            "report, kept": (*command, "report", "--out", f"{place}/again", *home),
            "run, unchanged": run,
            "analyze, unchanged": analyze,
        }
        for words in (run, ask):
            begin = time.perf_counter()
            subprocess.run([sys.executable, *words], check=True, capture_output=True)
            print(f"once, {words[2]} of {requests:,} requests: {time.perf_counter() - begin:.1f} s")
        floor_wall, floor_processor = measured(FLOOR)
        print(f"floor: {floor_wall:.2f} s wall, {floor_processor:.2f} s processor")
        reached = True
        for case, words in cases.items():
            wall, processor = measured(words)
            longest, heavy = imports(words)
            reached = reached and wall <= TO_REACH_S[case]
            print(
                f"{case:20} {wall:5.2f} s wall = {wall / floor_wall:4.1f} floors (to reach: {TO_REACH_S[case]} s); "
                f"{processor:5.2f} s processor = {processor / floor_processor:4.1f} floors"
            )
            print(
                f"{'':20} imports: {', '.join(f'{package} {ms:.0f} ms' for package, ms in longest)}; heavy ones: {', '.join(heavy) or 'none'}"
            )
        return reached


if __name__ == "__main__":
    raise SystemExit(0 if main(int(sys.argv[1]) if len(sys.argv) > 1 else 2_000) else "not reached")
