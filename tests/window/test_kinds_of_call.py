"""Other kinds of call beside chat: all of them are paid for, and nothing that is said of requests knows them."""

from __future__ import annotations

import random
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import ibis
import pyarrow as pa
import pytest

from routing_pipeline.analysis.budget_projection import daily_spend_by_team
from routing_pipeline.analysis.cost_drivers import cost_drivers
from routing_pipeline.analysis.routing_analytics import routing_analytics
from routing_pipeline.analysis.routing_costs import routing_costs
from routing_pipeline.analysis.spend_groupings import spend_by
from routing_pipeline.catalog import Catalog
from routing_pipeline.errors import UnusableInputError
from routing_pipeline.estimates import Estimate, Result, Unidentifiable
from routing_pipeline.lake.side_tables import arrow_schema
from routing_pipeline.parameters import Parameters
from routing_pipeline.policy.evidence import gather_evidence
from routing_pipeline.policy.evidence_model import RoutingEvidence
from routing_pipeline.recommendation.question import question_of
from routing_pipeline.recommendation.routing_rules import optimize_routing_rules
from routing_pipeline.schema import OPERATIONS, REQUEST_LOG, column_names
from routing_pipeline.window.conform import conform
from routing_pipeline.window.engine import Engine, open_engine
from routing_pipeline.window.hourly import attempt_sums, priced, score_sums
from routing_pipeline.window.resolve import resolve_scope
from routing_pipeline.window.rows import calls_at, rows_at
from routing_pipeline.window.scope import AnalysisScope, Window
from tests.lakes import lake_of

START = datetime(2026, 6, 1, tzinfo=UTC)
DAY_S = 86_400
REQUESTS = 2_400
TEXT_EMBEDDING, EMBEDDINGS = "text-embedding-3-small", 2_400
"""As many as requests, and 4 in 100 of them fail."""


def call(name: str, at_s: float, **values: Any) -> dict[str, Any]:
    row: dict[str, Any] = dict.fromkeys(column_names(REQUEST_LOG))
    row |= {
        "attempt_id": f"{name}/1",
        "request_id": name,
        "started_at": (START + timedelta(seconds=at_s)).replace(tzinfo=None),
        "provider": "openai",
        "status": "success",
        "team": "core",
        "source_format": "canonical",
        "source_object": "a.jsonl",
        "ingested_at": (START + timedelta(days=30)).replace(tzinfo=None),
    }
    return row | values


def chat() -> Iterator[dict[str, Any]]:
    """Two models by the toss of a coin, one of them an eighth as dear and just as good."""
    drawn = random.Random(3)  # noqa: S311
    for number in range(REQUESTS):
        dear = drawn.random() < 0.5
        tokens = drawn.randrange(500, 1_500)
        yield call(
            f"c{number}",
            number * 240.0,
            session_id=f"s{number // 2}",
            latency_ms=drawn.uniform(900, 1_500),
            model="gpt-4o" if dear else "gpt-4o-mini",
            provider_model="gpt-4o" if dear else "gpt-4o-mini",
            task_type="rag",
            complexity=round(drawn.random(), 3),
            propensity=0.5,
            prompt_tokens=tokens,
            completion_tokens=200,
            cost_usd=tokens * (8e-6 if dear else 1e-6),
            quality_score=min(max(drawn.gauss(0.85, 0.05), 0.0), 1.0),
            operation=None if number % 2 else "chat",
        )


def others() -> Iterator[dict[str, Any]]:
    """Embeddings in the same sessions and under the same task; images, reranking, tools and a kind that nobody knows beside them."""
    for number in range(EMBEDDINGS):
        failed = number % 25 == 0
        yield call(
            f"e{number}",
            number * 240.0 + 1.0,
            session_id=f"s{number // 2}",
            latency_ms=80.0,
            model=TEXT_EMBEDDING,
            provider_model=TEXT_EMBEDDING,
            task_type="rag" if number % 2 else "indexing",
            complexity=0.5,
            prompt_tokens=60 if not failed else None,
            completion_tokens=0 if not failed else None,
            cost_usd=None if failed else 0.00001,
            status="failure" if failed else "success",
            error_type="429" if failed else None,
            quality_score=0.0,
            operation="embedding",
        )
    for number in range(40):
        yield call(f"i{number}", number * 9_000.0, latency_ms=9_000.0, model="dall-e-3", cost_usd=0.04, operation="image", team="design")
        yield call(f"r{number}", number * 9_001.0, latency_ms=200.0, model="rerank", provider="cohere", cost_usd=0.002, operation="rerank")
        yield call(f"t{number}", number * 9_002.0, latency_ms=500.0, model="MCP: search", operation="tool")
        yield call(f"o{number}", number * 9_003.0, model="gpt-4o", prompt_tokens=10, completion_tokens=10, operation="not a word of ours")
    yield call("paid-tool", 100.0, latency_ms=10.0, model="MCP: maps", cost_usd=0.5, operation="tool")


