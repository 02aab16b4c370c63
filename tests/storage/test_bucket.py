"""What a bucket's storage does on this machine; what it asks of a server is tested against servers (tests/integration)."""

from __future__ import annotations

import os
import time
from pathlib import Path

import pytest

from routing_pipeline.errors import UnusableInputError
from routing_pipeline.storage.bucket import COPY_LIMITS, BucketStorage, warehouse_at


def test_copies_that_nobody_read_for_a_day_go_and_the_others_stay(tmp_path: Path) -> None:
    storage = BucketStorage("bucket", "lake", tmp_path)
    for name, idle_s in {"data/old": COPY_LIMITS.unused_s + 60.0, "data/read": 60.0, "side/old": 1e7}.items():
        storage.path(name).parent.mkdir(parents=True, exist_ok=True)
        storage.path(name).touch()
        os.utime(storage.path(name), (time.time() - idle_s,) * 2)
    assert storage.drop_copies() == 2
    assert [path.name for path in tmp_path.rglob("*") if path.is_file()] == ["read"]
    assert storage.fetched(["data/read"]) == [tmp_path / "bucket" / "lake" / "data" / "read"], "what lies there is not asked for"


def test_a_file_has_one_name_whether_by_its_address_or_by_its_copy(tmp_path: Path) -> None:
    storage = BucketStorage("bucket", "lake", tmp_path).below("side")
    assert storage.uri("a/b") == "s3://bucket/lake/side/a/b"
    assert storage.name_of(storage.uri("a/b")) == storage.name_of(str(storage.path("a/b"))) == "a/b"
    assert storage.name_of("s3://bucket/lake/other/a") is None


@pytest.mark.parametrize("uri", ["gs://bucket/lake", "s3://", "s3://bucket/../lake", "s3://bucket//lake", "s3://key:secret@bucket/lake"])
def test_an_address_that_is_no_warehouse_is_refused(uri: str, tmp_path: Path) -> None:
    with pytest.raises(UnusableInputError) as refused:
        warehouse_at(uri, tmp_path)
    assert "secret" not in str(refused.value)
