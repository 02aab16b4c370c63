"""`analyze_request_patterns`: which kinds of request arrive, when, how hard they are, and whether that changes.

Belongs here: kinds and their shares, the week's rhythm, peaks, complexity, drift of the mix. Does not belong here: who
answers them (`routing_analytics`), and what they cost over time (`routing_costs`).
"""

from __future__ import annotations

from datetime import datetime
from typing import Literal

from pydantic import Field

from routing_pipeline.estimates import Known, Measured, Result, Unidentifiable, quantity

DriftDimension = Literal["kind", "task_type", "length", "complexity", "model"]


class RequestKind(Result):
    """Requests of one task type, length and complexity."""

    task_type: str
    length: str = Field(description="Band of prompt tokens, e.g. `500 to 2,000 tokens`; `not logged`")
    complexity: str = Field(description="Band of complexity, e.g. `0.33 to 0.67`; `not logged`")
    requests: int = quantity("Final requests", "requests")
    share: float = quantity("Of all final requests", "0..1")
    cost_usd: Known = quantity("All attempts of these requests", "USD")
    cost_share: Known = quantity("Of all spend", "0..1")


class HourOfWeek(Result):
    """One cell of the week's heat map."""

    hour_of_week: int = quantity("0 is Monday 00:00 to 00:59 UTC", "hour")
    covered: float = quantity("Hours of this kind that the logs cover", "hours")
    requests: int = quantity("Final requests in them", "requests")
    per_hour: Known = quantity("requests / covered", "requests/hour")


class HourOfDay(Result):
    """One hour of the day, over all days."""

    hour: int = quantity("0 is 00:00 to 00:59 UTC", "hour")
    per_hour: float = quantity("Final requests per covered hour of this kind", "requests/hour")
    to_mean: float = quantity("Against the mean of all hours", "1")


class DayOfWeek(Result):
    """One day of the week, over all weeks."""

    day: int = quantity("0 is Monday", "day")
    name: str
    per_hour: float = quantity("Final requests per covered hour", "requests/hour")
    to_mean: float = quantity("Against the mean of all days", "1")


class Peaks(Result):
    """When traffic is heaviest."""

    mean_per_hour: Known = quantity("Final requests per covered hour", "requests/hour")
    busiest_hour: datetime | None = Field(description="Start of the hour with most requests, UTC; the earliest of equals")
    busiest_hour_requests: int = quantity("Final requests in it", "requests")
    peak_to_mean: Known = quantity("Busiest hour against the mean hour", "1")
    hours: tuple[HourOfDay, ...] = Field(description="Hours of the day, heaviest first")
    days: tuple[DayOfWeek, ...] = Field(description="Days of the week, heaviest first")
    peak_hours: tuple[int, ...] = Field(description="Hours of the day at least a quarter above the mean, in order, UTC")


class Seasonality(Result):
    """How far the time of day and of the week foretell an hour's traffic, each hour judged by the other days or weeks."""

    days: float = quantity("Days of hourly counts, those of the window before included", "days")
    daily_strength: Known = quantity("1 - squared error of the hour-of-day mean / squared error of the overall mean; not below 0", "0..1")
    weekly_strength: Known = quantity("1 - squared error of the hour-of-week mean / squared error of the hour-of-day mean", "0..1")


class ComplexityBin(Result):
    """A tenth of the complexity scale."""

    gte: float
    lt: float = Field(description="The last bin holds 1 as well")
    requests: int = quantity("Final requests", "requests")
    share: float = quantity("Of final requests with a complexity", "0..1")


class TaskComplexity(Result):
    """How hard one task type is."""

    task_type: str
    requests: int = quantity("Final requests with a complexity", "requests")
    mean: Measured = quantity("Mean complexity", "0..1")
    hard_share: float = quantity("Share with a complexity of at least 0.67", "0..1")


class Complexity(Result):
    """Distribution of complexity."""

    requests: int = quantity("Final requests with a complexity", "requests")
    unknown: int = quantity("Final requests without", "requests")
    derived_share: float = quantity("Share derived from prompt length: a rank, flat by construction", "0..1")
    mean: Measured = quantity("Mean complexity", "0..1")
    bins: tuple[ComplexityBin, ...]
    tasks: tuple[TaskComplexity, ...] = Field(description="Largest first")


class Mover(Result):
    """A share that moved."""

    name: str
    previous_share: float = quantity("In the window before", "0..1")
    share: float = quantity("In this window", "0..1")


class MixDrift(Result):
    """How far one mix moved since the window before."""

    dimension: DriftDimension
    population_stability_index: float = quantity("sum (p - q) ln(p / q); 0.1 is a shift, 0.25 a large one", "1")
    jensen_shannon: float = quantity("Jensen-Shannon divergence to base 2", "0..1")
    p_value: Known = quantity("Chi-square test of equal mixes, Benjamini-Hochberg adjusted over the dimensions", "0..1")
    verdict: Literal["stable", "shifted", "shifted much", "cannot tell"]
    movers: tuple[Mover, ...] = Field(description="Largest changes of share first")


class RequestPatterns(Result):
    """The answer to `analyze_request_patterns`."""

    requests: int = quantity("Final requests", "requests")
    kinds: tuple[RequestKind, ...] = Field(description="Most requests first")
    kinds_not_listed: int = quantity("Requests of rarer kinds", "requests")
    heat_map: tuple[HourOfWeek, ...] = Field(description="168 hours of the week, Monday first")
    peaks: Peaks
    seasonality: Seasonality
    complexity: Complexity
    drift: tuple[MixDrift, ...] | Unidentifiable = Field(description="Against the equal window before")
    notices: tuple[str, ...] = Field(default=(), description="What is missing and what to collect")
