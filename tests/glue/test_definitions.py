"""What Dagster is told: the graph, its words, its jobs, its clock, and where the home lies."""

from __future__ import annotations

import itertools
import json
import os
import re
import subprocess
import sys
from collections.abc import Mapping
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any
from zoneinfo import ZoneInfo

import dagster as dg
import pytest
from dagster._utils.schedules import schedule_execution_time_iterator

from assets import automation
from assets.definitions import build_defs, defs
from assets.resources import HomeResource, ResultsIOManager
from assets.scope import run_tags
from assets.waiting import IMPATIENT
from routing_pipeline import schema
from routing_pipeline.lake.table import Lake
from routing_pipeline.parameters import Parameters
from routing_pipeline.storage.home import Home
from tests.made_up_report import scope_of

ROOT = Path(__file__).parents[2]
GRAPH = Path(__file__).with_name("graph.json")

OPERATIONS = {
    "routing_analytics",
    "routing_costs",
    "quality_metrics",
    "request_patterns",
    "model_performance",
    "routing_decisions",
    "bottlenecks",
    "cost_drivers",
    "quality_issues",
    "routing_rules",
    "model_mix",
    "cost_optimization_plan",
    "optimization_plan",
    "optimization_risks",
}


def asset_specs() -> list[dg.AssetSpec]:
    return sorted(defs.resolve_all_asset_specs(), key=lambda spec: spec.key)


def our_specs() -> list[dg.AssetSpec]:
    """Without the sources, which others make."""
    return [spec for spec in asset_specs() if spec.group_name != "sources"]


def check_specs() -> list[dg.AssetCheckSpec]:
    graph = defs.resolve_asset_graph()
    return sorted((graph.get_check_spec(key) for key in graph.asset_check_keys), key=lambda spec: (spec.asset_key, spec.name))


def graph() -> dict[str, Any]:
    return {
        "assets": {
            spec.key.to_user_string(): {
                "group": spec.group_name,
                "kinds": sorted(spec.kinds),
                "depends_on": sorted(dep.asset_key.to_user_string() for dep in spec.deps),
            }
            for spec in asset_specs()
        },
        "checks": {f"{spec.asset_key.to_user_string()}: {spec.name}": "blocking" if spec.blocking else "warning" for spec in check_specs()},
    }


def test_the_graph_is_the_one_that_was_reviewed(request: pytest.FixtureRequest) -> None:
    found = json.dumps(graph(), indent=1, sort_keys=True) + "\n"
    if request.config.getoption("--rewrite-graph"):
        GRAPH.write_text(found, encoding="utf-8")
    assert GRAPH.read_text(encoding="utf-8") == found, "the asset graph changed; if that is meant, run pytest tests/glue --rewrite-graph"


def test_every_operation_of_the_task_is_an_asset() -> None:
    assert {spec.key.to_user_string() for spec in asset_specs()} >= OPERATIONS


@pytest.mark.parametrize("spec", our_specs(), ids=lambda spec: spec.key.to_user_string())
def test_every_asset_says_what_it_is_and_whose_and_by_when_it_is_renewed(spec: dg.AssetSpec) -> None:
    assert re.search(r"One [a-z ]+ per [a-z]+", spec.description or ""), "what one entry of it is"
    assert spec.group_name not in {None, "default"}
    assert spec.owners
    assert spec.kinds
    assert spec.code_version
    assert spec.freshness_policy
    assert spec.automation_condition is None, "schedules and sensors start runs, and nothing else"


def test_lineage_begins_at_the_gateway_and_its_bucket() -> None:
    assets = graph()["assets"]
    assert assets["request_log"]["depends_on"] == ["log_objects", "request_log_days"]
    assert assets["request_log_days"]["depends_on"] == ["log_objects"]
    assert assets["log_objects"]["depends_on"] == ["gateway"]
    outside = {name for name, said in assets.items() if said["group"] == "sources"}
    assert outside == {"gateway", "log_objects", "feedback_objects"}
    assert not outside & {key.to_user_string() for key in defs.resolve_asset_graph().materializable_asset_keys}


@pytest.mark.parametrize(
    ("tags", "why"),
    [
        ({"reason": "weekly review"}, {}),
        ({IMPATIENT: "somebody waits at a terminal"}, {"why": "asked for at a terminal"}),
        ({}, {"why": "started by hand"}),
    ],
)
def test_a_list_of_runs_says_goal_window_and_why_however_a_run_was_started(tags: dict[str, str], why: dict[str, str]) -> None:
    said = run_tags(dg.DagsterRun(job_name="optimize_routing", tags=tags), scope_of(Parameters(goal="speed")))
    assert said == {"goal": "speed", "window": "7d to 2026-11-23 00:00 UTC", **why}


