"""Offices that work by local time, on the days after the clocks were changed: no alert for that, and every alert for the rest."""

from __future__ import annotations

from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from typing import Any
from zoneinfo import ZoneInfo

import ibis
import numpy as np
import pyarrow as pa
import pytest

from routing_pipeline.alerts.attribution import attribution_from_sums, with_week
from routing_pipeline.alerts.decisions import AlertDecision, cost_measure, cost_spike, silent_feed
from routing_pipeline.alerts.detection import detect
from routing_pipeline.alerts.examination import Incident, ReportedAlert, examined
from routing_pipeline.alerts.incidents import Memory
from routing_pipeline.alerts.missing_traffic import SilenceMemory
from routing_pipeline.alerts.series import WHOLE, HourlySums, Series
from routing_pipeline.clock import HOURS_PER_DAY, HOURS_PER_WEEK, SECONDS_PER_HOUR
from routing_pipeline.parameters import AlertThresholds

BERLIN = ZoneInfo("Europe/Berlin")
UTC_CLOCK, LOCAL_CLOCK = AlertThresholds(), AlertThresholds(timezone="Europe/Berlin")
WEEKS = 6
CHANGES = {"spring": datetime(2026, 3, 30, tzinfo=BERLIN), "autumn": datetime(2026, 10, 26, tzinfo=BERLIN)}
"""The Monday after."""
USD_EACH = 0.1

Rhythm = Callable[[int], float]


def hour_of(moment: datetime) -> int:
    return int(moment.timestamp()) // SECONDS_PER_HOUR


def local(hour: int) -> datetime:
    return datetime.fromtimestamp(hour * SECONDS_PER_HOUR, UTC).astimezone(BERLIN)


def busy_by_day(local_hour: int) -> float:
    """Steep at eight and at six, with some traffic all night."""
    return 600.0 if 8 <= local_hour < 18 else 60.0


def closed_at_night(local_hour: int) -> float:
    return 600.0 if 8 <= local_hour < 18 else 0.0


def traffic(until: int, rhythm: Rhythm = busy_by_day, times: dict[int, float] | None = None, weeks: int = WEEKS) -> HourlySums:
    """Requests of two teams at one price by Berlin's clock, in the weeks up to and with the hour `until`."""
    hours = until + 1 - weeks * HOURS_PER_WEEK + np.arange(weeks * HOURS_PER_WEEK)
    noise = np.exp(np.random.default_rng(7).normal(0, 0.05, len(hours)))
    whole = np.array(
        [np.round(rhythm(local(int(hour)).hour) * noise[place]) * (times or {}).get(int(hour), 1.0) for place, hour in enumerate(hours)]
    )
    count = np.array([whole, 0.7 * whole, 0.3 * whole])
    return HourlySums(int(hours[0]), (WHOLE, Series("team", "a"), Series("team", "b")), count, count * USD_EACH, count * USD_EACH**2)


def told_of_spend(sums: HourlySums, since: int, thresholds: AlertThresholds) -> AlertDecision:
    """What the sensor says that judges every hour from `since` on."""
    return cost_spike(sums, thresholds, Memory(seen=since - 1).model_dump_json(), sums.end_hour)


@pytest.mark.parametrize("season", CHANGES)
def test_the_week_after_the_clocks_change_is_no_cost_spike(season: str) -> None:
    monday = CHANGES[season]
    since = hour_of(monday - timedelta(days=1))
    for day in range(7):
        until = hour_of(monday + timedelta(days=day, hours=23))
        sums = traffic(until)
        assert told_of_spend(sums, max(since, until - 24), LOCAL_CLOCK).run_key is None
    # By the clock of UTC a morning or an evening of these is.
    assert told_of_spend(traffic(hour_of(monday + timedelta(hours=23))), since, UTC_CLOCK).run_key is not None


