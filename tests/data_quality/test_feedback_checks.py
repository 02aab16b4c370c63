"""The gate in front of feedback: every score accounted for, few refused, none whose rest stands for all of its kind."""

from __future__ import annotations

from typing import Any

import pytest

from routing_pipeline.data_quality import feedback_lines
from routing_pipeline.data_quality.expectations import CheckResult
from routing_pipeline.data_quality.feedback_checks import feedback_checks
from routing_pipeline.ingest.feedback_totals import FeedbackTotals, ScoresOfName, ScoresOfSource, UnmatchedExample, outside_scale
from routing_pipeline.lake.totals import QuarantineReason

WHY = QuarantineReason(reason="value is missing or not a finite number", count=6, object="s.jsonl in /scores", line=17)


def totals(**given: Any) -> FeedbackTotals:
    values: dict[str, Any] = {"records": 100, "ingested": 100, "quarantined": 0, "duplicates": 0, "objects": 1, "matched": 100}
    values |= {"unmatched": 0, "scored_within": 100, "unmatched_within": 0}
    return FeedbackTotals(**(values | given))


def checks(found: FeedbackTotals) -> dict[str, CheckResult]:
    return {check.name: check for check in feedback_checks(found)}


def test_without_feedback_nothing_is_checked() -> None:
    found = feedback_checks(totals(records=0, ingested=0, matched=0))
    assert {check.outcome for check in found} == {"not_checked"}
    assert {check.severity for check in found} == {"blocking"}


@pytest.mark.parametrize(("refused", "outcome"), [(0, "passed"), (4, "passed"), (5, "passed"), (6, "failed"), (100, "failed")])
def test_more_than_five_percent_refused_blocks(refused: int, outcome: str) -> None:
    found = checks(totals(ingested=100 - refused, quarantined=refused, reasons=(WHY,)))["refused_scores_are_at_most_5_percent"]
    assert (found.outcome, found.severity) == (outcome, "blocking")
    assert found.numbers == {"refused_share": refused / 100}


def test_a_block_says_reason_example_and_way_out() -> None:
    found = checks(totals(ingested=94, quarantined=6, reasons=(WHY,)))["refused_scores_are_at_most_5_percent"]
    assert found.observed.startswith(
        "6 of 100 scores, 6.00 %: value is missing or not a finite number (6, as in 's.jsonl in /scores' line 17)."
    )
    assert "forget --object" in found.observed
    assert [item.name for item in found.items] == [WHY.reason]


def test_what_was_given_twice_counts_among_what_was_read() -> None:
    twice = totals(records=200, ingested=96, quarantined=8, duplicates=96)
    assert {check.outcome for check in feedback_checks(twice)} == {"passed"}


def test_words_beside_numbers_are_no_defect() -> None:
    found = totals(records=200, ingested=100, quarantined=100, in_words=100)
    assert found.refused_share == 0.0
    assert checks(found)["refused_scores_are_at_most_5_percent"].passed


def test_a_score_that_went_missing_blocks() -> None:
    found = checks(totals(records=101))["every_score_is_accounted_for"]
    assert (found.outcome, found.observed) == ("failed", "does not hold: 101 scores = 100 accepted + 0 refused + 0 repeated")


def named(name: str, kept: int, refused: int) -> ScoresOfName:
    return ScoresOfName(name=name, ingested=kept, quarantined=refused)


@pytest.mark.parametrize(
    ("kept", "refused", "passed"),
    [(20, 80, False), (0, 80, True), (60, 40, True), (3, 9, True)],
    ids=["a rest of it stands for all", "none of it is left to mislead", "most of it was kept", "too few to tell"],
)
def test_a_name_most_of_whose_scores_were_refused_blocks_however_many_others_there_are(kept: int, refused: int, passed: bool) -> None:
    names = (named("helpful", 9_000, 0), named("quality", kept, refused))
    found = checks(totals(records=9_000 + kept + refused, ingested=9_000 + kept, quarantined=refused, names=names))
    assert found["refused_scores_are_at_most_5_percent"].passed
    assert found["no_score_lost_most_of_its_kind"].passed is passed


def test_a_name_that_was_given_twice_is_judged_as_if_it_was_given_once() -> None:
    names = (named("quality", 90, 180),)
    once = totals(records=270, ingested=90, quarantined=180, names=names)
    assert not checks(once)["no_score_lost_most_of_its_kind"].passed
    twice = totals(records=180 + 90 + 900, ingested=90, quarantined=180, duplicates=900, names=names)
    assert checks(twice)["no_score_lost_most_of_its_kind"].passed


