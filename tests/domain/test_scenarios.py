"""One point of the frontier per priority: what it keeps, what it breaks, and whose priority is suggested."""

from __future__ import annotations

import pytest

from routing_pipeline.estimates import Estimate, Unidentifiable
from routing_pipeline.parameters import Parameters, Weights
from routing_pipeline.recommendation.scenarios import Point, Scenario, scenarios


def point(label: str, cost: float, quality: float, latency: float) -> Point:
    def about(value: float, half: float) -> Estimate:
        return Estimate(estimate=value, low=value - half, high=value + half)

    return Point(label=label, cost_usd=about(cost, 0.0005), quality=about(quality, 0.01), latency_ms=about(latency, 10))


TODAY = point("today", 0.010, 0.85, 1000)
CHEAP, MIDDLE, BEST = point("cheap", 0.002, 0.80, 900), point("middle", 0.005, 0.86, 1100), point("best", 0.020, 0.95, 2000)


def told(floor: float | None = 0.9, ceiling: float | None = 0.003, **asked: object) -> dict[str, Scenario]:
    parameters = Parameters.model_validate(asked)
    return {each.priority: each for each in scenarios((CHEAP, MIDDLE, BEST), TODAY, parameters, floor, ceiling)}


def test_each_priority_gets_its_own_point_with_the_limits_it_keeps_and_breaks() -> None:
    found = told()
    assert {name: each.point.label for name, each in found.items()} == {
        "cost": "cheap",
        "quality": "best",
        "balanced": "cheap",
        "speed": "cheap",
    }
    assert found["cost"].keeps == ("cost at most 0.003 USD per request",)
    assert found["cost"].breaks == ("quality at least 0.900",)
    assert (found["quality"].keeps, found["quality"].breaks) == (found["cost"].breaks, found["cost"].keeps)


def test_a_limit_is_kept_at_the_safe_end_of_the_interval_alone() -> None:
    assert told(floor=0.945)["quality"].breaks == ("cost at most 0.003 USD per request", "quality at least 0.945")
    assert told(ceiling=0.0024)["cost"].breaks[0] == "cost at most 0.0024 USD per request"


@pytest.mark.parametrize("goal", ["cost", "quality", "speed", "balanced"])
def test_the_goal_that_was_asked_for_is_suggested_and_balanced_where_none_was(goal: str) -> None:
    assert [name for name, each in told(goal=goal).items() if each.suggested] == [goal]
    assert told()["balanced"].suggested


def test_the_users_weights_decide_what_is_balanced() -> None:
    assert told(weights=Weights(cost=0.01, quality=10.0, speed=0.0))["balanced"].point == BEST
    assert told(weights=Weights(cost=1.0, quality=0.0, speed=0.0))["balanced"].point == CHEAP


def test_what_to_ask_with_is_a_question_that_the_point_can_answer() -> None:
    found = told()
    assert found["cost"].ask == "--goal quality --cost-threshold 0.003 --max-quality-drop 0.06"
    assert found["quality"].ask == "--goal cost --quality-threshold 0.9"
    assert told(floor=0.97)["quality"].ask == "--goal cost --quality-threshold 0.94", "the nearest that it can be held to"


def test_what_cannot_be_told_is_no_scenario() -> None:
    unknown = Unidentifiable(unidentifiable="no prices")
    blind = TODAY.model_copy(update={"cost_usd": unknown})
    assert scenarios((CHEAP,), blind, Parameters(), 0.9, None) == ()
    slow = tuple(each.model_copy(update={"latency_ms": unknown}) for each in (CHEAP, BEST))
    found = scenarios(slow, TODAY.model_copy(update={"latency_ms": unknown}), Parameters(), 0.9, None)
    assert {each.priority for each in found} == {"cost", "quality", "balanced"}
    dark = CHEAP.model_copy(update={"quality": unknown})
    assert all(each.point != dark for each in scenarios((dark, BEST), TODAY, Parameters(), 0.9, None))
