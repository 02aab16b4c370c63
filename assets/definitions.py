"""The only place where things are assembled; what workspace.yaml loads. Reads the environment, opens nothing."""

import os
from collections.abc import Mapping
from typing import Any

import dagster as dg

from assets import automation, deciding, delivery, ingest, operations, rollout, scope, sensors
from assets.code_references import with_code_references
from assets.resources import HomeResource, ResultsIOManager
from checks import delivery as delivery_checks, ingest as ingest_checks, scope as scope_checks


def from_environment(field: str, default: str) -> str | dg.EnvVar:
    """Deployments set ROUTING_PIPELINE_HOME, _LOGS, _FEEDBACK, _CONFIG, _ENGINE, _WAREHOUSE, _CATALOG, _PUBLISH; a laptop need not."""
    name = f"ROUTING_PIPELINE_{field.upper()}"
    return dg.EnvVar(name) if os.environ.get(name) else default


def resources_from_environment() -> dict[str, Any]:
    """The home that the environment names, and the store of its results."""
    place = {
        "root": from_environment("home", ".routing-pipeline"),
        "warehouse": from_environment("warehouse", ""),
        # Holds a password: Dagster shows the name of the variable and not its value.
        "catalog": from_environment("catalog", ""),
    }
    home = HomeResource(
        **place,
        logs=from_environment("logs", ""),
        feedback=from_environment("feedback", ""),
        config=from_environment("config", ""),
        engine=from_environment("engine", "duckdb"),
        publish=from_environment("publish", ""),
    )
    return {"home": home, "io_manager": ResultsIOManager(**place)}


def build_defs(resources: Mapping[str, Any] | None = None) -> dg.Definitions:
    """Everything that Dagster is told; `resources` take the place of those from the environment.

    Another home is `{"home": HomeResource(root=...), "io_manager": ResultsIOManager(root=...)}`: both say where it lies.
    """
    assets: list[Any] = [*dg.load_assets_from_modules([ingest, scope, operations, delivery, rollout])]
    return dg.Definitions(
        assets=[*with_code_references(dg.map_asset_specs(automation.with_freshness, assets)), *ingest.SOURCES],
        asset_checks=dg.load_asset_checks_from_modules([ingest_checks, scope_checks, delivery_checks]),
        jobs=[
            *(automation.ingest_logs, automation.optimize_routing, automation.project_budget, automation.maintain_lake),
            *(deciding.approve_rule_set, deciding.publish_rule_set, deciding.roll_back_rule_set),
            rollout.look_at_rollout,
        ],
        schedules=[automation.weekly_review, automation.quarterly_projection, automation.nightly_upkeep],
        sensors=[sensors.new_logs, *sensors.ALERTING, sensors.failed_runs, rollout.rollout_looks],
        resources={**resources_from_environment(), **(resources or {})},
        executor=automation.executor(os.environ.get("ROUTING_PIPELINE_PARALLEL_STEPS")),
    )


defs = build_defs()
