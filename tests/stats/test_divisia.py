"""The change in spend taken apart: parts that add up."""

from __future__ import annotations

import math

import pytest
from hypothesis import given, settings, strategies as st

from routing_pipeline.stats.divisia import Term, effects

FACTORS = ("volume", "mix", "price")
sizes = st.just(0.0) | st.floats(1e-9, 1e6)


@settings(max_examples=50, deadline=None)
@given(st.lists(st.tuples(*[sizes] * 6), max_size=8))
def test_effects_add_up_to_the_change_whatever_begins_or_ends(rows: list[tuple[float, ...]]) -> None:
    terms = [Term(dict(zip(FACTORS, row[:3], strict=True)), dict(zip(FACTORS, row[3:], strict=True))) for row in rows]
    change = math.fsum(math.prod(row[3:]) - math.prod(row[:3]) for row in rows)
    scale = math.fsum(math.prod(row[3:]) + math.prod(row[:3]) for row in rows)
    assert sum(effects(terms, FACTORS).values()) == pytest.approx(change, abs=1e-9 * scale + 1e-12)


def test_a_price_that_doubles_explains_all_of_a_change_in_which_nothing_else_moved() -> None:
    found = effects([Term({"volume": 10, "price": 2}, {"volume": 10, "price": 4})], ("volume", "price"))
    assert found == pytest.approx({"volume": 0.0, "price": 20.0})


def test_twice_the_volume_at_half_the_price_cancels_with_equal_parts() -> None:
    found = effects([Term({"volume": 10, "price": 2}, {"volume": 20, "price": 1})], ("volume", "price"))
    assert found["volume"] == pytest.approx(-found["price"])
    assert found["volume"] == pytest.approx(20 * math.log(2))


def test_a_model_that_is_new_is_a_change_of_mix() -> None:
    new = Term({"volume": 10, "mix": 0, "price": 1}, {"volume": 20, "mix": 0.5, "price": 3})
    assert effects([new], FACTORS) == {"volume": 0.0, "mix": 30.0, "price": 0.0}
