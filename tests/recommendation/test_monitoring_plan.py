"""Canary steps and stopping boundary against published numbers and simulated rollouts."""

from __future__ import annotations

from types import SimpleNamespace

import ibis
import numpy as np
import pytest

from routing_pipeline.estimates import Estimate, Unidentifiable
from routing_pipeline.recommendation.canary import ALPHA_GO_ON
from routing_pipeline.recommendation.monitoring_plan import Spread, canary_sample, monitoring_plan, quality_spread
from routing_pipeline.report import summary
from routing_pipeline.rules.model import Constraints
from routing_pipeline.stats.sequence import critical

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


def test_more_control_needs_fewer_requests_in_the_canary_and_half_the_margin_four_times_as_many() -> None:
    asked = {"design_effect": 1.3, "label_rate": 0.25}
    even = canary_sample(0.2, 0.01, control_ratio=1.0, **asked)
    assert canary_sample(0.2, 0.01, control_ratio=9.0, **asked) == pytest.approx(even * (1 + 1 / 9) / 2)
    assert canary_sample(0.2, 0.005, control_ratio=1.0, **asked) == pytest.approx(4 * even)


def test_a_canary_of_that_size_excludes_the_margin_with_its_power_although_sessions_hang_together() -> None:
    rng = np.random.default_rng(7)
    sd, margin, per_session, rho = 0.2, 0.05, 5, 0.3
    design_effect = 1 + (per_session - 1) * rho
    needed = canary_sample(sd, margin, control_ratio=1.0, design_effect=design_effect, label_rate=1.0)
    sessions, runs = round(needed / per_session), 2_000

    def means() -> np.ndarray:
        between = rng.normal(0, sd * rho**0.5, size=(runs, sessions, 1))
        within = rng.normal(0, sd * (1 - rho) ** 0.5, size=(runs, sessions, per_session))
        return (between + within).mean(axis=2)

    canary, control = means(), means()
    error = np.sqrt((canary.var(axis=1, ddof=1) + control.var(axis=1, ddof=1)) / sessions)
    passes = canary.mean(axis=1) - control.mean(axis=1) - critical(1.0, ALPHA_GO_ON) * error > -margin
    assert passes.mean() == pytest.approx(0.8, abs=0.03)


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


def test_rules_that_decide_little_never_buy_a_wide_margin(worlds: SimpleNamespace) -> None:
    def margin(decided: int, moved_share: float) -> float:
        rule = worlds.proposing().rule_set.rules[0]
        rule = rule.model_copy(update={"evidence": rule.evidence.model_copy(update={"requests": decided})})
        rules = worlds.proposing(moved_share=moved_share, rule_set=worlds.rule_set((rule,), constraints=Constraints(max_quality_drop=0.01)))
        return monitoring_plan(worlds.scope_of(), worlds.evidence_of(), rules).margin

    assert margin(2_000, 0.01) == 0.05
    assert margin(100_000, 0.5) == pytest.approx(0.02)
    assert margin(196_000, 0.68) == pytest.approx(0.01 / 0.98), "the test compares what is decided, moved or not"


def test_without_rules_there_is_an_exploration_instead_of_a_canary(worlds: SimpleNamespace) -> None:
    plan = monitoring_plan(worlds.scope_of(days_to_collect=9.0), worlds.evidence_of(), worlds.proposing_nothing())
    assert plan.steps == ()
    assert plan.exploration is not None
    assert plan.exploration.requests == 400_000
    assert plan.exploration.days == pytest.approx(14.0)
    assert plan.exploration.models[0] == "claude-opus-4-1", "the model of which the logs can say least"
    assert plan.collect[0] == "at least 9 more days of logs like these"
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


@pytest.mark.parametrize(
    ("limits", "floor", "margin"),
    [
        ({"max_quality_drop": 0.02}, 0.822, 0.02 / 0.6),
        ({"max_quality_drop": 0.02, "min_quality": 0.8}, 0.822, 0.02 / 0.6),
        ({"max_quality_drop": 0.06, "min_quality": 0.82}, 0.82, 0.022 / 0.6),
        ({"max_quality_drop": 0.01, "min_quality": 0.85}, 0.85, -0.008 / 0.6),
    ],
)
def test_floor_and_margin_of_the_canary_are_those_that_the_rules_were_held_to(
    worlds: SimpleNamespace, limits: dict[str, float], floor: float, margin: float
) -> None:
    held = worlds.rule_set(worlds.proposing().rule_set.rules, constraints=Constraints(**limits))
    plan = monitoring_plan(worlds.scope_of(), worlds.evidence_of(), worlds.proposing(rule_set=held))
    assert next(kpi.alert_threshold for kpi in plan.kpis if kpi.name.startswith("Mean quality")) == pytest.approx(floor)
    assert plan.margin == pytest.approx(margin)
    assert all(step.requests_needed is None or step.requests_needed > 0 for step in plan.steps)
    decides = plan.steps[3].go_on_when
    assert f"above {-100 * margin:+.1f} points" in decides
    assert ("has to rise by 0.8 points" in plan.margin_text) == (margin < 0)


def test_without_rules_the_floor_is_still_that_of_the_question(worlds: SimpleNamespace) -> None:
    nothing = worlds.proposing_nothing(rule_set=worlds.rule_set((), constraints=Constraints(max_quality_drop=0.02)))
    plan = monitoring_plan(worlds.scope_of(), worlds.evidence_of(), nothing)
    assert next(kpi.alert_threshold for kpi in plan.kpis if kpi.name.startswith("Mean quality")) == pytest.approx(0.822)


def test_young_logs_and_a_long_window_need_no_more_days_than_a_window_as_long_as_the_logs(worlds: SimpleNamespace) -> None:
    week = worlds.scope_of()
    more = week.model_copy(update={"start_s": week.end_s - 30 * 86_400, "covered_s": 7 * 86_400.0})
    for rules in (worlds.proposing(), worlds.proposing_nothing()):
        assert monitoring_plan(more, worlds.evidence_of(), rules) == monitoring_plan(week, worlds.evidence_of(), rules)


def test_an_exploration_that_would_not_decide_in_time_is_advised_nowhere(worlds: SimpleNamespace) -> None:
    small = worlds.scope_of(requests=299, labelled=90)
    report = worlds.assembled(small, worlds.evidence_of(), worlds.proposing_nothing())
    watch = report.monitoring_plan
    assert watch.exploration is not None
    assert not watch.exploration.decides
    asked = summary.cards(report)[2]
    assert (asked.figure, asked.sentences) == ("Nothing", (watch.verdict,))
    item = next(each for each in report.optimization_plan.items if each.id == "explore")
    assert (item.title, item.phase) == ("Collect more logs before routing a share at random", 3)
    assert "would take more than 30 days" in item.recommended_change
    busy = worlds.assembled(worlds.scope_of(), worlds.evidence_of(), worlds.proposing_nothing())
    assert summary.cards(busy)[2].unit == "but a small experiment would provide more evidence"
    assert next(each for each in busy.optimization_plan.items if each.id == "explore").phase == 1
