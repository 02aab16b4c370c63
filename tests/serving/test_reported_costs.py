"""What the live page says of money per unit: the newest report's own words."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from routing_pipeline.serving.dashboard.costs import MOST_GROUPS, reported_costs
from routing_pipeline.storage.home import Home
from routing_pipeline.storage.runs import StoredRun

USD = {"estimate": 0.02, "low": 0.01, "high": 0.03, "level": 0.95, "degrees": None}


def line(group: list[str]) -> dict[str, Any]:
    costs = dict.fromkeys(("per_request_usd", "per_session_usd", "per_solved_task_usd", "per_user_usd"), USD)
    return {"group": group, "requests": 10, "sessions": 5, "tasks_scored": 5, "tasks_solved": 4, "users": 2, **costs}


@pytest.fixture
def kept(tmp_path: Path) -> StoredRun:
    storage = Home(tmp_path).files.below("run")
    units = [
        {"by": [], "lines": [line([])], "definition": "A task counts as solved when its last score is 0.5 or higher."},
        {"by": ["feature"], "lines": [line([f"feature-{place}"]) for place in range(9)], "definition": ""},
    ]
    report = {"scope": {"start_s": 0.0, "end_s": 86_400.0, "key": "k"}, "routing_costs": {"units": units, "total_usd": 1.0}, "more": 1}
    storage.write("report.json", json.dumps(report).encode())
    return StoredRun(run_id="r1", key="k", code="c", published_s=0.0, files={}, storage=storage)


def test_costs_are_those_of_the_report_with_its_window_and_the_dearest_groups(kept: StoredRun) -> None:
    found = reported_costs(kept)
    assert found is not None
    assert (found.run_id, found.end.day) == ("r1", 2)
    assert [each.by for each in found.units] == [(), ("feature",)]
    assert [each.group for each in found.units[1].lines] == [(f"feature-{place}",) for place in range(MOST_GROUPS)]


def test_without_a_report_nothing_is_said(kept: StoredRun) -> None:
    assert reported_costs(None) is None
    kept.storage.write("report.json", b'{"scope": {}}')
    assert reported_costs(kept) is None
