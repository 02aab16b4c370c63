"""Spend, its trend and its projection, on paper-sized windows and on the made-up week."""

from __future__ import annotations

from datetime import date, timedelta
from typing import Any

import pytest

from routing_pipeline.analysis.budget_projection import SpendHistory, budget_projection
from routing_pipeline.analysis.daily_spend import day_of
from routing_pipeline.analysis.routing_costs import RoutingCosts, routing_costs, with_projection
from routing_pipeline.analysis.spend_groupings import MAX_LISTED, spend_by
from routing_pipeline.demo import traffic
from routing_pipeline.estimates import Estimate, Unidentifiable
from routing_pipeline.parameters import Parameters

DAY = 86_400
WORKING_HOURS = (1, 9, 15, 22)


def days_of(costs: list[float], first_day: int = 0, **values: Any) -> list[dict[str, Any]]:
    """Four requests a day, `costs[i]` dollars together on day first_day + i after the Monday."""
    return [
        {"at_s": (first_day + index) * DAY + hour * 3600, "cost_usd": cost / 4} | values
        for index, cost in enumerate(costs)
        for hour in WORKING_HOURS
    ]


@pytest.fixture
def costs(hand_made: Any, hand_made_scope: Any, covered_by: Any) -> Any:
    def of(rows: list[dict[str, Any]], previous: list[dict[str, Any]] | None = None, *, days: float = 7.0, **asked: Any) -> RoutingCosts:
        scope = covered_by(hand_made_scope(days, Parameters(**asked)), [*rows, *(previous or [])])
        return routing_costs(hand_made(rows), hand_made(previous or []), scope)

    return of


def test_every_grouping_adds_up_to_the_total(week: Any) -> None:
    found = routing_costs(week.requests, week.previous, week.scope)
    assert isinstance(found.total_usd, float)
    assert {grouping.by for grouping in found.groupings} >= {("model",), ("tier",), ("task_type",), ("team",), ("provider",), ("day",)}
    for grouping in found.groupings:
        assert sum(line.cost_usd for line in grouping.lines) + grouping.cost_not_listed_usd == pytest.approx(found.total_usd)
        assert sum(line.requests for line in grouping.lines) == 20_000
    assert sum(hour.cost_usd for hour in found.hours) == pytest.approx(found.total_usd)
    assert sum(day.cost_usd for day in found.days) == pytest.approx(found.total_usd)


def test_cost_counts_failed_attempts_and_cost_per_request_counts_them_with_their_request(costs: Any) -> None:
    rows = [
        {"request_id": "a", "status": "failure", "is_final": False, "cost_usd": 0.02, "completion_tokens": None},
        {"request_id": "a", "model": "opus", "cost_usd": 0.10, "request_cost_usd": 0.12},
        {"request_id": "b", "cost_usd": 0.04},
    ]
    found = costs(rows)
    assert found.total_usd == pytest.approx(0.16)
    assert found.requests == 2
    by_model = {line.group: line for line in found.by("model").lines}
    assert by_model["opus",].per_request_usd == pytest.approx(0.12)
    assert by_model["gpt-4o",].cost_usd == pytest.approx(0.06)
    # The failed attempt has no completion tokens: it counts neither above nor below the line.
    assert found.per_1000_tokens_usd == pytest.approx(0.14 / 2)


def test_the_thursday_spike_shows_as_the_dearest_hours_of_the_week(week: Any) -> None:
    found = routing_costs(week.requests, week.previous, week.scope)
    assert len(found.hours) == 168
    dearest = sorted(range(168), key=lambda index: -found.hours[index].cost_usd)[: traffic.SPIKE_HOURS]
    assert sorted(dearest) == list(range(traffic.SPIKE_FROM_H, traffic.SPIKE_FROM_H + traffic.SPIKE_HOURS))
    assert max(line.cost_usd for line in found.by("day").lines) == next(
        line.cost_usd for line in found.by("day").lines if line.group == ("2026-11-19",)
    )


def test_a_weekend_at_the_end_of_the_week_is_not_a_fall(costs: Any) -> None:
    found = costs(days_of([10, 10, 10, 10, 10, 2, 2])).trend
    assert found.days == 5
    assert found.direction == "flat"


def test_five_days_without_an_order_cannot_tell_a_direction(costs: Any) -> None:
    found = costs(days_of([10, 12, 11, 13, 9, 2, 2])).trend
    assert isinstance(found.slope_usd_per_day, Estimate)
    assert found.slope_usd_per_day.low < 0 < found.slope_usd_per_day.high
    assert found.direction == "cannot tell"


def test_too_few_days_for_a_trend_say_how_many_it_needs(costs: Any) -> None:
    found = costs(days_of([10, 12, 11]), days=3).trend
    assert found.direction == "cannot tell"
    assert isinstance(found.slope_usd_per_day, Unidentifiable)
    assert "at least 5" in found.slope_usd_per_day.unidentifiable


