"""`assess_optimization_risks`: how likely each change is to do harm, how far the harm reaches, and what stops it.

Belongs here: probabilities from the evidence's own intervals, tipping points, blast radius, and the mitigation that
fits. Does not belong here: the evidence (`policy`), sample sizes of the canary (`recommendation.monitoring_plan`).
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

import ibis
from pydantic import Field
from scipy import stats

from routing_pipeline.comparisons import around, standard_error, weighted_sum
from routing_pipeline.estimates import Estimate, Measured, Result, Unidentifiable, quantity
from routing_pipeline.policy.evidence_model import ArmEvidence, RoutingEvidence, SegmentEvidence
from routing_pipeline.policy.rule_set import Between, Grade, Level, Rule, RuleSet, When
from routing_pipeline.recommendation.routing_rules import RoutingRules
from routing_pipeline.scope import AnalysisScope

LATENCY_TOLERANCE = 0.10
"""Mean latency may rise by this share of today's before it counts as harm."""
UNLIKELY = 0.05
LIKELY = 0.20
MAX_RULES = 20
MAX_TEAMS = 20
FIRST_STEP: dict[Level, float] = {"Low": 0.05, "Medium": 0.01, "High": 0.01}
WHOLE_SET = "rule_set"


class Chance(Result):
    """The probability of a bad outcome, from an estimate and its interval by the normal approximation."""

    probability: float = quantity("Chance of the bad outcome", "0..1", ge=0, le=1)
    threshold: float = quantity("What counts as bad, in the unit of `estimate`", "as estimate")
    estimate: float = quantity("Estimated change that the chance is computed from", "as the field says")


class BlastRadius(Result):
    """How much is hit when the change goes wrong."""

    traffic_share: float = quantity("Share of final requests that the change touches", "0..1")
    spend_share: float | None = quantity("Share of spend that they make up; null when unknown", "0..1", default=None)
    task_types: tuple[str, ...] = Field(description="Task types that the change names; empty means any")
    teams: tuple[str, ...] = Field(default=(), description="Largest first, at most 20")
    teams_known: bool = Field(default=False, description="Requests were counted by team; otherwise no team is listed")
    other_teams: int = quantity("Teams hit beyond those listed", "teams", default=0)


class Mitigation(Result):
    """What keeps a bad outcome small."""

    canary_share: float = quantity("Share of the change's traffic to start with", "0..1")
    guardrail: str
    rollback_trigger: str
    rollback: str = Field(description="How to undo it")


class ChangeRisk(Result):
    """One change and what could go wrong with it."""

    id: str
    title: str
    judged_on: Literal["all requests", "requests it moves"] = Field(description="Which requests' means the chances speak of")
    quality_falls: Chance | Unidentifiable = Field(description="Mean quality falls by more than the tolerance")
    latency_rises: Chance | Unidentifiable = Field(description="Mean latency rises by more than a tenth of today's")
    cost_rises: Chance | Unidentifiable = Field(description="Cost per request rises at all")
    tipping_point: Measured = quantity("Hidden overstatement of quality on moved traffic that would undo the claim", "0..1")
    sensitivity: str = Field(description="What the tipping point means here, in words")
    blast_radius: BlastRadius
    mitigation: Mitigation
    risk: Level
    why: str


class OptimizationRisks(Result):
    """The answer to `assess_optimization_risks`."""

    quality_tolerance: float = quantity("Fall of mean quality that counts as harm", "0..1")
    changes: tuple[ChangeRisk, ...]
    general: tuple[str, ...] = Field(description="Risks that no single change carries")
    overall: Level
    verdict: str = Field(description="One sentence for a manager")


@dataclass(frozen=True)
class Hit:
    """What one rule decides: final requests and spend, and which teams they are of."""

    requests: int
    spend_usd: float
    teams: tuple[str, ...]


