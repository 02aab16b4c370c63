"""Quality as labelled and corrected, its relation to cost, completion and ratings."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from scipy import stats

from routing_pipeline.analysis.quality_metrics import MAX_LISTED, QualityMetrics, quality_metrics
from routing_pipeline.demo import traffic
from routing_pipeline.estimates import Estimate, Unidentifiable


def answers(easy: int, hard: int, label_easy: float, label_hard: float, seed: int = 1) -> list[dict[str, Any]]:
    """Easy answers are worth 0.9 and hard ones 0.5, give or take 0.05; each is labelled at its kind's rate."""
    rng = np.random.default_rng(seed)
    rows = []
    for count, complexity, mean, rate in ((easy, 0.1, 0.9, label_easy), (hard, 0.9, 0.5, label_hard)):
        for _ in range(count):
            value = float(np.clip(rng.normal(mean, 0.05), 0, 1))
            rows.append({"complexity": complexity, "quality": value if rng.random() < rate else None, "cluster": int(rng.integers(256))})
    return rows


@pytest.fixture(scope="module")
def found(week: Any) -> QualityMetrics:
    return quality_metrics(week.requests, week.scope)


def test_labels_that_favour_hard_requests_bias_the_raw_mean_and_not_the_corrected_one(hand_made: Any, hand_made_scope: Any) -> None:
    overall = quality_metrics(hand_made(answers(600, 600, 0.1, 0.9)), hand_made_scope()).overall
    assert isinstance(overall.quality, Estimate)
    assert overall.quality.high < 0.60
    assert isinstance(overall.quality_corrected, Estimate)
    assert overall.quality_corrected.low < 0.70 < overall.quality_corrected.high
    assert overall.quality_corrected.high - overall.quality_corrected.low < 0.05
    assert overall.corrected_from == 1.0


def test_the_correction_covers_the_truth_about_as_often_as_it_says(hand_made: Any, hand_made_scope: Any) -> None:
    covered = 0
    for seed in range(30):
        corrected = quality_metrics(hand_made(answers(200, 200, 0.1, 0.6, seed)), hand_made_scope()).overall.quality_corrected
        assert isinstance(corrected, Estimate)
        covered += corrected.low <= 0.7 <= corrected.high
    # Of 30 intervals at 95 %, 25 or fewer would cover in 2 of 100 runs; the raw mean covers in none.
    assert covered >= 26


def test_the_made_up_week_has_the_quality_that_its_world_gives(week: Any, found: QualityMetrics) -> None:
    rows = week.requests.filter(week.requests.is_final, week.requests.status == "success").to_pandas()
    tasks, arms = [each.name for each in traffic.TASKS], [each.model for each in traffic.ARMS]
    mean = traffic.true_quality(
        rows.task_type.map(tasks.index).to_numpy(), rows.complexity.to_numpy(), rows.model.map(arms.index).to_numpy()
    )
    hour = rows.hour_of_week.to_numpy()
    degraded = (hour >= traffic.DEGRADED_FROM_H) & (hour < traffic.DEGRADED_FROM_H + traffic.DEGRADED_HOURS)
    mean = mean - np.where(degraded & (rows.model == traffic.DEGRADED_MODEL).to_numpy(), traffic.DEGRADED_QUALITY_LOSS, 0.0)
    # Scores are clipped to 0..1: the mean of a clipped normal with the spread of answers and sessions together.
    sd = np.hypot(0.12, 0.03)
    top = (1 - mean) / sd
    expected = mean * stats.norm.cdf(top) - sd * stats.norm.pdf(top) + stats.norm.sf(top)
    overall = found.overall.quality_corrected
    assert isinstance(overall, Estimate)
    assert overall.low < expected.mean() < overall.high
    inside = 0
    for line in found.models:
        assert isinstance(line.quality_corrected, Estimate)
        inside += line.quality_corrected.low < expected[(rows.model == line.group).to_numpy()].mean() < line.quality_corrected.high
    assert inside >= 5


def test_coverage_and_completion_are_counted_with_wilson(hand_made: Any, hand_made_scope: Any) -> None:
    rows = (
        [{"quality": 0.8}] * 3 + [{}] * 5 + [{"status": "failure"}] + [{"status": "failure", "is_final": False}] + [{"status": "cancelled"}]
    )
    overall = quality_metrics(hand_made(rows), hand_made_scope()).overall
    assert (overall.requests, overall.answered, overall.labelled) == (10, 8, 3)
    assert isinstance(overall.completion, Estimate)
    assert overall.completion.estimate == 0.8
    assert isinstance(overall.label_coverage, Estimate)
    assert overall.label_coverage.estimate == pytest.approx(3 / 8)


def test_without_labels_the_rest_still_works_and_says_what_to_collect(hand_made: Any, hand_made_scope: Any) -> None:
    metrics = quality_metrics(hand_made([{}] * 50), hand_made_scope())
    assert isinstance(metrics.overall.quality, Unidentifiable)
    assert "log quality_score" in metrics.overall.quality.unidentifiable
    assert isinstance(metrics.overall.quality_corrected, Unidentifiable)
    assert isinstance(metrics.overall.user_rating, Unidentifiable)
    assert isinstance(metrics.against_cost.overall.rho, Unidentifiable)
    assert metrics.against_cost.simpsons_paradox == "cannot tell"
    assert isinstance(metrics.overall.completion, Estimate)
    assert any(notice.startswith("quality is missing") for notice in metrics.notices)


