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
from routing_pipeline.stats.inference import NOT_NEGATIVE, RELATIVE, SHARE, Statistic, interval, simultaneous


@dataclass(frozen=True)
class JointIntervals:
    """Outcomes with intervals that hold for the whole walk at once; levels and changes (`cost`, `cost change`) each by themselves."""

    question: Question
    critical: dict[str, float]

    def outcomes(self, outcome: Evaluated) -> Outcomes:
        """Per request."""
        return Outcomes(
            cost_usd=self._cost(outcome.cost, "", NOT_NEGATIVE),
            quality=interval(outcome.quality, self.critical["quality"], bounds=SHARE, n=self.question.evidence.labelled),
            latency_ms=self._latency(outcome.latency, "", NOT_NEGATIVE),
        )

    def change(self, outcome: Evaluated, today: Evaluated, *, has_passed: bool = False) -> Change:
        """Relative to today; exactly 0 where nothing changes. has_passed: as for `quality_change`."""
        quality = interval(outcome.quality.relative_to(today.quality), self.critical["quality change"])
        return Change(
            cost_usd=RelativeChange(relative=self.cost_change(outcome, today)),
            quality=RelativeChange(relative=self._as_proven(quality, today.quality.value) if has_passed else quality),
            latency_ms=RelativeChange(relative=self._latency(outcome.latency.relative_to(today.latency), " change", RELATIVE)),
        )

    def quality_change(self, outcome: Evaluated, today: Evaluated, *, has_passed: bool = False) -> Measured:
        """Difference from today, 0..1. has_passed: the rules passed their proof, which rules out a fall beyond the limit."""
        change = interval(outcome.quality - today.quality, self.critical["quality change"])
        return self._as_proven(change, 1.0) if has_passed else change

    def _as_proven(self, change: Measured, unit: float) -> Measured:
        """A change of quality, in parts of `unit`, whose low end is no lower than the fall that the proof of these rules has ruled out.

        What is told is less its luck (`policy.flattery`) and holds for the whole walk, so its interval is wider than the test was. The
        test that was passed still holds: at the proof's level, no passed set is below the limit.
        """
        if isinstance(change, Unidentifiable) or self.question.scope.parameters.explore_only or unit <= 0:
            return change
        ruled_out = min(-self.question.limits.max_quality_drop / unit, change.estimate)
        return change.model_copy(update={"low": max(change.low, ruled_out)})

    def cost_change(self, outcome: Evaluated, today: Evaluated) -> Measured:
        """Relative to today."""
        return self._cost(outcome.cost.relative_to(today.cost), " change", RELATIVE)

    def saving(self, less: Statistic) -> Measured:
        """A fall of cost, in the statistic's unit."""
        return self._cost(less, " change", None)

    def _cost(self, statistic: Statistic, kind: str, bounds: tuple[float, float] | None) -> Measured:
        if not self.question.has_cost:
            return Unidentifiable(unidentifiable="too many requests have no known cost; log cost, or name the models' prices")
        return interval(statistic, self.critical[f"cost{kind}"], bounds=bounds)

    def _latency(self, statistic: Statistic, kind: str, bounds: tuple[float, float]) -> Measured:
        if not self.question.has_latency:
            return Unidentifiable(unidentifiable="latency is not logged")
        return interval(statistic, self.critical[f"latency{kind}"], bounds=bounds)


def joint_intervals(question: Question, family: list[Evaluated], today: Evaluated) -> JointIntervals:
    """Critical values under which the levels of every policy in the family hold together, and so the changes, by outcome."""
    critical = {}
    for name in ("cost", "quality", "latency"):
        now: Statistic = getattr(today, name)
        then: list[Statistic] = [getattr(outcome, name) for outcome in family]
        critical[name] = simultaneous([now, *then])
        critical[f"{name} change"] = simultaneous([change for each in then for change in (each.relative_to(now), each - now)])
    return JointIntervals(question, critical)
