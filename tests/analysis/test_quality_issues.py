"""Poor answers, mismatches, incompatible pairs and degradation: planted and found, absent and not found."""

from __future__ import annotations

from datetime import timedelta
from typing import Any

import numpy as np
import pytest

from routing_pipeline.analysis.quality_issues import QualityIssues, quality_issues
from routing_pipeline.demo import traffic
from routing_pipeline.estimates import Unidentifiable
from routing_pipeline.parameters import Parameters

HOUR, DAY = 3_600, 86_400


@pytest.fixture
def issues(hand_made: Any, hand_made_scope: Any, nothing_known: Any) -> Any:
    def of(rows: list[dict[str, Any]], evidence: Any = None, days: float = 7.0, **asked: Any) -> QualityIssues:
        return quality_issues(hand_made(rows), hand_made_scope(days, Parameters(**asked)), evidence or nothing_known)

    return of


@pytest.fixture(scope="module")
def demo(week: Any, true_evidence: Any) -> QualityIssues:
    return quality_issues(week.requests, week.scope, true_evidence)


def scored(n: int, seed: int, mean: float = 0.85, *, days: float = 7.0, **values: Any) -> list[dict[str, Any]]:
    """n scored answers spread evenly over the window."""
    rng = np.random.default_rng(seed)
    return [
        {"at_s": (number + 0.5) / n * days * DAY, "quality": float(np.clip(rng.normal(mean, 0.1), 0, 1))} | values for number in range(n)
    ]


# --- answers below the threshold


def test_the_share_below_is_counted_over_labelled_answers_with_wilsons_interval(issues: Any) -> None:
    rows = [{"quality": 0.5}] * 30 + [{"quality": 0.9}] * 70 + [{"quality": None}] * 100
    found = issues(rows, quality_threshold=0.8)
    [code] = found.low_quality
    assert (code.below, code.labelled) == (30, 100)
    assert (code.share_below.low, code.share_below.high) == (pytest.approx(0.2189, abs=1e-3), pytest.approx(0.3958, abs=1e-3))
    assert found.share_below == code.share_below


def test_an_answer_exactly_at_the_threshold_is_not_below_it(issues: Any) -> None:
    assert issues([{"quality": 0.8}] * 50, quality_threshold=0.8).share_below.estimate == 0.0


def test_without_a_threshold_the_default_is_stated_and_is_todays_mean_less_the_allowed_drop(issues: Any) -> None:
    found = issues([{"quality": 0.6}] * 10 + [{"quality": 1.0}] * 10)
    assert found.threshold == pytest.approx(0.8 - 0.01)
    assert "today's mean quality" in found.threshold_source


def test_a_segment_full_of_poor_answers_stands_out_and_an_ordinary_one_does_not(issues: Any) -> None:
    rows = [{"task_type": "code", "quality": value} for value in [0.5] * 60 + [0.9] * 40]
    rows += [{"task_type": "chat", "quality": value} for value in [0.5] * 20 + [0.9] * 180]
    found = issues(rows, quality_threshold=0.8)
    assert [(each.segment, each.stands_out) for each in found.low_quality] == [("code", True), ("chat", False)]


def test_hard_tasks_of_the_made_up_week_have_the_most_answers_below(demo: QualityIssues) -> None:
    assert {each.task_type for each in demo.low_quality[:4]} <= {"reasoning", "code", "analysis"}
    assert sum(each.labelled for each in demo.low_quality) <= 6_454 * 1.05


# --- mismatches


def test_a_model_far_below_the_best_alternative_is_a_mismatch_and_a_near_one_is_not(issues: Any, by_hand: Any) -> None:
    arms = [
        by_hand.arm("poor", 0.5, cost=0.001, quality=0.60),
        by_hand.arm("near", 0.3, cost=0.01, quality=0.899),
        by_hand.arm("middle", 0.1, cost=0.002, quality=0.80),
        by_hand.arm("best", 0.1, cost=0.02, quality=0.90),
    ]
    found = issues([], by_hand.evidence([by_hand.segment("code", arms)]))
    assert [each.model for each in found.mismatches] == ["poor", "middle"]
    worst = found.mismatches[0]
    assert (worst.alternative, worst.cheapest_better, worst.requests) == ("best", "middle", 500)
    assert worst.loss.estimate == pytest.approx(0.30)
    assert worst.cost_change_usd.estimate == pytest.approx(0.019)


