"""Where the money went: overuse, waste, budgets, spikes and the change, on paper-sized windows and in the made-up week."""

from __future__ import annotations

import math
from datetime import UTC, datetime, timedelta
from typing import Any

import numpy as np
import pytest

from routing_pipeline.analysis.cost_change import ChangeParts
from routing_pipeline.analysis.cost_drivers import CostDrivers, Waste, cost_drivers
from routing_pipeline.analysis.routing_analytics import routing_analytics
from routing_pipeline.analysis.routing_costs import routing_costs
from routing_pipeline.demo import traffic
from routing_pipeline.estimates import Estimate, Unidentifiable
from routing_pipeline.parameters import Parameters

HOUR, DAY = 3_600, 86_400
PRICES = {"cheap": (1e-6, 1e-7, 4e-6), "dear": (1e-5, 1e-6, 4e-5)}


def call(model: str, prompt: int, cached: int, output: int, *, factor: float = 1.0, **values: Any) -> dict[str, Any]:
    """One call at list prices times a factor."""
    fresh_usd, cached_usd, output_usd = PRICES[model]
    cost = ((prompt - cached) * fresh_usd + cached * cached_usd + output * output_usd) * factor
    return {
        "model": model,
        "prompt_tokens": prompt,
        "cached_tokens": cached,
        "completion_tokens": output,
        "cost_usd": cost,
    } | values


def calls(
    n: int,
    seed: int,
    *,
    day: int = 0,
    models: tuple[str, ...] = ("cheap", "dear"),
    longer: float = 1.0,
    cached: float = 0.3,
    factor: float = 1.0,
) -> list[dict[str, Any]]:
    """n calls spread over a week that starts `day` days after the Monday."""
    rng = np.random.default_rng(seed)
    found = []
    for number in range(n):
        prompt = int(rng.lognormal(6, 0.5) * longer)
        at_s = day * DAY + (number + 0.5) / n * 7 * DAY
        model = models[number % len(models)]
        found.append(call(model, prompt, int(prompt * cached * rng.random() * 2), int(rng.lognormal(4, 0.5)), factor=factor, at_s=at_s))
    return found


@pytest.fixture
def drivers(hand_made: Any, hand_made_scope: Any, nothing_known: Any) -> Any:
    def of(
        rows: list[dict[str, Any]], previous: list[dict[str, Any]] | None = None, evidence: Any = None, scope: Any = None, **asked: Any
    ) -> CostDrivers:
        scope = scope or hand_made_scope(parameters=Parameters(**asked))
        tables = hand_made(rows), hand_made(previous or [])
        return cost_drivers(*tables, scope, evidence or nothing_known, routing_costs(*tables, scope).budgets)

    return of


@pytest.fixture(scope="module")
def demo(week: Any, true_evidence: Any) -> CostDrivers:
    return cost_drivers(week.requests, week.previous, week.scope, true_evidence)


def wasted(found: CostDrivers, kind: str) -> Waste:
    return next(each for each in found.waste if each.kind == kind)


# --- overuse


def test_the_planted_overuse_of_the_dearest_model_on_easy_tasks_tops_the_list(demo: CostDrivers) -> None:
    overused = {(each.task_type, each.model) for each in demo.overuse[:4]}
    assert overused >= {(task, traffic.OVERUSED_MODEL) for task in traffic.OVERUSED_TASKS}
    assert demo.overuse[0].tier == "premium"


def test_avoidable_dollars_of_overuse_are_the_price_difference_of_the_same_tokens(demo: CostDrivers) -> None:
    """Every token class of Anthropic's models costs the same multiple, so the ratio of prices is the ratio of costs."""
    prices = {each.model: each for each in traffic.ARMS if each.provider == "anthropic"}
    parts = [part for overuse in demo.overuse[:3] for part in overuse.segments if part.replacement in prices]
    assert parts
    for part in parts:
        ratio = prices[part.replacement].output_usd / prices[traffic.OVERUSED_MODEL].output_usd
        assert part.avoidable_usd.estimate == pytest.approx(part.spend_usd * (1 - ratio), rel=1e-3)


