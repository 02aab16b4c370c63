"""What can be had when not everything can: one point of the frontier for each priority, and what it keeps and breaks.

Belongs here: choosing among points that are estimated already. Does not belong here: estimating them
(`recommendation.tradeoff_frontier`), proving rules (`recommendation.routing_rules`).
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence

from pydantic import Field

from routing_pipeline.estimates import Estimate, Measured, Result, quantity
from routing_pipeline.parameters import Goal, Parameters


class Point(Result):
    """One policy, as the frontier tells it."""

    label: str
    cost_usd: Measured = quantity("Per request", "USD")
    quality: Measured = quantity("Of successful requests", "0..1")
    latency_ms: Measured = quantity("Mean, per request", "ms")


class Scenario(Result):
    """What one priority would give, and which limits it keeps."""

    priority: Goal
    point: Point
    keeps: tuple[str, ...] = Field(description="Limits that hold at the safe end of the interval")
    breaks: tuple[str, ...] = Field(description="Limits that do not")
    suggested: bool = Field(description="It is what the goal that was asked for puts first; `balanced` unless another goal was asked")
    ask: str = Field(description="Options with which such rules are looked for; whether they can be proven is what the answer says")


def scenarios(
    points: Sequence[Point], today: Point | None, parameters: Parameters, floor: float | None, ceiling: float | None
) -> tuple[Scenario, ...]:
    """One scenario for each priority that can be told, from points with known cost and quality; empty when today cannot.

    cost: best quality under the ceiling (without one, or where none is that cheap: the cheapest). quality: cheapest above
    the floor (where none is: the best). speed: the fastest. balanced: largest gain, each outcome relative to today and
    weighted as configured.

    Args:
        points: undominated policies, and the proposal.
        today: what is compared with.
        parameters: goal and weights.
        floor: least quality that was asked for, 0..1.
        ceiling: most cost per request that was asked for, USD.
    """
    known = [each for each in points if isinstance(each.cost_usd, Estimate) and isinstance(each.quality, Estimate)]
    if today is None or not isinstance(today.cost_usd, Estimate) or not isinstance(today.quality, Estimate):
        return ()
    known.append(today)
    timed = [each for each in known if isinstance(each.latency_ms, Estimate)]
    chosen: dict[Goal, Point] = {
        "cost": _first([each for each in known if ceiling is not None and _cost(each).high <= ceiling], _worst_quality)
        or min(known, key=lambda each: _cost(each).estimate),
        "quality": _first([each for each in known if floor is not None and _quality(each).low >= floor], lambda each: _cost(each).estimate)
        or min(known, key=_worst_quality),
        "balanced": max(known, key=lambda each: _gain(each, today, parameters)),
    }
    if len(timed) > 1:
        chosen["speed"] = min(timed, key=lambda each: each.latency_ms.estimate if isinstance(each.latency_ms, Estimate) else math.inf)
    return tuple(
        Scenario(
            priority=priority,
            point=point,
            keeps=tuple(said for said, holds in _limits(point, floor, ceiling) if holds),
            breaks=tuple(said for said, holds in _limits(point, floor, ceiling) if not holds),
            suggested=priority == parameters.goal,
            ask=_ask(priority, point, today, floor, ceiling),
        )
        for priority, point in chosen.items()
    )


def _first(points: list[Point], key: Callable[[Point], float]) -> Point | None:
    return min(points, key=key, default=None)


def _worst_quality(point: Point) -> float:
    return -_quality(point).estimate


def _cost(point: Point) -> Estimate:
    assert isinstance(point.cost_usd, Estimate)  # noqa: S101 (only such points are kept)
    return point.cost_usd


def _quality(point: Point) -> Estimate:
    assert isinstance(point.quality, Estimate)  # noqa: S101 (only such points are kept)
    return point.quality


def _gain(point: Point, today: Point, parameters: Parameters) -> float:
    weights = parameters.weights
    gain = weights.quality * (_quality(point).estimate / _quality(today).estimate - 1) if _quality(today).estimate else 0.0
    gain -= weights.cost * (_cost(point).estimate / _cost(today).estimate - 1) if _cost(today).estimate else 0.0
    if isinstance(point.latency_ms, Estimate) and isinstance(today.latency_ms, Estimate) and today.latency_ms.estimate:
        gain -= weights.speed * (point.latency_ms.estimate / today.latency_ms.estimate - 1)
    return gain


def _limits(point: Point, floor: float | None, ceiling: float | None) -> list[tuple[str, bool]]:
    found = []
    if ceiling is not None:
        found.append((f"cost at most {ceiling:g} USD per request", _cost(point).high <= ceiling))
    if floor is not None:
        found.append((f"quality at least {floor:.3f}", _quality(point).low >= floor))
    return found


def _ask(priority: Goal, point: Point, today: Point, floor: float | None, ceiling: float | None) -> str:
    """Limits as wide as the point needs them, so that the proof can be passed by rules like it."""
    drop = max(math.ceil((_quality(today).estimate - _quality(point).low) * 100) / 100, 0.0)
    if priority == "quality":
        least = floor if floor is not None and _quality(point).low >= floor else math.floor(_quality(point).low * 100) / 100
        return f"--goal cost --quality-threshold {least:g}"
    if priority == "cost" and ceiling is not None and _cost(point).high <= ceiling:
        return f"--goal quality --cost-threshold {ceiling:g} --max-quality-drop {drop:g}"
    return f"--goal {priority} --max-quality-drop {drop:g}"