def test_every_job_schedule_and_sensor_says_what_it_is_for() -> None:
    found = [*(defs.jobs or []), *(defs.schedules or []), *(defs.sensors or [])]
    assert len(found) >= 16
    assert [each.name for each in found if not each.description] == []


@pytest.mark.parametrize(
    ("asset", "schedule", "deadline"),
    [
        ("optimization_report", automation.weekly_review, automation.AFTER_REVIEW),
        ("request_log", automation.weekly_review, automation.AFTER_REVIEW),
        ("lake_upkeep", automation.nightly_upkeep, automation.AFTER_UPKEEP),
    ],
)
def test_an_asset_is_overdue_six_hours_after_its_schedule(
    asset: str, schedule: dg.ScheduleDefinition, deadline: dg.FreshnessPolicy
) -> None:
    (spec,) = (spec for spec in asset_specs() if spec.key == dg.AssetKey(asset))
    assert spec.freshness_policy == deadline
    minute, hour, *days = str(schedule.cron_schedule).split()
    assert deadline.deadline_cron == " ".join([minute, str(int(hour) + 6), *days])
    assert (deadline.lower_bound_delta, deadline.timezone) == (timedelta(hours=6), schedule.execution_timezone)


@pytest.mark.parametrize(
    ("asset", "columns"),
    [("request_log", schema.REQUEST_LOG), ("feedback", schema.KEPT_FEEDBACK), ("analysis_scope", schema.SCOPED_REQUESTS)],
)
def test_a_table_shows_its_columns_with_unit_and_nulls_and_what_a_row_is(asset: str, columns: tuple[schema.Column, ...]) -> None:
    (spec,) = (spec for spec in asset_specs() if spec.key == dg.AssetKey(asset))
    shown = spec.metadata["dagster/column_schema"]
    assert [(each.name, each.type, each.constraints.nullable) for each in shown.columns] == [
        (each.name, each.type, not each.required) for each in columns
    ]
    for told, column in zip(shown.columns, columns, strict=True):
        assert told.description.startswith(column.description)
        assert column.unit in told.description
    assert shown.constraints.other[0].startswith("one row per ")


