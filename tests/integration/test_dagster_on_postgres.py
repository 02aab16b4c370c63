"""A deployment as infra/ describes it: daemon, web server and code server as processes, Dagster's storage in a real Postgres.

The instance is infra/dagster.yaml with shorter intervals; the code location is ours, with one schedule that is due every minute.
"""

from __future__ import annotations

import contextlib
import json
import os
import signal
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, TypeVar
from urllib.parse import urlsplit

import dagster as dg
import pytest
import yaml
from postgres_server import PASSWORD, PostgresServer
from s3_server import free_ports

from assets.outcomes import outcome_of
from routing_pipeline.demo.logs import write_demo
from routing_pipeline.storage.home import Home
from tests.known_queries import lend

ROOT = Path(__file__).parents[2]
PATIENCE_S = 240
LOCATION = {"repositoryLocationName": "routing_pipeline", "repositoryName": "__repository__"}
BY_SCHEDULE = {"dagster/schedule_name": "weekly_review"}
Found = TypeVar("Found")

RUNS = """{ runsOrError(limit: 50) { ... on Runs { results {
    runId jobName status rootRunId parentRunId tags { key value } stepStats { stepKey status } } } } }"""
SENSOR_TICKS = """query ($which: SensorSelector!) { sensorOrError(sensorSelector: $which) { ... on Sensor {
    sensorState { status ticks(limit: 5) { status runIds error { message } } } } } }"""
SCHEDULE_TICKS = """query ($which: ScheduleSelector!) { scheduleOrError(scheduleSelector: $which) { ... on Schedule {
    scheduleState { id status ticks(limit: 5) { status runIds error { message } } } } } }"""
START_SENSOR = "mutation ($which: SensorSelector!) { startSensor(sensorSelector: $which) { __typename } }"
START_SCHEDULE = "mutation ($which: ScheduleSelector!) { startSchedule(scheduleSelector: $which) { __typename } }"
STOP_SCHEDULE = "mutation ($id: String!) { stopRunningSchedule(id: $id) { __typename } }"
LAUNCH = """mutation ($what: ExecutionParams!) { launchRun(executionParams: $what) {
    __typename ... on LaunchRunSuccess { run { runId } } ... on PythonError { message } } }"""
EVENTS = """query ($run: ID!) { logsForRun(runId: $run) { ... on EventConnection { events {
    __typename ... on MessageEvent { message } } } } }"""
ASSETS = """{ assetNodes { assetKey { path } groupName description assetMaterializations(limit: 1) { runId metadataEntries { label } }
    assetChecksOrError { ... on AssetChecks { checks { name blocking executionForLatestMaterialization { status } } } } } }"""
HEALTH = "{ instance { daemonHealth { allDaemonStatuses { daemonType required healthy } } } }"


@dataclass
class Deployment:
    """Three processes over one instance."""

    folder: Path
    environment: dict[str, str]
    ports: dict[str, int]
    processes: dict[str, subprocess.Popen[bytes]] = field(default_factory=dict)

    def start(self, name: str) -> None:
        program = Path(sys.executable).parent
        workspace = ["-w", str(self.folder / "workspace.yaml")]
        words = {
            "code": ["dagster", "code-server", "start", "-h", "127.0.0.1", "-p", str(self.ports["code"]), "-m", "every_minute"],
            "webserver": ["dagster-webserver", *workspace, "-h", "127.0.0.1", "-p", str(self.ports["webserver"])],
            "daemon": ["dagster-daemon", "run", *workspace],
        }[name]
        with (self.folder / f"{name}.log").open("ab") as log:
            self.processes[name] = subprocess.Popen(
                [program / words[0], *words[1:]], env=self.environment, cwd=ROOT, stdout=log, stderr=log, start_new_session=True
            )

    def kill(self, name: str) -> None:
        """The process and all that it started, at once, as when a container's memory is used up."""
        process = self.processes.pop(name)
        with contextlib.suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGKILL)
        process.wait()

    def ask(self, query: str, **variables: Any) -> dict[str, Any]:
        """What the GraphQL API answers."""
        body = json.dumps({"query": query, "variables": variables}).encode()
        address = f"http://127.0.0.1:{self.ports['webserver']}/graphql"
        request = urllib.request.Request(address, body, {"Content-Type": "application/json"})
        with urllib.request.urlopen(request, timeout=60) as answer:  # noqa: S310 (our own server)
            said = json.load(answer)
        assert "errors" not in said, said
        return dict(said["data"])

    def runs(self, **wanted: Any) -> list[dict[str, Any]]:
        """Runs with these values, the newest first."""
        found = self.ask(RUNS)["runsOrError"]["results"]
        return [run for run in found if all(run[name] == value for name, value in wanted.items())]

    def launch(self, job: str, **config: Any) -> str:
        """Start a job as the UI's launchpad does, in the name of a schedule."""
        selector = {"pipelineName": job, **LOCATION}
        tags = [{"key": key, "value": value} for key, value in BY_SCHEDULE.items()]
        asked = {"selector": selector, "runConfigData": config, "mode": "default", "executionMetadata": {"tags": tags}}
        run = self.ask(LAUNCH, what=asked)["launchRun"]
        assert run["__typename"] == "LaunchRunSuccess", run
        return str(run["run"]["runId"])

    def until(self, look: Callable[[], Found], what: str) -> Found:
        """Look again and again until there is something to see."""
        for _ in range(PATIENCE_S):
            with contextlib.suppress(urllib.error.URLError, ConnectionError):
                if found := look():
                    return found
            dead = [name for name, process in self.processes.items() if process.poll() is not None]
            assert not dead, f"{dead} ended: {self.said(dead[0])}"
            time.sleep(1)
        logs = {name: self.said(name) for name in self.processes}
        raise AssertionError(f"no {what} within {PATIENCE_S} s: {logs}")

    def said(self, name: str) -> str:
        return (self.folder / f"{name}.log").read_text(errors="replace")[-1500:]

    def ended(self, run_id: str) -> dict[str, Any]:
        return self.until(lambda: [run for run in self.runs(runId=run_id) if run["status"] in {"SUCCESS", "FAILURE"}], f"end of {run_id}")[
            0
        ]

    def worker_of(self, run_id: str) -> int:
        """Process of a run; it says so itself."""
        events = self.ask(EVENTS, run=run_id)["logsForRun"]["events"]
        said = [event["message"] for event in events if str(event.get("message")).startswith("Started process for run (pid: ")]
        return int(said[0].rpartition(" ")[2].strip(").")) if said else 0


