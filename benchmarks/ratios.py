"""One table of ratios, measured in one run over data made once: this product, bare DuckDB, other tools. Writes docs/benchmarks.md.

Belongs here: what is run, what it is held against, the table. Does not belong here: the lines (`ingest.write_lines`), the sums that
tools are held against each other by (`same_sums`), anything that looks at one part by itself (the other scripts of this folder).

Every case is a whole command in a process of its own, from its start to its end, imports included. Rounds go through all cases in
turn, so that a busy minute meets all of them; a ratio is the median of the rounds' own ratios. Ratios of processor time stand beside those of wall time:
on a machine that does other things too they are the steadier ones. A ratio that got worse by WORSE against the file is shown.

    python benchmarks/ratios.py [--lines 400000] [--rounds 3] [--others PYTHON] [--write docs/benchmarks.md]

--others is the Python of an environment that holds polars, chdb, pandas and toolkit-cost-optimizer (`make bench` makes one); without
it, or where one of them is missing, its line says so.
"""

from __future__ import annotations

import argparse
import json
import math
import os
import platform
import re
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

HERE = Path(__file__).parent
FILES, FEWER_FILES = 40, 8
"""The whole, and the part of it that is given to a tool which reads one file of a gigabyte at most."""
WORSE = 0.15
RUN, RUN_FEWER = "run: ingest, check, analyse, report", "run, the same fewer lines"
TOOLKIT = "toolkit-cost-optimizer"


@dataclass(frozen=True)
class Cost:
    """What one process and its children took."""

    wall_s: float
    processor_s: float
    peak_mb: float
    """Of the largest process."""
    said: str

    def __add__(self, other: Cost) -> Cost:
        return Cost(
            self.wall_s + other.wall_s,
            self.processor_s + other.processor_s,
            max(self.peak_mb, other.peak_mb),
            self.said + other.said,
        )


@dataclass(frozen=True)
class Case:
    """One line of the table. `commands` run one after the other; `floor`: the case that it is held against."""

    name: str
    commands: tuple[tuple[str, ...], ...]
    rows: int | None
    floor: str | None = None
    before: Callable[[], object] = lambda: None
    sums: bool = False
    """Whether it prints the sums that are the same in every tool."""

    @property
    def is_ours(self) -> bool:
        """Whether it is this product that is measured."""
        return "routing_pipeline" in self.commands[0]


class NotThereError(Exception):
    """A tool that is to be measured does not run here."""


def cost_of(command: Sequence[str], folder: Path) -> Cost:
    """Run a command to its end. Raises NotThereError with its last words where it fails."""
    environment = {name: value for name, value in os.environ.items() if name != "PYTHONDONTWRITEBYTECODE"}
    environment["PYTHONPATH"] = str(HERE.parent)
    with (folder / "out").open("w+") as out, (folder / "err").open("w+") as err:
        began = time.monotonic()
        running = subprocess.Popen(command, stdout=out, stderr=err, stdin=subprocess.DEVNULL, env=environment, cwd=folder)
        _, status, usage = os.wait4(running.pid, 0)
        wall_s = time.monotonic() - began
        running.returncode = os.waitstatus_to_exitcode(status)
        err.seek(0)
        if running.returncode != 0:
            raise NotThereError((err.read().strip() or f"ended with {running.returncode}").splitlines()[-1][:120])
        out.seek(0)
        return Cost(wall_s, usage.ru_utime + usage.ru_stime, usage.ru_maxrss / 1024, out.read())


