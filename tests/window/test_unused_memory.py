"""Before DuckDB takes what it may hold, the system has back what this process no longer uses."""

from __future__ import annotations

import ctypes
import os
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from routing_pipeline.window.engine import held_rows, open_engine

BLOCK, BLOCKS = 100_000, 3_000
"""Smaller than what the C library hands back by itself, 300 MB in all."""

if not Path("/proc/self/statm").exists() or not hasattr(ctypes.CDLL(None), "malloc_trim"):
    pytest.skip("neither Linux's account of memory nor glibc's way to hand it back", allow_module_level=True)


def resident_mb() -> float:
    return int(Path("/proc/self/statm").read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE") / 1e6


def used_and_freed() -> bytearray:
    """Blocks that are freed again, all but the last: what lies above them keeps the C library from handing them back."""
    return [bytearray(BLOCK) for _ in range(BLOCKS)][-1]


def test_rows_are_held_after_what_is_used_no_more_was_handed_back(tmp_path: Path) -> None:
    pq.write_table(pa.table({"number": [1, 2, 3]}), tmp_path / "numbers.parquet")
    with open_engine("duckdb") as engine:
        numbers = engine.read_parquet([tmp_path / "numbers.parquet"])
        last = used_and_freed()
        before_mb = resident_mb()
        with held_rows(numbers.filter(numbers.number > 1)) as held:
            assert resident_mb() < before_mb - 0.8 * BLOCK * (BLOCKS - 1) / 1e6
            assert held.count().execute() == len(last) // BLOCK * 2
