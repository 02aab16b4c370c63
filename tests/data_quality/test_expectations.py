"""Every data-quality rule holds on good data and fails on data broken for it; blocking ones block, warnings do not."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from zoneinfo import ZoneInfo

import ibis
import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
import pytest

from routing_pipeline.catalog import Catalog
from routing_pipeline.data_quality.baseline_checks import EVALUATED_BY, compare
from routing_pipeline.data_quality.compared import Compared
from routing_pipeline.data_quality.expectations import (
    BASELINE,
    BLOCKING,
    COMPLETENESS,
    INGEST,
    MAX_ITEMS,
    WARNING,
    CheckItem,
    CheckResult,
    DataQuality,
    Expectation,
    Filled,
)
from routing_pipeline.data_quality.row_checks import _database, _opened, validate
from routing_pipeline.demo import traffic
from routing_pipeline.errors import UnusableInputError
from routing_pipeline.parameters import AlertThresholds, Parameters
from routing_pipeline.schema import ADDED_LATER, REQUEST_LOG
from routing_pipeline.window.conform import conform
from routing_pipeline.window.engine import Engine, bounded, open_engine
from routing_pipeline.window.scope import AnalysisScope, Window

WEEK_S = 7 * 86_400
WINDOW = Window(traffic.WEEK_START.timestamp(), traffic.WEEK_START.timestamp() + WEEK_S)
NOW_S = WINDOW.end_s + 600
REQUESTS = 3_000
EVERY_RULE = (*INGEST, *BLOCKING, *WARNING)


def names(suite: tuple[Expectation, ...]) -> list[str]:
    return [rule.name for rule in suite]


def rule_named(name: str) -> Expectation:
    return next(rule for rule in EVERY_RULE if rule.name == name)


# The rules themselves


def test_every_rule_has_a_name_of_its_own_in_snake_case():
    assert len(set(names(EVERY_RULE))) == len(EVERY_RULE)
    assert all(name.isidentifier() and name == name.lower() for name in names(EVERY_RULE))


def test_every_rule_says_what_it_claims_and_why():
    assert all(len(rule.claim) > 10 and len(rule.why) > 10 for rule in EVERY_RULE)


def test_suites_hold_rules_of_their_own_severity():
    assert {rule.severity for rule in (*INGEST, *BLOCKING)} == {"blocking"}
    assert {rule.severity for rule in WARNING} == {"warning"}


def test_every_comparison_has_an_evaluator_and_every_evaluator_a_rule():
    assert list(EVALUATED_BY) == names(BASELINE)


def test_completeness_is_about_optional_columns_of_the_request_log():
    optional = {column.name for column in REQUEST_LOG if not column.required}
    covered = {rule.predicate.column for rule in COMPLETENESS if isinstance(rule.predicate, Filled)}
    assert covered <= optional
    # A score may also come as feedback (`answers_are_scored`); only some attempts are fallbacks, write to a cache, or hold audio.
    assert optional - covered == {"quality_score", "user_rating", "fallback_from", *ADDED_LATER}


# Rules about rows


def good_rows() -> pa.Table:
    """A made-up week in which every column is filled."""
    rows = traffic.traffic(REQUESTS).attempts
    n = rows.num_rows
    filled = {
        "queue_depth": pa.array(np.arange(n) % 7),
        "quality_score": pa.array(np.linspace(0.0, 1.0, n)),
        "user_rating": pa.array(np.linspace(1.0, 0.0, n)),
        "routing_reason": pa.array(["heuristic_scorer"] * n),
        "propensity": pa.array(np.linspace(0.01, 1.0, n)),
    }
    for name, values in filled.items():
        rows = rows.set_column(rows.column_names.index(name), name, values)
    return rows


def with_column(rows: pa.Table, name: str, values: pa.Array | pa.ChunkedArray) -> pa.Table:
    return rows.set_column(rows.column_names.index(name), name, values)


def with_one(rows: pa.Table, name: str, value: object) -> pa.Table:
    """The same rows, the second of which holds `value`."""
    values = rows[name].to_pylist()
    values[1] = value
    return with_column(rows, name, pa.array(values, type=rows[name].type))


def with_values(rows: pa.Table, values: dict[str, object]) -> pa.Table:
    for name, value in values.items():
        rows = with_one(rows, name, value)
    return rows


def later(rows: pa.Table, name: str, by: timedelta) -> pa.Table:
    return with_one(rows, name, rows[name][1].as_py() + by)


BROKEN_ROWS: list[tuple[str, str, Callable[[pa.Table], pa.Table]]] = [
    ("columns_and_types_are_as_agreed", "a column is missing", lambda rows: rows.drop_columns(["ttft_ms"])),
    ("columns_and_types_are_as_agreed", "cost is text", lambda rows: with_column(rows, "cost_usd", rows["cost_usd"].cast(pa.string()))),
    *(
        (
            "required_columns_are_never_null",
            f"{column.name} is null once",
            lambda rows, name=column.name: with_one(rows, name, None),
        )
        for column in REQUEST_LOG
        if column.required
    ),
    ("attempt_id_is_unique", "an attempt is there twice", lambda rows: with_one(rows, "attempt_id", rows["attempt_id"][0].as_py())),
    ("started_at_is_within_the_window", "an attempt of last month", lambda rows: later(rows, "started_at", timedelta(days=-30))),
    ("started_at_is_within_the_window", "an attempt of 1970", lambda rows: with_one(rows, "started_at", datetime(1970, 1, 21))),
    ("started_at_is_not_in_the_future", "two hours after ingestion", lambda rows: later(rows, "ingested_at", timedelta(days=-9))),
    *(
        ("cost_is_never_negative", f"cost is {value}", lambda rows, value=value: with_one(rows, "cost_usd", value))
        for value in (-0.01, math.nan, math.inf)
    ),
    *(
        ("cost_is_within_any_price", how, lambda rows, values=values: with_values(rows, values))
        for how, values in (
            ("$2 for 110 tokens", {"cost_usd": 2.0, "prompt_tokens": 100, "completion_tokens": 10, "operation": "chat"}),
            ("the same, of a kind that is not logged", {"cost_usd": 2.0, "prompt_tokens": 100, "completion_tokens": 10, "operation": None}),
            ("an embedding", {"cost_usd": 2.0, "prompt_tokens": 100, "completion_tokens": None, "operation": "embedding"}),
            ("misread by a power of 256", {"cost_usd": 75_998_243_711.88, "prompt_tokens": None, "completion_tokens": None}),
            ("a million for an image", {"cost_usd": 1e6, "prompt_tokens": 10, "completion_tokens": 0, "operation": "image"}),
        )
    ),
    *(
        ("counts_are_never_negative", f"{name} is negative", lambda rows, name=name: with_one(rows, name, -1))
        for name in ("prompt_tokens", "completion_tokens", "cached_tokens", "reasoning_tokens", "retries", "queue_depth")
    ),
    *(
        ("latency_is_never_negative", f"{name} is {value}", lambda rows, name=name, value=value: with_one(rows, name, value))
        for name, value in (("latency_ms", -1.0), ("ttft_ms", math.nan), ("routing_latency_ms", math.inf))
    ),
    *(
        ("scores_are_within_0_and_1", f"{name} is {value}", lambda rows, name=name, value=value: with_one(rows, name, value))
        for name, value in (("quality_score", 1.2), ("user_rating", 5.0), ("complexity", -0.1), ("quality_score", math.nan))
    ),
    ("propensity_is_a_probability", "probability 0", lambda rows: with_one(rows, "propensity", 0.0)),
    ("propensity_is_a_probability", "probability 1.5", lambda rows: with_one(rows, "propensity", 1.5)),
    ("status_is_known", "a status of its own", lambda rows: with_one(rows, "status", "'; DROP TABLE lake_files; --")),
]


@pytest.fixture(scope="module")
def rows() -> pa.Table:
    return good_rows()


@pytest.fixture(scope="module")
def good_results(rows: pa.Table, tmp_path_factory: pytest.TempPathFactory) -> dict[str, CheckResult]:
    path = tmp_path_factory.mktemp("good") / "rows.parquet"
    pq.write_table(rows, path)
    return {result.name: result for result in validate((*BLOCKING, *WARNING), [str(path)], WINDOW)}


def test_there_is_broken_data_for_every_blocking_rule_about_rows():
    assert {name for name, _, _ in BROKEN_ROWS} == set(names(BLOCKING))


@pytest.mark.parametrize("rule", [*BLOCKING, *COMPLETENESS], ids=lambda rule: rule.name)
def test_a_rule_about_rows_holds_on_good_data(rule, good_results):
    assert good_results[rule.name].outcome == "passed", good_results[rule.name].observed
    assert good_results[rule.name].evaluated_by == "great_expectations"


def test_the_suites_see_the_rows_and_not_an_empty_table(rows, good_results):
    assert {result.numbers["rows"] for result in good_results.values() if "breaching_rows" in result.numbers} == {float(rows.num_rows)}


@pytest.mark.parametrize(("name", "how", "broken"), BROKEN_ROWS, ids=[f"{name}: {how}" for name, how, _ in BROKEN_ROWS])
def test_a_blocking_rule_fails_on_rows_broken_for_it(name, how, broken, rows, tmp_path):
    pq.write_table(broken(rows), tmp_path / "rows.parquet")
    (result,) = validate([rule_named(name)], [str(tmp_path / "rows.parquet")], WINDOW)
    assert result.outcome == "failed"
    assert result.severity == "blocking"
    assert result.items
    assert "could not be evaluated" not in result.observed


@pytest.mark.parametrize(
    "values",
    [
        {"cost_usd": 0.06, "prompt_tokens": 0, "completion_tokens": 100, "operation": "chat"},
        {"cost_usd": 600.0, "prompt_tokens": 0, "completion_tokens": 1_000_000, "operation": "batch"},
        {"cost_usd": 0.7, "prompt_tokens": 5, "completion_tokens": 5, "operation": "chat"},
        {"cost_usd": 6.0, "prompt_tokens": 20, "completion_tokens": 0, "operation": None},
        {"cost_usd": 6.0, "prompt_tokens": 20, "completion_tokens": 3, "operation": "image"},
        {"cost_usd": 40.0, "prompt_tokens": None, "completion_tokens": None, "operation": "transcription"},
        {"cost_usd": None, "prompt_tokens": 5, "completion_tokens": 5},
    ],
)
def test_a_cost_that_some_price_list_gives_passes(values, rows, tmp_path):
    pq.write_table(with_values(rows, values), tmp_path / "rows.parquet")
    (result,) = validate([rule_named("cost_is_within_any_price")], [str(tmp_path / "rows.parquet")], WINDOW)
    assert result.outcome == "passed", result.observed


def test_a_cost_beyond_any_price_is_told_with_the_object_that_it_came_from_and_what_to_do(rows, tmp_path):
    poisoned = with_values(rows, {"cost_usd": 1e9, "source_object": "2026/part-7.parquet"})
    pq.write_table(poisoned, tmp_path / "rows.parquet")
    (result,) = validate([rule_named("cost_is_within_any_price")], [str(tmp_path / "rows.parquet")], WINDOW)
    assert "1 of" in result.observed
    assert "as in '2026/part-7.parquet' (1). What to do: fix these objects and upload them again" in result.observed


def test_what_is_broken_for_one_rule_leaves_the_others_standing(rows, tmp_path):
    pq.write_table(with_one(rows, "cost_usd", -1.0), tmp_path / "rows.parquet")
    results = validate(BLOCKING, [str(tmp_path / "rows.parquet")], WINDOW)
    assert [result.name for result in results if result.outcome == "failed"] == ["cost_is_never_negative"]


def test_a_breach_in_the_last_of_several_files_is_found(rows, tmp_path):
    pq.write_table(rows.slice(0, 100), tmp_path / "a.parquet")
    pq.write_table(with_one(rows.slice(100), "latency_ms", -5.0), tmp_path / "b.parquet")
    files = [str(tmp_path / name) for name in ("a.parquet", "b.parquet")]
    results = {result.name: result for result in validate(BLOCKING, files, WINDOW)}
    assert results["latency_is_never_negative"].observed.startswith(
        f"does not hold in latency_ms: 1 of {rows.num_rows:,} rows; as in 'demo' (1)"
    )


def test_a_poisoned_row_beside_the_window_blocks_too_because_it_is_read_for_its_siblings(rows, tmp_path):
    pq.write_table(with_one(rows, "cost_usd", -1.0), tmp_path / "rows.parquet")
    after_it = Window(WINDOW.start_s + 86_400, WINDOW.end_s)
    (result,) = validate([rule_named("cost_is_never_negative")], [str(tmp_path / "rows.parquet")], after_it)
    assert result.outcome == "failed"


def test_files_with_other_columns_leave_the_rest_unchecked_and_block(rows, tmp_path):
    pq.write_table(rows.drop_columns(["ttft_ms"]), tmp_path / "rows.parquet")
    results = validate(BLOCKING, [str(tmp_path / "rows.parquet")], WINDOW)
    assert [result.outcome for result in results] == ["failed"] + ["not_checked"] * (len(BLOCKING) - 1)
    assert [item.name for item in results[0].items] == ["ttft_ms DOUBLE"]


def test_no_file_is_no_data_and_not_good_data():
    with pytest.raises(UnusableInputError, match="no data file"):
        validate(BLOCKING, [], WINDOW)


def test_a_folder_with_a_quote_in_its_name_is_a_folder(rows, tmp_path):
    path = tmp_path / "it's a 'home'" / "rows.parquet"
    path.parent.mkdir()
    pq.write_table(rows.slice(0, 50), path)
    (result,) = validate([rule_named("attempt_id_is_unique")], [str(path)], WINDOW)
    assert result.outcome == "passed"


def test_checks_hold_no_more_than_an_engine_may_and_leave_nothing_that_they_spilled(rows, tmp_path):
    pq.write_table(rows, tmp_path / "rows.parquet")
    with bounded("300MiB", 1, tmp_path / "spill") as settings, _opened([str(tmp_path / "rows.parquet")], WINDOW, settings):
        said = "SELECT current_setting('memory_limit'), current_setting('threads'), current_setting('temp_directory')"
        limit, threads, folder = _database.get().execute(said).fetchone()
        assert (limit, threads, Path(folder).parent) == ("300.0 MiB", 1, tmp_path / "spill")
    assert list((tmp_path / "spill").iterdir()) == []


# Completeness


def filled_to(rows: pa.Table, rule: Expectation, more: int) -> pa.Table:
    """The rule's column filled in just as many rows as the rule asks for, and `more`."""
    predicate = rule.predicate
    assert isinstance(predicate, Filled)
    counts = np.ones(rows.num_rows, dtype=bool) if predicate.of is None else pc.equal(rows["status"], predicate.of).to_numpy()
    wanted = math.ceil(predicate.share * counts.sum()) + more
    is_empty = counts & (counts.cumsum() > wanted)
    filler = {"string": "x", "double": 0.5, "int64": 1, "bool": True}[str(rows[predicate.column].type)]
    values = pc.fill_null(rows[predicate.column], filler)
    return with_column(rows, predicate.column, pc.if_else(pa.array(is_empty), None, values))


