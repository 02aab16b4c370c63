"""What agents are told of what earlier runs left."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

from routing_pipeline.report.model import Report
from routing_pipeline.serving.mcp.answers import REPORT, Answers
from routing_pipeline.storage.home import Home


def test_whoever_asks_where_the_newest_rules_stand_is_told_that_no_change_is_proposed(
    tmp_path: Path, reports: dict[str, Callable[[], Report]]
) -> None:
    home = Home(tmp_path / "home").create()
    home.runs.begin("run-1", "0123456789abcdef")
    home.runs.keep("run-1", reports["no change"](), None, {})
    status = Answers(home).rule_set_status("latest")
    assert (status["state"], status["next_step"]) == ("no_change", None)
    assert status["verdict"] == f"No change is proposed, so there is nothing to approve. What one would need is said by {REPORT}."
