"""Names behind which another version of the model answers since some moment of the window.

Belongs here: finding them, what changed with them, and the rows that estimates of other routing may rest on. Does not belong here: which
column a format takes the version from (`ingest.formats`), versions side by side (`analysis.arms`).

A version is what the answers call themselves (model_version), else what was called (provider_model); the two are never compared with each
other, so that a gateway that begins to log the one changes nothing. Versions that answer side by side are no change.
"""

from __future__ import annotations

from collections import defaultdict
from datetime import UTC, datetime
from itertools import pairwise
from typing import Any

import ibis
import numpy as np

from routing_pipeline import text
from routing_pipeline.clock import SECONDS_PER_HOUR
from routing_pipeline.estimates import Measured, Result, quantity
from routing_pipeline.stats.inference import clustered_mean
from routing_pipeline.storage.home import Home
from routing_pipeline.text import LogName
from routing_pipeline.window.engine import Engine
from routing_pipeline.window.rows import rows_at
from routing_pipeline.window.scope import CLUSTERS, AnalysisScope

MIN_CALLS = 50
"""Answers that a version must have given before it counts as one."""
OVERLAP_S = SECONDS_PER_HOUR
"""Providers move their traffic within this time."""
A_LITTLE = 0.05
"""Share of the rows that may be left out without another mix of requests."""
MOST_VERSIONS = 1_000
MOST_TOLD = 5
_COLUMNS = ("model_version", "provider_model")


class VersionChange(Result):
    """One name that another version answers under."""

    model: LogName
    version_before: LogName
    version_after: LogName
    at_s: float = quantity("When the new version had taken over, since 1970-01-01 UTC", "s")
    calls_before: int = quantity("Answers of the version before", "calls")
    calls_after: int = quantity("Answers of the new version", "calls")
    quality_before: Measured = quantity("Mean of scored requests that the router sent to the name before, as they came", "0..1")
    quality_after: Measured = quantity("The same since then", "0..1")
    cost_before_usd: Measured = quantity("Per request, before", "USD")
    cost_after_usd: Measured = quantity("Per request, since then", "USD")
    latency_before_ms: Measured = quantity("Mean of answered requests, before", "ms")
    latency_after_ms: Measured = quantity("The same since then", "ms")

    @property
    def at(self) -> datetime:
        """When the new version had taken over."""
        return datetime.fromtimestamp(self.at_s, UTC)


def version_changes(requests: ibis.Table) -> tuple[VersionChange, ...]:
    """The newest change behind each name, newest first; from rows of chat (schema.SCOPED_REQUESTS)."""
    found: dict[str, dict[str, Any]] = {}
    # What answers call themselves says more, so it comes last and stands.
    for column in reversed(_COLUMNS):
        found |= _newest(requests, column)
    ordered = sorted(found.values(), key=lambda each: (-each["at_s"], each["model"]))
    return tuple(VersionChange(**each, **_figures(requests, each["model"], each["at_s"])) for each in ordered)


def since_changes(requests: ibis.Table) -> ibis.Table:
    """Rows without those that tell of a model that is gone.

    Of a name that changed its version, what the router sent there before. A name that carried more than a twentieth of the traffic would leave
    another mix of requests behind: then all rows before the change go, as long as half of the window stays.
    """
    cuts: dict[str, float] = {}
    for column in reversed(_COLUMNS):
        cuts |= {model: change["at_s"] for model, change in _newest(requests, column).items()}
    if not cuts:
        return requests
    counted = requests.agg(
        n=requests.count(),
        **{f"left_{place}": (requests.started_s >= at_s).sum() for place, at_s in enumerate(cuts.values())},
        **{
            f"gone_{place}": ((requests.routed_model == model) & (requests.started_s < at_s)).sum()
            for place, (model, at_s) in enumerate(cuts.items())
        },
    )
    sums = counted.to_pyarrow().to_pylist()[0]
    whole = [
        at_s
        for place, at_s in enumerate(cuts.values())
        if sums[f"gone_{place}"] > A_LITTLE * sums["n"] and sums[f"left_{place}"] >= 0.5 * sums["n"]
    ]
    if whole:
        requests = requests.filter(requests.started_s >= max(whole))
    for model, at_s in sorted(cuts.items()):
        requests = requests.filter(~((requests.routed_model == model) & (requests.started_s < at_s)))
    return requests


