"""Reports to render: one of an empty window, one that proposes rules, one that proposes none, one full of hostile names."""

from __future__ import annotations

import types
from collections.abc import Callable
from datetime import UTC, date, datetime
from functools import cache
from types import SimpleNamespace
from typing import Annotated, Any, Literal, Union, get_args, get_origin

import pytest
from pydantic import BaseModel

from routing_pipeline.estimates import Estimate, Unidentifiable
from routing_pipeline.lake.totals import QuarantineReason
from routing_pipeline.parameters import Parameters
from routing_pipeline.policy.evidence_model import ArmEvidence, RoutingEvidence, SegmentEvidence
from routing_pipeline.policy.exploration import Trial
from routing_pipeline.recommendation.cost_optimization_plan import cost_optimization_plan
from routing_pipeline.recommendation.monitoring_plan import monitoring_plan
from routing_pipeline.recommendation.offered import RoutingOption
from routing_pipeline.recommendation.optimization_plan import optimization_plan
from routing_pipeline.recommendation.optimization_risks import optimization_risks
from routing_pipeline.recommendation.routing_rules import Candidate, RoutingRules, UnprovenHypothesis, quality_change
from routing_pipeline.recommendation.within_reach import Conflict
from routing_pipeline.report.model import IngestCounts, Report, SinceLastReport, run_of
from routing_pipeline.rules.impact import RuleImpact
from routing_pipeline.rules.model import (
    Between,
    Change,
    Constraints,
    Expected,
    Outcomes,
    RelativeChange,
    Rule,
    RuleEvidence,
    RuleSet,
    RuleWindow,
    WeightedModel,
    When,
)
from routing_pipeline.text import LogName
from routing_pipeline.window.scope import AnalysisScope, missing_sources

WEEK_START = datetime(2026, 11, 16, tzinfo=UTC).timestamp()
NOTHING = "nothing was measured"
GENERATED_AT = datetime(2026, 11, 23, 6, 30, tzinfo=UTC)


def blank(model: type[BaseModel]) -> Any:
    """The emptiest honest instance of a model: nothing listed, nothing counted, nothing known.

    Fields that others add to their results need no change here.
    """
    return _made(model, None)


def filled(model: type[BaseModel], text: str) -> Any:
    """An instance with one entry in every list, a number in every field, and `text` wherever a log could put text."""
    return _made(model, text)


def _made(model: type[BaseModel], text: str | None) -> Any:
    if model is Estimate:
        return Estimate(estimate=0.5, low=0.4, high=0.6)
    return model.model_validate({name: _value_of(field.annotation, text) for name, field in model.model_fields.items()})


def _value_of(kind: Any, text: str | None) -> Any:
    origin, arguments = get_origin(kind), get_args(kind)
    if origin is Annotated:
        return _value_of(arguments[0], text)
    if origin in {Union, types.UnionType}:
        return _value_of_union(arguments, text)
    if origin is Literal:
        return arguments[0]
    if origin is tuple:
        if Ellipsis in arguments:
            return () if text is None else (_value_of(arguments[0], text),)
        return tuple(_value_of(each, text) for each in arguments)
    if origin is dict:
        return {} if text is None else {_value_of(arguments[0], text): _value_of(arguments[1], text)}
    number = 0 if text is None else 1
    simple: dict[Any, Any] = {str: text or "", LogName: LogName(text or ""), int: number, float: number / 2, bool: text is not None}
    simple |= {datetime: GENERATED_AT, date: GENERATED_AT.date()}
    return simple[kind] if kind in simple else _made(kind, text)


def _value_of_union(arguments: tuple[Any, ...], text: str | None) -> Any:
    if text is None and type(None) in arguments:
        return None
    if text is None and Unidentifiable in arguments:
        return Unidentifiable(unidentifiable=NOTHING)
    return _value_of(arguments[0], text)


def around(estimate: float, half: float) -> Estimate:
    return Estimate(estimate=estimate, low=estimate - half, high=estimate + half)


def scope_of(parameters: Parameters | None = None, **given: Any) -> AnalysisScope:
    values: dict[str, Any] = {
        "key": "abc123",
        "parameters": parameters or Parameters(),
        "timeframe_asked": "7d",
        "timeframe": "7d",
        "start_s": WEEK_START,
        "end_s": WEEK_START + 7 * 86_400,
        "previous_start_s": WEEK_START - 7 * 86_400,
        "snapshot_id": "42",
        "requests": 200_000,
        "attempts": 203_000,
        "labelled": 65_000,
        "previous_requests": 0,
        "sessions": 50_000,
        "models": ("claude-opus-4-1", "gpt-4o", "gpt-4o-mini"),
        "task_types": ("chat", "code"),
        "complexity_derived_share": 0.0,
        "task_type_unknown_share": 0.0,
        "sources": missing_sources({"cost_usd": 1.0, "quality": 0.3, "task_type": 1.0, "complexity": 1.0, "session_id": 1.0}),
        "requests_uri": "requests.parquet",
        "previous_uri": "previous.parquet",
    }
    return AnalysisScope(**(values | given))


