"""Worlds with known truth, many times over: how often intervals hold and floors break, and what is saved.

Run: make simulate, or python benchmarks/monte_carlo.py [--runs N] [--world NAME ...] [--goal GOAL] [--seed N | --first N].
Seeds are fresh unless given, and printed, so that nobody tunes on the runs that confirm. A line is printed after every
ten runs of a world; the table grows world by world.
"""

from __future__ import annotations

import argparse
import itertools
import secrets
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa

sys.path.insert(0, str(Path(__file__).parents[1]))

from routing_pipeline.estimates import Estimate, Measured
from routing_pipeline.parameters import GOALS, Goal
from routing_pipeline.policy.evidence_model import RoutingEvidence
from routing_pipeline.policy.exploration import exploration_rules
from routing_pipeline.policy.search import MAX_COMPLETION_DROP
from routing_pipeline.recommendation.routing_rules import RoutingRules, optimize_routing_rules
from routing_pipeline.rules.model import RuleSet
from routing_pipeline.window.engine import Engine, open_engine
from routing_pipeline.window.scope import AnalysisScope
from tests.shared import real_outcomes
from tests.simulation import worlds
from tests.simulation.worlds import Requests, Truth, World

DROP = 0.01
POPULATION = 200_000
BROKEN_BY = 0.005
"""A floor counts as broken when truth is below it by more than this; any breach at all is printed beside it."""


@dataclass(frozen=True)
class Trial:
    """One world at one size: how rows are drawn, and the truth of any shares by (request, model) over its population."""

    name: str
    draw: Callable[[np.random.Generator], pa.Table]
    truth: Callable[[np.ndarray], Truth]
    followed: Callable[[RuleSet], np.ndarray]
    today: Truth
    oracle: Truth
    averages: Callable[[pa.Table], np.ndarray]
    floor: float
    reference: Truth
    """Savings are shares of its cost: today's routing, or the strong model alone."""
    asked: dict[str, Any]
    runs: int


@dataclass
class Tally:
    """What happened in the runs of one trial so far."""

    proposed: list[bool] = field(default_factory=list)
    held: list[tuple[bool, bool, bool, bool]] = field(default_factory=list)
    broken: list[tuple[bool, bool]] = field(default_factory=list)
    broken_by_averages: list[bool] = field(default_factory=list)
    saving: list[float] = field(default_factory=list)
    moved: list[float] = field(default_factory=list)
    warned: list[bool] = field(default_factory=list)
    written: list[int] = field(default_factory=list)
    dearer: list[bool] = field(default_factory=list)
    incomplete: list[bool] = field(default_factory=list)
    invented: list[bool] = field(default_factory=list)
    explored: list[bool] = field(default_factory=list)


def world_trial(name: str, world: World, n: int, runs: int, drop: float = DROP) -> Trial:
    """A trial of a made-up world; the oracle is the best task table that truly keeps the floor."""
    population: Requests = worlds.contexts(world, POPULATION, np.random.default_rng(5))
    today = worlds.truth_of(population, population.route)
    floor = today.quality - drop

    def draw(rng: np.random.Generator) -> pa.Table:
        return worlds.logged(world, worlds.contexts(world, n, rng), rng)

    return Trial(
        name=f"{name}, {n:,}",
        draw=draw,
        truth=lambda shares: worlds.truth_of(population, shares),
        followed=lambda rules: worlds.followed(world, population, rules),
        today=today,
        oracle=worlds.truth_of(population, worlds.task_table(world, population, floor)),
        averages=lambda rows: worlds.averages_table(world, rows, population, worlds.raw_quality(rows) - drop),
        floor=floor,
        reference=today,
        asked={"max_quality_drop": drop, "max_quality_drop_per_task": 1.0},
        runs=runs,
    )


