"""How likely a change does harm, and the level that follows: one for each rule and one for the set, wherever they are spoken of.

Belongs here: chances from intervals of what the held-out sessions showed, and the level. Does not belong here: how far harm reaches and
what stops it (`optimization_risks`), the estimates (`rules.impact`).
"""

from __future__ import annotations

from dataclasses import dataclass

from routing_pipeline.estimates import Measured, Result, Unidentifiable, quantity
from routing_pipeline.rules.impact import RuleImpact
from routing_pipeline.rules.model import Grade, Level
from routing_pipeline.stats import inference

LATENCY_TOLERANCE = 0.10
"""Mean latency may rise by this share of today's before it counts as harm."""
UNLIKELY = 0.05
LIKELY = 0.20
ALONE = Unidentifiable(unidentifiable="the effect of the rule alone was not estimated; the whole rule set was tested instead")


class Chance(Result):
    """The probability of a bad outcome, from an estimate and its interval: Student's t at the interval's degrees of freedom."""

    probability: float = quantity("Chance of the bad outcome", "0..1", ge=0, le=1)
    threshold: float = quantity("What counts as bad, in the unit of `estimate`", "as estimate")
    estimate: float = quantity("Estimated change that the chance is computed from", "as the field says")


def chance_above(change: Measured, threshold: float) -> Chance | Unidentifiable:
    """P(change > threshold), by `stats.inference.chance_above`."""
    if isinstance(change, Unidentifiable):
        return change
    return Chance(probability=inference.chance_above(change, threshold), threshold=threshold, estimate=change.estimate)


def chance_below(change: Measured, threshold: float) -> Chance | Unidentifiable:
    """P(change < threshold), in the same way."""
    if isinstance(change, Unidentifiable):
        return change
    mirrored = chance_above(change.scaled(-1.0), -threshold)
    if isinstance(mirrored, Unidentifiable):
        return mirrored
    return Chance(probability=mirrored.probability, threshold=threshold, estimate=change.estimate)


@dataclass(frozen=True)
class Risk:
    """Chances of three kinds of harm, the level, and why it is that one."""

    quality_falls: Chance | Unidentifiable
    latency_rises: Chance | Unidentifiable
    cost_rises: Chance | Unidentifiable
    level: Level
    why: str


def risk_of(grade: Grade, quality: Measured, least: float, latency: Measured, cost: Measured, *, proven_at_most: float = 1.0) -> Risk:
    """The risk of a change.

    Args:
        grade: of its evidence.
        quality: change of mean quality, 0..1.
        least: change below which quality counts as harmed.
        latency: change relative to today's mean.
        cost: change relative to today's.
        proven_at_most: of a fall of quality below `least`, by the proof that was passed. What is told afterwards is less its luck and
            holds for many sets at once, so its interval alone says more.
    """
    falls, slower = chance_below(quality, least), chance_above(latency, LATENCY_TOLERANCE)
    if isinstance(falls, Chance):
        falls = falls.model_copy(update={"probability": min(falls.probability, proven_at_most)})
    level, why = level_of(grade, falls, slower)
    return Risk(falls, slower, chance_above(cost, 0.0), level, why)


def risk_of_rule(grade: Grade, impact: RuleImpact | None, tolerance: float) -> Risk:
    """The risk of one rule on the requests that it decides, by what the held-out sessions showed of them; `tolerance` as for the whole set, 0..1."""
    if impact is None:
        return risk_of(grade, ALONE, -tolerance, ALONE, ALONE)
    return risk_of(grade, impact.quality_change, -tolerance, impact.latency_change, impact.cost_change)


def level_of(grade: Grade, quality_falls: Chance | Unidentifiable, latency_rises: Chance | Unidentifiable) -> tuple[Level, str]:
    """High where harm to quality is likely or unknown, Low where it is unlikely and nothing unlogged can have steered the routing."""
    if isinstance(quality_falls, Unidentifiable):
        return "High", "the effect on quality cannot be estimated from the logs"
    likely = quality_falls.probability
    slower = latency_rises.probability if isinstance(latency_rises, Chance) else 0.0
    if likely >= LIKELY:
        return "High", f"quality falls by more than the tolerance with a probability of {100 * likely:.0f} %"
    if grade == "A" and likely < UNLIKELY and slower < LIKELY:
        return "Low", "randomised or known routing probabilities, and a fall of quality is unlikely"
    if grade != "A":
        return "Medium", f"evidence of grade {grade}: unlogged factors may have influenced the routing"
    return (
        "Medium",
        f"quality falls by more than the tolerance with a probability of {100 * likely:.0f} %, latency rises by more than 10 % with one of {100 * slower:.0f} %",
    )
