"""Charts are pictures of finished numbers: well-formed, with the finding in words beside them, and deaf to what labels say."""

from __future__ import annotations

import re
import time
from collections.abc import Callable, Sequence
from dataclasses import replace
from datetime import UTC, date, datetime, timedelta
from pathlib import Path
from types import SimpleNamespace
from typing import Any
from xml.etree import ElementTree

import pytest

from routing_pipeline import text
from routing_pipeline.analysis.bottlenecks import Bottlenecks
from routing_pipeline.analysis.cost_change import ChangeParts, Spike
from routing_pipeline.analysis.cost_drivers import CostDrivers
from routing_pipeline.analysis.daily_spend import CostTrend, DayCost
from routing_pipeline.analysis.model_performance import ModelLatency, ModelPerformance
from routing_pipeline.analysis.quality_issues import QualityIssues
from routing_pipeline.analysis.quality_over_time import Degradation
from routing_pipeline.analysis.request_patterns import RequestPatterns
from routing_pipeline.analysis.routing_costs import HourCost, RoutingCosts
from routing_pipeline.analysis.spend_groupings import CostGrouping, CostLine
from routing_pipeline.analysis.traffic_rhythm import HourOfWeek
from routing_pipeline.clock import SECONDS_PER_DAY
from routing_pipeline.estimates import Estimate, Unidentifiable
from routing_pipeline.parameters import Parameters
from routing_pipeline.recommendation.model_mix import ModelMix, ModelMove
from routing_pipeline.recommendation.tradeoff_frontier import FrontierPoint, ModelPart, TradeoffFrontier
from routing_pipeline.report.charts import mix_flow as mix_flow_
from routing_pipeline.report.charts.cell_map import in_two_lines, overlap_map, quality_map
from routing_pipeline.report.charts.choice import choice
from routing_pipeline.report.charts.compact import INHERITED, compact
from routing_pipeline.report.charts.cost_change import cost_change
from routing_pipeline.report.charts.daily_cost import daily_cost
from routing_pipeline.report.charts.drawing import Chart, hatching, kept, labels
from routing_pipeline.report.charts.frontier import frontier
from routing_pipeline.report.charts.latency import latency
from routing_pipeline.report.charts.mix_flow import mix_flow
from routing_pipeline.report.charts.palette import MEANING
from routing_pipeline.report.charts.peak_hours import peak_hours
from routing_pipeline.report.figures import spend_points
from routing_pipeline.report.model import Report
from routing_pipeline.storage.results import UNUSED_DAYS, ResultStore

UNKNOWN = Unidentifiable(unidentifiable="too rarely tried")
MONDAY = date(2026, 11, 16)
HOSTILE = [
    "<script>alert(1)</script>",
    "{{ 7 * 7 }}",
    "datum.share * 2",
    "a\"b'c&d",
    "line\nbreak\u0000\u001b[31m",
    "with.dots[and]brackets\\",
    "x" * 10_000,
    "\u202ereversed",
]


def texts(chart: Chart | None) -> list[str]:
    assert chart is not None
    root = ElementTree.fromstring(chart.svg)  # noqa: S314 - our own picture; that it parses is what is tested
    return ["".join(each.itertext()) for each in root.iter("{http://www.w3.org/2000/svg}text")]


def around(value: float, half: float) -> Estimate:
    return Estimate(estimate=value, low=value - half, high=value + half)


def days_of(*usd: float, first: date = MONDAY, incomplete: Sequence[int] = ()) -> tuple[DayCost, ...]:
    return tuple(
        DayCost(day=first + timedelta(days=place), cost_usd=cost, complete=place not in incomplete) for place, cost in enumerate(usd)
    )


@pytest.fixture(scope="module")
def costs_of(worlds: SimpleNamespace) -> Callable[..., RoutingCosts]:
    """Spend by day; the slope cannot be told unless it is given."""

    def made(days: tuple[DayCost, ...], slope: Estimate | None = None) -> RoutingCosts:
        trend = worlds.filled(CostTrend, "x").model_copy(
            update={
                "slope_usd_per_day": slope or UNKNOWN,
                "direction": "rising" if slope else "cannot tell",
                "explanation": "days differ too much",
            }
        )
        hours = (worlds.filled(HourCost, "x"),) * 49
        return worlds.filled(RoutingCosts, "x").model_copy(update={"days": days, "hours": hours, "trend": trend})

    return made