def real_trial(n: int, runs: int) -> Trial | None:
    """Two real models on 57 kinds of prompt, at 95 % of the strong one's quality; None where the file is not there."""
    if not real_outcomes.PATH.exists():
        return None
    real, prompts = real_outcomes.read()
    strong = real_outcomes.always_strong(prompts)
    floor = 0.95 * strong.quality
    return Trial(
        name=f"two real models, {n:,}",
        draw=lambda rng: real_outcomes.logged(real, prompts, n, rng),
        truth=lambda shares: worlds.truth_of(prompts, shares),
        followed=lambda rules: worlds.followed(real, prompts, rules),
        today=worlds.truth_of(prompts, prompts.route),
        oracle=worlds.truth_of(prompts, worlds.task_table(real, prompts, floor)),
        averages=lambda rows: worlds.averages_table(real, rows, prompts, floor),
        floor=floor,
        reference=strong,
        # Length alone decides in these logs, and so the owner of this router says.
        asked={"quality_threshold": floor, "max_quality_drop": 1.0, "max_quality_drop_per_task": 1.0, "router_inputs": ("prompt_tokens",)},
        runs=runs,
    )


def trials() -> dict[str, Callable[[], Trial | None]]:
    """By name; built when wanted. The first number is the requests, the second the runs unless told otherwise."""
    scarce = replace(worlds.CONFOUNDED, labelled=0.1)
    return {
        "confounded": lambda: world_trial("confounded", worlds.CONFOUNDED, 40_000, 200),
        "confounded-large": lambda: world_trial("confounded", worlds.CONFOUNDED, 300_000, 20),
        "scarce": lambda: world_trial("scarce, 10 % labelled", scarce, 600, 200),
        "scarce-1500": lambda: world_trial("scarce, 10 % labelled", scarce, 1_500, 60),
        "no-overlap": lambda: world_trial("no overlap", worlds.DETERMINISTIC, 30_000, 40),
        "dominated": lambda: world_trial("one model dominates", worlds.DOMINATED, 40_000, 60),
        "two-near": lambda: world_trial("two models of near quality", worlds.TWO_NEAR, 40_000, 60),
        "siblings": lambda: world_trial("three models at two providers each", worlds.SIBLINGS, 12_000, 60),
        "unrelated": lambda: world_trial("the same, of which logs do not say so", worlds.UNRELATED, 12_000, 60),
        "hidden": lambda: world_trial("hidden difficulty", worlds.HIDDEN, 20_000, 100),
        "randomised": lambda: world_trial("hidden difficulty, logged propensities", worlds.RANDOMISED, 20_000, 60),
        "length-only": lambda: world_trial("complexity not logged", worlds.LENGTH_ONLY, 40_000, 60),
        "missing-by-quality": lambda: world_trial("worse answers scored more often", worlds.MISSING_BY_QUALITY, 40_000, 60),
        "drifting": lambda: world_trial("mix of tasks drifts", worlds.DRIFTING, 40_000, 60),
        "heavy-tailed": lambda: world_trial("heavy-tailed cost", worlds.HEAVY_TAILED, 40_000, 60),
        "failing": lambda: world_trial("failures by task", worlds.FAILING_BY_TASK, 40_000, 60),
        "real": lambda: real_trial(20_000, 50),
    }


def holds(measured: Measured, truth: float) -> bool:
    """Whether an interval covers the truth; what cannot be told covers nothing."""
    return isinstance(measured, Estimate) and measured.low <= truth <= measured.high


def count(tally: Tally, trial: Trial, rows: pa.Table, answer: RoutingRules, evidence: RoutingEvidence, scope: AnalysisScope) -> None:
    """Hold one answer against the truth."""
    rules = answer.rule_set
    then = trial.truth(trial.followed(rules))
    tally.proposed.append(bool(rules.rules))
    tally.broken.append(
        (then.quality < trial.floor - 1e-9 and bool(rules.rules), then.quality < trial.floor - BROKEN_BY and bool(rules.rules))
    )
    tally.saving.append(1 - then.cost / trial.reference.cost)
    tally.moved.append(answer.moved_share)
    tally.broken_by_averages.append(trial.truth(trial.averages(rows)).quality < trial.floor - BROKEN_BY)
    tally.warned.append(any("would not hold" in warning for warning in rules.warnings))
    tally.written.append(len(rules.rules))
    tally.incomplete.append(then.success < trial.today.success - MAX_COMPLETION_DROP)
    tally.dearer.append(then.cost > trial.today.cost * (1 + 1e-9))
    told = [arm for segment in evidence.segments for arm in segment.arms if arm.requests == 0 and isinstance(arm.quality, Estimate)]
    tally.invented.append(bool(told))
    tally.explored.append(exploration_rules(evidence, scope, rules) is not None)
    if rules.rules:
        expected = rules.expected
        tally.held.append(
            (
                holds(expected.proposed.cost_usd, then.cost),
                holds(expected.proposed.quality, then.quality),
                holds(expected.change.cost_usd.relative, then.cost / trial.today.cost - 1),
                holds(expected.change.quality.relative, then.quality / trial.today.quality - 1),
            )
        )


