"""The nine analyses, the evidence and the rules over two million requests: seconds of each and peak memory.

Run: python benchmarks/analyses.py [requests]
"""

from __future__ import annotations

import re
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).parents[1]))

from routing_pipeline.analysis.bottlenecks import bottlenecks
from routing_pipeline.analysis.cost_drivers import cost_drivers
from routing_pipeline.analysis.model_performance import model_performance
from routing_pipeline.analysis.quality_issues import quality_issues
from routing_pipeline.analysis.quality_metrics import quality_metrics
from routing_pipeline.analysis.request_patterns import request_patterns
from routing_pipeline.analysis.routing_analytics import routing_analytics
from routing_pipeline.analysis.routing_costs import routing_costs
from routing_pipeline.analysis.routing_decisions import routing_decisions
from routing_pipeline.demo import traffic as demo_traffic
from routing_pipeline.parameters import Parameters
from routing_pipeline.policy.evidence import gather_evidence
from routing_pipeline.recommendation.routing_rules import optimize_routing_rules
from routing_pipeline.window.engine import Engine, open_engine
from routing_pipeline.window.resolve import resolve_scope
from routing_pipeline.window.rows import rows_at
from routing_pipeline.window.scope import AnalysisScope
from tests.lakes import lake_of

TO_REACH_S, TO_REACH_GB = 25.0, 2.0


def conformed(folder: Path, requests: int, engine: Engine) -> AnalysisScope:
    """The window's rows as `analysis_scope` leaves them."""
    traffic = demo_traffic.traffic(requests)
    lake = lake_of(folder, traffic.attempts, traffic.feedback)
    return resolve_scope(lake, Parameters(), engine=engine, engine_name="duckdb")


def peak_gb() -> float:
    """Peak resident memory of this process since it began; `ru_maxrss` would count its parent's."""
    status = Path("/proc/self/status").read_text()
    return int(re.search(r"VmHWM:\s+(\d+)", status)[1]) / 1e6


def measure(folder: Path, scope: AnalysisScope) -> float:
    """Print seconds per step, return their sum; each step opens its own engine, as assets do."""
    total = 0.0

    def timed(name: str, work: Callable[[Any, Any], Any]) -> Any:
        nonlocal total
        begin = time.perf_counter()
        with open_engine("duckdb", spill_to=folder / "spill") as engine:
            result = work(rows_at(engine, scope.requests_uri), rows_at(engine, scope.previous_uri))
        seconds = time.perf_counter() - begin
        total += seconds
        peak = peak_gb()
        print(f"{name:24} {seconds:6.2f} s, peak so far {peak:.2f} GB")
        return result

    evidence = timed("routing_evidence", lambda rows, _: gather_evidence(rows, scope, cells_path=folder / "cells.parquet"))
    timed("routing_analytics", lambda rows, _: routing_analytics(rows, scope))
    timed("routing_costs", lambda rows, previous: routing_costs(rows, previous, scope))
    timed("quality_metrics", lambda rows, _: quality_metrics(rows, scope, evidence))
    timed("request_patterns", lambda rows, previous: request_patterns(rows, previous, scope))
    timed("model_performance", lambda rows, _: model_performance(rows, scope, evidence))
    timed("routing_decisions", lambda rows, _: routing_decisions(rows, scope, evidence))
    timed("bottlenecks", lambda rows, _: bottlenecks(rows, scope))
    timed("cost_drivers", lambda rows, previous: cost_drivers(rows, previous, scope, evidence))
    timed("quality_issues", lambda rows, _: quality_issues(rows, scope, evidence))
    timed("routing_rules", lambda _rows, _: optimize_routing_rules(evidence, scope))
    return total


def child(folder: Path) -> None:
    """Measured in a process that did not make the traffic, so that its peak memory is that of the analyses alone."""
    scope = AnalysisScope.model_validate_json((folder / "scope.json").read_text())
    total = measure(folder, scope)
    peak = peak_gb()
    print(
        f"{scope.requests:,} requests: {total:.1f} s in all (to reach: {TO_REACH_S:.0f}), {peak:.2f} GB peak (to reach: {TO_REACH_GB:.0f})"
    )


if __name__ == "__main__":
    if len(sys.argv) > 2:
        child(Path(sys.argv[2]))
        raise SystemExit
    import subprocess

    asked = int(sys.argv[1]) if len(sys.argv) > 1 else 2_000_000
    with tempfile.TemporaryDirectory() as name:
        place = Path(name)
        with open_engine("duckdb", spill_to=place / "spill") as opened:
            (place / "scope.json").write_text(conformed(place, asked, opened).model_dump_json())
        subprocess.run([sys.executable, __file__, str(asked), name], check=True)
