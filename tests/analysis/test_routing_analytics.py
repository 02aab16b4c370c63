"""Volumes, latencies, success and distribution, on paper-sized windows and on the made-up week."""

from __future__ import annotations

from typing import Any

import pytest

from routing_pipeline.analysis.routing_analytics import MAX_LISTED, RoutingAnalytics, routing_analytics
from routing_pipeline.demo import traffic
from routing_pipeline.estimates import Estimate, Unidentifiable


def test_a_gateway_that_never_fails_gets_a_wilson_interval_not_a_zero(hand_made: Any, hand_made_scope: Any) -> None:
    found = routing_analytics(hand_made({"at_s": second} for second in range(100)), hand_made_scope())
    assert isinstance(found.failure_rate, Estimate)
    assert found.failure_rate.estimate == 0.0
    # Wilson's upper end with no failure in n is z^2 / (n + z^2).
    assert found.failure_rate.high == pytest.approx(1.959964**2 / (100 + 1.959964**2), rel=1e-5)


def test_volumes_count_final_requests_and_cost_counts_every_attempt(hand_made: Any, hand_made_scope: Any) -> None:
    rows = [
        {"request_id": "a", "status": "failure", "error_type": "429_RATE_LIMIT", "is_final": False, "cost_usd": 0.02},
        {
            "request_id": "a",
            "model": "opus",
            "tier": "premium",
            "routed_model": "gpt-4o",
            "cost_usd": 0.10,
            "attempts": 2,
            "fallback_from": "gpt-4o",
        },
        {"request_id": "b", "cost_usd": 0.03},
        {
            "request_id": "c",
            "status": "failure",
            "error_type": "429_RATE_LIMIT",
            "cost_usd": None,
            "prompt_tokens": None,
            "completion_tokens": None,
        },
        {"request_id": "d", "status": "cancelled", "cost_usd": 0.05},
    ]
    found = routing_analytics(hand_made(rows), hand_made_scope())
    assert (found.requests, found.attempts) == (4, 5)
    rates = [found.success_rate, found.failure_rate, found.cancelled_rate, found.fallback_rate]
    assert [rate.estimate for rate in rates if isinstance(rate, Estimate)] == [0.5, 0.25, 0.25, 0.25]
    by_model = {each.model: each for each in found.models}
    assert by_model["gpt-4o"].requests == 3
    assert by_model["gpt-4o"].cost_usd == pytest.approx(0.10)
    assert by_model["opus"].cost_share == pytest.approx(0.5)
    assert by_model["opus"].tokens == 1000
    assert sum(each.request_share for each in found.models) == pytest.approx(1.0)
    assert {each.tier: each.requests for each in found.tiers} == {"standard": 3, "premium": 1}
    (error,) = found.errors
    assert (error.error_type, error.attempts, error.share, error.requests) == ("429_RATE_LIMIT", 2, 1.0, 1)


def test_routing_latency_leaves_out_requests_that_a_retry_or_fallback_pollutes(hand_made: Any, hand_made_scope: Any) -> None:
    rows: list[dict[str, Any]] = [{"routing_latency_ms": 10.0 + number % 3, "retries": 0} for number in range(60)]
    rows += [
        {"routing_latency_ms": 2000.0, "retries": 1},
        {"routing_latency_ms": 2000.0, "attempts": 2},
        {"routing_latency_ms": 2000.0, "fallback_from": "x"},
    ]
    found = routing_analytics(hand_made(rows), hand_made_scope()).routing_latency
    assert found.requests == 60
    assert isinstance(found.mean_ms, Estimate)
    assert found.mean_ms.estimate == pytest.approx(11.0)


def test_requests_of_one_session_do_not_narrow_the_mean_latency(hand_made: Any, hand_made_scope: Any) -> None:
    once = [{"latency_ms": 100.0 + 10 * (number % 7), "cluster": number} for number in range(60)]
    alone = routing_analytics(hand_made(once), hand_made_scope()).latency.mean_ms
    tenfold = routing_analytics(hand_made([row for row in once for _ in range(10)]), hand_made_scope()).latency.mean_ms
    assert isinstance(alone, Estimate)
    assert isinstance(tenfold, Estimate)
    assert (tenfold.low, tenfold.high) == pytest.approx((alone.low, alone.high))


def test_quantiles_are_exact_and_bounded_by_the_observations_that_order_statistics_name(hand_made: Any, hand_made_scope: Any) -> None:
    found = routing_analytics(hand_made({"latency_ms": float(value)} for value in range(1, 102)), hand_made_scope()).latency
    assert isinstance(found.p50_ms, Estimate)
    # binomial(101, 1/2) has its 2.5 % and 97.5 % quantiles at 41 and 60: the bounds are the 41st and the 61st observation.
    assert (found.p50_ms.estimate, found.p50_ms.low, found.p50_ms.high) == (51.0, 41.0, 61.0)
    assert isinstance(found.p99_ms, Unidentifiable)
    assert "101 requests are too few" in found.p99_ms.unidentifiable


