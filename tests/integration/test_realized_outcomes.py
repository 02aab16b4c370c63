"""A rule set that was proposed, followed by a gateway and logged: the next report holds its promise against what came."""

from __future__ import annotations

import json
import sys
from pathlib import Path

import pytest

from routing_pipeline.cli import main
from routing_pipeline.demo import logs
from routing_pipeline.rules.model import logged_rule_id
from routing_pipeline.rules.record import record_of
from routing_pipeline.storage.home import Home
from tests.recommendation.test_realized_outcomes import about, promise

FOLLOWED = "2026-11-01T00:00:00Z-abcd"


def test_the_next_report_holds_an_earlier_promise_against_the_logs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    logs.write_demo(tmp_path / "week", requests=3_000)
    for path in (tmp_path / "week" / "logs").rglob("*.jsonl"):
        path.write_bytes(path.read_bytes().replace(b'"rule:', f'"rule:{logged_rule_id(FOLLOWED, "")}'.encode()))
    logged = {
        tag.removeprefix(f"rule:{FOLLOWED}/")
        for path in (tmp_path / "week" / "logs").rglob("*.jsonl")
        for line in path.read_text(errors="ignore").splitlines()
        if FOLLOWED in line and line.startswith("{") and line.endswith("}")
        for tag in json.loads(line)["request_tags"]
        if tag.startswith(f"rule:{FOLLOWED}/")
    }
    assert logged
    made = promise(FOLLOWED, cost_usd=about(1e-6, 1e-8))
    first, *_ = made.rules
    kept = made.model_copy(update={"rules": (first.model_copy(update={"id": min(logged)}),)})
    home = Home(tmp_path / "home").create()
    record = record_of(home)
    record.propose(kept.model_copy(update={"status": "proposed"}), 0.04, 0.02)
    record.publish(FOLLOWED, "Ada")
    words = ["run", "--logs", tmp_path / "week" / "logs", "--out", tmp_path / "out", "--home", home.root]
    monkeypatch.setattr(sys, "argv", ["routing-pipeline", *map(str, words)])
    main()
    realized = json.loads((tmp_path / "out" / "report.json").read_text())["realized_outcomes"]
    (found,) = realized["rule_sets"]
    assert (found["rule_set_id"], found["state"]) == (FOLLOWED, "published")
    assert found["requests"] > 0
    assert {each["outcome"]: each["verdict"] for each in found["outcomes"]}["cost_usd"] == "missed"
    assert "was missed" in realized["verdict"]
    markdown = (tmp_path / "out" / "report.md").read_text()
    assert "#### Earlier promises" in markdown
    assert "Missed by rule" in markdown