WEEK = days_of(200, 210, 220, 330, 240, 60, 70)


def test_spend_names_its_extremes_and_the_budget_that_it_broke(costs_of: Callable[..., RoutingCosts], worlds: SimpleNamespace) -> None:
    chart = daily_cost(costs_of(WEEK), worlds.scope_of(Parameters(budget=6_000.0)))
    assert chart is not None
    assert chart.text.startswith("Spend came to $1,330 over 7 days: most on Thu 19 Nov with $330.00, least on Sat 21 Nov with $60.00.")
    assert "5 of 7 days spent more than the budget's $197.13 per day ($6,000 per month)." in chart.text
    assert {"Mon 16 Nov", "USD per day", "$330"} <= set(texts(chart))
    assert any("budget" in line and "$197" in line for line in texts(chart))


def test_one_day_or_nothing_spent_is_no_chart(costs_of: Callable[..., RoutingCosts], worlds: SimpleNamespace) -> None:
    assert daily_cost(costs_of(days_of(200)), worlds.scope_of()) is None
    assert daily_cost(costs_of(days_of(0, 0, 0)), worlds.scope_of()) is None


def test_a_short_window_is_drawn_hour_by_hour(worlds: SimpleNamespace) -> None:
    start = datetime(2026, 11, 16, tzinfo=UTC)
    hours = tuple(
        HourCost(hour=start + timedelta(hours=place), requests=10, cost_usd=5.0 + place, covered=1.0 if place < 23 else 0.4)
        for place in range(24)
    )
    chart = daily_cost(worlds.filled(RoutingCosts, "x").model_copy(update={"hours": hours}), worlds.scope_of(Parameters(budget=730.5)))
    assert chart is not None
    assert "most on Mon 22:00 with $27.00" in chart.text
    assert "budget's $1.00 per hour" in chart.text
    assert {"USD per hour", "Partly logged", "00:00"} <= set(texts(chart))


def test_a_trend_is_drawn_with_its_interval_only_where_it_can_be_told(
    costs_of: Callable[..., RoutingCosts], worlds: SimpleNamespace
) -> None:
    unknown = daily_cost(costs_of(WEEK), worlds.scope_of())
    known = daily_cost(costs_of(WEEK, around(3.0, 1.0)), worlds.scope_of())
    assert unknown is not None
    assert known is not None
    assert "No trend is drawn: days differ too much." in unknown.text
    assert not any("trend" in line for line in texts(unknown))
    assert "Weekday spend is rising, by +$3.00 [+$2.00, +$4.00] a day." in known.text
    assert any("trend" in line for line in texts(known))


def test_a_day_that_the_logs_cover_in_part_is_neither_the_dearest_nor_the_cheapest(
    costs_of: Callable[..., RoutingCosts], worlds: SimpleNamespace
) -> None:
    chart = daily_cost(costs_of(days_of(1, 210, 220, 999, incomplete=(0, 3))), worlds.scope_of())
    assert chart is not None
    assert "most on Wed 18 Nov with $220.00, least on Tue 17 Nov with $210.00" in chart.text


def test_the_window_before_is_drawn_apart_and_counts_for_nothing_in_the_words(
    costs_of: Callable[..., RoutingCosts], worlds: SimpleNamespace
) -> None:
    chart = daily_cost(costs_of(days_of(*[500.0] * 7, *[100.0] * 7, first=MONDAY - timedelta(days=7))), worlds.scope_of())
    assert chart is not None
    assert chart.text.startswith("Spend came to $700.00 over 7 days")
    assert {"This window", "Window before"} <= set(texts(chart))


