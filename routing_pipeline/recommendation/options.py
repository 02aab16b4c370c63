"""Which proven rule sets there are to choose from, and whom each of them hits worst.

Belongs here: which of the sets that passed one walk are offered, which one is proposed. Does not belong here: proving them
(`policy.proof`), what is told of each (`offered`).

All of them passed the same walk, so that offering them is no further look at the sessions: whichever is taken, the chance that it
breaks a limit is that of the walk.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

from routing_pipeline.estimates import Measured, Result, quantity
from routing_pipeline.policy import proof, task_floors
from routing_pipeline.policy.proof import Evaluated, Verdict
from routing_pipeline.policy.rule_blocks import blocks_of
from routing_pipeline.policy.task_floors import TaskChange
from routing_pipeline.recommendation.question import Question, goal_weights
from routing_pipeline.stats.inference import interval, simultaneous
from routing_pipeline.text import LogName

OptionId = Literal["no_loss", "balanced", "boldest"]
NAMES: dict[OptionId, str] = {"no_loss": "No loss", "balanced": "Balanced", "boldest": "Boldest"}
SPARED = 0.5
"""Share of the allowed fall of quality that the balanced set leaves unused, as expected."""
NEAR = 0.02
"""Share of its gain that a set may give up for fewer rules."""


class WorstHit(Result):
    """The task whose mean quality is expected to fall most."""

    task_type: LogName
    requests: int = quantity("Of the window", "requests")
    scored: int = quantity("Of their answers", "answers")
    expected_change: float = quantity(
        "Change of mean quality to expect, pulled towards that of the other tasks as far as they are alike", "0..1"
    )
    quality_change: Measured = quantity("Its own held-out change alone; the interval holds for all moved tasks at once", "0..1")


class WorstTeam(Result):
    """The team whose requests that the rules decide lose the most quality, or gain the least."""

    team: LogName
    requests: int = quantity("Of the team, that the rules decide", "requests")
    scored: int = quantity("Of their answers, about", "answers")
    quality_change: Measured = quantity("On these requests; the interval holds for all teams at once", "0..1")


@dataclass(frozen=True)
class Offer:
    """A set that passed its walk and may be offered."""

    id: OptionId
    verdict: Verdict
    tasks: tuple[TaskChange, ...]


def offers(question: Question, passed: Sequence[Verdict], today: Evaluated) -> list[Offer]:
    """The sets to choose from, boldest last, each under its first name; of equal ones the first.

    A walk orders pairs by what one half predicts of the other; of those that passed, the boldest is the one that gives most on held-out sessions.
    Where another gives nearly as much with fewer rules, that one is offered: somebody has to read them, approve them and run them.

    Args:
        question: what was asked.
        passed: verdicts that met every limit and improve the goal, safest first.
        today: outcomes today.
    """
    allowed = max(today.quality.value - question.limits.floor(today.quality.value), 0.0)
    least: dict[OptionId, float] = {"no_loss": 0.0, "balanced": -(1.0 - SPARED) * allowed, "boldest": -1.0}
    told: dict[int, tuple[TaskChange, ...]] = {}
    if question.limits.prove_per_task:
        passed = _per_task(question, passed)
    parts = goal_weights(question)
    passed = sorted(passed, key=lambda each: proof.improvement(each.outcome, today, parts).value)
    gains = [proof.improvement(each.outcome, today, parts).value for each in passed]
    rules = [len(blocks_of(question.cube, each.pair.shares)) for each in passed]

    def may_be_offered(place: int, floor: float) -> bool:
        if passed[place].outcome.quality.value - today.quality.value < floor or _is_dominated(passed[place], passed):
            return False
        if place not in told:
            told[place] = tuple(task_floors.task_changes(question.halves, passed[place].pair))
        return task_floors.kept(list(told[place]), question.limits, proof.level_of(question.test_number))

    found: list[Offer] = []
    for name, floor in least.items():
        boldest = next((place for place in reversed(range(len(passed))) if may_be_offered(place, floor)), None)
        if boldest is None:
            continue
        near = [
            place
            for place in range(boldest + 1)
            if gains[place] >= gains[boldest] - NEAR * abs(gains[boldest]) and rules[place] <= rules[boldest]
        ]
        taken = min((place for place in near if may_be_offered(place, floor)), key=lambda place: (rules[place], -gains[place]))
        if not any(each.verdict is passed[taken] for each in found):
            found.append(Offer(name, passed[taken], told[taken]))
    return found


def _per_task(question: Question, passed: Sequence[Verdict]) -> Sequence[Verdict]:
    """Up to the first that does not keep what every task may fall: a limit that is to be proven stops a walk."""
    level = proof.level_of(question.test_number)
    for place, verdict in enumerate(passed):
        if not task_floors.kept(task_floors.task_changes(question.halves, verdict.pair), question.limits, level):
            return passed[:place]
    return passed


def _is_dominated(verdict: Verdict, passed: Sequence[Verdict]) -> bool:
    """Whether another set that passed costs less and answers better."""
    own = verdict.outcome
    return any(
        other.outcome.cost.value < own.cost.value
        and other.outcome.quality.value > own.quality.value
        and other.outcome.latency.value <= own.latency.value
        for other in passed
    )


def chosen(question: Question, found: Sequence[Offer]) -> Offer | None:
    """The set that is proposed: for the balanced goal the one with room to spare, else the one that gives most of what was asked."""
    if not found:
        return None
    balanced = next((each for each in found if each.id == "balanced"), None)
    return balanced if question.goal == "balanced" and balanced is not None else found[-1]


def worst_hit(tasks: Sequence[TaskChange]) -> WorstHit | None:
    """The task to name beside a mean: of those with enough scores, else of all."""
    counted = [each for each in tasks if each.counts] or list(tasks)
    if not counted:
        return None
    worst = counted[0]
    # The worst of several is looked for, so that the intervals of all of them hold together.
    critical = simultaneous([each.change for each in counted])
    return WorstHit(
        task_type=worst.task,
        requests=round(worst.requests),
        scored=round(worst.scored),
        expected_change=worst.expected,
        quality_change=interval(worst.change, critical),
    )
