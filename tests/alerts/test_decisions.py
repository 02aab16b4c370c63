"""What stands out, what of it is news, what it is due to: the decisions behind the sensors."""

from __future__ import annotations

from collections.abc import Callable
from datetime import UTC, datetime

import ibis
import numpy as np
import pyarrow as pa
import pytest

from routing_pipeline.alerts.decisions import AlertDecision, cost_measure, cost_spike, latency_spike, quality_drop, silent_feed
from routing_pipeline.alerts.detection import detect
from routing_pipeline.alerts.incidents import Memory, remembered
from routing_pipeline.alerts.log_lag import AGAIN_AFTER_S, UnreadObjects, new_logs
from routing_pipeline.alerts.series import WHOLE, HourlySums, Series
from routing_pipeline.alerts.watermark import complete_until, watermark_s
from routing_pipeline.clock import HOURS_PER_WEEK, SECONDS_PER_HOUR
from routing_pipeline.parameters import AlertThresholds
from tests.alerts.from_rows import attribution, costs, hourly_sums, log_latencies

NOON = int(datetime(2026, 3, 30, 12, tzinfo=UTC).timestamp()) // SECONDS_PER_HOUR
THRESHOLDS = AlertThresholds(cost_ratio=1.5, cost_floor_usd=5.0, baseline_weeks=4)
WEEKS = 6
SERIES = (WHOLE, Series("team", "a"), Series("team", "b"), Series("model", "x"), Series("model", "y"))
TEAM, MODEL = {"a": 0.7, "b": 0.3}, {"x": 0.5, "y": 0.5}

Change = Callable[[int, str, str], float]


def spend(
    until: int = NOON, change: Change = lambda *_: 1.0, *, hours: int = WEEKS * HOURS_PER_WEEK, requests: float = 400.0, each: float = 0.1
) -> HourlySums:
    """Hours up to `until`, every request at the same price; `change` multiplies requests of an hour, team and model."""
    rng = np.random.default_rng(7)
    noise = np.exp(rng.normal(0, 0.05, hours))
    first = until - hours + 1
    count = np.zeros((len(SERIES), hours))
    for place in range(hours):
        for team, of_team in TEAM.items():
            for model, of_model in MODEL.items():
                n = requests * noise[place] * of_team * of_model * change(first + place, team, model)
                for row in (0, 1 + list(TEAM).index(team), 3 + list(MODEL).index(model)):
                    count[row, place] += n
    return HourlySums(first, SERIES, count, count * each, count * each**2)


def when(*hours: int, times: float, team: str = "ab", model: str = "xy") -> Change:
    return lambda hour, of_team, of_model: times if hour in hours and of_team in team and of_model in model else 1.0


def judged(sums: HourlySums, cursor: str | None = None, until: int = NOON, thresholds: AlertThresholds = THRESHOLDS) -> AlertDecision:
    return cost_spike(sums, thresholds, cursor, until + 1)


def test_the_first_look_at_usual_spend_starts_nothing_and_says_what_is_usual() -> None:
    decision = judged(spend())
    assert (decision.kind, decision.run_key) == ("quiet", None)
    assert "usually $" in decision.reason


def test_the_first_look_at_a_spike_starts_one_run_named_after_its_hour() -> None:
    decision = judged(spend(change=when(NOON, times=5)))
    assert decision.run_key == "cost_spike:2026-03-30T12:00Z"
    assert "spend in the hour 2026-03-30T12:00Z" in decision.reason


def test_a_second_look_at_the_same_hours_starts_nothing_more() -> None:
    sums = spend(change=when(NOON, times=5))
    again = judged(sums, judged(sums).cursor)
    assert (again.kind, again.run_key) == ("quiet", None)


def test_an_incident_that_goes_on_is_one_incident_and_one_after_it_another() -> None:
    hours = (NOON, NOON + 1, NOON + 2, NOON + 60)
    first = judged(spend(NOON, when(*hours, times=5)))
    later = judged(spend(NOON + 2, when(*hours, times=5)), first.cursor, NOON + 2)
    assert later.run_key is None
    other = judged(spend(NOON + 60, when(*hours, times=5)), later.cursor, NOON + 60)
    assert other.run_key == "cost_spike:2026-04-02T00:00Z"


