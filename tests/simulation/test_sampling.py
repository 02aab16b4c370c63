"""A sample of sessions: intervals that are wider and still hold, promises that are kept, totals that stay exact."""

from __future__ import annotations

import itertools
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import ibis
import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from routing_pipeline.analysis.bottlenecks import bottlenecks
from routing_pipeline.analysis.cost_drivers import cost_drivers
from routing_pipeline.analysis.model_performance import model_performance
from routing_pipeline.analysis.quality_issues import quality_issues
from routing_pipeline.analysis.quality_metrics import quality_metrics
from routing_pipeline.analysis.request_patterns import request_patterns
from routing_pipeline.analysis.routing_analytics import routing_analytics
from routing_pipeline.analysis.routing_costs import routing_costs
from routing_pipeline.analysis.routing_decisions import routing_decisions
from routing_pipeline.demo import traffic as demo_traffic
from routing_pipeline.estimates import Estimate, Result
from routing_pipeline.lake.table import Lake
from routing_pipeline.parameters import Parameters
from routing_pipeline.policy.evidence import gather_evidence
from routing_pipeline.policy.evidence_model import RoutingEvidence
from routing_pipeline.recommendation.routing_rules import optimize_routing_rules
from routing_pipeline.recommendation.simulation import simulate
from routing_pipeline.storage.home import Home
from routing_pipeline.window.engine import Engine, open_engine
from routing_pipeline.window.resolve import resolve_scope, sample_of
from routing_pipeline.window.rows import rows_at
from routing_pipeline.window.scope import AnalysisScope
from tests.lakes import put
from tests.simulation import worlds
from tests.simulation.sampled_worlds import Population, judged

LIMIT = 50_000


def test_from_a_quarter_of_the_sessions_intervals_are_twice_as_wide_and_hold_and_promises_are_kept(tmp_path: Path) -> None:
    population = Population(worlds.CONFOUNDED, 400_000)
    every, part = judged(population, 100_000, 0.25, 1, tmp_path, proofs=True)
    assert len(part.cost) > 40
    for found in (every, part):
        assert found.held >= 0.92
        assert len(found.promises) == 1
        assert np.mean(found.promises) >= 0.8
        assert not any(broken for broken, _ in found.broken)
        assert min(found.saving) > 0.2
    assert 1.5 < part.wider_than(every) < 2.5
    assert part.traffic == pytest.approx(every.traffic, rel=1e-12)


