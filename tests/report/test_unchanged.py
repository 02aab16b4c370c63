"""A report answers its question again as long as all that it was made from is what it was, and not a moment longer."""

from __future__ import annotations

import json
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest

from routing_pipeline.data_quality.expectations import BASELINE
from routing_pipeline.errors import UnusableInputError
from routing_pipeline.lake.side_tables import arrow_schema
from routing_pipeline.lake.table import Lake
from routing_pipeline.parameters import Parameters, read_parameters
from routing_pipeline.report.model import Report
from routing_pipeline.report.unchanged import FRESH, Again, delivered_before, keep_for_again, state_of
from routing_pipeline.rules.published_weights import Period, PublishedWeights, save_weights
from routing_pipeline.rules.record import RuleSetRecord, record_of
from routing_pipeline.schema import KEPT_FEEDBACK
from routing_pipeline.storage.home import Home
from tests.lakes import with_columns

Reports = dict[str, Callable[[], Report]]
FILES = {"report.json": b'{"a": 1}\n', "report.html": b"<html>"}
CONFIG = "goal = 'cost'\n"


class Delivered:
    """A home in which one report was delivered, with a configuration file beside it."""

    def __init__(self, folder: Path, report: Report) -> None:
        self.home = Home(folder / "home").create()
        self.config = folder / "mine.toml"
        self.config.write_text(CONFIG)
        parameters = read_parameters(self.config)
        self.report = report.model_copy(update={"scope": report.scope.model_copy(update={"parameters": parameters})})
        self.record.propose(report.routing_rule_set, 0.01, 0.01)

    @property
    def record(self) -> RuleSetRecord:
        return record_of(self.home)

    @property
    def run_id(self) -> str:
        return self.report.run.run_id

    def state(self) -> str:
        found = state_of(self.home, self.config, self.record)
        assert found is not None
        return found

    def deliver(self, **about: Any) -> None:
        self.home.runs.note_state(self.run_id, self.state())
        self.home.runs.keep(self.run_id, self.report, None, FILES, key=self.report.scope.key, **about)
        keep_for_again(self.home, self.report, self.state())

    def again(self, parameters: Parameters | None = None, engine: str = "duckdb", now_s: float | None = None) -> Again | None:
        asked = parameters or read_parameters(self.config)
        return delivered_before(self.home, asked, engine, self.config, self.record, now_s=now_s)


@pytest.fixture
def delivered(reports: Reports, tmp_path: Path) -> Delivered:
    made = Delivered(tmp_path, reports["rules"]())
    made.deliver()
    return made


def test_the_same_question_is_answered_with_the_same_bytes_and_the_run_that_made_them(delivered: Delivered, tmp_path: Path) -> None:
    again = delivered.again()
    assert again is not None
    again.deliver(delivered.home, tmp_path / "out")
    assert {path.name: path.read_bytes() for path in (tmp_path / "out").iterdir()} == FILES
    assert delivered.run_id in again.notice
    assert again.lines
    latest = delivered.home.runs.latest()
    assert latest is not None
    assert latest.run_id == delivered.run_id


def approved(of: Delivered) -> None:
    of.record.approve(of.report.routing_rule_set.rule_set_id, "Ada")


def answered(of: Delivered) -> None:
    of.home.coordination.change("recommendations.json", lambda _: json.dumps({"a": {"state": "accepted"}}))


def rolled_out(of: Delivered) -> None:
    save_weights(of.home, PublishedWeights(periods=(Period(rule_set_id="a", share=0.1, start_s=0.0, routes={}),)))


def configured(of: Delivered) -> None:
    of.config.write_text(CONFIG + "[notifications]\nfailed_runs = false\n")


def more_logs(of: Delivered) -> None:
    of.home.remember_source("file:///more", add=True)


def more_scores(of: Delivered) -> None:
    rows = pa.table({"request_id": ["a"], "name": ["quality"], "value": [1.0]})
    Lake(of.home).commit(feedback=with_columns(rows, arrow_schema(KEPT_FEEDBACK)))


