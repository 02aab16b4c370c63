"""What the user asks for: timeframe, task types, thresholds, goal, and what the configuration file adds.

Belongs here: parameters, their ranges, and reading them from TOML. Does not belong here: where data lies (`home`), and
anything that looks at data to decide (`scope`).
"""

from __future__ import annotations

import math
import tomllib
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any, Literal, get_args

from pydantic import BaseModel, ConfigDict, Field, ValidationError, field_validator

from routing_pipeline.errors import UnusableInputError, complaint

Timeframe = Literal["1h", "24h", "7d", "30d"]
Goal = Literal["cost", "speed", "quality", "balanced"]

TIMEFRAMES: dict[Timeframe, timedelta] = {
    "1h": timedelta(hours=1),
    "24h": timedelta(hours=24),
    "7d": timedelta(days=7),
    "30d": timedelta(days=30),
}
GOALS: tuple[Goal, ...] = get_args(Goal)


class _Asked(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)


class ModelOverride(_Asked):
    """What the configuration file says of one model; it wins over the bundled catalog."""

    provider: str | None = None
    provider_model: str | None = Field(default=None, description="Name to price the model by")
    tier: str | None = None
    context_window: int | None = Field(default=None, gt=0)
    input_usd_per_million: float | None = Field(default=None, ge=0)
    cached_input_usd_per_million: float | None = Field(default=None, ge=0, description="Read from the provider's cache; default: as input")
    cache_write_usd_per_million: float | None = Field(default=None, ge=0, description="Written to it; default: as input")
    audio_input_usd_per_million: float | None = Field(default=None, ge=0, description="Default: as input")
    output_usd_per_million: float | None = Field(default=None, ge=0)
    reasoning_usd_per_million: float | None = Field(default=None, ge=0, description="Default: as output")
    audio_output_usd_per_million: float | None = Field(default=None, ge=0, description="Default: as output")


class Capacity(_Asked):
    """The most that a model can take."""

    max_share: float | None = Field(default=None, gt=0, le=1, description="Share of all requests")
    requests_per_minute: float | None = Field(default=None, gt=0, description="At the busiest hour of the window")


class AlertThresholds(_Asked):
    """When the sensors speak up."""

    cost_ratio: float = Field(default=1.4, gt=1, description="Least spend that alarms, against the same hours of the weeks before")
    cost_floor_usd: float = Field(default=5.0, ge=0, description="Excess below this many dollars is never an alert")
    latency_ratio: float = Field(default=1.3, gt=1, description="Least typical latency that alarms, against the same hours before")
    latency_floor_ms: float = Field(default=100.0, ge=0, description="Fewer milliseconds more are never an alert")
    quality_drop: float = Field(default=0.05, gt=0, le=1, description="Least fall of mean quality that alarms")
    failure_rise: float = Field(default=0.05, gt=0, le=1, description="Least rise of the share of failed attempts that alarms")
    baseline_weeks: int = Field(default=4, ge=1, le=12)
    false_alerts_per_month: float = Field(
        default=0.1, gt=0, le=100, description="Alerts of one sensor that chance may raise, over all series it watches"
    )
    hold_back_minutes: float = Field(
        default=30.0, ge=0, le=1440, description="An hour is judged once logs were read this long after its end; gateways deliver late"
    )
    score_hold_back_hours: float = Field(
        default=0.0, ge=0, le=168, description="How late scores come, where that is more than half a day; quality is judged after that"
    )
    silent_hours: float = Field(
        default=26.0,
        gt=0,
        description="Hours after which expected traffic is missed although no logs were read; longer than the time between two ingestions",
    )


class Weights(_Asked):
    """What the balanced goal counts for how much; each outcome is scaled by today's mean."""

    cost: float = Field(default=1.0, ge=0)
    quality: float = Field(default=1.0, ge=0)
    speed: float = Field(default=0.25, ge=0)