def test_no_rows_give_no_numbers_and_no_exception(hand_made: Any, hand_made_scope: Any) -> None:
    metrics = quality_metrics(hand_made([]), hand_made_scope())
    assert (metrics.overall.requests, metrics.models, metrics.tasks) == (0, (), ())
    assert isinstance(metrics.overall.completion, Unidentifiable)
    assert QualityMetrics.model_validate_json(metrics.model_dump_json()) == metrics


def test_a_single_session_gives_no_interval(hand_made: Any, hand_made_scope: Any) -> None:
    rows = [row | {"cluster": 7} for row in answers(100, 100, 0.5, 0.5)]
    overall = quality_metrics(hand_made(rows), hand_made_scope()).overall
    assert isinstance(overall.quality, Unidentifiable)
    assert isinstance(overall.quality_corrected, Unidentifiable)


def test_twenty_labels_are_too_few_to_correct_with(hand_made: Any, hand_made_scope: Any) -> None:
    rows = answers(100, 100, 0.1, 0.1)
    overall = quality_metrics(hand_made(rows), hand_made_scope()).overall
    assert overall.labelled < 30
    assert isinstance(overall.quality_corrected, Unidentifiable)
    assert "label more answers, at random" in overall.quality_corrected.unidentifiable


def test_unknown_complexity_is_a_band_of_its_own(hand_made: Any, hand_made_scope: Any) -> None:
    rows = [row | {"complexity": None} for row in answers(300, 300, 0.5, 0.5)]
    assert isinstance(quality_metrics(hand_made(rows), hand_made_scope()).overall.quality_corrected, Estimate)


def test_users_ratings_never_enter_quality(hand_made: Any, hand_made_scope: Any) -> None:
    rows = [{"user_rating": 0.0 if number % 2 else 0.2, "quality": 0.9 if number % 3 else 0.8} for number in range(60)]
    overall = quality_metrics(hand_made(rows), hand_made_scope()).overall
    assert overall.rated == 60
    assert isinstance(overall.user_rating, Estimate)
    assert overall.user_rating.estimate == pytest.approx(0.1)
    assert isinstance(overall.quality, Estimate)
    assert overall.quality.estimate == pytest.approx(0.9 - 0.1 / 3)


def test_the_made_up_users_rate_and_the_judge_scores_apart(found: QualityMetrics) -> None:
    # 3 % of answers are rated, about a third judged.
    assert 0.02 < found.overall.rated / found.overall.answered < 0.04
    assert isinstance(found.overall.user_rating, Estimate)
    assert isinstance(found.overall.label_coverage, Estimate)
    assert 0.30 < found.overall.label_coverage.estimate < 0.35


def test_binned_ranks_give_spearmans_correlation(week: Any, found: QualityMetrics) -> None:
    rows = week.requests.filter(week.requests.quality.notnull(), week.requests.request_cost_usd.notnull()).to_pandas()
    exact = stats.spearmanr(rows.quality, rows.request_cost_usd).statistic
    assert isinstance(found.against_cost.overall.rho, Estimate)
    assert found.against_cost.overall.rho.estimate == pytest.approx(exact, abs=0.005)
    code = rows[rows.task_type == "code"]
    (line,) = [each for each in found.against_cost.tasks if each.task_type == "code"]
    assert isinstance(line.rho, Estimate)
    assert line.rho.estimate == pytest.approx(stats.spearmanr(code.quality, code.request_cost_usd).statistic, abs=0.01)


def test_correlations_that_nobody_can_tell_are_not_called_indistinguishable_from_none(hand_made: Any, hand_made_scope: Any) -> None:
    found = quality_metrics(hand_made([{"status": "failure"}] * 20), hand_made_scope()).against_cost
    assert found.simpsons_paradox == "cannot tell"
    assert found.explanation == "Too few requests have both a quality and a cost."


def test_cheap_easy_tasks_and_dear_hard_ones_make_simpsons_paradox(hand_made: Any, hand_made_scope: Any) -> None:
    rng = np.random.default_rng(3)
    rows = []
    for task, base, level in (("easy", 0.9, 0.001), ("hard", 0.4, 0.1)):
        for _ in range(200):
            price = float(rng.uniform(1, 2))
            rows.append({"task_type": task, "cost_usd": level * price, "quality": base + 0.05 * price + float(rng.normal(0, 0.01)) - 0.05})
    against = quality_metrics(hand_made(rows), hand_made_scope()).against_cost
    assert against.simpsons_paradox == "yes"
    assert isinstance(against.overall.rho, Estimate)
    assert against.overall.rho.high < 0
    assert isinstance(against.within_task.rho, Estimate)
    assert against.within_task.rho.low > 0.5
    assert "Overall, more expensive answers are worse; among requests of one task type they are better" in against.explanation


def test_dear_models_do_better_on_like_requests_of_the_made_up_week(found: QualityMetrics) -> None:
    assert isinstance(found.against_cost.within_task_and_complexity.rho, Estimate)
    assert found.against_cost.within_task_and_complexity.rho.low > 0.1
    assert found.against_cost.simpsons_paradox != "no"


def test_a_correlation_of_something_that_never_varies_has_no_meaning(hand_made: Any, hand_made_scope: Any) -> None:
    against = quality_metrics(hand_made([{"quality": 0.5}] * 20), hand_made_scope()).against_cost
    assert isinstance(against.overall.rho, Unidentifiable)
    assert "never varies" in against.overall.rho.unidentifiable


def test_long_lists_are_cut_and_counted(hand_made: Any, hand_made_scope: Any) -> None:
    metrics = quality_metrics(
        hand_made({"model": f"m{number:03}", "task_type": f"<t{number:03}>"} for number in range(70)), hand_made_scope()
    )
    assert len(metrics.models) == len(metrics.tasks) == MAX_LISTED
    assert metrics.models_not_listed == metrics.tasks_not_listed == 20