@pytest.fixture(scope="module")
def deployment(postgres: PostgresServer, known_queries: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Deployment]:
    folder = tmp_path_factory.mktemp("deployment")
    demo = write_demo(folder / "demo", requests=1_500)
    database = urlsplit(postgres.database())
    settings = yaml.safe_load((ROOT / "infra/dagster.yaml").read_text(encoding="utf-8"))
    settings["storage"]["postgres"]["postgres_db"]["port"] = database.port
    settings["run_monitoring"]["poll_interval_seconds"] = 2
    settings["run_launcher"]["config"]["silent_for_seconds"] = 20
    (folder / "dagster").mkdir()
    (folder / "dagster" / "dagster.yaml").write_text(yaml.safe_dump(settings))
    ports = dict(zip(("code", "webserver"), free_ports(2), strict=True))
    server = {"host": "127.0.0.1", "port": ports["code"], "location_name": "routing_pipeline"}
    (folder / "workspace.yaml").write_text(yaml.safe_dump({"load_from": [{"grpc_server": server}]}))
    environment = {
        **os.environ,
        "DAGSTER_HOME": str(folder / "dagster"),
        "DAGSTER_PG_HOST": "127.0.0.1",
        "DAGSTER_PG_USERNAME": str(database.username),
        "DAGSTER_PG_PASSWORD": PASSWORD,
        "DAGSTER_PG_DB": database.path.strip("/"),
        "DAGSTER_DISABLE_TELEMETRY": "yes",
        "ROUTING_PIPELINE_HOME": str(lend(known_queries, folder / "home")),
        "ROUTING_PIPELINE_LOGS": str(demo.logs),
        "ROUTING_PIPELINE_FEEDBACK": str(demo.feedback),
        "PYTHONPATH": f"{ROOT / 'tests/integration'}",
    }
    started = Deployment(folder, environment, ports)
    try:
        for name in ("code", "webserver", "daemon"):
            started.start(name)
        started.until(lambda: started.ask("{ version }"), "answer of the web server")
        started.until(lambda: started.ask(ASSETS)["assetNodes"], "code location")
        yield started
    finally:
        for name in list(started.processes):
            started.kill(name)


