"""Rows of windows, put together from whole days that are kept: what has not changed is not conformed again.

Belongs here: which days of a window are there already, making those that are not, and reading a window's rows. Does not belong
here: what a row holds (`scope.conform_days`), which window is asked for (`resolving`), dropping what is old (`Home.tidy`).

A row depends on the attempts of its UTC day and of the days next to it, on the newest scores of its attempts, on prices and on
code. A day is kept under exactly these, so that windows that overlap share what they have in common, a late object makes its
days anew and no others, and nothing is ever answered from the past. A late score has its day written anew from what was kept,
with nothing but the scores changed. A window is a list of days with its two ends. A day that the window cuts is made as far as the window goes, and kept with the window alone. What the window decides as a
whole, the rank of a prompt's length that stands in for complexity that was not logged, is a small table beside it.

    days/<day>-<attempts, prices, code>-<scores>.parquet      rows of a whole day; a folder where Spark wrote it
    windows/<rows key>/<day>.parquet                          rows of a day that the window cuts
    windows/<rows key>/<name>.lengths.parquet                 `scope.length_ranks`, where complexity was not always logged
    windows/<rows key>/<name>.json                            WindowRows; name: requests, or previous for the window before
"""

from __future__ import annotations

import contextlib
import os
import shutil
import uuid
from collections.abc import Collection, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import ibis
from pydantic import Field

from routing_pipeline.catalog import Catalog
from routing_pipeline.engine import Engine
from routing_pipeline.errors import UnusableInputError
from routing_pipeline.estimates import Result, quantity
from routing_pipeline.ingest.content import content_of
from routing_pipeline.parameters import Parameters
from routing_pipeline.results import code_version, key_of
from routing_pipeline.schema import SCOPED_REQUESTS, column_names
from routing_pipeline.scope import (
    DAYS_AROUND,
    SECONDS_PER_DAY,
    LakeState,
    Window,
    conform_days,
    length_ranks,
    newest_scores,
    scored_anew,
    with_complexity,
    with_day,
)
from routing_pipeline.storage import is_there, read_shared

DAYS_AT_ONCE = 8
"""Days conformed in one query: memory is bounded by them, and putting a query together takes longer than a small day's rows."""
NAMES = ("requests", "previous")

Scores = tuple[ibis.Table, ibis.Table]


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
    """The rows (schema.SCOPED_REQUESTS) that a scope names: those of a window, or a sample of them, which is a table of its own.

    Raises:
        UnusableInputError: they are not there any more.
    """
    where = str(location)
    if not where.endswith(".json"):
        return engine.read_parquet([where])
    window = _read(where)
    if window is None:
        raise UnusableInputError(f"{where}: the rows of this analysis were dropped; ask for it again")
    folder = _folder_of(where)
    rows = _within(engine.read_parquet([f"{folder}/{name}" for name in window.parts]), window)
    return rows if window.lengths is None else with_complexity(rows, engine.read_parquet([f"{folder}/{window.lengths}"]))


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


def kept_window(lake: LakeState, scratch: Path, folder: Path) -> tuple[str, str] | None:
    """Addresses of the rows of a window and of those of the window before it, where both are there as a whole; counts as use."""
    addresses = []
    for name in NAMES:
        address = lake.found(folder / f"{name}.json")
        window = None if address is None else _read(address)
        if address is None or window is None or not all(lake.found(scratch / each) for each in window.names):
            return None
        addresses.append(address)
    with contextlib.suppress(OSError):
        os.utime(folder)
    return addresses[0], addresses[1]


