"""Real outcomes of two models on 15,344 prompts: log one of each, estimate both, hold the estimate against the truth."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from routing_pipeline.catalog import Catalog
from routing_pipeline.engine import open_engine
from routing_pipeline.estimates import Estimate
from routing_pipeline.recommendation.routing_rules import optimize_routing_rules
from tests.simulation import worlds

OUTCOMES = Path(__file__).parents[2] / ".." / "shared" / "data" / "routellm_outcomes.parquet"
STRONG = "gpt-4-1106-preview"
pytestmark = pytest.mark.skipif(not OUTCOMES.exists(), reason=f"{OUTCOMES.resolve()} is not here")


def outcomes() -> dict[str, np.ndarray]:
    """By prompt: task, tokens, and quality and cost by (prompt, model), the strong model last."""
    table = pq.read_table(OUTCOMES).to_pandas().sort_values(["prompt_id", "model"])
    strong = table[table.model.str.contains("gpt-4")].reset_index(drop=True)
    weak = table[~table.model.str.contains("gpt-4")].reset_index(drop=True)
    assert (strong.prompt_id == weak.prompt_id).all()
    return {
        "task": strong.task_type.to_numpy().astype(str),
        "tokens": strong.prompt_tokens.to_numpy(),
        "quality": np.stack([weak.quality, strong.quality], axis=1),
        "cost": np.stack([weak.cost, strong.cost], axis=1),
    }


def logged(found: dict[str, np.ndarray], n: int, seed: int) -> pa.Table:
    """Prompts drawn with replacement; longer ones go to the strong model more often; half the answers are scored."""
    rng = np.random.default_rng(seed)
    prompt = rng.integers(0, len(found["task"]), size=n)
    tokens = found["tokens"][prompt]
    strong = 0.6 + 0.35 * (np.argsort(np.argsort(tokens)) / n)
    arm = (rng.random(n) < strong).astype(int)
    scored = rng.random(n) < 0.5
    false, true = np.zeros(n, dtype=bool), np.ones(n, dtype=bool)
    names = np.array(["mixtral-8x7b", STRONG])
    started = worlds.START_S + np.arange(n) * 30.0
    return pa.table(
        {
            "is_final": true,
            "status": ["success"] * n,
            "task_type": found["task"][prompt],
            "is_task_type_logged": true,
            "complexity": pa.nulls(n, pa.float64()),
            "is_complexity_derived": true,
            "prompt_tokens": tokens.astype(np.int64),
            "is_cache_hit": false,
            "model": names[arm],
            "routed_model": names[arm],
            "cluster": rng.integers(0, 256, size=n),
            "request_cost_usd": found["cost"][prompt, arm],
            "request_latency_ms": pa.nulls(n, pa.float64()),
            "quality": pa.array(found["quality"][prompt, arm], mask=~scored),
            "attempts": np.ones(n, dtype=np.int64),
            "propensity": pa.nulls(n, pa.float64()),
            "team": ["x"] * n,
            "tier": pa.nulls(n, pa.string()),
            "started_s": started,
            "day": (started // 86_400).astype(np.int64),
        }
    )


def test_a_floor_below_the_strong_model_saves_a_quarter_of_its_cost_and_truly_holds(tmp_path: Path) -> None:
    found = outcomes()
    strong_quality, strong_cost = found["quality"][:, 1].mean(), found["cost"][:, 1].mean()
    floor = round(0.95 * float(strong_quality), 4)
    covered, savings = [], []
    with open_engine() as engine:
        for seed in range(2):
            evidence, scope = worlds.evidence_of(engine, logged(found, 60_000, seed), tmp_path, goal="cost", quality_threshold=floor)
            answer = optimize_routing_rules(evidence, scope, Catalog())
            arm = np.full(len(found["task"]), -1)
            for rule in answer.rule_set.rules:
                holds = np.array(
                    [
                        rule.when.matches({"task_type": task, "prompt_tokens": tokens})
                        for task, tokens in zip(found["task"], found["tokens"], strict=True)
                    ]
                )
                assert rule.route != "unchanged"
                arm[holds & (arm < 0)] = int(rule.route[0].model == STRONG)
            weight = np.stack([(arm == 0) * 1.0, (arm == 1) * 1.0], axis=1)
            share = 0.6 + 0.35 * (np.argsort(np.argsort(found["tokens"])) / len(arm))
            weight[arm < 0] = np.stack([1 - share, share], axis=1)[arm < 0]
            quality, cost = (float((weight * found[name]).sum(axis=1).mean()) for name in ("quality", "cost"))
            proposed = answer.rule_set.expected.proposed
            assert isinstance(proposed.quality, Estimate)
            assert isinstance(proposed.cost_usd, Estimate)
            covered += [
                proposed.quality.low <= quality <= proposed.quality.high,
                proposed.cost_usd.low <= cost <= proposed.cost_usd.high,
            ]
            savings.append(1 - cost / strong_cost)
            assert quality >= floor - 0.005
    assert np.mean(covered) >= 0.75
    assert np.mean(savings) >= 0.25