@pytest.fixture(scope="module")
def at_the_limit(rows: pa.Table, tmp_path_factory: pytest.TempPathFactory) -> dict[int, dict[str, CheckResult]]:
    """Results with every column filled as far as is asked (0), and one row less (-1)."""
    found = {}
    for more in (0, -1):
        table = rows
        for rule in COMPLETENESS:
            table = filled_to(table, rule, more)
        path = tmp_path_factory.mktemp("limit") / "rows.parquet"
        pq.write_table(table, path)
        found[more] = {result.name: result for result in validate(COMPLETENESS, [str(path)], WINDOW)}
    return found


@pytest.mark.parametrize("rule", COMPLETENESS, ids=lambda rule: rule.name)
def test_a_column_filled_as_far_as_asked_is_complete_and_one_row_less_is_a_warning(rule, at_the_limit):
    enough, too_few = at_the_limit[0][rule.name], at_the_limit[-1][rule.name]
    assert enough.outcome == "passed"
    assert (too_few.outcome, too_few.severity) == ("failed", "warning")
    assert too_few.numbers["filled_share"] < enough.numbers["filled_share"]


def test_completeness_is_about_the_window_alone(rows, tmp_path):
    day = Window(WINDOW.start_s, WINDOW.start_s + 86_400)
    is_inside = pc.less(rows["started_at"], pa.scalar(datetime.fromtimestamp(day.end_s, UTC).replace(tzinfo=None)))
    pq.write_table(with_column(rows, "team", pc.if_else(is_inside, rows["team"], None)), tmp_path / "rows.parquet")
    results = {result.name: result for result in validate(COMPLETENESS, [str(tmp_path / "rows.parquet")], day)}
    assert results["team_is_filled"].numbers == {"rows": float(pc.sum(is_inside).as_py()), "filled_share": 1.0}


