"""What a home remembers, and how results are kept."""

from __future__ import annotations

import json
import os
import shutil
import stat
import time
from pathlib import Path

import pytest

import routing_pipeline
from routing_pipeline.errors import UnusableInputError
from routing_pipeline.estimates import Estimate, Result
from routing_pipeline.home import DAYS_KEPT, WINDOWS_KEPT, Home
from routing_pipeline.results import RUNS_KEPT, RUNS_WITH_RESULTS, UNUSED_DAYS, ResultStore, key_of, write_whole


def test_a_home_refuses_logs_from_another_place_unless_told_to_add_them(tmp_path: Path) -> None:
    home = Home(tmp_path)
    home.remember_source("s3://real/logs")
    home.remember_source("s3://real/logs")
    with pytest.raises(UnusableInputError, match="--add-source"):
        home.remember_source("demo/logs")
    assert home.sources() == ("s3://real/logs",)
    home.remember_source("demo/logs", add=True)
    assert home.sources() == ("s3://real/logs", "demo/logs")


def test_the_key_of_user_hashes_is_made_once_and_only_its_owner_reads_it(tmp_path: Path) -> None:
    home = Home(tmp_path)
    assert home.hash_key() == home.hash_key()
    assert len(home.hash_key()) == 64
    assert stat.S_IMODE((tmp_path / "hash.key").stat().st_mode) == 0o600
    assert Home(tmp_path / "other").create().hash_key() != home.hash_key()


