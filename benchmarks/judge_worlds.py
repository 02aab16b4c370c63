"""What a judge's score on every answer adds to people's scores on few, and whether its favours break a floor.

    python benchmarks/judge_worlds.py --runs 20

Per world and kind of scores: how many runs propose rules, broke the floor, and what they save, as a share of cost and of what a seer of all
outcomes could save by task; then how much more people's and judge's scores save together than people's alone. The judge favours weak models by up to 6 points; one world has a model whose answers are all alike, bad,
and perfect in the judge's eyes.
"""

from __future__ import annotations

import argparse
import sys
import tempfile
import time
from dataclasses import replace
from pathlib import Path
from typing import get_args

import numpy as np

sys.path.insert(0, str(Path(__file__).parents[1]))

from routing_pipeline.recommendation.routing_rules import optimize_routing_rules
from routing_pipeline.window.engine import Engine, open_engine
from tests.simulation import worlds
from tests.simulation.judged_worlds import Judge, Scores, judged

DROP = 0.01
POPULATION = 200_000
LOVED = replace(worlds.CONFOUNDED, skills=(0.15, 0.05, 0.55, 0.70, 0.85, 1.0))
JUDGES = {
    "correlation .85": (worlds.CONFOUNDED, Judge()),
    "correlation .6": (worlds.CONFOUNDED, Judge(correlation=0.6)),
    "a constant answer that the judge loves": (LOVED, Judge(loved=1)),
}


def saved(engine: Engine, world: worlds.World, judge: Judge, scores: Scores, n: int, seed: int) -> tuple[bool, float, float]:
    """Whether rules are proposed, what following them saves, and by how much they fall below the floor."""
    rng = np.random.default_rng(seed)
    rows = judged(world, worlds.contexts(world, n, rng), judge, rng, scores)
    population = worlds.contexts(world, POPULATION, np.random.default_rng(5))
    today = worlds.truth_of(population, population.route)
    with tempfile.TemporaryDirectory() as folder:
        asked = {"goal": "cost", "max_quality_drop": DROP, "max_quality_drop_per_task": 1.0}
        evidence, scope = worlds.evidence_of(engine, rows, Path(folder), **asked)
        rules = optimize_routing_rules(evidence, scope).rule_set
    then = worlds.truth_of(population, worlds.followed(world, population, rules))
    return bool(rules.rules), 1 - then.cost / today.cost, today.quality - DROP - then.quality


def main() -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--runs", type=int, default=20)
    parser.add_argument("--requests", type=int, default=40_000)
    parser.add_argument("--people", type=float, default=Judge().people, help="share of the answers that people score")
    parser.add_argument("--first", type=int, default=1, help="first seed")
    parser.add_argument("--world", nargs="*", choices=list(JUDGES), default=list(JUDGES))
    parser.add_argument("--scores", nargs="*", choices=get_args(Scores), default=list(get_args(Scores)))
    asked = parser.parse_args()
    print(
        "| world | scores | runs | rules | floor broken | worst | saving | of the oracle's |\n|---|---|---|---|---|---|---|---|", flush=True
    )
    with open_engine() as engine:
        for name in asked.world:
            world, judge = JUDGES[name][0], replace(JUDGES[name][1], people=asked.people)
            oracle = best_of(world)
            found: dict[Scores, list[tuple[bool, float, float]]] = {scores: [] for scores in asked.scores}
            began = time.perf_counter()
            for run in range(asked.runs):
                for scores, own in found.items():
                    own.append(saved(engine, world, judge, scores, asked.requests, asked.first + run))
                if (run + 1) % 5 == 0 or run + 1 == asked.runs:
                    print(f"   after {run + 1}, {time.perf_counter() - began:.0f} s", flush=True)
                    told(name, found, oracle)


def best_of(world: worlds.World) -> float:
    """What the best table by task saves that truly keeps the floor."""
    population = worlds.contexts(world, POPULATION, np.random.default_rng(5))
    today = worlds.truth_of(population, population.route)
    table = worlds.task_table(world, population, today.quality - DROP)
    return 1 - worlds.truth_of(population, table).cost / today.cost


def told(name: str, found: dict[Scores, list[tuple[bool, float, float]]], oracle: float) -> None:
    """A line for each kind of scores, and how the two kinds together compare with people's alone."""
    means = {}
    for scores, own in found.items():
        proposed, saving, below = (np.array(each, dtype=np.float64) for each in zip(*own, strict=True))
        broken = (below > 0) & (proposed > 0)
        means[scores] = float(saving.mean())
        print(
            f"| {name} | {scores} | {len(own)} | {proposed.mean():.0%} | {broken.mean():.0%} | {max(float((below * broken).max()), 0.0):.4f} "
            f"| {saving.mean():.1%} | {saving.mean() / oracle:.0%} |",
            flush=True,
        )
    if means.get("people") and "people and judge" in means:
        print(f"   {name}: together {means['people and judge'] / means['people']:.2f} x people alone", flush=True)


if __name__ == "__main__":
    main()