def test_a_window_without_failures_says_nothing_of_their_types(rows, tmp_path):
    pq.write_table(rows.filter(pc.equal(rows["status"], "success")), tmp_path / "rows.parquet")
    (result,) = validate([rule_named("error_type_is_filled")], [str(tmp_path / "rows.parquet")], WINDOW)
    assert (result.outcome, result.observed) == ("not_checked", "no failures in the window")


# Comparisons


def two_weeks() -> tuple[pa.Table, pa.Table]:
    """Attempts and feedback of a week and of another one before it."""
    this, before = traffic.traffic(REQUESTS), traffic.traffic(REQUESTS, seed=7)
    week = pa.scalar(timedelta(days=7))
    attempts, feedback = before.attempts, before.feedback
    for name in ("started_at", "ingested_at"):
        attempts = with_column(attempts, name, pc.subtract(attempts[name], week))
    feedback = with_column(feedback, "scored_at", pc.subtract(feedback["scored_at"], week))
    return pa.concat_tables([this.attempts, attempts]), pa.concat_tables([this.feedback, feedback])


def scope_of(requests: ibis.Table, previous: ibis.Table, **changed: object) -> AnalysisScope:
    counts = [int(table.filter(table.is_final).count().to_pyarrow().as_py()) for table in (requests, previous)]
    values = {
        "key": "test",
        "parameters": Parameters(),
        "timeframe_asked": "7d",
        "timeframe": "7d",
        "start_s": WINDOW.start_s,
        "end_s": WINDOW.end_s,
        "previous_start_s": WINDOW.previous.start_s,
        "snapshot_id": "1",
        "requests": counts[0],
        "attempts": counts[0],
        "labelled": 1,
        "previous_requests": counts[1],
        "sessions": 1,
        "models": (),
        "task_types": (),
        "complexity_derived_share": 0.0,
        "task_type_unknown_share": 0.0,
        "sources": (),
        "requests_uri": "",
        "previous_uri": "",
    }
    return AnalysisScope.model_validate(values | changed)