@pytest.mark.parametrize(
    ("seen", "likely"),
    [
        ((1.0, 5.0), (1.0, 5.0)),
        ((2.0, 4.0), (1.0, 5.0)),
        ((0.0, 5.0), (0.0, 5.0)),
        ((1.0, 6.5), (1.0, 7.0)),
        ((0.4, 9.9), (0.0, 10.0)),
        ((3.0, 98.0), (0.0, 100.0)),
        ((-0.9, 1.0), (-1.0, 1.0)),
        ((-3.0, 4.0), (-5.0, 5.0)),
        ((0.0, 5e6), (None, None)),
    ],
)
def test_the_likely_scale_holds_all_that_was_seen(seen: tuple[float, float], likely: tuple[float, float]) -> None:
    found = outside_scale(50, 10, (0.0, 1.0), seen, has_scale=False)
    assert (found.likely_min, found.likely_max) == likely


def test_a_slip_is_no_scale() -> None:
    assert outside_scale(2, 10, (0.0, 1.0), (0.0, 97.0), has_scale=False).likely_max is None
    assert outside_scale(5, 10_000, (0.0, 1.0), (0.0, 97.0), has_scale=False).likely_max is None


def test_a_scale_of_the_file_is_mended_in_the_file_and_another_is_declared() -> None:
    for has_scale, said in ((True, "scale_min 0 and scale_max 10 in the file"), (False, "'quality' = [0, 10] under [scales] in --config")):
        off = ScoresOfName(
            name="quality", ingested=1, quarantined=99, outside_scale=outside_scale(99, 1, (0, 1), (0.5, 9.5), has_scale=has_scale)
        )
        (line,) = feedback_lines.scales(totals(names=(off,)))
        assert line == (
            "99 scores called 'quality' lie outside the scale 0 to 1: they run from 0.5 to 9.5. "
            f"Did you mean the scale 0 to 10, that is {said}?"
        )


def lost(**given: Any) -> str:
    example = UnmatchedExample(score_column="request_id", score_key="req-1", log_column="request_id", log_key="1", is_alike=True)
    return " ".join(feedback_lines.lines(totals(**{"matched": 40, "unmatched": 60, "unmatched_within": 60, "example": example, **given})))


def test_more_than_half_lost_is_told_with_both_keys() -> None:
    assert "More than half of the scores from the logged period match no request: 60 of 100." in lost()
    assert "a score names the request 'req-1'; the logs have the request '1'." in lost()
    assert "match no request" not in lost(unmatched_within=50)
    assert "None of the 60 scores matches a request" in lost(matched=0, scored_within=0, unmatched_within=0)


def test_a_key_in_the_wrong_column_is_told() -> None:
    as_attempt = UnmatchedExample(score_column="request_id", score_key="a1", log_column="attempt_id", log_key="a1", is_alike=True)
    assert "a score gives 'a1' as its request_id; in the logs 'a1' is in the column attempt_id" in lost(example=as_attempt)


def test_names_from_files_are_short_and_on_one_line() -> None:
    example = UnmatchedExample(score_column="request_id", score_key="x\n" * 500, log_column="request_id", log_key="1", is_alike=False)
    assert "\n" not in lost(example=example)
    assert len(lost(example=example)) < 700


def test_no_score_under_the_name_of_quality_is_told() -> None:
    found = totals(names=(named("helpful", 60, 0), named("tone", 40, 0)))
    (_, line) = feedback_lines.lines(found, "quality")
    assert line.startswith("No score is called 'quality', so none counts as the quality of an answer; they are called 'helpful', 'tone'.")
    assert len(feedback_lines.lines(found, "tone")) == 1


def test_scores_are_told_by_who_gave_them_where_there_is_more_than_one_source() -> None:
    by_judge, by_people = ScoresOfSource(source="judge", ingested=90), ScoresOfSource(source="eval", ingested=10)
    one = ScoresOfName(name="quality", ingested=90, quarantined=0, sources=(by_judge,))
    two = ScoresOfName(name="quality", ingested=100, quarantined=0, sources=(by_judge, by_people))
    assert list(feedback_lines.by_source(totals(names=(one,)))) == []
    assert list(feedback_lines.by_source(totals(names=(two,)))) == ["Scores by source: 90 by a judge, 10 by evaluations."]
