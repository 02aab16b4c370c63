"""Advised exploration, followed: whether the logs can tell afterwards what was promised, and whether true probabilities are believed.

Run: python benchmarks/exploration_worlds.py [--runs N] [--requests N] [--seed N]. To reach: of 95 % of the pairs of a kind of request and a
model that a trial promises, the logs can tell once its days are over; true probabilities are called false in none of 100 windows. The seed is
fresh unless given, and printed.

A week is logged, and the trials that its evidence advises run for the days that each of them names; likewise the random choice that the
monitoring plan advises. They are judged twice: by those days alone, and by a window of 7 or 30 days that ends with them.
"""

from __future__ import annotations

import argparse
import math
import secrets
import sys
import tempfile
from collections.abc import Collection
from dataclasses import dataclass, field, replace
from pathlib import Path

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

sys.path.insert(0, str(Path(__file__).parents[1]))

from routing_pipeline.policy.evidence_model import RoutingEvidence
from routing_pipeline.policy.exploration import WINDOWS_DAYS, exploration_rules, trials_of
from routing_pipeline.recommendation.monitoring_plan import EXPLORED_TRAFFIC, monitoring_plan
from routing_pipeline.recommendation.routing_rules import optimize_routing_rules
from routing_pipeline.window.engine import Engine, open_engine
from tests.simulation import worlds
from tests.simulation.worlds import DAYS, Requests, World

Bools = NDArray[np.bool_]
MANY = tuple(np.linspace(0.15, 1.0, 8).tolist())
ONE_EACH = worlds.DETERMINISTIC
WORLDS = {
    "each kind to one model": ONE_EACH,
    "each level to one model": replace(ONE_EACH, hidden=1e-9),
    "eight models, each kind to one": replace(
        ONE_EACH, skills=MANY, prices=tuple(np.geomspace(0.2, 20, 8).tolist()), speeds=tuple(np.linspace(400, 2600, 8).tolist())
    ),
    "each kind to one model, a tenth of the answers scored": replace(ONE_EACH, labelled=0.1),
    "each kind to one model by more than is logged": replace(ONE_EACH, hidden=0.9),
}
MOST_JUDGED = 3
"""Trials of one window that are followed: those of the shortest and of the longest promise among them."""


@dataclass
class Tally:
    """What came of the advice of one world's windows."""

    windows: int = 0
    told: dict[str, list[bool]] = field(default_factory=lambda: {"by its days alone": [], "in a window": []})
    days: list[float] = field(default_factory=list)
    followed: int = 0
    called_false: int = 0

    def judge(self, before: pa.Table, during: pa.Table, days: float, promised: Collection[tuple[str, str]], engine: Engine) -> None:
        """Hold promises, as (task, model), against the evidence of what was logged while they were kept."""
        self.days.append(days)
        window = next(each for each in WINDOWS_DAYS if each >= days)
        earlier = before.slice(0, min(before.num_rows, round(during.num_rows / days * (window - days))))
        for how, rows in (("by its days alone", during), ("in a window", pa.concat_tables([earlier, during]))):
            with tempfile.TemporaryDirectory() as folder:
                after, _ = worlds.evidence_of(engine, rows, Path(folder), goal="cost", max_quality_drop_per_task=1.0)
            self.followed += 1
            self.called_false += not all(each.matches for each in after.propensity_check)
            self.told[how] += [can_tell(after, *each) for each in promised]

    def line(self, what: str) -> str:
        """For the terminal."""
        told = ", ".join(f"{how} {np.mean(each):.1%} of {len(each)} promises" for how, each in self.told.items() if each)
        between = f"{min(self.days):.0f} to {max(self.days):.0f} days" if self.days else "none"
        return f"{what} ({between}): {told or 'nothing promised'}; called false in {self.called_false} of {self.followed} windows"


