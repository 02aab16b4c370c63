"""What one model would have given for a kind of request, by the user's goal, and which guards it keeps.

Belongs here: reading a choice off the evidence, the change that it makes for a goal, the guards of every goal, and which names of
models and tasks are choices of their own and not one of many others. Does not belong here: proving a rule set on data that its search never saw (`policy.proof`); a choice that passes here is a lead.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any, Literal

import ibis

from routing_pipeline.estimates import Estimate, Measured, Unidentifiable
from routing_pipeline.parameters import Goal, Parameters, Weights
from routing_pipeline.policy.evidence_model import ArmEvidence, HalfEvidence, RoutingEvidence, SegmentEvidence
from routing_pipeline.rules.model import When
from routing_pipeline.stats import inference
from routing_pipeline.stats.inference import weighted_sum

SELECTION_PENALTY_SE = 0.5
"""Standard errors that a model's promise is marked down by while the best one is chosen."""
LISTED = 50
"""Names of one column that are spelled out."""
OTHERS = "(others)"
COMPLETION_TOLERANCE = 0.005
"""Success may fall by half a point, no more."""

GuardVerdict = Literal["holds", "broken", "unknown"]

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


Half = Literal["learnt", "held_out"]


def choice(segment: SegmentEvidence, arm: ArmEvidence, half: Half | None = None) -> Choice:
    """Sending the whole segment to one model; everything is unknown where the logs do not support it.

    `half`: the changes are those of this half of the sessions alone. Whatever is the best of many on the sessions that it was
    picked on looks better than it is; so choices are made on the half `learnt`, and what they gain is told of the other.
    """
    if not arm.supported:
        unknown = Unidentifiable(unidentifiable=f"{arm.model} was not seen often enough in every part of the segment")
        return Choice(arm.model, *(unknown,) * 7, success_today=segment.success)
    changes = arm if half is None else (arm.learnt if half == "learnt" else arm.held_out) or _NO_HALF
    return Choice(
        arm.model,
        cost_usd=arm.cost_usd,
        quality=arm.quality,
        latency_ms=arm.latency_ms,
        success=arm.success,
        cost_change_usd=changes.cost_change_usd,
        quality_change=changes.quality_change,
        latency_change_ms=changes.latency_change_ms,
        success_today=segment.success,
    )


def at_level(of: Choice, level: float) -> Choice:
    """The same choice with intervals of another level, for many of them at once."""
    values: dict[str, Any] = {name: inference.at_level(value, level) for name, value in vars(of).items() if name != "model"}
    return replace(of, **values)


_ONE_HALF = Unidentifiable(unidentifiable="the evidence does not tell the halves of the sessions apart here")
_NO_HALF = HalfEvidence(cost_change_usd=_ONE_HALF, quality_change=_ONE_HALF, latency_change_ms=_ONE_HALF)


def fold_rare(requests: ibis.Table, column: str, distinct: int, *, keep: int = LISTED) -> ibis.Table:
    """Rename all but the `keep` most frequent names of a text column to `(others)`; null stays null.

    Asks the engine only when `distinct`, the number of names known to be in the column, is above `keep`.
    """
    if distinct <= keep:
        return requests
    counted = requests.filter(requests[column].notnull()).group_by(column).agg(n=lambda t: t.count())
    largest = counted.order_by(ibis.desc("n"), column).limit(keep).to_pyarrow().to_pylist()
    names = [row[column] for row in largest]
    is_rare = requests[column].notnull() & ~requests[column].isin(names)
    return requests.mutate(**{column: ibis.ifelse(is_rare, OTHERS, requests[column])})


def segment_place(rows: ibis.Table, whens: Sequence[When]) -> ibis.expr.types.Value:
    """Place of the first conditions that hold for a row, null when none do."""
    if not whens:
        return ibis.null("int64")
    return ibis.cases(*((when.holds(rows), ibis.literal(place, "int64")) for place, when in enumerate(whens)))


def mixed(parts: Sequence[tuple[float, Choice]]) -> Choice:
    """The same model over several kinds of request, weighted by their shares (which add up to 1)."""

    def over(name: str) -> Measured:
        whole = weighted_sum([(weight, getattr(part, name)) for weight, part in parts])
        return whole.within(*inference.BOUNDS[name]) if name in inference.BOUNDS and isinstance(whole, Estimate) else whole

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
    """Today's means, as the evidence tells them; of evidence without them, those of its task types weighted by their requests."""
    if evidence.today is not None and not evidence.refusal:
        return Today(evidence.today.cost_usd, evidence.today.quality, evidence.today.latency_ms)
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
        said.append(f"mean cost per request not above ${parameters.cost_threshold:g}, or not above today's")
    elif goal == "quality":
        said.append("mean cost per request not above today's")
    return tuple(said)


def quality_floor(parameters: Parameters) -> str:
    """The quality floor in words."""
    kept = f"mean quality not below today's by more than {parameters.max_quality_drop:g}"
    if parameters.quality_threshold is None:
        return kept
    return f"{kept}, and not below {parameters.quality_threshold:g} (not below today's where that is less)"


def keeps_guards(of: Choice, goal: Goal, parameters: Parameters) -> GuardVerdict:
    """Whether every guard of the goal holds at the safe end of its interval, is surely broken, or cannot be told."""
    verdicts = [_keeps_completion(of)]
    if goal != "quality" or parameters.quality_threshold is not None:
        verdicts.append(keeps_quality(of, parameters))
    if goal == "quality" or parameters.cost_threshold is not None:
        verdicts.append(_keeps_cost(of, parameters))
    return _all_of(verdicts)


def keeps_quality(of: Choice, parameters: Parameters) -> GuardVerdict:
    """The quality floor: not worse than today by more than allowed, and the absolute threshold where one is given.

    The threshold is one of all requests together: a kind of request that lies below it today need not reach it, but must not fall.
    """
    fall = _at_least(of.quality_change, -parameters.max_quality_drop)
    if parameters.quality_threshold is None:
        return fall
    return _all_of([fall, _any_of([_at_least(of.quality, parameters.quality_threshold), _at_least(of.quality_change, 0.0)])])


def _keeps_completion(of: Choice) -> GuardVerdict:
    if isinstance(of.success_today, Unidentifiable):
        return "unknown"
    return _at_least(of.success, of.success_today.estimate - COMPLETION_TOLERANCE)


def _keeps_cost(of: Choice, parameters: Parameters) -> GuardVerdict:
    verdicts = [_at_most(of.cost_change_usd, 0.0)]
    if parameters.cost_threshold is not None:
        verdicts.append(_at_most(of.cost_usd, parameters.cost_threshold))
    return _any_of(verdicts)


def _at_least(measured: Measured, floor: float) -> GuardVerdict:
    if not isinstance(measured, Estimate):
        return "unknown"
    return "holds" if measured.low >= floor else "broken" if measured.high < floor else "unknown"


def _at_most(measured: Measured, ceiling: float) -> GuardVerdict:
    return _at_least(weighted_sum([(-1.0, measured)]), -ceiling)


def _all_of(verdicts: Sequence[GuardVerdict]) -> GuardVerdict:
    return "broken" if "broken" in verdicts else "unknown" if "unknown" in verdicts else "holds"


def _any_of(verdicts: Sequence[GuardVerdict]) -> GuardVerdict:
    return "holds" if "holds" in verdicts else "unknown" if "unknown" in verdicts else "broken"