def traffic_hit(requests: ibis.Table, rule_set: RuleSet) -> dict[str, Hit]:
    """By rule id, the traffic of the window that the rule would decide; one pass over the rows."""
    final = requests.filter(requests.is_final)
    ordered = sorted(rule_set.rules, key=lambda rule: rule.priority)
    if not ordered:
        return {}
    # The first rule that holds decides, as in RuleSet.deciding_rule; ids are numbers here, so no text reaches the engine.
    number = ibis.literal(len(ordered), "int64")
    for index, rule in reversed(list(enumerate(ordered))):
        number = ibis.ifelse(rule.when.holds(final), ibis.literal(index, "int64"), number)
    rows = (
        final.mutate(rule=number)
        .group_by("rule", "team")
        .agg(requests=lambda t: t.count(), spend_usd=lambda t: t.request_cost_usd.sum().fill_null(0.0))
        .to_pyarrow()
        .to_pylist()
    )
    hits: dict[str, Hit] = {}
    for index, rule in enumerate(ordered):
        mine = sorted((row for row in rows if row["rule"] == index), key=lambda row: (-row["requests"], row["team"] or ""))
        hits[rule.id] = Hit(
            requests=sum(row["requests"] for row in mine),
            spend_usd=math.fsum(row["spend_usd"] for row in mine),
            teams=tuple(row["team"] for row in mine if row["team"] is not None),
        )
    return hits


def optimization_risks(
    scope: AnalysisScope, evidence: RoutingEvidence, rules: RoutingRules, requests: ibis.Table | None = None
) -> OptimizationRisks:
    """Judge the rule set as a whole and each of its rules.

    Args:
        scope: window and parameters; the tolerance is its `max_quality_drop`, or what its threshold leaves.
        evidence: changes against today's routing by segment and model.
        rules: the rule set, its proof and its tipping point.
        requests: rows of the window (schema.SCOPED_REQUESTS), to name the teams hit; without them none is named.
    """
    tolerance = _tolerance(scope, rules.rule_set.expected.baseline.quality)
    hits = None if requests is None else traffic_hit(requests, rules.rule_set)
    ordered = sorted(rules.rule_set.rules, key=lambda rule: rule.priority)
    if not ordered:
        return OptimizationRisks(
            quality_tolerance=tolerance,
            changes=(),
            general=_general(scope, evidence, 0, has_rules=False),
            overall="Low",
            verdict="No change is proposed, so no change can do harm; what today's routing wastes goes on until the logs can tell more.",
        )
    whole = _whole_set(scope, evidence, rules, tolerance, hits)
    moved = _segments_of(ordered, evidence)
    each = tuple(_one_rule(rule, moved[rule.id], rules, tolerance, hits, scope.requests) for rule in ordered[:MAX_RULES])
    # A rule set of one rule is that rule: saying it twice helps nobody.
    changes = (whole, *each) if len(ordered) > 1 else (whole,)
    return OptimizationRisks(
        quality_tolerance=tolerance,
        changes=changes,
        general=_general(scope, evidence, len(ordered) - len(each), has_rules=True),
        overall=whole.risk,
        verdict=_verdict(whole, evidence.grade, tolerance),
    )


def risk_of_set(scope: AnalysisScope, rules: RoutingRules) -> tuple[Level, str]:
    """The risk of the rule set as a whole and why: one level, wherever the set is spoken of; its rules have levels of their own."""
    expected = rules.rule_set.expected
    falls = chance_below(proven_quality(rules), -_tolerance(scope, expected.baseline.quality))
    grade: Grade = max((rule.evidence.grade for rule in rules.rule_set.rules), default="A")
    return _level(grade, falls, chance_above(expected.change.latency_ms.relative, LATENCY_TOLERANCE))


def proven_quality(rules: RoutingRules) -> Measured:
    """Change of mean quality over all requests: that of the proof, else what the rule set says of itself."""
    expected = rules.rule_set.expected
    proven = next((candidate for candidate in reversed(rules.walk) if candidate.passed), None)
    return proven.quality_change if proven is not None else _absolute(expected.change.quality.relative, expected.baseline.quality)


def _tolerance(scope: AnalysisScope, today: Measured) -> float:
    threshold = scope.parameters.quality_threshold
    if threshold is not None and isinstance(today, Estimate):
        return max(today.estimate - threshold, 0.0)
    return scope.parameters.max_quality_drop