def cases_of(folder: Path, lines: int, others: str | None) -> list[Case]:
    """All of them, in the order in which they are run: some stand on what one before has left."""
    logs, fewer, one_file = folder / "logs", folder / "fewer", folder / "fewer.jsonl"
    ours = (sys.executable, "-m", "routing_pipeline")
    python = others or "no-environment-of-other-tools"
    toolkit = str(Path(python).with_name("toolkit-opt"))
    few = lines * FEWER_FILES // FILES

    def our(*arguments: str, home: str) -> tuple[str, ...]:
        return (*ours, *arguments, "--home", str(folder / home))

    def without(*names: str) -> Callable[[], None]:
        return lambda: [shutil.rmtree(folder / name, ignore_errors=True) for name in names] and None

    def summed(tool: str, by: str) -> tuple[str, ...]:
        return (by, str(HERE / "same_sums.py"), tool, str(logs))

    copy, scan, sums = "bare DuckDB: COPY the lines to Parquet", "bare DuckDB: read every column of the lake", "bare DuckDB: sums"
    theirs = f"{TOOLKIT}: ingest, summarize, route, fewer lines"
    report = ("--out", str(folder / "report"))
    return [
        Case(copy, ((sys.executable, str(HERE / "ratios.py"), "--bare-copy", str(logs)),), lines),
        Case("ingest", (our("ingest", "--logs", str(logs), home="home"),), lines, copy, without("home")),
        Case(scan, ((sys.executable, str(HERE / "ratios.py"), "--bare-scan", str(folder / "home")),), lines),
        Case("analyze, everything after ingestion", (our("analyze", *report, home="home"),), lines, scan),
        Case(RUN, (our("run", "--logs", str(logs), *report, home="run"),), lines, copy, without("run")),
        Case("run, nothing new", (our("run", "--logs", str(logs), *report, home="run"),), lines, copy),
        Case("analyze, another goal", (our("analyze", "--goal", "cost", *report, home="run"),), lines, copy),
        Case("ask, the first time after a run", (our("ask", "get_routing_costs", home="run"),), None, copy),
        Case("--help", ((*ours, "--help"),), None, copy),
        Case(sums, (summed("duckdb", sys.executable),), lines, sums=True),
        *(Case(f"{tool}: the same sums", (summed(tool.lower(), python),), lines, sums, sums=True) for tool in ("Polars", "chdb", "pandas")),
        Case(
            theirs,
            (
                (toolkit, "ingest", "--format", "litellm-payload", "--input", one_file.name, "--rows", "rows.jsonl", "--tier-from", "task_type"),
                (toolkit, "summarize", "--input", "rows.jsonl"),
                (toolkit, "route", "--input", "rows.jsonl", "--quality-rows", "quality.jsonl"),
            ),
            few,
        ),
        Case(RUN_FEWER, (our("run", "--logs", str(fewer), *report, home="fewer-home"),), few, theirs, without("fewer-home")),
    ]  # fmt: skip


def make_data(folder: Path, lines: int) -> int:
    """The lines, a part of them once more, and the scores without which the toolkit routes nothing; gives bytes of all lines."""
    from ingest import _MODELS, _TASKS, write_lines

    logs, fewer = folder / "logs", folder / "fewer"
    logs.mkdir()
    fewer.mkdir()
    size = write_lines(logs, lines, FILES)
    with (folder / "fewer.jsonl").open("wb") as whole:
        for path in sorted(logs.glob("*.jsonl"))[:FEWER_FILES]:
            os.link(path, fewer / path.name)
            whole.write(path.read_bytes())
    score = {"schema_version": 2, "created_ts": 1_794_000_000, "quality": 0.9}
    scores = [score | {"tier": task, "model": model} for task in _TASKS for model in _MODELS for _ in range(40)]
    (folder / "quality.jsonl").write_text("\n".join(map(json.dumps, scores)), encoding="utf-8")
    return size


def bare_scan(home: Path) -> None:
    import duckdb

    files = [str(path) for path in (home / "lake").rglob("*.parquet")]
    print(duckdb.connect().execute("SELECT count(COLUMNS(*)) FROM read_parquet($f, union_by_name=true)", {"f": files}).fetchone())


Rounds = dict[str, list[Cost] | str]
"""By name of the case, what each round took; or why there is nothing."""


def measure(cases: Sequence[Case], folder: Path, rounds: int) -> Rounds:
    """Raises SystemExit where one of our own commands fails, or sums are not the same."""
    found: Rounds = {case.name: [] for case in cases}
    for place in range(rounds):
        sums: list[list[object]] | None = None
        for case in cases:
            taken = found[case.name]
            if isinstance(taken, str):
                continue
            case.before()
            try:
                costs = [cost_of(command, folder) for command in case.commands]
            except (NotThereError, FileNotFoundError) as error:
                if case.commands[0][0] == sys.executable:
                    raise SystemExit(f"{case.name}: {error}") from error
                found[case.name] = f"not measured: {error if isinstance(error, NotThereError) else 'not installed'}"
                continue
            total = costs[0] if len(costs) == 1 else sum(costs[1:], costs[0])
            taken.append(total)
            print(
                f"  round {place + 1}, {case.name}: {total.wall_s:.1f} s, processor {total.processor_s:.1f} s", file=sys.stderr, flush=True
            )
            if case.sums:
                said = json.loads(total.said.splitlines()[-1])
                if sums is not None and not _same(sums, said):
                    raise SystemExit(f"{case.name}: not the sums of the others")
                sums = said
    return found


