"""Publishing: all files or none, and a run that fails leaves the files of the run before."""

from __future__ import annotations

import json
import resource
from collections.abc import Callable
from pathlib import Path

import pytest

from routing_pipeline.errors import UnusableInputError
from routing_pipeline.report.files import check_writable, publish
from routing_pipeline.report.model import Report

Reports = dict[str, Callable[[], Report]]


def contents(folder: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in folder.iterdir()}


def test_all_files_appear_together_and_speak_of_one_rule_set(reports: Reports, tmp_path: Path) -> None:
    report = reports["rules"]()
    out = tmp_path / "deep" / "out"
    files = publish(out, report, report.routing_rule_set, report.routing_rule_set)
    assert (
        {path.name for path in files} == {"report.md", "report.html", "report.json", "rules.json", "exploration.json"} == set(contents(out))
    )
    rules = json.loads((out / "rules.json").read_text())
    assert rules == json.loads((out / "report.json").read_text())["routing_rule_set"]
    assert rules["rule_set_id"] in (out / "report.md").read_text()


def test_an_exploration_that_no_longer_applies_is_removed(reports: Reports, tmp_path: Path) -> None:
    report = reports["rules"]()
    publish(tmp_path, report, report.routing_rule_set, report.routing_rule_set)
    publish(tmp_path, report, report.routing_rule_set, None)
    assert set(contents(tmp_path)) == {"report.md", "report.html", "report.json", "rules.json"}


def test_a_report_that_cannot_be_rendered_leaves_the_old_files(reports: Reports, tmp_path: Path) -> None:
    report = reports["no change"]()
    publish(tmp_path, report, report.routing_rule_set, None)
    before = contents(tmp_path)
    broken = report.model_copy(update={"optimization_plan": None})
    with pytest.raises(AttributeError):
        publish(tmp_path, broken, report.routing_rule_set, None)
    assert contents(tmp_path) == before


def test_a_file_that_cannot_be_replaced_is_found_before_any_is(reports: Reports, tmp_path: Path) -> None:
    report = reports["no change"]()
    (tmp_path / "rules.json").mkdir()
    with pytest.raises(UnusableInputError, match=r"rules\.json is a folder"):
        publish(tmp_path, report, report.routing_rule_set, None)
    assert [path.name for path in tmp_path.iterdir()] == ["rules.json"]


def test_a_file_where_the_folder_should_be_is_named(tmp_path: Path) -> None:
    (tmp_path / "out").write_text("")
    with pytest.raises(UnusableInputError, match=f"--out {tmp_path / 'out'}"):
        check_writable(tmp_path / "out")


def test_a_folder_that_nobody_may_write_to_is_named() -> None:
    with pytest.raises(UnusableInputError, match="name a folder that can be written to"):
        check_writable(Path("/proc/report"))


def test_a_disk_that_takes_no_more_leaves_the_old_files_and_no_litter(reports: Reports, tmp_path: Path) -> None:
    report = reports["no change"]()
    publish(tmp_path, report, report.routing_rule_set, None)
    before = contents(tmp_path)
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (len(before["report.md"]) + 1, hard))
    try:
        with pytest.raises(UnusableInputError, match="nothing was published"):
            publish(tmp_path, report, report.routing_rule_set, None)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
    assert contents(tmp_path) == before