def rate(flags: list[bool]) -> str:
    """A share with the runs it is of."""
    return "-" if not flags else f"{np.mean(flags):.0%}"


HEAD = (
    "world, requests",
    "runs",
    "rules",
    "holds: cost",
    "quality",
    "change of cost",
    "of quality",
    "floor broken",
    f"by > {BROKEN_BY:g}",
    "averages break it",
    "saving",
    "of the oracle's",
    "warned",
    "rules written",
    "dearer than today",
    "completion broken",
    "untried arms told",
    "exploration",
)


def line(trial: Trial, tally: Tally) -> tuple[str, ...]:
    """One row of the table."""
    oracle = 1 - trial.oracle.cost / trial.reference.cost
    mean = float(np.mean(tally.saving))
    held = list(zip(*tally.held, strict=True)) if tally.held else [(), (), (), ()]
    return (
        trial.name,
        str(len(tally.proposed)),
        rate(tally.proposed),
        *(rate(list(each)) for each in held),
        rate([any_ for any_, _ in tally.broken]),
        rate([much for _, much in tally.broken]),
        rate(tally.broken_by_averages),
        f"{mean:.1%}",
        "-" if oracle < 0.005 else f"{mean / oracle:.0%}",
        rate(tally.warned),
        f"{np.mean(tally.written):.1f}",
        rate(tally.dearer),
        rate(tally.incomplete),
        rate(tally.invented),
        rate(tally.explored),
    )


def run(trial: Trial, runs: int, seeds: Iterator[int], engine: Engine, goal: Goal) -> Tally:
    """All runs of a trial, a line after every ten."""
    tally = Tally()
    began = time.perf_counter()
    for done in range(1, runs + 1):
        rows = trial.draw(np.random.default_rng(next(seeds)))
        with tempfile.TemporaryDirectory() as folder:
            evidence, scope = worlds.evidence_of(engine, rows, Path(folder), goal=goal, **trial.asked)
            count(tally, trial, rows, optimize_routing_rules(evidence, scope), evidence, scope)
        if done % 10 == 0 and done < runs:
            print(f"   after {done}, {time.perf_counter() - began:.0f} s: {' | '.join(line(trial, tally)[2:])}", flush=True)
    return tally


def main() -> None:
    """Print the table."""
    known = trials()
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--runs", type=int, help="of every world; default: each world's own number")
    parser.add_argument("--world", nargs="*", choices=list(known), default=list(known))
    parser.add_argument("--goal", choices=GOALS, default="cost", help="what is asked for; cost takes the boldest set that passes")
    parser.add_argument("--seed", type=int, default=None, help="default: a fresh one")
    parser.add_argument("--first", type=int, default=None, help="draw the runs of every world from this seed, the next one, and so on")
    asked = parser.parse_args()
    seed = secrets.randbelow(2**31) if asked.seed is None else asked.seed
    print(
        f"seed {seed if asked.first is None else f'{asked.first}, {asked.first + 1}, ...'}; coverage is of nominal 95 % intervals, over the runs that propose rules\n",
        flush=True,
    )
    print(f"| {' | '.join(HEAD)} |\n|{'---|' * len(HEAD)}", flush=True)
    with open_engine() as engine:
        for place, name in enumerate(asked.world):
            trial = known[name]()
            if trial is None:
                print(f"   {name}: its data are not on this machine", flush=True)
                continue
            drawn = np.random.SeedSequence([seed, place]).generate_state(10_000)
            seeds = iter(int(each) for each in drawn) if asked.first is None else itertools.count(asked.first)
            tally = run(trial, asked.runs or trial.runs, seeds, engine, asked.goal)
            print(f"| {' | '.join(line(trial, tally))} |", flush=True)


if __name__ == "__main__":
    main()
