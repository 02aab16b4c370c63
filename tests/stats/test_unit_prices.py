"""Unit prices recovered from sums of products."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from routing_pipeline.stats.unit_prices import PricedTokens


def sums_of(tokens: Any, cost: Any) -> PricedTokens:
    return PricedTokens(len(cost), tokens.T @ tokens, tokens.T @ cost, float(cost @ cost))


def test_unit_prices_come_back_exactly_from_linear_costs() -> None:
    rng = np.random.default_rng(5)
    tokens = rng.lognormal(6, 1, size=(500, 3)).round()
    truth = np.array([3e-6, 3e-7, 1.5e-5])
    cost = tokens @ truth
    assert sums_of(tokens, cost).prices() == pytest.approx(truth, rel=1e-6)


def test_a_token_class_that_never_occurs_does_not_disturb_the_others() -> None:
    tokens = np.random.default_rng(5).lognormal(6, 1, size=(500, 3)).round()
    tokens[:, 1] = 0
    cost = tokens @ [3e-6, 0.0, 1.5e-5]
    assert sums_of(tokens, cost).prices() == pytest.approx([3e-6, 0.0, 1.5e-5], rel=1e-6)


def test_costs_that_tokens_do_not_explain_have_no_unit_price() -> None:
    rng = np.random.default_rng(6)
    tokens, cost = rng.lognormal(6, 1, size=(500, 3)), rng.lognormal(0, 1, 500)
    assert sums_of(tokens, cost).prices() is None
    assert PricedTokens(3, np.eye(3), np.ones(3), 3.0).prices() is None


def test_prices_of_either_sign_are_those_of_least_squares() -> None:
    rng = np.random.default_rng(7)
    tokens = rng.lognormal(6, 1, size=(200, 3))
    cost = tokens @ [3e-6, -1e-6, 1.5e-5] + rng.normal(0, 1e-4, 200)
    expected, *_ = np.linalg.lstsq(tokens, cost)
    assert sums_of(tokens, cost).prices_apart() == pytest.approx(expected, rel=1e-6)


def test_classes_that_move_alike_have_a_price_together_and_none_apart() -> None:
    tokens = np.random.default_rng(8).lognormal(6, 1, size=(200, 2))
    tokens[:, 1] = 2 * tokens[:, 0]
    cost = tokens @ [3e-6, 1e-6]
    prices = sums_of(tokens, cost).prices()
    assert prices is not None
    assert tokens @ prices == pytest.approx(cost)
    assert sums_of(tokens, cost).prices_apart() is None
    assert sums_of(tokens[:29], cost[:29]).prices_apart() is None


def test_sums_of_disjoint_calls_add_up() -> None:
    rng = np.random.default_rng(9)
    tokens, cost = rng.lognormal(6, 1, size=(200, 3)), rng.lognormal(0, 1, 200)
    both, whole = sums_of(tokens[:80], cost[:80]) + sums_of(tokens[80:], cost[80:]), sums_of(tokens, cost)
    assert (both.calls, both.squared_cost) == (200, pytest.approx(whole.squared_cost))
    np.testing.assert_allclose(both.gram, whole.gram)
    np.testing.assert_allclose(both.against, whole.against)
