"""A made-up week of gateway traffic whose truth is known: what the demo shows and what the tests hold the report against.

Belongs here: the world (models, tasks, what each delivers) and drawing attempts from it. Does not belong here: writing
it down as a gateway would (`demo.logs`).

Planted, and named below as constants: a cost spike, a model degraded for six hours, a dear model overused on easy
tasks, and routing confounded by difficulty (hard requests go to dear models, so averages per model mislead).
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import UTC, datetime

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from routing_pipeline.clock import SECONDS_PER_HOUR

Floats = NDArray[np.float64]
Ints = NDArray[np.int64]

WEEK_START = datetime(2026, 11, 16, tzinfo=UTC)
"""A Monday."""


@dataclass(frozen=True)
class Arm:
    """A model as it truly is: USD per million tokens, speed, skill, and how often a call fails."""

    model: str
    provider: str
    tier: str
    input_usd: float
    output_usd: float
    cached_usd: float
    first_token_ms: float
    ms_per_token: float
    skill: float
    failure_rate: float


ARMS: tuple[Arm, ...] = (
    Arm("gpt-4.1-nano", "openai", "economy", 0.10, 0.40, 0.025, 180, 4, 0.10, 0.006),
    Arm("gpt-4o-mini", "openai", "economy", 0.15, 0.60, 0.075, 240, 7, 0.35, 0.008),
    Arm("claude-haiku-4-5", "anthropic", "standard", 1.0, 5.0, 0.10, 320, 8, 0.68, 0.006),
    Arm("gpt-4o", "openai", "standard", 2.5, 10.0, 1.25, 380, 11, 0.72, 0.008),
    Arm("claude-sonnet-4-5", "anthropic", "premium", 3.0, 15.0, 0.30, 520, 14, 0.90, 0.008),
    Arm("claude-opus-4-1", "anthropic", "premium", 15.0, 75.0, 1.50, 900, 24, 1.00, 0.012),
)


@dataclass(frozen=True)
class Task:
    """A kind of request: its share, its lengths (medians), how hard it tends to be, and how much skill it asks for."""

    name: str
    share: float
    prompt_tokens: float
    completion_tokens: float
    difficulty: tuple[float, float]
    demand: float
    team: str


TASKS: tuple[Task, ...] = (
    Task("chat", 0.26, 350, 180, (1.6, 3.0), 0.45, "support"),
    Task("classification", 0.18, 420, 12, (1.5, 5.0), 0.15, "support"),
    Task("extraction", 0.14, 900, 90, (1.6, 4.0), 0.25, "data"),
    Task("summarization", 0.13, 1800, 220, (2.0, 3.5), 0.30, "data"),
    Task("translation", 0.08, 500, 260, (1.8, 3.5), 0.30, "content"),
    Task("code", 0.11, 1200, 420, (2.5, 2.2), 0.80, "platform"),
    Task("reasoning", 0.06, 700, 600, (3.0, 2.0), 0.95, "research"),
    Task("analysis", 0.04, 2400, 500, (2.6, 2.2), 0.70, "research"),
)

DEGRADED_MODEL = "gpt-4o"
DEGRADED_FROM_H = 2 * 24 + 9
"""Hour of the week; Wednesday 09:00 UTC."""
DEGRADED_HOURS = 6
DEGRADED_FAILURE_RATE = 0.35
DEGRADED_QUALITY_LOSS = 0.25
SPIKE_FROM_H = 3 * 24 + 14
"""Thursday 14:00 UTC."""
SPIKE_HOURS = 3
SPIKE_TASK = "analysis"
SPIKE_MODEL = "claude-opus-4-1"
SPIKE_TEAM = "growth"
SPIKE_SHARE = 0.12
"""Share of the traffic in those hours that the runaway job makes up: three times the usual spend."""
SPIKE_PROMPT_FACTOR = 2.0
"""Its prompts are this much longer than those of the same task."""
OVERUSED_MODEL = "claude-opus-4-1"
OVERUSED_TASKS: tuple[str, ...] = ("summarization", "extraction", "translation")
OVERUSED_SHARE = 0.30
EXPLORED_SHARE = 0.08
"""Share of requests that the gateway routes at random; what makes other choices estimable."""
RULE_VERSION = "v3"
SCORED_AFTER_H = (1.0, 6.0)
"""Hours from a request to its score: from, to."""


@dataclass(frozen=True)
class Planted:
    """What a report on the week ought to find; times are seconds since 1970, windows half-open."""

    spike_from_s: float
    spike_to_s: float
    spike_model: str
    spike_task: str
    spike_team: str
    degraded_model: str
    degraded_from_s: float
    degraded_to_s: float
    overused_model: str
    overused_tasks: tuple[str, ...]
    explored_share: float


def _hours_in(hours: float) -> float:
    return WEEK_START.timestamp() + hours * SECONDS_PER_HOUR


PLANTED = Planted(
    spike_from_s=_hours_in(SPIKE_FROM_H),
    spike_to_s=_hours_in(SPIKE_FROM_H + SPIKE_HOURS),
    spike_model=SPIKE_MODEL,
    spike_task=SPIKE_TASK,
    spike_team=SPIKE_TEAM,
    degraded_model=DEGRADED_MODEL,
    degraded_from_s=_hours_in(DEGRADED_FROM_H),
    degraded_to_s=_hours_in(DEGRADED_FROM_H + DEGRADED_HOURS),
    overused_model=OVERUSED_MODEL,
    overused_tasks=OVERUSED_TASKS,
    explored_share=EXPLORED_SHARE,
)


@dataclass(frozen=True)
class Traffic:
    """`attempts` in the columns of schema.REQUEST_LOG (plain user names in `user_hash`), `feedback` in schema.FEEDBACK."""

    attempts: pa.Table
    feedback: pa.Table


def true_quality(task: Ints, difficulty: Floats, arm: Ints) -> Floats:
    """Mean quality of a successful answer, 0..1: what no log shows for the models not chosen.

    Skill counts only as far as the task asks for it: 0.97 - demand * (0.15 + 0.85 * difficulty) * (1 - skill).
    """
    demand = np.array([each.demand for each in TASKS])[task]
    skill = np.array([each.skill for each in ARMS])[arm]
    quality: Floats = np.clip(0.97 - demand * (0.15 + 0.85 * difficulty) * (1.0 - skill) - 0.10 * demand * difficulty, 0.02, 0.99)
    return quality


def arrival_hours(rng: np.random.Generator, n: int) -> Floats:
    """Hours since Monday 00:00: busy on weekdays from 08 to 18 UTC, quiet at night and on the weekend."""
    hour = np.arange(168)
    of_day = hour % 24
    weight = 0.25 + np.exp(-0.5 * ((of_day - 10.5) / 2.4) ** 2) + 0.85 * np.exp(-0.5 * ((of_day - 15) / 2.2) ** 2)
    weight = weight * np.where(hour // 24 >= 5, 0.30, 1.0)
    chosen = rng.choice(168, size=n, p=weight / weight.sum())
    hours: Floats = np.sort(chosen + rng.random(n))
    return hours


def _choose(rng: np.random.Generator, task: Ints, difficulty: Floats) -> Ints:
    """Today's router: dearer as requests get harder, opus far too often on easy tasks, a few at random."""
    n = len(task)
    liking = np.array([0.10, 0.30, 0.50, 0.62, 0.80, 1.0])
    score = -((difficulty[:, None] * 0.75 + np.array([each.demand for each in TASKS])[task][:, None] * 0.35 - liking[None, :]) ** 2) / 0.035
    score += np.array([0.0, 0.3, 0.2, 0.5, 0.1, -0.6])[None, :]
    probability = np.exp(score - score.max(axis=1, keepdims=True))
    probability /= probability.sum(axis=1, keepdims=True)
    overused = np.isin(task, [index for index, each in enumerate(TASKS) if each.name in OVERUSED_TASKS])
    dear = np.array([each.model == OVERUSED_MODEL for each in ARMS], dtype=np.float64)
    probability = np.where(overused[:, None], (1 - OVERUSED_SHARE) * probability + OVERUSED_SHARE * dear, probability)
    probability = (1 - EXPLORED_SHARE) * probability + EXPLORED_SHARE / len(ARMS)
    chosen: Ints = (probability.cumsum(axis=1) < rng.random(n)[:, None]).sum(axis=1).clip(0, len(ARMS) - 1)
    return chosen


