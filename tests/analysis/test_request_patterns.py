"""Kinds of request, the week's rhythm, complexity, and drift, against what was planted."""

from __future__ import annotations

from typing import Any

import pytest

from routing_pipeline.analysis.request_patterns import MAX_LISTED, RequestPatterns, request_patterns
from routing_pipeline.demo import traffic
from routing_pipeline.estimates import Estimate, Unidentifiable

DAY, HOUR = 86_400, 3_600


@pytest.fixture
def patterns(hand_made: Any, hand_made_scope: Any) -> Any:
    def of(rows: list[dict[str, Any]], previous: list[dict[str, Any]] | None = None, days: float = 7.0) -> RequestPatterns:
        return request_patterns(hand_made(rows), hand_made(previous or []), hand_made_scope(days))

    return of


@pytest.fixture(scope="module")
def found(week: Any) -> RequestPatterns:
    return request_patterns(week.requests, week.previous, week.scope)


def hourly(counts: list[int], first_hour: int = 0, **values: Any) -> list[dict[str, Any]]:
    """counts[i] requests in hour first_hour + i after the Monday."""
    return [{"at_s": (first_hour + hour) * HOUR + number} | values for hour, count in enumerate(counts) for number in range(count)]


def test_kinds_are_cut_by_task_length_and_complexity_and_their_shares_add_up(patterns: Any) -> None:
    rows = [
        {"task_type": "chat", "prompt_tokens": 499, "complexity": 0.29, "cost_usd": 0.01},
        {"task_type": "chat", "prompt_tokens": 100, "complexity": 0.0, "cost_usd": 0.01},
        {"task_type": "chat", "prompt_tokens": 500, "complexity": 0.3, "cost_usd": 0.02},
        {"task_type": "code", "prompt_tokens": 8000, "complexity": 1.0, "cost_usd": 0.06},
        {"task_type": "code", "prompt_tokens": None, "complexity": None, "cost_usd": None},
        {"task_type": "code", "prompt_tokens": 8000, "complexity": 1.0, "is_final": False},
    ]
    kinds = patterns(rows).kinds
    assert [(kind.task_type, kind.length, kind.complexity, kind.requests) for kind in kinds] == [
        ("chat", "0 to 500 tokens", "0 to 0.3", 2),
        ("chat", "500 to 2,000 tokens", "0.3 to 0.7", 1),
        ("code", "8,000 tokens and more", "0.7 to 1", 1),
        ("code", "not logged", "not logged", 1),
    ]
    assert [kind.share for kind in kinds] == pytest.approx([0.4, 0.2, 0.2, 0.2])
    assert [kind.cost_share for kind in kinds][:3] == pytest.approx([0.2, 0.2, 0.6])
    assert isinstance(kinds[3].cost_usd, Unidentifiable)


def test_the_made_up_week_is_busy_in_office_hours_on_weekdays(found: RequestPatterns) -> None:
    assert set(found.peaks.peak_hours) <= set(range(8, 18))
    assert len(found.peaks.peak_hours) >= 7
    assert {day.name for day in found.peaks.days[-2:]} == {"Saturday", "Sunday"}
    # Weekends were drawn at 0.30 of a weekday.
    assert found.peaks.days[-1].per_hour / found.peaks.days[0].per_hour == pytest.approx(0.30, abs=0.04)
    assert found.peaks.busiest_hour is not None
    assert 8 <= found.peaks.busiest_hour.hour < 18
    assert isinstance(found.peaks.peak_to_mean, float)
    assert 2.2 < found.peaks.peak_to_mean < 3.2


def test_the_heat_map_has_every_hour_of_the_week_and_every_request(found: RequestPatterns) -> None:
    assert [cell.hour_of_week for cell in found.heat_map] == list(range(168))
    assert sum(cell.requests for cell in found.heat_map) == found.requests == 20_000
    assert found.heat_map[11].per_hour > 5 * found.heat_map[2].per_hour


def test_an_hour_of_the_week_that_was_never_seen_is_not_quiet(patterns: Any) -> None:
    heat_map = patterns(hourly([5, 0, 5]), days=0.125).heat_map
    assert [heat_map[hour].per_hour for hour in range(3)] == [5.0, 0.0, 5.0]
    assert isinstance(heat_map[3].per_hour, Unidentifiable)
    assert "7d or more" in heat_map[3].per_hour.unidentifiable


def test_a_part_of_an_hour_counts_as_a_part(patterns: Any) -> None:
    heat_map = patterns(hourly([6, 3]), days=1.5 / 24).heat_map
    assert heat_map[1].covered == pytest.approx(0.5)
    assert heat_map[1].per_hour == pytest.approx(6.0)


def test_a_pure_daily_rhythm_has_full_strength_and_noise_has_none(patterns: Any) -> None:
    rhythm = [10 if hour % 24 in range(9, 17) else 1 for hour in range(7 * 24)]
    assert patterns(hourly(rhythm)).seasonality.daily_strength == pytest.approx(1.0)
    scrambled = [1 + (hour * 7919) % 13 for hour in range(7 * 24)]
    assert patterns(hourly(scrambled)).seasonality.daily_strength < 0.1