def test_a_day_has_no_direction_even_beside_the_day_before(costs: Any) -> None:
    found = costs(days_of([50.0]), days=1).trend
    assert found.direction == "cannot tell"
    assert isinstance(found.relative_slope_per_day, Unidentifiable)


def test_the_window_before_lengthens_the_trend_and_weekends_do_not_bend_it(costs: Any) -> None:
    rising = [10 + index / 2 if index % 7 < 5 else 1 for index in range(-7, 7)]
    found = costs(days_of(rising[7:]), days_of(rising[:7], -7)).trend
    assert found.days == 10
    assert found.direction == "rising"
    assert found.slope_usd_per_day.estimate == pytest.approx(0.5)
    sinking = [20 - index / 2 if index % 7 < 5 else 30 for index in range(-7, 7)]
    falling = costs(days_of(sinking[7:]), days_of(sinking[:7], -7)).trend
    assert falling.direction == "falling"


def test_change_is_against_an_equal_window_or_not_at_all(costs: Any) -> None:
    week = days_of([10.0] * 7)
    assert costs(week, days_of([5.0] * 7, -7)).trend.change == pytest.approx(1.0)
    nothing_before = costs(week).trend.change
    assert isinstance(nothing_before, Unidentifiable)
    assert "do not cover the previous window" in nothing_before.unidentifiable
    half_before = costs(week, days_of([5.0] * 3, -3)).trend
    assert isinstance(half_before.change, Unidentifiable)
    assert "the logs cover 3.0 days of the window before and 7.0 of this one" in half_before.change.unidentifiable
    hole = costs(week[:8] + week[16:], days_of([5.0] * 7, -7)).trend
    assert isinstance(hole.change, Unidentifiable), "a window with a gap is not compared either"


def test_office_hours_alone_do_not_make_the_window_before_look_cut_off(costs: Any) -> None:
    def office(first_day: int) -> list[dict[str, Any]]:
        return [{"at_s": (first_day + day) * DAY + hour * 3600, "cost_usd": 1.0} for day in range(5) for hour in range(9, 18)]

    found = costs(office(0), office(-7))
    assert found.trend.change == pytest.approx(0.0)
    assert [day.complete for day in found.days] == [True] * 12, "from the Monday of one week to the Friday of the next"


def test_logging_that_began_in_mid_day_makes_that_day_incomplete(costs: Any) -> None:
    rows = days_of([10.0] * 7)
    found = costs([row for row in rows if row["at_s"] > 12 * 3600])
    assert [day.complete for day in found.days] == [False] + [True] * 6


def test_a_day_in_progress_is_not_taken_for_a_cheap_day(hand_made: Any, hand_made_scope: Any, covered_by: Any) -> None:
    rows = [row for row in days_of([8.0] * 8) if row["at_s"] < 7.5 * DAY]
    found = routing_costs(hand_made(rows), hand_made([]), covered_by(hand_made_scope(7.5), rows))
    assert [day.complete for day in found.days] == [True] * 7 + [False]
    assert found.per_day_usd == pytest.approx(8.0)


def test_spend_per_day_is_over_the_days_that_the_logs_cover(costs: Any) -> None:
    week = [{"at_s": hour * 3600, "cost_usd": 1.0} for hour in range(7 * 24)]
    assert costs(week).per_day_usd == pytest.approx(24.0)
    late = [row for row in week if row["at_s"] >= 4.5 * DAY]
    assert costs(late).per_day_usd == pytest.approx(24.0), "logs that begin in mid-window"
    holed = [row for row in week if not 2.25 * DAY <= row["at_s"] < 4 * DAY]
    assert costs(holed).per_day_usd == pytest.approx(24.0), "logs with a gap"
    down = [row for row in week if not 2 * DAY <= row["at_s"] < 2 * DAY + 5 * 3600]
    assert costs(down).per_day_usd == pytest.approx(24.0 * 163 / 168), "an outage is no gap: nothing was spent in it"


def projected(found: RoutingCosts, usd: dict[str | None, dict[int, float]], end: date, **asked: Any) -> RoutingCosts:
    history = SpendHistory(usd)
    return with_projection(found, budget_projection(history, day_of(end) * float(DAY), Parameters(**asked)))


