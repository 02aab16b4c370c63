"""The sensor over a real lake: what it starts, and what it makes of a lake that cannot be read."""

from __future__ import annotations

import json
import time
from datetime import UTC, datetime
from pathlib import Path

import dagster as dg
import pytest

from assets.automation import cost_spike
from assets.resources import HomeResource
from routing_pipeline.home import Home
from routing_pipeline.ingest.ingestion import ingest_logs

HOUR_S = 3_600


def lake_with(folder: Path, *, spike: bool) -> HomeResource:
    """Nine days with one request of a dollar every hour, until two hours ago; ten of them in the last hour if it spikes."""
    last = int(time.time()) // HOUR_S - 2
    rows = []
    for hour in range(last - 9 * 24, last + 1):
        for number in range(10 if spike and hour == last else 1):
            started = datetime.fromtimestamp(hour * HOUR_S + 60 + number, UTC)
            rows.append(
                {
                    "attempt_id": f"{hour}-{number}",
                    "request_id": f"{hour}-{number}",
                    "started_at": started.isoformat(),
                    "model": "gpt-4o",
                    "status": "success",
                    "cost_usd": 1.0,
                }
            )
    logs = folder / "logs"
    logs.mkdir()
    (logs / "records.jsonl").write_text("\n".join(json.dumps(row) for row in rows))
    (folder / "routing.toml").write_text("[alerts]\ncost_ratio = 2.0\ncost_floor_usd = 5.0\n")
    ingest_logs(Home(folder / "home").create(), str(logs))
    return HomeResource(root=str(folder / "home"), config=str(folder / "routing.toml"))


def tick(home: HomeResource, cursor: str | None = None) -> dg.SensorResult:
    with dg.DagsterInstance.ephemeral() as instance, dg.build_sensor_context(instance=instance, cursor=cursor) as context:
        result = cost_spike(context, home=home)
    assert isinstance(result, dg.SensorResult)
    return result


def test_a_spike_starts_one_analysis_over_a_day_with_its_reason_in_the_tags(tmp_path: Path) -> None:
    home = lake_with(tmp_path, spike=True)
    first = tick(home)
    assert first.run_requests is not None
    (request,) = first.run_requests
    assert request.run_key is not None
    assert request.run_key.startswith("cost_spike:")
    assert request.run_config["ops"]["analysis_scope"]["config"]["timeframe"] == "24h"
    assert "$10.00" in request.tags["reason"]
    assert tick(home, first.cursor).run_requests == []


def test_usual_spend_is_a_skip_that_says_so(tmp_path: Path) -> None:
    result = tick(lake_with(tmp_path, spike=False))
    assert result.run_requests == []
    assert "usual $1.00" in str(result.skip_reason)


@pytest.mark.parametrize("cursor", [None, '{"seen": 1}'])
def test_a_lake_that_cannot_be_read_is_a_skip_and_never_an_hour_without_spend(tmp_path: Path, cursor: str | None) -> None:
    result = tick(HomeResource(root=str(tmp_path / "empty")), cursor)
    assert result.run_requests == []
    assert "could not be read" in str(result.skip_reason)
