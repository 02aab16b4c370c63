"""`assess_optimization_risks`: how likely each change is to do harm, how far the harm reaches, and what stops it.

Belongs here: the changes with their risks, tipping points, blast radius, and the mitigation that fits. Does not belong here: chances and
levels (`recommendation.risk_levels`), the evidence (`policy`), sample sizes of the canary (`recommendation.monitoring_plan`).
"""

from __future__ import annotations

import math
from typing import ClassVar, Literal

import ibis
from pydantic import Field

from routing_pipeline import text
from routing_pipeline.estimates import Measured, Result, Unidentifiable, quantity
from routing_pipeline.policy.evidence_model import RoutingEvidence
from routing_pipeline.policy.proof import level_of
from routing_pipeline.recommendation.applied_limits import quality_floor
from routing_pipeline.recommendation.risk_levels import LATENCY_TOLERANCE, Chance, Risk, risk_of, risk_of_rule
from routing_pipeline.recommendation.routing_rules import RoutingRules, quality_change
from routing_pipeline.recommendation.rule_traffic import teams_by_rule
from routing_pipeline.rules.impact import RuleImpact
from routing_pipeline.rules.model import Grade, Level, Rule
from routing_pipeline.text import LogName
from routing_pipeline.window.scope import AnalysisScope

MAX_RULES = 20
MAX_TEAMS = 20
FIRST_STEP: dict[Level | None, float] = {"Low": 0.05, "Medium": 0.01, "High": 0.01, None: 0.01}
WHOLE_SET = "rule_set"
LIKELIER_THAN_NOT = 0.5


class BlastRadius(Result):
    """How much is hit when the change goes wrong."""

    traffic_share: float = quantity("Share of all requests that change model", "0..1")
    spend_share: float | None = quantity("Share of spend that those make up; null when unknown", "0..1", default=None)
    decided_share: float | None = quantity(
        "Share of all requests that the change decides for, those included that stay with their model; null when unknown",
        "0..1",
        default=None,
    )
    task_types: tuple[LogName, ...] = Field(description="Task types that the change names; empty means any")
    teams: tuple[LogName, ...] = Field(default=(), description="Largest first, at most 20")
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
    judged_on: Literal["all requests", "requests it decides"] = Field(description="Which requests' means the chances speak of")
    quality_falls: Chance | Unidentifiable = Field(
        description="Mean quality falls by more than the tolerance; of the whole set, below the floor"
    )
    latency_rises: Chance | Unidentifiable = Field(description="Mean latency rises by more than a tenth of today's")
    cost_rises: Chance | Unidentifiable = Field(description="Cost per request rises at all")
    tipping_point: Measured = quantity("Hidden overstatement of quality on moved traffic that would undo the claim", "0..1")
    sensitivity: str = Field(description="What the tipping point means here, in words")
    blast_radius: BlastRadius
    mitigation: Mitigation
    risk: Level | None = Field(description="Null for a rule that matches no request of the window: nothing is known about it")
    why: str


class OptimizationRisks(Result):
    """The answer to `assess_optimization_risks`."""

    main_table: ClassVar = "changes"

    quality_tolerance: float = quantity(
        "Fall of mean quality that counts as harm: today's less the floor; negative where quality has to rise", "0..1"
    )
    quality_floor: float | None = quantity("Least mean quality that the rules are held to; null when unknown", "0..1", default=None)
    changes: tuple[ChangeRisk, ...]
    general: tuple[str, ...] = Field(description="Risks that no single change carries")
    overall: Level | None = Field(description="Null where no rule matches a request of the window")
    verdict: str = Field(description="One sentence for a manager")
    notices: tuple[str, ...] = Field(
        default=(), description="What the rules name and the window does not know, and rules that match nothing"
    )


def optimization_risks(
    scope: AnalysisScope, evidence: RoutingEvidence, rules: RoutingRules, requests: ibis.Table | None = None
) -> OptimizationRisks:
    """Assess the rule set as a whole and each of its rules.

    Args:
        scope: window and parameters.
        evidence: its grade, and what it refuses.
        rules: the rule set with its limits, its proof, what each rule does on the held-out sessions, and its tipping point.
        requests: rows of the window (schema.SCOPED_REQUESTS), to name the teams hit; without them none is named.
    """
    floor = quality_floor(rules.rule_set)
    tolerance = scope.parameters.max_quality_drop if floor is None else floor.allowed_fall
    level = None if floor is None else floor.floor
    ordered = sorted(rules.rule_set.rules, key=lambda rule: rule.priority)
    if not ordered:
        return OptimizationRisks(
            quality_tolerance=tolerance,
            quality_floor=level,
            changes=(),
            general=_general(scope, evidence, 0, has_rules=False),
            overall="Low",
            verdict="No change is proposed, so there is no new risk. Today's waste continues until there is more evidence.",
            notices=rules.notices,
        )
    teams = None if requests is None else teams_by_rule(requests, rules.rule_set)
    whole = _whole_set(evidence, rules, teams)
    impacts = {impact.rule_id: impact for impact in rules.impacts}
    each = tuple(_one_rule(rule, impacts.get(rule.id), max(tolerance, 0.0), teams) for rule in ordered[:MAX_RULES])
    return OptimizationRisks(
        quality_tolerance=tolerance,
        quality_floor=level,
        changes=(whole, *each),
        general=_general(scope, evidence, len(ordered) - len(each), has_rules=True),
        overall=whole.risk,
        verdict=_verdict(whole, evidence.grade, tolerance, level, _because(rules)),
        notices=rules.notices,
    )


