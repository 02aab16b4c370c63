"""The made-up week as files: the same every time, and every record in it accounted for."""

from __future__ import annotations

import json
import os
from collections import Counter
from pathlib import Path

import pyarrow as pa
import pyarrow.compute as pc
import pytest

from routing_pipeline.demo import logs, traffic
from routing_pipeline.demo.documents import DOCUMENT_TASK
from routing_pipeline.demo.logs import DemoFiles, write_demo
from routing_pipeline.errors import UnusableInputError
from routing_pipeline.schema import FEEDBACK, column_names
from tests.demo.written import lines_below, records_below

REQUESTS = 2_000


@pytest.fixture(scope="module")
def demo(tmp_path_factory: pytest.TempPathFactory) -> DemoFiles:
    return write_demo(tmp_path_factory.mktemp("demo"), requests=REQUESTS)


def contents(folder: Path) -> dict[str, tuple[bytes, float]]:
    return {str(path.relative_to(folder)): (path.read_bytes(), os.stat(path).st_mtime) for path in folder.rglob("*") if path.is_file()}


def lines(demo: DemoFiles) -> list[str]:
    return lines_below(demo.logs)


def parsed(demo: DemoFiles) -> list[dict]:
    return records_below(demo.logs)


def test_the_same_arguments_give_the_same_files_to_the_byte_and_to_their_times(demo, tmp_path):
    again = write_demo(tmp_path / "again", requests=REQUESTS)
    assert contents(again.logs) == contents(demo.logs)
    assert contents(again.feedback.parent) == contents(demo.feedback.parent)


def test_another_seed_gives_another_week(demo, tmp_path):
    other = write_demo(tmp_path, requests=REQUESTS, seed=1)
    assert set(contents(other.logs)).isdisjoint(contents(demo.logs)) or contents(other.logs) != contents(demo.logs)


def test_writing_again_replaces_what_an_earlier_week_left(tmp_path):
    write_demo(tmp_path, requests=REQUESTS, seed=1)
    second = write_demo(tmp_path, requests=REQUESTS)
    assert second.objects == len(contents(second.logs))


def test_somebodys_own_logs_are_never_overwritten(tmp_path):
    own = tmp_path / "logs" / "mine.jsonl"
    own.parent.mkdir()
    own.write_text("{}")
    with pytest.raises(UnusableInputError, match="not made up"):
        write_demo(tmp_path, requests=10)
    assert own.read_text() == "{}"


