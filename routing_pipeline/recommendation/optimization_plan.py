"""`create_optimization_plan`: what to do in which order, who has to act, and how one knows that it worked.

Belongs here: sorting recommendations into phases, their effort, prerequisites and validation criteria. Does not belong
here: the recommendations' numbers (each names the result it came from), their risks (`recommendation.optimization_risks`).
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Literal

from pydantic import Field

from routing_pipeline.analysis.availability import Incident
from routing_pipeline.analysis.bottlenecks import Bottlenecks
from routing_pipeline.analysis.cost_drivers import CostDrivers
from routing_pipeline.analysis.quality_issues import Degradation, Incompatibility, Mismatch, QualityIssues
from routing_pipeline.estimates import Estimate, Measured, Result, Unidentifiable, proportion_interval, quantity
from routing_pipeline.policy.rule_set import Grade, Level, Rule
from routing_pipeline.recommendation.cost_optimization_plan import PLAN_DAYS, WEEK_DAYS, CostAction, CostOptimizationPlan
from routing_pipeline.recommendation.optimization_risks import risk_of_set
from routing_pipeline.recommendation.routing_rules import RoutingRules
from routing_pipeline.rule_sets.life_cycle import is_significant
from routing_pipeline.scope import AnalysisScope

HIGH_SAVING, MEDIUM_SAVING = 0.05, 0.01
"""Share of spend from which a saving counts as high or medium impact."""
HIGH_QUALITY, MEDIUM_QUALITY = 0.01, 0.002
"""Difference of mean quality over all requests from which it counts as high or medium impact."""
HIGH_LOSS, MEDIUM_LOSS = 0.01, 0.001
"""Share of requests lost from which an outage counts as high or medium impact."""
HIGH_SPEED, MEDIUM_SPEED = 0.10, 0.02
WORTH_WAITING = 0.02
"""Share of all requests that rules must take from a model for its rate limit to be no longer worth a request."""
EASY_CHANGES, MANY_CHANGES = 5, 20
MAX_ITEMS_OF_A_KIND = 3
USEFUL_SOURCES: tuple[str, ...] = ("quality", "cost", "session", "task type", "complexity", "routing probability", "routing rule")
"""Sources whose absence is worth an item of its own, most useful first; names as `scope.missing_sources` gives them."""

PLATFORM, PRODUCT, FINOPS = "LLM platform team", "Product owners of the task types", "FinOps"

PhaseNumber = Literal[1, 2, 3]
ImpactMetric = Literal["cost", "quality", "latency", "availability", "evidence"]


class Impact(Result):
    """What one item would bring for one metric."""

    metric: ImpactMetric
    label: str = Field(description="For readers, e.g. `Saving, taken alone`")
    days: int | None = quantity("Days at the window's pace that `value` speaks of; null where it is no sum over time", "days", default=None)
    unit: Literal["USD", "points", "ms", "share", "requests"]
    value: Measured


class PlanItem(Result):
    """One recommendation, in the seed's format."""

    id: str
    category: str
    title: str
    phase: PhaseNumber
    impact_level: Level
    current_state: str
    recommended_change: str
    expected_impact: tuple[Impact, ...]
    effort: Level
    effort_reason: str
    risk: Level
    risk_reason: str
    who: str = Field(description="Who has to act")
    prerequisites: tuple[str, ...]
    validation_criteria: tuple[str, ...]
    source: str = Field(description="Section of report.json that its numbers come from")


class Phase(Result):
    """One stretch of the roadmap."""

    number: PhaseNumber
    title: str
    timing: str
    items: tuple[str, ...] = Field(description="Ids of the items to start in it, in order")
    nothing_because: str | None = Field(default=None, description="Why the phase is empty; null when it is not")


class Payback(Result):
    """When the work has paid for itself."""

    days_per_1000_usd: Measured = quantity("Days of saving that pay for 1,000 USD of effort", "days")
    explanation: str


class OptimizationPlan(Result):
    """The answer to `create_optimization_plan`."""

    items: tuple[PlanItem, ...]
    phases: tuple[Phase, Phase, Phase]
    high_impact: tuple[str, ...] = Field(description="Ids of items")
    medium_impact: tuple[str, ...]
    low_impact: tuple[str, ...]
    resources: tuple[str, ...] = Field(description="Who is needed for how many items")
    payback: Payback
    approval_needed: bool = Field(description="The change moves more than 5 % of traffic or spend")
    verdict: str = Field(description="One sentence for a manager")