def test_a_model_that_the_logs_do_not_support_is_neither_a_mismatch_nor_an_alternative(issues: Any, by_hand: Any) -> None:
    arms = [
        by_hand.arm("used", 0.9, cost=0.01, quality=0.80),
        by_hand.arm("rare", 0.1, cost=0.01, quality=0.99, supported=False),
    ]
    found = issues([], by_hand.evidence([by_hand.segment("code", arms)]))
    assert found.mismatches == ()
    assert isinstance(found.mismatches_unknown, Unidentifiable)


def test_the_cheapest_model_mismatches_hard_tasks_of_the_made_up_week(demo: QualityIssues) -> None:
    assert ("code", "gpt-4.1-nano") in {(each.task_type, each.model) for each in demo.mismatches}
    assert all(each.loss.low > 0 for each in demo.mismatches)


def test_a_refusal_of_the_evidence_leaves_mismatches_unknown_and_answers_the_rest(issues: Any, nothing_known: Any) -> None:
    found = issues(scored(100, 1))
    assert found.mismatches_unknown == Unidentifiable(unidentifiable=nothing_known.refusal)
    assert found.low_quality
    assert found.grade is None


# --- incompatibilities


def spread(task: str, model: str, n: int, failures: int, error: str | None = "500") -> list[dict[str, Any]]:
    """n calls over the week, every few of them failed."""
    every = n // failures if failures else n + 1
    return [
        {"at_s": (number + 0.5) / n * 7 * DAY, "task_type": task, "model": model}
        | ({"status": "failure", "error_type": error} if number % every == 0 else {})
        for number in range(n)
    ]


def test_failures_of_one_pair_are_found_against_the_models_and_the_tasks_own_rate(issues: Any) -> None:
    rows = [
        row
        for task in ("code", "chat")
        for model in ("a", "b")
        for row in spread(task, model, 400, 40 if (task, model) == ("code", "a") else 4)
    ]
    [found] = issues(rows).incompatibilities
    assert (found.kind, found.task_type, found.model, found.calls, found.affected) == ("failure", "code", "a", 400, 40)
    assert (found.same_model_rate, found.same_task_rate) == (pytest.approx(0.01), pytest.approx(0.01))


@pytest.mark.parametrize("failing", [{("code", "a"), ("chat", "a")}, {("code", "a"), ("code", "b")}])
def test_a_model_that_fails_everywhere_or_a_task_that_fails_on_all_is_no_incompatibility(
    issues: Any, failing: set[tuple[str, str]]
) -> None:
    rows = [
        row for task in ("code", "chat") for model in ("a", "b") for row in spread(task, model, 400, 40 if (task, model) in failing else 4)
    ]
    assert issues(rows).incompatibilities == ()


def test_an_outage_that_hit_whatever_ran_in_its_hour_is_no_incompatibility(issues: Any) -> None:
    rows = [row for task in ("code", "chat") for model in ("a", "b") for row in spread(task, model, 400, 4)]
    rows += [
        {"at_s": 3 * DAY + number, "task_type": "code", "model": "a", "status": "failure", "error_type": "500"} for number in range(40)
    ]
    assert issues(rows).incompatibilities == ()


def test_the_six_hours_of_a_degraded_model_are_not_taken_for_an_incompatibility(demo: QualityIssues) -> None:
    assert demo.incompatibilities == ()


def test_refusals_and_cut_off_answers_are_told_by_their_error_class(issues: Any) -> None:
    rows = [row for task in ("code", "chat") for model in ("a", "b") for row in spread(task, model, 400, 0)]
    rows += spread("code", "a", 60, 60, "ContentPolicyViolationError") + spread("chat", "b", 60, 60, "ContextWindowExceededError")
    found = issues(rows)
    kinds = {(each.kind, each.task_type, each.model) for each in found.incompatibilities}
    assert kinds >= {("refusal", "code", "a"), ("truncation", "chat", "b")}
    assert found.error_kinds_unknown is None


def test_where_no_error_class_names_them_the_reader_is_told_what_to_log(demo: QualityIssues) -> None:
    assert isinstance(demo.error_kinds_unknown, Unidentifiable)
    assert "finish reason" in demo.error_kinds_unknown.unidentifiable


def test_a_single_model_cannot_be_told_from_its_task(issues: Any) -> None:
    assert issues(spread("code", "a", 400, 40) + spread("chat", "a", 400, 4)).incompatibilities == ()


