"""Which rows an analysis sees, and what is derived about them."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import ibis
import pyarrow as pa
import pytest

from routing_pipeline.catalog import Catalog
from routing_pipeline.demo import traffic
from routing_pipeline.errors import UnusableInputError
from routing_pipeline.parameters import ModelOverride, Parameters
from routing_pipeline.schema import ADDED_LATER, REQUEST_LOG, SCOPED_REQUESTS, column_names
from routing_pipeline.storage.home import Home
from routing_pipeline.window.conform import conform, half_of
from routing_pipeline.window.engine import Engine, open_engine
from routing_pipeline.window.resolve import resolve_scope
from routing_pipeline.window.scope import Window, window_of
from tests.lakes import lake_of

START = datetime(2026, 3, 2, 12, tzinfo=UTC)
WINDOW = Window(START.timestamp(), (START + timedelta(hours=1)).timestamp())
ARROW = {"text": pa.string(), "double": pa.float64(), "bigint": pa.int64(), "boolean": pa.bool_(), "timestamp": pa.timestamp("us")}


def attempt(request: str, number: int = 1, *, second: float = 0.0, **values: Any) -> dict[str, Any]:
    row: dict[str, Any] = dict.fromkeys(column_names(REQUEST_LOG))
    row |= {
        "attempt_id": f"{request}/{number}",
        "request_id": request,
        "started_at": (START + timedelta(seconds=second)).replace(tzinfo=None),
        "latency_ms": 1000.0,
        "model": "gpt-4o",
        "provider": "openai",
        "provider_model": "gpt-4o",
        "task_type": "code",
        "prompt_tokens": 1000,
        "completion_tokens": 100,
        "cost_usd": 0.0035,
        "status": "success",
        "source_format": "canonical",
        "source_object": "o",
        "ingested_at": START.replace(tzinfo=None),
    }
    return row | values


def conformed(rows: list[dict[str, Any]], **options: Any) -> dict[str, dict[str, Any]]:
    """Conform rows; the result is keyed by attempt_id."""
    schema = pa.schema([(column.name, ARROW[column.type]) for column in REQUEST_LOG])
    with open_engine("duckdb") as engine:
        table = ibis.memtable(pa.Table.from_pylist(rows, schema=schema))
        expression = conform(table, options.pop("window", WINDOW), catalog=options.pop("catalog", Catalog()), **options)
        result = engine.backend.to_pyarrow(expression).to_pylist()
    assert all(set(row) == set(column_names(SCOPED_REQUESTS)) for row in result)
    return {row["attempt_id"]: row for row in result}


END_S = 3600.0
OF_ANOTHER_MODEL = [
    attempt("other", 1, model="dear", status="failure"),
    attempt("other", 2, second=1, model="other", status="failure"),
    attempt("other", 3, second=2, model="cheap"),
    attempt("same", 1, model="dear", status="failure"),
    attempt("same", 2, second=1, model="dear"),
    attempt("logged", 1, model="dear", status="failure"),
    attempt("logged", 2, second=1, model="cheap", fallback_from="as logged"),
    attempt("no failure", 1, model="dear"),
    attempt("no failure", 2, second=1, model="cheap"),
]
ROWS = [
    attempt("fell back", 1, status="failure", cost_usd=0.001, latency_ms=400.0),
    attempt("fell back", 2, second=0.5, model="gpt-4o-mini", provider_model="gpt-4o-mini", cost_usd=0.002),
    *OF_ANOTHER_MODEL,
    *(attempt("only failed", number, second=number, status="failure", cost_usd=None) for number in (1, 2, 3)),
    attempt("at once", 1, status="failure"),
    attempt("at once", 2, status="failure"),
    attempt("beyond", 1, second=END_S - 1, status="failure"),
    attempt("beyond", 2, second=END_S + 1),
    attempt("before", second=-0.000001),
    attempt("first", second=0),
    attempt("last", second=END_S - 0.000001),
    attempt("end", second=END_S),
    attempt("fraction", second=0.940018),
    *(attempt(f"ranked {place}", task_type="ranked", prompt_tokens=tokens) for place, tokens in enumerate((10, 20, 20, 400))),
    attempt("difficult", complexity=0.3),
    attempt("no task", task_type=None),
    attempt("too large parts", prompt_tokens=10, cached_tokens=1000, cache_write_tokens=50, reasoning_tokens=900),
    attempt("listed", cost_usd=None),
    attempt("unlisted", cost_usd=None, model="own", provider_model="own", provider="vllm"),
    attempt("unlisted hit", cost_usd=None, model="own", provider_model="own", provider="vllm", is_cache_hit=True),
    attempt("logged cost", cost_usd=0.5),
    attempt("failed", cost_usd=None, status="failure"),
    attempt("partly listed", 1, cost_usd=0.001, status="failure"),
    attempt("partly listed", 2, second=1.0, cost_usd=None),
    attempt("cached", cached_tokens=400),
    attempt("unknown", model="our-own", provider_model="our-own", provider=None),
]
"""Requests that know nothing of each other: what becomes of each is asked of one window."""


Rows = dict[str, dict[str, Any]]


@pytest.fixture(scope="module")
def rows() -> Rows:
    return conformed(ROWS)


def test_a_failure_followed_by_a_fallback_is_not_final_and_its_cost_stays_with_the_request(rows: Rows) -> None:
    first, second = rows["fell back/1"], rows["fell back/2"]
    assert (first["is_final"], second["is_final"]) == (False, True)
    assert second["request_cost_usd"] == pytest.approx(0.003)
    assert second["request_latency_ms"] == pytest.approx(1500.0)
    assert second["routed_model"] == "gpt-4o"
    assert second["attempts"] == 2
    assert first["request_cost_usd"] is None


def test_a_success_right_after_a_failure_of_another_model_is_a_fallback_whatever_the_logs_say(rows: Rows) -> None:
    found = {name: rows[name]["fallback_from"] for name in (row["attempt_id"] for row in OF_ANOTHER_MODEL)}
    assert {name: model for name, model in found.items() if model is not None} == {"other/3": "other", "logged/2": "as logged"}


def test_a_request_that_only_ever_failed_has_one_final_attempt(rows: Rows) -> None:
    assert [rows[f"only failed/{number}"]["is_final"] for number in (1, 2, 3)] == [False, False, True]


def test_two_attempts_at_the_same_microsecond_still_have_one_last(rows: Rows) -> None:
    assert sum(rows[f"at once/{number}"]["is_final"] for number in (1, 2)) == 1


def test_a_fallback_beyond_the_window_still_makes_the_failure_inside_it_not_final(rows: Rows) -> None:
    assert "beyond/2" not in rows
    assert rows["beyond/1"]["is_final"] is False


def test_the_window_is_half_open(rows: Rows) -> None:
    assert rows.keys() & {"before/1", "first/1", "last/1", "end/1"} == {"first/1", "last/1"}


def test_a_fraction_of_a_second_is_not_rounded_up(rows: Rows) -> None:
    assert rows["fraction/1"]["started_s"] == pytest.approx(START.timestamp() + 0.940018, abs=1e-6)


def test_the_hour_of_the_week_begins_on_monday(rows: Rows) -> None:
    assert START.weekday() == 0
    assert rows["first/1"]["hour_of_week"] == 12


def test_complexity_that_was_not_logged_is_the_rank_of_the_length_within_its_task(rows: Rows) -> None:
    ranked = [rows[f"ranked {place}/1"] for place in range(4)]
    assert [row["complexity"] for row in ranked] == pytest.approx([0.125, 0.5, 0.5, 0.875])
    assert all(row["is_complexity_derived"] for row in ranked)


def test_logged_complexity_is_kept_and_marked_as_logged(rows: Rows) -> None:
    assert (rows["difficult/1"]["complexity"], rows["difficult/1"]["is_complexity_derived"]) == (0.3, False)


def test_a_missing_task_type_reads_unknown(rows: Rows) -> None:
    assert (rows["no task/1"]["task_type"], rows["no task/1"]["is_task_type_logged"]) == ("unknown", False)


def test_every_token_class_is_recomputed_at_its_own_price() -> None:
    tokens = {"prompt_tokens": 1000, "cached_tokens": 400, "cache_write_tokens": 300, "completion_tokens": 100, "reasoning_tokens": 60}
    tokens |= {"audio_prompt_tokens": 200, "audio_completion_tokens": 30}
    own = ModelOverride(
        input_usd_per_million=1,
        cached_input_usd_per_million=0.1,
        cache_write_usd_per_million=1.25,
        audio_input_usd_per_million=5,
        output_usd_per_million=10,
        reasoning_usd_per_million=20,
        audio_output_usd_per_million=50,
    )
    row = conformed([attempt("a", model="own", cost_usd=None, **tokens)], catalog=Catalog({"own": own}))["a/1"]
    assert row["list_cost_usd"] == pytest.approx((100 * 1 + 400 * 0.1 + 300 * 1.25 + 200 * 5 + 10 * 10 + 60 * 20 + 30 * 50) / 1e6)


def test_parts_that_are_larger_than_what_holds_them_are_cut(rows: Rows) -> None:
    assert rows["too large parts/1"]["list_cost_usd"] == pytest.approx((10 * 1.25 + 100 * 10) / 1e6)


def test_a_call_without_a_logged_cost_has_the_lists_and_one_without_either_has_none(rows: Rows) -> None:
    names = ("listed", "unlisted", "unlisted hit", "logged cost", "failed")
    found = {name: (rows[f"{name}/1"]["cost_usd"], rows[f"{name}/1"]["logged_cost_usd"]) for name in names}
    assert found == {
        "listed": (pytest.approx(0.0035), None),
        "unlisted": (None, None),
        "unlisted hit": (0.0, None),
        "logged cost": (0.5, 0.5),
        "failed": (None, None),
    }


def test_the_cost_of_a_request_counts_attempts_that_only_the_list_prices(rows: Rows) -> None:
    assert rows["partly listed/2"]["request_cost_usd"] == pytest.approx(0.001 + 0.0035)


def test_files_from_before_a_column_was_there_read_as_null() -> None:
    schema = pa.schema([(column.name, ARROW[column.type]) for column in REQUEST_LOG if column.name not in ADDED_LATER])
    table = ibis.memtable(pa.Table.from_pylist([attempt("a")], schema=schema))
    row = table.pipe(conform, WINDOW, catalog=Catalog()).to_pyarrow().to_pylist()[0]
    assert {name: row[name] for name in ADDED_LATER} == dict.fromkeys(ADDED_LATER) | {"operation": "chat"}
    assert row["list_cost_usd"] == pytest.approx(0.0035)


def test_cached_tokens_are_recomputed_at_the_cached_price(rows: Rows) -> None:
    assert rows["cached/1"]["list_cost_usd"] == pytest.approx((600 * 2.5 + 400 * 1.25 + 100 * 10) / 1e6)
    assert rows["cached/1"]["tier"] == "standard"


def test_a_model_that_no_price_list_knows_has_no_recomputed_cost_and_no_tier(rows: Rows) -> None:
    assert (rows["unknown/1"]["list_cost_usd"], rows["unknown/1"]["tier"]) == (None, None)


def feedback(*scores: dict[str, Any]) -> ibis.Table:
    schema = pa.schema(
        [
            ("request_id", pa.string()),
            ("attempt_id", pa.string()),
            ("name", pa.string()),
            ("value", pa.float64()),
            ("scale_min", pa.float64()),
            ("scale_max", pa.float64()),
            ("source", pa.string()),
            ("scored_at", pa.timestamp("us")),
        ]
    )
    blank = dict.fromkeys(schema.names) | {"name": "quality", "source": "judge", "scored_at": START.replace(tzinfo=None)}
    return ibis.memtable(pa.Table.from_pylist([blank | score for score in scores], schema=schema))


STARS = {"name": "rating", "source": "user", "scale_min": 1.0, "scale_max": 5.0}
LATE = {"scored_at": datetime(2026, 3, 5)}
SCORES = [
    {"request_id": "scored twice", "value": 0.2},
    {"request_id": "scored twice", "value": 4.0, "scale_min": 1.0, "scale_max": 5.0, **LATE},
    {"request_id": "rated", "value": 1.0, "name": "rating", "source": "user"},
    {"request_id": "retried", "value": 4.0} | STARS,
    {"request_id": "retried", "value": 0.2},
    {"attempt_id": "stars/1", "value": 1.0} | STARS,
    {"request_id": "judged", "value": 0.4},
    {"request_id": "judged", "value": 1.0, "source": "user", **LATE},
    {"request_id": "by its user", "value": 1.0, "source": "user", **LATE},
    *(
        {"request_id": "again", "value": value, "source": source, "name": name, "scored_at": datetime(2026, 3, day)}
        for source, name in (("judge", "quality"), ("user", "stars"))
        for value, day in ((0.1, 3), (0.7, 5), (0.2, 4))
    ),
    *({"request_id": "one order", "value": value} for value in (0.6, 0.2, 0.9)),
    *({"request_id": "the other", "value": value} for value in (0.9, 0.2, 0.6)),
    {"request_id": "failed", "value": 1.0},
]


@pytest.fixture(scope="module")
def scored() -> Rows:
    scored_in_the_log = {"scored twice": 0.9, "in the log": 0.9}
    rated_in_the_log = {"stars": 0.9, "rated in the log": 0.9}
    names = ("scored twice", "in the log", "rated", "stars", "rated in the log", "judged", "by its user", "again", "one order", "the other")
    rows = [attempt(name, quality_score=scored_in_the_log.get(name), user_rating=rated_in_the_log.get(name)) for name in names]
    rows += [attempt("retried", status="failure"), attempt("retried", 2, second=1), attempt("failed", status="failure")]
    return conformed(rows, feedback=feedback(*SCORES))


def test_the_newest_feedback_wins_over_an_older_one_and_over_the_logged_score(scored: Rows) -> None:
    assert scored["scored twice/1"]["quality"] == pytest.approx(0.75)
    assert scored["in the log/1"]["quality"] == pytest.approx(0.9)


def test_a_rating_by_users_never_becomes_quality(scored: Rows) -> None:
    assert scored["rated/1"]["quality"] is None


def test_users_ratings_that_came_as_feedback_reach_the_final_attempt_and_stay_apart_from_quality(scored: Rows) -> None:
    ratings = {name: scored[name]["user_rating"] for name in ("retried/1", "retried/2", "stars/1", "rated in the log/1")}
    assert ratings == {"retried/1": None, "retried/2": 0.75, "stars/1": 0.0, "rated in the log/1": 0.9}
    assert scored["retried/2"]["quality"] == 0.2


def test_a_judges_scores_and_users_scores_of_one_name_are_kept_apart(scored: Rows) -> None:
    found = [(scored[name]["quality"], scored[name]["user_rating"]) for name in ("judged/1", "by its user/1")]
    assert found == [(0.4, 1.0), (None, 1.0)]


def test_where_nobody_else_scores_quality_users_do() -> None:
    rows = conformed([attempt("a")], feedback=feedback({"request_id": "a", "value": 1.0, "source": "user"}))
    assert (rows["a/1"]["quality"], rows["a/1"]["user_rating"]) == (1.0, None)


def test_a_request_that_is_scored_again_keeps_the_newest_of_each_source(scored: Rows) -> None:
    assert (scored["again/1"]["quality"], scored["again/1"]["user_rating"]) == (0.7, 0.7)


def test_of_two_scores_given_at_once_the_lower_counts_whatever_their_order(scored: Rows) -> None:
    assert {scored[name]["quality"] for name in ("one order/1", "the other/1")} == {0.2}


def test_a_score_for_a_failed_request_is_not_quality(scored: Rows) -> None:
    assert scored["failed/1"]["quality"] is None


def test_all_attempts_of_a_session_fall_into_one_half(week: Any) -> None:
    requests = week.requests
    halves = requests.group_by("session_id").agg(clusters=requests.cluster.nunique())
    assert halves.clusters.max().execute() == 1
    learn, prove = half_of(requests, "learn").count().execute(), half_of(requests, "prove").count().execute()
    assert learn + prove == requests.count().execute()
    assert 0.4 < learn / (learn + prove) < 0.6


def resolved(tmp_path: Path, rows: list[dict[str, Any]], parameters: Parameters, engine: Engine) -> Any:
    schema = pa.schema([(column.name, ARROW[column.type]) for column in REQUEST_LOG])
    lake = lake_of(tmp_path, pa.Table.from_pylist(rows, schema=schema))
    return resolve_scope(lake, parameters, engine=engine, engine_name="duckdb")


def test_a_window_with_too_little_is_extended_and_says_so(tmp_path: Path) -> None:
    rows = [attempt(str(index), second=-index * 600) for index in range(100)]
    with open_engine("duckdb") as engine:
        scope = resolved(tmp_path, rows, Parameters(timeframe="1h"), engine)
    assert (scope.timeframe_asked, scope.timeframe) == ("1h", "24h")
    assert scope.requests == 100
    assert any("extended to 24h" in notice for notice in scope.notices)
    assert scope.days_to_collect is not None
    assert scope.days_to_collect > 1


@pytest.mark.parametrize(("timeframe", "days"), [("30d", 3.0), ("24h", 1.0)])
def test_a_window_longer_than_the_logs_says_so_and_counts_the_days_that_they_cover(tmp_path: Path, timeframe: Any, days: float) -> None:
    rows = [attempt(str(index), second=-index * 180, quality_score=0.9) for index in range(3 * 480)]
    with open_engine("duckdb") as engine:
        scope = resolved(tmp_path, rows, Parameters(timeframe=timeframe), engine)
    if days == 1.0:
        assert (scope.requests, scope.timeframe) == (1_440, "7d"), "480 requests are too few, and the window is extended"
        days = 3.0
    assert scope.covered_days == pytest.approx(days, abs=0.01)
    assert scope.requests / scope.covered_days == pytest.approx(480, rel=0.01)
    (how_long,) = [notice for notice in scope.notices if "the logs cover 3.0 days of it" in notice]
    assert "figures of 30 days go by the time that they cover" in how_long
    assert any("The logs begin on 2026-02-27 12:03 UTC" in notice for notice in scope.notices)


def with_a_gap() -> list[dict[str, Any]]:
    """Three days of one request every three minutes, but for 15 hours; the newest of them code, the rest chat."""
    return [
        attempt(str(index), second=-index * 180, quality_score=0.9, task_type="code" if index < 1_200 else "chat")
        for index in range(3 * 480)
        if not 600 <= index < 900
    ]


def test_a_gap_in_the_logs_is_told_with_its_ends_and_not_divided_by_and_time_of_another_task_is_covered_for_every_task(
    tmp_path: Path,
) -> None:
    with open_engine("duckdb") as engine:
        scope, part = (resolved(tmp_path, with_a_gap(), Parameters(timeframe="7d", task_types=tasks), engine) for tasks in ((), ("code",)))
    assert scope.covered_days == pytest.approx(3.0 - 15 / 24, abs=0.05)
    assert any("The logs hold nothing from 2026-02-28 16:00 UTC to 2026-03-01 06:00 UTC" in notice for notice in scope.notices)
    assert scope.covered_within(scope.start_s, scope.end_s) == pytest.approx(scope.covered_s)
    assert part.requests == 900
    assert part.covered_s == scope.covered_s


def test_a_handful_of_requests_within_a_minute_is_an_hour_of_logs(tmp_path: Path) -> None:
    with open_engine("duckdb") as engine:
        scope = resolved(tmp_path, [attempt(str(index), second=-index) for index in range(3)], Parameters(timeframe="30d"), engine)
    assert scope.covered_s == 3_600.0


def test_a_window_is_not_extended_when_that_brings_nothing(tmp_path: Path) -> None:
    rows = [attempt(str(index), second=-index) for index in range(20)]
    with open_engine("duckdb") as engine:
        scope = resolved(tmp_path, rows, Parameters(timeframe="24h"), engine)
    assert scope.timeframe == "24h"
    assert any("too few" in notice for notice in scope.notices)


def test_a_window_with_no_rows_at_all_says_what_the_lake_holds(tmp_path: Path) -> None:
    rows = [attempt("a")]
    asked = Parameters(timeframe="1h", as_of=START - timedelta(days=100))
    with open_engine("duckdb") as engine, pytest.raises(UnusableInputError, match="newest request in the lake is of 2026-03-02"):
        resolved(tmp_path, rows, asked, engine)


def test_a_task_type_that_no_request_ever_had_is_told_with_the_nearest_that_one_had(tmp_path: Path) -> None:
    rows = [attempt(str(index), second=-index, task_type="summarization" if index % 3 else None) for index in range(30)]
    with open_engine("duckdb") as engine:
        with pytest.raises(UnusableInputError, match=r"task type 'summarisation' \(did you mean 'summarization'\?\)"):
            resolved(tmp_path, rows, Parameters(timeframe="30d", task_types=("summarisation",)), engine)
        for _ in range(2):
            scope = resolved(tmp_path, rows, Parameters(timeframe="30d", task_types=("summarization", "sumarization", "poetry")), engine)
            told = [notice for notice in scope.notices if "task type" in notice]
            assert told == [
                "No request in the lake is of the task type 'sumarization' (did you mean 'summarization'?).",
                "No request in the lake is of the task type 'poetry'.",
            ]
        for known in (("summarization", "unknown"), ()):
            scope = resolved(tmp_path, rows, Parameters(timeframe="30d", task_types=known), engine)
            assert not [notice for notice in scope.notices if "task type" in notice]


def test_a_task_type_of_earlier_days_is_not_taken_for_a_mistyped_one(tmp_path: Path) -> None:
    rows = [attempt("old", second=-40 * 86_400, task_type="poetry"), *(attempt(str(index), task_type="code") for index in range(5))]
    with open_engine("duckdb") as engine:
        scope = resolved(tmp_path, rows, Parameters(timeframe="30d", task_types=("code", "poetry")), engine)
    assert not [notice for notice in scope.notices if "task type" in notice]


def test_the_window_ends_just_after_the_newest_request() -> None:
    window = window_of(Parameters(timeframe="1h"), START.timestamp())
    assert window.start_s < START.timestamp() < window.end_s
    assert window.end_s - window.start_s == pytest.approx(3600)
    assert window.previous.end_s == window.start_s


def test_the_same_question_of_the_same_lake_has_the_same_key_and_another_has_another(tmp_path: Path) -> None:
    rows = [attempt(str(index), second=-index) for index in range(20)]
    with open_engine("duckdb") as engine:
        first, again = (resolved(tmp_path, rows, Parameters(timeframe="30d"), engine) for _ in range(2))
        other = resolved(tmp_path, rows, Parameters(timeframe="30d", goal="cost"), engine)
    assert first.key == again.key != other.key


def test_the_made_up_week_conforms_to_one_final_attempt_per_request(week: Any) -> None:
    requests = week.requests
    per_request = requests.group_by("request_id").agg(final=requests.is_final.sum())
    assert per_request.filter(per_request.final != 1).count().execute() == 0
    assert requests.is_final.sum().execute() == 20_000
    assert set(week.scope.models) == {arm.model for arm in traffic.ARMS}


def test_a_source_that_begins_days_after_the_window_beside_one_that_covers_it_is_told(tmp_path: Path) -> None:
    old = [attempt(f"o{index}", second=-index * 180, quality_score=0.9, source_object="a.jsonl") for index in range(7 * 480)]
    new = [
        attempt(f"n{index}", second=-index * 180 - 7, quality_score=0.9, source_object="a.jsonl in s3://new") for index in range(2 * 480)
    ]
    scopes = []
    with open_engine("duckdb") as engine:
        for sources in (("s3://old",), ("s3://old", "s3://new")):
            root = tmp_path / str(len(sources))
            for source in sources:
                Home(root).create().remember_source(source, add=True)
            scopes.append(resolved(root, old + new, Parameters(timeframe="7d"), engine))
    one, two = scopes
    (late,) = (notice for notice in two.notices if notice not in one.notices)
    assert "The logs of s3://new begin on 2026-02-28 12:02 UTC, 5.0 days after the window does" in late
    assert "too low" in late
