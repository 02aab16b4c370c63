"""Which attempts are one request: by hand, and against a rule written down a second time without any window function."""

from __future__ import annotations

import math
from collections import defaultdict
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from typing import Any

import ibis
import pyarrow as pa
import pytest
from hypothesis import HealthCheck, given, settings, strategies as st

from routing_pipeline.catalog import Catalog
from routing_pipeline.lake.side_tables import arrow_schema
from routing_pipeline.schema import REQUEST_LOG, column_names
from routing_pipeline.window.conform import conform_days
from routing_pipeline.window.engine import Engine, open_engine
from routing_pipeline.window.scope import Window

MIDNIGHT = datetime(2026, 5, 5, tzinfo=UTC)
DAY_S = 86_400
FIRST_DAY = int(MIDNIGHT.timestamp()) // DAY_S
FAILED = {"status": "failure", "cost_usd": None}


def call(request: str, at_s: float, status: str = "success", **values: Any) -> dict[str, Any]:
    """A call of 1.2 s that costs a cent when it answers; by its own id, as an SDK logs it, under the request's id."""
    row: dict[str, Any] = dict.fromkeys(column_names(REQUEST_LOG))
    row |= {
        "attempt_id": f"call-{request}-{at_s}/answer/{at_s}",
        "request_id": request,
        "started_at": (MIDNIGHT + timedelta(seconds=at_s)).replace(tzinfo=None),
        "latency_ms": 1_200.0,
        "model": "gpt-4o",
        "provider": "openai",
        "prompt_tokens": 1_000,
        "completion_tokens": 200,
        "cost_usd": 0.01 if status == "success" else None,
        "status": status,
        "source_format": "litellm",
        "source_object": "a.jsonl",
        "ingested_at": MIDNIGHT.replace(tzinfo=None),
    }
    return row | values


def in_gateway(request: str, at_s: float, status: str = "success", **values: Any) -> dict[str, Any]:
    """The same as a gateway logs it: all attempts of a client request under one call id."""
    return call(request, at_s, status, **{"attempt_id": f"{request}/{at_s}", **values})


@pytest.fixture(scope="module")
def engine() -> Iterator[Engine]:
    with open_engine("duckdb") as opened:
        yield opened


def conformed(engine: Engine, rows: list[dict[str, Any]], first: int = 0, last: int = 6) -> list[dict[str, Any]]:
    """Rows of the days from `first` to `last`, in the order in which they began."""
    table = ibis.memtable(pa.Table.from_pylist(rows, schema=arrow_schema(REQUEST_LOG)))
    window = Window((FIRST_DAY + first) * float(DAY_S), (FIRST_DAY + last + 1) * float(DAY_S))
    found = engine.backend.to_pyarrow(conform_days(table, window, catalog=Catalog(), held=engine.held)).to_pylist()
    return sorted(found, key=lambda row: (row["started_s"], row["attempt_id"]))


def shape(rows: list[dict[str, Any]]) -> list[int]:
    """Attempts of each request, in the order in which requests ended; what the client did not see is left out."""
    return [row["attempts"] for row in rows if row["is_final"]]


def shapes(engine: Engine, *logs: list[dict[str, Any]]) -> list[list[int]]:
    """The shape of each of several logs of one request id, which are read at once under ids of their own."""
    rows = [
        row
        | {
            "request_id": f"{place}-{row['request_id']}",
            "attempt_id": row["attempt_id"].replace(row["request_id"], f"{place}-{row['request_id']}", 1),
        }
        for place, log in enumerate(logs)
        for row in log
    ]
    found = conformed(engine, rows)
    return [shape([row for row in found if row["request_id"].startswith(f"{place}-")]) for place in range(len(logs))]


def test_five_calls_of_an_agent_are_five_requests_and_one_of_them_failed(engine: Engine) -> None:
    says_no = {"retries": 0}
    rows = conformed(engine, [call("run", 10.0 * number, "failure" if number == 2 else "success", **says_no) for number in range(5)])
    assert shape(rows) == [1] * 5
    assert [row["status"] for row in rows if row["is_final"]].count("failure") == 1
    assert sum(row["request_cost_usd"] for row in rows) == pytest.approx(0.04)
    assert {row["request_latency_ms"] for row in rows} == {1_200.0}


def test_an_agents_calls_whose_log_says_nothing_of_retries_are_requests_of_their_own(engine: Engine) -> None:
    rows = conformed(engine, [call("run", 10.0 * number, "failure" if number in {1, 2} else "success") for number in range(5)])
    assert shape(rows) == [1] * 5


def test_a_success_keeps_its_own_cost_and_the_one_that_stood_in_carries_the_failures(engine: Engine) -> None:
    paid = {"cost_usd": 0.002}
    rows = conformed(engine, [call("run", 0.0), call("run", 5.0, "failure", **paid), call("run", 6.7, retries=1), call("run", 20.0)])
    assert shape(rows) == [1, 2, 1]
    assert [row["request_cost_usd"] for row in rows] == [0.01, None, pytest.approx(0.012), 0.01]
    assert rows[2]["request_latency_ms"] == pytest.approx(1_700.0 + 1_200.0)


