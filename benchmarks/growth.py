"""How time and memory grow with rows: canonical Parquet of 1, 5 and 20 million requests, read and analysed.

Each size is made by DuckDB in objects of OBJECT_ROWS rows: five models whose price and speed differ, six tasks, eight teams, quality
that rests on model and task, a week. Then `ingest` and `analyze` run, each a command in a process of its own, and everything after
ingestion is held against reading every column of the lake once. The slope is the exponent of wall time between the first and the
last size: 1 means that twice the rows take twice as long.

    python benchmarks/growth.py [--rows 1000000 5000000 20000000] [--folder DIR] [--engine duckdb]
"""

from __future__ import annotations

import argparse
import math
import shutil
import statistics
import sys
import tempfile
from pathlib import Path

from ratios import Cost, cost_of

OBJECT_ROWS = 250_000
SCANS = 3
TARGET_SCANS, TARGET_SLOPE, TARGET_PEAK_GB = 45, 1.05, 2.0

_ROWS = """
COPY (
    WITH drawn AS (
        SELECT range AS n, hash(range) % 5 AS m, hash(range * 7 + 1) % 6 AS t, hash(range * 13 + 5) % 8 AS team,
            (hash(range * 31 + 3) % 1000000) / 1e6 AS u, (hash(range * 37 + 11) % 1000000) / 1e6 AS v
        FROM range({first}, {last})
    )
    SELECT printf('a-%d', n) AS attempt_id, printf('r-%d', n) AS request_id,
        TIMESTAMP '2026-11-16 00:00:00' + to_microseconds(CAST(n * (604800e6 / {rows}) AS BIGINT)) AS started_at,
        printf('model-%d', m) AS model, printf('provider-%d', m % 3) AS provider, printf('task-%d', t) AS task_type,
        round(u, 3) AS complexity, 100 + CAST(3000 * v AS BIGINT) AS prompt_tokens, 20 + CAST(400 * u AS BIGINT) AS completion_tokens,
        (0.0002 + 0.0004 * m) * (1 + v) AS cost_usd, 300 + 250 * m + 900 * u AS latency_ms, 5 + 10 * v AS routing_latency_ms,
        CASE WHEN u < 0.02 THEN 'failure' ELSE 'success' END AS status, CASE WHEN u < 0.02 THEN 'timeout' END AS error_type,
        CASE WHEN u >= 0.02 THEN least(1.0, greatest(0.0, 0.7 + 0.03 * m - 0.02 * t + 0.2 * (v - 0.5))) END AS quality_score,
        printf('team-%d', team) AS team, printf('user-%d', hash(n * 3) % 5000) AS user_hash, 'chat' AS operation,
        printf('rule-%d', t) AS routing_rule_id
    FROM drawn
) TO '{file}' (FORMAT parquet, COMPRESSION zstd)
"""


def write_rows(folder: Path, rows: int) -> None:
    """Objects of OBJECT_ROWS rows each, over one week."""
    import duckdb

    folder.mkdir(parents=True)
    with duckdb.connect(config={"memory_limit": "1GB"}) as database:
        for number, first in enumerate(range(0, rows, OBJECT_ROWS)):
            file = folder / f"rows-{number:05d}.parquet"
            database.execute(_ROWS.format(first=first, last=min(first + OBJECT_ROWS, rows), rows=rows, file=file))


def measured(folder: Path, rows: int, engine: str) -> tuple[Cost, Cost, float]:
    """Cost of ingestion and of everything after it, and seconds of one scan of the lake."""
    place = folder / str(rows)
    # In a process of its own: what a process has held, Linux counts as its children's peak as well.
    cost_of((sys.executable, __file__, "--make", str(place / "logs"), "--rows", str(rows)), folder)
    ours, home = (sys.executable, "-m", "routing_pipeline"), ("--home", str(place / "home"))
    ingest = cost_of((*ours, "ingest", "--logs", str(place / "logs"), *home), folder)
    scan = (sys.executable, str(Path(__file__).with_name("ratios.py")), "--bare-scan", str(place / "home"))
    scan_s = statistics.median(cost_of(scan, folder).wall_s for _ in range(SCANS))
    analyze = cost_of((*ours, "analyze", "--engine", engine, "--out", str(place / "report"), *home), folder)
    shutil.rmtree(place)
    return ingest, analyze, scan_s


def main() -> None:
    """Print a line for each size, then slopes."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rows", type=int, nargs="+", default=[1_000_000, 5_000_000, 20_000_000])
    parser.add_argument("--folder", type=Path, help="where there is room; unless set, the system's temporary folder")
    parser.add_argument("--engine", default="duckdb")
    parser.add_argument("--make", type=Path, help=argparse.SUPPRESS)
    asked = parser.parse_args()
    if asked.make:
        write_rows(asked.make, asked.rows[0])
        return
    found = []
    with tempfile.TemporaryDirectory(dir=asked.folder) as name:
        for rows in asked.rows:
            ingest, analyze, scan_s = measured(Path(name), rows, asked.engine)
            found.append((rows, ingest, analyze))
            print(
                f"{rows:>12,} rows: ingest {ingest.wall_s:7.1f} s ({ingest.processor_s:.1f} s of the processor, {ingest.peak_mb:,.0f} MB), "
                f"after it {analyze.wall_s:7.1f} s ({analyze.processor_s:.1f}, {analyze.peak_mb:,.0f} MB), "
                f"{analyze.wall_s / scan_s:.1f} bare scans of {scan_s:.2f} s (to reach: {TARGET_SCANS} and {TARGET_PEAK_GB:g} GB)",
                flush=True,
            )
    if len(found) > 1:
        (few, *first), (many, *last) = found[0], found[-1]
        for what, before, after in zip(("ingest", "after it"), first, last, strict=True):
            print(f"slope of wall time, {what}: {math.log(after.wall_s / before.wall_s, many / few):.2f} (to reach: {TARGET_SLOPE})")


if __name__ == "__main__":
    main()
