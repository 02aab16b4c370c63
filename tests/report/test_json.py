"""report.json and rules.json: what their published schemas promise."""

from __future__ import annotations

import json
from collections.abc import Callable

import jsonschema
import pytest

from routing_pipeline.report.json_schema import FOLDER, SCHEMAS, schema_of, schema_text, write_schemas
from routing_pipeline.report.model import Report, report_json, reproduce_command, rules_json
from routing_pipeline.rules.model import RuleSet

EVERY_REPORT = ["empty", "refusal", "no change", "rules", "proven rules", "full"]
KEYS = {
    *("routing_analytics", "routing_costs", "quality_metrics", "request_patterns", "model_performance", "routing_decisions"),
    *("bottlenecks", "cost_drivers", "quality_issues", "routing_rules", "model_mix", "cost_optimization_plan"),
    *("optimization_plan", "optimization_risks", "scope", "ingest", "data_quality", "routing_evidence", "tradeoff_frontier"),
    *("simulation", "monitoring_plan", "routing_rule_set", "run"),
}

Reports = dict[str, Callable[[], Report]]


@pytest.mark.parametrize("kind", EVERY_REPORT)
def test_a_report_is_what_its_schema_says_and_can_be_read_back(reports: Reports, kind: str) -> None:
    report = reports[kind]()
    content = json.loads(report_json(report))
    jsonschema.Draft202012Validator(schema_of(Report)).validate(content)
    assert Report.model_validate_json(report_json(report)) == report


@pytest.mark.parametrize("kind", EVERY_REPORT)
def test_there_is_one_key_per_analysis_at_the_top_level(reports: Reports, kind: str) -> None:
    content = json.loads(report_json(reports[kind]()))
    assert set(content) >= KEYS
    assert set(content["ingest"]) == {"records", "ingested", "quarantined", "duplicates", "objects"}


@pytest.mark.parametrize("kind", ["no change", "rules"])
def test_rules_json_is_valid_and_leaves_missing_conditions_out(reports: Reports, kind: str) -> None:
    rule_set = reports[kind]().routing_rule_set
    content = json.loads(rules_json(rule_set))
    jsonschema.Draft202012Validator(schema_of(RuleSet)).validate(content)
    assert RuleSet.model_validate(content) == rule_set
    assert all(None not in rule["when"].values() for rule in content["rules"])
    assert json.loads(report_json(reports[kind]()))["routing_rule_set"] == content


def test_the_schemas_describe_units() -> None:
    assert schema_of(Report)["$defs"]["RoutingAnalytics"]["properties"]["requests"]["unit"] == "requests"


@pytest.mark.parametrize("name", SCHEMAS)
def test_the_published_schemas_are_those_of_the_models(name: str) -> None:
    """After changing a result model: python -m routing_pipeline.report.json_schema."""
    assert (FOLDER / name).read_text(encoding="utf-8") == schema_text(SCHEMAS[name])


def test_schemas_are_written_where_asked(tmp_path) -> None:
    assert {path.name for path in write_schemas(tmp_path)} == set(SCHEMAS)
    assert json.loads((tmp_path / "rules.schema.json").read_text())["title"] == "RuleSet"


def test_the_command_needs_no_file_for_the_zone_that_the_environment_names(worlds) -> None:
    from routing_pipeline.parameters import AlertThresholds, Parameters

    for alerts, is_of_a_file in ((AlertThresholds(timezone="Europe/Berlin"), False), (AlertThresholds(baseline_weeks=2), True)):
        assert ("--config" in reproduce_command(worlds.scope_of(Parameters(alerts=alerts)))) == is_of_a_file


def test_the_command_names_what_was_asked_and_quotes_it(worlds) -> None:
    from routing_pipeline.parameters import Parameters

    asked = Parameters(goal="cost", quality_threshold=0.8, task_types=("code", "a b; rm -rf"), budget=100.0, target_reduction=0.3)
    command = reproduce_command(worlds.scope_of(asked), home="/a b")
    assert command == (
        "routing-pipeline analyze --home '/a b' --timeframe 7d --as-of 2026-11-23T00:00:00Z --task-types 'code,a b; rm -rf' "
        "--quality-threshold 0.8 --goal cost --budget 100.0 --config CONFIG.toml --out OUT"
    )