def test_under_dagster_dev_an_asset_leads_to_its_code_and_elsewhere_no_path_is_told(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("DAGSTER_IS_DEV_CLI", raising=False)
    assert not any("dagster/code_references" in spec.metadata for spec in build_defs().resolve_all_asset_specs())
    monkeypatch.setenv("DAGSTER_IS_DEV_CLI", "1")
    specs = {spec.key.to_user_string(): spec for spec in build_defs().resolve_all_asset_specs()}
    files = {
        name: [str(Path(each.file_path).relative_to(ROOT)) for each in spec.metadata["dagster/code_references"].code_references]
        for name, spec in specs.items()
        if spec.group_name != "sources"
    }
    assert files["request_log"] == ["assets/ingest.py"]
    assert files["bottlenecks"] == ["routing_pipeline/analysis/bottlenecks.py", "assets/operations.py"]
    assert [path for paths in files.values() for path in paths if not (ROOT / path).is_file()] == []


def test_resources_that_are_handed_over_take_the_place_of_the_environments(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("ROUTING_PIPELINE_HOME", str(tmp_path / "elsewhere"))
    record = {"attempt_id": "a", "request_id": "a", "started_at": "2026-11-18T10:00:00Z", "model": "gpt-4o", "status": "success"}
    (tmp_path / "logs.jsonl").write_text(json.dumps(record), encoding="utf-8")
    root = str(tmp_path / "home")
    handed = {"home": HomeResource(root=root, logs=str(tmp_path / "logs.jsonl")), "io_manager": ResultsIOManager(root=root)}
    result = build_defs(handed).resolve_job_def("ingest_logs").execute_in_process()
    assert result.success
    again = build_defs(handed).resolve_job_def("ingest_logs").execute_in_process()
    assert [metadata_of(each, "request_log")["ingested"].value for each in (result, again)] == [1, 0]
    rows = [metadata_of(each, "request_log")["dagster/row_count"].value for each in (result, again)]
    assert rows == [1, 1], "of the table, not of what a run added"
    assert Lake(Home(tmp_path / "home")).totals().ingested == 1
    assert not (tmp_path / "elsewhere").exists()


def test_every_check_says_what_it_claims() -> None:
    specs = check_specs()
    assert len(specs) >= 10
    assert [spec.name for spec in specs if not spec.description] == []


def test_parameters_enter_at_the_scope_and_nowhere_else() -> None:
    job = defs.resolve_job_def("optimize_routing")
    configured = {node.name for node in job.nodes if dict(getattr(node.definition.config_schema.config_type, "fields", {}) or {})}
    assert configured == {"request_log", "feedback", "analysis_scope", "incidents", "optimization_report"}


def metadata_of(result: dg.ExecuteInProcessResult, asset: str) -> Mapping[str, Any]:
    made = [event.event_specific_data.materialization for event in result.get_asset_materialization_events()]  # type: ignore[union-attr]
    return next(each.metadata for each in made if each.asset_key == dg.AssetKey(asset))


def assets_of(job: str) -> set[str]:
    return {key.to_user_string() for key in defs.resolve_job_def(job).asset_layer.executable_asset_keys}


def test_the_jobs_are_ingestion_alone_upkeep_alone_and_all_the_rest() -> None:
    assert assets_of("ingest_logs") == {"request_log", "feedback"}
    assert assets_of("maintain_lake") == {"lake_upkeep"}
    assert assets_of("look_at_rollout") == {"rollout"}
    assert assets_of("optimize_routing") == {spec.key.to_user_string() for spec in our_specs()} - {
        "lake_upkeep",
        "rollout",
        "request_log_days",
    }


def test_the_budget_is_projected_every_quarter_and_with_every_review() -> None:
    schedule = defs.resolve_schedule_def("quarterly_projection")
    assert (schedule.cron_schedule, schedule.job.name) == ("0 7 1 1,4,7,10 *", "project_budget")
    with dg.build_schedule_context(scheduled_execution_time=datetime(2026, 10, 1, 7, tzinfo=UTC)) as context:
        (request,) = schedule.evaluate_tick(context).run_requests
    assert request.run_key == "quarterly_projection:2026-10-01"
    assert assets_of("project_budget") == {"analysis_scope", "budget_projection"}


def test_every_sensor_of_the_task_is_there() -> None:
    names = {sensor.name for sensor in defs.sensors or []}
    assert names == {"new_logs", "cost_spike", "latency_spike", "quality_drop", "silent_feed", "failed_runs", "rollout_looks"}


def test_the_lake_is_tidied_every_night_once() -> None:
    schedule = defs.resolve_schedule_def("nightly_upkeep")
    assert (schedule.cron_schedule, schedule.execution_timezone, schedule.job.name) == ("30 3 * * *", "UTC", "maintain_lake")
    with dg.build_schedule_context(scheduled_execution_time=datetime(2026, 11, 24, 3, 30, tzinfo=UTC)) as context:
        (request,) = schedule.evaluate_tick(context).run_requests
    assert request.run_key == "nightly_upkeep:2026-11-24"


def test_the_review_runs_on_monday_at_six() -> None:
    schedule = defs.resolve_schedule_def("weekly_review")
    assert schedule.cron_schedule == "0 6 * * 1"
    assert schedule.execution_timezone == "UTC"
    monday = datetime(2026, 11, 23, 6, tzinfo=UTC)
    with dg.build_schedule_context(scheduled_execution_time=monday) as context:
        (request,) = schedule.evaluate_tick(context).run_requests
    assert request.run_key == "weekly_review:2026-11-23"
    assert request.run_config["ops"]["analysis_scope"]["config"]["timeframe"] == "7d"


@pytest.mark.parametrize(
    "zone", ["Europe/Berlin", "Europe/Athens", "America/New_York", "America/Santiago", "Australia/Lord_Howe", "Asia/Beirut"]
)
@pytest.mark.parametrize(("name", "weekday"), [("nightly_upkeep", None), ("weekly_review", 0)])
def test_schedules_run_once_a_day_or_monday_on_the_days_that_clocks_change_as_well(zone: str, name: str, weekday: int | None) -> None:
    schedule, begin = defs.resolve_schedule_def(name), datetime(2026, 1, 1, tzinfo=ZoneInfo(zone))
    ticks = schedule_execution_time_iterator(begin.timestamp(), schedule.cron_schedule, zone, ascending=True)
    days = [tick.date() for tick in itertools.takewhile(lambda tick: tick.year == 2026, ticks)]
    year = [begin.date() + timedelta(days=day) for day in range(365)]
    assert days == [day for day in year if weekday is None or day.weekday() == weekday]


def test_the_workspace_validates_without_a_warning_of_ours(tmp_path: Path) -> None:
    done = subprocess.run(
        [sys.executable, "-m", "dagster", "definitions", "validate", "-w", "workspace.yaml"],
        cwd=ROOT,
        env=os.environ | {"DAGSTER_HOME": str(tmp_path), "PYTHONWARNINGS": "default"},
        capture_output=True,
        text=True,
        timeout=300,
        check=False,
    )
    said = done.stdout + done.stderr
    assert done.returncode == 0, said
    ours = [
        line
        for line in said.splitlines()
        if "Warning" in line and any(f"/{name}/" in line for name in ("assets", "checks", "routing_pipeline"))
    ]
    assert [line for line in ours if "site-packages" not in line] == []