def sample_of_today(_: Home, engine: Engine, scope: AnalysisScope) -> ibis.Table:
    """The rows that estimates of other routing rest on."""
    return since_changes(rows_at(engine, scope.estimated_from))


def notices_of(changes: tuple[VersionChange, ...]) -> tuple[str, ...]:
    """What page one says of them."""
    told = [_notice(each) for each in changes[:MOST_TOLD]]
    more = len(changes) - MOST_TOLD
    return (*told, *([f"{more} more names changed their version in the window; the section on models lists them."] if more > 0 else []))


def _notice(change: VersionChange) -> str:
    pairs = (
        ("quality", change.quality_before, change.quality_after, text.score),
        ("cost per request", change.cost_before_usd, change.cost_after_usd, text.usd),
        ("mean latency", change.latency_before_ms, change.latency_after_ms, text.ms),
    )
    figures = "; ".join(
        f"{what} {text.measured(before, form, brief=True)} before, {text.measured(after, form, brief=True)} since"
        for what, before, after, form in pairs
    )
    return (
        f"Since {change.at:%d %B %H:%M} UTC {change.model} is answered by {change.version_after}, before by {change.version_before}: {figures}. "
        "What is said of other routing rests on what came since then."
    )


def _newest(requests: ibis.Table, column: str) -> dict[str, dict[str, Any]]:
    rows = requests.filter(requests.status == "success", requests[column].notnull(), ~requests.is_cache_hit.fill_null(False))
    versions = rows.group_by("model", version=rows[column]).agg(n=rows.count(), first=rows.started_s.min(), last=rows.started_s.max())
    versions = versions.filter(versions.n >= MIN_CALLS).order_by(versions.n.desc(), versions.model, versions.version).limit(MOST_VERSIONS)
    by_model: dict[str, list[dict[str, Any]]] = defaultdict(list)
    for row in versions.to_pyarrow().to_pylist():
        by_model[row["model"]].append(row)
    return {model: change for model, found in by_model.items() if (change := _last_change(model, found)) is not None}


def _last_change(model: str, versions: list[dict[str, Any]]) -> dict[str, Any] | None:
    """The newest moment at which all earlier versions had fallen silent."""
    ordered = sorted(versions, key=lambda each: (each["first"], each["version"]))
    change, silent_from = None, ordered[0]["last"]
    for before, after in pairwise(ordered):
        if silent_from <= after["first"] + OVERLAP_S:
            change = {
                "model": model,
                "version_before": before["version"],
                "version_after": after["version"],
                "at_s": max(after["first"], silent_from),
                "calls_before": before["n"],
                "calls_after": after["n"],
            }
        silent_from = max(silent_from, after["last"])
    return change


def _figures(requests: ibis.Table, model: str, at_s: float) -> dict[str, Measured]:
    rows = requests.filter(requests.is_final, requests.routed_model == model)
    rows = rows.mutate(is_after=rows.started_s >= at_s, answered_ms=rows.request_latency_ms)
    is_answer = (rows.status == "success") & ~rows.is_cache_hit.fill_null(False)
    sums = rows.group_by("is_after", "cluster").agg(
        scored=rows.quality.count(),
        quality=rows.quality.sum(),
        priced=rows.request_cost_usd.count(),
        cost=rows.request_cost_usd.sum(),
        timed=rows.answered_ms.count(where=is_answer),
        latency=rows.answered_ms.sum(where=is_answer),
    )
    names = ("scored", "quality", "priced", "cost", "timed", "latency")
    totals = {(side, name): np.zeros(CLUSTERS) for side in (False, True) for name in names}
    for row in sums.to_pyarrow().to_pylist():
        for name in names:
            totals[row["is_after"], name][row["cluster"]] += float(row[name] or 0.0)
    return {
        f"{what}_{'after' if side else 'before'}{unit}": clustered_mean(totals[side, what], totals[side, count])
        for side in (False, True)
        for what, count, unit in (("quality", "scored", ""), ("cost", "priced", "_usd"), ("latency", "timed", "_ms"))
    }
