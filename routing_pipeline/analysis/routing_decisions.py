"""`analyze_routing_decisions`: how much of the traffic went where the evidence says best, and what the rest left behind.

Belongs here: judging today's choices, segment by segment and rule by rule, by the goal that the user named. Does not
belong here: proposing rules (`policy.search`) or proving them (`policy.proof`); what is shown here was not held out.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import ibis
import numpy as np
from pydantic import Field

from routing_pipeline.analysis.choices import UNITS, Choice, Today, choice, guards, keeps_guards, loss, mixed, segment_place, today
from routing_pipeline.analysis.names import LISTED, fold_rare
from routing_pipeline.comparisons import Floats, clustered_mean, difference, weighted_sum
from routing_pipeline.estimates import Estimate, Measured, Result, Unidentifiable, proportion_interval, quantity
from routing_pipeline.parameters import Goal
from routing_pipeline.policy.evidence_model import RoutingEvidence, SegmentEvidence
from routing_pipeline.policy.rule_set import Grade, Outcomes, When, cannot_tell
from routing_pipeline.scope import CLUSTERS, AnalysisScope

COVERED = 0.95
"""Share of a rule's requests that the evidence must cover before an alternative to the rule is named."""


class SegmentDecision(Result):
    """One kind of request: where it went, and where the evidence says it should have gone."""

    segment: str
    label: str = Field(description="For readers")
    task_type: str
    requests: int = quantity("Final requests in the window", "requests")
    best: str | None = Field(description="Best model that meets every guard at the safe end; null when none does, or today's mix is better")
    today_is_best: bool = Field(description="Every model that keeps the guards is distinguishably worse than today's mix of models")
    best_share: float = quantity("Share of the segment's requests sent to the best model; 1 where today's mix is best", "0..1")
    elsewhere_share: float = quantity("Share sent to models that are distinguishably worse for the goal, or break a guard", "0..1")
    undecided_share: float = quantity("Share sent where the evidence cannot tell", "0..1")
    why_undecided: str | None = Field(default=None, description="Why the evidence cannot tell, where it cannot")


class MissedOpportunity(Result):
    """A segment that one model would have served better for the goal than today's routing, at the safe end."""

    segment: str
    label: str = Field(description="For readers")
    task_type: str
    when: When
    model: str = Field(description="Where the segment should have gone")
    requests: int = quantity("Final requests in the window", "requests")
    gain_per_request: Measured = Field(description="Better than today by, in the goal's unit")
    gain_total: Measured = Field(description="gain_per_request x requests: what the window left on the table, in the goal's unit")
    saving_usd: Measured = quantity("In money, whatever the goal: today's cost of the segment less the model's, over the window", "USD")
    cost_change_usd: Measured = quantity("Against today, per request", "USD")
    quality_change: Measured = quantity("Against today", "0..1")
    latency_change_ms: Measured = quantity("Against today", "ms")


class RuleEffect(Result):
    """One rule of today's gateway: what passes through it and what the best single alternative would have given."""

    rule_id: str
    requests: int = quantity("Final requests that it decided", "requests")
    share: float = quantity("Of all final requests", "0..1")
    models: dict[str, float] = Field(description="Share of its requests by the model it chose first, largest first")
    spend_usd: float | None = quantity("Spend of its requests; null when none is priced", "USD")
    today: Outcomes = Field(description="What its requests got, as they came")
    success: Measured = quantity("Share of its requests that ended well", "0..1")
    covered_share: float = quantity("Share of its requests that fall into a segment of the evidence", "0..1")
    alternative: str | None = Field(
        description="Best single model for its mix of segments that meets every guard; null when none is shown to"
    )
    alternative_outcomes: Outcomes = Field(description="What that model would have given for its mix of segments")
    gain_per_request: Measured = Field(
        description="Alternative against today's routing of the same segments, in the goal's unit; negative: the rule does better than any model shown to keep the guards"
    )


