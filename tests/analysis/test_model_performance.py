"""What each model delivers: raw against adjusted, intervals on paper-sized windows, differences that are real."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from routing_pipeline.analysis.model_performance import BIN_RATIO, ModelPerformance, model_performance
from routing_pipeline.demo import traffic
from routing_pipeline.estimates import Estimate, Unidentifiable


def of(found: ModelPerformance, model: str, task: str) -> Any:
    return next(each for each in found.performances if (each.model, each.task_type) == (model, task))


@pytest.fixture(scope="module")
def demo(week: Any, true_evidence: Any) -> ModelPerformance:
    tasks = tuple({segment.task_type: segment for segment in true_evidence.segments}.values())
    return model_performance(week.requests, week.scope, true_evidence.model_copy(update={"tasks": tasks}))


def test_every_request_and_every_call_is_counted_once(week: Any, demo: ModelPerformance) -> None:
    assert sum(each.requests for each in demo.performances) == week.scope.requests
    assert sum(each.labelled for each in demo.performances) == week.scope.labelled
    calls = week.requests.filter(~week.requests.is_cache_hit).count().to_pyarrow().as_py()
    assert sum(each.calls for each in demo.performances) == calls


def test_cost_per_request_in_the_made_up_week_is_the_price_list_times_the_tokens(demo: ModelPerformance, true_evidence: Any) -> None:
    cheap, dear = (of(demo, model, "summarization").cost_usd for model in ("gpt-4.1-nano", "claude-opus-4-1"))
    nano, opus = traffic.ARMS[0], traffic.ARMS[-1]
    assert dear.estimate / cheap.estimate == pytest.approx(opus.input_usd / nano.input_usd, rel=0.35)
    assert cheap.low < cheap.estimate < cheap.high < dear.low


def test_a_gateway_that_never_fails_gets_a_wilson_interval_not_a_zero(hand_made: Any, hand_made_scope: Any, nothing_known: Any) -> None:
    found = of(model_performance(hand_made([{}] * 50), hand_made_scope(), nothing_known), "gpt-4o", "code")
    assert found.success.estimate == 1.0
    assert found.success.low == pytest.approx(50 / (50 + 1.96**2), rel=1e-3)


def test_median_and_95th_percentile_lie_within_their_order_statistics(hand_made: Any, hand_made_scope: Any, nothing_known: Any) -> None:
    latencies = np.random.default_rng(4).lognormal(7, 0.5, 400)
    rows = [{"latency_ms": float(latency)} for latency in latencies]
    found = of(model_performance(hand_made(rows), hand_made_scope(), nothing_known), "gpt-4o", "code")
    for measured, q in ((found.latency_p50_ms, 0.5), (found.latency_p95_ms, 0.95)):
        assert measured.estimate == pytest.approx(np.quantile(latencies, q), rel=0.02)
        half = 1.96 * (400 * q * (1 - q)) ** 0.5
        ordered = np.sort(latencies)
        assert ordered[int(400 * q - half) - 1] / BIN_RATIO <= measured.low * BIN_RATIO
        assert measured.high / BIN_RATIO <= ordered[int(np.ceil(400 * q + half)) - 1] * BIN_RATIO


def test_answers_from_the_gateways_cache_do_not_make_a_model_fast(hand_made: Any, hand_made_scope: Any, nothing_known: Any) -> None:
    rows = [{"latency_ms": 2000.0}] * 60 + [{"latency_ms": 4.0, "is_cache_hit": True}] * 60
    found = of(model_performance(hand_made(rows), hand_made_scope(), nothing_known), "gpt-4o", "code")
    assert found.latency_p50_ms.low > 1900
    assert (found.requests, found.calls) == (120, 60)


def test_too_few_calls_say_nothing_of_the_95th_percentile(hand_made: Any, hand_made_scope: Any, nothing_known: Any) -> None:
    found = of(model_performance(hand_made([{}] * 60), hand_made_scope(), nothing_known), "gpt-4o", "code")
    assert isinstance(found.latency_p95_ms, Unidentifiable)
    assert isinstance(found.latency_p50_ms, Estimate)


def test_reliability_counts_failures_and_calls_slower_than_four_medians(hand_made: Any, hand_made_scope: Any, nothing_known: Any) -> None:
    rows = [{"latency_ms": 1000.0}] * 80 + [{"latency_ms": 9000.0}] * 10 + [{"status": "failure", "error_type": "500"}] * 10
    found = of(model_performance(hand_made(rows), hand_made_scope(), nothing_known), "gpt-4o", "code")
    assert found.reliability.estimate == pytest.approx(0.8)
    assert found.success.estimate == pytest.approx(0.9)


def test_a_rescued_request_counts_for_the_model_chosen_first_and_its_calls_for_both(
    hand_made: Any, hand_made_scope: Any, nothing_known: Any
) -> None:
    rows = [
        {"request_id": "a", "model": "cheap", "status": "failure", "is_final": False, "cost_usd": None, "routed_model": "cheap"},
        {"request_id": "a", "model": "dear", "routed_model": "cheap", "request_cost_usd": 0.05, "fallback_from": "cheap"},
    ]
    found = model_performance(hand_made(rows), hand_made_scope(), nothing_known)
    assert (of(found, "cheap", "code").requests, of(found, "cheap", "code").calls) == (1, 1)
    assert (of(found, "dear", "code").requests, of(found, "dear", "code").calls) == (0, 1)


def test_an_unsupported_model_is_not_adjusted_and_not_compared(hand_made: Any, hand_made_scope: Any, by_hand: Any) -> None:
    arms = [
        by_hand.arm("gpt-4o", 0.9, cost=0.01, quality=0.85),
        by_hand.arm("gpt-4o-mini", 0.1, cost=0.001, quality=0.60, supported=False),
    ]
    rows = [{}] * 90 + [{"model": "gpt-4o-mini"}] * 10
    found = model_performance(hand_made(rows), hand_made_scope(), by_hand.evidence([by_hand.segment("code", arms)]))
    assert isinstance(of(found, "gpt-4o-mini", "code").quality_adjusted, Unidentifiable)
    assert all("gpt-4o-mini" not in {each.model, each.against} for each in found.contrasts)


def test_a_refusal_of_the_evidence_reaches_every_adjusted_number(hand_made: Any, hand_made_scope: Any, nothing_known: Any) -> None:
    found = model_performance(hand_made([{}] * 50), hand_made_scope(), nothing_known)
    performance = of(found, "gpt-4o", "code")
    for measured in (performance.quality_adjusted, performance.cost_usd_adjusted, performance.quality_per_usd_adjusted):
        assert measured == Unidentifiable(unidentifiable=nothing_known.refusal)
    assert found.grade is None
    assert found.contrasts == ()
    assert any(nothing_known.refusal in notice for notice in found.notices)


def test_a_difference_far_beyond_its_error_is_real_and_one_within_it_is_not(hand_made: Any, hand_made_scope: Any, by_hand: Any) -> None:
    arms = [
        by_hand.arm("good", 0.3, cost=0.02, quality=0.95),
        by_hand.arm("same", 0.3, cost=0.02, quality=0.952),
        by_hand.arm("poor", 0.4, cost=0.001, quality=0.60),
    ]
    found = model_performance(
        hand_made([{"model": "good"}, {"model": "poor"}]), hand_made_scope(), by_hand.evidence([by_hand.segment("code", arms)])
    )
    good, poor = of(found, "good", "code"), of(found, "poor", "code")
    assert (good.better_than, good.worse_than, good.against_today) == (("poor",), (), "better")
    assert (poor.better_than, poor.worse_than, poor.against_today) == ((), ("good", "same"), "worse")
    between = next(each for each in found.contrasts if (each.outcome, each.model, each.against) == ("quality", "good", "same"))
    assert not between.distinguishable
    assert found.contrasts_tested == 3 * (3 + 3)


def test_differences_of_models_that_are_truly_alike_are_seldom_called_real(hand_made: Any, hand_made_scope: Any, by_hand: Any) -> None:
    rng = np.random.default_rng(9)
    found_any = 0
    for _ in range(40):
        segments = [
            by_hand.segment(
                f"task {task}",
                [by_hand.arm(f"m{number}", 0.25, cost=0.01, quality=0.85 + rng.normal(0, 0.01 / 1.96)) for number in range(4)],
            )
            for task in range(5)
        ]
        found = model_performance(hand_made([]), hand_made_scope(), by_hand.evidence(segments))
        found_any += any(each.distinguishable for each in found.contrasts if each.outcome == "quality")
    assert found_any <= 6


def test_the_dear_models_of_the_made_up_week_are_better_than_the_cheapest_on_code(demo: ModelPerformance) -> None:
    assert "gpt-4.1-nano" in of(demo, "claude-opus-4-1", "code").better_than


def test_only_the_models_asked_for_are_evaluated_and_absent_ones_are_named(week: Any, true_evidence: Any) -> None:
    found = model_performance(week.requests, week.scope, true_evidence, models=("gpt-4o", "gpt-9"))
    assert {each.model for each in found.performances} == {"gpt-4o"}
    assert found.absent_models == ("gpt-9",)
    assert {each.against for each in found.contrasts} <= {None, "gpt-4o"}


def test_an_empty_window_has_no_performance_and_says_so(hand_made: Any, hand_made_scope: Any, nothing_known: Any) -> None:
    found = model_performance(hand_made([]), hand_made_scope(), nothing_known)
    assert found.performances == ()
    assert "no requests in the window" in found.notices


def test_without_costs_quality_or_latency_each_number_says_what_to_log(hand_made: Any, hand_made_scope: Any, nothing_known: Any) -> None:
    rows = [{"cost_usd": None, "latency_ms": None}] * 40
    found = model_performance(hand_made(rows), hand_made_scope(), nothing_known)
    performance = of(found, "gpt-4o", "code")
    assert "cost tracking" in performance.cost_usd.unidentifiable
    assert "quality_score" in performance.quality.unidentifiable
    assert isinstance(performance.latency_p50_ms, Unidentifiable)
    assert isinstance(performance.quality_per_usd, Unidentifiable)
    assert performance.reliability.estimate == 1.0
    assert any("latency_ms" in notice for notice in found.notices)


def test_one_session_gives_means_no_interval(hand_made: Any, hand_made_scope: Any, nothing_known: Any) -> None:
    rows = [{"cluster": 7, "quality": 0.8 + 0.001 * number, "cost_usd": 0.01 + 0.001 * number} for number in range(50)]
    performance = of(model_performance(hand_made(rows), hand_made_scope(), nothing_known), "gpt-4o", "code")
    assert isinstance(performance.quality, Unidentifiable)
    assert isinstance(performance.cost_usd, Unidentifiable)


def test_thousands_of_model_names_are_folded_into_others(hand_made: Any, hand_made_scope: Any, nothing_known: Any) -> None:
    rows = [{"model": f"m{number}'; DROP TABLE x; --"} for number in range(300)] + [{"model": "usual"}] * 5
    scope = hand_made_scope().model_copy(update={"models": tuple(str(number) for number in range(301))})
    found = model_performance(hand_made(rows), scope, nothing_known)
    assert len(found.performances) == 51
    assert sum(each.requests for each in found.performances) == 305
    assert of(found, "usual", "code").requests == 5


def test_a_models_latency_is_that_of_all_its_tasks_together(hand_made: Any, hand_made_scope: Any, nothing_known: Any) -> None:
    latencies = np.random.default_rng(4).lognormal(7, 0.5, 3_000)
    rows = [{"latency_ms": float(latency), "task_type": ("code", "chat")[place % 2]} for place, latency in enumerate(latencies)]
    rows += [{"latency_ms": 5.0, "model": "gpt-4o-mini"}] * 3 + [{"latency_ms": 4.0, "is_cache_hit": True}] * 60
    found = model_performance(hand_made(rows), hand_made_scope(), nothing_known).latencies
    assert [(each.model, each.calls) for each in found] == [("gpt-4o", 3_000), ("gpt-4o-mini", 3)]
    for measured, q in zip((found[0].p50_ms, found[0].p90_ms, found[0].p95_ms, found[0].p99_ms), (0.5, 0.9, 0.95, 0.99), strict=True):
        assert measured.estimate == pytest.approx(np.quantile(latencies, q), rel=0.02)
        assert measured.low < np.quantile(latencies, q) < measured.high
    assert isinstance(found[1].p99_ms, Unidentifiable)


def test_only_models_asked_for_have_a_latency(hand_made: Any, hand_made_scope: Any, nothing_known: Any) -> None:
    rows = hand_made([{}, {"model": "gpt-4o-mini"}] * 50)
    assert [each.model for each in model_performance(rows, hand_made_scope(), nothing_known, models=("gpt-4o",)).latencies] == ["gpt-4o"]
