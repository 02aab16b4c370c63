"""How often an even window is told of unusual hours, and how often an incident of one model is found.

Run: python benchmarks/unusual_hours.py [--windows N] [--requests N] [--seed N]. To reach: at most 2 % of even windows; every incident.
The seed is fresh unless given, and printed.
"""

from __future__ import annotations

import argparse
import secrets
import sys
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).parents[1]))

from tests.policy.test_incident_free import LASTS, found_in, hours_found, window

KINDS: dict[str, dict[str, Any]] = {
    "requests by themselves": {},
    "sessions that fail, please and cost together": {"sessions": True},
    "heavy-tailed cost": {"tail": 1.6},
    "both": {"sessions": True, "tail": 1.6},
}


def main() -> None:
    """Print a line per kind of window."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--windows", type=int, default=200)
    parser.add_argument("--requests", type=int, default=20_000)
    parser.add_argument("--seed", type=int, default=None, help="default: a fresh one")
    asked = parser.parse_args()
    seed = secrets.randbelow(2**31) if asked.seed is None else asked.seed
    print(f"seed {seed}", flush=True)
    seeds = range(seed, seed + asked.windows)
    for name, kind in KINDS.items():
        even = sum(bool(found_in(window(each, asked.requests, **kind))) for each in seeds)
        some = seeds[: max(asked.windows // 10, 1)]
        for what in ("failures", "quality", "spend"):
            found = [hours_found(found_in(window(each, asked.requests, incident=what, **kind))) >= LASTS - 1 for each in some]
            print(f"{name}: incident of {what} found in {sum(found)} of {len(found)}", flush=True)
        print(f"{name}: unusual hours told in {even} of {len(seeds)} even windows", flush=True)


if __name__ == "__main__":
    main()
