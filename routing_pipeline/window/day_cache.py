"""Conformed rows by UTC day, each day made once and found again by every window that holds it.

Belongs here: under what a day is kept, making those that are not there, putting late scores into those that are. Does not belong
here: what a row holds (`conform`), which days a window is put together from (`rows`), dropping what is old (`retention`).

A row depends on the attempts of its UTC day and of the days next to it, on the newest scores of its attempts, on prices and on
code. A day is kept under exactly these, so that windows that overlap share what they have in common, a late object makes its
days anew and no others, and nothing is ever answered from the past.

    days/<day>-<attempts, prices, code>-<scores>.parquet      rows of a whole day; a folder where Spark wrote it

A late score has its day written anew from what was kept, with nothing but the scores changed. Scores are not joined when rows are
read: a window is written once and read by a dozen analyses, and each of them would read two columns of ids that it has no other use for.
"""

from __future__ import annotations

import contextlib
import shutil
from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

import ibis

from routing_pipeline.catalog import Catalog
from routing_pipeline.clock import SECONDS_PER_DAY
from routing_pipeline.lake.file_names import content_of
from routing_pipeline.lake.table import Lake
from routing_pipeline.parameters import Parameters
from routing_pipeline.storage.code_keys import code_key
from routing_pipeline.storage.results import key_of
from routing_pipeline.window.conform import DAYS_AROUND, NEWEST, Scores, conform_days, keyed_by, newest_scores, scored_anew, with_day
from routing_pipeline.window.engine import Engine
from routing_pipeline.window.scope import Window

DAYS_AT_ONCE = 8
"""Days conformed in one query: memory is bounded by them, and putting a query together takes longer than a small day's rows."""

FilesByDay = Mapping[int, tuple[str, ...]]
"""Names of the lake's data files by day since 1970 (`Lake.names_by_day`)."""


@dataclass(frozen=True)
class Piece:
    """What a window needs of one UTC day; seconds since 1970, half-open."""

    day: int
    start_s: float
    end_s: float
    is_whole: bool


def pieces_of(span: Window, newest_s: float, files: FilesByDay) -> list[Piece]:
    """The days of a window that the lake holds files of. The day of the newest attempt is whole: nothing lies behind."""
    pieces = []
    for day in sorted(files):
        begins_s, ends_s = float(day * SECONDS_PER_DAY), float((day + 1) * SECONDS_PER_DAY)
        if ends_s <= span.start_s or begins_s >= span.end_s:
            continue
        is_whole = begins_s >= span.start_s and (ends_s <= span.end_s or span.end_s > newest_s)
        pieces.append(Piece(day, max(begins_s, span.start_s), ends_s if is_whole else min(ends_s, span.end_s), is_whole))
    return pieces


