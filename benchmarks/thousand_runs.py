"""Dagster's UI over a history of many runs: how long the questions of its pages take with one run, and with a thousand.

The newest run of a home is put into a copy of its history again and again, an hour later each time, with everything that it left there: run, tags, events of
assets and checks. Then Dagster's own web server is asked, over HTTP, what the pages of runs, of an asset, of partitions and of lineage ask for.

Run: python benchmarks/thousand_runs.py [HOME] [RUNS]     HOME: of `make run`, demo/home by default
"""

from __future__ import annotations

import contextlib
import json
import os
import shutil
import socket
import sqlite3
import statistics
import subprocess
import sys
import tempfile
import time
import urllib.request
import uuid
from collections.abc import Iterator
from pathlib import Path
from typing import Any

ROOT = Path(__file__).parents[1]
REPEATS = 5
APART = 100_000
"""Between the ids of one copy's events and the next one's."""
HOUR_S = 3600.0
_EVENTS = "materializationEvents: assetMaterializations(limit: %d) { runId timestamp partition metadataEntries { label } }"
PAGES = {
    "runs, newest 30": "{ runsFeedOrError(limit: 30, view: RUNS) { ... on RunsFeedConnection { hasMore results { id runStatus creationTime tags { key value } } } } }",
    "runs, counted": "{ runsOrError(limit: 1) { ... on Runs { count } } }",
    "runs of a goal": '{ runsOrError(filter: { tags: [{ key: "goal", value: "balanced" }] }, limit: 30) { ... on Runs { results { id } } } }',
    "an asset, its newest 100": '{ assetOrError(assetKey: { path: ["optimization_report"] }) { ... on Asset { %s } } }' % (_EVENTS % 100),
    "days, as partitions": '{ assetNodeOrError(assetKey: { path: ["request_log_days"] }) { ... on AssetNode { partitionStats { numMaterialized numPartitions } '
    "assetPartitionStatuses { ... on TimePartitionStatuses { ranges { status startKey endKey } } } } } }",
    "checks of the scope": '{ assetNodeOrError(assetKey: { path: ["analysis_scope"] }) { ... on AssetNode { assetChecksOrError { ... on AssetChecks { checks { name '
    "executionForLatestMaterialization { status } } } } } } }",
    "lineage, all assets": "{ assetNodes { assetKey { path } staleStatus assetMaterializations(limit: 1) { runId timestamp } freshnessStatusInfo { freshnessStatus } } }",
}


def multiplied(history: Path, copies: int) -> None:
    """Put the newest run of a job into the history so many times more."""
    runs, index = (sqlite3.connect(history / name) for name in ("runs.db", "runs/index.db"))
    (run_id,) = runs.execute("SELECT run_id FROM runs WHERE pipeline_name = 'optimize_routing' ORDER BY id DESC LIMIT 1").fetchone()
    for number in range(1, copies + 1):
        copy, later = str(uuid.uuid4()), number * HOUR_S
        given = {"old": run_id, "new": copy, "later": later, "hours": f"+{number} hours", "apart": number * APART}
        for table, skipped, also in (
            (
                "runs",
                {"id"},
                {"start_time": "start_time + :later", "end_time": "end_time + :later", "run_body": "replace(run_body, :old, :new)"},
            ),
            ("run_tags", {"id"}, {}),
        ):
            _again(runs, table, skipped, {"run_id": ":new", **also}, given, ("create_timestamp", "update_timestamp"))
        _again(
            index,
            "event_logs",
            set(),
            {"id": "id + :apart", "run_id": ":new", "event": "replace(event, :old, :new)"},
            given,
            ("timestamp",),
        )
        checks = {"run_id": ":new", "evaluation_event": "replace(evaluation_event, :old, :new)"}
        checks |= {name: f"{name} + :apart" for name in ("evaluation_event_storage_id", "materialization_event_storage_id")}
        _again(index, "asset_check_executions", {"id"}, checks, given, ("evaluation_event_timestamp", "create_timestamp"))
    for each in (runs, index):
        each.commit()
        each.close()


def _again(
    connection: sqlite3.Connection, table: str, skipped: set[str], changed: dict[str, str], given: dict[str, Any], times: tuple[str, ...]
) -> None:
    columns = [name for _, name, *_ in connection.execute(f"PRAGMA table_info({table})") if name not in skipped]
    moved = {name: f"strftime('%Y-%m-%d %H:%M:%f', {name}, :hours)" for name in times}
    values = [changed.get(name) or moved.get(name) or f'"{name}"' for name in columns]
    used = {name: value for name, value in given.items() if name == "old" or any(f":{name}" in each for each in values)}
    names = ", ".join(f'"{name}"' for name in columns)
    connection.execute(f"INSERT INTO {table} ({names}) SELECT {', '.join(values)} FROM {table} WHERE run_id = :old", used)  # noqa: S608 (our own SQL)


@contextlib.contextmanager
def served(dagster_home: Path, home: Path) -> Iterator[str]:
    """Dagster's web server over a history."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    environment = os.environ | {"DAGSTER_HOME": str(dagster_home), "ROUTING_PIPELINE_HOME": str(home), "PYTHONWARNINGS": "ignore"}
    command = [sys.executable, "-m", "dagster_webserver", "-w", str(ROOT / "workspace.yaml"), "-h", "127.0.0.1", "-p", str(port)]
    with subprocess.Popen(command, cwd=ROOT, env=environment, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL) as server:
        try:
            address = f"http://127.0.0.1:{port}/graphql"
            for _ in range(600):
                with contextlib.suppress(OSError):
                    if "assetNodes" in asked(address, "{ assetNodes { id } }")["data"]:
                        break
                time.sleep(0.2)
            yield address
        finally:
            server.terminate()


def asked(address: str, query: str) -> dict[str, Any]:
    """The answer of the server; raises ValueError where it answers with an error."""
    request = urllib.request.Request(address, json.dumps({"query": query}).encode(), {"Content-Type": "application/json"})  # noqa: S310 (our own)
    with urllib.request.urlopen(request, timeout=120) as answer:  # noqa: S310 (our own)
        found: dict[str, Any] = json.load(answer)
    if found.get("errors"):
        raise ValueError(found["errors"][0]["message"])
    return found


def seconds(address: str) -> dict[str, float]:
    """Median seconds of each page's question."""
    found = {}
    for page, query in PAGES.items():
        asked(address, query)
        took = []
        for _ in range(REPEATS):
            began = time.perf_counter()
            asked(address, query)
            took.append(time.perf_counter() - began)
        found[page] = statistics.median(took)
    return found


def measured(home: Path, runs: int) -> dict[str, float]:
    """Medians over a copy of the home's history with so many runs more."""
    with tempfile.TemporaryDirectory() as folder:
        copy = Path(folder) / "dagster"
        shutil.copytree(home / "dagster", copy)
        multiplied(copy / "history", runs)
        with served(copy, home) as address:
            count = asked(address, PAGES["runs, counted"])["data"]["runsOrError"]["count"]
            sys.stdout.write(f"{count} runs, {sum(each.stat().st_size for each in copy.rglob('*')) / 1e6:.0f} MB\n")
            return seconds(address)


if __name__ == "__main__":
    at = Path(sys.argv[1] if len(sys.argv) > 1 else ROOT / "demo" / "home").absolute()
    wanted = int(sys.argv[2]) if len(sys.argv) > 2 else 1_000
    few, many = measured(at, 0), measured(at, wanted)
    for name in PAGES:
        sys.stdout.write(f"{name:28} {few[name]:6.3f} s {many[name]:6.3f} s\n")