def arm(model: str, *, supported: bool = True, cost: float = -0.002, quality: float = 0.001, latency: float = -50.0) -> ArmEvidence:
    return ArmEvidence(
        model=model,
        requests=9_000,
        labelled=3_000,
        share=0.3,
        effective_sample_size=2_000.0,
        min_propensity=0.05,
        supported=supported,
        cost_usd=around(0.002, 0.0002),
        quality=around(0.84, 0.01),
        latency_ms=around(900, 20),
        success=around(0.99, 0.002),
        cost_change_usd=around(cost, 0.0003),
        quality_change=around(quality, 0.004),
        latency_change_ms=around(latency, 20.0),
    )


def segment(
    identifier: str, task: str, share: float, complexity: tuple[float | None, float | None] | None, arms: tuple[ArmEvidence, ...]
) -> SegmentEvidence:
    between = None if complexity is None else Between(gte=complexity[0], lt=complexity[1])
    return SegmentEvidence(
        id=identifier,
        label=f"{task}, {identifier}",
        task_type=task,
        when=When(task_type=(task,), complexity=between),
        requests=int(share * 200_000),
        labelled=int(share * 65_000),
        share=share,
        cost_usd=around(0.004, 0.0001),
        quality=around(0.842, 0.004),
        latency_ms=around(1_000, 10),
        success=around(0.988, 0.001),
        arms=arms,
    )


def evidence_of(grade: str = "C", **given: Any) -> RoutingEvidence:
    arms = (arm("gpt-4o-mini"), arm("gpt-4o", cost=0.001), arm("claude-opus-4-1", supported=False))
    segments = (
        segment("easy", "chat", 0.3, (None, 0.5), arms),
        segment("hard", "chat", 0.2, (0.5, None), arms),
        segment("easy code", "code", 0.3, (None, 0.4), arms),
        segment("hard code", "code", 0.2, (0.4, None), arms),
    )
    tasks = (segment("chat", "chat", 0.5, None, arms), segment("code", "code", 0.5, None, arms))
    values: dict[str, Any] = {
        "grade": grade,
        "grade_reason": "Propensities are estimated from what the logs hold.",
        "requests": 200_000,
        "labelled": 65_000,
        "clusters": 256,
        "propensities": "estimated",
        "complexity": "logged",
        "tasks": tasks,
        "segments": segments,
        "unsupported_share": 0.1,
    }
    return RoutingEvidence(**(values | given))


def outcomes(cost: float, quality: float, latency: float) -> Outcomes:
    return Outcomes(cost_usd=around(cost, cost * 0.02), quality=around(quality, 0.004), latency_ms=around(latency, 20.0))


def expected(cost: float = -0.34, quality: float = -0.002, latency: float = -0.08) -> Expected:
    return Expected(
        baseline=outcomes(0.0045, 0.842, 1_000.0),
        proposed=outcomes(0.0045 * (1 + cost), 0.842 * (1 + quality), 1_000.0 * (1 + latency)),
        change=Change(
            cost_usd=RelativeChange(relative=around(cost, 0.03)),
            quality=RelativeChange(relative=around(quality, 0.004)),
            latency_ms=RelativeChange(relative=around(latency, 0.02)),
        ),
    )


def unchanged() -> Expected:
    """What no change is expected to do: exactly nothing."""
    same = outcomes(0.0045, 0.842, 1_000.0)
    nothing = RelativeChange(relative=Estimate(estimate=0.0, low=0.0, high=0.0))
    return Expected(baseline=same, proposed=same, change=Change(cost_usd=nothing, quality=nothing, latency_ms=nothing))


def rule(number: int, task: str, model: str, complexity: Between | None, grade: str = "C") -> Rule:
    return Rule(
        id=f"r{number}",
        priority=number,
        when=When(task_type=(task,), complexity=complexity),
        route=(WeightedModel(model=model, weight=1.0),),
        fallbacks=("gpt-4o",),
        rationale=f"{model} is as good on these and cheaper.",
        evidence=RuleEvidence(requests=60_000, labelled=20_000, effective_sample_size=9_000.0, min_propensity=0.05, grade=grade),
        expected=outcomes(0.002, 0.84, 900.0),
        effort="Low",
        risk="Low" if grade == "A" else "Medium",
        validation_criteria=("quality not below today's by more than 1 point",),
    )