def test_month_quarter_and_budgets_are_those_of_the_projection(costs: Any) -> None:
    asked: dict[str, Any] = {"budget": 310.0, "budgets_by_team": {"data": 20.0, "ghost": 5.0}}
    rows = days_of([10.0] * 7, team="data")
    spend = dict.fromkeys(range(day_of(date(2026, 2, 1)), day_of(date(2026, 3, 9))), 10.0)
    found = projected(costs(rows, **asked), {None: spend, "data": spend}, date(2026, 3, 9), **asked)
    projection = budget_projection(SpendHistory({None: spend, "data": spend}), day_of(date(2026, 3, 9)) * float(DAY), Parameters(**asked))
    assert (found.month, found.quarter) == (projection.month, projection.quarter)
    whole, data, ghost = found.budgets
    assert (whole.used, whole.used_is, whole.verdict) == (projection.month.used, "spend so far", projection.month.verdict)
    assert whole.used.estimate == pytest.approx(80 / 310)
    assert whole.month_end.estimate == pytest.approx(projection.month.total_usd.estimate / 310)
    assert whole.quarter_end.estimate == pytest.approx(projection.quarter.total_usd.estimate / 930)
    assert (data.verdict, data.used.estimate) == ("over budget", pytest.approx(4.0))
    assert ghost.verdict == "cannot tell"
    assert "check how the gateway spells it" in ghost.used.unidentifiable


def test_a_budgets_share_of_the_window_goes_by_covered_time_too(costs: Any) -> None:
    rows = [{"at_s": hour * 3600, "cost_usd": 1.0} for hour in range(5 * 24, 7 * 24)]
    (use,) = costs(rows, budget=24.0 * 365.25 / 12).budgets
    assert (use.window_usd, use.window_allowed_usd) == (pytest.approx(48.0), pytest.approx(48.0))
    (tighter,) = costs(rows, budget=23.0 * 365.25 / 12).budgets
    assert (tighter.breached, tighter.days_over) == (True, ("2026-03-07", "2026-03-08"))


def test_a_team_whose_answers_have_no_price_is_not_told_to_have_spent_nothing(costs: Any) -> None:
    rows = [*days_of([10.0] * 7, team="data"), *days_of([1.0] * 7, team="lab", cost_usd=None)]
    data, ghost, lab = costs(rows, budgets_by_team={"data": 20.0, "lab": 5.0, "ghost": 5.0}).budgets
    assert (data.window_usd, ghost.window_usd) == (pytest.approx(70.0), 0.0)
    assert isinstance(lab.window_usd, Unidentifiable)
    assert lab.breached is None


def test_a_tier_has_a_budget_and_a_share_of_its_own(costs: Any) -> None:
    rows = days_of([10.0] * 7, tier="premium") + days_of([2.0] * 7, tier="economy")
    economy, ghost, premium = costs(rows, budgets_by_tier={"premium": 200.0, "economy": 100.0, "ghost": 1.0}).tier_budgets
    assert (economy.of, economy.window_usd, economy.breached) == ("economy", pytest.approx(14.0), False)
    assert (premium.window_usd, premium.share, premium.breached) == (pytest.approx(70.0), pytest.approx(70 / 84), True)
    assert len(premium.days_over) == 7
    assert "check how it is spelled" in ghost.window_usd.unidentifiable
    assert (ghost.share, ghost.breached) == (None, None)
    assert costs(rows).tier_budgets == ()


def test_a_tiers_month_is_the_one_projection_of_it(costs: Any) -> None:
    asked = {"budgets_by_tier": {"premium": 200.0, "ghost": 1.0}}
    first = day_of(date(2026, 2, 1))
    spent = {first + day: 10.0 for day in range(36)}
    history = SpendHistory({None: spent}, of_tiers={"premium": spent})
    projection = budget_projection(history, day_of(date(2026, 3, 9)) * float(DAY), Parameters(**asked))
    ghost, premium = with_projection(costs(days_of([10.0] * 7, tier="premium"), **asked), projection).tier_budgets
    (tier,) = projection.tiers
    assert (tier.tier, tier.month.total_usd.estimate) == ("premium", pytest.approx(310.0, rel=0.01))
    assert (premium.month_end_usd, premium.verdict) == (tier.month.total_usd, "over budget")
    assert (ghost.verdict, "check how it is spelled" in ghost.month_end_usd.unidentifiable) == ("cannot tell", True)


def test_a_budget_is_not_held_against_some_of_the_task_types(costs: Any) -> None:
    (use,) = costs(days_of([10.0] * 7), budget=10.0, task_types=("code",)).budgets
    assert use.breached is None
    assert "a budget is for all of them" in use.window_usd.unidentifiable