class Parameters(_Asked):
    """Everything that one analysis was asked. Same parameters, same data, same answer."""

    timeframe: Timeframe = Field(default="7d", description="Length of the window that ends at as_of")
    as_of: datetime | None = Field(default=None, description="End of the window, UTC; default: just after the newest request")
    task_types: tuple[str, ...] = Field(default=(), description="Task types to look at; empty means all")
    cost_threshold: float | None = Field(default=None, gt=0, description="Most that a request may cost on average, USD")
    quality_threshold: float | None = Field(default=None, ge=0, le=1, description="Least mean quality, 0..1")
    goal: Goal = Field(default="balanced", description="What the rules should improve")
    max_quality_drop: float = Field(default=0.01, ge=0, le=1, description="Floor when no threshold is given: today's quality less this")
    budget: float | None = Field(default=None, gt=0, description="Budget, USD per month")
    target_reduction: float = Field(default=0.20, gt=0, lt=1, description="Saving that the cost plan aims at")
    router_inputs: tuple[Literal["task_type", "complexity", "prompt_tokens", "team", "chance"], ...] = Field(
        default=(), description="All that the router decides by, as its owner knows; evidence is graded by whether the logs hold it"
    )
    sample_above: int | None = Field(
        default=None,
        ge=50_000,
        description="Most requests that estimates of other routing rest on: of more, whole sessions are drawn; counts and sums stay exact",
    )
    quality_feedback: str = Field(default="quality", description="Name of the feedback that is a request's quality")
    models: dict[str, ModelOverride] = Field(default_factory=dict, description="Overrides of the model catalog")
    capacities: dict[str, Capacity] = Field(default_factory=dict, description="Capacity by model")
    budgets_by_team: dict[str, float] = Field(default_factory=dict, description="USD per month by team")
    alerts: AlertThresholds = Field(default_factory=AlertThresholds)
    weights: Weights = Field(default_factory=Weights)

    @field_validator("as_of")
    @classmethod
    def _in_utc(cls, value: datetime | None) -> datetime | None:
        if value is None:
            return None
        return value.replace(tzinfo=UTC) if value.tzinfo is None else value.astimezone(UTC)


def _toml(config: Path) -> dict[str, Any]:
    try:
        return tomllib.loads(config.read_text(encoding="utf-8"))
    except OSError as error:
        raise UnusableInputError(f"--config {config}: {error.strerror}; give a readable TOML file") from error
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise UnusableInputError(f"--config {config}: not TOML ({error}); see docs/configuration.md") from error


def read_table(config: Path | None, name: str) -> dict[str, Any]:
    """One table of the configuration file that is no parameter of an analysis; empty when it is not there.

    Raises:
        UnusableInputError: the file cannot be read, or there is something else under that name.
    """
    table = {} if config is None else _toml(config).get(name, {})
    if not isinstance(table, dict):
        raise UnusableInputError(f"{name}: a table is expected, as in [{name}]")
    return table


def read_scales(config: Path | None) -> dict[str, tuple[float, float]]:
    """Table `[scales]` of the configuration: lowest and highest value by name of a score.

    Raises:
        UnusableInputError: the file cannot be read, or a scale is not two finite numbers, the lower first.
    """
    declared = {} if config is None else _toml(config).get("scales", {})
    if not isinstance(declared, dict):
        raise UnusableInputError("scales: a table is expected, one line per name of a score, as in stars = [1, 5]")
    scales = {}
    for name, scale in declared.items():
        ends = scale if isinstance(scale, list) and len(scale) == 2 else [None, None]
        numbers = [float(end) for end in ends if isinstance(end, (int, float)) and not isinstance(end, bool) and math.isfinite(end)]
        if len(numbers) != 2 or numbers[0] >= numbers[1]:
            raise UnusableInputError(f"scales.{name[:80]}: give its lowest and its highest value, as in [1, 5]")
        scales[name] = (numbers[0], numbers[1])
    return scales


def read_parameters(config: Path | None = None, **asked: Any) -> Parameters:
    """Merge a TOML file with what was asked on the command line; what was asked wins, None means not asked.

    Raises:
        UnusableInputError: the file cannot be read, or a value is unknown or out of range; the message names it.
    """
    values: dict[str, Any] = {}
    if config is not None:
        values = _toml(config)
    # How logs and scores are read, who is told, where rules go and whether the router answers is no parameter of an analysis.
    for name in ("format", "scales", "notifications", "publishing", "router"):
        values.pop(name, None)
    values |= {name: value for name, value in asked.items() if value is not None}
    try:
        return Parameters.model_validate(values)
    except ValidationError as error:
        first = error.errors()[0]
        option = ".".join(str(part) for part in first["loc"]).replace("_", "-")
        raise UnusableInputError(f"{option}: {complaint(first['msg'])} (got {str(first['input'])[:80]!r})") from error