def make_window(
    lake: LakeState,
    parameters: Parameters,
    window: Window,
    files: Mapping[int, tuple[str, ...]],
    *,
    engine: Engine,
    engine_name: str,
    scratch: Path,
    folder: Path,
) -> tuple[str, str] | None:
    """Make the rows of a window and of the one before it, of which whole days are found or kept; gives their addresses, as `kept_window`.

    Args:
        lake: what it holds.
        parameters: their catalog, quality and task types.
        window: the window.
        files: names of the lake's data files by day, of all days that rows of the two windows depend on.
        engine: what conforms.
        engine_name: how it was asked for: two engines' rows are kept apart.
        scratch: folder that `days` and `windows` lie in.
        folder: where this window belongs.
    """
    shutil.rmtree(folder, ignore_errors=True)
    pieces = _pieces(Window(window.previous.start_s, window.end_s), lake.newest_s, files)
    catalog = Catalog(parameters.models)
    scores = _scores(lake, parameters, engine)
    stems = _stems(pieces, files, catalog, parameters, engine_name)
    kept = _kept_but_for_scores(lake, scratch / "days", stems)
    digests = _digests(lake, files, stems, kept, scores, engine)
    names = {day: f"days/{stem}-{key_of(scores=digests.get(day))}.parquet" for day, stem in stems.items()}
    made: dict[int, tuple[str, Path]] = {day: (name, scratch / name) for day, name in names.items() if lake.found(scratch / name)}
    with _written_whole(folder) as writing:
        for days in _batches({day: path for day, path in kept.items() if day not in made}):
            rows = scored_anew(engine.read_parquet(list(days.values())), scores)
            for day, path in engine.write_parquet_by(rows, "day", writing / f"scored-{min(days)}").items():
                made[day] = names[day], _keep(lake, path, scratch / names[day])
            shutil.rmtree(writing / f"scored-{min(days)}", ignore_errors=True)
        for run in _runs(pieces, made):
            around = sorted({file for piece in run for each in _around(files, piece.day) for file in each})
            attempts = engine.read_parquet(lake.readable(around))
            rows = conform_days(attempts, Window(run[0].start_s, run[-1].end_s), catalog=catalog, scores=scores, held=engine.held)
            written = engine.write_parquet_by(rows, "day", writing / f"made-{run[0].day}")
            for piece in run:
                if piece.day in written and piece.is_whole:
                    made[piece.day] = names[piece.day], _keep(lake, written[piece.day], scratch / names[piece.day])
                elif piece.day in written:
                    path = writing / f"{piece.day}.parquet"
                    written[piece.day].rename(path)
                    made[piece.day] = f"windows/{folder.name}/{path.name}", path
            shutil.rmtree(writing / f"made-{run[0].day}", ignore_errors=True)
        for each, part in zip(NAMES, (window, window.previous), strict=True):
            _list(each, part, made, parameters.task_types, engine, writing, f"windows/{folder.name}")
    if not made:
        shutil.rmtree(folder, ignore_errors=True)
        return None
    # The list last: where it is, everything is.
    for path in sorted(folder.iterdir(), key=lambda path: path.suffix == ".json"):
        lake.share(path)
    return kept_window(lake, scratch, folder)


@dataclass(frozen=True)
class _Piece:
    """What a window needs of one UTC day; seconds since 1970, half-open."""

    day: int
    start_s: float
    end_s: float
    is_whole: bool


def _pieces(span: Window, newest_s: float, files: Mapping[int, tuple[str, ...]]) -> list[_Piece]:
    """The days of a window that the lake holds files of. The day of the newest attempt is whole: nothing lies behind."""
    pieces = []
    for day in sorted(files):
        begins_s, ends_s = float(day * SECONDS_PER_DAY), float((day + 1) * SECONDS_PER_DAY)
        if ends_s <= span.start_s or begins_s >= span.end_s:
            continue
        is_whole = begins_s >= span.start_s and (ends_s <= span.end_s or span.end_s > newest_s)
        pieces.append(_Piece(day, max(begins_s, span.start_s), ends_s if is_whole else min(ends_s, span.end_s), is_whole))
    return pieces


def _runs(pieces: Sequence[_Piece], made: Collection[int]) -> Iterator[list[_Piece]]:
    """Those that are to be made, by what can be made at once: nothing that is there already lies between them."""
    run: list[_Piece] = []
    for piece in pieces:
        if run and (piece.day in made or piece.day - run[0].day >= DAYS_AT_ONCE):
            yield run
            run = []
        if piece.day not in made:
            run.append(piece)
    if run:
        yield run


def _kept_but_for_scores(lake: LakeState, folder: Path, stems: Mapping[int, str]) -> dict[int, Path]:
    """Days that are kept, with whatever scores they had."""
    there = {name.rpartition("-")[0]: folder / name for name in lake.names_in(folder)}
    return {day: there[stem] for day, stem in stems.items() if stem in there and lake.found(there[stem])}


def _batches(days: Mapping[int, Path]) -> Iterator[dict[int, Path]]:
    """As many as are written at once."""
    every = sorted(days.items())
    for first in range(0, len(every), DAYS_AT_ONCE):
        yield dict(every[first : first + DAYS_AT_ONCE])


def _around(files: Mapping[int, tuple[str, ...]], day: int) -> list[tuple[str, ...]]:
    """Files of the days that rows of a day depend on."""
    return [files.get(each, ()) for each in range(day - DAYS_AROUND, day + DAYS_AROUND + 1)]