class RoutingDecisions(Result):
    """The answer to `analyze_routing_decisions`."""

    goal: Goal
    goal_unit: str = Field(description="Unit of regret and gains: USD, ms, 0..1, or today's means (balanced)")
    guards: tuple[str, ...] = Field(description="What a better choice must also keep, at the safe end of its interval")
    best_share: float = quantity("Share of requests sent where the evidence says best", "0..1")
    elsewhere_share: float = quantity("Share sent to a distinguishably worse choice, or one that breaks a guard", "0..1")
    undecided_share: float = quantity("Share of requests of which the evidence cannot tell", "0..1")
    regret_per_request: Measured = Field(description="What today's routing gives away per request, in the goal's unit")
    regret_total: Measured = Field(description="regret_per_request x final requests, in the goal's unit")
    segments: tuple[SegmentDecision, ...] = Field(description="Largest first")
    opportunities: tuple[MissedOpportunity, ...] = Field(description="Most left on the table first")
    rules: tuple[RuleEffect, ...] = Field(description="Today's rules, most traffic first")
    rules_not_listed: int = quantity("Rules left out, the smallest ones", "rules")
    without_rule_share: float = quantity("Share of requests without a logged rule", "0..1")
    grade: Grade | None = Field(description="Grade of the evidence; null where there is none")
    notices: tuple[str, ...] = Field(default=(), description="What is missing, what to collect, and how to read the numbers")


Judged = tuple[SegmentEvidence, "_Verdict"]


def routing_decisions(requests: ibis.Table, scope: AnalysisScope, evidence: RoutingEvidence) -> RoutingDecisions:
    """Today's choices against what the evidence says best for the user's goal (`scope.parameters.goal`).

    A segment's best choice keeps every guard at the safe end of its interval. Regret counts only what is distinguishable:
    its lower end adds the safe ends of all opportunities, which holds whatever their correlation.

    Args:
        requests: rows of the window, grain one attempt (schema.SCOPED_REQUESTS).
        scope: what they cover, and the goal and thresholds asked for.
        evidence: what the logs can tell about choices not made.
    """
    goal = scope.parameters.goal
    evidence = evidence.over_all()
    baseline = today(evidence)
    ordered = sorted(evidence.segments, key=lambda segment: (-segment.requests, segment.id))
    judged = [(segment, _judge(segment, scope, baseline)) for segment in ordered]
    shares = _traffic_shares(judged, evidence.requests)
    opportunities = _opportunities(judged)
    regret = _regret(judged, evidence)
    rules, rules_in_all, without_rule = _rules(requests, scope, evidence, baseline)
    return RoutingDecisions(
        goal=goal,
        goal_unit=UNITS[goal],
        guards=guards(goal, scope.parameters),
        best_share=shares[0],
        elsewhere_share=shares[1],
        undecided_share=shares[2],
        regret_per_request=regret,
        regret_total=regret.scaled(evidence.requests) if isinstance(regret, Estimate) else regret,
        segments=tuple(_decision(segment, verdict) for segment, verdict in judged[:LISTED]),
        opportunities=tuple(opportunities[:LISTED]),
        rules=tuple(rules),
        rules_not_listed=max(rules_in_all - len(rules), 0),
        without_rule_share=without_rule,
        grade=None if evidence.refusal else evidence.grade,
        notices=_notices(scope, evidence, without_rule),
    )


def _notices(scope: AnalysisScope, evidence: RoutingEvidence, without_rule: float) -> tuple[str, ...]:
    notices: list[str] = []
    if evidence.refusal:
        notices.append(f"today's choices cannot be judged: {evidence.refusal}")
    elif evidence.grade != "A":
        notices.append(
            f"evidence grade {evidence.grade}: every opportunity is worth an A/B test, none is a promise. {evidence.grade_reason}"
        )
    if without_rule >= 1 and scope.requests:
        notices.append("no routing rule is logged; log the id of the rule that decided, so that rules can be judged one by one")
    if scope.parameters.goal in {"cost", "speed", "balanced"}:
        notices.append("the guard on slow requests (today's p95) needs single requests: it is checked when rules are proven, not here")
    return tuple(notices)


