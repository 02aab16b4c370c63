"""How often windows of models that differ in nothing are told a difference, a regret or a missed opportunity: chance alone.

Run: python benchmarks/null_windows.py [--windows N] [--requests N] [--seed N]. To reach: each in at most 5 % of windows.
The seed is fresh unless given, and printed.
"""

from __future__ import annotations

import argparse
import secrets
import sys
import tempfile
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parents[1]))

from routing_pipeline.analysis.model_performance import OUTCOMES, _contrasts
from routing_pipeline.analysis.quality_issues import _mismatches
from routing_pipeline.window.engine import open_engine
from tests.simulation import worlds
from tests.simulation.test_null_worlds import GOALS, is_above_zero, window


def main() -> None:
    """Print a line after every 25 windows."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--windows", type=int, default=200)
    parser.add_argument("--requests", type=int, default=20_000)
    parser.add_argument("--seed", type=int, default=None, help="default: a fresh one")
    asked = parser.parse_args()
    seed = secrets.randbelow(2**31) if asked.seed is None else asked.seed
    print(f"seed {seed}", flush=True)
    told: dict[str, int] = {}
    with open_engine() as engine:
        for done in range(1, asked.windows + 1):
            with tempfile.TemporaryDirectory() as folder:
                found = window(worlds.ALIKE, asked.requests, seed + done, engine, Path(folder))
            contrasts = [contrast for outcome in OUTCOMES for contrast in _contrasts(found.evidence.tasks, outcome, None)]
            flags = {"any contrast": any(each.distinguishable for each in contrasts), "mismatch": bool(_mismatches(found.evidence)[0])}
            for goal in GOALS:
                flags[f"regret, {goal}"] = is_above_zero(found.decisions[goal])
                flags[f"opportunity, {goal}"] = bool(found.decisions[goal].opportunities)
            for name, flag in flags.items():
                told[name] = told.get(name, 0) + flag
            if done % 25 == 0 or done == asked.windows:
                print(f"{done}: " + ", ".join(f"{name} {count / done:.1%}" for name, count in told.items()), flush=True)


if __name__ == "__main__":
    main()
