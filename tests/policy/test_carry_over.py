"""Whether a choice changes what comes later: told where it does, passed where it does not, and not told from too little."""

from __future__ import annotations

import ibis
import numpy as np
import pyarrow as pa
import pytest

from routing_pipeline.policy.carry_over import carried_over


def sessions(n: int, more: float, seed: int = 1) -> ibis.Table:
    """Sessions of two models drawn for each request; every request to the cheap one adds `more` requests on average."""
    rng = np.random.default_rng(seed)
    rows: list[tuple[int, int, int]] = []
    for session in range(n):
        left, at = 1 + rng.poisson(2.0), 0
        while left > 0 and at < 40:
            arm = int(rng.random() < 0.5)
            left += rng.poisson(more) if arm == 0 else 0
            rows.append((session, at, arm))
            left, at = left - 1, at + 1
    session, at, arm = map(np.array, zip(*rows, strict=True))
    return ibis.memtable(
        pa.table(
            {
                "is_final": np.ones(len(session), dtype=bool),
                "session_id": [f"s{each}" for each in session],
                "request_id": [f"{each}-{place:03d}" for each, place in zip(session, at, strict=True)],
                "started_s": session * 100.0 + at,
                "cluster": session * 37 % 256,
                "task_type": np.where(session % 2 == 0, "code", "chat"),
                "complexity": rng.random(len(session)),
                "routed_model": np.where(arm == 0, "cheap", "dear"),
                "prompt_tokens": rng.integers(100, 500, size=len(session)),
                "completion_tokens": rng.integers(10, 100, size=len(session)),
            }
        )
    )


@pytest.mark.parametrize(("n", "more", "verdict"), [(8000, 0.0, "nothing"), (4000, 0.5, "something"), (60, 0.0, "cannot tell")])
def test_what_is_carried_over_is_told_as_far_as_the_sessions_show_it(n: int, more: float, verdict: str) -> None:
    found = carried_over(sessions(n, more), n * 3)
    assert found.verdict == verdict, found
    if more:
        assert found.requests is not None
        assert found.requests.low > 0 or found.requests.high < 0