@dataclass(frozen=True)
class GoodWeeks:
    engine: Engine
    compared: Compared


@pytest.fixture(scope="module")
def weeks(tmp_path_factory: pytest.TempPathFactory) -> Iterator[GoodWeeks]:
    folder: Path = tmp_path_factory.mktemp("weeks")
    for name, table in zip(("attempts", "feedback"), two_weeks(), strict=True):
        pq.write_table(table, folder / f"{name}.parquet")
    with open_engine("duckdb") as engine:
        attempts, feedback = (engine.read_parquet([folder / f"{name}.parquet"]) for name in ("attempts", "feedback"))
        for name, window in (("requests", WINDOW), ("previous", WINDOW.previous)):
            engine.write_parquet(conform(attempts, window, catalog=Catalog(), feedback=feedback), folder / f"{name}.parquet")
        requests, previous = (engine.read_parquet([folder / f"{name}.parquet"]) for name in ("requests", "previous"))
        yield GoodWeeks(engine, Compared(scope_of(requests, previous), requests, previous, attempts, feedback, Catalog(), NOW_S))


@pytest.fixture(scope="module")
def good(weeks: GoodWeeks) -> Compared:
    return weeks.compared


def rescoped(rows: Compared, **changed: object) -> Compared:
    return replace(rows, scope=scope_of(rows.requests, rows.previous, **changed))


