"""Today's choices against the best ones: on evidence given by hand, and in the made-up week whose truth is known."""

from __future__ import annotations

from typing import Any

import pytest

from routing_pipeline.analysis.choices import choice, keeps_guards
from routing_pipeline.analysis.routing_decisions import RoutingDecisions, routing_decisions
from routing_pipeline.estimates import Estimate, Unidentifiable
from routing_pipeline.parameters import Parameters
from routing_pipeline.rules.model import Between, When


@pytest.fixture
def decide(hand_made: Any, hand_made_scope: Any, by_hand: Any) -> Any:
    def of(segments: list[Any], rows: list[dict[str, Any]] | None = None, **asked: Any) -> RoutingDecisions:
        asked = {"goal": "cost"} | asked
        return routing_decisions(hand_made(rows or []), hand_made_scope(parameters=Parameters(**asked)), by_hand.evidence(segments))

    return of


def test_a_dear_model_that_is_no_better_leaves_its_whole_difference_on_the_table(decide: Any, by_hand: Any) -> None:
    today = (0.011, 0.86, 1250.0)
    arms = [
        by_hand.arm("dear", 0.5, cost=0.020, quality=0.86, today=today, error=0.005),
        by_hand.arm("cheap", 0.5, cost=0.002, quality=0.86, today=today, error=0.005),
    ]
    found = decide([by_hand.segment("code", arms, today=today)])
    assert (found.best_share, found.elsewhere_share, found.undecided_share) == (0.5, 0.5, 0.0)
    [opportunity] = found.opportunities
    assert (opportunity.model, opportunity.gain_total.estimate) == ("cheap", pytest.approx(9.0))
    assert opportunity.saving_usd.estimate == pytest.approx(9.0)
    assert found.regret_per_request.estimate == pytest.approx(0.009)
    assert found.regret_total.low > 0
    assert found.goal_unit == "USD"


def test_a_cheaper_model_below_the_quality_floor_is_no_opportunity(decide: Any, by_hand: Any) -> None:
    arms = [
        by_hand.arm("dear", 0.5, cost=0.02, quality=0.86, error=0.005),
        by_hand.arm("cheap", 0.5, cost=0.002, quality=0.70, error=0.005),
    ]
    found = decide([by_hand.segment("code", arms)])
    assert found.opportunities == ()
    assert found.segments[0].best is None


def test_the_floor_counts_at_the_safe_end_so_a_wide_interval_is_no_opportunity(decide: Any, by_hand: Any) -> None:
    arms = [by_hand.arm("cheap", 1.0, cost=0.002, quality=0.86, error=0.05)]
    found = decide([by_hand.segment("code", arms)])
    assert found.opportunities == ()
    assert found.undecided_share == 1.0


def test_an_absolute_threshold_never_lets_quality_fall_further_than_is_allowed_against_today(decide: Any, by_hand: Any) -> None:
    arms = [
        by_hand.arm("dear", 0.5, cost=0.02, quality=0.90, error=0.005),
        by_hand.arm("cheap", 0.5, cost=0.002, quality=0.80, error=0.005),
    ]
    segment = by_hand.segment("code", arms, today=(0.011, 0.85, 1000.0))
    assert decide([segment]).opportunities == ()
    found = decide([segment], quality_threshold=0.78)
    assert found.opportunities == ()
    assert found.guards[1] == "mean quality not below today's by more than 0.01, and not below 0.78 (not below today's where that is less)"
    [opportunity] = decide([segment], quality_threshold=0.78, max_quality_drop=0.06).opportunities
    assert opportunity.model == "cheap"
    assert decide([segment], quality_threshold=0.82, max_quality_drop=0.06).opportunities == (), "the threshold holds as well"


