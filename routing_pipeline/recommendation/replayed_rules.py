"""What the logs say of rules that somebody hands over.

Belongs here: putting the replay's answer into the form in which our own rules travel, so that plans and risks can be made of both.
Does not belong here: reading such rules (`rules.reading`), the replay itself (`recommendation.simulation`), rules that we found
(`recommendation.routing_rules`).
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import ibis

from routing_pipeline.estimates import Estimate, Measured, Unidentifiable
from routing_pipeline.parameters import Goal
from routing_pipeline.policy.evidence_model import RoutingEvidence
from routing_pipeline.policy.search import MAX_COMPLETION_DROP
from routing_pipeline.recommendation.applied_limits import QualityFloor, constraints_of, quality_floor
from routing_pipeline.recommendation.offered import RoutingOption
from routing_pipeline.recommendation.own_rules import closest
from routing_pipeline.recommendation.plan_kinds import effort_of
from routing_pipeline.recommendation.question import question_of, rule_window
from routing_pipeline.recommendation.refused_rules import refuse_infeasible
from routing_pipeline.recommendation.risk_levels import risk_of_rule
from routing_pipeline.recommendation.routing_rules import Candidate, RoutingRules, difference_of_quality
from routing_pipeline.recommendation.rule_names import unknown_names
from routing_pipeline.recommendation.rule_reasons import per_call_warnings
from routing_pipeline.recommendation.rule_tiers import resolved
from routing_pipeline.recommendation.rule_traffic import RuleTraffic, Traffic, traffic_of
from routing_pipeline.recommendation.simulation import RuleReplay, Simulation, simulate
from routing_pipeline.recommendation.validation_criteria import of_a_rule
from routing_pipeline.rules.impact import RuleImpact
from routing_pipeline.rules.model import Constraints, Rule, RuleEvidence, RuleSet, WeightedModel, cannot_tell
from routing_pipeline.window.scope import AnalysisScope


def replayed(
    rule_set: RuleSet, evidence: RoutingEvidence, requests: ibis.Table, scope: AnalysisScope, known: Sequence[RoutingOption] = ()
) -> Simulation:
    """The replay of rules that somebody handed over; what they name and the window does not know is told first.

    Args:
        rule_set: from `read_given_rules`, or any other.
        evidence: of the same window.
        requests: conformed rows of the window, or the scope's sample of them.
        scope: the window, and the limits that the rules are held against.
        known: rules of ours that were found on the same sessions; what was taken from them is replayed as it was proven.

    Raises:
        UnusableInputError: they send requests where those cannot be served or where the policy forbids it, or name a tier without models.
    """
    rule_set, taken = resolved(rule_set, scope)
    refuse_infeasible(rule_set, requests, scope)
    own = closest(rule_set, known)
    learnt = () if own is None else own.halves
    simulation = simulate(rule_set, evidence, requests, scope, learnt, is_learnt_here=own is not None or _overlaps(rule_set, scope))
    notices = unknown_names(rule_set, requests, scope)
    return simulation.model_copy(update={"notices": (*taken, *notices)})


def _overlaps(rule_set: RuleSet, scope: AnalysisScope) -> bool:
    """Whether it says of itself that it was learnt on logs of some of this time."""
    start, end = rule_set.window.start, rule_set.window.end
    return bool(start and end) and start < f"{scope.end:%Y-%m-%dT%H:%M:%SZ}" and end > f"{scope.start:%Y-%m-%dT%H:%M:%SZ}"


def evaluated(
    rule_set: RuleSet, evidence: RoutingEvidence, requests: ibis.Table, scope: AnalysisScope, known: Sequence[RoutingOption] = ()
) -> RoutingRules:
    """Replay the rules on the sessions that no search has seen, and say it as an optimisation says it of its own rules.

    Arguments as `replayed`.
    """
    rule_set, taken = resolved(rule_set, scope)
    simulation = replayed(rule_set, evidence, requests, scope, known)
    traffic = traffic_of(requests, rule_set)
    by_rule = {each.rule_id: each for each in simulation.by_rule}
    per_day = 1 / max(scope.covered_days, 1e-9)
    parts = [traffic.by_rule.get(place, RuleTraffic()) for place in range(len(rule_set.rules))]
    of_each = list(zip(rule_set.rules, parts, strict=True))
    impacts = tuple(_impact(rule, part, traffic, by_rule.get(rule.id), evidence.traffic * per_day) for rule, part in of_each)
    whole = rule_set.model_copy(
        update={
            "expected": simulation.expected,
            "constraints": _constraints(evidence, scope, rule_set.goal),
            "window": rule_window(scope),
            "warnings": (*evidence.warnings, *per_call_warnings(evidence, scope)),
            "unit": simulation.unit,
        }
    )
    floor = quality_floor(whole)
    tolerance = scope.parameters.max_quality_drop if floor is None else floor.tolerance
    rules = tuple(
        _evaluated_rule(*each, impact, by_rule.get(each[0].id), evidence, tolerance) for each, impact in zip(of_each, impacts, strict=True)
    )
    change = difference_of_quality(simulation.expected)
    saving = simulation.saving_usd
    return RoutingRules(
        rule_set=whole.model_copy(update={"rules": rules, "validation_criteria": tuple(_limits(floor, scope))}),
        reasons=(simulation.verdict,),
        walk=(_candidate(simulation, len(rules), change),),
        moved_share=traffic.moved_share,
        moved_spend_share=traffic.moved_spend_share,
        saving_usd_per_day=saving if isinstance(saving, Unidentifiable) else saving.scaled(per_day),
        tipping_point=_tipping(change, traffic.moved_share, floor),
        impacts=impacts,
        notices=(*taken, *simulation.notices),
    )


def _candidate(simulation: Simulation, rules: int, quality_change: Measured) -> Candidate:
    unproven = next(iter(simulation.unproven_limits), None) if isinstance(quality_change, Estimate) else "quality cannot be estimated"
    return Candidate(
        label="the rules given",
        rules=rules,
        moved_share=simulation.moved_share,
        outcomes=simulation.expected.proposed,
        cost_change=simulation.expected.change.cost_usd.relative,
        quality_change=quality_change,
        passed=unproven is None,
        failed_constraint=unproven,
        broken_constraint="; ".join(simulation.broken_limits) or None,
    )


def _constraints(evidence: RoutingEvidence, scope: AnalysisScope, goal: Goal) -> Constraints:
    if evidence.refusal is not None or evidence.cells_uri is None:
        return constraints_of(scope.parameters)
    question = question_of(evidence, scope, goal)
    return constraints_of(scope.parameters, question.limits, question.cube.models)


def _impact(rule: Rule, part: RuleTraffic, traffic: Traffic, found: RuleReplay | None, requests_per_day: float) -> RuleImpact:
    """What a rule does by itself, in the form in which our own rules tell it."""
    unknown = Unidentifiable(unidentifiable="no request that the rule decides for was replayed")
    baseline = cannot_tell(unknown.unidentifiable) if found is None else found.expected.baseline
    share = part.requests / traffic.requests if traffic.requests else 0.0
    cost: Measured = unknown if found is None else found.expected.change.cost_usd.relative
    saving: Measured = cost
    if isinstance(cost, Estimate):
        now = baseline.cost_usd
        saving = cost.scaled(-now.estimate * share * requests_per_day) if isinstance(now, Estimate) else now
    largest = sorted(part.today.items(), key=lambda each: (-each[1], each[0]))
    return RuleImpact(
        rule_id=rule.id,
        requests=round(part.requests),
        share=min(share, 1.0),
        moved_share=min(part.moved / part.requests, 1.0) if part.requests else 0.0,
        moved_spend_share=min(part.moved_spend / traffic.spend, 1.0) if traffic.spend else None,
        today=tuple(WeightedModel(model=model, weight=min(requests / part.requests, 1.0)) for model, requests in largest),
        baseline=baseline,
        saving_usd_per_day=saving,
        cost_change=cost,
        quality_change=unknown if found is None else found.quality_change,
        latency_change=unknown if found is None else found.expected.change.latency_ms.relative,
    )


def _evaluated_rule(
    rule: Rule, part: RuleTraffic, impact: RuleImpact, found: RuleReplay | None, evidence: RoutingEvidence, tolerance: float
) -> Rule:
    new_models = 0 if part.served > 0 or rule.route == "unchanged" else 1
    expected = cannot_tell("no request that the rule decides for was replayed") if found is None else found.expected.proposed
    calls = None if evidence.sessions is None or rule.per != "session" else evidence.sessions.calls
    session = calls.estimate if isinstance(calls, Estimate) else None
    success = () if found is None else (found.success_today, *([found.success.estimate] if isinstance(found.success, Estimate) else []))
    return rule.model_copy(
        update={
            "rationale": f"Given; it decides for {part.requests:,.0f} requests of the window and moves {part.moved:,.0f} of them.",
            "evidence": RuleEvidence(
                requests=round(part.requests),
                labelled=round(part.labelled),
                effective_sample_size=part.scored,
                grade=evidence.grade,
            ),
            "expected": expected,
            "effort": effort_of(rules=1, new_models=new_models)[0],
            "risk": risk_of_rule(evidence.grade, impact, tolerance).level,
            "validation_criteria": of_a_rule(expected, impact.baseline, success, tolerance, session),
        }
    )


def _limits(floor: QualityFloor | None, scope: AnalysisScope) -> Iterator[str]:
    """The limits that a trial of rules from elsewhere is held to."""
    if floor is not None:
        yield f"Mean quality over all requests stays at or above {floor.floor:.3f} (today {floor.today:.3f}) in an A/B test."
    yield f"Completion falls by no more than {100 * MAX_COMPLETION_DROP:.1f} %."
    if scope.parameters.cost_threshold is not None:
        yield f"Cost per request stays at or below ${scope.parameters.cost_threshold:g}."


def _tipping(change: Measured, moved_share: float, floor: QualityFloor | None) -> Measured:
    """(change + tolerance) / share moved: the average overstatement on moved requests that would break the quality limit."""
    if isinstance(change, Unidentifiable):
        return change
    if moved_share <= 0 or floor is None:
        return Unidentifiable(unidentifiable="nothing is moved" if floor is not None else "today's quality is not known")
    return change.shifted(floor.allowed_fall).scaled(1 / moved_share)