def effort_of(rules: int = 0, new_models: int = 0, config_changes: int = 0) -> tuple[Level, str]:
    """Low: a handful of settings and no new model; High: several new models, or more changes than one review can hold."""
    changes = rules + config_changes
    counted = ((rules, "rule"), (new_models, "new model"), (config_changes, "setting"))
    told = ", ".join(f"{count} {what}{'s' if count > 1 else ''}" for count, what in counted if count) or "nothing to change"
    if new_models >= 2 or changes > MANY_CHANGES:
        return "High", told
    return ("Low" if new_models == 0 and changes <= EASY_CHANGES else "Medium"), told


def impact_of(size: float, high: float, medium: float) -> Level:
    """Where a size lies between the two marks."""
    return "High" if size >= high else "Medium" if size >= medium else "Low"


def optimization_plan(
    scope: AnalysisScope,
    rules: RoutingRules,
    cost_plan: CostOptimizationPlan,
    drivers: CostDrivers,
    quality_issues: QualityIssues,
    bottlenecks: Bottlenecks,
) -> OptimizationPlan:
    """Sort everything that was found into this week, this month and this quarter.

    Nothing is measured here: each item's numbers are those of the result that `source` names.
    """
    items = tuple(_with_own_ids(_items(scope, rules, cost_plan, drivers, quality_issues, bottlenecks)))
    approval = bool(rules.rule_set.rules) and is_significant(rules.moved_share, rules.moved_spend_share)
    return OptimizationPlan(
        items=items,
        phases=(_phase(1, items), _phase(2, items), _phase(3, items)),
        high_impact=_ids(items, "High"),
        medium_impact=_ids(items, "Medium"),
        low_impact=_ids(items, "Low"),
        resources=_resources(items),
        payback=_payback(cost_plan, scope),
        approval_needed=approval,
        verdict=_verdict(rules, items, approval=approval),
    )


def _items(
    scope: AnalysisScope,
    rules: RoutingRules,
    cost_plan: CostOptimizationPlan,
    drivers: CostDrivers,
    quality_issues: QualityIssues,
    bottlenecks: Bottlenecks,
) -> Iterator[PlanItem]:
    yield from _rule_items(scope, rules)
    yield from (_cost_item(action, cost_plan) for action in cost_plan.actions if action.id != "rules" and _is_worth_saying(action))
    yield from (_incident_item(incident, scope, rules) for incident in _worst_by_model(bottlenecks))
    yield from (_pair_item(pair) for pair in quality_issues.incompatibilities[:MAX_ITEMS_OF_A_KIND])
    if not rules.rule_set.rules:
        yield from (_mismatch_item(each, scope, quality_issues.grade) for each in quality_issues.mismatches[:MAX_ITEMS_OF_A_KIND])
    yield from (_degradation_item(each) for each in _by_model(quality_issues))
    yield from _speed_items(bottlenecks)
    yield from _collection_items(scope)
    yield _exploration_item(scope, rules, drivers.grade)
    yield _feedback_loop_item()


def _with_own_ids(items: Iterator[PlanItem]) -> Iterator[PlanItem]:
    """Two names may read the same in an id; a number then keeps the items apart."""
    seen: dict[str, int] = {}
    for item in items:
        seen[item.id] = seen.get(item.id, 0) + 1
        yield item if seen[item.id] == 1 else item.model_copy(update={"id": f"{item.id}-{seen[item.id]}"})


def _is_worth_saying(action: CostAction) -> bool:
    return isinstance(action.saving_usd, Estimate) and action.saving_usd.estimate > 0


