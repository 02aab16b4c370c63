"""The command that answers recommendations, on a home whose newest run delivered a report."""

from __future__ import annotations

import json
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from routing_pipeline.cli import main
from routing_pipeline.errors import UnusableInputError
from routing_pipeline.report.model import Report
from routing_pipeline.serving.dashboard import reports as served
from routing_pipeline.storage.home import Home

Command = Callable[..., tuple[int, str, str]]
Reports = dict[str, Callable[[], Report]]


@pytest.fixture
def home(tmp_path: Path, reports: Reports) -> Home:
    made = Home(tmp_path / "home").create()
    made.runs.begin("run-1", "0123456789abcdef")
    made.runs.keep("run-1", reports["rules"](), None, {})
    return made


@pytest.fixture
def command(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], home: Home) -> Command:
    def run(*words: str) -> tuple[int, str, str]:
        monkeypatch.setattr(sys, "argv", ["routing-pipeline", "recommendation", *words, "--home", str(home.root)])
        capsys.readouterr()
        code = 0
        try:
            main()
        except SystemExit as ended:
            code = int(ended.code or 0)
        said = capsys.readouterr()
        return code, said.out, said.err

    return run


def test_what_is_open_is_listed_and_what_is_answered_is_shown_as_such(command: Command, reports: Reports) -> None:
    first, second, *_ = [item.id for item in reports["rules"]().optimization_plan.items]
    assert command("accept", first, "--by", "Ada")[0] == 0
    assert command("dismiss", second, "--because", "planned for January")[0] == 0
    code, out, _ = command("list")
    assert code == 0
    lines = {line.split()[0]: line for line in out.splitlines()}
    assert lines[first].endswith("accepted by Ada")
    assert lines[second].endswith("dismissed (planned for January)")
    told = json.loads(command("list", "--json")[1])
    assert [each["answer"] and each["answer"]["state"] for each in told][:3] == ["accepted", "dismissed", None]


def test_a_ticket_is_printed_whole(command: Command, reports: Reports) -> None:
    item = reports["rules"]().optimization_plan.items[0]
    code, out, _ = command("ticket", item.id)
    assert code == 0
    assert out.startswith(f"# {item.title}")
    assert "Done when" in out


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (("dismiss", "collect"), "say why with --because"),
        (("acept", "collect"), "did you mean 'accept'"),
        (("accept", "no-such-thing"), "no such recommendation"),
        (("accept",), "name a recommendation"),
        (("list", "collect"), "recommendation list shows all of them, so it takes no id"),
        (("list", "--by", "Ada"), "neither --by nor --because"),
    ],
)
def test_what_cannot_be_answered_is_refused_in_one_line(command: Command, words: tuple[str, ...], said: str) -> None:
    code, _, error = command(*words)
    assert code == 2
    assert said in error
    assert len(error.strip().splitlines()) == 1


def test_the_live_page_lists_the_reports_of_a_home_and_opens_each(home: Home, reports: Reports) -> None:
    page = served.index(home, None)
    assert '<a href="/reports/run-1">' in page
    assert "2 rules, $1,320" in page
    found, policy = served.report_page(home, "run-1")
    assert "<h1>LLM Routing Optimization Report</h1>" in found
    assert "script-src 'sha256-" in policy
    assert policy.endswith("frame-ancestors 'none'")
    assert served.report_page(home, "latest") == (found, policy)
    assert "No report has been made" in served.index(Home(home.root / "other").create(), None)
    del reports


def test_a_report_leads_to_its_run_where_dagsters_ui_is_known(home: Home, reports: Reports) -> None:
    assert "/runs/" not in served.index(home, None)
    assert '<a href="https://dagster.example/runs/run-1">' in served.index(home, None, "https://dagster.example")
    assert served.run_in_dagster("https://dagster.example", served.run_id_of(home, "latest")) == "https://dagster.example/runs/run-1"
    with pytest.raises(UnusableInputError):
        served.run_id_of(home, "../../etc/passwd")
    del reports