def test_a_day_that_the_window_cuts_counts_whole_only_where_that_is_said(
    costs_of: Callable[..., RoutingCosts], worlds: SimpleNamespace, reports: dict[str, Callable[[], Report]]
) -> None:
    scope = worlds.scope_of(start_s=datetime(2026, 11, 16, 18, tzinfo=UTC).timestamp())
    own = tuple(
        worlds.filled(CostLine, "x").model_copy(update={"group": (f"2026-11-{day}",), "cost_usd": usd})
        for day, usd in ((16, 50.0), (17, 210.0))
    )
    by_day = worlds.filled(CostGrouping, "x").model_copy(update={"by": ("day",), "lines": own})
    costs = costs_of(days_of(200, 210)).model_copy(update={"groupings": (by_day,)})
    chart = daily_cost(costs, scope)
    assert chart is not None
    assert chart.text.startswith("Spend came to $410.00 over 2 days, the hours of Mon 16 Nov before the window included: most on")
    _, points = spend_points(reports["rules"]().model_copy(update={"routing_costs": costs, "scope": scope}))
    assert [(each.label, each.spend_usd) for each in points] == [("Mon 16 Nov *", 50.0), ("Tue 17 Nov", 210.0)]


def test_a_budget_far_above_all_spend_is_named_and_does_not_flatten_the_bars(
    costs_of: Callable[..., RoutingCosts], worlds: SimpleNamespace
) -> None:
    chart = daily_cost(costs_of(WEEK), worlds.scope_of(Parameters(budget=1_000_000.0)))
    assert chart is not None
    assert "0 of 7 days spent more than the budget's $32,854 per day" in chart.text
    assert not any("budget" in line for line in texts(chart))


def test_incidents_are_numbered_in_the_picture_as_in_the_words(costs_of: Callable[..., RoutingCosts], worlds: SimpleNamespace) -> None:
    noon = datetime(2026, 11, 18, 12, tzinfo=UTC)
    spike = worlds.filled(Spike, "x").model_copy(
        update={"start": noon, "hours": 3, "spend_usd": 90.0, "expected_usd": around(30.0, 4.0), "excess_usd": around(60.0, 4.0)}
    )
    drivers = worlds.filled(CostDrivers, "x").model_copy(update={"spikes": (spike,)})
    jams = worlds.filled(Bottlenecks, "gpt-4o")
    jams = jams.model_copy(
        update={"incidents": (jams.incidents[0].model_copy(update={"start": noon - timedelta(days=1), "error_rate": around(0.3, 0.1)}),)}
    )
    fall = worlds.filled(Degradation, "gpt-4o").model_copy(update={"kind": "since", "start": noon, "size": around(-0.2, 0.05)})
    issues = worlds.filled(QualityIssues, "x").model_copy(
        update={"degradations": (fall.model_copy(update={"task_type": "chat"}), fall.model_copy(update={"task_type": None}))}
    )
    chart = daily_cost(costs_of(WEEK), worlds.scope_of(), drivers, jams, issues)
    assert chart is not None
    assert (
        "1: 17 Nov 2026 12:00 UTC 30.0 % [20.0, 40.0] of calls to gpt-4o failed; 2: 18 Nov 2026 12:00 UTC $90.00 in 3 hours" in chart.text
    )
    assert chart.text.count("quality of gpt-4o changed by") == 1
    assert {"1", "2", "3", "Cost spike", "Failures", "Worse quality"} <= set(texts(chart))


def point(kind: str, model: str, cost: float, quality: float | None) -> FrontierPoint:
    return FrontierPoint(
        kind=kind,  # type: ignore[arg-type]
        label=f"{model} for everything",
        cost_usd=around(cost, cost / 20),
        quality=UNKNOWN if quality is None else around(quality, 0.01),
        latency_ms=around(900.0, 20.0),
        moved_share=0.5,
        undominated=True,
        mix=(ModelPart(model=model, share=1.0),),
    )


