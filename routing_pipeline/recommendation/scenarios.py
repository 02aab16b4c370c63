"""What can be had when not everything can: for each priority limits that can hold together, and the rules that are proven under them.

Belongs here: choosing such limits, nearest to those that were asked for, and telling what came of them. Does not belong here: what is within
reach (`within_reach`), searching and proving (`routing_rules`).

Each row is the answer to its own question, found and proven as any other and counted as one: whoever asks again with its options gets it.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from typing import Any

from pydantic import Field

from routing_pipeline.estimates import Estimate, Measured, Result, quantity
from routing_pipeline.parameters import Goal, Parameters, Weights
from routing_pipeline.policy.search import Limits
from routing_pipeline.recommendation.routing_rules import RoutingRules, quality_change
from routing_pipeline.recommendation.within_reach import Reach, Reached
from routing_pipeline.rules.model import Change, Constraints

ROOM = 5.0
"""Standard errors of the learning half that limits leave between themselves and what is predicted: what was searched for looks better than it
is, and a later look is held to a stricter level."""
GUARDED = 2.0
"""Standard errors by which a policy is predicted to keep its guards before limits are set by it."""
HEADROOM = 1.25
"""How far a ceiling of cost is raised above what is predicted to be needed."""
PRIORITIES: tuple[Goal, ...] = ("cost", "quality", "speed", "balanced")
OPTIONS: tuple[str, ...] = ("cost_threshold", "quality_threshold", "max_quality_drop", "budget")


class Point(Result):
    """What a scenario gives, per request."""

    label: str
    cost_usd: Measured = quantity("Per request", "USD")
    quality: Measured = quantity("Of successful requests", "0..1")
    latency_ms: Measured = quantity("Mean, per request", "ms")


class Scenario(Result):
    """What one priority gives, and which of the limits that were asked for it keeps."""

    priority: Goal
    point: Point
    rules: int = quantity("Rules that were proven under these options; with none of them today's routing stays", "rules", default=0)
    keeps: tuple[str, ...] = Field(description="Limits that hold at the safe end of the interval")
    breaks: tuple[str, ...] = Field(description="Limits that do not")
    suggested: bool = Field(description="It is what the goal that was asked for puts first; `balanced` unless another goal was asked")
    ask: str = Field(description="Options with which the same answer is given again, on the same data")


def scenarios(
    parameters: Parameters, limits: Limits, reach: Reach, budget_for: Callable[[float], float], ask: Callable[[Parameters], RoutingRules]
) -> tuple[Scenario, ...]:
    """One scenario for each priority, that of the goal asked for put to the proof first; empty where nothing is within reach.

    Where a priority's own question has no answer, the answer of another one that gives it more than today's routing stands in its place.

    Args:
        parameters: as asked; its limits exclude each other.
        limits: the same as numbers.
        reach: what the learning half says can be had.
        budget_for: the budget in USD a month that allows a cost per request, USD.
        ask: optimises and proves under other parameters.
    """
    if not reach.points:
        return ()
    giving = _Giving(parameters, limits, reach, budget_for)
    answers: dict[Goal, _Answer] = {}
    for priority in sorted(PRIORITIES, key=lambda each: each != parameters.goal):
        asked = giving.way(priority)
        answers[priority] = (asked, ask(asked))
    return tuple(_scenario(priority, _best_for(priority, answers, parameters, limits), parameters, limits) for priority in PRIORITIES)


_Answer = tuple[Parameters, RoutingRules]


def _best_for(priority: Goal, answers: Mapping[Goal, _Answer], parameters: Parameters, limits: Limits) -> _Answer:
    """The priority's own answer where there is one, else the one that gives it most; for balance the one that keeps most limits.

    An answer that keeps a ceiling by giving up quality is no answer to who asked for quality, however few limits it breaks:
    what gives a priority less than today's routing leaves it with today's.
    """
    own = answers[priority]

    def worth(answer: _Answer) -> tuple[float, float]:
        limits_met = sum(holds for _, holds in _limits(answer[1], parameters, limits))
        return (limits_met, gain(answer)) if priority == "balanced" else (gain(answer), limits_met)

    def gain(answer: _Answer) -> float:
        return _gain(priority, answer[1].rule_set.expected.change, parameters.weights)

    others = [each for each in answers.values() if each[1].rule_set.rules and gain(each) > 0]
    return own if own[1].rule_set.rules or not others else max(others, key=worth)


def _gain(priority: Goal, change: Change, weights: Weights) -> float:
    """Relative gain of what the priority is about; of all three by their weights where it is balance."""
    parts = {"cost": (-1.0, change.cost_usd), "quality": (1.0, change.quality), "speed": (-1.0, change.latency_ms)}
    found = {name: sign * each.relative.estimate if isinstance(each.relative, Estimate) else 0.0 for name, (sign, each) in parts.items()}
    if priority == "balanced":
        return weights.cost * found["cost"] + weights.quality * found["quality"] + weights.speed * found["speed"]
    return found[priority]


class _Giving:
    """Which limits give way to a priority, and how far."""

    def __init__(self, parameters: Parameters, limits: Limits, reach: Reach, budget_for: Callable[[float], float]) -> None:
        self.asked, self.limits, self.budget_for = parameters, limits, budget_for
        self.today = reach.today
        # What keeps its guards with room to spare, where there is any.
        self.points = [each for each in reach.points if each.guards >= GUARDED] or list(reach.points)
        self.least = self.today.quality - parameters.max_quality_drop

    def way(self, priority: Goal) -> Parameters:
        """The parameters to ask with."""
        changed = self._keeping_cost() if priority == "cost" else self._keeping_quality(priority)
        return Parameters.model_validate(self.asked.model_dump() | changed)

    def _keeping_cost(self) -> dict[str, Any]:
        """The most quality under the ceiling; without a ceiling the cheapest within the allowed fall."""
        ceiling = self.limits.max_cost
        if ceiling is None:
            return {
                "goal": "cost",
                **self._drop(max(self.points, key=_quality)),
                **self._threshold(self.least - ROOM * self.today.quality_error),
            }
        affordable = [each for each in self.points if each.cost + ROOM * each.cost_error <= ceiling]
        affordable = affordable or [each for each in self.points if each.cost <= ceiling]
        if affordable:
            best = max(affordable, key=_quality)
            return {"goal": "quality", **self._drop(best), **self._threshold(best.quality - ROOM * best.quality_error)}
        cheapest = min(self.points, key=lambda each: each.cost)
        threshold = self._threshold(cheapest.quality - ROOM * cheapest.quality_error)
        return {"goal": "cost", **self._drop(cheapest), **threshold, **self._ceiling(cheapest.cost + ROOM * cheapest.cost_error)}

    def _keeping_quality(self, priority: Goal) -> dict[str, Any]:
        """The floor as asked for, as far as it can be shown; for speed and balance half of the way to it from the allowed fall."""
        within = self.points
        if priority == "quality" and self.limits.max_cost is None:
            # Without a ceiling the goal of quality keeps to today's cost.
            within = [each for each in self.points if each.cost <= self.today.cost] or [self.today]
        best = max(within, key=lambda each: each.quality - ROOM * each.quality_error)
        shown = best.quality - ROOM * best.quality_error
        threshold = self.asked.quality_threshold
        if threshold is not None:
            shown = min(threshold, shown)
            if priority != "quality" and threshold > self.least:
                shown = (max(shown, self.least) + self.least) / 2
        changed = {"goal": priority, **self._drop(max(within, key=_quality)), **self._threshold(shown)}
        if self.limits.max_cost is None:
            return changed
        least, lowest = (
            self.today.quality - changed.get("max_quality_drop", self.asked.max_quality_drop),
            changed.get("quality_threshold", -math.inf),
        )
        keeping = [
            each
            for each in self.points
            if each.quality - ROOM * each.fall_error >= least and each.quality - ROOM * each.quality_error >= lowest
        ]
        cheapest = min(keeping or [best], key=lambda each: each.cost)
        return changed | self._ceiling(cheapest.cost + ROOM * cheapest.cost_error)

    def _drop(self, reached: Reached) -> dict[str, Any]:
        """The allowed fall, widened where even this policy falls further."""
        if reached.quality - ROOM * reached.fall_error >= self.least:
            return {}
        wider = self.today.quality - reached.quality + ROOM * reached.fall_error
        return {"max_quality_drop": min(max(math.ceil(wider * 1000) / 1000, self.asked.max_quality_drop), 1.0)}

    def _threshold(self, reachable: float) -> dict[str, Any]:
        """The threshold, lowered to what can be reached; it is named even so, because it may stand in a configuration file."""
        threshold = self.asked.quality_threshold
        if threshold is None:
            return {}
        return {"quality_threshold": max(min(threshold, math.floor(reachable * 1000) / 1000), 0.0)}

    def _ceiling(self, needed: float) -> dict[str, Any]:
        """Cost threshold and budget, each raised where it allows less than is needed."""
        needed = max(needed, 1e-12) * HEADROOM
        step = 10.0 ** (math.floor(math.log10(needed)) - 1)
        raised = float(f"{math.ceil(needed / step) * step:.6g}")
        found: dict[str, Any] = {}
        if self.asked.cost_threshold is not None:
            found["cost_threshold"] = max(self.asked.cost_threshold, raised)
        if self.asked.budget is not None:
            found["budget"] = max(self.asked.budget, float(math.ceil(self.budget_for(raised))))
        return found


def _quality(reached: Reached) -> float:
    return reached.quality


def _scenario(priority: Goal, found: _Answer, parameters: Parameters, limits: Limits) -> Scenario:
    asked, answer = found
    outcomes = answer.rule_set.expected.proposed
    limits_met = _limits(answer, parameters, limits)
    return Scenario(
        priority=priority,
        point=Point(label=_label(answer), cost_usd=outcomes.cost_usd, quality=outcomes.quality, latency_ms=outcomes.latency_ms),
        rules=len(answer.rule_set.rules),
        keeps=tuple(said for said, holds in limits_met if holds),
        breaks=tuple(said for said, holds in limits_met if not holds),
        suggested=priority == parameters.goal,
        ask=options(asked),
    )


def _label(answer: RoutingRules) -> str:
    rules = answer.rule_set.rules
    if not rules:
        return "today's routing: nothing better could be shown"
    by_model: dict[str, float] = {}
    shares = {impact.rule_id: impact.share for impact in answer.impacts}
    for rule in rules:
        for target in () if rule.route == "unchanged" else rule.route:
            by_model[target.model] = by_model.get(target.model, 0.0) + target.weight * shares.get(rule.id, 0.0)
    most = sorted(by_model, key=lambda model: (-by_model[model], model))[:2]
    return f"{len(rules)} rule{'s' if len(rules) > 1 else ''}, mostly to {' and '.join(most)}"


def _limits(answer: RoutingRules, parameters: Parameters, limits: Limits) -> list[tuple[str, bool]]:
    """The limits that were asked for, and whether the answer keeps them: by its own proof, where that held as much, else by its interval."""
    then, change, found = answer.rule_set.expected.proposed, quality_change(answer), []
    held = answer.rule_set.constraints if answer.rule_set.rules else Constraints()
    if limits.max_cost is not None:
        is_proven = held.max_cost_usd is not None and held.max_cost_usd <= limits.max_cost
        holds = is_proven or (isinstance(then.cost_usd, Estimate) and then.cost_usd.high <= limits.max_cost)
        found.append((f"cost at most ${limits.max_cost:g} per request", holds))
    if limits.min_quality is not None:
        is_proven = held.min_quality is not None and held.min_quality >= limits.min_quality
        holds = is_proven or (isinstance(then.quality, Estimate) and then.quality.low >= limits.min_quality)
        found.append((f"quality at least {limits.min_quality:.3f}", holds))
    drop = parameters.max_quality_drop
    is_proven = held.max_quality_drop is not None and held.max_quality_drop <= drop
    found.append((f"quality not more than {drop:g} below today's", is_proven or (isinstance(change, Estimate) and change.low >= -drop)))
    return found


def options(parameters: Parameters) -> str:
    """Goal and limits as the command line takes them, all of them, so that they win over whatever a configuration file says."""
    given = [(name, getattr(parameters, name)) for name in OPTIONS]
    return " ".join(
        [f"--goal {parameters.goal}", *(f"--{name.replace('_', '-')} {_plain(value)}" for name, value in given if value is not None)]
    )


def _plain(value: float) -> str:
    """A number that reads back as the same."""
    short = f"{value:.12g}"
    return short if float(short) == value else repr(value)