def chance_above(change: Measured, threshold: float) -> Chance | Unidentifiable:
    """P(change > threshold) = Phi((estimate - threshold) / standard error), the error read back from the interval."""
    if isinstance(change, Unidentifiable):
        return change
    error = standard_error(change)
    if error == 0:
        probability = 1.0 if change.estimate > threshold else 0.0
    else:
        probability = float(stats.norm.cdf((change.estimate - threshold) / error))
    return Chance(probability=probability, threshold=threshold, estimate=change.estimate)


def chance_below(change: Measured, threshold: float) -> Chance | Unidentifiable:
    """P(change < threshold), by the same approximation."""
    if isinstance(change, Unidentifiable):
        return change
    mirrored = chance_above(change.scaled(-1.0), -threshold)
    if isinstance(mirrored, Unidentifiable):
        return mirrored
    return Chance(probability=mirrored.probability, threshold=threshold, estimate=change.estimate)


def _whole_set(
    scope: AnalysisScope, evidence: RoutingEvidence, rules: RoutingRules, tolerance: float, hits: dict[str, Hit] | None
) -> ChangeRisk:
    expected = rules.rule_set.expected
    quality_falls = chance_below(proven_quality(rules), -tolerance)
    latency_rises = chance_above(expected.change.latency_ms.relative, LATENCY_TOLERANCE)
    cost_rises = chance_above(expected.change.cost_usd.relative, 0.0)
    risk, why = risk_of_set(scope, rules)
    tasks = {task for rule in rules.rule_set.rules for task in rule.when.task_type or ()}
    names_any = any(rule.when.task_type is None for rule in rules.rule_set.rules)
    teams: dict[str, None] = {}
    for hit in (hits or {}).values():
        teams |= dict.fromkeys(hit.teams)
    radius = BlastRadius(
        traffic_share=rules.moved_share,
        spend_share=rules.moved_spend_share,
        task_types=() if names_any else tuple(sorted(tasks)),
        teams=tuple(teams)[:MAX_TEAMS],
        teams_known=hits is not None,
        other_teams=max(len(teams) - MAX_TEAMS, 0),
    )
    return ChangeRisk(
        id=WHOLE_SET,
        title=f"The whole rule set ({len(rules.rule_set.rules)} rules)",
        judged_on="all requests",
        quality_falls=quality_falls,
        latency_rises=latency_rises,
        cost_rises=cost_rises,
        tipping_point=rules.tipping_point,
        sensitivity=_sensitivity(rules.tipping_point, evidence.grade),
        blast_radius=radius,
        mitigation=_mitigation(risk),
        risk=risk,
        why=why,
    )


def _absolute(relative: Measured, baseline: Measured) -> Measured:
    if isinstance(relative, Unidentifiable):
        return relative
    return relative.scaled(baseline.estimate) if isinstance(baseline, Estimate) else baseline


def _level(grade: Grade, quality_falls: Chance | Unidentifiable, latency_rises: Chance | Unidentifiable) -> tuple[Level, str]:
    if isinstance(quality_falls, Unidentifiable):
        return "High", "the logs cannot tell what happens to quality"
    likely = quality_falls.probability
    slower = latency_rises.probability if isinstance(latency_rises, Chance) else 0.0
    if likely >= LIKELY:
        return "High", f"quality falls by more than the tolerance with a probability of {100 * likely:.0f} %"
    if grade == "A" and likely < UNLIKELY and slower < LIKELY:
        return "Low", "randomised or known routing probabilities, and a fall of quality is unlikely"
    if grade != "A":
        return "Medium", f"evidence of grade {grade}: what the logs do not hold may have steered the routing"
    return (
        "Medium",
        f"quality falls by more than the tolerance with a probability of {100 * likely:.0f} %, latency rises with one of {100 * slower:.0f} %",
    )


def _mitigation(risk: Level) -> Mitigation:
    share = FIRST_STEP[risk]
    return Mitigation(
        canary_share=share,
        guardrail="Mean quality of the moved requests against control, looked at daily; with it errors, mean latency and cost per request",
        rollback_trigger=(
            "The difference in quality crosses the day's boundary of the monitoring plan, or completion falls by half a point, "
            f"or mean latency rises by more than {100 * LATENCY_TOLERANCE:.0f} %"
        ),
        rollback=(
            "Whoever runs the canary takes the rules out of the gateway, and runs routing-pipeline roll-back where they were published: "
            "the default route is unchanged, so the gateway's own choice decides again"
        ),
    )


