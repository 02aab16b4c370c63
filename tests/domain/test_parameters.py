"""What may be asked, and what is refused in one line."""

from __future__ import annotations

from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest

from routing_pipeline.errors import UnusableInputError
from routing_pipeline.parameters import Parameters, read_parameters


@pytest.mark.parametrize(
    ("name", "value", "said"),
    [
        ("goal", "nonsense", "goal: .*'cost', 'speed', 'quality' or 'balanced'"),
        ("timeframe", "2w", "timeframe: "),
        ("quality_threshold", 1.5, "quality-threshold: .*less than or equal to 1"),
        ("quality_threshold", -0.1, "quality-threshold: "),
        ("quality_threshold", float("nan"), "quality-threshold: "),
        ("cost_threshold", 0.0, "cost-threshold: .*greater than 0"),
        ("cost_threshold", float("inf"), "cost-threshold: "),
        ("max_quality_drop", 2.0, "max-quality-drop: "),
        ("budget", -1.0, "budget: "),
        ("as_of", "yesterday", "as-of: "),
    ],
)
def test_a_value_out_of_range_is_refused_by_name(name: str, value: Any, said: str) -> None:
    with pytest.raises(UnusableInputError, match=said):
        read_parameters(None, **{name: value})


def test_what_is_asked_on_the_command_line_wins_over_the_file(tmp_path: Path) -> None:
    config = tmp_path / "routing.toml"
    config.write_text('goal = "cost"\ntimeframe = "24h"\n[capacities.gpt-4o]\nmax_share = 0.5\n', encoding="utf-8")
    parameters = read_parameters(config, goal="speed", timeframe=None)
    assert (parameters.goal, parameters.timeframe) == ("speed", "24h")
    assert parameters.capacities["gpt-4o"].max_share == 0.5


@pytest.mark.parametrize("content", [b"goal = ", b"\xff\xfe", b'gaol = "cost"'])
def test_a_configuration_that_cannot_be_read_is_refused(tmp_path: Path, content: bytes) -> None:
    config = tmp_path / "routing.toml"
    config.write_bytes(content)
    with pytest.raises(UnusableInputError):
        read_parameters(config)


def test_a_configuration_that_is_not_there_is_refused(tmp_path: Path) -> None:
    with pytest.raises(UnusableInputError, match="No such file"):
        read_parameters(tmp_path / "none.toml")


def test_a_time_without_a_zone_is_read_as_utc() -> None:
    assert read_parameters(None, as_of="2026-03-02T12:00:00").as_of == datetime(2026, 3, 2, 12, tzinfo=UTC)
    assert read_parameters(None, as_of="2026-03-02T12:00:00+02:00").as_of == datetime(2026, 3, 2, 10, tzinfo=UTC)


def test_nothing_asked_is_a_balanced_week() -> None:
    assert (Parameters().timeframe, Parameters().goal, Parameters().max_quality_drop) == ("7d", "balanced", 0.01)
