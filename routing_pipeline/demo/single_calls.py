"""Made-up requests that stand by themselves, written down from what each model would have given.

Belongs here: from the truth of requests to their attempts and scores. Does not belong here: what that truth is (`demo.documents`,
`demo.replies`).
"""

from __future__ import annotations

import numpy as np

from routing_pipeline.clock import SECONDS_PER_HOUR
from routing_pipeline.demo.kinds import Kind, Options, rule_tag, started_us, texts
from routing_pipeline.demo.rows import attempts_table, scores_table
from routing_pipeline.demo.traffic import SCORED_AFTER_H, Arm, Floats, Ints, arrival_hours

FAILS = 0.006


def costs(deployments: tuple[Arm, ...], prompt: Floats, answer: Floats) -> Floats:
    """USD of each request at each deployment; nothing is cached."""
    price_in, price_out = (np.array([getattr(arm, name) for arm in deployments]) for name in ("input_usd", "output_usd"))
    usd: Floats = (prompt[:, None] * price_in + answer[:, None] * price_out) / 1e6
    return usd


def written(
    rng: np.random.Generator,
    prefix: str,
    options: Options,
    deployments: tuple[Arm, ...],
    place: Ints,
    answer: Floats,
    scored: float,
    provider_models: tuple[str, ...] | None = None,
) -> Kind:
    """Attempts and scores of requests that were each served by one deployment.

    Args:
        rng: draws what no truth is about: when, how fast, which fail, which are scored.
        prefix: of the ids.
        options: the truth.
        deployments: models at providers.
        place: which of them served each request.
        answer: tokens of the answers.
        scored: share of the answers that a judge scores.
        provider_models: what the providers call them; the models' own names where left out.
    """
    count, at = len(place), np.arange(len(place))
    speed, first = (np.array([getattr(arm, name) for arm in deployments])[place] for name in ("ms_per_token", "first_token_ms"))
    latency = (first + options.prompt_tokens * 0.05) * rng.lognormal(0.0, 0.3, size=count) + answer * speed * rng.lognormal(
        0.0, 0.25, size=count
    )
    began, fails = started_us(arrival_hours(rng, count)), rng.random(count) < FAILS
    request = texts([f"req-{prefix}{each:06d}" for each in range(count)])

    def of(names: tuple[str, ...]) -> np.ndarray:
        return texts(list(names))[place]

    columns = {
        "attempt_id": request + "/1",
        "request_id": request,
        "session_id": texts([f"{prefix}{each}" for each in range(count)]),
        "started_at": began,
        "latency_ms": latency.round(3),
        "routing_latency_ms": rng.lognormal(np.log(9.0), 0.5, size=count).round(3),
        "model": of(tuple(arm.model for arm in deployments)),
        "provider": of(tuple(arm.provider for arm in deployments)),
        "provider_model": of(provider_models or tuple(arm.model for arm in deployments)),
        "task_type": options.task,
        "complexity": options.complexity,
        "prompt_tokens": options.prompt_tokens.astype(np.int64),
        "completion_tokens": answer.astype(np.int64),
        "cached_tokens": np.zeros(count, dtype=np.int64),
        "cost_usd": options.cost[at, options.chosen],
        "status": np.where(fails, "failure", "success").astype(object),
        "error_type": texts(["500_PROVIDER_INTERNAL_ERROR"] * count),
        "is_cache_hit": np.zeros(count, dtype=bool),
        "team": options.team,
        "user_hash": texts([f"user-{each % 300}" for each in range(count)]),
        "routing_rule_id": rule_tag(options.task[0], count),
        "operation": texts(["chat"] * count),
        "has_image": options.has_image,
        "has_tools": options.has_tools,
    }
    unpaid = ("routing_latency_ms", "prompt_tokens", "completion_tokens", "cached_tokens", "cost_usd")
    attempts = attempts_table(columns, {"error_type": ~fails, **dict.fromkeys(unpaid, fails)})
    judged = ~fails & (rng.random(count) < scored)
    late = (rng.uniform(*SCORED_AFTER_H, size=int(judged.sum())) * SECONDS_PER_HOUR * 1e6).astype(np.int64)
    value = options.quality[at, options.chosen][judged]
    return Kind(attempts, scores_table(request[judged], value, began[judged] + late), options)
