"""Where a month and a quarter will end: what is known is exact, what is not is drawn, and what cannot be told is not."""

from __future__ import annotations

from datetime import UTC, date, datetime

import ibis
import numpy as np
import pyarrow as pa
import pytest

from routing_pipeline.analysis.budget_projection import (
    BudgetProjection,
    SpendHistory,
    TeamProjection,
    budget_projection as project,
    daily_spend_by_team,
    history_of,
    simulated_days,
    spend_history,
)
from routing_pipeline.analysis.daily_spend import day_of
from routing_pipeline.estimates import Estimate, Unidentifiable
from routing_pipeline.parameters import Parameters

DAY_S = 86_400.0


def spend(first: date, end: date, *, weekday: float = 100.0, weekend: float = 20.0, noise: float = 0.05) -> dict[int, float]:
    rng = np.random.default_rng(5)
    days = range(day_of(first), day_of(end))
    return {day: (weekend if (day + 3) % 7 >= 5 else weekday) * float(np.exp(rng.normal(0, noise))) for day in days}


def at(day: date) -> float:
    return day_of(day) * DAY_S


def budget_projection(usd: dict[str | None, dict[int, float]], end_s: float, asked: Parameters) -> BudgetProjection:
    return project(SpendHistory(usd), end_s, asked)


def hours_of(days: dict[int, float]) -> set[int]:
    return {24 * day + hour for day in days for hour in range(24)}


def test_a_month_ends_near_what_its_weekdays_and_weekends_cost() -> None:
    found = budget_projection({None: spend(date(2026, 6, 1), date(2026, 9, 11))}, at(date(2026, 9, 11)), Parameters())
    total = found.month.total_usd
    assert isinstance(total, Estimate)
    assert (found.month.period, found.quarter.period) == ("2026-09", "2026-Q3")
    assert total.low < 22 * 100 + 8 * 20 < total.high
    assert (total.high - total.low) / total.estimate < 0.2


def test_a_period_that_is_over_is_exact() -> None:
    days = spend(date(2026, 6, 1), date(2026, 10, 1))
    found = budget_projection({None: days}, at(date(2026, 10, 1)), Parameters())
    total = found.quarter.total_usd
    assert isinstance(total, Estimate)
    exact = sum(usd for day, usd in days.items() if day >= day_of(date(2026, 7, 1)))
    assert (total.low, total.estimate, total.high) == pytest.approx((exact, exact, exact))
    assert found.quarter.observed_usd == pytest.approx(exact)


def test_what_came_before_the_logs_is_projected_backwards() -> None:
    found = budget_projection({None: spend(date(2026, 8, 3), date(2026, 9, 30))}, at(date(2026, 9, 30)), Parameters())
    total = found.quarter.total_usd
    assert isinstance(total, Estimate)
    truth = 66 * 100 + 26 * 20
    assert total.low < truth < total.high
    assert found.quarter.observed_usd < truth * 0.7


def test_half_a_day_counts_as_half() -> None:
    days = spend(date(2026, 6, 1), date(2026, 9, 30)) | {day_of(date(2026, 9, 30)): 50.0}
    half = budget_projection({None: days}, at(date(2026, 9, 30)) + DAY_S / 2, Parameters()).month.total_usd
    assert isinstance(half, Estimate)
    known = sum(usd for day, usd in days.items() if day >= day_of(date(2026, 9, 1)))
    assert half.estimate == pytest.approx(known + 50.0, rel=0.01)


def test_closed_weekends_stay_closed_and_growth_goes_on() -> None:
    weekday = (np.arange(70) + 3) % 7
    history = np.where(weekday >= 5, 0.0, 100.0 * 1.01 ** np.arange(70))
    drawn = simulated_days(history, weekday, 14, np.random.default_rng(1))
    ahead = (weekday[-1] + np.arange(1, 15)) % 7
    assert (drawn[:, ahead >= 5] == 0).all()
    assert np.median(drawn[:, ahead < 5][:, -1]) > 1.1 * history.max()