def test_a_kind_of_request_below_the_threshold_today_need_not_reach_it_but_must_not_fall(decide: Any, by_hand: Any) -> None:
    today = (0.011, 0.70, 1000.0)
    better = [by_hand.arm("cheap", 1.0, cost=0.002, quality=0.71, error=0.005, today=today)]
    worse = [by_hand.arm("cheap", 1.0, cost=0.002, quality=0.697, error=0.002, today=today)]
    found, lost = (decide([by_hand.segment("code", arms, today=today)], quality_threshold=0.8) for arms in (better, worse))
    assert [each.model for each in found.opportunities] == ["cheap"]
    assert lost.opportunities == ()


def test_a_model_that_fails_more_often_is_no_opportunity_however_cheap(decide: Any, by_hand: Any) -> None:
    arms = [by_hand.arm("cheap", 1.0, cost=0.002, quality=0.86, error=0.005, success=0.97)]
    assert decide([by_hand.segment("code", arms)]).opportunities == ()


def test_each_goal_measures_regret_in_its_own_unit(decide: Any, by_hand: Any) -> None:
    arms = [
        by_hand.arm("quick", 0.3, cost=0.01, quality=0.85, latency=500.0, error=0.002),
        by_hand.arm("good", 0.3, cost=0.0099, quality=0.95, latency=1500.0, error=0.002),
        by_hand.arm("usual", 0.4, cost=0.01, quality=0.85, latency=1000.0, error=0.002),
    ]
    segment = by_hand.segment("code", arms)
    speed, quality = decide([segment], goal="speed"), decide([segment], goal="quality")
    assert (speed.opportunities[0].model, speed.goal_unit) == ("quick", "ms")
    assert speed.regret_per_request.estimate == pytest.approx(500.0)
    assert (quality.opportunities[0].model, quality.goal_unit) == ("good", "0..1")
    assert quality.regret_per_request.estimate == pytest.approx(0.10)


def test_the_balanced_goal_scales_every_outcome_by_todays_mean(decide: Any, by_hand: Any) -> None:
    arms = [by_hand.arm("cheap", 1.0, cost=0.005, quality=0.867, latency=900.0, error=0.001)]
    found = decide([by_hand.segment("code", arms)], goal="balanced")
    assert found.regret_per_request.estimate == pytest.approx(1.0 * 0.5 + 0.25 * 0.1 + 1.0 * 0.017 / 0.85)


def test_the_quality_goal_stays_below_todays_cost(decide: Any, by_hand: Any) -> None:
    arms = [
        by_hand.arm("good", 0.5, cost=0.05, quality=0.95, error=0.002),
        by_hand.arm("usual", 0.5, cost=0.0098, quality=0.85, error=0.002),
    ]
    assert decide([by_hand.segment("code", arms)], goal="quality").opportunities == ()
    [opportunity] = decide([by_hand.segment("code", arms)], goal="quality", cost_threshold=0.06).opportunities
    assert opportunity.model == "good"


def test_opportunities_are_ranked_by_what_the_whole_segment_leaves_behind(decide: Any, by_hand: Any) -> None:
    small = [by_hand.arm("cheap", 1.0, cost=0.001, quality=0.86, error=0.002)]
    large = [by_hand.arm("cheap", 1.0, cost=0.008, quality=0.86, error=0.002)]
    found = decide([by_hand.segment("rare", small, requests=10), by_hand.segment("often", large, requests=10_000)])
    assert [each.segment for each in found.opportunities] == ["often", "rare"]


def test_where_every_model_is_dearer_than_todays_mix_today_is_best(decide: Any, by_hand: Any) -> None:
    arms = [
        by_hand.arm("dear", 0.6, cost=0.016, quality=0.90, error=0.002),
        by_hand.arm("cheap", 0.4, cost=0.001, quality=0.60, error=0.002),
    ]
    found = decide([by_hand.segment("code", arms)])
    assert found.segments[0].today_is_best
    assert found.best_share == 1.0
    assert isinstance(found.regret_per_request, Unidentifiable)


