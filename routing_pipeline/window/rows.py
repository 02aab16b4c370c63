"""Rows of windows, put together from days that are kept: what has not changed is not conformed again.

Belongs here: the list of files that a window is made of, writing it and reading rows by it. Does not belong here: what a row
holds (`conform`), making and keeping days (`day_cache`), which window is asked for (`resolve`), dropping what is old (`retention`).

A window is a list of days with its two ends. A day that the window cuts is made as far as the window goes, and kept with the
window alone. What the window decides as a whole, the rank of a prompt's length that stands in for complexity that was not
logged, is a small table beside it.

    windows/<rows key>/<day>.parquet                          rows of a day that the window cuts
    windows/<rows key>/<name>.lengths.parquet                 `conform.length_ranks`, where complexity was not always logged
    windows/<rows key>/<name>.json                            WindowRows; name: requests, or previous for the window before
"""

from __future__ import annotations

import contextlib
import os
import shutil
import uuid
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import ibis
from pydantic import Field

from routing_pipeline.clock import SECONDS_PER_DAY, hour_of
from routing_pipeline.errors import UnusableInputError
from routing_pipeline.estimates import Result, quantity
from routing_pipeline.lake.table import Lake
from routing_pipeline.schema import SCOPED_REQUESTS, column_names
from routing_pipeline.storage.bucket import is_there, read_shared
from routing_pipeline.window.conform import length_ranks, with_complexity
from routing_pipeline.window.day_cache import DayCache, FilesByDay, pieces_of
from routing_pipeline.window.engine import Engine
from routing_pipeline.window.kinds_of_call import chat_of, is_chat
from routing_pipeline.window.scope import Window

NAMES = ("requests", "previous")


class WindowRows(Result):
    """Where the rows of a window are; names are relative to the folder that `windows` lies in."""

    parts: tuple[str, ...] = Field(description="Rows of days in schema.SCOPED_REQUESTS; complexity is null where it was not logged")
    start_s: float = quantity("Start of the window, inclusive, since 1970-01-01 UTC", "s")
    end_s: float = quantity("End of the window, exclusive", "s")
    task_types: tuple[str, ...] = Field(description="Task types in it; none named means all")
    lengths: str | None = Field(description="Ranks of prompt lengths within task types (scope.length_ranks); null when none is needed")

    @property
    def names(self) -> tuple[str, ...]:
        """Everything that is read."""
        return self.parts if self.lengths is None else (*self.parts, self.lengths)


# Reading


def rows_at(engine: Engine, location: str | Path) -> ibis.Table:
    """The rows (schema.SCOPED_REQUESTS) of the kind `chat` that a scope names: of a window, or a sample of them, a table of its own.

    This is what an analysis reads. Whoever counts calls of every kind asks for them (`calls_at`).

    Raises:
        UnusableInputError: they are not there any more.
    """
    return _named(engine, str(location), "chat")


def calls_at(engine: Engine, location: str | Path) -> ibis.Table:
    """The same of every kind of call. Complexity that was not logged is that of chat of the same task and length, and means nothing of others.

    Raises:
        UnusableInputError: they are not there any more.
    """
    return _named(engine, str(location), "every kind")


def _named(engine: Engine, location: str, kinds: Literal["chat", "every kind"]) -> ibis.Table:
    """Rows under a name of the engine: what reads them is compiled without what they are made of."""
    window, folder = None, _folder_of(location)
    if not location.endswith(".json"):
        rows = engine.read_parquet([location])
    elif (window := _read(location)) is None:
        raise UnusableInputError(f"{location}: the rows of this analysis were dropped; ask for it again")
    else:
        rows = _within(engine.read_parquet([f"{folder}/{name}" for name in window.parts]), window)
        if window.lengths is not None:
            rows = with_complexity(rows, engine.read_parquet([f"{folder}/{window.lengths}"]))
    made_of = location if window is None else f"{folder} {window.model_dump_json()}"
    return engine.named(chat_of(rows) if kinds == "chat" else rows, f"{kinds} {made_of}")


def spend_beside(engine: Engine, location: str) -> float:
    """Spend in USD of a window's calls that are no chat of the task types that it is about.

    Raises:
        UnusableInputError: the rows are not there any more.
    """
    window = _read(location)
    if window is None:
        raise UnusableInputError(f"{location}: the rows of this analysis were dropped; ask for it again")
    every = window.model_copy(update={"task_types": ()})
    rows = _within(engine.read_parquet([f"{_folder_of(location)}/{name}" for name in window.parts]), every)
    is_own = is_chat(rows) & rows.task_type.isin(window.task_types) if window.task_types else is_chat(rows)
    return float(rows.filter(~is_own).cost_usd.sum().fill_null(0.0).execute())


@dataclass(frozen=True)
class Recorded:
    """When the logs hold anything at all, whatever task types a window is about."""

    hours: frozenset[int]
    """Since 1970, in which at least one attempt began."""
    first_s: float
    last_s: float


