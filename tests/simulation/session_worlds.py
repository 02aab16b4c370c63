"""Made-up sessions whose truth is known: agents whose cheap model needs more calls, and conversations whose prompts grow with a cache.

All that a session would have cost, taken and been worth under every model is drawn beforehand, from one seed; the log shows the model
that the router chose. What is true of a rule set is then the mean over the same sessions.
"""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from typing import Any

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from routing_pipeline.rules.model import RuleSet

Floats = NDArray[np.float64]
Ints = NDArray[np.int64]
START_S = 1_794_787_200.0
"""Monday 16 November 2026."""


@dataclass(frozen=True)
class Agents:
    """Agents that solve tasks, one model a session.

    prices: USD per call; factors: calls relative to the dearest model; qualities: of a task's last answer, at its easiest; hardness: what
    the hardest costs of it. scored: share of sessions whose last answer is scored. switching: share of the sessions that go on with the
    dearest model after their first call.
    """

    prices: tuple[float, ...] = (0.004, 0.010)
    factors: tuple[float, ...] = (1.6, 1.0)
    qualities: tuple[float, ...] = (0.84, 0.85)
    hardness: tuple[float, ...] = (0.03, 0.02)
    speeds: tuple[float, ...] = (900.0, 1500.0)
    tasks: tuple[str, ...] = ("refactor", "research", "support")
    calls: tuple[float, ...] = (6.0, 4.0, 2.5)
    scored: float = 0.6
    router: float = 1.2
    fails: float = 0.01
    switching: float = 0.0

    @property
    def models(self) -> tuple[str, ...]:
        """Cheapest per call first."""
        return tuple(f"model-{place}" for place in range(len(self.prices)))


@dataclass(frozen=True)
class Sessions:
    """What every session would give under every model (session, model), and the router's probabilities."""

    task: Ints
    complexity: Floats
    started_s: Floats
    route: Floats
    calls: Ints
    cost: Floats
    latency: Floats
    quality: Floats
    ends_well: NDArray[np.bool_]


def drawn(world: Agents, n: int, rng: np.random.Generator) -> Sessions:
    """Sessions of a week."""
    task = rng.integers(0, len(world.tasks), size=n)
    complexity = rng.beta(2.0, 2.5, size=n)
    started = START_S + np.sort(rng.random(n)) * 7 * 86_400
    logits = world.router * np.stack([(complexity - 0.45) * place * 2 for place in range(len(world.models))], axis=1)
    route = np.exp(logits)
    route = 0.9 * route / route.sum(axis=1, keepdims=True) + 0.1 / len(world.models)
    more = np.array(world.calls)[task] * (0.6 + 0.8 * complexity)
    calls = np.stack([1 + rng.poisson(np.maximum(more * factor - 1.0, 0.05)) for factor in world.factors], axis=1)
    size = rng.lognormal(-0.08, 0.4, size=n)
    noise = rng.lognormal(-0.02, 0.2, size=calls.shape)
    cost = calls * np.array(world.prices) * size[:, None] * noise
    latency = calls * np.array(world.speeds) * rng.lognormal(-0.045, 0.3, size=calls.shape)
    mean = np.array(world.qualities) - np.array(world.hardness) * (complexity[:, None] - 0.45)
    quality = np.clip(mean + rng.normal(0.0, 0.12, size=mean.shape), 0.0, 1.0)
    return Sessions(task, complexity, started, route, calls, cost, latency, quality, rng.random(calls.shape) >= world.fails)


def choices(sessions: Sessions, rng: np.random.Generator) -> Ints:
    """The model that the router takes for each session."""
    chosen: Ints = (rng.random(len(sessions.task))[:, None] > sessions.route.cumsum(axis=1)).sum(axis=1)
    return chosen


def calls_of(world: Agents, sessions: Sessions, rng: np.random.Generator) -> dict[str, Any]:
    """Every call as a log has it, by column: a session's cost is spread over its calls, its score stands at the last one."""
    chosen = choices(sessions, rng)
    at = np.arange(len(chosen))
    n = sessions.calls[at, chosen]
    session = np.repeat(at, n)
    place = np.arange(len(session)) - np.repeat(n.cumsum() - n, n)
    is_last = place == n[session] - 1
    part = rng.dirichlet([4.0] * 2, size=len(session))[:, 0] + 0.5
    part /= np.bincount(session, part)[session]
    later = (rng.random(len(at)) < world.switching)[session] & (place > 0)
    model = np.where(later, len(world.models) - 1, chosen[session])
    ends_well = sessions.ends_well[at, chosen][session]
    ok = ~is_last | ends_well
    scored = is_last & ok & (rng.random(len(at)) < world.scored)[session]
    started = sessions.started_s[session] + place * 3.0
    order = np.lexsort((session, started))
    found = {
        "session": session,
        "place": place,
        "arm": model,
        "started_s": started,
        "task": sessions.task[session],
        "complexity": np.clip(sessions.complexity[session] + np.where(place == 0, 0.0, rng.normal(0.0, 0.1, size=len(session))), 0.0, 1.0),
        "prompt_tokens": rng.integers(300, 900, size=len(session)) + 150 * place,
        "completion_tokens": rng.integers(50, 400, size=len(session)),
        "ok": ok,
        "cost": sessions.cost[at, chosen][session] * part,
        "latency": sessions.latency[at, chosen][session] / n[session],
        "quality": np.where(scored, sessions.quality[at, chosen][session], np.nan),
    }
    return {name: values[order] for name, values in found.items()}