def only_requests(rows: Compared, change: Callable[[ibis.Table], ibis.Table]) -> Compared:
    return rescoped(replace(rows, requests=change(rows.requests)))


def at_hours(rows: ibis.Table, day: int, first: int, last: int) -> ibis.Value:
    start = datetime.fromtimestamp(WINDOW.start_s + day * 86_400, UTC).replace(tzinfo=None)
    return rows.started_at.between(start + timedelta(hours=first), start + timedelta(hours=last))


def part_of(rows: ibis.Table, share: float) -> ibis.Value:
    """About a share of the sessions, the same ones every time."""
    return rows.cluster < round(256 * share)


def unscored(rows: Compared) -> Compared:
    return replace(rows, requests=rows.requests.mutate(quality=ibis.null("float64")))


def cheaper(rows: ibis.Table) -> ibis.Table:
    return rows.mutate(logged_cost_usd=ibis.ifelse(rows.model == "gpt-4o", rows.logged_cost_usd * 0.8, rows.logged_cost_usd))


def renamed(rows: ibis.Table) -> ibis.Table:
    return rows.mutate(
        model=ibis.ifelse(rows.model == "gpt-4o", "our-own-model", rows.model),
        tier=ibis.ifelse(rows.model == "gpt-4o", ibis.null("string"), rows.tier),
    )


def seen_twice(rows: Compared, share: float = 1.0) -> Compared:
    """Another tool logs part of the answers too, a few milliseconds later and under ids of its own."""
    requests, attempts = rows.requests, rows.attempts
    later = ibis.interval(milliseconds=7)
    again = requests.filter(requests.status == "success", part_of(requests, share))
    again = again.mutate(attempt_id=again.attempt_id.concat("-too"), started_s=again.started_s + 0.007)
    too = attempts.semi_join(again.select(attempt_id=again.attempt_id.replace("-too", "")), "attempt_id")
    too = too.mutate(
        attempt_id=too.attempt_id.concat("-too"),
        request_id=too.request_id.concat("-too"),
        started_at=too.started_at + later,
        source_format=ibis.literal("langfuse"),
        source_object=ibis.literal("observations/1.jsonl"),
    )
    return replace(rows, requests=ibis.union(requests, again), attempts=ibis.union(attempts, too.select(*attempts.columns)))