def test_a_gateways_attempts_are_one_request_however_long_it_waited(engine: Engine) -> None:
    rows = conformed(engine, [in_gateway("a", 0.0, "failure"), in_gateway("a", 60.0, "cancelled"), in_gateway("a", 600.0, retries=0)])
    assert shape(rows) == [3]
    assert rows[-1]["request_latency_ms"] == pytest.approx(601_200.0)


def test_a_gateways_fallback_that_counts_no_retry_is_one_all_the_same(engine: Engine) -> None:
    second = in_gateway("a", 3.0, retries=0, model="gpt-4o-mini")
    rows = conformed(engine, [in_gateway("a", 0.0, "failure"), second])
    assert shape(rows) == [2]
    assert (rows[1]["routed_model"], rows[1]["fallback_from"]) == ("gpt-4o", "gpt-4o")


def test_a_failure_after_an_answer_is_a_request_that_failed(engine: Engine) -> None:
    once = [call("run", 0.0), call("run", 5.0, "failure")]
    assert shapes(engine, once, [*once, call("run", 6.5, "failure")]) == [[1, 1], [1, 2]]


def test_an_answer_that_was_under_way_already_does_not_stand_in_for_a_failure(engine: Engine) -> None:
    slow = {"latency_ms": 9_000.0}
    rows = conformed(engine, [call("run", 0.0), call("run", 5.0, "failure"), call("run", 5.5, **slow), call("run", 30.0)])
    assert shape(rows) == [1, 1, 1, 1]


def test_a_call_by_itself_that_says_it_is_no_retry_begins_a_request(engine: Engine) -> None:
    said: list[dict[str, Any]] = [{"retries": 0}, {"retries": 1}, {"retries": 0, "fallback_from": "gpt-4o"}]
    found = shapes(engine, *([call("run", 0.0, "failure"), call("run", 10.0, **each)] for each in said))
    assert found == [[1, 1], [2], [2]]


def test_another_task_of_a_trace_is_no_retry(engine: Engine) -> None:
    rows = [call("run", 0.0), call("run", 5.0, "failure", task_type="plan")]
    found = shapes(engine, *([*rows, call("run", 6.5, task_type=task)] for task in ("write", "plan")))
    assert found == [[1, 1, 1], [1, 2]]


def test_an_answer_of_another_kind_does_not_stand_in_for_a_failed_embedding(engine: Engine) -> None:
    rows = [in_gateway("a", 0.0, "failure", operation="embedding"), in_gateway("a", 1.5, operation="chat")]
    found = conformed(engine, rows)
    assert [(row["operation"], row["is_final"], row["attempts"]) for row in found] == [("embedding", True, 1), ("chat", True, 1)]


def test_a_request_goes_on_past_midnight(engine: Engine) -> None:
    rows = [in_gateway("a", DAY_S - 1.5, "failure", cost_usd=0.001), in_gateway("a", DAY_S + 0.5)]
    for first, last in ((0, 6), (1, 1)):
        found = conformed(engine, rows, first, last)
        assert [(row["attempts"], row["request_cost_usd"]) for row in found if row["is_final"]] == [(2, pytest.approx(0.011))]
    assert [row["is_final"] for row in conformed(engine, rows, 0, 0)] == [False]


def test_an_id_that_fails_for_days_fails_once_a_day_and_loses_no_cost(engine: Engine) -> None:
    rows = [in_gateway("stuck", 3_600.0 * hour, "failure", cost_usd=0.001) for hour in range(2, 24 * 4)]
    whole = conformed(engine, rows)
    assert shape(whole) == [22, 24, 24, 24]
    assert sum(row["request_cost_usd"] or 0.0 for row in whole) == pytest.approx(0.001 * len(rows))
    assert [row for day in range(4) for row in conformed(engine, rows, day, day)] == whole


def test_the_answer_of_a_request_without_a_price_leaves_it_without_one(engine: Engine) -> None:
    own = {"model": "own", "provider": "vllm", "cost_usd": None}
    rows = conformed(
        engine, [in_gateway("a", 0.0, "failure", cost_usd=0.001), in_gateway("a", 1.5, **own), in_gateway("b", 9.0, "failure")]
    )
    assert [row["request_cost_usd"] for row in rows if row["is_final"]] == [None, 0.0]


# The rule once more


def requests_of(rows: list[dict[str, Any]]) -> list[list[dict[str, Any]]]:
    """Attempts by request, as `chains` says it in words."""
    groups: dict[tuple[str, str], list[dict[str, Any]]] = defaultdict(list)
    for row in rows:
        groups[row["request_id"], row["operation"] or "chat"].append(row)
    return [chain for group in groups.values() for chain in _chains(sorted(group, key=_order))]


def _order(row: dict[str, Any]) -> tuple[datetime, str]:
    return row["started_at"], row["attempt_id"]


def _start_s(row: dict[str, Any]) -> float:
    return float((row["started_at"] - datetime(1970, 1, 1)).total_seconds())


def _day(row: dict[str, Any]) -> int:
    return math.floor(_start_s(row) / DAY_S)