def test_an_incident_that_grows_by_half_is_told_again_and_says_so() -> None:
    grows = lambda hour, *_: {NOON: 3.0, NOON + 1: 3.5, NOON + 2: 6.0}.get(hour, 1.0)  # noqa: E731
    first = judged(spend(NOON, grows))
    second = judged(spend(NOON + 1, grows), first.cursor, NOON + 1)
    assert second.run_key is None
    third = judged(spend(NOON + 2, grows), second.cursor, NOON + 2)
    assert third.run_key == "cost_spike:2026-03-30T12:00Z:2"
    assert "larger than when first reported" in third.reason


def test_hours_missed_between_two_looks_are_judged() -> None:
    decision = judged(spend(NOON + 10, when(NOON + 3, times=5)), Memory(seen=NOON).model_dump_json(), NOON + 10)
    assert decision.run_key == "cost_spike:2026-03-30T15:00Z"


@pytest.mark.parametrize("cursor", [None, "", "garbage", '{"seen": "x"}', '{"other": 1}', "[]"])
def test_an_unreadable_cursor_is_none(cursor: str | None) -> None:
    assert remembered(cursor) == Memory()
    assert judged(spend(change=when(NOON, times=5)), cursor).run_key is not None


def test_no_sums_are_no_spend_of_zero_and_keep_the_cursor() -> None:
    decision = cost_spike(None, THRESHOLDS, Memory(seen=3).model_dump_json(), NOON)
    assert (decision.kind, decision.run_key, remembered(decision.cursor).seen) == ("no data", None, 3)


def test_a_jump_below_the_floor_or_the_ratio_is_no_alert() -> None:
    assert judged(spend(change=when(NOON, times=5), each=0.001)).run_key is None
    assert judged(spend(change=when(NOON, times=1.4))).run_key is None


def test_one_dear_request_is_no_spike() -> None:
    sums = spend()
    for row in (0, 1, 3):
        sums.total[row, -1] += 200.0
        sums.squares[row, -1] += 200.0**2
    assert judged(sums).run_key is None


def test_a_spike_of_a_small_team_is_found_in_its_own_series() -> None:
    decision = judged(spend(change=when(NOON, times=3, team="b")), thresholds=AlertThresholds(cost_ratio=2.0))
    assert (decision.dimension, decision.value) == ("team", "b")
    assert "team 'b'" in decision.reason


def test_spend_that_moved_from_one_model_to_another_is_no_spike() -> None:
    moved = lambda hour, _, model: 1.0 if hour < NOON else {"x": 0.0, "y": 2.0}[model]  # noqa: E731
    assert judged(spend(change=moved)).run_key is None


def test_a_busy_hour_of_every_week_is_usual() -> None:
    mondays = lambda hour, *_: 6.0 if (NOON - hour) % HOURS_PER_WEEK == 0 else 1.0  # noqa: E731
    assert judged(spend(change=mondays)).run_key is None


def test_neither_an_odd_week_nor_two_silent_ones_change_what_is_usual() -> None:
    assert judged(spend(change=lambda hour, *_: 5.0 if hour in (NOON, NOON - HOURS_PER_WEEK) else 1.0)).run_key is not None
    silent = {NOON - HOURS_PER_WEEK, NOON - 2 * HOURS_PER_WEEK}
    assert judged(spend(change=lambda hour, *_: 0.0 if hour in silent else 1.0)).run_key is None


def test_where_no_week_came_before_days_stand_in_and_are_said_to() -> None:
    first_week, later = (detect(spend(hours=hours), cost_measure(THRESHOLDS), 4, 1.0) for hours in (6 * 24, WEEKS * HOURS_PER_WEEK))
    assert first_week.is_tested[0, 0, -1]
    assert first_week.by_days[0, 0, -1]
    assert later.is_tested[0, 0, -1]
    assert not later.by_days[0, 0, -1]


def test_a_rise_that_lasts_becomes_usual() -> None:
    assert (
        judged(spend(change=lambda hour, *_: 1.25 if hour > NOON - 200 else 1.0), thresholds=AlertThresholds(cost_ratio=1.2)).run_key
        is None
    )


