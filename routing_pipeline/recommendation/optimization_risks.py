"""`assess_optimization_risks`: how likely each change is to do harm, how far the harm reaches, and what stops it.

Belongs here: probabilities from the evidence's own intervals, tipping points, blast radius, and the mitigation that
fits. Does not belong here: the evidence (`policy`), sample sizes of the canary (`recommendation.monitoring_plan`).
"""

from __future__ import annotations

from pydantic import Field

from routing_pipeline.estimates import Measured, Result, Unidentifiable, quantity
from routing_pipeline.policy.rule_set import Level


class Chance(Result):
    """The probability of a bad outcome, from an estimate and its interval by the normal approximation."""

    probability: float = quantity("Chance of the bad outcome", "0..1", ge=0, le=1)
    threshold: float = quantity("What counts as bad, in the unit of `estimate`", "as estimate")
    estimate: float = quantity("Estimated change that the chance is computed from", "as the field says")


class BlastRadius(Result):
    """How much is hit when the change goes wrong."""

    traffic_share: float = quantity("Share of final requests that the change touches", "0..1")
    spend_share: float | None = quantity("Share of spend that they make up; null when unknown", "0..1", default=None)
    task_types: tuple[str, ...]
    teams: tuple[str, ...] = Field(default=(), description="Largest first, at most 20")
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
    quality_falls: Chance | Unidentifiable = Field(description="Quality of all requests falls by more than the tolerance")
    latency_rises: Chance | Unidentifiable = Field(description="Mean latency rises by more than a tenth")
    cost_rises: Chance | Unidentifiable = Field(description="Cost per request rises at all")
    tipping_point: Measured = quantity("Hidden overstatement of quality on moved traffic that would undo the claim", "0..1")
    sensitivity: str = Field(description="What the tipping point means here, in words")
    blast_radius: BlastRadius
    mitigation: Mitigation
    risk: Level
    why: str


class OptimizationRisks(Result):
    """The answer to `assess_optimization_risks`."""

    quality_tolerance: float = quantity("Fall of mean quality that counts as harm", "0..1")
    changes: tuple[ChangeRisk, ...]
    general: tuple[str, ...] = Field(description="Risks that no single change carries")
    overall: Level
    verdict: str = Field(description="One sentence for a manager")