OTHER_USD = EMBEDDINGS * 24 / 25 * 0.00001 + 40 * 0.042 + 0.5


@dataclass(frozen=True)
class Home:
    """A window over one lake."""

    engine: Engine
    scope: AnalysisScope

    @property
    def requests(self) -> Any:
        return rows_at(self.engine, self.scope.requests_uri)

    @property
    def previous(self) -> Any:
        return rows_at(self.engine, self.scope.previous_uri)

    @property
    def calls(self) -> tuple[Any, Any]:
        return calls_at(self.engine, self.scope.requests_uri), calls_at(self.engine, self.scope.previous_uri)


def home_of(engine: Engine, folder: Path, rows: list[dict[str, Any]], **asked: Any) -> Home:
    lake = lake_of(folder, pa.Table.from_pylist(rows, schema=arrow_schema(REQUEST_LOG)))
    return Home(engine, resolve_scope(lake, Parameters(goal="cost", **asked), engine=engine, engine_name="duckdb"))


@pytest.fixture(scope="module")
def engine() -> Iterator[Engine]:
    with open_engine("duckdb") as opened:
        yield opened


@pytest.fixture(scope="module")
def alone(engine: Engine, tmp_path_factory: pytest.TempPathFactory) -> Home:
    """Chat alone."""
    return home_of(engine, tmp_path_factory.mktemp("kinds") / "alone", list(chat()), budget=100.0)


@pytest.fixture(scope="module")
def mixed(engine: Engine, tmp_path_factory: pytest.TempPathFactory) -> Home:
    """The same chat, and all the others."""
    return home_of(engine, tmp_path_factory.mktemp("kinds") / "mixed", [*chat(), *others()], budget=100.0)


@pytest.fixture(scope="module")
def evidence(mixed: Home, tmp_path_factory: pytest.TempPathFactory) -> RoutingEvidence:
    """What the mixed logs tell of choices that were not made."""
    return gather_evidence(mixed.requests, mixed.scope, cells_path=tmp_path_factory.mktemp("cells") / "cells.parquet")


def close(found: Result, expected: Result, leaving_out: tuple[str, ...] = ()) -> bool:
    """Whether two results say the same but for the order in which numbers were added up."""

    def same(one: Any, other: Any) -> bool:
        if isinstance(one, dict):
            return one.keys() == other.keys() and all(same(one[name], other[name]) for name in one)
        if isinstance(one, list):
            return len(one) == len(other) and all(map(same, one, other))
        return one == (pytest.approx(other, rel=1e-9, abs=1e-12) if isinstance(other, float) else other)

    return same(*(each.model_dump(mode="json", exclude=set(leaving_out)) for each in (found, expected)))


def rows_of(table: Any) -> list[dict[str, Any]]:
    found: list[dict[str, Any]] = table.to_pyarrow().to_pylist()
    return sorted(found, key=lambda row: str(row["attempt_id"]))


def test_what_analyses_read_is_the_same_with_other_kinds_of_call_and_without(alone: Home, mixed: Home) -> None:
    assert len(rows_of(alone.requests)) == REQUESTS
    assert rows_of(mixed.requests) == rows_of(alone.requests)
    assert rows_of(mixed.previous) == rows_of(alone.previous) == []


def test_a_scope_counts_and_names_chat_alone_and_says_how_much_else_there_was(alone: Home, mixed: Home) -> None:
    same = {"requests", "attempts", "labelled", "sessions", "models", "task_types", "complexity_derived_share", "task_type_unknown_share"}
    same |= {"sources", "notices", "days_to_collect", "previous_requests"}
    assert mixed.scope.model_dump(include=same) == alone.scope.model_dump(include=same)
    assert (alone.scope.other_calls, mixed.scope.other_calls) == (0, EMBEDDINGS + 4 * 40 + 1)
    assert mixed.scope.models == ("gpt-4o", "gpt-4o-mini")


def test_total_spend_is_of_every_kind_and_says_which_part_is_chat(alone: Home, mixed: Home) -> None:
    before, found = (routing_costs(*home.calls, home.scope) for home in (alone, mixed))
    assert found.chat_usd == pytest.approx(before.total_usd)
    assert found.total_usd == pytest.approx(before.total_usd + OTHER_USD)
    assert (before.chat_usd, [each.operation for each in before.operations]) == (before.total_usd, ["chat"])
    by_kind = {each.operation: each for each in found.operations}
    assert list(by_kind) == ["chat", "image", "tool", "rerank", "embedding", "other"]
    assert sum(each.cost_usd for each in found.operations) == pytest.approx(found.total_usd)
    assert sum(each.share for each in found.operations) == pytest.approx(1.0)
    assert by_kind["image"].per_request_usd == pytest.approx(0.04)
    assert (by_kind["tool"].cost_usd, by_kind["other"].cost_usd) == (0.5, 0.0)