def test_budgets_get_the_chance_of_being_exceeded_in_all_and_by_team() -> None:
    days = spend(date(2026, 6, 1), date(2026, 9, 11))
    half = {day: usd / 2 for day, usd in days.items()}
    found = budget_projection(
        {None: days, "a": half, "b": half}, at(date(2026, 9, 11)), Parameters(budget=2_300.0, budgets_by_team={"a": 5_000.0})
    )
    assert found.month.chance_over_budget is not None
    assert 0.05 < found.month.chance_over_budget < 0.95
    assert found.quarter.budget_usd == 3 * 2_300.0
    assert [team.team for team in found.teams] == ["a", "b"]
    assert found.teams[0].month.chance_over_budget == 0.0
    assert found.teams[1].month.budget_usd is None


def test_the_same_logs_give_the_same_answer() -> None:
    days = {None: spend(date(2026, 6, 1), date(2026, 9, 11))}
    assert budget_projection(days, at(date(2026, 9, 11)), Parameters()) == budget_projection(days, at(date(2026, 9, 11)), Parameters())


def test_too_few_days_and_no_cost_at_all_say_so() -> None:
    few = budget_projection({None: spend(date(2026, 9, 1), date(2026, 9, 8))}, at(date(2026, 9, 8)), Parameters(budget=1.0))
    assert isinstance(few.month.total_usd, Unidentifiable)
    assert few.month.chance_over_budget is None
    none = budget_projection({None: {}}, at(date(2026, 9, 8)), Parameters())
    assert isinstance(none.month.total_usd, Unidentifiable)
    assert "no attempt has a cost" in none.month.total_usd.unidentifiable


def test_spend_is_summed_by_day_and_team_up_to_the_end() -> None:
    moments = [datetime(2026, 9, 1, 23, 59), datetime(2026, 9, 1, 1), datetime(2026, 9, 2, 1), datetime(2026, 9, 2, 9)]
    rows = pa.table({"started_at": pa.array(moments, pa.timestamp("us")), "team": ["a", None, "a", "a"], "cost_usd": [1.0, 2.0, 4.0, 8.0]})
    first = day_of(date(2026, 9, 1))
    found = daily_spend_by_team(ibis.memtable(rows), datetime(2026, 9, 2, 2, tzinfo=UTC).timestamp())
    assert found == {None: {first: 3.0, first + 1: 4.0}, "a": {first: 1.0, first + 1: 4.0}}


def test_days_that_the_logs_do_not_cover_are_filled_in_and_not_taken_for_free() -> None:
    whole = spend(date(2026, 6, 1), date(2026, 9, 16))
    lost = range(day_of(date(2026, 9, 7)), day_of(date(2026, 9, 11)))
    kept = {day: usd for day, usd in whole.items() if day not in lost}
    end = at(date(2026, 9, 16))
    found = project(history_of({None: kept}, hours_of(kept), end, None), end, Parameters())
    assert (found.month.observed_days, found.month.elapsed_days) == (pytest.approx(11.0), pytest.approx(15.0))
    assert isinstance(found.month.elapsed_usd, Estimate)
    assert found.month.elapsed_usd.low < sum(whole[day] for day in whole if day >= day_of(date(2026, 9, 1))) < found.month.elapsed_usd.high
    assert isinstance(found.month.total_usd, Estimate)
    assert found.month.total_usd.low < 22 * 100 + 8 * 20 < found.month.total_usd.high
    assert found.history_days == len(kept)


def test_a_budget_is_used_by_what_is_spent_where_the_logs_hold_the_month_and_else_by_the_rate() -> None:
    asked = Parameters(budget=3_000.0)
    whole = dict.fromkeys(range(day_of(date(2026, 8, 20)), day_of(date(2026, 9, 11))), 100.0)
    held = budget_projection({None: whole}, at(date(2026, 9, 11)), asked).month
    assert (held.used_is, held.used) == ("spend so far", Estimate(estimate=1 / 3, low=1 / 3, high=1 / 3))
    late = {day: usd for day, usd in whole.items() if day >= day_of(date(2026, 9, 4))}
    begun = budget_projection({None: late}, at(date(2026, 9, 11)), asked).month
    assert begun.used_is == "rate"
    assert isinstance(begun.used, Estimate)
    assert begun.used.estimate == pytest.approx(100.0 * 365.25 / 12 / 3_000.0)
    assert begun.verdict == "cannot tell", "a rate of a week is no projection"
    spent = budget_projection({None: late}, at(date(2026, 9, 11)), Parameters(budget=600.0)).month
    assert spent.verdict == "over budget", "that much is spent already"


