"""`optimize_routing` over two million requests, and once more with nothing new: what the second run costs of the first.

The lake is filled before the clock starts, so the first run is conform, checks, analyses and report alone; a job over a
thousand requests goes before both, so that neither pays for loading.

Run: python benchmarks/rerun.py [requests]
"""

from __future__ import annotations

import sys
import tempfile
import time
from pathlib import Path

from mcp_answers import lake_of

from assets.running import run_job
from routing_pipeline.demo.logs import write_demo
from routing_pipeline.storage.home import Home

TO_REACH = 0.10


def seconds_of(home: Home, logs: Path) -> float:
    """One run of the whole job, seconds."""
    begin = time.perf_counter()
    run_job(
        home,
        "optimize_routing",
        resources={"root": str(home.root), "logs": str(logs), "feedback": "", "config": "", "engine": "duckdb"},
        ops={"analysis_scope": {"timeframe": "7d"}, "optimization_report": {"out": str(home.root / "out")}},
    )
    return time.perf_counter() - begin


def main(requests: int) -> bool:
    with tempfile.TemporaryDirectory() as name:
        place = Path(name)
        write_demo(place / "small", requests=1_000)
        seconds_of(Home(place / "warm").create(), place / "small" / "logs")
        home = lake_of(place / "home", requests)
        first, again = (seconds_of(home, place / "small" / "logs") for _ in range(2))
        print(f"{requests:,} requests: first run {first:.1f} s, again {again:.1f} s = {again / first:.1%} (to reach: {TO_REACH:.0%})")
        return again / first <= TO_REACH


if __name__ == "__main__":
    raise SystemExit(0 if main(int(sys.argv[1]) if len(sys.argv) > 1 else 2_000_000) else "not reached")