def test_a_rise_too_small_for_an_hour_is_found_over_a_day() -> None:
    few = spend(change=lambda hour, *_: 1.7 if hour > NOON - 24 else 1.0, requests=12, each=1.0)
    decision = judged(few, Memory(seen=NOON - 23).model_dump_json())
    assert decision.run_key is not None
    assert "hours to" in decision.reason


def test_days_stand_in_for_weeks_and_less_than_three_are_no_baseline() -> None:
    assert judged(spend(change=when(NOON, times=5), hours=24 * 5)).run_key is not None
    assert judged(spend(change=when(NOON, times=5), hours=30)).kind == "no baseline"


def test_an_hour_of_few_requests_after_five_days_is_not_put_down_to_a_short_history() -> None:
    assert "less than three days" in judged(spend(hours=30)).reason
    assert "too few requests in the hour" in judged(spend(hours=24 * 5, requests=4)).reason


def test_chance_over_many_series_speaks_no_more_often_than_asked() -> None:
    rng = np.random.default_rng(3)
    hours = 12 * HOURS_PER_WEEK
    count = rng.poisson(60, (30, hours)).astype(float)
    total = rng.gamma(count, 0.1)
    sums = HourlySums(
        NOON - hours + 1, (WHOLE, *(Series("task", str(n)) for n in range(29))), count, total, 2 * total**2 / np.maximum(count, 1)
    )
    from routing_pipeline.alerts.decisions import cost_measure
    from routing_pipeline.alerts.detection import detect

    loose = cost_measure(AlertThresholds(cost_ratio=1.01, cost_floor_usd=0.0))
    alarming = detect(sums, loose, 4, 1.0).is_alarm[:, :, 6 * HOURS_PER_WEEK :].any(axis=(0, 1)).mean()
    assert alarming * 730 < 4  # asked for one a month; a few because hours of one window alarm together


def log_latency(until: int, factor: float, model: str) -> HourlySums:
    sums = spend(until)
    log_ms = np.full(sums.count.shape, np.log(1000.0))
    log_ms[SERIES.index(Series("model", model)), -1] += np.log(factor)
    log_ms[:3, -1] += np.log(factor) / 2
    return HourlySums(sums.first_hour, SERIES, sums.count, sums.count * log_ms, sums.count * (log_ms**2 + 0.25))


def test_a_model_that_became_slow_is_named_with_milliseconds() -> None:
    decision = latency_spike(log_latency(NOON, 2.0, "y"), THRESHOLDS, None, NOON + 1)
    assert decision.run_key == "latency_spike:2026-03-30T12:00Z"
    assert "1,000 ms" in decision.reason
    assert latency_spike(log_latency(NOON, 1.1, "y"), THRESHOLDS, None, NOON + 1).run_key is None


def shares(mean: float, now: float) -> HourlySums:
    sums = spend()
    value = np.full(sums.count.shape, mean)
    value[:, -1] = now
    return HourlySums(sums.first_hour, SERIES, sums.count, sums.count * value, sums.count * (value**2 + 0.02))


def test_a_fall_of_quality_and_a_rise_of_failures_alarm_and_scores_are_not_needed() -> None:
    fine, failing = shares(0.01, 0.01), shares(0.01, 0.3)
    worse = quality_drop(shares(0.9, 0.7), fine, THRESHOLDS, None, NOON + 1)
    assert worse.run_key is not None
    assert "quality in the hour" in worse.reason
    assert quality_drop(shares(0.7, 0.9), fine, THRESHOLDS, None, NOON + 1).run_key is None
    assert "failed attempts" in quality_drop(None, failing, THRESHOLDS, None, NOON + 1).reason
    assert quality_drop(None, None, THRESHOLDS, None, NOON + 1).kind == "no data"


def test_a_measure_that_is_known_since_yesterday_is_told_to_be_unwatched_while_others_are_compared() -> None:
    # As where trusted scores of a new source take the place of those that came before.
    scores, fine = shares(0.9, 0.7), shares(0.01, 0.01)
    known = np.arange(scores.hours) >= scores.hours - 24
    young = HourlySums(scores.first_hour, SERIES, scores.count * known, scores.total * known, scores.squares * known)
    decision = quality_drop(young, fine, THRESHOLDS, None, NOON + 1)
    assert decision.run_key is None
    assert "failed attempts in the hour" in decision.reason
    assert "quality is known only since 2026-03-29T13:00Z, too little for a comparison" in decision.reason


