"""Which jobs fail while nobody watches: reported once when they do, once when they recover."""

from __future__ import annotations

import json

import pytest

from routing_pipeline.alerts.failed_runs import MAX_WHY, FailedRunsDecision, Outcome, failed_runs, message

JOB, OTHER = "ingest_logs", "optimize_routing"
FAILED = Outcome(run_id="run-2", is_failure=True, ended_s=2_000.0)
WELL = Outcome(run_id="run-3", is_failure=False, ended_s=3_000.0)
TOLD = json.dumps({"failing": {JOB: 1_000.0}})


def told(decision: FailedRunsDecision) -> list[tuple[str, bool]]:
    return [(each.job, each.is_failure) for each in decision.news]


@pytest.mark.parametrize("cursor", [None, "", "{}", "garbage", '{"failing": 1}', '{"seen": 7}', '{"failing": {"ingest_logs": NaN}}'])
@pytest.mark.parametrize(
    ("outcome", "expected", "failing"), [(None, [], ()), (WELL, [], ()), (FAILED, [(JOB, True)], (JOB,))], ids=["none", "well", "failed"]
)
def test_without_a_memory_a_failure_alone_is_news(
    cursor: str | None, outcome: Outcome | None, expected: list[tuple[str, bool]], failing: tuple[str, ...]
) -> None:
    decision = failed_runs({JOB: outcome, OTHER: WELL}, cursor)
    assert told(decision) == expected
    assert decision.failing == failing


@pytest.mark.parametrize(
    ("outcome", "expected", "failing"),
    [(None, [], (JOB,)), (FAILED, [], (JOB,)), (WELL, [(JOB, False)], ())],
    ids=["none", "failed again", "recovered"],
)
def test_what_was_told_is_news_again_only_when_it_is_well(
    outcome: Outcome | None, expected: list[tuple[str, bool]], failing: tuple[str, ...]
) -> None:
    decision = failed_runs({JOB: outcome}, TOLD)
    assert told(decision) == expected
    assert decision.failing == failing
    assert told(failed_runs({JOB: outcome}, decision.cursor)) == []


def test_a_job_that_fails_after_it_was_well_again_is_another_incident() -> None:
    again = failed_runs({JOB: FAILED}, failed_runs({JOB: WELL}, TOLD).cursor)
    assert told(again) == [(JOB, True)]
    assert again.since_s == FAILED.ended_s


def test_each_job_has_an_incident_of_its_own_and_the_first_failure_is_remembered() -> None:
    decision = failed_runs({JOB: FAILED, OTHER: FAILED}, TOLD)
    assert told(decision) == [(OTHER, True)]
    assert decision.since_s == 1_000.0
    (news,) = failed_runs({JOB: WELL, OTHER: FAILED}, decision.cursor).news
    assert (news.job, news.failing_since_s, news.run_id) == (JOB, 1_000.0, WELL.run_id)


def test_a_job_that_is_watched_no_longer_is_forgotten() -> None:
    assert failed_runs({OTHER: WELL}, TOLD).failing == ()


def test_a_message_names_job_error_and_run_and_links_where_the_page_is_known() -> None:
    (news,) = failed_runs({JOB: FAILED}, None).news
    title, text = message(news, "\n  s3://logs does not answer; run again later\nTraceback ...")
    assert title == "run failed: ingest_logs"
    assert text.splitlines()[:2] == [
        "ingest_logs failed at 1970-01-01T00:33Z and will not be retried: s3://logs does not answer; run again later",
        "run run-2",
    ]
    assert "https://dagster.example.com/runs/run-2" in message(news, "why", "https://dagster.example.com/")[1]
    assert "no reason is known" in message(news, " \n ")[1]
    assert len(message(news, "x" * 10_000)[1]) < MAX_WHY + 250


def test_a_message_of_recovery_says_since_when_it_had_failed() -> None:
    (news,) = failed_runs({JOB: WELL}, TOLD).news
    title, text = message(news, "")
    assert title == "recovered: ingest_logs"
    assert text.splitlines()[0] == "ingest_logs succeeded at 1970-01-01T00:50Z after failing since 1970-01-01T00:16Z"
