"""Made-up conversations whose truth is known: every prompt holds what was said before, and providers cache it by model.

Belongs here: drawing them, logging what a router chose turn by turn, and what they cost under any choice of models. What a call costs is
worked out from which models served its session before, so the truth of a rule set is the same sessions served as it says.
"""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from routing_pipeline.rules.model import RuleSet
from tests.simulation.session_worlds import START_S, Agents, logged
from tests.simulation.worlds import with_column

Floats = NDArray[np.float64]
Ints = NDArray[np.int64]


@dataclass(frozen=True)
class Conversations:
    """Conversations of `turns` requests.

    fresh, cached, out: USD per million tokens by model; lifetime_s: of a cache; hits: share of what could be cached that is. stays:
    chance to stay with the model of the turn before; else, and at first, one is drawn by `shares`.
    """

    turns: int = 8
    fresh: tuple[float, ...] = (0.8, 2.0, 5.0)
    cached: tuple[float, ...] = (0.08, 0.2, 0.5)
    out: tuple[float, ...] = (3.0, 6.0, 12.0)
    shares: tuple[float, ...] = (0.3, 0.4, 0.3)
    qualities: tuple[float, ...] = (0.78, 0.84, 0.85)
    hits: float = 0.95
    lifetime_s: float = 300.0
    slow_turns: float = 0.1
    stays: float = 0.0
    logs_propensity: bool = True
    scored: float = 0.3
    names: Agents = field(default_factory=lambda: Agents(prices=(1.0, 2.0, 5.0)))


@dataclass(frozen=True)
class Drawn:
    """By session (and turn)."""

    task: Ints
    complexity: Floats
    started_s: Floats
    prompt: Floats
    completion: Floats
    hit: Floats


def drawn(world: Conversations, n: int, rng: np.random.Generator) -> Drawn:
    """Conversations of a week."""
    added = rng.lognormal(5.5, 0.5, size=(n, world.turns))
    completion = np.round(rng.lognormal(5.3, 0.4, size=(n, world.turns)))
    said = added.cumsum(axis=1) + np.concatenate([np.zeros((n, 1)), completion.cumsum(axis=1)[:, :-1]], axis=1)
    gaps = np.where(
        rng.random((n, world.turns)) < world.slow_turns, rng.uniform(400.0, 900.0, (n, world.turns)), rng.uniform(10, 120, (n, world.turns))
    )
    started = START_S + np.sort(rng.random(n))[:, None] * 7 * 86_400 + gaps.cumsum(axis=1)
    complexity = np.clip(rng.beta(2.0, 2.5, size=(n, 1)) + rng.normal(0.0, 0.05, size=(n, world.turns)), 0.0, 1.0)
    hit = np.clip(world.hits + rng.normal(0.0, 0.02, size=(n, world.turns)), 0.0, 1.0)
    return Drawn(rng.integers(0, 3, size=n), complexity, started, np.round(1500.0 + said), completion, hit)


def choices(world: Conversations, n: int, rng: np.random.Generator) -> tuple[Ints, Floats]:
    """The router's models turn by turn, and the probability of each."""
    shares = np.array(world.shares)
    drawn_ = rng.choice(len(shares), size=(n, world.turns), p=shares)
    arm = drawn_.copy()
    probability = shares[arm]
    for turn in range(1, world.turns):
        stay = rng.random(n) < world.stays
        arm[:, turn] = np.where(stay, arm[:, turn - 1], drawn_[:, turn])
        same = arm[:, turn] == arm[:, turn - 1]
        probability[:, turn] = (1 - world.stays) * shares[arm[:, turn]] + world.stays * same
    return arm, probability


