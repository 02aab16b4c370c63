"""From logs full of hostile names to what is printed and delivered, twice: the second report knows the first."""

from __future__ import annotations

import json
import random
import unicodedata
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import in_process
import pytest
from browser import opened
from playwright.sync_api import Browser

from routing_pipeline.text import printable
from tests.hostile_names import HOSTILE_NAMES, held_by

NAMES = tuple(HOSTILE_NAMES.values())
REQUESTS = 3_000
FILES = ("report.md", "report.html", "report.json", "rules.json")


def records() -> Iterator[dict[str, Any]]:
    """Six days of requests whose models, tasks, teams, rules and errors are the twelve names."""
    rolled = random.Random(5)  # noqa: S311
    for number in range(REQUESTS):
        place, failed = rolled.randrange(len(NAMES)), rolled.random() < 0.05
        yield {
            "attempt_id": f"a{number}",
            "request_id": f"r{number}",
            "session_id": f"s{number // 3}",
            "started_at": f"2026-11-{16 + number * 6 // REQUESTS:02d}T{number % 24:02d}:{number % 60:02d}:00Z",
            "latency_ms": 900.0 + rolled.random() * 300,
            "model": held_by(number, NAMES[place]),
            "provider": held_by(number, NAMES[number % 12]),
            "task_type": held_by(number, NAMES[number % 3 + 9 * (number % 7 == 0) * (number % 3 == 0)]),
            "team": held_by(number, NAMES[(number * 5) % 12]),
            "complexity": rolled.random(),
            "prompt_tokens": 200 + rolled.randrange(3_000),
            "completion_tokens": 100,
            "cost_usd": 0.002 * (1 + place),
            "status": "failure" if failed else "success",
            "error_type": held_by(number, NAMES[rolled.randrange(12)]) if failed else None,
            "quality_score": None if failed else min(0.6 + 0.3 * rolled.random(), 1.0),
            "routing_rule_id": held_by(number, NAMES[number % 12]),
        }


@dataclass(frozen=True)
class Delivered:
    """What two runs of one question left: folders, and all that the terminal showed."""

    home: Path
    first: Path
    second: Path
    said: str

    def json(self, folder: Path) -> dict[str, Any]:
        found: dict[str, Any] = json.loads((folder / "report.json").read_text())
        return found


def called(*words: object) -> str:
    """What the command printed."""
    done = in_process.delivered(*words)
    return done.stdout + done.stderr


@pytest.fixture(scope="module")
def delivered(tmp_path_factory: pytest.TempPathFactory) -> Delivered:
    folder = tmp_path_factory.mktemp("hostile")
    (folder / "logs").mkdir()
    (folder / "logs" / "batch.jsonl").write_text("\n".join(json.dumps(record) for record in records()), encoding="utf-8")
    home, asked = ("--home", folder / "home"), ("--timeframe", "7d")
    said = called("run", "--logs", folder / "logs", "--out", folder / "first", *home, *asked, "--as-of", "2026-11-20T00:00:00Z")
    said += called("analyze", "--out", folder / "second", *home, *asked)
    return Delivered(folder / "home", folder / "first", folder / "second", said)


def test_the_terminal_shows_plain_lines(delivered: Delivered) -> None:
    shown = delivered.said.replace("\n", "")
    assert not [each for each in shown if unicodedata.category(each) in {"Cc", "Cf", "Zl", "Zp"}]
    assert len(shown) < 10_000


def test_the_pages_run_nothing_and_name_what_is_there(delivered: Delivered, chromium: Browser) -> None:
    for folder in (delivered.first, delivered.second):
        assert (folder / "report.html").stat().st_size < 2_000_000
        with opened(chromium, (folder / "report.html").as_uri()) as found:
            assert found.page.title() == "LLM Routing Optimization Report"
            assert (found.errors, found.asked) == ([], [])
            shown = found.page.evaluate("document.body.textContent")
            assert printable(NAMES[0])[:20] in shown
            assert not set(shown) & set("\u202e\u2066\x1b\x9b\x07")


def test_the_first_report_says_so_and_the_second_compares_with_it(delivered: Delivered) -> None:
    first, second = (delivered.json(folder)["since_last_report"] for folder in (delivered.first, delivered.second))
    assert first["run_id"] is None
    assert "first report of this question" in first["verdict"]
    assert second["run_id"] == delivered.json(delivered.first)["run"]["run_id"]
    moved = {each["metric"]: each for each in second["moved"]}
    costs = [delivered.json(folder)["routing_costs"]["per_day_usd"] for folder in (delivered.first, delivered.second)]
    assert [moved["spend_per_day"]["before"]["estimate"], moved["spend_per_day"]["now"]["estimate"]] == pytest.approx(costs)
    assert 0 < second["overlap_days"] < 7
    assert "## Since the Last Report" in (delivered.second / "report.md").read_text()


def test_the_comparison_is_part_of_what_a_run_keeps(delivered: Delivered, tmp_path: Path) -> None:
    called("report", "--out", tmp_path, "--home", delivered.home)
    assert [(tmp_path / name).read_bytes() == (delivered.second / name).read_bytes() for name in FILES] == [True] * len(FILES)
