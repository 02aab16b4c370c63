"""Logs in a real store behind a network that fails: the totals are those of a quiet day, or the run says why it ends."""

from __future__ import annotations

import gzip
import json
from pathlib import Path
from typing import Any

import boto3
import duckdb
import pytest
import s3_faults
import s3_server

from routing_pipeline.errors import ServiceUnavailableError
from routing_pipeline.ingest.ingestion import IngestResult, ingest_logs
from routing_pipeline.lake.table import Lake
from routing_pipeline.storage.home import Home

NOW_S = 1_795_500_000.0
OBJECTS = 60


def record(number: int, **changes: Any) -> bytes:
    start = 1_795_400_000.0 + number
    fields = {"id": f"r{number}", "litellm_call_id": f"c{number}", "startTime": start, "endTime": start + 1}
    return json.dumps(fields | {"status": "success", "model": "m", "response_cost": 0.01} | changes).encode()


def point_at(monkeypatch: pytest.MonkeyPatch, endpoint: str, attempts: int = 8) -> Any:
    for name, value in {
        "AWS_ENDPOINT_URL": endpoint,
        "AWS_ACCESS_KEY_ID": s3_server.OWNER[0],
        "AWS_SECRET_ACCESS_KEY": s3_server.OWNER[1],
        "AWS_DEFAULT_REGION": "us-east-1",
        "AWS_MAX_ATTEMPTS": str(attempts),
        "AWS_EC2_METADATA_DISABLED": "true",
    }.items():
        monkeypatch.setenv(name, value)
    return boto3.session.Session().client("s3")


@pytest.fixture(scope="module")
def bucket(swift_endpoint: str) -> str:
    """Small objects, each a record; some batches; duplicates and broken lines among them."""
    with pytest.MonkeyPatch.context() as patch:
        s3 = point_at(patch, swift_endpoint)
    s3.create_bucket(Bucket="faulty")
    for number in range(OBJECTS):
        s3.put_object(Bucket="faulty", Key=f"logs/2026-11-22/time-{number:03d}_chatcmpl-{number}.json", Body=record(number))
    s3.put_object(Bucket="faulty", Key="logs/batch.jsonl", Body=b"\n".join([record(1), b"broken", *map(record, range(100, 400))]))
    s3.put_object(Bucket="faulty", Key="logs/batch 2%.jsonl.gz", Body=gzip.compress(b"\n".join(map(record, range(390, 600)))))
    return "faulty"


def totals(result: IngestResult) -> tuple[int, ...]:
    return result.objects_new, result.records, result.ingested, result.quarantined, result.duplicates


def rows(home: Home) -> list[tuple[Any, ...]]:
    with duckdb.connect() as connection:
        query = "SELECT * EXCLUDE (ingested_at, user_hash) FROM read_parquet($f) ORDER BY attempt_id, source_object"
        return connection.execute(query, {"f": list(Lake(home).attempt_files(0, NOW_S))}).fetchall()


def test_one_call_in_five_failing_changes_no_total_and_no_row(
    swift_endpoint: str, bucket: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    point_at(monkeypatch, swift_endpoint)
    quiet = ingest_logs(Home(tmp_path / "quiet"), f"s3://{bucket}/logs", now_s=NOW_S)
    assert totals(quiet) == (OBJECTS + 2, OBJECTS + 302 + 210, OBJECTS + 500, 1, 11)
    with s3_faults.in_front_of(swift_endpoint, share=0.2, kinds=("slow_down", "reset", "truncated")) as proxy:
        point_at(monkeypatch, proxy.endpoint)
        disturbed = ingest_logs(Home(tmp_path / "disturbed"), f"s3://{bucket}/logs", now_s=NOW_S)
    assert totals(disturbed) == totals(quiet)
    assert rows(Home(tmp_path / "disturbed")) == rows(Home(tmp_path / "quiet"))
    assert all(proxy.happened[kind] for kind in ("slow_down", "reset", "truncated")), proxy.happened


def test_calls_that_stall_for_twenty_seconds_are_waited_out_side_by_side(
    swift_endpoint: str, bucket: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with s3_faults.in_front_of(swift_endpoint, share=0.1, kinds=("stall",), stall_s=20, seed=3) as proxy:
        point_at(monkeypatch, proxy.endpoint)
        result = ingest_logs(Home(tmp_path / "home"), f"s3://{bucket}/logs", now_s=NOW_S)
    assert (result.ingested, result.quarantined, result.duplicates) == (OBJECTS + 500, 1, 11)
    assert proxy.happened["stall"] > 3


def test_a_store_that_goes_down_half_way_ends_the_run_and_the_next_one_completes_it(
    swift_endpoint: str, bucket: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    home = Home(tmp_path / "home")
    with s3_faults.in_front_of(swift_endpoint) as proxy:
        point_at(monkeypatch, proxy.endpoint, attempts=2)
        proxy.down_after = OBJECTS // 2
        with pytest.raises(ServiceUnavailableError, match="overloaded or down") as caught:
            ingest_logs(home, f"s3://{bucket}/logs", now_s=NOW_S)
        assert "AKIA" not in str(caught.value)
        assert s3_server.OWNER[1] not in str(caught.value)
        proxy.down_after = None
        result = ingest_logs(home, f"s3://{bucket}/logs", now_s=NOW_S)
    assert Lake(home).totals().ingested == OBJECTS + 500
    assert result.objects_new + result.objects_skipped == OBJECTS + 2


def test_a_stale_listing_delays_and_neither_loses_nor_doubles(swift_endpoint: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    direct = point_at(monkeypatch, swift_endpoint)
    direct.create_bucket(Bucket="stale")
    for number in range(4):
        direct.put_object(Bucket="stale", Key=f"{number}.json", Body=record(number))
    home = Home(tmp_path / "home")
    with s3_faults.in_front_of(swift_endpoint) as proxy:
        s3 = point_at(monkeypatch, proxy.endpoint)
        proxy.stale = True
        assert len(list(s3.list_objects_v2(Bucket="stale", Prefix="")["Contents"])) == 4
        # What the listing does not know of: one object more, one fewer, one overwritten.
        direct.put_object(Bucket="stale", Key="4.json", Body=record(4))
        direct.delete_object(Bucket="stale", Key="0.json")
        direct.put_object(Bucket="stale", Key="1.json", Body=record(1) + b"\n" + record(10))
        first = ingest_logs(home, "s3://stale", now_s=NOW_S)
        assert (first.ingested, first.quarantined) == (4, 0)
        proxy.stale = False
        second = ingest_logs(home, "s3://stale", now_s=NOW_S)
    assert (second.objects_new, second.ingested, second.duplicates) == (1, 1, 0)
    assert [row[0].split("/")[0] for row in rows(home)] == ["c1", "c10", "c2", "c3", "c4"]
