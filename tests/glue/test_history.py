"""What a run on the command line leaves in Dagster's history: what Dagster itself would, in files that it reads."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path
from threading import Event
from uuid import uuid4

import dagster as dg
from dagster._core.storage.event_log import SqliteEventLogStorage

from assets.history import HeldHistory
from assets.running import instance_of
from routing_pipeline.storage.home import Home


@dg.asset(check_specs=[dg.AssetCheckSpec("is_even", asset="number")])
def number() -> dg.MaterializeResult:
    """Two."""
    return dg.MaterializeResult(metadata={"value": 2}, check_results=[dg.AssetCheckResult(passed=True, check_name="is_even")])


@dg.asset(deps=[number])
def broken() -> None:
    """Fails."""
    raise ValueError("no")


def kinds(instance: dg.DagsterInstance, run_id: str) -> list[str]:
    return [entry.dagster_event.event_type_value for entry in instance.all_logs(run_id) if entry.dagster_event is not None]


def test_dagster_itself_reads_the_same_history_of_a_run(tmp_path: Path) -> None:
    home = Home(tmp_path / "home").create()
    with instance_of(home) as held:
        assert isinstance(held.event_log_storage, HeldHistory)
        runs = [dg.materialize([number, broken], instance=held, raise_on_error=False) for _ in range(2)]
        told = {run.run_id: kinds(held, run.run_id) for run in runs}
    with dg.DagsterInstance.ephemeral() as other:
        expected = kinds(other, dg.materialize([number, broken], instance=other, raise_on_error=False).run_id)
    with dg.DagsterInstance.from_config(str(home.dagster)) as plain:
        assert type(plain.event_log_storage) is SqliteEventLogStorage
        assert {run.run_id for run in plain.get_runs()} == told.keys()
        for run_id, events in told.items():
            assert kinds(plain, run_id) == events
            assert sorted(events) == sorted(expected)
        last = plain.get_latest_materialization_event(number.key)
        assert last is not None
        assert last.run_id == runs[1].run_id
        check = plain.get_latest_asset_check_evaluation_record(dg.AssetCheckKey(number.key, "is_even"))
        assert check is not None
        assert check.run_id == runs[1].run_id


def test_two_processes_write_the_history_of_one_home_at_once(tmp_path: Path) -> None:
    home = Home(tmp_path / "home").create()
    with instance_of(home) as instance:
        dg.materialize([number], instance=instance)
    script = (
        "import sys, dagster as dg; from pathlib import Path\n"
        "from assets.running import instance_of; from routing_pipeline.storage.home import Home; from tests.glue.test_history import number\n"
        "with instance_of(Home(Path(sys.argv[1]))) as instance:\n"
        "    print(*(dg.materialize([number], instance=instance).run_id for _ in range(5)))\n"
    )
    writers = [subprocess.Popen([sys.executable, "-c", script, str(home.root)], stdout=subprocess.PIPE, text=True) for _ in range(2)]
    told = [run_id for writer in writers for run_id in writer.communicate()[0].split()]
    assert [writer.returncode for writer in writers] == [0, 0]
    with dg.DagsterInstance.from_config(str(home.dagster)) as plain:
        assert len(plain.fetch_materializations(number.key, limit=100).records) == 11
        assert len(told) == 10
        assert all("PIPELINE_SUCCESS" in kinds(plain, run_id) for run_id in told)


def test_whoever_watches_a_run_sees_its_events_while_it_goes_on(tmp_path: Path) -> None:
    home, seen, run_id = Home(tmp_path / "home").create(), Event(), str(uuid4())

    @dg.asset
    def patient(context):  # type: ignore[no-untyped-def]
        seen.wait(1)
        context.log.info("still here")
        return seen.wait(60)

    def told(entry: dg.EventLogEntry, _: str) -> None:
        if entry.user_message == "still here":
            seen.set()

    with instance_of(home) as instance, dg.DagsterInstance.from_config(str(home.dagster)) as plain:
        plain.event_log_storage.watch(run_id, None, told)
        job = dg.Definitions(assets=[patient], jobs=[dg.define_asset_job("job")]).resolve_job_def("job")
        done = job.execute_in_process(instance=instance, run_id=run_id)
        plain.event_log_storage.end_watch(run_id, told)
    assert done.output_for_node("patient")


def test_a_home_whose_instance_keeps_its_history_elsewhere_is_left_so(tmp_path: Path) -> None:
    home = Home(tmp_path / "home").create()
    home.dagster.mkdir(parents=True)
    (home.dagster / "dagster.yaml").write_text(f"storage:\n  sqlite:\n    base_dir: {tmp_path / 'elsewhere'}\n")
    with instance_of(home) as instance:
        assert not isinstance(instance.event_log_storage, HeldHistory)
        dg.materialize([number], instance=instance)
    assert list((tmp_path / "elsewhere").rglob("*.db"))


def test_a_history_that_somebody_deletes_between_runs_is_begun_anew(tmp_path: Path) -> None:
    home = Home(tmp_path / "home").create()
    for _ in range(2):
        with instance_of(home) as instance:
            assert dg.materialize([number], instance=instance).success
        for file in (home.dagster / "history").rglob("*.db*"):
            file.unlink()