def changed_by_hand(of: Delivered) -> None:
    (of.home.lake / "data").mkdir(parents=True)
    (of.home.lake / "data" / "rows.parquet").write_bytes(b"other")


def forgotten(of: Delivered) -> None:
    of.home.results.clear()


def lost(of: Delivered) -> None:
    of.home.results.storage.delete([f"runs/{of.run_id}/files/report.html.gz"])


def damaged(of: Delivered) -> None:
    of.home.results.storage.write(f"runs/{of.run_id}/files/report.html.gz", b"other")


@pytest.mark.parametrize(
    "changed", [approved, answered, rolled_out, configured, more_logs, more_scores, changed_by_hand, forgotten, lost, damaged]
)
def test_what_changed_since_is_seen(delivered: Delivered, changed: Callable[[Delivered], None]) -> None:
    changed(delivered)
    assert delivered.again() is None


def test_what_the_environment_says_is_part_of_it_and_where_the_home_is_named_is_not(
    delivered: Delivered, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("ROUTING_PIPELINE_HOME", "elsewhere")
    assert delivered.again() is not None
    monkeypatch.setenv("ROUTING_PIPELINE_TIMEZONE", "Europe/Berlin")
    assert delivered.again() is None


def test_another_question_or_engine_is_another_answer(delivered: Delivered) -> None:
    assert delivered.again(Parameters(goal="speed")) is None
    assert delivered.again(Parameters(goal="cost", budget=100.0)) is None
    assert delivered.again(engine="spark://here:7077") is None
    assert delivered.again(Parameters(goal="cost")) is not None


def test_a_home_that_changed_while_it_was_read_keeps_nothing(reports: Reports, tmp_path: Path) -> None:
    made = Delivered(tmp_path, reports["rules"]())
    made.home.runs.note_state(made.run_id, made.state())
    approved(made)
    made.home.runs.keep(made.run_id, made.report, None, FILES, key=made.report.scope.key)
    keep_for_again(made.home, made.report, made.state())
    assert made.again() is None


def test_fresh_logs_are_taken_for_fresh_no_longer_than_they_are(reports: Reports, tmp_path: Path) -> None:
    made, now_s = Delivered(tmp_path, reports["rules"]()), time.time()
    numbers = {"newest_s": now_s - 1_000.0, "lag_s": 1_000.0, "allowed_s": 3_600.0}
    check = next(each for each in BASELINE if each.name == FRESH).result("passed", "a while ago", numbers=numbers)
    quality = made.report.data_quality.model_copy(update={"checks": (check,)})
    made.report = made.report.model_copy(update={"data_quality": quality})
    made.deliver()
    assert made.again(now_s=now_s + 2_500.0) is not None
    assert made.again(now_s=now_s + 2_700.0) is None


@pytest.mark.parametrize("about", [{"reason": "weekly review"}, {"stale_because": "the store was down"}])
def test_a_report_of_its_moment_is_not_given_twice(reports: Reports, tmp_path: Path, about: dict[str, str]) -> None:
    made = Delivered(tmp_path, reports["rules"]())
    made.report = made.report.model_copy(update={"run": made.report.run.model_copy(update=about)})
    made.deliver()
    assert made.again() is None


def test_rules_that_were_changed_by_hand_are_refused_as_ever(delivered: Delivered) -> None:
    (proposed,) = (delivered.home.root / "rule_sets" / "proposed").iterdir()
    proposed.write_text(proposed.read_text().replace("0.01", "0.02"))
    with pytest.raises(UnusableInputError, match="changed after it was proposed"):
        delivered.again()


def test_an_experiment_that_is_given_again_is_still_none_of_the_homes_own_reports(reports: Reports, tmp_path: Path) -> None:
    made = Delivered(tmp_path, reports["rules"]())
    made.home.runs.keep("usual", made.report, None, FILES, key=made.report.scope.key, question="usual")
    made.deliver(is_experiment=True, question="experiment")
    again = made.again()
    assert again is not None
    again.deliver(made.home, tmp_path / "out")
    latest = made.home.runs.latest()
    assert latest is not None
    assert latest.run_id == "usual"
