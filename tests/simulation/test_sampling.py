"""A sample of sessions: intervals that are wider and still hold, totals that stay exact."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pyarrow.parquet as pq
import pytest

from routing_pipeline import demo_traffic
from routing_pipeline.analysis.routing_costs import routing_costs
from routing_pipeline.catalog import Catalog
from routing_pipeline.engine import Engine, open_engine
from routing_pipeline.parameters import Parameters
from routing_pipeline.policy.evidence import gather_evidence
from routing_pipeline.recommendation.routing_rules import optimize_routing_rules
from routing_pipeline.recommendation.simulation import simulate
from routing_pipeline.results import ResultStore
from routing_pipeline.scope import AnalysisScope, LakeState, resolve_scope, sample_of
from tests.simulation import worlds
from tests.simulation.sampled_worlds import judged

LIMIT = 50_000


def test_intervals_from_a_quarter_of_the_sessions_are_twice_as_wide_and_hold_the_truth(tmp_path: Path) -> None:
    every, part = judged(worlds.CONFOUNDED, 100_000, 0.25, 2, tmp_path)
    fresh, _ = judged(worlds.CONFOUNDED, 25_000, 1.0, 2, tmp_path, seed=2)
    assert len(part.held) > 100
    # As often as those of a window of that size of which every request was read.
    assert np.mean(part.held) > max(np.mean(fresh.held) - 0.05, 0.85)
    assert 1.5 < np.median(np.array(part.width) / np.array(every.width)) < 2.5
    assert part.traffic == pytest.approx(every.traffic, rel=1e-12)


@pytest.fixture(scope="module")
def week(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("week")
    traffic = demo_traffic.traffic(80_000)
    pq.write_table(traffic.attempts, folder / "attempts.parquet")
    pq.write_table(traffic.feedback, folder / "feedback.parquet")
    return folder


def scope_of(week: Path, engine: Engine, **asked: int) -> AnalysisScope:
    newest_s = demo_traffic.WEEK_START.timestamp() + 7 * 86_400 - 1
    lake = LakeState("1", "1", newest_s, lambda _start, _end: (str(week / "attempts.parquet"),), (str(week / "feedback.parquet"),))
    return resolve_scope(
        lake,
        Parameters(goal="cost", **asked),  # type: ignore[arg-type]
        engine=engine,
        engine_name="duckdb",
        scratch=week / "scratch",
        stored=ResultStore(week / "results"),
    )


def test_a_sample_holds_whole_sessions_and_is_the_same_each_time(week: Path) -> None:
    with open_engine() as engine:
        scope = scope_of(week, engine, sample_above=LIMIT)
        rows, part = (engine.read_parquet([uri]) for uri in (scope.requests_uri, scope.estimated_from))
        assert part.is_final.sum().execute() == round(scope.sampled * scope.requests)
        assert scope.sampled == pytest.approx(LIMIT / scope.requests, rel=0.1)
        chosen = part.select("session_id").distinct()
        assert rows.filter(rows.session_id.notnull()).semi_join(chosen, "session_id").count().execute() == part.session_id.count().execute()
        again = sample_of(rows, LIMIT / scope.requests)
        assert set(again.attempt_id.to_pyarrow().to_pylist()) == set(part.attempt_id.to_pyarrow().to_pylist())
        more = set(sample_of(rows, 0.8).attempt_id.to_pyarrow().to_pylist())
        assert more > set(part.attempt_id.to_pyarrow().to_pylist())
        assert part.cluster.nunique().execute() > 200


def test_a_window_within_the_limit_is_read_whole_and_one_above_it_says_that_it_is_not(week: Path) -> None:
    with open_engine() as engine:
        within, above = scope_of(week, engine, sample_above=1_000_000), scope_of(week, engine, sample_above=LIMIT)
    assert (within.sample_uri, within.sampled, within.notices) == (None, 1.0, ())
    assert any(f"because sample_above is {LIMIT:,}" in notice for notice in above.notices)
    assert above.rows_key == within.rows_key
    assert above.evidence_key != within.evidence_key


def test_counts_and_sums_are_those_of_all_rows(week: Path, tmp_path: Path) -> None:
    with open_engine() as engine:
        found = {}
        for name, scope in (("all", scope_of(week, engine)), ("part", scope_of(week, engine, sample_above=LIMIT))):
            rows, previous = (engine.read_parquet([uri]) for uri in (scope.requests_uri, scope.previous_uri))
            sample = engine.read_parquet([scope.estimated_from])
            evidence = gather_evidence(sample, scope, Catalog(), cells_path=tmp_path / f"{name}.parquet")
            rules = optimize_routing_rules(evidence, scope, Catalog())
            replayed = simulate(rules.rule_set, evidence, sample, scope)
            found[name] = (scope, routing_costs(rows, previous, scope), evidence, rules, replayed)
    (scope, costs, evidence, _, _), (part, of_part, sampled, rules, replayed) = found["all"], found["part"]
    assert (part.requests, part.attempts, part.labelled, part.sessions) == (scope.requests, scope.attempts, scope.labelled, scope.sessions)
    assert of_part.total_usd == costs.total_usd
    assert sampled.requests < evidence.requests == round(sampled.traffic)
    assert sampled.over_all().requests == evidence.requests
    # A saving is told for the traffic of the whole window, whatever it was estimated from.
    spend_per_day = costs.total_usd / part.days
    if rules.rule_set.rules:
        saved = rules.saving_usd_per_day.estimate / spend_per_day
        assert saved == pytest.approx(-rules.rule_set.expected.change.cost_usd.relative.estimate, rel=0.15)
        assert replayed.saving_usd.estimate == pytest.approx(rules.saving_usd_per_day.estimate * part.days, rel=0.25)
    assert rules.rule_set.rules
