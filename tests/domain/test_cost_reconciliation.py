"""Why logged cost and list price part: every cause is told from the others by the tokens that it charges."""

from __future__ import annotations

import ibis
import numpy as np
import pytest

from routing_pipeline.catalog import Catalog
from routing_pipeline.cost_reconciliation import Reconciliation, priced_sums, reconcile

CALLS = 400
LISTED = {"uncached": 2.5e-6, "cached": 1.25e-6, "completion": 10e-6}
"""USD per token."""
LIST = [2.5e-6, 1.25e-6, 10e-6, 0.0]


def sums_of(charged: list[float], *, calls: int = CALLS, noise: float = 0.0, reasoning: bool = True) -> dict[str, float]:
    """Sums over calls that are logged at prices per uncached, cached, completion and reasoning token."""
    rng = np.random.default_rng(3)
    prompt = rng.lognormal(7, 0.7, calls).astype(int)
    cached = (prompt * rng.uniform(0.0, 0.8, calls) * (rng.random(calls) < 0.5)).astype(int)
    completion = rng.lognormal(5.5, 0.6, calls).astype(int)
    thought = (completion * rng.uniform(0.0, 0.7, calls)).astype(int) if reasoning else np.zeros(calls, dtype=int)
    tokens = np.column_stack([prompt - cached, cached, completion, thought])
    table = ibis.memtable(
        {
            "prompt_tokens": prompt,
            "cached_tokens": cached,
            "completion_tokens": completion,
            "reasoning_tokens": thought,
            "cost_usd": tokens @ np.array(charged) * (1 + noise * rng.normal(size=calls)),
            "list_cost_usd": tokens @ np.array(LIST),
        }
    )
    return table.agg(**priced_sums(table)).to_pyarrow().to_pylist()[0]


def compared(charged: list[float], *, model: str = "a-model-of-no-list", **settings: object) -> Reconciliation:
    found = reconcile(model, sums_of(charged, **settings), tolerance=0.1, catalog=Catalog(), on_day=20_780)
    assert found is not None
    return found


@pytest.mark.parametrize(
    ("cause", "charged"),
    [
        ("provider discount: every class is charged at 75% of its list price", [0.75 * price for price in LIST]),
        ("margin or stale list: every class is charged at 1.30 times its list price", [1.3 * price for price in LIST]),
        ("cache class: cached tokens are charged at the full price", [2.5e-6, 2.5e-6, 10e-6, 0.0]),
        ("cache class: cached tokens are charged on top of the full prompt", [2.5e-6, 3.75e-6, 10e-6, 0.0]),
        ("cache class: cached tokens are not charged", [2.5e-6, 0.0, 10e-6, 0.0]),
        ("cache class: cached tokens are charged at 1.60 times the list price", [2.5e-6, 2.0e-6, 10e-6, 0.0]),
        ("reasoning class: reasoning tokens are charged on top of the completion that holds them", [2.5e-6, 1.25e-6, 10e-6, 10e-6]),
        ("reasoning class: reasoning tokens are not charged", [2.5e-6, 1.25e-6, 10e-6, -10e-6]),
        (
            "reasoning class: reasoning tokens are charged at 0.50 times the list price beside the completion's",
            [2.5e-6, 1.25e-6, 10e-6, 5e-6],
        ),
        ("other prices than the list's: completion tokens at 1.50 times the list price", [2.5e-6, 1.25e-6, 15e-6, 0.0]),
    ],
)
def test_a_cause_is_named(cause, charged):
    found = compared(charged)
    assert found.is_beyond(0.1)
    assert found.cause == cause


def test_a_cause_is_named_although_the_logs_are_noisy():
    assert compared([2.5e-6, 2.5e-6, 10e-6, 0.0], noise=0.01).cause == "cache class: cached tokens are charged at the full price"


def test_prices_of_the_list_are_beyond_nothing_and_have_no_cause():
    found = compared(LIST)
    assert not found.is_beyond(0.1)
    assert (found.ratio, found.cause, dict(found.deviating)) == (pytest.approx(1.0), "", {})


def test_a_difference_within_tolerance_is_no_difference():
    assert not compared([1.08 * price for price in LIST]).is_beyond(0.1)


def test_errors_that_cancel_in_the_total_are_found_by_class():
    found = compared([2.5e-6 * 1.35, 1.25e-6 * 1.35, 10e-6 * 0.75, 0.0])
    assert abs(found.ratio - 1) < 0.1
    assert found.is_beyond(0.1)
    assert set(found.deviating) >= {"uncached", "completion"}


def test_a_price_that_the_list_had_earlier_is_called_stale():
    # o3 cost 10, 2.5 and 40 dollars per million tokens until June 2025, a fifth of that since.
    on_day = 20_300
    earlier = Catalog().model("o3", provider="openai", on_day=on_day - 365).price
    today = Catalog().model("o3", provider="openai", on_day=on_day).price
    assert earlier is not None
    assert today is not None
    assert earlier.input_usd > today.input_usd
    sums = sums_of([earlier.input_usd, earlier.cached_input_usd, earlier.output_usd, 0.0], reasoning=False)
    found = reconcile("o3", sums, tolerance=0.1, catalog=Catalog(), provider="openai", on_day=on_day)
    assert found is not None
    assert found.cause == "stale price: the gateway still charges what the list said earlier"


def test_a_price_that_never_changed_is_not_called_stale():
    found = compared([2.5e-6, 1.25e-6, 10e-6, 10e-6], model="gpt-4o")
    assert found.cause == "reasoning class: reasoning tokens are charged on top of the completion that holds them"


def test_few_calls_are_compared_in_total_only():
    found = compared([2 * price for price in LIST], calls=5)
    assert found.is_beyond(0.1)
    assert not found.deviating
    assert "too few" in found.cause


def test_calls_without_both_costs_are_not_compared():
    table = ibis.memtable(
        {
            "prompt_tokens": [10, 10],
            "cached_tokens": [0, None],
            "completion_tokens": [5, 5],
            "reasoning_tokens": [None, 0],
            "cost_usd": [None, 0.01],
            "list_cost_usd": [0.01, None],
        },
        schema={
            "prompt_tokens": "int64",
            "cached_tokens": "int64",
            "completion_tokens": "int64",
            "reasoning_tokens": "int64",
            "cost_usd": "float64",
            "list_cost_usd": "float64",
        },
    )
    sums = table.agg(**priced_sums(table)).to_pyarrow().to_pylist()[0]
    assert reconcile("m", sums, tolerance=0.1, catalog=Catalog()) is None


def test_calls_that_are_all_alike_cannot_be_told_apart_by_class():
    table = ibis.memtable(
        {
            "prompt_tokens": [100] * 50,
            "cached_tokens": [50] * 50,
            "completion_tokens": [10] * 50,
            "reasoning_tokens": [0] * 50,
            "cost_usd": [0.02] * 50,
            "list_cost_usd": [0.01] * 50,
        }
    )
    sums = table.agg(**priced_sums(table)).to_pyarrow().to_pylist()[0]
    found = reconcile("m", sums, tolerance=0.1, catalog=Catalog())
    assert found is not None
    assert found.ratio == pytest.approx(2.0)
    assert "too similar calls" in found.cause
