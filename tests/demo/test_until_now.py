"""The demo as time goes on: what is there is what was by then, and coming back adds what has come since, once."""

from __future__ import annotations

import json
import os
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest

from routing_pipeline.demo.logs import write_demo
from routing_pipeline.demo.until_now import LONGEST_GAP_S, WEEK_S, write_until
from routing_pipeline.errors import UnusableInputError
from tests.demo.written import records_below

REQUESTS = 1_000
NOW_S = datetime(2026, 12, 3, 14, 20, tzinfo=UTC).timestamp()
"""A Thursday."""


def attempts(folder: Path) -> dict[str, float]:
    """Start by attempt, each once however often it was uploaded."""
    return {f"{record['id']} {record['status']}": record["startTime"] for record in records_below(folder / "logs")}


def requests(folder: Path) -> set[str]:
    return {record["litellm_call_id"] for record in records_below(folder / "logs")}


def scores(folder: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for path in sorted((folder / "feedback").glob("*.jsonl")) for line in path.read_text().splitlines()]


def given(score: dict[str, Any]) -> float:
    return datetime.fromisoformat(score["scored_at"]).timestamp()


@pytest.fixture(scope="module")
def once(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("once")
    write_until(folder, NOW_S, requests=REQUESTS)
    return folder


def test_at_the_end_of_its_own_week_it_is_that_week_to_the_byte(tmp_path: Path) -> None:
    write_until(tmp_path / "until", datetime(2026, 11, 23, tzinfo=UTC).timestamp(), requests=REQUESTS)
    whole = write_demo(tmp_path / "week", requests=REQUESTS, is_mixed=True)
    batches = {path.name: path.read_bytes() for path in whole.logs.rglob("*.jsonl*")}
    # The last hour's objects are flushed when it is over, which is just not yet.
    later = {name for name in batches if name.startswith("batch_00-00-07")} & {
        path.name for path in sorted(whole.logs.glob("2026-11-23/*"))
    }
    assert {path.name: path.read_bytes() for path in (tmp_path / "until" / "logs").rglob("*.jsonl*") if path.name in batches} == {
        name: content for name, content in batches.items() if name not in later
    }
    assert attempts(tmp_path / "until") == attempts(tmp_path / "week")


def test_seven_days_are_there_and_nothing_later_than_now(once: Path) -> None:
    starts = list(attempts(once).values())
    assert NOW_S - WEEK_S < min(starts) < NOW_S - WEEK_S + 6 * 3_600
    assert NOW_S - 2 * 3_600 < max(starts) < NOW_S
    assert all(path.stat().st_mtime <= NOW_S for path in once.rglob("*.json*"))
    assert max(map(given, scores(once))) < NOW_S


def test_every_score_is_of_a_request_that_is_there(once: Path) -> None:
    assert {score["request_id"] for score in scores(once)} <= requests(once)


def test_going_on_in_many_steps_gives_what_one_step_gives_and_nothing_twice(tmp_path: Path) -> None:
    steps, at_once, since_s = tmp_path / "steps", tmp_path / "at-once", NOW_S - 5 * 86_400
    written = [write_until(steps, moment_s, requests=REQUESTS) for moment_s in (since_s, since_s + 60, since_s + 3 * 86_400, NOW_S, NOW_S)]
    assert written[-1] == 0
    assert sum(written) == sum(write_until(at_once, moment_s, requests=REQUESTS) for moment_s in (since_s, NOW_S))
    assert attempts(steps) == attempts(at_once)
    every = sorted((score["request_id"], score["name"]) for score in scores(steps))
    assert len(every) == len(set(every))
    assert every == sorted((score["request_id"], score["name"]) for score in scores(at_once))


def test_after_a_long_pause_the_last_two_weeks_are_written_and_no_score_of_what_was_left_out(tmp_path: Path) -> None:
    write_until(tmp_path, NOW_S, requests=REQUESTS)
    later_s = NOW_S + 10 * WEEK_S
    write_until(tmp_path, later_s, requests=REQUESTS)
    starts = attempts(tmp_path).values()
    assert not [start for start in starts if NOW_S < start < later_s - LONGEST_GAP_S]
    assert later_s - 2 * 3_600 < max(starts) < later_s
    assert {score["request_id"] for score in scores(tmp_path)} <= requests(tmp_path)


def test_a_demo_of_another_size_is_refused_with_what_to_do(once: Path) -> None:
    there = sorted(once.rglob("*"))
    with pytest.raises(UnusableInputError, match="holds a demo of 1,000 requests a week; name another --home"):
        write_until(once, NOW_S + 60, requests=REQUESTS * 2)
    assert sorted(once.rglob("*")) == there


def test_somebodys_own_logs_stay_untouched(tmp_path: Path) -> None:
    (tmp_path / "logs").mkdir()
    (tmp_path / "logs" / "mine.jsonl").write_text("{}")
    with pytest.raises(UnusableInputError, match="not made up"):
        write_until(tmp_path, NOW_S, requests=REQUESTS)
    assert os.listdir(tmp_path / "logs") == ["mine.jsonl"]
