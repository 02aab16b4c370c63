"""Runs of the real jobs that fail while nobody watches: who hears of it, when, and when not."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import dagster as dg
import pytest
from receiver import Receiver

from assets import sensors
from assets.definitions import build_defs
from assets.outcomes import outcome_of, why_failed
from assets.resources import HomeResource, ResultsIOManager
from assets.waiting import IMPATIENT
from routing_pipeline.alerts.state import saved_state
from routing_pipeline.demo.logs import write_demo
from routing_pipeline.storage.home import Home

BY_SENSOR, BY_SCHEDULE = {"dagster/sensor_name": "new_logs"}, {"dagster/schedule_name": "weekly_review"}
JOB = "ingest_logs"
RETRYING = {"run_retries": {"enabled": True, "max_retries": 1, "retry_on_asset_or_op_failure": False}}


@pytest.fixture
def instance(tmp_path: Path) -> Iterator[dg.DagsterInstance]:
    folder = tmp_path / "dagster"
    folder.mkdir()
    with dg.DagsterInstance.local_temp(str(folder), overrides=RETRYING) as made:
        yield made


def home_of(folder: Path, notifications: str, logs: str = "logs") -> HomeResource:
    config = folder / "routing.toml"
    config.write_text(f"[notifications]\n{notifications}\n", encoding="utf-8")
    return HomeResource(root=str(folder / "home"), logs=str(folder / logs), config=str(config))


def ingest(instance: dg.DagsterInstance, home: HomeResource, tags: dict[str, str]) -> dg.ExecuteInProcessResult:
    job = build_defs({"home": home, "io_manager": ResultsIOManager(root=home.root)}).resolve_job_def(JOB)
    return job.execute_in_process(instance=instance, tags=tags, raise_on_error=False)


def tick(instance: dg.DagsterInstance, home: HomeResource, cursor: str | None = None) -> dg.SensorResult:
    with dg.build_sensor_context(instance=instance, cursor=cursor, resources={"home": home}) as context:
        result = sensors.failed_runs(context)
    assert isinstance(result, dg.SensorResult)
    assert not result.run_requests
    return result


def test_a_failed_ingestion_is_told_once_and_once_that_it_is_well_again(
    tmp_path: Path, instance: dg.DagsterInstance, receiver: Receiver
) -> None:
    channels = f'urls = ["json://127.0.0.1:9/", "{receiver.url}"]\ndagster_url = "https://dagster.example.com"'
    home = home_of(tmp_path, channels, "@everyone <!channel>\u202e")
    failed = ingest(instance, home, BY_SENSOR)
    assert not failed.success

    first = tick(instance, home)
    (message,) = receiver.received
    assert message["title"] == "run failed: ingest_logs"
    told = message["message"].splitlines()
    assert "everyone" in told[0], "the error is the asset's own"
    assert "RetryRequested" not in told[0]
    assert told[1] == f"https://dagster.example.com/runs/{failed.run_id}"
    assert not any(bad in message["message"] for bad in ("@everyone", "<!channel", "\u202e"))

    ingest(instance, home, BY_SENSOR)
    still = tick(instance, home, first.cursor)
    assert (len(receiver.received), still.skip_reason) == (1, dg.SkipReason("failing: ingest_logs"))
    state = saved_state(Home(tmp_path / "home"), "failed_runs")
    assert state is not None
    assert state.is_open

    write_demo(tmp_path, requests=1_000)
    mended = home_of(tmp_path, channels)
    well = ingest(instance, mended, BY_SENSOR)
    assert well.success
    after = tick(instance, mended, still.cursor)
    assert [each["title"] for each in receiver.received] == ["run failed: ingest_logs", "recovered: ingest_logs"]
    assert well.run_id in receiver.received[-1]["message"]
    tick(instance, mended, after.cursor)
    assert len(receiver.received) == 2
    state = saved_state(Home(tmp_path / "home"), "failed_runs")
    assert state is not None
    assert not state.is_open


def test_a_blocking_check_that_failed_is_named(tmp_path: Path, instance: dg.DagsterInstance) -> None:
    (tmp_path / "logs").mkdir()
    (tmp_path / "logs" / "broken.jsonl").write_text("\n".join(json.dumps({"id": number}) for number in range(50)))
    failed = ingest(instance, home_of(tmp_path, ""), BY_SENSOR)
    assert not failed.success
    assert why_failed(instance, failed.run_id).startswith("data-quality check failed: request_log: ")


def test_switched_off_or_without_channels_nothing_is_sent_and_nothing_fails(
    tmp_path: Path, instance: dg.DagsterInstance, receiver: Receiver
) -> None:
    ingest(instance, home_of(tmp_path, ""), BY_SENSOR)
    off = tick(instance, home_of(tmp_path, f'urls = ["{receiver.url}"]\nfailed_runs = false'))
    assert (receiver.received, off.cursor) == ([], "")
    tick(instance, home_of(tmp_path, ""))
    tick(instance, home_of(tmp_path, 'urls = ["nonsense"]'))
    # Switched on again, it says what fails by then.
    tick(instance, home_of(tmp_path, f'urls = ["{receiver.url}"]'), off.cursor)
    assert len(receiver.received) == 1


def test_a_broken_configuration_fails_runs_and_those_of_the_environment_hear_of_it(
    tmp_path: Path, instance: dg.DagsterInstance, receiver: Receiver, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("ROUTING_PIPELINE_NOTIFY", receiver.url)
    home = home_of(tmp_path, "urls = [")
    assert not ingest(instance, home, BY_SENSOR).success
    tick(instance, home)
    (message,) = receiver.received
    assert "not TOML" in message["message"]


# What Dagster tries again


Ran = Callable[..., dg.DagsterRun]


@pytest.fixture
def ran(instance: dg.DagsterInstance) -> Ran:
    """A run that ended as if its worker had died, or well."""

    def end(*, dies: bool, tags: dict[str, str], after: dg.DagsterRun | None = None, job: str = JOB) -> dg.DagsterRun:
        chain: dict[str, Any] = {}
        if after is not None:
            chain = {"parent_run_id": after.run_id, "root_run_id": after.root_run_id or after.run_id}
            tags = tags | {"dagster/parent_run_id": chain["parent_run_id"], "dagster/root_run_id": chain["root_run_id"]}
        run = instance.add_run(dg.DagsterRun(job_name=job, tags=tags, status=dg.DagsterRunStatus.STARTED, **chain))
        if dies:
            instance.report_run_failed(run, "its process has died")
        else:
            event = dg.DagsterEvent(event_type_value="PIPELINE_SUCCESS", job_name=job)
            instance.report_dagster_event(event, run.run_id)
        return run

    return end


def test_a_run_that_dagster_tries_again_is_told_of_when_the_tries_are_used_up(instance: dg.DagsterInstance, ran: Ran) -> None:
    first = ran(dies=True, tags=BY_SCHEDULE)
    assert outcome_of(instance, JOB) is None
    second = ran(dies=True, tags=BY_SCHEDULE, after=first)
    outcome = outcome_of(instance, JOB)
    assert outcome is not None
    assert (outcome.run_id, outcome.is_failure) == (second.run_id, True)
    assert why_failed(instance, second.run_id) == "its process has died"


def test_a_run_that_ends_well_at_the_second_try_is_told_to_nobody(instance: dg.DagsterInstance, ran: Ran) -> None:
    well = ran(dies=False, tags=BY_SCHEDULE, after=ran(dies=True, tags=BY_SCHEDULE))
    outcome = outcome_of(instance, JOB)
    assert outcome is not None
    assert (outcome.run_id, outcome.is_failure) == (well.run_id, False)


def test_runs_that_somebody_watches_and_runs_of_other_jobs_do_not_count(instance: dg.DagsterInstance, ran: Ran) -> None:
    by_hand = ran(dies=True, tags={})
    ran(dies=True, tags={}, after=by_hand)
    ran(dies=False, tags={IMPATIENT: "somebody waits at a terminal"})
    ran(dies=False, tags=BY_SCHEDULE, job="maintain_lake")
    assert outcome_of(instance, JOB) is None
    mended = ran(dies=False, tags={})
    outcome = outcome_of(instance, JOB)
    assert outcome is not None
    assert outcome.run_id == mended.run_id
