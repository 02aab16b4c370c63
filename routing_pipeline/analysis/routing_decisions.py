"""`analyze_routing_decisions`: how much of the traffic went where the evidence says best, and what the rest left behind.

Belongs here: judging today's choices segment by segment, by the goal that the user named. Does not belong here: the same rule by rule
(`rule_effects`), proposing rules (`policy.search`) or proving them (`policy.proof`): guards are judged here on all sessions, and
segment by segment.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field
from typing import ClassVar

import ibis
from pydantic import Field

from routing_pipeline.analysis.choices import (
    LISTED,
    SELECTION_PENALTY_SE,
    UNITS,
    Choice,
    GuardVerdict,
    Half,
    Today,
    at_level,
    choice,
    guards,
    keeps_guards,
    loss,
    today,
)
from routing_pipeline.analysis.rule_effects import RuleEffect, rule_effects
from routing_pipeline.estimates import LEVEL, Estimate, Measured, Result, Unidentifiable, quantity
from routing_pipeline.parameters import Goal
from routing_pipeline.policy.evidence_model import RoutingEvidence, SegmentEvidence
from routing_pipeline.rules.model import Grade, When
from routing_pipeline.stats.inference import (
    FALSE_DISCOVERY_RATE,
    chance_above,
    chance_not_lower,
    difference,
    false_discovery_adjusted,
    standard_error,
    weighted_sum,
)
from routing_pipeline.text import LogName
from routing_pipeline.window.scope import AnalysisScope


class SegmentDecision(Result):
    """One kind of request: where it went, and where the evidence says it should have gone."""

    segment: str
    label: str = Field(description="For readers")
    task_type: LogName
    requests: int = quantity("Final requests in the window", "requests")
    best: LogName | None = Field(
        description="Best model that meets every guard at the safe end; null when none does, or today's mix of models is estimated as good or better"
    )
    gain_per_request: Measured = Field(
        default=Unidentifiable(unidentifiable="not in reports of earlier versions"),
        description="All requests sent to the best model that meets every guard, against today's mix, in the goal's unit",
    )
    today_is_best: bool = Field(description="Every model that keeps the guards is distinguishably worse than today's mix of models")
    best_share: float = quantity("Share of the segment's requests sent to the best model; 1 where today's mix is best", "0..1")
    elsewhere_share: float = quantity("Share sent to models that are distinguishably worse for the goal, or break a guard", "0..1")
    undecided_share: float = quantity("Share sent where the evidence cannot tell", "0..1")
    why_undecided: str | None = Field(default=None, description="Why the evidence cannot tell, where it cannot")


class MissedOpportunity(Result):
    """A segment that one model would have served better for the goal than today's routing.

    Picked on one half of the sessions and measured on the other, where its gain is no chance find among all segments (false
    discovery rate 5 %).
    """

    segment: str
    label: str = Field(description="For readers")
    task_type: LogName
    when: When
    model: LogName = Field(description="Where the segment should have gone")
    requests: int = quantity("Final requests in the window", "requests")
    gain_per_request: Measured = Field(description="Better than today by, in the goal's unit")
    gain_total: Measured = Field(description="gain_per_request x requests: what the window left on the table, in the goal's unit")
    saving_usd: Measured = quantity("In money, whatever the goal: today's cost of the segment less the model's, over the window", "USD")
    cost_change_usd: Measured = quantity("Against today, per request", "USD")
    quality_change: Measured = quantity("Against today", "0..1")
    latency_change_ms: Measured = quantity("Against today", "ms")


class RoutingDecisions(Result):
    """The answer to `analyze_routing_decisions`."""

    main_table: ClassVar = "segments"

    goal: Goal
    goal_unit: str = Field(description="Unit of regret and gains: USD, ms, 0..1, or today's means (balanced)")
    guards: tuple[str, ...] = Field(description="What a better choice must also keep, at the safe end of its interval")
    best_share: float = quantity("Share of requests sent where the evidence says best", "0..1")
    elsewhere_share: float = quantity("Share sent to a distinguishably worse choice, or one that breaks a guard", "0..1")
    undecided_share: float = quantity("Share of requests of which the evidence cannot tell", "0..1")
    regret_per_request: Measured = Field(
        description="What today's routing gives away per request, in the goal's unit: choices of one half of the sessions, measured on the other"
    )
    regret_total: Measured = Field(description="regret_per_request x final requests, in the goal's unit")
    segments: tuple[SegmentDecision, ...] = Field(description="Largest first")
    opportunities: tuple[MissedOpportunity, ...] = Field(description="Most left on the table first")
    rules: tuple[RuleEffect, ...] = Field(description="Today's rules, most traffic first")
    rules_not_listed: int = quantity("Rules left out, the smallest ones", "rules")
    without_rule_share: float = quantity("Share of requests without a logged rule", "0..1")
    grade: Grade | None = Field(description="Grade of the evidence; null where there is none")
    notices: tuple[str, ...] = Field(default=(), description="What is missing, what to collect, and how to read the numbers")


def routing_decisions(requests: ibis.Table, scope: AnalysisScope, evidence: RoutingEvidence) -> RoutingDecisions:
    """Today's choices against what the evidence says best for the user's goal (`scope.parameters.goal`).

    The best choice of a segment keeps every guard at the safe end of its interval, and is picked on one half of the sessions;
    what it gains is told of the other half, which nothing was picked on. Opportunities are those whose gain there is no chance
    find among all segments (false discovery rate). Regret adds up the gains of all that was picked, chance finds included: its
    interval adds their errors, which holds whatever their correlation.

    Args:
        requests: rows of the window, grain one attempt (schema.SCOPED_REQUESTS).
        scope: what they cover, and the goal and thresholds asked for.
        evidence: what the logs can tell about choices not made.
    """
    goal = scope.parameters.goal
    evidence = evidence.over_all()
    baseline = today(evidence)
    ordered = sorted(evidence.segments, key=lambda segment: (-segment.requests, segment.id))
    # A guard is called broken where it is, whichever of all models in all segments is looked at (Bonferroni).
    strict_level = 1.0 - (1.0 - LEVEL) / max(sum(len(segment.arms) for segment in ordered), 1)
    verdicts = _verdicts([_pick_of(segment, scope, baseline, strict_level) for segment in ordered])
    shares = _traffic_shares(verdicts, evidence.requests)
    opportunities = _opportunities(verdicts)
    regret = _regret(verdicts, evidence)
    rules, rules_in_all, without_rule = rule_effects(requests, scope, evidence, baseline)
    return RoutingDecisions(
        goal=goal,
        goal_unit=UNITS[goal],
        guards=guards(goal, scope.parameters),
        best_share=shares[0],
        elsewhere_share=shares[1],
        undecided_share=shares[2],
        regret_per_request=regret,
        regret_total=regret.scaled(evidence.requests) if isinstance(regret, Estimate) else regret,
        segments=tuple(_decision(verdict) for verdict in verdicts[:LISTED]),
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
        notices.append(f"today's choices cannot be evaluated: {evidence.refusal}")
    elif evidence.grade != "A":
        notices.append(
            f"evidence grade {evidence.grade}: every opportunity is worth an A/B test, none is a promise. {evidence.grade_reason}"
        )
    if without_rule >= 1 and scope.requests:
        notices.append("no routing rule is logged; log the id of the rule that decided, so that rules can be evaluated one by one")
    if scope.parameters.goal in {"cost", "speed", "balanced"}:
        notices.append("the guard on slow requests (today's p95) needs single requests: it is checked when rules are proven, not here")
    return tuple(notices)


@dataclass(frozen=True)
class _Pick:
    """What was picked for one segment on one half of the sessions, and what the other half says of it.

    best: the model, with its changes on the other half; None when nothing keeps the guards, or today's mix is better. is_promised:
    it gains where it was picked; chance: that it does not gain, by the other half. no_worse: chance by model that it is no worse
    than the best; broken: models that break a guard.
    """

    segment: SegmentEvidence
    best: Choice | None
    gain: Measured
    is_promised: bool = False
    chance: float = 1.0
    no_worse: Mapping[str, float] = field(default_factory=dict)
    broken: frozenset[str] = frozenset()
    why: str | None = None
    today_is_best: bool = False


@dataclass(frozen=True)
class _SegmentVerdict:
    """A pick among all others: whether its gain is no chance find, and today's traffic sorted by it (best, elsewhere, undecided)."""

    pick: _Pick
    is_opportunity: bool
    shares: tuple[float, float, float]
    why: str | None


