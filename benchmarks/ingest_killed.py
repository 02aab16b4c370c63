"""kill -9 at random moments over an ingestion; what is left at the end, against a run that nobody disturbed.

Writes lines with duplicates and garbage into a temporary folder and reads them into a home once, undisturbed. Then reads them
into other homes, each of which already holds earlier versions of a third of the objects, in processes that are killed at random
moments and started again, until the asked number of kills is reached and every home is complete. Compares rows by checksum,
ledger with lake, and looks for files that nothing refers to. Ends with an error when anything differs.

    python benchmarks/ingest_killed.py [--lines 500000] [--kills 100] [--seed 1]
"""

from __future__ import annotations

import argparse
import json
import os
import random
import shutil
import signal
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import duckdb
import pyarrow.parquet as pq
import pyiceberg.catalog.sql
import pyiceberg.table.update.snapshot  # noqa: F401 (before forking: importing takes longer than reading)

from routing_pipeline.ingest import ingestion
from routing_pipeline.ingest.ingestion import ingest_logs
from routing_pipeline.ingest.staging import stager
from routing_pipeline.lake import upkeep
from routing_pipeline.lake.table import Lake
from routing_pipeline.storage.home import Home

NOW_S = 1_795_500_000.0
FILES = 40
KILLS_PER_HOME = 20