def frontier_of(worlds: SimpleNamespace, *models: str, **given: Any) -> TradeoffFrontier:
    policies = tuple(point("policy", f"p{place}", 0.001 * 1.4**place, 0.7 + 0.02 * place) for place in range(9))
    singles = tuple(point("single_model", model, 0.002 * (place + 1), 0.8 + 0.01 * place) for place, model in enumerate(models))
    values: dict[str, Any] = {
        "points": policies,
        "single_models": singles,
        "today": point("today", "mix", 0.004, 0.84),
        "proposed": point("proposed", "mix", 0.003, 0.835),
        "random_mix": None,
    }
    return worlds.filled(TradeoffFrontier, "x").model_copy(update=values | given)  # type: ignore[no-any-return]


def test_a_frontier_of_today_alone_is_no_chart(worlds: SimpleNamespace) -> None:
    alone = frontier_of(worlds, points=(), proposed=None)
    assert frontier(alone) is None


def test_the_frontier_says_today_and_proposed_with_intervals(worlds: SimpleNamespace) -> None:
    chart = frontier(frontier_of(worlds, "gpt-4o"))
    assert chart is not None
    assert chart.text.startswith("Today: $4.00 [$3.80, $4.20] per 1,000 requests at quality 0.840 [0.830, 0.850]. Proposed: $3.00")
    assert {"Today", "Proposed", "gpt-4o", "One model for all"} <= set(texts(chart))


def test_a_model_that_cannot_be_judged_is_named_and_not_drawn(worlds: SimpleNamespace) -> None:
    singles = (point("single_model", "gpt-4o", 0.002, 0.8), point("single_model", "gpt-4.1-nano", 0.0001, None))
    chart = frontier(frontier_of(worlds, single_models=singles))
    assert chart is not None
    assert "Not drawn, because the logs cannot tell: gpt-4.1-nano for everything." in chart.text
    assert "gpt-4.1-nano" not in texts(chart)


def mix_of(worlds: SimpleNamespace, *moves: tuple[str, str, float]) -> ModelMix:
    told = tuple(ModelMove(model=model, goes_to=goes_to, share=share) for model, goes_to, share in moves)
    return worlds.filled(ModelMix, "x").model_copy(update={"moves": told})  # type: ignore[no-any-return]


def test_a_mix_that_stays_is_no_flow(worlds: SimpleNamespace) -> None:
    assert mix_flow(mix_of(worlds, ("gpt-4o", "gpt-4o", 0.7), ("gpt-4o-mini", "gpt-4o-mini", 0.3))) is None


def test_the_flow_says_who_moves_where_and_what_is_left(worlds: SimpleNamespace) -> None:
    chart = mix_flow(mix_of(worlds, ("gpt-4o", "gpt-4o-mini", 0.5), ("gpt-4o", "gpt-4o", 0.2), ("gpt-4o-mini", "gpt-4o-mini", 0.3)))
    assert chart is not None
    assert chart.text.startswith("50.0 % of requests would change model: 50.0 % from gpt-4o to gpt-4o-mini.")
    assert "gpt-4o 70.0 % today, 20.0 % then" in chart.text
    assert len([line for line in texts(chart) if line.startswith("gpt-4o-mini ")]) == 2


def test_every_band_of_the_flow_is_as_wide_as_its_share_and_stacks_hold_all_of_theirs() -> None:
    bands = [mix_flow_._Band(0, 0, 0.2), mix_flow_._Band(0, 1, 0.5), mix_flow_._Band(1, 1, 0.3)]
    now, then = [0.7, 0.3], [0.2, 0.8]
    rows = mix_flow_._curves(bands, mix_flow_._tops(now), mix_flow_._tops(then))
    for end, shares in ((0.0, now), (1.0, then)):
        feet = sorted((row["top"], row["foot"]) for row in rows if row["x"] == end)
        assert sum(foot - top for top, foot in feet) == pytest.approx(mix_flow_.HEIGHT_OF_ALL)
        for top, share in zip(mix_flow_._tops(shares), shares, strict=True):
            inside = [(a, b) for a, b in feet if top - 1e-6 <= a and b <= top + share * mix_flow_.HEIGHT_OF_ALL + 1e-6]
            assert sum(b - a for a, b in inside) == pytest.approx(share * mix_flow_.HEIGHT_OF_ALL)


