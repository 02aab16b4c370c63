"""Hand-made windows: a few conformed rows whose every number can be worked out on paper."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from datetime import UTC, datetime, timedelta
from typing import Any

import ibis
import pyarrow as pa
import pytest

from routing_pipeline.parameters import Parameters
from routing_pipeline.schema import SCOPED_REQUESTS, column_names
from routing_pipeline.scope import AnalysisScope, missing_sources

MONDAY = datetime(2026, 3, 2, tzinfo=UTC)
ARROW = {"text": pa.string(), "double": pa.float64(), "bigint": pa.int64(), "boolean": pa.bool_(), "timestamp": pa.timestamp("us")}
HAND_MADE_SCHEMA = pa.schema([(column.name, ARROW[column.type]) for column in SCOPED_REQUESTS])


def _row(number: int, given: Mapping[str, Any]) -> dict[str, Any]:
    values = dict(given)
    at = MONDAY + timedelta(seconds=values.pop("at_s", 0.0))
    seconds = at.timestamp()
    row: dict[str, Any] = dict.fromkeys(column_names(SCOPED_REQUESTS))
    row |= {
        "attempt_id": f"r{number}/1",
        "request_id": f"r{number}",
        "started_at": at.replace(tzinfo=None),
        "started_s": seconds,
        "day": int(seconds // 86_400),
        "hour_of_week": int((at - MONDAY).total_seconds() // 3600) % 168,
        "latency_ms": 1000.0,
        "model": "gpt-4o",
        "provider": "openai",
        "provider_model": "gpt-4o",
        "tier": "standard",
        "task_type": "code",
        "complexity": 0.5,
        "prompt_tokens": 900,
        "completion_tokens": 100,
        "cost_usd": 0.01,
        "status": "success",
        "is_final": True,
        "attempts": 1,
        "is_complexity_derived": False,
        "is_task_type_logged": True,
        "cluster": number % 256,
    }
    row |= values
    row.setdefault("routed_model", row["model"])
    row["routed_model"] = row["routed_model"] or row["model"]
    if row["is_final"]:
        row["request_cost_usd"] = values.get("request_cost_usd", row["cost_usd"])
        row["request_latency_ms"] = values.get("request_latency_ms", row["latency_ms"])
    else:
        row["attempts"] = None
    return row


@pytest.fixture(scope="session")
def hand_made() -> Callable[[Iterable[Mapping[str, Any]]], ibis.Table]:
    """Make conformed rows from what differs from a plain successful request at `at_s` seconds after Monday 2 March 2026."""

    def make(rows: Iterable[Mapping[str, Any]]) -> ibis.Table:
        complete = [_row(number, row) for number, row in enumerate(rows)]
        return ibis.memtable(pa.Table.from_pylist(complete, schema=HAND_MADE_SCHEMA))

    return make


@pytest.fixture(scope="session")
def hand_made_scope() -> Callable[..., AnalysisScope]:
    """Make a scope of `days` days from that Monday."""

    def make(days: float = 7.0, parameters: Parameters | None = None, start: datetime = MONDAY) -> AnalysisScope:
        start_s = start.timestamp()
        return AnalysisScope(
            key="hand-made",
            parameters=parameters or Parameters(),
            timeframe_asked="7d",
            timeframe="7d",
            start_s=start_s,
            end_s=start_s + days * 86_400,
            previous_start_s=start_s - days * 86_400,
            snapshot_id="1",
            requests=0,
            attempts=0,
            labelled=0,
            previous_requests=0,
            sessions=0,
            models=(),
            task_types=(),
            complexity_derived_share=0.0,
            task_type_unknown_share=0.0,
            sources=missing_sources({}),
            requests_uri="requests",
            previous_uri="previous",
        )

    return make
