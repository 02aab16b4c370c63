"""Made-up embeddings: calls that cost and that no routing rule is about."""

from __future__ import annotations

import numpy as np

from routing_pipeline.demo.kinds import Kind, started_us, texts
from routing_pipeline.demo.rows import attempts_table
from routing_pipeline.demo.traffic import arrival_hours

EMBEDDING_MODEL = "text-embedding-3-small"
_USD_PER_MILLION = 0.02


def embeddings(rng: np.random.Generator, requests: int, seed: int) -> Kind:
    """So many calls, none of which has an answer that could be scored."""
    tokens = np.floor(rng.lognormal(np.log(600), 0.6, size=requests)).astype(np.int64) + 1
    request = texts([f"req-{seed:x}-e{each:06d}" for each in range(requests)])

    def all_of(name: str) -> np.ndarray:
        return texts([name] * requests)

    columns = {
        "attempt_id": request + "/1",
        "request_id": request,
        "session_id": texts([f"e-{each}" for each in range(requests)]),
        "started_at": started_us(arrival_hours(rng, requests)),
        "latency_ms": rng.lognormal(np.log(120), 0.3, size=requests).round(3),
        "model": all_of(EMBEDDING_MODEL),
        "provider": all_of("openai"),
        "provider_model": all_of(EMBEDDING_MODEL),
        "prompt_tokens": tokens,
        "completion_tokens": np.zeros(requests, dtype=np.int64),
        "cost_usd": tokens * _USD_PER_MILLION / 1e6,
        "status": all_of("success"),
        "is_cache_hit": np.zeros(requests, dtype=bool),
        "team": all_of("data"),
        "user_hash": all_of("user-indexer"),
        "operation": all_of("embedding"),
    }
    return Kind(attempts_table(columns), None, None)