def quiet(*, team: str = "ab", since: int, until: int = NOON, office: bool = False) -> HourlySums:
    open_at = lambda hour: not office or ((hour + 72) % 168 < 120 and 9 <= hour % 24 < 18)  # noqa: E731
    return spend(until, lambda hour, of, _: 0.0 if (hour >= since and of in team) or not open_at(hour) else 1.0)


def test_a_feed_that_falls_silent_is_told_once_and_told_again_after_it_spoke() -> None:
    first = silent_feed(quiet(since=NOON), THRESHOLDS, None, NOON + 1, 0.0)
    assert (first.kind, first.value) == ("alert", "")
    again = silent_feed(quiet(since=NOON, until=NOON + 5), THRESHOLDS, first.cursor, NOON + 6, 0.0)
    assert (again.kind, again.run_key) == ("quiet", None)
    back = silent_feed(quiet(since=NOON + 9, until=NOON + 8), THRESHOLDS, again.cursor, NOON + 9, 0.0)
    assert back.kind == "quiet"
    assert silent_feed(quiet(since=NOON + 9, until=NOON + 9), THRESHOLDS, back.cursor, NOON + 10, 0.0).kind == "alert"


def test_the_silence_of_a_team_is_its_own_and_that_of_all_is_told_besides() -> None:
    team = silent_feed(quiet(since=NOON, team="b"), THRESHOLDS, None, NOON + 1, 0.0)
    assert (team.dimension, team.value) == ("team", "b")
    everybody = silent_feed(quiet(since=NOON - 1), THRESHOLDS, team.cursor, NOON + 1, 0.0)
    assert everybody.dimension == "all"
    assert everybody.run_key != team.run_key


def test_a_weekend_without_traffic_is_no_silence_and_a_monday_without_is() -> None:
    friday = int(datetime(2026, 3, 27, 18, tzinfo=UTC).timestamp()) // SECONDS_PER_HOUR
    assert silent_feed(quiet(since=friday, until=friday + 48, office=True), THRESHOLDS, None, friday + 49, 0.0).kind == "quiet"
    assert silent_feed(quiet(since=friday, until=NOON, office=True), THRESHOLDS, None, NOON + 1, 0.0).kind == "alert"


def test_a_night_of_the_first_week_is_no_silence_where_the_night_before_was_one() -> None:
    opened = int(datetime(2026, 3, 30, 9, tzinfo=UTC).timestamp()) // SECONDS_PER_HOUR
    for hours, kind in ((24 + 15, "quiet"), (48 + 3, "alert")):
        count = np.array([[200.0 if place % 24 < 9 and place < 48 else 0.0 for place in range(hours)]])
        sums = HourlySums(opened, (WHOLE,), count, count, count)
        assert silent_feed(sums, THRESHOLDS, None, opened + hours, 0.0).kind == kind


def test_where_nobody_reads_logs_the_clock_decides() -> None:
    sums = quiet(since=NOON + 1)
    prompt = silent_feed(sums, THRESHOLDS, None, NOON + 1, (NOON + 10) * SECONDS_PER_HOUR)
    assert prompt.kind == "quiet"
    late = silent_feed(sums, THRESHOLDS, None, NOON + 1, (NOON + 40) * SECONDS_PER_HOUR)
    assert late.kind == "alert"


@pytest.mark.parametrize(
    ("committed", "looked", "sources", "mark"),
    [
        ({}, {}, (), None),
        ({"a": 10.0, "b": 20.0}, {}, ("a", "b"), 20.0),
        ({"a": 10.0}, {"a": 30.0}, ("a",), 30.0),
        ({"a": 10.0, "b": 20.0}, {"a": 30.0}, ("a", "b"), 20.0),
        ({"a": 10.0, "b": 20.0}, {"a": 30.0, "b": 15.0}, ("a", "b"), 20.0),
    ],
)
def test_the_lake_is_as_complete_as_the_source_read_least_recently(
    committed: dict[str, float], looked: dict[str, float], sources: tuple[str, ...], mark: float | None
) -> None:
    assert watermark_s(committed, looked, sources) == mark