@dataclass(frozen=True)
class _Verdict:
    """What the evidence says of one segment: the best choice, and today's traffic sorted by it (best, elsewhere, undecided)."""

    best: Choice | None
    gain: Measured
    shares: tuple[float, float, float]
    why: str | None = None
    today_is_best: bool = False

    @property
    def is_opportunity(self) -> bool:
        """One model is better than today's routing over the whole interval, and keeps every guard."""
        return self.best is not None and isinstance(self.gain, Estimate) and self.gain.low > 0


def _judge(segment: SegmentEvidence, scope: AnalysisScope, baseline: Today) -> _Verdict:
    asked = scope.parameters
    choices = [choice(segment, arm) for arm in segment.arms]
    losses = {each.model: loss(each, asked.goal, asked.weights, baseline) for each in choices}
    verdicts = {each.model: keeps_guards(each, asked.goal, asked) for each in choices}
    kept = [(each, found) for each in choices if verdicts[each.model] == "holds" and isinstance(found := losses[each.model], Estimate)]
    if not kept:
        return _undecided("no model is shown to keep every guard here; route a small random share to more models, and score more answers")
    better = [(each, found) for each, found in kept if found.high < 0]
    best, best_loss = min(better or kept, key=lambda pair: (pair[1].estimate, pair[0].model))
    if best_loss.low > 0:
        rest = [each.model for each in choices if verdicts[each.model] == "unknown" and not _is_above_zero(losses[each.model])]
        if rest:
            return _undecided("the models shown to keep every guard are worse than today's mix; of the others the logs cannot tell")
        return _Verdict(None, _negative(best_loss), (1.0, 0.0, 0.0), today_is_best=True)
    shares = [0.0, 0.0, 0.0]
    for arm in segment.arms:
        place = _place(arm.model, best.model, losses, verdicts)
        shares[place] += arm.share
    # Models that the evidence does not list at all count as undecided.
    shares[2] = max(1.0 - shares[0] - shares[1], 0.0)
    why = None if shares[2] < 1e-9 else "some models here are not distinguishable from the best one, or were seen too seldom"
    return _Verdict(best, _negative(best_loss), (shares[0], shares[1], shares[2]), why)


def _undecided(why: str) -> _Verdict:
    return _Verdict(None, Unidentifiable(unidentifiable=why), (0.0, 0.0, 1.0), why)


def _negative(measured: Measured) -> Measured:
    return weighted_sum([(-1.0, measured)])


def _is_above_zero(measured: Measured) -> bool:
    return isinstance(measured, Estimate) and measured.low > 0


def _place(model: str, best: str, losses: Mapping[str, Measured], verdicts: Mapping[str, str]) -> int:
    """0: sent to the best; 1: sent elsewhere, surely worse or against a guard; 2: cannot tell."""
    if model == best:
        return 0
    return 1 if verdicts[model] == "broken" or _is_above_zero(difference(losses[model], losses[best])) else 2


def _decision(segment: SegmentEvidence, verdict: _Verdict) -> SegmentDecision:
    return SegmentDecision(
        segment=segment.id,
        label=segment.label,
        task_type=segment.task_type,
        requests=segment.requests,
        best=None if verdict.best is None else verdict.best.model,
        today_is_best=verdict.today_is_best,
        best_share=verdict.shares[0],
        elsewhere_share=verdict.shares[1],
        undecided_share=verdict.shares[2],
        why_undecided=verdict.why,
    )


def _traffic_shares(judged: Sequence[Judged], requests: int) -> tuple[float, float, float]:
    """Shares of all requests: best, elsewhere, undecided; requests outside every segment are undecided."""
    if requests == 0:
        return 0.0, 0.0, 1.0
    best, elsewhere = (sum(segment.requests * verdict.shares[place] for segment, verdict in judged) / requests for place in (0, 1))
    return best, elsewhere, max(1.0 - best - elsewhere, 0.0)