@pytest.mark.parametrize("season", CHANGES)
@pytest.mark.parametrize("days", [0, 3, 8, 15])
def test_a_real_spike_after_the_clocks_changed_is_found_and_named_by_its_hour(season: str, days: int) -> None:
    ten = hour_of(CHANGES[season] + timedelta(days=days, hours=10))
    decision = told_of_spend(traffic(ten, times={ten: 3.0}), ten, LOCAL_CLOCK)
    assert decision.run_key == f"cost_spike:{datetime.fromtimestamp(ten * SECONDS_PER_HOUR, UTC):%Y-%m-%dT%H:%MZ}"
    assert decision.usual == pytest.approx(60.0, rel=0.1)


@pytest.mark.parametrize("season", CHANGES)
def test_the_night_of_the_change_itself_is_no_spike_and_a_spike_in_it_is_found(season: str) -> None:
    sunday = CHANGES[season] - timedelta(days=1)
    since, until = hour_of(sunday), hour_of(sunday + timedelta(hours=7))
    assert until - since == 6 if season == "spring" else 8
    assert told_of_spend(traffic(until), since, LOCAL_CLOCK).run_key is None
    for hour in range(since, until):
        assert told_of_spend(traffic(hour, times={hour: 15.0}), hour, LOCAL_CLOCK).run_key is not None


@pytest.mark.parametrize("season", CHANGES)
def test_in_a_first_week_that_holds_the_change_days_are_compared_by_the_clock_too(season: str) -> None:
    eve = hour_of(CHANGES[season] + timedelta(hours=23))
    sums = traffic(eve, weeks=1)
    assert told_of_spend(sums, eve - 23, LOCAL_CLOCK).run_key is None
    assert told_of_spend(sums, eve - 23, UTC_CLOCK).run_key is not None


def silence(sums: HourlySums, thresholds: AlertThresholds) -> AlertDecision:
    return silent_feed(sums, thresholds, SilenceMemory().model_dump_json(), sums.end_hour, 0.0)


@pytest.mark.parametrize(
    ("season", "hour"), [("spring", 18), ("autumn", 7)], ids=["the evening after spring's change", "the morning after autumn's"]
)
def test_an_office_that_closes_and_opens_by_its_clock_is_not_silent(season: str, hour: int) -> None:
    sums = traffic(hour_of(CHANGES[season] + timedelta(hours=hour)), closed_at_night)
    assert silence(sums, LOCAL_CLOCK).kind == "quiet"
    assert silence(sums, UTC_CLOCK).kind == "alert"


@pytest.mark.parametrize("season", CHANGES)
def test_a_feed_that_stops_after_the_clocks_changed_is_told_within_the_hour(season: str) -> None:
    nine = hour_of(CHANGES[season] + timedelta(hours=9))
    decision = silence(traffic(nine, closed_at_night, times={nine: 0.0}), LOCAL_CLOCK)
    assert decision.run_key == f"silent_feed:{datetime.fromtimestamp(nine * SECONDS_PER_HOUR, UTC):%Y-%m-%dT%H:%MZ}:1"
    assert decision.usual == pytest.approx(600.0, rel=0.1)


def kept(sums: HourlySums) -> ibis.Table:
    """The same sums as they are kept: the whole, and each team of one model that does one task."""
    rows: list[dict[str, Any]] = []
    for place, series in enumerate(sums.series):
        kinds = ("all", "task and model") if series == WHOLE else ("team",)
        for at in np.flatnonzero(sums.count[place]):
            n = float(sums.count[place, at])
            row = {"hour": sums.first_hour + int(at), "attempts": n, "cost_usd": n * USD_EACH, "tokens": 1_000.0 * n, "cached_tokens": 0.0}
            names = {"team": None, "task_type": None, "model": None, "routing_rule_id": None}
            rows += [
                row
                | {"kind": kind}
                | names
                | ({"task_type": "chat", "model": "x"} if kind == "task and model" else {"team": series.value} if kind == "team" else {})
                for kind in kinds
            ]
    return ibis.memtable(pa.Table.from_pylist(rows))