def served(world: Conversations, sessions: Drawn, arm: Ints) -> tuple[Floats, Floats]:
    """Cached tokens and cost of every call under these models."""
    n, turns = arm.shape
    at = np.arange(n)
    latest = np.full((n, len(world.fresh)), -1)
    cached = np.zeros((n, turns))
    for turn in range(turns):
        before = latest[at, arm[:, turn]]
        since = sessions.started_s[:, turn] - sessions.started_s[at, before]
        is_warm = (before >= 0) & (since <= world.lifetime_s)
        cached[:, turn] = np.where(is_warm, np.floor(sessions.hit[:, turn] * sessions.prompt[at, before]), 0.0)
        latest[at, arm[:, turn]] = turn
    fresh, read, out = (np.array(each)[arm] / 1e6 for each in (world.fresh, world.cached, world.out))
    return cached, (sessions.prompt - cached) * fresh + cached * read + sessions.completion * out


def rows_of(world: Conversations, sessions: Drawn, rng: np.random.Generator) -> pa.Table:
    """What the log shows."""
    n, turns = sessions.prompt.shape
    arm, probability = choices(world, n, rng)
    cached, cost = served(world, sessions, arm)
    quality = np.clip(np.array(world.qualities)[arm] - 0.1 * (sessions.complexity - 0.45) + rng.normal(0.0, 0.1, arm.shape), 0.0, 1.0)
    quality[rng.random(arm.shape) >= world.scored] = np.nan
    order = np.argsort(sessions.started_s.ravel(), kind="stable")
    calls = {
        "session": np.repeat(np.arange(n), turns),
        "arm": arm.ravel(),
        "started_s": sessions.started_s.ravel(),
        "task": np.repeat(sessions.task, turns),
        "complexity": sessions.complexity.ravel(),
        "prompt_tokens": sessions.prompt.ravel().astype(np.int64),
        "completion_tokens": sessions.completion.ravel().astype(np.int64),
        "ok": np.ones(n * turns, dtype=bool),
        "cost": cost.ravel(),
        "latency": rng.lognormal(6.5, 0.4, size=n * turns),
        "quality": quality.ravel(),
    }
    found = logged(world.names, {name: values[order] for name, values in calls.items()})
    found = found.append_column("cached_tokens", pa.array(cached.ravel()[order].astype(np.int64)))
    return with_column(found, "propensity", pa.array(probability.ravel()[order])) if world.logs_propensity else found


def targets(world: Conversations, sessions: Drawn, rules: RuleSet, rng: np.random.Generator) -> Ints:
    """The model that rules give each session at its first request; -1 where none decides."""
    n = len(sessions.task)
    found = np.full(n, -1)
    ordered = sorted(rules.rules, key=lambda each: each.priority)
    for place in range(n):
        request = {
            "task_type": world.names.tasks[sessions.task[place]],
            "complexity": sessions.complexity[place, 0],
            "prompt_tokens": sessions.prompt[place, 0],
            "team": "all",
        }
        rule = next((each for each in ordered if each.when.matches(request)), None)
        if rule is not None and rule.route != "unchanged":
            weights = np.array([each.weight for each in rule.route])
            chosen = rule.route[rng.choice(len(weights), p=weights / weights.sum())]
            found[place] = world.names.models.index(chosen.model)
    return found


def true_change_of_quality(world: Conversations, sessions: Drawn, rules: RuleSet, rng: np.random.Generator) -> float:
    """Change of mean quality when rules decide for sessions at their first request."""
    target, (arm, _) = targets(world, sessions, rules, rng), choices(world, len(sessions.task), rng)
    qualities = np.array(world.qualities)
    return float((qualities[np.where(target[:, None] >= 0, target[:, None], arm)] - qualities[arm]).mean())


def true_change(world: Conversations, sessions: Drawn, rules: RuleSet, rng: np.random.Generator, draws: int = 5) -> float:
    """Relative change of cost when rules decide for sessions at their first request."""
    n, target = len(sessions.task), targets(world, sessions, rules, rng)
    now = then = 0.0
    for _ in range(draws):
        arm, _ = choices(world, n, rng)
        now += served(world, sessions, arm)[1].sum()
        then += served(world, sessions, np.where(target[:, None] >= 0, target[:, None], arm))[1].sum()
    return then / now - 1
