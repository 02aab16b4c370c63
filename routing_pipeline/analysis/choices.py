"""What one model would have given for a kind of request, by the user's goal, and which guards it keeps.

Belongs here: reading a choice off the evidence, the change that it makes for a goal, and the guards of every goal. Does not
belong here: proving a rule set on data that its search never saw (`policy.proof`); a choice that passes here is a lead.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

import ibis

from routing_pipeline.comparisons import weighted_sum
from routing_pipeline.estimates import Estimate, Measured, Unidentifiable
from routing_pipeline.parameters import Goal, Parameters, Weights
from routing_pipeline.policy.evidence_model import ArmEvidence, RoutingEvidence, SegmentEvidence
from routing_pipeline.policy.rule_set import When

COMPLETION_TOLERANCE = 0.005
"""Success may fall by half a point, no more."""

Verdict = Literal["holds", "broken", "unknown"]

UNITS: dict[Goal, str] = {"cost": "USD", "speed": "ms", "quality": "0..1", "balanced": "weighted shares of today's means"}


@dataclass(frozen=True)
class Choice:
    """All requests of one kind sent to one model: levels, and changes against today's routing of the same requests."""

    model: str
    cost_usd: Measured
    quality: Measured
    latency_ms: Measured
    success: Measured
    cost_change_usd: Measured
    quality_change: Measured
    latency_change_ms: Measured
    success_today: Measured


@dataclass(frozen=True)
class Today:
    """Today's means over all requests; what the balanced goal scales by."""

    cost_usd: Measured
    quality: Measured
    latency_ms: Measured


def choice(segment: SegmentEvidence, arm: ArmEvidence) -> Choice:
    """Sending the whole segment to one model; everything is unknown where the logs do not support it."""
    if not arm.supported:
        unknown = Unidentifiable(unidentifiable=f"{arm.model} was not seen often enough in every part of the segment")
        return Choice(arm.model, *(unknown,) * 7, success_today=segment.success)
    return Choice(
        arm.model,
        cost_usd=arm.cost_usd,
        quality=arm.quality,
        latency_ms=arm.latency_ms,
        success=arm.success,
        cost_change_usd=arm.cost_change_usd,
        quality_change=arm.quality_change,
        latency_change_ms=arm.latency_change_ms,
        success_today=segment.success,
    )


def segment_place(rows: ibis.Table, whens: Sequence[When]) -> ibis.expr.types.Value:
    """Place of the first conditions that hold for a row, null when none do."""
    if not whens:
        return ibis.null("int64")
    return ibis.cases(*((when.holds(rows), ibis.literal(place, "int64")) for place, when in enumerate(whens)))


def mixed(parts: Sequence[tuple[float, Choice]]) -> Choice:
    """The same model over several kinds of request, weighted by their shares (which add up to 1)."""

    def over(name: str) -> Measured:
        return weighted_sum([(weight, getattr(part, name)) for weight, part in parts])

    return Choice(
        parts[0][1].model,
        cost_usd=over("cost_usd"),
        quality=over("quality"),
        latency_ms=over("latency_ms"),
        success=over("success"),
        cost_change_usd=over("cost_change_usd"),
        quality_change=over("quality_change"),
        latency_change_ms=over("latency_change_ms"),
        success_today=over("success_today"),
    )


def today(evidence: RoutingEvidence) -> Today:
    """Today's means over everything that the evidence covers, task types weighted by their requests."""
    requests = sum(task.requests for task in evidence.tasks)
    if requests == 0:
        nothing = Unidentifiable(unidentifiable=evidence.refusal or "the evidence covers no request")
        return Today(nothing, nothing, nothing)

    def mean(name: str) -> Measured:
        return weighted_sum([(task.requests / requests, getattr(task, name)) for task in evidence.tasks])

    return Today(mean("cost_usd"), mean("quality"), mean("latency_ms"))