def impact(number: int, *models: str, saving: float = 22.0) -> RuleImpact:
    """What rule r<number> does on requests that these models answer today, in equal parts."""
    return RuleImpact(
        rule_id=f"r{number}",
        requests=60_000,
        share=0.3,
        moved_share=0.8,
        today=tuple(WeightedModel(model=model, weight=1 / len(models)) for model in models),
        baseline=outcomes(0.0045, 0.842, 1_000.0),
        saving_usd_per_day=around(saving, 3.0),
        cost_change=around(-0.5, 0.05),
        quality_change=around(-0.003, 0.004),
        latency_change=around(-0.1, 0.03),
    )


def rule_set(rules: tuple[Rule, ...], **given: Any) -> RuleSet:
    values: dict[str, Any] = {
        "rule_set_id": "2026-11-23T00:00:00Z-3f9c",
        "status": "proposed" if rules else "no_change",
        "goal": "balanced",
        "constraints": Constraints(max_quality_drop=0.01),
        "window": RuleWindow(start="2026-11-16T00:00:00Z", end="2026-11-23T00:00:00Z", snapshot_id="42"),
        "rules": rules,
        "expected": expected() if rules else unchanged(),
        "validation_criteria": ("Mean quality over all requests stays at or above 0.832.",) if rules else (),
        "assumptions": ("What steered the routing is logged.",),
        "warnings": (),
    }
    return RuleSet(**(values | given))


def proposing(grade: str = "C", **given: Any) -> RoutingRules:
    """Two rules that survived their proof."""
    rules = (
        rule(1, "chat", "gpt-4o-mini", Between(lt=0.5), grade),
        rule(2, "code", "gpt-4o-mini", Between(lt=0.4), grade),
    )
    whole = outcomes(0.003, 0.84, 920.0)
    values: dict[str, Any] = {
        "rule_set": rule_set(rules),
        "reasons": ("Cheapest set whose quality is not below today's by more than 1 point.",),
        "walk": (
            Candidate(
                label="safest",
                rules=1,
                moved_share=0.3,
                outcomes=whole,
                cost_change=around(-0.2, 0.03),
                quality_change=around(0.0, 0.003),
                passed=True,
            ),
            Candidate(
                label="proposed",
                rules=2,
                moved_share=0.6,
                outcomes=whole,
                cost_change=around(-0.34, 0.03),
                quality_change=around(-0.002, 0.003),
                passed=True,
            ),
            Candidate(
                label="bolder",
                rules=3,
                moved_share=0.8,
                outcomes=whole,
                cost_change=around(-0.5, 0.03),
                quality_change=around(-0.02, 0.004),
                passed=False,
                failed_constraint="quality floor",
            ),
        ),
        "moved_share": 0.6,
        "moved_spend_share": 0.7,
        "saving_usd_per_day": around(44.0, 6.0),
        "tipping_point": around(0.016, 0.005),
        "impacts": (impact(1, "gpt-4o", "gpt-4o-mini"), impact(2, "claude-opus-4-1", "gpt-4o")),
    }
    found = RoutingRules(**(values | given))
    return found if "options" in given else found.model_copy(update={"options": (option_of(found),)})


def option_of(rules: RoutingRules, **given: Any) -> RoutingOption:
    """The proposal as the one option."""
    shared = {name: getattr(rules, name) for name in RoutingOption.model_fields.keys() & RoutingRules.model_fields.keys()}
    values: dict[str, Any] = {
        "id": "balanced",
        "name": "Balanced",
        "is_default": True,
        "saving_usd_per_month": rules.saving_usd_per_day.scaled(30) if isinstance(rules.saving_usd_per_day, Estimate) else around(0, 1),
        "cost_change": rules.rule_set.expected.change.cost_usd.relative,
        "quality_change": quality_change(rules),
        "margin": 0.008,
        "safe_margin": 0.005,
    }
    return RoutingOption(**(shared | values | given))


def proposing_nothing(**given: Any) -> RoutingRules:
    values: dict[str, Any] = {
        "rule_set": rule_set(()),
        "reasons": ("No candidate passed its proof at the safe end of its interval.",),
        "walk": (),
        "hypothesis": UnprovenHypothesis(description="easy chat to gpt-4o-mini", cost_change=around(-0.1, 0.12), requests_needed=400_000),
        "moved_share": 0.0,
        "moved_spend_share": 0.0,
        "saving_usd_per_day": Estimate(estimate=0.0, low=0.0, high=0.0),
        "tipping_point": Unidentifiable(unidentifiable="nothing is claimed"),
    }
    return RoutingRules(**(values | given))


COMPUTED = {
    *("run", "scope", "ingest", "routing_evidence", "routing_rules", "routing_rule_set"),
    *("cost_optimization_plan", "optimization_plan", "optimization_risks", "monitoring_plan", "since_last_report"),
}
"""Parts of a report that are given, or follow from what is given."""


