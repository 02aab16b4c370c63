"""Evidence, search and proof by the number of requests: seconds and peak memory, and that time grows no faster than requests.

Run: python benchmarks/evidence.py [requests ...]
"""

from __future__ import annotations

import subprocess
import sys
import tempfile
import time
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parents[1]))

from benchmarks.analyses import conformed, peak_gb
from routing_pipeline.policy.evidence import gather_evidence
from routing_pipeline.recommendation.routing_rules import optimize_routing_rules
from routing_pipeline.window.engine import open_engine
from routing_pipeline.window.rows import rows_at
from routing_pipeline.window.scope import AnalysisScope

SIZES = (500_000, 1_000_000, 2_000_000, 4_000_000)
TO_REACH_S, TO_REACH_GB, OF_SIZE = 10.0, 2.0, 2_000_000


def child(folder: Path) -> None:
    """In a process that did not make the traffic; imports and a first small query are done before the clock starts."""
    scope = AnalysisScope.model_validate_json((folder / "scope.json").read_text())
    with open_engine("duckdb", spill_to=folder / "spill") as engine:
        requests = rows_at(engine, scope.requests_uri)
        requests.limit(1).to_pyarrow()
        began = time.perf_counter()
        evidence = gather_evidence(requests, scope, cells_path=folder / "cells.parquet")
        gathered = time.perf_counter() - began
        began = time.perf_counter()
        rules = optimize_routing_rules(evidence, scope)
        searched = time.perf_counter() - began
    print(f"{scope.requests},{gathered:.2f},{searched:.2f},{peak_gb():.2f},{len(rules.rule_set.rules)}")


def main(sizes: tuple[int, ...]) -> None:
    print(
        "| requests | evidence | search and proof | in all | per million | peak | rules |\n|---:|---:|---:|---:|---:|---:|---:|", flush=True
    )
    for size in sizes:
        with tempfile.TemporaryDirectory() as name:
            place = Path(name)
            with open_engine("duckdb", spill_to=place / "spill") as opened:
                (place / "scope.json").write_text(conformed(place, size, opened).model_dump_json())
            done = subprocess.run([sys.executable, __file__, "--child", name], check=True, capture_output=True, text=True).stdout
        requests, gathered, searched, peak, rules = done.strip().splitlines()[-1].split(",")
        total = float(gathered) + float(searched)
        print(
            f"| {int(requests):,} | {gathered} s | {searched} s | {total:.2f} s | {total / int(requests) * 1e6:.2f} s | {peak} GB | {rules} |",
            flush=True,
        )
    print(f"to reach: {TO_REACH_S:.0f} s and {TO_REACH_GB:.0f} GB for {OF_SIZE:,} requests; seconds per million must not grow")


if __name__ == "__main__":
    if sys.argv[1:2] == ["--child"]:
        child(Path(sys.argv[2]))
    else:
        main(tuple(int(each) for each in sys.argv[1:]) or SIZES)
