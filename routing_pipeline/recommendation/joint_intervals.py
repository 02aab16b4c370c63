"""Confidence intervals that hold for all candidates of a question at once.

Belongs here: critical values by outcome, and outcomes and changes reported with them. Does not belong here: the statistic itself
(`stats.inference`), the sums of a policy (`policy.proof`).
"""

from __future__ import annotations

from dataclasses import dataclass

from routing_pipeline.estimates import Measured, Unidentifiable
from routing_pipeline.policy.proof import Evaluated
from routing_pipeline.recommendation.question import Question
from routing_pipeline.rules.model import Change, Outcomes, RelativeChange
from routing_pipeline.stats.inference import Statistic, interval, simultaneous


@dataclass(frozen=True)
class JointIntervals:
    """Outcomes with intervals that hold for the whole walk at once; levels and changes (`cost`, `cost change`) each by themselves."""

    question: Question
    critical: dict[str, float]

    def outcomes(self, outcome: Evaluated) -> Outcomes:
        """Per request."""
        return Outcomes(
            cost_usd=self._cost(outcome.cost),
            quality=interval(outcome.quality, self.critical["quality"], bounds=(0.0, 1.0), n=self.question.evidence.labelled),
            latency_ms=self._latency(outcome.latency),
        )

    def change(self, outcome: Evaluated, today: Evaluated) -> Change:
        """Relative to today; exactly 0 where nothing changes."""
        return Change(
            cost_usd=RelativeChange(relative=self.cost_change(outcome, today)),
            quality=RelativeChange(relative=interval(outcome.quality.relative_to(today.quality), self.critical["quality change"])),
            latency_ms=RelativeChange(relative=self._latency(outcome.latency.relative_to(today.latency), " change")),
        )

    def quality_change(self, outcome: Evaluated, today: Evaluated) -> Measured:
        """Difference from today, in points of quality."""
        return interval(outcome.quality - today.quality, self.critical["quality change"])

    def cost_change(self, outcome: Evaluated, today: Evaluated) -> Measured:
        """Relative to today."""
        return self._cost(outcome.cost.relative_to(today.cost), " change")

    def saving(self, less: Statistic) -> Measured:
        """A fall of cost, in the statistic's unit."""
        return self._cost(less, " change")

    def _cost(self, statistic: Statistic, kind: str = "") -> Measured:
        if not self.question.has_cost:
            return Unidentifiable(unidentifiable="too many requests have no known cost; log cost, or name the models' prices")
        return interval(statistic, self.critical[f"cost{kind}"])

    def _latency(self, statistic: Statistic, kind: str = "") -> Measured:
        if not self.question.has_latency:
            return Unidentifiable(unidentifiable="latency is not logged")
        return interval(statistic, self.critical[f"latency{kind}"])


def joint_intervals(question: Question, family: list[Evaluated], today: Evaluated) -> JointIntervals:
    """Critical values under which the levels of every policy in the family hold together, and so the changes, by outcome."""
    critical = {}
    for name in ("cost", "quality", "latency"):
        now: Statistic = getattr(today, name)
        then: list[Statistic] = [getattr(outcome, name) for outcome in family]
        critical[name] = simultaneous([now, *then])
        critical[f"{name} change"] = simultaneous([change for each in then for change in (each.relative_to(now), each - now)])
    return JointIntervals(question, critical)
