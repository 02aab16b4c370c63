"""The cost plan held against sums done by hand."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import pytest

from routing_pipeline.analysis.cost_change import Spike, SpikeDriver
from routing_pipeline.analysis.cost_drivers import CostDrivers, Overuse, Waste
from routing_pipeline.analysis.routing_costs import RoutingCosts
from routing_pipeline.analysis.spend_groupings import CostGrouping, CostLine
from routing_pipeline.estimates import Estimate, Unidentifiable
from routing_pipeline.parameters import Parameters
from routing_pipeline.recommendation.cost_optimization_plan import CostOptimizationPlan, cost_optimization_plan


def around(value: float, half: float) -> Estimate:
    return Estimate(estimate=value, low=value - half, high=value + half)


def costs(worlds: SimpleNamespace, total: float = 70.0, teams: dict[str, float] | None = None) -> RoutingCosts:
    """70 USD in a week: 300 USD in 30 days, known to one part in ten."""
    lines = tuple(
        worlds.blank(CostLine).model_copy(update={"group": (team,), "cost_usd": usd, "requests": 10}) for team, usd in (teams or {}).items()
    )
    grouping = CostGrouping(by=("team",), lines=lines, groups_not_listed=0, cost_not_listed_usd=0.0)
    blank: RoutingCosts = worlds.blank(RoutingCosts)
    return blank.model_copy(update={"total_usd": total, "per_request_usd": around(0.01, 0.001), "groupings": (grouping,)})


def drivers(worlds: SimpleNamespace, **wasted: Any) -> CostDrivers:
    waste = tuple(Waste(kind=kind, spend_usd=10.0, excess_usd=excess, explanation="Counted.") for kind, excess in wasted.items())
    blank: CostDrivers = worlds.blank(CostDrivers)
    return blank.model_copy(update={"waste": waste})


def plan(worlds: SimpleNamespace, target: float, grade: str = "C") -> CostOptimizationPlan:
    """Waste of 7 USD a week (a tenth), and rules that save 2 USD a day (a fifth)."""
    rules = worlds.proposing(grade, saving_usd_per_day=around(2.0, 0.5))
    found = drivers(worlds, failed_paid_attempts=around(7.0, 1.4), uncached_repeats=Unidentifiable(unidentifiable="no hash of the prompt"))
    return cost_optimization_plan(worlds.scope_of(), rules, costs(worlds), found, target)


def test_spend_is_projected_at_the_window_s_pace(worlds: SimpleNamespace) -> None:
    spend = plan(worlds, 0.2).spend_usd
    assert isinstance(spend, Estimate)
    assert (spend.estimate, spend.low, spend.high) == pytest.approx((300.0, 270.0, 330.0))


def test_the_cheapest_risk_comes_first_and_no_dollar_is_counted_twice(worlds: SimpleNamespace) -> None:
    found = plan(worlds, 0.2)
    waste, rules, unknown = found.actions
    assert (waste.id, waste.risk, waste.in_plan) == ("failed_paid_attempts", "Low", True)
    assert (rules.id, rules.risk, rules.in_plan) == ("rules", "Medium", True)
    assert waste.saving_usd.estimate == pytest.approx(30.0)
    assert waste.added_saving_usd.estimate == pytest.approx(30.0)
    assert rules.saving_usd.estimate == pytest.approx(60.0)
    assert rules.added_saving_usd.estimate == pytest.approx(54.0), "a fifth of the nine tenths that are left"
    assert not unknown.in_plan
    assert isinstance(unknown.added_saving_usd, Unidentifiable)
    assert found.planned_reduction.estimate == pytest.approx(0.28)
    assert found.planned_saving_usd.estimate == pytest.approx(84.0)
    assert found.reach == "reached"


def test_the_interval_is_that_of_all_actions_ending_badly_or_well_together(worlds: SimpleNamespace) -> None:
    reduction = plan(worlds, 0.2).planned_reduction
    assert reduction.low == pytest.approx(1 - (1 - 24 / 300) * (1 - 45 / 300))
    assert reduction.high == pytest.approx(1 - (1 - 36 / 300) * (1 - 75 / 300))
    assert plan(worlds, 0.2).reach_is_safe
    assert not plan(worlds, 0.25).reach_is_safe


def test_what_is_not_needed_for_the_target_stays_listed(worlds: SimpleNamespace) -> None:
    found = plan(worlds, 0.05)
    assert [action.in_plan for action in found.actions] == [True, False, False]
    assert found.planned_reduction.estimate == pytest.approx(0.10)
    assert found.reachable_reduction.estimate == pytest.approx(0.28)


def test_a_target_out_of_reach_names_the_most_that_can_be_had(worlds: SimpleNamespace) -> None:
    found = plan(worlds, 0.5)
    assert found.reach == "out_of_reach"
    assert "28.0 % at most" in found.verdict


@pytest.mark.parametrize(("grade", "hedged"), [("A", False), ("B", True), ("C", True)])
def test_only_known_probabilities_need_no_test_first(worlds: SimpleNamespace, grade: str, hedged: bool) -> None:
    found = plan(worlds, 0.2, grade)
    assert ("A/B test" in found.verdict) == hedged
    assert any(action.title.startswith("A/B test") for action in found.actions) == hedged


def test_without_prices_it_says_that_it_cannot_tell(worlds: SimpleNamespace) -> None:
    found = cost_optimization_plan(
        worlds.scope_of(), worlds.proposing_nothing(), worlds.blank(RoutingCosts), worlds.blank(CostDrivers), 0.2
    )
    assert found.reach == "cannot_tell"
    assert isinstance(found.spend_usd, Unidentifiable)
    assert found.actions == ()
    assert found.target_usd is None


def test_nothing_to_save_is_an_answer_too(worlds: SimpleNamespace) -> None:
    found = cost_optimization_plan(worlds.scope_of(), worlds.proposing_nothing(), costs(worlds), worlds.blank(CostDrivers), 0.2)
    assert found.reach == "out_of_reach"
    assert found.reachable_reduction.estimate == 0.0
    assert "No saving" in found.verdict


def test_overuse_without_proof_is_a_hypothesis_and_does_not_count(worlds: SimpleNamespace) -> None:
    overuse: Overuse = worlds.filled(Overuse, "gpt-4o").model_copy(update={"avoidable_usd": around(14.0, 2.0)})
    found = cost_optimization_plan(
        worlds.scope_of(),
        worlds.proposing_nothing(),
        costs(worlds),
        worlds.blank(CostDrivers).model_copy(update={"overuse": (overuse,)}),
        0.2,
    )
    (action,) = found.actions
    assert action.saving_usd.estimate == pytest.approx(60.0)
    assert not action.is_counted
    assert found.reachable_reduction.estimate == 0.0


def test_the_target_is_the_parameter_unless_given(worlds: SimpleNamespace) -> None:
    scope = worlds.scope_of(Parameters(target_reduction=0.35))
    found = cost_optimization_plan(scope, worlds.proposing(), costs(worlds), worlds.blank(CostDrivers))
    assert found.target_reduction == 0.35


def test_a_budget_tighter_than_the_pace_stays_and_others_get_headroom(worlds: SimpleNamespace) -> None:
    scope = worlds.scope_of(Parameters(budgets_by_team={"data": 100.0, "absent": 5.0}))
    found = cost_optimization_plan(
        scope, worlds.proposing_nothing(), costs(worlds, teams={"data": 35.0, "support": 14.0}), worlds.blank(CostDrivers)
    )
    budgets = {budget.team: budget for budget in found.budgets}
    assert budgets["data"].recommended_usd == 100.0
    assert budgets["support"].recommended_usd == pytest.approx(66.0)
    assert budgets["absent"].recommended_usd is None


def test_budgets_leave_out_one_off_spikes_and_share_the_plans_saving(worlds: SimpleNamespace) -> None:
    teams = {"growth": 35.0, "support": 21.0, "data": 14.0}
    runaway = worlds.filled(SpikeDriver, "growth").model_copy(update={"excess_usd": 28.0})
    spike = worlds.filled(Spike, "growth").model_copy(update={"drivers": (runaway,), "excess_usd": around(28.0, 2.0)})
    rules = worlds.proposing("B", saving_usd_per_day=around(2.0, 0.5))
    found = cost_optimization_plan(
        worlds.scope_of(), rules, costs(worlds, teams=teams), worlds.blank(CostDrivers).model_copy(update={"spikes": (spike,)}), 0.5
    )
    assert found.planned_reduction.estimate == pytest.approx(1 - 0.6 * 0.8), "no spike, and a fifth of what is left"
    budgets = {budget.team: budget for budget in found.budgets}
    assert (budgets["growth"].spend_usd, budgets["growth"].usual_usd) == pytest.approx((150.0, 30.0))
    planned = found.spend_usd.estimate - found.planned_saving_usd.estimate
    assert sum(budget.recommended_usd for budget in found.budgets) <= planned + 1e-9
    shares = [budget.recommended_usd / budget.usual_usd for budget in found.budgets]
    assert shares == pytest.approx([shares[0]] * 3)
    assert budgets["growth"].why.startswith("its spend without one-off spikes, less 20.0 % for the planned saving")
    assert budgets["data"].why.startswith("its usual spend, less 20.0 %")


def test_young_logs_and_a_long_window_give_the_figures_of_a_window_as_long_as_the_logs(worlds: SimpleNamespace) -> None:
    week, asked_for_more = worlds.scope_of(), worlds.scope_of()
    asked_for_more = asked_for_more.model_copy(update={"start_s": week.end_s - 30 * 86_400, "covered_s": 7 * 86_400.0})
    parts = (
        worlds.proposing(),
        costs(worlds, teams={"data": 35.0, "support": 14.0}),
        drivers(worlds, failed_paid_attempts=around(7.0, 1.4)),
    )
    assert cost_optimization_plan(asked_for_more, *parts, 0.2) == cost_optimization_plan(week, *parts, 0.2)