def test_a_folder_that_cannot_be_written_to_is_said_to_be_so(tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(UnusableInputError, match="name a folder"):
        write_demo(tmp_path / "file", requests=10)


def test_every_line_is_an_attempt_a_repetition_or_broken_and_the_counts_say_how_many(demo):
    assert demo.records == len(lines(demo)) == demo.attempts + demo.broken + demo.duplicates
    assert demo.objects == len(contents(demo.logs))
    good = [line for line in lines(demo) if line.startswith("{") and line.endswith("}") and "req-spoilt" not in line]
    good = [line for line in good if "litellm_call_id" in line]
    keys = Counter((r["litellm_call_id"], r["id"], r["startTime"]) for r in map(json.loads, good))
    assert len(keys) == demo.attempts
    assert keys.total() - len(keys) == demo.duplicates > 0


def test_broken_records_come_in_every_kind_and_make_half_a_percent(demo):
    big = {kind for kind in demo.broken_by_kind if demo.broken_by_kind[kind] > 0}
    assert big == set(logs.BROKEN_KINDS)
    assert demo.broken == sum(demo.broken_by_kind.values())
    assert demo.broken / demo.records == pytest.approx(0.005, abs=0.001)


@pytest.mark.parametrize("kind", logs.BROKEN_KINDS)
def test_a_broken_record_is_broken_in_the_way_it_says(demo, kind):
    line = next(line for line in lines(demo) if '"status":"success"' in line and '"response_cost":0.0,' not in line)
    good, spoilt = json.loads(line), logs._broken(kind, line)
    if kind in {"truncated", "not JSON"}:
        with pytest.raises(ValueError):
            json.loads(spoilt)
        return
    bad = json.loads(spoilt)
    assert {
        "time in milliseconds": lambda: abs(bad["startTime"] - good["startTime"] * 1e3) < 1,
        "negative cost": lambda: bad["response_cost"] < 0,
        "no key": lambda: not {"id", "litellm_call_id", "trace_id"} & set(bad),
        "no time": lambda: "startTime" not in bad,
        "from the future": lambda: bad["startTime"] > 4e9 and bad["endTime"] > bad["startTime"],
        "cost is not a number": lambda: bad["response_cost"] != bad["response_cost"],
    }[kind]()


def test_records_show_the_habits_of_the_real_proxy(demo):
    records = parsed(demo)
    streams = [r for r in records if r["stream"]]
    assert streams
    assert all(r["response_time"] == pytest.approx(r["completionStartTime"] - r["startTime"], abs=1e-6) for r in streams)
    plain = [r for r in records if not r["stream"]]
    assert all(r["completionStartTime"] == r["endTime"] for r in plain)
    failures = [r for r in records if r["status"] == "failure"]
    assert failures
    assert all(r["response_cost"] == 0.0 and r["prompt_tokens"] == 0 and r["error_information"]["normalized_error"] for r in failures)
    assert all(r["model"] == f"{r['custom_llm_provider']}/{r['model_group']}" for r in records)
    assert all(r["trace_id"] == r["metadata"]["requester_metadata"]["session_id"] for r in records)
    assert any(r["cache_hit"] for r in records)


def test_a_fallback_shares_the_call_id_of_the_failure_and_its_overhead_counts_the_failed_attempt(demo):
    failed = {r["litellm_call_id"]: r for r in parsed(demo) if r["status"] == "failure"}
    rescued = [r for r in parsed(demo) if r["status"] == "success" and r["litellm_call_id"] in failed]
    assert rescued
    for record in rescued:
        first = failed[record["litellm_call_id"]]
        assert record["hidden_params"]["additional_headers"]["x-litellm-attempted-fallbacks"] == 1
        assert record["hidden_params"]["litellm_overhead_time_ms"] > (first["endTime"] - first["startTime"]) * 1e3


def test_some_days_are_compressed_and_some_records_lie_in_an_object_of_their_own(demo):
    suffixes = Counter(Path(name).suffix for name in contents(demo.logs))
    assert suffixes[".gz"] > 0
    assert suffixes[".jsonl"] > suffixes[".gz"]
    assert 0 < suffixes[".json"] <= logs.SINGLE_OBJECTS


def test_the_side_file_holds_the_scores_in_the_columns_of_the_contract(demo):
    scores = [json.loads(line) for line in demo.feedback.read_text().splitlines()]
    assert len(scores) == demo.scores
    assert all(tuple(score) == column_names(FEEDBACK) for score in scores)
    requests = {r["litellm_call_id"] for r in parsed(demo)}
    assert {score["request_id"] for score in scores} <= requests


def test_progress_is_told_up_to_the_last_batch(tmp_path):
    told: list[tuple[int, int]] = []
    write_demo(tmp_path, requests=500, progress=lambda done, total: told.append((done, total)))
    assert told[-1][0] == told[-1][1] == len(told)


def test_the_planted_hours_cost_two_to_four_times_the_same_hours_of_other_weekdays():
    attempts = traffic.traffic(50_000).attempts
    planted = logs.PLANTED

    def spend(from_s: float, to_s: float) -> float:
        started = attempts["started_at"].cast(pa.int64())
        inside = pc.and_(pc.greater_equal(started, int(from_s * 1e6)), pc.less(started, int(to_s * 1e6)))
        return pc.sum(attempts.filter(inside)["cost_usd"]).as_py()

    days = [spend(planted.spike_from_s + day * 86_400, planted.spike_to_s + day * 86_400) for day in (-3, -2, -1, 1)]
    ratio = spend(planted.spike_from_s, planted.spike_to_s) / (sum(days) / len(days))
    assert 2 < ratio < 4


def test_a_mixed_week_says_what_each_request_needs_as_the_proxy_says_it(tmp_path):
    demo = write_demo(tmp_path, requests=4_000, is_mixed=True)
    records = parsed(demo)
    assert demo.records == len(lines(demo)) == demo.attempts + demo.broken + demo.duplicates
    by_task = {task: [r for r in records if r["metadata"]["requester_metadata"].get("task_type") == task] for task in (None, DOCUMENT_TASK)}
    embeddings, documents = by_task[None], by_task[DOCUMENT_TASK]
    assert {(r["call_type"], r["metadata"]["user_api_key_request_route"]) for r in embeddings} == {("aembedding", "/v1/embeddings")}
    assert {isinstance(r["messages"][0]["content"], list) for r in documents} == {True, False}
    assert not any("tools" in r["model_parameters"] for r in documents)
    agents = [r for r in records if r["metadata"]["user_api_key_team_alias"] == "agents"]
    assert agents
    assert all(r["model_parameters"]["tools"] for r in agents)
    assert any(r["metadata"]["usage_object"]["prompt_tokens_details"]["cached_tokens"] for r in agents if r["status"] == "success")
