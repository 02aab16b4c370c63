"""The task's four error cases, each end to end: too little data, a router that is down, missing metrics, goals in conflict."""

from __future__ import annotations

import json
import shutil
import sys
import threading
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest
from in_process import delivered

from routing_pipeline.cli import main
from routing_pipeline.demo.logs import write_demo
from tests.delivered_week import DeliveredWeek

Command = Callable[..., tuple[int, str]]


@pytest.fixture
def command(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Command:
    """Runs the command in this process; exit code, and what it said on stderr."""

    def run(*words: object) -> tuple[int, str]:
        monkeypatch.setattr(sys, "argv", ["routing-pipeline", *map(str, words)])
        capsys.readouterr()
        try:
            main()
        except SystemExit as ended:
            return int(ended.code or 0), capsys.readouterr().err
        return 0, capsys.readouterr().err

    return run


@dataclass
class Router:
    """A router's health address that answers what it is told to."""

    status: int = 200
    asked: list[str] = field(default_factory=list)
    url: str = ""


@pytest.fixture
def router() -> Iterator[Router]:
    told = Router()

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            told.asked.append(self.path)
            self.send_response(told.status)
            self.end_headers()

        def log_message(self, *_: Any) -> None:
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    told.url = f"http://127.0.0.1:{server.server_port}/health/readiness"
    yield told
    server.shutdown()
    server.server_close()


def read(out: Path) -> tuple[dict[str, Any], str]:
    return json.loads((out / "report.json").read_text()), (out / "report.md").read_text()


def written(folder: Path, records: list[dict[str, Any]]) -> Path:
    folder.mkdir()
    (folder / "records.jsonl").write_text("\n".join(json.dumps(each) for each in records))
    return folder


def bare(number: int, **more: Any) -> dict[str, Any]:
    """All that every log has."""
    return {
        "attempt_id": f"a{number}",
        "request_id": f"r{number}",
        "started_at": f"2026-03-{2 + number // 600:02d}T{number // 60 % 24:02d}:{number % 60:02d}:00Z",
        "model": "gpt-4o" if number % 3 else "gpt-4o-mini",
        "status": "success" if number % 50 else "failure",
        **more,
    }


# Too little data


def test_too_little_in_all_goes_on_with_intervals_and_says_how_long_to_collect(command: Command, tmp_path: Path) -> None:
    records = [
        bare(number, cost_usd=0.01 + number % 7 / 1e4, latency_ms=800.0 + number, quality_score=0.8 + number % 3 / 10)
        for number in range(240)
    ]
    out = tmp_path / "out"
    code, err = command(
        "run", "--logs", written(tmp_path / "logs", records), "--home", tmp_path / "home", "--out", out, "--timeframe", "24h"
    )
    assert code == 0, err
    report, markdown = read(out)
    assert report["scope"]["timeframe"] == "24h", "a longer one holds no more"
    assert report["routing_rules"]["rule_set"]["status"] == "no_change"
    rules = json.loads((out / "rules.json").read_text())
    assert (rules["status"], rules["rules"]) == ("no_change", [])
    cost = report["routing_costs"]["per_request_usd"]
    assert cost["low"] < cost["estimate"] < cost["high"]
    days = report["scope"]["days_to_collect"]
    # 240 requests in four hours: the 760 that are missing take about half a day more.
    assert days == pytest.approx(760 / (240 / (239 / 1440)), rel=0.01)
    assert "at least 1 more day of logs" in markdown.lower()
    assert "240 requests are too few" in markdown


# Router down


def test_a_short_window_is_extended_and_a_router_that_is_down_gets_the_last_analysis_dated_and_without_one_exit_four(
    command: Command, router: Router, delivered_week: DeliveredWeek, tmp_path: Path
) -> None:
    config = tmp_path / "config.toml"
    config.write_text(f'[router]\nhealth_url = "{router.url}"\ntimeout_s = 2\n')
    # The logs are read already, and nothing was ever reported on them.
    home, out = delivered_week.copy(tmp_path / "home"), tmp_path / "out"
    shutil.rmtree(home / "results")
    words = (*delivered_week.asked, "--out", out, "--home", home, "--config", config, "--timeframe", "1h")

    router.status = 503
    code, err = command(*words)
    assert (code, "unhealthy (status 503" in err, "run again later" in err, len(err.strip().splitlines())) == (4, True, True, 1), err
    assert not (out / "report.md").exists()

    router.status = 200
    code, err = command(*words)
    assert code == 0, err
    healthy, markdown = read(out)
    assert healthy["scope"]["router"]["is_healthy"]
    assert healthy["run"]["stale_because"] is None
    assert "Router: healthy" in markdown
    # The window that was asked for held too little.
    assert (healthy["scope"]["timeframe_asked"], healthy["scope"]["timeframe"]) == ("1h", "7d")
    assert "it was extended to 7d" in markdown
    assert healthy["routing_costs"]["per_request_usd"]["low"] < healthy["routing_costs"]["per_request_usd"]["high"]

    router.status = 500
    code, err = command(*words)
    assert code == 0, err
    repeated, markdown = read(out)
    assert "**This repeats the last good analysis.**" in markdown
    assert "Analysed on 20" in repeated["run"]["stale_because"]
    different = {key for key in healthy if healthy[key] != repeated[key]}
    # What is told of the feed's freshness and of earlier proposals is of now.
    assert different <= {"run", "scope", "rule_set_status", "data_quality", "realized_outcomes"}, "what was found is as it was"

    code, err = command(*words, "--goal", "cost")
    assert (code, "same question" in err) == (4, True), "another question was never answered"
    assert set(router.asked) == {"/health/readiness"}


@pytest.mark.parametrize(
    ("table", "said"),
    [
        ('health_url = "ftp://router/x"', "router.health_url"),
        ('health_url = "http://user:secret@router/x"', "without credentials"),
        ('health_url = "http://router/x"\ntimeout_s = 0', "router.timeout_s"),
        ('url = "http://router/x"', "router."),
    ],
)
def test_a_router_that_cannot_be_asked_is_refused(command: Command, tmp_path: Path, table: str, said: str) -> None:
    config = tmp_path / "config.toml"
    config.write_text(f"[router]\n{table}\n")
    code, err = command("analyze", "--out", tmp_path / "out", "--home", tmp_path / "home", "--config", config)
    assert (code, said in err, "secret" in err) == (2, True, False), err


# Missing metrics


def test_missing_metrics_are_named_with_what_to_collect_and_the_rest_works(command: Command, tmp_path: Path) -> None:
    out = tmp_path / "out"
    logs = written(tmp_path / "logs", [bare(number, cost_usd=0.01 + number % 7 / 1e4) for number in range(1_500)])
    code, err = command("run", "--logs", logs, "--home", tmp_path / "home", "--out", out)
    assert code == 0, err
    report, markdown = read(out)
    missing = {each["name"] for each in report["scope"]["sources"] if not each["present"]}
    assert missing >= {"quality", "task type", "complexity", "session", "routing latency", "user rating", "routing rule"}
    for source in report["scope"]["sources"]:
        if not source["present"]:
            assert f"- {source['name'].capitalize()} is missing: " in markdown
    assert "unidentifiable" in report["quality_metrics"]["overall"]["quality"]
    assert "unidentifiable" in report["routing_analytics"]["latency"]["mean_ms"]
    assert report["routing_rules"]["rule_set"]["status"] == "no_change"
    assert report["scope"]["requests"] == 1_500
    assert report["routing_analytics"]["success_rate"]["estimate"] == pytest.approx(0.98)
    assert report["routing_costs"]["per_request_usd"]["low"] < report["routing_costs"]["per_request_usd"]["estimate"]
    assert "#### What to collect" in markdown
    assert any(item["id"] == "collect" for item in report["optimization_plan"]["items"])


# Goals in conflict


def test_limits_that_cannot_all_hold_get_trade_off_scenarios_a_balanced_one_and_the_users_own_priority(
    command: Command, tmp_path: Path
) -> None:
    # Of 8,000 requests no answer under the ceiling can be proven.
    write_demo(tmp_path / "gateway", requests=20_000)
    out = tmp_path / "out"
    logs, feedback = tmp_path / "gateway" / "logs", tmp_path / "gateway" / "feedback"
    limits = ("--quality-threshold", "0.9", "--cost-threshold", "0.002")
    code, err = command("run", "--logs", logs, "--feedback", feedback, "--home", tmp_path / "home", "--out", out, *limits)
    assert code == 0, err
    report, markdown = read(out)
    assert report["routing_rules"]["rule_set"]["status"] == "no_change"
    assert "nearest" in " ".join(report["routing_rules"]["conflicts"][0])
    found = {each["priority"]: each for each in report["tradeoff_frontier"]["scenarios"]}
    assert set(found) == {"cost", "quality", "speed", "balanced"}
    assert [name for name, each in found.items() if each["suggested"]] == ["balanced"]
    assert "cost at most $0.002 per request" in found["cost"]["keeps"]
    assert "quality at least 0.900" in found["cost"]["breaks"]
    assert "cost at most $0.002 per request" in found["quality"]["breaks"]
    assert found["quality"]["point"]["quality"]["estimate"] > found["balanced"]["point"]["quality"]["estimate"] - 1e-9
    assert found["cost"]["point"]["cost_usd"]["estimate"] < found["quality"]["point"]["cost_usd"]["estimate"]
    assert "balanced (suggested)" in markdown
    assert found["quality"]["ask"] in markdown
    assert "Your limits are in conflict: quality at least 0.900 and cost at most $0.002 per request cannot all hold" in markdown
    row = found["balanced"]
    asked = delivered("ask", "optimize_routing_rules", "--home", tmp_path / "home", "--json", *row["ask"].split())
    again = json.loads(asked.stdout)["rule_set"]
    assert {name: again["expected"]["proposed"][name] for name in ("cost_usd", "quality", "latency_ms")} == {
        name: row["point"][name] for name in ("cost_usd", "quality", "latency_ms")
    }
    assert len(again["rules"]) == row["rules"]
