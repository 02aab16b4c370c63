"""The model of rules.json and its evaluator: what all that speak of rules share.

Belongs here: `RuleSet` exactly as the contract has it, and which rule decides for a request. Does not belong here:
finding rules (`policy.search`), proving them (`policy.proof`), deciding about them (`rule_sets`).
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Literal

from pydantic import Field, model_validator

from routing_pipeline.estimates import Measured, Result, Unidentifiable
from routing_pipeline.parameters import Goal

if TYPE_CHECKING:
    import ibis

Level = Literal["Low", "Medium", "High"]
Grade = Literal["A", "B", "C"]
Status = Literal["proposed", "approved", "published", "no_change"]


class Between(Result):
    """Half-open range [gte, lt); a missing end is open."""

    gte: float | None = None
    lt: float | None = None


class When(Result):
    """What a rule asks of a request; every condition must hold, a missing one holds for all, a null field matches none.

    Only what a gateway knows before it routes and what the logs hold.
    """

    task_type: tuple[str, ...] | None = None
    complexity: Between | None = None
    prompt_tokens: Between | None = None
    team: tuple[str, ...] | None = None
    tier: tuple[str, ...] | None = None

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
        held: ibis.expr.types.BooleanValue = ibis.literal(True)
        for condition in conditions:
            held = held & condition.fill_null(False)
        return held

    def matches(self, request: dict[str, Any]) -> bool:
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
        return True


class WeightedModel(Result):
    """One target of a route; weights of a route add up to 1."""

    model: str
    weight: float = Field(gt=0, le=1)


class RuleEvidence(Result):
    """How much data stands behind a rule."""

    requests: int
    labelled: int
    effective_sample_size: float
    min_propensity: float
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


class Expected(Result):
    """Per request over the whole window's traffic, today and under the rules."""

    baseline: Outcomes
    proposed: Outcomes
    change: Change


class Rule(Result):
    """One rule; tried in order of priority, 1 first."""

    id: str
    priority: int = Field(ge=1)
    when: When
    route: tuple[WeightedModel, ...] | Literal["unchanged"]
    fallbacks: tuple[str, ...] = ()
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
    """What had to hold at the safe end of the intervals."""

    max_cost_usd: float | None = None
    min_quality: float | None = None
    max_quality_drop: float | None = None


class RuleSet(Result):
    """rules.json, schema version 1."""

    schema_version: Literal[1] = 1
    rule_set_id: str
    status: Status
    goal: Goal
    constraints: Constraints
    window: RuleWindow
    rules: tuple[Rule, ...]
    default: Default = Default()
    expected: Expected
    assumptions: tuple[str, ...]
    warnings: tuple[str, ...]

    @model_validator(mode="after")
    def _no_change_changes_nothing(self) -> RuleSet:
        if self.status == "no_change" and self.rules:
            raise ValueError("a rule set that changes nothing has no rules")
        if len({rule.priority for rule in self.rules}) != len(self.rules):
            raise ValueError("two rules share a priority")
        return self

    def deciding_rule(self, request: dict[str, Any]) -> Rule | None:
        """The first rule whose every condition holds, None when the gateway's own choice stays."""
        for rule in sorted(self.rules, key=lambda each: each.priority):
            if rule.when.matches(request):
                return rule
        return None


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
