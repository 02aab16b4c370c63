"""Calls and spend by task type and model, on windows whose sums can be worked out on paper."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from routing_pipeline.analysis.spend_cells import STEP_RATIO, SpendCell, SpendCells, median_step, spend_cells

PRICES = np.array([1e-5, 1e-6, 4e-5])
"""USD per uncached, cached and output token."""


@pytest.fixture
def cells_of(hand_made: Any, hand_made_scope: Any) -> Any:
    def of(rows: list[dict[str, Any]]) -> SpendCells:
        return spend_cells(hand_made(rows), hand_made_scope())

    return of


def call(prompt: int, cached: int | None, output: int, *, factor: float = 1.0, **values: Any) -> dict[str, Any]:
    cost = factor * float(PRICES @ [prompt - (cached or 0), cached or 0, output])
    return {"prompt_tokens": prompt, "cached_tokens": cached, "completion_tokens": output, "cost_usd": cost} | values


def test_models_that_fall_together_for_being_rare_are_no_fallbacks(hand_made: Any, hand_made_scope: Any) -> None:
    names = [f"m{number}" for number in range(70)]
    rows = [{"model": name, "routed_model": name} for name in names for _ in range(3)]
    rows.append({"model": names[-1], "routed_model": names[-2]})
    found = spend_cells(hand_made(rows), hand_made_scope().model_copy(update={"models": tuple(names)}))
    assert ("code", "(others)") in found.cells
    assert found.fell_back == 1


def test_calls_with_tokens_and_a_cost_are_counted_apart_from_the_rest(cells_of: Any) -> None:
    rows = [call(900, 400, 100), call(1_100, None, 50), call(0, 0, 0, completion_tokens=None), call(500, 0, 10, is_cache_hit=True)]
    found = cells_of(rows)
    cell = found.cell("code", "gpt-4o")
    assert (cell.calls, cell.rest_calls) == (2, 2)
    assert cell.tokens.tolist() == [1_600.0, 400.0, 150.0]
    assert cell.spend_usd == pytest.approx(sum(row["cost_usd"] for row in rows[:2]))
    assert cell.rest_usd == pytest.approx(rows[2]["cost_usd"] + rows[3]["cost_usd"])
    assert (found.requests, found.priced_attempts) == (4, 4)
    assert found.spend_usd == pytest.approx(cell.spend_usd + cell.rest_usd)
    assert found.cached_share == pytest.approx(0.2)
    assert cell.cached_share == pytest.approx(0.2)


def test_a_pair_that_was_never_called_is_an_empty_cell(cells_of: Any) -> None:
    found = cells_of([call(900, 0, 100)])
    empty = found.cell("chat", "gpt-4o")
    assert (empty.calls, empty.spend_usd, empty.rest_calls, empty.cached_share) == (0, 0.0, 0, 0.0)
    assert ("chat", "gpt-4o") not in found.cells
    assert found.prices["never called"] is None


def test_unit_prices_come_back_from_the_sums_of_a_model_over_all_its_tasks(cells_of: Any) -> None:
    rng = np.random.default_rng(1)
    rows = [
        call(int(rng.integers(200, 2_000)), int(rng.integers(0, 200)), int(rng.integers(10, 400)), task_type=("code", "chat")[number % 2])
        for number in range(60)
    ]
    assert cells_of(rows).prices["gpt-4o"] == pytest.approx(PRICES, rel=1e-6)
    assert cells_of(rows[:20]).prices["gpt-4o"] is None


def test_prices_paid_make_the_cells_tokens_cost_what_they_cost(cells_of: Any) -> None:
    cell = cells_of([call(900, 400, 100, factor=0.8), call(1_100, 0, 50, factor=0.8)]).cell("code", "gpt-4o")
    assert cell.prices_paid(PRICES) == pytest.approx(0.8 * PRICES)
    assert cell.prices_paid(None) is None
    assert SpendCell().prices_paid(PRICES) is None
    assert cell.prompt_usd(PRICES) == pytest.approx((1_600 * PRICES[0] + 400 * PRICES[1]) / 2_000)


def test_lengths_are_counted_in_steps_and_the_median_is_one_of_them(cells_of: Any) -> None:
    cell = cells_of([call(prompt, 0, 10) for prompt in (100, 101, 1_000, 1_001, 1_002, 90_000)]).cell("code", "gpt-4o")
    assert sorted(step.calls for step in cell.by_length.values()) == [1, 2, 3]
    assert sum(step.prompt_tokens for step in cell.by_length.values()) == 93_204
    middle = median_step([cell])
    assert STEP_RATIO**middle <= 1_000 < STEP_RATIO ** (middle + 1)


def test_failures_that_cost_money_are_counted_with_it(cells_of: Any) -> None:
    found = cells_of([call(900, 0, 100), call(900, 0, 0, status="failure"), {"status": "failure", "cost_usd": None}])
    assert found.paid_failures == 1
    assert found.paid_failures_usd == pytest.approx(9e-3)