def test_what_is_said_per_request_is_of_chat(alone: Home, mixed: Home) -> None:
    before, found = (routing_costs(*home.calls, home.scope) for home in (alone, mixed))
    assert (found.requests, found.per_request_usd, found.per_1000_tokens_usd) == (
        before.requests,
        before.per_request_usd,
        pytest.approx(before.per_1000_tokens_usd),
    )
    assert [hour.requests for hour in found.hours if hour.requests] == [hour.requests for hour in before.hours if hour.requests]
    by_task = {line.group: line for line in found.by("task_type").lines}
    assert by_task["rag",].per_request_usd == pytest.approx(before.by("task_type").lines[0].per_request_usd)
    assert by_task["indexing",].requests == 0
    assert isinstance(by_task["indexing",].per_request_usd, Unidentifiable)


def test_groupings_days_and_budgets_add_up_to_all_spend(mixed: Home, evidence: RoutingEvidence) -> None:
    found = routing_costs(*mixed.calls, mixed.scope)
    for grouping in found.groupings:
        assert sum(line.cost_usd for line in grouping.lines) + grouping.cost_not_listed_usd == pytest.approx(found.total_usd)
        assert sum(line.requests for line in grouping.lines) == REQUESTS
    assert sum(day.cost_usd for day in found.days) == pytest.approx(found.total_usd)
    by_kind = spend_by(mixed.calls[0], ("operation", "model"))
    assert sum(line.cost_usd for line in by_kind.lines) == pytest.approx(found.total_usd)
    assert {line.group[0]: line.requests for line in by_kind.lines}["image"] == 40
    drivers = cost_drivers(*mixed.calls, mixed.scope, evidence, found.budgets)
    assert drivers.budgets[0].spend_usd == pytest.approx(found.total_usd)
    assert drivers.spend_usd == pytest.approx(found.total_usd)


def test_tools_and_retrievals_that_carry_no_cost_are_neither_spend_nor_unpriced(mixed: Home) -> None:
    found = routing_costs(*mixed.calls, mixed.scope)
    assert found.unpriced.attempts == found.unpriced.attempts_without_list_price == 0
    assert {each.operation: each.unpriced_attempts for each in found.operations}["tool"] == 0


def test_an_embedding_without_a_logged_cost_is_counted_at_its_list_price(engine: Engine) -> None:
    rows = [
        call("e", 1.0, model=TEXT_EMBEDDING, provider_model=TEXT_EMBEDDING, prompt_tokens=1_000, completion_tokens=0, operation="embedding")
    ]
    table = pa.Table.from_pylist(rows, schema=arrow_schema(REQUEST_LOG))
    found = engine.backend.to_pyarrow(priced(ibis.memtable(table), Catalog())).to_pylist()
    assert found[0]["cost_usd"] == pytest.approx(0.00002)


