"""Memory of looking for what is new in a bucket of many objects, all but a few of them known.

Lists names as LiteLLM writes them, one object per request, against a ledger that holds all but 1,000 of them, and reports
seconds and peak memory of a fresh process for each number of objects. Memory must not grow with them.

    python benchmarks/backlog.py [--objects 500000 5000000]
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from ingest import peak_gb

NEW = 1_000
TARGET_GB = 1.0


class Bucket:
    """A source of so many objects, that holds none of their names."""

    uri = "s3://bucket/logs"

    def __init__(self, count: int) -> None:
        self.count = count

    def list_objects(self) -> Iterator[Any]:
        from routing_pipeline.ingest.objects import StoredObject

        for number in range(self.count):
            yield StoredObject(
                f"logs/2026-11-{1 + number % 28:02d}/time-{number:012d}_chatcmpl-{number:024x}.json", f"{number:032x}", 12_000
            )


def _remember(home: Path, count: int) -> None:
    """A ledger of so many objects, written by the engine."""
    import duckdb

    from routing_pipeline.lake.table import Lake
    from routing_pipeline.storage.home import Home

    opened = Home(home)
    opened.create()
    with opened.writing(), duckdb.connect() as connection:
        lake = Lake(opened)
        lake.commit()
        ledger = lake.side_added(
            connection,
            "ledger",
            f"""SELECT format('logs/2026-11-{{:02d}}/time-{{:012d}}_chatcmpl-{{:024x}}.json', 1 + n % 28, n, n) AS object,
            '{Bucket.uri}' AS source, format('{{:032x}}', n) AS etag, 12000::BIGINT AS size_bytes, 'litellm' AS format, 1::BIGINT AS records,
            1::BIGINT AS ingested, 0::BIGINT AS quarantined, 0::BIGINT AS duplicates, TIMESTAMP '2026-11-20' AS committed_at
            FROM range({count}) AS r(n)""",  # noqa: S608 (our own SQL)
            {},
            [],
        )
        lake.commit(rewritten={"ledger": ledger})


def _child(home: Path, count: int) -> None:
    from routing_pipeline.ingest.backlog import open_backlog
    from routing_pipeline.lake.table import Lake
    from routing_pipeline.storage.home import Home

    began = time.monotonic()
    source: Any = Bucket(count)
    with open_backlog(Lake(Home(home)), "ledger", source) as backlog:
        assert (backlog.listed, backlog.new) == (count, NEW), (backlog.listed, backlog.new)
        assert sum(1 for _ in backlog.objects()) == NEW
    print(json.dumps({"seconds": time.monotonic() - began, "peak_gb": peak_gb()}))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--objects", type=int, nargs="+", default=[500_000, 5_000_000])
    parser.add_argument("--child", type=Path, help=argparse.SUPPRESS)
    asked = parser.parse_args()
    if asked.child:
        _child(asked.child, asked.objects[0])
        return
    for count in asked.objects:
        with tempfile.TemporaryDirectory() as folder:
            _remember(Path(folder) / "home", count - NEW)
            command = [sys.executable, __file__, "--child", str(Path(folder) / "home"), "--objects", str(count)]
            done = subprocess.run(command, check=True, stdout=subprocess.PIPE, text=True)
        figures = json.loads(done.stdout.splitlines()[-1])
        print(f"{count:>10,} objects  {figures['seconds']:6.1f} s  peak {figures['peak_gb']:.2f} GB (target {TARGET_GB} GB)", flush=True)


if __name__ == "__main__":
    main()
