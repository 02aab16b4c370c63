"""One hundred looks of the alerting sensors at a lake of ten million requests: the longest, and whether memory grows.

The lake holds six weeks. After the sums of all data files are there, as ingestion leaves them, the four sensors look in turn
with an empty memory, so that every look reads and judges; each opens an engine of its own, as a tick of the daemon does.

With `--kinds many` teams, task types, models and rules are drawn one without the other, so that an hour holds nearly as many
combinations of them as requests: what is kept must not grow with those.

Run: python benchmarks/sensors.py [--requests 10000000] [--kinds few|many]
"""

from __future__ import annotations

import argparse
import statistics
import tempfile
import time
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import get_args

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from assets.resources import HomeResource
from routing_pipeline.alerts.sensor import Sensor, tick
from routing_pipeline.lake.side_tables import SIDE_COLUMNS, arrow_schema
from routing_pipeline.lake.table import Lake
from routing_pipeline.parameters import Parameters
from routing_pipeline.schema import REQUEST_LOG
from routing_pipeline.storage.home import Home

LOOKS, DAYS, OF_SCORES = 100, 42, 10
TO_REACH_S = 1.0


def lake_of(folder: Path, requests: int, *, many: bool) -> Home:
    """Six weeks of traffic; every tenth request is scored by feedback.

    20 teams with three of 8 task types each, a rule for each task type, and two of 12 models for each rule: 120 kinds an hour.
    Or `many`: any of 60 teams, 20 task types, 12 models and 30 rules, 432,000 kinds.
    """
    home, rng = Home(folder).create(), np.random.default_rng(1)
    lake, schema = Lake(home), arrow_schema(REQUEST_LOG)
    data, scores = lake.new_data_folder(), []
    today = datetime.now(UTC).replace(hour=0, minute=0, second=0, microsecond=0, tzinfo=None)
    for back in range(DAYS, 0, -1):
        day, n = today - timedelta(days=back), requests // DAYS
        started = np.sort(rng.integers(0, 86_400_000_000, n)).astype("timedelta64[us]") + np.datetime64(day, "us")
        team, model = rng.integers(0, 20, n), rng.random(n) < 0.8
        task = (team + rng.integers(0, 3, n)) % 8
        model, rule = np.where(model, task, task + 4), task
        if many:
            team, task, model, rule = (rng.integers(0, kinds, n) for kinds in (60, 20, 12, 30))
        ids = pa.array([f"{back}-{number}" for number in range(n)])
        columns = {
            "attempt_id": ids,
            "request_id": ids,
            "started_at": pa.array(started),
            "model": pa.array(np.array([f"model-{number}" for number in range(12)])[model]),
            "team": pa.array(np.array([f"team-{number}" for number in range(60)])[team]),
            "task_type": pa.array(np.array([f"task-{number}" for number in range(20)])[task]),
            "routing_rule_id": pa.array(np.array([f"r{number}" for number in range(30)])[rule]),
            "status": pa.array(np.where(rng.random(n) < 0.01, "failure", "success")),
            "latency_ms": pa.array(rng.lognormal(7, 0.5, n)),
            "cost_usd": pa.array(rng.lognormal(-5, 1, n)),
            "prompt_tokens": pa.array(rng.integers(10, 4_000, n)),
            "completion_tokens": pa.array(rng.integers(10, 800, n)),
            "ingested_at": pa.array(started),
        }
        table = pa.table([columns.get(field.name, pa.nulls(n, field.type)) for field in schema], names=schema.names).cast(schema)
        pq.write_table(table, data / f"{day:%Y-%m-%d}.parquet")
        scored = ids.take(pa.array(np.arange(0, n, OF_SCORES)))
        scores.append(pa.table({"request_id": scored, "value": rng.random(len(scored)), "scored_at": pa.array(started[::OF_SCORES])}))
    given, feedback = pa.concat_tables(scores), arrow_schema(SIDE_COLUMNS["feedback"])
    fixed = {"name": "quality", "source": "judge", "scale_min": 0.0, "scale_max": 1.0}
    rows = {
        field.name: given[field.name] if field.name in given.column_names else pa.array([fixed.get(field.name)] * len(given), field.type)
        for field in feedback
    }
    ledger = arrow_schema(SIDE_COLUMNS["ledger"])
    now = datetime.now(UTC).replace(tzinfo=None)
    read = pa.Table.from_pylist([{"source": "made up", "key": "all", "records": requests, "committed_at": now}], schema=ledger)
    lake.commit(data, ledger=read, feedback=pa.table(rows).cast(feedback))
    return home


def resident_mb() -> float:
    """What this process holds in memory now."""
    return int(Path("/proc/self/statm").read_text().split()[1]) * 4096 / 1e6


def measure(home: Home) -> bool:
    resource = HomeResource(root=str(home.root))
    begin = time.perf_counter()
    resource.sum_up()
    kept_mb = sum(path.stat().st_size for path in home.sums.rglob("*") if path.is_file()) / 1e6
    print(f"summing everything up, once and only what is new from then on: {time.perf_counter() - begin:.1f} s, {kept_mb:.0f} MB kept")
    seconds, busy, held, kinds = [], [], [], set()
    for number in range(LOOKS):
        sensor = get_args(Sensor)[number % 4]
        begin, worked = time.perf_counter(), time.process_time()
        with resource.reading() as engine:
            kinds.add(tick(sensor, home, engine, Parameters(), None, time.time()).kind)
        seconds.append(time.perf_counter() - begin)
        busy.append(time.process_time() - worked)
        held.append(resident_mb())
    # The first ten looks load what all others use.
    growth = statistics.mean(held[-10:]) - statistics.mean(held[10:20])
    print(
        f"{LOOKS} looks ({', '.join(sorted(kinds))}): median {statistics.median(seconds):.2f} s, longest {max(seconds):.2f} s "
        f"(to reach: {TO_REACH_S:.0f}), longest after the first four {max(seconds[4:]):.2f} s; of the processor median {statistics.median(busy):.2f} s, "
        f"longest after the first four {max(busy[4:]):.2f} s; memory {held[10]:.0f} MB, grew by {growth:.0f} MB"
    )
    return max(seconds) < TO_REACH_S and growth < 0.05 * held[10]


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--requests", type=int, default=10_000_000)
    parser.add_argument("--kinds", choices=("few", "many"), default="few")
    asked = parser.parse_args()
    with tempfile.TemporaryDirectory() as place:
        raise SystemExit(0 if measure(lake_of(Path(place) / "home", asked.requests, many=asked.kinds == "many")) else "not reached")