def _rule_items(scope: AnalysisScope, rules: RoutingRules) -> Iterator[PlanItem]:
    found = rules.rule_set.rules
    if not found:
        return
    effort, why = effort_of(rules=len(found), new_models=len(_new_models(found, scope)))
    risk, risk_reason = risk_of_set(scope, rules)
    alone = sum(rule.risk == "High" for rule in found)
    if risk != "High" and alone and len(found) > 1:
        risk_reason += (
            f"; taken alone, on the requests that it moves, {alone} of the {len(found)} rules {'is' if alone == 1 else 'are'} of high risk"
        )
    grade = max(rule.evidence.grade for rule in found)
    criteria = tuple(dict.fromkeys(criterion for rule in found for criterion in rule.validation_criteria))[:6]
    approval = is_significant(rules.moved_share, rules.moved_spend_share)
    change = "Start" if grade == "A" else "A/B test"
    yield PlanItem(
        id="rules-canary",
        category="Routing rules",
        title=f"{change} the proposed {_rules(len(found))} on 1 %, then 5 % of the sessions touched",
        phase=1,
        impact_level=_rules_impact(rules),
        current_state="The gateway's present rules route everything.",
        recommended_change=f"Let the gateway follow rules.json on that share; it moves {100 * rules.moved_share:.0f} % of requests and {100 * rules.moved_spend_share:.0f} % of spend once at 100 %. The team sets the share in the gateway.",
        expected_impact=_rules_effects(rules),
        effort=effort,
        effort_reason=why,
        risk=risk,
        risk_reason=risk_reason,
        who=PLATFORM,
        prerequisites=(
            *(("approval by a stakeholder: routing-pipeline approve",) if approval else ()),
            "rules.json carried over into the gateway's routing by the platform team, reviewed as a diff",
            "rule id written into every request's log",
        ),
        validation_criteria=criteria,
        source="routing_rules",
    )
    yield PlanItem(
        id="rules-rollout",
        category="Routing rules",
        title="Extend the rules to 25, 50 and 100 %",
        phase=2,
        impact_level=_rules_impact(rules),
        current_state="The canary runs on 5 %.",
        recommended_change="Follow the canary steps of the monitoring plan; decide by the non-inferiority test at 50 %.",
        expected_impact=_rules_effects(rules),
        effort="Low",
        effort_reason="one setting per step",
        risk=risk,
        risk_reason="that of the whole set, as above; it begins only where the canary has shown no gross harm",
        who=f"{PLATFORM}, decision by the {PRODUCT.lower()}",
        prerequisites=("the canary crossed no boundary in its first week",),
        validation_criteria=("non-inferior quality at 50 %", "realized saving within the promised interval in the next report"),
        source="monitoring_plan",
    )


def _new_models(rules: Sequence[Rule], scope: AnalysisScope) -> set[str]:
    targets = {target.model for rule in rules if rule.route != "unchanged" for target in rule.route}
    return targets - set(scope.models)


def _rules_effects(rules: RoutingRules) -> tuple[Impact, ...]:
    saving = rules.saving_usd_per_day
    proven = next((candidate for candidate in reversed(rules.walk) if candidate.passed), None)
    expected = rules.rule_set.expected
    quality: Measured = Unidentifiable(unidentifiable="the proof holds no change of quality") if proven is None else proven.quality_change
    return (
        Impact(
            metric="cost",
            label="Saving, once at 100 %",
            days=PLAN_DAYS,
            unit="USD",
            value=saving if isinstance(saving, Unidentifiable) else saving.scaled(PLAN_DAYS),
        ),
        Impact(metric="quality", label="Change of mean quality", unit="points", value=quality),
        Impact(metric="latency", label="Change of mean latency", unit="share", value=expected.change.latency_ms.relative),
    )


def _rules_impact(rules: RoutingRules) -> Level:
    change = rules.rule_set.expected.change
    sizes = (
        _gain(change.cost_usd.relative, -1) / HIGH_SAVING,
        _gain(change.quality.relative, 1) / HIGH_QUALITY,
        _gain(change.latency_ms.relative, -1) / HIGH_SPEED,
    )
    return impact_of(max(sizes), 1.0, MEDIUM_SAVING / HIGH_SAVING)


def _gain(change: Measured, better: int) -> float:
    return max(change.estimate * better, 0.0) if isinstance(change, Estimate) else 0.0


_WHO = {"rules": PLATFORM, "retries": PLATFORM, "cache": PLATFORM, "prompt_length": PRODUCT, "budgets": FINOPS}
_CATEGORY = {
    "rules": "Model choice",
    "retries": "Retries and fallbacks",
    "cache": "Caching",
    "prompt_length": "Prompt length",
    "budgets": "Budgets",
}
_VALIDATION = {
    "rules": "no fall of quality beyond the tolerance in an A/B test",
    "retries": "completion rate not below today's; spend on failed attempts falls",
    "cache": "cache-hit rate rises; quality of cached answers not below the others'",
    "prompt_length": "prompt tokens per request fall; quality of the task not below today's",
    "budgets": "no team stopped by its budget in a usual week",
}


