"""The demo as time goes on: seven days of made-up traffic up to now, and whenever it is asked again what has come since.

Belongs here: which part of which week is there by now, and remembering how far a folder is. Does not belong here: what happens in a week
(`demo.week`), how a gateway writes it down (`demo.logs`).

The weeks are those of `demo.traffic` moved by whole weeks: Mondays stay Mondays, and the last seven days hold each planted incident once. A
score is there once it was given.
"""

from __future__ import annotations

import functools
import math
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from pydantic import BaseModel, ConfigDict, ValidationError

from routing_pipeline.clock import HOURS_PER_WEEK, SECONDS_PER_HOUR
from routing_pipeline.demo.logs import MARKER, make_room, write_logs, write_scores, writing
from routing_pipeline.demo.traffic import SCORED_AFTER_H, WEEK_START, Traffic
from routing_pipeline.demo.week import week
from routing_pipeline.errors import UnusableInputError

SEED = 20261116
WEEK_S = HOURS_PER_WEEK * SECONDS_PER_HOUR
LONGEST_GAP_S = 2 * WEEK_S
"""A demo that was left alone for longer goes on with so much: what came between is left out."""


class Reached(BaseModel):
    """How far a folder's traffic is, in seconds since 1970: the first week's Monday, and from when to when nothing is left out."""

    model_config = ConfigDict(frozen=True)

    requests: int
    begins_s: float
    since_s: float
    until_s: float


def write_until(folder: Path, now_s: float, *, requests: int = 200_000, progress: Callable[[int, int], None] | None = None) -> int:
    """Write the traffic up to `now_s` below `folder`: seven days of it, or what has come since the last time.

    Args:
        folder: gets `logs/{YYYY-MM-DD}/...` and `feedback/*.jsonl`.
        now_s: the present, seconds since 1970; nothing that is written is later.
        requests: client requests a week.
        progress: told (batches written, batches in all), of each week.

    Returns:
        How many attempts were written.

    Raises:
        UnusableInputError: the folder holds logs that are not made up, or a demo of another size, or cannot be written to.
    """
    with writing(folder):
        reached = _reached(folder)
        if reached is None:
            make_room(folder)
            since_s = math.ceil(now_s / SECONDS_PER_HOUR) * SECONDS_PER_HOUR - WEEK_S
            reached = Reached(requests=requests, begins_s=_monday(since_s), since_s=since_s, until_s=since_s)
        if reached.requests != requests:
            what = f"{folder} holds a demo of {reached.requests:,} requests a week"
            raise UnusableInputError(f"{what}; name another --home, or remove that folder and its home for one of {requests:,}")
        if now_s - reached.until_s > LONGEST_GAP_S:
            reached = reached.model_copy(update={"since_s": now_s - LONGEST_GAP_S, "until_s": now_s - LONGEST_GAP_S})
        attempts = 0
        for number in _weeks(reached.begins_s, reached.until_s - SCORED_AFTER_H[1] * SECONDS_PER_HOUR, now_s):
            attempts += _write_part(folder, reached, number, now_s, progress)
        if now_s > reached.until_s:
            (folder / MARKER).write_text(reached.model_copy(update={"until_s": now_s}).model_dump_json(), encoding="ascii")
        return attempts


def _reached(folder: Path) -> Reached | None:
    """None where nothing was written, or by something that did not go on."""
    try:
        return Reached.model_validate_json((folder / MARKER).read_bytes())
    except (FileNotFoundError, ValidationError):
        return None


def _monday(moment_s: float) -> float:
    """The start of the week that a moment lies in, UTC."""
    monday_s = WEEK_START.timestamp()
    return monday_s + math.floor((moment_s - monday_s) / WEEK_S) * WEEK_S


def _weeks(begins_s: float, from_s: float, until_s: float) -> Iterator[int]:
    """Numbers of the weeks since `begins_s` that lie between two moments."""
    yield from range(max(math.floor((from_s - begins_s) / WEEK_S), 0), math.ceil((until_s - begins_s) / WEEK_S))


def _write_part(folder: Path, reached: Reached, number: int, now_s: float, progress: Callable[[int, int], None] | None) -> int:
    """Write what of a week began, and what of its scores was given, since the last time; the number of attempts."""
    begins_s = reached.begins_s + number * WEEK_S
    drawn = _moved(reached.requests, number, begins_s)
    started, scored = (_seconds(table, name) for table, name in ((drawn.attempts, "started_at"), (drawn.feedback, "scored_at")))
    attempts = drawn.attempts.filter(pa.array((started >= reached.until_s) & (started < now_s)))
    if attempts.num_rows:
        write_logs(folder / "logs", attempts, begins_s, SEED + number, until_s=now_s, progress=progress)
    scores = drawn.feedback.filter(pa.array((scored >= reached.until_s) & (scored < now_s)))
    # Of a request that was left out no score is given.
    scores = scores.filter(
        pc.is_in(scores["request_id"], value_set=drawn.attempts.filter(pa.array(started >= reached.since_s))["request_id"])
    )
    if scores.num_rows:
        write_scores(folder / "feedback", scores, now_s, f"feedback-{round(now_s)}-{number}.jsonl")
    return int(attempts.num_rows)


@functools.lru_cache(maxsize=2)
def _moved(requests: int, number: int, begins_s: float) -> Traffic:
    """A week of traffic that begins at `begins_s`, and whose sessions are its own."""
    drawn = week(requests, SEED + number).traffic
    by_us = round((begins_s - WEEK_START.timestamp()) * 1e6)
    attempts = _later(drawn.attempts, "started_at", by_us)
    if number:
        sessions = pc.binary_join_element_wise(f"week{number}", attempts["session_id"], "-")
        attempts = attempts.set_column(attempts.schema.get_field_index("session_id"), "session_id", sessions)
    return Traffic(attempts, _later(drawn.feedback, "scored_at", by_us))


def _later(table: pa.Table, name: str, by_us: int) -> pa.Table:
    moved = pc.add(table[name].cast(pa.int64()), by_us).cast(pa.timestamp("us"))
    return table.set_column(table.schema.get_field_index(name), name, moved)


def _seconds(table: pa.Table, name: str) -> np.ndarray:
    seconds: np.ndarray = table[name].cast(pa.int64()).to_numpy() / 1e6
    return seconds