def test_the_smallest_models_become_one_stack(worlds: SimpleNamespace) -> None:
    chart = mix_flow(mix_of(worlds, *((f"model-{place}", "model-0", 0.05) for place in range(20))))
    assert any(line.startswith("13 others") for line in texts(chart))


def test_two_names_that_read_alike_when_shortened_are_told_apart() -> None:
    assert len(set(labels(["a" * 100 + "1", "a" * 100 + "2"]))) == 2
    assert labels([""]) == ["(no name)"]


def test_a_long_name_is_broken_where_it_reads_best() -> None:
    assert in_two_lines("claude-sonnet-4-5", 12) == "claude-\nsonnet-4-5"
    assert in_two_lines("gpt-4.1-nano", 12) == "gpt-4.1-nano"
    assert all(len(line) <= 8 for line in in_two_lines("x" * 40, 8).split("\n"))


def test_a_pair_of_which_the_logs_cannot_tell_is_hatched_and_says_so(worlds: SimpleNamespace) -> None:
    known, unknown = worlds.arm("gpt-4o"), worlds.arm("gpt-4.1-nano", supported=False).model_copy(update={"quality": UNKNOWN})
    tasks = (
        worlds.segment("chat", "chat", 0.5, None, (known, unknown)),
        worlds.segment(
            "code", "code", 0.5, None, (known, known.model_copy(update={"model": "gpt-4.1-nano", "quality": around(0.5, 0.02)}))
        ),
    )
    chart = quality_map(worlds.evidence_of(tasks=tasks))
    assert chart is not None
    assert texts(chart).count("cannot tell") == 1
    assert {"0.840", "0.830 to 0.850", "0.500", "0.480 to 0.520"} <= set(texts(chart))
    assert "worst 0.500 [0.480, 0.520] for gpt-4.1-nano on code" in chart.text
    assert "1 of 4 pairs are hatched: the logs cannot tell (gpt-4.1-nano on chat)." in chart.text
    assert quality_map(worlds.evidence_of(tasks=(worlds.segment("chat", "chat", 1.0, None, (unknown,)),))) is None


def test_a_gap_in_the_evidence_is_drawn_however_rare_its_requests_are(worlds: SimpleNamespace) -> None:
    known, unknown = worlds.arm("gpt-4o"), worlds.arm("gpt-4o", supported=False)
    segments = (
        *(worlds.segment(f"part {place}", "chat", 0.045, (None, 0.5), (known,)) for place in range(22)),
        worlds.segment("rare", "code", 0.01, (0.5, None), (unknown,)),
    )
    chart = overlap_map(worlds.evidence_of(segments=segments, unsupported_share=0.01))
    assert chart is not None
    assert "code, rare" in texts(chart)
    assert texts(chart).count("cannot tell") == 1
    assert "in 22 of 23 pairs of kind of request and model (1.0 % of pairs by traffic they cannot)" in chart.text
    assert "Hatched, cannot tell: gpt-4o on code, rare." in chart.text
    assert "Drawn: 16 of 23 kinds of request" in chart.text
    assert overlap_map(worlds.evidence_of(segments=())) is None


def test_hatching_stays_inside_its_cell() -> None:
    places = [float(each) for each in re.findall(r"-?\d+\.\d", hatching(60, 20))]
    assert len(places) >= 20
    assert max(abs(x) for x in places[0::2]) <= 30
    assert max(abs(y) for y in places[1::2]) <= 10


def performance_of(worlds: SimpleNamespace, *models: str, **given: Any) -> ModelPerformance:
    found = tuple(
        ModelLatency(
            model=model,
            calls=1_000,
            **(
                {
                    "p50_ms": around(900.0 + place, 20),
                    "p90_ms": around(2_000, 50),
                    "p95_ms": around(3_000, 90),
                    "p99_ms": around(9_000, 600),
                }
                | given
            ),
        )
        for place, model in enumerate(models)
    )
    return worlds.filled(ModelPerformance, "x").model_copy(update={"latencies": found})  # type: ignore[no-any-return]