def traffic(requests: int = 200_000, seed: int = 20261116) -> Traffic:
    """Draw a week. Same arguments, same week, to the byte."""
    rng = np.random.default_rng(seed)
    hours = arrival_hours(rng, requests)
    in_spike = (hours >= SPIKE_FROM_H) & (hours < SPIKE_FROM_H + SPIKE_HOURS)
    task = rng.choice(len(TASKS), size=requests, p=[each.share for each in TASKS])
    is_runaway = in_spike & (rng.random(requests) < SPIKE_SHARE)
    names = [each.name for each in TASKS]
    task = np.where(is_runaway, names.index(SPIKE_TASK), task)
    shape = np.array([each.difficulty for each in TASKS])[task]
    difficulty = rng.beta(shape[:, 0], shape[:, 1])
    prompt_median = (
        np.array([each.prompt_tokens for each in TASKS])[task] * (0.6 + 0.8 * difficulty) * np.where(is_runaway, SPIKE_PROMPT_FACTOR, 1.0)
    )
    prompt_tokens = np.maximum(rng.lognormal(np.log(prompt_median), 0.55), 8).astype(np.int64)
    completion_median = np.array([each.completion_tokens for each in TASKS])[task] * (0.7 + 0.6 * difficulty)
    completion_tokens = np.maximum(rng.lognormal(np.log(completion_median), 0.45), 1).astype(np.int64)
    arm = _choose(rng, task, difficulty)
    arm = np.where(is_runaway, [each.model for each in ARMS].index(SPIKE_MODEL), arm)

    degraded = (hours >= DEGRADED_FROM_H) & (hours < DEGRADED_FROM_H + DEGRADED_HOURS)
    is_degraded = degraded & (np.array([each.model for each in ARMS])[arm] == DEGRADED_MODEL)
    failure_rate = np.where(is_degraded, DEGRADED_FAILURE_RATE, np.array([each.failure_rate for each in ARMS])[arm])
    fails = rng.random(requests) < failure_rate
    # A failed call falls back to the next dearer model (opus to sonnet); one in twenty finds that one failing too.
    fallback_arm = np.where(arm == len(ARMS) - 1, arm - 1, arm + 1)
    fallback_fails = fails & (rng.random(requests) < 0.05)
    gives_up = fails & (rng.random(requests) < 0.10)

    session = np.cumsum(rng.random(requests) < 0.25)
    # Sessions interleave: a request joins one of the sixty most recent.
    session = np.maximum(session - rng.integers(0, 60, size=requests), 0)
    user = (session * 2654435761) % 900
    session_effect = rng.normal(0.0, 0.03, size=int(session.max()) + 1)[session]

    def outcome(arm: Ints, is_degraded: NDArray[np.bool_]) -> tuple[Floats, Floats, Floats]:
        speed = np.array([each.ms_per_token for each in ARMS])[arm]
        first = np.array([each.first_token_ms for each in ARMS])[arm]
        slow = np.where(is_degraded, 3.0, 1.0) * np.where(rng.random(requests) < 0.004, 8.0, 1.0)
        ttft = rng.lognormal(np.log(first + prompt_tokens * 0.05), 0.30) * slow
        latency = ttft + completion_tokens * speed * rng.lognormal(0.0, 0.25, size=requests) * slow
        mean = true_quality(task, difficulty, arm) + session_effect - np.where(is_degraded, DEGRADED_QUALITY_LOSS, 0.0)
        return ttft, latency, np.clip(rng.normal(mean, 0.12), 0.0, 1.0)

    ttft, latency, quality = outcome(arm, is_degraded)
    _, fallback_latency, fallback_quality = outcome(fallback_arm, np.zeros(requests, dtype=bool))
    is_cache_hit = (rng.random(requests) < 0.03) & ~fails
    caches_prompt = rng.random(requests) < 0.35
    cached_tokens = np.where(caches_prompt & ~is_cache_hit, (prompt_tokens * rng.uniform(0.3, 0.8, size=requests)).astype(np.int64), 0)

    def cost(arm: Ints) -> Floats:
        price_in = np.array([each.input_usd for each in ARMS])[arm]
        price_cached = np.array([each.cached_usd for each in ARMS])[arm]
        price_out = np.array([each.output_usd for each in ARMS])[arm]
        usd: Floats = ((prompt_tokens - cached_tokens) * price_in + cached_tokens * price_cached + completion_tokens * price_out) / 1e6
        return usd

    is_stream = rng.random(requests) < 0.40
    overhead = rng.lognormal(np.log(9.0), 0.5, size=requests)
    started_us = (WEEK_START.timestamp() * 1e6 + hours * SECONDS_PER_HOUR * 1e6).astype(np.int64)
    failure_latency = rng.lognormal(np.log(1200.0), 0.6, size=requests)

    task_names = np.array(names, dtype=object)
    models = np.array([each.model for each in ARMS], dtype=object)
    providers = np.array([each.provider for each in ARMS], dtype=object)
    teams = np.where(is_runaway, SPIKE_TEAM, np.array([each.team for each in TASKS], dtype=object)[task])
    request_ids = np.array([f"req-{seed:x}-{index:07d}" for index in range(requests)], dtype=object)
    errors = np.where(is_degraded | (rng.random(requests) < 0.4), "429_RATE_LIMIT_EXCEEDED", "500_PROVIDER_INTERNAL_ERROR").astype(object)
    # Which rule of today's gateway decided, as its tag says.
    band = np.where(difficulty < 0.35, "easy", np.where(difficulty < 0.65, "medium", "hard"))
    rules = np.array([f"{name}-{each}@{RULE_VERSION}" for name, each in zip(task_names[task], band, strict=True)], dtype=object)

    first_fails = fails
    has_second = fails & ~gives_up
    one, two = np.arange(requests), np.flatnonzero(has_second)
    which = np.concatenate([one, two])
    is_second = np.concatenate([np.zeros(requests, dtype=bool), np.ones(len(two), dtype=bool)])
    failed = np.where(is_second, fallback_fails[which], first_fails[which])
    used = np.where(is_second, fallback_arm[which], arm[which])
    hit = is_cache_hit[which] & ~is_second
    # Whole microseconds, the resolution of the logs.
    spent_ms = np.where(
        failed, failure_latency[which], np.where(hit, 4.0, np.where(is_second, fallback_latency[which], latency[which]))
    ).round(3)
    begin_us = started_us[which] + np.where(is_second, (failure_latency[which] * 1e3).astype(np.int64) + 2_000, 0)
    paid = np.where(is_second, cost(fallback_arm)[which], cost(arm)[which])
    paid = np.where(failed | hit, 0.0, paid)
    # A gateway logs the time to the first token of answered streams alone, and counts retries and its own time for the others.
    streamed = is_stream[which] & ~is_second & ~hit & ~failed

    def text(values: NDArray[np.object_], missing: NDArray[np.bool_] | None = None) -> pa.Array:
        # From a list, because pyarrow loads pandas to look at an array of objects.
        return pa.array(values.tolist(), type=pa.string(), mask=missing)

    def number(values: Floats, missing: NDArray[np.bool_]) -> pa.Array:
        return pa.array(values, type=pa.float64(), mask=missing)

    count = len(which)
    attempt_ids = np.where(is_second, request_ids[which] + "/2", request_ids[which] + "/1").astype(object)
    order = np.argsort(begin_us, kind="stable")
    attempts = pa.table(
        {
            "attempt_id": text(attempt_ids),
            "request_id": text(request_ids[which]),
            "session_id": text(np.array([f"s-{value}" for value in session[which]], dtype=object)),
            "started_at": pa.array(begin_us, type=pa.timestamp("us")),
            "latency_ms": number(spent_ms, np.zeros(count, dtype=bool)),
            "ttft_ms": number(np.minimum(ttft[which].round(3), spent_ms), ~streamed),
            "routing_latency_ms": number(overhead[which].round(3), streamed | failed | hit | is_second),
            "model": text(models[used]),
            "provider": text(providers[used]),
            "provider_model": text(models[used]),
            "task_type": text(task_names[task[which]]),
            "complexity": number(np.round(difficulty[which], 4), np.zeros(count, dtype=bool)),
            "prompt_tokens": pa.array(prompt_tokens[which], type=pa.int64(), mask=failed),
            "completion_tokens": pa.array(completion_tokens[which], type=pa.int64(), mask=failed),
            "cached_tokens": pa.array(cached_tokens[which], type=pa.int64(), mask=failed),
            "cache_write_tokens": pa.nulls(count, pa.int64()),
            "reasoning_tokens": pa.array(np.zeros(count, dtype=np.int64), type=pa.int64(), mask=failed),
            "audio_prompt_tokens": pa.nulls(count, pa.int64()),
            "audio_completion_tokens": pa.nulls(count, pa.int64()),
            "cost_usd": number(paid, failed),
            "status": text(np.where(failed, "failure", "success").astype(object)),
            "error_type": text(errors[which], ~failed),
            "retries": pa.array(np.zeros(count, dtype=np.int64), type=pa.int64(), mask=failed | streamed),
            # A failure does not say that it was a fallback.
            "fallback_from": text(models[arm[which]], ~is_second | failed),
            "is_cache_hit": pa.array(hit),
            "queue_depth": pa.nulls(count, pa.int64()),
            "quality_score": pa.nulls(count, pa.float64()),
            "user_rating": pa.nulls(count, pa.float64()),
            "team": text(teams[which]),
            "user_hash": text(np.array([f"user-{value}" for value in user[which]], dtype=object)),
            "routing_rule_id": text(rules[which]),
            "routing_reason": pa.nulls(count, pa.string()),
            "propensity": pa.nulls(count, pa.float64()),
            "rule_arm": pa.nulls(count, pa.string()),
            "operation": text(np.full(count, "chat", dtype=object)),
            "has_image": pa.nulls(count, pa.bool_()),
            "has_audio": pa.nulls(count, pa.bool_()),
            "has_tools": pa.nulls(count, pa.bool_()),
            "has_schema": pa.nulls(count, pa.bool_()),
            "max_output_tokens": pa.nulls(count, pa.int64()),
            "reasoning_effort": pa.nulls(count, pa.string()),
            "service_tier": pa.nulls(count, pa.string()),
            **{name: pa.nulls(count, pa.string()) for name in ("model_version", "feature", "workflow", "prompt_version", "tags")},
            "router_tier": pa.nulls(count, pa.string()),
            "router_score": pa.nulls(count, pa.float64()),
            "key_hash": pa.nulls(count, pa.string()),
            "source_format": text(np.full(count, "demo", dtype=object)),
            "source_object": text(np.full(count, "demo", dtype=object)),
            "ingested_at": pa.array(np.full(count, started_us.max() + SECONDS_PER_HOUR * 1_000_000), type=pa.timestamp("us")),
        }
    ).take(pa.array(order))
    return Traffic(
        attempts, _feedback(rng, task, difficulty, request_ids, started_us, fails, has_second & ~fallback_fails, quality, fallback_quality)
    )