def test_the_verdict_on_a_budget_is_that_of_the_whole_interval() -> None:
    days = {None: spend(date(2026, 6, 1), date(2026, 9, 11))}
    verdicts = [budget_projection(days, at(date(2026, 9, 11)), Parameters(budget=budget)).month.verdict for budget in (9e3, 1e3, 2_360.0)]
    assert verdicts == ["within budget", "over budget", "cannot tell"]
    assert budget_projection(days, at(date(2026, 9, 11)), Parameters()).month.verdict is None


def test_a_day_counts_as_complete_when_the_logs_cover_it_and_the_first_one_too() -> None:
    days = spend(date(2026, 9, 1), date(2026, 9, 8))
    end = at(date(2026, 9, 8)) - 60.0
    whole = project(history_of({None: days}, hours_of(days), end, at(date(2026, 9, 1)) + 60.0), end, Parameters())
    assert whole.history_days == 7
    assert "it needs 14 complete days with spend, and the logs have 7" in str(whole.month.total_usd)
    noon = at(date(2026, 9, 1)) + DAY_S / 2
    late = project(history_of({None: days}, {hour for hour in hours_of(days) if hour * 3600 >= noon}, end, noon), end, Parameters())
    assert (late.history_days, late.month.observed_days) == (6, pytest.approx(6.5, abs=0.01))


def test_a_team_with_a_budget_is_projected_however_little_it_spends() -> None:
    first = day_of(date(2026, 9, 1))
    usd: dict[str | None, dict[int, float]] = {None: {first: 100.0}, "small": {first: 0.5}}
    usd |= {f"t{number}": {first: 1.0} for number in range(60)}
    found = budget_projection(usd, at(date(2026, 9, 2)), Parameters(budgets_by_team={"small": 0.1}))
    assert len(found.teams) == 51
    assert found.teams[-1].month.verdict == "over budget"


def test_tiers_that_are_asked_for_have_a_history_of_their_own() -> None:
    moments = [datetime(2026, 9, day, 12) for day in (1, 1, 2)]
    rows = pa.table(
        {
            "started_at": pa.array(moments, pa.timestamp("us")),
            "team": ["a"] * 3,
            "tier": ["premium", "economy", "premium"],
            "cost_usd": [1.0, 2.0, 4.0],
        }
    )
    end_s = datetime(2026, 9, 3, tzinfo=UTC).timestamp()
    found = spend_history(ibis.memtable(rows), end_s, None, ("premium", "standard"))
    assert found.of_tiers == {"premium": {day_of(date(2026, 9, 1)): 1.0, day_of(date(2026, 9, 2)): 4.0}}
    projected = project(found, end_s, Parameters(budgets_by_tier={"premium": 3.0, "standard": 1.0}))
    assert [(each.tier, each.month.verdict) for each in projected.tiers] == [("premium", "over budget")]


def test_the_history_knows_which_time_the_logs_cover() -> None:
    moments = [datetime(2026, 9, day, hour, 30) for day in (1, 2, 5) for hour in range(24)]
    rows = pa.table({"started_at": pa.array(moments, pa.timestamp("us")), "team": ["a"] * 72, "cost_usd": [None] + [1.0] * 71})
    found = spend_history(
        ibis.memtable(rows), datetime(2026, 9, 6, tzinfo=UTC).timestamp(), datetime(2026, 9, 1, 0, 30, tzinfo=UTC).timestamp()
    )
    assert found.covered_days(at(date(2026, 9, 1)), at(date(2026, 9, 6))) == pytest.approx(3.0 - 0.5 / 24)