def _cost_item(action: CostAction, plan: CostOptimizationPlan) -> PlanItem:
    saving = action.saving_usd
    share = saving.estimate / plan.spend_usd.estimate if isinstance(saving, Estimate) and isinstance(plan.spend_usd, Estimate) else 0.0
    effort: Level = "Low" if action.risk == "Low" else "Medium"
    return PlanItem(
        id=f"cost-{action.id}",
        category=_CATEGORY[action.category],
        title=action.title,
        phase=1 if action.risk == "Low" else 2,
        impact_level=impact_of(share, HIGH_SAVING, MEDIUM_SAVING),
        current_state=action.basis,
        recommended_change=action.what,
        expected_impact=(Impact(metric="cost", label="Saving, taken alone", days=PLAN_DAYS, unit="USD", value=saving),),
        effort=effort,
        effort_reason="settings of the gateway" if effort == "Low" else "prompts, tests or agreements with teams",
        risk=action.risk,
        risk_reason="answers stay what they are" if action.risk == "Low" else "answers, or who gets one, may change",
        who=_WHO[action.category],
        prerequisites=("an A/B test on quality",) if not action.is_counted else (),
        validation_criteria=(_VALIDATION[action.category],),
        source="cost_optimization_plan",
    )


def _worst_by_model(bottlenecks: Bottlenecks) -> list[Incident]:
    worst: dict[str, Incident] = {}
    for incident in bottlenecks.incidents:
        worst.setdefault(incident.model, incident)
    return list(worst.values())[:MAX_ITEMS_OF_A_KIND]


def _moved_away(model: str, rules: RoutingRules) -> float:
    """Share of all requests that the rules take from a model which they send none to."""
    targets = {target.model for rule in rules.rule_set.rules if rule.route != "unchanged" for target in rule.route}
    if model in targets:
        return 0.0
    return sum(impact.share * each.weight for impact in rules.impacts for each in impact.today if each.model == model)


def _incident_item(incident: Incident, scope: AnalysisScope, rules: RoutingRules) -> PlanItem:
    lost = proportion_interval(incident.requests_lost, scope.requests)
    limited = incident.kind == "rate limit"
    moved_away = _moved_away(incident.model, rules)
    change = (
        f"Cap the share of traffic of {incident.model} below its rate limit, and fall back at the first 429, until the proposed rules take "
        f"{100 * moved_away:.0f} % of all requests from it; a higher limit is worth asking for only should they not be approved."
        if limited and moved_away >= WORTH_WAITING
        else f"Ask for a higher rate limit on {incident.model}, and cap its share of traffic below it; fall back at the first 429."
        if limited
        else f"Take {incident.model} out of rotation when its error rate stays above {100 * max(4 * incident.base_rate, 0.05):.0f} % for five minutes."
    )
    return PlanItem(
        id=f"availability-{_slug(incident.model)}",
        category="Availability",
        title=f"Protect requests when {incident.model} fails",
        phase=1,
        impact_level=impact_of(incident.requests_lost / max(scope.requests, 1), HIGH_LOSS, MEDIUM_LOSS),
        current_state=(
            f"From {incident.start:%d %b %H:%M} to {incident.end:%d %b %H:%M} UTC {incident.failures:,} of {incident.attempts:,} calls failed; "
            f"{incident.requests_hit:,} requests were hit and {incident.requests_lost:,} lost."
        ),
        recommended_change=change,
        expected_impact=(Impact(metric="availability", label="Requests that it would have saved", unit="share", value=lost),),
        effort="Low",
        effort_reason="settings of the gateway",
        risk="Low",
        risk_reason="acts only while the model fails",
        who=PLATFORM,
        prerequisites=("a fallback model with capacity to spare",),
        validation_criteria=("requests lost in the next incident of the model below those of this one",),
        source="bottlenecks",
    )