def loss(of: Choice, goal: Goal, weights: Weights, baseline: Today) -> Measured:
    """Change against today in the goal's unit (`UNITS`), lower is better.

    cost: dollars per request; speed: milliseconds; quality: quality lost; balanced: w_c dC/C + w_s dL/L - w_q dQ/Q, with
    today's means C, L, Q (their own error is left out: it scales all choices alike).
    """
    if goal == "cost":
        return of.cost_change_usd
    if goal == "speed":
        return of.latency_change_ms
    if goal == "quality":
        return weighted_sum([(-1.0, of.quality_change)])
    parts: list[tuple[float, Measured]] = []
    for weight, change, mean in (
        (weights.cost, of.cost_change_usd, baseline.cost_usd),
        (weights.speed, of.latency_change_ms, baseline.latency_ms),
        (-weights.quality, of.quality_change, baseline.quality),
    ):
        if weight == 0:
            continue
        if isinstance(mean, Unidentifiable):
            return mean
        if mean.estimate <= 0:
            return Unidentifiable(unidentifiable="the balanced goal scales by today's means, and one of them is 0; name another goal")
        parts.append((weight / mean.estimate, change))
    return weighted_sum(parts)


def guards(goal: Goal, parameters: Parameters) -> tuple[str, ...]:
    """The guards of a goal in words."""
    said = [f"completion not below today's by more than {COMPLETION_TOLERANCE:.3g}"]
    if goal != "quality" or parameters.quality_threshold is not None:
        said.append(quality_floor(parameters))
    if parameters.cost_threshold is not None:
        said.append(f"mean cost per request not above {parameters.cost_threshold:g} USD, or not above today's")
    elif goal == "quality":
        said.append("mean cost per request not above today's")
    return tuple(said)


def quality_floor(parameters: Parameters) -> str:
    """The quality floor in words."""
    kept = f"below today's by more than {parameters.max_quality_drop:g}"
    if parameters.quality_threshold is None:
        return f"mean quality not {kept}"
    return f"mean quality not below {parameters.quality_threshold:g}, or not {kept}"


def keeps_guards(of: Choice, goal: Goal, parameters: Parameters) -> Verdict:
    """Whether every guard of the goal holds at the safe end of its interval, is surely broken, or cannot be told."""
    verdicts = [_keeps_completion(of)]
    if goal != "quality" or parameters.quality_threshold is not None:
        verdicts.append(keeps_quality(of, parameters))
    if goal == "quality" or parameters.cost_threshold is not None:
        verdicts.append(_keeps_cost(of, parameters))
    return _all_of(verdicts)


def keeps_quality(of: Choice, parameters: Parameters) -> Verdict:
    """The quality floor: the absolute threshold where one is given, else (or besides) not worse than today by more than allowed."""
    verdicts = [_at_least(of.quality_change, -parameters.max_quality_drop)]
    if parameters.quality_threshold is not None:
        verdicts.append(_at_least(of.quality, parameters.quality_threshold))
    return _any_of(verdicts)


def _keeps_completion(of: Choice) -> Verdict:
    if isinstance(of.success_today, Unidentifiable):
        return "unknown"
    return _at_least(of.success, of.success_today.estimate - COMPLETION_TOLERANCE)


def _keeps_cost(of: Choice, parameters: Parameters) -> Verdict:
    verdicts = [_at_most(of.cost_change_usd, 0.0)]
    if parameters.cost_threshold is not None:
        verdicts.append(_at_most(of.cost_usd, parameters.cost_threshold))
    return _any_of(verdicts)


def _at_least(measured: Measured, floor: float) -> Verdict:
    if not isinstance(measured, Estimate):
        return "unknown"
    return "holds" if measured.low >= floor else "broken" if measured.high < floor else "unknown"


def _at_most(measured: Measured, ceiling: float) -> Verdict:
    return _at_least(weighted_sum([(-1.0, measured)]), -ceiling)


def _all_of(verdicts: Sequence[Verdict]) -> Verdict:
    return "broken" if "broken" in verdicts else "unknown" if "unknown" in verdicts else "holds"


def _any_of(verdicts: Sequence[Verdict]) -> Verdict:
    return "holds" if "holds" in verdicts else "unknown" if "unknown" in verdicts else "broken"
