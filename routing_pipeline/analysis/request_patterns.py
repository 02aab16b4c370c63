"""`analyze_request_patterns`: which kinds of request arrive, when, how hard they are, and whether that changes.

Belongs here: kinds and their shares, complexity. Does not belong here: when they arrive (`traffic_rhythm`), how the mix moved
(`mix_drift`), who answers them (`routing_analytics`), and what they cost over time (`routing_costs`).
"""

from __future__ import annotations

from typing import ClassVar

import ibis
from pydantic import Field

from routing_pipeline.analysis.daily_spend import NO_COST, hour_sums
from routing_pipeline.analysis.mix_drift import MixDrift, mix_drift
from routing_pipeline.analysis.request_cells import BINS, HARD_FROM, Row, cells_of, complexity_band, grouped, length_band, sum_of, total_of
from routing_pipeline.analysis.traffic_rhythm import HourOfWeek, Peaks, Seasonality, covered_hours, heat_map, peaks_of, seasonality_of
from routing_pipeline.estimates import Known, Measured, Result, Unidentifiable, quantity
from routing_pipeline.stats.inference import mean_interval
from routing_pipeline.text import LogName
from routing_pipeline.window.scope import AnalysisScope

MAX_LISTED = 50


class RequestKind(Result):
    """Requests of one task type, length and complexity."""

    task_type: LogName
    length: str = Field(description="Band of prompt tokens, e.g. `500 to 2,000 tokens`; `not logged`")
    complexity: str = Field(description="Band of complexity, e.g. `0.3 to 0.7`; `not logged`")
    requests: int = quantity("Final requests", "requests")
    share: float = quantity("Of all final requests", "0..1")
    cost_usd: Known = quantity("All attempts of these requests", "USD")
    cost_share: Known = quantity("Of all spend", "0..1")


class ComplexityBin(Result):
    """A tenth of the complexity scale."""

    gte: float
    lt: float = Field(description="The last bin holds 1 as well")
    requests: int = quantity("Final requests", "requests")
    share: float = quantity("Of final requests with a complexity", "0..1")


class TaskComplexity(Result):
    """How hard one task type is."""

    task_type: LogName
    requests: int = quantity("Final requests with a complexity", "requests")
    mean: Measured = quantity("Mean complexity", "0..1")
    hard_share: float = quantity("Share with a complexity of at least 0.7", "0..1")


class Complexity(Result):
    """Distribution of complexity."""

    requests: int = quantity("Final requests with a complexity", "requests")
    unknown: int = quantity("Final requests without", "requests")
    derived_share: float = quantity("Share derived from prompt length: a rank, flat by construction", "0..1")
    mean: Measured = quantity("Mean complexity", "0..1")
    bins: tuple[ComplexityBin, ...]
    tasks: tuple[TaskComplexity, ...] = Field(description="Largest first")


class RequestPatterns(Result):
    """The answer to `analyze_request_patterns`."""

    main_table: ClassVar = "kinds"

    requests: int = quantity("Final requests", "requests")
    kinds: tuple[RequestKind, ...] = Field(description="Most requests first")
    kinds_not_listed: int = quantity("Kinds too rare to be listed", "kinds")
    requests_not_listed: int = quantity("Requests of them", "requests", default=0)
    heat_map: tuple[HourOfWeek, ...] = Field(description="168 hours of the week, Monday first")
    peaks: Peaks
    seasonality: Seasonality
    complexity: Complexity
    drift: tuple[MixDrift, ...] | Unidentifiable = Field(description="Against the equal window before")
    notices: tuple[str, ...] = Field(default=(), description="What is missing and what to collect")


def request_patterns(requests: ibis.Table, previous: ibis.Table, scope: AnalysisScope) -> RequestPatterns:
    """Kinds of request, the week's rhythm, complexity, and drift against the window before.

    Args:
        requests: conformed rows of the window (schema.SCOPED_REQUESTS), one per attempt.
        previous: the same of the equal window before; may be empty.
        scope: the window.
    """
    cells, before = cells_of(requests), cells_of(previous)
    hours, hours_before = hour_sums(requests), hour_sums(previous)
    n = sum_of(cells, "n")
    kinds = _kinds(cells, n)
    covered = covered_hours(scope, scope.start_s)
    return RequestPatterns(
        requests=n,
        kinds=kinds[:MAX_LISTED],
        kinds_not_listed=max(len(kinds) - MAX_LISTED, 0),
        requests_not_listed=sum(kind.requests for kind in kinds[MAX_LISTED:]),
        heat_map=heat_map(hours, covered),
        peaks=peaks_of(hours, covered, scope),
        seasonality=seasonality_of(hours, hours_before, scope),
        complexity=_complexity(cells),
        drift=mix_drift(cells, before),
        notices=tuple(
            f"{source.name} is missing: {source.consequence}"
            for source in scope.sources
            if not source.present and source.name in {"task type", "complexity"}
        ),
    )


# --- Kinds


def _kinds(cells: list[Row], n: int) -> tuple[RequestKind, ...]:
    spend, priced = total_of(cells, "cost"), sum_of(cells, "priced")
    kinds = []
    for (task, length, difficulty), rows in grouped(cells, lambda cell: (cell["task"], length_band(cell), complexity_band(cell))).items():
        requests, cost = sum_of(rows, "n"), total_of(rows, "cost")
        kinds.append(
            RequestKind(
                task_type=task,
                length=length,
                complexity=difficulty,
                requests=requests,
                share=requests / n,
                cost_usd=cost if sum_of(rows, "priced") else NO_COST,
                cost_share=cost / spend if priced and spend > 0 else NO_COST,
            )
        )
    return tuple(sorted(kinds, key=lambda kind: (-kind.requests, kind.task_type, kind.length, kind.complexity)))


# --- Complexity


def _complexity(cells: list[Row]) -> Complexity:
    known = [cell for cell in cells if cell["tenth"] >= 0]
    n = sum_of(known, "n")
    by_tenth = {tenth: sum_of(rows, "n") for tenth, rows in grouped(known, lambda cell: cell["tenth"]).items()}
    tasks = [
        TaskComplexity(
            task_type=task,
            requests=sum_of(rows, "n"),
            mean=mean_interval(sum_of(rows, "n"), total_of(rows, "complexity"), total_of(rows, "squares")),
            hard_share=sum_of([row for row in rows if row["tenth"] >= HARD_FROM], "n") / sum_of(rows, "n"),
        )
        for task, rows in grouped(known, lambda cell: cell["task"]).items()
    ]
    return Complexity(
        requests=n,
        unknown=sum_of(cells, "n") - n,
        derived_share=sum_of(known, "derived") / n if n else 0.0,
        mean=mean_interval(n, total_of(known, "complexity"), total_of(known, "squares")),
        bins=tuple(
            ComplexityBin(gte=tenth / BINS, lt=(tenth + 1) / BINS, requests=by_tenth.get(tenth, 0), share=by_tenth.get(tenth, 0) / n)
            for tenth in range(BINS)
            if n
        ),
        tasks=tuple(sorted(tasks, key=lambda each: (-each.requests, each.task_type))[:MAX_LISTED]),
    )
