"""What goes from a home when nobody has asked for it in a while."""

from __future__ import annotations

import os
import shutil
import time
from pathlib import Path

from routing_pipeline.estimates import Result
from routing_pipeline.storage.home import Home
from routing_pipeline.storage.results import UNUSED_DAYS
from routing_pipeline.window.retention import DAYS_KEPT, WINDOWS_KEPT, tidy
from routing_pipeline.window.rows import WindowRows


class Answer(Result):
    name: str


def aged(path: Path, days: float) -> None:
    at_s = time.time() - days * 86_400
    os.utime(path, (at_s, at_s))


def test_rows_of_windows_go_when_they_are_old_or_many_and_never_while_they_are_read(tmp_path: Path) -> None:
    home = Home(tmp_path)
    hours = {"read now": 0.1, **{f"today {number}": 2.0 + number / 100 for number in range(WINDOWS_KEPT)}, "old": 72.0}
    for name, age in hours.items():
        (home.windows / name).mkdir(parents=True)
        aged(home.windows / name, age / 24)
    assert tidy(home) == 2
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
    listed = WindowRows(parts=tuple(parts), start_s=0.0, end_s=1.0, task_types=(), lengths=None)
    (home.windows / "w" / "requests.json").write_text(listed.model_dump_json())
    (home.windows / "w" / "previous.json").write_text("torn")
    assert tidy(home) == 2
    assert {path.name for path in home.days.iterdir()} == {*ages, *stay}
    for path in home.days.iterdir():
        aged(path, 11.0)
    shutil.rmtree(home.windows)
    tidy(home)
    assert not list(home.days.iterdir())


def test_results_stay_with_the_newest_runs_and_go_when_nobody_reads_them(tmp_path: Path) -> None:
    home = Home(tmp_path)
    answer = Answer(name="a")
    for letter in "abc":
        home.results.save("answer", letter * 16, answer)
        aged(tmp_path / "results" / (letter * 16), UNUSED_DAYS + 1)
    home.runs.begin("newest", "a" * 16)
    home.runs.keep("delivered", answer, None, {}, key="b" * 16)
    assert tidy(home) == 1
    assert [home.results.load("answer", letter * 16, Answer) is None for letter in "abc"] == [False, False, True]


def test_what_a_killed_process_left_goes_after_two_days(tmp_path: Path) -> None:
    home = Home(tmp_path)
    for name in ("spill/old", "spill/new", "listing-old", "listing-new", "ingest"):
        (home.scratch / name).mkdir(parents=True)
        aged(home.scratch / name, 0.5 if "new" in name else 3.0)
    assert tidy(home) == 2
    assert {path.name for path in home.scratch.iterdir()} == {"spill", "listing-new", "ingest"}
    assert [path.name for path in (home.scratch / "spill").iterdir()] == ["new"]
