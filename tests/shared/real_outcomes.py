"""Real outcomes of two models on 15,344 prompts, as a world whose truth is known: log one of each, hold estimates against both.

Both models' answers were judged for every prompt (57 subjects and a set of sums). The logging policy is made up: longer
prompts go to the strong model more often.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from tests.simulation.worlds import DAYS, START_S, Requests, Truth, truth_of

PATH = Path(__file__).parents[2] / ".." / "shared" / "data" / "routellm_outcomes.parquet"
STRONG = "gpt-4-1106-preview"
WEAK = "mixtral-8x7b"
LABELLED = 0.5


@dataclass(frozen=True)
class RealModels:
    """What the tasks and models are called; the strong model is last."""

    tasks: tuple[str, ...]
    models: tuple[str, ...] = (WEAK, STRONG)


def read() -> tuple[RealModels, Requests]:
    """Every prompt with both models' outcomes; nothing fails, latency is not known."""
    table = pq.read_table(PATH).to_pandas().sort_values(["prompt_id", "model"])
    strong, weak = (table[table.model.str.contains("gpt-4") == is_strong].reset_index(drop=True) for is_strong in (True, False))
    assert (strong.prompt_id == weak.prompt_id).all()
    tasks, task = np.unique(strong.task_type.to_numpy().astype(str), return_inverse=True)
    tokens = strong.prompt_tokens.to_numpy().astype(np.int64)
    chance = 0.6 + 0.35 * np.argsort(np.argsort(tokens)) / len(tokens)
    return RealModels(tuple(tasks.tolist())), Requests(
        task=task.astype(np.int64),
        complexity=np.full(len(tokens), np.nan),
        tokens=tokens,
        session=np.arange(len(tokens)),
        route=np.stack([1 - chance, chance], axis=1),
        quality=np.stack([weak.quality, strong.quality], axis=1).astype(np.float64),
        success=np.ones((len(tokens), 2)),
        cost=np.stack([weak.cost, strong.cost], axis=1),
        latency=np.zeros((len(tokens), 2)),
    )


def always_strong(prompts: Requests) -> Truth:
    """What the strong model alone gives and costs."""
    return truth_of(prompts, np.broadcast_to([0.0, 1.0], prompts.route.shape))


def logged(real: RealModels, prompts: Requests, n: int, rng: np.random.Generator) -> pa.Table:
    """Prompts drawn with replacement, each sent to one model by chance; half of the answers are scored."""
    prompt = rng.integers(0, len(prompts.task), size=n)
    arm = (rng.random(n) < prompts.route[prompt, 1]).astype(int)
    scored = rng.random(n) < LABELLED
    no, yes = np.zeros(n, dtype=bool), np.ones(n, dtype=bool)
    names, tasks = np.array(real.models), np.array(real.tasks)
    started = START_S + np.arange(n) * (DAYS * 86_400 / n)
    return pa.table(
        {
            "is_final": yes,
            "status": ["success"] * n,
            "task_type": tasks[prompts.task[prompt]],
            "is_task_type_logged": yes,
            "complexity": pa.nulls(n, pa.float64()),
            "is_complexity_derived": yes,
            "prompt_tokens": prompts.tokens[prompt],
            "is_cache_hit": no,
            "model": names[arm],
            "routed_model": names[arm],
            "cluster": rng.integers(0, 256, size=n),
            "request_cost_usd": prompts.cost[prompt, arm],
            "request_latency_ms": pa.nulls(n, pa.float64()),
            "quality": pa.array(prompts.quality[prompt, arm], mask=~scored),
            "attempts": np.ones(n, dtype=np.int64),
            "propensity": pa.nulls(n, pa.float64()),
            "team": ["x"] * n,
            "tier": pa.nulls(n, pa.string()),
            "started_s": started,
            "day": (started // 86_400).astype(np.int64),
        }
    )