def _pair_item(pair: Incompatibility) -> PlanItem:
    return PlanItem(
        id=f"pair-{_slug(pair.task_type)}-{_slug(pair.model)}-{pair.kind}",
        category="Task and model do not fit",
        title=f"Stop sending {pair.task_type} to {pair.model}",
        phase=1,
        impact_level="Medium",
        current_state=(
            f"{pair.affected:,} of {pair.calls:,} calls end in {pair.kind}; the model's other tasks {100 * pair.same_model_rate:.1f} %, "
            f"the task's other models {100 * pair.same_task_rate:.1f} %."
        ),
        recommended_change=f"Route {pair.task_type} to the task's other models until the cause is found.",
        expected_impact=(
            Impact(metric="availability", label=f"Share of the pair's calls that end in {pair.kind}", unit="share", value=pair.rate),
        ),
        effort="Low",
        effort_reason="1 rule",
        risk="Low",
        risk_reason="the other models answer the task today",
        who=PLATFORM,
        prerequisites=(),
        validation_criteria=(f"share of {pair.kind} for the task falls to that of its other models",),
        source="quality_issues",
    )


def _mismatch_item(mismatch: Mismatch, scope: AnalysisScope, grade: Grade | None) -> PlanItem:
    share = mismatch.requests / max(scope.requests, 1)
    loss = mismatch.loss.estimate * share if isinstance(mismatch.loss, Estimate) else 0.0
    return PlanItem(
        id=f"mismatch-{_slug(mismatch.segment)}-{_slug(mismatch.model)}",
        category="Model choice",
        title=f"Test {mismatch.alternative} in place of {mismatch.model} for {mismatch.label}",
        phase=2,
        impact_level=impact_of(loss, HIGH_QUALITY, MEDIUM_QUALITY),
        current_state=f"{mismatch.requests:,} requests of this kind went to {mismatch.model}.",
        recommended_change=f"A/B test {mismatch.alternative} on them.",
        expected_impact=(
            Impact(metric="quality", label="Quality gained on these requests", unit="points", value=mismatch.loss),
            Impact(metric="cost", label="Change of cost per request", unit="USD", value=mismatch.cost_change_usd),
        ),
        effort="Low",
        effort_reason="1 rule",
        risk="Medium",
        risk_reason=f"not held out; evidence of grade {grade or 'unknown'}",
        who=PLATFORM,
        prerequisites=("enough scores on this kind of request",),
        validation_criteria=("the difference in quality is above 0 over its whole interval",),
        source="quality_issues",
    )


def _by_model(issues: QualityIssues) -> list[Degradation]:
    """The widest finding of each model: what fell over all its tasks fell on each of them too."""
    widest: dict[str, Degradation] = {}
    for found in issues.degradations:
        known = widest.setdefault(found.model, found)
        if found.task_type is None and known.task_type is not None:
            widest[found.model] = found
    return list(widest.values())[:MAX_ITEMS_OF_A_KIND]


def _degradation_item(found: Degradation) -> PlanItem:
    where = f"{found.model}" + (f" on {found.task_type}" if found.task_type is not None else "")
    until = "" if found.kind == "since" else f" until {found.end:%d %b %H:%M}"
    return PlanItem(
        id=f"degradation-{_slug(found.model)}-{_slug(found.task_type or 'all')}-{found.start:%d%H}",
        category="Quality over time",
        title=f"Find out why {where} answered worse",
        phase=1,
        impact_level="Medium" if found.kind == "since" else "Low",
        current_state=f"Quality fell from {found.start:%d %b %H:%M}{until} UTC, on {found.labelled:,} scored answers.",
        recommended_change="Ask the provider what changed, pin the model's version, and alert on the day's quality of each model.",
        expected_impact=(Impact(metric="quality", label="Quality lost in that time", unit="points", value=found.size),),
        effort="Low",
        effort_reason="an alert and a question",
        risk="Low",
        risk_reason="changes no routing",
        who=PLATFORM,
        prerequisites=(),
        validation_criteria=("quality of the model back within its usual interval",),
        source="quality_issues",
    )