def test_without_an_opportunity_regret_is_zero_up_to_what_the_intervals_leave_open(decide: Any, by_hand: Any) -> None:
    arms = [
        by_hand.arm("usual", 0.5, cost=0.01, quality=0.85, error=0.005),
        by_hand.arm("other", 0.5, cost=0.01, quality=0.85, error=0.005),
    ]
    found = decide([by_hand.segment("code", arms)])
    assert isinstance(found.regret_per_request, Estimate)
    assert (found.regret_per_request.estimate, found.regret_per_request.low) == (0.0, 0.0)
    assert found.regret_per_request.high == pytest.approx(0.00005)


def test_unsupported_models_are_undecided_and_never_best(decide: Any, by_hand: Any) -> None:
    arms = [
        by_hand.arm("usual", 0.7, cost=0.0098, quality=0.86, error=0.002),
        by_hand.arm("tempting", 0.3, cost=0.0001, quality=0.99, error=0.002, supported=False),
    ]
    found = decide([by_hand.segment("code", arms)])
    assert found.segments[0].best == "usual"
    assert found.undecided_share == pytest.approx(0.3)


def test_a_refusal_of_the_evidence_decides_nothing_and_says_why(hand_made: Any, hand_made_scope: Any, nothing_known: Any) -> None:
    found = routing_decisions(hand_made([{"routing_rule_id": "r"}] * 20), hand_made_scope(), nothing_known)
    assert found.regret_per_request == Unidentifiable(unidentifiable=nothing_known.refusal)
    assert (found.best_share, found.undecided_share) == (0.0, 1.0)
    [rule] = found.rules
    assert rule.gain_per_request == Unidentifiable(unidentifiable=nothing_known.refusal)
    assert any(nothing_known.refusal in notice for notice in found.notices)


def test_a_rule_is_compared_with_the_best_single_model_over_its_own_mix_of_segments(decide: Any, by_hand: Any) -> None:
    def two(easy: float, hard: float, model: str, cost: float) -> Any:
        return (
            by_hand.arm(model, 0.5, cost=cost, quality=easy, error=0.001),
            by_hand.arm(model, 0.5, cost=cost, quality=hard, error=0.001),
        )

    cheap_easy, cheap_hard = two(0.85, 0.60, "cheap", 0.001)
    mid_easy, mid_hard = two(0.86, 0.86, "mid", 0.004)
    easy = by_hand.segment("code easy", [cheap_easy, mid_easy], when=When(task_type=("code",), complexity=Between(lt=0.5)))
    hard = by_hand.segment("code hard", [cheap_hard, mid_hard], when=When(task_type=("code",), complexity=Between(gte=0.5)))
    rows = [{"routing_rule_id": "easy", "complexity": 0.2}] * 10
    rows += [{"routing_rule_id": "all", "complexity": complexity} for complexity in (0.2, 0.8) for _ in range(10)]
    found = {rule.rule_id: rule for rule in decide([easy, hard], rows).rules}
    assert (found["easy"].alternative, found["all"].alternative) == ("cheap", "mid")
    assert found["easy"].gain_per_request.estimate == pytest.approx(0.009)
    assert found["all"].gain_per_request.estimate == pytest.approx(0.006)
    assert found["all"].alternative_outcomes.quality.estimate == pytest.approx(0.86)
    assert (found["all"].requests, found["all"].share, found["all"].spend_usd) == (20, pytest.approx(2 / 3), pytest.approx(0.2))


def test_a_model_that_is_estimated_worse_than_today_is_no_best_alternative(decide: Any, by_hand: Any) -> None:
    dear = by_hand.arm("dear", 0.5, cost=0.02, quality=0.86, error=0.002)
    weak = by_hand.arm("weak", 0.5, cost=0.001, quality=0.60, error=0.002)
    [rule] = decide([by_hand.segment("code", [dear, weak])], [{"routing_rule_id": "r"}] * 10).rules
    assert (rule.alternative, rule.today_is_best) == (None, True)
    assert (rule.gain_per_request.estimate, rule.gain_per_request.low, rule.gain_per_request.high) == (0.0, 0.0, 0.0)
    assert rule.alternative_outcomes == rule.today