def test_what_is_not_logged_is_named_and_says_what_to_collect(hand_made: Any, hand_made_scope: Any) -> None:
    found = routing_analytics(hand_made({"cost_usd": None, "latency_ms": None} for _ in range(10)), hand_made_scope())
    for missing in (found.routing_latency.mean_ms, found.ttft.p95_ms, found.latency.p50_ms, found.cache_hit_rate, found.retry_rate):
        assert isinstance(missing, Unidentifiable)
        assert "; log " in missing.unidentifiable
    assert isinstance(found.models[0].cost_usd, Unidentifiable)
    assert isinstance(found.tiers[0].cost_share, Unidentifiable)
    assert any(notice.startswith("routing latency is missing") for notice in found.notices)


def test_no_rows_give_no_numbers_and_no_exception(hand_made: Any, hand_made_scope: Any) -> None:
    found = routing_analytics(hand_made([]), hand_made_scope())
    assert (found.requests, found.attempts, found.models, found.errors) == (0, 0, (), ())
    assert isinstance(found.success_rate, Unidentifiable)
    assert isinstance(found.throughput.mean_per_minute, Unidentifiable)
    assert RoutingAnalytics.model_validate_json(found.model_dump_json()) == found


def test_the_throughput_counts_the_quiet_minutes_too(hand_made: Any, hand_made_scope: Any) -> None:
    rows = [{"at_s": 5.0}] + [{"at_s": 600.0 + number} for number in range(10)]
    found = routing_analytics(hand_made(rows), hand_made_scope(11 / 1440)).throughput
    assert found.mean_per_minute == pytest.approx(1.0)
    assert found.peak_per_minute == 10.0
    assert found.peak_at is not None
    assert found.peak_at.isoformat() == "2026-03-02T00:10:00+00:00"
    # Eleven minutes in order: nine zeros, 1, 10; the 95th percentile lies halfway between the last two.
    assert found.p95_per_minute == pytest.approx(5.5)


def test_minutes_that_the_logs_do_not_cover_are_no_quiet_ones(hand_made: Any, hand_made_scope: Any, covered_by: Any) -> None:
    rows = [{"at_s": 60.0 * minute} for minute in range(1440)]
    later = covered_by(hand_made_scope(30.0), [{"at_s": row["at_s"] + 29 * 86_400} for row in rows])
    for scope in (hand_made_scope(1.0), later):
        assert routing_analytics(hand_made(rows), scope).throughput.mean_per_minute == pytest.approx(1.0)


def test_a_retry_is_a_lower_bound_and_a_fallback_is_not_a_retry(hand_made: Any, hand_made_scope: Any) -> None:
    rows = [{"retries": 2}, {"attempts": 2}, {"attempts": 2, "fallback_from": "x"}, {"retries": 0}]
    found = routing_analytics(hand_made(rows), hand_made_scope())
    assert isinstance(found.retry_rate, Estimate)
    assert found.retry_rate.estimate == 0.5
    assert isinstance(found.fallback_rate, Estimate)
    assert found.fallback_rate.estimate == 0.25


def test_names_from_outside_are_listed_up_to_a_bound_and_the_rest_is_counted(hand_made: Any, hand_made_scope: Any) -> None:
    rows: list[dict[str, Any]] = [
        {"model": f"model'; drop table {number}", "status": "failure", "error_type": f"<b>{number:03}"} for number in range(60)
    ]
    rows += [{"model": "big"}, {"model": "big"}]
    found = routing_analytics(hand_made(rows), hand_made_scope())
    assert found.models[0].model == "big"
    assert len(found.models) == len(found.errors) == MAX_LISTED
    assert (found.models_not_listed, found.model_requests_not_listed) == (11, 11)
    assert (found.errors_not_listed, found.error_attempts_not_listed) == (10, 10)
    assert found.errors[0].error_type == "<b>000"


def test_the_made_up_week_has_the_failures_that_were_planted(week: Any) -> None:
    found = routing_analytics(week.requests, week.scope)
    assert found.requests == 20_000
    assert isinstance(found.routing_latency.p50_ms, Estimate)
    # Overhead was drawn lognormal around 9 ms.
    assert found.routing_latency.p50_ms.low < 9.1
    assert found.routing_latency.p50_ms.high > 8.9
    assert found.errors[0].error_type == "429_RATE_LIMIT_EXCEEDED"
    assert {each.model for each in found.models} == {arm.model for arm in traffic.ARMS}
    assert {each.tier for each in found.tiers} == {arm.tier for arm in traffic.ARMS}
    assert found.tiers[0].tier == "economy"
    premium = next(each for each in found.tiers if each.tier == "premium")
    assert isinstance(premium.cost_share, float)
    assert premium.cost_share > 0.7
    assert found.throughput.peak_at is not None
    assert 8 <= found.throughput.peak_at.hour < 18
