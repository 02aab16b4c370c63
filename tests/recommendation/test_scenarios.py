"""What can be had when not everything can: which limits give way to which priority, and rows that can be asked for again."""

from __future__ import annotations

import shlex
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

from routing_pipeline.estimates import Estimate
from routing_pipeline.parameters import Parameters
from routing_pipeline.policy.evidence_model import RoutingEvidence
from routing_pipeline.policy.search import Limits
from routing_pipeline.recommendation.question import asked_of_the_proof
from routing_pipeline.recommendation.routing_rules import RoutingRules, optimize_routing_rules
from routing_pipeline.recommendation.scenarios import PRIORITIES, Scenario, scenarios
from routing_pipeline.recommendation.tradeoff_frontier import tradeoff_frontier
from routing_pipeline.recommendation.within_reach import Reach, Reached
from routing_pipeline.rules.model import Change, RelativeChange, RuleSet
from routing_pipeline.storage.results import key_of
from routing_pipeline.window.engine import open_engine
from routing_pipeline.window.scope import AnalysisScope
from tests.recommendation.test_realized_outcomes import promise
from tests.simulation import worlds


def reached(cost: float, quality: float) -> Reached:
    return Reached(quality=quality, cost=cost, quality_error=0.001, fall_error=0.001, cost_error=0.0)


TODAY = reached(0.010, 0.85)
REACH = Reach(TODAY, (reached(0.001, 0.70), reached(0.002, 0.80), reached(0.006, 0.86), TODAY, reached(0.02, 0.93)))


def limits(**changes: Any) -> Limits:
    held = {"min_quality": None, "max_quality_drop": 0.01, "max_cost": None, "keeps_cost": False, "max_slow": None, "caps": ()} | changes
    return Limits(**held)


def answering(rule_set: RuleSet) -> RoutingRules:
    return RoutingRules(
        rule_set=rule_set,
        reasons=(),
        walk=(),
        moved_share=0.5,
        moved_spend_share=0.5,
        saving_usd_per_day=Estimate(estimate=1.0, low=0.5, high=1.5),
        tipping_point=Estimate(estimate=1.0, low=0.5, high=1.5),
    )


def asked(
    reach: Reach = REACH, ceiling: float | None = None, **given: Any
) -> tuple[dict[str, Parameters], list[str], tuple[Scenario, ...]]:
    """What each priority asks with, in which order, and the scenarios; every answer proposes the same rules."""
    parameters = Parameters.model_validate(given)
    questions: list[Parameters] = []

    def ask(other: Parameters) -> RoutingRules:
        questions.append(other)
        return answering(promise("scenario"))

    held = limits(
        min_quality=parameters.quality_threshold,
        max_quality_drop=parameters.max_quality_drop,
        max_cost=ceiling or parameters.cost_threshold,
    )
    found = scenarios(parameters, held, reach, lambda usd: (parameters.budget or 0.0) * usd / (ceiling or usd), ask)
    # Asked in the order of PRIORITIES but for the goal, which comes first.
    in_order = sorted(PRIORITIES, key=lambda each: each != parameters.goal)
    return dict(zip(in_order, questions, strict=False)), [each.goal for each in questions], found


def test_the_priority_of_cost_keeps_the_ceiling_and_widens_the_fall_as_far_as_it_needs() -> None:
    found = asked(cost_threshold=0.003)[0]["cost"]
    assert (found.goal, found.cost_threshold) == ("quality", 0.003), "the most quality that the ceiling buys"
    assert found.max_quality_drop == pytest.approx(0.05 + 0.005)
    assert asked(cost_threshold=0.008)[0]["cost"].max_quality_drop == 0.01, "what needs no wider fall gets none"


def test_without_a_ceiling_the_priority_of_cost_is_the_cheapest_within_the_allowed_fall() -> None:
    found = asked(quality_threshold=0.99)[0]["cost"]
    assert (found.goal, found.max_quality_drop, found.cost_threshold) == ("cost", 0.01, None)
    assert found.quality_threshold == pytest.approx(0.84 - 0.005), "so low that the allowed fall decides"


def test_the_priority_of_quality_keeps_the_floor_and_raises_the_ceiling() -> None:
    found = asked(quality_threshold=0.9, cost_threshold=0.003)[0]["quality"]
    assert (found.goal, found.quality_threshold, found.max_quality_drop) == ("quality", 0.9, 0.01)
    assert found.cost_threshold == pytest.approx(0.025)


def test_a_floor_that_nothing_reaches_is_lowered_to_what_can_be_shown() -> None:
    found = asked(quality_threshold=0.99, cost_threshold=0.003)[0]["quality"]
    assert found.quality_threshold == pytest.approx(0.93 - 0.005)
    without = asked(quality_threshold=0.99)[0]["quality"]
    assert without.quality_threshold == pytest.approx(0.86 - 0.005), "at today's cost, which the goal of quality keeps to without a ceiling"


@pytest.mark.parametrize(
    "given", [{"quality_threshold": 0.99}, {"cost_threshold": 0.001}, {"quality_threshold": 0.9, "cost_threshold": 0.003}]
)
def test_balance_and_speed_never_widen_the_allowed_fall(given: dict[str, float]) -> None:
    found = asked(**given)[0]
    for priority in ("balanced", "speed", "quality"):
        assert found[priority].max_quality_drop == 0.01
        assert found[priority].quality_threshold is None or found[priority].quality_threshold <= given["quality_threshold"]