def _pick_of(segment: SegmentEvidence, scope: AnalysisScope, baseline: Today, strict_level: float) -> _Pick:
    """Pick for one segment; `strict_level`: level of the intervals by which a guard is called broken."""
    asked = scope.parameters
    choices = {arm.model: choice(segment, arm) for arm in segment.arms}
    of_guards: dict[str, GuardVerdict] = {model: keeps_guards(each, asked.goal, asked) for model, each in choices.items()}

    def losses(half: Half) -> dict[str, Measured]:
        return {arm.model: loss(choice(segment, arm, half), asked.goal, asked.weights, baseline) for arm in segment.arms}

    promised, seen = losses("learnt"), losses("held_out")
    safe = {
        model: found
        for model, found in promised.items()
        if of_guards[model] == "holds" and isinstance(found, Estimate) and isinstance(seen[model], Estimate)
    }
    broken = frozenset(
        model for model, each in choices.items() if keeps_guards(at_level(each, strict_level), asked.goal, asked) == "broken"
    )
    if not safe:
        why = "no model is shown to keep every guard here; route a small random share to more models, and score more answers"
        return _Pick(segment, None, Unidentifiable(unidentifiable=why), broken=broken, why=why)
    best = min(safe, key=lambda model: (safe[model].estimate + SELECTION_PENALTY_SE * standard_error(safe[model]), model))
    gain = weighted_sum([(-1.0, seen[best])])
    if safe[best].estimate > 0 and isinstance(gain, Estimate) and gain.high < 0:
        rest = [model for model, verdict in of_guards.items() if verdict == "unknown" and not _is_above_zero(seen[model])]
        if rest:
            why = "the models shown to keep every guard are worse than today's mix; of the others the logs cannot tell"
            return _Pick(segment, None, Unidentifiable(unidentifiable=why), broken=broken, why=why)
        return _Pick(segment, None, gain, today_is_best=True)
    no_worse = {
        model: 1.0 - chance_above(gap, 0.0)
        for model in seen
        if model != best and isinstance(gap := difference(seen[model], seen[best]), Estimate)
    }
    arm = next(arm for arm in segment.arms if arm.model == best)
    held_out = choice(segment, arm, "held_out")
    return _Pick(segment, held_out, gain, safe[best].estimate < 0, _chance_of_none(segment, held_out, gain, asked.goal), no_worse, broken)


