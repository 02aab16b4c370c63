"""Incidents, queues, slow routing and latency spikes, against what was planted and against nothing at all."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import Any

import numpy as np
import pytest

from routing_pipeline.analysis.availability import availability
from routing_pipeline.analysis.bottlenecks import Bottlenecks, bottlenecks
from routing_pipeline.analysis.latency_spikes import LatencySpikes
from routing_pipeline.analysis.model_minutes import BUCKET_S, ModelMinutes
from routing_pipeline.demo import traffic
from routing_pipeline.estimates import Estimate, Unidentifiable

HOUR = 3_600
DEGRADED_FROM = traffic.WEEK_START + timedelta(hours=traffic.DEGRADED_FROM_H)
DEGRADED_TO = DEGRADED_FROM + timedelta(hours=traffic.DEGRADED_HOURS)


@pytest.fixture
def found(hand_made: Any, hand_made_scope: Any) -> Any:
    def of(rows: list[dict[str, Any]], days: float = 7.0) -> Bottlenecks:
        return bottlenecks(hand_made(rows), hand_made_scope(days))

    return of


@pytest.fixture(scope="module")
def demo(week: Any) -> Bottlenecks:
    return bottlenecks(week.requests, week.scope)


def minutes_of(failures: Any, attempts: Any, model: str = "m", first: int = 0) -> ModelMinutes:
    """A week of five-minute buckets of one model."""
    n = np.asarray(attempts, dtype=float)
    zero = np.zeros_like(n)
    return ModelMinutes(model, np.arange(first, first + len(n)), n, np.asarray(failures, dtype=float), zero, zero, zero, zero)


# --- Availability


def test_the_degraded_model_is_an_incident_with_the_bounds_that_were_planted(demo: Bottlenecks) -> None:
    incident = demo.incidents[0]
    assert incident.model == traffic.DEGRADED_MODEL
    assert incident.kind == "rate limit"
    assert abs(incident.start - DEGRADED_FROM) <= timedelta(minutes=15)
    assert abs(incident.end - DEGRADED_TO) <= timedelta(minutes=15)
    assert isinstance(incident.error_rate, Estimate)
    assert incident.error_rate.low < traffic.DEGRADED_FAILURE_RATE < incident.error_rate.high
    # One in ten failures is given up at once, one in twenty of the fallbacks fails too.
    assert 0.05 < incident.requests_lost / incident.requests_hit < 0.30
    assert incident.requests_hit == incident.failures
    # Falling back to a dearer model costs more than the model itself.
    assert incident.cost_usd > incident.usual_cost_usd
    assert len(incident.examples) == 5


def test_the_degraded_models_base_rate_is_what_it_is_when_healthy(demo: Bottlenecks) -> None:
    line = next(each for each in demo.availability if each.model == traffic.DEGRADED_MODEL)
    arm = next(each for each in traffic.ARMS if each.model == traffic.DEGRADED_MODEL)
    assert isinstance(line.base_error_rate, float)
    assert line.base_error_rate == pytest.approx(arm.failure_rate, abs=0.004)
    assert line.incident_minutes == pytest.approx(traffic.DEGRADED_HOURS * 60, abs=30)
    assert demo.availability[0].model == traffic.DEGRADED_MODEL


def test_healthy_weeks_hardly_ever_raise_a_false_alarm() -> None:
    rng = np.random.default_rng(11)
    alarms = 0
    for _ in range(60):
        attempts = [rng.poisson(level, size=2016) for level in (1.0, 8.0)]
        minutes = [minutes_of(rng.binomial(n, rate), n, f"m{rate}") for n, rate in zip(attempts, (0.05, 0.01), strict=True)]
        _, incidents, _ = availability_without_rows(minutes)
        alarms += incidents > 0
    # The bound promises at most 5 %: three of sixty.
    assert alarms <= 3


def availability_without_rows(minutes: list[ModelMinutes]) -> tuple[Any, int, float]:
    """Minutes in incidents alone; what an incident hit is looked up in rows that there are none of here."""
    import ibis
    import pyarrow as pa

    from routing_pipeline.schema import SCOPED_REQUESTS

    kinds = {"text": pa.string(), "double": pa.float64(), "bigint": pa.int64(), "boolean": pa.bool_(), "timestamp": pa.timestamp("us")}
    empty = pa.schema([(column.name, kinds[column.type]) for column in SCOPED_REQUESTS]).empty_table()
    lines, incidents, _ = availability(ibis.memtable(empty), minutes)
    return incidents, len(incidents), sum(line.incident_minutes for line in lines)


def test_two_incidents_hours_apart_stay_two() -> None:
    attempts = np.full(600, 4)
    failures = np.zeros(600)
    failures[100:112] = 3
    failures[172:184] = 3
    incidents, count, minutes = availability_without_rows([minutes_of(failures, attempts)])
    assert count == 2
    assert minutes == pytest.approx(120)
    assert [each.start.timestamp() / BUCKET_S for each in incidents] == [100, 172]


def test_an_hour_without_attempts_ends_an_incident() -> None:
    one = minutes_of([2.0] * 12, [2.0] * 12, first=0)
    other = minutes_of([2.0] * 12, [2.0] * 12, first=200)
    healthy = minutes_of([0.0] * 400, [2.0] * 400, first=1000)
    joined = ModelMinutes(
        "m",
        *(np.concatenate([getattr(part, name) for part in (one, other, healthy)]) for name in list(ModelMinutes.__dataclass_fields__)[1:]),
    )
    incidents, count, _ = availability_without_rows([joined])
    assert count == 2
    assert max((each.end - each.start).total_seconds() for each in incidents) == pytest.approx(3600)


def test_a_model_that_always_fails_has_a_rate_and_no_incident_against_itself(found: Any) -> None:
    result = found([{"at_s": 60.0 * number, "status": "failure", "cost_usd": None} for number in range(200)])
    assert result.incidents == ()
    (line,) = result.availability
    assert isinstance(line.error_rate, Estimate)
    assert line.error_rate.estimate == 1.0


def outage(error: str) -> list[dict[str, Any]]:
    """A day with a call every minute; from 10:00 to 11:00 all fail, every third of them without a fallback."""
    rows: list[dict[str, Any]] = []
    for minute in range(24 * 60):
        request = {"request_id": f"q{minute:04}", "at_s": minute * 60.0}
        if not 600 <= minute < 660:
            rows.append(request | {"cost_usd": 0.01})
        elif minute % 3 == 0:
            rows.append(request | {"status": "failure", "error_type": error, "cost_usd": None})
        else:
            rows.append(request | {"status": "failure", "error_type": error, "cost_usd": None, "is_final": False})
            rows.append(request | {"model": "dear", "routed_model": "gpt-4o", "cost_usd": 0.05, "attempts": 2, "fallback_from": "gpt-4o"})
    return rows


def test_an_outage_is_told_with_the_requests_hit_lost_and_what_they_cost(found: Any) -> None:
    (incident,) = found(outage("500_PROVIDER_INTERNAL_ERROR"), days=1.0).incidents
    assert (incident.model, incident.kind) == ("gpt-4o", "errors")
    assert incident.start == datetime(2026, 3, 2, 10, tzinfo=UTC)
    assert incident.end == datetime(2026, 3, 2, 11, tzinfo=UTC)
    assert (incident.attempts, incident.failures, incident.rate_limited) == (60, 60, 0)
    assert (incident.requests_hit, incident.requests_lost) == (60, 20)
    assert incident.cost_usd == pytest.approx(40 * 0.05)
    assert incident.usual_cost_usd == pytest.approx(40 * 0.01)
    assert incident.examples == ("q0600", "q0601", "q0602", "q0603", "q0604")
    assert incident.false_alarm_bound < 1e-6


def test_an_outage_of_refusals_is_a_rate_limit(found: Any) -> None:
    (incident,) = found(outage("'; drop table requests; --"), days=1.0).incidents
    assert incident.kind == "errors"
    (incident,) = found(outage("rate_limit_error"), days=1.0).incidents
    assert incident.kind == "rate limit"
    assert incident.rate_limited == 60


def test_a_few_scattered_failures_are_no_incident(found: Any) -> None:
    rows = [{"at_s": 60.0 * number, "status": "failure" if number % 97 == 0 else "success"} for number in range(2000)]
    result = found(rows)
    assert result.incidents == ()
    assert result.availability[0].base_error_rate == pytest.approx(21 / 2000)


# --- Latency spikes


def test_the_degraded_and_the_runaway_models_are_slow_when_they_were_planted_to_be(demo: Bottlenecks) -> None:
    assert isinstance(demo.latency_spikes, LatencySpikes)
    first = demo.latency_spikes.spikes[0]
    assert first.model == traffic.DEGRADED_MODEL
    assert first.start >= DEGRADED_FROM
    assert first.end <= DEGRADED_TO
    assert (first.end - first.start) >= timedelta(hours=4)
    # Three times as slow, by construction.
    assert first.factor == pytest.approx(3.0, rel=0.25)
    assert len(first.examples) == 5
    spike_from = traffic.WEEK_START + timedelta(hours=traffic.SPIKE_FROM_H)
    runaway = [each for each in demo.latency_spikes.spikes if each.model == traffic.SPIKE_MODEL and each.start >= spike_from]
    assert runaway
    assert runaway[0].task_type == traffic.SPIKE_TASK
    # False discoveries are allowed one in twenty; here that is none or one or two.
    assert len(demo.latency_spikes.spikes) <= 5


def steady(hours: int, slow: range = range(0), factor: float = 3.0, seed: int = 5) -> list[dict[str, Any]]:
    rng = np.random.default_rng(seed)
    return [
        {"at_s": hour * HOUR + 60.0 * number, "latency_ms": float(rng.lognormal(7, 0.6)) * (factor if hour in slow else 1.0)}
        for hour in range(hours)
        for number in range(20)
    ]


def test_steady_latency_has_no_spike(found: Any) -> None:
    result = found(steady(7 * 24)).latency_spikes
    assert isinstance(result, LatencySpikes)
    assert result.spikes == ()
    assert result.tested == 168


def test_a_spike_is_one_from_its_first_hour_to_its_last(found: Any) -> None:
    result = found(steady(7 * 24, slow=range(50, 53))).latency_spikes
    assert isinstance(result, LatencySpikes)
    (spike,) = result.spikes
    assert spike.start == datetime(2026, 3, 4, 2, tzinfo=UTC)
    assert spike.end == datetime(2026, 3, 4, 5, tzinfo=UTC)
    assert spike.requests == 60
    assert spike.factor == pytest.approx(3.0, rel=0.3)
    assert (spike.task_type, spike.task_share) == ("code", 1.0)


def test_answers_from_the_cache_do_not_count_as_fast_calls(found: Any) -> None:
    rows = steady(7 * 24)
    cached = [row | {"latency_ms": 4.0, "is_cache_hit": True} for row in rows if row["at_s"] < 150 * HOUR]
    result = found(rows + cached).latency_spikes
    assert isinstance(result, LatencySpikes)
    assert result.spikes == ()


@pytest.mark.parametrize(("days", "minutes"), [(1.0, 30), (0.2, 5)])
def test_a_short_window_is_compared_by_shorter_stretches_and_says_so(found: Any, days: float, minutes: int) -> None:
    slow = range(9000, 9000 + minutes * 60)
    rows = [
        {"at_s": float(second), "latency_ms": (4000.0 if second in slow else 1000.0) + second % 7}
        for second in range(0, int(days * 86_400), 20)
    ]
    result = found(rows, days=days).latency_spikes
    assert isinstance(result, LatencySpikes)
    assert result.stretch_minutes == minutes
    assert "too short for hours of the day" in result.baseline
    (spike,) = result.spikes
    assert (spike.end - spike.start) == timedelta(minutes=minutes)
    assert spike.factor == pytest.approx(4.0, rel=0.01)


def test_four_weeks_are_compared_by_hour_of_the_week(found: Any) -> None:
    rows = [{"at_s": hour * HOUR + number, "latency_ms": 1000.0 + number} for hour in range(0, 28 * 24, 12) for number in range(10)]
    result = found(rows, days=28.0).latency_spikes
    assert isinstance(result, LatencySpikes)
    assert "hour of the week" in result.baseline
    assert result.spikes == ()


def test_too_few_calls_or_no_latency_cannot_tell_a_spike(found: Any) -> None:
    few = found([{"at_s": hour * HOUR} for hour in range(48)]).latency_spikes
    assert isinstance(few, Unidentifiable)
    none = found([{"latency_ms": None}] * 10).latency_spikes
    assert isinstance(none, Unidentifiable)
    assert "log when each attempt ends" in none.unidentifiable


# --- Queues


def test_requests_in_flight_are_the_exact_mean_over_each_minute(found: Any) -> None:
    rows = [
        {"at_s": 0.0, "latency_ms": 90_000.0},
        {"at_s": 30.0, "latency_ms": 30_000.0},
        {"at_s": 130.0, "latency_ms": 10_000.0, "is_final": False, "status": "failure"},
    ]
    result = found(rows)
    queue = result.queue
    assert queue.source == "estimated"
    # Minute 0: (60 + 30) / 60; minute 1: 30 / 60; minute 2: 10 / 60.
    assert queue.peak == pytest.approx(1.5)
    assert queue.mean == pytest.approx((1.5 + 0.5 + 1 / 6) / 3)
    assert queue.peak_at == datetime(2026, 3, 2, tzinfo=UTC)
    assert [(each.hour, each.mean) for each in queue.hours] == [(0, pytest.approx(queue.mean))]
    assert any("estimated from overlapping attempts" in notice for notice in result.notices)


def test_the_made_up_weeks_requests_in_flight_follow_littles_law(week: Any, demo: Bottlenecks) -> None:
    assert demo.queue.source == "estimated"
    seconds = float(week.requests.latency_ms.sum().execute()) / 1e3
    assert isinstance(demo.queue.mean, float)
    assert demo.queue.mean == pytest.approx(seconds / (7 * 86_400), rel=0.01)
    assert demo.queue.hours[0].hour in range(8, 18)


def test_a_logged_queue_depth_is_taken_as_logged_and_shown_against_latency(found: Any) -> None:
    rows = [{"at_s": float(number), "queue_depth": number % 4, "latency_ms": 1000.0 + 500 * (number % 4)} for number in range(100)]
    queue = found(rows).queue
    assert queue.source == "logged"
    assert (queue.mean, queue.peak) == (pytest.approx(1.5), 3.0)
    assert [(band.gte, band.lt, band.requests, band.latency_p50_ms) for band in queue.bands] == [
        (0, 1, 25, 1000.0),
        (1, 2, 25, 1500.0),
        (2, 5, 50, 2250.0),
    ]


# --- Slow routing


def decisions(slow_rule: str | None = None, slow_hour: int | None = None) -> list[dict[str, Any]]:
    rng = np.random.default_rng(8)
    rows = []
    for number in range(4000):
        rule, hour = f"rule-{number % 5}", number % 24
        is_slow = rule == slow_rule or hour == slow_hour
        ms = float(rng.lognormal(2, 0.5)) * (3.0 if is_slow else 1.0)
        rows.append({"at_s": hour * HOUR + number / 10, "routing_rule_id": rule, "routing_latency_ms": ms})
    return rows


def test_a_slow_rule_stands_out_and_the_others_do_not(found: Any) -> None:
    routing = found(decisions(slow_rule="rule-3")).routing
    assert routing.decisions == 4000
    assert [line.rule for line in routing.rules if line.stands_out] == ["rule-3"]
    assert routing.rules[0].rule == "rule-3"
    assert routing.rules[0].p50_ms > 2 * routing.rules[1].p50_ms
    assert not any(line.stands_out for line in routing.hours)


def test_a_slow_hour_stands_out(found: Any) -> None:
    routing = found(decisions(slow_hour=14)).routing
    assert [line.hour for line in routing.hours if line.stands_out] == [14]
    assert [line.hour for line in routing.hours] == list(range(24))


def test_rules_of_equal_speed_do_not_stand_out(found: Any, demo: Bottlenecks) -> None:
    routing = found(decisions()).routing
    assert not any(line.stands_out for line in routing.rules + routing.hours)
    assert not any(line.stands_out for line in demo.routing.rules)


def test_a_retry_pollutes_routing_latency_and_is_left_out(found: Any) -> None:
    rows = decisions() + [{"routing_latency_ms": 9e4, "routing_rule_id": "rule-1", "retries": 1}] * 500
    routing = found(rows).routing
    assert routing.decisions == 4000
    assert not any(line.stands_out for line in routing.rules)


def test_routing_latency_that_is_not_logged_says_what_to_collect(found: Any) -> None:
    result = found([{}] * 30)
    assert isinstance(result.routing.slow_above_ms, Unidentifiable)
    assert any(notice.startswith("Routing latency is not logged") for notice in result.notices)


def test_no_rows_give_no_numbers_and_no_exception(found: Any) -> None:
    nothing = found([])
    assert (nothing.incidents, nothing.availability, nothing.queue.source) == ((), (), "absent")
    assert isinstance(nothing.latency_spikes, Unidentifiable)
    assert Bottlenecks.model_validate_json(nothing.model_dump_json()) == nothing