def assembled(scope: AnalysisScope, evidence: RoutingEvidence, rules: RoutingRules, text: str | None = None, **analyses: Any) -> Report:
    """A report around these; analyses not given are blank or, with `text`, filled; the plans are computed from what is there."""
    parts = {name: _value_of(field.annotation, text) for name, field in Report.model_fields.items() if name not in COMPUTED} | analyses
    cost_plan = cost_optimization_plan(scope, rules, parts["routing_costs"], parts["cost_drivers"])
    watch = monitoring_plan(scope, evidence, rules)
    found = parts["cost_drivers"], parts["quality_issues"], parts["bottlenecks"]
    return Report(
        **parts,
        run=run_of(scope, "run-1", home="/data/home", at=GENERATED_AT),
        scope=scope,
        ingest=IngestCounts(records=100, ingested=90, quarantined=4, duplicates=6, objects=3),
        routing_evidence=evidence,
        routing_rules=rules,
        routing_rule_set=rules.rule_set,
        cost_optimization_plan=cost_plan,
        optimization_plan=optimization_plan(scope, rules, cost_plan, *found, watch.exploration),
        optimization_risks=optimization_risks(scope, evidence, rules),
        monitoring_plan=watch,
    )


def full(name: str) -> Report:
    """A report in which every table has a row and every name that a log could hold is `name`."""
    arms = (arm(name), arm("gpt-4o", cost=0.001), arm("claude-opus-4-1", supported=False))
    found = segment("easy", name, 1.0, (None, 0.5), arms)
    one = rule(1, name, name, Between(lt=0.5)).model_copy(update={"rationale": name, "fallbacks": (name,), "validation_criteria": (name,)})
    chosen = proposing(
        rule_set=rule_set((one,), assumptions=(name,), warnings=(name,)),
        reasons=(name,),
        conflicts=(Conflict(constraints=name, nearest_feasible=name),),
        hypothesis=UnprovenHypothesis(description=name, cost_change=around(-0.1, 0.12), requests_needed=400_000),
        impacts=(impact(1, name, "gpt-4o"),),
    )
    scope = scope_of(models=(name, "gpt-4o"), task_types=(name,), notices=(name,), days_to_collect=3.0)
    evidence = evidence_of(tasks=(found,), segments=(found,), grade_reason=name, warnings=(name,))
    report = assembled(scope, evidence, chosen, text=name)
    reasons = (QuarantineReason(reason=name, count=3, object=name, line=7),)
    trial = Trial(segment=name, model=name, share=0.1, traffic=0.2, requests=70, days=3.2, added_cost_usd=around(-1.0, 0.2))
    unscored = trial.model_copy(update={"days": None, "added_cost_usd": Unidentifiable(unidentifiable=name)})
    watch = report.monitoring_plan.model_copy(update={"trials": (trial, unscored)})
    return report.model_copy(
        update={
            "monitoring_plan": watch,
            "since_last_report": filled(SinceLastReport, name),
            "run": run_of(scope, "run-1", sources=(name,), quarantine_reasons=reasons, reason=name, stale_because=name, at=GENERATED_AT),
        }
    )


@pytest.fixture(scope="session")
def reports() -> dict[str, Callable[[], Report]]:
    """By what they say; built when asked for."""
    refused = "fewer than 1,000 requests; nothing can be estimated"
    nothing = proposing_nothing(hypothesis=None)
    made: dict[str, Callable[[], Report]] = {
        "empty": lambda: assembled(
            scope_of(requests=0, attempts=0, labelled=0, sessions=0, models=(), task_types=(), sources=missing_sources({})),
            evidence_of(refusal="the window holds no request", segments=(), tasks=(), requests=0, labelled=0, clusters=0),
            nothing,
        ),
        "refusal": lambda: assembled(scope_of(days_to_collect=12.0), evidence_of(refusal=refused), nothing),
        "no change": lambda: assembled(scope_of(), evidence_of("B"), proposing_nothing()),
        "rules": lambda: assembled(scope_of(), evidence_of("C"), proposing("C")),
        "proven rules": lambda: assembled(scope_of(), evidence_of("A"), proposing("A")),
        "full": lambda: full("a model"),
    }
    return {kind: cache(make) for kind, make in made.items()}


@pytest.fixture(scope="session")
def full_of() -> Callable[[str], Report]:
    """A full report of one name."""
    return cache(full)


@pytest.fixture(scope="session")
def worlds() -> SimpleNamespace:
    """The parts that reports and plans are made of."""
    return SimpleNamespace(
        **{each.__name__: each for each in (arm, around, assembled, blank, evidence_of, expected, filled, impact)},
        **{each.__name__: each for each in (proposing, proposing_nothing, option_of)},
        **{each.__name__: each for each in (rule, rule_set, scope_of, segment, unchanged)},
    )