def logged(world: Agents, calls: dict[str, Any], *, with_sessions: bool = True) -> pa.Table:
    """The calls as conformed rows (the columns of schema.SCOPED_REQUESTS that estimates read)."""
    n = len(calls["session"])
    names = [f"s-{each}" for each in range(int(calls["session"].max()) + 1)]
    cluster = np.array([int(hashlib.md5(name.encode(), usedforsecurity=False).hexdigest()[:2], 16) for name in names])
    session = np.array(names)[calls["session"]]
    request = np.array([f"q-{each:07d}" for each in range(n)])
    own = np.array([int(hashlib.md5(name.encode(), usedforsecurity=False).hexdigest()[:2], 16) for name in request])
    nothing = np.zeros(n, dtype=bool)
    models = np.array(world.models)[calls["arm"]]
    return pa.table(
        {
            "attempt_id": pa.array(request),
            "request_id": pa.array(request),
            "session_id": pa.array(session, mask=nothing if with_sessions else ~nothing),
            "is_final": pa.array(~nothing),
            "status": pa.array(np.where(calls["ok"], "success", "failure")),
            "task_type": pa.array(np.array(world.tasks)[calls["task"]]),
            "is_task_type_logged": pa.array(~nothing),
            "complexity": pa.array(calls["complexity"]),
            "is_complexity_derived": pa.array(nothing),
            "prompt_tokens": pa.array(calls["prompt_tokens"]),
            "completion_tokens": pa.array(calls["completion_tokens"]),
            "is_cache_hit": pa.array(nothing),
            "model": pa.array(models),
            "routed_model": pa.array(models),
            "cluster": pa.array((cluster[calls["session"]] if with_sessions else own).astype(np.int64)),
            "request_cost_usd": pa.array(calls["cost"]),
            "request_latency_ms": pa.array(calls["latency"]),
            "quality": pa.array(calls["quality"], mask=np.isnan(calls["quality"])),
            "attempts": pa.array(np.ones(n, dtype=np.int64)),
            "propensity": pa.nulls(n, pa.float64()),
            "team": pa.array(np.full(n, "all")),
            "tier": pa.nulls(n, pa.string()),
            "started_s": pa.array(calls["started_s"]),
            "day": pa.array((calls["started_s"] // 86_400).astype(np.int64)),
        }
    )


def regrouped(rows: pa.Table, into: int) -> pa.Table:
    """Rows whose requests are strung into sessions of `into` requests each, whatever serves them: a chat that is routed request by request."""
    session = [f"c-{place // into}" for place in range(rows.num_rows)]
    cluster = pa.array([int(hashlib.md5(name.encode(), usedforsecurity=False).hexdigest()[:2], 16) for name in session])
    own = {name: pa.array([f"c{each}" for each in rows[name].to_pylist()]) for name in ("attempt_id", "request_id")}
    for name, values in {"session_id": pa.array(session), "cluster": cluster, **own}.items():
        rows = rows.set_column(rows.column_names.index(name), name, values)
    return rows


@dataclass(frozen=True)
class Truth:
    """Means per session: cost, calls; quality of sessions that end well."""

    cost: float
    calls: float
    quality: float


def truth_of(sessions: Sessions, shares: Floats) -> Truth:
    """Under shares of each model by session."""
    good = shares * sessions.ends_well
    return Truth(
        float((shares * sessions.cost).sum(axis=1).mean()),
        float((shares * sessions.calls).sum(axis=1).mean()),
        float((good * sessions.quality).sum() / good.sum()),
    )


def followed(world: Agents, sessions: Sessions, rules: RuleSet) -> Floats:
    """Shares of each model by session under rules that decide at its first request; today's where none holds."""
    shares = sessions.route.copy()
    for place, (task, complexity) in enumerate(zip(sessions.task, sessions.complexity, strict=True)):
        request = {"task_type": world.tasks[task], "complexity": complexity, "team": "all"}
        rule = next((each for each in sorted(rules.rules, key=lambda each: each.priority) if each.when.matches(request)), None)
        if rule is None or rule.route == "unchanged":
            continue
        shares[place] = 0.0
        for target in rule.route:
            shares[place, world.models.index(target.model)] = target.weight
    return shares