@pytest.fixture(scope="module")
def week(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("week")
    traffic = demo_traffic.traffic(80_000)
    pq.write_table(traffic.attempts, folder / "attempts.parquet")
    pq.write_table(traffic.feedback, folder / "feedback.parquet")
    return folder


def scope_of(week: Path, engine: Engine, *, files: tuple[str, ...] = ("attempts.parquet",), **asked: int) -> AnalysisScope:
    lake = Lake(Home(week / f"home-{len(files)}"))
    if lake.version() is None:
        feedback = pq.read_table(week / "feedback.parquet")
        for place, name in enumerate(files):
            put(lake, pq.read_table(week / name), feedback if place == 0 else None)
    return resolve_scope(lake, Parameters(goal="cost", **asked), engine=engine, engine_name="duckdb")  # type: ignore[arg-type]


def drawn(engine: Engine, uri: str) -> set[str]:
    return set(rows_at(engine, uri).attempt_id.to_pyarrow().to_pylist())


def test_a_sample_holds_whole_sessions_and_is_the_same_each_time(week: Path) -> None:
    with open_engine() as engine:
        scope = scope_of(week, engine, sample_above=LIMIT)
        rows, part = (rows_at(engine, uri) for uri in (scope.requests_uri, scope.estimated_from))
        assert part.is_final.sum().execute() == round(scope.sampled * scope.requests)
        assert scope.sampled == pytest.approx(LIMIT / scope.requests, rel=0.1)
        chosen = part.select("session_id").distinct()
        assert rows.filter(rows.session_id.notnull()).semi_join(chosen, "session_id").count().execute() == part.session_id.count().execute()
        again = sample_of(rows, LIMIT / scope.requests)
        assert set(again.attempt_id.to_pyarrow().to_pylist()) == set(part.attempt_id.to_pyarrow().to_pylist())
        more = set(sample_of(rows, 0.8).attempt_id.to_pyarrow().to_pylist())
        assert more > set(part.attempt_id.to_pyarrow().to_pylist())
        assert part.cluster.nunique().execute() > 200


def test_the_same_logs_in_other_files_and_another_order_give_the_same_sample(week: Path) -> None:
    rows = pq.read_table(week / "attempts.parquet")
    shuffled = rows.take(pa.array(np.random.default_rng(4).permutation(rows.num_rows)))
    names = tuple(f"part-{place}.parquet" for place in range(3))
    bounds = (0, 7, rows.num_rows // 3, rows.num_rows)
    for name, (first, last) in zip(names, itertools.pairwise(bounds), strict=True):
        pq.write_table(shuffled.slice(first, last - first), week / name)
    with open_engine() as engine:
        one, other = scope_of(week, engine, sample_above=LIMIT), scope_of(week, engine, files=names, sample_above=LIMIT)
        assert other.requests_uri != one.requests_uri
        assert (other.requests, other.sampled) == (one.requests, one.sampled)
        assert drawn(engine, other.estimated_from) == drawn(engine, one.estimated_from)


def test_requests_without_a_session_are_drawn_by_their_own_id() -> None:
    attempts = pa.table({"session_id": pa.nulls(4_000, pa.string()), "request_id": [f"r{place // 2}" for place in range(4_000)]})
    table = ibis.memtable(attempts)
    part = sample_of(table, 0.3).request_id.to_pyarrow().to_pylist()
    assert 0.25 < len(part) / 4_000 < 0.35
    # All attempts of a request or none.
    assert len(set(part)) * 2 == len(part)


def test_a_window_within_the_limit_is_read_whole_and_one_above_it_says_that_it_is_not(week: Path) -> None:
    with open_engine() as engine:
        within, above = scope_of(week, engine, sample_above=1_000_000), scope_of(week, engine, sample_above=LIMIT)
    assert (within.sample_uri, within.sampled, within.notices) == (None, 1.0, ())
    assert any(f"because sample_above is {LIMIT:,}" in notice for notice in above.notices)
    assert above.rows_key == within.rows_key
    assert above.evidence_key != within.evidence_key


@dataclass(frozen=True)
class Asked:
    """Everything that a window was asked, and what the nine analyses said."""

    scope: AnalysisScope
    rows: ibis.Table
    sample: ibis.Table
    evidence: RoutingEvidence
    analyses: dict[str, Result]


def asked(engine: Engine, scope: AnalysisScope, cells: Path) -> Asked:
    rows, previous, sample = (rows_at(engine, uri) for uri in (scope.requests_uri, scope.previous_uri, scope.estimated_from))
    evidence = gather_evidence(sample, scope, cells_path=cells)
    return Asked(
        scope,
        rows,
        sample,
        evidence,
        {
            "routing_analytics": routing_analytics(rows, scope),
            "routing_costs": routing_costs(rows, previous, scope),
            "quality_metrics": quality_metrics(rows, scope, evidence),
            "request_patterns": request_patterns(rows, previous, scope),
            "model_performance": model_performance(rows, scope, evidence),
            "routing_decisions": routing_decisions(rows, scope, evidence),
            "bottlenecks": bottlenecks(rows, scope),
            "cost_drivers": cost_drivers(rows, previous, scope, evidence),
            "quality_issues": quality_issues(rows, scope, evidence),
        },
    )


ESTIMATED: dict[str, set[str]] = {
    "model_performance": {
        *("contrasts", "contrasts_distinguishable", "contrasts_tested", "against_today", "better_than", "worse_than"),
        *("cost_usd_adjusted", "quality_adjusted", "quality_per_usd_adjusted"),
    },
    "routing_decisions": {
        *("segments", "opportunities", "best_share", "elsewhere_share", "undecided_share", "regret_per_request", "regret_total"),
        *("alternative", "alternative_outcomes", "gain_per_request", "today_is_best"),
    },
    "quality_metrics": {"quality_corrected", "quality_share"},
    "cost_drivers": {"overuse", "avoidable_usd", "excess_usd"},
    "quality_issues": {"mismatches", "mismatches_not_listed", "low_quality"},
}
"""What says how another model would have done, or tells requests by the evidence's segments; all else is counted."""


def counted(analysis: Result, estimated: set[str]) -> dict[str, Any]:
    """What an analysis counted or added up, by where it stands."""

    def within(value: Any, at: str) -> Iterator[tuple[str, Any]]:
        parts = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else None
        if parts is None:
            yield at, value
            return
        for name, each in parts:
            if name not in estimated:
                yield from within(each, f"{at}.{name}")

    return dict(within(analysis.model_dump(mode="json"), ""))


def test_what_the_nine_analyses_count_is_that_of_all_rows_and_so_are_dollars_promised(week: Path, tmp_path: Path) -> None:
    with open_engine() as engine:
        whole = asked(engine, scope_of(week, engine), tmp_path / "all.parquet")
        part = asked(engine, scope_of(week, engine, sample_above=LIMIT), tmp_path / "part.parquet")
        rules = optimize_routing_rules(part.evidence, part.scope)
        replayed = simulate(rules.rule_set, part.evidence, part.sample, part.scope, rules.halves)
    for name in ("requests", "attempts", "labelled", "sessions", "previous_requests", "models", "task_types"):
        assert getattr(part.scope, name) == getattr(whole.scope, name)
    assert len(whole.analyses) == 9
    for name, analysis in whole.analyses.items():
        estimated = ESTIMATED.get(name, set())
        # Rows lie in several files, and are added up in any order.
        expected = {
            at: pytest.approx(value, rel=1e-9, abs=1e-12) if isinstance(value, float) else value
            for at, value in counted(analysis, estimated).items()
        }
        assert counted(part.analyses[name], estimated) == expected, name
    assert part.evidence.requests < whole.evidence.requests == round(part.evidence.traffic)
    assert part.evidence.over_all().requests == whole.evidence.requests
    # A saving is told for the traffic of the whole window, whatever it was estimated from.
    costs = part.analyses["routing_costs"]
    spend_per_day = costs.total_usd / part.scope.days  # type: ignore[attr-defined]
    assert rules.rule_set.rules
    change = rules.rule_set.expected.change.cost_usd.relative
    for told in (change, rules.saving_usd_per_day, replayed.saving_usd):
        assert isinstance(told, Estimate)
    saved = rules.saving_usd_per_day.estimate
    assert saved / spend_per_day == pytest.approx(-change.estimate, rel=0.15)
    assert replayed.saving_usd.estimate == pytest.approx(saved * part.scope.days, rel=0.25)