def recorded(engine: Engine, locations: Sequence[str], start_s: float, end_s: float) -> Recorded | None:
    """When attempts of any kind began between two moments that these windows hold; None when they hold none.

    Raises:
        UnusableInputError: the rows are not there any more.
    """
    parts: dict[str, None] = {}
    for location in locations:
        window = _read(location)
        if window is None:
            raise UnusableInputError(f"{location}: the rows of this analysis were dropped; ask for it again")
        parts |= dict.fromkeys(f"{_folder_of(location)}/{name}" for name in window.parts)
    rows = engine.read_parquet(list(parts)).select("started_s")
    rows = rows.filter(rows.started_s >= start_s, rows.started_s < end_s)
    by_hour = rows.group_by(hour=hour_of(rows.started_s)).agg(first_s=rows.started_s.min(), last_s=rows.started_s.max())
    found = by_hour.to_pyarrow().to_pylist()
    if not found:
        return None
    return Recorded(frozenset(row["hour"] for row in found), min(row["first_s"] for row in found), max(row["last_s"] for row in found))


def are_there(location: str) -> bool:
    """Whether all rows that a scope names can still be read."""
    if not location.endswith(".json"):
        return is_there(location)
    window = _read(location)
    return window is not None and all(is_there(f"{_folder_of(location)}/{name}") for name in window.names)


def mark_used(location: str) -> None:
    """Let what lies on this machine of a window count as used now."""
    window = _read(location) if location.endswith(".json") else None
    folder = _folder_of(location)
    for path in (Path(location).parent, *(Path(folder) / name for name in (() if window is None else window.parts))):
        with contextlib.suppress(OSError):
            os.utime(path)


def _read(location: str) -> WindowRows | None:
    content = read_shared(location)
    try:
        return None if content is None else WindowRows.model_validate_json(content)
    except ValueError:
        return None


def _folder_of(location: str) -> str:
    """The folder that `windows` lies in."""
    return location.rsplit("/", 3)[0]


def _within(rows: ibis.Table, window: WindowRows) -> ibis.Table:
    rows = rows.filter(rows.started_s >= window.start_s, rows.started_s < window.end_s)
    rows = rows.filter(rows.task_type.isin(window.task_types)) if window.task_types else rows
    return rows.select(*column_names(SCOPED_REQUESTS))


# Keeping


def kept_window(lake: Lake, folder: Path) -> tuple[str, str] | None:
    """Addresses of the rows of a window and of those of the window before it, where both are there as a whole; counts as use."""
    found, scratch = lake.home.files.found, lake.home.window_scratch
    addresses = []
    for name in NAMES:
        address = found(folder / f"{name}.json")
        window = None if address is None else _read(address)
        if address is None or window is None or not all(found(scratch / each) for each in window.names):
            return None
        addresses.append(address)
    with contextlib.suppress(OSError):
        os.utime(folder)
    return addresses[0], addresses[1]


def make_window(days: DayCache, window: Window, files: FilesByDay, *, newest_s: float, folder: Path) -> tuple[str, str] | None:
    """Make the rows of a window and of the one before it, of which days are found or kept; gives their addresses, as `kept_window`.

    Args:
        days: finds and makes them.
        window: the window.
        files: names of the lake's data files by day, of all days that rows of the two windows depend on.
        newest_s: when the newest attempt began, seconds since 1970.
        folder: where this window belongs.

    Returns:
        None when no row lies in either window.
    """
    shutil.rmtree(folder, ignore_errors=True)
    with _written_whole(folder) as writing:
        made = days.get_or_make(pieces_of(Window(window.previous.start_s, window.end_s), newest_s, files), files, writing)
        if made:
            for name, part in zip(NAMES, (window, window.previous), strict=True):
                _list(name, part, made, days, writing, f"windows/{folder.name}")
    if not made:
        shutil.rmtree(folder, ignore_errors=True)
        return None
    # The list last: where it is, everything is.
    for path in sorted(folder.iterdir(), key=lambda path: path.suffix == ".json"):
        days.lake.home.files.share(path)
    return kept_window(days.lake, folder)


def _list(name: str, window: Window, made: Mapping[int, Path], days: DayCache, writing: Path, folder: str) -> None:
    """Write the list of a window's parts, and the ranks that its rows need."""
    inside = [day for day in sorted(made) if day * SECONDS_PER_DAY < window.end_s and (day + 1) * SECONDS_PER_DAY > window.start_s]
    # A window without rows has the columns of another day, and none of its rows.
    parts = [made[day] for day in inside or [min(made)]]
    listed = WindowRows(
        parts=tuple(f"{folder if path.parent == writing else 'days'}/{path.name}" for path in parts),
        start_s=window.start_s,
        end_s=window.end_s,
        task_types=days.parameters.task_types,
        lengths=None,
    )
    rows = chat_of(_within(days.engine.read_parquet(parts), listed))
    if inside and rows.filter(rows.is_complexity_derived & rows.prompt_tokens.notnull()).limit(1).count().execute():
        file = f"{name}.lengths.parquet"
        days.engine.write_parquet(length_ranks(rows), writing / file)
        listed = listed.model_copy(update={"lengths": f"{folder}/{file}"})
    (writing / f"{name}.json").write_text(listed.model_dump_json(indent=1), encoding="utf-8")


@contextmanager
def _written_whole(folder: Path) -> Iterator[Path]:
    """A folder to write into that takes its place at once when all is written.

    Two who ask for the same window at the same time both write; the second finds the place taken, by the same rows.
    """
    writing = folder.with_name(f"{folder.name}.writing-{uuid.uuid4().hex}")
    writing.mkdir(parents=True)
    try:
        yield writing
        with contextlib.suppress(OSError):
            writing.rename(folder)
    finally:
        shutil.rmtree(writing, ignore_errors=True)