def _same(one: list[list[object]], other: list[list[object]]) -> bool:
    def equal(left: object, right: object) -> bool:
        return left == right if isinstance(left, str) else math.isclose(float(str(left)), float(str(right)), rel_tol=1e-9)

    return len(one) == len(other) and all(
        all(equal(*pair) for pair in zip(left, right, strict=True)) for left, right in zip(one, other, strict=True)
    )


Ratios = dict[str, tuple[float, float]]
"""By name: of wall and of processor time."""


def ratios_of(cases: Sequence[Case], found: Rounds) -> Ratios:
    ratios = {}
    for case in cases:
        ours, floor = found[case.name], found.get(case.floor or "")
        if isinstance(ours, list) and isinstance(floor, list):
            pairs = list(zip(ours, floor, strict=True))
            ratios[case.name] = (
                statistics.median(one.wall_s / other.wall_s for one, other in pairs),
                statistics.median(one.processor_s / other.processor_s for one, other in pairs),
            )
    return ratios


def table_of(cases: Sequence[Case], found: Rounds, ratios: Ratios) -> str:
    lines = [
        "| what | wall s | processor s | peak MB | rows/s | held against | ratio, wall | ratio, processor |",
        "|---|--:|--:|--:|--:|---|--:|--:|",
    ]
    for case in cases:
        taken = found[case.name]
        if isinstance(taken, str):
            lines.append(f"| {case.name} | {taken} | | | | | | |")
            continue
        wall = statistics.median(each.wall_s for each in taken)
        processor, peak = (statistics.median(getattr(each, name) for each in taken) for name in ("processor_s", "peak_mb"))
        wall_ratio, processor_ratio = (f"{each:.2f}" for each in ratios[case.name]) if case.name in ratios else ("", "")
        rows = "" if case.rows is None else f"{case.rows / wall:,.0f}"
        lines.append(
            f"| {case.name} | {wall:.2f} | {processor:.2f} | {peak:,.0f} | {rows} | {case.floor or ''} | {wall_ratio} | {processor_ratio} |"
        )
    return "\n".join(lines)  # fmt: skip


def ratios_in(document: str) -> Ratios:
    """Those of a table that was written before."""
    found = {}
    for line in document.splitlines():
        cells = [each.strip() for each in line.strip("|").split("|")]
        if line.startswith("| ") and len(cells) == 8 and re.fullmatch(r"[\d.]+", cells[6]):
            found[cells[0]] = (float(cells[6]), float(cells[7]))
    return found


def got_worse(before: Ratios, now: Ratios) -> list[str]:
    """What took WORSE more of its floor than before."""
    said = []
    for name, pair in now.items():
        for kind, old, new in zip(("wall", "processor"), before.get(name, pair), pair, strict=True):
            if new > old * (1 + WORSE):
                said.append(f"worse: {name}, {kind} time, {old:.2f} to {new:.2f} times its floor ({new / old - 1:+.0%})")
    return said


def slope_of(fewer: Sequence[Cost] | str, whole: Sequence[Cost] | str, more_lines: int) -> str:
    """What a million lines more take of the same command, and what it takes whatever it reads: a straight line through both."""
    if isinstance(fewer, str) or isinstance(whole, str):
        return "not measured"
    said = []
    for name, what in (("processor_s", "s of processor time"), ("wall_s", "s")):
        few, all_of_them = (statistics.median(getattr(each, name) for each in taken) for taken in (fewer, whole))
        per_million = (all_of_them - few) / more_lines * 1e6
        fixed = few - per_million * (more_lines / (FILES - FEWER_FILES) * FEWER_FILES) / 1e6
        said.append(f"{per_million:.1f} {what} for each million lines and {fixed:.1f} s for none")
    return "; ".join(said)


def bytes_per_line(folder: Path, lines: int) -> str:
    """What is kept of each line once `run` is through."""

    def held(place: Path) -> float:
        return sum(path.stat().st_size for path in place.rglob("*") if path.is_file()) / lines

    return f"{held(folder / 'logs'):,.0f} bytes of log a line; of it the lake keeps {held(folder / 'run/lake'):,.0f}, scratch {held(folder / 'run/scratch'):,.0f}"