def write_logs(folder: Path, lines: int, *, earlier: bool) -> None:
    """Lines over three days; 1 % repeat a line of the file before, 0.5 % are garbage. Earlier versions are a third as long."""
    folder.mkdir()
    per_file = lines // FILES
    for file in range(FILES):
        if earlier and file % 3:
            continue
        rng, out = random.Random(file), []  # noqa: S311 (made-up data)
        for number in range(per_file // 3 if earlier else per_file):
            draw, n = rng.random(), file * per_file + number
            if draw < 0.005:
                out.append(f'{{"id": "broken-{n}", "response_cost": ')
                continue
            n -= per_file if draw < 0.015 and file else 0
            start = 1_795_200_000.0 + n * (250_000 / lines)
            cost = 0.002 if earlier else 0.001 * (1 + n % 7)
            out.append(
                f'{{"id": "i{n}", "litellm_call_id": "c{n}", "startTime": {start:.6f}, "endTime": {start + 1:.6f}, "status": '
                f'"{"failure" if n % 50 == 0 else "success"}", "model": "m{n % 5}", "response_cost": {cost}, "prompt_tokens": {n % 900}, '
                f'"completion_tokens": 25, "end_user": "user-{n % 999}", "request_tags": ["task_type:code"]}}'
            )
        (folder / f"{file:03d}.jsonl").write_text("\n".join(out) + "\n", encoding="utf-8")


def state(home: Home) -> dict[str, Any]:
    """Everything that has to be the same, whichever way it came about: not which of two objects that hold an attempt gave it."""
    lake, totals = Lake(home), Lake(home).totals()
    with duckdb.connect() as connection:
        rows, distinct, checksum = connection.execute(
            """SELECT count(*), count(DISTINCT attempt_id), sum(hash(r::VARCHAR))::VARCHAR FROM
            (SELECT r, attempt_id FROM (SELECT * EXCLUDE (ingested_at, source_object) FROM read_parquet($f)) AS r)""",
            {"f": list(lake.all_files())},
        ).fetchone()
        by_object = dict(
            connection.execute("SELECT source_object, count(*) FROM read_parquet($f) GROUP BY 1", {"f": list(lake.all_files())}).fetchall()
        )
    ledger = {row["object"]: row["ingested"] for row in lake.side_table("ledger").to_pylist()}
    refused = sum(pq.read_metadata(file).num_rows for file in lake.quarantine_files())
    return {
        "totals": (totals.records, totals.ingested, totals.quarantined, totals.duplicates, totals.objects),
        "rows": rows,
        "distinct": distinct,
        "checksum": checksum,
        "ledger agrees": ledger == by_object,
        "quarantine agrees": refused == totals.quarantined,
    }


def strays(home: Home) -> list[Path]:
    """Files of the lake that no kept snapshot, no table version and no reader of yesterday's refers to."""
    lake = Lake(home)
    iceberg = lake.iceberg
    table = iceberg.opened()
    if table is None:
        return []
    names = upkeep.referenced_metadata(iceberg, table) | upkeep.referenced_data(iceberg, table)
    root = home.lake.absolute()
    held = {root / name for name in names}
    present = {*root.rglob("*.parquet"), *root.rglob("*.avro"), *root.rglob("*.metadata.json")} - set(root.glob("side/*"))
    left = [*home.scratch.glob("ingest-*"), *root.glob("intents/*")]
    return sorted(present - held) + left


def disturbed(logs: Path, home: Home, delay_s: float) -> bool:
    """Read in a process that is killed after `delay_s`; whether it was."""
    child = os.fork()
    if not child:
        try:
            # Fifty commits or so: moments in and around a commit are hit often.
            stager.BATCH_BYTES, ingestion.COMMIT_EVERY_S = 2 << 20, 0.0
            ingest_logs(home, str(logs), now_s=NOW_S)
            os._exit(0)
        except BaseException as error:  # noqa: BLE001
            print(repr(error), file=sys.stderr, flush=True)
            os._exit(1)
    deadline = time.monotonic() + delay_s
    while time.monotonic() < deadline:
        done, status = os.waitpid(child, os.WNOHANG)
        if done:
            assert os.waitstatus_to_exitcode(status) == 0
            return False
        time.sleep(0.001)
    os.kill(child, signal.SIGKILL)
    os.waitpid(child, 0)
    return True


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--lines", type=int, default=500_000)
    parser.add_argument("--kills", type=int, default=100)
    parser.add_argument("--seed", type=int, default=1)
    asked = parser.parse_args()
    rng = random.Random(asked.seed)  # noqa: S311 (when to kill)
    with tempfile.TemporaryDirectory() as temporary:
        root = Path(temporary)
        logs, earlier = root / "logs", root / "earlier"
        write_logs(logs, asked.lines, earlier=False)
        write_logs(earlier, asked.lines, earlier=True)
        undisturbed = Home(root / "undisturbed")
        began = time.monotonic()
        ingest_in_child(logs, undisturbed)
        took_s = time.monotonic() - began
        expected = state(undisturbed)
        print(f"undisturbed: {took_s:.1f} s, {json.dumps(expected)}", flush=True)
        kills, homes = 0, 0
        while kills < asked.kills:
            home = Home(root / f"home-{homes}").create()
            shutil.copyfile(undisturbed.root / "hash.key", home.root / "hash.key")
            held_before(earlier, logs, home)
            for number in range(KILLS_PER_HOME):
                # Every other one early: progress is slow then, and starting and clearing up are hit as well.
                longest_s = took_s / (10 if number % 2 else 1)
                if kills == asked.kills or not disturbed(logs, home, rng.uniform(0, longest_s)):
                    break
                kills += 1
            ingest_in_child(logs, home)
            found, left = state(home), strays(home)
            homes += 1
            print(
                f"home {homes}: {kills} kills so far; {'as undisturbed' if found == expected else found}; {len(left)} stray files",
                flush=True,
            )
            if found != expected or left:
                raise SystemExit(f"differs: {found}, expected {expected}; stray: {left[:5]}")
    print(f"{kills} kills over {homes} homes of {asked.lines:,} lines: every home ended as the undisturbed one, no stray file")


def held_before(earlier: Path, logs: Path, home: Home) -> None:
    """Let the home hold earlier versions of some objects, under the keys and the source that the new ones have."""
    aside = logs.with_name("aside")
    logs.rename(aside)
    earlier.rename(logs)
    try:
        ingest_in_child(logs, home)
    finally:
        logs.rename(earlier)
        aside.rename(logs)


def ingest_in_child(logs: Path, home: Home) -> None:
    """Undisturbed, with the settings that users have, in a process of its own."""
    child = os.fork()
    if not child:
        ingest_logs(home, str(logs), now_s=NOW_S)
        os._exit(0)
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0


if __name__ == "__main__":
    main()