def looked_at(season: str, hour: int, times: float, thresholds: AlertThresholds) -> Incident:
    at = hour_of(CHANGES[season] + timedelta(hours=hour))
    sums = traffic(at, times={at: times})
    decision = told_of_spend(sums, at, thresholds)
    assert decision.run_key is not None
    return examined(ReportedAlert("cost_spike", decision, True), kept(sums), sums, thresholds)


@pytest.mark.parametrize(("season", "hour"), [("spring", 8), ("autumn", 17)])
def test_a_spike_after_the_clocks_changed_is_examined_against_the_same_hours_by_the_clock(season: str, hour: int) -> None:
    found = looked_at(season, hour, 3.0, LOCAL_CLOCK)
    assert found.baseline == "the same hours of the 4 weeks before"
    assert found.baseline_values == pytest.approx((60.0,) * 4, rel=0.2)
    assert found.usual == pytest.approx(60.0, rel=0.1)
    assert sum(found.effects_usd.values()) == pytest.approx(120.0, rel=0.15)
    by_utc = looked_at(season, hour, 3.0, UTC_CLOCK)
    assert by_utc.baseline_values == pytest.approx((6.0,) * 4, rel=0.2)


@pytest.mark.parametrize("season", CHANGES)
def test_the_hours_that_an_alert_is_attributed_against_show_the_same_times(season: str) -> None:
    monday = CHANGES[season]
    end = hour_of(monday + timedelta(hours=12))
    timed = ibis.memtable({"hour": list(range(end - 6 * HOURS_PER_WEEK, end + 24))})
    rows = with_week(timed, end - 6, end, 4, zone="Europe/Berlin").to_pyarrow().to_pylist()
    for week in range(5):
        hours = sorted(row["hour"] for row in rows if row["week"] == week)
        assert [local(hour).replace(tzinfo=None) for hour in hours] == [
            (monday - timedelta(weeks=week)).replace(tzinfo=None) + timedelta(hours=hour) for hour in range(6, 12)
        ]


@pytest.mark.parametrize("cycle_h", [HOURS_PER_DAY, HOURS_PER_WEEK])
@pytest.mark.parametrize("length", [1, 6, 24, 30, 200])
def test_in_utc_an_alert_is_attributed_against_whole_cycles_before(length: int, cycle_h: int) -> None:
    end = hour_of(CHANGES["spring"])
    timed = ibis.memtable({"hour": list(range(end - 6 * HOURS_PER_WEEK, end + 24))})
    rows = with_week(timed, end - length, end, 4, cycle_h).to_pyarrow().to_pylist()
    expected = {(end - 1 - back, back // cycle_h) for back in range(5 * cycle_h) if back % cycle_h < length}
    assert {(row["hour"], row["week"]) for row in rows} == expected
    assert len(rows) == len(expected)


def test_without_an_earlier_week_days_are_attributed_by_the_clock() -> None:
    at = hour_of(CHANGES["spring"] + timedelta(hours=8))
    sums = traffic(at, weeks=1)
    start_s, end_s = at * float(SECONDS_PER_HOUR), (at + 1) * float(SECONDS_PER_HOUR)
    by_clock, by_utc = (attribution_from_sums(kept(sums), "spend", start_s, end_s, 4, zone) for zone in ("Europe/Berlin", "UTC"))
    assert by_clock is not None
    assert by_utc is not None
    assert by_clock.change == pytest.approx(0.0, abs=10.0)
    assert (by_utc.change or 0.0) > 40.0


def test_a_zone_whose_clock_is_never_changed_finds_what_utc_finds() -> None:
    until = hour_of(CHANGES["spring"] + timedelta(days=3))
    sums = traffic(until, times={until - 5: 3.0})
    by_utc = detect(sums, cost_measure(UTC_CLOCK), 4, 0.1)
    for zone in ("UTC", "Asia/Kolkata", "Australia/Brisbane"):
        found = detect(sums, cost_measure(UTC_CLOCK), 4, 0.1, zone)
        for name in ("now", "usual", "p", "size", "is_tested", "is_alarm", "by_days"):
            assert np.array_equal(getattr(found, name), getattr(by_utc, name), equal_nan=True)