def _opportunities(judged: Sequence[Judged]) -> list[MissedOpportunity]:
    found = [
        MissedOpportunity(
            segment=segment.id,
            label=segment.label,
            task_type=segment.task_type,
            when=segment.when,
            model=verdict.best.model,
            requests=segment.requests,
            gain_per_request=verdict.gain,
            gain_total=verdict.gain.scaled(segment.requests),
            saving_usd=weighted_sum([(-float(segment.requests), verdict.best.cost_change_usd)]),
            cost_change_usd=verdict.best.cost_change_usd,
            quality_change=verdict.best.quality_change,
            latency_change_ms=verdict.best.latency_change_ms,
        )
        for segment, verdict in judged
        if verdict.is_opportunity and verdict.best is not None and isinstance(verdict.gain, Estimate)
    ]
    return sorted(found, key=lambda each: (-each.gain_total.estimate if isinstance(each.gain_total, Estimate) else 0.0, each.segment))


def _regret(judged: Sequence[Judged], evidence: RoutingEvidence) -> Measured:
    """Per request over all requests: what the distinguishable opportunities would have gained.

    Without any: 0, up to what the models that keep the guards could still gain at the far end of their intervals.
    """
    if evidence.refusal or evidence.requests == 0:
        return Unidentifiable(unidentifiable=evidence.refusal or "the evidence covers no request")
    gains = [(segment.requests / evidence.requests, verdict.gain) for segment, verdict in judged if verdict.is_opportunity]
    if gains:
        return weighted_sum(gains)
    possible = [
        (segment.requests / evidence.requests, verdict.gain.high) for segment, verdict in judged if isinstance(verdict.gain, Estimate)
    ]
    if not possible:
        return Unidentifiable(unidentifiable="in no segment a model is shown to keep every guard, so nothing can be compared with today")
    most = sum(share * max(gain, 0.0) for share, gain in possible)
    if most == 0:
        return Unidentifiable(unidentifiable="every model that keeps the guards is worse than today's routing: there is no regret to show")
    return Estimate(estimate=0.0, low=0.0, high=most)


def _rules(requests: ibis.Table, scope: AnalysisScope, evidence: RoutingEvidence, baseline: Today) -> tuple[list[RuleEffect], int, float]:
    """Effect of the largest rules, how many rules there are, and the share of requests without one."""
    final = requests.filter(requests.is_final)
    counted = final.group_by("routing_rule_id").agg(n=final.count())
    named = counted.filter(counted.routing_rule_id.notnull())
    totals = counted.agg(n=counted.n.sum(), named=named.n.sum().as_scalar(), rules=named.count().as_scalar()).to_pyarrow().to_pylist()[0]
    n = int(totals["n"] or 0)
    without = 1.0 - int(totals["named"] or 0) / n if n else 1.0
    largest = named.order_by(ibis.desc("n"), "routing_rule_id").limit(LISTED).to_pyarrow().to_pylist()
    if not largest:
        return [], 0, without
    ruled = final.filter(final.routing_rule_id.isin([row["routing_rule_id"] for row in largest]))
    ruled = fold_rare(ruled, "routed_model", len(scope.models))
    outcomes = _outcomes_by_rule(ruled)
    traffic = _traffic_by_rule(ruled, evidence.segments)
    effects = []
    for row in largest:
        rule = row["routing_rule_id"]
        mix, models = traffic[rule]
        alternative = _alternative(mix, row["n"], scope, evidence, baseline)
        effects.append(_effect(rule, row["n"] / n, models, outcomes[rule], alternative))
    return effects, int(totals["rules"]), without


_OUTCOMES = {"cost_usd": "request_cost_usd", "quality": "quality", "latency_ms": "request_latency_ms"}


def _outcomes_by_rule(ruled: ibis.Table) -> dict[str, dict[str, Floats]]:
    """Sums and counts of every outcome by rule, 256 session clusters each."""
    sums = {f"{name}_sum": ruled[column].sum() for name, column in _OUTCOMES.items()}
    counts = {f"{name}_n": ruled[column].count() for name, column in _OUTCOMES.items()}
    rows = ruled.group_by("routing_rule_id", "cluster").agg(n=ruled.count(), ok=(ruled.status == "success").sum(), **sums, **counts)
    found: dict[str, dict[str, Floats]] = defaultdict(lambda: defaultdict(lambda: np.zeros(CLUSTERS)))
    for row in rows.to_pyarrow().to_pylist():
        for name in ("n", "ok", *sums, *counts):
            found[row["routing_rule_id"]][name][row["cluster"]] = row[name] or 0.0
    return found