def risk_of_set(rules: RoutingRules) -> Risk:
    """The risk of the rule set as a whole, wherever the set is spoken of; its rules have levels of their own."""
    expected, floor = rules.rule_set.expected, quality_floor(rules.rule_set)
    grade: Grade = max((rule.evidence.grade for rule in rules.rule_set.rules), default="A")
    least = 0.0 if floor is None else -floor.allowed_fall
    at_most = 1.0 - level_of(rules.look) if rules.options and rules.look else 1.0
    change = expected.change
    return risk_of(grade, quality_change(rules), least, change.latency_ms.relative, change.cost_usd.relative, proven_at_most=at_most)


def why_not_to_start(rules: RoutingRules) -> str | None:
    """Why rules that were handed over should not be tried as they are; None where an A/B test is the way to find out, or they are proven."""
    if not rules.rule_set.rules:
        return None
    if not _matches(rules):
        return f"no request of the window matches{_because(rules)}"
    if rules.moved_share <= 0:
        return "no request of the window would go to another model than today"
    if any(candidate.passed for candidate in rules.walk):
        return None
    falls = risk_of_set(rules).quality_falls
    if isinstance(falls, Unidentifiable):
        return f"the effect on quality cannot be estimated: {falls.unidentifiable}"
    if falls.probability >= LIKELIER_THAN_NOT:
        floor = quality_floor(rules.rule_set)
        below = "more than allowed" if floor is None else f"to below the floor of {floor.floor:.3f}"
        likely = f"{100 * falls.probability:.0f} %" if falls.probability < 0.995 else "more than 99 %"
        return f"mean quality is estimated to change by {100 * falls.estimate:+.2f} points, {below} (chance {likely})"
    broken = next((candidate.broken_constraint for candidate in reversed(rules.walk)), None)
    return None if broken is None else f"the estimate breaks a limit: {broken}"


def _matches(rules: RoutingRules) -> bool:
    """Whether any rule decides for a request; rules whose traffic was not counted may."""
    return not rules.impacts or any(impact.requests > 0 for impact in rules.impacts)


def _because(rules: RoutingRules) -> str:
    return f" ({text.clauses(rules.notices[:1])})" if rules.notices else ""


def _whole_set(evidence: RoutingEvidence, rules: RoutingRules, teams: dict[str, tuple[str, ...]] | None) -> ChangeRisk:
    risk = risk_of_set(rules)
    tasks = {task for rule in rules.rule_set.rules for task in rule.when.task_type or ()}
    names_any = any(rule.when.task_type is None for rule in rules.rule_set.rules)
    hit = dict.fromkeys(team for of_rule in (teams or {}).values() for team in of_rule)
    decided = math.fsum(impact.share for impact in rules.impacts) if rules.impacts else None
    level, why = (risk.level, risk.why) if _matches(rules) else (None, NOTHING_MATCHES)
    return ChangeRisk(
        id=WHOLE_SET,
        title=f"The whole rule set ({len(rules.rule_set.rules)} rule{'s' if len(rules.rule_set.rules) > 1 else ''})",
        judged_on="all requests",
        quality_falls=risk.quality_falls,
        latency_rises=risk.latency_rises,
        cost_rises=risk.cost_rises,
        tipping_point=rules.tipping_point,
        sensitivity=_sensitivity(rules.tipping_point, evidence.grade),
        blast_radius=BlastRadius(
            traffic_share=rules.moved_share,
            spend_share=rules.moved_spend_share,
            decided_share=None if decided is None else min(decided, 1.0),
            task_types=() if names_any else tuple(sorted(tasks)),
            teams=tuple(hit)[:MAX_TEAMS],
            teams_known=teams is not None,
            other_teams=max(len(hit) - MAX_TEAMS, 0),
        ),
        mitigation=_mitigation(level),
        risk=level,
        why=why,
    )


NOTHING_MATCHES = "no request of the window meets its conditions, so its effect cannot be estimated"
NOT_COUNTED = Unidentifiable(unidentifiable=NOTHING_MATCHES)