def can_tell(evidence: RoutingEvidence, task: str, model: str) -> bool:
    """Whether the logs can tell of a model on every part of a kind."""
    return all(arm.supported for each in evidence.segments if each.task_type == task for arm in each.arms if arm.model == model)


def follow(world: World, requests: int, rng: np.random.Generator, engine: Engine, trials: Tally, plans: Tally) -> None:
    """One week, what it advises, and what can be told once that was done."""
    before = worlds.logged(world, worlds.contexts(world, requests, rng), rng)
    with tempfile.TemporaryDirectory() as folder:
        evidence, scope = worlds.evidence_of(engine, before, Path(folder), goal="cost", max_quality_drop_per_task=1.0)
        answer = optimize_routing_rules(evidence, scope)
        promised, advised = trials_of(evidence, scope, answer.rule_set), exploration_rules(evidence, scope, answer.rule_set)
        plan = monitoring_plan(scope.model_copy(update={"models": world.models}), evidence, answer).exploration
    for tally in (trials, plans):
        tally.windows += 1
    if advised is not None:
        by_length = sorted((each for each in promised if each.days is not None), key=lambda each: each.days or 0)
        for each in (
            {by_length[place] for place in np.linspace(0, len(by_length) - 1, MOST_JUDGED).round().astype(int)} if by_length else ()
        ):
            days = each.days or 0.0
            contexts = worlds.contexts(world, math.ceil(requests / DAYS * days), rng)
            shares = worlds.followed(world, contexts, advised)
            during = known_where((shares != contexts.route).any(axis=1), world, replace(contexts, route=shares), rng)
            trials.judge(before, during, days, [(each.segment.split(",")[0], each.model)], engine)
    if plan is not None and plan.days is not None and plan.decides:
        contexts = worlds.contexts(world, math.ceil(requests / DAYS * plan.days), rng)
        at_random = rng.random(len(contexts.task)) < plan.share
        alike = np.isin(world.models, plan.models) / len(plan.models)
        during = known_where(at_random, world, replace(contexts, route=np.where(at_random[:, None], alike, contexts.route)), rng)
        plans.judge(before, during, plan.days, [(task, model) for task in largest(evidence) for model in plan.models], engine)


def known_where(known: Bools, world: World, contexts: Requests, rng: np.random.Generator) -> pa.Table:
    """What is logged of these requests: the probability of the choice where it is known."""
    rows = worlds.logged(replace(world, logs_propensity=True), contexts, rng)
    return worlds.with_column(rows, "propensity", rows["propensity"].to_numpy(zero_copy_only=False), ~known)


def largest(evidence: RoutingEvidence) -> tuple[str, ...]:
    """The kinds that make up four fifths of the traffic, which a plan speaks of."""
    shares: dict[str, float] = {}
    for each in evidence.segments:
        shares[each.task_type] = shares.get(each.task_type, 0.0) + each.share
    ordered = sorted(shares, key=lambda task: -shares[task])
    before = np.cumsum([0.0, *(shares[task] for task in ordered)])
    return tuple(task for task, less in zip(ordered, before, strict=False) if less < EXPLORED_TRAFFIC)


def main() -> None:
    """Print a line for each world."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--runs", type=int, default=20, help="windows of each world")
    parser.add_argument("--requests", type=int, default=20_000, help="of the week before")
    parser.add_argument("--seed", type=int, default=None, help="default: a fresh one")
    asked = parser.parse_args()
    seed = secrets.randbelow(2**31) if asked.seed is None else asked.seed
    print(f"seed {seed}, {asked.requests:,} requests a week", flush=True)
    with open_engine() as engine:
        for name, world in WORLDS.items():
            trials, plans = Tally(), Tally()
            for run in range(asked.runs):
                follow(world, asked.requests, np.random.default_rng([seed, run]), engine, trials, plans)
            print(f"{name}: {trials.line('trials')}; {plans.line('at random')}", flush=True)


if __name__ == "__main__":
    main()
