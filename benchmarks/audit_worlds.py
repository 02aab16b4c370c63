"""Worlds in which a share of the requests carries the probability of its choice: what the audit finds, and what comes of the rules.

Run: python benchmarks/audit_worlds.py [--runs N] [--requests N] [--share S] [--seed N]. To reach: where something hidden steers it is found, and
floors are broken in at most 3 % of windows; where nothing does, a difference is found in at most 5 %. The seed is fresh unless given, and printed.
"""

from __future__ import annotations

import argparse
import secrets
import sys
import tempfile
from pathlib import Path

import numpy as np

sys.path.insert(0, str(Path(__file__).parents[1]))

from routing_pipeline.recommendation.routing_rules import optimize_routing_rules
from routing_pipeline.window.engine import open_engine
from tests.simulation import worlds

FLOOR = 0.01


def main() -> None:
    """Print a line per world."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--runs", type=int, default=50)
    parser.add_argument("--requests", type=int, default=20_000)
    parser.add_argument("--share", type=float, default=0.1)
    parser.add_argument("--seed", type=int, default=None, help="default: a fresh one")
    asked = parser.parse_args()
    seed = secrets.randbelow(2**31) if asked.seed is None else asked.seed
    print(f"seed {seed}; {100 * asked.share:g} % of the requests carry a probability", flush=True)
    for name, world in (("hidden difficulty", worlds.HIDDEN), ("nothing hidden", worlds.CONFOUNDED)):
        verdicts: list[str] = []
        found: list[tuple[float, float]] = []
        with open_engine() as engine:
            for run in range(asked.runs):
                rows, requests = worlds.partly_known(world, asked.requests, asked.share, np.random.default_rng(seed + run))
                with tempfile.TemporaryDirectory() as folder:
                    evidence, scope = worlds.evidence_of(
                        engine, rows, Path(folder), goal="cost", max_quality_drop=FLOOR, max_quality_drop_per_task=1.0
                    )
                    rules = optimize_routing_rules(evidence, scope).rule_set
                verdicts.append("called false" if evidence.audit is None else evidence.audit.verdict)
                today = worlds.truth_of(requests, requests.route)
                then = worlds.truth_of(requests, worlds.followed(world, requests, rules))
                found.append((then.quality - today.quality, 1 - then.cost / today.cost))
        quality, saving = np.array(found).T
        counts = ", ".join(f"{each} {np.mean([verdict == each for verdict in verdicts]):.0%}" for each in sorted(set(verdicts)))
        print(
            f"{name}: {counts}; floor broken in {np.mean(quality < -FLOOR):.1%} (worst {quality.min():+.4f}), saving {saving.mean():.1%}",
            flush=True,
        )


if __name__ == "__main__":
    main()
