"""Rules that somebody hands over, written by hand or by an agent, and what the logs say of them.

Belongs here: reading them, however few of the fields of rules.json they have, and putting the replay's answer into the
form in which our own rules travel, so that plans and risks can be made of both. Does not belong here: the replay itself
(`recommendation.simulation`), rules that we found (`recommendation.routing_rules`).

Whatever the rules claim of themselves (evidence, expectations, rationale) is not read: it is measured again.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import ibis
from pydantic import ConfigDict, Field, ValidationError, field_validator

from routing_pipeline.errors import UnusableInputError, complaint
from routing_pipeline.estimates import Estimate, Measured, Result, Unidentifiable
from routing_pipeline.parameters import Goal, Parameters
from routing_pipeline.policy.evidence_model import RoutingEvidence
from routing_pipeline.policy.rule_set import (
    Change,
    Constraints,
    Expected,
    RelativeChange,
    Rule,
    RuleEvidence,
    RuleSet,
    RuleWindow,
    WeightedModel,
    When,
    cannot_tell,
)
from routing_pipeline.policy.search import MAX_COMPLETION_DROP
from routing_pipeline.recommendation.optimization_plan import effort_of
from routing_pipeline.recommendation.routing_rules import Candidate, RoutingRules
from routing_pipeline.recommendation.simulation import Simulation, simulate
from routing_pipeline.results import key_of
from routing_pipeline.scope import AnalysisScope

MOST_RULES = 100
LONGEST_NAME = 200
SHAPE = (
    'a list of rules such as {"when": {"task_type": ["code"], "prompt_tokens": {"lt": 2000}}, "route": "gpt-4o-mini"}, '
    "or a whole rule set as in rules.json"
)
_OPEN = "unknown until the rules are replayed"


class GivenRule(Result):
    """What a rule needs to be judged; everything else that rules.json has may be there and is measured again."""

    model_config = ConfigDict(frozen=True, extra="ignore", allow_inf_nan=False)

    id: str | None = Field(default=None, max_length=LONGEST_NAME)
    priority: int | None = Field(default=None, ge=1)
    when: When = When()
    route: tuple[WeightedModel, ...] | str = Field(min_length=1)
    fallbacks: tuple[str, ...] = ()

    @field_validator("route")
    @classmethod
    def _one_model_by_name(cls, value: tuple[WeightedModel, ...] | str) -> tuple[WeightedModel, ...] | str:
        return value if isinstance(value, tuple) or value == "unchanged" else (WeightedModel(model=value, weight=1.0),)


def read_given_rules(content: Any, parameters: Parameters) -> RuleSet:
    """A rule set from what was handed over: rules, a rule set, an optimisation that holds one, or JSON text of these.

    Its id is a hash of what the rules say; nothing is expected of it yet.

    Raises:
        UnusableInputError: it is none of these, or a rule breaks the contract of rules.json; the message says where.
    """
    if isinstance(content, str):
        try:
            content = json.loads(content)
        except (ValueError, RecursionError) as error:
            raise UnusableInputError(f"neither the id of a rule set nor JSON; give {SHAPE}") from error
    listed = _listed(content)
    if not listed or len(listed) > MOST_RULES:
        raise UnusableInputError(f"{len(listed)} rules; give 1 to {MOST_RULES}: {SHAPE}")
    rules = [_read(rule, place) for place, rule in enumerate(listed, 1)]
    said = [rule.model_dump_json(include={"priority", "when", "route", "fallbacks"}) for rule in rules]
    try:
        return RuleSet(
            rule_set_id=f"given-{key_of(rules=said)}",
            status="proposed",
            goal=_goal(content, parameters),
            constraints=Constraints(
                max_cost_usd=parameters.cost_threshold,
                min_quality=parameters.quality_threshold,
                max_quality_drop=parameters.max_quality_drop if parameters.quality_threshold is None else None,
            ),
            window=RuleWindow(start="", end="", snapshot_id=""),
            rules=tuple(_complete(rule, place) for place, rule in enumerate(rules, 1)),
            expected=Expected(baseline=cannot_tell(_OPEN), proposed=cannot_tell(_OPEN), change=_unknown(_OPEN)),
            assumptions=(),
            warnings=(),
        )
    except ValidationError as error:
        raise UnusableInputError(f"{_first(error)}; give {SHAPE}") from error


def read_rules_file(path: Path, parameters: Parameters) -> RuleSet:
    """What `simulate --rules` names: a rules.json as it is, under its own id, or anything that `read_given_rules` takes.

    Raises:
        UnusableInputError: it cannot be read, or is neither; the message says where.
    """
    try:
        content = path.read_bytes()
    except OSError as error:
        raise UnusableInputError(f"--rules {path}: {error.strerror}; give a readable file") from error
    try:
        return RuleSet.model_validate_json(content)
    except ValidationError:
        try:
            return read_given_rules(content.decode("utf-8", "replace"), parameters)
        except UnusableInputError as error:
            raise UnusableInputError(f"--rules {path}: {error}") from error


def _listed(content: Any) -> list[Any]:
    if isinstance(content, dict):
        for name in ("rule_set", "routing_rule_set"):
            if isinstance(content.get(name), dict):
                return _listed(content[name])
        content = content.get("rules", [content] if "route" in content else [])
    return list(content) if isinstance(content, list | tuple) else []


def _goal(content: Any, parameters: Parameters) -> Goal:
    said = content.get("goal") if isinstance(content, dict) else None
    return said if said in {"cost", "speed", "quality", "balanced"} else parameters.goal


def _read(rule: Any, place: int) -> GivenRule:
    try:
        read = GivenRule.model_validate(rule)
    except ValidationError as error:
        raise UnusableInputError(f"rule {place}: {_first(error)}; give {SHAPE}") from error
    names = [*read.fallbacks, *(each for names in (read.when.task_type, read.when.team, read.when.tier) for each in names or ())]
    names += [target.model for target in read.route if isinstance(target, WeightedModel)]
    if any(not name or len(name) > LONGEST_NAME for name in names) or len(names) > LONGEST_NAME:
        raise UnusableInputError(f"rule {place}: names have 1 to {LONGEST_NAME} characters, and a rule at most {LONGEST_NAME} of them")
    return read


def _first(error: ValidationError) -> str:
    first = error.errors(include_url=False)[0]
    place = ".".join(str(part) for part in first["loc"][:6])[:80]
    return f"{place}: {complaint(first['msg'])}" if place else complaint(first["msg"])


def _complete(rule: GivenRule, place: int) -> Rule:
    return Rule.model_validate(
        {
            "id": rule.id or f"r{place}",
            "priority": rule.priority or place,
            "when": rule.when,
            "route": rule.route,
            "fallbacks": rule.fallbacks,
            "rationale": "given",
            "evidence": RuleEvidence(requests=0, labelled=0, effective_sample_size=0.0, min_propensity=0.0, grade="C"),
            "expected": cannot_tell(_OPEN),
            "effort": "Low",
            "risk": "High",
            "validation_criteria": (),
        }
    )


def judged(rule_set: RuleSet, evidence: RoutingEvidence, requests: ibis.Table, scope: AnalysisScope) -> RoutingRules:
    """Replay the rules on the sessions that no search has seen, and say it as an optimisation says it of its own rules.

    Args:
        rule_set: from `read_given_rules`, or any other.
        evidence: of the same window.
        requests: conformed rows of the window.
        scope: the window, and the limits that the rules are held against.
    """
    simulation = simulate(rule_set, evidence, requests, scope)
    hits, moved_share, moved_spend_share = _traffic(rule_set, requests)
    limits = _limits(scope)
    rules = tuple(_judged_rule(rule, hits.get(place, _NO_HIT), evidence, limits) for place, rule in enumerate(rule_set.rules))
    quality = _quality_change(simulation.expected)
    failed = _failed(simulation, quality, scope)
    saving = simulation.saving_usd
    return RoutingRules(
        rule_set=rule_set.model_copy(
            update={
                "rules": rules,
                "expected": simulation.expected,
                "window": RuleWindow(
                    start=f"{scope.start:%Y-%m-%dT%H:%M:%SZ}", end=f"{scope.end:%Y-%m-%dT%H:%M:%SZ}", snapshot_id=scope.snapshot_id
                ),
                "warnings": evidence.warnings,
            }
        ),
        reasons=(simulation.verdict,),
        walk=(
            Candidate(
                label="the rules given",
                rules=len(rules),
                moved_share=simulation.moved_share,
                outcomes=simulation.expected.proposed,
                cost_change=simulation.expected.change.cost_usd.relative,
                quality_change=quality,
                passed=failed is None,
                failed_constraint=failed,
            ),
        ),
        moved_share=moved_share,
        moved_spend_share=moved_spend_share,
        saving_usd_per_day=saving if isinstance(saving, Unidentifiable) else saving.scaled(1 / max(scope.days, 1e-9)),
        tipping_point=_tipping(quality, simulation.expected, moved_share, scope),
    )


_NO_HIT: dict[str, float] = {"requests": 0.0, "labelled": 0.0, "served": 0.0, "scored": 0.0, "moved": 0.0, "moved_spend": 0.0}


def _traffic(rule_set: RuleSet, requests: ibis.Table) -> tuple[dict[int, dict[str, float]], float, float]:
    """By place of the rule: its traffic, how much of it goes to its models already, and what moves; then shares of the whole."""
    final = requests.filter(requests.is_final)
    is_hit = final.is_cache_hit.fill_null(False)
    place, same = ibis.literal(-1, "int64"), ibis.literal(1.0)
    for index, rule in sorted(enumerate(rule_set.rules), key=lambda each: each[1].priority, reverse=True):
        holds = rule.when.holds(final)
        place = ibis.ifelse(holds, ibis.literal(index, "int64"), place)
        same = ibis.ifelse(holds, _weight_of_today(rule, final), same)
    rows = final.mutate(place=place, same=ibis.ifelse(is_hit, ibis.literal(1.0), same), spend=final.request_cost_usd.fill_null(0.0))
    labelled = rows.quality.notnull().cast("float64")
    sums = rows.group_by("place").agg(
        requests=rows.count().cast("float64"),
        labelled=labelled.sum(),
        served=rows.same.sum(),
        scored=(rows.same * labelled).sum(),
        moved=(1 - rows.same).sum(),
        spend=rows.spend.sum(),
        moved_spend=((1 - rows.same) * rows.spend).sum(),
    )
    found = {row.pop("place"): row for row in sums.to_pyarrow().to_pylist()}
    total, spend = (sum(row[name] for row in found.values()) for name in ("requests", "spend"))
    moved, moved_spend = (sum(row[name] for row in found.values()) for name in ("moved", "moved_spend"))
    return found, min(moved / total, 1.0) if total else 0.0, min(moved_spend / spend, 1.0) if spend else 0.0


def _weight_of_today(rule: Rule, rows: ibis.Table) -> ibis.expr.types.NumericValue:
    """Chance that the rule sends a request where it went anyway."""
    if rule.route == "unchanged":
        return ibis.literal(1.0)
    weight = ibis.literal(0.0)
    for target in rule.route:
        weight = ibis.ifelse((rows.routed_model == target.model).fill_null(False), ibis.literal(target.weight), weight)
    return weight


def _judged_rule(rule: Rule, hit: dict[str, float], evidence: RoutingEvidence, criteria: tuple[str, ...]) -> Rule:
    new_models = 0 if hit["served"] > 0 or rule.route == "unchanged" else 1
    return rule.model_copy(
        update={
            "rationale": f"Given; it decides for {hit['requests']:,.0f} requests of the window and moves {hit['moved']:,.0f} of them.",
            "evidence": RuleEvidence(
                requests=round(hit["requests"]),
                labelled=round(hit["labelled"]),
                effective_sample_size=hit["scored"],
                min_propensity=hit["served"] / hit["requests"] if hit["requests"] else 0.0,
                grade=evidence.grade,
            ),
            "expected": cannot_tell("the rules were replayed together"),
            "effort": effort_of(rules=1, new_models=new_models)[0],
            "risk": "High" if evidence.grade == "C" or new_models else "Medium",
            "validation_criteria": criteria,
        }
    )


def _limits(scope: AnalysisScope) -> tuple[str, ...]:
    asked = scope.parameters
    floor = (
        f"at or above {asked.quality_threshold:g}"
        if asked.quality_threshold is not None
        else f"not more than {asked.max_quality_drop:g} below today's"
    )
    found = [f"Mean quality stays {floor} in an A/B test.", f"Completion falls by not more than {MAX_COMPLETION_DROP:.1%}."]
    if asked.cost_threshold is not None:
        found.append(f"Cost per request stays at or below {asked.cost_threshold:g} USD.")
    return tuple(found)


def _quality_change(expected: Expected) -> Measured:
    relative, today = expected.change.quality.relative, expected.baseline.quality
    if isinstance(relative, Unidentifiable):
        return relative
    return relative.scaled(today.estimate) if isinstance(today, Estimate) else today


def _failed(simulation: Simulation, quality: Measured, scope: AnalysisScope) -> str | None:
    """The first limit that does not hold at the safe end of its interval; None when all do."""
    asked, then = scope.parameters, simulation.expected.proposed
    if not isinstance(quality, Estimate) or not isinstance(then.quality, Estimate):
        return "quality cannot be told"
    if asked.quality_threshold is None and quality.low < -asked.max_quality_drop:
        return f"quality not more than {asked.max_quality_drop:g} below today's"
    if asked.quality_threshold is not None and then.quality.low < asked.quality_threshold:
        return f"quality at least {asked.quality_threshold:g}"
    completion = simulation.completion_change
    if not isinstance(completion, Estimate) or completion.low < -MAX_COMPLETION_DROP:
        return f"completion not more than {MAX_COMPLETION_DROP:g} below today's"
    if asked.cost_threshold is not None and not (isinstance(then.cost_usd, Estimate) and then.cost_usd.high <= asked.cost_threshold):
        return f"cost at most {asked.cost_threshold:g} USD per request"
    return None


def _tipping(quality: Measured, expected: Expected, moved_share: float, scope: AnalysisScope) -> Measured:
    """(change + tolerance) / share moved: the average overstatement on moved requests that would break the quality limit."""
    if isinstance(quality, Unidentifiable):
        return quality
    if moved_share <= 0:
        return Unidentifiable(unidentifiable="nothing is moved")
    asked, today = scope.parameters, expected.baseline.quality
    tolerance = asked.max_quality_drop
    if asked.quality_threshold is not None and isinstance(today, Estimate):
        tolerance = today.estimate - asked.quality_threshold
    ends = {name: (getattr(quality, name) + tolerance) / moved_share for name in ("estimate", "low", "high")}
    return Estimate(**ends, level=quality.level)


def _unknown(why: str) -> Change:
    change = RelativeChange(relative=Unidentifiable(unidentifiable=why))
    return Change(cost_usd=change, quality=change, latency_ms=change)
