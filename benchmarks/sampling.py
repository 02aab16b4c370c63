"""Evidence and rules from a sample of sessions against those from all, in a world whose truth is known.

How often intervals of cost and quality by task and model hold the truth, what is promised of the proposed rules, and how
often the floor is broken: from all requests, from a quarter of the sessions, and from fresh windows as small as that sample.

Run: python benchmarks/sampling.py [--windows N] [--requests N ...] [--seed N]. Seeds are fresh unless given, and printed.
"""

from __future__ import annotations

import argparse
import secrets
import sys
import tempfile
from pathlib import Path

import numpy as np

sys.path.insert(0, str(Path(__file__).parents[1]))

from tests.simulation.sampled_worlds import BROKEN_BY, Held, Population, judged
from tests.simulation.worlds import CONFOUNDED

RATE = 0.25
POPULATION = 2_000_000
HEAD = (
    "window",
    "estimated from",
    "intervals",
    "cost holds",
    "quality holds",
    "times as wide",
    "proposes rules",
    "promises hold: cost",
    "quality",
    "change of cost",
    "change of quality",
    "USD saved",
    "floor broken",
    f"by > {BROKEN_BY:g}",
    "true saving",
)


def line(window: str, source: str, found: Held, wider: str) -> str:
    """One row of the table."""

    def share(flags: list[bool]) -> str:
        return f"{np.mean(flags):.1%}" if flags else "-"

    promises = [list(each) for each in zip(*found.promises, strict=True)] or [[]] * 5
    any_, much = zip(*found.broken, strict=True)
    cells = (
        window,
        source,
        f"{len(found.cost) + len(found.quality):,}",
        share([held for held, _ in found.cost]),
        share([held for held, _ in found.quality]),
        wider,
        f"{len(found.promises)} of {len(found.broken)}",
        *(share(each) for each in promises),
        str(sum(any_)),
        str(sum(much)),
        f"{np.mean(found.saving):.1%}",
    )
    return f"| {' | '.join(cells)} |"


def main() -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--windows", type=int, default=40)
    parser.add_argument("--requests", type=int, nargs="*", default=[200_000])
    parser.add_argument("--seed", type=int, default=None, help="default: a fresh one")
    asked = parser.parse_args()
    seed = secrets.randbelow(2**31) if asked.seed is None else asked.seed
    print(f"seed {seed}; intervals are nominal 95 %, promises those of the windows that propose rules\n", flush=True)
    print(f"| {' | '.join(HEAD)} |\n|{'---|' * len(HEAD)}", flush=True)
    population = Population(CONFOUNDED, POPULATION)
    with tempfile.TemporaryDirectory() as name:
        for requests in asked.requests:
            fewer = round(requests * RATE)
            every, part = judged(population, requests, RATE, asked.windows, Path(name), proofs=True, seed=seed)
            fresh, _ = judged(population, fewer, 1.0, asked.windows, Path(name), proofs=True, seed=seed + 1)
            print(line(f"{requests:,}", "all requests", every, "1"), flush=True)
            print(line(f"{requests:,}", f"{RATE:.0%} of the sessions", part, f"{part.wider_than(every):.2f}"), flush=True)
            print(line(f"{fewer:,}", "all requests", fresh, "-"), flush=True)


if __name__ == "__main__":
    main()
