"""When the cost sensor speaks: its cursor matrix."""

from __future__ import annotations

from collections.abc import Callable
from datetime import UTC, datetime

import ibis
import pyarrow as pa
import pytest

from routing_pipeline.alerts import HOUR_S, SETTLE_S, HourlySpend, cost_spike, hourly_spend
from routing_pipeline.parameters import AlertThresholds

NOON = int(datetime(2026, 3, 30, 12, tzinfo=UTC).timestamp()) // HOUR_S
THRESHOLDS = AlertThresholds(cost_ratio=2.0, cost_floor_usd=5.0, baseline_weeks=4)


def history(
    until: int, *, hours: int = 24 * 30, usual: float = 10.0, changed: Callable[[int], float | None] = lambda _: None
) -> list[HourlySpend]:
    found = []
    for hour in range(until - hours + 1, until + 1):
        spend = changed(hour)
        found.append(HourlySpend(hour, usual if spend is None else spend, 100))
    return found


def after(hour: int) -> float:
    """A moment at which `hour` is over and settled."""
    return (hour + 1) * HOUR_S + SETTLE_S + 1.0


def spike_at(*hours: int, spend: float = 50.0) -> Callable[[int], float | None]:
    return lambda hour: spend if hour in hours else None


def test_the_first_look_at_usual_spend_starts_nothing() -> None:
    decision = cost_spike(history(NOON), THRESHOLDS, None, after(NOON))
    assert (decision.kind, decision.run_key) == ("quiet", None)
    assert (decision.spend_usd, decision.baseline_usd) == (10.0, 10.0)


def test_the_first_look_at_a_spike_starts_one_run_named_after_its_hour() -> None:
    decision = cost_spike(history(NOON, changed=spike_at(NOON)), THRESHOLDS, None, after(NOON))
    assert decision.run_key == "cost_spike:2026-03-30T12:00Z"
    assert "$50.00" in decision.reason
    assert "usually $10.00" in decision.reason


def test_a_second_look_at_the_same_hour_starts_nothing_more() -> None:
    spend = history(NOON, changed=spike_at(NOON))
    first = cost_spike(spend, THRESHOLDS, None, after(NOON))
    assert cost_spike(spend, THRESHOLDS, first.cursor, after(NOON)).run_key is None


def test_an_incident_that_goes_on_is_one_incident() -> None:
    first = cost_spike(history(NOON, changed=spike_at(NOON)), THRESHOLDS, None, after(NOON))
    later = cost_spike(history(NOON + 2, changed=spike_at(NOON, NOON + 1, NOON + 2)), THRESHOLDS, first.cursor, after(NOON + 2))
    assert later.run_key is None


def test_a_second_incident_after_quiet_hours_is_another_run() -> None:
    changed = spike_at(NOON, NOON + 8)
    first = cost_spike(history(NOON, changed=changed), THRESHOLDS, None, after(NOON))
    quiet = cost_spike(history(NOON + 5, changed=changed), THRESHOLDS, first.cursor, after(NOON + 5))
    second = cost_spike(history(NOON + 8, changed=changed), THRESHOLDS, quiet.cursor, after(NOON + 8))
    assert (quiet.run_key, second.run_key) == (None, "cost_spike:2026-03-30T20:00Z")


def test_an_hour_that_passed_between_two_looks_is_not_missed() -> None:
    first = cost_spike(history(NOON), THRESHOLDS, None, after(NOON))
    later = cost_spike(history(NOON + 5, changed=spike_at(NOON + 2)), THRESHOLDS, first.cursor, after(NOON + 5))
    assert later.run_key == "cost_spike:2026-03-30T14:00Z"


def test_an_hour_that_is_not_over_is_not_judged() -> None:
    spend = history(NOON, changed=spike_at(NOON))
    running = cost_spike(spend, THRESHOLDS, None, NOON * HOUR_S + 1800.0)
    assert running.run_key is None
    assert cost_spike(spend, THRESHOLDS, running.cursor, after(NOON)).run_key == "cost_spike:2026-03-30T12:00Z"


@pytest.mark.parametrize("cursor", ["garbage", "[]", '{"seen": "noon"}', '{"other": 1}', ""])
def test_a_cursor_that_cannot_be_read_counts_as_none(cursor: str) -> None:
    assert cost_spike(history(NOON, changed=spike_at(NOON)), THRESHOLDS, cursor, after(NOON)).run_key is not None


def test_a_failed_read_is_a_skip_and_keeps_the_cursor() -> None:
    first = cost_spike(history(NOON, changed=spike_at(NOON)), THRESHOLDS, None, after(NOON))
    failed = cost_spike(None, THRESHOLDS, first.cursor, after(NOON + 1))
    assert (failed.kind, failed.run_key, failed.cursor) == ("no data", None, first.cursor)


def test_an_empty_lake_is_a_skip() -> None:
    assert cost_spike([], THRESHOLDS, None, after(NOON)).kind == "no data"


def test_a_jump_below_the_floor_in_dollars_is_no_alert() -> None:
    spend = history(NOON, usual=0.1, changed=spike_at(NOON, spend=1.0))
    assert cost_spike(spend, THRESHOLDS, None, after(NOON)).run_key is None


def test_a_jump_below_the_ratio_is_no_alert() -> None:
    assert cost_spike(history(NOON, changed=spike_at(NOON, spend=19.0)), THRESHOLDS, None, after(NOON)).run_key is None