# --- degradation


def test_the_planted_episode_is_found_at_its_hours_with_its_size(demo: QualityIssues) -> None:
    worst = demo.degradations[0]
    assert (worst.model, worst.task_type, worst.kind) == (traffic.DEGRADED_MODEL, None, "episode")
    start = traffic.WEEK_START + timedelta(hours=traffic.DEGRADED_FROM_H)
    assert (worst.start, worst.end) == (start, start + timedelta(hours=traffic.DEGRADED_HOURS))
    assert worst.size.low < -traffic.DEGRADED_QUALITY_LOSS + 0.02 < worst.size.high + 0.02
    assert {each.model for each in demo.degradations} == {traffic.DEGRADED_MODEL}


def test_a_model_that_is_worse_since_a_day_is_dated_to_that_day(issues: Any) -> None:
    rows = scored(600, 1)
    for row in rows:
        if row["at_s"] >= 4 * DAY:
            row["quality"] = max(row["quality"] - 0.1, 0.0)
    found = issues(rows).degradations
    assert {(each.task_type, each.kind) for each in found} == {(None, "since"), ("code", "since")}
    assert abs((found[0].start.timestamp() - (found[0].start.replace(day=6, hour=0).timestamp())) / HOUR) <= 8
    assert found[0].size.low < -0.1 < found[0].size.high


def test_a_model_that_recovered_is_worse_until_then(issues: Any) -> None:
    rows = scored(600, 1)
    for row in rows:
        if row["at_s"] < 2 * DAY:
            row["quality"] = max(row["quality"] - 0.1, 0.0)
    assert {each.kind for each in issues(rows).degradations} == {"until"}


def test_two_episodes_of_one_model_are_both_found(issues: Any) -> None:
    rows = scored(1400, 1)
    for row in rows:
        if 30 * HOUR <= row["at_s"] < 42 * HOUR or 110 * HOUR <= row["at_s"] < 122 * HOUR:
            row["quality"] = max(row["quality"] - 0.2, 0.0)
    found = [each for each in issues(rows).degradations if each.task_type is None]
    assert sorted(each.start.day for each in found) == [3, 6]


def test_steady_quality_rarely_looks_degraded(issues: Any) -> None:
    alarms = sum(bool(issues(scored(300, seed, model="a") + scored(300, seed + 100, model="b")).degradations) for seed in range(25))
    assert alarms <= 2


def test_harder_requests_in_the_afternoon_are_no_degradation(issues: Any) -> None:
    rows = scored(600, 1, 0.9, complexity=0.1) + scored(600, 2, 0.6, complexity=0.9)
    rows = [row for row in rows if (row["at_s"] < 3.5 * DAY) == (row["complexity"] == 0.1) or row["at_s"] % (4 * HOUR) < HOUR]
    assert issues(rows).degradations == ()


def test_a_fall_within_the_allowed_drop_is_not_reported(issues: Any) -> None:
    rows = scored(600, 1)
    for row in rows:
        if row["at_s"] >= 4 * DAY:
            row["quality"] = max(row["quality"] - 0.1, 0.0)
    assert issues(rows, max_quality_drop=0.3).degradations == ()


@pytest.mark.parametrize(("days", "width"), [(1 / 24, 1), (1, 1), (7, 1), (30, 4)])
def test_steps_in_time_divide_a_day_and_stay_few(issues: Any, days: float, width: int) -> None:
    assert issues(scored(50, 1, days=days), days=days).resolution_hours == width


def test_few_labels_look_for_no_change_over_time_and_say_so(issues: Any) -> None:
    found = issues(scored(30, 1))
    assert found.degradations == ()
    assert isinstance(found.degradation_unknown, Unidentifiable)


# --- nothing to say


@pytest.mark.parametrize("rows", [[], [{"quality": None}] * 50])
def test_without_any_quality_nothing_is_low_and_the_reader_is_told_what_to_collect(issues: Any, rows: list[dict[str, Any]]) -> None:
    found = issues(rows)
    assert found.threshold is None
    assert isinstance(found.share_below, Unidentifiable)
    assert isinstance(found.degradation_unknown, Unidentifiable)
    assert any("quality_score" in notice for notice in found.notices)


def test_equal_scores_everywhere_have_no_spread_and_no_degradation(issues: Any) -> None:
    assert issues([row | {"quality": 1.0} for row in scored(200, 1)]).degradations == ()
