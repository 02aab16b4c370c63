"""From a spike in the logs over the sensor and the run that it starts to a report that says what happened, whose it was and what to do."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import dagster as dg
import numpy as np
import pytest

from assets import sensors
from assets.automation import ALERT
from assets.resources import HomeResource
from assets.running import run_job
from routing_pipeline.ingest.ingestion import ingest_logs
from routing_pipeline.operations.analyst import Analyst
from routing_pipeline.parameters import Parameters, read_parameters
from routing_pipeline.report.headlines import headlines
from routing_pipeline.report.model import Report
from routing_pipeline.serving.mcp.computing import Computing
from routing_pipeline.serving.mcp.tools import BY_NAME, Question
from routing_pipeline.storage.home import Home
from tests.hours import HOUR_S, Hours

HOURS = Hours()
DAYS, PER_HOUR = 35, 16

Row = dict[str, Any]


def attempt(draw: np.random.Generator, hour: int, number: int, **fields: Any) -> Row:
    row: Row = {
        "attempt_id": f"{hour}-{number}",
        "request_id": f"{hour}-{number}",
        "session_id": f"s{hour}-{number // 4}",
        "started_at": datetime.fromtimestamp(hour * HOUR_S + int(draw.integers(HOUR_S)), UTC).isoformat(),
        "model": str(draw.choice(["gpt-4o", "gpt-4o-mini"])),
        "team": str(draw.choice(["search", "support"])),
        "task_type": str(draw.choice(["answer", "code"])),
        "status": "success",
        "complexity": round(draw.random(), 2),
        "latency_ms": 1_000.0 + 600 * draw.random(),
        "quality_score": round(0.8 + 0.1 * draw.random(), 3),
        "cost_usd": 0.01 * (0.5 + draw.random()),
        "prompt_tokens": 800 + int(draw.integers(400)),
        "completion_tokens": 100,
    }
    return row | fields


def runaway(draw: np.random.Generator, hour: int) -> Iterator[Row]:
    """An agent of a team that was never seen before, calling in a loop: dear, long and slow."""
    for number in range(240):
        yield attempt(
            draw,
            hour,
            1_000 + number,
            session_id=f"loop-{number // 120}",
            team="growth",
            task_type="agent",
            model="gpt-4o",
            cost_usd=0.15 + 0.02 * draw.random(),
            prompt_tokens=9_000,
            latency_ms=6_000.0 + 500 * draw.random(),
            quality_score=None,
        )


def worse(draw: np.random.Generator, hour: int) -> Iterator[Row]:
    """One model answers badly for one team."""
    for number in range(120):
        yield attempt(
            draw, hour, 1_000 + number, team="search", task_type="answer", model="gpt-4o-mini", quality_score=0.2 + 0.1 * draw.random()
        )


@dataclass(frozen=True)
class Asked:
    """A home with something unusual in its last hour, and the run that a sensor's tick asks for."""

    home: Home
    resources: dict[str, str]
    request: dg.RunRequest


@dataclass(frozen=True)
class Alerted:
    """The same, and the report of that run."""

    home: Home
    request: dg.RunRequest
    report: Report
    folder: Path


def asked_for(sensor: str, planted: Callable[[np.random.Generator, int], Iterator[Row]], folder: Path) -> Asked:
    draw = np.random.default_rng(4)
    rows = [attempt(draw, hour, number) for hour in range(HOURS.last - DAYS * 24, HOURS.last + 1) for number in range(PER_HOUR)]
    rows += planted(draw, HOURS.last)
    logs = folder / "logs"
    logs.mkdir()
    (logs / "records.jsonl").write_text("\n".join(json.dumps(row) for row in rows))
    config = folder / "routing.toml"
    config.write_text(f"[alerts]\nhold_back_minutes = {HOURS.hold_back_s / 60}\nscore_hold_back_hours = {HOURS.hold_back_s / HOUR_S}\n")
    home = Home(folder / "home").create()
    ingest_logs(home, str(logs))
    resource = HomeResource(root=str(home.root), logs=str(logs), config=str(config))
    tick = next(each for each in sensors.ALERTING if each.name == sensor)
    with dg.DagsterInstance.ephemeral() as instance, dg.build_sensor_context(instance=instance, resources={"home": resource}) as context:
        result = tick(context)
    assert isinstance(result, dg.SensorResult)
    assert result.run_requests, result.skip_reason
    [request] = result.run_requests
    return Asked(home, {"root": str(home.root), "logs": str(logs), "config": str(config)}, request)


def alerted(sensor: str, planted: Callable[[np.random.Generator, int], Iterator[Row]], folder: Path) -> Alerted:
    asked = asked_for(sensor, planted, folder)
    home, request = asked.home, asked.request
    run_job(
        home,
        "optimize_routing",
        resources=asked.resources,
        ops={name: content["config"] for name, content in request.run_config["ops"].items()},
        tags=request.tags,
    )
    report = Report.model_validate_json((home.root / "report" / "alert" / "report.json").read_bytes())
    return Alerted(home, request, report, home.root / "report" / "alert")