def _scores(lake: LakeState, parameters: Parameters, engine: Engine) -> Scores | None:
    if not lake.feedback_files:
        return None
    by_request, by_attempt = newest_scores(engine.read_parquet(lake.feedback_files), parameters.quality_feedback)
    return engine.held(by_request), engine.held(by_attempt)


def _stems(
    pieces: Sequence[_Piece], files: Mapping[int, tuple[str, ...]], catalog: Catalog, parameters: Parameters, engine_name: str
) -> dict[int, str]:
    """What whole days are called but for their scores: by everything else that their rows depend on."""
    same_for_all = key_of(
        catalog=catalog.version,
        overrides={name: override.model_dump(mode="json") for name, override in parameters.models.items()},
        engine=engine_name,
        code=code_version(),
    )
    return {
        piece.day: f"{piece.day}-{key_of(rows=[content_of(each) for each in _around(files, piece.day)], same=same_for_all)}"
        for piece in pieces
    }


def _digests(
    lake: LakeState,
    files: Mapping[int, tuple[str, ...]],
    days: Collection[int],
    kept: Mapping[int, Path],
    scores: Scores | None,
    engine: Engine,
) -> dict[int, str]:
    """`score_digests` of these days, from what is kept of them, else from the lake."""
    if scores is None:
        return {}
    others = sorted({file for day in days if day not in kept for file in files[day]})
    sources: list[Sequence[str | Path]] = [list(kept.values()), lake.readable(others) if others else []]
    rows = [with_day(engine.read_parquet(paths)).select("attempt_id", "request_id", "day") for paths in sources if paths]
    return score_digests(ibis.union(*rows) if len(rows) > 1 else rows[0], scores) if rows else {}


def score_digests(attempts: ibis.Table, scores: Scores) -> dict[int, str]:
    """By `day` of the attempts: changes whenever a score of one of them or of their requests does; days without scores are missing.

    Sums of two hashes of what is joined, so that no row leaves the engine and order does not matter.
    """
    by_request, by_attempt = scores
    rows = attempts.select("attempt_id", "request_id", "day")
    by_request = by_request.rename(scored_request_id="request_id", quality_by_request="quality", rating_by_request="rating")
    by_attempt = by_attempt.rename(scored_attempt_id="attempt_id", quality_by_attempt="quality", rating_by_attempt="rating")
    rows = rows.left_join(by_request, rows.request_id == by_request.scored_request_id)
    rows = rows.left_join(by_attempt, rows.attempt_id == by_attempt.scored_attempt_id)
    rows = rows.filter(rows.scored_request_id.notnull() | rows.scored_attempt_id.notnull())
    found = [rows[f"{what}_by_{whose}"].cast("string").fill_null("") for whose in ("request", "attempt") for what in ("quality", "rating")]
    text = ibis.literal("|").join([rows.attempt_id, *found])
    summed = rows.group_by("day").agg(
        n=rows.count(), **{f"sum_{salt}": (text + salt).hash().cast("decimal(38, 0)").sum().cast("string") for salt in "ab"}
    )
    return {row["day"]: f"{row['n']}:{row['sum_a']}:{row['sum_b']}" for row in summed.to_pyarrow().to_pylist()}


def _list(
    name: str,
    window: Window,
    made: Mapping[int, tuple[str, Path]],
    task_types: tuple[str, ...],
    engine: Engine,
    writing: Path,
    folder: str,
) -> None:
    """Write the list of a window's parts, and the ranks that its rows need."""
    if not made:
        return
    inside = [day for day in sorted(made) if day * SECONDS_PER_DAY < window.end_s and (day + 1) * SECONDS_PER_DAY > window.start_s]
    # A window without rows has the columns of another day, and none of its rows.
    days = inside or [min(made)]
    listed = WindowRows(
        parts=tuple(made[day][0] for day in days), start_s=window.start_s, end_s=window.end_s, task_types=task_types, lengths=None
    )
    rows = _within(engine.read_parquet([made[day][1] for day in days]), listed)
    if inside and rows.filter(rows.is_complexity_derived & rows.prompt_tokens.notnull()).limit(1).count().execute():
        file = f"{name}.lengths.parquet"
        engine.write_parquet(length_ranks(rows), writing / file)
        listed = listed.model_copy(update={"lengths": f"{folder}/{file}"})
    (writing / f"{name}.json").write_text(listed.model_dump_json(indent=1), encoding="utf-8")


def _keep(lake: LakeState, written: Path, path: Path) -> Path:
    """Move a day to where it belongs, for every worker; where somebody was faster, the same rows lie there."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with contextlib.suppress(OSError):
        written.rename(path)
    lake.share(path)
    return path


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