def test_no_cheaper_model_is_named_where_it_breaks_the_floor(drivers: Any, by_hand: Any) -> None:
    arms = [
        by_hand.arm("dear", 0.5, cost=0.02, quality=0.90, error=0.002),
        by_hand.arm("cheap", 0.5, cost=0.002, quality=0.70, error=0.002),
    ]
    found = drivers(calls(100, 1), evidence=by_hand.evidence([by_hand.segment("code", arms)]))
    assert found.overuse == ()
    assert isinstance(found.overuse_unknown, Unidentifiable)
    assert isinstance(found.avoidable_usd, Unidentifiable)


def test_moving_only_the_better_models_requests_must_keep_the_floor_too(drivers: Any, by_hand: Any) -> None:
    """Today's mean hides that the dear model carries it: 0.84 everywhere would do, 0.84 in place of 0.95 alone would not."""
    arms = [
        by_hand.arm("dear", 0.5, cost=0.02, quality=0.95, error=0.002),
        by_hand.arm("poor", 0.4, cost=0.001, quality=0.70, error=0.002),
        by_hand.arm("cheap", 0.1, cost=0.002, quality=0.848, error=0.002),
    ]
    found = drivers(calls(100, 1), evidence=by_hand.evidence([by_hand.segment("code", arms)]))
    assert all(each.model != "dear" for each in found.overuse)


def test_overuse_is_what_the_requests_cost_less_what_they_would_have_cost(drivers: Any, by_hand: Any) -> None:
    arms = [
        by_hand.arm("dear", 0.5, cost=0.02, quality=0.86, error=0.002),
        by_hand.arm("cheap", 0.5, cost=0.002, quality=0.86, error=0.002),
    ]
    rows = calls(100, 1)
    found = drivers(rows, evidence=by_hand.evidence([by_hand.segment("code", arms)]))
    spent = sum(row["cost_usd"] for row in rows if row["model"] == "dear")
    [overuse] = found.overuse
    assert (overuse.model, overuse.task_type, overuse.replacement, overuse.requests) == ("dear", "code", "cheap", 50)
    assert overuse.spend_usd == pytest.approx(spent)
    assert overuse.avoidable_usd.estimate == pytest.approx(0.9 * spent)
    assert overuse.share_of_spend == pytest.approx(spent / found.spend_usd)


def test_a_refusal_of_the_evidence_leaves_overuse_unknown(drivers: Any, nothing_known: Any) -> None:
    assert drivers(calls(100, 1)).overuse_unknown == Unidentifiable(unidentifiable=nothing_known.refusal)


# --- waste


def test_failed_attempts_that_cost_money_are_counted_to_the_cent(drivers: Any) -> None:
    rows = [
        {"status": "failure", "is_final": False, "cost_usd": 0.05},
        {"status": "cancelled", "cost_usd": 0.02},
        {"status": "failure", "cost_usd": None},
        {},
    ]
    waste = wasted(drivers(rows), "failed_paid_attempts")
    assert (waste.count, waste.spend_usd) == (2, pytest.approx(0.07))


def test_a_fallback_costs_what_it_is_dearer_than_the_first_choice(drivers: Any, by_hand: Any) -> None:
    arms = [by_hand.arm("cheap", 0.5, cost=0.002, quality=0.86), by_hand.arm("dear", 0.5, cost=0.02, quality=0.86)]
    rows = [{"model": "dear", "fallback_from": "cheap", "cost_usd": 0.10}]
    waste = wasted(drivers(rows, evidence=by_hand.evidence([by_hand.segment("code", arms)])), "fallbacks")
    assert (waste.count, waste.spend_usd) == (1, pytest.approx(0.10))
    assert waste.excess_usd.estimate == pytest.approx(0.09)
    assert waste.excess_usd.low < 0.09 < waste.excess_usd.high


def test_repeats_cannot_be_seen_without_a_hash_of_the_prompt(demo: CostDrivers) -> None:
    waste = wasted(demo, "uncached_repeats")
    assert waste.count is None
    assert "hash" in waste.spend_usd.unidentifiable


def test_retries_that_the_gateway_counts_but_does_not_price_are_counted_and_not_priced(drivers: Any) -> None:
    waste = wasted(drivers([{"retries": 2}, {"retries": 0}]), "retries")
    assert waste.count == 1, "requests, as the retry rate counts them"
    assert isinstance(waste.spend_usd, Unidentifiable)


