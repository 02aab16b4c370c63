"""How often roll-outs that are looked at every hour let harm through, and how often they turn back what is harmless; beside fixed tests.

Run: python benchmarks/canary.py [--runs N] [--margin M] [--seed N]. To reach: a true fall of 1.1 margins goes on in at most 5 %, a harmless
change is turned back in at most 5 %. With --promised X the logs have proven a fall of X margins, each time with an error of --error margins,
whether that is so or not: what they flatter by may let through less than twice the margin. The seed is fresh unless given, and printed.
"""

from __future__ import annotations

import argparse
import secrets
import sys
import time
from dataclasses import replace
from pathlib import Path

import numpy as np

sys.path.insert(0, str(Path(__file__).parents[1]))

from tests.simulation.canary_worlds import World, outcome_of

KINDS = ("0 to 1", "pass or fail", "seldom fails")


def main() -> None:
    """Print a line for each world."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--runs", type=int, default=200)
    parser.add_argument("--margin", type=float, default=0.02)
    parser.add_argument("--sessions-per-hour", type=float, default=60.0)
    parser.add_argument("--every", type=int, default=1, help="hours between looks")
    parser.add_argument("--scores", nargs="*", choices=KINDS, default=KINDS)
    parser.add_argument("--falls", nargs="*", type=float, default=[0.0, 0.5, 1.1, 3.0, 10.0], help="in margins")
    parser.add_argument("--promised", type=float, default=None, help="fall that the logs promised, in margins")
    parser.add_argument("--error", type=float, default=0.1, help="standard error of that promise, in margins")
    parser.add_argument("--seed", type=int, default=None, help="default: a fresh one")
    asked = parser.parse_args()
    seed = secrets.randbelow(2**31) if asked.seed is None else asked.seed
    print(f"seed {seed}, {asked.runs} roll-outs each, margin {asked.margin}, {asked.sessions_per_hour:g} sessions an hour", flush=True)
    print(
        "| scores | true fall, in margins | begins on day | go through | turned back | undecided | median days since |\n|---|---:|---:|---:|---:|---:|---:|"
    )
    began_at = {0.0: (0,), 0.5: (0,), 1.0: (0,), 1.1: (0,), 3.0: (0, 2, 7, 14), 10.0: (0, 2, 7, 14)}
    for kind in asked.scores:
        for fall in asked.falls:
            for begins in began_at.get(fall, (0,)):
                began = time.monotonic()
                world = World(fall * asked.margin, asked.margin, asked.sessions_per_hour, is_pass_fail=kind != "0 to 1", begins_day=begins)
                if asked.promised is not None:
                    world = replace(world, promised=asked.promised * asked.margin, promised_error=asked.error * asked.margin)
                if kind == "seldom fails":
                    world = replace(world, level=0.99, drift=0.0, scored=1.0)
                ends = [outcome_of(world, seed + run, asked.every) for run in range(asked.runs)]
                shares = [sum(end == name for end, _ in ends) / asked.runs for name in ("through", "turned back", "undecided")]
                told = " | ".join(f"{100 * share:.1f} %" for share in shares)
                days = np.median([days - begins for _, days in ends])
                print(f"| {kind} | {fall:g} | {begins} | {told} | {days:.1f} |", flush=True)
                print(f"({time.monotonic() - began:.0f} s)", file=sys.stderr, flush=True)


if __name__ == "__main__":
    main()
