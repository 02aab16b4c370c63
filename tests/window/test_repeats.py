"""Which calls are in the log twice and count once, and which only look like it."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from typing import Any

import ibis
import pyarrow as pa
import pytest

from routing_pipeline.catalog import Catalog
from routing_pipeline.lake.side_tables import arrow_schema
from routing_pipeline.schema import REQUEST_LOG, column_names
from routing_pipeline.window.conform import conform
from routing_pipeline.window.engine import Engine, open_engine
from routing_pipeline.window.hourly import attempt_sums, priced
from routing_pipeline.window.repeats import logged_once, repeats_of
from routing_pipeline.window.scope import Window

NOON = datetime(2026, 5, 5, 12, tzinfo=UTC)
WINDOW = Window(NOON.timestamp() - 3_600, NOON.timestamp() + 3_600)


def answer(attempt: str, request: str, at_s: float = 0.0, **values: Any) -> dict[str, Any]:
    row: dict[str, Any] = dict.fromkeys(column_names(REQUEST_LOG))
    row |= {
        "attempt_id": attempt,
        "request_id": request,
        "started_at": (NOON + timedelta(seconds=at_s)).replace(tzinfo=None),
        "latency_ms": 1_200.0 - 1e3 * at_s,
        "model": "sonnet",
        "provider": "anthropic",
        "prompt_tokens": 900,
        "completion_tokens": 150,
        "cost_usd": 0.005,
        "status": "success",
        "operation": "chat",
        "source_format": "litellm",
        "source_object": "a.jsonl",
        "ingested_at": NOON.replace(tzinfo=None),
    }
    return row | values


@pytest.fixture(scope="module")
def engine() -> Iterator[Engine]:
    with open_engine("duckdb") as opened:
        yield opened


def table(rows: list[dict[str, Any]]) -> ibis.Table:
    return ibis.memtable(pa.Table.from_pylist(rows, schema=arrow_schema(REQUEST_LOG)))


def left_out(engine: Engine, rows: list[dict[str, Any]]) -> list[str]:
    found = engine.backend.to_pyarrow(repeats_of(table(rows)).select("attempt_id")).column(0).to_pylist()
    return sorted(found)


# A gateway that serves one interface by another logs one client call under both.
BRIDGED = [answer("call-7/resp_a/1", "call-7"), answer("call-7/chatcmpl-b/2", "call-7", 0.004)]


def test_a_bridged_call_counts_once_and_so_does_its_cost(engine: Engine) -> None:
    rows = engine.backend.to_pyarrow(conform(table(BRIDGED), WINDOW, catalog=Catalog(), held=engine.held)).to_pylist()
    assert [(row["attempt_id"], row["request_cost_usd"], row["attempts"]) for row in rows] == [("call-7/resp_a/1", 0.005, 1)]


def test_so_does_one_that_came_in_two_objects_of_two_formats(engine: Engine) -> None:
    other = {"source_format": "litellm_spend_logs", "source_object": "dump.csv", "cost_usd": 0.005000000000001}
    assert left_out(engine, [*BRIDGED, answer("chatcmpl-b", "call-7", 0.005, **other)]) == ["call-7/chatcmpl-b/2", "chatcmpl-b"]


def test_and_one_that_an_sdk_logs_under_the_id_of_its_trace(engine: Engine) -> None:
    rows = [
        answer("call-7/resp_a/1", "run-1"),
        answer("call-7/chatcmpl-b/2", "run-1", 0.004),
        answer("call-8/chatcmpl-c/3", "run-1", 0.002),
    ]
    assert left_out(engine, rows) == ["call-7/chatcmpl-b/2"]


@pytest.mark.parametrize(
    ("why", "second"),
    [
        ("calls side by side in a trace have ids of their own", answer("call-8/b/2", "call-7", 0.004)),
        ("another request", answer("call-8/b/2", "call-8", 0.004)),
        ("other tokens", answer("call-7/b/2", "call-7", 0.004, completion_tokens=151)),
        ("another cost", answer("call-7/b/2", "call-7", 0.004, cost_usd=0.006)),
        ("another kind of call", answer("call-7/b/2", "call-7", 0.004, operation="moderation")),
        ("a failure is told by what it stands for", answer("call-7/b/2", "call-7", 0.004, status="failure")),
        ("it was asked again when the first had ended", answer("call-7/b/2", "call-7", 1.3)),
        ("half a second is no overhead, unless both end together", answer("call-7/b/2", "call-7", 0.5, latency_ms=1_200.0)),
        ("no tokens to compare", answer("call-7/b/2", "call-7", 0.004, prompt_tokens=None)),
    ],
)
def test_what_may_be_another_call_is_never_left_out(engine: Engine, why: str, second: dict[str, Any]) -> None:
    assert left_out(engine, [BRIDGED[0], second]) == [], why


@pytest.mark.parametrize("unpriced", [None, 0.0])
@pytest.mark.parametrize("outer_has_it", [True, False])
def test_of_a_call_that_one_of_both_logged_without_its_cost_the_cost_stays(
    engine: Engine, unpriced: float | None, outer_has_it: bool
) -> None:
    outer, inner = answer("call-7/resp_a/1", "call-7"), answer("call-7/chatcmpl-b/2", "call-7", 0.004)
    (inner if outer_has_it else outer)["cost_usd"] = unpriced
    assert left_out(engine, [outer, inner]) == [(inner if outer_has_it else outer)["attempt_id"]]


def test_of_three_records_of_a_call_one_with_a_cost_stays(engine: Engine) -> None:
    three = [answer(f"call-7/{name}/{place}", "call-7", 0.002 * place) for place, name in enumerate("abc")]
    three[1]["cost_usd"] = None
    assert left_out(engine, three) == ["call-7/b/1", "call-7/c/2"]
    three[0]["cost_usd"], three[1]["cost_usd"] = None, 0.005
    assert left_out(engine, three) == ["call-7/a/0", "call-7/c/2"]


def test_a_call_that_a_guardrail_held_up_ends_with_the_one_that_made_it(engine: Engine) -> None:
    assert left_out(engine, [BRIDGED[0], answer("call-7/chatcmpl-b/2", "call-7", 0.4)]) == ["call-7/chatcmpl-b/2"]


def test_quick_repeats_of_a_small_prompt_are_calls_of_their_own(engine: Engine) -> None:
    quick = [answer(f"r/{number}", "r", 0.02 * number, latency_ms=15.0) for number in range(5)]
    assert left_out(engine, quick) == []


def test_hourly_sums_count_a_call_of_one_file_once(engine: Engine) -> None:
    once = logged_once(table([*BRIDGED, answer("call-9/c/3", "call-9", 60.0)]), held=engine.held)
    sums = engine.backend.to_pyarrow(attempt_sums(priced(once, Catalog()))).to_pylist()
    assert [(row["attempts"], row["cost_usd"]) for row in sums] == [(2.0, pytest.approx(0.01))]