def test_latency_names_the_fastest_the_slowest_and_the_longest_tail(worlds: SimpleNamespace) -> None:
    chart = latency(performance_of(worlds, "gpt-4o-mini", "gpt-4o"))
    assert chart is not None
    assert chart.text.startswith("Of 2 models gpt-4o-mini answers fastest, median 900 ms [880, 920], and gpt-4o slowest, median 901 ms")
    assert "1 % of its calls take more than 9,000 ms [8,400, 9,600]" in chart.text
    assert {"Median", "99th", "900 ms", "9,000 ms", "Latency of answered calls, ms (logarithmic)"} <= set(texts(chart))


def test_a_quantile_without_an_interval_is_not_drawn_but_named(worlds: SimpleNamespace) -> None:
    chart = latency(performance_of(worlds, "gpt-4o", p99_ms=UNKNOWN))
    assert chart is not None
    assert "99th" not in texts(chart)
    assert "Too few calls for an interval, so not drawn: gpt-4o (p99)." in chart.text
    assert latency(performance_of(worlds, "gpt-4o", p50_ms=UNKNOWN, p90_ms=UNKNOWN, p95_ms=UNKNOWN, p99_ms=UNKNOWN)) is None


def patterns_of(worlds: SimpleNamespace, hours: dict[int, float | None]) -> RequestPatterns:
    cells = tuple(
        HourOfWeek(
            hour_of_week=hour, covered=0.0 if rate is None else 1.0, requests=int(rate or 0), per_hour=UNKNOWN if rate is None else rate
        )
        for hour, rate in hours.items()
    )
    return worlds.filled(RequestPatterns, "x").model_copy(update={"heat_map": cells})  # type: ignore[no-any-return]


def test_the_heat_map_needs_a_day_of_logs_and_names_its_busiest_hour(worlds: SimpleNamespace) -> None:
    week: dict[int, float | None] = dict.fromkeys(range(168), 1.0)
    assert peak_hours(patterns_of(worlds, dict.fromkeys(range(168), 0.0))) is None
    assert peak_hours(patterns_of(worlds, dict.fromkeys(range(12), 1.0))) is None
    chart = peak_hours(patterns_of(worlds, week | {33: 50.0}))
    assert chart is not None
    assert "Tuesday 09:00 to 10:00 UTC with 50 requests" in chart.text
    assert "not covered" not in chart.text


def test_an_hour_that_no_log_covers_is_hatched_and_not_quiet(worlds: SimpleNamespace) -> None:
    chart = peak_hours(patterns_of(worlds, dict.fromkeys(range(24), None) | dict.fromkeys(range(24, 60), 5.0)))
    assert chart is not None
    assert "quietest: Tuesday 00:00 to 01:00 UTC with 5." in chart.text
    assert "132 of 168 hours are not covered by the logs." in chart.text
    assert "Tue" in texts(chart)
    assert "Mon" not in texts(chart)


def change_of(worlds: SimpleNamespace, before: float, **usd: float) -> CostDrivers:
    named = {f"{part}_usd": usd.get(part, 0.0) for part in ("volume", "mix", "tokens", "cache", "price", "unattributed")}
    total = sum(named.values())
    change = ChangeParts(previous_usd=before, current_usd=before + total, change_usd=total, **named)
    return worlds.filled(CostDrivers, "x").model_copy(update={"change": change})  # type: ignore[no-any-return]


def test_a_change_of_spend_is_told_largest_part_first(worlds: SimpleNamespace) -> None:
    chart = cost_change(change_of(worlds, 100.0, mix=40.0, price=-15.0, volume=5.0))
    assert chart is not None
    assert chart.text == (
        "Spend rose by $30.00 (+30.0 %), from $100.00 in the window before to $130.00: tasks and models +$40.00; prices "
        "\N{MINUS SIGN}$15.00; number of requests +$5.00. The parts add up to the change."
    )
    assert {"+$40.00", "\N{MINUS SIGN}$15.00", "$100.00", "$130.00", "More expensive", "Cheaper", "USD per window"} <= set(texts(chart))


def test_a_change_that_is_small_beside_the_total_is_drawn_without_the_towers(worlds: SimpleNamespace) -> None:
    chart = cost_change(change_of(worlds, 1_000.0, mix=10.0))
    assert "$1,000" not in texts(chart)
    assert texts(chart).count("+$10.00") == 2


