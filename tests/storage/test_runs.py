"""Which runs are kept, and which of them is the latest."""

from __future__ import annotations

import time
from pathlib import Path

from routing_pipeline.clock import SECONDS_PER_DAY
from routing_pipeline.estimates import Estimate, Result
from routing_pipeline.storage.files import FolderStorage
from routing_pipeline.storage.results import UNUSED_DAYS
from routing_pipeline.storage.runs import RUNS_KEPT, RUNS_WITH_RESULTS, RunStore


class Answer(Result):
    value: Estimate


def test_old_runs_are_dropped_first_and_the_newest_keep_their_results(tmp_path: Path) -> None:
    store = RunStore(FolderStorage(tmp_path))
    answer = Answer(value=Estimate(estimate=0.1, low=0.0, high=0.3))
    for number in range(RUNS_KEPT + 2):
        store.begin(f"run-{number}", f"{number:016x}")
        store.keep(f"run-{number}", answer, None, {"report.md": b"text"})
    newest = store.all()[0]
    assert (newest.run_id, newest.load("report", Answer), newest.load("exploration", Answer)) == (f"run-{RUNS_KEPT + 1}", answer, None)
    with_results = {f"{number:016x}" for number in range(RUNS_KEPT + 2 - RUNS_WITH_RESULTS, RUNS_KEPT + 2)}
    assert store.prune(time.time()) == (2, with_results)
    assert [run.run_id for run in store.all()] == [f"run-{number}" for number in range(RUNS_KEPT + 1, 1, -1)]


def test_a_run_that_delivered_nothing_goes_when_it_is_old(tmp_path: Path) -> None:
    store = RunStore(FolderStorage(tmp_path))
    store.begin("failed", "a" * 16)
    later_s = time.time() + (UNUSED_DAYS + 1) * SECONDS_PER_DAY
    assert store.prune(time.time()) == (0, {"a" * 16})
    assert store.prune(later_s) == (1, {"a" * 16})
    assert {path.name for path in tmp_path.iterdir()} == {"latest"}


def test_a_run_that_an_alert_started_is_kept_and_never_the_newest_report(tmp_path: Path) -> None:
    store = RunStore(FolderStorage(tmp_path))
    answer = Answer(value=Estimate(estimate=0.1, low=0.0, high=0.3))

    def run(name: str, key: str, *, is_of_alert: bool = False) -> None:
        store.begin(name, key, is_of_alert=is_of_alert)
        store.keep(name, answer, None, {}, is_of_alert=is_of_alert)

    run("first-alert", "c" * 16, is_of_alert=True)
    assert store.latest() is None
    assert store.key_of() is None
    run("week", "a" * 16)
    run("alert", "b" * 16, is_of_alert=True)
    newest = store.latest()
    assert newest is not None
    assert (newest.run_id, store.key_of(), store.key_of("alert")) == ("week", "a" * 16, "b" * 16)
    assert [(each.run_id, each.is_of_alert) for each in store.all()] == [("alert", True), ("week", False), ("first-alert", True)]
    (tmp_path / "latest" / "delivered").unlink()
    assert [run.run_id for run in [store.latest()] if run is not None] == ["week"]


def test_an_experiment_is_never_the_newest_report_but_where_all_reports_ask_the_same(tmp_path: Path) -> None:
    store = RunStore(FolderStorage(tmp_path))
    answer = Answer(value=Estimate(estimate=0.1, low=0.0, high=0.3))

    def run(name: str, question: str, *, is_experiment: bool = True) -> None:
        store.keep(name, answer, None, {}, key="a" * 16, is_experiment=is_experiment, question=question)

    def latest() -> str | None:
        found = store.latest()
        return None if found is None else found.run_id

    assert "no report has been made" in store.why_no_latest()
    run("cost-1", "cost")
    run("cost-2", "cost")
    assert latest() == "cost-2", "who always asks with the same options has made them the home's question"
    run("quality", "quality")
    assert latest() is None
    assert "every report of this home answers a question of its own" in store.why_no_latest()
    run("week", "usual", is_experiment=False)
    run("cost-3", "cost")
    assert latest() == "week"
    for number in range(RUNS_KEPT + 1):
        run(f"later-{number}", "cost")
    store.prune(time.time())
    assert latest() == "week", "experiments drop no report that people decide about"
    (tmp_path / "latest" / "delivered").unlink()
    assert latest() == "week"


def test_many_alerts_drop_no_report(tmp_path: Path) -> None:
    store = RunStore(FolderStorage(tmp_path))
    answer = Answer(value=Estimate(estimate=0.1, low=0.0, high=0.3))
    store.keep("week", answer, None, {}, key="a" * 16)
    for number in range(RUNS_KEPT + 2):
        store.keep(f"alert-{number}", answer, None, {}, key="b" * 16, is_of_alert=True)
    store.prune(time.time())
    assert sorted(run.run_id for run in store.all() if not run.is_of_alert) == ["week"]
    assert len(store.all()) == RUNS_KEPT + 1