def document_of(table: str, *, lines: int, size: int, rounds: int, versions: str, slopes: str, kept: str) -> str:
    cpu = next(
        (line.partition(":")[2].strip() for line in _text("/proc/cpuinfo").splitlines() if "model name" in line), platform.processor()
    )
    memory = re.search(r"MemTotal:\s+(\d+)", _text("/proc/meminfo"))
    gib = f"{int(memory[1]) / 1024**2:.0f} GiB" if memory else "memory unknown"
    return f"""# Benchmarks

```sh
make bench
```

Written by `benchmarks/ratios.py`, which `make bench` runs: {datetime.now(UTC):%Y-%m-%d}, {os.cpu_count()} cores ({cpu}), {gib}, Python {platform.python_version()}, {versions}.
{lines:,} made-up lines of LiteLLM's log, {size / 1e9:.2f} GB in {FILES} files; "fewer lines" are the first {lines * FEWER_FILES // FILES:,} of them.
Median of {rounds} round{"s" if rounds > 1 else ""}; load of the machine at the end {os.getloadavg()[0]:.1f}.

{table}

- `run` takes {slopes} (from the two sizes above).
- {kept}.

How to read it:

- Each line is a whole command in a process of its own, imports included. Peak memory is that of its largest process.
- A ratio is this line's time over that of the line it is held against, measured in the same round. Below 1 is faster.
- Seconds are those of this machine on this day. Ratios travel to other machines, those of processor time best: other work on the machine hardly moves them.
- The same sums: requests, spend, tokens and mean latency by model and team, from the same lines. The run fails where two tools differ.
- {TOOLKIT} reads one file of 1 GB at most, so it gets fewer lines. It is given scores of 40 requests for each model and task; `run` has none.
  The two do not do the same: the toolkit finds a cheapest model for each task, and `run` also checks, analyses and proves.
- `make bench` shows each ratio that got worse by {WORSE:.0%} against this file, and writes the file anew.

The other scripts in `benchmarks/` look at one part each: `python benchmarks/NAME.py`.
"""


def _text(path: str) -> str:
    return Path(path).read_text(encoding="utf-8") if Path(path).exists() else ""


def _versions(others: str | None) -> str:
    import duckdb

    said = f"DuckDB {duckdb.__version__}"
    code = "import importlib.metadata as m\nfor n in ('polars', 'chdb', 'pandas', 'toolkit-cost-optimizer'): print(n, m.version(n))"
    told = subprocess.run([others, "-c", code], capture_output=True, text=True, check=False).stdout if others else ""
    return ", ".join([said, *told.splitlines()])


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--lines", type=int, default=400_000)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--others", help="the Python that has the other tools")
    parser.add_argument("--write", type=Path)
    for name in ("--bare-copy", "--bare-scan", "--make-data"):
        parser.add_argument(name, type=Path, help=argparse.SUPPRESS)
    asked = parser.parse_args()
    if asked.bare_copy:
        from ingest import bare_copy

        bare_copy(asked.bare_copy, Path.cwd())
    elif asked.bare_scan:
        bare_scan(asked.bare_scan)
    elif asked.make_data:
        print(make_data(asked.make_data, asked.lines))
    else:
        lines = asked.lines // FILES * FILES
        others = None if asked.others is None else str(Path(asked.others).absolute())
        with tempfile.TemporaryDirectory() as name:
            folder = Path(name)
            # In a process of its own: what a process has held, Linux counts as its children's peak as well.
            made = cost_of((sys.executable, __file__, "--make-data", name, "--lines", str(lines)), folder)
            cases = cases_of(folder, lines, others)
            found = measure(cases, folder, asked.rounds)
            kept = bytes_per_line(folder, lines)
        ratios = ratios_of(cases, found)
        document = document_of(
            table_of(cases, found, ratios),
            lines=lines,
            size=int(made.said),
            rounds=asked.rounds,
            versions=_versions(others),
            slopes=slope_of(found[RUN_FEWER], found[RUN], lines - lines * FEWER_FILES // FILES),
            kept=kept,
        )
        print(document)
        if asked.write is not None:
            import start_up

            before = asked.write.read_text(encoding="utf-8") if asked.write.exists() else ""
            if f"\n{lines:,} made-up lines" in before:
                ours = {case.name: ratios[case.name] for case in cases if case.is_ours and case.name in ratios}
                print(*(got_worse(ratios_in(before), ours) or [f"no ratio got worse by {WORSE:.0%} against {asked.write}"]), sep="\n")
            elif before:
                print(f"{asked.write} holds ratios of another number of lines: nothing is held against it")
            # What another script has written there stays.
            asked.write.write_text(start_up.written(document, start_up.section_of(before)), encoding="utf-8")


if __name__ == "__main__":
    main()
