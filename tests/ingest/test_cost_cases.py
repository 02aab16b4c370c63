"""Bills that went wrong in public, as LiteLLM logged them: read, recomputed, and the cause named.

Figures are those of the threads in LiteLLM's tracker that each test names.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import ibis
import numpy as np
import pytest

from routing_pipeline.analysis.cost_checks import CostCheck
from routing_pipeline.analysis.routing_costs import RoutingCosts, routing_costs
from routing_pipeline.catalog import Catalog
from routing_pipeline.ingest.ingestion import ingest_logs
from routing_pipeline.lake.table import Lake
from routing_pipeline.parameters import ModelOverride, Parameters
from routing_pipeline.storage.home import Home
from routing_pipeline.window.conform import conform
from routing_pipeline.window.engine import open_engine
from routing_pipeline.window.scope import Window
from tests.ingest.formats.test_litellm import BASE, merged
from tests.ingest.reading import NOW_S, json_lines


@dataclass(frozen=True)
class Call:
    """One call as the gateway logged it; tokens of the prompt include cached and written ones."""

    prompt: int
    completion: int
    cost: float | None
    cached: int = 0
    written: int = 0

    def record(self, number: int, model: str, provider: str, start_s: float) -> dict[str, Any]:
        details = {"cached_tokens": self.cached, "cache_creation_tokens": self.written}
        at = start_s + 10 * number
        return merged(
            BASE,
            {
                "id": f"r{number}",
                "litellm_call_id": f"call-{number}",
                "model": f"{provider}/{model}",
                "model_group": model,
                "custom_llm_provider": provider,
                "startTime": at,
                "endTime": at + 2,
                "completionStartTime": at + 2,
                "response_cost": self.cost,
                "prompt_tokens": self.prompt,
                "completion_tokens": self.completion,
                "metadata": {"usage_object": {"prompt_tokens_details": details}},
            },
        )


@pytest.fixture
def reckoned(tmp_path: Path, hand_made_scope: Any) -> Any:
    """What the cost section says of calls to one model on a day."""

    def of(calls: Sequence[Call], model: str, provider: str, day: datetime, **overrides: ModelOverride) -> RoutingCosts:
        start_s = day.timestamp()
        (tmp_path / "logs.jsonl").write_bytes(json_lines(call.record(i, model, provider, start_s) for i, call in enumerate(calls)))
        home = Home(tmp_path / "home")
        assert ingest_logs(home, str(tmp_path / "logs.jsonl"), now_s=NOW_S).ingested == len(calls)
        parameters = Parameters(models={name.replace("_", "-"): override for name, override in overrides.items()})
        scope = hand_made_scope(1.0, parameters, day)
        with open_engine() as engine:
            attempts = engine.read_parquet(Lake(home).attempt_files(0, NOW_S))
            rows = conform(attempts, Window(scope.start_s, scope.end_s), catalog=Catalog(parameters.models))
            table = ibis.memtable(engine.backend.to_pyarrow(rows))
        return routing_costs(table, table.limit(0), scope)

    return of


def the_check(found: RoutingCosts) -> CostCheck:
    (check,) = found.checks
    return check


# Issue 34801: 40 calls to gpt-5.6-sol, July 2026: 73,550 tokens sent and 20,480 received. OpenAI billed 65,304 tokens as cached
# and 0.865846 dollars; LiteLLM took 49,563 for cached and logged 0.939487. Input cost 5.00, cached input 0.50 and cache writes
# 6.25 dollars per million. Of the 15,741 tokens that were not taken for cached, 2,245 were then priced as written: that is what
# the difference of the bills comes to. The thread names no price of output; it is what OpenAI's total leaves for it.
JULY = datetime(2026, 7, 27, tzinfo=UTC)
SOL = {"prompt": 73_550, "completion": 20_480, "billed_cached": 65_304, "logged_cached": 49_563, "logged_written": 2_245}
SOL_OUTPUT = (0.865846e6 - (73_550 - 65_304) * 5.0 - 65_304 * 0.5) / 20_480
SOL_PRICES = {
    "gpt_5.6_sol": ModelOverride(
        input_usd_per_million=5.0,
        cached_input_usd_per_million=0.5,
        cache_write_usd_per_million=6.25,
        output_usd_per_million=SOL_OUTPUT,
    )
}


def split(total: int, weights: Any) -> list[int]:
    """A total over calls, by weight, in whole numbers."""
    ends = np.rint(np.cumsum(weights) / np.sum(weights) * total).astype(int)
    return np.diff(ends, prepend=0).tolist()


def sol_calls() -> list[tuple[Call, int]]:
    """As LiteLLM logged them, each with the tokens that OpenAI billed as cached."""
    rng = np.random.default_rng(1)
    prompts = split(SOL["prompt"], rng.uniform(0.5, 1.5, 40))
    completions = split(SOL["completion"], rng.uniform(0.5, 1.5, 40))
    billed = split(SOL["billed_cached"], prompts * rng.uniform(0.8, 1.0, 40))
    parts = zip(prompts, completions, billed, split(SOL["logged_cached"], billed), split(SOL["logged_written"], billed), strict=True)
    calls = []
    for prompt, completion, own, cached, written in parts:
        usd = (prompt - cached - written) * 5.0 + cached * 0.5 + written * 6.25 + completion * SOL_OUTPUT
        calls.append((Call(prompt, completion, usd / 1e6, cached, written), own))
    return calls


def test_cached_tokens_that_a_gateway_did_not_take_for_cached_are_found_where_the_log_counts_them(reckoned: Any) -> None:
    calls = [Call(each.prompt, each.completion, each.cost, billed) for each, billed in sol_calls()]
    check = the_check(reckoned(calls, "gpt-5.6-sol", "openai", JULY, **SOL_PRICES))
    assert check.logged_usd == pytest.approx(0.939487, abs=1e-6)
    assert check.list_usd == pytest.approx(0.865846, abs=1e-6)
    assert check.difference == pytest.approx(0.085, abs=5e-4)
    # Less than the 10 % that a total may be off, and all of it in one class.
    assert check.within_tolerance is False
    gaps = {each.token_class: each.difference_usd for each in check.classes}
    assert gaps["cached"] == pytest.approx(0.073641, rel=0.02)
    assert gaps["completion"] == pytest.approx(0.0, abs=1e-3)
    assert check.cause.startswith("cache class: cached tokens are charged at 3.")
    # 24 % of them, a few at the price of writing.
    assert "as if 25 % of them were not taken for cached" in check.cause


def test_a_log_whose_own_counts_are_wrong_agrees_with_itself(reckoned: Any) -> None:
    check = the_check(reckoned([each for each, _ in sol_calls()], "gpt-5.6-sol", "openai", JULY, **SOL_PRICES))
    assert check.list_usd == pytest.approx(check.logged_usd) == pytest.approx(0.939487, abs=1e-6)
    assert (check.within_tolerance, check.cause) == (True, "")
    assert {each.token_class for each in check.classes} == {"uncached", "cached", "cache_write", "completion"}


def test_the_price_is_that_of_the_day(reckoned: Any) -> None:
    # 5.00, 0.50, 6.25 and 30.00 in July 2026; 4.00, 0.40, 5.00 and 20.00 in November.
    call = Call(1_000, 100, 0.01, cached=400, written=100)
    for day, usd in ((JULY, 500 * 5.0 + 400 * 0.5 + 100 * 6.25 + 100 * 30), (NOVEMBER, 500 * 4.0 + 400 * 0.4 + 100 * 5.0 + 100 * 20)):
        assert the_check(reckoned([call], "gpt-5.6-sol", "openai", day)).list_usd == pytest.approx(usd / 1e6)


# Pull request 37407: xai/grok-4.6 with an image in the prompt; 2,461 tokens sent, 1,319 of them text and 1,142 an image, 2,432
# read from the cache: the cached tokens of the image were charged a second time. xAI billed 0.003092, LiteLLM logged 0.005318.
NOVEMBER = datetime(2026, 11, 20, tzinfo=UTC)
WARM = Call(2_461, 303, 0.005318, cached=2_432)
COLD = Call(2_461, 664, 0.008138, cached=512)
RESPONSES = Call(2_461, 606, 0.004910, cached=2_432)


def test_cached_tokens_charged_twice_are_found_on_a_single_call(reckoned: Any) -> None:
    check = the_check(reckoned([WARM], "grok-4.6", "xai", NOVEMBER))
    assert (check.logged_usd, check.list_usd) == (pytest.approx(0.005318), pytest.approx(0.003092))
    assert check.difference == pytest.approx(0.72, abs=0.001)
    assert check.within_tolerance is False
    # 1,113 of 2,432: what of the cache reaches into the image.
    assert "46 % of the cached tokens were charged twice" in check.cause


def test_calls_that_were_billed_right_are_right(reckoned: Any) -> None:
    check = the_check(reckoned([COLD, RESPONSES], "grok-4.6", "xai", NOVEMBER))
    assert check.list_usd == pytest.approx(0.008138 + 0.004910)
    assert (check.within_tolerance, check.cause) == (True, "")


def test_cached_tokens_charged_twice_are_told_by_their_class_in_more_traffic(reckoned: Any) -> None:
    rng = np.random.default_rng(7)
    calls = []
    for _ in range(80):
        words, image = int(rng.integers(400, 1_600)), int(rng.integers(800, 1_600))
        prompt, completion = words + image, int(rng.integers(100, 700))
        cached = prompt - int(rng.integers(1, 60))
        # The image is charged whole although the cache holds most of it.
        usd = max(words - cached, 0) * 2.0 + image * 2.0 + cached * 0.5 + completion * 6.0
        calls.append(Call(prompt, completion, usd / 1e6, cached))
    check = the_check(reckoned(calls, "grok-4.6", "xai", NOVEMBER))
    gaps = {each.token_class: each.difference_usd for each in check.classes}
    assert max(gaps, key=lambda name: gaps[name]) == "cached"
    assert check.cause.startswith("cache class: cached tokens are charged at 3.")
    assert "charged twice" in check.cause


# Issue 9812: written tokens charged as prompt and as written, 0.091311 for 0.05439. Issue 35127: cached tokens dropped on the
# way, 0.860000 for 0.166250.
MARCH = datetime(2026, 3, 2, tzinfo=UTC)


def test_written_tokens_charged_twice_are_told_by_the_total_of_one_call(reckoned: Any) -> None:
    prices = ModelOverride(input_usd_per_million=3.0, cache_write_usd_per_million=3.75, output_usd_per_million=15.0)
    call = Call(12_307, 550, 0.091311, written=12_304)
    check = the_check(reckoned([call], "claude-3-7-sonnet", "anthropic", MARCH, claude_3_7_sonnet=prices))
    assert check.list_usd == pytest.approx(0.05439, abs=1e-5)
    assert check.cause == "cache class: tokens written to the cache are charged on top of the full prompt (inferred from the total alone)"


def test_a_cache_that_the_gateway_never_saw_is_told_from_the_list(reckoned: Any) -> None:
    call = Call(172_000, 0, 0.86, cached=155_000, written=3_000)
    check = the_check(reckoned([call], "gpt-5.6-sol", "openai", JULY))
    assert check.list_usd == pytest.approx(0.16625)
    assert check.difference == pytest.approx(0.86 / 0.16625 - 1)
    assert check.cause == "cache class: cached tokens are charged at the full price (inferred from the total alone)"


def test_long_prompts_cost_what_the_list_asks_for_long_prompts(reckoned: Any) -> None:
    # Twice the price beyond 272,000 tokens: for all of them, and 1.5 times for the answer.
    short, long = Call(272_000, 100, 0.01), Call(272_001, 100, 0.01)
    check = the_check(reckoned([short, long], "gpt-5.6-sol", "openai", NOVEMBER))
    assert check.list_usd == pytest.approx((272_000 * 4 + 100 * 20 + 272_001 * 8 + 100 * 30) / 1e6)


def test_a_model_without_any_price_is_listed_with_its_traffic_and_is_not_free(reckoned: Any) -> None:
    calls = [Call(1_000, 100, None), Call(2_000, 300, None)]
    found = reckoned(calls, "our-own-llama", "hosted_vllm", NOVEMBER)
    assert found.checks == ()
    assert not isinstance(found.total_usd, float)
    (model,) = found.unpriced.models
    assert (model.model, model.provider, model.attempts, model.share) == ("our-own-llama", "hosted_vllm", 2, 1.0)
    assert (model.prompt_tokens, model.completion_tokens) == (3_000, 400)


def test_what_the_log_does_not_price_is_counted_at_list_price_and_said_to_be(reckoned: Any) -> None:
    found = reckoned([Call(1_000, 100, None), Call(1_000, 100, 0.0035)], "gpt-4o", "openai", NOVEMBER)
    assert found.total_usd == pytest.approx(0.007)
    assert (found.unpriced.attempts, found.unpriced.list_cost_usd, found.unpriced.models) == (1, pytest.approx(0.0035), ())
    assert the_check(found).attempts == 1
    assert any("1 successful attempt has no cost in the log, counted at list prices" in notice for notice in found.notices)
