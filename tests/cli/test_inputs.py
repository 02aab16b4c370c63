"""What commands are given, as it reaches the analysis."""

from __future__ import annotations

import contextlib
import errno
import sys
from pathlib import Path

import pytest

from routing_pipeline.cli.inputs import open_home, read_asked, uri_of
from routing_pipeline.cli.jobs import check_source, ingestion
from routing_pipeline.cli.main import app, main
from routing_pipeline.errors import UnusableInputError
from routing_pipeline.storage.home import Home


def test_a_list_of_capabilities_is_named_so_that_a_run_elsewhere_finds_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "api.json").write_text("{}")
    monkeypatch.chdir(tmp_path)
    asked = read_asked({"capabilities": Path("api.json")})
    assert asked.values == {"capabilities": str(tmp_path / "api.json")}
    assert asked.parameters.capabilities is not None
    assert asked.parameters.capabilities.path == str(tmp_path / "api.json")
    with pytest.raises(UnusableInputError, match=r"^capabilities: No such file"):
        read_asked({"capabilities": Path("other.json")})


def test_an_address_with_credentials_is_refused_before_anything_could_repeat_it() -> None:
    with pytest.raises(UnusableInputError, match="credentials do not belong into an address") as refused:
        uri_of("s3://user:secret@bucket/logs")
    assert "secret" not in str(refused.value)


def test_a_new_place_without_logs_is_told_before_a_run_begins(tmp_path: Path) -> None:
    (tmp_path / "logs").mkdir()
    with pytest.raises(UnusableInputError, match="holds no log objects"):
        check_source(Home(tmp_path / "home").create(), ingestion(str(tmp_path / "logs")))


def test_whoever_began_a_home_with_the_wrong_folder_is_told_how_to_begin_again(tmp_path: Path) -> None:
    home = Home(tmp_path / "home").create()
    home.remember_source("s3://wrong")
    (tmp_path / "logs").mkdir()
    with pytest.raises(
        UnusableInputError, match=r"holds logs from s3://wrong.*; if s3://wrong was a mistake, remove .*home and begin again"
    ):
        check_source(home, ingestion(str(tmp_path / "logs")))
    home.runs.begin("0815", "0" * 16)
    with pytest.raises(UnusableInputError, match=r"to mix the two on purpose$"):
        check_source(home, ingestion(str(tmp_path / "logs")))


def test_whoever_asks_beside_the_demo_is_told_where_its_home_is(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    with pytest.raises(UnusableInputError, match="there is no such home; name the folder"):
        open_home(None)
    (tmp_path / "demo" / "home").mkdir(parents=True)
    with pytest.raises(UnusableInputError, match="there is no such home; the demo's is --home demo/home;"):
        open_home(None)


def test_a_demo_is_refused_a_home_of_other_logs_before_anything_is_made_up(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    Home(tmp_path / "real").create().remember_source("s3://real/logs")
    with pytest.raises(UnusableInputError, match="holds logs from s3://real/logs; a demo never mixes with others"):
        app(args=["demo", "--home", "real"], standalone_mode=False)
    assert not (tmp_path / "real" / "demo").exists()


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["status", "--home", ""], "--home: nothing is given"),
        (["status", "--home="], "--home: nothing is given"),
        (["run", "--logs", " ", "--out", "report"], "--logs: nothing is given"),
        (["forget", "--team", ""], "--team: nothing is given"),
        (["audit", ""], "the place of the logs is empty"),
        (["run", "--logs", "s3://", "--out", "report"], "s3://: name a bucket"),
        (["analyze", "--out", "report", "--task-types", ","], "--task-types: names no task type"),
        (["analyze", "--out", "report", "--engine", "local[0]"], "--engine local[0]: give duckdb or spark://HOST:PORT"),
        (["analyze", "--out", "report", "--engine", "spark://"], "--engine spark://: give duckdb or spark://HOST:PORT"),
        (["analyze", "--out", "report", "--engine", "spark://here"], "--engine spark://here: give duckdb or spark://HOST:PORT"),
        (["analyze", "--out", "report", "--engine", "spark://here:70770"], "--engine spark://here:70770: give duckdb or spark://HOST:PORT"),
        (["analyze", "--out", "report", "--as-of", "9999-12-31T23:59:59-12:00"], "as-of: must be a moment in the years 1 to 9999"),
        (["demo", "--requests", "99999999999999999999"], "'--requests': must be less than or equal to"),
        (["demo", "--until", "yesterday"], "'--until': 'yesterday' does not match"),
        (["demo", "--until", "1970-01-01T00:00:00Z"], "--until: give a moment from 2000 to now"),
        (["demo", "--until", "9999-12-31T00:00:00Z"], "--until: give a moment from 2000 to now"),
        (["ask", "get_routing_costs", "timeframe=7d", "timeframe=24h"], "timeframe: given twice"),
        (["ask", "get_routing_costs", "timefame=7d"], "takes timeframe, group_by, detail, page"),
        (["ask", "get_routing_costs", "timeframe=☃"], 'got "☃"'),
        (["ask", "create_optimization_plan", "recommendations="], "recommendations: "),
    ],
)
def test_what_cannot_be_meant_is_refused_in_one_line_and_leaves_nothing(
    words: list[str], said: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "argv", ["routing-pipeline", *words])
    with pytest.raises(SystemExit) as ended:
        main()
    told = capsys.readouterr().err
    assert (ended.value.code, told.count("\n"), said in told) == (2, 1, True), told
    assert list(tmp_path.iterdir()) == []


