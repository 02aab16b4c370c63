"""What caches save and what staying would cost: worked out of tokens and costs alone, and not told where costs do not tell it."""

from __future__ import annotations

import ibis
import numpy as np
import pyarrow as pa
import pytest

from routing_pipeline.policy.cells import COST_TODAY
from routing_pipeline.policy.prompt_caches import Caching, ModelCache, caching_of, whole_session_rows

FRESH, READ, OUT = 2e-6, 2e-7, 6e-6


def calls(noise: float = 0.0, *, by_session: bool = True, n: int = 400) -> ibis.Table:
    """Sessions of four calls of two models at one price, drawn for each call; a cache holds a model's earlier call, or any part at all."""
    rng = np.random.default_rng(2)
    arm = rng.integers(0, 2, size=(n, 4))
    prompt = 1000 + 500 * np.arange(4) + rng.integers(0, 300, size=(n, 1))
    cached = np.zeros((n, 4))
    for turn in range(1, 4):
        cached[:, turn] = np.where(arm[:, turn] == arm[:, turn - 1], prompt[:, turn - 1], 0)
    if not by_session:
        cached = np.floor(prompt * rng.uniform(0.2, 0.6, size=(n, 4)))
    completion = rng.integers(50, 300, size=(n, 4))
    cost = (prompt - cached) * FRESH + cached * READ + completion * OUT
    session = np.repeat(np.arange(n), 4)
    turn = np.tile(np.arange(4), n)
    return ibis.memtable(
        pa.table(
            {
                "is_final": np.ones(4 * n, dtype=bool),
                "session_id": [f"s{each}" for each in session],
                "request_id": [f"{each}-{at}" for each, at in zip(session.tolist(), turn.tolist(), strict=True)],
                "started_s": session * 1000.0 + turn * 60.0,
                "cluster": session % 256,
                "status": ["success"] * (4 * n),
                "attempts": np.ones(4 * n, dtype=np.int64),
                "is_cache_hit": np.zeros(4 * n, dtype=bool),
                "routed_model": np.array(["a", "b"])[arm.ravel()],
                "task_type": ["chat"] * (4 * n),
                "is_task_type_logged": np.ones(4 * n, dtype=bool),
                "complexity": turn / 4.0,
                "is_complexity_derived": np.zeros(4 * n, dtype=bool),
                "team": ["t"] * (4 * n),
                "prompt_tokens": prompt.ravel(),
                "completion_tokens": completion.ravel(),
                "cached_tokens": cached.ravel().astype(np.int64),
                "request_cost_usd": cost.ravel() * rng.lognormal(0.0, noise, size=4 * n) if noise else cost.ravel(),
            }
        )
    )


def found_in(rows: ibis.Table) -> Caching:
    found = caching_of(rows)
    assert found is not None
    return found


def test_prices_and_rates_are_those_that_made_the_costs() -> None:
    found = found_in(calls())
    assert found.verdict == "something"
    for each in found.models:
        assert (each.fresh_usd, each.cached_usd) == pytest.approx((FRESH, READ))
        assert each.rates[0] == pytest.approx(1.0)
    rows = calls().to_pyarrow().to_pandas()
    assert found.saved_usd == pytest.approx(float(rows.cached_tokens.sum()) * (FRESH - READ))
    assert found.told("whole session").lost_by_a_move == pytest.approx(found.saved_usd / rows.request_cost_usd.sum())


def test_a_call_costs_what_it_would_in_a_session_that_stays_and_has_what_was_known_at_its_first_one() -> None:
    rows = whole_session_rows(calls(), tuple(ModelCache(each, (1.0, 1.0, 1.0), FRESH, READ, FRESH) for each in ("a", "b")))
    found = rows.to_pyarrow().to_pandas().sort_values("request_id", ignore_index=True)
    logged = calls().to_pyarrow().to_pandas().sort_values("request_id", ignore_index=True)
    before = logged.prompt_tokens.groupby(logged.session_id).shift(1).fillna(0)
    staying = (logged.prompt_tokens - before) * FRESH + before * READ + logged.completion_tokens * OUT
    assert found.request_cost_usd.to_numpy() == pytest.approx(staying.to_numpy())
    assert found[COST_TODAY].to_numpy() == pytest.approx(logged.request_cost_usd.to_numpy())
    assert (found.complexity == 0.0).all()
    assert found.call_complexity.to_numpy() == pytest.approx(logged.complexity.to_numpy())


def test_what_is_cached_whoever_served_the_session_before_changes_nothing() -> None:
    assert found_in(calls(by_session=False)).verdict == "nothing"


def test_costs_that_do_not_tell_what_a_cached_token_costs_say_so() -> None:
    found = found_in(calls(noise=3.0))
    assert (found.verdict, found.saved_usd) == ("cannot tell", None)
    assert "cannot be told" in found.told("request").told


def test_without_cached_tokens_there_is_nothing_to_say() -> None:
    assert caching_of(calls().drop("cached_tokens")) is None
    assert caching_of(calls().mutate(cached_tokens=ibis.null("int64"))) is None
