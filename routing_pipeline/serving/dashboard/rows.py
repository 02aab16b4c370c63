"""The attempts behind a figure of the live page, as CSV: the newest of them, of the same hours and filters.

Belongs here: which attempts a figure counts, and reading no more days than it takes. Does not belong here: figures (`model`), addresses (`app`).

They are rows of `conform_days` itself, by which the sums are made: added up, they are the figure.
"""

from __future__ import annotations

import csv
import io
import math
from collections.abc import Iterator, Sequence
from datetime import UTC, datetime
from typing import Any, Literal, get_args

import ibis

from routing_pipeline import text as wording
from routing_pipeline.catalog import Catalog
from routing_pipeline.clock import SECONDS_PER_DAY, SECONDS_PER_HOUR
from routing_pipeline.errors import UnusableInputError
from routing_pipeline.lake.table import Lake
from routing_pipeline.parameters import Parameters
from routing_pipeline.report.csv_links import harmless
from routing_pipeline.serving.dashboard.model import PageQuery, Snapshot, filtered, hours_of
from routing_pipeline.window.conform import conform_days, newest_scores
from routing_pipeline.window.engine import Engine
from routing_pipeline.window.few_names import OTHERS, short_names
from routing_pipeline.window.hourly import CELL
from routing_pipeline.window.kinds_of_call import chat_of
from routing_pipeline.window.scope import Window

MOST_ROWS = 1_000
MOST_DAYS = 7
"""Days that one answer reads at most. The file's name says since when its rows are all there are."""

Counted = Literal["requests", "spend", "failures", "scores"]
COLUMNS = (
    *("attempt_id", "request_id", "session_id", "operation", "model", "task_type", "team", "status", "error_type", "is_final"),
    *("cost_usd", "request_latency_ms", "quality", "prompt_tokens", "completion_tokens", "routing_rule_id"),
)


def counted(name: str | None) -> Counted:
    """The figure that is named; requests for any other name."""
    return next((each for each in get_args(Counted) if each == name), "requests")


def can_be_told(asked: PageQuery) -> bool:
    """Whether rows can be found by these filters: names that are rare are put together when they are summed."""
    return OTHERS not in {asked.task, asked.model, asked.team}


def rows_behind(lake: Lake, snapshot: Snapshot, asked: PageQuery, what: Counted, engine: Engine, parameters: Parameters) -> tuple[str, str]:
    """The newest attempts that a figure counts, as CSV, and a name for the file.

    `requests` are final attempts at chat, `spend` all attempts of every kind of call with a cost, `failures` failed attempts at chat, `scores`
    answers with a quality.

    Raises:
        UnusableInputError: the filters name what the page puts together because it is rare.
    """
    if not can_be_told(asked):
        raise UnusableInputError(f"{OTHERS} are summed together, and their rows are not kept apart; choose a name")
    start_s, end_s = (float(hour * SECONDS_PER_HOUR) for hour in hours_of(snapshot, asked))
    first = max(start_s, (math.ceil(end_s / SECONDS_PER_DAY) - MOST_DAYS) * SECONDS_PER_DAY)
    found: list[dict[str, Any]] = []
    since_s = end_s
    for window in _newest_first(first, end_s):
        found += _of_window(lake, window, asked, what, engine, parameters, MOST_ROWS - len(found))
        since_s = window.start_s
        if len(found) >= MOST_ROWS:
            since_s = found[-1]["started_s"]
            break
    return _csv(found), f"{what}-since-{datetime.fromtimestamp(since_s, UTC):%Y-%m-%dT%H%M%SZ}.csv"


def _newest_first(start_s: float, end_s: float) -> Iterator[Window]:
    """The window in two parts: its newest UTC day, which mostly is enough, and the rest at once: putting the query together takes longer than a small day."""
    midnight = max(float((math.ceil(end_s / SECONDS_PER_DAY) - 1) * SECONDS_PER_DAY), start_s)
    yield Window(midnight, end_s)
    if midnight > start_s:
        yield Window(start_s, midnight)


def _of_window(
    lake: Lake, window: Window, asked: PageQuery, what: Counted, engine: Engine, parameters: Parameters, most: int
) -> list[dict[str, Any]]:
    files = lake.attempt_files(window.start_s - SECONDS_PER_DAY, window.end_s + SECONDS_PER_DAY)
    if not files:
        return []
    feedback = lake.feedback_files()
    scores = newest_scores(engine.read_parquet(feedback), parameters.quality_feedback, parameters.trusted_scores) if feedback else None
    every = conform_days(engine.read_parquet(files), window, catalog=Catalog(parameters.models), scores=scores, held=engine.held)
    # A name that is too long stands in the filters as it does in the sums.
    rows = _counted_by(filtered(short_names(every, CELL), asked), what)
    rows = rows.select("started_s", *COLUMNS).order_by(ibis.desc("started_s"), "attempt_id").limit(most)
    return rows.to_pyarrow().to_pylist()  # type: ignore[no-any-return]


def _counted_by(rows: ibis.Table, what: Counted) -> ibis.Table:
    match what:
        case "spend":
            return rows.filter(rows.cost_usd.notnull())
        case "failures":
            return chat_of(rows).filter(lambda t: t.status == "failure")
        case "scores":
            return chat_of(rows).filter(lambda t: t.quality.notnull())
        case _:
            return chat_of(rows).filter(lambda t: t.is_final)


def _csv(rows: Sequence[dict[str, Any]]) -> str:
    out = io.StringIO()
    writer = csv.writer(out, lineterminator="\n")
    writer.writerow(("started_at", *COLUMNS))
    for row in rows:
        began = f"{datetime.fromtimestamp(row['started_s'], UTC):%Y-%m-%dT%H:%M:%S.%fZ}"
        writer.writerow((began, *(_cell(row[name]) for name in COLUMNS)))
    return out.getvalue()


def _cell(value: object) -> object:
    if isinstance(value, str):
        return harmless(wording.name(value, wording.LONGEST_TEXT))
    return "" if value is None else value
