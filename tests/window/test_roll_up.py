"""Sums by unit: made once, found again, superseded by a new version, and gone with their unit."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path

import ibis
import pyarrow as pa
import pyarrow.parquet as pq

from routing_pipeline.window.roll_up import RollUp, Unit

SUMS = pa.schema([("hour", pa.int64()), ("requests", pa.float64())])
TABLES = {"first": SUMS, "last": SUMS}


class Counting:
    """A roll-up whose sums are the hours of the units; remembers which were made together."""

    def __init__(self, folder: Path, *, is_one_version: bool = True) -> None:
        self.steps: list[list[str]] = []
        self.roll_up = RollUp(folder, TABLES, in_pairs, is_one_version)

    def sums(self, step: Sequence[Unit]) -> dict[str, ibis.Table]:
        self.steps.append([unit.name for unit in step])
        rows = [
            {"unit": place, "hour": hour, "requests": float(unit.version)}
            for place, unit in enumerate(step)
            for hour in range(int(unit.name), 0, -1)
        ]
        table = ibis.memtable(pa.Table.from_pylist(rows, pa.schema([("unit", pa.int64()), *SUMS])))
        return {"first": table, "last": table.filter(table.hour > 1)}


def in_pairs(missing: Sequence[Unit], _: bool) -> Iterator[Sequence[Unit]]:
    for first in range(0, len(missing), 2):
        yield missing[first : first + 2]


def units(versions: Mapping[int, str]) -> list[Unit]:
    return [Unit(str(name), version) for name, version in versions.items()]


def names_in(folder: Path) -> set[str]:
    return {path.name for path in folder.iterdir()}


def test_each_unit_is_summed_once_the_last_named_first(tmp_path: Path) -> None:
    kept = Counting(tmp_path)
    found = kept.roll_up.keep(units({1: "1", 2: "1", 3: "1"}), kept.sums)
    assert kept.steps == [["3", "2"], ["1"]]
    assert (found.pending, found.missing, list(found.files["first"])) == (0, 0, ["1", "2", "3"])
    kept.roll_up.keep(units({1: "1", 2: "1", 3: "1", 4: "1"}), kept.sums)
    assert kept.steps[2:] == [["4"]]


def test_a_file_holds_the_rows_of_its_unit_in_the_order_of_their_hours_and_may_hold_none(tmp_path: Path) -> None:
    kept = Counting(tmp_path)
    found = kept.roll_up.keep(units({1: "5", 3: "7"}), kept.sums)
    read = {(table, name): pq.read_table(path).to_pydict() for table, of in found.files.items() for name, path in of.items()}
    assert read == {
        ("first", "1"): {"hour": [1], "requests": [5.0]},
        ("first", "3"): {"hour": [1, 2, 3], "requests": [7.0] * 3},
        ("last", "1"): {"hour": [], "requests": []},
        ("last", "3"): {"hour": [2, 3], "requests": [7.0] * 2},
    }


def test_what_there_was_no_time_for_is_pending_and_stands_in_an_earlier_version(tmp_path: Path) -> None:
    kept = Counting(tmp_path)
    kept.roll_up.keep(units({1: "1", 2: "1", 3: "1"}), kept.sums)
    found = kept.roll_up.keep(units({1: "2", 2: "2", 3: "2", 4: "2"}), kept.sums, at_most=1)
    assert (found.pending, found.missing) == (2, 0)
    assert {name: path.name for name, path in found.files["last"].items()} == {
        name: f"{name}-{version}.last.parquet" for name, version in (("1", "1"), ("2", "1"), ("3", "2"), ("4", "2"))
    }
    assert kept.roll_up.keep(units({5: "1"}), kept.sums, at_most=0).missing == 1


def test_an_earlier_version_lies_there_until_the_next_look_and_not_longer(tmp_path: Path) -> None:
    kept = Counting(tmp_path)
    before = kept.roll_up.keep(units({1: "1", 2: "1"}), kept.sums)
    kept.roll_up.keep(units({1: "1", 2: "2"}), kept.sums)
    assert all(path.exists() for of in before.files.values() for path in of.values())
    kept.roll_up.keep(units({1: "1", 2: "2"}), kept.sums)
    assert names_in(tmp_path) == {f"{stem}.{table}.parquet" for stem in ("1-1", "2-2") for table in TABLES}


def test_versions_that_lie_side_by_side_do_not_stand_in_for_each_other(tmp_path: Path) -> None:
    kept = Counting(tmp_path, is_one_version=False)
    kept.roll_up.keep(units({1: "1", 2: "1"}), kept.sums)
    assert kept.roll_up.keep(units({1: "2", 2: "2"}), kept.sums, at_most=0).missing == 2
    kept.roll_up.keep(units({1: "2", 2: "2"}), kept.sums)
    kept.roll_up.keep(units({1: "1", 2: "1"}), kept.sums)
    assert len(kept.steps) == 2


def test_units_that_left_the_lake_are_dropped_in_every_version(tmp_path: Path) -> None:
    kept = Counting(tmp_path, is_one_version=False)
    for version in ("1", "2"):
        kept.roll_up.keep(units({1: version, 2: version}), kept.sums)
    assert kept.roll_up.prune({"2"}) == 2
    assert {name.partition("-")[0] for name in names_in(tmp_path)} == {"2"}


def test_a_unit_whose_last_table_is_missing_is_made_again(tmp_path: Path) -> None:
    kept = Counting(tmp_path)
    found = kept.roll_up.keep(units({2: "1"}), kept.sums)
    found.files["last"]["2"].unlink()
    assert kept.roll_up.keep(units({2: "1"}), kept.sums).files == found.files
    assert found.files["last"]["2"].exists()
    assert kept.steps == [["2"], ["2"]]
