"""Up to which hour the lake is complete, as far as anybody can know.

Belongs here: the watermark on ingestion time, and the note that a look at the store found nothing new. Rows carry the time
of their request; whether more of that hour are to come shows only in when logs were read last.
"""

from __future__ import annotations

import json
import math
from collections.abc import Mapping

from routing_pipeline.clock import SECONDS_PER_HOUR
from routing_pipeline.lake.table import Lake
from routing_pipeline.storage.home import Home

POLLED = "looked.json"


def complete_until(watermark_s: float, hold_back_s: float) -> int:
    """The first hour (from 1970) that is not known to be complete: logs were read at `watermark_s`, and arrive by `hold_back_s` late."""
    return math.floor((watermark_s - hold_back_s) / SECONDS_PER_HOUR)


def watermark_s(committed_s: Mapping[str, float], looked_s: Mapping[str, float], sources: tuple[str, ...]) -> float | None:
    """When all sources were read, or found to hold nothing new, seconds since 1970; None when nothing was ever read.

    A look counts like a commit. Where some source is not looked at regularly, the newest commit has to do: a finished dump
    must not hold the clock of a live feed.
    """
    if sources and all(source in looked_s for source in sources):
        return min(max(looked_s[source], committed_s.get(source, 0.0)) for source in sources)
    return max(committed_s.values(), default=None)


def lake_watermark_s(home: Home) -> float | None:
    """`watermark_s` of a home."""
    return watermark_s(committed(home), last_polled(home), home.sources())


def committed(home: Home) -> dict[str, float]:
    """When something of each source was committed last, seconds since 1970."""
    files = Lake(home).side_files("ledger")
    if not files:
        return {}
    import duckdb

    with duckdb.connect() as connection:
        query = "SELECT source, epoch_us(max(committed_at)) FROM read_parquet($files) GROUP BY 1"
        rows = connection.execute(query, {"files": list(files)}).fetchall()
    return {source: moment_us / 1e6 for source, moment_us in rows if moment_us is not None}


def last_polled(home: Home) -> dict[str, float]:
    """When each source was last found to hold nothing new, seconds since 1970; an unreadable note is none."""
    return _moments(home.coordination.read(POLLED))


def note_poll(home: Home, source: str, now_s: float) -> None:
    """Remember that a source was looked at now and holds nothing new; of two who look at once, both are remembered."""
    home.coordination.change(POLLED, lambda noted: json.dumps(_moments(noted) | {source: now_s}))


def _moments(noted: str | None) -> dict[str, float]:
    try:
        return {str(source): float(moment) for source, moment in json.loads(noted or "{}").items()}
    except (ValueError, AttributeError, TypeError):
        return {}
