"""What the user asks for: timeframe, task types, thresholds, goal, and what the configuration file adds.

Belongs here: parameters, their ranges, and reading them from TOML and the environment's time zone. Does not belong here: where data lies (`home`), and
anything that looks at data to decide (`scope`).
"""

from __future__ import annotations

import hashlib
import json
import math
import os
import re
import tomllib
from collections.abc import Iterable
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Annotated, Any, Literal, get_args, get_origin

from pydantic import BaseModel, ConfigDict, Field, ValidationError, field_validator

from routing_pipeline.clock import NO_ZONE, UTC_ZONE, is_zone, timezone
from routing_pipeline.errors import UnusableInputError, complaint, did_you_mean
from routing_pipeline.schema import TRUSTED, ScoreSource

Timeframe = Literal["1h", "24h", "7d", "30d"]
Goal = Literal["cost", "speed", "quality", "balanced"]

TIMEFRAMES: dict[Timeframe, timedelta] = {
    "1h": timedelta(hours=1),
    "24h": timedelta(hours=24),
    "7d": timedelta(days=7),
    "30d": timedelta(days=30),
}
GOALS: tuple[Goal, ...] = get_args(Goal)
OTHER_TABLES = ("format", "scales", "notifications", "publishing", "rollout", "router", "spark")
"""Tables of the configuration file that are no parameters of an analysis; whoever needs one reads it (`read_table`)."""
LONGEST_KEY = 200
_BARE = re.compile(r"[A-Za-z0-9_-]+")


class _Asked(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False, validate_by_name=True, serialize_by_alias=True)


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
    image: bool | None = Field(default=None, description="Reads images")
    audio: bool | None = Field(default=None, description="Hears audio")
    tools: bool | None = Field(default=None, description="Calls tools")
    schema_: bool | None = Field(default=None, alias="schema", description="Gives structured output")
    context_tokens: int | None = Field(default=None, gt=0, description="Most tokens of a prompt with its answer")
    output_tokens: int | None = Field(default=None, gt=0, description="Most tokens of an answer")
    region: str | None = Field(default=None, description="Where it runs, for [policy]")


class Capacity(_Asked):
    """The most that a model can take."""

    max_share: float | None = Field(default=None, gt=0, le=1, description="Share of all requests")
    requests_per_minute: float | None = Field(default=None, gt=0, description="At the busiest hour of the window")


class CapabilitiesFile(_Asked):
    """A list of what models can, and what it held when it was named: another content is another question."""

    path: str
    md5: str


class Restriction(_Asked):
    """What the requests of some teams or tasks (of all, where none is named) may be answered by: `only` these, or never those."""

    teams: tuple[str, ...] = ()
    task_types: tuple[str, ...] = ()
    only_models: tuple[str, ...] = ()
    only_providers: tuple[str, ...] = ()
    only_regions: tuple[str, ...] = ()
    never_models: tuple[str, ...] = ()
    never_providers: tuple[str, ...] = ()
    never_regions: tuple[str, ...] = ()


class RoutingPolicy(_Asked):
    """What rules may never do, whatever it would save."""

    leave_alone: tuple[str, ...] = Field(default=(), description="Task types whose routing stays as it is")
    restrictions: tuple[Restriction, ...] = ()


class AlertThresholds(_Asked):
    """When the sensors speak up."""

    cost_ratio: float = Field(default=1.4, gt=1, description="Least spend that alarms, against the same hours of the weeks before")
    cost_floor_usd: float = Field(default=5.0, ge=0, description="Excess below this many dollars is never an alert")
    latency_ratio: float = Field(default=1.3, gt=1, description="Least typical latency that alarms, against the same hours before")
    latency_floor_ms: float = Field(default=100.0, ge=0, description="Fewer milliseconds more are never an alert")
    quality_drop: float = Field(default=0.05, gt=0, le=1, description="Least fall of mean quality that alarms")
    failure_rise: float = Field(default=0.05, gt=0, le=1, description="Least rise of the share of failed attempts that alarms")
    baseline_weeks: int = Field(default=4, ge=1, le=12)
    timezone: str = Field(
        default=UTC_ZONE, description="Zone by whose clock hours of different weeks are the same hour; default: ROUTING_PIPELINE_TIMEZONE"
    )
    false_alerts_per_month: float = Field(
        default=0.1, gt=0, le=100, description="Alerts of one sensor that chance may raise, over all series it watches"
    )
    hold_back_minutes: float = Field(
        default=30.0, ge=0, le=1440, description="An hour is evaluated once logs were read this long after its end; gateways deliver late"
    )
    score_hold_back_hours: float = Field(
        default=0.0, ge=0, le=168, description="How late scores come, where that is more than half a day; quality is evaluated after that"
    )
    silent_hours: float = Field(
        default=26.0,
        gt=0,
        description="Hours after which expected traffic is missed although no logs were read; longer than the time between two ingestions",
    )

    @field_validator("timezone")
    @classmethod
    def _is_one(cls, value: str) -> str:
        if not is_zone(value):
            raise ValueError(NO_ZONE)
        return value