def test_an_hour_is_complete_once_it_was_held_back() -> None:
    assert complete_until(10 * SECONDS_PER_HOUR + 1_799, 1_800) == 9
    assert complete_until(10 * SECONDS_PER_HOUR + 1_800, 1_800) == 10


def test_unread_objects_are_asked_for_once_and_again_after_a_growing_wait() -> None:
    unread = [UnreadObjects(count=1, digest="k")]
    first = new_logs(unread, None, 1_000.0)
    assert first.run_key is not None
    assert new_logs(unread, first.cursor, 1_060.0).run_key is None
    second = new_logs(unread, first.cursor, 1_000.0 + AGAIN_AFTER_S)
    assert second.run_key not in {None, first.run_key}
    assert new_logs(unread, second.cursor, 1_000.0 + 2.5 * AGAIN_AFTER_S).run_key is None
    assert new_logs([UnreadObjects(count=2, digest="kl")], second.cursor, 1_000.0 + 2.5 * AGAIN_AFTER_S).run_key is not None
    assert new_logs([], first.cursor, 2_000.0).run_key is None


def test_unread_objects_are_asked_for_though_the_clock_ran_ahead_when_they_were_asked_for_last() -> None:
    unread = [UnreadObjects(count=1, digest="k")]
    ahead = new_logs(unread, None, 9e9)
    again = new_logs(unread, ahead.cursor, 1_000.0)
    assert again.run_key not in {None, ahead.run_key}
    assert new_logs(unread, again.cursor, 1_060.0).run_key is None


def rows_of(hours: list[tuple[int, str, float, int, int]]) -> ibis.Table:
    """One attempt each: hour, team, cost, prompt tokens, cached tokens."""
    return ibis.memtable(
        pa.table(
            {
                "started_at": pa.array(
                    [datetime.fromtimestamp(hour * SECONDS_PER_HOUR + 5, UTC).replace(tzinfo=None) for hour, *_ in hours],
                    pa.timestamp("us"),
                ),
                "team": [team for _, team, *_ in hours],
                "task_type": ["answer"] * len(hours),
                "model": ["m"] * len(hours),
                "routing_rule_id": pa.array([None] * len(hours), pa.string()),
                "cost_usd": [cost for _, _, cost, *_ in hours],
                "prompt_tokens": [tokens for *_, tokens, _ in hours],
                "completion_tokens": [0] * len(hours),
                "cached_tokens": [cached for *_, cached in hours],
            }
        )
    )


@pytest.mark.parametrize(
    ("now", "factor"),
    [
        ([("a", 1.0, 100, 0)] * 4 + [("b", 1.0, 100, 0)] * 4, "volume"),
        ([("a", 2.0, 200, 0)] * 2 + [("b", 1.0, 100, 0)] * 2, "tokens"),
        ([("a", 2.0, 100, 0)] * 2 + [("b", 1.0, 100, 0)] * 2, "price"),
    ],
)
def test_a_change_is_taken_apart_and_the_parts_add_up(now: list[tuple[str, float, int, int]], factor: str) -> None:
    before = [(NOON - HOURS_PER_WEEK * week, team, 1.0, 100, 0) for week in (1, 2) for team in "aabb"]
    rows = rows_of([*before, *((NOON, *each) for each in now)])
    found = attribution(costs(rows), NOON * SECONDS_PER_HOUR, (NOON + 1) * SECONDS_PER_HOUR, 4, is_sum=True)
    assert found is not None
    assert found.change == pytest.approx(sum(each[1] for each in now) - 4.0)
    assert sum(found.effects.values()) == pytest.approx(found.change)
    assert max(found.effects, key=lambda name: found.effects[name]) == factor


def test_a_cache_that_went_cold_is_called_by_its_name() -> None:
    before = [(NOON - HOURS_PER_WEEK, "a", 0.1, 1000, 900)] * 10
    found = attribution(
        costs(rows_of([*before, *[(NOON, "a", 0.526, 1000, 0)] * 10])),
        NOON * SECONDS_PER_HOUR,
        (NOON + 1) * SECONDS_PER_HOUR,
        4,
        is_sum=True,
    )
    assert found is not None
    assert found.effects["cache"] == pytest.approx(found.change, rel=0.01)
    assert "cache 100 %" in found.sentences()[0]