def test_spend_where_there_was_none_is_an_alert() -> None:
    nights = history(NOON, changed=lambda hour: 50.0 if hour == NOON else (0.0 if hour % 24 == NOON % 24 else None))
    assert cost_spike(nights, THRESHOLDS, None, after(NOON)).run_key is not None


def test_a_busy_hour_is_compared_with_the_same_hour_of_the_week() -> None:
    mondays = history(NOON, changed=lambda hour: 60.0 if (NOON - hour) % 168 == 0 else None)
    assert cost_spike(mondays, THRESHOLDS, None, after(NOON)).run_key is None


def test_one_odd_week_does_not_hide_a_spike() -> None:
    spend = history(NOON, changed=spike_at(NOON, NOON - 168))
    assert cost_spike(spend, THRESHOLDS, None, after(NOON)).run_key is not None


def test_less_than_a_week_of_history_falls_back_on_earlier_days_and_says_so() -> None:
    decision = cost_spike(history(NOON, hours=24 * 5, changed=spike_at(NOON)), THRESHOLDS, None, after(NOON))
    assert decision.run_key is not None
    assert "less than a week" in decision.reason


def test_no_history_is_no_baseline_and_no_alert() -> None:
    decision = cost_spike(history(NOON, hours=30, changed=spike_at(NOON)), THRESHOLDS, None, after(NOON))
    assert (decision.kind, decision.run_key) == ("no baseline", None)


def test_a_slow_rise_over_a_day_is_found_once() -> None:
    strict = AlertThresholds(cost_ratio=1.5, cost_floor_usd=100.0, baseline_weeks=4)
    changed = lambda hour: 16.0 if hour > NOON - 24 else None  # noqa: E731
    first = cost_spike(history(NOON, changed=changed), strict, None, after(NOON))
    assert first.run_key == "cost_spike_day:2026-03-30T12:00Z"
    second = cost_spike(history(NOON + 1, changed=changed), strict, first.cursor, after(NOON + 1))
    assert second.run_key is None


def test_a_feed_that_falls_silent_is_an_alert_once() -> None:
    spend = history(NOON)
    silent = cost_spike(spend, THRESHOLDS, None, after(NOON + 30))
    assert (silent.kind, silent.run_key) == ("silence", "silent_feed:2026-03-30T12:00Z")
    again = cost_spike(spend, THRESHOLDS, silent.cursor, after(NOON + 40))
    assert again.run_key is None
    back = cost_spike(history(NOON + 41), THRESHOLDS, again.cursor, after(NOON + 41))
    assert back.kind == "quiet"


FRIDAY_EVENING = int(datetime(2026, 3, 27, 17, tzinfo=UTC).timestamp()) // HOUR_S


def office_hours(until: int, weeks: int = 4) -> list[HourlySpend]:
    """Ten requests an hour, Monday to Friday, 09 to 18 UTC."""
    hours = [hour for hour in range(until - weeks * 168 + 1, until + 1) if (hour + 72) % 168 < 120 and 9 <= hour % 24 < 18]
    return [HourlySpend(hour, 1.0, 10) for hour in hours]


def test_a_quiet_weekend_is_no_silence() -> None:
    spend = office_hours(FRIDAY_EVENING)
    sunday_evening = after(FRIDAY_EVENING + 50)
    assert cost_spike(spend, THRESHOLDS, None, sunday_evening).kind != "silence"
    monday_morning = after(FRIDAY_EVENING + 66)
    assert cost_spike(spend, THRESHOLDS, None, monday_morning).kind != "silence"


def test_a_monday_without_traffic_is_silence_once_its_hours_are_overdue() -> None:
    tuesday_noon = after(FRIDAY_EVENING + 91)
    decision = cost_spike(office_hours(FRIDAY_EVENING), THRESHOLDS, None, tuesday_noon)
    assert (decision.kind, decision.run_key) == ("silence", "silent_feed:2026-03-27T17:00Z")
    prompt = THRESHOLDS.model_copy(update={"silent_hours": 2.0})
    monday_noon = after(FRIDAY_EVENING + 67)
    assert cost_spike(office_hours(FRIDAY_EVENING), prompt, None, monday_noon).kind == "silence"


def test_a_trickle_of_requests_falls_silent_only_when_enough_are_missing() -> None:
    trickle = [HourlySpend(hour, 0.1, 1) for hour in range(NOON - 24 * 28, NOON + 1, 24)]
    assert cost_spike(trickle, THRESHOLDS, None, after(NOON + 24 * 4)).kind != "silence"
    assert cost_spike(trickle, THRESHOLDS, None, after(NOON + 24 * 13)).kind == "silence"


def test_a_new_feed_falls_silent_against_its_mean_hour() -> None:
    assert cost_spike(history(NOON, hours=12), THRESHOLDS, None, after(NOON + 30)).kind == "silence"


def test_hourly_spend_sums_attempts_by_the_hour() -> None:
    rows = pa.table(
        {
            "started_at": pa.array(
                [datetime(2026, 3, 30, 12, 59, 59, 999999), datetime(2026, 3, 30, 12, 0), datetime(2026, 3, 30, 13, 0)], pa.timestamp("us")
            ),
            "cost_usd": pa.array([1.0, None, 4.0], pa.float64()),
        }
    )
    assert hourly_spend(ibis.memtable(rows)) == (HourlySpend(NOON, 1.0, 2), HourlySpend(NOON + 1, 4.0, 1))
