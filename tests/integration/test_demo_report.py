"""The demo from end to end: what was planted in the made-up week is what the report finds."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any

import jsonschema
import pytest

from routing_pipeline import demo_traffic
from routing_pipeline.policy.rule_set import RuleSet

ROOT = Path(__file__).parents[2]
REQUESTS = 200_000


@pytest.fixture(scope="module")
def demo(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder in which `routing-pipeline demo` was called."""
    folder = tmp_path_factory.mktemp("stranger")
    done = subprocess.run(
        [sys.executable, "-c", "from routing_pipeline.cli import main; main()", "demo", "--requests", str(REQUESTS)],
        cwd=folder,
        env=os.environ | {"HOME": str(folder)},
        capture_output=True,
        text=True,
        timeout=600,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    (folder / "said").write_text(done.stdout)
    return folder


@pytest.fixture(scope="module")
def report(demo: Path) -> dict[str, Any]:
    return json.loads((demo / "demo" / "report" / "report.json").read_text())


def hour(offset: float) -> datetime:
    return demo_traffic.WEEK_START + timedelta(hours=offset)


def test_the_last_line_is_the_path_of_the_report(demo: Path) -> None:
    lines = (demo / "said").read_text().strip().splitlines()
    assert lines[-1] == str(demo / "demo" / "report" / "report.html")
    assert Path(lines[-1]).exists()
    assert len(lines) >= 4


def test_every_record_is_accounted_for(report: dict[str, Any]) -> None:
    ingest = report["ingest"]
    assert ingest["records"] == ingest["ingested"] + ingest["quarantined"] + ingest["duplicates"]
    assert ingest["quarantined"] / ingest["records"] == pytest.approx(0.005, abs=0.001)
    assert report["scope"]["requests"] == REQUESTS


def test_the_spike_is_found_with_who_drove_it(report: dict[str, Any]) -> None:
    spikes = report["cost_drivers"]["spikes"]
    found = [
        spike for spike in spikes if abs(datetime.fromisoformat(spike["start"]) - hour(demo_traffic.SPIKE_FROM_H)) <= timedelta(hours=1)
    ]
    assert found, spikes
    driver = found[0]["drivers"][0]
    assert (driver["team"], driver["model"], driver["task_type"]) == ("growth", demo_traffic.SPIKE_MODEL, demo_traffic.SPIKE_TASK)


def test_the_degraded_model_is_found_in_its_hours(report: dict[str, Any]) -> None:
    incidents = [each for each in report["bottlenecks"]["incidents"] if each["model"] == demo_traffic.DEGRADED_MODEL]
    assert incidents
    begin, end = hour(demo_traffic.DEGRADED_FROM_H), hour(demo_traffic.DEGRADED_FROM_H + demo_traffic.DEGRADED_HOURS)
    assert abs(datetime.fromisoformat(incidents[0]["start"]) - begin) < timedelta(minutes=30)
    assert abs(max(datetime.fromisoformat(each["end"]) for each in incidents) - end) < timedelta(minutes=30)
    assert {each["model"] for each in report["bottlenecks"]["incidents"]} == {demo_traffic.DEGRADED_MODEL}


def test_the_quality_of_the_degraded_model_is_seen_to_fall(report: dict[str, Any]) -> None:
    found = [each for each in report["quality_issues"]["degradations"] if each["model"] == demo_traffic.DEGRADED_MODEL]
    assert found
    assert found[0]["size"]["estimate"] < -0.1


def test_the_overused_dear_model_is_named_on_its_tasks(report: dict[str, Any]) -> None:
    overuse = {(each["model"], each["task_type"]) for each in report["cost_drivers"]["overuse"]}
    # Translation is the least of the three, and the cheaper model that would do there has some twenty scored answers to a segment:
    # too few to say.
    told = [task for task in demo_traffic.OVERUSED_TASKS if task != "translation"]
    assert {(demo_traffic.OVERUSED_MODEL, task) for task in told} <= overuse


def test_the_rules_move_the_overused_model_and_validate_against_their_schema(demo: Path) -> None:
    content = json.loads((demo / "demo" / "report" / "rules.json").read_text())
    jsonschema.validate(content, json.loads((ROOT / "docs" / "schemas" / "rules.schema.json").read_text()))
    rules = RuleSet.model_validate(content)
    assert rules.status == "proposed"
    assert rules.rules
    change = content["expected"]["change"]["cost_usd"]["relative"]
    assert change["high"] < 0, "the saving is proven: its interval leaves out zero"


def test_the_report_validates_against_its_schema(report: dict[str, Any]) -> None:
    jsonschema.validate(report, json.loads((ROOT / "docs" / "schemas" / "report.schema.json").read_text()))


def test_the_html_is_self_contained(demo: Path) -> None:
    html = (demo / "demo" / "report" / "report.html").read_text()
    assert html.count("<svg") >= 4
    for outside in ('src="http', "src='http", 'href="http', "@import", "url(http"):
        assert outside not in html