def slow_rows(latencies: list[tuple[int, str, float]]) -> ibis.Table:
    """Successes: hour, team, milliseconds."""
    rows = rows_of([(hour, team, 1.0, 100, 0) for hour, team, _ in latencies]).to_pyarrow()
    rows = rows.append_column("status", pa.array(["success"] * len(latencies)))
    return ibis.memtable(rows.append_column("latency_ms", pa.array([ms for *_, ms in latencies])))


def test_slowness_is_that_of_a_team_that_was_not_there_before_and_not_of_the_few_calls_that_were() -> None:
    before = [(NOON - HOURS_PER_WEEK * week, "support", 1_500.0 + 10 * number) for week in (1, 2, 3) for number in range(20)]
    now = [(NOON, "support", 1_510.0 + 10 * number) for number in range(20)] + [(NOON, "growth", 6_000.0)] * 396
    found = attribution(log_latencies(slow_rows(before + now)), NOON * SECONDS_PER_HOUR, (NOON + 1) * SECONDS_PER_HOUR, 4, is_sum=False)
    assert found is not None
    [share] = [each for each in found.shares if each.dimension == "team"]
    assert (share.value, share.calls, share.usual_calls, share.usual) == ("growth", 396.0, 0.0, None)
    assert share.share > 0.99
    assert share.now == pytest.approx(np.log(6_000.0))


def test_who_is_named_only_because_most_calls_are_his_is_told_with_his_part_of_the_calls() -> None:
    before = [(NOON - HOURS_PER_WEEK, team, 1_000.0) for team in "aab" for _ in range(20)]
    alike = [(NOON, team, 3_000.0) for team in "aab" for _ in range(20)]
    one = [(NOON, team, 3_000.0 if team == "b" else 1_000.0) for team in "aab" for _ in range(20)]
    for now, said in ((alike, "team 'a' (67 %, with 67 % of the calls)"), (one, "team 'b' (100 %)")):
        found = attribution(log_latencies(slow_rows(before + now)), NOON * SECONDS_PER_HOUR, (NOON + 1) * SECONDS_PER_HOUR, 4, is_sum=False)
        assert found is not None
        assert said in found.sentences()[-1]


def test_slowness_of_a_team_itself_and_of_a_slow_team_that_grew_are_both_found() -> None:
    before = [(NOON - HOURS_PER_WEEK, team, 1_000.0 if team == "a" else 4_000.0) for team in "ab" for _ in range(50)]
    itself = [(NOON, "a", 3_000.0)] * 50 + [(NOON, "b", 4_000.0)] * 50
    grew = [(NOON, "a", 1_000.0)] * 50 + [(NOON, "b", 4_000.0)] * 450
    for now, team in ((itself, "a"), (grew, "b")):
        found = attribution(log_latencies(slow_rows(before + now)), NOON * SECONDS_PER_HOUR, (NOON + 1) * SECONDS_PER_HOUR, 4, is_sum=False)
        assert found is not None
        assert found.shares[0].value == team


def test_without_an_earlier_week_nothing_is_attributed() -> None:
    assert (
        attribution(costs(rows_of([(NOON, "a", 1.0, 1, 0)])), NOON * SECONDS_PER_HOUR, (NOON + 1) * SECONDS_PER_HOUR, 4, is_sum=True)
        is None
    )


def test_hourly_sums_hold_the_whole_first_and_every_hour_between() -> None:
    rows = rows_of([(NOON, "a", 1.0, 1, 0), (NOON, "b", 3.0, 1, 0), (NOON + 2, "a", 2.0, 1, 0)])
    sums = hourly_sums(costs(rows), NOON - 5, NOON + 4)
    assert sums is not None
    assert (sums.first_hour, sums.end_hour) == (NOON, NOON + 4)
    assert sums.series == (WHOLE, Series("team", "a"), Series("team", "b"))
    assert sums.total.tolist() == [[4.0, 0.0, 2.0, 0.0], [1.0, 0.0, 2.0, 0.0], [3.0, 0.0, 0.0, 0.0]]
    assert sums.squares[0].tolist() == [10.0, 0.0, 4.0, 0.0]
    assert hourly_sums(costs(rows), NOON + 10, NOON + 20) is None
