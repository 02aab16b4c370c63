"""Worlds in which some requests need what the cheapest model cannot do: is any moved there, and what does the rest save?

Run: python benchmarks/feasible_worlds.py [--runs N] [--seed N]. 2 to 10 % of 24,000 requests need an image, or one in sixteen is too long. The router
knows it, and sends the model that cannot 2, 20 or 60 % as many of them as of others. To reach, where the log says who needs it, which of lengths it always
does: none of them moved, at least 90 % of the saving of a seer who knows what is feasible. Where only errors show it, and every second log tells of tools
alone: completion falls by more than half a point in at most 2 % of windows, a warning in all. The seed is fresh unless given, and printed.
"""

from __future__ import annotations

import argparse
import secrets
import sys
import tempfile
from pathlib import Path
from typing import Any

import numpy as np

sys.path.insert(0, str(Path(__file__).parents[1]))

from tests.simulation import worlds
from tests.simulation.test_feasible_worlds import CANNOT, DROP, WORLD, Run, run, seer

APART = 1_000
"""Between the seeds of two windows: each takes two."""
KINDS: dict[str, dict[str, Any]] = {
    "needs logged": {"is_logged": True},
    "needs seen by errors alone": {"is_logged": False},
    "too long for a model": {"is_logged": False, "need": "length"},
}


def judged(window: Run) -> tuple[float, float, float, bool, bool]:
    """Requests moved where they cannot be served, of all; saving, of the seer's; change of completion; whether it is warned of, and proposed."""
    now, then = (worlds.truth_of(window.population, shares) for shares in (window.population.route, window.shares))
    more = np.maximum(window.shares - window.population.route, 0.0)[window.needs, CANNOT]
    of_seer = window.saving(window.shares) / window.saving(seer(window.population, window.needs, now.quality - DROP))
    warned = any(WORLD.models[CANNOT] in each for each in window.evidence.warnings)
    return float(more.sum() / len(window.needs)), of_seer, then.success - now.success, warned, bool(window.answer.rule_set.rules)


def main() -> None:
    """Print a line for each of both."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--runs", type=int, default=50)
    parser.add_argument("--kind", nargs="*", choices=list(KINDS), default=list(KINDS))
    parser.add_argument("--seed", type=int, default=None, help="default: a fresh one")
    asked = parser.parse_args()
    seed = secrets.randbelow(2**31) if asked.seed is None else asked.seed
    print(f"seed {seed}", flush=True)
    for name in asked.kind:
        found = []
        for place in range(asked.runs):
            own = seed + APART * place
            rng = np.random.default_rng(own)
            share, sent = float(rng.uniform(0.02, 0.1)), float(rng.choice([0.02, 0.2, 0.6]))
            with tempfile.TemporaryDirectory() as folder:
                found.append(judged(run(Path(folder), seed=own, share=share, sent=sent, has_tools=place % 2 == 1, **KINDS[name])))
        moved, of_seer, success, warned, proposed = (np.array(each, dtype=float) for each in zip(*found, strict=True))
        print(
            f"{name}: proposed in {proposed.mean():.0%}; moved where they cannot be served: "
            f"{moved.max():.2%} of requests at most; saving, of the seer's: {of_seer.mean():.0%} (least {of_seer.min():.0%}); completion falls by more than "
            f"half a point in {(success < -0.005).mean():.0%}; warned in {warned.mean():.0%}",
            flush=True,
        )


if __name__ == "__main__":
    main()
