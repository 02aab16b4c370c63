"""When each kind of plan item applies, and the numbers that fill its text.

Belongs here: marks of impact and effort, and one function per kind. Does not belong here: the words (`plan_texts`), the numbers themselves
(each item names the result it came from), sorting items into phases (`optimization_plan`).
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

from routing_pipeline import text
from routing_pipeline.analysis.availability import Incident
from routing_pipeline.analysis.bottlenecks import Bottlenecks
from routing_pipeline.analysis.cost_drivers import CostDrivers
from routing_pipeline.analysis.quality_issues import QualityIssues
from routing_pipeline.analysis.quality_over_time import Degradation
from routing_pipeline.clock import DAYS_PER_MONTH
from routing_pipeline.estimates import Estimate, Measured, Unidentifiable
from routing_pipeline.recommendation import plan_texts as texts
from routing_pipeline.recommendation.cost_optimization_plan import CostAction, CostOptimizationPlan
from routing_pipeline.recommendation.monitoring_plan import LONGEST_EXPLORATION_DAYS, Exploration
from routing_pipeline.recommendation.optimization_risks import risk_of_set, why_not_to_start
from routing_pipeline.recommendation.plan_item import PlanItem, plan_item
from routing_pipeline.recommendation.routing_rules import RoutingRules, quality_change
from routing_pipeline.rules.lifecycle import is_significant
from routing_pipeline.rules.model import Grade, Level, Rule
from routing_pipeline.stats.inference import proportion_interval
from routing_pipeline.text import LogName
from routing_pipeline.window.scope import AnalysisScope

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


def effort_of(rules: int = 0, new_models: int = 0, config_changes: int = 0) -> tuple[Level, str]:
    """Low: a handful of settings and no new model; High: several new models, or more changes than one review can hold."""
    changes = rules + config_changes
    counted = ((rules, "rule"), (new_models, "new model"), (config_changes, "setting"))
    reason = ", ".join(text.counted(count, what) for count, what in counted if count) or "nothing to change"
    if new_models >= 2 or changes > MANY_CHANGES:
        return "High", reason
    return ("Low" if new_models == 0 and changes <= EASY_CHANGES else "Medium"), reason


def impact_of(size: float, high: float, medium: float) -> Level:
    """Where a size lies between the two marks."""
    return "High" if size >= high else "Medium" if size >= medium else "Low"


@dataclass(frozen=True)
class Findings:
    """What the items are made from: the results of the analyses and of the other recommendations."""

    scope: AnalysisScope
    rules: RoutingRules
    cost_plan: CostOptimizationPlan
    drivers: CostDrivers
    quality_issues: QualityIssues
    bottlenecks: Bottlenecks
    exploration: Exploration | None

    @property
    def has_rules(self) -> bool:
        """Whether a rule is proposed, or was handed over."""
        return bool(self.rules.rule_set.rules)


def _rule_items(scope: AnalysisScope, rules: RoutingRules) -> Iterator[PlanItem]:
    proposed = rules.rule_set.rules
    if not proposed:
        return
    effects = _rules_effects(rules)
    why_not = why_not_to_start(rules)
    if why_not is not None:
        yield plan_item(texts.RULES_NOT_STARTED, effects, why_not=why_not, rules=counted_rules(len(proposed)))
        return
    effort, effort_reason = effort_of(rules=len(proposed), new_models=len(_new_models(proposed, scope)))
    risk, risk_reason = _risk_of_rules(rules)
    needs_approval = is_significant(rules.moved_share, rules.moved_spend_share)
    impact = _rules_impact(rules)
    yield plan_item(
        texts.RULES_CANARY,
        effects,
        {
            "impact_level": impact,
            "effort": effort,
            "risk": risk,
            "prerequisites": (*((texts.APPROVAL,) if needs_approval else ()), *texts.RULES_CANARY.prerequisites),
            "validation_criteria": rules.rule_set.validation_criteria,
        },
        start="Start" if grade_of(rules) == "A" else "Try",
        rules=counted_rules(len(proposed)),
        moved=text.whole_percent(rules.moved_share),
        moved_spend=text.whole_percent(rules.moved_spend_share),
        effort_reason=effort_reason,
        risk_reason=risk_reason,
    )
    yield plan_item(texts.RULES_ROLLOUT, effects, {"impact_level": impact, "risk": risk})


def grade_of(rules: RoutingRules) -> Grade:
    """The weakest grade of evidence among the rules."""
    return max(rule.evidence.grade for rule in rules.rule_set.rules)


def _risk_of_rules(rules: RoutingRules) -> tuple[Level, str]:
    """The level of the whole set, and why; a rule that is riskier than the set is counted."""
    whole, proposed = risk_of_set(rules), rules.rule_set.rules
    alone = sum(rule.risk == "High" and rule.evidence.requests > 0 for rule in proposed)
    if whole.level == "High" or not alone or len(proposed) == 1:
        return whole.level, whole.why
    are = "is" if alone == 1 else "are"
    return whole.level, texts.RISKIER_ALONE.format(risk_reason=whole.why, alone=alone, rules=counted_rules(len(proposed)), are=are)


def _new_models(rules: Sequence[Rule], scope: AnalysisScope) -> set[LogName]:
    targets = {target.model for rule in rules if rule.route != "unchanged" for target in rule.route}
    return targets - set(scope.models)


def _rules_effects(rules: RoutingRules) -> tuple[Measured, ...]:
    saving = rules.saving_usd_per_day
    over_plan = saving if isinstance(saving, Unidentifiable) else saving.scaled(DAYS_PER_MONTH)
    return over_plan, quality_change(rules), rules.rule_set.expected.change.latency_ms.relative


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


def _cost_items(found: Findings) -> Iterator[PlanItem]:
    for action in found.cost_plan.actions:
        saving = action.saving_usd
        if action.id != "rules" and isinstance(saving, Estimate) and saving.estimate > 0:
            yield _cost_item(action, saving, found.cost_plan.spend_usd)


def _cost_item(action: CostAction, saving: Estimate, spend: Measured) -> PlanItem:
    share = saving.estimate / spend.estimate if isinstance(spend, Estimate) else 0.0
    category, owner, validation = texts.COST_SLOTS[action.category]
    return plan_item(
        texts.COST_LOW_RISK if action.risk == "Low" else texts.COST_RISKIER,
        (saving,),
        {
            "impact_level": impact_of(share, HIGH_SAVING, MEDIUM_SAVING),
            "risk": action.risk,
            "prerequisites": () if action.is_counted else texts.COST_TEST_FIRST,
        },
        action=action.id,
        category=category,
        title=action.title,
        basis=action.basis,
        what=action.what,
        owner=owner,
        validation=validation,
    )


def _incident_items(found: Findings) -> Iterator[PlanItem]:
    worst: dict[str, Incident] = {}
    for incident in found.bottlenecks.incidents:
        worst.setdefault(incident.model, incident)
    for incident in list(worst.values())[:MAX_ITEMS_OF_A_KIND]:
        moved_away = _moved_away(incident.model, found.rules)
        row = texts.OUTAGE
        if incident.kind == "rate limit":
            row = texts.RATE_LIMIT_UNTIL_RULES if moved_away >= WORTH_WAITING else texts.RATE_LIMIT
        requests = found.scope.requests
        yield plan_item(
            row,
            (proportion_interval(incident.requests_lost, requests),),
            {"impact_level": impact_of(incident.requests_lost / max(requests, 1), HIGH_LOSS, MEDIUM_LOSS)},
            model=incident.model,
            model_id=_slug(incident.model),
            start=incident.start,
            end=incident.end,
            failures=incident.failures,
            attempts=incident.attempts,
            hit=incident.requests_hit,
            lost=incident.requests_lost,
            moved_away=text.whole_percent(moved_away),
            error_limit=text.whole_percent(max(4 * incident.base_rate, 0.05)),
        )


def _moved_away(model: str, rules: RoutingRules) -> float:
    """Share of all requests that the rules take from a model which they send none to."""
    targets = {target.model for rule in rules.rule_set.rules if rule.route != "unchanged" for target in rule.route}
    if model in targets:
        return 0.0
    return sum(impact.share * each.weight for impact in rules.impacts for each in impact.today if each.model == model)


def _pair_items(found: Findings) -> Iterator[PlanItem]:
    for pair in found.quality_issues.incompatibilities[:MAX_ITEMS_OF_A_KIND]:
        yield plan_item(
            texts.INCOMPATIBLE,
            (pair.rate,),
            task=pair.task_type,
            task_id=_slug(pair.task_type),
            model=pair.model,
            model_id=_slug(pair.model),
            kind=pair.kind,
            affected=pair.affected,
            calls=pair.calls,
            same_model=f"{100 * pair.same_model_rate:.1f} %",
            same_task=f"{100 * pair.same_task_rate:.1f} %",
        )


def _mismatch_items(found: Findings) -> Iterator[PlanItem]:
    """Where no rule answers them."""
    if found.has_rules:
        return
    issues = found.quality_issues
    for mismatch in issues.mismatches[:MAX_ITEMS_OF_A_KIND]:
        share = mismatch.requests / max(found.scope.requests, 1)
        loss = mismatch.loss.estimate * share if isinstance(mismatch.loss, Estimate) else 0.0
        yield plan_item(
            texts.MISMATCH,
            (mismatch.loss, mismatch.cost_change_usd),
            {"impact_level": impact_of(loss, HIGH_QUALITY, MEDIUM_QUALITY)},
            segment_id=_slug(mismatch.segment),
            label=mismatch.label,
            model=mismatch.model,
            model_id=_slug(mismatch.model),
            alternative=mismatch.alternative,
            requests=mismatch.requests,
            grade=issues.grade or "unknown",
        )


def _degradation_items(found: Findings) -> Iterator[PlanItem]:
    """The widest finding of each model: what fell over all its tasks fell on each of them too."""
    widest: dict[str, Degradation] = {}
    for each in found.quality_issues.degradations:
        known = widest.setdefault(each.model, each)
        if each.task_type is None and known.task_type is not None:
            widest[each.model] = each
    for each in list(widest.values())[:MAX_ITEMS_OF_A_KIND]:
        yield plan_item(
            texts.DEGRADATION_SINCE if each.kind == "since" else texts.DEGRADATION,
            (each.size,),
            where=each.model if each.task_type is None else f"{each.model} on {each.task_type}",
            model_id=_slug(each.model),
            task_id=_slug(each.task_type or "all"),
            start=each.start,
            end=each.end,
            labelled=each.labelled,
        )


def _speed_items(found: Findings) -> Iterator[PlanItem]:
    spikes = found.bottlenecks.latency_spikes
    if not isinstance(spikes, Unidentifiable) and spikes.spikes:
        worst = spikes.spikes[0]
        yield plan_item(
            texts.LATENCY_SPIKES,
            spikes=text.counted(len(spikes.spikes) + spikes.spikes_not_listed, "latency spike"),
            model=worst.model,
            start=worst.start,
            factor=worst.factor,
            requests=worst.requests,
        )
    slow = [rule for rule in found.bottlenecks.routing.rules if rule.stands_out]
    if slow:
        yield plan_item(texts.SLOW_RULES, slow=len(slow), rule=slow[0].rule or "not logged")


def _collection_items(found: Findings) -> Iterator[PlanItem]:
    missing = {source.name: source.consequence for source in found.scope.sources if not source.present}
    useful = [name for name in USEFUL_SOURCES if name in missing]
    if not useful:
        return
    effort, effort_reason = effort_of(config_changes=len(useful))
    yield plan_item(
        texts.COLLECT,
        (),
        {"impact_level": "High" if "quality" in useful or "cost" in useful else "Medium", "effort": effort},
        names=", ".join(useful),
        consequences=" ".join(texts.CONSEQUENCE.format(name=name, consequence=missing[name]) for name in useful),
        effort_reason=effort_reason,
    )


def _exploration_items(found: Findings) -> Iterator[PlanItem]:
    exploration = found.exploration
    if exploration is None:
        return
    row = texts.EXPLORE if found.has_rules else texts.EXPLORE_FIRST
    yield plan_item(
        row if exploration.decides else texts.EXPLORE_LATER,
        state=" ".join(_evidence_so_far(found)),
        share=text.whole_percent(exploration.share),
        longest=LONGEST_EXPLORATION_DAYS,
    )


def _evidence_so_far(found: Findings) -> Iterator[str]:
    yield texts.EXPLORE_GRADE.format(grade=found.drivers.grade or "unknown")
    if not found.has_rules:
        yield texts.EXPLORE_NO_RULE
    hypothesis = found.rules.hypothesis
    if hypothesis is not None and hypothesis.requests_needed:
        yield texts.EXPLORE_HYPOTHESIS.format(needed=hypothesis.requests_needed, hypothesis=text.clauses((hypothesis.description,)))
    days = math.ceil(found.scope.days_to_collect or 0.0)
    if days:
        yield texts.EXPLORE_DAYS.format(days=text.counted(days, "more day"))


def _feedback_loop_items(_found: Findings) -> Iterator[PlanItem]:
    yield plan_item(texts.FEEDBACK_LOOP)


KINDS: tuple[Callable[[Findings], Iterator[PlanItem]], ...] = (
    lambda found: _rule_items(found.scope, found.rules),
    _cost_items,
    _incident_items,
    _pair_items,
    _mismatch_items,
    _degradation_items,
    _speed_items,
    _collection_items,
    _exploration_items,
    _feedback_loop_items,
)
"""Which items apply, in the order of the plan."""


def _slug(name: str) -> str:
    letters = "".join(each if each.isascii() and each.isalnum() else "-" for each in name.lower())
    return "-".join(part for part in letters.split("-") if part)[:40] or "unnamed"


def counted_rules(count: int) -> str:
    """As in "the rule", "the 3 rules"."""
    return "rule" if count == 1 else f"{count} rules"
