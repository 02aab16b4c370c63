"""Charts are pictures of finished numbers: well-formed, with words beside them, and deaf to what labels say."""

from __future__ import annotations

import re
from xml.etree import ElementTree

import pytest

from routing_pipeline.estimates import Estimate
from routing_pipeline.report import charts


def around(value: float, half: float) -> Estimate:
    return Estimate(estimate=value, low=value - half, high=value + half)


def texts(chart: charts.Chart) -> list[str]:
    root = ElementTree.fromstring(chart.svg)  # noqa: S314 - our own picture; that it parses is what is tested
    return ["".join(each.itertext()) for each in root.iter("{http://www.w3.org/2000/svg}text")]


def mix(*names: str) -> charts.Chart:
    chart = charts.model_mix([charts.MixBar(name, 0.5 / (place + 1), 0.4 / (place + 1)) for place, name in enumerate(names)])
    assert chart is not None
    return chart


@pytest.mark.parametrize(
    "name",
    [
        "<script>alert(1)</script>",
        "{{ 7 * 7 }}",
        "datum.share * 2",
        "a\"b'c&d",
        "line\nbreak\u0000\u001b[31m",
        "with.dots[and]brackets\\",
        "x" * 10_000,
        "\u202ereversed",
    ],
)
def test_a_label_from_a_log_is_shown_as_it_is_and_does_nothing(name: str) -> None:
    chart = mix(name, "gpt-4o")
    assert "gpt-4o" in texts(chart)
    assert charts._label(name) in texts(chart)
    assert all(len(label) <= 40 for label in texts(chart))
    assert "<script" not in chart.svg


def test_charts_refer_to_nothing_outside() -> None:
    svg = mix("gpt-4o").svg
    addresses = set(re.findall(r"https?://[^\"' ]+", svg))
    assert addresses <= {"http://www.w3.org/2000/svg", "http://www.w3.org/1999/xlink"}
    assert "href=" not in svg


def test_two_names_that_read_alike_when_shortened_keep_bars_of_their_own() -> None:
    chart = mix("a" * 100 + "1", "a" * 100 + "2")
    labels = [label for label in texts(chart) if label.startswith("aaa")]
    assert len(set(labels)) == 2


def test_the_smallest_models_become_one_bar() -> None:
    chart = mix(*(f"model-{place}" for place in range(20)))
    assert "8 others" in texts(chart)


def test_the_words_beside_a_mix_say_every_share() -> None:
    chart = charts.model_mix([charts.MixBar("gpt-4o", 0.3, 0.1), charts.MixBar("gpt-4o-mini", 0.7, 0.9)])
    assert chart is not None
    assert "gpt-4o-mini 70.0 % now, 90.0 % proposed; gpt-4o 30.0 % now, 10.0 % proposed" in chart.text


def test_spend_is_drawn_from_two_steps_on_and_names_its_extremes() -> None:
    points = [charts.SpendPoint("Mon 16 Nov", 0.0, 10.0), charts.SpendPoint("Tue 17 Nov", 86_400.0, 30.0)]
    assert charts.spend_over_time(points[:1], "day") is None
    chart = charts.spend_over_time(points, "day")
    assert chart is not None
    assert chart.text == "Spend per day over 2 days, $40.00 in all; highest on Tue 17 Nov with $30.00, lowest $10.00."
    assert {"Mon 16 Nov", "Tue 17 Nov"} <= set(texts(chart))


def test_a_frontier_of_today_alone_is_no_chart() -> None:
    today = charts.FrontierPoint("Today", "today", around(0.004, 0.0001), around(0.84, 0.01))
    assert charts.frontier([today]) is None
    proposed = charts.FrontierPoint("Proposed", "proposed", around(0.003, 0.0001), around(0.84, 0.01))
    chart = charts.frontier([today, proposed])
    assert chart is not None
    assert "Today: $4.00 at quality 0.840. Proposed: $3.00 at quality 0.840." in chart.text


def test_the_heat_map_needs_a_week_and_names_its_busiest_hour() -> None:
    week = [1.0] * 168
    week[24 + 9] = 50.0
    assert charts.peak_heat_map([0.0] * 168) is None
    assert charts.peak_heat_map([1.0] * 24) is None
    chart = charts.peak_heat_map(week)
    assert chart is not None
    assert "Busiest: Tuesday 09:00 to 10:00 UTC with 50" in chart.text


def test_every_colour_that_a_page_replaces_is_in_a_picture() -> None:
    points = [charts.FrontierPoint(kind, kind, around(0.004, 0.0001), around(0.84, 0.01)) for kind in charts.KINDS]
    frontier = charts.frontier(points)
    assert frontier is not None
    assert all(f'"{colour}"' in frontier.svg for colour in charts.COLOURS)
