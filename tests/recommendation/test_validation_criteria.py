"""What a trial must show is said in what the rules promise: per request, or per session where they decide for sessions."""

from __future__ import annotations

from routing_pipeline.estimates import Estimate
from routing_pipeline.recommendation.validation_criteria import of_a_rule
from routing_pipeline.rules.model import Outcomes


def outcomes(cost_usd: float) -> Outcomes:
    exactly = {"quality": 0.9, "cost_usd": cost_usd, "latency_ms": 500.0}
    return Outcomes(**{name: Estimate(estimate=value, low=value, high=value) for name, value in exactly.items()})


def test_a_rule_per_session_is_held_to_what_a_session_costs_however_many_calls_it_takes() -> None:
    by_request, by_session = (of_a_rule(outcomes(0.01), outcomes(0.02), (), 0.01, session)[-1] for session in (None, 2.5))
    assert by_request == "Cost per request falls below today's $0.020000 (expected $0.010000)."
    assert by_session == "Cost per session falls below today's $0.050000 (expected $0.025000)."


def test_what_may_rise_is_held_to_its_safe_end_per_session_too() -> None:
    (*_, said) = of_a_rule(outcomes(0.02), outcomes(0.01), (), 0.01, 2.0)
    assert said == "Cost per session stays at or below $0.040000 (expected $0.040000, today $0.020000)."
