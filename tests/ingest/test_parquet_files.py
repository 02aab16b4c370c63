"""Numbers come out of Parquet as they went in, whatever their type there."""

from __future__ import annotations

from decimal import Decimal, localcontext
from pathlib import Path
from typing import Any

import duckdb
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from routing_pipeline.ingest.objects import open_source
from routing_pipeline.ingest.parquet_files import readable
from routing_pipeline.ingest.staging import stager
from tests.ingest.reading import read_logs

COSTS = ("0.00042", "12.5", "0", None)


def decimals(values: tuple[str | None, ...], precision: int, scale: int) -> pa.Array:
    kind = pa.decimal128(precision, scale) if precision <= 38 else pa.decimal256(precision, scale)
    with localcontext() as context:
        context.prec = 90
        given = [None if value is None else Decimal(value).quantize(Decimal(1).scaleb(-scale)) for value in values]
    return pa.array(given, kind)


def table(cost: pa.Array, **columns: Any) -> pa.Table:
    count = len(cost)
    return pa.table(
        {
            "request_id": [f"r{number}" for number in range(count)],
            "startTime": ["2026-11-23 02:13:20"] * count,
            "endTime": ["2026-11-23 02:13:22"] * count,
            "model": ["gpt-4o"] * count,
            "status": ["success"] * count,
            "spend": cost,
            **columns,
        }
    )


@pytest.mark.parametrize(
    ("precision", "scale"),
    [(9, 5), (18, 6), (38, 20), (39, 10), (40, 20), (45, 20), (50, 20), (57, 20), (58, 30), (60, 20), (66, 20), (76, 30)],
)
def test_a_cost_is_the_same_for_every_width_of_decimal(precision: int, scale: int, tmp_path: Path) -> None:
    pq.write_table(table(decimals(COSTS, precision, scale), metadata=['{"cost_breakdown": {}}'] * 4), tmp_path / "a.parquet")
    found = read_logs(tmp_path / "a.parquet", tmp_path / "home")
    assert found.refused == []
    assert found.column("cost_usd") == [0.00042, 12.5, 0.0, None]


def test_a_negative_cost_in_a_wide_decimal_is_refused_as_such_and_so_are_tokens_below_0(tmp_path: Path) -> None:
    tokens = decimals(("100", "-7", "5"), 76, 10)
    pq.write_table(table(decimals(("0.5", "1", "-0.00042"), 60, 20), prompt_tokens=tokens), tmp_path / "a.parquet")
    found = read_logs(tmp_path / "a.parquet", tmp_path / "home")
    assert (found.column("cost_usd"), found.column("prompt_tokens")) == ([0.5], [100])
    assert found.refused == [(2, "prompt_tokens is negative"), (3, "spend is negative")]


def test_wide_decimals_are_found_at_any_depth_and_columns_that_nobody_reads_do_not_matter(tmp_path: Path) -> None:
    wide = decimals(("0.00027", "-3.25"), 60, 20)
    columns = {
        "struct": pa.StructArray.from_arrays([wide, pa.array([1, 2])], ["d", "n"]),
        "list": pa.ListArray.from_arrays([0, 1, 2], wide),
        "large": pa.LargeListArray.from_arrays([0, 1, 2], wide),
        "map": pa.MapArray.from_arrays([0, 1, 2], ["k", "l"], wide),
        "deep": pa.StructArray.from_arrays([pa.ListArray.from_arrays([0, 1, 2], wide)], ["x"]),
        "narrow": decimals(("0.00027", "-3.25"), 38, 20),
    }
    pq.write_table(pa.table({**columns, "unread": wide}), tmp_path / "a.parquet")
    assert readable(tmp_path / "a.parquet", {"narrow"}, tmp_path / "b.parquet") == tmp_path / "a.parquet"
    assert not (tmp_path / "b.parquet").exists()
    for name in columns:
        written = readable(tmp_path / "a.parquet", {name}, tmp_path / f"{name}.parquet")
        text = duckdb.read_parquet(str(written)).project(f'to_json("{name}")::VARCHAR').fetchall()
        assert "0.00027" in text[0][0], name
        assert "-3.25" in text[1][0], name


def test_metadata_with_a_wide_decimal_in_it_is_read_right(tmp_path: Path) -> None:
    usage = pa.StructArray.from_arrays([decimals(("50", "60"), 60, 20)], ["cached_tokens"])
    details = pa.StructArray.from_arrays([usage], ["prompt_tokens_details"])
    metadata = pa.StructArray.from_arrays([details], ["usage_object"])
    pq.write_table(table(decimals(("0.5", "1"), 20, 5), metadata=metadata, prompt_tokens=[100, 100]), tmp_path / "a.parquet")
    assert read_logs(tmp_path / "a.parquet", tmp_path / "home").column("cached_tokens") == [50, 60]


def test_bytes_that_a_writer_does_not_call_text_are_text(tmp_path: Path) -> None:
    metadata = pa.array([b'{"usage_object": {"prompt_tokens_details": {"cached_tokens": 50}}}', b"\xff"], pa.binary())
    pq.write_table(table(decimals(("0.5", "1"), 20, 5), metadata=metadata, prompt_tokens=[100, 100]), tmp_path / "a.parquet")
    assert read_logs(tmp_path / "a.parquet", tmp_path / "home").column("cached_tokens") == [50, None]


def test_a_batch_of_parquet_ends_by_its_records_and_not_by_the_little_that_they_are_packed_into(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(stager, "BATCH_BYTES", 10 * stager.RECORD_BYTES)
    monkeypatch.setattr(stager, "IDLE_BATCH_BYTES", 10 * stager.RECORD_BYTES)
    logs = tmp_path / "logs"
    logs.mkdir()
    for number in range(6):
        pq.write_table(table(pa.array([0.1, 0.2, 0.3, 0.4])), logs / f"{number}.parquet")
    source = open_source(str(logs))
    batches = stager.Stager(source, tmp_path, None).batches(list(enumerate(source.list_objects())))
    assert [len(batch.files) for batch in batches if batch.files] == [3, 3]