def test_volume_success_and_latency_are_counted_for_each_kind_by_itself(alone: Home, mixed: Home) -> None:
    before, found = (routing_analytics(home.calls[0], home.scope) for home in (alone, mixed))
    assert found.requests == before.requests == found.operations[0].requests
    assert close(found, before, leaving_out=("operations",))
    assert close(found.operations[0], before.operations[0])
    embedding = next(each for each in found.operations if each.operation == "embedding")
    assert (embedding.requests, embedding.tokens) == (EMBEDDINGS, 60 * EMBEDDINGS * 24 // 25)
    assert isinstance(embedding.success_rate, Estimate)
    assert embedding.success_rate.estimate == pytest.approx(0.96)
    assert embedding.latency.p50_ms.estimate == pytest.approx(80.0)


def test_overuse_waste_and_what_changed_are_about_chat(alone: Home, mixed: Home, evidence: RoutingEvidence) -> None:
    before, found = (cost_drivers(*home.calls, home.scope, evidence) for home in (alone, mixed))
    assert close(found, before, leaving_out=("spend_usd", "budgets", "spikes", "spikes_unknown"))


def test_rules_are_found_and_chat_is_never_sent_to_another_kind_of_model(mixed: Home, evidence: RoutingEvidence) -> None:
    assert {arm.model for segment in evidence.segments for arm in segment.arms} <= {"gpt-4o", "gpt-4o-mini"}
    rules = optimize_routing_rules(evidence, mixed.scope).rule_set
    assert rules.rules
    assert TEXT_EMBEDDING not in rules.model_dump_json()
    assert isinstance(rules.expected.change.cost_usd.relative, Estimate)
    assert rules.expected.change.cost_usd.relative.estimate < -0.5
    assert rules.expected.baseline.quality.estimate == pytest.approx(0.85, abs=0.01)


def test_a_window_without_any_chat_says_what_it_holds_instead(engine: Engine, tmp_path: Path) -> None:
    with pytest.raises(UnusableInputError, match=r"no chat request in the window .* only 2,561 calls of other kinds"):
        home_of(engine, tmp_path / "none", list(others()))


def test_sums_by_hour_watch_all_spend_and_the_speed_and_failures_of_chat(engine: Engine) -> None:
    every, own = (
        ibis.memtable(pa.Table.from_pylist(rows, schema=arrow_schema(REQUEST_LOG))) for rows in ([*chat(), *others()], list(chat()))
    )
    found, before = (
        engine.backend.to_pyarrow(attempt_sums(priced(table, Catalog()))).to_pandas().sum(numeric_only=True) for table in (every, own)
    )
    assert found.cost_usd == pytest.approx(before.cost_usd + OTHER_USD)
    assert found.attempts == before.attempts + EMBEDDINGS + 4 * 40 + 1
    for name in ("ended", "failures", "timed", "log_latency", "scored", "quality"):
        assert found[name] == pytest.approx(before[name]), name
    nobody = pa.table({"request_id": pa.array([], pa.string()), "quality": pa.array([], pa.float64())})
    by_attempt = nobody.rename_columns(["attempt_id", "quality"])
    scores = engine.backend.to_pyarrow(score_sums(every, ibis.memtable(nobody), ibis.memtable(by_attempt))).to_pandas()
    assert scores.scored.sum() == before.scored


def test_what_the_month_comes_to_counts_every_kind(engine: Engine) -> None:
    every = ibis.memtable(pa.Table.from_pylist([*chat(), *others()], schema=arrow_schema(REQUEST_LOG)))
    spend = daily_spend_by_team(priced(every, Catalog()), START.timestamp() + 30 * DAY_S)
    assert sum(spend["design"].values()) == pytest.approx(40 * 0.04)
    assert sum(spend[None].values()) == pytest.approx(sum(row["cost_usd"] for row in chat()) + OTHER_USD)


def test_a_failed_embedding_is_no_part_of_the_answer_that_follows_it(engine: Engine) -> None:
    rows = [
        call("x", 10.0, attempt_id="x/1", status="failure", operation="embedding", model=TEXT_EMBEDDING, cost_usd=0.1, latency_ms=50.0),
        call("x", 10.1, attempt_id="x/2", model="gpt-4o", provider_model="gpt-4o", cost_usd=0.2, latency_ms=900.0),
    ]
    table = ibis.memtable(pa.Table.from_pylist(rows, schema=arrow_schema(REQUEST_LOG)))
    window = Window(START.timestamp(), START.timestamp() + DAY_S)
    found = engine.backend.to_pyarrow(conform(table, window, catalog=Catalog(), held=engine.held)).to_pylist()
    assert [(row["attempt_id"], row["attempts"], row["request_cost_usd"], row["routed_model"]) for row in found] == [
        ("x/2", 1, 0.2, "gpt-4o")
    ]


def test_every_kind_has_a_word_for_readers() -> None:
    from routing_pipeline.text import KINDS

    assert set(KINDS) == set(OPERATIONS)


def test_spend_that_an_analysis_is_not_about_is_in_its_scope_because_a_budget_pays_for_it(
    alone: Home, mixed: Home, engine: Engine, tmp_path: Path
) -> None:
    assert alone.scope.other_spend_usd == 0.0
    every = mixed.calls[0].cost_usd.sum().execute()
    assert mixed.scope.other_spend_usd == pytest.approx(every - mixed.requests.cost_usd.sum().execute())
    rows = [row | {"task_type": "code" if number % 3 else "rag"} for number, row in enumerate(chat())]
    code = home_of(engine, tmp_path / "code", [*rows, *others()], task_types=("code",))
    assert code.requests.cost_usd.sum().execute() + code.scope.other_spend_usd == pytest.approx(every)


def test_a_budget_leaves_a_request_what_other_calls_do_not_spend(alone: Home, mixed: Home, evidence: RoutingEvidence) -> None:
    own, shared = (question_of(evidence, home.scope, None).limits.max_cost for home in (alone, mixed))
    assert own is not None
    # The window of all calls ends a second later.
    assert shared == pytest.approx(own - mixed.scope.other_spend_usd / evidence.traffic, rel=1e-4)