def test_a_budget_gives_way_as_a_ceiling_does() -> None:
    found = asked(ceiling=0.003, budget=300.0, quality_threshold=0.9)[0]
    assert found["cost"].budget == 300.0
    assert found["quality"].budget == pytest.approx(2500.0)
    assert found["quality"].cost_threshold is None


@pytest.mark.parametrize("goal", PRIORITIES)
def test_the_goal_that_was_asked_for_is_put_to_the_proof_first_and_suggested(goal: str) -> None:
    _, order, found = asked(goal=goal, cost_threshold=0.003)
    assert [each.priority for each in found if each.suggested] == [goal]
    assert order[0] == ("quality" if goal == "cost" else goal)
    assert [each.priority for each in found] == list(PRIORITIES)


def test_what_is_out_of_reach_is_no_scenario() -> None:
    assert asked(Reach(TODAY, ()), cost_threshold=0.001)[2] == ()


@pytest.mark.parametrize(("change", "stands_in"), [(-0.07, False), (0.02, True)])
def test_an_answer_that_loses_quality_does_not_stand_for_quality(change: float, stands_in: bool) -> None:
    def ask(other: Parameters) -> RoutingRules:
        made = promise("scenario")
        nothing = made.model_copy(update={"rules": (), "status": "no_change"})
        by = RelativeChange(relative=Estimate(estimate=change, low=change - 0.01, high=change + 0.01))
        changes = made.expected.model_copy(update={"change": Change(cost_usd=by, quality=by, latency_ms=by)})
        cheap = made.model_copy(update={"expected": changes})
        return answering(cheap if other.max_quality_drop > 0.01 else nothing)

    given = Parameters(cost_threshold=0.003, quality_threshold=0.99)
    held = limits(min_quality=0.99, max_cost=0.003)
    found = {each.priority: each for each in scenarios(given, held, REACH, lambda _: 0.0, ask)}
    assert found["cost"].rules == 2
    assert found["quality"].rules == (2 if stands_in else 0)


# On logs


Asked = tuple[RoutingEvidence, AnalysisScope, Callable[[AnalysisScope], RoutingRules]]


@pytest.fixture(scope="module")
def window(tmp_path_factory: pytest.TempPathFactory) -> tuple[RoutingEvidence, AnalysisScope]:
    rng = np.random.default_rng(7)
    rows = worlds.logged(worlds.CONFOUNDED, worlds.contexts(worlds.CONFOUNDED, 20_000, rng), rng)
    with open_engine() as engine:
        return worlds.evidence_of(engine, rows, tmp_path_factory.mktemp("window"))


def conflict(window: tuple[RoutingEvidence, AnalysisScope], **given: Any) -> Asked:
    """Evidence, what is asked of it, and who answers."""
    evidence, scope = window
    scope = scope.model_copy(update={"parameters": Parameters.model_validate(given)})
    test_numbers: dict[str, int] = {}
    answers: dict[str, RoutingRules] = {}

    def ask(other: AnalysisScope) -> RoutingRules:
        # As in a home: the same question has the same number however often it is asked, and its answer is kept.
        number = test_numbers.setdefault(key_of(**asked_of_the_proof(other)), len(test_numbers) + 1)
        asked = other.model_dump_json()
        if asked not in answers:
            answers[asked] = optimize_routing_rules(evidence, other, test_number=number)
        return answers[asked]

    return evidence, scope, ask


@pytest.mark.parametrize(
    "given",
    [
        {"quality_threshold": 0.93, "cost_threshold": 0.0006, "goal": "quality"},
        {"budget": 30.0, "goal": "speed"},
    ],
)
def test_whoever_asks_again_with_the_options_of_a_row_gets_the_row(given: dict[str, Any], window: Any) -> None:
    evidence, scope, ask = conflict(window, **given)
    first = ask(scope)
    assert first.rule_set.status == "no_change"
    assert first.conflicts
    rows = tradeoff_frontier(evidence, scope, first, ask).scenarios
    assert [row.priority for row in rows] == list(PRIORITIES)
    proposed = 0
    for row in rows:
        words = shlex.split(row.ask)
        options = {name.removeprefix("--").replace("-", "_"): value for name, value in zip(words[::2], words[1::2], strict=True)}
        again = ask(scope.model_copy(update={"parameters": Parameters.model_validate(options)}))
        assert again.conflicts == () or not again.rule_set.rules
        then = again.rule_set.expected.proposed
        assert (row.point.cost_usd, row.point.quality, row.point.latency_ms) == (then.cost_usd, then.quality, then.latency_ms)
        assert row.breaks, "limits in conflict cannot all be kept"
        proposed += bool(again.rule_set.rules)
    assert proposed >= 3
    suggested = next(row for row in rows if row.suggested)
    if suggested.priority != "cost":
        assert f"quality not more than {scope.parameters.max_quality_drop:g} below today's" in suggested.keeps


def test_rules_that_keep_every_limit_are_no_conflict_and_have_no_scenarios(window: Any) -> None:
    evidence, scope, ask = conflict(window, goal="cost", quality_threshold=0.5)
    first = ask(scope)
    assert first.rule_set.rules
    assert first.conflicts == ()
    assert tradeoff_frontier(evidence, scope, first, ask).scenarios == ()
