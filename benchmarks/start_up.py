"""What a command takes before it works: help, a refusal, a stored answer, a run in which nothing changed; medians of five.

Beside seconds of the clock stand seconds of the processor, which a busy machine leaves alone, and both are ratios to a floor measured
in the same run: Python with what no command does without (Typer and pydantic). After each command come the imports that took longest.

    python benchmarks/start_up.py [--requests 2000] [--repeats 5] [--write docs/benchmarks.md]

--write puts the table under its heading into a file whose other sections stay as they are.
"""

from __future__ import annotations

import argparse
import os
import platform
import re
import statistics
import subprocess
import sys
import tempfile
import time
from datetime import UTC, datetime
from pathlib import Path

SHOWN = 4
HEADING = "## Start-up"
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


def measured(words: tuple[str, ...], repeats: int) -> tuple[float, float]:
    """Medians of wall seconds and of processor seconds of `python WORDS`."""
    walls, processors = [], []
    for _ in range(repeats):
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


def section_of(document: str) -> str:
    """The section that this script writes, as it stands in a document; empty where there is none."""
    _, heading, rest = document.partition(f"\n{HEADING}\n")
    return f"{heading}{rest.partition(f'{chr(10)}## ')[0]}".rstrip("\n") + "\n" if heading else ""


def written(document: str, section: str) -> str:
    """The document with this section in place of the one before, or at its end."""
    before = section_of(document)
    return document.replace(before, section) if before else document.rstrip("\n") + "\n" + section


def main(requests: int, repeats: int) -> tuple[bool, str]:
    """Whether all that is to be reached is, and the section."""
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
        floor_wall, floor_processor = measured(FLOOR, repeats)
        lines = [
            "",
            HEADING,
            "",
            f"Written by `benchmarks/start_up.py`: {datetime.now(UTC):%Y-%m-%d}, {os.cpu_count()} cores, Python {platform.python_version()}.",
            f"Medians of {repeats} processes each, in a home of {requests:,} requests.",
            f"A floor is Python with Typer and pydantic alone: {floor_wall:.2f} s, {floor_processor:.2f} s of the processor.",
            "",
            "| command | wall s | to reach | processor s | floors, wall | floors, processor | longest imports | heavy packages loaded |",
            "|---|--:|--:|--:|--:|--:|---|---|",
        ]
        reached = True
        for case, words in cases.items():
            wall, processor = measured(words, repeats)
            longest, heavy = imports(words)
            reached = reached and wall <= TO_REACH_S[case]
            lines.append(
                f"| {case} | {wall:.2f} | {TO_REACH_S[case]} | {processor:.2f} | {wall / floor_wall:.1f} | {processor / floor_processor:.1f} | "
                f"{', '.join(f'{package} {ms:.0f} ms' for package, ms in longest)} | {', '.join(heavy) or 'none'} |"
            )
            print(lines[-1], flush=True)
        lines.append(
            f"\nLoad of the machine at the end {os.getloadavg()[0]:.1f}: where that is above the number of cores, "
            "seconds of the processor tell more than those of the clock."
        )
        return reached, "\n".join(lines) + "\n"


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--requests", type=int, default=2_000)
    parser.add_argument("--repeats", type=int, default=5)
    parser.add_argument("--write", type=Path)
    asked = parser.parse_args()
    is_reached, section = main(asked.requests, asked.repeats)
    print(section)
    if asked.write is not None:
        asked.write.write_text(written(asked.write.read_text(encoding="utf-8"), section), encoding="utf-8")
    raise SystemExit(0 if is_reached else "not reached")
