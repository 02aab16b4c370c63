"""What the money rests on: every sample's cost recomputed from its tokens agrees with the cost that was logged, or the gap is explained."""

from __future__ import annotations

from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest

from routing_pipeline.catalog import Catalog
from routing_pipeline.ingest.ingestion import ingest_logs
from routing_pipeline.lake.table import Lake
from routing_pipeline.storage.home import Home
from routing_pipeline.window.conform import conform
from routing_pipeline.window.engine import open_engine
from routing_pipeline.window.scope import Window
from tests.ingest.reading import NOW_S

SAMPLES = Path(__file__).parents[2] / ".." / "shared" / "samples"

pytestmark = pytest.mark.skipif(not SAMPLES.is_dir(), reason="the samples are not beside the repository")

AGREE = (
    "litellm_proxy_complexity_router_success.json",
    "litellm_proxy_stream_success.json",
    "litellm_proxy_after_fallback_success.json",
    "litellm_proxy_tag_routed_success.json",
    "litellm_proxy_pair_fallback_success.json",
    "litellm_s3/litellm_s3_v2_batch.jsonl",
    "litellm_s3/llm-logs",
    "langfuse_observations_v2.constructed.jsonl",
)
NOTHING_LOGGED = {
    # The conventions have no cost: 176 tokens at 2.50, 1,024 from the cache at 1.25 and 25 at 10.00 dollars per million.
    "otlp_traces.constructed.json": (176 * 2.5 + 1024 * 1.25 + 25 * 10) / 1e6,
    "envoy_ai_gateway_accesslog.docs.json": (15 * 0.15 + 7 * 0.6) / 1e6,
}
FAILURES = ("litellm_proxy_bad_model_failure.json", "litellm_proxy_failure_429.json", "litellm_proxy_pair_failure.json")
EXPLAINED = {
    # The documentation's example is of a price that its operator set: 3.8 thousandths for 48 tokens.
    "kong_ai.docs.json": (0.0038, (28 * 1.0 + 20 * 2.0) / 1e6),
    # No list has this model; OpenRouter's own bill is all there is.
    "openrouter_generation.docs.json": (0.0015, None),
}


def costs(name: str, tmp_path: Path) -> list[dict[str, Any]]:
    home = Home(tmp_path / "home")
    ingest_logs(home, str(SAMPLES / name), now_s=NOW_S)
    with open_engine() as engine:
        attempts = engine.read_parquet(Lake(home).attempt_files(0, NOW_S))
        window = Window(datetime(2024, 1, 1, tzinfo=UTC).timestamp(), NOW_S)
        rows = conform(attempts, window, catalog=Catalog())
        found: list[dict[str, Any]] = engine.backend.to_pyarrow(rows).to_pylist()
    assert found
    return found


@pytest.mark.parametrize("name", AGREE)
def test_the_recomputed_cost_is_the_logged_cost(name: str, tmp_path: Path) -> None:
    rows = costs(name, tmp_path)
    assert any(row["logged_cost_usd"] for row in rows)
    for row in rows:
        if row["status"] == "success" and not row["is_cache_hit"]:
            assert row["list_cost_usd"] == pytest.approx(row["logged_cost_usd"], rel=1e-9), row["attempt_id"]
        assert row["cost_usd"] == row["logged_cost_usd"]


@pytest.mark.parametrize("name", NOTHING_LOGGED)
def test_a_call_without_a_logged_cost_costs_what_the_list_asks(name: str, tmp_path: Path) -> None:
    (row,) = costs(name, tmp_path)
    assert row["logged_cost_usd"] is None
    assert row["cost_usd"] == row["list_cost_usd"] == pytest.approx(NOTHING_LOGGED[name], rel=1e-9)


@pytest.mark.parametrize("name", FAILURES)
def test_a_failure_has_no_cost_by_either_reckoning(name: str, tmp_path: Path) -> None:
    assert {(row["logged_cost_usd"], row["list_cost_usd"], row["cost_usd"]) for row in costs(name, tmp_path)} == {(None, None, None)}


@pytest.mark.parametrize("name", EXPLAINED)
def test_a_gap_is_there_and_known(name: str, tmp_path: Path) -> None:
    (row,) = costs(name, tmp_path)
    logged, listed = EXPLAINED[name]
    assert row["cost_usd"] == row["logged_cost_usd"] == pytest.approx(logged)
    assert row["list_cost_usd"] == (None if listed is None else pytest.approx(listed, rel=1e-9))


def test_no_sample_of_a_log_is_left_out() -> None:
    logs = {path.name for path in SAMPLES.iterdir() if path.suffix in {".json", ".jsonl"}} - {"langfuse_scores.constructed.jsonl"}
    assert logs <= {*AGREE, *NOTHING_LOGGED, *FAILURES, *EXPLAINED}
