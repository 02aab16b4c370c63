"""Worlds whose truth is known, other than the demo's: what the statistics are held against.

A world draws conformed requests (schema.SCOPED_REQUESTS) of which one model's outcome is logged, and knows every
model's expected outcome for each of them.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Protocol

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from numpy.typing import NDArray
from scipy.optimize import Bounds, LinearConstraint, milp

from routing_pipeline.parameters import Parameters
from routing_pipeline.policy.evidence import gather_evidence
from routing_pipeline.policy.evidence_model import RoutingEvidence
from routing_pipeline.rules.model import RuleSet
from routing_pipeline.window.engine import Engine
from routing_pipeline.window.scope import AnalysisScope, missing_sources

Floats = NDArray[np.float64]
Ints = NDArray[np.int64]
QUIET: Any = {"presolve": False, "mip_rel_gap": 1e-4}
"""With presolve, HiGHS writes to standard output now and then, whatever it is told."""
START_S = 1_795_000_000.0
DAYS = 7


@dataclass(frozen=True)
class World:
    """What there is: models by skill and price, tasks by demand, and how today's router chooses.

    explored: share routed at random. hidden: weight of difficulty that the router sees and the logs do not.
    labelled: mean share of successes that are scored; missing_by_quality: how much worse answers are scored more often
    than their features explain. deterministic: the router always takes its favourite. drift: how far the mix of tasks moves
    from the demanding ones to the easy ones over the window. task_failures: how much likelier an unskilled model fails in every
    third task. called: by model what its name calls, where the log says so; names that call the same are of one model.
    """

    skills: tuple[float, ...] = (0.15, 0.35, 0.55, 0.70, 0.85, 1.0)
    prices: tuple[float, ...] = (0.2, 0.5, 1.5, 4.0, 6.0, 20.0)
    speeds: tuple[float, ...] = (400.0, 500.0, 900.0, 1100.0, 1500.0, 2600.0)
    demands: tuple[float, ...] = (0.3, 0.6, 0.9, 1.2, 1.5, 1.8, 2.1, 2.4)
    sharpness: float = 9.0
    explored: float = 0.08
    hidden: float = 0.0
    labelled: float = 0.3
    missing_by_quality: float = 0.0
    deterministic: bool = False
    logs_complexity: bool = True
    logs_propensity: bool = False
    session_effect: float = 0.15
    price_tail: float = 0.7
    drift: float = 0.0
    task_failures: float = 0.0
    called: tuple[str, ...] = ()

    @property
    def models(self) -> tuple[str, ...]:
        """Names, not in the order of skill."""
        return tuple(f"model-{'dbface'[index % 6]}{index}" for index in range(len(self.skills)))

    @property
    def tasks(self) -> tuple[str, ...]:
        """Names."""
        return tuple(f"task-{index}" for index in range(len(self.demands)))


@dataclass(frozen=True)
class Requests:
    """Contexts with every model's expectation: quality of a success, chance of success, cost, latency, by (request, model)."""

    task: Ints
    complexity: Floats
    tokens: Ints
    session: Ints
    route: Floats
    quality: Floats
    success: Floats
    cost: Floats
    latency: Floats
    moment: Floats | None = None
    """When in the window, 0..1; None: at any time."""


