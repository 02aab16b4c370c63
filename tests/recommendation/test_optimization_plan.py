"""The roadmap: everything found has one place, an effort, an owner and a way to tell that it worked."""

from __future__ import annotations

import re
from types import SimpleNamespace
from typing import Any

import pytest

from routing_pipeline.analysis.bottlenecks import Bottlenecks
from routing_pipeline.analysis.cost_drivers import CostDrivers
from routing_pipeline.analysis.quality_issues import Mismatch, QualityIssues
from routing_pipeline.analysis.quality_over_time import Degradation
from routing_pipeline.cli.main import app
from routing_pipeline.estimates import Estimate, Unidentifiable
from routing_pipeline.recommendation.cost_optimization_plan import CostOptimizationPlan
from routing_pipeline.recommendation.monitoring_plan import monitoring_plan
from routing_pipeline.recommendation.optimization_plan import OptimizationPlan, optimization_plan
from routing_pipeline.recommendation.plan_kinds import effort_of
from routing_pipeline.recommendation.routing_rules import RoutingRules
from routing_pipeline.window.scope import missing_sources


def planned(worlds: SimpleNamespace, **given: Any) -> OptimizationPlan:
    parts = {
        "scope": worlds.scope_of(),
        "rules": worlds.proposing(),
        "cost_plan": worlds.blank(CostOptimizationPlan),
        "drivers": worlds.blank(CostDrivers),
        "quality_issues": worlds.blank(QualityIssues),
        "bottlenecks": worlds.blank(Bottlenecks),
    } | given
    watch = monitoring_plan(parts["scope"], worlds.evidence_of(), parts["rules"])
    return optimization_plan(**({"exploration": watch.exploration} | parts))


def everything(worlds: SimpleNamespace) -> OptimizationPlan:
    kinds = {"cost_plan": CostOptimizationPlan, "drivers": CostDrivers, "quality_issues": QualityIssues, "bottlenecks": Bottlenecks}
    return planned(worlds, **{name: worlds.filled(kind, "gpt-4o") for name, kind in kinds.items()})


def test_every_item_has_one_phase_one_impact_and_all_that_the_task_asks_for(worlds: SimpleNamespace) -> None:
    plan = everything(worlds)
    ids = [item.id for item in plan.items]
    assert len(set(ids)) == len(ids)
    assert sorted(each for phase in plan.phases for each in phase.items) == sorted(ids)
    assert sorted((*plan.high_impact, *plan.medium_impact, *plan.low_impact)) == sorted(ids)
    for item in plan.items:
        assert item.current_state
        assert item.recommended_change
        assert item.expected_impact
        assert item.validation_criteria
        assert item.who
    assert {item.category for item in plan.items} >= {"Routing rules", "Availability", "Latency", "Quality over time", "Data collection"}


def test_rules_start_as_a_canary_this_week_and_end_as_a_rollout_this_month(worlds: SimpleNamespace) -> None:
    plan = planned(worlds)
    assert plan.phases[0].items[0] == "rules-canary"
    assert plan.phases[1].items[0] == "rules-rollout"
    assert plan.high_impact[:2] == ("rules-canary", "rules-rollout")
    assert plan.approval_needed
    assert any("approve" in each for each in plan.items[0].prerequisites)


@pytest.mark.parametrize(("moved", "spend", "needed"), [(0.04, 0.05, False), (0.06, 0.01, True), (0.01, 0.06, True)])
def test_approval_is_needed_beyond_a_twentieth_of_traffic_or_spend(
    worlds: SimpleNamespace, moved: float, spend: float, needed: bool
) -> None:
    assert planned(worlds, rules=worlds.proposing(moved_share=moved, moved_spend_share=spend)).approval_needed == needed


def test_without_rules_exploring_is_this_week_s_first_concern(worlds: SimpleNamespace) -> None:
    plan = planned(worlds, rules=worlds.proposing_nothing())
    (explore,) = (item for item in plan.items if item.id == "explore")
    assert (explore.phase, explore.impact_level) == (1, "High")
    assert "400,000 requests" in explore.current_state
    assert not plan.approval_needed
    assert plan.phases[1].nothing_because


@pytest.mark.parametrize("ending", ["", "."])
def test_what_was_not_proven_ends_with_one_full_stop(worlds: SimpleNamespace, ending: str) -> None:
    rules = worlds.proposing_nothing()
    hypothesis = rules.hypothesis.model_copy(update={"description": f"2 rules looked best, but an improvement could not be shown{ending}"})
    plan = planned(worlds, rules=rules.model_copy(update={"hypothesis": hypothesis}))
    (explore,) = (item for item in plan.items if item.id == "explore")
    assert "an improvement could not be shown." in explore.current_state
    assert ".." not in explore.current_state


def test_missing_sources_are_named_the_most_useful_first(worlds: SimpleNamespace) -> None:
    plan = planned(worlds, scope=worlds.scope_of(sources=missing_sources({})))
    (collect,) = (item for item in plan.items if item.id == "collect")
    assert collect.title.startswith("Log what is missing: quality, cost")
    assert collect.impact_level == "High"