def _one_rule(rule: Rule, impact: RuleImpact | None, tolerance: float, teams: dict[str, tuple[str, ...]] | None) -> ChangeRisk:
    matches = impact is None or impact.requests > 0
    risk = risk_of_rule(rule.evidence.grade, impact, tolerance)
    tipping = _tipping(impact, tolerance)
    hit = rule.when.team or () if teams is None else teams.get(rule.id, ())
    return ChangeRisk(
        id=rule.id,
        title=_title(rule),
        judged_on="requests it decides",
        quality_falls=risk.quality_falls if matches else NOT_COUNTED,
        latency_rises=risk.latency_rises if matches else NOT_COUNTED,
        cost_rises=risk.cost_rises if matches else NOT_COUNTED,
        tipping_point=tipping,
        sensitivity=_sensitivity(tipping, rule.evidence.grade),
        blast_radius=BlastRadius(
            traffic_share=0.0 if impact is None else min(impact.share * impact.moved_share, 1.0),
            spend_share=None if impact is None else impact.moved_spend_share,
            decided_share=None if impact is None else impact.share,
            task_types=rule.when.task_type or (),
            teams=tuple(hit)[:MAX_TEAMS],
            teams_known=teams is not None,
            other_teams=max(len(hit) - MAX_TEAMS, 0),
        ),
        mitigation=_mitigation(risk.level if matches else None),
        risk=risk.level if matches else None,
        why=risk.why if matches else NOTHING_MATCHES,
    )


def _mitigation(risk: Level | None) -> Mitigation:
    share = FIRST_STEP[risk]
    return Mitigation(
        canary_share=share,
        guardrail="Daily comparison of the moved requests with control: mean quality, errors, mean latency and cost per request",
        rollback_trigger=(
            "The difference in quality crosses the day's boundary of the monitoring plan, or completion falls by half a point, "
            f"or mean latency rises by more than {100 * LATENCY_TOLERANCE:.0f} %"
        ),
        rollback=(
            "The team that runs the canary removes the rules from the gateway, and runs routing-pipeline roll-back if they were published. "
            "The default route is unchanged, so the gateway's own choice applies again"
        ),
    )


def _sensitivity(tipping: Measured, grade: Grade) -> str:
    if isinstance(tipping, Unidentifiable):
        return f"The effect of hidden bias cannot be estimated: {tipping.unidentifiable}"
    safe = min(tipping.estimate, tipping.low) * 100
    if safe <= 0:
        return "The result does not hold at its safe end, even without hidden bias"
    limit = f"If quality on the moved requests were overstated by {safe:.2g} points of 100 on average, the result would no longer hold"
    if grade == "A":
        return f"{limit}; randomised routing leaves little room for that"
    return f"{limit}; only a randomised test can exclude that"


def _title(rule: Rule) -> str:
    if rule.route == "unchanged":
        return f"Rule {rule.id}: left unchanged"
    return f"Rule {rule.id}: to " + ", ".join(target.model for target in rule.route)


def _tipping(impact: RuleImpact | None, tolerance: float) -> Measured:
    """(tolerance + change) / share of its requests that change model: the average overstatement on those that would undo the claim."""
    if impact is None or isinstance(impact.quality_change, Unidentifiable):
        return Unidentifiable(unidentifiable="the rule's own effect on quality cannot be estimated")
    if impact.moved_share <= 0:
        return Unidentifiable(unidentifiable="the rule moves no request")
    return impact.quality_change.shifted(tolerance).scaled(1 / impact.moved_share)


def _general(scope: AnalysisScope, evidence: RoutingEvidence, unlisted: int, *, has_rules: bool) -> tuple[str, ...]:
    rows = (
        (unlisted > 0, f"{unlisted} further rules are assessed only as part of the whole set."),
        (evidence.refusal is not None, f"Nothing can be estimated from these logs: {evidence.refusal}"),
        (has_rules and evidence.grade != "A", HIDDEN_FACTOR),
        (evidence.labelled < scope.requests, UNUSUAL_ANSWERS),
        (has_rules, MORE_LOAD),
        (has_rules, PROMPT_CACHE),
        (True, NEW_VERSION),
    )
    return tuple(words for applies, words in rows if applies)


HIDDEN_FACTOR = (
    "A factor that the router used but the logs lack would bias every number here in the same direction; see the tipping points."
)
UNUSUAL_ANSWERS = "Unusual answers may be scored more often; the correction uses only what is logged."
MORE_LOAD = "More traffic on a model can slow it down or reach its rate limits; latency under more load is extrapolated."
PROMPT_CACHE = "Moving a conversation to another model loses the provider's prompt cache for it; keep sessions on one model."
NEW_VERSION = "A new version of a model is a new model: the evidence does not carry over."


def _verdict(whole: ChangeRisk, grade: Grade, tolerance: float, floor: float | None, because: str) -> str:
    if whole.risk is None:
        return f"No rule matches a request of the window{because}, so their risk cannot be estimated."
    if isinstance(whole.quality_falls, Unidentifiable):
        return "The effect on quality cannot be estimated from these logs. Do not roll the change out without a randomised test."
    likely = whole.quality_falls.probability
    words = "below 1 %" if likely < 0.01 else "above 99 %" if likely > 0.99 else f"about {100 * likely:.0f} %"
    harm = (
        f"quality falls by more than {tolerance * 100:.1f} points"
        if tolerance >= 0 or floor is None
        else f"quality stays below {floor:.3f}"
    )
    chance = f"The chance that {harm} is {words}"
    return f"{chance}." if grade == "A" else f"{chance}, provided that no unlogged factor influenced the routing (grade {grade})."
