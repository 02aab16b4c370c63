"""Canary steps and stopping boundary against published numbers and simulated rollouts."""

from __future__ import annotations

from types import SimpleNamespace

import ibis
import numpy as np
import pytest
from scipy import stats

from routing_pipeline.estimates import Estimate, Unidentifiable
from routing_pipeline.parameters import Parameters
from routing_pipeline.recommendation.monitoring_plan import (
    GUARDRAIL_ALPHA,
    Spread,
    boundary,
    monitoring_plan,
    non_inferiority_sample,
    quality_spread,
)

SCHEMA = {"is_final": "boolean", "status": "string", "session_id": "string", "request_id": "string", "quality": "float64"}


def scored(*sessions: tuple[float | None, ...]) -> ibis.Table:
    """One row per score; each tuple is a session."""
    rows = [
        {"is_final": True, "status": "success", "session_id": f"s{place}", "request_id": f"r{place}-{number}", "quality": quality}
        for place, session in enumerate(sessions)
        for number, quality in enumerate(session)
    ]
    return ibis.memtable(rows, schema=ibis.schema(SCHEMA))


def spread_of(*sessions: tuple[float | None, ...]) -> Spread:
    found = quality_spread(scored(*sessions))
    assert isinstance(found, Spread)
    return found


@pytest.mark.parametrize(("ratio", "expected"), [(1.0, 43_711), (9.0, 24_284)])
def test_the_sample_size_is_the_published_one(ratio: float, expected: int) -> None:
    """Margin 0.01, sd 0.2, alpha 0.025, power 0.9, 25 % labelled, design effect 1.3."""
    found = non_inferiority_sample(0.2, 0.01, control_ratio=ratio, design_effect=1.3, label_rate=0.25, power=0.9)
    assert found == pytest.approx(expected, abs=1)


def test_a_canary_of_that_size_has_its_power_although_sessions_hang_together() -> None:
    rng = np.random.default_rng(7)
    sd, margin, per_session, rho = 0.2, 0.05, 5, 0.3
    design_effect = 1 + (per_session - 1) * rho
    needed = non_inferiority_sample(sd, margin, control_ratio=1.0, design_effect=design_effect, label_rate=1.0)
    sessions, runs = round(needed / per_session), 2_000

    def means() -> np.ndarray:
        between = rng.normal(0, sd * rho**0.5, size=(runs, sessions, 1))
        within = rng.normal(0, sd * (1 - rho) ** 0.5, size=(runs, sessions, per_session))
        return (between + within).mean(axis=2)

    canary, control = means(), means()
    error = np.sqrt((canary.var(axis=1, ddof=1) + control.var(axis=1, ddof=1)) / sessions)
    passes = canary.mean(axis=1) - control.mean(axis=1) - stats.norm.ppf(0.975) * error > -margin
    assert passes.mean() == pytest.approx(0.8, abs=0.03)


def test_looking_every_day_raises_false_alarms_by_z_and_not_by_the_boundary() -> None:
    rng = np.random.default_rng(11)
    runs, days, per_day, sd = 4_000, 14, 400, 0.2
    daily = rng.normal(0.0, sd / per_day**0.5, size=(runs, days))
    seen = np.cumsum(daily, axis=1) / np.arange(1, days + 1)
    labelled = per_day * np.arange(1, days + 1)
    limits = np.array([boundary(float(n), float(per_day * days), sd) for n in labelled])
    assert (seen < -limits).any(axis=1).mean() <= GUARDRAIL_ALPHA
    naive = stats.norm.ppf(1 - GUARDRAIL_ALPHA) * sd / np.sqrt(labelled)
    assert (seen < -naive).any(axis=1).mean() > 2 * GUARDRAIL_ALPHA, "the test has teeth"
    harmful = seen - 0.02
    assert (harmful < -limits).any(axis=1).mean() > 0.95


def test_sessions_that_agree_with_themselves_have_a_correlation_of_one() -> None:
    found = spread_of((0.2, 0.2), (0.8, 0.8), (0.5, 0.5), (0.9, 0.9))
    assert found.intraclass_correlation == pytest.approx(1.0)
    assert found.design_effect == pytest.approx(2.0)


def test_sessions_that_only_vary_within_have_none() -> None:
    found = spread_of((0.2, 0.8), (0.8, 0.2), (0.2, 0.8))
    assert found.intraclass_correlation == 0.0
    assert found.design_effect == 1.0


def test_sessions_are_weighted_by_size_and_unscored_answers_counted() -> None:
    found = spread_of((0.1, 0.5, None), (0.9,), (None, None))
    assert (found.labelled, found.sessions) == (3, 2)
    assert found.per_session == pytest.approx((4 + 1) / 3)
    assert found.label_rate == pytest.approx(0.5)
    assert found.standard_deviation == pytest.approx(np.std([0.1, 0.5, 0.9], ddof=1))