BROKEN_WEEKS: list[tuple[str, str, Callable[[Compared], Compared]]] = [
    (
        "no_hour_is_silent",
        "two busy hours are gone",
        lambda rows: replace(rows, attempts=rows.attempts.filter(~at_hours(rows.attempts, 2, 10, 12))),
    ),
    ("logs_are_fresh", "looked at three days later", lambda rows: replace(rows, now_s=WINDOW.end_s + 3 * 86_400)),
    (
        "logs_are_fresh",
        "the window asked for ends two days after the newest request",
        lambda rows: rescoped(
            replace(rows, attempts=rows.attempts.filter(~at_hours(rows.attempts, 5, 0, 48))),
            parameters=Parameters(as_of=datetime.fromtimestamp(WINDOW.end_s, UTC)),
        ),
    ),
    ("volume_is_as_before", "two thirds are gone", lambda rows: only_requests(rows, lambda t: t.filter(part_of(t, 1 / 3)))),
    (
        "volume_is_as_before",
        "three times as many",
        lambda rows: rescoped(replace(rows, previous=rows.previous.filter(part_of(rows.previous, 1 / 3)))),
    ),
    (
        "mix_of_tasks_is_as_before",
        "a fifth became code",
        lambda rows: only_requests(rows, lambda t: t.mutate(task_type=ibis.ifelse(part_of(t, 0.25), "code", t.task_type))),
    ),
    (
        "mix_of_models_is_as_before",
        "a fifth goes to another model",
        lambda rows: only_requests(rows, lambda t: t.mutate(routed_model=ibis.ifelse(part_of(t, 0.25), "gpt-4o", t.routed_model))),
    ),
    ("models_are_known", "a model that no catalog knows", lambda rows: only_requests(rows, renamed)),
    (
        "successes_have_a_cost",
        "one percent is free",
        lambda rows: only_requests(rows, lambda t: t.mutate(logged_cost_usd=ibis.ifelse(part_of(t, 0.02), 0.0, t.logged_cost_usd))),
    ),
    ("logged_cost_is_the_list_price", "a discount of a fifth", lambda rows: only_requests(rows, cheaper)),
    ("answers_are_scored", "no answer is", unscored),
    ("feedback_is_not_repeated", "delivered twice", lambda rows: replace(rows, feedback=ibis.union(rows.feedback, rows.feedback))),
    (
        "feedback_finds_its_request",
        "keyed by another id",
        lambda rows: replace(rows, feedback=rows.feedback.mutate(request_id=rows.feedback.request_id.concat("-x"))),
    ),
    (
        "clocks_agree",
        "ingested before it began",
        lambda rows: replace(
            rows,
            attempts=rows.attempts.mutate(
                ingested_at=ibis.ifelse(
                    rows.attempts.model == "gpt-4o", rows.attempts.started_at - ibis.interval(minutes=10), rows.attempts.ingested_at
                )
            ),
        ),
    ),
    (
        "clocks_agree",
        "scored before it began",
        lambda rows: replace(rows, feedback=rows.feedback.mutate(scored_at=rows.feedback.scored_at - ibis.interval(hours=20))),
    ),
    ("calls_are_logged_once", "two tools log one answer in twenty", lambda rows: seen_twice(rows, 0.05)),
]


def outcome(name: str, rows: Compared) -> CheckResult:
    return EVALUATED_BY[name](rule_named(name), rows)


def test_there_is_a_broken_week_for_every_comparison():
    assert {name for name, _, _ in BROKEN_WEEKS} == set(names(BASELINE))


def test_every_comparison_holds_on_good_weeks(good):
    results = compare(good)
    assert [result.name for result in results] == names(BASELINE)
    assert {result.name: result.observed for result in results if result.outcome != "passed"} == {}
    assert {result.evaluated_by for result in results} == {"aggregate"}


@pytest.mark.parametrize(("name", "how", "broken"), BROKEN_WEEKS, ids=[f"{name}: {how}" for name, how, _ in BROKEN_WEEKS])
def test_a_comparison_warns_of_weeks_broken_for_it(name, how, broken, good):
    result = outcome(name, broken(good))
    assert (result.outcome, result.severity) == ("failed", "warning"), result.observed