def test_mismatches_are_worth_a_test_only_where_no_rule_answers_them(worlds: SimpleNamespace) -> None:
    issues = worlds.blank(QualityIssues).model_copy(update={"mismatches": (worlds.filled(Mismatch, "gpt-4o"),)})
    assert not [item for item in planned(worlds, quality_issues=issues).items if item.id.startswith("mismatch")]
    plan = planned(worlds, quality_issues=issues, rules=worlds.proposing_nothing())
    assert [item.phase for item in plan.items if item.id.startswith("mismatch")] == [2]


def test_a_model_that_fell_on_all_tasks_is_asked_about_once(worlds: SimpleNamespace) -> None:
    one: Degradation = worlds.filled(Degradation, "gpt-4o")
    issues = worlds.blank(QualityIssues).model_copy(update={"degradations": (one, one.model_copy(update={"task_type": None}))})
    (item,) = (item for item in planned(worlds, quality_issues=issues).items if item.category == "Quality over time")
    assert item.title == "Find out why quality of gpt-4o fell"


def test_names_that_read_alike_in_an_id_keep_items_of_their_own(worlds: SimpleNamespace) -> None:
    found = worlds.filled(Degradation, "gpt-4o")
    issues = worlds.blank(QualityIssues).model_copy(
        update={"degradations": (found.model_copy(update={"model": "gpt/4o"}), found.model_copy(update={"model": "GPT 4o"}))}
    )
    ids = [item.id for item in planned(worlds, quality_issues=issues).items]
    assert len(set(ids)) == len(ids)
    assert all(set(each) <= set("abcdefghijklmnopqrstuvwxyz0123456789-_") for each in ids)


@pytest.mark.parametrize(
    ("counts", "effort"), [((5, 0, 0), "Low"), ((1, 1, 0), "Medium"), ((6, 0, 0), "Medium"), ((1, 2, 0), "High"), ((15, 0, 6), "High")]
)
def test_effort_counts_rules_new_models_and_settings(counts: tuple[int, int, int], effort: str) -> None:
    assert effort_of(*counts)[0] == effort


def test_payback_divides_the_work_by_the_planned_saving(worlds: SimpleNamespace) -> None:
    saving = Estimate(estimate=300.0, low=150.0, high=600.0)
    plan = planned(worlds, cost_plan=worlds.blank(CostOptimizationPlan).model_copy(update={"planned_saving_usd": saving, "days": 30}))
    days = plan.payback.days_per_1000_usd
    assert (days.estimate, days.low, days.high) == pytest.approx((100.0, 50.0, 200.0))


def test_a_saving_that_may_be_nothing_pays_nothing_back_yet(worlds: SimpleNamespace) -> None:
    saving = Estimate(estimate=300.0, low=-10.0, high=600.0)
    plan = planned(worlds, cost_plan=worlds.blank(CostOptimizationPlan).model_copy(update={"planned_saving_usd": saving}))
    assert isinstance(plan.payback.days_per_1000_usd, Unidentifiable)


def test_the_tone_follows_the_grade(worlds: SimpleNamespace) -> None:
    assert "A/B test" in planned(worlds, rules=worlds.proposing("B")).verdict
    assert "Start the canary" in planned(worlds, rules=worlds.proposing("A")).verdict


def test_the_set_has_one_risk_wherever_it_is_spoken_of_and_a_riskier_rule_is_named(worlds: SimpleNamespace) -> None:
    risky = worlds.rule(1, "chat", "gpt-4o-mini", None, "B").model_copy(update={"risk": "High"})
    rules = worlds.proposing("B", rule_set=worlds.rule_set((risky, worlds.rule(2, "code", "gpt-4o", None, "B"))))
    told = worlds.assembled(worlds.scope_of(), worlds.evidence_of("B"), rules)
    whole = told.optimization_risks.overall
    items = {item.id: item for item in told.optimization_plan.items}
    assert items["rules-canary"].risk == items["rules-rollout"].risk == whole == "Medium"
    assert "1 of the 2 rules is of high risk" in items["rules-canary"].risk_reason
    assert [action.risk for action in told.cost_optimization_plan.actions if action.id == "rules"] in ([], [whole])


def test_no_plan_asks_for_what_the_command_line_does_not_have(worlds: SimpleNamespace) -> None:
    known = {command.name or (command.callback.__name__ if command.callback else "") for command in app.registered_commands}
    asked = set(re.findall(r"routing-pipeline ([a-z-]+)", everything(worlds).model_dump_json()))
    assert asked
    assert asked <= known


def test_a_limit_is_not_worth_asking_for_where_the_rules_take_the_traffic_away(worlds: SimpleNamespace) -> None:
    jams = worlds.filled(Bottlenecks, "gpt-4o")
    limited = jams.model_copy(update={"incidents": tuple(each.model_copy(update={"kind": "rate limit"}) for each in jams.incidents)})
    rules = (worlds.rule(1, "chat", "gpt-4o-mini", None),)
    leaving = worlds.proposing(rule_set=worlds.rule_set(rules), impacts=(worlds.impact(1, "gpt-4o", "gpt-4o-mini"),))

    def asked(proposed: RoutingRules) -> str:
        items = planned(worlds, rules=proposed, bottlenecks=limited).items
        return next(item for item in items if item.category == "Availability").recommended_change

    assert "only if the rules are not approved" in asked(leaving)
    assert asked(worlds.proposing_nothing()).startswith("Request a higher rate limit for gpt-4o")