def contexts(world: World, n: int, rng: np.random.Generator) -> Requests:
    """Draw requests and what each model would give them, in expectation."""
    tasks = len(world.demands)
    share = np.linspace(1.5, 0.7, tasks)
    task = rng.choice(tasks, size=n, p=share / share.sum())
    moment = None
    if world.drift:
        moment = rng.random(n)
        # Late in the window demanding tasks give way: kept with a chance that falls with time, else drawn anew among the easy.
        gives_way = (task >= tasks // 2) & (rng.random(n) < world.drift * moment)
        task = np.where(gives_way, rng.integers(0, tasks // 2, size=n), task)
    complexity = np.round(rng.beta(1.6 + 0.25 * task, 2.6), 3)
    unlogged = rng.normal(0.0, 1.0, size=n)
    tokens = np.maximum(rng.lognormal(np.log(300 * (1 + 0.5 * task) * (0.7 + 0.6 * complexity)), 0.6), 5).astype(np.int64)
    session = np.sort(rng.integers(0, max(n // 12, 1), size=n))
    mood = rng.normal(0.0, world.session_effect, size=int(session.max()) + 1)[session]
    skill, demand = np.array(world.skills), np.array(world.demands)[task]
    hardness = demand * (0.35 + 1.3 * complexity) + 0.6 * world.hidden * unlogged
    logit = 3.2 - 0.4 * hardness[:, None] - 1.9 * hardness[:, None] * (1 - skill[None, :]) + mood[:, None]
    quality = 1 / (1 + np.exp(-logit))
    success = np.clip(0.997 - 0.012 * (1 - skill[None, :]) * complexity[:, None], 0, 1) * np.ones((n, 1))
    success = success - world.task_failures * (1 - skill[None, :]) * (task % 3 == 0)[:, None]
    price = np.array(world.prices)[None, :] * (tokens / 1000.0 * (1 + 0.8 * complexity))[:, None] * 1e-3
    latency = np.array(world.speeds)[None, :] * (0.6 + 0.8 * complexity)[:, None]
    liking = np.linspace(0.12, 0.9, len(skill))
    seen = complexity * 0.55 + 0.2 * demand + 0.25 * world.hidden * unlogged
    score = -world.sharpness * (seen[:, None] - liking[None, :]) ** 2 * 2.2
    route = np.exp(score - score.max(axis=1, keepdims=True))
    route /= route.sum(axis=1, keepdims=True)
    if world.deterministic:
        favourite = score.argmax(axis=1) if world.hidden else np.clip(task * len(skill) // tasks, 0, len(skill) - 1)
        route = np.eye(len(skill))[favourite]
    route = (1 - world.explored) * route + world.explored / len(skill)
    return Requests(task, complexity, tokens, session, route, quality, success, price, latency, moment)


def logged(world: World, requests: Requests, rng: np.random.Generator) -> pa.Table:
    """What the gateway writes down: one model per request, noise around its expectations, some answers scored."""
    n = len(requests.task)
    arm = (requests.route.cumsum(axis=1) < rng.random(n)[:, None]).sum(axis=1).clip(0, len(world.skills) - 1)
    at = (np.arange(n), arm)
    success = rng.random(n) < requests.success[at]
    mean = np.clip(requests.quality[at], 1e-3, 1 - 1e-3)
    quality = rng.beta(mean * 12, (1 - mean) * 12)
    tail = world.price_tail
    cost = requests.cost[at] * rng.lognormal(-tail * tail / 2, tail, size=n)
    latency = requests.latency[at] * rng.lognormal(-0.125, 0.5, size=n)
    chance = world.labelled * (0.6 + 0.8 * requests.complexity) * (1.15 - 0.3 * np.array(world.skills)[arm])
    chance = chance * np.exp(world.missing_by_quality * (mean - quality))
    scored = success & (rng.random(n) < np.clip(chance, 0, 1))
    session = requests.session
    cluster = (session * 2_654_435_761 % 2**32) >> 24
    started = START_S + (np.sort(rng.random(n)) if requests.moment is None else requests.moment) * DAYS * 86_400
    names, tasks = np.array(world.models), np.array(world.tasks)
    own = requests.route[at]
    nothing = np.zeros(n, dtype=bool)
    called = {"provider_model": pa.array(np.array(world.called)[arm])} if world.called else {}
    return pa.table(
        called
        | {
            "is_final": pa.array(~nothing),
            "status": pa.array(np.where(success, "success", "failure")),
            "task_type": pa.array(tasks[requests.task]),
            "is_task_type_logged": pa.array(~nothing),
            "complexity": pa.array(requests.complexity if world.logs_complexity else _rank(requests.tokens)),
            "is_complexity_derived": pa.array(nothing if world.logs_complexity else ~nothing),
            "prompt_tokens": pa.array(requests.tokens, mask=~success),
            "is_cache_hit": pa.array(nothing),
            "model": pa.array(names[arm]),
            "routed_model": pa.array(names[arm]),
            "cluster": pa.array(cluster.astype(np.int64)),
            "request_cost_usd": pa.array(cost),
            "request_latency_ms": pa.array(latency),
            "quality": pa.array(quality, mask=~scored),
            "attempts": pa.array(np.ones(n, dtype=np.int64)),
            "propensity": pa.array(own, mask=nothing if world.logs_propensity else ~nothing),
            "team": pa.array(np.where(requests.task % 2 == 0, "red", "blue")),
            "tier": pa.nulls(n, pa.string()),
            "started_s": pa.array(started),
            "day": pa.array((started // 86_400).astype(np.int64)),
        }
    )


def partly_known(world: World, n: int, share: float, rng: np.random.Generator) -> tuple[pa.Table, Requests]:
    """A window in which a share of the requests, drawn by chance, goes to any model alike, and carries the probability of that."""
    requests = contexts(world, n, rng)
    is_known = rng.random(n) < share
    requests = replace(requests, route=np.where(is_known[:, None], 1 / len(world.skills), requests.route))
    rows = logged(replace(world, logs_propensity=True), requests, rng)
    return with_column(rows, "propensity", rows["propensity"].to_numpy(zero_copy_only=False), ~is_known), requests


def with_column(rows: pa.Table, name: str, values: Any, where: Any = None) -> pa.Table:
    """The rows with another column; null where `where` holds."""
    return rows.set_column(rows.column_names.index(name), name, pa.array(values, mask=where))


def forgotten(rows: pa.Table, column: str, where: NDArray[np.bool_]) -> pa.Table:
    """The rows without a number in some of them: answers that nobody scores, costs that nobody knows."""
    values = rows[column].to_numpy(zero_copy_only=False).astype(np.float64)
    return with_column(rows, column, values, where | np.isnan(values))


def _rank(tokens: Ints) -> Floats:
    order = np.argsort(np.argsort(tokens, kind="stable"), kind="stable")
    return (order + 0.5) / len(tokens)


def scope_of(rows: pa.Table, **asked: Any) -> AnalysisScope:
    """A scope over such rows, with parameters as asked."""
    parameters = Parameters(**asked)
    return AnalysisScope(
        key="world",
        parameters=parameters,
        timeframe_asked="7d",
        timeframe="7d",
        start_s=START_S,
        end_s=START_S + DAYS * 86_400,
        previous_start_s=START_S - DAYS * 86_400,
        snapshot_id="1",
        requests=rows.num_rows,
        attempts=rows.num_rows,
        labelled=rows.num_rows - rows["quality"].null_count,
        previous_requests=0,
        sessions=rows.num_rows,
        models=(),
        task_types=(),
        complexity_derived_share=0.0,
        task_type_unknown_share=0.0,
        sources=missing_sources({}),
        requests_uri="",
        previous_uri="",
    )


def evidence_of(engine: Engine, rows: pa.Table, folder: Path, **asked: Any) -> tuple[RoutingEvidence, AnalysisScope]:
    """Write rows, gather evidence."""
    path = folder / "rows.parquet"
    pq.write_table(rows, path)
    scope = scope_of(rows, **asked)
    return gather_evidence(engine.read_parquet([path]), scope, cells_path=folder / "cells.parquet"), scope


@dataclass(frozen=True)
class Truth:
    """Expected outcomes per request of a policy given as shares by (request, model)."""

    cost: float
    quality: float
    latency: float
    success: float


def truth_of(requests: Requests, shares: Floats) -> Truth:
    """True values over these requests; quality is of successes."""
    success = (shares * requests.success).sum(axis=1)
    good = (shares * requests.success * requests.quality).sum(axis=1)
    return Truth(
        cost=float((shares * requests.cost).sum(axis=1).mean()),
        quality=float(good.sum() / success.sum()),
        latency=float((shares * requests.latency).sum(axis=1).mean()),
        success=float(success.mean()),
    )


class Named(Protocol):
    """What a world calls its models and tasks."""

    @property
    def models(self) -> tuple[str, ...]: ...

    @property
    def tasks(self) -> tuple[str, ...]: ...


def followed(world: Named, requests: Requests, rules: RuleSet) -> Floats:
    """Shares by (request, model) when a gateway follows the rules."""
    shares = requests.route.copy()
    undecided = np.ones(len(requests.task), dtype=bool)
    names = np.array(world.tasks)[requests.task]
    for rule in sorted(rules.rules, key=lambda each: each.priority):
        holds = undecided.copy()
        if rule.when.task_type is not None:
            holds &= np.isin(names, rule.when.task_type)
        for values, between in ((requests.complexity, rule.when.complexity), (requests.tokens, rule.when.prompt_tokens)):
            if between is not None:
                holds &= (values >= (between.gte if between.gte is not None else -np.inf)) & (
                    values < (between.lt if between.lt is not None else np.inf)
                )
        undecided &= ~holds
        if rule.route != "unchanged":
            target = np.zeros(len(world.models))
            for each in rule.route:
                target[world.models.index(each.model)] = each.weight
            shares[holds] = target
    return shares


def task_table(world: Named, requests: Requests, floor: float) -> Floats:
    """Shares of the cheapest task -> model table that truly keeps the floor: what a seer of all outcomes could write."""
    tasks, models = len(world.tasks), len(world.models)
    n = len(requests.task)
    cost, success, good = (
        np.stack([np.bincount(requests.task, values[:, arm], minlength=tasks) for arm in range(models)], axis=1) / n
        for values in (requests.cost, requests.success, requests.success * requests.quality)
    )
    one = np.kron(np.eye(tasks), np.ones((1, models)))
    solved = milp(
        cost.ravel(),
        constraints=[LinearConstraint(one, 1, 1), LinearConstraint((good - floor * success).reshape(1, -1), 0, np.inf)],
        integrality=np.ones(tasks * models, dtype=np.int64),
        options=QUIET,
        bounds=Bounds(0, 1),
    )
    assert solved.x is not None, "the floor can be kept"
    return _one_model_each(solved.x, models, requests)


def _one_model_each(solution: Floats, models: int, requests: Requests) -> Floats:
    """Shares of the table that a solution of a programme stands for, request by request."""
    table: Floats = np.eye(models)[solution.reshape(-1, models).argmax(axis=1)]
    return table[requests.task]


def raw_quality(rows: pa.Table) -> float:
    """Mean of the scores in the logs, as they are."""
    return float(np.nanmean(rows["quality"].to_numpy(zero_copy_only=False).astype(np.float64)))


def averages_table(world: Named, rows: pa.Table, requests: Requests, floor: float) -> Floats:
    """What rivals do: the cheapest task -> model table whose raw averages per task and model keep the floor."""
    task, arm = (
        np.array([names.index(name) for name in rows[column].to_pylist()])
        for column, names in (("task_type", world.tasks), ("routed_model", world.models))
    )
    quality = rows["quality"].to_numpy(zero_copy_only=False).astype(np.float64)
    cost = rows["request_cost_usd"].to_numpy()
    tasks, models = len(world.tasks), len(world.models)
    scored = ~np.isnan(quality)
    place = task * models + arm
    labels = np.bincount(place[scored], minlength=tasks * models)
    mean_quality = np.bincount(place[scored], quality[scored], minlength=tasks * models) / np.maximum(labels, 1)
    counts = np.bincount(place, minlength=tasks * models)
    mean_cost = np.bincount(place, cost, minlength=tasks * models) / np.maximum(counts, 1)
    weight = np.bincount(task, minlength=tasks) / len(task)
    one = np.kron(np.eye(tasks), np.ones((1, models)))
    weights = weight.repeat(models)
    solved = milp(
        weights * mean_cost,
        constraints=[LinearConstraint(one, 1, 1), LinearConstraint((weights * mean_quality).reshape(1, -1), floor, np.inf)],
        integrality=np.ones(tasks * models, dtype=np.int64),
        options=QUIET,
        bounds=Bounds(0, (labels >= 15).astype(float)),
    )
    if solved.x is None:
        return requests.route
    return _one_model_each(solved.x, models, requests)


CONFOUNDED = World()
ALIKE = replace(CONFOUNDED, skills=(0.7,) * 6, prices=(2.0,) * 6, speeds=(900.0,) * 6)
"""Six models that differ in nothing: whatever is told of them is chance."""
HIDDEN = replace(CONFOUNDED, hidden=0.9)
DETERMINISTIC = replace(CONFOUNDED, deterministic=True, explored=0.0)
DOMINATED = replace(CONFOUNDED, skills=(1.0, 0.5, 0.4), prices=(0.3, 4.0, 8.0), speeds=(400.0, 900.0, 1500.0))
TWO_NEAR = replace(CONFOUNDED, skills=(0.80, 0.90), prices=(0.5, 5.0), speeds=(600.0, 1200.0))
UNRELATED = replace(
    CONFOUNDED,
    skills=(0.35, 0.40, 0.70, 0.70, 0.95, 1.0),
    prices=(0.5, 0.45, 4.0, 3.5, 18.0, 20.0),
    speeds=(500.0, 600.0, 1000.0, 1200.0, 2000.0, 2200.0),
)
"""Three models at two providers each, of which the log does not say so."""
SIBLINGS = replace(UNRELATED, called=("azure/one-20250601", "one", "two", "two-latest", "three@2", "vertex/three"))
"""The same, of which it does."""
MISSING_BY_QUALITY = replace(CONFOUNDED, missing_by_quality=2.0)
LENGTH_ONLY = replace(CONFOUNDED, logs_complexity=False)
DRIFTING = replace(CONFOUNDED, drift=0.8)
RANDOMISED = replace(CONFOUNDED, logs_propensity=True, hidden=0.9)
HEAVY_TAILED = replace(CONFOUNDED, price_tail=1.6)
FAILING_BY_TASK = replace(CONFOUNDED, task_failures=0.06)
