"""Worlds whose router goes by something beside task and complexity, or by nothing else: what is named, and what comes of the rules.

Run: python benchmarks/steering_worlds.py [--runs N] [--requests N] [--seed N]. To reach: where a logged team or the day steers,
floors broken in at most 2 % of windows and 38 % saved where the team does; where nothing steers, any column named in at most 5 %.
The seed is fresh unless given, and printed.
"""

from __future__ import annotations

import argparse
import secrets
import sys
import tempfile
from pathlib import Path

import ibis
import numpy as np

sys.path.insert(0, str(Path(__file__).parents[1]))

from routing_pipeline.parameters import Parameters
from routing_pipeline.policy.kinds import binning_by_needs, window_needs
from routing_pipeline.policy.steering import examined
from routing_pipeline.recommendation.routing_rules import optimize_routing_rules
from routing_pipeline.window.engine import open_engine
from tests.simulation import worlds
from tests.simulation.steered_worlds import change_under, steered

FLOOR = 0.01


def false_alarms(runs: int, requests: int, seed: int) -> float:
    """Share of windows in which any column is named although none steers."""
    named = 0
    for run in range(runs):
        rng = np.random.default_rng(seed + run)
        world = worlds.World()
        rows = worlds.logged(world, worlds.contexts(world, requests, rng), rng)
        rows = worlds.with_column(rows, "team", [f"team-{each}" for each in rng.integers(0, 8, size=requests)])
        table = ibis.memtable(rows)
        tests, _ = examined(table, binning_by_needs(table, window_needs(table, Parameters())), requests)
        named += any(each.p_value <= 0.05 for each in tests.values())
    return named / runs


def main() -> None:
    """Print a line per world."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--runs", type=int, default=50)
    parser.add_argument("--requests", type=int, default=20_000)
    parser.add_argument("--seed", type=int, default=None, help="default: a fresh one")
    asked = parser.parse_args()
    seed = secrets.randbelow(2**31) if asked.seed is None else asked.seed
    print(f"seed {seed}", flush=True)
    print(f"nothing steers: named in {false_alarms(2 * asked.runs, asked.requests, seed):.1%} of windows", flush=True)
    for by in ("team", "day"):
        found = []
        with open_engine() as engine:
            for run in range(asked.runs):
                window = steered(by, asked.requests, seed + run)
                with tempfile.TemporaryDirectory() as folder:
                    evidence, scope = worlds.evidence_of(engine, window.rows, Path(folder))
                    rules = optimize_routing_rules(evidence, scope).rule_set
                named = any(each.column == by and each.verdict == "corrected for" for each in evidence.steering)
                found.append((*change_under(window, rules), named))
        quality, cost, named_in = (np.array(each, dtype=float) for each in zip(*found, strict=True))
        print(
            f"{by} steers: corrected for in {named_in.mean():.1%}, floor broken in {(quality < -FLOOR).mean():.1%} (worst {quality.min():+.4f}), "
            f"saving {-cost.mean():.1%}",
            flush=True,
        )


if __name__ == "__main__":
    main()