@pytest.mark.parametrize("sessions", [(), ((None,),), ((0.5,),), ((0.5, 0.5), (0.5,))])
def test_scores_that_say_nothing_of_their_spread_are_refused(sessions: tuple[tuple[float | None, ...], ...]) -> None:
    assert isinstance(quality_spread(scored(*sessions)), Unidentifiable)


def test_the_made_up_week_has_the_session_effect_that_was_planted(week) -> None:
    """Sessions differ by 0.03, answers of a session by 0.12 and by what they ask: about one twentieth lies between sessions."""
    found = quality_spread(week.requests)
    assert isinstance(found, Spread)
    assert 0.0 < found.intraclass_correlation < 0.15
    assert 0.1 < found.standard_deviation < 0.25


def test_steps_grow_and_say_when_to_turn_back(worlds: SimpleNamespace) -> None:
    plan = monitoring_plan(worlds.scope_of(), worlds.evidence_of(), worlds.proposing())
    assert [step.share for step in plan.steps] == [0.01, 0.05, 0.25, 0.5, 1.0]
    assert sum(step.planned_days for step in plan.steps[:2]) >= 7
    *tested, everyone = plan.steps
    assert everyone.looks == ()
    assert everyone.requests_needed is None
    for step in tested:
        limits = [look.rollback_below for look in step.looks]
        assert limits == sorted(limits)
        assert all(limit < 0 for limit in limits)
    days = [step.days_needed for step in tested]
    assert days == sorted(days, reverse=True)


def test_less_traffic_takes_more_days(worlds: SimpleNamespace) -> None:
    many = monitoring_plan(worlds.scope_of(), worlds.evidence_of(), worlds.proposing())
    few = monitoring_plan(worlds.scope_of(requests=20_000, labelled=6_500), worlds.evidence_of(), worlds.proposing())
    assert few.steps[3].days_needed > many.steps[3].days_needed


def test_little_moved_traffic_never_buys_a_wide_margin(worlds: SimpleNamespace) -> None:
    plan = monitoring_plan(worlds.scope_of(), worlds.evidence_of(), worlds.proposing(moved_share=0.01))
    assert plan.margin == 0.05
    assert monitoring_plan(worlds.scope_of(), worlds.evidence_of(), worlds.proposing(moved_share=0.5)).margin == pytest.approx(0.02)


def test_without_rules_there_is_an_exploration_instead_of_a_canary(worlds: SimpleNamespace) -> None:
    plan = monitoring_plan(worlds.scope_of(days_to_collect=9.0), worlds.evidence_of(), worlds.proposing_nothing())
    assert plan.steps == ()
    assert plan.exploration is not None
    assert plan.exploration.requests == 400_000
    assert plan.exploration.days == pytest.approx(14.0)
    assert plan.exploration.models[0] == "claude-opus-4-1", "the model of which the logs can say least"
    assert plan.collect[0].startswith("9 more days")
    assert "at random" in plan.verdict


def test_exploring_costs_its_share_of_the_models_mean_difference(worlds: SimpleNamespace) -> None:
    plan = monitoring_plan(worlds.scope_of(), worlds.evidence_of(), worlds.proposing_nothing())
    added = plan.exploration.added_cost_usd_per_day
    assert isinstance(added, Estimate)
    assert added.estimate == pytest.approx(0.05 * 200_000 / 7 * (-0.002 + 0.001) / 2)


def test_one_model_leaves_nothing_to_explore(worlds: SimpleNamespace) -> None:
    plan = monitoring_plan(worlds.scope_of(models=("gpt-4o",)), worlds.evidence_of(), worlds.proposing_nothing())
    assert plan.exploration is None
    assert "one model" in plan.verdict


def test_an_empty_window_still_has_a_plan(worlds: SimpleNamespace) -> None:
    scope = worlds.scope_of(requests=0, attempts=0, labelled=0, sessions=0, models=())
    evidence = worlds.evidence_of(tasks=(), segments=(), requests=0, labelled=0)
    plan = monitoring_plan(scope, evidence, worlds.proposing())
    assert isinstance(plan.spread, Unidentifiable)
    assert all(step.requests_needed is None for step in plan.steps)


def test_the_floor_is_the_threshold_or_today_less_the_tolerance(worlds: SimpleNamespace) -> None:
    def floor(parameters: Parameters) -> float | None:
        plan = monitoring_plan(worlds.scope_of(parameters), worlds.evidence_of(), worlds.proposing())
        return next(kpi.alert_threshold for kpi in plan.kpis if kpi.name.startswith("Mean quality"))

    assert floor(Parameters(quality_threshold=0.8)) == 0.8
    assert floor(Parameters(max_quality_drop=0.02)) == pytest.approx(0.822)