def _traffic_by_rule(ruled: ibis.Table, segments: Sequence[SegmentEvidence]) -> dict[str, tuple[dict[int, int], dict[str, int]]]:
    """By rule: requests by place of their segment, and by the model that was chosen first."""
    placed = ruled.mutate(place=segment_place(ruled, [segment.when for segment in segments]))
    found: dict[str, tuple[dict[int, int], dict[str, int]]] = defaultdict(lambda: (defaultdict(int), defaultdict(int)))
    for row in placed.group_by("routing_rule_id", "place", "routed_model").agg(n=placed.count()).to_pyarrow().to_pylist():
        mix, models = found[row["routing_rule_id"]]
        models[row["routed_model"]] += row["n"]
        if row["place"] is not None:
            mix[row["place"]] += row["n"]
    return found


@dataclass(frozen=True)
class _Alternative:
    covered: float
    best: Choice | None
    gain: Measured


def _alternative(mix: Mapping[int, int], n: int, scope: AnalysisScope, evidence: RoutingEvidence, baseline: Today) -> _Alternative:
    """Best single model for a rule's mix of segments: keeps every guard over the mix, least loss for the goal.

    The rule's requests are taken to be like the others of their segments.
    """
    placed = sum(mix.values())
    covered = placed / n if n else 0.0
    if evidence.refusal:
        return _Alternative(covered, None, Unidentifiable(unidentifiable=evidence.refusal))
    if covered < COVERED:
        why = f"only {covered:.0%} of the rule's requests fall into a segment of the evidence"
        return _Alternative(covered, None, Unidentifiable(unidentifiable=why))
    asked = scope.parameters
    parts: dict[str, list[tuple[float, Choice]]] = defaultdict(list)
    for place, count in sorted(mix.items()):
        segment = evidence.segments[place]
        for arm in segment.arms:
            parts[arm.model].append((count / placed, choice(segment, arm)))
    kept: list[tuple[float, str, Choice, Estimate]] = []
    for model, over in parts.items():
        if len(over) < len(mix):
            continue
        whole = mixed(over)
        found = loss(whole, asked.goal, asked.weights, baseline)
        if isinstance(found, Estimate) and keeps_guards(whole, asked.goal, asked) == "holds":
            kept.append((found.estimate, model, whole, found))
    if not kept:
        why = "no single model is shown to keep every guard over the rule's requests; route a small random share to more models"
        return _Alternative(covered, None, Unidentifiable(unidentifiable=why))
    _, _, best, best_loss = min(kept, key=lambda each: each[:2])
    return _Alternative(covered, best, _negative(best_loss))


def _effect(rule: str, share: float, models: Mapping[str, int], sums: Mapping[str, Floats], alternative: _Alternative) -> RuleEffect:
    n = float(sums["n"].sum())
    largest = sorted(models.items(), key=lambda item: (-item[1], item[0]))[:LISTED]
    best = alternative.best
    if best is None:
        why = alternative.gain.unidentifiable if isinstance(alternative.gain, Unidentifiable) else ""
        instead = cannot_tell(why)
    else:
        instead = Outcomes(cost_usd=best.cost_usd, quality=best.quality, latency_ms=best.latency_ms)
    return RuleEffect(
        rule_id=rule,
        requests=int(n),
        share=share,
        models={model: count / n for model, count in largest},
        spend_usd=float(sums["cost_usd_sum"].sum()) if sums["cost_usd_n"].sum() else None,
        today=Outcomes(**{name: clustered_mean(sums[f"{name}_sum"], sums[f"{name}_n"]) for name in _OUTCOMES}),
        success=proportion_interval(float(sums["ok"].sum()), n),
        covered_share=alternative.covered,
        alternative=None if best is None else best.model,
        alternative_outcomes=instead,
        gain_per_request=alternative.gain,
    )
