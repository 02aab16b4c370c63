"""Does the budget projection's 95 % interval hold as often as it says?

Simulates daily spend: weekly cycle, growth of -1 to 3 % a week, a level that walks, days that vary, a spike now and then. At a
random moment of a random month, with 3 to 26 weeks of logs, the month and the quarter are projected as the asset does it, and
compared with what the simulation then brings.

    python benchmarks/projections.py [--months 400] [--seed 1]
"""

from __future__ import annotations

import argparse
import time
from datetime import date

import numpy as np

from routing_pipeline.analysis.budget_projection import SpendHistory, budget_projection
from routing_pipeline.analysis.daily_spend import day_of
from routing_pipeline.estimates import Estimate
from routing_pipeline.parameters import Parameters

TARGET = (0.90, 0.99)
FIRST = day_of(date(2026, 1, 1))
DAYS = 365


def year(rng: np.random.Generator) -> np.ndarray:
    """USD of every day of a year."""
    weekday = (np.arange(FIRST, FIRST + DAYS) + 3) % 7
    cycle = np.where(weekday < 5, 0.0, rng.uniform(-1.5, -0.2)) + rng.normal(0, 0.05, 7)[weekday]
    level = np.cumsum(rng.normal(0, rng.uniform(0.0, 0.02), DAYS)) + np.arange(DAYS) / 7 * rng.uniform(-0.01, 0.03)
    spikes = np.where(rng.random(DAYS) < 0.01, np.log(rng.uniform(1.5, 3.0, DAYS)), 0.0)
    return rng.lognormal(5, 1) * np.exp(cycle + level + spikes + rng.normal(0, rng.uniform(0.04, 0.15), DAYS))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--months", type=int, default=400)
    parser.add_argument("--seed", type=int, default=1)
    asked = parser.parse_args()
    began = time.monotonic()
    held: dict[str, list[bool]] = {"month": [], "quarter": []}
    lengths: list[int] = []
    width: dict[str, list[float]] = {"month": [], "quarter": []}
    for number in range(asked.months):
        rng = np.random.default_rng([asked.seed, number])
        usd = year(rng)
        end = int(rng.integers(190, DAYS - 95))
        fraction = float(rng.random())
        first = end - int(rng.integers(21, 182))
        lengths.append(end - first)
        days = {FIRST + day: float(usd[day]) for day in range(first, end)}
        days[FIRST + end] = float(usd[end]) * fraction
        found = budget_projection(SpendHistory({None: days}), (FIRST + end + fraction) * 86_400.0, Parameters())
        for name, period in (("month", found.month), ("quarter", found.quarter)):
            true = float(usd[day_of(period.start) - FIRST : day_of(period.end) - FIRST].sum())
            assert isinstance(period.total_usd, Estimate)
            held[name].append(period.total_usd.low <= true <= period.total_usd.high)
            width[name].append((period.total_usd.high - period.total_usd.low) / true)
    short = np.array(lengths) < 56
    print(f"{asked.months} projections, {time.monotonic() - began:.0f} s")
    for name, hits in held.items():
        print(
            f"{name:8} 95 % interval holds in {np.mean(hits):.1%}, median width {np.median(width[name]):.0%} of the total "
            f"(with less than eight weeks of logs {np.mean(np.array(hits)[short]):.1%})"
        )
    if not TARGET[0] <= np.mean(held["month"]) <= TARGET[1]:
        raise SystemExit(f"month: target {TARGET[0]:.0%} to {TARGET[1]:.0%}")


if __name__ == "__main__":
    main()
