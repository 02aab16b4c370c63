"""Logs that gave a wrong number once: what each must say."""

from __future__ import annotations

import json
from collections import Counter
from pathlib import Path
from typing import Any

import pytest

from routing_pipeline.catalog import Catalog
from routing_pipeline.ingest.ingestion import ingest_feedback, ingest_logs
from routing_pipeline.lake.table import Lake
from routing_pipeline.operations.analyst import Analyst
from routing_pipeline.parameters import Parameters
from routing_pipeline.storage.home import Home
from routing_pipeline.window.conform import conform_days, newest_scores
from routing_pipeline.window.engine import open_engine
from routing_pipeline.window.scope import AnalysisScope, Window

CASES = Path(__file__).parents[2] / ".." / "shared" / "cases"
NOW_S = 1_796_500_000.0

pytestmark = pytest.mark.skipif(not CASES.is_dir(), reason="the cases are not beside the repository")


def conformed(case: str, folder: Path) -> list[dict[str, Any]]:
    """Rows of the case as analyses read them, calls of every kind, in order of time."""
    home = Home(folder / "home")
    ingest_logs(home, str(CASES / case / "logs"), now_s=NOW_S)
    if (CASES / case / "scores").is_dir():
        ingest_feedback(home, str(CASES / case / "scores"), now_s=NOW_S)
    lake = Lake(home)
    with open_engine() as engine:
        attempts = engine.read_parquet(lake.attempt_files(0, NOW_S))
        kept = lake.feedback_files()
        scores = newest_scores(engine.read_parquet(kept), "quality") if kept else None
        rows = conform_days(attempts, Window(1.7e9, NOW_S), catalog=Catalog(), scores=scores, held=engine.held)
        return sorted(engine.backend.to_pyarrow(rows).to_pylist(), key=lambda row: row["started_s"])


def analysed(case: str, folder: Path, *operations: str) -> tuple[AnalysisScope, dict[str, Any]]:
    """What these operations answer about the case, as a report of it would hold them."""
    home = Home(folder / "home").create()
    ingest_logs(home, str(CASES / case / "logs"), now_s=NOW_S)
    analyst = Analyst(home)
    scope = analyst.scope(Parameters())
    return scope, {each: analyst.answer(each, scope).model_dump(mode="json") for each in operations}


def test_a_bridged_call_counts_once(tmp_path: Path) -> None:
    (row,) = conformed("bridged-duplicates", tmp_path)
    assert (row["request_cost_usd"], row["attempts"]) == (pytest.approx(0.006), 1)


def test_every_call_is_of_its_kind_and_reads_are_no_spend(tmp_path: Path) -> None:
    rows = conformed("call-types", tmp_path)
    kinds = Counter(row["operation"] for row in rows)
    assert kinds == Counter(chat=2, embedding=1, transcription=1, image=1, rerank=1, moderation=1, tool=1, speech=1, batch=1, other=1)
    assert sum(row["cost_usd"] or 0.0 for row in rows) == pytest.approx(0.10375)


def test_a_success_that_the_client_saw_keeps_its_own_cost_once(tmp_path: Path) -> None:
    rows = conformed("chain-cost-twice", tmp_path)
    final = [row for row in rows if row["is_final"]]
    assert (
        sum(row["request_cost_usd"] for row in final) == pytest.approx(sum(row["cost_usd"] or 0.0 for row in rows)) == pytest.approx(0.04)
    )
    # The next step of the agent came nine seconds after the failure: no retry, so the failure is a request that failed.
    assert Counter(row["status"] for row in final) == {"success": 4, "failure": 1}


def test_a_trace_keeps_its_score_beside_an_embedding(tmp_path: Path) -> None:
    rows = conformed("langfuse-rag-scores", tmp_path)
    assert sum(row["quality"] is not None for row in rows) == 5


@pytest.mark.parametrize(
    ("case", "usd"),
    [
        ("otel-cache-aliases", {"gpt-4o": 0.00838, "claude-sonnet-4-5": 0.0464}),
        ("otel-unpriced-embeddings", {"text-embedding-3-small": 0.00002}),
        ("writes-outside-prompt", {"sonnet": 0.0420}),
    ],
)
def test_list_costs_come_from_tokens_by_every_name(case: str, usd: dict[str, float], tmp_path: Path) -> None:
    found = {row["model"]: row["list_cost_usd"] for row in conformed(case, tmp_path)}
    assert {model: found[model] for model in usd} == pytest.approx(usd, rel=2e-3)
    assert None not in found.values()


def test_embeddings_are_spend_and_nowhere_among_the_alternatives(tmp_path: Path) -> None:
    scope, found = analysed("embeddings-beside-chat", tmp_path, "routing_rules", "model_mix", "tradeoff_frontier", "monitoring_plan")
    assert scope.requests == 1_500
    rules = found["routing_rules"]["rule_set"]
    assert rules["expected"]["baseline"]["quality"]["estimate"] == pytest.approx(0.853, abs=1e-3)
    (rule,) = rules["rules"]
    assert rules["expected"]["change"]["cost_usd"]["relative"]["estimate"] == pytest.approx(-0.87, abs=0.03)
    assert "embedding" not in json.dumps([rule, found["model_mix"], found["tradeoff_frontier"], found["monitoring_plan"]["exploration"]])


def test_traffic_that_nobody_scored_is_left_as_it_is_and_named(tmp_path: Path) -> None:
    _, found = analysed("unscored-model", tmp_path, "routing_rules")
    rules = found["routing_rules"]
    assert rules["rule_set"]["rules"] == []
    assert any("claude-sonnet-4-5" in reason and "not scored" in reason for reason in rules["reasons"])