def test_a_weekly_rhythm_needs_two_weeks_and_is_told_apart_from_the_daily_one(patterns: Any) -> None:
    def week(first_hour: int) -> list[dict[str, Any]]:
        return hourly([(8 if hour % 24 in range(9, 17) else 2) if hour < 120 else 2 for hour in range(168)], first_hour)

    one = patterns(week(0)).seasonality
    assert isinstance(one.weekly_strength, Unidentifiable)
    assert "at least 14" in one.weekly_strength.unidentifiable
    two = patterns(week(0), week(-168)).seasonality
    assert two.days == pytest.approx(14.0)
    assert two.weekly_strength == pytest.approx(1.0)
    assert 0.3 < two.daily_strength < 0.9
    daily_only = [8 if hour % 24 in range(9, 17) else 2 for hour in range(168)]
    without = patterns(hourly(daily_only), hourly(daily_only, -168)).seasonality
    assert isinstance(without.weekly_strength, Unidentifiable)
    assert "nothing left to explain" in without.weekly_strength.unidentifiable


def test_complexity_is_counted_in_tenths_and_one_belongs_to_the_last(patterns: Any) -> None:
    rows = [{"complexity": value} for value in (0.0, 0.05, 0.3, 0.7, 0.99, 1.0)] + [{"complexity": None}]
    complexity = patterns(rows).complexity
    assert [each.requests for each in complexity.bins] == [2, 0, 0, 1, 0, 0, 0, 1, 0, 2]
    assert (complexity.requests, complexity.unknown) == (6, 1)
    assert complexity.tasks[0].hard_share == pytest.approx(0.5)
    assert isinstance(complexity.mean, Estimate)
    assert complexity.mean.estimate == pytest.approx(3.04 / 6)


def test_the_made_up_tasks_are_as_hard_as_they_were_drawn(found: RequestPatterns) -> None:
    by_task = {each.task_type: each for each in found.complexity.tasks}
    for task in traffic.TASKS:
        a, b = task.difficulty
        mean = by_task[task.name].mean
        assert isinstance(mean, Estimate)
        # Mean of a beta distribution; three standard errors, because eight means are looked at.
        assert abs(mean.estimate - a / (a + b)) < 1.5 * (mean.high - mean.low) / 2 + 5e-4


def test_without_a_window_before_drift_cannot_be_told(patterns: Any) -> None:
    drift = patterns(hourly([10] * 24)).drift
    assert isinstance(drift, Unidentifiable)
    assert "0 requests in the previous window" in drift.unidentifiable


def test_the_same_mix_is_stable_and_a_new_one_is_found_with_what_moved(patterns: Any) -> None:
    def mix(chat: int, code: int, first_hour: int) -> list[dict[str, Any]]:
        return hourly([1] * chat, first_hour, task_type="chat") + hourly([1] * code, first_hour, task_type="code")

    same = {each.dimension: each for each in patterns(mix(120, 80, 0), mix(115, 85, -168)).drift}
    assert same["task_type"].verdict == "stable"
    assert same["task_type"].population_stability_index < 0.1
    moved = {each.dimension: each for each in patterns(mix(50, 150, 0), mix(150, 50, -160)).drift}
    task = moved["task_type"]
    assert task.verdict == "shifted much"
    # (3/4 - 1/4) ln 3 twice, and the divergence of (1/4, 3/4) from its mirror image to base 2.
    assert task.population_stability_index == pytest.approx(1.0986, rel=0.02)
    assert task.jensen_shannon == pytest.approx(0.18872, rel=1e-3)
    assert {mover.name for mover in task.movers} == {"chat", "code"}
    assert (task.movers[0].previous_share, task.movers[0].share) in {(0.75, 0.25), (0.25, 0.75)}
    assert moved["model"].verdict == "cannot tell"
    assert isinstance(moved["model"].p_value, Unidentifiable)


def test_a_large_shift_of_few_requests_is_not_called_one(patterns: Any) -> None:
    rows = hourly([1] * 100, 0, task_type="chat") + hourly([1] * 3, 100, task_type="odd")
    drift = {each.dimension: each for each in patterns(rows, hourly([1] * 100, -168, task_type="chat")).drift}
    assert drift["task_type"].verdict in {"stable", "cannot tell"}


def test_complexity_that_was_derived_cannot_drift(patterns: Any) -> None:
    rows = hourly([1] * 150, 0, is_complexity_derived=True, complexity=0.1)
    before = hourly([1] * 150, -168, is_complexity_derived=True, complexity=0.9)
    drift = {each.dimension: each for each in patterns(rows, before).drift}
    assert drift["complexity"].verdict == "cannot tell"
    assert "rank within the window" in drift["complexity"].p_value.unidentifiable


def test_no_rows_give_no_numbers_and_no_exception(patterns: Any) -> None:
    nothing = patterns([])
    assert (nothing.requests, nothing.kinds, nothing.peaks.hours, nothing.complexity.bins) == (0, (), (), ())
    assert isinstance(nothing.peaks.peak_to_mean, Unidentifiable)
    assert isinstance(nothing.seasonality.daily_strength, Unidentifiable)
    assert RequestPatterns.model_validate_json(nothing.model_dump_json()) == nothing


def test_one_hour_of_traffic_has_no_peak_and_no_rhythm(patterns: Any) -> None:
    one = patterns(hourly([20]), days=1 / 24)
    assert isinstance(one.peaks.peak_to_mean, Unidentifiable)
    assert one.peaks.days == ()
    assert isinstance(one.seasonality.daily_strength, Unidentifiable)


def test_rare_kinds_are_counted_and_not_listed(patterns: Any) -> None:
    result = patterns(
        [{"task_type": f"<script>{number:03}"} for number in range(70)] + [{"task_type": f"<script>{number:03}"} for number in range(60)]
    )
    assert len(result.kinds) == MAX_LISTED
    assert (result.kinds_not_listed, result.requests_not_listed) == (20, 30)
