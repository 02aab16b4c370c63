"""List prices of calls whose logs leave something out, or ask for another service class."""

from __future__ import annotations

from typing import Any

import ibis
import pyarrow as pa
import pytest

from routing_pipeline.catalog import Catalog, family_of
from routing_pipeline.lake.side_tables import arrow_schema
from routing_pipeline.schema import REQUEST_LOG, column_names
from routing_pipeline.window.conform import with_time
from routing_pipeline.window.engine import open_engine
from routing_pipeline.window.price_columns import prices_of, with_prices


def listed(**values: Any) -> float | None:
    """The list price of one successful call in USD."""
    row: dict[str, Any] = dict.fromkeys(column_names(REQUEST_LOG))
    row |= {"attempt_id": "a", "request_id": "a", "status": "success", "provider": "openai", "source_format": "t", "source_object": "t"}
    row |= {"started_at": 1_795_000_000_000_000, "ingested_at": 1_795_000_000_000_000} | values
    row["provider_model"] = row["model"]
    table = ibis.memtable(pa.Table.from_pylist([row], schema=arrow_schema(REQUEST_LOG)))
    with open_engine("duckdb") as engine:
        rows = with_time(table)
        found: float | None = engine.backend.to_pyarrow(with_prices(rows, prices_of(rows, Catalog()))).to_pylist()[0]["list_cost_usd"]
    return found


def test_an_embedding_without_a_count_of_answered_tokens_has_a_price() -> None:
    assert listed(model="text-embedding-3-small", prompt_tokens=2_000, operation="embedding") == pytest.approx(0.00004)


def test_a_chat_without_a_count_of_answered_tokens_has_none() -> None:
    assert listed(model="gpt-4o", prompt_tokens=2_000) is None


def test_a_class_of_tokens_that_the_list_does_not_price_is_not_priced_as_its_neighbour() -> None:
    sound = {"model": "gpt-4o", "prompt_tokens": 1_000, "completion_tokens": 100}
    assert listed(**sound) == pytest.approx(0.0035)
    assert listed(**sound, audio_prompt_tokens=0) == pytest.approx(0.0035)
    assert listed(**sound, audio_prompt_tokens=400) is None


@pytest.mark.parametrize("tier", ["flex", "batch", "priority"])
def test_a_service_class_that_the_list_does_not_price_has_no_price(tier: str) -> None:
    counts = {"model": "gpt-4o", "prompt_tokens": 1_000, "completion_tokens": 100}
    assert listed(**counts, service_tier=tier) is None
    assert listed(**counts, service_tier="default") == pytest.approx(0.0035)


def test_a_model_that_is_one_providers_alone_is_priced_whoever_the_log_names() -> None:
    assert listed(model="text-embedding-3-large", provider="our-envoy", prompt_tokens=1_000, operation="embedding") == pytest.approx(
        0.00013
    )
    bedrock = "us.anthropic.claude-sonnet-4-5-20250929-v1:0"
    counts = {"prompt_tokens": 1_000, "completion_tokens": 100}
    assert listed(model=bedrock, provider="an-agents-framework", **counts) == listed(model=bedrock, provider="aws", **counts)
    arn = f"arn:aws:bedrock:us-east-1:1:inference-profile/{bedrock}"
    assert listed(model=arn, provider="aws", **counts) == listed(model=bedrock, provider="aws", **counts)


@pytest.mark.parametrize(
    ("model", "provider", "usd"),
    [
        ("llama-3.3-70b-versatile", "groq.chat", 0.00059 + 0.000079),
        ("gpt-4o", "azure.responses", 0.0035),
        # What one serves oneself costs what nobody's list says.
        ("gpt-4o", "ollama.chat", None),
        ("gpt-4o", "Ollama", None),
        ("gpt-4o", "vllm", None),
    ],
)
def test_a_provider_is_known_whatever_kind_of_call_stands_behind_its_name(model: str, provider: str, usd: float | None) -> None:
    found = listed(model=model, provider=provider, prompt_tokens=1_000, completion_tokens=100)
    assert found == (None if usd is None else pytest.approx(usd))


def test_what_is_served_for_nothing_is_not_priced_as_the_paid_model() -> None:
    assert listed(model="deepseek/deepseek-chat:free", provider="openrouter", prompt_tokens=1_000, completion_tokens=100) == 0.0


@pytest.mark.parametrize(
    ("name", "model"),
    [
        ("us.anthropic.claude-haiku-4-5-20251001-v1:0", "claude-haiku-4-5"),
        ("azure/gpt-4o-2024-08-06", "gpt-4o"),
        ("gpt-4-1106-preview", "gpt-4"),
        ("gemini-2.5-flash-preview-09-2025", "gemini-2.5-flash"),
        ("gemini-2.0-flash-001", "gemini-2.0-flash"),
        ("mistral-large-2411", "mistral-large"),
        ("claude-sonnet-4-5@20250929", "claude-sonnet-4-5"),
        ("deepseek-v3", "deepseek-v3"),
        ("in-house-v2", "in-house-v2"),
        ("gpt-5-mini", "gpt-5-mini"),
        ("llama-3-70b", "llama-3-70b"),
    ],
)
def test_the_model_behind_a_name_is_without_its_place_and_version(name: str, model: str) -> None:
    assert family_of(name) == model