def test_retries_and_fallbacks_are_those_of_the_rates_whatever_became_of_them(
    drivers: Any, by_hand: Any, hand_made: Any, hand_made_scope: Any
) -> None:
    """Only a fallback that succeeded carries the model it stands in for; one that failed as well is no retry for that."""
    fell_back = {"attempts": 2, "routed_model": "dear", "model": "cheap"}
    failed_first = [
        {"request_id": f"f{number}", "status": "failure", "is_final": False, "model": "dear", "cost_usd": 0.0} for number in (1, 2)
    ]
    rows = [
        *failed_first,
        {"request_id": "f1", "fallback_from": "dear", "cost_usd": 0.01, **fell_back},
        {"request_id": "f2", "status": "failure", "cost_usd": 0.0, **fell_back},
        {"request_id": "s", "status": "failure", "is_final": False, "model": "dear", "cost_usd": 0.0},
        {"request_id": "s", "attempts": 2, "model": "dear", "routed_model": "dear"},
        *({"retries": 0} for _ in range(5)),
    ]
    found, rates = drivers(rows), routing_analytics(hand_made(rows), hand_made_scope())
    assert (wasted(found, "fallbacks").count, wasted(found, "retries").count) == (2, 1)
    assert (rates.fallback_rate.estimate * rates.requests, rates.retry_rate.estimate * rates.requests) == pytest.approx((2, 1))


def test_what_is_known_to_be_nothing_costs_nothing(drivers: Any) -> None:
    found = drivers([{"retries": 0, "cost_usd": 0.01}, {"status": "failure", "retries": 0, "cost_usd": 0.0}])
    for kind in ("failed_paid_attempts", "retries", "fallbacks", "oversized_prompts"):
        waste = wasted(found, kind)
        assert (waste.count, waste.spend_usd, waste.excess_usd) == (0, 0.0, Estimate(estimate=0.0, low=0.0, high=0.0)), kind


def test_a_log_without_a_retry_count_does_not_claim_that_nothing_was_retried(drivers: Any) -> None:
    waste = wasted(drivers([{"retries": None}] * 3), "retries")
    assert waste.count is None
    assert isinstance(waste.spend_usd, Unidentifiable)


def test_prompts_beyond_four_medians_are_oversized_and_only_their_tokens_above_that_are_in_excess(drivers: Any) -> None:
    rows = [call("cheap", 1000, 0, 50, at_s=number) for number in range(200)] + [
        call("cheap", 20_000, 0, 50, at_s=number) for number in range(5)
    ]
    [oversized] = drivers(rows).oversized_prompts
    assert oversized.calls == 5
    assert 3900 <= oversized.limit_tokens <= 4400
    assert oversized.spend_usd == pytest.approx(5 * (20_000 * 1e-6 + 50 * 4e-6))
    assert oversized.excess_usd == pytest.approx(5 * (20_000 - oversized.limit_tokens) * 1e-6, rel=0.01)


def test_failures_that_cost_nothing_do_not_hide_what_tokens_cost(drivers: Any) -> None:
    rows = [call("cheap", 1000, 0, 50, at_s=number) for number in range(200)] + [
        call("cheap", 20_000, 0, 50, at_s=number) for number in range(5)
    ]
    failed = [call("cheap", 1000, 0, 0, at_s=number) | {"status": "failure", "cost_usd": 0.0} for number in range(20)]
    assert drivers(rows + failed).oversized_prompts == drivers(rows).oversized_prompts


def test_long_prompts_whose_tokens_have_no_price_are_not_told_as_nothing(drivers: Any) -> None:
    rng = np.random.default_rng(3)
    rows = [call("cheap", length, 0, 50) | {"cost_usd": float(rng.lognormal())} for length in [1000] * 200 + [20_000] * 5]
    waste = wasted(drivers(rows), "oversized_prompts")
    assert isinstance(waste.excess_usd, Unidentifiable)
    assert "has no price" in waste.excess_usd.unidentifiable
    priced = [call("dear", length, 0, 50) | {"task_type": "rag"} for length in [1000] * 200 + [20_000] * 5]
    waste = wasted(drivers(rows + priced), "oversized_prompts")
    assert isinstance(waste.excess_usd, Unidentifiable)
    assert waste.excess_usd.unidentifiable.startswith("at least $")


