"""The model of rules.json and its evaluator: what all that speak of rules share.

Belongs here: `RuleSet` exactly as the contract has it, and which rule decides for a request. Does not belong here:
finding rules (`policy.search`), proving them (`policy.proof`), deciding about them (`rules`).
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from datetime import datetime
from typing import TYPE_CHECKING, Any, Literal

from pydantic import Field, field_validator, model_validator

from routing_pipeline.estimates import Measured, Result, Unidentifiable
from routing_pipeline.parameters import Goal
from routing_pipeline.text import LogName

if TYPE_CHECKING:
    import ibis

Level = Literal["Low", "Medium", "High"]
Grade = Literal["A", "B", "C"]
Status = Literal["proposed", "approved", "published", "no_change"]
ID_DIGITS = 8
"""With four, which earlier versions gave, two of 300 questions on one window shared an id as often as not."""


NEEDS_IN_WORDS = {"has_image": "images", "has_audio": "audio", "has_tools": "tools", "has_schema": "structured output"}
NEEDS: tuple[str, ...] = tuple(NEEDS_IN_WORDS)
"""Conditions on what a request needs, by their columns."""
Unit = Literal["request", "session"]


class Between(Result):
    """Half-open range [gte, lt); a missing end is open."""

    gte: float | None = None
    lt: float | None = None


class When(Result):
    """What a rule asks of a request; every condition must hold, a missing one holds for all, a null field matches none.

    Only what a gateway knows before it routes and what the logs hold.
    """

    task_type: tuple[LogName, ...] | None = None
    complexity: Between | None = None
    prompt_tokens: Between | None = None
    team: tuple[LogName, ...] | None = None
    tier: tuple[LogName, ...] | None = None
    has_image: bool | None = None
    has_audio: bool | None = None
    has_tools: bool | None = None
    has_schema: bool | None = None

    @field_validator("task_type", "team", "tier", mode="before")
    @classmethod
    def _one_by_its_name(cls, value: Any) -> Any:
        """`"code"` says the same as `["code"]`."""
        return (value,) if isinstance(value, str) else value

    def holds(self, requests: ibis.Table) -> ibis.expr.types.BooleanValue:
        """The condition over a table with the columns that it names; false (never null) where a field is null."""
        # Who only reads where a rule set stands needs no engine.
        import ibis

        conditions: list[ibis.expr.types.BooleanValue] = []
        for name in ("task_type", "team", "tier"):
            values = getattr(self, name)
            if values is not None:
                conditions.append(requests[name].isin(values))
        for name in ("complexity", "prompt_tokens"):
            between = getattr(self, name)
            if between is not None:
                conditions.append(requests[name].notnull())
                if between.gte is not None:
                    conditions.append(requests[name] >= between.gte)
                if between.lt is not None:
                    conditions.append(requests[name] < between.lt)
        for name in NEEDS:
            needed = getattr(self, name)
            if needed is not None:
                conditions.append(requests[name] == needed)
        held: ibis.expr.types.BooleanValue = ibis.literal(True)
        for condition in conditions:
            held = held & condition.fill_null(False)
        return held

    def matches(self, request: Mapping[str, Any]) -> bool:
        """The same for one request given as a dict; the reference that `holds` is tested against."""
        for name in ("task_type", "team", "tier"):
            values = getattr(self, name)
            if values is not None and request.get(name) not in values:
                return False
        for name in ("complexity", "prompt_tokens"):
            between = getattr(self, name)
            if between is None:
                continue
            value = request.get(name)
            if value is None or (between.gte is not None and value < between.gte) or (between.lt is not None and value >= between.lt):
                return False
        for name in NEEDS:
            asked = getattr(self, name)
            if asked is not None and request.get(name) is not asked:
                return False
        return True


class WeightedModel(Result):
    """One target of a route; weights of a route add up to 1."""

    model: LogName
    weight: float = Field(gt=0, le=1)


class RuleEvidence(Result):
    """How much data stands behind a rule."""

    requests: int
    sessions: int | None = Field(default=None, description="Sessions that it decides; null where it decides each request")
    labelled: int
    effective_sample_size: float
    min_propensity: float | None = Field(
        default=None, description="Smallest probability that today's routing gives these requests the rule's model; null when not known"
    )
    grade: Grade


class Outcomes(Result):
    """Expected values per request."""

    cost_usd: Measured = Field(description="USD per request")
    quality: Measured = Field(description="Mean quality of successful requests, 0..1")
    latency_ms: Measured = Field(description="Mean latency, ms")


class RelativeChange(Result):
    """(proposed - baseline) / baseline; a saving is negative."""

    relative: Measured


class Change(Result):
    """Relative change of each outcome."""

    cost_usd: RelativeChange
    quality: RelativeChange
    latency_ms: RelativeChange


class SessionOutcomes(Result):
    """What a session costs and takes, on average."""

    cost_usd: Measured = Field(description="USD per session")
    requests: Measured = Field(description="Requests of a session")


class SessionChange(Result):
    """Relative change of what the same sessions cost and take."""

    cost_usd: RelativeChange
    requests: RelativeChange


class ExpectedOfSessions(Result):
    """The same sessions, today and under the rules."""

    baseline: SessionOutcomes
    proposed: SessionOutcomes
    change: SessionChange


class Expected(Result):
    """Over the whole window's traffic, today and under the rules: per request, and where sessions are promised about per session.

    Where a rule changes how many requests a session takes, cost and latency per request are those of the session under the rules by the
    requests that it takes today: changes are those of the same sessions in all.
    """

    baseline: Outcomes
    proposed: Outcomes
    change: Change
    per_session: ExpectedOfSessions | None = Field(default=None, description="Missing where the promise is per call only")


class Rule(Result):
    """One rule; tried in order of priority, 1 first."""

    id: LogName
    priority: int = Field(ge=1)
    per: Unit = Field(default="request", description="What it decides about: each request, or the session by its first request")
    when: When
    route: tuple[WeightedModel, ...] | Literal["unchanged"]
    fallbacks: tuple[LogName, ...] = ()
    rationale: str
    evidence: RuleEvidence
    expected: Outcomes
    effort: Level
    risk: Level
    validation_criteria: tuple[str, ...]

    @model_validator(mode="after")
    def _weights_add_up(self) -> Rule:
        if self.route != "unchanged" and abs(sum(target.weight for target in self.route) - 1) > 1e-6:
            raise ValueError(f"rule {self.id}: the weights of its route do not add up to 1")
        return self


class Default(Result):
    """What happens when no rule matches."""

    route: Literal["unchanged"] = "unchanged"


class RuleWindow(Result):
    """The data that the rules were learnt and proven on."""

    start: str
    end: str
    snapshot_id: str


class Constraints(Result):
    """What had to hold at the safe end of the intervals: every limit that was applied; those that are null were not."""

    max_cost_usd: float | None = Field(default=None, description="USD per request; the tighter of the cost threshold and the budget")
    budget_usd_per_month: float | None = None
    keeps_todays_cost: bool | None = Field(default=None, description="True where cost must not rise above today's")
    min_quality: float | None = Field(
        default=None, description="Mean quality, 0..1; holds beside max_quality_drop, the tighter one decides"
    )
    max_quality_drop: float | None = Field(default=None, description="Largest fall of mean quality below today's, 0..1")
    max_quality_drop_per_task: float | None = Field(
        default=None, description="Largest expected fall of any one task's mean quality below today's, 0..1; null: not limited"
    )
    proves_per_task: bool | None = Field(default=None, description="True where that holds at the safe end, for all tasks at once")
    max_completion_drop: float | None = Field(default=None, description="Largest fall of the share of requests that end well, 0..1")
    max_slow_share: float | None = Field(default=None, description="Most requests slower than today's 95th percentile and a tenth, 0..1")
    max_share: dict[LogName, float] | None = Field(
        default=None,
        description="Most requests that a model may get, 0..1, where its capacity is limited; `tier:NAME`: all of a tier together",
    )


class RuleSet(Result):
    """rules.json, schema version 2; files of version 1 are read as they are."""

    schema_version: Literal[1, 2] = 2
    rule_set_id: str
    status: Status
    goal: Goal
    constraints: Constraints
    window: RuleWindow
    unit: Unit = Field(default="request", description="What the promise is about")
    rules: tuple[Rule, ...]
    default: Default = Default()
    expected: Expected
    validation_criteria: tuple[str, ...] = Field(default=(), description="What a roll-out of the whole set must show, over all requests")
    assumptions: tuple[str, ...]
    warnings: tuple[str, ...]

    @model_validator(mode="after")
    def _no_change_changes_nothing(self) -> RuleSet:
        if self.status == "no_change" and self.rules:
            raise ValueError("a rule set that changes nothing has no rules")
        if len({rule.priority for rule in self.rules}) != len(self.rules):
            raise ValueError("two rules share a priority")
        if len({rule.id for rule in self.rules}) != len(self.rules):
            raise ValueError("two rules share an id")
        return self


def id_of(window_end: datetime, *said: str) -> str:
    """Id of a rule set: the end of its window, UTC, and eight hexadecimal digits of the md5 of what it says and was asked.

    The same question on the same window keeps its id. Of 9,000 others on one window, two share one with a chance of 1 %.
    """
    digest = hashlib.md5("\n".join(said).encode(), usedforsecurity=False).hexdigest()
    return f"{window_end:%Y-%m-%dT%H:%M:%SZ}-{digest[:ID_DIGITS]}"


def logged_rule_id(rule_set_id: str, rule_id: str) -> str:
    """What a gateway that follows one of our rules logs as the rule that decided."""
    return f"{rule_set_id}/{rule_id}"


def rules_json(rule_set: RuleSet) -> bytes:
    """rules.json; a condition that is not there is missing, never null."""
    return (rule_set.model_dump_json(indent=2, exclude_none=True) + "\n").encode()


def cannot_tell(why: str) -> Outcomes:
    """Outcomes of which nothing can be said."""
    unknown = Unidentifiable(unidentifiable=why)
    return Outcomes(cost_usd=unknown, quality=unknown, latency_ms=unknown)
