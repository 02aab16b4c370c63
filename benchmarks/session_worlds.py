"""Worlds of sessions with known truth, many times over: is the sign of the saving right, does its interval hold, is it proposed?

    python benchmarks/session_worlds.py [--world NAME] [--runs 50] [--sessions 6000] [--seed 1]

One line a world: shares over the runs.
"""

from __future__ import annotations

import argparse
import tempfile
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from routing_pipeline.estimates import Estimate
from routing_pipeline.recommendation.routing_rules import optimize_routing_rules
from routing_pipeline.window.engine import open_engine
from tests.simulation import cached_worlds as cached, session_worlds as made
from tests.simulation.worlds import evidence_of

WORLDS = {
    "dearer per task": made.Agents(factors=(2.9, 1.0)),
    "a little dearer": made.Agents(factors=(2.6, 1.0)),
    "saves per task": made.Agents(factors=(1.6, 1.0)),
    "saves much": made.Agents(prices=(0.002, 0.010), factors=(2.0, 1.0)),
    "four times the calls": made.Agents(prices=(0.004, 0.010), factors=(4.0, 1.0)),
    "some switch": made.Agents(factors=(1.6, 1.0), switching=0.1),
}

CACHED = {
    "caches, routed at random": cached.Conversations(),
    "caches, sticky": cached.Conversations(stays=0.8, logs_propensity=False),
}
TURNS = 8
"""Requests of a conversation; so many fewer are drawn."""


@dataclass(frozen=True)
class Run:
    """Of one window: whether rules were proposed, the change of cost as promised, and as it truly is."""

    proposed: bool
    promised: Estimate | None
    true: float
    calls: bool
    quality: float


def run(world: made.Agents, sessions: int, seed: int) -> Run:
    """One window."""
    rng = np.random.default_rng(seed)
    drawn = made.drawn(world, sessions, rng)
    rows = made.logged(world, made.calls_of(world, drawn, rng))
    with tempfile.TemporaryDirectory() as folder, open_engine(threads=1) as engine:
        evidence, scope = evidence_of(engine, rows, Path(folder), goal="cost")
        rules = optimize_routing_rules(evidence, scope).rule_set
    now, then = made.truth_of(drawn, drawn.route), made.truth_of(drawn, made.followed(world, drawn, rules))
    change = rules.expected.change.cost_usd.relative
    per_session = rules.expected.per_session
    assert per_session is not None
    calls = per_session.change.requests.relative
    return Run(
        bool(rules.rules),
        change if isinstance(change, Estimate) else None,
        then.cost / now.cost - 1,
        isinstance(calls, Estimate) and calls.low <= then.calls / now.calls - 1 <= calls.high,
        then.quality - now.quality,
    )


def run_cached(world: cached.Conversations, sessions: int, seed: int) -> Run:
    """One window of conversations whose requests are routed one by one."""
    rng = np.random.default_rng(seed)
    drawn = cached.drawn(world, sessions, rng)
    rows = cached.rows_of(world, drawn, rng)
    with tempfile.TemporaryDirectory() as folder, open_engine(threads=1) as engine:
        evidence, scope = evidence_of(engine, rows, Path(folder), goal="cost")
        rules = optimize_routing_rules(evidence, scope).rule_set
    change = rules.expected.change.cost_usd.relative
    quality = rules.expected.change.quality.relative
    return Run(
        bool(rules.rules) and all(rule.per == "session" for rule in rules.rules),
        change if isinstance(change, Estimate) else None,
        cached.true_change(world, drawn, rules, rng),
        evidence.unit == "session",
        quality.estimate if isinstance(quality, Estimate) else float("nan"),
    )


def line(name: str, runs: list[Run]) -> str:
    """Shares over the runs."""
    made_ = [each for each in runs if each.proposed and each.promised is not None]
    told = [f"{name}: {len(runs)} runs, proposes {len(made_) / len(runs):.0%}"]
    if made_:
        holds = np.mean([each.promised.low <= each.true <= each.promised.high for each in made_ if each.promised])
        sign = sum(each.promised.estimate * each.true > 0 for each in made_ if each.promised)
        told.append(
            f"sign right in {sign} of {len(made_)}, change of cost holds {holds:.0%}, of calls {np.mean([each.calls for each in made_]):.0%}"
        )
        told.append(f"true change {np.mean([each.true for each in made_]):+.1%}, worst quality {min(each.quality for each in made_):+.4f}")
    return "; ".join(told)


def main() -> None:
    """Read the command line, print a line a world."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else "")
    parser.add_argument("--world", choices=sorted([*WORLDS, *CACHED]))
    parser.add_argument("--runs", type=int, default=50)
    parser.add_argument("--sessions", type=int, default=6000)
    parser.add_argument("--seed", type=int, default=1)
    asked = parser.parse_args()
    for name, world in WORLDS.items():
        if asked.world in {None, name}:
            print(line(name, [run(world, asked.sessions, asked.seed + place) for place in range(asked.runs)]), flush=True)
    for name, conversations in CACHED.items():
        if asked.world in {None, name}:
            found = [run_cached(conversations, asked.sessions // TURNS, asked.seed + place) for place in range(asked.runs)]
            print(line(name, found), flush=True)


if __name__ == "__main__":
    main()