def _speed_items(bottlenecks: Bottlenecks) -> Iterator[PlanItem]:
    spikes = bottlenecks.latency_spikes
    unknown = Unidentifiable(unidentifiable="what the fix would bring depends on its cause, which the logs do not hold")
    if not isinstance(spikes, Unidentifiable) and spikes.spikes:
        worst = spikes.spikes[0]
        yield PlanItem(
            id="latency-spikes",
            category="Latency",
            title=f"Route around slow hours of {worst.model}",
            phase=2,
            impact_level="Medium",
            current_state=(
                f"{len(spikes.spikes) + spikes.spikes_not_listed} latency spikes; the worst on {worst.start:%d %b %H:%M} UTC, "
                f"{worst.factor:.1f} times as slow as usual over {worst.requests:,} calls."
            ),
            recommended_change="Latency-aware fallback: send requests elsewhere while the model's latency is twice its usual.",
            expected_impact=(Impact(metric="latency", label="Time saved", unit="ms", value=unknown),),
            effort="Medium",
            effort_reason="a health signal the router has to read",
            risk="Medium",
            risk_reason="the fallback may be dearer or weaker",
            who=PLATFORM,
            prerequisites=("latency per model as a live metric",),
            validation_criteria=("95th percentile of latency in such hours falls",),
            source="bottlenecks",
        )
    slow = [rule for rule in bottlenecks.routing.rules if rule.stands_out]
    if slow:
        yield PlanItem(
            id="slow-rules",
            category="Latency",
            title="Simplify slow routing rules",
            phase=3,
            impact_level="Low",
            current_state=f"{len(slow)} rules decide more slowly than the rest; the slowest is {slow[0].rule or 'not logged'}.",
            recommended_change="Look at what these rules compute or call before they decide.",
            expected_impact=(Impact(metric="latency", label="Time saved", unit="ms", value=unknown),),
            effort="Medium",
            effort_reason="code of the router",
            risk="Low",
            risk_reason="the decision stays the same",
            who=PLATFORM,
            prerequisites=(),
            validation_criteria=("share of slow decisions of these rules falls to 5 %",),
            source="bottlenecks",
        )


def _collection_items(scope: AnalysisScope) -> Iterator[PlanItem]:
    missing = {source.name: source.consequence for source in scope.sources if not source.present}
    useful = [name for name in USEFUL_SOURCES if name in missing]
    if not useful:
        return
    names = ", ".join(useful)
    yield PlanItem(
        id="collect",
        category="Data collection",
        title=f"Log what is missing: {names}",
        phase=1,
        impact_level="High" if "quality" in useful or "cost" in useful else "Medium",
        current_state=" ".join(f"Without {name}: {missing[name]}." for name in useful),
        recommended_change=f"Log {names} with every request.",
        expected_impact=(
            Impact(
                metric="evidence",
                label="What it makes measurable",
                unit="share",
                value=Unidentifiable(unidentifiable="data that is not there yet cannot be valued"),
            ),
        ),
        effort=effort_of(config_changes=len(useful))[0],
        effort_reason=effort_of(config_changes=len(useful))[1],
        risk="Low",
        risk_reason="changes no routing",
        who=PLATFORM,
        prerequisites=(),
        validation_criteria=("completeness of these columns in the next report's data quality",),
        source="scope",
    )


def _exploration_item(scope: AnalysisScope, rules: RoutingRules, grade: Grade | None) -> PlanItem:
    has_rules = bool(rules.rule_set.rules)
    needed = rules.hypothesis.requests_needed if rules.hypothesis is not None else None
    told = f" About {needed:,} requests would decide: {rules.hypothesis.description}." if needed and rules.hypothesis else ""
    more = f" About {scope.days_to_collect:.0f} more days of logs are needed." if scope.days_to_collect else ""
    return PlanItem(
        id="explore",
        category="Evidence",
        title="Keep routing a small share at random, with logged probabilities",
        phase=3 if has_rules else 1,
        impact_level="Medium" if has_rules else "High",
        current_state=f"Evidence of grade {grade or 'unknown'}." + ("" if has_rules else " No rule survived its proof.") + told + more,
        recommended_change=(
            f"Route {'2' if has_rules else '5'} % of sessions at random among the candidates and log the probability; exploration.json, "
            "where it is there, is such a rule set."
        ),
        expected_impact=(
            Impact(
                metric="evidence",
                label="What it makes provable",
                unit="share",
                value=Unidentifiable(unidentifiable="what it finds is known once it has run"),
            ),
        ),
        effort="Low",
        effort_reason="1 weighted rule",
        risk="Low",
        risk_reason="bounded by its share of traffic",
        who=PLATFORM,
        prerequisites=("propensity written into every request's log",),
        validation_criteria=("the next report's evidence is of grade A on this traffic",),
        source="monitoring_plan",
    )