def with_run(ticks: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """Ticks that asked for a run."""
    assert not any(tick["error"] for tick in ticks), ticks
    return [tick for tick in ticks if tick["runIds"]]


def test_new_logs_make_the_sensor_start_an_ingestion_that_ends_well(deployment: Deployment) -> None:
    asked = {"sensorName": "new_logs", **LOCATION}

    deployment.ask(START_SENSOR, which=asked)

    def ticks() -> list[dict[str, Any]]:
        return with_run(deployment.ask(SENSOR_TICKS, which=asked)["sensorOrError"]["sensorState"]["ticks"])

    (tick,) = deployment.until(ticks, "tick of the sensor")
    run = deployment.ended(tick["runIds"][0])
    assert (run["jobName"], run["status"]) == ("ingest_logs", "SUCCESS"), deployment.said("code")
    assert any(each["key"] == "reason" and "new objects" in each["value"] for each in run["tags"])


def test_the_clock_makes_the_schedule_start_a_run_that_ends_well(deployment: Deployment) -> None:
    asked = {"scheduleName": "every_minute", **LOCATION}
    deployment.ask(START_SCHEDULE, which=asked)

    def state() -> dict[str, Any]:
        return dict(deployment.ask(SCHEDULE_TICKS, which=asked)["scheduleOrError"]["scheduleState"])

    tick = deployment.until(lambda: with_run(state()["ticks"]), "tick of the schedule")[-1]
    deployment.ask(STOP_SCHEDULE, id=state()["id"])
    run = deployment.ended(tick["runIds"][0])
    assert (run["jobName"], run["status"]) == ("maintain_lake", "SUCCESS"), deployment.said("code")


def test_a_run_whose_worker_is_killed_is_noticed_and_goes_on_in_another(deployment: Deployment) -> None:
    first = deployment.launch("optimize_routing")
    begun = "analysis_scope"

    def under_way() -> bool:
        steps = deployment.runs(runId=first)[0]["stepStats"]
        return any(step["stepKey"] == begun and step["status"] == "SUCCESS" for step in steps)

    deployment.until(under_way, f"end of {begun}")
    os.kill(deployment.worker_of(first), signal.SIGKILL)
    assert deployment.ended(first)["status"] == "FAILURE"
    (second,) = deployment.until(lambda: deployment.runs(parentRunId=first), "retry")
    ended = deployment.ended(second["runId"])
    assert (ended["status"], ended["rootRunId"]) == ("SUCCESS", first), deployment.said("code")
    # It went on from where the first one was.
    assert begun not in {step["stepKey"] for step in ended["stepStats"]}
    assert "optimization_report" in {step["stepKey"] for step in ended["stepStats"]}
    report = json.loads((deployment.folder / "home/report/report.json").read_text())
    assert report["run"]["run_id"] == second["runId"]
    assert Home(deployment.folder / "home").runs.all()[0].run_id == second["runId"]


def test_a_run_that_dies_with_its_code_server_is_noticed_and_retried(deployment: Deployment) -> None:
    first = deployment.launch("project_budget", ops={"analysis_scope": {"config": {"timeframe": "24h"}}})
    deployment.until(lambda: deployment.runs(runId=first, status="STARTED"), "start")
    deployment.kill("code")
    deployment.start("code")
    assert deployment.ended(first)["status"] == "FAILURE"
    events = [event.get("message") or "" for event in deployment.ask(EVENTS, run=first)["logsForRun"]["events"]]
    assert any("its process has died" in said for said in events)
    (second,) = deployment.until(lambda: deployment.runs(parentRunId=first), "retry")
    assert deployment.ended(second["runId"])["status"] == "SUCCESS", deployment.said("code")


def test_the_api_and_the_database_tell_the_same_story(deployment: Deployment, monkeypatch: pytest.MonkeyPatch) -> None:
    for name, value in deployment.environment.items():
        monkeypatch.setenv(name, value)
    with dg.DagsterInstance.from_config(str(deployment.folder / "dagster")) as instance:
        stored = {run.run_id: (run.job_name, run.status.value, run.parent_run_id) for run in instance.get_runs()}
        for key in ("request_log", "analysis_scope", "optimization_report", "routing_rule_set"):
            assert instance.get_latest_materialization_event(dg.AssetKey(key)) is not None
        # What Dagster started in place of a run that died counts as started by its schedule, and nobody is told.
        again = [run for run in instance.get_runs() if run.parent_run_id is not None]
        assert all(BY_SCHEDULE.items() <= run.tags.items() for run in again)
        for run in again:
            outcome = outcome_of(instance, run.job_name)
            assert outcome is not None
            assert (outcome.run_id, outcome.is_failure) == (run.run_id, False)
            died = instance.get_run_by_id(run.parent_run_id or "")
            assert died is not None
            assert died.tags["dagster/will_retry"] == "true"
    told = {run["runId"]: (run["jobName"], run["status"], run["parentRunId"]) for run in deployment.runs()}
    assert told == stored
    assert sorted(status for _, status, _ in told.values()).count("FAILURE") == 2
    assets = {"/".join(node["assetKey"]["path"]): node for node in deployment.ask(ASSETS)["assetNodes"]}
    report = assets["optimization_report"]["assetMaterializations"][0]
    assert (told[report["runId"]][1], {"headlines", "report"} <= {each["label"] for each in report["metadataEntries"]}) == ("SUCCESS", True)
    assert all(node["description"] and node["groupName"] for node in assets.values())
    checks = [each for node in assets.values() for each in node["assetChecksOrError"].get("checks", ())]
    assert any(each["blocking"] for each in checks)
    done = [each for each in checks if each["executionForLatestMaterialization"]]
    assert done
    assert {each["executionForLatestMaterialization"]["status"] for each in done if each["blocking"]} == {"SUCCEEDED"}
    health = deployment.ask(HEALTH)["instance"]["daemonHealth"]["allDaemonStatuses"]
    assert {each["daemonType"] for each in health if each["required"]} >= {"SENSOR", "SCHEDULER", "MONITORING", "EVENT_LOG_CONSUMER"}
    assert all(each["healthy"] for each in health if each["required"])
    assert not any(PASSWORD in deployment.said(name) for name in deployment.processes)
