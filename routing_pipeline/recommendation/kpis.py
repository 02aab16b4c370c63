"""The KPIs of a rollout: what to watch, today's value, the target, and when to alert.

Belongs here: the words of each KPI as a row, and its numbers. Does not belong here: canary steps and boundaries (`monitoring_plan`).
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from pydantic import Field

from routing_pipeline.estimates import Estimate, Measured, Result, Unidentifiable
from routing_pipeline.policy.evidence_model import RoutingEvidence
from routing_pipeline.recommendation.applied_limits import quality_floor
from routing_pipeline.recommendation.routing_rules import RoutingRules
from routing_pipeline.stats.inference import proportion_interval

COMPLETION_MARGIN = 0.005
LATENCY_MARGIN = 0.10
NOT_TOLD = Unidentifiable(unidentifiable="the evidence has no completion rate")

Direction = Literal["above", "below"]


class Kpi(Result):
    """One number to watch."""

    name: str
    unit: Literal["USD", "0..1", "ms", "share"]
    baseline: Measured = Field(description="Today, in `unit`")
    target: float | None = Field(default=None, description="In `unit`; null when there is none to promise")
    target_text: str
    alert_threshold: float | None = Field(default=None, description="In `unit`; null when it cannot be set yet")
    alert_when: Direction
    alert_text: str
    owner: str


@dataclass(frozen=True)
class KpiText:
    """The words of one KPI; `no_target` where none can be set."""

    name: str
    unit: Literal["USD", "0..1", "ms", "share"]
    alert_when: Direction
    alert_text: str
    target_text: str
    no_target: str
    owner: str


PLATFORM = "LLM platform team"
COST = KpiText("Cost per request", "USD", "above", "upper end of today's interval", "expected by the proof", "no target yet", "FinOps")
QUALITY = KpiText(
    "Mean quality of successful answers",
    "0..1",
    "below",
    "upper end of the day's interval below the floor",
    "not below the floor",
    "collect scores first",
    "Product owners of the task types",
)
LATENCY = KpiText(
    "Mean latency",
    "ms",
    "above",
    f"upper end of today's interval plus {100 * LATENCY_MARGIN:.0f} %",
    "expected by the proof",
    "no target yet",
    PLATFORM,
)
COMPLETION = KpiText("Completion rate", "share", "below", "half a point below today's", "not below today's", "not below today's", PLATFORM)
SCORES = KpiText(
    "Share of answers with a quality score",
    "share",
    "below",
    "half of today's: without scores the guardrail cannot work",
    "not below today's",
    "collect scores first",
    "Owner of the judge or rating feed",
)
COVERAGE = KpiText(
    "Share of requests that carry a rule id of this rule set",
    "share",
    "below",
    "half of the step's share: the gateway has not loaded the rules, or they do not match",
    "at 100 % rollout, the share that the rules move",
    "no target yet",
    PLATFORM,
)


def kpis(
    evidence: RoutingEvidence, rules: RoutingRules, scored: tuple[int, float] | None, completed: Measured | None = None
) -> tuple[Kpi, ...]:
    """What to watch, with today's values and thresholds.

    Args:
        evidence: today's outcomes.
        rules: what was proven, if anything was.
        scored: answers with a quality and their share (0..1), where there are enough.
        completed: share of the window's requests that ended well, as counted; without it the evidence's stands in.
    """
    today, proposed = rules.rule_set.expected.baseline, rules.rule_set.expected.proposed
    applied = quality_floor(rules.rule_set)
    floor = rules.rule_set.constraints.min_quality if applied is None else applied.floor
    success = completed or (NOT_TOLD if evidence.today is None else evidence.today.success)
    least = max(success.estimate - COMPLETION_MARGIN, 0.0) if isinstance(success, Estimate) else None
    found = [
        _kpi(COST, today.cost_usd, _estimated(proposed.cost_usd), _above_today(today.cost_usd, 1.0)),
        _kpi(QUALITY, today.quality, floor, floor),
        _kpi(LATENCY, today.latency_ms, _estimated(proposed.latency_ms), _above_today(today.latency_ms, 1 + LATENCY_MARGIN)),
        _kpi(COMPLETION, success, _estimated(success), least),
    ]
    if scored is not None:
        labelled, rate = scored
        found.append(_kpi(SCORES, proportion_interval(labelled, labelled / rate), rate, rate / 2))
    if rules.rule_set.rules:
        found.append(_kpi(COVERAGE, Estimate(estimate=0.0, low=0.0, high=0.0), rules.moved_share, rules.moved_share / 2))
    return tuple(found)


def _kpi(words: KpiText, baseline: Measured, target: float | None, threshold: float | None) -> Kpi:
    return Kpi(
        name=words.name,
        unit=words.unit,
        baseline=baseline,
        target=target,
        target_text=words.no_target if target is None else words.target_text,
        alert_threshold=threshold,
        alert_when=words.alert_when,
        alert_text=words.alert_text,
        owner=words.owner,
    )


def _estimated(value: Measured) -> float | None:
    return value.estimate if isinstance(value, Estimate) else None


def _above_today(value: Measured, factor: float) -> float | None:
    return value.high * factor if isinstance(value, Estimate) else None
