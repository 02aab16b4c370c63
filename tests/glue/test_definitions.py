"""What Dagster is told: the graph, its words, its jobs, its clock."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import dagster as dg
import pytest

from assets.definitions import defs

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
    return sorted(
        defs.get_all_asset_specs() if hasattr(defs, "get_all_asset_specs") else defs.resolve_all_asset_specs(), key=lambda spec: spec.key
    )


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


@pytest.mark.parametrize("spec", asset_specs(), ids=lambda spec: spec.key.to_user_string())
def test_every_asset_says_what_it_is_and_whose(spec: dg.AssetSpec) -> None:
    assert spec.description
    assert spec.group_name not in {None, "default"}
    assert spec.owners
    assert spec.kinds
    assert spec.code_version


def test_every_check_says_what_it_claims() -> None:
    specs = check_specs()
    assert len(specs) >= 10
    assert [spec.name for spec in specs if not spec.description] == []


def test_parameters_enter_at_the_scope_and_nowhere_else() -> None:
    job = defs.resolve_job_def("optimize_routing")
    configured = {node.name for node in job.nodes if dict(getattr(node.definition.config_schema.config_type, "fields", {}) or {})}
    assert configured == {"request_log", "feedback", "analysis_scope", "optimization_report"}


def assets_of(job: str) -> set[str]:
    return {key.to_user_string() for key in defs.resolve_job_def(job).asset_layer.executable_asset_keys}


def test_the_jobs_are_ingestion_alone_upkeep_alone_and_all_the_rest() -> None:
    assert assets_of("ingest_logs") == {"request_log", "feedback"}
    assert assets_of("maintain_lake") == {"lake_upkeep"}
    assert assets_of("optimize_routing") == {spec.key.to_user_string() for spec in asset_specs()} - {"lake_upkeep"}


def test_the_budget_is_projected_every_quarter_and_with_every_review() -> None:
    schedule = defs.resolve_schedule_def("quarterly_projection")
    assert (schedule.cron_schedule, schedule.job.name) == ("0 7 1 1,4,7,10 *", "project_budget")
    with dg.build_schedule_context(scheduled_execution_time=datetime(2026, 10, 1, 7, tzinfo=UTC)) as context:
        (request,) = schedule.evaluate_tick(context).run_requests
    assert request.run_key == "quarterly_projection:2026-10-01"
    assert assets_of("project_budget") == {"analysis_scope", "budget_projection"}


def test_every_sensor_of_the_task_is_there() -> None:
    names = {sensor.name for sensor in defs.sensors or []}
    assert names == {"new_logs", "cost_spike", "latency_spike", "quality_drop", "silent_feed", "failed_runs"}


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
