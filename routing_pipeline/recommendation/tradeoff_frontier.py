"""`tradeoff_frontier`: what can be had for which cost, with intervals that hold for all points at once.

Belongs here: the undominated policies, and where today, the proposal, single models and a random mix lie among them.
Does not belong here: choosing one of them (`recommendation.routing_rules`).
"""

from __future__ import annotations

from typing import Literal

from pydantic import Field

from routing_pipeline.estimates import Measured, Result, quantity

PointKind = Literal["policy", "today", "proposed", "single_model", "random_mix"]


class ModelPart(Result):
    """A model's part of a policy's traffic."""

    model: str
    share: float = quantity("Share of requests", "0..1")


class FrontierPoint(Result):
    """One policy and what it would have given, on the half of the sessions that the search never saw."""

    kind: PointKind
    label: str
    cost_usd: Measured = quantity("Per request, all attempts", "USD")
    quality: Measured = quantity("Of successful requests", "0..1")
    latency_ms: Measured = quantity("Mean, per request", "ms")
    moved_share: float = quantity("Share of requests that it routes differently from today", "0..1")
    undominated: bool = Field(description="No other point is estimated at least as cheap and as good, and better in one")
    mix: tuple[ModelPart, ...] = Field(description="Models of its traffic, largest first")


class TradeoffFrontier(Result):
    """The answer to `tradeoff_frontier`."""

    points: tuple[FrontierPoint, ...] = Field(description="Undominated policies, cheapest first; those below included where undominated")
    today: FrontierPoint | None = Field(description="Null when the logs allow no estimate at all")
    proposed: FrontierPoint | None = Field(description="The proven rules; null when nothing is proven")
    best_single_model: FrontierPoint | None = Field(
        description="Best by the goal among models that could serve all; null when none can be judged"
    )
    single_models: tuple[FrontierPoint, ...] = Field(description="Each model serving everything")
    random_mix: FrontierPoint | None = Field(
        description="Best random mix of two single models at today's cost or less; null when none can be judged"
    )
    upper_bound: Measured = quantity("Quality if every request went to the model that answers it best", "0..1")
    simultaneous: int = quantity("Points whose intervals hold together at 95 %", "points")
    policies_evaluated: int = quantity("Distinct policies that were evaluated", "policies")
    notices: tuple[str, ...] = ()
    verdict: str = Field(description="One sentence for a manager")
