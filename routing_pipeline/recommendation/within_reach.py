"""What the learning half says is within reach of cost and quality, which limits exclude each other, and the nearest that can hold.

Belongs here: the frontier as predicted, and conflicts read off it. Does not belong here: proving anything (`routing_rules`), choosing
limits that can hold together (`scenarios`).

Extremes are over actions that the logs can judge; beyond them nothing is known.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np

from routing_pipeline.estimates import Result
from routing_pipeline.parameters import Weights
from routing_pipeline.policy import candidates, programme, proof, search
from routing_pipeline.policy.scores import ANSWERED, BOTH, COST, LEARN, QUALITY, ScoreCube
from routing_pipeline.policy.search import Found, Learned, Limits

FLOORS = 12
"""Floors of quality at which an integer programme is asked where capacities bind."""
SHOWN = 3.0
"""Standard errors of the learning half below a prediction that a proof can be expected to show: its own, and that what was searched for looks
better than it is."""
STEPS = 12
"""Of the bisection for the highest floor within the capacities."""


class Conflict(Result):
    """Constraints that cannot all hold, and the nearest that can."""

    constraints: str
    nearest_feasible: str

    @property
    def said(self) -> str:
        """In a sentence, without its full stop."""
        cannot = "cannot all hold" if " and " in self.constraints else "cannot be kept"
        return f"{self.constraints} {cannot}; {self.nearest_feasible}"


@dataclass(frozen=True)
class Reached:
    """One policy as the learning half predicts it, with standard errors: quality 0..1, `fall_error` of its difference from today; cost in USD per request.

    Levels are today's of the whole window with the change that is predicted, as in the proof (`policy.proof.carried`).
    """

    quality: float
    cost: float
    quality_error: float
    fall_error: float
    cost_error: float
    guards: float = math.inf
    """How safely it keeps the guards of completion and slow requests, in standard errors."""

    @property
    def shown_quality(self) -> float:
        """What could be shown of its quality, at the safe end."""
        return self.quality - SHOWN * self.quality_error


@dataclass(frozen=True)
class Reach:
    """What is within reach: today's routing, and policies from cheapest to best that are predicted to keep guards and capacities."""

    today: Reached
    points: tuple[Reached, ...]


def reach_of(cube: ScoreCube, learnt: Learned, limits: Limits, weights: Weights) -> Reach:
    """The frontier of cost and quality that the learning half predicts; no limit but guards and capacities is applied."""
    baseline = Found(tuple(range(learnt.segments)), (learnt.sums.shape[1] - 1,) * learnt.segments)
    window = proof.evaluated(cube, proof.kept(cube), BOTH)
    scale = (
        window.quality.value / max(learnt.quality_today, 1e-300),
        window.cost.value * learnt.counted[COST] / max(float(learnt.today[COST]), 1e-300),
    )

    def reached(policy: Found) -> Reached:
        sums = learnt.predicted(policy)
        shown, now = (proof.evaluated(cube, np.array(each.actions(learnt)), LEARN) for each in (policy, baseline))
        return Reached(
            quality=scale[0] * float(sums[QUALITY] / max(sums[ANSWERED], 1e-300)),
            cost=scale[1] * float(sums[COST] / learnt.counted[COST]),
            quality_error=shown.quality.standard_error,
            fall_error=(shown.quality - now.quality).standard_error,
            cost_error=shown.cost.standard_error,
            guards=candidates.guards_kept(cube, learnt, policy, limits),
        )

    found = [*_policies(learnt, limits, weights), *([baseline] if search.within_caps(learnt, baseline, limits) else [])]
    points = [each for each in map(reached, dict.fromkeys(found)) if each.guards >= 0]
    return Reach(reached(baseline), tuple(sorted(points, key=lambda each: (each.cost, each.quality))))


def _policies(learnt: Learned, limits: Limits, weights: Weights) -> list[Found]:
    """The convex frontier of cost and quality, no mark-down; with prices of slowness where slow requests are limited."""
    gain = search.utility(learnt, "cost", weights)
    if not limits.has_caps:
        bare = replace(learnt, quality_error=np.zeros_like(learnt.quality_error))
        return candidates.sweep(bare, gain, by_cost=False, slow=limits.max_slow is not None)
    most = _highest_floor(learnt, limits, weights)
    if most is None:
        return []
    cheapest = programme.programme(learnt, gain, limits, floor=-1.0, kappa=0.0, max_cost=None)
    found = [] if cheapest is None else [cheapest]
    least = 0.0 if cheapest is None else float(learnt.predicted(cheapest)[QUALITY] / max(learnt.predicted(cheapest)[ANSWERED], 1e-300))
    for floor in np.linspace(min(least, most), most, FLOORS):
        solved = programme.programme(learnt, gain, limits, floor=float(floor), kappa=0.0, max_cost=None)
        found += [] if solved is None else [solved]
    return found


