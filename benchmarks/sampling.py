"""Evidence from a sample of sessions against evidence from all, in a world whose truth is known.

How often intervals of cost and quality, by task and model, hold the truth: from all requests, from a quarter of the
sessions, and from fresh windows as small as that sample; how much wider the sample's are.

Run: python benchmarks/sampling.py [windows]
"""

from __future__ import annotations

import sys
import tempfile
from pathlib import Path

import numpy as np

from tests.simulation.sampled_worlds import judged
from tests.simulation.worlds import CONFOUNDED

RATE = 0.25


def main(windows: int) -> None:
    with tempfile.TemporaryDirectory() as name:
        for requests in (200_000, 400_000):
            every, part = judged(CONFOUNDED, requests, RATE, windows, Path(name))
            fresh, _ = judged(CONFOUNDED, round(requests * RATE), 1.0, windows, Path(name), seed=2)
            ratio = np.median(np.array(part.width) / np.array(every.width))
            print(
                f"{windows} windows of {requests:,}: {np.mean(every.held):.1%} of {len(every.held):,} intervals hold from all requests, "
                f"{np.mean(part.held):.1%} from {RATE:.0%} of the sessions, {np.mean(fresh.held):.1%} from windows of that size; "
                f"the sample's are {ratio:.2f} times as wide"
            )


if __name__ == "__main__":
    main(int(sys.argv[1]) if len(sys.argv) > 1 else 10)