def test_a_disk_that_is_full_is_no_bug_and_says_what_to_do(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "home").mkdir()
    monkeypatch.setattr(sys, "argv", ["routing-pipeline", "status", "--home", str(tmp_path / "home")])

    def full(*_: object, **__: object) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr("routing_pipeline.cli.decide.show", full)
    with pytest.raises(SystemExit) as ended:
        main()
    told = capsys.readouterr().err
    assert ended.value.code == 2, told
    assert (
        told
        == "routing-pipeline: what the command prints or writes: No space left on device; free some space, and run the same command again\n"
    )


def test_one_of_a_kind_is_told_in_the_singular() -> None:
    from routing_pipeline.cli.data import _told
    from routing_pipeline.ingest.erasure import ForgetResult

    nothing = ForgetResult(attempts=0, objects=0, quarantined=0, scores=0, snapshots=0, files=0, reports=0, is_dry_run=False, seconds=0.0)
    assert _told(nothing) == "0 rows from 0 objects forgotten, with 0 refused records and 0 scores; nothing else was deleted"
    unmatched = nothing.model_copy(update={"is_dry_run": True, "matches": False})
    assert _told(unmatched) == (
        "nothing matches, neither in the lake nor in its older snapshots, so nothing would be deleted; nothing was changed"
    )
    once = nothing.model_copy(update=dict.fromkeys(("attempts", "objects", "quarantined", "scores", "snapshots", "files"), 1))
    assert _told(once).startswith(
        "1 row from 1 object forgotten, with 1 refused record and 1 score; 1 older snapshot and 1 file deleted, all stored results"
    )


def test_a_list_of_no_reports_says_so(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "home").mkdir()
    monkeypatch.setattr(sys, "argv", ["routing-pipeline", "report", "--list", "--home", str(tmp_path / "home")])
    main()
    told = capsys.readouterr()
    assert (told.out, told.err) == ("", "no report has been made in this home yet\n")


def test_the_latest_report_goes_by_that_word_too(tmp_path: Path) -> None:
    from routing_pipeline.estimates import Estimate
    from routing_pipeline.report.rebuilding import find_run
    from routing_pipeline.storage.files import FolderStorage
    from routing_pipeline.storage.runs import RunStore

    store = RunStore(FolderStorage(tmp_path))
    for name in ("cost-1", "cost-2"):
        store.keep(name, Estimate(estimate=0.1, low=0.0, high=0.3), None, {}, key="a" * 16, question="cost")
    assert find_run(store, "latest").run_id == find_run(store, None).run_id == "cost-2"


@pytest.mark.parametrize("words", [["analyze", "--out", "report"], ["simulate", "--rules", "rules.json"]])
def test_a_home_without_rows_is_refused_and_stays_as_it_was(
    words: list[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "home").mkdir()
    (tmp_path / "rules.json").write_text('[{"when": {}, "route": "a-model"}]')
    monkeypatch.setattr(sys, "argv", ["routing-pipeline", *words, "--home", "home"])
    with pytest.raises(SystemExit) as ended:
        main()
    assert (ended.value.code, "the lake is empty; ingest logs first" in capsys.readouterr().err) == (2, True)
    assert sorted(str(path.relative_to(tmp_path)) for path in tmp_path.rglob("*")) == ["home", "rules.json"]


@pytest.mark.parametrize(("more", "named"), [(["weekly-1"], "weekly-1"), (["--out", "again"], "--out")])
def test_a_list_of_reports_refuses_what_it_would_not_look_at(
    more: list[str], named: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "home").mkdir()
    with pytest.raises(UnusableInputError, match=f"--list shows every report and writes none; leave out {named}"):
        app(args=["report", *more, "--list", "--home", "home"], standalone_mode=False)


def test_a_moment_that_is_none_is_refused_before_anything_starts(tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "home").mkdir()
    with pytest.raises(UnusableInputError, match="--before tomorow: give a date or a time in ISO 8601"):
        app(args=["forget", "--before", "tomorow", "--home", str(tmp_path / "home")], standalone_mode=False)
    assert "starting" not in capfd.readouterr().err


@pytest.mark.parametrize(
    "words",
    [["forget", "--team", "growth"], ["forget", "--before", "2026-10-01", "--dry-run"], ["compact"], ["reprocess", "--day", "2026-11-24"]],
)
def test_a_home_that_was_never_written_to_stays_empty(words: list[str], tmp_path: Path) -> None:
    home = tmp_path / "home"
    home.mkdir()
    with contextlib.suppress(UnusableInputError):
        app(args=[*words, "--home", str(home)], standalone_mode=False)
    assert list(home.iterdir()) == []
