"""Hand-made windows and evidence: a few conformed rows, a few estimates, whose every number can be worked out on paper."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from datetime import UTC, datetime, timedelta
from types import SimpleNamespace
from typing import Any

import ibis
import numpy as np
import pyarrow as pa
import pytest

from routing_pipeline.demo import traffic
from routing_pipeline.estimates import Estimate, Measured, Unidentifiable
from routing_pipeline.parameters import Parameters
from routing_pipeline.policy.evidence_model import ArmEvidence, HalfEvidence, RoutingEvidence, SegmentEvidence
from routing_pipeline.rules.model import Between, Grade, When
from routing_pipeline.schema import SCOPED_REQUESTS, column_names
from routing_pipeline.window.coverage import uncovered
from routing_pipeline.window.scope import AnalysisScope, missing_sources

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
    row["logged_cost_usd"] = values.get("logged_cost_usd", row["cost_usd"])
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


@pytest.fixture(scope="session")
def covered_by() -> Callable[..., AnalysisScope]:
    """A scope whose logs are these rows, `at_s` seconds after that Monday, and nothing else."""

    def cover(scope: AnalysisScope, rows: Iterable[Mapping[str, Any]]) -> AnalysisScope:
        at = [MONDAY.timestamp() + row.get("at_s", 0.0) for row in rows]
        inside = [each for each in at if scope.previous_start_s <= each < scope.end_s]
        first = min(inside, default=None)
        missing = uncovered({int(each // 3600) for each in inside}, scope.previous_start_s, scope.end_s, first_s=first)
        length = scope.end_s - scope.start_s
        covered_s = length - sum(each.within(scope.start_s, scope.end_s) for each in missing)
        return scope.model_copy(update={"uncovered": missing, "covered_s": max(covered_s, 3600.0)})

    return cover


def measured(value: float | None, half: float) -> Measured:
    """An estimate with a 95 % interval of +- half; None stands for what the logs cannot tell."""
    if value is None:
        return Unidentifiable(unidentifiable="not seen often enough")
    return Estimate(estimate=value, low=value - half, high=value + half)


def arm(
    model: str,
    share: float,
    *,
    cost: float | None,
    quality: float | None,
    latency: float | None = 1000.0,
    success: float | None = 0.99,
    error: float = 0.01,
    of: int = 1000,
    supported: bool = True,
    today: tuple[float, float, float] = (0.01, 0.85, 1000.0),
) -> ArmEvidence:
    """One model of a segment; `error` is half an interval's width, relative for cost and latency; changes are against `today`."""

    def change(value: float | None, level: float) -> float | None:
        return None if value is None else value - level

    changes = {
        "cost_change_usd": measured(change(cost, today[0]), error * (cost or 0.0)),
        "quality_change": measured(change(quality, today[1]), error),
        "latency_change_ms": measured(change(latency, today[2]), error * (latency or 0.0)),
    }
    return ArmEvidence(
        model=model,
        requests=round(of * share),
        labelled=round(of * share / 3),
        share=share,
        effective_sample_size=of * share,
        min_propensity=0.05,
        supported=supported,
        cost_usd=measured(cost, error * (cost or 0.0)),
        quality=measured(quality, error),
        latency_ms=measured(latency, error * (latency or 0.0)),
        success=measured(success, error / 10),
        **changes,
        learnt=HalfEvidence(**changes) if supported else None,
        held_out=HalfEvidence(**changes) if supported else None,
    )


def segment(
    name: str,
    arms: Iterable[ArmEvidence],
    *,
    when: When | None = None,
    requests: int = 1000,
    today: tuple[float, float, float] = (0.01, 0.85, 1000.0),
) -> SegmentEvidence:
    """One kind of request with today's cost, quality and latency."""
    return SegmentEvidence(
        id=name,
        label=name,
        task_type=name,
        when=when or When(task_type=(name,)),
        requests=requests,
        labelled=requests // 3,
        share=1.0,
        cost_usd=measured(today[0], 0.01 * today[0]),
        quality=measured(today[1], 0.002),
        latency_ms=measured(today[2], 0.01 * today[2]),
        success=measured(0.99, 0.001),
        arms=tuple(arms),
    )


