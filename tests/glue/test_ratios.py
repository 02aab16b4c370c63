"""The table of `make bench`: what was written can be read back, and what got worse is named."""

from __future__ import annotations

import importlib.util
import sys
from pathlib import Path
from types import ModuleType

import pytest


@pytest.fixture(scope="module")
def ratios() -> ModuleType:
    place = Path(__file__).parents[2] / "benchmarks" / "ratios.py"
    spec = importlib.util.spec_from_file_location("ratios", place)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules["ratios"] = module
    spec.loader.exec_module(module)
    return module


def test_ratios_are_medians_of_the_rounds_own_and_are_read_back_from_the_table(ratios: ModuleType) -> None:
    cases = [ratios.Case("bare", ((),), 100), ratios.Case("ingest", ((),), 100, "bare"), ratios.Case("other tool", ((),), 100, "bare")]
    bare = [ratios.Cost(wall, 1.0, 10.0, "") for wall in (1.0, 2.0, 4.0)]
    ours = [ratios.Cost(wall, 1.5, 10.0, "") for wall in (3.0, 5.0, 8.0)]
    found = {"bare": bare, "ingest": ours, "other tool": "not measured: not installed"}
    expected = {"ingest": (2.5, 1.5)}
    assert ratios.ratios_of(cases, found) == expected
    assert ratios.ratios_in(ratios.table_of(cases, found, expected)) == expected


def test_what_got_worse_by_more_than_is_allowed_is_named(ratios: ModuleType) -> None:
    before = {"ingest": (2.0, 1.5), "run, nothing new": (1.0, 1.0)}
    now = {"ingest": (2.4, 1.5), "run, nothing new": (1.1, 1.0), "new": (1.0, 1.0)}
    assert ratios.got_worse(before, now) == ["worse: ingest, wall time, 2.00 to 2.40 times its floor (+20%)"]


def test_sums_that_differ_beyond_rounding_are_not_the_same(ratios: ModuleType) -> None:
    one = [["gpt-4o", "team-0", 3, 1.5]]
    assert ratios._same(one, [["gpt-4o", "team-0", 3, 1.5 + 1e-12]])
    assert not ratios._same(one, [["gpt-4o", "team-0", 3, 1.6]])
    assert not ratios._same(one, [])


def test_the_slope_is_that_of_a_line_through_two_sizes(ratios: ModuleType) -> None:
    fewer, whole = [ratios.Cost(12.0, 10.0, 1.0, "")], [ratios.Cost(20.0, 14.0, 1.0, "")]
    said = "5.0 s of processor time for each million lines and 9.0 s for none; 10.0 s for each million lines and 10.0 s for none"
    assert ratios.slope_of(fewer, whole, 800_000) == said