class Weights(_Asked):
    """What the balanced goal counts for how much; each outcome is scaled by today's mean."""

    cost: float = Field(default=1.0, ge=0)
    quality: float = Field(default=1.0, ge=0)
    speed: float = Field(default=0.25, ge=0)


class ScoreShares(_Asked):
    """How much of all scores one user, team or source may have given. More are thinned out at random, where others are left to make up the rest."""

    user: float = Field(default=0.5, gt=0, le=1, description="Largest share of the scores by one user; 1: no such limit")
    team: float = Field(default=1.0, gt=0, le=1, description="Largest share of the scores by one team; 1: no such limit")
    source: float = Field(
        default=1.0, gt=0, le=1, description="Largest share of the scores by one source (judge, user, check, eval, log); 1: no such limit"
    )


class Parameters(_Asked):
    """Everything that one analysis was asked. Same parameters, same data, same answer."""

    timeframe: Timeframe = Field(default="7d", description="Length of the window that ends at as_of")
    as_of: datetime | None = Field(default=None, description="End of the window, UTC; default: just after the newest request")
    task_types: tuple[str, ...] = Field(default=(), description="Task types to analyse; empty means all")
    cost_threshold: float | None = Field(default=None, gt=0, description="Most that a request may cost on average, USD")
    quality_threshold: float | None = Field(default=None, ge=0, le=1, description="Least mean quality, 0..1")
    goal: Goal = Field(default="balanced", description="What the rules should improve")
    max_quality_drop: float = Field(
        default=0.01,
        ge=0,
        le=1,
        description="Largest fall of mean quality below today's; holds beside a threshold, the tighter of the two decides",
    )
    max_quality_drop_per_task: float | None = Field(
        default=None,
        gt=0,
        le=1,
        description="Largest expected fall of any task's mean quality below today's; default: three times max_quality_drop; 1: no such limit",
    )
    prove_per_task: bool = Field(default=False, description="The same at the safe end of its interval, for all tasks at once")
    single: bool = Field(default=False, description="One model for each kind of request: no route is shared between two")
    budget: float | None = Field(default=None, gt=0, description="Budget, USD per month")
    explore_only: bool = Field(
        default=False,
        description="Whether the held-out half stays unseen: what is found is no proof, and does not count as a question put to it",
    )
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
    trusted_scores: tuple[ScoreSource, ...] = Field(
        default=TRUSTED,
        description="Sources whose scores are what quality means where other sources score answers too; those are put to use as a judge's",
        min_length=1,
    )
    max_score_share: ScoreShares = Field(
        default_factory=ScoreShares, description="How much of the scores may come from one user, team or source"
    )
    models: dict[str, ModelOverride] = Field(default_factory=dict, description="Overrides of the model catalog")
    capacities: dict[str, Capacity] = Field(default_factory=dict, description="Capacity by model")
    capabilities: CapabilitiesFile | None = Field(default=None, description="api.json of models.dev, in place of the bundled list")
    policy: RoutingPolicy = Field(default_factory=RoutingPolicy, description="What rules may never do")
    budgets_by_team: dict[str, float] = Field(default_factory=dict, description="USD per month by team")
    budgets_by_tier: dict[str, float] = Field(default_factory=dict, description="USD per month by tier of model")
    max_share_by_tier: dict[str, Annotated[float, Field(gt=0, le=1)]] = Field(
        default_factory=dict, description="Most of all requests that the models of a tier may get together under rules"
    )
    alerts: AlertThresholds = Field(default_factory=AlertThresholds)
    weights: Weights = Field(default_factory=Weights)

    @property
    def task_tolerance(self) -> float:
        """Largest expected fall of a task's mean quality, 0..1; never tighter than what all tasks together may fall."""
        asked = self.max_quality_drop_per_task
        return max(min(3.0 * self.max_quality_drop, 1.0) if asked is None else asked, 1e-9)

    @field_validator("capabilities", mode="before")
    @classmethod
    def _read_now(cls, value: Any) -> Any:
        if not isinstance(value, str | Path):
            return value
        try:
            digest = hashlib.md5(Path(value).read_bytes(), usedforsecurity=False).hexdigest()
        except OSError as error:
            raise ValueError(f"{error.strerror}; give the api.json of models.dev") from error
        return {"path": str(Path(value).resolve()), "md5": digest}

    @field_validator("as_of")
    @classmethod
    def _in_utc(cls, value: datetime | None) -> datetime | None:
        if value is None:
            return None
        try:
            return value.replace(tzinfo=UTC) if value.tzinfo is None else value.astimezone(UTC)
        except OverflowError as error:
            raise ValueError("must be a moment in the years 1 to 9999, in UTC") from error


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
    for name in OTHER_TABLES:
        values.pop(name, None)
    values |= {name: value for name, value in asked.items() if value is not None}
    # People work by the clock that schedules keep to, unless the file names another.
    values["alerts"] = _with_zone(values.get("alerts", {}))
    try:
        return Parameters.model_validate(values)
    except ValidationError as error:
        first = error.errors()[0]
        got = "" if first["type"] == "extra_forbidden" else f" (got {str(first['input'])[:80]!r})"
        if asked.get(str(first["loc"][0])) is not None:
            raise UnusableInputError(f"{str(first['loc'][0]).replace('_', '-')}: {complaint(first['msg'])}{got}") from error
        raise UnusableInputError(f"--config {config}: {refusal(error, Parameters, also=OTHER_TABLES)}{got}") from error


