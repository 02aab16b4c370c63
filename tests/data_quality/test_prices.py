"""Why logged cost and list price part: every cause is told from the others by the tokens that it charges."""

from __future__ import annotations

import ibis
import numpy as np
import pytest

from routing_pipeline.catalog import Catalog
from routing_pipeline.data_quality.prices import CLASSES, Reconciliation, priced, reconcile
from routing_pipeline.parameters import ModelOverride

CALLS = 400
MODEL = "a-model-of-ours"
LIST = {
    "uncached": 2.5e-6,
    "cached": 0.25e-6,
    "cache_write": 3.125e-6,
    "audio_prompt": 20e-6,
    "completion": 10e-6,
    "reasoning": 0.0,
    "audio_completion": 40e-6,
}
"""USD per token; of reasoning: beside its price as a completion."""
CATALOG = Catalog(
    {
        MODEL: ModelOverride(
            input_usd_per_million=2.5,
            cached_input_usd_per_million=0.25,
            cache_write_usd_per_million=3.125,
            audio_input_usd_per_million=20,
            output_usd_per_million=10,
            audio_output_usd_per_million=40,
        )
    }
)


def _priced_sums(table: ibis.Table) -> ibis.Table:
    rows, sums = priced(table)
    return rows.agg(**sums)


def sums_of(charged: dict[str, float], *, calls: int = CALLS, noise: float = 0.0, only: tuple[str, ...] = CLASSES) -> dict[str, float]:
    """Sums over calls of random lengths that are logged at `charged` and listed at LIST, USD per token."""
    rng = np.random.default_rng(3)

    def part(of: np.ndarray, name: str, most: float) -> np.ndarray:
        taken = (of * rng.uniform(0.0, most, calls) * (rng.random(calls) < (1.0 if len(only) == 1 else 0.5))).astype(int)
        return taken if name in only else 0 * taken

    prompt, completion = rng.lognormal(7, 0.7, calls).astype(int), rng.lognormal(5.5, 0.6, calls).astype(int)
    share = 1.0 if len(only) == 1 else 0.4
    cached, written = part(prompt, "cached", share), part(prompt, "cache_write", share)
    heard = part(prompt, "audio_prompt", 0.2)
    spoken = part(completion, "audio_completion", 0.3)
    thought = part(completion, "reasoning", 0.7)
    tokens = np.column_stack([prompt - cached - written - heard, cached, written, heard, completion - spoken, thought, spoken])

    def usd(prices: dict[str, float]) -> np.ndarray:
        return tokens @ np.array([prices[name] for name in CLASSES])

    table = ibis.memtable(
        {
            "prompt_tokens": prompt,
            "cached_tokens": cached,
            "cache_write_tokens": written,
            "audio_prompt_tokens": heard,
            "completion_tokens": completion,
            "reasoning_tokens": thought,
            "audio_completion_tokens": spoken,
            "logged_cost_usd": usd(charged) * (1 + noise * rng.normal(size=calls)),
            "list_cost_usd": usd(LIST),
        }
    )
    return _priced_sums(table).to_pyarrow().to_pylist()[0]


def compared(
    model: str = MODEL,
    *,
    calls: int = CALLS,
    noise: float = 0.0,
    times: float = 1.0,
    only: tuple[str, ...] = CLASSES,
    **charged: float,
) -> Reconciliation:
    prices = {name: times * price for name, price in (LIST | charged).items()}
    found = reconcile(model, sums_of(prices, calls=calls, noise=noise, only=only), tolerance=0.1, catalog=CATALOG, on_day=20_780)
    assert found is not None
    return found


CAUSES = {
    "provider discount: every class is charged at 75 % of its list price": {"times": 0.75},
    "margin or stale list: every class is charged at 1.30 times its list price": {"times": 1.3},
    "cache class: cached tokens are charged at the full price": {"cached": 2.5e-6},
    "cache class: cached tokens are charged on top of the full prompt": {"cached": 2.75e-6},
    "cache class: cached tokens are not charged": {"cached": 0.0},
    "cache class: cached tokens are charged at 5.50 times the list price, as if 50 % of them were not taken for cached "
    "or 45 % of them were charged twice": {"cached": 1.375e-6},
    "cache class: tokens written to the cache are charged as any of the prompt": {"cache_write": 2.5e-6},
    "cache class: tokens written to the cache are charged on top of the full prompt": {"cache_write": 5.625e-6},
    "cache class: tokens written to the cache are not charged": {"cache_write": 0.0},
    "cache class: tokens written to the cache are charged at 1.60 times the list price, that of a cache kept for an hour": {
        "cache_write": 5e-6
    },
    "cache class: tokens written to the cache are charged at 3.00 times the list price": {"cache_write": 9.375e-6},
    "audio class: audio prompt tokens are charged as text": {"audio_prompt": 2.5e-6},
    "audio class: audio completion tokens are charged as text": {"audio_completion": 10e-6},
    "audio class: audio completion tokens are charged at 0.50 times the list price": {"audio_completion": 20e-6},
    "reasoning class: reasoning tokens are charged on top of the completion that holds them": {"reasoning": 10e-6},
    "reasoning class: reasoning tokens are not charged": {"reasoning": -10e-6},
    "reasoning class: reasoning tokens are charged at 0.50 times the list price beside the completion's": {"reasoning": 5e-6},
    "other prices than the list's: completion tokens at 1.50 times the list price": {"completion": 15e-6},
}


