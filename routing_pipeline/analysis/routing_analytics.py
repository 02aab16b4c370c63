"""`get_routing_analytics`: how much traffic there was, how fast and how well it was answered, and by which models.

Belongs here: volumes, latencies, success and failures, retries, and how traffic spreads over models and tiers. Does not
belong here: money over time (`routing_costs`), quality (`quality_metrics`), when things went wrong (`bottlenecks`).
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable
from datetime import UTC, datetime
from typing import Any, ClassVar

import ibis
import numpy as np
from pydantic import Field

from routing_pipeline.analysis.daily_spend import NO_COST
from routing_pipeline.analysis.second_tries import asked_again, fell_back
from routing_pipeline.estimates import Estimate, Known, Measured, Result, Unidentifiable, quantity
from routing_pipeline.schema import CHAT, Operation
from routing_pipeline.stats.inference import NOT_NEGATIVE, Floats, clustered_mean, order_statistic_levels, proportion_interval
from routing_pipeline.text import LogName, counted
from routing_pipeline.window.kinds_of_call import chat_of, is_chat, kind_of
from routing_pipeline.window.scope import AnalysisScope

MAX_LISTED = 50
MINUTES_PER_DAY = 1_440
QUANTILES: tuple[float, ...] = (0.50, 0.95, 0.99)

NO_TOKENS = Unidentifiable(unidentifiable="no attempt has token counts; log the usage that the provider returns")
WHERE_TO_GET: dict[str, str] = {
    "routing_latency": "routing latency is not logged; log the gateway's own overhead per request",
    "latency": "latency is not logged; log when each attempt ends",
    "ttft": "time to first token is not logged; log it for streams",
}

Row = dict[str, Any]


class Latency(Result):
    """One kind of latency; quantiles with order-statistic intervals."""

    requests: int = quantity("Requests in which it was logged", "requests")
    mean_ms: Measured = quantity("Mean; interval over sessions", "ms")
    p50_ms: Measured = quantity("Median", "ms")
    p95_ms: Measured = quantity("95th percentile", "ms")
    p99_ms: Measured = quantity("99th percentile", "ms")


class OperationTraffic(Result):
    """How much there was of one kind of call, and how well and fast it was answered."""

    operation: Operation = Field(description="Kind of call")
    requests: int = quantity("Calls, each with its failed tries counted once", "requests")
    attempts: int = quantity("Attempts", "attempts")
    tokens: int = quantity("Prompt and completion tokens of all attempts", "tokens")
    success_rate: Measured = quantity("Share of the calls that ended in success", "0..1")
    latency: Latency = Field(description="From the first attempt's start to the final one's end")


class ModelShare(Result):
    """What one model carried of chat. Requests count for the model that gave the final answer, attempts and cost for the one called."""

    model: LogName
    tier: LogName | None = Field(description="Tier from the model catalog; null when the model is not in it")
    requests: int = quantity("Final requests", "requests")
    request_share: float = quantity("Of all final requests", "0..1")
    attempts: int = quantity("Attempts", "attempts")
    tokens: int = quantity("Prompt and completion tokens of all attempts", "tokens")
    token_share: Known = quantity("Of all tokens", "0..1")
    cost_usd: Known = quantity("Of all attempts, as logged", "USD")
    cost_share: Known = quantity("Of all spend on chat", "0..1")


class TierShare(Result):
    """What one tier carried, counted as for models."""

    tier: LogName | None = Field(description="Null: models that are not in the catalog")
    requests: int = quantity("Final requests", "requests")
    request_share: float = quantity("Of all final requests", "0..1")
    tokens: int = quantity("Prompt and completion tokens of all attempts", "tokens")
    token_share: Known = quantity("Of all tokens", "0..1")
    cost_usd: Known = quantity("Of all attempts, as logged", "USD")
    cost_share: Known = quantity("Of all spend on chat", "0..1")


class ErrorShare(Result):
    """One class of failure."""

    error_type: LogName | None = Field(description="Null: the log does not say")
    attempts: int = quantity("Failed attempts of this class", "attempts")
    share: float = quantity("Of all failed attempts", "0..1")
    requests: int = quantity("Of them, final: the client saw the failure", "requests")


class Throughput(Result):
    """Arrivals over the time of the window that the logs cover."""

    mean_per_minute: Known = quantity("Final requests per minute, mean", "requests/minute")
    p95_per_minute: Known = quantity("95th percentile over all minutes that the logs cover, empty ones included", "requests/minute")
    peak_per_minute: Known = quantity("Final requests in the busiest minute", "requests/minute")
    peak_at: datetime | None = Field(default=None, description="Start of the busiest minute, UTC; the earliest of equals")
    peak_to_mean: Known = quantity("peak_per_minute / mean_per_minute", "1")


class RoutingAnalytics(Result):
    """The answer to `get_routing_analytics`: chat, but for the list of all kinds of call."""

    main_table: ClassVar = "models"

    requests: int = quantity("Client requests of chat", "requests")
    attempts: int = quantity("Calls to models for them", "attempts")
    operations: tuple[OperationTraffic, ...] = Field(
        default=(), description="Each kind of call by itself: chat first, then most calls first"
    )
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
    errors_not_listed: int = quantity("Classes too rare to be listed", "classes")
    error_attempts_not_listed: int = quantity("Failed attempts of them", "attempts", default=0)
    models: tuple[ModelShare, ...] = Field(description="Most requests first")
    models_not_listed: int = quantity("Models too small to be listed", "models")
    model_requests_not_listed: int = quantity("Requests that they answered", "requests", default=0)
    tiers: tuple[TierShare, ...] = Field(description="Most requests first")
    notices: tuple[str, ...] = Field(default=(), description="What is missing and what to collect")


def routing_analytics(requests: ibis.Table, scope: AnalysisScope) -> RoutingAnalytics:
    """Volumes, latencies, success and the distribution over models and tiers.

    Args:
        requests: conformed rows of the window (schema.SCOPED_REQUESTS), one per attempt, of every kind of call.
        scope: the window; its sources say what the logs miss.
    """
    others = requests.filter(~is_chat(requests))
    requests = chat_of(requests)
    cells = _cells(requests)
    final = [cell for cell in cells if cell["is_final"]]
    n, attempts = _sum(final, "n"), _sum(cells, "n")
    failed = _sum((cell for cell in cells if cell["status"] == "failure"), "n")
    errors, more_errors = _errors(requests, failed)
    models = _models(cells)
    latencies = _latencies(requests, final)
    return RoutingAnalytics(
        requests=n,
        attempts=attempts,
        operations=(_operation(CHAT, cells, latencies["latency"]), *_other_operations(others)),
        **latencies,
        success_rate=_status_rate(final, "success", n),
        failure_rate=_status_rate(final, "failure", n),
        cancelled_rate=_status_rate(final, "cancelled", n),
        retry_rate=_retry_rate(final, n),
        fallback_rate=proportion_interval(_sum(final, "fell_back"), n),
        cache_hit_rate=_cache_hit_rate(final),
        throughput=_throughput(requests, scope),
        errors=errors,
        errors_not_listed=more_errors,
        error_attempts_not_listed=failed - sum(each.attempts for each in errors),
        models=models[:MAX_LISTED],
        models_not_listed=max(len(models) - MAX_LISTED, 0),
        model_requests_not_listed=sum(each.requests for each in models[MAX_LISTED:]),
        tiers=_tiers(cells),
        notices=tuple(
            f"{source.name} is missing: {source.consequence}"
            for source in scope.sources
            if not source.present and source.name in {"routing latency", "time to first token", "cost"}
        ),
    )


def _operation(operation: Operation, cells: list[Row], latency: Latency) -> OperationTraffic:
    final = [cell for cell in cells if cell["is_final"]]
    n = _sum(final, "n")
    return OperationTraffic(
        operation=operation,
        requests=n,
        attempts=_sum(cells, "n"),
        tokens=_sum(cells, "tokens"),
        success_rate=_status_rate(final, "success", n),
        latency=latency,
    )


def _other_operations(others: ibis.Table) -> list[OperationTraffic]:
    by_kind: dict[Operation, list[Row]] = defaultdict(list)
    for cell in _cells(others.mutate(operation=kind_of(others)), "operation"):
        by_kind[cell["operation"]].append(cell)
    found = []
    for operation, cells in by_kind.items():
        mine, final = others.filter(kind_of(others) == operation), [cell for cell in cells if cell["is_final"]]
        found.append(_operation(operation, cells, _latencies(mine, final)["latency"]))
    return sorted(found, key=lambda each: (-each.requests, each.operation))


def _cells(requests: ibis.Table, *by: str) -> list[Row]:
    """Counts and sums by model, tier, status and whether the attempt was final: all that is not a quantile."""
    t = requests
    columns = _clocks(t)
    table = t.group_by(*by, "model", "tier", "status", "is_final").agg(
        n=t.count(),
        tokens=(t.prompt_tokens.fill_null(0) + t.completion_tokens.fill_null(0)).sum(),
        cost=t.cost_usd.sum(),
        priced=t.cost_usd.count(),
        fell_back=fell_back(t).sum(),
        retries_logged=t.retries.count(),
        asked_again=asked_again(t).sum(),
        cache_logged=t.is_cache_hit.count(),
        cache_hits=t.is_cache_hit.fill_null(False).sum(),
        **{f"{name}_n": column.count() for name, column in columns.items()},
    )
    rows: list[Row] = table.to_pyarrow().to_pylist()
    return rows


def _clocks(t: ibis.Table) -> dict[str, ibis.expr.types.NumericValue]:
    """The three latencies, null where they do not count."""
    null = ibis.null("float64")
    clean = t.is_final & (t.attempts == 1) & (t.retries.fill_null(0) == 0) & t.fallback_from.isnull()
    return {
        "routing_latency": ibis.ifelse(clean, t.routing_latency_ms, null),
        "latency": ibis.ifelse(t.is_final, t.request_latency_ms, null),
        "ttft": ibis.ifelse(t.is_final, t.ttft_ms, null),
    }


def _sum(rows: Iterable[Row], name: str) -> int:
    return int(sum(row[name] or 0 for row in rows))


def _status_rate(final: list[Row], status: str, n: int) -> Measured:
    return proportion_interval(_sum((row for row in final if row["status"] == status), "n"), n)


def _retry_rate(final: list[Row], n: int) -> Measured:
    if n and _sum(final, "retries_logged") == 0 and _sum(final, "asked_again") == 0:
        return Unidentifiable(unidentifiable="retries are not logged; log how often the gateway asked again")
    return proportion_interval(_sum(final, "asked_again"), n)


def _cache_hit_rate(final: list[Row]) -> Measured:
    """Over all final requests, as soon as any of them says: gateways leave the flag empty on a miss."""
    if _sum(final, "cache_logged") == 0:
        return Unidentifiable(unidentifiable="cache hits are not logged; log whether the gateway answered from its own cache")
    return proportion_interval(_sum(final, "cache_hits"), _sum(final, "n"))


def _latencies(requests: ibis.Table, final: list[Row]) -> dict[str, Latency]:
    """Quantiles of all three latencies in one pass; how far apart their bounds lie follows from the counts."""
    counts = {name: _sum(final, f"{name}_n") for name in WHERE_TO_GET}
    columns = {name: column for name, column in _clocks(requests).items() if counts[name] > 0}
    levels = {name: [_levels(counts[name], q) for q in QUANTILES] for name in columns}
    values: Row = {}
    means: dict[str, Measured] = {}
    if columns:
        means = _means(requests, columns)
        asked = {name: column.quantile([level for each in levels[name] for level in each]) for name, column in columns.items()}
        values = requests.agg(**asked).to_pyarrow().to_pylist()[0]
    return {name: _latency(name, counts[name], means.get(name), levels.get(name, []), values.get(name, [])) for name in WHERE_TO_GET}


def _means(requests: ibis.Table, columns: dict[str, ibis.expr.types.NumericValue]) -> dict[str, Measured]:
    """Mean of each latency; requests of one session hang together."""
    sums = {f"{name}_sum": column.sum().fill_null(0.0) for name, column in columns.items()}
    counts = {f"{name}_n": column.count() for name, column in columns.items()}
    found = requests.group_by("cluster").agg(**sums, **counts).order_by("cluster").to_pyarrow()

    def by_cluster(name: str) -> Floats:
        values: Floats = found[name].to_numpy().astype(np.float64)
        return values

    return {name: clustered_mean(by_cluster(f"{name}_sum"), by_cluster(f"{name}_n"), bounds=NOT_NEGATIVE) for name in columns}


def _levels(n: int, q: float) -> tuple[float, ...]:
    """The quantile itself, then its bounds where n allows them."""
    return (q, *(order_statistic_levels(n, q) or ()))


def _latency(name: str, n: int, mean: Measured | None, levels: list[tuple[float, ...]], values: list[float]) -> Latency:
    if n == 0 or mean is None:
        missing = Unidentifiable(unidentifiable=WHERE_TO_GET[name])
        return Latency(requests=0, mean_ms=missing, p50_ms=missing, p95_ms=missing, p99_ms=missing)
    quantiles: list[Measured] = []
    left = list(values)
    for each in levels:
        found, left = left[: len(each)], left[len(each) :]
        if len(found) == 3:
            quantiles.append(Estimate(estimate=found[0], low=found[1], high=found[2]))
        else:
            quantiles.append(
                Unidentifiable(
                    unidentifiable=f"{counted(n, 'request')} {'is' if n == 1 else 'are'} too few to bound the {each[0] * 100:.0f}th percentile"
                )
            )
    return Latency(requests=n, mean_ms=mean, p50_ms=quantiles[0], p95_ms=quantiles[1], p99_ms=quantiles[2])


def _throughput(requests: ibis.Table, scope: AnalysisScope) -> Throughput:
    """Arrivals per minute that the logs cover; a row per minute that saw any."""
    final = requests.filter(requests.is_final)
    per_minute = final.group_by(minute=(final.started_s / 60).floor().cast("int64")).agg(n=final.count()).to_pyarrow()
    if per_minute.num_rows == 0:
        none = Unidentifiable(unidentifiable="no request in the window")
        return Throughput(mean_per_minute=none, p95_per_minute=none, peak_per_minute=none, peak_to_mean=none)
    minutes, counts = per_minute["minute"].to_numpy(), per_minute["n"].to_numpy()
    span = max(round(scope.covered_days * MINUTES_PER_DAY), len(counts))
    mean, peak = float(counts.sum()) / span, int(counts.max())
    # Empty minutes count as zeros without being listed.
    p95 = float(np.quantile(np.concatenate([counts, np.zeros(span - len(counts))]), 0.95))
    return Throughput(
        mean_per_minute=mean,
        p95_per_minute=p95,
        peak_per_minute=float(peak),
        peak_at=datetime.fromtimestamp(int(minutes[counts == peak].min()) * 60, UTC),
        peak_to_mean=peak / mean,
    )


def _errors(requests: ibis.Table, total: int) -> tuple[tuple[ErrorShare, ...], int]:
    """The most frequent classes of failure, and how many more there are; cut off in the engine: their names come from outside and may be many."""
    failed = requests.filter(requests.status == "failure")
    counted = failed.group_by("error_type").agg(attempts=failed.count(), requests=failed.is_final.sum())
    top = counted.order_by(counted.attempts.desc(), counted.error_type.fill_null("").asc()).limit(MAX_LISTED)
    rows = top.to_pyarrow().to_pylist()
    shares = tuple(
        ErrorShare(error_type=row["error_type"], attempts=row["attempts"], share=row["attempts"] / total, requests=int(row["requests"]))
        for row in sorted(rows, key=lambda row: (-row["attempts"], row["error_type"] or ""))
    )
    return shares, int(counted.count().execute()) - len(rows) if len(rows) == MAX_LISTED else 0


def _models(cells: list[Row]) -> tuple[ModelShare, ...]:
    by_model: dict[str, list[Row]] = defaultdict(list)
    for cell in cells:
        by_model[cell["model"]].append(cell)
    shares = [
        ModelShare(model=model, tier=_largest_tier(rows), attempts=_sum(rows, "n"), **_carried(rows, cells))
        for model, rows in by_model.items()
    ]
    return tuple(sorted(shares, key=lambda each: (-each.requests, each.model)))


def _tiers(cells: list[Row]) -> tuple[TierShare, ...]:
    by_tier: dict[str | None, list[Row]] = defaultdict(list)
    for cell in cells:
        by_tier[cell["tier"]].append(cell)
    shares = [TierShare(tier=tier, **_carried(rows, cells)) for tier, rows in by_tier.items()]
    return tuple(sorted(shares, key=lambda each: (-each.requests, each.tier or "")))


def _largest_tier(rows: list[Row]) -> str | None:
    """A price change may move a model from one tier to another within the window."""
    counts: dict[str | None, int] = defaultdict(int)
    for row in rows:
        counts[row["tier"]] += row["n"]
    return min(counts, key=lambda tier: (-counts[tier], tier or ""))


def _carried(rows: list[Row], cells: list[Row]) -> Row:
    requests = _sum((row for row in rows if row["is_final"]), "n")
    all_requests = _sum((row for row in cells if row["is_final"]), "n")
    tokens, all_tokens = _sum(rows, "tokens"), _sum(cells, "tokens")
    cost, all_cost = (sum(row["cost"] or 0.0 for row in part) for part in (rows, cells))
    return {
        "requests": requests,
        "request_share": requests / all_requests if all_requests else 0.0,
        "tokens": tokens,
        "token_share": tokens / all_tokens if all_tokens else NO_TOKENS,
        "cost_usd": cost if _sum(rows, "priced") else NO_COST,
        "cost_share": cost / all_cost if all_cost > 0 else NO_COST,
    }