def _with_zone(alerts: Any) -> Any:
    """What was asked of alerts, with the environment's zone where none was; what is no table is refused later."""
    if isinstance(alerts, AlertThresholds):
        alerts = alerts.model_dump(exclude_unset=True)
    if not isinstance(alerts, dict):
        return alerts
    return {"timezone": timezone(os.environ.get("ROUTING_PIPELINE_TIMEZONE"))} | alerts


def refusal(error: ValidationError, model: type[BaseModel], *table: str, also: Iterable[str] = ()) -> str:
    """The first thing that is wrong with a table of the configuration file, under its key as the file writes it.

    Args:
        error: What the model says.
        model: Of the table.
        table: The table's name; none for the file itself.
        also: What may stand beside the model's own keys.
    """
    first = error.errors(include_input=False)[0]
    loc = first["loc"]
    near = ""
    if first["type"] == "extra_forbidden":
        near = did_you_mean(str(loc[-1]), (*_keys_at(model, loc[:-1]), *(also if len(loc) == 1 else ())))
    key = _key(*table, *loc)
    return f"{key + ': ' if key else ''}{complaint(first['msg'])}{near}"


def _key(*parts: str | int) -> str:
    """Parts of a key with dots between them, quoted where TOML wants it; places in a list in brackets."""
    names = ((f"[{part}]", "") if isinstance(part, int) else (part if _BARE.fullmatch(part) else json.dumps(part), ".") for part in parts)
    return "".join(f"{dot}{name}" for name, dot in names).removeprefix(".")[:LONGEST_KEY]


def _keys_at(model: type[BaseModel], place: tuple[str | int, ...]) -> tuple[str, ...]:
    """Keys of the table that lies at a place of a model; none where there is no such table."""
    found: Any = model
    for part in place:
        if isinstance(found, type) and issubclass(found, BaseModel):
            found = found.model_fields[str(part)].annotation
        else:
            # A table of tables, as `models`: by names of the user's.
            found = get_args(found)[-1] if get_args(found) else None
        found = get_args(found)[0] if get_origin(found) is Annotated else found
    if not (isinstance(found, type) and issubclass(found, BaseModel)):
        return ()
    return tuple(field.alias or name for name, field in found.model_fields.items())


def as_question(parameters: Parameters) -> str:
    """What was asked, the end of the window and the clock apart: two reports with the same text answer the same question at different times."""
    by_any_clock = parameters.model_copy(update={"alerts": without_zone(parameters.alerts)})
    return by_any_clock.model_dump_json(exclude={"as_of"}, exclude_defaults=True)


def without_zone(alerts: AlertThresholds) -> AlertThresholds:
    """The same thresholds by the clock of UTC: the zone is the deployment's, and nothing that anybody asked."""
    return alerts.model_copy(update={"timezone": UTC_ZONE})