def _chains(group: list[dict[str, Any]]) -> list[list[dict[str, Any]]]:
    chains: list[list[dict[str, Any]]] = []
    begun_s = 0.0
    for place, row in enumerate(group):
        follows = place > 0 and _follows(group, place)
        before = group[place - 1]
        same_day = place > 0 and _day(before) == _day(row)
        if follows and (same_day or begun_s >= _day(before) * DAY_S + DAY_S / 2):
            chains[-1].append(row)
        else:
            chains.append([row])
        if not (follows and same_day):
            begun_s = _start_s(row)
    return chains


def _follows(group: list[dict[str, Any]], place: int) -> bool:
    before, row = group[place - 1], group[place]
    if before["status"] == "success" or _start_s(row) - _start_s(before) > DAY_S / 2:
        return False
    answered = [each for each in group if each["status"] == "success"]
    near = sum(_day(each) - _day(before) in {0, 1} for each in answered)
    earlier = sum(_day(each) == _day(before) and _order(each) <= _order(before) for each in answered)
    ids = [each["attempt_id"].split("/")[0] if "/" in each["attempt_id"] else each["request_id"] for each in (before, row)]
    no_retry = row["retries"] == 0 and row["fallback_from"] is None
    if near <= 1 and not earlier and not (no_retry and ids[1] not in {ids[0], row["request_id"]}):
        return True
    waited = _start_s(row) - (_start_s(before) + (before["latency_ms"] or 0.0) / 1e3)
    said = (row["retries"] or 0) > 0 or (row["retries"] is not None and row["fallback_from"] is not None)
    return waited >= -0.01 and before["task_type"] == row["task_type"] and (said or (row["retries"] is None and waited <= 2.0))


@st.composite
def traces(draw: st.DrawFn) -> list[dict[str, Any]]:
    """Ids of gateways and of agents over a few days: side by side, minutes or half a day apart, most of them failing often."""
    rows = []
    for number in range(draw(st.integers(1, 50))):
        at_s = draw(st.sampled_from([10.0, 40_000.0, 50_000.0, 86_390.0, 86_399.5]))
        made = draw(st.sampled_from([call, in_gateway]))
        for _ in range(draw(st.integers(1, 9))):
            status = draw(st.sampled_from(["success", "failure", "failure", "cancelled"]))
            rows.append(
                made(
                    f"r{number}",
                    at_s,
                    status,
                    latency_ms=draw(st.sampled_from([None, 300.0, 1_200.0, 9_000.0])),
                    cost_usd=draw(st.sampled_from([None, 0.25, 0.5])) if status != "success" else draw(st.sampled_from([0.25, 1.0])),
                    model=draw(st.sampled_from(["gpt-4o", "gpt-4o-mini"])),
                    operation=draw(st.sampled_from([None, "chat", "chat", "embedding"])),
                    task_type=draw(st.sampled_from([None, "code"])),
                    retries=draw(st.sampled_from([None, 0, 1])),
                    fallback_from=draw(st.sampled_from([None, None, "gpt-4o"])),
                    # No two alike: what was logged twice is another matter.
                    prompt_tokens=len(rows) + 1,
                )
            )
            at_s += draw(st.sampled_from([0.125, 0.5, 1.75, 3.0, 10.0, 700.0, 20_000.0, 44_000.0, 90_000.0]))
    return [row for row in rows if row["started_at"] < (MIDNIGHT + timedelta(days=6)).replace(tzinfo=None)]


@settings(max_examples=6, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(rows=traces())
def test_every_attempt_is_of_one_request_whose_cost_is_counted_once(engine: Engine, rows: list[dict[str, Any]]) -> None:
    found = {row["attempt_id"]: row for row in conformed(engine, rows)}
    final = [row for row in found.values() if row["is_final"]]
    chains = requests_of(rows)
    assert {row["attempt_id"] for row in final} == {chain[-1]["attempt_id"] for chain in chains}
    for chain in chains:
        ends = found[chain[-1]["attempt_id"]]
        assert ends["attempts"] == len(chain)
        assert ends["request_cost_usd"] == sum(row["cost_usd"] or 0.0 for row in chain)
        assert {found[row["attempt_id"]]["routed_model"] for row in chain} == {chain[0]["model"]}
        if chain[-1]["latency_ms"] is not None:
            spent_ms = (_start_s(chain[-1]) - _start_s(chain[0])) * 1e3 + chain[-1]["latency_ms"]
            assert ends["request_latency_ms"] == pytest.approx(spent_ms, abs=0.01)
    assert sum(row["attempts"] for row in final) == len(rows)
    assert sum(row["request_cost_usd"] for row in final) == sum(row["cost_usd"] or 0.0 for row in rows)


@settings(max_examples=2, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(rows=traces())
def test_an_attempt_depends_on_its_own_day_and_those_next_to_it_alone(engine: Engine, rows: list[dict[str, Any]]) -> None:
    whole = conformed(engine, rows)
    for day in range(6):
        around = [row for row in rows if abs(_day(row) - FIRST_DAY - day) <= 1]
        of_day = [row for row in whole if row["day"] == FIRST_DAY + day]
        assert (conformed(engine, around, day, day) if around else []) == of_day