def _chance_of_none(segment: SegmentEvidence, held_out: Choice, gain: Measured, goal: Goal) -> float:
    """One-sided p-value of a gain: that cost, time, or what is missing to the best quality, does not fall."""
    levels: dict[Goal, tuple[Measured, Measured]] = {
        "cost": (segment.cost_usd, held_out.cost_change_usd),
        "speed": (segment.latency_ms, held_out.latency_change_ms),
        "quality": (weighted_sum([(-1.0, segment.quality)]), weighted_sum([(-1.0, held_out.quality_change)])),
    }
    now, change = levels.get(goal, (gain, gain))
    if goal in levels and isinstance(now, Estimate) and isinstance(change, Estimate):
        return chance_not_lower(now.estimate + (1.0 if goal == "quality" else 0.0), change)
    return chance_above(gain.scaled(-1.0), 0.0) if isinstance(gain, Estimate) else 1.0


def _verdicts(picks: Sequence[_Pick]) -> list[_SegmentVerdict]:
    """All segments at once: of what was picked, what is no chance find, and which models are distinguishably worse."""
    chances = [(place, pick.chance) for place, pick in enumerate(picks) if pick.is_promised]
    adjusted = false_discovery_adjusted([chance for _, chance in chances])
    found = {place for (place, _), chance in zip(chances, adjusted, strict=True) if chance <= FALSE_DISCOVERY_RATE}
    pairs = [(place, model, chance) for place, pick in enumerate(picks) for model, chance in pick.no_worse.items()]
    tested = false_discovery_adjusted([chance for *_, chance in pairs])
    worse = {(place, model) for (place, model, _), chance in zip(pairs, tested, strict=True) if chance <= FALSE_DISCOVERY_RATE}
    return [_verdict(pick, place in found, pick.broken | {model for at, model in worse if at == place}) for place, pick in enumerate(picks)]


