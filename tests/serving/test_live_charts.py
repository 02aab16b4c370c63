"""The lines of the live page."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

import pytest

from routing_pipeline import text
from routing_pipeline.serving.dashboard.charts import HEADROOM, HEIGHT, Chart, chart

STARTS = [datetime(2026, 11, 23, tzinfo=UTC) + timedelta(hours=each) for each in range(3)]


def of(*values: float | None) -> Chart:
    return chart("Quality", STARTS, values, text.score, ends_at=0.05)


def heights(found: Chart) -> list[float]:
    return [float(each.split(" ")[1]) for each in found.path.replace("L", "M").split("M") if each]


@pytest.mark.parametrize(
    ("values", "ends"),
    [
        ((0.861, 0.87, 0.88), "0.850 to 0.900"),
        ((0.85, 0.85, 0.85), "0.850 to 0.900"),
        ((0.72, 0.98, 1.0), "0.700 to 1.000"),
        ((0.0, 0.01, 0.03), "0.050"),
    ],
)
def test_an_axis_whose_changes_are_small_lies_close_around_them_and_says_its_ends(values: tuple[float, ...], ends: str) -> None:
    assert of(*values).top == ends
    assert all(HEADROOM - 0.01 <= each <= HEIGHT for each in heights(of(*values)))


def test_other_lines_begin_at_zero() -> None:
    found = chart("Spend", STARTS, [1.0, None, 2.0], text.usd)
    assert (found.top, found.path.split(" ")[-1]) == ("$2.00", f"{HEADROOM}H550.0")


def test_a_line_without_values_has_an_axis_all_the_same() -> None:
    assert (of(None, None, None).path, of(None, None, None).top) == ("", "1.000")
