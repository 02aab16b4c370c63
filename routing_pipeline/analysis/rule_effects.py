"""Today's routing rules: what passes through each, and what the best single alternative would have given.

Does not belong here: segments, whichever rule sent them (`routing_decisions`); rules that are proposed (`recommendation`).
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import ibis
import numpy as np
from pydantic import Field

from routing_pipeline.analysis.choices import (
    LISTED,
    SELECTION_PENALTY_SE,
    Choice,
    Half,
    Today,
    choice,
    fold_rare,
    keeps_guards,
    loss,
    mixed,
    segment_place,
)
from routing_pipeline.estimates import Estimate, Measured, Result, Unidentifiable, quantity
from routing_pipeline.policy.evidence_model import ArmEvidence, RoutingEvidence, SegmentEvidence
from routing_pipeline.rules.model import Outcomes, cannot_tell
from routing_pipeline.stats.inference import BOUNDS, Floats, clustered_mean, proportion_interval, standard_error, weighted_sum
from routing_pipeline.text import LogName
from routing_pipeline.window.scope import CLUSTERS, AnalysisScope

COVERED = 0.95
"""Share of a rule's requests that the evidence must cover before an alternative to the rule is named."""


class RuleEffect(Result):
    """One rule of today's gateway: what passes through it and what the best single alternative would have given."""

    rule_id: LogName
    requests: int = quantity("Final requests that it decided", "requests")
    share: float = quantity("Of all final requests", "0..1")
    models: dict[LogName, float] = Field(description="Share of its requests by the model it chose first, largest first")
    spend_usd: float | None = quantity("Spend of its requests; null when none is priced", "USD")
    today: Outcomes = Field(description="What its requests got, as they came")
    success: Measured = quantity("Share of its requests that ended well", "0..1")
    covered_share: float = quantity("Share of its requests that fall into a segment of the evidence", "0..1")
    alternative: LogName | None = Field(
        description="Best single model for its mix of segments, of those that meet every guard and are estimated better than today's routing; null when none is"
    )
    today_is_best: bool = Field(
        default=False,
        description="Models are shown to meet every guard, and none is estimated better than today's routing of the same segments",
    )
    alternative_outcomes: Outcomes = Field(
        description="What that model would have given for its mix of segments; today's where that is best"
    )
    gain_per_request: Measured = Field(
        description="Alternative against today's routing of the same segments, in the goal's unit; above 0 at the estimate where one is named, exactly 0 where today is best"
    )


def rule_effects(
    requests: ibis.Table, scope: AnalysisScope, evidence: RoutingEvidence, baseline: Today
) -> tuple[list[RuleEffect], int, float]:
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
    today_is_best: bool = False


def _alternative(mix: Mapping[int, int], n: int, scope: AnalysisScope, evidence: RoutingEvidence, baseline: Today) -> _Alternative:
    """Best single model for a rule's mix of segments: keeps every guard over the mix, least loss for the goal, and less than today's routing.

    Picked on one half of the sessions; what it gains is told of the other. The rule's requests are taken to be like the others of their segments.
    """
    placed = sum(mix.values())
    covered = placed / n if n else 0.0
    if evidence.refusal:
        return _Alternative(covered, None, Unidentifiable(unidentifiable=evidence.refusal))
    if covered < COVERED:
        why = f"only {100 * covered:.0f} % of the rule's requests fall into a segment of the evidence"
        return _Alternative(covered, None, Unidentifiable(unidentifiable=why))
    asked = scope.parameters
    parts: dict[str, list[tuple[float, SegmentEvidence, ArmEvidence]]] = defaultdict(list)
    for place, count in sorted(mix.items()):
        segment = evidence.segments[place]
        for arm in segment.arms:
            parts[arm.model].append((count / placed, segment, arm))

    def over(model: str, half: Half | None = None) -> Choice:
        return mixed([(share, choice(segment, arm, half)) for share, segment, arm in parts[model]])

    safe: list[tuple[float, str]] = []
    for model, of in parts.items():
        if len(of) < len(mix):
            continue
        promised = loss(over(model, "learnt"), asked.goal, asked.weights, baseline)
        if isinstance(promised, Estimate) and keeps_guards(over(model), asked.goal, asked) == "holds":
            safe.append((promised.estimate + SELECTION_PENALTY_SE * standard_error(promised), model))
    if not safe:
        why = "no single model is shown to keep every guard over the rule's requests; route a small random share to more models"
        return _Alternative(covered, None, Unidentifiable(unidentifiable=why))
    best = min(safe)[1]
    seen = loss(over(best, "held_out"), asked.goal, asked.weights, baseline)
    return _unless_today(covered, over(best), weighted_sum([(-1.0, seen)]))


def _unless_today(covered: float, best: Choice, gain: Measured) -> _Alternative:
    """The alternative, unless today's routing is estimated as good or better."""
    if isinstance(gain, Estimate) and gain.estimate <= 0:
        return _Alternative(covered, None, Estimate(estimate=0.0, low=0.0, high=0.0), today_is_best=True)
    return _Alternative(covered, best, gain)


def _effect(rule: str, share: float, models: Mapping[str, int], sums: Mapping[str, Floats], alternative: _Alternative) -> RuleEffect:
    n = float(sums["n"].sum())
    largest = sorted(models.items(), key=lambda item: (-item[1], item[0]))[:LISTED]
    best = alternative.best
    today = Outcomes(**{name: clustered_mean(sums[f"{name}_sum"], sums[f"{name}_n"], bounds=BOUNDS[name]) for name in _OUTCOMES})
    if best is None:
        instead = cannot_tell(alternative.gain.unidentifiable) if isinstance(alternative.gain, Unidentifiable) else today
    else:
        instead = Outcomes(cost_usd=best.cost_usd, quality=best.quality, latency_ms=best.latency_ms)
    return RuleEffect(
        rule_id=rule,
        requests=int(n),
        share=share,
        models={model: count / n for model, count in largest},
        spend_usd=float(sums["cost_usd_sum"].sum()) if sums["cost_usd_n"].sum() else None,
        today=today,
        success=proportion_interval(float(sums["ok"].sum()), n),
        covered_share=alternative.covered,
        alternative=None if best is None else best.model,
        today_is_best=alternative.today_is_best,
        alternative_outcomes=instead,
        gain_per_request=alternative.gain,
    )