def _feedback(
    rng: np.random.Generator,
    task: Ints,
    difficulty: Floats,
    request_ids: NDArray[np.object_],
    started_us: Ints,
    first_failed: NDArray[np.bool_],
    second_succeeded: NDArray[np.bool_],
    quality: Floats,
    fallback_quality: Floats,
) -> pa.Table:
    """A judge scores about a third of the answers, hard ones more often, SCORED_AFTER_H later; users rate a few."""
    answered = ~first_failed | second_succeeded
    value = np.where(first_failed, fallback_quality, quality)
    judged = answered & (rng.random(len(task)) < 0.22 + 0.28 * difficulty)
    rated = answered & (rng.random(len(task)) < 0.03)
    late_us = (rng.uniform(*SCORED_AFTER_H, size=len(task)) * SECONDS_PER_HOUR * 1e6).astype(np.int64)
    stars: Floats = np.clip(np.round(1 + 4 * np.clip(value + rng.normal(0, 0.15, size=len(task)), 0, 1)), 1, 5).astype(np.float64)

    def scores(which: NDArray[np.bool_], name: str, values: Floats, low: float, high: float, source: str) -> pa.Table:
        count = int(which.sum())
        return pa.table(
            {
                "request_id": pa.array(request_ids[which].tolist(), type=pa.string()),
                "attempt_id": pa.nulls(count, pa.string()),
                "name": pa.array([name] * count, type=pa.string()),
                "value": pa.array(values[which], type=pa.float64()),
                "scale_min": pa.array(np.full(count, low)),
                "scale_max": pa.array(np.full(count, high)),
                "source": pa.array([source] * count, type=pa.string()),
                "scored_at": pa.array((started_us + late_us)[which], type=pa.timestamp("us")),
            }
        )

    # Cache hits repeat an answer, so their score is as good as any; they are scored like the rest.
    rounded: Floats = value.round(3)
    return pa.concat_tables([scores(judged, "quality", rounded, 0.0, 1.0, "judge"), scores(rated, "rating", stars, 1.0, 5.0, "user")])
