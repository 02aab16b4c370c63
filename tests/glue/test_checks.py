"""The data-quality gate in Dagster: one check per rule, blocking ones in front of everything, warnings in nobody's way."""

from __future__ import annotations

import shutil
from collections.abc import Callable, Iterator
from pathlib import Path

import dagster as dg
import duckdb
import pytest

from assets import delivery, ingest, scope
from assets.operations import PRIORITY, from_table
from assets.resources import HomeResource, ResultsIOManager
from checks import claims, ingest as ingest_checks, scope as scope_checks
from routing_pipeline.data_quality.expectations import BLOCKING, FEEDBACK, INGEST, WARNING, CheckItem, DataQuality
from routing_pipeline.data_quality.suite import data_quality, last_blocked
from routing_pipeline.demo.logs import DemoFiles, write_demo
from routing_pipeline.lake.table import Lake
from routing_pipeline.storage.home import Home
from routing_pipeline.window.scope import AnalysisScope

REQUESTS = 1_000
ASSETS = [ingest.request_log, ingest.feedback, scope.analysis_scope]
CHECKS = [ingest_checks.ledger, ingest_checks.feedback_ledger, scope_checks.what_must_hold, scope_checks.what_should_hold]


@dg.asset
def downstream(analysis_scope: AnalysisScope) -> None:
    """Anything that reads the scope."""


@pytest.fixture(scope="module")
def demo(tmp_path_factory: pytest.TempPathFactory) -> DemoFiles:
    return write_demo(tmp_path_factory.mktemp("demo"), requests=REQUESTS)


def run(
    home: Path, logs: Path, feedback: Path | None = None, selected: dg.AssetSelection | None = None, **tags: str
) -> dg.ExecuteInProcessResult:
    resource = HomeResource(root=str(home), logs=str(logs), feedback=str(feedback or ""))
    return dg.materialize(
        [*ASSETS, downstream, *CHECKS],
        resources={"home": resource, "io_manager": ResultsIOManager(root=resource.root)},
        selection=selected,
        raise_on_error=False,
        tags=tags,
    )


def evaluations(result: dg.ExecuteInProcessResult) -> dict[str, dg.AssetCheckEvaluation]:
    return {each.check_name: each for each in result.get_asset_check_evaluations()}


def materialised(result: dg.ExecuteInProcessResult) -> set[str]:
    """Without the days, of which the request log tells."""
    return ({event.asset_key.to_user_string() for event in result.get_asset_materialization_events()}) - {"request_log_days"}


@pytest.fixture(scope="module")
def good(demo: DemoFiles, tmp_path_factory: pytest.TempPathFactory) -> tuple[Home, dg.ExecuteInProcessResult]:
    home = tmp_path_factory.mktemp("home")
    return Home(home), run(home, demo.logs, demo.feedback)


@pytest.fixture
def rewrite(good: tuple[Home, dg.ExecuteInProcessResult]) -> Iterator[Callable[[str], None]]:
    """Rewrites a data file behind the lake's back by a statement over its `rows`; the file is put back afterwards."""
    home, _ = good
    file = Path(Lake(home).attempt_files(0, 4e9)[0])
    saved = file.read_bytes()

    def poison(statement: str) -> None:
        with duckdb.connect() as database:
            database.read_parquet(str(file)).create_view("rows")
            database.sql(statement).write_parquet(str(file.with_suffix(".poisoned")))
        file.with_suffix(".poisoned").replace(file)

    yield poison
    file.write_bytes(saved)


def test_there_is_one_check_per_rule_with_its_severity_and_a_description():
    specs = {spec.name: spec for check in CHECKS for spec in check.check_specs}
    assert set(specs) == {rule.name for rule in (*INGEST, *FEEDBACK, *BLOCKING, *WARNING)}
    for rule in (*INGEST, *FEEDBACK, *BLOCKING, *WARNING):
        assert specs[rule.name].blocking == (rule.severity == "blocking")
        assert rule.claim in specs[rule.name].description
        assert rule.why in specs[rule.name].description


def test_ledger_checks_are_about_the_request_log_and_suites_about_the_scope():
    assert {spec.asset_key.to_user_string() for spec in ingest_checks.ledger.check_specs} == {"request_log"}
    assert {spec.asset_key.to_user_string() for spec in ingest_checks.feedback_ledger.check_specs} == {"feedback"}
    suites = (scope_checks.what_must_hold, scope_checks.what_should_hold)
    assert {spec.asset_key.to_user_string() for check in suites for spec in check.check_specs} == {"analysis_scope"}


def test_a_good_week_passes_every_blocking_check_and_is_analysed(good):
    _, result = good
    assert result.success
    assert materialised(result) == {"request_log", "feedback", "analysis_scope", "downstream"}
    found = evaluations(result)
    assert set(found) == {rule.name for rule in (*INGEST, *FEEDBACK, *BLOCKING, *WARNING)}
    assert [name for name, each in found.items() if each.blocking and not each.passed] == []