def test_the_share_of_prompt_tokens_from_the_providers_cache_is_exact_and_unknown_where_not_logged(drivers: Any) -> None:
    rows = [call("cheap", 1000, 250, 10), call("cheap", 1000, 0, 10)]
    assert drivers(rows).cached_prompt_share == pytest.approx(0.125)
    assert drivers([{"cached_tokens": None}]).cached_prompt_share is None


# --- budgets and thresholds


def test_a_budget_is_breached_when_the_window_spends_more_than_its_share_of_the_month(drivers: Any) -> None:
    rows = [{"at_s": day * DAY, "cost_usd": 1.0 if day < 6 else 5.0, "team": "growth"} for day in range(7)]
    found = drivers(rows, budget=40.0, budgets_by_team={"growth": 100.0, "idle": 10.0})
    breached = {each.of: each for each in found.budgets}
    assert breached["total"].allowed_usd == pytest.approx(40 * 7 / (365.25 / 12))
    assert (breached["total"].breached, breached["growth"].breached, breached["idle"].breached) == (True, False, False)
    assert breached["total"].days_over == ("2026-03-08",)
    assert breached["growth"].used == pytest.approx(11 / (100 * 7 / (365.25 / 12)))
    assert breached["idle"].spend_usd == 0.0
    assert found.budgets[0].of == "total"


def test_without_a_budget_the_reader_is_told_how_to_give_one(demo: CostDrivers) -> None:
    assert demo.budgets == ()
    assert any("--budget" in notice for notice in demo.notices)


def test_task_types_above_the_cost_threshold_are_named_with_how_sure_that_is(drivers: Any) -> None:
    rng = np.random.default_rng(3)
    rows = [{"task_type": "dear", "cost_usd": float(rng.lognormal(-2, 0.1))} for _ in range(200)]
    rows += [{"task_type": "cheap", "cost_usd": 0.001}] * 50
    [dear] = drivers(rows, cost_threshold=0.05).dear_tasks
    assert (dear.task_type, dear.requests, dear.certain) == ("dear", 200, True)


# --- spikes


def test_the_planted_spike_is_found_at_its_hours_with_the_team_model_and_task_behind_it(demo: CostDrivers) -> None:
    [spike] = demo.spikes
    assert spike.start == traffic.WEEK_START + timedelta(hours=traffic.SPIKE_FROM_H)
    assert spike.hours == traffic.SPIKE_HOURS
    driver = spike.drivers[0]
    assert (driver.team, driver.model, driver.task_type) == ("growth", traffic.SPIKE_MODEL, traffic.SPIKE_TASK)
    assert driver.share_of_excess > 0.8
    assert spike.excess_usd.low > 0
    assert spike.spend_usd == pytest.approx(spike.expected_usd.estimate + spike.excess_usd.estimate)


def test_a_single_day_cannot_have_a_spike(drivers: Any) -> None:
    found = drivers([{"at_s": number * 60, "cost_usd": 0.01} for number in range(600)])
    assert found.spikes == ()
    assert isinstance(found.spikes_unknown, Unidentifiable)


def test_hours_of_the_window_before_say_what_is_usual_but_are_no_spikes_themselves(drivers: Any) -> None:
    def hours(first_day: int, days: int, dear_hour: int) -> list[dict[str, Any]]:
        return [
            {"at_s": (first_day * 24 + hour) * HOUR + number * 60, "cost_usd": 0.01 * (9 if hour == dear_hour else 1)}
            for hour in range(days * 24)
            for number in range(20)
        ]

    found = drivers(hours(0, 7, 30), hours(-7, 7, 50))
    assert [spike.start for spike in found.spikes] == [datetime(2026, 3, 3, 6, tzinfo=UTC)]


# --- the change


def parts(change: ChangeParts | Unidentifiable) -> dict[str, float]:
    assert isinstance(change, ChangeParts)
    found = {name: getattr(change, f"{name}_usd") for name in ("volume", "mix", "tokens", "cache", "price", "unattributed")}
    assert math.fsum(found.values()) == pytest.approx(change.change_usd, abs=1e-9 * max(change.current_usd, change.previous_usd))
    assert change.change_usd == pytest.approx(change.current_usd - change.previous_usd)
    return found