@pytest.mark.parametrize("cause", CAUSES)
def test_a_cause_is_named(cause):
    charged = CAUSES[cause]
    # Cheap classes have to be a good part of the bill to be worth a word.
    found = compared(**charged, only=tuple(charged) if set(charged) <= {"cached", "cache_write"} else CLASSES)
    assert found.is_beyond(0.1)
    assert found.cause == cause


def test_what_each_class_was_charged_and_should_have_been_stands_side_by_side():
    found = compared(cached=2.5e-6)
    assert [each.name for each in found.classes] == list(CLASSES)
    for each in found.classes:
        assert each.tokens > 0
        assert each.listed_usd == pytest.approx(LIST[each.name], abs=1e-12)
        assert each.charged_usd == pytest.approx(2.5e-6 if each.name == "cached" else LIST[each.name], abs=1e-12)
    gap = sum(each.tokens * (each.charged_usd - each.listed_usd) for each in found.classes)
    assert gap == pytest.approx(found.logged_usd - found.list_usd)


def test_classes_without_tokens_are_left_out():
    found = reconcile(MODEL, sums_of(LIST, only=("cached",)), tolerance=0.1, catalog=CATALOG)
    assert found is not None
    assert [each.name for each in found.classes] == ["uncached", "cached", "completion"]


def test_a_cause_is_named_although_the_logs_are_noisy():
    assert compared(cached=2.5e-6, noise=0.01).cause == "cache class: cached tokens are charged at the full price"


def test_prices_of_the_list_are_beyond_nothing_and_have_no_cause():
    found = compared()
    assert not found.is_beyond(0.1)
    assert (found.ratio, found.cause, dict(found.deviating)) == (pytest.approx(1.0), "", {})


def test_a_difference_within_tolerance_is_no_difference():
    assert not compared(times=1.08).is_beyond(0.1)


def test_errors_that_cancel_in_the_total_are_found_by_class():
    found = compared(uncached=2.5e-6 * 1.5, completion=10e-6 * 0.7)
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
    charged = LIST | {"uncached": earlier.input_usd, "cached": earlier.cached_input_usd, "completion": earlier.output_usd}
    found = reconcile("o3", sums_of(charged, only=("cached",)), tolerance=0.1, catalog=Catalog(), provider="openai", on_day=on_day)
    assert found is not None
    assert found.cause == "stale price: the gateway still charges what the list said earlier"


def test_a_price_that_never_changed_is_not_called_stale():
    assert compared("gpt-4o", reasoning=10e-6).cause == CAUSED_BY_REASONING


CAUSED_BY_REASONING = "reasoning class: reasoning tokens are charged on top of the completion that holds them"


def test_few_calls_are_compared_in_total_only():
    found = compared(times=2.2, calls=5)
    assert found.is_beyond(0.1)
    assert not found.deviating
    assert "too few" in found.cause
    assert {each.charged_usd for each in found.classes} == {None}
    assert all(each.listed_usd == pytest.approx(LIST[each.name]) for each in found.classes)


@pytest.mark.parametrize(
    ("cause", "charged"),
    [
        ("cache class: cached tokens are charged at the full price", {"cached": 2.5e-6}),
        (CAUSED_BY_REASONING, {"reasoning": 10e-6}),
        ("reasoning class: reasoning tokens are not charged", {"reasoning": -10e-6}),
    ],
)
def test_of_few_calls_a_known_mistake_is_told_by_the_total(cause, charged):
    assert compared(calls=20, only=tuple(charged), **charged).cause == f"{cause} (inferred from the total alone)"


def test_calls_without_both_costs_are_not_compared():
    table = ibis.memtable(
        {
            "prompt_tokens": [10, 10],
            "cached_tokens": [0, None],
            "cache_write_tokens": [None, 0],
            "audio_prompt_tokens": [None, 0],
            "audio_completion_tokens": [None, 0],
            "completion_tokens": [5, 5],
            "reasoning_tokens": [None, 0],
            "logged_cost_usd": [None, 0.01],
            "list_cost_usd": [0.01, None],
        },
        schema={
            "prompt_tokens": "int64",
            "cached_tokens": "int64",
            "cache_write_tokens": "int64",
            "audio_prompt_tokens": "int64",
            "audio_completion_tokens": "int64",
            "completion_tokens": "int64",
            "reasoning_tokens": "int64",
            "logged_cost_usd": "float64",
            "list_cost_usd": "float64",
        },
    )
    sums = _priced_sums(table).to_pyarrow().to_pylist()[0]
    assert reconcile("m", sums, tolerance=0.1, catalog=Catalog()) is None


def test_calls_that_are_all_alike_cannot_be_told_apart_by_class():
    table = ibis.memtable(
        {
            "prompt_tokens": [100] * 50,
            "cached_tokens": [50] * 50,
            "cache_write_tokens": [0] * 50,
            "audio_prompt_tokens": [0] * 50,
            "audio_completion_tokens": [0] * 50,
            "completion_tokens": [10] * 50,
            "reasoning_tokens": [0] * 50,
            "logged_cost_usd": [0.02] * 50,
            "list_cost_usd": [0.01] * 50,
        }
    )
    sums = _priced_sums(table).to_pyarrow().to_pylist()[0]
    found = reconcile("m", sums, tolerance=0.1, catalog=Catalog())
    assert found is not None
    assert found.ratio == pytest.approx(2.0)
    assert "too similar calls" in found.cause