def test_a_budget_whose_name_no_request_carries_is_told_with_the_nearest_name() -> None:
    moments = [datetime(2026, 9, day, 12) for day in (1, 1, 2)]
    rows = pa.table(
        {
            "started_at": pa.array(moments, pa.timestamp("us")),
            "team": ["search", "unpriced", None],
            "tier": ["premium", "economy", None],
            "cost_usd": pa.array([1.0, None, 4.0], pa.float64()),
        }
    )
    asked = Parameters(
        budgets_by_team={"serach": 3.0, "search": 1.0, "unpriced": 1.0, "zebra": 2.0}, budgets_by_tier={"premum": 5.0, "economy": 1.0}
    )
    end_s = datetime(2026, 9, 3, tzinfo=UTC).timestamp()
    history = spend_history(ibis.memtable(rows), end_s, None, asked.budgets_by_tier, asked.budgets_by_team)
    told = [(each.kind, each.of, each.budget_usd_per_month, each.nearest) for each in project(history, end_s, asked).unknown_budgets]
    assert told == [("team", "serach", 3.0, "search"), ("team", "zebra", 2.0, None), ("tier", "premum", 5.0, "premium")]


def test_where_it_is_not_known_who_sends_requests_no_budget_is_called_unknown() -> None:
    asked = Parameters(budgets_by_team={"serach": 3.0}, budgets_by_tier={"premum": 5.0})
    assert budget_projection({None: {20_000: 1.0}}, 20_001 * DAY_S, asked).unknown_budgets == ()


def of_team(team: dict[int, float], end: date, budget: float) -> TeamProjection:
    """A team's projection beside half a year of spend of all."""
    whole = spend(date(2026, 4, 1), end)
    asked = Parameters(budgets_by_team={"a": budget})
    (found,) = project(history_of({None: whole, "a": team}, hours_of(whole), at(end), None), at(end), asked).teams
    return found


def test_a_team_that_began_weeks_ago_in_logs_of_months_goes_on() -> None:
    found = of_team(spend(date(2026, 9, 1), date(2026, 9, 21), weekend=100.0), date(2026, 9, 21), 2_500.0)
    for period in (found.month, found.quarter):
        assert isinstance(period.total_usd, Estimate)
        assert period.total_usd.low < 3_000.0 < period.total_usd.high, "nothing before it began, as much as now until the end"
    assert found.month.verdict == "over budget"


def test_a_first_try_long_before_a_team_began_tells_nothing_of_it() -> None:
    team = {day_of(date(2026, 5, 4)): 0.01} | spend(date(2026, 9, 1), date(2026, 9, 21), weekend=100.0)
    total = of_team(team, date(2026, 9, 21), 5_000.0).month.total_usd
    assert isinstance(total, Estimate)
    assert total.low < 3_000.0 < total.high < 3_500.0
    few = {day_of(date(2026, 5, 4)): 0.01} | spend(date(2026, 9, 14), date(2026, 9, 21))
    assert "14 complete days with spend after 14 or more silent ones, and the logs have 7" in str(
        of_team(few, date(2026, 9, 21), 1.0).month.total_usd
    )


def test_a_team_that_comes_and_goes_is_projected_as_often_as_it_comes() -> None:
    team = {day: usd for day, usd in spend(date(2026, 4, 1), date(2026, 9, 16), weekend=100.0).items() if day % 3 == 0}
    total = of_team(team, date(2026, 9, 16), 5_000.0).month.total_usd
    assert isinstance(total, Estimate)
    assert total.low < 1_000.0 < total.high
    assert total.high < 2_000.0


def test_a_team_that_has_stopped_is_not_taken_to_go_on() -> None:
    month = of_team(spend(date(2026, 4, 1), date(2026, 8, 10)), date(2026, 9, 21), 100.0).month
    assert month.verdict == "cannot tell"
    assert "nothing was spent on the last 42 complete days" in str(month.total_usd)


def test_how_many_days_are_lacking_is_told_of_the_team_and_not_of_all_logs() -> None:
    month = of_team({day_of(date(2026, 9, 20)): 50.0}, date(2026, 9, 21), 100.0).month
    assert "it needs 14 complete days with spend, and the logs have 1" in str(month.total_usd)


def test_a_month_that_the_logs_hold_whole_is_exact_on_however_few_days_something_was_spent() -> None:
    month = of_team(spend(date(2026, 9, 24), date(2026, 10, 1)), date(2026, 10, 1), 100.0).month
    assert isinstance(month.total_usd, Estimate)
    assert month.total_usd.low == month.total_usd.high == pytest.approx(month.observed_usd)
    assert (month.verdict, month.chance_over_budget) == ("over budget", 1.0)