def test_without_a_window_before_there_is_no_change_to_draw(worlds: SimpleNamespace) -> None:
    assert cost_change(worlds.filled(CostDrivers, "x").model_copy(update={"change": UNKNOWN})) is None
    assert cost_change(change_of(worlds, 0.0)) is None


def drawn_with(worlds: SimpleNamespace, costs_of: Callable[..., RoutingCosts], name: str, models: int = 2) -> dict[str, Chart | None]:
    """All eight, with a name from a log wherever one can stand, and `models` models in all."""
    names = [name, *(f"model-{place}" for place in range(1, models))]
    arms = tuple(worlds.arm(each) for each in names)
    gap = tuple(worlds.arm(each, supported=False).model_copy(update={"quality": UNKNOWN}) for each in names)
    segments = tuple(worlds.segment(f"{name} {place}", name, 1 / 40, (None, 0.5), gap if place % 3 else arms) for place in range(40))
    tasks = tuple(worlds.segment(name, f"{name}{place}", 1 / 20, None, gap if place % 2 else arms) for place in range(20))
    evidence = worlds.evidence_of(tasks=tasks, segments=segments)
    jams, drivers, issues = (worlds.filled(each, name) for each in (Bottlenecks, CostDrivers, QualityIssues))
    days = days_of(*(200.0 + place for place in range(62)), first=date(2026, 9, 23))
    flows = [(each, other, 0.9 / models**2) for each in names for other in names]
    return {
        "spend": daily_cost(costs_of(days, around(1.0, 0.5)), worlds.scope_of(Parameters(budget=6_000.0)), drivers, jams, issues),
        "change": cost_change(change_of(worlds, 100.0, mix=30.0, unattributed=2.0)),
        "peaks": peak_hours(patterns_of(worlds, dict.fromkeys(range(160), 7.0))),
        "latency": latency(performance_of(worlds, *names)),
        "quality": quality_map(evidence),
        "frontier": frontier(frontier_of(worlds, *names)),
        "mix": mix_flow(mix_of(worlds, *flows)),
        "overlap": overlap_map(evidence),
    }


@pytest.mark.parametrize("name", HOSTILE)
def test_a_label_from_a_log_is_shown_as_it_is_and_does_nothing(
    worlds: SimpleNamespace, costs_of: Callable[..., RoutingCosts], name: str
) -> None:
    charts = drawn_with(worlds, costs_of, name)
    for kind, chart in charts.items():
        shown = texts(chart)
        assert chart is not None
        assert "<script" not in chart.svg, kind
        assert all(len(line) <= 60 for line in shown), kind
        assert not any(each in line for line in shown for each in "\u0000\u001b\u202e\n"), kind
    assert labels([name])[0] in texts(charts["latency"])
    assert text.name(name, 24) in texts(charts["frontier"])


def test_every_chart_is_small_however_much_there_is_to_show_and_the_same_bytes_each_time(
    worlds: SimpleNamespace, costs_of: Callable[..., RoutingCosts]
) -> None:
    once, again = (drawn_with(worlds, costs_of, "a-model-with-a-long-name", models=30) for _ in range(2))
    ids: list[str] = []
    for kind, chart in once.items():
        other = again[kind]
        assert chart is not None
        assert other is not None
        assert len(chart.svg) < 60_000, kind
        assert chart.svg == other.svg
        assert chart.key == other.key, kind
        ids += re.findall(r'\sid="([^"]+)"', chart.svg)
    assert len(ids) == len(set(ids))