def _sensitivity(tipping: Measured, grade: Grade) -> str:
    if isinstance(tipping, Unidentifiable):
        return f"How much hidden bias the claim bears cannot be told: {tipping.unidentifiable}"
    safe = min(tipping.estimate, tipping.low) * 100
    if safe <= 0:
        return "No hidden bias is needed to undo the claim: its safe end does not hold by itself"
    told = f"Were quality on the moved requests overstated by {safe:.2g} points of 100 on average, the claim would no longer hold"
    if grade == "A":
        return f"{told}; randomised routing leaves little room for that"
    return f"{told}; only a randomised test can exclude that"


def _within(inner: Between | None, outer: Between | None) -> bool:
    if outer is None:
        return True
    if inner is None:
        return False
    low = outer.gte is None or (inner.gte is not None and inner.gte >= outer.gte)
    return low and (outer.lt is None or (inner.lt is not None and inner.lt <= outer.lt))


def covers(rule: When, segment: When) -> bool:
    """Whether every request of the segment meets the rule's conditions."""
    for name in ("task_type", "team", "tier"):
        asked, held = getattr(rule, name), getattr(segment, name)
        if asked is not None and (held is None or not set(held) <= set(asked)):
            return False
    return _within(segment.complexity, rule.complexity) and _within(segment.prompt_tokens, rule.prompt_tokens)


def _segments_of(ordered: Sequence[Rule], evidence: RoutingEvidence) -> dict[str, list[SegmentEvidence]]:
    """Segments by the first rule that covers them whole; a segment cut by a rule belongs to none."""
    found: dict[str, list[SegmentEvidence]] = {rule.id: [] for rule in ordered}
    for segment in (*evidence.segments, *(() if evidence.segments else evidence.tasks)):
        rule = next((each for each in ordered if covers(each.when, segment.when)), None)
        if rule is not None:
            found[rule.id].append(segment)
    return found


def _one_rule(
    rule: Rule,
    segments: list[SegmentEvidence],
    rules: RoutingRules,
    tolerance: float,
    hits: dict[str, Hit] | None,
    requests: int,
) -> ChangeRisk:
    hit = (hits or {}).get(rule.id)
    traffic = hit.requests / requests if hit is not None and requests else math.fsum(segment.share for segment in segments)
    quality = _on_moved(rule, segments, "quality_change")
    quality_falls = chance_below(quality, -tolerance)
    latency_rises = chance_above(_over(_on_moved(rule, segments, "latency_change_ms"), _latency_today(segments)), LATENCY_TOLERANCE)
    tipping = _tipping(quality, tolerance)
    risk, why = _level(rule.evidence.grade, quality_falls, latency_rises)
    teams = hit.teams if hit is not None else rule.when.team or ()
    return ChangeRisk(
        id=rule.id,
        title=_title(rule),
        judged_on="requests it moves",
        quality_falls=quality_falls,
        latency_rises=latency_rises,
        cost_rises=chance_above(_on_moved(rule, segments, "cost_change_usd"), 0.0),
        tipping_point=tipping,
        sensitivity=_sensitivity(tipping, rule.evidence.grade),
        blast_radius=BlastRadius(
            traffic_share=min(traffic, 1.0),
            spend_share=_spend_share(hit, hits, rules),
            task_types=rule.when.task_type or (),
            teams=tuple(teams)[:MAX_TEAMS],
            teams_known=hit is not None,
            other_teams=max(len(teams) - MAX_TEAMS, 0),
        ),
        mitigation=_mitigation(risk),
        risk=risk,
        why=why,
    )


def _latency_today(segments: list[SegmentEvidence]) -> float | None:
    told = [(segment.share, segment.latency_ms) for segment in segments if isinstance(segment.latency_ms, Estimate)]
    total = math.fsum(share for share, _ in told)
    return math.fsum(share * latency.estimate for share, latency in told) / total if total > 0 else None


