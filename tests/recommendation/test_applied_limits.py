"""Limits mean what they say: none takes the place of a tighter one in silence, and all who speak of the floor speak of the same."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pytest

from routing_pipeline.clock import DAYS_PER_BUDGET_MONTH
from routing_pipeline.estimates import Estimate
from routing_pipeline.parameters import Parameters
from routing_pipeline.policy.search import Cap, Limits
from routing_pipeline.recommendation.applied_limits import applied_limits, budget_left, budget_needed, constraints_of, quality_floor
from routing_pipeline.recommendation.monitoring_plan import monitoring_plan
from routing_pipeline.recommendation.optimization_risks import optimization_risks
from routing_pipeline.recommendation.plan_kinds import _rule_items
from routing_pipeline.recommendation.routing_rules import RoutingRules, optimize_routing_rules
from routing_pipeline.rules.model import rules_json
from routing_pipeline.window.engine import open_engine
from tests.simulation import worlds


@pytest.fixture(scope="module")
def rows() -> pa.Table:
    rng = np.random.default_rng(2)
    return worlds.logged(worlds.CONFOUNDED, worlds.contexts(worlds.CONFOUNDED, 30_000, rng), rng)


@pytest.fixture(scope="module")
def answered(rows: pa.Table, tmp_path_factory: pytest.TempPathFactory) -> Any:
    """Answers to several questions about the same rows, whose evidence is gathered once; each question is answered once."""
    folder: Path = tmp_path_factory.mktemp("cells")
    with open_engine() as engine:
        evidence, scope = worlds.evidence_of(engine, rows, folder, goal="cost")
    answers: dict[str, RoutingRules] = {}

    def answer(**asked: Any) -> tuple[RoutingRules, Any, Any]:
        other = scope.model_copy(update={"parameters": Parameters.model_validate({"goal": "cost", **asked})})
        question = other.parameters.model_dump_json()
        if question not in answers:
            answers[question] = optimize_routing_rules(evidence, other)
        return answers[question], other, evidence

    return answer


def limits(**changes: Any) -> Limits:
    held = {"min_quality": None, "max_quality_drop": 0.01, "max_cost": None, "keeps_cost": False, "max_slow": 0.06, "caps": (None, 0.4)}
    return Limits(**(held | changes))


def told(held: Limits, **asked: Any) -> list[tuple[str, bool, str]]:
    found = applied_limits(held, Parameters.model_validate(asked), ("a", "b"), quality=0.86, cost_usd=0.007, slow_above_ms=2_000.0)
    return [(each.kind, each.decides, each.text) for each in found]


@pytest.mark.parametrize(("threshold", "decides"), [(0.8, False), (0.85, False), (0.855, True), (0.9, True)])
def test_of_threshold_and_allowed_fall_the_tighter_one_decides_and_both_are_told(threshold: float, decides: bool) -> None:
    of_quality = [each for each in told(limits(min_quality=threshold), quality_threshold=threshold) if each[0] == "quality"]
    assert len(of_quality) == 2
    first, second = of_quality
    assert (first[1], second[1]) == (True, False), "the one that decides comes first"
    by_threshold = next(each for each in of_quality if "threshold" in each[2])
    assert by_threshold[1] == decides
    assert "decides" in by_threshold[2]


def test_of_threshold_and_budget_the_tighter_one_decides() -> None:
    by_budget = told(limits(max_cost=0.004), cost_threshold=0.01, budget=500.0)
    assert [(each[1], "budget of $500" in each[2]) for each in by_budget if each[0] == "cost"] == [(True, True), (False, False)]
    by_threshold = told(limits(max_cost=0.003), cost_threshold=0.003, budget=500.0)
    assert [(each[1], "budget of $500" in each[2]) for each in by_threshold if each[0] == "cost"] == [(True, False), (False, True)]


def test_a_ceiling_above_today_says_that_cost_may_rise() -> None:
    said = " ".join(text for *_, text in told(limits(max_cost=0.02), cost_threshold=0.02, goal="quality"))
    assert "so cost may rise" in said
    said = " ".join(text for *_, text in told(limits(keeps_cost=True)))
    assert "does not rise above today's $0.007000" in said


def test_capacities_and_guards_are_among_the_limits() -> None:
    said = told(limits())
    assert [kind for kind, *_ in said] == ["quality", "completion", "latency", "capacity"]
    assert "b gets at most 40.0 % of requests" in said[-1][2]


def test_what_a_tier_may_get_is_among_the_limits_and_a_tier_of_no_model_is_called_one() -> None:
    held = limits(tier_caps=(Cap((0, 1), 0.2, "premium"), Cap((), 0.1, "premum")))
    said = [text for kind, _, text in told(held) if kind == "capacity"]
    assert said[1] == "Models of tier premium get at most 20.0 % of requests together (a, b)."
    assert "check how the tier is spelled" in said[2]
    assert constraints_of(Parameters(), held, ("a", "b")).max_share == {"b": 0.4, "tier:premium": 0.2, "tier:premum": 0.1}


def test_rules_json_shows_every_limit_that_was_applied() -> None:
    asked = Parameters(quality_threshold=0.8, cost_threshold=0.01, budget=900.0)
    found = constraints_of(asked, limits(min_quality=0.8, max_cost=0.009), ("a", "b")).model_dump(exclude_none=True)
    assert found == {
        "max_cost_usd": 0.009,
        "budget_usd_per_month": 900.0,
        "min_quality": 0.8,
        "max_quality_drop": 0.01,
        "max_completion_drop": 0.005,
        "max_slow_share": 0.06,
        "max_share": {"b": 0.4},
    }


# On logs


def test_a_looser_threshold_changes_nothing_but_what_is_said(answered: Any) -> None:
    alone, _, _ = answered()
    beside, _, _ = answered(quality_threshold=0.5)
    assert alone.rule_set.rules
    assert [rule.route for rule in beside.rule_set.rules] == [rule.route for rule in alone.rule_set.rules]
    assert beside.rule_set.expected == alone.rule_set.expected
    assert beside.rule_set.constraints.min_quality == 0.5
    assert beside.rule_set.constraints.max_quality_drop == 0.01
    assert any("the allowed fall against today is the tighter limit and decides" in reason for reason in beside.reasons)
    assert b'"min_quality": 0.5' in rules_json(beside.rule_set)


def test_only_a_wider_fall_that_was_asked_for_by_name_lets_quality_go_down_to_the_threshold(answered: Any) -> None:
    today = answered()[0].rule_set.expected.baseline.quality.estimate
    low, _, _ = answered(quality_threshold=round(today - 0.02, 3), max_quality_drop=0.06)
    quality = low.rule_set.expected.proposed.quality
    assert low.rule_set.rules
    assert today - 0.02 <= quality.estimate < today - 0.005
    floor = quality_floor(low.rule_set)
    assert floor is not None
    assert (floor.decided_by, floor.floor) == ("threshold", round(today - 0.02, 3))


def test_a_threshold_above_today_is_met_even_where_that_costs_more(answered: Any) -> None:
    baseline = answered()[0].rule_set.expected.baseline
    risen, scope, evidence = answered(quality_threshold=round(baseline.quality.estimate + 0.02, 3), max_quality_drop=0.01)
    assert risen.rule_set.rules
    assert risen.rule_set.expected.proposed.quality.estimate > baseline.quality.estimate + 0.02
    assert any("Today's routing breaks a limit" in reason for reason in risen.reasons)
    plan = monitoring_plan(scope, evidence, risen)
    assert plan.margin < 0
    assert optimization_risks(scope, evidence, risen).quality_tolerance < 0


@pytest.mark.parametrize(
    "asked",
    [
        {},
        {"max_quality_drop": 0.03},
        {"goal": "balanced", "quality_threshold": 0.7, "max_quality_drop": 0.05},
        {"goal": "quality"},
        {"goal": "speed", "max_quality_drop": 0.02},
        {"goal": "quality", "cost_threshold": 0.0045, "max_quality_drop": 0.02},
    ],
    ids=str,
)
def test_a_proposal_meets_its_own_criteria_and_has_one_risk_and_one_floor_wherever_it_is_spoken_of(
    answered: Any, asked: dict[str, Any]
) -> None:
    found, scope, evidence = answered(**asked)
    assert found.rule_set.rules
    floor = quality_floor(found.rule_set)
    assert floor is not None
    risks, watch = optimization_risks(scope, evidence, found), monitoring_plan(scope, evidence, found)
    kpi = next(each for each in watch.kpis if each.name.startswith("Mean quality"))
    assert kpi.alert_threshold == risks.quality_floor == floor.floor
    assert risks.quality_tolerance == floor.allowed_fall
    levels = {change.id: change.risk for change in risks.changes}
    for rule in found.rule_set.rules:
        assert rule.risk == levels[rule.id]
        quality, cost = rule.expected.quality, rule.expected.cost_usd
        assert isinstance(quality, Estimate)
        assert isinstance(cost, Estimate)
        of_quality, of_cost = (next(each for each in rule.validation_criteria if each.startswith(of)) for of in ("Mean quality", "Cost"))
        assert quality.low >= number(of_quality), "even the safe end of what is expected"
        assert cost.estimate <= number(of_cost) + 5e-7
    whole, expected = found.rule_set.validation_criteria, found.rule_set.expected.proposed
    assert expected.quality.estimate >= number(whole[0])
    assert number(whole[0]) == pytest.approx(floor.floor, abs=0.001)
    assert "all requests" in whole[0]
    canary, *_ = _rule_items(scope, found)
    assert canary.validation_criteria == whole
    high = sum(rule.risk == "High" for rule in found.rule_set.rules)
    if f"{high} of the {len(found.rule_set.rules)} rules" not in canary.risk_reason:
        assert canary.risk == "High" or high == 0 or len(found.rule_set.rules) == 1
    decided = [change.blast_radius for change in risks.changes]
    assert all(each.traffic_share <= (each.decided_share or 0.0) + 1e-9 for each in decided)
    assert decided[0].traffic_share == pytest.approx(sum(each.traffic_share for each in decided[1:]), abs=0.01)
    assert decided[0].spend_share == pytest.approx(sum(each.spend_share for each in decided[1:]), abs=0.01)


def number(criterion: str) -> float:
    """The first number of a criterion: what must be met."""
    match = re.search(r"\d+(?:\.\d+)?(?:e-?\d+)?", criterion)
    assert match is not None
    return float(match[0])


def test_a_budget_is_for_all_spend_and_what_is_not_decided_here_stays_as_it_is(hand_made_scope: Any) -> None:
    scope = hand_made_scope(7.0, Parameters(budget=DAYS_PER_BUDGET_MONTH, task_types=("code",))).model_copy(update={"other_spend_usd": 5.0})
    assert budget_left(DAYS_PER_BUDGET_MONTH, scope) == pytest.approx(7.0 - 5.0)
    assert budget_left(DAYS_PER_BUDGET_MONTH / 7, scope) == 0.0, "the rest alone spends more"
    assert budget_needed(budget_left(DAYS_PER_BUDGET_MONTH, scope), scope) == pytest.approx(DAYS_PER_BUDGET_MONTH)
    found = applied_limits(
        limits(max_cost=0.004), scope.parameters, ("a", "b"), quality=0.86, cost_usd=0.007, slow_above_ms=None, scope=scope
    )
    (told_of_cost,) = (each.text for each in found if each.kind == "cost")
    assert "after the 21.7411 USD a month that other task types and other kinds of call than chat cost" in told_of_cost