def test_a_home_that_cannot_be_written_is_refused(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(UnusableInputError, match="--home"):
        Home(tmp_path / "file" / "home").create()


class Answer(Result):
    value: Estimate


class OtherAnswer(Result):
    name: str


def test_a_result_comes_back_as_it_was_saved(tmp_path: Path) -> None:
    store = ResultStore(tmp_path)
    answer = Answer(value=Estimate(estimate=0.1, low=0.0, high=0.3))
    store.save("answer", "key", answer)
    assert store.load("answer", "key", Answer) == answer


def test_a_result_of_another_shape_is_no_result(tmp_path: Path) -> None:
    store = ResultStore(tmp_path)
    store.save("answer", "key", OtherAnswer(name="a"))
    assert store.load("answer", "key", Answer) is None
    assert store.load("nothing", "key", Answer) is None


def test_a_write_that_fails_leaves_the_old_file_and_no_debris(tmp_path: Path) -> None:
    target = tmp_path / "report.json"
    write_whole(target, b"old")
    with pytest.raises(TypeError):
        write_whole(target, "not bytes")  # type: ignore[arg-type]
    assert target.read_bytes() == b"old"
    assert list(tmp_path.iterdir()) == [target]


def test_a_key_depends_on_every_input_and_on_no_order() -> None:
    assert key_of(a=1, b=2) == key_of(b=2, a=1) != key_of(a=1, b=3)


def aged(path: Path, days: float) -> None:
    at_s = time.time() - days * 86_400
    os.utime(path, (at_s, at_s))


def test_what_nobody_reads_is_dropped_and_what_is_read_stays(tmp_path: Path) -> None:
    store = ResultStore(tmp_path)
    answer = Answer(value=Estimate(estimate=0.1, low=0.0, high=0.3))
    for letter in "abc":
        store.save("answer", letter * 16, answer)
        store.save_answer(letter * 16, {"text": letter})
        store.remember_rule_set(f"rules-{letter}", letter * 16)
        aged(tmp_path / (letter * 16), UNUSED_DAYS + 1)
        aged(tmp_path / "answers" / f"{letter * 16}.json", UNUSED_DAYS + 1)
    store.begin_run("run", "b" * 16)
    assert store.load("answer", "a" * 16, Answer) == answer
    assert store.load_answer("a" * 16) == {"text": "a"}
    assert store.prune() == 3
    assert [store.load("answer", letter * 16, Answer) is None for letter in "abc"] == [False, False, True]
    assert [store.load_answer(letter * 16) is None for letter in "abc"] == [False, True, True]
    assert [store.key_of_rule_set(f"rules-{letter}") for letter in "abc"] == ["a" * 16, "b" * 16, None]


def test_old_runs_are_dropped_first_and_the_newest_keep_their_results(tmp_path: Path) -> None:
    store = ResultStore(tmp_path)
    answer = Answer(value=Estimate(estimate=0.1, low=0.0, high=0.3))
    for number in range(RUNS_KEPT + 2):
        key = f"{number:016x}"
        store.save("answer", key, answer)
        store.begin_run(f"run-{number}", key)
        store.keep_run(f"run-{number}", answer, None, {"report.md": b"text"})
        aged(tmp_path / key, UNUSED_DAYS + 1)
    newest = store.runs()[0]
    assert (newest.run_id, newest.load("report", Answer), newest.load("exploration", Answer)) == (f"run-{RUNS_KEPT + 1}", answer, None)
    store.prune()
    assert [run.run_id for run in store.runs()] == [f"run-{number}" for number in range(RUNS_KEPT + 1, 1, -1)]
    assert sum((tmp_path / f"{number:016x}").exists() for number in range(RUNS_KEPT + 2)) == RUNS_WITH_RESULTS


def test_a_run_that_an_alert_started_is_kept_and_never_the_newest_report(tmp_path: Path) -> None:
    store = ResultStore(tmp_path)
    answer = Answer(value=Estimate(estimate=0.1, low=0.0, high=0.3))

    def run(name: str, key: str, *, is_of_alert: bool = False) -> None:
        store.begin_run(name, key, is_of_alert=is_of_alert)
        store.keep_run(name, answer, None, {}, is_of_alert=is_of_alert)

    run("first-alert", "c" * 16, is_of_alert=True)
    assert store.latest_run() is None
    assert store.key_of_run() is None
    run("week", "a" * 16)
    run("alert", "b" * 16, is_of_alert=True)
    newest = store.latest_run()
    assert newest is not None
    assert (newest.run_id, store.key_of_run(), store.key_of_run("alert")) == ("week", "a" * 16, "b" * 16)
    assert [(each.run_id, each.is_of_alert) for each in store.runs()] == [("alert", True), ("week", False), ("first-alert", True)]
    (tmp_path / "runs" / "latest" / "delivered").unlink()
    assert [run.run_id for run in [store.latest_run()] if run is not None] == ["week"]


def test_many_alerts_drop_no_report(tmp_path: Path) -> None:
    store = ResultStore(tmp_path)
    answer = Answer(value=Estimate(estimate=0.1, low=0.0, high=0.3))
    store.keep_run("week", answer, None, {}, key="a" * 16)
    for number in range(RUNS_KEPT + 2):
        store.keep_run(f"alert-{number}", answer, None, {}, key="b" * 16, is_of_alert=True)
    store.prune()
    assert sorted(run.run_id for run in store.runs() if not run.is_of_alert) == ["week"]
    assert len(store.runs()) == RUNS_KEPT + 1


@pytest.mark.parametrize("hostile", ["../../etc/passwd", "a/b", "", "a" * 200, "\x00", "..", "-"])
def test_an_id_never_reaches_beyond_the_store(tmp_path: Path, hostile: str) -> None:
    store = ResultStore(tmp_path / "results")
    assert store.key_of_rule_set(hostile) is None
    assert store.run(hostile) is None
    with pytest.raises(ValueError, match="not an id"):
        store.remember_rule_set(hostile, "key")


def test_rows_of_windows_go_when_they_are_old_or_many_and_never_while_they_are_read(tmp_path: Path) -> None:
    home = Home(tmp_path)
    hours = {"read now": 0.1, **{f"today {number}": 2.0 + number / 100 for number in range(WINDOWS_KEPT)}, "old": 72.0}
    for name, age in hours.items():
        (home.windows / name).mkdir(parents=True)
        aged(home.windows / name, age / 24)
    assert home.tidy() == 2
    assert {path.name for path in home.windows.iterdir()} == set(hours) - {"old", f"today {WINDOWS_KEPT - 1}"}


def test_kept_days_go_when_they_are_old_or_many_or_made_anew_and_never_while_a_window_needs_them(tmp_path: Path) -> None:
    home = Home(tmp_path)
    ages = {f"{20000 + day}-aa.parquet": 0.1 + day / 1_000 for day in range(DAYS_KEPT)} | {"20002-aa.parquet": 0.01}
    gone = {"20001-old.parquet": 0.2, "19000-many.parquet": 2.0}
    stay = {"20002-reading.parquet": 0.03, "20003-needed.parquet": 9.0, "19001-needed.parquet": 30.0}
    home.days.mkdir(parents=True)
    for name, age in {**ages, **gone, **stay}.items():
        (home.days / name).mkdir() if "old" in name else (home.days / name).touch()
        aged(home.days / name, age)
    (home.windows / "w").mkdir(parents=True)
    parts = [f"days/{name}" for name in stay if "needed" in name]
    (home.windows / "w" / "requests.json").write_text(json.dumps({"parts": parts}))
    (home.windows / "w" / "previous.json").write_text("torn")
    assert home.tidy() == 2
    assert {path.name for path in home.days.iterdir()} == {*ages, *stay}
    for path in home.days.iterdir():
        aged(path, 11.0)
    shutil.rmtree(home.windows)
    home.tidy()
    assert not list(home.days.iterdir())


def test_the_map_of_the_package_names_every_module() -> None:
    folder = Path(routing_pipeline.__file__).parent
    modules = {path.stem for path in folder.glob("*.py")} | {path.parent.name for path in folder.glob("*/__init__.py")}
    words = set((routing_pipeline.__doc__ or "").replace(",", " ").split())
    assert modules - {"__init__"} <= words