def test_what_has_no_price_is_counted_and_never_taken_for_free(costs: Any) -> None:
    rows = [
        {"cost_usd": 0.05, "list_cost_usd": 0.05},
        {"cost_usd": 0.07, "logged_cost_usd": None, "list_cost_usd": 0.07},
        {"cost_usd": None, "list_cost_usd": None, "model": "own", "provider": "vllm"},
        {"cost_usd": 0.0, "list_cost_usd": 0.03},
        {"cost_usd": 0.0, "list_cost_usd": None, "is_cache_hit": True},
        {"cost_usd": None, "status": "failure"},
    ]
    found = costs(rows)
    assert found.unpriced.attempts == 2
    assert found.unpriced.share == pytest.approx(0.5)
    assert found.total_usd == pytest.approx(0.12)
    (missing,) = found.unpriced.models
    assert (missing.model, missing.provider, missing.attempts, missing.share) == ("own", "vllm", 1, pytest.approx(0.25))
    assert (missing.prompt_tokens, missing.completion_tokens) == (900, 100)
    assert found.unpriced.list_cost_usd == pytest.approx(0.07)
    assert found.unpriced.attempts_without_list_price == 1
    assert (found.unpriced.free_attempts, found.unpriced.free_list_cost_usd) == (1, pytest.approx(0.03))
    assert any("1 successful attempt has no price at all: every total is a lower bound" in notice for notice in found.notices)
    assert any("counted at list prices: $0.0700 of the total" in notice for notice in found.notices)


def test_a_bill_beyond_ten_percent_of_list_price_is_flagged_and_an_unknown_model_is_not_called_right(costs: Any) -> None:
    rows = [
        {"model": "dear", "cost_usd": 1.2, "list_cost_usd": 1.0},
        {"model": "right", "cost_usd": 0.95, "list_cost_usd": 1.0},
        {"model": "own", "cost_usd": 0.5, "list_cost_usd": None},
    ]
    checks = {check.model: check for check in costs(rows).checks}
    assert checks["dear"].difference == pytest.approx(0.2)
    assert [checks[name].within_tolerance for name in ("dear", "right", "own")] == [False, True, None]
    assert isinstance(checks["own"].difference, Unidentifiable)
    assert checks["own"].unchecked_attempts == 1


def test_the_made_up_week_is_billed_at_list_price(week: Any) -> None:
    found = routing_costs(week.requests, week.previous, week.scope)
    assert {check.model for check in found.checks} == {arm.model for arm in traffic.ARMS}
    assert all(check.within_tolerance for check in found.checks)
    assert isinstance(found.per_request_usd, Estimate)
    assert found.per_request_usd.low < found.total_usd / 20_000 < found.per_request_usd.high
    assert isinstance(found.trend.change, Unidentifiable)


def test_no_cost_at_all_is_not_a_spend_of_zero(costs: Any) -> None:
    found = costs(days_of([1.0] * 7, cost_usd=None), budget=10.0, budgets_by_team={"data": 1.0})
    for unknown in (
        found.total_usd,
        found.per_request_usd,
        found.per_1000_tokens_usd,
        found.trend.slope_usd_per_day,
        found.budgets[0].used,
        found.budgets[0].window_usd,
    ):
        assert isinstance(unknown, Unidentifiable)
    assert found.trend.direction == "cannot tell"
    assert isinstance(found.by("model").lines[0].cost_usd, Unidentifiable)


def test_no_rows_give_no_numbers_and_no_exception(costs: Any) -> None:
    found = costs([], budget=10.0)
    assert (found.requests, found.hours, found.days, found.checks) == (0, (), (), ())
    assert isinstance(found.total_usd, Unidentifiable)
    assert RoutingCosts.model_validate_json(found.model_dump_json()) == found


def test_one_session_gives_a_total_but_no_interval(costs: Any) -> None:
    found = costs([{"cluster": 3, "cost_usd": 0.01 * number} for number in range(1, 20)])
    assert found.total_usd == pytest.approx(1.9)
    assert isinstance(found.per_request_usd, Unidentifiable)


def test_any_dimensions_can_be_crossed_and_long_lists_are_cut_and_counted(hand_made: Any) -> None:
    rows = [{"team": f"t{number:02}", "cost_usd": 0.01} for number in range(MAX_LISTED + 10)] + [{"team": None, "cost_usd": 5.0}]
    found = spend_by(hand_made(rows), ("team", "provider"))
    assert found.lines[0].group == (None, "openai")
    assert found.lines[1].group == ("t00", "openai")
    assert len(found.lines) == MAX_LISTED
    assert found.groups_not_listed == 11
    assert found.cost_not_listed_usd == pytest.approx(0.11)


def test_hours_at_the_edge_say_how_much_of_them_was_seen(hand_made: Any, hand_made_scope: Any) -> None:
    scope = hand_made_scope(0.1)
    found = routing_costs(hand_made([{"at_s": 10.0}, {"at_s": 8000.0}]), hand_made([]), scope)
    assert [hour.covered for hour in found.hours] == pytest.approx([1.0, 1.0, 0.4])
    assert [hour.requests for hour in found.hours] == [1, 0, 1]
    assert found.hours[1].hour - found.hours[0].hour == timedelta(hours=1)
