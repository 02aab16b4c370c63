"""The days of the request log: which partitions there are, which of them a run asks for, and which it changed.

Belongs here: days in Dagster's words. Does not belong here: the assets (`ingest`), and which objects are of a day
(routing_pipeline.ingest.reprocessing).

Why days are an asset of their own, `request_log_days`, and `request_log` has none: Dagster takes a job for partitioned as soon as one of
its assets is. Such a job has no launchpad, and started by hand it asks for days and becomes a backfill, whereas an analysis asks for a goal and a
window, and reads what is new whatever days that is of (tried with Dagster 1.13). So jobs, schedules, sensors and commands run `request_log`, which tells
of every day that it changed, and a backfill runs the days, which stand before it.
"""

import contextlib
import os
import warnings
from collections.abc import Callable, Mapping
from datetime import UTC, date, datetime, timedelta
from pathlib import Path
from typing import Any

import dagster as dg

from assets.environment import first_day
from routing_pipeline.clock import SECONDS_PER_DAY
from routing_pipeline.lake.table import HeldDay
from routing_pipeline.storage.files import write_whole
from routing_pipeline.storage.home import Home

KEY = dg.AssetKey("request_log_days")
ROWS = "dagster/partition_row_count"
MOST_DAYS = 3 * 365
"""What a clock that was wrong once may add at the beginning."""


def partitions(asked: str | None, home: Path) -> dg.DailyPartitionsDefinition:
    """UTC days up to today: from the one that is asked for, else from the first that the home's lake held when it was last read."""
    noted = ""
    with contextlib.suppress(OSError):
        noted = _note(Home(home)).read_text(encoding="utf-8")
    return dg.DailyPartitionsDefinition(first_day(asked, noted), timezone="UTC", end_offset=1)


def daily(**words: Any) -> Callable[[Callable[..., Any]], dg.AssetsDefinition]:
    """An asset of these days; a backfill of many is one run, for which a source is listed once."""
    days = partitions(os.environ.get("ROUTING_PIPELINE_FIRST_DAY"), Path(os.environ.get("ROUTING_PIPELINE_HOME") or ".routing-pipeline"))

    def made(body: Callable[..., Any]) -> dg.AssetsDefinition:
        with warnings.catch_warnings():
            # In 1.13 the policy is beta; without it a backfill of a month is thirty runs.
            warnings.simplefilter("ignore", dg.BetaWarning)
            asset: dg.AssetsDefinition = dg.asset(partitions_def=days, backfill_policy=dg.BackfillPolicy.single_run(), **words)(body)
            return asset

    return made


def asked_for(context: dg.AssetExecutionContext) -> list[date]:
    """The days that a run of partitions is of."""
    return [date.fromisoformat(key) for key in context.partition_keys]


def tell(
    context: dg.AssetExecutionContext,
    home: Home,
    before: Mapping[int, HeldDay],
    now: Mapping[int, HeldDay],
    asked: frozenset[str] = frozenset(),
) -> None:
    """Let Dagster know of each day that a step changed, of the newest, and of those that the lake holds and Dagster has not heard of.

    Args:
        context: Of the step.
        home: Whose lake it is.
        before: What the lake held before the step.
        now: What it holds.
        asked: Partitions of the run, which Dagster takes for made anyway; these are told their rows alone.
    """
    known = context.instance.get_materialized_partitions(KEY)
    held = {_name(day): found.attempts for day, found in now.items()}
    news = {_name(day) for day in {*before, *now} if before.get(day) != now.get(day)} | (set(held) - known) | {max(held, default="")}
    for day in sorted(news - asked - {""}):
        context.log_event(dg.AssetMaterialization(KEY, partition=day, metadata={ROWS: held.get(day, 0)}))
    for day in asked:
        context.add_asset_metadata({ROWS: held.get(day, 0)}, asset_key=KEY, partition_key=day)
    if held:
        newest = date.fromisoformat(max(held))
        first = max(min(held), (newest - timedelta(days=MOST_DAYS)).isoformat())
        home.dagster.mkdir(parents=True, exist_ok=True)
        write_whole(_note(home), first.encode())


def _note(home: Home) -> Path:
    return home.dagster / "first-day"


def _name(day: int) -> str:
    return datetime.fromtimestamp(day * SECONDS_PER_DAY, UTC).date().isoformat()