class DayCache:
    """The days of one lake at the prices, with the quality and by the engine of one question."""

    def __init__(self, lake: Lake, parameters: Parameters, *, feedback_files: Sequence[str], engine: Engine, engine_name: str) -> None:
        """`feedback_files` as the lake has them now; `engine_name` as it was asked for: two engines' rows are kept apart."""
        self.lake, self.parameters, self.engine = lake, parameters, engine
        self.catalog = Catalog(parameters.models)
        self.root = lake.home.window_scratch
        self._folder, self._storage, self._feedback_files = lake.home.days, lake.home.files, feedback_files
        self._same_for_all = key_of(
            catalog=self.catalog.version,
            overrides={name: override.model_dump(mode="json") for name, override in parameters.models.items()},
            engine=engine_name,
            code=code_key(__name__),
        )

    def get_or_make(self, pieces: Sequence[Piece], files: FilesByDay, cut: Path) -> dict[int, Path]:
        """Where the rows of each piece lie, by day; days without a row are missing.

        A piece that is not whole is made as far as it goes, into the folder `cut`, unless the whole day is there already.

        Args:
            pieces: in order of their days.
            files: of all days that their rows depend on.
            cut: a folder to write into.
        """
        places, kept = self._places([piece.day for piece in pieces], files)
        made = {day: path for day, path in places.items() if self._storage.found(path)}
        made |= self._scored_anew({day: path for day, path in kept.items() if day not in made}, places, cut)
        for run in _runs(pieces, made):
            made |= self._conformed(run, files, places, cut)
        return made

    def _places(self, days: Sequence[int], files: FilesByDay) -> tuple[dict[int, Path], dict[int, Path]]:
        """Where whole days belong; and where those lie that are kept, with whatever scores they had."""
        stems = {day: f"{day}-{key_of(rows=[content_of(each) for each in _around(files, day)], same=self._same_for_all)}" for day in days}
        there = {name.rpartition("-")[0]: self._folder / name for name in self._storage.names_in(self._folder)}
        kept = {day: there[stem] for day, stem in stems.items() if stem in there and self._storage.found(there[stem])}
        digests = self._digests(days, files, kept)
        return {day: self._folder / f"{stem}-{key_of(scores=digests.get(day))}.parquet" for day, stem in stems.items()}, kept

    @cached_property
    def _scores(self) -> Scores | None:
        if not self._feedback_files:
            return None
        by_request, by_attempt = newest_scores(
            self.engine.read_parquet(self._feedback_files), self.parameters.quality_feedback, self.parameters.trusted_scores
        )
        return self.engine.held(by_request), self.engine.held(by_attempt)

    def _digests(self, days: Collection[int], files: FilesByDay, kept: Mapping[int, Path]) -> dict[int, str]:
        """`score_digests` of these days, from what is kept of them, else from the lake."""
        if self._scores is None:
            return {}
        others = sorted({file for day in days if day not in kept for file in files[day]})
        sources: list[Sequence[str | Path]] = [list(kept.values()), self.lake.readable(others) if others else []]
        rows = [with_day(self.engine.read_parquet(paths)).select("attempt_id", "request_id", "day") for paths in sources if paths]
        return score_digests(ibis.union(*rows) if len(rows) > 1 else rows[0], self._scores) if rows else {}

    def _scored_anew(self, kept: Mapping[int, Path], places: Mapping[int, Path], writing: Path) -> dict[int, Path]:
        """Days that are kept but for their scores, written with the newest."""
        made = {}
        days = sorted(kept)
        for batch in (days[first : first + DAYS_AT_ONCE] for first in range(0, len(days), DAYS_AT_ONCE)):
            rows = scored_anew(self.engine.read_parquet([kept[day] for day in batch]), self._scores)
            for day, path in self._written(rows, writing / f"scored-{batch[0]}"):
                made[day] = self._keep(path, places[day])
        return made

    def _conformed(self, run: Sequence[Piece], files: FilesByDay, places: Mapping[int, Path], cut: Path) -> dict[int, Path]:
        """Days that follow each other, made in one query."""
        around = sorted({file for piece in run for each in _around(files, piece.day) for file in each})
        attempts = self.engine.read_parquet(self.lake.readable(around))
        window = Window(run[0].start_s, run[-1].end_s)
        rows = conform_days(attempts, window, catalog=self.catalog, scores=self._scores, held=self.engine.held)
        whole, made = {piece.day for piece in run if piece.is_whole}, {}
        for day, path in self._written(rows, cut / f"made-{run[0].day}"):
            made[day] = self._keep(path, places[day]) if day in whole else path.rename(cut / f"{day}.parquet")
        return made

    def _written(self, rows: ibis.Table, folder: Path) -> Iterator[tuple[int, Path]]:
        """Days as they are written; each is to be moved before the next is asked for, and the folder goes at the end."""
        yield from self.engine.write_parquet_by(rows, "day", folder).items()
        shutil.rmtree(folder, ignore_errors=True)

    def _keep(self, written: Path, path: Path) -> Path:
        """Move a day to where it belongs, for every worker; where somebody was faster, the same rows lie there."""
        path.parent.mkdir(parents=True, exist_ok=True)
        with contextlib.suppress(OSError):
            written.rename(path)
        self._storage.share(path)
        return path


def _runs(pieces: Sequence[Piece], made: Collection[int]) -> Iterator[list[Piece]]:
    """Those that are to be made, by what can be made at once: nothing that is there already lies between them."""
    run: list[Piece] = []
    for piece in pieces:
        if run and (piece.day in made or piece.day - run[0].day >= DAYS_AT_ONCE):
            yield run
            run = []
        if piece.day not in made:
            run.append(piece)
    if run:
        yield run


def _around(files: FilesByDay, day: int) -> list[tuple[str, ...]]:
    """Files of the days that rows of a day depend on."""
    return [files.get(each, ()) for each in range(day - DAYS_AROUND, day + DAYS_AROUND + 1)]


def score_digests(attempts: ibis.Table, scores: Scores) -> dict[int, str]:
    """By `day` of the attempts: changes whenever a score of one of them or of their requests does; days without scores are missing.

    Sums of two hashes of what is joined, so that no row leaves the engine and order does not matter.
    """
    by_request, by_attempt = scores
    rows = attempts.select("attempt_id", "request_id", "day")
    by_request, by_attempt = keyed_by(by_request, "request"), keyed_by(by_attempt, "attempt")
    rows = rows.left_join(by_request, rows.request_id == by_request.scored_request_id)
    rows = rows.left_join(by_attempt, rows.attempt_id == by_attempt.scored_attempt_id)
    rows = rows.filter(rows.scored_request_id.notnull() | rows.scored_attempt_id.notnull())
    found = [rows[f"{what}_by_{whose}"].cast("string").fill_null("") for whose in ("request", "attempt") for what in NEWEST]
    text = ibis.literal("|").join([rows.attempt_id, *found])
    summed = rows.group_by("day").agg(
        n=rows.count(), **{f"sum_{salt}": (text + salt).hash().cast("decimal(38, 0)").sum().cast("string") for salt in "ab"}
    )
    return {row["day"]: f"{row['n']}:{row['sum_a']}:{row['sum_b']}" for row in summed.to_pyarrow().to_pylist()}
