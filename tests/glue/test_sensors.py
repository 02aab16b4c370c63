"""The sensors over a real lake: what each starts, tells and remembers, look after look."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import dagster as dg
import pytest

from assets import automation, sensors
from assets.resources import HomeResource
from routing_pipeline.alerts.decisions import AlertDecision
from routing_pipeline.alerts.sensor import tick as alert_tick
from routing_pipeline.ingest.ingestion import ingest_logs
from routing_pipeline.parameters import Parameters
from routing_pipeline.storage.home import Home
from routing_pipeline.window.engine import open_engine
from tests.hours import HOUR_S, Hours

HOURS = Hours()
DAYS, PER_HOUR = 9, 40
ALERTING = {sensor.name: sensor for sensor in sensors.ALERTING}

Change = Callable[[int, dict[str, Any]], None]


def attempts(hours: Iterable[int], change: Change = lambda *_: None) -> list[dict[str, Any]]:
    """Forty requests of a dollar and a second every hour, half of each team; `change` may alter the record of an hour."""
    rows = []
    for hour in hours:
        for number in range(PER_HOUR):
            row: dict[str, Any] = {
                "attempt_id": f"{hour}-{number}",
                "request_id": f"{hour}-{number}",
                "started_at": datetime.fromtimestamp(hour * HOUR_S + 60 + number, UTC).isoformat(),
                "model": ("gpt-4o", "gpt-4o-mini")[number % 2],
                "team": ("search", "support")[number * 2 // PER_HOUR],
                "task_type": "answer",
                "status": "success",
                "latency_ms": 1000.0 + 5 * number,
                "quality_score": 0.8 + 0.005 * number,
                "cost_usd": 1.0 + 0.01 * number,
                "prompt_tokens": 1000,
                "completion_tokens": 100,
            }
            change(hour, row)
            rows.append(row)
    return rows


def dear(hour: int, row: dict[str, Any]) -> None:
    if hour == HOURS.last:
        row["cost_usd"] *= 10


def slow(hour: int, row: dict[str, Any]) -> None:
    if hour == HOURS.last:
        row["latency_ms"] *= 3


def bad(hour: int, row: dict[str, Any]) -> None:
    if hour == HOURS.last:
        row["quality_score"] -= 0.4


def bad_news_first(hour: int, row: dict[str, Any]) -> None:
    if hour == HOURS.last:
        row["quality_score"] = row["quality_score"] - 0.4 if row["attempt_id"].endswith(("0", "3", "6")) else None


def failing(hour: int, row: dict[str, Any]) -> None:
    if hour == HOURS.last and row["model"] == "gpt-4o":
        row |= {"status": "failure", "error_type": "timeout", "quality_score": None}


def lake_of(folder: Path, rows: list[dict[str, Any]], more: str = "") -> HomeResource:
    logs = folder / "logs"
    logs.mkdir(exist_ok=True)
    (logs / f"records-{len(list(logs.iterdir()))}.jsonl").write_text("\n".join(json.dumps(row) for row in rows))
    (folder / "routing.toml").write_text(
        f"[alerts]\nsilent_hours = 30\nhold_back_minutes = {HOURS.hold_back_s / 60}\nscore_hold_back_hours = {HOURS.hold_back_s / HOUR_S}\n{more}"
    )
    ingest_logs(Home(folder / "home").create(), str(logs))
    return HomeResource(root=str(folder / "home"), logs=str(logs), config=str(folder / "routing.toml"))


def tick(name: str, home: HomeResource, cursor: str | None = None) -> dg.SensorResult:
    sensor = ALERTING.get(name, sensors.new_logs)
    with (
        dg.DagsterInstance.ephemeral() as instance,
        dg.build_sensor_context(instance=instance, cursor=cursor, resources={"home": home}) as context,
    ):
        result = sensor(context)
    assert isinstance(result, dg.SensorResult)
    return result


def usual(but_last: int = 0) -> range:
    return range(HOURS.last - DAYS * 24, HOURS.last + 1 - but_last)


@pytest.mark.parametrize(
    ("name", "change", "said"),
    [
        ("cost_spike", dear, "spend"),
        ("latency_spike", slow, "latency"),
        ("quality_drop", bad, "quality"),
        ("quality_drop", failing, "failed attempts"),
    ],
)
def test_an_incident_starts_one_analysis_over_a_day_with_its_reason_in_the_tags(
    tmp_path: Path, name: str, change: Change, said: str
) -> None:
    home = lake_of(tmp_path, attempts(usual(), change))
    first = tick(name, home)
    assert first.run_requests, first.skip_reason
    (request,) = first.run_requests
    assert request.run_key is not None
    assert request.run_key.startswith(f"{name}:")
    assert request.run_config["ops"]["analysis_scope"]["config"]["timeframe"] == "24h"
    assert request.tags[automation.ALERT] == name
    assert said in request.tags["reason"]
    again = tick(name, home, first.cursor)
    assert again.run_requests == []
    assert "no new complete hour" in str(again.skip_reason)


def test_an_alert_about_quality_says_that_scores_of_its_hours_are_still_coming_in(tmp_path: Path) -> None:
    lake_of(tmp_path, attempts(usual(), bad_news_first))
    home = Home(tmp_path / "home")
    with open_engine() as engine:
        told = alert_tick("quality_drop", home, engine, Parameters(), None, (HOURS.last + 2) * HOUR_S)
    assert (told.kind, told.measured) == ("alert", "quality")
    assert "% of the answers of these hours are scored so far, usually 100 %" in told.due_to[-1]


@pytest.mark.parametrize("name", ["cost_spike", "latency_spike", "quality_drop", "silent_feed"])
def test_a_sensor_compares_hours_by_the_zone_of_its_environment(tmp_path: Path, name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[Parameters] = []

    def noted(sensor: str, home: Home, engine: object, parameters: Parameters, cursor: str | None, now_s: float) -> AlertDecision:
        asked.append(parameters)
        return AlertDecision(kind="quiet", reason="", cursor="{}")

    monkeypatch.setattr(sensors, "tick", noted)
    monkeypatch.setenv("ROUTING_PIPELINE_TIMEZONE", "Europe/Berlin")
    tick(name, HomeResource(root=str(tmp_path / "home"), logs=str(tmp_path)))
    assert [each.alerts.timezone for each in asked] == ["Europe/Berlin"]


@pytest.mark.parametrize("name", ["cost_spike", "latency_spike", "quality_drop", "silent_feed"])
def test_usual_traffic_is_a_skip_that_says_so(tmp_path: Path, name: str) -> None:
    result = tick(name, lake_of(tmp_path, attempts(usual())))
    assert result.run_requests == []
    assert "usual" in str(result.skip_reason)


@pytest.mark.parametrize("name", list(ALERTING))
@pytest.mark.parametrize("cursor", [None, "", "garbage", '{"seen": 1}', '{"told": [["all", ""]]}'])
def test_whatever_the_cursor_a_lake_that_holds_nothing_starts_nothing(tmp_path: Path, name: str, cursor: str | None) -> None:
    result = tick(name, HomeResource(root=str(tmp_path / "empty")), cursor)
    assert result.run_requests == []
    assert "has no requests" in str(result.skip_reason)


@pytest.mark.parametrize("name", list(ALERTING))
def test_a_lake_that_cannot_be_read_is_a_skip_that_keeps_the_cursor(tmp_path: Path, name: str) -> None:
    home = lake_of(tmp_path, attempts(range(HOURS.last - 3, HOURS.last + 1)))
    (tmp_path / "home" / "lake" / "catalog.db").write_text("broken")
    result = tick(name, home, '{"seen": 7}')
    assert (result.run_requests, result.cursor) == ([], '{"seen": 7}')
    assert "could not be read" in str(result.skip_reason)


def test_an_incident_that_goes_on_is_told_again_only_when_it_grew_by_half(tmp_path: Path) -> None:
    factors = {HOURS.last - 2: 4.0, HOURS.last - 1: 4.0, HOURS.last: 12.0}

    def change(hour: int, row: dict[str, Any]) -> None:
        row["cost_usd"] *= factors.get(hour, 1.0)

    home = lake_of(tmp_path, attempts(usual(but_last=2), change))
    first = tick("cost_spike", home)
    assert first.run_requests is not None
    assert len(first.run_requests) == 1
    lake_of(tmp_path, attempts([HOURS.last - 1], change))
    second = tick("cost_spike", home, first.cursor)
    assert second.run_requests == []
    lake_of(tmp_path, attempts([HOURS.last], change))
    third = tick("cost_spike", home, second.cursor)
    assert third.run_requests is not None
    (request,) = third.run_requests
    assert request.run_key == f"{first.run_requests[0].run_key}:2"
    assert "larger than when first reported" in request.tags["reason"]


def test_an_alert_says_what_it_is_due_to(tmp_path: Path) -> None:
    def change(hour: int, row: dict[str, Any]) -> None:
        if hour == HOURS.last and row["team"] == "support":
            row["prompt_tokens"] = row["prompt_tokens"] * 10
            row["cost_usd"] *= 10

    (request,) = tick("cost_spike", lake_of(tmp_path, attempts(usual(), change))).run_requests or [None]
    assert request is not None
    assert "tokens" in request.tags["due_to"]
    assert "team 'support' (100 %)" in request.tags["due_to"]


def test_a_team_that_falls_silent_is_told_once(tmp_path: Path) -> None:
    rows = [row for row in attempts(usual()) if row["team"] == "search" or int(row["attempt_id"].split("-")[0]) < HOURS.last - 11]
    home = lake_of(tmp_path, rows)
    first = tick("silent_feed", home)
    assert first.run_requests, first.skip_reason
    assert first.run_requests[0].tags["series"] == "team support"
    assert tick("silent_feed", home, first.cursor).run_requests == []


def test_a_feed_whose_logs_were_looked_for_in_vain_is_silent_long_before_the_clock_says_so(tmp_path: Path) -> None:
    home = lake_of(tmp_path, attempts(usual(but_last=6)))
    looked = tick("new_logs", home)
    assert "no new objects" in str(looked.skip_reason)
    silent = tick("silent_feed", home)
    assert silent.run_requests, silent.skip_reason
    assert "since" in silent.run_requests[0].tags["reason"]


def test_new_objects_start_one_ingestion_and_the_same_ones_no_second(tmp_path: Path) -> None:
    home = lake_of(tmp_path, attempts(range(HOURS.last - 3, HOURS.last)))
    assert tick("new_logs", home).run_requests == []
    (tmp_path / "logs" / "more.jsonl").write_text("\n".join(json.dumps(row) for row in attempts([HOURS.last])))
    first = tick("new_logs", home)
    assert first.run_requests is not None
    assert len(first.run_requests) == 1
    assert tick("new_logs", home, first.cursor).run_requests == []
    (tmp_path / "logs" / "even-more.jsonl").write_text("\n".join(json.dumps(row) for row in attempts([HOURS.last + 1])))
    assert len(tick("new_logs", home, first.cursor).run_requests or []) == 1


def test_a_source_that_cannot_be_listed_is_a_skip_that_says_why(tmp_path: Path) -> None:
    result = tick("new_logs", HomeResource(root=str(tmp_path / "home"), logs=str(tmp_path / "nowhere")), "kept")
    assert (result.run_requests, result.cursor) == ([], "kept")
    assert "could not be listed" in str(result.skip_reason)


@pytest.mark.parametrize("name", ["cost_spike", "latency_spike", "quality_drop"])
def test_a_sensor_whose_last_check_lies_ahead_of_the_clock_says_so_and_goes_on(name: str, tmp_path: Path) -> None:
    ahead = HOURS.last + 2_000
    cursor = json.dumps({"seen": ahead, "incident": {"began": ahead - 1, "last_alarm": ahead, "told_size": 0.5, "told": 1}})
    quiet = tick(name, lake_of(tmp_path, attempts(usual())), cursor)
    assert "hours ahead of the clock, so what it knew of them was dropped; " in str(quiet.skip_reason)
    assert json.loads(str(quiet.cursor))["seen"] <= HOURS.last
    assert json.loads(str(quiet.cursor))["incident"] is None


def test_an_incident_is_told_though_the_last_check_lies_ahead_of_the_clock(tmp_path: Path) -> None:
    home = lake_of(tmp_path, attempts(usual(), dear))
    found = tick("cost_spike", home, json.dumps({"seen": HOURS.last + 2_000}))
    assert len(found.run_requests or []) == 1
    assert "no new complete hour" in str(tick("cost_spike", home, found.cursor).skip_reason)


def test_a_channel_that_fails_stops_no_run(tmp_path: Path) -> None:
    home = lake_of(tmp_path, attempts(usual(), dear), '[notifications]\nurls = ["json://127.0.0.1:9/", "nonsense", "env:NOT_SET"]\n')
    assert len(tick("cost_spike", home).run_requests or []) == 1
