"""What a command finds ahead beside its run: the same that whoever needs it would find, and nothing where that would be in the way."""

from __future__ import annotations

from datetime import datetime
from pathlib import Path

import pyarrow as pa

from routing_pipeline import beside
from routing_pipeline.operations import ahead
from routing_pipeline.parameters import Parameters
from routing_pipeline.window.hourly import sums_folder
from tests.lakes import lake_of

ATTEMPTS = pa.Table.from_pylist(
    [
        {
            "attempt_id": str(number),
            "request_id": str(number),
            "started_at": datetime(2026, 5, 4, number),
            "model": "small",
            "status": "success",
            "cost_usd": 0.01,
        }
        for number in range(3)
    ]
)


def test_sums_by_hour_are_made_beside_the_run_and_lie_where_they_are_looked_for(tmp_path: Path, of_a_command: None) -> None:
    lake = lake_of(tmp_path, ATTEMPTS)
    with beside.second_process():
        assert ahead.begin_sums(lake.home, "", Parameters(), lake.row_count())
        beside.settle(ahead.SUMS)
    assert list(sums_folder(lake.home).rglob("*.parquet"))


def test_a_lake_that_keeps_all_cores_busy_is_summed_up_by_who_asks(tmp_path: Path, of_a_command: None) -> None:
    lake = lake_of(tmp_path, ATTEMPTS)
    with beside.second_process():
        assert not ahead.begin_sums(lake.home, "", Parameters(), ahead.MOST_ATTEMPTS + 1)


def test_without_a_second_process_sums_are_made_by_who_asks(tmp_path: Path) -> None:
    lake = lake_of(tmp_path, ATTEMPTS)
    assert not ahead.begin_sums(lake.home, "", Parameters(), lake.row_count())
