"""What may be asked, and what is refused in one line."""

from __future__ import annotations

from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest

from routing_pipeline.alerts.notifications import read_notifications
from routing_pipeline.errors import UnusableInputError
from routing_pipeline.ingest.formats.mapping import read_mapping
from routing_pipeline.parameters import AlertThresholds, Parameters, as_question, read_parameters
from routing_pipeline.rules.record import read_publishing
from routing_pipeline.window.router_health import read_router


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


def test_hours_are_compared_by_the_zone_of_the_environment_unless_the_file_names_one(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    config = tmp_path / "routing.toml"
    config.write_text("[alerts]\ncost_ratio = 1.5\n", encoding="utf-8")
    assert read_parameters(config).alerts.timezone == "UTC"
    monkeypatch.setenv("ROUTING_PIPELINE_TIMEZONE", "Europe/Berlin")
    assert (read_parameters(config).alerts.timezone, read_parameters(config).alerts.cost_ratio) == ("Europe/Berlin", 1.5)
    assert read_parameters().alerts.timezone == "Europe/Berlin"
    assert read_parameters(alerts=AlertThresholds(baseline_weeks=2)).alerts == AlertThresholds(baseline_weeks=2, timezone="Europe/Berlin")
    config.write_text('[alerts]\ntimezone = "America/New_York"\n', encoding="utf-8")
    in_file = read_parameters(config)
    assert in_file.alerts.timezone == "America/New_York"
    assert read_parameters(**in_file.model_dump()) == in_file, "what was read once is not read anew from the environment"
    assert as_question(in_file) == as_question(Parameters()), "the zone is nothing that anybody asked"


def test_a_zone_of_the_environment_that_is_none_is_refused_by_its_variable(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("ROUTING_PIPELINE_TIMEZONE", "Mars/X")
    with pytest.raises(UnusableInputError, match=r"^ROUTING_PIPELINE_TIMEZONE=Mars/X: no time zone; give one such as Europe/Berlin"):
        read_parameters()


def test_nothing_asked_is_a_balanced_week() -> None:
    assert (Parameters().timeframe, Parameters().goal, Parameters().max_quality_drop) == ("7d", "balanced", 0.01)


@pytest.mark.parametrize(
    ("content", "said"),
    [
        ("goal = 'cheap'", "goal: must be 'cost', 'speed', 'quality' or 'balanced' (got 'cheap')"),
        ("max_quality_drop = 2", "max_quality_drop: must be less than or equal to 1 (got '2')"),
        ("quality_treshold = 0.8", "quality_treshold: is not known here (did you mean 'quality_threshold'?)"),
        ("quality-threshold = 0.8", "quality-threshold: is not known here (did you mean 'quality_threshold'?)"),
        ("whatever = 1", "whatever: is not known here"),
        ("task_types = 'code'", "task_types: must be a list (got 'code')"),
        (
            "router_inputs = ['task_type', 'teem']",
            "router_inputs[1]: must be 'task_type', 'complexity', 'prompt_tokens', 'team' or 'chance' (got 'teem')",
        ),
        ("[alerts]\ncost_ratio = 0.5", "alerts.cost_ratio: must be greater than 1 (got '0.5')"),
        ("[alerts]\ncost-ratio = 1.5", "alerts.cost-ratio: is not known here (did you mean 'cost_ratio'?)"),
        ("alerts = 3", "alerts: must be a table (got '3')"),
        ('[alerts]\ntimezone = "Mars/X"', "alerts.timezone: no time zone; give one such as Europe/Berlin (got 'Mars/X')"),
        ("[alert]\ncost_ratio = 1.5", "alert: is not known here (did you mean 'alerts'?)"),
        ("[notification]\nurls = []", "notification: is not known here (did you mean 'notifications'?)"),
        (
            "[models.gpt-4o]\ninput_usd_per_million = -1",
            "models.gpt-4o.input_usd_per_million: must be greater than or equal to 0 (got '-1')",
        ),
        ('[models."gpt-4.1"]\nteir = "x"', "models.\"gpt-4.1\".teir: is not known here (did you mean 'tier'?)"),
        ("[capacities.m]\nmax_share = 3", "capacities.m.max_share: must be less than or equal to 1 (got '3')"),
        (
            "[budgets_by_team]\ngrowth = 'much'",
            "budgets_by_team.growth: must be a valid number, unable to parse string as a number (got 'much')",
        ),
        ("[weights]\nspeeed = 1", "weights.speeed: is not known here (did you mean 'speed'?)"),
    ],
)
def test_a_configuration_is_refused_by_the_key_as_it_is_written_there(tmp_path: Path, content: str, said: str) -> None:
    config = tmp_path / "routing.toml"
    config.write_text(content, encoding="utf-8")
    with pytest.raises(UnusableInputError) as refused:
        read_parameters(config)
    assert str(refused.value) == f"--config {config}: {said}"


@pytest.mark.parametrize(
    ("read", "content", "said"),
    [
        (
            read_router,
            "[router]\nhealth_ulr = 'http://x'\nhealth_url = 'http://x'",
            "router.health_ulr: is not known here (did you mean 'health_url'?)",
        ),
        (read_router, "[router]\nhealth_url = 'http://x'\ntimeout_s = 0", "router.timeout_s: must be greater than 0"),
        (read_router, "[router]\ntimeout_s = 1", "router.health_url: is missing"),
        (read_notifications, "[notifications]\nurl = []", "notifications.url: is not known here (did you mean 'urls'?); give urls"),
        (read_notifications, "[notifications]\nurls = [1]", "notifications.urls[0]: must be text; give urls"),
        (read_publishing, "[publishing]\nautomatc = true", "automatc is not known here (did you mean 'automatic'?)"),
        (
            read_mapping,
            "[format]\nname = 'a'\n[format.columns]\nteam = {pth = 'x', path = 'y'}",
            "format.columns.team.pth: is not known here (did you mean 'path'?)",
        ),
        (read_mapping, "name = 'a'\n[columns]\nteem = 'x'", "columns.teem: no such column (did you mean 'team'?)"),
    ],
)
def test_tables_beside_the_parameters_name_their_keys_as_well(
    tmp_path: Path, read: Callable[[Path], object], content: str, said: str
) -> None:
    config = tmp_path / "routing.toml"
    config.write_text(content, encoding="utf-8")
    with pytest.raises(UnusableInputError) as refused:
        read(config)
    assert said in str(refused.value)


def test_what_was_asked_is_refused_by_its_option_also_beside_a_file(tmp_path: Path) -> None:
    config = tmp_path / "routing.toml"
    config.write_text("goal = 'cost'", encoding="utf-8")
    with pytest.raises(UnusableInputError, match=r"^quality-threshold: must be"):
        read_parameters(config, quality_threshold=7)
