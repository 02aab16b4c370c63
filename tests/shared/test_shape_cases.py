"""Logs of which records were lost or misread once: what each must read as."""

from __future__ import annotations

from pathlib import Path

import duckdb
import pytest

from routing_pipeline.ingest.ingestion import ingest_logs
from routing_pipeline.lake.table import Lake
from routing_pipeline.storage.home import Home

CASES = Path(__file__).parents[2] / ".." / "shared" / "cases"
NOW_S = 1_796_500_000.0

pytestmark = pytest.mark.skipif(not CASES.is_dir(), reason="the cases are not beside the repository")


@pytest.mark.parametrize(
    ("case", "records", "cost_usd"),
    [("firehose-concatenated", 50, 0.05), ("openinference-silent", 1, 0.00197), ("parquet-decimal256", 3, 3 * 0.00027)],
)
def test_every_record_of_the_case_is_read_at_its_cost(case: str, records: int, cost_usd: float, tmp_path: Path) -> None:
    home = Home(tmp_path / "home")
    result = ingest_logs(home, str(CASES / case / "logs"), now_s=NOW_S)
    assert (result.records, result.ingested, result.quarantined) == (records, records, 0)
    files = list(Lake(home).attempt_files(0, NOW_S))
    with duckdb.connect() as connection:
        (total,) = connection.execute("SELECT sum(cost_usd) FROM read_parquet($files)", {"files": files}).fetchone() or (None,)
    assert total == pytest.approx(cost_usd)