def _highest_floor(learnt: Learned, limits: Limits, weights: Weights) -> float | None:
    """Highest mean quality of a policy within the capacities; None when no policy fits them."""
    gain = search.utility(learnt, "cost", weights)

    def fits(floor: float) -> bool:
        return programme.programme(learnt, gain, limits, floor=floor, kappa=0.0, max_cost=None) is not None

    if not fits(-1.0):
        return None
    low, high = 0.0, 1.0
    for _ in range(STEPS):
        middle = (low + high) / 2
        low, high = (middle, high) if fits(middle) else (low, middle)
    return low


def conflicts_of(cube: ScoreCube, learnt: Learned, limits: Limits, weights: Weights, *, has_cost: bool) -> list[Conflict]:
    """Why no rules keep every limit: those that exclude each other whatever the rules, else those that today breaks and nothing was shown to mend.

    Asked where nothing was proven. `has_cost`: whether cost is known for enough requests.
    """
    reach = reach_of(cube, learnt, limits, weights)
    if not reach.points:
        nearest = "no routing that the logs can judge fits them; raise them, or explore other models"
        return [Conflict(constraints=_capped(limits, cube.models), nearest_feasible=nearest)] if limits.has_caps else []
    best, floor = max(reach.points, key=lambda each: each.quality), limits.floor(reach.today.quality)
    within = f"within {_caps(limits)} " if limits.has_caps else ""
    if best.quality < floor:
        if limits.min_quality == floor:
            asked = f"quality at least {floor:g}"
            nearest = f"the most that the logs show {within}within reach is about {best.quality:.3f}, at any cost"
        else:
            asked = f"quality at least {floor:.3f}"
            nearest = f"{within}a quality of about {best.quality:.3f} is within reach"
        return [Conflict(constraints=f"{_caps(limits)} and {asked}" if limits.has_caps else asked, nearest_feasible=nearest)]
    found = _of_cost(limits, reach, floor) if has_cost else None
    if found is None and search.today_breaks(learnt, limits):
        found = _not_shown(limits, reach, floor)
    return [] if found is None else [found]


def _caps(limits: Limits) -> str:
    return " and ".join(what for what, has in (("the capacities", any(limits.caps)), ("what tiers may get", bool(limits.tier_caps))) if has)


def _capped(limits: Limits, models: Sequence[str]) -> str:
    """Every cap by name."""
    of_models = [cap.named(models) for cap in limits.capped if cap.tier is None]
    found = [f"the capacities of {', '.join(of_models)}"] if of_models else []
    found += [f"at most {100 * cap.most:g} % of requests for {cap.named(models)}" for cap in limits.tier_caps]
    return " and ".join(found)


def _ceiling(limits: Limits, reach: Reach) -> float | None:
    """Most that a request may cost, USD; None without a limit."""
    return reach.today.cost if limits.keeps_cost else limits.max_cost


def _of_cost(limits: Limits, reach: Reach, floor: float) -> Conflict | None:
    ceiling = _ceiling(limits, reach)
    if ceiling is None:
        return None
    cheapest = min(each.cost for each in reach.points if each.quality >= floor)
    if cheapest <= ceiling:
        return None
    asked = f"cost not above today's ${ceiling:.6f} per request" if limits.max_cost is None else f"cost at most ${ceiling:g} per request"
    nearest = f"quality {floor:.3f} costs about ${cheapest:.6f} per request"
    bought = max((each.quality for each in reach.points if each.cost <= ceiling), default=None)
    if bought is not None:
        nearest += f"; ${ceiling:.6g} buys a quality of about {bought:.3f}"
    return Conflict(constraints=f"quality at least {floor:.3f} and {asked}", nearest_feasible=nearest)


def _not_shown(limits: Limits, reach: Reach, floor: float) -> Conflict:
    """Today breaks a limit, and rules that are estimated to keep them all could not be shown to."""
    if limits.min_quality is not None and reach.today.quality < limits.min_quality:
        ceiling = _ceiling(limits, reach)
        affordable = [each for each in reach.points if ceiling is None or each.cost <= ceiling]
        best = max(affordable, key=lambda each: each.quality)
        shown = max(min(max(each.shown_quality for each in affordable), limits.min_quality - 0.001), 0.0)
        nearest = f"about {best.quality:.3f} is estimated to be within reach, and about {shown:.3f} could be shown on logs like these"
        return Conflict(constraints=f"quality at least {limits.min_quality:g}", nearest_feasible=nearest)
    cheapest = min((each for each in reach.points if each.quality >= floor), key=lambda each: each.cost)
    asked = _caps(limits) if limits.max_cost is None else f"cost at most ${limits.max_cost:g} per request"
    nearest = f"${cheapest.cost:.6f} per request at a quality of about {cheapest.quality:.3f} are estimated to be within reach, but were not shown"
    return Conflict(constraints=f"quality at least {floor:.3f} and {asked}", nearest_feasible=nearest)