def _verdict(pick: _Pick, is_opportunity: bool, worse: Collection[str]) -> _SegmentVerdict:
    if pick.today_is_best:
        return _SegmentVerdict(pick, False, (1.0, 0.0, 0.0), None)
    if pick.best is None:
        return _SegmentVerdict(pick, False, (0.0, 0.0, 1.0), pick.why)
    best = sum(arm.share for arm in pick.segment.arms if arm.model == pick.best.model)
    elsewhere = sum(arm.share for arm in pick.segment.arms if arm.model in worse and arm.model != pick.best.model)
    # Models that the evidence does not list at all count as undecided.
    undecided = max(1.0 - best - elsewhere, 0.0)
    why = None if undecided < 1e-9 else "some models here are not distinguishable from the best one, or were seen too seldom"
    return _SegmentVerdict(pick, is_opportunity, (best, elsewhere, undecided), why)


def _is_above_zero(measured: Measured) -> bool:
    return isinstance(measured, Estimate) and measured.low > 0


def _decision(verdict: _SegmentVerdict) -> SegmentDecision:
    segment, best, gain = verdict.pick.segment, verdict.pick.best, verdict.pick.gain
    return SegmentDecision(
        segment=segment.id,
        label=segment.label,
        task_type=segment.task_type,
        requests=segment.requests,
        best=best.model if best is not None and isinstance(gain, Estimate) and gain.estimate > 0 else None,
        gain_per_request=gain,
        today_is_best=verdict.pick.today_is_best,
        best_share=verdict.shares[0],
        elsewhere_share=verdict.shares[1],
        undecided_share=verdict.shares[2],
        why_undecided=verdict.why,
    )


def _traffic_shares(verdicts: Sequence[_SegmentVerdict], requests: int) -> tuple[float, float, float]:
    """Shares of all requests: best, elsewhere, undecided; requests outside every segment are undecided."""
    if requests == 0:
        return 0.0, 0.0, 1.0
    best, elsewhere = (sum(verdict.pick.segment.requests * verdict.shares[place] for verdict in verdicts) / requests for place in (0, 1))
    return best, elsewhere, max(1.0 - best - elsewhere, 0.0)


def _opportunities(verdicts: Sequence[_SegmentVerdict]) -> list[MissedOpportunity]:
    found = [
        MissedOpportunity(
            segment=pick.segment.id,
            label=pick.segment.label,
            task_type=pick.segment.task_type,
            when=pick.segment.when,
            model=best.model,
            requests=pick.segment.requests,
            gain_per_request=gain,
            gain_total=gain.scaled(pick.segment.requests),
            saving_usd=weighted_sum([(-float(pick.segment.requests), best.cost_change_usd)]),
            cost_change_usd=best.cost_change_usd,
            quality_change=best.quality_change,
            latency_change_ms=best.latency_change_ms,
        )
        for pick in (verdict.pick for verdict in verdicts if verdict.is_opportunity)
        if (best := pick.best) is not None and isinstance(gain := pick.gain, Estimate)
    ]
    return sorted(found, key=lambda each: (-each.gain_total.estimate if isinstance(each.gain_total, Estimate) else 0.0, each.segment))


def _regret(verdicts: Sequence[_SegmentVerdict], evidence: RoutingEvidence) -> Measured:
    """Per request over all requests: what the models picked on one half of the sessions gain on the other, 0 where that is a loss.

    Where none was picked: 0, up to what the models that keep the guards could still gain at the far end of their intervals.
    """
    if evidence.refusal or evidence.requests == 0:
        return Unidentifiable(unidentifiable=evidence.refusal or "the evidence covers no request")
    gains = [
        (pick.segment.requests / evidence.requests, pick)
        for pick in (verdict.pick for verdict in verdicts)
        if isinstance(pick.gain, Estimate)
    ]
    picked = weighted_sum([(share, pick.gain) for share, pick in gains if pick.is_promised])
    if isinstance(picked, Estimate) and any(pick.is_promised for _, pick in gains):
        return picked.model_copy(update={name: max(getattr(picked, name), 0.0) for name in ("estimate", "low", "high")})
    if not gains:
        return Unidentifiable(unidentifiable="in no segment a model is shown to keep every guard, so nothing can be compared with today")
    most = sum(share * max(pick.gain.high, 0.0) for share, pick in gains if isinstance(pick.gain, Estimate))
    if most == 0:
        return Unidentifiable(unidentifiable="every model that keeps the guards is worse than today's routing: there is no regret to show")
    return Estimate(estimate=0.0, low=0.0, high=most)
