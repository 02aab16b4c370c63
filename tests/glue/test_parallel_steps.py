"""Steps of the job at once, each in a process of its own: the same results, nothing left lying about."""

from __future__ import annotations

from pathlib import Path

import dagster as dg
import pytest

from assets import automation
from assets.running import instance_of, run_job
from routing_pipeline.demo.logs import write_demo
from routing_pipeline.errors import UnusableInputError
from routing_pipeline.report.model import Report
from routing_pipeline.storage.home import Home
from tests.known_queries import lend

REQUESTS = 2_000
AT_ONCE = (
    "request_log",
    "feedback",
    "analysis_scope",
    "routing_evidence",
    "budget_projection",
    "routing_costs",
    "request_patterns",
    "routing_rules",
)
"""What one step hands to several, and several to one; each step of the job takes seconds in a process of its own."""


def parallel_job() -> dg.JobDefinition:
    """What a code server with ROUTING_PIPELINE_PARALLEL_STEPS=3 serves."""
    from assets.definitions import defs

    job: dg.JobDefinition = dg.Definitions(
        assets=defs.assets,
        asset_checks=defs.asset_checks,
        jobs=[automation.optimize_routing],
        resources=defs.resources,
        executor=automation.executor("3"),
    ).resolve_job_def("optimize_routing")
    return job


@pytest.mark.parametrize("asked", ["abc", "0", "-1", "2.5", " "])
def test_a_number_of_steps_that_is_none_is_refused_with_the_variables_name(asked: str) -> None:
    with pytest.raises(UnusableInputError, match="ROUTING_PIPELINE_PARALLEL_STEPS="):
        automation.executor(asked)


@pytest.mark.parametrize("asked", ["Mars/X", "../etc/passwd", "/UTC", "Europe", "a\x00"])
def test_a_time_zone_that_is_none_is_refused_with_the_variables_name(asked: str) -> None:
    with pytest.raises(UnusableInputError, match="ROUTING_PIPELINE_TIMEZONE="):
        automation.timezone(asked)
    assert [automation.timezone(unset) for unset in (None, "", "Europe/Berlin")] == ["UTC", "UTC", "Europe/Berlin"]


def config_of(home: Home, logs: Path, feedback: Path) -> dict[str, object]:
    resources = {"root": str(home.root), "logs": str(logs), "feedback": str(feedback), "memory_limit": "500MB"}
    return {
        "resources": {"home": {"config": resources}, "io_manager": {"config": {"root": str(home.root)}}},
        "loggers": {"console": {"config": {"log_level": "CRITICAL"}}},
    }


def test_without_a_number_steps_run_one_after_the_other_in_one_process() -> None:
    assert automation.executor(None) is dg.in_process_executor
    assert automation.executor("3").name == "parallel_steps"


def test_steps_in_parallel_processes_come_to_the_same_report(known_queries: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    demo = write_demo(tmp_path / "gateway", requests=REQUESTS)
    alone, parallel = (Home(lend(known_queries, tmp_path / name)).create() for name in ("alone", "parallel"))
    resources = {"root": str(alone.root), "logs": str(demo.logs), "feedback": str(demo.feedback), "config": "", "engine": "duckdb"}
    run_job(alone, "optimize_routing", resources=resources, ops={})
    monkeypatch.setenv("DAGSTER_HOME", str(parallel.dagster))
    with instance_of(parallel) as instance:
        done = dg.execute_job(
            dg.reconstructable(parallel_job),
            instance=instance,
            run_config=config_of(parallel, demo.logs, demo.feedback),
            asset_selection=[dg.AssetKey(name) for name in AT_ONCE],
        )
        assert done.success
    # The rest of the job goes on with what they kept.
    run_job(parallel, "optimize_routing", resources=resources | {"root": str(parallel.root)}, ops={})
    first, second = (_report_of(home) for home in (alone, parallel))
    # Sums of floating-point numbers differ in their last digits from one order of rows to another; nothing else may.
    assert first.routing_analytics.requests == second.routing_analytics.requests > 0
    assert first.routing_analytics.attempts == second.routing_analytics.attempts
    assert first.ingest == second.ingest
    assert first.routing_costs.total_usd == pytest.approx(second.routing_costs.total_usd, rel=1e-9)
    assert first.routing_evidence.requests == second.routing_evidence.requests
    assert [(rule.when, rule.route) for rule in first.routing_rule_set.rules] == [
        (rule.when, rule.route) for rule in second.routing_rule_set.rules
    ]
    assert not list((parallel.scratch / "spill").iterdir())


def _report_of(home: Home) -> Report:
    report = home.runs.all()[0].load("report", Report)
    assert report is not None
    return report
