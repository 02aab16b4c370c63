"""What each model did in every five minutes: the one pass over attempts that availability and latency spikes share.

Belongs here: counting attempts into cells of model and five minutes, and stretches of time joined back to the attempts in
them. Does not belong here: judging what is unusual (`availability`, `latency_spikes`).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import ibis
import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from routing_pipeline.stats.inference import Floats

Ints = NDArray[np.int64]

BUCKET_S = 300
"""Five minutes: short enough for the bounds of an incident, long enough for a few calls."""


@dataclass(frozen=True)
class ModelMinutes:
    """One model, in order of time; five-minute buckets without an attempt are absent.

    bucket: five minutes since 1970. calls: attempts that succeeded with a latency, cache hits left out; log_ms and
    log_ms_squares: sums of ln(latency in ms) and of its square over them.
    """

    model: str
    bucket: Ints
    attempts: Floats
    failures: Floats
    rate_limited: Floats
    calls: Floats
    log_ms: Floats
    log_ms_squares: Floats


def is_rate_limit(attempts: ibis.Table) -> ibis.expr.types.BooleanValue:
    """Whether a failure is a refusal for a rate limit, by the class that the gateway gave it."""
    error = attempts.error_type.lower()
    limited = error.contains("429") | error.contains("rate_limit") | error.contains("ratelimit") | error.contains("rate limit")
    return limited.fill_null(False)


def timed_calls(attempts: ibis.Table) -> ibis.expr.types.BooleanValue:
    """Attempts whose latency says how fast the model is: answered, not from the gateway's own cache."""
    return (attempts.status == "success") & ~attempts.is_cache_hit.fill_null(False) & (attempts.latency_ms > 0).fill_null(False)


def model_minutes(requests: ibis.Table) -> list[ModelMinutes]:
    """Count all attempts into cells; models in order of their name."""
    t = requests
    is_call = timed_calls(t)
    log_ms = ibis.ifelse(is_call, ibis.greatest(t.latency_ms, 1e-3).ln(), ibis.null("float64"))
    failed = t.status == "failure"
    bucket = (t.started_s / BUCKET_S).floor().cast("int64")
    cells = (
        t.group_by(model=t.model, bucket=bucket)
        .agg(
            attempts=t.count(),
            failures=failed.sum(),
            rate_limited=(failed & is_rate_limit(t)).sum(),
            calls=is_call.sum(),
            log_ms=log_ms.sum(),
            log_ms_squares=(log_ms * log_ms).sum(),
        )
        .order_by("model", "bucket")
        .to_pyarrow()
    )
    names = cells["model"].to_numpy(zero_copy_only=False).astype(str)
    bucket_column = cells["bucket"].to_numpy().astype(np.int64)
    sums = {
        name: np.nan_to_num(cells[name].to_numpy(zero_copy_only=False).astype(np.float64))
        for name in ("attempts", "failures", "rate_limited", "calls", "log_ms", "log_ms_squares")
    }
    found = []
    for model in np.unique(names):
        own = names == model
        order = np.argsort(bucket_column[own], kind="stable")
        found.append(ModelMinutes(str(model), bucket_column[own][order], **{name: values[own][order] for name, values in sums.items()}))
    return found


@dataclass(frozen=True)
class Stretch:
    """Half-open [start_s, end_s) of one model, seconds since 1970."""

    model: str
    start_s: float
    end_s: float


def within(attempts: ibis.Table, stretches: Sequence[Stretch]) -> ibis.Table:
    """Attempts that began in one of the stretches of their model, with the stretch's place in the list as `stretch`."""
    table = ibis.memtable(
        pa.table(
            {
                "stretch": pa.array(range(len(stretches)), pa.int64()),
                "stretch_model": pa.array([each.model for each in stretches], pa.string()),
                "start_s": pa.array([each.start_s for each in stretches], pa.float64()),
                "end_s": pa.array([each.end_s for each in stretches], pa.float64()),
            }
        )
    )
    return attempts.inner_join(
        table, [attempts.model == table.stretch_model, attempts.started_s >= table.start_s, attempts.started_s < table.end_s]
    )