def test_charts_use_the_palette_alone_refer_to_nothing_outside_and_say_a_number_in_words(
    worlds: SimpleNamespace, costs_of: Callable[..., RoutingCosts]
) -> None:
    used: set[str] = set()
    for kind, chart in drawn_with(worlds, costs_of, "gpt-4o").items():
        assert chart is not None
        assert set(re.findall(r"https?://[^\"' ]+", chart.svg)) <= {"http://www.w3.org/2000/svg", "http://www.w3.org/1999/xlink"}
        assert "href=" not in chart.svg
        colours = set(re.findall(r'(?:fill|stroke)="(#?\w+)"', chart.svg)) - {"none", "transparent"}
        assert colours <= set(MEANING), (kind, colours)
        used |= colours
        assert re.search(r"\d", chart.text), kind
        assert not re.match(r"(a |the )?chart", chart.text.lower())
    assert used == set(MEANING)


def test_a_picture_is_drawn_once_for_the_same_results_and_anew_for_others(worlds: SimpleNamespace, tmp_path: Path) -> None:
    store, drawn = ResultStore(tmp_path), []
    shown = []
    for requests in (5.0, 5.0, 6.0):
        chart = peak_hours(patterns_of(worlds, dict.fromkeys(range(60), requests)))
        assert chart is not None
        counting = replace(chart, drawn=lambda draw=chart.drawn: drawn.append("drawn") or draw())
        shown.append(kept(store)(counting))
    assert shown[0] == shown[1] != shown[2]
    assert len(drawn) == 2
    later_s = time.time() + (UNUSED_DAYS + 1) * SECONDS_PER_DAY
    assert [store.prune(time.time()), store.prune(later_s)] == [0, 2]
    assert not list((tmp_path / "pictures").iterdir())


def painted(svg: str) -> list[tuple[object, ...]]:
    """Every mark with all that it inherits and where it lies, in order: what an SVG draws, however it is written."""
    found: list[tuple[object, ...]] = []

    def walk(element: ElementTree.Element, given: dict[str, str], moved: tuple[str, ...]) -> None:
        given = given | {name: element.attrib[name] for name in INHERITED if name in element.attrib}
        place = (element.get("transform"), element.get("x"), element.get("y"))
        if element.tag.endswith("text") and element.get("transform") is None and element.get("x"):
            place = (f"translate({element.get('x')},{element.get('y')})", None, None)
        moved = moved if place == (None, None, None) else (*moved, str(place))
        if len(element) == 0:
            own = {name: value for name, value in element.attrib.items() if name not in {*INHERITED, "transform", "x", "y"}}
            found.append((element.tag, element.text, tuple(sorted(given.items())), tuple(sorted(own.items())), moved))
        for child in element:
            walk(child, given, moved)

    walk(ElementTree.fromstring(svg), {}, ())  # noqa: S314 - made here
    return found


def test_a_compact_picture_draws_the_same_marks_in_fewer_bytes() -> None:
    line = '<line transform="translate({0},0)" x2="0" y2="5" stroke="#111111" stroke-width="2"/>'
    label = '<text text-anchor="end" transform="translate(7,{0})" font-size="12px" fill="#222222">&lt;b> &amp; "c"</text>'
    mixed = '<path d="M0,0L1.5,2" fill="#333333"/><path d="M0,0L9,9" stroke="#444444" fill="#333333"/><path d="M1,1L2,2"/>'
    parts = "".join(f"<g><g>{''.join(each.format(place) for place in range(10, 14))}</g></g>" for each in (line, label))
    svg = f'<svg xmlns="http://www.w3.org/2000/svg" width="9" height="9"><g fill="none"><g>{parts}</g><g stroke="#555555">{mixed}</g></g></svg>'
    smaller = compact(svg)
    assert painted(smaller) == painted(svg)
    assert len(smaller) < 0.8 * len(svg)
    assert compact(smaller) == smaller


def test_the_choice_calls_none_of_several_options_the_proposed_one(worlds: SimpleNamespace) -> None:
    rules = worlds.proposing("B")
    options = tuple(worlds.option_of(rules, id=name, name=said) for name, said in (("no_loss", "No loss"), ("boldest", "Boldest")))
    chart = choice(frontier_of(worlds), options)
    assert chart is not None
    assert chart.text.startswith("Cost per 1,000 requests, and quality. Today: $4.00, 0.840. No loss: ")
    assert {"To choose from", "No loss", "Boldest", "Today"} <= set(texts(chart))
    assert "Proposed" not in texts(chart)