@pytest.fixture(scope="module")
def spike(tmp_path_factory: pytest.TempPathFactory) -> Alerted:
    return alerted("cost_spike", runaway, tmp_path_factory.mktemp("spike"))


def hour_of(moment: datetime) -> int:
    return int(moment.timestamp()) // HOUR_S


def test_the_report_names_the_team_the_hour_and_the_dollars_of_the_spike_that_started_it(spike: Alerted) -> None:
    incident = spike.report.incident
    assert incident is not None
    assert incident.started_this_run
    assert (incident.sensor, incident.measured) == ("cost_spike", "spend")
    assert hour_of(incident.start) == hour_of(incident.since) == HOURS.last
    assert incident.now == pytest.approx(38.4, rel=0.05)
    assert incident.usual < 0.3
    assert incident.excess == pytest.approx(incident.now - incident.usual, rel=0.01)
    assert len(incident.baseline_values) == 4
    assert incident.baseline == "the same hours of the 4 weeks before"
    by = {share.dimension: share for share in incident.due_to}
    assert (by["team"].value, by["task"].value, by["model"].value) == ("growth", "agent", "gpt-4o")
    assert by["team"].share > 0.99
    assert (by["team"].calls, by["team"].usual_calls) == (240, 0)
    assert sum(incident.effects_usd.values()) == pytest.approx(incident.now - sum(incident.baseline_values) / 4, rel=0.01)
    assert incident.hours[-1].value == pytest.approx(incident.now)
    assert incident.rows is not None
    assert (incident.rows.groups[0].team, incident.rows.groups[0].calls) == ("growth", 240)
    assert set(incident.rows.session_ids[:2]) == {"loop-0", "loop-1"}
    assert all(name.startswith(f"{HOURS.last}-1") for name in incident.rows.request_ids)
    assert any("growth" in sentence for sentence in incident.do)


def test_page_one_the_terminal_and_an_agent_are_told_the_same(spike: Alerted) -> None:
    started = f"{datetime.fromtimestamp(HOURS.last * HOUR_S, UTC):%Y-%m-%d %H:%M} UTC"
    for name in ("report.md", "report.html"):
        page = (spike.folder / name).read_text(encoding="utf-8")
        first = page[: page.index("What we spent")]
        for told in ("growth", started, "$38."):
            assert told in first, (name, told)
    [line] = [line for line in headlines(spike.report) if line.startswith("Incident: ")]
    assert "growth" in line
    tool = BY_NAME["identify_cost_drivers"]
    question = Question(tool.name, Parameters(timeframe="24h"), {})
    answer = Computing(spike.home, "duckdb").answer(tool, question, None)
    assert "Incident: spend" in answer.text
    assert "`growth` (100 %)" in answer.text
    assert answer.about["incidents"][0]["due_to"][0]["value"] == "growth"


def test_the_alerts_run_knows_what_is_usual_from_the_weeks_before_its_window(spike: Alerted) -> None:
    drivers = spike.report.cost_drivers
    assert drivers.spikes_unknown is None
    [found] = drivers.spikes
    assert hour_of(found.start) == HOURS.last
    assert (found.drivers[0].team, found.drivers[0].task_type) == ("growth", "agent")
    assert found.drivers[0].share_of_excess == pytest.approx(1.0, abs=0.02)


def test_what_the_sensor_found_goes_with_the_run(spike: Alerted) -> None:
    carried = spike.request.run_config["ops"]["incidents"]["config"]
    assert carried["sensor"] == "cost_spike"
    assert carried["start_s"] == HOURS.last * HOUR_S
    assert spike.request.tags[ALERT] == "cost_spike"
    assert "growth" in spike.request.tags["due_to"]


def test_an_analysis_that_nobody_started_for_it_finds_the_same_incident(spike: Alerted) -> None:
    analyst = Analyst(spike.home)
    scope = analyst.scope(Parameters(timeframe="7d"))
    found = [each for each in analyst.answer("incidents", scope).incidents if each.sensor == "cost_spike"]
    assert [hour_of(each.start) for each in found] == [HOURS.last]
    assert not found[0].started_this_run
    assert {each.sensor for each in analyst.answer("incidents", scope).incidents} >= {"cost_spike", "latency_spike"}


def test_a_fall_of_quality_is_put_down_to_the_model_and_the_team_whose_answers_fell(tmp_path: Path) -> None:
    asked = asked_for("quality_drop", worse, tmp_path)
    assert asked.request.run_config["ops"]["incidents"]["config"]["start_s"] == HOURS.last * HOUR_S
    analyst, parameters = Analyst(asked.home), read_parameters(Path(asked.resources["config"]), timeframe="7d")
    incidents = analyst.answer("incidents", analyst.scope(parameters)).incidents
    [incident] = [each for each in incidents if each.sensor == "quality_drop" and hour_of(each.start) == HOURS.last]
    assert (incident.measured, hour_of(incident.start)) == ("quality", HOURS.last)
    by = {share.dimension: share.value for share in incident.due_to}
    assert (by["team"], by["task"], by["model"]) == ("search", "answer", "gpt-4o-mini")
    assert incident.now < incident.usual - 0.1
    assert any("gpt-4o-mini" in sentence for sentence in incident.do)