def evidence(segments: Iterable[SegmentEvidence], *, refusal: str | None = None, grade: Grade = "B") -> RoutingEvidence:
    """Evidence whose task types are its segments."""
    found = tuple(segments)
    return RoutingEvidence(
        grade=grade,
        grade_reason="routed by what is logged",
        requests=sum(each.requests for each in found),
        labelled=sum(each.labelled for each in found),
        clusters=256,
        propensities="estimated",
        complexity="logged",
        tasks=found,
        segments=found,
        unsupported_share=0.0,
        refusal=refusal,
    )


@pytest.fixture(scope="session")
def by_hand() -> SimpleNamespace:
    """Builders of evidence whose every number is given: `arm`, `segment`, `evidence`."""
    return SimpleNamespace(arm=arm, segment=segment, evidence=evidence)


@pytest.fixture(scope="session")
def nothing_known() -> RoutingEvidence:
    """Evidence that refuses to say anything."""
    return evidence((), refusal="12 requests are too few to judge other routing")


@pytest.fixture(scope="session")
def true_evidence(week: Any) -> RoutingEvidence:
    """What every model would truly have given in the made-up week, by task type and band of complexity, with narrow intervals."""
    rows = week.requests.filter(week.requests.is_final)
    step = (rows.complexity * 100).floor().cast("int64").clip(0, 99)
    sums = (
        rows.mutate(step=step)
        .group_by("task_type", "step")
        .agg(
            n=lambda t: t.count(),
            cost=lambda t: t.request_cost_usd.sum(),
            latency=lambda t: t.request_latency_ms.sum(),
            ok=lambda t: (t.status == "success").sum(),
            quality=lambda t: t.quality.sum(),
            labelled=lambda t: t.quality.count(),
            fresh=lambda t: (t.prompt_tokens - t.cached_tokens).sum(where=~t.is_cache_hit),
            cached=lambda t: t.cached_tokens.sum(where=~t.is_cache_hit),
            output=lambda t: t.completion_tokens.sum(where=~t.is_cache_hit),
        )
    )
    shares = rows.mutate(step=step).group_by("task_type", "step", "routed_model").agg(n=lambda t: t.count()).to_pyarrow().to_pylist()
    found = sums.to_pyarrow().to_pylist()
    segments = []
    for number, task in enumerate(traffic.TASKS):
        for low, high in ((0.0, 0.35), (0.35, 0.65), (0.65, 1.0)):
            inside = [row for row in found if row["task_type"] == task.name and low <= row["step"] / 100 < high]
            if inside:
                sent = [row for row in shares if row["task_type"] == task.name and low <= row["step"] / 100 < high]
                when = When(task_type=(task.name,), complexity=Between(gte=low or None, lt=high if high < 1 else None))
                segments.append(_true_segment(number, when, inside, sent))
    return evidence(segments)


def _true_segment(task: int, when: When, rows: list[dict[str, Any]], sent: list[dict[str, Any]]) -> SegmentEvidence:
    name = traffic.TASKS[task].name
    n = sum(row["n"] for row in rows)
    total = {key: sum(row[key] or 0.0 for row in rows) for key in ("cost", "latency", "fresh", "cached", "output", "quality", "labelled")}
    weight = np.array([row["n"] / n for row in rows])
    difficulty = np.array([row["step"] / 100 + 0.005 for row in rows])
    today = (total["cost"] / n, float(total["quality"] / total["labelled"]), total["latency"] / n)
    arms = []
    for place, each in enumerate(traffic.ARMS):
        truth = traffic.true_quality(np.full(len(rows), task), difficulty, np.full(len(rows), place))
        cost = (total["fresh"] * each.input_usd + total["cached"] * each.cached_usd + total["output"] * each.output_usd) / 1e6 / n
        share = sum(row["n"] for row in sent if row["routed_model"] == each.model) / n
        latency = each.first_token_ms + each.ms_per_token * total["output"] / n
        quality = float((weight * truth).sum())
        arms.append(arm(each.model, share, cost=cost, quality=quality, latency=latency, error=0.002, of=n, today=today))
    made = segment(f"{name} {when.complexity}", arms, when=when, requests=n, today=today)
    return made.model_copy(update={"task_type": name})
