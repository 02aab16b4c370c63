"""Worlds with an incident in the window: are limits kept in a normal week, which is what rules are for?

Run: python benchmarks/incident_worlds.py [--runs N] [--requests N] [--seed N]. To reach: against a normal week the floor is broken in at most 2 %
of windows. For six hours the two best models fail, answer worse or cost more than they do, so that whoever takes the window as it is moves too
much away from them. The seed is fresh unless given, and printed.
"""

from __future__ import annotations

import argparse
import secrets
import sys
import tempfile
from dataclasses import replace
from pathlib import Path

import numpy as np

sys.path.insert(0, str(Path(__file__).parents[1]))

from routing_pipeline.recommendation.routing_rules import optimize_routing_rules
from routing_pipeline.window.engine import open_engine
from tests.simulation import worlds
from tests.simulation.worlds import Requests

FLOOR = 0.01
BEGINS, LASTS = 0.5, 6 / 168
"""Of the window."""
INCIDENTS = ("nothing", "failures", "quality", "spend")


def befallen(requests: Requests, incident: str) -> Requests:
    """The requests as they went: in some hours the two best models do half as well, or cost four times as much."""
    assert requests.moment is not None
    hit = (requests.moment >= BEGINS) & (requests.moment < BEGINS + LASTS)
    success, quality, cost = requests.success.copy(), requests.quality.copy(), requests.cost.copy()
    best = np.ix_(hit, [-2, -1])
    if incident == "failures":
        success[best] *= 0.5
    if incident == "quality":
        quality[best] *= 0.5
    if incident == "spend":
        cost[best] *= 4.0
    return replace(requests, success=success, quality=quality, cost=cost)


def main() -> None:
    """Print a line per incident."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--runs", type=int, default=50)
    parser.add_argument("--requests", type=int, default=20_000)
    parser.add_argument("--seed", type=int, default=None, help="default: a fresh one")
    asked = parser.parse_args()
    seed = secrets.randbelow(2**31) if asked.seed is None else asked.seed
    print(f"seed {seed}", flush=True)
    for incident in INCIDENTS:
        found = []
        with open_engine() as engine:
            for run in range(asked.runs):
                rng, world = np.random.default_rng(seed + run), worlds.World()
                normal = replace(worlds.contexts(world, asked.requests, rng), moment=np.sort(rng.random(asked.requests)))
                rows = worlds.logged(world, befallen(normal, incident), rng)
                with tempfile.TemporaryDirectory() as folder:
                    evidence, scope = worlds.evidence_of(engine, rows, Path(folder), goal="cost")
                    rules = optimize_routing_rules(evidence, scope).rule_set
                now = worlds.truth_of(normal, normal.route)
                then = worlds.truth_of(normal, worlds.followed(world, normal, rules))
                found.append((bool(evidence.unusual), then.quality - now.quality, then.success - now.success, 1 - then.cost / now.cost))
        named, quality, success, saving = (np.array(each, dtype=float) for each in zip(*found, strict=True))
        print(
            f"{incident}: named in {named.mean():.0%}; in a normal week floor broken in {(quality < -FLOOR).mean():.0%} (worst {quality.min():+.4f}), "
            f"completion falls by more than half a point in {(success < -0.005).mean():.0%}, saving {saving.mean():.1%}",
            flush=True,
        )


if __name__ == "__main__":
    main()
