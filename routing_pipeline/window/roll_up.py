"""Sums that are made once for each unit of the lake, a data file or a day, and read from then on.

Belongs here: which units have their sums, making those that have not, step by step, what stands in until then, dropping what was
made anew or has left the lake. Does not belong here: what is summed, and of which unit (`hourly`).

    <folder>/<unit>-<version>.<table>.parquet

The version changes whenever the sums may. Several may use a folder at once: what two compute is the same, and each file appears
whole. Everything in it can be made again, and may be deleted at any time.
"""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import islice
from pathlib import Path

import ibis
import pyarrow as pa
import pyarrow.compute as pc

from routing_pipeline.storage.files import write_parquet_whole

ROWS_AT_ONCE = 131_072


@dataclass(frozen=True)
class Unit:
    """What is summed by itself."""

    name: str
    version: str

    @property
    def stem(self) -> str:
        """What its files are called."""
        return f"{self.name}-{self.version}"


@dataclass(frozen=True)
class RolledUp:
    """The files of some units."""

    files: Mapping[str, Mapping[str, Path]]
    """By table and name of the unit."""
    pending: int
    """Units without sums of their present version."""
    missing: int
    """Those of them without any."""


Steps = Callable[[Sequence[Unit], bool], Iterable[Sequence[Unit]]]
"""Units that are to be made, the last first, and whether any are there already, to those that are made at once."""
Sums = Callable[[Sequence[Unit]], Mapping[str, ibis.Table]]
"""Units to their tables, in which `unit` is a unit's place among them."""


@dataclass(frozen=True)
class RollUp:
    """One list of sums, kept by unit."""

    folder: Path
    tables: Mapping[str, pa.Schema]
    """What there is of each unit; the last is written last: where it is, all are."""
    steps: Steps
    is_one_version: bool
    """Whether a version takes the place of the one before, which stands in until then. Otherwise versions lie side by side."""

    def keep(self, units: Sequence[Unit], sums: Sums, at_most: int | None = None) -> RolledUp:
        """Find the sums of these units and make those that are missing, in so many steps at most."""
        present = self._present()
        if self.is_one_version:
            # Before others take their place, so that whoever reads what was named last still finds it.
            self._drop(_superseded(units, present))
        missing = [unit for unit in units if unit.stem not in present]
        made: set[str] = set()
        for step in islice(self.steps(missing[::-1], bool(present)), at_most):
            self._write(step, sums(step))
            made |= {unit.stem for unit in step}
        chosen = {unit.name: unit.stem for unit in units if unit.stem in present or unit.stem in made}
        if self.is_one_version:
            chosen = self._newest_of(present, {unit.name for unit in missing} - chosen.keys()) | chosen
        chosen = {unit.name: chosen[unit.name] for unit in units if unit.name in chosen}
        files = {table: {name: self._path(stem, table) for name, stem in chosen.items()} for table in self.tables}
        return RolledUp(files, len(missing) - len(made), len(units) - len(chosen))

    def prune(self, names: Collection[str]) -> int:
        """Drop the sums of all other units; gives how many."""
        gone = [stem for stem in self._present() if _unit_of(stem) not in names]
        self._drop(gone)
        return len(gone)

    def _present(self) -> set[str]:
        ending = f".{list(self.tables)[-1]}.parquet"
        return {path.name.removesuffix(ending) for path in self.folder.glob(f"[!.]*{ending}")}

    def _path(self, stem: str, table: str) -> Path:
        return self.folder / f"{stem}.{table}.parquet"

    def _drop(self, stems: Iterable[str]) -> None:
        for stem in stems:
            # The table that says that all are there goes first.
            for table in reversed(list(self.tables)):
                self._path(stem, table).unlink(missing_ok=True)

    def _newest_of(self, present: Iterable[str], names: Collection[str]) -> dict[str, str]:
        """What was made last of these units."""
        last, found = list(self.tables)[-1], []
        for stem in present:
            if _unit_of(stem) in names:
                # Somebody else may just have dropped it.
                with contextlib.suppress(FileNotFoundError):
                    found.append((self._path(stem, last).stat().st_mtime, stem))
        return {_unit_of(stem): stem for _, stem in sorted(found)}

    def _write(self, step: Sequence[Unit], sums: Mapping[str, ibis.Table]) -> None:
        self.folder.mkdir(parents=True, exist_ok=True)
        for table, schema in self.tables.items():
            for unit, rows in zip(step, _by_unit(sums[table], schema, len(step)), strict=True):
                write_parquet_whole(rows, self._path(unit.stem, table))


def _superseded(units: Iterable[Unit], present: Collection[str]) -> list[str]:
    now = {unit.name: unit.stem for unit in units if unit.stem in present}
    return [stem for stem in present if now.get(_unit_of(stem), stem) != stem]


def _unit_of(stem: str) -> str:
    return stem.rpartition("-")[0]


def _by_unit(sums: ibis.Table, schema: pa.Schema, units: int) -> Iterator[pa.Table]:
    """The sums of each unit, one after the other and in the order of their hours: of all together there may be too many to hold."""
    place, held = 0, [schema.empty_table()]
    ordered = sums.select("unit", *schema.names).order_by(["unit", "hour"])
    for batch in ordered.to_pyarrow_batches(chunk_size=ROWS_AT_ONCE):
        rows = pa.Table.from_batches([batch])
        for found in pc.unique(rows["unit"]).to_pylist():
            while place < found:
                yield pa.concat_tables(held)
                place, held = place + 1, [schema.empty_table()]
            held.append(rows.filter(pc.equal(rows["unit"], found)).select(schema.names).cast(schema))
    while place < units:
        yield pa.concat_tables(held)
        place, held = place + 1, [schema.empty_table()]