def test_a_warning_stops_nothing(good):
    _, result = good
    found = evaluations(result)["propensity_is_filled"]
    assert (found.passed, found.severity, found.blocking) == (False, dg.AssetCheckSeverity.WARN, False)
    assert "downstream" in materialised(result)


def test_observed_values_travel_with_the_check(good, demo):
    _, result = good
    found = evaluations(result)
    assert found["attempt_id_is_unique"].metadata["rows"].value == demo.attempts
    assert found["quarantine_share_is_below_5_percent"].metadata["quarantined_share"].value == pytest.approx(demo.broken / demo.records)
    assert found["volume_is_as_before"].metadata["outcome"].value == "not checked"
    assert all(each.description for each in found.values())


def test_the_report_reads_what_the_checks_found_without_checking_again(good):
    home, result = good
    key = home.runs.key_of()
    analysed = home.results.load("analysis_scope", key, AnalysisScope)
    quality = data_quality(home, analysed, Lake(home), now_s=0.0)
    assert home.results.load("data_quality", key, DataQuality) == quality
    assert [check.name for check in quality.checks] == [rule.name for rule in (*INGEST, *FEEDBACK, *BLOCKING, *WARNING)]
    found = evaluations(result)
    assert {check.name: check.observed for check in quality.checks} == {name: each.description for name, each in found.items()}


def test_what_no_check_has_looked_at_is_looked_at_for_the_report(good, tmp_path):
    home, _ = good
    key = home.runs.key_of()
    analysed = home.results.load("analysis_scope", key, AnalysisScope).model_copy(
        update={"key": "fresh", "rows_key": "fresh", "window_key": "fresh"}
    )
    quality = data_quality(home, analysed, Lake(home), now_s=analysed.end_s + 60)
    assert len(quality.checks) == len((*INGEST, *FEEDBACK, *BLOCKING, *WARNING))
    assert quality.is_publishable
    assert next(check for check in quality.checks if check.name == "logs_are_fresh").outcome == "passed"


def test_a_poisoned_file_stops_everything_after_the_scope(good, rewrite, demo):
    """By several checks at once; what each of them finds is shown beside the expectations."""
    home, _ = good
    rewrite(
        "SELECT * REPLACE (-cost_usd AS cost_usd, CAST(4 AS DOUBLE) AS quality_score) FROM rows UNION ALL "
        "SELECT * REPLACE (-cost_usd AS cost_usd, CAST(4 AS DOUBLE) AS quality_score) FROM rows"
    )
    result = run(home.root, demo.logs, selected=dg.AssetSelection.assets(scope.analysis_scope, downstream))
    assert not result.success
    assert "downstream" not in materialised(result)
    failed = {name for name, each in evaluations(result).items() if each.blocking and not each.passed}
    assert failed == {"cost_is_never_negative", "attempt_id_is_unique", "scores_are_within_0_and_1"}
    assert {evaluations(result)[name].severity for name in failed} == {dg.AssetCheckSeverity.ERROR}
    # It delivers no report, so whoever watches is told otherwise.
    assert set(last_blocked(home).claims) == failed


def test_logs_most_of_which_are_refused_stop_before_the_scope(demo, tmp_path):
    logs = tmp_path / "logs"
    shutil.copytree(demo.logs, logs)
    refused = [f'{{"litellm_call_id":"refused-{number}","startTime":"never"}}' for number in range(demo.attempts)]
    (logs / "2026-11-18" / "batch_refused.jsonl").write_text("\n".join(refused))
    result = run(tmp_path / "home", logs)
    assert not result.success
    assert materialised(result) == {"request_log"}
    found = evaluations(result)["quarantine_share_is_below_5_percent"]
    assert (found.passed, found.severity) == (False, dg.AssetCheckSeverity.ERROR)
    assert last_blocked(Home(tmp_path / "home")).claims == ("quarantine_share_is_below_5_percent",)


def test_an_analysis_that_an_alert_started_is_not_the_newest(good, demo):
    home, _ = good
    before = home.runs.key_of()
    home.runs.begin("review", "f" * 16)
    result = run(home.root, demo.logs, selected=dg.AssetSelection.assets(scope.analysis_scope), alert="cost_spike")
    assert result.success
    assert home.runs.key_of(result.run_id) == before
    assert home.runs.key_of() == "f" * 16
    home.runs.begin("review", before)


def test_what_a_check_lists_is_shown_as_a_table():
    rule = next(rule for rule in WARNING if rule.name == "models_are_known")
    items = [CheckItem(name=f"model {number}", observed="3 attempts") for number in range(60)]
    (shown,) = claims.results([rule.result("failed", "60 models", {"unknown_attempts": 180.0}, items)], scope.analysis_scope)
    assert len(shown.metadata["where"].records) + shown.metadata["where_left_out"].value == 60
    assert shown.metadata["unknown_attempts"].value == 180.0


def test_what_should_hold_is_looked_at_beside_the_end_of_a_run_and_before_its_report() -> None:
    steps = [int(each.op.tags.get(PRIORITY, 0)) for each in from_table]
    should_hold, report = (int(each.op.tags[PRIORITY]) for each in (scope_checks.what_should_hold, delivery.optimization_report))
    assert report < should_hold < min(steps)
