"""Worlds whose router goes by a logged column beside task and complexity: a team, or the day of a migration."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Literal

import numpy as np
import pyarrow as pa

from routing_pipeline.rules.model import RuleSet
from tests.simulation import worlds
from tests.simulation.worlds import Floats, Requests, World

TEAMS = 6


@dataclass(frozen=True)
class Steered:
    """A window, its truth, and by request the team."""

    world: World
    requests: Requests
    teams: tuple[str, ...]
    rows: pa.Table


def steered(by: Literal["team", "day"], n: int, seed: int, *, push: float = 2.8, harder: float = 1.2) -> Steered:
    """Half of the teams, or the second half of the window, ask harder questions, and get dearer models.

    push: how much likelier the best model becomes against the worst, in logits; harder: how much lower answers are, in logits.
    """
    rng = np.random.default_rng(seed)
    world = World()
    requests = worlds.contexts(world, n, rng)
    team = rng.integers(0, TEAMS, size=int(requests.session.max()) + 1)[requests.session]
    moment = rng.random(n)
    is_hard = (team >= TEAMS // 2 if by == "team" else moment > 0.5).astype(float)
    skill = np.array(world.skills)
    odds = np.log(requests.quality / (1 - requests.quality)) - harder * is_hard[:, None] * (0.3 + 1.2 * (1 - skill))[None, :]
    logits = np.log(np.maximum(requests.route, 1e-12)) + push * (is_hard - 0.5)[:, None] * skill[None, :]
    route = np.exp(logits - logits.max(axis=1, keepdims=True))
    route = 0.95 * route / route.sum(axis=1, keepdims=True) + 0.05 / len(skill)
    requests = replace(requests, quality=1 / (1 + np.exp(-odds)), route=route, moment=moment if by == "day" else None)
    rows = worlds.logged(world, requests, rng)
    teams = tuple(f"team-{each}" for each in team)
    return Steered(world, requests, teams, worlds.with_column(rows, "team", list(teams)) if by == "team" else rows)


def change_under(window: Steered, rules: RuleSet) -> tuple[float, float]:
    """True change of mean quality, and of cost relative to today's, under rules."""
    world, requests = window.world, window.requests
    shares = requests.route.copy()
    decided = np.zeros(len(requests.task), dtype=bool)
    tasks = np.array(world.tasks)[requests.task]
    for rule in sorted(rules.rules, key=lambda each: each.priority):
        asked = ~decided
        for named, values in ((rule.when.task_type, tasks), (rule.when.team, np.array(window.teams))):
            asked &= True if named is None else np.isin(values, named)
        for between, numbers in ((rule.when.complexity, requests.complexity), (rule.when.prompt_tokens, requests.tokens)):
            if between is not None:
                asked &= (numbers >= (-np.inf if between.gte is None else between.gte)) & (
                    numbers < (np.inf if between.lt is None else between.lt)
                )
        if rule.route != "unchanged":
            weights = np.zeros(len(world.models))
            for each in rule.route:
                weights[world.models.index(each.model)] += each.weight
            shares[asked] = weights
        decided |= asked

    def quality(of: Floats) -> float:
        return float((of * requests.success * requests.quality).sum() / (of * requests.success).sum())

    cost = float((shares * requests.cost).sum() / (requests.route * requests.cost).sum())
    return quality(shares) - quality(requests.route), cost - 1