def _feedback_loop_item() -> PlanItem:
    return PlanItem(
        id="feedback-loop",
        category="Continuous optimisation",
        title="Run this analysis every week and hold each promise against what came of it",
        phase=3,
        impact_level="Low",
        current_state="This report is one look at one window.",
        recommended_change="Schedule the weekly review, connect the alerts, and renew the rules when models or prices change.",
        expected_impact=(
            Impact(
                metric="evidence",
                label="What it keeps true",
                unit="share",
                value=Unidentifiable(unidentifiable="it keeps what was gained; how much would be lost without it is unknown"),
            ),
        ),
        effort="Medium",
        effort_reason="a deployment with a schedule and a channel for alerts",
        risk="Low",
        risk_reason="changes no routing",
        who=f"{PLATFORM}, {FINOPS}",
        prerequisites=("access of the pipeline to the log bucket",),
        validation_criteria=("realized outcomes of every published rule set within its promised intervals",),
        source="run",
    )


def _slug(text: str) -> str:
    kept = "".join(each if each.isascii() and each.isalnum() else "-" for each in text.lower())
    return "-".join(part for part in kept.split("-") if part)[:40] or "unnamed"


_TITLES: dict[PhaseNumber, tuple[str, str]] = {
    1: ("Immediate Changes", "Week 1"),
    2: ("Tactical Improvements", "Weeks 2-4"),
    3: ("Strategic Enhancements", "Months 2-3"),
}


def _phase(number: PhaseNumber, items: Sequence[PlanItem]) -> Phase:
    title, timing = _TITLES[number]
    mine = tuple(item.id for item in items if item.phase == number)
    return Phase(number=number, title=title, timing=timing, items=mine, nothing_because=None if mine else "nothing found calls for it")


def _ids(items: Sequence[PlanItem], level: Level) -> tuple[str, ...]:
    return tuple(item.id for item in items if item.impact_level == level)


def _resources(items: Sequence[PlanItem]) -> tuple[str, ...]:
    by_who: dict[str, list[Level]] = {}
    for item in items:
        by_who.setdefault(item.who, []).append(item.effort)
    levels: tuple[Level, ...] = ("Low", "Medium", "High")
    return tuple(
        f"{who}: {len(efforts)} item{'s' if len(efforts) > 1 else ''}, "
        + ", ".join(f"{efforts.count(level)} of {level.lower()} effort" for level in levels if efforts.count(level))
        for who, efforts in sorted(by_who.items(), key=lambda each: -len(each[1]))
    )


def _payback(plan: CostOptimizationPlan, scope: AnalysisScope) -> Payback:
    """1,000 USD over the planned saving per day; the ends of the interval change places."""
    saving = plan.planned_saving_usd
    if isinstance(saving, Unidentifiable):
        return Payback(days_per_1000_usd=saving, explanation="No saving is planned whose size is known, so nothing can be paid back.")
    if saving.low <= 0:
        why = "the planned saving may be nothing at the safe end of its interval; run the canary first"
        return Payback(
            days_per_1000_usd=Unidentifiable(unidentifiable=why),
            explanation="How long the work takes to pay for itself can be said once the saving is sure to be above 0.",
        )
    days = tuple(1000 * plan.days / end for end in (saving.estimate, saving.high, saving.low))
    return Payback(
        days_per_1000_usd=Estimate(estimate=days[0], low=days[1], high=days[2], level=saving.level),
        explanation=(
            f"Days of planned saving, at the pace of {_length(scope)}, that pay for every 1,000 USD of work; the work itself is settings and "
            "rules, see effort per item."
        ),
    )


def _length(scope: AnalysisScope) -> str:
    if scope.days < WEEK_DAYS:
        return f"a window of {24 * scope.days:.0f} hours that knows no week"
    return "the window"


def _rules(count: int) -> str:
    return "rule" if count == 1 else f"{count} rules"


def _verdict(rules: RoutingRules, items: Sequence[PlanItem], *, approval: bool) -> str:
    first = sum(item.phase == 1 for item in items)
    if not rules.rule_set.rules:
        return f"No routing change is recommended yet. {first} item{'s' if first != 1 else ''} for week 1; the first step is to let the logs tell more."
    grade = max(rule.evidence.grade for rule in rules.rule_set.rules)
    start = "Start the canary" if grade == "A" else "Start an A/B test"
    return f"{start} of the {_rules(len(rules.rule_set.rules))} in week 1" + (", once a stakeholder has approved it." if approval else ".")