def test_silent_hours_are_named_with_what_is_usual(good):
    broken = replace(good, attempts=good.attempts.filter(~at_hours(good.attempts, 2, 10, 12)))
    result = outcome("no_hour_is_silent", broken)
    assert [item.name for item in result.items] == ["2026-11-18 10:00 UTC", "2026-11-18 11:00 UTC"]
    assert result.numbers["silent_hours"] == 2
    assert result.numbers["missing_attempts"] == sum(item.numbers["usual"] for item in result.items)


def test_without_a_week_before_other_days_of_the_same_kind_are_the_baseline(good):
    this_week = good.attempts.filter(good.attempts.started_at >= datetime.fromtimestamp(WINDOW.start_s, UTC).replace(tzinfo=None))
    broken = replace(good, attempts=this_week.filter(~at_hours(this_week, 2, 10, 12)))
    assert outcome("no_hour_is_silent", replace(good, attempts=this_week)).outcome == "passed"
    assert [item.name[11:16] for item in outcome("no_hour_is_silent", broken).items] == ["10:00", "11:00"]


@pytest.mark.parametrize("monday", [datetime(2026, 3, 30, tzinfo=UTC), datetime(2026, 10, 26, tzinfo=UTC)], ids=["spring", "autumn"])
@pytest.mark.parametrize("back", [5, 1], ids=["with the weeks before", "with days alone"])
def test_offices_that_open_and_close_by_their_clock_are_not_silent_after_it_was_changed(monday, back, good):
    start = int(monday.timestamp()) // 3_600 - 24 * (0 if back > 1 else 5)
    hours = range(start - (back - 1) * 168, start + 168)
    clock = ZoneInfo("Europe/Berlin")
    asked = {
        hour: 200
        for hour in hours
        if (local := datetime.fromtimestamp(hour * 3_600, UTC).astimezone(clock)).weekday() < 5 and 8 <= local.hour < 18
    }

    def silent(zone: str, *lost: int) -> list[str]:
        alerts = Parameters(alerts=AlertThresholds(timezone=zone))
        scope = good.scope.model_copy(update={"parameters": alerts, "start_s": start * 3_600.0, "end_s": (start + 168) * 3_600.0})
        rows = replace(good, scope=scope)
        rows.__dict__["hours"] = {hour: n for hour, n in asked.items() if hour not in lost}
        return [item.name for item in outcome("no_hour_is_silent", rows).items]

    assert silent("Europe/Berlin") == []
    assert silent("UTC") != []
    tuesday = int((monday + timedelta(days=1, hours=9)).timestamp()) // 3_600
    assert silent("Europe/Berlin", tuesday, tuesday + 1) == [
        f"{monday + timedelta(days=1, hours=hour):%Y-%m-%d %H:%M} UTC" for hour in (9, 10)
    ]


def test_an_hour_that_is_always_quiet_is_not_called_silent(good):
    broken = replace(good, attempts=good.attempts.filter(~at_hours(good.attempts, 6, 2, 4)))
    assert outcome("no_hour_is_silent", broken).outcome == "passed"


def test_a_lake_that_begins_with_the_window_has_nothing_to_compare_volume_and_mix_with(good):
    this_week = good.attempts.filter(good.attempts.started_at >= datetime.fromtimestamp(WINDOW.start_s, UTC).replace(tzinfo=None))
    young = rescoped(replace(good, attempts=this_week, previous=good.previous.filter(False)))
    for name in ("volume_is_as_before", "mix_of_tasks_is_as_before", "mix_of_models_is_as_before"):
        result = outcome(name, young)
        assert result.outcome == "not_checked"
        assert "begins 2026-11-16" in result.observed


def test_a_lake_that_begins_in_the_middle_of_the_window_before_is_not_compared_with(good):
    middle = datetime.fromtimestamp(WINDOW.start_s - WEEK_S / 2, UTC).replace(tzinfo=None)
    young = replace(good, attempts=good.attempts.filter(good.attempts.started_at >= middle))
    assert outcome("volume_is_as_before", young).outcome == "not_checked"


def test_nothing_at_all_is_not_checked_and_never_an_error(good):
    nothing = rescoped(
        replace(
            good,
            attempts=good.attempts.filter(False),
            requests=good.requests.filter(False),
            previous=good.previous.filter(False),
            feedback=None,
        )
    )
    assert {result.outcome for result in compare(nothing)} == {"not_checked"}