def _over(change: Measured, today: float | None) -> Measured:
    if isinstance(change, Unidentifiable):
        return change
    return change.scaled(1 / today) if today else Unidentifiable(unidentifiable="today's latency of these requests is not known")


def _spend_share(hit: Hit | None, hits: dict[str, Hit] | None, rules: RoutingRules) -> float | None:
    """The rule's part of the spend that moves; the whole's share of all spend is the rule set's own number."""
    total = math.fsum(each.spend_usd for each in (hits or {}).values())
    return None if hit is None or total <= 0 else min(rules.moved_spend_share * hit.spend_usd / total, 1.0)


def _title(rule: Rule) -> str:
    if rule.route == "unchanged":
        return f"Rule {rule.id}: left unchanged"
    return f"Rule {rule.id}: to " + ", ".join(target.model for target in rule.route)


def _on_moved(rule: Rule, segments: list[SegmentEvidence], outcome: str) -> Measured:
    """Mean change over the rule's requests: sum of share x change over sum of share.

    Segments are taken as independent, the targets of a weighted route as not.
    """
    if rule.route == "unchanged":
        return Estimate(estimate=0.0, low=0.0, high=0.0)
    if not segments:
        return Unidentifiable(unidentifiable="the rule's edges cut through the evidence's segments; the whole rule set was proven instead")
    share = math.fsum(segment.share for segment in segments)
    estimate, variance = 0.0, 0.0
    for segment in segments:
        arms = {arm.model: arm for arm in segment.arms}
        routed = weighted_sum([(target.weight, _change(arms.get(target.model), outcome)) for target in rule.route])
        if isinstance(routed, Unidentifiable):
            return routed
        estimate += segment.share / share * routed.estimate
        variance += (segment.share / share * standard_error(routed)) ** 2
    return around(estimate, math.sqrt(variance))


def _change(arm: ArmEvidence | None, outcome: str) -> Measured:
    if arm is None or not arm.supported:
        return Unidentifiable(unidentifiable="the logs hold too few requests of the rule's model in a part of its traffic")
    found: Measured = getattr(arm, outcome)
    return found


def _tipping(quality: Measured, tolerance: float) -> Measured:
    """Tolerance + change: the average overstatement on the moved requests that would undo the claim."""
    if isinstance(quality, Unidentifiable):
        return Unidentifiable(unidentifiable="what the rule does to quality cannot be told by itself")
    ends = (quality.estimate, quality.low, quality.high)
    return Estimate(**dict(zip(("estimate", "low", "high"), (tolerance + end for end in ends), strict=True)), level=quality.level)


def _general(scope: AnalysisScope, evidence: RoutingEvidence, unlisted: int, *, has_rules: bool) -> tuple[str, ...]:
    told: list[str] = []
    if unlisted > 0:
        told.append(f"{unlisted} further rules are judged as part of the whole set alone.")
    if evidence.refusal is not None:
        told.append(f"Nothing can be estimated from these logs: {evidence.refusal}")
    if evidence.grade != "A" and has_rules:
        told.append(
            "A cause that the router saw and the logs do not hold would bias every number here the same way; see the tipping points."
        )
    if evidence.labelled < scope.requests:
        told.append("Scores may be given to unusual answers; the correction knows only what the logs hold.")
    if has_rules:
        told.append("More traffic on a model can slow it down or meet its rate limits; latency under more load is extrapolated.")
        told.append("Moving a conversation to another model loses the provider's prompt cache for it; keep sessions on one model.")
    told.append("A new version of a model is a new model: the evidence does not carry over.")
    return tuple(told)


def _verdict(whole: ChangeRisk, grade: Grade, tolerance: float) -> str:
    if isinstance(whole.quality_falls, Unidentifiable):
        return "What the change does to quality cannot be told from these logs; do not roll it out without a randomised test."
    likely = whole.quality_falls.probability
    words = "below 1 %" if likely < 0.01 else f"about {100 * likely:.0f} %"
    told = f"The chance that quality falls by more than {tolerance * 100:.1f} points is {words}"
    return f"{told}." if grade == "A" else f"{told}, provided that nothing unlogged steered the routing (grade {grade})."