def test_no_best_is_named_that_is_estimated_worse_than_what_there_is(week: Any, true_evidence: Any) -> None:
    for goal in ("cost", "speed", "quality", "balanced"):
        scope = week.scope.model_copy(update={"parameters": Parameters(goal=goal)})
        found = routing_decisions(week.requests, scope, true_evidence)
        named = [each for each in (*found.rules, *found.segments) if getattr(each, "alternative", None) or getattr(each, "best", None)]
        assert named
        assert all(each.gain_per_request.estimate > 0 for each in named)


def test_a_rule_whose_requests_fall_outside_the_evidence_has_no_alternative(decide: Any, by_hand: Any) -> None:
    arms = [by_hand.arm("cheap", 1.0, cost=0.001, quality=0.86, error=0.002)]
    [rule] = decide([by_hand.segment("chat", arms)], [{"routing_rule_id": "r", "task_type": "code"}] * 10).rules
    assert rule.alternative is None
    assert "0 %" in rule.gain_per_request.unidentifiable


def test_without_logged_rules_the_reader_is_told_to_log_them(week: Any, true_evidence: Any, hand_made: Any, hand_made_scope: Any) -> None:
    scope = hand_made_scope().model_copy(update={"requests": 20})
    found = routing_decisions(hand_made([{}] * 20), scope, true_evidence)
    assert found.rules == ()
    assert found.without_rule_share == 1.0
    assert any("log the id of the rule" in notice for notice in found.notices)


def test_a_rule_id_for_every_request_lists_fifty_and_counts_the_rest(decide: Any, by_hand: Any) -> None:
    arms = [by_hand.arm("cheap", 1.0, cost=0.001, quality=0.86, error=0.002)]
    found = decide([by_hand.segment("code", arms)], [{"routing_rule_id": f"'{number}"} for number in range(80)])
    assert (len(found.rules), found.rules_not_listed) == (50, 30)


def test_an_empty_window_decides_nothing(hand_made: Any, hand_made_scope: Any, by_hand: Any) -> None:
    found = routing_decisions(hand_made([]), hand_made_scope(), by_hand.evidence([]))
    assert (found.best_share, found.elsewhere_share, found.undecided_share) == (0.0, 0.0, 1.0)
    assert isinstance(found.regret_per_request, Unidentifiable)


def test_in_the_made_up_week_rules_add_up_and_easy_tasks_left_the_most_behind(week: Any, true_evidence: Any) -> None:
    scope = week.scope.model_copy(update={"parameters": Parameters(goal="cost")})
    found = routing_decisions(week.requests, scope, true_evidence)
    assert sum(rule.requests for rule in found.rules) == week.scope.requests
    assert found.without_rule_share == 0.0
    assert found.best_share + found.elsewhere_share + found.undecided_share == pytest.approx(1.0)
    assert found.opportunities[0].task_type == "summarization"
    assert {"summarization", "extraction", "translation"} <= {each.task_type for each in found.opportunities[:8]}
    spend = sum(rule.spend_usd or 0.0 for rule in found.rules)
    assert isinstance(found.regret_total, Estimate)
    assert 0.3 * spend < found.regret_total.low < found.regret_total.high < 0.8 * spend


def test_every_opportunity_of_the_made_up_week_keeps_its_guards(week: Any, true_evidence: Any) -> None:
    scope = week.scope.model_copy(update={"parameters": Parameters(goal="cost")})
    for opportunity in routing_decisions(week.requests, scope, true_evidence).opportunities:
        assert opportunity.quality_change.low >= -scope.parameters.max_quality_drop
        assert opportunity.gain_per_request.low > 0


def test_guards_of_an_unknown_outcome_are_unknown_not_kept(by_hand: Any) -> None:
    arms = [by_hand.arm("a", 1.0, cost=0.001, quality=None), by_hand.arm("b", 1.0, cost=0.001, quality=0.9, success=None)]
    segment = by_hand.segment("code", arms)
    assert [keeps_guards(choice(segment, each), "cost", Parameters()) for each in arms] == ["unknown", "unknown"]
