"""`get_routing_analytics`: how much traffic there was, how fast and how well it was answered, and by which models.

Belongs here: volumes, latencies, success and failures, retries, and how traffic spreads over models and tiers. Does not
belong here: money over time (`routing_costs`), quality (`quality_metrics`), when things went wrong (`bottlenecks`).
"""

from __future__ import annotations

from datetime import datetime

from pydantic import Field

from routing_pipeline.estimates import Known, Measured, Result, quantity


class Latency(Result):
    """One kind of latency; quantiles with order-statistic intervals."""

    requests: int = quantity("Requests in which it was logged", "requests")
    mean_ms: Measured = quantity("Mean", "ms")
    p50_ms: Measured = quantity("Median", "ms")
    p95_ms: Measured = quantity("95th percentile", "ms")
    p99_ms: Measured = quantity("99th percentile", "ms")


class ModelShare(Result):
    """What one model carried. Requests count for the model that gave the final answer, attempts and cost for the one called."""

    model: str
    tier: str | None = Field(description="Tier from the model catalog; null when the model is not in it")
    requests: int = quantity("Final requests", "requests")
    request_share: float = quantity("Of all final requests", "0..1")
    attempts: int = quantity("Attempts", "attempts")
    tokens: int = quantity("Prompt and completion tokens of all attempts", "tokens")
    token_share: Known = quantity("Of all tokens", "0..1")
    cost_usd: Known = quantity("Of all attempts, as logged", "USD")
    cost_share: Known = quantity("Of all spend", "0..1")


class TierShare(Result):
    """What one tier carried, counted as for models."""

    tier: str | None = Field(description="Null: models that are not in the catalog")
    requests: int = quantity("Final requests", "requests")
    request_share: float = quantity("Of all final requests", "0..1")
    tokens: int = quantity("Prompt and completion tokens of all attempts", "tokens")
    token_share: Known = quantity("Of all tokens", "0..1")
    cost_usd: Known = quantity("Of all attempts, as logged", "USD")
    cost_share: Known = quantity("Of all spend", "0..1")


class ErrorShare(Result):
    """One class of failure."""

    error_type: str | None = Field(description="Null: the log does not say")
    attempts: int = quantity("Failed attempts of this class", "attempts")
    share: float = quantity("Of all failed attempts", "0..1")
    requests: int = quantity("Of them, final: the client saw the failure", "requests")


class Throughput(Result):
    """Arrivals over the time between the first and the last request."""

    mean_per_minute: Known = quantity("Final requests per minute, mean", "requests/minute")
    p95_per_minute: Known = quantity("95th percentile over all minutes, empty ones included", "requests/minute")
    peak_per_minute: Known = quantity("Final requests in the busiest minute", "requests/minute")
    peak_at: datetime | None = Field(default=None, description="Start of the busiest minute, UTC; the earliest of equals")
    peak_to_mean: Known = quantity("peak_per_minute / mean_per_minute", "1")


class RoutingAnalytics(Result):
    """The answer to `get_routing_analytics`."""

    requests: int = quantity("Client requests", "requests")
    attempts: int = quantity("Calls to models", "attempts")
    routing_latency: Latency = Field(description="What the gateway itself took; requests without retry or fallback only")
    latency: Latency = Field(description="From the first attempt's start to the final one's end")
    ttft: Latency = Field(description="To the first token of the final attempt; streams only")
    success_rate: Measured = quantity("Share of requests that ended in success", "0..1")
    failure_rate: Measured = quantity("Share of requests whose client saw a failure", "0..1")
    cancelled_rate: Measured = quantity("Share of requests that the client gave up", "0..1")
    retry_rate: Measured = quantity(
        "Share of requests that the same model was asked again for; a lower bound where the log hides retries", "0..1"
    )
    fallback_rate: Measured = quantity("Share of requests answered by another model than the one chosen first", "0..1")
    cache_hit_rate: Measured = quantity("Share of requests answered from the gateway's own cache", "0..1")
    throughput: Throughput
    errors: tuple[ErrorShare, ...] = Field(description="Most frequent first")
    errors_not_listed: int = quantity("Failed attempts of rarer classes", "attempts")
    models: tuple[ModelShare, ...] = Field(description="Most requests first")
    models_not_listed: int = quantity("Requests answered by models too small to be listed", "requests")
    tiers: tuple[TierShare, ...] = Field(description="Most requests first")
    notices: tuple[str, ...] = Field(default=(), description="What is missing and what to collect")