def test_parts_add_up_to_the_change_when_everything_moves_at_once(drivers: Any) -> None:
    before = [*calls(300, 1, day=-7), {"at_s": -DAY, "task_type": "gone", "cost_usd": 0.3}]
    after = [
        *calls(500, 2, models=("cheap", "dear", "dear"), longer=1.7, cached=0.1, factor=0.8),
        {"model": "new", "cost_usd": 0.2, "prompt_tokens": None},
    ]
    found = parts(drivers(after, before).change)
    assert all(abs(found[name]) > 1e-6 for name in ("volume", "mix", "tokens", "cache", "price"))


def test_the_same_week_again_changes_nothing(drivers: Any) -> None:
    found = parts(drivers(calls(300, 1), calls(300, 1, day=-7)).change)
    assert list(found.values()) == pytest.approx([0.0] * 6, abs=1e-12)


def test_twice_the_same_traffic_is_all_volume(drivers: Any) -> None:
    found = drivers(calls(300, 1) * 2, calls(300, 1, day=-7))
    assert parts(found.change)["volume"] == pytest.approx(found.spend_usd / 2)


def test_a_price_cut_is_all_price_even_if_only_the_bill_shows_it(drivers: Any) -> None:
    found = drivers(calls(300, 1, factor=0.5), calls(300, 1, day=-7))
    assert parts(found.change)["price"] == pytest.approx(-found.spend_usd)


def test_prompts_that_are_cached_more_often_save_under_cache_and_nowhere_else(drivers: Any) -> None:
    before = [call("cheap", 1000 + number, 0, 50, at_s=number * 1000 - 7 * DAY) for number in range(100)]
    before += [call("cheap", 1000, 500, 50 + number, at_s=number * 1000 - 7 * DAY) for number in range(100)]
    after = [row | {"at_s": row["at_s"] + 7 * DAY} for row in before]
    for row in after[:100]:
        row |= call("cheap", row["prompt_tokens"], 500, 50, at_s=row["at_s"])
    found = parts(drivers(after, before).change)
    assert found["cache"] == pytest.approx(-100 * 500 * 9e-7)
    assert [found[name] for name in ("volume", "mix", "tokens", "price")] == pytest.approx([0.0] * 4, abs=1e-9)


def test_cost_without_tokens_is_called_unattributed_not_price(drivers: Any) -> None:
    rows = [{"at_s": number * 5000, "cost_usd": 0.02, "prompt_tokens": None} for number in range(100)]
    before = [row | {"at_s": row["at_s"] - 7 * DAY, "cost_usd": 0.01} for row in rows]
    found = parts(drivers(rows, before).change)
    assert found["unattributed"] == pytest.approx(1.0)


def test_without_a_window_before_nothing_is_compared(demo: CostDrivers) -> None:
    assert isinstance(demo.change, Unidentifiable)


def test_a_window_before_that_is_only_half_logged_is_not_compared(drivers: Any, hand_made_scope: Any, covered_by: Any) -> None:
    rows = calls(300, 1)
    late = [row for row in calls(300, 1, day=-7) if row["at_s"] > -3 * DAY]
    found = drivers(rows, late, scope=covered_by(hand_made_scope(), [*rows, *late])).change
    assert isinstance(found, Unidentifiable)
    assert "3.0 days of the window before and 7.0 of this one" in found.unidentifiable


# --- nothing to say


def test_a_window_without_any_cost_reports_no_dollar(drivers: Any) -> None:
    found = drivers([{"cost_usd": None}] * 100, [{"cost_usd": None, "at_s": -DAY}])
    assert found.spend_usd is None
    assert found.unpriced_attempts == 100
    assert isinstance(found.change, Unidentifiable)
    assert isinstance(found.spikes_unknown, Unidentifiable)
    assert isinstance(wasted(found, "failed_paid_attempts").spend_usd, Unidentifiable)
    assert any("cost tracking" in notice for notice in found.notices)


def test_an_empty_window_is_answered_not_raised(drivers: Any) -> None:
    found = drivers([])
    assert found.spend_usd is None
    assert found.oversized_prompts == ()


def test_unpriced_successes_make_spend_a_lower_bound_and_the_reader_is_told(drivers: Any) -> None:
    found = drivers(
        [{"cost_usd": 0.1}, {"cost_usd": None}, {"cost_usd": None, "status": "failure"}, {"cost_usd": None, "is_cache_hit": True}]
    )
    assert found.unpriced_attempts == 1
    assert any("lower bound" in notice for notice in found.notices)