def test_an_empty_feedback_is_not_checked(good):
    silent = replace(good, feedback=good.feedback.filter(False))
    assert {outcome(name, silent).outcome for name in ("feedback_is_not_repeated", "feedback_finds_its_request")} == {"not_checked"}


def test_a_discount_is_named_with_the_model_and_the_money(good):
    (item,) = outcome("logged_cost_is_the_list_price", only_requests(good, cheaper)).items
    assert item.name == "gpt-4o"
    assert item.numbers["ratio"] == pytest.approx(0.8)
    assert "provider discount: every class is charged at 80 %" in item.observed


def test_calls_that_two_tools_log_are_told_with_both_and_what_they_cost(good):
    result = outcome("calls_are_logged_once", seen_twice(good))
    (item,) = result.items
    assert item.name == "demo and langfuse"
    assert "such as in 'demo' and 'observations/1.jsonl'" in item.observed
    answers = good.requests.filter((good.requests.status == "success") & ~good.requests.is_cache_hit.fill_null(False))
    assert result.numbers["alike_usd"] == pytest.approx(float(answers.cost_usd.sum().execute()), rel=0.01)
    assert result.numbers["alike_answers"] == pytest.approx(float(answers.count().execute()), rel=0.01)


def test_answers_of_one_length_that_come_by_the_dozen_are_not_taken_for_one_another(good):
    """Ten a second, all of as many tokens, each taking between half a second and a second."""
    n, rng = 30_000, np.random.default_rng(4)
    busy = pa.table(
        {
            "attempt_id": [f"a{number}" for number in range(n)],
            "status": ["success"] * n,
            "is_cache_hit": pa.nulls(n, pa.bool_()),
            "prompt_tokens": [40] * n,
            "completion_tokens": [1] * n,
            "started_s": np.sort(WINDOW.start_s + rng.uniform(0, n / 10, n)),
            "latency_ms": rng.uniform(500, 1_000, n),
            "cost_usd": [0.001] * n,
        }
    )
    result = outcome("calls_are_logged_once", replace(good, requests=ibis.memtable(busy)))
    assert result.outcome == "passed", result.observed


def test_calls_under_one_id_that_count_once_are_told_of(good):
    attempts = good.attempts
    first = attempts.filter(attempts.status == "success", attempts.started_at >= datetime(2026, 11, 17)).order_by("started_at").limit(3)
    bridged = first.mutate(attempt_id=first.attempt_id.concat("-inner"), started_at=first.started_at + ibis.interval(milliseconds=3))
    result = outcome("calls_are_logged_once", replace(good, attempts=ibis.union(attempts, bridged)))
    assert (result.outcome, result.numbers["left_out_calls"]) == ("passed", 3)
    assert "3 more were logged under one call id and are counted once" in result.observed


def test_chance_alone_is_not_called_drift(good):
    few = rescoped(
        replace(
            good, requests=good.requests.filter(part_of(good.requests, 0.02)), previous=good.previous.filter(part_of(good.previous, 0.02))
        )
    )
    result = outcome("mix_of_tasks_is_as_before", few)
    assert result.numbers["moved_share"] > 0.10
    assert result.outcome == "passed"


def test_names_from_the_logs_stay_on_one_line_and_short(good):
    hostile = "evil\n|`<script>`\x1b[31m" + "x" * 500

    def rename(rows: ibis.Table) -> ibis.Table:
        return renamed(rows).mutate(model=ibis.literal(hostile))

    for item in outcome("models_are_known", only_requests(good, rename)).items:
        assert item.name.isprintable()
        assert len(item.name) <= 80


def test_what_cannot_all_be_listed_is_counted():
    items = [CheckItem(name=str(number), observed="") for number in range(MAX_ITEMS + 7)]
    result = rule_named("models_are_known").result("failed", "", items=items)
    assert (len(result.items), result.items_left_out) == (MAX_ITEMS, 7)


# The gate


def test_only_a_blocking_failure_keeps_results_from_being_published():
    warned = DataQuality(rows=1, checks=(rule_named("models_are_known").result("failed", "2 models"),))
    assert warned.is_publishable
    blocked = DataQuality(rows=1, checks=(*warned.checks, rule_named("attempt_id_is_unique").result("failed", "does not hold in 3 rows")))
    assert not blocked.is_publishable
    assert [check.name for check in blocked.of("blocking", "failed")] == ["attempt_id_is_unique"]


def test_results_survive_the_way_through_json(good_results):
    quality = DataQuality(rows=1, checks=tuple(good_results.values()))
    assert DataQuality.model_validate_json(quality.model_dump_json()) == quality
