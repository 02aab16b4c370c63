"""Everything after ingestion, on DuckDB and on a standalone Spark cluster of two one-core workers on this machine.

The cluster is that of the tests (`tests/integration/spark_cluster.py`). Both read the same made-up lines of LiteLLM's log, each in a home of
its own; every `analyze` is a command in a process of its own, and its peak is that of this process, without Java's.

    python benchmarks/on_cluster.py [--lines 200000 1000000] [--config routing.toml] [--folder DIR]

`[spark]` of the configuration holds here as anywhere.
"""

from __future__ import annotations

import argparse
import sys
import tempfile
from pathlib import Path

from ingest import write_lines
from ratios import FILES, HERE, Cost, cost_of

sys.path[:0] = [str(HERE.parent), str(HERE.parent / "tests" / "integration")]

OURS = (sys.executable, "-m", "routing_pipeline")


def analysed(folder: Path, logs: Path, engine: str, config: Path | None) -> Cost:
    """Cost of `analyze` alone, in a new home that has read the logs."""
    home = ("--home", str(folder / "home"))
    cost_of((*OURS, "ingest", "--logs", str(logs), *home), folder)
    settings = () if config is None else ("--config", str(config.absolute()))
    return cost_of((*OURS, "analyze", "--engine", engine, "--out", str(folder / "report"), *home, *settings), folder)


def main() -> None:
    """Print a line for each size and engine."""
    import spark_cluster

    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--lines", type=int, nargs="+", default=[200_000, 1_000_000])
    parser.add_argument("--config", type=Path)
    parser.add_argument("--folder", type=Path, help="where there is room; unless set, the system's temporary folder")
    asked = parser.parse_args()
    print(f"{'lines':>10} {'engine':>7} {'wall s':>7} {'peak MB':>8}")
    for lines in asked.lines:
        with tempfile.TemporaryDirectory(dir=asked.folder) as name:
            folder = Path(name)
            for part in ("logs", "duckdb", "spark", "cluster"):
                (folder / part).mkdir()
            write_lines(folder / "logs", lines, FILES)
            alone = analysed(folder / "duckdb", folder / "logs", "duckdb", asked.config)
            with spark_cluster.running(folder / "cluster") as master:
                together = analysed(folder / "spark", folder / "logs", master, asked.config)
        for engine, cost in (("duckdb", alone), ("spark", together)):
            print(f"{lines:>10,} {engine:>7} {cost.wall_s:>7.1f} {cost.peak_mb:>8.0f}", flush=True)


if __name__ == "__main__":
    main()
